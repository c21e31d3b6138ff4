//! Chains of plugins that are small shell programs: each notes how it was called, and answers as it is told.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use proto_node::cni::PortMapping;
use serde_json::json;

use super::*;

struct Node {
    dir: tempfile::TempDir,
}

/// Notes `<name> <command>`, keeps its standard input, and answers with its `answer.<command>` file or, on `ADD`,
/// its previous result.
const PLUGIN: &str = r#"#!/bin/sh
name=$(basename "$0"); dir=$(dirname "$0")/..
cat > "$dir/$name.$CNI_COMMAND.json"
echo "$name $CNI_COMMAND $CNI_CONTAINERID $CNI_IFNAME $CNI_ARGS" >> "$dir/log"
if [ -e "$dir/$name.$CNI_COMMAND.sleep" ]; then sleep 60; fi
if [ -e "$dir/$name.$CNI_COMMAND.fail" ]; then cat "$dir/$name.$CNI_COMMAND.fail"; echo noise >&2; exit 1; fi
[ "$CNI_COMMAND" != ADD ] || cat "$dir/result"
"#;

impl Node {
    fn new(version: &str) -> Node {
        let node = Node { dir: tempfile::tempdir().unwrap() };
        for dir in ["bin", "net.d"] {
            fs::create_dir(node.path(dir)).unwrap();
        }
        for name in ["one", "two", "three"] {
            fs::write(node.path(&format!("bin/{name}")), PLUGIN).unwrap();
            fs::set_permissions(node.path(&format!("bin/{name}")), fs::Permissions::from_mode(0o755))
                .unwrap();
        }
        node.conf(json!({
            "cniVersion": version, "name": "net",
            "plugins": [{ "type": "one" }, { "type": "two", "capabilities": { "portMappings": true, "mac": false } },
                        { "type": "three" }],
        }));
        let result = json!({ "cniVersion": version, "ips": [{ "version": "4", "address": "10.0.0.2/24" }] });
        fs::write(node.path("result"), result.to_string()).unwrap();
        node
    }

