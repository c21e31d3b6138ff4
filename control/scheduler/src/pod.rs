//! A pod, as far as its place matters; read once.

use std::sync::Arc;

use jiff::Timestamp;
use proto_kube::object::{self, at, items, text};
use proto_kube::pod as kube;
use serde_json::Value;

use crate::amounts::Amounts;
use crate::select::{Labels, NodeAffinity, Selector, Term, Toleration, labels_of};

/// A port of the node that a pod wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Port {
    ip: String,
    protocol: String,
    number: i64,
}

impl Port {
    pub(crate) fn conflicts(&self, other: &Self) -> bool {
        let any = |port: &Self| port.ip == "0.0.0.0";
        self.number == other.number
            && self.protocol == other.protocol
            && (any(self) || any(other) || self.ip == other.ip)
    }
}

/// A wish that pods like this one are spread evenly.
#[derive(Debug, Clone)]
pub(crate) struct Spread {
    pub(crate) max_skew: i64,
    pub(crate) topology_key: String,
    pub(crate) selector: Selector,
    pub(crate) min_domains: i64,
    /// Whether nodes that the pod's node affinity rules out are left out.
    pub(crate) by_affinity: bool,
    /// Whether nodes with taints that the pod does not tolerate are left out.
    pub(crate) by_taints: bool,
    /// Whether the wish is a must.
    pub(crate) is_hard: bool,
}

/// A pod.
#[derive(Debug, Clone)]
pub struct Pod {
    /// As the API has it.
    pub object: Arc<Value>,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its unique identifier.
    pub uid: String,
    /// Where it is; empty for nowhere yet.
    pub node: String,
    /// Where it is to go when others have made room; empty for nowhere.
    pub nominated: String,
    /// The higher, the more important.
    pub priority: i64,
    /// What it asks for.
    pub requests: Amounts,
    pub(crate) held: Amounts,
    pub(crate) estimated: Amounts,
    pub(crate) labels: Labels,
    pub(crate) ports: Vec<Port>,
    pub(crate) node_affinity: NodeAffinity,
    pub(crate) tolerations: Vec<Toleration>,
    pub(crate) near: Vec<Term>,
    pub(crate) near_preferred: Vec<(i64, Term)>,
    pub(crate) away: Vec<Term>,
    pub(crate) away_preferred: Vec<(i64, Term)>,
    pub(crate) spreads: Vec<Spread>,
    pub(crate) images: Vec<String>,
    pub(crate) containers: i64,
    /// The names of its claims, and whether each is made with it.
    pub(crate) claims: Vec<(String, bool)>,
    pub(crate) is_terminating: bool,
    pub(crate) started: Option<Timestamp>,
}

impl Pod {
    /// Reads a pod.
    #[must_use]
    pub fn new(object: Arc<Value>) -> Self {
        let pod = &*object;
        let namespace = object::namespace(pod).to_owned();
        let affinity = &pod["spec"]["affinity"];
        let (near, near_preferred) = Term::all(at(affinity, &["podAffinity"]), &namespace);
        let (away, away_preferred) = Term::all(at(affinity, &["podAntiAffinity"]), &namespace);
        let labels = labels_of(pod);
        let run =
            || ["initContainers", "containers"].into_iter().flat_map(|list| items(pod, &["spec", list]));
        let volumes = || items(pod, &["spec", "volumes"]);
        let images = run().map(|c| text(c, &["image"]));
        let images = images.chain(volumes().map(|v| text(v, &["image", "reference"])));
        let claim = |volume: &Value| Some((kube::claim(pod, volume)?, at(volume, &["ephemeral"]).is_some()));
        Self {
            namespace,
            name: object::name(pod).to_owned(),
            uid: object::uid(pod).to_owned(),
            node: text(pod, &["spec", "nodeName"]).to_owned(),
            nominated: text(pod, &["status", "nominatedNodeName"]).to_owned(),
            priority: pod["spec"]["priority"].as_i64().unwrap_or_default(),
            requests: Amounts::requested(pod),
            held: Amounts::held(pod),
            estimated: Amounts::estimated(pod),
            ports: ports(pod),
            node_affinity: NodeAffinity::of(pod),
            tolerations: items(pod, &["spec", "tolerations"]).map(Toleration::of).collect(),
            near,
            near_preferred,
            away,
            away_preferred,
            spreads: spreads(pod, &labels),
            images: images.filter(|image| !image.is_empty()).map(tagged).collect(),
            containers: i64::try_from(run().count()).unwrap_or(i64::MAX),
            claims: volumes().filter_map(claim).collect(),
            is_terminating: object::is_terminating(pod),
            started: text(pod, &["status", "startTime"]).parse().ok(),
            labels,
            object,
        }
    }

