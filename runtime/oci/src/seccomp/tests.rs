//! The compiler against an interpretation of the module's documentation, and against what it promises.

use oci_spec::runtime::{
    Arch, LinuxSeccomp, LinuxSeccompAction as Action, LinuxSeccompArg, LinuxSeccompArgBuilder,
    LinuxSeccompBuilder, LinuxSeccompOperator as Op, LinuxSyscall, LinuxSyscallBuilder,
};
use proptest::prelude::*;

use super::syscalls::Abi;
use super::*;

const ALLOW: u32 = 0x7fff_0000;
const EPERM: u32 = 0x0005_0001;
const ENOSYS: u32 = 0x0005_0026;
const KILL: u32 = 0x8000_0000;
const X86_64: u32 = 0xc000_003e;
const I386: u32 = 0x4000_0003;

/// What the kernel shows a filter.
#[derive(Debug, Clone, Copy)]
struct Call {
    arch: u32,
    number: u32,
    args: [u64; 6],
}

/// Runs a program as the kernel would; panics where the kernel would have refused it.
fn run(program: &[Instruction], call: Call) -> u32 {
    let (mut at, mut accumulator) = (0, 0);
    loop {
        let Instruction { code, jt, jf, k } = program[at];
        let branch = |holds| 1 + usize::from(if holds { jt } else { jf });
        at += match code {
            0x20 => {
                accumulator = load(call, k);
                1
            }
            0x54 => {
                accumulator &= k;
                1
            }
            0x05 => 1 + k as usize,
            0x15 => branch(accumulator == k),
            0x25 => branch(accumulator > k),
            0x35 => branch(accumulator >= k),
            0x06 => return k,
            other => panic!("operation {other:#x} at {at}"),
        };
    }
}

fn load(call: Call, offset: u32) -> u32 {
    let mut data = [call.number.to_le_bytes(), call.arch.to_le_bytes()].concat();
    data.extend([0; 8]);
    data.extend(call.args.iter().flat_map(|arg| arg.to_le_bytes()));
    let at = offset as usize;
    u32::from_le_bytes(data[at..at + 4].try_into().unwrap())
}

fn arg(index: usize, op: Op, value: u64, two: u64) -> LinuxSeccompArg {
    LinuxSeccompArgBuilder::default().index(index).op(op).value(value).value_two(two).build().unwrap()
}

fn rule(names: &[&str], action: Action, args: Vec<LinuxSeccompArg>) -> LinuxSyscall {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    LinuxSyscallBuilder::default().names(names).action(action).args(args).build().unwrap()
}

fn profile(default: Action, archs: &[Arch], rules: Vec<LinuxSyscall>) -> LinuxSeccomp {
    let builder = LinuxSeccompBuilder::default().default_action(default);
    builder.architectures(archs.to_vec()).syscalls(rules).build().unwrap()
}

fn verdict(profile: &LinuxSeccomp, arch: u32, number: u32, args: &[u64]) -> u32 {
    let mut all = [0; 6];
    all[..args.len()].copy_from_slice(args);
    run(&compile(profile).unwrap().instructions, Call { arch, number, args: all })
}

