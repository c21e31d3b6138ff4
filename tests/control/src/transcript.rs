//! Transcripts: what a person types, and what upstream answers. The files in `transcripts/` were recorded on an
//! upstream API server (`cargo run -p control-tests --example record`); the tests replay them on ours.
//!
//! ```text
//! What it is about.
//! $ kubectl create namespace a
//! namespace/a created
//! $ kubectl apply -f - <<EOF
//! > apiVersion: v1
//! > EOF
//! error: …
//! [1]
//! ```
//! A line that starts with `$ ` is a command for `sh`, lines with `> ` continue it. What follows is what it prints, first
//! on its standard output, then on its standard error, and its exit status where it is not zero.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use lab::control::feed;

/// A command with what it prints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// What stands above the first step.
    pub above: String,
    /// What is typed.
    pub command: String,
    /// What is printed.
    pub output: String,
}

/// Reads a transcript.
#[must_use]
pub fn parse(text: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let mut above = String::new();
    for line in text.lines() {
        if let Some(command) = line.strip_prefix("$ ") {
            steps.push(Step {
                above: std::mem::take(&mut above),
                command: command.to_owned(),
                output: String::new(),
            });
        } else if let Some(step) = steps.last_mut() {
            match line.strip_prefix("> ") {
                Some(more) => step.command += &format!("\n{more}"),
                None => step.output += &format!("{line}\n"),
            }
        } else {
            above += &format!("{line}\n");
        }
    }
    steps
}

/// Writes a transcript.
#[must_use]
pub fn print(steps: &[Step]) -> String {
    let one = |step: &Step| {
        let command = step.command.replace('\n', "\n> ");
        format!("{}$ {command}\n{}", step.above, step.output)
    };
    steps.iter().map(one).collect()
}

/// Runs a command by `sh` with `kubectl` and `helm` in its path, and gives what it prints, [`plain`].
///
/// # Errors
/// When it cannot be started.
pub fn run(client: Command, command: &str) -> Result<String> {
    let mut sh = client;
    let output = feed(sh.arg("-c").arg(command), "").context("sh")?;
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    text += &String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        text += &format!("[{}]\n", output.status.code().unwrap_or(-1));
    }
    Ok(plain(&text))
}

/// The path in which `sh` finds upstream's clients.
///
/// # Errors
/// When they cannot be fetched.
pub fn path() -> Result<String> {
    let folder = |program: &Path| program.parent().map(|p| p.display().to_string()).unwrap_or_default();
    Ok(format!("{}:{}:/usr/bin:/bin", folder(&lab::pypi::kubectl()?), folder(&lab::pypi::helm()?)))
}

/// The text without what differs from run to run: ages, times, identifiers, revisions, addresses, column widths.
#[must_use]
pub fn plain(text: &str) -> String {
    let mut out = String::new();
    for line in text.lines() {
        let indent = line.len() - line.trim_start().len();
        let mut words: Vec<String> = line.split_whitespace().map(word).collect();
        for at in 1..words.len() {
            if ["resourceVersion:", "\"resourceVersion\":"].contains(&words[at - 1].as_str()) {
                words[at] = "<revision>".to_owned();
            }
        }
        out += format!("{}{}", &line[..indent], words.join(" ")).trim_end();
        out.push('\n');
    }
    out
}

/// A word with placeholders.
fn word(text: &str) -> String {
    let text = marked(text, "<uid>", 36, |t| {
        let groups: Vec<usize> = t.split('-').map(str::len).collect();
        groups == [8, 4, 4, 4, 12] && t.bytes().all(|b| b == b'-' || b.is_ascii_hexdigit())
    });
    let text = marked(&text, "<time>", "2026-11-21T06:40:38Z".len(), |t| {
        let bytes = t.as_bytes();
        bytes[4] == b'-' && bytes[10] == b'T' && bytes[13] == b':' && bytes[19] == b'Z'
    });
    let core = text.trim_matches(|c: char| !c.is_ascii_alphanumeric());
    let shape = if core.is_empty() {
        return text;
    } else if is_age(core) {
        "<age>"
    } else if core.parse::<std::net::Ipv4Addr>().is_ok() && core.starts_with("10.") {
        "<ip>"
    } else {
        return text;
    };
    text.replacen(core, shape, 1)
}

/// The text with `mark` for each part of `length` bytes that has the shape.
fn marked(text: &str, mark: &str, length: usize, shape: impl Fn(&str) -> bool) -> String {
    let (mut out, mut rest) = (String::new(), text);
    while let Some(first) = rest.chars().next() {
        match rest.get(..length) {
            Some(part) if shape(part) => {
                out += mark;
                rest = &rest[length..];
            }
            _ => {
                out.push(first);
                rest = &rest[first.len_utf8()..];
            }
        }
    }
    out
}

/// `5s`, `2m3s`, `4d`; sizes such as `5m` of processor time look the same, and are lost with them.
fn is_age(text: &str) -> bool {
    let mut rest = text;
    for unit in ['d', 'h', 'm', 's'] {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        if digits > 0 && rest[digits..].starts_with(unit) {
            rest = &rest[digits + 1..];
        }
    }
    rest.is_empty() && !text.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transcript_is_read_and_written() {
        let text = "# one\n$ kubectl get a\nNAME AGE\n# a <age>\n\n$ cat <<EOF\n> x: 1\n> EOF\nx\n[1]\n";
        let steps = parse(text);
        assert_eq!(steps.len(), 2);
        assert_eq!(steps[1].command, "cat <<EOF\nx: 1\nEOF");
        assert_eq!(steps[0].output, "NAME AGE\n# a <age>\n\n");
        assert_eq!(steps[1].output, "x\n[1]\n");
        assert_eq!(print(&steps), text);
    }

    #[test]
    fn what_differs_from_run_to_run_is_plain() {
        let text = "NAME    AGE\nweb   2m3s\n  \"uid\": \"0a1b2c3d-0a1b-0a1b-0a1b-0a1b2c3d4e5f\",\nat 2026-11-21T06:40:38Z 10.96.0.1 v1 1/1";
        let expected = "NAME AGE\nweb <age>\n  \"uid\": \"<uid>\",\nat <time> <ip> v1 1/1\n";
        assert_eq!(plain(text), expected);
    }
}
