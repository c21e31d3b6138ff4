//! The end of an exec session that ran out of time: its process and what that started.

use std::collections::BTreeSet;

use linux::stat::{self, Stat};
use rustix::process::{Pid, Signal, kill_process};

/// Kills the process `root`, its descendants, and every process of the session it leads. They are stopped first, so
/// that none starts another one meanwhile. One that had left both family and session before is not found.
pub(crate) fn kill(root: u32) -> std::io::Result<()> {
    let mut stopped = BTreeSet::new();
    loop {
        let found = doomed(&stat::all()?, root);
        let new: Vec<u32> = found.difference(&stopped).copied().collect();
        if new.is_empty() {
            break;
        }
        new.iter().for_each(|pid| send(*pid, Signal::STOP));
        stopped.extend(new);
    }
    stopped.into_iter().for_each(|pid| send(pid, Signal::KILL));
    Ok(())
}

fn send(pid: u32, signal: Signal) {
    if let Some(pid) = pid.try_into().ok().and_then(Pid::from_raw) {
        // One that ended meanwhile needs no signal.
        let _ = kill_process(pid, signal);
    }
}

/// The members of the session of `root` and all descendants of them, but no zombies.
fn doomed(processes: &[(u32, Stat)], root: u32) -> BTreeSet<u32> {
    let living = || processes.iter().filter(|(_, stat)| stat.state != 'Z');
    let mut found: BTreeSet<u32> =
        living().filter(|(pid, stat)| *pid == root || stat.session == root).map(|(pid, _)| *pid).collect();
    loop {
        let children: Vec<u32> = living()
            .filter(|(pid, stat)| found.contains(&stat.parent) && !found.contains(pid))
            .map(|(pid, _)| *pid)
            .collect();
        if children.is_empty() {
            return found;
        }
        found.extend(children);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn family_and_session_but_nobody_else() {
        let process = |pid, parent, session, state| (pid, Stat { state, parent, session, start_time: 0 });
        let processes = [
            process(1, 0, 1, 'S'),
            process(10, 1, 10, 'S'),
            process(11, 10, 10, 'R'),
            process(12, 11, 12, 'S'), // a session of its own, but a child
            process(13, 12, 12, 'D'),
            process(14, 1, 10, 'S'), // an orphan of the session
            process(15, 14, 15, 'S'),
            process(16, 10, 10, 'Z'),
            process(20, 1, 20, 'S'),
            process(21, 20, 20, 'S'),
        ];
        assert_eq!(doomed(&processes, 10), BTreeSet::from([10, 11, 12, 13, 14, 15]));
        assert_eq!(doomed(&processes, 99), BTreeSet::new());
    }
}
