//! `/healthz`, `/livez`, `/readyz`: is the server alive, and may clients come.

use std::fmt::Write as _;
use std::time::Duration;

use crate::query::Query;
use crate::reply::{self, Response};
use crate::server::Server;

/// How long the store may take to answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// A check and whether it holds.
#[derive(Debug, Clone, Copy)]
pub struct Check {
    /// As `etcd`.
    pub name: &'static str,
    /// Why it does not; nothing when it does.
    pub fault: Option<&'static str>,
}

/// The checks of one of the three paths. Only readiness looks at whether the server is about to go.
#[must_use]
pub async fn checks(server: &Server, path: &str) -> Vec<Check> {
    let store = tokio::time::timeout(PATIENCE, server.store.current()).await;
    let check = |name, right: bool, fault| Check { name, fault: (!right).then_some(fault) };
    let mut all = vec![
        check("ping", true, ""),
        check("log", true, ""),
        check("etcd", matches!(store, Ok(Ok(_))), "the store does not answer"),
    ];
    if path != "livez" {
        let begun = server.is_ready();
        all.push(check(
            "poststarthook/rbac/bootstrap-roles",
            begun,
            "the bootstrap policy is not written yet",
        ));
        all.push(check(
            "poststarthook/start-service-ip-repair-controllers",
            begun,
            "the kubernetes Service is not written yet",
        ));
    }
    if path == "readyz" {
        all.push(check("etcd-readiness", server.store.trouble().is_none(), "the store takes no writes"));
        all.push(check("shutdown", !server.ends.is_cancelled(), "process is shutting down"));
    }
    all
}

/// The answer at `/<path>` or, with `one`, at `/<path>/<one>`.
#[must_use]
pub fn answer(path: &str, one: Option<&str>, checks: &[Check], query: &Query) -> Response {
    if let Some(one) = one {
        return match checks.iter().find(|c| c.name == one) {
            None => reply::no_such_page(),
            Some(Check { fault: None, .. }) => reply::text(200, "ok"),
            Some(Check { fault: Some(fault), .. }) => {
                reply::text(500, format!("internal server error: {fault}\n"))
            }
        };
    }
    let excluded: Vec<&str> = query.all("exclude").collect();
    let (mut text, mut failed) = (String::new(), false);
    for check in checks {
        let line = match check.fault {
            _ if excluded.contains(&check.name) => format!("[+]{} excluded: ok\n", check.name),
            None => format!("[+]{} ok\n", check.name),
            Some(_) => {
                failed = true;
                format!("[-]{} failed: reason withheld\n", check.name)
            }
        };
        text += &line;
    }
    for name in excluded.iter().filter(|name| !checks.iter().any(|c| c.name == **name)) {
        let _ = writeln!(text, "warn: some health checks cannot be excluded: no matches for {name:?}");
    }
    match (failed, query.get("verbose").is_some()) {
        (true, _) => reply::text(500, format!("{text}{path} check failed\n")),
        (false, true) => reply::text(200, format!("{text}{path} check passed\n")),
        (false, false) => reply::text(200, "ok"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers() {
        let good = Check { name: "ping", fault: None };
        let bad = Check { name: "etcd", fault: Some("it is gone") };
        for (checks, one, query, code) in [
            (&[good][..], None, "", 200),
            (&[good, bad], None, "", 500),
            (&[good, bad], None, "exclude=etcd", 200),
            (&[good, bad], Some("ping"), "", 200),
            (&[good, bad], Some("etcd"), "", 500),
            (&[good, bad], Some("nope"), "", 404),
            (&[good], None, "verbose", 200),
        ] {
            let found = answer("readyz", one, checks, &Query::parse(query)).status().as_u16();
            assert_eq!(found, code, "{one:?} {query}");
        }
    }
}
