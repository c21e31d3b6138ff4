//! What must become of packets: services, endpoints, and for each source and destination the outcome. The simulator and
//! the real kernel are both asked.
//!
//! | addresses | of |
//! |---|---|
//! | 10.0.0.0/8, fd00:10::/32 | pods; 10.0.0.2 is on this node and no endpoint |
//! | 172.30.0.0/16, fd00:172:30::/112 | cluster IPs |
//! | 192.168.0.2, 192.168.1.2, 2001:db8::1, 2001:db8:1::2 | this node; the first of each family is its primary one |
//! | 203.0.113.0/24, 2600:5200::/64 | clients outside |

use proxy_rules::{LocalTraffic, Node, NodePorts, ServiceMap};
use serde_json::{Value, json};

use crate::objects::{service, slice};

/// Packets, and what becomes of them.
pub(crate) struct Group {
    pub(crate) name: &'static str,
    pub(crate) objects: Vec<Value>,
    pub(crate) node: Node,
    pub(crate) flows: Vec<Flow>,
}

/// A source, a destination (protocol, address, port), and an outcome: the endpoints, with `masq` where the source is the
/// node's; `REJECT`; `DROP`; or nothing, if nobody interferes.
pub(crate) struct Flow {
    pub(crate) source: &'static str,
    pub(crate) destination: &'static str,
    pub(crate) outcome: &'static str,
}

pub(crate) const NODE: &str = "test-node";
/// The node's addresses, beside those of loopback.
pub(crate) const NODE_IPS: [&str; 5] =
    ["192.168.0.2", "192.168.1.2", "192.168.99.11", "2001:db8::1", "2001:db8:1::2"];

impl Group {
    pub(crate) fn map(&self) -> ServiceMap {
        let mut map = ServiceMap::default();
        for object in &self.objects {
            add(&mut map, object);
        }
        map
    }
}

/// Adds a Service or an EndpointSlice.
pub(crate) fn add(map: &mut ServiceMap, object: &Value) {
    match object.get("spec") {
        Some(_) => drop(map.change_service(None, Some(object))),
        None => drop(map.change_slice(None, Some(object))),
    }
}

pub(crate) fn node() -> Node {
    let net = |text: &str| text.parse().unwrap();
    Node {
        name: NODE.into(),
        zone: "here".into(),
        ips: ["192.168.0.2", "2001:db8::1"].map(|ip| ip.parse().unwrap()).to_vec(),
        local_traffic: LocalTraffic::Networks(vec![net("10.0.0.0/8"), net("fd00:10::/32")]),
        service_cidrs: vec![net("172.30.0.0/16"), net("fd00:172:30::/112")],
        exempt: vec!["172.30.0.10".parse().unwrap()],
        ..Node::default()
    }
}

const POD: &str = "10.0.0.2";
const POD6: &str = "fd00:10::2";
const CLIENT: &str = "203.0.113.2";
const CLIENT6: &str = "2600:5200::2";
/// Outside of the source range 203.0.113.0/25.
const BLOCKED: &str = "203.0.113.130";
const HOST: &str = "192.168.0.2";
const HOST6: &str = "2001:db8::1";
const BOTH: &str = "10.180.0.1:80 10.180.2.1:80";
const BOTH_MASQ: &str = "masq 10.180.0.1:80 10.180.2.1:80";
/// One endpoint elsewhere, one here.
const SPREAD: [&str; 2] = ["10.180.0.1 there", "10.180.2.1 here"];

fn group(name: &'static str, objects: Vec<Value>, flows: &[[&'static str; 3]]) -> Group {
    let flows = flows.iter().map(|[source, destination, outcome]| Flow { source, destination, outcome });
    Group { name, objects, node: node(), flows: flows.collect() }
}

fn with(group: Group, change: impl FnOnce(&mut Node)) -> Group {
    let mut group = group;
    change(&mut group.node);
    group
}

