//! What may happen to a sandbox and a container, and who joins whom. Pure.
//!
//! ```text
//! sandbox    Starting ──> Ready ──> Stopping ──> Stopped ──> Removing ──> (gone)
//! container  Creating ──> Created ──> Running ──> Exited ──> Removing ──> (gone)
//!                            └──────────────────────┘
//! ```
//! A phase never goes back. Each object has a gate that serialises what changes it; a stop that waits for a process
//! holds no gate, so a later, more hurried stop only brings its deadline forward.

use std::collections::BTreeMap;
use std::time::Instant;

use serde::{Deserialize, Serialize};

/// Where a sandbox stands in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum PodPhase {
    Starting,
    Ready,
    Stopping,
    Stopped,
    Removing,
}

/// Where a container stands in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Phase {
    Creating,
    Created,
    Running,
    Exited,
    Removing,
}

/// What a client asks of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wish {
    Start,
    Stop,
    Remove,
    /// Exec, attach.
    Enter,
    ReopenLog,
    Update,
}

/// The answer to a wish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Do it.
    Go,
    /// It is so already: succeed without doing anything.
    Done,
    /// It cannot be; with why, as the end of "container X …".
    Refuse(&'static str),
}

/// What a container's phase allows. A running container is removed by killing it first, as CRI demands.
pub(crate) fn container(phase: Phase, wish: Wish) -> Verdict {
    use Verdict::{Done, Go, Refuse};
    match (phase, wish) {
        (Phase::Created, Wish::Start) | (Phase::Created | Phase::Running, Wish::Stop | Wish::Update) => Go,
        (Phase::Running, Wish::Enter | Wish::ReopenLog) => Go,
        (Phase::Created | Phase::Running | Phase::Exited | Phase::Removing, Wish::Remove) => Go,
        (Phase::Exited | Phase::Removing, Wish::Stop) => Done,
        (Phase::Creating, _) => Refuse("is still being created"),
        (Phase::Running, Wish::Start) => Refuse("is running already"),
        (Phase::Exited, Wish::Start) => Refuse("has exited; create a new one"),
        (Phase::Created, Wish::Enter | Wish::ReopenLog) => Refuse("is not running: it has not been started"),
        (Phase::Exited, _) => Refuse("is not running: it has exited"),
        (Phase::Removing, _) => Refuse("is being removed"),
    }
}

/// Whether a container may be created in a sandbox.
pub(crate) fn may_create(phase: PodPhase) -> Verdict {
    match phase {
        PodPhase::Ready => Verdict::Go,
        PodPhase::Starting => Verdict::Refuse("is still being started"),
        PodPhase::Stopping | PodPhase::Stopped => Verdict::Refuse("is not ready: it has been stopped"),
        PodPhase::Removing => Verdict::Refuse("is being removed"),
    }
}

/// Whether an object made by an earlier, identical request may be the answer to a repeated one.
pub(crate) fn may_repeat(phase: Phase) -> bool {
    phase == Phase::Created
}

/// A stop under way: its signal is sent once, its deadline is the earliest anybody asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Stop {
    deadline: Option<Instant>,
}

impl Stop {
    /// A further client asks for the end by `deadline`. True if the signal is to be sent (nobody asked before).
    pub(crate) fn ask(&mut self, deadline: Instant) -> bool {
        let first = self.deadline.is_none();
        self.deadline = Some(self.deadline.map_or(deadline, |old| old.min(deadline)));
        first
    }

    /// When to kill; `None` if nobody asked.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.deadline
    }
}

/// Names given to objects that are being made or are there. A name belongs to one object at a time; a repeated
/// identical request joins it, another one is refused.
#[derive(Debug)]
pub(crate) struct Names<K, C, W> {
    taken: BTreeMap<K, Taken<C, W>>,
}

#[derive(Debug)]
struct Taken<C, W> {
    id: String,
    config: C,
    outcome: W,
}

/// What becomes of a request for a name.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Claim<W> {
    /// The name is the caller's: make the object.
    Begin,
    /// An identical request made this object, or is about to: wait for its outcome.
    Join { id: String, outcome: W },
    /// The name belongs to another object.
    Conflict { id: String },
}

