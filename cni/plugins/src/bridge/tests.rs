//! The plan against a model of the kernel: what it does, and that doing it leaves nothing to do.

use netlink::route::Link;
use proptest::prelude::*;
use proto_node::cni::{IpConfig, Route};
use serde_json::{Value, json};

use super::*;
use crate::links::Seen;

fn conf(value: &Value) -> Result<Conf, Failure> {
    let mut all = json!({ "cniVersion": "1.1.0", "name": "net", "type": "bridge", "bridge": "br0" });
    for (key, value) in value.as_object().unwrap() {
        all[key] = value.clone();
    }
    Conf::read(&request(&all))
}

fn request(conf: &Value) -> Request {
    let env = |name: &str| match name {
        "CNI_CONTAINERID" => Some("pod".to_owned()),
        "CNI_NETNS" => Some("/proc/1/ns/net".to_owned()),
        "CNI_IFNAME" => Some("eth0".to_owned()),
        "CNI_ARGS" => Some("MAC=02:00:00:00:00:01".to_owned()),
        _ => None,
    };
    Request::new(Command::Add, &env, conf.to_string().as_bytes()).unwrap()
}

fn ipam() -> AddResult {
    let ip = |net: &str| IpConfig { address: net.parse().unwrap(), gateway: None, interface: None };
    let route = |dst: &str| Route::new(dst.parse().unwrap(), None);
    AddResult {
        ips: vec![ip("10.1.0.5/24"), ip("fd00:1::5/64")],
        routes: vec![route("0.0.0.0/0"), route("::/0")],
        ..AddResult::default()
    }
}

fn args(conf: &Conf) -> Args {
    let ipam = gateways(conf, ipam()).unwrap();
    Args { owner: "net/pod/eth0".into(), host: "veth1".into(), ifname: "eth0".into(), mac: None, ipam }
}

/// What the kernel would do.
fn apply(links: &mut Links, op: &LinkOp) {
    let index = u32::try_from(links.seen.len()).unwrap() + 2;
    let mut link = |side: Side, name: &str, kind: &str, index: u32, peer: Option<u32>| {
        let link = Link { index, name: name.into(), kind: kind.into(), mtu: 1500, peer, ..Link::default() };
        assert!(links.seen.insert((side, name.into()), Seen { link, ..Seen::default() }).is_none(), "{op:?}");
    };
    match op {
        LinkOp::CreateBridge { name } => link(Side::Host, name, "bridge", index, None),
        LinkOp::CreateVeth { host, pod, .. } => {
            link(Side::Host, host, "veth", index, Some(index + 1));
            link(Side::Pod, pod, "veth", index + 1, Some(index));
        }
        LinkOp::Sysctl { side, path, value } => {
            links.sysctls.insert((*side, path.clone()), (*value).to_owned());
        }
        LinkOp::Masquerade(masquerade) => links.masquerade = masquerade.nets.clone(),
        _ => apply_to_link(links, op),
    }
}

fn apply_to_link(links: &mut Links, op: &LinkOp) {
    let mut at = |side: Side, name: &str, change: &mut dyn FnMut(&mut Seen)| {
        change(links.seen.get_mut(&(side, name.to_owned())).unwrap_or_else(|| panic!("{op:?} has no link")));
    };
    match op {
        LinkOp::SetMtu { side, name, mtu } => at(*side, name, &mut |s| s.link.mtu = *mtu),
        LinkOp::SetPromiscuous { name } => at(Side::Host, name, &mut |s| s.link.promiscuity = 1),
        LinkOp::AttachPort { name, bridge } => at(Side::Host, name, &mut |s| s.bridge = Some(bridge.clone())),
        LinkOp::SetPort { name, port } => at(Side::Host, name, &mut |s| s.link.port = Some(*port)),
        LinkOp::SetUp { side, name } => at(*side, name, &mut |s| s.link.up = true),
        LinkOp::AddAddress { side, name, net, .. } => at(*side, name, &mut |s| s.addresses.push(*net)),
        LinkOp::DeleteAddress { name, net } => {
            at(Side::Host, name, &mut |s| s.addresses.retain(|a| a != net))
        }
        LinkOp::AddRoute { name, route } => at(Side::Pod, name, &mut |s| {
            assert!(s.link.up, "a route needs a link that is up");
            s.routes.push(route.clone());
        }),
        LinkOp::Announce { name } | LinkOp::Settle { name } => {
            at(Side::Pod, name, &mut |s| assert!(s.link.up, "{op:?}"));
        }
        other => panic!("{other:?} is not in a plan of ADD"),
    }
}

#[test]
fn makes_what_is_asked_for() {
    let conf =
        conf(&json!({ "isDefaultGateway": true, "ipMasq": true, "hairpinMode": true, "mtu": 1400 })).unwrap();
    let args = args(&conf);
    let ops = plan(&conf, &args, &Links::default()).unwrap();
    let mut links = Links::default();
    ops.iter().for_each(|op| apply(&mut links, op));
    let (bridge, pod) = (links.get(Side::Host, "br0").unwrap(), links.get(Side::Pod, "eth0").unwrap());
    let text = |nets: &[ipnet::IpNet]| nets.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
    assert_eq!(text(&bridge.addresses), "10.1.0.1/24 fd00:1::1/64");
    assert_eq!(text(&pod.addresses), "10.1.0.5/24 fd00:1::5/64");
    let gateways: Vec<String> = pod.routes.iter().map(|r| r.gateway.unwrap().to_string()).collect();
    assert_eq!(gateways, ["10.1.0.1", "fd00:1::1"]);
    assert_eq!((bridge.link.mtu, text(&links.masquerade).as_str()), (1400, "10.1.0.5/24 fd00:1::5/64"));
    assert!(links.get(Side::Host, "veth1").unwrap().link.port.unwrap().hairpin);
    assert_eq!(links.sysctls[&(Side::Host, "ipv4/ip_forward".into())], "1");
    // what an ADD that fails takes away again
    let undone: Vec<LinkOp> = ops.iter().filter_map(LinkOp::undo).collect();
    assert_eq!(undone.len(), 2, "{undone:?}");
}

