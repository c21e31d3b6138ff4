//! `PersistentVolume`.

use jiff::Timestamp;
use proto_kube::field::{Errors, Path};
use proto_kube::{name, object};
use serde_json::{Value, json};

use super::claim::access_modes;
use crate::check::{self, Field, net};
use crate::column::{self, AGE, NAME, text, wide};
use crate::pod::{default, scheduling, volume};
use crate::{Column, Kind};

pub(super) struct PersistentVolume;

const COLUMNS: &[Column] = &[
    NAME,
    text("Capacity", "How much the volume holds."),
    text("Access Modes", "In which ways the volume can be mounted."),
    text("Reclaim Policy", "What happens to the volume when its claim is gone."),
    text("Status", "Whether the volume is claimed."),
    text("Claim", "The claim that has the volume."),
    text("StorageClass", "The class of the volume."),
    text("VolumeAttributesClass", "The class of the volume's attributes."),
    text("Reason", "Why the volume is in its status."),
    AGE,
    wide(text("VolumeMode", "Whether the volume is a file system or a block device.")),
];

/// The kinds of sources, in the order in which they are looked at.
const SOURCES: &[&str] = &[
    "hostPath",
    "gcePersistentDisk",
    "awsElasticBlockStore",
    "glusterfs",
    "flocker",
    "nfs",
    "rbd",
    "quobyte",
    "cephfs",
    "iscsi",
    "cinder",
    "fc",
    "flexVolume",
    "azureFile",
    "vsphereVolume",
    "photonPersistentDisk",
    "portworxVolume",
    "azureDisk",
    "scaleIO",
    "local",
    "storageos",
    "csi",
];

/// Kinds of sources that have gone.
const OLD: &[(&str, &str)] = &[
    ("photonPersistentDisk", "deprecated in v1.11, non-functional in v1.16+"),
    ("scaleIO", "deprecated in v1.16, non-functional in v1.22+"),
    ("storageos", "deprecated in v1.22, non-functional in v1.25+"),
    ("glusterfs", "deprecated in v1.25, non-functional in v1.26+"),
    ("cephfs", "deprecated in v1.28, non-functional in v1.31+"),
    ("rbd", "deprecated in v1.28, non-functional in v1.31+"),
];

/// What to say of annotations of a volume or claim that have become fields.
pub(super) fn old_annotations(object: &Value) -> Vec<String> {
    const ANNOTATIONS: [(&str, &str); 2] = [
        (
            "volume.beta.kubernetes.io/storage-class",
            "deprecated since v1.8; use \"storageClassName\" attribute instead",
        ),
        (
            "volume.beta.kubernetes.io/mount-options",
            "deprecated since v1.31; use \"mountOptions\" attribute instead",
        ),
    ];
    let has = |key: &str| object::annotations(object).any(|(k, _)| k == key);
    let known = ANNOTATIONS.iter().filter(|(key, _)| has(key));
    known.map(|(key, text)| format!("metadata.annotations[{key}]: {text}")).collect()
}

impl Kind for PersistentVolume {
    fn default(&self, volume: &mut Value) {
        default::within(volume, "spec", |spec| {
            default::amounts(spec, "capacity");
            default::text(spec, "persistentVolumeReclaimPolicy", "Retain");
            default::text(spec, "volumeMode", "Filesystem");
            default::source(spec);
            default::within(spec, "hostPath", |path| {
                object::default(path, "type", "");
            });
        });
        object::default(volume, "status", json!({}));
        default::text(&mut volume["status"], "phase", "Pending");
    }

    fn initial_status(&self) -> Option<Value> {
        Some(json!({"phase": "Pending"}))
    }

    fn prepare_create(&self, volume: &mut Value) {
        let created = volume["metadata"]["creationTimestamp"].clone();
        volume["status"]["lastPhaseTransitionTime"] = created;
    }

