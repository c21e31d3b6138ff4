//! The figures in Prometheus' text form, under the names that upstream's kubelet and cAdvisor give them.

use std::fmt::Write as _;

use jiff::Timestamp;

use super::{Container, Pod, Sample, figure};

/// One metric with all its values.
struct Family<'a> {
    text: &'a mut String,
    name: &'static str,
}

type Labels<'a> = &'a [(&'static str, &'a str)];

impl<'a> Family<'a> {
    fn new(text: &'a mut String, name: &'static str, kind: &str, help: &str) -> Self {
        let _ = write!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
        Self { text, name }
    }

    /// Adds a value; `at` in nanoseconds since 1970.
    fn add(&mut self, labels: Labels<'_>, value: Option<f64>, at: Option<i64>) {
        let Some(value) = value else { return };
        self.text.push_str(self.name);
        for (number, (name, value)) in labels.iter().enumerate() {
            self.text.push(if number == 0 { '{' } else { ',' });
            let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let _ = write!(self.text, "{name}=\"{value}\"");
        }
        if !labels.is_empty() {
            self.text.push('}');
        }
        let _ = write!(self.text, " {value}");
        if let Some(at) = at {
            let _ = write!(self.text, " {}", at / 1_000_000);
        }
        self.text.push('\n');
    }
}

/// Figures are exact up to 2^53, which is more than there is of anything here.
#[expect(clippy::cast_precision_loss, reason = "Prometheus knows no other numbers")]
fn float(number: u64) -> f64 {
    number as f64
}

fn seconds(nanoseconds: Option<u64>) -> Option<f64> {
    nanoseconds.map(|n| float(n) / 1e9)
}

fn since_1970(at: Option<Timestamp>) -> Option<f64> {
    at.map(|at| at.as_duration().as_secs_f64())
}

/// `/metrics/resource`: what metrics-server asks for.
pub(crate) fn resource(sample: Option<&Sample>) -> String {
    let mut text = String::new();
    if let Some(sample) = sample {
        of_containers(&mut text, sample);
        of_node(&mut text, sample);
        of_pods(&mut text, sample);
    }
    let help = "[STABLE] 1 if there was an error while getting container metrics, 0 otherwise";
    let mut error = Family::new(&mut text, "resource_scrape_error", "gauge", help);
    error.add(&[], Some(if sample.is_some() { 0.0 } else { 1.0 }), None);
    text
}

