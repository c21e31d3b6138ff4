//! What pods of the API server do beyond those of files: they are refused, resized, looked into.

use super::model::*;
use super::{condition, phase, states};
use crate::Object;

/// A pod of the API server.
fn of_api(policy: &str, apps: Vec<k8s_openapi::api::core::v1::Container>) -> k8s_openapi::api::core::v1::Pod {
    let mut pod = pod(policy, vec![], apps);
    let source = ("kubernetes.io/config.source".to_owned(), crate::pod::API.to_owned());
    pod.metadata.annotations = Some([source].into());
    pod
}

fn asking(name: &str, cpu: &str) -> k8s_openapi::api::core::v1::Container {
    let cpu = [("cpu".to_owned(), k8s_openapi::apimachinery::pkg::api::resource::Quantity(cpu.into()))];
    let resources = k8s_openapi::api::core::v1::ResourceRequirements {
        requests: Some(cpu.clone().into()),
        limits: Some(cpu.into()),
        ..Default::default()
    };
    k8s_openapi::api::core::v1::Container { resources: Some(resources), ..container(name) }
}

#[test]
fn pods_of_the_api_server_are_refused() {
    let mut model = Model::new();
    model.add("u1", of_api("Always", vec![asking("a", "600m")]));
    model.settle();
    let mut big = of_api("Always", vec![asking("a", "500m")]);
    big.metadata.name = Some("q".into());
    model.add("u", big);
    model.take();
    model.settle();
    for room in [false, true] {
        if room {
            model.end("u1");
            model.settle();
        }
        let status = model.status();
        assert_eq!((status.phase.as_deref(), status.reason.as_deref()), (Some("Failed"), Some("OutOfcpu")));
        assert_eq!(
            status.message.as_deref(),
            Some(
                "Pod was rejected: Node didn't have enough resource: cpu, requested: 500, used: 600, capacity: 1000"
            )
        );
        assert!(status.container_statuses.is_none());
    }
    assert!(model.take().iter().all(|word| !word.starts_with("create")));
    model.end("u");
    model.settle();
    assert!(model.desired.pods.is_empty());
}

#[test]
fn sysctls_of_the_api_server_are_checked() {
    let refused = |name: &str, host_network: bool, allowed: &str| {
        let mut pod = of_api("Always", vec![container("a")]);
        let spec = pod.spec.as_mut().unwrap();
        let sysctl = k8s_openapi::api::core::v1::Sysctl { name: name.into(), value: "1".into() };
        spec.host_network = Some(host_network);
        spec.security_context.get_or_insert_default().sysctls = Some(vec![sysctl]);
        let mut model = Model::with(pod);
        model.observed.node.unsafe_sysctls = vec![allowed.into()];
        model.settle();
        let status = model.status();
        status.reason.map(|reason| format!("{reason}: {}", status.message.unwrap())).unwrap_or_default()
    };
    assert_eq!(refused("net.ipv4.tcp_syncookies", false, ""), "");
    assert_eq!(
        refused("kernel.msgmax", false, ""),
        "SysctlForbidden: Pod was rejected: forbidden sysctl: \"kernel.msgmax\" not allowlisted"
    );
    assert_eq!(refused("kernel.msgmax", false, "kernel.msg*"), "");
    assert_eq!(
        refused("net/ipv4/tcp_syncookies", true, ""),
        "SysctlForbidden: Pod was rejected: forbidden sysctl: \"net.ipv4.tcp_syncookies\" not allowed with host Net enabled"
    );
}

#[test]
fn volumes_follow_what_they_are_made_from() {
    let mut model = Model::with(pod("Always", vec![], vec![container("a")]));
    model.settle();
    model.take();
    let later = crate::time::seconds_later(model.now, 60);
    model.seen("u").volumes_due = Some(later);
    assert_eq!(model.plan().wake_at, Some(later));
    model.pass(60);
    model.faults.push(Object::Volumes);
    model.settle();
    assert_eq!(states(&mut model), "a=run+", "nothing waits for an update");
    model.pass(1);
    model.settle();
    model.change("u", |pod| pod.metadata.labels = Some([("a".to_owned(), "b".to_owned())].into()));
    model.settle();
    assert_eq!(model.take(), ["update volumes"; 3]);
}

