//! Known objects in both forms, and the way there and back.

use std::path::Path;

use serde_json::{Map, Value, json};

use super::*;
use crate::decode::{self, Strictness};
use crate::schema::{Shape, TypeId};

fn without_nulls(value: &mut Value) {
    match value {
        Value::Object(members) => {
            members.retain(|_, v| !v.is_null());
            members.values_mut().for_each(without_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(without_nulls),
        _ => {}
    }
}

/// Upstream's objects with every field set, in both of its forms: those of github.com/kubernetes/api `testdata/HEAD`.
#[test]
fn upstreams_testdata() {
    let Some(folder) = std::env::var_os("CLEAT_KUBE_TESTDATA") else {
        eprintln!(
            "NOT COMPARED with upstream: CLEAT_KUBE_TESTDATA names no folder like kubernetes/api's testdata/HEAD"
        );
        return;
    };
    let mut compared = 0;
    for (id, kind) in table().types() {
        // WatchEvent and Status stand in envelopes that tell no kind there, and in their JSON as well.
        for gvk in kind.kinds.iter().filter(|gvk| !["WatchEvent", "Status"].contains(&gvk.kind.as_str())) {
            let group = if gvk.group.is_empty() { "core" } else { &gvk.group };
            let path = Path::new(&folder).join(format!("{group}.{}.{}", gvk.version, gvk.kind));
            let read = |form: &str| std::fs::read(path.with_added_extension(form));
            let (Ok(text), Ok(bytes)) = (read("json"), read("pb")) else { continue };
            let mut expected: Value = serde_json::from_slice(&text).unwrap();
            without_nulls(&mut expected);
            let (mut from_json, problems) =
                decode::json(&text, id, Strictness::Warn).unwrap_or_else(|e| panic!("{gvk}: {e}"));
            assert_eq!(problems, [""; 0], "{gvk}");
            without_nulls(&mut from_json);
            assert_eq!(from_json, expected, "{gvk} from JSON");
            let (named, mut from_wire) = decode(&bytes).unwrap_or_else(|e| panic!("{gvk}: {e}"));
            assert_eq!(&named, gvk);
            let again = encode(gvk, &from_wire).unwrap_or_else(|e| panic!("{gvk}: {e}"));
            assert_eq!(decode(&again), Ok((named, from_wire.clone())), "{gvk} there and back");
            without_nulls(&mut from_wire);
            assert_eq!(from_wire, expected, "{gvk} from protobuf");
            compared += 1;
        }
    }
    assert!(compared > 60, "{compared} kinds compared: is this the right folder?");
    eprintln!("compared {compared} kinds with upstream");
}

/// Bytes from hexadecimal digits.
fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

/// client-go writes every field that is no pointer, also when it is zero.
#[test]
fn zeroes_of_values_vanish_and_zeroes_of_pointers_stay() {
    // metadata.name=web, metadata.namespace="", metadata.generation=0, metadata.creationTimestamp empty;
    // spec.replicas=0, spec.minReadySeconds=0, spec.template empty; status.replicas=0.
    let deployment = "6b387300 0a15 0a07617070732f7631 120a4465706c6f796d656e74 \
        12 1d  0a0b 0a03776562 1a00 3800 4200  12 0a 0800 1a04 0a00 1200 2800 1a 02 1000 1a00 2200";
    let (gvk, object) = decode(&bytes(deployment)).unwrap();
    assert_eq!(gvk, Gvk::new("apps/v1", "Deployment"));
    assert_eq!(
        object,
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": "web"},
            "spec": {"replicas": 0, "strategy": {}, "template": {"metadata": {}, "spec": {}}},
            "status": {},
        })
    );
}

#[test]
fn a_known_object_is_written_byte_by_byte() {
    let object = json!({
        "metadata": {"name": "a", "labels": {"k": "v"}},
        "data": {"x": "1"}, "binaryData": {"b": "AQI="}, "immutable": false,
    });
    let expected = "6b387300 0a0f 0a027631 1209436f6e6669674d6170 \
        12 20 1a070a0162 12020102 12060a0178120131 2000 0a0b 5a06 0a016b 120176 0a0161 1a00 2200";
    assert_eq!(encode(&Gvk::new("v1", "ConfigMap"), &object), Ok(bytes(expected)));
    let frame = event("ADDED", b"xy");
    assert_eq!(frame, bytes("0000000d 0a05 4144444544 1204 0a02 7879"));
}

#[test]
fn a_list_is_written_item_by_item() {
    let gvk = Gvk::new("v1", "ConfigMapList");
    let items = ["a", "b"].map(|name| json!({"metadata": {"name": name}, "data": {"k": name}}));
    let whole = json!({"metadata": {"resourceVersion": "7", "remainingItemCount": 0}, "items": items});
    let listed = list(&gvk, &whole["metadata"], items).unwrap();
    let (named, read) = decode(&listed).unwrap();
    assert_eq!(named, gvk);
    assert_eq!(read["items"], whole["items"]);
    assert_eq!(read["metadata"], whole["metadata"]);
}

