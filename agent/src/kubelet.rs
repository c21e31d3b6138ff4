//! A `KubeletConfiguration` (kubelet.config.k8s.io/v1beta1), read as it is: what this agent honours it does, what it
//! does not know is an error, and what the kubelet would do but this agent does not is told, a line each.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use agent_core::quantity::Amount;
use proto_kube::object;
use serde_json::Value;

use crate::config::Config;
use crate::node::pressure::Threshold;
use crate::server::Authorization;

/// The fields that this agent knows nothing to do about; upstream's names.
const UNSUPPORTED: &[&str] = &[
    "syncFrequency",
    "fileCheckFrequency",
    "httpCheckFrequency",
    "staticPodURL",
    "staticPodURLHeader",
    "readOnlyPort",
    "tlsCertFile",
    "tlsPrivateKeyFile",
    "tlsCipherSuites",
    "tlsCurvePreferences",
    "tlsMinVersion",
    "registryPullQPS",
    "registryBurst",
    "imagePullCredentialsVerificationPolicy",
    "preloadedImagesVerificationAllowlist",
    "eventRecordQPS",
    "eventBurst",
    "enableContentionProfiling",
    "healthzPort",
    "healthzBindAddress",
    "oomScoreAdj",
    "streamingConnectionIdleTimeout",
    "nodeStatusUpdateFrequency",
    "nodeStatusReportFrequency",
    "nodeLeaseDurationSeconds",
    "imageMinimumGCAge",
    "imageMaximumGCAge",
    "imageGCHighThresholdPercent",
    "imageGCLowThresholdPercent",
    "volumeStatsAggPeriod",
    "kubeletCgroups",
    "systemCgroups",
    "cpuManagerPolicyOptions",
    "cpuManagerReconcilePeriod",
    "topologyManagerScope",
    "topologyManagerPolicyOptions",
    "qosReserved",
    "runtimeRequestTimeout",
    "hairpinMode",
    "podCIDR",
    "podPidsLimit",
    "cpuCFSQuotaPeriod",
    "nodeStatusMaxImages",
    "maxOpenFiles",
    "contentType",
    "kubeAPIQPS",
    "kubeAPIBurst",
    "evictionSoft",
    "evictionSoftGracePeriod",
    "evictionPressureTransitionPeriod",
    "evictionMaxPodGracePeriod",
    "evictionMinimumReclaim",
    "mergeDefaultEvictionSettings",
    "protectKernelDefaults",
    "makeIPTablesUtilChains",
    "iptablesMasqueradeBit",
    "iptablesDropBit",
    "featureGates",
    "memorySwap",
    "containerLogMaxWorkers",
    "containerLogMonitorInterval",
    "configMapAndSecretChangeDetectionStrategy",
    "reservedSystemCPUs",
    "showHiddenMetricsForVersion",
    "systemReservedCgroup",
    "kubeReservedCgroup",
    "enforceNodeAllocatable",
    "volumePluginDir",
    "providerID",
    "kernelMemcgNotification",
    "logging",
    "enableSystemLogHandler",
    "enableSystemLogQuery",
    "shutdownGracePeriod",
    "shutdownGracePeriodCriticalPods",
    "shutdownGracePeriodByPodPriority",
    "crashLoopBackOff",
    "reservedMemory",
    "enableProfilingHandler",
    "enableDebugFlagsHandler",
    "memoryThrottlingFactor",
    "memoryReservationPolicy",
    "tracing",
    "imageServiceEndpoint",
    "userNamespaces",
    "singleProcessOOMKill",
];

/// What this agent does anyway, so that a file may say it.
const AS_IT_IS: &[(&str, &str)] = &[
    ("apiVersion", "kubelet.config.k8s.io/v1beta1"),
    ("kind", "KubeletConfiguration"),
    ("enableServer", "true"),
    ("rotateCertificates", "true"),
    ("serverTLSBootstrap", "true"),
    ("enableDebuggingHandlers", "true"),
    ("cgroupDriver", "cgroupfs"),
    ("cpuManagerPolicy", "none"),
    ("memoryManagerPolicy", "None"),
    ("topologyManagerPolicy", "none"),
    ("runOnce", "false"),
    ("cpuCFSQuota", "true"),
    ("enableControllerAttachDetach", "true"),
    ("failSwapOn", "false"),
    ("seccompDefault", "true"),
    ("localStorageCapacityIsolation", "true"),
    ("failCgroupV1", "false"),
];

