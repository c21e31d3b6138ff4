//! The annotation that kubectl's client-side apply keeps its configuration in, and the way from there to apply by the
//! server: only for the manager `kubectl`.

use proto_kube::object::{LAST_APPLIED, annotations};
use serde_json::Value;

use super::Write;
use super::ownership::Conflicts;
use crate::fields::Set;

/// The manager whose annotation it is.
pub(super) const KUBECTL: &str = "kubectl";
/// How many bytes all annotations of an object may have.
const MOST_ANNOTATIONS: usize = 256 << 10;

fn last_applied(object: &Value) -> Option<&str> {
    annotations(object).find(|(name, text)| *name == LAST_APPLIED && !text.is_empty()).map(|(_, text)| text)
}

impl Write<'_> {
    /// The conflicts about other fields than those that client-side apply set and that nobody changed since.
    pub(super) fn not_from_last_applied(&self, live: &Value, conflicts: &Conflicts) -> Option<Conflicts> {
        let version = self.kind.api_version();
        let applied: Value = serde_json::from_str(last_applied(live)?).ok()?;
        if applied.get("apiVersion").and_then(Value::as_str) != Some(&version) {
            return None;
        }
        let typed = self.typed(&version);
        typed.check(&applied).ok()?;
        let diff = typed.compare(&applied, live);
        let allowed: Set = typed
            .extract(&applied)
            .difference(&diff.modified)
            .difference(&diff.added)
            .difference(&diff.removed);
        let rest = conflicts.iter().map(|(key, set)| (key.clone(), set.difference(&allowed)));
        Some(rest.filter(|(_, set)| !set.is_empty()).collect())
    }
}

/// Keeps the annotation of an object that has one in step with what was applied.
pub(super) fn sync(object: &mut Value, config: &Value) {
    if last_applied(object).is_none() {
        return;
    }
    let text = print(config);
    let Some(annotations) = object["metadata"]["annotations"].as_object_mut() else { return };
    annotations.insert(LAST_APPLIED.to_owned(), text.into());
    let size: usize =
        annotations.iter().map(|(name, text)| name.len() + text.as_str().map_or(0, str::len)).sum();
    if size > MOST_ANNOTATIONS {
        annotations.remove(LAST_APPLIED);
    }
}

/// A configuration as the annotation has it: without itself, with `<`, `>` and `&` escaped, and a line feed.
fn print(config: &Value) -> String {
    let mut config = config.clone();
    let annotations = config.get_mut("metadata").and_then(|m| m.get_mut("annotations"));
    if let Some(annotations) = annotations.and_then(Value::as_object_mut) {
        annotations.remove(LAST_APPLIED);
    }
    let mut text = config.to_string().replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026");
    text.push('\n');
    text
}
