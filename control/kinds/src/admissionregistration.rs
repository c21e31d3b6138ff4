//! The kinds of the group `admissionregistration.k8s.io`.

use proto_kube::Resource;

use crate::Kind;

mod matching;
mod mutating_policy;
mod policy;
mod policy_binding;
#[cfg(test)]
mod tests;
mod webhook;

/// The kind of a resource of this group; `None` for one that its schema alone describes.
pub(crate) fn kind(resource: &Resource) -> Option<&'static dyn Kind> {
    Some(match resource.kind {
        "MutatingAdmissionPolicy" => &mutating_policy::MutatingAdmissionPolicy,
        "MutatingAdmissionPolicyBinding" => &policy_binding::Binding { mutating: true },
        "MutatingWebhookConfiguration" => &webhook::Configuration { mutating: true },
        "ValidatingAdmissionPolicy" => &policy::ValidatingAdmissionPolicy,
        "ValidatingAdmissionPolicyBinding" => &policy_binding::Binding { mutating: false },
        "ValidatingWebhookConfiguration" => &webhook::Configuration { mutating: false },
        _ => return None,
    })
}
