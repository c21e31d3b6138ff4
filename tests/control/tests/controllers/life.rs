//! Namespaces, owners, accounts, quotas, budgets.

use serde_json::{Value, json};

use crate::plane::{Plane, until};

const MAPS: (&str, &str) = ("", "configmaps");
const SPACES: (&str, &str) = ("", "namespaces");

fn map(name: &str, owner: Option<&Value>, finalizers: &[&str]) -> Value {
    let owners: Vec<Value> = owner
        .into_iter()
        .map(|o| {
            json!({"apiVersion": "v1", "kind": "ConfigMap", "name": o["metadata"]["name"],
            "uid": o["metadata"]["uid"], "blockOwnerDeletion": true})
        })
        .collect();
    json!({"metadata": {"name": name, "namespace": "default", "ownerReferences": owners, "finalizers": finalizers}})
}

#[tokio::test]
async fn a_namespace_has_what_pods_need_and_ends_when_it_is_empty() {
    let plane = Plane::start().await;
    plane.create(SPACES, json!({"metadata": {"name": "a"}})).await;
    until("a default account", || plane.get(("", "serviceaccounts"), "a", "default")).await;
    let trust = until("the authorities", || plane.get(MAPS, "a", "kube-root-ca.crt")).await;
    assert_eq!(trust["data"]["ca.crt"], plane.server.pki.bundle());
    // What is taken away comes back, what is changed is mended.
    plane.delete(("", "serviceaccounts"), "a", "default", json!({})).await;
    plane.patch(MAPS, ("a", "kube-root-ca.crt"), None, json!({"data": {"ca.crt": "x"}})).await;
    until("the account again", || plane.get(("", "serviceaccounts"), "a", "default")).await;
    until("the authorities again", || async {
        plane.get(MAPS, "a", "kube-root-ca.crt").await.filter(|map| map["data"] == trust["data"])
    })
    .await;

    let held = json!({"metadata": {"name": "held", "namespace": "a", "finalizers": ["example.com/mine"]}});
    plane.create(MAPS, held).await;
    plane.create(MAPS, json!({"metadata": {"name": "free", "namespace": "a"}})).await;
    plane.delete(SPACES, "", "a", json!({})).await;
    let told = until("what is left", || async {
        let namespace = plane.get(SPACES, "", "a").await?;
        let conditions = namespace["status"]["conditions"].as_array()?.clone();
        let of = |kind| conditions.iter().find(|c| c["type"] == kind && c["status"] == "True").cloned();
        Some([of("NamespaceContentRemaining")?, of("NamespaceFinalizersRemaining")?])
    })
    .await;
    assert_eq!(told[0]["message"], "Some resources are remaining: configmaps. has 1 resource instances");
    assert_eq!(
        told[1]["message"],
        "Some content in the namespace has finalizers remaining: example.com/mine in 1 resource instances"
    );
    plane.patch(MAPS, ("a", "held"), None, json!({"metadata": {"finalizers": null}})).await;
    until("its end", || async { plane.get(SPACES, "", "a").await.is_none().then_some(()) }).await;
    assert!(plane.list(MAPS, "a").await.is_empty());
}

