//! Runs the probes that the plan asks for, a task each.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use agent_core::event::Event;
use agent_core::probe::{Kind, Prober, Target, Timing};
use agent_core::{Health, Verdict, pod};
use k8s_openapi::api::core::v1::{Pod, Probe};
use tokio::sync::mpsc::UnboundedSender;
use tokio::task::AbortHandle;

use crate::effect::Effects;
use crate::events::Subject;
use crate::reach::{self, Answer, Place};
use crate::sync::Happening;

/// A probe's key: container id and kind.
type Key = (String, Kind);

/// The probes that run.
pub(crate) struct Probers {
    effects: Arc<Effects>,
    happenings: UnboundedSender<Happening>,
    running: BTreeMap<Key, AbortHandle>,
}

/// A probe to run, and the pod it is of.
pub(crate) struct Wanted {
    pub(crate) uid: String,
    pub(crate) pod: Arc<Pod>,
    pub(crate) ip: Option<IpAddr>,
    pub(crate) health: Health,
    pub(crate) target: Target,
}

impl Probers {
    pub(crate) fn new(effects: Arc<Effects>, happenings: UnboundedSender<Happening>) -> Self {
        Self { effects, happenings, running: BTreeMap::new() }
    }

    /// Starts what is wanted and does not run, stops what runs and is not wanted.
    pub(crate) fn reconcile(&mut self, wanted: Vec<Wanted>) {
        let key = |w: &Wanted| (w.target.id.clone(), w.target.kind);
        let keys: BTreeSet<Key> = wanted.iter().map(key).collect();
        self.running.retain(|key, task| {
            let keep = keys.contains(key);
            if !keep {
                task.abort();
            }
            keep
        });
        for wanted in wanted {
            let key = key(&wanted);
            if !self.running.contains_key(&key) {
                let task = run(self.effects.clone(), self.happenings.clone(), wanted);
                self.running.insert(key, tokio::spawn(task).abort_handle());
            }
        }
    }
}

impl Drop for Probers {
    fn drop(&mut self) {
        self.running.values().for_each(AbortHandle::abort);
    }
}

async fn run(effects: Arc<Effects>, happenings: UnboundedSender<Happening>, wanted: Wanted) {
    let Wanted { uid, pod, ip, health, target } = wanted;
    let Some(spec) = pod::container(&pod, &target.name) else { return };
    let Some(probe) = target.kind.of(&spec) else { return };
    let before = match target.kind {
        Kind::Startup => health.startup,
        Kind::Liveness => health.liveness,
        Kind::Readiness => health.readiness,
    };
    let timing = Timing::of(probe, target.started_at);
    let mut prober = Prober::new(probe, before.map(|v| v.ok));
    let place = Place { cri: &effects.cri, id: &target.id, spec: &spec, ip };
    let period = Duration::try_from(timing.period).unwrap_or(Duration::from_secs(10));
    let limit = Duration::try_from(timing.timeout).unwrap_or(Duration::from_secs(1));
    let first = effects.clock.instant(timing.first_at);
    let mut ticks = tokio::time::interval_at(first, period);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let answer = attempt(&place, probe, limit).await;
        if !answer.ok {
            let text = format!("{} probe failed: {}", target.kind.name(), answer.text);
            let event = Event::new(true, "Unhealthy", &text, Some(&target.name));
            effects.events.record(&Subject::of(&pod, &uid), event);
        }
        if let Some(ok) = prober.record(answer.ok) {
            let verdict = Verdict { ok, at: effects.clock.now(), message: answer.text };
            let (uid, id, kind) = (uid.clone(), target.id.clone(), target.kind);
            if happenings.send(Happening::Probed { uid, id, kind, verdict }).is_err() {
                return;
            }
        }
    }
}

async fn attempt(place: &Place<'_>, probe: &Probe, limit: Duration) -> Answer {
    if let Some(action) = &probe.exec {
        return reach::exec(place, action, limit).await;
    }
    if let Some(action) = &probe.http_get {
        return reach::http_get(place, action, limit).await;
    }
    if let Some(action) = &probe.tcp_socket {
        return reach::tcp(place, action, limit).await;
    }
    match &probe.grpc {
        Some(action) => reach::grpc(place, action, limit).await,
        None => Answer {
            ok: false,
            text: "the probe has no handler: give it exec, httpGet, tcpSocket or grpc".into(),
        },
    }
}
