//! What a request is about, read from its method, path and query alone: the verb, the resource, the object.

use proto_kube::GroupResource;
use proto_kube::resource::{self, Resource, Subresource};

use crate::query::{Query, decode};

/// What is asked for, as upstream's `RequestInfo`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RequestInfo {
    /// The path, percent-decoded.
    pub path: String,
    /// As `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`; of a request that is not
    /// about a resource the method in small letters.
    pub verb: &'static str,
    /// What the path names below a group and version.
    pub target: Option<Target>,
}

/// The resource of a request, or an object of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Target {
    /// Empty for the core group.
    pub group: String,
    /// As `v1`.
    pub version: String,
    /// Empty for cluster-scoped resources, and for a list over all namespaces.
    pub namespace: String,
    /// The plural, as `pods`; it may be unknown.
    pub resource: String,
    /// As `status`; empty when the request is about the object itself.
    pub subresource: String,
    /// Empty when the request is about a collection. A list or watch of one name by field selector has that name here
    /// and `by_selector` set, as upstream's authorization sees it.
    pub name: String,
    /// Whether `name` comes from a field selector rather than from the path.
    pub by_selector: bool,
    /// What follows the subresource, as `api/v1` in `services/x/proxy/api/v1`.
    pub rest: String,
}

impl Target {
    /// The group and resource.
    #[must_use]
    pub fn group_resource(&self) -> GroupResource<'_> {
        GroupResource { group: &self.group, resource: &self.resource }
    }

    /// The served resource, if there is one of this name.
    #[must_use]
    pub fn find(&self) -> Option<&'static Resource> {
        resource::find(&self.group, &self.version, &self.resource)
    }

    /// Whether there is such a path: a resource that is served, in the scope that it has, with a subresource of its.
    #[must_use]
    pub fn is_served(&self) -> bool {
        let Some(resource) = self.find() else { return false };
        let collection = self.name.is_empty() || self.by_selector;
        let scoped = match (resource.namespaced, self.namespace.is_empty()) {
            (true, true) => collection,
            (false, false) => self.namespace == self.name && resource.plural == "namespaces",
            _ => true,
        };
        let subresource = resource.subresource(&self.subresource);
        let sub = if self.subresource.is_empty() { self.rest.is_empty() } else { subresource.is_some() };
        scoped && sub && (self.rest.is_empty() || self.subresource == "proxy")
    }

    /// The served subresource, if the path names one that there is.
    #[must_use]
    pub fn find_subresource(&self) -> Option<&'static Subresource> {
        self.find()?.subresource(&self.subresource)
    }
}

impl RequestInfo {
    /// Reads a request.
    #[must_use]
    pub fn new(method: &str, path: &str, query: &Query) -> Self {
        let parts: Vec<String> =
            path.split('/').filter(|p| !p.is_empty()).map(|part| decode(part, false)).collect();
        let path = decode(path, false);
        match target(&parts) {
            Some((target, watch)) => {
                let (verb, target) = resource_verb(method, target, watch, query);
                Self { path, verb, target: Some(target) }
            }
            None => Self { path, verb: method_verb(method), target: None },
        }
    }

    /// Whether the request lasts until its client leaves: watches, and streams from and to pods.
    #[must_use]
    pub fn is_long_running(&self) -> bool {
        let stream = |t: &Target| match t.subresource.as_str() {
            "attach" | "exec" | "proxy" | "portforward" => true,
            "log" => self.verb == "get",
            _ => false,
        };
        matches!(self.verb, "watch" | "proxy") || self.target.as_ref().is_some_and(stream)
    }

    /// Whether the request changes nothing.
    #[must_use]
    pub fn is_reading(&self) -> bool {
        matches!(self.verb, "get" | "list" | "watch" | "head")
    }
}

