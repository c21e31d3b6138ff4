//! Tables and laws, over a kernel that is a map.

use proptest::prelude::*;

use super::*;

/// What the kernel makes of a change.
fn apply(links: &mut Links, op: &RouteOp) {
    match op.clone() {
        RouteOp::CreateTunnel { name, tunnel, mac, mtu } => {
            assert!(!links.devices.contains_key(&name), "{name} is there");
            links.devices.insert(name, Device { tunnel: Some(tunnel), mac, mtu, ..Device::default() });
        }
        RouteOp::DeleteLink(name) => {
            assert!(links.devices.contains_key(&name), "{name} is not there");
            links.remove(&name);
        }
        RouteOp::SetMac(name, mac) => links.devices.get_mut(&name).unwrap().mac = mac,
        RouteOp::SetMtu(name, mtu) => links.devices.get_mut(&name).unwrap().mtu = mtu,
        RouteOp::SetUp(name) => links.devices.get_mut(&name).unwrap().up = true,
        RouteOp::AddAddress(name, net) => {
            assert!(links.devices.get_mut(&name).unwrap().addresses.insert(net));
        }
        RouteOp::DeleteAddress(name, net) => {
            let addresses = &mut links.devices.get_mut(&name).unwrap().addresses;
            assert!(addresses.remove(&net) && !addresses.is_empty(), "its routes would go with the last one");
        }
        RouteOp::SetForwarding(name, mac, ip) => drop(links.forwardings.insert((name, mac), ip)),
        RouteOp::DeleteForwarding(name, mac, _) => drop(links.forwardings.remove(&(name, mac)).unwrap()),
        RouteOp::SetNeighbour(name, ip, mac) => drop(links.neighbours.insert((name, ip), mac)),
        RouteOp::DeleteNeighbour(name, ip) => drop(links.neighbours.remove(&(name, ip)).unwrap()),
        RouteOp::SetRoute(dst, hop) => {
            let device = &links.devices[&hop.device];
            let on_link = hop.via.is_none_or(|via| device.addresses.iter().any(|net| net.contains(&via)));
            assert!(device.up && (hop.onlink || on_link), "unreachable next hop {hop:?}");
            if hop.onlink {
                let mac = links.neighbours[&(hop.device.clone(), hop.via.unwrap())];
                assert!(links.forwardings.contains_key(&(hop.device.clone(), mac)), "half a way");
            }
            links.routes.insert(dst, hop);
        }
        RouteOp::DeleteRoute(dst, _) => drop(links.routes.remove(&dst).unwrap()),
    }
}

fn settle(nodes: &Nodes, links: &mut Links) -> Vec<RouteOp> {
    let ops = plan(nodes, links);
    ops.iter().for_each(|op| apply(links, op));
    ops
}

/// Node `n` of a cluster of both families.
fn peers(n: u8) -> [Peer; 2] {
    let mac = |last| [2, 0, 0, 0, n, last];
    [
        Peer {
            node: format!("node-{n}"),
            subnet: format!("10.244.{n}.0/24").parse().unwrap(),
            ip: [192, 168, 7, n].into(),
            vtep: Some(Vtep { vni: 1, mac: mac(4) }),
        },
        Peer {
            node: format!("node-{n}"),
            subnet: format!("fd00:244:0:{n:x}::/64").parse().unwrap(),
            ip: format!("2001:db8:7::{n:x}").parse().unwrap(),
            vtep: Some(Vtep { vni: 1, mac: mac(6) }),
        },
    ]
}

const VXLAN: Backend = Backend::Vxlan { vni: 1, port: 8472, direct_routing: false };
const DIRECT: Backend = Backend::Vxlan { vni: 1, port: 8472, direct_routing: true };

/// Node 1 among others.
fn nodes(backend: Backend, others: &[u8]) -> Nodes {
    let [four, six] = peers(1);
    Nodes {
        backend,
        device: "cleat".into(),
        mtu: None,
        services: Vec::new(),
        subnets: vec![four.subnet, six.subnet],
        ips: vec![four.ip, six.ip],
        said: [None, None],
        made: [[2, 0, 0, 0, 1, 4], [2, 0, 0, 0, 1, 6]],
        peers: others.iter().flat_map(|n| peers(*n)).collect(),
    }
}

/// A machine with one link, and a bridge of pods.
fn links() -> Links {
    let device = |addresses: &[&str], mtu| Device {
        mtu,
        up: true,
        addresses: addresses.iter().map(|net| net.parse().unwrap()).collect(),
        ..Device::default()
    };
    let mut links = Links { defaults: [true, false], ..Links::default() };
    links.devices.insert("eth0".into(), device(&["192.168.7.1/24", "2001:db8:7::1/64"], 1500));
    links.devices.insert("cleat0".into(), device(&["10.244.1.1/24", "fd00:244:0:1::1/64"], 1430));
    links
}

