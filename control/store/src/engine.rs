//! The one writer of an embedded store. It takes all transactions that wait, decides them against the state and
//! each other, makes them durable together, and only then publishes and acknowledges any of them.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{self, Receiver, RecvTimeoutError, Sender},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant, SystemTime},
};

use tokio::sync::{Semaphore, oneshot};

use crate::{CommitError, Entry, Event, History, Txn, Write, log::Log, state::Pending, watch::Shared};

/// What the waiting transactions may weigh together, in KiB; who comes later waits before it is queued.
const QUEUE: usize = 64 << 10;
/// What one transaction may weigh, in bytes.
const TXN: usize = 8 << 20;
/// How many writes one transaction may hold: what etcd allows by default, so that the backends agree.
pub(crate) const WRITES: usize = 128;
/// How many transactions, and how many bytes of them, are made durable by one sync.
const GROUP: (usize, usize) = (1024, 16 << 20);

/// For how long after a start nothing expires that was there before, in milliseconds.
const GRACE: u64 = 300_000;

/// An answer to one transaction.
type Answer<I> = Result<i64, CommitError<I>>;

enum Request<I> {
    Commit(Txn, oneshot::Sender<Answer<I>>),
    Stop,
}

/// The queue to the writer.
pub(crate) struct Engine<I> {
    queue: Sender<Request<I>>,
    budget: Semaphore,
    writer: Mutex<Option<JoinHandle<()>>>,
}

impl<I: Send + Sync + 'static> Engine<I> {
    /// Starts the writer. Without a log nothing outlives the process.
    pub(crate) fn start(
        shared: Arc<Shared<I>>,
        log: Option<Log>,
        clock: Clock,
        history: History,
    ) -> std::io::Result<Engine<I>> {
        let (queue, requests) = mpsc::channel();
        let grace = (shared.read().state.revision(), clock.now() + GRACE);
        let writer = Writer { shared, log, clock, history, requests, grace };
        let thread = thread::Builder::new().name("store".into()).spawn(move || writer.run())?;
        Ok(Engine { queue, budget: Semaphore::new(QUEUE), writer: Mutex::new(Some(thread)) })
    }

    /// Queues a transaction and waits until it is durable and published, or refused.
    pub(crate) async fn commit(&self, txn: Txn) -> Answer<I> {
        let (size, writes) = (txn.weight(), txn.writes.len());
        if size > TXN || writes > WRITES {
            return Err(CommitError::TooLarge { size, writes, limit: "8 MiB and 128 writes" });
        }
        let share = u32::try_from(size / 1024 + 1).unwrap_or(u32::MAX);
        let _share = self.budget.acquire_many(share).await.map_err(|_| CommitError::Closed)?;
        let (answer, answered) = oneshot::channel();
        self.queue.send(Request::Commit(txn, answer)).map_err(|_| CommitError::Closed)?;
        answered.await.map_err(|_| CommitError::Closed)?
    }

    /// Ends the writer after what is queued. The log is closed when this returns.
    pub(crate) fn stop(&self) {
        let _ = self.queue.send(Request::Stop);
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(writer) = writer
            && writer.join().is_err()
        {
            tracing::error!("the store's writer has panicked");
        }
    }
}

struct Writer<I> {
    shared: Arc<Shared<I>>,
    log: Option<Log>,
    clock: Clock,
    history: History,
    requests: Receiver<Request<I>>,
    /// What was there at the start does not expire before this time: the wall clock, which says how long the store
    /// was down, may have jumped.
    grace: (i64, u64),
}

