//! Nobody gives what he does not have: the checks on writes of roles and bindings.

use proto_kube::{GroupResource, Status, User, object};
use serde_json::Value;

use super::rule::{describe, uncovered};
use super::{Binding, GROUP, Policy, Rule, everything};
use crate::{Attributes, MASTERS};

/// Of how many combinations the rules may be whose holder is looked for: few kilobytes say millions of them.
const MOST: usize = 100_000;
/// How many words are compared in the search.
const MOST_COMPARED: usize = 200_000_000;
/// How many of the missing combinations a refusal names.
const MOST_NAMED: usize = 1000;

impl Policy {
    /// Whether a user may write a role or a binding so: all that it grants he must be allowed himself, unless he is
    /// allowed the verb `escalate` on the role or `bind` on the role that a binding refers to. Objects of other
    /// resources pass. `name` is the request's: empty on create.
    ///
    /// # Errors
    /// The 403 that answers the request.
    pub fn escalation(
        &self,
        user: &User,
        resource: GroupResource<'_>,
        name: &str,
        new: &Value,
        old: Option<&Value>,
    ) -> Result<(), Status> {
        if resource.group != GROUP
            || user.is_in(MASTERS)
            || old.is_some_and(|old| is_left_to_collect(new, old))
        {
            return Ok(());
        }
        match resource.resource {
            "roles" | "clusterroles" => self.role(user, resource, name, new, old),
            "rolebindings" | "clusterrolebindings" => self.binding(user, resource, new),
            _ => Ok(()),
        }
    }

    fn role(
        &self,
        user: &User,
        resource: GroupResource<'_>,
        name: &str,
        new: &Value,
        old: Option<&Value>,
    ) -> Result<(), Status> {
        let namespace = object::namespace(new);
        let asked = Attributes {
            verb: "escalate",
            group: GROUP,
            version: "*",
            resource: resource.resource,
            namespace,
            name,
            ..Attributes::default()
        };
        if self.authorize(user, &asked).is_allowed() {
            return Ok(());
        }
        let rules: Vec<Rule> = object::items(new, &["rules"]).map(Rule::of).collect();
        let refuse = |why: &str| Status::forbidden(resource, object::name(new), why);
        self.holds(user, namespace, &rules).map_err(|why| refuse(&why))?;
        let gathers =
            |role: &Value| object::items(role, &["aggregationRule", "clusterRoleSelectors"]).count() > 0;
        if resource.resource == "clusterroles" && (gathers(new) || old.is_some_and(gathers)) {
            self.holds(user, "", &everything())
                .map_err(|_| refuse("must have cluster-admin privileges to use the aggregationRule"))?;
        }
        Ok(())
    }

    fn binding(&self, user: &User, resource: GroupResource<'_>, new: &Value) -> Result<(), Status> {
        let Binding { role, .. } = Binding::of(new);
        let namespace = object::namespace(new);
        let refused = match role.kind.as_str() {
            "ClusterRole" => "clusterroles",
            "Role" => "roles",
            _ => "",
        };
        let asked = Attributes {
            verb: "bind",
            group: GROUP,
            version: "*",
            resource: refused,
            namespace,
            name: &role.name,
            ..Attributes::default()
        };
        if !refused.is_empty() && self.authorize(user, &asked).is_allowed() {
            return Ok(());
        }
        let rules = self.rules_of(&role, namespace).map_err(|why| match refused {
            "" => Status::internal(why),
            _ => Status::not_found(
                GroupResource { group: GROUP, resource: refused.trim_end_matches('s') },
                &role.name,
            ),
        })?;
        self.holds(user, namespace, rules).map_err(|why| Status::forbidden(resource, object::name(new), &why))
    }

    /// Whether a user has all of the rules in a namespace; if not, which he lacks.
    fn holds(&self, user: &User, namespace: &str, rules: &[Rule]) -> Result<(), String> {
        let held = self.rules_for(user, namespace);
        let groups: Vec<_> = user.groups.iter().map(|g| format!("{g:?}")).collect();
        let attempt = format!(
            "user {:?} (groups=[{}]) is attempting to grant RBAC permissions",
            user.name,
            groups.join(" ")
        );
        let (size, most) = (sum(rules, Rule::size), most(&held.rules));
        if size > most {
            return Err(format!(
                "{attempt} that are too many to check: the rules have {size} combinations of a verb, an API group, a resource and a name, and at most {most} are checked at once: split them into several roles"
            ));
        }
        let missing = first(uncovered(&held.rules, rules));
        if missing.is_empty() {
            return Ok(());
        }
        let mut why = format!("{attempt} not currently held:\n{}", describe(&missing));
        if !held.errors.is_empty() {
            why.push_str(&format!("; resolution errors: [{}]", held.errors.join(", ")));
        }
        Err(why)
    }
}

/// Of how many combinations a user with these rules may write a role: each is compared with all that he holds.
fn most(held: &[Rule]) -> usize {
    MOST_COMPARED.checked_div(sum(held, Rule::words)).map_or(MOST, |most| most.min(MOST))
}

fn sum(rules: &[Rule], of: fn(&Rule) -> usize) -> usize {
    rules.iter().map(of).fold(0, usize::saturating_add)
}

/// As many rules as a refusal names.
fn first(rules: impl Iterator<Item = Rule>) -> Vec<Rule> {
    let (mut found, mut size) = (Vec::new(), 0);
    for rule in rules {
        size += rule.size();
        found.push(rule);
        if size >= MOST_NAMED {
            break;
        }
    }
    found
}

/// Whether a write does nothing but let the object go: owners and finalizers.
fn is_left_to_collect(new: &Value, old: &Value) -> bool {
    let bare = |object: &Value| {
        let mut object = object.clone();
        if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
            for key in ["ownerReferences", "finalizers", "managedFields"] {
                metadata.remove(key);
            }
        }
        object
    };
    new != old && bare(new) == bare(old)
}
