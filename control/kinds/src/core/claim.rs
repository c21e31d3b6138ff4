//! `PersistentVolumeClaim`.

use jiff::Timestamp;
use proto_kube::field::{Error, Errors, Path};
use proto_kube::quantity::Quantity;
use proto_kube::{name, object};
use serde_json::{Value, json};

use super::volume;
use crate::check::{self, Field};
use crate::column::{self, AGE, NAME, text, wide};
use crate::pod::default;
use crate::{Column, Kind, meta};

/// The ways in which a volume can be mounted.
pub(crate) const MODES: &[&str] = &["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"];

/// Rule: `accessModes`, which may be alone only with one pod.
pub(crate) fn access_modes(modes: &Field<'_>) {
    let (mut alone, mut shared) = (false, false);
    for mode in modes.items() {
        match mode.text() {
            "ReadWriteOncePod" => alone = true,
            text if MODES.contains(&text) => shared = true,
            _ => mode.shown_at(modes.path.clone()).not_supported(MODES),
        }
    }
    if alone && shared {
        modes.forbidden("may not use ReadWriteOncePod with other access modes");
    }
}

/// Rule: a `PersistentVolumeClaimSpec`.
pub(crate) fn spec(spec: &Field<'_>) {
    let modes = spec.at("accessModes");
    modes.needs("at least 1 access mode is required");
    meta::label_selector(&spec.at("selector"));
    access_modes(&modes);
    let resources = spec.at("resources");
    let storage = resources.at("requests").at("storage").shown_at(resources.path.key("storage"));
    if storage.needs_value("") && storage.quantity().is_some_and(|amount| amount.millis() <= 0) {
        storage.invalid("must be greater than zero");
    }
    spec.at("storageClassName").shaped(name::subdomain);
    spec.at("volumeMode").maybe_one_of(&["Block", "Filesystem"]);
    let (source, reference) = (spec.at("dataSource"), spec.at("dataSourceRef"));
    for part in [&source, &reference].into_iter().filter(|p| p.is_set()) {
        data_source(part);
    }
    if source.is_set() && reference.is_set() {
        let detail = if !reference.at("namespace").is_empty() {
            Some("may not be specified when dataSourceRef.namespace is specified")
        } else {
            let same =
                ["apiGroup", "kind", "name"].iter().all(|k| source.at(k).value == reference.at(k).value);
            (!same).then_some("must match dataSourceRef")
        };
        if let Some(detail) = detail {
            // Upstream shows a path here, which has no members to show.
            spec.invalid_value(json!({}), detail);
        }
    }
    spec.at("volumeAttributesClassName").shaped(name::subdomain);
}

fn data_source(source: &Field<'_>) {
    source.at("name").needs("");
    source.at("kind").needs("");
    let group = source.at("apiGroup");
    if group.is_empty() && source.at("kind").text() != "PersistentVolumeClaim" {
        let shown = source.at("kind").text();
        source.invalid_value(shown, "must be 'PersistentVolumeClaim' when referencing the default apiGroup");
    }
    group.shaped(name::subdomain);
    source.at("namespace").shaped(name::label);
}

pub(super) struct PersistentVolumeClaim;

const COLUMNS: &[Column] = &[
    NAME,
    text("Status", "Whether the claim has a volume."),
    text("Volume", "The volume that the claim has."),
    text("Capacity", "How much the volume holds."),
    text("Access Modes", "In which ways the volume can be mounted."),
    text("StorageClass", "The class of the claim."),
    text("VolumeAttributesClass", "The class of the volume's attributes."),
    AGE,
    wide(text("VolumeMode", "Whether the volume is a file system or a block device.")),
];

impl Kind for PersistentVolumeClaim {
    fn default(&self, claim: &mut Value) {
        default::within(claim, "spec", |spec| {
            default::resources(spec);
            default::text(spec, "volumeMode", "Filesystem");
        });
        object::default(claim, "status", json!({}));
        default::text(&mut claim["status"], "phase", "Pending");
    }

    fn initial_status(&self) -> Option<Value> {
        Some(json!({"phase": "Pending"}))
    }

    fn prepare_create(&self, claim: &mut Value) {
        // What the older field never could name was always dropped.
        default::within(claim, "spec", |spec| {
            let known = match object::text(spec, &["dataSource", "apiGroup"]) {
                "" => Some("PersistentVolumeClaim"),
                "snapshot.storage.k8s.io" => Some("VolumeSnapshot"),
                _ => None,
            };
            let named = object::text(spec, &["dataSource", "kind"]);
            if object::at(spec, &["dataSourceRef"]).is_none_or(Value::is_null) && known != Some(named) {
                meta::put(spec, "dataSource", None);
            }
        });
        sources(claim);
    }

    fn prepare_update(&self, new: &mut Value, _old: &Value) {
        sources(new);
    }

