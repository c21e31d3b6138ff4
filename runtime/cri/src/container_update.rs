//! UpdateContainerResources, ReopenContainerLog, UpdatePodSandboxResources.

use std::sync::Arc;

use proto_cri::{
    LinuxContainerResources, ReopenContainerLogRequest, ReopenContainerLogResponse,
    UpdateContainerResourcesRequest, UpdateContainerResourcesResponse, UpdatePodSandboxResourcesRequest,
    UpdatePodSandboxResourcesResponse,
};

use crate::error::Failure;
use crate::lifecycle::{Verdict, Wish, container as may};
use crate::node::{Container, Node};
use crate::plan;

impl Node {
    pub(crate) async fn update_container_resources(
        self: &Arc<Self>,
        request: UpdateContainerResourcesRequest,
    ) -> Result<UpdateContainerResourcesResponse, Failure> {
        let container = self.container(&request.container_id)?;
        let node = self.clone();
        self.own(async move {
            let _gate = container.gate.lock().await;
            if let Verdict::Refuse(why) = may(container.state.borrow().phase, Wish::Update) {
                return Err(Failure::Precondition(format!("container {} {why}", container.id)));
            }
            node.update(&container, &request.linux.unwrap_or_default()).await
        })
        .await?;
        Ok(UpdateContainerResourcesResponse {})
    }

    async fn update(&self, container: &Container, wished: &LinuxContainerResources) -> Result<(), Failure> {
        let record = container.record();
        let old = record.config.linux.as_ref().and_then(|linux| linux.resources.clone()).unwrap_or_default();
        let merged = merge(old, wished);
        let resources = plan::resources(&merged, &self.host)?;
        let resources = serde_json::to_value(resources)
            .map_err(|error| Failure::internal("cannot write resources", &error))?;
        self.monitor(&record.pod).update(&container.id, resources).await?;
        container.state.send_modify(|record| {
            record.config.linux.get_or_insert_default().resources = Some(merged);
        });
        self.note_container(container)
    }

    pub(crate) async fn reopen_container_log(
        &self,
        request: ReopenContainerLogRequest,
    ) -> Result<ReopenContainerLogResponse, Failure> {
        let container = self.container(&request.container_id)?;
        let (phase, pod) = {
            let record = container.state.borrow();
            (record.phase, record.pod.clone())
        };
        if let Verdict::Refuse(why) = may(phase, Wish::ReopenLog) {
            return Err(Failure::Precondition(format!("container {} {why}", container.id)));
        }
        self.monitor(&pod).reopen_log(&container.id).await?;
        Ok(ReopenContainerLogResponse {})
    }

    /// The pod's cgroup belongs to the client; what is kept here is what it says.
    pub(crate) async fn update_pod_sandbox_resources(
        self: &Arc<Self>,
        request: UpdatePodSandboxResourcesRequest,
    ) -> Result<UpdatePodSandboxResourcesResponse, Failure> {
        let pod = self.pod(&request.pod_sandbox_id)?;
        let _gate = pod.gate.write().await;
        pod.state.send_modify(|record| {
            let linux = record.config.linux.get_or_insert_default();
            linux.overhead = request.overhead.or(linux.overhead.take());
            linux.resources = request.resources.or(linux.resources.take());
        });
        self.note_pod(&pod)?;
        Ok(UpdatePodSandboxResourcesResponse {})
    }
}

/// What the request leaves out stays as it is.
fn merge(mut all: LinuxContainerResources, new: &LinuxContainerResources) -> LinuxContainerResources {
    for (old, new) in [
        (&mut all.cpu_period, new.cpu_period),
        (&mut all.cpu_quota, new.cpu_quota),
        (&mut all.cpu_shares, new.cpu_shares),
        (&mut all.memory_limit_in_bytes, new.memory_limit_in_bytes),
        (&mut all.memory_swap_limit_in_bytes, new.memory_swap_limit_in_bytes),
        (&mut all.oom_score_adj, new.oom_score_adj),
    ] {
        if new != 0 {
            *old = new;
        }
    }
    for (old, new) in [(&mut all.cpuset_cpus, &new.cpuset_cpus), (&mut all.cpuset_mems, &new.cpuset_mems)] {
        if !new.is_empty() {
            old.clone_from(new);
        }
    }
    if !new.hugepage_limits.is_empty() {
        all.hugepage_limits.clone_from(&new.hugepage_limits);
    }
    all.unified.extend(new.unified.clone());
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn left_out_stays() {
        let old = LinuxContainerResources { cpu_shares: 100, cpuset_cpus: "0".into(), ..Default::default() };
        let new =
            LinuxContainerResources { cpu_shares: 200, memory_limit_in_bytes: 1 << 30, ..Default::default() };
        let merged = merge(old, &new);
        assert_eq!((merged.cpu_shares, merged.memory_limit_in_bytes), (200, 1 << 30));
        assert_eq!(merged.cpuset_cpus, "0");
    }
}
