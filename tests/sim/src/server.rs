//! The API server of the model: what it has, what it has told its watchers, and how it answers when it is in trouble.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use control::answer::{gone, target, unknown};
use control::pending::{Expected, State};
use controllers::{Key, Mutation, Objects};
use fastrand::Rng;
use jiff::Timestamp;
use proto_kube::view::View as _;
use proto_kube::{GroupResource, Resource, Status, object, pod, resource};
use serde_json::Value;

use crate::laws;
use crate::time::Now;

/// A resource by its group and plural.
pub(crate) type Of = (&'static str, &'static str);

/// The resource of this group and name.
pub(crate) fn served(group: &str, plural: &str) -> &'static Resource {
    resource::preferred(GroupResource { group, resource: plural }).expect("it is in the catalogue")
}

/// An object's namespace and name.
pub(crate) fn key(object: &Value) -> Key {
    (object::namespace(object).to_owned(), object::name(object).to_owned())
}

/// What a watcher is told.
#[derive(Debug, Clone)]
pub(crate) struct Change {
    pub(crate) resource: &'static Resource,
    pub(crate) old: Option<Arc<Value>>,
    pub(crate) new: Option<Arc<Value>>,
}

/// No success.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// The connection broke: done or not, nobody knows.
    Unanswered,
    /// The answer was no.
    Status(Status),
}

impl Trouble {
    /// The answer, if there was one.
    pub(crate) fn status(self) -> Option<Status> {
        match self {
            Self::Unanswered => None,
            Self::Status(status) => Some(status),
        }
    }
}

/// What an answer says, in a word or two.
pub(crate) fn said<T>(answer: &Result<T, Trouble>) -> String {
    match answer {
        Ok(_) => "yes".to_owned(),
        Err(Trouble::Unanswered) => "no answer".to_owned(),
        Err(Trouble::Status(status)) => format!("{} {}", status.code, status.message),
    }
}

/// What an answer gives: what the caller's cache must show afterwards, and nothing where a condition does not hold.
pub(crate) type Answer = Result<Option<Option<Expected>>, Trouble>;

/// The server.
#[derive(Default)]
pub(crate) struct Server {
    pub(crate) objects: Objects,
    /// All that has happened to each resource, and where that of which is.
    logs: Vec<Vec<Change>>,
    places: BTreeMap<Of, usize>,
    /// What has happened since the laws were looked at.
    pub(crate) fresh: Vec<Change>,
    /// How many of a hundred requests go wrong.
    pub(crate) trouble: u32,
    /// The longest that an answer takes, in milliseconds.
    pub(crate) slowness: u64,
    /// Writes that nobody waits for any more, and that are made all the same: when, by whom.
    late: Vec<(Duration, String, Mutation)>,
    /// The objects that were made by such a write, by uid.
    pub(crate) made_late: BTreeSet<String>,
    /// A law that a request has broken.
    pub(crate) broken: Option<String>,
    /// Each step in words, if somebody reads them.
    pub(crate) words: Option<Vec<String>>,
    /// When the step is.
    pub(crate) now: Duration,
}

impl Server {
    pub(crate) fn get(&self, of: Of, namespace: &str, name: &str) -> Option<Arc<Value>> {
        self.objects.get(GroupResource { group: of.0, resource: of.1 }, namespace, name)
    }

    pub(crate) fn list(&self, of: Of) -> Vec<Arc<Value>> {
        self.objects.list(GroupResource { group: of.0, resource: of.1 }, "")
    }

    /// Where the log of a resource is.
    pub(crate) fn place(&mut self, of: Of) -> usize {
        let new = self.logs.len();
        let place = *self.places.entry(of).or_insert(new);
        if place == new {
            self.logs.push(Vec::new());
        }
        place
    }

    /// What has happened to a resource.
    pub(crate) fn log(&self, place: usize) -> &[Change] {
        &self.logs[place]
    }

    /// Notes what happens.
    pub(crate) fn say(&mut self, line: impl FnOnce() -> String) {
        if let Some(words) = &mut self.words {
            words.push(format!("{:>9.3} {}", self.now.as_secs_f64(), line()));
        }
    }

    /// A request, which may go wrong.
    pub(crate) fn ask(&mut self, by: &str, mutation: &Mutation, now: Now, rng: &mut Rng) -> Answer {
        let answer = self.answer(by, mutation, now, rng);
        self.say(|| format!("{by}: {} -> {}", words(mutation), said(&answer)));
        answer
    }

    fn answer(&mut self, by: &str, mutation: &Mutation, now: Now, rng: &mut Rng) -> Answer {
        if self.trouble == 0 || rng.u32(..100) >= self.trouble {
            return self.apply(by, mutation, now.clock).map_err(Trouble::Status);
        }
        let status = match rng.u8(..7) {
            0 => Status::internal("a fault"),
            1 => Status::too_many_requests("a fault", 1),
            2 => Status::unavailable("a fault"),
            3 if !matches!(mutation, Mutation::Create(..) | Mutation::If(_)) => {
                let of = GroupResource { group: "", resource: "faults" };
                Status::conflict(of, "", "the object has been modified")
            }
            4 => return Err(Trouble::Unanswered),
            // A binding that comes late takes room that was given to another meanwhile: nobody can help that.
            5 if !matches!(mutation, Mutation::Post(..)) => {
                let at = now.since + Duration::from_millis(rng.u64(..3000));
                self.late.push((at, by.to_owned(), mutation.clone()));
                return Err(Trouble::Unanswered);
            }
            _ => {
                let _ = self.apply(by, mutation, now.clock);
                return Err(Trouble::Unanswered);
            }
        };
        Err(Trouble::Status(status))
    }

