//! What the spec of a job may be.

use proto_kube::selector::Labels;
use proto_kube::{name, object};

use super::{LABELS, policy};
use crate::apps::workload;
use crate::check::Field;
use crate::{meta, pod};

const MANY: i64 = 100_000;
const SOME: i64 = 10_000;

/// Rule: a selector that is made up selects the job's pods and no others. `prefixed` asks for the labels with a domain
/// too.
pub(super) fn generated_selector(job: &Field<'_>, prefixed: bool) {
    let (spec, metadata) = (job.at("spec"), job.at("metadata"));
    if spec.at("manualSelector").is_true() || !spec.at("selector").is_set() {
        return;
    }
    metadata.at("uid").needs("");
    let (uid, name) = (metadata.at("uid").text(), metadata.at("name").text());
    let wanted = |label: &str| {
        LABELS.iter().find(|(known, _)| *known == label).map(|(_, is_uid)| if *is_uid { uid } else { name })
    };
    let template = spec.at("template").at("metadata").at("labels");
    for (label, _) in LABELS.iter().filter(|(label, _)| prefixed || !label.contains('/')) {
        let (at, wanted) = (template.entry(label), wanted(label).unwrap_or_default());
        let detail = format!("must be '{wanted}'");
        if !at.is_set() {
            at.required(detail);
        } else if at.text() != wanted {
            at.invalid_value(template.value.clone(), detail);
        }
    }
    if let Ok(Some(selector)) = Labels::of(spec.at("selector").value)
        && !selector.admits(|label| wanted(label).filter(|_| prefixed || !label.contains('/')))
    {
        spec.at("selector").invalid("`selector` not auto-generated");
    }
}

/// Rule: the names that the pods of an indexed job get as host names are right.
pub(super) fn host_names(job: &Field<'_>) {
    let (spec, name) = (job.at("spec"), job.at("metadata").at("name"));
    let completions = spec.at("completions").number().filter(|n| *n > 0 && super::is_indexed(&spec));
    if let Some(host) = completions.and_then(|n| super::host_name(name.text(), n)) {
        name.invalid(format!("will not able to create pod with invalid DNS label: {host}"));
    }
}

/// Rule: the spec of a job.
pub(super) fn spec(spec: &Field<'_>) {
    template_rules(spec);
    let selector = spec.at("selector");
    if selector.needs_value("") {
        meta::label_selector(&selector);
    }
    workload::selects(spec, false);
}

/// Rule: the spec of a job, or of the jobs that a cron job makes: all but the selector.
pub(in super::super) fn template_rules(spec: &Field<'_>) {
    let numbers = [
        "parallelism",
        "completions",
        "activeDeadlineSeconds",
        "backoffLimit",
        "ttlSecondsAfterFinished",
        "backoffLimitPerIndex",
        "maxFailedIndexes",
    ];
    numbers.iter().for_each(|member| spec.at(member).non_negative());
    if spec.at("maxFailedIndexes").is_set() && !spec.at("backoffLimitPerIndex").is_set() {
        spec.at("backoffLimitPerIndex").required("when maxFailedIndexes is specified");
    }
    if let Some(manager) = spec.member("managedBy") {
        domain_prefixed_path(&manager);
        manager.at_most(63);
    }
    spec.at("completionMode").maybe_one_of(&["NonIndexed", "Indexed"]);
    if super::is_indexed(spec) {
        indexed(spec);
    } else if ["", "NonIndexed"].contains(&spec.at("completionMode").text()) {
        for at in ["backoffLimitPerIndex", "maxFailedIndexes"].into_iter().filter_map(|m| spec.member(m)) {
            at.invalid("requires indexed completion mode");
        }
    }
    policy::failure(spec);
    policy::success(spec);
    let replacement = spec.at("podReplacementPolicy");
    let known: &[&str] = match spec.at("podFailurePolicy").is_set() {
        true => &["Failed"],
        false => &["Failed", "TerminatingOrFailed"],
    };
    replacement.maybe_one_of(known);
    pod::template::validate(&spec.at("template"));
    restart(spec);
}

fn indexed(spec: &Field<'_>) {
    let (completions, parallel) = (spec.at("completions"), spec.at("parallelism"));
    let failed = spec.at("maxFailedIndexes");
    completions.needs_value("when completion mode is Indexed");
    let most = |at: &Field<'_>, most: i64, text: String| {
        if at.number().is_some_and(|n| n > most) {
            at.invalid(text);
        }
    };
    most(&parallel, MANY, format!("must be less than or equal to {MANY} when completion mode is Indexed"));
    if let Some(number) = completions.number() {
        most(&failed, number, "must be less than or equal to completions".to_owned());
    }
    most(&failed, MANY, format!("must be less than or equal to {MANY}"));
    if completions.number().is_some_and(|n| n > MANY) && spec.at("backoffLimitPerIndex").is_set() {
        failed.needs_value(&format!("must be specified when completions is above {MANY}"));
        let text = format!(
            "must be less than or equal to {SOME} when completions are above {MANY} and used with backoff limit per index"
        );
        most(&parallel, SOME, text.clone());
        most(&failed, SOME, text);
    }
}

fn restart(spec: &Field<'_>) {
    let restart = spec.at("template").at("spec").at("restartPolicy");
    match restart.text() {
        "" | "Always" => restart.required("valid values: \"OnFailure\", \"Never\""),
        "OnFailure" if spec.at("podFailurePolicy").is_set() => {
            restart.invalid("only \"Never\" is supported when podFailurePolicy is specified");
        }
        "OnFailure" | "Never" => {}
        _ => restart.not_supported(&["OnFailure", "Never"]),
    }
}

/// Rule: a name behind a domain: `acme.io/foo`.
pub(crate) fn domain_prefixed_path(at: &Field<'_>) {
    const PATH: &str = "[A-Za-z0-9/\\-._~%!$&'()*+,;=:]+";
    if !at.needs("") {
        return;
    }
    let (host, path) = at.text().split_once('/').unwrap_or((at.text(), ""));
    if host.is_empty() || path.is_empty() {
        at.invalid("must be a domain-prefixed path (such as \"acme.io/foo\")");
        return;
    }
    for fault in name::subdomain(host) {
        at.invalid_value(host, fault);
    }
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"/-._~%!$&'()*+,;=:".contains(&b);
    if !path.bytes().all(allowed) {
        at.invalid_value(path, format!("Invalid path (regex used for validation is '{PATH}')"));
    }
}

/// The names of all containers of a job's pods.
pub(super) fn containers<'a>(spec: &Field<'a>) -> Vec<&'a str> {
    ["containers", "initContainers"]
        .into_iter()
        .flat_map(|list| spec.at("template").at("spec").at(list).items())
        .map(|container| object::text(container.value, &["name"]))
        .collect()
}
