//! The claims of a StatefulSet's pods. They are made before the pod and stay when it goes, unless the set says otherwise.

use proto_kube::object;
use serde_json::{Value, json};

use super::{Look, ordinal};
use crate::resources::{CLAIMS, PODS, STATEFUL_SETS, served};
use crate::{Mutation, owner, write};

impl Look<'_> {
    fn templates(&self) -> Vec<(String, &Value)> {
        let templates = object::items(self.set, &["spec", "volumeClaimTemplates"]);
        templates.map(|template| (object::name(template).to_owned(), template)).collect()
    }

    fn claim_name(&self, template: &str, ordinal: i64) -> String {
        format!("{template}-{}-{ordinal}", object::name(self.set))
    }

    /// Whether claims are deleted with the set, and with a pod that is one too many.
    fn policy(&self) -> [bool; 2] {
        let policy = &self.set["spec"]["persistentVolumeClaimRetentionPolicy"];
        [policy["whenDeleted"] == "Delete", policy["whenScaled"] == "Delete"]
    }

    /// Has the claims of a new pod to be made, and the pod use them. False where it must wait, as a claim that is there
    /// goes, or will go with a pod that was deleted.
    pub(super) fn create_claims(&mut self, pod: &str, ordinal: i64, spec: &mut Value) -> bool {
        let [_, with_pod] = self.policy();
        let mut volumes = Vec::new();
        for (template, _) in self.templates() {
            let name = self.claim_name(&template, ordinal);
            if let Some(claim) = self.world.view.get(CLAIMS, object::namespace(self.set), &name) {
                let of_pod = |owner: &Value| owner["kind"] == "Pod" && owner["name"] == pod;
                let goes_with_pod =
                    with_pod && object::items(&claim, &["metadata", "ownerReferences"]).any(of_pod);
                if object::is_terminating(&claim) || goes_with_pod {
                    return false;
                }
            }
            volumes.push(json!({"name": template, "persistentVolumeClaim": {"claimName": name}}));
        }
        self.create_missing_claims(pod, ordinal);
        let own = |volume: &&Value| volumes.iter().any(|new| new["name"] == volume["name"]);
        let rest: Vec<Value> =
            object::items(spec, &["spec", "volumes"]).filter(|volume| !own(volume)).cloned().collect();
        volumes.extend(rest);
        if !volumes.is_empty() {
            spec["spec"]["volumes"] = volumes.into();
        }
        true
    }

    /// Has those claims of a pod to be made that are not there.
    pub(super) fn create_missing_claims(&mut self, pod: &str, ordinal: i64) {
        let [with_set, _] = self.policy();
        let mut new = Vec::new();
        for (template, wish) in self.templates() {
            let name = self.claim_name(&template, ordinal);
            if self.world.view.get(CLAIMS, object::namespace(self.set), &name).is_some() {
                continue;
            }
            let mut claim = wish.clone();
            drop(claim.as_object_mut().and_then(|claim| claim.remove("status")));
            claim["metadata"]["name"] = name.as_str().into();
            claim["metadata"]["namespace"] = object::namespace(self.set).into();
            let labels = object::member(&mut claim["metadata"], "labels");
            let selected = object::at(self.set, &["spec", "selector", "matchLabels"]);
            labels.extend(selected.and_then(Value::as_object).cloned().unwrap_or_default());
            if with_set {
                claim["metadata"]["ownerReferences"] = json!([owner::reference(STATEFUL_SETS, self.set)]);
            }
            new.push((name, claim));
        }
        for (name, claim) in new {
            self.out.mutations.push(Mutation::Create(served(CLAIMS), claim));
            let set = object::name(self.set);
            let text = format!("Create Claim {name} Pod {pod} in StatefulSet {set} success");
            self.out.mutations.push(write::tell(self.set, "SuccessfulCreate", text));
        }
    }

    /// Brings the owners of a pod's claims in line with when they are to be deleted. What another controller has is left.
    pub(super) fn own_claims(&mut self, pod: &Value) {
        let Some(at) = ordinal(self.set, pod) else { return };
        let [with_set, with_pod] = self.policy();
        let surplus = !(self.first()..self.first() + self.replicas()).contains(&at);
        let names: Vec<String> = self.templates().iter().map(|(name, _)| self.claim_name(name, at)).collect();
        for name in names {
            let Some(claim) = self.world.view.get(CLAIMS, object::namespace(self.set), &name) else {
                continue;
            };
            let owners: Vec<Value> =
                object::items(&claim, &["metadata", "ownerReferences"]).cloned().collect();
            let is = |owner: &Value, of: &Value| owner["uid"] == of["metadata"]["uid"];
            let ours = |owner: &Value| is(owner, self.set) || is(owner, pod);
            let other = |owner: &Value| {
                let of = |kind: &str, of: &Value| owner["kind"] == kind && owner["name"] == object::name(of);
                owner["controller"] == true || of("StatefulSet", self.set) || of("Pod", pod)
            };
            if owners.iter().any(|owner| !ours(owner) && other(owner)) {
                continue;
            }
            let mut new: Vec<Value> = owners.iter().filter(|owner| !ours(owner)).cloned().collect();
            if surplus && with_pod {
                new.push(owner::reference(PODS, pod));
            } else if with_set {
                new.push(owner::reference(STATEFUL_SETS, self.set));
            }
            if new != owners {
                let mut claim = (*claim).clone();
                claim["metadata"]["ownerReferences"] = new.into();
                self.out.mutations.push(write::update(CLAIMS, claim));
            }
        }
    }
}
