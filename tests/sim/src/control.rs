//! The process of the controllers: as `control::run`, but one request at a time, and whoever holds the dice says which.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use control::pending::{Expected, Pending, State};
use control::queue::Queue;
use controllers::{Controller, Facts, Key, Mutation, Outcome, Refused, World};
use fastrand::Rng;
use jiff::Timestamp;
use proto_kube::{GroupResource, object};

use crate::cache::Cache;
use crate::server::{Change, Of, Server, Trouble, said, target, words};
use crate::time::Now;

const ROUNDS_MAX: usize = 16;
const SLEEP_MIN: Duration = Duration::from_millis(20);
const SLEEP_MAX: Duration = Duration::from_secs(60);
const TRIES: u32 = 6;

/// Decisions on their way to the server.
struct Round {
    key: Key,
    todo: VecDeque<Mutation>,
    expected: Vec<Expected>,
    again: Option<Timestamp>,
    tries: u32,
    /// Not before.
    at: Duration,
}

/// How a round ended.
enum End {
    Done,
    Again(Duration),
    Refused(Box<Refused>),
}

/// A controller at work.
struct Worker {
    controller: Box<dyn Controller>,
    inbox: VecDeque<Change>,
    queue: Queue<Key>,
    pending: Pending<Key>,
    refused: BTreeMap<Key, Refused>,
    told: BTreeSet<Key>,
    rounds: Vec<Round>,
}

/// What can be done next.
enum Step {
    See(Of),
    Heed(usize),
    Work(usize),
    Go(usize, usize),
    Ask(usize),
}

/// The process.
pub(crate) struct Control {
    pub(crate) cache: Cache,
    workers: Vec<Worker>,
    facts: Facts,
}

/// What the cluster was started with.
pub(crate) fn facts() -> Facts {
    Facts { root_ca: "ca".to_owned(), pod_cidrs: vec![("10.244.0.0/16".to_owned(), 24)], ..Facts::default() }
}

/// All that controllers read.
pub(crate) fn reads() -> Vec<Of> {
    let all = controllers::all();
    let reads: BTreeSet<Of> = all.iter().flat_map(|c| c.watches().iter().copied()).collect();
    reads.into_iter().collect()
}

impl Control {
    /// Starts it anew.
    pub(crate) fn new(server: &Server) -> Self {
        let worker = |controller| Worker {
            controller,
            inbox: VecDeque::new(),
            queue: Queue::default(),
            pending: Pending::default(),
            refused: BTreeMap::new(),
            told: BTreeSet::new(),
            rounds: Vec::new(),
        };
        let workers = controllers::all().into_iter().map(worker).collect();
        let (cache, events) = Cache::new(&reads(), None, server);
        let mut control = Self { cache, workers, facts: facts() };
        control.tell(&events);
        control
    }

    fn tell(&mut self, events: &[Change]) {
        for event in events {
            let of = (event.resource.group, event.resource.plural);
            for worker in self.workers.iter_mut().filter(|w| w.controller.watches().contains(&of)) {
                worker.inbox.push_back(event.clone());
            }
        }
    }

    /// A watch broke.
    pub(crate) fn relist(&mut self, of: Of, server: &Server) {
        let events = self.cache.relist(of, server);
        self.tell(&events);
    }

    fn steps(&self, server: &Server, now: Duration) -> Vec<Step> {
        let mut steps: Vec<Step> = self.cache.behind(server, now).into_iter().map(Step::See).collect();
        for (at, worker) in self.workers.iter().enumerate() {
            if !worker.inbox.is_empty() {
                steps.push(Step::Heed(at));
            }
            let due = worker.queue.depth() > 0 || worker.queue.wake_at().is_some_and(|at| at <= now);
            if due && worker.rounds.len() < ROUNDS_MAX {
                steps.push(Step::Work(at));
            }
            if worker.pending.wake_at().is_some_and(|at| at <= now) {
                steps.push(Step::Ask(at));
            }
            let rounds = worker.rounds.iter().enumerate().filter(|(_, round)| round.at <= now);
            steps.extend(rounds.map(|(round, _)| Step::Go(at, round)));
        }
        steps
    }

