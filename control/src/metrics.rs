//! What has been done so far, for Prometheus.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};

/// A figure: its name, help text and type.
type Family = (&'static str, &'static str, &'static str);

/// Keys ready to be worked on.
pub(crate) const DEPTH: Family = ("workqueue_depth", "Keys that are ready to be worked on.", "gauge");
/// Reconciliations begun.
pub(crate) const RECONCILES: Family = ("workqueue_adds_total", "Keys that were worked on.", "counter");
/// Reconciliations that come again.
pub(crate) const RETRIES: Family =
    ("workqueue_retries_total", "Keys that come again after a failure.", "counter");
/// Attempts to place pods, by their results.
pub(crate) const ATTEMPTS: Family =
    ("scheduler_schedule_attempts_total", "Attempts to place pods, by result.", "counter");
/// Pods that have no node, by where they wait.
pub(crate) const PENDING: Family = ("scheduler_pending_pods", "Pods without a node, by queue.", "gauge");
/// Whether this process leads.
pub(crate) const LEADING: Family =
    ("leader_election_master_status", "1 while this process holds the lease.", "gauge");

/// Values by a label and its text.
type Values = BTreeMap<(&'static str, String), u64>;

/// Figures of a process. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Metrics(Arc<Mutex<BTreeMap<Family, Values>>>);

impl Metrics {
    /// All figures as Prometheus reads them.
    #[must_use]
    pub fn text(&self) -> String {
        let mut out = String::new();
        for ((name, help, kind), values) in &*self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
            for ((label, text), value) in values {
                let _ = writeln!(out, "{name}{{{label}=\"{text}\"}} {value}");
            }
        }
        out
    }

    pub(crate) fn set(&self, family: Family, label: (&'static str, &str), value: usize) {
        self.change(family, label, |old| *old = value as u64);
    }

    pub(crate) fn count(&self, family: Family, label: (&'static str, &str)) {
        self.change(family, label, |old| *old += 1);
    }

    fn change(&self, family: Family, (label, text): (&'static str, &str), change: impl FnOnce(&mut u64)) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        change(all.entry(family).or_default().entry((label, text.to_owned())).or_default());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_shown() {
        let metrics = Metrics::default();
        metrics.count(RETRIES, ("name", "job-controller"));
        metrics.clone().count(RETRIES, ("name", "job-controller"));
        metrics.set(DEPTH, ("name", "job-controller"), 3);
        let text = metrics.text();
        assert!(text.contains("\nworkqueue_retries_total{name=\"job-controller\"} 2\n"), "{text}");
        assert!(
            text.contains("# TYPE workqueue_depth gauge\nworkqueue_depth{name=\"job-controller\"} 3\n"),
            "{text}"
        );
    }
}
