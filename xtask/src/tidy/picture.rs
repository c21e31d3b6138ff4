//! The crate picture of docs/architecture.md, as a test: which crate may use which, and what stays out of the
//! small programs.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::Finding;
use super::lock::Lock;

/// A row of the picture.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Layer {
    /// Data that crosses a process boundary.
    Contract,
    /// Pure functions.
    Core,
    /// Effects without policy.
    Mechanism,
    /// Where policy and effect meet.
    Process,
    /// The `cleat` binary.
    Program,
    /// Tests and the developer's commands.
    Test,
}

/// Every crate of the workspace and its row.
const PICTURE: [(&str, Layer); 40] = [
    ("proto-cri", Layer::Contract),
    ("proto-node", Layer::Contract),
    ("proto-kube", Layer::Contract),
    ("proto-etcd", Layer::Contract),
    ("agent-core", Layer::Core),
    ("patch", Layer::Core),
    ("kinds", Layer::Core),
    ("admission", Layer::Core),
    ("authz", Layer::Core),
    ("scheduler", Layer::Core),
    ("controllers", Layer::Core),
    ("why", Layer::Core),
    ("proxy-rules", Layer::Core),
    ("linux", Layer::Mechanism),
    ("netlink", Layer::Mechanism),
    ("image", Layer::Mechanism),
    ("stream", Layer::Mechanism),
    ("cni-invoke", Layer::Mechanism),
    ("oci", Layer::Mechanism),
    ("store", Layer::Mechanism),
    ("pki", Layer::Mechanism),
    ("client", Layer::Mechanism),
    ("monitor", Layer::Process),
    ("cri", Layer::Process),
    ("cni-plugins", Layer::Process),
    ("agent", Layer::Process),
    ("apiserver", Layer::Process),
    ("control", Layer::Process),
    ("proxy", Layer::Process),
    ("dns", Layer::Process),
    ("overlay", Layer::Process),
    ("cleat", Layer::Program),
    ("lab", Layer::Test),
    ("node-tests", Layer::Test),
    ("control-tests", Layer::Test),
    ("cluster-tests", Layer::Test),
    ("conformance", Layer::Test),
    ("sim", Layer::Test),
    ("xtask", Layer::Test),
    ("fuzz", Layer::Test),
];
/// Programs of which one runs per pod or per call: no async runtime, no TLS, no gRPC.
const SMALL: [&str; 3] = ["oci", "monitor", "cni-plugins"];
const HEAVY: [&str; 6] = ["tokio", "rustls", "ring", "tonic", "hyper", "h2"];
/// What a core must not even link.
const EFFECTS: [&str; 7] = ["tokio", "libc", "rustix", "hyper", "tonic", "rustls", "mio"];

/// The crate at the other end of an arrow, and whether only tests draw it.
type Arrow = (String, bool);

/// Checks the workspace as `cargo metadata --no-deps` describes it.
pub(super) fn check(metadata: &Value, lock: &Lock, architecture: &str) -> Vec<Finding> {
    let crates = arrows(metadata);
    let mut found = Vec::new();
    for (name, arrows) in &crates {
        let Some(from) = layer(name) else {
            let text = format!("the crate `{name}` is not in the picture");
            found.push(Finding::new("xtask/src/tidy/picture.rs", 1, text, "give it a row in PICTURE"));
            continue;
        };
        if !architecture.contains(&format!("`{name}`")) {
            let text = format!("the crate `{name}` is not mentioned");
            found.push(Finding::new("docs/architecture.md", 1, text, "say there in a line what it is for"));
        }
        for (to, dev) in arrows {
            let Some(row) = layer(to) else { continue };
            if !allowed(from, to, row, *dev) {
                let text = format!("`{name}` ({from:?}) must not use `{to}` ({row:?})");
                let remedy = "arrows point down and never sideways: move the shared part down, or pass data";
                found.push(Finding::new(&manifest(metadata, name), 1, text, remedy));
            }
        }
    }
    found.extend(weight(metadata, &crates, lock));
    found
}

fn layer(name: &str) -> Option<Layer> {
    PICTURE.iter().find(|(n, _)| *n == name).map(|(_, layer)| *layer)
}

fn allowed(from: Layer, to_name: &str, to: Layer, dev: bool) -> bool {
    use Layer::{Contract, Core, Mechanism, Process, Program, Test};
    if dev && to_name == "lab" {
        return true;
    }
    match from {
        Contract => false,
        Core => to == Contract,
        Mechanism => matches!(to, Contract | Mechanism),
        Process => matches!(to, Contract | Core | Mechanism),
        Program => matches!(to, Contract | Core | Mechanism | Process),
        Test => to != Program,
    }
}

/// By package: the workspace crates and outer crates it depends on, without those only its build script needs.
fn arrows(metadata: &Value) -> BTreeMap<String, Vec<Arrow>> {
    let packages = metadata["packages"].as_array().map(Vec::as_slice).unwrap_or_default();
    let arrow = |d: &Value| Some((d["name"].as_str()?.to_owned(), d["kind"] == "dev"));
    packages
        .iter()
        .filter_map(|p| {
            let dependencies = p["dependencies"].as_array()?;
            let arrows = dependencies.iter().filter(|d| d["kind"] != "build").filter_map(arrow).collect();
            Some((p["name"].as_str()?.to_owned(), arrows))
        })
        .collect()
}

