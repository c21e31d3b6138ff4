//! The BPF program and the v1 lines against the meaning of the rules.

use proptest::prelude::*;

use super::*;

fn rule(allow: bool, kind: DeviceKind, major: Option<u32>, minor: Option<u32>, access: &str) -> DeviceRule {
    let has = |letter| access.contains(letter);
    DeviceRule { allow, kind, major, minor, read: has('r'), write: has('w'), mknod: has('m') }
}

/// What the rules mean: for each single access the last rule that matches decides, else it is denied.
fn meaning(rules: &[DeviceRule], block: bool, major: u32, minor: u32, access: u8) -> bool {
    [READ, WRITE, MKNOD].iter().filter(|bit| access & **bit != 0).all(|bit| {
        let decides = rules.iter().rev().find(|rule| {
            let own = (if rule.read { READ } else { 0 })
                | (if rule.write { WRITE } else { 0 })
                | (if rule.mknod { MKNOD } else { 0 });
            let kind = match rule.kind {
                DeviceKind::All => true,
                DeviceKind::Block => block,
                DeviceKind::Char => !block,
            };
            kind && own & bit != 0
                && rule.major.is_none_or(|number| number == major)
                && rule.minor.is_none_or(|number| number == minor)
        });
        decides.is_some_and(|rule| rule.allow)
    })
}

/// Runs a program as the kernel would.
fn run(program: &[Instruction], block: bool, major: u32, minor: u32, access: u8) -> bool {
    let context = [u32::from(access) << 16 | if block { 1 } else { 2 }, major, minor];
    let mut registers = [0_u32; 11];
    let mut at = 0;
    loop {
        let (code, to, from, offset, value) = program[at].parts();
        let (to, from) = (usize::from(to), usize::from(from));
        let value = value.cast_unsigned();
        at += 1;
        let mut skip = |condition: bool| {
            if condition {
                at += usize::try_from(offset).unwrap();
            }
        };
        match code {
            0x61 => registers[to] = context[usize::try_from(offset).unwrap() / 4],
            0x54 => registers[to] &= value,
            0x74 => registers[to] >>= value,
            0xbc => registers[to] = registers[from],
            0xb4 => registers[to] = value,
            0x16 => skip(registers[to] == value),
            0x56 => skip(registers[to] != value),
            0x95 => return registers[0] == 1,
            other => panic!("instruction {other:#x}"),
        }
    }
}

#[test]
fn deny_all_then_allow_some_is_the_usual_list() {
    let rules = [
        rule(false, DeviceKind::All, None, None, "rwm"),
        rule(true, DeviceKind::Char, Some(1), Some(3), "rwm"),
        rule(true, DeviceKind::Char, Some(136), None, "rw"),
        rule(true, DeviceKind::All, Some(8), Some(0), "r"),
    ];
    let table = DeviceTable::of(&rules).unwrap();
    let lines: Vec<_> = table.lines().into_iter().map(|(file, line)| format!("{file} {line}")).collect();
    assert_eq!(
        lines,
        [
            "devices.deny a",
            "devices.allow c 1:3 rwm",
            "devices.allow c 136:* rw",
            "devices.allow b 8:0 r",
            "devices.allow c 8:0 r"
        ]
    );
    assert!(run(&table.program(), false, 1, 3, READ | WRITE));
    assert!(!run(&table.program(), false, 136, 5, MKNOD));
    assert!(!run(&table.program(), true, 8, 0, READ | WRITE));
}

#[test]
fn what_the_kernel_would_ignore_is_refused() {
    let rules = [
        rule(true, DeviceKind::Char, Some(1), None, "rw"),
        rule(false, DeviceKind::Char, Some(1), Some(5), "w"),
    ];
    let error = DeviceTable::of(&rules).unwrap_err();
    assert!(error.to_string().contains("narrow one first"), "{error}");
}

fn rules() -> impl Strategy<Value = Vec<DeviceRule>> {
    let number = || prop_oneof![Just(None), (0..3_u32).prop_map(Some)];
    let kind = prop_oneof![Just(DeviceKind::All), Just(DeviceKind::Block), Just(DeviceKind::Char)];
    let one =
        (any::<bool>(), kind, number(), number(), 1..8_u8).prop_map(|(allow, kind, major, minor, access)| {
            let (read, write, mknod) = (access & READ != 0, access & WRITE != 0, access & MKNOD != 0);
            DeviceRule { allow, kind, major, minor, read, write, mknod }
        });
    proptest::collection::vec(one, 0..6)
}

proptest! {
    /// A list is refused or means what it says; it never opens more. (A wanted access that two rules open only
    /// together may stay closed: the program asks each exception for all of it.)
    #[test]
    fn the_program_means_what_the_rules_say(
        rules in rules(), block: bool, major in 0..3_u32, minor in 0..3_u32, access in 1..8_u8
    ) {
        if let Ok(table) = DeviceTable::of(&rules) {
            let meant = meaning(&rules, block, major, minor, access);
            let got = run(&table.program(), block, major, minor, access);
            prop_assert!(meant || !got, "{rules:?} must not allow");
            if access.count_ones() == 1 {
                prop_assert_eq!(meant, got);
            }
        }
    }
}
