//! `FieldsV1` read and written.

use serde_json::json;

use serde_json::Value;

use super::*;

#[test]
fn read_and_written_in_order() {
    let text = concat!(
        r#"{"f:metadata":{"f:labels":{".":{},"f:a":{}}},"f:spec":{"f:ports":{"#,
        r#""k:{\"port\":9,\"protocol\":\"TCP\"}":{".":{},"f:port":{}},"#,
        r#""k:{\"port\":80,\"protocol\":\"TCP\"}":{"f:name":{}}},"#,
        r#""f:set":{"v:1":{},"v:\"a\"":{},"v:true":{},"i:3":{}}}}"#
    );
    let set = Set::parse(text.as_bytes()).unwrap();
    assert_eq!(set.print(), text);
    assert_eq!(Set::from_value(&set.to_value()).unwrap(), set);
    let paths: Vec<_> = set.paths().iter().map(ToString::to_string).collect();
    assert_eq!(
        paths,
        [
            ".metadata.labels",
            ".metadata.labels.a",
            r#".spec.ports[port=9,protocol="TCP"]"#,
            r#".spec.ports[port=9,protocol="TCP"].port"#,
            r#".spec.ports[port=80,protocol="TCP"].name"#,
            ".spec.set[=1]",
            r#".spec.set[="a"]"#,
            ".spec.set[=true]",
            ".spec.set[3]",
        ]
    );
    assert!(set.contains(&[Element::Field("metadata".into()), Element::Field("labels".into())]));
    assert!(!set.contains(&[Element::Field("metadata".into())]));
}

#[test]
fn written_differently_is_the_same() {
    let same = [
        (r#"{"f:a":{".":{}}}"#, r#"{"f:a":{}}"#),
        (r#"{"f:a":null}"#, r#"{"f:a":{}}"#),
        (r#"{".":{},"x:later":{"f:b":{}}}"#, "{}"),
        (r#"{"f:b":{},"f:a":{}}"#, r#"{"f:a":{},"f:b":{}}"#),
        (r#"{"k:{\"b\":80.0,\"a\":1}":{}}"#, r#"{"k:{\"a\":1,\"b\":80}":{}}"#),
        ("null", "{}"),
    ];
    for (text, canonical) in same {
        assert_eq!(Set::parse(text.as_bytes()).unwrap().print(), canonical, "{text}");
    }
    for text in [
        "",
        "[]",
        r#"{"f":{}}"#,
        r#"{"fx:a":{}}"#,
        r#"{"i:x":{}}"#,
        r#"{"v:{":{}}"#,
        r#"{"k:1":{}}"#,
        r#"{"f:a":1}"#,
        r#"{"é":{}}"#,
    ] {
        assert!(Set::parse(text.as_bytes()).is_err(), "{text}");
    }
}

#[test]
fn as_sets() {
    let set = |fields: Value| Set::from_value(&fields).unwrap();
    let a = set(json!({"f:a": {".": {}, "f:b": {}, "f:c": {}}, "f:x": {}}));
    let b = set(json!({"f:a": {"f:b": {}}, "f:y": {}}));
    assert_eq!(a.union(&b), set(json!({"f:a": {".": {}, "f:b": {}, "f:c": {}}, "f:x": {}, "f:y": {}})));
    assert_eq!(a.intersection(&b), set(json!({"f:a": {"f:b": {}}})));
    assert_eq!(a.difference(&b), set(json!({"f:a": {".": {}, "f:c": {}}, "f:x": {}})));
    assert_eq!(a.difference(&a), Set::default());
    let gone = set(json!({"f:a": {}}));
    assert_eq!(a.difference(&gone), set(json!({"f:a": {"f:b": {}, "f:c": {}}, "f:x": {}})));
    assert_eq!(a.without(&gone), set(json!({"f:x": {}})));
    assert_eq!(Set::path(&["a", "b"]), set(json!({"f:a": {"f:b": {}}})));
}
