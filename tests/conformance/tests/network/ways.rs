//! From pod to pod, from a node to a pod, and through the API server.

use anyhow::{Result, ensure};
use conformance::Bed;
use http::Method;
use proto_kube::object::{name, text};
use serde_json::json;

use crate::pods::{both, client, datagram, fetch, in_host, ip, on, reaches, service, socat_client, web};

const METHODS: [Method; 7] =
    [Method::DELETE, Method::OPTIONS, Method::PATCH, Method::POST, Method::PUT, Method::GET, Method::HEAD];

/// The names of the nodes.
async fn nodes(bed: &Bed) -> Result<Vec<String>> {
    Ok(bed.list("nodes", "").await?.iter().map(|node| name(node).to_owned()).collect())
}

/// A client on each node, in its network if `host`, reaches a server on each node.
pub(crate) async fn http(bed: Bed, host: bool) -> Result<()> {
    let place = if host { in_host } else { |pod| pod };
    let nodes = nodes(&bed).await?;
    let mut servers = Vec::new();
    for (number, node) in nodes.iter().enumerate() {
        servers.push(bed.ready(on(web(&format!("server-{number}"), &[8080]), node)).await?);
        bed.ready(place(on(client(&format!("client-{number}")), node))).await?;
    }
    for number in 0..nodes.len() {
        for server in &servers {
            reaches(&bed, &format!("client-{number}"), &format!("{}:8080", ip(server)), name(server)).await?;
        }
    }
    Ok(())
}

/// The same with datagrams.
pub(crate) async fn udp(bed: Bed, host: bool) -> Result<()> {
    let place = if host { in_host } else { |pod| pod };
    let nodes = nodes(&bed).await?;
    let mut servers = Vec::new();
    for (number, node) in nodes.iter().enumerate() {
        servers.push(bed.ready(on(both(&bed, &format!("server-{number}"), 8081)?, node)).await?);
        bed.ready(place(on(socat_client(&bed, &format!("client-{number}"))?, node))).await?;
    }
    for number in 0..nodes.len() {
        for server in &servers {
            answers_udp(&bed, &format!("client-{number}"), &format!("{}:8081", ip(server)), name(server))
                .await?;
        }
    }
    Ok(())
}

async fn answers_udp(bed: &Bed, from: &str, place: &str, server: &str) -> Result<()> {
    bed.eventually(&format!("UDP {place} from {from}"), || async {
        let answer = datagram(bed, from, place).await?;
        ensure!(answer == server, "{answer:?}");
        Ok(())
    })
    .await
}

/// The port of a node that the case takes; no other has it.
const HOST_PORT: u16 = 54323;

pub(crate) async fn host_ports(bed: Bed) -> Result<()> {
    let node = nodes(&bed).await?.remove(0);
    let object = bed.get("nodes", &node).await?;
    let addresses = object["status"]["addresses"].as_array().into_iter().flatten();
    let outer = addresses.filter(|a| a["type"] == "InternalIP").map(|a| text(a, &["address"])).next();
    let outer = outer.unwrap_or_default();
    for (name, address, protocol) in
        [("one", "127.0.0.1", "TCP"), ("two", outer, "TCP"), ("three", outer, "UDP")]
    {
        let mut server = on(both(&bed, name, 8080)?, &node);
        server["spec"]["containers"][0]["ports"] = json!([
            {"containerPort": 8080, "hostPort": HOST_PORT, "hostIP": address, "protocol": protocol}
        ]);
        bed.ready(server).await?;
    }
    bed.ready(in_host(on(socat_client(&bed, "client")?, &node))).await?;
    for (name, address) in [("one", "127.0.0.1"), ("two", outer)] {
        let place = format!("{address}:{HOST_PORT}");
        bed.eventually(&format!("{name} at {place}"), || async {
            let answer = crate::pods::stream(&bed, "client", &place).await?;
            ensure!(answer == name, "{answer:?}");
            Ok(())
        })
        .await?;
    }
    answers_udp(&bed, "client", &format!("{outer}:{HOST_PORT}"), "three").await
}

/// A web server and a Service of it, both called `s`; gives the paths of their proxies.
async fn proxied(bed: &Bed) -> Result<[String; 2]> {
    bed.create("services", service("s", json!([{"name": "web", "port": 80, "targetPort": 8080}]))).await?;
    bed.ready(web("s", &[8080])).await?;
    bed.until("endpoints", "s", |e| e["subsets"][0]["addresses"][0]["ip"].is_string()).await?;
    let at = |kind: &str, place: &str| format!("/api/v1/namespaces/{}/{kind}/{place}/proxy", bed.namespace);
    Ok([at("pods", "s:8080"), at("services", "s:web")])
}

/// What the server says to a request by way of the API server.
async fn said(bed: &Bed, method: &Method, path: &str) -> Result<String> {
    let bytes = bed.client.bytes(method.clone(), path, None, "*/*").await?;
    Ok(String::from_utf8_lossy(&bytes).trim().to_owned())
}

/// All methods get to the pod, with the path below the proxy.
async fn all_methods(bed: &Bed, proxy: &str, path: &str) -> Result<()> {
    for method in METHODS {
        let said = said(bed, &method, &format!("{proxy}{path}")).await?;
        let wanted = if method == Method::HEAD { String::new() } else { format!("s {method} {path}") };
        ensure!(said == wanted, "{method} {proxy}{path}: {said:?}");
    }
    Ok(())
}

pub(crate) async fn proxy(bed: Bed) -> Result<()> {
    for proxy in proxied(&bed).await? {
        all_methods(&bed, &proxy, "/?method=any").await?;
        for method in [Method::GET, Method::HEAD] {
            let refused = bed.client.bytes(method.clone(), &proxy, None, "*/*").await;
            let code = refused.err().and_then(|error| error.code());
            ensure!(code == Some(301), "{method} {proxy} without a slash: {code:?}");
        }
    }
    Ok(())
}

pub(crate) async fn proxy_with_path(bed: Bed) -> Result<()> {
    for proxy in proxied(&bed).await? {
        all_methods(&bed, &proxy, "/some/path/with/?method=any&other=1").await?;
    }
    Ok(())
}

pub(crate) async fn through_server(bed: Bed) -> Result<()> {
    proxied(&bed).await?;
    bed.create(
        "services",
        json!({"metadata": {"name": "t"}, "spec": {"selector": {"app": "s"}, "ports": [
        {"name": "one", "port": 80, "targetPort": 8080}, {"name": "two", "port": 81, "targetPort": 8080}]}}),
    )
    .await?;
    bed.until("endpoints", "t", |e| e["subsets"][0]["addresses"][0]["ip"].is_string()).await?;
    for place in [
        "pods/s:8080",
        "pods/http:s:8080",
        "services/t:one",
        "services/t:two",
        "services/t:80",
        "services/t:81",
        "services/http:t:one",
        "services/http:t:81",
    ] {
        let path = format!("/api/v1/namespaces/{}/{place}/proxy/", bed.namespace);
        let answer = said(&bed, &Method::GET, &path).await?;
        ensure!(answer == "s GET /", "{place}: {answer:?}");
    }
    bed.ready(client("client")).await?;
    ensure!(fetch(&bed, "client", "t").await? == "s GET /", "the Service itself does not answer");
    Ok(())
}
