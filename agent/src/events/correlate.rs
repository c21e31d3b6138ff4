//! Which events are worth a request: repeated ones are counted, similar ones told together, and an object that has too
//! much to say is cut short. The numbers are client-go's. Pure.

use std::collections::{BTreeMap, BTreeSet};

use agent_core::event::Event;
use jiff::{SignedDuration, Timestamp};

use super::Subject;

/// So many events that differ in their message alone are told one by one, each ten minutes.
const SIMILAR_MAX: usize = 10;
const SIMILAR_SECONDS: i64 = 600;
/// So many events of one object are told at once, and then one each five minutes.
const BURST: f64 = 25.0;
const REFILL_SECONDS: f64 = 300.0;
/// How many kinds of events are remembered.
const KNOWN_MAX: usize = 4096;

/// An event as it is to be told.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Told {
    pub(crate) subject: Subject,
    pub(crate) event: Event,
    pub(crate) name: String,
    pub(crate) first: Timestamp,
    pub(crate) last: Timestamp,
    pub(crate) count: u64,
}

type Similar = (String, String, String, String);

/// What has been told.
#[derive(Debug, Default)]
pub(crate) struct Correlator {
    told: BTreeMap<(Similar, String), Told>,
    /// The messages of similar events, and since when they are counted.
    similar: BTreeMap<Similar, (Timestamp, BTreeSet<String>)>,
    /// How much an object may still say, and when that was reckoned.
    budgets: BTreeMap<String, (f64, Timestamp)>,
    number: u64,
}

fn seconds(from: Timestamp, to: Timestamp) -> f64 {
    to.duration_since(from).max(SignedDuration::ZERO).as_secs_f64()
}

impl Correlator {
    /// What to tell of an event: something new (its count is 1), something that is told again with a higher count, or
    /// nothing.
    pub(crate) fn take(&mut self, subject: &Subject, event: &Event, now: Timestamp) -> Option<Told> {
        let Subject { namespace, name, uid } = subject;
        let similar = (
            namespace.clone() + "/" + name + "/" + uid,
            event.reason.clone(),
            event.field_path.clone().unwrap_or_default(),
            event.warning.to_string(),
        );
        let object = similar.0.clone();
        let mut event = event.clone();
        let (since, messages) = self.similar.entry(similar.clone()).or_insert((now, BTreeSet::new()));
        if seconds(*since, now) > SIMILAR_SECONDS as f64 {
            (*since, *messages) = (now, BTreeSet::new());
        }
        if messages.len() < SIMILAR_MAX {
            messages.insert(event.message.clone());
        }
        let key = match messages.contains(&event.message) {
            true => (similar, event.message.clone()),
            false => {
                event.message = format!("(combined from similar events): {}", event.message);
                (similar, String::new())
            }
        };
        self.number += 1;
        let told = match self.told.remove(&key) {
            Some(told) => Told { event, last: now, count: told.count + 1, ..told },
            None => {
                let name = format!("{name}.{:x}{:04x}", now.as_nanosecond(), self.number & 0xffff);
                Told { subject: subject.clone(), event, name, first: now, last: now, count: 1 }
            }
        };
        self.shrink();
        self.told.insert(key, told.clone());
        self.may_speak(object, now).then_some(told)
    }

    fn may_speak(&mut self, object: String, now: Timestamp) -> bool {
        let (left, at) = self.budgets.entry(object).or_insert((BURST, now));
        *left = (*left + seconds(*at, now) / REFILL_SECONDS).min(BURST);
        *at = now;
        if *left < 1.0 {
            return false;
        }
        *left -= 1.0;
        true
    }

    /// An event is not to be found in the API any more: the next of its kind is a new one.
    pub(crate) fn forget(&mut self, name: &str) {
        self.told.retain(|_, told| told.name != name);
    }

    /// Forgets the oldest half when there is too much.
    fn shrink(&mut self) {
        if self.told.len() < KNOWN_MAX {
            return;
        }
        let mut times: Vec<Timestamp> = self.told.values().map(|told| told.last).collect();
        times.sort_unstable();
        let middle = times[times.len() / 2];
        self.told.retain(|_, told| told.last > middle);
        let objects: BTreeSet<&String> = self.told.keys().map(|((object, ..), _)| object).collect();
        self.budgets.retain(|object, _| objects.contains(object));
        self.similar.retain(|(object, ..), _| objects.contains(object));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn pod() -> Subject {
        Subject { namespace: "d".into(), name: "p".into(), uid: "u".into() }
    }

    #[test]
    fn repeated_events_are_counted() {
        let mut correlator = Correlator::default();
        let event =
            Event { field_path: Some("spec.containers{c}".into()), ..Event::new(true, "BackOff", "m") };
        let first = correlator.take(&pod(), &event, at(0)).unwrap();
        let second = correlator.take(&pod(), &event, at(1)).unwrap();
        assert_eq!((first.count, second.count, &first.name), (1, 2, &second.name));
        assert_eq!((second.first, second.last), (at(0), at(1)));
        correlator.forget(&first.name);
        assert_eq!(correlator.take(&pod(), &event, at(2)).unwrap().count, 1);
    }

    #[test]
    fn similar_events_are_told_together() {
        let mut correlator = Correlator::default();
        let take = |correlator: &mut Correlator, n: i64| {
            correlator.take(&pod(), &Event::new(true, "Failed", &format!("{n}")), at(n))
        };
        let told: Vec<_> = (0..12).map(|n| take(&mut correlator, n).unwrap()).collect();
        assert!(told[..10].iter().all(|t| t.count == 1 && !t.event.message.starts_with('(')));
        assert_eq!(told[10].event.message, "(combined from similar events): 10");
        assert_eq!((told[11].count, &told[11].name), (2, &told[10].name));
        let later = take(&mut correlator, 700).unwrap();
        assert_eq!(later.event.message, "700");
    }

    #[test]
    fn who_says_too_much_is_cut_short() {
        let mut correlator = Correlator::default();
        let event = Event::new(true, "BackOff", "m");
        let told = (0..100).filter(|_| correlator.take(&pod(), &event, at(0)).is_some()).count();
        assert_eq!(told, 25);
        assert_eq!(correlator.take(&pod(), &event, at(300)).unwrap().count, 101);
        assert!(correlator.take(&pod(), &event, at(301)).is_none());
        for n in 0..3 * KNOWN_MAX {
            let other = Subject { name: n.to_string(), ..pod() };
            correlator.take(&other, &event, at(400));
            assert!(correlator.told.len() <= KNOWN_MAX);
        }
    }
}
