//! Services and what they are given.

use std::net::IpAddr;

use super::*;
use crate::core::service::allocate::{Held, Ranges, Refusal, Taken, allocate, held};

fn service(spec: &Value) -> Value {
    object("Service", &json!({"spec": with(&json!({"ports": [{"port": 80}]}), spec)}))
}

#[test]
fn defaults() {
    let made = created(&service(&json!({})));
    assert_eq!(
        made["spec"],
        json!({
            "internalTrafficPolicy": "Cluster", "sessionAffinity": "None", "type": "ClusterIP",
            "ports": [{"port": 80, "protocol": "TCP", "targetPort": 80}],
        })
    );
    assert_eq!(made["status"], json!({"loadBalancer": {}}));
    let made = decoded(&service(&json!({"type": "LoadBalancer", "sessionAffinity": "ClientIP"})));
    assert_eq!(made["spec"]["allocateLoadBalancerNodePorts"], true);
    assert_eq!(made["spec"]["externalTrafficPolicy"], "Cluster");
    assert_eq!(made["spec"]["sessionAffinityConfig"], json!({"clientIP": {"timeoutSeconds": 10800}}));
}

#[test]
fn rules() {
    check_create(
        &service(&json!({})),
        &[
            (json!({"spec": {"ports": null}}), &["spec.ports: Required value"]),
            (json!({"spec": {"ports": null, "clusterIP": "None"}}), &[]),
            (
                json!({"spec": {"type": "X"}}),
                &[
                    "spec.type: Unsupported value: \"X\": supported values: \"ClusterIP\", \"ExternalName\", \"LoadBalancer\", \"NodePort\"",
                ],
            ),
            (
                json!({"spec": {"ports": [{"port": 80}, {"port": 81}]}}),
                &["spec.ports[0].name: Required value", "spec.ports[1].name: Required value"],
            ),
            (
                json!({"spec": {"ports": [{"port": 80, "name": "a"}, {"port": 80, "name": "b"}]}}),
                &["spec.ports[1]: Duplicate value: {\"port\":80,\"protocol\":\"TCP\",\"targetPort\":0}"],
            ),
            (
                json!({"spec": {"ports": [{"port": 0}]}}),
                &[
                    "spec.ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive",
                    "spec.ports[0].targetPort: Invalid value: 0: must be between 1 and 65535, inclusive",
                ],
            ),
            (
                json!({"spec": {"ports": [{"port": 80, "nodePort": 30000}]}}),
                &["spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'"],
            ),
        ],
    );
}

#[test]
fn rules_of_types_and_addresses() {
    check_create(
        &service(&json!({})),
        &[
            (json!({"spec": {"type": "ExternalName"}}), &["spec.externalName: Required value"]),
            (json!({"spec": {"type": "ExternalName", "externalName": "a.b.", "ports": null}}), &[]),
            (
                json!({"spec": {"type": "NodePort", "clusterIP": "None"}}),
                &[
                    "spec.clusterIPs[0]: Invalid value: \"None\": may not be set to 'None' for NodePort services",
                ],
            ),
            (
                json!({"spec": {"clusterIP": "x"}}),
                &[
                    "spec.clusterIPs[0]: Invalid value: \"x\": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
                ],
            ),
            (
                json!({"spec": {"clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.2"]}}),
                &["spec.clusterIPs: Invalid value: [\"10.0.0.2\"]: first value must match `clusterIP`"],
            ),
            (
                json!({"spec": {"sessionAffinity": "X"}}),
                &["spec.sessionAffinity: Unsupported value: \"X\": supported values: \"ClientIP\", \"None\""],
            ),
            (
                json!({"spec": {"externalIPs": ["127.0.0.1"]}}),
                &[
                    "spec.externalIPs[0]: Invalid value: \"127.0.0.1\": may not be in the loopback range (127.0.0.0/8, ::1/128)",
                ],
            ),
            (
                json!({"spec": {"externalTrafficPolicy": "Local"}}),
                &[
                    "spec.externalTrafficPolicy: Invalid value: \"Local\": may only be set for externally-accessible services",
                ],
            ),
            (
                json!({"spec": {"internalTrafficPolicy": "X"}}),
                &[
                    "spec.internalTrafficPolicy: Unsupported value: \"X\": supported values: \"Cluster\", \"Local\"",
                ],
            ),
            (
                json!({"spec": {"loadBalancerClass": "a"}}),
                &["spec.loadBalancerClass: Forbidden: may only be used when `type` is 'LoadBalancer'"],
            ),
            (
                json!({"spec": {"loadBalancerSourceRanges": ["10.0.0.0/8"]}}),
                &["spec.LoadBalancerSourceRanges: Forbidden: may only be used when `type` is 'LoadBalancer'"],
            ),
            (
                json!({"metadata": {"name": "A"}}),
                &[
                    "metadata.name: Invalid value: \"A\": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')",
                ],
            ),
        ],
    );
}

