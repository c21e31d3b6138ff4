//! Tables of the core group.

use serde_json::{Value, json};

use crate::cases::{cells, check_create, check_update, create, created, decoded, now, of, update, with};

mod cluster;
mod services;
mod storage;

fn object(kind: &str, rest: &Value) -> Value {
    with(&json!({"apiVersion": "v1", "kind": kind, "metadata": {"name": "a", "namespace": "default"}}), rest)
}

fn cluster(kind: &str, rest: &Value) -> Value {
    with(&json!({"apiVersion": "v1", "kind": kind, "metadata": {"name": "a"}}), rest)
}

#[test]
fn config_maps() {
    let map = object("ConfigMap", &json!({"data": {"a": "1"}, "binaryData": {"b": "AQI="}}));
    check_create(
        &map,
        &[
            (
                json!({"data": {"a/b": "x"}}),
                &[
                    "data[a/b]: Invalid value: \"a/b\": a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')",
                ],
            ),
            (
                json!({"data": {"b": "x"}}),
                &["data[b]: Invalid value: \"b\": duplicate of key present in binaryData"],
            ),
            (
                json!({"data": {"a": "x".repeat(1 << 20)}}),
                &["[]: Too long: may not be more than 1048576 bytes"],
            ),
        ],
    );
    let made = created(&map);
    assert_eq!(cells(&made), ["a", "2", "0s"]);
    let frozen = created(&with(&map, &json!({"immutable": true})));
    check_update(
        "",
        &frozen,
        &[
            (json!({"metadata": {"labels": {"a": "b"}}}), &[]),
            (json!({"data": {"a": "2"}}), &["data: Forbidden: field is immutable when `immutable` is set"]),
            (
                json!({"binaryData": null}),
                &["binaryData: Forbidden: field is immutable when `immutable` is set"],
            ),
            (
                json!({"immutable": null}),
                &["immutable: Forbidden: field is immutable when `immutable` is set"],
            ),
        ],
    );
    check_update("", &made, &[(json!({"data": {"a": "2"}, "immutable": true}), &[])]);
}

#[test]
fn secrets() {
    let secret = object("Secret", &json!({"data": {"a": "MQ=="}, "stringData": {"b": "two"}}));
    let made = created(&secret);
    assert_eq!(made["data"], json!({"a": "MQ==", "b": "dHdv"}));
    assert_eq!((&made["type"], made.get("stringData")), (&json!("Opaque"), None));
    assert_eq!(cells(&made), ["a", "Opaque", "2", "0s"]);
    let typed = |kind: &str, texts: Value| json!({"type": kind, "stringData": texts});
    check_create(
        &secret,
        &[
            (typed("kubernetes.io/tls", json!({"tls.crt": "x"})), &["data[tls.key]: Required value"]),
            (typed("kubernetes.io/ssh-auth", json!({})), &["data[ssh-privatekey]: Required value"]),
            (
                typed("kubernetes.io/basic-auth", json!({})),
                &["data[username]: Required value", "data[password]: Required value"],
            ),
            (typed("kubernetes.io/basic-auth", json!({"username": ""})), &[]),
            (
                typed("kubernetes.io/dockerconfigjson", json!({})),
                &["data[.dockerconfigjson]: Required value"],
            ),
            (typed("kubernetes.io/dockerconfigjson", json!({".dockerconfigjson": "{}"})), &[]),
            (
                typed("kubernetes.io/dockerconfigjson", json!({".dockerconfigjson": "oops"})),
                &[
                    "data[.dockerconfigjson]: Invalid value: \"<secret contents redacted>\": invalid character 'o' looking for beginning of value",
                ],
            ),
            (
                typed("kubernetes.io/dockercfg", json!({".dockercfg": "[]"})),
                &[
                    "data[.dockercfg]: Invalid value: \"<secret contents redacted>\": json: cannot unmarshal array into Go value of type map[string]interface {}",
                ],
            ),
            (
                typed("kubernetes.io/service-account-token", json!({})),
                &["metadata.annotations[kubernetes.io/service-account.name]: Required value"],
            ),
            (
                json!({"stringData": {"a b": "x"}}),
                &[
                    "data[a b]: Invalid value: \"a b\": a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')",
                ],
            ),
            (
                json!({"stringData": {"a": "x".repeat((1 << 20) + 1)}}),
                &["data: Too long: may not be more than 1048576 bytes"],
            ),
        ],
    );
    check_update(
        "",
        &made,
        &[
            (json!({"type": "other"}), &["type: Invalid value: \"other\": field is immutable"]),
            (json!({"stringData": {"a": "new"}}), &[]),
        ],
    );
    let frozen = created(&with(&secret, &json!({"immutable": true})));
    check_update(
        "",
        &frozen,
        &[
            (
                json!({"stringData": {"a": "new"}}),
                &["data: Forbidden: field is immutable when `immutable` is set"],
            ),
            (json!({"stringData": {"b": "two"}}), &[]),
        ],
    );
    assert_eq!(crate::of(of(&made)).fields(&made), [("type", "Opaque".to_owned())]);
}

