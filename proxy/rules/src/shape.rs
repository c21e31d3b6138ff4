//! Chains that send a connection on. There is one a shape: how the packet names the service, which policy holds, how
//! many endpoints there are, how long clients stay. Services of one shape share it; which service it is, the chain's
//! rules read from the packet.

use std::collections::BTreeMap;

use crate::frame::{LOCAL, Node, goto, load_front, pods, rule};
use crate::ruleset::{Chain, Family, Field, Op, Rule, SetName};

/// How a packet names a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Front {
    /// By one of its addresses.
    Address,
    /// By a node port.
    NodePort,
}

/// One of how many endpoints is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Choice {
    /// Among those on this node.
    pub(crate) local: bool,
    /// Not zero.
    pub(crate) count: u32,
    /// Clients stay with theirs.
    pub(crate) stay: bool,
}

/// What one chain does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Shape {
    /// Sends connections on.
    To(To),
    /// Remembers for so many seconds whom a client was sent to.
    Learn(u32),
}

/// How connections are sent on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct To {
    pub(crate) front: Front,
    pub(crate) choice: Choice,
    /// For the external traffic policy `Local`: `choice` is for pods and the node itself, this for all others, if there
    /// is an endpoint for them.
    pub(crate) outside: Option<Option<Choice>>,
}

impl Shape {
    /// The name of its chain.
    #[must_use]
    pub fn chain(&self) -> String {
        match self {
            Shape::To(to) => to.chain(),
            Shape::Learn(seconds) => format!("learn-for-{seconds}s"),
        }
    }

    /// Itself and those whose chains its rules lead to.
    fn with_needs(self) -> Vec<Shape> {
        let mut all = vec![self];
        if let Shape::To(to) = self {
            if let Some(outside) = to.outside {
                let parts = [Some(to.choice), outside].into_iter().flatten();
                all.extend(parts.flat_map(|choice| Shape::To(to.plain(choice)).with_needs()));
            } else if to.choice.stay {
                all.push(Shape::To(to.plain(Choice { stay: false, ..to.choice })));
            }
        }
        all
    }

    /// Its chain.
    pub(crate) fn rules(&self, node: &Node, family: Family) -> Chain {
        let rules = match self {
            Shape::To(to) => to.rules(node, family),
            Shape::Learn(seconds) => vec![learn(*seconds, family)],
        };
        Chain { base: None, rules }
    }
}

/// After translation the endpoint is the packet's destination. To store it here, rather than where it is chosen, keeps
/// the rule readable: `nft list` 1.0.6 aborts at one that stores what a map gave.
fn learn(seconds: u32, family: Family) -> Rule {
    let words = family.words();
    let target = 2 * words + 2;
    rule(
        "this client, for this service, to this endpoint",
        [
            Op::Load(0, Field::Source),
            Op::Load(words, Field::OriginalDestination),
            Op::Load(2 * words, Field::Protocol),
            Op::Load(2 * words + 1, Field::OriginalPort),
            Op::Load(target, Field::Destination),
            Op::Load(target + words, Field::Port),
            Op::Learn(SetName::Affinity, 0, target, seconds),
        ],
    )
}

impl To {
    fn chain(&self) -> String {
        let front = match self.front {
            Front::Address => "to",
            Front::NodePort => "nodeport-to",
        };
        let choice = |c: &Choice| {
            let (policy, stay) = (if c.local { "local-" } else { "" }, if c.stay { "-stay" } else { "" });
            format!("{policy}{}{stay}", c.count)
        };
        match &self.outside {
            None => format!("{front}-{}", choice(&self.choice)),
            Some(None) => format!("{front}-{}-or-none", choice(&self.choice)),
            Some(Some(outside)) => format!("{front}-{}-or-{}", choice(&self.choice), choice(outside)),
        }
    }

    fn plain(self, choice: Choice) -> To {
        To { choice, outside: None, ..self }
    }

    fn goto(self, choice: Choice) -> Op {
        Op::Verdict(goto(&self.plain(choice).chain()))
    }

    fn rules(self, node: &Node, family: Family) -> Vec<Rule> {
        match self.outside {
            Some(outside) => self.split(outside, node, family),
            None if self.choice.stay => self.stay(family),
            None => vec![self.any(family)],
        }
    }

    fn split(self, outside: Option<Choice>, node: &Node, family: Family) -> Vec<Rule> {
        let inside = || self.goto(self.choice);
        let host = [Op::Load(0, Field::SourceType), Op::Equal(0, LOCAL.to_vec()), inside()];
        let mut rules = Vec::new();
        if let Some(ops) = pods(node, family, true) {
            rules.push(rule("pods", ops.into_iter().chain([inside()])));
        }
        rules.push(rule("the node itself", host));
        if let Some(outside) = outside {
            rules.push(rule("all others", [self.goto(outside)]));
        }
        rules
    }

    fn any(self, family: Family) -> Rule {
        let words = family.words();
        let (mut ops, index, endpoints) = match (self.front, self.choice.local) {
            (Front::Address, false) => (load_front(family, 0), words + 2, SetName::Endpoints),
            (Front::Address, true) => (load_front(family, 0), words + 2, SetName::LocalEndpoints),
            (Front::NodePort, false) => (load_node_port(), 2, SetName::NodePortEndpoints),
            (Front::NodePort, true) => (load_node_port(), 2, SetName::LocalNodePortEndpoints),
        };
        ops.push(Op::Random(index, self.choice.count));
        ops.extend([Op::Map(0, endpoints, 0), Op::Dnat(0, words)]);
        rule("to one of the endpoints", ops)
    }

    fn stay(self, family: Family) -> Vec<Rule> {
        let words = family.words();
        let mut ops = vec![Op::Load(0, Field::Source)];
        ops.extend(load_front(family, words));
        ops.extend([Op::Map(0, SetName::Affinity, 0), Op::Dnat(0, words)]);
        let unknown = self.goto(Choice { stay: false, ..self.choice });
        vec![rule("to the endpoint that the client knows", ops), rule("to any", [unknown])]
    }
}

fn load_node_port() -> Vec<Op> {
    vec![Op::Load(0, Field::Protocol), Op::Load(1, Field::Port)]
}

/// Shapes and how many frontends are of each; chains that others lead to count too.
#[derive(Debug, Clone, Default)]
pub(crate) struct Shapes(BTreeMap<Shape, usize>);

impl Shapes {
    /// One frontend more. Gives the shapes that were not there.
    pub(crate) fn add(&mut self, shape: Shape) -> Vec<Shape> {
        let mut new = Vec::new();
        for shape in shape.with_needs() {
            let count = self.0.entry(shape).or_default();
            *count += 1;
            if *count == 1 {
                new.push(shape);
            }
        }
        new
    }

    /// One frontend less. Gives the shapes that are gone.
    pub(crate) fn remove(&mut self, shape: Shape) -> Vec<Shape> {
        let mut gone = Vec::new();
        for shape in shape.with_needs() {
            if let Some(count) = self.0.get_mut(&shape) {
                *count -= 1;
                if *count == 0 {
                    self.0.remove(&shape);
                    gone.push(shape);
                }
            }
        }
        gone
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Shape> {
        self.0.keys()
    }

    /// Somebody's clients stay.
    pub(crate) fn affine(&self) -> bool {
        self.0.keys().any(|shape| matches!(shape, Shape::Learn(_)))
    }
}
