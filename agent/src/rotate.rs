//! Rotation of container logs: the full file is renamed, and the runtime told to open a new one.
//!
//! `0.log` is written to; `0.log.20261121-030000.000000001` and the like are older, the oldest first in the order of
//! their names.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use proto_cri::ReopenContainerLogRequest;

use crate::cri::{CALL, within};
use crate::effect::Effects;
use crate::labels;

/// How often sizes are looked at.
const PERIOD: Duration = Duration::from_secs(10);

/// Rotates the logs of running containers for ever.
pub(crate) async fn run(effects: Arc<Effects>) {
    let mut first = true;
    let mut ticks = tokio::time::interval(PERIOD);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        match round(&effects, first).await {
            Ok(()) => first = false,
            // The CRI server may still be starting; that it does not answer is told by those who need it.
            Err(error) if first => tracing::debug!("log rotation: {error}"),
            Err(error) => tracing::warn!("log rotation: {error}"),
        }
    }
}

/// Rotates what is too large. The first round also mends what an agent left that died between the two steps.
async fn round(effects: &Effects, first: bool) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let bytes_max = effects.config.log_bytes_max;
    let root = effects.config.log_dir.clone();
    let large = tokio::task::spawn_blocking(move || large(&root, bytes_max)).await?;
    if large.is_empty() && !first {
        return Ok(());
    }
    let state = proto_cri::ContainerStateValue { state: proto_cri::ContainerState::ContainerRunning.into() };
    let label_selector = [(labels::NODE.to_owned(), effects.config.node_name.clone())].into();
    let filter = proto_cri::ContainerFilter { state: Some(state), label_selector, ..Default::default() };
    let request = proto_cri::ListContainersRequest { filter: Some(filter) };
    let running = within(CALL, effects.cri.runtime.clone().list_containers(request)).await?.containers;
    for container in running {
        let request =
            proto_cri::ContainerStatusRequest { container_id: container.id.clone(), verbose: false };
        let status = within(CALL, effects.cri.runtime.clone().container_status(request)).await;
        let Some(path) = status.ok().and_then(|s| s.status).map(|s| PathBuf::from(s.log_path)) else {
            continue;
        };
        if large.contains(&path) {
            rotate(effects, &container.id, &path).await?;
        } else if first && !path.as_os_str().is_empty() && !path.exists() {
            reopen(effects, &container.id).await?;
        }
    }
    Ok(())
}

/// Current logs that are too large.
fn large(root: &Path, bytes_max: u64) -> Vec<PathBuf> {
    let entries = |dir: &Path| fs::read_dir(dir).into_iter().flatten().flatten().map(|e| e.path());
    let files = entries(root)
        .flat_map(|pod| entries(&pod).collect::<Vec<_>>())
        .flat_map(|c| entries(&c).collect::<Vec<_>>());
    let current = files.filter(|path| path.extension().is_some_and(|e| e == "log"));
    current.filter(|path| fs::metadata(path).is_ok_and(|m| m.len() > bytes_max)).collect()
}

async fn rotate(
    effects: &Effects,
    id: &str,
    path: &Path,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let stamp = effects.clock.now().strftime("%Y%m%d-%H%M%S.%9f").to_string();
    let old = PathBuf::from(format!("{}.{stamp}", path.display()));
    fs::rename(path, &old)?;
    linux::crash::point("agent.log.renamed");
    if let Err(status) = reopen(effects, id).await {
        // The runtime still writes to the old file: it gets its name back.
        fs::rename(&old, path)?;
        return Err(status.into());
    }
    let rotated = older(path)?;
    let files_max = effects.config.log_files_max.max(2);
    for surplus in rotated.iter().take(rotated.len().saturating_sub(files_max - 1)) {
        fs::remove_file(surplus)?;
    }
    Ok(())
}

/// Has the runtime write to a new file.
async fn reopen(effects: &Effects, id: &str) -> Result<(), tonic::Status> {
    let request = ReopenContainerLogRequest { container_id: id.to_owned() };
    within(CALL, effects.cri.runtime.clone().reopen_container_log(request)).await.map(drop)
}

/// The older files of a log, the oldest first.
pub(crate) fn older(path: &Path) -> io::Result<Vec<PathBuf>> {
    let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else { return Ok(Vec::new()) };
    let prefix = format!("{}.", name.to_string_lossy());
    let mut files = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(&prefix) {
            files.push(entry.path());
        }
    }
    files.sort();
    Ok(files)
}

/// Removes a log with its older files, and its directory when nothing else is in it.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    let absent = |result: io::Result<()>| match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    };
    for file in
        older(path).or_else(|e| if e.kind() == io::ErrorKind::NotFound { Ok(Vec::new()) } else { Err(e) })?
    {
        absent(fs::remove_file(file))?;
    }
    absent(fs::remove_file(path))
}
