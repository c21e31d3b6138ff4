//! Services and packets: in the simulator, and in namespaces with the real kernel.

#![allow(clippy::unwrap_used)]

use netlink::netns;
use proxy::Kernel;
use proxy_rules::{Family, Node, ServiceMap, compile};
use serde_json::json;

#[test]
fn smoke() {
    let mut map = ServiceMap::default();
    let service = json!({"metadata": {"namespace": "ns", "name": "a"}, "spec": {"type": "LoadBalancer", "clusterIP": "10.96.0.5",
      "clusterIPs": ["10.96.0.5", "fd00:96::5"], "externalIPs": ["192.0.2.9"], "sessionAffinity": "ClientIP", "externalTrafficPolicy": "Local",
      "loadBalancerSourceRanges": ["203.0.113.0/25", "fd00:99::/64"],
      "ports": [{"name": "p", "port": 80, "nodePort": 30080}, {"name": "q", "port": 81, "nodePort": 30081}]},
      "status": {"loadBalancer": {"ingress": [{"ip": "1.2.3.4"}, {"ip": "fd00::1234"}]}}});
    map.change_service(None, Some(&service));
    let slice = json!({"metadata": {"namespace": "ns", "name": "a-1", "labels": {"kubernetes.io/service-name": "a"}}, "addressType": "IPv4",
      "ports": [{"name": "p", "port": 8080, "protocol": "TCP"}],
      "endpoints": [{"addresses": ["10.244.0.2"], "nodeName": "n"}, {"addresses": ["10.244.0.3"], "nodeName": "m"}]});
    map.change_slice(None, Some(&slice));
    let slice = json!({"metadata": {"namespace": "ns", "name": "a-2", "labels": {"kubernetes.io/service-name": "a"}}, "addressType": "IPv6",
      "ports": [{"name": "p", "port": 8080, "protocol": "TCP"}],
      "endpoints": [{"addresses": ["fd00:244::2"], "nodeName": "n"}, {"addresses": ["fd00:244::3"], "nodeName": "m"}]});
    map.change_slice(None, Some(&slice));
    let node = Node { name: "n".into(), ips: vec!["192.0.2.1".parse().unwrap(), "fd00:1::1".parse().unwrap()],
        local_traffic: proxy_rules::LocalTraffic::Networks(vec!["10.244.0.0/16".parse().unwrap(), "fd00:244::/56".parse().unwrap()]),
        service_cidrs: vec!["10.96.0.0/16".parse().unwrap(), "fd00:96::/112".parse().unwrap()], ..Node::default() };
    let netns = netns::create().unwrap();
    netns::enter(&netns, || {
        for family in Family::ALL {
            let rules = compile(&map, &node, family);
            let mut kernel = Kernel::open(family).unwrap();
            let n = kernel.replace(&rules).unwrap_or_else(|e| panic!("{e:?}"));
            println!("{n}");
            let r = kernel.read().unwrap(); println!("{:?}", r.is_some());
            if let Some(mut r) = r { r.chains = rules.chains.clone(); println!("{:?}", proxy_rules::diff(&r, &rules)); }
        }
        let out = std::process::Command::new("nft").args(["list", "ruleset"]).output().unwrap();
        println!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
        assert!(out.status.success());
    }).unwrap();
}
