//! Role-based access control: roles, the bindings that give them to subjects, and what follows from both.

mod escalation;
mod rule;
mod suggest;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use proto_kube::{GroupResource, User, object};
use serde_json::Value;

pub use proto_kube::roles::aggregate;
pub use rule::{Rule, uncovered};

use crate::{Attributes, Decision, MASTERS};

/// The API group of roles and bindings.
pub const GROUP: &str = "rbac.authorization.k8s.io";

/// All roles and bindings of a cluster, found by subject. Replacing one object costs what that object costs.
#[derive(Debug, Default)]
pub struct Policy {
    roles: HashMap<Key, Role>,
    bindings: HashMap<Key, Binding>,
    /// The bindings of a subject, by namespace.
    bound: HashMap<Subject, BTreeMap<String, BTreeSet<String>>>,
}

/// Namespace and name; the namespace is empty for a cluster-scoped object.
type Key = (String, String);

#[derive(Debug)]
struct Role {
    rules: Vec<Rule>,
    /// Everyone knows the roles that a cluster is born with.
    born: bool,
}

#[derive(Debug)]
struct Binding {
    role: RoleRef,
    subjects: Vec<Subject>,
    /// What the subjects are called in the reasons.
    titles: Vec<String>,
}

#[derive(Debug)]
struct RoleRef {
    kind: String,
    name: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Subject {
    User(String),
    Group(String),
}

/// What a user may do in a namespace.
#[derive(Debug, Default)]
pub struct Rules {
    /// In the order of the bindings.
    pub rules: Vec<Rule>,
    /// Why the list may lack some: bindings to roles that do not exist.
    pub errors: Vec<String>,
}

impl Policy {
    /// Takes in a role or a binding as it now is; objects of other resources are none of its business.
    pub fn put(&mut self, resource: GroupResource<'_>, object: &Value) {
        let key = (object::namespace(object).to_owned(), object::name(object).to_owned());
        match (resource.group, resource.resource) {
            (GROUP, "roles" | "clusterroles") => {
                let rules = object::items(object, &["rules"]).map(Rule::of).collect();
                let born = object::labels(object).any(|label| label == crate::bootstrap::LABEL);
                self.roles.insert(key, Role { rules, born });
            }
            (GROUP, "rolebindings" | "clusterrolebindings") => {
                self.unbind(&key);
                let binding = Binding::of(object);
                for subject in &binding.subjects {
                    let by_namespace = self.bound.entry(subject.clone()).or_default();
                    by_namespace.entry(key.0.clone()).or_default().insert(key.1.clone());
                }
                self.bindings.insert(key, binding);
            }
            _ => {}
        }
    }

    /// Forgets a role or a binding; the namespace is empty for a cluster-scoped one.
    pub fn remove(&mut self, resource: GroupResource<'_>, namespace: &str, name: &str) {
        let key = (namespace.to_owned(), name.to_owned());
        match (resource.group, resource.resource) {
            (GROUP, "roles" | "clusterroles") => drop(self.roles.remove(&key)),
            (GROUP, "rolebindings" | "clusterrolebindings") => self.unbind(&key),
            _ => {}
        }
    }

    fn unbind(&mut self, key: &Key) {
        for subject in self.bindings.remove(key).into_iter().flat_map(|b| b.subjects) {
            let Some(by_namespace) = self.bound.get_mut(&subject) else { continue };
            if let Some(names) = by_namespace.get_mut(&key.0) {
                names.remove(&key.1);
                if names.is_empty() {
                    by_namespace.remove(&key.0);
                }
            }
            if by_namespace.is_empty() {
                self.bound.remove(&subject);
            }
        }
    }

    /// Whether a user may do something. Never denies.
    #[must_use]
    pub fn authorize(&self, user: &User, asked: &Attributes<'_>) -> Decision {
        if user.is_in(MASTERS) {
            return Decision::Allow(String::new());
        }
        let mut errors = Vec::new();
        for (key, binding) in self.bindings_of(user, asked.namespace) {
            match self.rules_of(&binding.role, &key.0) {
                Ok(rules) if rules.iter().any(|rule| rule.allows(asked)) => {
                    return Decision::Allow(format!("RBAC: allowed by {}", binding.describe(key, user)));
                }
                Ok(_) => {}
                Err(error) => errors.push(error),
            }
        }
        Decision::NoOpinion(match errors.as_slice() {
            [] => String::new(),
            [error] => format!("RBAC: {error}"),
            errors => format!("RBAC: [{}]", errors.join(", ")),
        })
    }

