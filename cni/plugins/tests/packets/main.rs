//! The whole chain with real packets: runtime side, plugins, kernel, in namespaces of their own.

#![allow(clippy::unwrap_used)]

mod interop;
mod lab;
mod old_kernel;

use std::net::UdpSocket;
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use cni_invoke::GcAttachment;
use lab::{Echo, HOST, Lab, OUTSIDE, Pod, chain, ips, to};
use netlink::route::Route;

#[test]
fn pods_reach_each_other_and_the_outside() {
    let lab = Lab::new();
    let (a, b) = (Pod::new("a"), Pod::new("b"));
    let (ra, rb) = (lab.add(&a), lab.add(&b));
    assert_eq!(ips(&ra).map(|ip| ip.to_string()), ["10.88.0.2", "fd00:88::2"]);
    let (in_b, outside) = (Echo::new(&b.netns, 80), Echo::new(&lab.outside, 80));
    for family in 0..2 {
        let (ip_a, ip_b) = (ips(&ra)[family], ips(&rb)[family]);
        let seen = in_b.tcp(&a.netns, to(&ip_b.to_string(), 80)).unwrap();
        assert_eq!(seen, ip_a, "pod to pod keeps the source");
        let seen = in_b.tcp(&lab.host, to(&ip_b.to_string(), 80)).unwrap();
        let gateway = ["10.88.0.1", "fd00:88::1"][family];
        assert_eq!(seen.to_string(), gateway, "the host reaches the pod");
        let seen = outside.tcp(&a.netns, to(OUTSIDE[family], 80)).unwrap();
        assert_eq!(seen.to_string(), HOST[family], "to the outside is masqueraded");
        let seen = outside.udp(&a.netns, to(OUTSIDE[family], 80)).unwrap();
        assert_eq!(seen.to_string(), HOST[family]);
    }
    lab.del(&a);
    lab.del(&b);
}

#[test]
fn host_ports_from_everywhere() {
    let lab = Lab::new();
    let pod = Pod::new("server").with_port(8080, 80, "tcp", "").with_port(8053, 80, "udp", "");
    let pod = pod.with_port(9090, 80, "tcp", HOST[0]);
    let client = Pod::new("client");
    let result = lab.add(&pod);
    let client_ips = ips(&lab.add(&client));
    let echo = Echo::new(&pod.netns, 80);
    for family in 0..2 {
        let gateway = ["10.88.0.1", "fd00:88::1"][family];
        let seen = echo.tcp(&lab.outside, to(HOST[family], 8080)).unwrap();
        assert_eq!(seen.to_string(), OUTSIDE[family], "from outside the source is kept");
        assert_eq!(echo.udp(&lab.outside, to(HOST[family], 8053)).unwrap().to_string(), OUTSIDE[family]);
        let seen = echo.tcp(&lab.host, to(HOST[family], 8080)).unwrap();
        assert!([gateway, HOST[family]].contains(&seen.to_string().as_str()), "from the host itself: {seen}");
        let seen = echo.tcp(&client.netns, to(gateway, 8080)).unwrap();
        assert_ne!(seen, client_ips[family], "from a neighbour, masqueraded");
        let seen = echo.tcp(&pod.netns, to(gateway, 8080)).unwrap();
        assert_ne!(seen, ips(&result)[family], "from itself (hairpin), masqueraded");
    }
    echo.tcp(&lab.host, to("127.0.0.1", 8080)).unwrap();
    echo.udp(&lab.host, to("127.0.0.1", 8053)).unwrap();
    echo.tcp(&lab.outside, to(HOST[0], 9090)).unwrap();
    assert!(echo.tcp(&lab.host, to("127.0.0.1", 9090)).is_err(), "hostIP is one address only");
    assert!(lab.ruleset().contains("pods/server/eth0"));

    lab.on_host(|| lab.networks().check(&pod.attachment())).unwrap();
    lab.del(&pod);
    assert!(echo.tcp(&lab.outside, to(HOST[0], 8080)).is_err());
    assert!(!lab.ruleset().contains("pods/server"), "{}", lab.ruleset());
    lab.del(&client);
}