    /// How long the answer to a request takes.
    pub(crate) fn takes(&self, rng: &mut Rng) -> Duration {
        Duration::from_millis(rng.u64(..=self.slowness))
    }

    /// A process ends, and its connections with it: what it has asked for is not done any more.
    pub(crate) fn hang_up(&mut self) {
        self.late.clear();
    }

    /// When the next late write is made.
    pub(crate) fn late_at(&self) -> Option<Duration> {
        self.late.iter().map(|(at, ..)| *at).min()
    }

    /// Makes the late writes whose time has come.
    pub(crate) fn make_late(&mut self, now: Now) {
        let (due, rest) = std::mem::take(&mut self.late).into_iter().partition(|(at, ..)| *at <= now.since);
        self.late = rest;
        let due: Vec<(Duration, String, Mutation)> = due;
        for (_, by, mutation) in due {
            let found =
                target(&mutation).and_then(|(of, ns, name)| self.get((of.group, of.plural), &ns, &name));
            // An older status would give a pod that has ended its room back: nobody can help that.
            let brings_back = |found: &Value| {
                let comes_back = |patch: &Value| laws::comes_back(found, &patch["status"]).is_some();
                pod::has_ended(found)
                    || matches!(&mutation, Mutation::Merge(.., Some("status"), patch) if comes_back(patch))
            };
            if found.is_some_and(|found| found["kind"] == "Pod" && brings_back(&found)) {
                continue;
            }
            let is_made = self.apply(&by, &mutation, now.clock).is_ok();
            if let (true, Mutation::Create(resource, new)) = (is_made, &mutation) {
                let made =
                    self.get((resource.group, resource.plural), object::namespace(new), object::name(new));
                self.made_late.extend(made.map(|made| object::uid(&made).to_owned()));
            }
            self.say(|| format!("{by}, late: {} -> {is_made}", words(&mutation)));
        }
    }

    /// Does what a mutation asks for.
    pub(crate) fn apply(
        &mut self,
        by: &str,
        mutation: &Mutation,
        now: Timestamp,
    ) -> Result<Option<Option<Expected>>, Status> {
        if by == laws::COLLECTOR
            && let Err(broken) = laws::no_living_owner(self, mutation)
        {
            self.broken.get_or_insert(broken);
        }
        self.may_bind(mutation)?;
        if let Mutation::Clear(resource, namespace) = mutation {
            for object in self.objects.list(resource.group_resource(), namespace) {
                self.apply(by, &Mutation::Delete(resource, key(&object), Value::Null), now)?;
            }
            return Ok(Some(None));
        }
        let Some((resource, namespace, name)) = target(mutation) else {
            return match self.objects.apply(mutation, now) {
                Err(_) if matches!(mutation, Mutation::If(_)) => Ok(None),
                result => result.map(|()| Some(None)),
            };
        };
        let of = resource.group_resource();
        let old = self.objects.get(of, &namespace, &name);
        self.objects.apply(mutation, now)?;
        let new = self.objects.get(of, &namespace, &name);
        let same = match (&old, &new) {
            (Some(old), Some(new)) => Arc::ptr_eq(old, new),
            (None, None) => true,
            _ => false,
        };
        if !same {
            let change = Change { resource, old: old.clone(), new: new.clone() };
            let place = self.place((resource.group, resource.plural));
            self.logs[place].push(change.clone());
            self.fresh.push(change);
        }
        let uid = || old.as_deref().map_or("", object::uid).to_owned();
        Ok(Some(match (mutation, new) {
            (Mutation::Delete(_, _, options), _) => gone(mutation, options),
            (Mutation::Post(..), _) => unknown(mutation),
            (_, Some(new)) => Some(Expected::written(resource, &new)),
            (_, None) => Some(Expected { id: (resource, namespace, name), state: State::Gone(uid()) }),
        }))
    }

    /// A pod is bound once, and to stay: what the server sees to, not its objects.
    fn may_bind(&self, mutation: &Mutation) -> Result<(), Status> {
        let Mutation::Post(resource, (namespace, name), "binding", body) = mutation else { return Ok(()) };
        let Some(pod) = self.objects.get(resource.group_resource(), namespace, name) else { return Ok(()) };
        let bound = !object::text(&pod, &["spec", "nodeName"]).is_empty();
        let other = object::text(body, &["metadata", "uid"]) != object::uid(&pod);
        if bound || other || object::is_terminating(&pod) {
            return Err(Status::conflict(resource.group_resource(), name, "it cannot be bound"));
        }
        Ok(())
    }
}

/// A mutation in a line.
pub(crate) fn words(mutation: &Mutation) -> String {
    let at = target(mutation).map(|(r, namespace, name)| format!("{} {namespace}/{name}", r.singular));
    let at = at.unwrap_or_default();
    match mutation {
        Mutation::Create(..) => format!("create {at}"),
        Mutation::Update(_, sub, _) => format!("update {at} {}", sub.unwrap_or_default()),
        Mutation::Merge(_, _, sub, patch) => format!("merge {at} {} {patch}", sub.unwrap_or_default()),
        Mutation::Delete(_, _, options) => format!("delete {at} {options}"),
        Mutation::Post(_, _, sub, body) => format!("{sub} {at} {}", body["target"]["name"]),
        Mutation::Event(_, _, reason, message) => format!("tell {reason}: {message}"),
        other => format!("{other:?}"),
    }
}
