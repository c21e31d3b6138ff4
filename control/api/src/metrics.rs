//! Figures about the server's work, in Prometheus' text form and under upstream's names.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::info::RequestInfo;

/// Upper bounds of the buckets of durations, in seconds.
const BOUNDS: [f64; 14] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0];

/// What a request is counted under. Names come from the catalogue of resources, so that clients cannot make up new ones.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Labels {
    verb: &'static str,
    group: &'static str,
    version: &'static str,
    resource: &'static str,
    subresource: &'static str,
    scope: &'static str,
}

#[derive(Debug, Default)]
struct Durations {
    buckets: [u64; BOUNDS.len()],
    count: u64,
    seconds: f64,
}

/// The figures.
#[derive(Debug, Default)]
pub struct Metrics {
    requests: Mutex<BTreeMap<(Labels, u16), u64>>,
    durations: Mutex<BTreeMap<Labels, Durations>>,
    reading: Arc<AtomicI64>,
    changing: Arc<AtomicI64>,
    long_running: Arc<AtomicI64>,
    /// Connections that are open.
    pub connections: AtomicI64,
    /// Requests that were answered 429.
    pub turned_away: AtomicU64,
    /// Handlers that panicked.
    pub panics: AtomicU64,
    /// Audit events that could not be written.
    pub audit_errors: AtomicU64,
}

