//! A built `cleat up` in a throw-away machine, with its manifests, its state, and ways to hurt it.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use rustix::process::Signal;
use serde_json::Value;

use crate::debian::output;
use crate::image::Image;
use crate::machine::Machine;
use crate::{Process, Registry, Snapshot, demo, http, programs, wait};

/// The hosts whose images come from the lab's registry.
const MIRRORED: [&str; 2] = ["docker.io", "registry.test"];

/// A node on a machine.
pub struct Node {
    // The order is that of dropping: first the node, then its machine.
    process: Option<Process>,
    registry: Registry,
    programs: PathBuf,
    folder: PathBuf,
    machine: Machine,
}

impl Node {
    /// A machine with a registry that holds the demo's images, and a node that is not started yet.
    pub fn new() -> Result<Node> {
        Node::on(Machine::new()?)
    }

    /// The same on a machine that is already there.
    pub fn on(machine: Machine) -> Result<Node> {
        Node::of(programs::debug()?, machine)
    }

    /// [`Node::on`] with programs that have been built already.
    pub fn of(programs: PathBuf, machine: Machine) -> Result<Node> {
        let registry = Registry::start(&machine)?;
        for named in demo::images()? {
            let (repository, tag) = split(named.reference)?;
            registry.push(repository, tag, &named.image);
        }
        let folder = machine.folder().to_path_buf();
        for host in MIRRORED {
            registry.mirror(host, &folder.join("certs.d"))?;
        }
        fs::create_dir_all(folder.join("manifests"))?;
        Ok(Node { process: None, registry, programs, folder, machine })
    }

    /// Its machine.
    #[must_use]
    pub fn machine(&self) -> &Machine {
        &self.machine
    }

    /// The registry its images come from; `registry.test/NAME:TAG` is any image pushed there.
    #[must_use]
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Puts an image into the registry; gives the reference that manifests use.
    #[must_use]
    pub fn push(&self, repository: &str, image: &Image) -> String {
        self.registry.push(repository, "1", image);
        format!("registry.test/{repository}:1")
    }

    /// Its data directory.
    #[must_use]
    pub fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// Starts `cleat up` and waits until it answers.
    pub fn start(&mut self) -> Result<()> {
        self.start_with(|_| ())?;
        self.wait_ready()
    }

    /// Whether `cleat` runs.
    pub fn is_running(&mut self) -> bool {
        self.process.as_mut().is_some_and(Process::is_running)
    }

    /// Starts `cleat up` with a changed command and does not wait.
    pub fn start_with(&mut self, change: impl FnOnce(&mut Command)) -> Result<()> {
        let certs = self.folder.join("certs.d");
        self.start_as(&["up", "--standalone"], |command| {
            command.arg("--registry-config").arg(certs);
            change(command);
        })
    }

    /// Starts another daemon with an agent in it, e.g. `agent`, and does not wait.
    pub fn start_as(&mut self, daemon: &[&str], change: impl FnOnce(&mut Command)) -> Result<()> {
        let log = fs::File::options().create(true).append(true).open(self.log_path())?;
        let mut command = self.machine.command(self.programs.join("cleat"));
        command.args(["--log", "info"]).args(daemon).arg("--manifests").arg(self.manifests());
        command.arg("--data-dir").arg(self.data()).stdout(log.try_clone()?).stderr(log);
        change(&mut command);
        self.process = Some(self.machine.spawn(command)?);
        Ok(())
    }

    /// Waits until the agent answers on its socket.
    pub fn wait_ready(&mut self) -> Result<()> {
        let socket = self.data().join("run/agent.sock");
        let log = self.log_path();
        let process = self.process.as_mut().context("the node is not started")?;
        wait::until("the agent to answer", 30, || {
            if !process.is_running() {
                bail!("`cleat up` ended:\n{}", tail(&log));
            }
            match http::get_unix(&socket, "/healthz") {
                Ok(answer) if answer.status == 200 => Ok(Ok(())),
                seen => Ok(Err(format!("{seen:?}\n{}", tail(&log)))),
            }
        })
    }

    /// `kill -9` of `cleat`, nothing else.
    pub fn kill(&mut self) -> Result<()> {
        let mut process = self.process.take().context("the node is not started")?;
        if process.is_running() {
            process.signal(Signal::KILL)?;
        }
        process.wait(10).map(drop)
    }

    /// Asks `cleat` to end, and waits; its pods go on.
    pub fn stop(&mut self) -> Result<std::process::ExitStatus> {
        let mut process = self.process.take().context("the node is not started")?;
        process.signal(Signal::TERM)?;
        process.wait(30)
    }

