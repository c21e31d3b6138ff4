//! Which objects a pod speaks of: nodes by their labels and names, pods by their labels and namespaces, taints.

use std::collections::{BTreeMap, BTreeSet};

use proto_kube::object::{at, items, text};
use proto_kube::selector;
use serde_json::Value;

/// Labels by key.
pub(crate) type Labels = BTreeMap<String, String>;

pub(crate) fn labels_of(object: &Value) -> Labels {
    proto_kube::object::labels(object).map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

/// Selectors that must all admit.
#[derive(Debug, Clone, Default)]
pub(crate) struct Selector {
    /// One of them admits nothing.
    nothing: bool,
    all: Vec<selector::Labels>,
}

impl Selector {
    /// Of a `LabelSelector`; none, or one that is wrong, selects nothing.
    pub(crate) fn of(value: Option<&Value>) -> Self {
        let mut selector = Self::default();
        selector.and(value);
        selector
    }

    pub(crate) fn and(&mut self, value: Option<&Value>) {
        match selector::Labels::of(value.unwrap_or(&Value::Null)) {
            Ok(Some(labels)) => self.all.push(labels),
            Ok(None) | Err(_) => self.nothing = true,
        }
    }

    pub(crate) fn and_map(&mut self, map: &Value) {
        self.all.push(selector::Labels::of_map(map));
    }

    /// Whether it admits everything.
    pub(crate) fn is_empty(&self) -> bool {
        !self.nothing && self.all.iter().all(selector::Labels::is_empty)
    }

    pub(crate) fn admits(&self, labels: &Labels) -> bool {
        !self.nothing && self.all.iter().all(|one| one.admits(|key| labels.get(key).map(String::as_str)))
    }
}

/// Other pods, near which a pod wants to be or does not.
#[derive(Debug, Clone)]
pub(crate) struct Term {
    selector: Selector,
    namespaces: BTreeSet<String>,
    namespace_selector: Option<Selector>,
    /// What "near" is: the same value of this label of the nodes.
    pub(crate) topology_key: String,
}

impl Term {
    fn of(term: &Value, namespace: &str) -> Self {
        let mut namespaces: BTreeSet<String> =
            items(term, &["namespaces"]).filter_map(Value::as_str).map(str::to_owned).collect();
        let namespace_selector = at(term, &["namespaceSelector"]).map(|s| Selector::of(Some(s)));
        if namespaces.is_empty() && namespace_selector.is_none() {
            namespaces.insert(namespace.to_owned());
        }
        Self {
            selector: Selector::of(at(term, &["labelSelector"])),
            namespaces,
            namespace_selector,
            topology_key: text(term, &["topologyKey"]).to_owned(),
        }
    }

    /// The terms of `podAffinity` or `podAntiAffinity`: required, and preferred with their weights.
    pub(crate) fn all(affinity: Option<&Value>, namespace: &str) -> (Vec<Self>, Vec<(i64, Self)>) {
        let Some(affinity) = affinity else { return Default::default() };
        let required = items(affinity, &["requiredDuringSchedulingIgnoredDuringExecution"]);
        let preferred = items(affinity, &["preferredDuringSchedulingIgnoredDuringExecution"]);
        let weighted = |term: &Value| {
            let weight = term["weight"].as_i64().unwrap_or_default();
            (weight, Self::of(&term["podAffinityTerm"], namespace))
        };
        (required.map(|term| Self::of(term, namespace)).collect(), preferred.map(weighted).collect())
    }

    /// Whether it speaks of a pod; `of_namespace` are the labels of a namespace.
    pub(crate) fn admits(
        &self,
        namespace: &str,
        labels: &Labels,
        of_namespace: &dyn Fn(&str) -> Labels,
    ) -> bool {
        let here = self.namespaces.contains(namespace)
            || self
                .namespace_selector
                .as_ref()
                .is_some_and(|s| s.is_empty() || s.admits(&of_namespace(namespace)));
        here && self.selector.admits(labels)
    }
}

/// A condition on a node.
#[derive(Debug, Clone)]
struct Requirement {
    key: String,
    operator: String,
    values: Vec<String>,
}

impl Requirement {
    fn of(value: &Value) -> Self {
        Self {
            key: text(value, &["key"]).to_owned(),
            operator: text(value, &["operator"]).to_owned(),
            values: items(value, &["values"]).filter_map(Value::as_str).map(str::to_owned).collect(),
        }
    }

    fn admits(&self, value: Option<&str>) -> bool {
        let listed = || value.is_some_and(|value| self.values.iter().any(|v| v == value));
        let numbers = || Some((value?.parse::<i64>().ok()?, self.values.first()?.parse::<i64>().ok()?));
        match self.operator.as_str() {
            "In" => listed(),
            "NotIn" => !listed(),
            "Exists" => value.is_some(),
            "DoesNotExist" => value.is_none(),
            "Gt" => numbers().is_some_and(|(is, least)| is > least),
            "Lt" => numbers().is_some_and(|(is, most)| is < most),
            _ => false,
        }
    }
}

/// A `NodeSelectorTerm`: all of it must hold; an empty one never does.
#[derive(Debug, Clone)]
pub(crate) struct NodeTerm {
    labels: Vec<Requirement>,
    fields: Vec<Requirement>,
}

impl NodeTerm {
    pub(crate) fn of(term: &Value) -> Self {
        Self {
            labels: items(term, &["matchExpressions"]).map(Requirement::of).collect(),
            fields: items(term, &["matchFields"]).map(Requirement::of).collect(),
        }
    }

    pub(crate) fn admits(&self, name: &str, labels: &Labels) -> bool {
        let is_empty = self.labels.is_empty() && self.fields.is_empty();
        !is_empty
            && self.labels.iter().all(|r| r.admits(labels.get(&r.key).map(String::as_str)))
            && self.fields.iter().all(|r| r.key == "metadata.name" && r.admits(Some(name)))
    }

    /// The only nodes that it can admit, where it names them.
    fn names(&self) -> Option<BTreeSet<&str>> {
        let lists = self.fields.iter().filter(|r| r.key == "metadata.name" && r.operator == "In");
        let sets = lists.map(|r| r.values.iter().map(String::as_str).collect::<BTreeSet<_>>());
        sets.reduce(|a, b| a.intersection(&b).copied().collect())
    }
}

/// Which nodes a pod may go to, as far as they are labelled.
#[derive(Debug, Clone, Default)]
pub(crate) struct NodeAffinity {
    selector: Selector,
    /// One of these must hold.
    required: Option<Vec<NodeTerm>>,
    pub(crate) preferred: Vec<(i64, NodeTerm)>,
}

impl NodeAffinity {
    pub(crate) fn of(pod: &Value) -> Self {
        let mut selector = Selector::default();
        selector.and_map(&pod["spec"]["nodeSelector"]);
        let affinity = &pod["spec"]["affinity"]["nodeAffinity"];
        let required = at(affinity, &["requiredDuringSchedulingIgnoredDuringExecution"])
            .map(|required| items(required, &["nodeSelectorTerms"]).map(NodeTerm::of).collect());
        let weighted =
            |term: &Value| (term["weight"].as_i64().unwrap_or_default(), NodeTerm::of(&term["preference"]));
        let preferred =
            items(affinity, &["preferredDuringSchedulingIgnoredDuringExecution"]).map(weighted).collect();
        Self { selector, required, preferred }
    }

    pub(crate) fn admits(&self, name: &str, labels: &Labels) -> bool {
        self.selector.admits(labels)
            && self.required.as_ref().is_none_or(|terms| terms.iter().any(|term| term.admits(name, labels)))
    }

    /// The only nodes that it can admit, where all of its terms name them.
    pub(crate) fn names(&self) -> Option<BTreeSet<&str>> {
        let terms = self.required.as_ref().filter(|terms| !terms.is_empty())?;
        terms.iter().map(NodeTerm::names).try_fold(BTreeSet::new(), |mut all, names| {
            all.extend(names?);
            Some(all)
        })
    }
}

/// What keeps pods away from a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Taint {
    pub(crate) key: String,
    value: String,
    pub(crate) effect: String,
}

