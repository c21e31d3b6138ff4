//! `static`: the addresses that the configuration says.

use std::net::IpAddr;

use ipnet::IpNet;
use proto_node::cni::{AddResult, Dns, IpConfig, Route};
use serde::Deserialize;

use crate::Plugin;
use crate::failure::Failure;
use crate::host_local::Wishes;
use crate::request::Request;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Conf {
    ipam: IpamConf,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct IpamConf {
    addresses: Vec<AddressConf>,
    routes: Vec<Route>,
    dns: Dns,
}

#[derive(Debug, Deserialize)]
struct AddressConf {
    address: IpNet,
    gateway: Option<IpAddr>,
}

/// The plugin `static`.
pub(crate) struct Fixed {
    result: AddResult,
}

impl Fixed {
    /// Reads the configuration, and the addresses in `CNI_ARGS` (`IP`, `GATEWAY`), `args.cni.ips` and
    /// `runtimeConfig.ips`, which win over it.
    pub(crate) fn new(request: &Request) -> Result<Fixed, Failure> {
        let conf: Conf = request.decode()?;
        let mut ips: Vec<IpConfig> = conf
            .ipam
            .addresses
            .iter()
            .map(|a| IpConfig { address: a.address, gateway: a.gateway, interface: None })
            .collect();
        let wished = Wishes::read(request)?.texts;
        if !wished.is_empty() {
            let gateways = request.args.get("GATEWAY").map(String::as_str).unwrap_or_default();
            let gateways: Vec<IpAddr> = gateways.split(',').filter_map(|g| g.parse().ok()).collect();
            ips = wished.iter().map(|text| wish(text, &gateways)).collect::<Result<_, _>>()?;
        }
        Ok(Fixed {
            result: AddResult { ips, routes: conf.ipam.routes, dns: conf.ipam.dns, ..Default::default() },
        })
    }
}

fn wish(text: &str, gateways: &[IpAddr]) -> Result<IpConfig, Failure> {
    let reason = || format!("has {text:?}, which is no address with a prefix length");
    let address: IpNet =
        text.parse().map_err(|_| Failure::Config { field: "ips".into(), reason: reason() })?;
    let gateway = gateways.iter().copied().find(|g| address.contains(g));
    Ok(IpConfig { address, gateway, interface: None })
}

impl Plugin for Fixed {
    fn add(&self) -> Result<AddResult, Failure> {
        if self.result.ips.is_empty() {
            let reason = "is empty, and the runtime asks for no address".into();
            return Err(Failure::Config { field: "ipam.addresses".into(), reason });
        }
        Ok(self.result.clone())
    }

    fn del(&self) -> Result<(), Failure> {
        Ok(())
    }

    fn check(&self) -> Result<(), Failure> {
        Ok(())
    }
}
