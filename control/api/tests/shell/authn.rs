//! Who is who, and who may what.

use serde_json::{Value, json};

use crate::client::Running;

const WHO: &str = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1";

fn review() -> Value {
    json!({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"})
}

#[tokio::test]
async fn without_credentials_there_is_health_and_version() {
    let running = Running::start().await;
    let nobody = running.anonymous();
    for (path, code) in [
        ("/healthz", 200),
        ("/livez?verbose", 200),
        ("/readyz", 200),
        ("/readyz/ping", 403),
        ("/version", 200),
        ("/", 401),
        ("/api", 401),
        ("/metrics", 401),
        ("/openid/v1/jwks", 401),
        ("/api/v1/namespaces", 401),
        ("/api/v1/healthz", 401),
    ] {
        let answer = nobody.get(path).await;
        assert_eq!(answer.code, code, "{path}");
        if code == 401 {
            assert_eq!(
                (answer.json()["reason"].as_str(), answer.json()["kind"].as_str()),
                (Some("Unauthorized"), Some("Status"))
            );
        }
    }
    running.stop().await;
}

#[tokio::test]
async fn certificates_tell_user_and_groups() {
    let running = Running::start().await;
    let admin = running.admin().post(WHO, &review()).await;
    let user = &admin.json()["status"]["userInfo"];
    assert_eq!((admin.code, &user["username"]), (201, &json!("kubernetes-admin")));
    assert_eq!(user["groups"], json!(["system:masters", "system:authenticated"]));
    let jane = running.user("jane", &["dev", "ops", "qa"]);
    let user = jane.post(WHO, &review()).await.json()["status"]["userInfo"].clone();
    assert_eq!(user["groups"], json!(["dev", "ops", "qa", "system:authenticated"]));
    // Of another cluster, or of a time that is over.
    let other = pki::Pki::open(None, pki::Names::default(), running.server.now()).unwrap();
    assert_eq!(running.anonymous().identity(other.admin()).get("/api").await.code, 401);
    assert_eq!(jane.get("/api").await.code, 200);
    running.leap(400 * 24 * 3600);
    running.server.pki.renew(running.server.now()).unwrap();
    assert_eq!(jane.get("/api").await.code, 401);
    running.stop().await;
}

#[tokio::test]
async fn a_role_is_in_force_when_it_is_written_and_not_when_it_is_gone() {
    let running = Running::start().await;
    let (admin, jane) = (running.admin(), running.user("jane", &["dev"]));
    let pods = "/api/v1/namespaces/default/pods";
    let refused = jane.get(pods).await;
    assert_eq!((refused.code, refused.json()["reason"].clone()), (403, json!("Forbidden")));
    let text = refused.json()["message"].as_str().unwrap().to_owned();
    assert!(
        text.starts_with(r#"pods is forbidden: User "jane" cannot list resource "pods" in API group "" in the namespace "default""#)
            && text.contains("\"view\""),
        "{text}"
    );
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": "dev"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "dev"}],
    });
    let bindings = format!("{RBAC}/namespaces/default/rolebindings");
    for _ in 0..3 {
        admin.create(&bindings, &binding).await;
        assert_eq!(jane.get(pods).await.code, 200);
        assert_eq!(jane.get("/api/v1/namespaces/kube-system/pods").await.code, 403);
        assert_eq!(jane.post(pods, &json!({})).await.code, 403);
        assert_eq!(admin.delete(&format!("{bindings}/dev")).await.code, 200);
        assert_eq!(jane.get(pods).await.code, 403);
    }
    running.stop().await;
}

#[tokio::test]
async fn a_node_reads_what_its_pods_need() {
    let running = Running::start().await;
    let admin = running.admin();
    let (n1, n2) = (
        running.user("system:node:n1", &["system:nodes"]),
        running.user("system:node:n2", &["system:nodes"]),
    );
    let secrets = "/api/v1/namespaces/default/secrets";
    admin.create(secrets, &json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}})).await;
    let reads = async |node: &crate::client::Client| node.get(&format!("{secrets}/s")).await.code;
    assert_eq!((reads(&n1).await, reads(&n2).await), (403, 403));
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"},
        "spec": {"nodeName": "n1", "containers": [{"name": "c", "image": "i"}],
            "volumes": [{"name": "v", "secret": {"secretName": "s"}}]},
    });
    admin.create("/api/v1/namespaces/default/pods", &pod).await;
    assert_eq!((reads(&n1).await, reads(&n2).await), (200, 403));
    let gone = admin.delete("/api/v1/namespaces/default/pods/p?gracePeriodSeconds=0").await;
    assert_eq!((gone.code, reads(&n1).await), (200, 403));
    running.stop().await;
}

#[tokio::test]
async fn who_may_be_somebody_else() {
    let running = Running::start().await;
    let admin = running.admin();
    let as_jane = admin.clone().header("impersonate-user", "jane").header("impersonate-group", "dev");
    let user = as_jane.post(WHO, &review()).await.json()["status"]["userInfo"].clone();
    assert_eq!(
        (&user["username"], &user["groups"]),
        (&json!("jane"), &json!(["dev", "system:authenticated"]))
    );
    assert_eq!(as_jane.get("/api/v1/secrets").await.code, 403);
    let account = admin.clone().header("impersonate-user", "system:serviceaccount:a:b");
    let groups = account.post(WHO, &review()).await.json()["status"]["userInfo"]["groups"].clone();
    assert_eq!(groups, json!(["system:serviceaccounts", "system:serviceaccounts:a", "system:authenticated"]));
    let jane = running.user("jane", &[]).header("impersonate-user", "bob").get("/api").await;
    let text = jane.json()["message"].as_str().unwrap().to_owned();
    assert_eq!(jane.code, 403);
    assert!(
        text.starts_with(r#"users "bob" is forbidden: User "jane" cannot impersonate resource "users""#),
        "{text}"
    );
    assert_eq!(admin.header("impersonate-group", "dev").get("/api").await.code, 400);
    running.stop().await;
}

#[tokio::test]
async fn reviews_say_what_a_request_would_meet() {
    let running = Running::start().await;
    let admin = running.admin();
    let review = |spec: Value| json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": spec});
    let path = "/apis/authorization.k8s.io/v1/subjectaccessreviews";
    let pods = json!({"verb": "get", "resource": "pods", "namespace": "default"});
    for (spec, allowed) in [
        (json!({"user": "jane", "resourceAttributes": pods}), false),
        (json!({"user": "jane", "groups": ["system:masters"], "resourceAttributes": pods}), true),
        (
            json!({"user": "jane", "groups": ["system:authenticated"], "nonResourceAttributes": {"verb": "get", "path": "/api"}}),
            true,
        ),
        (json!({"user": "jane", "nonResourceAttributes": {"verb": "get", "path": "/metrics"}}), false),
        (
            json!({"user": "system:kube-scheduler", "resourceAttributes": {"verb": "create", "resource": "pods", "subresource": "binding"}}),
            true,
        ),
    ] {
        let status = admin.create(path, &review(spec.clone())).await["status"].clone();
        assert_eq!(status["allowed"], allowed, "{spec}: {status}");
    }
    for bad in [json!({"resourceAttributes": pods}), json!({"user": "jane"})] {
        assert_eq!(admin.post(path, &review(bad)).await.code, 422);
    }
    let own = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectRulesReview", "spec": {"namespace": "default"}});
    let own = admin.create("/apis/authorization.k8s.io/v1/selfsubjectrulesreviews", &own).await;
    assert_eq!(own["status"]["resourceRules"][0]["verbs"], json!(["*"]));
    running.stop().await;
}
