//! Each directive and each way to merge a list, on real kinds.

mod places;

use proto_kube::{Gvk, Status, schema};
use serde_json::json;

use super::*;

fn run(kind: &str, original: &Value, patch: &Value) -> Result<Value, Error> {
    let version = if kind == "Deployment" { "apps/v1" } else { "v1" };
    let table = schema::table();
    let type_id = table.kind(&Gvk::new(version, kind)).expect("served");
    strategic(table, type_id, original.clone(), patch.clone())
}

/// A patch of a pod's `spec`.
#[track_caller]
fn pod(original: Value, patch: Value, wanted: Value) {
    let of = |spec| json!({"spec": spec});
    assert_eq!(run("Pod", &of(original), &of(patch.clone())), Ok(of(wanted)), "{patch}");
}

#[track_caller]
fn refused(kind: &str, original: &Value, patch: &Value, code: u16, why: &str) {
    let status = Status::from(run(kind, original, patch).expect_err(&patch.to_string()));
    assert_eq!((status.code, status.message.as_str()), (code, why), "{patch}");
}

#[test]
fn objects_merge_and_nulls_delete() {
    pod(json!({"hostname": "a"}), json!({"subdomain": "b"}), json!({"hostname": "a", "subdomain": "b"}));
    pod(json!({"hostname": "a"}), json!({"hostname": null, "subdomain": null}), json!({}));
    pod(
        json!({"securityContext": {"runAsUser": 1}}),
        json!({"securityContext": {"runAsGroup": 2}}),
        json!({"securityContext": {"runAsUser": 1, "runAsGroup": 2}}),
    );
    // What is new has no nulls and no directives.
    pod(
        json!({}),
        json!({"securityContext": {"runAsUser": null, "$retainKeys": ["runAsGroup"], "runAsGroup": 1}}),
        json!({"securityContext": {"runAsGroup": 1}}),
    );
    pod(
        json!({"nodeSelector": {"a": "b"}}),
        json!({"nodeSelector": {"a": null, "c": "d"}}),
        json!({"nodeSelector": {"c": "d"}}),
    );
}

#[test]
fn directives_on_objects() {
    let original = json!({"securityContext": {"runAsUser": 1}});
    pod(
        original.clone(),
        json!({"securityContext": {"$patch": "replace", "runAsGroup": 2}}),
        json!({"securityContext": {"runAsGroup": 2}}),
    );
    pod(original.clone(), json!({"securityContext": {"$patch": "delete"}}), json!({"securityContext": {}}));
    pod(json!({}), json!({"securityContext": {"$patch": "delete"}}), json!({}));
    refused(
        "Pod",
        &json!({"spec": original}),
        &json!({"spec": {"securityContext": {"$patch": "merge", "runAsGroup": 2}}}),
        500,
        "unknown patch type: merge in map: map[$patch:merge runAsGroup:2]",
    );
}

#[test]
fn lists_by_key() {
    let original = json!({"containers": [{"name": "a", "image": "1"}, {"name": "b", "image": "2"}]});
    pod(
        original.clone(),
        json!({"containers": [{"name": "b", "image": "3"}]}),
        json!({"containers": [{"name": "a", "image": "1"}, {"name": "b", "image": "3"}]}),
    );
    // What is new comes before what the patch does not name.
    pod(
        original.clone(),
        json!({"containers": [{"name": "c"}]}),
        json!({"containers": [{"name": "c"}, {"name": "a", "image": "1"}, {"name": "b", "image": "2"}]}),
    );
    pod(
        original.clone(),
        json!({"containers": [{"name": "a", "$patch": "delete"}]}),
        json!({"containers": [{"name": "b", "image": "2"}]}),
    );
    pod(
        original.clone(),
        json!({"containers": [{"$patch": "replace"}, {"name": "z"}]}),
        json!({"containers": [{"name": "z"}]}),
    );
    pod(
        original.clone(),
        json!({"containers": [{"name": "a", "$patch": "replace", "image": "9"}]}),
        json!({"containers": []}),
    );
    pod(json!({}), json!({"containers": [{"name": "a", "$patch": "delete"}]}), json!({"containers": []}));
    let original = json!({"spec": original});
    let of = |item: Value| json!({"spec": {"containers": [item]}});
    let why = "map: map[image:nginx] does not contain declared merge key: name";
    refused("Pod", &original, &of(json!({"image": "nginx"})), 500, why);
    let why = "map: map[$patch:delete] does not contain declared merge key: name";
    refused("Pod", &original, &of(json!({"$patch": "delete"})), 500, why);
    let why = "merging lists cannot yet be specified in the patch";
    refused("Pod", &original, &of(json!({"$patch": "merge"})), 500, why);
    let why = "unknown patch type: turn in map: map[$patch:turn name:a]";
    refused("Pod", &original, &of(json!({"$patch": "turn", "name": "a"})), 500, why);
    let why = "list element types are not identical: [[map[image:1 name:a] map[image:2 name:b]] [x]]";
    refused("Pod", &original, &of(json!("x")), 500, why);
}

