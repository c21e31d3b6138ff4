//! What is served, told to clients: the aggregated documents of `apidiscovery.k8s.io/v2`, and the older ones, group by
//! group.

use proto_kube::resource::{self, Resource, Subresource};
use serde::{Serialize, Serializer};
use serde_json::{Value, json};

/// The media type of the aggregated documents.
pub const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

/// The members of the documents, as upstream writes them: people read them, and scripts look for them by `grep`.
const ORDER: [&str; 24] = [
    "apiVersion",
    "metadata",
    "name",
    "groupVersion",
    "resource",
    "subresource",
    "singularName",
    "namespaced",
    "responseKind",
    "group",
    "version",
    "kind",
    "resources",
    "scope",
    "singularResource",
    "verbs",
    "shortNames",
    "categories",
    "subresources",
    "versions",
    "preferredVersion",
    "clientCIDR",
    "serverAddress",
    "freshness",
];

/// A document in JSON, its members in upstream's order.
#[must_use]
pub fn text(document: &Value) -> String {
    serde_json::to_string(&Ordered { value: document, whole: true }).expect("maps with keys of text are JSON")
}

/// A part of a document, or the whole, which alone begins with its kind.
struct Ordered<'a> {
    value: &'a Value,
    whole: bool,
}

impl Serialize for Ordered<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let part = |value| Ordered { value, whole: false };
        match self.value {
            Value::Array(items) => serializer.collect_seq(items.iter().map(part)),
            Value::Object(members) => {
                let mut members: Vec<_> = members.iter().collect();
                members.sort_by_key(|(name, _)| match ORDER.iter().position(|known| known == name) {
                    Some(_) if self.whole && *name == "kind" => 0,
                    at => at.unwrap_or(ORDER.len()) + 1,
                });
                serializer.collect_map(members.into_iter().map(|(name, value)| (name, part(value))))
            }
            other => other.serialize(serializer),
        }
    }
}

/// Whether a client wants the aggregated document rather than the old one: which of the two its `Accept` names first.
#[must_use]
pub fn wants_aggregated(accept: &str) -> bool {
    for range in accept.split(',') {
        let mut parts = range.split(';').map(str::trim);
        if !matches!(parts.next(), Some("application/json" | "application/*" | "*/*")) {
            continue;
        }
        let parameter = |name: &str| {
            range
                .split(';')
                .skip(1)
                .filter_map(|p| p.trim().split_once('='))
                .find(|(n, _)| *n == name)
                .map(|p| p.1)
        };
        match parameter("as") {
            Some("APIGroupDiscoveryList") => {
                if parameter("g") == Some("apidiscovery.k8s.io") && parameter("v") == Some("v2") {
                    return true;
                }
            }
            Some(_) => {}
            None => return false,
        }
    }
    false
}

/// The groups, in order, with their resources of all versions; the core group is not among them.
fn groups() -> Vec<(&'static str, Vec<&'static Resource>)> {
    let mut groups: Vec<(&str, Vec<&Resource>)> = Vec::new();
    for resource in resource::all().iter().filter(|r| !r.group.is_empty()) {
        match groups.iter_mut().find(|(name, _)| *name == resource.group) {
            Some((_, members)) => members.push(resource),
            None => groups.push((resource.group, vec![resource])),
        }
    }
    groups
}

