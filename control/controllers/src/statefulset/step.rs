//! The next step of a StatefulSet: what is missing comes in order, what is too many goes in the opposite order, and then
//! what is of an old revision.

use std::sync::Arc;

use proto_kube::{object, pod};
use serde_json::Value;

use super::{Look, POD_INDEX, POD_NAME};
use crate::history;
use crate::resources::{PODS, STATEFUL_SETS, served};
use crate::{Mutation, owner, pods, write};

impl Look<'_> {
    pub(super) fn step(&mut self) {
        let parallel = self.set["spec"]["podManagementPolicy"] == "Parallel";
        let range = self.first()..self.first() + self.replicas();
        for ordinal in range.clone() {
            if self.keep(ordinal) && !parallel {
                return;
            }
        }
        let surplus: Vec<(i64, Arc<Value>)> = self
            .pods
            .iter()
            .rev()
            .filter(|(at, _)| !range.contains(at))
            .map(|(at, p)| (*at, p.clone()))
            .collect();
        for (_, pod) in &surplus {
            self.own_claims(pod);
        }
        let unhealthy = |pod: &Value| !self.is_available(pod) || object::is_terminating(pod);
        let broken = self.pods.values().find(|pod| unhealthy(pod)).map(|pod| object::uid(pod).to_owned());
        for (_, pod) in &surplus {
            if parallel {
                if !object::is_terminating(pod) {
                    self.drop(pod);
                }
                continue;
            }
            // One after the other; a broken one may go, but nothing goes while another is broken.
            let waits = !self.is_available(pod) && broken.as_deref() != Some(object::uid(pod));
            if !object::is_terminating(pod) && !waits {
                self.drop(pod);
            }
            return;
        }
        if self.set["spec"]["updateStrategy"]["type"] != "OnDelete" {
            self.roll(parallel);
        }
    }

    /// Brings the pod of an ordinal to be and to be well; whether those that come after have to wait for it.
    fn keep(&mut self, ordinal: i64) -> bool {
        let Some(pod) = self.pods.get(&ordinal).cloned() else {
            self.create(ordinal);
            return true;
        };
        if pod::has_ended(&pod) {
            if !object::is_terminating(&pod) {
                self.drop(&pod);
            }
            return true;
        }
        let well =
            !object::is_terminating(&pod) && pod["status"]["phase"] == "Running" && self.is_available(&pod);
        if object::label(&pod, POD_NAME) != Some(object::name(&pod)) {
            let mut patch = owner::guarded(&pod);
            patch["metadata"]["labels"] = Self::identity(object::name(&pod), ordinal);
            self.out.mutations.push(Mutation::Merge(served(PODS), owner::key(&pod), None, patch));
        }
        if well {
            self.own_claims(&pod);
        }
        if pod["status"]["phase"] == "Pending" && !object::is_terminating(&pod) {
            // It cannot start without its claims: one may have been deleted when the pod was there already.
            self.create_missing_claims(object::name(&pod), ordinal);
        }
        !well
    }

    fn identity(name: &str, ordinal: i64) -> Value {
        serde_json::json!({POD_NAME: name, POD_INDEX: ordinal.to_string()})
    }

    fn create(&mut self, ordinal: i64) {
        let rolling = &self.set["spec"]["updateStrategy"];
        let partition = object::number(rolling, &["rollingUpdate", "partition"]).unwrap_or(0);
        let old = rolling["type"] != "OnDelete" && ordinal < self.first() + partition;
        let revision = if old { self.current() } else { self.update() };
        let label = object::name(revision).to_owned();
        let mut template = revision["data"]["spec"]["template"].clone();
        drop(template.as_object_mut().and_then(|template| template.remove("$patch")));
        let set = object::name(self.set);
        let name = format!("{set}-{ordinal}");
        let mut pod = pods::from_template(STATEFUL_SETS, self.set, &template, &name);
        let labels = object::member(&mut pod["metadata"], "labels");
        labels.extend(Self::identity(&name, ordinal).as_object().cloned().unwrap_or_default());
        labels.insert(history::LABEL.to_owned(), label.into());
        pod["spec"]["hostname"] = name.as_str().into();
        if let Some(service) = object::at(self.set, &["spec", "serviceName"]) {
            pod["spec"]["subdomain"] = service.clone();
        }
        if !self.create_claims(&name, ordinal, &mut pod) {
            return;
        }
        self.out.mutations.push(Mutation::Create(served(PODS), pod));
        let text = format!("Create Pod {name} in StatefulSet {set} successful");
        self.out.mutations.push(write::tell(self.set, "SuccessfulCreate", text));
    }

    fn drop(&mut self, pod: &Arc<Value>) {
        self.out.mutations.push(owner::delete(PODS, pod));
        let text =
            format!("Delete Pod {} in StatefulSet {} successful", object::name(pod), object::name(self.set));
        self.out.mutations.push(write::tell(self.set, "SuccessfulDelete", text));
        self.deleted.insert(object::uid(pod).to_owned());
    }

    /// Pods of an old revision go, those with the highest ordinals first, down to the partition, and no more than may be
    /// missing at a time.
    fn roll(&mut self, parallel: bool) {
        let strategy = &self.set["spec"]["updateStrategy"]["rollingUpdate"];
        let partition = object::number(strategy, &["partition"]).unwrap_or(0);
        let most = match object::at(strategy, &["maxUnavailable"]) {
            Some(most) => pods::portion(most, self.replicas(), false).max(1),
            None => 1,
        };
        let end = self.first() + self.replicas();
        let mine: Vec<Arc<Value>> = self.pods.range(self.first()..end).map(|(_, pod)| pod.clone()).collect();
        let is_down = |pod: &Value| !self.is_available(pod) || object::is_terminating(pod);
        let down = i64::try_from(mine.iter().filter(|pod| is_down(pod)).count()).unwrap_or(i64::MAX);
        let missing = self.replicas() - i64::try_from(mine.len()).unwrap_or(0);
        let update = object::name(self.update()).to_owned();
        // A partition may lie beyond all pods: none is updated then.
        let targets = self.pods.range((self.first() + partition).min(end)..end).rev();
        let old = targets.map(|(_, pod)| pod).filter(|pod| {
            object::label(pod, history::LABEL) != Some(&update) && !object::is_terminating(pod)
        });
        // A pod that is down already may go for nothing, unless it is ordered that each is waited for.
        let mut room = most - down - missing;
        let mut going = Vec::new();
        for pod in old {
            let costs = i64::from(!is_down(pod) || !parallel);
            if room < costs {
                break;
            }
            room -= costs;
            going.push(pod.clone());
        }
        for pod in going {
            self.drop(&pod);
        }
    }
}
