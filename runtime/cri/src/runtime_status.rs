//! Version, Status, RuntimeConfig, UpdateRuntimeConfig.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use proto_cri::{
    CgroupDriver, LinuxRuntimeConfiguration, RuntimeCondition, RuntimeConfigResponse, RuntimeFeatures,
    RuntimeHandler, RuntimeHandlerFeatures, RuntimeStatus, StatusResponse, VersionResponse,
};
use serde_json::json;

use crate::error::{Failure, chain};
use crate::node::{Node, blocking, lock};

/// How long a good answer of the network's plugins counts; asking them starts processes.
const NETWORK_AGE: Duration = Duration::from_secs(60);

/// When the network was last found ready, and which it was.
#[derive(Debug, Default)]
pub(crate) struct NetworkState(Mutex<Option<(Instant, String)>>);

impl Node {
    pub(crate) fn version(&self) -> VersionResponse {
        VersionResponse {
            version: "0.1.0".to_owned(),
            runtime_name: "cleat".to_owned(),
            runtime_version: env!("CARGO_PKG_VERSION").to_owned(),
            runtime_api_version: "v1".to_owned(),
        }
    }

    pub(crate) fn runtime_config(&self) -> RuntimeConfigResponse {
        RuntimeConfigResponse {
            linux: Some(LinuxRuntimeConfiguration { cgroup_driver: CgroupDriver::Cgroupfs as i32 }),
        }
    }

    pub(crate) async fn status(self: &Arc<Self>, verbose: bool) -> Result<StatusResponse, Failure> {
        let node = self.clone();
        let network = blocking(move || Ok(node.network_ready())).await?;
        let condition = |kind: &str, problem: Option<(&str, String)>| RuntimeCondition {
            r#type: kind.to_owned(),
            status: problem.is_none(),
            reason: problem.as_ref().map(|(reason, _)| (*reason).to_owned()).unwrap_or_default(),
            message: problem.map(|(_, message)| message).unwrap_or_default(),
        };
        let network = network.err().map(|message| ("NetworkPluginNotReady", message));
        let features = RuntimeHandlerFeatures {
            recursive_read_only_mounts: self.host.recursive_read_only,
            user_namespaces: false,
        };
        let named = self.config.runtimes.keys().cloned();
        let handlers = std::iter::once(String::new()).chain(named);
        let mut info = HashMap::new();
        if verbose {
            info.insert("config".to_owned(), self.info());
        }
        Ok(StatusResponse {
            status: Some(RuntimeStatus {
                conditions: vec![condition("RuntimeReady", None), condition("NetworkReady", network)],
            }),
            info,
            runtime_handlers: handlers
                .map(|name| RuntimeHandler { name, features: Some(features) })
                .collect(),
            features: Some(RuntimeFeatures {
                supplemental_groups_policy: true,
                user_namespaces_host_network: false,
                mount_options: true,
            }),
        })
    }

    /// Whether the network takes pods; else what is missing, where, and what to do.
    fn network_ready(&self) -> Result<(), String> {
        let list = self.networks.load().map_err(|error| {
            *lock(&self.network.0) = None;
            chain(&error)
        })?;
        let known = lock(&self.network.0).clone();
        if known.is_some_and(|(at, name)| name == list.name && at.elapsed() < NETWORK_AGE) {
            return Ok(());
        }
        let list = self.networks.status().map_err(|error| chain(&error))?;
        *lock(&self.network.0) = Some((Instant::now(), list.name));
        Ok(())
    }

    fn info(&self) -> String {
        json!({
            "dataDir": self.config.data_dir,
            "runDir": self.config.run_dir,
            "cniConfDir": self.config.cni_conf_dir,
            "cniBinDirs": self.config.cni_bin_dirs,
            "registryDirs": self.config.registry_dirs,
            "runtimes": self.config.runtimes.keys().collect::<Vec<_>>(),
            "cgroupVersion": if self.host.cgroup_v2 { 2 } else { 1 },
            "cgroupDriver": "cgroupfs",
        })
        .to_string()
    }
}
