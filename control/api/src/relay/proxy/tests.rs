//! Which address is meant, against a cluster in a map.

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::json;

use super::*;

#[derive(Default)]
struct Map(HashMap<(String, String, String), Arc<Value>>);

impl Map {
    fn with(mut self, resource: &str, object: Value) -> Self {
        let key =
            (resource.to_owned(), object::namespace(&object).to_owned(), object::name(&object).to_owned());
        self.0.insert(key, Arc::new(object));
        self
    }
}

impl View for Map {
    fn get(&self, resource: GroupResource<'_>, namespace: &str, name: &str) -> Option<Arc<Value>> {
        self.0.get(&(resource.resource.to_owned(), namespace.to_owned(), name.to_owned())).cloned()
    }
    fn list(&self, _: GroupResource<'_>, _: &str) -> Vec<Arc<Value>> {
        unreachable!("a proxy looks at what is named")
    }
}

fn of_pod(name: &str, ip: &str) -> Value {
    json!({
        "metadata": {"namespace": "x", "name": name},
        "spec": {"containers": [{"name": "a"}, {"name": "b", "ports": [{"containerPort": 8080}]}]},
        "status": {"podIP": ip, "podIPs": [{"ip": ip}, {"ip": "fd00::5"}]},
    })
}

fn port(tls: bool, host: &str, port: u16) -> Backend {
    Backend::Port { tls, host: host.to_owned(), port }
}

#[test]
fn pods() {
    let view = Map::default()
        .with("pods", of_pod("p", "10.0.0.5"))
        .with("pods", of_pod("host", "127.0.0.1"))
        .with("pods", of_pod("none", ""));
    let said = |id| pod(&view, "x", id).map_err(|s| (s.code, s.message));
    assert_eq!(said("p"), Ok(port(false, "10.0.0.5", 8080)));
    assert_eq!(said("p:81"), Ok(port(false, "10.0.0.5", 81)));
    assert_eq!(said("https:p:"), Ok(port(true, "10.0.0.5", 8080)));
    for (id, code, message) in [
        ("q", 404, "pods \"q\" not found"),
        ("ftp:p:1", 400, "invalid pod request \"ftp:p:1\""),
        (":1", 400, "invalid pod request \":1\""),
        ("a:b:c:d", 400, "invalid pod request \"a:b:c:d\""),
        ("host", 400, "address not allowed"),
        ("p:http", 400, "invalid port \"http\""),
    ] {
        assert_eq!(said(id), Err((code, message.to_owned())), "{id}");
    }
}

#[test]
fn services() {
    let target = |name: &str| json!({"kind": "Pod", "namespace": "x", "name": name});
    let address = |ip: &str, name: &str| json!({"ip": ip, "targetRef": target(name)});
    let view = Map::default()
        .with("pods", of_pod("p", "10.0.0.5"))
        .with("pods", of_pod("q", "10.0.0.6"))
        .with("services", json!({"metadata": {"namespace": "x", "name": "s"}, "spec": {"ports": [
            {"name": "web", "port": 80}, {"name": "other", "port": 81}]}}))
        .with("endpoints", json!({"metadata": {"namespace": "x", "name": "s"}, "subsets": [
            {"addresses": [address("10.0.0.5", "p"), address("10.0.0.6", "q"), address("10.9.9.9", "p"), {"ip": "10.1.1.1"}],
             "ports": [{"name": "web", "port": 8080}]},
            {"notReadyAddresses": [address("10.0.0.6", "q")], "ports": [{"name": "other", "port": 1}]},
        ]}))
        .with("endpoints", json!({"metadata": {"namespace": "x", "name": "empty"}}));
    let said = |id, pick: usize| service(&view, "x", id, |many| pick % many).map_err(|s| (s.code, s.message));
    assert_eq!(said("s:web", 0), Ok(port(false, "10.0.0.5", 8080)));
    assert_eq!(said("s:80", 1), Ok(port(false, "10.0.0.6", 8080)));
    // What is not the pod's is passed over.
    assert_eq!(said("https:s:web", 2), Ok(port(true, "10.0.0.5", 8080)));
    for (id, code, message) in [
        ("s:82", 503, "no service port 82 found for service \"s\""),
        ("s:other", 503, "no endpoints available for service \"s:other\""),
        ("s", 503, "no endpoints available for service \"s\""),
        ("empty", 503, "no endpoints available for service \"empty\""),
        ("gone", 404, "endpoints \"gone\" not found"),
        ("gone:80", 404, "services \"gone\" not found"),
    ] {
        assert_eq!(said(id, 0), Err((code, message.to_owned())), "{id}");
    }
}

#[test]
fn paths_are_cut_as_they_were_sent() {
    for (path, prefix, rest) in [
        ("/api/v1/namespaces/x/pods/p/proxy", "/api/v1/namespaces/x/pods/p/proxy", ""),
        ("/api/v1/namespaces/x/pods/p/proxy/", "/api/v1/namespaces/x/pods/p/proxy", "/"),
        (
            "/api/v1/namespaces/x/services/https:s:1/proxy/a%2Fb//c/",
            "/api/v1/namespaces/x/services/https:s:1/proxy",
            "/a%2Fb//c/",
        ),
        ("/api/v1/nodes/n:10250/proxy/stats/summary", "/api/v1/nodes/n:10250/proxy", "/stats/summary"),
        ("/api/v1/nodes/proxy/proxy/proxy", "/api/v1/nodes/proxy/proxy", "/proxy"),
    ] {
        assert_eq!(cut(path), (prefix, rest), "{path}");
    }
}

#[test]
fn where_nobody_may_be_sent() {
    for (host, allowed) in [
        ("10.0.0.1", true),
        ("fd00::1", true),
        ("127.0.0.1", false),
        ("169.254.169.254", false),
        ("::1", false),
        ("fe80::1", false),
        ("0.0.0.0", false),
        ("", false),
    ] {
        assert_eq!(is_allowed(host), allowed, "{host}");
    }
}
