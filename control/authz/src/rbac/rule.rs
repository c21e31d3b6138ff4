//! A rule: which verbs on what, and whether one set of rules covers another.

use std::collections::{BTreeSet, HashMap};

use proto_kube::object;
use serde_json::{Map, Value};

use crate::Attributes;

/// A `PolicyRule`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Rule {
    /// As `get`; `*` is every verb.
    pub verbs: Vec<String>,
    /// The API groups; `*` is every group.
    pub groups: Vec<String>,
    /// As `pods`, `pods/log`, `*/scale`; `*` is every resource with its subresources.
    pub resources: Vec<String>,
    /// Only objects of these names; empty for all.
    pub names: Vec<String>,
    /// Paths outside of the resources; a `*` at the end stands for any rest.
    pub paths: Vec<String>,
}

const ALL: &str = "*";
/// From how many bytes on a word counts as two.
const LONG_WORD: usize = 256;

impl Rule {
    /// Of a rule in a role.
    #[must_use]
    pub fn of(rule: &Value) -> Self {
        let texts = |key| object::items(rule, &[key]).filter_map(Value::as_str).map(str::to_owned).collect();
        Self {
            verbs: texts("verbs"),
            groups: texts("apiGroups"),
            resources: texts("resources"),
            names: texts("resourceNames"),
            paths: texts("nonResourceURLs"),
        }
    }

    /// As it stands in a role.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let members = self.members().into_iter().filter(|(_, texts)| !texts.is_empty());
        members
            .map(|(key, texts)| (key.to_owned(), Value::from(texts.to_vec())))
            .collect::<Map<_, _>>()
            .into()
    }

    fn members(&self) -> [(&'static str, &[String]); 5] {
        [
            ("apiGroups", &self.groups),
            ("nonResourceURLs", &self.paths),
            ("resourceNames", &self.names),
            ("resources", &self.resources),
            ("verbs", &self.verbs),
        ]
    }

    /// Whether it allows a request.
    #[must_use]
    pub fn allows(&self, asked: &Attributes<'_>) -> bool {
        if !has(&self.verbs, asked.verb) {
            return false;
        }
        match asked.path {
            Some(path) => self.paths.iter().any(|p| path_covers(p, path)),
            None => {
                has(&self.groups, asked.group)
                    && self.resources.iter().any(|r| names(r, asked.resource, asked.subresource))
                    && (self.names.is_empty() || self.names.iter().any(|n| n == asked.name))
            }
        }
    }

    /// How many atoms it consists of. A word that is far longer than any in use counts as several, so that this bounds
    /// their text too.
    pub(super) fn size(&self) -> usize {
        let count = |texts: &[String]| {
            texts.iter().fold(0_usize, |sum, text| sum.saturating_add(1 + text.len() / LONG_WORD))
        };
        let names = count(&self.names).max(1);
        let of_resources = count(&self.groups).saturating_mul(count(&self.resources)).saturating_mul(names);
        of_resources.saturating_add(count(&self.paths)).saturating_mul(count(&self.verbs))
    }

    /// How many words it is written in.
    pub(super) fn words(&self) -> usize {
        self.members().iter().map(|(_, texts)| texts.len()).sum()
    }

    /// The rules of one verb, resource and name each that it consists of.
    fn atoms(&self) -> impl Iterator<Item = Self> {
        let one = |text: &String| vec![text.clone()];
        self.verbs.iter().flat_map(move |verb| {
            let of_group = move |group| {
                let atom = Self { verbs: one(verb), groups: one(group), ..Self::default() };
                self.resources
                    .iter()
                    .flat_map(move |resource| self.named(Self { resources: one(resource), ..atom.clone() }))
            };
            let of_path = move |path| Self { verbs: one(verb), paths: one(path), ..Self::default() };
            self.groups.iter().flat_map(of_group).chain(self.paths.iter().map(of_path))
        })
    }

    /// A rule for each name that this one is limited to; without names the rule itself.
    fn named(&self, rule: Self) -> impl Iterator<Item = Self> {
        let whole = self.names.is_empty().then(|| rule.clone());
        let of_name = move |name: &String| Self { names: vec![name.clone()], ..rule.clone() };
        whole.into_iter().chain(self.names.iter().map(of_name))
    }

    /// Whether it allows all that an atom allows.
    fn covers(&self, atom: &Self) -> bool {
        let all = |own: &[String], of: &[String]| of.iter().all(|text| has(own, text));
        let resource = |wanted: &String| {
            let (resource, subresource) = wanted.split_once('/').unwrap_or((wanted, ""));
            self.resources.iter().any(|r| r == wanted || names(r, resource, subresource))
        };
        all(&self.verbs, &atom.verbs)
            && all(&self.groups, &atom.groups)
            && atom.resources.iter().all(resource)
            && atom.paths.iter().all(|wanted| self.paths.iter().any(|p| path_covers(p, wanted)))
            && (self.names.is_empty()
                || (!atom.names.is_empty() && atom.names.iter().all(|n| self.names.contains(n))))
    }

    /// How much it allows, roughly: by this the smallest of several roles is found.
    pub(super) fn weight(&self) -> usize {
        let count = |texts: &[String], all: usize| match texts {
            [] => 1,
            _ if texts.iter().any(|t| t == ALL) => all,
            _ => texts.len(),
        };
        count(&self.verbs, 12) * count(&self.groups, 30) * (count(&self.resources, 200) + self.paths.len())
    }

    /// As upstream writes it in refusals: `{APIGroups:[""], Resources:["pods"], Verbs:["get"]}`.
    fn compact(&self) -> String {
        let part = |(key, texts): (&str, &[String])| {
            (!texts.is_empty()).then(|| {
                format!("{key}:[{}]", texts.iter().map(|t| format!("{t:?}")).collect::<Vec<_>>().join(" "))
            })
        };
        let parts = [
            ("APIGroups", self.groups.as_slice()),
            ("Resources", &self.resources),
            ("NonResourceURLs", &self.paths),
            ("ResourceNames", &self.names),
            ("Verbs", &self.verbs),
        ];
        format!("{{{}}}", parts.into_iter().filter_map(part).collect::<Vec<_>>().join(", "))
    }
}

