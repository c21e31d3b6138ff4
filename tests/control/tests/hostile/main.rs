//! Bad input and bad luck, against a real `cleat control`: a `Status` with the right code, nothing acknowledged lost,
//! memory bounded, others served, and the next start clean.
#![allow(clippy::unwrap_used, reason = "a test fails where it stands")]

mod credentials;
mod crowd;
mod disk;
mod raw;
mod refusals;
mod slow;
mod watchers;

use std::path::Path;

use client::{Client, Config};
use lab::Control;
use proto_kube::{Resource, resource};
use serde_json::{Value, json};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

fn kind(plural: &str) -> &'static Resource {
    resource::find("", "v1", plural).unwrap()
}

fn client(control: &Control, agent: &str) -> Client {
    Client::new(&Config::load(&control.kubeconfig(), None).unwrap(), agent).unwrap()
}

fn config_map(name: &str, value: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"k": value}})
}

/// Off the runtime's threads, which must not block.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.unwrap()
}

/// The memory that a process alone is to be charged with, in MiB.
fn pss(control: &Control) -> u64 {
    let path = format!("/proc/{}/smaps_rollup", control.pid());
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let line = text.lines().find(|line| line.starts_with("Pss:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
}

/// Panics if a handler of the server has panicked, which a client sees as 500 only.
fn assert_no_panic(control: &Control) {
    let log = control.log();
    assert!(!log.contains("panicked"), "{log}");
}

/// Copies the files of a folder that has no folders.
fn copy_files(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for file in std::fs::read_dir(from).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), to.join(file.file_name())).unwrap();
    }
}
