//! RunPodSandbox: validate, record, monitor with its namespaces, network, ready.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use cni_invoke::{Attachment, Capabilities, PortMapping};
use proto_cri::{PodSandboxConfig, Protocol, RunPodSandboxRequest, RunPodSandboxResponse};
use rustix::mount::{MountFlags, UnmountFlags};
use tokio::sync::watch;

use crate::config::BUILT_IN;
use crate::crash;
use crate::error::{Failure, chain};
use crate::lifecycle::{Claim, PodPhase};
use crate::monitor;
use crate::node::{Node, Pod, blocking, lock, new_id, now, outcome, remove_tree};
use crate::plan;
use crate::record;

/// The interface of a pod in its network.
pub(crate) const INTERFACE: &str = "eth0";
/// `/dev/shm` of a pod, as everywhere in Kubernetes.
const SHM: &std::ffi::CStr = c"mode=1777,size=65536k";

impl Node {
    /// A repeated identical call joins the first one, and gets its sandbox while that is ready.
    pub(crate) async fn run_pod_sandbox(
        self: &Arc<Self>,
        request: RunPodSandboxRequest,
    ) -> Result<RunPodSandboxResponse, Failure> {
        let config = request.config.unwrap_or_default();
        plan::validate_pod(&config)?;
        let handler = self.handler(&request.runtime_handler)?;
        let metadata = config.metadata.clone().unwrap_or_default();
        let key = (metadata.uid, metadata.namespace, metadata.name, metadata.attempt);
        let id = new_id()?;
        let (done, ended) = watch::channel(None);
        let claim = lock(&self.pod_names).claim(key, &id, (config.clone(), handler.clone()), ended.clone());
        match claim {
            Claim::Begin => {
                let node = self.clone();
                self.tasks.spawn(async move {
                    let result = node.start_sandbox(&id, config, &handler).await;
                    if result.is_err() {
                        lock(&node.pod_names).release(&id);
                    }
                    done.send_replace(Some(result.map(|()| id)));
                });
                Ok(RunPodSandboxResponse { pod_sandbox_id: outcome(ended).await? })
            }
            Claim::Join { id, outcome: joined } => {
                outcome(joined).await?;
                let ready = self.pod(&id).is_ok_and(|pod| pod.state.borrow().phase == PodPhase::Ready);
                let taken = || {
                    Failure::Exists(format!(
                        "the name is taken by sandbox {id}, which is not ready: remove it"
                    ))
                };
                if ready { Ok(RunPodSandboxResponse { pod_sandbox_id: id }) } else { Err(taken()) }
            }
            Claim::Conflict { id } => Err(Failure::Exists(format!(
                "the name is taken by sandbox {id}, which has another configuration"
            ))),
        }
    }

    fn handler(&self, wished: &str) -> Result<String, Failure> {
        let name = if wished.is_empty() { BUILT_IN } else { wished };
        if self.config.runtimes.contains_key(name) {
            return Ok(name.to_owned());
        }
        let known: Vec<&str> = self.config.runtimes.keys().map(String::as_str).collect();
        Err(Failure::Invalid(format!(
            "runtime_handler: no {name:?} is configured; there are {}",
            known.join(", ")
        )))
    }

    async fn start_sandbox(
        self: &Arc<Self>,
        id: &str,
        config: PodSandboxConfig,
        handler: &str,
    ) -> Result<(), Failure> {
        let pod = Pod::new(record::Pod::new(id, config, handler, now()));
        self.note_pod(&pod)?;
        crash::point("sandbox.recorded");
        lock(&self.pods).insert(id.to_owned(), pod.clone());
        let _gate = pod.gate.write().await;
        match self.set_up(&pod).await {
            Ok(()) => {
                self.watch_pod(pod.clone());
                Ok(())
            }
            Err(failure) => {
                let undo = self.tear_down(&pod).await;
                if undo.is_empty() {
                    lock(&self.pods).remove(id);
                    self.pod_records
                        .remove(id)
                        .map_err(Failure::io("remove the record in", &self.config.data_dir))?;
                } else {
                    // It stays, as not ready, for the client to remove.
                    pod.state.send_modify(|record| record.phase = PodPhase::Stopping);
                }
                Err(failure.and(&undo))
            }
        }
    }

    async fn set_up(self: &Arc<Self>, pod: &Arc<Pod>) -> Result<(), Failure> {
        let record = pod.record();
        let (node, config) = (self.clone(), record.config.clone());
        let dir = self.pod_dir(&pod.id);
        let prepared = dir.clone();
        blocking(move || node.prepare(&prepared, &config)).await?;
        crash::point("sandbox.prepared");
        let config = plan::monitor_config(&pod.id, &record.config, &self.oci_root(), &self.host);
        let state = monitor::spawn(&self.program, &dir, &config).await;
        let state = state.map_err(|error| Failure::internal("cannot start the pod's monitor", &error))?;
        pod.state.send_modify(|record| record.monitor = Some(state));
        self.note_pod(pod)?;
        crash::point("sandbox.spawned");
        if !plan::host_network(&record.config) {
            let (node, attachment) = (self.clone(), self.attachment(&pod.record()));
            let added = blocking(move || {
                let added = node.networks.add(&attachment);
                added.map_err(|error| {
                    Failure::Internal(format!("cannot set up the pod's network: {}", chain(&error)))
                })
            });
            let ips = added.await?.ips.iter().map(|ip| ip.address.addr().to_string()).collect();
            pod.state.send_modify(|record| record.ips = ips);
        }
        crash::point("sandbox.networked");
        pod.state.send_modify(|record| record.phase = PodPhase::Ready);
        self.save_pod(pod).await?;
        crash::point("sandbox.ready");
        Ok(())
    }

