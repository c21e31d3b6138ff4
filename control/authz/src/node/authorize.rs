//! What a node may do, resource by resource, in upstream's words.

use proto_kube::User;

use super::references::Kind;
use super::{Graph, STORAGE};
use crate::{Attributes, Decision};

fn allow() -> Decision {
    Decision::Allow(String::new())
}

fn no(why: impl Into<String>) -> Decision {
    Decision::NoOpinion(why.into())
}

impl Graph {
    /// Whether a node may do something. Never denies, and has no opinion about users that are no nodes.
    #[must_use]
    pub fn authorize(&self, user: &User, asked: &Attributes<'_>) -> Decision {
        let Some(node) = user.node() else { return no("") };
        if node.is_empty() {
            return no(format!("unknown node for user {:?}", user.name));
        }
        if asked.path.is_none() {
            match (asked.group, asked.resource) {
                ("", "secrets") => return self.read(node, Kind::Secret, asked),
                ("", "configmaps") => return self.read(node, Kind::ConfigMap, asked),
                ("", "persistentvolumeclaims") => return self.claim(node, asked),
                ("", "persistentvolumes") => return self.get(node, Kind::Volume, asked),
                (STORAGE, "volumeattachments") => return self.get(node, Kind::Attachment, asked),
                ("", "serviceaccounts") => return self.service_account(node, asked),
                ("coordination.k8s.io", "leases") => return lease(node, asked),
                (STORAGE, "csinodes") => return csi_node(node, asked),
                ("", "nodes") => return own_node(node, asked),
                ("", "pods") => return self.pod(node, asked),
                _ => {}
            }
        }
        if self.rules.iter().any(|rule| rule.allows(asked)) { allow() } else { no("") }
    }

    fn related(&self, node: &str, kind: Kind, asked: &Attributes<'_>) -> Decision {
        if asked.name.is_empty() {
            return no("No Object name found");
        }
        if self.leads(kind, asked.namespace, asked.name, node) {
            return allow();
        }
        no(format!("no relationship found between node '{node}' and this object"))
    }

    fn read(&self, node: &str, kind: Kind, asked: &Attributes<'_>) -> Decision {
        match asked {
            Attributes { verb, .. } if !["get", "list", "watch"].contains(verb) => {
                no("can only read resources of this type")
            }
            Attributes { subresource: "", namespace: "", .. } => {
                no("can only read namespaced object of this type")
            }
            Attributes { subresource: "", .. } => self.related(node, kind, asked),
            _ => no("cannot read subresource"),
        }
    }

    fn get(&self, node: &str, kind: Kind, asked: &Attributes<'_>) -> Decision {
        match (asked.verb, asked.subresource) {
            ("get", "") => self.related(node, kind, asked),
            ("get", _) => no("cannot get subresource"),
            _ => no("can only get individual resources of this type"),
        }
    }

    fn claim(&self, node: &str, asked: &Attributes<'_>) -> Decision {
        match (asked.subresource, asked.verb) {
            ("status", "update" | "patch") => self.related(node, Kind::Claim, asked),
            ("status", _) => no("can only get/update/patch this type"),
            _ => self.get(node, Kind::Claim, asked),
        }
    }

    fn service_account(&self, node: &str, asked: &Attributes<'_>) -> Decision {
        match (asked.verb, asked.subresource) {
            ("get", "") => self.read(node, Kind::ServiceAccount, asked),
            ("create", _) if asked.name.is_empty() => {
                no("can only create tokens for individual service accounts")
            }
            ("create", "token") => self.related(node, Kind::ServiceAccount, asked),
            ("create", _) => no("can only create token subresource of serviceaccount"),
            _ => no("can only create tokens for individual service accounts"),
        }
    }

    fn pod(&self, node: &str, asked: &Attributes<'_>) -> Decision {
        let bound = || asked.fields.is_some_and(|fields| fields.exactly("spec.nodeName") == Some(node));
        match (asked.subresource, asked.verb) {
            ("", "get") => self.get(node, Kind::Pod, asked),
            ("", "list" | "watch") if bound() => allow(),
            ("", "list" | "watch") if asked.name.is_empty() => {
                no("can only list/watch pods with spec.nodeName field selector")
            }
            ("", "list" | "watch") => self.related(node, Kind::Pod, asked),
            // Admission holds these to the node's own pods.
            ("", "create" | "delete") | ("status", "update" | "patch") | ("eviction", "create") => allow(),
            _ => no(""),
        }
    }
}

fn own_node(node: &str, asked: &Attributes<'_>) -> Decision {
    match (asked.subresource, asked.verb) {
        // Admission holds these to the node's own object.
        ("", "create" | "update" | "patch") | ("status", "update" | "patch") => allow(),
        ("", "get" | "list" | "watch") => match asked.name {
            name if name == node => allow(),
            "" => no(format!("node '{node}' cannot read all nodes, only its own Node object")),
            other => no(format!("node '{node}' cannot read '{other}', only its own Node object")),
        },
        _ => no(""),
    }
}

const OWN: [&str; 5] = ["get", "create", "update", "patch", "delete"];

fn lease(node: &str, asked: &Attributes<'_>) -> Decision {
    if !OWN.contains(&asked.verb) {
        return no("can only get, create, update, patch, or delete a node lease");
    }
    if asked.namespace != "kube-node-lease" {
        return no("can only access leases in the \"kube-node-lease\" system namespace");
    }
    // Authorization does not see the name of what is created; admission does.
    if asked.verb != "create" && asked.name != node {
        return no("can only access node lease with the same name as the requesting node");
    }
    allow()
}

fn csi_node(node: &str, asked: &Attributes<'_>) -> Decision {
    if !OWN.contains(&asked.verb) {
        return no("can only get, create, update, patch, or delete a CSINode");
    }
    if !asked.subresource.is_empty() {
        return no("cannot authorize CSINode subresources");
    }
    if asked.verb != "create" && asked.name != node {
        return no("can only access CSINode with the same name as the requesting node");
    }
    allow()
}
