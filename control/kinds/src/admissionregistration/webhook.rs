//! `MutatingWebhookConfiguration` and `ValidatingWebhookConfiguration`: who outside is asked about requests.

use std::collections::BTreeSet;

use jiff::Timestamp;
use proto_kube::field::Errors;
use proto_kube::{name, object};
use serde_json::Value;

use super::matching;
use crate::apps::workload;
use crate::check::{self, Field};
use crate::column::{AGE, Column, NAME, integer};
use crate::{Kind, meta};

const REVIEWS: [&str; 2] = ["v1", "v1beta1"];
const FORM: &str = "; desired format: https://host[/path]";

pub(super) struct Configuration {
    pub(super) mutating: bool,
}

/// What an old object may keep that a new one may not have.
#[derive(Clone, Copy)]
struct Lenient {
    side_effects: bool,
    reviews: bool,
    names: bool,
}

impl Kind for Configuration {
    fn default(&self, object: &mut Value) {
        for hook in object.get_mut("webhooks").and_then(Value::as_array_mut).into_iter().flatten() {
            object::default(hook, "failurePolicy", "Fail");
            matching::default_selectors(hook);
            object::default(hook, "timeoutSeconds", 10);
            if self.mutating {
                object::default(hook, "reinvocationPolicy", "Never");
            }
            matching::default_rules(hook, "rules");
            if let Some(service) = hook.pointer_mut("/clientConfig/service").filter(|s| s.is_object()) {
                object::default(service, "port", 443);
            }
        }
    }

    fn generation(&self) -> &'static [&'static str] {
        &["webhooks"]
    }

    fn validate(&self, object: &Value) -> Errors {
        self.rules(object, Lenient { side_effects: false, reviews: false, names: false })
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Errors {
        let mut names = BTreeSet::new();
        let hooks = || object::items(old, &["webhooks"]);
        let reviewed = |hook: &Value| {
            let mut versions =
                object::items(hook, &["admissionReviewVersions"]).filter_map(Value::as_str).peekable();
            versions.peek().is_none() || versions.any(|version| REVIEWS.contains(&version))
        };
        let lenient = Lenient {
            side_effects: !hooks().all(|hook| harmless(object::text(hook, &["sideEffects"]))),
            reviews: !hooks().all(reviewed),
            names: !hooks().all(|hook| names.insert(object::text(hook, &["name"]))),
        };
        self.rules(new, lenient)
    }

    fn unconditional_update(&self) -> bool {
        false
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[NAME, integer("Webhooks", "How many webhooks there are."), AGE];
        COLUMNS
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        workload::row(object, vec![object::items(object, &["webhooks"]).count().into()], now)
    }
}

fn harmless(side_effects: &str) -> bool {
    ["None", "NoneOnDryRun"].contains(&side_effects)
}

impl Configuration {
    fn rules(&self, object: &Value, lenient: Lenient) -> Errors {
        check::object(object, |object| {
            let mut seen = BTreeSet::new();
            for hook in object.at("webhooks").items() {
                self.hook(&hook, lenient);
                reviews(&hook.at("admissionReviewVersions"), lenient);
                let at = hook.at("name");
                if !at.is_empty() && !seen.insert(at.text()) && !lenient.names {
                    at.duplicate();
                }
            }
        })
    }

    fn hook(&self, hook: &Field<'_>, lenient: Lenient) {
        full_name(&hook.at("name"));
        hook.at("rules").items().for_each(|rule| matching::rule(&rule));
        hook.at("failurePolicy").maybe_one_of(&["Fail", "Ignore"]);
        hook.at("matchPolicy").maybe_one_of(&["Equivalent", "Exact"]);
        let effects = hook.at("sideEffects");
        let known: &[&str] = match lenient.side_effects {
            true => &["None", "NoneOnDryRun", "Some", "Unknown"],
            false => &["None", "NoneOnDryRun"],
        };
        if effects.needs_value(&format!("must specify one of {}", known.join(", "))) {
            effects.maybe_one_of(known);
        }
        let timeout = hook.at("timeoutSeconds");
        if timeout.number().is_some_and(|n| !(1..=30).contains(&n)) {
            timeout.invalid("the timeout value must be between 1 and 30 seconds");
        }
        meta::label_selector(&hook.at("namespaceSelector"));
        meta::label_selector(&hook.at("objectSelector"));
        if self.mutating {
            hook.at("reinvocationPolicy").maybe_one_of(&["IfNeeded", "Never"]);
        }
        let client = hook.at("clientConfig");
        match (client.member("url"), client.member("service")) {
            (Some(at), None) => url(&at),
            (None, Some(at)) => service(&at),
            _ => client.required("exactly one of url or service is required"),
        }
        matching::conditions(&hook.at("matchConditions"));
    }
}

/// Rule: a domain of at least three parts.
fn full_name(at: &Field<'_>) {
    if !at.needs("") {
        return;
    }
    let faults = name::subdomain(at.text());
    if !faults.is_empty() {
        at.invalid(faults.join(","));
    } else if at.text().split('.').count() < 3 {
        at.invalid("should be a domain with at least three segments separated by dots");
    }
}

fn reviews(list: &Field<'_>, lenient: Lenient) {
    if !list.needs(&format!("must specify one of {}", REVIEWS.join(", "))) {
        return;
    }
    let mut seen = BTreeSet::new();
    for version in list.items() {
        if !seen.insert(version.text()) {
            version.invalid("duplicate version");
            continue;
        }
        version.all_invalid(name::label_1035(version.text()));
    }
    if !lenient.reviews && !REVIEWS.iter().any(|version| seen.contains(version)) {
        list.invalid(format!("must include at least one of {}", REVIEWS.join(", ")));
    }
}

fn url(at: &Field<'_>) {
    let text = at.text();
    let (scheme, rest) = text.split_once("://").unwrap_or(("", text));
    let (rest, fragment) = rest.split_once('#').unwrap_or((rest, ""));
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let authority = if scheme.is_empty() { "" } else { rest.split('/').next().unwrap_or_default() };
    let (user, host) = authority.rsplit_once('@').unwrap_or(("", authority));
    if scheme != "https" {
        at.invalid_value(scheme, format!("'https' is the only allowed URL scheme{FORM}"));
    }
    if host.is_empty() {
        at.invalid_value(host, format!("host must be specified{FORM}"));
    }
    for (part, text) in [
        (user, "user information is not permitted in the URL"),
        (fragment, "fragments are not permitted in the URL"),
        (query, "query parameters are not permitted in the URL"),
    ] {
        if !part.is_empty() {
            at.invalid_value(part, text);
        }
    }
}

fn service(service: &Field<'_>) {
    service.at("name").needs("");
    service.at("namespace").needs("");
    let (port, path) = (service.at("port"), service.at("path"));
    if !(1..=65535).contains(&port.number_or_zero()) {
        port.invalid("port is not valid: must be between 1 and 65535, inclusive");
    }
    match path.text() {
        "" | "/" => return,
        "//" => return path.invalid("segment[0] may not be empty"),
        text if !text.starts_with('/') => path.invalid("must start with a '/'"),
        _ => {}
    }
    let mut steps = path.text().chars();
    steps.next();
    let steps = steps.as_str();
    for (at, step) in steps.strip_suffix('/').unwrap_or(steps).split('/').enumerate() {
        if step.is_empty() {
            path.invalid(format!("segment[{at}] may not be empty"));
            continue;
        }
        path.all_invalid(name::subdomain(step).into_iter().map(|fault| format!("segment[{at}]: {fault}")));
    }
}
