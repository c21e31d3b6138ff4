//! Each mistake and its wording.

use super::*;
use k8s_openapi::api::core::v1::*;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

fn container(name: &str) -> Container {
    Container { name: name.into(), image: Some("i".into()), ..Container::default() }
}

/// A good pod, spoilt.
fn check(spoil: impl FnOnce(&mut Pod)) -> Vec<String> {
    let metadata = ObjectMeta { name: Some("p".into()), ..ObjectMeta::default() };
    let spec = PodSpec { containers: vec![container("a")], ..PodSpec::default() };
    let mut pod = Pod { metadata, spec: Some(spec), status: None };
    spoil(&mut pod);
    static_pod(&pod).iter().map(ToString::to_string).collect()
}

fn spec(spoil: impl FnOnce(&mut PodSpec)) -> Vec<String> {
    check(|pod| spoil(pod.spec.as_mut().unwrap()))
}

fn first(spoil: impl FnOnce(&mut Container)) -> Vec<String> {
    spec(|spec| spoil(&mut spec.containers[0]))
}

#[track_caller]
fn says(found: Vec<String>, expected: &str) {
    assert!(found.len() == 1 && found[0].starts_with(expected), "{found:#?}\ninstead of {expected}");
}

#[test]
fn a_good_pod_is_good() {
    assert_eq!(check(|_| {}), [""; 0]);
}

#[test]
fn metadata() {
    says(check(|p| p.metadata.name = None), "metadata.name: Required value: name is required");
    says(
        check(|p| p.metadata.name = Some("My_Pod".into())),
        "metadata.name: Invalid value: \"My_Pod\": a lowercase RFC 1123 subdomain",
    );
    says(check(|p| p.metadata.name = Some("a".repeat(254))), "metadata.name: Invalid value");
    says(
        check(|p| p.metadata.namespace = Some("a.b".into())),
        "metadata.namespace: Invalid value: \"a.b\": must not contain dots",
    );
    let labels = |key: &str, value: &str| Some([(key.to_owned(), value.to_owned())].into());
    says(
        check(|p| p.metadata.labels = labels("a b", "c")),
        "metadata.labels: Invalid value: \"a b\": name part must",
    );
    says(
        check(|p| p.metadata.labels = labels("a", "-")),
        "metadata.labels: Invalid value: \"-\": a valid label must",
    );
    assert_eq!(check(|p| p.metadata.labels = labels("example.com/A_b", "")), [""; 0]);
    says(check(|p| p.spec = None), "spec: Required value");
}

#[test]
fn names_and_images() {
    says(spec(|s| s.containers.clear()), "spec.containers: Required value");
    says(spec(|s| s.containers.push(container("a"))), "spec.containers[1].name: Duplicate value: \"a\"");
    says(
        spec(|s| s.init_containers = Some(vec![container("a")])),
        "spec.containers[0].name: Duplicate value: \"a\"",
    );
    says(first(|c| c.name = "A".into()), "spec.containers[0].name: Invalid value: \"A\"");
    says(first(|c| c.name.clear()), "spec.containers[0].name: Required value");
    says(first(|c| c.image = None), "spec.containers[0].image: Required value: name the image to run");
    says(
        first(|c| c.image_pull_policy = Some("Often".into())),
        "spec.containers[0].imagePullPolicy: Unsupported value: \"Often\": supported values: \"Always\", \"IfNotPresent\", \"Never\"",
    );
    says(
        spec(|s| s.restart_policy = Some("Maybe".into())),
        "spec.restartPolicy: Unsupported value: \"Maybe\"",
    );
}

