//! DefaultTolerationSeconds: a pod stays five minutes on a node that is not ready or cannot be reached.

use proto_kube::object;
use proto_kube::status::Result;
use serde_json::{Value, json};

use crate::Effects;
use crate::scene::Scene;

const SECONDS: i64 = 300;

pub(crate) fn admit(scene: &Scene<'_>, pod: &mut Value, _: &mut Effects) -> Result<()> {
    if !scene.is_pod() {
        return Ok(());
    }
    for key in ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"] {
        let tolerated = |t: &Value| {
            let text = |member| object::text(t, &[member]);
            (text("key") == key || text("key").is_empty()) && ["NoExecute", ""].contains(&text("effect"))
        };
        let mut tolerations: Vec<Value> = object::items(pod, &["spec", "tolerations"]).cloned().collect();
        if !tolerations.iter().any(tolerated) {
            tolerations.push(json!({
                "key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": SECONDS,
            }));
            object::member(pod, "spec").insert("tolerations".to_owned(), tolerations.into());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::{Ask, Cluster, pod};

    #[test]
    fn what_is_tolerated_stays() {
        for (own, count) in [
            (json!([]), 2),
            (json!([{"operator": "Exists"}]), 1),
            (json!([{"key": "node.kubernetes.io/not-ready", "effect": "NoExecute"}]), 2),
            (json!([{"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}]), 3),
            (json!([{"key": "other", "effect": "NoExecute"}]), 3),
        ] {
            let mut pod = pod("p");
            pod["spec"]["tolerations"] = own;
            for _ in 0..2 {
                Ask::create("", "pods").admit(&mut pod, &Cluster::usual()).unwrap();
                assert_eq!(pod["spec"]["tolerations"].as_array().unwrap().len(), count, "{pod}");
            }
        }
    }
}