#[test]
fn lists_of_values() {
    let of = |list: Value| json!({"metadata": {"finalizers": list}});
    let cases = [
        (json!(["a", "b"]), json!({"finalizers": ["c"]}), json!(["c", "a", "b"])),
        (json!(["a", "b"]), json!({"finalizers": ["b"]}), json!(["a", "b"])),
        (json!(["a", "b"]), json!({"$deleteFromPrimitiveList/finalizers": ["a", "z"]}), json!(["b"])),
        (
            json!(["a", "b"]),
            json!({"$deleteFromPrimitiveList/finalizers": ["a"], "finalizers": ["c"], "$setElementOrder/finalizers": ["b", "c"]}),
            json!(["b", "c"]),
        ),
        (json!(["a", "b", "c"]), json!({"$setElementOrder/finalizers": ["c", "a"]}), json!(["b", "c", "a"])),
    ];
    for (original, patch, wanted) in cases {
        let found = run("Pod", &of(original), &json!({"metadata": patch}));
        assert_eq!(found, Ok(of(wanted)), "{patch}");
    }
    let why = "invalid patch format of primitive list";
    refused("Pod", &of(json!(["a"])), &json!({"metadata": {"$deleteFromPrimitiveList": ["a"]}}), 400, why);
}

#[test]
fn lists_without_a_strategy_are_replaced() {
    pod(
        json!({"tolerations": [{"key": "a"}]}),
        json!({"tolerations": [{"key": "b"}]}),
        json!({"tolerations": [{"key": "b"}]}),
    );
    pod(
        json!({"containers": [{"name": "a", "args": ["x", "y"]}]}),
        json!({"containers": [{"name": "a", "args": ["z"]}]}),
        json!({"containers": [{"name": "a", "args": ["z"]}]}),
    );
}

#[test]
fn the_order_of_lists() {
    let named = |names: &[&str]| Value::from(names.iter().map(|n| json!({"name": n})).collect::<Vec<_>>());
    type Names = &'static [&'static str];
    let cases: [(Names, Names, Names, Names); 5] = [
        (&["a", "b", "c"], &[], &["c", "a"], &["b", "c", "a"]),
        (&["a", "b"], &["c"], &["c", "b", "a"], &["c", "b", "a"]),
        (&["a", "x", "b"], &["c"], &["b", "c", "a"], &["x", "b", "c", "a"]),
        (&[], &["a", "b"], &["a", "b"], &["a", "b"]),
        (&["x", "a"], &["b"], &["a", "b"], &["x", "a", "b"]),
    ];
    for (live, patch, order, wanted) in cases {
        let original = if live.is_empty() { json!({}) } else { json!({"containers": named(live)}) };
        let mut change = json!({"$setElementOrder/containers": named(order)});
        if !patch.is_empty() {
            change["containers"] = named(patch);
        }
        pod(original, change, json!({"containers": named(wanted)}));
    }
    pod(json!({}), json!({"$setElementOrder/containers": named(&["a"])}), json!({}));

    let original = json!({"spec": {"containers": named(&["a", "b"])}});
    let mismatch = json!({"spec": {"containers": named(&["b", "a"]), "$setElementOrder/containers": named(&["a", "b"])}});
    let why = "The order in patch list:\n[map[name:b] map[name:a]]\n doesn't match $setElementOrder list:\n[map[name:a] map[name:b]]\n";
    refused("Pod", &original, &mismatch, 500, why);
    let why = "expected a []interface {}, but received a string";
    refused("Pod", &original, &json!({"spec": {"$setElementOrder/containers": "a"}}), 500, why);
    let why = "invalid patch format of setElementOrder list";
    refused("Pod", &original, &json!({"spec": {"$setElementOrder": []}}), 400, why);
}

#[test]
fn retain_keys() {
    let of = |strategy: Value| json!({"spec": {"strategy": strategy}});
    let original = of(json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}));
    let recreate = of(json!({"type": "Recreate", "$retainKeys": ["type"]}));
    assert_eq!(run("Deployment", &original, &recreate), Ok(of(json!({"type": "Recreate"}))));
    let why = "invalid patch format of retainKeys";
    refused("Deployment", &original, &of(json!({"type": "Recreate", "$retainKeys": []})), 400, why);
    refused("Deployment", &original, &of(json!({"$retainKeys": "type"})), 400, why);
    pod(
        json!({"volumes": [{"name": "v", "emptyDir": {}}]}),
        json!({"volumes": [{"name": "v", "configMap": {"name": "c"}, "$retainKeys": ["name", "configMap"]}]}),
        json!({"volumes": [{"name": "v", "configMap": {"name": "c"}}]}),
    );
}

#[test]
fn what_does_not_fit() {
    let cases = [
        (
            json!({"x": {"a": 1}}),
            json!({"x": {"b": 1}}),
            "unable to find api field in struct Pod for the json field \"x\"",
        ),
        (
            json!({"metadata": {"labels": {"a": {"b": 1}}}}),
            json!({"metadata": {"labels": {"a": {"c": 1}}}}),
            "merging an object in json but data type is not struct, instead is: map",
        ),
        (json!({"spec": [1]}), json!({"spec": [1]}), "expected slice or array type, but got: struct"),
    ];
    for (original, patch, why) in cases {
        refused("Pod", &original, &patch, 500, why);
    }
    refused("Pod", &json!({}), &json!([]), 400, "invalid JSON document");
    let lists = json!({"metadata": {"finalizers": [["a"]]}});
    refused("Pod", &lists, &lists, 422, "the server rejected our request due to an error in our request");
    // Where the types differ the patch counts.
    pod(json!({"hostname": 1}), json!({"hostname": {"a": null}}), json!({"hostname": {}}));
}