#[test]
fn service_accounts() {
    let account = object("ServiceAccount", &json!({"secrets": [{"name": "s", "namespace": "x"}]}));
    let made = created(&account);
    assert_eq!(made["secrets"], json!([{"name": "s"}]));
    assert_eq!(cells(&made), ["a", "0s"]);
}

#[test]
fn events() {
    let event = object(
        "Event",
        &json!({
            "metadata": {"name": "web.17ab"}, "involvedObject": {"kind": "Pod", "name": "web", "namespace": "default"},
            "reason": "Started", "type": "Normal", "message": " it runs\n", "count": 3, "source": {"component": "kubelet", "host": "n1"},
            "firstTimestamp": "2026-11-21T09:00:00Z", "lastTimestamp": "2026-11-21T09:59:00Z",
        }),
    );
    let made = created(&event);
    assert_eq!(
        cells(&made),
        ["60s", "Normal", "Started", "pod/web", "", "kubelet, n1", "it runs", "60m", "3", "web.17ab"]
    );
    let fields = crate::of(of(&made)).fields(&made);
    assert!(fields.contains(&("involvedObject.name", "web".to_owned())));
    assert!(fields.contains(&("source", "kubelet".to_owned())));
    check_create(
        &event,
        &[
            (
                json!({"involvedObject": {"namespace": "b"}}),
                &["involvedObject.namespace: Invalid value: \"b\": does not match event.namespace"],
            ),
            (
                json!({"eventTime": "2026-11-21T09:00:00.000000Z"}),
                &[
                    "reportingComponent: Required value",
                    "reportingComponent: Invalid value: \"\": name part must be non-empty",
                    "reportingComponent: Invalid value: \"\": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')",
                    "reportingInstance: Required value",
                    "action: Required value",
                ],
            ),
        ],
    );
}

#[test]
fn endpoints() {
    let endpoints = object(
        "Endpoints",
        &json!({"subsets": [{
            "addresses": [{"ip": "10.0.0.1"}, {"ip": "10.0.0.2"}], "ports": [{"name": "a", "port": 80}, {"name": "b", "port": 81}],
        }]}),
    );
    let made = created(&endpoints);
    assert_eq!(made["subsets"][0]["ports"][0]["protocol"], "TCP");
    assert_eq!(cells(&made), ["a", "10.0.0.1:80,10.0.0.2:80,10.0.0.1:81 + 1 more...", "0s"]);
    assert!(crate::of(of(&made)).deprecation().is_some());
    check_create(
        &endpoints,
        &[
            (
                json!({"subsets": [{"ports": [{"port": 1}]}]}),
                &["subsets[0]: Required value: must specify `addresses` or `notReadyAddresses`"],
            ),
            (
                json!({"subsets": [{"addresses": [{"ip": "127.0.0.1"}]}]}),
                &[
                    "subsets[0].addresses[0].ip: Invalid value: \"127.0.0.1\": may not be in the loopback range (127.0.0.0/8, ::1/128)",
                ],
            ),
            (
                json!({"subsets": [{"addresses": [{"ip": "10.0.0.1"}], "ports": [{"port": 0}]}]}),
                &["subsets[0].ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive"],
            ),
        ],
    );
    assert_eq!(cells(&created(&object("Endpoints", &json!({}))))[1], "<none>");
}

