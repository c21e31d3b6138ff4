//! Rules, defaults and rows of the networking kinds.

use jiff::Timestamp;
use proto_kube::field::Errors;
use proto_kube::resource;
use serde_json::{Value, json};

use crate::Kind;

fn kind(plural: &str) -> &'static dyn Kind {
    crate::of(resource::find("networking.k8s.io", "v1", plural).unwrap())
}

fn texts(errors: Errors) -> Vec<String> {
    errors.iter().map(ToString::to_string).collect()
}

fn faults(plural: &str, spec: Value) -> Vec<String> {
    let mut object = json!({"metadata": {"name": "a"}, "spec": spec});
    kind(plural).default(&mut object);
    texts(kind(plural).validate(&object))
}

fn row(plural: &str, object: Value) -> Value {
    let cells = kind(plural).cells(&object, Timestamp::UNIX_EPOCH);
    assert_eq!(cells.len(), kind(plural).columns().len());
    cells.into()
}

fn path(change: Value) -> Value {
    let backend = json!({"service": {"name": "web", "port": {"number": 80}}});
    let mut path = json!({"path": "/", "pathType": "Prefix", "backend": backend});
    for (key, value) in change.as_object().into_iter().flatten() {
        path[key] = value.clone();
    }
    json!({"rules": [{"host": "a.example", "http": {"paths": [path]}}]})
}

#[test]
fn ingresses() {
    assert_eq!(faults("ingresses", path(json!({}))), Vec::<String>::new());
    assert_eq!(
        faults("ingresses", json!({})),
        ["spec: Invalid value: null: either `defaultBackend` or `rules` must be specified"]
    );
    let at = "spec.rules[0].http.paths[0]";
    for (change, expected) in [
        (json!({"pathType": null}), "pathType: Required value: pathType must be specified"),
        (
            json!({"pathType": "Regex"}),
            "pathType: Unsupported value: \"Regex\": supported values: \"Exact\", \"ImplementationSpecific\", \"Prefix\"",
        ),
        (json!({"path": "a"}), "path: Invalid value: \"a\": must be an absolute path"),
        (json!({"path": "/a//b"}), "path: Invalid value: \"/a//b\": must not contain '//'"),
        (json!({"path": "/a/.."}), "path: Invalid value: \"/a/..\": cannot end with '/..'"),
        (json!({"backend": {}}), "backend: Invalid value: \"\": resource or service backend is required"),
        (
            json!({"backend": {"service": {"name": "web", "port": {}}}}),
            "backend: Required value: port name or number is required",
        ),
        (
            json!({"backend": {"service": {"name": "web", "port": {"name": "a", "number": 1}}}}),
            "backend: Invalid value: \"\": cannot set both port name & port number",
        ),
        (
            json!({"backend": {"service": {"name": "web", "port": {"number": 65536}}}}),
            "backend.service.port.number: Invalid value: 65536: must be between 1 and 65535, inclusive",
        ),
        (
            json!({"backend": {"resource": {"kind": "", "name": "a"}}}),
            "backend.resource.kind: Required value",
        ),
    ] {
        assert_eq!(faults("ingresses", path(change)), [format!("{at}.{expected}")]);
    }
    for (host, expected) in [
        ("*.example", ""),
        (
            "10.0.0.1",
            "spec.rules[0].host: Invalid value: \"10.0.0.1\": must be a DNS name, not an IP address",
        ),
        (
            "a.*.b",
            "spec.rules[0].host: Invalid value: \"a.*.b\": a wildcard DNS-1123 subdomain must start with '*.'",
        ),
    ] {
        let found = faults("ingresses", json!({"rules": [{"host": host}]}));
        assert!(
            found.concat().starts_with(expected) && found.len() == usize::from(!expected.is_empty()),
            "{found:?}"
        );
    }
    let tls = faults(
        "ingresses",
        json!({"defaultBackend": {"service": {"name": "a", "port": {"name": "b"}}}, "tls": [{"hosts": ["A"], "secretName": "B"}]}),
    );
    assert!(
        tls[0].starts_with("spec.tls[0].hosts[0]: Invalid value: \"A\"")
            && tls[1].starts_with("spec.tls[0].secretName"),
        "{tls:?}"
    );
}

