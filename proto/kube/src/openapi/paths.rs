//! The paths of the resources, and what can be done there.

use serde_json::{Map, Value, json};

use super::schemas::{name_of, reference};
use super::{Version, place};
use crate::Gvk;
use crate::resource::{Resource, Storage, Subresource};

/// Parameters of a query, and their types.
type Query = &'static [(&'static str, &'static str)];

const CREATE: Query = &[("dryRun", "string"), ("fieldManager", "string"), ("fieldValidation", "string")];
const PATCH: Query =
    &[("dryRun", "string"), ("fieldManager", "string"), ("fieldValidation", "string"), ("force", "boolean")];
const DELETE: Query = &[
    ("dryRun", "string"),
    ("gracePeriodSeconds", "integer"),
    ("orphanDependents", "boolean"),
    ("propagationPolicy", "string"),
];
const LIST: Query = &[
    ("allowWatchBookmarks", "boolean"),
    ("continue", "string"),
    ("fieldSelector", "string"),
    ("labelSelector", "string"),
    ("limit", "integer"),
    ("resourceVersion", "string"),
    ("resourceVersionMatch", "string"),
    ("sendInitialEvents", "boolean"),
    ("timeoutSeconds", "integer"),
    ("watch", "boolean"),
];
const DELETE_COLLECTION: Query = &[
    ("continue", "string"),
    ("dryRun", "string"),
    ("fieldSelector", "string"),
    ("gracePeriodSeconds", "integer"),
    ("labelSelector", "string"),
    ("limit", "integer"),
    ("orphanDependents", "boolean"),
    ("propagationPolicy", "string"),
    ("resourceVersion", "string"),
    ("resourceVersionMatch", "string"),
    ("timeoutSeconds", "integer"),
];
const LOG: Query = &[
    ("container", "string"),
    ("follow", "boolean"),
    ("insecureSkipTLSVerifyBackend", "boolean"),
    ("limitBytes", "integer"),
    ("previous", "boolean"),
    ("sinceSeconds", "integer"),
    ("stream", "string"),
    ("tailLines", "integer"),
    ("timestamps", "boolean"),
];

const OBJECT_FORMS: &[&str] =
    &["application/json", "application/vnd.kubernetes.protobuf", "application/yaml"];
const LIST_FORMS: &[&str] = &[
    "application/json",
    "application/json;stream=watch",
    "application/vnd.kubernetes.protobuf",
    "application/vnd.kubernetes.protobuf;stream=watch",
    "application/yaml",
];
const PATCH_FORMS: &[&str] = &[
    "application/apply-patch+yaml",
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
];
const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";

/// Something that can be done at a path.
struct Operation {
    method: &'static str,
    /// `x-kubernetes-action`.
    action: &'static str,
    /// What the operation's name begins with, as `createAppsV1Namespaced`.
    id: String,
    query: Query,
    /// The body's schema and media types.
    body: Option<(String, &'static [&'static str])>,
    /// The answer's schema; a text when there is none.
    answer: Option<String>,
    forms: &'static [&'static str],
    codes: &'static [u16],
}

/// The paths of resources with what can be done there, as members of `paths`.
pub(super) fn items(
    version: Version,
    resources: impl Iterator<Item = &'static Resource>,
) -> impl Iterator<Item = (String, Value)> {
    resources.flat_map(move |r| of(version, r))
}

fn of(version: Version, r: &'static Resource) -> Vec<(String, Value)> {
    let root = format!("/{}", place(r));
    let within = if r.namespaced { format!("{root}/namespaces/{{namespace}}") } else { root.clone() };
    let collection = format!("{within}/{}", r.plural);
    let mut paths = vec![(collection.clone(), item(version, r, &collection, &r.gvk(), at_collection(r)))];
    if r.storage == Storage::Answered {
        return paths;
    }
    let object = format!("{collection}/{{name}}");
    paths.push((object.clone(), item(version, r, &object, &r.gvk(), at_object(r))));
    if r.namespaced {
        let every = format!("{root}/{}", r.plural);
        let list = list(r, &format!("{}ForAllNamespaces", r.kind), "");
        paths.push((every.clone(), item(version, r, &every, &r.gvk(), vec![list])));
    }
    for sub in r.subresources {
        let path = format!("{object}/{}", sub.name);
        let kind = body_of(r, sub);
        paths.push((path.clone(), item(version, r, &path, &kind, at_subresource(r, sub, &kind))));
    }
    paths
}

