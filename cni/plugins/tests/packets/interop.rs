//! Upstream's plugins (Debian's containernetworking-plugins) and ours, each in the place of the other, and every
//! version of the specification.

use std::path::Path;

use crate::lab::{self, Echo, Lab, Pod, chain, ips, to};
use serde_json::{Value, json};

const UPSTREAM: &str = "/usr/lib/cni";

/// A directory of plugins: ours, but those of `upstream` from Debian.
fn programs(lab: &Lab, upstream: &[&str]) {
    for name in upstream {
        let theirs = Path::new(UPSTREAM).join(name);
        assert!(theirs.is_file(), "this test needs {theirs:?}: apt-get install containernetworking-plugins");
        std::fs::remove_file(lab.path("bin").join(name)).unwrap();
        std::os::unix::fs::symlink(theirs, lab.path("bin").join(name)).unwrap();
    }
}

/// Bridge and host-local only: upstream's masquerade and portmap of that age want iptables.
fn plain(lab: &Lab, version: &str) -> String {
    let ranges = json!([[{ "subnet": "10.88.0.0/16" }], [{ "subnet": "fd00:88::/64" }]]);
    let routes = json!([{ "dst": "0.0.0.0/0" }, { "dst": "::/0" }]);
    let ipam =
        json!({ "type": "host-local", "dataDir": lab.path("leases"), "ranges": ranges, "routes": routes });
    let bridge = json!({ "type": "bridge", "bridge": "cleat0", "isGateway": true, "ipam": ipam });
    json!({ "cniVersion": version, "name": "pods", "plugins": [bridge] }).to_string()
}

#[test]
fn each_takes_the_others_place() {
    let mixtures: [&[&str]; 4] = [&["bridge", "host-local"], &["bridge"], &["host-local"], &[]];
    for upstream in mixtures {
        let lab = Lab::new();
        lab.configure(&plain(&lab, "1.0.0"));
        programs(&lab, upstream);
        let (a, b) = (Pod::new("a"), Pod::new("b"));
        lab.add(&a);
        let result = lab.add(&b);
        let echo = Echo::new(&b.netns, 80);
        for ip in ips(&result) {
            // upstream's bridge does not wait for its own IPv6 address to settle
            let seen = (0..50).find_map(|_| echo.tcp(&a.netns, to(&ip.to_string(), 80)).ok());
            assert!(seen.is_some(), "{upstream:?}: {ip} does not answer");
        }
        lab.on_host(|| lab.networks().check(&b.attachment()))
            .unwrap_or_else(|e| panic!("{upstream:?}: {}", chain(&e)));
        lab.del(&a);
        lab.del(&b);
        assert_eq!((lab.leases().len(), lab.links().len()), (0, 3), "{upstream:?}");
    }
}

#[test]
fn each_undoes_what_the_other_did() {
    let turns: [[&[&str]; 2]; 2] = [[&[], &["bridge", "host-local"]], [&["bridge", "host-local"], &[]]];
    for [first, second] in turns {
        let lab = Lab::new();
        lab.configure(&plain(&lab, "1.0.0"));
        programs(&lab, first);
        let pod = Pod::new("pod");
        lab.add(&pod);
        std::fs::remove_dir_all(lab.path("bin")).unwrap();
        cni_invoke::install(&lab.path("bin"), Path::new(env!("CARGO_BIN_EXE_cleat-cni"))).unwrap();
        programs(&lab, second);
        lab.on_host(|| lab.networks().check(&pod.attachment()))
            .unwrap_or_else(|e| panic!("{second:?} checks {first:?}: {}", chain(&e)));
        lab.del(&pod);
        assert_eq!((lab.leases().len(), lab.links().len()), (0, 3), "{second:?} after {first:?}");
    }
}

#[test]
fn every_version() {
    for version in ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"] {
        let lab = Lab::new();
        let mut conf: Value =
            serde_json::from_slice(&std::fs::read(lab.path("net.d/10-pods.conflist")).unwrap()).unwrap();
        conf["cniVersion"] = json!(version);
        // Else the newest of these is spoken.
        conf.as_object_mut().unwrap().remove("cniVersions");
        lab.configure(&conf.to_string());
        let pod = Pod::new("pod").with_port(8000, 80, "tcp", "");
        let result = lab.add(&pod);
        assert_eq!(ips(&result).map(|ip| ip.to_string()), ["10.88.0.2", "fd00:88::2"], "{version}");
        let echo = Echo::new(&pod.netns, 80);
        echo.tcp(&lab.outside, to(lab::HOST[0], 8000)).unwrap();
        let check = lab.on_host(|| lab.networks().check(&pod.attachment()));
        match version {
            "0.1.0" | "0.2.0" | "0.3.0" | "0.3.1" => assert!(chain(&check.unwrap_err()).contains("no CHECK")),
            _ => check.unwrap_or_else(|e| panic!("{version}: {}", chain(&e))),
        }
        lab.on_host(|| lab.networks().status()).unwrap();
        lab.del(&pod);
        assert_eq!((lab.leases().len(), lab.ruleset().as_str()), (0, ""), "{version}");
    }
}