impl<I: Send + Sync + 'static> Writer<I> {
    fn run(mut self) {
        loop {
            let first = match self.rest() {
                Some(time) => self.requests.recv_timeout(time),
                None => self.requests.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            let go_on = match first {
                Ok(request) => self.group(request),
                Err(RecvTimeoutError::Timeout) => {
                    self.probe();
                    true
                }
                Err(RecvTimeoutError::Disconnected) => false,
            };
            self.expire();
            self.shared.trim(&self.history, self.clock.now());
            if let Some(log) = &mut self.log {
                log.shrink(&self.shared, self.clock.now());
            }
            if !go_on {
                break;
            }
        }
        self.shared.close();
        if let Some(log) = &mut self.log {
            log.close(self.clock.now());
        }
    }

    /// Tries a failing disk anew, so that the store is known to work again before somebody writes.
    fn probe(&mut self) {
        let now = self.clock.now();
        if let Some(log) = &mut self.log {
            log.probe(now);
            self.shared.trouble(log.failure().map(ToString::to_string));
        }
    }

    /// How long nothing needs doing: until the next key expires, the oldest history is to be forgotten, a failing
    /// disk is to be tried anew, or a snapshot is to be cleared up behind.
    fn rest(&self) -> Option<Duration> {
        let inner = self.shared.read();
        let age = u64::try_from(self.history.age.as_millis()).unwrap_or(u64::MAX);
        let forget = inner.state.oldest().map(|time| time.saturating_add(age));
        let busy = self.log.as_ref().is_some_and(Log::busy).then_some(0);
        let next = [forget, inner.state.next_deadline(), busy].into_iter().flatten().min()?;
        // At most once a second, so that deadlines that lie close together are met together.
        Some(Duration::from_millis(next.saturating_sub(self.clock.now()).max(1000)))
    }

    /// Takes what else is queued, up to one group's measure, and commits it. Answers whether to go on.
    fn group(&mut self, first: Request<I>) -> bool {
        let (mut txns, mut size, mut go_on) = (Vec::new(), 0, true);
        let mut next = Some(first);
        while let Some(request) = next {
            match request {
                Request::Commit(txn, answer) => {
                    size += txn.weight();
                    txns.push((txn, answer));
                }
                Request::Stop => {
                    go_on = false;
                    break;
                }
            }
            let more = txns.len() < GROUP.0 && size < GROUP.1;
            next = more.then(|| self.requests.try_recv().ok()).flatten();
        }
        self.commit(txns);
        go_on
    }

    /// Decides, makes durable, publishes, acknowledges.
    fn commit(&mut self, txns: Vec<(Txn, oneshot::Sender<Answer<I>>)>) {
        let now = self.clock.now();
        let (mut answers, events) = {
            let inner = self.shared.read();
            let mut pending = Pending::new(&inner.state);
            let decide = |(txn, to): (Txn, oneshot::Sender<Answer<I>>)| (pending.decide(txn, now), to);
            let answers: Vec<_> = txns.into_iter().map(decide).collect();
            (answers, pending.events)
        };
        if let Err(failure) = self.publish(&events, now) {
            for (answer, _) in &mut answers {
                *answer = Err(failure.answer());
            }
        }
        for (answer, to) in answers {
            // A caller that has gone away is not told.
            let _ = to.send(answer);
        }
    }

    fn publish(&mut self, events: &[Event<I>], now: u64) -> Result<(), crate::log::Failure> {
        let Some(last) = events.last() else { return Ok(()) };
        if let Some(log) = &mut self.log {
            let appended = log.append(events, now);
            self.shared.trouble(log.failure().map(ToString::to_string));
            appended?;
        }
        self.shared.publish(events, last.revision, &self.history, now);
        Ok(())
    }

    /// Deletes what has expired. What cannot be written now is tried again when something else is.
    fn expire(&mut self) {
        let now = self.clock.now();
        while let events = self.expiry(now)
            && !events.is_empty()
            && self.publish(&events, now).is_ok()
        {}
    }

    /// The deletion of some keys that have expired.
    fn expiry(&self, now: u64) -> Vec<Event<I>> {
        let (old, until) = self.grace;
        let over = |entry: &&Arc<Entry<I>>| now >= until || entry.mod_revision > old;
        let inner = self.shared.read();
        let mut pending = Pending::new(&inner.state);
        for entry in inner.state.expired(now).filter(over).take(WRITES) {
            let delete = Txn::one(Write::delete(&*entry.key, entry.mod_revision));
            if let Err(error) = pending.decide(delete, now) {
                tracing::error!(%error, "an expired key cannot be deleted");
            }
        }
        pending.events
    }
}

/// The store's time, in milliseconds since 1970: set by the wall clock at the start, but never before what the log
/// has seen; from then on monotonic, so that a jump of the wall clock moves no deadline.
pub(crate) struct Clock {
    base: u64,
    since: Instant,
}

impl Clock {
    /// A clock that continues behind `seen`.
    pub(crate) fn start(seen: u64) -> Clock {
        let wall = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
        let wall = u64::try_from(wall.as_millis()).unwrap_or_default();
        Clock { base: wall.max(seen), since: Instant::now() }
    }

    pub(crate) fn now(&self) -> u64 {
        self.base.saturating_add(u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_never_goes_back_behind_what_was_written() {
        let now = Clock::start(0).now();
        let ahead = now + 1_000_000_000;
        assert!(Clock::start(ahead).now() >= ahead, "the wall clock was set back since");
        assert!(Clock::start(now - 5).now() >= now, "it went on while the store was down");
    }
}
