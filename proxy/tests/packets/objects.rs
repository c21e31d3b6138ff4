//! Services and EndpointSlices in few words.

use serde_json::{Value, json};

use crate::table::NODE;

/// A service of `namespace/name` at a cluster IP; each port is `name:protocol:port[:node port]`.
pub(crate) fn service(name: &str, ip: &str, ports: &[&str], spec: Value) -> Value {
    let ports = ports.iter().map(|port| {
        let mut parts = port.split(':');
        let (name, protocol) = (parts.next().unwrap(), parts.next().unwrap().to_uppercase());
        let mut numbers = parts.map(|n| n.parse::<u16>().unwrap());
        json!({ "name": name, "protocol": protocol, "port": numbers.next(), "nodePort": numbers.next() })
    });
    let mut object = json!({
        "metadata": { "namespace": "ns", "name": name },
        "spec": { "type": "ClusterIP", "clusterIP": ip, "clusterIPs": [ip], "ports": ports.collect::<Vec<_>>() },
    });
    for (key, value) in spec.as_object().unwrap() {
        match key.as_str() {
            "balancers" => {
                let ingress = value.as_array().unwrap().iter().map(|ip| json!({ "ip": ip }));
                object["status"] = json!({ "loadBalancer": { "ingress": ingress.collect::<Vec<_>>() } });
            }
            "labels" => object["metadata"]["labels"] = value.clone(),
            key => object["spec"][key] = value.clone(),
        }
    }
    object
}

/// The endpoints of a service; each is an address and words: `here` for this node, `there` for another (without either,
/// nobody says where), `unready`, `ending` (serves still), `zone=`, `node=` for hints.
pub(crate) fn slice(service: &str, ports: &[&str], endpoints: &[&str]) -> Value {
    let ports = ports.iter().map(|port| {
        let parts: Vec<&str> = port.split(':').collect();
        json!({ "name": parts[0], "protocol": parts[1].to_uppercase(), "port": parts[2].parse::<u16>().unwrap() })
    });
    let v4 = endpoints.iter().all(|e| !e.split(' ').next().unwrap().contains(':'));
    let endpoints = endpoints.iter().map(|endpoint| {
        let mut words = endpoint.split(' ');
        let mut object = json!({ "addresses": [words.next().unwrap()], "conditions": { "ready": true } });
        for word in words {
            match word.split_once('=') {
                Some(("zone", zone)) => object["hints"]["forZones"] = json!([{ "name": zone }]),
                Some(("node", node)) => object["hints"]["forNodes"] = json!([{ "name": node }]),
                _ if word == "here" => object["nodeName"] = json!(NODE),
                _ if word == "there" => object["nodeName"] = json!("other-node"),
                _ if word == "unready" => object["conditions"] = json!({ "ready": false, "serving": false }),
                _ if word == "ending" => {
                    object["conditions"] = json!({ "ready": false, "serving": true, "terminating": true });
                }
                _ => panic!("{word}?"),
            }
        }
        object
    });
    let (kind, suffix) = if v4 { ("IPv4", 4) } else { ("IPv6", 6) };
    json!({
        "metadata": {
            "namespace": "ns", "name": format!("{service}-{suffix}"),
            "labels": { "kubernetes.io/service-name": service },
        },
        "addressType": kind,
        "ports": ports.collect::<Vec<_>>(),
        "endpoints": endpoints.collect::<Vec<_>>(),
    })
}
