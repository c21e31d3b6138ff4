//! What the kernel tells of the whole machine.

use std::fs;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use jiff::Timestamp;

/// The ticks of a second in which `/proc` counts, the same on every architecture we run on.
const TICK_NANOSECONDS: u64 = 10_000_000;
/// Two looks at the processors that are closer tell nothing, in nanoseconds.
const APART: u128 = 1_000_000_000;

/// The machine at one moment; what cannot be read is missing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Machine {
    pub(crate) booted: Option<Timestamp>,
    pub(crate) cpu_nanoseconds: Option<u64>,
    pub(crate) nano_cores: Option<u64>,
    pub(crate) cores: usize,
    pub(crate) memory: Option<Memory>,
    pub(crate) interfaces: Vec<Interface>,
    /// The interface of the default route.
    pub(crate) default_interface: String,
    pub(crate) processes: Option<u64>,
    pub(crate) processes_max: Option<u64>,
}

/// In bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Memory {
    pub(crate) total: u64,
    pub(crate) free: u64,
    pub(crate) available: u64,
    pub(crate) rss: u64,
    pub(crate) swap_total: u64,
    pub(crate) swap_free: u64,
    pub(crate) page_faults: Option<u64>,
    pub(crate) major_page_faults: Option<u64>,
}

/// A network interface.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Interface {
    pub(crate) name: String,
    pub(crate) rx_bytes: u64,
    pub(crate) rx_errors: u64,
    pub(crate) tx_bytes: u64,
    pub(crate) tx_errors: u64,
}

/// Remembers how far the processors were at the last look.
#[derive(Default)]
pub(crate) struct Meter(Mutex<Option<Looked>>);

#[derive(Clone, Copy)]
struct Looked {
    at: Instant,
    used: u64,
    nano_cores: Option<u64>,
}

impl Meter {
    pub(crate) fn read(&self) -> Machine {
        let text = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let stat = text("/proc/stat");
        let cpu_nanoseconds = used(&stat);
        let number = |path: &str| text(path).trim().parse::<u64>().ok();
        let most = number("/proc/sys/kernel/pid_max").zip(number("/proc/sys/kernel/threads-max"));
        Machine {
            booted: booted(&stat),
            cpu_nanoseconds,
            nano_cores: cpu_nanoseconds.and_then(|used| self.rate(Instant::now(), used)),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            memory: memory(&text("/proc/meminfo"), &text("/proc/vmstat")),
            interfaces: interfaces(&text("/proc/net/dev")),
            default_interface: default_interface(&text("/proc/net/route")),
            processes: text("/proc/loadavg")
                .split_whitespace()
                .nth(3)
                .and_then(|n| n.split_once('/')?.1.parse().ok()),
            processes_max: most.map(|(pids, threads)| pids.min(threads)),
        }
    }

    /// Billionths of a core used between the last look and this one.
    fn rate(&self, at: Instant, used: u64) -> Option<u64> {
        let mut looked = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(before) = *looked else {
            *looked = Some(Looked { at, used, nano_cores: None });
            return None;
        };
        let elapsed = at.duration_since(before.at).as_nanos();
        if elapsed < APART {
            return before.nano_cores;
        }
        let rate = u128::from(used.saturating_sub(before.used)) * 1_000_000_000 / elapsed;
        let nano_cores = u64::try_from(rate).ok();
        *looked = Some(Looked { at, used, nano_cores });
        nano_cores
    }
}

/// Processor time used, of all cores: all but idle and waiting for disks.
fn used(stat: &str) -> Option<u64> {
    let line = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
    let ticks: Vec<u64> = line.split_whitespace().map_while(|n| n.parse().ok()).collect();
    // user nice system idle iowait irq softirq steal; what guests use is part of user and nice.
    let busy: u64 =
        ticks.iter().take(8).enumerate().filter(|(at, _)| !matches!(at, 3 | 4)).map(|(_, n)| n).sum();
    (ticks.len() >= 4).then(|| busy.saturating_mul(TICK_NANOSECONDS))
}

fn booted(stat: &str) -> Option<Timestamp> {
    let seconds = stat.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()?;
    Timestamp::from_second(seconds).ok()
}

