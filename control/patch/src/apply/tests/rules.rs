//! What an apply does to an object and to its owners.

use super::*;

#[test]
fn the_first_apply_owns_what_it_says() {
    let config = deployment(json!({
        "replicas": 2,
        "selector": {"matchLabels": {"app": "web"}},
        "template": {
            "metadata": {"labels": {"app": "web"}},
            "spec": {"containers": [{"name": "web", "image": "nginx", "ports": [{"containerPort": 80}]}]},
        },
    }));
    let made = deployments().apply("helm", 1, None, &config);
    let fields = concat!(
        r#"{"f:spec":{"f:replicas":{},"f:selector":{},"f:template":{"f:metadata":{"f:labels":{"f:app":{}}},"f:spec":"#,
        r#"{"f:containers":{"k:{\"name\":\"web\"}":{".":{},"f:image":{},"f:name":{},"f:ports":"#,
        r#"{"k:{\"containerPort\":80,\"protocol\":\"TCP\"}":{".":{},"f:containerPort":{}}}}}}}}}"#
    );
    owned(&made, &[("helm Apply  01", fields)]);
    let entry = &made["metadata"]["managedFields"][0];
    assert_eq!((&entry["apiVersion"], &entry["fieldsType"]), (&json!("apps/v1"), &json!("FieldsV1")));
    assert_eq!(entry["time"], "2027-01-15T08:00:01Z");
    // The same once more changes nothing, not even the time.
    assert_eq!(deployments().apply("helm", 2, Some(&made), &config), made);
}