/// All groups.
pub(crate) fn groups() -> Vec<Group> {
    let mut groups =
        vec![cluster_ips(), source_ranges(), external("Cluster"), external("Local"), none_local()];
    groups.extend(node_ports());
    groups.extend([internal_local(), ending(), ending_local(), hints_zone(), hints_node(), hints_useless()]);
    groups.extend([nobody(), others(), ipv6(), unready(), conflicts()]);
    groups.extend(detection());
    groups
}

fn cluster_ips() -> Group {
    let objects = vec![
        service("svc1", "172.30.0.41", &["p80:tcp:80"], json!({})),
        slice("svc1", &["p80:tcp:80"], &["10.180.0.1 here"]),
        service(
            "svc2",
            "172.30.0.42",
            &["p80:tcp:80", "p443:tcp:443", "dns-tcp:tcp:53", "dns-udp:udp:53", "dns-sctp:sctp:53"],
            json!({}),
        ),
        slice(
            "svc2",
            &["p80:tcp:80", "p443:tcp:8443", "dns-tcp:tcp:5353", "dns-udp:udp:53", "dns-sctp:sctp:53"],
            &["10.180.0.1", "10.180.2.1 here"],
        ),
    ];
    group(
        "cluster IPs",
        objects,
        &[
            [POD, "tcp 172.30.0.41:80", "10.180.0.1:80"],
            // hairpin
            ["10.180.0.1", "tcp 172.30.0.41:80", "masq 10.180.0.1:80"],
            ["10.180.2.1", "tcp 172.30.0.41:80", "10.180.0.1:80"],
            [POD, "tcp 172.30.0.42:80", BOTH],
            ["10.180.0.1", "tcp 172.30.0.42:80", "10.180.0.1:80=masq 10.180.2.1:80"],
            [POD, "tcp 172.30.0.42:443", "10.180.0.1:8443 10.180.2.1:8443"],
            [POD, "tcp 172.30.0.42:53", "10.180.0.1:5353 10.180.2.1:5353"],
            [POD, "udp 172.30.0.42:53", "10.180.0.1:53 10.180.2.1:53"],
            [POD, "sctp 172.30.0.42:53", "10.180.0.1:53 10.180.2.1:53"],
            [POD, "udp 172.30.0.42:80", "REJECT"],
            [POD, "tcp 172.30.0.41:443", "REJECT"],
            [HOST, "tcp 172.30.0.41:443", "REJECT"],
            [POD, "tcp 172.30.0.50:80", "DROP"],
            [HOST, "tcp 172.30.0.50:80", "DROP"],
            // what does not come from a pod cannot be answered past this node
            [HOST, "tcp 172.30.0.41:80", "masq 10.180.0.1:80"],
            [CLIENT, "tcp 172.30.0.41:80", "masq 10.180.0.1:80"],
            [CLIENT, "udp 172.30.0.42:53", "masq 10.180.0.1:53 10.180.2.1:53"],
            // an endpoint by its own address is nobody's business
            [POD, "tcp 10.180.0.1:80", ""],
        ],
    )
}

fn source_ranges() -> Group {
    let objects = vec![
        service(
            "svc1",
            "172.30.0.41",
            &["p80:tcp:80:3001"],
            json!({
                "type": "LoadBalancer", "balancers": ["1.2.3.4", "5.6.7.8"], "externalIPs": ["192.168.99.22"],
                "loadBalancerSourceRanges": ["192.168.0.0/24", " 203.0.113.0/25", "203.0.113.0/26", "fd00::/64"],
            }),
        ),
        slice("svc1", &["p80:tcp:80"], &["10.180.0.1"]),
    ];
    group(
        "loadBalancerSourceRanges",
        objects,
        &[
            [POD, "tcp 172.30.0.41:80", "10.180.0.1:80"],
            [CLIENT, "tcp 192.168.0.2:3001", "masq 10.180.0.1:80"],
            [BLOCKED, "tcp 192.168.0.2:3001", "masq 10.180.0.1:80"],
            [CLIENT, "tcp 1.2.3.4:80", "masq 10.180.0.1:80"],
            [CLIENT, "tcp 5.6.7.8:80", "masq 10.180.0.1:80"],
            [BLOCKED, "tcp 1.2.3.4:80", "DROP"],
            [BLOCKED, "tcp 5.6.7.8:80", "DROP"],
            [BLOCKED, "tcp 192.168.99.22:80", "masq 10.180.0.1:80"],
            [POD, "tcp 1.2.3.4:80", "DROP"],
            [HOST, "tcp 1.2.3.4:80", "masq 10.180.0.1:80"],
            // from the load balancer's address, which some load balancers put on the node
            ["1.2.3.4", "tcp 1.2.3.4:80", "masq 10.180.0.1:80"],
        ],
    )
}

