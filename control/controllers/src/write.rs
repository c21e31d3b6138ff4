//! Mutations in short.

use std::sync::Arc;

use proto_kube::{GroupResource, Status, object};
use serde_json::Value;

use crate::Mutation;
use crate::resources::served;

/// Replaces an object if it is still in the state that its `resourceVersion` tells.
pub(crate) fn update(of: GroupResource<'static>, object: Value) -> Mutation {
    Mutation::Update(served(of), None, object)
}

/// Replaces the status of an object if it is still in the state that its `resourceVersion` tells.
pub(crate) fn update_status(of: GroupResource<'static>, object: Value) -> Mutation {
    Mutation::Update(served(of), Some("status"), object)
}

/// A warning to people about an object.
pub(crate) fn warn(object: &Arc<Value>, reason: &'static str, message: String) -> Mutation {
    Mutation::Event(object.clone(), "Warning", reason, message)
}

/// Says to people what is normal.
pub(crate) fn tell(object: &Arc<Value>, reason: &'static str, message: String) -> Mutation {
    Mutation::Event(object.clone(), "Normal", reason, message)
}

/// Whether a refusal came because the namespace is being deleted: then there is nothing to be told or tried.
pub(crate) fn ends_with_namespace(refusal: &Status) -> bool {
    object::items(&refusal.details, &["causes"]).any(|cause| cause["reason"] == "NamespaceTerminating")
}
