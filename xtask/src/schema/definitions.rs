//! The published JSON schema.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// `_definitions.json`.
pub(super) struct Definitions {
    json: Value,
}

/// Definitions that are a value of their own rather than an object with fields.
const SCALARS: &[(&str, &str)] = &[
    ("io.k8s.apimachinery.pkg.api.resource.Quantity", "quantity"),
    ("io.k8s.apimachinery.pkg.apis.meta.v1.FieldsV1", "raw"),
    ("io.k8s.apimachinery.pkg.apis.meta.v1.MicroTime", "microtime"),
    ("io.k8s.apimachinery.pkg.apis.meta.v1.Time", "time"),
    ("io.k8s.apimachinery.pkg.runtime.RawExtension", "raw"),
    ("io.k8s.apimachinery.pkg.util.intstr.IntOrString", "intorstring"),
];

impl Definitions {
    pub(super) fn read(folder: &Path) -> Result<Self> {
        let path = folder.join("kubernetes_validate/kubernetes-json-schema/v1.37.0-local/_definitions.json");
        let text = fs::read(&path).with_context(|| path.display().to_string())?;
        let mut json: Value = serde_json::from_slice(&text).context("_definitions.json")?;
        Ok(Self { json: json["$defs"].take() })
    }

    pub(super) fn of(&self, name: &str) -> Option<&Value> {
        self.json.get(name)
    }

    /// The name of which `short` is the end.
    pub(super) fn full(&self, short: &str) -> Option<&str> {
        let ends = |n: &&String| n.strip_suffix(short).is_some_and(|head| head.ends_with('.'));
        self.json.as_object()?.keys().find(ends).map(String::as_str)
    }

    /// The names of the definitions that are kinds.
    pub(super) fn kinds(&self) -> impl Iterator<Item = &str> {
        let all = self.json.as_object().into_iter().flatten();
        all.filter(|(_, d)| d["x-kubernetes-group-version-kind"].is_array()).map(|(n, _)| n.as_str())
    }

    /// A property as the table writes it.
    pub(super) fn shape(&self, property: &Value) -> Result<String> {
        if let Some(reference) = property["$ref"].as_str() {
            let name = reference.trim_start_matches("#/$defs/");
            let scalar = SCALARS.iter().find(|(n, _)| *n == name).map(|(_, s)| *s);
            return Ok(scalar.unwrap_or(name).to_owned());
        }
        let kind = match &property["type"] {
            Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).find(|k| *k != "null"),
            kind => kind.as_str(),
        };
        Ok(match (kind, property["format"].as_str()) {
            (Some("array"), _) => format!("[]{}", self.shape(&property["items"])?),
            (Some("object"), _) => format!("{{}}{}", self.shape(&property["additionalProperties"])?),
            (Some("string"), Some("byte")) => "bytes".to_owned(),
            (Some("string"), None) => "string".to_owned(),
            (Some("boolean"), None) => "bool".to_owned(),
            (Some("integer"), Some(format @ ("int32" | "int64"))) => format.to_owned(),
            (Some("number"), Some("double")) => "double".to_owned(),
            (kind, format) => bail!("a property of type {kind:?} and format {format:?}"),
        })
    }
}

/// The object type within a shape.
pub(super) fn reference(shape: &str) -> Option<&str> {
    let name = shape.trim_start_matches("[]").trim_start_matches("{}").trim_start_matches("[]");
    name.starts_with("io.").then_some(name)
}

/// `x-kubernetes-group-version-kind`, as `apps/v1/Deployment`.
pub(super) fn kinds_of(definition: &Value) -> Vec<String> {
    let all = definition["x-kubernetes-group-version-kind"].as_array().into_iter().flatten();
    all.map(|kind| {
        let text = |key: &str| kind[key].as_str().unwrap_or_default();
        let slash = if text("group").is_empty() { "" } else { "/" };
        format!("{}{slash}{}/{}", text("group"), text("version"), text("kind"))
    })
    .collect()
}
