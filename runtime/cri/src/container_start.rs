//! StartContainer.

use std::sync::Arc;

use proto_cri::{ContainerEventType, StartContainerRequest, StartContainerResponse};

use crate::crash;
use crate::error::Failure;
use crate::lifecycle::{Phase, PodPhase, Verdict, Wish, container as may};
use crate::node::{Container, Node, now};
use crate::record::Exit;

/// What containerd reports for a container whose process could not be started.
const START_ERROR_CODE: i32 = 128;

impl Node {
    pub(crate) async fn start_container(
        self: &Arc<Self>,
        request: StartContainerRequest,
    ) -> Result<StartContainerResponse, Failure> {
        let container = self.container(&request.container_id)?;
        let node = self.clone();
        self.own(async move { node.start(&container).await }).await?;
        Ok(StartContainerResponse {})
    }

    async fn start(self: &Arc<Self>, container: &Arc<Container>) -> Result<(), Failure> {
        let _gate = container.gate.lock().await;
        let record = container.record();
        if let Verdict::Refuse(why) = may(record.phase, Wish::Start) {
            return Err(Failure::Precondition(format!("container {} {why}", container.id)));
        }
        if self.pod(&record.pod)?.state.borrow().phase != PodPhase::Ready {
            return Err(Failure::Precondition(format!("sandbox {} is not ready", record.pod)));
        }
        // Noted before the process runs: a server that dies here still knows when it started.
        container.state.send_modify(|record| record.started_at = now());
        self.note_container(container)?;
        crash::point("container.starting");
        let started = self.monitor(&record.pod).start(&container.id).await;
        if let Err(error) = started {
            let failure = Failure::from(error);
            self.could_not_start(container, &failure).await;
            return Err(failure);
        }
        container.state.send_if_modified(|record| {
            let created = record.phase == Phase::Created;
            record.phase = if created { Phase::Running } else { record.phase };
            created
        });
        self.note_container(container)?;
        crash::point("container.started");
        self.emit(&container.id, &record.pod, ContainerEventType::ContainerStartedEvent);
        Ok(())
    }

    async fn could_not_start(&self, container: &Container, failure: &Failure) {
        let pod = container.state.borrow().pod.clone();
        let _ = self.monitor(&pod).kill(&container.id, 9, true).await;
        container.state.send_modify(|record| {
            record.phase = Phase::Exited;
            record.pid = None;
            record.started_at = 0;
            record.exit = Some(Exit {
                code: START_ERROR_CODE,
                finished_at: now(),
                reason: "StartError".to_owned(),
                message: failure.to_string(),
            });
        });
        if let Err(error) = self.note_container(container) {
            tracing::error!(container = container.id, "cannot note that the start failed: {error}");
        }
        self.emit(&container.id, &pod, ContainerEventType::ContainerStoppedEvent);
    }
}
