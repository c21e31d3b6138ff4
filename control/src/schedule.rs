//! The scheduling loop: [`Placing`] is told what happens and places one pod at a time; many are bound at once.

mod bind;
mod tell;

use std::sync::Arc;
use std::time::Duration;

use client::{Cache, Event, Need};
use proto_kube::{Resource, pod};
use scheduler::Pod;
use scheduler::placing::{Bound, HEEDED, Placing, READS, Task};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::apply::of;
use crate::metrics::{self, Metrics};
use crate::run;
use crate::work::SLEEP_MAX;

pub(crate) use tell::Teller;

/// So many bindings and messages are under way at once.
const TASKS_MAX: usize = 64;

/// What has come back from the server.
enum Back {
    Bound(Arc<Pod>, Bound),
    /// A pod's refusal has been told; room could not be made where it says so.
    Told(String, bool),
}

/// The scheduler of the pods that name it.
pub(crate) struct Scheduler {
    cache: Cache,
    teller: Teller,
    metrics: Metrics,
    started: Instant,
    placing: Placing,
    tasks: JoinSet<Back>,
}

impl Scheduler {
    pub(crate) fn new(cache: Cache, teller: Teller, metrics: Metrics) -> Self {
        Self {
            cache,
            placing: Placing::new(teller.name.clone()),
            teller,
            metrics,
            started: Instant::now(),
            tasks: JoinSet::new(),
        }
    }

    /// Works until it is told to stop; then finishes what is under way.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        let reads = READS.map(|(group, plural)| of(group, plural));
        let (heeded, looked_up) = reads.split_at(HEEDED);
        // Of pods it needs no more than their outlines.
        let outlines: Need = Arc::new(|_| false);
        let subscribe = |resource: &&'static Resource| match resource.group_resource() == pod::PODS {
            true => self.cache.subscribe_some(resource, "kube-scheduler", outlines.clone()),
            false => self.cache.subscribe(resource),
        };
        let mut events: Vec<_> = heeded.iter().map(subscribe).collect();
        let known = async {
            self.cache.synced(looked_up).await;
            self.cache.settled(heeded).await;
        };
        tokio::select! {
            () = known => {}
            () = stop.cancelled() => return,
        }
        while !stop.is_cancelled() {
            self.drain(&mut events);
            self.ask();
            if self.tasks.len() < TASKS_MAX
                && let Some(task) = self.placing.next(&self.cache, self.now())
            {
                self.begin(task);
                // The bindings go out meanwhile.
                tokio::task::yield_now().await;
                continue;
            }
            for (queue, depth) in self.placing.queue().depths() {
                self.metrics.set(metrics::PENDING, ("queue", queue), depth);
            }
            let wake = self.started + self.wake_at();
            tokio::select! {
                event = run::next(&mut events) => match event {
                    Some(event) => self.heed(&event),
                    None => break,
                },
                Some(Ok(back)) = self.tasks.join_next() => self.back(back),
                () = tokio::time::sleep_until(wake) => {}
                () = stop.cancelled() => {}
            }
        }
        while self.tasks.join_next().await.is_some() {}
    }

    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    fn wake_at(&self) -> Duration {
        // A full house waits for its tasks, not for the queue.
        let queue = self.placing.queue().wake_at().filter(|_| self.tasks.len() < TASKS_MAX);
        queue.into_iter().chain(self.placing.ask_at()).min().unwrap_or(self.now() + SLEEP_MAX)
    }

    fn drain(&mut self, events: &mut [UnboundedReceiver<Event>]) {
        for receiver in events {
            while let Ok(event) = receiver.try_recv() {
                self.heed(&event);
            }
        }
        while let Some(Ok(back)) = self.tasks.try_join_next() {
            self.back(back);
        }
    }

    fn heed(&mut self, event: &Event) {
        let now = self.now();
        self.placing.heed(event.resource.plural, event.old.as_deref(), event.new.as_ref(), now);
    }

    /// Does what was decided.
    fn begin(&mut self, task: Task) {
        let teller = self.teller.clone();
        match task {
            Task::Bind(pod) => {
                self.tasks.spawn(async move {
                    let bound = bind::bind(&teller.client, &pod).await;
                    Back::Bound(pod, bound)
                });
            }
            Task::Refuse(pod, refusal) => {
                self.metrics.count(metrics::ATTEMPTS, ("result", "unschedulable"));
                self.tasks.spawn(async move {
                    let is_done = teller.refused(&pod, &refusal).await;
                    Back::Told(pod.uid.clone(), is_done)
                });
            }
        }
    }

    fn back(&mut self, back: Back) {
        let now = self.now();
        let (pod, bound) = match back {
            Back::Told(uid, is_done) => return self.placing.told(&uid, is_done),
            Back::Bound(pod, bound) => (pod, bound),
        };
        let is_news = self.placing.bound(&pod, &bound, now);
        match bound {
            Bound::Here { is_new: true } => {
                self.metrics.count(metrics::ATTEMPTS, ("result", "scheduled"));
                self.teller.placed(&pod);
            }
            Bound::Free(why) if is_news => {
                self.metrics.count(metrics::ATTEMPTS, ("result", "error"));
                self.teller.failed(&pod, &why);
            }
            _ => {}
        }
    }

    /// Asks the server about bindings that the cache does not show.
    fn ask(&mut self) {
        for pod in self.placing.overdue(self.now()) {
            let client = self.teller.client.clone();
            self.tasks.spawn(async move {
                let bound = bind::find(&client, &pod, "the binding is lost", false).await;
                Back::Bound(pod, bound)
            });
        }
    }
}
