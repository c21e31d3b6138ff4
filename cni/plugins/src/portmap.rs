//! `portmap`: ports of the host that lead to the container.

use std::net::IpAddr;

use ipnet::IpNet;
use netlink::conntrack::{Connection, Conntrack, UDP};
use netlink::nft::Nft;
use proto_node::cni::{AddResult, PortMapping};
use serde::Deserialize;

use crate::Plugin;
use crate::failure::Failure;
use crate::links::Kernel;
use crate::nat::{self, HostPort, Listen, Proto};
use crate::request::{Request, owner};

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Conf {
    snat: Option<bool>,
    #[serde(rename = "conditionsV4")]
    conditions_v4: Option<Vec<String>>,
    #[serde(rename = "conditionsV6")]
    conditions_v6: Option<Vec<String>>,
    external_set_mark_chain: Option<String>,
    runtime_config: RuntimeConf,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct RuntimeConf {
    port_mappings: Option<Vec<PortMapping>>,
}

/// The plugin `portmap`.
pub(crate) struct Portmap<'a> {
    request: &'a Request,
    snat: bool,
    mappings: Vec<PortMapping>,
}

/// What to do for the mappings of a pod with these addresses. Pure.
pub(crate) fn plan(mappings: &[PortMapping], pods: &[IpNet], snat: bool) -> Result<Vec<HostPort>, Failure> {
    let mut ports = Vec::new();
    for (at, mapping) in mappings.iter().enumerate().filter(|(_, m)| m.host_port != 0) {
        let wrong = |field: &str, reason: String| Failure::Config {
            field: format!("runtimeConfig.portMappings[{at}].{field}"),
            reason,
        };
        let proto = match mapping.protocol.to_ascii_lowercase().as_str() {
            "" | "tcp" => Proto::Tcp,
            "udp" => Proto::Udp,
            "sctp" => Proto::Sctp,
            other => return Err(wrong("protocol", format!("is {other:?}; it must be tcp, udp or sctp"))),
        };
        if mapping.container_port == 0 {
            return Err(wrong("containerPort", "is 0".into()));
        }
        let ip: Option<IpAddr> = match mapping.host_ip.as_str() {
            "" => None,
            text => Some(text.parse().map_err(|_| wrong("hostIP", format!("is {text:?}, no address")))?),
        };
        // the first address of each family is the one that services know the pod by
        for v4 in [true, false] {
            let Some(pod) = pods.iter().find(|net| matches!(net, IpNet::V4(_)) == v4) else { continue };
            let listen = match ip {
                Some(ip) if ip.is_ipv4() != v4 => continue,
                Some(ip) if !ip.is_unspecified() => Listen::On(ip),
                _ => Listen::Any,
            };
            let (host, port) = (mapping.host_port, mapping.container_port);
            ports.push(HostPort { listen, proto, host, pod: *pod, port, snat });
        }
    }
    ports.sort();
    ports.dedup();
    Ok(ports)
}

