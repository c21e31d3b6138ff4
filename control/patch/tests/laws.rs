//! Laws that hold for all objects and patches.
#![allow(missing_docs)]

use jiff::Timestamp;
use patch::apply::{Filter, Write, one_version};
use patch::fields::{Element, Set};
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use proto_kube::{Gvk, schema};
use serde_json::{Map, Value, json};

/// Any JSON, with directives among its keys.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-3..3_i64).prop_map(Value::from),
        select(vec!["a", "b", "delete", "replace", "merge", "TCP"]).prop_map(Value::from),
    ];
    let keys = select(vec![
        "a",
        "name",
        "metadata",
        "labels",
        "finalizers",
        "spec",
        "containers",
        "ports",
        "containerPort",
        "template",
        "replicas",
        "$patch",
        "$retainKeys",
        "$setElementOrder/containers",
        "$setElementOrder/finalizers",
        "$deleteFromPrimitiveList/finalizers",
        "managedFields",
        "operation",
        "apiVersion",
        "kind",
    ]);
    leaf.prop_recursive(6, 48, 4, move |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::from),
            btree_map(keys.clone().prop_map(str::to_owned), inner, 0..5)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

fn without_nulls(value: Value) -> Value {
    match value {
        Value::Array(items) => items.into_iter().map(without_nulls).collect(),
        Value::Object(members) => members
            .into_iter()
            .filter(|(_, value)| !value.is_null())
            .map(|(key, value)| (key, without_nulls(value)))
            .collect::<Map<_, _>>()
            .into(),
        other => other,
    }
}

fn texts(keys: &'static [&'static str]) -> impl Strategy<Value = Value> {
    let values = select(vec!["1", "2", "3"]);
    btree_map(select(keys), values, 0..keys.len()).prop_map(|pairs| {
        pairs.into_iter().map(|(k, v)| (k.to_owned(), json!(v))).collect::<Map<_, _>>().into()
    })
}

fn container(name: &'static str) -> impl Strategy<Value = Value> {
    let env = subsequence(vec!["E", "F", "G"], 0..=3).prop_shuffle();
    let ports = subsequence(vec![80, 81, 53], 0..=3);
    let image = proptest::option::of(select(vec!["i1", "i2"]));
    (env, ports, image, select(vec!["TCP", "UDP"])).prop_map(move |(env, ports, image, protocol)| {
        let env: Vec<_> = env.into_iter().map(|name| json!({"name": name, "value": image})).collect();
        let ports: Vec<_> =
            ports.into_iter().map(|port| json!({"containerPort": port, "protocol": protocol})).collect();
        without_nulls(json!({"name": name, "image": image, "env": env, "ports": ports}))
    })
}

/// The configuration of a deployment.
fn deployment() -> impl Strategy<Value = Value> {
    let containers = (container("a"), container("b"), container("c"));
    let which = subsequence(vec![0, 1, 2], 0..=3).prop_shuffle();
    let replicas = proptest::option::of(0..3);
    (texts(&["a", "b", "c"]), texts(&["x", "y"]), replicas, containers, which).prop_map(
        |(labels, annotations, replicas, containers, which)| {
            let containers = [containers.0, containers.1, containers.2];
            let containers: Vec<_> = which.into_iter().map(|at: usize| containers[at].clone()).collect();
            without_nulls(json!({
                "apiVersion": "apps/v1", "kind": "Deployment",
                "metadata": {"name": "d", "labels": labels, "annotations": annotations},
                "spec": {"replicas": replicas, "template": {"spec": {"containers": containers}}},
            }))
        },
    )
}

fn kind() -> Gvk {
    Gvk::new("apps/v1", "Deployment")
}

fn write<'a>(kind: &'a Gvk, manager: &'a str, second: i64) -> Write<'a> {
    Write {
        table: schema::table(),
        kind,
        manager,
        subresource: "",
        filter: &Filter::All,
        convert: &one_version,
        now: Timestamp::from_second(second).expect("in range"),
    }
}

