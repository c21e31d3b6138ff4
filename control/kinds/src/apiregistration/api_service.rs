//! `APIService`: who serves a version of a group.

use jiff::Timestamp;
use proto_kube::field::Errors;
use proto_kube::{name, object};
use serde_json::{Value, json};

use crate::Kind;
use crate::apps::workload;
use crate::check::{self, Field};
use crate::column::{AGE, Column, NAME, text};

pub(super) struct ApiService;

impl Kind for ApiService {
    fn default(&self, object: &mut Value) {
        if let Some(service) = object.pointer_mut("/spec/service").filter(|service| service.is_object()) {
            object::default(service, "port", 443);
        }
    }

    fn name(&self, text: &str, _prefix: bool) -> Vec<String> {
        name::path_segment(text)
    }

    fn initial_status(&self) -> Option<Value> {
        Some(json!({}))
    }

    fn prepare_create(&self, object: &mut Value) {
        if object::at(object, &["spec", "service"]).is_none() {
            object["status"] = json!({"conditions": [{
                "type": "Available",
                "status": "True",
                "lastTransitionTime": object::text(object, &["metadata", "creationTimestamp"]),
                "reason": "Local",
                "message": "Local APIServices are always available",
            }]});
        }
    }

    fn prepare_status(&self, new: &mut Value, old: &Value) {
        workload::only_status(new, old);
    }

    fn validate(&self, object: &Value) -> Errors {
        check::object(object, |object| {
            let spec = object.at("spec");
            let (group, version) = (spec.at("group"), spec.at("version"));
            let named = object.at("metadata").at("name");
            let wanted = format!("{}.{}", version.text(), group.text());
            if named.text() != wanted {
                named.invalid(format!("must be `spec.version+\".\"+spec.group`: {wanted:?}"));
            }
            if group.is_empty() && version.text() != "v1" {
                group.required("only v1 may have an empty group and it better be legacy kube");
            }
            group.shaped(name::subdomain);
            version.all_invalid(name::label_1035(version.text()));
            for (member, most) in [("groupPriorityMinimum", 20_000), ("versionPriority", 1000)] {
                let at = spec.at(member);
                if !(1..=most).contains(&at.number_or_zero()) {
                    at.invalid_value(at.number_or_zero(), format!("must be positive and less than {most}"));
                }
            }
            connection(&spec);
        })
    }

    fn validate_status(&self, new: &Value, _old: &Value) -> Errors {
        check::object(new, |new| {
            for status in new.at("status").at("conditions").items().map(|condition| condition.at("status")) {
                if !["True", "False", "Unknown"].contains(&status.text()) {
                    status.not_supported(&["True", "False", "Unknown"]);
                }
            }
        })
    }

    fn unconditional_update(&self) -> bool {
        false
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            NAME,
            text("Service", "Which service serves the version."),
            text("Available", "Whether it does."),
            AGE,
        ];
        COLUMNS
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let service = object::at(object, &["spec", "service"]).map_or("Local".to_owned(), |service| {
            format!("{}/{}", object::text(service, &["namespace"]), object::text(service, &["name"]))
        });
        let mut conditions = object::items(object, &["status", "conditions"]);
        let available =
            conditions.find(|c| object::text(c, &["type"]) == "Available").map(|condition| {
                match (object::text(condition, &["status"]), object::text(condition, &["reason"])) {
                    (status @ "True", _) | (status, "") => status.to_owned(),
                    (status, reason) => format!("{status} ({reason})"),
                }
            });
        let available = available.unwrap_or_else(|| "Unknown".to_owned());
        workload::row(object, vec![service.into(), available.into()], now)
    }
}

fn connection(spec: &Field<'_>) {
    let (bundle, insecure, service) =
        (spec.at("caBundle"), spec.at("insecureSkipTLSVerify"), spec.at("service"));
    if !service.is_set() {
        if !bundle.is_empty() {
            let bytes = bundle.text().trim_end_matches('=').len() * 3 / 4;
            bundle.invalid_value(format!("{bytes} bytes"), "local APIServices may not have a caBundle");
        }
        if insecure.is_true() {
            insecure.invalid("local APIServices may not have insecureSkipTLSVerify");
        }
        return;
    }
    service.at("namespace").needs("");
    service.at("name").needs("");
    let port = service.at("port");
    if !(1..=65535).contains(&port.number_or_zero()) {
        port.invalid("port is not valid: must be between 1 and 65535, inclusive");
    }
    if insecure.is_true() && !bundle.is_empty() {
        insecure.invalid("may not be true if caBundle is present");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(name: &str, spec: Value) -> Vec<String> {
        let mut object = json!({"metadata": {"name": name}, "spec": spec});
        ApiService.default(&mut object);
        ApiService.validate(&object).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn rules() {
        let right = json!({"group": "a.b", "version": "v1", "groupPriorityMinimum": 1, "versionPriority": 1});
        assert_eq!(faults("v1.a.b", right.clone()), Vec::<String>::new());
        assert_eq!(
            faults(
                "v1",
                json!({"version": "v1", "groupPriorityMinimum": 20_001, "insecureSkipTLSVerify": true, "caBundle": "QUJD"})
            ),
            [
                "metadata.name: Invalid value: \"v1\": must be `spec.version+\".\"+spec.group`: \"v1.\"",
                "spec.groupPriorityMinimum: Invalid value: 20001: must be positive and less than 20000",
                "spec.versionPriority: Invalid value: 0: must be positive and less than 1000",
                "spec.caBundle: Invalid value: \"3 bytes\": local APIServices may not have a caBundle",
                "spec.insecureSkipTLSVerify: Invalid value: true: local APIServices may not have insecureSkipTLSVerify",
            ]
        );
        let mut remote = right;
        remote["service"] = json!({"name": "a", "port": 0});
        assert_eq!(
            faults("v1.a.b", remote),
            [
                "spec.service.namespace: Required value",
                "spec.service.port: Invalid value: 0: port is not valid: must be between 1 and 65535, inclusive",
            ]
        );
    }

    #[test]
    fn rows() {
        let mut object =
            json!({"metadata": {"name": "v1.", "creationTimestamp": "1970-01-01T00:00:00Z"}, "spec": {}});
        ApiService.prepare_create(&mut object);
        let cells = Value::from(ApiService.cells(&object, Timestamp::UNIX_EPOCH));
        assert_eq!(cells, json!(["v1.", "Local", "True", "0s"]));
        object["spec"]["service"] = json!({"namespace": "a", "name": "b"});
        object["status"]["conditions"][0]["status"] = "False".into();
        let cells = Value::from(ApiService.cells(&object, Timestamp::UNIX_EPOCH));
        assert_eq!(cells, json!(["v1.", "a/b", "False (Local)", "0s"]));
    }
}