/// Why a file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KubeletConfigurationError {
    /// It cannot be read.
    #[error("{}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It is no such configuration.
    #[error("{}: {why}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong with it: field, value, what was expected.
        why: String,
    },
}

impl Config {
    /// Does what a `KubeletConfiguration` file says, to what is configured already: [`Config::serving`] and
    /// [`Config::api`] are changed where they are set. Returns what of the file this agent does not do, a line each.
    ///
    /// # Errors
    /// The file cannot be read, or has a field or value that the kubelet would not take.
    pub fn read_kubelet_configuration(
        &mut self,
        path: &Path,
    ) -> Result<Vec<String>, KubeletConfigurationError> {
        let malformed = |why: String| KubeletConfigurationError::Malformed { path: path.to_path_buf(), why };
        let text = std::fs::read_to_string(path)
            .map_err(|source| KubeletConfigurationError::Read { path: path.to_path_buf(), source })?;
        let file: Value = serde_saphyr::from_str(&text).map_err(|error| malformed(error.to_string()))?;
        let fields = file.as_object().ok_or_else(|| malformed("it is no object".to_owned()))?;
        for (key, expected) in &AS_IT_IS[..2] {
            if object::text(&file, &[key]) != *expected {
                return Err(malformed(format!("{key}: expected {expected:?}, found {}", file[*key])));
            }
        }
        let folder = path.parent().unwrap_or(Path::new(""));
        let mut warnings = Vec::new();
        for (key, value) in fields.iter().filter(|(_, value)| !is_default(value)) {
            match self.set(key, value, &file, folder) {
                Ok(true) => {}
                Ok(false) => warnings.push(format!("{key}: {value} is not supported and has no effect")),
                Err(why) => return Err(malformed(format!("{key}: {why}"))),
            }
        }
        Ok(warnings)
    }

    /// Does what one field says; false when this agent does not.
    fn set(&mut self, key: &str, value: &Value, file: &Value, folder: &Path) -> Result<bool, String> {
        if let Some((_, same)) = AS_IT_IS.iter().find(|(known, _)| *known == key) {
            return Ok(value.as_str().map_or(value.to_string(), str::to_owned) == *same);
        }
        match key {
            "staticPodPath" => self.manifests = Some(folder.join(text(value)?)),
            "podLogsDir" => self.log_dir = folder.join(text(value)?),
            "resolvConf" => self.resolv_conf = folder.join(text(value)?),
            "clusterDomain" => text(value)?.clone_into(&mut self.cluster_domain),
            "clusterDNS" => self.cluster_dns = texts(value)?.map(address).collect::<Result<_, _>>()?,
            "containerRuntimeEndpoint" => {
                let endpoint = text(value)?;
                self.cri_socket = endpoint.strip_prefix("unix://").unwrap_or(endpoint).into();
            }
            "maxPods" => self.pods_max = number(value)?,
            "podsPerCore" => {
                let cores = std::thread::available_parallelism().map_or(1, usize::from);
                let most = number::<u32>(value)?.saturating_mul(u32::try_from(cores).unwrap_or(u32::MAX));
                let all = object::at(file, &["maxPods"]).map_or(Ok(self.pods_max), number)?;
                self.pods_max = most.min(all);
            }
            "evictionHard" => return self.evict_below(value),
            "kubeReserved" | "systemReserved" => return self.reserve(file).map(|()| true),
            "cgroupRoot" => self.cgroup_root = format!("{}/kubepods", text(value)?.trim_end_matches('/')),
            "cgroupsPerQOS" if *value == false => self.cgroup_root.clear(),
            "cgroupsPerQOS" => {}
            "serializeImagePulls" if *value == true => self.pulls_max = 1,
            "serializeImagePulls" if file.get("maxParallelImagePulls").is_none() => {
                self.pulls_max = usize::MAX >> 4
            }
            "serializeImagePulls" => {}
            "maxParallelImagePulls" => self.pulls_max = number(value)?,
            "containerLogMaxSize" => {
                let bytes =
                    Amount::parse(text(value)?).map_err(|_| format!("{value} is no quantity"))?.units();
                self.log_bytes_max = u64::try_from(bytes).unwrap_or(0);
            }
            "containerLogMaxFiles" => self.log_files_max = number(value)?,
            "allowedUnsafeSysctls" => self.unsafe_sysctls = texts(value)?.map(str::to_owned).collect(),
            "registerNode" | "registerWithTaints" => return self.register(key, value),
            "address" | "port" | "authentication" | "authorization" => {
                return self.serve_as(key, value, folder);
            }
            known if UNSUPPORTED.contains(&known) => return Ok(false),
            _ => return Err("unknown field".to_owned()),
        }
        Ok(true)
    }

