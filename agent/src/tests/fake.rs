//! A CRI server in memory: what it is asked it does, unless a test has told it to fail or to wait.

use std::collections::{BTreeMap, HashMap};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};

use proto_cri::image_service_server::{ImageService, ImageServiceServer};
use proto_cri::runtime_service_server::{RuntimeService, RuntimeServiceServer};
use proto_cri::*;
use tokio::sync::broadcast;
use tokio_stream::StreamExt;
use tonic::{Request, Response, Status};

use crate::clock::Clock;

/// A container of the fake.
#[derive(Debug, Clone)]
pub(crate) struct Held {
    pub(crate) config: ContainerConfig,
    pub(crate) sandbox: String,
    pub(crate) status: ContainerStatus,
}

/// What the fake has.
#[derive(Debug, Default)]
pub(crate) struct Inside {
    pub(crate) sandboxes: BTreeMap<String, (PodSandboxConfig, PodSandboxState)>,
    pub(crate) containers: BTreeMap<String, Held>,
    /// Every call that changes something, in words.
    pub(crate) calls: Vec<String>,
    /// Calls to fail, by their first word, each so many times.
    pub(crate) faults: HashMap<String, u32>,
    /// What ExecSync answers, by the command's first word; 0 without.
    pub(crate) exec: HashMap<String, i32>,
    number: u32,
}

/// The fake; clones share it.
#[derive(Clone)]
pub(crate) struct Fake {
    clock: Clock,
    inside: Arc<Mutex<Inside>>,
    events: broadcast::Sender<ContainerEventResponse>,
}

impl Fake {
    pub(crate) fn new(clock: Clock) -> Self {
        Self { clock, inside: Arc::default(), events: broadcast::channel(1000).0 }
    }

    pub(crate) fn inside(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap()
    }

    /// A channel to it.
    pub(crate) async fn channel(&self) -> tonic::transport::Channel {
        let fake = self.clone();
        let connector = tower::service_fn(move |_| {
            let (ours, theirs) = tokio::io::duplex(1 << 20);
            let router = tonic::transport::Server::builder()
                .add_service(RuntimeServiceServer::new(fake.clone()))
                .add_service(ImageServiceServer::new(fake.clone()));
            let stream = tokio_stream::once(Ok::<_, std::io::Error>(theirs)).chain(tokio_stream::pending());
            tokio::spawn(router.serve_with_incoming(stream));
            async move { Ok::<_, std::io::Error>(hyper_util::rt::TokioIo::new(ours)) }
        });
        tonic::transport::Endpoint::from_static("http://fake")
            .connect_with_connector(connector)
            .await
            .unwrap()
    }

    /// Answers on a socket, for ever.
    #[allow(dead_code)]
    pub(crate) async fn listen(self, socket: &std::path::Path) {
        let listener = tokio::net::UnixListener::bind(socket).unwrap();
        let incoming = tokio_stream::wrappers::UnixListenerStream::new(listener);
        let router = tonic::transport::Server::builder()
            .add_service(RuntimeServiceServer::new(self.clone()))
            .add_service(ImageServiceServer::new(self));
        router.serve_with_incoming(incoming).await.unwrap();
    }

    fn call(&self, words: String) -> Result<MutexGuard<'_, Inside>, Status> {
        let mut inside = self.inside();
        let first = words.split(' ').next().unwrap_or_default().to_owned();
        inside.calls.push(words);
        match inside.faults.get_mut(&first).filter(|left| **left > 0) {
            Some(left) => {
                *left -= 1;
                Err(Status::internal(format!("{first} fails as told")))
            }
            None => Ok(inside),
        }
    }

    fn tell(&self, id: &str, uid: &str) {
        let metadata = PodSandboxMetadata { uid: uid.into(), ..Default::default() };
        let pod_sandbox_status = Some(PodSandboxStatus { metadata: Some(metadata), ..Default::default() });
        let event =
            ContainerEventResponse { container_id: id.into(), pod_sandbox_status, ..Default::default() };
        let _ = self.events.send(event);
    }

    /// The running container of a name ends.
    pub(crate) fn exit(&self, name: &str, exit_code: i32) {
        let (id, uid) = {
            let mut inside = self.inside();
            let running = |h: &&mut Held| {
                h.config.metadata.as_ref().unwrap().name == name
                    && h.status.state() == proto_cri::ContainerState::ContainerRunning
            };
            let now = self.nanoseconds();
            let held = inside.containers.values_mut().find(running).unwrap();
            end(held, exit_code, now);
            (held.status.id.clone(), held.config.labels[crate::labels::POD_UID].clone())
        };
        self.tell(&id, &uid);
    }

    fn nanoseconds(&self) -> i64 {
        i64::try_from(self.clock.now().as_nanosecond()).unwrap()
    }
}