    /// The same pod on a node.
    #[must_use]
    pub fn on(&self, node: &str) -> Self {
        Self { node: node.to_owned(), ..self.clone() }
    }

    /// Who looks after its place: `spec.schedulerName`.
    #[must_use]
    pub fn scheduler(&self) -> &str {
        match text(&self.object, &["spec", "schedulerName"]) {
            "" => "default-scheduler",
            name => name,
        }
    }

    /// The gates that keep it from being placed.
    #[must_use]
    pub fn gates(&self) -> Vec<&str> {
        items(&self.object, &["spec", "schedulingGates"]).map(|gate| text(gate, &["name"])).collect()
    }

    /// Whether it has come to its end, and holds nothing any more.
    #[must_use]
    pub fn is_over(&self) -> bool {
        matches!(text(&self.object, &["status", "phase"]), "Succeeded" | "Failed")
    }

    /// Whether it waits for its deletion.
    #[must_use]
    pub fn is_terminating(&self) -> bool {
        self.is_terminating
    }

    pub(crate) fn has_affinity(&self) -> bool {
        !(self.near.is_empty()
            && self.near_preferred.is_empty()
            && self.away.is_empty()
            && self.away_preferred.is_empty())
    }
}

/// The ports of the node that a pod's containers and sidecars want.
fn ports(pod: &Value) -> Vec<Port> {
    let sidecars = items(pod, &["spec", "initContainers"]).filter(|c| c["restartPolicy"] == "Always");
    let or = |text: &str, other: &str| if text.is_empty() { other.to_owned() } else { text.to_owned() };
    let read = |port: &Value| {
        let number = port["hostPort"].as_i64().filter(|number| *number > 0)?;
        Some(Port {
            ip: or(text(port, &["hostIP"]), "0.0.0.0"),
            protocol: or(text(port, &["protocol"]), "TCP"),
            number,
        })
    };
    let containers = items(pod, &["spec", "containers"]).chain(sidecars);
    containers.flat_map(|c| items(c, &["ports"])).filter_map(read).collect()
}

fn spreads(pod: &Value, labels: &Labels) -> Vec<Spread> {
    let read = |constraint: &Value| {
        let mut selector = Selector::of(at(constraint, &["labelSelector"]));
        let same = items(constraint, &["matchLabelKeys"]).filter_map(Value::as_str);
        let same: serde_json::Map<String, Value> =
            same.filter_map(|key| Some((key.to_owned(), labels.get(key)?.as_str().into()))).collect();
        if !same.is_empty() {
            selector.and_map(&Value::Object(same));
        }
        Spread {
            max_skew: constraint["maxSkew"].as_i64().unwrap_or(1),
            topology_key: text(constraint, &["topologyKey"]).to_owned(),
            selector,
            min_domains: constraint["minDomains"].as_i64().unwrap_or(1),
            by_affinity: text(constraint, &["nodeAffinityPolicy"]) != "Ignore",
            by_taints: text(constraint, &["nodeTaintsPolicy"]) == "Honor",
            is_hard: text(constraint, &["whenUnsatisfiable"]) == "DoNotSchedule",
        }
    };
    items(pod, &["spec", "topologySpreadConstraints"]).map(read).collect()
}

/// The image with its tag, as nodes list it.
fn tagged(image: &str) -> String {
    let name = image.rfind('/').map_or(image, |slash| &image[slash..]);
    if name.contains(':') { image.to_owned() } else { format!("{image}:latest") }
}
