//! What each kind does beyond its schema: defaults, validation, strategy, columns. Everything here is a pure function of
//! decoded objects (`serde_json::Value`); the types that the schema promises are trusted, their presence is not.
//!
//! The order of a write is upstream's: decode, [`Kind::default`], mutating admission, [`meta::prepare_create`] or
//! [`meta::prepare_update`] (which call the kind's own), validation ([`create_errors`], [`update_errors`]), warnings.
#![forbid(unsafe_code)]

use jiff::Timestamp;
use proto_kube::field::Errors;
use proto_kube::{Resource, name};
use serde_json::Value;

pub mod check;
pub mod column;
pub mod deletion;
pub mod meta;
pub mod pod;
pub mod scale;

mod admissionregistration;
mod apiregistration;
mod apps;
mod autoscaling;
mod batch;
#[cfg(test)]
mod cases;
pub mod certificates;
mod coordination;
pub mod core;
mod discovery;
mod events;
mod networking;
mod node;
mod plain;
mod policy;
mod rbac;
mod resource;
mod scheduling;
mod storage;

pub use column::Column;
pub use deletion::Propagation;

/// What a kind does beyond its schema. Every method has a default that suits a kind with a `spec`, perhaps a `status`, and
/// no rules of its own. One value serves one resource in one version.
pub trait Kind: Sync {
    /// Sets the members that a client may leave out. Doing it twice changes nothing. Happens to each object that is
    /// decoded, before admission.
    fn default(&self, _object: &mut Value) {}

    /// Whether a name (or with `prefix`, a `generateName`) is one that objects of the kind can have: what is wrong.
    fn name(&self, text: &str, prefix: bool) -> Vec<String> {
        meta::maybe_prefix(text, prefix, name::subdomain)
    }

    /// The top-level members whose change makes a new generation; of a kind without generations, none.
    fn generation(&self) -> &'static [&'static str] {
        &[]
    }

    /// The status of a new object; `None` when the kind has none (what the client sent is dropped all the same).
    fn initial_status(&self) -> Option<Value> {
        None
    }

    /// Whether a new object keeps the status that the client sent: a node's agent makes its node with one.
    fn keeps_new_status(&self) -> bool {
        false
    }

    /// What a client of the resource is warned of with every request, as `v1 Endpoints is deprecated in v1.33+; …`.
    fn deprecation(&self) -> Option<&'static str> {
        None
    }

    /// Makes a new object what the server wants it to be: sets what clients must not. The status is already
    /// [`initial_status`](Self::initial_status).
    fn prepare_create(&self, _object: &mut Value) {}

    /// The same for an update of the object itself. The status is already the old one.
    fn prepare_update(&self, _new: &mut Value, _old: &Value) {}

    /// The same for an update through `status`: by default only the status changes.
    fn prepare_status(&self, new: &mut Value, old: &Value) {
        meta::only(new, old, &["status"]);
    }

    /// The same for an update through any subresource whose body is the object itself (`status`, `finalize`,
    /// `approval`, `ephemeralcontainers`, `resize`).
    fn prepare_subresource(&self, _subresource: &str, new: &mut Value, old: &Value) {
        self.prepare_status(new, old);
    }

    /// What is wrong with a new object, beyond its metadata.
    fn validate(&self, object: &Value) -> Errors {
        check::schema(object)
    }

    /// What is wrong with an update of the object itself, beyond its metadata. All of it: the caller does not call
    /// [`validate`](Self::validate) too.
    fn validate_update(&self, new: &Value, _old: &Value) -> Errors {
        self.validate(new)
    }

    /// The same for an update through `status`.
    fn validate_status(&self, new: &Value, _old: &Value) -> Errors {
        check::schema(new)
    }

    /// The same for an update through any subresource whose body is the object itself.
    fn validate_subresource(&self, _subresource: &str, new: &Value, old: &Value) -> Errors {
        self.validate_status(new, old)
    }

    /// What a client should know of an object that is accepted; `old` is there for an update.
    fn warnings(&self, _new: &Value, _old: Option<&Value>) -> Vec<String> {
        Vec::new()
    }

    /// The columns of a `Table`.
    fn columns(&self) -> &'static [Column] {
        column::PLAIN
    }

    /// The cells of an object's row, as many as there are columns.
    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        column::plain(object, now)
    }

    /// The conditions of an object's row (`Completed` for a pod that is done).
    fn row_conditions(&self, _object: &Value) -> Vec<Value> {
        Vec::new()
    }

    /// The names of the fields that a field selector may ask for, beside `metadata.name` and `metadata.namespace`.
    fn selectable(&self) -> &'static [&'static str] {
        &[]
    }

    /// The values of those fields, in the same order; what is missing is empty.
    fn fields(&self, _object: &Value) -> Vec<(&'static str, String)> {
        Vec::new()
    }

    /// How long a deletion waits for somebody to end the object, when it does at all; `asked` are the client's
    /// `gracePeriodSeconds`. Only pods have one.
    fn grace(&self, _object: &Value, _asked: Option<i64>) -> Option<i64> {
        None
    }

    /// Changes an object that begins to wait for its deletion (a namespace's phase).
    fn terminate(&self, _object: &mut Value) {}

    /// Whether something beside `metadata.finalizers` keeps an object that is being deleted.
    fn is_held(&self, _object: &Value) -> bool {
        false
    }

    /// What happens to dependents when a deletion does not say.
    fn default_propagation(&self) -> Propagation {
        Propagation::Background
    }

    /// Whether a `PUT` of a missing object creates it.
    fn creates_on_update(&self) -> bool {
        false
    }

    /// Whether an update may come without a resourceVersion.
    fn unconditional_update(&self) -> bool {
        true
    }

    /// The `autoscaling/v1 Scale` of an object, of a kind that has the subresource: see [`scale::of`].
    fn scale(&self, _object: &Value) -> Option<Value> {
        None
    }

    /// Turns an object of this version into the one that is stored.
    fn to_storage(&self, _object: &mut Value) {}

    /// Turns a stored object into one of this version.
    #[expect(clippy::wrong_self_convention, reason = "a kind is no value that is converted")]
    fn from_storage(&self, _object: &mut Value) {}
}

