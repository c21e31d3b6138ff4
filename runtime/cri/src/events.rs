//! GetContainerEvents: what happened, to those who listen. Nothing is built when nobody does.

use proto_cri::{ContainerEventResponse, ContainerEventType};
use tokio::sync::broadcast::error::RecvError;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use crate::node::{Node, now};

/// Events kept for a slow listener.
pub(crate) const BACKLOG: usize = 1024;
/// Events in flight to one client.
const IN_FLIGHT: usize = 16;

impl Node {
    /// Tells listeners of an event of a container; of a sandbox, when `id` is the sandbox's.
    pub(crate) fn emit(&self, id: &str, pod: &str, kind: ContainerEventType) {
        if self.events.receiver_count() == 0 {
            return;
        }
        let status = self.pod(pod).ok().map(|pod| self.pod_status(&pod.record()));
        let containers = self.all_containers(Some(pod));
        let statuses = containers.iter().map(|one| self.status_of(&one.record())).collect();
        let event = ContainerEventResponse {
            container_id: id.to_owned(),
            container_event_type: kind as i32,
            created_at: now(),
            pod_sandbox_status: status,
            containers_statuses: statuses,
        };
        let _ = self.events.send(event);
    }

    /// The events from now on. A listener that lags too far behind is cut off, so that it lists everything anew.
    pub(crate) fn container_events(&self) -> ReceiverStream<Result<ContainerEventResponse, Status>> {
        let mut events = self.events.subscribe();
        let (sender, stream) = tokio::sync::mpsc::channel(IN_FLIGHT);
        tokio::spawn(async move {
            loop {
                let event = tokio::select! {
                    event = events.recv() => event,
                    () = sender.closed() => return,
                };
                let item = match event {
                    Ok(event) => Ok(event),
                    Err(RecvError::Closed) => return,
                    Err(RecvError::Lagged(missed)) => Err(Status::data_loss(format!(
                        "{missed} events were lost: list the containers, ask again"
                    ))),
                };
                let last = item.is_err();
                if sender.send(item).await.is_err() || last {
                    return;
                }
            }
        });
        ReceiverStream::new(stream)
    }
}