#[test]
fn quotas() {
    let quota = object("ResourceQuota", &json!({"spec": {"hard": {"pods": "2", "limits.cpu": "4"}}}));
    let mut made = created(&quota);
    made["status"] = json!({"hard": {"pods": "2", "limits.cpu": "4"}, "used": {"pods": "1"}});
    assert_eq!(cells(&made), ["a", "pods: 1/2", "limits.cpu: 0/4", "0s"]);
    check_create(
        &quota,
        &[
            (
                json!({"spec": {"hard": {"bananas": "1"}}}),
                &[
                    "spec.hard[bananas]: Invalid value: \"bananas\": must be a standard resource type or fully qualified",
                    "spec.hard[bananas]: Invalid value: \"bananas\": must be a standard resource for quota",
                ],
            ),
            (json!({"spec": {"hard": {"count/jobs.batch": "1", "requests.x.io/gpu": "1"}}}), &[]),
            (
                json!({"spec": {"hard": {"pods": "1500m"}}}),
                &["spec.hard[pods]: Invalid value: \"1500m\": must be an integer"],
            ),
            (
                json!({"spec": {"scopes": ["Terminating", "NotTerminating"]}}),
                &["spec.scopes: Invalid value: [\"Terminating\",\"NotTerminating\"]: conflicting scopes"],
            ),
            (
                json!({"spec": {"scopes": ["BestEffort"]}}),
                &["spec.scopes: Invalid value: [\"BestEffort\"]: unsupported scope applied to resource"],
            ),
            (
                json!({"spec": {"scopeSelector": {"matchExpressions": [{"scopeName": "PriorityClass", "operator": "In"}]}}}),
                &[
                    "spec.scopeSelector.matchExpressions.values: Required value: must be at least one value when `operator` is 'In' or 'NotIn' for scope selector",
                ],
            ),
        ],
    );
    check_update(
        "",
        &made,
        &[
            (
                json!({"spec": {"scopes": ["Terminating"]}}),
                &["spec.scopes: Invalid value: [\"Terminating\"]: field is immutable"],
            ),
            (json!({"spec": {"hard": {"pods": "9"}}}), &[]),
        ],
    );
}

