//! How bad it is: when all nodes are away it is more likely we who are cut off, and driving pods off would only do harm.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use proto_kube::object;
use serde_json::Value;

use super::status;

/// One node after the other is given up, at most one in this time in a zone.
const PACE: Duration = Duration::from_secs(10);
/// In a zone of which most nodes are away, if it is large.
const SLOW_PACE: Duration = Duration::from_secs(100);
/// Smaller zones give nobody up while most are away.
const LARGE: usize = 50;
const EXCLUDED: &str = "node.kubernetes.io/exclude-disruption";

/// The zones and how many of their nodes are ready and are not.
#[derive(Debug, Default)]
pub(super) struct Zones(BTreeMap<String, (usize, usize)>);

/// A zone with the region it is in.
pub(super) fn of(node: &Value) -> String {
    let label = |key| object::text(node, &["metadata", "labels", key]);
    let (region, zone) = (label("topology.kubernetes.io/region"), label("topology.kubernetes.io/zone"));
    if region.is_empty() && zone.is_empty() { String::new() } else { format!("{region}:\0:{zone}") }
}

impl Zones {
    /// Of these nodes, where `alive` says which of them still tell of themselves.
    pub(super) fn new(nodes: &[Arc<Value>], alive: impl Fn(&Value) -> bool) -> Self {
        let mut zones = Self::default();
        for node in nodes {
            if object::labels(node).any(|(key, _)| key == EXCLUDED) {
                continue;
            }
            let (ready, away) = zones.0.entry(of(node)).or_default();
            *(if status(node, "Ready") == "True" && alive(node) { ready } else { away }) += 1;
        }
        zones
    }

    /// Whether no node is ready anywhere.
    pub(super) fn all_away(&self) -> bool {
        !self.0.is_empty() && self.0.values().all(|(ready, _)| *ready == 0)
    }

    /// How long to wait in a zone between giving up one node and the next; `None` for giving up none.
    pub(super) fn pace(&self, zone: &str) -> Option<Duration> {
        let (ready, away) = self.0.get(zone).copied().unwrap_or_default();
        let most = ready > 0 && away > 2 && away * 100 >= (ready + away) * 55;
        match most {
            _ if self.all_away() => None,
            true if ready + away > LARGE => Some(SLOW_PACE),
            true => None,
            false => Some(PACE),
        }
    }
}
