//! Servers that tell their name, and clients that ask them.

use anyhow::{Result, bail};
use conformance::{Bed, socat};
use proto_kube::object::{label, name, text};
use serde_json::{Value, json};

/// A pod with one container that runs a shell script; its label `app` is its name.
pub(crate) fn pod(name: &str, image: &str, script: &str) -> Value {
    let container = json!({"name": "c", "image": image, "command": ["sh", "-c", script]});
    let spec = json!({"terminationGracePeriodSeconds": 0, "containers": [container]});
    json!({"metadata": {"name": name, "labels": {"app": name}}, "spec": spec})
}

/// A pod from which to ask.
pub(crate) fn client(name: &str) -> Value {
    pod(name, "busybox:1.35", "sleep 1000000")
}

/// A web server, Ready once it listens: it answers anything with its host name, the method and the path.
pub(crate) fn web(name: &str, ports: &[u16]) -> Value {
    let listen: String = ports.iter().map(|port| format!("listen {port};")).collect();
    let server = format!(r#"server {{ {listen} return 200 "$hostname $request_method $request_uri\n"; }}"#);
    let config = format!("daemon off; events {{}} http {{ access_log off; {server} }}");
    let mut pod = pod(name, "nginx:1.22", &format!("echo '{config}' > /tmp/conf && exec nginx -c /tmp/conf"));
    let container = &mut pod["spec"]["containers"][0];
    container["ports"] = ports.iter().map(|port| json!({"containerPort": port})).collect();
    container["readinessProbe"] = json!({"tcpSocket": {"port": ports[0]}, "periodSeconds": 1});
    pod
}

/// A server on a TCP and the same UDP port that answers with its host name; ask it with [`datagram`] and [`stream`].
pub(crate) fn both(bed: &Bed, name: &str, port: u16) -> Result<Value> {
    let script = format!(
        "socat TCP4-LISTEN:{port},fork,reuseaddr EXEC:hostname & exec socat UDP4-RECVFROM:{port},fork EXEC:hostname"
    );
    Ok(pod(name, &socat::image(bed)?, &script))
}

/// A pod from which to ask with [`datagram`] and [`stream`].
pub(crate) fn socat_client(bed: &Bed, name: &str) -> Result<Value> {
    Ok(pod(name, &socat::image(bed)?, "sleep 1000000"))
}

/// The pod on a node.
pub(crate) fn on(mut pod: Value, node: &str) -> Value {
    pod["spec"]["nodeSelector"] = json!({"kubernetes.io/hostname": node});
    pod
}

/// The pod in the network of its node.
pub(crate) fn in_host(mut pod: Value) -> Value {
    pod["spec"]["hostNetwork"] = true.into();
    pod
}

/// A pod's address.
pub(crate) fn ip(pod: &Value) -> &str {
    text(pod, &["status", "podIP"])
}

/// A Service of the pods whose label `app` is its name.
pub(crate) fn service(name: &str, ports: Value) -> Value {
    json!({"metadata": {"name": name}, "spec": {"selector": {"app": name}, "ports": ports}})
}

/// The label `app`, for a pod that serves another Service than the one of its own name.
pub(crate) fn serving(mut pod: Value, service: &str) -> Value {
    debug_assert!(label(&pod, "app").is_some(), "{} has no label", name(&pod));
    pod["metadata"]["labels"]["app"] = service.into();
    pod
}

/// What the web server at `url` answers a pod.
pub(crate) async fn fetch(bed: &Bed, from: &str, url: &str) -> Result<String> {
    bed.sh(from, &format!("timeout 5 wget -qO- http://{url}")).await
}

/// Waits until the server at `url` answers a pod, and is the one with this name.
pub(crate) async fn reaches(bed: &Bed, from: &str, url: &str, server: &str) -> Result<()> {
    bed.eventually(&format!("{url} from {from}"), || async {
        let answer = fetch(bed, from, url).await?;
        if answer.split_whitespace().next() == Some(server) { Ok(()) } else { bail!("{answer:?} from {url}") }
    })
    .await
}

/// What a server of [`both`] answers a datagram; empty when nothing comes.
pub(crate) async fn datagram(bed: &Bed, from: &str, place: &str) -> Result<String> {
    bed.sh(from, &format!("echo x | timeout 5 socat -T1 -t1 - UDP4:{place} 2>/dev/null; true")).await
}

/// What a server of [`both`] answers on a connection; empty when there is none.
pub(crate) async fn stream(bed: &Bed, from: &str, place: &str) -> Result<String> {
    bed.sh(
        from,
        &format!("timeout 5 socat -t1 - TCP4:{place},connect-timeout=2 </dev/null 2>/dev/null; true"),
    )
    .await
}
