//! Just enough of an HTTP/1.1 client for tests: one GET, one answer, over TCP or a Unix socket.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};

const PATIENCE: Duration = Duration::from_secs(5);

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Status code.
    pub status: u16,
    /// The body, chunks joined.
    pub body: String,
}

/// Gets a path from a TCP server of this thread's network namespace; [`crate::Machine::get`] does it inside a machine.
pub fn get(server: SocketAddr, path: &str) -> Result<Answer> {
    let stream =
        TcpStream::connect_timeout(&server, PATIENCE).with_context(|| format!("connect {server}"))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    exchange(stream, &server.to_string(), path).with_context(|| format!("GET http://{server}{path}"))
}

/// Gets a path from a server on a Unix socket.
pub fn get_unix(socket: &Path, path: &str) -> Result<Answer> {
    let context = || format!("GET {path} from {}", socket.display());
    let folder = socket.parent().with_context(context)?;
    let folder = std::fs::File::open(folder).with_context(context)?;
    let name = socket.file_name().with_context(context)?.to_string_lossy().into_owned();
    // By way of the descriptor, since a socket's path may have 107 bytes only.
    let short = format!("/proc/self/fd/{}/{name}", std::os::fd::AsRawFd::as_raw_fd(&folder));
    let stream = UnixStream::connect(short).with_context(context)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    exchange(stream, "localhost", path).with_context(context)
}

fn exchange(mut stream: impl Read + Write, host: &str, path: &str) -> Result<Answer> {
    let accept = "application/vnd.oci.image.manifest.v1+json, */*";
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {host}\r\nAccept: {accept}\r\nConnection: close\r\n\r\n")?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes)?;
    parse(&bytes).context("that is no HTTP answer")
}

fn parse(bytes: &[u8]) -> Option<Answer> {
    let end = bytes.windows(4).position(|w| w == b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let body = &bytes[end + 4..];
    let chunked = head.lines().any(|l| l.starts_with("transfer-encoding:") && l.ends_with("chunked"));
    let body = if chunked { join(body)? } else { body.to_vec() };
    Some(Answer { status, body: String::from_utf8_lossy(&body).into_owned() })
}

fn join(mut chunks: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let end = chunks.windows(2).position(|w| w == b"\r\n")?;
        let size = usize::from_str_radix(std::str::from_utf8(&chunks[..end]).ok()?.trim(), 16).ok()?;
        if size == 0 {
            return Some(body);
        }
        body.extend(chunks.get(end + 2..end + 2 + size)?);
        chunks = chunks.get(end + 4 + size..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read() {
        let plain = parse(b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\nno").unwrap();
        assert_eq!((plain.status, plain.body.as_str()), (404, "no"));
        let chunked =
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n";
        assert_eq!(parse(chunked).unwrap().body, "abcde");
        assert_eq!(parse(b"nonsense"), None);
    }
}
