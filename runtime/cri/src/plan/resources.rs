//! CRI resources as OCI resources.

use oci_spec::runtime::{LinuxCpu, LinuxDeviceCgroup, LinuxHugepageLimit, LinuxMemory, LinuxResources};
use proto_cri::LinuxContainerResources;

use super::{Host, PlanError};

/// The least memory limit that makes sense; below it the runtime cannot start a process.
const MEMORY_BYTES_MIN: i64 = 1 << 20;

/// Limits of a container; 0 and empty mean "not set". Devices are not part of it.
pub(crate) fn resources(wished: &LinuxContainerResources, host: &Host) -> Result<LinuxResources, PlanError> {
    let mut resources = LinuxResources::default();
    resources.set_devices(None);
    resources.set_cpu(cpu(wished)?);
    resources.set_memory(memory(wished, host)?);
    let pages = wished.hugepage_limits.iter().map(|limit| {
        let mut page = LinuxHugepageLimit::default();
        page.set_page_size(limit.page_size.clone());
        page.set_limit(i64::try_from(limit.limit).unwrap_or(i64::MAX));
        page
    });
    let pages: Vec<_> = pages.collect();
    resources.set_hugepage_limits((!pages.is_empty()).then_some(pages));
    if !wished.unified.is_empty() {
        if !host.cgroup_v2 {
            return Err(PlanError::invalid(
                "linux.resources.unified",
                "needs cgroup v2, this machine has v1",
            ));
        }
        if let Some(key) = wished.unified.keys().find(|key| key.contains('/') || !key.contains('.')) {
            let message = format!("{key:?} is no cgroup v2 file name such as memory.high");
            return Err(PlanError::invalid("linux.resources.unified", message));
        }
        resources.set_unified(Some(wished.unified.clone()));
    }
    Ok(resources)
}

fn cpu(wished: &LinuxContainerResources) -> Result<Option<LinuxCpu>, PlanError> {
    let positive = |value: i64, field: &str| match u64::try_from(value) {
        Ok(0) => Ok(None),
        Ok(value) => Ok(Some(value)),
        Err(_) => Err(PlanError::invalid(field, format!("{value} is negative"))),
    };
    let text = |value: &str| (!value.is_empty()).then(|| value.to_owned());
    let mut cpu = LinuxCpu::default();
    cpu.set_shares(positive(wished.cpu_shares, "linux.resources.cpu_shares")?);
    cpu.set_period(positive(wished.cpu_period, "linux.resources.cpu_period")?);
    cpu.set_quota((wished.cpu_quota != 0).then_some(wished.cpu_quota));
    cpu.set_cpus(text(&wished.cpuset_cpus));
    cpu.set_mems(text(&wished.cpuset_mems));
    Ok((cpu != LinuxCpu::default()).then_some(cpu))
}

/// Without a wish about swap there is none: a limit on memory that swap can evade is no limit.
fn memory(wished: &LinuxContainerResources, host: &Host) -> Result<Option<LinuxMemory>, PlanError> {
    let (limit, swap) = (wished.memory_limit_in_bytes, wished.memory_swap_limit_in_bytes);
    if limit > 0 && limit < MEMORY_BYTES_MIN {
        let message = format!("{limit} is below {MEMORY_BYTES_MIN}; a process cannot start with so little");
        return Err(PlanError::invalid("linux.resources.memory_limit_in_bytes", message));
    }
    if swap > 0 && limit > swap {
        let message = format!("{swap} is below the memory limit {limit}; it counts memory and swap together");
        return Err(PlanError::invalid("linux.resources.memory_swap_limit_in_bytes", message));
    }
    let mut memory = LinuxMemory::default();
    memory.set_limit((limit != 0).then_some(limit));
    if host.swap_limit {
        memory.set_swap(match swap {
            0 => (limit > 0).then_some(limit),
            swap => Some(swap),
        });
    }
    Ok((memory != LinuxMemory::default()).then_some(memory))
}

/// The device rule every container starts from: nothing, or for privileged ones everything.
pub(crate) fn device_rule(allow: bool) -> LinuxDeviceCgroup {
    let mut rule = LinuxDeviceCgroup::default();
    rule.set_allow(allow).set_access(Some("rwm".to_owned())).set_typ(None);
    rule
}

/// `oom_score_adj` as far as this process may set it: only with `CAP_SYS_RESOURCE` may it be lowered.
pub(crate) fn oom_score_adj(wished: i64, host: &Host) -> i32 {
    let wished = i32::try_from(wished.clamp(-1000, 1000)).unwrap_or(0);
    host.oom_score_adj_min.map_or(wished, |least| wished.max(least))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host() -> Host {
        Host { swap_limit: true, ..Host::default() }
    }

    #[test]
    fn zero_means_unset() {
        let planned = resources(&LinuxContainerResources::default(), &host()).unwrap();
        assert_eq!((planned.cpu(), planned.memory(), planned.hugepage_limits()), (&None, &None, &None));
    }

    #[test]
    fn memory_without_swap_wish_disables_swap() {
        for (limit, swap, controller, expected) in [
            (1 << 30, 0, true, Some(1 << 30)),
            (1 << 30, 0, false, None),
            (1 << 30, 1 << 31, true, Some(1 << 31)),
            (0, 0, true, None),
            (1 << 30, -1, true, Some(-1)),
        ] {
            let wished = LinuxContainerResources {
                memory_limit_in_bytes: limit,
                memory_swap_limit_in_bytes: swap,
                ..Default::default()
            };
            let host = Host { swap_limit: controller, ..host() };
            let planned = resources(&wished, &host).unwrap();
            assert_eq!(planned.memory().as_ref().and_then(|memory| memory.swap()), expected);
        }
    }

    #[test]
    fn refusals() {
        for (wished, expected) in [
            (LinuxContainerResources { cpu_shares: -1, ..Default::default() }, "cpu_shares"),
            (LinuxContainerResources { memory_limit_in_bytes: 4096, ..Default::default() }, "memory_limit"),
            (
                LinuxContainerResources {
                    memory_limit_in_bytes: 1 << 30,
                    memory_swap_limit_in_bytes: 1 << 29,
                    ..Default::default()
                },
                "memory_swap_limit",
            ),
            (
                LinuxContainerResources {
                    unified: [("memory.high".to_owned(), "1".to_owned())].into(),
                    ..Default::default()
                },
                "cgroup v2",
            ),
        ] {
            let error = resources(&wished, &host()).unwrap_err().to_string();
            assert!(error.contains(expected), "{error} lacks {expected}");
        }
    }

    #[test]
    fn oom_score_is_clamped() {
        let bound = Host { oom_score_adj_min: Some(0), ..Host::default() };
        assert_eq!(oom_score_adj(-998, &bound), 0);
        assert_eq!(oom_score_adj(-998, &Host::default()), -998);
        assert_eq!(oom_score_adj(5000, &bound), 1000);
    }
}