#[cfg(target_arch = "x86_64")]
#[test]
fn numbers_architectures_and_the_tail() {
    let rules = vec![
        rule(&["read", "write", "no_such_call"], Action::ScmpActAllow, vec![]),
        rule(&["mseal"], Action::ScmpActErrno, vec![]),
    ];
    let only_native = profile(Action::ScmpActErrno, &[], rules.clone());
    for (arch, number, expected) in [
        (X86_64, 0, ALLOW),
        (X86_64, 1, ALLOW),
        (X86_64, 2, EPERM),
        (X86_64, 462, EPERM),
        (X86_64, 463, ENOSYS),
        (X86_64, 0x3fff_ffff, ENOSYS),
        (X86_64, 0x4000_0000, KILL),
        (X86_64, u32::MAX, ENOSYS),
        (I386, 3, KILL),
        (0x1234, 0, KILL),
    ] {
        assert_eq!(verdict(&only_native, arch, number, &[]), expected, "{arch:#x} {number:#x}");
    }
    let all =
        profile(Action::ScmpActErrno, &[Arch::ScmpArchX86, Arch::ScmpArchX32, Arch::ScmpArchS390x], rules);
    for (arch, number, expected) in [
        (X86_64, 0x4000_0000, ALLOW),
        (X86_64, 0x4000_0000 + 463, ENOSYS),
        (I386, 3, ALLOW),
        (I386, 5, EPERM),
        (I386, 463, ENOSYS),
    ] {
        assert_eq!(verdict(&all, arch, number, &[]), expected, "{arch:#x} {number:#x}");
    }
    let open =
        profile(Action::ScmpActAllow, &[], vec![rule(&["ptrace"], Action::ScmpActKillProcess, vec![])]);
    assert_eq!(verdict(&open, X86_64, 101, &[]), KILL);
    assert_eq!(verdict(&open, X86_64, 9_999, &[]), ALLOW, "a permissive default has no ENOSYS tail");
}

#[cfg(target_arch = "x86_64")]
#[test]
fn multiplexers_do_not_let_a_restriction_slip() {
    let archs = [Arch::ScmpArchX86];
    let vsock = vec![arg(0, Op::ScmpCmpEq, 40, 0)];
    let deny = profile(Action::ScmpActAllow, &archs, vec![rule(&["socket"], Action::ScmpActErrno, vsock)]);
    assert_eq!(verdict(&deny, I386, 359, &[40]), EPERM);
    assert_eq!(verdict(&deny, I386, 359, &[2]), ALLOW);
    assert_eq!(verdict(&deny, I386, 102, &[1]), EPERM, "socketcall(SYS_SOCKET) hides the family");
    assert_eq!(verdict(&deny, I386, 102, &[3]), ALLOW);
    let inet = vec![arg(0, Op::ScmpCmpEq, 2, 0)];
    let allow = profile(Action::ScmpActErrno, &archs, vec![rule(&["socket"], Action::ScmpActAllow, inet)]);
    assert_eq!(verdict(&allow, I386, 102, &[1]), EPERM);
    let semop = profile(Action::ScmpActAllow, &archs, vec![rule(&["semop"], Action::ScmpActErrno, vec![])]);
    assert_eq!(verdict(&semop, I386, 117, &[0x0001_0001]), EPERM, "with a version in the upper half");
    assert_eq!(verdict(&semop, I386, 117, &[2]), ALLOW);
}

#[cfg(target_arch = "x86_64")]
#[test]
fn arguments_repeated_are_alternatives_and_a_bare_rule_wins() {
    let both = vec![arg(0, Op::ScmpCmpGe, 10, 0), arg(0, Op::ScmpCmpLe, 5, 0)];
    let either =
        profile(Action::ScmpActErrno, &[], vec![rule(&["read"], Action::ScmpActAllow, both.clone())]);
    for (value, expected) in [(5, ALLOW), (7, EPERM), (10, ALLOW), (u64::MAX, ALLOW)] {
        assert_eq!(verdict(&either, X86_64, 0, &[value]), expected, "{value}");
    }
    let rules =
        vec![rule(&["read"], Action::ScmpActAllow, both), rule(&["read"], Action::ScmpActTrap, vec![])];
    assert_eq!(verdict(&profile(Action::ScmpActErrno, &[], rules), X86_64, 0, &[5]), 0x0003_0000);
}

