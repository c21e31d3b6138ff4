//! Expansion and the downward API.

use super::*;
use k8s_openapi::api::core::v1::{EnvVarSource, PodSpec, ResourceRequirements, SecretKeySelector};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

fn pod() -> Pod {
    let resources = ResourceRequirements {
        limits: Some([("cpu".to_owned(), Quantity("1500m".into()))].into()),
        requests: Some([("memory".to_owned(), Quantity("64Mi".into()))].into()),
        ..ResourceRequirements::default()
    };
    let container = Spec { name: "web".into(), resources: Some(resources), ..Spec::default() };
    Pod {
        metadata: ObjectMeta {
            name: Some("p".into()),
            namespace: Some("ns".into()),
            labels: Some([("app".to_owned(), "x\"y".to_owned())].into()),
            ..ObjectMeta::default()
        },
        spec: Some(PodSpec { containers: vec![container], ..PodSpec::default() }),
        status: None,
    }
}

fn node() -> Node {
    Node {
        name: "n1".into(),
        ips: vec!["10.0.0.1".parse().unwrap(), "fd00::1".parse().unwrap()],
        cpu_millis: 2000,
        memory_bytes: 1 << 30,
        ..Node::default()
    }
}

fn check(vars: Vec<EnvVar>) -> Result<Vec<(String, String)>, EnvProblem> {
    let (pod, node) = (pod(), node());
    let ips = ["10.1.0.2".to_owned(), "fd01::2".to_owned()];
    let facts = Facts { pod: &pod, uid: "u", pod_ips: &ips, node: &node };
    let spec = Spec { env: Some(vars), ..pod::containers(&pod)[0].clone() };
    variables(&facts, &spec)
}

fn literal(name: &str, value: &str) -> EnvVar {
    EnvVar { name: name.into(), value: Some(value.into()), value_from: None }
}

fn of_field(path: &str) -> EnvVar {
    let field_ref = Some(ObjectFieldSelector { api_version: None, field_path: path.into() });
    let value_from = Some(EnvVarSource { field_ref, ..EnvVarSource::default() });
    EnvVar { name: "F".into(), value: None, value_from }
}

fn of_resource(resource: &str, divisor: Option<&str>) -> EnvVar {
    let resource_field_ref = Some(ResourceFieldSelector {
        container_name: None,
        divisor: divisor.map(|d| Quantity(d.into())),
        resource: resource.into(),
    });
    let value_from = Some(EnvVarSource { resource_field_ref, ..EnvVarSource::default() });
    EnvVar { name: "R".into(), value: None, value_from }
}

#[test]
fn expansion() {
    let value = |name: &str| (name == "A").then(|| "1".to_owned());
    for (text, expanded) in [
        ("", ""),
        ("x", "x"),
        ("$(A)", "1"),
        ("a$(A)b$(A)", "a1b1"),
        ("$(B)", "$(B)"),
        ("$$(A)", "$(A)"),
        ("$$$(A)", "$1"),
        ("$$", "$"),
        ("$A", "$A"),
        ("$", "$"),
        ("$(A", "$(A"),
        ("a$", "a$"),
        ("$()", "$()"),
    ] {
        assert_eq!(expand(text, value), expanded, "{text}");
    }
}

#[test]
fn variables_see_those_before_them() {
    let vars = vec![literal("B", "$(A)"), literal("A", "1"), literal("C", "$(A)$(B)"), literal("A", "2")];
    let got = check(vars).unwrap();
    let expected = [("B", "$(A)"), ("A", "2"), ("C", "1$(A)")];
    assert_eq!(got, expected.map(|(k, v)| (k.to_owned(), v.to_owned())));
}

#[test]
fn downward_fields() {
    for (path, text) in [
        ("metadata.name", "p"),
        ("metadata.namespace", "ns"),
        ("metadata.uid", "u"),
        ("metadata.labels['app']", "x\"y"),
        ("metadata.labels['none']", ""),
        ("metadata.labels", "app=\"x\\\"y\""),
        ("spec.nodeName", "n1"),
        ("status.hostIP", "10.0.0.1"),
        ("status.hostIPs", "10.0.0.1,fd00::1"),
        ("status.podIP", "10.1.0.2"),
        ("status.podIPs", "10.1.0.2,fd01::2"),
    ] {
        assert_eq!(check(vec![of_field(path)]).unwrap()[0].1, text, "{path}");
    }
    assert_eq!(check(vec![of_field("spec.x")]), Err(EnvProblem::Field("spec.x".into())));
}

#[test]
fn downward_resources() {
    for (resource, divisor, text) in [
        ("limits.cpu", None, "2"),
        ("limits.cpu", Some("1m"), "1500"),
        ("limits.memory", None, "1073741824"),
        ("requests.memory", Some("1Mi"), "64"),
        ("requests.cpu", Some("1m"), "1500"),
        ("limits.ephemeral-storage", None, "0"),
    ] {
        assert_eq!(check(vec![of_resource(resource, divisor)]).unwrap()[0].1, text, "{resource}");
    }
    assert!(matches!(check(vec![of_resource("limits.gpu", None)]), Err(EnvProblem::Resource(_))));
}

#[test]
fn sources_that_need_an_api_server_are_refused() {
    let selector = SecretKeySelector { key: "k".into(), name: "s".into(), optional: None };
    let value_from = Some(EnvVarSource { secret_key_ref: Some(selector), ..EnvVarSource::default() });
    let problem = check(vec![EnvVar { name: "S".into(), value: None, value_from }]).unwrap_err();
    assert!(problem.to_string().contains("\"S\" comes from secretKeyRef"), "{problem}");
}
