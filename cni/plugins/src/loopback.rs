//! `loopback`: brings up `lo` in the container.

use netlink::route::Route;
use proto_node::cni::{AddResult, Interface, IpConfig};

use crate::Plugin;
use crate::failure::Failure;
use crate::request::Request;

/// The plugin `loopback`.
pub(crate) struct Loopback<'a> {
    request: &'a Request,
}

impl<'a> Loopback<'a> {
    /// It has no configuration of its own.
    pub(crate) fn new(request: &'a Request) -> Loopback<'a> {
        Loopback { request }
    }
}

impl Plugin for Loopback<'_> {
    fn add(&self) -> Result<AddResult, Failure> {
        let netns = self.request.require_netns()?;
        let mut route = Route::open_in(&netns)?;
        let lo = route.link("lo")?.ok_or_else(|| Failure::Damaged("the container has no lo".into()))?;
        route.set_up(lo.index, true)?;
        if let Some(previous) = self.request.previous()? {
            return Ok(previous);
        }
        let addresses = route.addresses(Some(lo.index))?;
        let ip = |net| IpConfig { address: net, gateway: None, interface: Some(0) };
        Ok(AddResult {
            interfaces: vec![Interface {
                name: "lo".into(),
                mac: "00:00:00:00:00:00".into(),
                sandbox: self.request.netns.clone(),
                ..Interface::default()
            }],
            ips: addresses.into_iter().map(|a| ip(a.net)).collect(),
            ..AddResult::default()
        })
    }

    fn del(&self) -> Result<(), Failure> {
        let Some(netns) = self.request.open_netns()? else { return Ok(()) };
        let mut route = Route::open_in(&netns)?;
        match route.link("lo")? {
            Some(lo) => Ok(route.set_up(lo.index, false)?),
            None => Ok(()),
        }
    }

    fn check(&self) -> Result<(), Failure> {
        let netns = self.request.require_netns()?;
        match Route::open_in(&netns)?.link("lo")? {
            Some(lo) if lo.up => Ok(()),
            _ => Err(Failure::Damaged("lo is down".into())),
        }
    }
}
