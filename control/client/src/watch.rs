//! A running watch.

use bytes::BytesMut;
use http_body_util::BodyExt;
use serde_json::Value;

use crate::request::{Body, ClientError};

/// One thing that a watch tells.
#[derive(Debug, Clone, PartialEq)]
pub enum WatchEvent {
    /// An object is there, or has come to match.
    Added(Value),
    /// An object has changed.
    Modified(Value),
    /// An object is gone, or has ceased to match; its last state.
    Deleted(Value),
    /// Nothing happened up to this `metadata.resourceVersion`.
    Bookmark(Value),
}

/// A stream of events.
pub struct Watch {
    server: String,
    body: Body,
    buffer: BytesMut,
}

impl Watch {
    pub(crate) fn new(server: String, body: Body) -> Self {
        Self { server, body, buffer: BytesMut::new() }
    }

    /// The next event; `None` when the server has ended the watch, after which one resumes from the last
    /// `resourceVersion` seen.
    ///
    /// # Errors
    /// [`ClientError::Refused`] when the server reports an error (code 410: list anew), or the connection broke.
    pub async fn next(&mut self) -> Result<Option<WatchEvent>, ClientError> {
        loop {
            if let Some(end) = self.buffer.iter().position(|b| *b == b'\n') {
                let line = self.buffer.split_to(end + 1);
                return self.event(&line).map(Some);
            }
            match self.body.frame().await {
                None => return Ok(None),
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.buffer.extend_from_slice(&data);
                    }
                }
                Some(Err(error)) => {
                    let server = self.server.clone();
                    return Err(ClientError::Connection { server, source: error });
                }
            }
        }
    }

    fn event(&self, line: &[u8]) -> Result<WatchEvent, ClientError> {
        let malformed = || ClientError::Malformed { server: self.server.clone(), expected: "a watch event" };
        let mut event: Value = serde_json::from_slice(line).map_err(|_| malformed())?;
        let object = event["object"].take();
        match event["type"].as_str() {
            Some("ADDED") => Ok(WatchEvent::Added(object)),
            Some("MODIFIED") => Ok(WatchEvent::Modified(object)),
            Some("DELETED") => Ok(WatchEvent::Deleted(object)),
            Some("BOOKMARK") => Ok(WatchEvent::Bookmark(object)),
            Some("ERROR") => Err(ClientError::Refused {
                code: object["code"].as_u64().and_then(|c| u16::try_from(c).ok()).unwrap_or(500),
                reason: object["reason"].as_str().unwrap_or_default().to_owned(),
                message: object["message"].as_str().unwrap_or_default().to_owned(),
                status: object,
            }),
            _ => Err(malformed()),
        }
    }
}