#[test]
fn nothing_is_left() {
    let lab = Lab::new();
    let before = lab.links();
    let pods: Vec<Pod> =
        (0..3).map(|n| Pod::new(&format!("pod{n}")).with_port(8000 + n, 80, "tcp", "")).collect();
    for pod in &pods {
        lab.add(pod);
    }
    assert_eq!((lab.leases().len(), lab.links().len()), (6, before.len() + 4));
    lab.del(&pods[0]);
    lab.del(&pods[0]);
    // DEL of one whose namespace's path is gone
    let mut attachment = pods[1].attachment();
    attachment.netns = "/proc/1/fd/99999".into();
    lab.on_host(|| lab.networks().del(&attachment)).unwrap();
    // GC of the last
    assert_eq!((lab.leases().len(), lab.links().len()), (2, before.len() + 2));
    let valid = |id: &str| GcAttachment { container_id: id.into(), ifname: "eth0".into() };
    lab.on_host(|| lab.networks().gc(&[valid("pod2")])).unwrap();
    assert_eq!(lab.leases().len(), 2);
    lab.on_host(|| lab.networks().gc(&[valid("other")])).unwrap();
    assert_eq!((lab.leases().len(), lab.ruleset().as_str()), (0, ""));
    assert_eq!(lab.links().len(), before.len() + 1, "only the bridge stays: {:?}", lab.links());
    assert_eq!(std::fs::read_dir(lab.path("cache/results")).unwrap().count(), 0);
}

/// A host port never leads to an address that another pod can be given.
#[test]
fn a_portmap_that_cannot_undo_keeps_the_address() {
    let lab = Lab::new();
    let (broken, portmap) = (lab.path("broken"), lab.path("bin/portmap"));
    cni_invoke::install(&lab.path("real"), Path::new(env!("CARGO_BIN_EXE_cleat-cni"))).unwrap();
    let script = format!(
        "#!/bin/sh\nif [ \"$CNI_COMMAND\" = DEL ] && [ -e {} ]; then exit 1; fi\nexec {}\n",
        broken.display(),
        lab.path("real/portmap").display()
    );
    std::fs::remove_file(&portmap).unwrap();
    std::fs::write(&portmap, script).unwrap();
    std::fs::set_permissions(&portmap, std::fs::Permissions::from_mode(0o755)).unwrap();
    let pod = Pod::new("server").with_port(8080, 80, "tcp", "");
    let taken = ips(&lab.add(&pod));
    std::fs::write(&broken, "").unwrap();
    for _ in 0..2 {
        let error = lab.on_host(|| lab.networks().del(&pod.attachment())).unwrap_err();
        assert!(chain(&error).contains("portmap"), "{}", chain(&error));
        lab.on_host(|| lab.networks().gc(&[])).unwrap_err();
        assert!(taken.iter().all(|ip| lab.leases().contains(ip)), "{:?}", lab.leases());
    }
    // portmap's own GC leaves it too, as nobody has said yet that the attachment is gone
    assert!(lab.ruleset().contains("pods/server/eth0"), "{}", lab.ruleset());
    let next = Pod::new("next");
    assert!(ips(&lab.add(&next)).iter().all(|ip| !taken.contains(ip)));
    std::fs::remove_file(&broken).unwrap();
    lab.del(&pod);
    assert!(!lab.ruleset().contains("pods/server"), "{}", lab.ruleset());
    lab.del(&next);
    assert_eq!((lab.leases().len(), lab.ruleset().as_str()), (0, ""));
    assert_eq!(std::fs::read_dir(lab.path("cache/results")).unwrap().count(), 0);
}

#[test]
fn a_namespace_that_is_another_pods_by_now_is_left_alone() {
    let lab = Lab::new();
    let (gone, other) = (Pod::new("gone"), Pod::new("other"));
    lab.add(&gone);
    lab.add(&other);
    // the number of the process that CNI_NETNS names has gone to another pod, or to the host's first process
    for netns in [other.attachment().netns, "/proc/self/ns/net".into()] {
        let mut attachment = gone.attachment();
        attachment.netns = netns;
        lab.on_host(|| lab.networks().del(&attachment)).unwrap();
        assert!(Route::open_in(&other.netns).unwrap().link("eth0").unwrap().is_some());
    }
    lab.on_host(|| lab.networks().check(&other.attachment())).unwrap();
    let mut pod = Pod::new("host").attachment();
    pod.netns = format!("/proc/{}/fd/{}", std::process::id(), lab.host.as_raw_fd()).into();
    let error = lab.on_host(|| lab.networks().add(&pod)).unwrap_err();
    assert!(chain(&error).contains("or is the host's"), "{}", chain(&error));
}

