//! Namespaces and nodes.

use super::*;
use crate::deletion::{self, Deletion};

#[test]
fn namespaces() {
    let made = created(&cluster("Namespace", &json!({"status": {"phase": "Terminating"}})));
    assert_eq!(made["spec"], json!({"finalizers": ["kubernetes"]}));
    assert_eq!(made["metadata"]["labels"], json!({"kubernetes.io/metadata.name": "a"}));
    assert_eq!(made["status"], json!({"phase": "Active"}));
    assert_eq!(cells(&made), ["a", "Active", "0s"]);
    check_create(
        &cluster("Namespace", &json!({})),
        &[
            (
                json!({"metadata": {"name": "a.b"}}),
                &["metadata.name: Invalid value: \"a.b\": must not contain dots"],
            ),
            (
                json!({"spec": {"finalizers": ["mine"]}}),
                &[
                    "spec.finalizers: Invalid value: \"mine\": name is neither a standard finalizer name nor is it fully qualified",
                ],
            ),
            // The server drops the namespace of a cluster-scoped object.
            (json!({"metadata": {"namespace": "b"}}), &[]),
        ],
    );
    let (kept, errors) = update("", &made, &json!({"spec": {"finalizers": null}}));
    assert_eq!((&kept["spec"], errors.len()), (&made["spec"], 0));
    check_update(
        "status",
        &made,
        &[(
            json!({"status": {"phase": "Terminating"}}),
            &[
                "status.Phase: Invalid value: \"Terminating\": may only be 'Active' if `deletionTimestamp` is empty",
            ],
        )],
    );
    let kind = crate::of(of(&made));
    let mut going = made.clone();
    assert_eq!(deletion::delete(kind, &mut going, &json!({}), now()), Deletion::Waits);
    assert_eq!(going["status"]["phase"], "Terminating");
    assert!(!deletion::is_due(kind, &going));
    let (done, errors) = update("finalize", &going, &json!({"spec": {"finalizers": null}}));
    assert_eq!(errors, Vec::<String>::new());
    assert!(deletion::is_due(kind, &done));
    assert_eq!(kind.fields(&going)[1], ("status.phase", "Terminating".to_owned()));
}

#[test]
fn nodes() {
    let node = cluster(
        "Node",
        &json!({
            "metadata": {"labels": {"node-role.kubernetes.io/worker": "", "kubernetes.io/role": "db"}},
            "spec": {"podCIDR": "10.0.0.0/24"},
            "status": {
                "capacity": {"cpu": "2"}, "conditions": [{"type": "Ready", "status": "True"}],
                "addresses": [{"type": "InternalIP", "address": "192.0.2.1"}],
                "nodeInfo": {"kubeletVersion": "v1.37.0", "osImage": "Debian", "kernelVersion": "6.18", "architecture": "amd64"},
            },
        }),
    );
    let made = created(&node);
    assert_eq!(
        (&made["spec"]["podCIDRs"], &made["status"]["allocatable"]),
        (&json!(["10.0.0.0/24"]), &json!({"cpu": "2"}))
    );
    assert_eq!(
        cells(&made),
        [
            "a",
            "Ready",
            "db,worker",
            "0s",
            "v1.37.0",
            "192.0.2.1",
            "<none>",
            "Debian",
            "6.18 (amd64)",
            "<unknown>"
        ]
    );
}

#[test]
fn rules_of_nodes() {
    let node = cluster(
        "Node",
        &json!({"spec": {"podCIDR": "10.0.0.0/24"}, "status": {
            "capacity": {"cpu": "2"}, "conditions": [{"type": "Ready", "status": "True"}],
        }}),
    );
    let made = created(&node);
    check_create(
        &node,
        &[
            (json!({"spec": {"taints": [{"key": "a"}]}}), &["metadata.taints[0].effect: Required value"]),
            (
                json!({"spec": {"taints": [{"key": "a", "effect": "NoSchedule"}, {"key": "a", "effect": "NoSchedule"}]}}),
                &[
                    "metadata.taints[1]: Duplicate value: {\"effect\":\"NoSchedule\",\"key\":\"a\"}: taints must be unique by key and effect pair",
                ],
            ),
            (
                json!({"status": {"capacity": {"cpu": "-1"}}}),
                &[
                    "status.capacity.cpu: Invalid value: \"-1\": must be greater than or equal to 0",
                    "status.allocatable.cpu: Invalid value: \"-1\": must be greater than or equal to 0",
                ],
            ),
            (
                json!({"spec": {"podCIDR": "x"}}),
                &[
                    "spec.podCIDRs[0]: Invalid value: \"x\": must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)",
                ],
            ),
        ],
    );
    check_update(
        "",
        &made,
        &[
            (
                json!({"spec": {"podCIDR": "10.0.1.0/24", "podCIDRs": null}}),
                &["spec.podCIDRs: Forbidden: node updates may not change podCIDR except from \"\" to valid"],
            ),
            (json!({"spec": {"providerID": "x", "unschedulable": true}}), &[]),
        ],
    );
    let (cordoned, _) = update("", &made, &json!({"spec": {"unschedulable": true}}));
    assert_eq!(cells(&cordoned)[1], "Ready,SchedulingDisabled");
    assert_eq!(crate::of(of(&made)).fields(&cordoned), [("spec.unschedulable", "true".to_owned())]);
    let (status, _) =
        update("status", &made, &json!({"spec": {"unschedulable": true}, "status": {"conditions": null}}));
    assert_eq!((&status["spec"], cells(&status)[1].as_str()), (&made["spec"], "Unknown"));
}