fn external_objects(policy: &str, endpoints: &[&str]) -> Vec<Value> {
    let spec = json!({
        "type": "LoadBalancer", "balancers": ["1.2.3.4"], "externalIPs": ["192.168.99.11"],
        "externalTrafficPolicy": policy, "healthCheckNodePort": 30000,
    });
    vec![
        service("svc1", "172.30.0.41", &["p80:tcp:80:3001"], spec),
        slice("svc1", &["p80:tcp:80"], endpoints),
    ]
}

fn external(policy: &'static str) -> Group {
    let objects = external_objects(policy, &["10.180.0.1", "10.180.2.1 here"]);
    let (pod, outside) = match policy {
        "Local" => (BOTH, "10.180.2.1:80"),
        _ => (BOTH_MASQ, BOTH_MASQ),
    };
    group(
        if policy == "Local" { "externalTrafficPolicy Local" } else { "externalTrafficPolicy Cluster" },
        objects,
        &[
            [POD, "tcp 172.30.0.41:80", BOTH],
            [POD, "tcp 192.168.99.11:80", pod],
            [POD, "tcp 1.2.3.4:80", pod],
            [POD, "tcp 192.168.0.2:3001", pod],
            [CLIENT, "tcp 192.168.99.11:80", outside],
            [CLIENT, "tcp 1.2.3.4:80", outside],
            [CLIENT, "tcp 192.168.0.2:3001", outside],
            // the node itself reaches all, and could not be answered past itself
            [HOST, "tcp 1.2.3.4:80", BOTH_MASQ],
            [HOST, "tcp 192.168.99.11:80", BOTH_MASQ],
            [HOST, "tcp 192.168.0.2:3001", BOTH_MASQ],
        ],
    )
}

fn none_local() -> Group {
    group(
        "externalTrafficPolicy Local, nobody here",
        external_objects("Local", &["10.180.0.1 there"]),
        &[
            [POD, "tcp 1.2.3.4:80", "10.180.0.1:80"],
            [POD, "tcp 192.168.0.2:3001", "10.180.0.1:80"],
            [HOST, "tcp 1.2.3.4:80", "masq 10.180.0.1:80"],
            [CLIENT, "tcp 1.2.3.4:80", "DROP"],
            [CLIENT, "tcp 192.168.99.11:80", "DROP"],
            [CLIENT, "tcp 192.168.0.2:3001", "DROP"],
        ],
    )
}

fn node_ports() -> Vec<Group> {
    let objects = || {
        let spec = json!({ "type": "NodePort" });
        vec![
            service("svc1", "172.30.0.41", &["p80:tcp:80:3001", "u80:udp:80:3001"], spec),
            slice("svc1", &["p80:tcp:80", "u80:udp:81"], &SPREAD),
        ]
    };
    let primary: &[[&str; 3]] = &[
        [POD, "tcp 172.30.0.41:80", BOTH],
        [CLIENT, "tcp 192.168.0.2:3001", BOTH_MASQ],
        [CLIENT, "udp 192.168.0.2:3001", "masq 10.180.0.1:81 10.180.2.1:81"],
        [HOST, "tcp 192.168.0.2:3001", BOTH_MASQ],
        [HOST, "tcp 127.0.0.1:3001", ""],
        // a node port of another machine
        [POD, "tcp 203.0.113.2:3001", ""],
    ];
    let within = |networks: &[&str]| NodePorts::Within(networks.iter().map(|n| n.parse().unwrap()).collect());
    let more = |last: &'static str| [primary, &[[CLIENT, "tcp 192.168.1.2:3001", last]]].concat();
    vec![
        group("node ports", objects(), &more("")),
        with(group("node ports in networks", objects(), &more(BOTH_MASQ)), |node| {
            node.node_ports = within(&["192.168.0.0/24", "192.168.1.0/24", "127.0.0.0/8"]);
        }),
        with(group("node ports everywhere", objects(), &more(BOTH_MASQ)), |node| {
            node.node_ports = NodePorts::All;
        }),
    ]
}