#[test]
fn gc_finds_what_the_cache_does_not_know() {
    let lab = Lab::new();
    let pod = Pod::new("lost").with_port(8000, 80, "tcp", "");
    lab.add(&pod);
    std::fs::remove_dir_all(lab.path("cache")).unwrap();
    lab.on_host(|| lab.networks().gc(&[])).unwrap();
    assert_eq!((lab.leases().len(), lab.ruleset().as_str()), (0, ""));
}

/// A client that goes on sending from one port reaches the pod that has the host port now, not the one that had it.
#[test]
fn udp_follows_the_host_port() {
    let lab = Lab::new();
    let client = netlink::netns::enter(&lab.outside, || UdpSocket::bind("0.0.0.0:0").unwrap()).unwrap();
    let bound = |netns: &_, port: u16| {
        let socket = netlink::netns::enter(netns, || UdpSocket::bind(("0.0.0.0", port)).unwrap()).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        socket
    };
    let hears = |socket: UdpSocket, words: &str| {
        let mut buffer = [0; 16];
        let length = socket.recv(&mut buffer).unwrap_or_else(|e| panic!("{words} is not heard: {e}"));
        assert_eq!(&buffer[..length], words.as_bytes());
    };
    for name in ["old", "new"] {
        let pod = Pod::new(name).with_port(5353, 53, "udp", "");
        // without a pod the packets go to the host itself, and that is remembered too
        let host = bound(&lab.host, 5353);
        client.send_to(b"nobody", to(HOST[0], 5353)).unwrap();
        hears(host, "nobody");
        lab.add(&pod);
        let server = bound(&pod.netns, 53);
        client.send_to(name.as_bytes(), to(HOST[0], 5353)).unwrap();
        hears(server, name);
        lab.del(&pod);
    }
}

/// Fields of the configuration and capabilities that the default list has not.
#[test]
fn what_is_asked_for_is_given() {
    let lab = Lab::new();
    let ranges = serde_json::json!([[{ "subnet": "10.88.0.0/16" }], [{ "subnet": "fd00:88::/64" }]]);
    let ipam = serde_json::json!({ "type": "host-local", "dataDir": lab.path("leases"), "ranges": ranges });
    let bridge = serde_json::json!({
        "type": "bridge", "bridge": "isolated0", "isDefaultGateway": true, "mtu": 1400, "portIsolation": true,
        "enabledad": true, "capabilities": { "mac": true, "ips": true }, "ipam": ipam,
    });
    let list = serde_json::json!({ "cniVersion": "1.1.0", "name": "pods", "plugins": [bridge] });
    lab.configure(&list.to_string());
    let (a, b) = (Pod::new("a"), Pod::new("b"));
    let mut wish = a.attachment();
    wish.capabilities.mac = "02:00:00:00:00:aa".into();
    wish.capabilities.ips = vec!["10.88.7.7/16".into(), "fd00:88::7".into()];
    let result = lab.on_host(|| lab.networks().add(&wish)).unwrap_or_else(|e| panic!("{}", chain(&e)));
    assert_eq!(ips(&result).map(|ip| ip.to_string()), ["10.88.7.7", "fd00:88::7"]);
    let eth0 = result.interfaces.iter().find(|i| i.name == "eth0").unwrap();
    assert_eq!((eth0.mac.as_str(), eth0.mtu), ("02:00:00:00:00:aa", Some(1400)));
    let mut inside = Route::open_in(&a.netns).unwrap();
    let index = inside.link("eth0").unwrap().unwrap().index;
    let ours = |a: &&netlink::route::Address| a.net.to_string() == "fd00:88::7/64";
    assert!(!inside.addresses(Some(index)).unwrap().iter().find(ours).unwrap().tentative);
    let defaults = inside.routes().unwrap().into_iter().filter(|r| r.dst.prefix_len() == 0);
    assert_eq!(defaults.filter(|r| r.gateway.is_some()).count(), 2);

    let in_b = Echo::new(&b.netns, 80);
    let to_b = ips(&lab.add(&b))[0].to_string();
    in_b.tcp(&lab.host, to(&to_b, 80)).unwrap();
    assert!(in_b.tcp(&a.netns, to(&to_b, 80)).is_err(), "isolated ports do not see each other");
    lab.on_host(|| lab.networks().check(&wish)).unwrap_or_else(|e| panic!("{}", chain(&e)));
    lab.del(&a);
    lab.del(&b);
}

