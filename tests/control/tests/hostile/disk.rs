//! A disk that is full, and a log that was cut.

use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use lab::{Control, wait};

use crate::raw::Raw;
use crate::{MAPS, assert_no_panic, config_map, copy_files};

const JSON: &[(&str, &str)] = &[("content-type", "application/json")];

fn create(raw: &Raw, name: &str, value: &str) -> crate::raw::Answer {
    raw.ask("POST", MAPS, JSON, config_map(name, value).to_string().as_bytes())
}

/// The names of what a list of config maps holds, without those of the server.
fn names(raw: &Raw) -> Vec<String> {
    let list = raw.get(MAPS).json();
    let names = list["items"].as_array().unwrap().iter().filter_map(|o| o["metadata"]["name"].as_str());
    names.filter(|name| name.starts_with("map-")).map(str::to_owned).collect()
}

#[test]
fn full_and_free_again() {
    let control = Control::start_on_disk_of(12).unwrap();
    let raw = Raw::admin(&control);
    // What another takes of the disk, and gives back later.
    let ballast = control.small_disk().join("ballast");
    fs::write(&ballast, vec![1; 4 << 20]).unwrap();
    let value = "x".repeat(256 << 10);
    let mut made = Vec::new();
    let refused = loop {
        let name = format!("map-{:03}", made.len());
        let answer = create(&raw, &name, &value);
        if answer.code != 201 {
            break answer;
        }
        made.push(name);
        assert!(made.len() < 100, "the disk does not become full");
    };
    println!("full after {} objects: {}", made.len(), refused.text());
    refused.assert_status("a full disk");
    assert!([500, 503, 507].contains(&refused.code), "{}", refused.text());
    assert!(refused.json()["message"].as_str().unwrap().contains("full"), "{}", refused.text());
    // Reading goes on; other writes are refused too, and no refused one is there.
    assert_eq!(names(&raw), made);
    let again = create(&raw, "map-zzz", &value);
    assert_ne!(again.code, 201);
    assert_eq!(raw.get("/livez").code, 200, "who is full must not be restarted");
    fs::remove_file(&ballast).unwrap();
    let wrote = || {
        let answer = create(&raw, "map-after", "1");
        Ok(if answer.code == 201 { Ok(()) } else { Err(answer.text()) })
    };
    wait::until("there is room again", 30, wrote).unwrap();
    made.push("map-after".to_owned());
    assert_eq!(sorted(names(&raw)), sorted(made.clone()));
    assert_no_panic(&control);
    // What the disk holds is whole.
    let disk = File::open(control.small_disk().join("control")).unwrap();
    let mut control = control;
    control.kill().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let from = PathBuf::from(format!("/proc/self/fd/{}", disk.as_raw_fd()));
    for part in ["store", "pki"] {
        copy_files(&from.join(part), &folder.path().join("data/control").join(part));
    }
    let next = Control::start_in(folder, &[]).unwrap();
    assert_eq!(sorted(names(&Raw::admin(&next))), sorted(made));
}

fn sorted(mut names: Vec<String>) -> Vec<String> {
    names.sort();
    names
}

/// The last segment of a log.
fn log(folder: &Path) -> PathBuf {
    let files = fs::read_dir(folder.join("data/control/store")).unwrap();
    let files = files.map(|file| file.unwrap().path());
    files.filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with("log-")).max().unwrap()
}

/// Where the log ends: zeros lie behind that.
fn end(folder: &Path) -> usize {
    let bytes = fs::read(log(folder)).unwrap();
    bytes.iter().rposition(|byte| *byte != 0).map_or(0, |at| at + 1)
}

/// A control plane's state in a folder of its own.
fn copy(folder: &Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    for part in ["store", "pki"] {
        let below = Path::new("data/control").join(part);
        copy_files(&folder.join(&below), &copy.path().join(&below));
    }
    copy
}

#[test]
fn the_log_is_cut_between_two_runs() {
    let mut control = Control::start().unwrap();
    let raw = Raw::admin(&control);
    let begin = end(control.folder());
    let mut acknowledged = Vec::new();
    for number in 0..40 {
        let name = format!("map-{number:03}");
        assert_eq!(create(&raw, &name, &"v".repeat(number * 20)).code, 201);
        acknowledged.push((end(control.folder()).next_multiple_of(8), name));
    }
    control.kill().unwrap();
    let last = acknowledged.last().unwrap().0;
    for step in 0..8 {
        // Any bytes, the same in each run.
        let at = begin + (last - begin) * step / 7 + step * 3 % 8;
        let folder = copy(control.folder());
        let file = File::options().write(true).open(log(folder.path())).unwrap();
        file.set_len(at as u64).unwrap();
        let next = Control::start_in(folder, &[]).unwrap();
        let found = names(&Raw::admin(&next));
        let whole = acknowledged.iter().filter(|(end, _)| *end <= at).map(|(_, name)| name.clone());
        let whole: Vec<_> = whole.collect();
        assert!(found.starts_with(&whole), "cut at {at}: {found:?}, acknowledged before it: {whole:?}");
        assert!(found.len() <= whole.len() + 1, "cut at {at}: {found:?} and {whole:?}");
        assert_eq!(create(&Raw::admin(&next), "map-new", "1").code, 201, "cut at {at}");
        assert_no_panic(&next);
    }
    // Damage in front of what was acknowledged is no crash: it is refused, with its place.
    let folder = copy(control.folder());
    let path = log(folder.path());
    let mut bytes = fs::read(&path).unwrap();
    bytes[acknowledged[5].0 + 40] ^= 1;
    fs::write(&path, bytes).unwrap();
    let refused = Control::start_in(folder, &[]).err().expect("a damaged log is refused");
    let text = format!("{refused:#}");
    let name = path.file_name().unwrap().to_str().unwrap();
    assert!(text.contains(name) && text.contains(&acknowledged[5].0.to_string()), "{text}");
    assert!(!text.contains("panicked"), "{text}");
    // So is a file that is no log at all.
    let folder = copy(control.folder());
    let path = log(folder.path());
    File::options().write(true).open(&path).unwrap().set_len(20).unwrap();
    let text = format!("{:#}", Control::start_in(folder, &[]).err().expect("a cut header is refused"));
    assert!(text.contains(name), "{text}");
}
