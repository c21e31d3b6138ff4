//! The steps that make a process what its configuration says, from limits to the program itself.

use oci_spec::runtime::{Linux, LinuxPersonalityDomain};

use super::{Action, Host, Step};
use crate::spec::{Capabilities, Config, Process};

/// Of a container's first process.
pub(super) fn first(config: &Config, linux: &Linux, host: &Host, steps: &mut Vec<Step>) {
    if let Some(personality) = linux.personality() {
        let domain = match personality.domain() {
            LinuxPersonalityDomain::PerLinux => 0,
            LinuxPersonalityDomain::PerLinux32 => 8,
        };
        steps.push(Action::Personality(domain).into());
    }
    let seccomp = config.seccomp.is_some();
    // The start hooks run with the user's rights, as its program does.
    become_user(&config.process, host, seccomp, &[Action::AwaitStart, Action::StartHooks], steps);
}

/// Of a process that joins a container.
pub(crate) fn process(process: &Process, host: &Host, seccomp: bool) -> Vec<Step> {
    let mut steps = Vec::new();
    if process.terminal {
        steps.push(Action::OpenTerminal { size: process.console_size, owner: process.uid }.into());
    }
    become_user(process, host, seccomp, &[], &mut steps);
    steps
}

fn become_user(process: &Process, host: &Host, seccomp: bool, waiting: &[Action], steps: &mut Vec<Step>) {
    let mut add = |action: Action| steps.push(action.into());
    add(Action::Standard { owner: process.uid });
    if let Some(wanted) = process.oom_score_adj {
        // Without CAP_SYS_RESOURCE it only goes up.
        let value = if host.raises_limits() { wanted } else { wanted.max(host.oom_score_adj) };
        add(Action::OomScoreAdj(value));
    }
    for &(resource, soft, hard) in &process.rlimits {
        let most = host.hard_limits.get(resource as usize).copied().unwrap_or(u64::MAX);
        let hard = if host.raises_limits() { hard } else { hard.min(most) };
        add(Action::ResourceLimit { resource, soft: soft.min(hard), hard });
    }
    if let Some(scheduler) = process.scheduler {
        add(Action::Scheduler(scheduler));
    }
    if let Some((class, level)) = process.io_priority {
        add(Action::IoPriority(class, level));
    }
    let capabilities = available(process.capabilities, host);
    if process.no_new_privileges {
        add(Action::NoNewPrivileges);
    } else if seccomp {
        // Without no_new_privs a filter needs CAP_SYS_ADMIN, so it comes while that is still there and the profile
        // must allow what follows.
        add(Action::Seccomp);
    }
    add(Action::EnterDirectory(process.cwd.clone()));
    let known = u64::MAX >> (63 - host.last_capability.min(63));
    add(Action::DropBounding(known & !capabilities.bounding));
    add(Action::User { uid: process.uid, gid: process.gid, groups: process.groups.clone() });
    add(Action::Capabilities(capabilities));
    add(Action::WorkingDirectory(process.cwd.clone()));
    add(Action::Umask(process.umask));
    add(Action::FindProgram);
    for action in waiting {
        add(action.clone());
    }
    add(Action::CloseOnExec);
    if process.no_new_privileges && seccomp {
        add(Action::Seccomp);
    }
    add(Action::Execute);
}

/// What this process can hand on of the capabilities asked for; the rest is left out, as the spec says
/// (config.md#linux-process). An ambient one needs its permitted and inheritable twin.
fn available(asked: Capabilities, host: &Host) -> Capabilities {
    let permitted = asked.permitted & host.capabilities;
    let inheritable = asked.inheritable & host.capabilities;
    Capabilities {
        bounding: asked.bounding & host.capabilities,
        effective: asked.effective & permitted,
        permitted,
        inheritable,
        ambient: asked.ambient & permitted & inheritable,
    }
}
