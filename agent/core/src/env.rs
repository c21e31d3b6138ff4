//! The environment of a container, its command line, and what the downward API tells it.

mod file;

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Container as Spec, EnvFromSource, EnvVar, ObjectFieldSelector, Pod, ResourceFieldSelector,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use crate::data::{Kind, Missing, Objects};
use crate::observed::Node;
use crate::pod;
use crate::quantity::{Amount, amount};
use crate::resources;

/// What the downward API can tell beside the pod itself.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// The pod.
    pub pod: &'a Pod,
    /// Its uid.
    pub uid: &'a str,
    /// Its addresses.
    pub pod_ips: &'a [String],
    /// The node.
    pub node: &'a Node,
}

/// Where variables come from beside the pod itself.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// Config maps and secrets that the container refers to.
    pub objects: Objects,
    /// What [`crate::service::variables`] tells; a container's own variables hide them.
    pub services: Vec<(String, String)>,
    /// Contents of files by volume and path, for `fileKeyRef`; or why one cannot be read.
    pub files: BTreeMap<(String, String), Result<String, String>>,
}

/// Why an environment cannot be made: the container waits with `CreateContainerConfigError`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EnvProblem {
    /// A field that the downward API does not have.
    #[error(
        "fieldPath {0:?} is not one of metadata.name, metadata.namespace, metadata.uid, metadata.labels['KEY'], metadata.annotations['KEY'], spec.nodeName, spec.serviceAccountName, status.hostIP, status.hostIPs, status.podIP, status.podIPs"
    )]
    Field(String),
    /// A resource that the downward API does not have.
    #[error(
        "resource {0:?} is not one of limits.cpu, limits.memory, requests.cpu, requests.memory, limits.ephemeral-storage, requests.ephemeral-storage"
    )]
    Resource(String),
    /// A container that the pod does not have.
    #[error("container {0:?} of a resourceFieldRef is not in the pod")]
    Container(String),
    /// A config map or secret.
    #[error(transparent)]
    Missing(#[from] Missing),
    /// A key that has to be there is not.
    #[error("couldn't find key {key} in {kind} {object}")]
    Key {
        /// The key.
        key: String,
        /// `ConfigMap` or `Secret`.
        kind: &'static str,
        /// Namespace and name.
        object: String,
    },
    /// A file of variables.
    #[error("{0}")]
    File(String),
}

/// The variables of a container in the order in which they are set, the last of a name counting; at the end those that
/// tell of services, which come from no manifest and give way to all others.
///
/// # Errors
/// The first source that cannot be read.
pub fn variables(
    facts: &Facts<'_>,
    sources: &Sources,
    spec: &Spec,
) -> Result<Vec<(String, String)>, EnvProblem> {
    let mut names = Vec::new();
    let mut values = BTreeMap::new();
    let mut set = |values: &mut BTreeMap<String, String>, name: String, value| {
        if values.insert(name.clone(), value).is_none() {
            names.push(name);
        }
    };
    for from in spec.env_from.iter().flatten() {
        for (name, value) in all_of(from, sources)? {
            set(&mut values, name, value);
        }
    }
    let service = |name: &str| sources.services.iter().find(|(n, _)| n == name).map(|(_, v)| v.clone());
    for var in spec.env.iter().flatten() {
        let value = match var.value.as_deref().filter(|text| !text.is_empty()) {
            Some(text) => Some(expand(text, |name| values.get(name).cloned().or_else(|| service(name)))),
            None => value_from(facts, sources, spec, var)?,
        };
        if let Some(value) = value {
            set(&mut values, var.name.clone(), value);
        }
    }
    let own = |name: &String| values.contains_key(name);
    let services: Vec<_> = sources.services.iter().filter(|(name, _)| !own(name)).cloned().collect();
    let named = names.into_iter().map(|name| (name.clone(), values.remove(&name).unwrap_or_default()));
    Ok(named.chain(services).collect())
}

