//! The process of the controllers: as `control::run`, but one thing at a time, and whoever holds the dice says which.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use control::answer::{End, judge};
use control::pending::Expected;
use control::work::{self, Work};
use controllers::{Controller, Facts, Key, Mutation, Outcome, World};
use fastrand::Rng;
use jiff::Timestamp;
use proto_kube::GroupResource;

use crate::cache::Cache;
use crate::server::{Answer, Change, Of, Server, Trouble, words};
use crate::time::Now;

const ROUNDS_MAX: usize = 16;
const TRIES: u32 = 6;

/// Decisions on their way to the server.
struct Round {
    key: Key,
    todo: VecDeque<Mutation>,
    expected: Vec<Expected>,
    again: Option<Timestamp>,
    tries: u32,
    /// What the server has said to the first of them, if it was asked; and when that is known.
    answer: Option<Answer>,
    at: Duration,
}

/// A controller at work.
struct Worker {
    controller: Box<dyn Controller>,
    inbox: VecDeque<Change>,
    work: Work,
    rounds: Vec<Round>,
}

/// What can be done next.
enum Step {
    See(usize),
    Heed(usize),
    Work(usize),
    Go(usize, usize),
    Ask(usize),
}

/// The process.
pub(crate) struct Control {
    pub(crate) cache: Cache,
    workers: Vec<Worker>,
    /// The workers that each watch is for.
    readers: Vec<Vec<usize>>,
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
    pub(crate) fn new(server: &mut Server) -> Self {
        let worker = |controller| Worker {
            controller,
            inbox: VecDeque::new(),
            work: Work::default(),
            rounds: Vec::new(),
        };
        let workers: Vec<Worker> = controllers::all().into_iter().map(worker).collect();
        let reads = reads();
        let of = |of: &Of| {
            (0..workers.len()).filter(|at| workers[*at].controller.watches().contains(of)).collect()
        };
        let readers = reads.iter().map(of).collect();
        let cache = Cache::new(&reads, None, server);
        let mut control = Self { cache, workers, readers, facts: facts() };
        (0..reads.len()).for_each(|at| control.relist(at, server));
        control
    }

    fn tell(&mut self, at: usize, events: &[Change]) {
        for worker in &self.readers[at] {
            self.workers[*worker].inbox.extend(events.iter().cloned());
        }
    }

    /// A watch broke.
    pub(crate) fn relist(&mut self, at: usize, server: &Server) {
        let events = self.cache.relist(at, server);
        self.tell(at, &events);
    }

    fn steps(&self, server: &Server, now: Duration) -> Vec<Step> {
        let mut steps: Vec<Step> = self.cache.behind(server, now).map(Step::See).collect();
        for (at, worker) in self.workers.iter().enumerate() {
            if !worker.inbox.is_empty() {
                steps.push(Step::Heed(at));
            }
            let due = worker.work.depth() > 0 || worker.work.wake_at().is_some_and(|at| at <= now);
            if due && worker.rounds.len() < ROUNDS_MAX {
                steps.push(Step::Work(at));
            }
            if worker.work.ask_at().is_some_and(|at| at <= now) {
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
            rounds.chain(worker.work.wake_at()).chain(worker.work.ask_at()).min()
        };
        self.workers.iter().filter_map(of).chain(self.cache.wake_at(server)).min()
    }

    /// Does one thing.
    pub(crate) fn step(&mut self, server: &mut Server, now: Now, rng: &mut Rng) {
        let mut steps = self.steps(server, now.since);
        if steps.is_empty() {
            return;
        }
        let step = steps.swap_remove(rng.usize(..steps.len()));
        match step {
            Step::See(at) => {
                let events = self.cache.see(at, server, rng.usize(1..8));
                self.tell(at, &events);
                server.say(|| format!("control sees {} of {}", events.len(), self.cache.of(at)));
            }
            Step::Heed(at) => self.workers[at].heed(&self.cache, rng.usize(1..64)),
            Step::Ask(at) => self.workers[at].ask(&self.cache, server, now, rng),
            Step::Work(at) => self.workers[at].work(&self.cache, &self.facts, server, now),
            Step::Go(at, round) => self.workers[at].go(round, &self.cache, server, now, rng),
        }
    }
}

impl Worker {
    fn heed(&mut self, cache: &Cache, most: usize) {
        for Change { resource, old, new } in self.inbox.drain(..most.min(self.inbox.len())) {
            let of: GroupResource<'_> = resource.group_resource();
            let (old, new) = (old.as_deref(), new.as_deref());
            self.work.heed(self.controller.keys(cache, of, old, new), resource, old, new);
        }
    }

