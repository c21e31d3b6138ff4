//! Slices say what pods say: none is lost, none is there twice, and little changes at a time.

use proptest::prelude::*;
use proto_kube::object;
use serde_json::{Value, json};

use super::*;
use crate::driven::Driven;
use crate::resources::{ENDPOINTS, NODES, PODS, SERVICES};
use crate::{Mutation, Objects};

fn service(spec: Value) -> Value {
    let mut all = json!({"clusterIP": "10.96.0.7", "ipFamilies": ["IPv4"], "selector": {"app": "web"},
        "ports": [{"name": "http", "port": 80, "targetPort": "http"}]});
    all.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    json!({"metadata": {"name": "web", "namespace": "ns", "labels": {"l": "1"}}, "spec": all})
}

fn pod(n: usize, ready: bool) -> Value {
    let ip = format!("10.244.{}.{}", n / 200, n % 200 + 1);
    json!({
        "metadata": {"name": format!("p{n:03}"), "namespace": "ns", "labels": {"app": "web"}},
        "spec": {"nodeName": format!("n{}", n % 3), "containers": [{"ports": [{"name": "http", "containerPort": 8080}]}]},
        "status": {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}],
            "conditions": [{"type": "Ready", "status": if ready { "True" } else { "False" },
                "lastTransitionTime": "2026-01-01T11:00:00Z"}]},
    })
}

fn cluster(spec: Value) -> Driven {
    let mut driven = Driven::new(all());
    for n in 0..3 {
        let labels = json!({"topology.kubernetes.io/zone": format!("z{n}")});
        driven.objects.put(NODES, json!({"metadata": {"name": format!("n{n}"), "labels": labels}}));
    }
    driven.objects.put(SERVICES, service(spec));
    driven
}

fn slices(objects: &Objects) -> Vec<Arc<Value>> {
    objects.list(ENDPOINT_SLICES, "ns")
}

/// Of each endpoint the pod, and whether it is ready.
fn endpoints(objects: &Objects) -> Vec<(String, bool)> {
    let all = slices(objects);
    let endpoints = all.iter().flat_map(|slice| object::items(slice, &["endpoints"]));
    let mut all: Vec<_> = endpoints
        .map(|e| (object::text(e, &["targetRef", "name"]).to_owned(), e["conditions"]["ready"] == true))
        .collect();
    all.sort();
    all
}

#[test]
fn an_endpoint_says_what_its_pod_does() {
    let mut driven = cluster(json!({"trafficDistribution": "PreferSameNode"}));
    driven.objects.put(PODS, pod(1, true));
    let mut going = pod(2, true);
    going["metadata"]["deletionTimestamp"] = "2026-01-01T12:00:00Z".into();
    driven.objects.put(PODS, going);
    let mut named = pod(0, false);
    named["spec"]["hostname"] = "h".into();
    named["spec"]["subdomain"] = "web".into();
    driven.objects.put(PODS, named);
    driven.settle();
    let slice = slices(&driven.objects)[0].clone();
    let meta = &slice["metadata"];
    assert_eq!(
        meta["labels"],
        json!({"l": "1", "kubernetes.io/service-name": "web",
            "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io"})
    );
    assert_eq!(meta["ownerReferences"][0]["kind"], "Service");
    assert_eq!(meta["annotations"][TRIGGER], "2026-01-01T00:00:00Z");
    assert_eq!(slice["ports"], json!([{"name": "http", "port": 8080, "protocol": "TCP"}]));
    let mut all: Vec<&Value> = object::items(&slice, &["endpoints"]).collect();
    all.sort_by_key(|e| object::text(e, &["targetRef", "name"]));
    let conditions = |n: usize| all[n]["conditions"].clone();
    assert_eq!(conditions(0), json!({"ready": false, "serving": false, "terminating": false}));
    assert_eq!(conditions(1), json!({"ready": true, "serving": true, "terminating": false}));
    assert_eq!(conditions(2), json!({"ready": false, "serving": true, "terminating": true}));
    assert_eq!((&all[0]["hostname"], &all[0]["hints"]), (&json!("h"), &Value::Null));
    assert_eq!(all[1]["hints"], json!({"forZones": [{"name": "z1"}], "forNodes": [{"name": "n1"}]}));
    assert_eq!((&all[1]["nodeName"], &all[1]["zone"]), (&json!("n1"), &json!("z1")));
}