/// All entries of a config map or secret, as variables.
fn all_of(from: &EnvFromSource, sources: &Sources) -> Result<Vec<(String, String)>, EnvProblem> {
    let (kind, name, optional) = match (&from.config_map_ref, &from.secret_ref) {
        (Some(map), _) => (Kind::ConfigMap, &map.name, map.optional),
        (None, Some(secret)) => (Kind::Secret, &secret.name, secret.optional),
        (None, None) => return Ok(Vec::new()),
    };
    let Some(data) = sources.objects.read(kind, name, optional == Some(true))? else { return Ok(Vec::new()) };
    let prefix = from.prefix.as_deref().unwrap_or_default();
    let variable = |(key, value): (&String, &Vec<u8>)| (format!("{prefix}{key}"), text(value));
    Ok(data.data.iter().map(variable).collect())
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// What a variable is filled from; `None` when that is optional and not there.
fn value_from(
    facts: &Facts<'_>,
    sources: &Sources,
    spec: &Spec,
    var: &EnvVar,
) -> Result<Option<String>, EnvProblem> {
    let Some(from) = &var.value_from else { return Ok(Some(String::new())) };
    let entry = |kind, name: &str, key: &str, optional: Option<bool>| {
        let optional = optional == Some(true);
        let Some(data) = sources.objects.read(kind, name, optional)? else { return Ok(None) };
        match data.data.get(key) {
            Some(value) => Ok(Some(text(value))),
            None if optional => Ok(None),
            None => Err(EnvProblem::Key {
                key: key.to_owned(),
                kind: if kind == Kind::Secret { "Secret" } else { "ConfigMap" },
                object: format!("{}/{name}", pod::namespace(facts.pod)),
            }),
        }
    };
    if let Some(selector) = &from.field_ref {
        field(facts, selector).map(Some)
    } else if let Some(selector) = &from.resource_field_ref {
        resource(facts, spec, selector).map(Some)
    } else if let Some(selector) = &from.config_map_key_ref {
        entry(Kind::ConfigMap, &selector.name, &selector.key, selector.optional)
    } else if let Some(selector) = &from.secret_key_ref {
        entry(Kind::Secret, &selector.name, &selector.key, selector.optional)
    } else if let Some(selector) = &from.file_key_ref {
        file::value(sources, selector)
    } else {
        Ok(Some(String::new()))
    }
}

/// A field of the pod, as text.
///
/// # Errors
/// There is no such field.
pub fn field(facts: &Facts<'_>, selector: &ObjectFieldSelector) -> Result<String, EnvProblem> {
    let meta = &facts.pod.metadata;
    let spec = pod::spec(facts.pod);
    let ips = || facts.node.ips.iter().map(ToString::to_string).collect::<Vec<_>>();
    let path = selector.field_path.as_str();
    if let Some((map, key)) = path.strip_suffix("']").and_then(|p| p.split_once("['")) {
        let map = match map {
            "metadata.labels" => &meta.labels,
            "metadata.annotations" => &meta.annotations,
            _ => return Err(EnvProblem::Field(path.to_owned())),
        };
        return Ok(map.as_ref().and_then(|m| m.get(key)).cloned().unwrap_or_default());
    }
    Ok(match path {
        "metadata.name" => pod::name(facts.pod).to_owned(),
        "metadata.namespace" => pod::namespace(facts.pod).to_owned(),
        "metadata.uid" => facts.uid.to_owned(),
        "metadata.labels" => lines(meta.labels.as_ref()),
        "metadata.annotations" => lines(meta.annotations.as_ref()),
        "spec.nodeName" => facts.node.name.clone(),
        "spec.serviceAccountName" => spec.service_account_name.clone().unwrap_or_default(),
        "status.hostIP" => ips().into_iter().next().unwrap_or_default(),
        "status.hostIPs" => ips().join(","),
        "status.podIP" => facts.pod_ips.first().cloned().unwrap_or_default(),
        "status.podIPs" => facts.pod_ips.join(","),
        _ => return Err(EnvProblem::Field(path.to_owned())),
    })
}

/// Labels or annotations as a downward API file has them: `key="value"` lines.
fn lines(map: Option<&BTreeMap<String, String>>) -> String {
    let lines: Vec<String> =
        map.into_iter().flatten().map(|(key, value)| format!("{key}={value:?}")).collect();
    lines.join("\n")
}

/// A request or limit of a container, as text. What is not limited is limited by what the node
/// has to give.
///
/// # Errors
/// There is no such container or resource.
pub fn resource(
    facts: &Facts<'_>,
    own: &Spec,
    selector: &ResourceFieldSelector,
) -> Result<String, EnvProblem> {
    let named;
    let spec = match selector.container_name.as_deref().filter(|name| !name.is_empty()) {
        None => own,
        Some(name) => {
            named = pod::container(facts.pod, name).ok_or_else(|| EnvProblem::Container(name.to_owned()))?;
            &*named
        }
    };
    let divisor = selector.divisor.as_ref().and_then(amount).unwrap_or_default();
    let (limits, requests) =
        (resources::limits(spec.resources.as_ref()), resources::requests(spec.resources.as_ref()));
    let storage = |list: Option<&BTreeMap<String, Quantity>>| list?.get("ephemeral-storage").and_then(amount);
    let limits_of = spec.resources.as_ref().and_then(|r| r.limits.as_ref());
    let requests_of = spec.resources.as_ref().and_then(|r| r.requests.as_ref());
    let limit = |set: Option<Amount>, name: &str| {
        let of_node = || facts.node.allocatable.get(name).copied().unwrap_or_default();
        set.filter(|limit| *limit > Amount::default()).unwrap_or_else(of_node)
    };
    let amount = match selector.resource.as_str() {
        "limits.cpu" => limit(limits.cpu_millis.map(Amount::from_millis), "cpu"),
        "limits.memory" => limit(limits.memory_bytes.map(Amount::from_units), "memory"),
        "limits.ephemeral-storage" => limit(storage(limits_of), "ephemeral-storage"),
        "requests.cpu" => Amount::from_millis(requests.cpu_millis.unwrap_or(0)),
        "requests.memory" => Amount::from_units(requests.memory_bytes.unwrap_or(0)),
        "requests.ephemeral-storage" => storage(requests_of).unwrap_or_default(),
        name => return Err(EnvProblem::Resource(name.to_owned())),
    };
    Ok(amount.divided_by(divisor).to_string())
}

/// Replaces `$(NAME)` by a variable's value where there is one; `$$` stands for `$`.
pub fn expand(text: &str, value: impl Fn(&str) -> Option<String>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some((name, after)) = rest.strip_prefix('(').and_then(|r| r.split_once(')')) {
            match value(name) {
                Some(value) => out.push_str(&value),
                None => {
                    out.push_str("$(");
                    out.push_str(name);
                    out.push(')');
                }
            }
            rest = after;
        } else {
            out.push('$');
        }
    }
    out.push_str(rest);
    out
}

/// Command or arguments with their variables replaced.
#[must_use]
pub fn expand_all(texts: Option<&Vec<String>>, variables: &[(String, String)]) -> Vec<String> {
    let value = |name: &str| variables.iter().find(|(n, _)| n == name).map(|(_, v)| v.clone());
    texts.into_iter().flatten().map(|text| expand(text, value)).collect()
}

#[cfg(test)]
mod tests;
