//! A namespace goes when nothing is left, and says what it waits for.

use super::*;
use crate::driven::Driven;
use crate::resources::{CONFIG_MAPS, SECRETS};

fn ending() -> Driven {
    let mut driven = Driven::new(vec![Box::new(Namespaces)]);
    driven.objects.put(
        NAMESPACES,
        json!({"metadata": {"name": "ns", "deletionTimestamp": "2026-01-01T12:00:00Z"},
        "spec": {"finalizers": ["kubernetes"]}}),
    );
    driven
}

fn told(driven: &Driven, kind: &str) -> String {
    let namespace = driven.get(NAMESPACES, "", "ns").unwrap();
    let condition = conditions::get(&namespace["status"], kind).unwrap();
    format!(
        "{} {}: {}",
        object::text(condition, &["status"]),
        object::text(condition, &["reason"]),
        object::text(condition, &["message"])
    )
}

#[test]
fn pods_go_first_and_what_is_held_is_told() {
    let mut driven = ending();
    driven
        .objects
        .put(PODS, json!({"metadata": {"name": "p", "namespace": "ns"}, "spec": {"nodeName": "n"}}));
    driven.objects.put(CONFIG_MAPS, json!({"metadata": {"name": "m", "namespace": "ns"}}));
    driven
        .objects
        .put(SECRETS, json!({"metadata": {"name": "s", "namespace": "ns", "finalizers": ["a.b/c"]}}));
    driven.pass(20);
    assert!(object::is_terminating(&driven.get(PODS, "ns", "p").unwrap()));
    assert_eq!(driven.names(CONFIG_MAPS, "ns").len(), 1, "its pods may still need it");
    assert_eq!(
        told(&driven, "NamespaceContentRemaining"),
        "True SomeResourcesRemain: Some resources are remaining: pods. has 1 resource instances"
    );
    driven.objects.remove(PODS, "ns", "p");
    driven.pass(20);
    assert!(driven.names(CONFIG_MAPS, "ns").is_empty());
    assert_eq!(
        told(&driven, "NamespaceFinalizersRemaining"),
        "True SomeFinalizersRemain: Some content in the namespace has finalizers remaining: a.b/c in 1 resource instances"
    );
    driven.objects.change(SECRETS, "ns", "s", |secret| secret["metadata"]["finalizers"] = json!([]));
    driven.objects.remove(SECRETS, "ns", "s");
    driven.pass(20);
    assert!(driven.get(NAMESPACES, "", "ns").is_none());
}

#[test]
fn what_the_view_does_not_show_keeps_it_too() {
    let mut driven = ending();
    driven
        .objects
        .put(CONFIG_MAPS, json!({"metadata": {"name": "m", "namespace": "ns", "finalizers": ["a.b/c"]}}));
    for _ in 0..20 {
        driven.see(Some(NAMESPACES));
        driven.step(0);
        driven.now = after(driven.now, LATER);
    }
    assert!(driven.get(NAMESPACES, "", "ns").is_some());
    assert!(
        object::is_terminating(&driven.get(CONFIG_MAPS, "ns", "m").unwrap()),
        "it is deleted all the same"
    );
}
