//! A machine with a registry, and this test executable run again inside it as the CRI server.

use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use cri::Config;
use hyper_util::rt::TokioIo;
use lab::{Machine, Process, Registry, Snapshot, wait};
use proto_cri::image_service_client::ImageServiceClient;
use proto_cri::runtime_service_client::RuntimeServiceClient;
use proto_cri::*;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tonic::transport::{Channel, Endpoint};

const SERVE: &str = "CLEAT_TEST_SERVE";
pub(crate) const IMAGE: &str = "docker.io/library/busybox:1.35";

/// Not a test by itself: with the variable set it is the server.
#[test]
fn serve() {
    let Some(folder) = std::env::var_os(SERVE).map(PathBuf::from) else { return };
    tracing_subscriber::fmt().with_env_filter("info").with_ansi(false).with_writer(std::io::stderr).init();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(cri::run(config(&folder), CancellationToken::new())).unwrap();
}

/// The folder with `cleat-monitor` and `cleat-cni`, built once.
fn programs() -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    let build = || {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let words = ["build", "--quiet", "--bins", "--package", "monitor", "--package", "cni-plugins"];
        assert!(Command::new(cargo).args(words).status().unwrap().success());
        lab::programs::target().unwrap().join("debug")
    };
    BUILT.get_or_init(build).clone()
}

fn config(folder: &Path) -> Config {
    Config {
        monitor: lab::programs::target().unwrap().join("debug/cleat-monitor"),
        registry_dirs: vec![folder.join("certs.d")],
        cgroup_parent: "/crtest/own".to_owned(),
        ..Config::new(&folder.join("data"), &folder.join("run"))
    }
}

pub(crate) struct Node {
    process: Option<Process>,
    pub(crate) folder: PathBuf,
    pub(crate) machine: Machine,
    _registry: Registry,
}

impl Node {
    pub(crate) fn new() -> Node {
        let programs = programs();
        let machine = Machine::new().unwrap();
        let registry = Registry::start(&machine).unwrap();
        let folder = machine.folder().to_path_buf();
        for named in lab::demo::images().unwrap().iter().filter(|named| named.reference == IMAGE) {
            registry.push("library/busybox", "1.35", &named.image);
        }
        registry.mirror("docker.io", &folder.join("certs.d")).unwrap();
        let config = config(&folder);
        cni_invoke::install(&config.cni_bin_dirs[0], &programs.join("cleat-cni")).unwrap();
        fs::create_dir_all(&config.cni_conf_dir).unwrap();
        let subnets = ["10.99.0.0/24".parse().unwrap()];
        let list = cni_invoke::default_conflist("pods", "crtest0", &subnets, &folder.join("data/cni/leases"));
        fs::write(config.cni_conf_dir.join("10-pods.conflist"), list).unwrap();
        Node { process: None, folder, machine, _registry: registry }
    }

    /// Starts the server; with `crash` it dies at that point.
    pub(crate) fn start(&mut self, crash: Option<&str>) {
        let mut command = self.machine.command(std::env::current_exe().unwrap());
        let log = fs::File::options().create(true).append(true).open(self.folder.join("log")).unwrap();
        command.args(["--exact", "node::serve", "--nocapture"]).env(SERVE, &self.folder);
        command.stdout(log.try_clone().unwrap()).stderr(log);
        match crash {
            Some(point) => command.env(linux::crash::VARIABLE, point),
            None => command.env_remove(linux::crash::VARIABLE),
        };
        self.process = Some(self.machine.spawn(command).unwrap());
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.process.as_mut().is_some_and(Process::is_running)
    }

    /// Waits for the end that a crash point brings.
    pub(crate) fn expect_death(&mut self) {
        let status = self.process.take().unwrap().wait(20).unwrap();
        assert!(status.signal() == Some(9) || status.code() == Some(137), "{status}: {}", self.log());
    }

    pub(crate) fn kill(&mut self) {
        let mut process = self.process.take().unwrap();
        process.signal(rustix::process::Signal::KILL).unwrap();
        process.wait(10).unwrap();
    }

