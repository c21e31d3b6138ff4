//! The admission chain: what the cluster's own rules add to a write, and which writes they refuse. One file a plug-in,
//! in upstream's order. Webhooks and admission policies are data only: nothing here runs them, and whoever writes one is
//! warned of that.
#![forbid(unsafe_code)]

mod certificates;
mod csr;
mod declared_features;
mod default_class;
mod default_tolerations;
mod limit_ranger;
mod namespace_lifecycle;
mod node_restriction;
mod not_executed;
mod pod_resize;
mod pod_security;
mod pod_topology_labels;
mod priority;
mod request;
pub mod resource_quota;
mod resources;
mod runtime_class;
mod scene;
mod service_account;
mod storage;
mod taint_nodes;

pub use request::{Charge, Effects, Operation, Request};

use jiff::Timestamp;
use proto_kube::status::Result;
use proto_kube::view::View;
use serde_json::Value;

use scene::Scene;

/// What a plug-in does in each of the two passes, and on which operations.
struct Plugin {
    name: &'static str,
    on: &'static [Operation],
    admit: Option<Admit>,
    validate: Option<Validate>,
}

type Admit = fn(&Scene<'_>, &mut Value, &mut Effects) -> Result<()>;
type Validate = fn(&Scene<'_>, &Value, &mut Effects) -> Result<()>;

const CREATE: &[Operation] = &[Operation::Create];
const UPDATE: &[Operation] = &[Operation::Update];
const WRITE: &[Operation] = &[Operation::Create, Operation::Update];
const ALL: &[Operation] = &[Operation::Create, Operation::Update, Operation::Delete];

/// Upstream's order. The quota comes last: what another refuses must not be charged.
#[rustfmt::skip]
const CHAIN: &[Plugin] = &[
    Plugin { name: "NamespaceLifecycle", on: ALL, admit: Some(namespace_lifecycle::admit), validate: None },
    Plugin { name: "LimitRanger", on: WRITE, admit: Some(limit_ranger::admit), validate: Some(limit_ranger::validate) },
    Plugin { name: "ServiceAccount", on: WRITE, admit: Some(service_account::admit), validate: Some(service_account::validate) },
    Plugin { name: "NodeRestriction", on: ALL, admit: Some(node_restriction::admit), validate: None },
    Plugin { name: "TaintNodesByCondition", on: CREATE, admit: Some(taint_nodes::admit), validate: None },
    Plugin { name: "PodSecurity", on: WRITE, admit: None, validate: Some(pod_security::validate) },
    Plugin { name: "Priority", on: ALL, admit: Some(priority::admit), validate: Some(priority::validate) },
    Plugin { name: "DefaultTolerationSeconds", on: WRITE, admit: Some(default_tolerations::admit), validate: None },
    Plugin { name: "DefaultStorageClass", on: CREATE, admit: Some(default_class::admit_claim), validate: None },
    Plugin { name: "StorageObjectInUseProtection", on: CREATE, admit: Some(storage::protect), validate: None },
    Plugin { name: "PersistentVolumeClaimResize", on: UPDATE, admit: None, validate: Some(storage::validate_resize) },
    Plugin { name: "RuntimeClass", on: CREATE, admit: Some(runtime_class::admit), validate: Some(runtime_class::validate) },
    Plugin { name: "CertificateApproval", on: UPDATE, admit: None, validate: Some(certificates::validate_approval) },
    Plugin { name: "CertificateSigning", on: UPDATE, admit: None, validate: Some(certificates::validate_signing) },
    Plugin { name: "CertificateSubjectRestriction", on: CREATE, admit: None, validate: Some(certificates::validate_subject) },
    Plugin { name: "DefaultIngressClass", on: CREATE, admit: Some(default_class::admit_ingress), validate: None },
    Plugin { name: "PodTopologyLabels", on: CREATE, admit: Some(pod_topology_labels::admit), validate: None },
    Plugin { name: "NodeDeclaredFeatureValidator", on: UPDATE, admit: None, validate: Some(declared_features::validate) },
    Plugin { name: "PodResizeValidator", on: UPDATE, admit: None, validate: Some(pod_resize::validate) },
    Plugin { name: "NotExecuted", on: WRITE, admit: None, validate: Some(not_executed::validate) },
    Plugin { name: "ResourceQuota", on: WRITE, admit: None, validate: Some(resource_quota::validate) },
];

/// Lets each plug-in change the object on its way in. `object` is the new object after defaulting, or the body of a
/// subresource (`Binding`, `TokenRequest`); null for a deletion. Runs before validation of the kind.
///
/// # Errors
/// The refusal that answers the request.
pub fn admit(request: &Request<'_>, object: &mut Value, view: &dyn View, now: Timestamp) -> Result<Effects> {
    let scene = Scene::new(request, object, view, now);
    let mut effects = Effects::default();
    for plugin in on(request) {
        if let Some(admit) = plugin.admit {
            admit(&scene, object, &mut effects)?;
        }
    }
    Ok(effects)
}

/// Lets each plug-in judge the object as it would be stored, after validation of the kind. The charges among the effects
/// are to be written in the transaction of the object itself; when one conflicts, ask again.
///
/// # Errors
/// The refusal that answers the request.
pub fn validate(request: &Request<'_>, object: &Value, view: &dyn View, now: Timestamp) -> Result<Effects> {
    let scene = Scene::new(request, object, view, now);
    let mut effects = Effects::default();
    for plugin in on(request) {
        if let Some(validate) = plugin.validate {
            validate(&scene, object, &mut effects)?;
        }
    }
    Ok(effects)
}

/// The names of the plug-ins, in their order.
pub fn plugins() -> impl Iterator<Item = &'static str> {
    CHAIN.iter().map(|plugin| plugin.name)
}

fn on(request: &Request<'_>) -> impl Iterator<Item = &'static Plugin> + use<> {
    let operation = request.operation;
    CHAIN.iter().filter(move |plugin| plugin.on.contains(&operation))
}

#[cfg(test)]
mod tests;
