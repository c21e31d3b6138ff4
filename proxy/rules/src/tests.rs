//! Laws: whatever the history, the rules are those of a fresh start; and planning again changes nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

/// A step of a history: a service or its slice comes, changes or goes; or the node changes.
#[derive(Debug, Clone)]
enum Step {
    Service(u8, Option<Value>),
    Slice(u8, u8, Option<Value>),
    Node(u8),
}

fn service(number: u8) -> impl Strategy<Value = Value> {
    let policy = || prop_oneof![Just("Cluster"), Just("Local")];
    let ips = prop::collection::btree_set(0u8..6, 0..3);
    let ports = prop::collection::btree_map(80u16..83, prop_oneof![Just(0u16), 30001u16..30004], 1..3);
    (policy(), policy(), ips.clone(), ips, ports, 0u32..3, any::<bool>(), 0u8..10).prop_map(
        move |(internal, external, external_ips, balancers, ports, affinity, ranges, odd)| {
            let address = |n: &u8| if *n < 4 { format!("192.0.2.{n}") } else { format!("2001:db8::{n}") };
            let ports = ports.iter().map(|(port, node_port)| {
                json!({ "name": format!("p{port}"), "port": port, "nodePort": node_port, "protocol": if port % 2 == 0 { "TCP" } else { "UDP" } })
            });
            let mut object = json!({
                "metadata": { "namespace": "ns", "name": format!("s{number}") },
                "spec": {
                    "type": "LoadBalancer",
                    "clusterIPs": [format!("10.96.0.{number}"), format!("fd00:96::{number}")],
                    "ports": ports.collect::<Vec<_>>(),
                    "internalTrafficPolicy": internal, "externalTrafficPolicy": external,
                    "externalIPs": external_ips.iter().map(address).collect::<Vec<_>>(),
                },
                "status": { "loadBalancer": { "ingress": balancers.iter().map(|n| json!({ "ip": address(n) })).collect::<Vec<_>>() } },
            });
            if affinity > 0 {
                object["spec"]["sessionAffinity"] = json!("ClientIP");
                object["spec"]["sessionAffinityConfig"]["clientIP"]["timeoutSeconds"] = json!(affinity * 100);
            }
            if ranges {
                object["spec"]["loadBalancerSourceRanges"] = json!(["203.0.113.0/25", "203.0.113.0/24", "2001:db8:9::/64"]);
            }
            match odd {
                0 => object["spec"]["clusterIPs"] = json!(["10.96.0.1"]),
                1 => object["metadata"]["labels"] = json!({ "service.kubernetes.io/service-proxy-name": "x" }),
                2 => object["spec"]["clusterIPs"] = json!(["None"]),
                _ => {}
            }
            object
        },
    )
}

fn slice(number: u8, part: u8) -> impl Strategy<Value = Value> {
    let endpoint = (0u8..8, 0u8..3, 0u8..4, 0u8..3);
    (prop::collection::vec(endpoint, 0..6), any::<bool>()).prop_map(move |(endpoints, v4)| {
        let endpoints = endpoints.into_iter().map(|(ip, node, condition, zone)| {
            let ip = if v4 { format!("10.244.0.{ip}") } else { format!("fd00:244::{ip}") };
            let mut object = json!({ "addresses": [ip] });
            if node > 0 {
                object["nodeName"] = json!(format!("n{node}"));
            }
            if zone > 0 {
                object["hints"]["forZones"] = json!([{ "name": format!("z{zone}") }]);
            }
            object["conditions"] = match condition {
                0 => json!({ "ready": false, "serving": true, "terminating": true }),
                1 => json!({ "ready": false, "serving": false }),
                _ => json!({ "ready": true }),
            };
            object
        });
        json!({
            "metadata": { "namespace": "ns", "name": format!("s{number}-{part}"), "labels": { "kubernetes.io/service-name": format!("s{number}") } },
            "addressType": if v4 { "IPv4" } else { "IPv6" },
            "ports": [
                { "name": "p80", "port": 8080, "protocol": "TCP" }, { "name": "p81", "port": 8081, "protocol": "UDP" },
                { "name": "p82", "port": 8082, "protocol": "TCP" },
            ],
            "endpoints": endpoints.collect::<Vec<_>>(),
        })
    })
}