    fn conf(&self, conf: Value) {
        fs::write(self.path("net.d/10.conflist"), conf.to_string()).unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn networks(&self) -> Networks {
        let plugins = vec![self.path("nowhere"), self.path("bin")];
        Networks::new(Dirs { conf: self.path("net.d"), plugins, cache: self.path("cache") })
    }

    fn stdin(&self, name: &str) -> Value {
        serde_json::from_slice(&fs::read(self.path(&format!("{name}.json"))).unwrap()).unwrap()
    }

    /// Who was called since the last look.
    fn log(&self) -> Vec<String> {
        let log = fs::read_to_string(self.path("log")).unwrap_or_default();
        let _ = fs::remove_file(self.path("log"));
        log.lines().map(|l| l.split(' ').take(2).collect::<Vec<_>>().join(" ")).collect()
    }

    fn cached(&self) -> usize {
        fs::read_dir(self.path("cache/results")).map_or(0, Iterator::count)
    }
}

fn attachment(id: &str, netns: &Path) -> Attachment {
    let mapping =
        PortMapping { host_port: 1, container_port: 2, protocol: "tcp".into(), host_ip: String::new() };
    Attachment {
        container_id: id.into(),
        netns: netns.to_owned(),
        ifname: "eth0".into(),
        args: vec![("IgnoreUnknown".into(), "1".into()), ("K8S_POD_NAME".into(), "web".into())],
        capabilities: Capabilities {
            port_mappings: vec![mapping],
            mac: "02::".into(),
            ..Capabilities::default()
        },
    }
}

/// A pod's namespace; the path is good as long as the descriptor is open.
fn pod(id: &str) -> (std::os::fd::OwnedFd, Attachment) {
    use std::os::fd::AsRawFd;
    let netns = netlink::netns::create().unwrap();
    let path = format!("/proc/self/fd/{}", netns.as_raw_fd());
    (netns, attachment(id, Path::new(&path)))
}

#[test]
fn forward_and_back() {
    let node = Node::new("1.1.0");
    let (_netns, pod) = pod("a");
    let result = node.networks().add(&pod).unwrap();
    assert_eq!(result.ips[0].address.to_string(), "10.0.0.2/24");
    let log = fs::read_to_string(node.path("log")).unwrap();
    assert!(log.starts_with("one ADD a eth0 IgnoreUnknown=1;K8S_POD_NAME=web\n"), "{log}");
    assert_eq!(node.log(), ["one ADD", "two ADD", "three ADD"]);
    assert!(node.stdin("one.ADD").get("prevResult").is_none());
    assert_eq!(node.stdin("two.ADD")["prevResult"]["ips"][0]["address"], "10.0.0.2/24");
    let mappings = json!([{ "hostPort": 1, "containerPort": 2, "protocol": "tcp" }]);
    assert_eq!(node.stdin("two.ADD")["runtimeConfig"], json!({ "portMappings": mappings }));
    assert!(node.stdin("three.ADD").get("runtimeConfig").is_none());
    assert_eq!(node.stdin("three.ADD")["name"], "net");

    node.networks().check(&pod).unwrap();
    assert_eq!(node.log(), ["one CHECK", "two CHECK", "three CHECK"]);
    // DEL knows how ADD was asked, though the network in force is another by now
    node.conf(json!({ "cniVersion": "1.1.0", "name": "other", "plugins": [{ "type": "two" }] }));
    node.networks().del(&Attachment { capabilities: Capabilities::default(), ..pod.clone() }).unwrap();
    assert_eq!(node.log(), ["three DEL", "two DEL", "one DEL"]);
    assert_eq!(node.stdin("two.DEL")["runtimeConfig"]["portMappings"], mappings);
    assert_eq!(node.stdin("three.DEL")["prevResult"]["ips"][0]["address"], "10.0.0.2/24");
    assert_eq!(node.cached(), 0);
    assert!(matches!(node.networks().check(&pod), Err(NetworkError::NotAttached { .. })));
}

#[test]
fn cache_is_libcnis() {
    let node = Node::new("1.0.0");
    let (_netns, pod) = pod("a");
    node.networks().add(&pod).unwrap();
    let entry: Value =
        serde_json::from_slice(&fs::read(node.path("cache/results/net-a-eth0")).unwrap()).unwrap();
    for (key, value) in
        [("kind", "cniCacheV1"), ("containerId", "a"), ("ifName", "eth0"), ("networkName", "net")]
    {
        assert_eq!(entry[key], value);
    }
    assert_eq!(entry["cniArgs"][1], json!(["K8S_POD_NAME", "web"]));
    assert_eq!(entry["capabilityArgs"]["portMappings"][0]["hostPort"], 1);
    assert_eq!(entry["result"]["cniVersion"], "1.0.0");
}

#[test]
fn a_failed_add_is_undone() {
    let node = Node::new("1.1.0");
    let error = json!({ "cniVersion": "1.1.0", "code": 11, "msg": "no address", "details": "all taken" });
    fs::write(node.path("two.ADD.fail"), error.to_string()).unwrap();
    let (_netns, pod) = pod("a");
    let failed = node.networks().add(&pod).unwrap_err();
    assert_eq!(
        text(&failed),
        "network \"net\": CNI plugin two refused ADD: no address: all taken (CNI error code 11)"
    );
    let NetworkError::Plugin { source, .. } = &failed else { panic!("{failed:?}") };
    assert!(source.is_passing());
    assert_eq!(node.log(), ["one ADD", "two ADD", "three DEL", "two DEL", "one DEL"]);
    assert_eq!(node.cached(), 0);

    // and where undoing fails too, both are told, and DEL can be tried again
    fs::write(node.path("one.DEL.fail"), "gibberish").unwrap();
    let failed = text(&node.networks().add(&pod).unwrap_err());
    assert!(failed.contains("no address") && failed.contains("gibberish; noise"), "{failed}");
    assert_eq!(node.cached(), 1);
    fs::remove_file(node.path("one.DEL.fail")).unwrap();
    node.log();
    // undoing ends at the first failure, as DEL does
    fs::write(node.path("three.DEL.fail"), "").unwrap();
    node.networks().add(&pod).unwrap_err();
    assert_eq!((node.log().join(", "), node.cached()), ("one ADD, two ADD, three DEL".into(), 1));
    fs::remove_file(node.path("three.DEL.fail")).unwrap();
    node.networks().del(&attachment("a", Path::new(""))).unwrap();
    assert_eq!((node.log().len(), node.cached()), (3, 0));
}

#[test]
fn del_ends_at_the_first_failure_and_goes_on_later() {
    let node = Node::new("1.1.0");
    let (_netns, pod) = pod("a");
    node.networks().add(&pod).unwrap();
    node.log();
    fs::write(node.path("two.DEL.fail"), "").unwrap();
    for _ in 0..2 {
        let failed = text(&node.networks().del(&pod).unwrap_err());
        assert!(failed.contains("CNI plugin two"), "{failed}");
        assert_eq!(node.log(), ["three DEL", "two DEL"]);
        assert_eq!(node.cached(), 1);
    }
    // GC ends there too, and what the attachment still has is not for the plugins to take
    assert!(node.networks().gc(&[]).is_err());
    assert_eq!(node.log(), ["three DEL", "two DEL", "one GC", "two GC", "three GC"]);
    let kept = json!([{ "containerID": "a", "ifname": "eth0" }]);
    assert_eq!(node.stdin("one.GC")["cni.dev/valid-attachments"], kept);
    fs::remove_file(node.path("two.DEL.fail")).unwrap();
    node.networks().del(&pod).unwrap();
    assert_eq!(node.log(), ["three DEL", "two DEL", "one DEL"]);
    assert_eq!(node.cached(), 0);
}

#[test]
fn gc_undoes_the_stale() {
    let node = Node::new("1.1.0");
    let ((_a, a), (_b, b)) = (pod("a"), pod("b"));
    node.networks().add(&a).unwrap();
    node.networks().add(&b).unwrap();
    node.log();
    let valid = [GcAttachment { container_id: "b".into(), ifname: "eth0".into() }];
    node.networks().gc(&valid).unwrap();
    assert_eq!(node.log(), ["three DEL", "two DEL", "one DEL", "one GC", "two GC", "three GC"]);
    for key in ["cni.dev/valid-attachments", "cni.dev/attachments"] {
        assert_eq!(node.stdin("one.GC")[key], json!([{ "containerID": "b", "ifname": "eth0" }]));
    }
    assert_eq!(node.cached(), 1);
}

#[test]
fn old_versions_have_no_check_gc_or_status() {
    let node = Node::new("0.3.1");
    let (_netns, pod) = pod("a");
    node.networks().add(&pod).unwrap();
    node.log();
    assert!(matches!(node.networks().check(&pod), Err(NetworkError::Version { command: "CHECK", .. })));
    node.networks().gc(&[GcAttachment { container_id: "a".into(), ifname: "eth0".into() }]).unwrap();
    node.networks().status().unwrap();
    assert!(node.log().is_empty());
    node.networks().del(&pod).unwrap();
    assert!(node.stdin("one.DEL").get("prevResult").is_none());
}

#[test]
fn a_plugin_that_hangs_is_killed() {
    let node = Node::new("1.1.0");
    fs::write(node.path("two.ADD.sleep"), "").unwrap();
    let (_netns, pod) = pod("a");
    let networks = node.networks().with_limit(Duration::from_millis(500));
    let error = text(&networks.add(&pod).unwrap_err());
    assert!(error.contains("did not finish ADD within 0.5 s"), "{error}");
}

/// A runtime is killed while a plugin runs: the next one's DEL waits for it instead of running beside it.
#[test]
fn del_waits_for_an_orphaned_add() {
    let node = Node::new("1.1.0");
    let (_netns, pod) = pod("a");
    node.networks().add(&pod).unwrap();
    node.log();
    let turn = Turn::take(&node.path("cache/turns"), pod.clone(), Duration::ZERO).unwrap();
    let mut orphan =
        std::process::Command::new("sleep").arg("60").stdin(turn.file().try_clone().unwrap()).spawn();
    let orphan = orphan.as_mut().unwrap();
    drop(turn);
    let impatient = node.networks().with_limit(Duration::from_millis(50));
    let error = text(&impatient.del(&pod).unwrap_err());
    assert!(error.contains("a plugin of an earlier call is still running"), "{error}");
    assert!(node.log().is_empty());
    std::thread::scope(|scope| {
        let del = scope.spawn(|| node.networks().del(&pod));
        orphan.kill().unwrap();
        orphan.wait().unwrap();
        del.join().unwrap().unwrap();
    });
    assert_eq!((node.log().len(), node.cached()), (3, 0));
    assert_eq!(fs::read_dir(node.path("cache/turns")).unwrap().count(), 0);
}

#[test]
fn a_missing_plugin_is_named_with_the_places() {
    let node = Node::new("1.1.0");
    fs::remove_file(node.path("bin/two")).unwrap();
    let status = text(&node.networks().status().unwrap_err());
    for part in ["plugin two is in none of", "nowhere", "bin"] {
        assert!(status.contains(part), "{status}");
    }
    fs::remove_dir_all(node.path("net.d")).unwrap();
    let status = text(&node.networks().status().unwrap_err());
    assert!(status.contains("no CNI network configuration in") && status.contains("net.d"), "{status}");
}

#[test]
fn loopback_comes_up() {
    let node = Node::new("1.1.0");
    let (netns, pod) = pod("a");
    node.networks().add(&pod).unwrap();
    let lo = netlink::route::Route::open_in(&netns).unwrap().link("lo").unwrap().unwrap();
    assert!(lo.up);
    let error = text(&node.networks().add(&attachment("b", Path::new("/nowhere"))).unwrap_err());
    assert!(error.contains("/nowhere"), "{error}");
}
