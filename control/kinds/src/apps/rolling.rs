//! Numbers of pods that may be given as a percentage of all: how many may be missing or come on top.

use serde_json::Value;

use crate::check::Field;

const PERCENT: &str = "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')";

fn percentage(value: &Value) -> Option<i64> {
    let digits = value.as_str()?.strip_suffix('%')?;
    let right = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    right.then(|| digits.parse().unwrap_or(i64::MAX))
}

/// Rule: a whole number, not less than zero, or a percentage.
pub(crate) fn int_or_percent(at: &Field<'_>) {
    if at.value.is_string() && percentage(at.value).is_none() {
        at.invalid(PERCENT);
    }
    at.non_negative();
}

/// Rule: not more than all.
pub(crate) fn at_most_all(at: &Field<'_>) {
    if percentage(at.value).is_some_and(|p| p > 100) {
        at.invalid("must not be greater than 100%");
    }
}

/// The number, whether a percentage or not; zero when it is neither.
pub(crate) fn amount(value: &Value) -> i64 {
    let plain = || value.as_i64().or_else(|| value.as_str()?.parse().ok());
    percentage(value).or_else(plain).unwrap_or(0)
}
