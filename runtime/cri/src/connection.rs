//! The gRPC connections of the socket. tonic's own server would answer a call whose deadline is over with CANCELLED before the
//! client's own clock says DEADLINE_EXCEEDED: here the deadline is the client's affair alone, and operations end as
//! they do when a client goes away.

use std::convert::Infallible;
use std::time::Duration;

use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::{UnixListener, UnixStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::codegen::Service;
use tonic::service::Routes;

/// What a client asks for as `grpc-timeout`.
const DEADLINE: &str = "grpc-timeout";
/// Pause after a connection could not be accepted, for want of descriptors.
const BREATH: Duration = Duration::from_millis(20);

/// Serves until `stop` is cancelled, then lets calls come to their end for `patience`.
pub(crate) async fn serve(socket: UnixListener, routes: Routes, stop: CancellationToken, patience: Duration) {
    let connections = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            accepted = socket.accept() => accepted,
            () = stop.cancelled() => break,
        };
        match accepted {
            Ok((stream, _)) => drop(connections.spawn(converse(stream, routes.clone(), stop.clone()))),
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(BREATH).await;
            }
        }
    }
    connections.close();
    let _ = tokio::time::timeout(patience, connections.wait()).await;
}

async fn converse(stream: UnixStream, routes: Routes, stop: CancellationToken) {
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.headers_mut().remove(DEADLINE);
        let mut routes = routes.clone();
        async move { Ok::<_, Infallible>(routes.call(request).await.unwrap_or_else(|never| match never {})) }
    });
    let connection =
        http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        // A connection that breaks is the client's end of it; each call has its own answer.
        _ = connection.as_mut() => return,
        () = stop.cancelled() => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
}
