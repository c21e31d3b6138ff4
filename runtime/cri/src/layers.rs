//! Looking into an image without mounting it: the merged view of overlayfs layers, where no symlink leads out.

use std::collections::VecDeque;
use std::fs;
use std::io::{self, Read as _};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Component, Path, PathBuf};

/// As many symlinks as the kernel follows.
const LINKS_MAX: usize = 40;

/// Something in an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Found {
    /// A file or device; where it lies in its layer.
    File(PathBuf),
    /// A directory: its part in each layer, the topmost first.
    Directory(Vec<PathBuf>),
}

enum Entry {
    Absent,
    Symlink(PathBuf),
    Found(Found),
}

/// Finds `path` in `layers` (the topmost first) as a process in the container would: whiteouts hide, opaque
/// directories cut off, symlinks are followed inside the image, `..` stops at its root.
pub(crate) fn find(layers: &[PathBuf], path: &Path) -> io::Result<Option<Found>> {
    let mut above: Vec<Vec<PathBuf>> = vec![layers.to_vec()];
    let mut pending: VecDeque<PathBuf> = parts(path);
    let mut links = 0;
    while let Some(name) = pending.pop_front() {
        if name == Path::new("..") {
            above.truncate((above.len() - 1).max(1));
            continue;
        }
        let here = above.last().map_or(&[][..], Vec::as_slice);
        match entry(here, &name)? {
            Entry::Absent => return Ok(None),
            Entry::Found(Found::Directory(directory)) => above.push(directory),
            Entry::Found(file) => return Ok(pending.is_empty().then_some(file)),
            Entry::Symlink(target) => {
                links += 1;
                if links > LINKS_MAX {
                    return Err(io::Error::other(format!(
                        "{}: too many symlinks in the image",
                        path.display()
                    )));
                }
                if target.is_absolute() {
                    above.truncate(1);
                }
                parts(&target).into_iter().rev().for_each(|part| pending.push_front(part));
            }
        }
    }
    Ok(above.pop().map(Found::Directory))
}

/// The text of a small file in an image; empty if there is none.
pub(crate) fn read(layers: &[PathBuf], path: &str, bytes_max: u64) -> io::Result<String> {
    let Some(Found::File(file)) = find(layers, Path::new(path))? else { return Ok(String::new()) };
    // A FIFO or a device in its place would block or never end.
    if !fs::symlink_metadata(&file)?.is_file() {
        return Ok(String::new());
    }
    let mut bytes = Vec::new();
    fs::File::open(&file)?.take(bytes_max).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn parts(path: &Path) -> VecDeque<PathBuf> {
    let named = |part: Component<'_>| matches!(part, Component::Normal(_) | Component::ParentDir);
    path.components().filter(|part| named(*part)).map(|part| PathBuf::from(part.as_os_str())).collect()
}

/// One name in a merged directory.
fn entry(directories: &[PathBuf], name: &Path) -> io::Result<Entry> {
    let mut merged = Vec::new();
    for directory in directories {
        let path = directory.join(name);
        let metadata = match fs::symlink_metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            other => other?,
        };
        let kind = metadata.file_type();
        let whiteout = kind.is_char_device() && metadata.rdev() == 0;
        if whiteout || !kind.is_dir() && !merged.is_empty() {
            break;
        }
        if kind.is_symlink() {
            return Ok(Entry::Symlink(fs::read_link(&path)?));
        }
        if !kind.is_dir() {
            return Ok(Entry::Found(Found::File(path)));
        }
        let opaque = opaque(&path);
        merged.push(path);
        if opaque {
            break;
        }
    }
    Ok(if merged.is_empty() { Entry::Absent } else { Entry::Found(Found::Directory(merged)) })
}

fn opaque(path: &Path) -> bool {
    let mut value = [0_u8; 1];
    let read = rustix::fs::lgetxattr(path, "trusted.overlay.opaque", &mut value);
    matches!(read, Ok(1)) && value == *b"y"
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    struct Image {
        dir: tempfile::TempDir,
        layers: Vec<PathBuf>,
    }

    fn image() -> Image {
        let dir = tempfile::tempdir().unwrap();
        let (top, low) = (dir.path().join("top"), dir.path().join("low"));
        fs::create_dir_all(low.join("etc/deep")).unwrap();
        fs::create_dir_all(top.join("etc")).unwrap();
        fs::write(low.join("etc/passwd"), "low").unwrap();
        fs::write(low.join("etc/group"), "group").unwrap();
        fs::write(top.join("etc/passwd"), "top").unwrap();
        fs::write(dir.path().join("secret"), "secret").unwrap();
        Image { layers: vec![top, low], dir }
    }

    fn text(image: &Image, path: &str) -> String {
        read(&image.layers, path, 100).unwrap()
    }

    #[test]
    fn layers_merge() {
        let image = image();
        assert_eq!(text(&image, "/etc/passwd"), "top");
        assert_eq!(text(&image, "/etc/group"), "group");
        assert_eq!(text(&image, "/etc/none"), "");
        assert_eq!(text(&image, "/etc/passwd/x"), "");
        let both = image.layers.iter().map(|layer| layer.join("etc")).collect();
        assert_eq!(find(&image.layers, Path::new("etc")).unwrap(), Some(Found::Directory(both)));
    }

    #[test]
    fn symlinks_stay_inside() {
        let image = image();
        let top = &image.layers[0];
        symlink("../../../../secret", top.join("etc/up")).unwrap();
        symlink(image.dir.path().join("secret"), top.join("etc/out")).unwrap();
        symlink("/etc/group", top.join("absolute")).unwrap();
        symlink("loop", top.join("loop")).unwrap();
        symlink("/etc", top.join("dir")).unwrap();
        assert_eq!(text(&image, "/etc/up"), "");
        assert_eq!(text(&image, "/etc/out"), "");
        assert_eq!(text(&image, "/absolute"), "group");
        assert_eq!(text(&image, "/dir/deep/../passwd"), "top");
        assert!(find(&image.layers, Path::new("/loop")).is_err());
    }

    #[test]
    fn whiteouts_hide() {
        let image = image();
        let device = rustix::fs::makedev(0, 0);
        let path = image.layers[0].join("etc/group");
        let kind = rustix::fs::FileType::CharacterDevice;
        rustix::fs::mknodat(rustix::fs::CWD, &path, kind, rustix::fs::Mode::empty(), device).unwrap();
        assert_eq!(text(&image, "/etc/group"), "");
    }
}