fn of_containers(text: &mut String, sample: &Sample) {
    let all = || sample.pods.iter().flat_map(|pod| pod.containers.iter().map(move |c| (pod, c)));
    let labels = |(pod, container): (&'_ Pod, &'_ Container)| {
        [
            ("container", container.name.clone()),
            ("namespace", pod.namespace.clone()),
            ("pod", pod.name.clone()),
        ]
    };
    let mut each = |name, kind, help, value: fn(&Container) -> (Option<f64>, Option<i64>)| {
        let mut family = Family::new(text, name, kind, help);
        for both in all() {
            let own = labels(both);
            let own: Vec<(&'static str, &str)> = own.iter().map(|(k, v)| (*k, v.as_str())).collect();
            let (value, at) = value(both.1);
            family.add(&own, value, at);
        }
    };
    let help = "[STABLE] Cumulative cpu time consumed by the container in core-seconds";
    each("container_cpu_usage_seconds_total", "counter", help, |c| {
        let cpu = c.stats.cpu.as_ref();
        (seconds(figure(cpu.and_then(|c| c.usage_core_nano_seconds.as_ref()))), cpu.map(|c| c.timestamp))
    });
    let help = "[STABLE] Current working set of the container in bytes";
    each("container_memory_working_set_bytes", "gauge", help, |c| {
        let memory = c.stats.memory.as_ref();
        (figure(memory.and_then(|m| m.working_set_bytes.as_ref())).map(float), memory.map(|m| m.timestamp))
    });
    each(
        "container_start_time_seconds",
        "gauge",
        "[STABLE] Start time of the container since unix epoch in seconds",
        |c| (since_1970(c.started), None),
    );
    let help =
        "[ALPHA] Current amount of the container swap usage in bytes. Reported only on non-windows systems";
    each("container_swap_usage_bytes", "gauge", help, |c| {
        let swap = c.stats.swap.as_ref();
        (figure(swap.and_then(|s| s.swap_usage_bytes.as_ref())).map(float), swap.map(|s| s.timestamp))
    });
}

fn of_node(text: &mut String, sample: &Sample) {
    let at = i64::try_from(sample.at.as_nanosecond()).ok();
    let machine = &sample.machine;
    let mut one = |name, kind, help, value| Family::new(text, name, kind, help).add(&[], value, at);
    let help = "[STABLE] Cumulative cpu time consumed by the node in core-seconds";
    one("node_cpu_usage_seconds_total", "counter", help, seconds(machine.cpu_nanoseconds));
    let memory = machine.memory.as_ref();
    let working = memory.map(|m| float(m.total.saturating_sub(m.available)));
    one(
        "node_memory_working_set_bytes",
        "gauge",
        "[STABLE] Current working set of the node in bytes",
        working,
    );
    let help = "[ALPHA] Current swap usage of the node in bytes. Reported only on non-windows systems";
    one(
        "node_swap_usage_bytes",
        "gauge",
        help,
        memory.map(|m| float(m.swap_total.saturating_sub(m.swap_free))),
    );
}

fn of_pods(text: &mut String, sample: &Sample) {
    let mut each = |name, kind, help, value: fn(&Pod) -> (Option<f64>, Option<i64>)| {
        let mut family = Family::new(text, name, kind, help);
        for pod in &sample.pods {
            let (value, at) = value(pod);
            family.add(&[("namespace", &pod.namespace), ("pod", &pod.name)], value, at);
        }
    };
    let help = "[STABLE] Cumulative cpu time consumed by the pod in core-seconds";
    each("pod_cpu_usage_seconds_total", "counter", help, |pod| {
        let cpu = pod.linux.cpu.as_ref();
        (seconds(figure(cpu.and_then(|c| c.usage_core_nano_seconds.as_ref()))), cpu.map(|c| c.timestamp))
    });
    each(
        "pod_memory_working_set_bytes",
        "gauge",
        "[STABLE] Current working set of the pod in bytes",
        |pod| {
            let memory = pod.linux.memory.as_ref();
            (
                figure(memory.and_then(|m| m.working_set_bytes.as_ref())).map(float),
                memory.map(|m| m.timestamp),
            )
        },
    );
    let help = "[ALPHA] Current amount of the pod swap usage in bytes. Reported only on non-windows systems";
    each("pod_swap_usage_bytes", "gauge", help, |pod| {
        let swaps = pod.containers.iter().filter_map(|c| c.stats.swap.as_ref());
        let used = swaps.clone().filter_map(|s| figure(s.swap_usage_bytes.as_ref())).map(float);
        (swaps.clone().next().map(|_| used.sum()), swaps.map(|s| s.timestamp).next())
    });
}

/// What a figure of cAdvisor is taken from.
type OfContainer = fn(&Container) -> Option<u64>;

/// cAdvisor's figures of containers: name, kind, help, how many of ours are one of its.
const FIGURES: [(&str, &str, &str, f64, OfContainer); 8] = [
    ("container_cpu_usage_seconds_total", "counter", "Cumulative cpu time consumed in seconds.", 1e9, |c| {
        figure(c.stats.cpu.as_ref()?.usage_core_nano_seconds.as_ref())
    }),
    (
        "container_memory_usage_bytes",
        "gauge",
        "Current memory usage in bytes, including all memory regardless of when it was accessed",
        1.0,
        |c| figure(c.stats.memory.as_ref()?.usage_bytes.as_ref()),
    ),
    ("container_memory_working_set_bytes", "gauge", "Current working set in bytes.", 1.0, |c| {
        figure(c.stats.memory.as_ref()?.working_set_bytes.as_ref())
    }),
    ("container_memory_rss", "gauge", "Size of RSS in bytes.", 1.0, |c| {
        figure(c.stats.memory.as_ref()?.rss_bytes.as_ref())
    }),
    ("container_memory_swap", "gauge", "Container swap usage in bytes.", 1.0, |c| {
        figure(c.stats.swap.as_ref()?.swap_usage_bytes.as_ref())
    }),
    (
        "container_fs_usage_bytes",
        "gauge",
        "Number of bytes that are consumed by the container on this filesystem.",
        1.0,
        |c| figure(c.stats.writable_layer.as_ref()?.used_bytes.as_ref()),
    ),
    ("container_fs_inodes_total", "gauge", "Number of Inodes", 1.0, |c| {
        figure(c.stats.writable_layer.as_ref()?.inodes_used.as_ref())
    }),
    (
        "container_start_time_seconds",
        "gauge",
        "Start time of the container since unix epoch in seconds.",
        1.0,
        |c| u64::try_from(c.started?.as_second()).ok(),
    ),
];

/// `/metrics/cadvisor`: processors, memory, disk and network of containers and pods, under cAdvisor's names.
pub(crate) fn cadvisor(sample: &Sample) -> String {
    let mut text = String::new();
    let at = i64::try_from(sample.at.as_nanosecond()).ok();
    let machine = &sample.machine;
    let cores = u64::try_from(machine.cores).ok().map(float);
    Family::new(&mut text, "machine_cpu_cores", "gauge", "Number of logical CPU cores.").add(&[], cores, at);
    let total = machine.memory.as_ref().map(|m| float(m.total));
    let help = "Amount of memory installed on the machine.";
    Family::new(&mut text, "machine_memory_bytes", "gauge", help).add(&[], total, at);
    for (name, kind, help, unit, value) in FIGURES {
        let mut family = Family::new(&mut text, name, kind, help);
        for pod in &sample.pods {
            for container in &pod.containers {
                let mut labels = vec![
                    ("container", container.name.as_str()),
                    ("id", container.id.as_str()),
                    ("image", container.image.as_str()),
                    ("name", container.id.as_str()),
                    ("namespace", pod.namespace.as_str()),
                    ("pod", pod.name.as_str()),
                ];
                if name == "container_cpu_usage_seconds_total" {
                    labels.insert(1, ("cpu", "total"));
                }
                family.add(&labels, value(container).map(|n| float(n) / unit), at);
            }
        }
    }
    network(&mut text, sample, at);
    text
}

fn network(text: &mut String, sample: &Sample, at: Option<i64>) {
    type OfInterface = fn(&proto_cri::NetworkInterfaceUsage) -> Option<u64>;
    let figures: [(&'static str, &str, OfInterface); 4] = [
        ("container_network_receive_bytes_total", "Cumulative count of bytes received", |i| {
            figure(i.rx_bytes.as_ref())
        }),
        (
            "container_network_receive_errors_total",
            "Cumulative count of errors encountered while receiving",
            |i| figure(i.rx_errors.as_ref()),
        ),
        ("container_network_transmit_bytes_total", "Cumulative count of bytes transmitted", |i| {
            figure(i.tx_bytes.as_ref())
        }),
        (
            "container_network_transmit_errors_total",
            "Cumulative count of errors encountered while transmitting",
            |i| figure(i.tx_errors.as_ref()),
        ),
    ];
    for (name, help, value) in figures {
        let mut family = Family::new(text, name, "counter", help);
        for pod in &sample.pods {
            let network = pod.linux.network.as_ref();
            for interface in network.into_iter().flat_map(|n| n.default_interface.iter().chain(&n.interfaces))
            {
                let labels = [
                    ("container", ""),
                    ("id", pod.sandbox.as_str()),
                    ("image", ""),
                    ("interface", interface.name.as_str()),
                    ("name", pod.sandbox.as_str()),
                    ("namespace", pod.namespace.as_str()),
                    ("pod", pod.name.as_str()),
                ];
                family.add(&labels, value(interface).map(float), at);
            }
        }
    }
}

/// `/metrics`: the agent itself.
pub(crate) fn own(node: &str, pods: usize, containers: &[(&str, usize)]) -> String {
    let mut text = String::new();
    let count = |number: usize| u64::try_from(number).ok().map(float);
    let help = "[ALPHA] The node's name. The count is always 1.";
    Family::new(&mut text, "kubelet_node_name", "gauge", help).add(&[("node", node)], Some(1.0), None);
    let help = "[ALPHA] Number of pods that have a running pod sandbox";
    Family::new(&mut text, "kubelet_running_pods", "gauge", help).add(&[], count(pods), None);
    let help = "[ALPHA] Number of containers currently running";
    let mut family = Family::new(&mut text, "kubelet_running_containers", "gauge", help);
    for (state, number) in containers {
        family.add(&[("container_state", state)], count(*number), None);
    }
    let help = "[ALPHA] A metric with a constant '1' value labeled by major, minor, git version, git commit, git tree state, build date, Go version, and compiler from which Kubernetes was built, and platform on which it is running.";
    let version = concat!("v1.37.0+cleat-", env!("CARGO_PKG_VERSION"));
    let labels = [("git_version", version), ("major", "1"), ("minor", "37")];
    Family::new(&mut text, "kubernetes_build_info", "gauge", help).add(&labels, Some(1.0), None);
    text
}
