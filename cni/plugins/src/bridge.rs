//! `bridge`: a veth pair between the container and a bridge of the host.

mod conf;
mod plan;

use netlink::nft::{Family, Nft};
use netlink::route::mac_text;
use proto_node::cni::{AddResult, Interface};

use crate::failure::Failure;
use crate::links::{Kernel, LinkOp, Links, Side};
use crate::portmap::gone;
use crate::request::{Command, Request};
use crate::{Plugin, ipam, nat};

pub(crate) use conf::Conf;
pub(crate) use plan::{Args, gateways, host_name, plan, sysctls, unplan};

/// The plugin `bridge`.
pub(crate) struct Bridge<'a> {
    request: &'a Request,
    conf: Conf,
}

impl<'a> Bridge<'a> {
    /// Reads the configuration.
    pub(crate) fn new(request: &'a Request) -> Result<Bridge<'a>, Failure> {
        Ok(Bridge { request, conf: Conf::read(request)? })
    }

    fn see(&self, kernel: &mut Kernel, args: &Args) -> Result<Links, Failure> {
        let mut links = kernel.see(&[
            (Side::Host, &self.conf.bridge),
            (Side::Host, &args.host),
            (Side::Pod, &args.ifname),
        ])?;
        // those of links that are not there yet cannot be seen, and need not be
        let sysctls: Vec<(Side, String)> =
            sysctls(&self.conf, args).into_iter().map(|(side, path, _)| (side, path)).collect();
        kernel.see_sysctls(&mut links, &sysctls)?;
        if self.conf.ip_masq && links.get(Side::Host, &args.host).is_some() {
            let ips = nat::masqueraded(&mut Nft::open()?, &args.owner)?;
            let nets = args.ipam.ips.iter().map(|ip| ip.address);
            links.masquerade = nets.filter(|net| ips.contains(&net.addr())).collect();
        }
        Ok(links)
    }

    fn args(&self, ipam: AddResult) -> Result<Args, Failure> {
        let owner = self.request.owner();
        Ok(Args {
            host: host_name(&owner),
            ifname: self.request.ifname.clone(),
            mac: self.conf.mac(self.request)?,
            ipam: gateways(&self.conf, ipam)?,
            owner,
        })
    }

    fn attach(&self, kernel: &mut Kernel, ipam: AddResult) -> Result<AddResult, Failure> {
        let args = self.args(ipam)?;
        let links = self.see(kernel, &args)?;
        let ops = plan(&self.conf, &args, &links)?;
        kernel.apply(&ops)?;
        self.result(kernel, &args).map_err(|first| kernel.undo(&ops, first))
    }

    fn result(&self, kernel: &mut Kernel, args: &Args) -> Result<AddResult, Failure> {
        let names = [
            (Side::Host, self.conf.bridge.as_str()),
            (Side::Host, args.host.as_str()),
            (Side::Pod, args.ifname.as_str()),
        ];
        let links = kernel.see(&names)?;
        let mut result = args.ipam.clone();
        for (side, name) in names {
            let seen = links.get(side, name);
            let seen = seen.ok_or_else(|| Failure::Damaged(format!("link {name} is gone already")))?;
            let sandbox = if side == Side::Pod { self.request.netns.clone() } else { String::new() };
            result.interfaces.push(Interface {
                name: name.to_owned(),
                mac: mac_text(&seen.link.mac),
                mtu: (side == Side::Pod).then_some(seen.link.mtu),
                sandbox,
                ..Interface::default()
            });
        }
        for ip in &mut result.ips {
            ip.interface = Some(2);
        }
        if let Some(dns) = self.request.conf.get("dns")
            && result.dns.is_empty()
        {
            result.dns = serde_json::from_value(dns.clone())
                .map_err(|source| Failure::Decode { path: "dns".into(), source })?;
        }
        Ok(result)
    }
}

impl Plugin for Bridge<'_> {
    fn add(&self) -> Result<AddResult, Failure> {
        let mut kernel = Kernel::open(Some(self.request.require_netns()?))?;
        let ipam = ipam::run(self.request, Command::Add)?;
        self.attach(&mut kernel, ipam).map_err(|first| match ipam::run(self.request, Command::Del) {
            Ok(_) => first,
            Err(undo) => Failure::Undo { first: Box::new(first), undo: undo.text() },
        })
    }

