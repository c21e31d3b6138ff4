//! Requests that are wrong in themselves.

use lab::Control;
use proto_kube::decode::{self, Strictness};
use proto_kube::{Gvk, schema, wire};
use serde_json::json;

use crate::raw::{Raw, head};
use crate::{MAPS, assert_no_panic, config_map, pss};

const JSON: (&str, &str) = ("content-type", "application/json");
const YAML: (&str, &str) = ("content-type", "application/yaml");
const PROTOBUF: (&str, &str) = ("content-type", "application/vnd.kubernetes.protobuf");
const JSON_PATCH: (&str, &str) = ("content-type", "application/json-patch+json");
const MERGE: (&str, &str) = ("content-type", "application/merge-patch+json");
const STRATEGIC: (&str, &str) = ("content-type", "application/strategic-merge-patch+json");
const APPLY: (&str, &str) = ("content-type", "application/apply-patch+yaml");

/// One request, and the codes that are right for it.
struct Case<'a>(&'a str, &'a str, String, &'a [(&'a str, &'a str)], Vec<u8>, &'a [u16]);

fn run(raw: &Raw, cases: &[Case<'_>]) {
    let mut wrong = Vec::new();
    for Case(what, method, path, headers, body, codes) in cases {
        let answer = raw.ask(method, path, headers, body);
        if !codes.contains(&answer.code) {
            wrong.push(format!("{what}: expected {codes:?}: {}", answer.text()));
        } else if answer.code >= 400 && answer.code != 404 && answer.code != 431 {
            answer.assert_status(what);
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

/// The same beginning ten thousand times, and as many ends.
fn deep(open: &str, middle: &str, close: &str) -> String {
    open.repeat(10_000) + middle + &close.repeat(10_000)
}

#[test]
fn bodies() {
    let control = Control::start().unwrap();
    let raw = Raw::admin(&control);
    let map = |text: String| {
        format!(r#"{{"apiVersion":"v1","kind":"ConfigMap","metadata":{{"name":"a"}},{text}}}"#).into_bytes()
    };
    let post = |what, header: &'static [(&str, &str)], body: Vec<u8>| {
        Case(what, "POST", MAPS.to_owned(), header, body, &[400])
    };
    let arrays = deep("[", "", "]");
    let cases = [
        post("nothing", &[JSON], Vec::new()),
        post("no JSON", &[JSON], b"{".to_vec()),
        post("an array", &[JSON], b"[]".to_vec()),
        post("a number", &[JSON], b"1e400".to_vec()),
        post("more behind it", &[JSON], map(r#""data":{}"#.into()).repeat(2)),
        post("10,000 arrays", &[JSON], arrays.clone().into_bytes()),
        Case(
            "10,000 arrays in a field that is not read",
            "POST",
            format!("{MAPS}?dryRun=All"),
            &[JSON],
            map(format!(r#""x":{arrays}"#)),
            &[201, 400],
        ),
        post("10,000 objects in data", &[JSON], map(format!(r#""data":{}"#, deep(r#"{"a":"#, "1", "}")))),
        post("10,000 open arrays", &[JSON], "[".repeat(10_000).into_bytes()),
        post("10,000 arrays in YAML", &[YAML], format!("kind: ConfigMap\nx: {arrays}").into_bytes()),
        post("YAML that grows a thousandfold each line", &[YAML], laughs().into_bytes()),
        post("two documents", &[YAML], b"kind: ConfigMap\n---\nkind: ConfigMap\n".to_vec()),
        post(
            "another kind",
            &[JSON],
            br#"{"apiVersion":"v1","kind":"Pod","metadata":{"name":"a"}}"#.to_vec(),
        ),
        post(
            "no such kind",
            &[JSON],
            br#"{"apiVersion":"v1","kind":"Nope","metadata":{"name":"a"}}"#.to_vec(),
        ),
        post("no such version", &[JSON], br#"{"apiVersion":"v9","kind":"ConfigMap"}"#.to_vec()),
        post("a number for a text", &[JSON], map(r#""data":{"a":1}"#.into())),
        post("no base64", &[JSON], map(r#""binaryData":{"a":"%"}"#.into())),
        post("invalid UTF-8 in a key", &[JSON], [&map(r#""x"#.into())[..40], b"\xff\xfe\":1}"].concat()),
        post("half a surrogate and no end", &[JSON], br#"{"kind":"\ud800"#.to_vec()),
        post("protobuf without its mark", &[PROTOBUF], b"\x0a\x02v1".to_vec()),
        post("JSON called protobuf", &[PROTOBUF], map(r#""data":{}"#.into())),
        post("a length beyond the end", &[PROTOBUF], b"k8s\0\x0a\xff\xff\xff\xff\x7f".to_vec()),
        post("gzip that is none", &[JSON, ("content-encoding", "gzip")], b"\x1f\x8b\x08garbage".to_vec()),
        Case(
            "doubled fields, strictly",
            "POST",
            format!("{MAPS}?fieldValidation=Strict"),
            &[JSON],
            map(r#""data":{"a":"1","a":"2"},"data":{}"#.into()),
            &[400],
        ),
        Case(
            "doubled fields, by and by",
            "POST",
            format!("{MAPS}?dryRun=All"),
            &[JSON],
            map(r#""data":{"a":"1","a":"2"}"#.into()),
            &[201],
        ),
        Case("3 MiB and a byte", "POST", MAPS.to_owned(), &[JSON], vec![b' '; (3 << 20) + 1], &[413]),
        Case("3 MiB of data", "POST", MAPS.to_owned(), &[JSON], big().into_bytes(), &[413, 422]),
    ];
    run(&raw, &cases);
    assert_no_panic(&control);
    assert!(pss(&control) < 300, "{} MiB", pss(&control));
}

/// YAML whose aliases would make it 10^27 times as large.
fn laughs() -> String {
    let line = |n: usize| format!("a{n}: &a{n} [{}]\n", vec![format!("*a{}", n - 1); 1000].join(","));
    "a0: &a0 [x]\n".to_owned() + &(1..10).map(line).collect::<String>()
}

/// An object that fits into a request and not into the store's rules.
fn big() -> String {
    config_map("big", &"x".repeat(2 << 20)).to_string()
}

#[test]
fn patches() {
    let control = Control::start().unwrap();
    let raw = Raw::admin(&control);
    let made = raw.ask("POST", MAPS, &[JSON], config_map("a", "1").to_string().as_bytes());
    assert_eq!(made.code, 201);
    let path = format!("{MAPS}/a");
    let case = |what, header: &'static [(&str, &str)], body: &str, codes| {
        Case(what, "PATCH", path.clone(), header, body.as_bytes().to_vec(), codes)
    };
    let arrays = deep("[", "", "]");
    let nested = deep(r#"{"a":"#, "1", "}");
    let forced = format!("{path}?fieldManager=m&force=true");
    let copies: Vec<_> =
        (0..64).map(|n| json!({"op": "copy", "from": "", "path": format!("/data/{n}")})).collect();
    // 500 is what upstream answers to errors of no kind.
    let cases = [
        case("no JSON", &[MERGE], "{", &[400]),
        case("no patch", &[JSON_PATCH], "{}", &[400]),
        case("no such operation", &[JSON_PATCH], r#"[{"op":"x","path":"/a"}]"#, &[400, 422]),
        case("a test that fails", &[JSON_PATCH], r#"[{"op":"test","path":"/data/k","value":"2"}]"#, &[422]),
        case("no such path", &[JSON_PATCH], r#"[{"op":"remove","path":"/data/no/way"}]"#, &[422]),
        case("no pointer", &[JSON_PATCH], r#"[{"op":"add","path":"data","value":1}]"#, &[400, 422]),
        case("into itself", &[JSON_PATCH], r#"[{"op":"move","from":"/data","path":"/data/k/x"}]"#, &[422]),
        case("doubled again and again", &[JSON_PATCH], &json!(copies).to_string(), &[400, 413, 422]),
        case(
            "10,000 arrays",
            &[JSON_PATCH],
            &format!(r#"[{{"op":"add","path":"/data/x","value":{arrays}}}]"#),
            &[400, 422],
        ),
        case("10,000 arrays", &[MERGE], &format!(r#"{{"data":{arrays}}}"#), &[400]),
        case("10,000 objects", &[MERGE], &nested, &[400]),
        case("10,000 objects", &[STRATEGIC], &nested, &[400]),
        case("an array", &[STRATEGIC], "[]", &[400, 422]),
        case("no such directive", &[STRATEGIC], r#"{"data":{"$patch":"no"}}"#, &[500]),
        case("a wrong type", &[MERGE], r#"{"data":[1]}"#, &[400, 422]),
        case("a new name", &[MERGE], r#"{"metadata":{"name":"b"}}"#, &[400, 422]),
        case("an old revision", &[MERGE], r#"{"metadata":{"resourceVersion":"1"}}"#, &[409]),
        case("no revision", &[MERGE], r#"{"metadata":{"resourceVersion":"x"}}"#, &[500]),
        case("no type", &[], "{}", &[415]),
        case("no such type", &[JSON], "{}", &[415]),
        case("apply by nobody", &[APPLY], "{}", &[400, 422]),
        Case("apply of nothing", "PATCH", forced.clone(), &[APPLY], b"{}".to_vec(), &[400, 422]),
        Case(
            "apply of 10,000 arrays",
            "PATCH",
            forced.clone(),
            &[APPLY],
            arrays.clone().into_bytes(),
            &[400],
        ),
        Case("apply that grows", "PATCH", forced.clone(), &[APPLY], laughs().into_bytes(), &[400, 413]),
        Case(
            "apply of a wrong type",
            "PATCH",
            forced.clone(),
            &[APPLY],
            b"apiVersion: v1\nkind: ConfigMap\ndata: [1]\n".to_vec(),
            &[400, 422, 500],
        ),
        Case("what is not there", "PATCH", format!("{MAPS}/b"), &[MERGE], b"{}".to_vec(), &[404]),
    ];
    run(&raw, &cases);
    let after = raw.get(&path).json();
    assert_eq!(after["metadata"]["resourceVersion"], made.json()["metadata"]["resourceVersion"], "untouched");
    assert_no_panic(&control);
    assert!(pss(&control) < 300, "{} MiB", pss(&control));
}

#[test]
fn headers() {
    let control = Control::start().unwrap();
    let raw = Raw::admin(&control);
    let map = config_map("a", "1").to_string().into_bytes();
    let typed = |kind: &'static str| [("content-type", kind)];
    let types = [
        "text/plain",
        "/",
        ";;;",
        "application/",
        "application/json/x",
        "text/html; q=",
        "application/jsonx",
    ];
    let headers = types.map(typed);
    let mut cases: Vec<Case<'_>> =
        headers.iter().map(|h| Case(h[0].1, "POST", MAPS.to_owned(), h, map.clone(), &[415])).collect();
    let accepts = ["image/png", "application/xml;q=1", "application/json;as=Nope;g=meta.k8s.io;v=v1", "x"]
        .map(|accept| [("accept", accept)]);
    cases.extend(accepts.iter().map(|h| Case(h[0].1, "GET", MAPS.to_owned(), h, Vec::new(), &[406])));
    let odd = [",", ";", ";q", "*/*;q=NaN", "*/*;q=-1,application/json;q=inf", "\"", "*/*;*/*"]
        .map(|a| [("accept", a)]);
    cases.extend(odd.iter().map(|h| Case(h[0].1, "GET", MAPS.to_owned(), h, Vec::new(), &[200, 406])));
    let long = "x".repeat(50_000);
    let long = [("x-long", long.as_str())];
    cases.push(Case("a long header", "GET", MAPS.to_owned(), &long, Vec::new(), &[200]));
    run(&raw, &cases);
    assert_no_panic(&control);
    assert!(pss(&control) < 300, "{} MiB", pss(&control));
}

#[test]
fn queries_and_paths() {
    let control = Control::start().unwrap();
    let raw = Raw::admin(&control);
    let mut cases = Vec::new();
    let many: String = (0..6_000).map(|n| format!("v{n},")).collect();
    for (query, codes) in [
        ("limit=-1".to_owned(), &[200, 400, 422][..]),
        ("limit=x".to_owned(), &[400]),
        ("limit=99999999999999999999".to_owned(), &[400]),
        ("continue=x".to_owned(), &[400]),
        ("continue=e30".to_owned(), &[400]),
        ("resourceVersion=x".to_owned(), &[400, 500]),
        ("resourceVersion=-1".to_owned(), &[400, 500]),
        ("resourceVersion=99999999999999999999999".to_owned(), &[400, 500]),
        ("resourceVersionMatch=Nope&resourceVersion=1".to_owned(), &[400, 422]),
        ("resourceVersion=9999999&resourceVersionMatch=Exact".to_owned(), &[504]),
        ("watch=true&timeoutSeconds=x".to_owned(), &[400]),
        ("watch=true&resourceVersion=x".to_owned(), &[400, 500]),
        ("labelSelector=a+in+(b".to_owned(), &[400]),
        ("labelSelector=%00".to_owned(), &[400]),
        ("labelSelector=%ff".to_owned(), &[400]),
        ("fieldSelector=spec.nope=1".to_owned(), &[400]),
        ("fieldSelector=a".to_owned(), &[400]),
        (format!("labelSelector=a+in+({}z)", many), &[200]),
        (format!("labelSelector={}z", "a=b,".repeat(10_000)), &[200, 400]),
        (format!("fieldSelector={}metadata.name=z", "metadata.name!=b,".repeat(2_000)), &[200]),
        (format!("labelSelector={}", "(".repeat(40_000)), &[400]),
        (format!("labelSelector={}=b", "a".repeat(40_000)), &[400]),
    ] {
        cases.push(Case("a query", "GET", format!("{MAPS}?{query}"), &[], Vec::new(), codes));
    }
    for path in [
        "/api/v1/namespaces/default/nopes",
        "/api/v1/nopes/a/b/c/d/e/f",
        "/apis/nope.example.com/v1/things",
        "/api/v9/pods",
        "/api/v1/namespaces/default/configmaps/a/nope",
        "/api/v1/namespaces//configmaps/%2e%2e/%2e%2e/x",
        "/api/v1/namespaces/default/configmaps/%00",
        "/../../etc/passwd",
    ] {
        cases.push(Case(path, "GET", path.to_owned(), &[], Vec::new(), &[400, 404]));
    }
    for method in ["BREW", "TRACE", "CONNECT"] {
        cases.push(Case(method, method, format!("{MAPS}/a"), &[], Vec::new(), &[400, 404, 405]));
    }
    run(&raw, &cases);
    assert_no_panic(&control);
    assert!(pss(&control) < 300, "{} MiB", pss(&control));
}

#[test]
fn heads_that_are_none() {
    let control = Control::start().unwrap();
    let raw = Raw::admin(&control);
    // Heads beyond all measure are not read to their end.
    for request in [
        format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(1 << 20)),
        head("GET", MAPS, &[]) + &"x: y\r\n".repeat(100_000) + "\r\n",
        head("GET", MAPS, &[("x", &"y".repeat(4 << 20))]) + "\r\n",
        head("POST", MAPS, &[("content-length", "-1")]) + "\r\n",
        head("POST", MAPS, &[("content-length", "1"), ("content-length", "2")]) + "\r\n{}",
        head("POST", MAPS, &[("transfer-encoding", "chunked")]) + "\r\nffffffffffffffffff\r\n",
        head("POST", MAPS, &[("transfer-encoding", "nope")]) + "\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\u{7f}garbage".to_owned(),
        "\r\n\r\n\0\0\0 / nonsense\r\n\r\n".to_owned(),
    ] {
        let answer = raw.send(request.as_bytes());
        let fine = answer.as_ref().is_none_or(|a| (400..500).contains(&a.code));
        assert!(fine, "{}: {}", request.chars().take(60).collect::<String>(), answer.unwrap().text());
    }
    assert_eq!(raw.get(MAPS).code, 200);
    assert_no_panic(&control);
    assert!(pss(&control) < 300, "{} MiB", pss(&control));
}

#[test]
fn protobuf_cut_and_bent_at_every_byte() {
    let control = Control::start().unwrap();
    let raw = Raw::admin(&control);
    let kind = Gvk::new("apps/v1", "Deployment");
    let object = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d", "labels": {"a": "b"}},
        "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": {"metadata": {"labels": {"a": "b"}},
            "spec": {"containers": [{"name": "c", "image": "i", "ports": [{"containerPort": 80}],
                "resources": {"limits": {"cpu": "100m"}}, "livenessProbe": {"httpGet": {"port": "http"}}}]}}},
    });
    let id = schema::table().kind(&kind).unwrap();
    let (object, _) = decode::value(object, id, Strictness::Strict).unwrap();
    let whole = wire::encode(&kind, &object).unwrap();
    let path = "/apis/apps/v1/namespaces/default/deployments?dryRun=All";
    let ask = |bytes: &[u8]| raw.ask("POST", path, &[PROTOBUF], bytes);
    assert!([201, 422].contains(&ask(&whole).code), "{}", ask(&whole).text());
    let cuts = (0..whole.len()).map(|end| whole[..end].to_vec());
    let bends = (0..whole.len()).map(|at| {
        let mut bent = whole.clone();
        bent[at] ^= 0x81;
        bent
    });
    for bytes in cuts.chain(bends) {
        let answer = ask(&bytes);
        let short = bytes.escape_ascii().to_string();
        // Some bytes may be missing or other without anything being amiss: an `unknown` field, a text.
        assert!([201, 400, 409, 422].contains(&answer.code), "{short}: {}", answer.text());
        if answer.code != 201 {
            answer.assert_status(&short);
        }
    }
    assert_no_panic(&control);
}
