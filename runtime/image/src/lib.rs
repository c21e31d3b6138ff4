//! Images: registry client, content store, unpacking, overlayfs snapshots.
//!
//! [`Store::pull`] and [`Store::load`] bring images in, [`Snapshots`] give containers their root file systems.
//! A mechanism: it knows nothing of the CRI and decides nothing for it. Calls that are not `async` block on the disk
//! for a short time.
#![forbid(unsafe_code)]

mod archive;
mod digest;
mod layer;
mod manifest;
mod platform;
mod progress;
mod pull;
mod reference;
mod registry;
mod snapshot;
mod store;
mod unpack;

pub use archive::LoadError;
pub use digest::{Digest, DigestError, Hasher};
pub use manifest::{ImageConfig, ManifestError};
pub use platform::Platform;
pub use progress::{Phase, Progress};
pub use pull::{PullError, PullErrorKind};
pub use reference::{DEFAULT_DOMAIN, Reference, ReferenceError};
pub use registry::{Credentials, Patience, Registries, RegistryError};
pub use snapshot::{Snapshot, Snapshots};
pub use store::{Image, Store, StoreError, Usage, disk_use};
pub use unpack::UnpackError;