/// Everything below a number is taken.
struct Below(u16);

impl Taken for Below {
    fn address(&self, address: IpAddr) -> bool {
        matches!(address, IpAddr::V4(a) if u16::from(a.octets()[3]) < self.0)
    }
    fn node_port(&self, port: u16) -> bool {
        port < 30_000 + self.0
    }
}

fn ranges(blocks: &[&str]) -> Ranges {
    Ranges {
        addresses: blocks.iter().map(|b| b.parse().expect("a block")).collect(),
        node_ports: 30_000..=30_099,
    }
}

fn allocated(spec: &Value, blocks: &[&str]) -> Result<Value, Refusal> {
    let (mut made, _) = create(&service(spec));
    allocate(&mut made, None, &ranges(blocks), &Below(3), 0)?;
    assert_eq!(crate::create_errors(of(&made), &made), []);
    Ok(made["spec"].clone())
}

fn refused(spec: &Value, blocks: &[&str]) -> Vec<String> {
    match allocated(spec, blocks) {
        Err(Refusal::Invalid(errors)) => crate::cases::texts(&errors),
        other => panic!("{other:?}"),
    }
}

const FOUR: &[&str] = &["10.0.0.0/24"];
const BOTH: &[&str] = &["10.0.0.0/24", "fd00::/120"];

#[test]
fn addresses_are_allocated() {
    let spec = allocated(&json!({}), FOUR).expect("free");
    assert_eq!(spec["ipFamilies"], json!(["IPv4"]));
    assert_eq!(spec["ipFamilyPolicy"], "SingleStack");
    // The first sixteen are kept for those who ask by name.
    assert_eq!((&spec["clusterIP"], &spec["clusterIPs"]), (&json!("10.0.0.17"), &json!(["10.0.0.17"])));
    let spec = allocated(&json!({"ipFamilyPolicy": "PreferDualStack"}), BOTH).expect("free");
    assert_eq!(
        (&spec["ipFamilies"], &spec["clusterIPs"]),
        (&json!(["IPv4", "IPv6"]), &json!(["10.0.0.17", "fd00::11"]))
    );
    let spec = allocated(&json!({"ipFamilies": ["IPv6"]}), BOTH).expect("free");
    assert_eq!(spec["clusterIPs"], json!(["fd00::11"]));
    let spec = allocated(&json!({"clusterIP": "10.0.0.9"}), FOUR).expect("free");
    assert_eq!(spec["clusterIPs"], json!(["10.0.0.9"]));
    let spec = allocated(&json!({"clusterIP": "None"}), FOUR).expect("headless");
    assert_eq!(
        (&spec["ipFamilyPolicy"], &spec["ipFamilies"]),
        (&json!("RequireDualStack"), &json!(["IPv4", "IPv6"]))
    );
    let spec = allocated(&json!({"clusterIP": "None", "selector": {"a": "b"}}), FOUR).expect("headless");
    assert_eq!((&spec["ipFamilyPolicy"], &spec["ipFamilies"]), (&json!("SingleStack"), &json!(["IPv4"])));
    let spec =
        allocated(&json!({"type": "ExternalName", "externalName": "a.b"}), FOUR).expect("nothing to do");
    assert_eq!(spec.get("clusterIP"), None);
}

#[test]
fn what_cannot_be_had() {
    assert_eq!(
        refused(&json!({"clusterIP": "10.0.0.2"}), FOUR),
        [
            "spec.clusterIPs: Invalid value: [\"10.0.0.2\"]: failed to allocate IP 10.0.0.2: provided IP is already allocated"
        ]
    );
    assert_eq!(
        refused(&json!({"clusterIP": "10.1.0.2"}), FOUR),
        [
            "spec.clusterIPs: Invalid value: [\"10.1.0.2\"]: failed to allocate IP 10.1.0.2: the provided network does not match the current range"
        ]
    );
    assert_eq!(
        refused(&json!({"ipFamilyPolicy": "RequireDualStack"}), FOUR),
        [
            "spec.ipFamilyPolicy: Invalid value: \"RequireDualStack\": this cluster is not configured for dual-stack services"
        ]
    );
    assert_eq!(
        refused(&json!({"ipFamilies": ["IPv6"]}), FOUR),
        ["spec.ipFamilies[0]: Invalid value: \"IPv6\": not configured on this cluster"]
    );
    let port = |number: i64| json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": number}]});
    assert_eq!(
        refused(&port(30_001), FOUR),
        ["spec.ports[0].nodePort: Invalid value: 30001: provided port is already allocated"]
    );
    assert_eq!(
        refused(&port(5), FOUR),
        [
            "spec.ports[0].nodePort: Invalid value: 5: provided port is not in the valid range. The range of valid ports is 30000-30099"
        ]
    );
    let (mut made, _) = create(&service(&json!({})));
    let full = allocate(&mut made, None, &ranges(FOUR), &Below(300), 7);
    assert_eq!(full, Err(Refusal::Exhausted("failed to allocate a serviceIP: range is full".to_owned())));
}

