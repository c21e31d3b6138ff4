//! Rules for what decides on which node a pod runs.

use proto_kube::field::Error;
use proto_kube::name;

use crate::check::Field;
use crate::meta;

const EFFECTS: &[&str] = &["NoSchedule", "PreferNoSchedule", "NoExecute"];

/// Rule: a pod's tolerations.
pub(crate) fn tolerations(tolerations: &Field<'_>) {
    for toleration in tolerations.items() {
        let [key, operator, value, effect] =
            ["key", "operator", "value", "effect"].map(|member| toleration.at(member));
        key.shaped(name::qualified);
        if key.is_empty() && operator.text() != "Exists" {
            operator.invalid(
                "operator must be Exists when `key` is empty, which means \"match all values and all keys\"",
            );
        }
        if toleration.at("tolerationSeconds").is_set() && effect.text() != "NoExecute" {
            effect.invalid("effect must be 'NoExecute' when `tolerationSeconds` is set");
        }
        match operator.text() {
            "" | "Equal" => {
                let faults = name::label_value(value.text());
                if !faults.is_empty() {
                    operator.invalid_value(value.text(), faults.join(";"));
                }
            }
            "Exists" if !value.is_empty() => {
                operator.invalid_value(value.text(), "value must be empty when `operator` is 'Exists'");
            }
            "Exists" => {}
            "Lt" | "Gt" => operator.not_supported(&["Equal", "Exists", "Lt", "Gt"]),
            _ => operator.not_supported(&["Equal", "Exists"]),
        }
        if !effect.is_empty() {
            effect.maybe_one_of(EFFECTS);
        }
    }
}

/// Rule: the taints of a node.
pub(crate) fn taints(taints: &Field<'_>) {
    let mut seen = Vec::new();
    for taint in taints.items() {
        let (key, value, effect) = (taint.at("key"), taint.at("value"), taint.at("effect"));
        key.all_invalid(name::qualified(key.text()));
        let faults = name::label_value(value.text());
        if !faults.is_empty() {
            value.invalid(faults.join(";"));
        }
        effect.one_of(EFFECTS);
        let pair = (key.text(), effect.text());
        if seen.contains(&pair) {
            let detail = "taints must be unique by key and effect pair".to_owned();
            taint.fault(Error { detail, ..Error::duplicate(&taint.path, taint.value.clone()) });
        }
        seen.push(pair);
    }
}

/// Rule: a pod's scheduling gates.
pub(crate) fn gates(gates: &Field<'_>) {
    let mut seen = Vec::new();
    for gate in gates.items() {
        let name = gate.at("name").text();
        name::qualified(name).into_iter().for_each(|fault| gate.invalid_value(name, fault));
        if seen.contains(&name) {
            gate.fault(Error::duplicate(&gate.path, name));
        }
        seen.push(name);
    }
}

/// Rule: a pod's affinity.
pub(crate) fn affinity(affinity: &Field<'_>) {
    let node = affinity.at("nodeAffinity");
    if let Some(required) = node.member("requiredDuringSchedulingIgnoredDuringExecution") {
        node_selector(&required);
    }
    for term in node.at("preferredDuringSchedulingIgnoredDuringExecution").items() {
        weight(&term);
        node_term(&term.at("preference"), false);
    }
    for key in ["podAffinity", "podAntiAffinity"] {
        let pods = affinity.at(key);
        for term in pods.at("requiredDuringSchedulingIgnoredDuringExecution").items() {
            pod_term(&term);
        }
        for term in pods.at("preferredDuringSchedulingIgnoredDuringExecution").items() {
            weight(&term);
            pod_term(&term.at("podAffinityTerm"));
        }
    }
}

fn weight(term: &Field<'_>) {
    let weight = term.at("weight");
    if !(1..=100).contains(&weight.number_or_zero()) {
        weight.invalid_value(weight.number_or_zero(), "must be in the range 1-100");
    }
}

/// Rule: a `NodeSelector`.
pub(crate) fn node_selector(selector: &Field<'_>) {
    let terms = selector.at("nodeSelectorTerms");
    if terms.needs("must have at least one node selector term") {
        terms.items().for_each(|term| node_term(&term, true));
    }
}