#[test]
fn families_ports_and_selectors_change() {
    let mut driven = cluster(json!({"ipFamilies": ["IPv4", "IPv6"]}));
    let mut both = pod(1, true);
    both["status"]["podIPs"] = json!([{"ip": "10.244.0.2"}, {"ip": "fd00:0::2"}]);
    driven.objects.put(PODS, both);
    driven.settle();
    let addresses = |objects: &Objects| {
        let mut all: Vec<String> = slices(objects)
            .iter()
            .map(|s| format!("{} {}", s["addressType"], s["endpoints"][0]["addresses"][0]))
            .collect();
        all.sort();
        all
    };
    assert_eq!(addresses(&driven.objects), ["\"IPv4\" \"10.244.0.2\"", "\"IPv6\" \"fd00::2\""]);
    driven.objects.change(SERVICES, "ns", "web", |s| s["spec"]["ipFamilies"] = json!(["IPv6"]));
    driven.settle();
    assert_eq!(addresses(&driven.objects), ["\"IPv6\" \"fd00::2\""]);
    // Nobody is chosen any more: what is left says so.
    driven.objects.change(SERVICES, "ns", "web", |s| s["spec"]["selector"] = json!({"app": "none"}));
    driven.settle();
    let left = slices(&driven.objects);
    assert_eq!((left.len(), &left[0]["endpoints"], &left[0]["ports"]), (1, &json!([]), &Value::Null));
    driven.objects.change(SERVICES, "ns", "web", |s| {
        s["spec"]["selector"] = json!({"app": "web"});
        s["spec"]["publishNotReadyAddresses"] = true.into();
    });
    driven.objects.change(PODS, "ns", "p001", |p| p["status"]["conditions"] = json!([]));
    driven.settle();
    assert_eq!(endpoints(&driven.objects), [("p001".to_owned(), true)]);
}

#[test]
fn a_change_of_one_pod_changes_one_slice() {
    let mut driven = cluster(json!({}));
    for n in 0..250 {
        driven.objects.put(PODS, pod(n, true));
    }
    driven.settle();
    let sizes = |objects: &Objects| -> Vec<usize> {
        let mut all: Vec<usize> =
            slices(objects).iter().map(|s| object::items(s, &["endpoints"]).count()).collect();
        all.sort_unstable();
        all
    };
    assert_eq!(sizes(&driven.objects), [50, 100, 100]);
    let writes = |driven: &mut Driven| {
        let all = driven.settle();
        all.iter().filter(|m| matches!(m, Mutation::Update(r, ..) | Mutation::Create(r, _) if r.plural == "endpointslices")).count()
    };
    driven.objects.put(PODS, pod(7, false));
    assert_eq!(writes(&mut driven), 1);
    driven.objects.remove(PODS, "ns", "p008");
    driven.objects.put(PODS, pod(250, true));
    assert_eq!(writes(&mut driven), 1);
    for n in 0..240 {
        driven.objects.remove(PODS, "ns", &format!("p{n:03}"));
    }
    driven.settle();
    assert_eq!(endpoints(&driven.objects).len(), 11);
}

#[test]
fn the_older_form_holds_a_thousand() {
    let mut driven = cluster(json!({}));
    for n in 0..1100 {
        driven.objects.put(PODS, pod(n, n % 4 != 0));
    }
    driven.settle();
    let endpoints = driven.get(ENDPOINTS, "ns", "web").unwrap();
    let count = |list: &str| object::items(&endpoints["subsets"][0], &[list]).count();
    assert_eq!((count("addresses"), count("notReadyAddresses")), (825, 175));
    assert_eq!(endpoints["metadata"]["annotations"]["endpoints.kubernetes.io/over-capacity"], "truncated");
    driven.objects.remove(SERVICES, "ns", "web");
    driven.settle();
    assert!(driven.names(ENDPOINTS, "ns").is_empty());
}

