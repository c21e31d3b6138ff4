//! `Pod` as a kind: what the server sets, what may change, and which fields can be selected by.

use jiff::Timestamp;
use proto_kube::field::{Errors, Path};
use proto_kube::{name, object};
use serde_json::{Value, json};

use super::{columns, container, default, resources, security, template, update};
use crate::check::{self, Field};
use crate::{Column, Kind, meta};

pub(crate) struct Pod;

impl Kind for Pod {
    fn default(&self, pod: &mut Value) {
        template::default(pod);
        default::pod(pod);
        default::within(pod, "status", addresses);
    }

    fn generation(&self) -> &'static [&'static str] {
        &["spec"]
    }

    fn prepare_create(&self, pod: &mut Value) {
        pod["status"] = json!({"phase": "Pending", "qosClass": resources::qos(&pod["spec"])});
        if object::items(pod, &["spec", "schedulingGates"]).next().is_some() {
            pod["status"]["conditions"] = json!([{
                "type": "PodScheduled", "status": "False", "reason": "SchedulingGated",
                "message": "Scheduling is blocked due to non-empty scheduling gates",
            }]);
        }
        merge_label_keys(pod);
        apply_apparmor(pod);
    }

    fn prepare_subresource(&self, subresource: &str, new: &mut Value, old: &Value) {
        update::prepare(subresource, new, old);
    }

    fn validate(&self, pod: &Value) -> Errors {
        check::object(pod, |pod| {
            rules(&pod);
            let spec = pod.at("spec");
            if !spec.at("ephemeralContainers").is_empty() {
                spec.at("ephemeralContainers").forbidden("cannot be set on create");
            }
            if !spec.at("nodeName").is_empty() && !spec.at("schedulingGates").is_empty() {
                spec.at("nodeName").forbidden("cannot be set until all schedulingGates have been cleared");
            }
        })
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Errors {
        update::validate(new, old)
    }

    fn validate_subresource(&self, subresource: &str, new: &Value, old: &Value) -> Errors {
        match subresource {
            "ephemeralcontainers" => update::validate_ephemeral(new, old),
            "resize" => update::validate_resize(new, old),
            _ => super::status::validate(new, old),
        }
    }

    fn warnings(&self, pod: &Value, old: Option<&Value>) -> Vec<String> {
        if old.is_some() {
            return Vec::new();
        }
        let mut found = Vec::new();
        let faults = name::label(object::name(pod));
        if !faults.is_empty() {
            found.push(format!(
                "metadata.name: this is used in the Pod's hostname, which can result in surprising behavior; a DNS label is recommended: [{}]",
                faults.join(" ")
            ));
        }
        found.extend(template::warnings(&Path::default(), pod, None));
        found
    }

    fn columns(&self) -> &'static [Column] {
        columns::COLUMNS
    }

    fn cells(&self, pod: &Value, now: Timestamp) -> Vec<Value> {
        columns::cells(pod, now)
    }

    fn row_conditions(&self, pod: &Value) -> Vec<Value> {
        let message = match object::text(pod, &["status", "phase"]) {
            "Succeeded" => "The pod has completed successfully.",
            "Failed" => "The pod failed.",
            _ => return Vec::new(),
        };
        let reason = object::text(pod, &["status", "phase"]);
        vec![json!({"type": "Completed", "status": "True", "reason": reason, "message": message})]
    }

    fn selectable(&self) -> &'static [&'static str] {
        &[
            "spec.hostNetwork",
            "spec.nodeName",
            "spec.restartPolicy",
            "spec.schedulerName",
            "spec.serviceAccountName",
            "status.nominatedNodeName",
            "status.phase",
            "status.podIP",
        ]
    }

    fn fields(&self, pod: &Value) -> Vec<(&'static str, String)> {
        let host = object::at(pod, &["spec", "hostNetwork"]) == Some(&Value::Bool(true));
        let value = |name: &str| match name {
            "spec.hostNetwork" => host.to_string(),
            "status.podIP" => object::items(pod, &["status", "podIPs"])
                .next()
                .map(|ip| object::text(ip, &["ip"]))
                .unwrap_or_default()
                .to_owned(),
            name => {
                name.split_once('.').map(|(a, b)| object::text(pod, &[a, b]).to_owned()).unwrap_or_default()
            }
        };
        self.selectable().iter().map(|name| (*name, value(name))).collect()
    }

    fn grace(&self, pod: &Value, asked: Option<i64>) -> Option<i64> {
        let own = || object::at(pod, &["spec", "terminationGracePeriodSeconds"]).and_then(Value::as_i64);
        let done = ["Failed", "Succeeded"].contains(&object::text(pod, &["status", "phase"]));
        if object::text(pod, &["spec", "nodeName"]).is_empty() || done {
            return Some(0);
        }
        match asked.or_else(own).unwrap_or(0) {
            ..0 => Some(1),
            seconds => Some(seconds),
        }
    }
}

/// Keeps the one address and the list of addresses in step; where they differ the one counts.
fn addresses(status: &mut Value) {
    let one = object::text(status, &["podIP"]).to_owned();
    let first = object::items(status, &["podIPs"]).next().map(|ip| object::text(ip, &["ip"]).to_owned());
    match (one.as_str(), first) {
        ("", Some(first)) if !first.is_empty() => status["podIP"] = first.into(),
        ("", _) => {}
        (_, Some(first)) if first == one => {}
        _ => status["podIPs"] = json!([{"ip": one}]),
    }
}

