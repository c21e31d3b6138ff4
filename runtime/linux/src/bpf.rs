//! `bpf(2)`, as far as device access on cgroup v2 needs it.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags};

/// One eBPF instruction (`struct bpf_insn`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Instruction {
    code: u8,
    registers: u8,
    offset: i16,
    value: i32,
}

impl Instruction {
    const fn new(code: u8, to: u8, from: u8, offset: i16, value: i32) -> Self {
        Self { code, registers: to | from << 4, offset, value }
    }

    /// `to = *(u32 *)(from + offset)`
    pub const fn load_word(to: u8, from: u8, offset: i16) -> Self {
        Self::new(0x61, to, from, offset, 0)
    }

    /// `to &= value`
    pub const fn and(to: u8, value: i32) -> Self {
        Self::new(0x54, to, 0, 0, value)
    }

    /// `to >>= bits`
    pub const fn shift_right(to: u8, bits: i32) -> Self {
        Self::new(0x74, to, 0, 0, bits)
    }

    /// `to = from`
    pub const fn copy(to: u8, from: u8) -> Self {
        Self::new(0xbc, to, from, 0, 0)
    }

    /// `to = value`
    pub const fn set(to: u8, value: i32) -> Self {
        Self::new(0xb4, to, 0, 0, value)
    }

    /// Skips `offset` instructions if `register == value`.
    pub const fn jump_if_equal(register: u8, value: i32, offset: i16) -> Self {
        Self::new(0x16, register, 0, offset, value)
    }

    /// Skips `offset` instructions if `register != value`.
    pub const fn jump_unless_equal(register: u8, value: i32, offset: i16) -> Self {
        Self::new(0x56, register, 0, offset, value)
    }

    /// Returns register 0.
    pub const fn exit() -> Self {
        Self::new(0x95, 0, 0, 0, 0)
    }

    /// Its parts: code, target register, source register, offset, value. For interpreters in tests.
    pub const fn parts(self) -> (u8, u8, u8, i16, i32) {
        (self.code, self.registers & 15, self.registers >> 4, self.offset, self.value)
    }
}

const PROG_LOAD: libc::c_int = 5;
const PROG_ATTACH: libc::c_int = 8;
const PROG_GET_FD_BY_ID: libc::c_int = 13;
const PROG_QUERY: libc::c_int = 16;
const PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const ATTACH_TYPE_CGROUP_DEVICE: u32 = 6;
const ALLOW_MULTI: u32 = 1 << 1;
const REPLACE: u32 = 1 << 2;

#[repr(C)]
#[derive(Default)]
struct Load {
    program_type: u32,
    count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
    name: [u8; 16],
}

#[repr(C)]
#[derive(Default)]
struct Attach {
    target: u32,
    program: u32,
    attach_type: u32,
    flags: u32,
    replace: u32,
}

#[repr(C)]
#[derive(Default)]
struct Query {
    target: u32,
    attach_type: u32,
    query_flags: u32,
    attach_flags: u32,
    ids: u64,
    count: u32,
    padding: u32,
}

fn bpf<T>(command: libc::c_int, attributes: &mut T) -> io::Result<libc::c_long> {
    // SAFETY: `attributes` is a #[repr(C)] prefix of `union bpf_attr` whose size is given; the callers fill its
    // pointers with buffers that outlive the call.
    match unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attributes), size_of::<T>()) } {
        -1 => Err(io::Error::last_os_error()),
        result => Ok(result),
    }
}

fn bpf_fd<T>(command: libc::c_int, attributes: &mut T) -> io::Result<OwnedFd> {
    let fd = bpf(command, attributes)?;
    let fd = libc::c_int::try_from(fd).map_err(io::Error::other)?;
    // SAFETY: the two commands this is used for return a new descriptor, which nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn number(fd: &OwnedFd) -> u32 {
    fd.as_raw_fd().unsigned_abs()
}

/// Lets a program decide about device access in a v2 cgroup and those below, in place of those attached to it.
///
/// # Errors
/// What the kernel says: `EINVAL` for a program its verifier refuses.
pub fn attach_device_program(cgroup: &Path, program: &[Instruction]) -> io::Result<()> {
    let directory =
        rustix::fs::open(cgroup, OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    let mut load = Load {
        program_type: PROG_TYPE_CGROUP_DEVICE,
        count: u32::try_from(program.len()).map_err(io::Error::other)?,
        instructions: program.as_ptr() as u64,
        license: c"Apache-2.0".as_ptr() as u64,
        ..Load::default()
    };
    let new = bpf_fd(PROG_LOAD, &mut load)?;
    let mut ids = [0_u32; 64];
    let mut query = Query {
        target: number(&directory),
        attach_type: ATTACH_TYPE_CGROUP_DEVICE,
        ids: ids.as_mut_ptr() as u64,
        count: 64,
        ..Query::default()
    };
    bpf(PROG_QUERY, &mut query)?;
    let mut attach = Attach {
        target: number(&directory),
        program: number(&new),
        attach_type: ATTACH_TYPE_CGROUP_DEVICE,
        flags: ALLOW_MULTI,
        replace: 0,
    };
    // All attached programs must agree, so an old one that stayed would still close what the new one opens.
    let old = match ids.get(..query.count as usize) {
        Some([id]) => Some(bpf_fd(PROG_GET_FD_BY_ID, &mut [*id, 0, 0])?),
        Some([]) => None,
        _ => return Err(io::Error::other("it has several device programs, set by others")),
    };
    if let Some(old) = &old {
        attach.flags |= REPLACE;
        attach.replace = number(old);
    }
    bpf(PROG_ATTACH, &mut attach).map(drop)
}
