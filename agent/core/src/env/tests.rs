//! Expansion and the downward API.

use super::*;
use k8s_openapi::api::core::v1::{EnvVarSource, PodSpec, ResourceRequirements};
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
        memory_bytes: 2 << 30,
        allocatable: [
            ("cpu".to_owned(), Amount::from_millis(2000)),
            ("memory".to_owned(), Amount::from_units(1 << 30)),
            ("ephemeral-storage".to_owned(), Amount::from_units(1 << 40)),
        ]
        .into(),
        ..Node::default()
    }
}

fn check(vars: Vec<EnvVar>) -> Result<Vec<(String, String)>, EnvProblem> {
    let (pod, node) = (pod(), node());
    let ips = ["10.1.0.2".to_owned(), "fd01::2".to_owned()];
    let facts = Facts { pod: &pod, uid: "u", pod_ips: &ips, node: &node };
    let spec = Spec { env: Some(vars), ..pod::containers(&pod)[0].clone() };
    variables(&facts, &Sources::default(), &spec)
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
        ("limits.ephemeral-storage", Some("1Gi"), "1024"),
        ("requests.memory", Some("1Mi"), "64"),
        ("requests.cpu", Some("1m"), "1500"),
        ("requests.ephemeral-storage", None, "0"),
    ] {
        assert_eq!(check(vec![of_resource(resource, divisor)]).unwrap()[0].1, text, "{resource}");
    }
    assert!(matches!(check(vec![of_resource("limits.gpu", None)]), Err(EnvProblem::Resource(_))));
}

/// `NAME=value` of each variable of a container, or what is wrong.
fn check_sources(spec: serde_json::Value) -> String {
    use crate::data::{Data, Reference, Unread};
    let map = |pairs: &[(&str, &str)]| {
        let data = pairs.iter().map(|(k, v)| ((*k).to_owned(), v.as_bytes().to_vec())).collect();
        Ok(std::sync::Arc::new(Data { data, ..Data::default() }))
    };
    let objects = Objects(BTreeMap::from([
        (Reference::new(Kind::ConfigMap, "m"), map(&[("A", "1"), ("B", "2")])),
        (Reference::new(Kind::Secret, "s"), map(&[("K", "hush")])),
        (Reference::new(Kind::ConfigMap, "none"), Err(Unread::NotFound)),
        (Reference::new(Kind::Secret, "slow"), Err(Unread::Unknown("no answer".into()))),
    ]));
    let services = vec![("A".to_owned(), "service".to_owned()), ("S_HOST".to_owned(), "ip".to_owned())];
    let files = [(("v".to_owned(), "env".to_owned()), Ok("X='file'".to_owned()))].into();
    let sources = Sources { objects, services, files };
    let (pod, node) = (pod(), node());
    let facts = Facts { pod: &pod, uid: "u", pod_ips: &[], node: &node };
    let mut spec = spec;
    spec["name"] = "c".into();
    match variables(&facts, &sources, &serde_json::from_value(spec).unwrap()) {
        Ok(all) => all.iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>().join(" "),
        Err(problem) => problem.to_string(),
    }
}

#[test]
fn sources() {
    use serde_json::json;
    let from = |source: serde_json::Value| json!({"env": [{"name": "V", "valueFrom": source}]});
    let key = |name: &str, key: &str, optional: bool| json!({"name": name, "key": key, "optional": optional});
    let services = "A=service S_HOST=ip";
    for (spec, expected) in [
        (json!({}), services.to_owned()),
        (from(json!({"configMapKeyRef": key("m", "B", false)})), format!("V=2 {services}")),
        (from(json!({"secretKeyRef": key("s", "K", false)})), format!("V=hush {services}")),
        (from(json!({"configMapKeyRef": key("m", "Z", true)})), services.to_owned()),
        (from(json!({"configMapKeyRef": key("none", "Z", true)})), services.to_owned()),
        (
            from(json!({"configMapKeyRef": key("m", "Z", false)})),
            "couldn't find key Z in ConfigMap ns/m".to_owned(),
        ),
        (
            from(json!({"configMapKeyRef": key("none", "Z", false)})),
            "configmap \"none\" not found".to_owned(),
        ),
        (from(json!({"secretKeyRef": key("slow", "K", true)})), "no answer".to_owned()),
        (
            from(json!({"fileKeyRef": {"volumeName": "v", "path": "env", "key": "X"}})),
            format!("V=file {services}"),
        ),
        (
            from(json!({"fileKeyRef": {"volumeName": "w", "path": "env", "key": "X"}})),
            "cannot find the volume \"w\" referenced by FileKeyRef".to_owned(),
        ),
        (
            json!({"envFrom": [{"configMapRef": {"name": "m"}}, {"prefix": "p.", "secretRef": {"name": "s"}}],
                "env": [{"name": "B", "value": "$(A)-$(p.K)-$(S_HOST)-$(no)"}]}),
            "A=1 B=1-hush-ip-$(no) p.K=hush S_HOST=ip".to_owned(),
        ),
        (json!({"envFrom": [{"configMapRef": {"name": "none", "optional": true}}]}), services.to_owned()),
        (json!({"envFrom": [{"configMapRef": {"name": "none"}}]}), "configmap \"none\" not found".to_owned()),
    ] {
        assert_eq!(check_sources(spec.clone()), expected, "{spec}");
    }
}