#[test]
fn ports() {
    let port = |container_port, host_port: Option<i32>| ContainerPort {
        container_port,
        host_port,
        ..Default::default()
    };
    for number in [0, -1, 65536, 70000] {
        let expected = format!(
            "spec.containers[0].ports[0].containerPort: Invalid value: {number}: must be between 1 and 65535, inclusive"
        );
        says(first(|c| c.ports = Some(vec![port(number, None)])), &expected);
    }
    says(
        first(|c| c.ports = Some(vec![port(80, Some(99999))])),
        "spec.containers[0].ports[0].hostPort: Invalid value: 99999",
    );
    says(
        first(|c| c.ports = Some(vec![port(80, Some(1)), port(81, Some(1))])),
        "spec.containers[0].ports[1].hostPort: Duplicate value: \"TCP//1\"",
    );
    let udp = ContainerPort { protocol: Some("UDP".into()), ..port(80, Some(1)) };
    assert_eq!(first(|c| c.ports = Some(vec![port(80, Some(1)), udp])), [""; 0]);
    let named = |name: &str| ContainerPort { name: Some(name.into()), ..port(80, None) };
    says(
        first(|c| c.ports = Some(vec![named("web"), named("web")])),
        "spec.containers[0].ports[1].name: Duplicate value: \"web\"",
    );
    for name in ["WEB", "80", "a--b", "-a", "waytoolongforaport"] {
        assert!(!first(|c| c.ports = Some(vec![named(name)])).is_empty(), "{name}");
    }
    says(
        spec(|s| {
            s.host_network = Some(true);
            s.containers[0].ports = Some(vec![port(80, Some(81))]);
        }),
        "spec.containers[0].ports[0].hostPort: Invalid value: 81: must match `containerPort`",
    );
}

#[test]
fn environment() {
    let var = |name: &str| EnvVar { name: name.into(), value: Some("v".into()), value_from: None };
    for good in ["A", "a.b-c", "1x", "a b"] {
        assert_eq!(first(|c| c.env = Some(vec![var(good)])), [""; 0], "{good}");
    }
    for bad in ["", "a=b", "ä", "a\n"] {
        assert_eq!(first(|c| c.env = Some(vec![var(bad)])).len(), 1, "{bad}");
    }
    let from = |from: EnvVarSource| vec![EnvVar { name: "A".into(), value: None, value_from: Some(from) }];
    let secret = EnvVarSource { secret_key_ref: Some(SecretKeySelector::default()), ..Default::default() };
    says(
        first(|c| c.env = Some(from(secret))),
        "spec.containers[0].env[0].valueFrom.secretKeyRef: Forbidden: static pods may not reference API objects: write the value",
    );
    let field = |path: &str| {
        let field_ref = Some(ObjectFieldSelector { api_version: None, field_path: path.into() });
        EnvVarSource { field_ref, ..Default::default() }
    };
    says(
        first(|c| c.env = Some(from(field("status.phase")))),
        "spec.containers[0].env[0].valueFrom.fieldRef.fieldPath: Unsupported value: \"status.phase\"",
    );
    assert_eq!(first(|c| c.env = Some(from(field("metadata.labels['a']")))), [""; 0]);
    let map = EnvFromSource { config_map_ref: Some(Default::default()), ..Default::default() };
    says(first(|c| c.env_from = Some(vec![map])), "spec.containers[0].envFrom[0].configMapRef: Forbidden");
}