#[tokio::test]
async fn what_is_owned_goes_with_its_owner_before_it_or_stays() {
    let plane = Plane::start().await;
    let gone = |name: &'static str| {
        let plane = &plane;
        until(name, move || async move { plane.get(MAPS, "default", name).await.is_none().then_some(()) })
    };
    let owner = plane.create(MAPS, map("background", None, &[])).await;
    plane.create(MAPS, map("b1", Some(&owner), &[])).await;
    plane.delete(MAPS, "default", "background", json!({"propagationPolicy": "Background"})).await;
    gone("b1").await;

    let owner = plane.create(MAPS, map("foreground", None, &[])).await;
    plane.create(MAPS, map("f1", Some(&owner), &["example.com/slow"])).await;
    plane.delete(MAPS, "default", "foreground", json!({"propagationPolicy": "Foreground"})).await;
    until("the child first", || async {
        let child = plane.get(MAPS, "default", "f1").await?;
        (!child["metadata"]["deletionTimestamp"].is_null()).then_some(())
    })
    .await;
    assert!(plane.get(MAPS, "default", "foreground").await.is_some());
    plane.patch(MAPS, ("default", "f1"), None, json!({"metadata": {"finalizers": null}})).await;
    gone("foreground").await;

    let owner = plane.create(MAPS, map("orphan", None, &[])).await;
    plane.create(MAPS, map("o1", Some(&owner), &[])).await;
    plane.delete(MAPS, "default", "orphan", json!({"propagationPolicy": "Orphan"})).await;
    gone("orphan").await;
    let left = plane.get(MAPS, "default", "o1").await.unwrap();
    assert!(left["metadata"]["ownerReferences"].is_null(), "{left}");

    // Who was never there owns nobody for long; who is there in one of two owners keeps it.
    let living = plane.create(MAPS, map("living", None, &[])).await;
    let mut dead = living.clone();
    dead["metadata"]["uid"] = "0".into();
    plane.create(MAPS, map("lost", Some(&dead), &[])).await;
    gone("lost").await;
    let mut both = map("both", Some(&dead), &[]);
    let more = map("x", Some(&living), &[])["metadata"]["ownerReferences"][0].clone();
    both["metadata"]["ownerReferences"].as_array_mut().unwrap().push(more);
    plane.create(MAPS, both).await;
    until("one owner", || async {
        let both = plane.get(MAPS, "default", "both").await.expect("it is owned");
        (both["metadata"]["ownerReferences"].as_array()?.len() == 1).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_secret_gets_a_token_and_goes_with_its_account() {
    let plane = Plane::start().await;
    plane.create(("", "serviceaccounts"), json!({"metadata": {"name": "a", "namespace": "default"}})).await;
    let secret = json!({"metadata": {"name": "t", "namespace": "default",
        "annotations": {"kubernetes.io/service-account.name": "a"}}, "type": "kubernetes.io/service-account-token"});
    plane.create(("", "secrets"), secret).await;
    let filled = until("a token", || async {
        plane.get(("", "secrets"), "default", "t").await.filter(|s| s["data"]["token"].is_string())
    })
    .await;
    assert!(filled["data"]["ca.crt"].is_string() && filled["data"]["namespace"].is_string());
    plane.delete(("", "serviceaccounts"), "default", "a", json!({})).await;
    until("its end", || async { plane.get(("", "secrets"), "default", "t").await.is_none().then_some(()) })
        .await;
}

#[tokio::test]
async fn budgets_quotas_and_gathered_roles_are_counted() {
    let mut plane = Plane::start().await;
    plane.node("n", true).await;
    let budget = json!({"metadata": {"name": "b", "namespace": "default"},
        "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "web"}}}});
    plane.create(("policy", "poddisruptionbudgets"), budget).await;
    let quota = json!({"metadata": {"name": "q", "namespace": "default"}, "spec": {"hard": {"pods": "5"}}});
    plane.create(("", "resourcequotas"), quota).await;
    let status = |of, name| {
        let plane = &plane;
        async move { Some(plane.get(of, "default", name).await?["status"].clone()) }
    };
    until("the first count", || async {
        status(("", "resourcequotas"), "q").await.filter(|s| s["used"]["pods"] == "0")
    })
    .await;
    plane.pod("default", "p1", "n", "10.244.0.1").await;
    plane.pod("default", "p2", "n", "10.244.0.2").await;
    let counted = until("a disruption that is allowed", || async {
        status(("policy", "poddisruptionbudgets"), "b").await.filter(|s| s["disruptionsAllowed"] == 1)
    })
    .await;
    assert_eq!([&counted["currentHealthy"], &counted["expectedPods"]], [2, 2]);
    assert_eq!(status(("", "resourcequotas"), "q").await.unwrap()["used"]["pods"], "2");

    let role = json!({"metadata": {"name": "mine", "labels": {"rbac.authorization.k8s.io/aggregate-to-view": "true"}},
        "rules": [{"apiGroups": ["example.com"], "resources": ["things"], "verbs": ["get"]}]});
    plane.create(("rbac.authorization.k8s.io", "clusterroles"), role).await;
    const ROLES: (&str, &str) = ("rbac.authorization.k8s.io", "clusterroles");
    let gathered = |wanted: bool| {
        let plane = &plane;
        async move {
            let admin = plane.get(ROLES, "", "admin").await?;
            (admin["rules"].to_string().contains("example.com") == wanted).then_some(())
        }
    };
    until("what view gathers, admin has", || gathered(true)).await;
    plane.delete(ROLES, "", "mine", json!({})).await;
    until("it is left out", || gathered(false)).await;
}
