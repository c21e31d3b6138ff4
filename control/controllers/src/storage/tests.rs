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

#[test]
fn classes_wait_for_those_who_have_them() {
    let mut driven = Driven::new(all());
    driven.objects.put(ATTRIBUTES_CLASSES, json!({"metadata": {"name": "fast"}}));
    let has = json!({"currentVolumeAttributesClassName": "fast"});
    let claim = json!({"metadata": {"name": "c", "namespace": "ns"}, "status": has});
    driven.objects.put(CLAIMS, claim);
    let volume = json!({"metadata": {"name": "v"}, "spec": {"volumeAttributesClassName": "fast"}});
    driven.objects.put(VOLUMES, volume);
    driven.settle();
    let key = (String::new(), "fast".to_owned());
    let delete = crate::Mutation::Delete(crate::resources::served(ATTRIBUTES_CLASSES), key, json!({}));
    driven.objects.apply(&delete, driven.now).unwrap();
    driven.settle();
    driven.objects.change(VOLUMES, "", "v", |volume| volume["spec"]["volumeAttributesClassName"] = "".into());
    driven.settle();
    assert!(driven.get(ATTRIBUTES_CLASSES, "", "fast").is_some(), "the claim has it still");
    driven.objects.change(CLAIMS, "ns", "c", |claim| claim["status"] = json!({}));
    driven.settle();
    assert!(driven.get(ATTRIBUTES_CLASSES, "", "fast").is_none());
}
