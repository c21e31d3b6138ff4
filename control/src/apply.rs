//! Does what a controller has decided, and tells what the cache must show before it decides again.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use client::{Client, ClientError, Patch, Query};
use controllers::{Condition, Mutation};
use http::Method;
use jiff::Timestamp;
use proto_kube::{GroupResource, Resource, Status, object, resource};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::answer::{End, gone, judge, unknown};
use crate::correlate::Said;
use crate::pending::Expected;
use crate::queue;
use crate::record::Recorder;
use crate::sign::{self, Signing};

/// So many creations or deletions are under way together at most; there are fewer until the first have succeeded.
const TOGETHER_MAX: usize = 64;
/// How often a creation is asked for that the server fails to answer with yes or no.
const TRIES: u32 = 6;
const WAIT_MIN: Duration = Duration::from_millis(100);
const WAIT_MAX: Duration = Duration::from_secs(10);

/// In whose name and with what a controller acts.
pub(crate) struct Hand {
    pub(crate) name: &'static str,
    pub(crate) client: Client,
    pub(crate) recorder: Recorder,
    pub(crate) signer: Option<Signing>,
    /// What the controller reads: only of this the cache can show anything.
    pub(crate) reads: Vec<GroupResource<'static>>,
}

/// A change, and what is told when it has happened.
struct Step {
    change: Option<Mutation>,
    events: Vec<Said>,
}

impl Hand {
    /// Makes the changes in their order. Creations that stand together are made side by side, as deletions are: first one,
    /// then two, then four, so that what fails for all fails once.
    pub(crate) async fn apply(self: Arc<Self>, mutations: Vec<Mutation>) -> (Vec<Expected>, End) {
        let (mut steps, mut shown, mut together) = (self.steps(mutations), Vec::new(), 1);
        while !steps.is_empty() {
            let batch = steps.drain(..alike(&steps).min(together)).collect::<Vec<_>>();
            let mut under_way = JoinSet::new();
            for step in batch {
                let hand = self.clone();
                under_way.spawn(async move { hand.step(step).await });
            }
            let mut end = End::Done;
            while let Some(joined) = under_way.join_next().await {
                // A step that panicked is one whose outcome nobody knows; the panic has been logged.
                let (expected, how) = joined.unwrap_or((None, End::Again(Duration::ZERO)));
                shown.extend(expected.filter(|e| self.reads.contains(&e.id.0.group_resource())));
                if !matches!(end, End::Refused(_)) && !matches!(how, End::Done) {
                    end = how;
                }
            }
            if !matches!(end, End::Done) {
                return (shown, end);
            }
            together = (together * 2).min(TOGETHER_MAX);
        }
        (shown, End::Done)
    }

    fn steps(&self, mutations: Vec<Mutation>) -> VecDeque<Step> {
        let mut steps: VecDeque<Step> = VecDeque::new();
        for mutation in mutations {
            match mutation {
                Mutation::Event(regarding, kind, reason, message) => {
                    let source = self.name.to_owned();
                    let said = Said { regarding, kind, reason, message, source, action: None };
                    match steps.back_mut() {
                        Some(step) => step.events.push(said),
                        None => steps.push_back(Step { change: None, events: vec![said] }),
                    }
                }
                change => steps.push_back(Step { change: Some(change), events: Vec::new() }),
            }
        }
        steps
    }

    async fn step(&self, step: Step) -> (Option<Expected>, End) {
        let (expected, end) = match step.change {
            Some(change) => self.change(change).await,
            None => (None, End::Done),
        };
        if matches!(end, End::Done) {
            step.events.into_iter().for_each(|said| self.recorder.say(self.name, said));
        }
        (expected, end)
    }

    async fn change(&self, mutation: Mutation) -> (Option<Expected>, End) {
        let mut tries = 0;
        loop {
            let error = match self.send(&mutation).await {
                Ok(Some(expected)) => return (expected, End::Done),
                Ok(None) => return (None, End::Again(Duration::ZERO)),
                Err(error) => error,
            };
            tries += 1;
            let unanswered = error.code().is_none();
            let is_creation = matches!(mutation, Mutation::Create(..));
            if !(is_creation && is_uncertain(&error) && (unanswered || tries < TRIES)) {
                tracing::debug!(controller = self.name, %error, "a change is not made");
                return judge(mutation, status(&error));
            }
            // It may have been made: only the same name tells.
            let wait = queue::backoff(tries).saturating_mul(20).clamp(WAIT_MIN, WAIT_MAX);
            tokio::time::sleep(wait).await;
        }
    }

