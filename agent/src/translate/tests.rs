//! From spec to CRI, field by field.

use serde_json::{Value, json};

use super::*;

fn pod(spec: Value) -> Pod {
    let mut spec = spec;
    if spec.get("containers").is_none() {
        spec["containers"] = json!([{"name": "c", "image": "i:1"}]);
    }
    crate::decode::pod(
        json!({"metadata": {"name": "p.x-n", "namespace": "d", "labels": {"app": "web"}}, "spec": spec}),
    )
    .unwrap()
}

fn parts() -> SandboxParts {
    SandboxParts {
        uid: "u".into(),
        attempt: 2,
        node_name: "n".into(),
        log_directory: "/logs/d_p_u".into(),
        cgroup_parent: "/kubepods/besteffort/podu".into(),
        hostname: "host".into(),
        dns: cri::DnsConfig::default(),
    }
}

fn of_sandbox(spec: Value) -> cri::PodSandboxConfig {
    sandbox(&pod(spec), &parts())
}

fn of_container(container_spec: Value, pod_spec: Value) -> cri::ContainerConfig {
    let mut spec = pod_spec;
    let mut own = json!({"name": "c", "image": "i:1"});
    own.as_object_mut().unwrap().extend(container_spec.as_object().unwrap().clone());
    spec["containers"] = json!([own]);
    let pod = pod(spec);
    let parts = ContainerParts {
        sandbox: parts(),
        attempt: 3,
        crashes: 1,
        image: "sha256:1".into(),
        environment: vec![("A".into(), "1".into())],
        mounts: Vec::new(),
        target: String::new(),
        node_memory_bytes: 4 << 30,
    };
    container(&pod, &pod::containers(&pod)[0], &parts)
}

fn security(container: Value, pod: Value) -> cri::LinuxContainerSecurityContext {
    let config = of_container(json!({"securityContext": container}), json!({"securityContext": pod}));
    config.linux.unwrap().security_context.unwrap()
}

#[test]
fn names_and_labels() {
    let config = of_sandbox(json!({}));
    let metadata = config.metadata.unwrap();
    assert_eq!((metadata.name.as_str(), metadata.uid.as_str(), metadata.attempt), ("p.x-n", "u", 2));
    assert_eq!(config.hostname, "host");
    assert_eq!(config.labels["app"], "web");
    assert_eq!(config.labels[labels::POD_UID], "u");
    assert_eq!(config.labels[labels::NODE], "n");
    assert_eq!(config.annotations[labels::POD_GRACE], "30");
    assert_eq!(config.linux.unwrap().cgroup_parent, "/kubepods/besteffort/podu");
    assert_eq!(of_sandbox(json!({"hostNetwork": true})).hostname, "", "the host's");
}

#[test]
fn namespaces_of_pods() {
    use cri::NamespaceMode::{Container, Node, Pod};
    for (spec, network, pid, ipc) in [
        (json!({}), Pod, Container, Pod),
        (json!({"hostNetwork": true}), Node, Container, Pod),
        (json!({"hostPID": true, "hostIPC": true}), Pod, Node, Node),
        (json!({"shareProcessNamespace": true}), Pod, Pod, Pod),
    ] {
        let options =
            of_sandbox(spec.clone()).linux.unwrap().security_context.unwrap().namespace_options.unwrap();
        assert_eq!((options.network(), options.pid(), options.ipc()), (network, pid, ipc), "{spec}");
    }
}

#[test]
fn ports_and_sysctls() {
    let ports = json!([{"containerPort": 80, "hostPort": 8080, "hostIP": "127.0.0.1"}, {"containerPort": 53, "protocol": "UDP"}]);
    let containers = json!([{"name": "c", "image": "i", "ports": ports}]);
    let config = of_sandbox(json!({"containers": containers}));
    let mapped: Vec<_> = config
        .port_mappings
        .iter()
        .map(|p| (p.protocol(), p.container_port, p.host_port, p.host_ip.as_str()))
        .collect();
    assert_eq!(mapped, [(cri::Protocol::Tcp, 80, 8080, "127.0.0.1"), (cri::Protocol::Udp, 53, 0, "")]);
    assert!(of_sandbox(json!({"containers": containers, "hostNetwork": true})).port_mappings.is_empty());
    let sysctls = json!([{"name": "net/ipv4/tcp_syncookies", "value": "0"}]);
    let linux = of_sandbox(json!({"securityContext": {"sysctls": sysctls}})).linux.unwrap();
    assert_eq!(linux.sysctls["net.ipv4.tcp_syncookies"], "0");
}

