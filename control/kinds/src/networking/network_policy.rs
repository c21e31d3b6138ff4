//! `NetworkPolicy`: which pods may talk to which.

use jiff::Timestamp;
use proto_kube::field::Errors;
use proto_kube::{name, object};
use serde_json::{Value, json};

use super::address;
use crate::apps::workload;
use crate::check::{self, Field};
use crate::column::{AGE, Column, NAME, text};
use crate::{Kind, meta};

/// The lists of rules, each with the member that holds its peers.
const DIRECTIONS: [(&str, &str); 2] = [("ingress", "from"), ("egress", "to")];

pub(super) struct NetworkPolicy;

impl Kind for NetworkPolicy {
    fn default(&self, object: &mut Value) {
        object::member(object, "spec");
        let spec = &mut object["spec"];
        object::default(spec, "podSelector", json!({}));
        if object::items(spec, &["policyTypes"]).next().is_none() {
            let mut types = vec!["Ingress"];
            types.extend(object::items(spec, &["egress"]).next().map(|_| "Egress"));
            spec["policyTypes"] = json!(types);
        }
        for (direction, _) in DIRECTIONS {
            for rule in spec.get_mut(direction).and_then(Value::as_array_mut).into_iter().flatten() {
                let ports = rule.get_mut("ports").and_then(Value::as_array_mut);
                for port in ports.into_iter().flatten() {
                    object::default(port, "protocol", "TCP");
                }
            }
        }
    }

    fn generation(&self) -> &'static [&'static str] {
        &["spec"]
    }

    fn validate(&self, object: &Value) -> Errors {
        check::object(object, |object| spec(&object.at("spec"), &[]))
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Errors {
        let known = networks(old);
        check::object(new, |new| spec(&new.at("spec"), &known))
    }

    fn warnings(&self, new: &Value, _old: Option<&Value>) -> Vec<String> {
        let mut warnings = Vec::new();
        let mut note = |at: &Field<'_>| warnings.extend(address::network_warnings(&at.path, at.text()));
        check::object(new, |new| {
            for (direction, peers) in DIRECTIONS {
                for block in new.at("spec").at(direction).items().flat_map(|rule| rule.at(peers).items()) {
                    let block = block.at("ipBlock");
                    if block.is_set() {
                        note(&block.at("cidr"));
                        block.at("except").items().for_each(|except| note(&except));
                    }
                }
            }
        });
        warnings
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[NAME, text("Pod-Selector", "The pods that the policy is about."), AGE];
        COLUMNS
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        workload::row(object, vec![workload::selector_cell(object, &["spec", "podSelector"])], now)
    }
}

/// All networks that a policy names.
fn networks(policy: &Value) -> Vec<&str> {
    let rules = |(direction, peers): (&'static str, &'static str)| {
        object::items(policy, &["spec", direction]).flat_map(move |rule| object::items(rule, &[peers]))
    };
    let blocks = DIRECTIONS.into_iter().flat_map(rules).filter_map(|peer| object::at(peer, &["ipBlock"]));
    blocks
        .flat_map(|block| {
            let except = object::items(block, &["except"]).filter_map(Value::as_str);
            std::iter::once(object::text(block, &["cidr"])).chain(except)
        })
        .collect()
}

fn spec(spec: &Field<'_>, known: &[&str]) {
    meta::label_selector(&spec.at("podSelector"));
    for (direction, peers) in DIRECTIONS {
        for rule in spec.at(direction).items() {
            rule.at("ports").items().for_each(|at| port(&at));
            rule.at(peers).items().for_each(|at| peer(&at, known));
        }
    }
    let types = spec.at("policyTypes");
    if types.len() > 2 {
        types.invalid("may not specify more than two policyTypes");
        return;
    }
    types.items().for_each(|at| at.maybe_one_of(&["Ingress", "Egress"]));
}

fn port(port: &Field<'_>) {
    port.at("protocol").maybe_one_of(&["TCP", "UDP", "SCTP"]);
    let (at, end) = (port.at("port"), port.at("endPort"));
    match at.value {
        Value::Null if end.is_set() => end.invalid("may not be specified when `port` is not specified"),
        Value::Null => {}
        Value::String(_) => {
            if end.is_set() {
                end.invalid("may not be specified when `port` is non-numeric");
            }
            at.all_invalid(name::port(at.text()));
        }
        _ => {
            at.between(1, 65535);
            if end.number().is_some_and(|end| end < at.number_or_zero()) {
                end.invalid_value(at.value.clone(), "must be greater than or equal to `port`");
            }
            end.between(1, 65535);
        }
    }
}

fn peer(peer: &Field<'_>, known: &[&str]) {
    let (pods, namespaces, block) =
        (peer.at("podSelector"), peer.at("namespaceSelector"), peer.at("ipBlock"));
    let selectors = [pods, namespaces];
    selectors.iter().filter(|selector| selector.is_set()).for_each(meta::label_selector);
    if block.is_set() {
        ip_block(&block, known);
    }
    match (selectors.iter().any(Field::is_set), block.is_set()) {
        (false, false) => peer.required("must specify a peer"),
        (true, true) => peer.forbidden("may not specify both ipBlock and another peer"),
        _ => {}
    }
}

fn ip_block(block: &Field<'_>, known: &[&str]) {
    let cidr = block.at("cidr");
    if !cidr.needs("") {
        return;
    }
    let rule = |at: &Field<'_>| {
        if !known.contains(&at.text()) {
            address::network(at);
        }
    };
    rule(&cidr);
    let Some(whole) = address::parse_network(cidr.text()) else { return };
    for except in block.at("except").items() {
        rule(&except);
        let Some(part) = address::parse_network(except.text()) else { continue };
        if !whole.contains(&part.addr()) || whole.prefix_len() >= part.prefix_len() {
            except.invalid("must be a strict subset of `cidr`");
        }
    }
}
