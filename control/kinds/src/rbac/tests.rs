//! Rules, defaults and rows of roles and bindings.

use jiff::Timestamp;
use proto_kube::field::Errors;
use serde_json::{Value, json};

use super::binding::Binding;
use super::role::Role;
use crate::Kind;

const ROLE: Role = Role { namespaced: true };
const CLUSTER_ROLE: Role = Role { namespaced: false };
const BINDING: Binding = Binding { namespaced: true };
const CLUSTER_BINDING: Binding = Binding { namespaced: false };

fn texts(errors: Errors) -> Vec<String> {
    errors.iter().map(ToString::to_string).collect()
}

#[test]
fn roles() {
    let paths = json!([{"verbs": ["get"], "nonResourceURLs": ["/healthz"]}]);
    assert_eq!(texts(CLUSTER_ROLE.validate(&json!({"rules": paths}))), Vec::<String>::new());
    for (rules, expected) in [
        (json!([{"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}]), &[][..]),
        (
            json!([{}]),
            &[
                "rules[0].verbs: Required value: verbs must contain at least one value",
                "rules[0].apiGroups: Required value: resource rules must supply at least one api group",
                "rules[0].resources: Required value: resource rules must supply at least one resource",
            ],
        ),
        (
            json!([{"verbs": ["get"], "nonResourceURLs": ["/a"], "resources": ["pods"]}]),
            &[
                "rules[0].nonResourceURLs: Invalid value: [\"/a\"]: namespaced rules cannot apply to non-resource URLs",
                "rules[0].nonResourceURLs: Invalid value: [\"/a\"]: rules cannot apply to both regular resources and non-resource URLs",
            ],
        ),
    ] {
        assert_eq!(texts(ROLE.validate(&json!({"rules": rules}))), expected, "{rules}");
    }
    assert_eq!(
        texts(CLUSTER_ROLE.validate(&json!({"aggregationRule": {}}))),
        [
            "aggregationRule.clusterRoleSelectors: Required value: at least one clusterRoleSelector required if aggregationRule is non-nil"
        ]
    );
    assert_eq!(ROLE.name("system:a:b", false), Vec::<String>::new());
    assert_eq!(ROLE.name("a/b", false), ["may not contain '/'"]);
}

fn binding(change: Value) -> Value {
    let mut object = json!({"metadata": {"name": "b"}, "roleRef": {"kind": "ClusterRole", "name": "view"}, "subjects": []});
    for (key, value) in change.as_object().into_iter().flatten() {
        object[key] = value.clone();
    }
    BINDING.default(&mut object);
    object
}

#[test]
fn bindings_are_filled_in() {
    let object = binding(
        json!({"subjects": [{"kind": "User", "name": "a"}, {"kind": "Group", "name": "b"}, {"kind": "ServiceAccount", "name": "c"}]}),
    );
    let group = "rbac.authorization.k8s.io";
    assert_eq!(object["roleRef"]["apiGroup"], group);
    let groups: Vec<&Value> = object["subjects"].as_array().unwrap().iter().map(|s| &s["apiGroup"]).collect();
    assert_eq!(groups, [&json!(group), &json!(group), &Value::Null]);
}

#[test]
fn bindings() {
    let account = json!({"subjects": [{"kind": "ServiceAccount", "name": "a"}]});
    assert_eq!(texts(BINDING.validate(&binding(account.clone()))), Vec::<String>::new());
    assert_eq!(texts(CLUSTER_BINDING.validate(&binding(account))), ["subjects[0].namespace: Required value"]);
    for (change, expected) in [
        (
            json!({"roleRef": {"apiGroup": "x", "kind": "User", "name": ""}}),
            &[
                "roleRef.apiGroup: Unsupported value: \"x\": supported values: \"rbac.authorization.k8s.io\"",
                "roleRef.kind: Unsupported value: \"User\": supported values: \"Role\", \"ClusterRole\"",
                "roleRef.name: Required value",
            ][..],
        ),
        (
            json!({"subjects": [{"kind": "Robot", "name": ""}, {"kind": "ServiceAccount", "name": "a", "apiGroup": "x"}]}),
            &[
                "subjects[0].name: Required value",
                "subjects[0].kind: Unsupported value: \"Robot\": supported values: \"ServiceAccount\", \"User\", \"Group\"",
                "subjects[1].apiGroup: Unsupported value: \"x\": supported values: \"\"",
            ],
        ),
    ] {
        assert_eq!(texts(BINDING.validate(&binding(change))), expected);
    }
    let role = binding(json!({"roleRef": {"kind": "Role", "name": "a"}}));
    assert_eq!(
        texts(CLUSTER_BINDING.validate(&role)),
        ["roleRef.kind: Unsupported value: \"Role\": supported values: \"ClusterRole\""]
    );
}

#[test]
fn the_role_of_a_binding_stays() {
    let (old, new) =
        (binding(json!({})), binding(json!({"roleRef": {"kind": "ClusterRole", "name": "edit"}})));
    assert_eq!(texts(BINDING.validate_update(&old, &old)), Vec::<String>::new());
    assert_eq!(
        texts(BINDING.validate_update(&new, &old)),
        [
            "roleRef: Invalid value: {\"APIGroup\":\"rbac.authorization.k8s.io\",\"Kind\":\"ClusterRole\",\"Name\":\"edit\"}: cannot change roleRef"
        ]
    );
}

#[test]
fn rows() {
    let subjects = json!([
        {"kind": "User", "name": "a"}, {"kind": "User", "name": "b"}, {"kind": "Group", "name": "g"},
        {"kind": "ServiceAccount", "name": "s", "namespace": "ns"},
    ]);
    let cells = BINDING.cells(&binding(json!({"subjects": subjects})), Timestamp::UNIX_EPOCH);
    assert_eq!(cells.len(), BINDING.columns().len());
    assert_eq!(Value::from(cells), json!(["b", "ClusterRole/view", "<unknown>", "a, b", "g", "ns/s"]));
}
