//! A bound on the number of managers that update.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::managed::{Key, Managers, Operation, Owned};

/// How many managers that update are kept apart.
const MOST: usize = 10;
/// The manager that the oldest are merged into, one for each version.
const ANCIENT: &str = "ancient-changes";

/// Merges the managers whose last update is the oldest until few enough are left.
pub(super) fn cap(managers: &mut Managers) {
    let mut updaters: Vec<Key> =
        managers.keys().filter(|key| key.operation == Operation::Update).cloned().collect();
    let mut left = updaters.len();
    if left <= MOST {
        return;
    }
    updaters.sort_by_key(|key| managers[key].time.map_or(0, Timestamp::as_second));
    let mut first_of: BTreeMap<String, Key> = BTreeMap::new();
    for key in updaters {
        if left <= MOST {
            break;
        }
        let Some(owned) = managers.get(&key).cloned() else { continue };
        let Some(first) = first_of.get(&owned.version) else {
            first_of.insert(owned.version, key);
            continue;
        };
        let bucket = Key::new(ANCIENT, Operation::Update, &owned.version, "");
        if !managers.contains_key(&bucket) {
            let oldest = managers.remove(first).unwrap_or_default();
            managers.insert(bucket.clone(), oldest);
        }
        managers.remove(&key);
        let Owned { set, version, time } = owned;
        let ancient = managers.entry(bucket).or_default();
        ancient.set.extend(set);
        ancient.version = version;
        ancient.time = time;
        left -= 1;
    }
}
