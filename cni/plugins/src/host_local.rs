//! `host-local`: addresses of ranges, remembered in files.
//!
//! ```text
//! dataDir/<network>/10.88.0.5            "<container>\r\n<interface>": who has it
//!                  /last_reserved_ip.0   where the search of range set 0 goes on
//!                  /lock                 flock'ed while anything is read or written
//! ```
//! That is upstream's layout: either program can take over from the other.

mod range;
mod store;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::PathBuf;

use ipnet::IpNet;
use proto_node::cni::{AddResult, Dns, IpConfig, Route};
use serde::Deserialize;
use serde_json::Value;

use crate::Plugin;
use crate::failure::Failure;
use crate::request::Request;

pub(crate) use range::{Range, RangeSet, choose};
use store::Store;

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Conf {
    ipam: IpamConf,
    runtime_config: RuntimeConf,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct IpamConf {
    data_dir: String,
    resolv_conf: String,
    ranges: Option<Vec<RangeSet>>,
    routes: Option<Vec<Route>>,
    /// With the next three, a range as in the oldest configurations.
    subnet: Option<IpNet>,
    range_start: Option<IpAddr>,
    range_end: Option<IpAddr>,
    gateway: Option<IpAddr>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct RuntimeConf {
    ip_ranges: Option<Vec<RangeSet>>,
}

/// Addresses that the runtime asks for.
pub(crate) struct Wishes {
    /// As written, with or without a prefix length.
    pub(crate) texts: Vec<String>,
}

impl Wishes {
    /// From `CNI_ARGS` (`IP`), `args.cni.ips` and `runtimeConfig.ips`; the last that is there wins.
    pub(crate) fn read(request: &Request) -> Result<Wishes, Failure> {
        let mut texts: Vec<String> =
            request.args.get("IP").into_iter().flat_map(|ips| ips.split(',')).map(str::to_owned).collect();
        for place in ["/args/cni/ips", "/runtimeConfig/ips"] {
            let Some(value) = request.conf.pointer(place).filter(|v| !v.is_null()) else { continue };
            let field = place[1..].replace('/', ".");
            let list: Option<Vec<&str>> =
                value.as_array().and_then(|list| list.iter().map(Value::as_str).collect());
            let list = list
                .ok_or_else(|| Failure::Config { field, reason: "must be a list of addresses".to_owned() })?;
            if !list.is_empty() {
                texts = list.into_iter().map(str::to_owned).collect();
            }
        }
        Ok(Wishes { texts })
    }

    fn ips(&self) -> Result<BTreeSet<IpAddr>, Failure> {
        let parse = |text: &String| {
            let ip = text.split_once('/').map_or(text.as_str(), |(ip, _)| ip);
            let reason = || format!("has {text:?}, which is no address");
            ip.parse().map_err(|_| Failure::Config { field: "ips".into(), reason: reason() })
        };
        self.texts.iter().map(parse).collect()
    }
}

/// The plugin `host-local`.
pub(crate) struct HostLocal<'a> {
    request: &'a Request,
    dir: PathBuf,
    sets: Vec<RangeSet>,
    routes: Vec<Route>,
    resolv_conf: String,
}

impl<'a> HostLocal<'a> {
    /// Reads the configuration. `DEL`, `CHECK` and `GC` need no valid ranges.
    pub(crate) fn new(request: &'a Request) -> Result<HostLocal<'a>, Failure> {
        let conf: Conf = request.decode()?;
        let mut sets = Vec::new();
        let (range_start, range_end, gateway) =
            (conf.ipam.range_start, conf.ipam.range_end, conf.ipam.gateway);
        sets.extend(conf.ipam.subnet.map(|subnet| vec![Range { subnet, range_start, range_end, gateway }]));
        sets.extend(conf.runtime_config.ip_ranges.unwrap_or_default());
        sets.extend(conf.ipam.ranges.unwrap_or_default());
        let data_dir = match conf.ipam.data_dir.as_str() {
            "" => "/var/lib/cni/networks",
            dir => dir,
        };
        Ok(HostLocal {
            request,
            dir: PathBuf::from(data_dir).join(request.network()),
            sets,
            routes: conf.ipam.routes.unwrap_or_default(),
            resolv_conf: conf.ipam.resolv_conf,
        })
    }

    fn owner(&self) -> (&str, &str) {
        (&self.request.container_id, &self.request.ifname)
    }

    fn allocate(&self, store: &Store, sets: &[range::Complete]) -> Result<Vec<IpConfig>, Failure> {
        let mut wishes = Wishes::read(self.request)?.ips()?;
        let (id, ifname) = self.owner();
        let mut taken = store.taken()?;
        let mut found = Vec::new();
        for (at, set) in sets.iter().enumerate() {
            let mine =
                taken.iter().find(|(ip, lease)| lease.is_of(id, ifname) && set.range_of(**ip).is_some());
            let wish = wishes.iter().copied().find(|ip| set.range_of(*ip).is_some());
            wishes.retain(|ip| Some(*ip) != wish);
            let ip = match (mine, wish) {
                (Some((ip, _)), None) => *ip,
                (Some((ip, _)), Some(wish)) if *ip == wish => wish,
                (_, wish) => {
                    let last = store.last(at)?;
                    let ip =
                        choose(set, wish, last, |ip| taken.contains_key(&ip)).map_err(Failure::Exhausted)?;
                    taken.insert(ip, store.reserve(ip, id, ifname)?);
                    store.set_last(at, ip)?;
                    ip
                }
            };
            let range = set.range_of(ip).expect("it was chosen from this set");
            found.push(IpConfig { address: range.net(ip), gateway: Some(range.gateway()), interface: None });
        }
        match wishes.first() {
            None => Ok(found),
            Some(ip) => {
                Err(Failure::Config { field: "ips".into(), reason: format!("has {ip}, in no range") })
            }
        }
    }
}

impl Plugin for HostLocal<'_> {
    fn add(&self) -> Result<AddResult, Failure> {
        let sets = range::complete(&self.sets)
            .map_err(|reason| Failure::Config { field: "ipam.ranges".into(), reason })?;
        let dns = match self.resolv_conf.as_str() {
            "" => Dns::default(),
            path => resolv_conf(&read(path)?),
        };
        let store = Store::open(&self.dir)?;
        let (id, ifname) = self.owner();
        let before = store.taken()?;
        let ips = self.allocate(&store, &sets).map_err(|first| {
            // give back what this call took, and only that
            let fresh = |ip: &IpAddr| !before.contains_key(ip);
            match store.release(|ip, lease| fresh(ip) && lease.is_of(id, ifname)) {
                Ok(()) => first,
                Err(undo) => Failure::Undo { first: Box::new(first), undo: undo.text() },
            }
        })?;
        Ok(AddResult { ips, routes: self.routes.clone(), dns, ..AddResult::default() })
    }

    fn del(&self) -> Result<(), Failure> {
        if !self.dir.exists() {
            return Ok(());
        }
        let (id, ifname) = self.owner();
        Store::open(&self.dir)?.release(|_, lease| lease.is_of(id, ifname))
    }

    fn check(&self) -> Result<(), Failure> {
        let (id, ifname) = self.owner();
        if self.dir.exists() && Store::open(&self.dir)?.taken()?.values().any(|lease| lease.is_of(id, ifname))
        {
            return Ok(());
        }
        Err(Failure::Damaged(format!("host-local has no address for {ifname} of container {id}")))
    }

    fn gc(&self) -> Result<(), Failure> {
        let valid = self.request.valid()?;
        if !self.dir.exists() {
            return Ok(());
        }
        let is_valid = |lease: &store::Lease| valid.iter().any(|v| lease.is_of(&v.container_id, &v.ifname));
        Store::open(&self.dir)?.release(|_, lease| !is_valid(lease))
    }

    fn status(&self) -> Result<(), Failure> {
        range::complete(&self.sets)
            .map(drop)
            .map_err(|reason| Failure::Config { field: "ipam.ranges".into(), reason })
    }
}

fn read(path: &str) -> Result<String, Failure> {
    std::fs::read_to_string(path).map_err(|source| Failure::Io { what: format!("read {path}"), source })
}

/// The directives of a `resolv.conf(5)`.
fn resolv_conf(text: &str) -> Dns {
    let mut dns = Dns::default();
    for line in text.lines().filter(|l| !l.starts_with(['#', ';'])) {
        let mut words = line.split_whitespace().map(str::to_owned);
        match words.next().as_deref() {
            Some("nameserver") => dns.nameservers.extend(words.next()),
            Some("domain") => dns.domain = words.next().unwrap_or_default(),
            Some("search") => dns.search = words.collect(),
            Some("options") => dns.options.extend(words),
            _ => {}
        }
    }
    dns
}

#[cfg(test)]
mod tests;
