//! The gRPC face: each call goes to the file that is named after it. What fails inside is logged here, once.

use std::pin::Pin;
use std::sync::Arc;

use proto_cri::image_service_server::ImageService;
use proto_cri::runtime_service_server::RuntimeService;
#[allow(clippy::wildcard_imports, reason = "every request and response of the API")]
use proto_cri::*;
use tokio_stream::{Stream, StreamExt as _};
use tonic::{Code, Request, Response, Status};

use crate::error::Failure;
use crate::metrics;
use crate::node::Node;
use crate::stream::Streamer;

/// Items in one message of a list that is streamed.
const CHUNK: usize = 256;

/// Both services.
#[derive(Clone)]
pub(crate) struct Service {
    pub(crate) node: Arc<Node>,
    pub(crate) streamer: Streamer,
}

type Answer<T> = Result<Response<T>, Status>;
type Chunks<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

fn answer<T>(call: &'static str, result: Result<T, Failure>) -> Answer<T> {
    result.map(Response::new).map_err(|failure| {
        let status = Status::from(failure);
        match status.code() {
            Code::Internal => tracing::error!(call, "{}", status.message()),
            _ => tracing::debug!(call, code = ?status.code(), "{}", status.message()),
        }
        status
    })
}

fn chunks<I: Send + 'static, T: 'static>(
    items: Vec<I>,
    wrap: impl Fn(Vec<I>) -> T + Send + 'static,
) -> Response<Chunks<T>> {
    let mut items = items.into_iter();
    let chunks = std::iter::from_fn(move || {
        let chunk: Vec<I> = items.by_ref().take(CHUNK).collect();
        (!chunk.is_empty()).then(|| Ok(wrap(chunk)))
    });
    Response::new(Box::pin(tokio_stream::iter(chunks)))
}

