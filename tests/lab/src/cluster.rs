//! Several machines on one switch: the first runs `cleat up`, the others have joined by a token. Or the control plane runs
//! on the switch itself, apart, and all machines have joined it. Upstream's kubectl and helm run beside the control plane.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::{Command, Output};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::control::feed;
use crate::debian::output;
use crate::node::Node;
use crate::plane::{Frozen, Plane};
use crate::{Machine, programs, pypi, wait};

/// What the nodes of tests are told: the machine that runs the tests may have a disk that is nearly full.
const KUBELET: &str = "\
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
evictionHard: { nodefs.available: 100Mi, nodefs.inodesFree: 1%, memory.available: 50Mi }
";
/// How long nodes may take to be Ready, on a loaded machine.
const READY_SECONDS_MAX: u64 = 90;
/// The address of the switch, where the control plane is apart.
const SWITCH: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

/// A cluster.
pub struct Cluster {
    // The order is that of dropping: first the nodes, then what joins them.
    nodes: Vec<Node>,
    /// None where the first node runs it.
    plane: Option<Plane>,
    switch: Machine,
    /// More arguments for each node, `up` and `join` alike.
    arguments: Vec<String>,
    /// What the nodes are told of pods.
    kubelet: String,
    programs: PathBuf,
}

impl Cluster {
    /// A cluster of so many nodes, all Ready.
    pub fn new(nodes: usize) -> Result<Cluster> {
        let mut cluster = Cluster::prepared(nodes, &[])?;
        cluster.start()?;
        Ok(cluster)
    }

    /// A cluster whose control plane is apart from its nodes; `arguments` are for `cleat control`. Nothing runs yet.
    pub fn apart(nodes: usize, arguments: &[&str]) -> Result<Cluster> {
        let mut cluster = Cluster::prepared(nodes, &[])?;
        cluster.plane = Some(Plane::on(&cluster.switch, cluster.programs.clone(), arguments));
        cluster.switch.run(&["ip", "addr", "add", &format!("{SWITCH}/24"), "dev", "switch"])?;
        Ok(cluster)
    }

    /// The machines of a cluster, on which nothing runs yet; `arguments` are for each node.
    pub fn prepared(nodes: usize, arguments: &[&str]) -> Result<Cluster> {
        Cluster::of(programs::debug()?, nodes, arguments)
    }

    /// [`Cluster::prepared`] with programs that have been built already.
    pub fn of(programs: PathBuf, nodes: usize, arguments: &[&str]) -> Result<Cluster> {
        let switch = Machine::new()?;
        switch.run(&["ip", "link", "add", "switch", "type", "bridge"])?;
        switch.run(&["ip", "link", "set", "switch", "up"])?;
        let mut cluster = Cluster {
            nodes: Vec::new(),
            plane: None,
            switch,
            arguments: arguments.iter().map(|&argument| argument.to_owned()).collect(),
            kubelet: KUBELET.to_owned(),
            programs,
        };
        for _ in 0..nodes {
            cluster.add()?;
        }
        Ok(cluster)
    }

    /// One more machine on the switch; nothing runs on it yet. Gives its number.
    pub fn add(&mut self) -> Result<usize> {
        let number = self.nodes.len();
        let machine = Machine::new()?;
        let port = port(number);
        let mut veth = Command::new("nsenter");
        veth.args(["--target", &self.switch.init().to_string(), "--net", "ip", "link", "add", &port]);
        veth.args(["type", "veth", "peer", "name", "eth0", "netns", &machine.init().to_string()]);
        output(&mut veth)?;
        self.switch.run(&["ip", "link", "set", &port, "master", "switch", "up"])?;
        machine.run(&["ip", "addr", "add", &format!("{}/24", self.address(number)), "dev", "eth0"])?;
        machine.run(&["ip", "link", "set", "eth0", "up"])?;
        self.nodes.push(Node::of(self.programs.clone(), machine)?);
        Ok(number)
    }

    /// Adds lines to the `KubeletConfiguration` of the nodes that are started from now on.
    pub fn configure(&mut self, lines: &str) {
        self.kubelet.push_str(lines);
    }

    /// Starts the control plane and all nodes, and waits until they are Ready.
    pub fn start(&mut self) -> Result<()> {
        if self.plane.is_some() {
            self.start_plane()?;
        }
        for number in 0..self.nodes.len() {
            self.start_node(number)?;
        }
        self.wait_ready()
    }

