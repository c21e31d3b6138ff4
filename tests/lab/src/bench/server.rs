//! A CRI server on a throw-away machine: ours or containerd, and what it costs there.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use hyper_util::rt::TokioIo;
use lab::debian::Debian;
use lab::image::Image;
use lab::{Machine, Process, Registry, demo, peer};
use proto_cri::image_service_client::ImageServiceClient;
use proto_cri::runtime_service_client::RuntimeServiceClient;
use proto_cri::{ImageSpec, PullImageRequest, StatusRequest};
use serde_json::json;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint};

use super::process::{self, Memory};

/// What every container runs.
pub(crate) const IMAGE: &str = "registry.test/busybox:1";
const PAUSE: &str = "registry.test/pause:1";
const CONFLIST: &str = r#"{"cniVersion": "1.0.0", "name": "bench", "plugins": [
  {"type": "bridge", "bridge": "bench0", "isGateway": true, "ipMasq": true, "hairpinMode": true,
   "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.99.0.0/16"}]], "routes": [{"dst": "0.0.0.0/0"}]}},
  {"type": "portmap", "capabilities": {"portMappings": true}}]}"#;
/// A server, answering, with the benchmark's images.
pub(crate) struct Server {
    name: &'static str,
    runtime: RuntimeServiceClient<Channel>,
    binaries: Vec<PathBuf>,
    daemon: Process,
    machine: Machine,
}

impl Server {
    /// `cleat cri` from a folder of built programs.
    pub(crate) async fn ours(programs: &Path) -> Result<Server> {
        let machine = prepared()?;
        let folder = machine.folder().to_path_buf();
        let mut command = machine.command(programs.join("cleat"));
        command.arg("cri").arg("--data-dir").arg(folder.join("data"));
        command.arg("--registry-config").arg(folder.join("certs.d"));
        command.arg("--cni-conf-dir").arg(folder.join("net.d"));
        let binaries = ["cleat", "cleat-monitor", "cleat-cni"].map(|program| programs.join(program)).to_vec();
        Server::start("cleat", machine, command, "data/run/cri.sock", binaries).await
    }

    /// Debian's containerd with runc and the CNI project's plugins.
    pub(crate) async fn containerd() -> Result<Server> {
        let machine = prepared()?;
        let command = peer::containerd(&machine, PAUSE)?;
        let binaries = peer::CONTAINERD.map(PathBuf::from).to_vec();
        let server = Server::start("containerd", machine, command, "containerd.sock", binaries).await?;
        server.pull(PAUSE).await?;
        Ok(server)
    }

    async fn start(
        name: &'static str,
        machine: Machine,
        mut command: Command,
        socket: &str,
        binaries: Vec<PathBuf>,
    ) -> Result<Server> {
        let log = machine.folder().join("log");
        let file = fs::File::create(&log)?;
        let daemon = machine.spawn({
            command.stdout(file.try_clone()?).stderr(file);
            command
        })?;
        let channel = connect(&machine.folder().join(socket)).await;
        let told = || format!("{name}: {}", fs::read_to_string(&log).unwrap_or_default());
        let runtime = RuntimeServiceClient::new(channel.with_context(told)?);
        let server = Server { name, runtime, binaries, daemon, machine };
        server.pull(IMAGE).await.with_context(told)?;
        Ok(server)
    }

    async fn pull(&self, image: &str) -> Result<()> {
        let socket = match self.name {
            "cleat" => "data/run/cri.sock",
            _ => "containerd.sock",
        };
        let mut images = ImageServiceClient::new(connect(&self.machine.folder().join(socket)).await?);
        let image = Some(ImageSpec { image: image.to_owned(), ..Default::default() });
        images.pull_image(PullImageRequest { image, ..Default::default() }).await.context("PullImage")?;
        Ok(())
    }

    /// `cleat` or `containerd`.
    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    /// A client.
    pub(crate) fn runtime(&self) -> RuntimeServiceClient<Channel> {
        self.runtime.clone()
    }

    /// The programs that take part.
    pub(crate) fn binaries(&self) -> Vec<PathBuf> {
        self.binaries.clone()
    }

    /// CPU time of everything on the machine so far, ended processes included.
    pub(crate) fn cpu(&self) -> Result<Duration> {
        process::cpu(&self.machine)
    }

    /// Proportional set size of the daemon in kB.
    pub(crate) fn daemon_kb(&self) -> Result<u64> {
        Ok(Memory::of(self.daemon.pid()).context("the daemon is gone")?.pss)
    }

    /// Proportional set size of all processes that exist for the pods, without their workload, in kB.
    pub(crate) fn pods_kb(&self) -> Result<u64> {
        let others = process::of_runtime(&self.machine).filter(|pid| *pid != self.daemon.pid());
        Ok(others.filter_map(Memory::of).map(|memory| memory.pss).sum())
    }
}

/// A machine with a registry that holds the images, its configuration, and a CNI configuration list.
fn prepared() -> Result<Machine> {
    let machine = Machine::new()?;
    let registry = Registry::start(&machine)?;
    let debian = Debian::open()?;
    registry.push("pause", "1", &demo::pause(&debian)?);
    let path = "PATH=/usr/bin:/bin";
    registry.push(
        "busybox",
        "1",
        &Image::new(&[&demo::base(&debian)?], &json!({ "Cmd": ["sh"], "Env": [path] }))?,
    );
    registry.mirror("registry.test", &machine.folder().join("certs.d"))?;
    let net = machine.folder().join("net.d");
    fs::create_dir_all(&net)?;
    fs::write(net.join("10-bench.conflist"), CONFLIST)?;
    Ok(machine)
}

/// Connects when the server answers, at most 30 s later.
async fn connect(socket: &Path) -> Result<Channel> {
    let mut last = None;
    for _ in 0..300 {
        let path = socket.to_path_buf();
        let connector = tower::service_fn(move |_| {
            let path = path.clone();
            async move { anyhow::Ok(TokioIo::new(UnixStream::connect(path).await?)) }
        });
        match Endpoint::from_static("http://cri").connect_with_connector(connector).await {
            Ok(channel) => {
                match RuntimeServiceClient::new(channel.clone()).status(StatusRequest::default()).await {
                    Ok(_) => return Ok(channel),
                    Err(status) => last = Some(anyhow::Error::new(status)),
                }
            }
            Err(error) => last = Some(anyhow::Error::new(error)),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Err(last.context("never tried")?).with_context(|| format!("{} does not answer", socket.display()))
}
