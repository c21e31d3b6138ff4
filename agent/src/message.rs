//! The termination message of a container that has ended.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use proto_cri::ContainerStatus;

use crate::labels;
use crate::log;

/// The longest message, in bytes.
const BYTES_MAX: u64 = 4096;
/// How much of the log may stand in for a message.
const LOG_BYTES_MAX: usize = 2048;
const LOG_LINES_MAX: usize = 80;

/// What the container wrote into its message file; if that is nothing, it failed and its policy says so, the end of
/// its log; then what the runtime says.
pub(crate) fn of(status: &ContainerStatus, exit_code: i32) -> String {
    let path = status.annotations.get(labels::MESSAGE_PATH);
    let mount = path.and_then(|path| status.mounts.iter().find(|m| m.container_path == *path));
    let mut text = mount.map(|m| read(Path::new(&m.host_path))).unwrap_or_default();
    let fall_back =
        status.annotations.get(labels::MESSAGE_POLICY).map(String::as_str) == Some("FallbackToLogsOnError");
    if text.is_empty() && exit_code != 0 && fall_back {
        text = log_end(Path::new(&status.log_path)).unwrap_or_default();
    }
    match (text.is_empty(), status.message.is_empty()) {
        (_, true) => text,
        (true, false) => status.message.clone(),
        (false, false) => format!("{}: {text}", status.message),
    }
}

/// The file lies where the container may have put a link in its stead: it is not followed.
fn read(path: &Path) -> String {
    let flags =
        i32::try_from((rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK).bits()).unwrap_or(0);
    let mut bytes = Vec::new();
    let file = File::options().read(true).custom_flags(flags).open(path);
    if let Ok(file) =
        file.and_then(|f| Ok((f.metadata()?.is_file(), f))).map(|(is_file, f)| is_file.then_some(f))
    {
        let _ = file.map(|file| file.take(BYTES_MAX).read_to_end(&mut bytes));
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn log_end(path: &Path) -> std::io::Result<String> {
    let mut file = File::open(path)?;
    // CRI lines carry a time stamp and a stream name beside their text.
    let start = file.metadata()?.len().saturating_sub(4 * LOG_BYTES_MAX as u64);
    file.seek(SeekFrom::Start(start))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    let mut lines: Vec<&[u8]> = bytes.split_inclusive(|b| *b == b'\n').collect();
    if start > 0 && !lines.is_empty() {
        lines.remove(0);
    }
    let text: Vec<u8> = lines
        .iter()
        .skip(lines.len().saturating_sub(LOG_LINES_MAX))
        .filter_map(|line| log::parse(line))
        .flat_map(|entry| entry.text.iter().copied().chain((!entry.partial).then_some(b'\n')))
        .collect();
    let text = &text[text.len().saturating_sub(LOG_BYTES_MAX)..];
    Ok(String::from_utf8_lossy(text).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A container that wrote `file` and `lines`, and ended with this code under this policy.
    fn check(file: &str, lines: &[&str], exit_code: i32, policy: &str) -> String {
        let dir = tempfile::tempdir().unwrap();
        let (message, log) = (dir.path().join("message"), dir.path().join("log"));
        std::fs::write(&message, file).unwrap();
        let line = |l: &&str| format!("2026-11-21T03:00:00.000000000Z stdout F {l}\n");
        std::fs::write(&log, lines.iter().map(line).collect::<String>()).unwrap();
        let mount = proto_cri::Mount {
            container_path: "/dev/end".into(),
            host_path: message.to_string_lossy().into_owned(),
            ..Default::default()
        };
        let annotations = [(labels::MESSAGE_PATH, "/dev/end"), (labels::MESSAGE_POLICY, policy)];
        let annotations = annotations.map(|(k, v)| (k.to_owned(), v.to_owned())).into();
        let log_path = log.to_string_lossy().into_owned();
        of(&ContainerStatus { mounts: vec![mount], annotations, log_path, ..Default::default() }, exit_code)
    }

    #[test]
    fn where_it_comes_from() {
        assert_eq!(check("bye", &["log"], 0, "File"), "bye");
        assert_eq!(check("", &["log"], 1, "File"), "");
        assert_eq!(check("", &["log"], 0, "FallbackToLogsOnError"), "");
        assert_eq!(check("", &["one", "two"], 1, "FallbackToLogsOnError"), "one\ntwo\n");
        assert_eq!(check("bye", &["log"], 1, "FallbackToLogsOnError"), "bye");
        assert_eq!(check(&"x".repeat(9999), &[], 0, "File").len(), 4096);
        let lines: Vec<String> = (0..500).map(|n| format!("line {n}")).collect();
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        let text = check("", &lines, 1, "FallbackToLogsOnError");
        assert!(text.starts_with("line 420\n") && text.ends_with("line 499\n"), "{text}");
    }

    #[test]
    fn a_link_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let link = dir.path().join("link");
        std::os::unix::fs::symlink("/etc/passwd", &link).unwrap();
        assert_eq!(read(&link), "");
        assert_eq!(read(dir.path()), "");
    }
}
