//! From a profile to what it says about each number of each architecture.

use std::collections::BTreeMap;

use oci_spec::runtime::{
    LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompOperator, LinuxSyscall,
};

use super::SeccompError;
use super::syscalls::Abi;

const EPERM: u32 = 1;
const ENOSYS: u32 = 38;
const ERRNO_MAX: u32 = 4095;
/// `SECCOMP_RET_KILL_PROCESS`.
pub(super) const KILL_PROCESS: u32 = 0x8000_0000;
const RET_TRAP: u32 = 0x0003_0000;
const RET_ERRNO: u32 = 0x0005_0000;
const RET_NOTIFY: u32 = 0x7fc0_0000;
const RET_TRACE: u32 = 0x7ff0_0000;
const RET_LOG: u32 = 0x7ffc_0000;
const RET_ALLOW: u32 = 0x7fff_0000;
/// The part of a return value that is the action.
const ACTION_MASK: u32 = 0xffff_0000;
/// Where 32-bit ARM has its private calls, far above the others.
const ARM_PRIVATE: u32 = 0x000f_0000;
/// The runtime hands the listener on by these; a supervisor that has none yet cannot answer for them.
const NEVER_NOTIFY: [&str; 2] = ["write", "sendmsg"];

/// What a profile says about the calls of one ABI. Actions are `SECCOMP_RET_*` values with their data.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Policy {
    pub(super) abi: Abi,
    /// For numbers that no rule names, up to `last`.
    pub(super) default: u32,
    /// The highest number that a rule names.
    pub(super) last: u32,
    /// For numbers above `last`.
    pub(super) beyond: u32,
    pub(super) calls: BTreeMap<u32, Decision>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Decision {
    Always(u32),
    /// The action of the first clause that holds; the policy's default when none does.
    First(Vec<Clause>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Clause {
    /// All must hold.
    pub(super) conditions: Vec<Condition>,
    pub(super) action: u32,
}

/// A comparison of an argument, taken as an unsigned 64-bit number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Condition {
    pub(super) argument: u8,
    pub(super) op: LinuxSeccompOperator,
    pub(super) value: u64,
    /// For [`LinuxSeccompOperator::ScmpCmpMaskedEq`].
    pub(super) mask: u64,
}

/// The policies of the profile's ABIs, the native one first.
pub(super) fn resolve(profile: &LinuxSeccomp) -> Result<Vec<Policy>, SeccompError> {
    let native = Abi::native().ok_or(SeccompError::Architecture)?;
    let mut abis: Vec<Abi> =
        profile.architectures().iter().flatten().filter_map(|arch| Abi::of(*arch)).collect();
    abis.sort_by_key(|abi| (abi.audit_arch() != native.audit_arch(), *abi));
    abis.insert(0, native);
    let mut seen = Vec::new();
    abis.retain(|abi| {
        !seen.contains(abi) && {
            seen.push(*abi);
            true
        }
    });

    let default = default_action(profile)?;
    let rules = profile.syscalls().iter().flatten().enumerate();
    let rules = rules.map(|(index, rule)| Rule::parse(index, rule)).collect::<Result<Vec<_>, _>>()?;
    if let (true, None) = (notifies(profile), profile.listener_path()) {
        let place = "listenerPath".to_owned();
        return Err(SeccompError::Notify { place, reason: "needs a listenerPath to send the listener to" });
    }
    let beyond = beyond(profile, default);
    Ok(abis.into_iter().map(|abi| policy(abi, default, beyond, &rules)).collect())
}

/// Whether some rule asks a supervisor.
pub(super) fn notifies(profile: &LinuxSeccomp) -> bool {
    profile.syscalls().iter().flatten().any(|rule| rule.action() == LinuxSeccompAction::ScmpActNotify)
}

fn default_action(profile: &LinuxSeccomp) -> Result<u32, SeccompError> {
    let place = || "defaultAction".to_owned();
    if profile.default_action() == LinuxSeccompAction::ScmpActNotify {
        return Err(SeccompError::Notify { place: place(), reason: "cannot be the default action" });
    }
    action(profile.default_action(), profile.default_errno_ret(), place)
}

/// The action for calls newer than the profile: `ENOSYS` where the default would refuse them in another way.
fn beyond(profile: &LinuxSeccomp, default: u32) -> u32 {
    let lets_happen = matches!(default & ACTION_MASK, RET_ALLOW | RET_LOG | RET_TRACE);
    if lets_happen || profile.default_errno_ret() == Some(ENOSYS) { default } else { RET_ERRNO | ENOSYS }
}

fn action(
    action: LinuxSeccompAction,
    errno: Option<u32>,
    place: impl Fn() -> String,
) -> Result<u32, SeccompError> {
    use LinuxSeccompAction as A;
    match (action, errno) {
        (A::ScmpActErrno, Some(value)) if value > ERRNO_MAX => {
            return Err(SeccompError::Errno { place: place(), value });
        }
        (A::ScmpActTrace, Some(value)) if value > u32::from(u16::MAX) => {
            return Err(SeccompError::Errno { place: place(), value });
        }
        _ => {}
    }
    Ok(match action {
        A::ScmpActKill | A::ScmpActKillThread => 0,
        A::ScmpActKillProcess => KILL_PROCESS,
        A::ScmpActTrap => RET_TRAP,
        A::ScmpActErrno => RET_ERRNO | errno.unwrap_or(EPERM),
        A::ScmpActNotify => RET_NOTIFY,
        A::ScmpActTrace => RET_TRACE | errno.unwrap_or(EPERM),
        A::ScmpActLog => RET_LOG,
        A::ScmpActAllow => RET_ALLOW,
    })
}

/// A rule, checked. No alternative: it has no conditions.
struct Rule<'a> {
    names: &'a [String],
    action: u32,
    alternatives: Vec<Vec<Condition>>,
}

