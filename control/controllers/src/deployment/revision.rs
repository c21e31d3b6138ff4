//! Templates and the sets that are of them: which is new, what number it has.

use proto_kube::object;
use serde_json::json;

use super::rollout::Rollout;
use super::set::{DESIRED, HISTORY, MAX, REVISION, Set};
use super::status::{FAILED_CREATE, FOUND_NEW, NEW_CREATED, PROGRESSING};
use crate::names::Hash;
use crate::pods::{TEMPLATE_HASH, plain};
use crate::resources::{DEPLOYMENTS, REPLICA_SETS};
use crate::{Mutation, conditions, owner, write};

/// How much the annotation with former revisions may hold.
const HISTORY_MAX: usize = 2000;
const NAME_MAX: usize = 253;

/// Annotations of a deployment that its sets do not get.
const OWN: [&str; 6] =
    [object::LAST_APPLIED, REVISION, HISTORY, DESIRED, MAX, "deprecated.deployment.rollback.rollbackTo"];

impl Rollout<'_> {
    /// The oldest set of the deployment's template.
    pub(super) fn find_new(&self) -> Option<usize> {
        let wanted = plain(&self.deployment["spec"]["template"]);
        self.sets.iter().position(|set| plain(&set.object["spec"]["template"]) == wanted)
    }

    /// The revision that a set which becomes the new one gets.
    fn next_revision(&self) -> i64 {
        let old = self.sets.iter().enumerate().filter(|(at, _)| Some(*at) != self.new);
        old.filter_map(|(_, set)| set.revision()).max().unwrap_or(0).max(0) + 1
    }

    /// Brings what the new set and the deployment say of each other up to date.
    pub(super) fn sync_revision(&mut self) {
        let Some(new) = self.new else { return };
        let next = self.next_revision();
        self.annotate(new, next);
        let min_ready = object::number(self.deployment, &["spec", "minReadySeconds"]).unwrap_or(0);
        let set = &mut self.sets[new];
        if object::number(&set.object, &["spec", "minReadySeconds"]).unwrap_or(0) != min_ready {
            conditions::count(&mut set.object["spec"], "minReadySeconds", min_ready);
        }
        self.revision = object::annotation(&set.object, REVISION).map(str::to_owned);
        if self.deadline().is_some() && conditions::get(&self.status, PROGRESSING).is_none() {
            let text = format!("Found new replica set \"{}\"", self.sets[new].name());
            self.set_condition(PROGRESSING, "True", FOUND_NEW, text);
        }
    }

    /// The set gets the deployment's annotations and a revision that is larger than all others.
    fn annotate(&mut self, at: usize, next: i64) {
        let set = &mut self.sets[at];
        for (key, value) in object::annotations(self.deployment).filter(|(key, _)| !OWN.contains(key)) {
            if object::annotation(&set.object, key) != Some(value) {
                set.note(key, value);
            }
        }
        let before = object::annotation(&set.object, REVISION).map(str::to_owned);
        let Some(number) = set.revision().filter(|number| *number < next) else { return };
        set.note(REVISION, &next.to_string());
        if before.is_none() {
            return;
        }
        // A set that is gone back to remembers under which numbers it was new before.
        let number = number.to_string();
        let history = object::annotation(&set.object, HISTORY).unwrap_or_default();
        let mut former: Vec<&str> = history.split(',').filter(|part| !part.is_empty()).collect();
        former.push(&number);
        while former.join(",").len() > HISTORY_MAX {
            former.remove(0);
        }
        let history = former.join(",");
        set.note(HISTORY, &history);
    }

    /// Adds a set of the deployment's template. `None` where it cannot be: people have been told.
    pub(super) fn create_new(&mut self) -> Option<usize> {
        let template = &self.deployment["spec"]["template"];
        let collisions = object::number(self.deployment, &["status", "collisionCount"]);
        let hash = Hash::new().value(&plain(template));
        let hash = collisions.map_or(hash, |count| hash.text(&count.to_string())).label();
        let name = object::name(self.deployment);
        let name = format!("{}-{hash}", &name[..name.len().min(NAME_MAX - 1 - hash.len())]);
        if self.refusal(&name) {
            return None;
        }
        let namespace = object::namespace(self.deployment);
        if self.world.view.get(REPLICA_SETS, namespace, &name).is_some() {
            // The name is another template's, or another owner's: the next hash will be another.
            self.status["collisionCount"] = (collisions.unwrap_or(0) + 1).into();
            return None;
        }
        let mut template = template.clone();
        object::default(&mut template, "metadata", json!({}));
        object::member(&mut template["metadata"], "labels")
            .insert(TEMPLATE_HASH.to_owned(), hash.as_str().into());
        let mut selector = self.deployment["spec"]["selector"].clone();
        object::member(&mut selector, "matchLabels").insert(TEMPLATE_HASH.to_owned(), hash.as_str().into());
        let mut spec = json!({"replicas": 0, "selector": selector});
        if let Some(seconds) =
            object::number(self.deployment, &["spec", "minReadySeconds"]).filter(|s| *s > 0)
        {
            spec["minReadySeconds"] = seconds.into();
        }
        let labels = template["metadata"]["labels"].clone();
        spec["template"] = template;
        let object = json!({
            "metadata": {
                "name": name,
                "namespace": namespace,
                "labels": labels,
                "ownerReferences": [owner::reference(DEPLOYMENTS, self.deployment)],
            },
            "spec": spec,
        });
        let next = self.next_revision();
        self.sets.push(Set { seen: None, object, told: Vec::new() });
        let at = self.sets.len() - 1;
        self.new = Some(at);
        let recreate = self.deployment["spec"]["strategy"]["type"] == "Recreate";
        let size = if recreate { self.replicas } else { self.room_for_new(0) };
        self.annotate(at, next);
        self.note_size(at);
        self.resize(at, size, false);
        self.revision = Some(next.to_string());
        if self.deadline().is_some() {
            let text = format!("Created new replica set \"{name}\"");
            self.set_condition(PROGRESSING, "True", NEW_CREATED, text);
        }
        Some(at)
    }

    /// Whether the server has just refused to create this set; people are told.
    fn refusal(&mut self, name: &str) -> bool {
        let created =
            |mutation: &Mutation| matches!(mutation, Mutation::Create(_, set) if object::name(set) == name);
        let Some(refused) = self.world.refused.filter(|refused| created(&refused.mutation)) else {
            return false;
        };
        if write::ends_with_namespace(&refused.status) {
            return true;
        }
        let text = format!("Failed to create new replica set \"{name}\": {}", refused.status.message);
        if self.deadline().is_some() {
            self.set_condition(PROGRESSING, "False", FAILED_CREATE, text.clone());
        }
        self.out.mutations.push(write::warn(self.deployment, FAILED_CREATE, text));
        true
    }
}
