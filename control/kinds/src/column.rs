//! The columns of a `Table`, and the cells that many kinds share.

use jiff::Timestamp;
use proto_kube::object;
use serde_json::Value;

/// A column of a `Table`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Column {
    /// The header, as `Name`.
    pub name: &'static str,
    /// `string`, `integer`, `boolean`, `date` or `number`.
    pub kind: &'static str,
    /// `name` for the column of names, `date` or empty.
    pub format: &'static str,
    /// For a person.
    pub description: &'static str,
    /// 0 for a column that is always shown, 1 for one of the wide output.
    pub priority: i32,
}

/// A column of texts.
#[must_use]
pub const fn text(name: &'static str, description: &'static str) -> Column {
    Column { name, kind: "string", format: "", description, priority: 0 }
}

/// A column of whole numbers.
#[must_use]
pub const fn integer(name: &'static str, description: &'static str) -> Column {
    Column { kind: "integer", ..text(name, description) }
}

/// A column of `true` and `false`.
#[must_use]
pub const fn boolean(name: &'static str, description: &'static str) -> Column {
    Column { kind: "boolean", ..text(name, description) }
}

/// The same column, shown in the wide output only.
#[must_use]
pub const fn wide(column: Column) -> Column {
    Column { priority: 1, ..column }
}

/// The first column of every kind but events.
pub const NAME: Column = Column {
    format: "name",
    ..text("Name", "The name, unique among the objects of the kind in the namespace.")
};

/// The column with the time since creation.
pub const AGE: Column = text("Age", "The time since the object was created.");

/// The columns of a kind without its own.
pub const PLAIN: &[Column] =
    &[NAME, Column { kind: "date", ..text("Created At", "When the object was created.") }];

/// The cells of [`PLAIN`].
#[must_use]
pub fn plain(object: &Value, _now: Timestamp) -> Vec<Value> {
    vec![object::name(object).into(), object::text(object, &["metadata", "creationTimestamp"]).into()]
}

/// The time from a timestamp at a path until now, as [`AGE`] shows it; `<unknown>` when there is none.
#[must_use]
pub fn since(object: &Value, path: &[&str], now: Timestamp) -> Value {
    match object::text(object, path).parse::<Timestamp>() {
        Ok(then) => duration(now.duration_since(then).as_secs()).into(),
        Err(_) => "<unknown>".into(),
    }
}

/// The time since creation.
#[must_use]
pub fn age(object: &Value, now: Timestamp) -> Value {
    since(object, &["metadata", "creationTimestamp"], now)
}

/// A number of seconds as people read it: `90s`, `5m`, `3h20m`, `2d4h`, `15d`, `2y3d`.
#[must_use]
pub fn duration(seconds: i64) -> String {
    const MINUTE: i64 = 60;
    const HOUR: i64 = 60 * MINUTE;
    const DAY: i64 = 24 * HOUR;
    const YEAR: i64 = 365 * DAY;
    let two = |unit: i64, small: i64, names: [&str; 2]| match seconds % unit / small {
        0 => format!("{}{}", seconds / unit, names[0]),
        rest => format!("{}{}{rest}{}", seconds / unit, names[0], names[1]),
    };
    match seconds {
        ..-1 => "<invalid>".to_owned(),
        -1..0 => "0s".to_owned(),
        0..120 => format!("{seconds}s"),
        120..600 => two(MINUTE, 1, ["m", "s"]),
        600..10_800 => format!("{}m", seconds / MINUTE),
        10_800..28_800 => two(HOUR, MINUTE, ["h", "m"]),
        28_800..172_800 => format!("{}h", seconds / HOUR),
        172_800..691_200 => two(DAY, HOUR, ["d", "h"]),
        691_200..63_072_000 => format!("{}d", seconds / DAY),
        63_072_000..252_288_000 => two(YEAR, DAY, ["y", "d"]),
        _ => format!("{}y", seconds / YEAR),
    }
}

/// The names of a map's entries as `a=b,c=d`; `<none>` when it is empty.
#[must_use]
pub fn labels(map: Option<&Value>) -> String {
    let pairs: Vec<String> = map
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
        .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()))
        .collect();
    if pairs.is_empty() { "<none>".to_owned() } else { pairs.join(",") }
}

/// A text, or `<none>` when it is empty.
#[must_use]
pub fn or_none(text: &str) -> Value {
    if text.is_empty() { "<none>".into() } else { text.into() }
}

/// The names and images of the containers of a pod template's spec, each joined with commas.
#[must_use]
pub fn containers(spec: &Value) -> [Value; 2] {
    let of = |key: &str| {
        let texts: Vec<&str> =
            object::items(spec, &["containers"]).map(|c| object::text(c, &[key])).collect();
        Value::from(texts.join(","))
    };
    [of("name"), of("image")]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_short() {
        for (seconds, text) in [
            (-2, "<invalid>"),
            (-1, "0s"),
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (125, "2m5s"),
            (600, "10m"),
            (10_799, "179m"),
            (10_800, "3h"),
            (12_060, "3h21m"),
            (28_800, "8h"),
            (172_799, "47h"),
            (172_800, "2d"),
            (190_800, "2d5h"),
            (691_200, "8d"),
            (63_072_000, "2y"),
            (63_072_000 + 86_400, "2y1d"),
            (252_288_000, "8y"),
        ] {
            assert_eq!(duration(seconds), text, "{seconds}");
        }
    }
}
