//! The roles and bindings that a cluster is born with, as a table, and how they are kept.

mod reconcile;

use proto_kube::GroupResource;
use serde_json::{Value, json};

pub use reconcile::reconcile;

use crate::rbac::{GROUP, Rule};

/// Marks the objects of the bootstrap policy.
pub const LABEL: (&str, &str) = ("kubernetes.io/bootstrapping", "rbac-defaults");

const AUTOUPDATE: &str = "rbac.authorization.kubernetes.io/autoupdate";

const TABLE: &str = include_str!("policy.txt");

/// All objects of the bootstrap policy: ClusterRoles, ClusterRoleBindings, and the Roles and RoleBindings of
/// `kube-system` and `kube-public`. The cluster roles that gather others come with their rules.
#[must_use]
pub fn objects() -> Vec<(GroupResource<'static>, Value)> {
    let mut objects: Vec<(GroupResource<'static>, Value)> = Vec::new();
    let mut namespace = "";
    for line in TABLE.lines().filter(|line| !line.starts_with('#')) {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["namespace", name] => namespace = name,
            ["role", name, options @ ..] => {
                objects.push(role(namespace, name, options));
                if namespace.is_empty()
                    && let Some(account) = name.strip_prefix("system:controller:")
                {
                    objects.push(binding(
                        namespace,
                        name,
                        name,
                        &[&format!("account:kube-system/{account}")],
                    ));
                }
            }
            ["bind", name, subjects @ ..] => {
                let (of, subjects) = match subjects.first().and_then(|word| word.strip_prefix("role=")) {
                    Some(role) => (role, &subjects[1..]),
                    None => (*name, subjects),
                };
                objects.push(binding(namespace, name, of, subjects));
            }
            words => {
                // A rule belongs to the role above it, which a controller's binding may follow.
                let of = objects.iter_mut().rev().find(|(resource, _)| resource.resource.ends_with("roles"));
                if let Some(Value::Array(rules)) = of.and_then(|(_, role)| role.get_mut("rules")) {
                    rules.push(rule(words).to_json());
                }
            }
        }
    }
    // What `view` gathers, `edit` gathers again, and `admin` from that.
    while gather(&mut objects) {}
    objects
}

/// The rules of the role `system:node`: what each node may do where no object decides.
pub(crate) fn node_rules() -> Vec<Rule> {
    let lines = TABLE.lines().skip_while(|line| *line != "role system:node").skip(1);
    lines
        .take_while(|line| line.starts_with(' '))
        .map(|line| rule(&line.split_whitespace().collect::<Vec<_>>()))
        .collect()
}

/// Lets each role gather once; tells whether one changed.
fn gather(objects: &mut [(GroupResource<'static>, Value)]) -> bool {
    let mut changed = false;
    for at in 0..objects.len() {
        let roles = objects.iter().filter(|(r, _)| r.resource == "clusterroles").map(|(_, role)| role);
        if let Some(rules) = crate::rbac::aggregate(&objects[at].1, roles) {
            objects[at].1["rules"] = rules.into();
            changed = true;
        }
    }
    changed
}

fn role(namespace: &'static str, name: &str, options: &[&str]) -> (GroupResource<'static>, Value) {
    let (resource, kind) =
        if namespace.is_empty() { ("clusterroles", "ClusterRole") } else { ("roles", "Role") };
    let mut role = object(kind, namespace, name);
    role["rules"] = json!([]);
    for option in options {
        let label = |name| format!("{GROUP}/{name}");
        match option.split_once('=') {
            Some(("is", name)) => role["metadata"]["labels"][label(name)] = "true".into(),
            Some(("of", name)) => {
                let selector = json!({"matchLabels": {label(name): "true"}});
                role["aggregationRule"] = json!({"clusterRoleSelectors": [selector]});
            }
            _ => {}
        }
    }
    (GroupResource { group: GROUP, resource }, role)
}

fn binding(
    namespace: &'static str,
    name: &str,
    of: &str,
    subjects: &[&str],
) -> (GroupResource<'static>, Value) {
    let (resource, kind, role) = match namespace {
        "" => ("clusterrolebindings", "ClusterRoleBinding", "ClusterRole"),
        _ => ("rolebindings", "RoleBinding", "Role"),
    };
    let subject = |word: &&str| match word.split_once(':') {
        Some(("user", name)) => json!({"apiGroup": GROUP, "kind": "User", "name": name}),
        Some(("group", name)) => json!({"apiGroup": GROUP, "kind": "Group", "name": name}),
        _ => {
            let (namespace, name) = word.trim_start_matches("account:").split_once('/').unwrap_or_default();
            json!({"kind": "ServiceAccount", "name": name, "namespace": namespace})
        }
    };
    let mut binding = object(kind, namespace, name);
    binding["roleRef"] = json!({"apiGroup": GROUP, "kind": role, "name": of});
    if !subjects.is_empty() {
        binding["subjects"] = subjects.iter().map(subject).collect();
    }
    (GroupResource { group: GROUP, resource }, binding)
}

fn object(kind: &str, namespace: &str, name: &str) -> Value {
    let mut metadata = json!({
        "name": name,
        "labels": {LABEL.0: LABEL.1},
        "annotations": {AUTOUPDATE: "true"},
    });
    if !namespace.is_empty() {
        metadata["namespace"] = namespace.into();
    }
    json!({"apiVersion": format!("{GROUP}/v1"), "kind": kind, "metadata": metadata})
}

/// Of the words of a line: verbs, groups, resources, names; or verbs and paths.
fn rule(words: &[&str]) -> Rule {
    let list = |at: usize| -> Vec<String> {
        words.get(at).map_or_else(Vec::new, |word| word.split(',').map(str::to_owned).collect())
    };
    let verbs = list(0).into_iter().flat_map(|verb| match verb.as_str() {
        "read" => ["get", "list", "watch"].map(str::to_owned).to_vec(),
        "write" => ["create", "delete", "deletecollection", "patch", "update"].map(str::to_owned).to_vec(),
        _ => vec![verb],
    });
    let mut verbs: Vec<_> = verbs.collect();
    verbs.sort();
    if words.len() == 2 {
        return Rule { verbs, paths: list(1), ..Rule::default() };
    }
    let groups =
        list(1).into_iter().map(|group| if group == "core" { String::new() } else { group }).collect();
    Rule { verbs, groups, resources: list(2), names: list(3), ..Rule::default() }
}

#[cfg(test)]
mod tests;
