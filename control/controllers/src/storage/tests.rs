//! Who is used stays.

use super::*;
use crate::driven::Driven;

#[test]
fn claims_and_volumes_wait_for_their_users() {
    let mut driven = Driven::new(all());
    driven.objects.put(CLAIMS, json!({"metadata": {"name": "c", "namespace": "ns"}}));
    driven.objects.put(VOLUMES, json!({"metadata": {"name": "v"}, "status": {"phase": "Bound"}}));
    let pod = |name: &str, node: &str| {
        json!({"metadata": {"name": name, "namespace": "ns"}, "spec": {"nodeName": node,
        "volumes": [{"name": "x", "persistentVolumeClaim": {"claimName": "c"}}]}})
    };
    driven.objects.put(PODS, pod("runs", "n"));
    driven.objects.put(PODS, pod("waits", ""));
    driven.settle();
    for (of, namespace, name) in [(CLAIMS, "ns", "c"), (VOLUMES, "", "v")] {
        let key = (namespace.to_owned(), name.to_owned());
        driven
            .objects
            .apply(&crate::Mutation::Delete(crate::resources::served(of), key, json!({})), driven.now)
            .unwrap();
    }
    driven.settle();
    assert!(driven.get(CLAIMS, "ns", "c").is_some() && driven.get(VOLUMES, "", "v").is_some());
    driven.objects.remove(PODS, "ns", "runs");
    driven.objects.change(VOLUMES, "", "v", |volume| volume["status"]["phase"] = "Released".into());
    driven.settle();
    assert!(driven.get(CLAIMS, "ns", "c").is_none() && driven.get(VOLUMES, "", "v").is_none());
}