    fn validate(&self, volume: &Value) -> Errors {
        check::object(volume, |volume| rules(&volume.at("spec")))
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Errors {
        let mut errors = self.validate(new);
        errors.extend(check::object(new, |volume| changes(&volume.at("spec"), &old["spec"])));
        errors
    }

    fn validate_status(&self, _new: &Value, _old: &Value) -> Errors {
        Errors::new()
    }

    fn warnings(&self, volume: &Value, _old: Option<&Value>) -> Vec<String> {
        let mut found = old_annotations(volume);
        let spec = &volume["spec"];
        if object::text(spec, &["persistentVolumeReclaimPolicy"]) == "Recycle" {
            found.push("spec.persistentVolumeReclaimPolicy: The Recycle reclaim policy is deprecated. Instead, the recommended approach is to use dynamic provisioning.".to_owned());
        }
        for (kind, text) in OLD {
            if !spec[*kind].is_null() {
                found.push(format!("spec.{kind}: {text}"));
            }
        }
        found
    }

    fn columns(&self) -> &'static [Column] {
        COLUMNS
    }

    fn cells(&self, volume: &Value, now: Timestamp) -> Vec<Value> {
        let spec = |key: &str| object::text(volume, &["spec", key]);
        let claim = |key: &str| object::text(volume, &["spec", "claimRef", key]);
        let phase = match object::is_terminating(volume) {
            true => "Terminating",
            false => object::text(volume, &["status", "phase"]),
        };
        let claim = match object::at(volume, &["spec", "claimRef"]) {
            Some(_) => format!("{}/{}", claim("namespace"), claim("name")),
            None => String::new(),
        };
        vec![
            object::name(volume).into(),
            object::text(volume, &["spec", "capacity", "storage"]).into(),
            modes(object::items(volume, &["spec", "accessModes"])).into(),
            spec("persistentVolumeReclaimPolicy").into(),
            phase.into(),
            claim.into(),
            class(volume).into(),
            or_unset(spec("volumeAttributesClassName")),
            object::text(volume, &["status", "reason"]).into(),
            column::age(volume, now),
            or_unset(spec("volumeMode")),
        ]
    }
}

/// A text, or `<unset>` when it is empty.
pub(super) fn or_unset(text: &str) -> Value {
    if text.is_empty() { "<unset>".into() } else { text.into() }
}

/// The class of a volume or claim, which once was an annotation.
pub(super) fn class(object: &Value) -> &str {
    match object::annotations(object).find(|(key, _)| *key == "volume.beta.kubernetes.io/storage-class") {
        Some((_, class)) => class,
        None => object::text(object, &["spec", "storageClassName"]),
    }
}

/// Access modes in short: `RWO,ROX`.
pub(super) fn modes<'a>(modes: impl Iterator<Item = &'a Value>) -> String {
    const SHORT: [(&str, &str); 4] = [
        ("ReadWriteOnce", "RWO"),
        ("ReadOnlyMany", "ROX"),
        ("ReadWriteMany", "RWX"),
        ("ReadWriteOncePod", "RWOP"),
    ];
    let modes: Vec<&str> = modes.filter_map(Value::as_str).collect();
    let known = SHORT.iter().filter(|(mode, _)| modes.contains(mode));
    known.map(|(_, short)| *short).collect::<Vec<_>>().join(",")
}