#[test]
fn node_ports_are_allocated() {
    let ports = json!([{"name": "a", "port": 53}, {"name": "b", "port": 53, "protocol": "UDP"}, {"name": "c", "port": 80, "nodePort": 30_050}]);
    let spec = allocated(&json!({"type": "NodePort", "ports": ports}), FOUR).expect("free");
    let taken: Vec<_> =
        spec["ports"].as_array().into_iter().flatten().map(|p| p["nodePort"].clone()).collect();
    assert_eq!(taken, [30_016, 30_016, 30_050]);
    let spec =
        allocated(&json!({"type": "LoadBalancer", "externalTrafficPolicy": "Local"}), FOUR).expect("free");
    assert_eq!(
        (&spec["ports"][0]["nodePort"], &spec["healthCheckNodePort"]),
        (&json!(30_016), &json!(30_017))
    );
    let held = held(&json!({"spec": spec}));
    assert_eq!(
        held,
        Held { addresses: vec!["10.0.0.17".parse().expect("an address")], node_ports: vec![30_016, 30_017] }
    );
}

fn stored(spec: &Value) -> Value {
    let (mut made, _) = create(&service(spec));
    allocate(&mut made, None, &ranges(BOTH), &Below(0), 0).expect("free");
    made
}

#[test]
fn changes() {
    let old = stored(&json!({"type": "NodePort", "selector": {"a": "b"}}));
    // A client that knows nothing of the allocation keeps it.
    let (kept, errors) =
        update("", &old, &json!({"spec": {"clusterIP": null, "clusterIPs": null, "ports": [{"port": 80}]}}));
    assert_eq!(errors, Vec::<String>::new());
    assert_eq!(
        (&kept["spec"]["clusterIPs"], &kept["spec"]["ports"][0]["nodePort"]),
        (&old["spec"]["clusterIPs"], &json!(30_016))
    );
    let (plain, errors) = update("", &old, &json!({"spec": {"type": "ClusterIP"}}));
    assert_eq!(errors, Vec::<String>::new());
    assert_eq!(
        (plain["spec"]["ports"][0].get("nodePort"), plain["spec"].get("externalTrafficPolicy")),
        (None, None)
    );
    let (named, errors) = update("", &old, &json!({"spec": {"type": "ExternalName", "externalName": "a.b"}}));
    assert_eq!(errors, Vec::<String>::new());
    assert_eq!((named["spec"].get("clusterIP"), named["spec"].get("ipFamilies")), (None, None));
    check_update(
        "",
        &old,
        &[
            (
                json!({"spec": {"clusterIP": "10.0.0.99"}}),
                &["spec.clusterIPs[0]: Invalid value: [\"10.0.0.99\"]: may not change once set"],
            ),
            (
                json!({"spec": {"ipFamilies": ["IPv6"]}}),
                &[
                    "spec.ipFamilies[0]: Invalid value: [\"IPv6\"]: may not change once set",
                    "spec.clusterIPs[0]: Invalid value: \"10.0.0.17\": expected an IPv6 value as indicated by `ipFamilies[0]`",
                ],
            ),
            (json!({"spec": {"selector": {"x": "y"}}}), &[]),
        ],
    );
    let dual = stored(&json!({"ipFamilyPolicy": "PreferDualStack"}));
    check_update(
        "",
        &dual,
        &[(
            json!({"spec": {"clusterIPs": ["10.0.0.17"]}}),
            &[
                "spec.ipFamilyPolicy: Invalid value: \"PreferDualStack\": must be set to 'SingleStack' when releasing the secondary clusterIP",
            ],
        )],
    );
    let (mut single, _) = update("", &dual, &json!({"spec": {"ipFamilyPolicy": "SingleStack"}}));
    allocate(&mut single, Some(&dual), &ranges(BOTH), &Below(200), 0).expect("keeps its own");
    assert_eq!(
        (&single["spec"]["clusterIPs"], &single["spec"]["ipFamilies"]),
        (&json!(["10.0.0.17"]), &json!(["IPv4"]))
    );
}

