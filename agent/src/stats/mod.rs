//! What the node and its pods use: the runtime's figures, the kernel's, and the sizes of volumes, at one moment.
//! `summary` and `metrics` write them down and do nothing else.

mod disk;
mod machine;
pub(crate) mod metrics;
pub(crate) mod summary;

use std::collections::HashMap;
use std::sync::Arc;

use jiff::Timestamp;
use proto_cri as cri;

use crate::cri::{CALL, within};
use crate::effect::Effects;
use crate::labels;
use crate::sync::{PodEntry, View};

pub(crate) use disk::{Disk, Sizes};
pub(crate) use machine::{Machine, Meter};

/// What was measured last, for what is told as a change or costs a walk through a tree.
#[derive(Default)]
pub(crate) struct Memory {
    meter: Meter,
    sizes: Sizes,
}

/// A pod's figures.
pub(crate) struct Pod {
    pub(crate) name: String,
    pub(crate) namespace: String,
    pub(crate) uid: String,
    pub(crate) started: Option<Timestamp>,
    /// The sandbox's own id, for figures that are told of it.
    pub(crate) sandbox: String,
    pub(crate) linux: cri::LinuxPodSandboxStats,
    /// Those that run.
    pub(crate) containers: Vec<Container>,
    /// Those with a size of their own, by name.
    pub(crate) volumes: Vec<(String, Disk)>,
}

/// A container's figures.
pub(crate) struct Container {
    pub(crate) name: String,
    pub(crate) id: String,
    pub(crate) image: String,
    pub(crate) started: Option<Timestamp>,
    pub(crate) stats: cri::ContainerStats,
    /// Its log, with the older files.
    pub(crate) logs: Option<Disk>,
}

/// Everything at one moment.
pub(crate) struct Sample {
    pub(crate) at: Timestamp,
    pub(crate) node: String,
    pub(crate) machine: Machine,
    /// The file system of pods' data.
    pub(crate) disk: Option<Disk>,
    /// That of images; of writable layers.
    pub(crate) images: Option<Disk>,
    pub(crate) layers: Option<Disk>,
    pub(crate) pods: Vec<Pod>,
}

/// Measures everything. What the runtime cannot tell is an error; what the kernel cannot tell is left out.
pub(crate) async fn sample(
    effects: &Arc<Effects>,
    view: &View,
    memory: &Arc<Memory>,
    sizes: bool,
) -> Result<Sample, tonic::Status> {
    let mut runtime = effects.cri.runtime.clone();
    let label_selector = [(labels::NODE.to_owned(), effects.config.node_name.clone())].into();
    let filter = cri::PodSandboxStatsFilter { label_selector, ..Default::default() };
    let request = cri::ListPodSandboxStatsRequest { filter: Some(filter) };
    let stats = within(CALL, runtime.list_pod_sandbox_stats(request)).await?.stats;
    let images =
        within(CALL, effects.cri.images.clone().image_fs_info(cri::ImageFsInfoRequest {})).await.ok();
    let entries: HashMap<&str, &PodEntry> = view.pods.iter().map(|e| (e.uid.as_str(), e)).collect();
    let mut pods: Vec<Pod> = stats.into_iter().filter_map(|stats| pod(stats, &entries)).collect();
    pods.sort_by(|a, b| (&a.namespace, &a.name, &a.uid).cmp(&(&b.namespace, &b.name, &b.uid)));
    let (effects, memory) = (effects.clone(), memory.clone());
    let measured = tokio::task::spawn_blocking(move || {
        let machine = memory.meter.read();
        let disk = Disk::of_file_system(&effects.config.data_dir);
        if sizes {
            for pod in &mut pods {
                disk::measure(&effects.config, pod, &memory.sizes);
            }
            memory.sizes.forget_old();
        }
        let of = |all: Option<&Vec<cri::FilesystemUsage>>| {
            all.and_then(|all| all.first()).and_then(Disk::of_usage)
        };
        Sample {
            at: effects.clock.now(),
            node: effects.config.node_name.clone(),
            machine,
            disk,
            images: of(images.as_ref().map(|i| &i.image_filesystems)),
            layers: of(images.as_ref().map(|i| &i.container_filesystems)),
            pods,
        }
    });
    measured.await.map_err(|error| tonic::Status::internal(error.to_string()))
}

/// A sandbox's figures as those of a pod; `None` for one that is no pod of ours.
fn pod(stats: cri::PodSandboxStats, entries: &HashMap<&str, &PodEntry>) -> Option<Pod> {
    let attributes = stats.attributes?;
    let metadata = attributes.metadata.unwrap_or_default();
    let entry = entries.get(metadata.uid.as_str())?;
    let mut linux = stats.linux.unwrap_or_default();
    let status = &entry.status;
    let running = |name: &str| {
        let mut all = status.container_statuses.iter().chain(&status.init_container_statuses).flatten();
        let own = all.find(|s| s.name == name)?;
        Some((own.image.clone(), own.state.as_ref()?.running.as_ref()?.started_at.as_ref().map(|t| t.0)))
    };
    let container = |stats: cri::ContainerStats| {
        let attributes = stats.attributes.clone()?;
        let name = attributes.labels.get(labels::CONTAINER_NAME).cloned();
        let name = name.or_else(|| attributes.metadata.as_ref().map(|m| m.name.clone()))?;
        let (image, started) = running(&name)?;
        Some(Container { name, id: attributes.id, image, started, stats, logs: None })
    };
    let mut containers: Vec<Container> =
        std::mem::take(&mut linux.containers).into_iter().filter_map(container).collect();
    containers.sort_by(|a, b| a.name.cmp(&b.name));
    Some(Pod {
        name: agent_core::pod::name(&entry.pod).to_owned(),
        namespace: agent_core::pod::namespace(&entry.pod).to_owned(),
        uid: metadata.uid,
        started: status.start_time.as_ref().map(|t| t.0),
        sandbox: attributes.id,
        linux,
        containers,
        volumes: Vec::new(),
    })
}

/// A figure, if the runtime has it.
pub(crate) fn figure(value: Option<&cri::UInt64Value>) -> Option<u64> {
    value.map(|value| value.value)
}

#[cfg(test)]
mod tests;
