//! The audit log: one line of JSON a request, an `audit.k8s.io/v1` Event.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;
use proto_kube::{User, decode};
use serde_json::{Value, json};

use crate::info::RequestInfo;

/// A log that is open.
#[derive(Debug)]
pub struct Log(Mutex<File>);

/// What one line tells.
#[derive(Debug)]
pub struct Event<'a> {
    /// The request's identifier, as its answer's `Audit-Id` has it.
    pub id: &'a str,
    /// Path and query.
    pub uri: &'a str,
    /// What the request is about.
    pub info: &'a RequestInfo,
    /// Who sent it.
    pub user: &'a User,
    /// As whom, if as somebody else.
    pub impersonated: Option<&'a User>,
    /// From where.
    pub address: std::net::IpAddr,
    /// With which program.
    pub user_agent: &'a str,
    /// The status code of the answer.
    pub code: u16,
    /// `allow` or `forbid`, and why; nothing when it was not known who asks.
    pub decision: Option<(&'a str, &'a str)>,
    /// When it came.
    pub received: Timestamp,
    /// When it was answered.
    pub answered: Timestamp,
}

impl Log {
    /// Opens a log to add to; only its owner may read it.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn open(path: &Path) -> std::io::Result<Self> {
        use std::os::unix::fs::OpenOptionsExt as _;
        File::options().create(true).append(true).mode(0o600).open(path).map(|file| Self(Mutex::new(file)))
    }

    /// Adds a line.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, event: &Event<'_>) -> std::io::Result<()> {
        let mut line = event.to_json().to_string();
        line.push('\n');
        // One write a line: lines of several processes do not mix.
        self.0.lock().unwrap_or_else(PoisonError::into_inner).write_all(line.as_bytes())
    }
}

impl Event<'_> {
    /// The API object.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let mut event = json!({
            "kind": "Event", "apiVersion": "audit.k8s.io/v1", "level": "Metadata", "auditID": self.id,
            "stage": "ResponseComplete", "requestURI": self.uri, "verb": self.info.verb,
            "user": user_info(self.user), "sourceIPs": [self.address.to_string()],
            "responseStatus": {"metadata": {}, "code": self.code},
            "requestReceivedTimestamp": decode::micro_time(self.received), "stageTimestamp": decode::micro_time(self.answered),
        });
        if let Some((decision, why)) = self.decision {
            event["annotations"] =
                json!({"authorization.k8s.io/decision": decision, "authorization.k8s.io/reason": why});
        }
        if let Some(user) = self.impersonated {
            event["impersonatedUser"] = user_info(user);
        }
        if !self.user_agent.is_empty() {
            event["userAgent"] = self.user_agent.into();
        }
        if let Some(target) = &self.info.target {
            let mut reference = json!({"resource": target.resource, "apiVersion": target.version});
            for (key, text) in [
                ("namespace", &target.namespace),
                ("name", &target.name),
                ("apiGroup", &target.group),
                ("subresource", &target.subresource),
            ] {
                if !text.is_empty() {
                    reference[key] = text.as_str().into();
                }
            }
            event["objectRef"] = reference;
        }
        event
    }
}

/// A user, as `authentication/v1 UserInfo`.
#[must_use]
pub fn user_info(user: &User) -> Value {
    let mut info = json!({"username": user.name, "groups": user.groups});
    if !user.uid.is_empty() {
        info["uid"] = user.uid.as_str().into();
    }
    if !user.extra.is_empty() {
        info["extra"] = json!(user.extra);
    }
    info
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::query::Query;

    #[test]
    fn a_line_is_an_event() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit.log");
        let log = Log::open(&path).unwrap();
        let info = RequestInfo::new("DELETE", "/apis/apps/v1/namespaces/a/deployments/d", &Query::default());
        let user = User { name: "jane".into(), groups: vec!["dev".into()], ..User::default() };
        let event = Event {
            id: "1",
            uri: "/apis/apps/v1/namespaces/a/deployments/d?x",
            info: &info,
            user: &user,
            impersonated: None,
            address: [127, 0, 0, 1].into(),
            user_agent: "kubectl",
            code: 403,
            decision: Some(("forbid", "no rule")),
            received: "2026-11-21T00:00:00.5Z".parse().unwrap(),
            answered: "2026-11-21T00:00:01Z".parse().unwrap(),
        };
        log.write(&event).unwrap();
        log.write(&event).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<Value> = text.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[0]["objectRef"]["apiGroup"], "apps");
        assert_eq!(lines[0]["requestReceivedTimestamp"], "2026-11-21T00:00:00.500000Z");
        assert_eq!(lines[0]["responseStatus"]["code"], 403);
    }
}