    /// When there is something to do; now, if there is already.
    pub(crate) fn wake_at(&self, server: &Server, now: Duration) -> Option<Duration> {
        if !self.steps(server, now).is_empty() {
            return Some(now);
        }
        let of = |worker: &Worker| {
            let rounds = worker.rounds.iter().map(|round| round.at);
            rounds.chain(worker.queue.wake_at()).chain(worker.pending.wake_at()).min()
        };
        self.workers.iter().filter_map(of).chain(self.cache.wake_at(server)).min()
    }

    /// Does one thing; what, for people.
    pub(crate) fn step(&mut self, server: &mut Server, now: Now, rng: &mut Rng) -> Option<String> {
        let mut steps = self.steps(server, now.since);
        if steps.is_empty() {
            return None;
        }
        let step = steps.swap_remove(rng.usize(..steps.len()));
        match step {
            Step::See(of) => {
                let events = self.cache.see(of, server, rng.usize(1..8));
                self.tell(&events);
                Some(format!("control sees {} of {}", events.len(), of.1))
            }
            Step::Heed(at) => {
                let most = rng.usize(1..64);
                self.workers[at].heed(&self.cache, most);
                None
            }
            Step::Ask(at) => {
                self.workers[at].ask(&self.cache, server, now, rng);
                None
            }
            Step::Work(at) => self.workers[at].work(&self.cache, &self.facts, now),
            Step::Go(at, round) => Some(self.workers[at].go(round, &self.cache, server, now, rng)),
        }
    }
}

impl Worker {
    fn heed(&mut self, cache: &Cache, most: usize) {
        for _ in 0..most {
            let Some(Change { resource, old, new }) = self.inbox.pop_front() else { return };
            let of: GroupResource<'_> = resource.group_resource();
            for key in self.controller.keys(cache, of, old.as_deref(), new.as_deref()) {
                self.queue.add(key);
            }
            for key in self.pending.saw(resource, old.as_deref(), new.as_deref()) {
                self.queue.done(&key);
            }
        }
    }

    /// Asks the server for what the cache does not show.
    fn ask(&mut self, cache: &Cache, server: &Server, now: Now, rng: &mut Rng) {
        let mut overdue = self.pending.overdue(now.since);
        overdue.sort_by(|a, b| (a.0.plural, &a.1, &a.2).cmp(&(b.0.plural, &b.1, &b.2)));
        for id in overdue {
            if server.trouble > 0 && rng.u32(..100) < server.trouble {
                continue;
            }
            let found = server.get((id.0.group, id.0.plural), &id.1, &id.2);
            for key in self.pending.answered(&id, found.as_deref(), cache) {
                self.queue.done(&key);
            }
        }
    }

    fn work(&mut self, cache: &Cache, facts: &Facts, now: Now) -> Option<String> {
        let key = self.queue.take(now.since)?;
        let refused = self.refused.remove(&key);
        if refused.is_some() {
            self.told.insert(key.clone());
        }
        let world = World { view: cache, facts, now: now.clock, refused: refused.as_ref() };
        let Outcome { mutations, again } = self.controller.reconcile(&world, &key);
        if mutations.is_empty() {
            self.finish(key, End::Done, again, now);
            return None;
        }
        let words = format!("{} decides on {}/{}: {}", self.controller.name(), key.0, key.1, mutations.len());
        self.rounds.push(Round {
            key,
            todo: mutations.into(),
            expected: Vec::new(),
            again,
            tries: 0,
            at: now.since,
        });
        Some(words)
    }

