//! The schedule of a cron job: five fields, or a name as `@daily`.

use jiff::{SignedDuration, Timestamp, ToSpan, tz::TimeZone};

use crate::zone;

/// What a field of a schedule can be.
struct Bounds {
    least: u64,
    most: u64,
    names: &'static [&'static str],
}

const FIELDS: [Bounds; 5] = [
    Bounds { least: 0, most: 59, names: &[] },
    Bounds { least: 0, most: 23, names: &[] },
    Bounds { least: 1, most: 31, names: &[] },
    Bounds {
        least: 1,
        most: 12,
        names: &["", "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"],
    },
    Bounds { least: 0, most: 6, names: &["sun", "mon", "tue", "wed", "thu", "fri", "sat"] },
];

const NAMED: [(&str, &str); 7] = [
    ("@yearly", "0 0 1 1 *"),
    ("@annually", "0 0 1 1 *"),
    ("@monthly", "0 0 1 * *"),
    ("@weekly", "0 0 * * 0"),
    ("@daily", "0 0 * * *"),
    ("@midnight", "0 0 * * *"),
    ("@hourly", "0 * * * *"),
];

/// When something is done again and again.
#[derive(Debug, Clone, PartialEq)]
pub struct Schedule {
    times: Times,
    /// The zone that the text itself names.
    zone: Option<TimeZone>,
}

#[derive(Debug, Clone, PartialEq)]
enum Times {
    /// After each so much time, in whole seconds.
    Every(SignedDuration),
    /// At minutes, hours, days of the month, months and days of the week: a bit each.
    At([u64; 5], Days),
}

/// How the two kinds of days go together.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Days {
    /// One of them is any day: both must fit.
    Both,
    /// Both are named: either will do.
    Either,
}

impl Schedule {
    /// Reads the form that crontabs have.
    ///
    /// # Errors
    /// What is wrong, in the words of the parser that upstream uses.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err("empty spec string".to_owned());
        }
        let (mut text, mut zone) = (text, None);
        if let Some(zoned) = text.strip_prefix("TZ=").or_else(|| text.strip_prefix("CRON_TZ=")) {
            let (name, rest) = zoned.split_once(' ').unwrap_or((zoned, ""));
            let unknown = || format!("provided bad location {name}: unknown time zone {name}");
            zone = Some(zone::find(name).map_err(|_| unknown())?);
            text = rest.trim();
        }
        if let Some(every) = text.strip_prefix("@every ") {
            let wait = duration(every).map_err(|why| format!("failed to parse duration {text}: {why}"))?;
            let wait = SignedDuration::from_secs(wait.as_secs().max(1));
            return Ok(Self { times: Times::Every(wait), zone });
        }
        let named = NAMED.iter().find(|(name, _)| *name == text).map(|(_, fields)| *fields);
        if named.is_none() && text.starts_with('@') {
            return Err(format!("unrecognized descriptor: {text}"));
        }
        let fields: Vec<&str> = named.unwrap_or(text).split_whitespace().collect();
        if fields.len() != FIELDS.len() {
            return Err(format!("expected exactly 5 fields, found {}: [{}]", fields.len(), fields.join(" ")));
        }
        let (mut bits, mut any) = ([0; 5], [false; 5]);
        for (at, (field, bounds)) in fields.into_iter().zip(&FIELDS).enumerate() {
            for part in field.split(',').filter(|part| !part.is_empty()) {
                let (range, is_any) = range(part, bounds)?;
                bits[at] |= range;
                any[at] |= is_any;
            }
        }
        let days = if any[2] || any[4] { Days::Both } else { Days::Either };
        Ok(Self { times: Times::At(bits, days), zone })
    }

    /// The first time after another; in this zone, where the text does not name one. `None` where there is none within
    /// five years, as for the 31st of February.
    #[must_use]
    pub fn next(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let (bits, days) = match &self.times {
            Times::Every(wait) => {
                return Timestamp::from_second(after.as_second()).ok()?.checked_add(*wait).ok();
            }
            Times::At(bits, days) => (bits, *days),
        };
        let zone = self.zone.as_ref().unwrap_or(zone);
        let start = after.as_second().div_euclid(60) * 60 + 60;
        let mut at = Timestamp::from_second(start).ok()?.to_zoned(zone.clone());
        let last = at.year() + 5;
        let has = |field: usize, value: i8| bits[field] >> value & 1 == 1;
        while at.year() <= last {
            let of_month = has(2, at.day());
            let of_week = has(4, at.weekday().to_sunday_zero_offset());
            let day = if days == Days::Both { of_month && of_week } else { of_month || of_week };
            at = if !has(3, at.month()) {
                at.first_of_month().ok()?.checked_add(1.month()).ok()?.start_of_day().ok()?
            } else if !day {
                at.tomorrow().ok()?.start_of_day().ok()?
            } else if !has(1, at.hour()) {
                // By the clock that runs on: an hour that a change of time leaves out does not come.
                let rest = 60 - i64::from(at.minute());
                at.checked_add(SignedDuration::from_mins(rest)).ok()?
            } else if !has(0, at.minute()) {
                at.checked_add(SignedDuration::from_mins(1)).ok()?
            } else {
                return Some(at.timestamp());
            };
        }
        None
    }
}

