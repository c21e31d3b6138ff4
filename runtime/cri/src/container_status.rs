//! ContainerStatus and ListContainers.

use std::collections::HashMap;

use proto_cri::{
    Container as Listed, ContainerFilter, ContainerResources, ContainerState, ContainerStatus,
    ContainerStatusRequest, ContainerStatusResponse, ContainerUser, ImageSpec, LinuxContainerUser,
};
use serde_json::json;

use crate::error::Failure;
use crate::lifecycle::Phase;
use crate::node::Node;
use crate::plan;
use crate::record;

impl Node {
    pub(crate) fn container_status(
        &self,
        request: &ContainerStatusRequest,
    ) -> Result<ContainerStatusResponse, Failure> {
        let container = self.container(&request.container_id)?;
        let record = container.record();
        let status = Some(self.status_of(&record));
        let info = if request.verbose { self.container_info(&record) } else { HashMap::new() };
        Ok(ContainerStatusResponse { status, info })
    }

    pub(crate) fn status_of(&self, record: &record::Container) -> ContainerStatus {
        let exit = record.exit.as_ref();
        let config = &record.config;
        ContainerStatus {
            id: record.id.clone(),
            metadata: config.metadata.clone(),
            state: state(record.phase) as i32,
            created_at: record.created_at,
            started_at: record.started_at,
            finished_at: exit.map_or(0, |exit| exit.finished_at),
            exit_code: exit.map_or(0, |exit| exit.code),
            image: Some(image_spec(record)),
            image_ref: record.image.clone(),
            reason: exit.map(|exit| exit.reason.clone()).unwrap_or_default(),
            message: exit.map(|exit| exit.message.clone()).unwrap_or_default(),
            labels: config.labels.clone(),
            annotations: config.annotations.clone(),
            mounts: self.mounts_of(config),
            log_path: record.log_path.as_ref().map(|path| path.display().to_string()).unwrap_or_default(),
            resources: Some(ContainerResources {
                linux: config.linux.as_ref().and_then(|linux| linux.resources.clone()),
                windows: None,
            }),
            image_id: record.image.clone(),
            user: Some(ContainerUser {
                linux: Some(LinuxContainerUser {
                    uid: record.uid.into(),
                    gid: record.gid.into(),
                    supplemental_groups: record.groups.iter().map(|group| i64::from(*group)).collect(),
                }),
            }),
            stop_signal: plan::signal_to_cri(record.stop_signal) as i32,
        }
    }

    /// As configured; an image volume also says which image it is.
    fn mounts_of(&self, config: &proto_cri::ContainerConfig) -> Vec<proto_cri::Mount> {
        let mut mounts = config.mounts.clone();
        for image in mounts.iter_mut().filter_map(|mount| mount.image.as_mut()) {
            if let Ok(Some(found)) = self.images.get(&image.image) {
                image.image_ref = found.id.as_str().to_owned();
            }
        }
        mounts
    }

    /// What crictl's `inspect` shows.
    fn container_info(&self, record: &record::Container) -> HashMap<String, String> {
        let spec = self.bundled_spec(&record.id).ok();
        let snapshot = self.snapshots.get(&record.id).ok().flatten();
        let info = json!({
            "sandboxID": record.pod,
            "pid": record.pid.unwrap_or(0),
            "removing": record.phase == Phase::Removing,
            "snapshotKey": record.id,
            "snapshotter": "overlayfs",
            "layers": snapshot.map(|snapshot| snapshot.lower),
            "cgroup": record.cgroup,
            "runtimeType": "cleat",
            "config": record.config,
            "runtimeSpec": spec,
        });
        HashMap::from([("info".to_owned(), info.to_string())])
    }

    pub(crate) fn list_containers(&self, filter: Option<&ContainerFilter>) -> Vec<Listed> {
        let filter = filter.cloned().unwrap_or_default();
        let all = self.all_containers(None);
        let records =
            all.iter().map(|container| container.record()).filter(|record| record.phase != Phase::Creating);
        records.filter(|record| matches(&filter, record)).map(|record| listed(&record)).collect()
    }
}

/// CRI's state of a phase.
pub(crate) fn state(phase: Phase) -> ContainerState {
    match phase {
        Phase::Creating | Phase::Created => ContainerState::ContainerCreated,
        Phase::Running => ContainerState::ContainerRunning,
        Phase::Exited | Phase::Removing => ContainerState::ContainerExited,
    }
}

fn image_spec(record: &record::Container) -> ImageSpec {
    let wished = record.config.image.clone().unwrap_or_default();
    let named = |name: &String| if name.is_empty() { wished.image.clone() } else { name.clone() };
    ImageSpec { image: named(&record.image_name), image_ref: record.image.clone(), ..wished }
}

fn matches(filter: &ContainerFilter, record: &record::Container) -> bool {
    record.id.starts_with(&filter.id)
        && record.pod.starts_with(&filter.pod_sandbox_id)
        && filter.state.as_ref().is_none_or(|wished| wished.state == state(record.phase) as i32)
        && has_labels(&filter.label_selector, &record.config.labels)
}

/// Whether `labels` hold all that is selected.
pub(crate) fn has_labels(selected: &HashMap<String, String>, labels: &HashMap<String, String>) -> bool {
    selected.iter().all(|(key, value)| labels.get(key) == Some(value))
}

fn listed(record: &record::Container) -> Listed {
    Listed {
        id: record.id.clone(),
        pod_sandbox_id: record.pod.clone(),
        metadata: record.config.metadata.clone(),
        image: Some(image_spec(record)),
        image_ref: record.image.clone(),
        state: state(record.phase) as i32,
        created_at: record.created_at,
        labels: record.config.labels.clone(),
        annotations: record.config.annotations.clone(),
        image_id: record.image.clone(),
    }
}
