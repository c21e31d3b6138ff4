//! Payloads from objects, by example.

use std::sync::Arc;

use serde_json::{Value, json};

use super::*;
use crate::data::{Reference, Unread};
use crate::observed::Node;

fn data(entries: &[(&str, &str)]) -> Arc<Data> {
    let data = entries.iter().map(|(k, v)| ((*k).to_owned(), v.as_bytes().to_vec())).collect();
    Arc::new(Data { data, ..Data::default() })
}

fn objects() -> Objects {
    let maps = [("m", data(&[("a", "1"), ("b", "2")])), ("n", data(&[("a", "3")]))];
    let mut all: BTreeMap<_, _> =
        maps.into_iter().map(|(name, data)| (Reference::new(Kind::ConfigMap, name), Ok(data))).collect();
    all.insert(Reference::new(Kind::Secret, "s"), Ok(data(&[("key", "hush")])));
    all.insert(Reference::new(Kind::ConfigMap, "none"), Err(Unread::NotFound));
    all.insert(Reference::new(Kind::Secret, "none"), Err(Unread::NotFound));
    all.insert(Reference::new(Kind::Secret, "unknown"), Err(Unread::Unknown("no answer".into())));
    Objects(all)
}

/// `path=content:mode` of each file, or what is wrong.
fn check(volume: Value, security: Value) -> String {
    let pod = json!({"metadata": {"name": "p", "namespace": "d", "labels": {"l": "v"}},
        "spec": {"containers": [{"name": "c"}], "securityContext": security}});
    let pod: Pod = serde_json::from_value(pod).unwrap();
    let mut volume = volume;
    volume["name"] = "v".into();
    let volume: Volume = serde_json::from_value(volume).unwrap();
    let token = |audience: &str| TokenRequest { audience: audience.into(), seconds: 3600 };
    let tokens =
        Tokens::from([(token(""), Ok("jwt".into())), (token("x"), Err("failed to fetch token: no".into()))]);
    let node = Node::default();
    let facts = Facts { pod: &pod, uid: "u", pod_ips: &[], node: &node };
    match payload(&facts, Sources { objects: &objects(), tokens: &tokens }, &volume) {
        Ok(files) => files
            .iter()
            .map(|(path, f)| format!("{path}={}:{:o}", String::from_utf8_lossy(&f.data), f.mode))
            .collect::<Vec<_>>()
            .join(" "),
        Err(problem) => format!("{problem}{}", if problem.passing() { " (passing)" } else { "" }),
    }
}

#[test]
fn config_maps_and_secrets() {
    for (volume, files) in [
        (json!({"configMap": {"name": "m"}}), "a=1:644 b=2:644"),
        (json!({"configMap": {"name": "m", "defaultMode": 0o400}}), "a=1:400 b=2:400"),
        (
            json!({"configMap": {"name": "m", "items": [{"key": "b", "path": "x/y", "mode": 0o440}]}}),
            "x/y=2:440",
        ),
        (
            json!({"configMap": {"name": "m", "items": [{"key": "z", "path": "z"}]}}),
            "configmap references non-existent config key: z",
        ),
        (json!({"configMap": {"name": "m", "optional": true, "items": [{"key": "z", "path": "z"}]}}), ""),
        (json!({"configMap": {"name": "none"}}), "configmap \"none\" not found"),
        (json!({"configMap": {"name": "none", "optional": true}}), ""),
        (json!({"secret": {"secretName": "s"}}), "key=hush:644"),
        (json!({"secret": {"secretName": "none"}}), "secret \"none\" not found"),
        (json!({"secret": {"secretName": "unknown", "optional": true}}), "no answer (passing)"),
        (
            json!({"secret": {"secretName": "s", "items": [{"key": "z", "path": "z"}]}}),
            "references non-existent secret key: z",
        ),
        (
            json!({"downwardAPI": {"items": [{"path": "l", "fieldRef": {"fieldPath": "metadata.labels"}}]}}),
            "l=l=\"v\":644",
        ),
    ] {
        assert_eq!(check(volume.clone(), Value::Null), files, "{volume}");
    }
}

#[test]
fn projections_are_laid_over_each_other() {
    let projected = |sources: Value| json!({"projected": {"sources": sources, "defaultMode": 0o600}});
    let (m, n) = (json!({"configMap": {"name": "m"}}), json!({"configMap": {"name": "n"}}));
    assert_eq!(check(projected(json!([m, n])), Value::Null), "a=3:600 b=2:600");
    let token = |audience: &str| json!({"serviceAccountToken": {"path": "token", "audience": audience}});
    assert_eq!(check(projected(json!([token("")])), Value::Null), "token=jwt:600");
    assert_eq!(
        check(projected(json!([token("x")])), Value::Null),
        "failed to fetch token: no (passing)",
        "a token that cannot be had may be had later"
    );
    let none = json!({"secret": {"name": "none"}});
    assert_eq!(
        check(projected(json!([none, {"configMap": {"name": "none"}}])), Value::Null),
        "[secret \"none\" not found, configmap \"none\" not found]"
    );
    let bundle = json!({"clusterTrustBundle": {"name": "b", "path": "b"}});
    assert_eq!(
        check(projected(json!([bundle])), Value::Null),
        "clusterTrustBundle is not supported by this node"
    );
    // The volume's mode gives way where a user or a group is to read the token.
    let open = json!({"projected": {"sources": [token("")]}});
    assert_eq!(check(open.clone(), Value::Null), "token=jwt:644");
    assert_eq!(check(open.clone(), json!({"fsGroup": 5})), "token=jwt:600");
    assert_eq!(check(open, json!({"runAsUser": 7})), "token=jwt:600");
}
