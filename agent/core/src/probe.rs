//! Probes: which run now, when, and what their results amount to.
//!
//! ```text
//!  startup  ──ok──> liveness, readiness run     failures in a row >= failureThreshold: not ok
//!     └─not ok──> the container is killed       successes in a row >= successThreshold: ok
//! ```

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Container as Spec, Pod, Probe};

use crate::observed::{ObservedPod, State};
use crate::pod;
use crate::status;
use crate::time::seconds_later;

/// Which of a container's probes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Holds up the others; its failure kills.
    Startup,
    /// Its failure kills.
    Liveness,
    /// Decides whether the container is ready.
    Readiness,
}

impl Kind {
    /// As events word it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Startup => "Startup",
            Self::Liveness => "Liveness",
            Self::Readiness => "Readiness",
        }
    }

    /// This probe of a container.
    #[must_use]
    pub fn of(self, spec: &Spec) -> Option<&Probe> {
        match self {
            Self::Startup => spec.startup_probe.as_ref(),
            Self::Liveness => spec.liveness_probe.as_ref(),
            Self::Readiness => spec.readiness_probe.as_ref(),
        }
    }
}

/// A probe to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The container's name.
    pub name: String,
    /// The container's id.
    pub id: String,
    /// Which probe.
    pub kind: Kind,
    /// When the container was started.
    pub started_at: Timestamp,
}

/// The probes to run now: of running containers, the startup probe until it succeeds, then the others. A container
/// whose startup or liveness probe has failed is about to be killed and is left alone.
#[must_use]
pub fn targets(pod: &Pod, seen: &ObservedPod) -> Vec<Target> {
    let mut targets = Vec::new();
    for spec in pod::all_containers(pod) {
        let Some(container) = seen.latest(&spec.name) else { continue };
        let State::Running { started_at } = container.state else { continue };
        let health = seen.health.get(&container.id);
        let failed = |verdict: Option<&crate::Verdict>| verdict.is_some_and(|v| !v.ok);
        if failed(health.and_then(|h| h.startup.as_ref())) || failed(health.and_then(|h| h.liveness.as_ref()))
        {
            continue;
        }
        let kinds: &[Kind] = match status::started(spec, container, seen) {
            true => &[Kind::Liveness, Kind::Readiness],
            false => &[Kind::Startup],
        };
        for kind in kinds.iter().copied().filter(|kind| kind.of(spec).is_some()) {
            targets.push(Target { name: spec.name.clone(), id: container.id.clone(), kind, started_at });
        }
    }
    targets
}

/// When a probe is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// The first time.
    pub first_at: Timestamp,
    /// How long from one try to the next.
    pub period: SignedDuration,
    /// How long a try may take.
    pub timeout: SignedDuration,
}

impl Timing {
    /// Of a probe of a container that was started then, with the API's defaults.
    #[must_use]
    pub fn of(probe: &Probe, started_at: Timestamp) -> Self {
        let seconds = |value: Option<i32>, default| i64::from(value.filter(|v| *v > 0).unwrap_or(default));
        Self {
            first_at: seconds_later(started_at, seconds(probe.initial_delay_seconds, 0)),
            period: SignedDuration::from_secs(seconds(probe.period_seconds, 10)),
            timeout: SignedDuration::from_secs(seconds(probe.timeout_seconds, 1)),
        }
    }
}

/// Counts the results of one probe of one container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prober {
    success_threshold: u32,
    failure_threshold: u32,
    verdict: Option<bool>,
    last: Option<bool>,
    in_a_row: u32,
}

impl Prober {
    /// A prober that continues from what was known of the container.
    #[must_use]
    pub fn new(probe: &Probe, verdict: Option<bool>) -> Self {
        let threshold = |value: Option<i32>, default| {
            value.and_then(|v| u32::try_from(v).ok()).filter(|v| *v > 0).unwrap_or(default)
        };
        Self {
            success_threshold: threshold(probe.success_threshold, 1),
            failure_threshold: threshold(probe.failure_threshold, 3),
            verdict,
            last: None,
            in_a_row: 0,
        }
    }

    /// Takes a result; returns the verdict when it has changed.
    pub fn record(&mut self, ok: bool) -> Option<bool> {
        self.in_a_row = if self.last == Some(ok) { self.in_a_row.saturating_add(1) } else { 1 };
        self.last = Some(ok);
        let threshold = if ok { self.success_threshold } else { self.failure_threshold };
        if self.in_a_row < threshold || self.verdict == Some(ok) {
            return None;
        }
        self.verdict = Some(ok);
        Some(ok)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdicts(probe: &Probe, start: Option<bool>, results: &str) -> String {
        let mut prober = Prober::new(probe, start);
        results
            .chars()
            .map(|r| match prober.record(r == '+') {
                None => '.',
                Some(true) => '+',
                Some(false) => '-',
            })
            .collect()
    }

    #[test]
    fn thresholds() {
        let probe = |success, failure| Probe {
            success_threshold: success,
            failure_threshold: failure,
            ..Probe::default()
        };
        for (success, failure, start, results, expected) in [
            (None, None, None, "+++", "+.."),
            (None, None, None, "---", "..-"),
            (None, None, None, "--+--", "..+.."),
            (None, None, Some(true), "--+---+", ".....-+"),
            (Some(2), Some(1), None, "+-++-", ".-.+-"),
            (Some(3), Some(2), Some(false), "++-+++--", ".....+.-"),
            (None, Some(1), Some(true), "+-", ".-"),
        ] {
            assert_eq!(verdicts(&probe(success, failure), start, results), expected, "{results}");
        }
    }

    #[test]
    fn defaults() {
        let timing = Timing::of(&Probe::default(), Timestamp::UNIX_EPOCH);
        assert_eq!(timing.first_at, Timestamp::UNIX_EPOCH);
        assert_eq!((timing.period.as_secs(), timing.timeout.as_secs()), (10, 1));
    }
}
