//! How much disk the emptyDirs of a pod take.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use agent_core::pod;
use agent_core::quantity::{Amount, amount};
use k8s_openapi::api::core::v1::{Pod, Volume};

use super::PodDir;

/// The size of what the kernel counts as a block of a file, in bytes.
const BLOCK_BYTES: u64 = 512;

/// What a pod takes more of than it may, for people.
pub(crate) fn exceeded(dir: &PodDir, pod: &Pod) -> Option<String> {
    let limited = pod::spec(pod).volumes.iter().flatten().filter_map(|v| Some((v, limit(v)?)));
    limited.into_iter().find_map(|(volume, limit)| {
        let used = usage(&dir.volume("empty-dir", &volume.name)).unwrap_or(0);
        (used > limit.1)
            .then(|| format!("Usage of EmptyDir volume {:?} exceeds the limit {:?}. ", volume.name, limit.0))
    })
}

/// What an emptyDir on disk may take, as it is written and in bytes. In memory the kernel sees to that.
fn limit(volume: &Volume) -> Option<(&str, u64)> {
    let own = volume.empty_dir.as_ref().filter(|own| own.medium.as_deref().unwrap_or_default().is_empty())?;
    let limit = own.size_limit.as_ref()?;
    let bytes = amount(limit).map(Amount::units).and_then(|bytes| u64::try_from(bytes).ok())?;
    (bytes > 0).then_some((limit.0.as_str(), bytes))
}

/// What is below a path, on its own file system, in bytes.
fn usage(path: &Path) -> io::Result<u64> {
    let meta = fs::symlink_metadata(path)?;
    let mut bytes = meta.blocks() * BLOCK_BYTES;
    if meta.is_dir() {
        for entry in fs::read_dir(path)? {
            let path = entry?.path();
            let same = fs::symlink_metadata(&path).is_ok_and(|below| below.dev() == meta.dev());
            // Something may go while it is counted.
            bytes += if same { usage(&path).unwrap_or(0) } else { 0 };
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn limits_of_volumes_on_disk() {
        let dir = tempfile::tempdir().unwrap();
        let pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [], "volumes": [
            {"name": "m", "emptyDir": {"medium": "Memory", "sizeLimit": "1"}}, {"name": "u", "emptyDir": {}},
            {"name": "v", "emptyDir": {"sizeLimit": "64Ki"}}]}});
        let pod = crate::decode::own_pod(pod).unwrap();
        let pod_dir = PodDir(dir.path().to_path_buf());
        for name in ["m", "u", "v"] {
            let below = pod_dir.volume("empty-dir", name).join("deep");
            fs::create_dir_all(&below).unwrap();
            fs::write(below.join("file"), vec![1; 1 << 14]).unwrap();
        }
        assert_eq!(exceeded(&pod_dir, &pod), None);
        fs::write(pod_dir.volume("empty-dir", "v").join("more"), vec![1; 1 << 16]).unwrap();
        let text = "Usage of EmptyDir volume \"v\" exceeds the limit \"64Ki\". ";
        assert_eq!(exceeded(&pod_dir, &pod).as_deref(), Some(text));
    }
}
