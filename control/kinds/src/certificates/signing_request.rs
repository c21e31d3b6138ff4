//! `CertificateSigningRequest`: who wants a certificate, whether they may have it, and the certificate.

use jiff::Timestamp;
use proto_kube::field::{Error, Errors};
use proto_kube::{User, name, object};
use serde_json::{Map, Value, json};

use super::pem;
use crate::check::{self, Field};
use crate::column::{self, Column, NAME, text};
use crate::{Kind, meta};

const USAGES: [&str; 23] = [
    "any",
    "cert sign",
    "client auth",
    "code signing",
    "content commitment",
    "crl sign",
    "data encipherment",
    "decipher only",
    "digital signature",
    "email protection",
    "encipher only",
    "ipsec end system",
    "ipsec tunnel",
    "ipsec user",
    "key agreement",
    "key encipherment",
    "microsoft sgc",
    "netscape sgc",
    "ocsp signing",
    "s/mime",
    "server auth",
    "signing",
    "timestamping",
];
/// What becomes of a request. Once said it stays said, and there is no saying `False`.
const VERDICTS: [&str; 3] = ["Approved", "Denied", "Failed"];
const LEGACY_SIGNER: &str = "kubernetes.io/legacy-unknown";
const SECONDS_LEAST: i64 = 600;

pub(super) struct SigningRequest;

/// Writes into a new request who asks: whatever the client put there.
pub fn request_as(request: &mut Value, user: &User) {
    object::member(request, "spec");
    let spec = &mut request["spec"];
    let texts = |texts: &[String]| (!texts.is_empty()).then(|| json!(texts));
    let some = |text: &String| (!text.is_empty()).then(|| Value::from(text.as_str()));
    let extra: Map<String, Value> =
        user.extra.iter().map(|(key, values)| (key.clone(), json!(values))).collect();
    meta::put(spec, "username", some(&user.name));
    meta::put(spec, "uid", some(&user.uid));
    meta::put(spec, "groups", texts(&user.groups));
    meta::put(spec, "extra", (!extra.is_empty()).then(|| extra.into()));
}

/// Gives the conditions of a request that is updated through `approval` or `status` the times that they lack.
pub fn stamp(new: &mut Value, old: &Value, now: Timestamp) {
    let now = meta::time(now);
    let conditions = new.pointer_mut("/status/conditions").and_then(Value::as_array_mut);
    for condition in conditions.into_iter().flatten() {
        object::default(condition, "lastUpdateTime", now.as_str());
        let same = |old: &&Value| ["type", "status"].iter().all(|member| old[*member] == condition[*member]);
        let before = object::items(old, &["status", "conditions"]).find(same);
        let since = before.and_then(|old| object::at(old, &["lastTransitionTime"])).cloned();
        object::default(condition, "lastTransitionTime", since.unwrap_or_else(|| now.as_str().into()));
    }
}

impl Kind for SigningRequest {
    fn name(&self, text: &str, _prefix: bool) -> Vec<String> {
        name::path_segment(text)
    }

    fn initial_status(&self) -> Option<Value> {
        Some(json!({}))
    }

    fn prepare_update(&self, new: &mut Value, old: &Value) {
        meta::keep(new, old, &["spec"]);
    }

    fn prepare_subresource(&self, subresource: &str, new: &mut Value, old: &Value) {
        meta::keep(new, old, &["spec"]);
        let conditions = object::at(new, &["status", "conditions"]).cloned();
        if subresource == "approval" {
            meta::keep(new, old, &["status"]);
            object::member(new, "status");
            meta::put(&mut new["status"], "conditions", conditions);
        } else {
            ["Approved", "Denied"].iter().for_each(|verdict| keep_condition(new, old, verdict));
        }
    }

