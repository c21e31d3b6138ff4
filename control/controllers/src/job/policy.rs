//! What a job says about failures of its pods, and when it is content.

use proto_kube::object;
use serde_json::Value;

use super::indexes::Indexes;

/// What the failure of a pod means.
#[derive(Debug, PartialEq)]
pub(super) enum Verdict {
    /// It counts towards the limit.
    Count,
    /// It does not count.
    Ignore,
    /// Its index has failed.
    FailIndex,
    /// The job has failed, for this reason.
    FailJob(String),
}

/// What the `podFailurePolicy` says of a failed pod: the first rule that matches.
pub(super) fn verdict(job: &Value, pod: &Value) -> Verdict {
    let rules = object::items(job, &["spec", "podFailurePolicy", "rules"]);
    rules.enumerate().find_map(|(at, rule)| judge(rule, at, pod)).unwrap_or(Verdict::Count)
}

fn judge(rule: &Value, at: usize, pod: &Value) -> Option<Verdict> {
    let action = object::text(rule, &["action"]);
    let (namespace, name) = (object::namespace(pod), object::name(pod));
    let text = if let Some(codes) = object::at(rule, &["onExitCodes"]) {
        let status = container(pod, codes)?;
        let (of, code) = (object::text(status, &["name"]), &status["state"]["terminated"]["exitCode"]);
        format!(
            "Container {of} for pod {namespace}/{name} failed with exit code {code} matching {action} rule at index {at}"
        )
    } else {
        let patterns = || object::items(rule, &["onPodConditions"]);
        let kind = object::items(pod, &["status", "conditions"])
            .find(|c| patterns().any(|p| p["type"] == c["type"] && p["status"] == c["status"]))
            .map(|condition| object::text(condition, &["type"]))?;
        format!("Pod {namespace}/{name} has condition {kind} matching {action} rule at index {at}")
    };
    Some(match action {
        "Ignore" => Verdict::Ignore,
        "FailIndex" => Verdict::FailIndex,
        "FailJob" => Verdict::FailJob(text),
        _ => Verdict::Count,
    })
}

/// The first container that ended with one of the codes.
fn container<'a>(pod: &'a Value, codes: &Value) -> Option<&'a Value> {
    let named = object::at(codes, &["containerName"]);
    let among = |code: &Value| object::items(codes, &["values"]).any(|value| value == code);
    let wanted = codes["operator"] == "In";
    ["containerStatuses", "initContainerStatuses"]
        .into_iter()
        .flat_map(|list| object::items(pod, &["status", list]))
        .filter(|status| named.is_none_or(|name| *name == status["name"]))
        .find(|status| {
            let code = object::at(status, &["state", "terminated", "exitCode"]);
            code.is_some_and(|code| code.as_i64() != Some(0) && among(code) == wanted)
        })
}

/// The rule of the `successPolicy` that the succeeded indexes meet, told.
pub(super) fn is_content(job: &Value, succeeded: &Indexes, completions: i64) -> Option<String> {
    if succeeded.total() == 0 {
        return None;
    }
    let meets = |rule: &Value| {
        let enough = object::number(rule, &["succeededCount"]);
        let Some(text) = object::at(rule, &["succeededIndexes"]) else {
            return enough.is_some_and(|count| succeeded.total() >= count);
        };
        let wanted = Indexes::parse(text.as_str().unwrap_or_default(), completions);
        let have = succeeded.common(&wanted);
        wanted.total() > 0 && (have == wanted.total() || enough.is_some_and(|count| have >= count))
    };
    let mut rules = object::items(job, &["spec", "successPolicy", "rules"]);
    rules.position(meets).map(|at| format!("Matched rules at index {at}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn rules_of_failure() {
        let job = json!({"spec": {"podFailurePolicy": {"rules": [
            {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
            {"action": "FailJob", "onExitCodes": {"containerName": "main", "operator": "In", "values": [42]}},
            {"action": "FailIndex", "onExitCodes": {"operator": "NotIn", "values": [1, 2]}},
        ]}}});
        let pod = |container: &str, code: i64, condition: &str| {
            json!({
                "metadata": {"name": "p", "namespace": "ns"},
                "status": {
                    "containerStatuses": [{"name": container, "state": {"terminated": {"exitCode": code}}}],
                    "conditions": [{"type": condition, "status": "True"}],
                },
            })
        };
        let text = "Container main for pod ns/p failed with exit code 42 matching FailJob rule at index 1";
        for (pod, expected) in [
            (pod("main", 42, "x"), Verdict::FailJob(text.to_owned())),
            (pod("main", 42, "DisruptionTarget"), Verdict::Ignore),
            (pod("other", 42, "x"), Verdict::FailIndex),
            (pod("main", 1, "x"), Verdict::Count),
            (pod("main", 0, "x"), Verdict::Count),
        ] {
            assert_eq!(verdict(&job, &pod), expected, "{pod}");
        }
        let job = json!({"spec": {"podFailurePolicy": {"rules": [
            {"action": "FailJob", "onPodConditions": [{"type": "Bad", "status": "True"}]},
        ]}}});
        let text = "Pod ns/p has condition Bad matching FailJob rule at index 0";
        assert_eq!(verdict(&job, &pod("c", 1, "Bad")), Verdict::FailJob(text.to_owned()));
    }

    #[test]
    fn rules_of_success() {
        let job = json!({"spec": {"successPolicy": {"rules": [
            {"succeededIndexes": "0,2"}, {"succeededIndexes": "4-8", "succeededCount": 2}, {"succeededCount": 5},
        ]}}});
        for (text, rule) in
            [("0", None), ("0,2", Some(0)), ("5,8", Some(1)), ("0,1,3,9,10", Some(2)), ("", None)]
        {
            let told = rule.map(|at| format!("Matched rules at index {at}"));
            assert_eq!(is_content(&job, &Indexes::parse(text, 20), 20), told, "{text}");
        }
    }
}