fn body_of(r: &Resource, sub: &Subresource) -> Gvk {
    match sub.body {
        (_, _, "") => r.gvk(),
        (group, version, kind) => {
            Gvk { group: group.to_owned(), version: version.to_owned(), kind: kind.to_owned() }
        }
    }
}

fn schema(kind: &Gvk) -> Option<String> {
    name_of(kind).map(str::to_owned)
}

/// As `AppsV1NamespacedDeployment`.
fn named(r: &Resource, scope: &str, rest: &str) -> String {
    let group = if r.group.is_empty() { "core" } else { r.group.trim_end_matches(".k8s.io") };
    group.split('.').chain([r.version]).map(capital).collect::<String>() + scope + rest
}

fn capital(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().into_iter().flat_map(char::to_uppercase).chain(letters).collect()
}

fn scope(r: &Resource) -> &'static str {
    if r.namespaced { "Namespaced" } else { "" }
}

fn list(r: &Resource, rest: &str, scope: &str) -> Operation {
    let kind = Gvk { kind: format!("{}List", r.kind), ..r.gvk() };
    Operation {
        method: "get",
        action: "list",
        id: format!("list{}", named(r, scope, rest)),
        query: LIST,
        body: None,
        answer: schema(&kind),
        forms: LIST_FORMS,
        codes: &[200],
    }
}

fn at_collection(r: &Resource) -> Vec<Operation> {
    let create = Operation {
        method: "post",
        action: "post",
        id: format!("create{}", named(r, scope(r), r.kind)),
        query: CREATE,
        body: schema(&r.gvk()).map(|s| (s, ANY)),
        answer: schema(&r.gvk()),
        forms: OBJECT_FORMS,
        codes: &[200, 201, 202],
    };
    if r.storage == Storage::Answered {
        return vec![create];
    }
    let delete = Operation {
        method: "delete",
        action: "deletecollection",
        id: format!("delete{}", named(r, &format!("Collection{}", scope(r)), r.kind)),
        query: DELETE_COLLECTION,
        body: Some((format!("{META}.DeleteOptions"), ANY)),
        answer: Some(format!("{META}.Status")),
        forms: OBJECT_FORMS,
        codes: &[200],
    };
    let list = list(r, r.kind, scope(r));
    // Nobody deletes all namespaces at once.
    if r.plural == "namespaces" { vec![list, create] } else { vec![list, create, delete] }
}

const ANY: &[&str] = &["*/*"];

fn at_object(r: &Resource) -> Vec<Operation> {
    let mut all = common(r, "", &r.gvk(), &["get", "patch", "update"]);
    all.push(Operation {
        method: "delete",
        action: "delete",
        id: format!("delete{}", named(r, scope(r), r.kind)),
        query: DELETE,
        body: Some((format!("{META}.DeleteOptions"), ANY)),
        answer: Some(format!("{META}.Status")),
        forms: OBJECT_FORMS,
        codes: &[200, 202],
    });
    all
}

/// Reading, replacing, patching, and the creation that is an action.
fn common(r: &Resource, suffix: &str, kind: &Gvk, verbs: &[&str]) -> Vec<Operation> {
    let rest = format!("{}{suffix}", r.kind);
    let operation = |method, action, word: &str| Operation {
        method,
        action,
        id: format!("{word}{}", named(r, scope(r), &rest)),
        query: &[],
        body: None,
        answer: schema(kind),
        forms: OBJECT_FORMS,
        codes: &[200],
    };
    let of_verb = |verb: &&str| {
        Some(match *verb {
            "get" => operation("get", "get", "read"),
            "create" => Operation {
                query: CREATE,
                body: schema(kind).map(|s| (s, ANY)),
                codes: &[200, 201, 202],
                ..operation("post", "post", "create")
            },
            "update" => Operation {
                query: CREATE,
                body: schema(kind).map(|s| (s, ANY)),
                codes: &[200, 201],
                ..operation("put", "put", "replace")
            },
            "patch" => Operation {
                query: PATCH,
                body: Some((format!("{META}.Patch"), PATCH_FORMS)),
                codes: &[200, 201],
                ..operation("patch", "patch", "patch")
            },
            _ => return None,
        })
    };
    verbs.iter().filter_map(of_verb).collect()
}

