//! The table as it is checked in.

use super::*;

fn of(name: &str) -> &'static Type {
    table().of(table().named(name).unwrap())
}

fn field(name: &str, field: &str) -> &'static Field {
    of(name).field(field).unwrap()
}

#[test]
fn every_served_kind_has_a_type_and_a_list() {
    for resource in crate::resource::all() {
        let gvk = resource.gvk();
        let id = table().kind(&gvk).unwrap_or_else(|| panic!("{gvk}"));
        assert_eq!(table().of(id).short(), gvk.kind);
        if resource.storage != crate::resource::Storage::Answered {
            let list = Gvk { kind: format!("{}List", gvk.kind), ..gvk.clone() };
            assert!(table().kind(&list).is_some(), "{list}");
        }
        for body in resource.subresources.iter().map(|s| s.body) {
            let options = body.2.is_empty() || body.2.ends_with("Options");
            let body = Gvk { group: body.0.into(), version: body.1.into(), kind: body.2.into() };
            assert!(options || table().kind(&body).is_some(), "{body}");
        }
    }
}

#[test]
fn types_and_fields_are_found_by_name() {
    for (id, kind) in table().types() {
        assert_eq!(table().named(kind.name), Some(id));
        assert!(kind.fields.len() <= 128, "more than the decoder can tick off");
        for field in &kind.fields {
            assert_eq!(kind.field(field.name).map(|f| f.name), Some(field.name), "{}", kind.name);
        }
    }
    assert_eq!(table().named("io.k8s.api.core.v1.Nothing"), None);
    assert!(of("io.k8s.api.core.v1.Pod").field("status2").is_none());
}

#[test]
fn no_two_fields_share_a_place_in_the_wire_form() {
    for (_, kind) in table().types() {
        let mut places: Vec<_> = kind.fields.iter().map(|f| &f.tags).filter(|t| !t.is_empty()).collect();
        let all = places.len();
        places.sort();
        places.dedup();
        assert_eq!(places.len(), all, "{}", kind.name);
    }
}

#[test]
fn fields_are_as_published() {
    let spec = "io.k8s.api.core.v1.PodSpec";
    assert_eq!(field(spec, "hostNetwork").presence, Presence::Value);
    assert_eq!(*field(spec, "hostNetwork").tags, [11]);
    let volumes = field(spec, "volumes");
    let merge = Strategy { merge: true, retain_keys: true, key: Some("name") };
    assert_eq!(volumes.strategy, Some(merge));
    assert_eq!(volumes.topology, Topology::Keyed(["name"].into()));
    assert!(field(spec, "containers").required);
    assert_eq!(*field(spec, "restartPolicy").one_of, ["Always", "OnFailure", "Never"]);
    assert_eq!(*field("io.k8s.api.core.v1.Volume", "emptyDir").tags, [2, 2]);
    assert_eq!(*field("io.k8s.api.core.v1.Probe", "exec").tags, [1, 1]);
    assert_eq!(field("io.k8s.api.core.v1.ServicePort", "protocol").default, Some("TCP".into()));
    assert_eq!(field("io.k8s.api.apps.v1.DeploymentSpec", "replicas").presence, Presence::Pointer);
    assert_eq!(field("io.k8s.api.core.v1.Secret", "data").shape, Shape::Map(Box::new(Shape::Bytes)));
    assert!(of("io.k8s.api.core.v1.SecretKeySelector").atomic);
    assert_eq!(field("io.k8s.api.core.v1.ServiceSpec", "selector").topology, Topology::Atomic);
}

#[test]
fn an_empty_pod_is_as_upstream_writes_it() {
    let pod = table().empty(table().kind(&Gvk::new("v1", "Pod")).unwrap());
    assert_eq!(Value::Object(pod), serde_json::json!({ "metadata": {}, "spec": {}, "status": {} }));
}
