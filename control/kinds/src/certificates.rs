//! The kinds of the group `certificates.k8s.io`.

use proto_kube::Resource;

use crate::Kind;

mod pem;
mod signing_request;
#[cfg(test)]
mod tests;

pub use signing_request::{request_as, stamp};

/// The kind of a resource of this group; `None` for one that its schema alone describes.
pub(crate) fn kind(resource: &Resource) -> Option<&'static dyn Kind> {
    (resource.kind == "CertificateSigningRequest").then_some(&signing_request::SigningRequest as &dyn Kind)
}
