//! `StatefulSet`: pods with lasting names and volumes of their own.

use jiff::Timestamp;
use proto_kube::field::{Errors, Path};
use proto_kube::{name, object};
use serde_json::{Value, json};

use super::rolling;
use super::workload::{self, number};
use crate::check::{self, Field};
use crate::column::{self, AGE, Column, NAME, text};
use crate::core::claim;
use crate::{Kind, meta, pod};

/// What an update may change.
const MUTABLE: [&str; 7] = [
    "replicas",
    "template",
    "updateStrategy",
    "minReadySeconds",
    "ordinals",
    "revisionHistoryLimit",
    "persistentVolumeClaimRetentionPolicy",
];
const IMMUTABLE: &str = "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden";

pub(super) struct StatefulSet;

impl Kind for StatefulSet {
    fn default(&self, object: &mut Value) {
        object::member(object, "spec");
        let spec = &mut object["spec"];
        workload::default_text(spec, "podManagementPolicy", "OrderedReady");
        let strategy = workload::within(spec, &["updateStrategy"]);
        if object::text(strategy, &["type"]).is_empty() {
            strategy["type"] = "RollingUpdate".into();
            object::member(strategy, "rollingUpdate");
        }
        if strategy["type"] == "RollingUpdate" && !strategy["rollingUpdate"].is_null() {
            object::default(&mut strategy["rollingUpdate"], "partition", 0);
        }
        let retention = workload::within(spec, &["persistentVolumeClaimRetentionPolicy"]);
        workload::default_text(retention, "whenDeleted", "Retain");
        workload::default_text(retention, "whenScaled", "Retain");
        object::default(spec, "replicas", 1);
        object::default(spec, "revisionHistoryLimit", 10);
        pod::template::default(workload::within(spec, &["template"]));
        for claim in spec.get_mut("volumeClaimTemplates").and_then(Value::as_array_mut).into_iter().flatten()
        {
            claim["apiVersion"] = "v1".into();
            claim["kind"] = "PersistentVolumeClaim".into();
            object::default(workload::within(claim, &["spec"]), "volumeMode", "Filesystem");
            workload::default_text(workload::within(claim, &["status"]), "phase", "Pending");
        }
    }

    fn name(&self, text: &str, prefix: bool) -> Vec<String> {
        meta::maybe_prefix(text, prefix, name::label)
    }

    fn generation(&self) -> &'static [&'static str] {
        &["spec"]
    }

    fn initial_status(&self) -> Option<Value> {
        Some(json!({"replicas": 0, "availableReplicas": 0}))
    }

    fn validate(&self, object: &Value) -> Errors {
        check::object(object, |object| {
            let spec = object.at("spec");
            rules(&spec, true);
            spec.at("serviceName").shaped(name::label);
            spec.at("volumeClaimTemplates").items().for_each(|claim| claim::spec(&claim.at("spec")));
        })
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Errors {
        check::object(new, |new| {
            let spec = new.at("spec");
            // What was let in once does not stop later updates.
            let was_right = check::object(old, |old| rules(&old.at("spec"), true)).is_empty();
            rules(&spec, was_right);
            if !same_but_mutable(spec.value, &old["spec"]) {
                spec.forbidden(IMMUTABLE);
            }
        })
    }

    fn validate_status(&self, new: &Value, old: &Value) -> Errors {
        check::object(new, |new| {
            let status = new.at("status");
            let members = ["readyReplicas", "currentReplicas", "updatedReplicas", "availableReplicas"];
            workload::counts(&status, &["replicas"]);
            workload::counts(&status, &members);
            workload::counts(&status, &["observedGeneration", "collisionCount"]);
            workload::no_more(&status, &members, "replicas", "cannot be greater than status.replicas");
            let text = "cannot be greater than status.readyReplicas";
            workload::no_more(&status, &["availableReplicas"], "readyReplicas", text);
            let before = object::at(old, &["status", "collisionCount"]).and_then(Value::as_i64);
            workload::not_decremented(&status.at("collisionCount"), before);
        })
    }

    fn warnings(&self, new: &Value, old: Option<&Value>) -> Vec<String> {
        let mut warnings = workload::template_warnings(new, old, &["spec", "template"]);
        let claims = Path::new("spec.volumeClaimTemplates");
        for (at, claim) in object::items(new, &["spec", "volumeClaimTemplates"]).enumerate() {
            // Upstream shows the path of an update differently.
            let path = if old.is_some() { claims.index(at).child("Spec") } else { claims.index(at) };
            warnings.extend(claim::spec_warnings(&claim["spec"], &path));
        }
        if number(new, &["spec", "revisionHistoryLimit"]) < 0 {
            warnings.push("spec.revisionHistoryLimit: a negative value retains all historical revisions; a value >= 0 is recommended".to_owned());
        }
        warnings
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            NAME,
            text("Ready", "How many of the wanted pods are ready."),
            AGE,
            workload::CONTAINERS,
            workload::IMAGES,
        ];
        COLUMNS
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let (ready, wanted) =
            (number(object, &["status", "readyReplicas"]), number(object, &["spec", "replicas"]));
        let mut cells = workload::row(object, vec![format!("{ready}/{wanted}").into()], now);
        cells.extend(column::containers(&object["spec"]["template"]["spec"]));
        cells
    }

    fn scale(&self, object: &Value) -> Option<Value> {
        workload::scale_of(object)
    }
}

