//! Resources of policies, certificates and webhooks as the API has them.

use anyhow::{Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use client::Query;
use conformance::{Bed, discovered, holds, of, operations};
use http::Method;
use proto_kube::object::{items, text};
use serde_json::{Value, json};

/// What a policy looks at: Deployments in the case's namespace.
fn matches(bed: &Bed) -> Value {
    let rule = json!({"apiGroups": ["apps"], "apiVersions": ["v1"], "operations": ["CREATE"],
        "resources": ["deployments"]});
    let namespace = json!({"matchLabels": {"kubernetes.io/metadata.name": bed.namespace}});
    json!({"resourceRules": [rule], "namespaceSelector": namespace})
}

pub(crate) async fn validating_policies(bed: Bed) -> Result<()> {
    let validations = json!([{"expression": "object.spec.replicas <= 100"}]);
    let policy = json!({"spec": {"matchConstraints": matches(&bed), "validations": validations}});
    let condition = json!({"type": "Shown", "status": "True", "reason": "r", "message": "m",
        "lastTransitionTime": "2026-01-01T00:00:00Z"});
    let status = json!({"conditions": [condition]});
    operations(&bed, "validatingadmissionpolicies", |_| policy.clone(), status).await
}

pub(crate) async fn validating_bindings(bed: Bed) -> Result<()> {
    let binding = json!({"spec": {"policyName": "none", "validationActions": ["Deny"]}});
    operations(&bed, "validatingadmissionpolicybindings", |_| binding.clone(), Value::Null).await
}

pub(crate) async fn mutating_policies(bed: Bed) -> Result<()> {
    let mutation = json!({"patchType": "ApplyConfiguration",
        "applyConfiguration": {"expression": "Object{spec: Object.spec{replicas: 2}}"}});
    let policy = json!({"spec": {
        "matchConstraints": matches(&bed), "mutations": [mutation], "reinvocationPolicy": "Never"}});
    operations(&bed, "mutatingadmissionpolicies", |_| policy.clone(), Value::Null).await
}

pub(crate) async fn mutating_bindings(bed: Bed) -> Result<()> {
    let binding = json!({"spec": {"policyName": "none"}});
    operations(&bed, "mutatingadmissionpolicybindings", |_| binding.clone(), Value::Null).await
}

pub(crate) async fn webhooks_discovered(bed: Bed) -> Result<()> {
    discovered(&bed, "mutatingwebhookconfigurations", &[]).await?;
    discovered(&bed, "validatingwebhookconfigurations", &[]).await
}

/// The match conditions of a webhook are kept as they were written, and as they are changed.
pub(crate) async fn match_conditions(bed: Bed, plural: &str) -> Result<()> {
    let conditions =
        json!([{"name": "expression-1", "expression": "object.metadata.namespace == 'production'"}]);
    let rule = json!({"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["configmaps"]});
    let webhook = json!({
        "name": "case.example.com", "sideEffects": "None", "admissionReviewVersions": ["v1"],
        "clientConfig": {"url": "https://127.0.0.1:1/never"}, "failurePolicy": "Ignore", "rules": [rule],
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": bed.namespace}},
        "matchConditions": conditions,
    });
    let made = json!({"metadata": {"name": bed.namespace}, "webhooks": [webhook]});
    bed.create(plural, made).await?;
    let kept = bed.get(plural, &bed.namespace).await?;
    ensure!(kept["webhooks"][0]["matchConditions"] == conditions, "{kept:#}");
    let changed = json!([
        {"name": "expression-1", "expression": "object.metadata.namespace == 'production'"},
        {"name": "expression-2", "expression": "object.metadata.namespace == 'staging'"},
    ]);
    bed.update(plural, &bed.namespace, |w| w["webhooks"][0]["matchConditions"] = changed.clone()).await?;
    let kept = bed.get(plural, &bed.namespace).await?;
    ensure!(kept["webhooks"][0]["matchConditions"] == changed, "{kept:#}");
    bed.delete(plural, &bed.namespace).await
}

/// `CN=case, O=shown` with a P-256 key that nobody has.
const REQUEST: &str = "\
-----BEGIN CERTIFICATE REQUEST-----
MIHaMIGBAgEAMB8xDjAMBgNVBAoMBXNob3duMQ0wCwYDVQQDDARjYXNlMFkwEwYH
KoZIzj0CAQYIKoZIzj0DAQcDQgAEpyXFIhymhKjHOnnv5WM98E4QJ56jPGi68qwJ
8Rqif/8Y6tQu97IMQnIKT6/Wp+MN5gnVCUCyFbR0udN+534t16AAMAoGCCqGSM49
BAMCA0gAMEUCICNnnR+2EHrvJ+xTCG+FEeVYRhDhFiBECXTKYfSOzvUYAiEA9kh7
4kTVoXeZMKWrtksjopONfsm92q6zB4dqi8UODDM=
-----END CERTIFICATE REQUEST-----
";

pub(crate) async fn signing_requests(bed: Bed) -> Result<()> {
    let kind = "certificatesigningrequests";
    let request = BASE64.encode(REQUEST);
    let spec = json!({"request": request, "signerName": "example.com/case", "usages": ["client auth"]});
    let condition = |kind: &str| json!({"type": kind, "status": "True", "reason": "r", "message": "m"});
    let status = json!({"conditions": [condition("Failed")]});
    operations(&bed, kind, |_| json!({"spec": spec}), status).await?;

    discovered(&bed, kind, &["approval", "status"]).await?;
    let name = bed.namespace.as_str();
    bed.create(kind, json!({"metadata": {"name": name}, "spec": spec})).await?;
    let patch = json!({"metadata": {"annotations": {"patched": "true"}},
        "status": {"conditions": [condition("ApprovalPatch")]}});
    let patched = bed.patch(kind, &format!("{name}/approval"), patch.clone()).await?;
    ensure!(holds(&patched, &patch), "{patched:#}");
    let path = of(kind).path("", name) + "/approval";
    let mut read = bed.client.call(Method::GET, &path, None).await?;
    ensure!(text(&read, &["metadata", "name"]) == name && holds(&read, &patch), "{read:#}");
    let conditions: Vec<Value> =
        items(&read, &["status", "conditions"]).cloned().chain([condition("Approved")]).collect();
    read["status"]["conditions"] = conditions.into();
    let approved = bed.client.update(of(kind), Some("approval"), &read, Query::default()).await?;
    ensure!(holds(&approved["status"], &json!({"conditions": [condition("Approved")]})), "{approved:#}");
    bed.delete(kind, name).await
}