#[test]
fn volumes_and_mounts() {
    let volume =
        |name: &str| Volume { name: name.into(), empty_dir: Some(Default::default()), ..Default::default() };
    let mount = |name: &str, path: &str| VolumeMount {
        name: name.into(),
        mount_path: path.into(),
        ..Default::default()
    };
    says(
        first(|c| c.volume_mounts = Some(vec![mount("v", "/v")])),
        "spec.containers[0].volumeMounts[0].name: Invalid value: \"v\": not found in spec.volumes, which has []",
    );
    let with = |spoil: &dyn Fn(&mut Volume, &mut VolumeMount)| {
        let (mut volume, mut mount) = (volume("v"), mount("v", "/v"));
        spoil(&mut volume, &mut mount);
        spec(|s| {
            s.volumes = Some(vec![volume]);
            s.containers[0].volume_mounts = Some(vec![mount]);
        })
    };
    assert_eq!(with(&|_, _| {}), [""; 0]);
    says(with(&|v, _| v.empty_dir = None), "spec.volumes[0]: Required value: must specify a volume type");
    says(
        with(&|v, _| v.host_path = Some(Default::default())),
        "spec.volumes[0]: Forbidden: may not specify more than 1",
    );
    says(
        with(&|v, _| v.secret = Some(Default::default())),
        "spec.volumes[0].secret: Forbidden: static pods may not reference API objects",
    );
    says(
        with(&|v, _| v.empty_dir.as_mut().unwrap().size_limit = Some(Quantity("1x".into()))),
        "spec.volumes[0].emptyDir.sizeLimit: Invalid value: \"1x\": quantities must match",
    );
    let host = |path: &str, kind: &str| HostPathVolumeSource { path: path.into(), type_: Some(kind.into()) };
    let swap = |source: HostPathVolumeSource| {
        move |v: &mut Volume, _: &mut VolumeMount| (v.empty_dir, v.host_path) = (None, Some(source.clone()))
    };
    assert_eq!(with(&swap(host("/x", "Directory"))), [""; 0]);
    says(with(&swap(host("/x", "Dir"))), "spec.volumes[0].hostPath.type: Unsupported value: \"Dir\"");
    says(
        with(&swap(host("/x/../y", ""))),
        "spec.volumes[0].hostPath.path: Invalid value: \"/x/../y\": must not contain '..'",
    );
    says(with(&|_, m| m.mount_path.clear()), "spec.containers[0].volumeMounts[0].mountPath: Required value");
    says(
        with(&|_, m| m.sub_path = Some("a/../../b".into())),
        "spec.containers[0].volumeMounts[0].subPath: Invalid value: \"a/../../b\": must not contain '..'",
    );
    says(
        with(&|_, m| m.sub_path = Some("/a".into())),
        "spec.containers[0].volumeMounts[0].subPath: Invalid value: \"/a\": must be a relative path",
    );
    says(
        with(&|_, m| m.mount_propagation = Some("Bidirectional".into())),
        "spec.containers[0].volumeMounts[0].mountPropagation: Forbidden",
    );
}

#[test]
fn resources() {
    let list = |name: &str, text: &str| Some([(name.to_owned(), Quantity(text.into()))].into());
    let with = |requests, limits| {
        let resources = ResourceRequirements { requests, limits, ..Default::default() };
        first(|c| c.resources = Some(resources))
    };
    assert_eq!(with(list("cpu", "100m"), list("cpu", "1")), [""; 0]);
    says(
        with(list("cpu", "2"), list("cpu", "1")),
        "spec.containers[0].resources.requests[cpu]: Invalid value: \"2\": must be less than or equal to cpu limit of 1000m",
    );
    says(
        with(None, list("memory", "-1")),
        "spec.containers[0].resources.limits[memory]: Invalid value: \"-1\": must be greater than or equal to 0",
    );
    says(
        with(None, list("memory", "1 Gi")),
        "spec.containers[0].resources.limits[memory]: Invalid value: \"1 Gi\": quantities must match",
    );
    says(
        with(None, list("example.com/gpu", "1")),
        "spec.containers[0].resources.limits[example.com/gpu]: Unsupported value: \"example.com/gpu\"",
    );
}

