//! Sandboxes.

use std::time::Duration;

use agent_core::pod;
use proto_cri as cri;
use proto_kube::object;
use proto_kube::view::View;
use tonic::{Code, Status};

use super::{EffectFailed, Effects, Order};
use crate::config::{Config, known};
use crate::cri::{CALL, within};
use crate::dns;
use crate::translate::{self, SandboxParts};

/// How long a sandbox's network may take to come up or to go.
const NETWORK: Duration = Duration::from_secs(240);

/// How long the runtime classes are waited for.
const PATIENCE: Duration = Duration::from_secs(1);
const CREATE: &str = "FailedCreatePodSandBox";

impl Effects {
    /// What the pod's sandbox is made from; the same for its containers, which CRI wants to see it too.
    ///
    /// # Errors
    /// The pod asks for a name that the kernel does not take.
    pub(super) fn sandbox_parts(&self, order: &Order, attempt: u32) -> Result<SandboxParts, EffectFailed> {
        let hostname = dns::kernel_name(&order.pod, &self.config.cluster_domain)
            .map_err(|text| EffectFailed::new(CREATE, text))?;
        Ok(SandboxParts {
            uid: order.uid.clone(),
            attempt,
            node_name: self.config.node_name.clone(),
            log_directory: self.log_dir(&order.pod, &order.uid).to_string_lossy().into_owned(),
            cgroup_parent: self.cgroup_path(&order.pod, &order.uid),
            hostname,
            dns: self.dns(order).0,
        })
    }

    fn dns(&self, order: &Order) -> (cri::DnsConfig, Vec<agent_core::event::Event>) {
        let resolv_conf = std::fs::read_to_string(&self.config.resolv_conf).unwrap_or_default();
        let Config { cluster_dns, cluster_domain, .. } = &self.config;
        let cluster = dns::Cluster { servers: cluster_dns, domain: cluster_domain };
        dns::config(&order.pod, &resolv_conf, cluster)
    }

    pub(super) async fn create_sandbox(&self, order: &Order, attempt: u32) -> Result<(), EffectFailed> {
        if attempt > 0 {
            let text = "Pod sandbox changed, it will be killed and re-created.";
            self.event(order, false, "SandboxChanged", text, None);
        }
        let result = self.try_sandbox(order, attempt).await;
        linux::crash::point("agent.sandbox.made");
        if let Err(failed) = &result {
            let text = format!("Failed to create pod sandbox: {}", failed.message);
            self.event(order, true, CREATE, &text, None);
        }
        result
    }

    async fn try_sandbox(&self, order: &Order, attempt: u32) -> Result<(), EffectFailed> {
        if pod::spec(&order.pod).host_users == Some(false) {
            let text = "user namespaces are not supported by this node: set spec.hostUsers to true";
            return Err(EffectFailed::new(CREATE, text));
        }
        let runtime_handler = self.handler(order).await?;
        for event in self.dns(order).1 {
            self.event(order, event.warning, &event.reason, &event.message, None);
        }
        let logs = self.log_dir(&order.pod, &order.uid);
        super::blocking(CREATE, move || std::fs::create_dir_all(&logs)).await?;
        let config = translate::sandbox(&order.pod, &self.sandbox_parts(order, attempt)?);
        let request = cri::RunPodSandboxRequest { config: Some(config), runtime_handler };
        let result = within(NETWORK, self.cri.runtime.clone().run_pod_sandbox(request)).await;
        result.map(drop).map_err(|status| EffectFailed::new(CREATE, status.message()))
    }

    /// The runtime's name of what runs the pod: its class says which; without a cluster the class is that name.
    async fn handler(&self, order: &Order) -> Result<String, EffectFailed> {
        let class = pod::spec(&order.pod).runtime_class_name.clone().unwrap_or_default();
        let Some(api) = self.config.api.as_ref().filter(|_| !class.is_empty()) else { return Ok(class) };
        let resource = known("node.k8s.io", "v1", "runtimeclasses");
        let _ = tokio::time::timeout(PATIENCE, api.cache.synced(&[resource])).await;
        match api.cache.get(resource.group_resource(), "", &class) {
            Some(found) => Ok(object::text(&found, &["handler"]).to_owned()),
            None => {
                let text = format!("runtimeclass.node.k8s.io {class:?} not found");
                Err(EffectFailed::new(CREATE, text))
            }
        }
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
