//! From policies to instructions.

use std::collections::BTreeMap;

use linux::seccomp::Instruction;
use oci_spec::runtime::LinuxSeccompOperator;

use super::profile::{Clause, Condition, Decision, KILL_PROCESS, Policy};
use super::syscalls::{Abi, X32_BIT};

/// `BPF_LD | BPF_W | BPF_ABS`.
const LOAD: u16 = 0x20;
/// `BPF_ALU | BPF_AND | BPF_K`.
const AND: u16 = 0x54;
/// `BPF_JMP | BPF_JA`.
const JUMP: u16 = 0x05;
/// `BPF_JMP | BPF_JEQ | BPF_K`.
const IF_EQ: u16 = 0x15;
/// `BPF_JMP | BPF_JGT | BPF_K`.
const IF_GT: u16 = 0x25;
/// `BPF_JMP | BPF_JGE | BPF_K`.
const IF_GE: u16 = 0x35;
/// `BPF_RET | BPF_K`.
const RETURN: u16 = 0x06;

/// Offsets in `struct seccomp_data`.
const OFFSET_NUMBER: u32 = 0;
const OFFSET_ARCH: u32 = 4;
const OFFSET_ARGUMENTS: u32 = 16;

/// The program for policies of which those that share an `AUDIT_ARCH_*` are neighbours.
pub(super) fn program(policies: &[Policy]) -> Vec<Instruction> {
    let mut program = vec![plain(LOAD, OFFSET_ARCH)];
    for group in policies.chunk_by(|a, b| a.abi.audit_arch() == b.abi.audit_arch()) {
        let mut block = vec![plain(LOAD, OFFSET_NUMBER)];
        block.extend(search(&segments(group)));
        program.push(Instruction { code: IF_EQ, jt: 1, jf: 0, k: group[0].abi.audit_arch() });
        program.push(jump(block.len()));
        program.extend(block);
    }
    program.push(plain(RETURN, KILL_PROCESS));
    program
}

/// What happens from a number on, up to the next segment's.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Segment<'a> {
    start: u32,
    leaf: Leaf<'a>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Leaf<'a> {
    Return(u32),
    First { clauses: &'a [Clause], otherwise: u32 },
}

/// The whole range of numbers of one `AUDIT_ARCH_*`.
fn segments(group: &[Policy]) -> Vec<Segment<'_>> {
    let mut segments = Vec::new();
    let x32 = group.iter().find(|policy| policy.abi == Abi::X32);
    for policy in group.iter().filter(|policy| policy.abi != Abi::X32) {
        of_policy(&mut segments, policy);
        if policy.abi == Abi::X86_64 {
            match x32 {
                Some(x32) => of_policy(&mut segments, x32),
                None => push(&mut segments, X32_BIT, Leaf::Return(KILL_PROCESS)),
            }
            // Number -1 is no x32 call: it is what a tracer sets to skip a call, and what programs probe with.
            push(&mut segments, u32::MAX, Leaf::Return(policy.beyond));
        }
    }
    segments
}

fn of_policy<'a>(segments: &mut Vec<Segment<'a>>, policy: &'a Policy) {
    let unnamed =
        |number: u32| Leaf::Return(if number > policy.last { policy.beyond } else { policy.default });
    let first = policy.abi.first_number();
    let mut starts = BTreeMap::from([(first, unnamed(first))]);
    let after = policy.calls.keys().chain([&policy.last]).filter_map(|number| number.checked_add(1));
    starts.extend(after.map(|number| (number, unnamed(number))));
    starts.extend(policy.calls.iter().map(|(number, decision)| match decision {
        Decision::Always(action) => (*number, Leaf::Return(*action)),
        Decision::First(clauses) => (*number, Leaf::First { clauses, otherwise: policy.default }),
    }));
    for (start, leaf) in starts {
        push(segments, start, leaf);
    }
}

/// Appends a segment; one that starts where the last one does replaces it, and equal neighbours are one.
fn push<'a>(segments: &mut Vec<Segment<'a>>, start: u32, leaf: Leaf<'a>) {
    segments.pop_if(|last| last.start == start);
    if segments.last().is_none_or(|last| last.leaf != leaf) {
        segments.push(Segment { start, leaf });
    }
}

