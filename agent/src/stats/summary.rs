//! `/stats/summary`, in the form of `stats/v1alpha1`.

use jiff::Timestamp;
use proto_cri as cri;
use serde_json::{Map, Value, json};

use super::{Container, Disk, Machine, Pod, Sample, figure};

/// The node and its pods; `cpu_and_memory` leaves out all else.
pub(crate) fn summary(sample: &Sample, cpu_and_memory: bool) -> Value {
    let mut node = node(&sample.node, &sample.machine, sample.at);
    if !cpu_and_memory {
        let at = time(sample.at);
        node.extend(network_of_machine(&sample.machine, &at));
        put(&mut node, "fs", sample.disk.map(|disk| file_system(&disk, &at)));
        let runtime = json!({
            "imageFs": sample.images.map(|disk| file_system(&disk, &at)),
            "containerFs": sample.layers.map(|disk| file_system(&disk, &at)),
        });
        put(&mut node, "runtime", Some(without_nulls(runtime)));
        let rlimit =
            json!({"time": at, "maxpid": sample.machine.processes_max, "curproc": sample.machine.processes});
        put(&mut node, "rlimit", Some(without_nulls(rlimit)));
    }
    let of_cpu = |of: fn(&cri::CpuUsage) -> Option<&cri::UInt64Value>| {
        sample.pods.iter().filter_map(|pod| figure(of(pod.linux.cpu.as_ref()?))).sum::<u64>()
    };
    let of_memory = |of: fn(&cri::MemoryUsage) -> Option<&cri::UInt64Value>| {
        sample.pods.iter().filter_map(|pod| figure(of(pod.linux.memory.as_ref()?))).sum::<u64>()
    };
    node.insert("systemContainers".to_owned(), json!([{
        "name": "pods", "startTime": sample.machine.booted.map(time),
        "cpu": {"time": time(sample.at), "usageNanoCores": of_cpu(|cpu| cpu.usage_nano_cores.as_ref()),
            "usageCoreNanoSeconds": of_cpu(|cpu| cpu.usage_core_nano_seconds.as_ref())},
        "memory": {"time": time(sample.at), "workingSetBytes": of_memory(|memory| memory.working_set_bytes.as_ref()),
            "usageBytes": of_memory(|memory| memory.usage_bytes.as_ref()),
            "rssBytes": of_memory(|memory| memory.rss_bytes.as_ref())},
    }]));
    let pods: Vec<Value> = sample.pods.iter().map(|pod| of_pod(pod, sample, cpu_and_memory)).collect();
    json!({"node": node, "pods": pods})
}

fn node(name: &str, machine: &Machine, at: Timestamp) -> Map<String, Value> {
    let at = time(at);
    let mut node = Map::new();
    node.insert("nodeName".to_owned(), name.into());
    node.insert("startTime".to_owned(), json!(machine.booted.map(time)));
    let cpu = machine.cpu_nanoseconds.map(|used| {
        without_nulls(json!({"time": at, "usageNanoCores": machine.nano_cores, "usageCoreNanoSeconds": used}))
    });
    put(&mut node, "cpu", cpu);
    let Some(memory) = &machine.memory else { return node };
    let figures = json!({
        "time": at, "availableBytes": memory.available, "usageBytes": memory.total.saturating_sub(memory.free),
        "workingSetBytes": memory.total.saturating_sub(memory.available), "rssBytes": memory.rss,
        "pageFaults": memory.page_faults, "majorPageFaults": memory.major_page_faults,
    });
    put(&mut node, "memory", Some(without_nulls(figures)));
    let used = memory.swap_total.saturating_sub(memory.swap_free);
    let swap = json!({"time": at, "swapAvailableBytes": memory.swap_free, "swapUsageBytes": used});
    put(&mut node, "swap", Some(swap));
    node
}

fn network_of_machine(machine: &Machine, at: &Value) -> Map<String, Value> {
    let one = |i: &super::machine::Interface| json!({"name": i.name, "rxBytes": i.rx_bytes, "rxErrors": i.rx_errors, "txBytes": i.tx_bytes, "txErrors": i.tx_errors});
    let mut network = match machine.interfaces.iter().find(|i| i.name == machine.default_interface) {
        Some(default) => one(default),
        None => json!({"name": ""}),
    };
    network["time"] = at.clone();
    network["interfaces"] = machine.interfaces.iter().map(one).collect();
    Map::from_iter([("network".to_owned(), network)])
}

fn of_pod(pod: &Pod, sample: &Sample, cpu_and_memory: bool) -> Value {
    let mut value = json!({
        "podRef": {"name": pod.name, "namespace": pod.namespace, "uid": pod.uid},
        "startTime": pod.started.map(time),
        "containers": pod.containers.iter().map(|c| of_container(c, sample, cpu_and_memory)).collect::<Vec<_>>(),
        "cpu": pod.linux.cpu.as_ref().map(cpu),
        "memory": pod.linux.memory.as_ref().map(memory),
    });
    let swaps = pod.containers.iter().filter_map(|c| c.stats.swap.as_ref());
    if swaps.clone().next().is_some() {
        let sum = |of: fn(&cri::SwapUsage) -> Option<&cri::UInt64Value>| {
            swaps.clone().filter_map(|swap| figure(of(swap))).sum::<u64>()
        };
        value["swap"] =
            json!({"time": time(sample.at), "swapUsageBytes": sum(|s| s.swap_usage_bytes.as_ref())});
    }
    if !cpu_and_memory {
        value["network"] = pod.linux.network.as_ref().map(network).into();
        value["process_stats"] =
            match figure(pod.linux.process.as_ref().and_then(|p| p.process_count.as_ref())) {
                Some(count) => json!({"process_count": count}),
                None => Value::Null,
            };
        let at = time(sample.at);
        let volumes = pod.volumes.iter().map(|(name, disk)| {
            let mut value = file_system(disk, &at);
            value["name"] = name.as_str().into();
            value
        });
        value["volume"] = volumes.collect();
        value["ephemeral-storage"] = ephemeral(pod, sample);
    }
    without_nulls(value)
}

