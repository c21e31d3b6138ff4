//! The program's answers where nothing is to be done to the kernel.

use serde_json::json;

use super::*;

type Env<'a> = &'a [(&'a str, &'a str)];

fn call(program: &str, env: Env<'_>, stdin: &str) -> Result<Option<Value>, Failure> {
    let env = |name: &str| env.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
    answer(program, &env, stdin.as_bytes())
}

const ADD: Env<'_> = &[
    ("CNI_COMMAND", "ADD"),
    ("CNI_CONTAINERID", "pod"),
    ("CNI_NETNS", "/proc/self/ns/net"),
    ("CNI_IFNAME", "eth0"),
];

fn with<'a>(key: &'a str, value: &'a str) -> Vec<(&'a str, &'a str)> {
    ADD.iter().map(|(k, v)| (*k, if *k == key { value } else { v })).collect()
}

#[test]
fn version_is_every_version() {
    let answer = call("bridge", &[("CNI_COMMAND", "VERSION")], r#"{"cniVersion":"0.4.0"}"#).unwrap().unwrap();
    assert_eq!(answer["cniVersion"], "0.4.0");
    assert_eq!(answer["supportedVersions"].as_array().unwrap().len(), 7);
}

#[test]
fn refusals_have_the_specifications_codes() {
    let conf = r#"{"cniVersion":"1.1.0","name":"net","type":"static"}"#;
    type Case<'a> = (Vec<(&'a str, &'a str)>, &'a str, u32, &'a str);
    let cases: [Case<'_>; 11] = [
        (with("CNI_COMMAND", "FLY"), conf, 4, "CNI_COMMAND"),
        (with("CNI_CONTAINERID", ""), conf, 4, "CNI_CONTAINERID"),
        (with("CNI_CONTAINERID", "../x"), conf, 4, "CNI_CONTAINERID"),
        (with("CNI_NETNS", ""), conf, 4, "CNI_NETNS"),
        (with("CNI_IFNAME", ""), conf, 4, "CNI_IFNAME"),
        (with("CNI_IFNAME", "a/b"), conf, 4, "CNI_IFNAME"),
        (with("", ""), "{", 6, "malformed"),
        (with("", ""), r#"{"cniVersion":"8.0.0","name":"net"}"#, 1, "cniVersion"),
        (with("", ""), r#"{"cniVersion":"1.0.0","name":"../net"}"#, 7, "name"),
        (with("", ""), r#"{"cniVersion":"1.0.0","name":"net","type":"quantum"}"#, 7, "quantum"),
        (with("", ""), r#"{"cniVersion":"1.0.0","name":"net","type":"bridge","mtu":true}"#, 6, "mtu"),
    ];
    for (env, conf, code, text) in cases {
        let failure = call("cleat-cni", &env, conf).unwrap_err();
        assert_eq!(failure.code(), code, "{conf}: {failure}");
        let json = failure.to_json(Version::V1_0_0);
        assert!(json["msg"].as_str().unwrap().contains(text), "{json}");
        assert_eq!((&json["code"], &json["cniVersion"]), (&json!(code), &json!("1.0.0")));
    }
}

#[test]
fn name_or_type_decides() {
    let conf = r#"{"cniVersion":"1.0.0","name":"net","type":"static",
                   "ipam":{"addresses":[{"address":"10.0.0.5/24","gateway":"10.0.0.1"}]}}"#;
    for program in ["static", "cleat-cni"] {
        let result = call(program, ADD, conf).unwrap().unwrap();
        assert_eq!(result["ips"], json!([{ "address": "10.0.0.5/24", "gateway": "10.0.0.1" }]));
    }
    let env = [ADD, &[("CNI_ARGS", "IP=10.9.0.7/16;GATEWAY=10.9.0.1")]].concat();
    let result = call("static", &env, conf).unwrap().unwrap();
    assert_eq!(result["ips"], json!([{ "address": "10.9.0.7/16", "gateway": "10.9.0.1" }]));
}

#[test]
fn port_mappings_are_planned_or_refused() {
    use crate::nat::{Listen, Proto};
    let pods = ["10.1.0.5/24".parse().unwrap(), "fd00::5/64".parse().unwrap()];
    let plan = |value: Value| portmap::plan(&serde_json::from_value::<Vec<_>>(value).unwrap(), &pods, true);
    let mapping = |protocol: &str, ip: &str| json!([{ "hostPort": 80, "containerPort": 8080, "protocol": protocol, "hostIP": ip }]);
    assert_eq!(plan(mapping("TCP", "")).unwrap().len(), 2);
    assert_eq!(plan(mapping("udp", "::")).unwrap()[0].proto, Proto::Udp);
    let one = plan(mapping("sctp", "192.0.2.1")).unwrap();
    assert_eq!((one.len(), one[0].listen), (1, Listen::On("192.0.2.1".parse().unwrap())));
    assert!(plan(json!([{ "hostPort": 0, "containerPort": 80 }])).unwrap().is_empty());
    for (value, field) in [
        (mapping("icmp", ""), "portMappings[0].protocol"),
        (mapping("tcp", "here"), "portMappings[0].hostIP"),
        (json!([{ "hostPort": 1, "containerPort": 0 }]), "portMappings[0].containerPort"),
    ] {
        assert!(plan(value).unwrap_err().to_string().contains(field));
    }
    let conf =
        r#"{"cniVersion":"1.0.0","name":"net","type":"portmap","externalSetMarkChain":"KUBE-MARK-MASQ"}"#;
    assert_eq!(call("portmap", ADD, conf).unwrap_err().code(), 2);
    let conf = r#"{"cniVersion":"1.0.0","name":"net","type":"portmap"}"#;
    assert!(call("portmap", ADD, conf).unwrap_err().to_string().contains("prevResult"));
}
