//! The transcripts of upstream, replayed on our API server.
#![allow(clippy::unwrap_used)]

use std::path::Path;

use control_tests::transcript;
use lab::Control;

/// The transcripts tell of an API server with these controllers alone; what the others make of objects is no part of them.
const CONTROLLERS: &str = "--controllers=service-account-controller,root-ca-cert-publisher,\
                           clusterrole-aggregation-controller,namespace-controller";

/// Replays `transcripts/<name>.txt` and shows every step that came out differently.
fn replay(name: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("transcripts").join(format!("{name}.txt"));
    let text = std::fs::read_to_string(&file).unwrap();
    let control = Control::start_with(&[CONTROLLERS]).unwrap();
    let path = transcript::path().unwrap();
    let steps = transcript::parse(&text);
    assert!(!steps.is_empty(), "{} has no steps", file.display());
    let mut differing = String::new();
    for step in &steps {
        let mut client = control.client("sh".as_ref());
        client.env("PATH", &path);
        let printed = transcript::run(client, &step.command).unwrap();
        if !same(&printed, &step.output) {
            differing += &format!("$ {}\n--- upstream\n{}--- cleat\n{printed}\n", step.command, step.output);
        }
    }
    assert!(differing.is_empty(), "{name}: not as upstream:\n{differing}\nlog:\n{}", control.log());
}

/// Whether ours is upstream's; a refusal of ours goes on to say what would allow it.
fn same(ours: &str, upstream: &str) -> bool {
    let refused =
        |ours: &str, upstream: &str| upstream.contains("forbidden: User") && ours.starts_with(upstream);
    let (mut ours, mut upstream) = (ours.lines(), upstream.lines());
    loop {
        match (ours.next(), upstream.next()) {
            (None, None) => return true,
            (Some(a), Some(b)) if a == b || refused(a, b) => {}
            _ => return false,
        }
    }
}

macro_rules! transcripts {
    ($($name:ident),* $(,)?) => { $(#[test] fn $name() { replay(stringify!($name)); })* };
}

transcripts!(
    access, apply, basics, changes, discovery, helm, limits, lists, objects, patch, pods, rollouts, services,
    workloads,
);
