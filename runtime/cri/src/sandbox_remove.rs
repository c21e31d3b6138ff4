//! RemovePodSandbox: stop what still runs, remove the containers, the directory, the record.

use std::sync::Arc;

use proto_cri::{ContainerEventType, RemovePodSandboxRequest, RemovePodSandboxResponse};

use crate::crash;
use crate::error::Failure;
use crate::lifecycle::PodPhase;
use crate::node::{Node, Pod, blocking, lock, remove_tree};
use crate::sandbox_run::unmount;

impl Node {
    pub(crate) async fn remove_pod_sandbox(
        self: &Arc<Self>,
        request: RemovePodSandboxRequest,
    ) -> Result<RemovePodSandboxResponse, Failure> {
        let Ok(pod) = self.pod(&request.pod_sandbox_id) else { return Ok(RemovePodSandboxResponse {}) };
        let node = self.clone();
        self.own(async move { node.remove_pod(&pod).await }).await?;
        Ok(RemovePodSandboxResponse {})
    }

    pub(crate) async fn remove_pod(self: &Arc<Self>, pod: &Arc<Pod>) -> Result<(), Failure> {
        let _gate = pod.gate.write().await;
        if !lock(&self.pods).contains_key(&pod.id) {
            return Ok(());
        }
        self.stop_pod(pod).await?;
        for container in self.all_containers(Some(&pod.id)) {
            self.remove(&container).await?;
        }
        pod.state.send_modify(|record| record.phase = PodPhase::Removing);
        self.note_pod(pod)?;
        crash::point("sandbox.removing");
        let (node, id) = (self.clone(), pod.id.clone());
        blocking(move || {
            let dir = node.pod_dir(&id);
            unmount(&dir.join("shm"))?;
            remove_tree(&dir)?;
            node.remove_cgroup(&node.own_cgroup(&id))
        })
        .await?;
        crash::point("sandbox.remove.directory");
        self.pod_records.remove(&pod.id).map_err(Failure::io("remove a record in", &self.config.data_dir))?;
        crash::point("sandbox.removed");
        self.emit(&pod.id, &pod.id, ContainerEventType::ContainerDeletedEvent);
        lock(&self.pods).remove(&pod.id);
        lock(&self.pod_names).release(&pod.id);
        Ok(())
    }
}