impl Taint {
    pub(crate) fn new(key: &str, value: &str, effect: &str) -> Self {
        Self { key: key.to_owned(), value: value.to_owned(), effect: effect.to_owned() }
    }

    pub(crate) fn of(taint: &Value) -> Self {
        Self::new(text(taint, &["key"]), text(taint, &["value"]), text(taint, &["effect"]))
    }

    /// Whether a pod that does not tolerate it may not come.
    pub(crate) fn is_hard(&self) -> bool {
        matches!(self.effect.as_str(), "NoSchedule" | "NoExecute")
    }
}

/// What a pod bears.
#[derive(Debug, Clone)]
pub(crate) struct Toleration {
    key: String,
    value: String,
    exists: bool,
    pub(crate) effect: String,
}

impl Toleration {
    pub(crate) fn of(toleration: &Value) -> Self {
        Self {
            key: text(toleration, &["key"]).to_owned(),
            value: text(toleration, &["value"]).to_owned(),
            exists: text(toleration, &["operator"]) == "Exists",
            effect: text(toleration, &["effect"]).to_owned(),
        }
    }

    pub(crate) fn admits(&self, taint: &Taint) -> bool {
        (self.effect.is_empty() || self.effect == taint.effect)
            && (self.key.is_empty() || self.key == taint.key)
            && (self.exists || self.value == taint.value)
    }
}
