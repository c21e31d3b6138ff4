//! Tables of a pod's spec.

use super::*;

fn check(table: &[(Value, &[&str])]) {
    let table: Vec<_> = table.iter().map(|(change, expected)| (json!({"spec": change}), *expected)).collect();
    check_create(&pod(), &table);
}

#[test]
fn texts_and_numbers() {
    check(&[
        (
            json!({"restartPolicy": "Maybe"}),
            &[
                "spec.restartPolicy: Unsupported value: \"Maybe\": supported values: \"Always\", \"OnFailure\", \"Never\"",
            ],
        ),
        (
            json!({"dnsPolicy": "X"}),
            &[
                "spec.dnsPolicy: Unsupported value: \"X\": supported values: \"ClusterFirstWithHostNet\", \"ClusterFirst\", \"Default\", \"None\"",
            ],
        ),
        (
            json!({"dnsPolicy": "None"}),
            &["spec.dnsConfig: Required value: must provide `dnsConfig` when `dnsPolicy` is None"],
        ),
        (
            json!({"dnsConfig": {"nameservers": ["x"]}}),
            &[
                "spec.dnsConfig.nameservers[0]: Invalid value: \"x\": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
            ],
        ),
        (
            json!({"activeDeadlineSeconds": 0}),
            &["spec.activeDeadlineSeconds: Invalid value: 0: must be between 1 and 2147483647, inclusive"],
        ),
        (json!({"hostname": "a.b"}), &["spec.hostname: Invalid value: \"a.b\": must not contain dots"]),
        (json!({"hostAliases": [{"ip": "1.2.3.4", "hostnames": ["a", "b.c"]}]}), &[]),
        (
            json!({"preemptionPolicy": "X"}),
            &[
                "spec.preemptionPolicy: Unsupported value: \"X\": supported values: \"PreemptLowerPriority\", \"Never\"",
            ],
        ),
    ]);
}

#[test]
fn systems_and_hosts() {
    check(&[
        (
            json!({"os": {"name": "plan9"}}),
            &["spec.os: Unsupported value: \"plan9\": supported values: \"linux\", \"windows\""],
        ),
        (
            json!({"os": {"name": "windows"}, "hostPID": true}),
            &["spec.hostPID: Forbidden: cannot be set for a windows pod"],
        ),
        (
            json!({"hostUsers": false, "hostNetwork": true}),
            &["spec.hostNetwork: Forbidden: when `hostUsers` is false"],
        ),
        (
            json!({"nodeName": "n", "schedulingGates": [{"name": "g"}]}),
            &["spec.nodeName: Forbidden: cannot be set until all schedulingGates have been cleared"],
        ),
        (
            json!({"securityContext": {"sysctls": [{"name": "a..b", "value": "1"}]}}),
            &[
                "spec.securityContext.sysctls[0].name: Invalid value: \"a..b\": must have at most 253 characters and match regex ^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$",
            ],
        ),
        (
            json!({"securityContext": {"sysctls": [{"name": "net.core.somaxconn", "value": "1"}]}, "hostNetwork": true}),
            &[
                "spec.securityContext.sysctls[0].name: Invalid value: \"net.core.somaxconn\": may not be specified when 'hostNetwork' is true",
            ],
        ),
        (
            json!({"shareProcessNamespace": true, "hostPID": true}),
            &[
                "spec.securityContext.shareProcessNamespace: Invalid value: true: ShareProcessNamespace and HostPID cannot both be enabled",
            ],
        ),
        (json!({"resources": {"limits": {"cpu": "1"}}}), &[]),
        (
            json!({"resources": {"limits": {"x.io/y": "1"}}}),
            &[
                "spec.resources.limits[x.io/y]: Unsupported value: \"x.io/y\": supported values: \"cpu\", \"hugepages-\", \"memory\"",
            ],
        ),
    ]);
}

