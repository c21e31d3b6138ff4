//! Who owns what: managed fields, and owner references that stand there twice.

use std::collections::HashSet;

use patch::apply::{Filter, Write};
use proto_kube::resource::{self, Resource};
use proto_kube::status::Result;
use proto_kube::{GroupVersion, Gvk, object, schema};
use serde_json::Value;

use super::call::Call;
use super::index;

/// What a write through a subresource can own: not what the subresource resets.
fn filter(resource: &Resource, subresource: &str) -> Filter {
    match subresource {
        "" if resource.plural == "certificatesigningrequests" => Filter::except(&["spec", "status"]),
        "" if resource.subresource("status").is_some() => Filter::except(&["status"]),
        "status" if resource.plural == "deployments" => Filter::except(&["spec", "metadata.labels"]),
        "status" | "approval" => Filter::except(&["spec"]),
        "ephemeralcontainers" => Filter::only(&["spec.ephemeralContainers"]),
        "resize" => Filter::only(&[
            "spec.containers.*.resources",
            "spec.containers.*.resizePolicy",
            "spec.initContainers.*.resources",
            "spec.initContainers.*.resizePolicy",
            "spec.resources",
        ]),
        _ => Filter::All,
    }
}

/// Gives an object in another version of its kind; `None` when there is no such version.
fn convert(kind: &Gvk, object: &Value, version: &GroupVersion) -> Option<Value> {
    let from = resource::of_kind(kind)?;
    let wanted =
        Gvk { group: version.group.clone(), version: version.version.clone(), kind: kind.kind.clone() };
    let to = resource::of_kind(&wanted).filter(|to| to.storage == from.storage)?;
    let mut object = object.clone();
    index::to_storage(from, &mut object);
    index::from_storage(to, &mut object);
    Some(object)
}

/// A write through a subresource as field management sees it. Objects are of `kind`.
pub(crate) struct Owner<'a> {
    /// The request.
    pub call: &'a Call<'a>,
    /// The kind of the objects: that of the request, or `Scale`.
    pub kind: &'a Gvk,
    /// As `status`; empty for the object itself.
    pub subresource: &'a str,
    /// Who writes.
    pub manager: &'a str,
}

impl Owner<'_> {
    fn with<T>(&self, act: impl FnOnce(&Write<'_>) -> T) -> T {
        let filter = filter(self.call.resource, self.subresource);
        let convert = |object: &Value, version: &GroupVersion| convert(self.kind, object, version);
        act(&Write {
            table: schema::table(),
            kind: self.kind,
            manager: self.manager,
            subresource: self.subresource,
            filter: &filter,
            convert: &convert,
            now: self.call.ctx.now,
        })
    }

    /// Records in `new` who owns what after a write that is no apply.
    #[must_use]
    pub(crate) fn record(&self, live: Option<&Value>, new: Value) -> Value {
        self.with(|write| write.update(live, new))
    }

    /// Applies a configuration to the live object.
    ///
    /// # Errors
    /// 409 when others own what it sets, 400 or 500 when it does not fit the schema.
    pub(crate) fn apply(&self, live: Option<&Value>, config: &Value, force: bool) -> Result<Value> {
        self.with(|write| write.apply(live, config, force)).map_err(Into::into)
    }
}

/// Drops owner references that are there already, and says so.
pub(crate) fn dedup(call: &Call<'_>, object: &mut Value) {
    let mut seen = HashSet::new();
    let references = object::items(object, &["metadata", "ownerReferences"]);
    let (kept, twice): (Vec<_>, Vec<_>) = references.partition(|reference| seen.insert(*reference));
    if twice.is_empty() {
        return;
    }
    let kept: Vec<Value> = kept.into_iter().cloned().collect();
    let uids: Vec<_> = twice.iter().map(|reference| object::text(reference, &["uid"])).collect();
    let uids = uids.join(", ");
    call.warn([format!(".metadata.ownerReferences contains duplicate entries; API server dedups owner references in 1.20+, and may reject such requests as early as 1.24; please fix your requests; duplicate UID(s) observed: {uids}")]);
    object::metadata(object).insert("ownerReferences".to_owned(), kept.into());
}