fn end(held: &mut Held, exit_code: i32, now: i64) {
    held.status.set_state(proto_cri::ContainerState::ContainerExited);
    held.status.exit_code = exit_code;
    held.status.finished_at = now;
}

fn matches(labels: &HashMap<String, String>, selector: &HashMap<String, String>) -> bool {
    selector.iter().all(|(key, value)| labels.get(key) == Some(value))
}

type Reply<T> = Result<Response<T>, Status>;
type Streamed<T> = Pin<Box<dyn tokio_stream::Stream<Item = Result<T, Status>> + Send>>;

/// Calls that no test needs.
macro_rules! unanswered {
    ($($name:ident($request:ty) -> $response:ty;)*) => {
        // As `async_trait` writes it: that does not look into macros.
        $(fn $name<'life0, 'async_trait>(
            &'life0 self,
            _: Request<$request>,
        ) -> Pin<Box<dyn Future<Output = Reply<$response>> + Send + 'async_trait>>
        where
            'life0: 'async_trait,
            Self: 'async_trait,
        {
            Box::pin(async { Err(Status::unimplemented(stringify!($name))) })
        })*
    };
}

#[tonic::async_trait]
impl RuntimeService for Fake {
    type GetContainerEventsStream = Streamed<ContainerEventResponse>;
    type StreamPodSandboxesStream = Streamed<StreamPodSandboxesResponse>;
    type StreamContainersStream = Streamed<StreamContainersResponse>;
    type StreamContainerStatsStream = Streamed<StreamContainerStatsResponse>;
    type StreamPodSandboxStatsStream = Streamed<StreamPodSandboxStatsResponse>;
    type StreamPodSandboxMetricsStream = Streamed<StreamPodSandboxMetricsResponse>;

    async fn version(&self, _: Request<VersionRequest>) -> Reply<VersionResponse> {
        Ok(Response::new(VersionResponse { runtime_name: "fake".into(), ..Default::default() }))
    }

    async fn status(&self, _: Request<StatusRequest>) -> Reply<StatusResponse> {
        Ok(Response::new(StatusResponse::default()))
    }

    async fn run_pod_sandbox(&self, request: Request<RunPodSandboxRequest>) -> Reply<RunPodSandboxResponse> {
        let config = request.into_inner().config.unwrap_or_default();
        let metadata = config.metadata.clone().unwrap_or_default();
        let id = {
            let mut inside = self.call(format!("sandbox {} {}", metadata.name, metadata.attempt))?;
            inside.number += 1;
            let id = format!("s{}", inside.number);
            inside.sandboxes.insert(id.clone(), (config, PodSandboxState::SandboxReady));
            id
        };
        self.tell(&id, &metadata.uid);
        Ok(Response::new(RunPodSandboxResponse { pod_sandbox_id: id }))
    }

    async fn stop_pod_sandbox(
        &self,
        request: Request<StopPodSandboxRequest>,
    ) -> Reply<StopPodSandboxResponse> {
        let id = request.into_inner().pod_sandbox_id;
        let now = self.nanoseconds();
        let mut inside = self.call(format!("stop-sandbox {id}"))?;
        if let Some(sandbox) = inside.sandboxes.get_mut(&id) {
            sandbox.1 = PodSandboxState::SandboxNotready;
        }
        let of = |h: &&mut Held| h.sandbox == id && h.status.state() == ContainerState::ContainerRunning;
        inside.containers.values_mut().filter(of).for_each(|h| end(h, 137, now));
        Ok(Response::new(StopPodSandboxResponse {}))
    }

    async fn remove_pod_sandbox(
        &self,
        request: Request<RemovePodSandboxRequest>,
    ) -> Reply<RemovePodSandboxResponse> {
        let id = request.into_inner().pod_sandbox_id;
        self.call(format!("remove-sandbox {id}"))?.sandboxes.remove(&id);
        Ok(Response::new(RemovePodSandboxResponse {}))
    }

    async fn pod_sandbox_status(
        &self,
        request: Request<PodSandboxStatusRequest>,
    ) -> Reply<PodSandboxStatusResponse> {
        let id = request.into_inner().pod_sandbox_id;
        let network = Some(PodSandboxNetworkStatus { ip: "10.0.0.7".into(), additional_ips: Vec::new() });
        let status = Some(PodSandboxStatus { id, network, ..Default::default() });
        Ok(Response::new(PodSandboxStatusResponse { status, ..Default::default() }))
    }

