//! StopPodSandbox: kill the containers, take the pod off the network, end its monitor. May be repeated.

use std::sync::Arc;

use futures_util::future::join_all;
use proto_cri::{ContainerEventType, StopPodSandboxRequest, StopPodSandboxResponse};
use proto_node::monitor::MonitorState;

use crate::crash;
use crate::error::Failure;
use crate::lifecycle::{Phase, PodPhase};
use crate::monitor::{self, MonitorError};
use crate::node::{Node, Pod, blocking};
use crate::sandbox_run::unmount;

impl Node {
    pub(crate) async fn stop_pod_sandbox(
        self: &Arc<Self>,
        request: StopPodSandboxRequest,
    ) -> Result<StopPodSandboxResponse, Failure> {
        let Ok(pod) = self.pod(&request.pod_sandbox_id) else { return Ok(StopPodSandboxResponse {}) };
        let node = self.clone();
        self.own(async move {
            let _gate = pod.gate.write().await;
            node.stop_pod(&pod).await
        })
        .await?;
        Ok(StopPodSandboxResponse {})
    }

    /// The caller holds the gate.
    pub(crate) async fn stop_pod(self: &Arc<Self>, pod: &Arc<Pod>) -> Result<(), Failure> {
        if pod.state.borrow().phase >= PodPhase::Stopped {
            return Ok(());
        }
        pod.state.send_modify(|record| record.phase = PodPhase::Stopping);
        self.note_pod(pod)?;
        crash::point("sandbox.stopping");
        let containers = self.all_containers(Some(&pod.id));
        let ending = join_all(containers.iter().map(|container| self.kill_and_wait(container)));
        let (detached, ended) = tokio::join!(self.detach(pod), ending);
        ended.into_iter().collect::<Result<Vec<()>, _>>()?;
        detached?;
        crash::point("sandbox.stop.detached");
        let alive = pod.state.borrow().monitor.as_ref().is_some_and(monitor::alive);
        if alive {
            let held = containers.iter().filter(|one| one.state.borrow().phase >= Phase::Created);
            let deleted =
                join_all(held.map(|container| self.delete_in_monitor(&pod.id, &container.id))).await;
            deleted.into_iter().collect::<Result<Vec<()>, _>>()?;
        }
        self.end_monitor(pod).await?;
        crash::point("sandbox.stop.monitor-ended");
        let shm = self.pod_dir(&pod.id).join("shm");
        blocking(move || unmount(&shm)).await?;
        pod.state.send_modify(|record| record.phase = PodPhase::Stopped);
        self.note_pod(pod)?;
        crash::point("sandbox.stopped");
        self.emit(&pod.id, &pod.id, ContainerEventType::ContainerStoppedEvent);
        Ok(())
    }

    /// Ends the monitor, and with it the pod's namespaces. One that does not answer is killed.
    pub(crate) async fn end_monitor(&self, pod: &Pod) -> Result<(), Failure> {
        let Some(state) = pod.state.borrow().monitor.clone() else { return Ok(()) };
        if !monitor::alive(&state) {
            return Ok(());
        }
        match self.monitor(&pod.id).shutdown().await {
            Ok(()) => return Ok(()),
            Err(MonitorError::Refused { message, .. }) => {
                return Err(Failure::Internal(format!("the pod's monitor does not end: {message}")));
            }
            Err(_) => {}
        }
        kill_monitor(&state).await
    }
}

/// Ends a monitor that does not listen, and the pause process that it leaves.
pub(crate) async fn kill_monitor(state: &MonitorState) -> Result<(), Failure> {
    for pid in [state.pause_pid, Some(state.pid)].into_iter().flatten() {
        let pid = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw);
        if let Some(pid) = pid {
            // It may have ended meanwhile.
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
    }
    let dead = monitor::death(state).await;
    dead.map_err(|error| Failure::Internal(format!("cannot wait for the monitor's end: {error}")))
}
