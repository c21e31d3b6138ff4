//! Texts that stand for something else: times, bytes, quantities.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::Value;

use crate::quantity;

/// A point in time as `metav1.Time` writes it.
#[must_use]
pub fn time(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// A point in time as `metav1.MicroTime` writes it.
#[must_use]
pub fn micro_time(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string()
}

pub(super) fn time_of(text: &str) -> Result<Value, String> {
    parsed(text, "2006-01-02T15:04:05Z07:00").map(|at| time(at).into())
}

pub(super) fn micro_time_of(text: &str) -> Result<Value, String> {
    parsed(text, "2006-01-02T15:04:05.000000Z07:00").map(|at| micro_time(at).into())
}

/// RFC 3339 and nothing else of what jiff would read.
fn parsed(text: &str, layout: &str) -> Result<Timestamp, String> {
    let form = |(at, byte): (usize, u8)| match at {
        4 | 7 => byte == b'-',
        10 => byte == b'T',
        13 | 16 => byte == b':',
        0..19 => byte.is_ascii_digit(),
        _ => matches!(byte, b'0'..=b'9' | b'.' | b'Z' | b'+' | b'-' | b':'),
    };
    let refused = || format!("parsing time {text:?} as {layout:?}: cannot parse {text:?} as \"2006\"");
    match text.len() > 19 && text.bytes().enumerate().all(form) {
        true => text.parse().map_err(|_| refused()),
        false => Err(refused()),
    }
}

pub(super) fn bytes(text: &str) -> Result<Value, String> {
    // Upstream skips line breaks.
    let text = match text.contains(['\n', '\r']) {
        true => &text.replace(['\n', '\r'], ""),
        false => text,
    };
    match STANDARD.decode(text) {
        Ok(_) => Ok(text.into()),
        Err(error) => {
            let at = match error {
                base64::DecodeError::InvalidByte(at, _) | base64::DecodeError::InvalidLastSymbol(at, _) => at,
                _ => text.len() / 4 * 4,
            };
            Err(format!("illegal base64 data at input byte {at}"))
        }
    }
}

pub(super) fn quantity(text: &str) -> Result<Value, String> {
    quantity::canonical(text).map(Value::from).map_err(|e| e.to_string())
}

/// A duration as Go writes one: `90m` becomes `1h30m0s`.
pub(super) fn duration(text: &str) -> Result<Value, String> {
    nanoseconds(text)
        .map(|nanos| go_duration(nanos).into())
        .ok_or_else(|| format!("time: invalid duration {text:?}"))
}

/// Reads `1h5m`, `1.5s`, `-2us`.
pub(crate) fn nanoseconds(text: &str) -> Option<i64> {
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Some(0);
    }
    let mut total = 0_i128;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let number = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at(number);
        let unit = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit);
        let scale: i128 = match unit {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => return None,
        };
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if whole.len() + fraction.len() == 0 || whole.len() > 19 {
            return None;
        }
        let digits = &fraction[..fraction.len().min(18)];
        let part = |digits: &str| if digits.is_empty() { Some(0) } else { digits.parse::<i128>().ok() };
        let below = part(digits)? * scale / 10_i128.pow(u32::try_from(digits.len()).ok()?);
        total += part(whole)? * scale + below;
        rest = tail;
    }
    i64::try_from(if negative { -total } else { total }).ok()
}

/// As Go prints a duration.
pub(crate) fn go_duration(nanos: i64) -> String {
    let sign = if nanos < 0 { "-" } else { "" };
    let nanos = nanos.unsigned_abs();
    let decimal = |nanos: u64, unit: u64| {
        let fraction = format!("{:0width$}", nanos % unit, width = unit.ilog10() as usize);
        match fraction.trim_end_matches('0') {
            "" => (nanos / unit).to_string(),
            fraction => format!("{}.{fraction}", nanos / unit),
        }
    };
    let text = match nanos {
        0 => return "0s".to_owned(),
        1..1_000 => format!("{nanos}ns"),
        1_000..1_000_000 => format!("{}µs", decimal(nanos, 1_000)),
        1_000_000..1_000_000_000 => format!("{}ms", decimal(nanos, 1_000_000)),
        _ => {
            let (hours, rest) = (nanos / 3_600_000_000_000, nanos % 3_600_000_000_000);
            let (minutes, rest) = (rest / 60_000_000_000, rest % 60_000_000_000);
            let seconds = decimal(rest, 1_000_000_000);
            match (hours, minutes) {
                (0, 0) => format!("{seconds}s"),
                (0, _) => format!("{minutes}m{seconds}s"),
                _ => format!("{hours}h{minutes}m{seconds}s"),
            }
        }
    };
    format!("{sign}{text}")
}
