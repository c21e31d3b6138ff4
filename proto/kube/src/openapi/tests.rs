//! The documents hold together, and have what clients look for.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::Gvk;
use crate::schema::table;
use crate::wire::varint::{Fields, Payload};

/// All documents of version 3.
fn documents() -> impl Iterator<Item = (&'static str, Value)> {
    hashes().keys().map(|path| (path.as_str(), serde_json::from_slice(&v3(path).unwrap()).unwrap()))
}

fn references<'v>(value: &'v Value, found: &mut BTreeSet<&'v str>) {
    match value {
        Value::Object(members) => {
            found.extend(members.get("$ref").and_then(Value::as_str));
            members.values().for_each(|v| references(v, found));
        }
        Value::Array(items) => items.iter().for_each(|v| references(v, found)),
        _ => {}
    }
}

#[test]
fn the_index_tells_each_group_version_with_its_hash() {
    let index: Value = serde_json::from_slice(&index()).unwrap();
    let core = index["paths"]["api/v1"]["serverRelativeURL"].as_str().unwrap();
    assert_eq!(core, format!("/openapi/v3/api/v1?hash={}", v3_hash("api/v1").unwrap()));
    let expected: BTreeSet<_> = resource::all().iter().map(place).collect();
    let told: BTreeSet<_> = index["paths"].as_object().unwrap().keys().cloned().collect();
    assert_eq!(told, expected);
    assert_eq!(v3("api/v9"), None);
    assert_eq!(v3_hash("version"), None);
}

#[test]
fn every_reference_leads_somewhere() {
    for (path, document) in documents() {
        let mut found = BTreeSet::new();
        references(&document, &mut found);
        let schemas = document["components"]["schemas"].as_object().unwrap();
        for reference in found {
            let name = reference.strip_prefix("#/components/schemas/").unwrap();
            assert!(schemas.contains_key(name), "{path}: {reference}");
        }
    }
    let v2: Value = serde_json::from_slice(&v2()).unwrap();
    let mut found = BTreeSet::new();
    references(&v2, &mut found);
    for reference in found {
        let name = reference.strip_prefix("#/definitions/").unwrap();
        assert!(v2["definitions"].get(name).is_some(), "{reference}");
    }
}

/// kubectl looks for the parameter `fieldValidation` at the patch of a kind, and for the patch's media types.
#[test]
fn every_kept_kind_can_be_patched_with_validation() {
    let documents: BTreeMap<_, _> = documents().collect();
    for resource in resource::all().iter().filter(|r| r.prefix().is_some()) {
        let document = &documents[place(resource).as_str()];
        let gvk = resource.gvk();
        let mut patches = document["paths"].as_object().unwrap().values().map(|item| &item["patch"]);
        let is_of = |patch: &&Value| {
            let kind = &patch["x-kubernetes-group-version-kind"];
            kind["group"] == gvk.group && kind["version"] == gvk.version && kind["kind"] == gvk.kind
        };
        let patch = patches.find(is_of).unwrap_or_else(|| panic!("{gvk}"));
        let names: Vec<_> =
            patch["parameters"].as_array().unwrap().iter().filter_map(|p| p["name"].as_str()).collect();
        assert_eq!(names, ["dryRun", "fieldManager", "fieldValidation", "force"], "{gvk}");
        let forms = &patch["requestBody"]["content"];
        assert!(forms.get("application/apply-patch+yaml").is_some(), "{gvk}");
        assert!(forms.get("application/strategic-merge-patch+json").is_some(), "{gvk}");
        let name = schemas::name_of(&gvk).unwrap();
        let kinds = &document["components"]["schemas"][name]["x-kubernetes-group-version-kind"];
        assert_eq!(kinds[0]["kind"], gvk.kind, "{gvk}");
    }
}

