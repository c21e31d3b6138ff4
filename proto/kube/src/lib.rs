//! The Kubernetes API as data: the schema table, the served resources, `Status`, selectors, and the JSON, YAML and
//! protobuf forms of an object. An object on its way through a request is a `serde_json::Value`; at rest it is bytes.
#![forbid(unsafe_code)]

pub mod cron;
pub mod decode;
pub mod field;
#[doc(hidden)]
pub mod fuzz;
pub mod gvk;
pub mod name;
pub mod node;
pub mod object;
pub mod openapi;
pub mod pod;
pub mod quantity;
pub mod resource;
pub mod roles;
pub mod schema;
pub mod selector;
pub mod status;
pub mod user;
pub mod view;
pub mod wire;
pub mod zone;

pub use gvk::{GroupResource, GroupVersion, Gvk};
pub use resource::Resource;
pub use status::Status;
pub use user::User;
