//! One task for each pod: it hears of exits from the monitor, and of the monitor's own end.

use std::sync::Arc;
use std::time::Duration;

use proto_cri::ContainerEventType;
use proto_node::monitor::{ContainerStatus, Event, ExitRecord};

use crate::crash;
use crate::lifecycle::{Phase, PodPhase};
use crate::monitor::{self, MonitorError};
use crate::node::{Container, Node, Pod, blocking, now};
use crate::record::Exit;

/// Before the monitor is asked anew: it is ending, or we were too slow for it.
const RECONNECT: Duration = Duration::from_millis(50);
/// 128 + SIGKILL.
const KILLED: i32 = 137;

impl Exit {
    pub(crate) fn of(exit: &ExitRecord) -> Self {
        let reason = match exit {
            ExitRecord { oom_killed: true, .. } => "OOMKilled",
            ExitRecord { exit_code: 0, .. } => "Completed",
            _ => "Error",
        };
        Self {
            code: exit.exit_code,
            finished_at: exit.finished_at,
            reason: reason.to_owned(),
            message: String::new(),
        }
    }
}

impl Node {
    /// Watches a pod until its monitor ends.
    pub(crate) fn watch_pod(self: &Arc<Self>, pod: Arc<Pod>) {
        let node = self.clone();
        tokio::spawn(async move {
            while node.follow(&pod).await.is_err() && node.monitor_lives(&pod) {
                tokio::time::sleep(RECONNECT).await;
            }
            node.monitor_gone(&pod).await;
        });
    }

    /// Reports exits until the connection breaks.
    async fn follow(self: &Arc<Self>, pod: &Arc<Pod>) -> Result<(), MonitorError> {
        let client = self.monitor(&pod.id);
        let events = client.watch().await?;
        // After the watch, so that no exit falls between the two.
        for (id, status) in client.status().await?.containers {
            if let (ContainerStatus::Exited(exit), Ok(container)) = (status, self.container(&id)) {
                self.exited(&container, Exit::of(&exit));
            }
        }
        loop {
            let Event::Exited { container, exit } = events.next().await?;
            if let Ok(container) = self.container(&container) {
                self.exited(&container, Exit::of(&exit));
            }
        }
    }

    /// A container has ended; told once, whoever says so first.
    pub(crate) fn exited(&self, container: &Container, exit: Exit) {
        let ended = container.state.send_if_modified(|record| {
            let lived = matches!(record.phase, Phase::Created | Phase::Running);
            if lived {
                record.phase = Phase::Exited;
                record.pid = None;
                record.exit = Some(exit);
            }
            lived
        });
        if !ended {
            return;
        }
        if let Err(error) = self.note_container(container) {
            tracing::error!(container = container.id, "cannot note its exit: {error}");
        }
        crash::point("container.exited");
        let pod = container.state.borrow().pod.clone();
        self.emit(&container.id, &pod, ContainerEventType::ContainerStoppedEvent);
    }

    /// The pod's monitor runs.
    pub(crate) fn monitor_lives(&self, pod: &Pod) -> bool {
        pod.state.borrow().monitor.as_ref().is_some_and(monitor::alive)
    }

    /// Without its monitor a pod has no namespaces to live in: its containers are killed, it is not ready.
    pub(crate) async fn monitor_gone(self: &Arc<Self>, pod: &Arc<Pod>) {
        let was_ready = pod.state.send_if_modified(|record| {
            let ready = record.phase == PodPhase::Ready;
            if ready {
                record.phase = PodPhase::Stopping;
            }
            ready
        });
        if was_ready {
            tracing::error!(sandbox = pod.id, "the pod's monitor died: its containers are killed");
            if let Err(error) = self.note_pod(pod) {
                tracing::error!(sandbox = pod.id, "cannot note that it is not ready: {error}");
            }
        }
        for container in self.all_containers(Some(&pod.id)) {
            let record = container.record();
            if !matches!(record.phase, Phase::Created | Phase::Running) {
                continue;
            }
            let (node, cgroup) = (self.clone(), record.cgroup.clone());
            if let Err(error) = blocking(move || node.remove_cgroup(&cgroup)).await {
                tracing::error!(container = container.id, "cannot kill it: {error}");
            }
            let exit = self.exit_on_disk(&container.id).unwrap_or_else(|| Exit {
                code: KILLED,
                finished_at: now(),
                reason: "Error".to_owned(),
                message: "the pod's monitor died, so the container was killed".to_owned(),
            });
            self.exited(&container, exit);
        }
    }

    /// What a monitor wrote before it died.
    pub(crate) fn exit_on_disk(&self, id: &str) -> Option<Exit> {
        let text = std::fs::read(self.bundle(id).join(proto_node::monitor::EXIT_FILE)).ok()?;
        serde_json::from_slice::<ExitRecord>(&text).ok().map(|exit| Exit::of(&exit))
    }
}
