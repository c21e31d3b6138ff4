//! Layers, honest and malicious, unpacked into a directory of the test.

mod model;

use std::fs;
use std::io::Write;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use tar::EntryType;

use super::*;
use crate::digest::Hasher;

/// A tar written entry by entry, as badly as a test wants.
#[derive(Default)]
pub(super) struct Tar(Vec<u8>);

impl Tar {
    pub(super) fn file(self, path: &str, content: &[u8]) -> Tar {
        self.entry(path, EntryType::Regular, "", 0o644, content)
    }

    pub(super) fn directory(self, path: &str, mode: u32) -> Tar {
        self.entry(path, EntryType::Directory, "", mode, b"")
    }

    pub(super) fn link(self, path: &str, kind: EntryType, target: &str) -> Tar {
        self.entry(path, kind, target, 0o777, b"")
    }

    fn entry(self, path: &str, kind: EntryType, target: &str, mode: u32, content: &[u8]) -> Tar {
        let mut header = tar::Header::new_ustar();
        header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
        header.set_link_name_literal(target).unwrap();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_mtime(1_600_000_000);
        header.set_uid(7);
        header.set_gid(8);
        self.header(header, content)
    }

    fn header(mut self, mut header: tar::Header, content: &[u8]) -> Tar {
        header.set_size(content.len() as u64);
        header.set_cksum();
        self.0.extend_from_slice(header.as_bytes());
        self.data(content)
    }