/// A balanced search for the segment of the loaded number.
fn search(segments: &[Segment<'_>]) -> Vec<Instruction> {
    let (left, right) = segments.split_at(segments.len() / 2);
    if left.is_empty() {
        return right.first().map(|segment| leaf(&segment.leaf)).unwrap_or_default();
    }
    let (k, left, right) = (right[0].start, search(left), search(right));
    let mut code = Vec::with_capacity(left.len() + right.len() + 2);
    if let Ok(jt) = u8::try_from(left.len()) {
        code.push(Instruction { code: IF_GE, jt, jf: 0, k });
    } else {
        code.push(Instruction { code: IF_GE, jt: 0, jf: 1, k });
        code.push(jump(left.len()));
    }
    code.extend(left);
    code.extend(right);
    code
}

fn leaf(leaf: &Leaf<'_>) -> Vec<Instruction> {
    match leaf {
        Leaf::Return(action) => vec![plain(RETURN, *action)],
        Leaf::First { clauses, otherwise } => {
            let mut code: Vec<_> = clauses.iter().flat_map(clause).collect();
            code.push(plain(RETURN, *otherwise));
            code
        }
    }
}

/// Returns the clause's action, or goes on behind it.
fn clause(clause: &Clause) -> Vec<Instruction> {
    let mut conditions: Vec<_> = clause.conditions.iter().map(comparison).collect();
    let mut behind = 1;
    for steps in conditions.iter_mut().rev() {
        behind += steps.len();
        place(steps, behind);
    }
    let mut code: Vec<_> = conditions.into_iter().flatten().map(|step| step.instruction).collect();
    code.push(plain(RETURN, clause.action));
    code
}

/// Where a comparison goes on.
#[derive(Debug, Clone, Copy)]
enum To {
    Next,
    /// Behind this comparison.
    Holds,
    /// Behind the clause.
    Fails,
}

struct Step {
    instruction: Instruction,
    to: (To, To),
}

/// Fills in the jumps of a comparison behind whose start `behind` instructions of the clause are left.
fn place(steps: &mut [Step], behind: usize) {
    let len = steps.len();
    for (index, step) in steps.iter_mut().enumerate() {
        let skip = |to| match to {
            To::Next => 0,
            To::Holds => len - index - 1,
            To::Fails => behind - index - 1,
        };
        let skip =
            |to| u8::try_from(skip(to)).expect("six comparisons of at most six instructions are below 256");
        (step.instruction.jt, step.instruction.jf) = (skip(step.to.0), skip(step.to.1));
    }
}

/// The upper half decides unless it is equal, then the lower half does.
fn comparison(condition: &Condition) -> Vec<Step> {
    use LinuxSeccompOperator as Op;
    let low_at = OFFSET_ARGUMENTS + 8 * u32::from(condition.argument);
    let (high, low) = halves(condition.value);
    let (mask_high, mask_low) = halves(condition.mask);
    let load = |at| Step { instruction: plain(LOAD, at), to: (To::Next, To::Next) };
    let and = |mask| Step { instruction: plain(AND, mask), to: (To::Next, To::Next) };
    let test = |code, k, holds, fails| Step { instruction: plain(code, k), to: (holds, fails) };
    let ordered = |on_greater, on_not, low_code| {
        vec![
            load(low_at + 4),
            test(IF_GT, high, on_greater, To::Next),
            test(IF_EQ, high, To::Next, on_not),
            load(low_at),
            test(low_code, low, on_greater, on_not),
        ]
    };
    match condition.op {
        Op::ScmpCmpEq => vec![
            load(low_at + 4),
            test(IF_EQ, high, To::Next, To::Fails),
            load(low_at),
            test(IF_EQ, low, To::Holds, To::Fails),
        ],
        Op::ScmpCmpNe => vec![
            load(low_at + 4),
            test(IF_EQ, high, To::Next, To::Holds),
            load(low_at),
            test(IF_EQ, low, To::Fails, To::Holds),
        ],
        Op::ScmpCmpGt => ordered(To::Holds, To::Fails, IF_GT),
        Op::ScmpCmpGe => ordered(To::Holds, To::Fails, IF_GE),
        Op::ScmpCmpLe => ordered(To::Fails, To::Holds, IF_GT),
        Op::ScmpCmpLt => ordered(To::Fails, To::Holds, IF_GE),
        Op::ScmpCmpMaskedEq => vec![
            load(low_at + 4),
            and(mask_high),
            test(IF_EQ, high, To::Next, To::Fails),
            load(low_at),
            and(mask_low),
            test(IF_EQ, low, To::Holds, To::Fails),
        ],
    }
}

/// Upper and lower 32 bits.
fn halves(value: u64) -> (u32, u32) {
    let [a, b, c, d, e, f, g, h] = value.to_be_bytes();
    (u32::from_be_bytes([a, b, c, d]), u32::from_be_bytes([e, f, g, h]))
}

fn plain(code: u16, k: u32) -> Instruction {
    Instruction { code, jt: 0, jf: 0, k }
}

fn jump(over: usize) -> Instruction {
    plain(JUMP, u32::try_from(over).expect("a program has far fewer than 2^32 instructions"))
}
