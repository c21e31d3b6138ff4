//! What would allow a request that was refused.

use proto_kube::User;

use super::{Policy, Rule};
use crate::{Attributes, MASTERS};

impl Policy {
    /// What would allow a refused request: the smallest role that does, of those that the user may know of, and the
    /// rule that is missing. Empty for one who proved no identity, and for a node, which must not get more than what its
    /// pods need.
    #[must_use]
    pub fn suggest(&self, user: &User, asked: &Attributes<'_>) -> String {
        if user.is_anonymous() || user.is_in(MASTERS) || user.node().is_some() {
            return String::new();
        }
        let rule = needed(asked).to_json();
        match self.role_for(user, asked) {
            Some((kind, name)) => {
                format!("{kind} {name:?}, if bound to the user, would allow it, as would the rule {rule}")
            }
            None => format!("the rule {rule} in a role that is bound to the user would allow it"),
        }
    }

    fn role_for(&self, user: &User, asked: &Attributes<'_>) -> Option<(&'static str, &str)> {
        let knows = |namespace: &str, name: &str| {
            let resource = if namespace.is_empty() { "clusterroles" } else { "roles" };
            let read = Attributes {
                verb: "get",
                group: super::GROUP,
                resource,
                namespace,
                name,
                ..Attributes::default()
            };
            self.authorize(user, &read).is_allowed()
        };
        let fits =
            |namespace: &str| namespace.is_empty() || (asked.path.is_none() && namespace == asked.namespace);
        let whole = &super::everything()[0];
        let mut roles: Vec<_> = self
            .roles
            .iter()
            .filter(|((namespace, _), role)| {
                fits(namespace) && role.rules.iter().any(|rule| rule.allows(asked))
            })
            // A role of the system is for the system, and nobody needs everything.
            .filter(|((_, name), role)| !name.starts_with("system:") && !role.rules.contains(whole))
            .map(|((namespace, name), role)| {
                (role.rules.iter().map(Rule::weight).sum::<usize>(), name, namespace, role)
            })
            .collect();
        roles.sort_by_key(|(weight, name, ..)| (*weight, *name));
        let (_, name, namespace, _) =
            roles.into_iter().find(|(_, name, namespace, role)| role.born || knows(namespace, name))?;
        Some((if namespace.is_empty() { "ClusterRole" } else { "Role" }, name))
    }
}

/// The smallest rule that allows it.
fn needed(asked: &Attributes<'_>) -> Rule {
    let one = |text: &str| vec![text.to_owned()];
    match asked.path {
        Some(path) => Rule { verbs: one(asked.verb), paths: one(path), ..Rule::default() },
        None => Rule {
            verbs: one(asked.verb),
            groups: one(asked.group),
            resources: vec![asked.combined()],
            ..Rule::default()
        },
    }
}