    fn validate(&self, claim: &Value) -> Errors {
        check::object(claim, |claim| spec(&claim.at("spec")))
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Errors {
        let mut errors = self.validate(new);
        errors.extend(check::object(new, |claim| changes(&claim, old)));
        errors
    }

    fn validate_status(&self, new: &Value, _old: &Value) -> Errors {
        check::object(new, |claim| {
            let status = claim.at("status");
            for list in ["capacity", "allocatedResources"] {
                for (_, amount) in status.at(list).entries() {
                    if amount.quantity().is_some_and(|a| a.units() < 0) {
                        amount.invalid("must be a valid resource quantity");
                    }
                }
            }
            const STATES: &[&str] = &[
                "ControllerResizeInProgress",
                "ControllerResizeInfeasible",
                "NodeResizeInProgress",
                "NodeResizeInfeasible",
                "NodeResizePending",
            ];
            for (name, state) in status.at("allocatedResourceStatuses").entries() {
                if !STATES.contains(&state.text()) {
                    let at = state.shown_at(Path::new("status.allocatedResourceStatus"));
                    at.fault(Error::not_supported(&at.path, name, STATES));
                }
            }
        })
    }

    fn warnings(&self, claim: &Value, _old: Option<&Value>) -> Vec<String> {
        let mut found = volume::old_annotations(claim);
        found.extend(spec_warnings(&claim["spec"], &Path::new("spec")));
        found
    }

    fn columns(&self) -> &'static [Column] {
        COLUMNS
    }

    fn cells(&self, claim: &Value, now: Timestamp) -> Vec<Value> {
        let spec = |key: &str| object::text(claim, &["spec", key]);
        let phase = match object::is_terminating(claim) {
            true => "Terminating",
            false => object::text(claim, &["status", "phase"]),
        };
        let bound = !spec("volumeName").is_empty();
        let capacity = object::text(claim, &["status", "capacity", "storage"]);
        let modes = volume::modes(object::items(claim, &["status", "accessModes"]));
        vec![
            object::name(claim).into(),
            phase.into(),
            spec("volumeName").into(),
            if bound { capacity.into() } else { "".into() },
            if bound { modes.into() } else { "".into() },
            volume::class(claim).into(),
            volume::or_unset(spec("volumeAttributesClassName")),
            column::age(claim, now),
            volume::or_unset(spec("volumeMode")),
        ]
    }
}

/// What to say of the spec of a claim at a path.
pub(crate) fn spec_warnings(spec: &Value, path: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for list in ["requests", "limits"] {
        let Some(storage) = object::at(spec, &["resources", list, "storage"]) else { continue };
        let storage = Quantity::of(storage);
        if storage.amount.millis() % 1000 != 0 {
            let (at, text) = (path.child("resources").child(list).key("storage"), storage.to_string());
            found.push(format!("{at}: fractional byte value {text:?} is invalid, must be an integer"));
        }
    }
    found
}

/// Keeps the two ways to name a claim's source in step.
fn sources(claim: &mut Value) {
    default::within(claim, "spec", |spec| {
        let (old, new) = (spec["dataSource"].clone(), spec["dataSourceRef"].clone());
        if !old.is_null() && new.is_null() {
            spec["dataSourceRef"] = old;
        } else if old.is_null() && !new.is_null() && object::text(&new, &["namespace"]).is_empty() {
            let mut plain = new;
            meta::put(&mut plain, "namespace", None);
            spec["dataSource"] = plain;
        }
        for key in ["dataSource", "dataSourceRef"] {
            if spec[key].is_null() {
                meta::put(spec, key, None);
            }
        }
    });
}

fn changes(claim: &Field<'_>, old: &Value) {
    let (spec, was) = (claim.at("spec"), &old["spec"]);
    let mut rest = spec.value.clone();
    if object::text(was, &["volumeName"]).is_empty() {
        meta::keep(&mut rest, was, &["volumeName"]);
    }
    if was["storageClassName"].is_null() {
        meta::keep(&mut rest, was, &["storageClassName"]);
    }
    if object::text(claim.value, &["status", "phase"]) == "Bound" {
        let storage = object::at(was, &["resources", "requests", "storage"]).cloned();
        if let Some(requests) = rest["resources"].get_mut("requests").filter(|r| r.is_object()) {
            meta::put(requests, "storage", storage);
        }
        if spec.at("volumeAttributesClassName").is_set() {
            meta::keep(&mut rest, was, &["volumeAttributesClassName"]);
        }
    }
    if !check::same(&rest, was) {
        spec.forbidden(format!(
            "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims\n{}",
            check::diff(was, &rest)
        ));
    }
    let amount = |value: Option<&Value>| value.map(Quantity::of).unwrap_or_default().amount;
    let path = ["resources", "requests", "storage"];
    let (now, before) = (amount(object::at(spec.value, &path)), amount(object::at(was, &path)));
    if now < before && now <= amount(object::at(old, &["status", "capacity", "storage"])) {
        let at = spec.at("resources").at("requests").at("storage");
        at.forbidden("field can not be less than status.capacity");
    }
    if !check::same(spec.at("volumeMode").value, &was["volumeMode"]) {
        spec.at("volumeMode").shown_at(Path::new("volumeMode")).invalid(check::IMMUTABLE);
    }
    let attributes = spec.at("volumeAttributesClassName");
    if !object::text(was, &["volumeAttributesClassName"]).is_empty() && attributes.is_empty() {
        let to = if attributes.is_set() { "an empty string" } else { "nil" };
        attributes.forbidden(format!("update from non-nil value to {to} is forbidden"));
    }
}