/// What a path names; the second says whether it is one of the old `/watch/` paths.
fn target(parts: &[String]) -> Option<(Target, bool)> {
    let (group, version, mut rest) = match parts {
        [api, version, rest @ ..] if api == "api" => ("", version, rest),
        [apis, group, version, rest @ ..] if apis == "apis" => (group.as_str(), version, rest),
        _ => return None,
    };
    let watch = matches!(rest, [watch, _, ..] if watch == "watch");
    if watch {
        rest = &rest[1..];
    }
    let mut target = Target { group: group.to_owned(), version: version.clone(), ..Target::default() };
    if let [namespaces, namespace, below @ ..] = rest
        && namespaces == "namespaces"
    {
        target.namespace.clone_from(namespace);
        if matches!(below.first(), Some(sub) if sub != "status" && sub != "finalize") {
            rest = below;
        }
    }
    let (first, after) = rest.split_first()?;
    target.resource.clone_from(first);
    let mut after = after.iter();
    target.name = after.next().cloned().unwrap_or_default();
    target.subresource = after.next().cloned().unwrap_or_default();
    target.rest = after.map(String::as_str).collect::<Vec<_>>().join("/");
    Some((target, watch))
}

fn resource_verb(method: &str, mut target: Target, watch: bool, query: &Query) -> (&'static str, Target) {
    let verb = match method {
        _ if watch => "watch",
        "POST" => "create",
        "GET" | "HEAD" => "get",
        "PUT" => "update",
        "PATCH" => "patch",
        "DELETE" => "delete",
        _ => "",
    };
    let collection = target.name.is_empty();
    if collection
        && (verb == "get" || verb == "delete" || verb == "watch")
        && let Some(name) = named(query.text("fieldSelector"))
    {
        target.name = name;
        target.by_selector = true;
    }
    let verb = match verb {
        "get" if collection && query.flag("watch") => "watch",
        "get" if collection => "list",
        "delete" if collection => "deletecollection",
        verb => verb,
    };
    (verb, target)
}

/// The name that a field selector asks for, when it is one that an object can have.
fn named(selector: &str) -> Option<String> {
    let mut terms = selector.split(',').filter_map(|term| {
        let (key, value) = term.split_once('=')?;
        (key == "metadata.name").then(|| value.strip_prefix('=').unwrap_or(value))
    });
    terms.next_back().filter(|name| !name.is_empty() && !name.contains(['/', '%', '\\'])).map(str::to_owned)
}

