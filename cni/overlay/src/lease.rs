//! What a node says about itself to the others: its ranges, and where its end of the network is. Flannel's
//! annotations on the Node, read and written. Pure.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;
use proto_kube::object;
use serde_json::{Map, Value, json};

use crate::Backend;

/// A hardware address.
pub type Mac = [u8; 6];

const PREFIX: &str = "flannel.alpha.coreos.com/";

/// Names of a family's annotations.
struct Names {
    data: &'static str,
    ip: &'static str,
    overwrite: &'static str,
}

fn names(v4: bool) -> Names {
    match v4 {
        true => Names { data: "backend-data", ip: "public-ip", overwrite: "public-ip-overwrite" },
        false => Names { data: "backend-v6-data", ip: "public-ipv6", overwrite: "public-ipv6-overwrite" },
    }
}

fn annotation<'a>(node: &'a Value, name: &str) -> &'a str {
    let of = |(key, value): (&'a str, &'a str)| (key.strip_prefix(PREFIX) == Some(name)).then_some(value);
    object::annotations(node).find_map(of).unwrap_or_default()
}

/// The end of a node's tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Vtep {
    /// Number of the network.
    pub vni: u32,
    /// The device's hardware address.
    pub mac: Mac,
}

/// Where a node is reached, in one family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct End {
    /// The node's address.
    pub ip: IpAddr,
    /// For nodes with VXLAN.
    pub vtep: Option<Vtep>,
}

/// The ranges of a Node, at most one of a family.
pub(crate) fn subnets(node: &Value) -> Vec<IpNet> {
    let all = object::items(node, &["spec", "podCIDRs"]).filter_map(Value::as_str);
    let first = Some(object::text(node, &["spec", "podCIDR"])).filter(|s| !s.is_empty());
    let mut found: Vec<IpNet> = Vec::new();
    for net in all.chain(first).filter_map(|text| text.parse::<IpNet>().ok()) {
        if found.iter().all(|other| other.addr().is_ipv4() != net.addr().is_ipv4()) {
            found.push(net.trunc());
        }
    }
    found
}

/// The addresses that a Node's status gives as `InternalIP`, at most one of a family.
pub(crate) fn internal_ips(node: &Value) -> Vec<IpAddr> {
    let mut found: Vec<IpAddr> = Vec::new();
    for address in object::items(node, &["status", "addresses"]) {
        let Ok(ip) = object::text(address, &["address"]).parse::<IpAddr>() else { continue };
        let internal = object::text(address, &["type"]) == "InternalIP";
        if internal && found.iter().all(|other| other.is_ipv4() != ip.is_ipv4()) {
            found.push(ip);
        }
    }
    found
}

/// All of a Node that the overlay looks at: where that stays the same, nothing is to be done.
#[derive(Debug, PartialEq)]
pub(crate) struct Facts<'a> {
    uid: &'a str,
    annotations: BTreeSet<(&'a str, &'a str)>,
    subnets: Vec<IpNet>,
    ips: Vec<IpAddr>,
}