/// What the kind of a resource does; for one without code of its own, what its schema says.
#[must_use]
pub fn of(resource: &Resource) -> &'static dyn Kind {
    let kind = match resource.group {
        "" => core::kind(resource),
        "admissionregistration.k8s.io" => admissionregistration::kind(resource),
        "apiregistration.k8s.io" => apiregistration::kind(resource),
        "apps" => apps::kind(resource),
        "autoscaling" => autoscaling::kind(resource),
        "batch" => batch::kind(resource),
        "certificates.k8s.io" => certificates::kind(resource),
        "coordination.k8s.io" => coordination::kind(resource),
        "discovery.k8s.io" => discovery::kind(resource),
        "events.k8s.io" => events::kind(resource),
        "networking.k8s.io" => networking::kind(resource),
        "node.k8s.io" => node::kind(resource),
        "policy" => policy::kind(resource),
        "rbac.authorization.k8s.io" => rbac::kind(resource),
        "resource.k8s.io" => resource::kind(resource),
        "scheduling.k8s.io" => scheduling::kind(resource),
        "storage.k8s.io" => storage::kind(resource),
        _ => None,
    };
    kind.unwrap_or_else(|| plain::kind(resource))
}

/// All faults of a new object.
#[must_use]
pub fn create_errors(resource: &Resource, object: &Value) -> Errors {
    let mut errors = meta::validate(resource, object);
    errors.extend(of(resource).validate(object));
    errors
}

/// All faults of an update, of the object itself (an empty `subresource`) or through a subresource.
#[must_use]
pub fn update_errors(resource: &Resource, subresource: &str, new: &Value, old: &Value) -> Errors {
    let kind = of(resource);
    let mut errors = meta::validate_update(resource, new, old);
    errors.extend(match subresource {
        "" => kind.validate_update(new, old),
        subresource => kind.validate_subresource(subresource, new, old),
    });
    errors
}
