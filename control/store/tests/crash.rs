//! A process that is killed at each named point while it writes, and the next start on what it has left.

mod suite;

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use rustix::process::{Resource, Rlimit, setrlimit};
use store::{CommitError, Config, History, Place, Store, Txn, Write};

/// The directory that a process started by these tests shall write to.
const CHILD: &str = "STORE_CRASH_CHILD";

const POINTS: [&str; 9] = [
    "store-append-before",
    "store-append-written",
    "store-append-synced",
    "store-segment-written",
    "store-segment-named",
    "store-snapshot-half",
    "store-snapshot-written",
    "store-snapshot-named",
    "store-clear",
];

/// The directory that a process whose files may not grow shall write to.
const LIMITED: &str = "STORE_LIMITED_CHILD";

/// Small files and a short past, so that a second of writing passes every point.
fn config(folder: &Path) -> Config {
    let mut config = Config::new(Place::Directory(folder.to_owned()));
    config.segment = 16 << 10;
    config.history = History { age: Duration::from_secs(60), events: 20, bytes: 1 << 20 };
    config
}

fn key(number: usize) -> String {
    format!("/registry/crash/{}", number % 7)
}

fn value(number: usize) -> String {
    format!("{number} {}", "x".repeat(number % 1500))
}

/// Not a test of its own: what the processes that the tests start do until they die.
#[test]
fn child() {
    let Some(folder) = std::env::var_os(CHILD) else { return };
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let store: Store = Store::open(config(Path::new(&folder))).await.expect("opens");
        for number in 0.. {
            let revision = suite::put(&store, &key(number), &value(number)).await;
            println!("\nacknowledged {number} {revision}");
        }
    });
}

/// Starts a process that writes, and answers the last write that it has acknowledged before it died.
fn life(folder: &Path, point: Option<&str>, enough: usize) -> Option<(usize, i64)> {
    let mut command = Command::new(std::env::current_exe().expect("this test"));
    command.args(["--exact", "child", "--nocapture"]).env(CHILD, folder);
    if let Some(point) = point {
        command.env(linux::crash::VARIABLE, point);
    }
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("starts");
    let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let mut last = None;
    for line in lines.map_while(Result::ok) {
        let mut words = line.split(' ');
        if words.next() == Some("acknowledged") {
            let mut number = || words.next().and_then(|word| word.parse::<i64>().ok()).expect("a whole line");
            let (write, revision) = (number(), number());
            last = Some((usize::try_from(write).expect("not negative"), revision));
            if point.is_none() && last.is_some_and(|(write, _)| write >= enough) {
                child.kill().expect("our child");
            }
        }
    }
    let status = child.wait().expect("our child");
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(9), "{point:?}: {status}");
    last
}

fn check(folder: &Path, point: Option<&str>, last: Option<(usize, i64)>) {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let store: Store =
            Store::open(config(folder)).await.unwrap_or_else(|error| panic!("{point:?}: {error}"));
        let writes = last.map_or(0, |(write, _)| write + 1);
        if let Some((_, revision)) = last {
            assert!(store.revision() >= revision, "{point:?}: {} of {revision}", store.revision());
        }
        // The write that was under way may have happened.
        let happened = store.revision() > last.map_or(1, |(_, revision)| revision);
        let total = writes + usize::from(happened);
        for slot in 0..7.min(total) {
            let number = (0..total).rev().find(|number| number % 7 == slot).expect("there were as many");
            let entry = store.get(&key(slot)).unwrap_or_else(|| panic!("{point:?}: {} is lost", key(slot)));
            assert_eq!(String::from_utf8_lossy(&entry.value), value(number), "{point:?}");
        }
        suite::put(&store, "/registry/crash/next", "1").await;
        store.close().await;
        let left = std::fs::read_dir(folder).expect("reads").flatten();
        let temporary = left.filter(|entry| entry.path().extension().is_some_and(|end| end == "tmp")).count();
        assert_eq!(temporary, 0, "{point:?}: the next start has cleared up");
    });
}

#[test]
fn what_was_acknowledged_outlives_a_kill_at_every_point() {
    for point in POINTS {
        let folder = tempfile::tempdir().expect("a directory");
        let last = life(folder.path(), Some(point), 0);
        check(folder.path(), Some(point), last);
    }
}

#[test]
fn what_was_acknowledged_outlives_a_kill_at_any_moment() {
    for enough in [1, 40, 90, 133] {
        let folder = tempfile::tempdir().expect("a directory");
        let last = life(folder.path(), None, enough);
        check(folder.path(), None, last);
    }
}

#[test]
fn one_process_at_a_time_holds_a_directory() {
    let folder = tempfile::tempdir().expect("a directory");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let first: Store = Store::open(config(folder.path())).await.expect("opens");
        let second = Store::<()>::open(config(folder.path())).await;
        let told = second.err().expect("it is held").to_string();
        assert!(told.contains("in use by another process"), "{told}");
        first.close().await;
        Store::<()>::open(config(folder.path())).await.expect("it is free").close().await;
    });
}

/// Not a test of its own: a process that meets a full disk, in the form of a limit to the size of its files.
#[test]
fn limited() {
    let Some(folder) = std::env::var_os(LIMITED) else { return };
    let limit = |bytes| {
        let limit = Rlimit { current: bytes, maximum: None };
        setrlimit(Resource::Fsize, limit).expect("below the hard limit");
    };
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let store: Store = Store::open(config(Path::new(&folder))).await.expect("opens");
        suite::put(&store, "/registry/full/before", "1").await;
        limit(Some(600));
        let big = || Txn::one(Write::create("/registry/full/big", vec![b'x'; 5000]));
        let refused = store.commit(big()).await;
        assert!(matches!(refused, Err(CommitError::Full { .. })), "{refused:?}");
        let trouble = store.trouble().expect("it is known");
        assert!(trouble.contains("full") && trouble.contains("log-"), "{trouble}");
        assert!(store.get("/registry/full/big").is_none() && store.get("/registry/full/before").is_some());
        limit(None);
        while store.trouble().is_some() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let revision = store.commit(big()).await.expect("there is room again");
        store.close().await;
        let store: Store = Store::open(config(Path::new(&folder))).await.expect("opens");
        assert_eq!(store.revision(), revision);
        assert!(store.get("/registry/full/big").is_some());
        store.close().await;
    });
    println!("\nlimited: done");
}

#[test]
fn a_full_disk_refuses_writes_until_there_is_room() {
    let folder = tempfile::tempdir().expect("a directory");
    // The kernel's signal would end the process before it sees the error.
    let mut command = Command::new("sh");
    command.args(["-c", "trap '' XFSZ; exec \"$0\" --exact limited --nocapture"]);
    command.arg(std::env::current_exe().expect("this test")).env(LIMITED, folder.path());
    let output = command.output().expect("starts");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("limited: done"), "{output:?}");
}