fn step() -> impl Strategy<Value = Step> {
    let number = 1u8..5;
    prop_oneof![
        4 => number.clone().prop_flat_map(|n| prop::option::weighted(0.8, service(n)).prop_map(move |o| Step::Service(n, o))),
        6 => (number, 0u8..2).prop_flat_map(|(n, part)| prop::option::weighted(0.8, slice(n, part)).prop_map(move |o| Step::Slice(n, part, o))),
        1 => (0u8..4).prop_map(Step::Node),
    ]
}

fn node(number: u8) -> Node {
    let net = |text: &str| text.parse().unwrap();
    Node {
        name: "n1".into(),
        zone: format!("z{}", number % 3),
        ips: vec!["192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap()],
        local_traffic: LocalTraffic::Networks(vec![net("10.244.0.0/16"), net("fd00:244::/64")]),
        masquerade_all: number == 3,
        node_ports: if number == 2 { NodePorts::All } else { NodePorts::Primary },
        service_cidrs: vec![net("10.96.0.0/16"), net("fd00:96::/112")],
        exempt: Vec::new(),
    }
}

/// The objects as a watch would tell of them.
#[derive(Default)]
struct World {
    objects: BTreeMap<(u8, Option<u8>), Value>,
    map: ServiceMap,
}

impl World {
    fn take(&mut self, step: &Step) -> (BTreeSet<ServiceName>, Option<Node>) {
        let (key, new) = match step {
            Step::Service(number, object) => ((*number, None), object),
            Step::Slice(number, part, object) => ((*number, Some(*part)), object),
            Step::Node(number) => return (BTreeSet::new(), Some(node(*number))),
        };
        let old = match new {
            Some(object) => self.objects.insert(key, object.clone()),
            None => self.objects.remove(&key),
        };
        let names = match key.1 {
            None => self.map.change_service(old.as_ref(), new.as_ref()).into_iter().collect(),
            Some(_) => self.map.change_slice(old.as_ref(), new.as_ref()).into_iter().collect(),
        };
        (names, None)
    }
}

/// A rule set without the order of endpoints, which a history may have changed.
fn unordered(rules: &Ruleset) -> Ruleset {
    let mut rules = rules.clone();
    let lists = [
        SetName::Endpoints,
        SetName::LocalEndpoints,
        SetName::NodePortEndpoints,
        SetName::LocalNodePortEndpoints,
    ];
    for set in lists {
        let Some(elements) = rules.sets.get_mut(&set) else { continue };
        let mut services: BTreeMap<Vec<u8>, Vec<(u32, Vec<u8>)>> = BTreeMap::new();
        for (key, data) in elements.iter() {
            let (service, index) = key.bytes().split_last_chunk::<4>().unwrap();
            let Data::Value(target) = data else { panic!("{data:?}") };
            services
                .entry(service.to_vec())
                .or_default()
                .push((u32::from_ne_bytes(*index), target.bytes().to_vec()));
        }
        elements.clear();
        for (service, mut targets) in services {
            targets.sort();
            assert!(
                targets.iter().map(|(index, _)| *index).eq(0..u32::try_from(targets.len()).unwrap()),
                "no holes"
            );
            targets.sort_by(|a, b| a.1.cmp(&b.1));
            for (index, (_, target)) in (0u32..).zip(targets) {
                let key = Key::read(&[service.as_slice(), &index.to_ne_bytes()].concat()).unwrap();
                elements.insert(key, Data::Value(Key::read(&target).unwrap()));
            }
        }
    }
    rules
}

/// Nothing leads to a chain that is not there.
fn closed(rules: &Ruleset) {
    let target = |verdict: &Verdict| match verdict {
        Verdict::Jump(chain) | Verdict::Goto(chain) => assert!(rules.chains.contains_key(chain), "{chain}"),
        _ => {}
    };
    for data in rules.sets.values().flat_map(|elements| elements.values()) {
        if let Data::Verdict(verdict) = data {
            target(verdict);
        }
    }
    for op in rules.chains.values().flat_map(|c| &c.rules).flat_map(|r| &r.ops) {
        match op {
            Op::Verdict(verdict) => target(verdict),
            Op::In(_, set)
            | Op::NotIn(_, set)
            | Op::Map(_, set, _)
            | Op::Verdicts(_, set)
            | Op::Learn(set, ..) => {
                assert!(rules.sets.contains_key(set), "{set:?}");
            }
            _ => {}
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn a_history_ends_where_a_fresh_start_does(steps in prop::collection::vec(step(), 1..25)) {
        for family in Family::ALL {
            let mut world = World::default();
            let mut tables = Tables::new(&world.map, node(0), family);
            let mut kernel = tables.ruleset();
            for step in &steps {
                let (names, node) = world.take(step);
                if let Some(node) = node {
                    kernel.apply(&tables.change_node(&world.map, node));
                }
                kernel.apply(&tables.update(&world.map, &names));
                prop_assert_eq!(&kernel, &tables.ruleset());
                let again: BTreeSet<ServiceName> = world.map.names().cloned().collect();
                prop_assert!(tables.update(&world.map, &again).is_empty());
            }
            let fresh = compile(&world.map, tables.node(), family);
            prop_assert_eq!(unordered(&kernel), unordered(&fresh));
            closed(&fresh);
        }
    }

    #[test]
    fn a_difference_applied_is_the_other(steps in prop::collection::vec(step(), 1..12), number in 0u8..4) {
        for family in Family::ALL {
            let (mut old, mut new) = (World::default(), World::default());
            for (at, step) in steps.iter().enumerate() {
                if at % 3 > 0 {
                    old.take(step);
                }
                new.take(step);
            }
            let (before, after) = (compile(&old.map, &node(0), family), compile(&new.map, &node(number), family));
            let mut applied = before.clone();
            applied.apply(&diff(&before, &after));
            prop_assert_eq!(&applied, &after);
            prop_assert!(diff(&after, &after).is_empty());
        }
    }
}

fn packet(source: &str, destination: &str, port: u16) -> Packet {
    let link = Some("eth0".to_owned());
    Packet {
        source: source.parse().unwrap(),
        destination: destination.parse().unwrap(),
        protocol: 6,
        port,
        link,
    }
}

fn one_service(spec: &Value, endpoints: &[&str]) -> ServiceMap {
    let mut map = ServiceMap::default();
    let mut object = json!({
        "metadata": { "namespace": "ns", "name": "s1" },
        "spec": { "clusterIPs": ["10.96.0.1"], "ports": [{ "name": "p80", "port": 80, "nodePort": 30001 }] },
    });
    for (key, value) in spec.as_object().unwrap() {
        object["spec"][key] = value.clone();
    }
    map.change_service(None, Some(&object));
    let endpoints = endpoints.iter().map(|ip| json!({ "addresses": [ip], "nodeName": "n1" }));
    let slice = json!({
        "metadata": { "namespace": "ns", "name": "s1-0", "labels": { "kubernetes.io/service-name": "s1" } },
        "addressType": "IPv4", "ports": [{ "name": "p80", "port": 8080 }], "endpoints": endpoints.collect::<Vec<_>>(),
    });
    map.change_slice(None, Some(&slice));
    map
}

#[test]
fn a_client_stays_while_his_endpoint_does() {
    let affine = json!({ "sessionAffinity": "ClientIP" });
    let map = one_service(&affine, &["10.244.0.1", "10.244.0.2", "10.244.0.3"]);
    let tables = Tables::new(&map, node(0), Family::V4);
    let (rules, mut learned) = (tables.ruleset(), Learned::new());
    let send = |learned: &mut Learned, to: &str, port, dice| {
        let (outcome, _) = walk(&rules, &node(0).ips, &packet("10.244.0.9", to, port), learned, dice);
        let Outcome::To(targets) = outcome else { panic!("{outcome:?}") };
        targets.into_keys().next().unwrap().0
    };
    let first = send(&mut learned, "10.96.0.1", 80, 1);
    assert!((0..9).all(|dice| send(&mut learned, "10.96.0.1", 80, dice) == first));
    let by_node_port = send(&mut learned, "192.0.2.1", 30001, 2);
    assert!((0..9).all(|dice| send(&mut learned, "192.0.2.1", 30001, dice) == by_node_port));
    assert_eq!(learned.len(), 2);
    // his endpoint goes, or all affinity does
    let before = tables.stays(None);
    for (map, stale) in [
        (one_service(&affine, &["10.244.0.1", "10.244.0.2", "10.244.0.3", "10.244.0.4"]), 0),
        (one_service(&affine, &["10.244.0.1", "10.244.0.2"]), 1),
        (one_service(&json!({}), &["10.244.0.1", "10.244.0.2", "10.244.0.3"]), 2),
    ] {
        let now = Tables::new(&map, node(0), Family::V4).stays(None);
        assert_eq!(before.within(&now), stale == 0);
        let found = learned.iter().filter(|((_, key), value)| now.is_stale(*key, **value, Family::V4));
        assert_eq!(found.count(), stale);
    }
}

/// A UDP service of port 80, and its slice.
fn udp_service(name: &str, ip: &str, spec: &Value) -> Value {
    let mut object = json!({
        "metadata": { "namespace": "ns", "name": name },
        "spec": { "clusterIPs": [ip], "ports": [{ "name": "p80", "port": 80, "nodePort": 30001, "protocol": "UDP" }] },
    });
    for (key, value) in spec.as_object().unwrap() {
        object["spec"][key] = value.clone();
    }
    object
}

fn udp_slice(service: &str, port: u16, endpoints: &Value) -> Value {
    json!({
        "metadata": { "namespace": "ns", "name": format!("{service}-0"), "labels": { "kubernetes.io/service-name": service } },
        "addressType": "IPv4", "ports": [{ "name": "p80", "port": port, "protocol": "UDP" }], "endpoints": endpoints,
    })
}

fn flow(to: &str, port: u16, answers: &str) -> Flow {
    let answers: SocketAddr = answers.parse().unwrap();
    Flow { destination: to.parse().unwrap(), port, answers: (answers.ip(), answers.port()) }
}

fn check_flows(services: &UdpServices, flows: &[(Flow, bool)]) {
    for (flow, stale) in flows {
        assert_eq!(services.is_stale(flow), *stale, "{flow:?}");
    }
}

#[test]
fn udp_flows_to_endpoints_that_are_gone() {
    let mut map = ServiceMap::default();
    map.change_service(None, Some(&udp_service("s1", "10.96.0.1", &json!({}))));
    let services = |map: &ServiceMap| {
        let tables = Tables::new(map, node(0), Family::V4);
        tables.udp(map, &tables.udp_places(None))
    };
    let ending = json!({ "addresses": ["10.244.0.2"], "conditions": { "ready": false, "serving": true, "terminating": true } });
    let unready = json!({ "addresses": ["10.244.0.3"], "conditions": { "ready": false } });
    let some = json!([{ "addresses": ["10.244.0.1"] }, ending, unready]);
    map.change_slice(None, Some(&udp_slice("s1", 8080, &some)));
    let flows = [
        (flow("10.96.0.1", 80, "10.244.0.1:8080"), false),
        (flow("10.96.0.1", 80, "10.244.0.2:8080"), false),
        (flow("10.96.0.1", 80, "10.244.0.3:8080"), true),
        // the target port was another
        (flow("10.96.0.1", 80, "10.244.0.1:8081"), true),
        // sent before there was an endpoint, or while there were no rules
        (flow("10.96.0.1", 80, "10.96.0.1:80"), true),
        (flow("10.96.0.1", 81, "10.244.0.3:8080"), false),
        (flow("192.0.2.1", 30001, "10.244.0.3:8080"), true),
        (flow("192.0.2.1", 30001, "10.244.0.1:8080"), false),
        // a node port's number at another machine
        (flow("198.51.100.7", 30001, "198.51.100.7:30001"), false),
        (flow("2001:db8::1", 30001, "[fd00:244::1]:8080"), false),
    ];
    check_flows(&services(&map), &flows);
    // nobody serves it: no flow has a place to go
    for slice in [Some(udp_slice("s1", 8080, &json!([]))), None] {
        map.change_slice(Some(&udp_slice("s1", 8080, &some)), slice.as_ref());
        let none = flows.map(|(flow, stale)| {
            let ours = [("10.96.0.1", 80), ("192.0.2.1", 30001)];
            (
                flow,
                stale
                    || ours.iter().any(|(ip, port)| ip.parse() == Ok(flow.destination) && *port == flow.port),
            )
        });
        check_flows(&services(&map), &none);
    }
}

#[test]
fn udp_flows_to_services_that_are_gone() {
    let with = |ips: &[&str]| udp_service("s1", "10.96.0.1", &json!({ "externalIPs": ips }));
    let old = with(&["192.0.2.8", "192.0.2.9"]);
    let cluster = flow("10.96.0.1", 80, "10.244.0.1:8080");
    let (kept, left) = (flow("192.0.2.8", 80, "10.244.0.1:8080"), flow("192.0.2.9", 80, "10.244.0.1:8080"));
    let node_port = flow("192.0.2.1", 30001, "10.244.0.1:8080");
    let mut closed = with(&["192.0.2.8"]);
    closed["spec"]["ports"][0]["nodePort"] = json!(0);
    let mut headless = old.clone();
    headless["spec"]["clusterIPs"] = json!(["None"]);
    for (new, stale) in
        [(Some(closed), [false, false, true, true]), (Some(headless), [true; 4]), (None, [true; 4])]
    {
        let mut map = ServiceMap::default();
        map.change_service(None, Some(&old));
        map.change_slice(None, Some(&udp_slice("s1", 8080, &json!([{ "addresses": ["10.244.0.1"] }]))));
        let mut tables = Tables::new(&map, node(0), Family::V4);
        let names = BTreeSet::from_iter(map.change_service(Some(&old), new.as_ref()));
        let mut places = tables.udp_places(Some(&names));
        let _ = tables.update(&map, &names);
        places.extend(tables.udp_places(Some(&names)));
        let flows = [cluster, kept, left, node_port];
        let flows: Vec<_> = flows.into_iter().zip(stale).collect();
        check_flows(&tables.udp(&map, &places), &flows);
    }
}

#[test]
fn udp_flows_are_judged_by_who_has_the_place() {
    let shared = json!({ "externalIPs": ["192.0.2.9"] });
    let mut map = ServiceMap::default();
    let first = udp_service("s1", "10.96.0.1", &shared);
    for (name, object) in [("s1", &first), ("s2", &udp_service("s2", "10.96.0.2", &shared))] {
        map.change_service(None, Some(object));
        map.change_slice(None, Some(&udp_slice(name, 8080, &json!([]))));
    }
    let one = |number: u8| json!([{ "addresses": [format!("10.244.0.{number}")] }]);
    map.change_slice(None, Some(&udp_slice("s1", 8080, &one(1))));
    let mut tables = Tables::new(&map, node(0), Family::V4);
    let judged = |tables: &Tables, map: &ServiceMap, names: &BTreeSet<ServiceName>| {
        let services = tables.udp(map, &tables.udp_places(Some(names)));
        ["10.244.0.1:8080", "10.244.0.2:8080"].map(|to| {
            let flows = [flow("192.0.2.9", 80, to), flow("192.0.2.1", 30001, to)];
            flows.map(|flow| services.is_stale(&flow))
        })
    };
    // he who has lost the place has nothing to say of it, neither with endpoints nor without
    let loser = BTreeSet::from([ServiceName::new("ns", "s2")]);
    assert_eq!(judged(&tables, &map, &loser), [[false; 2], [true; 2]]);
    map.change_slice(None, Some(&udp_slice("s2", 8080, &one(2))));
    let _ = tables.update(&map, &loser);
    assert_eq!(judged(&tables, &map, &loser), [[false; 2], [true; 2]]);
    // the one who has it goes, and leaves it to the other
    let names = BTreeSet::from_iter(map.change_service(Some(&first), None));
    let _ = tables.update(&map, &names);
    assert_eq!(judged(&tables, &map, &loser), [[true; 2], [false; 2]]);
}

#[test]
fn health_check_node_ports_count_what_is_here() {
    let spec =
        json!({ "type": "LoadBalancer", "externalTrafficPolicy": "Local", "healthCheckNodePort": 30500 });
    let map = one_service(&spec, &["10.244.0.1", "10.244.0.2"]);
    assert_eq!(map.health_ports("n1"), BTreeMap::from([(30500, (ServiceName::new("ns", "s1"), 2))]));
    assert_eq!(map.health_ports("n2").values().map(|(_, count)| *count).collect::<Vec<_>>(), [0]);
    let map = one_service(&json!({ "type": "LoadBalancer", "healthCheckNodePort": 30500 }), &["10.244.0.1"]);
    assert!(map.health_ports("n1").is_empty(), "only where nodes differ");
}
