//! Quantities of resources: `100m`, `1.5Gi`, `1e3`.

const NANO: i128 = 1_000_000_000;

/// Why a text is no quantity.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'")]
pub struct NotAQuantity;

/// An amount of a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Amount {
    nanos: i128,
}

impl Amount {
    /// Reads a quantity. Anything finer than a billionth is rounded up, anything too large is the largest amount.
    ///
    /// # Errors
    /// When the text is none.
    pub fn parse(text: &str) -> Result<Self, NotAQuantity> {
        let end = text.find(|c: char| !matches!(c, '0'..='9' | '.' | '+' | '-')).unwrap_or(text.len());
        let (number, suffix) = text.split_at(end);
        let (negative, number) = match number.as_bytes().first() {
            Some(b'-') => (true, &number[1..]),
            Some(b'+') => (false, &number[1..]),
            _ => (false, number),
        };
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        let digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
        if whole.len() + fraction.len() == 0 || !digits(whole) || !digits(fraction) {
            return Err(NotAQuantity);
        }
        let (factor, shift) = scale(suffix)?;
        let digits = format!("{whole}{fraction}");
        let value: i128 = digits
            .trim_start_matches('0')
            .parse()
            .or(if digits.trim_matches('0').is_empty() { Ok(0) } else { Err(()) })
            .unwrap_or(i128::MAX);
        let point = i32::try_from(fraction.len()).map_err(|_| NotAQuantity)?;
        let nanos = scaled(value.saturating_mul(factor), shift - point + 9);
        Ok(Self { nanos: if negative { -nanos } else { nanos } })
    }

    /// In thousandths, rounded up.
    #[must_use]
    pub fn millis(self) -> i64 {
        self.in_units_of(NANO / 1000)
    }

    /// In whole units, rounded up.
    #[must_use]
    pub fn units(self) -> i64 {
        self.in_units_of(NANO)
    }

    /// How many `divisor`s it is, rounded up; a zero divisor counts as one.
    #[must_use]
    pub fn divided_by(self, divisor: Self) -> i64 {
        self.in_units_of(if divisor.nanos == 0 { NANO } else { divisor.nanos })
    }

    /// So many thousandths.
    #[must_use]
    pub fn from_millis(millis: i64) -> Self {
        Self { nanos: i128::from(millis) * (NANO / 1000) }
    }

    /// So many units.
    #[must_use]
    pub fn from_units(units: i64) -> Self {
        Self { nanos: i128::from(units) * NANO }
    }

    fn in_units_of(self, unit: i128) -> i64 {
        let whole = self.nanos.div_euclid(unit) + i128::from(self.nanos.rem_euclid(unit) != 0);
        i64::try_from(whole).unwrap_or(if whole < 0 { i64::MIN } else { i64::MAX })
    }
}

/// A suffix as a factor and a power of ten.
fn scale(suffix: &str) -> Result<(i128, i32), NotAQuantity> {
    let binary = |power| Ok((1_i128 << (10 * power), 0));
    match suffix {
        "" => Ok((1, 0)),
        "n" => Ok((1, -9)),
        "u" => Ok((1, -6)),
        "m" => Ok((1, -3)),
        "k" => Ok((1, 3)),
        "M" => Ok((1, 6)),
        "G" => Ok((1, 9)),
        "T" => Ok((1, 12)),
        "P" => Ok((1, 15)),
        "E" => Ok((1, 18)),
        "Ki" => binary(1),
        "Mi" => binary(2),
        "Gi" => binary(3),
        "Ti" => binary(4),
        "Pi" => binary(5),
        "Ei" => binary(6),
        _ => {
            let exponent = suffix.strip_prefix(['e', 'E']).ok_or(NotAQuantity)?;
            let exponent: i32 = exponent.parse().map_err(|_| NotAQuantity)?;
            Ok((1, exponent.clamp(-40, 40)))
        }
    }
}

/// `value * 10^power`, rounded up.
fn scaled(value: i128, power: i32) -> i128 {
    let factor = 10_i128.checked_pow(power.unsigned_abs()).unwrap_or(i128::MAX);
    match power {
        0.. => value.saturating_mul(factor),
        _ => value / factor + i128::from(value % factor != 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts() {
        for (text, millis) in [
            ("0", 0),
            ("1", 1000),
            ("+1", 1000),
            ("-1", -1000),
            ("100m", 100),
            ("0.1", 100),
            (".5", 500),
            ("1.", 1000),
            ("1.5", 1500),
            ("0.0001", 1),
            ("1n", 1),
            ("1500u", 2),
            ("2k", 2_000_000),
            ("1Ki", 1_024_000),
            ("1.5Gi", 1_610_612_736_000),
            ("1e3", 1_000_000),
            ("1E3", 1_000_000),
            ("1e-3", 1),
            ("12E", i64::MAX),
            ("99999999999999999999999999999999999999999999", i64::MAX),
        ] {
            assert_eq!(Amount::parse(text).map(Amount::millis), Ok(millis), "{text}");
        }
        for text in
            ["", "a", "1x", "1 ", " 1", "1mi", "1KI", "1.2.3", "--1", "1-", "m", ".", "1e", "1ee3", "0x1"]
        {
            assert_eq!(Amount::parse(text), Err(NotAQuantity), "{text}");
        }
    }

    #[test]
    fn division_rounds_up() {
        let amount = |text| Amount::parse(text).unwrap();
        assert_eq!(amount("1Gi").divided_by(amount("1Mi")), 1024);
        assert_eq!(amount("1500m").divided_by(amount("1")), 2);
        assert_eq!(amount("1500m").divided_by(amount("1m")), 1500);
        assert_eq!(amount("7").divided_by(amount("0")), 7);
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "[0-9.+eEinumkKMGTP-]{0,12}") {
            let _ = Amount::parse(&text);
        }

        #[test]
        fn whole_numbers_are_exact(n in 0..i64::MAX / 1000) {
            proptest::prop_assert_eq!(Amount::parse(&n.to_string()).unwrap().units(), n);
            proptest::prop_assert_eq!(Amount::parse(&format!("{n}m")).unwrap().millis(), n);
        }
    }
}