#[test]
fn probes_and_hooks() {
    let probe = || Probe {
        tcp_socket: Some(TCPSocketAction { host: None, port: IntOrString::Int(80) }),
        ..Default::default()
    };
    let live = |spoil: &dyn Fn(&mut Probe)| {
        let mut probe = probe();
        spoil(&mut probe);
        first(|c| c.liveness_probe = Some(probe))
    };
    assert_eq!(live(&|_| {}), [""; 0]);
    says(
        live(&|p| p.tcp_socket = None),
        "spec.containers[0].livenessProbe: Required value: must specify a handler type",
    );
    says(
        live(&|p| p.exec = Some(ExecAction { command: Some(vec!["x".into()]) })),
        "spec.containers[0].livenessProbe: Forbidden: may not specify more than 1",
    );
    says(
        live(&|p| p.success_threshold = Some(2)),
        "spec.containers[0].livenessProbe.successThreshold: Invalid value: 2: must be 1",
    );
    says(
        live(&|p| p.period_seconds = Some(-1)),
        "spec.containers[0].livenessProbe.periodSeconds: Invalid value: -1: must be greater than or equal to 1",
    );
    says(
        live(&|p| p.tcp_socket.as_mut().unwrap().port = IntOrString::Int(0)),
        "spec.containers[0].livenessProbe.tcpSocket.port: Invalid value: 0",
    );
    says(
        spec(|s| {
            s.init_containers = Some(vec![Container { readiness_probe: Some(probe()), ..container("i") }])
        }),
        "spec.initContainers[0].readinessProbe: Forbidden: may not be set for init containers without restartPolicy=Always",
    );
    let sidecar =
        Container { readiness_probe: Some(probe()), restart_policy: Some("Always".into()), ..container("i") };
    assert_eq!(spec(|s| s.init_containers = Some(vec![sidecar])), [""; 0]);
    let hook =
        |handler| first(|c| c.lifecycle = Some(Lifecycle { pre_stop: Some(handler), ..Default::default() }));
    says(hook(LifecycleHandler::default()), "spec.containers[0].lifecycle.preStop: Required value");
    says(
        hook(LifecycleHandler { tcp_socket: probe().tcp_socket, ..Default::default() }),
        "spec.containers[0].lifecycle.preStop.tcpSocket: Forbidden",
    );
    says(
        hook(LifecycleHandler { exec: Some(ExecAction { command: None }), ..Default::default() }),
        "spec.containers[0].lifecycle.preStop.exec.command: Required value",
    );
    assert_eq!(
        hook(LifecycleHandler { sleep: Some(SleepAction { seconds: 0 }), ..Default::default() }),
        [""; 0]
    );
}

#[test]
fn what_this_node_lacks_is_named() {
    says(
        spec(|s| s.service_account_name = Some("x".into())),
        "spec.serviceAccountName: Forbidden: static pods may not reference serviceaccounts",
    );
    assert_eq!(spec(|s| s.service_account_name = Some("default".into())), [""; 0]);
    says(
        spec(|s| s.host_users = Some(false)),
        "spec.hostUsers: Forbidden: user namespaces are not supported",
    );
    says(spec(|s| s.image_pull_secrets = Some(vec![Default::default()])), "spec.imagePullSecrets: Forbidden");
    let sysctl = |name: &str| {
        Some(PodSecurityContext {
            sysctls: Some(vec![Sysctl { name: name.into(), value: "1".into() }]),
            ..Default::default()
        })
    };
    says(
        spec(|s| s.security_context = sysctl("kernel.msgmax")),
        "spec.securityContext.sysctls[0].name: Forbidden: unsafe sysctl",
    );
    assert_eq!(spec(|s| s.security_context = sysctl("net/ipv4/tcp_syncookies")), [""; 0]);
    says(spec(|s| s.dns_policy = Some("None".into())), "spec.dnsConfig.nameservers: Required value");
    let security = SecurityContext {
        allow_privilege_escalation: Some(false),
        privileged: Some(true),
        ..Default::default()
    };
    says(
        first(|c| c.security_context = Some(security)),
        "spec.containers[0].securityContext.allowPrivilegeEscalation: Invalid value: false",
    );
}

#[test]
fn all_problems_are_found() {
    let found = check(|p| {
        p.metadata.name = None;
        let spec = p.spec.as_mut().unwrap();
        spec.containers[0].image = None;
        spec.containers.push(container("a"));
    });
    assert_eq!(found.len(), 3);
}
