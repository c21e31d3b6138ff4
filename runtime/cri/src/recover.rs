//! What a starting server makes of what the last one left: running containers go on untouched, what was half-made is
//! undone, what was half-removed is removed, what nobody knows is an orphan and goes.
//!
//! | found | becomes |
//! |---|---|
//! | sandbox Starting | undone |
//! | sandbox Ready, monitor alive | Ready, watched again |
//! | sandbox Ready, monitor dead (a reboot, a kill) | not ready, for the client to stop |
//! | sandbox Stopping, Removing | stopped, removed |
//! | container Creating | undone |
//! | container Created, Running | as its monitor says; without one: its exit record, else killed: 137, after a reboot 255 |
//! | container Removing | removed |
//! | directory, monitor, snapshot, attachment without record | removed |

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use cni_invoke::GcAttachment;
use proto_node::monitor::{ContainerStatus, MonitorState};
use tokio::sync::watch;

use crate::error::{Failure, chain};
use crate::lifecycle::{Phase, PodPhase};
use crate::monitor;
use crate::node::{Container, Node, Pod, blocking, lock, now, remove_tree};
use crate::record::{self, Exit, Loaded};
use crate::sandbox_run::{INTERFACE, unmount};
use crate::sandbox_stop::kill_monitor;

/// containerd's code for a container whose end nobody saw.
const UNKNOWN: i32 = 255;
/// 128 + SIGKILL.
const KILLED: i32 = 137;

impl Node {
    /// Runs before the first call is answered.
    pub(crate) async fn recover(self: &Arc<Self>) -> Result<(), Failure> {
        let node = self.clone();
        let (pods, containers) = blocking(move || node.load()).await?;
        for record in pods {
            self.recover_pod(record);
        }
        self.kill_unknown_monitors().await;
        for record in containers {
            let id = record.id.clone();
            if let Err(failure) = self.recover_container(record).await {
                tracing::error!(container = id, "cannot recover it: {failure}");
            }
        }
        self.finish_pods().await;
        let node = self.clone();
        blocking(move || {
            node.remove_orphans();
            Ok(())
        })
        .await
    }

    fn load(&self) -> Result<(Vec<record::Pod>, Vec<record::Container>), Failure> {
        let fail = |error: std::io::Error| Failure::Internal(format!("cannot read the records: {error}"));
        let pods = self.pod_records.load().map_err(fail)?;
        let containers = self.container_records.load().map_err(fail)?;
        for (path, reason) in pods.unreadable.iter().chain(&containers.unreadable) {
            tracing::error!(path = %path.display(), "a damaged record is set aside, its object removed: {reason}");
        }
        let (Loaded { records: pods, .. }, Loaded { records: containers, .. }) = (pods, containers);
        Ok((pods, containers))
    }

    fn recover_pod(self: &Arc<Self>, mut record: record::Pod) {
        // The last server may have died between starting the monitor and noting it.
        let client = self.monitor(&record.id);
        record.monitor = record.monitor.or_else(|| client.state().ok());
        let alive = record.monitor.as_ref().is_some_and(monitor::alive);
        let watched = alive && record.phase == PodPhase::Ready;
        if !alive && record.phase == PodPhase::Ready {
            record.phase = PodPhase::Stopping;
        }
        let metadata = record.config.metadata.clone().unwrap_or_default();
        let key = (metadata.uid, metadata.namespace, metadata.name, metadata.attempt);
        let (_, ended) = watch::channel(Some(Ok(record.id.clone())));
        lock(&self.pod_names).claim(key, &record.id, (record.config.clone(), record.handler.clone()), ended);
        let pod = Pod::new(record);
        lock(&self.pods).insert(pod.id.clone(), pod.clone());
        if watched {
            self.watch_pod(pod);
        }
    }

