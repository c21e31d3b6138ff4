//! What is charged, what is refused, and that charges add up.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::tests::{Ask, Cluster, now, pod};

fn quota(hard: Value) -> Value {
    json!({"metadata": {"name": "q", "namespace": "ns", "resourceVersion": "7"}, "spec": {"hard": hard}})
}

fn cluster(hard: Value) -> Cluster {
    Cluster::usual().and("", "resourcequotas", quota(hard))
}

fn sized(name: &str, cpu: &str, memory: &str) -> Value {
    let mut pod = pod(name);
    pod["spec"]["containers"][0]["resources"] =
        json!({"requests": {"cpu": cpu, "memory": memory}, "limits": {"cpu": cpu, "memory": memory}});
    pod
}

#[test]
fn a_pod_is_charged_or_refused() {
    let used = |cluster: &Cluster, pod: &Value| {
        let charges = Ask::create("", "pods").through(pod, cluster).unwrap().charges;
        charges.into_iter().map(|c| (c.name, c.expect, c.object["status"].clone())).collect::<Vec<_>>()
    };
    let hard = json!({"pods": "2", "requests.cpu": "2", "limits.memory": "1Gi", "count/secrets": "1"});
    let none = cluster(hard.clone());
    assert_eq!(
        used(&none, &sized("p", "1500m", "512Mi")),
        [(
            "q".to_owned(),
            "7".to_owned(),
            json!({"hard": hard, "used": {"pods": "1", "requests.cpu": "1500m", "limits.memory": "512Mi", "count/secrets": "0"}})
        )]
    );
    let mut some = none.and("", "pods", sized("there", "1500m", "512Mi"));
    let refusal = Ask::create("", "pods").through(&sized("p", "1", "512Mi"), &some).unwrap_err();
    assert_eq!(
        refusal.message,
        "pods \"p\" is forbidden: exceeded quota: q, requested: requests.cpu=1, used: requests.cpu=1500m, limited: requests.cpu=2"
    );
    let refusal = Ask::create("", "pods").through(&sized("p", "1", "1Gi"), &some).unwrap_err();
    assert_eq!(
        refusal.message,
        "pods \"p\" is forbidden: exceeded quota: q, requested: limits.memory=1Gi,requests.cpu=1, used: limits.memory=512Mi,requests.cpu=1500m, limited: limits.memory=1Gi,requests.cpu=2"
    );
    assert_eq!(
        Ask::create("", "pods").through(&pod("p"), &some).unwrap_err().message,
        "pods \"p\" is forbidden: failed quota: q: must specify limits.memory for: c; requests.cpu for: c"
    );
    // What the status says counts, once it is about these limits.
    let mut told = quota(hard.clone());
    told["status"] = json!({"hard": hard, "used": {"pods": "0", "requests.cpu": "0", "limits.memory": "0", "count/secrets": "0"}});
    some.put("", "resourcequotas", told);
    assert_eq!(used(&some, &sized("p", "2", "1Gi")).len(), 1);
    let dry = Ask { dry_run: true, ..Ask::create("", "pods") };
    assert!(dry.through(&sized("p", "2", "1Gi"), &some).unwrap().charges.is_empty());
    assert!(dry.through(&sized("p", "3", "1Gi"), &some).is_err());
}