/// `*`, `5`, `1-5`, each perhaps with a step: `*/2`. A bit for each value, and whether any will do.
fn range(part: &str, bounds: &Bounds) -> Result<(u64, bool), String> {
    let (mut slashes, mut hyphens) = (part.split('/'), part.split('/').next().unwrap_or_default().split('-'));
    let low = hyphens.next().unwrap_or_default();
    let (mut start, mut end) = (bounds.least, bounds.most);
    let single = part.split('/').next().is_some_and(|range| !range.contains('-'));
    if low != "*" && low != "?" {
        start = number(low, bounds.names)?;
        end = match (hyphens.next(), hyphens.next()) {
            (None, _) => start,
            (Some(high), None) => number(high, bounds.names)?,
            _ => return Err(format!("too many hyphens: {part}")),
        };
    }
    slashes.next();
    let step = match (slashes.next(), slashes.next()) {
        (None, _) => 1,
        (Some(step), None) => {
            if single {
                end = bounds.most;
            }
            number(step, &[])?
        }
        _ => return Err(format!("too many slashes: {part}")),
    };
    if start < bounds.least {
        return Err(format!("beginning of range ({start}) below minimum ({}): {part}", bounds.least));
    }
    if end > bounds.most {
        return Err(format!("end of range ({end}) above maximum ({}): {part}", bounds.most));
    }
    if start > end {
        return Err(format!("beginning of range ({start}) beyond end of range ({end}): {part}"));
    }
    if step == 0 {
        return Err(format!("step of range should be a positive number: {part}"));
    }
    let bits = (start..=end).filter(|n| (n - start).is_multiple_of(step)).fold(0, |bits, n| bits | 1 << n);
    Ok((bits, (low == "*" || low == "?") && step == 1))
}

/// A number, or the name that stands for it.
fn number(text: &str, names: &[&str]) -> Result<u64, String> {
    let lower = text.to_lowercase();
    if let Some(at) = names.iter().position(|name| !name.is_empty() && **name == lower) {
        return Ok(at as u64);
    }
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(format!(
            "failed to parse int from {text}: strconv.Atoi: parsing {text:?}: invalid syntax"
        ));
    }
    match text.parse::<i64>() {
        Ok(number) => {
            u64::try_from(number).map_err(|_| format!("negative number ({number}) not allowed: {text}"))
        }
        Err(_) => Err(format!(
            "failed to parse int from {text}: strconv.Atoi: parsing {text:?}: value out of range"
        )),
    }
}

