//! Bodies as clients send them.

use serde_json::json;

use super::*;

fn kind(version: &str, kind: &str) -> TypeId {
    table().kind(&Gvk::new(version, kind)).unwrap()
}

fn pod(body: &str) -> Result<Value, String> {
    json(body.as_bytes(), kind("v1", "Pod"), Strictness::Strict).map(|(v, _)| v).map_err(|e| e.to_string())
}

fn spec(spec: &str) -> Result<Value, String> {
    pod(&format!(r#"{{"spec":{spec}}}"#)).map(|mut pod| pod["spec"].take())
}

#[test]
fn zeroes_nulls_and_empties_are_as_upstream_writes_them() {
    for (given, kept) in [
        (json!({}), json!({ "containers": null })),
        (json!({"hostNetwork": false, "nodeName": "", "nodeSelector": {}, "volumes": []}), json!({})),
        (json!({"hostNetwork": true, "hostUsers": false}), json!({"hostNetwork": true, "hostUsers": false})),
        (json!({"priority": 0, "securityContext": {}}), json!({"priority": 0, "securityContext": {}})),
        (json!({"affinity": null, "containers": []}), json!({"containers": []})),
        (
            json!({"containers": [{"image": "a"}, null]}),
            json!({"containers": [{"name": "", "image": "a", "resources": {}}, {"name": "", "resources": {}}]}),
        ),
        (json!({"nodeSelector": {"a": null}}), json!({"nodeSelector": {"a": ""}})),
    ] {
        let mut kept = kept;
        kept.as_object_mut().unwrap().retain(|_, v| !v.is_null());
        assert_eq!(spec(&given.to_string()), Ok(kept), "{given}");
    }
    assert_eq!(pod("{}"), Ok(json!({"metadata": {}, "spec": {}, "status": {}})));
}

#[test]
fn scalars_have_their_canonical_form() {
    let container = |member: &str, value: Value| {
        spec(&json!({"containers": [{member: value}]}).to_string())
            .map(|mut s| s["containers"][0][member].take())
    };
    let limits = |value: Value| {
        container("resources", json!({"limits": {"cpu": value}})).map(|mut r| r["limits"]["cpu"].take())
    };
    for (given, kept) in [
        (json!("0.5"), "500m"),
        (json!("1024Mi"), "1Gi"),
        (json!(2), "2"),
        (json!(0.5), "500m"),
        (json!("1e3"), "1e3"),
        (json!(" 1 "), "1"),
    ] {
        assert_eq!(limits(given.clone()), Ok(json!(kept)), "{given}");
    }
    assert!(limits(json!("many")).unwrap_err().starts_with("quantities must match the regular expression"));
    let created = |text: &str| {
        pod(&json!({"metadata": {"creationTimestamp": text}}).to_string())
            .map(|p| p["metadata"]["creationTimestamp"].clone())
    };
    assert_eq!(created("2026-11-21T07:00:00.75+01:00"), Ok(json!("2026-11-21T06:00:00Z")));
    for text in
        ["", "now", "2026-11-21", "2026-11-21 07:00:00Z", "2026-13-21T07:00:00Z", "2026-11-21T07:00:00"]
    {
        assert!(created(text).unwrap_err().starts_with("parsing time"), "{text}");
    }
    let renew = json!({"spec": {"renewTime": "2026-11-21T07:00:00Z"}}).to_string();
    let lease =
        json(renew.as_bytes(), kind("coordination.k8s.io/v1", "Lease"), Strictness::Strict).unwrap().0;
    assert_eq!(lease["spec"]["renewTime"], "2026-11-21T07:00:00.000000Z");
    let secret = |data: &str| {
        json(&json!({"data": {"a": data}}).to_string().into_bytes(), kind("v1", "Secret"), Strictness::Strict)
            .map(|(s, _)| s["data"]["a"].clone())
            .map_err(|e| e.to_string())
    };
    assert_eq!(secret("YWJj\nYWJj"), Ok(json!("YWJjYWJj")));
    assert_eq!(secret("YW*j"), Err("illegal base64 data at input byte 2".to_owned()));
}

#[test]
fn other_types_are_refused_in_upstreams_words() {
    for (given, why) in [
        (r#"{"hostNetwork":"a"}"#, "string into Go struct field PodSpec.spec.hostNetwork of type bool"),
        (
            r#"{"containers":{}}"#,
            "object into Go struct field PodSpec.spec.containers of type []v1.Container",
        ),
        (r#"{"containers":[7]}"#, "number into Go struct field PodSpec.spec.containers of type v1.Container"),
        (
            r#"{"containers":[{"image":1}]}"#,
            "number into Go struct field Container.spec.containers.image of type string",
        ),
        (r#"{"priority":1.5}"#, "number 1.5 into Go struct field PodSpec.spec.priority of type int32"),
        (
            r#"{"priority":3000000000}"#,
            "number 3000000000 into Go struct field PodSpec.spec.priority of type int32",
        ),
        (
            r#"{"nodeSelector":{"a":1}}"#,
            "number into Go struct field PodSpec.spec.nodeSelector of type string",
        ),
        (
            r#"{"nodeSelector":[]}"#,
            "array into Go struct field PodSpec.spec.nodeSelector of type map[string]string",
        ),
        ("[]", "array into Go struct field Pod.spec of type v1.PodSpec"),
        (r#"{"affinity":true}"#, "bool into Go struct field PodSpec.spec.affinity of type v1.Affinity"),
    ] {
        assert_eq!(spec(given), Err(format!("json: cannot unmarshal {why}")), "{given}");
    }
    assert_eq!(pod("[]"), Err("json: cannot unmarshal array into Go value of type v1.Pod".to_owned()));
}

#[test]
fn scalars_of_their_own_are_refused_where_they_stand() {
    let created = pod(r#"{"metadata":{"creationTimestamp":1}}"#);
    let why = "json: cannot unmarshal number into Go struct field ObjectMeta.metadata.creationTimestamp of type string";
    assert_eq!(created, Err(why.to_owned()));
    let quantity = spec(r#"{"overhead":{"cpu":{}}}"#).unwrap_err();
    assert!(quantity.starts_with("quantities must match the regular expression"), "{quantity}");
    let port = spec(r#"{"containers":[{"livenessProbe":{"httpGet":{"port":true}}}]}"#);
    let why = "json: cannot unmarshal bool into Go struct field HTTPGetAction.spec.containers.livenessProbe.httpGet.port of type int32";
    assert_eq!(port, Err(why.to_owned()));
}

#[test]
fn unknown_and_doubled_fields_are_found_with_their_paths() {
    let body =
        br#"{"apiVersion":"v1","foo":1,"data":{"a":"1","a":"2"},"metadata":{"name":"a","name":"b"},"foo":2}"#;
    let config_map = kind("v1", "ConfigMap");
    let problems = vec![
        r#"unknown field "foo""#.to_owned(),
        r#"duplicate field "data.a""#.to_owned(),
        r#"duplicate field "metadata.name""#.to_owned(),
    ];
    let error = json(body, config_map, Strictness::Strict).unwrap_err();
    assert_eq!(error, Error::Strict(problems.clone()));
    let status = error.refusal(&Gvk::new("v1", "ConfigMap"), body);
    assert_eq!(
        (status.code, status.message.as_str()),
        (
            400,
            "ConfigMap in version \"v1\" cannot be handled as a ConfigMap: strict decoding error: unknown field \"foo\", duplicate field \"data.a\", duplicate field \"metadata.name\""
        )
    );
    let kept = json!({"apiVersion": "v1", "data": {"a": "2"}, "metadata": {"name": "b"}});
    assert_eq!(json(body, config_map, Strictness::Warn), Ok((kept.clone(), problems)));
    assert_eq!(json(body, config_map, Strictness::Ignore), Ok((kept, vec![])));
    assert_eq!(
        spec(r#"{"containers":[{"name":"a","imagex":"b"},{"env":[{"valu":1}]}]}"#),
        Err("strict decoding error: unknown field \"spec.containers[0].imagex\", unknown field \"spec.containers[1].env[0].valu\"".to_owned())
    );
}

#[test]
fn malformed_bodies_are_told_as_such() {
    let deep = format!("{}{}", "[".repeat(5000), "]".repeat(5000));
    for body in ["", "{", "{]", "{\"a\":1}}", "nul", "{\"metadata\":{\"name\":\"\\ud800\"}}", &deep] {
        assert!(json(body.as_bytes(), kind("v1", "Pod"), Strictness::Strict).is_err(), "{body}");
        assert!(matches!(untyped_json(body.as_bytes(), Strictness::Strict), Err(Error::Json(_))), "{body}");
    }
    let not_utf8 = json(b"{\"metadata\":{\"name\":\"\xff\"}}", kind("v1", "Pod"), Strictness::Ignore);
    assert!(matches!(not_utf8, Err(Error::Json(_))), "{not_utf8:?}");
    let error = json(b"", kind("v1", "Pod"), Strictness::Strict).unwrap_err();
    assert_eq!(
        error.refusal(&Gvk::new("v1", "Pod"), b"").message,
        "the object provided is unrecognized (must be of type Pod): couldn't get version/kind; json parse error: unexpected end of JSON input (<empty>)"
    );
    let many = format!(r#"{{"spec":{{"containers":[{}{{}}]}}}}"#, "{},".repeat(MOST));
    assert_eq!(json(many.as_bytes(), kind("v1", "Pod"), Strictness::Ignore), Err(Error::TooMany));
}

#[test]
fn yaml_is_read_as_json_is() {
    let body = b"# a comment\nkind: ConfigMap\ndata:\n  a: \"1\"\n  80: b\n  a: c\nmetadata:\n  name: x\nfoo: [1, {a: 2}]\n";
    let (object, problems) = yaml(body, kind("v1", "ConfigMap"), Strictness::Warn).unwrap();
    assert_eq!(
        object,
        json!({"kind": "ConfigMap", "data": {"80": "b", "a": "c"}, "metadata": {"name": "x"}})
    );
    assert_eq!(problems, [r#"duplicate field "data.a""#, r#"unknown field "foo""#]);
    let wrong = yaml(b"spec: {hostNetwork: 'yes'}", kind("v1", "Pod"), Strictness::Warn).unwrap_err();
    assert_eq!(
        wrong.to_string(),
        "json: cannot unmarshal string into Go struct field PodSpec.spec.hostNetwork of type bool"
    );
    let (untyped, problems) =
        untyped_yaml(b"a: [1, 1.5, x, null, true]\nb: {c: 1, c: 2}\n", Strictness::Warn).unwrap();
    assert_eq!(untyped, json!({"a": [1, 1.5, "x", null, true], "b": {"c": 2}}));
    assert_eq!(problems, [r#"duplicate field "b.c""#]);
    let json_body = br#"{"a":"\u00e9","b":[]}"#;
    assert_eq!(untyped_yaml(json_body, Strictness::Strict).unwrap().0, json!({"a": "é", "b": []}));
    let old = untyped_yaml(b"mode: 0644\non: yes\ntext: 'yes'\n", Strictness::Strict).unwrap().0;
    assert_eq!(
        old,
        json!({"mode": 420, "on": true, "text": "yes"}),
        "as YAML 1.1 has it, which upstream reads"
    );
    for body in ["a: b: c", "{a: 1", "a: &x [*x]", "--- a\n--- b"] {
        assert!(matches!(untyped_yaml(body.as_bytes(), Strictness::Ignore), Err(Error::Yaml(_))), "{body}");
    }
}

#[test]
fn a_patched_value_is_brought_into_shape_again() {
    let patched = json!({"spec": {"replicas": 0, "template": {"spec": {"containers": null}}}, "x": 1});
    let (object, problems) = value(patched, kind("apps/v1", "Deployment"), Strictness::Warn).unwrap();
    assert_eq!(object["spec"]["replicas"], 0);
    assert_eq!(object["spec"]["template"], json!({"metadata": {}, "spec": {}}));
    assert_eq!(problems, [r#"unknown field "x""#]);
}

#[test]
fn a_body_tells_its_kind() {
    let found = |body: &str| {
        head(body.as_bytes()).and_then(|h| h.kind_of(body.as_bytes())).map_err(|e| e.to_string())
    };
    assert_eq!(found(r#"{"spec":{"a":[1]},"kind":"Pod","apiVersion":"v1"}"#), Ok(Gvk::new("v1", "Pod")));
    assert_eq!(
        found(r#"{"apiVersion":"v1"}"#),
        Err("Object 'Kind' is missing in '{\"apiVersion\":\"v1\"}'".to_owned())
    );
    assert_eq!(
        found(r#"{"kind":"Pod"}"#),
        Err("Object 'apiVersion' is missing in '{\"kind\":\"Pod\"}'".to_owned())
    );
    assert!(found("[]").unwrap_err().starts_with("couldn't get version/kind; json parse error: "));
}

#[test]
fn durations_are_gos() {
    for (text, kept) in [
        ("90m", "1h30m0s"),
        ("1.5s", "1.5s"),
        ("100ms", "100ms"),
        ("-2us", "-2µs"),
        ("0", "0s"),
        ("1h0.5s", "1h0m0.5s"),
    ] {
        assert_eq!(scalar::duration(text), Ok(json!(kept)), "{text}");
    }
    for text in ["", "1", "1x", "-", ".s", "99999999999h"] {
        assert!(scalar::duration(text).is_err(), "{text}");
    }
}

proptest::proptest! {
    #[test]
    fn no_body_breaks_the_laws(bytes: Vec<u8>, text in "[{}\\[\\]\",:a-c0-9 \n-]{0,64}") {
        for body in [bytes.as_slice(), text.as_bytes()] {
            crate::fuzz::json(body);
            crate::fuzz::yaml(body);
        }
    }
}