    async fn list_pod_sandbox(
        &self,
        request: Request<ListPodSandboxRequest>,
    ) -> Reply<ListPodSandboxResponse> {
        let selector = request.into_inner().filter.unwrap_or_default().label_selector;
        let inside = self.inside();
        let wanted = inside.sandboxes.iter().filter(|(_, (config, _))| matches(&config.labels, &selector));
        let items = wanted.map(|(id, (config, state))| PodSandbox {
            id: id.clone(),
            metadata: config.metadata.clone(),
            state: (*state).into(),
            labels: config.labels.clone(),
            annotations: config.annotations.clone(),
            ..Default::default()
        });
        Ok(Response::new(ListPodSandboxResponse { items: items.collect() }))
    }

    async fn create_container(
        &self,
        request: Request<CreateContainerRequest>,
    ) -> Reply<CreateContainerResponse> {
        let CreateContainerRequest { pod_sandbox_id, config, sandbox_config } = request.into_inner();
        let (config, sandbox) = (config.unwrap_or_default(), sandbox_config.unwrap_or_default());
        let metadata = config.metadata.clone().unwrap_or_default();
        let mut inside = self.call(format!("create {} {}", metadata.name, metadata.attempt))?;
        inside.number += 1;
        let id = format!("c{}", inside.number);
        let status = ContainerStatus {
            id: id.clone(),
            metadata: config.metadata.clone(),
            annotations: config.annotations.clone(),
            labels: config.labels.clone(),
            mounts: config.mounts.clone(),
            image: config.image.clone(),
            image_ref: "sha256:1".into(),
            log_path: format!("{}/{}", sandbox.log_directory, config.log_path),
            ..Default::default()
        };
        inside.containers.insert(id.clone(), Held { config, sandbox: pod_sandbox_id, status });
        Ok(Response::new(CreateContainerResponse { container_id: id }))
    }

    async fn start_container(
        &self,
        request: Request<StartContainerRequest>,
    ) -> Reply<StartContainerResponse> {
        let id = request.into_inner().container_id;
        let now = self.nanoseconds();
        let name = self.inside().containers[&id].config.metadata.clone().unwrap_or_default().name;
        let mut inside = self.call(format!("start {name}"))?;
        let status = &mut inside.containers.get_mut(&id).ok_or_else(|| Status::not_found("gone"))?.status;
        status.set_state(ContainerState::ContainerRunning);
        std::fs::write(&status.log_path, "").unwrap();
        status.started_at = now;
        Ok(Response::new(StartContainerResponse {}))
    }

    async fn stop_container(&self, request: Request<StopContainerRequest>) -> Reply<StopContainerResponse> {
        let StopContainerRequest { container_id: id, timeout } = request.into_inner();
        let now = self.nanoseconds();
        let name = self.inside().containers[&id].config.metadata.clone().unwrap_or_default().name;
        let mut inside = self.call(format!("stop {name} {timeout}"))?;
        end(inside.containers.get_mut(&id).ok_or_else(|| Status::not_found("gone"))?, 143, now);
        Ok(Response::new(StopContainerResponse {}))
    }

    async fn remove_container(
        &self,
        request: Request<RemoveContainerRequest>,
    ) -> Reply<RemoveContainerResponse> {
        let id = request.into_inner().container_id;
        self.call(format!("remove {id}"))?.containers.remove(&id);
        Ok(Response::new(RemoveContainerResponse {}))
    }

    async fn list_containers(
        &self,
        request: Request<ListContainersRequest>,
    ) -> Reply<ListContainersResponse> {
        let selector = request.into_inner().filter.unwrap_or_default().label_selector;
        let inside = self.inside();
        let wanted = inside.containers.iter().filter(|(_, held)| matches(&held.config.labels, &selector));
        let containers = wanted.map(|(id, held)| Container {
            id: id.clone(),
            pod_sandbox_id: held.sandbox.clone(),
            metadata: held.config.metadata.clone(),
            state: held.status.state,
            labels: held.config.labels.clone(),
            annotations: held.config.annotations.clone(),
            ..Default::default()
        });
        Ok(Response::new(ListContainersResponse { containers: containers.collect() }))
    }