#[test]
fn limit_ranges() {
    let range = |limit: Value| object("LimitRange", &json!({"spec": {"limits": [limit]}}));
    let made = created(&range(json!({"type": "Container", "max": {"cpu": "2"}, "min": {"memory": "1Mi"}})));
    assert_eq!(
        made["spec"]["limits"][0],
        json!({
            "type": "Container", "max": {"cpu": "2"}, "min": {"memory": "1Mi"},
            "default": {"cpu": "2"}, "defaultRequest": {"cpu": "2", "memory": "1Mi"},
        })
    );
    for (limit, expected) in [
        (
            json!({"type": "Pod", "default": {"cpu": "1"}}),
            "spec.limits[0].default: Forbidden: may not be specified when `type` is 'Pod'",
        ),
        (
            json!({"type": "Container", "max": {"cpu": "1"}, "min": {"cpu": "2"}, "default": {"cpu": "2"}, "defaultRequest": {"cpu": "2"}}),
            "spec.limits[0].min[cpu]: Invalid value: \"2\": min value 2 is greater than max value 1",
        ),
        (
            json!({"type": "PersistentVolumeClaim"}),
            "spec.limits[0].limits: Required value: either minimum or maximum storage value is required, but neither was provided",
        ),
        (
            json!({"type": "Planet"}),
            "spec.limits[0].type: Invalid value: \"Planet\": must be a standard limit type or fully qualified",
        ),
        (
            json!({"type": "Pod", "maxLimitRequestRatio": {"cpu": "500m"}}),
            "spec.limits[0].maxLimitRequestRatio[cpu]: Invalid value: \"500m\": ratio 500m is less than 1",
        ),
        (
            json!({"type": "Pod", "max": {"cpu": "2"}, "min": {"cpu": "1"}, "maxLimitRequestRatio": {"cpu": "3"}}),
            "spec.limits[0].maxLimitRequestRatio[cpu]: Invalid value: \"3\": ratio 3 is greater than max/min = 2.000000",
        ),
    ] {
        let (_, found) = create(&range(limit.clone()));
        assert_eq!(found.first().map(String::as_str), Some(expected), "{limit}");
    }
}

#[test]
fn replication_controllers() {
    let controller = object(
        "ReplicationController",
        &json!({"spec": {"template": {
            "metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]},
        }}}),
    );
    let made = created(&controller);
    assert_eq!((&made["spec"]["replicas"], &made["spec"]["selector"]), (&json!(1), &json!({"a": "b"})));
    assert_eq!(
        (&made["metadata"]["labels"], &made["metadata"]["generation"]),
        (&json!({"a": "b"}), &json!(1))
    );
    assert_eq!(cells(&made), ["a", "1", "0", "0", "0s", "c", "i", "a=b"]);
    let scale = crate::of(of(&made)).scale(&made).expect("scales");
    assert_eq!(
        (&scale["spec"], &scale["status"]),
        (&json!({"replicas": 1}), &json!({"replicas": 0, "selector": "a=b"}))
    );
    check_create(
        &controller,
        &[
            (
                json!({"spec": {"replicas": -1}}),
                &["spec.replicas: Invalid value: -1: must be greater than or equal to 0"],
            ),
            (
                json!({"spec": {"selector": {"x": "y"}}}),
                &[
                    "spec.template.metadata.labels: Invalid value: {\"a\":\"b\"}: `selector` does not match template `labels`",
                ],
            ),
            (
                json!({"spec": {"template": {"spec": {"restartPolicy": "Never"}}}}),
                &[
                    "spec.template.spec.restartPolicy: Unsupported value: \"Never\": supported values: \"Always\"",
                ],
            ),
            (
                json!({"spec": {"template": null}}),
                &["spec.selector: Required value", "spec.template: Required value"],
            ),
        ],
    );
    check_update(
        "status",
        &made,
        &[(
            json!({"status": {"readyReplicas": 2, "replicas": 1}}),
            &["status.readyReplicas: Invalid value: 2: cannot be greater than status.replicas"],
        )],
    );
    let kind = crate::of(of(&made));
    assert_eq!(kind.default_propagation(), crate::Propagation::Orphan);
}

#[test]
fn every_resource_has_a_kind_whose_row_fits_its_columns() {
    for resource in proto_kube::resource::all() {
        let kind = crate::of(resource);
        let object =
            json!({"apiVersion": resource.api_version(), "kind": resource.kind, "metadata": {"name": "a"}});
        assert_eq!(kind.cells(&object, now()).len(), kind.columns().len(), "{}", resource.kind);
        let fields: Vec<&str> = kind.fields(&object).iter().map(|(name, _)| *name).collect();
        assert_eq!(fields, kind.selectable(), "{}", resource.kind);
        let mut filled = object.clone();
        kind.default(&mut filled);
        let mut again = filled.clone();
        kind.default(&mut again);
        assert_eq!(again, filled, "{}: defaults set twice", resource.kind);
    }
}
