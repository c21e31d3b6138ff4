//! Nothing goes that somebody owns who lives, whatever comes in which order, and nothing stays that nobody owns.

use proptest::prelude::*;
use proto_kube::view::View;
use serde_json::json;

use super::*;
use crate::Objects;
use crate::driven::Driven;
use crate::resources::{CONFIG_MAPS, NODES, SECRETS, SERVICES, served};

const OWNED: [GroupResource<'static>; 3] = [CONFIG_MAPS, SECRETS, SERVICES];

#[derive(Debug, Clone)]
enum Step {
    /// An object is made: of which resource, owned by which (some may be gone or never have been), blocking or not.
    Create(usize, Vec<usize>, bool),
    /// Somebody deletes one.
    Delete(usize, &'static str),
    /// Somebody gives one an owner.
    Adopt(usize, usize),
    /// The collector sees what has happened to a resource.
    See(usize),
    /// It works on one of its keys.
    Work(usize),
    Wait,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let policy = prop::sample::select(vec!["Background", "Foreground", "Orphan"]);
    let step = prop_oneof![
        4 => (0..3_usize, prop::collection::vec(0..14_usize, 0..3), any::<bool>())
            .prop_map(|(of, owners, blocks)| Step::Create(of, owners, blocks)),
        3 => (0..12_usize, policy).prop_map(|(which, policy)| Step::Delete(which, policy)),
        1 => (0..12_usize, 0..12_usize).prop_map(|(which, owner)| Step::Adopt(which, owner)),
        5 => (0..4_usize).prop_map(Step::See),
        5 => any::<usize>().prop_map(Step::Work),
        1 => Just(Step::Wait),
    ];
    prop::collection::vec(step, 0..80)
}

fn reference(of: GroupResource<'static>, name: &str, uid: &str, blocks: bool) -> Value {
    let resource = served(of);
    json!({"apiVersion": resource.api_version(), "kind": resource.kind, "name": name, "uid": uid,
        "blockOwnerDeletion": blocks})
}

/// The owners of an object that are there and do not just wait for it.
fn living(objects: &Objects, resource: &'static Resource, item: &Value) -> usize {
    let lives = |owner: &Owner<'_>| {
        let found = owner.place.as_ref().and_then(|place| place.get(objects));
        found.is_some_and(|f| {
            f["metadata"]["uid"] == owner.reference["uid"] && collects(&f) != Some(FOREGROUND)
        })
    };
    owners(resource, item).filter(lives).count()
}

fn never_from_a_living_owner(objects: &Objects, mutation: &Mutation) {
    let Mutation::Delete(resource, (namespace, name), options) = mutation else { return };
    let Some(item) = objects.get(resource.group_resource(), namespace, name) else { return };
    let as_seen = object::text(options, &["preconditions", "resourceVersion"])
        == object::text(&item, &["metadata", "resourceVersion"]);
    assert!(!as_seen || living(objects, resource, &item) == 0, "{item}");
}

fn name(which: usize) -> (GroupResource<'static>, String) {
    (OWNED[which % 3], format!("o{which}"))
}

proptest! {
    #[test]
    fn the_living_keep_theirs_and_the_dead_keep_nothing(steps in steps()) {
        let mut driven = Driven::new(all());
        driven.check = never_from_a_living_owner;
        let node = json!({"metadata": {"name": "o13", "uid": "node"}});
        driven.objects.put(NODES, node);
        let (mut next, mut uids) = (0, Vec::<String>::new());
        for step in steps {
            let of_uid = |uids: &[String], which: usize, blocks| match which {
                13 => reference(NODES, "o13", "node", blocks),
                which => {
                    let (of, name) = name(which);
                    reference(of, &name, uids.get(which).map_or("never", String::as_str), blocks)
                }
            };
            match step {
                Step::Create(of, owners, blocks) => {
                    next += (of + 3 - next % 3) % 3;
                    let (resource, name) = name(next);
                    uids.resize(next + 1, "skipped".to_owned());
                    uids[next] = format!("uid-{name}");
                    let mut owners: Vec<Value> = owners.into_iter().map(|o| of_uid(&uids, o, blocks)).collect();
                    owners.dedup();
                    owners.retain(|o| o["uid"] != uids[next]);
                    driven.objects.put(resource, json!({"metadata": {"name": name, "namespace": "ns",
                        "uid": uids[next], "ownerReferences": owners}}));
                    next += 1;
                }
                Step::Delete(which, policy) => {
                    let (of, name) = name(which);
                    let key = ("ns".to_owned(), name);
                    let found = driven.objects.get(of, "ns", &key.1);
                    let delete = Mutation::Delete(served(of), key, json!({"propagationPolicy": policy}));
                    // Whoever asks a second time, and for something else, may be too late.
                    if !found.is_some_and(|found| object::is_terminating(&found)) {
                        let _ = driven.objects.apply(&delete, driven.now);
                    }
                }
                Step::Adopt(which, owner) => {
                    let (of, name) = name(which);
                    let owner = of_uid(&uids, owner, false);
                    if owner["uid"] != uids.get(which).cloned().unwrap_or_default() {
                        driven.objects.change(of, "ns", &name, |object| {
                            object["metadata"]["ownerReferences"].as_array_mut().into_iter().for_each(|o| o.push(owner.clone()));
                        });
                    }
                }
                Step::See(which) => driven.see(Some([CONFIG_MAPS, SECRETS, SERVICES, NODES][which])),
                Step::Work(nth) => drop(driven.step(nth)),
                Step::Wait => drop(driven.pass(1)),
            }
        }
        driven.pass(120);
        for of in OWNED {
            for item in driven.objects.list(of, "ns") {
                let owned = references(&item).next().is_some();
                prop_assert!(!owned || object::is_terminating(&item) || living(&driven.objects, served(of), &item) > 0, "{item}");
                prop_assert!(collects(&item) != Some(ORPHAN), "{item}");
            }
        }
        // A start changes nothing.
        driven.restart();
        let again = driven.pass(60);
        prop_assert!(again.is_empty(), "{again:?}");
    }
}

#[test]
fn what_is_of_the_cluster_is_not_owned_by_what_is_in_a_namespace() {
    let mut driven = Driven::new(all());
    let owner = reference(CONFIG_MAPS, "a", "1", false);
    driven.objects.put(NODES, json!({"kind": "Node", "metadata": {"name": "n", "ownerReferences": [owner]}}));
    driven.settle();
    assert_eq!(driven.names(NODES, "").len(), 1);
    let (_, kind, reason, message) = &driven.objects.told[0];
    assert_eq!((*kind, *reason), ("Warning", "OwnerRefInvalidNamespace"));
    assert_eq!(
        message,
        "ownerRef [v1/ConfigMap, namespace: , name: a, uid: 1] does not exist in namespace \"\""
    );
}

#[test]
fn kinds_that_nobody_knows_are_left_alone() {
    let mut driven = Driven::new(all());
    let owner = json!({"apiVersion": "example.com/v1", "kind": "Thing", "name": "t", "uid": "1"});
    driven
        .objects
        .put(SECRETS, json!({"metadata": {"name": "s", "namespace": "ns", "ownerReferences": [owner]}}));
    assert_eq!(driven.settle(), []);
}
