//! What the laws are tried on first.

use proto_kube::schema::table;
use proto_kube::{Gvk, resource, wire};
use serde_json::Value;

/// Objects with much in them that has rules, one a line.
const OBJECTS: &str = include_str!("objects.jsonl");

fn objects() -> impl Iterator<Item = (Gvk, Value)> {
    OBJECTS.lines().map(|line| {
        let object: Value = serde_json::from_str(line).expect("objects.jsonl holds an object a line");
        let text = |key: &str| object[key].as_str().unwrap_or_default();
        (Gvk::new(text("apiVersion"), text("kind")), object)
    })
}

/// The two bytes by which a law knows the type of a kind.
fn chosen(kind: &Gvk) -> [u8; 2] {
    table().kind(kind).map_or(0, |id| id.0).to_le_bytes()
}

/// The byte by which a law knows the resource of a kind.
fn resource_of(kind: &Gvk) -> u8 {
    let at = resource::all().iter().position(|r| r.gvk() == *kind);
    at.and_then(|at| u8::try_from(at).ok()).unwrap_or(0)
}

pub(crate) fn typed_json() -> Vec<Vec<u8>> {
    objects().map(|(kind, object)| [&chosen(&kind)[..], object.to_string().as_bytes()].concat()).collect()
}

pub(crate) fn typed_yaml() -> Vec<Vec<u8>> {
    let pod = Gvk::new("v1", "Pod");
    let texts = [
        "apiVersion: v1\nkind: Pod\nmetadata:\n  name: a\n  labels: {a: b, \"c\": 'd'}\nspec:\n  containers:\n  - name: c\n    image: >-\n      i\n    args: [\"a\", b, 0o17]\n",
        "a: &x {b: 1}\nc: *x\nd: [*x, *x]\n",
        "metadata: {name: a, name: b}\nspec:\n  activeDeadlineSeconds: 1e2\n  priority: 0x10\n  hostNetwork: yes\n",
        "--- # one\nkind: Pod\n...\n---\nkind: List\n",
        "? a\n: b\n? [c, d]\n: !!binary aGVsbG8=\n1: 2\n~: null\n2001-01-01: x\n.inf: -.inf\n",
        "metadata:\n  annotations:\n    k: |\n      line\n       more\n    <<: {m: n}\n",
    ];
    let texts = texts.iter().map(|text| [&chosen(&pod)[..], text.as_bytes()].concat());
    texts.chain(typed_json()).collect()
}

pub(crate) fn wire() -> Vec<Vec<u8>> {
    let envelopes: Vec<(Gvk, Vec<u8>)> = objects()
        .filter_map(|(kind, object)| {
            let id = table().kind(&kind)?;
            let (object, _) =
                proto_kube::decode::value(object, id, proto_kube::decode::Strictness::Strict).ok()?;
            let bytes = wire::encode(&kind, &object).ok()?;
            Some((kind, bytes))
        })
        .collect();
    let raw = envelopes.iter().filter_map(|(kind, bytes)| {
        Some([&chosen(kind)[..], wire::Envelope::open(bytes).ok()?.raw].concat())
    });
    raw.chain(envelopes.iter().map(|(_, bytes)| bytes.clone())).collect()
}

pub(crate) fn resources() -> Vec<Vec<u8>> {
    let examples =
        objects().map(|(kind, object)| [&[resource_of(&kind)][..], object.to_string().as_bytes()].concat());
    // Every resource with an object that says nothing, and one that says little.
    let count = u8::try_from(resource::all().len()).unwrap_or(u8::MAX);
    let bare = (0..count).flat_map(|at| {
        [&b"{}"[..], b"{\"metadata\":{\"name\":\"a\"},\"spec\":{},\"status\":{}}"]
            .map(|text| [&[at][..], text].concat())
    });
    examples.chain(bare).collect()
}

pub(crate) fn updates() -> Vec<Vec<u8>> {
    let objects: Vec<_> = objects().collect();
    let twice = objects.iter().map(|(kind, object)| format_two(kind, object, object));
    let bare = objects.iter().flat_map(|(kind, object)| {
        let empty = serde_json::json!({"metadata": object["metadata"], "spec": {}, "status": {}});
        [format_two(kind, object, &empty), format_two(kind, &empty, object)]
    });
    twice.chain(bare).collect()
}

fn format_two(kind: &Gvk, old: &Value, new: &Value) -> Vec<u8> {
    [&[resource_of(kind)][..], format!("{old}\n{new}").as_bytes()].concat()
}

