//! Whose turn it is: requests run on a fixed number of seats, and when all are taken, the next free one goes to the
//! client that has used the least seat time lately. However many requests one client sends, another's waits for one
//! seat to become free, not for the noisy client's queue. A client is a user; the programs and namespaces of one user
//! take turns.
//!
//! [`Fair`] decides and is pure; [`Gate`] lets requests wait for its verdict.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

/// What a request is charged when it begins; the rest when it ends and its true time is known. In microseconds.
const ADVANCE: u64 = 500;
/// What a client owes at most, in microseconds of seat time: what it used while nobody waited is soon forgotten.
const MOST_OWED: u64 = 1_000_000;
/// From this many known clients on those that owe nothing are forgotten.
const KNOWN: usize = 1024;
/// So many times the queue of one flow may all flows of a client be long together.
const FLOWS: usize = 4;

/// Who shares seats with others: a user.
pub type Client = Arc<str>;
/// What takes turns within a client: its programs, by namespace. Clients choose these names, so they divide nothing but
/// the client's own share.
pub type Flow = Arc<str>;

/// What happens to a request that comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It has a seat.
    Go,
    /// It waits in its client's queue.
    Wait,
    /// Its flow's queue is full, or its client's.
    Full,
}

/// The seats, and the queues before them. A ticket stands for a waiting request.
#[derive(Debug)]
pub struct Fair<T> {
    free: usize,
    longest: usize,
    clients: HashMap<Client, Queue<T>>,
    /// The clients with a queue, by the seat time they have used.
    waiting: BTreeSet<(u64, Client)>,
    /// The seat time of the client that was served last: who comes back after a pause begins here and not with the
    /// credit of the time in which he was away.
    level: u64,
}

#[derive(Debug)]
struct Queue<T> {
    used: u64,
    seated: usize,
    /// The flows in which somebody waits; the first is next.
    flows: VecDeque<(Flow, VecDeque<T>)>,
}

impl<T> Queue<T> {
    fn len(&self) -> usize {
        self.flows.iter().map(|(_, tickets)| tickets.len()).sum()
    }

    fn charge(&mut self, micros: u64, level: u64) {
        self.used = self.used.saturating_add(micros).min(level.saturating_add(MOST_OWED));
    }

    /// The ticket that is next; its flow's turn is over.
    fn pop(&mut self) -> Option<T> {
        let (flow, mut tickets) = self.flows.pop_front()?;
        let ticket = tickets.pop_front();
        if !tickets.is_empty() {
            self.flows.push_back((flow, tickets));
        }
        ticket
    }
}

impl<T> Fair<T> {
    /// So many requests run at once, and so many of each flow wait.
    #[must_use]
    pub fn new(seats: usize, longest: usize) -> Self {
        Self { free: seats, longest, clients: HashMap::new(), waiting: BTreeSet::new(), level: 0 }
    }

    /// A request comes. `ticket` is made only when it has to wait.
    pub fn arrive(&mut self, client: &Client, flow: &Flow, ticket: impl FnOnce() -> T) -> Verdict {
        let level = self.level;
        let queue = self.clients.entry(client.clone()).or_insert_with(|| Queue {
            used: level,
            seated: 0,
            flows: VecDeque::new(),
        });
        if queue.seated == 0 && queue.flows.is_empty() {
            queue.used = queue.used.max(level);
        }
        if self.free > 0 {
            self.free -= 1;
            queue.seated += 1;
            queue.charge(ADVANCE, level);
            return Verdict::Go;
        }
        let in_flow =
            queue.flows.iter().find(|(known, _)| known == flow).map_or(0, |(_, tickets)| tickets.len());
        if in_flow >= self.longest || queue.len() >= self.longest * FLOWS {
            return Verdict::Full;
        }
        if queue.flows.is_empty() {
            self.waiting.insert((queue.used, client.clone()));
        }
        match queue.flows.iter_mut().find(|(known, _)| known == flow) {
            Some((_, tickets)) => tickets.push_back(ticket()),
            None => queue.flows.push_back((flow.clone(), VecDeque::from([ticket()]))),
        }
        Verdict::Wait
    }