#[tonic::async_trait]
impl RuntimeService for Service {
    async fn version(&self, _: Request<VersionRequest>) -> Answer<VersionResponse> {
        answer("Version", Ok(self.node.version()))
    }
    async fn run_pod_sandbox(&self, request: Request<RunPodSandboxRequest>) -> Answer<RunPodSandboxResponse> {
        answer("RunPodSandbox", self.node.run_pod_sandbox(request.into_inner()).await)
    }
    async fn stop_pod_sandbox(
        &self,
        request: Request<StopPodSandboxRequest>,
    ) -> Answer<StopPodSandboxResponse> {
        answer("StopPodSandbox", self.node.stop_pod_sandbox(request.into_inner()).await)
    }
    async fn remove_pod_sandbox(
        &self,
        request: Request<RemovePodSandboxRequest>,
    ) -> Answer<RemovePodSandboxResponse> {
        answer("RemovePodSandbox", self.node.remove_pod_sandbox(request.into_inner()).await)
    }
    async fn create_container(
        &self,
        request: Request<CreateContainerRequest>,
    ) -> Answer<CreateContainerResponse> {
        answer("CreateContainer", self.node.create_container(request.into_inner()).await)
    }
    async fn start_container(
        &self,
        request: Request<StartContainerRequest>,
    ) -> Answer<StartContainerResponse> {
        answer("StartContainer", self.node.start_container(request.into_inner()).await)
    }
    async fn stop_container(&self, request: Request<StopContainerRequest>) -> Answer<StopContainerResponse> {
        answer("StopContainer", self.node.stop_container(request.into_inner()).await)
    }
    async fn remove_container(
        &self,
        request: Request<RemoveContainerRequest>,
    ) -> Answer<RemoveContainerResponse> {
        answer("RemoveContainer", self.node.remove_container(request.into_inner()).await)
    }
    async fn update_container_resources(
        &self,
        request: Request<UpdateContainerResourcesRequest>,
    ) -> Answer<UpdateContainerResourcesResponse> {
        answer("UpdateContainerResources", self.node.update_container_resources(request.into_inner()).await)
    }
    async fn reopen_container_log(
        &self,
        request: Request<ReopenContainerLogRequest>,
    ) -> Answer<ReopenContainerLogResponse> {
        answer("ReopenContainerLog", self.node.reopen_container_log(request.into_inner()).await)
    }
    async fn exec_sync(&self, request: Request<ExecSyncRequest>) -> Answer<ExecSyncResponse> {
        answer("ExecSync", self.node.exec_sync(request.into_inner()).await)
    }
    async fn update_pod_sandbox_resources(
        &self,
        request: Request<UpdatePodSandboxResourcesRequest>,
    ) -> Answer<UpdatePodSandboxResourcesResponse> {
        answer(
            "UpdatePodSandboxResources",
            self.node.update_pod_sandbox_resources(request.into_inner()).await,
        )
    }
    async fn pod_sandbox_status(
        &self,
        request: Request<PodSandboxStatusRequest>,
    ) -> Answer<PodSandboxStatusResponse> {
        answer("PodSandboxStatus", self.node.pod_sandbox_status(&request.into_inner()))
    }
    async fn list_pod_sandbox(
        &self,
        request: Request<ListPodSandboxRequest>,
    ) -> Answer<ListPodSandboxResponse> {
        answer(
            "ListPodSandbox",
            Ok(ListPodSandboxResponse {
                items: self.node.list_pod_sandbox(request.into_inner().filter.as_ref()),
            }),
        )
    }
    async fn list_containers(
        &self,
        request: Request<ListContainersRequest>,
    ) -> Answer<ListContainersResponse> {
        answer(
            "ListContainers",
            Ok(ListContainersResponse {
                containers: self.node.list_containers(request.into_inner().filter.as_ref()),
            }),
        )
    }
    async fn container_status(
        &self,
        request: Request<ContainerStatusRequest>,
    ) -> Answer<ContainerStatusResponse> {
        answer("ContainerStatus", self.node.container_status(&request.into_inner()))
    }
    async fn exec(&self, request: Request<ExecRequest>) -> Answer<ExecResponse> {
        let request = request.into_inner();
        let container = self.node.container(&request.container_id)?;
        self.node.exec_request(&container, &request.cmd, request.tty)?;
        let url = self.streamer.exec_url(ExecRequest { container_id: container.id.clone(), ..request })?;
        Ok(Response::new(ExecResponse { url }))
    }
    async fn attach(&self, request: Request<AttachRequest>) -> Answer<AttachResponse> {
        let request = request.into_inner();
        let container = self.node.container(&request.container_id)?;
        let url =
            self.streamer.attach_url(AttachRequest { container_id: container.id.clone(), ..request })?;
        Ok(Response::new(AttachResponse { url }))
    }
    async fn port_forward(&self, request: Request<PortForwardRequest>) -> Answer<PortForwardResponse> {
        let request = request.into_inner();
        let pod = self.node.pod(&request.pod_sandbox_id)?;
        let url = self
            .streamer
            .port_forward_url(PortForwardRequest { pod_sandbox_id: pod.id.clone(), ..request })?;
        Ok(Response::new(PortForwardResponse { url }))
    }
    async fn container_stats(
        &self,
        request: Request<ContainerStatsRequest>,
    ) -> Answer<ContainerStatsResponse> {
        answer(
            "ContainerStats",
            self.node
                .container_stats(&request.into_inner().container_id)
                .await
                .map(|stats| ContainerStatsResponse { stats: Some(stats) }),
        )
    }
    async fn list_container_stats(
        &self,
        request: Request<ListContainerStatsRequest>,
    ) -> Answer<ListContainerStatsResponse> {
        answer(
            "ListContainerStats",
            self.node
                .list_container_stats(request.into_inner().filter)
                .await
                .map(|stats| ListContainerStatsResponse { stats }),
        )
    }
    async fn pod_sandbox_stats(
        &self,
        request: Request<PodSandboxStatsRequest>,
    ) -> Answer<PodSandboxStatsResponse> {
        answer(
            "PodSandboxStats",
            self.node
                .pod_sandbox_stats(&request.into_inner().pod_sandbox_id)
                .await
                .map(|stats| PodSandboxStatsResponse { stats: Some(stats) }),
        )
    }
    async fn list_pod_sandbox_stats(
        &self,
        request: Request<ListPodSandboxStatsRequest>,
    ) -> Answer<ListPodSandboxStatsResponse> {
        answer(
            "ListPodSandboxStats",
            self.node
                .list_pod_sandbox_stats(request.into_inner().filter)
                .await
                .map(|stats| ListPodSandboxStatsResponse { stats }),
        )
    }
    /// The pod network is configured by CNI; what the kubelet says about it is not needed.
    async fn update_runtime_config(
        &self,
        _: Request<UpdateRuntimeConfigRequest>,
    ) -> Answer<UpdateRuntimeConfigResponse> {
        answer("UpdateRuntimeConfig", Ok(UpdateRuntimeConfigResponse {}))
    }
    async fn status(&self, request: Request<StatusRequest>) -> Answer<StatusResponse> {
        answer("Status", self.node.status(request.into_inner().verbose).await)
    }
    async fn checkpoint_container(
        &self,
        _: Request<CheckpointContainerRequest>,
    ) -> Answer<CheckpointContainerResponse> {
        answer("CheckpointContainer", Err(Failure::Unimplemented("CheckpointContainer")))
    }
    async fn checkpoint_pod(&self, _: Request<CheckpointPodRequest>) -> Answer<CheckpointPodResponse> {
        answer("CheckpointPod", Err(Failure::Unimplemented("CheckpointPod")))
    }
    async fn restore_pod(&self, _: Request<RestorePodRequest>) -> Answer<RestorePodResponse> {
        answer("RestorePod", Err(Failure::Unimplemented("RestorePod")))
    }
    async fn list_metric_descriptors(
        &self,
        _: Request<ListMetricDescriptorsRequest>,
    ) -> Answer<ListMetricDescriptorsResponse> {
        answer(
            "ListMetricDescriptors",
            Ok(ListMetricDescriptorsResponse { descriptors: metrics::descriptors() }),
        )
    }
    async fn list_pod_sandbox_metrics(
        &self,
        _: Request<ListPodSandboxMetricsRequest>,
    ) -> Answer<ListPodSandboxMetricsResponse> {
        answer(
            "ListPodSandboxMetrics",
            self.node.pod_metrics().await.map(|pod_metrics| ListPodSandboxMetricsResponse { pod_metrics }),
        )
    }
    async fn runtime_config(&self, _: Request<RuntimeConfigRequest>) -> Answer<RuntimeConfigResponse> {
        answer("RuntimeConfig", Ok(self.node.runtime_config()))
    }

