//! Against the kernel, in network namespaces of their own.

use std::os::fd::OwnedFd;

use ipnet::IpNet;

use super::*;

fn namespace() -> (OwnedFd, Route) {
    let netns = netns::create().unwrap();
    let route = Route::open_in(&netns).unwrap();
    (netns, route)
}

#[test]
fn veth_between_namespaces_on_a_bridge() {
    let (_host, mut host) = namespace();
    let (pod, mut inside) = namespace();
    host.create_bridge("br0").unwrap();
    let mac = [2, 0, 0, 0, 0, 9];
    let veth = Veth { name: "veth0", peer: "eth0", mtu: Some(1400), peer_mac: Some(mac) };
    host.create_veth(&veth, &pod).unwrap();
    let bridge = host.link("br0").unwrap().unwrap();
    let veth0 = host.link("veth0").unwrap().unwrap();
    let eth0 = inside.link("eth0").unwrap().unwrap();
    assert_eq!((bridge.kind.as_str(), veth0.kind.as_str()), ("bridge", "veth"));
    assert_eq!((eth0.mac.as_slice(), eth0.mtu, eth0.peer), (&mac[..], 1400, Some(veth0.index)));

    host.set_controller(veth0.index, Some(bridge.index)).unwrap();
    let port = Port { hairpin: true, isolated: true };
    host.set_port(veth0.index, port).unwrap();
    host.set_up(veth0.index, true).unwrap();
    host.set_promiscuous(bridge.index, true).unwrap();
    host.set_mtu(bridge.index, 1300).unwrap();
    host.set_mac(bridge.index, [2, 0, 0, 0, 0, 1]).unwrap();
    let veth0 = host.link_at(veth0.index).unwrap().unwrap();
    assert_eq!((veth0.controller, veth0.port, veth0.up), (Some(bridge.index), Some(port), true));
    let bridge = host.link("br0").unwrap().unwrap();
    assert_eq!((bridge.mtu, bridge.promiscuity, bridge.mac.as_slice()), (1300, 1, &[2, 0, 0, 0, 0, 1][..]));

    inside.rename(eth0.index, "net1").unwrap();
    assert!(inside.link("eth0").unwrap().is_none());
    host.delete_link(veth0.index).unwrap();
    assert!(inside.link("net1").unwrap().is_none());
    assert_eq!(host.links().unwrap().len(), 2);
}

#[test]
fn addresses_routes_and_neighbours() {
    let (_netns, mut route) = namespace();
    route.create_bridge("br0").unwrap();
    let index = route.link("br0").unwrap().unwrap().index;
    route.set_up(index, true).unwrap();
    let (v4, v6): (IpNet, IpNet) = ("10.1.2.1/24".parse().unwrap(), "fd00:1::1/64".parse().unwrap());
    route.add_address(index, v4, true).unwrap();
    route.add_address(index, v6, false).unwrap();
    assert!(route.add_address(index, v4, true).unwrap_err().is_present());
    let nets: Vec<IpNet> = route.addresses(Some(index)).unwrap().iter().map(|a| a.net).collect();
    assert!(nets.contains(&v4) && nets.contains(&v6), "{nets:?}");

    for (dst, gateway) in [("0.0.0.0/0", "10.1.2.254"), ("fd01::/16", "fd00:1::fe")] {
        let mut entry = RouteEntry::new(dst.parse().unwrap(), Some(gateway.parse().unwrap()), index);
        (entry.mtu, entry.priority, entry.table) = (Some(1280), Some(7), Some(1000));
        route.add_route(&entry).unwrap();
        let found = route.routes().unwrap().into_iter().find(|r| r.table == Some(1000)).unwrap();
        assert_eq!((found.dst, found.gateway, found.mtu), (entry.dst, entry.gateway, Some(1280)));
        route.delete_route(&entry).unwrap();
        assert!(route.routes().unwrap().iter().all(|r| r.table != Some(1000)));
    }

    let neighbour = Neighbour { index, ip: "10.1.2.9".parse().unwrap(), mac: vec![2, 0, 0, 0, 0, 9] };
    route.set_neighbour(&neighbour).unwrap();
    assert_eq!(route.neighbours().unwrap(), std::slice::from_ref(&neighbour));
    route.delete_neighbour(&neighbour).unwrap();
    route.delete_address(index, v4).unwrap();
    assert!(route.delete_address(index, v4).unwrap_err().is_absent());
}

