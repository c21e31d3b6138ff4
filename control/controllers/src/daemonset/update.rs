//! Rolling updates of a DaemonSet: a pod goes and its successor comes, or the other way round with a surge.

use std::collections::BTreeMap;
use std::sync::Arc;

use proto_kube::object;
use serde_json::Value;

use super::node::Place;
use super::{Look, Wish};
use crate::pods;

/// The pods on a node that stay: at most one of the current template and one of an older one.
struct Pair<'a> {
    new: Option<&'a Arc<Value>>,
    old: Option<&'a Arc<Value>>,
}

impl Look<'_> {
    /// On how many of so many nodes there may be two pods.
    pub(super) fn surge(&self, nodes: i64) -> i64 {
        self.bound("maxSurge", nodes)
    }

    fn bound(&self, member: &str, nodes: i64) -> i64 {
        let strategy = &self.set["spec"]["updateStrategy"];
        if strategy["type"] == "OnDelete" {
            return 0;
        }
        pods::portion(&strategy["rollingUpdate"][member], nodes, true)
    }

    /// The next step of an update.
    pub(super) fn update(&self, places: &BTreeMap<String, Place>) -> Wish {
        if self.set["spec"]["updateStrategy"]["type"] == "OnDelete" {
            return Wish::default();
        }
        let wanted = places.values().filter(|place| place.runs).count();
        let wanted = i64::try_from(wanted).unwrap_or(i64::MAX);
        let (surge, unavailable) = (self.surge(wanted), self.bound("maxUnavailable", wanted));
        let places = places.iter().filter(|(_, place)| place.runs || !place.pods.is_empty());
        if surge == 0 {
            self.replace(places.map(|(_, place)| place), unavailable.max(1))
        } else {
            self.overlap(places, surge, wanted)
        }
    }

    /// `None` where there are more than a pair.
    fn pair<'a>(&self, place: &'a Place) -> Option<Pair<'a>> {
        let mut pair = Pair { new: None, old: None };
        for pod in place.pods.iter().filter(|pod| !object::is_terminating(pod)) {
            let slot = if self.is_updated(pod) { &mut pair.new } else { &mut pair.old };
            if slot.replace(pod).is_some() {
                return None;
            }
        }
        Some(pair)
    }

    /// Old pods go, first those that are of no use, as long as no more than so many nodes are without one.
    fn replace<'p>(&self, places: impl Iterator<Item = &'p Place>, most: i64) -> Wish {
        let (mut missing, mut useless, mut candidates) = (0, Vec::new(), Vec::new());
        for place in places {
            match self.pair(place) {
                Some(Pair { new: Some(new), old: None }) if self.is_available(new) => {}
                Some(Pair { new: None, old: Some(old) }) if self.is_available(old) => {
                    candidates.push(old.clone())
                }
                Some(Pair { new: None, old: Some(old) }) => {
                    useless.push(old.clone());
                    missing += 1;
                }
                _ => missing += 1,
            }
        }
        let room = usize::try_from(most - missing).unwrap_or(0);
        useless.extend(candidates.into_iter().take(room));
        Wish { create: Vec::new(), delete: useless }
    }

    /// New pods come beside old ones, on no more than so many nodes at a time; an old one goes when its successor is
    /// available.
    fn overlap<'p>(
        &self,
        places: impl Iterator<Item = (&'p String, &'p Place)>,
        most: i64,
        wanted: i64,
    ) -> Wish {
        let mut wish = Wish::default();
        let (mut doubled, mut available) = (0, 0);
        let (mut candidates, mut misplaced) = (Vec::new(), Vec::new());
        for (name, place) in places {
            let Some(pair) = self.pair(place) else {
                doubled += 1;
                continue;
            };
            let is_up = |pod: Option<&Arc<Value>>| pod.is_some_and(|pod| self.is_available(pod));
            available += i64::from(is_up(pair.old.or(pair.new)));
            match (pair.new, pair.old) {
                (_, None) => {}
                (Some(new), Some(_)) if !self.is_available(new) => doubled += 1,
                (Some(_), Some(old)) => wish.delete.push(old.clone()),
                (None, Some(old)) => match (self.is_available(old), place.runs) {
                    (false, false) => wish.delete.push(old.clone()),
                    (false, true) => wish.create.push(name.clone()),
                    (true, false) => misplaced.push(old.clone()),
                    (true, true) => candidates.push(name.clone()),
                },
            }
        }
        let room = |n: i64| usize::try_from(n).unwrap_or(0);
        // Where a pod may only stay, it goes when another node has one instead.
        wish.delete.extend(misplaced.into_iter().take(room(available - wanted)));
        wish.create.extend(candidates.into_iter().take(room(most - doubled)));
        wish
    }
}
