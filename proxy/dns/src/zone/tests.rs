//! The zone built object by object is the zone built at once.

use std::sync::Arc;

use proptest::prelude::*;
use serde_json::json;

use super::*;

fn service(name: u8, form: u8) -> Value {
    let spec = match form {
        0 => json!({ "clusterIP": format!("10.96.0.{name}"), "ports": [{ "name": "http", "port": 80 }] }),
        1 => json!({ "clusterIP": format!("10.96.1.{name}") }),
        2 => json!({ "clusterIP": "None" }),
        3 => json!({ "clusterIP": "None", "publishNotReadyAddresses": true }),
        4 => json!({ "type": "ExternalName", "externalName": "example.com" }),
        5 => json!({ "clusterIP": format!("10.96.0.{name}"), "publishNotReadyAddresses": true }),
        _ => json!({}),
    };
    json!({ "metadata": { "namespace": "a", "name": format!("s{name}") }, "spec": spec })
}

fn slice(name: u8, service: u8, ips: &[u8]) -> Value {
    let endpoint = |ip: &u8| {
        let hostname = if *ip > 2 { format!("h{ip}") } else { String::new() };
        json!({ "addresses": [format!("10.244.0.{ip}")], "hostname": hostname,
                "conditions": { "ready": ip.is_multiple_of(2) } })
    };
    let endpoints: Vec<Value> = ips.iter().map(endpoint).collect();
    let labels = json!({ "kubernetes.io/service-name": format!("s{service}") });
    json!({ "metadata": { "namespace": "a", "name": format!("e{name}"), "labels": labels }, "endpoints": endpoints })
}

#[derive(Debug, Clone)]
enum Step {
    Service(u8, u8),
    NoService(u8),
    Slice(u8, Vec<u8>),
    NoSlice(u8, bool),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0..3u8, 0..7u8).prop_map(|(name, form)| Step::Service(name, form)),
        (0..3u8).prop_map(Step::NoService),
        (0..6u8, prop::collection::vec(0..6u8, 0..4)).prop_map(|(name, ips)| Step::Slice(name, ips)),
        (0..6u8, any::<bool>()).prop_map(|(name, whole)| Step::NoSlice(name, whole)),
    ]
}

proptest! {
    #[test]
    fn step_by_step_or_at_once(steps in prop::collection::vec(step(), 0..40)) {
        let mut zone = Zone::default();
        let (mut services, mut slices) = (BTreeMap::new(), BTreeMap::new());
        for step in steps {
            match step {
                Step::Service(name, form) => {
                    services.insert(name, service(name, form));
                    zone.set_service(&services[&name], || slices.values().cloned().collect::<Vec<Arc<Value>>>());
                }
                Step::NoService(name) => {
                    services.remove(&name);
                    zone.remove_service(&service(name, 0));
                }
                Step::Slice(name, ips) => {
                    // a slice stays with its service
                    slices.insert(name, Arc::new(slice(name, name % 3, &ips)));
                    zone.set_slice(&slices[&name]);
                }
                Step::NoSlice(name, whole) => {
                    slices.remove(&name);
                    let bare = json!({ "metadata": { "namespace": "a", "name": format!("e{name}") } });
                    zone.remove_slice(&if whole { slice(name, name % 3, &[]) } else { bare });
                }
            }
        }
        let mut fresh = Zone::default();
        for service in services.values() {
            fresh.set_service(service, || slices.values().cloned().collect::<Vec<Arc<Value>>>());
        }
        prop_assert_eq!(&zone.services, &fresh.services);
        prop_assert_eq!(&zone.cluster_ips, &fresh.cluster_ips);
        prop_assert_eq!(&zone.endpoint_ips, &fresh.endpoint_ips);
    }
}

#[test]
fn who_is_ready() {
    let endpoint = |conditions: Value| json!({ "addresses": ["10.244.0.1"], "conditions": conditions });
    let count = |form, conditions: Value| {
        let mut zone = Zone::default();
        zone.set_service(&service(0, form), Vec::<Arc<Value>>::new);
        let mut one = slice(0, 0, &[]);
        one["endpoints"] = json!([endpoint(conditions)]);
        zone.set_slice(&one);
        zone.endpoints_at("10.244.0.1".parse().unwrap()).count()
    };
    assert_eq!(count(2, json!({})), 1, "not said means ready");
    assert_eq!(count(2, json!({ "ready": false })), 0);
    assert_eq!(count(3, json!({ "ready": false })), 1);
    let mut named = slice(0, 0, &[2]);
    named["addressType"] = "FQDN".into();
    assert_eq!(read_slice(&named, false, false).endpoints, []);
}

#[test]
fn of_a_service_with_an_address_only_servers_with_names_are_kept() {
    let mut zone = Zone::default();
    zone.set_service(&service(0, 0), Vec::<Arc<Value>>::new);
    let slices = |zone: &Zone| match zone.service("a", "s0") {
        Some(Service::Cluster { servers, .. }) => {
            servers.slices.values().map(|slice| slice.endpoints.len()).collect::<Vec<_>>()
        }
        other => panic!("{other:?}"),
    };
    zone.set_slice(&slice(0, 0, &[2, 2]));
    assert_eq!(slices(&zone), [0; 0], "a slice without one takes no room");
    zone.set_slice(&slice(0, 0, &[2, 4]));
    assert_eq!(slices(&zone), [1]);
    let at = |zone: &Zone| zone.endpoints_at("10.244.0.4".parse().unwrap()).count();
    assert_eq!(at(&zone), 1);
    zone.set_service(&service(0, 1), || -> Vec<Arc<Value>> { panic!("they are known") });
    assert_eq!((slices(&zone), at(&zone)), (vec![1], 1), "they stay when the service changes");
    zone.set_slice(&slice(0, 0, &[2]));
    assert_eq!((slices(&zone).len(), at(&zone)), (0, 0));
}