fn same_but_mutable(new: &Value, old: &Value) -> bool {
    let (mut new, mut old) = (new.clone(), old.clone());
    for spec in [&mut new, &mut old].into_iter().filter_map(Value::as_object_mut) {
        MUTABLE.iter().for_each(|member| drop(spec.remove(*member)));
    }
    check::same(&new, &old)
}

fn rules(spec: &Field<'_>, template_too: bool) {
    let policy = spec.at("podManagementPolicy");
    if policy.needs("") && !["OrderedReady", "Parallel"].contains(&policy.text()) {
        policy.invalid("must be 'OrderedReady' or 'Parallel'");
    }
    strategy(&spec.at("updateStrategy"));
    let retention = spec.at("persistentVolumeClaimRetentionPolicy");
    if retention.is_set() {
        for at in ["whenDeleted", "whenScaled"].map(|member| retention.at(member)) {
            if !["Retain", "Delete"].contains(&at.text()) {
                at.not_supported(&["Retain", "Delete"]);
            }
        }
    }
    spec.at("replicas").non_negative();
    spec.at("minReadySeconds").non_negative();
    spec.at("ordinals").at("start").non_negative();
    let template = spec.at("template");
    if workload::selector(spec, "statefulset", "") && template_too {
        let made = with_claims(spec);
        spec.faults(check::at(&made, &template.path, |template| pod::template::validate(&template)));
    }
    workload::runs_forever(&template, "StatefulSet");
}

fn strategy(strategy: &Field<'_>) {
    let rolling = strategy.at("rollingUpdate");
    match strategy.at("type").text() {
        "" => strategy.required(""),
        "OnDelete" if rolling.is_set() => rolling.invalid("only allowed for updateStrategy 'RollingUpdate'"),
        "OnDelete" => {}
        "RollingUpdate" => {
            rolling.at("partition").non_negative();
            if let Some(missing) = rolling.member("maxUnavailable") {
                rolling::int_or_percent(&missing);
                if rolling::amount(missing.value) == 0 {
                    missing.invalid("cannot be 0");
                }
                rolling::at_most_all(&missing);
            }
        }
        _ => strategy.invalid("must be 'RollingUpdate' or 'OnDelete'"),
    }
}

/// The template as its pods will be: with a volume for each claim, and names that are made up for each pod.
fn with_claims(spec: &Field<'_>) -> Value {
    let mut template = spec.at("template").value.clone();
    let claims: Vec<&str> =
        spec.at("volumeClaimTemplates").items().map(|claim| object::name(claim.value)).collect();
    let Some(pod) = template.get_mut("spec").and_then(Value::as_object_mut) else { return template };
    pod.remove("hostname");
    pod.remove("subdomain");
    if !claims.is_empty() {
        let own = pod.remove("volumes").and_then(|v| v.as_array().cloned()).unwrap_or_default();
        let claimed = |name: &&str| json!({"name": name, "persistentVolumeClaim": {"claimName": name}});
        let mut volumes: Vec<Value> = claims.iter().map(claimed).collect();
        volumes.extend(own.into_iter().filter(|v| !claims.contains(&object::text(v, &["name"]))));
        pod.insert("volumes".to_owned(), volumes.into());
    }
    template
}