#[test]
fn refuses_what_it_cannot_apply() {
    let read = |action| rule(&["read"], action, vec![]);
    let index = rule(&["read"], Action::ScmpActAllow, vec![arg(6, Op::ScmpCmpEq, 0, 0)]);
    let mut errno = read(Action::ScmpActErrno);
    errno.set_errno_ret(Some(4096));
    for (profile, text) in [
        (
            profile(Action::ScmpActErrno, &[], vec![rule(&[], Action::ScmpActAllow, vec![])]),
            "syscalls[0] names no",
        ),
        (
            profile(Action::ScmpActErrno, &[], vec![read(Action::ScmpActAllow), index]),
            "syscalls[1].args: there is no argument 6",
        ),
        (profile(Action::ScmpActErrno, &[], vec![errno]), "syscalls[0] (read): errnoRet 4096"),
        (profile(Action::ScmpActNotify, &[], vec![]), "defaultAction: SCMP_ACT_NOTIFY cannot be the default"),
        (profile(Action::ScmpActErrno, &[], vec![read(Action::ScmpActNotify)]), "needs a listenerPath"),
        (
            profile(Action::ScmpActErrno, &[], vec![rule(&["write"], Action::ScmpActNotify, vec![])]),
            "(write)",
        ),
    ] {
        let error = compile(&profile).unwrap_err().to_string();
        assert!(error.contains(text), "{error}");
    }
    let crowd = vec![arg(0, Op::ScmpCmpEq, 1, 0); 1000];
    let long = profile(Action::ScmpActErrno, &[], vec![rule(&["read"], Action::ScmpActAllow, crowd)]);
    assert!(matches!(compile(&long), Err(SeccompError::TooLong(_))));
}

#[test]
fn flags_go_along() {
    let mut profile =
        profile(Action::ScmpActAllow, &[], vec![rule(&["mount"], Action::ScmpActNotify, vec![])]);
    profile.set_listener_path(Some("/run/agent.sock".into()));
    profile.set_flags(Some(vec![
        LinuxSeccompFilterFlag::SeccompFilterFlagLog,
        LinuxSeccompFilterFlag::SeccompFilterFlagTsync,
        LinuxSeccompFilterFlag::SeccompFilterFlagWaitKillableRecv,
    ]));
    let all = LOG | TSYNC | TSYNC_ESRCH | NEW_LISTENER | WAIT_KILLABLE_RECV;
    assert_eq!(compile(&profile).unwrap().flags, all);
    profile.set_syscalls(None);
    assert_eq!(compile(&profile).unwrap().flags, LOG | TSYNC);
}

const NAMES: [&str; 10] = [
    "read",
    "write",
    "socket",
    "clone",
    "semop",
    "ipc",
    "socketcall",
    "mseal",
    "futex_waitv",
    "no_such_call",
];
const ABIS: [(Abi, Arch); 5] = [
    (Abi::X86_64, Arch::ScmpArchX86_64),
    (Abi::X86, Arch::ScmpArchX86),
    (Abi::X32, Arch::ScmpArchX32),
    (Abi::Aarch64, Arch::ScmpArchAarch64),
    (Abi::Arm, Arch::ScmpArchArm),
];

/// Few values, among them those where a half decides.
fn value() -> impl Strategy<Value = u64> {
    prop::sample::select(vec![0, 1, 2, 40, 0xffff_ffff, 0x1_0000_0000, 0x1_0000_0001, u64::MAX])
}

fn action_strategy() -> impl Strategy<Value = Action> {
    prop::sample::select(vec![
        Action::ScmpActAllow,
        Action::ScmpActErrno,
        Action::ScmpActKillProcess,
        Action::ScmpActKillThread,
        Action::ScmpActTrap,
        Action::ScmpActTrace,
        Action::ScmpActLog,
    ])
}

fn arg_strategy() -> impl Strategy<Value = LinuxSeccompArg> {
    let ops = vec![
        Op::ScmpCmpNe,
        Op::ScmpCmpLt,
        Op::ScmpCmpLe,
        Op::ScmpCmpEq,
        Op::ScmpCmpGe,
        Op::ScmpCmpGt,
        Op::ScmpCmpMaskedEq,
    ];
    (0..3usize, prop::sample::select(ops), value(), value())
        .prop_map(|(index, op, one, two)| arg(index, op, one, two))
}

fn profile_strategy() -> impl Strategy<Value = LinuxSeccomp> {
    let names = prop::sample::subsequence(NAMES.to_vec(), 1..4);
    let rules = (names, action_strategy(), prop::collection::vec(arg_strategy(), 0..4));
    let rules =
        prop::collection::vec(rules.prop_map(|(names, action, args)| rule(&names, action, args)), 0..8);
    let archs = prop::sample::subsequence(ABIS.map(|(_, arch)| arch).to_vec(), 0..5);
    (action_strategy(), archs, rules).prop_map(|(default, archs, rules)| profile(default, &archs, rules))
}