/// Whether a list names a text or everything.
fn has(texts: &[String], text: &str) -> bool {
    texts.iter().any(|t| t == ALL || t == text)
}

/// Whether a rule's word for resources stands for this one.
fn names(word: &str, resource: &str, subresource: &str) -> bool {
    match word.split_once('/') {
        _ if word == ALL => true,
        Some(("*", sub)) => !subresource.is_empty() && sub == subresource,
        Some((base, sub)) => base == resource && sub == subresource,
        None => word == resource && subresource.is_empty(),
    }
}

fn path_covers(rule: &str, path: &str) -> bool {
    rule == path || (rule.ends_with('*') && path.starts_with(rule.trim_end_matches('*')))
}

/// The parts of `wanted` that `held` does not allow, one verb, resource and name each: as many to look through as the
/// sizes of the wanted rules say.
pub fn uncovered<'a>(held: &'a [Rule], wanted: &'a [Rule]) -> impl Iterator<Item = Rule> + 'a {
    let atoms = wanted.iter().flat_map(Rule::atoms);
    atoms.filter(|atom| !held.iter().any(|rule| rule.covers(atom)))
}

/// Rules of one verb each, joined where they differ by verb only, as text: one line each, sorted.
pub(super) fn describe(rules: &[Rule]) -> String {
    let mut joined: Vec<Rule> = Vec::new();
    let mut known: HashMap<Rule, usize> = HashMap::new();
    for rule in rules {
        let key = Rule { verbs: Vec::new(), ..rule.clone() };
        match known.get(&key) {
            Some(at) if rule.paths.is_empty() => joined[*at].verbs.extend(rule.verbs.iter().cloned()),
            _ => {
                known.insert(key, joined.len());
                joined.push(rule.clone());
            }
        }
    }
    joined.iter().map(Rule::compact).collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>().join("\n")
}
