//! Rules, strategies and rows of signing requests.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use proto_kube::User;
use proto_kube::field::Errors;
use serde_json::{Value, json};

use super::signing_request::SigningRequest;
use super::{request_as, stamp};
use crate::Kind;

fn pem(kind: &str) -> String {
    STANDARD.encode(format!("-----BEGIN {kind}-----\nMAA=\n-----END {kind}-----\n"))
}

/// Two requests, of which those who look at the start of lines find the second only.
const HIDING: &str = "#-----BEGIN CERTIFICATE REQUEST-----\nMAA=\n-----END CERTIFICATE REQUEST-----\n-----BEGIN CERTIFICATE REQUEST-----\nMAA=\n-----END CERTIFICATE REQUEST-----\n";

fn request() -> Value {
    json!({
        "metadata": {"name": "a"},
        "spec": {"request": pem("CERTIFICATE REQUEST"), "signerName": "example.com/a", "usages": ["client auth"]},
        "status": {},
    })
}

fn texts(errors: Errors) -> Vec<String> {
    errors.iter().map(ToString::to_string).collect()
}

#[test]
fn rules() {
    assert_eq!(texts(SigningRequest.validate(&request())), Vec::<String>::new());
    for (member, value, expected) in [
        ("request", json!(pem("CERTIFICATE")), "PEM block type must be CERTIFICATE REQUEST"),
        (
            "request",
            json!(STANDARD.encode(HIDING)),
            "must be one PEM block CERTIFICATE REQUEST without headers, and no text beside it",
        ),
        ("usages", json!([]), "spec.usages: Required value"),
        ("usages", json!(["any", "any"]), "spec.usages[1]: Duplicate value: \"any\""),
        (
            "usages",
            json!(["x"]),
            "spec.usages[0]: Unsupported value: \"x\": supported values: \"any\", \"cert sign\"",
        ),
        (
            "signerName",
            json!("kubernetes.io/legacy-unknown"),
            "the legacy signerName is not allowed via this API version",
        ),
        (
            "signerName",
            json!("a"),
            "must be a fully qualified domain and path of the form 'example.com/signer-name'",
        ),
        ("signerName", json!("a/b"), "should be a domain with at least two segments separated by dots"),
        ("expirationSeconds", json!(599), "may not specify a duration less than 600 seconds (10 minutes)"),
    ] {
        let mut object = request();
        object["spec"][member] = value;
        let found = texts(SigningRequest.validate(&object));
        assert!(found.len() == 1 && found[0].contains(expected), "{found:?}");
    }
}

#[test]
fn approval() {
    let old = request();
    let mut new = old.clone();
    new["spec"]["usages"] = json!(["any"]);
    new["status"] = json!({"certificate": "x", "conditions": [{"type": "Approved", "status": "True"}]});
    let asked = new.clone();
    SigningRequest.prepare_subresource("approval", &mut new, &old);
    stamp(&mut new, &old, Timestamp::UNIX_EPOCH);
    assert_eq!(new["spec"], old["spec"]);
    let time = "1970-01-01T00:00:00Z";
    let condition =
        json!({"type": "Approved", "status": "True", "lastUpdateTime": time, "lastTransitionTime": time});
    assert_eq!(new["status"], json!({"conditions": [condition]}));
    assert_eq!(texts(SigningRequest.validate_subresource("approval", &new, &old)), Vec::<String>::new());
    assert_eq!(
        texts(SigningRequest.validate_subresource("status", &new, &old)),
        ["status.conditions: Forbidden: updates may not add a condition of type \"Approved\""]
    );
    let mut plain = asked;
    SigningRequest.prepare_update(&mut plain, &old);
    assert_eq!(plain["spec"], old["spec"]);

    let mut both = new.clone();
    both["status"]["conditions"].as_array_mut().unwrap().push(json!({"type": "Denied", "status": "False"}));
    assert_eq!(
        texts(SigningRequest.validate_subresource("approval", &both, &new)),
        [
            "status.conditions[1].status: Unsupported value: \"False\": supported values: \"True\"",
            "status.conditions: Invalid value: \"Denied\": Approved and Denied conditions are mutually exclusive",
        ]
    );
    assert_eq!(
        texts(SigningRequest.validate_subresource("approval", &old, &new)),
        ["status.conditions: Forbidden: updates may not remove a condition of type \"Approved\""]
    );
}

#[test]
fn certificates() {
    let old = request();
    let with = |kind: &str| {
        let mut new = request();
        new["status"]["certificate"] = pem(kind).into();
        new
    };
    let update = |subresource, new: &Value, old: &Value| {
        texts(SigningRequest.validate_subresource(subresource, new, old))
    };
    assert_eq!(update("status", &with("CERTIFICATE"), &old), Vec::<String>::new());
    assert_eq!(
        update("approval", &with("CERTIFICATE"), &old),
        ["status.certificate: Forbidden: updates may not set certificate content"]
    );
    assert_eq!(
        update("status", &with("KEY"), &with("CERTIFICATE")),
        [
            "status.certificate: Invalid value: \"<certificate data>\": only CERTIFICATE PEM blocks are allowed, found \"KEY\"",
            "status.certificate: Forbidden: updates may not modify existing certificate content",
        ]
    );
}

#[test]
fn the_sender_is_written_down() {
    let mut object = request();
    object["spec"]["groups"] = json!(["system:masters"]);
    let extra = BTreeMap::from([("k".to_owned(), vec!["v".to_owned()])]);
    request_as(&mut object, &User { name: "jane".to_owned(), extra, ..User::default() });
    assert_eq!(object["spec"]["username"], "jane");
    assert_eq!(object["spec"]["groups"], Value::Null);
    assert_eq!(object["spec"]["extra"], json!({"k": ["v"]}));
}

#[test]
fn row() {
    let mut object = request();
    object["spec"]["username"] = "jane".into();
    object["spec"]["expirationSeconds"] = 3600.into();
    object["status"] = json!({"certificate": "x", "conditions": [{"type": "Approved", "status": "True"}]});
    let cells = Value::from(SigningRequest.cells(&object, Timestamp::UNIX_EPOCH));
    assert_eq!(cells, json!(["a", "<unknown>", "example.com/a", "jane", "60m", "Approved,Issued"]));
}
