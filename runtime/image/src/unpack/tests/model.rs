//! Random layers, stacked by the kernel's overlayfs, against a model: a map from path to content.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
use tar::EntryType;

use super::{Tar, inherit, unpack_into};

/// One change of a layer.
#[derive(Debug, Clone)]
enum Change {
    File(String, u8),
    Directory(String),
    Symlink(String),
    Remove(String),
    Clear(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Node {
    File(u8),
    Directory,
    Symlink,
}

type Model = BTreeMap<String, Node>;

fn path() -> impl Strategy<Value = String> {
    proptest::collection::vec("[abc]", 1..4).prop_map(|components| components.join("/"))
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        4 => (path(), any::<u8>()).prop_map(|(path, content)| Change::File(path, content)),
        2 => path().prop_map(Change::Directory),
        1 => path().prop_map(Change::Symlink),
        2 => path().prop_map(Change::Remove),
        1 => path().prop_map(Change::Clear),
    ]
}

fn below<'a>(path: &'a str) -> impl Fn(&str) -> bool + 'a {
    move |other| other.strip_prefix(path).is_some_and(|rest| rest.starts_with('/'))
}

/// Applies a layer as the specification has it: what it removes is of the layers below, what it adds is its own.
/// Returns the entries that make sense: none passes through something that is no directory.
fn apply(lower: &Model, layer: &[Change]) -> (Model, Vec<Change>) {
    let (mut removed, mut own, mut kept) = (lower.clone(), Model::new(), Vec::new());
    for change in layer {
        let (Change::File(path, _)
        | Change::Directory(path)
        | Change::Symlink(path)
        | Change::Remove(path)
        | Change::Clear(path)) = change;
        let mut parents = path.match_indices('/').map(|(at, _)| &path[..at]);
        if parents.any(|parent| own.get(parent).is_some_and(|node| *node != Node::Directory)) {
            continue;
        }
        if matches!(change, Change::Clear(_)) && own.get(path).is_some_and(|node| *node != Node::Directory) {
            continue;
        }
        kept.push(change.clone());
        for (at, _) in path.match_indices('/') {
            own.insert(path[..at].to_owned(), Node::Directory);
        }
        let node = match change {
            Change::File(_, content) => Node::File(*content),
            Change::Symlink(_) => Node::Symlink,
            Change::Directory(_) => Node::Directory,
            Change::Remove(path) => {
                removed.retain(|other, _| other != path && !below(path)(other));
                continue;
            }
            Change::Clear(path) => {
                removed.retain(|other, _| !below(path)(other));
                Node::Directory
            }
        };
        if node != Node::Directory {
            own.retain(|other, _| !below(path)(other));
            removed.retain(|other, _| other != path && !below(path)(other));
        }
        own.insert(path.clone(), node);
    }
    for (path, node) in own {
        if node != Node::Directory || removed.get(&path).is_some_and(|lower| *lower != Node::Directory) {
            removed.retain(|other, _| !below(&path)(other));
        }
        removed.insert(path, node);
    }
    (removed, kept)
}

fn tar(layer: &[Change]) -> Vec<u8> {
    let written = layer.iter().fold(Tar::default(), |tar, change| match change {
        Change::File(path, content) => tar.file(path, &[*content]),
        Change::Directory(path) => tar.directory(path, 0o755),
        Change::Symlink(path) => tar.link(path, EntryType::Symlink, "target"),
        Change::Remove(path) => {
            let (parent, name) =
                path.rsplit_once('/').map_or(("", path.as_str()), |(parent, name)| (parent, name));
            tar.file(&format!("{parent}/.wh.{name}"), b"")
        }
        Change::Clear(path) => tar.file(&format!("{path}/.wh..wh..opq"), b""),
    });
    written.end()
}

fn walk(root: &Path, at: &str, found: &mut Model) {
    for entry in fs::read_dir(root.join(at)).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        let path = if at.is_empty() { name } else { format!("{at}/{name}") };
        let kind = entry.file_type().unwrap();
        let node = match (kind.is_dir(), kind.is_symlink()) {
            (true, _) => Node::Directory,
            (_, true) => Node::Symlink,
            _ => Node::File(fs::read(entry.path()).unwrap()[0]),
        };
        if node == Node::Directory {
            walk(root, &path, found);
        }
        found.insert(path, node);
    }
}

/// What a mount of the layers (the lowest first) shows. The mount is in a namespace of a thread of its own.
fn mounted(layers: &[PathBuf], at: PathBuf) -> Model {
    let lower: Vec<_> = layers.iter().rev().map(|layer| layer.to_str().unwrap().to_owned()).collect();
    let shown = std::thread::spawn(move || {
        linux::fork::unshare(rustix::thread::UnshareFlags::NEWNS).unwrap();
        let options = std::ffi::CString::new(format!("lowerdir={}", lower.join(":"))).unwrap();
        mount_change("/", MountPropagationFlags::REC | MountPropagationFlags::PRIVATE).unwrap();
        mount("overlay", &at, "overlay", MountFlags::RDONLY, options.as_c_str()).unwrap();
        let mut found = Model::new();
        walk(&at, "", &mut found);
        found
    });
    shown.join().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn stacked_layers_show_what_the_model_says(
        layers in proptest::collection::vec(proptest::collection::vec(change(), 0..12), 2..4),
    ) {
        let directory = tempfile::tempdir().unwrap();
        let mut model = Model::new();
        let mut unpacked: Vec<PathBuf> = Vec::new();
        for (number, layer) in layers.iter().enumerate() {
            let (next, kept) = apply(&model, layer);
            model = next;
            let path = directory.path().join(number.to_string());
            fs::create_dir(&path).unwrap();
            let verified = unpack_into(&tar(&kept), &path).unwrap_or_else(|e| panic!("{e}: {kept:?}"));
            let below: Vec<_> = unpacked.iter().rev().cloned().collect();
            inherit(&path, &below, &verified).unwrap();
            unpacked.push(path);
        }
        let at = directory.path().join("mount");
        fs::create_dir(&at).unwrap();
        prop_assert_eq!(mounted(&unpacked, at), model);
    }
}
