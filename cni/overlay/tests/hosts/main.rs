//! Several machines with real packets: pods of one reach pods of another.

#![allow(clippy::unwrap_used)]

mod lab;

use lab::{Host, Lab, Server, UdpServer, until};
use netlink::route::{Changed, Monitor};
use overlay::{Backend, Cleanup};

const BACKENDS: [Backend; 3] = [
    Backend::Vxlan { vni: 1, port: 8472, direct_routing: false },
    Backend::Vxlan { vni: 1, port: 8472, direct_routing: true },
    Backend::HostGw,
];

#[test]
fn pods_of_all_nodes_reach_each_other_with_their_own_addresses() {
    for backend in BACKENDS {
        let lab = Lab::new();
        let mut hosts = [1, 2, 3].map(|number| lab.host(number));
        hosts.iter_mut().for_each(|host| host.start(backend));
        hosts.iter().for_each(|host| host.wait_routes(2));
        let pods = [0, 1, 2].map(|at: usize| hosts[at].pod(5));
        for (at, to) in [(0, 1), (1, 2), (2, 0)] {
            let server = Server::new(&pods[to].netns);
            for family in 0..2 {
                // the first packets of IPv6 wait until link-local addresses have settled
                let reach = || server.send(&pods[at].netns, pods[to].ips[family], 10).ok();
                until(&format!("{backend:?}: {at} reaches {to} by {family}"), reach);
                let seen = server.send(&pods[at].netns, pods[to].ips[family], 300_000).unwrap();
                assert_eq!(seen, pods[at].ips[family], "{backend:?}: the source is kept");
                let seen = server.send(&hosts[at].netns, pods[to].ips[family], 10);
                let seen = seen.unwrap_or_else(|e| panic!("{backend:?}, {}: {e}", pods[to].ips[family]));
                assert!(!seen.to_string().is_empty(), "{backend:?}: a node reaches a pod: {seen}");
            }
        }
        let in_host = Server::new(&hosts[1].netns);
        for (family, node) in ["192.168.7.2", "2001:db8:7::2"].into_iter().enumerate() {
            let seen = in_host.send(&pods[0].netns, node.parse().unwrap(), 10).unwrap();
            let first = ["192.168.7.1", "2001:db8:7::1"][family];
            assert_eq!(seen.to_string(), first, "{backend:?}: what leaves the cluster is masqueraded");
        }
        hosts.iter_mut().for_each(Host::stop);
        until("stopping leaves the routes", || (hosts[0].routes().len() == 4).then_some(()));
    }
}

const VXLAN: Backend = BACKENDS[0];

/// Two machines that reach each other.
fn pair(lab: &Lab) -> [Host; 2] {
    let mut hosts = [1, 2].map(|number| lab.host(number));
    hosts.iter_mut().for_each(|host| host.start(VXLAN));
    hosts.iter().for_each(|host| host.wait_routes(1));
    hosts
}

#[test]
fn packets_of_just_the_mtu() {
    let lab = Lab::new();
    let hosts = pair(&lab);
    let pods = [0, 1].map(|at: usize| hosts[at].pod(5));
    assert_eq!(hosts[0].list().unwrap()["plugins"][0]["mtu"], 1430, "IPv6 adds 70 bytes to 1500");
    for (family, headers) in [(0, 28), (1, 48)] {
        let server = UdpServer::new(&pods[1].netns);
        let to = pods[1].ips[family];
        until("a small packet arrives", || server.send(&pods[0].netns, to, 10).ok());
        server.send(&pods[0].netns, to, 1430 - headers).unwrap();
        assert!(server.send(&pods[0].netns, to, 1431 - headers).is_err(), "one byte more is not sent");
    }
}