fn strategic(original: &Value, patch: &Value) -> Result<Value, patch::Error> {
    let type_id = schema::table().kind(&kind()).expect("served");
    patch::strategic(schema::table(), type_id, original.clone(), patch.clone())
}

/// The merge patch that makes `b` of `a`.
fn diff(a: &Map<String, Value>, b: &Map<String, Value>) -> Value {
    let mut patch = Map::new();
    for key in a.keys().filter(|key| !b.contains_key(*key)) {
        patch.insert(key.clone(), Value::Null);
    }
    for (key, new) in b {
        match (a.get(key), new) {
            (Some(old), new) if old == new => {}
            (Some(Value::Object(old)), Value::Object(new)) => drop(patch.insert(key.clone(), diff(old, new))),
            _ => drop(patch.insert(key.clone(), new.clone())),
        }
    }
    Value::Object(patch)
}

fn element() -> impl Strategy<Value = Element> {
    let scalar = || {
        prop_oneof![
            any::<i32>().prop_map(Value::from),
            any::<bool>().prop_map(Value::from),
            ".{0,3}".prop_map(Value::from)
        ]
    };
    prop_oneof![
        ".{0,4}".prop_map(Element::Field),
        btree_map("[a-c]", scalar(), 1..3).prop_map(|fields| Element::Key(fields.into_iter().collect())),
        scalar().prop_map(Element::Value),
        any::<i32>().prop_map(|at| Element::Index(at.into())),
    ]
}

/// A set of the paths, through its JSON form.
fn set_of(paths: &[Vec<Element>]) -> Set {
    let mut set = Set::default();
    for path in paths {
        let fields = path.iter().rev().fold(json!({}), |below, element| {
            let one = Set::from_value(&json!({ key(element): {} })).expect("an element");
            let name =
                one.to_value().as_object().and_then(|m| m.keys().next().cloned()).expect("one element");
            json!({ name: below })
        });
        set.extend(Set::from_value(&fields).expect("made of elements"));
    }
    set
}

fn key(element: &Element) -> String {
    match element {
        Element::Field(name) => format!("f:{name}"),
        Element::Key(fields) => format!("k:{}", Value::Object(fields.iter().cloned().collect())),
        Element::Value(value) => format!("v:{value}"),
        Element::Index(at) => format!("i:{at}"),
    }
}