pub(crate) fn two_documents() -> Vec<Vec<u8>> {
    let patches = [
        r#"{"spec":{"containers":[{"name":"c","$patch":"delete"}],"$setElementOrder/containers":[{"name":"d"}]}}"#,
        r#"{"metadata":{"finalizers":["a"],"$deleteFromPrimitiveList/finalizers":["b"]},"spec":{"$patch":"replace"}}"#,
        r#"{"spec":{"strategy":{"$retainKeys":["type"],"type":"Recreate"},"template":{"spec":{"containers":null}}}}"#,
        r#"{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"d"},"spec":{"template":{"spec":{"containers":[{"name":"c","ports":[{"containerPort":80}]},{"name":"d"}]}}}}"#,
    ];
    let lines: Vec<_> = OBJECTS.lines().filter(|line| line.contains("\"containers\"")).collect();
    let patched = lines.iter().flat_map(|line| patches.iter().map(move |patch| format!("{line}\n{patch}")));
    let crossed = lines.iter().zip(lines.iter().skip(1)).map(|(one, other)| format!("{one}\n{other}"));
    patched.chain(crossed).map(String::into_bytes).collect()
}

pub(crate) fn json_patches() -> Vec<Vec<u8>> {
    let patches = [
        r#"[{"op":"add","path":"/a/b","value":1},{"op":"remove","path":"/a~1b/~0"},{"op":"test","path":"","value":{}}]"#,
        r#"[{"op":"move","from":"/a","path":"/c/0"},{"op":"copy","from":"/c","path":"/c/-"},{"op":"replace","path":"/c/01","value":null}]"#,
        r#"[{"op":"copy","from":"","path":"/a/x"},{"op":"copy","from":"","path":"/a/y"}]"#,
    ];
    let object = r#"{"a":{"b":[1,2,{"~":"/"}]},"a/b":{"~":1},"c":[]}"#;
    patches.iter().map(|patch| format!("{object}\n{patch}").into_bytes()).collect()
}

pub(crate) fn managed_fields() -> Vec<Vec<u8>> {
    [
        r#"{"f:metadata":{"f:labels":{".":{},"f:a":{}}},"f:spec":{"f:ports":{"k:{\"port\":80,\"protocol\":\"TCP\"}":{".":{},"f:port":{}}}}}"#,
        r#"{"f:x":{"v:\"a\"":{},"v:1":{},"v:true":{},"v:null":{},"i:0":{},"i:-5":{}}}"#,
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec()
}

pub(crate) fn selectors() -> Vec<Vec<u8>> {
    [
        "a=b,c!=d,e in (f,g),h notin (i),!j,k,l>5,m<6,n==o",
        "metadata.name=a\\,b,spec.nodeName!=c\\=d,status.phase==Running",
        "example.com/a in (,b, c ),x notin()",
        r#"{"matchLabels":{"a":"b"},"matchExpressions":[{"key":"n","operator":"NotIn","values":["7"]},{"key":"z","operator":"Exists"}]}"#,
        "100m",
        "1.5Gi",
        "12e-3",
        "-0.000000001Ki",
        "999999999999999999999E",
        "example.com/a-b_c.d",
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec()
}

pub(crate) fn requests() -> Vec<Vec<u8>> {
    [
        "GET /api/v1/namespaces/a/pods/b/log?follow=true&tailLines=1",
        "GET /apis/apps/v1/watch/namespaces/a/deployments?fieldSelector=metadata.name%3Da&limit=5&continue=x",
        "PATCH /api/v1/namespaces/a%2Fb/status",
        "DELETE /api/v1/pods?labelSelector=a%20in%20(b)&watch=1",
        "POST /api/v1/namespaces/a/services/b:http/proxy/c/d//e?x=%zz%ff",
        "PUT //apis//x/y/z/%00/%",
        "GET /openapi/v3/apis/apps/v1?hash=0",
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec()
}

pub(crate) fn logs() -> Vec<Vec<u8>> {
    let all = [
        ("/registry/a", Some(&b"{\"apiVersion\":\"v1\"}"[..]), 2),
        ("/registry/b", Some(b"b"), 3),
        ("/registry/a", None, 4),
        ("/registry/b", Some(b"c"), 5),
    ];
    let whole = store::fuzz::example(&all);
    // The same frames as a snapshot, and a log behind it.
    let frames = &whole[3..];
    let length = u16::try_from(frames.len()).expect("a few frames").to_le_bytes();
    let with_snapshot = [&length[..], &[5], frames, frames].concat();
    vec![whole, store::fuzz::example(&all[..2]), store::fuzz::example(&[]), with_snapshot]
}

/// Questions, and an answer.
pub(crate) fn dns() -> Vec<Vec<u8>> {
    let question = |name: &str, kind| {
        let name = dns::name::Name::from_text(name).expect("it is a name");
        dns::message::Query::new(7, &name, kind, false, false)
    };
    let questions = [
        question("web.default.svc.cluster.local", 1),
        question("10-244-1-5.default.pod.cluster.local", 255),
        question("1.0.96.10.in-addr.arpa", 12),
        question("_http._tcp.web.default.svc.cluster.local", 33),
    ];
    let ip = dns::message::Data::Ip([10, 0, 0, 1].into());
    let record = dns::message::Record { name: questions[0].name.clone(), ttl: 5, data: ip };
    let reply = dns::message::Reply { answers: vec![record; 3], ..dns::message::Reply::default() };
    let mut answer = reply.write(&questions[0], 512);
    answer[2] &= 0x7f;
    questions.iter().map(dns::message::Query::write).chain([answer]).collect()
}