#[test]
fn flannels_third_scheme() {
    let (nodes, mut links) = (nodes(VXLAN, &[2]), links());
    let ops = settle(&nodes, &mut links);
    assert_eq!(ops.len(), 12, "{ops:?}");
    let device = &links.devices["cleat.1"];
    assert_eq!((device.mtu, links.devices["cleat-v6.1"].mtu), (1450, 1430));
    assert_eq!(mtu(&nodes, &links), Some(1430));
    assert_eq!(device.addresses.iter().map(ToString::to_string).collect::<Vec<_>>(), ["10.244.1.0/32"]);
    let hop = &links.routes[&"10.244.2.0/24".parse().unwrap()];
    assert_eq!(
        (hop.device.as_str(), hop.via.unwrap().to_string(), hop.onlink),
        ("cleat.1", "10.244.2.0".into(), true)
    );
    let mac = links.neighbours[&("cleat.1".to_owned(), hop.via.unwrap())];
    assert_eq!(mac, [2, 0, 0, 0, 2, 4]);
    assert_eq!(links.forwardings[&("cleat.1".to_owned(), mac)].to_string(), "192.168.7.2");
    let ends = ends(&nodes, &links);
    assert_eq!(ends.iter().map(|e| e.vtep.unwrap().mac).collect::<Vec<_>>(), nodes.made);
}

#[test]
fn nodes_on_the_link_are_routed_to_directly() {
    for (backend, devices) in [(DIRECT, 4), (Backend::HostGw, 2)] {
        let (mut nodes, mut links) = (nodes(backend, &[2]), links());
        nodes.peers.push(Peer { ip: [203, 0, 113, 9].into(), ..peers(9)[0].clone() });
        settle(&nodes, &mut links);
        assert_eq!(links.devices.len(), devices);
        let hop = &links.routes[&"10.244.2.0/24".parse().unwrap()];
        assert_eq!(
            (hop.device.as_str(), hop.via.unwrap().to_string(), hop.onlink),
            ("eth0", "192.168.7.2".into(), false)
        );
        let far = links.routes.get(&"10.244.9.0/24".parse().unwrap());
        assert_eq!(far.map(|hop| hop.device.as_str()), (backend == DIRECT).then_some("cleat.1"));
    }
    let mut nodes = nodes(Backend::HostGw, &[]);
    nodes.peers.push(Peer { ip: [203, 0, 113, 9].into(), vtep: None, ..peers(9)[0].clone() });
    let why = unreachable(&nodes, &links());
    assert!(
        why[0].to_string().starts_with("node node-9: its address 203.0.113.9 is not on the link of ours")
    );
}

#[test]
fn what_changes_is_changed_and_no_more() {
    let (before, mut seen) = (nodes(VXLAN, &[2, 3]), links());
    settle(&before, &mut seen);
    let one = |change: &dyn Fn(&mut Nodes, &mut Links), expected: &[&str]| {
        let (mut nodes, mut links) = (before.clone(), seen.clone());
        change(&mut nodes, &mut links);
        let ops = plan(&nodes, &links);
        let names: Vec<String> =
            ops.iter().map(|op| format!("{op:?}").split(['(', ' ']).next().unwrap().to_owned()).collect();
        assert_eq!(names, expected, "{ops:?}");
    };
    one(&|nodes, _| nodes.peers[0].ip = [192, 168, 7, 77].into(), &["SetForwarding"]);
    one(
        &|nodes, _| nodes.peers[0].vtep = Some(Vtep { vni: 1, mac: [2; 6] }),
        &["SetForwarding", "SetNeighbour", "DeleteForwarding"],
    );
    one(&|nodes, _| drop(nodes.peers.remove(0)), &["DeleteRoute", "DeleteNeighbour", "DeleteForwarding"]);
    one(&|_, links| links.devices.get_mut("cleat.1").unwrap().up = false, &["SetUp"]);
    one(&|_, links| links.devices.get_mut("cleat.1").unwrap().mtu = 1400, &["SetMtu"]);
    one(&|_, links| links.devices.get_mut("eth0").unwrap().mtu = 9000, &["SetMtu", "SetMtu"]);
    one(&|_, links| drop(links.routes.pop_first()), &["SetRoute"]);
    // what the device has stays while the Node says nothing, as after it was deleted and came back
    one(&|nodes, _| nodes.made = [[6; 6]; 2], &[]);
    one(&|nodes, _| nodes.said[0] = Some([6; 6]), &["SetMac"]);
    // an address that is away for a moment takes nothing with it
    one(&|_, links| links.devices.get_mut("eth0").unwrap().addresses.clear(), &[]);
    one(&|_, links| drop(links.devices.remove("eth0")), &[]);
    one(
        &|_, links| {
            links.devices.get_mut("cleat.1").unwrap().tunnel.as_mut().unwrap().learning = true;
        },
        &[
            "DeleteLink",
            "CreateTunnel",
            "SetUp",
            "AddAddress",
            "SetForwarding",
            "SetForwarding",
            "SetNeighbour",
            "SetNeighbour",
            "SetRoute",
            "SetRoute",
        ],
    );
    one(&|nodes, _| nodes.subnets[0] = "10.244.99.0/24".parse().unwrap(), &["AddAddress", "DeleteAddress"]);
}

