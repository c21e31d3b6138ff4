//! Sets of paths into an object, as `managedFields` keeps them (`FieldsV1`).

mod element;
mod json;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;

pub use element::Element;

/// A set of paths. The empty path, the object itself, is never in it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Set(BTreeMap<Element, Node>);

/// What stands below an element. A node has a path that is in the set: its own or one below.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Node {
    member: bool,
    below: Set,
}

/// The way from an object to a part of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Path(pub Vec<Element>);

/// As `.spec.containers[name="web"].image`.
impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|element| write!(f, "{element}"))
    }
}

impl Set {
    /// The set of one path of field names.
    #[must_use]
    pub fn path(names: &[&str]) -> Self {
        let mut set = Self::default();
        if let Some((last, parents)) = names.split_last() {
            set.put(Element::Field((*last).to_owned()), true, Self::default());
            for parent in parents.iter().rev() {
                let mut outer = Self::default();
                outer.put(Element::Field((*parent).to_owned()), false, set);
                set = outer;
            }
        }
        set
    }

    /// Whether no path is in the set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether the path is in the set.
    #[must_use]
    pub fn contains(&self, path: &[Element]) -> bool {
        let Some((last, parents)) = path.split_last() else { return false };
        let parent = parents.iter().try_fold(self, |set, element| set.0.get(element).map(|node| &node.below));
        parent.is_some_and(|set| set.has(last))
    }

    /// Whether the path of one element is in the set.
    pub(crate) fn has(&self, element: &Element) -> bool {
        self.0.get(element).is_some_and(|node| node.member)
    }

    /// The paths below an element.
    pub(crate) fn below(&self, element: &Element) -> Option<&Self> {
        self.0.get(element).map(|node| &node.below).filter(|below| !below.is_empty())
    }

    /// The elements, whether each is itself in the set, and the paths below.
    pub(crate) fn nodes(&self) -> impl Iterator<Item = (&Element, bool, &Self)> {
        self.0.iter().map(|(element, node)| (element, node.member, &node.below))
    }

    /// Adds an element, when `member`, and the paths below it.
    pub(crate) fn put(&mut self, element: Element, member: bool, below: Self) {
        if !member && below.is_empty() {
            return;
        }
        match self.0.entry(element) {
            Entry::Vacant(place) => drop(place.insert(Node { member, below })),
            Entry::Occupied(mut place) => {
                let node = place.get_mut();
                node.member |= member;
                node.below.extend(below);
            }
        }
    }

    /// Adds all paths of another set.
    pub fn extend(&mut self, other: Self) {
        if self.is_empty() {
            *self = other;
            return;
        }
        for (element, node) in other.0 {
            self.put(element, node.member, node.below);
        }
    }

    /// The paths that are in one or both.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        let mut all = self.clone();
        all.extend(other.clone());
        all
    }

    /// The paths that are in both.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        self.combine(other, |node, other| {
            let other = other?;
            Some(Node { member: node.member && other.member, below: node.below.intersection(&other.below) })
        })
    }

    /// The paths that are not in the other.
    #[must_use]
    pub fn difference(&self, other: &Self) -> Self {
        self.combine(other, |node, other| {
            let Some(other) = other else { return Some(node.clone()) };
            Some(Node { member: node.member && !other.member, below: node.below.difference(&other.below) })
        })
    }

    /// The paths that are neither in the other nor below a path that is.
    #[must_use]
    pub fn without(&self, other: &Self) -> Self {
        self.combine(other, |node, other| match other {
            None => Some(node.clone()),
            Some(other) if other.member => None,
            Some(other) => Some(Node { member: node.member, below: node.below.without(&other.below) }),
        })
    }

    fn combine(&self, other: &Self, with: impl Fn(&Node, Option<&Node>) -> Option<Node>) -> Self {
        let nodes = self.0.iter().filter_map(|(element, node)| {
            let node = with(node, other.0.get(element))?;
            (node.member || !node.below.is_empty()).then(|| (element.clone(), node))
        });
        Self(nodes.collect())
    }

    /// All paths, of each object first those of one more element.
    #[must_use]
    pub fn paths(&self) -> Vec<Path> {
        let mut out = Vec::new();
        self.collect(&mut Vec::new(), &mut out);
        out
    }

    fn collect(&self, prefix: &mut Vec<Element>, out: &mut Vec<Path>) {
        for (element, node) in &self.0 {
            if node.member {
                let path = prefix.iter().chain([element]).cloned();
                out.push(Path(path.collect()));
            }
        }
        for (element, node) in &self.0 {
            prefix.push(element.clone());
            node.below.collect(prefix, out);
            prefix.pop();
        }
    }
}