fn internal_local() -> Group {
    let spec = || json!({ "internalTrafficPolicy": "Local" });
    let external = json!({ "type": "NodePort", "internalTrafficPolicy": "Local" });
    let objects = vec![
        service("here", "172.30.0.41", &["p80:tcp:80"], spec()),
        slice("here", &["p80:tcp:80"], &SPREAD),
        service("away", "172.30.0.42", &["p80:tcp:80"], spec()),
        slice("away", &["p80:tcp:80"], &["10.180.0.1 there"]),
        service("none", "172.30.0.43", &["p80:tcp:80"], spec()),
        service("outside", "172.30.0.44", &["p80:tcp:80:3001"], external),
        slice("outside", &["p80:tcp:80"], &SPREAD),
    ];
    group(
        "internalTrafficPolicy Local",
        objects,
        &[
            [POD, "tcp 172.30.0.41:80", "10.180.2.1:80"],
            [HOST, "tcp 172.30.0.41:80", "masq 10.180.2.1:80"],
            [POD, "tcp 172.30.0.42:80", "DROP"],
            [HOST, "tcp 172.30.0.42:80", "DROP"],
            [POD, "tcp 172.30.0.43:80", "REJECT"],
            [POD, "tcp 172.30.0.44:80", "10.180.2.1:80"],
            [CLIENT, "tcp 192.168.0.2:3001", BOTH_MASQ],
        ],
    )
}

fn ending() -> Group {
    let ready = ["10.180.0.1", "10.180.2.1 here ending", "10.180.3.1 unready"];
    let objects = vec![
        service("some", "172.30.0.41", &["p80:tcp:80"], json!({})),
        slice("some", &["p80:tcp:80"], &ready),
        service("all", "172.30.0.42", &["p80:tcp:80"], json!({})),
        slice("all", &["p80:tcp:80"], &["10.180.0.1 ending", "10.180.2.1 here ending", "10.180.3.1 unready"]),
    ];
    group(
        "terminating endpoints",
        objects,
        &[[POD, "tcp 172.30.0.41:80", "10.180.0.1:80"], [POD, "tcp 172.30.0.42:80", BOTH]],
    )
}

fn ending_local() -> Group {
    let mut group = group(
        "terminating endpoints, externalTrafficPolicy Local",
        external_objects("Local", &["10.180.0.1 there", "10.180.2.1 here ending", "10.180.3.1 here unready"]),
        &[
            [POD, "tcp 1.2.3.4:80", "10.180.0.1:80"],
            [CLIENT, "tcp 1.2.3.4:80", "10.180.2.1:80"],
            [CLIENT, "tcp 192.168.0.2:3001", "10.180.2.1:80"],
        ],
    );
    let spec = json!({ "internalTrafficPolicy": "Local" });
    group.objects.push(service("inside", "172.30.0.42", &["p80:tcp:80"], spec));
    group.objects.push(slice("inside", &["p80:tcp:80"], &["10.180.0.1 there", "10.180.2.1 here ending"]));
    group.flows.push(Flow { source: POD, destination: "tcp 172.30.0.42:80", outcome: "10.180.2.1:80" });
    group
}

fn one(name: &'static str, endpoints: &[&str], outcome: &'static str) -> Group {
    let objects = vec![
        service("svc1", "172.30.0.41", &["p80:tcp:80"], json!({})),
        slice("svc1", &["p80:tcp:80"], endpoints),
    ];
    group(name, objects, &[[POD, "tcp 172.30.0.41:80", outcome]])
}