#[test]
fn tolerations_and_spread() {
    check(&[
        (
            json!({"tolerations": [{"operator": "Equal"}]}),
            &[
                "spec.tolerations[0].operator: Invalid value: \"Equal\": operator must be Exists when `key` is empty, which means \"match all values and all keys\"",
            ],
        ),
        (
            json!({"tolerations": [{"key": "a", "operator": "Exists", "value": "x"}]}),
            &[
                "spec.tolerations[0].operator: Invalid value: \"x\": value must be empty when `operator` is 'Exists'",
            ],
        ),
        (
            json!({"tolerations": [{"key": "a", "operator": "Like"}]}),
            &[
                "spec.tolerations[0].operator: Unsupported value: \"Like\": supported values: \"Equal\", \"Exists\"",
            ],
        ),
        (
            json!({"tolerations": [{"key": "a", "effect": "NoSchedule", "tolerationSeconds": 1}]}),
            &[
                "spec.tolerations[0].effect: Invalid value: \"NoSchedule\": effect must be 'NoExecute' when `tolerationSeconds` is set",
            ],
        ),
        (
            json!({"tolerations": [{"key": "a", "effect": "X"}]}),
            &[
                "spec.tolerations[0].effect: Unsupported value: \"X\": supported values: \"NoSchedule\", \"PreferNoSchedule\", \"NoExecute\"",
            ],
        ),
        (
            json!({"topologySpreadConstraints": [{"maxSkew": 0, "topologyKey": "", "whenUnsatisfiable": ""}]}),
            &[
                "spec.topologySpreadConstraints[0].maxSkew: Invalid value: 0: must be greater than zero",
                "spec.topologySpreadConstraints[0].topologyKey: Required value: can not be empty",
                "spec.topologySpreadConstraints[0].whenUnsatisfiable: Unsupported value: \"\": supported values: \"DoNotSchedule\", \"ScheduleAnyway\"",
            ],
        ),
        (
            json!({"topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "z", "whenUnsatisfiable": "ScheduleAnyway", "minDomains": 2}]}),
            &[
                "spec.topologySpreadConstraints[0].minDomains: Invalid value: 2: can only use minDomains if whenUnsatisfiable=DoNotSchedule, not ScheduleAnyway",
            ],
        ),
    ]);
}

#[test]
fn affinities() {
    let required = |terms: Value| json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}}});
    let at = "spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms";
    let text = |rest: &str| format!("{at}{rest}");
    let (none, values, operator) = (
        text(": Required value: must have at least one node selector term"),
        text(
            "[0].matchExpressions[0].values: Required value: must be specified when `operator` is 'In' or 'NotIn'",
        ),
        text("[0].matchExpressions[0].operator: Invalid value: \"Is\": not a valid selector operator"),
    );
    let anti = |term: Value| json!({"affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}});
    check(&[
        (required(json!([])), &[&none]),
        (required(json!([{"matchExpressions": [{"key": "a", "operator": "In"}]}])), &[&values]),
        (required(json!([{"matchExpressions": [{"key": "a", "operator": "Is"}]}])), &[&operator]),
        (
            required(json!([{"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n"]}]}])),
            &[],
        ),
        (
            anti(
                json!({"labelSelector": {"matchLabels": {"a": "b"}}, "topologyKey": "kubernetes.io/hostname"}),
            ),
            &[],
        ),
        (
            anti(json!({"topologyKey": "z", "matchLabelKeys": ["a"]})),
            &[
                "spec.affinity.podAntiAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].matchLabelKeys: Forbidden: must not be specified when labelSelector is not set",
            ],
        ),
    ]);
}

#[test]
fn labels_of_the_pod_go_into_selectors() {
    let spread = json!([{"maxSkew": 1, "topologyKey": "z", "whenUnsatisfiable": "DoNotSchedule",
        "labelSelector": {"matchLabels": {"app": "web"}}, "matchLabelKeys": ["pod-template-hash"]}]);
    let made = created(&with(
        &pod(),
        &json!({
            "metadata": {"labels": {"pod-template-hash": "abc"}}, "spec": {"topologySpreadConstraints": spread},
        }),
    ));
    assert_eq!(
        made["spec"]["topologySpreadConstraints"][0]["labelSelector"]["matchExpressions"],
        json!([{"key": "pod-template-hash", "operator": "In", "values": ["abc"]}])
    );
}

