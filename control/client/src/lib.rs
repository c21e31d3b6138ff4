//! A thin client of a Kubernetes API server: objects are JSON values, refusals are `Status`. It knows kubeconfigs,
//! client certificates and tokens, and speaks HTTP/2, so that all watches of a process share one connection.
#![forbid(unsafe_code)]

mod cache;
mod connection;
mod credentials;
mod discover;
mod kept;
mod kubeconfig;
mod reflector;
mod request;
mod tls;
mod watch;

pub use cache::{Cache, Event, Need};
pub use connection::{Bytes, Connection};
pub use credentials::Credentials;
pub use discover::{DiscoverError, discover};
pub use kubeconfig::{Config, KubeconfigError};
pub use reflector::{Change, Reflector};
pub use request::{Body, Client, ClientError, Local, Patch, Query};
pub use tls::trusting_anyone;
pub use watch::{Watch, WatchEvent};