fn node_term(term: &Field<'_>, strict: bool) {
    for requirement in term.at("matchExpressions").items() {
        let [key, operator, values] = ["key", "operator", "values"].map(|member| requirement.at(member));
        match operator.text() {
            "In" | "NotIn" if values.is_empty() => {
                values.required("must be specified when `operator` is 'In' or 'NotIn'");
            }
            "Exists" | "DoesNotExist" if !values.is_empty() => {
                values.forbidden("may not be specified when `operator` is 'Exists' or 'DoesNotExist'");
            }
            "Gt" | "Lt" if values.len() != 1 => {
                values.required("must be specified single value when `operator` is 'Lt' or 'Gt'");
            }
            "In" | "NotIn" | "Exists" | "DoesNotExist" | "Gt" | "Lt" => {}
            _ => operator.invalid("not a valid selector operator"),
        }
        key.all_invalid(name::qualified(key.text()));
        for value in values.items().filter(|_| strict) {
            value.all_invalid(name::label_value(value.text()));
        }
    }
    for requirement in term.at("matchFields").items() {
        let [key, operator, values] = ["key", "operator", "values"].map(|member| requirement.at(member));
        if !["In", "NotIn"].contains(&operator.text()) {
            operator.invalid("not a valid selector operator");
        } else if values.len() != 1 {
            values.required(
                "must be only one value when `operator` is 'In' or 'NotIn' for node field selector",
            );
        }
        if key.text() == "metadata.name" {
            values.items().for_each(|value| value.all_invalid(name::subdomain(value.text())));
        } else {
            key.invalid("not a valid field selector key");
        }
    }
}

fn pod_term(term: &Field<'_>) {
    meta::label_selector(&term.at("labelSelector"));
    meta::label_selector(&term.at("namespaceSelector"));
    for namespace in term.at("namespaces").items() {
        let shown = term.at("namespace");
        name::label(namespace.text()).into_iter().for_each(|f| shown.invalid_value(namespace.text(), f));
    }
    let (keys, mismatched) = (term.at("matchLabelKeys"), term.at("mismatchLabelKeys"));
    for list in [&keys, &mismatched] {
        if !list.is_empty() && !term.at("labelSelector").is_set() {
            list.forbidden("must not be specified when labelSelector is not set");
        } else {
            list.items().for_each(|key| key.all_invalid(name::qualified(key.text())));
        }
    }
    for (index, key) in keys.items().enumerate() {
        if selected(&term.at("labelSelector"), key.text()) > 1 {
            let detail = "exists in both matchLabelKeys and labelSelector";
            key.shown_at(term.path.index(index)).invalid(detail);
        }
        if mismatched.items().any(|other| other.text() == key.text()) {
            key.invalid("exists in both matchLabelKeys and mismatchLabelKeys");
        }
    }
    let topology = term.at("topologyKey");
    topology.needs("can not be empty");
    topology.all_invalid(name::qualified(topology.text()));
}

/// Rule: a pod's topology spread constraints.
pub(crate) fn spread(constraints: &Field<'_>) {
    for (index, constraint) in constraints.items().enumerate() {
        let [skew, key, action, least] =
            ["maxSkew", "topologyKey", "whenUnsatisfiable", "minDomains"].map(|member| constraint.at(member));
        if skew.number_or_zero() <= 0 {
            skew.invalid_value(skew.number_or_zero(), "must be greater than zero");
        }
        key.needs("can not be empty");
        if !["DoNotSchedule", "ScheduleAnyway"].contains(&action.text()) {
            action.not_supported(&["DoNotSchedule", "ScheduleAnyway"]);
        }
        let again = constraints.items().skip(index + 1).any(|other| {
            other.at("topologyKey").text() == key.text()
                && other.at("whenUnsatisfiable").text() == action.text()
        });
        if again {
            let shown = format!("{{{}, {}}}", key.text(), action.text());
            let path = constraint.path.child("{topologyKey, whenUnsatisfiable}");
            constraint.fault(Error::duplicate(&path, shown));
        }
        if least.number().is_some_and(|n| n <= 0) {
            least.invalid("must be greater than zero");
        }
        if least.is_set() && action.text() != "DoNotSchedule" {
            let action = action.text();
            least
                .invalid(format!("can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {action}"));
        }
        for policy in ["nodeAffinityPolicy", "nodeTaintsPolicy"] {
            constraint.at(policy).maybe_one_of(&["Honor", "Ignore"]);
        }
        label_keys(&constraint);
        meta::label_selector(&constraint.at("labelSelector"));
    }
}

/// How often a selector speaks of a label. The server itself adds one expression for each of the `matchLabelKeys`.
fn selected(selector: &Field<'_>, key: &str) -> usize {
    let label = usize::from(selector.at("matchLabels").entry(key).is_set());
    label + selector.at("matchExpressions").items().filter(|e| e.at("key").text() == key).count()
}

fn label_keys(constraint: &Field<'_>) {
    let (keys, selector) = (constraint.at("matchLabelKeys"), constraint.at("labelSelector"));
    if !keys.is_empty() && !selector.is_set() {
        keys.forbidden("must not be specified when labelSelector is not set");
    }
    for (index, key) in keys.items().enumerate() {
        key.all_invalid(name::qualified(key.text()));
        if selected(&selector, key.text()) > 1 {
            let shown = key.shown_at(constraint.path.index(index));
            shown.invalid("exists in both matchLabelKeys and labelSelector");
        }
    }
}
