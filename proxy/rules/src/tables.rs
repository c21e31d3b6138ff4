//! The rules as a whole, and a change at a time.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::decide::{Claim, Decision, Parts, Stays};
use crate::diff::{Batch, diff};
use crate::frame::{Node, frame};
use crate::model::{ServiceMap, ServiceName};
use crate::ruleset::{Data, Family, Key, Ruleset, SetName};
use crate::shape::{Shape, Shapes};
use crate::stale::{UdpServices, serving};

/// The rules of a node for all services, in one family.
#[must_use]
pub fn compile(map: &ServiceMap, node: &Node, family: Family) -> Ruleset {
    Tables::start(map, node.clone(), family).1
}

/// What was decided, so that a change costs no more than what it touches.
#[derive(Debug, Clone)]
pub struct Tables {
    family: Family,
    node: Node,
    decisions: BTreeMap<ServiceName, Decision>,
    /// Who wants which place. The first has it.
    claims: BTreeSet<(Claim, u8, ServiceName)>,
    /// Before all names.
    first: ServiceName,
    shapes: Shapes,
    /// Endpoints that are on this node, and how many ports they serve.
    here: BTreeMap<IpAddr, usize>,
}

impl Tables {
    /// Decides about all services.
    #[must_use]
    pub fn new(map: &ServiceMap, node: Node, family: Family) -> Tables {
        Tables::start(map, node, family).0
    }

    /// Decides about all services, and gives the rules that follow.
    #[must_use]
    pub fn start(map: &ServiceMap, node: Node, family: Family) -> (Tables, Ruleset) {
        let decide = |(name, entry): (&ServiceName, _)| {
            Decision::of(entry, &node, family, None).map(|decision| (name.clone(), decision))
        };
        let decisions: BTreeMap<_, _> = map.entries.iter().filter_map(decide).collect();
        let claims = decisions.iter().flat_map(|(name, decision)| {
            decision.claims().into_iter().map(|(claim, rank)| (claim, rank, name.clone()))
        });
        let mut tables = Tables {
            family,
            claims: claims.collect(),
            decisions,
            node,
            first: ServiceName::new("", ""),
            shapes: Shapes::default(),
            here: BTreeMap::new(),
        };
        let parts = tables.expand(tables.decisions.keys());
        for shape in parts.shapes {
            tables.shapes.add(shape);
        }
        for ip in parts.here {
            *tables.here.entry(ip).or_default() += 1;
        }
        let rules = tables.whole(parts.own);
        (tables, rules)
    }

    /// Everything.
    #[must_use]
    pub fn ruleset(&self) -> Ruleset {
        self.whole(self.expand(self.decisions.keys()).own)
    }

    fn whole(&self, own: Ruleset) -> Ruleset {
        let mut all = frame(&self.node, self.family);
        if self.shapes.affine() {
            all.sets.insert(SetName::Affinity, BTreeMap::new());
        }
        for (set, mut elements) in own.sets {
            all.sets.entry(set).or_default().append(&mut elements);
        }
        self.add_shared(&mut all, self.shapes.iter(), self.here.keys());
        all
    }

    /// Decides anew about some services. Gives what changes.
    #[must_use]
    pub fn update(&mut self, map: &ServiceMap, names: &BTreeSet<ServiceName>) -> Batch {
        let family = self.family;
        let decide = |name: &ServiceName| {
            let entry = map.entries.get(name)?;
            Decision::of(entry, &self.node, family, self.decisions.get(name))
        };
        let mut changed: Vec<(ServiceName, Option<Decision>)> =
            names.iter().map(|name| (name.clone(), decide(name))).collect();
        changed.retain(|(name, decision)| self.decisions.get(name) != decision.as_ref());
        let touched = self.touched(&changed);
        let before = self.expand(touched.iter());
        for (name, decision) in changed {
            self.decide(&name, decision);
        }
        let after = self.expand(touched.iter());
        self.exchange(before, after)
    }

    /// The node has changed: decides anew about all services. Gives what changes.
    #[must_use]
    pub fn change_node(&mut self, map: &ServiceMap, node: Node) -> Batch {
        if self.node == node {
            return Batch { family: self.family, changes: Vec::new() };
        }
        let before = self.ruleset();
        let (tables, after) = Tables::start(map, node, self.family);
        *self = tables;
        diff(&before, &after)
    }

    /// Of the addresses in it.
    #[must_use]
    pub fn family(&self) -> Family {
        self.family
    }

    /// The node that the rules are for.
    #[must_use]
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// Services with affinity: all, or those of these names.
    #[must_use]
    pub fn stays(&self, names: Option<&BTreeSet<ServiceName>>) -> Stays {
        let mut stays = Stays::default();
        match names {
            None => self.decisions.values().for_each(|decision| decision.stays(&mut stays)),
            Some(names) => {
                names.iter().filter_map(|n| self.decisions.get(n)).for_each(|d| d.stays(&mut stays));
            }
        }
        stays
    }

