//! The server as clients see it: Debian's `dig` and the C library ask it over the loopback.

#![allow(clippy::unwrap_used)]

mod lab;

use std::time::Duration;

use lab::{Cluster, endpoint, until};
use serde_json::json;

#[test]
fn services_and_their_ports() {
    let cluster = Cluster::new();
    cluster.service(
        "web",
        json!({ "clusterIP": "10.96.0.7", "clusterIPs": ["10.96.0.7", "fd00:96::7"],
        "ports": [{ "name": "http", "port": 80 }, { "name": "dns", "port": 53, "protocol": "UDP" }] }),
    );
    let dns = cluster.serve(&[]);
    assert_eq!(dns.dig(&["web.default.svc.cluster.local", "A"]), ["10.96.0.7"]);
    assert_eq!(dns.dig(&["WEB.default.SVC.cluster.local", "AAAA"]), ["fd00:96::7"]);
    let srv = dns.dig(&["_http._tcp.web.default.svc.cluster.local", "SRV"]);
    assert_eq!(srv, ["0 100 80 web.default.svc.cluster.local."]);
    assert_eq!(dns.dig(&["-x", "10.96.0.7"]), ["web.default.svc.cluster.local."]);
    assert_eq!(dns.dig(&["-x", "fd00:96::7"]), ["web.default.svc.cluster.local."]);
    assert_eq!(dns.dig(&["dns-version.cluster.local", "TXT"]), ["\"1.1.0\""]);
    assert_eq!(dns.dig(&["10-244-3-4.default.pod.cluster.local"]), ["10.244.3.4"]);
    for (name, kind, status) in [
        ("web.default.svc.cluster.local", "MX", "NOERROR"),
        ("default.svc.cluster.local", "A", "NOERROR"),
        ("nowhere.default.svc.cluster.local", "A", "NXDOMAIN"),
        ("web.elsewhere.svc.cluster.local", "A", "NXDOMAIN"),
        ("_smtp._tcp.web.default.svc.cluster.local", "SRV", "NXDOMAIN"),
        ("10-244-3-4.elsewhere.pod.cluster.local", "A", "NXDOMAIN"),
        ("www.example.com.default.svc.cluster.local", "A", "NXDOMAIN"),
    ] {
        let all = dns.dig_all(&[name, kind]);
        assert!(all.contains(&format!("status: {status}")), "{name} {kind}: {all}");
        assert!(all.contains("SOA ns.dns.cluster.local."), "{name} {kind}: {all}");
        assert!(all.contains(" aa "), "{all}");
    }
}

#[test]
fn endpoints_come_and_go() {
    let cluster = Cluster::new();
    cluster.service(
        "db",
        json!({ "clusterIP": "None", "clusterIPs": ["None"],
        "ports": [{ "name": "sql", "port": 5432 }] }),
    );
    let ports = json!([{ "name": "sql", "port": 5432, "protocol": "TCP" }]);
    let ready = |ip: &str, name: &str| endpoint(ip, name, true);
    cluster.slice(
        "db-1",
        "db",
        &[ready("10.244.1.5", "db-0"), endpoint("10.244.1.6", "db-1", false)],
        &ports,
    );
    let dns = cluster.serve(&[]);
    let name = "db.default.svc.cluster.local";
    assert_eq!(dns.dig(&[name]), ["10.244.1.5"]);
    assert_eq!(dns.dig(&[&format!("db-0.{name}")]), ["10.244.1.5"]);
    assert_eq!(dns.dig(&["-x", "10.244.1.5"]), ["db-0.db.default.svc.cluster.local."]);
    cluster.slice("db-2", "db", &[ready("10.244.2.9", "")], &ports);
    until("the new one", || (dns.dig(&[name]).len() == 2).then_some(()));
    let srv = dns.dig_all(&[&format!("_sql._tcp.{name}"), "SRV"]);
    assert!(srv.contains("0 50 5432 10-244-2-9.db.default.svc.cluster.local."), "{srv}");
    assert!(srv.contains("db-0.db.default.svc.cluster.local. 5 IN A 10.244.1.5"), "{srv}");
    cluster.delete_slice("db-1");
    until("the first is gone", || (dns.dig(&[name]) == ["10.244.2.9"]).then_some(()));
    assert_eq!(dns.dig(&[&format!("db-0.{name}")]), Vec::<String>::new());
    cluster.delete_slice("db-2");
    until("nobody is left", || dns.dig_all(&[name]).contains("NXDOMAIN").then_some(()));
}

