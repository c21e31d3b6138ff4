//! Images and registries that lie, stall or do not fit: a clear message, nothing half-made, other pods go on.

use std::fs;

use anyhow::{Context, Result, ensure};
use lab::image::{Image, Tree, index};
use lab::node::container;
use lab::registry::Fault;
use lab::{Machine, Node};
use serde_json::{Value, json};

use crate::bad_manifests::says;
use crate::pod;

const SLEEP: &str = "command: [sleep, '600']";

fn started() -> Result<Node> {
    let mut node = Node::new()?;
    node.start()?;
    Ok(node)
}

fn image(marker: &str) -> Result<Image> {
    let mut tree = Tree::default();
    tree.file("marker", 0o644, marker.repeat(5000));
    Image::new(&[&tree], &json!({ "Cmd": ["none"] }))
}

fn apply(node: &Node, name: &str, image: &str) -> Result<()> {
    node.apply(&format!("{name}.yaml"), &pod(name, "", &[("c", &format!("image: {image}\n{SLEEP}"))]))
}

fn waits_for_its_image(pod: &Value) -> bool {
    let reason = &container(pod, "c")["state"]["waiting"]["reason"];
    reason == "ErrImagePull" || reason == "ImagePullBackOff"
}

#[test]
fn a_missing_image_is_named_and_comes_later() -> Result<()> {
    let node = started()?;
    apply(&node, "missing", "registry.test/team/late:1")?;
    node.wait_pod("missing", "to wait for its image", 30, waits_for_its_image)?;
    says(&node, "the image", &["registry.test/team/late:1", "not found"])?;
    let busybox = lab::demo::images()?.swap_remove(0).image;
    let _reference = node.push("team/late", &busybox);
    node.wait_pod_ready("missing").map(drop)
}

#[test]
fn an_image_for_another_platform_is_refused() -> Result<()> {
    let node = started()?;
    let strange = Image::for_platform(&[&Tree::default()], &json!({}), "linux", "s390x")?;
    let _reference = node.push("team/strange", &strange);
    node.registry().push_index("team/strange", "2", &index(&[("linux", "s390x", &strange)]));
    for tag in ["1", "2"] {
        let name = format!("strange-{tag}");
        apply(&node, &name, &format!("registry.test/team/strange:{tag}"))?;
        says(&node, "the platform", &[&format!("team/strange:{tag}"), "s390x", "amd64"])?;
    }
    Ok(())
}

/// Digests and lengths are checked: what a registry gets wrong is never used, and when it is right again the pod runs.
#[test]
fn a_registry_that_corrupts_or_lies_is_found_out() -> Result<()> {
    let node = started()?;
    let busybox = lab::demo::images()?.swap_remove(0).image;
    for (name, fault) in [("corrupt", Fault::Corrupt), ("long", Fault::TooLong), ("short", Fault::HangUp)] {
        let mut tree = Tree::default();
        tree.file(name, 0o644, name.repeat(10_000));
        let base = lab::demo::base(&lab::debian::Debian::open()?)?;
        let image = Image::new(&[&base, &tree], &json!({}))?;
        let layer = image.layers.last().context("no layer")?.digest.clone();
        ensure!(busybox.layers[0].digest == image.layers[0].digest, "the base layer is shared");
        node.registry().fault(&layer, fault);
        let reference = node.push(&format!("team/{name}"), &image);
        apply(&node, name, &reference)?;
        node.wait_pod(name, "to wait for its image", 60, waits_for_its_image)?;
        says(&node, name, &[&layer])?;
        node.registry().heal();
        node.wait_pod_ready(name)?;
        let marker = node.cleat(&["ctl", "exec", name, "--", "wc", "-c", &format!("/{name}")])?;
        ensure!(marker.starts_with(&format!("{} ", name.len() * 10_000)), "{marker}");
    }
    Ok(())
}

/// While one registry stalls others are served.
#[test]
fn a_registry_that_stalls_holds_up_nobody_else() -> Result<()> {
    let node = started()?;
    let image = image("stalls")?;
    node.registry().fault(&image.layers[0].digest, Fault::Stall);
    let reference = node.push("team/stalls", &image);
    apply(&node, "stalls", &reference)?;
    apply(&node, "good", "busybox:1.35")?;
    node.wait_pod_ready("good")?;
    let pod = node.pod("stalls")?.context("the pod is not reported")?;
    ensure!(pod["status"]["phase"] == "Pending", "{:#}", pod["status"]);
    node.remove("stalls.yaml")?;
    node.wait_pod_gone("stalls", 30)
}

/// Layers that climb out are refused, or stay inside; nothing outside is written.
#[test]
fn layers_cannot_climb_out() -> Result<()> {
    let node = started()?;
    let victim = node.data().with_file_name("victim");
    fs::create_dir_all(&victim)?;
    let deep = format!("{}{}", "../".repeat(8), victim.display());
    let mut dots = Tree::default();
    dots.file(&format!("{deep}/escaped"), 0o644, "out");
    let mut absolute = Tree::default();
    absolute.file(&format!("{}/escaped", victim.display()), 0o644, "out");
    let mut link = Tree::default();
    link.link("a", &victim.display().to_string()).file("a/escaped", 0o644, "out");
    for (name, tree) in [("dots", dots), ("absolute", absolute), ("link", link)] {
        let image = Image::new(&[&tree], &json!({}))?;
        let reference = node.push(&format!("team/{name}"), &image);
        let output = node.cleat_command(&["image", "pull", &reference]).output()?;
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        let named = text.contains("escaped") || text.contains(&image.layers[0].digest);
        ensure!(output.status.success() || named, "{name}: {text}");
        ensure!(fs::read_dir(&victim)?.next().is_none(), "{name} wrote outside of the image");
    }
    Ok(())
}

/// On a file system without room the pull says so, and what it had is removed.
#[test]
fn a_full_disk_is_named() -> Result<()> {
    let machine = Machine::new()?;
    let mut node = Node::on(machine)?;
    fs::create_dir_all(node.data())?;
    let data = node.data().display().to_string();
    node.machine().run(&["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", &data])?;
    let mut big = Tree::default();
    let noise: Vec<u8> =
        (0..12_000_000u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    big.file("noise", 0o644, noise);
    let reference = node.push("team/big", &Image::new(&[&big], &json!({}))?);
    let output = node.cleat_command(&["image", "pull", &reference]).output()?;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(!output.status.success() && text.contains("No space left"), "{text}");
    let left = node.machine().run(&["du", "-sk", &data])?;
    let kilobytes: u32 = left.split_whitespace().next().unwrap_or_default().parse()?;
    ensure!(kilobytes < 1000, "{kilobytes} kB are left of the broken pull");
    node.start_with(|_| ())?;
    Ok(())
}