#[test]
fn rows() {
    let old = stored(&json!({"type": "NodePort", "selector": {"a": "b"}}));
    assert_eq!(cells(&old), ["a", "NodePort", "10.0.0.17", "<none>", "80:30016/TCP", "0s", "a=b"]);
    let mut balanced = stored(&json!({"type": "LoadBalancer"}));
    assert_eq!(cells(&balanced)[3], "<pending>");
    balanced["status"] = json!({"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}, {"hostname": "x.y"}]}});
    assert_eq!(cells(&balanced)[3], "192.0.2.1,x.y");
    let headless = stored(&json!({"clusterIP": "None", "ports": null}));
    assert_eq!(cells(&headless), ["a", "ClusterIP", "None", "<none>", "<none>", "0s", "<none>"]);
    let named = stored(&json!({"type": "ExternalName", "externalName": "a.b", "ports": null}));
    assert_eq!(cells(&named), ["a", "ExternalName", "<none>", "a.b", "<none>", "0s", "<none>"]);
    assert_eq!(
        crate::of(of(&old)).fields(&old),
        [("spec.clusterIP", "10.0.0.17".to_owned()), ("spec.type", "NodePort".to_owned())]
    );
}

#[test]
fn status() {
    let old = stored(&json!({"type": "LoadBalancer"}));
    check_update(
        "status",
        &old,
        &[
            (json!({"status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}}}), &[]),
            (
                json!({"status": {"loadBalancer": {"ingress": [{"ip": "x"}]}}}),
                &[
                    "status.loadBalancer.ingress[0].ip: Invalid value: \"x\": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
                ],
            ),
            (
                json!({"status": {"loadBalancer": {"ingress": [{"hostname": "1.2.3.4"}]}}}),
                &[
                    "status.loadBalancer.ingress[0].hostname: Invalid value: \"1.2.3.4\": must be a DNS name, not an IP address",
                ],
            ),
        ],
    );
    let plain = stored(&json!({}));
    check_update(
        "status",
        &plain,
        &[(
            json!({"status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}}}),
            &["status.loadBalancer.ingress: Forbidden: may only be used when `spec.type` is 'LoadBalancer'"],
        )],
    );
}

/// Changes of a service each of which leaves it valid, alone or with any others.
fn wishes() -> Vec<Value> {
    let spec = |change: Value| json!({"spec": change});
    vec![
        spec(json!({"type": "NodePort"})),
        spec(json!({"type": "LoadBalancer", "externalTrafficPolicy": null})),
        spec(json!({"sessionAffinity": "ClientIP"})),
        spec(json!({"selector": {"a": "b"}})),
        spec(
            json!({"ports": [{"name": "a", "port": 80, "targetPort": "web"}, {"name": "b", "port": 80, "protocol": "UDP"}]}),
        ),
        spec(json!({"ipFamilyPolicy": "PreferDualStack"})),
        spec(json!({"internalTrafficPolicy": "Local", "trafficDistribution": "PreferSameNode"})),
        spec(json!({"publishNotReadyAddresses": true, "externalIPs": ["192.0.2.1"]})),
    ]
}

#[test]
fn what_is_said_of_a_service() {
    for (change, expected) in [
        (json!({}), None),
        (json!({"externalIPs": ["192.0.2.1"]}), Some("spec.externalIPs is deprecated")),
        (
            json!({"type": "ExternalName", "externalName": "a.b", "externalIPs": ["192.0.2.1"]}),
            Some("spec.externalIPs is ignored when spec.type is \"ExternalName\""),
        ),
        (json!({"externalName": "a.b"}), Some("spec.externalName is ignored")),
        (json!({"trafficDistribution": "PreferClose"}), Some("spec.trafficDistribution: \"PreferClose\"")),
    ] {
        let service = service(&change);
        let found = crate::of(of(&service)).warnings(&service, None);
        assert_eq!(found.len(), expected.iter().count(), "{change}: {found:?}");
        assert!(found.iter().zip(expected).all(|(text, start)| text.starts_with(start)), "{found:?}");
    }
}

proptest::proptest! {
    #[test]
    fn a_service_keeps_what_it_was_given(bits in 0_u64..256, random in proptest::prelude::any::<u64>()) {
        let sent = crate::cases::with_some(&service(&json!({})), &wishes(), bits);
        let (mut made, _) = create(&sent);
        assert_eq!(allocate(&mut made, None, &ranges(BOTH), &Below(5), random), Ok(()));
        assert_eq!(crate::create_errors(of(&made), &made), []);
        let numbers = held(&made);
        assert!(numbers.addresses.iter().all(|a| !Below(5).address(*a)));
        assert!(numbers.node_ports.iter().all(|p| !Below(5).node_port(*p)));
        // The client sends what it sent before, which names none of it.
        let mut again = decoded(&sent);
        crate::meta::prepare_update(of(&made), "", &mut again, &made);
        assert_eq!(allocate(&mut again, Some(&made), &ranges(BOTH), &Below(300), random), Ok(()));
        assert_eq!(crate::update_errors(of(&made), "", &again, &made), []);
        assert_eq!(again["spec"], made["spec"]);
    }
}
