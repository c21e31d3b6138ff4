//! Lines of `/proc/<pid>/stat`: who a process is and where it came from.

use std::io;

/// What `/proc/<pid>/stat` says of a process (proc_pid_stat(5)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    /// `R`, `S`, `D`, `Z` …: field 3.
    pub state: char,
    /// Parent: field 4.
    pub parent: u32,
    /// Session: field 6.
    pub session: u32,
    /// Start in clock ticks since boot: field 22.
    pub start_time: u64,
}

/// The line of one process.
///
/// # Errors
/// `NotFound` when there is no such process.
pub fn of(pid: u32) -> io::Result<Stat> {
    let line = std::fs::read_to_string(format!("/proc/{pid}/stat")).map_err(|error| {
        // A process that ends between open and read.
        if error.raw_os_error() == Some(libc::ESRCH) { io::ErrorKind::NotFound.into() } else { error }
    })?;
    parse(&line)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, format!("/proc/{pid}/stat: {line:?}")))
}

/// The lines of all processes, by process id. Those that end meanwhile are left out.
///
/// # Errors
/// When `/proc` cannot be listed.
pub fn all() -> io::Result<Vec<(u32, Stat)>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc")? {
        if let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse().ok())
            && let Ok(stat) = of(pid)
        {
            found.push((pid, stat));
        }
    }
    Ok(found)
}

/// The name (field 2) stands in parentheses and may hold any byte, so fields count from the last parenthesis.
fn parse(line: &str) -> Option<Stat> {
    let fields: Vec<&str> = line[line.rfind(')')? + 1..].split_ascii_whitespace().collect();
    let field = |number: usize| fields.get(number - 3).copied();
    Some(Stat {
        state: field(3)?.chars().next()?,
        parent: field(4)?.parse().ok()?,
        session: field(6)?.parse().ok()?,
        start_time: field(22)?.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_hold_spaces_and_parentheses() {
        let line = "42 (a) b (c) S 7 42 41 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 987654 1 2";
        assert_eq!(parse(line), Some(Stat { state: 'S', parent: 7, session: 41, start_time: 987_654 }));
        assert_eq!(parse("42 (a S"), None);
        assert_eq!(parse("42 (a) S 7"), None);
    }

    #[test]
    fn this_process_is_listed() {
        let me = std::process::id();
        let stat = of(me).unwrap();
        assert!(all().unwrap().iter().any(|(pid, s)| *pid == me && s.start_time == stat.start_time));
        assert_eq!(of(u32::MAX >> 1).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
