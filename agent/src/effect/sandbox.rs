//! Sandboxes.

use std::time::Duration;

use proto_cri as cri;
use tonic::{Code, Status};

use super::{EffectFailed, Effects, Order};
use crate::cri::{CALL, within};
use crate::dns;
use crate::translate::{self, SandboxParts};

/// How long a sandbox's network may take to come up or to go.
const NETWORK: Duration = Duration::from_secs(240);

impl Effects {
    /// What the pod's sandbox is made from; the same for its containers, which CRI wants to see it too.
    pub(super) fn sandbox_parts(&self, order: &Order, attempt: u32) -> SandboxParts {
        let resolv_conf = std::fs::read_to_string(&self.config.resolv_conf).unwrap_or_default();
        SandboxParts {
            uid: order.uid.clone(),
            attempt,
            node_name: self.config.node_name.clone(),
            log_directory: self.log_dir(&order.pod, &order.uid).to_string_lossy().into_owned(),
            cgroup_parent: self.cgroup_path(&order.pod, &order.uid),
            dns: dns::config(&order.pod, &resolv_conf),
        }
    }

    pub(super) async fn create_sandbox(&self, order: &Order, attempt: u32) -> Result<(), EffectFailed> {
        if attempt > 0 {
            let text = "Pod sandbox changed, it will be killed and re-created.";
            self.event(order, false, "SandboxChanged", text, None);
        }
        let reason = "FailedCreatePodSandBox";
        let logs = self.log_dir(&order.pod, &order.uid);
        super::blocking(reason, move || std::fs::create_dir_all(&logs)).await?;
        let config = translate::sandbox(&order.pod, &self.sandbox_parts(order, attempt));
        let class = agent_core::pod::spec(&order.pod).runtime_class_name.clone();
        let request =
            cri::RunPodSandboxRequest { config: Some(config), runtime_handler: class.unwrap_or_default() };
        let result = within(NETWORK, self.cri.runtime.clone().run_pod_sandbox(request)).await;
        linux::crash::point("agent.sandbox.made");
        result.map(drop).map_err(|status| EffectFailed::new(reason, status.message()))
    }

    pub(super) async fn stop_sandbox(&self, id: &str) -> Result<(), EffectFailed> {
        let request = cri::StopPodSandboxRequest { pod_sandbox_id: id.to_owned() };
        let result = within(NETWORK, self.cri.runtime.clone().stop_pod_sandbox(request)).await;
        linux::crash::point("agent.sandbox.stopped");
        gone_is_done(result).map_err(|status| EffectFailed::new("FailedKillPod", status.message()))
    }

    pub(super) async fn remove_sandbox(&self, id: &str) -> Result<(), EffectFailed> {
        let request = cri::RemovePodSandboxRequest { pod_sandbox_id: id.to_owned() };
        let result = within(CALL, self.cri.runtime.clone().remove_pod_sandbox(request)).await;
        linux::crash::point("agent.sandbox.removed");
        gone_is_done(result).map_err(|status| EffectFailed::new("FailedKillPod", status.message()))
    }
}

/// Something that has to go and is gone already is done.
pub(super) fn gone_is_done<T>(result: Result<T, Status>) -> Result<(), Status> {
    match result {
        Err(status) if status.code() != Code::NotFound => Err(status),
        _ => Ok(()),
    }
}