/// The versions of a group's resources, the preferred one first.
fn versions(members: &[&'static Resource]) -> Vec<&'static str> {
    let mut versions = Vec::new();
    for member in members {
        if !versions.contains(&member.version) {
            versions.push(member.version);
        }
    }
    versions
}

/// The aggregated document at `/api`.
#[must_use]
pub fn aggregated_core() -> Value {
    let core: Vec<&Resource> = resource::all().iter().filter(|r| r.group.is_empty()).collect();
    aggregated([("", core)])
}

/// The aggregated document at `/apis`.
#[must_use]
pub fn aggregated_groups() -> Value {
    aggregated(groups())
}

fn aggregated(groups: impl IntoIterator<Item = (&'static str, Vec<&'static Resource>)>) -> Value {
    let group = |(name, members): (&str, Vec<&'static Resource>)| {
        let metadata = if name.is_empty() { json!({}) } else { json!({"name": name}) };
        let versions = versions(&members).into_iter().map(|version| {
            let resources = members.iter().filter(|r| r.version == version).map(|r| discovered(r));
            json!({"version": version, "resources": resources.collect::<Vec<_>>(), "freshness": "Current"})
        });
        json!({"metadata": metadata, "versions": versions.collect::<Vec<_>>()})
    };
    json!({
        "kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {},
        "items": groups.into_iter().map(group).collect::<Vec<_>>(),
    })
}

fn discovered(resource: &Resource) -> Value {
    let mut value = json!({
        "resource": resource.plural,
        "responseKind": of_its_own(resource.kind),
        "scope": if resource.namespaced { "Namespaced" } else { "Cluster" },
        "singularResource": resource.singular,
        "verbs": resource.verbs(),
    });
    if !resource.short.is_empty() {
        value["shortNames"] = json!(resource.short);
    }
    if !resource.categories.is_empty() {
        value["categories"] = json!(resource.categories);
    }
    if !resource.subresources.is_empty() {
        let of = |sub: &Subresource| {
            let kind = match sub.body {
                ("", "", "") => of_its_own(resource.kind),
                (group, version, kind) if (group, version) == (resource.group, resource.version) => {
                    of_its_own(kind)
                }
                (group, version, kind) => json!({"group": group, "version": version, "kind": kind}),
            };
            json!({"subresource": sub.name, "verbs": sub.verbs, "responseKind": kind})
        };
        value["subresources"] = resource.subresources.iter().map(of).collect();
    }
    value
}

/// A kind of the group and version in which it is told of: upstream leaves those out.
fn of_its_own(kind: &str) -> Value {
    json!({"group": "", "version": "", "kind": kind})
}

fn body(resource: &Resource, sub: &Subresource) -> (&'static str, &'static str, &'static str) {
    match sub.body {
        ("", "", "") => (resource.group, resource.version, resource.kind),
        body => body,
    }
}

/// The old document at `/api`. `address` is where clients reach the server.
#[must_use]
pub fn core_versions(address: &str) -> Value {
    json!({
        "kind": "APIVersions", "versions": ["v1"],
        "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": address}],
    })
}

/// The old document at `/apis`.
#[must_use]
pub fn group_list() -> Value {
    let groups = groups().into_iter().map(|(name, members)| one_group(name, &members));
    json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups.collect::<Vec<_>>()})
}

/// The old document at `/apis/<group>`; `None` when there is no such group.
#[must_use]
pub fn group(name: &str) -> Option<Value> {
    let (name, members) = groups().into_iter().find(|(group, _)| *group == name)?;
    let mut group = one_group(name, &members);
    group["kind"] = "APIGroup".into();
    group["apiVersion"] = "v1".into();
    Some(group)
}

