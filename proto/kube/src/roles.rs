//! Cluster roles that are made of others.

use crate::object;
use crate::selector::Labels;
use serde_json::Value;

/// The rules that a cluster role with an `aggregationRule` should have: those of all cluster roles that one of its
/// selectors selects, in the order of `roles`' names, each once. `None` when the role gathers nothing or has them
/// already.
#[must_use]
pub fn aggregate<'a>(role: &Value, roles: impl IntoIterator<Item = &'a Value>) -> Option<Vec<Value>> {
    let selectors: Vec<Labels> = object::items(role, &["aggregationRule", "clusterRoleSelectors"])
        .filter_map(|selector| Labels::of(selector).ok().flatten())
        .collect();
    if selectors.is_empty() {
        return None;
    }
    let mut roles: Vec<&Value> = roles.into_iter().collect();
    roles.sort_by_key(|role| object::name(role));
    let mut rules: Vec<Value> = Vec::new();
    // Selector by selector, as upstream's controller does.
    for selector in &selectors {
        let chosen =
            roles.iter().filter(|other| object::name(other) != object::name(role) && selector.selects(other));
        for rule in chosen.flat_map(|other| object::items(other, &["rules"])) {
            if !rules.contains(rule) {
                rules.push(rule.clone());
            }
        }
    }
    let same = object::items(role, &["rules"]).eq(&rules);
    (!same).then_some(rules)
}