#[test]
fn services_without_a_default_route() {
    let (mut nodes, mut links) = (nodes(VXLAN, &[2]), links());
    nodes.services = ["10.96.0.0/16", "fd00:96::/112"].map(|net| net.parse().unwrap()).into();
    settle(&nodes, &mut links);
    assert_eq!(links.routes.get(&nodes.services[0]), None);
    let hop = Hop { device: "eth0".into(), via: None, onlink: false };
    assert_eq!(links.routes[&nodes.services[1]], hop);
    links.defaults = [true, true];
    assert_eq!(plan(&nodes, &links), [RouteOp::DeleteRoute(nodes.services[1], hop)]);
}

#[test]
fn somebody_elses_link_of_our_name_is_not_removed() {
    let (nodes, mut links) = (nodes(VXLAN, &[2]), links());
    links.devices.insert("cleat.1".into(), Device::default());
    let ops = plan(&nodes, &links);
    assert!(matches!(&ops[0], RouteOp::CreateTunnel { name, .. } if name == "cleat.1"), "{ops:?}");
    assert!(!ops.iter().any(|op| matches!(op, RouteOp::DeleteLink(_))), "{ops:?}");
}

fn backend() -> impl Strategy<Value = Backend> {
    prop_oneof![
        (1..3u32, any::<bool>()).prop_map(|(vni, direct_routing)| Backend::Vxlan {
            vni,
            port: 8472,
            direct_routing
        }),
        Just(Backend::HostGw),
    ]
}

prop_compose! {
    fn cluster()(
        backend in backend(),
        others in prop::collection::btree_set(2..12u8, 0..6),
        far in any::<[bool; 12]>(),
        bare in any::<[bool; 12]>(),
        families in 1..4u8,
        mtu in prop::option::of(1000..1400u32),
        services in any::<bool>(),
    ) -> Nodes {
        let mut nodes = nodes(backend, &others.into_iter().collect::<Vec<_>>());
        nodes.mtu = mtu;
        if services {
            nodes.services = ["10.96.0.0/16", "fd00:96::/112"].map(|net| net.parse().unwrap()).into();
        }
        let keep = |v4: bool| families & if v4 { 1 } else { 2 } != 0;
        nodes.subnets.retain(|net| keep(net.addr().is_ipv4()));
        for (at, peer) in nodes.peers.iter_mut().enumerate() {
            if far[at % 12] && peer.ip.is_ipv4() {
                peer.ip = [203, 0, 113, u8::try_from(at).unwrap()].into();
            }
            if bare[at % 12] || backend == Backend::HostGw {
                peer.vtep = None;
            }
        }
        nodes
    }
}

proptest! {
    /// Planning again after applying yields nothing, whatever was there; each change can be made in its turn.
    #[test]
    fn applied_once_is_applied(first in cluster(), second in cluster(), damage in any::<u16>()) {
        let mut links = links();
        settle(&first, &mut links);
        prop_assert_eq!(plan(&first, &links), []);
        // somebody takes things away in between
        let nth = |length: usize| usize::from(damage).checked_rem(length);
        if damage & 1 != 0 && let Some(at) = nth(links.routes.len()) {
            let dst = *links.routes.keys().nth(at).unwrap();
            links.routes.remove(&dst);
        }
        if damage & 2 != 0 && let Some(at) = nth(links.forwardings.len()) {
            let key = links.forwardings.keys().nth(at).unwrap().clone();
            links.forwardings.remove(&key);
        }
        if damage & 4 != 0 {
            links.remove("cleat.1");
        }
        settle(&second, &mut links);
        prop_assert_eq!(plan(&second, &links), []);
        // and it is what a fresh machine would have got, but for a hardware address that stays
        let mut fresh = self::links();
        settle(&second, &mut fresh);
        prop_assert_eq!(links.routes, fresh.routes);
        prop_assert_eq!(links.forwardings, fresh.forwardings);
        prop_assert_eq!(links.neighbours, fresh.neighbours);
    }
}
