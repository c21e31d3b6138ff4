//! What the server counts, under CoreDNS's names where it counts the same.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::message::kind;

/// Upper bounds of durations, in microseconds.
const BOUNDS: [u64; 10] = [100, 250, 500, 1_000, 5_000, 20_000, 100_000, 500_000, 2_000_000, 8_000_000];
const KINDS: [(u16, &str); 9] = [
    (kind::A, "A"),
    (kind::AAAA, "AAAA"),
    (kind::SRV, "SRV"),
    (kind::PTR, "PTR"),
    (kind::CNAME, "CNAME"),
    (kind::TXT, "TXT"),
    (kind::MX, "MX"),
    (kind::NS, "NS"),
    (kind::SOA, "SOA"),
];
const RCODES: [&str; 6] = ["NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED"];

type Count = AtomicU64;

#[derive(Default)]
struct Durations {
    buckets: [Count; BOUNDS.len() + 1],
    micros: Count,
}

impl Durations {
    fn add(&self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let at = BOUNDS.iter().position(|bound| micros <= *bound).unwrap_or(BOUNDS.len());
        self.buckets[at].fetch_add(1, Ordering::Relaxed);
        self.micros.fetch_add(micros, Ordering::Relaxed);
    }

    fn write(&self, text: &mut String, name: &str, labels: &str) {
        let (mut sum, comma) = (0, if labels.is_empty() { "" } else { "," });
        let _ = writeln!(text, "# TYPE {name} histogram");
        for (at, bucket) in self.buckets.iter().enumerate() {
            sum += bucket.load(Ordering::Relaxed);
            let bound = BOUNDS.get(at).map_or("+Inf".to_owned(), |bound| seconds(*bound));
            let _ = writeln!(text, "{name}_bucket{{{labels}{comma}le=\"{bound}\"}} {sum}");
        }
        let _ = writeln!(text, "{name}_sum{{{labels}}} {}", seconds(self.micros.load(Ordering::Relaxed)));
        let _ = writeln!(text, "{name}_count{{{labels}}} {sum}");
    }
}

fn seconds(micros: u64) -> String {
    format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000)
}

/// Counts since the start.
#[derive(Default)]
pub(crate) struct Metrics {
    requests: [[Count; KINDS.len() + 1]; 2],
    responses: [Count; RCODES.len() + 1],
    durations: Durations,
    cache: [Count; 2],
    stale: Count,
    forwards: Durations,
    upstream_failures: Count,
    refused: Count,
}

fn add(count: &Count) {
    count.fetch_add(1, Ordering::Relaxed);
}

impl Metrics {
    pub(crate) fn request(&self, tcp: bool, kind: u16) {
        let at = KINDS.iter().position(|(k, _)| *k == kind).unwrap_or(KINDS.len());
        add(&self.requests[usize::from(tcp)][at]);
    }

    /// Counts an answer as it is sent.
    pub(crate) fn response(&self, message: &[u8], took: Duration) {
        let rcode = usize::from(message.get(3).copied().unwrap_or(2) & 0xf);
        add(&self.responses[rcode.min(RCODES.len())]);
        self.durations.add(took);
    }

    pub(crate) fn cache(&self, hit: bool) {
        add(&self.cache[usize::from(hit)]);
    }

    pub(crate) fn served_stale(&self) {
        add(&self.stale);
    }

    pub(crate) fn forwarded(&self, took: Duration) {
        self.forwards.add(took);
    }

    pub(crate) fn upstream_failed(&self) {
        add(&self.upstream_failures);
    }

    pub(crate) fn overloaded(&self) {
        add(&self.refused);
    }

    /// As Prometheus reads it.
    pub(crate) fn render(&self, entries: usize, services: usize) -> String {
        let mut text = String::new();
        let get = |count: &Count| count.load(Ordering::Relaxed);
        let server = "server=\"dns://:53\"";
        let _ = writeln!(text, "# TYPE coredns_dns_requests_total counter");
        for (counts, proto) in self.requests.iter().zip(["udp", "tcp"]) {
            for (count, kind) in counts.iter().zip(KINDS.iter().map(|(_, name)| *name).chain(["other"])) {
                if get(count) > 0 {
                    let labels = format!("{server},zone=\".\",proto=\"{proto}\",type=\"{kind}\"");
                    let _ = writeln!(text, "coredns_dns_requests_total{{{labels}}} {}", get(count));
                }
            }
        }
        let _ = writeln!(text, "# TYPE coredns_dns_responses_total counter");
        for (count, rcode) in self.responses.iter().zip(RCODES.into_iter().chain(["other"])) {
            if get(count) > 0 {
                let labels = format!("{server},zone=\".\",rcode=\"{rcode}\"");
                let _ = writeln!(text, "coredns_dns_responses_total{{{labels}}} {}", get(count));
            }
        }
        self.durations.write(&mut text, "coredns_dns_request_duration_seconds", server);
        self.forwards.write(&mut text, "coredns_forward_request_duration_seconds", "");
        for (name, value) in [
            ("coredns_cache_misses_total", get(&self.cache[0])),
            ("coredns_cache_hits_total", get(&self.cache[1])),
            ("coredns_cache_served_stale_total", get(&self.stale)),
            ("cleat_dns_upstream_failures_total", get(&self.upstream_failures)),
            ("coredns_forward_max_concurrent_rejects_total", get(&self.refused)),
        ] {
            let _ = writeln!(text, "# TYPE {name} counter\n{name} {value}");
        }
        let _ = writeln!(text, "# TYPE coredns_cache_entries gauge\ncoredns_cache_entries {entries}");
        let _ = writeln!(text, "# TYPE cleat_dns_services gauge\ncleat_dns_services {services}");
        text
    }
}