#[test]
fn each_kind_uses_its_own() {
    let service = |kind: &str, ports: usize| json!({"metadata": {"name": "s", "namespace": "ns"}, "spec": {"type": kind, "ports": vec![json!({}); ports]}});
    let claim = json!({"metadata": {"name": "c", "namespace": "ns"}, "spec": {"storageClassName": "gold", "resources": {"requests": {"storage": "1.5Gi"}}}});
    let mut gpu = sized("p", "1", "1");
    gpu["spec"]["containers"][0]["resources"]["requests"]["nvidia.com/gpu"] = "2".into();
    gpu["spec"]["containers"][0]["resources"]["requests"]["hugepages-2Mi"] = "4Mi".into();
    let plain = |name: &str| json!({"metadata": {"name": name, "namespace": "ns"}});
    for (group, resource, object, hard, used) in [
        (
            "",
            "services",
            service("ClusterIP", 2),
            json!({"services": "5", "services.nodeports": "5"}),
            json!({"services": "1", "services.nodeports": "0"}),
        ),
        (
            "",
            "services",
            service("NodePort", 2),
            json!({"services.nodeports": "5"}),
            json!({"services.nodeports": "2"}),
        ),
        (
            "",
            "services",
            service("LoadBalancer", 1),
            json!({"services.loadbalancers": "5", "services.nodeports": "5"}),
            json!({"services.loadbalancers": "1", "services.nodeports": "1"}),
        ),
        (
            "",
            "persistentvolumeclaims",
            claim.clone(),
            json!({"requests.storage": "2Gi", "gold.storageclass.storage.k8s.io/requests.storage": "2Gi", "tin.storageclass.storage.k8s.io/requests.storage": "0", "persistentvolumeclaims": "1"}),
            json!({"requests.storage": "1536Mi", "gold.storageclass.storage.k8s.io/requests.storage": "1536Mi", "tin.storageclass.storage.k8s.io/requests.storage": "0", "persistentvolumeclaims": "1"}),
        ),
        (
            "",
            "pods",
            gpu,
            json!({"requests.nvidia.com/gpu": "4", "requests.hugepages-2Mi": "8Mi"}),
            json!({"requests.nvidia.com/gpu": "2", "requests.hugepages-2Mi": "4Mi"}),
        ),
        (
            "",
            "configmaps",
            plain("a"),
            json!({"configmaps": "3", "count/configmaps": "3"}),
            json!({"configmaps": "1", "count/configmaps": "1"}),
        ),
        (
            "apps",
            "deployments",
            plain("a"),
            json!({"count/deployments.apps": "3"}),
            json!({"count/deployments.apps": "1"}),
        ),
    ] {
        let charges = Ask::create(group, resource).through(&object, &cluster(hard)).unwrap().charges;
        assert_eq!(charges.len(), 1, "{resource}");
        assert_eq!(charges[0].object["status"]["used"], used);
    }
    let full = cluster(json!({"count/deployments.apps": "0"}));
    assert_eq!(
        Ask::create("apps", "deployments").through(&plain("a"), &full).unwrap_err().message,
        "deployments.apps \"a\" is forbidden: exceeded quota: q, requested: count/deployments.apps=1, used: count/deployments.apps=0, limited: count/deployments.apps=0"
    );
    assert!(Ask::create("", "secrets").through(&plain("a"), &full).unwrap().charges.is_empty());
    assert!(Ask::create("", "events").through(&plain("a"), &cluster(json!({"count/events": "0"}))).is_ok());
}

#[test]
fn an_update_is_charged_what_it_adds() {
    let claim = |size: &str| json!({"metadata": {"name": "c", "namespace": "ns"}, "spec": {"storageClassName": "s", "resources": {"requests": {"storage": size}}}, "status": {"phase": "Bound"}});
    let class = json!({"metadata": {"name": "s"}, "allowVolumeExpansion": true});
    let cluster = cluster(json!({"requests.storage": "3Gi"}))
        .and("", "persistentvolumeclaims", claim("1Gi"))
        .and("storage.k8s.io", "storageclasses", class);
    let ask = Ask::update("", "persistentvolumeclaims", claim("1Gi"));
    let charges = |size| ask.through(&claim(size), &cluster).unwrap().charges;
    assert_eq!(charges("3Gi")[0].object["status"]["used"]["requests.storage"], "3Gi");
    assert!(charges("1Gi").is_empty());
    assert_eq!(
        ask.through(&claim("4Gi"), &cluster).unwrap_err().message,
        "persistentvolumeclaims \"c\" is forbidden: exceeded quota: q, requested: requests.storage=3Gi, used: requests.storage=1Gi, limited: requests.storage=3Gi"
    );
}

#[test]
fn what_goes_or_shrinks_is_given_back() {
    let service = |kind: &str| json!({"metadata": {"name": "s", "namespace": "ns"}, "spec": {"type": kind, "ports": [{}, {}]}});
    let hard = json!({"pods": "2", "requests.cpu": "2", "services.nodeports": "1"});
    let pod = sized("p", "2", "1");
    let cluster = cluster(hard).and("", "pods", pod.clone()).and("", "services", service("NodePort"));
    let used =
        |charges: &[Charge]| charges.iter().map(|c| c.object["status"]["used"].clone()).collect::<Vec<_>>();
    let pods = proto_kube::resource::find("", "v1", "pods").unwrap();
    assert_eq!(
        used(&release(pods, &pod, &cluster, now())),
        [json!({"pods": "0", "requests.cpu": "0", "services.nodeports": "2"})]
    );
    let mut done = pod.clone();
    done["status"] = json!({"phase": "Failed"});
    let status = Ask::update("", "pods", pod.clone()).sub("status");
    assert_eq!(used(&status.validate(&done, &cluster).unwrap().charges)[0]["pods"], "0");
    assert!(status.validate(&pod, &cluster).unwrap().charges.is_empty());
    assert!(release(pods, &done, &cluster, now()).is_empty());
    // Beyond the limit already, but less than before.
    let ask = Ask::update("", "services", service("NodePort"));
    assert_eq!(
        used(&ask.validate(&service("ClusterIP"), &cluster).unwrap().charges)[0]["services.nodeports"],
        "0"
    );
    let events = proto_kube::resource::find("", "v1", "events").unwrap();
    assert!(release(events, &pod, &cluster, now()).is_empty());
}

