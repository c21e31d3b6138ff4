//! Ranges of service addresses are not removed while addresses of them are in use.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use proto_kube::view::View;
use proto_kube::{GroupResource, object};
use serde_json::{Value, json};

use crate::conditions::{self, stamp};
use crate::resources::{IP_ADDRESSES, SERVICE_CIDRS, served};
use crate::write::update_status;
use crate::{Controller, Key, Mutation, Outcome, World, owner};

const FINALIZER: &str = "networking.k8s.io/service-cidr-finalizer";
const READY: (&str, &str, &str) = ("True", "", "Kubernetes Service CIDR is ready");
const TERMINATING: (&str, &str, &str) = (
    "False",
    "Terminating",
    "There are still IPAddresses referencing the ServiceCIDR, please remove them or create a new ServiceCIDR",
);

/// Protects ranges, and says of each whether addresses are given from it.
pub(crate) struct ServiceCidrs;

impl Controller for ServiceCidrs {
    fn name(&self) -> &'static str {
        "service-cidrs-controller"
    }

    fn watches(&self) -> &'static [(&'static str, &'static str)] {
        &[("networking.k8s.io", "servicecidrs"), ("networking.k8s.io", "ipaddresses")]
    }

    fn keys(
        &self,
        view: &dyn View,
        of: GroupResource<'_>,
        _old: Option<&Value>,
        new: Option<&Value>,
    ) -> Vec<Key> {
        match new {
            Some(cidr) if of == SERVICE_CIDRS => vec![owner::key(cidr)],
            // An address or a range has gone; or another range may take over.
            None => {
                let all = view.list(SERVICE_CIDRS, "");
                all.iter().filter(|c| object::is_terminating(c)).map(|cidr| owner::key(cidr)).collect()
            }
            Some(_) => Vec::new(),
        }
    }

    fn reconcile(&self, world: &World<'_>, key: &Key) -> Outcome {
        let mut out = Outcome::default();
        let Some(cidr) = world.view.get(SERVICE_CIDRS, "", &key.1) else { return out };
        let finalizers: Vec<&Value> = object::items(&cidr, &["metadata", "finalizers"]).collect();
        let has = finalizers.iter().any(|f| **f == FINALIZER);
        let merge = |finalizers: Value| {
            let mut patch = owner::guarded(&cidr);
            patch["metadata"]["finalizers"] = finalizers;
            Mutation::Merge(served(SERVICE_CIDRS), key.clone(), None, patch)
        };
        let going = object::is_terminating(&cidr);
        let (is, reason, message) = match going {
            true if has && !is_used(world.view, &cidr) => {
                let others: Vec<&Value> = finalizers.into_iter().filter(|f| **f != FINALIZER).collect();
                out.mutations.push(merge(if others.is_empty() { Value::Null } else { json!(others) }));
                return out;
            }
            true => TERMINATING,
            false => READY,
        };
        let told = conditions::get(&cidr["status"], "Ready");
        if !going && !has {
            let all = finalizers.into_iter().cloned().chain([FINALIZER.into()]);
            out.mutations.push(merge(all.collect()));
        } else if told.is_none_or(|c| c["status"] != is) {
            let mut changed = (*cidr).clone();
            let ready = json!({"type": "Ready", "status": is, "reason": reason, "message": message,
                "lastTransitionTime": stamp(world.now)});
            if !changed["status"].is_object() {
                changed["status"] = json!({});
            }
            conditions::put(&mut changed["status"], ready);
            out.mutations.push(update_status(SERVICE_CIDRS, changed));
        }
        out
    }
}

/// Whether an address is in this range and in no other that stays.
fn is_used(view: &dyn View, cidr: &Value) -> bool {
    let nets = |cidr: &Value| -> Vec<IpNet> {
        let texts = object::items(cidr, &["spec", "cidrs"]).filter_map(Value::as_str);
        texts.filter_map(|text| text.parse().ok()).collect()
    };
    let all = view.list(SERVICE_CIDRS, "");
    let others = all.iter().filter(|o| object::name(o) != object::name(cidr) && !object::is_terminating(o));
    let (own, others): (Vec<IpNet>, Vec<IpNet>) =
        (nets(cidr), others.flat_map(|other| nets(other)).collect());
    let within = |nets: &[IpNet], ip: &IpAddr| nets.iter().any(|net| net.contains(ip));
    let address = |object: &Arc<Value>| {
        let name = object::name(object);
        // A name has no colons: an address of IPv6 is written with all its eight groups.
        name.parse().or_else(|_| name.replace('-', ":").parse::<IpAddr>()).ok()
    };
    view.list(IP_ADDRESSES, "")
        .iter()
        .filter_map(address)
        .any(|ip| within(&own, &ip) && !within(&others, &ip))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::driven::Driven;

    #[test]
    fn a_range_waits_until_nobody_has_an_address_of_it() {
        let mut driven = Driven::new(vec![Box::new(ServiceCidrs)]);
        for (name, cidr) in [("a", "10.1.0.0/24"), ("b", "fd00::/112")] {
            driven.objects.put(SERVICE_CIDRS, json!({"metadata": {"name": name}, "spec": {"cidrs": [cidr]}}));
        }
        driven
            .objects
            .put(IP_ADDRESSES, json!({"metadata": {"name": "fd00-0000-0000-0000-0000-0000-0000-0001"}}));
        driven.settle();
        let ready = |driven: &Driven, name: &str| {
            driven.get(SERVICE_CIDRS, "", name).map(|c| c["status"]["conditions"][0]["status"].clone())
        };
        assert_eq!(ready(&driven, "a"), Some("True".into()));
        for name in ["a", "b"] {
            let key = (String::new(), name.to_owned());
            driven
                .objects
                .apply(&Mutation::Delete(served(SERVICE_CIDRS), key, json!({})), driven.now)
                .unwrap();
        }
        driven.settle();
        assert_eq!((ready(&driven, "a"), ready(&driven, "b")), (None, Some("False".into())));
        driven.objects.remove(IP_ADDRESSES, "", "fd00-0000-0000-0000-0000-0000-0000-0001");
        driven.settle();
        assert_eq!(ready(&driven, "b"), None);
    }
}
