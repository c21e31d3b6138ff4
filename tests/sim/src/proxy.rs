//! A proxy: what its node's packet rules are, as it hears of services and of the slices of their endpoints.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use fastrand::Rng;
use proxy_rules::{Family, Node, Outcome, Packet, Ruleset, ServiceMap, ServiceName, Tables, simulate};

use crate::cache::Cache;
use crate::server::{Change, Of, Server};

const READS: [Of; 2] = [("", "services"), ("discovery.k8s.io", "endpointslices")];
const TCP: u8 = 6;

/// The process, and the rules that it has given the kernel.
pub(crate) struct Proxy {
    pub(crate) cache: Cache,
    map: ServiceMap,
    tables: Tables,
    rules: Ruleset,
}

/// Takes news into a map; which services they are of.
fn take(map: &mut ServiceMap, events: &[Change]) -> BTreeSet<ServiceName> {
    let mut names = BTreeSet::new();
    for Change { resource, old, new } in events {
        let (old, new) = (old.as_deref(), new.as_deref());
        match resource.plural {
            "services" => names.extend(map.change_service(old, new)),
            _ => names.extend(map.change_slice(old, new)),
        }
    }
    names
}

impl Proxy {
    /// Starts it.
    pub(crate) fn new(server: &mut Server) -> Self {
        let (mut cache, mut map) = (Cache::new(&READS, None, server), ServiceMap::default());
        take(&mut map, &cache.list_all(server));
        let (tables, rules) = Tables::start(&map, Node::default(), Family::V4);
        Self { cache, map, tables, rules }
    }

    /// When there is something to do; now, if there is already.
    pub(crate) fn wake_at(&self, server: &Server, now: Duration) -> Option<Duration> {
        let behind = self.cache.behind(server, now).next();
        behind.map(|_| now).or_else(|| self.cache.wake_at(server))
    }

    /// Hears some news.
    pub(crate) fn step(&mut self, server: &mut Server, now: Duration, rng: &mut Rng) {
        let behind: Vec<usize> = self.cache.behind(server, now).collect();
        let Some(at) = rng.choice(behind) else { return };
        let events = self.cache.see(at, server, rng.usize(1..8));
        self.change(&events);
        server.say(|| format!("the proxy sees {} of {}", events.len(), self.cache.of(at)));
    }

    /// A watch broke.
    pub(crate) fn relist(&mut self, at: usize, server: &Server) {
        let events = self.cache.relist(at, server);
        self.change(&events);
    }

    fn change(&mut self, events: &[Change]) {
        let names = take(&mut self.map, events);
        self.rules.apply(&self.tables.update(&self.map, &names));
    }

    /// Whether it knows the services as they are, and the kernel has the rules that it has decided.
    pub(crate) fn is_current(&self, server: &mut Server) -> bool {
        let mut map = ServiceMap::default();
        take(&mut map, &Cache::new(&READS, None, server).list_all(server));
        self.map == map && self.rules == self.tables.ruleset()
    }

    /// Where a connection to this address goes.
    pub(crate) fn ways(&self, destination: IpAddr, port: u16) -> BTreeSet<IpAddr> {
        let source = [10, 244, 255, 1].into();
        let packet = Packet { source, destination, protocol: TCP, port, link: None };
        match simulate(&self.rules, &[], &packet) {
            Outcome::To(targets) => targets.into_keys().map(|(ip, _)| ip).collect(),
            _ => BTreeSet::new(),
        }
    }
}
