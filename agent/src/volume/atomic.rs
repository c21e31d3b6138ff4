//! Files that change all at once. They lie in a directory of their own to which `..data` points; a change makes
//! another directory and moves the link, so a reader who follows it once never sees a half.
//!
//! ```text
//! labels  -> ..data/labels
//! certs   -> ..data/certs
//! ..data  -> ..2026_11_21_10_04_05.123456789/
//! ..2026_11_21_10_04_05.123456789/{labels,certs/ca.crt}
//! ```

use std::collections::BTreeSet;
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Component, Path};

use agent_core::volume::{File, Payload};
use jiff::Timestamp;

use super::{VolumeFailed, failed, own};

const DATA: &str = "..data";
const NEW: &str = "..data_tmp";
/// What others than the owner need of a directory to get through.
const DIRECTORY: u32 = 0o755;

/// Whether the files of a volume were ever there.
pub(super) fn is_written(dir: &Path) -> bool {
    dir.join(DATA).exists()
}

/// Writes the files of a volume, unless they are there. `group` may read them all.
pub(super) fn write(
    dir: &Path,
    payload: &Payload,
    group: Option<u32>,
    now: Timestamp,
) -> Result<(), VolumeFailed> {
    for path in payload.keys() {
        check(path).map_err(failed("write", &dir.join(path)))?;
    }
    let data = dir.join(DATA);
    let old = match fs::read_link(&data) {
        Ok(target) => Some(target),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(failed("read link", &data)(error)),
    };
    if old.as_ref().is_none_or(|old| !same(&dir.join(old), payload)) {
        let mut name =
            now.strftime("..%Y_%m_%d_%H_%M_%S.").to_string() + &now.subsec_nanosecond().to_string();
        while dir.join(&name).symlink_metadata().is_ok() {
            name.push('0');
        }
        fill(&dir.join(&name), payload, group)?;
        let new = dir.join(NEW);
        match fs::remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(failed("remove", &new)(error));
            }
            _ => {}
        }
        symlink(&name, &new).map_err(failed("make link", &new))?;
        fs::rename(&new, &data).map_err(failed("move link to", &data))?;
    }
    show(dir, payload)?;
    clean(dir, payload)
}

/// A path that stays below the volume, and beside the directories here.
fn check(path: &str) -> io::Result<()> {
    let inside = Path::new(path).components().all(|c| matches!(c, Component::Normal(_)));
    match !path.is_empty() && inside && !path.starts_with("..") {
        true => Ok(()),
        false => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "the path must be relative and not begin with '..'",
        )),
    }
}

/// Whether a directory has these files and no others.
fn same(dir: &Path, payload: &Payload) -> bool {
    let content =
        payload.iter().all(|(path, file)| fs::read(dir.join(path)).is_ok_and(|data| data == file.data));
    let others = |dir: &Path| files(dir, Path::new("")).is_ok_and(|all| all.len() == payload.len());
    content && others(dir)
}

/// All files below a directory, by their path.
fn files(dir: &Path, below: &Path) -> io::Result<BTreeSet<std::path::PathBuf>> {
    let mut all = BTreeSet::new();
    for entry in fs::read_dir(dir.join(below))? {
        let entry = entry?;
        let path = below.join(entry.file_name());
        match entry.file_type()?.is_dir() {
            true => all.extend(files(dir, &path)?),
            false => drop(all.insert(path)),
        }
    }
    Ok(all)
}

fn fill(dir: &Path, payload: &Payload, group: Option<u32>) -> Result<(), VolumeFailed> {
    make(dir)?;
    for (path, File { data, mode, owner }) in payload {
        let path = dir.join(path);
        let parent = path.parent().unwrap_or(dir);
        let missing: Vec<&Path> = parent.ancestors().take_while(|p| !p.exists()).collect();
        missing.into_iter().rev().try_for_each(make)?;
        fs::write(&path, data).map_err(failed("write", &path))?;
        fs::set_permissions(&path, Permissions::from_mode(*mode)).map_err(failed("set mode of", &path))?;
        if owner.is_some() {
            chown(&path, *owner, None).map_err(failed("set owner of", &path))?;
        }
    }
    match group {
        Some(group) => own::give(dir, group),
        None => Ok(()),
    }
}

fn make(dir: &Path) -> Result<(), VolumeFailed> {
    fs::create_dir(dir).map_err(failed("make directory", dir))?;
    fs::set_permissions(dir, Permissions::from_mode(DIRECTORY)).map_err(failed("set mode of", dir))
}