    /// When the node is short of something; false where a signal is named that is not looked at.
    fn evict_below(&mut self, value: &Value) -> Result<bool, String> {
        let mut all = true;
        for (signal, threshold) in value.as_object().into_iter().flatten() {
            let known = Threshold::parse(signal, text(threshold)?).is_some();
            if known {
                self.eviction_hard.insert(signal.clone(), text(threshold)?.to_owned());
            }
            all &= known;
        }
        Ok(all)
    }

    /// Both reservations together.
    fn reserve(&mut self, file: &Value) -> Result<(), String> {
        let mut all = std::collections::BTreeMap::<String, proto_kube::quantity::Quantity>::new();
        for list in ["kubeReserved", "systemReserved"] {
            for (resource, amount) in file[list].as_object().into_iter().flatten() {
                let amount = proto_kube::quantity::Quantity::parse(text(amount)?)
                    .map_err(|_| format!("{resource}: {amount} is no quantity"))?;
                let sum = all.entry(resource.clone()).or_default();
                *sum = *sum + amount;
            }
        }
        self.reserved = all.into_iter().map(|(resource, amount)| (resource, amount.to_string())).collect();
        Ok(())
    }

    fn register(&mut self, key: &str, value: &Value) -> Result<bool, String> {
        let Some(api) = &mut self.api else { return Ok(true) };
        match key {
            "registerNode" => api.register = value.as_bool().ok_or_else(|| format!("{value} is no bool"))?,
            _ => api
                .taints
                .extend(value.as_array().ok_or_else(|| format!("{value} is no list"))?.iter().cloned()),
        }
        Ok(true)
    }

    /// How the kubelet's API is served.
    fn serve_as(&mut self, key: &str, value: &Value, folder: &Path) -> Result<bool, String> {
        let Some(serving) = &mut self.serving else { return Ok(true) };
        match key {
            "address" => serving.listen.set_ip(address(text(value)?)?),
            "port" => serving.listen.set_port(number(value)?),
            "authorization" => {
                serving.authorization = match object::text(value, &["mode"]) {
                    "AlwaysAllow" => Authorization::AlwaysAllow,
                    "" | "Webhook" => Authorization::Webhook,
                    other => return Err(format!("mode: {other:?} is neither AlwaysAllow nor Webhook")),
                };
            }
            _ => {
                let on = |part: &str| object::at(value, &[part, "enabled"]).and_then(Value::as_bool);
                serving.anonymous = on("anonymous").unwrap_or(serving.anonymous);
                serving.tokens = on("webhook").unwrap_or(serving.tokens);
                if let Some(file) = object::at(value, &["x509", "clientCAFile"]).and_then(Value::as_str) {
                    let path = folder.join(file);
                    let read = std::fs::read_to_string(&path);
                    let authorities = read.map_err(|error| format!("{}: {error}", path.display()))?;
                    serving.client_ca = tokio::sync::watch::Sender::new(authorities).subscribe();
                }
            }
        }
        Ok(true)
    }
}

/// A value that stands for the default, as files have them that a program has written.
fn is_default(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => matches!(text.as_str(), "" | "0s"),
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::Array(elements) => elements.is_empty(),
        Value::Object(members) => members.values().all(is_default),
        Value::Bool(_) => false,
    }
}

