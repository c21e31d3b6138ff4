//! hostPath volumes: made or checked as their type says.

use std::fs::{self, File};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;

use k8s_openapi::api::core::v1::HostPathVolumeSource;

use super::{VolumeFailed, failed};

/// Makes what `…OrCreate` asks for, and checks the rest.
pub(super) fn check(volume: &str, source: &HostPathVolumeSource) -> Result<(), VolumeFailed> {
    let path = Path::new(&source.path);
    let kind = source.type_.as_deref().unwrap_or_default();
    match kind {
        "DirectoryOrCreate" if !path.exists() => {
            fs::create_dir_all(path).map_err(failed("make directory", path))?;
            fs::set_permissions(path, fs::Permissions::from_mode(0o755))
                .map_err(failed("set mode of", path))?;
        }
        "FileOrCreate" if !path.exists() => {
            let file =
                File::options().write(true).create_new(true).open(path).map_err(failed("make file", path))?;
            file.set_permissions(fs::Permissions::from_mode(0o644)).map_err(failed("set mode of", path))?;
        }
        _ => {}
    }
    let expected = match kind {
        "Directory" | "DirectoryOrCreate" => "a directory",
        "File" | "FileOrCreate" => "a file",
        "Socket" => "a socket",
        "CharDevice" => "a character device",
        "BlockDevice" => "a block device",
        _ => "there",
    };
    let fits = fs::metadata(path).is_ok_and(|meta| match kind {
        "Directory" | "DirectoryOrCreate" => meta.is_dir(),
        "File" | "FileOrCreate" => meta.is_file(),
        "Socket" => meta.file_type().is_socket(),
        "CharDevice" => meta.file_type().is_char_device(),
        "BlockDevice" => meta.file_type().is_block_device(),
        _ => true,
    });
    // With no type nothing is checked: the runtime makes a directory where there is nothing, as others do.
    if kind.is_empty() && !path.exists() {
        return fs::create_dir_all(path).map_err(failed("make directory", path));
    }
    if fits {
        return Ok(());
    }
    Err(VolumeFailed::HostPath { volume: volume.to_owned(), path: path.to_path_buf(), expected })
}
