//! How long a job waits after failures before it starts another pod.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use proto_kube::{object, pod};
use serde_json::Value;

const WAIT_MIN: SignedDuration = SignedDuration::from_secs(10);
const WAIT_MAX: SignedDuration = SignedDuration::from_mins(10);

/// When a pod came to its end.
pub(super) fn ended_at(pod: &Value) -> Timestamp {
    let terminated = |status: &Value| object::time(status, &["state", "terminated", "finishedAt"]);
    let is_sidecar = |status: &&Value| {
        object::items(pod, &["spec", "initContainers"])
            .any(|c| c["name"] == status["name"] && c["restartPolicy"] == "Always")
    };
    let main = object::items(pod, &["status", "containerStatuses"]);
    let sidecars = object::items(pod, &["status", "initContainerStatuses"]).filter(is_sidecar);
    let all: Option<Vec<_>> = main.chain(sidecars).map(terminated).collect();
    let unready = || {
        let ready = pod::condition(pod, "Ready").filter(|ready| ready["status"] == "False")?;
        object::time(ready, &["lastTransitionTime"])
    };
    let deleted = || {
        let at = object::time(pod, &["metadata", "deletionTimestamp"])?;
        let grace = object::number(pod, &["metadata", "deletionGracePeriodSeconds"]).unwrap_or(0);
        at.checked_sub(SignedDuration::from_secs(grace)).ok()
    };
    all.and_then(|all| all.into_iter().max())
        .or_else(unready)
        .or_else(deleted)
        .or_else(|| object::time(pod, &["metadata", "creationTimestamp"]))
        .unwrap_or(Timestamp::MIN)
}

/// Until when to wait after so many failures, the last of which was at that time.
pub(super) fn until(failures: i64, last: Timestamp) -> Timestamp {
    let doubled = u32::try_from(failures - 1).unwrap_or(0).min(16);
    let wait = WAIT_MIN.checked_mul(1 << doubled).unwrap_or(WAIT_MAX).min(WAIT_MAX);
    if failures <= 0 { Timestamp::MIN } else { last.checked_add(wait).unwrap_or(Timestamp::MAX) }
}

/// Until when a job waits as a whole: for those failures among its pods that came after the last success. They are read
/// off the pods, so that nobody has to remember them.
pub(super) fn of_job(pods: &[Arc<Value>], is_failed: impl Fn(&Value) -> bool) -> Timestamp {
    let succeeded = pods.iter().filter(|pod| pod["status"]["phase"] == "Succeeded");
    let success = succeeded.map(|pod| ended_at(pod)).max().unwrap_or(Timestamp::MIN);
    let failures = pods.iter().filter(|pod| is_failed(pod)).map(|pod| ended_at(pod));
    let failures: Vec<Timestamp> = failures.filter(|at| *at > success).collect();
    let count = i64::try_from(failures.len()).unwrap_or(i64::MAX);
    failures.into_iter().max().map_or(Timestamp::MIN, |last| until(count, last))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn it_doubles_up_to_a_limit_and_a_success_ends_it() {
        let pod = |phase: &str, second: i64| {
            let at = Timestamp::from_second(second).unwrap().to_string();
            let status =
                json!({"phase": phase, "containerStatuses": [{"state": {"terminated": {"finishedAt": at}}}]});
            Arc::new(json!({"status": status}))
        };
        let failed = |pod: &Value| pod["status"]["phase"] == "Failed";
        let until = |pods: &[Arc<Value>]| of_job(pods, failed).as_second();
        assert_eq!(of_job(&[], failed), Timestamp::MIN);
        assert_eq!(until(&[pod("Failed", 100)]), 110);
        assert_eq!(until(&[pod("Failed", 100), pod("Failed", 50)]), 120);
        assert_eq!(until(&vec![pod("Failed", 100); 5]), 260);
        assert_eq!(until(&vec![pod("Failed", 100); 50]), 700);
        assert_eq!(until(&[pod("Failed", 100), pod("Succeeded", 60), pod("Failed", 50)]), 110);
        assert_eq!(of_job(&[pod("Succeeded", 60), pod("Failed", 50)], failed), Timestamp::MIN);
    }
}
