//! One pod with one container through CRI, each call timed.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use proto_cri::{
    ContainerConfig, ContainerMetadata, CreateContainerRequest, ImageSpec, LinuxPodSandboxConfig,
    PodSandboxConfig, PodSandboxMetadata, PortMapping, RemoveContainerRequest, RemovePodSandboxRequest,
    RunPodSandboxRequest, StartContainerRequest, StopContainerRequest, StopPodSandboxRequest,
};

use super::server::{IMAGE, Server};
use super::table::Budget;

/// The command of every benchmarked container; by it the workload is told from the runtime's own processes.
pub(crate) const WORKLOAD: [&str; 2] = ["sleep", "86399"];
const FIRST_HOST_PORT: i32 = 20_000;

/// How long each call of a pod's life took.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Life {
    run: Duration,
    create: Duration,
    start: Duration,
    stop_container: Duration,
    remove_container: Duration,
    stop: Duration,
    remove: Duration,
}

/// A call's name, where its time is, and its budget.
type Call = (&'static str, fn(&Life) -> Duration, Budget);

impl Life {
    /// What the table shows.
    pub(crate) const CALLS: [Call; 9] = [
        ("RunPodSandbox", |l| l.run, Budget::None),
        ("CreateContainer", |l| l.create, Budget::None),
        ("StartContainer", |l| l.start, Budget::None),
        ("pod to running", |l| l.run + l.create + l.start, Budget::AtMost(27.0)),
        ("StopContainer", |l| l.stop_container, Budget::None),
        ("RemoveContainer", |l| l.remove_container, Budget::None),
        ("StopPodSandbox", |l| l.stop, Budget::AtMost(25.0)),
        ("RemovePodSandbox", |l| l.remove, Budget::None),
        ("a whole life", Life::total, Budget::None),
    ];

    fn total(&self) -> Duration {
        self.run
            + self.create
            + self.start
            + self.stop_container
            + self.remove_container
            + self.stop
            + self.remove
    }

    /// Runs a pod from its sandbox to nothing.
    pub(crate) async fn of(server: &Server, pod: &Pod) -> Result<Life> {
        let started = pod.start(server).await?;
        started.end(server).await
    }
}

/// A pod to start.
pub(crate) struct Pod {
    config: PodSandboxConfig,
}

/// A pod that runs.
pub(crate) struct Started {
    sandbox: String,
    container: String,
    life: Life,
}

impl Pod {
    /// A pod with a name, an address and a host port of its own.
    pub(crate) fn numbered(number: usize) -> Pod {
        let host_port = FIRST_HOST_PORT + i32::try_from(number % 10_000).unwrap_or_default();
        let metadata = PodSandboxMetadata {
            name: format!("bench-{number}"),
            uid: format!("00000000-0000-4000-8000-{number:012}"),
            namespace: "bench".to_owned(),
            attempt: 0,
        };
        let config = PodSandboxConfig {
            metadata: Some(metadata),
            hostname: format!("bench-{number}"),
            port_mappings: vec![PortMapping { container_port: 80, host_port, ..PortMapping::default() }],
            labels: HashMap::from([("bench".to_owned(), "pod".to_owned())]),
            linux: Some(LinuxPodSandboxConfig { cgroup_parent: "/bench".to_owned(), ..Default::default() }),
            ..PodSandboxConfig::default()
        };
        Pod { config }
    }

    /// Sandbox, container, start.
    pub(crate) async fn start(&self, server: &Server) -> Result<Started> {
        let mut runtime = server.runtime();
        let config = Some(self.config.clone());
        let request = RunPodSandboxRequest { config: config.clone(), ..Default::default() };
        let (run, reply) = timed(runtime.run_pod_sandbox(request)).await.context("RunPodSandbox")?;
        let sandbox = reply.into_inner().pod_sandbox_id;
        let container = ContainerConfig {
            metadata: Some(ContainerMetadata { name: "c".to_owned(), attempt: 0 }),
            image: Some(ImageSpec { image: IMAGE.to_owned(), ..Default::default() }),
            command: WORKLOAD.map(str::to_owned).to_vec(),
            ..ContainerConfig::default()
        };
        let request = CreateContainerRequest {
            pod_sandbox_id: sandbox.clone(),
            config: Some(container),
            sandbox_config: config,
        };
        let (create, reply) = timed(runtime.create_container(request)).await.context("CreateContainer")?;
        let container = reply.into_inner().container_id;
        let request = StartContainerRequest { container_id: container.clone() };
        let (start, _) = timed(runtime.start_container(request)).await.context("StartContainer")?;
        Ok(Started { sandbox, container, life: Life { run, create, start, ..Life::default() } })
    }
}

impl Started {
    /// Container and sandbox stopped and removed; gives the times of the whole life.
    pub(crate) async fn end(self, server: &Server) -> Result<Life> {
        let Started { sandbox: pod_sandbox_id, container: container_id, mut life } = self;
        let mut runtime = server.runtime();
        // The first process of a pid namespace does not see SIGTERM without a handler: no grace, as in the peer's figures.
        let request = StopContainerRequest { container_id: container_id.clone(), timeout: 0 };
        (life.stop_container, _) = timed(runtime.stop_container(request)).await.context("StopContainer")?;
        let request = RemoveContainerRequest { container_id };
        (life.remove_container, _) =
            timed(runtime.remove_container(request)).await.context("RemoveContainer")?;
        let request = StopPodSandboxRequest { pod_sandbox_id: pod_sandbox_id.clone() };
        (life.stop, _) = timed(runtime.stop_pod_sandbox(request)).await.context("StopPodSandbox")?;
        let request = RemovePodSandboxRequest { pod_sandbox_id };
        (life.remove, _) = timed(runtime.remove_pod_sandbox(request)).await.context("RemovePodSandbox")?;
        Ok(life)
    }
}

async fn timed<T, E>(call: impl Future<Output = Result<T, E>>) -> Result<(Duration, T), E> {
    let start = Instant::now();
    let reply = call.await?;
    Ok((start.elapsed(), reply))
}