impl<'a> Portmap<'a> {
    /// Reads the configuration.
    pub(crate) fn new(request: &'a Request) -> Result<Portmap<'a>, Failure> {
        let conf: Conf = request.decode()?;
        let refuse = |field, reason| Err(Failure::Unsupported { field, reason });
        if conf.conditions_v4.is_some_and(|c| !c.is_empty())
            || conf.conditions_v6.is_some_and(|c| !c.is_empty())
        {
            return refuse(
                "conditionsV4 or conditionsV6",
                "are iptables text; this plugin uses nf_tables: remove them",
            );
        }
        if conf.external_set_mark_chain.is_some_and(|c| !c.is_empty()) {
            return refuse(
                "externalSetMarkChain",
                "is a chain of iptables; this plugin uses nf_tables: remove it",
            );
        }
        let mappings = conf.runtime_config.port_mappings.unwrap_or_default();
        Ok(Portmap { request, snat: conf.snat.unwrap_or(true), mappings })
    }

    fn previous(&self) -> Result<AddResult, Failure> {
        let missing = || Failure::Config {
            field: "prevResult".into(),
            reason: "is missing: portmap must come after a plugin that makes an interface".into(),
        };
        self.request.previous()?.ok_or_else(missing)
    }

    fn ports(&self, previous: &AddResult) -> Result<Vec<HostPort>, Failure> {
        // addresses of the container, not those that a plugin lists for the host
        let in_pod = |at: Option<usize>| {
            at.and_then(|at| previous.interfaces.get(at))
                .is_none_or(|interface| !interface.sandbox.is_empty())
        };
        let pods: Vec<IpNet> =
            previous.ips.iter().filter(|ip| in_pod(ip.interface)).map(|ip| ip.address).collect();
        plan(&self.mappings, &pods, self.snat)
    }

    /// The host's own packets to 127.0.0.1 may leave by the pod's bridge.
    fn allow_localhost(&self, ports: &[HostPort]) -> Result<(), Failure> {
        let v4 = ports.iter().find(|p| p.snat && p.pod.addr().is_ipv4());
        let Some(port) = v4 else { return Ok(()) };
        let Some(link) = Kernel::open(None)?.link_to(port.pod.addr())? else { return Ok(()) };
        let path = format!("/proc/sys/net/ipv4/conf/{link}/route_localnet");
        if std::fs::read_to_string(&path).is_ok_and(|v| v.trim() == "1") {
            return Ok(());
        }
        std::fs::write(&path, "1")
            .map_err(|source| Failure::Io { what: format!("write 1 to {path}"), source })
    }
}

/// Forgets UDP connections to these ports: their packets would go on to where they went before. Kernels built
/// without that part of connection tracking let them end by themselves, after 30 s of silence.
fn forget_udp(ports: &[(Listen, u16)]) {
    if ports.is_empty() {
        return;
    }
    let is_ours = |c: &Connection| {
        let original = &c.original;
        let listens = |listen: Listen| match listen {
            Listen::Any => true,
            Listen::On(ip) => original.destination == ip,
        };
        original.protocol == UDP
            && ports.iter().any(|(listen, port)| original.destination_port == *port && listens(*listen))
    };
    if let Err(error) = Conntrack::open().and_then(|mut tracking| tracking.forget(is_ours)) {
        eprintln!(
            "portmap: connections over UDP may go on to an old container: {}",
            Failure::from(error).text()
        );
    }
}

fn udp_of(ports: &[HostPort]) -> Vec<(Listen, u16)> {
    ports.iter().filter(|p| p.proto == Proto::Udp).map(|p| (p.listen, p.host)).collect()
}

impl Plugin for Portmap<'_> {
    fn add(&self) -> Result<AddResult, Failure> {
        let previous = self.previous()?;
        let ports = self.ports(&previous)?;
        if ports.is_empty() {
            return Ok(previous);
        }
        self.allow_localhost(&ports)?;
        let (mut nft, owner) = (Nft::open()?, self.request.owner());
        nat::set_hostports(&mut nft, &owner, &ports).map_err(|e| match e.is_present() {
            true => Failure::Exhausted(format!("a host port of {owner} is taken by another container: {e}")),
            false => e.into(),
        })?;
        forget_udp(&udp_of(&ports));
        Ok(previous)
    }

    fn del(&self) -> Result<(), Failure> {
        let owner = self.request.owner();
        nat::remove_hostports(&mut Nft::open()?, |o| o == owner)?;
        let udp = |m: &&PortMapping| m.host_port != 0 && m.protocol.eq_ignore_ascii_case("udp");
        let listen = |m: &PortMapping| match m.host_ip.parse::<IpAddr>() {
            Ok(ip) if !ip.is_unspecified() => Listen::On(ip),
            _ => Listen::Any,
        };
        let ports: Vec<_> = self.mappings.iter().filter(udp).map(|m| (listen(m), m.host_port)).collect();
        forget_udp(&ports);
        Ok(())
    }

    fn check(&self) -> Result<(), Failure> {
        let ports = self.ports(&self.previous()?)?;
        match nat::has_hostports(&mut Nft::open()?, &self.request.owner(), &ports)? {
            None => Ok(()),
            Some(port) => {
                let text =
                    format!("host port {} to {}:{} is not mapped", port.host, port.pod.addr(), port.port);
                Err(Failure::Damaged(text))
            }
        }
    }

    fn gc(&self) -> Result<(), Failure> {
        let (network, valid) = (self.request.network(), self.request.valid()?);
        let gone = gone(network, valid);
        Ok(nat::remove_hostports(&mut Nft::open()?, gone)?)
    }
}

/// Says of an owner that it is an attachment of this network, and not a valid one.
pub(crate) fn gone(network: &str, valid: &[proto_node::cni::GcAttachment]) -> impl Fn(&str) -> bool {
    let prefix = owner(network, "", "");
    let prefix = prefix.trim_end_matches('/').to_owned() + "/";
    let keep: std::collections::BTreeSet<String> =
        valid.iter().map(|v| owner(network, &v.container_id, &v.ifname)).collect();
    move |owner| owner.starts_with(&prefix) && !keep.contains(owner)
}