#[test]
fn commands_and_paths() {
    let spec = json!({"command": ["run", "$(A)"], "args": ["$$(A)", "$(B)"], "workingDir": "/w", "tty": true, "stdin": true});
    let config = of_container(spec, json!({}));
    assert_eq!(
        (config.command, config.args),
        (vec!["run".into(), "1".into()], vec!["$(A)".into(), "$(B)".to_owned()])
    );
    assert_eq!(config.log_path, "c/3.log");
    assert_eq!(
        (config.working_dir.as_str(), config.tty, config.stdin, config.stdin_once),
        ("/w", true, true, false)
    );
    assert_eq!(config.metadata.unwrap().attempt, 3);
    assert_eq!(config.annotations[labels::CRASHES], "1");
    assert_eq!(config.annotations[labels::IMAGE], "i:1");
    let image = config.image.unwrap();
    assert_eq!((image.image.as_str(), image.user_specified_image.as_str()), ("sha256:1", "i:1"));
}

#[test]
fn resources_of_containers() {
    let limits =
        json!({"resources": {"limits": {"cpu": "500m", "memory": "64Mi"}, "requests": {"cpu": "250m"}}});
    let resources = of_container(limits, json!({})).linux.unwrap().resources.unwrap();
    assert_eq!((resources.cpu_period, resources.cpu_quota, resources.cpu_shares), (100_000, 50_000, 256));
    assert_eq!((resources.memory_limit_in_bytes, resources.oom_score_adj), (64 << 20, 985));
}

#[test]
fn users_and_groups() {
    let own = security(
        json!({"runAsUser": 5}),
        json!({"runAsUser": 1, "runAsGroup": 2, "fsGroup": 3, "supplementalGroups": [4]}),
    );
    assert_eq!((own.run_as_user.unwrap().value, own.run_as_group.unwrap().value), (5, 2));
    assert_eq!(own.supplemental_groups, [4, 3]);
    assert_eq!(security(json!({}), json!({})).run_as_user, None);
}

#[test]
fn privileges() {
    let plain = security(json!({}), json!({}));
    assert!(!plain.privileged && !plain.no_new_privs && !plain.readonly_rootfs);
    assert!(
        plain.masked_paths.contains(&"/proc/kcore".to_owned())
            && plain.readonly_paths.contains(&"/proc/sys".to_owned())
    );
    let privileged = security(json!({"privileged": true}), json!({}));
    assert!(
        privileged.privileged && privileged.masked_paths.is_empty() && privileged.readonly_paths.is_empty()
    );
    let tight = security(
        json!({"allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": {"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]}}),
        json!({}),
    );
    assert!(tight.no_new_privs && tight.readonly_rootfs);
    let capabilities = tight.capabilities.unwrap();
    assert_eq!(
        (capabilities.drop_capabilities, capabilities.add_capabilities),
        (vec!["ALL".into()], vec!["NET_BIND_SERVICE".to_owned()])
    );
}

#[test]
fn seccomp_is_on_unless_asked_off() {
    use cri::security_profile::ProfileType::{Localhost, RuntimeDefault, Unconfined};
    let profile = |kind: &str| json!({"seccompProfile": {"type": kind, "localhostProfile": (kind == "Localhost").then_some("a.json")}});
    for (container, pod, expected) in [
        (json!({}), json!({}), RuntimeDefault),
        (json!({}), profile("Unconfined"), Unconfined),
        (profile("RuntimeDefault"), profile("Unconfined"), RuntimeDefault),
        (profile("Localhost"), json!({}), Localhost),
        (json!({"privileged": true}), json!({}), Unconfined),
    ] {
        let seccomp = security(container.clone(), pod.clone()).seccomp.unwrap();
        assert_eq!(seccomp.profile_type(), expected, "{container} {pod}");
        assert_eq!(seccomp.localhost_ref, if expected == Localhost { "a.json" } else { "" });
    }
}
