//! Objects at rest: compact JSON that begins with `{"apiVersion":..,"kind":..,"metadata":{` and carries no
//! resourceVersion, so that one can be spliced in behind the brace when the object is served.

use bytes::Bytes;
use serde_json::{Map, Value};

/// The bytes to store.
///
/// # Panics
/// When the value is no object: decoding by the schema rules that out.
#[must_use]
pub fn encode(object: &Value) -> Bytes {
    let members = object.as_object().expect("decoded as an object");
    let mut text = Vec::with_capacity(1024);
    text.extend_from_slice(b"{\"apiVersion\":");
    append(&mut text, &members["apiVersion"]);
    text.extend_from_slice(b",\"kind\":");
    append(&mut text, &members["kind"]);
    text.extend_from_slice(b",\"metadata\":");
    append_without(&mut text, members.get("metadata").and_then(Value::as_object), "resourceVersion");
    for (key, value) in
        members.iter().filter(|(k, _)| !matches!(k.as_str(), "apiVersion" | "kind" | "metadata"))
    {
        text.push(b',');
        append(&mut text, &Value::String(key.clone()));
        text.push(b':');
        append(&mut text, value);
    }
    text.push(b'}');
    text.into()
}

fn append(text: &mut Vec<u8>, value: &Value) {
    serde_json::to_writer(text, value).expect("writing JSON to memory cannot fail");
}

fn append_without(text: &mut Vec<u8>, members: Option<&Map<String, Value>>, left_out: &str) {
    text.push(b'{');
    let mut first = true;
    for (key, value) in members.into_iter().flatten().filter(|(key, _)| *key != left_out) {
        if !std::mem::take(&mut first) {
            text.push(b',');
        }
        append(text, &Value::String(key.clone()));
        text.push(b':');
        append(text, value);
    }
    text.push(b'}');
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_head_is_fixed() {
        let object = json!({
            "automountServiceAccountToken": true, "kind": "ServiceAccount", "apiVersion": "v1",
            "metadata": {"resourceVersion": "7", "name": "a\"b"},
        });
        let text = encode(&object);
        let expected: &[u8] = br#"{"apiVersion":"v1","kind":"ServiceAccount","metadata":{"name":"a\"b"},"automountServiceAccountToken":true}"#;
        assert_eq!(text, expected);
    }
}