#[test]
fn schemas_tell_types_and_how_to_merge() {
    let document: Value = serde_json::from_slice(&v3("apis/apps/v1").unwrap()).unwrap();
    let schemas = &document["components"]["schemas"];
    let property = |of: &str, name: &str| schemas[of]["properties"][name].clone();
    let reference = |name: &str| json!({ "$ref": format!("#/components/schemas/{name}") });
    for (of, name, expected) in [
        ("io.k8s.api.apps.v1.DeploymentSpec", "replicas", json!({"type": "integer", "format": "int32"})),
        (
            "io.k8s.api.apps.v1.DeploymentSpec",
            "strategy",
            json!({"allOf": [reference("io.k8s.api.apps.v1.DeploymentStrategy")], "x-kubernetes-patch-strategy": "retainKeys"}),
        ),
        (
            "io.k8s.api.core.v1.Container",
            "ports",
            json!({
                "type": "array", "items": reference("io.k8s.api.core.v1.ContainerPort"),
                "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["containerPort", "protocol"],
                "x-kubernetes-patch-strategy": "merge", "x-kubernetes-patch-merge-key": "containerPort",
            }),
        ),
        (
            "io.k8s.api.core.v1.ContainerPort",
            "protocol",
            json!({"type": "string", "default": "TCP", "enum": ["TCP", "UDP", "SCTP"]}),
        ),
        (
            "io.k8s.api.core.v1.ResourceRequirements",
            "limits",
            json!({"type": "object", "additionalProperties": reference("io.k8s.apimachinery.pkg.api.resource.Quantity")}),
        ),
    ] {
        assert_eq!(property(of, name), expected, "{of}.{name}");
    }
    assert_eq!(schemas["io.k8s.api.apps.v1.DeploymentSpec"]["required"], json!(["selector", "template"]));
}

#[test]
fn operations_have_names_of_their_own() {
    let v2: Value = serde_json::from_slice(&v2()).unwrap();
    let mut names = BTreeSet::new();
    for (path, item) in v2["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap().iter().filter(|(m, _)| *m != "parameters") {
            let name = operation["operationId"].as_str().unwrap();
            assert!(names.insert(name.to_owned()), "{method} {path}: {name}");
        }
    }
    for name in [
        "listCoreV1PodForAllNamespaces",
        "createAppsV1NamespacedDeployment",
        "deleteRbacAuthorizationV1CollectionNamespacedRole",
        "readCoreV1NamespacedPodLog",
        "connectCoreV1PostNamespacedPodExec",
        "patchAppsV1NamespacedDeploymentScale",
    ] {
        assert!(names.contains(name), "{name}");
    }
}

/// The bytes with a tag in a message.
fn within(message: &[u8], wanted: u32) -> Vec<&[u8]> {
    Fields(message)
        .map(|field| field.expect("a message"))
        .filter_map(|(tag, payload)| match payload {
            Payload::Bytes(bytes) if tag == wanted => Some(bytes),
            _ => None,
        })
        .collect()
}

#[test]
fn both_forms_of_version_2_tell_the_same() {
    let json: Value = serde_json::from_slice(&v2()).unwrap();
    let bytes = v2_protobuf();
    let named = |path: [u32; 2]| -> BTreeMap<String, Vec<u8>> {
        let all = within(&bytes, path[0]).into_iter().flat_map(|m| within(m, path[1]));
        let pair = |pair: &[u8]| {
            let name = String::from_utf8(within(pair, 1)[0].to_vec()).unwrap();
            (name, within(pair, 2)[0].to_vec())
        };
        all.map(pair).collect()
    };
    let (paths, definitions) = (named([8, 2]), named([9, 1]));
    assert!(paths.keys().eq(json["paths"].as_object().unwrap().keys()));
    assert!(definitions.keys().eq(json["definitions"].as_object().unwrap().keys()));
    let pod = &definitions[table().of(table().kind(&Gvk::new("v1", "Pod")).unwrap()).name];
    let properties: Vec<_> =
        within(within(pod, 25)[0], 1).into_iter().map(|pair| within(pair, 1)[0]).collect();
    assert_eq!(properties, [&b"apiVersion"[..], b"kind", b"metadata", b"spec", b"status"]);
    let extension = within(pod, 31)[0];
    assert_eq!(within(extension, 1)[0], b"x-kubernetes-group-version-kind");
    assert_eq!(
        within(within(extension, 2)[0], 2)[0],
        b"[{\"group\":\"\",\"kind\":\"Pod\",\"version\":\"v1\"}]\n"
    );
    let patch = within(&paths["/api/v1/namespaces/{namespace}/pods/{name}"], 8)[0];
    // ParametersItem, Parameter, NonBodyParameter, QueryParameterSubSchema.
    let query = within(patch, 8).into_iter().flat_map(|p| within(p, 1)).flat_map(|p| within(p, 2));
    let names: Vec<_> = query.flat_map(|p| within(p, 3)).map(|p| within(p, 4)[0]).collect();
    assert_eq!(names, [&b"dryRun"[..], b"fieldManager", b"fieldValidation", b"force"]);
}