    fn del(&self) -> Result<(), Failure> {
        // a veth pair goes with either of its ends, so the host's is enough, be the other's namespace there or not
        let owner = self.request.owner();
        let mut kernel = Kernel::open(None)?;
        let failed = |op: LinkOp| kernel.apply(&[op]).err();
        let links = unplan(&self.conf, &owner, host_name(&owner)).into_iter().filter_map(failed);
        let mut failed: Vec<Failure> = links.collect();
        failed.extend(delete_foreign(self.request).err());
        // the address is free only when nobody can use it any more
        if failed.is_empty() {
            return ipam::run(self.request, Command::Del).map(drop);
        }
        let first = failed.remove(0);
        match failed.iter().map(Failure::text).collect::<Vec<_>>() {
            others if others.is_empty() => Err(first),
            others => Err(Failure::Undo { first: Box::new(first), undo: others.join("; ") }),
        }
    }

    fn check(&self) -> Result<(), Failure> {
        ipam::run(self.request, Command::Check)?;
        let missing = || Failure::Config { field: "prevResult".into(), reason: "is missing".into() };
        let previous = self.request.previous()?.ok_or_else(missing)?;
        let mut kernel = Kernel::open(Some(self.request.require_netns()?))?;
        let in_pod = |at: Option<usize>| {
            let interface = at.and_then(|at| previous.interfaces.get(at));
            interface.is_none_or(|i| i.name == self.request.ifname && !i.sandbox.is_empty())
        };
        let ips = previous.ips.iter().filter(|ip| in_pod(ip.interface)).cloned().collect();
        let mut args =
            self.args(AddResult { ips, routes: previous.routes.clone(), ..AddResult::default() })?;
        // another program's bridge has other names for the host's end
        let host = previous.interfaces.iter().find(|i| i.sandbox.is_empty() && i.name != self.conf.bridge);
        args.host = host.map_or(args.host, |i| i.name.clone());
        let links = self.see(&mut kernel, &args)?;
        let expected = previous.interfaces.iter().find(|i| i.name == args.ifname && !i.sandbox.is_empty());
        let found = links.get(Side::Pod, &args.ifname).map(|s| mac_text(&s.link.mac));
        if let (Some(expected), Some(found)) = (expected, found)
            && !expected.mac.is_empty()
            && !expected.mac.eq_ignore_ascii_case(&found)
        {
            let text = format!("{} has hardware address {found} instead of {}", args.ifname, expected.mac);
            return Err(Failure::Damaged(text));
        }
        let ops = plan(&self.conf, &args, &links)?;
        // and it may do without the sysctls that are the container's own
        match ops.iter().find(|op| !matches!(op, LinkOp::Sysctl { side: Side::Pod, .. })) {
            None => Ok(()),
            Some(op) => Err(Failure::Damaged(format!("the attachment is damaged; mending it needs {op:?}"))),
        }
    }

    fn gc(&self) -> Result<(), Failure> {
        let valid = self.request.valid()?;
        nat::remove_masquerade(&mut Nft::open()?, gone(self.request.network(), valid))?;
        ipam::run(self.request, Command::Gc).map(drop)
    }

    fn status(&self) -> Result<(), Failure> {
        if self.conf.ip_masq {
            // a kernel without nf_tables says so here
            Nft::open()?.has_table(Family::Inet, nat::MASQUERADE)?;
        }
        ipam::run(self.request, Command::Status).map(drop)
    }
}

/// An interface that another program's `bridge` made, whose host's end has another name than ours would: remove the
/// pod's end. Its hardware address must be that of the result, for the namespace may be another pod's by now.
fn delete_foreign(request: &Request) -> Result<(), Failure> {
    let previous = request.previous()?.unwrap_or_default();
    let is_made = |i: &&Interface| i.name == request.ifname && !i.sandbox.is_empty();
    let Some(made) = previous.interfaces.iter().find(is_made) else { return Ok(()) };
    let Some(netns) = request.open_netns()? else { return Ok(()) };
    let mut kernel = Kernel::open(Some(netns))?;
    let links = kernel.see(&[(Side::Pod, &request.ifname)])?;
    match links.get(Side::Pod, &request.ifname) {
        Some(seen)
            if seen.link.kind == "veth" && mac_text(&seen.link.mac).eq_ignore_ascii_case(&made.mac) =>
        {
            kernel.apply(&[LinkOp::DeleteLink { side: Side::Pod, name: request.ifname.clone() }])
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