impl<K, C, W> Default for Names<K, C, W> {
    fn default() -> Self {
        Self { taken: BTreeMap::new() }
    }
}

impl<K: Ord, C: PartialEq, W: Clone> Names<K, C, W> {
    /// Asks for `key` with `config`; on [`Claim::Begin`] it belongs to the object `id`.
    pub(crate) fn claim(&mut self, key: K, id: &str, config: C, outcome: W) -> Claim<W> {
        match self.taken.get(&key) {
            Some(taken) if taken.config == config => {
                Claim::Join { id: taken.id.clone(), outcome: taken.outcome.clone() }
            }
            Some(taken) => Claim::Conflict { id: taken.id.clone() },
            None => {
                self.taken.insert(key, Taken { id: id.to_owned(), config, outcome });
                Claim::Begin
            }
        }
    }

    /// Gives up the name of an object that is gone or was never made.
    pub(crate) fn release(&mut self, id: &str) {
        self.taken.retain(|_, taken| taken.id != id);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn containers() {
        use Verdict::{Done, Go};
        let wishes = [Wish::Start, Wish::Stop, Wish::Remove, Wish::Enter, Wish::ReopenLog, Wish::Update];
        let rows: [(Phase, [Option<Verdict>; 6]); 5] = [
            (Phase::Creating, [None; 6]),
            (Phase::Created, [Some(Go), Some(Go), Some(Go), None, None, Some(Go)]),
            (Phase::Running, [None, Some(Go), Some(Go), Some(Go), Some(Go), Some(Go)]),
            (Phase::Exited, [None, Some(Done), Some(Go), None, None, None]),
            (Phase::Removing, [None, Some(Done), Some(Go), None, None, None]),
        ];
        for (phase, verdicts) in rows {
            for (wish, expected) in wishes.into_iter().zip(verdicts) {
                let verdict = container(phase, wish);
                match expected {
                    Some(expected) => assert_eq!(verdict, expected, "{phase:?} {wish:?}"),
                    None => assert!(matches!(verdict, Verdict::Refuse(_)), "{phase:?} {wish:?}"),
                }
            }
        }
    }

    #[test]
    fn hurried_stop_brings_the_deadline_forward_and_signals_once() {
        let now = Instant::now();
        let mut stop = Stop::default();
        assert!(stop.ask(now + Duration::from_secs(30)));
        assert!(!stop.ask(now + Duration::from_secs(1)));
        assert!(!stop.ask(now + Duration::from_secs(60)));
        assert_eq!(stop.deadline(), Some(now + Duration::from_secs(1)));
    }

    #[derive(Debug, Clone)]
    enum Step {
        Claim(u8, u8),
        Release(usize),
    }

    proptest! {
        /// Against a plain model: one object a name; identical requests get the same object until it is released.
        #[test]
        fn names(steps in proptest::collection::vec(
            prop_oneof![(0..4u8, 0..2u8).prop_map(|(key, config)| Step::Claim(key, config)),
                        (0..20usize).prop_map(Step::Release)], 0..60)) {
            let mut names = Names::<u8, u8, ()>::default();
            let mut model: BTreeMap<u8, (String, u8)> = BTreeMap::new();
            for (number, step) in steps.into_iter().enumerate() {
                match step {
                    Step::Claim(key, config) => {
                        let id = number.to_string();
                        let claim = names.claim(key, &id, config, ());
                        let expected = match model.get(&key) {
                            Some((id, old)) if *old == config => Claim::Join { id: id.clone(), outcome: () },
                            Some((id, _)) => Claim::Conflict { id: id.clone() },
                            None => { model.insert(key, (id, config)); Claim::Begin }
                        };
                        prop_assert_eq!(claim, expected);
                    }
                    Step::Release(number) => {
                        let id = number.to_string();
                        names.release(&id);
                        model.retain(|_, (taken, _)| *taken != id);
                    }
                }
            }
        }
    }
}
