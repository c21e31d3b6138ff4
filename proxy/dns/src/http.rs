//! `/metrics`, `/health` and `/ready`: one request a connection.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use crate::server::Inner;

const REQUEST_LIMIT: Duration = Duration::from_secs(5);
const REQUEST_BYTES_MAX: usize = 4096;

pub(crate) async fn serve(listener: TcpListener, inner: Arc<Inner>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let answer = answer(stream, inner.clone());
                tokio::spawn(timeout(REQUEST_LIMIT, answer));
            }
            // out of descriptors, perhaps: they come back
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

async fn answer(mut stream: TcpStream, inner: Arc<Inner>) -> std::io::Result<()> {
    let mut request = Vec::new();
    while !request.windows(4).any(|end| end == b"\r\n\r\n") && request.len() < REQUEST_BYTES_MAX {
        if stream.read_buf(&mut request).await? == 0 {
            return Ok(());
        }
    }
    let request = String::from_utf8_lossy(&request);
    let (status, body) = match request.split(' ').nth(1) {
        Some("/metrics") => ("200 OK", inner.metrics()),
        Some("/health") => ("200 OK", "OK".to_owned()),
        Some("/ready") if inner.is_ready() => ("200 OK", "OK".to_owned()),
        Some("/ready") => ("503 Service Unavailable", "kubernetes".to_owned()),
        _ => ("404 Not Found", String::new()),
    };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; version=0.0.4\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body.as_bytes()).await
}