    async fn recover_container(self: &Arc<Self>, mut record: record::Container) -> Result<(), Failure> {
        let Ok(pod) = self.pod(&record.pod) else { return Ok(()) };
        let metadata = record.config.metadata.clone().unwrap_or_default();
        let key = (record.pod.clone(), metadata.name, metadata.attempt);
        let (_, ended) = watch::channel(Some(Ok(record.id.clone())));
        lock(&self.container_names).claim(key, &record.id, record.config.clone(), ended);
        let noted = record.phase;
        if matches!(noted, Phase::Created | Phase::Running) {
            let seen = self.look(&pod, &record).await?;
            apply(&mut record, seen);
        }
        let container = Container::new(record);
        lock(&self.containers).insert(container.id.clone(), container.clone());
        match noted {
            Phase::Creating | Phase::Removing => {
                let _gate = container.gate.lock().await;
                self.dismantle(&container).await
            }
            _ => self.note_container(&container),
        }
    }

    /// How a container that was alive is now.
    async fn look(self: &Arc<Self>, pod: &Pod, record: &record::Container) -> Result<Seen, Failure> {
        if self.monitor_lives(pod) {
            let status = self.monitor(&pod.id).status().await?;
            return Ok(match status.containers.get(&record.id) {
                Some(ContainerStatus::Created { pid }) => Seen::Created(*pid),
                Some(ContainerStatus::Running { pid, started_at }) => Seen::Running(*pid, *started_at),
                Some(ContainerStatus::Exited(exit)) => Seen::Exited(Exit::of(exit)),
                None => {
                    Seen::Exited(self.lost(record, UNKNOWN, "the pod's monitor does not know it any more"))
                }
            });
        }
        let (node, cgroup) = (self.clone(), record.cgroup.clone());
        let rebooted = !self.bundle(&record.id).exists();
        blocking(move || node.remove_cgroup(&cgroup)).await?;
        Ok(Seen::Exited(match rebooted {
            true => self.lost(record, UNKNOWN, "the machine was restarted"),
            false => self.lost(record, KILLED, "the pod's monitor died, so the container was killed"),
        }))
    }

    fn lost(&self, record: &record::Container, code: i32, message: &str) -> Exit {
        self.exit_on_disk(&record.id).unwrap_or_else(|| Exit {
            code,
            finished_at: now(),
            reason: if code == UNKNOWN { "Unknown" } else { "Error" }.to_owned(),
            message: message.to_owned(),
        })
    }

    /// Undoes, stops or removes the sandboxes that were on their way when the last server died.
    async fn finish_pods(self: &Arc<Self>) {
        for pod in self.all_pods() {
            let phase = pod.state.borrow().phase;
            let done = match phase {
                PodPhase::Ready | PodPhase::Stopped => Ok(()),
                PodPhase::Stopping => {
                    let _gate = pod.gate.write().await;
                    self.stop_pod(&pod).await
                }
                PodPhase::Starting | PodPhase::Removing => self.remove_pod(&pod).await,
            };
            if let Err(failure) = done {
                tracing::error!(sandbox = pod.id, ?phase, "cannot finish what was begun: {failure}");
            }
        }
    }

    /// Monitors of this server's directory that no sandbox has: of one that was being started when the server died.
    /// Those that a living monitor has forked (the pause process) run under its name.
    async fn kill_unknown_monitors(&self) {
        let known: BTreeSet<String> =
            self.all_pods().iter().filter(|pod| self.monitor_lives(pod)).map(|pod| pod.id.clone()).collect();
        for (id, state) in monitors_in(&self.config.run_dir.join("pods")) {
            if !known.contains(&id)
                && let Err(failure) = kill_monitor(&state).await
            {
                tracing::error!(pid = state.pid, "cannot end a monitor without sandbox: {failure}");
            }
        }
    }