#[test]
fn volumes() {
    let of = |volume: Value| json!({"volumes": [with(&json!({"name": "v"}), &volume)]});
    check(&[
        (
            of(json!({"emptyDir": {}, "hostPath": {"path": "/"}})),
            &["spec.volumes[0].hostPath: Forbidden: may not specify more than 1 volume type"],
        ),
        (
            json!({"volumes": [{"name": "a"}, {"name": "a"}]}),
            &["spec.volumes[1].name: Duplicate value: \"a\""],
        ),
        (json!({"volumes": [{"emptyDir": {}}]}), &["spec.volumes[0].name: Required value"]),
        (
            of(json!({"hostPath": {"path": "/a/../b"}})),
            &["spec.volumes[0].hostPath.path: Invalid value: \"/a/../b\": must not contain '..'"],
        ),
        (
            of(json!({"hostPath": {"path": "/a", "type": "X"}})),
            &[
                "spec.volumes[0].hostPath.type: Unsupported value: \"X\": supported values: \"\", \"BlockDevice\", \"CharDevice\", \"Directory\", \"DirectoryOrCreate\", \"File\", \"FileOrCreate\", \"Socket\"",
            ],
        ),
        (of(json!({"secret": {}})), &["spec.volumes[0].secret.secretName: Required value"]),
        (
            of(json!({"secret": {"secretName": "s", "defaultMode": 1000}})),
            &[
                "spec.volumes[0].secret.defaultMode: Invalid value: 1000: must be a number between 0 and 0777 (octal), both inclusive",
            ],
        ),
        (
            of(json!({"configMap": {"name": "m", "items": [{"key": "k", "path": "/p"}]}})),
            &["spec.volumes[0].configMap.items[0].path: Invalid value: \"/p\": must be a relative path"],
        ),
    ]);
}

#[test]
fn projections_and_drivers() {
    let of = |volume: Value| json!({"volumes": [with(&json!({"name": "v"}), &volume)]});
    check(&[
        (
            of(json!({"nfs": {"server": "s", "path": "p"}})),
            &["spec.volumes[0].nfs.path: Invalid value: \"p\": must be an absolute path"],
        ),
        (
            of(json!({"persistentVolumeClaim": {"claimName": ""}})),
            &["spec.volumes[0].persistentVolumeClaim.claimName: Required value"],
        ),
        (
            of(json!({"downwardAPI": {"items": [{"path": "l"}]}})),
            &[
                "spec.volumes[0].downwardAPI: Required value: one of fieldRef and resourceFieldRef is required",
            ],
        ),
        (
            of(json!({"projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}})),
            &[
                "spec.volumes[0].projected.sources[0].serviceAccountToken: Forbidden: must not be specified when serviceAccountName is not set",
            ],
        ),
        (
            of(
                json!({"projected": {"sources": [{"secret": {"name": "a", "items": [{"key": "k", "path": "p"}]}}, {"secret": {"name": "b", "items": [{"key": "k", "path": "p"}]}}]}}),
            ),
            &["spec.volumes[0].projected: Invalid value: \"b\": conflicting duplicate paths"],
        ),
        (
            of(json!({"csi": {"driver": "a_b"}})),
            &[
                "spec.volumes[0].csi.driver: Invalid value: \"a_b\": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')",
            ],
        ),
        (
            of(
                json!({"ephemeral": {"volumeClaimTemplate": {"spec": {"resources": {"requests": {"storage": "1Gi"}}}}}}),
            ),
            &[
                "spec.volumes[0].ephemeral.volumeClaimTemplate.spec.accessModes: Required value: at least 1 access mode is required",
            ],
        ),
    ]);
}
