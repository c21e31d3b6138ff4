//! What an agent does to its node.

use std::sync::Arc;
use std::time::Duration;

use agent_core::quantity::Amount;
use agent_core::{
    Action, DesiredPod, Failure, HookState, Image, Object, ObservedPod, PodAction, Presence, Termination,
    plan, pod,
};
use fastrand::Rng;
use k8s_openapi::api::core::v1::{Container as Spec, Pod, PodSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::{Agent, Node, PODS, Told};
use crate::server::Server;
use crate::time::Now;

/// The machine, as its agent knows it.
pub(super) fn machine(name: &str, cpu: i64) -> agent_core::Node {
    agent_core::Node {
        name: name.to_owned(),
        ips: vec!["192.0.2.1".parse().expect("an address")],
        runtime_name: "cleat".to_owned(),
        allocatable: [
            ("cpu".to_owned(), Amount::from_millis(cpu)),
            ("pods".to_owned(), Amount::from_millis(PODS * 1000)),
        ]
        .into(),
        ..agent_core::Node::default()
    }
}

impl Node {
    /// What the runtime has and nobody wants is ended.
    pub(super) fn adopt(&mut self, now: Now) {
        let Some(agent) = &mut self.agent else { return };
        for (uid, found) in &self.runtime.pods {
            if agent.desired.pods.iter().any(|p| p.uid == *uid) {
                continue;
            }
            let container = |name: &String| Spec { name: name.clone(), ..Spec::default() };
            let pod = Pod {
                metadata: ObjectMeta { name: Some(uid.clone()), ..ObjectMeta::default() },
                spec: Some(PodSpec {
                    containers: found.containers.iter().map(|c| container(&c.name)).collect(),
                    ..PodSpec::default()
                }),
                status: None,
            };
            let seen = ObservedPod {
                volumes: Presence::Unknown,
                cgroup: Presence::Unknown,
                ..ObservedPod::default()
            };
            agent.observed.pods.insert(uid.clone(), seen);
            let end = Some(Termination { requested_at: now.clock, grace_seconds: 30 });
            let (uid, pod, seen_at) = (uid.clone(), Arc::new(pod), now.clock);
            agent.desired.pods.push(DesiredPod { uid, pod, wanted: None, seen_at, end });
        }
    }

    /// Looks at the runtime, decides, writes to the disk and begins what is to be done.
    pub(super) fn plan(&mut self, server: &mut Server, now: Now, rng: &mut Rng) {
        let Some(agent) = &mut self.agent else { return };
        for pod in &agent.desired.pods {
            let seen = agent.observed.pods.entry(pod.uid.clone()).or_default();
            let found = self.runtime.pods.get(&pod.uid).cloned().unwrap_or_default();
            (seen.sandboxes, seen.containers) = (found.sandboxes, found.containers);
        }
        let plan = plan(&agent.desired, &agent.observed, now.clock);
        agent.plan_at = plan.wake_at.map(|at| {
            let wait = Duration::try_from(at.duration_since(now.clock)).unwrap_or_default();
            now.since + wait.clamp(Duration::from_millis(10), Duration::from_secs(60))
        });
        for (uid, view) in plan.pods {
            let seen = agent.observed.pods.entry(uid.clone()).or_default();
            if seen.status.as_ref() != Some(&view.status) || !agent.told.contains_key(&uid) {
                seen.status = Some(view.status);
                agent.tell(&uid, false, now);
            }
        }
        let status = |uid: &String| agent.observed.pods.get(uid).and_then(|seen| seen.status.clone());
        self.disk = agent.desired.pods.iter().map(|pod| (pod.clone(), status(&pod.uid))).collect();
        for PodAction { uid, action } in plan.actions {
            match action.object() {
                Object::Image(image) => agent.observed.images.entry(image).or_default().in_flight = true,
                object => {
                    let seen = agent.observed.pods.entry(uid.clone()).or_default();
                    seen.in_flight.insert(object);
                    if action == Action::PrepareVolumes {
                        let of = agent.desired.pods.iter().find(|p| p.uid == uid);
                        (seen.volumes_of, seen.volumes_due) = (of.map(|p| p.pod.clone()), None);
                    }
                }
            }
            server.say(|| format!("{} begins {uid} {action:?}", self.name));
            let takes = Duration::from_millis(rng.u64(..1500));
            agent.under_way.push((now.since + takes, PodAction { uid, action }));
        }
    }

    /// An action ends, now and then badly; a bad end may have happened nevertheless.
    pub(super) fn finish(&mut self, at: usize, server: &mut Server, now: Now, rng: &mut Rng) {
        let Some(agent) = &mut self.agent else { return };
        let (_, PodAction { uid, action }) = agent.under_way.swap_remove(at);
        agent.plan_at = Some(now.since);
        let bad = rng.u32(..100) < server.trouble && action != Action::Forget;
        if !bad || rng.bool() {
            self.act(&uid, &action, now, rng);
        }
        if let Some(agent) = &mut self.agent {
            agent.done(&uid, &action, bad, now);
        }
        let how = if bad { "fails at" } else { "has done" };
        server.say(|| format!("{} {how} {uid} {action:?}", self.name));
    }

    /// The runtime's part of an action.
    pub(super) fn act(&mut self, uid: &str, action: &Action, now: Now, rng: &mut Rng) {
        if let Err(broken) = self.runtime.act(uid, action, now, rng) {
            self.broken.get_or_insert(format!("{}: {broken}", self.name));
        }
    }
}

impl Agent {
    fn tell(&mut self, uid: &str, over: bool, now: Now) {
        let Some(desired) = self.desired.pods.iter().find(|p| p.uid == uid) else { return };
        let status = self.observed.pods.get(uid).and_then(|seen| seen.status.clone()).unwrap_or_default();
        let told = Told {
            namespace: pod::namespace(&desired.pod).to_owned(),
            name: pod::name(&desired.pod).to_owned(),
            status,
            over,
            due: Some(now.since),
            failures: 0,
        };
        self.told.insert(uid.to_owned(), told);
    }

    fn done(&mut self, uid: &str, action: &Action, bad: bool, now: Now) {
        let at = now.clock;
        let failure = |count| Failure {
            reason: "Fault".to_owned(),
            message: "a fault".to_owned(),
            at,
            count: count + 1,
        };
        if let Action::EnsureImage { image, .. } = action {
            let name = image.clone();
            let image = self.observed.images.entry(name.clone()).or_default();
            if bad {
                let count = image.failures.get(uid).map_or(0, |f| f.count);
                image.failures.insert(uid.to_owned(), failure(count));
                image.in_flight = false;
            } else {
                *image = Image { reference: Some(name), pulled_at: Some(at), ..Image::default() };
            }
            return;
        }
        if *action == Action::Forget {
            self.tell(uid, true, now);
            if self.bound.contains(uid) {
                self.over.insert(uid.to_owned());
            }
            self.desired.pods.retain(|p| p.uid != uid);
            self.observed.pods.remove(uid);
            return;
        }
        let (object, seen) = (action.object(), self.observed.pods.entry(uid.to_owned()).or_default());
        seen.in_flight.remove(&object);
        match bad {
            true => {
                let count = seen.failures.get(&object).map_or(0, |f| f.count);
                seen.failures.insert(object, failure(count));
            }
            false => drop(seen.failures.remove(&object)),
        }
        let there = |presence| if bad { Presence::Unknown } else { presence };
        match action {
            Action::PrepareCgroup => seen.cgroup = there(Presence::Ready),
            Action::RemoveCgroup => seen.cgroup = there(Presence::Absent),
            Action::PrepareVolumes => seen.volumes = there(Presence::Ready),
            Action::TeardownVolumes => seen.volumes = there(Presence::Absent),
            Action::PostStart { id, .. } => {
                seen.hooks.entry(id.clone()).or_default().post_start = HookState::Done
            }
            Action::PreStop { id, .. } => {
                seen.hooks.entry(id.clone()).or_default().pre_stop = HookState::Done
            }
            _ => {}
        }
    }
}