    /// Asks the server for the change. Gives what the cache must show afterwards, or nothing where a condition does not
    /// hold.
    async fn send(&self, mutation: &Mutation) -> Result<Option<Option<Expected>>, ClientError> {
        let none = Query::default;
        let written = |resource, object: &Value| Some(Some(Expected::written(resource, object)));
        Ok(match mutation {
            Mutation::Create(resource, object) => {
                let made = self.client.create(resource, object::namespace(object), object, none()).await?;
                written(resource, &made)
            }
            Mutation::Update(resource, subresource, object) => {
                let made = self.client.update(resource, *subresource, object, none()).await?;
                written(resource, &made)
            }
            Mutation::Merge(resource, (namespace, name), subresource, patch) => {
                let place = (*resource, namespace.as_str(), name.as_str());
                let made = self.client.patch(place, *subresource, (Patch::Merge, patch), none()).await?;
                written(resource, &made)
            }
            Mutation::Delete(resource, (namespace, name), options) => {
                self.client.delete(resource, namespace, name, options).await?;
                Some(gone(mutation, options))
            }
            Mutation::Post(resource, (namespace, name), subresource, body) => {
                let path = format!("{}/{subresource}", resource.path(namespace, name));
                let body = Some(("application/json", body.to_string().into()));
                self.client.call(Method::POST, &path, body).await?;
                Some(unknown(mutation))
            }
            Mutation::Clear(resource, namespace) => {
                self.client.call(Method::DELETE, &resource.path(namespace, ""), None).await?;
                Some(None)
            }
            Mutation::If(condition) => self.holds(condition).await?.then_some(None),
            Mutation::Sign(request) => {
                let signed = self.signer.as_ref().and_then(|by| sign::signed(by, request, Timestamp::now()));
                let Some((resource, object)) = signed else { return Ok(Some(None)) };
                let made = self.client.update(resource, Some("status"), &object, none()).await?;
                written(resource, &made)
            }
            Mutation::Token(secret) => {
                let (resource, made) = self.fill(secret).await?;
                written(resource, &made)
            }
            Mutation::Event(..) => Some(None),
        })
    }

    async fn holds(&self, condition: &Condition) -> Result<bool, ClientError> {
        match condition {
            Condition::Absent(resource, (namespace, name), _) if name.is_empty() => {
                let list = self.client.list(resource, namespace, Query::default().with("limit", "1")).await?;
                Ok(object::items(&list, &["items"]).next().is_none())
            }
            Condition::Absent(resource, (namespace, name), uid) => {
                match self.client.get(resource, namespace, name).await {
                    Ok(found) => Ok(uid.as_ref().is_some_and(|uid| uid != object::uid(&found))),
                    Err(error) if error.code() == Some(404) => Ok(true),
                    Err(error) => Err(error),
                }
            }
            Condition::Allowed(spec) => {
                let review = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": spec});
                let reviews = of("authorization.k8s.io", "subjectaccessreviews");
                let answer = self.client.create(reviews, "", &review, Query::default()).await?;
                Ok(answer["status"]["allowed"] == true)
            }
        }
    }

    /// Fills the secret of a service account's token.
    async fn fill(&self, secret: &Value) -> Result<(&'static Resource, Value), ClientError> {
        let (namespace, name) = (object::namespace(secret), object::name(secret));
        let account = object::annotations(secret)
            .find_map(|(key, value)| (key == "kubernetes.io/service-account.name").then_some(value))
            .unwrap_or_default();
        let path = format!("{}/token", of("", "serviceaccounts").path(namespace, account));
        let bound = json!({"apiVersion": "v1", "kind": "Secret", "name": name, "uid": object::uid(secret)});
        let request = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
            "spec": {"audiences": [], "expirationSeconds": u32::MAX, "boundObjectRef": bound}});
        let body = Some(("application/json", request.to_string().into()));
        let answer = self.client.call(Method::POST, &path, body).await?;
        let meta =
            json!({"uid": object::uid(secret), "resourceVersion": secret["metadata"]["resourceVersion"]});
        let patch = json!({"metadata": meta, "stringData": {"token": answer["status"]["token"]}});
        let secrets = of("", "secrets");
        let place = (secrets, namespace, name);
        Ok((secrets, self.client.patch(place, None, (Patch::Merge, &patch), Query::default()).await?))
    }
}

/// How many steps at the front are creations, or deletions; one where they are neither.
fn alike(steps: &VecDeque<Step>) -> usize {
    let sort = |step: &Step| match step.change {
        Some(Mutation::Create(..)) => 1,
        Some(Mutation::Delete(..)) => 2,
        _ => 0,
    };
    let first = steps.front().map_or(0, sort);
    steps.iter().take_while(|step| first != 0 && sort(step) == first).count().max(1)
}

/// The answer, if there was one.
fn status(error: &ClientError) -> Option<Status> {
    let ClientError::Refused { code, status, .. } = error else { return None };
    Some(Status::of_answer(*code, status, &error.to_string()))
}

/// Whether the server may have made the change all the same.
fn is_uncertain(error: &ClientError) -> bool {
    error.code().is_none_or(|code| code >= 500)
}

/// A resource that is known to be there.
pub(crate) fn of(group: &str, plural: &str) -> &'static Resource {
    resource::find(group, "v1", plural).expect("it is in the catalogue")
}

#[cfg(test)]
mod tests;
