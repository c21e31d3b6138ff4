//! A sample, written down both ways.

use proto_cri as cri;
use serde_json::json;

use super::*;

fn value(value: u64) -> Option<cri::UInt64Value> {
    Some(cri::UInt64Value { value })
}

fn a_machine(booted: Timestamp) -> Machine {
    Machine {
        booted: Some(booted),
        cpu_nanoseconds: Some(60_000_000_000),
        cores: 2,
        memory: Some(machine::Memory { total: 1000, free: 100, available: 700, ..Default::default() }),
        ..Machine::default()
    }
}

fn a_sample() -> Sample {
    let at: Timestamp = "2026-11-21T10:00:00Z".parse().unwrap();
    let timestamp = i64::try_from(at.as_nanosecond()).unwrap();
    let cpu = |used| cri::CpuUsage {
        timestamp,
        usage_core_nano_seconds: value(used),
        usage_nano_cores: value(250_000_000),
        psi: None,
    };
    let memory = |bytes| cri::MemoryUsage {
        timestamp,
        working_set_bytes: value(bytes),
        usage_bytes: value(2 * bytes),
        ..Default::default()
    };
    let interface = cri::NetworkInterfaceUsage {
        name: "eth0".into(),
        rx_bytes: value(10),
        tx_bytes: value(20),
        ..Default::default()
    };
    let network = cri::NetworkUsage { timestamp, default_interface: Some(interface), interfaces: Vec::new() };
    let stats = cri::ContainerStats {
        cpu: Some(cpu(1_500_000_000)),
        memory: Some(memory(4096)),
        writable_layer: Some(cri::FilesystemUsage {
            timestamp,
            used_bytes: value(100),
            inodes_used: value(3),
            ..Default::default()
        }),
        ..Default::default()
    };
    let disk = Disk { available: 50, capacity: 100, used: 40, inodes: 10, inodes_free: 5, inodes_used: 5 };
    let container = Container {
        name: "c".into(),
        id: "c1".into(),
        image: "im\"age".into(),
        started: Some(at),
        stats,
        logs: Some(disk.with(7, 2)),
    };
    let pod = Pod {
        name: "p".into(),
        namespace: "n".into(),
        uid: "u".into(),
        started: Some(at),
        sandbox: "s1".into(),
        linux: cri::LinuxPodSandboxStats {
            cpu: Some(cpu(2_000_000_000)),
            memory: Some(memory(8192)),
            network: Some(network),
            ..Default::default()
        },
        containers: vec![container],
        volumes: vec![("v".into(), disk.with(1000, 9))],
    };
    let machine = a_machine(at);
    Sample {
        at,
        node: "node".into(),
        machine,
        disk: Some(disk),
        images: Some(disk),
        layers: None,
        pods: vec![pod],
    }
}

#[test]
fn a_summary_has_upstreams_members() {
    let summary = summary::summary(&a_sample(), false);
    assert_eq!(summary["node"]["nodeName"], "node");
    assert_eq!(summary["node"]["memory"]["workingSetBytes"], 300);
    assert_eq!(
        summary["node"]["cpu"],
        json!({"time": "2026-11-21T10:00:00Z", "usageCoreNanoSeconds": 60_000_000_000_u64})
    );
    assert_eq!(summary["node"]["systemContainers"][0]["memory"]["workingSetBytes"], 8192);
    let pod = &summary["pods"][0];
    assert_eq!(pod["podRef"], json!({"name": "p", "namespace": "n", "uid": "u"}));
    assert_eq!(pod["cpu"]["usageCoreNanoSeconds"], 2_000_000_000);
    assert_eq!(pod["containers"][0]["memory"]["usageBytes"], 8192);
    assert_eq!(pod["containers"][0]["rootfs"]["usedBytes"], 100);
    assert_eq!(pod["network"]["interfaces"][0]["txBytes"], 20);
    assert_eq!(pod["volume"][0]["name"], "v");
    assert_eq!(pod["ephemeral-storage"]["usedBytes"], 100 + 7 + 1000);
    let small = summary::summary(&a_sample(), true);
    assert!(small["pods"][0].get("network").is_none() && small["node"].get("fs").is_none());
}

#[test]
fn metrics_have_upstreams_names() {
    let text = metrics::resource(Some(&a_sample()));
    for line in [
        "# TYPE container_cpu_usage_seconds_total counter",
        "container_cpu_usage_seconds_total{container=\"c\",namespace=\"n\",pod=\"p\"} 1.5 1795255200000",
        "container_memory_working_set_bytes{container=\"c\",namespace=\"n\",pod=\"p\"} 4096 1795255200000",
        "container_start_time_seconds{container=\"c\",namespace=\"n\",pod=\"p\"} 1795255200",
        "node_cpu_usage_seconds_total 60 1795255200000",
        "node_memory_working_set_bytes 300 1795255200000",
        "pod_cpu_usage_seconds_total{namespace=\"n\",pod=\"p\"} 2 1795255200000",
        "resource_scrape_error 0",
    ] {
        assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
    }
    assert!(metrics::resource(None).ends_with("resource_scrape_error 1\n"));
    let text = metrics::cadvisor(&a_sample());
    let line = "container_cpu_usage_seconds_total{container=\"c\",cpu=\"total\",id=\"c1\",image=\"im\\\"age\",name=\"c1\",namespace=\"n\",pod=\"p\"} 1.5 1795255200000";
    assert!(text.lines().any(|l| l == line), "{text}");
    assert!(text.contains(
        "container_network_receive_bytes_total{container=\"\",id=\"s1\",image=\"\",interface=\"eth0\""
    ));
    let text = metrics::own("node", 3, &[("running", 4), ("exited", 1)]);
    assert!(text.contains("kubelet_running_containers{container_state=\"exited\"} 1\n"), "{text}");
}