    /// Starts the control plane where it is apart, and waits until it answers.
    pub fn start_plane(&mut self) -> Result<()> {
        self.plane.as_mut().context("the control plane is not apart")?.start(&self.switch)?;
        self.wait_api()
    }

    /// Starts a node, waits for the API server if it runs one, and does not wait until it is Ready.
    pub fn start_node(&mut self, number: usize) -> Result<()> {
        self.launch(number)?;
        if number == 0 && self.plane.is_none() {
            self.wait_api()?;
        }
        Ok(())
    }

    /// Starts a node and waits for nothing: the first runs `cleat up` unless the control plane is apart, another joins, or
    /// takes up what it has joined before.
    pub fn launch(&mut self, number: usize) -> Result<()> {
        let joined = self.nodes[number].data().join("node/kubeconfig").exists();
        match number {
            0 if self.plane.is_none() => self.run_node(number, &["up"]),
            _ if joined => self.run_node(number, &["node"]),
            _ => {
                let (server, token) = self.invitation()?;
                self.run_node(number, &["join", &server, "--token", &token])
            }
        }
    }

    /// What a machine joins by: the control plane's address, and a new token.
    pub fn invitation(&self) -> Result<(String, String)> {
        let token = self.control(&["token", "create", "--quiet"])?.trim().to_owned();
        let address = if self.plane.is_some() { SWITCH } else { self.address(0) };
        Ok((format!("{address}:6443"), token))
    }

    /// Starts what makes a machine a node, e.g. `join …`, and waits for nothing.
    pub fn run_node(&mut self, number: usize, words: &[&str]) -> Result<()> {
        let certs = self.nodes[number].machine().folder().join("certs.d");
        let kubelet = self.nodes[number].machine().folder().join("kubelet.yaml");
        std::fs::write(&kubelet, &self.kubelet)?;
        let arguments = &self.arguments;
        self.nodes[number].start_as(words, |command| {
            command.arg("--registry-config").arg(certs).arg("--config").arg(kubelet).args(arguments);
        })
    }

    /// The administrator's kubeconfig.
    #[must_use]
    pub fn kubeconfig(&self) -> PathBuf {
        self.head().folder().join("data/control/admin.kubeconfig")
    }

    /// The machine of the control plane.
    fn head(&self) -> &Machine {
        if self.plane.is_some() { &self.switch } else { self.nodes[0].machine() }
    }

    /// Waits until the API server answers.
    pub fn wait_api(&mut self) -> Result<()> {
        wait::until("the API server to answer", READY_SECONDS_MAX, || {
            let (runs, log) = match &mut self.plane {
                Some(plane) => (plane.is_running(), plane.log()),
                None => (self.nodes[0].is_running(), self.nodes[0].log()),
            };
            if !runs {
                bail!("the control plane ended:\n{log}");
            }
            Ok(self.kubectl(&["get", "--raw", "/readyz"]).map_err(|error| format!("{error:#}")))
        })
        .map(drop)
    }

    /// Waits until every node is Ready. One that is short of something is an error at once: no pod would run on it.
    pub fn wait_ready(&self) -> Result<()> {
        let wanted = self.nodes.len();
        wait::until("all nodes to be Ready", READY_SECONDS_MAX, || {
            let nodes = match self.get(&["nodes"]) {
                Ok(nodes) => nodes,
                Err(error) => return Ok(Err(format!("{error:#}"))),
            };
            let items = nodes["items"].as_array().cloned().unwrap_or_default();
            if let Some(short) = items.iter().find_map(crate::node::pressure) {
                bail!("this machine has too little left for tests: {short}");
            }
            let ready = items.iter().filter(|node| crate::node::is_ready(node)).count();
            Ok(if ready == wanted {
                Ok(())
            } else {
                let conditions: Vec<_> =
                    items.iter().map(|n| n["status"]["conditions"].to_string()).collect();
                let logs: Vec<String> = self.nodes.iter().map(Node::log).collect();
                Err(format!("{ready} of {wanted}: {conditions:?}\n{}", logs.join("\n--- next node\n")))
            })
        })
    }

    /// All nodes, by their numbers.
    #[must_use]
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// A node by its number.
    #[must_use]
    pub fn node(&self, number: usize) -> &Node {
        &self.nodes[number]
    }

    /// A node by its number, to start and stop it.
    pub fn node_mut(&mut self, number: usize) -> &mut Node {
        &mut self.nodes[number]
    }