    fn validate(&self, object: &Value) -> Errors {
        check::object(object, |request| rules(&request, None))
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Errors {
        self.validate_subresource("", new, old)
    }

    fn validate_subresource(&self, subresource: &str, new: &Value, old: &Value) -> Errors {
        check::object(new, |request| {
            rules(&request, Some(old));
            change(&request, old, subresource);
        })
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            NAME,
            column::AGE,
            text("SignerName", "Who is to sign."),
            text("Requestor", "Who asks."),
            text("RequestedDuration", "For how long the certificate is to be good."),
            text("Condition", "What became of the request."),
        ];
        COLUMNS
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let seconds = object::at(object, &["spec", "expirationSeconds"]).and_then(Value::as_i64);
        vec![
            object::name(object).into(),
            column::age(object, now),
            column::or_none(object::text(object, &["spec", "signerName"])),
            object::text(object, &["spec", "username"]).into(),
            seconds.map_or("<none>".to_owned(), column::duration).into(),
            state(object).into(),
        ]
    }

    fn selectable(&self) -> &'static [&'static str] {
        &["spec.signerName"]
    }

    fn fields(&self, object: &Value) -> Vec<(&'static str, String)> {
        vec![("spec.signerName", object::text(object, &["spec", "signerName"]).to_owned())]
    }
}

fn conditions<'a>(request: &'a Value, verdict: &str) -> Vec<&'a Value> {
    object::items(request, &["status", "conditions"])
        .filter(|c| object::text(c, &["type"]) == verdict)
        .collect()
}

fn state(request: &Value) -> String {
    let is = |verdict: &str| !conditions(request, verdict).is_empty();
    let mut parts = vec![match (is("Denied"), is("Approved")) {
        (true, _) => "Denied",
        (_, true) => "Approved",
        _ => "Pending",
    }];
    parts.extend(is("Failed").then_some("Failed"));
    parts.extend((!object::text(request, &["status", "certificate"]).is_empty()).then_some("Issued"));
    parts.join(",")
}

/// Takes over the old conditions of a type, when there are as many of them.
fn keep_condition(new: &mut Value, old: &Value, verdict: &str) {
    let before = conditions(old, verdict);
    if before.len() != conditions(new, verdict).len() {
        return;
    }
    let mut before = before.into_iter();
    let list = new.pointer_mut("/status/conditions").and_then(Value::as_array_mut);
    for condition in list.into_iter().flatten().filter(|c| object::text(c, &["type"]) == verdict) {
        if let Some(old) = before.next() {
            *condition = old.clone();
        }
    }
}

fn rules(request: &Field<'_>, old: Option<&Value>) {
    let spec = request.at("spec");
    body(&spec.at("request"));
    let usages = spec.at("usages");
    usages.needs("");
    if old.is_none() {
        usages.items().for_each(|usage| usage.maybe_one_of(&USAGES));
        usages.distinct();
    }
    let signer = spec.at("signerName");
    let was_legacy = old.is_some_and(|old| old["spec"]["signerName"] == LEGACY_SIGNER);
    if signer.text() == LEGACY_SIGNER && !was_legacy {
        signer.invalid("the legacy signerName is not allowed via this API version");
    } else {
        signer_name(&signer);
    }
    let seconds = spec.at("expirationSeconds");
    if seconds.number().is_some_and(|n| n < SECONDS_LEAST) {
        seconds.invalid("may not specify a duration less than 600 seconds (10 minutes)");
    }
    let status = request.at("status");
    condition_rules(&status.at("conditions"), old);
    let certificate = status.at("certificate");
    if old.is_none_or(|old| &old["status"]["certificate"] != certificate.value)
        && let Some(why) = certificate_fault(certificate.text())
    {
        certificate.invalid_value("<certificate data>", why);
    }
}

/// Rule: PEM of one signing request and nothing else, so that nobody approves another request than is signed. Whether
/// its signature is right is for the signer to see.
fn body(request: &Field<'_>) {
    const KIND: &str = "CERTIFICATE REQUEST";
    let text = pem::of_field(request.text()).unwrap_or_default();
    match pem::sole(&text, KIND) {
        Some(data) if pem::is_sequence(&data) => {}
        Some(_) => request.invalid("asn1: structure error"),
        None if pem::blocks(&text).iter().any(|block| block.kind == KIND) => {
            request
                .invalid("must be one PEM block CERTIFICATE REQUEST without headers, and no text beside it");
        }
        None => request.invalid("PEM block type must be CERTIFICATE REQUEST"),
    }
}

