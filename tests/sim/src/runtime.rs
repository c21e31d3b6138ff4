//! The container runtime of a model node: what it has outlives the agent. It refuses what a runtime refuses, and says
//! what no agent may ask for.

use std::collections::BTreeMap;
use std::time::Duration;

use agent_core::{Action, Container, Exit, Sandbox, State};
use fastrand::Rng;
use jiff::Timestamp;

use crate::time::{Now, seconds};

/// What it has of a pod.
#[derive(Debug, Clone, Default)]
pub(crate) struct Found {
    pub(crate) sandboxes: Vec<Sandbox>,
    pub(crate) containers: Vec<Container>,
}

/// The runtime.
#[derive(Debug, Default)]
pub(crate) struct Runtime {
    pub(crate) pods: BTreeMap<String, Found>,
    /// Containers that end by themselves: when, and which.
    ends: BTreeMap<(Duration, String), String>,
    ids: u64,
    /// Of which node it is.
    node: u8,
    /// Something is other than when somebody looked last.
    pub(crate) changed: bool,
}

impl Runtime {
    /// Of a node.
    pub(crate) fn new(node: u8) -> Self {
        Self { node, ..Self::default() }
    }

    /// Everything is lost; no name is given twice nevertheless.
    pub(crate) fn lose(&mut self) {
        self.pods.clear();
        self.ends.clear();
    }

    /// The containers that run, with their pods' uids.
    pub(crate) fn alive(&self) -> impl Iterator<Item = (&str, &Container)> {
        self.pods
            .iter()
            .flat_map(|(uid, found)| found.containers.iter().map(move |c| (uid.as_str(), c)))
            .filter(|(_, c)| c.alive())
    }

    /// When a container ends by itself.
    pub(crate) fn wake_at(&self) -> Option<Duration> {
        self.ends.first_key_value().map(|((at, _), _)| *at)
    }

    /// Ends what has run its time; which.
    pub(crate) fn pass(&mut self, now: Now) -> Vec<String> {
        let mut ended = Vec::new();
        while self.wake_at().is_some_and(|at| at <= now.since) {
            if let Some(((_, id), uid)) = self.ends.pop_first() {
                ended.extend(self.exit(&uid, &id, 0, now.clock).then_some(id));
            }
        }
        ended
    }

    /// A container ends; whether it ran.
    pub(crate) fn exit(&mut self, uid: &str, id: &str, code: i32, now: Timestamp) -> bool {
        let found = self.pods.get_mut(uid);
        let container = found.and_then(|f| f.containers.iter_mut().find(|c| c.id == id && c.alive()));
        container.map(|container| end(container, code, now)).is_some()
    }

    /// The power goes.
    pub(crate) fn fail(&mut self, now: Timestamp) {
        for found in self.pods.values_mut() {
            found.sandboxes.iter_mut().for_each(|sandbox| sandbox.ready = false);
            found.containers.iter_mut().filter(|c| c.alive()).for_each(|c| end(c, 137, now));
        }
        self.ends.clear();
    }

    /// Does an action.
    ///
    /// # Errors
    /// What the agent should not have asked for.
    pub(crate) fn act(&mut self, uid: &str, action: &Action, now: Now, rng: &mut Rng) -> Result<(), String> {
        self.ids += 1;
        self.changed = true;
        let new = format!("{uid}-{}", self.ids);
        let found = self.pods.entry(uid.to_owned()).or_default();
        if let Action::StartContainer { id, .. } = action
            && found.containers.iter().any(|c| c.id == *id && c.image_ref.starts_with("job"))
        {
            self.ends.insert((now.since + seconds(rng.u64(1..20)), id.clone()), uid.to_owned());
        }
        let of = |what| format!("{uid}: {what}");
        match action {
            Action::CreateSandbox { attempt } => {
                law(found.sandboxes.iter().all(|s| !s.ready), "two sandboxes at a time").map_err(of)?;
                let ip = format!("10.244.{}.{}", self.node, self.ids % 250 + 1).parse().expect("an address");
                let (attempt, created_at) = (*attempt, now.clock);
                let sandbox =
                    Sandbox { id: new, attempt, ready: true, created_at, ips: vec![ip], stopped: false };
                found.sandboxes.push(sandbox);
            }
            Action::StopSandbox { id } => {
                let inside = found.containers.iter_mut().filter(|c| c.sandbox == *id && c.alive());
                inside.for_each(|c| end(c, 137, now.clock));
                let stopped = found.sandboxes.iter_mut().filter(|s| s.id == *id);
                stopped.for_each(|s| (s.ready, s.stopped) = (false, true));
            }
            Action::RemoveSandbox { id } => {
                let left = found.containers.iter().any(|c| c.sandbox == *id);
                law(!left, "a sandbox goes before its containers").map_err(of)?;
                found.sandboxes.retain(|s| s.id != *id);
            }
            action => found.act(new, action, now).map_err(of)?,
        }
        if found.sandboxes.is_empty() && found.containers.is_empty() {
            self.pods.remove(uid);
        }
        Ok(())
    }
}

fn law(holds: bool, what: &'static str) -> Result<(), &'static str> {
    if holds { Ok(()) } else { Err(what) }
}

impl Found {
    /// Does what an action asks of a container.
    fn act(&mut self, new: String, action: &Action, now: Now) -> Result<(), &'static str> {
        match action {
            Action::CreateContainer { name, sandbox, attempt, crashes, image } => {
                law(
                    self.sandboxes.iter().any(|s| s.id == *sandbox && s.ready),
                    "a container without sandbox",
                )?;
                let before = |c: &Container| c.name != *name || c.attempt < *attempt && !c.alive();
                law(self.containers.iter().all(before), "a container is made twice")?;
                self.containers.push(Container {
                    id: new,
                    name: name.clone(),
                    sandbox: sandbox.clone(),
                    attempt: *attempt,
                    crashes: *crashes,
                    image: String::new(),
                    image_ref: image.clone(),
                    made_of: None,
                    user: None,
                    limits: None,
                    state: State::Created,
                });
            }
            Action::StartContainer { name, id } => {
                let twice = self.containers.iter().any(|c| c.name == *name && c.alive());
                law(!twice, "a container is started twice")?;
                let started = self.containers.iter_mut().find(|c| c.id == *id && c.state == State::Created);
                if let Some(started) = started {
                    started.state = State::Running { started_at: now.clock };
                }
            }
            Action::StopContainer { id, .. } => {
                let stopped = self.containers.iter_mut().filter(|c| c.id == *id && c.alive());
                stopped.for_each(|c| end(c, 143, now.clock));
            }
            Action::RemoveContainer { id, .. } => {
                let alive = self.containers.iter().any(|c| c.id == *id && c.alive());
                law(!alive, "a container that runs is removed")?;
                self.containers.retain(|c| c.id != *id);
            }
            _ => {}
        }
        Ok(())
    }
}

fn end(container: &mut Container, exit_code: i32, now: Timestamp) {
    let started_at = match container.state {
        State::Running { started_at } => started_at,
        _ => now,
    };
    let reason = if exit_code == 0 { "Completed" } else { "Error" }.to_owned();
    let exit = Exit { started_at, finished_at: now, exit_code, reason, message: String::new() };
    container.state = State::Exited(exit);
}
