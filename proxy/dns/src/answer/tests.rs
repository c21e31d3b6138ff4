//! The tables of the specification, version 1.1.

use std::sync::Arc;

use serde_json::{Value, json};

use super::*;

fn zone() -> Zone {
    let mut zone = Zone::default();
    ["default", "kube-system"].iter().for_each(|name| zone.set_namespace(name, true));
    zone.namespaces_known();
    for (name, spec) in [
        (
            "cluster",
            json!({ "clusterIPs": ["10.3.0.100", "fd00::100"], "clusterIP": "10.3.0.100",
            "ports": [{ "name": "https", "port": 443 }, { "port": 80 }] }),
        ),
        ("headless", json!({ "clusterIP": "None" })),
        ("empty", json!({ "clusterIP": "None" })),
        ("foo", json!({ "type": "ExternalName", "externalName": "www.example.com" })),
        ("inner", json!({ "type": "ExternalName", "externalName": "cluster.default.svc.cluster.local." })),
        ("ring", json!({ "type": "ExternalName", "externalName": "gnir.default.svc.cluster.local" })),
        ("gnir", json!({ "type": "ExternalName", "externalName": "ring.default.svc.cluster.local" })),
        ("lost", json!({ "type": "ExternalName", "externalName": "nobody.default.svc.cluster.local" })),
        ("wrong", json!({ "type": "ExternalName", "externalName": "a..b" })),
    ] {
        let service = json!({ "metadata": { "namespace": "default", "name": name }, "spec": spec });
        zone.set_service(&service, Vec::<Arc<Value>>::new);
    }
    let ports = json!([{ "name": "https", "port": 443, "protocol": "TCP" }]);
    for (name, service, endpoints) in [
        (
            "a",
            "headless",
            json!([{ "addresses": ["10.3.0.1"], "hostname": "my-pet" },
                     { "addresses": ["10.3.0.2"] }, { "addresses": ["10.3.0.3"], "conditions": { "ready": false } }]),
        ),
        (
            "b",
            "headless",
            json!([{ "addresses": ["fd00::1"], "hostname": "my-pet" }, { "addresses": ["fd00::2"] }]),
        ),
        (
            "c",
            "cluster",
            json!([{ "addresses": ["10.3.0.7"], "hostname": "my-pet" }, { "addresses": ["10.3.0.8"] },
                     { "addresses": ["10.3.0.9"], "hostname": "ill", "conditions": { "ready": false } }]),
        ),
    ] {
        let labels = json!({ "kubernetes.io/service-name": service });
        let metadata = json!({ "namespace": "default", "name": name, "labels": labels });
        zone.set_slice(&json!({ "metadata": metadata, "endpoints": endpoints, "ports": ports }));
    }
    zone
}

fn authority() -> Authority {
    let addresses = vec!["10.3.0.10".parse().unwrap()];
    Authority { domain: Name::from_text("cluster.local").unwrap(), addresses, ttl: 5 }
}

fn ask(name: &str, asked: u16) -> Outcome {
    answer(&zone(), &authority(), &Name::from_text(name).unwrap(), asked)
}

/// The answer's data as text, the status first where it is not NoError; names without the domain.
fn show(reply: &Reply) -> String {
    let data = |record: &Record| match &record.data {
        Data::Ip(ip) => ip.to_string(),
        Data::Cname(name) | Data::Ptr(name) | Data::Ns(name) => name.to_string(),
        Data::Srv(priority, weight, port, host) => format!("{priority} {weight} {port} {host}"),
        Data::Txt(text) => text.clone(),
        Data::Soa(..) => "soa".to_owned(),
    };
    let all: Vec<String> = reply.answers.iter().map(data).collect();
    let text = all.join(", ").replace(".svc.cluster.local.", "");
    if reply.rcode == Rcode::NoError { text } else { format!("{:?} {text}", reply.rcode) }
}

