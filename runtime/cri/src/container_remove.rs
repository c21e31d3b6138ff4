//! RemoveContainer: kill it if it runs, then the monitor's part, the bundle, the snapshot, the record.

use std::sync::Arc;

use linux::cgroup::Cgroup;
use proto_cri::{ContainerEventType, RemoveContainerRequest, RemoveContainerResponse};
use proto_node::monitor::ErrorKind;

use crate::crash;
use crate::error::Failure;
use crate::lifecycle::{Phase, Verdict, Wish, container as may};
use crate::monitor::MonitorError;
use crate::node::{Container, Node, blocking, lock, remove_tree};

impl Node {
    pub(crate) async fn remove_container(
        self: &Arc<Self>,
        request: RemoveContainerRequest,
    ) -> Result<RemoveContainerResponse, Failure> {
        let Ok(container) = self.container(&request.container_id) else {
            return Ok(RemoveContainerResponse {});
        };
        let node = self.clone();
        self.own(async move { node.remove(&container).await }).await?;
        Ok(RemoveContainerResponse {})
    }

    pub(crate) async fn remove(self: &Arc<Self>, container: &Arc<Container>) -> Result<(), Failure> {
        let _gate = container.gate.lock().await;
        if !lock(&self.containers).contains_key(&container.id) {
            return Ok(());
        }
        if let Verdict::Refuse(why) = may(container.state.borrow().phase, Wish::Remove) {
            return Err(Failure::Precondition(format!("container {} {why}", container.id)));
        }
        self.kill_and_wait(container).await?;
        container.state.send_modify(|record| record.phase = Phase::Removing);
        self.note_container(container)?;
        crash::point("container.removing");
        self.dismantle(container).await?;
        let pod = container.state.borrow().pod.clone();
        self.emit(&container.id, &pod, ContainerEventType::ContainerDeletedEvent);
        Ok(())
    }

    /// Removes everything a container consists of, the record last. May be repeated; the caller holds the gate.
    pub(crate) async fn dismantle(self: &Arc<Self>, container: &Arc<Container>) -> Result<(), Failure> {
        let pod = container.state.borrow().pod.clone();
        if self.pod(&pod).is_ok_and(|pod| self.monitor_lives(&pod)) {
            if container.state.borrow().phase == Phase::Creating {
                self.end_in_monitor(&pod, &container.id).await?;
            }
            self.delete_in_monitor(&pod, &container.id).await?;
        }
        crash::point("container.remove.deleted");
        let (node, record) = (self.clone(), container.record());
        blocking(move || node.remove_remains(&record.id, &record.cgroup)).await?;
        let removed = self.container_records.remove(&container.id);
        removed.map_err(Failure::io("remove a record in", &self.config.data_dir))?;
        crash::point("container.removed");
        lock(&self.containers).remove(&container.id);
        lock(&self.container_names).release(&container.id);
        self.disk.forget(&container.id);
        Ok(())
    }

    /// What the monitor holds of a container; nothing is no error.
    pub(crate) async fn delete_in_monitor(&self, pod: &str, id: &str) -> Result<(), Failure> {
        let deleted = self.monitor(pod).delete(id).await;
        deleted.map_err(|error| Failure::internal("the monitor cannot delete the container", &error))
    }

    /// Ends a container that the monitor may have made though nobody heard of it.
    async fn end_in_monitor(&self, pod: &str, id: &str) -> Result<(), Failure> {
        let client = self.monitor(pod);
        let ended = match client.kill(id, 9, true).await {
            Ok(()) => client.wait(id).await.map(drop),
            Err(error) => Err(error),
        };
        match ended {
            Ok(()) | Err(MonitorError::Refused { kind: ErrorKind::NotFound, .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// cgroup, runtime state, bundle and snapshot of a container without a process.
    pub(crate) fn remove_remains(&self, id: &str, cgroup: &str) -> Result<(), Failure> {
        if !cgroup.is_empty() {
            self.remove_cgroup(cgroup)?;
        }
        remove_tree(&self.oci_root().join(id))?;
        remove_tree(&self.bundle(id))?;
        crash::point("container.remove.bundle");
        let fail = |error| Failure::internal("cannot remove the snapshot", &error);
        let volumes = format!("{id}.volume");
        for owner in self.snapshots.list().map_err(fail)? {
            if owner == id || owner.starts_with(&volumes) {
                self.snapshots.remove(&owner).map_err(fail)?;
            }
        }
        crash::point("container.remove.snapshot");
        Ok(())
    }

    /// Kills what is in a cgroup, and removes it.
    pub(crate) fn remove_cgroup(&self, path: &str) -> Result<(), Failure> {
        let fail = |error| Failure::internal("cannot remove the container's cgroup", &error);
        let cgroup = Cgroup::of_path(&self.hierarchies, path).map_err(fail)?;
        if cgroup.exists() {
            cgroup.kill().map_err(fail)?;
            cgroup.remove().map_err(fail)?;
        }
        Ok(())
    }
}