    /// Makes the next change of a round.
    fn go(&mut self, at: usize, cache: &Cache, server: &mut Server, now: Now, rng: &mut Rng) -> String {
        let round = &mut self.rounds[at];
        let Some(mutation) = round.todo.front().cloned() else { return String::new() };
        let answer = server.ask(self.controller.name(), &mutation, now.clock, rng);
        let line = format!("{}: {} -> {}", self.controller.name(), words(&mutation), said(&answer));
        let end = match answer {
            Ok(Some(expected)) => {
                round.expected.extend(expected);
                round.tries = 0;
                round.todo.pop_front();
                round.todo.is_empty().then_some(End::Done)
            }
            Ok(None) => Some(End::Again(Duration::ZERO)),
            Err(trouble) => {
                round.tries += 1;
                let unanswered = matches!(trouble, Trouble::Unanswered);
                let uncertain = unanswered || matches!(&trouble, Trouble::Status(s) if s.code >= 500);
                let is_creation = matches!(mutation, Mutation::Create(..));
                if is_creation && uncertain && (unanswered || round.tries < TRIES) {
                    round.at = now.since + Duration::from_millis(100);
                    None
                } else {
                    let (expected, end) = judge(mutation, trouble);
                    round.expected.extend(expected);
                    match end {
                        End::Done => {
                            round.todo.pop_front();
                            round.todo.is_empty().then_some(End::Done)
                        }
                        end => Some(end),
                    }
                }
            }
        };
        if let Some(end) = end {
            let Round { key, expected, again, .. } = self.rounds.swap_remove(at);
            let reads = |e: &Expected| self.controller.watches().contains(&(e.id.0.group, e.id.0.plural));
            for expected in expected.into_iter().filter(reads) {
                self.pending.expect(&key, expected, cache, now.since);
            }
            self.finish(key, end, again, now);
        }
        line
    }

    fn finish(&mut self, key: Key, end: End, again: Option<Timestamp>, now: Now) {
        let was_told = self.told.remove(&key);
        match end {
            End::Refused(refused) if !was_told => {
                self.refused.insert(key.clone(), *refused);
                self.queue.add(key.clone());
            }
            End::Done if !was_told => {
                self.queue.succeeded(&key);
                if let Some(again) = again {
                    let wait = Duration::try_from(again.duration_since(now.clock)).unwrap_or_default();
                    self.queue.add_at(key.clone(), now.since + wait.clamp(SLEEP_MIN, SLEEP_MAX));
                }
            }
            End::Again(least) => self.queue.failed(key.clone(), now.since, least),
            End::Refused(_) | End::Done => self.queue.failed(key.clone(), now.since, Duration::ZERO),
        }
        if self.pending.is_clear(&key) {
            self.queue.done(&key);
        }
    }
}

/// What an answer other than yes means, as `control` judges it.
fn judge(mutation: Mutation, trouble: Trouble) -> (Option<Expected>, End) {
    let unknown = |m: &Mutation| target(m).map(|id| Expected { id, state: State::Unknown });
    let again = End::Again(Duration::ZERO);
    let Trouble::Status(status) = trouble else { return (unknown(&mutation), again) };
    match (status.code, &mutation) {
        (409, Mutation::Create(..)) if status.reason == "AlreadyExists" => {
            let expected = target(&mutation).map(|id| Expected { id, state: State::Version(0) });
            (expected, End::Done)
        }
        (404, Mutation::Delete(_, _, options)) => {
            let uid = object::text(options, &["preconditions", "uid"]).to_owned();
            (target(&mutation).map(|id| Expected { id, state: State::Gone(uid) }), End::Done)
        }
        (409, Mutation::Create(..)) => (None, again),
        (404 | 409, _) if !matches!(mutation, Mutation::Create(..)) => (unknown(&mutation), again),
        (429, _) => (None, End::Again(Duration::from_secs(1))),
        (500.., _) => (unknown(&mutation), again),
        _ => (None, End::Refused(Box::new(Refused { mutation, status }))),
    }
}

/// What controllers that have forgotten everything would change in the cluster as it is, messages left out.
pub(crate) fn wishes(server: &Server, now: Timestamp) -> Vec<String> {
    let (cache, events) = Cache::new(&reads(), None, server);
    let facts = facts();
    let mut wishes = Vec::new();
    for controller in controllers::all() {
        let mut keys = BTreeSet::new();
        for Change { resource, old, new } in &events {
            if controller.watches().contains(&(resource.group, resource.plural)) {
                let of = resource.group_resource();
                keys.extend(controller.keys(&cache, of, old.as_deref(), new.as_deref()));
            }
        }
        for key in keys {
            let world = World { view: &cache, facts: &facts, now, refused: None };
            let outcome = controller.reconcile(&world, &key);
            let changes = outcome.mutations.iter().filter(|m| !matches!(m, Mutation::Event(..)));
            wishes.extend(changes.map(|m| format!("{} wants to {}", controller.name(), words(m))));
        }
    }
    wishes
}