/// What small programs and cores must not link, however far down.
fn weight(metadata: &Value, crates: &BTreeMap<String, Vec<Arrow>>, lock: &Lock) -> Vec<Finding> {
    let mut found = Vec::new();
    for name in crates.keys() {
        let banned: &[&str] = match layer(name) {
            Some(Layer::Core) => &EFFECTS,
            Some(_) if SMALL.contains(&name.as_str()) => &HEAVY,
            _ => continue,
        };
        let linked = linked(name, crates, lock);
        for package in banned.iter().filter(|p| linked.contains(**p)) {
            let text = format!("`{name}` links `{package}`");
            let remedy = "`cargo tree -e normal -i` tells through which dependency; leave it out";
            found.push(Finding::new(&manifest(metadata, name), 1, text, remedy));
        }
    }
    found
}

fn linked(name: &str, crates: &BTreeMap<String, Vec<Arrow>>, lock: &Lock) -> BTreeSet<String> {
    let mut seen = BTreeSet::new();
    let mut open = vec![name.to_owned()];
    while let Some(package) = open.pop() {
        let next: Vec<String> = match crates.get(&package) {
            Some(arrows) => arrows.iter().filter(|(_, dev)| !dev).map(|(to, _)| to.clone()).collect(),
            None => lock.dependencies(&package),
        };
        open.extend(next.into_iter().filter(|to| seen.insert(to.clone())));
    }
    seen
}

fn manifest(metadata: &Value, name: &str) -> String {
    let root = metadata["workspace_root"].as_str().unwrap_or_default();
    let packages = metadata["packages"].as_array().map(Vec::as_slice).unwrap_or_default();
    let path = packages.iter().find(|p| p["name"] == name).and_then(|p| p["manifest_path"].as_str());
    path.unwrap_or(name).trim_start_matches(root).trim_start_matches('/').to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn texts(packages: &[(&str, &[(&str, &str)])], lock: &str) -> Vec<String> {
        let package = |(name, uses): &(&str, &[(&str, &str)])| {
            let arrow = |(to, kind): &(&str, &str)| json!({ "name": to, "kind": if kind.is_empty() { Value::Null } else { json!(kind) } });
            json!({ "name": name, "manifest_path": format!("/w/{name}/Cargo.toml"),
                    "dependencies": uses.iter().map(arrow).collect::<Vec<_>>() })
        };
        let metadata =
            json!({ "workspace_root": "/w", "packages": packages.iter().map(package).collect::<Vec<_>>() });
        let architecture: String = packages.iter().map(|(name, _)| format!("`{name}` ")).collect();
        check(&metadata, &Lock::parse(lock), &architecture).into_iter().map(|f| f.text).collect()
    }

    #[test]
    fn arrows_point_down() {
        let good: &[(&str, &[(&str, &str)])] = &[
            ("agent", &[("agent-core", ""), ("linux", ""), ("proto-cri", ""), ("lab", "dev")]),
            ("monitor", &[("oci", ""), ("linux", "")]),
            ("cleat", &[("agent", ""), ("cri", "")]),
        ];
        assert_eq!(texts(good, ""), Vec::<String>::new());
        for (from, to, expected) in [
            ("agent-core", "linux", "`agent-core` (Core) must not use `linux` (Mechanism)"),
            ("linux", "agent-core", "`linux` (Mechanism) must not use `agent-core` (Core)"),
            ("agent", "cri", "`agent` (Process) must not use `cri` (Process)"),
            ("proto-cri", "linux", "`proto-cri` (Contract) must not use `linux` (Mechanism)"),
            ("cri", "lab", "`cri` (Process) must not use `lab` (Test)"),
        ] {
            assert_eq!(texts(&[(from, &[(to, "")])], ""), [expected]);
        }
    }

    #[test]
    fn weight_is_found_through_others() {
        let lock = "[[package]]\nname = \"a\"\ndependencies = [\n \"tokio\",\n]\n";
        assert_eq!(texts(&[("oci", &[("a", "")])], lock), ["`oci` links `tokio`"]);
        assert_eq!(texts(&[("oci", &[("a", "dev")])], lock), Vec::<String>::new());
        assert_eq!(texts(&[("cri", &[("a", "")])], lock), Vec::<String>::new());
    }

    #[test]
    fn strangers_and_the_unmentioned_are_found() {
        let metadata = json!({ "workspace_root": "/w", "packages": [
            { "name": "stranger", "manifest_path": "/w/s/Cargo.toml", "dependencies": [] },
            { "name": "linux", "manifest_path": "/w/l/Cargo.toml", "dependencies": [] },
        ]});
        let found: Vec<_> = check(&metadata, &Lock::parse(""), "").into_iter().map(|f| f.text).collect();
        assert_eq!(
            found,
            ["the crate `linux` is not mentioned", "the crate `stranger` is not in the picture"]
        );
    }
}
