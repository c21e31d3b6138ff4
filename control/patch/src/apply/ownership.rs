//! How the fields of an object change hands.

use std::borrow::Cow;
use std::collections::BTreeMap;

use proto_kube::{GroupVersion, Gvk};
use serde_json::Value;

use super::Write;
use super::managed::{Key, Managers, Operation, Owned};
use crate::fields::Set;
use crate::typed::{Diff, Typed};
use crate::value::equal;

/// What other managers own of what is to be changed.
pub(super) type Conflicts = BTreeMap<Key, Set>;

/// Why a configuration cannot be applied.
pub(super) enum Refusal {
    Conflicts(Conflicts),
    Failed(String),
}

/// Fields that nobody owns.
pub(super) fn unowned() -> Set {
    let mut set = Set::default();
    for path in [
        &["apiVersion"][..],
        &["kind"],
        &["metadata"],
        &["metadata", "name"],
        &["metadata", "namespace"],
        &["metadata", "creationTimestamp"],
        &["metadata", "selfLink"],
        &["metadata", "uid"],
        &["metadata", "clusterName"],
        &["metadata", "generation"],
        &["metadata", "managedFields"],
        &["metadata", "resourceVersion"],
    ] {
        set.extend(Set::path(path));
    }
    set
}

impl<'a> Write<'a> {
    /// The schema of the kind in a version.
    pub(super) fn typed(&self, version: &str) -> Typed<'a> {
        let GroupVersion { group, version } = GroupVersion::parse(version);
        let kind = Gvk { group, version, kind: self.kind.kind.clone() };
        Typed::new(self.table, self.table.kind(&kind))
    }

    /// The object, which is of the version `from`, in another version.
    fn convert<'v>(&self, object: &'v Value, from: &str, to: &str) -> Option<Cow<'v, Value>> {
        if from == to {
            return Some(Cow::Borrowed(object));
        }
        (self.convert)(object, &GroupVersion::parse(to)).map(Cow::Owned)
    }

    /// What was owned in versions that are no longer served is owned by nobody.
    pub(super) fn reconcile(&self, live: &Value, managers: Managers) -> Managers {
        let own = self.kind.api_version();
        let served =
            |owned: &Owned| owned.version == own || self.convert(live, &own, &owned.version).is_some();
        managers
            .into_iter()
            .filter(|(_, owned)| served(owned))
            .map(|(key, owned)| {
                let set = self.typed(&owned.version).reconcile(owned.set);
                (key, Owned { set, ..owned })
            })
            .collect()
    }

    /// Takes from all managers but `writer` what changes from `live` to `new`; gives what changed. Without `force`
    /// managers keep what they own, and that is a conflict.
    fn hand_over(
        &self,
        live: &Value,
        new: &Value,
        managers: &mut Managers,
        writer: Option<&Key>,
        force: bool,
    ) -> Result<Diff, Conflicts> {
        let own = self.kind.api_version();
        let compare = |version: &str| {
            let old = self.convert(live, &own, version)?;
            let new = self.convert(new, &own, version)?;
            Some(self.typed(version).compare(&old, &new).map(|set| self.filter.keep(set)))
        };
        let mut diffs: BTreeMap<String, Option<Diff>> = BTreeMap::new();
        let mut conflicts = Conflicts::new();
        managers.retain(|key, owned| {
            if writer == Some(key) {
                return true;
            }
            let diff = diffs.entry(owned.version.clone()).or_insert_with(|| compare(&owned.version));
            let Some(diff) = diff else { return false };
            let mut taken = owned.set.intersection(&diff.modified);
            taken.extend(owned.set.intersection(&diff.added));
            if !taken.is_empty() {
                owned.set = owned.set.difference(&taken);
                conflicts.insert(key.clone(), taken);
            }
            if !diff.removed.is_empty() {
                owned.set = owned.set.difference(&diff.removed);
            }
            true
        });
        if !force && !conflicts.is_empty() {
            return Err(conflicts);
        }
        managers.retain(|_, owned| !owned.set.is_empty());
        Ok(match diffs.remove(&own).flatten() {
            Some(diff) => diff,
            None => compare(&own).unwrap_or_default(),
        })
    }

    /// Records a write that is no apply.
    pub(super) fn record(&self, live: &Value, new: &Value, managers: Managers) -> Managers {
        let mut managers = self.reconcile(live, managers);
        // With force there are no conflicts.
        let Ok(diff) = self.hand_over(live, new, &mut managers, None, true) else { return managers };
        let mut set = diff.modified;
        set.extend(diff.added);
        let set = set.difference(&unowned());
        if !set.is_empty() {
            let version = self.kind.api_version();
            let key = Key::new(self.manager, Operation::Update, &version, self.subresource);
            let owned = managers.entry(key).or_default();
            owned.set.extend(set);
            owned.version = version;
            owned.time = Some(self.now);
        }
        super::cap::cap(&mut managers);
        managers
    }

    /// Brings a configuration into the live object. `None` when that changes nothing.
    pub(super) fn bring(
        &self,
        live: &Value,
        config: &Value,
        managers: Managers,
        force: bool,
    ) -> Result<(Option<Value>, Managers), Refusal> {
        let version = self.kind.api_version();
        let typed = self.typed(&version);
        let key = Key::new(self.manager, Operation::Apply, &version, self.subresource);
        let mut managers = self.reconcile(live, managers);

        let merged = typed
            .merge(live, config)
            .map_err(|why| Refusal::Failed(format!("failed to merge config: {why}")))?;
        let set = self.filter.keep(typed.extract(config));
        let owned = managers.entry(key.clone()).or_default();
        let last = Owned { set: std::mem::replace(&mut owned.set, set), ..owned.clone() };
        owned.version = version;
        let new = self.prune(merged, &managers, &key, &last);

        self.hand_over(live, &new, &mut managers, Some(&key), force).map_err(Refusal::Conflicts)?;
        if let Some(owned) = managers.get_mut(&key) {
            owned.set = owned.set.difference(&unowned());
        }
        let changed = !equal(live, &new);
        if changed && let Some(owned) = managers.get_mut(&key) {
            owned.time = Some(self.now);
        }
        managers.retain(|_, owned| !owned.set.is_empty());
        Ok((changed.then(|| typed.tidy(new)), managers))
    }

    /// Removes what the manager applied the last time and no longer does, unless somebody owns it.
    fn prune(&self, merged: Value, managers: &Managers, key: &Key, last: &Owned) -> Value {
        let own = self.kind.api_version();
        let dropped = managers
            .get(key)
            .is_none_or(|now| now.version != last.version || !last.set.difference(&now.set).is_empty());
        if last.set.is_empty() || !dropped {
            return merged;
        }
        let Some(at_last) = self.convert(&merged, &own, &last.version).map(Cow::into_owned) else {
            return merged;
        };
        let typed = self.typed(&last.version);
        let mine = typed.with_parents(&last.set);
        let mut pruned = typed.remove(at_last.clone(), &mine);
        pruned = self.add_owned(&at_last, pruned, &last.version, managers);

        // What went with its parent and was not in the last configuration stays.
        let everything = typed.with_parents(&typed.extract(&at_last));
        let kept = typed.with_parents(&typed.extract(&pruned));
        let gone = everything.difference(&kept).intersection(&mine);
        let pruned = typed.remove(at_last, &gone);
        self.convert(&pruned, &last.version, &own).map_or(merged, Cow::into_owned)
    }

    /// Adds back what anybody owns, version by version, first in that of the objects given. What comes back is again
    /// of that version.
    fn add_owned(&self, merged: &Value, pruned: Value, version: &str, managers: &Managers) -> Value {
        let mut owned: BTreeMap<&str, Set> = BTreeMap::new();
        for manager in managers.values() {
            owned.entry(&manager.version).or_default().extend(manager.set.clone());
        }
        let mut versions: Vec<&str> = owned.keys().copied().collect();
        versions.sort_by_key(|v| *v != version);
        let (mut merged, mut pruned, mut at) = (merged.clone(), pruned, version);
        for next in versions {
            let converted = (self.convert(&merged, at, next), self.convert(&pruned, at, next));
            let (Some(whole), Some(part)) = converted else { continue };
            let (whole, part) = (whole.into_owned(), part.into_owned());
            let typed = self.typed(next);
            let everything = typed.with_parents(&typed.extract(&whole));
            let mut kept = typed.with_parents(&typed.extract(&part));
            kept.extend(typed.with_parents(&owned[next]));
            (pruned, at) = (typed.remove(whole.clone(), &everything.difference(&kept)), next);
            merged = whole;
        }
        match self.convert(&pruned, at, version) {
            Some(back) => back.into_owned(),
            None => pruned,
        }
    }
}