fn hints_zone() -> Group {
    one("hints for zones", &["10.180.0.1 zone=here", "10.180.2.1 zone=there"], "10.180.0.1:80")
}

fn hints_node() -> Group {
    let endpoints = ["10.180.0.1 zone=here node=other-node", "10.180.2.1 zone=there node=test-node"];
    one("hints for nodes", &endpoints, "10.180.2.1:80")
}

fn hints_useless() -> Group {
    one("hints that one endpoint lacks", &["10.180.0.1 zone=here", "10.180.2.1"], BOTH)
}

fn unready() -> Group {
    one("endpoints that are not ready", &["10.180.0.1 unready", "10.180.2.1 here"], "10.180.2.1:80")
}

fn nobody() -> Group {
    let spec = json!({
        "type": "LoadBalancer", "balancers": ["1.2.3.4"], "externalIPs": ["192.168.99.22"],
        "externalTrafficPolicy": "Local",
    });
    let objects = vec![service("svc1", "172.30.0.41", &["p80:tcp:80:3001", "u53:udp:53"], spec)];
    group(
        "nobody serves",
        objects,
        &[
            [POD, "tcp 172.30.0.41:80", "REJECT"],
            [HOST, "tcp 172.30.0.41:80", "REJECT"],
            [POD, "udp 172.30.0.41:53", "REJECT"],
            [HOST, "udp 172.30.0.41:53", "REJECT"],
            [CLIENT, "tcp 192.168.99.22:80", "REJECT"],
            [CLIENT, "tcp 1.2.3.4:80", "REJECT"],
            [CLIENT, "tcp 192.168.0.2:3001", "REJECT"],
            [HOST, "tcp 192.168.0.2:3001", "REJECT"],
            [POD, "tcp 192.168.0.2:3001", "REJECT"],
        ],
    )
}

fn others() -> Group {
    let elsewhere = json!({ "labels": { "service.kubernetes.io/service-proxy-name": "other" } });
    let named = json!({ "type": "ExternalName", "externalName": "example.org" });
    let objects = vec![
        service("elsewhere", "172.30.0.41", &["p80:tcp:80"], elsewhere),
        slice("elsewhere", &["p80:tcp:80"], &["10.180.0.1"]),
        service("headless", "None", &["p80:tcp:80"], json!({})),
        slice("headless", &["p80:tcp:80"], &["10.180.0.1"]),
        service("named", "172.30.0.43", &["p80:tcp:80"], named),
    ];
    group(
        "services of others, without cluster IP, by name",
        objects,
        &[
            [POD, "tcp 172.30.0.41:80", ""],
            [POD, "tcp 172.30.0.10:53", ""],
            [POD, "tcp 172.30.0.43:80", "DROP"],
        ],
    )
}

fn conflicts() -> Group {
    let objects = vec![
        service(
            "a-thief",
            "172.30.0.50",
            &["p80:tcp:80"],
            json!({ "externalIPs": ["172.30.0.41", "10.9.9.9"] }),
        ),
        slice("a-thief", &["p80:tcp:80"], &["10.180.2.1"]),
        service("svc1", "172.30.0.41", &["p80:tcp:80"], json!({ "externalIPs": ["10.9.9.9"] })),
        slice("svc1", &["p80:tcp:80"], &["10.180.0.1"]),
    ];
    group(
        "an external IP that is another's",
        objects,
        &[[POD, "tcp 172.30.0.41:80", "10.180.0.1:80"], [POD, "tcp 10.9.9.9:80", "masq 10.180.2.1:80"]],
    )
}