#[test]
fn classes_of_ingresses() {
    let object = json!({"metadata": {"name": "a", "annotations": {"kubernetes.io/ingress.class": "x"}}, "spec": {"defaultBackend": {"service": {"name": "a", "port": {"number": 1}}}}});
    let warning = [
        "annotation \"kubernetes.io/ingress.class\" is deprecated, please use 'spec.ingressClassName' instead",
    ];
    assert_eq!(kind("ingresses").warnings(&object, None), warning);
    let mut both = object;
    both["spec"]["ingressClassName"] = "y".into();
    assert_eq!(
        texts(kind("ingresses").validate(&both)),
        [
            "annotations.kubernetes.io/ingress.class: Invalid value: \"x\": must match `ingressClassName` when both are specified"
        ]
    );
    assert_eq!(kind("ingresses").warnings(&both, None), Vec::<String>::new());
    assert_eq!(faults("ingressclasses", json!({"controller": "a.b/c"})), Vec::<String>::new());
    assert_eq!(
        faults(
            "ingressclasses",
            json!({"controller": "a", "parameters": {"kind": "A", "name": "b", "namespace": "c"}})
        ),
        [
            "spec.controller: Invalid value: \"a\": must be a domain-prefixed path (such as \"acme.io/foo\")",
            "spec.parameters.namespace: Forbidden: `parameters.scope` is set to 'Cluster'",
        ]
    );
    let class = |controller: &str| json!({"spec": {"controller": controller}});
    assert_eq!(
        texts(kind("ingressclasses").validate_update(&class("a.b/d"), &class("a.b/c"))),
        ["spec.controller: Invalid value: \"a.b/d\": field is immutable"]
    );
}