    /// The places that services want for UDP: all, or those of these names.
    #[must_use]
    pub fn udp_places(&self, names: Option<&BTreeSet<ServiceName>>) -> BTreeSet<Claim> {
        let places = |decision: &Decision| decision.udp().flat_map(|(fronts, _)| fronts).collect::<Vec<_>>();
        match names {
            None => self.decisions.values().flat_map(places).collect(),
            Some(names) => names.iter().filter_map(|n| self.decisions.get(n)).flat_map(places).collect(),
        }
    }

    /// What is needed to tell which UDP flows to these places go to endpoints that are no more. Each place has the
    /// endpoints of the service that has it; it may be nobody's by now.
    #[must_use]
    pub fn udp(&self, map: &ServiceMap, places: &BTreeSet<Claim>) -> UdpServices {
        let mut services = UdpServices::new(self.family, self.node.node_port_networks());
        places.iter().for_each(|place| services.add(*place, BTreeSet::new()));
        let owners: BTreeSet<_> = places.iter().filter_map(|place| self.claimants(*place).next()).collect();
        for name in owners {
            let has = |claim| self.claimants(claim).next() == Some(name);
            let Some((decision, entry)) = self.decisions.get(name).zip(map.entries.get(name)) else {
                continue;
            };
            for (fronts, service) in decision.udp() {
                // as in its rules: without its cluster IP it has nothing
                if !has((service.0, 0, 0)) || !has(service) {
                    continue;
                }
                let serving = serving(entry, service, self.family);
                for front in fronts.into_iter().filter(|front| places.contains(front) && has(*front)) {
                    services.add(front, serving.clone());
                }
            }
        }
        services
    }

    /// The services themselves, and those that want the same places as they do or did.
    fn touched(&self, changed: &[(ServiceName, Option<Decision>)]) -> BTreeSet<ServiceName> {
        let mut touched: BTreeSet<ServiceName> = changed.iter().map(|(name, _)| name.clone()).collect();
        for (name, decision) in changed {
            let old = self.decisions.get(name).map(Decision::claims).unwrap_or_default();
            let new = decision.as_ref().map(Decision::claims).unwrap_or_default();
            for (claim, _) in old.symmetric_difference(&new) {
                touched.extend(self.claimants(*claim).cloned());
            }
        }
        touched
    }

    /// Who wants a place, the one who has it first.
    fn claimants(&self, claim: Claim) -> impl Iterator<Item = &ServiceName> {
        self.claims
            .range((claim, 0, self.first.clone())..)
            .take_while(move |(of, ..)| *of == claim)
            .map(|(.., name)| name)
    }

    fn decide(&mut self, name: &ServiceName, decision: Option<Decision>) {
        let old = self.decisions.get(name).map(Decision::claims).unwrap_or_default();
        let new = decision.as_ref().map(Decision::claims).unwrap_or_default();
        for (claim, rank) in old.difference(&new) {
            self.claims.remove(&(*claim, *rank, name.clone()));
        }
        for (claim, rank) in new.difference(&old) {
            self.claims.insert((*claim, *rank, name.clone()));
        }
        match decision {
            Some(decision) => drop(self.decisions.insert(name.clone(), decision)),
            None => drop(self.decisions.remove(name)),
        }
    }

    fn expand<'a>(&self, names: impl Iterator<Item = &'a ServiceName>) -> Parts {
        let mut parts = Parts::none(self.family);
        for name in names {
            if let Some(decision) = self.decisions.get(name) {
                let has = |claim| self.claimants(claim).next() == Some(name);
                decision.expand(&self.node, has, &mut parts);
            }
        }
        parts
    }

    /// Counts what is shared, and gives the difference.
    fn exchange(&mut self, before: Parts, after: Parts) -> Batch {
        let was_affine = self.shapes.affine();
        let come: Vec<Shape> = after.shapes.into_iter().flat_map(|shape| self.shapes.add(shape)).collect();
        let gone: Vec<Shape> =
            before.shapes.into_iter().flat_map(|shape| self.shapes.remove(shape)).collect();
        let is_affine = self.shapes.affine();
        let (mut here, mut away) = (Vec::new(), Vec::new());
        for ip in after.here {
            let count = self.here.entry(ip).or_default();
            *count += 1;
            here.extend((*count == 1).then_some(ip));
        }
        for ip in before.here {
            let count = self.here.entry(ip).or_default();
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.here.remove(&ip);
                away.push(ip);
            }
        }
        let (mut old, mut new) = (before.own, after.own);
        self.add_shared(&mut old, gone.iter(), away.iter());
        self.add_shared(&mut new, come.iter(), here.iter());
        for (rules, affine) in [(&mut old, was_affine), (&mut new, is_affine)] {
            for set in SetName::BASE {
                rules.sets.entry(set).or_default();
            }
            if affine {
                rules.sets.insert(SetName::Affinity, BTreeMap::new());
            }
        }
        diff(&old, &new)
    }

    fn add_shared<'a>(
        &self,
        rules: &mut Ruleset,
        shapes: impl Iterator<Item = &'a Shape>,
        here: impl Iterator<Item = &'a IpAddr>,
    ) {
        for shape in shapes {
            rules.chains.insert(shape.chain(), shape.rules(&self.node, self.family));
        }
        for ip in here {
            rules.add(SetName::Hairpin, Key::new().address(*ip).address(*ip), Data::None);
        }
    }
}
