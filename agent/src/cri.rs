//! Calls to the CRI server, each with its deadline.

use std::path::Path;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use proto_cri::image_service_client::ImageServiceClient;
use proto_cri::runtime_service_client::RuntimeServiceClient;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

/// How long a call may take that does nothing slow.
pub(crate) const CALL: Duration = Duration::from_secs(120);
/// The largest message, in bytes; the kubelet's figure.
const MESSAGE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Clients of both CRI services; clones share a connection.
#[derive(Debug, Clone)]
pub(crate) struct Cri {
    pub(crate) runtime: RuntimeServiceClient<Channel>,
    pub(crate) images: ImageServiceClient<Channel>,
}

impl Cri {
    /// Clients of the server on a socket. Connects at the first call, and again after the connection broke.
    pub(crate) fn lazy(socket: &Path) -> Self {
        let socket = socket.to_path_buf();
        let connector = tower::service_fn(move |_| {
            let socket = socket.clone();
            async move { connect(&socket).await.map(TokioIo::new) }
        });
        Self::over(Endpoint::from_static("http://cri").connect_with_connector_lazy(connector))
    }

    /// Clients over a channel.
    pub(crate) fn over(channel: Channel) -> Self {
        let runtime = RuntimeServiceClient::new(channel.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX);
        let images = ImageServiceClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX);
        Self { runtime, images }
    }
}

/// Gives a call its deadline, and takes the answer out of its envelope.
pub(crate) async fn within<T>(
    limit: Duration,
    call: impl Future<Output = Result<tonic::Response<T>, Status>>,
) -> Result<T, Status> {
    match tokio::time::timeout(limit, call).await {
        Ok(result) => result.map(tonic::Response::into_inner),
        Err(_) => Err(Status::new(Code::DeadlineExceeded, format!("no answer within {} s", limit.as_secs()))),
    }
}

/// Connects to a socket whose path may be longer than the kernel's 107 bytes.
async fn connect(socket: &Path) -> std::io::Result<UnixStream> {
    UnixStream::connect(linux::socket::Short::of(socket)?.path()).await
}
