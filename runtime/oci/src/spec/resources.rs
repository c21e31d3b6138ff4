//! `linux.resources` as limits of a cgroup.

use linux::cgroup::{Cpu, Device, DeviceKind, DeviceRule, Io, Limits, Memory};
use oci_spec::runtime::{LinuxBlockIo, LinuxDeviceCgroup, LinuxDeviceType, LinuxResources};

use crate::error::RuntimeError;

fn refuse<T>(field: &str, problem: &str) -> Result<T, RuntimeError> {
    Err(RuntimeError::spec(format!("linux.resources.{field}"), problem))
}

/// The limits that a configuration asks for. An absent device list stays absent.
pub(crate) fn limits(resources: &LinuxResources) -> Result<Limits, RuntimeError> {
    if resources.network().as_ref().is_some_and(|network| {
        network.class_id().is_some_and(|id| id != 0)
            || network.priorities().as_ref().is_some_and(|all| !all.is_empty())
    }) {
        return refuse("network", "network classes and priorities are not supported; remove them");
    }
    if resources.rdma().as_ref().is_some_and(|rdma| !rdma.is_empty()) {
        return refuse("rdma", "not supported; remove it");
    }
    let mut limits = Limits { cpu: cpu(resources)?, memory: memory(resources)?, ..Limits::default() };
    limits.pids = resources.pids().as_ref().map(oci_spec::runtime::LinuxPids::limit);
    if let Some(io) = resources.block_io() {
        limits.io = block_io(io)?;
    }
    for page in resources.hugepage_limits().iter().flatten() {
        limits.hugetlb.insert(page.page_size().clone(), page.limit());
    }
    limits.unified =
        resources.unified().iter().flatten().map(|(file, value)| (file.clone(), value.clone())).collect();
    limits.devices = match resources.devices() {
        Some(rules) => Some(rules.iter().map(device).collect::<Result<_, _>>()?),
        None => None,
    };
    Ok(limits)
}

fn cpu(resources: &LinuxResources) -> Result<Cpu, RuntimeError> {
    let Some(cpu) = resources.cpu() else { return Ok(Cpu::default()) };
    if cpu.realtime_runtime().is_some_and(|time| time != 0)
        || cpu.realtime_period().is_some_and(|time| time != 0)
    {
        return refuse("cpu.realtimeRuntime", "real-time scheduling of groups is not supported; remove it");
    }
    Ok(Cpu {
        // 0 is how Go's encoders write "not set".
        shares: cpu.shares().filter(|shares| *shares != 0),
        quota: cpu.quota().filter(|quota| *quota != 0),
        period: cpu.period().filter(|period| *period != 0),
        burst: cpu.burst(),
        idle: cpu.idle(),
        cpus: cpu.cpus().clone(),
        mems: cpu.mems().clone(),
    })
}

fn memory(resources: &LinuxResources) -> Result<Memory, RuntimeError> {
    let Some(memory) = resources.memory() else { return Ok(Memory::default()) };
    let limited = |bytes: Option<i64>| bytes.is_some_and(|bytes| bytes > 0);
    if limited(memory.kernel()) || limited(memory.kernel_tcp()) {
        return refuse("memory.kernel", "kernels since 5.16 do not limit it; remove it");
    }
    Ok(Memory {
        limit: memory.limit(),
        reservation: memory.reservation(),
        swap: memory.swap(),
        swappiness: memory.swappiness(),
        disable_oom_killer: memory.disable_oom_killer().filter(|disable| *disable),
    })
}

fn block_io(io: &LinuxBlockIo) -> Result<Io, RuntimeError> {
    if io.leaf_weight().is_some_and(|weight| weight != 0) {
        return refuse("blockIO.leafWeight", "no kernel since 5.0 has it; remove it");
    }
    let mut all = Io { weight: io.weight(), ..Io::default() };
    for device in io.weight_device().iter().flatten() {
        if let Some(weight) = device.weight() {
            all.weight_device.push((number(device.major(), device.minor())?, weight.into()));
        }
    }
    let rates = [
        (io.throttle_read_bps_device(), &mut all.read_bps),
        (io.throttle_write_bps_device(), &mut all.write_bps),
        (io.throttle_read_iops_device(), &mut all.read_iops),
        (io.throttle_write_iops_device(), &mut all.write_iops),
    ];
    for (from, to) in rates {
        for device in from.iter().flatten() {
            to.push((number(device.major(), device.minor())?, device.rate()));
        }
    }
    Ok(all)
}

fn number(major: i64, minor: i64) -> Result<Device, RuntimeError> {
    match (u32::try_from(major), u32::try_from(minor)) {
        (Ok(major), Ok(minor)) => Ok(Device { major, minor }),
        _ => refuse("blockIO", &format!("{major}:{minor} is not a device number")),
    }
}

fn device(rule: &LinuxDeviceCgroup) -> Result<DeviceRule, RuntimeError> {
    let kind = match rule.typ() {
        None | Some(LinuxDeviceType::A) => DeviceKind::All,
        Some(LinuxDeviceType::B) => DeviceKind::Block,
        Some(LinuxDeviceType::C | LinuxDeviceType::U) => DeviceKind::Char,
        Some(LinuxDeviceType::P) => return refuse("devices", "a FIFO is no device; remove the rule"),
    };
    // -1 is the older spelling of "any".
    let part = |part: Option<i64>| match part {
        None | Some(-1) => Ok(None),
        Some(part) => u32::try_from(part)
            .map(Some)
            .or_else(|_| refuse("devices", &format!("{part} is no device number"))),
    };
    let access = rule.access().as_deref().filter(|access| !access.is_empty()).unwrap_or("rwm");
    if let Some(other) = access.chars().find(|letter| !"rwm".contains(*letter)) {
        return refuse("devices", &format!("access {other:?}; use r, w and m"));
    }
    Ok(DeviceRule {
        allow: rule.allow(),
        kind,
        major: part(rule.major())?,
        minor: part(rule.minor())?,
        read: access.contains('r'),
        write: access.contains('w'),
        mknod: access.contains('m'),
    })
}
