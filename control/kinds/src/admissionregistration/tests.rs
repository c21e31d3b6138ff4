//! Rules, defaults and rows of webhook configurations and admission policies.

use jiff::Timestamp;
use proto_kube::field::Errors;
use serde_json::{Value, json};

use super::mutating_policy::MutatingAdmissionPolicy;
use super::policy::ValidatingAdmissionPolicy as Policy;
use super::policy_binding;
use super::webhook::Configuration;
use crate::{Kind, check};

const BINDING: policy_binding::Binding = policy_binding::Binding { mutating: false };
const VALIDATING: Configuration = Configuration { mutating: false };

fn texts(errors: Errors) -> Vec<String> {
    errors.iter().map(ToString::to_string).collect()
}

fn hooks(change: Value) -> Value {
    let mut hook = json!({
        "name": "a.b.c", "sideEffects": "None", "admissionReviewVersions": ["v1"],
        "clientConfig": {"service": {"name": "a", "namespace": "b"}},
        "rules": [{"operations": ["*"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"]}],
    });
    for (key, value) in change.as_object().into_iter().flatten() {
        hook[key] = value.clone();
    }
    let mut object = json!({"webhooks": [hook]});
    VALIDATING.default(&mut object);
    object
}

#[test]
fn webhooks_are_filled_in() {
    let object = hooks(json!({}));
    let hook = &object["webhooks"][0];
    assert_eq!(hook["failurePolicy"], "Fail");
    assert_eq!(hook["matchPolicy"], "Equivalent");
    assert_eq!(hook["timeoutSeconds"], 10);
    assert_eq!(hook["rules"][0]["scope"], "*");
    assert_eq!(hook["clientConfig"]["service"]["port"], 443);
    assert_eq!(hook["reinvocationPolicy"], Value::Null);
    let mut twice = object.clone();
    Configuration { mutating: true }.default(&mut twice);
    assert_eq!(twice["webhooks"][0]["reinvocationPolicy"], "Never");
}

#[test]
fn webhook_rules() {
    assert_eq!(texts(VALIDATING.validate(&hooks(json!({})))), Vec::<String>::new());
    for (change, expected) in [
        (
            json!({"name": "a.b"}),
            "name: Invalid value: \"a.b\": should be a domain with at least three segments separated by dots",
        ),
        (json!({"sideEffects": null}), "sideEffects: Required value: must specify one of None, NoneOnDryRun"),
        (
            json!({"sideEffects": "Some"}),
            "sideEffects: Unsupported value: \"Some\": supported values: \"None\", \"NoneOnDryRun\"",
        ),
        (
            json!({"timeoutSeconds": 31}),
            "timeoutSeconds: Invalid value: 31: the timeout value must be between 1 and 30 seconds",
        ),
        (
            json!({"clientConfig": {}}),
            "clientConfig: Required value: exactly one of url or service is required",
        ),
        (
            json!({"clientConfig": {"url": "http://a/b"}}),
            "clientConfig.url: Invalid value: \"http\": 'https' is the only allowed URL scheme; desired format: https://host[/path]",
        ),
        (
            json!({"clientConfig": {"url": "https://a/b?c"}}),
            "clientConfig.url: Invalid value: \"c\": query parameters are not permitted in the URL",
        ),
        (
            json!({"clientConfig": {"service": {"name": "a", "namespace": "b", "path": "/a//b"}}}),
            "clientConfig.service.path: Invalid value: \"/a//b\": segment[1] may not be empty",
        ),
        (
            json!({"admissionReviewVersions": []}),
            "admissionReviewVersions: Required value: must specify one of v1, v1beta1",
        ),
        (
            json!({"admissionReviewVersions": ["v2"]}),
            "admissionReviewVersions: Invalid value: [\"v2\"]: must include at least one of v1, v1beta1",
        ),
        (
            json!({"matchConditions": [{"name": "a", "expression": " "}]}),
            "matchConditions[0].expression: Required value",
        ),
        (
            json!({"rules": [{"operations": ["*", "CREATE"], "apiGroups": ["*"], "apiVersions": ["v1"], "resources": ["pods"]}]}),
            "rules[0].operations: Invalid value: [\"*\",\"CREATE\"]: if '*' is present, must not specify other operations",
        ),
        (
            json!({"rules": [{"operations": ["*"], "apiGroups": ["*"], "apiVersions": ["v1"], "resources": ["pods/*", "pods/a"]}]}),
            "rules[0].resources[1]: Invalid value: \"pods/a\": if 'pods/*' is present, must not specify pods/a",
        ),
        (
            json!({"rules": [{"operations": ["*"], "apiGroups": [], "apiVersions": ["v1"], "resources": ["*/*"]}]}),
            "rules[0].apiGroups: Required value",
        ),
    ] {
        let found = texts(VALIDATING.validate(&hooks(change)));
        assert_eq!(found, [format!("webhooks[0].{expected}")]);
    }
    let old = hooks(json!({"sideEffects": "Some"}));
    assert_eq!(texts(VALIDATING.validate_update(&old, &old)), Vec::<String>::new());
}

fn policy(change: Value) -> Value {
    let mut spec = json!({
        "matchConstraints": {"resourceRules": [{"operations": ["*"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"]}]},
        "validations": [{"expression": "true"}],
    });
    for (key, value) in change.as_object().into_iter().flatten() {
        spec[key] = value.clone();
    }
    let mut object = json!({"metadata": {"name": "p.example.com"}, "spec": spec});
    Policy.default(&mut object);
    object
}

#[test]
fn policy_rules() {
    assert_eq!(texts(Policy.validate(&policy(json!({})))), Vec::<String>::new());
    for (change, expected) in [
        (json!({"matchConstraints": null}), &["matchConstraints: Required value"][..]),
        (
            json!({"validations": []}),
            &[
                "validations: Required value: validations or auditAnnotations must contain at least one item",
                "auditAnnotations: Required value: validations or auditAnnotations must contain at least one item",
            ],
        ),
        (
            json!({"validations": [{"expression": "", "message": "a\nb", "reason": "x"}]}),
            &[
                "validations[0].expression: Required value: expression is not specified",
                "validations[0].message: Invalid value: \"a\\nb\": must not contain line breaks",
                "validations[0].reason: Unsupported value: \"x\": supported values: \"Forbidden\", \"Invalid\", \"RequestEntityTooLarge\"",
            ],
        ),
        (
            json!({"paramKind": {"apiVersion": "a/b/c", "kind": ""}}),
            &[
                "paramKind.apiVersion: Invalid value: \"a/b/c\": unexpected GroupVersion string: a/b/c",
                "paramKind.kind: Required value",
            ],
        ),
        (
            json!({"variables": [{"name": "1", "expression": "1"}]}),
            &["variables[0].name: Invalid value: \"1\": must be a valid CEL identifier"],
        ),
    ] {
        let expected: Vec<String> = expected.iter().map(|text| format!("spec.{text}")).collect();
        assert_eq!(texts(Policy.validate(&policy(change))), expected);
    }
}

#[test]
fn mutating_policy_rules() {
    let rules = |operation: &str| json!([{"operations": [operation], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"]}]);
    let good = |operation: &str| {
        let patch = json!({"patchType": "JSONPatch", "jsonPatch": {"expression": "[]"}});
        json!({"matchConstraints": {"resourceRules": rules(operation)}, "mutations": [patch], "reinvocationPolicy": "Never"})
    };
    let found = |spec: Value| {
        let kind = "MutatingAdmissionPolicy";
        let mut object = json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": kind, "spec": spec});
        MutatingAdmissionPolicy.default(&mut object);
        let mut errors = texts(check::schema(&object));
        errors.extend(texts(MutatingAdmissionPolicy.validate(&object)));
        errors
    };
    assert_eq!(found(good("CREATE")), Vec::<String>::new());
    let at = "spec.matchConstraints.resourceRules.operations";
    let only = "supported values: \"*\", \"CONNECT\", \"CREATE\", \"UPDATE\"";
    assert_eq!(found(good("DELETE")), [format!("{at}: Unsupported value: \"DELETE\": {only}")]);
    let mut both = good("UPDATE");
    both["mutations"] = json!([{"patchType": "ApplyConfiguration", "jsonPatch": {"expression": "[]"}}]);
    assert_eq!(
        found(both),
        [
            "spec.mutations[0].applyConfiguration: Required value: must be specified when patchType is ApplyConfiguration",
            "spec.mutations[0].jsonPatch: Invalid value: \"{jsonPatch}\": must not be specified when patchType is ApplyConfiguration",
        ]
    );
}

#[test]
fn binding_rules() {
    let binding = |spec: Value| texts(BINDING.validate(&json!({"spec": spec})));
    assert_eq!(
        binding(json!({"policyName": "a", "validationActions": ["Deny", "Audit"]})),
        Vec::<String>::new()
    );
    assert_eq!(
        binding(json!({"paramRef": {}, "validationActions": ["Deny", "Warn", "Deny"]})),
        [
            "spec.policyName: Required value",
            "spec.paramRef: Required value: one of name or selector must be specified",
            "spec.paramRef.parameterNotFoundAction: Required value",
            "spec.validationActions[2]: Duplicate value: \"Deny\"",
            "spec.validationActions: Invalid value: [\"Deny\",\"Warn\",\"Deny\"]: must not contain both Deny and Warn (repeating the same validation failure information in the API response and headers serves no purpose)",
        ]
    );
}

#[test]
fn rows() {
    let now = Timestamp::UNIX_EPOCH;
    assert_eq!(
        Value::from(
            Policy.cells(&policy(json!({"paramKind": {"apiVersion": "v1", "kind": "ConfigMap"}})), now)
        ),
        json!(["p.example.com", 1, "v1/ConfigMap", "<unknown>"])
    );
    let binding = json!({"metadata": {"name": "b"}, "spec": {"policyName": "p", "paramRef": {"name": "x"}}});
    assert_eq!(Value::from(BINDING.cells(&binding, now)), json!(["b", "p", "*/x", "<unknown>"]));
    assert_eq!(Value::from(VALIDATING.cells(&hooks(json!({})), now)), json!(["", 1, "<unknown>"]));
}
