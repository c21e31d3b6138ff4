//! Stop signals: the names of CRI's enum, of images (`SIGTERM`, `RTMIN+3`, `15`) and the kernel's numbers.

use proto_cri::Signal;

const REAL_TIME_MIN: i32 = 34;
const REAL_TIME_MAX: i32 = 64;

const NAMES: &[(&str, i32)] = &[
    ("HUP", 1),
    ("INT", 2),
    ("QUIT", 3),
    ("ILL", 4),
    ("TRAP", 5),
    ("ABRT", 6),
    ("IOT", 6),
    ("BUS", 7),
    ("FPE", 8),
    ("KILL", 9),
    ("USR1", 10),
    ("SEGV", 11),
    ("USR2", 12),
    ("PIPE", 13),
    ("ALRM", 14),
    ("TERM", 15),
    ("STKFLT", 16),
    ("CHLD", 17),
    ("CLD", 17),
    ("CONT", 18),
    ("STOP", 19),
    ("TSTP", 20),
    ("TTIN", 21),
    ("TTOU", 22),
    ("URG", 23),
    ("XCPU", 24),
    ("XFSZ", 25),
    ("VTALRM", 26),
    ("PROF", 27),
    ("WINCH", 28),
    ("IO", 29),
    ("POLL", 29),
    ("PWR", 30),
    ("SYS", 31),
];

/// The number of a signal as an image or a user writes it.
pub(crate) fn number(text: &str) -> Option<i32> {
    if let Ok(number) = text.parse() {
        return (1..=REAL_TIME_MAX).contains(&number).then_some(number);
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let offset = |rest: &str, sign: char| match rest {
        "" => Some(0),
        rest => rest.strip_prefix(sign)?.parse::<i32>().ok(),
    };
    let found = if let Some(rest) = name.strip_prefix("RTMIN") {
        Some(REAL_TIME_MIN + offset(rest, '+')?)
    } else if let Some(rest) = name.strip_prefix("RTMAX") {
        Some(REAL_TIME_MAX - offset(rest, '-')?)
    } else {
        NAMES.iter().find(|(one, _)| *one == name).map(|(_, number)| *number)
    };
    found.filter(|number| (1..=REAL_TIME_MAX).contains(number))
}

/// The kernel's number of CRI's signal; `None` for the runtime's default and for what no kernel has.
pub(crate) fn of_cri(signal: Signal) -> Option<i32> {
    let name = signal.as_str_name().strip_prefix("SIGNAL_")?;
    number(&name.replace("PLUS", "+").replace("MINUS", "-"))
}

/// CRI's name of a kernel signal.
pub(crate) fn to_cri(number: i32) -> Signal {
    (1..=65)
        .filter_map(|value| Signal::try_from(value).ok())
        .find(|signal| of_cri(*signal) == Some(number))
        .unwrap_or(Signal::RuntimeDefault)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers() {
        for (text, expected) in [
            ("SIGTERM", Some(15)),
            ("term", Some(15)),
            ("9", Some(9)),
            ("SIGRTMIN+3", Some(37)),
            ("RTMAX-1", Some(63)),
            ("RTMAX+1", None),
            ("0", None),
            ("65", None),
            ("SIGNOPE", None),
        ] {
            assert_eq!(number(text), expected, "{text}");
        }
    }

    #[test]
    fn every_cri_signal_has_a_number_and_comes_back() {
        for value in 1..=65 {
            let signal = Signal::try_from(value).unwrap();
            let number = of_cri(signal).unwrap_or_else(|| panic!("{signal:?}"));
            assert_eq!(of_cri(to_cri(number)), Some(number), "{signal:?}");
        }
        assert_eq!(of_cri(Signal::RuntimeDefault), None);
    }
}
