//! What has been granted is signed.

use proto_kube::view::View;
use proto_kube::{GroupResource, object};
use serde_json::Value;

use super::{condition, is_issued};
use crate::resources::SIGNING_REQUESTS;
use crate::{Controller, Key, Mutation, Outcome, World, owner};

/// The signers that the cluster's authority stands behind.
const SIGNERS: [&str; 3] = [
    "kubernetes.io/kube-apiserver-client",
    "kubernetes.io/kube-apiserver-client-kubelet",
    "kubernetes.io/kubelet-serving",
];

/// Has requests signed.
pub(super) struct Signer;

impl Controller for Signer {
    fn name(&self) -> &'static str {
        "certificate-controller"
    }

    fn watches(&self) -> &'static [(&'static str, &'static str)] {
        &[("certificates.k8s.io", "certificatesigningrequests")]
    }

    fn keys(
        &self,
        _view: &dyn View,
        _of: GroupResource<'_>,
        _old: Option<&Value>,
        new: Option<&Value>,
    ) -> Vec<Key> {
        new.filter(|request| is_granted(request)).map(owner::key).into_iter().collect()
    }

    fn reconcile(&self, world: &World<'_>, key: &Key) -> Outcome {
        let request = world.view.get(SIGNING_REQUESTS, &key.0, &key.1).filter(|r| is_granted(r));
        let request = request.filter(|_| world.refused.is_none());
        Outcome { mutations: request.map(Mutation::Sign).into_iter().collect(), again: None }
    }
}

fn is_granted(request: &Value) -> bool {
    let ours = SIGNERS.contains(&object::text(request, &["spec", "signerName"]));
    let refused = ["Denied", "Failed"].iter().any(|kind| condition(request, kind).is_some());
    ours && condition(request, "Approved").is_some() && !refused && !is_issued(request)
}