fn text(value: &Value) -> Result<&str, String> {
    value.as_str().ok_or_else(|| format!("{value} is no text"))
}

fn texts(value: &Value) -> Result<impl Iterator<Item = &str>, String> {
    let all = value.as_array().ok_or_else(|| format!("{value} is no list"))?;
    Ok(all.iter().map(text).collect::<Result<Vec<_>, _>>()?.into_iter())
}

fn number<T: TryFrom<u64>>(value: &Value) -> Result<T, String> {
    let number = value.as_u64().and_then(|number| T::try_from(number).ok());
    number.ok_or_else(|| format!("{value} is no number that fits"))
}

fn address(text: &str) -> Result<IpAddr, String> {
    text.parse().map_err(|_| format!("{text:?} is no address"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(yaml: &str) -> Result<(Config, Vec<String>), String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("kubelet.yaml");
        let head = "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n";
        std::fs::write(&path, head.to_owned() + yaml).unwrap();
        let mut config = Config::new(dir.path(), dir.path());
        let warnings = config.read_kubelet_configuration(&path).map_err(|error| error.to_string())?;
        Ok((config, warnings))
    }

    #[test]
    fn what_is_honoured_acts() {
        let (config, warnings) = read(
            "staticPodPath: manifests\nmaxPods: 30\nclusterDNS: [10.96.0.10]\nclusterDomain: example.org\n\
             kubeReserved: {cpu: 100m, memory: 1Gi}\nsystemReserved: {cpu: 150m}\nserializeImagePulls: false\n\
             maxParallelImagePulls: 3\ncontainerLogMaxSize: 5Mi\ncontainerLogMaxFiles: 2\nresolvConf: /etc/other\n\
             containerRuntimeEndpoint: unix:///run/containerd/containerd.sock\nallowedUnsafeSysctls: ['net.*']\n\
             cgroupRoot: /mine\nrotateCertificates: true\n",
        )
        .unwrap();
        assert!(warnings.is_empty(), "{warnings:?}");
        assert!(config.manifests.unwrap().ends_with("manifests"));
        assert_eq!((config.pods_max, config.pulls_max, config.log_files_max), (30, 3, 2));
        assert_eq!((config.log_bytes_max, config.cluster_domain.as_str()), (5 << 20, "example.org"));
        assert_eq!(config.cluster_dns, ["10.96.0.10".parse::<IpAddr>().unwrap()]);
        assert_eq!((config.reserved["cpu"].as_str(), config.reserved["memory"].as_str()), ("250m", "1Gi"));
        assert_eq!(config.cri_socket, Path::new("/run/containerd/containerd.sock"));
        assert_eq!(
            (config.cgroup_root.as_str(), config.resolv_conf),
            ("/mine/kubepods", "/etc/other".into())
        );
    }

    #[test]
    fn what_a_program_has_written_is_no_noise() {
        let (_, warnings) = read(
            "syncFrequency: 0s\nlogging: {flushFrequency: 0, options: {json: {infoBufferSize: \"0\"}}}\n\
             memorySwap: {}\nimageMinimumGCAge: 0s\ncgroupDriver: cgroupfs\nevictionHard: null\n",
        )
        .unwrap();
        assert_eq!(warnings.len(), 1, "{warnings:?}");
    }

    #[test]
    fn the_rest_is_told() {
        let (_, warnings) = read("cgroupDriver: systemd\npodPidsLimit: 100\n").unwrap();
        assert_eq!(
            warnings,
            [
                "cgroupDriver: \"systemd\" is not supported and has no effect",
                "podPidsLimit: 100 is not supported and has no effect"
            ]
        );
        for (yaml, why) in [
            ("maxPod: 3", "maxPod: unknown field"),
            ("maxPods: many", "maxPods: \"many\" is no number that fits"),
            ("clusterDNS: [x]", "clusterDNS: \"x\" is no address"),
            ("kind: Pod", "duplicate"),
        ] {
            let error = read(yaml).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
    }
}