    /// Everything without a record. What cannot be removed is logged, and tried again by the next start.
    fn remove_orphans(&self) {
        let containers: BTreeSet<String> =
            self.all_containers(None).iter().map(|one| one.id.clone()).collect();
        let pods: BTreeSet<String> = self.all_pods().iter().map(|pod| pod.id.clone()).collect();
        let report = |what: &str, id: &str, result: Result<(), Failure>| match result {
            Ok(()) => tracing::info!(id, "removed {what} without a record"),
            Err(failure) => tracing::error!(id, "cannot remove {what} without a record: {failure}"),
        };
        for id in names(&self.config.run_dir.join("containers")).difference(&containers) {
            let spec = self.bundled_spec(id).ok();
            let cgroup =
                spec.and_then(|spec| spec.linux().as_ref()?.cgroups_path().clone()).unwrap_or_default();
            report("bundle", id, self.remove_remains(id, &cgroup.to_string_lossy()));
        }
        for id in names(&self.oci_root()).difference(&containers).filter(|name| name.len() == 64) {
            report("runtime state", id, remove_tree(&self.oci_root().join(id)));
        }
        for owner in self.snapshots.list().unwrap_or_default() {
            let id = owner.split('.').next().unwrap_or_default();
            if !containers.contains(id) {
                let removed = self.snapshots.remove(&owner);
                report("snapshot", &owner, removed.map_err(|error| Failure::Internal(chain(&error))));
            }
        }
        let dirs = self.config.run_dir.join("pods");
        for id in names(&dirs).difference(&pods) {
            let dir = dirs.join(id);
            report("sandbox", id, unmount(&dir.join("shm")).and_then(|()| remove_tree(&dir)));
        }
        for record in self.container_records.load().map(|loaded| loaded.records).unwrap_or_default() {
            if !containers.contains(&record.id) {
                let removed = self.remove_remains(&record.id, &record.cgroup);
                let forgotten = self.container_records.remove(&record.id);
                report(
                    "container",
                    &record.id,
                    removed.and(forgotten.map_err(|error| Failure::Internal(error.to_string()))),
                );
            }
        }
        self.collect_attachments();
    }

    fn collect_attachments(&self) {
        let attached = self.all_pods().into_iter().filter(|pod| pod.state.borrow().phase < PodPhase::Stopped);
        let valid: Vec<GcAttachment> = attached
            .map(|pod| GcAttachment { container_id: pod.id.clone(), ifname: INTERFACE.to_owned() })
            .collect();
        if self.networks.load().is_err() {
            return;
        }
        if let Err(error) = self.networks.gc(&valid) {
            tracing::warn!("cannot collect attachments of pods that are gone: {}", chain(&error));
        }
    }
}

/// What was found out about a container.
enum Seen {
    Created(u32),
    Running(u32, i64),
    Exited(Exit),
}

fn apply(record: &mut record::Container, seen: Seen) {
    match seen {
        Seen::Created(pid) => {
            (record.phase, record.pid, record.started_at) = (Phase::Created, Some(pid), 0);
        }
        Seen::Running(pid, started_at) => {
            // The server noted it before the monitor did; a client has seen that value.
            let noted = record.started_at;
            record.started_at = if noted == 0 { started_at } else { noted };
            (record.phase, record.pid) = (Phase::Running, Some(pid));
        }
        Seen::Exited(exit) => {
            (record.phase, record.pid, record.exit) = (Phase::Exited, None, Some(exit));
        }
    }
}

fn names(dir: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

/// Monitors by their command line, `cleat-monitor --dir <dir>/<sandbox id>`: sandbox id and process.
fn monitors_in(dir: &Path) -> Vec<(String, MonitorState)> {
    let pids = names(Path::new("/proc")).into_iter().filter_map(|name| name.parse::<u32>().ok());
    let monitor = |pid: u32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let mut words = line.split(|byte| *byte == 0).map(String::from_utf8_lossy);
        let ours = words.next()? == "cleat-monitor" && words.next()? == "--dir";
        let own = words.next()?;
        let own = Path::new(own.as_ref());
        let id = own.file_name()?.to_string_lossy().into_owned();
        let below = own.parent() == Some(dir);
        let start_time = linux::stat::of(pid).ok()?.start_time;
        (ours && below).then_some((id, MonitorState { version: 1, pid, start_time, pause_pid: None }))
    };
    pids.filter_map(monitor).collect()
}