/// What holds for every pod, new or changed.
pub(super) fn rules(pod: &Field<'_>) {
    let (metadata, spec) = (pod.at("metadata"), pod.at("spec"));
    security::annotations(&metadata.at("annotations"), &spec);
    template::validate_spec(&spec, metadata.at("name").text());
    if spec.at("serviceAccountName").is_empty() {
        for volume in spec.at("volumes").items() {
            for source in volume.at("projected").at("sources").items() {
                if source.at("serviceAccountToken").is_set() {
                    source
                        .at("serviceAccountToken")
                        .forbidden("must not be specified when serviceAccountName is not set");
                }
            }
        }
    }
    for list in ["containers", "initContainers"] {
        spec.at(list).items().for_each(|container| container::only_in_pods(&container));
    }
}

/// Writes the pod's own labels into the selectors that ask for pods with the same ones.
fn merge_label_keys(pod: &mut Value) {
    let labels = pod["metadata"]["labels"].clone();
    let merge = |term: &mut Value| {
        if object::at(term, &["labelSelector"]).is_none() {
            return;
        }
        for (list, operator) in [("matchLabelKeys", "In"), ("mismatchLabelKeys", "NotIn")] {
            let keys: Vec<Value> = object::items(term, &[list]).cloned().collect();
            for key in keys {
                let Some(value) = key.as_str().and_then(|key| labels.get(key)) else { continue };
                let expression = json!({"key": key, "operator": operator, "values": [value]});
                let selector = &mut term["labelSelector"];
                if let Some(expressions) = selector.get_mut("matchExpressions").and_then(Value::as_array_mut)
                {
                    expressions.push(expression);
                } else {
                    selector["matchExpressions"] = json!([expression]);
                }
            }
        }
    };
    let Some(spec) = pod.get_mut("spec") else { return };
    default::each(spec, "topologySpreadConstraints", merge);
    default::within(spec, "affinity", |affinity| {
        for kind in ["podAffinity", "podAntiAffinity"] {
            default::within(affinity, kind, |pods| {
                default::each(pods, "requiredDuringSchedulingIgnoredDuringExecution", merge);
                default::each(pods, "preferredDuringSchedulingIgnoredDuringExecution", |term| {
                    default::within(term, "podAffinityTerm", merge);
                });
            });
        }
    });
}

/// `PodTemplate`: a template stored on its own.
pub(crate) struct PodTemplate;

impl Kind for PodTemplate {
    fn default(&self, object: &mut Value) {
        if let Some(template) = object.get_mut("template").filter(|t| t.is_object()) {
            template::default(template);
        }
    }

    fn generation(&self) -> &'static [&'static str] {
        &["template"]
    }

    fn validate(&self, object: &Value) -> Errors {
        template::errors(object, &["template"])
    }

    fn warnings(&self, new: &Value, old: Option<&Value>) -> Vec<String> {
        let generation = |o: &Value| o["metadata"]["generation"].as_i64();
        if old.is_some_and(|old| generation(old) == generation(new)) {
            return Vec::new();
        }
        template::warnings(&Path::new("template"), &new["template"], old.map(|old| &old["template"]))
    }

    fn columns(&self) -> &'static [Column] {
        columns::TEMPLATE
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        columns::template_cells(object, now)
    }
}

/// Keeps the owners of a pod as they were: what a node's agent sends of them is not to be trusted.
pub(super) fn keep_owners(new: &mut Value, old: &Value) {
    let owners = object::at(old, &["metadata", "ownerReferences"]).cloned();
    if let Some(metadata) = new.get_mut("metadata") {
        meta::put(metadata, "ownerReferences", owners);
    }
}

/// Profiles of AppArmor that old annotations ask for become fields.
fn apply_apparmor(pod: &mut Value) {
    if object::text(pod, &["spec", "os", "name"]) == "windows" {
        return;
    }
    let Some(annotations) = object::at(pod, &["metadata", "annotations"]).cloned() else { return };
    let whole = object::at(pod, &["spec", "securityContext", "appArmorProfile"]).cloned();
    let Some(spec) = pod.get_mut("spec") else { return };
    for list in ["initContainers", "containers", "ephemeralContainers"] {
        super::default::each(spec, list, |container| {
            let key = format!("{}{}", super::warnings::APPARMOR, object::text(container, &["name"]));
            let profile = match annotations.get(&key).and_then(Value::as_str) {
                Some("unconfined") => json!({"type": "Unconfined"}),
                Some("runtime/default") => json!({"type": "RuntimeDefault"}),
                Some(text) => match text.strip_prefix("localhost/") {
                    Some(name) if !name.is_empty() => json!({"type": "Localhost", "localhostProfile": name}),
                    _ => return,
                },
                None => return,
            };
            let own = object::at(container, &["securityContext", "appArmorProfile"]);
            if own.is_none_or(Value::is_null) && whole.as_ref() != Some(&profile) {
                object::member(container, "securityContext").insert("appArmorProfile".to_owned(), profile);
            }
        });
    }
}
