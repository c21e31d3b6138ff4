//! `CSIDriver`: what the cluster should know of a storage driver.

use jiff::Timestamp;
use proto_kube::field::Errors;
use proto_kube::object;
use serde_json::{Value, json};

use crate::Kind;
use crate::apps::workload::{self, number};
use crate::check::{self, Field};
use crate::column::{AGE, Column, NAME, boolean, text};

const TOKEN_SECONDS: i64 = 600;
const UNSET: &str = "spec.serviceAccountTokenInSecrets is unset; if supported by this CSI driver, set to true to prevent possible logging of tokens in volume attributes";

pub(super) struct CsiDriver;

impl Kind for CsiDriver {
    fn default(&self, object: &mut Value) {
        object::member(object, "spec");
        let spec = &mut object["spec"];
        object::default(spec, "attachRequired", true);
        for member in ["podInfoOnMount", "storageCapacity", "requiresRepublish", "seLinuxMount"] {
            object::default(spec, member, false);
        }
        object::default(spec, "fsGroupPolicy", "ReadWriteOnceWithFSType");
        if object::items(spec, &["volumeLifecycleModes"]).next().is_none() {
            spec["volumeLifecycleModes"] = json!(["Persistent"]);
        }
    }

    fn prepare_update(&self, new: &mut Value, old: &Value) {
        // A new driver has no generation, a changed one has.
        if !check::same_at(new, old, &["spec"]) {
            let generation = number(old, &["metadata", "generation"]) + 1;
            object::metadata(new).insert("generation".to_owned(), generation.into());
        }
    }

    fn validate(&self, object: &Value) -> Errors {
        check::object(object, |object| spec(&object.at("spec")))
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Errors {
        check::object(new, |new| {
            spec(&new.at("spec"));
            let required = new.at("spec").at("attachRequired");
            if required.value != &old["spec"]["attachRequired"] {
                // Upstream's word for the field.
                required.shown_at(new.at("spec").path.child("attachedRequired")).invalid(check::IMMUTABLE);
            }
            new.at("spec").at("volumeLifecycleModes").unchanged(old);
        })
    }

    fn warnings(&self, new: &Value, old: Option<&Value>) -> Vec<String> {
        let changed = old.is_none_or(|old| !check::same_at(new, old, &["spec", "tokenRequests"]));
        let some = object::items(new, &["spec", "tokenRequests"]).next().is_some();
        let unset = new["spec"]["serviceAccountTokenInSecrets"].is_null();
        if changed && some && unset { vec![UNSET.to_owned()] } else { Vec::new() }
    }

    fn unconditional_update(&self) -> bool {
        false
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            NAME,
            boolean("AttachRequired", "Whether a volume is attached before it is mounted."),
            boolean("PodInfoOnMount", "Whether the driver is told which pod a volume is for."),
            boolean("StorageCapacity", "Whether the scheduler asks for the driver's free capacity."),
            text("TokenRequests", "The audiences of the tokens that the driver gets."),
            boolean("RequiresRepublish", "Whether a mounted volume is published again and again."),
            text("Modes", "Which lives the driver's volumes can have."),
            AGE,
        ];
        COLUMNS
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let spec = &object["spec"];
        let flag = |member: &str, missing: bool| Value::from(spec[member].as_bool().unwrap_or(missing));
        let audiences = object::items(spec, &["tokenRequests"]).map(|t| object::text(t, &["audience"]));
        let tokens = match spec["tokenRequests"].is_null() {
            true => "<unset>".to_owned(),
            false => audiences.collect::<Vec<_>>().join(","),
        };
        let modes: Vec<&str> =
            object::items(spec, &["volumeLifecycleModes"]).filter_map(Value::as_str).collect();
        let middle = vec![
            flag("attachRequired", true),
            flag("podInfoOnMount", false),
            flag("storageCapacity", false),
            tokens.into(),
            flag("requiresRepublish", false),
            crate::column::or_none(&modes.join(",")),
        ];
        workload::row(object, middle, now)
    }
}

fn spec(spec: &Field<'_>) {
    spec.at("fsGroupPolicy").maybe_one_of(&["File", "None", "ReadWriteOnceWithFSType"]);
    let tokens = spec.at("tokenRequests");
    let mut seen: Vec<&str> = Vec::new();
    for token in tokens.items() {
        let (audience, seconds) = (token.at("audience"), token.at("expirationSeconds"));
        if seen.contains(&audience.text()) {
            audience.duplicate();
            continue;
        }
        seen.push(audience.text());
        match seconds.number() {
            Some(..TOKEN_SECONDS) => seconds.invalid("may not specify a duration less than 10 minutes"),
            Some(n) if n > 1 << 32 => seconds.invalid("may not specify a duration larger than 2^32 seconds"),
            _ => {}
        }
    }
    let modes = spec.at("volumeLifecycleModes");
    for mode in modes.items().filter(|mode| !["Persistent", "Ephemeral"].contains(&mode.text())) {
        // Upstream names the list, not the item.
        mode.shown_at(modes.path.clone()).not_supported(&["Persistent", "Ephemeral"]);
    }
    let period = spec.at("nodeAllocatableUpdatePeriodSeconds");
    if period.number().is_some_and(|n| n < 10) {
        period.invalid("must be greater than or equal to 10 seconds");
    }
    let in_secrets = spec.at("serviceAccountTokenInSecrets");
    if in_secrets.is_set() && tokens.is_empty() {
        in_secrets.invalid("serviceAccountTokenInSecrets is set but no tokenRequests are specified");
    }
}