    fn data(mut self, content: &[u8]) -> Tar {
        self.0.extend_from_slice(content);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    /// Records for the next entry.
    fn pax(self, records: &[(&str, &[u8])]) -> Tar {
        let mut data = Vec::new();
        for (key, value) in records {
            let rest = key.len() + value.len() + 3;
            let mut length = rest + 1;
            while length != rest + length.to_string().len() {
                length = rest + length.to_string().len();
            }
            data.extend_from_slice(format!("{length} {key}=").as_bytes());
            data.extend_from_slice(value);
            data.push(b'\n');
        }
        self.entry("pax", EntryType::XHeader, "", 0, &data)
    }

    pub(super) fn end(mut self) -> Vec<u8> {
        self.0.resize(self.0.len() + 1024, 0);
        self.0
    }

    /// The layer unpacked, or why not; with the directory around it, which must stay untouched.
    fn unpack(self) -> (tempfile::TempDir, Result<Verified, UnpackError>) {
        let around = tempfile::tempdir().unwrap();
        fs::create_dir(around.path().join("layer")).unwrap();
        let outcome = unpack_into(&self.end(), &around.path().join("layer"));
        let names: Vec<_> = fs::read_dir(around.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(names, ["layer"], "nothing beside the layer");
        (around, outcome)
    }

    fn good(self) -> tempfile::TempDir {
        let (around, outcome) = self.unpack();
        outcome.unwrap_or_else(|e| panic!("{e}: {:?}", std::error::Error::source(&e)));
        around
    }

    fn bad(self, text: &str) {
        let error = self.unpack().1.unwrap_err();
        let chain = format!(
            "{error}: {}",
            std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default()
        );
        assert!(chain.contains(text), "{chain}");
    }
}

pub(super) fn unpack_into(blob: &[u8], layer: &Path) -> Result<Verified, UnpackError> {
    let (digest, outcome) = unpack(blob, (Hasher::sha256(), Hasher::sha256()), layer);
    if outcome.is_ok() {
        assert_eq!(digest, Some(crate::Digest::of(blob)));
    }
    outcome
}

fn is_opaque(path: &Path) -> bool {
    let mut value = [0; 8];
    rustix::fs::lgetxattr(path, "trusted.overlay.opaque", &mut value[..]) == Ok(1) && value[0] == b'y'
}

fn is_whiteout(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|m| m.file_type().is_char_device() && m.rdev() == 0)
}

#[test]
fn nothing_climbs_out() {
    let outside = "would be outside of the image";
    Tar::default().file("../evil", b"x").bad(outside);
    Tar::default().file("a/../../evil", b"x").bad(outside);
    Tar::default().file("/../evil", b"x").bad(outside);
    Tar::default().link("up", EntryType::Symlink, "..").file("up/evil", b"x").bad(outside);
    Tar::default()
        .directory("d", 0o755)
        .link("d/up", EntryType::Symlink, "../..")
        .file("d/up/evil", b"x")
        .bad(outside);
    Tar::default()
        .link("a", EntryType::Symlink, "b")
        .link("b", EntryType::Symlink, "../x")
        .file("a/e", b"")
        .bad(outside);
    Tar::default().link("up", EntryType::Symlink, "..").file("up/.wh.layer", b"").bad(outside);
    Tar::default().link("up", EntryType::Symlink, "../layer").file("up/.wh..wh..opq", b"").bad(outside);
    Tar::default().file(".wh...", b"").bad(outside);
    Tar::default().file(".wh..", b"").bad(outside);
    Tar::default().link("hard", EntryType::Link, "../../etc/passwd").bad(outside);
    Tar::default().link("hard", EntryType::Link, "/etc/passwd").bad("no such file");
    Tar::default().link("up", EntryType::Symlink, "..").link("h", EntryType::Link, "up/x").bad(outside);
    Tar::default().pax(&[("path", b"../evil")]).file("good", b"").bad(outside);
    Tar::default().pax(&[("linkpath", b"../evil")]).link("good", EntryType::Link, "x").bad(outside);
    Tar::default()
        .link("a", EntryType::Symlink, "b")
        .link("b", EntryType::Symlink, "a")
        .file("a/x", b"")
        .bad("too many");
    Tar::default().file("f", b"").file("f/x", b"").bad("\"f\" is no directory");
}

#[test]
fn absolute_names_and_links_stay_inside() {
    let layer = Tar::default()
        .file("/etc/passwd", b"inside")
        .link("abs", EntryType::Symlink, "/etc")
        .file("abs/shadow", b"inside")
        .link("run", EntryType::Symlink, "/nowhere/yet")
        .file("run/x", b"made")
        .link("h", EntryType::Link, "/etc/passwd")
        .file("./a/./b/../c", b"clean")
        .good();
    let layer = layer.path().join("layer");
    assert_eq!(fs::read(layer.join("etc/shadow")).unwrap(), b"inside");
    assert_eq!(fs::read(layer.join("nowhere/yet/x")).unwrap(), b"made");
    assert_eq!(fs::read(layer.join("a/c")).unwrap(), b"clean");
    assert_eq!(
        fs::metadata(layer.join("h")).unwrap().ino(),
        fs::metadata(layer.join("etc/passwd")).unwrap().ino()
    );
}

#[test]
fn attributes_are_kept() {
    let capability = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, b'\n', 0, 0, 0, 0, 0, 0, 0];
    let records: [(&str, &[u8]); 5] = [
        ("SCHILY.xattr.security.capability", &capability),
        ("SCHILY.xattr.user.note", b"a=b\nc"),
        ("SCHILY.xattr.trusted.overlay.redirect", b"/etc"),
        ("SCHILY.xattr.user.overlay.opaque", b"y"),
        ("mtime", b"1500000000.25"),
    ];
    let layer = Tar::default()
        .directory("d", 0o1777)
        .pax(&records)
        .entry("d/suid", EntryType::Regular, "", 0o4755, b"program")
        .link("d/link", EntryType::Symlink, "suid")
        .entry("fifo", EntryType::Fifo, "", 0o600, b"")
        .entry("null", EntryType::Char, "", 0o666, b"")
        .good();
    let layer = layer.path().join("layer");
    let suid = fs::metadata(layer.join("d/suid")).unwrap();
    assert_eq!((suid.mode() & 0o7777, suid.uid(), suid.gid()), (0o4755, 7, 8));
    assert_eq!((suid.mtime(), suid.mtime_nsec()), (1_500_000_000, 250_000_000));
    let mut value = [0; 64];
    let xattr = |name: &str, value: &mut [u8]| rustix::fs::lgetxattr(layer.join("d/suid"), name, value);
    let length = xattr("security.capability", &mut value).unwrap();
    assert_eq!(value[..length], capability);
    assert_eq!(xattr("user.note", &mut value), Ok(5));
    assert!(xattr("trusted.overlay.redirect", &mut value).is_err());
    assert!(xattr("user.overlay.opaque", &mut value).is_err());
    let directory = fs::metadata(layer.join("d")).unwrap();
    assert_eq!((directory.mode() & 0o7777, directory.mtime(), directory.uid()), (0o1777, 1_600_000_000, 7));
    let link = fs::symlink_metadata(layer.join("d/link")).unwrap();
    assert_eq!((link.mtime(), link.uid()), (1_600_000_000, 7));
    assert!(fs::metadata(layer.join("fifo")).unwrap().file_type().is_fifo());
    let null = fs::metadata(layer.join("null")).unwrap();
    assert_eq!((null.file_type().is_char_device(), null.mode() & 0o7777), (true, 0o666));
}

