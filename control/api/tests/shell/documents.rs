//! What the server tells of itself.

use http::Method;
use serde_json::json;

use crate::client::Running;

const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

#[tokio::test]
async fn discovery_in_both_forms() {
    let running = Running::start().await;
    let admin = running.admin();
    let new = admin.clone().header("accept", &format!("{AGGREGATED},application/json"));
    for path in ["/api", "/apis"] {
        let document = new.get(path).await;
        assert_eq!(
            (document.code, document.header("content-type"), document.header("vary")),
            (200, AGGREGATED, "Accept")
        );
        assert_eq!(document.json()["kind"], "APIGroupDiscoveryList");
        let tag = document.header("etag").to_owned();
        assert_eq!(new.clone().header("if-none-match", &tag).get(path).await.code, 304);
    }
    for (path, kind) in [
        ("/api", "APIVersions"),
        ("/apis", "APIGroupList"),
        ("/apis/apps", "APIGroup"),
        ("/api/v1", "APIResourceList"),
        ("/apis/apps/v1", "APIResourceList"),
        ("/apis/apps/v1/", "APIResourceList"),
    ] {
        let document = admin.get(path).await;
        assert_eq!((document.code, document.json()["kind"].as_str()), (200, Some(kind)), "{path}");
    }
    for path in ["/nope", "/apis/nope", "/openapi/v3/nope"] {
        let nothing = admin.get(path).await;
        assert_eq!((nothing.code, nothing.text().trim()), (404, "404 page not found"), "{path}");
        assert!(nothing.header("content-type").starts_with("text/plain"), "{path}");
    }
    running.stop().await;
}

#[tokio::test]
async fn version_index_and_headers() {
    let running = Running::start().await;
    let admin = running.admin();
    let version = admin.get("/version").await.json();
    assert_eq!((&version["major"], &version["minor"]), (&json!("1"), &json!("37")));
    assert!(version["gitVersion"].as_str().unwrap().starts_with("v1.37."));
    let index = admin.get("/").await.json();
    assert!(index["paths"].as_array().unwrap().contains(&json!("/apis/apps/v1")));
    // Who sees less is told of less.
    let of_jane = running.user("jane", &[]).get("/").await;
    assert_eq!(of_jane.code, 403);
    let answer = admin.header("audit-id", "mine").get("/api/v1/namespaces").await;
    assert_eq!((answer.header("audit-id"), answer.header("cache-control")), ("mine", "no-cache, private"));
    running.stop().await;
}

#[tokio::test]
async fn figures_count_what_was_asked() {
    let running = Running::start().await;
    let admin = running.admin();
    admin.get("/api/v1/namespaces/default").await;
    admin.get("/api/v1/namespaces/none").await;
    let text = admin.get("/metrics").await.text();
    for line in [
        r#"apiserver_request_total{code="200",group="",resource="namespaces",scope="resource",subresource="",verb="GET",version="v1"} 1"#,
        r#"apiserver_request_total{code="404",group="",resource="namespaces",scope="resource",subresource="",verb="GET",version="v1"} 1"#,
        "# TYPE apiserver_request_duration_seconds histogram",
        "apiserver_storage_writable 1",
        r#"apiserver_resource_objects{group="",resource="namespaces"} 4"#,
        "# TYPE process_cpu_seconds_total counter",
        "process_resident_memory_bytes ",
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
    running.stop().await;
}

#[tokio::test]
async fn both_protocols_are_spoken() {
    let running = Running::start().await;
    let nobody = running.anonymous();
    assert_eq!(nobody.negotiate(&["h2", "http/1.1"]).await.as_deref(), Some(&b"h2"[..]));
    assert_eq!(nobody.negotiate(&["http/1.1"]).await.as_deref(), Some(&b"http/1.1"[..]));
    running.stop().await;
}

#[tokio::test]
async fn head_is_answered_without_a_body() {
    let running = Running::start().await;
    let admin = running.admin();
    for path in ["/healthz", "/api/v1/namespaces/default", "/openapi/v3/api/v1", "/api/v1/namespaces/none"] {
        let all = admin.get(path).await;
        for client in [admin.clone(), admin.clone().http2(), admin.clone().header("accept-encoding", "gzip")]
        {
            let head = client.send(Method::HEAD, path, "").await;
            assert_eq!((head.code, head.body.len()), (all.code, 0), "{path}");
            assert!(!head.header("content-length").is_empty(), "{path}");
        }
    }
    running.stop().await;
}

#[tokio::test]
async fn there_are_no_custom_resources() {
    let running = Running::start().await;
    let path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    let list = running.admin().get(path).await;
    assert_eq!((list.code, list.json()["items"].clone()), (200, json!([])));
    assert_eq!(running.user("jane", &[]).get(path).await.code, 403);
    assert_eq!(running.admin().post(path, &json!({})).await.code, 404);
    running.stop().await;
}
