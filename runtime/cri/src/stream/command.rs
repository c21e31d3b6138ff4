//! Exec and attach: between a client's channels and a session's descriptors.

use std::future::pending;
use std::io;
use std::time::Duration;

use ::stream::{CHUNK, Channels, Gone, Inlet, Outlet};
use bytes::Bytes;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::descriptor::Descriptor;
use super::{Resize, Session, TerminalSize};

/// When a command has ended, output is over once there was none for so long: what it wrote is in the pipe by then, and
/// what processes it left behind write is not its own.
const QUIET: Duration = Duration::from_millis(100);
/// A resize message is a few dozen bytes.
const RESIZE_BYTES_MAX: usize = 1024;

/// Runs a session to its end, or until the client is gone.
pub(super) async fn run(mut channels: Channels, starting: impl Future<Output = Result<Session, Status>>) {
    let gone = channels.gone.clone();
    let session = async {
        let ended = match starting.await {
            Ok(session) => converse(session, &mut channels).await,
            Err(status) => Err(status),
        };
        channels.end(&ended.map_err(|status| status.message().to_owned())).await;
    };
    tokio::select! {
        () = session => {}
        () = gone.cancelled() => {}
    }
}

async fn converse(session: Session, channels: &mut Channels) -> Result<i32, Status> {
    let (stdin, resize) = (channels.stdin.take(), channels.resize.take());
    let (stdout, stderr) = (channels.stdout.as_ref(), channels.stderr.as_ref());
    let descriptor = |fd: Option<_>| fd.map(Descriptor::new).transpose().map_err(broken);
    let (input, output) = (descriptor(session.stdin)?, descriptor(session.stdout)?);
    let other_output = descriptor(session.stderr)?;
    let ended = CancellationToken::new();
    let command = async {
        let code = session.end.await;
        ended.cancel();
        code
    };
    let said = async {
        tokio::join!(command, copy_out(output, stdout, &ended), copy_out(other_output, stderr, &ended)).0
    };
    let heard = async {
        tokio::join!(copy_in(stdin, input), resizes(resize, session.resize));
        pending::<()>().await;
    };
    tokio::select! {
        code = said => code,
        () = heard => unreachable!("it is pending for ever"),
    }
}

fn broken(error: io::Error) -> Status {
    Status::internal(format!("the session's descriptors cannot be used: {error}"))
}

/// Copies until the descriptor ends, or is quiet after the command has ended.
async fn copy_out(from: Option<Descriptor>, to: Option<&Outlet>, ended: &CancellationToken) {
    let Some(from) = from else { return };
    let mut buffer = vec![0; CHUNK];
    loop {
        let read = tokio::select! {
            biased;
            read = from.read(&mut buffer) => read,
            () = quiet_after(ended) => return,
        };
        let Ok(1..) = read else { return };
        let data = Bytes::copy_from_slice(&buffer[..read.unwrap_or_default()]);
        if let Some(to) = to
            && let Err(Gone) = to.send(data).await
        {
            return;
        }
    }
}

async fn quiet_after(ended: &CancellationToken) {
    ended.cancelled().await;
    tokio::time::sleep(QUIET).await;
}

/// Copies until the client closes its input, and closes the command's then. Input that nobody reads any more is
/// thrown away, so that the connection goes on.
async fn copy_in(from: Option<Inlet>, to: Option<Descriptor>) {
    let Some(mut from) = from else { return };
    if let Some(to) = to {
        while let Some(data) = from.recv().await {
            if to.write_all(&data).await.is_err() {
                break;
            }
        }
    }
    while from.recv().await.is_some() {}
}

/// Applies each size. Messages may be split or joined on their way.
async fn resizes(from: Option<Inlet>, resize: Option<Resize>) {
    let Some(mut from) = from else { return };
    let mut resize = resize.unwrap_or_else(|| Box::new(|_| {}));
    let mut buffer = Vec::new();
    while let Some(data) = from.recv().await {
        buffer.extend_from_slice(&data);
        for size in sizes(&mut buffer) {
            resize(size);
        }
    }
}

/// Takes the whole messages out of the buffer. What is no size is dropped.
fn sizes(buffer: &mut Vec<u8>) -> Vec<TerminalSize> {
    let mut sizes = Vec::new();
    let mut messages = serde_json::Deserializer::from_slice(buffer).into_iter::<TerminalSize>();
    let rest = loop {
        match messages.next() {
            Some(Ok(size)) => sizes.push(size),
            Some(Err(error)) if error.is_eof() => break messages.byte_offset(),
            Some(Err(_)) | None => break buffer.len(),
        }
    };
    buffer.drain(..rest);
    if buffer.len() > RESIZE_BYTES_MAX {
        buffer.clear();
    }
    sizes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_come_in_any_pieces() {
        let mut buffer = br#"{"Width":80,"Height":24}{"Width":1"#.to_vec();
        assert_eq!(sizes(&mut buffer), [TerminalSize { width: 80, height: 24 }]);
        buffer.extend_from_slice(br#"00,"Height":50}"#);
        assert_eq!(sizes(&mut buffer), [TerminalSize { width: 100, height: 50 }]);
        assert!(buffer.is_empty());
        buffer.extend_from_slice(b"nonsense");
        assert_eq!(sizes(&mut buffer), []);
        buffer = vec![b' '; 2000];
        assert_eq!(sizes(&mut buffer), []);
        assert!(buffer.is_empty());
    }
}