/// What the pod itself uses of the disk: writable layers, logs, volumes.
fn ephemeral(pod: &Pod, sample: &Sample) -> Value {
    let Some(disk) = sample.disk else { return Value::Null };
    let layers = pod.containers.iter().filter_map(|c| c.stats.writable_layer.as_ref());
    let layers = layers.map(|l| (figure(l.used_bytes.as_ref()), figure(l.inodes_used.as_ref())));
    let layers = layers.map(|(bytes, inodes)| (bytes.unwrap_or_default(), inodes.unwrap_or_default()));
    let others =
        pod.containers.iter().filter_map(|c| c.logs).chain(pod.volumes.iter().map(|(_, disk)| *disk));
    let all = layers.chain(others.map(|disk| (disk.used, disk.inodes_used)));
    let (used, inodes) = all.fold((0, 0), |(bytes, inodes), (b, i)| (bytes + b, inodes + i));
    file_system(&disk.with(used, inodes), &time(sample.at))
}

fn of_container(container: &Container, sample: &Sample, cpu_and_memory: bool) -> Value {
    let mut value = json!({
        "name": container.name,
        "startTime": container.started.map(time),
        "cpu": container.stats.cpu.as_ref().map(cpu),
        "memory": container.stats.memory.as_ref().map(memory),
        "swap": container.stats.swap.as_ref().map(|swap| without_nulls(json!({
            "time": nanoseconds(swap.timestamp),
            "swapAvailableBytes": figure(swap.swap_available_bytes.as_ref()),
            "swapUsageBytes": figure(swap.swap_usage_bytes.as_ref()),
        }))),
    });
    if !cpu_and_memory {
        let layer = container.stats.writable_layer.as_ref();
        let rootfs = layer.zip(sample.layers.or(sample.images)).map(|(layer, disk)| {
            let used = figure(layer.used_bytes.as_ref()).unwrap_or_default();
            let inodes = figure(layer.inodes_used.as_ref()).unwrap_or_default();
            file_system(&disk.with(used, inodes), &nanoseconds(layer.timestamp))
        });
        value["rootfs"] = rootfs.into();
        value["logs"] = container.logs.map(|disk| file_system(&disk, &time(sample.at))).into();
    }
    without_nulls(value)
}

fn cpu(cpu: &cri::CpuUsage) -> Value {
    without_nulls(json!({
        "time": nanoseconds(cpu.timestamp),
        "usageNanoCores": figure(cpu.usage_nano_cores.as_ref()),
        "usageCoreNanoSeconds": figure(cpu.usage_core_nano_seconds.as_ref()),
        "psi": cpu.psi.as_ref().map(stalls),
    }))
}

fn memory(memory: &cri::MemoryUsage) -> Value {
    without_nulls(json!({
        "time": nanoseconds(memory.timestamp),
        "availableBytes": figure(memory.available_bytes.as_ref()),
        "usageBytes": figure(memory.usage_bytes.as_ref()),
        "workingSetBytes": figure(memory.working_set_bytes.as_ref()),
        "rssBytes": figure(memory.rss_bytes.as_ref()),
        "pageFaults": figure(memory.page_faults.as_ref()),
        "majorPageFaults": figure(memory.major_page_faults.as_ref()),
        "psi": memory.psi.as_ref().map(stalls),
    }))
}

fn stalls(stalls: &cri::PsiStats) -> Value {
    let one = |data: Option<&cri::PsiData>| {
        let data = data.copied().unwrap_or_default();
        json!({"total": data.total, "avg10": data.avg10, "avg60": data.avg60, "avg300": data.avg300})
    };
    json!({"full": one(stalls.full.as_ref()), "some": one(stalls.some.as_ref())})
}

fn network(network: &cri::NetworkUsage) -> Value {
    let one = |i: &cri::NetworkInterfaceUsage| {
        json!({"name": i.name, "rxBytes": figure(i.rx_bytes.as_ref()), "rxErrors": figure(i.rx_errors.as_ref()),
            "txBytes": figure(i.tx_bytes.as_ref()), "txErrors": figure(i.tx_errors.as_ref())})
    };
    let mut value = network.default_interface.as_ref().map_or_else(|| json!({"name": ""}), one);
    value["time"] = nanoseconds(network.timestamp);
    value["interfaces"] = network.default_interface.iter().chain(&network.interfaces).map(one).collect();
    without_nulls(value)
}

fn file_system(disk: &Disk, at: &Value) -> Value {
    json!({
        "time": at, "availableBytes": disk.available, "capacityBytes": disk.capacity, "usedBytes": disk.used,
        "inodesFree": disk.inodes_free, "inodes": disk.inodes, "inodesUsed": disk.inodes_used,
    })
}

/// As Kubernetes writes times: to the second.
fn time(at: Timestamp) -> Value {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string().into()
}

fn nanoseconds(at: i64) -> Value {
    Timestamp::from_nanosecond(i128::from(at)).map_or(Value::Null, time)
}

fn put(map: &mut Map<String, Value>, key: &str, value: Option<Value>) {
    if let Some(value) = value {
        map.insert(key.to_owned(), value);
    }
}

/// Without the members that are not known.
fn without_nulls(mut value: Value) -> Value {
    if let Some(map) = value.as_object_mut() {
        map.retain(|_, member| !member.is_null());
    }
    value
}
