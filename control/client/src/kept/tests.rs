//! What is kept of objects that nobody, or somebody, needs whole, and whom a cache tells.

use proto_kube::resource;
use serde_json::json;

use super::*;

fn maps() -> Kept {
    Kept::new(resource::find("", "v1", "configmaps").expect("it is there"))
}

fn map(name: &str, version: u64, owner: &str) -> Value {
    let mut map = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "data": { "key": "value" },
        "metadata": {
            "namespace": "default", "name": name, "uid": format!("uid-{name}"),
            "resourceVersion": version.to_string(), "managedFields": [{ "manager": "kubectl" }],
        },
    });
    if !owner.is_empty() {
        map["metadata"]["ownerReferences"] = json!([{
            "apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": owner, "controller": true,
        }]);
    }
    map
}

fn named(name: &'static str) -> Option<(&'static str, Need)> {
    Some((name, Arc::new(move |object| object::name(object) == name)))
}

/// What a listener has been told: `-old +new`, `=` for all that there is; in capitals what is whole.
fn told(events: &mut mpsc::UnboundedReceiver<Event>) -> String {
    let name = |sign: &str, object: &Option<Arc<Value>>| {
        let Some(object) = object else { return String::new() };
        assert_eq!(object["metadata"]["managedFields"], Value::Null);
        let name = object::name(object);
        format!("{sign}{}", if object["data"].is_null() { name.to_owned() } else { name.to_uppercase() })
    };
    let mut all = String::new();
    while let Ok(event) = events.try_recv() {
        let synced = if event.object().is_none() { "=" } else { "" };
        all += &format!("{}{}{synced} ", name("-", &event.old), name("+", &event.new));
    }
    all
}

fn listen(kept: &mut Kept) -> mpsc::UnboundedReceiver<Event> {
    let (sender, receiver) = mpsc::unbounded_channel();
    kept.listen(sender);
    receiver
}

#[test]
fn what_nobody_needs_is_metadata() {
    let mut kept = maps();
    assert!(!kept.need(named("a")));
    let mut events = listen(&mut kept);
    for name in ["a", "b"] {
        kept.take(Change::Applied(map(name, 1, "")));
    }
    assert!(kept.take(Change::Synced) && kept.is_synced());
    kept.take(Change::Applied(map("a", 2, "")));
    kept.take(Change::Applied(map("b", 2, "")));
    kept.take(Change::Deleted(map("b", 3, "")));
    assert_eq!(told(&mut events), "+A +b = -A+A -b+b -b ");
    assert_eq!(kept.get("default", "a").unwrap()["data"], json!({ "key": "value" }));
    assert!(kept.get("default", "b").is_none() && kept.list("other").is_empty());
    assert_eq!((kept.list("default").len(), kept.list("").len()), (1, 1));
    assert_eq!(told(&mut listen(&mut kept)), "+A = ");
}

#[test]
fn who_needs_more_later_has_it_listed_anew() {
    let mut kept = maps();
    kept.need(named("a"));
    let mut first = listen(&mut kept);
    let list = |kept: &mut Kept| {
        for name in ["a", "b"] {
            kept.take(Change::Applied(map(name, 1, "")));
        }
    };
    list(&mut kept);
    kept.take(Change::Synced);
    assert!(!kept.need(named("a")), "the same need is nothing new");
    assert!(kept.is_synced());
    assert!(kept.need(None));
    let mut second = listen(&mut kept);
    assert!(!kept.take(Change::Synced), "the end of a list that was under way");
    assert!(!kept.is_synced() && kept.take_anew() && !kept.take_anew());
    list(&mut kept);
    assert!(kept.take(Change::Synced));
    assert_eq!(told(&mut first), "+A +b = -b+B ");
    assert_eq!(told(&mut second), "+A +b -b+B = ");
    assert!(!kept.need(named("c")), "all is whole");
}

#[test]
fn who_controls_what_is_found_with_and_without_the_index() {
    let mut kept = maps();
    kept.need(None);
    for (name, owner) in [("a", "one"), ("b", "two"), ("c", "one"), ("d", ""), ("e", "")] {
        kept.take(Change::Applied(map(name, 1, owner)));
    }
    assert!(kept.controlled("default", "one").is_none());
    kept.index();
    let names = |kept: &Kept, by: &str| -> String {
        kept.controlled("default", by).unwrap().iter().map(|object| object::name(object)).collect()
    };
    assert_eq!([names(&kept, "one"), names(&kept, "two"), names(&kept, "")], ["ac", "b", "de"]);
    kept.take(Change::Applied(map("a", 2, "two")));
    kept.take(Change::Applied(map("d", 2, "one")));
    kept.take(Change::Deleted(map("c", 2, "one")));
    assert_eq!([names(&kept, "one"), names(&kept, "two"), names(&kept, "")], ["d", "ab", "e"]);
    assert!(kept.controlled("other", "one").unwrap().is_empty());
}