impl<'a> Facts<'a> {
    /// Of a Node.
    pub(crate) fn of(node: &'a Value) -> Facts<'a> {
        let annotations = object::annotations(node).filter(|(key, _)| key.starts_with(PREFIX)).collect();
        Facts { uid: object::uid(node), annotations, subnets: subnets(node), ips: internal_ips(node) }
    }
}

/// Whether a node's annotations are kept by an overlay.
pub(crate) fn is_kept(node: &Value) -> bool {
    annotation(node, "kube-subnet-manager") == "true"
}

/// Where a Node says it is reached; `None` where it says nothing that can be used.
pub(crate) fn end(node: &Value, v4: bool) -> Option<End> {
    let names = names(v4);
    let ip: IpAddr = annotation(node, names.ip).parse().ok()?;
    (ip.is_ipv4() == v4).then(|| End { ip, vtep: vtep(annotation(node, names.data)) })
}

fn vtep(data: &str) -> Option<Vtep> {
    let data: Value = serde_json::from_str(data).ok()?;
    // before it said its number, flannel's was always 1
    let vni = data.get("VNI").map_or(Some(1), Value::as_u64)?;
    Some(Vtep { vni: u32::try_from(vni).ok()?, mac: mac(object::text(&data, &["VtepMAC"]))? })
}

/// Reads a hardware address as people write it.
pub(crate) fn mac(text: &str) -> Option<Mac> {
    let bytes: Option<Vec<u8>> = text.split(':').map(|b| u8::from_str_radix(b, 16).ok()).collect();
    bytes?.try_into().ok()
}

/// The address to say for `ip`: what somebody asks for on the Node, as for nodes behind NAT.
pub(crate) fn public(node: &Value, ip: IpAddr) -> IpAddr {
    let asked = annotation(node, names(ip.is_ipv4()).overwrite).parse().ok();
    asked.filter(|asked: &IpAddr| asked.is_ipv4() == ip.is_ipv4()).unwrap_or(ip)
}

/// A merge patch that brings a Node's annotations to say this; `None` where they do already.
pub(crate) fn patch(node: &Value, backend: Backend, ends: &[End]) -> Option<Value> {
    let mut wanted = vec![
        ("kube-subnet-manager", "true".to_owned()),
        (
            "backend-type",
            match backend {
                Backend::Vxlan { .. } => "vxlan".to_owned(),
                Backend::HostGw => "host-gw".to_owned(),
            },
        ),
    ];
    for end in ends {
        let names = names(end.ip.is_ipv4());
        let data = end.vtep.map_or(
            Value::Null,
            |vtep| json!({ "VNI": vtep.vni, "VtepMAC": netlink::route::mac_text(&vtep.mac) }),
        );
        wanted.extend([(names.data, data.to_string()), (names.ip, end.ip.to_string())]);
    }
    let mut changed = Map::new();
    for (name, value) in wanted {
        if annotation(node, name) != value {
            changed.insert(format!("{PREFIX}{name}"), value.into());
        }
    }
    // a family that the node has no more
    for v4 in [true, false] {
        let names = names(v4);
        if ends.iter().all(|end| end.ip.is_ipv4() != v4) {
            for name in [names.data, names.ip].into_iter().filter(|name| !annotation(node, name).is_empty()) {
                changed.insert(format!("{PREFIX}{name}"), Value::Null);
            }
        }
    }
    (!changed.is_empty()).then(|| json!({ "metadata": { "annotations": changed } }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(annotations: &Value) -> Value {
        json!({ "metadata": { "name": "a", "annotations": annotations },
                "spec": { "podCIDR": "10.244.3.0/24", "podCIDRs": ["10.244.3.0/24", "fd00:3::/64"] } })
    }

    #[test]
    fn reads_what_flannel_writes() {
        let node = node(&json!({
            "flannel.alpha.coreos.com/backend-data": "{\"VNI\":1,\"VtepMAC\":\"ba:35:ae:01:02:03\"}",
            "flannel.alpha.coreos.com/backend-type": "vxlan",
            "flannel.alpha.coreos.com/kube-subnet-manager": "true",
            "flannel.alpha.coreos.com/public-ip": "192.0.2.7",
            "flannel.alpha.coreos.com/backend-v6-data": "null",
            "flannel.alpha.coreos.com/public-ipv6": "2001:db8::7",
        }));
        assert!(is_kept(&node));
        let vtep = Some(Vtep { vni: 1, mac: [0xba, 0x35, 0xae, 1, 2, 3] });
        assert_eq!(end(&node, true), Some(End { ip: [192, 0, 2, 7].into(), vtep }));
        assert_eq!(end(&node, false).unwrap().vtep, None);
        assert_eq!(
            subnets(&node).iter().map(IpNet::to_string).collect::<Vec<_>>(),
            ["10.244.3.0/24", "fd00:3::/64"]
        );
    }

    #[test]
    fn what_is_patched_in_is_read_back_and_not_patched_again() {
        let bare = node(&json!({}));
        let ends = [
            End { ip: [192, 0, 2, 7].into(), vtep: Some(Vtep { vni: 7, mac: [2, 0, 0, 0, 0, 9] }) },
            End { ip: "2001:db8::7".parse().unwrap(), vtep: Some(Vtep { vni: 7, mac: [2, 0, 0, 0, 0, 8] }) },
        ];
        let backend = Backend::default();
        let patch_of = |node: &Value, ends: &[End]| patch(node, backend, ends);
        let full = node(&patch_of(&bare, &ends).unwrap()["metadata"]["annotations"]);
        assert_eq!([end(&full, true).unwrap(), end(&full, false).unwrap()], ends);
        assert_eq!(patch_of(&full, &ends), None);
        let less = patch_of(&full, &ends[..1]).unwrap();
        assert_eq!(less["metadata"]["annotations"]["flannel.alpha.coreos.com/public-ipv6"], Value::Null);
    }

    #[test]
    fn nonsense_is_nothing() {
        for data in [
            "",
            "null",
            "{}",
            "[1]",
            "{\"VtepMAC\":\"1:2:3\"}",
            "{\"VNI\":-1,\"VtepMAC\":\"00:00:00:00:00:01\"}",
        ] {
            assert_eq!(vtep(data), None, "{data}");
        }
        assert_eq!(vtep("{\"VtepMAC\":\"00:00:00:00:00:01\"}").unwrap().vni, 1);
        let wrong = node(&json!({ "flannel.alpha.coreos.com/public-ip": "::1" }));
        assert_eq!(end(&wrong, true), None);
    }
}