#[test]
fn as_the_specification_says() {
    for (name, asked, expected) in [
        ("dns-version.cluster.local", kind::TXT, "1.1.0"),
        ("cluster.default.svc.cluster.local", kind::A, "10.3.0.100"),
        ("cluster.default.svc.cluster.local", kind::AAAA, "fd00::100"),
        ("cluster.default.svc.cluster.local", kind::ANY, "10.3.0.100, fd00::100"),
        ("_https._tcp.cluster.default.svc.cluster.local", kind::SRV, "0 100 443 cluster.default"),
        (
            "cluster.default.svc.cluster.local",
            kind::SRV,
            "0 100 443 cluster.default, 0 100 80 cluster.default",
        ),
        ("_https._udp.cluster.default.svc.cluster.local", kind::SRV, "NxDomain "),
        ("_._tcp.cluster.default.svc.cluster.local", kind::SRV, "NxDomain "),
        ("_tcp.cluster.default.svc.cluster.local", kind::SRV, ""),
        ("_udp.cluster.default.svc.cluster.local", kind::SRV, "NxDomain "),
        ("my-pet.cluster.default.svc.cluster.local", kind::A, "10.3.0.7"),
        ("my-pet.cluster.default.svc.cluster.local", kind::AAAA, ""),
        ("other.cluster.default.svc.cluster.local", kind::A, "NxDomain "),
        ("ill.cluster.default.svc.cluster.local", kind::A, "NxDomain "),
        ("10-3-0-8.cluster.default.svc.cluster.local", kind::A, "NxDomain "),
        ("7.0.3.10.in-addr.arpa", kind::PTR, "my-pet.cluster.default"),
        ("100.0.3.10.in-addr.arpa", kind::PTR, "cluster.default"),
        ("headless.default.svc.cluster.local", kind::A, "10.3.0.1, 10.3.0.2"),
        ("headless.default.svc.cluster.local", kind::AAAA, "fd00::1, fd00::2"),
        ("my-pet.headless.default.svc.cluster.local", kind::A, "10.3.0.1"),
        ("my-pet.headless.default.svc.cluster.local", kind::AAAA, "fd00::1"),
        ("10-3-0-2.headless.default.svc.cluster.local", kind::A, "10.3.0.2"),
        ("10-3-0-3.headless.default.svc.cluster.local", kind::A, "NxDomain "),
        (
            "_https._tcp.headless.default.svc.cluster.local",
            kind::SRV,
            "0 33 443 my-pet.headless.default, 0 33 443 fd00--2.headless.default, 0 33 443 10-3-0-2.headless.default",
        ),
        ("_tcp.headless.default.svc.cluster.local", kind::A, ""),
        ("1.0.3.10.in-addr.arpa", kind::PTR, "my-pet.headless.default"),
        ("2.0.3.10.in-addr.arpa", kind::PTR, "10-3-0-2.headless.default"),
        ("empty.default.svc.cluster.local", kind::A, "NxDomain "),
        ("inner.default.svc.cluster.local", kind::A, "cluster.default, 10.3.0.100"),
        ("inner.default.svc.cluster.local", kind::CNAME, "cluster.default"),
        ("lost.default.svc.cluster.local", kind::A, "NxDomain nobody.default"),
        ("wrong.default.svc.cluster.local", kind::A, "NxDomain "),
        ("10-3-0-9.default.pod.cluster.local", kind::A, "10.3.0.9"),
        ("fd00--9.default.pod.cluster.local", kind::AAAA, "fd00::9"),
        ("fd00--9.default.pod.cluster.local", kind::A, ""),
        ("10-3-0.default.pod.cluster.local", kind::A, "NxDomain "),
        ("10-3-0-9.nowhere.pod.cluster.local", kind::A, "NxDomain "),
        ("ns.dns.cluster.local", kind::A, "10.3.0.10"),
        ("cluster.local", kind::NS, "ns.dns.cluster.local."),
        ("cluster.local", kind::SOA, "soa"),
        ("cluster.local", kind::A, ""),
        ("svc.cluster.local", kind::A, ""),
        ("default.svc.cluster.local", kind::A, ""),
        ("nowhere.svc.cluster.local", kind::A, "NxDomain "),
        ("nowhere.default.svc.cluster.local", kind::A, "NxDomain "),
        ("a.b.c.d.cluster.default.svc.cluster.local", kind::A, "NxDomain "),
        ("www.example.com.cluster.local", kind::A, "NxDomain "),
    ] {
        let Outcome::Answer(reply) = ask(name, asked) else { panic!("{name} is not answered here") };
        assert_eq!(show(&reply), expected, "{name} {asked}");
        assert!(reply.authoritative, "{name}");
        let soa = reply.authority.iter().any(|record| record.data.kind() == kind::SOA);
        assert_eq!(soa, reply.answers.is_empty() || reply.rcode == Rcode::NxDomain, "{name} {asked}");
    }
}

#[test]
fn the_rest_is_somebody_elses() {
    for name in ["www.example.com", "local", "9.9.9.9.in-addr.arpa", "x.0.3.10.in-addr.arpa", "ip6.arpa", ""]
    {
        assert_eq!(ask(name, kind::A), Outcome::Forward, "{name}");
    }
    let Outcome::Follow(reply, target) = ask("foo.default.svc.cluster.local", kind::A) else { panic!() };
    assert_eq!(
        (show(&reply).as_str(), target.to_string().as_str()),
        ("www.example.com.", "www.example.com.")
    );
}

#[test]
fn names_in_a_ring_end() {
    let Outcome::Answer(reply) = ask("ring.default.svc.cluster.local", kind::A) else { panic!() };
    assert_eq!(reply.answers.len(), ALIASES_MAX + 1);
}

#[test]
fn reverse_names_of_ipv6() {
    let digits: String = format!("{:032x}", u128::from("fd00::1".parse::<Ipv6Addr>().unwrap()))
        .chars()
        .rev()
        .map(|digit| format!("{digit}."))
        .collect();
    let Outcome::Answer(reply) = ask(&format!("{digits}ip6.arpa"), kind::PTR) else { panic!() };
    assert_eq!(show(&reply), "my-pet.headless.default");
}

#[test]
fn hosts_of_ports_come_along() {
    let Outcome::Answer(reply) = ask("_https._tcp.headless.default.svc.cluster.local", kind::SRV) else {
        panic!()
    };
    assert_eq!(reply.extra.len(), 4);
    let Outcome::Answer(reply) = ask("_https._tcp.cluster.default.svc.cluster.local", kind::SRV) else {
        panic!()
    };
    assert_eq!(reply.extra.len(), 2);
}