#[test]
fn what_somebody_takes_away_comes_back() {
    let lab = Lab::new();
    let [one, two] = pair(&lab);
    let (pod, other) = (one.pod(5), two.pod(5));
    let server = Server::new(&other.netns);
    let reach = || until("it is reached", || server.send(&pod.netns, other.ips[0], 10).ok());
    reach();
    let settled = |what: &str| {
        until(what, || {
            let mut route = one.route();
            let device = route.link("cleat.1").unwrap().filter(|link| link.up)?;
            let here = |index| index == device.index;
            let addresses = route.addresses(Some(device.index)).unwrap();
            (route.neighbours().unwrap().iter().any(|n| here(n.index))
                && route.forwardings().unwrap().iter().any(|f| here(f.index))
                && addresses.iter().any(|address| address.net.to_string() == "10.244.1.0/32")
                && one.routes().len() == 2)
                .then_some(())
        });
        reach();
    };
    let index = || one.link("cleat.1").unwrap().index;
    one.route().delete_link(index()).unwrap();
    settled("a device");
    let mut route = one.route();
    let ours = route.routes().unwrap().into_iter().find(|r| r.protocol == Some(141)).unwrap();
    route.delete_route(&ours).unwrap();
    settled("a route");
    let neighbour = route.neighbours().unwrap().into_iter().find(|n| n.index == index()).unwrap();
    route.delete_neighbour(&neighbour).unwrap();
    settled("a neighbour");
    let forwarding = route.forwardings().unwrap().into_iter().find(|f| f.index == index()).unwrap();
    route.delete_forwarding(&forwarding).unwrap();
    settled("a forwarding entry");
    route.set_up(index(), false).unwrap();
    settled("a device that is down");
    route.delete_address(index(), "10.244.1.0/32".parse().unwrap()).unwrap();
    settled("an address");
    route.set_mac(index(), [2, 0, 0, 0, 0, 9]).unwrap();
    settled("a hardware address");
    assert_ne!(one.link("cleat.1").unwrap().mac, [2, 0, 0, 0, 0, 9]);
}

#[test]
fn nodes_leave_come_back_and_change() {
    let lab = Lab::new();
    let [mut one, mut two] = pair(&lab);
    let (pod, other) = (one.pod(5), two.pod(5));
    let server = Server::new(&other.netns);
    until("it is reached", || server.send(&pod.netns, other.ips[0], 10).ok());
    two.stop();
    let left = lab.api.delete(lab::nodes(), "", &two.name()).unwrap();
    one.wait_routes(0);
    let device = one.link("cleat.1").unwrap().index;
    assert!(one.route().forwardings().unwrap().iter().all(|f| f.index != device), "nothing of it is left");
    lab.api.put(lab::nodes(), left);
    one.wait_routes(1);
    // its Node is made anew, without what it said: it says the same again
    let mac = two.link("cleat.1").unwrap().mac;
    lab.api.put(lab::nodes(), two.object());
    one.wait_routes(0);
    two.start(VXLAN);
    one.wait_routes(1);
    assert_eq!(two.link("cleat.1").unwrap().mac, mac);
    until("it is reached again", || server.send(&pod.netns, other.ips[0], 10).ok());
    // another address, as from DHCP
    two.stop();
    let mut route = two.route();
    let eth0 = route.link("eth0").unwrap().unwrap().index;
    route.delete_address(eth0, "192.168.7.2/24".parse().unwrap()).unwrap();
    route.add_address(eth0, "192.168.7.99/24".parse().unwrap(), false).unwrap();
    two.start_with(|config| {
        config.node_ips = ["192.168.7.99", "2001:db8:7::2"].map(|ip| ip.parse().unwrap()).into()
    });
    until("it is reached at its new address", || server.send(&pod.netns, other.ips[0], 10).ok());
    assert_eq!(server.send(&pod.netns, other.ips[0], 100_000).unwrap(), pod.ips[0]);
    one.stop();
}