    /// A client, when the server answers.
    pub(crate) async fn client(&mut self) -> Client {
        let socket = self.folder.join("run/cri.sock");
        for _ in 0..600 {
            assert!(self.is_running(), "the server ended: {}", self.log());
            if let Ok(mut client) = Client::connect(&socket).await
                && client.runtime.version(VersionRequest::default()).await.is_ok()
            {
                return client;
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        panic!("the server does not answer: {}", self.log());
    }

    /// A snapshot after one pod has come and gone, so that the bridge and the lock files are there.
    pub(crate) async fn rested(&self, client: &mut Client) -> Snapshot {
        client.pull().await.unwrap();
        let id = client.run_pod(PodSandboxConfig { linux: None, ..pod(self, "zeroth") }).await.unwrap();
        client.create(&id, shell("zeroth", "true")).await.unwrap();
        client.remove_pod(&id).await.unwrap();
        let id = client.run_pod(pod(self, "first")).await.unwrap();
        client.create(&id, shell("first", "true")).await.unwrap();
        client.remove_pod(&id).await.unwrap();
        let idle = || self.machine.run(&["ip", "route"]).is_ok_and(|routes| routes.contains("linkdown"));
        wait::until_true("the bridge to lose its last port", 10, idle).unwrap();
        self.snapshot()
    }

    /// Mounts, links, processes, cgroups, files of pods and containers; images may stay.
    pub(crate) fn snapshot(&self) -> Snapshot {
        let (data, run) = (self.folder.join("data"), self.folder.join("run"));
        let ours =
            [data.join("snapshots"), data.join("cri"), data.join("cni"), data.join("images/holds"), run];
        let folders: Vec<&Path> = ours.iter().map(PathBuf::as_path).collect();
        Snapshot::take(&self.machine, &folders, |path| !path.ends_with("cri.sock")).unwrap()
    }

    pub(crate) fn expect_nothing_new(&self, before: &Snapshot) {
        before
            .expect_nothing_new(10, || Ok(self.snapshot()))
            .unwrap_or_else(|error| panic!("{error}\n{}", self.log()));
    }
}

#[derive(Clone)]
pub(crate) struct Client {
    pub(crate) runtime: RuntimeServiceClient<Channel>,
    pub(crate) images: ImageServiceClient<Channel>,
}

impl Client {
    async fn connect(socket: &Path) -> Result<Client, tonic::transport::Error> {
        let socket = socket.to_owned();
        let connect = move |_: http::Uri| {
            let socket = socket.clone();
            async move { Ok::<_, std::io::Error>(TokioIo::new(tokio::net::UnixStream::connect(socket).await?)) }
        };
        let channel =
            Endpoint::from_static("http://cri").connect_with_connector(tower::service_fn(connect)).await?;
        Ok(Client {
            runtime: RuntimeServiceClient::new(channel.clone()),
            images: ImageServiceClient::new(channel),
        })
    }

    pub(crate) async fn pull(&mut self) -> Result<String, Status> {
        let image = Some(ImageSpec { image: IMAGE.to_owned(), ..Default::default() });
        let request = PullImageRequest { image, ..Default::default() };
        Ok(self.images.pull_image(request).await?.into_inner().image_ref)
    }

    pub(crate) async fn run_pod(&mut self, config: PodSandboxConfig) -> Result<String, Status> {
        let request = RunPodSandboxRequest { config: Some(config), ..Default::default() };
        Ok(self.runtime.run_pod_sandbox(request).await?.into_inner().pod_sandbox_id)
    }

    pub(crate) async fn create(&mut self, pod: &str, config: ContainerConfig) -> Result<String, Status> {
        let request = CreateContainerRequest {
            pod_sandbox_id: pod.to_owned(),
            config: Some(config),
            sandbox_config: Some(PodSandboxConfig::default()),
        };
        Ok(self.runtime.create_container(request).await?.into_inner().container_id)
    }

    pub(crate) async fn start(&mut self, id: &str) -> Result<(), Status> {
        let request = StartContainerRequest { container_id: id.to_owned() };
        self.runtime.start_container(request).await.map(drop)
    }

    pub(crate) async fn stop(&mut self, id: &str, timeout: i64) -> Result<(), Status> {
        let request = StopContainerRequest { container_id: id.to_owned(), timeout };
        self.runtime.stop_container(request).await.map(drop)
    }

    pub(crate) async fn remove(&mut self, id: &str) -> Result<(), Status> {
        let request = RemoveContainerRequest { container_id: id.to_owned() };
        self.runtime.remove_container(request).await.map(drop)
    }

    pub(crate) async fn stop_pod(&mut self, id: &str) -> Result<(), Status> {
        let request = StopPodSandboxRequest { pod_sandbox_id: id.to_owned() };
        self.runtime.stop_pod_sandbox(request).await.map(drop)
    }

    pub(crate) async fn remove_pod(&mut self, id: &str) -> Result<(), Status> {
        let request = RemovePodSandboxRequest { pod_sandbox_id: id.to_owned() };
        self.runtime.remove_pod_sandbox(request).await.map(drop)
    }

    pub(crate) async fn exec(
        &mut self,
        id: &str,
        words: &[&str],
        timeout: i64,
    ) -> Result<ExecSyncResponse, Status> {
        let cmd = words.iter().map(ToString::to_string).collect();
        let request = ExecSyncRequest { container_id: id.to_owned(), cmd, timeout };
        Ok(self.runtime.exec_sync(request).await?.into_inner())
    }

    pub(crate) async fn status(&mut self, id: &str) -> Result<ContainerStatus, Status> {
        let request = ContainerStatusRequest { container_id: id.to_owned(), verbose: false };
        Ok(self.runtime.container_status(request).await?.into_inner().status.unwrap())
    }

    /// The process of a running container.
    pub(crate) async fn pid(&mut self, id: &str) -> u64 {
        let request = ContainerStatusRequest { container_id: id.to_owned(), verbose: true };
        let info = self.runtime.container_status(request).await.unwrap().into_inner().info;
        let info: serde_json::Value = serde_json::from_str(&info["info"]).unwrap();
        info["pid"].as_u64().unwrap()
    }

    pub(crate) async fn pod_status(&mut self, id: &str) -> Result<PodSandboxStatus, Status> {
        let request = PodSandboxStatusRequest { pod_sandbox_id: id.to_owned(), verbose: false };
        Ok(self.runtime.pod_sandbox_status(request).await?.into_inner().status.unwrap())
    }

    pub(crate) async fn wait_state(&mut self, id: &str, state: ContainerState) -> ContainerStatus {
        for _ in 0..400 {
            let status = self.status(id).await.unwrap();
            if status.state() == state {
                return status;
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        panic!("container {id} is not {state:?}: {:?}", self.status(id).await);
    }

    /// Removes every sandbox.
    pub(crate) async fn remove_all(&mut self) {
        let all = self.runtime.list_pod_sandbox(ListPodSandboxRequest::default()).await.unwrap().into_inner();
        for pod in all.items {
            self.stop_pod(&pod.id).await.unwrap();
            self.remove_pod(&pod.id).await.unwrap();
        }
    }
}

pub(crate) fn pod(node: &Node, name: &str) -> PodSandboxConfig {
    let metadata = PodSandboxMetadata {
        name: name.to_owned(),
        uid: format!("uid-{name}"),
        namespace: "default".to_owned(),
        attempt: 0,
    };
    PodSandboxConfig {
        metadata: Some(metadata),
        hostname: name.to_owned(),
        log_directory: node.folder.join("logs").join(name).display().to_string(),
        linux: Some(LinuxPodSandboxConfig { cgroup_parent: "/crtest/pods".to_owned(), ..Default::default() }),
        ..Default::default()
    }
}

pub(crate) fn shell(name: &str, script: &str) -> ContainerConfig {
    ContainerConfig {
        metadata: Some(ContainerMetadata { name: name.to_owned(), attempt: 0 }),
        image: Some(ImageSpec { image: IMAGE.to_owned(), ..Default::default() }),
        command: ["sh", "-c", script].map(ToOwned::to_owned).into(),
        log_path: format!("{name}/0.log"),
        ..Default::default()
    }
}

/// Waits for a line in a container's log.
pub(crate) fn expect_log(node: &Node, pod: &str, container: &str, text: &str) {
    let path = node.folder.join("logs").join(pod).join(container).join("0.log");
    wait::until("a line in the log", 10, || {
        let log = fs::read_to_string(&path).unwrap_or_default();
        Ok(if log.contains(text) { Ok(()) } else { Err(log) })
    })
    .unwrap();
}
