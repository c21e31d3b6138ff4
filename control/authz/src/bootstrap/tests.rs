//! The table is whole, and mending keeps what others added.

use proto_kube::{GroupResource, User, object};
use serde_json::{Value, json};

use super::*;
use crate::Attributes;
use crate::rbac::Policy;

fn find<'a>(objects: &'a [(GroupResource<'static>, Value)], resource: &str, name: &str) -> &'a Value {
    let found = objects.iter().find(|(r, object)| r.resource == resource && object::name(object) == name);
    &found.unwrap_or_else(|| panic!("{resource} {name}")).1
}

#[test]
fn the_table_has_upstreams_objects() {
    let objects = objects();
    let count = |resource| objects.iter().filter(|(r, _)| r.resource == resource).count();
    assert_eq!(
        [count("clusterroles"), count("clusterrolebindings"), count("roles"), count("rolebindings")],
        [72, 57, 8, 8]
    );
    for (resource, object) in &objects {
        assert!(object::labels(object).any(|label| label == LABEL), "{object}");
        for rule in object::items(object, &["rules"]) {
            let rule = Rule::of(rule);
            let known = |verb: &String| {
                ["*", "get", "list", "watch", "create", "update", "patch", "delete", "deletecollection"]
                    .contains(&verb.as_str())
                    || ["impersonate", "approve", "sign", "escalate", "proxy"].contains(&verb.as_str())
            };
            assert!(rule.verbs.iter().all(known), "{rule:?}");
            assert_eq!(rule.groups.is_empty(), rule.resources.is_empty(), "{rule:?}");
            assert!(rule.paths.iter().all(|p| p.starts_with('/') || p == "*"), "{rule:?}");
        }
        if resource.resource.ends_with("bindings") {
            let role = if resource.resource == "rolebindings" { "roles" } else { "clusterroles" };
            find(&objects, role, object::text(object, &["roleRef", "name"]));
        }
    }
    assert_eq!(
        *find(&objects, "clusterroles", "system:basic-user"),
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRole",
            "metadata": {
                "name": "system:basic-user",
                "labels": {"kubernetes.io/bootstrapping": "rbac-defaults"},
                "annotations": {"rbac.authorization.kubernetes.io/autoupdate": "true"},
            },
            "rules": [
                {"apiGroups": ["authorization.k8s.io"], "resources": ["selfsubjectaccessreviews", "selfsubjectrulesreviews"], "verbs": ["create"]},
                {"apiGroups": ["authentication.k8s.io"], "resources": ["selfsubjectreviews"], "verbs": ["create"]},
            ],
        })
    );
}

#[test]
fn the_policy_lets_each_do_his_work() {
    let mut policy = Policy::default();
    for (resource, object) in objects() {
        policy.put(resource, &object);
    }
    let edit = json!({"metadata": {"name": "b", "namespace": "a"}, "roleRef": {"kind": "ClusterRole", "name": "edit"},
        "subjects": [{"kind": "User", "name": "jane"}]});
    policy.put(GroupResource { group: GROUP, resource: "rolebindings" }, &edit);
    for (name, group, verb, resource, namespace, allowed) in [
        ("jane", "", "list", "pods", "a", true),
        ("jane", "", "create", "secrets", "a", true),
        ("jane", "", "list", "pods", "b", false),
        ("jane", "", "create", "rolebindings", "a", false),
        ("system:kube-scheduler", "", "create", "bindings", "a", true),
        (
            "system:serviceaccount:kube-system:namespace-controller",
            "",
            "deletecollection",
            "widgets",
            "a",
            true,
        ),
        ("system:serviceaccount:kube-system:token-cleaner", "", "delete", "secrets", "kube-system", true),
        ("system:serviceaccount:kube-system:token-cleaner", "", "delete", "secrets", "a", false),
        ("root", "system:masters", "sing", "songs", "", true),
        ("system:anonymous", "system:unauthenticated", "list", "pods", "a", false),
    ] {
        let user = User { name: name.to_owned(), groups: vec![group.to_owned()], ..User::default() };
        let asked = Attributes { verb, resource, namespace, ..Attributes::default() };
        assert_eq!(
            policy.authorize(&user, &asked).is_allowed(),
            allowed,
            "{name} {verb} {resource} {namespace}"
        );
    }
    let rules = |name| {
        object::items(find(&objects(), "clusterroles", name), &["rules"]).map(Rule::of).collect::<Vec<_>>()
    };
    for (less, more) in [("view", "edit"), ("edit", "admin"), ("system:aggregate-to-view", "view")] {
        assert!(crate::rbac::uncovered(&rules(more), &rules(less)).next().is_none(), "{less} {more}");
    }
    let anyone = User { groups: vec!["system:unauthenticated".to_owned()], ..User::default() };
    let may = |path| {
        policy.authorize(&anyone, &Attributes { verb: "get", path: Some(path), ..Attributes::default() })
    };
    assert!(may("/healthz").is_allowed() && may("/version").is_allowed() && !may("/metrics").is_allowed());
}

#[test]
fn mending_adds_what_is_missing_and_keeps_the_rest() {
    let objects = objects();
    let expected = find(&objects, "clusterroles", "system:kube-dns");
    assert_eq!(reconcile(None, expected).as_ref(), Some(expected));
    assert_eq!(reconcile(Some(expected), expected), None);

    let mut poorer = expected.clone();
    poorer["metadata"] = json!({"name": "system:kube-dns", "uid": "1", "labels": {"mine": "x"}});
    poorer["rules"] = json!([
        {"apiGroups": [""], "resources": ["endpoints"], "verbs": ["*"]},
        {"apiGroups": ["mine"], "resources": ["x"], "verbs": ["get"]},
        {"apiGroups": [""], "resources": ["services"], "verbs": ["list"]},
    ]);
    let mended = reconcile(Some(&poorer), expected).unwrap();
    assert_eq!(mended["rules"].as_array().unwrap().len(), 4);
    assert_eq!(mended["rules"][3], json!({"apiGroups": [""], "resources": ["services"], "verbs": ["watch"]}));
    assert_eq!(mended["metadata"]["labels"]["mine"], "x");
    assert_eq!(mended["metadata"]["uid"], "1");
    assert_eq!(reconcile(Some(&mended), expected), None);
    poorer["metadata"]["annotations"][AUTOUPDATE] = "false".into();
    assert_eq!(reconcile(Some(&poorer), expected), None);

    let expected = find(&objects, "clusterrolebindings", "system:kube-dns");
    let mut other = expected.clone();
    other["subjects"] = json!([{"kind": "ServiceAccount", "name": "coredns", "namespace": "kube-system"}]);
    let mended = reconcile(Some(&other), expected).unwrap();
    assert_eq!(mended["subjects"].as_array().unwrap().len(), 2);
    assert_eq!(reconcile(Some(&mended), expected), None);

    let expected = find(&objects, "clusterroles", "admin");
    let mut other = expected.clone();
    other["aggregationRule"] = json!({"clusterRoleSelectors": [{"matchLabels": {"a": "b"}}]});
    let mended = reconcile(Some(&other), expected).unwrap();
    assert_eq!(object::items(&mended, &["aggregationRule", "clusterRoleSelectors"]).count(), 2);
}

#[test]
fn what_is_gathered_is_there_from_the_beginning() {
    let all: Vec<_> =
        objects().into_iter().filter(|(r, _)| r.resource == "clusterroles").map(|(_, o)| o).collect();
    for role in &all {
        let name = proto_kube::object::name(role);
        assert_eq!(crate::rbac::aggregate(role, &all), None, "{name}");
    }
}
