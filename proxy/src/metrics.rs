//! Figures under the names that upstream's proxy has for them.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

/// Upper bounds of the buckets of a duration: from 1 ms, each twice the one before.
const BUCKETS: u32 = 15;

/// A number that grows.
#[derive(Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, count: usize) {
        self.0.fetch_add(count as u64, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// How long something took.
#[derive(Default)]
pub(crate) struct Durations {
    buckets: [AtomicU64; BUCKETS as usize],
    count: AtomicU64,
    micros: AtomicU64,
}

impl Durations {
    pub(crate) fn observe(&self, took: Duration) {
        for (n, bucket) in (0..).zip(&self.buckets) {
            if took <= Duration::from_millis(1 << n) {
                bucket.fetch_add(1, Ordering::Relaxed);
            }
        }
        self.count.fetch_add(1, Ordering::Relaxed);
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.micros.fetch_add(micros, Ordering::Relaxed);
    }

    fn write(&self, text: &mut String, name: &str, about: &str) {
        let _ = writeln!(text, "# HELP {name} {about}\n# TYPE {name} histogram");
        for (n, bucket) in (0u32..).zip(&self.buckets) {
            let bound = f64::from(1u32 << n) / 1000.0;
            let _ = writeln!(text, "{name}_bucket{{le=\"{bound}\"}} {}", bucket.load(Ordering::Relaxed));
        }
        let count = self.count.load(Ordering::Relaxed);
        let seconds = Duration::from_micros(self.micros.load(Ordering::Relaxed)).as_secs_f64();
        let _ = writeln!(
            text,
            "{name}_bucket{{le=\"+Inf\"}} {count}\n{name}_sum {seconds}\n{name}_count {count}"
        );
    }
}

/// All figures.
#[derive(Default)]
pub(crate) struct Metrics {
    /// Any change of the kernel's rules.
    pub(crate) sync: Durations,
    /// Those that compared all rules.
    pub(crate) full: Durations,
    /// Those that changed some.
    pub(crate) partial: Durations,
    /// Changes that the kernel would not take.
    pub(crate) failures: Counter,
    /// UDP flows that were forgotten.
    pub(crate) flows: Counter,
    last_queued: AtomicU64,
    last_synced: AtomicU64,
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

impl Metrics {
    pub(crate) fn queued(&self) {
        self.last_queued.store(now(), Ordering::Relaxed);
    }

    pub(crate) fn synced(&self) {
        self.last_synced.store(now(), Ordering::Relaxed);
    }

    /// In Prometheus' text form.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        let sync = "kubeproxy_sync_proxy_rules";
        self.sync.write(
            &mut text,
            &format!("{sync}_duration_seconds"),
            "Time to bring the rules up to date.",
        );
        self.full.write(
            &mut text,
            &format!("{sync}_full_duration_seconds"),
            "Time to compare and correct all rules.",
        );
        let about = "Time to change the rules of some services.";
        self.partial.write(&mut text, &format!("{sync}_partial_duration_seconds"), about);
        let mut counter = |name: &str, about: &str, value: u64| {
            let _ = writeln!(text, "# HELP {name} {about}\n# TYPE {name} counter\n{name} {value}");
        };
        counter(
            &format!("{sync}_nftables_sync_failures_total"),
            "Changes of the rules that the kernel refused.",
            self.failures.get(),
        );
        counter(
            "kubeproxy_conntrack_reconciler_deleted_entries_total",
            "UDP flows that were forgotten, as their endpoint is no more.",
            self.flows.get(),
        );
        let gauges = [("last_queued", &self.last_queued), ("last", &self.last_synced)];
        for (name, value) in gauges {
            let name = format!("{sync}_{name}_timestamp_seconds");
            let seconds = Duration::from_millis(value.load(Ordering::Relaxed)).as_secs_f64();
            let _ = writeln!(
                text,
                "# HELP {name} When changes were last seen or made.\n# TYPE {name} gauge\n{name} {seconds}"
            );
        }
        text
    }
}
