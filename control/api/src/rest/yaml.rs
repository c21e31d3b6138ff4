//! Objects as YAML, in block style.

use serde_json::Value;

/// An object as a YAML document.
#[must_use]
pub(crate) fn text(value: &Value) -> String {
    let mut out = String::new();
    node(&mut out, value, 0, true);
    if !out.ends_with('\n') {
        out.push('\n');
    }
    out
}

fn indent(out: &mut String, depth: usize) {
    out.extend(std::iter::repeat_n("  ", depth));
}

/// Writes a value. `inline` says that the cursor already stands where the value's first line goes.
fn node(out: &mut String, value: &Value, depth: usize, inline: bool) {
    let mut inline = inline;
    match value {
        Value::Object(members) if !members.is_empty() => {
            for (key, value) in members {
                if !std::mem::take(&mut inline) {
                    indent(out, depth);
                }
                out.push_str(&scalar(key));
                out.push(':');
                below(out, value, depth);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for item in items {
                if !std::mem::take(&mut inline) {
                    indent(out, depth);
                }
                out.push_str("- ");
                node(out, item, depth + 1, true);
            }
        }
        Value::String(text) => line(out, &scalar(text)),
        other => line(out, &other.to_string()),
    }
}

/// Writes what stands behind a key: a scalar on its line, anything else below. Lists stand as deep as their key.
fn below(out: &mut String, value: &Value, depth: usize) {
    match value {
        Value::Object(members) if !members.is_empty() => {
            out.push('\n');
            node(out, value, depth + 1, false);
        }
        Value::Array(items) if !items.is_empty() => {
            out.push('\n');
            node(out, value, depth, false);
        }
        value => {
            out.push(' ');
            node(out, value, depth, true);
        }
    }
}

fn line(out: &mut String, text: &str) {
    out.push_str(text);
    out.push('\n');
}

/// A text without quotes where every YAML reader takes it for a text, else with them.
fn scalar(text: &str) -> String {
    let edge = |c: char| c.is_ascii_alphabetic() || c == '_' || c == '/';
    let inner = |c: char| c.is_ascii_alphanumeric() || "_./-:".contains(c);
    let word = matches!(
        text.to_ascii_lowercase().as_str(),
        "true" | "false" | "yes" | "no" | "on" | "off" | "y" | "n" | "null"
    );
    let plain = text.starts_with(edge) && text.chars().all(inner) && !text.ends_with(':') && !word;
    if plain || text == "." {
        return text.to_owned();
    }
    Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn blocks() {
        let object = json!({
            "apiVersion": "v1", "empty": {}, "list": [1, {"a": "x y", "b": [true]}, []], "no": "yes",
            "text": "a: b\n", "time": "2026-11-21T07:00:00Z", "map": {"k/v": null},
        });
        let expected = "apiVersion: v1\nempty: {}\nlist:\n- 1\n- a: \"x y\"\n  b:\n  - true\n- []\nmap:\n  k/v: null\n\"no\": \"yes\"\ntext: \"a: b\\n\"\ntime: \"2026-11-21T07:00:00Z\"\n";
        assert_eq!(text(&object), expected);
    }
}
