//! Which fields a write can own.

use crate::fields::{Element, Set};

/// Which fields a write can own. What a subresource resets cannot be owned by a write through it: `spec` for a write
/// of `status`, `status` for a write of the object itself.
#[derive(Debug, Clone, Default)]
pub enum Filter {
    /// All.
    #[default]
    All,
    /// All but these and what is below them.
    Except(Set),
    /// Only what these patterns match, and what is below it.
    Only(Vec<Vec<String>>),
}

impl Filter {
    /// All but these paths and what is below them: `spec`, `metadata.finalizers`.
    #[must_use]
    pub fn except(paths: &[&str]) -> Self {
        let mut set = Set::default();
        for path in paths {
            set.extend(Set::path(&path.split('.').collect::<Vec<_>>()));
        }
        Self::Except(set)
    }

    /// Only these paths and what is below them; `*` is any element: `spec.containers.*.resources`.
    #[must_use]
    pub fn only(paths: &[&str]) -> Self {
        Self::Only(paths.iter().map(|path| path.split('.').map(str::to_owned).collect()).collect())
    }

    /// The part of a set that a write can own.
    pub(super) fn keep(&self, set: Set) -> Set {
        match self {
            Self::All => set,
            Self::Except(gone) => set.without(gone),
            Self::Only(patterns) => {
                let patterns: Vec<&[String]> = patterns.iter().map(Vec::as_slice).collect();
                only(&set, &patterns)
            }
        }
    }
}

/// The paths on the way of a pattern, and below its end.
fn only(set: &Set, patterns: &[&[String]]) -> Set {
    if patterns.iter().any(|pattern| pattern.is_empty()) {
        return set.clone();
    }
    let mut out = Set::default();
    for (element, member, below) in set.nodes() {
        let rest: Vec<&[String]> = patterns
            .iter()
            .filter_map(|pattern| pattern.split_first())
            .filter(|(name, _)| *name == "*" || matches!(element, Element::Field(field) if field == *name))
            .map(|(_, rest)| rest)
            .collect();
        if !rest.is_empty() {
            out.put(element.clone(), member, only(below, &rest));
        }
    }
    out
}