/// A duration as `1h30m`, in Go's form.
fn duration(text: &str) -> Result<SignedDuration, String> {
    let bad = || format!("time: invalid duration {text:?}");
    let mut rest = text.strip_prefix(['+', '-']).unwrap_or(text);
    let mut seconds = 0.0;
    if rest == "0" {
        return Ok(SignedDuration::ZERO);
    }
    if rest.is_empty() {
        return Err(bad());
    }
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, tail) = rest.split_at(end);
        if !number.bytes().any(|b| b.is_ascii_digit()) || number.matches('.').count() > 1 {
            return Err(bad());
        }
        let end = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(end);
        let unit = match unit {
            "" => return Err(format!("time: missing unit in duration {text:?}")),
            "ns" => 1e-9,
            "us" | "µs" | "μs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return Err(format!("time: unknown unit {unit:?} in duration {text:?}")),
        };
        seconds += number.parse::<f64>().map_err(|_| bad())? * unit;
        rest = tail;
    }
    let seconds = if text.starts_with('-') { -seconds } else { seconds };
    SignedDuration::try_from_secs_f64(seconds).map_err(|_| bad())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn right() {
        for schedule in [
            "* * * * *",
            "0 0 1 1 0",
            "59 23 31 12 6",
            "*/5 1-3,7 ? JAN-mar sun",
            "0/15 * * * mon-fri",
            "@daily",
            "@every 1h30m",
            "@every 0.5s",
            "TZ=UTC 0 * * * *",
            "CRON_TZ=Europe/Berlin @hourly",
        ] {
            assert_eq!(Schedule::parse(schedule).err(), None, "{schedule}");
        }
    }

    #[test]
    fn wrong() {
        for (schedule, text) in [
            ("", "empty spec string"),
            ("* * * *", "expected exactly 5 fields, found 4: [* * * *]"),
            ("* * * * * *", "expected exactly 5 fields, found 6: [* * * * * *]"),
            ("error", "expected exactly 5 fields, found 1: [error]"),
            ("60 * * * *", "end of range (60) above maximum (59): 60"),
            ("* * 0 * *", "beginning of range (0) below minimum (1): 0"),
            ("5-1 * * * *", "beginning of range (5) beyond end of range (1): 5-1"),
            ("1-2-3 * * * *", "too many hyphens: 1-2-3"),
            ("1/2/3 * * * *", "too many slashes: 1/2/3"),
            ("*/0 * * * *", "step of range should be a positive number: */0"),
            ("a * * * *", "failed to parse int from a: strconv.Atoi: parsing \"a\": invalid syntax"),
            ("-1 * * * *", "failed to parse int from : strconv.Atoi: parsing \"\": invalid syntax"),
            ("@hello", "unrecognized descriptor: @hello"),
            ("@every x", "failed to parse duration @every x: time: invalid duration \"x\""),
            ("@every 5", "failed to parse duration @every 5: time: missing unit in duration \"5\""),
            ("@every 5x", "failed to parse duration @every 5x: time: unknown unit \"x\" in duration \"5x\""),
            ("TZ=Mars/X * * * * *", "provided bad location Mars/X: unknown time zone Mars/X"),
        ] {
            assert_eq!(Schedule::parse(schedule).unwrap_err(), text, "{schedule}");
        }
    }

    #[test]
    fn times() {
        let next = |schedule: &str, after: &str, zone: &str| {
            let schedule = Schedule::parse(schedule).unwrap();
            let at = schedule.next(after.parse().unwrap(), &zone::find(zone).unwrap());
            at.map_or("never".to_owned(), |at| at.to_string())
        };
        for (schedule, after, zone, expected) in [
            ("* * * * *", "2026-01-01T00:00:00Z", "UTC", "2026-01-01T00:01:00Z"),
            ("* * * * *", "2026-01-01T00:00:59.5Z", "UTC", "2026-01-01T00:01:00Z"),
            ("*/15 * * * *", "2026-01-01T00:44:00Z", "UTC", "2026-01-01T00:45:00Z"),
            ("0 3 * * *", "2026-01-01T03:00:00Z", "UTC", "2026-01-02T03:00:00Z"),
            ("0 0 29 2 *", "2026-01-01T00:00:00Z", "UTC", "2028-02-29T00:00:00Z"),
            ("0 0 31 2 *", "2026-01-01T00:00:00Z", "UTC", "never"),
            // Thursdays and the 13th; with a star on one side, only where both fit.
            ("0 0 13 * thu", "2026-01-09T00:00:00Z", "UTC", "2026-01-13T00:00:00Z"),
            ("0 0 * * thu", "2026-01-09T00:00:00Z", "UTC", "2026-01-15T00:00:00Z"),
            ("30 6-16/4 * * 1-5", "2026-01-02T14:31:00Z", "UTC", "2026-01-05T06:30:00Z"),
            ("0 9 * * *", "2026-07-01T00:00:00Z", "Europe/Berlin", "2026-07-01T07:00:00Z"),
            ("TZ=Asia/Tokyo 0 9 * * *", "2026-07-01T00:00:00Z", "Europe/Berlin", "2026-07-02T00:00:00Z"),
            // Half past two does not come when the clocks go forward, and comes twice when they go back.
            ("30 2 * * *", "2026-03-28T12:00:00Z", "Europe/Berlin", "2026-03-30T00:30:00Z"),
            ("30 2 * * *", "2026-10-25T00:30:00Z", "Europe/Berlin", "2026-10-25T01:30:00Z"),
            ("@every 90s", "2026-01-01T00:00:00.7Z", "UTC", "2026-01-01T00:01:30Z"),
            ("@every 1h30m", "2026-01-01T00:00:00Z", "UTC", "2026-01-01T01:30:00Z"),
            ("@weekly", "2026-01-01T00:00:00Z", "UTC", "2026-01-04T00:00:00Z"),
        ] {
            assert_eq!(next(schedule, after, zone), expected, "{schedule} after {after}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "[-0-9*/,? a-z@.=TZ]{0,24}", second in 0i64..4_000_000_000) {
            if let Ok(schedule) = Schedule::parse(&text) {
                let after = Timestamp::from_second(second).unwrap();
                if let Some(next) = schedule.next(after, &TimeZone::UTC) {
                    assert!(next > after);
                }
            }
        }
    }
}