fn ipv6() -> Group {
    let spec = json!({
        "type": "LoadBalancer", "balancers": ["2001:db8:5::4"], "externalIPs": ["2001:db8:6::1"],
        "externalTrafficPolicy": "Local", "loadBalancerSourceRanges": ["2600:5200::/96", "10.0.0.0/8"],
    });
    let objects = vec![
        service("svc1", "fd00:172:30::41", &["p80:tcp:80:3001", "u53:udp:53"], spec),
        slice("svc1", &["p80:tcp:80", "u53:udp:53"], &["fd00:10:180::1 there", "fd00:10:181::1 here"]),
        service("svc2", "fd00:172:30::42", &["p80:tcp:80:3002"], json!({ "type": "NodePort" })),
        slice("svc2", &["p80:tcp:80"], &["fd00:10:180::1 here"]),
        service("svc3", "fd00:172:30::43", &["p80:tcp:80:3003", "u53:udp:53"], json!({ "type": "NodePort" })),
    ];
    let both = "[fd00:10:180::1]:80 [fd00:10:181::1]:80";
    group(
        "IPv6",
        objects,
        &[
            [POD6, "tcp [fd00:172:30::41]:80", both],
            [POD6, "udp [fd00:172:30::41]:53", "[fd00:10:180::1]:53 [fd00:10:181::1]:53"],
            ["fd00:10:180::1", "tcp [fd00:172:30::42]:80", "masq [fd00:10:180::1]:80"],
            [HOST6, "tcp [fd00:172:30::42]:80", "masq [fd00:10:180::1]:80"],
            [CLIENT6, "tcp [2001:db8:5::4]:80", "[fd00:10:181::1]:80"],
            ["2600:5200::5:0:0:2", "tcp [2001:db8:5::4]:80", "DROP"],
            [CLIENT6, "tcp [2001:db8:6::1]:80", "[fd00:10:181::1]:80"],
            [CLIENT6, "tcp [2001:db8::1]:3001", "[fd00:10:181::1]:80"],
            [POD6, "tcp [2001:db8::1]:3001", both],
            [CLIENT6, "tcp [2001:db8::1]:3002", "masq [fd00:10:180::1]:80"],
            [CLIENT6, "tcp [2001:db8:1::2]:3001", ""],
            [CLIENT6, "tcp [2001:db8::1]:3003", "REJECT"],
            [POD6, "tcp [fd00:172:30::43]:80", "REJECT"],
            [POD6, "udp [fd00:172:30::43]:53", "REJECT"],
            [HOST6, "tcp [fd00:172:30::43]:80", "REJECT"],
            [POD6, "tcp [fd00:172:30::42]:81", "REJECT"],
            [POD6, "tcp [fd00:172:30::99]:80", "DROP"],
        ],
    )
}

fn detection() -> Vec<Group> {
    let cluster = |flows: &[[&'static str; 3]]| {
        let objects = external_objects("Local", &["10.180.0.1 there", "10.180.2.1 here"]);
        group("pods by their link", objects, flows)
    };
    let flows: &[[&str; 3]] = &[
        [POD, "tcp 172.30.0.41:80", BOTH],
        [POD, "tcp 1.2.3.4:80", BOTH],
        [CLIENT, "tcp 172.30.0.41:80", BOTH_MASQ],
        [CLIENT, "tcp 1.2.3.4:80", "10.180.2.1:80"],
        [HOST, "tcp 172.30.0.41:80", BOTH_MASQ],
    ];
    let all: &[[&str; 3]] = &[
        [POD, "tcp 172.30.0.41:80", BOTH_MASQ],
        [CLIENT, "tcp 172.30.0.41:80", BOTH_MASQ],
        [CLIENT, "tcp 1.2.3.4:80", "10.180.2.1:80"],
    ];
    let nobody: &[[&str; 3]] = &[[POD, "tcp 172.30.0.41:80", BOTH], [CLIENT, "tcp 172.30.0.41:80", BOTH]];
    vec![
        with(cluster(flows), |node| node.local_traffic = LocalTraffic::LinkPrefix("pod".into())),
        with(cluster(&flows[..2]), |node| node.local_traffic = LocalTraffic::Bridge("pod-10-0-0".into())),
        with(cluster(all), |node| node.masquerade_all = true),
        with(cluster(nobody), |node| node.local_traffic = LocalTraffic::default()),
    ]
}
