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

    /// As a floating-point number of units, with its loss of precision.
    #[must_use]
    pub fn as_f64(self) -> f64 {
        self.nanos as f64 / NANO as f64
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

/// How a quantity is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// With the powers of a thousand: `1500m`, `2k`.
    #[default]
    Decimal,
    /// With the powers of 1024: `64Mi`.
    Binary,
    /// With an exponent: `12e6`.
    Exponent,
}

/// An amount that remembers how it was written. Shown, it has its canonical form: `0.5Gi` is `512Mi`, `1000m` is `1`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Quantity {
    /// How much.
    pub amount: Amount,
    /// How it is shown.
    pub format: Format,
}

/// The canonical form of a quantity, as the API serves it.
///
/// # Errors
/// When the text is none.
pub fn canonical(text: &str) -> Result<String, NotAQuantity> {
    Quantity::parse(text).map(|quantity| quantity.to_string())
}

impl Quantity {
    /// Reads a quantity.
    ///
    /// # Errors
    /// When the text is none.
    pub fn parse(text: &str) -> Result<Self, NotAQuantity> {
        let mut amount = Amount::parse(text)?;
        let format = if text.ends_with('i') {
            let most = Amount::from_units(i64::MAX);
            amount = amount.clamp(Amount { nanos: -most.nanos }, most);
            Format::Binary
        } else if text.contains(['e', 'E']) && !text.ends_with('E') {
            Format::Exponent
        } else {
            Format::Decimal
        };
        Ok(Self { amount, format })
    }

    /// Of a member of a `ResourceList`: a text or a number. What is neither counts as nothing.
    #[must_use]
    pub fn of(value: &serde_json::Value) -> Self {
        let read = match value {
            serde_json::Value::String(text) => Self::parse(text),
            serde_json::Value::Number(number) => Self::parse(&number.to_string()),
            _ => Ok(Self::default()),
        };
        read.unwrap_or_default()
    }

    /// So many units.
    #[must_use]
    pub fn units(units: i64) -> Self {
        Self { amount: Amount::from_units(units), format: Format::Decimal }
    }

    /// The next whole number of units.
    #[must_use]
    pub fn rounded_up(self) -> Self {
        let part = self.amount.nanos.rem_euclid(NANO);
        let up = if part == 0 { 0 } else { NANO - part };
        Self { amount: Amount { nanos: self.amount.nanos.saturating_add(up) }, ..self }
    }

    /// The format of a sum or difference: nothing takes on that of what comes to it.
    fn format_with(self, other: Self) -> Format {
        if self.amount.nanos == 0 { other.format } else { self.format }
    }
}

impl std::ops::Add for Quantity {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        let nanos = self.amount.nanos.saturating_add(other.amount.nanos);
        Self { amount: Amount { nanos }, format: self.format_with(other) }
    }
}

impl std::ops::Sub for Quantity {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        let nanos = self.amount.nanos.saturating_sub(other.amount.nanos);
        Self { amount: Amount { nanos }, format: self.format_with(other) }
    }
}

impl std::fmt::Display for Quantity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        const BINARY: [&str; 7] = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
        const DECIMAL: [&str; 10] = ["n", "u", "m", "", "k", "M", "G", "T", "P", "E"];
        let nanos = self.amount.nanos;
        if nanos == 0 {
            return f.write_str("0");
        }
        // Small or broken amounts have no binary form without a loss.
        if self.format == Format::Binary && nanos % NANO == 0 && nanos.abs() >= 1024 * NANO {
            let (number, power) = without_factors(nanos / NANO, 1024, BINARY.len() - 1);
            return write!(f, "{number}{}", BINARY[power]);
        }
        let most = if self.format == Format::Exponent { 12 } else { DECIMAL.len() - 1 };
        let (number, power) = without_factors(nanos, 1000, most);
        match (self.format, power) {
            (Format::Exponent, 3) => write!(f, "{number}"),
            (Format::Exponent, 0..3) => write!(f, "{number}e-{}", (3 - power) * 3),
            (Format::Exponent, _) => write!(f, "{number}e{}", (power - 3) * 3),
            _ => write!(f, "{number}{}", DECIMAL[power]),
        }
    }
}

/// Divides by a factor as long as nothing remains, `most` times at most; also tells how often.
fn without_factors(mut number: i128, factor: i128, most: usize) -> (i128, usize) {
    let mut power = 0;
    while power < most && number % factor == 0 {
        number /= factor;
        power += 1;
    }
    (number, power)
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

    #[test]
    fn the_canonical_form_is_upstreams() {
        for (text, shown) in [
            ("0", "0"),
            ("0Gi", "0"),
            ("1000m", "1"),
            ("1500m", "1500m"),
            ("0.5", "500m"),
            ("1.5", "1500m"),
            ("1000", "1k"),
            ("1500", "1500"),
            ("1024", "1024"),
            ("1024Ki", "1Mi"),
            ("0.5Gi", "512Mi"),
            ("1.5Gi", "1536Mi"),
            ("0.5Mi", "512Ki"),
            ("0.5Ki", "512"),
            ("0.1Mi", "104857600m"),
            ("100Ei", "9223372036854775807"),
            ("12e6", "12e6"),
            ("1e3", "1e3"),
            ("1200e3", "1200e3"),
            ("1e-3", "1e-3"),
            ("0.01e3", "10"),
            ("5E", "5E"),
            ("-1.5", "-1500m"),
            ("0.0000000001", "1n"),
        ] {
            assert_eq!(canonical(text).as_deref(), Ok(shown), "{text}");
        }
    }

    #[test]
    fn sums_keep_the_first_format() {
        let read = |text| Quantity::parse(text).unwrap();
        assert_eq!((read("1Gi") + read("1")).to_string(), "1073741825");
        assert_eq!((read("1Gi") + read("1024")).to_string(), "1048577Ki");
        assert_eq!((read("0") + read("1Gi")).to_string(), "1Gi");
        assert_eq!((read("2") - read("500m")).to_string(), "1500m");
        assert_eq!(read("1500m").rounded_up().to_string(), "2");
        assert_eq!(read("-1500m").rounded_up().to_string(), "-1");
    }

    proptest::proptest! {
        #[test]
        fn the_canonical_form_stays_the_amount(text in "[0-9]{1,6}(\\.[0-9]{0,3})?(m|k|M|G|Ki|Mi|Gi|e[0-9])?") {
            let quantity = Quantity::parse(&text).unwrap();
            let again = Quantity::parse(&quantity.to_string()).unwrap();
            proptest::prop_assert_eq!(quantity.amount, again.amount);
            proptest::prop_assert_eq!(quantity.to_string(), again.to_string());
        }

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