#[test]
fn network_policies() {
    let mut object = json!({"spec": {"egress": [{"ports": [{"port": 53}]}]}});
    kind("networkpolicies").default(&mut object);
    assert_eq!(
        object["spec"],
        json!({"podSelector": {}, "policyTypes": ["Ingress", "Egress"], "egress": [{"ports": [{"port": 53, "protocol": "TCP"}]}]})
    );
    let ingress = |rule: Value| faults("networkpolicies", json!({"ingress": [rule]}));
    for (rule, expected) in [
        (json!({"from": [{"podSelector": {}}], "ports": [{"port": "http"}]}), ""),
        (json!({"from": [{}]}), "from[0]: Required value: must specify a peer"),
        (
            json!({"from": [{"podSelector": {}, "ipBlock": {"cidr": "10.0.0.0/8"}}]}),
            "from[0]: Forbidden: may not specify both ipBlock and another peer",
        ),
        (json!({"from": [{"ipBlock": {"cidr": ""}}]}), "from[0].ipBlock.cidr: Required value"),
        (
            json!({"from": [{"ipBlock": {"cidr": "10.0.0.1/8"}}]}),
            "from[0].ipBlock.cidr: Invalid value: \"10.0.0.1/8\": must not have bits set beyond the prefix length",
        ),
        (
            json!({"from": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.0.0.0/8"]}}]}),
            "from[0].ipBlock.except[0]: Invalid value: \"10.0.0.0/8\": must be a strict subset of `cidr`",
        ),
        (
            json!({"ports": [{"port": 80, "endPort": 79}]}),
            "ports[0].endPort: Invalid value: 80: must be greater than or equal to `port`",
        ),
        (
            json!({"ports": [{"endPort": 79}]}),
            "ports[0].endPort: Invalid value: 79: may not be specified when `port` is not specified",
        ),
        (
            json!({"ports": [{"protocol": "x"}]}),
            "ports[0].protocol: Unsupported value: \"x\": supported values: \"TCP\", \"UDP\", \"SCTP\"",
        ),
    ] {
        let expected = if expected.is_empty() { vec![] } else { vec![format!("spec.ingress[0].{expected}")] };
        assert_eq!(ingress(rule), expected);
    }
    // What was let in once may stay.
    let old = json!({"spec": {"ingress": [{"from": [{"ipBlock": {"cidr": "10.0.0.1/8"}}]}]}});
    assert_eq!(texts(kind("networkpolicies").validate_update(&old, &old)), Vec::<String>::new());
    assert_eq!(kind("networkpolicies").warnings(&old, None).len(), 1);
}

#[test]
fn addresses_and_networks() {
    let parent = json!({"group": "", "resource": "services", "namespace": "ns", "name": "a"});
    assert_eq!(faults("ipaddresses", json!({"parentRef": parent})), Vec::<String>::new());
    assert_eq!(faults("ipaddresses", json!({})), ["spec.parentRef: Required value"]);
    assert_eq!(kind("ipaddresses").name("010.0.0.1", false), ["must not have leading 0s"]);
    for (cidrs, expected) in [
        (json!(["10.0.0.0/16", "2001:db8::/64"]), ""),
        (json!([]), "spec.cidrs: Required value: at least one CIDR required"),
        (
            json!(["10.0.0.0/16", "10.1.0.0/16"]),
            "spec.cidrs: Invalid value: [\"10.0.0.0/16\",\"10.1.0.0/16\"]: may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64",
        ),
        (
            json!(["2001:DB8::/64"]),
            "spec.cidrs[0]: Invalid value: \"2001:DB8::/64\": must be in canonical form (\"2001:db8::/64\")",
        ),
    ] {
        assert_eq!(faults("servicecidrs", json!({"cidrs": cidrs})).concat(), expected);
    }
    let of = |cidrs: Value| json!({"spec": {"cidrs": cidrs}});
    let update = |new, old| texts(kind("servicecidrs").validate_update(&of(new), &of(old)));
    assert_eq!(update(json!(["10.0.0.0/16", "2001:db8::/64"]), json!(["10.0.0.0/16"])), Vec::<String>::new());
    assert_eq!(
        update(json!(["10.1.0.0/16"]), json!(["10.0.0.0/16"])),
        ["spec.cidrs[0]: Invalid value: \"10.1.0.0/16\": field is immutable"]
    );
}

#[test]
fn rows() {
    let rules: Vec<Value> = ["a", "b", "c", "d"].iter().map(|host| json!({"host": host})).collect();
    let status =
        json!({"loadBalancer": {"ingress": [{"ip": "10.0.0.2"}, {"hostname": "x"}, {"ip": "10.0.0.1"}]}});
    assert_eq!(
        row(
            "ingresses",
            json!({"metadata": {"name": "i"}, "spec": {"ingressClassName": "n", "rules": rules, "tls": [{}]}, "status": status})
        ),
        json!(["i", "n", "a,b,c + 1 more...", "10.0.0.1,10.0.0.2,x", "80, 443", "<unknown>"])
    );
    assert_eq!(
        row("ingresses", json!({"metadata": {"name": "i"}})),
        json!(["i", "<none>", "*", "", "80", "<unknown>"])
    );
    let class = json!({"metadata": {"name": "n", "annotations": {"ingressclass.kubernetes.io/is-default-class": "true"}},
        "spec": {"controller": "c", "parameters": {"apiGroup": "g", "kind": "K", "name": "p"}}});
    assert_eq!(row("ingressclasses", class), json!(["n (default)", "c", "K.g/p", "<unknown>"]));
    let policy = json!({"metadata": {"name": "p"}, "spec": {"podSelector": {"matchLabels": {"a": "b"}}}});
    assert_eq!(row("networkpolicies", policy), json!(["p", "a=b", "<unknown>"]));
    let parent = json!({"resource": "services", "namespace": "ns", "name": "a"});
    let address = json!({"metadata": {"name": "10.0.0.1"}, "spec": {"parentRef": parent}});
    assert_eq!(row("ipaddresses", address), json!(["10.0.0.1", "services/ns/a"]));
    let networks = json!({"metadata": {"name": "s"}, "spec": {"cidrs": ["10.0.0.0/16", "2001:db8::/64"]}});
    assert_eq!(row("servicecidrs", networks), json!(["s", "10.0.0.0/16,2001:db8::/64", "<unknown>"]));
}