#[test]
fn scopes_choose_the_pods() {
    let scope = |name: &str| json!({"scopes": [name]});
    let class = |operator: &str, values: Value| json!({"scopeSelector": {"matchExpressions": [{"scopeName": "PriorityClass", "operator": operator, "values": values}]}});
    let mut limited = sized("p", "1", "1");
    limited["spec"]["activeDeadlineSeconds"] = 5.into();
    let mut high = sized("p", "1", "1");
    high["spec"]["priorityClassName"] = "high".into();
    let mut across = sized("p", "1", "1");
    across["spec"]["affinity"] = json!({"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{"podAffinityTerm": {"namespaceSelector": {}}}]}});
    let (bare, plain) = (pod("p"), sized("p", "1", "1"));
    for (spec, pod, counted) in [
        (scope("Terminating"), &limited, true),
        (scope("Terminating"), &plain, false),
        (scope("NotTerminating"), &plain, true),
        (scope("BestEffort"), &bare, true),
        (scope("BestEffort"), &plain, false),
        (scope("NotBestEffort"), &plain, true),
        (scope("PriorityClass"), &high, true),
        (scope("PriorityClass"), &plain, false),
        (class("In", json!(["high"])), &high, true),
        (class("In", json!(["low"])), &high, false),
        (class("NotIn", json!(["low"])), &plain, true),
        (class("DoesNotExist", json!([])), &high, false),
        (scope("CrossNamespacePodAffinity"), &across, true),
        (scope("CrossNamespacePodAffinity"), &plain, false),
        (json!({"scopes": ["NotTerminating", "BestEffort"]}), &plain, false),
    ] {
        let mut quota = quota(json!({"pods": "5"}));
        quota["spec"].as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        let class = json!({"metadata": {"name": "high"}, "value": 1});
        let cluster = Cluster::usual().and("", "resourcequotas", quota.clone()).and(
            "scheduling.k8s.io",
            "priorityclasses",
            class,
        );
        let charges = Ask::create("", "pods").through(pod, &cluster).unwrap().charges;
        assert_eq!(charges.len() == 1, counted, "{spec} {pod}");
    }
}

#[test]
fn what_has_ended_is_given_back() {
    let mut done = sized("done", "1", "1");
    done["status"] = json!({"phase": "Succeeded"});
    let mut stuck = sized("stuck", "1", "1");
    stuck["metadata"]["deletionTimestamp"] = "2026-11-21T11:59:00Z".into();
    stuck["metadata"]["deletionGracePeriodSeconds"] = 30.into();
    let mut going = stuck.clone();
    going["metadata"]["name"] = "going".into();
    going["metadata"]["deletionGracePeriodSeconds"] = 90.into();
    let objects = [done, stuck, going, sized("runs", "1", "1")];
    let cluster = Cluster::of(objects.map(|pod| ("", "pods", pod)));
    let quota = quota(json!({"pods": "9", "count/pods": "9", "requests.cpu": "9"}));
    let counted = recount(&quota, &cluster, now()).unwrap();
    assert_eq!(counted["status"]["used"], json!({"pods": "2", "count/pods": "4", "requests.cpu": "2"}));
    assert_eq!(recount(&counted, &cluster, now()), None);
}

proptest! {
    /// However pods come, what was charged for them is what they use, and never more than the limit.
    #[test]
    fn charges_add_up(pods in prop::collection::vec((0..2500_u32, 0..2000_u32), 0..12)) {
        let mut cluster = cluster(json!({"pods": "8", "requests.cpu": "6", "limits.memory": "4Gi"}));
        for (at, (cpu, memory)) in pods.into_iter().enumerate() {
            let pod = sized(&format!("p{at}"), &format!("{cpu}m"), &format!("{memory}Mi"));
            if let Ok(effects) = Ask::create("", "pods").through(&pod, &cluster) {
                prop_assert_eq!(effects.charges.len(), 1);
                cluster.put("", "resourcequotas", effects.charges[0].object.clone());
                cluster.put("", "pods", pod);
            }
        }
        let quota = proto_kube::view::View::get(&cluster, QUOTAS, "ns", "q").unwrap();
        if quota.get("status").is_some() {
            prop_assert_eq!(recount(&quota, &cluster, now()), None);
        }
        let list = |side: &str| resources::of(object::at(&quota, &["status", side]));
        let hard = list("hard");
        for (name, used) in list("used") {
            prop_assert!(used.amount <= hard[&name].amount);
        }
    }
}