#[test]
fn another_image_takes_a_new_container() {
    let mut model = Model::with(of_api("Never", vec![container("a"), container("b")]));
    model.settle();
    for container in &mut model.seen("u").containers {
        container.made_of = Some("i:1".into());
    }
    model.exit("b", 0);
    model.settle();
    model.take();
    model.change("u", |pod| {
        let containers = &mut pod.spec.as_mut().unwrap().containers;
        containers.iter_mut().for_each(|container| container.image = Some("i:2".into()));
    });
    for action in model.plan().actions {
        model.apply(action);
    }
    assert_eq!(states(&mut model), "a=ContainerCreating b=exit 0", "one that will run again has not ended");
    model.settle();
    assert_eq!(model.take().last_chunk(), Some(&["create a 1", "start a"].map(String::from)));
    assert_eq!(states(&mut model), "a=run+ b=exit 0", "what has ended has for ever");
    model.exit("a", 0);
    model.settle();
    assert_eq!(phase(&mut model), "Succeeded");
}

#[test]
fn resources_change_while_a_pod_runs() {
    let mut model = Model::with(of_api("Always", vec![asking("a", "200m")]));
    model.settle();
    model.take();
    let cpu = |model: &mut Model| {
        let status = model.status().container_statuses.unwrap().remove(0);
        status.resources.unwrap().limits.unwrap()["cpu"].0.clone()
    };
    for (wanted, has, pending) in [
        ("2", "200m", "Infeasible: Node didn't have enough capacity: cpu, requested: 2000, capacity: 1000"),
        ("800m", "800m", ""),
        ("100m", "100m", ""),
    ] {
        model.change("u", |pod| pod.spec.as_mut().unwrap().containers = vec![asking("a", wanted)]);
        model.settle();
        assert_eq!(cpu(&mut model), has);
        let conditions = model.status().conditions.unwrap();
        let found = conditions.iter().find(|c| c.type_ == "PodResizePending");
        let text = found.map(|c| format!("{}: {}", c.reason.clone().unwrap(), c.message.clone().unwrap()));
        assert_eq!(text.unwrap_or_default(), pending);
    }
    assert_eq!(model.take(), ["update volumes", "resize a", "update volumes", "resize a"]);
    let mut other = of_api("Always", vec![asking("a", "700m")]);
    other.metadata.name = Some("q".into());
    model.add("v", other);
    model.settle();
    model.change("u", |pod| pod.spec.as_mut().unwrap().containers = vec![asking("a", "500m")]);
    assert_eq!(condition(&mut model, "PodResizePending"), "True Deferred");
    model.end("v");
    model.settle();
    assert_eq!(cpu(&mut model), "500m", "what was put off is granted when there is room");
}

#[test]
fn a_resize_may_take_a_restart() {
    let mut spec = asking("a", "200m");
    let policy = k8s_openapi::api::core::v1::ContainerResizePolicy {
        resource_name: "cpu".into(),
        restart_policy: "RestartContainer".into(),
    };
    spec.resize_policy = Some(vec![policy]);
    let mut model = Model::with(of_api("Always", vec![spec.clone()]));
    model.settle();
    model.take();
    spec.resources = asking("a", "300m").resources;
    model.change("u", |pod| pod.spec.as_mut().unwrap().containers = vec![spec]);
    model.settle();
    assert_eq!(model.take(), ["update volumes", "stop a 30s", "create a 1", "start a"]);
}

#[test]
fn an_ephemeral_container_runs_once() {
    let mut model = Model::with(of_api("Always", vec![container("a")]));
    model.settle();
    model.take();
    let debugger = k8s_openapi::api::core::v1::EphemeralContainer {
        name: "e".into(),
        image: Some("i:1".into()),
        ..Default::default()
    };
    model.change("u", |pod| pod.spec.as_mut().unwrap().ephemeral_containers = Some(vec![debugger]));
    model.settle();
    assert_eq!(model.take(), ["create e 0", "start e"]);
    model.exit("e", 1);
    model.settle();
    let status = model.status();
    let ephemeral = &status.ephemeral_container_statuses.as_ref().unwrap()[0];
    assert_eq!(ephemeral.state.as_ref().unwrap().terminated.as_ref().unwrap().exit_code, 1);
    assert_eq!(condition(&mut model, "Ready"), "True");
    model.seen("u").containers.retain(|c| c.name != "e");
    model.settle();
    assert_eq!(model.take(), [""; 0], "not even when its record is gone");
}

#[test]
fn who_takes_too_much_is_evicted() {
    let mut model = Model::with(of_api("Always", vec![container("a")]));
    model.settle();
    model.take();
    let evicted = (model.now, "Usage of EmptyDir volume \"v\" exceeds the limit \"1Mi\". ".to_owned());
    model.seen("u").evicted = Some(evicted);
    model.settle();
    assert_eq!(model.take(), ["stop a 2s", "stop sandbox", "no volumes"]);
    model.seen("u").evicted = None;
    let status = model.status();
    assert_eq!((status.phase.as_deref(), status.reason.as_deref()), (Some("Failed"), Some("Evicted")));
    assert_eq!(status.pod_ip.as_deref(), Some("10.0.0.9"), "it stays told");
}