    /// A request of `client` has ended after `micros` on its seat. Whoever is next has the seat now.
    pub fn finish(&mut self, client: &Client, micros: u64) -> Option<(Client, T)> {
        self.free += 1;
        let level = self.level;
        if let Some(queue) = self.clients.get_mut(client) {
            let listed = self.waiting.remove(&(queue.used, client.clone()));
            queue.seated = queue.seated.saturating_sub(1);
            queue.used = queue.used.saturating_sub(ADVANCE);
            queue.charge(micros, level);
            if listed {
                self.waiting.insert((queue.used, client.clone()));
            }
        }
        if self.clients.len() > KNOWN {
            self.clients.retain(|_, q| q.seated > 0 || !q.flows.is_empty() || q.used > level);
        }
        self.next()
    }

    fn next(&mut self) -> Option<(Client, T)> {
        let (used, client) = self.waiting.pop_first()?;
        self.level = self.level.max(used);
        let queue = self.clients.get_mut(&client)?;
        let ticket = queue.pop()?;
        queue.seated += 1;
        queue.charge(ADVANCE, self.level);
        if !queue.flows.is_empty() {
            self.waiting.insert((queue.used, client.clone()));
        }
        self.free -= 1;
        Some((client, ticket))
    }

    /// Takes back the tickets of `client` that `gone` says nobody waits with any more.
    pub fn withdraw(&mut self, client: &Client, gone: impl Fn(&T) -> bool) {
        let Some(queue) = self.clients.get_mut(client) else { return };
        for (_, tickets) in &mut queue.flows {
            tickets.retain(|ticket| !gone(ticket));
        }
        queue.flows.retain(|(_, tickets)| !tickets.is_empty());
        if queue.flows.is_empty() {
            self.waiting.remove(&(queue.used, client.clone()));
        }
    }

    /// How many requests wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting.iter().filter_map(|(_, client)| self.clients.get(client)).map(Queue::len).sum()
    }
}

/// Where requests wait for their seat.
#[derive(Debug, Clone)]
pub struct Gate {
    fair: Arc<Mutex<Fair<oneshot::Sender<()>>>>,
}

/// A request's seat, free again when dropped.
#[derive(Debug)]
pub struct Seat {
    gate: Gate,
    client: Client,
    since: Instant,
}

impl Gate {
    /// See [`Fair::new`].
    #[must_use]
    pub fn new(seats: usize, longest: usize) -> Self {
        Self { fair: Arc::new(Mutex::new(Fair::new(seats, longest))) }
    }

    fn fair(&self) -> MutexGuard<'_, Fair<oneshot::Sender<()>>> {
        self.fair.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a seat. `None` when the queue is full, or the wait takes longer than `most`.
    pub async fn enter(&self, client: &Client, flow: &Flow, most: Duration) -> Option<Seat> {
        let mut turn = None;
        let verdict = self.fair().arrive(client, flow, || {
            let (sender, receiver) = oneshot::channel();
            turn = Some(receiver);
            sender
        });
        let Some(turn) = turn else {
            return (verdict == Verdict::Go).then(|| self.seat(client.clone()));
        };
        let waiting = Waiting { gate: self, client, turn: Some(turn) };
        waiting.turn(most).await.then(|| self.seat(client.clone()))
    }

    fn seat(&self, client: Client) -> Seat {
        Seat { gate: self.clone(), client, since: Instant::now() }
    }

    fn release(&self, client: &Client, micros: u64) {
        let mut fair = self.fair();
        let mut next = fair.finish(client, micros);
        // Who does not want the seat any more gives it to the next.
        while let Some((client, ticket)) = next {
            next = if ticket.send(()).is_ok() { None } else { fair.finish(&client, 0) };
        }
    }

    /// How many requests wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.fair().waiting()
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let micros = u64::try_from(self.since.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.gate.release(&self.client, micros);
    }
}

/// A request in its queue; when it is dropped (its client left) its ticket goes too, and a seat that it was given in
/// that very moment is passed on.
struct Waiting<'a> {
    gate: &'a Gate,
    client: &'a Client,
    turn: Option<oneshot::Receiver<()>>,
}

impl Waiting<'_> {
    async fn turn(mut self, most: Duration) -> bool {
        let Some(turn) = &mut self.turn else { return false };
        let came = matches!(tokio::time::timeout(most, turn).await, Ok(Ok(())));
        if came {
            self.turn = None;
        }
        came
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let Some(mut turn) = self.turn.take() else { return };
        turn.close();
        if turn.try_recv().is_ok() {
            self.gate.release(self.client, 0);
        } else {
            self.gate.fair().withdraw(self.client, oneshot::Sender::is_closed);
        }
    }
}

#[cfg(test)]
mod tests;
