//! Accounts, mounts and mountable secrets.

use serde_json::{Value, json};

use super::*;
use crate::tests::{Ask, Cluster, pod};

fn account(name: &str, more: Value) -> Value {
    let mut account = json!({"metadata": {"name": name, "namespace": "ns"}});
    account.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    account
}

#[test]
fn a_pod_gets_the_default_account_and_its_token() {
    let account = account("default", json!({"imagePullSecrets": [{"name": "pull"}]}));
    let cluster = Cluster::usual().and("", "serviceaccounts", account);
    let mut pod = pod("p");
    pod["spec"]["initContainers"] =
        json!([{"name": "i", "volumeMounts": [{"name": "own", "mountPath": MOUNT}]}]);
    for _ in 0..2 {
        Ask::create("", "pods").admit(&mut pod, &cluster).unwrap();
        let spec = &pod["spec"];
        assert_eq!(
            (&spec["serviceAccountName"], &spec["serviceAccount"]),
            (&json!("default"), &json!("default"))
        );
        assert_eq!(spec["imagePullSecrets"], json!([{"name": "pull"}]));
        assert_eq!(
            spec["containers"][0]["volumeMounts"],
            json!([{"name": "kube-api-access-x7x7x", "readOnly": true, "mountPath": MOUNT}])
        );
        assert_eq!(spec["initContainers"][0]["volumeMounts"][0]["name"], "own");
        assert_eq!(
            spec["volumes"],
            json!([{"name": "kube-api-access-x7x7x", "projected": {"defaultMode": 420, "sources": [
                {"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}},
                {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
                {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}}]}},
            ]}}])
        );
    }
}

#[test]
fn who_wants_no_token_gets_none() {
    for (of_account, of_pod, mounted) in [
        (None, None, true),
        (Some(false), None, false),
        (Some(false), Some(true), true),
        (Some(true), Some(false), false),
    ] {
        let account = account("default", json!({"automountServiceAccountToken": of_account}));
        let cluster = Cluster::usual().and("", "serviceaccounts", account);
        let mut pod = pod("p");
        pod["spec"]["automountServiceAccountToken"] = json!(of_pod);
        Ask::create("", "pods").admit(&mut pod, &cluster).unwrap();
        assert_eq!(pod["spec"].get("volumes").is_some(), mounted, "{of_account:?} {of_pod:?}");
    }
}

#[test]
fn the_account_must_exist() {
    let mut other = pod("p");
    other["spec"]["serviceAccountName"] = "no".into();
    assert_eq!(
        Ask::create("", "pods").refusal(&other, &Cluster::usual()),
        "pods \"p\" is forbidden: error looking up service account ns/no: serviceaccount \"no\" not found"
    );
    assert_eq!(Ask::update("", "pods", other.clone()).refusal(&other, &Cluster::usual()), "");
}

#[test]
fn a_mirror_pod_refers_to_nothing() {
    for (key, value, why) in [
        ("hostNetwork", json!(true), ""),
        ("serviceAccountName", json!("default"), "a mirror pod may not reference service accounts"),
        ("imagePullSecrets", json!([{"name": "s"}]), "a mirror pod may not reference secrets"),
        (
            "volumes",
            json!([{"projected": {"sources": [{"serviceAccountToken": {}}]}}]),
            "a mirror pod may not use ServiceAccountToken volume projections",
        ),
    ] {
        let mut pod = pod("p");
        pod["metadata"]["annotations"] = json!({"kubernetes.io/config.mirror": "x"});
        pod["spec"][key] = value;
        let before = pod.clone();
        let refusal = Ask::create("", "pods").refusal(&pod, &Cluster::usual());
        assert_eq!(refusal.strip_prefix("pods \"p\" is forbidden: ").unwrap_or_default(), why);
        assert_eq!(pod, before);
    }
}

#[test]
fn an_account_may_list_what_its_pods_mount() {
    let account = account(
        "default",
        json!({
            "metadata": {"name": "default", "namespace": "ns", "annotations": {"kubernetes.io/enforce-mountable-secrets": "true"}},
            "secrets": [{"name": "mine"}],
        }),
    );
    let cluster = Cluster::usual().and("", "serviceaccounts", account);
    let env = |name: &str| json!({"name": "V", "valueFrom": {"secretKeyRef": {"name": name}}});
    let end = "is not allowed because service account default does not reference that secret";
    for (key, value, why) in [
        ("volumes", json!([{"name": "v", "secret": {"secretName": "mine"}}]), String::new()),
        ("volumes", json!([{"name": "v", "secret": {"secretName": "no"}}]), format!("volume with secret.secretName=\"no\" {end}")),
        ("containers", json!([{"name": "c", "env": [env("no")]}]), format!("container c with envVar V referencing secret.secretName=\"no\" {end}")),
        ("containers", json!([{"name": "c", "env": [env("mine")]}]), String::new()),
        ("initContainers", json!([{"name": "c", "envFrom": [{"secretRef": {"name": "no"}}]}]), format!("init container c with envFrom referencing secret.secretName=\"no\" {end}")),
        ("imagePullSecrets", json!([{"name": "no"}]), "imagePullSecrets[0].name=\"no\" is not allowed because service account default does not reference that imagePullSecret".to_owned()),
    ] {
        let mut pod = pod("p");
        pod["spec"][key] = value;
        let refusal = Ask::create("", "pods").refusal(&pod, &cluster);
        assert_eq!(refusal.strip_prefix("pods \"p\" is forbidden: ").unwrap_or_default(), why);
    }
    let mut debug = pod("p");
    debug["spec"]["serviceAccountName"] = "default".into();
    debug["spec"]["ephemeralContainers"] = json!([{"name": "d", "env": [env("no")]}]);
    assert!(
        Ask::update("", "pods", pod("p"))
            .sub("ephemeralcontainers")
            .refusal(&debug, &cluster)
            .contains("ephemeral container d with envVar V referencing secret.secretName=\"no\"")
    );
}
