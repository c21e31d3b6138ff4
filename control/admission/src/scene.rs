//! What a plug-in sees: the request, the cluster, and the time.

use std::sync::Arc;

use jiff::Timestamp;
use proto_kube::view::View;
use proto_kube::{GroupResource, Status, object};
use serde_json::Value;

use crate::{Operation, Request};

/// A request before the cluster as it is.
pub(crate) struct Scene<'a> {
    pub(crate) request: &'a Request<'a>,
    pub(crate) view: &'a dyn View,
    pub(crate) now: Timestamp,
    /// What refusals call the object.
    title: String,
}

/// A resource of the core group.
pub(crate) const fn core(resource: &str) -> GroupResource<'_> {
    GroupResource { group: "", resource }
}

impl<'a> Scene<'a> {
    pub(crate) fn new(request: &'a Request<'a>, object: &Value, view: &'a dyn View, now: Timestamp) -> Self {
        let named = [request.name, object::name(object), object::text(object, &["metadata", "generateName"])];
        let title = named.into_iter().find(|name| !name.is_empty()).unwrap_or("Unknown").to_owned();
        Self { request, view, now, title }
    }

    /// Whether it is about this resource and subresource.
    pub(crate) fn is(&self, group: &str, resource: &str, subresource: &str) -> bool {
        let Request { resource: asked, subresource: sub, .. } = self.request;
        asked.group == group && asked.plural == resource && *sub == subresource
    }

    /// Whether it is about pods themselves.
    pub(crate) fn is_pod(&self) -> bool {
        self.is("", "pods", "")
    }

    /// Whether something is created.
    pub(crate) fn creates(&self) -> bool {
        self.request.operation == Operation::Create
    }

    /// The 403 that refuses the request.
    pub(crate) fn forbidden(&self, why: impl AsRef<str>) -> Status {
        Status::forbidden(self.request.resource.group_resource(), &self.title, why.as_ref())
    }

    /// An object in the namespace of the request.
    pub(crate) fn get(&self, resource: &str, name: &str) -> Option<Arc<Value>> {
        self.view.get(core(resource), self.request.namespace, name)
    }
}

/// Several texts as upstream prints a list of errors: one as it is, more in brackets; each once.
pub(crate) fn join(texts: &[String]) -> Option<String> {
    let mut unique: Vec<&str> = Vec::new();
    for text in texts {
        if !unique.contains(&text.as_str()) {
            unique.push(text);
        }
    }
    match unique.as_slice() {
        [] => None,
        [one] => Some((*one).to_owned()),
        many => Some(format!("[{}]", many.join(", "))),
    }
}