/// The names at the top of a volume.
fn names(payload: &Payload) -> BTreeSet<&str> {
    payload.keys().filter_map(|path| path.split('/').next()).collect()
}

/// A link for each name at the top.
fn show(dir: &Path, payload: &Payload) -> Result<(), VolumeFailed> {
    for name in names(payload) {
        let at = dir.join(name);
        match symlink(Path::new(DATA).join(name), &at) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            result => result.map_err(failed("make link", &at))?,
        }
    }
    Ok(())
}

/// Removes what is no longer pointed to: links of names that are gone, directories of earlier writes.
fn clean(dir: &Path, payload: &Payload) -> Result<(), VolumeFailed> {
    let names = names(payload);
    let current = fs::read_link(dir.join(DATA)).map_err(failed("read link", &dir.join(DATA)))?;
    for entry in fs::read_dir(dir).map_err(failed("read", dir))?.flatten() {
        let (name, path) = (entry.file_name(), entry.path());
        let text = name.to_string_lossy();
        let is_link = entry.file_type().is_ok_and(|kind| kind.is_symlink());
        let ours = is_link && fs::read_link(&path).is_ok_and(|to| to.starts_with(DATA));
        if text.starts_with("..") && !is_link && *name != *current.as_os_str() {
            fs::remove_dir_all(&path).map_err(failed("remove", &path))?;
        } else if ours && !names.contains(&*text) {
            fs::remove_file(&path).map_err(failed("remove", &path))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    fn payload(files: &[(&str, &str, u32)]) -> Payload {
        let file = |(path, data, mode): &(&str, &str, u32)| {
            ((*path).to_owned(), File { data: data.as_bytes().to_vec(), mode: *mode, owner: None })
        };
        files.iter().map(file).collect()
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    /// `name` of what is not a link, `name>target` of what is.
    fn list(dir: &Path) -> String {
        let mut all: Vec<String> = fs::read_dir(dir)
            .unwrap()
            .map(|e| {
                let path = e.unwrap().path();
                let name = path.file_name().unwrap().to_string_lossy().into_owned();
                fs::read_link(&path).map_or(name.clone(), |to| format!("{name}>{}", to.display()))
            })
            .collect();
        all.sort();
        all.join(" ")
    }

    #[test]
    fn all_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        write(dir, &payload(&[("a", "1", 0o640), ("s/b", "2", 0o400)]), None, at(0)).unwrap();
        assert_eq!(list(dir), "..1970_01_01_00_00_00.0 ..data>..1970_01_01_00_00_00.0 a>..data/a s>..data/s");
        assert_eq!(fs::metadata(dir.join("a")).unwrap().mode() & 0o777, 0o640);
        assert_eq!(fs::metadata(dir.join("s/b")).unwrap().mode() & 0o777, 0o400);
        write(dir, &payload(&[("a", "1", 0o640), ("s/b", "2", 0o400)]), None, at(1)).unwrap();
        assert!(dir.join("..1970_01_01_00_00_00.0").exists(), "nothing is written twice");
        // A crash may leave a directory, and the link that was to be moved.
        fs::create_dir(dir.join("..old")).unwrap();
        symlink("..old", dir.join(NEW)).unwrap();
        write(dir, &payload(&[("a", "3", 0o640), ("c", "4", 0o644)]), None, at(2)).unwrap();
        assert_eq!(list(dir), "..1970_01_01_00_00_02.0 ..data>..1970_01_01_00_00_02.0 a>..data/a c>..data/c");
        assert_eq!(fs::read_to_string(dir.join("a")).unwrap(), "3");
        write(dir, &payload(&[]), None, at(3)).unwrap();
        assert_eq!(list(dir), "..1970_01_01_00_00_03.0 ..data>..1970_01_01_00_00_03.0");
    }

    #[test]
    fn paths_stay_inside() {
        let dir = tempfile::tempdir().unwrap();
        for bad in ["", "/a", "../a", "..a", "a/../b", ".."] {
            let result = write(dir.path(), &payload(&[(bad, "", 0o644)]), None, at(0));
            assert!(result.is_err(), "{bad}");
        }
        assert_eq!(list(dir.path()), "");
        write(dir.path(), &payload(&[("a..b/..c", "", 0o644)]), None, at(0)).unwrap();
    }
}