/// The module's documentation, read word by word.
fn interpret(profile: &LinuxSeccomp, abi: Abi, name: &str, args: [u64; 6]) -> u32 {
    let default = profile.default_action().as_u32(None);
    let rules = profile.syscalls().as_ref().unwrap();
    let rules: Vec<_> = rules.iter().filter(|rule| rule.action() != profile.default_action()).collect();
    let multiplexer = |rule: &LinuxSyscall| {
        let call = rule.names().iter().filter_map(|name| abi.multiplexed(name)).find(|multiplexed| {
            abi.number(name) == Some(multiplexed.number) && args[0] & multiplexed.mask == multiplexed.call
        });
        let bare = rule.args().as_ref().unwrap().is_empty();
        let stricter = (rule.action().as_u32(None) as i32) < (default as i32)
            && (rule.action().as_u32(None) >> 16) != default >> 16;
        call.is_some() && (bare || stricter)
    };
    let named = |rule: &LinuxSyscall| rule.names().iter().any(|known| known == name);
    let bare = rules.iter().find(|rule| named(rule) && rule.args().as_ref().unwrap().is_empty());
    let first = rules
        .iter()
        .find(|rule| (named(rule) && holds(rule.args().as_ref().unwrap(), args)) || multiplexer(rule));
    bare.or(first).map_or(default, |rule| rule.action().as_u32(None))
}

fn holds(conditions: &[LinuxSeccompArg], args: [u64; 6]) -> bool {
    let one = |condition: &LinuxSeccompArg| {
        let (is, value) = (args[condition.index()], condition.value());
        match condition.op() {
            Op::ScmpCmpNe => is != value,
            Op::ScmpCmpLt => is < value,
            Op::ScmpCmpLe => is <= value,
            Op::ScmpCmpEq => is == value,
            Op::ScmpCmpGe => is >= value,
            Op::ScmpCmpGt => is > value,
            Op::ScmpCmpMaskedEq => is & value == condition.value_two().unwrap() & value,
        }
    };
    let mut indices: Vec<_> = conditions.iter().map(LinuxSeccompArg::index).collect();
    indices.sort_unstable();
    indices.dedup();
    if indices.len() < conditions.len() { conditions.iter().any(one) } else { conditions.iter().all(one) }
}

proptest! {
    #[test]
    fn the_program_says_what_the_profile_says(
        profile in profile_strategy(),
        name in prop::sample::select(NAMES.to_vec()),
        args in prop::array::uniform6(value()),
    ) {
        let program = compile(&profile).unwrap().instructions;
        let archs = profile.architectures().as_ref().unwrap();
        for (abi, arch) in ABIS {
            let Some(number) = abi.number(name) else { continue };
            let is = run(&program, Call { arch: abi.audit_arch(), number, args });
            if Abi::native() != Some(abi) && !archs.contains(&arch) {
                prop_assert_eq!(is, KILL);
                continue;
            }
            let named = profile.syscalls().iter().flatten().flat_map(LinuxSyscall::names);
            let last = named.filter_map(|name| abi.number(name)).max();
            let permissive = profile.default_action().as_u32(None) >= 0x7ff0_0000 && profile.default_action().as_u32(None) < KILL;
            let interpreted = interpret(&profile, abi, name, args);
            let beyond = last.is_some_and(|last| number > last) && !permissive;
            // A multiplexer that no rule names may lie beyond, and still has clauses.
            let by_rule = interpreted != profile.default_action().as_u32(None);
            let expected = if beyond && !by_rule { ENOSYS } else { interpreted };
            if beyond && abi == Abi::X86 && ["ipc", "socketcall"].contains(&name) {
                prop_assert!(is == expected || is == interpreted);
            } else {
                prop_assert_eq!(is, expected, "{:?} {} {:?}", abi, name, args);
            }
        }
    }
}