fn memory(meminfo: &str, vmstat: &str) -> Option<Memory> {
    let bytes = |key: &str| {
        let line = meminfo.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
        line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
    };
    let count = |key: &str| {
        let line = vmstat.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' '))?;
        line.trim().parse().ok()
    };
    Some(Memory {
        total: bytes("MemTotal")?,
        free: bytes("MemFree")?,
        available: bytes("MemAvailable")?,
        rss: bytes("AnonPages").unwrap_or_default(),
        swap_total: bytes("SwapTotal").unwrap_or_default(),
        swap_free: bytes("SwapFree").unwrap_or_default(),
        page_faults: count("pgfault"),
        major_page_faults: count("pgmajfault"),
    })
}

/// All interfaces but the loopback.
fn interfaces(dev: &str) -> Vec<Interface> {
    let lines = dev.lines().filter_map(|line| line.split_once(':')).map(|(name, rest)| (name.trim(), rest));
    let read = |(name, rest): (&str, &str)| {
        let figures: Vec<u64> = rest.split_whitespace().map_while(|n| n.parse().ok()).collect();
        let [rx_bytes, _, rx_errors, _, _, _, _, _, tx_bytes, _, tx_errors, ..] = *figures.as_slice() else {
            return None;
        };
        Some(Interface { name: name.to_owned(), rx_bytes, rx_errors, tx_bytes, tx_errors })
    };
    lines.filter(|(name, _)| *name != "lo").filter_map(read).collect()
}

fn default_interface(route: &str) -> String {
    let mut routes = route.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
    let default =
        routes.find(|fields| fields.get(1) == Some(&"00000000") && fields.get(7) == Some(&"00000000"));
    default.and_then(|fields| fields.first().copied()).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn files_are_read_as_the_kernel_writes_them() {
        let stat = "cpu  100 10 50 9000 40 5 5 0 0 0\ncpu0 1 1 1 1\nbtime 1700000000\n";
        assert_eq!(used(stat), Some(170 * TICK_NANOSECONDS));
        assert_eq!(booted(stat).unwrap().as_second(), 1_700_000_000);
        let meminfo = "MemTotal:  1000 kB\nMemFree: 200 kB\nMemAvailable: 600 kB\nAnonPages: 30 kB\nSwapTotal: 0 kB\nSwapFree: 0 kB\n";
        let read = memory(meminfo, "pgfault 7\npgmajfault 2\n").unwrap();
        assert_eq!((read.total, read.available, read.rss), (1000 << 10, 600 << 10, 30 << 10));
        assert_eq!((read.page_faults, read.major_page_faults), (Some(7), Some(2)));
        assert_eq!(memory("MemTotal: 1 kB\n", ""), None);
        let dev = "Inter-| Receive | Transmit\n face |bytes packets\n    lo: 1 1 0 0 0 0 0 0 1 1 0 0 0 0 0 0\n  eth0: 10 1 2 0 0 0 0 0 20 1 3 0 0 0 0 0\n";
        let eth0 = Interface { name: "eth0".into(), rx_bytes: 10, rx_errors: 2, tx_bytes: 20, tx_errors: 3 };
        assert_eq!(interfaces(dev), [eth0]);
        let route = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\neth1\t0000000A\t0\t1\t0\t0\t0\t000000FF\neth0\t00000000\t0100000A\t3\t0\t0\t0\t00000000\n";
        assert_eq!(default_interface(route), "eth0");
    }

    #[test]
    fn a_rate_needs_two_looks_apart() {
        let (meter, start) = (Meter::default(), Instant::now());
        let at = |milliseconds| start + Duration::from_millis(milliseconds);
        assert_eq!(meter.rate(at(0), 5_000_000_000), None);
        assert_eq!(meter.rate(at(500), 6_000_000_000), None);
        assert_eq!(meter.rate(at(2000), 8_000_000_000), Some(1_500_000_000));
        assert_eq!(meter.rate(at(2001), 9_000_000_000), Some(1_500_000_000));
        assert_eq!(meter.rate(at(4000), 1), Some(0));
    }

    #[test]
    fn this_machine_is_something() {
        let machine = Meter::default().read();
        assert!(machine.cpu_nanoseconds.is_some_and(|n| n > 0) && machine.memory.is_some());
        assert!(machine.processes.is_some() && machine.booted.is_some());
    }
}
