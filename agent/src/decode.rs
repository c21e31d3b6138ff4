//! Pods from JSON and to JSON. Decoding is compiled here and nowhere else: the typed decoder is large.

use k8s_openapi::api::core::v1::{Pod, PodStatus};
use serde_json::Value;

/// Why a document is no pod.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotAPod {
    /// A field has a value of another type.
    #[error("{field}: {what}")]
    Type {
        /// Its path.
        field: String,
        /// What the decoder says.
        what: String,
    },
    /// Fields that pods do not have.
    #[error("unknown field {}", list(.0))]
    Unknown(Vec<String>),
}

fn list(fields: &[String]) -> String {
    fields.iter().map(|f| format!("{f:?}")).collect::<Vec<_>>().join(", ")
}

/// Decodes a pod strictly: an unknown field is an error.
pub(crate) fn pod(value: Value) -> Result<Pod, NotAPod> {
    let mut unknown = Vec::new();
    let pod = lenient(value, &mut |path| unknown.push(path))?;
    if unknown.is_empty() { Ok(pod) } else { Err(NotAPod::Unknown(unknown)) }
}

/// Decodes a pod that was encoded by us, perhaps by another version.
pub(crate) fn own_pod(value: Value) -> Result<Pod, NotAPod> {
    lenient(value, &mut |_| {})
}

fn lenient(value: Value, unknown: &mut dyn FnMut(String)) -> Result<Pod, NotAPod> {
    let mut track = serde_path_to_error::Track::new();
    let tracked = serde_path_to_error::Deserializer::new(value, &mut track);
    let mut note = |path: serde_ignored::Path<'_>| unknown(brackets(&path.to_string()));
    let result: Result<Pod, _> = serde_ignored::deserialize(tracked, &mut note);
    result.map_err(|error| NotAPod::Type {
        field: brackets(&track.path().to_string()),
        what: error.to_string(),
    })
}

/// `spec.containers.0.name` as Kubernetes writes it: `spec.containers[0].name`.
fn brackets(path: &str) -> String {
    let mut out = String::new();
    for part in path.split('.').filter(|part| *part != "?") {
        if !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()) {
            out.push('[');
            out.push_str(part);
            out.push(']');
        } else {
            if !out.is_empty() {
                out.push('.');
            }
            out.push_str(part);
        }
    }
    out
}

/// Encodes a pod with this status.
pub(crate) fn value(pod: &Pod, status: Option<PodStatus>) -> Value {
    let pod = Pod { status, ..pod.clone() };
    serde_json::to_value(pod).unwrap_or(Value::Null)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(value: Value) -> String {
        pod(value).map_or_else(|e| e.to_string(), |_| "ok".into())
    }

    #[test]
    fn strict() {
        let with =
            |container: Value| json!({"kind": "Pod", "spec": {"containers": [{"name": "a"}, container]}});
        assert_eq!(check(with(json!({"name": "b"}))), "ok");
        assert_eq!(
            check(with(json!({"name": "b", "imge": "x"}))),
            "unknown field \"spec.containers[1].imge\""
        );
        assert_eq!(
            check(with(json!({"name": "b", "ports": [{"containerPort": "x"}]}))),
            "spec.containers[1].ports[0].containerPort: invalid type: string \"x\", expected i32"
        );
        assert_eq!(
            check(json!({"spec": {"containers": 1}})),
            "spec.containers: invalid type: integer `1`, expected a sequence"
        );
        let two = json!({"metadata": {"nam": "x"}, "spec": {"containers": [], "hostNetwrk": true}});
        assert_eq!(check(two), "unknown field \"metadata.nam\", \"spec.hostNetwrk\"");
    }

    #[test]
    fn round_trip() {
        let value_in = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"},
            "spec": {"containers": [{"name": "c", "image": "i"}]}, "status": {"phase": "Running"}});
        let pod = pod(value_in.clone()).unwrap();
        assert_eq!(value(&pod, pod.status.clone()), value_in);
    }
}
