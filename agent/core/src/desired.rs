//! What the node is asked to run, whatever asked for it.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;

use crate::time::seconds_later;

/// All pods of the node, those that are to end included. The order decides which of two pods that cannot run
/// together is the one to wait: the later one.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Desired {
    /// Pods, no two with one uid.
    pub pods: Vec<DesiredPod>,
}

/// One pod.
#[derive(Debug, Clone, PartialEq)]
pub struct DesiredPod {
    /// The pod's uid.
    pub uid: String,
    /// What it is made of. Valid and with its defaults.
    pub pod: Arc<Pod>,
    /// The pod with other resources, which it wants and was not granted yet.
    pub wanted: Option<Arc<Pod>>,
    /// When the node learned of it.
    pub seen_at: Timestamp,
    /// Set when the pod is to end; it never runs again.
    pub end: Option<Termination>,
}

/// The end of a pod was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Termination {
    /// When.
    pub requested_at: Timestamp,
    /// How long its containers may take, in seconds.
    pub grace_seconds: i64,
}

impl Termination {
    /// When what still runs is killed.
    #[must_use]
    pub fn deadline(self) -> Timestamp {
        seconds_later(self.requested_at, self.grace_seconds)
    }
}
