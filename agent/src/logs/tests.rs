//! Tails, limits and rotated files.

use super::*;

fn write(dir: &Path, name: &str, lines: std::ops::Range<usize>) -> PathBuf {
    let path = dir.join(name);
    let line = |n| format!("2026-11-21T03:00:{:02}.000000000Z stdout F line {n}\n", n % 60);
    std::fs::write(&path, lines.map(line).collect::<String>()).unwrap();
    path
}

/// What a reader sends of a log whose container has ended.
async fn sent(path: &Path, query: &str) -> String {
    let now = "2026-11-21T03:01:00Z".parse().unwrap();
    let options = Options::parse(query, now).unwrap();
    let (sender, mut receiver) = mpsc::channel(1000);
    let left = options.limit_bytes.unwrap_or(u64::MAX);
    let mut reader = Reader { path: path.to_path_buf(), options, sender, chunk: Vec::new(), left };
    reader.send_existing().await.unwrap();
    drop(reader);
    let mut text = Vec::new();
    while let Some(frame) = receiver.recv().await {
        text.extend_from_slice(&frame.unwrap().into_data().unwrap());
    }
    String::from_utf8(text).unwrap()
}

fn lines(range: std::ops::Range<usize>) -> String {
    range.map(|n| format!("line {n}\n")).collect()
}

#[tokio::test]
async fn all_files_in_order() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "0.log.20261121-030002.000000000", 5..10);
    write(dir.path(), "0.log.20261121-030001.000000000", 0..5);
    let path = write(dir.path(), "0.log", 10..15);
    assert_eq!(sent(&path, "").await, lines(0..15));
    for n in [0, 1, 4, 5, 6, 10, 14, 15, 16, 100] {
        assert_eq!(
            sent(&path, &format!("tailLines={n}")).await,
            lines(15_usize.saturating_sub(n)..15),
            "{n}"
        );
    }
    assert_eq!(sent(&path, "limitBytes=9").await, "line 0\nli");
    assert_eq!(sent(&path, "tailLines=1&timestamps=true").await, "2026-11-21T03:00:14.000000000Z line 14\n");
    assert_eq!(sent(&path, "sinceSeconds=47").await, lines(13..15));
    assert_eq!(sent(&path, "sinceTime=2026-11-21T03:00:14Z").await, lines(14..15));
}

#[tokio::test]
async fn large_logs_and_half_lines() {
    let dir = tempfile::tempdir().unwrap();
    let path = write(dir.path(), "0.log", 0..5000);
    assert_eq!(sent(&path, "tailLines=3000").await, lines(2000..5000));
    let time = "2026-11-21T03:00:00.000000000Z";
    std::fs::write(&path, format!("{time} stdout P one \n{time} stdout F two\n{time} stderr F thr")).unwrap();
    assert_eq!(sent(&path, "").await, "one two\n", "what is not complete is not sent");
}

#[test]
fn options() {
    let now = Timestamp::UNIX_EPOCH;
    let options = Options::parse("follow=true&previous=false&tailLines=3&unknown=x&timestamps", now).unwrap();
    assert!(options.follow && !options.previous && options.timestamps && options.tail_lines == Some(3));
    for bad in ["follow=maybe", "tailLines=-1", "limitBytes=x", "sinceTime=today"] {
        assert_eq!(Options::parse(bad, now).unwrap_err().code, StatusCode::BAD_REQUEST, "{bad}");
    }
}

#[test]
fn rotation_is_followed_over_several_files() {
    let dir = tempfile::tempdir().unwrap();
    let path = write(dir.path(), "0.log", 0..1);
    let inode = std::fs::metadata(&path).unwrap().ino();
    std::fs::rename(&path, dir.path().join("0.log.1")).unwrap();
    let second = write(dir.path(), "0.log.2", 1..2);
    write(dir.path(), "0.log", 2..3);
    assert_eq!(newer(&path, inode).unwrap(), [second, path]);
}
