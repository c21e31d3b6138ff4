//! JSON patch and merge patch, case by case.

use proto_kube::Status;
use serde_json::json;

use super::*;

fn run(object: &Value, patch: &Value) -> Result<Value, Error> {
    json(object, patch.to_string().as_bytes())
}

#[test]
fn operations() {
    let object = json!({"a": {"b": 1}, "l": [1, 2], "m/n": {"o~p": 1}});
    let cases = [
        (json!([{"op": "add", "path": "/a/c", "value": 2}]), json!({"a": {"b": 1, "c": 2}, "l": [1, 2]})),
        (json!([{"op": "add", "path": "/l/0", "value": 0}]), json!({"a": {"b": 1}, "l": [0, 1, 2]})),
        (json!([{"op": "add", "path": "/l/-", "value": 3}]), json!({"a": {"b": 1}, "l": [1, 2, 3]})),
        (json!([{"op": "remove", "path": "/a/b"}]), json!({"a": {}, "l": [1, 2]})),
        (json!([{"op": "replace", "path": "/l/1", "value": 9}]), json!({"a": {"b": 1}, "l": [1, 9]})),
        // Upstream replaces what is not there, copies null from there, and finds it null.
        (json!([{"op": "replace", "path": "/a/x", "value": 9}]), json!({"a": {"b": 1, "x": 9}, "l": [1, 2]})),
        (
            json!([{"op": "copy", "path": "/a/x", "from": "/a/y"}]),
            json!({"a": {"b": 1, "x": null}, "l": [1, 2]}),
        ),
        (json!([{"op": "test", "path": "/a/x", "value": null}]), json!({"a": {"b": 1}, "l": [1, 2]})),
        (
            json!([{"op": "copy", "path": "/l/0", "from": "/a"}]),
            json!({"a": {"b": 1}, "l": [{"b": 1}, 1, 2]}),
        ),
        (json!([{"op": "move", "path": "/a/l", "from": "/l"}]), json!({"a": {"b": 1, "l": [1, 2]}})),
        (json!([{"op": "test", "path": "/m~1n/o~0p", "value": 1}]), json!({"a": {"b": 1}, "l": [1, 2]})),
    ];
    for (patch, mut wanted) in cases {
        wanted["m/n"] = json!({"o~p": 1});
        assert_eq!(run(&object, &patch), Ok(wanted), "{patch}");
    }
    assert_eq!(run(&object, &json!([{"op": "replace", "path": "", "value": {"z": 1}}])), Ok(json!({"z": 1})));
    assert_eq!(run(&object, &json!([])), Ok(object));
}

#[test]
fn refusals() {
    let object = json!({"a": {"b": 1}, "l": [1]});
    let rejected = [
        json!([{"op": "test", "path": "/a/b", "value": 2}]),
        json!([{"op": "test", "path": "/x/y", "value": null}]),
        json!([{"op": "remove", "path": "/x"}]),
        json!([{"op": "remove", "path": ""}]),
        json!([{"op": "add", "path": "/x/y", "value": 1}]),
        json!([{"op": "add", "path": "/l/7", "value": 1}]),
        json!([{"op": "replace", "path": "/l/7", "value": 1}]),
        json!([{"op": "replace", "path": "", "value": 1}]),
        json!([{"op": "copy", "path": "/a/c", "from": ""}]),
        json!([{"op": "move", "path": "/a/b/c", "from": "/a"}]),
        json!([{"op": "turn", "path": "/a"}]),
        json!([{"op": "add", "path": "/a"}]),
        json!([{}]),
    ];
    for patch in rejected {
        let status = Status::from(run(&object, &patch).expect_err(&patch.to_string()));
        assert_eq!(
            status.to_json(),
            json!({
                "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": 422, "details": {},
                "reason": "Invalid", "message": "the server rejected our request due to an error in our request",
            }),
            "{patch}"
        );
    }
    let malformed = [
        ("[{", "invalid JSON patch"),
        (
            "{}",
            "error decoding patch: json: cannot unmarshal object into Go value of type []handlers.jsonPatchOp",
        ),
        (
            "[1]",
            "error decoding patch: json: cannot unmarshal number into Go value of type handlers.jsonPatchOp",
        ),
    ];
    for (patch, why) in malformed {
        assert_eq!(json(&object, patch.as_bytes()), Err(Error::Malformed(why.to_owned())), "{patch}");
    }
}

#[test]
fn limits() {
    let object = json!({"a": "x".repeat(1000), "l": []});
    let many = vec![json!({"op": "test", "path": "/l", "value": []}); 10_001];
    let status = Status::from(run(&object, &many.into()).unwrap_err());
    let message =
        "Request entity too large: The allowed maximum operations in a JSON patch is 10000, got 10001";
    assert_eq!((status.code, status.message.as_str()), (413, message));

    let copies = |n| Value::from(vec![json!({"op": "copy", "path": "/l/-", "from": "/a"}); n]);
    assert!(run(&object, &copies(3000)).is_ok());
    assert!(matches!(run(&object, &copies(4000)), Err(Error::Rejected(_))));

    let deeper = json!([
        {"op": "add", "path": "/t", "value": {}},
        {"op": "move", "path": "/t/m", "from": "/l"},
        {"op": "move", "path": "/l", "from": "/t"},
    ]);
    let deeper: Vec<_> = deeper.as_array().unwrap().iter().cloned().cycle().take(900).collect();
    assert!(matches!(run(&object, &deeper.into()), Err(Error::Rejected(_))));
}

#[test]
fn merging() {
    let cases = [
        (json!({"a": 1, "b": {"c": 2}}), json!({"a": null, "b": {"d": 3}}), json!({"b": {"c": 2, "d": 3}})),
        (json!({"a": [1, 2]}), json!({"a": [3]}), json!({"a": [3]})),
        (json!({"a": 1}), json!({"a": {"b": 2, "c": null}}), json!({"a": {"b": 2}})),
        (json!({}), json!({"a": {"b": null}, "l": [{"c": null}]}), json!({"a": {}, "l": [{}]})),
        (json!({"a": {"b": 1}}), json!({"a": {}}), json!({"a": {"b": 1}})),
        (json!({"a": {"b": 1}}), json!({"x": null}), json!({"a": {"b": 1}})),
    ];
    for (object, patch, wanted) in cases {
        assert_eq!(merge(object, &patch), Ok(wanted), "{patch}");
    }
    let why =
        "error decoding patch: json: cannot unmarshal array into Go value of type map[string]interface {}";
    assert_eq!(merge(json!({}), &json!([])), Err(Error::Malformed(why.to_owned())));
}
