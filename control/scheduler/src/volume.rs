//! What the claims of a pod say about its place.

use std::sync::Arc;

use proto_kube::GroupResource;
use proto_kube::object::{self, at, items, text};
use proto_kube::view::View;
use serde_json::Value;

use crate::pod::Pod;
use crate::select::NodeTerm;
use crate::snapshot::{Node, Snapshot};

const MISSING: &str = "node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)";
const ELSEWHERE: &str = "node(s) didn't match PersistentVolume's node affinity";
const UNBOUND: &str = "node(s) didn't find available persistent volumes to bind";
const ZONE: &str = "node(s) had no available volume zone";
const IN_USE: &str = "node(s) unavailable due to PersistentVolumeClaim with ReadWriteOncePod access mode already in-use by another pod";
/// The labels of volumes that a node must have too.
const ZONES: [&str; 4] = [
    "topology.kubernetes.io/zone",
    "topology.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    "failure-domain.beta.kubernetes.io/region",
];

/// The volumes of a pod.
#[derive(Debug, Clone, Default)]
pub(crate) struct Volumes {
    /// Of the bound claims; none for one that is missing.
    bound: Vec<Option<Arc<Value>>>,
    /// There is a claim that waits for its pod's node.
    is_unbound: bool,
    /// There is a claim of a single pod that another pod uses.
    is_in_use: bool,
}

impl Volumes {
    /// Reads the claims of a pod.
    ///
    /// # Errors
    /// Why it can go nowhere.
    pub(crate) fn of(pod: &Pod, snapshot: &Snapshot, view: &dyn View) -> Result<Self, String> {
        let of = |group: &'static str, resource: &'static str| GroupResource { group, resource };
        let (mut volumes, mut immediate) = (Self::default(), false);
        for (name, is_its_own) in &pod.claims {
            let Some(claim) = view.get(of("", "persistentvolumeclaims"), &pod.namespace, name) else {
                return Err(match is_its_own {
                    true => format!(
                        "waiting for ephemeral volume controller to create the persistentvolumeclaim {name:?}"
                    ),
                    false => format!("persistentvolumeclaim {name:?} not found"),
                });
            };
            let volume = text(&claim, &["spec", "volumeName"]);
            if text(&claim, &["status", "phase"]) == "Lost" {
                return Err(format!(
                    "persistentvolumeclaim {name:?} bound to non-existent persistentvolume {volume:?}"
                ));
            }
            if object::is_terminating(&claim) {
                return Err(format!("persistentvolumeclaim {name:?} is being deleted"));
            }
            if *is_its_own && object::controller(&claim).is_none_or(|owner| owner.uid != pod.uid) {
                return Err(format!(
                    "PVC {}/{name} was not created for pod {0}/{1} (pod is not owner)",
                    pod.namespace, pod.name
                ));
            }
            let is_bound =
                object::annotations(&claim).any(|(key, _)| key == "pv.kubernetes.io/bind-completed");
            if !volume.is_empty() && is_bound {
                volumes.bound.push(view.get(of("", "persistentvolumes"), "", volume));
            } else {
                let class = text(&claim, &["spec", "storageClassName"]);
                let class = view.get(of("storage.k8s.io", "storageclasses"), "", class);
                let waits = class.is_some_and(|c| text(&c, &["volumeBindingMode"]) == "WaitForFirstConsumer");
                immediate |= !waits || !volume.is_empty();
                volumes.is_unbound |= waits;
            }
            let is_single = items(&claim, &["spec", "accessModes"]).any(|mode| mode == "ReadWriteOncePod");
            volumes.is_in_use |= is_single && snapshot.is_claimed(&pod.namespace, name);
        }
        if immediate {
            return Err("pod has unbound immediate PersistentVolumeClaims".to_owned());
        }
        Ok(volumes)
    }

    /// Whether another pod must go before this one can come.
    pub(crate) fn in_use(&self) -> Option<&'static str> {
        self.is_in_use.then_some(IN_USE)
    }

    /// Whether the volumes cannot be had on a node.
    pub(crate) fn unavailable(&self, node: &Node) -> Vec<&'static str> {
        let mut why = Vec::new();
        let elsewhere = |volume: &Arc<Value>| {
            let terms = at(volume, &["spec", "nodeAffinity", "required", "nodeSelectorTerms"]);
            let terms = terms.and_then(Value::as_array);
            terms.is_some_and(|terms| {
                !terms.iter().any(|term| NodeTerm::of(term).admits(&node.name, &node.labels))
            })
        };
        if self.bound.iter().flatten().any(elsewhere) {
            why.push(ELSEWHERE);
        }
        if self.is_unbound {
            why.push(UNBOUND);
        }
        if self.bound.iter().any(Option::is_none) {
            why.push(MISSING);
        }
        why
    }

    /// Whether a volume is in another zone than a node.
    pub(crate) fn out_of_zone(&self, node: &Node) -> Option<&'static str> {
        let has_zones = ZONES.iter().any(|zone| node.labels.contains_key(*zone));
        let apart = |volume: &Arc<Value>| {
            object::labels(volume).filter(|(key, _)| ZONES.contains(key)).any(|(key, values)| {
                let here = node.labels.get(key);
                !here.is_some_and(|here| values.split("__").any(|value| value == here))
            })
        };
        (has_zones && self.bound.iter().flatten().any(apart)).then_some(ZONE)
    }
}
