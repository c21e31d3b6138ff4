//! What every other write does to the owners of an object.

use super::*;

const REMOVED: &str = r#"{"f:data":{"f:x":{}}}"#;

#[test]
fn a_create_owns_what_it_sets() {
    let made = config_maps().write("", 1).update(None, config_map(json!({"x": "1"})));
    owned(&made, &[("unknown Update  01", r#"{"f:data":{".":{},"f:x":{}}}"#)]);
    // Parts that upstream's objects always have are owned through their members.
    let pods = json!({"containers": [{"name": "a"}]});
    let template = json!({"metadata": {"labels": {"a": "b"}}, "spec": pods});
    let made =
        deployments().write("kubectl-create", 1).update(None, deployment(json!({"template": template})));
    let fields = concat!(
        r#"{"f:spec":{"f:template":{"f:metadata":{"f:labels":{".":{},"f:a":{}}},"#,
        r#""f:spec":{"f:containers":{"k:{\"name\":\"a\"}":{".":{},"f:name":{}}}}}}}"#
    );
    owned(&made, &[("kubectl-create Update  01", fields)]);
}

#[test]
fn an_update_takes_what_it_changes() {
    let writer = config_maps();
    let mut live = writer.apply("a", 1, None, &config_map(json!({"x": "1", "y": "1", "z": "1"})));
    live["metadata"]["uid"] = json!("u");
    let mut new = live.clone();
    new["data"] = json!({"x": "2", "z": "1", "n": "1"});
    let live = writer.write("b", 2).update(Some(&live), new);
    owned(
        &live,
        &[("a Apply  01", r#"{"f:data":{"f:z":{}}}"#), ("b Update  02", r#"{"f:data":{"f:n":{},"f:x":{}}}"#)],
    );
    // Nothing changes: no time either.
    assert_eq!(writer.write("b", 3).update(Some(&live), live.clone()), live);
    // All of it goes, and its owners with it.
    let mut new = live.clone();
    new["data"] = json!({"m": "1"});
    let live = writer.write("c", 4).update(Some(&live), new);
    owned(&live, &[("c Update  04", r#"{"f:data":{"f:m":{}}}"#)]);
    // The same manager again adds to what it has.
    let mut new = live.clone();
    new["data"]["k"] = json!("1");
    let live = writer.write("c", 5).update(Some(&live), new);
    owned(&live, &[("c Update  05", r#"{"f:data":{"f:k":{},"f:m":{}}}"#)]);
    // Through a subresource it is another manager.
    let mut new = live.clone();
    new["data"]["s"] = json!("1");
    let live = Write { subresource: "status", ..writer.write("c", 6) }.update(Some(&live), new);
    owned(
        &live,
        &[
            ("c Update  05", r#"{"f:data":{"f:k":{},"f:m":{}}}"#),
            ("c Update status 06", r#"{"f:data":{"f:s":{}}}"#),
        ],
    );
}

#[test]
fn managed_fields_of_the_client() {
    let writer = config_maps();
    let mut live = writer.apply("a", 1, None, &config_map(json!({"x": "1"})));
    live["metadata"]["uid"] = json!("u");
    let kept = [("a Apply  01", REMOVED)];
    let sent = |entries: Option<Value>, through: &str| {
        let mut new = live.clone();
        match entries {
            Some(entries) => new["metadata"]["managedFields"] = entries,
            None => drop(managed::take(&mut new)),
        }
        Write { subresource: through, ..writer.write("b", 2) }.update(Some(&live), new)
    };
    for unknowing in [None, Some(json!(null)), Some(json!([{"manager": "x", "operation": "Turn"}]))] {
        owned(&sent(unknowing, ""), &kept);
    }
    for reset in [json!([]), json!([{}])] {
        owned(&sent(Some(reset.clone()), ""), &[]);
        owned(&sent(Some(reset), "status"), &kept);
    }
    let mine = json!([{"manager": "me", "operation": "Update", "apiVersion": "v1", "fieldsType": "FieldsV1", "fieldsV1": {"f:data": {"f:x": {}}}}]);
    owned(&sent(Some(mine), ""), &[("me Update  -", REMOVED)]);
    // An object that nobody tracks stays so.
    let untracked =
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"uid": "u"}, "data": {"x": "1"}});
    let mut new = untracked.clone();
    new["data"]["x"] = json!("2");
    assert_eq!(writer.write("b", 2).update(Some(&untracked), new.clone()), new);
}

#[test]
fn at_most_ten_updaters() {
    let writer = config_maps();
    let mut live = writer.write("m00", 0).update(None, config_map(json!({"k00": "0"})));
    live["metadata"]["uid"] = json!("u");
    for n in 1..13 {
        let mut new = live.clone();
        new["data"][format!("k{n:02}")] = json!("0");
        live = writer.write(&format!("m{n:02}"), n).update(Some(&live), new);
    }
    let found = managers(&live);
    assert_eq!(found.len(), 10);
    assert_eq!(found[0].0, "ancient-changes Update  03");
    assert_eq!(found[0].1, r#"{"f:data":{".":{},"f:k00":{},"f:k01":{},"f:k02":{},"f:k03":{}}}"#);
    assert_eq!(found[9].0, "m12 Update  12");
}

#[test]
fn times_are_no_change() {
    let writer = config_maps();
    let old = writer.write("a", 1).update(None, config_map(json!({"x": "1"})));
    let mut new = old.clone();
    new["metadata"]["managedFields"][0]["time"] = json!("2027-01-15T08:00:09Z");
    let later = new.clone();
    keep_times(&mut new, &old);
    assert_eq!(new, old);
    let mut new = later.clone();
    new["data"]["x"] = json!("2");
    let changed = new.clone();
    keep_times(&mut new, &old);
    assert_eq!(new, changed);
}

#[test]
fn names_of_managers() {
    let long = "x".repeat(200);
    for (field_manager, user_agent, wanted) in [
        ("me", "kubectl/v1.37", "me"),
        ("", "kubectl/v1.37.1 (linux/amd64)", "kubectl"),
        ("", "a\u{7}b", "ab"),
        ("", "", ""),
        ("", &long, &long[..128]),
    ] {
        assert_eq!(manager_name(field_manager, user_agent), wanted);
    }
}

#[test]
fn replicas_through_scale() {
    let entry = |name: &str, operation: &str, version: &str, through: &str, fields: Value| {
        let mut entry = json!({"manager": name, "operation": operation, "apiVersion": version, "fieldsType": "FieldsV1", "fieldsV1": fields});
        if !through.is_empty() {
            entry["subresource"] = json!(through);
        }
        entry
    };
    let own = || json!({"f:spec": {"f:replicas": {}}});
    let both = || json!({"f:spec": {"f:paused": {}, "f:replicas": {}}});
    let replicas = Replicas { version: "apps/v1", paths: &[("apps/v1", &["spec", "replicas"])] };
    let parent = json!([
        entry("a", "Apply", "apps/v1", "", both()),
        entry("b", "Update", "apps/v1", "", json!({"f:status": {}}))
    ]);
    let scale = replicas.to_scale(&parent);
    assert_eq!(scale, json!([entry("a", "Apply", "autoscaling/v1", "", own())]));
    // Nothing happened to it.
    assert_eq!(replicas.to_parent(&parent, &scale), parent);
    // Somebody scaled.
    let scaled = json!([entry("hpa", "Update", "autoscaling/v1", "scale", own())]);
    let mut key = replicas.to_parent(&parent, &scaled);
    assert_eq!(key[2].take(), entry("hpa", "Update", "apps/v1", "scale", own()));
    assert_eq!(key[0].take(), entry("a", "Apply", "apps/v1", "", json!({"f:spec": {"f:paused": {}}})));
}

#[test]
fn entries_that_cannot_be_read() {
    let entry = |change: &[(&str, Value)]| {
        let mut entry = json!({"operation": "Update", "apiVersion": "v1", "fieldsType": "FieldsV1"});
        for (key, value) in change {
            entry[key] = value.clone();
        }
        check(&json!([entry]))
    };
    assert_eq!(entry(&[]), Ok(()));
    let wrong = |why: &str| Err(why.to_owned());
    assert_eq!(entry(&[("operation", json!("x"))]), wrong("operation must be `Apply` or `Update`"));
    assert_eq!(entry(&[("apiVersion", json!(""))]), wrong("apiVersion must not be empty"));
    assert_eq!(entry(&[("fieldsType", json!(null))]), wrong("missing fieldsType in managed fields entry 0"));
    assert_eq!(
        entry(&[("fieldsType", json!("V2"))]),
        wrong("invalid fieldsType \"V2\" in managed fields entry 0")
    );
    assert!(entry(&[("fieldsV1", json!({"f": 1}))]).is_err());
}
