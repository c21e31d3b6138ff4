//! Merged lists are looked through by hash. What comes out is what looking at each item for each other made, and large
//! lists take no time that grows with their square.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::strategy::Strategy;

use super::super::list::{are_objects, delete, replace_or_merge};
use super::super::order::arrange;
use super::*;

/// More than can be looked through item by item for each item.
const MANY: usize = 50_000;

/// The old way: each item is compared with all others.
mod slow {
    use super::*;

    pub(super) fn merge_items(
        original: Vec<Value>,
        patch: Vec<Value>,
        key: Option<&str>,
        scope: Scope<'_>,
    ) -> Result<Vec<Value>, Error> {
        if original.is_empty() && patch.is_empty() {
            return Ok(original);
        }
        let (original, patch, merged) = if are_objects(&[&original, &patch])? {
            let key = key.expect("given");
            let (original, patch) = directives(original, patch, key)?;
            let merged = merge_objects(original.clone(), &patch, key, scope)?;
            (original, patch, merged)
        } else {
            let mut merged: Vec<Value> = Vec::new();
            for item in original.iter().chain(&patch) {
                if !merged.contains(item) {
                    merged.push(item.clone());
                }
            }
            (original, patch, merged)
        };
        arrange(merged, &patch, &original, key)
    }

    fn directives(
        mut original: Vec<Value>,
        patch: Vec<Value>,
        key: &str,
    ) -> Result<(Vec<Value>, Vec<Value>), Error> {
        let (mut plain, mut replace) = (Vec::new(), false);
        for item in patch {
            match as_members(&item)?.get(PATCH).map(|directive| directive.as_str()) {
                None => plain.push(item),
                Some(Some("delete")) => {
                    let gone = key_of(&item, key)?;
                    original.retain(|o| o.get(key) != Some(gone));
                }
                Some(Some("replace")) => replace = true,
                Some(_) => {
                    return Err(Error::Failed("merging lists cannot yet be specified in the patch".into()));
                }
            }
        }
        Ok(if replace { (plain, Vec::new()) } else { (original, plain) })
    }

    fn merge_objects(
        mut list: Vec<Value>,
        patch: &[Value],
        key: &str,
        scope: Scope<'_>,
    ) -> Result<Vec<Value>, Error> {
        for item in patch {
            let wanted = key_of(item, key)?;
            let Some(place) = list.iter_mut().find(|o| o.get(key) == Some(wanted)) else {
                list.extend(strip(item.clone()));
                continue;
            };
            let original = place.as_object_mut().map(std::mem::take).unwrap_or_default();
            *place = Value::Object(merge(original, as_members(item)?.clone(), scope)?);
        }
        Ok(list)
    }

    pub(super) fn arrange(
        merged: Vec<Value>,
        first: &[Value],
        server: &[Value],
        key: Option<&str>,
    ) -> Result<Vec<Value>, Error> {
        if let Some(key) = key {
            for item in &merged {
                let wanted = key_of(item, key)?;
                let before = first.iter().take_while(|other| other.get(key) != Some(wanted));
                if let Some((at, _)) = before.enumerate().find(|(_, other)| !other.is_object()) {
                    return Err(Error::Failed(format!("value for key {at} is not a map")));
                }
            }
            for item in first.iter().chain(server) {
                key_of(item, key)?;
            }
        }
        let id = |item: &Value| key.and_then(|key| item.get(key)).unwrap_or(item).clone();
        let place = |list: &[Value], item: &Value| list.iter().position(|other| id(other) == id(item));
        let (mut left, mut right) = (Vec::new(), Vec::new());
        for item in merged {
            match place(first, &item) {
                Some(at) => right.push((at, place(server, &item), item)),
                None => left.push((place(server, &item), item)),
            }
        }
        right.sort_by_key(|(at, ..)| *at);
        left.sort_by_key(|(at, _)| at.unwrap_or(usize::MAX));
        let mut out = Vec::new();
        let mut left = left.into_iter().peekable();
        for (_, before, item) in right {
            while let Some((_, other)) = left.next_if(|(at, _)| at.is_some() && *at < before) {
                out.push(other);
            }
            out.push(item);
        }
        out.extend(left.map(|(_, item)| item));
        Ok(out)
    }
}

/// Keys that are alike, that are none, and that a merge changes.
fn item() -> impl Strategy<Value = Value> {
    let names =
        vec![json!("a"), json!("b"), json!("c"), json!(1), json!(1.0), json!(null), json!({"$patch": "x"})];
    let name = prop_oneof![8 => select(names).prop_map(Some), 1 => Just(None)];
    let image = select(vec![json!("1"), json!("2"), json!(null)]);
    let directive = prop_oneof![
        12 => Just(None),
        3 => Just(Some(json!("delete"))),
        1 => Just(Some(json!("replace"))),
        1 => Just(Some(json!("merge"))),
    ];
    (name, image, directive).prop_map(|(name, image, directive)| {
        let members = [("name", name), ("image", Some(image)), (PATCH, directive)];
        members.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))).collect()
    })
}

