//! The addresses and node ports of services. Each is a key of its own in the transaction of the service, so that several
//! API servers never give one away twice: an `IPAddress` object for a cluster IP, as upstream has it, and a record below
//! `/registry/ranges/servicenodeports/` for a node port.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::ops::RangeInclusive;

use kinds::core::service::allocate::{self as numbers, Ranges, Refusal, Taken};
use proto_kube::object;
use proto_kube::status::{Result, Status};
use serde_json::{Value, json};

use super::call::Call;
use crate::random;
use crate::stored;

/// The ports that are given to services of type `NodePort`.
const PORTS: RangeInclusive<u16> = 30_000..=32_767;

/// The numbers as the store has them.
struct Keys<'a>(&'a Call<'a>);

impl Keys<'_> {
    fn has(&self, key: &str) -> bool {
        self.0.server.store.get(key).is_some()
    }
}

impl Taken for Keys<'_> {
    fn address(&self, address: IpAddr) -> bool {
        self.has(&address_key(address))
    }

    fn node_port(&self, port: u16) -> bool {
        self.has(&port_key(port))
    }
}

/// What a service holds of the cluster's numbers.
#[derive(Debug, Default, PartialEq, Eq)]
struct Held {
    addresses: BTreeSet<IpAddr>,
    ports: BTreeSet<u16>,
}

fn is_service(call: &Call<'_>) -> bool {
    call.stored.group.is_empty() && call.stored.plural == "services"
}

fn held(service: &Value) -> Held {
    let held = numbers::held(service);
    Held { addresses: held.addresses.into_iter().collect(), ports: held.node_ports.into_iter().collect() }
}

fn address_key(address: IpAddr) -> String {
    format!("/registry/ipaddresses/{address}")
}

fn port_key(port: u16) -> String {
    format!("/registry/ranges/servicenodeports/{port}")
}

/// Gives a new or changed service its addresses and ports. What comes back is to be written with it.
///
/// # Errors
/// 422 when an address or port is taken or not of the range, 500 when none is left.
pub(crate) fn allocate(
    call: &Call<'_>,
    service: &mut Value,
    old: Option<&Value>,
) -> Result<Vec<store::Write>> {
    if !is_service(call) {
        return Ok(Vec::new());
    }
    let before = old.map(held).unwrap_or_default();
    let ranges = Ranges { addresses: call.server.config.service_cidrs.clone(), node_ports: PORTS };
    let given = numbers::allocate(service, old, &ranges, &Keys(call), fastrand::u64(..));
    given.map_err(|refusal| match refusal {
        Refusal::Invalid(errors) => Status::invalid(&call.resource.gvk(), object::name(service), &errors),
        Refusal::Exhausted(why) => Status::internal(why),
    })?;
    let now = held(service);
    let mut writes = take(call, service, &before, &now);
    writes.extend(give_back(&before, &now));
    Ok(writes)
}

/// What is to be written when a service is removed; its endpoints go with it.
pub(crate) fn release(call: &Call<'_>, service: &Value) -> Vec<store::Write> {
    if !is_service(call) {
        return Vec::new();
    }
    let mut writes = give_back(&held(service), &Held::default());
    let endpoints = format!("/registry/services/endpoints/{}/{}", call.namespace, object::name(service));
    writes.push(gone(endpoints));
    writes
}

fn give_back(before: &Held, now: &Held) -> Vec<store::Write> {
    let addresses = before.addresses.difference(&now.addresses).map(|a| address_key(*a));
    let ports = before.ports.difference(&now.ports).map(|p| port_key(*p));
    addresses.chain(ports).map(gone).collect()
}

fn gone(key: String) -> store::Write {
    store::Write { key, expect: store::Expect::Any, op: store::Op::Delete }
}

fn take(call: &Call<'_>, service: &Value, before: &Held, now: &Held) -> Vec<store::Write> {
    let (namespace, name) = (call.namespace, object::name(service));
    let addresses = now.addresses.difference(&before.addresses).map(|address| {
        let family = if address.is_ipv4() { "IPv4" } else { "IPv6" };
        let object = json!({
            "apiVersion": "networking.k8s.io/v1",
            "kind": "IPAddress",
            "metadata": {
                "name": address.to_string(),
                "uid": random::uid(),
                "creationTimestamp": kinds::meta::time(call.ctx.now),
                "labels": {
                    "ipaddress.kubernetes.io/ip-family": family,
                    "ipaddress.kubernetes.io/managed-by": "ipallocator.k8s.io",
                },
            },
            "spec": {"parentRef": {"resource": "services", "namespace": namespace, "name": name}},
        });
        store::Write::create(address_key(*address), stored::encode(&object))
    });
    let ports = now.ports.difference(&before.ports).map(|port| {
        let record = json!({"service": format!("{namespace}/{name}")});
        store::Write::create(port_key(*port), record.to_string())
    });
    addresses.chain(ports).collect()
}
