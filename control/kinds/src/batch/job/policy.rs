//! When a job has failed or succeeded, beside the plain counting of pods.

use proto_kube::field::Error;
use proto_kube::name;

use super::{indexes, rules};
use crate::check::Field;

const ACTIONS: [&str; 4] = ["Count", "FailIndex", "FailJob", "Ignore"];
const STATUSES: [&str; 3] = ["False", "True", "Unknown"];
const OPERATORS: [&str; 2] = ["In", "NotIn"];
/// The most rules of a policy, and the most patterns of a rule.
const RULES: usize = 20;
const EXIT_CODES: usize = 255;
const INDEXES: usize = 64 << 10;

/// Rule: a closed set of texts, of which one is needed; what is missing is told them.
fn one_of(at: &Field<'_>, known: &[&str]) -> bool {
    let list = known.iter().map(|k| format!("{k:?}")).collect::<Vec<_>>().join(" ");
    let there = at.needs(&format!("valid values: [{list}]"));
    if there {
        at.maybe_one_of(known);
    }
    there
}

fn at_most(list: &Field<'_>, most: usize) {
    if list.len() > most {
        list.fault(Error::too_many(&list.path, list.len(), most));
    }
}

/// Rule: the pod failure policy of a job's spec.
pub(super) fn failure(spec: &Field<'_>) {
    let Some(policy) = spec.member("podFailurePolicy") else { return };
    let list = policy.at("rules");
    at_most(&list, RULES);
    let containers = rules::containers(spec);
    for rule in list.items() {
        let action = rule.at("action");
        if one_of(&action, &ACTIONS)
            && action.text() == "FailIndex"
            && !spec.at("backoffLimitPerIndex").is_set()
        {
            action.invalid("requires the backoffLimitPerIndex to be set");
        }
        let (codes, conditions) = (rule.at("onExitCodes"), rule.at("onPodConditions"));
        if codes.is_set() {
            exit_codes(&codes, &containers);
        }
        at_most(&conditions, RULES);
        for pattern in conditions.items() {
            pattern.at("type").all_invalid(name::qualified(pattern.at("type").text()));
            one_of(&pattern.at("status"), &STATUSES);
        }
        let text = match (codes.is_set(), !conditions.is_empty()) {
            (true, true) => "specifying both OnExitCodes and OnPodConditions is not supported",
            (false, false) => "specifying one of OnExitCodes and OnPodConditions is required",
            _ => continue,
        };
        rule.fault(Error::invalid_whole(&rule.path, text));
    }
}

fn exit_codes(codes: &Field<'_>, containers: &[&str]) {
    one_of(&codes.at("operator"), &OPERATORS);
    let container = codes.at("containerName");
    if container.is_set() && !containers.contains(&container.text()) {
        container.invalid("must be one of the container or initContainer names in the pod template");
    }
    let values = codes.at("values");
    if values.is_empty() {
        values.invalid_value(values.value.clone(), "at least one value is required");
    } else {
        at_most(&values, EXIT_CODES);
    }
    let mut seen: Vec<i64> = Vec::new();
    let mut ordered = true;
    for value in values.items() {
        let code = value.number_or_zero();
        if codes.at("operator").text() == "In" && code == 0 {
            value.invalid("must not be 0 for the In operator");
        }
        if seen.contains(&code) {
            value.duplicate();
        }
        ordered &= seen.last().is_none_or(|last| *last <= code);
        seen.push(code);
    }
    if !ordered {
        values.invalid("must be ordered");
    }
}

/// Rule: the success policy of a job's spec.
pub(super) fn success(spec: &Field<'_>) {
    let Some(policy) = spec.member("successPolicy") else { return };
    if !super::is_indexed(spec) {
        policy.invalid("requires indexed completion mode");
        return;
    }
    let list = policy.at("rules");
    list.needs("at least one rules must be specified when the successPolicy is specified");
    at_most(&list, RULES);
    let completions = spec.at("completions").number_or_zero();
    for rule in list.items() {
        let (count, set) = (rule.at("succeededCount"), rule.at("succeededIndexes"));
        if !count.is_set() && !set.is_set() {
            rule.required("at least one of succeededCount or succeededIndexes must be specified");
        }
        let mut total = 0;
        if set.is_set() {
            set.at_most(INDEXES);
            match indexes::parse(set.text(), completions) {
                Ok(intervals) => total = intervals.iter().map(|(first, last)| last - first + 1).sum(),
                Err(why) => set.invalid(format!("error parsing succeededIndexes: {why}")),
            }
        }
        count.non_negative();
        let Some(wanted) = count.number() else { continue };
        if wanted > completions {
            let text =
                format!("must be less than or equal to {completions} (the number of specified completions)");
            count.invalid(text);
        }
        if set.is_set() && wanted > total {
            count.invalid(format!("must be less than or equal to {total} (the number of indexes in the specified succeededIndexes field)"));
        }
    }
}
