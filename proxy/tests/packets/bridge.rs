//! Pods on one bridge, as CNI plugins make them: what goes between two of them by a service passes the node's tables both
//! ways, as `bridge-nf-call-iptables` has it.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::time::Duration;

use netlink::netns;
use netlink::route::{Port, Route, RouteEntry, Veth};
use proxy::Kernel;
use proxy_rules::{Family, LocalTraffic, Node, ServiceMap, compile};
use serde_json::json;

use crate::objects::{service, slice};
use crate::table::{NODE, add};

fn pod(host: &mut Route, bridge: u32, link: &str, ip: &str) -> OwnedFd {
    let netns = netns::create().unwrap();
    host.create_veth(&Veth { name: link, peer: "eth0", mtu: None, peer_mac: None }, &netns).unwrap();
    let here = host.link(link).unwrap().unwrap().index;
    host.set_controller(here, Some(bridge)).unwrap();
    host.set_port(here, Port { hairpin: true, isolated: false }).unwrap();
    host.set_up(here, true).unwrap();
    let mut inside = Route::open_in(&netns).unwrap();
    let there = inside.link("eth0").unwrap().unwrap().index;
    inside.add_address(there, ip.parse().unwrap(), false).unwrap();
    inside.set_up(there, true).unwrap();
    let gateway = Some("10.244.0.1".parse().unwrap());
    inside.add_route(&RouteEntry::new("0.0.0.0/0".parse().unwrap(), gateway, there)).unwrap();
    netns
}

#[test]
fn neighbours_reach_each_other_by_a_service() {
    let host = netns::create().unwrap();
    netns::enter(&host, || {
        for name in ["ipv4/ip_forward", "bridge/bridge-nf-call-iptables"] {
            let path = format!("/proc/sys/net/{name}");
            std::fs::write(&path, "1").unwrap_or_else(|e| panic!("this test needs {path}: {e}"));
        }
    })
    .unwrap();
    let mut route = Route::open_in(&host).unwrap();
    route.create_bridge("pods").unwrap();
    let bridge = route.link("pods").unwrap().unwrap().index;
    route.add_address(bridge, "10.244.0.1/24".parse().unwrap(), false).unwrap();
    route.set_up(bridge, true).unwrap();
    let pods = [("pod-a", "10.244.0.2/24"), ("pod-b", "10.244.0.3/24")];
    let [a, b] = pods.map(|(link, ip)| pod(&mut route, bridge, link, ip));

    let mut map = ServiceMap::default();
    add(&mut map, &service("svc1", "172.30.0.41", &["p80:tcp:80"], json!({})));
    add(&mut map, &slice("svc1", &["p80:tcp:8080"], &["10.244.0.3 here"]));
    let pods = LocalTraffic::Networks(vec!["10.244.0.0/16".parse().unwrap()]);
    let node = Node { name: NODE.into(), local_traffic: pods, ..Node::default() };
    let rules = compile(&map, &node, Family::V4);
    netns::enter(&host, || Kernel::open(Family::V4).unwrap().replace(&rules).unwrap()).unwrap();

    let listener = netns::enter(&b, || TcpListener::bind("0.0.0.0:8080").unwrap()).unwrap();
    let to: SocketAddr = "172.30.0.41:80".parse().unwrap();
    let none: IpAddr = "10.244.0.1".parse().unwrap();
    for (client, source) in [(&a, "10.244.0.2"), (&b, "10.244.0.1")] {
        let mut stream = netns::enter(client, || TcpStream::connect_timeout(&to, Duration::from_secs(5)))
            .unwrap()
            .unwrap();
        let (mut server, seen) = listener.accept().unwrap();
        assert_eq!(seen.ip(), source.parse::<IpAddr>().unwrap_or(none));
        server.write_all(b"x").unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        stream.read_exact(&mut [0]).unwrap();
    }
}