    /// Asks the server for what the cache does not show.
    fn ask(&mut self, cache: &Cache, server: &Server, now: Now, rng: &mut Rng) {
        let mut overdue = self.work.overdue(now.since);
        overdue.sort_by(|a, b| (a.0.plural, &a.1, &a.2).cmp(&(b.0.plural, &b.1, &b.2)));
        for id in overdue {
            if server.trouble > 0 && rng.u32(..100) < server.trouble {
                continue;
            }
            let found = server.get((id.0.group, id.0.plural), &id.1, &id.2);
            self.work.answered(&id, found.as_deref(), cache);
        }
    }

    fn work(&mut self, cache: &Cache, facts: &Facts, server: &mut Server, now: Now) {
        let Some((key, refused)) = self.work.take(now.since) else { return };
        let world = World { view: cache, facts, now: now.clock, refused: refused.as_ref() };
        let Outcome { mutations, again } = self.controller.reconcile(&world, &key);
        let round = Round {
            key,
            todo: mutations.into(),
            expected: Vec::new(),
            again,
            tries: 0,
            answer: None,
            at: now.since,
        };
        if round.todo.is_empty() {
            return self.finish(round, End::Done, cache, now);
        }
        let (name, (namespace, of)) = (self.controller.name(), &round.key);
        server.say(|| format!("{name} decides on {namespace}/{of}: {}", round.todo.len()));
        self.rounds.push(round);
    }

    /// Asks for the next change of a round, or takes the answer. Creations that stand together are made in any order, as
    /// deletions are.
    fn go(&mut self, at: usize, cache: &Cache, server: &mut Server, now: Now, rng: &mut Rng) {
        let round = &mut self.rounds[at];
        let Some(answer) = round.answer.take() else {
            if round.tries == 0 {
                let alike = round.todo.iter().take_while(|m| is_alike(&round.todo[0], m)).count();
                round.todo.swap(0, rng.usize(..alike.max(1)));
            }
            round.answer = Some(server.ask(self.controller.name(), &round.todo[0], now, rng));
            round.at = now.since + server.takes(rng);
            return;
        };
        let end = match answer {
            Ok(Some(expected)) => {
                round.expected.extend(expected);
                End::Done
            }
            Ok(None) => End::Again(Duration::ZERO),
            Err(trouble) => {
                round.tries += 1;
                let unanswered = matches!(trouble, Trouble::Unanswered);
                let uncertain = unanswered || matches!(&trouble, Trouble::Status(s) if s.code >= 500);
                let is_creation = matches!(round.todo[0], Mutation::Create(..));
                if is_creation && uncertain && (unanswered || round.tries < TRIES) {
                    round.at = now.since + Duration::from_millis(100);
                    return;
                }
                let (expected, end) = judge(round.todo[0].clone(), trouble.status());
                round.expected.extend(expected);
                end
            }
        };
        if matches!(end, End::Done) {
            round.tries = 0;
            round.todo.pop_front();
            if !round.todo.is_empty() {
                return;
            }
        }
        let round = self.rounds.swap_remove(at);
        self.finish(round, end, cache, now);
    }

    fn finish(&mut self, round: Round, end: End, cache: &Cache, now: Now) {
        let Round { key, mut expected, again, .. } = round;
        expected.retain(|e| self.controller.watches().contains(&(e.id.0.group, e.id.0.plural)));
        let again = again.map(|again| work::wait(again, now.clock));
        self.work.finish(work::Round { key, expected, end, again }, cache, now.since);
    }
}

/// Whether two changes may be asked for side by side.
fn is_alike(one: &Mutation, other: &Mutation) -> bool {
    use Mutation::{Create, Delete};
    matches!((one, other), (Create(..), Create(..)) | (Delete(..), Delete(..)))
}

/// What controllers that have forgotten everything would change in the cluster as it is, messages left out.
pub(crate) fn wishes(server: &mut Server, now: Timestamp) -> Vec<String> {
    let mut cache = Cache::new(&reads(), None, server);
    let events = cache.list_all(server);
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