#[test]
fn whiteouts_become_overlayfs_own() {
    let layer = Tar::default()
        .file("etc/.wh.gone", b"")
        .directory("opaque", 0o755)
        .file("opaque/.wh..wh..opq", b"")
        .file("opaque/new", b"")
        .file(".wh..wh.plnk", b"")
        .file(".wh.reborn", b"")
        .directory("reborn", 0o755)
        .directory("before", 0o755)
        .file(".wh.before", b"")
        .file(".wh.implied", b"")
        .file("implied/x", b"")
        .file(".wh.now-a-file", b"")
        .file("now-a-file", b"x")
        .file("still-a-file", b"x")
        .file(".wh.still-a-file", b"")
        .good();
    let layer = layer.path().join("layer");
    assert!(is_whiteout(&layer.join("etc/gone")));
    assert!(!layer.join(".wh..wh.plnk").exists());
    for opaque in ["opaque", "reborn", "before", "implied"] {
        assert!(is_opaque(&layer.join(opaque)), "{opaque}");
    }
    assert!(!is_opaque(&layer.join("etc")));
    for file in ["now-a-file", "still-a-file"] {
        assert_eq!(fs::read(layer.join(file)).unwrap(), b"x");
    }
}

#[test]
fn later_entries_replace_earlier_ones() {
    let layer = Tar::default()
        .file("a", b"first")
        .link("other-name", EntryType::Link, "a")
        .file("a", b"second")
        .file("dir/x/y", b"")
        .file("dir", b"file now")
        .file("file", b"")
        .directory("file", 0o700)
        .file("file/inside", b"x")
        .link("link", EntryType::Symlink, "a")
        .file("link", b"not through the link")
        .directory("keep", 0o755)
        .file("keep/x", b"")
        .directory("keep", 0o711)
        .link("self", EntryType::Symlink, "file")
        .link("self", EntryType::Link, "self")
        .good();
    let layer = layer.path().join("layer");
    assert_eq!(fs::read(layer.join("a")).unwrap(), b"second");
    assert_eq!(fs::read(layer.join("other-name")).unwrap(), b"first");
    assert_eq!(fs::read(layer.join("dir")).unwrap(), b"file now");
    assert!(layer.join("file/inside").exists() && layer.join("keep/x").exists());
    assert_eq!(fs::read(layer.join("link")).unwrap(), b"not through the link");
    assert_eq!(fs::metadata(layer.join("keep")).unwrap().mode() & 0o7777, 0o711);
}

#[test]
fn sparse_files_of_all_formats() {
    let (data, size) = ([b'd'; 512], 1 << 20);
    let expected = |path: &Path| {
        let content = fs::read(path).unwrap();
        assert_eq!((content.len(), &content[4096..4608]), (size, data.as_slice()), "{path:?}");
        assert_eq!(content.iter().filter(|&&byte| byte != 0).count(), 512);
        assert!(fs::metadata(path).unwrap().blocks() * 512 <= 16384, "it has holes");
    };
    let mut gnu = tar::Header::new_gnu();
    gnu.set_path("gnu").unwrap();
    gnu.set_entry_type(EntryType::GNUSparse);
    let own = gnu.as_gnu_mut().unwrap();
    own.set_real_size(size as u64);
    own.sparse[0].set_offset(4096);
    own.sparse[0].set_length(512);
    let in_data = [b"1\n4096\n512\n".as_slice(), &[0; 501], &data].concat();
    let map: &[u8] = b"4096,512";
    let layer = Tar::default()
        .header(gnu, &data)
        .pax(&[("GNU.sparse.map", map), ("GNU.sparse.size", b"1048576"), ("GNU.sparse.name", b"pax01")])
        .file("x", &data)
        .pax(&[
            ("GNU.sparse.size", b"1048576"),
            ("GNU.sparse.numblocks", b"1"),
            ("GNU.sparse.offset", b"4096"),
            ("GNU.sparse.numbytes", b"512"),
        ])
        .file("pax00", &data)
        .pax(&[
            ("GNU.sparse.major", b"1"),
            ("GNU.sparse.minor", b"0"),
            ("GNU.sparse.name", b"pax10"),
            ("GNU.sparse.realsize", b"1048576"),
        ])
        .file("x", &in_data)
        .file("after", b"still in step")
        .good();
    let layer = layer.path().join("layer");
    ["gnu", "pax01", "pax00", "pax10"].iter().for_each(|name| expected(&layer.join(name)));
    assert_eq!(fs::read(layer.join("after")).unwrap(), b"still in step");
    for map in ["4096,513", "9,1,0,511", "1048000,512", "18446744073709551615,512", "x"] {
        let records: [(&str, &[u8]); 2] =
            [("GNU.sparse.map", map.as_bytes()), ("GNU.sparse.size", b"1048000")];
        Tar::default().pax(&records).file("x", &data).bad("sparse map");
    }
}

