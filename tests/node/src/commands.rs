//! What the user types at a running node.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use lab::image::{write_archive, write_docker_archive};
use lab::{Node, wait};

use crate::pod;

const CHATTY: &str = "command: [sh, -c, 'n=0; while :; do n=$((n+1)); echo line $n; sleep 0.1; done']";

fn chatty() -> Result<Node> {
    let mut node = Node::new()?;
    node.start()?;
    node.apply("chatty.yaml", &pod("chatty", "", &[("c", CHATTY)]))?;
    node.wait_pod_ready("chatty")?;
    Ok(node)
}

#[test]
fn pods_containers_and_images_are_listed() -> Result<()> {
    let node = chatty()?;
    for (kind, header, row) in
        [("pods", "STATUS", "chatty"), ("containers", "POD", "chatty"), ("images", "SIZE", "busybox")]
    {
        let table = node.cleat(&["ctl", "get", kind])?;
        let first = table.lines().next().unwrap_or_default();
        ensure!(first.contains(header) && table.contains(row), "get {kind}:\n{table}");
        let list = node.ctl_json(&["get", kind])?;
        ensure!(list["items"].as_array().is_some_and(|items| !items.is_empty()), "get {kind}: {list}");
    }
    let one = node.ctl_json(&["get", "pod", "chatty"])?;
    ensure!(one["kind"] == "Pod" && one["status"]["phase"] == "Running", "{one}");
    Ok(())
}

#[test]
fn logs_are_printed_and_followed() -> Result<()> {
    let node = chatty()?;
    let log = wait::until("ten lines", 10, || {
        let log = node.cleat(&["ctl", "logs", "chatty"])?;
        Ok(if log.lines().count() >= 10 { Ok(log) } else { Err(log) })
    })?;
    ensure!(log.starts_with("line 1\nline 2\n"), "{log}");
    let tail = node.cleat(&["ctl", "logs", "chatty", "--tail", "2"])?;
    ensure!(tail.lines().count() == 2 && !tail.contains("line 1\n"), "{tail}");
    let mut follow = node.cleat_command(&["ctl", "logs", "chatty", "-f"]);
    let mut child = follow.stdout(Stdio::piped()).spawn()?;
    let lines = BufReader::new(child.stdout.take().context("no output")?).lines();
    let seen: Vec<String> = lines.map_while(Result::ok).take(40).collect();
    child.kill()?;
    child.wait()?;
    for (number, line) in (1..).zip(&seen) {
        ensure!(*line == format!("line {number}"), "line {number} is {line:?}");
    }
    ensure!(seen.len() == 40, "{seen:?}");
    Ok(())
}

#[test]
fn commands_run_in_a_container() -> Result<()> {
    let node = chatty()?;
    let hello = node.cleat(&["ctl", "exec", "chatty", "--", "echo", "hello"])?;
    ensure!(hello == "hello\n", "{hello:?}");
    let status = node.cleat_command(&["ctl", "exec", "chatty", "--", "sh", "-c", "exit 7"]).output()?.status;
    ensure!(status.code() == Some(7), "{status}");
    let mut cat = node.cleat_command(&["ctl", "exec", "-i", "chatty", "--", "cat"]);
    let mut child = cat.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    std::io::Write::write_all(&mut child.stdin.take().context("no input")?, b"through\n")?;
    let output = child.wait_with_output()?;
    ensure!(output.stdout == b"through\n" && output.status.success(), "{output:?}");
    Ok(())
}

#[test]
fn a_pod_is_described() -> Result<()> {
    let node = chatty()?;
    let text = node.cleat(&["ctl", "describe", "pod", "chatty"])?;
    for part in ["Name:", "chatty", "Status:", "Running", "busybox:1.35", "Events:", "Started"] {
        ensure!(text.contains(part), "{part} is not in:\n{text}");
    }
    Ok(())
}

#[test]
fn mistakes_get_a_remedy() -> Result<()> {
    let node = chatty()?;
    for (words, parts) in [
        (&["ctl", "logs", "nobody"][..], &["nobody", "not found"][..]),
        (&["ctl", "logs", "chatty", "-c", "x"], &["x", "chatty"]),
        (&["ctl", "exec", "chatty", "--", "/no/such"], &["/no/such"]),
        (&["image", "pull", "registry.test/no/such:1"], &["registry.test/no/such:1"]),
        (&["image", "pull", "Not A Name"], &["Not A Name"]),
        (&["image", "load", "/no/such.tar"], &["/no/such.tar"]),
        (&["image", "rm", "no/such:1"], &["no/such:1"]),
    ] {
        let output = node.cleat_command(words).output()?;
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(!output.status.success(), "{words:?} succeeds: {text}");
        let all = parts.iter().all(|part| text.contains(part));
        ensure!(all && text.lines().count() <= 4, "{words:?} says {text:?}, without {parts:?} or at length");
    }
    Ok(())
}

#[test]
fn images_are_pulled_loaded_listed_and_removed() -> Result<()> {
    let node = Node::new()?;
    let images = lab::demo::images()?;
    let folder = node.data().with_file_name("archives");
    std::fs::create_dir_all(&folder)?;
    let (oci, docker) = (folder.join("oci.tar"), folder.join("docker.tar"));
    write_archive(&[(images[0].reference, &images[0].image)], &oci)?;
    write_docker_archive(&[(images[1].reference, &images[1].image)], &docker)?;
    node.cleat(&["image", "load", &oci.to_string_lossy(), &docker.to_string_lossy()])?;
    node.cleat(&["image", "pull", images[2].reference])?;
    let list = node.cleat(&["image", "ls", "--output", "json"])?;
    for image in &images {
        ensure!(list.contains(image.reference), "{} is not in {list}", image.reference);
        ensure!(list.contains(&image.image.config.digest), "{} has another id: {list}", image.reference);
    }
    for image in &images {
        node.cleat(&["image", "rm", image.reference])?;
    }
    let list = node.cleat(&["image", "ls", "--output", "json"])?;
    ensure!(!list.contains("busybox") && !list.contains("redis"), "{list}");
    let mut left = 0;
    let mut open = vec![node.data().join("images")];
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(folder)?.flatten() {
            match entry.file_type()?.is_dir() {
                true => open.push(entry.path()),
                false => left += entry.metadata()?.len(),
            }
        }
    }
    ensure!(left < 100_000, "{left} bytes are left of images that were removed");
    Ok(())
}
