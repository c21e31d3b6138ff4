//! PodSandboxStatus and ListPodSandbox.

use std::collections::HashMap;

use proto_cri::{
    LinuxPodSandboxStatus, Namespace, PodIp, PodSandbox, PodSandboxFilter, PodSandboxNetworkStatus,
    PodSandboxState, PodSandboxStatus, PodSandboxStatusRequest, PodSandboxStatusResponse,
};
use serde_json::json;

use crate::container_status::has_labels;
use crate::error::Failure;
use crate::lifecycle::{Phase, PodPhase};
use crate::node::{Node, now};
use crate::record;

impl Node {
    pub(crate) fn pod_sandbox_status(
        &self,
        request: &PodSandboxStatusRequest,
    ) -> Result<PodSandboxStatusResponse, Failure> {
        let pod = self.pod(&request.pod_sandbox_id)?.record();
        let containers = self.all_containers(Some(&pod.id));
        let containers = containers.iter().map(|container| container.record());
        let containers = containers.filter(|record| record.phase != Phase::Creating);
        Ok(PodSandboxStatusResponse {
            status: Some(self.pod_status(&pod)),
            info: if request.verbose { self.pod_info(&pod) } else { HashMap::new() },
            containers_statuses: containers.map(|record| self.status_of(&record)).collect(),
            timestamp: now(),
        })
    }

    pub(crate) fn pod_status(&self, pod: &record::Pod) -> PodSandboxStatus {
        let mut ips = pod.ips.iter().cloned();
        let context = pod.config.linux.as_ref().and_then(|linux| linux.security_context.as_ref());
        let options = context.and_then(|context| context.namespace_options.clone()).unwrap_or_default();
        PodSandboxStatus {
            id: pod.id.clone(),
            metadata: pod.config.metadata.clone(),
            state: state(pod.phase) as i32,
            created_at: pod.created_at,
            network: Some(PodSandboxNetworkStatus {
                ip: ips.next().unwrap_or_default(),
                additional_ips: ips.map(|ip| PodIp { ip }).collect(),
            }),
            linux: Some(LinuxPodSandboxStatus { namespaces: Some(Namespace { options: Some(options) }) }),
            labels: pod.config.labels.clone(),
            annotations: pod.config.annotations.clone(),
            runtime_handler: pod.handler.clone(),
        }
    }

    /// What crictl's `inspectp` shows.
    fn pod_info(&self, pod: &record::Pod) -> HashMap<String, String> {
        let monitor = pod.monitor.as_ref();
        let info = json!({
            "pid": monitor.map_or(0, |monitor| monitor.pause_pid.unwrap_or(monitor.pid)),
            "monitorPid": monitor.map_or(0, |monitor| monitor.pid),
            "processStatus": if self.pod(&pod.id).is_ok_and(|pod| self.monitor_lives(&pod)) { "running" } else { "deleted" },
            "netNamespaceClosed": !monitor.is_some_and(crate::monitor::alive),
            "runtimeHandler": pod.handler,
            "runtimeType": "cleat",
            "directory": self.pod_dir(&pod.id),
            "config": pod.config,
        });
        HashMap::from([("info".to_owned(), info.to_string())])
    }

    pub(crate) fn list_pod_sandbox(&self, filter: Option<&PodSandboxFilter>) -> Vec<PodSandbox> {
        let filter = filter.cloned().unwrap_or_default();
        let all = self.all_pods();
        let records = all.iter().map(|pod| pod.record()).filter(|pod| pod.phase != PodPhase::Starting);
        records.filter(|pod| matches(&filter, pod)).map(|pod| listed(&pod)).collect()
    }
}

fn state(phase: PodPhase) -> PodSandboxState {
    match phase {
        PodPhase::Ready => PodSandboxState::SandboxReady,
        _ => PodSandboxState::SandboxNotready,
    }
}

fn matches(filter: &PodSandboxFilter, pod: &record::Pod) -> bool {
    pod.id.starts_with(&filter.id)
        && filter.state.as_ref().is_none_or(|wished| wished.state == state(pod.phase) as i32)
        && has_labels(&filter.label_selector, &pod.config.labels)
}

fn listed(pod: &record::Pod) -> PodSandbox {
    PodSandbox {
        id: pod.id.clone(),
        metadata: pod.config.metadata.clone(),
        state: state(pod.phase) as i32,
        created_at: pod.created_at,
        labels: pod.config.labels.clone(),
        annotations: pod.config.annotations.clone(),
        runtime_handler: pod.handler.clone(),
    }
}
