//! Address management: tables, and the law that no address is given twice.

use std::collections::BTreeMap;
use std::path::Path;

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::request::Command;

fn request(dir: &Path, command: &str, container: &str, ipam: &Value, extra: &Value) -> Request {
    let mut conf = json!({ "cniVersion": "1.1.0", "name": "net", "type": "host-local", "ipam": ipam });
    conf["ipam"]["dataDir"] = json!(dir);
    for (key, value) in extra.as_object().into_iter().flatten() {
        conf[key] = value.clone();
    }
    let env = BTreeMap::from([
        ("CNI_COMMAND", command),
        ("CNI_CONTAINERID", container),
        ("CNI_NETNS", "/proc/self/ns/net"),
        ("CNI_IFNAME", "eth0"),
    ]);
    let env = |name: &str| env.get(name).map(|v| v.to_string());
    Request::new(Command::from_env(&env).unwrap(), &env, conf.to_string().as_bytes()).unwrap()
}

fn add(dir: &Path, container: &str, ipam: &Value, extra: &Value) -> Result<Vec<String>, Failure> {
    let request = request(dir, "ADD", container, ipam, extra);
    let result = HostLocal::new(&request)?.add()?;
    Ok(result.ips.iter().map(|ip| ip.address.to_string()).collect())
}

fn del(dir: &Path, container: &str) {
    let request = request(dir, "DEL", container, &json!({}), &Value::Null);
    HostLocal::new(&request).unwrap().del().unwrap();
}

#[test]
fn gives_round_robin_in_both_families() {
    let dir = tempfile::tempdir().unwrap();
    let ipam = json!({ "ranges": [[{ "subnet": "10.1.0.0/29" }], [{ "subnet": "fd00::/64" }]] });
    assert_eq!(add(dir.path(), "a", &ipam, &Value::Null).unwrap(), ["10.1.0.2/29", "fd00::2/64"]);
    assert_eq!(add(dir.path(), "b", &ipam, &Value::Null).unwrap(), ["10.1.0.3/29", "fd00::3/64"]);
    del(dir.path(), "a");
    assert_eq!(add(dir.path(), "c", &ipam, &Value::Null).unwrap(), ["10.1.0.4/29", "fd00::4/64"]);
    // the same attachment again: the same addresses
    assert_eq!(add(dir.path(), "c", &ipam, &Value::Null).unwrap(), ["10.1.0.4/29", "fd00::4/64"]);
    for (name, ip) in [("d", "10.1.0.5/29"), ("e", "10.1.0.6/29"), ("f", "10.1.0.2/29")] {
        assert_eq!(add(dir.path(), name, &ipam, &Value::Null).unwrap()[0], ip);
    }
    let full = add(dir.path(), "g", &ipam, &Value::Null).unwrap_err();
    assert!(full.to_string().contains("10.1.0.0/29"), "{full}");
    assert_eq!(full.code(), 11);
    // the family that had room is given back
    let request = request(dir.path(), "CHECK", "g", &ipam, &Value::Null);
    assert!(HostLocal::new(&request).unwrap().check().is_err());
}

#[test]
fn files_are_upstreams() {
    let dir = tempfile::tempdir().unwrap();
    let ipam = json!({ "subnet": "10.1.0.0/24", "rangeStart": "10.1.0.50", "gateway": "10.1.0.254" });
    assert_eq!(add(dir.path(), "a", &ipam, &Value::Null).unwrap(), ["10.1.0.50/24"]);
    let read = |name: &str| std::fs::read_to_string(dir.path().join("net").join(name)).unwrap();
    assert_eq!((read("10.1.0.50").as_str(), read("last_reserved_ip.0").as_str()), ("a\r\neth0", "10.1.0.50"));
    assert!(dir.path().join("net/lock").is_file());
    // a very old file, without the interface's name
    std::fs::write(dir.path().join("net/10.1.0.51"), "old").unwrap();
    del(dir.path(), "old");
    assert!(!dir.path().join("net/10.1.0.51").exists());
}

#[test]
fn wishes_are_kept_or_refused() {
    let ipam = json!({ "ranges": [[{ "subnet": "10.1.0.0/24" }]] });
    let cases = [
        (json!({ "runtimeConfig": { "ips": ["10.1.0.9/24"] } }), Ok("10.1.0.9/24")),
        (json!({ "args": { "cni": { "ips": ["10.1.0.9"] } } }), Ok("10.1.0.9/24")),
        (json!({ "runtimeConfig": { "ips": ["10.2.0.9"] } }), Err("in no range")),
        (json!({ "runtimeConfig": { "ips": ["10.1.0.1"] } }), Err("gateway")),
        (json!({ "runtimeConfig": { "ips": ["ten"] } }), Err("no address")),
        (json!({ "runtimeConfig": { "ipRanges": [[{ "subnet": "10.3.0.0/24" }]] } }), Ok("10.3.0.2/24")),
    ];
    for (extra, expected) in cases {
        let dir = tempfile::tempdir().unwrap();
        match (add(dir.path(), "a", &ipam, &extra), expected) {
            (Ok(ips), Ok(ip)) => assert_eq!(ips[0], ip),
            (Err(error), Err(text)) => {
                assert!(error.to_string().contains(text), "{error}");
                assert!(!dir.path().join("net/10.1.0.2").exists(), "{extra}");
            }
            (other, _) => panic!("{extra}: {other:?}"),
        }
    }
}