    /// The pid of `cleat`, as seen from outside.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Process::pid)
    }

    /// Where its manifests lie.
    #[must_use]
    pub fn manifests(&self) -> PathBuf {
        self.folder.join("manifests")
    }

    /// Writes a manifest, by rename.
    pub fn apply(&self, file: &str, text: &str) -> Result<()> {
        let hidden = self.manifests().join(format!(".{file}"));
        fs::write(&hidden, text)?;
        fs::rename(&hidden, self.manifests().join(file)).context("manifest")
    }

    /// Removes a manifest.
    pub fn remove(&self, file: &str) -> Result<()> {
        fs::remove_file(self.manifests().join(file)).with_context(|| file.to_owned())
    }

    /// What `cleat` has printed and logged.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    fn log_path(&self) -> PathBuf {
        self.folder.join("cleat.log")
    }

    /// Runs a `cleat` command against this node and gives what it prints.
    pub fn cleat(&self, arguments: &[&str]) -> Result<String> {
        let mut command = self.cleat_command(arguments);
        output(&mut command).with_context(|| format!("cleat {}", arguments.join(" ")))
    }

    /// A `cleat` command against this node.
    #[must_use]
    pub fn cleat_command(&self, arguments: &[&str]) -> Command {
        let mut command = self.machine.command(self.programs.join("cleat"));
        command.args(arguments.iter().take_while(|a| **a != "--"));
        command.arg("--data-dir").arg(self.data());
        if arguments.first() == Some(&"image") {
            command.arg("--registry-config").arg(self.folder.join("certs.d"));
        }
        command.args(arguments.iter().skip_while(|a| **a != "--"));
        command
    }

    /// `cleat ctl …  --output json`, parsed.
    pub fn ctl_json(&self, arguments: &[&str]) -> Result<Value> {
        let words = [&["ctl"], arguments, &["--output", "json"]].concat();
        let text = self.cleat(&words)?;
        serde_json::from_str(&text).with_context(|| format!("{words:?} printed {text}"))
    }

    /// Pods as the agent reports them: a v1 PodList.
    pub fn pods(&self) -> Result<Vec<Value>> {
        let answer = http::get_unix(&self.data().join("run/agent.sock"), "/pods")?;
        if answer.status == 503 {
            // It has not looked at the runtime yet.
            return Ok(Vec::new());
        }
        let list: Value = serde_json::from_str(&answer.body).with_context(|| answer.body.clone())?;
        Ok(list["items"].as_array().cloned().unwrap_or_default())
    }

    /// The pod whose name begins so; static pods may carry the node's name at the end.
    pub fn pod(&self, name: &str) -> Result<Option<Value>> {
        let is = |pod: &Value| pod["metadata"]["name"].as_str().is_some_and(|n| n.starts_with(name));
        Ok(self.pods()?.into_iter().find(is))
    }

    /// Waits until a pod satisfies `condition`; its status stands in the error.
    pub fn wait_pod(
        &self,
        name: &str,
        what: &str,
        seconds: u64,
        condition: impl Fn(&Value) -> bool,
    ) -> Result<Value> {
        wait::until(&format!("pod {name} {what}"), seconds, || {
            Ok(match self.pod(name) {
                Ok(Some(pod)) if condition(&pod) => Ok(pod),
                Ok(Some(pod)) => Err(format!("{:#}\n{}", pod["status"], tail(&self.log_path()))),
                Ok(None) => Err(format!("the agent does not know it\n{}", tail(&self.log_path()))),
                Err(error) => Err(format!("{error:#}\n{}", tail(&self.log_path()))),
            })
        })
    }

    /// Waits until a pod is Ready.
    pub fn wait_pod_ready(&self, name: &str) -> Result<Value> {
        self.wait_pod(name, "to be Ready", 60, is_ready)
    }

    /// Waits until the agent has forgotten a pod.
    pub fn wait_pod_gone(&self, name: &str, seconds: u64) -> Result<()> {
        wait::until(&format!("pod {name} to be gone"), seconds, || {
            Ok(match self.pod(name) {
                Ok(None) => Ok(()),
                Ok(Some(pod)) => Err(format!("{:#}\n{}", pod["status"], tail(&self.log_path()))),
                Err(error) => Err(format!("{error:#}")),
            })
        })
    }

    /// The messages of all events about a pod.
    pub fn events(&self, pod: &str) -> Result<Vec<String>> {
        let answer = http::get_unix(&self.data().join("run/agent.sock"), "/api/v1/events")?;
        let list: Value = serde_json::from_str(&answer.body).with_context(|| answer.body.clone())?;
        let about =
            |event: &&Value| event["involvedObject"]["name"].as_str().is_some_and(|n| n.starts_with(pod));
        let text = |e: &Value| {
            format!("{} {}", e["reason"].as_str().unwrap_or(""), e["message"].as_str().unwrap_or(""))
        };
        Ok(list["items"].as_array().into_iter().flatten().filter(about).map(text).collect())
    }

    /// Looks at all that a leak of this node could leave. Images are meant to stay, and so are they not looked at.
    pub fn snapshot(&self) -> Result<Snapshot> {
        let data = self.data();
        let stays = ["images", "run/cri.sock", "run/agent.sock", "logs"].map(|name| data.join(name));
        let keep = move |path: &Path| !stays.iter().any(|s| path == s);
        Snapshot::take(&self.machine, &[&self.data()], keep)
    }
}

/// Whether a pod's Ready condition is true.
#[must_use]
pub fn is_ready(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array();
    conditions.into_iter().flatten().any(|c| c["type"] == "Ready" && c["status"] == "True")
}

/// What a node is short of, in its own words.
#[must_use]
pub fn pressure(node: &Value) -> Option<String> {
    let mut conditions = node["status"]["conditions"].as_array().into_iter().flatten();
    let pressed = conditions.find(|c| c["type"] != "Ready" && c["status"] == "True")?;
    Some(format!("{}: {}", node["metadata"]["name"], pressed["message"]))
}

/// A pod's address.
pub fn pod_ip(pod: &Value) -> Result<IpAddr> {
    let text = pod["status"]["podIP"].as_str().context("the pod has no podIP")?;
    text.parse().with_context(|| text.to_owned())
}

/// The status of a container of a pod, `Value::Null` without one.
#[must_use]
pub fn container<'a>(pod: &'a Value, name: &str) -> &'a Value {
    let lists = ["containerStatuses", "initContainerStatuses"].map(|list| pod["status"][list].as_array());
    lists.into_iter().flatten().flatten().find(|c| c["name"] == name).unwrap_or(&Value::Null)
}

fn split(reference: &str) -> Result<(&str, &str)> {
    let name = reference.trim_start_matches("docker.io/");
    name.rsplit_once(':').with_context(|| format!("{reference}: no tag"))
}

fn tail(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    format!("--- last lines of cleat's log\n{}", lines[lines.len().saturating_sub(25)..].join("\n"))
}
