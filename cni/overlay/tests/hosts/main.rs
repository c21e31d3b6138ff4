//! Several machines with real packets: pods of one reach pods of another.

#![allow(clippy::unwrap_used)]

mod lab;

use lab::{Lab, Server, until};
use overlay::Backend;

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
        hosts.iter_mut().for_each(lab::Host::stop);
        until("stopping leaves the routes", || (hosts[0].routes().len() == 4).then_some(()));
    }
}
