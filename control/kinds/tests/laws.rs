//! What holds for every kind and every object that has the shape of its type, however odd.

use jiff::Timestamp;
use kinds::Kind;
use proptest::prelude::*;
use proto_kube::decode::{self, Strictness};
use proto_kube::schema::{Shape, Table, TypeId, table};
use proto_kube::{Resource, object, resource};
use serde_json::{Map, Value, json};

/// Numbers made up from a seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % sides as u64).expect("fewer than sides")
    }

    fn pick<T: Clone>(&mut self, of: &[T]) -> T {
        of[self.roll(of.len())].clone()
    }
}

/// How deep an object is made.
const DEPTH: usize = 9;

fn members(table: &'static Table, id: TypeId, dice: &mut Dice, depth: usize) -> Value {
    let mut members = Map::new();
    for field in &table.of(id).fields {
        let chance = if field.required { 4 } else { 2 };
        if depth < DEPTH && dice.roll(chance) != 0 {
            let open = field.shape != Shape::String || field.one_of.is_empty() || dice.roll(4) == 0;
            let value = match open {
                true => value(table, &field.shape, dice, depth + 1),
                false => dice.pick(&field.one_of).into(),
            };
            members.insert(field.name.to_owned(), value);
        }
    }
    members.into()
}

fn value(table: &'static Table, shape: &Shape, dice: &mut Dice, depth: usize) -> Value {
    const TEXTS: [&str; 14] = [
        "",
        "a",
        "web",
        "A_b",
        "10.0.0.1",
        "::1",
        "10.0.0.0/8",
        "a.example",
        "x.io/y",
        "*",
        "*/5 * * * *",
        "a/b/c",
        "-",
        "1-3",
    ];
    const NUMBERS: [i64; 9] = [-1, 0, 1, 2, 80, 600, 70_000, 100_001, i32::MAX as i64];
    match shape {
        Shape::Bool => (dice.roll(2) == 0).into(),
        Shape::Int32 | Shape::Int64 => dice.pick(&NUMBERS).into(),
        Shape::Double => 1.5.into(),
        Shape::String => dice.pick(&TEXTS).into(),
        Shape::Bytes => dice.pick(&["", "QUJD"]).into(),
        Shape::Time => dice.pick(&["2026-11-21T07:00:00Z", "2030-01-01T00:00:00Z"]).into(),
        Shape::MicroTime => "2026-11-21T07:00:00.000000Z".into(),
        Shape::Duration => dice.pick(&["1s", "1h5m0s"]).into(),
        Shape::Quantity => dice.pick(&["0", "1", "100m", "-1", "1Gi"]).into(),
        Shape::IntOrString => {
            dice.pick(&[json!(0), json!(1), json!(-1), json!("50%"), json!("101%"), json!("http")])
        }
        Shape::Raw => json!({"a": 1}),
        Shape::Object(id) => members(table, *id, dice, depth),
        Shape::List(item) => {
            (0..dice.pick(&[0, 1, 1, 2, 4])).map(|_| value(table, item, dice, depth + 1)).collect()
        }
        Shape::Map(item) => {
            let key = |dice: &mut Dice| dice.pick(&["a", "app", "x.io/y", "cpu", "pods", "Ä"]).to_owned();
            (0..dice.pick(&[0, 1, 2])).map(|_| (key(dice), value(table, item, dice, depth + 1))).collect()
        }
    }
}

/// The kinds that are kept.
fn kept() -> Vec<&'static Resource> {
    resource::all().iter().filter(|r| r.prefix().is_some()).collect()
}

fn read(resource: &Resource, object: Value) -> Value {
    let id = table().kind(&resource.gvk()).expect("a served kind is in the table");
    let (object, problems) =
        decode::value(object, id, Strictness::Warn).expect("it has the shape of its type");
    assert_eq!(problems, Vec::<String>::new(), "{}", resource.kind);
    object
}

/// An object of a kind, as it is decoded from a request.
fn made(resource: &Resource, seed: u64) -> Value {
    let id = table().kind(&resource.gvk()).expect("a served kind is in the table");
    let mut object = members(table(), id, &mut Dice(seed), 0);
    object["apiVersion"] = resource.api_version().into();
    object["kind"] = resource.kind.into();
    read(resource, object)
}

