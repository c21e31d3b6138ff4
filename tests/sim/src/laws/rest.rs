//! What must hold when a cluster has had its time.

use std::collections::BTreeSet;
use std::net::IpAddr;

use proto_kube::{object, pod};
use serde_json::Value;

use super::{NODES, PODS, room};
use crate::node::Node;
use crate::proxy::Proxy;
use crate::server::Server;

/// What a cluster still lacks that has had its time: every wish of people is met as far as there is room, nothing is left
/// over, and who is ready is listed.
pub(crate) fn unmet(server: &mut Server, nodes: &[Node], proxy: &Proxy) -> Vec<String> {
    let mut unmet = Vec::new();
    let crowded = room::crowded(server);
    for (of, wanted, found) in [
        (("apps", "deployments"), &["spec", "replicas"][..], &["status", "availableReplicas"][..]),
        (("apps", "deployments"), &["spec", "replicas"], &["status", "updatedReplicas"]),
        (("apps", "deployments"), &["spec", "replicas"], &["status", "replicas"]),
        (("apps", "statefulsets"), &["spec", "replicas"], &["status", "readyReplicas"]),
        (("apps", "daemonsets"), &["status", "desiredNumberScheduled"], &["status", "numberReady"]),
        (("batch", "jobs"), &["spec", "completions"], &["status", "succeeded"]),
    ] {
        for object in server.list(of) {
            let [wanted, found] = [wanted, found].map(|path| object::number(&object, path).unwrap_or(0));
            if wanted != found && !crowded.contains(object::name(&object)) {
                unmet.push(format!("{} {}: {found} of {wanted}", of.1, object::name(&object)));
            }
        }
    }
    let mut uids = BTreeSet::new();
    for pod in server.list(PODS) {
        let (name, node) = (object::name(&pod), object::text(&pod, &["spec", "nodeName"]));
        uids.insert(object::uid(&pod).to_owned());
        if object::is_terminating(&pod) {
            unmet.push(format!("pod {name} on {node} is still to go"));
        }
        if let Some(owner) = object::controller(&pod) {
            let of = proto_kube::resource::all().iter().find(|r| r.kind == owner.kind);
            let found =
                of.and_then(|of| server.get((of.group, of.plural), object::namespace(&pod), owner.name));
            if found.is_none_or(|found| object::uid(&found) != owner.uid) {
                unmet.push(format!("pod {name} has lost its {} {}", owner.kind, owner.name));
            }
        }
    }
    for node in server.list(NODES) {
        let taints = object::items(&node, &["spec", "taints"]).map(|taint| object::text(taint, &["key"]));
        unmet.extend(taints.map(|taint| format!("{} bears {taint}", object::name(&node))));
    }
    unmet.extend(unlisted(server, proxy));
    if !proxy.is_current(server) {
        unmet.push("the proxy has another view of services and slices".to_owned());
    }
    for node in nodes {
        unmet.extend(
            node.has()
                .into_iter()
                .filter(|uid| !uids.contains(*uid))
                .map(|uid| format!("{} has {uid}", node.name)),
        );
    }
    unmet
}

/// Services whose slices list other pods as ready than those that are, or to whose others connections go.
fn unlisted(server: &Server, proxy: &Proxy) -> Vec<String> {
    let mut unlisted = Vec::new();
    for service in server.list(("", "services")) {
        let name = object::name(&service);
        let is_of = |pod: &Value| object::label(pod, "app") == Some(name) && pod::is_ready(pod);
        let pods = || server.list(PODS).into_iter().filter(|pod| is_of(pod) && !object::is_terminating(pod));
        let ready: BTreeSet<String> = pods().map(|pod| object::uid(&pod).to_owned()).collect();
        let slices = server.list(("discovery.k8s.io", "endpointslices"));
        let slices = slices.iter().filter(|s| object::label(s, "kubernetes.io/service-name") == Some(name));
        let endpoints = slices.flat_map(|slice| object::items(slice, &["endpoints"]));
        let endpoints = endpoints.filter(|endpoint| endpoint["conditions"]["ready"] == true);
        let listed: BTreeSet<String> =
            endpoints.map(|endpoint| object::text(endpoint, &["targetRef", "uid"]).to_owned()).collect();
        if listed != ready {
            unlisted.push(format!("service {name} lists {listed:?}, ready are {ready:?}"));
        }
        let address = |object: &Value, path: &[&str]| object::text(object, path).parse::<IpAddr>().ok();
        let there: BTreeSet<IpAddr> = pods().filter_map(|pod| address(&pod, &["status", "podIP"])).collect();
        let ways = address(&service, &["spec", "clusterIP"]).map(|ip| proxy.ways(ip, 80)).unwrap_or_default();
        if ways != there {
            unlisted.push(format!("connections to {name} go to {ways:?}, ready are {there:?}"));
        }
    }
    unlisted
}
