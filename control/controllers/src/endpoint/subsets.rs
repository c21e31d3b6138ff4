//! The subsets of an `Endpoints` object: addresses that have the same ports stand together, in a fixed order.

use std::collections::BTreeMap;

use proto_kube::object;
use serde_json::{Value, json};

/// What tells an address from others.
type Address = (String, String);

/// One address with one port; no port where a headless service has none.
pub(super) struct Pair {
    pub(super) address: Value,
    pub(super) port: Option<Value>,
    pub(super) ready: bool,
}

/// The pairs that subsets stand for.
pub(super) fn pairs(subsets: &Value) -> Vec<Pair> {
    let mut pairs = Vec::new();
    for subset in subsets.as_array().into_iter().flatten() {
        for (list, ready) in [("addresses", true), ("notReadyAddresses", false)] {
            for address in object::items(subset, &[list]) {
                let pair = |port| Pair { address: address.clone(), port, ready };
                let before = pairs.len();
                pairs.extend(object::items(subset, &["ports"]).map(|port| pair(Some(port.clone()))));
                if pairs.len() == before {
                    pairs.push(pair(None));
                }
            }
        }
    }
    pairs
}

/// The subsets in the one form that pairs have. Where an address is told as ready and as not ready, it is not.
pub(super) fn repack(pairs: Vec<Pair>) -> Vec<Value> {
    let mut known: BTreeMap<Address, Value> = BTreeMap::new();
    let mut of_port: BTreeMap<String, (Option<Value>, BTreeMap<Address, bool>)> = BTreeMap::new();
    for Pair { address, port, ready } in pairs {
        let id = (
            object::text(&address, &["ip"]).to_owned(),
            object::text(&address, &["targetRef", "uid"]).to_owned(),
        );
        known.entry(id.clone()).or_insert(address);
        let key = port.as_ref().map(ToString::to_string).unwrap_or_default();
        let states = &mut of_port.entry(key).or_insert_with(|| (port, BTreeMap::new())).1;
        *states.entry(id).or_insert(ready) &= ready;
    }
    let mut of_addresses: BTreeMap<Vec<(Address, bool)>, Vec<Value>> = BTreeMap::new();
    for (port, states) in of_port.into_values() {
        of_addresses.entry(states.into_iter().collect()).or_default().extend(port);
    }
    let mut subsets: Vec<Value> = Vec::new();
    for (states, ports) in of_addresses {
        let of = |ready| -> Vec<&Value> {
            states.iter().filter(|(_, is)| *is == ready).filter_map(|(id, _)| known.get(id)).collect()
        };
        let mut subset = json!({});
        let (ready, waiting) = (of(true), of(false));
        for (list, full, value) in [
            ("addresses", !ready.is_empty(), json!(ready)),
            ("notReadyAddresses", !waiting.is_empty(), json!(waiting)),
            ("ports", !ports.is_empty(), json!(ports)),
        ] {
            if full {
                subset[list] = value;
            }
        }
        subsets.push(subset);
    }
    subsets.sort_by_cached_key(|subset| subset["ports"].to_string());
    subsets
}

/// Leaves at most `most` addresses, ready ones first, of each subset in proportion; tells whether some were left out.
pub(super) fn truncate(subsets: &mut [Value], most: usize) -> bool {
    let count = |subsets: &[Value], list: &str| -> usize {
        subsets.iter().map(|s| object::items(s, &[list]).count()).sum()
    };
    let (ready, waiting) = (count(subsets, "addresses"), count(subsets, "notReadyAddresses"));
    if ready + waiting <= most {
        return false;
    }
    let (list, all, room) = match ready > most {
        true => ("addresses", ready, most),
        false => ("notReadyAddresses", waiting, most - ready),
    };
    let mut left = room;
    for subset in subsets {
        if list == "addresses"
            && let Some(members) = subset.as_object_mut()
        {
            members.remove("notReadyAddresses");
        }
        if let Some(addresses) = subset.get_mut(list).and_then(Value::as_array_mut) {
            let share = (addresses.len() * room).div_ceil(all).min(left);
            addresses.truncate(share);
            left -= addresses.len();
        }
    }
    true
}