fn now() -> Timestamp {
    "2026-11-21T08:00:00Z".parse().expect("a time")
}

/// The ways to what differs between two objects.
fn differences(a: &Value, b: &Value, path: &str) -> String {
    match (a, b) {
        (Value::Object(x), Value::Object(y)) => {
            let keys: std::collections::BTreeSet<&String> = x.keys().chain(y.keys()).collect();
            keys.into_iter().map(|key| differences(&a[key], &b[key], &format!("{path}.{key}"))).collect()
        }
        (Value::Array(x), Value::Array(y)) if x.len() == y.len() => {
            (0..x.len()).map(|at| differences(&a[at], &b[at], &format!("{path}[{at}]"))).collect()
        }
        _ if a == b => String::new(),
        _ => format!("{path}: {a} is not {b}; "),
    }
}

/// Lets a kind do all that it can with an object.
fn exercise(resource: &Resource, kind: &dyn Kind, new: &Value, old: &Value) {
    let cells = kind.cells(new, now());
    assert_eq!(cells.len(), kind.columns().len(), "{}", resource.kind);
    let names: Vec<&str> = kind.fields(new).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, kind.selectable(), "{}", resource.kind);
    kind.warnings(new, None);
    kind.warnings(new, Some(old));
    kind.scale(new);
    let _ = kinds::create_errors(resource, new);
    let _ = kinds::update_errors(resource, "", new, old);
    for subresource in resource.subresources.iter().filter(|s| s.body.2.is_empty()) {
        let mut changed = new.clone();
        kinds::meta::prepare_update(resource, subresource.name, &mut changed, old);
        let _ = kinds::update_errors(resource, subresource.name, &changed, old);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(24) })]

    #[test]
    fn defaulting_twice_changes_nothing(seed: u64) {
        for resource in kept() {
            let mut once = made(resource, seed);
            kinds::of(resource).default(&mut once);
            let mut twice = once.clone();
            kinds::of(resource).default(&mut twice);
            prop_assert_eq!(&once, &twice, "{}", resource.kind);
        }
    }

    #[test]
    fn what_is_defaulted_has_the_shape_of_its_type(seed: u64) {
        for resource in kept() {
            let mut object = made(resource, seed);
            kinds::of(resource).default(&mut object);
            let again = read(resource, object.clone());
            prop_assert!(again == object, "{}: {}", resource.kind, differences(&object, &again, ""));
        }
    }

    #[test]
    fn no_object_is_too_odd(seed: u64, other: u64) {
        for resource in kept() {
            let kind = kinds::of(resource);
            let [mut new, mut old] = [seed, other].map(|seed| made(resource, seed));
            exercise(resource, kind, &new, &old);
            kind.default(&mut new);
            kind.default(&mut old);
            kinds::meta::prepare_create(resource, &mut old, "u", other, now());
            exercise(resource, kind, &old, &old);
            kinds::meta::prepare_update(resource, "", &mut new, &old);
            exercise(resource, kind, &new, &old);
        }
    }

    #[test]
    fn an_update_without_a_change_is_none(seed: u64) {
        for resource in kept() {
            let mut old = made(resource, seed);
            kinds::of(resource).default(&mut old);
            kinds::meta::prepare_create(resource, &mut old, "u", seed, now());
            let mut new = old.clone();
            kinds::meta::prepare_update(resource, "", &mut new, &old);
            let generation = |o: &Value| object::at(o, &["metadata", "generation"]).cloned();
            prop_assert_eq!(generation(&new), generation(&old), "{}", resource.kind);
        }
    }

    #[test]
    fn a_version_that_is_not_kept_loses_nothing(seed: u64) {
        for resource in kept() {
            let kind = kinds::of(resource);
            let mut object = made(resource, seed);
            kind.default(&mut object);
            kind.to_storage(&mut object);
            let stored = object.clone();
            kind.from_storage(&mut object);
            kind.to_storage(&mut object);
            prop_assert_eq!(object, stored, "{}", resource.kind);
        }
    }
}
