//! Numbers of system calls, from the kernel's headers (Linux 7.1).

use std::sync::OnceLock;

use oci_spec::runtime::Arch;

/// Sorted by name; a column an architecture; `-` where it has no such call.
const TABLE: &str = include_str!("syscalls.tsv");

/// The bit that marks a system call of the x32 ABI.
pub(super) const X32_BIT: u32 = 0x4000_0000;

/// A way to call the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Abi {
    X86_64,
    X86,
    X32,
    Aarch64,
    Arm,
}

impl Abi {
    /// What this program was built for; `None` when there is no table for it.
    pub(super) fn native() -> Option<Abi> {
        match std::env::consts::ARCH {
            "x86_64" => Some(Abi::X86_64),
            "x86" => Some(Abi::X86),
            "aarch64" => Some(Abi::Aarch64),
            "arm" => Some(Abi::Arm),
            _ => None,
        }
    }

    /// `None` for an architecture without a table. As no machine with a table can run its calls, leaving it
    /// out restricts: such a call kills.
    pub(super) fn of(arch: Arch) -> Option<Abi> {
        match arch {
            Arch::ScmpArchNative => Abi::native(),
            Arch::ScmpArchX86_64 => Some(Abi::X86_64),
            Arch::ScmpArchX86 => Some(Abi::X86),
            Arch::ScmpArchX32 => Some(Abi::X32),
            Arch::ScmpArchAarch64 => Some(Abi::Aarch64),
            Arch::ScmpArchArm => Some(Abi::Arm),
            _ => None,
        }
    }

    /// `AUDIT_ARCH_*`; x32 shares that of `x86_64`.
    pub(super) fn audit_arch(self) -> u32 {
        match self {
            Abi::X86_64 | Abi::X32 => 0xc000_003e,
            Abi::X86 => 0x4000_0003,
            Abi::Aarch64 => 0xc000_00b7,
            Abi::Arm => 0x4000_0028,
        }
    }

    /// The lowest number there can be.
    pub(super) fn first_number(self) -> u32 {
        if self == Abi::X32 { X32_BIT } else { 0 }
    }

    /// The number of the named call, as the kernel shows it to a filter.
    pub(super) fn number(self, name: &str) -> Option<u32> {
        let table = table();
        let row = table.binary_search_by_key(&name, |(name, _)| name).ok()?;
        let number = table[row].1[self as usize]?;
        Some(number | self.first_number())
    }

    /// For calls that 32-bit x86 also makes through a multiplexer.
    pub(super) fn multiplexed(self, name: &str) -> Option<Multiplexed> {
        if self != Abi::X86 {
            return None;
        }
        let (socketcall, ipc) = (
            Multiplexed { number: 102, mask: u64::MAX, call: 0 },
            Multiplexed { number: 117, mask: 0xffff, call: 0 },
        );
        let find =
            |names: &[(&str, u64)]| names.iter().find(|(known, _)| *known == name).map(|(_, call)| *call);
        find(&SOCKETCALL)
            .map(|call| Multiplexed { call, ..socketcall })
            .or_else(|| find(&IPC).map(|call| Multiplexed { call, ..ipc }))
    }
}

/// One call of a multiplexer: argument 0 under `mask` is `call`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Multiplexed {
    pub(super) number: u32,
    pub(super) mask: u64,
    pub(super) call: u64,
}

/// linux/net.h, `SYS_*`.
const SOCKETCALL: [(&str, u64); 20] = [
    ("socket", 1),
    ("bind", 2),
    ("connect", 3),
    ("listen", 4),
    ("accept", 5),
    ("getsockname", 6),
    ("getpeername", 7),
    ("socketpair", 8),
    ("send", 9),
    ("recv", 10),
    ("sendto", 11),
    ("recvfrom", 12),
    ("shutdown", 13),
    ("setsockopt", 14),
    ("getsockopt", 15),
    ("sendmsg", 16),
    ("recvmsg", 17),
    ("accept4", 18),
    ("recvmmsg", 19),
    ("sendmmsg", 20),
];

/// linux/ipc.h; the upper half of the argument is a version.
const IPC: [(&str, u64); 12] = [
    ("semop", 1),
    ("semget", 2),
    ("semctl", 3),
    ("semtimedop", 4),
    ("msgsnd", 11),
    ("msgrcv", 12),
    ("msgget", 13),
    ("msgctl", 14),
    ("shmat", 21),
    ("shmdt", 22),
    ("shmget", 23),
    ("shmctl", 24),
];

type Row = (&'static str, [Option<u32>; 5]);

fn table() -> &'static [Row] {
    static ROWS: OnceLock<Vec<Row>> = OnceLock::new();
    ROWS.get_or_init(|| {
        let rows = TABLE.lines().filter(|line| !line.starts_with('#'));
        rows.map(|line| {
            let mut fields = line.split('\t');
            let name = fields.next().unwrap_or_default();
            (name, std::array::from_fn(|_| fields.next().and_then(|number| number.parse().ok())))
        })
        .collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_and_whole() {
        assert!(table().is_sorted_by(|a, b| a.0 < b.0));
        for line in TABLE.lines() {
            assert_eq!(line.split('\t').count(), 6, "{line}");
        }
    }

    #[test]
    fn numbers_are_the_kernels() {
        for (name, number) in
            [("read", 0), ("openat2", 437), ("clone3", 435), ("seccomp", 317), ("mseal", 462)]
        {
            assert_eq!(Abi::X86_64.number(name), Some(number), "{name}");
        }
        assert_eq!(Abi::X32.number("execve"), Some(X32_BIT | 520));
        assert_eq!(Abi::Aarch64.number("openat"), Some(56));
        assert_eq!(Abi::X86.number("socketcall"), Some(102));
        assert_eq!(Abi::Arm.number("set_tls"), Some(0xf0005));
        assert_eq!(Abi::Aarch64.number("open"), None);
        assert_eq!(Abi::X86_64.number("no_such_call"), None);
    }
}