    /// The pod's directory: what its containers share.
    fn prepare(&self, dir: &Path, config: &PodSandboxConfig) -> Result<(), Failure> {
        fs::create_dir_all(dir.join("shm")).map_err(Failure::io("make", dir))?;
        let write = |name: &str, text: &[u8]| {
            let path = dir.join(name);
            fs::write(&path, text).map_err(Failure::io("write", &path))
        };
        let machines = |path: &str| fs::read(path).unwrap_or_default();
        let hostname = match config.hostname.as_str() {
            "" if plan::host_network(config) => {
                rustix::system::uname().nodename().to_string_lossy().into_owned()
            }
            "" => {
                dir.file_name().map(|id| id.to_string_lossy().chars().take(12).collect()).unwrap_or_default()
            }
            name => name.to_owned(),
        };
        write("hostname", format!("{hostname}\n").as_bytes())?;
        write("hosts", &machines("/etc/hosts"))?;
        match plan::resolv_conf(config.dns_config.as_ref()) {
            Some(text) => write("resolv.conf", text.as_bytes())?,
            None => write("resolv.conf", &machines("/etc/resolv.conf"))?,
        }
        let shm = dir.join("shm");
        let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
        rustix::mount::mount("shm", &shm, "tmpfs", flags, SHM)
            .map_err(|error| Failure::io("mount tmpfs at", &shm)(error.into()))?;
        if !config.log_directory.is_empty() {
            let path = Path::new(&config.log_directory);
            fs::create_dir_all(path).map_err(Failure::io("make", path))?;
        }
        Ok(())
    }

    /// How the pod is attached to its network.
    pub(crate) fn attachment(&self, pod: &record::Pod) -> Attachment {
        let metadata = pod.config.metadata.clone().unwrap_or_default();
        let args = [
            ("IgnoreUnknown", "1".to_owned()),
            ("K8S_POD_NAMESPACE", metadata.namespace),
            ("K8S_POD_NAME", metadata.name),
            ("K8S_POD_INFRA_CONTAINER_ID", pod.id.clone()),
            ("K8S_POD_UID", metadata.uid),
        ];
        let netns = pod.monitor.as_ref().map(|monitor| format!("/proc/{}/ns/net", monitor.pid).into());
        Attachment {
            container_id: pod.id.clone(),
            netns: netns.unwrap_or_default(),
            ifname: INTERFACE.to_owned(),
            args: args.map(|(key, value)| (key.to_owned(), value)).into(),
            capabilities: capabilities(&pod.config),
        }
    }

    /// Undoes everything a sandbox consists of but its record; returns what could not be undone. May be repeated.
    pub(crate) async fn tear_down(self: &Arc<Self>, pod: &Arc<Pod>) -> Vec<String> {
        let mut failed = Vec::new();
        let mut note =
            |result: Result<(), Failure>| failed.extend(result.err().map(|failure| failure.to_string()));
        note(self.detach(pod).await);
        note(self.end_monitor(pod).await);
        let dir = self.pod_dir(&pod.id);
        note(
            blocking(move || {
                unmount(&dir.join("shm"))?;
                remove_tree(&dir)
            })
            .await,
        );
        failed
    }

    /// Takes the pod off its network.
    pub(crate) async fn detach(self: &Arc<Self>, pod: &Arc<Pod>) -> Result<(), Failure> {
        let record = pod.record();
        if plan::host_network(&record.config) {
            return Ok(());
        }
        let (node, mut attachment) = (self.clone(), self.attachment(&record));
        if !record.monitor.is_some_and(|monitor| monitor::alive(&monitor)) {
            attachment.netns = std::path::PathBuf::new();
        }
        blocking(move || {
            let gone = node.networks.del(&attachment);
            gone.map_err(|error| {
                Failure::Internal(format!("cannot take the pod off its network: {}", chain(&error)))
            })
        })
        .await
    }

    pub(crate) fn note_pod(&self, pod: &Pod) -> Result<(), Failure> {
        let _writing = lock(&pod.writing);
        self.pod_records.note(&pod.record()).map_err(Failure::io("write a record in", &self.config.data_dir))
    }

    pub(crate) async fn save_pod(self: &Arc<Self>, pod: &Arc<Pod>) -> Result<(), Failure> {
        let (node, pod) = (self.clone(), pod.clone());
        blocking(move || {
            let _writing = lock(&pod.writing);
            node.pod_records
                .save(&pod.record())
                .map_err(Failure::io("write a record in", &node.config.data_dir))
        })
        .await
    }
}

/// Unmounts, if it is mounted at all.
pub(crate) fn unmount(path: &Path) -> Result<(), Failure> {
    use rustix::io::Errno;
    match rustix::mount::unmount(path, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
        Ok(()) | Err(Errno::INVAL | Errno::NOENT) => Ok(()),
        Err(error) => Err(Failure::io("unmount", path)(error.into())),
    }
}

/// What plugins are told: only ports of the host that are asked for.
fn capabilities(config: &PodSandboxConfig) -> Capabilities {
    let port = |port: &proto_cri::PortMapping| {
        let number = |value: i32| u16::try_from(value).ok().filter(|value| *value != 0);
        Some(PortMapping {
            host_port: number(port.host_port)?,
            container_port: number(port.container_port)?,
            protocol: match port.protocol() {
                Protocol::Tcp => "tcp",
                Protocol::Udp => "udp",
                Protocol::Sctp => "sctp",
            }
            .to_owned(),
            host_ip: port.host_ip.clone(),
        })
    };
    Capabilities {
        port_mappings: config.port_mappings.iter().filter_map(port).collect(),
        ..Capabilities::default()
    }
}
