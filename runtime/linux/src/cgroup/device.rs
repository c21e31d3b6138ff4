//! Device access: an ordered list of rules becomes a default and exceptions from it, then the lines of v1's
//! `devices.allow` and `devices.deny`, or a BPF program on v2.
//!
//! The list cannot be handed to v1 as it is: there the kernel takes back an exception only on an exact match and
//! ignores the rest in silence, which would leave open what a rule closes.

use std::path::Path;

use super::CgroupError;
use super::limits::{DeviceKind, DeviceRule};
use crate::bpf::{self, Instruction};

const MKNOD: u8 = 1;
const READ: u8 = 2;
const WRITE: u8 = 4;

/// Which devices may be used.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct DeviceTable {
    /// What holds for a device without exception. Access starts closed.
    allow: bool,
    exceptions: Vec<Exception>,
}

/// The opposite of the default for some devices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Exception {
    block: bool,
    major: Option<u32>,
    minor: Option<u32>,
    access: u8,
}

impl Exception {
    fn covers(&self, other: &Self) -> bool {
        let wide = |own: Option<u32>, theirs: Option<u32>| own.is_none() || own == theirs;
        self.block == other.block && wide(self.major, other.major) && wide(self.minor, other.minor)
    }

    fn meets(&self, other: &Self) -> bool {
        let meet = |a: Option<u32>, b: Option<u32>| a.is_none() || b.is_none() || a == b;
        self.block == other.block && meet(self.major, other.major) && meet(self.minor, other.minor)
    }

    fn same_devices(&self, other: &Self) -> bool {
        (self.block, self.major, self.minor) == (other.block, other.major, other.minor)
    }
}

impl DeviceTable {
    /// From rules of which the last that matches decides; what no rule matches is denied.
    pub(super) fn of(rules: &[DeviceRule]) -> Result<Self, CgroupError> {
        let mut table = Self::default();
        for rule in rules {
            let bit = |set: bool, bit: u8| if set { bit } else { 0 };
            let access = bit(rule.mknod, MKNOD) | bit(rule.read, READ) | bit(rule.write, WRITE);
            let everything = rule.kind == DeviceKind::All && rule.major.is_none() && rule.minor.is_none();
            if everything && access == MKNOD | READ | WRITE {
                table = Self { allow: rule.allow, exceptions: Vec::new() };
                continue;
            }
            for block in [true, false] {
                if rule.kind != if block { DeviceKind::Char } else { DeviceKind::Block } {
                    let exception = Exception { block, major: rule.major, minor: rule.minor, access };
                    table.add(rule.allow, exception)?;
                }
            }
        }
        Ok(table)
    }

    fn add(&mut self, allow: bool, new: Exception) -> Result<(), CgroupError> {
        if allow != self.allow {
            match self.exceptions.iter_mut().find(|old| old.same_devices(&new)) {
                Some(old) => old.access |= new.access,
                None => self.exceptions.push(new),
            }
            return Ok(());
        }
        // Back to the default: exceptions within lose their access, and none may stick out.
        for old in &mut self.exceptions {
            if new.covers(old) {
                old.access &= !new.access;
            } else if new.meets(old) && old.access & new.access != 0 {
                return Err(CgroupError::unsupported(
                    "devices",
                    format!(
                        "a rule takes back part of an earlier one ({new:?} of {old:?}); put the narrow one first"
                    ),
                ));
            }
        }
        self.exceptions.retain(|old| old.access != 0);
        Ok(())
    }

    /// File and line for v1, in order.
    pub(super) fn lines(&self) -> Vec<(&'static str, String)> {
        const ALLOW: &str = "devices.allow";
        const DENY: &str = "devices.deny";
        let (default, exception) = if self.allow { (ALLOW, DENY) } else { (DENY, ALLOW) };
        let mut lines = vec![(default, "a".to_owned())];
        for one in &self.exceptions {
            let number = |number: Option<u32>| number.map_or("*".to_owned(), |number| number.to_string());
            let access: String = [(READ, 'r'), (WRITE, 'w'), (MKNOD, 'm')]
                .iter()
                .filter(|(bit, _)| one.access & bit != 0)
                .map(|(_, letter)| *letter)
                .collect();
            let kind = if one.block { 'b' } else { 'c' };
            lines.push((exception, format!("{kind} {}:{} {access}", number(one.major), number(one.minor))));
        }
        lines
    }

    /// The program for v2. The kernel gives it `struct bpf_cgroup_dev_ctx { u32 access_type; u32 major; u32 minor; }`
    /// with the access in the upper and the kind in the lower half of the first; 1 allows.
    pub(super) fn program(&self) -> Vec<Instruction> {
        const KIND_BLOCK: i32 = 1;
        const KIND_CHAR: i32 = 2;
        let [kind, access, major, minor, masked] = [2, 3, 4, 5, 6];
        let mut program = vec![
            Instruction::load_word(kind, 1, 0),
            Instruction::and(kind, 0xffff),
            Instruction::load_word(access, 1, 0),
            Instruction::shift_right(access, 16),
            Instruction::load_word(major, 1, 4),
            Instruction::load_word(minor, 1, 8),
        ];
        for one in &self.exceptions {
            let mut tests = vec![(kind, if one.block { KIND_BLOCK } else { KIND_CHAR })];
            tests.extend(one.major.map(|number| (major, number.cast_signed())));
            tests.extend(one.minor.map(|number| (minor, number.cast_signed())));
            // To the end of this exception: the tests that are left, the three instructions of the access test, the
            // two of the answer.
            let mut left = i16::try_from(tests.len()).unwrap_or(0) + 4;
            for (register, value) in tests {
                program.push(Instruction::jump_unless_equal(register, value, left));
                left -= 1;
            }
            program.push(Instruction::copy(masked, access));
            let bits = i32::from(one.access);
            if self.allow {
                // Denied as soon as one of the wanted accesses is.
                program.push(Instruction::and(masked, bits));
                program.push(Instruction::jump_if_equal(masked, 0, 2));
            } else {
                // Allowed only if all of them are.
                program.push(Instruction::and(masked, !bits));
                program.push(Instruction::jump_unless_equal(masked, 0, 2));
            }
            program.push(Instruction::set(0, i32::from(!self.allow)));
            program.push(Instruction::exit());
        }
        program.push(Instruction::set(0, i32::from(self.allow)));
        program.push(Instruction::exit());
        program
    }

    /// Puts the program onto a v2 cgroup in place of the one that is there.
    pub(super) fn attach(&self, directory: &Path) -> Result<(), CgroupError> {
        bpf::attach_device_program(directory, &self.program())
            .map_err(|source| CgroupError::io("attach the device program to", directory, source))
    }
}

#[cfg(test)]
mod tests;