    /// What a user may do in a namespace, or in the whole cluster for an empty one.
    #[must_use]
    pub fn rules_for(&self, user: &User, namespace: &str) -> Rules {
        let mut found = Rules::default();
        if user.is_in(MASTERS) {
            found.rules = everything();
        }
        for (key, binding) in self.bindings_of(user, namespace) {
            match self.rules_of(&binding.role, &key.0) {
                Ok(rules) => found.rules.extend_from_slice(rules),
                Err(error) => found.errors.push(error),
            }
        }
        found
    }

    /// The bindings that apply to a user, those of the whole cluster first, each once and in the order of names.
    fn bindings_of<'a>(
        &'a self,
        user: &User,
        namespace: &str,
    ) -> impl Iterator<Item = (&'a Key, &'a Binding)> {
        let subjects = std::iter::once(Subject::User(user.name.clone()))
            .chain(user.groups.iter().cloned().map(Subject::Group));
        let bound: Vec<_> = subjects.filter_map(|subject| self.bound.get(&subject)).collect();
        let scopes = if namespace.is_empty() { vec![""] } else { vec!["", namespace] };
        let mut keys = Vec::new();
        for scope in scopes {
            let names: BTreeSet<&String> = bound.iter().filter_map(|b| b.get(scope)).flatten().collect();
            keys.extend(names.into_iter().map(|name| (scope.to_owned(), name.clone())));
        }
        keys.into_iter().filter_map(|key| self.bindings.get_key_value(&key))
    }

    /// The rules of the role that a binding in `namespace` refers to.
    fn rules_of(&self, role: &RoleRef, namespace: &str) -> Result<&[Rule], String> {
        let (namespace, word) = match role.kind.as_str() {
            "ClusterRole" => ("", "clusterrole"),
            "Role" => (namespace, "role"),
            kind => return Err(format!("unsupported role reference kind: {kind:?}")),
        };
        let key = (namespace.to_owned(), role.name.clone());
        match self.roles.get(&key) {
            // A Role of no namespace would be a cluster role of the name.
            Some(role) if word == "clusterrole" || !namespace.is_empty() => Ok(&role.rules),
            _ => Err(format!("{word}.{GROUP} {:?} not found", role.name)),
        }
    }
}

impl Binding {
    fn of(object: &Value) -> Self {
        let namespace = object::namespace(object);
        let role = RoleRef {
            kind: object::text(object, &["roleRef", "kind"]).to_owned(),
            name: object::text(object, &["roleRef", "name"]).to_owned(),
        };
        let (mut subjects, mut titles) = (Vec::new(), Vec::new());
        for subject in object::items(object, &["subjects"]) {
            let text = |key| object::text(subject, &[key]);
            let name = text("name");
            let (subject, title) = match text("kind") {
                "User" => (Subject::User(name.to_owned()), format!("User {name:?}")),
                "Group" => (Subject::Group(name.to_owned()), format!("Group {name:?}")),
                "ServiceAccount" => {
                    let own = text("namespace");
                    let namespace = if own.is_empty() { namespace } else { own };
                    if namespace.is_empty() {
                        continue;
                    }
                    let title = format!("ServiceAccount {:?}", format!("{name}/{namespace}"));
                    (Subject::User(format!("system:serviceaccount:{namespace}:{name}")), title)
                }
                _ => continue,
            };
            subjects.push(subject);
            titles.push(title);
        }
        Self { role, subjects, titles }
    }

    /// As upstream's audit reason has it.
    fn describe(&self, key: &Key, user: &User) -> String {
        let is = |subject: &Subject| match subject {
            Subject::User(name) => *name == user.name,
            Subject::Group(name) => user.is_in(name),
        };
        let at = self.subjects.iter().position(is).unwrap_or_default();
        let (kind, name) = match key.0.as_str() {
            "" => ("ClusterRoleBinding", key.1.clone()),
            namespace => ("RoleBinding", format!("{}/{namespace}", key.1)),
        };
        let RoleRef { kind: role, name: of } = &self.role;
        format!("{kind} {name:?} of {role} {of:?} to {}", self.titles.get(at).map_or("", String::as_str))
    }
}

/// What a cluster's administrator may do.
fn everything() -> Vec<Rule> {
    let all = || vec!["*".to_owned()];
    vec![
        Rule { verbs: all(), groups: all(), resources: all(), ..Rule::default() },
        Rule { verbs: all(), paths: all(), ..Rule::default() },
    ]
}

#[cfg(test)]
mod tests;