    type GetContainerEventsStream = Chunks<ContainerEventResponse>;
    async fn get_container_events(
        &self,
        _: Request<GetEventsRequest>,
    ) -> Answer<Self::GetContainerEventsStream> {
        Ok(Response::new(Box::pin(self.node.container_events().map(|event| event))))
    }

    type StreamPodSandboxesStream = Chunks<StreamPodSandboxesResponse>;
    async fn stream_pod_sandboxes(
        &self,
        request: Request<StreamPodSandboxesRequest>,
    ) -> Answer<Self::StreamPodSandboxesStream> {
        Ok(chunks(self.node.list_pod_sandbox(request.into_inner().filter.as_ref()), |pod_sandboxes| {
            StreamPodSandboxesResponse { pod_sandboxes }
        }))
    }

    type StreamContainersStream = Chunks<StreamContainersResponse>;
    async fn stream_containers(
        &self,
        request: Request<StreamContainersRequest>,
    ) -> Answer<Self::StreamContainersStream> {
        Ok(chunks(self.node.list_containers(request.into_inner().filter.as_ref()), |containers| {
            StreamContainersResponse { containers }
        }))
    }

    type StreamContainerStatsStream = Chunks<StreamContainerStatsResponse>;
    async fn stream_container_stats(
        &self,
        request: Request<StreamContainerStatsRequest>,
    ) -> Answer<Self::StreamContainerStatsStream> {
        Ok(chunks(self.node.list_container_stats(request.into_inner().filter).await?, |container_stats| {
            StreamContainerStatsResponse { container_stats }
        }))
    }

    type StreamPodSandboxStatsStream = Chunks<StreamPodSandboxStatsResponse>;
    async fn stream_pod_sandbox_stats(
        &self,
        request: Request<StreamPodSandboxStatsRequest>,
    ) -> Answer<Self::StreamPodSandboxStatsStream> {
        Ok(chunks(
            self.node.list_pod_sandbox_stats(request.into_inner().filter).await?,
            |pod_sandbox_stats| StreamPodSandboxStatsResponse { pod_sandbox_stats },
        ))
    }

    type StreamPodSandboxMetricsStream = Chunks<StreamPodSandboxMetricsResponse>;
    async fn stream_pod_sandbox_metrics(
        &self,
        _: Request<StreamPodSandboxMetricsRequest>,
    ) -> Answer<Self::StreamPodSandboxMetricsStream> {
        Ok(chunks(self.node.pod_metrics().await?, |pod_sandbox_metrics| StreamPodSandboxMetricsResponse {
            pod_sandbox_metrics,
        }))
    }
}

#[tonic::async_trait]
impl ImageService for Service {
    async fn list_images(&self, request: Request<ListImagesRequest>) -> Answer<ListImagesResponse> {
        answer(
            "ListImages",
            self.node
                .list_images(request.into_inner().filter.as_ref())
                .map(|images| ListImagesResponse { images }),
        )
    }
    async fn image_status(&self, request: Request<ImageStatusRequest>) -> Answer<ImageStatusResponse> {
        answer("ImageStatus", self.node.image_status(&request.into_inner()))
    }
    async fn pull_image(&self, request: Request<PullImageRequest>) -> Answer<PullImageResponse> {
        answer("PullImage", self.node.pull_image(request.into_inner()).await)
    }
    async fn remove_image(&self, request: Request<RemoveImageRequest>) -> Answer<RemoveImageResponse> {
        answer("RemoveImage", self.node.remove_image(request.into_inner()).await)
    }
    async fn image_fs_info(&self, _: Request<ImageFsInfoRequest>) -> Answer<ImageFsInfoResponse> {
        answer("ImageFsInfo", self.node.image_fs_info().await)
    }

    type StreamImagesStream = Chunks<StreamImagesResponse>;
    async fn stream_images(&self, request: Request<StreamImagesRequest>) -> Answer<Self::StreamImagesStream> {
        Ok(chunks(self.node.list_images(request.into_inner().filter.as_ref())?, |images| {
            StreamImagesResponse { images }
        }))
    }
}