#[test]
fn endpoints_by_hand_go_with_a_service_and_stay_without_any() {
    let mut driven = cluster(json!({"selector": null}));
    for name in ["web", "other"] {
        driven.objects.put(ENDPOINTS, json!({"metadata": {"name": name, "namespace": "ns"}}));
    }
    driven.settle();
    assert!(driven.names(ENDPOINTS, "ns").iter().eq(["other", "web"]));
    driven.objects.remove(SERVICES, "ns", "web");
    driven.settle();
    assert!(driven.names(ENDPOINTS, "ns").iter().eq(["other"]));
}

#[test]
fn a_mirror_follows_and_is_taken_away() {
    let mut driven = cluster(json!({"selector": null}));
    let endpoints = json!({"metadata": {"name": "web", "namespace": "ns", "labels": {"a": "b"}},
        "subsets": [{"addresses": [{"ip": "192.0.2.1"}, {"ip": "fd00::1"}, {"ip": "x"}],
            "notReadyAddresses": [{"ip": "192.0.2.2"}], "ports": [{"port": 80, "protocol": "TCP"}]}]});
    driven.objects.put(ENDPOINTS, endpoints);
    driven.settle();
    let all = slices(&driven.objects);
    let found: Vec<_> =
        all.iter().map(|s| (s["addressType"].clone(), object::items(s, &["endpoints"]).count())).collect();
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found.contains(&(json!("IPv4"), 2)) && found.contains(&(json!("IPv6"), 1)));
    assert_eq!(all[0]["metadata"]["labels"]["a"], "b");
    assert_eq!(driven.objects.told[0].3, "Skipped 1 invalid IP addresses when mirroring to EndpointSlices");
    driven.objects.change(ENDPOINTS, "ns", "web", |e| {
        e["metadata"]["labels"]["endpointslice.kubernetes.io/skip-mirror"] = "true".into();
    });
    driven.settle();
    assert!(slices(&driven.objects).is_empty());
}

#[derive(Debug, Clone)]
enum Step {
    Put(usize, bool),
    Remove(usize),
    Unschedule(usize),
    Work,
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// However pods come and go: all that are there are told once, as they are, in slices that are not too many nor too
    /// full; and then nothing more is wanted.
    #[test]
    fn no_endpoint_is_lost_or_doubled(steps in prop::collection::vec(prop_oneof![
        6 => (0..350_usize, any::<bool>()).prop_map(|(n, ready)| Step::Put(n, ready)),
        3 => (0..350_usize).prop_map(Step::Remove),
        1 => (0..350_usize).prop_map(Step::Unschedule),
        1 => Just(Step::Work),
    ], 0..300)) {
        let mut driven = cluster(json!({}));
        for step in steps {
            match step {
                Step::Put(n, ready) => driven.objects.put(PODS, pod(n, ready)),
                Step::Remove(n) => drop(driven.objects.remove(PODS, "ns", &format!("p{n:03}"))),
                Step::Unschedule(n) => {
                    driven.objects.change(PODS, "ns", &format!("p{n:03}"), |p| p["metadata"]["labels"] = json!({}));
                }
                Step::Work => drop(driven.settle()),
            }
        }
        driven.settle();
        let pods = driven.objects.list(PODS, "ns");
        let wanted: Vec<(String, bool)> = pods
            .iter()
            .filter(|p| p["metadata"]["labels"]["app"] == "web")
            .map(|p| (object::name(p).to_owned(), proto_kube::pod::is_ready(p)))
            .collect();
        prop_assert_eq!(endpoints(&driven.objects), wanted.clone());
        let all = slices(&driven.objects);
        prop_assert!(all.iter().all(|s| object::items(s, &["endpoints"]).count() <= 100));
        // A slice is made only when what is new fills it or fits nowhere: at least every other is half full.
        prop_assert!(all.len() <= wanted.len() / 25 + 2, "{} slices for {}", all.len(), wanted.len());
        driven.restart();
        let again = driven.settle();
        prop_assert!(again.is_empty(), "{again:?}");
    }
}