#[test]
fn wrong_ranges_are_named() {
    let cases = [
        (json!({}), "missing or empty"),
        (json!({ "subnet": "10.1.0.5/24" }), "10.1.0.0/24 meant"),
        (json!({ "subnet": "10.1.0.0/31" }), "too small"),
        (json!({ "subnet": "10.1.0.0/24", "rangeEnd": "10.2.0.1" }), "rangeEnd 10.2.0.1 is not in"),
        (
            json!({ "subnet": "10.1.0.0/24", "rangeStart": "10.1.0.9", "rangeEnd": "10.1.0.8" }),
            "after rangeEnd",
        ),
        (json!({ "ranges": [[{ "subnet": "10.1.0.0/24" }], [{ "subnet": "10.1.0.0/16" }]] }), "overlapping"),
        (json!({ "ranges": [[{ "subnet": "10.1.0.0/24" }, { "subnet": "fd00::/64" }]] }), "mixes"),
    ];
    for (ipam, text) in cases {
        let dir = tempfile::tempdir().unwrap();
        let error = add(dir.path(), "a", &ipam, &Value::Null).unwrap_err();
        assert!(error.to_string().contains(text), "{error}");
        assert_eq!(error.code(), 7);
    }
}

#[test]
fn gc_keeps_the_valid_only() {
    let dir = tempfile::tempdir().unwrap();
    let ipam = json!({ "subnet": "10.1.0.0/24" });
    for container in ["a", "b"] {
        add(dir.path(), container, &ipam, &Value::Null).unwrap();
    }
    std::fs::write(dir.path().join("net/10.1.0.77"), "").unwrap();
    let valid = json!({ "cni.dev/valid-attachments": [{ "containerID": "b", "ifname": "eth0" }] });
    let request = request(dir.path(), "GC", "", &ipam, &valid);
    HostLocal::new(&request).unwrap().gc().unwrap();
    let left: BTreeSet<String> = std::fs::read_dir(dir.path().join("net"))
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with("10."))
        .collect();
    assert_eq!(left, BTreeSet::from(["10.1.0.3".to_owned()]));
}

proptest! {
    /// Whatever is asked for and given back: no address has two owners, none is a gateway's, all are in range.
    #[test]
    fn no_address_is_given_twice(steps in prop::collection::vec((0u8..30, any::<bool>()), 1..120)) {
        let sets = complete_pair();
        let mut taken: BTreeMap<IpAddr, u8> = BTreeMap::new();
        let mut last = None;
        for (container, come) in steps {
            taken.retain(|_, owner| come || *owner != container);
            if !come || taken.values().any(|owner| *owner == container) {
                continue;
            }
            match choose(&sets, None, last, |ip| taken.contains_key(&ip)) {
                Ok(ip) => {
                    prop_assert!(sets.range_of(ip).is_some());
                    prop_assert!(!["10.1.0.1", "10.2.0.6"].contains(&ip.to_string().as_str()));
                    prop_assert!(taken.insert(ip, container).is_none());
                    last = Some(ip);
                }
                // 5 of the /29 and 4 of the range in the /28
                Err(_) => prop_assert_eq!(taken.len(), 9),
            }
        }
    }
}

fn complete_pair() -> range::Complete {
    let range = |value| serde_json::from_value::<Range>(value).unwrap();
    let set = vec![
        range(json!({ "subnet": "10.1.0.0/29" })),
        range(
            json!({ "subnet": "10.2.0.0/28", "rangeStart": "10.2.0.3", "rangeEnd": "10.2.0.7", "gateway": "10.2.0.6" }),
        ),
    ];
    range::complete(&[set]).unwrap().remove(0)
}

#[test]
fn reads_resolv_conf() {
    let dns = resolv_conf(
        "# x\nnameserver 10.0.0.1\nsearch a b\ndomain c\noptions ndots:5 edns0\nnameserver ::1\n",
    );
    assert_eq!(dns.nameservers, ["10.0.0.1", "::1"]);
    assert_eq!((dns.search.len(), dns.domain.as_str(), dns.options.len()), (2, "c", 2));
}
