//! The places where a test has the server killed to show that the next one finishes or undoes what was begun.

/// All of them, in the order a pod's life passes them.
pub const CRASH_POINTS: &[&str] = &[
    "sandbox.recorded",
    "sandbox.prepared",
    "sandbox.spawned",
    "sandbox.networked",
    "sandbox.ready",
    "container.recorded",
    "container.snapshotted",
    "container.bundled",
    "container.made",
    "container.created",
    "container.starting",
    "container.started",
    "container.signalled",
    "container.exited",
    "container.removing",
    "container.remove.deleted",
    "container.remove.bundle",
    "container.remove.snapshot",
    "container.removed",
    "sandbox.stopping",
    "sandbox.stop.detached",
    "sandbox.stop.monitor-ended",
    "sandbox.stopped",
    "sandbox.removing",
    "sandbox.remove.directory",
    "sandbox.removed",
];

/// Dies here if the environment says so; see [`linux::crash`].
pub(crate) fn point(name: &'static str) {
    debug_assert!(CRASH_POINTS.contains(&name), "{name} is not listed");
    linux::crash::point(name);
}