#[test]
fn names_outside_are_forwarded_remembered_and_given_stale() {
    let cluster = Cluster::new();
    cluster.service("out", json!({ "type": "ExternalName", "externalName": "www.example.com" }));
    let upstream = lab::Upstream::new();
    let dns = cluster.serve(&[upstream.address]);
    assert_eq!(dns.dig(&["www.example.com"]), ["192.0.2.80"]);
    assert_eq!(dns.dig(&["www.example.com"]), ["192.0.2.80"]);
    assert_eq!(upstream.asked("www.example.com"), 1, "the second answer is remembered");
    assert_eq!(dns.dig(&["out.default.svc.cluster.local"]), ["www.example.com.", "192.0.2.80"]);
    assert!(dns.dig_all(&["missing.example.com"]).contains("NXDOMAIN"));
    let long = dns.dig_all(&["long.example.com", "TXT", "+ignore"]);
    assert!(long.contains(" tc ") && !long.contains("ANSWER: 0"), "{long}");
    assert_eq!(dns.dig(&["long.example.com", "TXT"]).len(), 40, "over TCP it is whole");
    upstream.set_silent(true);
    assert!(dns.dig_all(&["short.example.com", "+timeout=8"]).contains("status: SERVFAIL"));
    upstream.set_silent(false);
    assert_eq!(dns.dig(&["short.example.com"]), ["192.0.2.81"]);
    upstream.set_silent(true);
    let before = upstream.asked("short.example.com");
    until("what is known is no longer fresh", || {
        let answer = dns.dig(&["short.example.com", "+timeout=8"]);
        assert_eq!(answer, ["192.0.2.81"], "stale is better than nothing");
        (upstream.asked("short.example.com") > before).then_some(())
    });
}

#[test]
fn one_question_for_all_who_ask_the_same() {
    let cluster = Cluster::new();
    let upstream = lab::Upstream::new();
    let dns = cluster.serve(&[upstream.address]);
    upstream.set_slow(Duration::from_millis(300));
    let clients: Vec<_> = (0..8).map(|_| dns.dig_later(&["www.example.com"])).collect();
    for client in clients {
        assert_eq!(client.join().unwrap(), ["192.0.2.80"]);
    }
    assert_eq!(upstream.asked("www.example.com"), 1);
}

#[test]
fn a_server_that_asks_itself_says_so_and_stops() {
    let cluster = Cluster::new();
    let dns = cluster.serve_itself();
    until("the loop is found", || {
        dns.dig_all(&["www.example.com", "+timeout=5", "+tries=1"]).contains("SERVFAIL").then_some(())
    });
}

#[test]
fn nothing_is_answered_wrongly_before_all_is_known() {
    let cluster = Cluster::new();
    cluster.objects.set_away(true);
    let dns = cluster.serve_unready(&[]);
    assert!(dns.dig_all(&["web.default.svc.cluster.local"]).contains("SERVFAIL"));
    cluster.objects.set_away(false);
    until("ready", || dns.dig_all(&["web.default.svc.cluster.local"]).contains("NXDOMAIN").then_some(()));
    cluster.objects.set_away(true);
    cluster.objects.set_away(false);
    assert!(
        dns.dig_all(&["web.default.svc.cluster.local"]).contains("NXDOMAIN"),
        "a broken watch changes nothing"
    );
}