#[test]
fn a_second_node_with_the_same_range_changes_nothing() {
    let lab = Lab::new();
    let [one, two] = pair(&lab);
    let before = one.routes();
    let mut twin = lab.api.get(lab::nodes(), "", &two.name()).unwrap();
    twin["metadata"]["name"] = "twin".into();
    twin["metadata"]["creationTimestamp"] = "2026-02-01T00:00:00Z".into();
    let annotations = &mut twin["metadata"]["annotations"];
    annotations["flannel.alpha.coreos.com/public-ip"] = "192.168.7.77".into();
    lab.api.put(lab::nodes(), twin);
    // a third that is well tells when the twin has been read
    let mut third = lab.host(3);
    third.start(VXLAN);
    one.wait_routes(2);
    assert!(before.iter().all(|route| one.routes().contains(route)));
    let remotes = one.route().forwardings().unwrap();
    assert!(remotes.iter().all(|f| f.remote.to_string() != "192.168.7.77"), "{remotes:?}");
}

#[test]
fn a_restart_changes_nothing_and_waits_for_the_api_server() {
    let lab = Lab::new();
    let [mut one, two] = pair(&lab);
    let (pod, other) = (one.pod(5), two.pod(5));
    let server = Server::new(&other.netns);
    until("it is reached", || server.send(&pod.netns, other.ips[0], 10).ok());
    until("all is told", || (lab.api.patches() == 2).then_some(()));
    let (list, device) = (one.list(), one.link("cleat.1"));
    let mut monitor = netlink::netns::enter(&one.netns, Monitor::open).unwrap().unwrap();
    one.stop();
    lab.api.set_away(true);
    one.start(VXLAN);
    server.send(&pod.netns, other.ips[0], 100_000).unwrap();
    lab.api.set_away(false);
    // what the third asks for is the first change
    let mut third = lab.host(3);
    third.start(VXLAN);
    one.wait_routes(2);
    server.send(&pod.netns, other.ips[0], 100_000).unwrap();
    let index = device.as_ref().unwrap().index;
    let changes = monitor.changes().unwrap();
    assert!(
        !changes.contains(&Changed::Link(index)) && !changes.contains(&Changed::Address(index)),
        "{changes:?}"
    );
    assert_eq!((one.list(), one.link("cleat.1")), (list, device));
    until("only the third has told", || (lab.api.patches() == 3).then_some(()));
}

#[test]
fn a_network_that_is_said_to_be_unavailable() {
    let lab = Lab::new();
    let mut host = lab.host(1);
    let mut node = host.object();
    let condition = serde_json::json!({ "type": "NetworkUnavailable", "status": "True" });
    node["status"]["conditions"] = serde_json::json!([condition]);
    lab.api.put(lab::nodes(), node);
    host.start(VXLAN);
    until("it is available", || {
        let node = lab.api.get(lab::nodes(), "", "node-1").unwrap();
        (node["status"]["conditions"][0]["status"] == "False").then_some(())
    });
}

#[test]
fn cleanup_takes_all_of_it_away() {
    let lab = Lab::new();
    let [mut one, _two] = pair(&lab);
    let _pod = one.pod(5);
    one.stop();
    let ruleset = one.nft();
    assert!(ruleset.contains("table inet cleat-overlay"), "{ruleset}");
    let what = Cleanup {
        device: "cleat".into(),
        bridge: "cleat0".into(),
        cni_conf_dir: one.dir.join("net.d"),
        run_dir: one.dir.join("run"),
    };
    let cleanup = || netlink::netns::enter(&one.netns, || overlay::cleanup(&what)).unwrap().unwrap();
    cleanup();
    assert!(one.link("cleat.1").is_none() && one.link("cleat-v6.1").is_none() && one.routes().is_empty());
    assert!(one.link("cleat0").is_some(), "a pod is attached");
    assert_eq!((one.nft(), one.list()), (String::new(), None));
    let veth = one.link("veth5").unwrap().index;
    one.route().delete_link(veth).unwrap();
    cleanup();
    assert_eq!(one.route().links().unwrap().len(), 2, "lo and eth0");
    cleanup();
}
