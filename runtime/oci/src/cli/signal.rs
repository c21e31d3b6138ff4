//! Signals by name or number.

use crate::error::{ErrorKind, RuntimeError};

/// In the order of their numbers, from 1 (the numbering of x86, arm and riscv).
const NAMES: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE",
    "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ",
    "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
];
const RTMIN: i32 = 34;
const RTMAX: i32 = 64;

/// From `9`, `KILL`, `SIGKILL`, `RTMIN+3` or `RTMAX-1`, in any case.
pub(super) fn number(text: &str) -> Result<i32, RuntimeError> {
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let found = match name.parse::<i32>() {
        Ok(number) => Some(number),
        Err(_) => match (name.strip_prefix("RTMIN"), name.strip_prefix("RTMAX")) {
            (Some(""), _) => Some(RTMIN),
            (Some(offset), _) => {
                offset.strip_prefix('+').and_then(|offset| Some(RTMIN + offset.parse::<i32>().ok()?))
            }
            (_, Some("")) => Some(RTMAX),
            (_, Some(offset)) => {
                offset.strip_prefix('-').and_then(|offset| Some(RTMAX - offset.parse::<i32>().ok()?))
            }
            _ => NAMES.iter().position(|own| *own == name).and_then(|at| i32::try_from(at + 1).ok()),
        },
    };
    found
        .filter(|number| (1..=RTMAX).contains(number))
        .ok_or_else(|| RuntimeError::new(ErrorKind::InvalidSpec, format!("{text:?} is not a signal")))
}
