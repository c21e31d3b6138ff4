//! What the kernel knows of this process, under the names that every client of Prometheus gives it.

use std::fmt::Write as _;

/// The ticks of a second in which `/proc` counts: the same on every architecture we run on.
const TICKS: f64 = 100.0;

/// The figures in Prometheus' text form; what cannot be read is left out.
#[must_use]
pub fn text() -> String {
    let mut text = String::new();
    let mut add = |name: &str, kind: &str, help: &str, value: Option<f64>| {
        if let Some(value) = value {
            let _ = write!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}\n");
        }
    };
    add("process_cpu_seconds_total", "counter", "Processor time used.", cpu_seconds());
    add("process_start_time_seconds", "gauge", "When the process began, since 1970.", began());
    let memory = |key: &str| member("/proc/self/status", key).map(|kilobytes| kilobytes * 1024.0);
    add("process_resident_memory_bytes", "gauge", "Memory in use.", memory("VmRSS:"));
    add("process_virtual_memory_bytes", "gauge", "Addresses in use.", memory("VmSize:"));
    add("process_open_fds", "gauge", "Files and connections that are open.", open_files());
    add("process_max_fds", "gauge", "How many may be open.", member("/proc/self/limits", "Max open files"));
    text
}

/// The first number behind a key of a file in `/proc`.
fn member(file: &str, key: &str) -> Option<f64> {
    let text = std::fs::read_to_string(file).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    line.split_whitespace().next()?.parse().ok()
}

/// A number of `/proc/self/stat`, counted from behind the program's name, which may hold anything.
fn stat(at: usize) -> Option<f64> {
    let text = std::fs::read_to_string("/proc/self/stat").ok()?;
    text.rsplit_once(") ")?.1.split(' ').nth(at)?.parse().ok()
}

fn cpu_seconds() -> Option<f64> {
    Some((stat(11)? + stat(12)?) / TICKS)
}

fn began() -> Option<f64> {
    Some(member("/proc/stat", "btime")? + stat(19)? / TICKS)
}

fn open_files() -> Option<f64> {
    // One of them is the directory that is being read.
    let count = std::fs::read_dir("/proc/self/fd").ok()?.count().saturating_sub(1);
    u32::try_from(count).ok().map(f64::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_are_there() {
        let text = text();
        assert_eq!(text.lines().filter(|line| !line.starts_with('#')).count(), 6, "{text}");
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
        let began = began().unwrap();
        assert!(began < now + 1.0 && now - began < 86_400.0, "{began} {now}");
        assert!(open_files().unwrap() >= 3.0);
    }
}