/// Counts a request while it is under way.
#[derive(Debug)]
pub struct InFlight(Arc<AtomicI64>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A figure as of now, for [`Metrics::text`].
#[derive(Debug, Clone, Copy)]
pub struct Gauge {
    /// As `apiserver_storage_objects`.
    pub name: &'static str,
    /// What it tells.
    pub help: &'static str,
    /// How much it is.
    pub value: i64,
}

impl Metrics {
    /// Counts a request as under way until the result is dropped.
    pub fn begin(&self, info: &RequestInfo) -> InFlight {
        let which = match info {
            info if info.is_long_running() => &self.long_running,
            info if info.is_reading() => &self.reading,
            _ => &self.changing,
        };
        which.fetch_add(1, Ordering::Relaxed);
        InFlight(which.clone())
    }

    /// Counts a request that has been answered.
    pub fn end(&self, info: &RequestInfo, code: u16, took: Duration) {
        let labels = labels(info);
        if !info.is_long_running() {
            let mut durations = self.durations.lock().unwrap_or_else(PoisonError::into_inner);
            let entry = durations.entry(labels.clone()).or_default();
            let seconds = took.as_secs_f64();
            entry.count += 1;
            entry.seconds += seconds;
            if let Some(bucket) = BOUNDS.iter().position(|bound| seconds <= *bound) {
                entry.buckets[bucket] += 1;
            }
        }
        let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        *requests.entry((labels, code)).or_default() += 1;
    }

    /// All figures, with those of `gauges` beside the own.
    #[must_use]
    pub fn text(&self, gauges: &[Gauge]) -> String {
        let mut text = String::new();
        let head = |text: &mut String, name: &str, kind: &str, help: &str| {
            let _ = write!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
        };
        let requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        head(&mut text, "apiserver_request_total", "counter", "Requests that were answered.");
        for ((labels, code), count) in &*requests {
            let _ = writeln!(text, "apiserver_request_total{{code=\"{code}\",{}}} {count}", labels.text());
        }
        drop(requests);
        let name = "apiserver_request_duration_seconds";
        head(&mut text, name, "histogram", "How long requests took.");
        for (labels, durations) in &*self.durations.lock().unwrap_or_else(PoisonError::into_inner) {
            let labels = labels.text();
            let mut below = 0;
            for (bound, count) in BOUNDS.iter().zip(durations.buckets) {
                below += count;
                let _ = writeln!(text, "{name}_bucket{{{labels},le=\"{bound}\"}} {below}");
            }
            let _ = writeln!(text, "{name}_bucket{{{labels},le=\"+Inf\"}} {}", durations.count);
            let _ = writeln!(text, "{name}_sum{{{labels}}} {}", durations.seconds);
            let _ = writeln!(text, "{name}_count{{{labels}}} {}", durations.count);
        }
        let name = "apiserver_current_inflight_requests";
        head(&mut text, name, "gauge", "Requests under way.");
        for (kind, value) in [("readOnly", &self.reading), ("mutating", &self.changing)] {
            let _ = writeln!(text, "{name}{{request_kind=\"{kind}\"}} {}", value.load(Ordering::Relaxed));
        }
        let counter = |value: &AtomicU64| i64::try_from(value.load(Ordering::Relaxed)).unwrap_or(i64::MAX);
        for (name, help, value) in [
            (
                "apiserver_flowcontrol_rejected_requests_total",
                "Requests that were turned away.",
                &self.turned_away,
            ),
            ("apiserver_request_panics_total", "Handlers that panicked.", &self.panics),
            ("apiserver_audit_error_total", "Audit events that could not be written.", &self.audit_errors),
        ] {
            head(&mut text, name, "counter", help);
            let _ = writeln!(text, "{name} {}", counter(value));
        }
        let own = [
            Gauge {
                name: "apiserver_longrunning_requests",
                help: "Watches and streams under way.",
                value: self.long_running.load(Ordering::Relaxed),
            },
            Gauge {
                name: "apiserver_open_connections",
                help: "Connections that are open.",
                value: self.connections.load(Ordering::Relaxed),
            },
        ];
        for Gauge { name, help, value } in own.iter().chain(gauges) {
            head(&mut text, name, "gauge", help);
            let _ = writeln!(text, "{name} {value}");
        }
        text
    }
}

impl Labels {
    fn text(&self) -> String {
        let Self { verb, group, version, resource, subresource, scope } = self;
        format!(
            "group=\"{group}\",resource=\"{resource}\",scope=\"{scope}\",subresource=\"{subresource}\",\
             verb=\"{verb}\",version=\"{version}\""
        )
    }
}

fn labels(info: &RequestInfo) -> Labels {
    let verb = match info.verb {
        "list" => "LIST",
        "watch" => "WATCH",
        "get" => "GET",
        "create" | "post" => "POST",
        "update" | "put" => "PUT",
        "patch" => "PATCH",
        "delete" => "DELETE",
        "deletecollection" => "DELETECOLLECTION",
        _ => "OTHER",
    };
    let none = Labels { verb, group: "", version: "", resource: "", subresource: "", scope: "" };
    let Some(target) = &info.target else { return none };
    let Some(resource) = target.find() else { return none };
    let scope = match (target.name.is_empty() || target.by_selector, target.namespace.is_empty()) {
        (true, true) => "cluster",
        (true, false) => "namespace",
        (false, _) => "resource",
    };
    let subresource = resource.subresource(&target.subresource).map_or("", |s| s.name);
    Labels {
        verb,
        group: resource.group,
        version: resource.version,
        resource: resource.plural,
        subresource,
        scope,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::query::Query;

    #[test]
    fn requests_are_counted_under_known_names_only() {
        let metrics = Metrics::default();
        let info = |method, path| RequestInfo::new(method, path, &Query::default());
        let pods = info("GET", "/api/v1/namespaces/a/pods");
        let under_way = metrics.begin(&pods);
        assert!(metrics.text(&[]).contains("inflight_requests{request_kind=\"readOnly\"} 1"));
        drop(under_way);
        metrics.end(&pods, 200, Duration::from_millis(3));
        metrics.end(&pods, 200, Duration::from_millis(30));
        metrics.end(&info("GET", "/apis/evil/v1/made-up"), 404, Duration::ZERO);
        let text = metrics.text(&[Gauge { name: "g", help: "h", value: 7 }]);
        let labels = r#"group="",resource="pods",scope="namespace",subresource="",verb="LIST",version="v1""#;
        assert!(text.contains(&format!("apiserver_request_total{{code=\"200\",{labels}}} 2\n")), "{text}");
        assert!(text.contains(&format!("seconds_bucket{{{labels},le=\"0.005\"}} 1\n")));
        assert!(text.contains(&format!("seconds_bucket{{{labels},le=\"+Inf\"}} 2\n")));
        assert!(!text.contains("made-up") && !text.contains("evil"));
        assert!(text.contains("# TYPE g gauge\ng 7\n"));
    }
}
