//! How many pods each set of a deployment shall have.

use std::cmp::Reverse;

use serde_json::Value;

use super::rollout::Rollout;
use super::set::{DESIRED, MAX, Set, sum};
use crate::{pods, write};

/// How many pods more than wanted there may be during a rollout, and how many of the wanted ones may be missing.
pub(super) fn fence_posts(deployment: &Value, replicas: i64) -> (i64, i64) {
    let strategy = &deployment["spec"]["strategy"];
    if strategy["type"] == "Recreate" {
        return (0, 0);
    }
    let surge = pods::portion(&strategy["rollingUpdate"]["maxSurge"], replicas, true);
    let unavailable = pods::portion(&strategy["rollingUpdate"]["maxUnavailable"], replicas, false);
    // Both are nothing only by rounding; then one pod may be missing, as a surge may not fit into a quota.
    let unavailable = if surge == 0 && unavailable == 0 { 1 } else { unavailable };
    (surge, unavailable.min(replicas))
}

impl Rollout<'_> {
    /// Gives a set another size; whether it is another. `note` has it noted even where it is the same.
    pub(super) fn resize(&mut self, at: usize, size: i64, note: bool) -> bool {
        let set = &mut self.sets[at];
        let before = set.replicas();
        if before == size && !note {
            return false;
        }
        set.object["spec"]["replicas"] = size.into();
        self.note_size(at);
        if before == size {
            return false;
        }
        let way = if before < size { "up" } else { "down" };
        let text = format!("Scaled {way} replica set {} from {before} to {size}", self.sets[at].name());
        self.sets[at].told.push(write::tell(self.deployment, "ScalingReplicaSet", text));
        true
    }

    /// Notes on a set the size of the deployment that it has been scaled for.
    pub(super) fn note_size(&mut self, at: usize) {
        let (desired, max) = (self.replicas.to_string(), (self.replicas + self.surge).to_string());
        self.sets[at].note(DESIRED, &desired);
        self.sets[at].note(MAX, &max);
    }

    /// Spreads a new size over the sets. In the middle of a rollout each gets its share, so that the risk stays as it was.
    pub(super) fn scale(&mut self) {
        let mut active: Vec<usize> =
            (0..self.sets.len()).filter(|at| self.sets[*at].replicas() > 0).collect();
        if active.len() <= 1 {
            let newest = self.new.or(self.sets.len().checked_sub(1));
            if let Some(at) = active.first().copied().or(newest) {
                self.resize(at, self.replicas, true);
            }
            return;
        }
        if self.new.is_some_and(|new| self.is_saturated(new)) {
            active.retain(|at| Some(*at) != self.new);
            for at in active {
                self.resize(at, 0, false);
            }
            return;
        }
        if self.deployment["spec"]["strategy"]["type"] == "Recreate" {
            return;
        }
        let allowed = if self.replicas > 0 { self.replicas + self.surge } else { 0 };
        let to_add = allowed - sum(&self.sets, Set::replicas);
        // The indices tell the age. Of equal sets the newer grows, the older shrinks.
        active.sort_by_key(|at| {
            let age = i64::try_from(*at).unwrap_or(0);
            (Reverse(self.sets[*at].replicas()), if to_add > 0 { -age } else { age })
        });
        let mut sizes: Vec<i64> = active.iter().map(|at| self.sets[*at].replicas()).collect();
        let mut added = 0;
        for (size, at) in sizes.iter_mut().zip(&active) {
            let share = self.share(&self.sets[*at]);
            let left = to_add - added;
            let share = if to_add > 0 { share.min(left) } else { share.max(left) };
            if to_add != 0 {
                *size += share;
                added += share;
            }
        }
        sizes[0] = (sizes[0] + to_add - added).max(0);
        for (size, at) in sizes.into_iter().zip(active) {
            self.resize(at, size, true);
        }
    }

    /// By how much a set grows in proportion to the deployment; negative where it shrinks.
    fn share(&self, set: &Set) -> i64 {
        let size = set.replicas();
        if self.replicas == 0 {
            return -size;
        }
        let status = || self.deployment["status"]["replicas"].as_i64().unwrap_or(0);
        let before = set.noted(MAX).filter(|max| *max > 0).unwrap_or_else(status);
        if before == 0 {
            return 0;
        }
        // Rounded to the nearest.
        (2 * size * (self.replicas + self.surge) + before) / (2 * before) - size
    }

    /// Whether the new set has all pods of the deployment, available, and was scaled with it.
    fn is_saturated(&self, new: usize) -> bool {
        let set = &self.sets[new];
        [Some(set.replicas()), set.noted(DESIRED), Some(set.status("availableReplicas"))]
            .iter()
            .all(|size| *size == Some(self.replicas))
    }
}
