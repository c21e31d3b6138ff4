//! Starts, ends, and what outlives them.

use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use apiserver::Config;
use apiserver::admin::{self, Order, Outcome};
use http::Method;
use http_body_util::BodyExt as _;
use serde_json::{Value, json};

use crate::client::{Running, until};

fn on_disk(dir: &std::path::Path) -> Config {
    Config {
        data: Some(dir.to_owned()),
        kubeconfig: Some(dir.join("admin.kubeconfig")),
        socket: Some(dir.join("control.sock")),
        audit_log: Some(dir.join("audit.log")),
        ..Config::in_memory()
    }
}

#[tokio::test]
async fn a_cluster_begins_with_what_it_needs() {
    let running = Running::start().await;
    let admin = running.admin();
    for path in [
        "/api/v1/namespaces/kube-node-lease",
        "/api/v1/namespaces/default/services/kubernetes",
        "/api/v1/namespaces/default/endpoints/kubernetes",
        "/api/v1/namespaces/kube-public/serviceaccounts/default",
        "/api/v1/namespaces/kube-system/configmaps/kube-root-ca.crt",
        "/api/v1/namespaces/kube-system/configmaps/extension-apiserver-authentication",
        "/apis/rbac.authorization.k8s.io/v1/clusterroles/cluster-admin",
        "/apis/scheduling.k8s.io/v1/priorityclasses/system-node-critical",
        "/apis/networking.k8s.io/v1/servicecidrs/kubernetes",
        "/apis/networking.k8s.io/v1/ipaddresses/10.96.0.1",
    ] {
        assert_eq!(admin.get(path).await.code, 200, "{path}");
    }
    let slice =
        admin.get("/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/kubernetes").await.json();
    assert_eq!(slice["ports"][0]["port"], running.address.port());
    // Opening it again changes nothing.
    let revision = running.server.store.revision();
    apiserver::bootstrap::write(&running.server).await.unwrap();
    assert_eq!(running.server.store.revision(), revision);
    running.stop().await;
}

#[tokio::test]
async fn a_restart_keeps_authority_objects_and_tokens() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::with(on_disk(dir.path())).await;
    let jane = running.user("jane", &["system:masters"]);
    let admin = running.admin();
    admin
        .create(
            "/api/v1/namespaces",
            &json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "a"}}),
        )
        .await;
    let bundle = running.server.pki.bundle();
    let kubeconfig = std::fs::read_to_string(dir.path().join("admin.kubeconfig")).unwrap();
    assert!(kubeconfig.contains(&format!("server: https://{}\n", running.address)));
    let mode = std::fs::metadata(dir.path().join("admin.kubeconfig")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    drop(jane);
    running.stop().await;

    let running = Running::with(on_disk(dir.path())).await;
    assert_eq!(running.server.pki.bundle(), bundle);
    assert_eq!(running.admin().get("/api/v1/namespaces/a").await.code, 200);
    let lines = std::fs::read_to_string(dir.path().join("audit.log")).unwrap();
    let first: Value = serde_json::from_str(lines.lines().next().unwrap()).unwrap();
    assert_eq!(
        (&first["verb"], &first["user"]["username"], &first["responseStatus"]["code"]),
        (&json!("create"), &json!("kubernetes-admin"), &json!(201))
    );
    running.stop().await;
}

#[tokio::test]
async fn watches_end_when_the_server_does() {
    let running = Running::start().await;
    let watch = running.admin().open(Method::GET, "/api/v1/namespaces?watch=true", "").await;
    assert_eq!(watch.status().as_u16(), 200);
    let body = tokio::spawn(watch.into_body().collect());
    running.stop().await;
    body.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_backup_is_restored_while_the_server_runs() {
    let dir = tempfile::tempdir().unwrap();
    // Of one that was killed in the midst of it.
    let left = dir.path().join("control/restore-1/x");
    std::fs::create_dir_all(&left).unwrap();
    let running = Running::with(on_disk(dir.path())).await;
    let (admin, socket) = (running.admin(), dir.path().join("control.sock"));
    let maps = "/api/v1/namespaces/default/configmaps";
    let map = |name: &str| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"a": "1"}});
    admin.create(maps, &map("kept")).await;
    let file = dir.path().join("backup");
    until("the socket is there", async || socket.exists()).await;
    let outcome = admin::order(&socket, &Order::Backup(file.clone())).await.unwrap();
    assert!(matches!(outcome, Outcome::BackedUp(_)), "{outcome:?}");
    admin.delete(&format!("{maps}/kept")).await;
    admin.create(maps, &map("new")).await;
    let before = running.server.store.revision();
    let outcome = admin::order(&socket, &Order::Restore(file.clone())).await.unwrap();
    assert!(matches!(outcome, Outcome::Restored(2, _)), "{outcome:?}");
    assert!(running.server.store.revision() > before);
    assert_eq!(admin.get(&format!("{maps}/kept")).await.json()["data"]["a"], "1");
    assert_eq!(admin.get(&format!("{maps}/new")).await.code, 404);
    let outcome = admin::order(&socket, &Order::Restore(dir.path().join("none"))).await.unwrap();
    assert!(matches!(outcome, Outcome::Failed(_)), "{outcome:?}");
    let names = std::fs::read_dir(dir.path().join("control")).unwrap();
    let mut names: Vec<_> = names.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    assert_eq!(names, ["pki", "store"]);
    running.stop().await;
}

#[tokio::test]
async fn authorities_follow_each_other_and_everybody_is_told() {
    const YEAR: i64 = 365 * 24 * 3600;
    let dir = tempfile::tempdir().unwrap();
    let config = Config { renewal: Duration::from_millis(10), ..on_disk(dir.path()) };
    let running = Running::with(config).await;
    let first = running.admin();
    let trusted = async |admin: &crate::client::Client| {
        let map = admin.get("/api/v1/namespaces/kube-system/configmaps/kube-root-ca.crt").await.json();
        map["data"]["ca.crt"].as_str().unwrap_or_default().to_owned()
    };
    let old = trusted(&first).await;
    let kubeconfig = || std::fs::read_to_string(dir.path().join("admin.kubeconfig")).unwrap();
    let written = kubeconfig();

    // A successor is trusted two years before the end. What the server shows is still of the one that all know.
    running.leap(8 * YEAR + YEAR / 2);
    until("the kubeconfig is written again", async || kubeconfig() != written).await;
    assert_eq!(first.get("/api/v1/namespaces").await.code, 401, "the certificate has ended");
    let second = first.clone().identity(running.server.pki.admin());
    until("it is told", async || trusted(&second).await != old).await;
    let both = trusted(&second).await;
    assert!(both.starts_with(&old) && both.matches("BEGIN").count() == 2, "{both}");

    // A year later it signs, and who has been told of it does not notice.
    running.leap(YEAR);
    let third = running.admin();
    until("it signs", async || !running.server.pki.bundle().starts_with(&old)).await;
    let third = third.identity(running.server.pki.admin());
    assert_eq!(third.get("/api/v1/namespaces").await.code, 200);
    until("the order is told too", async || !trusted(&third).await.starts_with(&old)).await;
    running.stop().await;

    // It is so after a start, too.
    let text = std::fs::read_to_string(dir.path().join("control/pki/pki.json")).unwrap();
    assert_eq!(serde_json::from_str::<Value>(&text).unwrap()["authorities"].as_array().unwrap().len(), 2);
}