#[test]
fn refusals_carry_the_kernels_words() {
    let (netns, mut route) = namespace();
    route.create_bridge("br0").unwrap();
    let bridge = route.link("br0").unwrap().unwrap().index;
    let refused = route.set_controller(bridge, Some(bridge)).unwrap_err();
    let NetlinkError::Refused { source, .. } = &refused else { panic!("{refused}") };
    assert!(source.text.as_ref().is_some_and(|t| !t.is_empty()), "{source:?}");
    let veth = Veth { name: "br0", peer: "eth0", mtu: None, peer_mac: None };
    assert!(route.create_veth(&veth, &netns).unwrap_err().is_present());
    assert!(route.link("nowhere").unwrap().is_none());
    assert!(route.link("a-name-of-more-than-15-bytes").unwrap().is_none());
    assert!(route.delete_link(99).unwrap_err().is_absent());
}

#[test]
fn vxlan_with_route_neighbour_and_forwarding() {
    let (_netns, mut route) = namespace();
    route.create_bridge("under").unwrap();
    let under = route.link("under").unwrap().unwrap().index;
    for (local, name) in [("192.0.2.1", "vx4"), ("2001:db8::1", "vx6")] {
        let local = local.parse().unwrap();
        route.add_address(under, IpNet::new(local, 24).unwrap(), false).unwrap();
        let vxlan = Vxlan { vni: 1, port: 8472, local: Some(local), lower: Some(under), learning: false };
        route.create_vxlan(name, &vxlan, [2, 0, 0, 0, 0, 1], 1380).unwrap();
        let taken = route.create_vxlan("other", &vxlan, [2, 0, 0, 0, 0, 2], 1380).unwrap_err();
        assert!(taken.is_present(), "{taken}");
        let device = route.link(name).unwrap().unwrap();
        assert_eq!((device.kind.as_str(), device.vxlan, device.mtu), ("vxlan", Some(vxlan), 1380));
        assert_eq!(device.mac, [2, 0, 0, 0, 0, 1]);
        route.set_up(device.index, true).unwrap();
    }
    let index = route.link("vx4").unwrap().unwrap().index;
    let mut entry = RouteEntry::new("10.244.2.0/24".parse().unwrap(), Some([10, 244, 2, 0].into()), index);
    (entry.onlink, entry.protocol) = (true, Some(141));
    for priority in [None, None, Some(5)] {
        entry.priority = priority;
        route.set_route(&entry).unwrap();
    }
    let ours = |r: &RouteEntry| r.protocol == Some(141);
    let found: Vec<_> = route.routes().unwrap().into_iter().filter(ours).collect();
    assert_eq!((found.len(), found[0].onlink, found[0].gateway), (2, true, entry.gateway));
    found.iter().for_each(|r| route.delete_route(r).unwrap());
    assert!(!route.routes().unwrap().iter().any(ours));
    for (name, remote) in [("vx4", "192.0.2.9"), ("vx6", "2001:db8::9")] {
        let index = route.link(name).unwrap().unwrap().index;
        let mut entry = Forwarding { index, mac: vec![2, 0, 0, 0, 0, 9], remote: remote.parse().unwrap() };
        route.set_forwarding(&entry).unwrap();
        entry.remote = if name == "vx4" { "192.0.2.8" } else { "2001:db8::8" }.parse().unwrap();
        route.set_forwarding(&entry).unwrap();
        assert_eq!(route.forwardings().unwrap(), std::slice::from_ref(&entry));
        route.delete_forwarding(&entry).unwrap();
        assert_eq!(route.forwardings().unwrap(), []);
    }
}

#[test]
fn the_monitor_hears_others() {
    let netns = netns::create().unwrap();
    let mut monitor = netns::enter(&netns, Monitor::open).unwrap().unwrap();
    assert_eq!(monitor.changes().unwrap(), []);
    let mut route = Route::open_in(&netns).unwrap();
    route.create_bridge("br0").unwrap();
    let index = route.link("br0").unwrap().unwrap().index;
    route.set_up(index, true).unwrap();
    route.add_address(index, "10.1.2.1/24".parse().unwrap(), false).unwrap();
    let mut entry = RouteEntry::new("10.9.0.0/16".parse().unwrap(), Some([10, 1, 2, 2].into()), index);
    entry.protocol = Some(141);
    route.set_route(&entry).unwrap();
    route.set_neighbour(&Neighbour { index, ip: [10, 1, 2, 3].into(), mac: vec![2, 0, 0, 0, 0, 3] }).unwrap();
    let changes = monitor.changes().unwrap();
    let route = Changed::Route { protocol: 141, index: Some(index) };
    for wanted in [Changed::Link(index), Changed::Address(index), route, Changed::Neighbour(index)] {
        assert!(changes.contains(&wanted), "{wanted:?} is not in {changes:?}");
    }
    assert_eq!(monitor.changes().unwrap(), []);
}
