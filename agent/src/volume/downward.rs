//! downwardAPI volumes. Their files are written into a new directory that a link then points to, so a reader never
//! sees a half of them.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Component, Path};

use agent_core::env::{self, Facts};
use agent_core::pod;
use k8s_openapi::api::core::v1::{DownwardAPIVolumeFile, DownwardAPIVolumeSource};

use super::{VolumeFailed, failed};

const DATA: &str = "..data";
const FIRST: &str = "..1";

/// Writes the files of a volume that is not there yet: what static pods tell about themselves does not change.
pub(super) fn write(
    dir: &Path,
    volume: &str,
    source: &DownwardAPIVolumeSource,
    facts: &Facts<'_>,
) -> Result<(), VolumeFailed> {
    if dir.join(DATA).exists() {
        return Ok(());
    }
    let data = dir.join(FIRST);
    fs::create_dir_all(&data).map_err(failed("make directory", &data))?;
    for item in source.items.iter().flatten() {
        let path = data.join(&item.path);
        if Path::new(&item.path).components().any(|c| !matches!(c, Component::Normal(_))) {
            return Err(failed("write", &path)(std::io::ErrorKind::InvalidInput.into()));
        }
        let parent = path.parent().unwrap_or(&data);
        fs::create_dir_all(parent).map_err(failed("make directory", parent))?;
        fs::write(&path, text(volume, item, facts)?).map_err(failed("write", &path))?;
        let mode = item.mode.or(source.default_mode).and_then(|m| u32::try_from(m).ok()).unwrap_or(0o644);
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).map_err(failed("set mode of", &path))?;
        let top =
            Path::new(&item.path).components().next().map_or_else(|| path.clone(), |c| c.as_os_str().into());
        link(&Path::new(DATA).join(&top), &dir.join(&top))?;
    }
    link(Path::new(FIRST), &dir.join(DATA))
}

fn link(target: &Path, at: &Path) -> Result<(), VolumeFailed> {
    match symlink(target, at) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        result => result.map_err(failed("make link", at)),
    }
}

fn text(volume: &str, item: &DownwardAPIVolumeFile, facts: &Facts<'_>) -> Result<String, VolumeFailed> {
    let text = match (&item.field_ref, &item.resource_field_ref) {
        (Some(field), _) => env::field(facts, field),
        (None, Some(resource)) => {
            let own = pod::containers(facts.pod).first().cloned().unwrap_or_default();
            env::resource(facts, &own, resource)
        }
        (None, None) => Ok(String::new()),
    };
    text.map_err(|source| VolumeFailed::Downward { volume: volume.to_owned(), source })
}
