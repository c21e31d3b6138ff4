//! `VolumeAttachment`: the wish that a volume is attached to a node.

use jiff::Timestamp;
use proto_kube::field::{Error, Errors};
use proto_kube::{name, object};
use serde_json::{Value, json};

use crate::Kind;
use crate::apps::workload;
use crate::check::{self, Field};
use crate::column::{AGE, Column, NAME, boolean, text};
use crate::core::{claim, volume};
use crate::pod::volume::driver;

const METADATA_BYTES: usize = 256 << 10;
const MESSAGE_BYTES: usize = 1024;

pub(super) struct VolumeAttachment;

impl Kind for VolumeAttachment {
    fn initial_status(&self) -> Option<Value> {
        Some(json!({"attached": false}))
    }

    fn prepare_status(&self, new: &mut Value, old: &Value) {
        workload::only_status(new, old);
    }

    fn validate(&self, object: &Value) -> Errors {
        check::object(object, |object| {
            spec(&object.at("spec"));
            status(&object.at("status"));
        })
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Errors {
        let mut errors = self.validate(new);
        errors.extend(check::object(new, |new| new.at("spec").unchanged(old)));
        errors
    }

    fn validate_status(&self, new: &Value, old: &Value) -> Errors {
        self.validate_update(new, old)
    }

    fn unconditional_update(&self) -> bool {
        false
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            NAME,
            Column { format: "name", ..text("Attacher", "The driver that attaches the volume.") },
            text("PV", "The volume."),
            text("Node", "The node."),
            boolean("Attached", "Whether it is attached."),
            AGE,
        ];
        COLUMNS
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let spec = |path: &[&str]| Value::from(object::text(&object["spec"], path));
        let middle = vec![
            spec(&["attacher"]),
            spec(&["source", "persistentVolumeName"]),
            spec(&["nodeName"]),
            (object["status"]["attached"] == true).into(),
        ];
        workload::row(object, middle, now)
    }
}

fn spec(spec: &Field<'_>) {
    driver(&spec.at("attacher"));
    let source = spec.at("source");
    let (inline, volume) = (source.at("inlineVolumeSpec"), source.at("persistentVolumeName"));
    let text = "must specify exactly one of inlineVolumeSpec and persistentVolumeName";
    match (inline.is_set(), volume.is_set()) {
        (false, false) => source.required(text),
        (true, true) => source.forbidden(text),
        (false, true) => {
            volume.needs("must specify non empty persistentVolumeName");
            volume.shaped(name::subdomain);
        }
        (true, false) => inline_volume(&inline),
    }
    spec.at("nodeName").all_invalid(name::subdomain(spec.at("nodeName").text()));
}

/// Rule: the spec of a persistent volume that stands here instead of in an object of its own.
fn inline_volume(spec: &Field<'_>) {
    const INLINE: &str = "in the context of inline volumes";
    for at in ["claimRef", "capacity"].map(|member| spec.at(member)) {
        if !at.is_empty() {
            at.forbidden(format!("may not be specified {INLINE}"));
        }
    }
    let source = spec.at("csi");
    source.needs_value(&format!("has to be specified {INLINE}"));
    if spec.at("accessModes").needs("") {
        claim::access_modes(&spec.at("accessModes"));
    }
    let policy = spec.at("persistentVolumeReclaimPolicy");
    if !["", "Retain"].contains(&policy.text()) {
        policy.forbidden(format!("may only be Retain {INLINE}"));
    }
    if let Some(affinity) = spec.member("nodeAffinity") {
        affinity.forbidden(format!("may not be specified {INLINE}"));
    }
    if source.is_set() {
        volume::csi(&source);
    }
    if !spec.at("storageClassName").is_empty() {
        spec.at("storageClassName").forbidden(format!("may not be specified {INLINE}"));
    }
    let mode = spec.at("volumeMode");
    if mode.is_set() && mode.text() != "Filesystem" {
        mode.forbidden(format!("may not specify volumeMode other than Filesystem {INLINE}"));
    }
}

fn status(status: &Field<'_>) {
    let metadata = status.at("attachmentMetadata");
    if metadata.entries().map(|(key, value)| key.len() + value.text().len()).sum::<usize>() > METADATA_BYTES {
        metadata.fault(Error::too_long(&metadata.path, METADATA_BYTES));
    }
    for error in ["attachError", "detachError"].map(|member| status.at(member)) {
        if error.at("message").text().len() > MESSAGE_BYTES {
            error.fault(Error::too_long(&error.at("message").path, METADATA_BYTES));
        }
        error.at("errorCode").between(0, i64::from(i32::MAX));
    }
}