#[test]
fn addresses_in_the_way() {
    let seen = |addresses: &[&str]| {
        let link = Link { name: "br0".into(), kind: "bridge".into(), up: true, ..Link::default() };
        let addresses = addresses.iter().map(|a| a.parse().unwrap()).collect();
        let seen = Seen { link, addresses, ..Seen::default() };
        Links { seen: [((Side::Host, "br0".to_owned()), seen)].into(), ..Links::default() }
    };
    let cases = [
        (&["10.1.0.1/24"][..], Ok(0)),
        (&["10.9.0.1/24"], Err("10.9.0.1/24 already")),
        (&["fd00:9::1/64", "fe80::1/64"], Ok(0)),
        (&["fd00:1::9/64"], Err("fd00:1::9/64 already")),
    ];
    for (addresses, expected) in cases {
        for force in [false, true] {
            let conf = conf(&json!({ "isGateway": true, "forceAddress": force })).unwrap();
            let result = plan(&conf, &args(&conf), &seen(addresses));
            let deleted =
                |ops: &[LinkOp]| ops.iter().filter(|o| matches!(o, LinkOp::DeleteAddress { .. })).count();
            match (result, expected) {
                (Ok(ops), Ok(n)) => assert_eq!(deleted(&ops), n, "{addresses:?}"),
                (Ok(ops), Err(_)) => assert!(force && deleted(&ops) == 1, "{addresses:?}"),
                (Err(error), Err(text)) => assert!(!force && error.to_string().contains(text), "{error}"),
                (Err(error), Ok(_)) => panic!("{addresses:?}: {error}"),
            }
        }
    }
}

#[test]
fn refuses_by_name() {
    let cases = [
        (json!({ "vlan": 5 }), 2, "vlan"),
        (json!({ "vlanTrunk": [{ "id": 3 }] }), 2, "vlanTrunk"),
        (json!({ "macspoofchk": true }), 2, "macspoofchk"),
        (json!({ "hairpinMode": true, "promiscMode": true }), 7, "hairpinMode"),
        (json!({ "bridge": "a-name-too-long-for-a-link" }), 7, "bridge"),
        (json!({ "mtu": "big" }), 6, "mtu"),
    ];
    for (value, code, field) in cases {
        let error = conf(&value).unwrap_err();
        assert!(error.code() == code && error.to_string().contains(field), "{value}: {error}");
    }
    assert!(conf(&json!({ "preserveDefaultVlan": false, "unknownField": 1 })).is_ok());
}

#[test]
fn somebody_elses_links_are_left_alone() {
    let conf = conf(&json!({})).unwrap();
    let with = |side, name: &str, kind: &str| {
        let link = Link { name: name.into(), kind: kind.into(), ..Link::default() };
        Links {
            seen: [((side, name.to_owned()), Seen { link, ..Seen::default() })].into(),
            ..Links::default()
        }
    };
    for (links, text) in [
        (with(Side::Host, "br0", "dummy"), "is no bridge but dummy"),
        (with(Side::Pod, "eth0", "macvlan"), "not ours"),
        (with(Side::Host, "veth1", "veth"), "without its peer"),
    ] {
        let error = plan(&conf, &args(&conf), &links).unwrap_err();
        assert!(error.to_string().contains(text), "{error}");
    }
}

#[test]
fn hardware_addresses_by_rank() {
    let mac = |value: Value| {
        let request = request(&value);
        Conf::read(&request).unwrap().mac(&request)
    };
    let base = |extra: Value| {
        let mut conf =
            json!({ "cniVersion": "1.1.0", "name": "net", "type": "bridge", "mac": "02:00:00:00:00:09" });
        conf.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        conf
    };
    assert_eq!(mac(base(json!({}))).unwrap(), Some([2, 0, 0, 0, 0, 1]));
    assert_eq!(
        mac(base(json!({ "args": { "cni": { "mac": "02-00-00-00-00-02" } } }))).unwrap().unwrap()[5],
        2
    );
    assert_eq!(mac(base(json!({ "runtimeConfig": { "mac": "02:00:00:00:00:03" } }))).unwrap().unwrap()[5], 3);
    assert!(
        mac(base(json!({ "runtimeConfig": { "mac": "0200" } }))).unwrap_err().to_string().contains("0200")
    );
}

proptest! {
    /// Whatever is asked for: planning again after applying yields nothing.
    #[test]
    fn applied_is_done(flags in prop::collection::vec(any::<bool>(), 8), mtu in prop::sample::select(vec![0u32, 1400])) {
        let keys =
            ["isGateway", "isDefaultGateway", "ipMasq", "hairpinMode", "portIsolation", "enabledad", "forceAddress"];
        let mut value = json!({ "mtu": mtu });
        for (key, on) in keys.iter().zip(&flags) {
            value[*key] = json!(on);
        }
        value["promiscMode"] = json!(flags[7] && !flags[3]);
        let conf = conf(&value).unwrap();
        let args = args(&conf);
        let mut links = Links::default();
        for op in plan(&conf, &args, &links.clone()).unwrap() {
            apply(&mut links, &op);
        }
        prop_assert_eq!(plan(&conf, &args, &links).unwrap(), vec![]);
    }
}