fn at_subresource(r: &Resource, sub: &Subresource, kind: &Gvk) -> Vec<Operation> {
    let suffix = capital(sub.name);
    if name_of(kind).is_some() && sub.name != "log" {
        return common(r, &suffix, kind, sub.verbs);
    }
    let rest = format!("{}{suffix}", r.kind);
    let connect = |verb: &&str| {
        let method = match *verb {
            "create" => "post",
            "update" => "put",
            "delete" => "delete",
            "patch" => "patch",
            _ => "get",
        };
        let log = sub.name == "log";
        Operation {
            method,
            action: if log { "get" } else { "connect" },
            id: match log {
                true => format!("read{}", named(r, scope(r), &rest)),
                false => format!("connect{}", named(r, &(capital(method) + scope(r)), &rest)),
            },
            query: if log { LOG } else { &[] },
            body: None,
            answer: None,
            forms: if log { &["text/plain"] } else { ANY },
            codes: &[200],
        }
    };
    sub.verbs.iter().map(connect).collect()
}

/// A path with all its operations.
fn item(version: Version, r: &Resource, path: &str, kind: &Gvk, operations: Vec<Operation>) -> Value {
    let mut item = Map::new();
    let group = if r.group.is_empty() { "core" } else { r.group.trim_end_matches(".k8s.io") };
    let tag = format!("{group}_{}", r.version);
    for operation in operations {
        item.insert(operation.method.to_owned(), rendered(version, &tag, kind, &operation));
    }
    let mut parameters = Vec::new();
    for name in ["name", "namespace"] {
        if path.contains(&format!("{{{name}}}")) {
            parameters.push(parameter(version, "path", name, "string"));
        }
    }
    parameters.push(parameter(version, "query", "pretty", "string"));
    item.insert("parameters".to_owned(), parameters.into());
    item.into()
}

fn parameter(version: Version, place: &str, name: &str, kind: &str) -> Value {
    let mut parameter = match version {
        Version::V2 => json!({ "in": place, "name": name, "type": kind, "uniqueItems": true }),
        Version::V3 => json!({ "in": place, "name": name, "schema": { "type": kind, "uniqueItems": true } }),
    };
    if place == "path" {
        parameter["required"] = true.into();
    }
    parameter
}

fn rendered(version: Version, tag: &str, kind: &Gvk, operation: &Operation) -> Value {
    let Operation { query, body, answer, forms, .. } = operation;
    let mut parameters: Vec<Value> = query.iter().map(|(n, t)| parameter(version, "query", n, t)).collect();
    let mut rendered = json!({
        "operationId": operation.id,
        "tags": [tag],
        "x-kubernetes-action": operation.action,
        "x-kubernetes-group-version-kind": { "group": kind.group, "version": kind.version, "kind": kind.kind },
    });
    let schema = answer.as_ref().map_or_else(|| json!({ "type": "string" }), |name| reference(version, name));
    let mut responses = Map::new();
    for code in operation.codes {
        let answer = match version {
            Version::V2 => json!({ "description": reason(*code), "schema": schema }),
            Version::V3 => json!({ "description": reason(*code), "content": contents(forms, &schema) }),
        };
        responses.insert(code.to_string(), answer);
    }
    responses.insert("401".to_owned(), json!({ "description": "Unauthorized" }));
    rendered["responses"] = responses.into();
    if let Some((name, forms)) = body {
        let schema = reference(version, name);
        let required = operation.method != "delete";
        match version {
            Version::V2 => {
                let mut body = json!({ "in": "body", "name": "body", "schema": schema });
                if required {
                    body["required"] = true.into();
                }
                parameters.insert(0, body);
                rendered["consumes"] = forms.iter().copied().collect();
            }
            Version::V3 => {
                rendered["requestBody"] = json!({ "content": contents(forms, &schema) });
                if required {
                    rendered["requestBody"]["required"] = true.into();
                }
            }
        }
    }
    if version == Version::V2 {
        rendered["produces"] = forms.iter().copied().collect();
    }
    if !parameters.is_empty() {
        rendered["parameters"] = parameters.into();
    }
    rendered
}

fn contents(forms: &[&str], schema: &Value) -> Value {
    forms.iter().map(|form| ((*form).to_owned(), json!({ "schema": schema }))).collect::<Map<_, _>>().into()
}

fn reason(code: u16) -> &'static str {
    match code {
        201 => "Created",
        202 => "Accepted",
        _ => "OK",
    }
}