#[test]
fn names_of_any_length_and_alphabet() {
    let long = format!("{}/{}", "d".repeat(200), "f".repeat(250));
    let gnu = [long.as_bytes(), b"2\0"].concat();
    let layer = Tar::default()
        .pax(&[("path", long.as_bytes())])
        .file("short", b"pax")
        .entry("././@LongLink", EntryType::GNULongName, "", 0, &gnu)
        .file("short", b"gnu")
        .pax(&[("path", b"n\xffn-utf8\n")])
        .file("short", b"bytes")
        .good();
    let layer = layer.path().join("layer");
    assert_eq!(fs::read(layer.join(&long)).unwrap(), b"pax");
    assert_eq!(fs::read(layer.join(format!("{long}2"))).unwrap(), b"gnu");
    let name: &std::ffi::OsStr = std::os::unix::ffi::OsStrExt::from_bytes(b"n\xffn-utf8\n");
    assert_eq!(fs::read(layer.join(name)).unwrap(), b"bytes");
}

#[test]
fn damaged_archives_are_refused() {
    let good = Tar::default().file("a", &[7; 2000]).end();
    let directory = tempfile::tempdir().unwrap();
    for end in [100, 600, 2000] {
        assert!(unpack_into(&good[..end], directory.path()).is_err(), "cut at {end}");
    }
    let mut flipped = good.clone();
    flipped[3] ^= 1;
    assert!(
        unpack_into(&flipped, directory.path()).unwrap_err().to_string().contains("no tar header at byte 0")
    );
    assert!(unpack_into(b"<html>not found</html>", directory.path()).is_err());
    Tar::default().entry("x", EntryType::new(b'Z'), "", 0, b"").bad("type 'Z' is none that a layer may have");
    Tar::default()
        .entry("pax", EntryType::XHeader, "", 0, b"99 a=b\n")
        .file("x", b"")
        .bad("malformed pax header");
}

#[test]
fn compressed_in_members_and_frames() {
    let tar = Tar::default().file("a", &[7; 300_000]).file("b", b"end").end();
    let (first, second) = tar.split_at(150_000);
    let gzip = |data: &[u8]| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(data).unwrap();
        encoder.finish().unwrap()
    };
    let zstd = |data| ruzstd::encoding::compress_to_vec(data, ruzstd::encoding::CompressionLevel::Fastest);
    let skippable = [0x52, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3];
    let streams = [
        tar.clone(),
        [gzip(first), gzip(second)].concat(),
        [zstd(first), skippable.to_vec(), zstd(second), skippable.to_vec()].concat(),
        [skippable.to_vec(), zstd(&tar)].concat(),
    ];
    for (number, stream) in streams.iter().enumerate() {
        let directory = tempfile::tempdir().unwrap();
        let verified = unpack_into(stream, directory.path()).unwrap_or_else(|e| panic!("{number}: {e:?}"));
        assert_eq!(verified.diff_id, crate::Digest::of(&tar));
        assert_eq!(fs::read(directory.path().join("b")).unwrap(), b"end");
        assert!(
            number == 0 || unpack_into(&stream[..stream.len() - 9], directory.path()).is_err(),
            "{number} cut"
        );
    }
}

#[test]
fn directories_without_an_entry_inherit() {
    let lowest = Tar::default().directory("tmp", 0o1777).directory("", 0o750).good();
    let middle = Tar::default().file("other", b"").good();
    let top = tempfile::tempdir().unwrap();
    let blob = Tar::default().file("tmp/x", b"").file("new/x", b"").end();
    let verified = unpack_into(&blob, top.path()).unwrap();
    assert_eq!(verified.loose.implicit, [b"".to_vec(), b"new".to_vec(), b"tmp".to_vec()]);
    let below = [middle, lowest].map(|layer| layer.keep().join("layer"));
    let outcome = inherit(top.path(), &below, &verified);
    below.iter().for_each(|layer| fs::remove_dir_all(layer.parent().unwrap()).unwrap());
    outcome.unwrap();
    let attributes = |path: &str| {
        let metadata = fs::metadata(top.path().join(path)).unwrap();
        (metadata.mode() & 0o7777, metadata.uid(), metadata.mtime())
    };
    assert_eq!(attributes("tmp"), (0o1777, 7, 1_600_000_000));
    assert_eq!(attributes("new"), (0o755, 0, 0));
    assert_eq!(attributes(""), (0o755, 0, 0), "the layer next below counts");
}