fn rules(spec: &Field<'_>) {
    spec.at("accessModes").needs("");
    access_modes(&spec.at("accessModes"));
    let capacity = spec.at("capacity");
    capacity.needs("");
    if !capacity.at("storage").is_set() || capacity.len() > 1 {
        let shown = if capacity.is_set() { capacity.value.clone() } else { Value::Null };
        capacity.fault(proto_kube::field::Error::not_supported(&capacity.path, shown, &["storage"]));
    }
    for (_, amount) in capacity.entries() {
        if amount.quantity().is_some_and(|a| a.millis() <= 0) {
            amount.invalid("must be greater than zero");
        }
    }
    let policy = spec.at("persistentVolumeReclaimPolicy");
    if !policy.is_empty() {
        policy.maybe_one_of(&["Delete", "Recycle", "Retain"]);
    }
    let affinity = spec.at("nodeAffinity");
    if affinity.is_set() && affinity.at("required").needs_value("must specify required node constraints") {
        scheduling::node_selector(&affinity.at("required"));
    }
    sources(spec, affinity.is_set());
    let path = spec.at("hostPath").at("path").text();
    if policy.text() == "Recycle" && path.starts_with('/') && path.trim_matches('/').is_empty() {
        policy.forbidden("may not be 'recycle' for a hostPath mount of '/'");
    }
    spec.at("storageClassName").shaped(name::subdomain);
    spec.at("volumeMode").maybe_one_of(&["Block", "Filesystem"]);
    let attributes = spec.at("volumeAttributesClassName");
    if attributes.is_set() {
        if attributes.needs("an empty string is disallowed") {
            attributes.all_invalid(name::subdomain(attributes.text()));
        }
        spec.at("csi").needs_value("has to be specified when using volumeAttributesClassName");
    }
}

fn sources(spec: &Field<'_>, bound: bool) {
    let mut found = 0;
    for key in SOURCES {
        let Some(source) = spec.member(key) else { continue };
        found += 1;
        if found > 1 {
            source.forbidden("may not specify more than 1 volume type");
            continue;
        }
        match *key {
            "local" => {
                if source.at("path").needs("") {
                    net::no_backsteps(&source.at("path"));
                }
                if !bound {
                    spec.at("nodeAffinity").required("Local volume requires node affinity");
                }
            }
            "csi" => csi(&source),
            key => volume::rule(key).into_iter().for_each(|rule| rule(&source)),
        }
    }
    if found == 0 {
        spec.required("must specify a volume type");
    }
}

/// Rule: the `csi` source of a persistent volume.
pub(crate) fn csi(source: &Field<'_>) {
    volume::driver(&source.at("driver"));
    source.at("volumeHandle").needs("");
    for key in [
        "controllerPublishSecretRef",
        "controllerExpandSecretRef",
        "nodePublishSecretRef",
        "nodeExpandSecretRef",
    ] {
        if let Some(secret) = source.member(key) {
            secret.at("name").needs_shape(name::subdomain);
            secret.at("namespace").needs_shape(name::label);
        }
    }
}

fn changes(spec: &Field<'_>, was: &Value) {
    let mut source = spec.value.clone();
    let secret = "controllerExpandSecretRef";
    if !was["csi"].is_null() && was["csi"][secret].is_null() {
        default::within(&mut source, "csi", |csi| crate::meta::put(csi, secret, None));
    }
    let part =
        |spec: &Value| Value::Object(SOURCES.iter().map(|k| ((*k).to_owned(), spec[*k].clone())).collect());
    let (before, after) = (part(was), part(&source));
    if !check::same(&before, &after) {
        let at = spec.shown_at(Path::new("spec.persistentvolumesource"));
        let diff = check::diff(&before, &after);
        at.forbidden(format!("spec.persistentvolumesource is immutable after creation\n{diff}"));
    }
    let mode = spec.at("volumeMode");
    if !check::same(mode.value, &was["volumeMode"]) {
        mode.shown_at(Path::new("volumeMode")).invalid(check::IMMUTABLE);
    }
    let affinity = spec.at("nodeAffinity");
    if !was["nodeAffinity"].is_null() && !check::same(affinity.value, &was["nodeAffinity"]) {
        let at = affinity.shown_at(Path::new("nodeAffinity"));
        at.invalid("field is immutable, except for updating from beta label to GA");
    }
    let attributes = spec.at("volumeAttributesClassName");
    if !was["volumeAttributesClassName"].is_null() && !attributes.is_set() {
        attributes.forbidden("update from non-nil value to nil is forbidden");
    }
}
