//! Values as upstream's error texts show them.

use std::fmt::Write as _;

use serde_json::Value;

/// As `%v` prints a value: `map[a:1 b:[x y]]`.
pub(crate) fn text(value: &Value) -> String {
    let mut out = String::new();
    write(&mut out, value);
    out
}

/// As `%v` prints a list of values.
pub(crate) fn list(values: &[Value]) -> String {
    let mut out = String::from("[");
    for (at, value) in values.iter().enumerate() {
        if at > 0 {
            out.push(' ');
        }
        write(&mut out, value);
    }
    out.push(']');
    out
}

fn write(out: &mut String, value: &Value) {
    match value {
        Value::Null => out.push_str("<nil>"),
        Value::String(text) => out.push_str(text),
        Value::Bool(_) | Value::Number(_) => write!(out, "{value}").expect("a String takes all"),
        Value::Array(items) => out.push_str(&list(items)),
        Value::Object(members) => {
            let mut members: Vec<_> = members.iter().collect();
            members.sort_by_key(|(key, _)| *key);
            out.push_str("map[");
            for (at, (key, value)) in members.into_iter().enumerate() {
                if at > 0 {
                    out.push(' ');
                }
                out.push_str(key);
                out.push(':');
                write(out, value);
            }
            out.push(']');
        }
    }
}

/// As `%s` prints a value, which expects a text.
pub(crate) fn as_text(value: &Value) -> String {
    match value {
        Value::Null => "%!s(<nil>)".to_owned(),
        Value::Bool(_) | Value::Number(_) => format!("%!s({}={value})", type_of(value)),
        other => text(other),
    }
}

/// The type that a decoder of upstream makes of a value.
pub(crate) fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "%!s(<nil>)",
        Value::Bool(_) => "bool",
        Value::Number(n) if n.is_f64() => "float64",
        Value::Number(_) => "int64",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    }
}

/// The kind of JSON value, as upstream's decoder names it.
pub(crate) fn json_kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// As `%#v` prints a value.
pub(crate) fn literal(value: &Value) -> String {
    let of = |items: Vec<String>| items.join(", ");
    match value {
        Value::Null => "interface {}(nil)".to_owned(),
        Value::Array(items) => {
            format!("[]interface {{}}{{{}}}", of(items.iter().map(literal).collect()))
        }
        Value::Object(members) => {
            let member = |(key, value): (&String, &Value)| format!("{key:?}:{}", literal(value));
            format!("map[string]interface {{}}{{{}}}", of(members.iter().map(member).collect()))
        }
        plain => plain.to_string(),
    }
}
