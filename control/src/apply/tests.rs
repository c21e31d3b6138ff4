//! What an answer means for a change.

use super::*;

fn refused(code: u16, reason: &str, details: Value) -> ClientError {
    let status = json!({"reason": reason, "details": details});
    ClientError::Refused { code, reason: reason.to_owned(), message: "no".to_owned(), status }
}

fn key() -> controllers::Key {
    ("ns".to_owned(), "a".to_owned())
}

fn create() -> Mutation {
    Mutation::Create(of("", "pods"), json!({"metadata": {"namespace": "ns", "name": "a"}}))
}

fn delete() -> Mutation {
    Mutation::Delete(of("", "pods"), key(), json!({"preconditions": {"uid": "u"}}))
}

fn merge() -> Mutation {
    Mutation::Merge(of("", "pods"), key(), None, json!({}))
}

#[test]
fn answers_are_judged() {
    let conflict = || refused(409, "Conflict", Value::Null);
    let busy = || refused(429, "TooManyRequests", json!({"retryAfterSeconds": 7}));
    let broken = || refused(500, "InternalError", Value::Null);
    let state = |mutation, error| {
        let (expected, end) = judge(mutation, error);
        let state = match expected.map(|expected| expected.state) {
            None => "-".to_owned(),
            Some(State::Version(version)) => format!("version {version}"),
            Some(State::Gone(uid)) => format!("gone {uid}"),
            Some(State::Unknown) => "unknown".to_owned(),
        };
        let end = match end {
            End::Done => "done".to_owned(),
            End::Again(least) => format!("again {}", least.as_secs()),
            End::Refused(refused) => format!("refused {}", refused.status.reason),
        };
        format!("{state}, {end}")
    };
    assert_eq!(state(create(), refused(409, "AlreadyExists", Value::Null)), "version 0, done");
    assert_eq!(state(create(), conflict()), "-, again 0");
    assert_eq!(state(create(), busy()), "-, again 7");
    assert_eq!(state(create(), broken()), "unknown, again 0");
    assert_eq!(state(create(), refused(403, "Forbidden", Value::Null)), "-, refused Forbidden");
    assert_eq!(state(create(), refused(404, "NotFound", Value::Null)), "-, refused NotFound");
    assert_eq!(state(delete(), refused(404, "NotFound", Value::Null)), "gone u, done");
    assert_eq!(state(delete(), conflict()), "unknown, again 0");
    assert_eq!(state(merge(), refused(404, "NotFound", Value::Null)), "unknown, again 0");
    assert_eq!(state(merge(), refused(422, "Invalid", Value::Null)), "-, refused Invalid");
}

#[test]
fn what_is_alike_stands_together() {
    let steps = |mutations: Vec<Mutation>| -> VecDeque<Step> {
        mutations.into_iter().map(|m| Step { change: Some(m), events: Vec::new() }).collect()
    };
    assert_eq!(alike(&steps(vec![create(), create(), delete()])), 2);
    assert_eq!(alike(&steps(vec![delete(), create()])), 1);
    assert_eq!(alike(&steps(vec![merge(), merge()])), 1);
}
