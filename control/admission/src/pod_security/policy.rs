//! Levels, versions, and the labels of a namespace that name them.

use std::fmt;

use proto_kube::field::{self, Path};
use proto_kube::object;
use serde_json::Value;

/// The last version with a policy of its own.
const LATEST: u32 = 37;

/// From free to strict.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    Privileged,
    Baseline,
    Restricted,
}

/// A level as of a version of Kubernetes, `None` for the latest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mode {
    pub(super) level: Level,
    pub(super) version: Option<u32>,
}

/// What a namespace wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Policy {
    pub(super) enforce: Mode,
    pub(super) audit: Mode,
    pub(super) warn: Mode,
}

impl Mode {
    /// The minor version whose checks apply.
    pub(super) fn minor(self) -> u32 {
        self.version.unwrap_or(LATEST).min(LATEST)
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let level = match self.level {
            Level::Privileged => "privileged",
            Level::Baseline => "baseline",
            Level::Restricted => "restricted",
        };
        match self.version {
            None => write!(f, "{level}:latest"),
            Some(minor) => write!(f, "{level}:v1.{minor}"),
        }
    }
}

impl Policy {
    /// By a namespace's labels; also what is wrong with them. A wrong level is the strictest where it refuses, and the
    /// freest where it only tells.
    pub(super) fn of(namespace: &Value) -> (Self, field::Errors) {
        let mut faults = Vec::new();
        let free = Mode { level: Level::Privileged, version: None };
        let mut policy = Self { enforce: free, audit: free, warn: free };
        let label = |key: &str| object::labels(namespace).find(|(k, _)| *k == key).map(|(_, value)| value);
        let (mut enforced, mut warned, mut warn_version) = (false, false, false);
        for (name, mode) in
            [("enforce", &mut policy.enforce), ("audit", &mut policy.audit), ("warn", &mut policy.warn)]
        {
            let key = format!("pod-security.kubernetes.io/{name}");
            if let Some(value) = label(&key) {
                let level = level(value);
                enforced |= name == "enforce" && level.is_some();
                warned |= name == "warn";
                let wrong = if name == "enforce" { Level::Restricted } else { Level::Privileged };
                mode.level = level.unwrap_or(wrong);
                if level.is_none() {
                    faults.push(fault(&key, value, "must be one of privileged, baseline, restricted"));
                }
            }
            let key = format!("{key}-version");
            if let Some(value) = label(&key) {
                warn_version |= name == "warn";
                match version(value) {
                    Some(version) => mode.version = version,
                    None => faults.push(fault(&key, value, "must be \"latest\" or \"v1.x\"")),
                }
            }
        }
        // Who enforces a level wants to hear of it in time.
        if enforced && !warned && policy.enforce.level > policy.warn.level {
            policy.warn.level = policy.enforce.level;
            if !warn_version {
                policy.warn.version = policy.enforce.version;
            }
        }
        (policy, faults)
    }
}

fn fault(key: &str, value: &str, why: &str) -> field::Error {
    field::Error::invalid(&Path::new("metadata").child("labels").key(key), value, why)
}

fn level(text: &str) -> Option<Level> {
    match text {
        "privileged" => Some(Level::Privileged),
        "baseline" => Some(Level::Baseline),
        "restricted" => Some(Level::Restricted),
        _ => None,
    }
}

fn version(text: &str) -> Option<Option<u32>> {
    if text == "latest" {
        return Some(None);
    }
    let minor = text.strip_prefix("v1.")?;
    let plain = minor.bytes().all(|b| b.is_ascii_digit()) && (minor == "0" || !minor.starts_with('0'));
    minor.parse().ok().filter(|_| plain).map(Some)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn labels_name_the_modes() {
        for (labels, expected, faults) in [
            (json!({}), ["privileged:latest"; 3], 0),
            (json!({"enforce": "baseline"}), ["baseline:latest", "privileged:latest", "baseline:latest"], 0),
            (
                json!({"enforce": "restricted", "enforce-version": "v1.24"}),
                ["restricted:v1.24", "privileged:latest", "restricted:v1.24"],
                0,
            ),
            (
                json!({"enforce": "restricted", "warn": "baseline", "warn-version": "v1.0"}),
                ["restricted:latest", "privileged:latest", "baseline:v1.0"],
                0,
            ),
            (
                json!({"enforce": "baseline", "warn-version": "v1.9"}),
                ["baseline:latest", "privileged:latest", "baseline:v1.9"],
                0,
            ),
            (
                json!({"enforce": "x", "audit": "y", "warn": "z"}),
                ["restricted:latest", "privileged:latest", "privileged:latest"],
                3,
            ),
            (
                json!({"enforce": "baseline", "enforce-version": "v1.01"}),
                ["baseline:latest", "privileged:latest", "baseline:latest"],
                1,
            ),
            (json!({"audit-version": "1.2", "warn-version": "v2.0"}), ["privileged:latest"; 3], 2),
        ] {
            let labels: serde_json::Map<_, _> = labels
                .as_object()
                .unwrap()
                .iter()
                .map(|(k, v)| (format!("pod-security.kubernetes.io/{k}"), v.clone()))
                .collect();
            let (policy, found) = Policy::of(&json!({"metadata": {"labels": labels}}));
            assert_eq!(
                [policy.enforce, policy.audit, policy.warn].map(|m| m.to_string()),
                expected,
                "{labels:?}"
            );
            assert_eq!(found.len(), faults);
        }
    }
}