/// An object without what tells who wrote it, its containers in order.
fn content(mut object: Value) -> Value {
    object["metadata"].as_object_mut().expect("an object").remove("managedFields");
    if let Some(list) = object.pointer_mut("/spec/template/spec/containers").and_then(Value::as_array_mut) {
        list.sort_by_key(|c| c["name"].to_string());
    }
    object
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_merge_diff_makes_the_other(a in any_json(), b in any_json()) {
        let (a, b) = (without_nulls(a), without_nulls(b));
        if let (Value::Object(a), Value::Object(b)) = (&a, &b) {
            let patch = diff(a, b);
            prop_assert_eq!(patch::merge(Value::Object(a.clone()), &patch), Ok(Value::Object(b.clone())));
        }
    }

    #[test]
    fn a_strategic_merge_is_idempotent(original in deployment(), patch in deployment()) {
        let once = strategic(&original, &patch).expect("fits");
        prop_assert_eq!(strategic(&once, &patch), Ok(once));
    }

    #[test]
    fn applying_twice_is_applying_once(live in deployment(), config in deployment()) {
        let kind = kind();
        let live = write(&kind, "a", 1).update(None, live);
        let once = write(&kind, "b", 2).apply(Some(&live), &config, true).expect("fits");
        let twice = write(&kind, "b", 3).apply(Some(&once), &config, false).expect("no conflict with itself");
        prop_assert_eq!(twice, once);
    }

    #[test]
    fn what_is_applied_is_there_and_what_is_not_is_gone(first in deployment(), second in deployment()) {
        let kind = kind();
        let live = write(&kind, "a", 1).apply(None, &first, false).expect("fits");
        let live = write(&kind, "a", 2).apply(Some(&live), &second, false).expect("fits");
        let alone = write(&kind, "a", 2).apply(None, &second, false).expect("fits");
        prop_assert_eq!(content(live.clone())["spec"]["replicas"].clone(), second["spec"]["replicas"].clone());
        let containers = |object: Value| {
            let list = content(object)["spec"]["template"]["spec"]["containers"].as_array().cloned();
            without_empty(list.unwrap_or_default().into())
        };
        prop_assert_eq!(containers(live), containers(alone));
    }

    #[test]
    fn disjoint_configurations_commute(one in deployment(), other in deployment(), a in container("a"), b in container("b")) {
        let kind = kind();
        let (mut one, mut other) = (one, other);
        one["metadata"].as_object_mut().expect("an object").remove("annotations");
        other["metadata"].as_object_mut().expect("an object").remove("labels");
        other["spec"].as_object_mut().expect("an object").remove("replicas");
        one["spec"]["template"] = json!({"spec": {"containers": [a]}});
        other["spec"]["template"] = json!({"spec": {"containers": [b]}});
        let both = |first: (&str, &Value), second: (&str, &Value)| {
            let live = write(&kind, first.0, 1).apply(None, first.1, false).expect("fits");
            content(write(&kind, second.0, 2).apply(Some(&live), second.1, false).expect("no conflict"))
        };
        prop_assert_eq!(both(("a", &one), ("b", &other)), both(("b", &other), ("a", &one)));
    }

    #[test]
    fn an_update_records_what_changed_and_nothing_else(old in deployment(), new in deployment()) {
        let kind = kind();
        let mut old = write(&kind, "a", 1).update(None, old);
        old["metadata"]["uid"] = json!("u");
        let mut next = new;
        next["metadata"]["uid"] = json!("u");
        let changed = write(&kind, "b", 2).update(Some(&old), next);
        // Each path has one owner at most: nobody applied.
        let entries = changed["metadata"]["managedFields"].as_array().cloned().unwrap_or_default();
        let sets: Vec<_> = entries.iter().map(|e| Set::from_value(&e["fieldsV1"]).expect("written by us")).collect();
        if let [a, b] = sets.as_slice() {
            prop_assert!(a.intersection(b).is_empty());
        }
        prop_assert_eq!(write(&kind, "c", 3).update(Some(&changed), changed.clone()), changed);
    }

    #[test]
    fn sets_are_read_as_they_are_written(paths in vec(vec(element(), 1..4), 0..6)) {
        let set = set_of(&paths);
        prop_assert_eq!(Set::parse(set.print().as_bytes()), Ok(set.clone()));
        prop_assert_eq!(Set::from_value(&set.to_value()), Ok(set.clone()));
        prop_assert_eq!(set.union(&set), set.clone());
        prop_assert!(set.difference(&set).is_empty());
        for path in set.paths() {
            prop_assert!(set.contains(&path.0));
        }
    }

    #[test]
    fn no_bytes_panic(bytes in vec(any::<u8>(), 0..64), a in any_json(), b in any_json()) {
        for data in [bytes, format!("{a}\n{b}").into_bytes(), b.to_string().into_bytes()] {
            patch::fuzz::json(&data);
            patch::fuzz::merge(&data);
            patch::fuzz::strategic(&data);
            patch::fuzz::apply(&data);
            patch::fuzz::fields(&data);
        }
    }

    #[test]
    fn no_object_panics(live in any_json(), mut config in any_json()) {
        if let Some(members) = config.as_object_mut() {
            members.insert("apiVersion".into(), json!("apps/v1"));
            members.insert("kind".into(), json!("Deployment"));
        }
        patch::fuzz::apply(format!("{live}\n{config}").as_bytes());
        let _ = write(&kind(), "a", 1).update(Some(&live), config);
    }
}

/// Lists and objects that are empty count as missing.
fn without_empty(value: Value) -> Value {
    match value {
        Value::Array(items) => items.into_iter().map(without_empty).collect(),
        Value::Object(members) => members
            .into_iter()
            .filter(|(_, value)| {
                !matches!(value, Value::Array(items) if items.is_empty()) && !value.is_null()
            })
            .map(|(key, value)| (key, without_empty(value)))
            .collect::<Map<_, _>>()
            .into(),
        other => other,
    }
}
