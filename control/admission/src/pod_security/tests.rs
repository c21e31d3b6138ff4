//! Each check in upstream's words, the modes, and namespaces that change.

use serde_json::{Value, json};

use super::policy::{Level, Mode};
use super::*;
use crate::tests::{Ask, Cluster, pod};

/// A pod that keeps all rules, as of any version.
fn good() -> Value {
    let mut pod = pod("p");
    pod["spec"]["securityContext"] =
        json!({"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}});
    pod["spec"]["containers"][0]["securityContext"] =
        json!({"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}});
    pod
}

/// A pod changed at a path, and what is said of it.
type Case = (&'static str, Value, &'static str);

/// The good pod with one value set: in the container's security context, in the pod's, or anywhere else.
fn with(path: &str, value: Value) -> Value {
    let mut pod = good();
    let mut at = &mut pod;
    let full = match path.split_once(':') {
        Some(("container", member)) => format!("spec.containers.0.securityContext.{member}"),
        Some((_, member)) => format!("spec.securityContext.{member}"),
        None => path.to_owned(),
    };
    for step in full.split('.') {
        at = match step.parse::<usize>() {
            Ok(index) => &mut at[index],
            Err(_) => &mut at[step],
        };
    }
    *at = value;
    pod
}

fn says(level: Level, minor: Option<u32>, pod: &Value) -> String {
    violation(&Pod::new(pod), Mode { level, version: minor }).unwrap_or_default()
}

#[rustfmt::skip]
fn baseline_cases() -> Vec<Case> {
    let probe = json!([{"name": "a", "livenessProbe": {"httpGet": {"host": "h"}}, "lifecycle": {"preStop": {"tcpSocket": {"host": "g"}}}}]);
    let annotation = json!({"container.apparmor.security.beta.kubernetes.io/c": "unconfined"});
    vec![
        ("spec.nodeName", json!("n"), ""),
        ("spec.hostNetwork", json!(true), "host namespaces (hostNetwork=true)"),
        ("spec.hostIPC", json!(true), "host namespaces (hostIPC=true)"),
        ("spec.volumes", json!([{"name": "v", "hostPath": {}}, {"name": "w", "hostPath": {}}]), "hostPath volumes (volumes \"v\", \"w\")"),
        ("spec.containers", json!([{"name": "a", "ports": [{"hostPort": 80}]}, {"name": "b", "ports": [{"hostPort": 443}]}]), "hostPort (containers \"a\", \"b\" use hostPorts 443, 80)"),
        ("spec.initContainers", json!([{"name": "i", "ports": [{"hostPort": 80}, {"containerPort": 1}]}]), "hostPort (container \"i\" uses hostPort 80)"),
        ("spec.containers", probe, "probe or lifecycle host (container \"a\" uses probe or lifecycle hosts \"g\", \"h\")"),
        ("container:privileged", json!(true), "privileged (container \"c\" must not set securityContext.privileged=true)"),
        ("container:procMount", json!("Unmasked"), "procMount (container \"c\" must not set securityContext.procMount to \"Unmasked\")"),
        ("container:capabilities", json!({"add": ["SYS_ADMIN", "CHOWN", "NET_RAW"]}), "non-default capabilities (container \"c\" must not include \"NET_RAW\", \"SYS_ADMIN\" in securityContext.capabilities.add)"),
        ("pod:appArmorProfile", json!({"type": "Unconfined"}), "forbidden AppArmor profile (pod must not set AppArmor profile type to \"Unconfined\")"),
        ("metadata.annotations", annotation, "forbidden AppArmor profile (annotation must not set AppArmor profile type to \"container.apparmor.security.beta.kubernetes.io/c=\"unconfined\"\")"),
        ("pod:seLinuxOptions", json!({"type": "spc_t", "user": "u"}), "seLinuxOptions (pod set forbidden securityContext.seLinuxOptions: type \"spc_t\"; user may not be set)"),
        ("container:seLinuxOptions", json!({"type": "container_engine_t", "role": "r"}), "seLinuxOptions (container \"c\" set forbidden securityContext.seLinuxOptions: role may not be set)"),
        ("container:seccompProfile", json!({"type": "Unconfined"}), "seccompProfile (container \"c\" must not set securityContext.seccompProfile.type to \"Unconfined\")"),
        ("pod:sysctls", json!([{"name": "net.ipv4.tcp_rmem"}, {"name": "kernel.msgmax"}]), "forbidden sysctls (kernel.msgmax)"),
        ("pod:windowsOptions", json!({"hostProcess": true}), "hostProcess (pod must not set securityContext.windowsOptions.hostProcess=true)"),
    ]
}

#[rustfmt::skip]
fn restricted_cases() -> Vec<Case> {
    vec![
        ("spec.nodeName", json!("n"), ""),
        ("container:allowPrivilegeEscalation", json!(null), "allowPrivilegeEscalation != false (container \"c\" must set securityContext.allowPrivilegeEscalation=false)"),
        ("container:capabilities", json!({"add": ["NET_BIND_SERVICE", "CHOWN"]}), "unrestricted capabilities (container \"c\" must set securityContext.capabilities.drop=[\"ALL\"]; container \"c\" must not include \"CHOWN\" in securityContext.capabilities.add)"),
        ("spec.volumes", json!([{"name": "v", "hostPath": {}}, {"name": "n", "nfs": {}}, {"name": "e", "emptyDir": {}}]), "restricted volume types (volumes \"v\", \"n\" use restricted volume types \"hostPath\", \"nfs\")"),
        ("pod:runAsNonRoot", json!(false), "runAsNonRoot != true (pod must not set securityContext.runAsNonRoot=false)"),
        ("pod:runAsNonRoot", json!(null), "runAsNonRoot != true (pod or container \"c\" must set securityContext.runAsNonRoot=true)"),
        ("pod:runAsUser", json!(0), "runAsUser=0 (pod must not set runAsUser=0)"),
        ("pod:seccompProfile", json!(null), "seccompProfile (pod or container \"c\" must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\")"),
        ("container:seccompProfile", json!({"type": "Unconfined"}), "seccompProfile (container \"c\" must not set securityContext.seccompProfile.type to \"Unconfined\")"),
        ("container:procMount", json!("Unmasked"), "procMount (container \"c\" must not set securityContext.procMount to \"Unmasked\")"),
    ]
}

#[test]
fn each_rule_is_told_in_upstreams_words() {
    for (level, cases) in [(Level::Baseline, baseline_cases()), (Level::Restricted, restricted_cases())] {
        for (path, value, expected) in cases {
            assert_eq!(says(level, None, &with(path, value)), expected, "{path}");
        }
    }
    assert_eq!(
        says(Level::Restricted, None, &pod("p")),
        "allowPrivilegeEscalation != false (container \"c\" must set securityContext.allowPrivilegeEscalation=false), unrestricted capabilities (container \"c\" must set securityContext.capabilities.drop=[\"ALL\"]), runAsNonRoot != true (pod or container \"c\" must set securityContext.runAsNonRoot=true), seccompProfile (pod or container \"c\" must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\")"
    );
}

#[test]
fn versions_differ() {
    let mut own_users = with("container:procMount", json!("Unmasked"));
    own_users["spec"]["hostUsers"] = false.into();
    own_users["spec"]["securityContext"]["runAsUser"] = 0.into();
    own_users["spec"]["securityContext"]["runAsNonRoot"] = Value::Null;
    let sysctl = |name: &str| with("pod:sysctls", json!([{"name": name}]));
    let adding = |capability: &str| with("container:capabilities", json!({"add": [capability]}));
    let mut windows = pod("p");
    windows["spec"]["os"] = json!({"name": "windows"});
    windows["spec"]["securityContext"] = json!({"runAsNonRoot": true});
    for (level, minor, pod, allowed) in [
        (Level::Baseline, 34, own_users.clone(), false),
        (Level::Baseline, 35, own_users.clone(), true),
        (Level::Restricted, 35, own_users, false),
        (Level::Baseline, 36, sysctl("net.ipv4.tcp_notsent_lowat"), false),
        (Level::Baseline, 37, sysctl("net.ipv4.tcp_notsent_lowat"), true),
        (Level::Baseline, 99, sysctl("net.ipv4.tcp_notsent_lowat"), true),
        (Level::Baseline, 28, sysctl("net.ipv4.tcp_fin_timeout"), false),
        (Level::Baseline, 30, with("container:seLinuxOptions", json!({"type": "container_engine_t"})), false),
        (Level::Restricted, 7, with("container:allowPrivilegeEscalation", json!(true)), true),
        (Level::Restricted, 21, adding("CHOWN"), true),
        (Level::Restricted, 21, adding("NET_RAW"), false),
        (Level::Restricted, 22, with("pod:runAsUser", json!(0)), true),
        (Level::Restricted, 18, with("pod:seccompProfile", json!(null)), true),
        (Level::Restricted, 24, windows.clone(), false),
        (Level::Restricted, 25, windows, true),
        (Level::Privileged, 37, with("spec.hostPID", json!(true)), true),
    ] {
        let found = says(level, Some(minor), &pod);
        assert_eq!(found.is_empty(), allowed, "{level:?} {minor} {found}");
    }
}

fn labelled(labels: Value) -> Value {
    let labels: serde_json::Map<_, _> = labels
        .as_object()
        .unwrap()
        .iter()
        .map(|(key, value)| (format!("pod-security.kubernetes.io/{key}"), value.clone()))
        .collect();
    json!({"metadata": {"name": "ns", "labels": labels}, "status": {"phase": "Active"}})
}

fn cluster(labels: Value) -> Cluster {
    Cluster::usual().and("", "namespaces", labelled(labels))
}

#[test]
fn modes_refuse_warn_and_record() {
    let mut bad = good();
    bad["spec"]["hostPID"] = true.into();
    let create = Ask::create("", "pods");
    let refused = create.through(&bad, &cluster(json!({"enforce": "baseline"}))).unwrap_err();
    assert_eq!((refused.code, refused.reason), (403, "Forbidden"));
    assert_eq!(
        refused.message,
        "pods \"p\" is forbidden: violates PodSecurity \"baseline:latest\": host namespaces (hostPID=true)"
    );

    let told = create
        .through(&bad, &cluster(json!({"warn": "restricted", "warn-version": "v1.30", "audit": "baseline"})))
        .unwrap();
    assert_eq!(
        told.warnings,
        ["would violate PodSecurity \"restricted:v1.30\": host namespaces (hostPID=true)"]
    );
    assert_eq!(
        told.audit,
        [
            ("pod-security.kubernetes.io/enforce-policy".to_owned(), "privileged:latest".to_owned()),
            (
                "pod-security.kubernetes.io/audit-violations".to_owned(),
                "would violate PodSecurity \"baseline:latest\": host namespaces (hostPID=true)".to_owned()
            ),
        ]
    );
    let mut deployment =
        json!({"metadata": {"name": "d", "namespace": "ns"}, "spec": {"template": bad.clone()}});
    let told = Ask::create("apps", "deployments")
        .through(&deployment, &cluster(json!({"enforce": "baseline"})))
        .unwrap();
    assert_eq!(
        told.warnings,
        ["would violate PodSecurity \"baseline:latest\": host namespaces (hostPID=true)"]
    );
    deployment["spec"] = json!({"jobTemplate": {"spec": {"template": bad.clone()}}});
    let told = Ask::create("batch", "cronjobs")
        .through(&deployment, &cluster(json!({"enforce": "baseline"})))
        .unwrap();
    assert_eq!(told.warnings.len(), 1);

    let strict = cluster(json!({"enforce": "baseline"}));
    let mut image = bad.clone();
    assert_eq!(
        Ask::update("", "pods", bad.clone()).refusal(&image, &strict),
        "",
        "nothing that matters changed"
    );
    image["spec"]["containers"][0]["image"] = "other".into();
    assert_ne!(Ask::update("", "pods", bad.clone()).refusal(&image, &strict), "");
    let mut debug = good();
    debug["spec"]["ephemeralContainers"] = json!([{"name": "d", "securityContext": {"privileged": true}}]);
    assert_ne!(
        Ask::update("", "pods", good()).sub("ephemeralcontainers").through(&debug, &strict).err(),
        None
    );
    assert_eq!(Ask::update("", "pods", good()).sub("status").through(&debug, &strict).err(), None);
}

#[test]
fn a_namespace_has_right_labels_and_hears_of_its_pods() {
    let wrong = labelled(json!({"enforce": "strict", "warn-version": "1"}));
    let refused = Ask::create("", "namespaces").through(&wrong, &Cluster::default()).unwrap_err();
    assert_eq!(refused.code, 422);
    assert_eq!(
        refused.message,
        "Namespace \"ns\" is invalid: [metadata.labels[pod-security.kubernetes.io/enforce]: Invalid value: \"strict\": must be one of privileged, baseline, restricted, metadata.labels[pod-security.kubernetes.io/warn-version]: Invalid value: \"1\": must be \"latest\" or \"v1.x\"]"
    );
    assert!(Ask::update("", "namespaces", wrong.clone()).through(&wrong, &Cluster::default()).is_ok());
    assert!(Ask::update("", "namespaces", labelled(json!({}))).through(&wrong, &Cluster::default()).is_err());

    let owned = |name: &str, owner: &str| {
        let mut pod = pod(name);
        pod["spec"]["hostPID"] = true.into();
        pod["metadata"]["ownerReferences"] = json!([{"uid": owner, "controller": true}]);
        pod
    };
    let cluster = cluster(json!({})).and("", "pods", owned("b", "x")).and("", "pods", owned("a", "x")).and(
        "",
        "pods",
        pod("plain"),
    );
    let ask = |old| Ask::update("", "namespaces", labelled(old));
    let warned = |old, new| ask(old).through(&labelled(new), &cluster).unwrap().warnings;
    assert_eq!(
        warned(json!({}), json!({"enforce": "baseline"})),
        [
            "existing pods in namespace \"ns\" violate the new PodSecurity enforce level \"baseline:latest\"",
            "a (and 1 other pod): host namespaces",
        ]
    );
    assert_eq!(warned(json!({"enforce": "restricted"}), json!({"enforce": "baseline"})), [""; 0]);
    assert_eq!(warned(json!({}), json!({"enforce": "privileged"})), [""; 0]);
    assert_eq!(warned(json!({"enforce": "baseline"}), json!({"enforce": "restricted"})).len(), 3);
}