fn plain() -> impl Strategy<Value = Value> {
    select(vec![json!("a"), json!("b"), json!("c"), json!("d"), json!("e")])
}

fn items() -> impl Strategy<Value = Vec<Value>> {
    vec(item(), 0..7)
}

fn mixed() -> impl Strategy<Value = Vec<Value>> {
    vec(prop_oneof![20 => item(), 1 => plain()], 0..7)
}

/// The scope of a pod's member, and the strategy of its list.
fn of(member: &str, list: &str) -> (Scope<'static>, Option<&'static schema::Strategy>) {
    let table = schema::table();
    let pod = Scope::of(table, table.kind(&Gvk::new("v1", "Pod")).expect("served"));
    pod.member(member).and_then(|(scope, _)| scope.list(list)).expect("in the schema")
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2048, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn objects_are_merged_as_ever(original in items(), patch in items()) {
        let (scope, strategy) = of("spec", "containers");
        let new = replace_or_merge(original.clone(), patch.clone(), strategy, scope);
        prop_assert_eq!(new, slow::merge_items(original, patch, Some("name"), scope));
    }

    #[test]
    fn values_are_merged_and_deleted_as_ever(original in vec(plain(), 0..9), patch in vec(plain(), 0..9)) {
        let (scope, strategy) = of("metadata", "finalizers");
        let new = replace_or_merge(original.clone(), patch.clone(), strategy, scope);
        prop_assert_eq!(new, slow::merge_items(original.clone(), patch.clone(), None, scope));
        let left: Vec<_> = original.iter().filter(|item| !patch.contains(item)).cloned().collect();
        prop_assert_eq!(delete(original, patch, strategy, scope), Ok(left));
    }

    #[test]
    fn lists_are_arranged_as_ever(merged in mixed(), first in mixed(), server in mixed(), keyed: bool) {
        let key = keyed.then_some("name");
        let new = arrange(merged.clone(), &first, &server, key);
        prop_assert_eq!(new, slow::arrange(merged, &first, &server, key));
    }
}

fn numbers(range: std::ops::Range<usize>) -> Vec<Value> {
    range.map(|number| json!(format!("n{number}"))).collect()
}

#[test]
fn large_lists_of_values() {
    let of = |list: Vec<Value>| json!({"metadata": {"finalizers": list}});
    let merged = run("Pod", &of(numbers(0..MANY)), &of(numbers(MANY..2 * MANY)));
    let wanted = numbers(MANY..2 * MANY).into_iter().chain(numbers(0..MANY)).collect();
    assert_eq!(merged, Ok(of(wanted)));
    let patch = json!({"metadata": {
        "$deleteFromPrimitiveList/finalizers": numbers(MANY / 2..MANY),
        "$setElementOrder/finalizers": numbers(0..MANY / 2).into_iter().rev().collect::<Vec<_>>(),
    }});
    let wanted = numbers(0..MANY / 2).into_iter().rev().collect();
    assert_eq!(run("Pod", &of(numbers(0..MANY)), &patch), Ok(of(wanted)));
}

#[test]
fn large_lists_of_objects() {
    let named = |names: Vec<Value>, image: &str| -> Vec<Value> {
        names.into_iter().map(|name| json!({"name": name, "image": image})).collect()
    };
    let of = |list: Vec<Value>| json!({"spec": {"containers": list}});
    let merged = run("Pod", &of(named(numbers(0..MANY), "1")), &of(named(numbers(0..MANY), "2")));
    assert_eq!(merged, Ok(of(named(numbers(0..MANY), "2"))));
    let gone = numbers(1..MANY).into_iter().map(|name| json!({"name": name, "$patch": "delete"})).collect();
    let left = run("Pod", &of(named(numbers(0..MANY), "1")), &of(gone));
    assert_eq!(left, Ok(of(named(numbers(0..1), "1"))));
}

#[test]
fn many_members_that_are_kept() {
    let members =
        |value: Value| -> Members { (0..MANY).map(|number| (format!("n{number}"), value.clone())).collect() };
    let mut patch = members(json!("2"));
    patch.insert(RETAIN_KEYS.to_owned(), numbers(0..MANY).into());
    let labels = |members: Members| json!({"metadata": {"labels": members}});
    let merged = run("Pod", &labels(members(json!("1"))), &labels(patch));
    assert_eq!(merged, Ok(labels(members(json!("2")))));
}
