//! The life of tokens.

use http::Method;
use serde_json::{Value, json};

use crate::client::{Client, Running};

const ACCOUNTS: &str = "/api/v1/namespaces/default/serviceaccounts";
const REVIEWS: &str = "/apis/authentication.k8s.io/v1/tokenreviews";

async fn account(admin: &Client, name: &str) {
    admin
        .create(ACCOUNTS, &json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}}))
        .await;
}

async fn request(admin: &Client, name: &str, spec: Value) -> Value {
    let request = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec});
    admin.create(&format!("{ACCOUNTS}/{name}/token"), &request).await
}

async fn token(admin: &Client, name: &str, spec: Value) -> String {
    request(admin, name, spec).await["status"]["token"].as_str().unwrap().to_owned()
}

async fn review(admin: &Client, token: &str, audiences: Value) -> Value {
    let review = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview",
        "spec": {"token": token, "audiences": audiences}});
    admin.create(REVIEWS, &review).await["status"].clone()
}

#[tokio::test]
async fn a_token_is_good_until_its_time_is_over() {
    let running = Running::start().await;
    let admin = running.admin();
    account(&admin, "a").await;
    let made = request(&admin, "a", json!({"expirationSeconds": 600})).await;
    assert_eq!(made["spec"]["audiences"], json!([running.server.config.issuer]));
    let token = made["status"]["token"].as_str().unwrap();
    let status = review(&admin, token, json!(null)).await;
    assert_eq!(
        (&status["authenticated"], &status["user"]["username"]),
        (&json!(true), &json!("system:serviceaccount:default:a"))
    );
    assert!(status["user"]["uid"].is_string());
    let holder = running.anonymous().token(token);
    assert_eq!(holder.get("/api").await.code, 200);
    assert_eq!(holder.get("/api/v1/pods").await.code, 403);
    running.leap(599);
    assert_eq!(holder.get("/api").await.code, 200);
    running.leap(100);
    assert_eq!(holder.get("/api").await.code, 401);
    running.stop().await;
}

#[tokio::test]
async fn a_token_dies_with_what_it_is_bound_to() {
    let running = Running::start().await;
    let admin = running.admin();
    let secrets = "/api/v1/namespaces/default/secrets";
    account(&admin, "a").await;
    admin.create(secrets, &json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}})).await;
    let reference = json!({"apiVersion": "v1", "kind": "Secret", "name": "s"});
    let bound = running.anonymous().token(&token(&admin, "a", json!({"boundObjectRef": reference})).await);
    let free = running.anonymous().token(&token(&admin, "a", json!({})).await);
    assert_eq!((bound.get("/api").await.code, free.get("/api").await.code), (200, 200));
    admin.delete(&format!("{secrets}/s")).await;
    assert_eq!((bound.get("/api").await.code, free.get("/api").await.code), (401, 200));
    // Another of the same name is not the same.
    admin.create(secrets, &json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}})).await;
    assert_eq!(bound.get("/api").await.code, 401);
    admin.delete(&format!("{ACCOUNTS}/a")).await;
    assert_eq!(free.get("/api").await.code, 401);
    account(&admin, "a").await;
    assert_eq!(free.get("/api").await.code, 401);
    running.stop().await;
}

#[tokio::test]
async fn a_token_is_for_its_audience() {
    let running = Running::start().await;
    let admin = running.admin();
    account(&admin, "a").await;
    let vault = token(&admin, "a", json!({"audiences": ["vault"]})).await;
    assert_eq!(running.anonymous().token(&vault).get("/api").await.code, 401);
    let status = review(&admin, &vault, json!(["vault", "other"])).await;
    assert_eq!((&status["authenticated"], &status["audiences"]), (&json!(true), &json!(["vault"])));
    // As upstream: what is false is left out.
    assert!(review(&admin, &vault, json!(["other"])).await["authenticated"].is_null());
    let nonsense = review(&admin, "nonsense", json!(null)).await;
    assert_eq!(
        (&nonsense["authenticated"], &nonsense["error"]),
        (&json!(null), &json!("invalid bearer token"))
    );
    running.stop().await;
}

#[tokio::test]
async fn bad_requests_for_tokens_are_refused() {
    let running = Running::start().await;
    let admin = running.admin();
    account(&admin, "a").await;
    let ask = async |name: &str, spec: Value| {
        let request = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec});
        admin.send(Method::POST, &format!("{ACCOUNTS}/{name}/token"), request.to_string()).await.code
    };
    assert_eq!(ask("a", json!({"expirationSeconds": 599})).await, 422);
    assert_eq!(ask("none", json!({})).await, 404);
    assert_eq!(
        ask("a", json!({"boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": "none"}})).await,
        404
    );
    assert_eq!(
        ask("a", json!({"boundObjectRef": {"apiVersion": "v1", "kind": "ConfigMap", "name": "c"}})).await,
        400
    );
    running.stop().await;
}

#[tokio::test]
async fn bootstrap_tokens_are_secrets() {
    let running = Running::start().await;
    let admin = running.admin();
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "bootstrap-token-abcdef"},
        "type": "bootstrap.kubernetes.io/token",
        "stringData": {"token-id": "abcdef", "token-secret": "0123456789abcdef", "usage-bootstrap-authentication": "true",
            "auth-extra-groups": "system:bootstrappers:kubeadm:default-node-token"},
    });
    let node = running.anonymous().token("abcdef.0123456789abcdef");
    assert_eq!(node.get("/api").await.code, 401);
    admin.create("/api/v1/namespaces/kube-system/secrets", &secret).await;
    let review = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"});
    let user =
        node.create("/apis/authentication.k8s.io/v1/selfsubjectreviews", &review).await["status"]["userInfo"]
            .clone();
    assert_eq!(user["username"], "system:bootstrap:abcdef");
    assert_eq!(user["groups"][1], "system:bootstrappers:kubeadm:default-node-token");
    assert_eq!(running.anonymous().token("abcdef.0123456789abcdee").get("/api").await.code, 401);
    running.stop().await;
}

#[tokio::test]
async fn others_can_check_tokens() {
    let running = Running::start().await;
    let admin = running.admin();
    let keys = admin.get("/openid/v1/jwks").await;
    assert_eq!(keys.header("content-type"), "application/jwk-set+json");
    assert_eq!(keys.json()["keys"][0]["alg"], "ES256");
    let document = admin.get("/.well-known/openid-configuration").await.json();
    assert_eq!(document["issuer"], running.server.config.issuer);
    assert_eq!(document["jwks_uri"], format!("https://127.0.0.1:{}/openid/v1/jwks", running.address.port()));
    running.stop().await;
}
