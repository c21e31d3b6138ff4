//! What an answer of the server means for a change that a controller wants.

use std::time::Duration;

use controllers::{Mutation, Refused};
use proto_kube::{Status, object};
use serde_json::Value;

use crate::pending::{Expected, Id, State};

/// How a round ended.
#[derive(Debug)]
pub enum End {
    /// All is done.
    Done,
    /// The rest was left: the world has moved on, or the server is in trouble. Not to be tried again before this time.
    Again(Duration),
    /// The rest was left: the server has something against a change.
    Refused(Box<Refused>),
}

/// What the cache must show after an answer other than yes, and how the round ends; `None` is no answer at all.
#[must_use]
pub fn judge(mutation: Mutation, answer: Option<Status>) -> (Option<Expected>, End) {
    let again = End::Again(Duration::ZERO);
    let Some(status) = answer else { return (unknown(&mutation), again) };
    match (status.code, &mutation) {
        (409, Mutation::Create(..)) if status.reason == "AlreadyExists" => {
            (target(&mutation).map(|id| Expected { id, state: State::Version(0) }), End::Done)
        }
        (404, Mutation::Delete(_, _, options)) => (gone(&mutation, options), End::Done),
        // What the decision was made on has changed: the cache is behind, as it may be.
        (409, Mutation::Create(..)) => (None, again),
        (404 | 409, _) if !matches!(mutation, Mutation::Create(..)) => (unknown(&mutation), again),
        (429, _) => {
            let seconds = object::at(&status.details, &["retryAfterSeconds"]).and_then(Value::as_u64);
            (None, End::Again(Duration::from_secs(seconds.unwrap_or(1))))
        }
        (500.., _) => (unknown(&mutation), again),
        _ => (None, End::Refused(Box::new(Refused { mutation, status }))),
    }
}

/// What a mutation changes, where that is one object.
#[must_use]
pub fn target(mutation: &Mutation) -> Option<Id> {
    match mutation {
        Mutation::Create(resource, object) | Mutation::Update(resource, _, object) => {
            Some((resource, object::namespace(object).to_owned(), object::name(object).to_owned()))
        }
        Mutation::Merge(resource, (namespace, name), ..)
        | Mutation::Delete(resource, (namespace, name), _)
        | Mutation::Post(resource, (namespace, name), ..) => {
            Some((resource, namespace.clone(), name.clone()))
        }
        _ => None,
    }
}

/// Whatever the server has made of it.
#[must_use]
pub fn unknown(mutation: &Mutation) -> Option<Expected> {
    target(mutation).map(|id| Expected { id, state: State::Unknown })
}

/// That what was to be deleted is gone, or going.
#[must_use]
pub fn gone(mutation: &Mutation, options: &Value) -> Option<Expected> {
    let uid = object::text(options, &["preconditions", "uid"]).to_owned();
    target(mutation).map(|id| Expected { id, state: State::Gone(uid) })
}

#[cfg(test)]
mod tests {
    use proto_kube::{GroupResource, resource};
    use serde_json::json;

    use super::*;

    fn mutations() -> [Mutation; 3] {
        let of = GroupResource { group: "", resource: "pods" };
        let (pods, key) = (resource::preferred(of).unwrap(), ("ns".to_owned(), "a".to_owned()));
        [
            Mutation::Create(pods, json!({"metadata": {"namespace": "ns", "name": "a"}})),
            Mutation::Delete(pods, key.clone(), json!({"preconditions": {"uid": "u"}})),
            Mutation::Merge(pods, key, None, json!({})),
        ]
    }

    fn judged(mutation: &Mutation, code: u16, reason: &str) -> String {
        let body = json!({"reason": reason, "details": {"retryAfterSeconds": 7}});
        let (expected, end) = judge(mutation.clone(), Some(Status::of_answer(code, &body, "no")));
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
    }

    #[test]
    fn answers_are_judged() {
        let [create, delete, merge] = mutations();
        assert_eq!(judged(&create, 409, "AlreadyExists"), "version 0, done");
        assert_eq!(judged(&create, 409, "Conflict"), "-, again 0");
        assert_eq!(judged(&create, 429, "TooManyRequests"), "-, again 7");
        assert_eq!(judged(&create, 500, "InternalError"), "unknown, again 0");
        assert_eq!(judged(&create, 403, "Forbidden"), "-, refused Forbidden");
        assert_eq!(judged(&create, 404, "NotFound"), "-, refused NotFound");
        assert_eq!(judged(&delete, 404, "NotFound"), "gone u, done");
        assert_eq!(judged(&delete, 409, "Conflict"), "unknown, again 0");
        assert_eq!(judged(&merge, 404, "NotFound"), "unknown, again 0");
        assert_eq!(judged(&merge, 422, "Invalid"), "-, refused Invalid");
    }
}