fn certificate_fault(base64: &str) -> Option<String> {
    if base64.is_empty() {
        return None;
    }
    let text = pem::of_field(base64).unwrap_or_default();
    let blocks = pem::blocks(&text);
    for block in &blocks {
        if block.kind != "CERTIFICATE" {
            return Some(format!("only CERTIFICATE PEM blocks are allowed, found {:?}", block.kind));
        }
        if block.headed {
            return Some("no PEM block headers are permitted".to_owned());
        }
        if !pem::is_sequence(&block.data) {
            return Some("x509: malformed certificate".to_owned());
        }
    }
    blocks.is_empty().then(|| "must contain at least one CERTIFICATE PEM block".to_owned())
}

/// Rule: a signer's name: `example.com/signer`.
fn signer_name(signer: &Field<'_>) {
    signer.needs("");
    let [domain, path] = signer.text().split('/').collect::<Vec<_>>()[..] else {
        signer.invalid("must be a fully qualified domain and path of the form 'example.com/signer-name'");
        return;
    };
    if domain.len() > 253 {
        signer.fault(Error::too_long(&signer.path, 253));
    }
    let first_wrong = |text: &str, shape: fn(&str) -> Vec<String>| {
        let part =
            text.split('.').map(|part| (part.to_owned(), shape(part))).find(|(_, faults)| !faults.is_empty());
        let (part, faults) = part.unwrap_or_default();
        for fault in faults {
            signer.invalid_value(text, format!("validating label {part:?}: {fault}"));
        }
    };
    first_wrong(domain, name::label);
    if !domain.contains('.') {
        signer.invalid_value(domain, "should be a domain with at least two segments separated by dots");
    }
    first_wrong(path, name::subdomain);
    if signer.text().len() > 571 {
        signer.fault(Error::too_long(&signer.path, 571));
    }
}

fn condition_rules(list: &Field<'_>, old: Option<&Value>) {
    let kinds = |value: &Value, verdict: &str| !conditions(value, verdict).is_empty();
    let was_both = old.is_some_and(|old| kinds(old, "Approved") && kinds(old, "Denied"));
    let mut seen: Vec<&str> = Vec::new();
    for condition in list.items() {
        let (kind, status) = (condition.at("type"), condition.at("status"));
        kind.needs("");
        let known: &[&str] =
            if VERDICTS.contains(&kind.text()) { &["True"] } else { &["False", "True", "Unknown"] };
        status.one_of(known);
        let other = match kind.text() {
            "Approved" => "Denied",
            "Denied" => "Approved",
            _ => "",
        };
        if !was_both && !other.is_empty() && seen.contains(&other) {
            list.invalid_value(kind.text(), "Approved and Denied conditions are mutually exclusive");
        }
        if seen.contains(&kind.text()) {
            kind.duplicate();
        }
        seen.push(kind.text());
    }
}

/// Rule: who may say what becomes of a request, and who may put the certificate there.
fn change(request: &Field<'_>, old: &Value, subresource: &str) {
    let (list, certificate) = (request.at("status").at("conditions"), request.at("status").at("certificate"));
    for verdict in VERDICTS {
        let (before, now) = (conditions(old, verdict), conditions(request.value, verdict));
        if now.len() < before.len() {
            list.forbidden(format!("updates may not remove a condition of type {verdict:?}"));
        } else if subresource != "approval" && verdict != "Failed" && now != before {
            let text = match now.len() > before.len() {
                true => format!("updates may not add a condition of type {verdict:?}"),
                false => {
                    let (before, now) = (json!(before), json!(now));
                    let diff = check::diff(&before, &now);
                    format!("updates may not modify a condition of type {verdict:?}\n{diff}")
                }
            };
            list.forbidden(text);
        }
    }
    let before = object::text(old, &["status", "certificate"]);
    if certificate.text() == before {
        return;
    }
    if subresource != "status" {
        certificate.forbidden("updates may not set certificate content");
    } else if !before.is_empty() {
        certificate.forbidden("updates may not modify existing certificate content");
    }
}