    /// The control plane, where it is apart.
    ///
    /// # Panics
    /// Where it is not.
    pub fn plane(&mut self) -> &mut Plane {
        self.plane.as_mut().expect("the control plane is apart")
    }

    /// Puts the control plane's state on a disk of its own, before its first start.
    pub fn use_disk(&mut self) -> Result<()> {
        self.plane.as_ref().context("the control plane is not apart")?.use_disk(&self.switch)
    }

    /// Freezes the disk that [`Cluster::use_disk`] has made until the value is dropped.
    pub fn freeze_disk(&self) -> Result<Frozen> {
        let plane = self.plane.as_ref().context("the control plane is not apart")?;
        Frozen::new(&self.switch, &plane.data())
    }

    /// Runs a command of `cleat` beside the control plane and gives what it prints.
    pub fn control(&self, arguments: &[&str]) -> Result<String> {
        let mut command = self.head().command(self.programs.join("cleat"));
        output(command.args(arguments).arg("--data-dir").arg(self.head().folder().join("data")))
            .with_context(|| format!("cleat {}", arguments.join(" ")))
    }

    /// A node's name in the cluster: that of its machine.
    pub fn name(&self, number: usize) -> Result<String> {
        Ok(self.nodes[number].machine().run(&["hostname"])?.trim().to_owned())
    }

    /// A node's address on the switch.
    #[must_use]
    pub fn address(&self, number: usize) -> Ipv4Addr {
        let last = u8::try_from(11 + number).unwrap_or(u8::MAX);
        Ipv4Addr::new(192, 0, 2, last)
    }

    /// Pulls a node's cable, or plugs it in again.
    pub fn cable(&self, number: usize, plugged: bool) -> Result<()> {
        let state = if plugged { "up" } else { "down" };
        self.switch.run(&["ip", "link", "set", &port(number), state]).map(drop)
    }

    /// A client beside the control plane that reads `KUBECONFIG`.
    #[must_use]
    pub fn client(&self, program: PathBuf) -> Command {
        let (machine, folder) = (self.head(), self.head().folder());
        let mut command = machine.command(program);
        command.env("HOME", folder).env("KUBECONFIG", self.kubeconfig()).current_dir(folder);
        command
    }

    /// Runs kubectl and gives what it prints.
    ///
    /// # Errors
    /// When it fails; with what it says.
    pub fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        self.kubectl_with(arguments, "")
    }

    /// [`Cluster::kubectl`] with something on its standard input.
    pub fn kubectl_with(&self, arguments: &[&str], input: &str) -> Result<String> {
        let mut command = self.client(pypi::kubectl()?);
        let done = feed(command.args(arguments), input)?;
        if !done.status.success() {
            bail!("kubectl {}: {}", arguments.join(" "), String::from_utf8_lossy(&done.stderr).trim());
        }
        Ok(String::from_utf8_lossy(&done.stdout).into_owned())
    }

    /// Runs kubectl to whatever end.
    pub fn kubectl_output(&self, arguments: &[&str], input: &str) -> Result<Output> {
        feed(self.client(pypi::kubectl()?).args(arguments), input)
    }

    /// Runs helm and gives what it prints.
    ///
    /// # Errors
    /// When it fails; with what it says.
    pub fn helm(&self, arguments: &[&str]) -> Result<String> {
        output(self.client(pypi::helm()?).args(arguments))
            .with_context(|| format!("helm {}", arguments.join(" ")))
    }

    /// `kubectl apply` of a manifest.
    pub fn apply(&self, manifest: &str) -> Result<String> {
        self.kubectl_with(&["apply", "-f", "-"], manifest)
    }

    /// `kubectl get … -o json`.
    pub fn get(&self, arguments: &[&str]) -> Result<Value> {
        let text = self.kubectl(&[&["get", "-o", "json"], arguments].concat())?;
        serde_json::from_str(&text).with_context(|| format!("kubectl get {arguments:?} printed {text}"))
    }

    /// Waits until `kubectl get` gives something that satisfies `condition`.
    pub fn wait(
        &self,
        what: &str,
        seconds: u64,
        arguments: &[&str],
        condition: impl Fn(&Value) -> bool,
    ) -> Result<Value> {
        wait::until(what, seconds, || {
            Ok(match self.get(arguments) {
                Ok(seen) if condition(&seen) => Ok(seen),
                Ok(seen) => Err(format!("{seen:#}")),
                Err(error) => Err(format!("{error:#}")),
            })
        })
    }
}

/// The switch's end of a node's cable.
fn port(number: usize) -> String {
    format!("port{number}")
}
