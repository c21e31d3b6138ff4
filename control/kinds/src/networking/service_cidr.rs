//! `ServiceCIDR`: the networks from which services get their addresses.

use jiff::Timestamp;
use proto_kube::field::Errors;
use proto_kube::object;
use serde_json::{Value, json};

use super::address;
use crate::Kind;
use crate::apps::workload;
use crate::check::{self, Field, IMMUTABLE};
use crate::column::{AGE, Column, NAME, text};

pub(super) struct ServiceCidr;

impl Kind for ServiceCidr {
    fn initial_status(&self) -> Option<Value> {
        Some(json!({}))
    }

    fn prepare_status(&self, new: &mut Value, old: &Value) {
        workload::only_status(new, old);
    }

    fn validate(&self, object: &Value) -> Errors {
        check::object(object, |object| networks(&object.at("spec").at("cidrs"), object.at("spec").value))
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Errors {
        let before: Vec<&str> = object::items(old, &["spec", "cidrs"]).filter_map(Value::as_str).collect();
        check::object(new, |new| {
            let cidrs = new.at("spec").at("cidrs");
            let grows = before.len() == 1 && cidrs.len() == 2;
            if cidrs.len() != before.len() && !grows {
                cidrs.invalid(IMMUTABLE);
                return;
            }
            for (cidr, _) in cidrs.items().zip(&before).filter(|(cidr, before)| cidr.text() != **before) {
                cidr.invalid(IMMUTABLE);
            }
            if grows {
                networks(&cidrs, new.at("spec").value);
            }
        })
    }

    fn validate_status(&self, _new: &Value, _old: &Value) -> Errors {
        Errors::new()
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[NAME, text("CIDRs", "The networks."), AGE];
        COLUMNS
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let cidrs: Vec<&str> = object::items(object, &["spec", "cidrs"]).filter_map(Value::as_str).collect();
        workload::row(object, vec![cidrs.join(",").into()], now)
    }
}

fn networks(cidrs: &Field<'_>, spec: &Value) {
    if !cidrs.needs("at least one CIDR required") {
        return;
    }
    if cidrs.len() > 2 {
        cidrs.invalid_value(spec.clone(), "may only hold up to 2 values");
        return;
    }
    cidrs.items().for_each(|cidr| address::canonical_network(&cidr));
    let known: Vec<bool> = cidrs
        .items()
        .filter_map(|cidr| address::parse_network(cidr.text()))
        .map(|n| n.addr().is_ipv4())
        .collect();
    if matches!(known.as_slice(), [a, b] if a == b) {
        cidrs.invalid(
            "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64",
        );
    }
}
