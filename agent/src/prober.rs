//! Runs the probes that the plan asks for, a task each.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use agent_core::event::Event;
use agent_core::probe::{Kind, Prober, Target, Timing};
use agent_core::{Health, Verdict, pod};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ExecAction, Pod, Probe};
use tokio::sync::mpsc::UnboundedSender;
use tokio::task::AbortHandle;

use crate::effect::Effects;
use crate::events::Subject;
use crate::reach::{self, Answer, Place, Told};
use crate::sync::Happening;

/// How often an attempt is made that fails itself.
const ATTEMPTS_MAX: u32 = 3;

/// A probe's key: container id and kind.
type Key = (String, Kind);

/// The probes that run.
pub(crate) struct Probers {
    effects: Arc<Effects>,
    happenings: UnboundedSender<Happening>,
    running: BTreeMap<Key, AbortHandle>,
    /// Since when there are probers.
    since: Timestamp,
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
        let since = effects.clock.now();
        Self { effects, happenings, running: BTreeMap::new(), since }
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
                let task = run(self.effects.clone(), self.happenings.clone(), wanted, self.since);
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

async fn run(
    effects: Arc<Effects>,
    happenings: UnboundedSender<Happening>,
    wanted: Wanted,
    since: Timestamp,
) {
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
    let mut first = effects.clock.instant(timing.first_at);
    if target.started_at < since {
        // Those that ran before this agent did are not all asked at once.
        first = first.max(tokio::time::Instant::now() + period.mul_f64(spread(&target.id)));
    }
    let mut ticks = tokio::time::interval_at(first, period);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let mut answer = attempt(&place, probe, limit).await;
        for _ in 1..ATTEMPTS_MAX {
            if answer.told == Told::Nothing {
                answer = attempt(&place, probe, limit).await;
            }
        }
        let (reason, what) = match answer.told {
            Told::Yes => ("", ""),
            Told::Odd => ("ProbeWarning", "warning"),
            Told::No => ("Unhealthy", "failed"),
            Told::Nothing => ("Unhealthy", "errored and resulted in unknown state"),
        };
        if !reason.is_empty() {
            let text = format!("{} probe {what}: {}", target.kind.name(), answer.text);
            let event = Event::new(true, reason, &text).of_container(&pod, &target.name);
            effects.events.record(&Subject::of(&pod, &uid), event);
        }
        // An attempt that failed itself, as while the runtime restarts, does not count.
        if answer.told == Told::Nothing {
            continue;
        }
        if let Some(ok) = prober.record(answer.ok()) {
            let verdict = Verdict { ok, at: effects.clock.now(), message: answer.text };
            let (uid, id, kind) = (uid.clone(), target.id.clone(), target.kind);
            if happenings.send(Happening::Probed { uid, id, kind, verdict }).is_err() {
                return;
            }
        }
    }
}

/// A part of a whole that is a container's own.
fn spread(id: &str) -> f64 {
    let sum = id.bytes().fold(0_u32, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
    f64::from(sum % 1000) / 1000.0
}

async fn attempt(place: &Place<'_>, probe: &Probe, limit: Duration) -> Answer {
    if let Some(action) = &probe.exec {
        let literals = place.spec.env.iter().flatten();
        let literals: Vec<_> =
            literals.filter_map(|var| Some((var.name.clone(), var.value.clone()?))).collect();
        let command = Some(agent_core::env::expand_all(action.command.as_ref(), &literals));
        return reach::exec(place, &ExecAction { command }, limit).await;
    }
    if let Some(action) = &probe.http_get {
        return reach::http_get(place, action, limit).await;
    }
    if let Some(action) = &probe.tcp_socket {
        return reach::tcp(place, action, limit).await;
    }
    match &probe.grpc {
        Some(action) => reach::grpc(place, action, limit).await,
        None => Answer::nothing("the probe has no handler: give it exec, httpGet, tcpSocket or grpc"),
    }
}
