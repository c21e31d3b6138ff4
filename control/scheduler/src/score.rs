//! Which of the nodes that can take a pod is the best: upstream's scores, each of a hundred, with upstream's weights.

use proto_kube::view::View;

use crate::near;
use crate::pod::Pod;
use crate::snapshot::{Node, Snapshot};
use crate::spread::Soft;

const MOST: i64 = 100;
/// Images of less count for nothing, per pod;
const IMAGES_MIN: i64 = 23 << 20;
/// of more, per container, as no more.
const IMAGE_MAX: i64 = 1000 << 20;

/// The score of each node, in their order.
pub(crate) fn scores(pod: &Pod, snapshot: &Snapshot, view: &dyn View, nodes: &[&Node]) -> Vec<i64> {
    let mut sums = vec![0; nodes.len()];
    let mut add = |weight: i64, scores: Vec<i64>| {
        sums.iter_mut().zip(scores).for_each(|(sum, score)| *sum += weight * score);
    };
    let each = |score: &dyn Fn(&Node) -> i64| nodes.iter().map(|node| score(node)).collect::<Vec<_>>();
    add(3, normalized(each(&|node| disliked_taints(pod, node)), true));
    add(2, normalized(each(&|node| liked_labels(pod, node)), false));
    add(1, each(&|node| least_allocated(pod, node)));
    if let Some(soft) = Soft::of(pod, snapshot, view, nodes) {
        add(2, Soft::normalize(&nodes.iter().map(|node| soft.score(pod, node)).collect::<Vec<_>>()));
    }
    if let Some(good) = near::wishes(pod, snapshot, &near::namespaces(view)) {
        add(2, stretched(&each(&|node| near::score(&good, node))));
    }
    if pod.requests.cpu != 0 || pod.requests.memory != 0 {
        add(1, each(&|node| balanced(pod, node)));
    }
    add(1, each(&|node| images(pod, node, snapshot)));
    sums
}

/// In proportion to the largest; `reverse`: the less the better.
fn normalized(mut scores: Vec<i64>, reverse: bool) -> Vec<i64> {
    let most = scores.iter().max().copied().unwrap_or_default();
    for score in &mut scores {
        *score = if most == 0 { 0 } else { MOST * *score / most };
        if reverse {
            *score = MOST - *score;
        }
    }
    scores
}

/// From the smallest to the largest.
#[allow(clippy::cast_possible_truncation, reason = "it is of a hundred")]
fn stretched(scores: &[i64]) -> Vec<i64> {
    let (least, most) = (scores.iter().min().copied(), scores.iter().max().copied());
    let (Some(least), Some(most)) = (least, most) else { return Vec::new() };
    let part = |score: i64| (score - least) as f64 / (most - least) as f64;
    scores.iter().map(|score| if most == least { 0 } else { (MOST as f64 * part(*score)) as i64 }).collect()
}

fn disliked_taints(pod: &Pod, node: &Node) -> i64 {
    let borne = |taint| pod.tolerations.iter().any(|t| t.admits(taint));
    let disliked = node.taints.iter().filter(|t| t.effect == "PreferNoSchedule" && !borne(t));
    i64::try_from(disliked.count()).unwrap_or(i64::MAX)
}

fn liked_labels(pod: &Pod, node: &Node) -> i64 {
    let liked = pod.node_affinity.preferred.iter().filter(|(_, term)| term.admits(&node.name, &node.labels));
    liked.map(|(weight, _)| weight).sum()
}

/// What would be left, of each hundred.
fn least_allocated(pod: &Pod, node: &Node) -> i64 {
    let part = |asked: i64, used: i64, has: i64| {
        (has > 0).then(|| (has - used - asked).max(0).saturating_mul(MOST) / has)
    };
    let (asked, used, has) = (&pod.estimated, &node.estimated, &node.allocatable);
    let parts = [part(asked.cpu, used.cpu, has.cpu), part(asked.memory, used.memory, has.memory)];
    let count = parts.iter().flatten().count();
    if count == 0 { 0 } else { parts.iter().flatten().sum::<i64>() / i64::try_from(count).unwrap_or(1) }
}

/// How evenly the node's resources would be used, against how evenly they are.
fn balanced(pod: &Pod, node: &Node) -> i64 {
    let even = |cpu: i64, memory: i64| {
        let has = &node.allocatable;
        let part = |used: i64, has: i64| (has > 0).then(|| (used as f64 / has as f64).min(1.0));
        let apart = match (part(cpu, has.cpu), part(memory, has.memory)) {
            (Some(cpu), Some(memory)) => ((cpu - memory) / 2.0).abs(),
            _ => 0.0,
        };
        whole((1.0 - apart) * MOST as f64)
    };
    let (asked, used) = (&pod.held, &node.requested);
    let with = even(used.cpu + asked.cpu, used.memory + asked.memory);
    let without = even(used.cpu, used.memory);
    MOST / 2 + (MOST / 2 + with - without) / 2
}

#[allow(clippy::cast_possible_truncation, reason = "it is of a hundred, or the size of an image")]
fn whole(score: f64) -> i64 {
    score as i64
}

/// How much of the pod's images is there, each counted the more the more nodes have it, so that one does not draw all.
fn images(pod: &Pod, node: &Node, snapshot: &Snapshot) -> i64 {
    let nodes = snapshot.nodes().len().max(1) as f64;
    let scaled = |image: &String| {
        let size = *node.images.get(image)?;
        Some(whole(size as f64 * (snapshot.spread_of(image) as f64 / nodes)))
    };
    let most = IMAGE_MAX * pod.containers.max(1);
    let sum = pod.images.iter().filter_map(scaled).sum::<i64>().clamp(IMAGES_MIN, most);
    MOST * (sum - IMAGES_MIN) / (most - IMAGES_MIN)
}