fn one_group(name: &str, members: &[&'static Resource]) -> Value {
    let one = |version: &str| json!({"groupVersion": format!("{name}/{version}"), "version": version});
    let versions: Vec<Value> = versions(members).into_iter().map(one).collect();
    json!({"name": name, "versions": versions, "preferredVersion": versions[0]})
}

/// The old document at `/apis/<group>/<version>` (or `/api/v1`); `None` when there is no such version.
#[must_use]
pub fn resource_list(group: &str, version: &str) -> Option<Value> {
    let members: Vec<&Resource> =
        resource::all().iter().filter(|r| r.group == group && r.version == version).collect();
    let first = members.first()?;
    let resources: Vec<Value> = members.iter().flat_map(|r| listed(r)).collect();
    let mut list =
        json!({"kind": "APIResourceList", "groupVersion": first.api_version(), "resources": resources});
    // That of the core group never had one.
    if !group.is_empty() {
        list["apiVersion"] = "v1".into();
    }
    Some(list)
}

fn listed(resource: &Resource) -> Vec<Value> {
    let mut value = json!({
        "name": resource.plural, "singularName": resource.singular, "namespaced": resource.namespaced,
        "kind": resource.kind, "verbs": resource.verbs(),
    });
    if !resource.short.is_empty() {
        value["shortNames"] = json!(resource.short);
    }
    if !resource.categories.is_empty() {
        value["categories"] = json!(resource.categories);
    }
    let mut all = vec![value];
    for sub in resource.subresources {
        let (group, version, kind) = body(resource, sub);
        let mut value = json!({
            "name": format!("{}/{}", resource.plural, sub.name), "singularName": "",
            "namespaced": resource.namespaced, "kind": kind, "verbs": sub.verbs,
        });
        if (group, version) != (resource.group, resource.version) {
            value["group"] = group.into();
            value["version"] = version.into();
        }
        all.push(value);
    }
    all
}

/// All paths that `/` lists.
#[must_use]
pub fn paths() -> Vec<String> {
    let mut paths: Vec<String> = [
        "/.well-known/openid-configuration",
        "/api",
        "/api/v1",
        "/apis",
        "/healthz",
        "/healthz/ping",
        "/livez",
        "/livez/ping",
        "/metrics",
        "/openapi/v2",
        "/openapi/v3",
        "/openid/v1/jwks",
        "/readyz",
        "/readyz/ping",
        "/version",
    ]
    .map(str::to_owned)
    .to_vec();
    for (name, members) in groups() {
        paths.push(format!("/apis/{name}"));
        paths.extend(versions(&members).iter().map(|version| format!("/apis/{name}/{version}")));
    }
    paths.extend(resource::all().iter().map(|r| match r.group {
        "" => format!("/openapi/v3/api/{}", r.version),
        group => format!("/openapi/v3/apis/{group}/{}", r.version),
    }));
    paths.sort();
    paths.dedup();
    paths
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_acceptable_form_wins() {
        for (accept, aggregated) in [
            ("application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json", true),
            ("application/json; as=APIGroupDiscoveryList; v=v2; g=apidiscovery.k8s.io", true),
            (
                "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json",
                false,
            ),
            ("application/json", false),
            ("*/*", false),
            ("", false),
            (
                "application/vnd.kubernetes.protobuf,application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList",
                true,
            ),
        ] {
            assert_eq!(wants_aggregated(accept), aggregated, "{accept}");
        }
    }

    #[test]
    fn documents_agree() {
        let core = aggregated_core();
        let pods = core["items"][0]["versions"][0]["resources"].as_array().unwrap();
        let pods = pods.iter().find(|r| r["resource"] == "pods").unwrap();
        assert_eq!((&pods["scope"], &pods["shortNames"]), (&json!("Namespaced"), &json!(["po"])));
        assert!(
            pods["subresources"].as_array().unwrap().iter().any(|s| s["responseKind"]["kind"] == "Eviction")
        );
        let scaling = group("autoscaling").unwrap();
        assert_eq!(scaling["preferredVersion"]["groupVersion"], "autoscaling/v2");
        assert_eq!(scaling["versions"].as_array().unwrap().len(), 2);
        let apps = resource_list("apps", "v1").unwrap();
        let scale =
            apps["resources"].as_array().unwrap().iter().find(|r| r["name"] == "deployments/scale").unwrap();
        assert_eq!((&scale["group"], &scale["kind"]), (&json!("autoscaling"), &json!("Scale")));
        assert_eq!((group("nope"), resource_list("apps", "v9")), (None, None));
        assert!(paths().contains(&"/apis/apps/v1".to_owned()));
    }

    #[test]
    fn documents_read_as_upstreams_do() {
        let apps = text(&resource_list("apps", "v1").unwrap());
        let start = r#"{"kind":"APIResourceList","apiVersion":"v1","groupVersion":"apps/v1","resources":[{"name":"controllerrevisions","singularName":"controllerrevision","namespaced":true,"kind":"ControllerRevision","verbs":["#;
        assert!(apps.starts_with(start), "{apps}");
        let core = text(&aggregated_core());
        let start = r#"{"kind":"APIGroupDiscoveryList","apiVersion":"apidiscovery.k8s.io/v2","metadata":{},"items":[{"metadata":{},"versions":[{"version":"v1","resources":[{"resource":"#;
        assert!(core.starts_with(start), "{core}");
        assert_eq!(serde_json::from_str::<Value>(&core).unwrap(), aggregated_core());
    }
}
