//! Rules, defaults and rows of the storage kinds.

use jiff::Timestamp;
use proto_kube::field::Errors;
use proto_kube::resource;
use serde_json::{Value, json};

use crate::Kind;

fn kind(plural: &str) -> &'static dyn Kind {
    crate::of(resource::find("storage.k8s.io", "v1", plural).unwrap())
}

fn texts(errors: Errors) -> Vec<String> {
    errors.iter().map(ToString::to_string).collect()
}

fn faults(plural: &str, object: Value) -> Vec<String> {
    let mut object = object;
    kind(plural).default(&mut object);
    texts(kind(plural).validate(&object))
}

fn row(plural: &str, object: Value) -> Value {
    let cells = kind(plural).cells(&object, Timestamp::UNIX_EPOCH);
    assert_eq!(cells.len(), kind(plural).columns().len());
    cells.into()
}

#[test]
fn classes() {
    let mut class = json!({"metadata": {"name": "fast"}, "provisioner": "example.com/fast"});
    kind("storageclasses").default(&mut class);
    assert_eq!(
        (&class["reclaimPolicy"], &class["volumeBindingMode"]),
        (&json!("Delete"), &json!("Immediate"))
    );
    assert_eq!(texts(kind("storageclasses").validate(&class)), Vec::<String>::new());
    assert_eq!(
        faults(
            "storageclasses",
            json!({"reclaimPolicy": "Recycle", "volumeBindingMode": "x", "parameters": {"": "a"}})
        ),
        [
            "provisioner: Required value",
            "parameters: Invalid value: \"\": field can not be empty.",
            "reclaimPolicy: Unsupported value: \"Recycle\": supported values: \"Delete\", \"Retain\"",
            "volumeBindingMode: Unsupported value: \"x\": supported values: \"Immediate\", \"WaitForFirstConsumer\"",
        ]
    );
    let term = json!({"matchLabelExpressions": [{"key": "zone", "values": ["a"]}]});
    assert_eq!(
        faults(
            "storageclasses",
            json!({"provisioner": "a", "allowedTopologies": [term, term, {"matchLabelExpressions": [{"key": "z", "values": []}]}]})
        ),
        [
            "allowedTopologies[1].matchLabelExpressions: Duplicate value: \"\"",
            "allowedTopologies[2].matchLabelExpressions[0].values: Required value",
        ]
    );
    let zone = "failure-domain.beta.kubernetes.io/zone";
    let old_label =
        json!({"allowedTopologies": [{"matchLabelExpressions": [{"key": zone, "values": ["a"]}]}]});
    assert_eq!(
        kind("storageclasses").warnings(&old_label, None),
        [
            "allowedTopologies[0].matchLabelExpressions[0].key: deprecated since v1.17; use \"topology.kubernetes.io/zone\" instead"
        ]
    );
    let mut new = class.clone();
    new["parameters"] = json!({"a": "b"});
    new["provisioner"] = "other".into();
    assert_eq!(
        texts(kind("storageclasses").validate_update(&new, &class)),
        [
            "parameters: Invalid value: {\"a\":\"b\"}: field is immutable",
            "provisioner: Invalid value: \"other\": field is immutable",
        ]
    );
    assert_eq!(
        row(
            "storageclasses",
            json!({"metadata": {"name": "fast", "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}}, "provisioner": "p"})
        ),
        json!(["fast (default)", "p", "Delete", "Immediate", false, "<unknown>"])
    );
    assert_eq!(
        faults("volumeattributesclasses", json!({"driverName": "a"})),
        ["parameters: Required value: must contain at least one key/value pair"]
    );
}

#[test]
fn drivers() {
    let mut driver = json!({"metadata": {"name": "d"}, "spec": {}});
    kind("csidrivers").default(&mut driver);
    assert_eq!(
        driver["spec"],
        json!({
            "attachRequired": true, "podInfoOnMount": false, "storageCapacity": false, "requiresRepublish": false,
            "seLinuxMount": false, "fsGroupPolicy": "ReadWriteOnceWithFSType", "volumeLifecycleModes": ["Persistent"],
        })
    );
    assert_eq!(
        row("csidrivers", driver.clone()),
        json!(["d", true, false, false, "<unset>", false, "Persistent", "<unknown>"])
    );
    let tokens = json!([{"audience": "a"}, {"audience": "a"}, {"audience": "b", "expirationSeconds": 1}]);
    assert_eq!(
        faults(
            "csidrivers",
            json!({"spec": {"fsGroupPolicy": "x", "tokenRequests": tokens, "volumeLifecycleModes": ["y"], "nodeAllocatableUpdatePeriodSeconds": 1}})
        ),
        [
            "spec.fsGroupPolicy: Unsupported value: \"x\": supported values: \"File\", \"None\", \"ReadWriteOnceWithFSType\"",
            "spec.tokenRequests[1].audience: Duplicate value: \"a\"",
            "spec.tokenRequests[2].expirationSeconds: Invalid value: 1: may not specify a duration less than 10 minutes",
            "spec.volumeLifecycleModes: Unsupported value: \"y\": supported values: \"Persistent\", \"Ephemeral\"",
            "spec.nodeAllocatableUpdatePeriodSeconds: Invalid value: 1: must be greater than or equal to 10 seconds",
        ]
    );
    let mut new = driver.clone();
    new["spec"]["attachRequired"] = false.into();
    assert_eq!(
        texts(kind("csidrivers").validate_update(&new, &driver)),
        ["spec.attachedRequired: Invalid value: false: field is immutable"]
    );
    new["spec"]["tokenRequests"] = tokens;
    assert_eq!(kind("csidrivers").warnings(&new, Some(&driver)).len(), 1);
}

#[test]
fn nodes() {
    let driver = |id: &str| json!({"name": "d.example", "nodeID": id, "topologyKeys": ["a"]});
    let node = |drivers: Value| json!({"metadata": {"name": "n"}, "spec": {"drivers": drivers}});
    assert_eq!(faults("csinodes", node(json!([driver("1")]))), Vec::<String>::new());
    assert_eq!(
        faults("csinodes", node(json!([driver("1"), driver("")]))),
        ["spec.drivers[1].nodeID: Required value", "spec.drivers[1].name: Duplicate value: \"d.example\"",]
    );
    let (old, mut new) = (node(json!([driver("1")])), node(json!([driver("1")])));
    new["spec"]["drivers"][0]["allocatable"] = json!({"count": 5});
    assert_eq!(texts(kind("csinodes").validate_update(&new, &old)), Vec::<String>::new());
    let found = texts(kind("csinodes").validate_update(&node(json!([driver("2")])), &old));
    assert!(found.len() == 1 && found[0].ends_with("field is immutable"), "{found:?}");
    assert_eq!(row("csinodes", old), json!(["n", 1, "<unknown>"]));
}

#[test]
fn attachments() {
    let of = |source: Value| json!({"metadata": {"name": "v"}, "spec": {"attacher": "d.example", "nodeName": "n", "source": source}, "status": {}});
    let right = of(json!({"persistentVolumeName": "pv"}));
    assert_eq!(faults("volumeattachments", right.clone()), Vec::<String>::new());
    assert_eq!(
        faults("volumeattachments", of(json!({}))),
        [
            "spec.source: Required value: must specify exactly one of inlineVolumeSpec and persistentVolumeName"
        ]
    );
    let csi = json!({"driver": "d.example", "volumeHandle": "1"});
    assert_eq!(
        faults(
            "volumeattachments",
            of(json!({"inlineVolumeSpec": {"accessModes": ["ReadWriteOnce"], "csi": csi}}))
        ),
        Vec::<String>::new()
    );
    let inline = json!({"capacity": {"storage": "1Gi"}, "persistentVolumeReclaimPolicy": "Delete", "volumeMode": "Block"});
    let at = "spec.source.inlineVolumeSpec";
    assert_eq!(
        faults("volumeattachments", of(json!({"inlineVolumeSpec": inline}))),
        [
            format!("{at}.capacity: Forbidden: may not be specified in the context of inline volumes"),
            format!("{at}.csi: Required value: has to be specified in the context of inline volumes"),
            format!("{at}.accessModes: Required value"),
            format!(
                "{at}.persistentVolumeReclaimPolicy: Forbidden: may only be Retain in the context of inline volumes"
            ),
            format!(
                "{at}.volumeMode: Forbidden: may not specify volumeMode other than Filesystem in the context of inline volumes"
            ),
        ]
    );
    let mut new = right.clone();
    new["spec"]["nodeName"] = "m".into();
    let found = texts(kind("volumeattachments").validate_update(&new, &right));
    assert!(
        found.len() == 1
            && found[0].starts_with("spec: Invalid value")
            && found[0].ends_with("field is immutable"),
        "{found:?}"
    );
    assert_eq!(row("volumeattachments", right), json!(["v", "d.example", "pv", "n", false, "<unknown>"]));
}

#[test]
fn capacities() {
    let of = |class: &str, capacity: &str| json!({"metadata": {"name": "c"}, "storageClassName": class, "capacity": capacity});
    assert_eq!(faults("csistoragecapacities", of("fast", "1Gi")), Vec::<String>::new());
    assert_eq!(
        faults("csistoragecapacities", of("fast", "-1")),
        ["capacity: Invalid value: \"-1\": must be greater than or equal to 0"]
    );
    let topology = json!({"nodeTopology": {"matchLabels": {"beta.kubernetes.io/os": "linux"}}});
    assert_eq!(
        kind("csistoragecapacities").warnings(&topology, None),
        [
            "nodeTopology.matchLabels.beta.kubernetes.io/os: deprecated since v1.14; use \"kubernetes.io/os\" instead"
        ]
    );
    assert_eq!(
        texts(kind("csistoragecapacities").validate_update(&of("slow", "1"), &of("fast", "1"))),
        ["storageClassName: Invalid value: \"slow\": field is immutable"]
    );
}