    async fn container_status(
        &self,
        request: Request<ContainerStatusRequest>,
    ) -> Reply<ContainerStatusResponse> {
        let inside = self.inside();
        let held = inside.containers.get(&request.into_inner().container_id);
        let status = held.ok_or_else(|| Status::not_found("no such container"))?.status.clone();
        Ok(Response::new(ContainerStatusResponse { status: Some(status), ..Default::default() }))
    }

    async fn exec_sync(&self, request: Request<ExecSyncRequest>) -> Reply<ExecSyncResponse> {
        let command = request.into_inner().cmd;
        let first = command.first().cloned().unwrap_or_default();
        let inside = self.call(format!("exec {}", command.join(" ")))?;
        let exit_code = inside.exec.get(&first).copied().unwrap_or(0);
        Ok(Response::new(ExecSyncResponse { exit_code, ..Default::default() }))
    }

    async fn reopen_container_log(
        &self,
        request: Request<ReopenContainerLogRequest>,
    ) -> Reply<ReopenContainerLogResponse> {
        let id = request.into_inner().container_id;
        let inside = self.call(format!("reopen {id}"))?;
        std::fs::write(&inside.containers[&id].status.log_path, "").unwrap();
        Ok(Response::new(ReopenContainerLogResponse {}))
    }

    async fn get_container_events(
        &self,
        _: Request<GetEventsRequest>,
    ) -> Reply<Self::GetContainerEventsStream> {
        let stream = tokio_stream::wrappers::BroadcastStream::new(self.events.subscribe());
        let stream = stream.filter_map(|event| event.ok().map(Ok));
        Ok(Response::new(Box::pin(stream)))
    }

    unanswered! {
        update_container_resources(UpdateContainerResourcesRequest) -> UpdateContainerResourcesResponse;
        exec(ExecRequest) -> ExecResponse;
        attach(AttachRequest) -> AttachResponse;
        port_forward(PortForwardRequest) -> PortForwardResponse;
        container_stats(ContainerStatsRequest) -> ContainerStatsResponse;
        list_container_stats(ListContainerStatsRequest) -> ListContainerStatsResponse;
        pod_sandbox_stats(PodSandboxStatsRequest) -> PodSandboxStatsResponse;
        list_pod_sandbox_stats(ListPodSandboxStatsRequest) -> ListPodSandboxStatsResponse;
        update_runtime_config(UpdateRuntimeConfigRequest) -> UpdateRuntimeConfigResponse;
        checkpoint_container(CheckpointContainerRequest) -> CheckpointContainerResponse;
        checkpoint_pod(CheckpointPodRequest) -> CheckpointPodResponse;
        restore_pod(RestorePodRequest) -> RestorePodResponse;
        list_metric_descriptors(ListMetricDescriptorsRequest) -> ListMetricDescriptorsResponse;
        list_pod_sandbox_metrics(ListPodSandboxMetricsRequest) -> ListPodSandboxMetricsResponse;
        runtime_config(RuntimeConfigRequest) -> RuntimeConfigResponse;
        update_pod_sandbox_resources(UpdatePodSandboxResourcesRequest) -> UpdatePodSandboxResourcesResponse;
        stream_pod_sandboxes(StreamPodSandboxesRequest) -> Self::StreamPodSandboxesStream;
        stream_containers(StreamContainersRequest) -> Self::StreamContainersStream;
        stream_container_stats(StreamContainerStatsRequest) -> Self::StreamContainerStatsStream;
        stream_pod_sandbox_stats(StreamPodSandboxStatsRequest) -> Self::StreamPodSandboxStatsStream;
        stream_pod_sandbox_metrics(StreamPodSandboxMetricsRequest) -> Self::StreamPodSandboxMetricsStream;
    }
}

#[tonic::async_trait]
impl ImageService for Fake {
    type StreamImagesStream = Streamed<StreamImagesResponse>;

    async fn image_status(&self, _: Request<ImageStatusRequest>) -> Reply<ImageStatusResponse> {
        Ok(Response::new(ImageStatusResponse::default()))
    }

    async fn pull_image(&self, request: Request<PullImageRequest>) -> Reply<PullImageResponse> {
        let image = request.into_inner().image.unwrap_or_default().image;
        drop(self.call(format!("pull {image}"))?);
        Ok(Response::new(PullImageResponse { image_ref: "sha256:1".into() }))
    }

    unanswered! {
        list_images(ListImagesRequest) -> ListImagesResponse;
        remove_image(RemoveImageRequest) -> RemoveImageResponse;
        image_fs_info(ImageFsInfoRequest) -> ImageFsInfoResponse;
        stream_images(StreamImagesRequest) -> Self::StreamImagesStream;
    }
}
