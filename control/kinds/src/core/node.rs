//! `Node`.

use std::collections::BTreeSet;

use jiff::Timestamp;
use proto_kube::field::{Errors, Path};
use proto_kube::object;
use serde_json::{Value, json};

use crate::check::{self, Field, net};
use crate::column::{self, AGE, NAME, or_none, text, wide};
use crate::pod::{default, resources, scheduling};
use crate::{Column, Kind};

pub(super) struct Node;

const COLUMNS: &[Column] = &[
    NAME,
    text("Status", "Whether the node is ready, and whether it takes new pods."),
    text("Roles", "What the node is there for, by its labels."),
    AGE,
    text("Version", "The version of the node's agent."),
    wide(text("Internal-IP", "The node's address in its own network.")),
    wide(text("External-IP", "The node's address seen from outside.")),
    wide(text("OS-Image", "The node's operating system.")),
    wide(text("Kernel-Version", "The node's kernel.")),
    wide(text("Container-Runtime", "What runs the node's containers.")),
];

impl Kind for Node {
    fn default(&self, node: &mut Value) {
        default::within(node, "status", |status| {
            default::amounts(status, "capacity");
            default::amounts(status, "allocatable");
            if let Some(capacity) = object::at(status, &["capacity"]).cloned() {
                object::default(status, "allocatable", capacity);
            }
        });
        default::within(node, "spec", |spec| {
            // The one block of addresses and the list are kept in step; where they differ the one counts.
            let one = object::text(spec, &["podCIDR"]).to_owned();
            let first = object::items(spec, &["podCIDRs"]).next().and_then(Value::as_str).map(str::to_owned);
            match (one.as_str(), first) {
                ("", Some(first)) if !first.is_empty() => spec["podCIDR"] = first.into(),
                ("", _) => {}
                (_, Some(first)) if first == one => {}
                _ => spec["podCIDRs"] = json!([one]),
            }
        });
    }

    fn keeps_new_status(&self) -> bool {
        true
    }

    fn validate(&self, node: &Value) -> Errors {
        check::object(node, |node| {
            taints(&node);
            amounts(&node);
            blocks(&node.at("spec").at("podCIDRs"));
        })
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Errors {
        check::object(new, |node| {
            amounts(&node);
            let (spec, was) = (node.at("spec"), &old["spec"]);
            let mut seen = Vec::new();
            for address in node.at("status").at("addresses").items() {
                if seen.contains(&address.value) {
                    address.duplicate();
                }
                seen.push(address.value);
            }
            let blocks = spec.at("podCIDRs");
            if object::items(was, &["podCIDRs"]).next().is_some()
                && !check::same(blocks.value, &was["podCIDRs"])
            {
                blocks.forbidden("node updates may not change podCIDR except from \"\" to valid");
            }
            let before = object::text(was, &["providerID"]);
            if !before.is_empty() && spec.at("providerID").text() != before {
                let detail = "node updates may not change providerID except from \"\" to valid";
                spec.at("providerID").forbidden(detail);
            }
            taints(&node);
            if spec.at("externalID").text() != object::text(was, &["externalID"]) {
                spec.at("externalID").forbidden("may not be updated");
            }
        })
    }

    fn validate_status(&self, new: &Value, old: &Value) -> Errors {
        self.validate_update(new, old)
    }

    fn warnings(&self, node: &Value, _old: Option<&Value>) -> Vec<String> {
        let spec = &node["spec"];
        let mut found = Vec::new();
        if !spec["configSource"].is_null() {
            found.push("spec.configSource: the feature is no longer supported".to_owned());
        }
        if !object::text(spec, &["externalID"]).is_empty() {
            found.push("spec.externalID: this field is deprecated, and is unused by Kubernetes".to_owned());
        }
        found
    }

    fn columns(&self) -> &'static [Column] {
        COLUMNS
    }

    fn cells(&self, node: &Value, now: Timestamp) -> Vec<Value> {
        let info = |key: &str| object::text(node, &["status", "nodeInfo", key]);
        let known = |key: &str| match info(key) {
            "" => Value::from("<unknown>"),
            text => text.into(),
        };
        let kernel = match (info("kernelVersion"), info("architecture")) {
            ("", _) => "<unknown>".to_owned(),
            (version, "") => version.to_owned(),
            (version, architecture) => format!("{version} ({architecture})"),
        };
        vec![
            object::name(node).into(),
            status(node).into(),
            or_none(&roles(node)),
            column::age(node, now),
            info("kubeletVersion").into(),
            address(node, "InternalIP"),
            address(node, "ExternalIP"),
            known("osImage"),
            kernel.into(),
            known("containerRuntimeVersion"),
        ]
    }

    fn selectable(&self) -> &'static [&'static str] {
        &["spec.unschedulable"]
    }

    fn fields(&self, node: &Value) -> Vec<(&'static str, String)> {
        vec![("spec.unschedulable", (node["spec"]["unschedulable"] == Value::Bool(true)).to_string())]
    }
}

fn taints(node: &Field<'_>) {
    // Upstream shows them as if they were metadata.
    let taints = node.at("spec").at("taints").shown_at(Path::new("metadata.taints"));
    scheduling::taints(&taints);
}

fn amounts(node: &Field<'_>) {
    for list in ["capacity", "allocatable"] {
        let list = node.at("status").at(list);
        for (name, amount) in list.entries() {
            resources::quantity(&amount.shown_at(list.path.child(name)), name);
        }
    }
}

/// Rule: at most one block of addresses of each family.
fn blocks(blocks: &Field<'_>) {
    blocks.items().for_each(|block| net::cidr(&block, block.text()));
    if blocks.len() > 1 {
        let sixes = blocks.items().filter(|b| b.text().contains(':')).count();
        if blocks.len() > 2 || sixes != 1 {
            blocks.invalid("may specify no more than one CIDR for each IP family");
        }
        blocks.distinct();
    }
}

fn status(node: &Value) -> String {
    let ready =
        object::items(node, &["status", "conditions"]).find(|c| object::text(c, &["type"]) == "Ready");
    let ready = match ready.map(|c| object::text(c, &["status"])) {
        Some("True") => "Ready",
        Some(_) => "NotReady",
        None => "Unknown",
    };
    match node["spec"]["unschedulable"] {
        Value::Bool(true) => format!("{ready},SchedulingDisabled"),
        _ => ready.to_owned(),
    }
}

fn roles(node: &Value) -> String {
    let role = |(key, value): (&str, &str)| match key {
        "kubernetes.io/role" => Some(value.to_owned()),
        key => key.strip_prefix("node-role.kubernetes.io/").map(str::to_owned),
    };
    let roles: BTreeSet<String> =
        object::labels(node).filter_map(role).filter(|role| !role.is_empty()).collect();
    roles.into_iter().collect::<Vec<_>>().join(",")
}

fn address(node: &Value, kind: &str) -> Value {
    let found = object::items(node, &["status", "addresses"]).find(|a| object::text(a, &["type"]) == kind);
    or_none(found.map_or("", |a| object::text(a, &["address"])))
}