#[test]
fn bytes_that_are_no_object_are_refused() {
    let config_map = encode(&Gvk::new("v1", "ConfigMap"), &json!({"data": {"x": "1"}})).unwrap();
    assert_eq!(decode(b""), Err(Error::Empty));
    assert_eq!(decode(b"{}"), Err(Error::Prefix));
    // Behind the kind, between two fields, an envelope may end.
    for cut in (5..config_map.len() - 4).filter(|&cut| cut != 21) {
        assert!(decode(&config_map[..cut]).is_err(), "cut at {cut}");
    }
    let thing = "6b387300 0a0a 0a027631 12045468696e 12 00";
    let error = decode(&bytes(thing)).unwrap_err();
    assert_eq!(error.to_string(), "no kind \"Thin\" is registered for version \"v1\"");
    let id = table().kind(&Gvk::new("v1", "Pod")).unwrap();
    let pod = |hex: &str| object(&Gvk::new("v1", "Pod"), id, &bytes(hex)).map_err(|e| e.to_string());
    assert_eq!(pod("0801"), Err("proto: wrong wireType = 0 for field metadata".to_owned()));
    assert_eq!(pod("12 05 1a ff ff ff ff"), Err("unexpected EOF".to_owned()));
    assert_eq!(pod("0a ff ff ff ff ff ff ff ff ff 7f"), Err("proto: illegal tag or number".to_owned()));
    assert!(pod("0a04 0a02 c328").unwrap_err().starts_with("proto: field name: invalid utf-8"));
    // Tags that we do not know are those of a newer client.
    assert!(pod("9a0605 0000000000 a00601 a90600000000 00000000 ad06 00000000").is_ok());
    assert!(pod("0b0c").is_err(), "groups");
    let many = [&[0x12, 0xfe, 0xff, 0x7f][..], &[0x12, 0].repeat(1 << 20)].concat();
    assert_eq!(object(&Gvk::new("v1", "Pod"), id, &many[..many.len() - 2]).unwrap_err(), Error::TooMany);
}

/// A value of a shape, made of the bits of `seed`; never empty, so that both forms can carry it.
fn made(shape: &Shape, seed: &mut u64, depth: usize) -> Value {
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    let bits = *seed;
    let pick = |all: &[Value]| all[usize::try_from(bits % 60).unwrap() % all.len()].clone();
    match shape {
        Shape::Bool => pick(&[true.into(), false.into()]),
        Shape::Int32 => pick(&[0.into(), 1.into(), (-5).into(), i32::MAX.into(), i32::MIN.into()]),
        Shape::Int64 => pick(&[0.into(), 7.into(), i64::MAX.into(), i64::MIN.into()]),
        Shape::Double => pick(&[0.0.into(), 1.5.into(), (-2.25).into()]),
        Shape::String => pick(&["".into(), "a".into(), "é\n".into(), "x".repeat(200).into()]),
        Shape::Bytes => pick(&["".into(), "AA==".into(), "/+8=".into()]),
        Shape::Time => pick(&["1969-12-31T23:59:59Z".into(), "2026-11-21T07:00:00Z".into()]),
        Shape::MicroTime => {
            pick(&["2026-11-21T07:00:00.000001Z".into(), "1970-01-01T00:00:00.000000Z".into()])
        }
        Shape::Duration => pick(&["0s".into(), "1h30m0s".into(), "-1.5s".into()]),
        Shape::Quantity => pick(&["0".into(), "1500m".into(), "64Mi".into(), "1e3".into()]),
        Shape::IntOrString => pick(&[0.into(), 80.into(), "".into(), "50%".into()]),
        Shape::Raw => pick(&[json!({"a": [1, null, {"b": "c"}]}), json!({}), json!("text")]),
        Shape::List(item) => (0..=bits % 2).map(|_| made(item, seed, depth)).collect(),
        Shape::Map(item) => {
            (0..=bits % 2).map(|n| (format!("k{n}"), made(item, seed, depth))).collect::<Map<_, _>>().into()
        }
        Shape::Object(id) => {
            let mut members = Map::new();
            for field in table().of(*id).fields.iter().filter(|f| !f.tags.is_empty()) {
                *seed = seed.rotate_left(5) ^ 0x9e37_79b9_7f4a_7c15;
                if *seed % 4 < if depth < 4 { 2 } else { 1 } {
                    members.insert(field.name.to_owned(), made(&field.shape, seed, depth + 1));
                }
            }
            Value::Object(members)
        }
    }
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(512))]
    #[test]
    fn both_forms_carry_the_same(seed in 1_u64.., chosen: proptest::sample::Index) {
        let id = TypeId(u16::try_from(chosen.index(table().types().count())).unwrap());
        let value = made(&Shape::Object(id), &mut { seed }, 0);
        let (value, problems) = decode::value(value, id, Strictness::Warn).unwrap();
        proptest::prop_assert_eq!(problems, Vec::<String>::new());
        let mut bytes = Vec::new();
        write::object(table(), id, &value, &mut bytes).unwrap();
        proptest::prop_assert_eq!(read::object(table(), id, &bytes), Ok(value.clone()), "{}", table().of(id).name);
        let again = decode::json(value.to_string().as_bytes(), id, Strictness::Strict).unwrap().0;
        proptest::prop_assert_eq!(again, value);
        // A byte that was hit by a cosmic ray is an error or another object.
        if let Some(at) = usize::try_from(seed >> 1).unwrap().checked_rem(bytes.len()) {
            bytes[at] ^= 1 << (seed % 8);
            let _ = read::object(table(), id, &bytes);
            let _ = read::object(table(), id, &bytes[..at]);
        }
    }

    #[test]
    fn no_bytes_break_the_laws(bytes: Vec<u8>) {
        crate::fuzz::wire(&bytes);
        crate::fuzz::wire(&[&MAGIC, bytes.as_slice()].concat());
    }
}