#[test]
fn add_twice_is_add_once() {
    let lab = Lab::new();
    let pod = Pod::new("pod").with_port(8000, 80, "tcp", "");
    let (first, ruleset) = (lab.add(&pod), lab.ruleset());
    assert_eq!(lab.add(&pod), first);
    assert_eq!(lab.ruleset(), ruleset);
}

#[test]
fn a_taken_port_undoes_the_rest() {
    let lab = Lab::new();
    let pod = Pod::new("first").with_port(8000, 80, "tcp", "");
    lab.add(&pod);
    let (links, ruleset, leases) = (lab.links(), lab.ruleset(), lab.leases());
    let late = Pod::new("late").with_port(8000, 80, "tcp", "");
    let error = lab.try_add(&late).unwrap_err();
    assert!(chain(&error).contains("host port of pods/late/eth0 is taken"), "{}", chain(&error));
    assert_eq!((lab.links(), lab.ruleset(), lab.leases()), (links, ruleset, leases));
    assert!(Route::open_in(&late.netns).unwrap().link("eth0").unwrap().is_none());
}

#[test]
fn check_sees_damage() {
    type Damage = fn(&Lab, &Pod);
    let cases: [(&str, Damage); 5] = [
        ("address", |_, pod| {
            let mut route = Route::open_in(&pod.netns).unwrap();
            let eth0 = route.link("eth0").unwrap().unwrap().index;
            let net = route.addresses(Some(eth0)).unwrap()[0].net;
            route.delete_address(eth0, net).unwrap();
        }),
        ("port", |lab, pod| {
            let mut route = Route::open_in(&lab.host).unwrap();
            let peer = Route::open_in(&pod.netns).unwrap().link("eth0").unwrap().unwrap().peer.unwrap();
            route.set_controller(peer, None).unwrap();
        }),
        ("link", |_, pod| {
            let mut route = Route::open_in(&pod.netns).unwrap();
            let eth0 = route.link("eth0").unwrap().unwrap().index;
            route.delete_link(eth0).unwrap();
        }),
        ("tables", |lab, _| {
            lab.on_host(|| std::process::Command::new("nft").args(["flush", "ruleset"]).status()).unwrap();
        }),
        ("lease", |lab, _| std::fs::remove_file(lab.path("leases/pods/10.88.0.2")).unwrap()),
    ];
    for (name, damage) in cases {
        let lab = Lab::new();
        let pod = Pod::new("pod").with_port(8000, 80, "tcp", "");
        lab.add(&pod);
        let check = || lab.on_host(|| lab.networks().check(&pod.attachment()));
        check().unwrap_or_else(|e| panic!("{name}: {}", chain(&e)));
        damage(&lab, &pod);
        // a pod of two families still has one lease of the other
        assert!(name == "lease" || check().is_err(), "{name}");
    }
}

#[test]
fn fifty_at_once() {
    let lab = Lab::new();
    let pods: Vec<Pod> =
        (0..50).map(|n| Pod::new(&format!("pod{n}")).with_port(8000 + n, 80, "tcp", "")).collect();
    let mut all = std::collections::BTreeSet::new();
    std::thread::scope(|scope| {
        let adding: Vec<_> = pods.iter().map(|pod| scope.spawn(|| ips(&lab.add(pod)))).collect();
        for ips in adding.into_iter().map(|thread| thread.join().unwrap()) {
            assert!(all.insert(ips), "an address was given twice");
        }
        let deleting: Vec<_> = pods.iter().map(|pod| scope.spawn(|| lab.del(pod))).collect();
        deleting.into_iter().for_each(|thread| thread.join().unwrap());
    });
    assert_eq!((lab.leases().len(), lab.ruleset().as_str(), lab.links().len()), (0, "", 3));
}