#[test]
fn what_is_no_longer_applied_goes() {
    let writer = config_maps();
    let made = writer.apply("a", 1, None, &config_map(json!({"x": "1", "y": "2"})));
    let less = writer.apply("a", 2, Some(&made), &config_map(json!({"y": "2"})));
    assert_eq!(less["data"], json!({"y": "2"}));
    owned(&less, &[("a Apply  02", r#"{"f:data":{"f:y":{}}}"#)]);
    let none = writer.apply("a", 3, Some(&less), &json!({"apiVersion": "v1", "kind": "ConfigMap"}));
    assert_eq!(none.get("data"), None);
    assert_eq!(none["metadata"], json!({"name": "c"}));
}

#[test]
fn what_others_own_or_nobody_owns_stays() {
    let writer = config_maps();
    let mut live = writer.apply("a", 1, None, &config_map(json!({"x": "1", "y": "2"})));
    live = writer.apply("b", 2, Some(&live), &config_map(json!({"y": "2"})));
    // Both apply the same value: it is shared. Nothing changed, so the new entry has no time, as upstream.
    owned(
        &live,
        &[("b Apply  -", r#"{"f:data":{"f:y":{}}}"#), ("a Apply  01", r#"{"f:data":{"f:x":{},"f:y":{}}}"#)],
    );
    live["data"]["z"] = json!("unowned");
    live = writer.apply("a", 3, Some(&live), &config_map(json!({})));
    assert_eq!(live["data"], json!({"y": "2", "z": "unowned"}));
    owned(&live, &[("b Apply  -", r#"{"f:data":{"f:y":{}}}"#), ("a Apply  03", r#"{"f:data":{}}"#)]);
}

#[test]
fn an_item_goes_with_its_defaults() {
    let writer = Writer::new("v1", "Service");
    let service = |ports: Value| json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"}, "spec": {"ports": ports}});
    let mut live = writer.apply("a", 1, None, &service(json!([{"port": 80}, {"port": 81}])));
    for port in live["spec"]["ports"].as_array_mut().unwrap() {
        port["protocol"] = json!("TCP");
        port["targetPort"] = port["port"].clone();
    }
    let less = writer.apply("a", 2, Some(&live), &service(json!([{"port": 81, "protocol": "TCP"}])));
    assert_eq!(less["spec"]["ports"], json!([{"port": 81, "protocol": "TCP", "targetPort": 81}]));
}

#[test]
fn conflicts() {
    let writer = deployments();
    let live = writer.apply("kubectl", 1, None, &deployment(json!({"replicas": 1})));
    let status = writer.refused("helm", Some(&live), &deployment(json!({"replicas": 2})));
    assert_eq!(
        status.to_json(),
        json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": 409, "reason": "Conflict",
            "message": "Apply failed with 1 conflict: conflict with \"kubectl\": .spec.replicas",
            "details": {"causes": [
                {"reason": "FieldManagerConflict", "message": "conflict with \"kubectl\"", "field": ".spec.replicas"},
            ]},
        })
    );
    let mut scaled = live.clone();
    scaled["metadata"]["uid"] = json!("u");
    let mut more = scaled.clone();
    more["spec"]["paused"] = json!(true);
    more["spec"]["minReadySeconds"] = json!(1);
    let by = Write { subresource: "scale", ..writer.write("ctl", 2) };
    let live = by.update(Some(&scaled), more);
    let status = writer.refused(
        "helm",
        Some(&live),
        &deployment(json!({"replicas": 2, "paused": false, "minReadySeconds": 2})),
    );
    let message = concat!(
        "Apply failed with 3 conflicts: conflicts with \"ctl\" with subresource \"scale\" using apps/v1:\n",
        "- .spec.minReadySeconds\n- .spec.paused\nconflicts with \"kubectl\":\n- .spec.replicas"
    );
    assert_eq!(status.message, message);
    assert_eq!(
        status.details["causes"][0],
        json!({
            "reason": "FieldManagerConflict", "field": ".spec.minReadySeconds",
            "message": "conflict with \"ctl\" with subresource \"scale\" using apps/v1",
        })
    );
}

#[test]
fn force_takes() {
    let writer = config_maps();
    let live = writer.apply("a", 1, None, &config_map(json!({"x": "1", "y": "1"})));
    let forced = writer.write("b", 2).apply(Some(&live), &config_map(json!({"x": "2"})), true).unwrap();
    assert_eq!(forced["data"], json!({"x": "2", "y": "1"}));
    owned(
        &forced,
        &[("a Apply  01", r#"{"f:data":{"f:y":{}}}"#), ("b Apply  02", r#"{"f:data":{"f:x":{}}}"#)],
    );
    let all =
        writer.write("b", 3).apply(Some(&forced), &config_map(json!({"x": "2", "y": "2"})), true).unwrap();
    owned(&all, &[("b Apply  03", r#"{"f:data":{"f:x":{},"f:y":{}}}"#)]);
}

#[test]
fn lists_keep_the_order_of_the_configuration() {
    let writer = Writer::new("v1", "Pod");
    let pod = |names: &[&str]| {
        let containers: Vec<_> = names.iter().map(|n| json!({"name": n})).collect();
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {"containers": containers}})
    };
    let cases: [(&[&str], &[&str], &str); 5] = [
        (&["a", "b", "c"], &["c", "a"], "b c a"),
        (&["a", "b"], &["c", "a"], "c a b"),
        (&["x", "a", "y"], &["a", "b"], "x a y b"),
        (&["x", "b", "y", "a"], &["a", "b"], "x y a b"),
        (&["a"], &["b"], "a b"),
    ];
    for (live, config, wanted) in cases {
        let live = writer.apply("a", 1, None, &pod(live));
        let found = writer.apply("b", 2, Some(&live), &pod(config));
        let names: Vec<_> =
            found["spec"]["containers"].as_array().unwrap().iter().map(|c| text(c, &["name"])).collect();
        assert_eq!(names.join(" "), wanted, "{config:?}");
    }
}

#[test]
fn sets_and_wholes() {
    let writer = Writer::new("v1", "Pod");
    let pod = |finalizers: Value, tolerations: Value| {
        json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "finalizers": finalizers},
            "spec": {"tolerations": tolerations, "nodeSelector": {"a": "b"}, "volumes": [{"name": "v", "emptyDir": {}}]},
        })
    };
    let live = writer.apply("a", 1, None, &pod(json!(["x/a", "x/b"]), json!([{"key": "k"}])));
    let fields = concat!(
        r#"{"f:metadata":{"f:finalizers":{"v:\"x/a\"":{},"v:\"x/b\"":{}}},"f:spec":{"f:nodeSelector":{},"#,
        r#""f:tolerations":{},"f:volumes":{"k:{\"name\":\"v\"}":{".":{},"f:emptyDir":{},"f:name":{}}}}}"#
    );
    owned(&live, &[("a Apply  01", fields)]);
    let status = writer.refused("b", Some(&live), &pod(json!(["x/c"]), json!([{"key": "k"}, {"key": "l"}])));
    assert_eq!(status.message, "Apply failed with 1 conflict: conflict with \"a\": .spec.tolerations");
    let both = writer.apply("b", 2, Some(&live), &pod(json!(["x/c", "x/a"]), json!([{"key": "k"}])));
    assert_eq!(both["metadata"]["finalizers"], json!(["x/c", "x/a", "x/b"]));
}

#[test]
fn configurations_that_cannot_be_applied() {
    let bad = |config: Value| {
        let status = deployments().refused("a", None, &config);
        (status.code, status.message)
    };
    let mut managed = deployment(json!({}));
    managed["metadata"]["managedFields"] = json!([]);
    assert_eq!(bad(managed), (400, "metadata.managedFields must be nil".to_owned()));
    let pod = json!({"apiVersion": "v1", "kind": "Pod"});
    assert_eq!(bad(pod), (400, "invalid object type: /v1, Kind=Pod".to_owned()));
    let containers = |list: Value| json!({"template": {"spec": {"containers": list}}});
    for (spec, why) in [
        (json!({"x": 1}), ".spec.x: field not declared in schema"),
        (json!({"replicas": "1"}), ".spec.replicas: expected numeric (int or float), got string"),
        (json!({"paused": 1}), ".spec.paused: expected boolean, got &{1}"),
        (json!({"strategy": "a"}), ".spec.strategy: expected map, got &{a}"),
        (
            containers(json!([{"name": "a"}, {"name": "a"}])),
            ".spec.template.spec.containers: duplicate entries for key [name=\"a\"]",
        ),
        (
            containers(json!([{"name": "a", "image": 1}])),
            ".spec.template.spec.containers[name=\"a\"].image: expected string, got &value.valueUnstructured{Value:1}",
        ),
        (containers(json!({})), ".spec.template.spec.containers: expected list, got &{map[]}"),
        (
            containers(json!([{}])),
            ".spec.template.spec.containers: element 0: associative list with keys has an element that omits all key \
             fields [\"name\"] (and doesn't have default values for any key fields)",
        ),
        (
            json!({"replicas": "1", "x": 1}),
            "errors:\n  .spec.replicas: expected numeric (int or float), got string\n  .spec.x: field not declared in schema",
        ),
    ] {
        let whole =
            format!("failed to create typed patch object (default/web; apps/v1, Kind=Deployment): {why}");
        assert_eq!(bad(deployment(spec)), (500, whole));
    }
}

#[test]
fn kubectl_takes_over_from_client_side_apply() {
    let writer = config_maps();
    let applied = |data: &str| {
        format!(r#"{{"apiVersion":"v1","kind":"ConfigMap","metadata":{{"name":"c"}},"data":{data}}}"#)
    };
    let mut made = config_map(json!({"x": "1", "y": "1"}));
    made["metadata"]["annotations"] =
        json!({"kubectl.kubernetes.io/last-applied-configuration": applied(r#"{"x":"1","y":"0"}"#)});
    let mut live = writer.write("kubectl-client-side-apply", 1).update(None, made);
    live["metadata"]["uid"] = json!("u");

    let config = config_map(json!({"x": "2<"}));
    assert_eq!(writer.refused("helm", Some(&live), &config).code, 409);
    let taken = writer.apply("kubectl", 2, Some(&live), &config);
    assert_eq!(taken["data"], json!({"x": "2<", "y": "1"}));
    let annotation = "{\"apiVersion\":\"v1\",\"data\":{\"x\":\"2\\u003c\"},\"kind\":\"ConfigMap\",\"metadata\":{\"name\":\"c\"}}\n";
    assert_eq!(
        taken["metadata"]["annotations"],
        json!({"kubectl.kubernetes.io/last-applied-configuration": annotation})
    );
    // What was changed since is a conflict after all, and the only one reported.
    let status = writer.refused("kubectl", Some(&live), &config_map(json!({"x": "2", "y": "2"})));
    assert_eq!(
        status.message,
        "Apply failed with 1 conflict: conflict with \"kubectl-client-side-apply\" using v1: .data.y"
    );
}

#[test]
fn before_the_first_apply() {
    let live = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c", "uid": "u"}, "data": {"x": "1"}});
    let found = config_maps().apply("a", 5, Some(&live), &config_map(json!({"y": "1"})));
    owned(
        &found,
        &[
            ("a Apply  05", r#"{"f:data":{"f:y":{}}}"#),
            ("before-first-apply Update  05", r#"{"f:data":{".":{},"f:x":{}}}"#),
        ],
    );
}

#[test]
fn only_what_a_subresource_does_not_reset() {
    let status = || Writer { filter: Filter::except(&["spec", "metadata"]), ..deployments() };
    let mut config = deployment(json!({"replicas": 1}));
    config["metadata"]["labels"] = json!({"a": "b"});
    config["status"] = json!({"replicas": 1});
    owned(&status().apply("a", 1, None, &config), &[("a Apply  01", r#"{"f:status":{"f:replicas":{}}}"#)]);

    let resize = Writer {
        filter: Filter::only(&["spec.containers.*.resources", "spec.containers.*.resizePolicy"]),
        ..Writer::new("v1", "Pod")
    };
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "labels": {"a": "b"}},
        "spec": {"containers": [{"name": "a", "image": "i", "resources": {"limits": {"cpu": "1"}}}]},
    });
    let fields = r#"{"f:spec":{"f:containers":{"k:{\"name\":\"a\"}":{".":{},"f:resources":{"f:limits":{"f:cpu":{}}}}}}}"#;
    owned(&resize.apply("a", 1, None, &pod), &[("a Apply  01", fields)]);
}

#[test]
fn kinds_of_several_versions() {
    let to = |object: &Value, to: &GroupVersion| {
        let mut object = object.clone();
        let metric = |n: Value| json!([{"type": "Resource", "resource": {"name": "cpu", "target": {"averageUtilization": n}}}]);
        // An object on its way through a conversion may lack any part.
        if let Some(spec) = object["spec"].as_object_mut() {
            if to.version == "v1"
                && let Some(metrics) = spec.remove("metrics")
            {
                let target = metrics[0]["resource"]["target"]["averageUtilization"].clone();
                spec.insert("targetCPUUtilizationPercentage".into(), target);
            }
            if to.version == "v2"
                && let Some(target) = spec.remove("targetCPUUtilizationPercentage")
            {
                spec.insert("metrics".into(), metric(target));
            }
        }
        object["apiVersion"] = to.to_string().into();
        ["v1", "v2"].contains(&to.version.as_str()).then_some(object)
    };
    let (v1, v2) = (
        Writer::new("autoscaling/v1", "HorizontalPodAutoscaler"),
        Writer::new("autoscaling/v2", "HorizontalPodAutoscaler"),
    );
    let scaler = |version: &str, spec: Value| json!({"apiVersion": version, "kind": "HorizontalPodAutoscaler", "metadata": {"name": "h"}, "spec": spec});
    let old = scaler("autoscaling/v1", json!({"maxReplicas": 3, "targetCPUUtilizationPercentage": 50}));
    let made = Write { convert: &to, ..v1.write("a", 1) }.apply(None, &old, false).unwrap();
    let live = to(&made, &GroupVersion::parse("autoscaling/v2")).unwrap();
    assert_eq!(live["metadata"]["managedFields"][0]["apiVersion"], "autoscaling/v1");

    // Another manager in the other version: the conflict is found in the owner's version.
    let other = scaler("autoscaling/v2", json!({"maxReplicas": 4}));
    let two = Write { convert: &to, ..v2.write("b", 2) };
    let status = Status::from(two.apply(Some(&live), &other, false).unwrap_err());
    assert_eq!(status.message, "Apply failed with 1 conflict: conflict with \"a\": .spec.maxReplicas");

    // The same manager in the other version drops what it no longer applies.
    let less = scaler("autoscaling/v2", json!({"maxReplicas": 3}));
    let found = Write { convert: &to, ..v2.write("a", 3) }.apply(Some(&live), &less, false).unwrap();
    assert_eq!(found["spec"].get("metrics"), None);
    assert_eq!(found["metadata"]["managedFields"][0]["apiVersion"], "autoscaling/v2");

    // A version that is served no more owns nothing.
    let mut ancient = live.clone();
    ancient["metadata"]["managedFields"][0]["apiVersion"] = json!("autoscaling/v2beta1");
    let found = two.apply(Some(&ancient), &other, false).unwrap();
    owned(&found, &[("b Apply  02", r#"{"f:spec":{"f:maxReplicas":{}}}"#)]);
}

#[test]
fn kinds_without_a_schema() {
    let writer = Writer::new("example.com/v1", "Thing");
    let thing = |spec: Value| json!({"apiVersion": "example.com/v1", "kind": "Thing", "metadata": {"name": "t"}, "spec": spec});
    let live = writer.apply("a", 1, None, &thing(json!({"a": {"b": 1, "c": [1]}, "d": {}})));
    owned(&live, &[("a Apply  01", r#"{"f:spec":{".":{},"f:a":{".":{},"f:b":{},"f:c":{}},"f:d":{}}}"#)]);
    let found = writer.apply("a", 2, Some(&live), &thing(json!({"a": {"b": 1}})));
    assert_eq!(found["spec"], json!({"a": {"b": 1}}));
    let status = writer.refused("b", Some(&live), &thing(json!({"a": {"c": [2]}})));
    assert_eq!(status.message, "Apply failed with 1 conflict: conflict with \"a\": .spec.a.c");
}