fn method_verb(method: &str) -> &'static str {
    match method {
        "GET" => "get",
        "HEAD" => "head",
        "POST" => "post",
        "PUT" => "put",
        "PATCH" => "patch",
        "DELETE" => "delete",
        "OPTIONS" => "options",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(method: &str, uri: &str) -> RequestInfo {
        let (path, query) = uri.split_once('?').unwrap_or((uri, ""));
        RequestInfo::new(method, path, &Query::parse(query))
    }

    /// Upstream's table: method, path -> verb, group, version, namespace, resource, subresource, name.
    #[test]
    fn resources() {
        for (method, uri, verb, [group, version, namespace, resource, subresource, name]) in [
            ("GET", "/api/v1/namespaces", "list", ["", "v1", "", "namespaces", "", ""]),
            ("GET", "/api/v1/namespaces/other", "get", ["", "v1", "other", "namespaces", "", "other"]),
            (
                "PUT",
                "/api/v1/namespaces/other/finalize",
                "update",
                ["", "v1", "other", "namespaces", "finalize", "other"],
            ),
            ("GET", "/api/v1/namespaces/other/pods", "list", ["", "v1", "other", "pods", "", ""]),
            ("GET", "/api/v1/namespaces/other/pods/foo", "get", ["", "v1", "other", "pods", "", "foo"]),
            ("HEAD", "/api/v1/namespaces/other/pods/foo", "get", ["", "v1", "other", "pods", "", "foo"]),
            ("GET", "/api/v1/pods", "list", ["", "v1", "", "pods", "", ""]),
            ("GET", "/api/v1/pods?watch=true", "watch", ["", "v1", "", "pods", "", ""]),
            ("GET", "/api/v1/pods?watch=false", "list", ["", "v1", "", "pods", "", ""]),
            ("GET", "/api/v1/watch/namespaces/other/pods", "watch", ["", "v1", "other", "pods", "", ""]),
            ("GET", "/api/v1/watch/pods", "watch", ["", "v1", "", "pods", "", ""]),
            (
                "GET",
                "/api/v1/namespaces/other/pods?fieldSelector=metadata.name%3Dfoo",
                "list",
                ["", "v1", "other", "pods", "", "foo"],
            ),
            (
                "GET",
                "/api/v1/namespaces/other/pods?watch=1&fieldSelector=metadata.name=foo",
                "watch",
                ["", "v1", "other", "pods", "", "foo"],
            ),
            (
                "DELETE",
                "/api/v1/namespaces/other/pods",
                "deletecollection",
                ["", "v1", "other", "pods", "", ""],
            ),
            ("DELETE", "/api/v1/namespaces/other/pods/foo", "delete", ["", "v1", "other", "pods", "", "foo"]),
            (
                "POST",
                "/apis/apps/v1/namespaces/x/deployments",
                "create",
                ["apps", "v1", "x", "deployments", "", ""],
            ),
            (
                "PATCH",
                "/apis/apps/v1/namespaces/x/deployments/d/scale",
                "patch",
                ["apps", "v1", "x", "deployments", "scale", "d"],
            ),
            (
                "GET",
                "/apis/rbac.authorization.k8s.io/v1/clusterroles/system:node",
                "get",
                ["rbac.authorization.k8s.io", "v1", "", "clusterroles", "", "system:node"],
            ),
            (
                "GET",
                "/apis/rbac.authorization.k8s.io/v1/clusterroles/system%3Anode",
                "get",
                ["rbac.authorization.k8s.io", "v1", "", "clusterroles", "", "system:node"],
            ),
        ] {
            let info = read(method, uri);
            let t = info.target.unwrap_or_else(|| panic!("{uri} names a resource"));
            let found = [t.group, t.version, t.namespace, t.resource, t.subresource, t.name];
            assert_eq!(
                (info.verb, found),
                (verb, [group, version, namespace, resource, subresource, name].map(str::to_owned)),
                "{uri}"
            );
        }
    }

    #[test]
    fn other_paths() {
        for path in [
            "/",
            "/healthz",
            "/api",
            "/api/v1",
            "/apis",
            "/apis/apps",
            "/apis/apps/v1",
            "/openapi/v3/api/v1",
            "/version",
        ] {
            let info = read("GET", path);
            assert_eq!((info.target, info.verb, info.path.as_str()), (None, "get", path));
        }
    }

    #[test]
    fn paths_that_there_are() {
        for (path, served) in [
            ("/api/v1/pods", true),
            ("/api/v1/nope", false),
            ("/api/v1/namespaces/a", true),
            ("/api/v1/namespaces/a/finalize", true),
            ("/api/v1/namespaces/a/nodes", false),
            ("/api/v1/nodes/n", true),
            ("/api/v1/pods/p", false),
            ("/api/v1/namespaces/a/pods/p/status", true),
            ("/api/v1/namespaces/a/pods/p/nope", false),
            ("/api/v1/namespaces/a/pods/p/status/x", false),
            ("/api/v1/namespaces/a/pods/p/proxy/x", true),
            ("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", true),
        ] {
            assert_eq!(read("GET", path).target.unwrap().is_served(), served, "{path}");
        }
        assert!(read("GET", "/api/v1/pods?fieldSelector=metadata.name=a").target.unwrap().is_served());
    }

    #[test]
    fn the_rest_of_a_path_and_long_requests() {
        let info = read("GET", "/api/v1/namespaces/x/services/s/proxy/a/b");
        assert!(info.is_long_running());
        assert_eq!(info.target.expect("a resource").rest, "a/b");
        assert!(read("GET", "/api/v1/pods?watch=true").is_long_running());
        assert!(read("GET", "/api/v1/namespaces/x/pods/p/log?follow=true").is_long_running());
        assert!(!read("GET", "/api/v1/pods").is_long_running());
    }
}