impl<'a> Rule<'a> {
    fn parse(index: usize, rule: &'a LinuxSyscall) -> Result<Rule<'a>, SeccompError> {
        let names = rule.names().as_slice();
        if names.is_empty() || names.iter().any(String::is_empty) {
            return Err(SeccompError::NoNames { rule: index });
        }
        let place = || format!("syscalls[{index}] ({})", names.join(", "));
        if rule.action() == LinuxSeccompAction::ScmpActNotify
            && names.iter().any(|name| NEVER_NOTIFY.contains(&name.as_str()))
        {
            let reason = "cannot be for write or sendmsg, by which the runtime hands the listener on";
            return Err(SeccompError::Notify { place: place(), reason });
        }
        let conditions = rule.args().iter().flatten().map(|arg| condition(index, arg));
        let conditions = conditions.collect::<Result<Vec<_>, _>>()?;
        let alternatives = if conditions.is_empty() {
            Vec::new()
        } else if repeats_an_argument(&conditions) {
            conditions.into_iter().map(|condition| vec![condition]).collect()
        } else {
            vec![conditions]
        };
        Ok(Rule { names, action: action(rule.action(), rule.errno_ret(), place)?, alternatives })
    }

    fn clauses(&self) -> impl Iterator<Item = Clause> + '_ {
        let always = self.alternatives.is_empty().then(Vec::new);
        let alternatives = self.alternatives.iter().cloned().chain(always);
        alternatives.map(|conditions| Clause { conditions, action: self.action })
    }
}

fn repeats_an_argument(conditions: &[Condition]) -> bool {
    let mut seen = [false; 6];
    conditions.iter().any(|condition| std::mem::replace(&mut seen[usize::from(condition.argument)], true))
}

fn condition(rule: usize, arg: &LinuxSeccompArg) -> Result<Condition, SeccompError> {
    let argument = u8::try_from(arg.index()).ok().filter(|index| *index < 6);
    let argument = argument.ok_or(SeccompError::ArgumentIndex { rule, index: arg.index() })?;
    let op = arg.op();
    Ok(if op == LinuxSeccompOperator::ScmpCmpMaskedEq {
        let (mask, value) = (arg.value(), arg.value_two().unwrap_or(0));
        Condition { argument, op, value: value & mask, mask }
    } else {
        Condition { argument, op, value: arg.value(), mask: u64::MAX }
    })
}

fn policy(abi: Abi, default: u32, beyond: u32, rules: &[Rule<'_>]) -> Policy {
    let mut clauses = BTreeMap::<u32, Vec<Clause>>::new();
    let mut last = None;
    for (rule, name) in rules.iter().flat_map(|rule| rule.names.iter().map(move |name| (rule, name))) {
        let number = abi.number(name);
        let public = number.filter(|number| abi != Abi::Arm || *number < ARM_PRIVATE);
        last = last.max(public);
        if rule.action == default {
            continue;
        }
        if let Some(number) = number {
            clauses.entry(number).or_default().extend(rule.clauses());
        }
        if let Some(multiplexed) = abi.multiplexed(name)
            && (rule.alternatives.is_empty() || stricter(rule.action, default))
        {
            let condition = Condition {
                argument: 0,
                op: LinuxSeccompOperator::ScmpCmpMaskedEq,
                value: multiplexed.call,
                mask: multiplexed.mask,
            };
            let clause = Clause { conditions: vec![condition], action: rule.action };
            clauses.entry(multiplexed.number).or_default().push(clause);
        }
    }
    let beyond = if last.is_some() { beyond } else { default };
    let calls = clauses.into_iter().map(|(number, clauses)| (number, decision(clauses))).collect();
    Policy { abi, default, last: last.unwrap_or(abi.first_number()), beyond, calls }
}

/// The kernel's order of actions: as signed numbers, the smaller the stricter.
fn stricter(action: u32, than: u32) -> bool {
    (action & ACTION_MASK).cast_signed() < (than & ACTION_MASK).cast_signed()
}

fn decision(clauses: Vec<Clause>) -> Decision {
    match clauses.iter().find(|clause| clause.conditions.is_empty()) {
        Some(always) => Decision::Always(always.action),
        None => Decision::First(clauses),
    }
}
