//! Getting manifests and blobs: the places in turn, each tried again while it may help, broken transfers resumed.

use bytes::Bytes;
use http::Response;
use http::header::{CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::sync::mpsc;
use tokio::time::{Duration, sleep, timeout};

use super::RegistryError;
use super::session::{Ask, Place, Session};
use crate::digest::Digest;
use crate::manifest::{Descriptor, MANIFEST_BYTES_MAX};

const ACCEPT_MANIFESTS: &str = "application/vnd.oci.image.index.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.v2+json";
/// So many bytes since the last failure count as progress.
const PROGRESS_BYTES: u64 = 64 << 10;
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// A manifest or index as it came.
#[derive(Debug)]
pub(crate) struct Fetched {
    pub(crate) content: Vec<u8>,
    pub(crate) content_type: String,
    pub(crate) digest: Digest,
}

/// Who takes a blob.
enum Sink<'a> {
    /// Another thread; it is given data no faster than it takes it.
    Channel(&'a mpsc::Sender<Bytes>),
    /// Memory.
    Memory(&'a mut Vec<u8>),
}

/// A blob under way.
struct Transfer<'a> {
    what: String,
    size: u64,
    /// Bytes that the sink has.
    done: u64,
    sink: Sink<'a>,
    progress: &'a (dyn Fn(u64) + Sync),
}

impl Session {
    /// The manifest or index of a tag or digest, which it is verified by.
    pub(crate) async fn manifest(&self, target: &str) -> Result<Fetched, RegistryError> {
        let by_digest = target.parse::<Digest>().ok();
        let what = format!("manifest {}:{target}", self.reference.path);
        let path = format!("manifests/{target}");
        let verified = by_digest.is_some();
        let ask = Ask { path: &path, what: &what, accept: ACCEPT_MANIFESTS, offset: 0, verified };
        let mut last = None;
        for place in
            self.places.iter().filter(|place| if verified { place.host.pull } else { place.host.resolve })
        {
            let mut tries = Tries::new(self);
            loop {
                match self.manifest_once(place, &ask, by_digest.as_ref()).await {
                    Ok(fetched) => return Ok(fetched),
                    Err((error, after)) => {
                        if let Err(error) = tries.again(error, after).await {
                            last = Some(self.pass_on(place, error));
                            break;
                        }
                    }
                }
            }
        }
        Err(last.unwrap_or_else(|| self.nobody(&what)))
    }

    async fn manifest_once(
        &self,
        place: &Place,
        ask: &Ask<'_>,
        by_digest: Option<&Digest>,
    ) -> Result<Fetched, (RegistryError, Option<Duration>)> {
        let mut response = self.ask(place, ask).await?;
        let text = |name| response.headers().get(name).and_then(|v| v.to_str().ok()).map(str::to_owned);
        let content_type = text(CONTENT_TYPE.as_str()).unwrap_or_default();
        let announced = text("docker-content-digest").and_then(|digest| digest.parse::<Digest>().ok());
        let (host, what) = (place.host.authority.clone(), ask.what.to_owned());
        let mut content = Vec::new();
        while let Some(piece) = self.piece(place, ask.what, &mut response).await.map_err(|e| (e, None))? {
            content.extend_from_slice(&piece);
            if content.len() as u64 > MANIFEST_BYTES_MAX {
                return Err((RegistryError::TooLarge { host, what, limit: MANIFEST_BYTES_MAX }, None));
            }
        }
        let expected = by_digest.or(announced.as_ref()).cloned().unwrap_or_else(|| Digest::of(&content));
        let digest = expected.of_same(&content);
        if digest != expected {
            return Err((RegistryError::Digest { host, what, expected, found: digest }, None));
        }
        Ok(Fetched { content, content_type, digest })
    }

    /// A small blob, verified.
    pub(crate) async fn blob(&self, descriptor: &Descriptor, limit: u64) -> Result<Vec<u8>, RegistryError> {
        let what = format!("configuration {}", descriptor.digest);
        if descriptor.size > limit {
            return Err(RegistryError::TooLarge { host: self.reference.domain.clone(), what, limit });
        }
        let mut from = 0;
        loop {
            let mut content = Vec::new();
            self.transfer(descriptor, what.clone(), Sink::Memory(&mut content), from, &|_| ()).await?;
            match self.verify(&what, &descriptor.digest, descriptor.digest.of_same(&content), from) {
                Ok(()) => return Ok(content),
                Err(_) if from + 1 < self.places.len() => from += 1,
                Err(error) => return Err(error),
            }
        }
    }

    /// A layer's blob, of the right length but not verified: the taker computes the digest. The first `from` places
    /// are not asked.
    pub(crate) async fn layer(
        &self,
        descriptor: &Descriptor,
        sink: &mpsc::Sender<Bytes>,
        from: usize,
        progress: &(dyn Fn(u64) + Sync),
    ) -> Result<(), RegistryError> {
        self.transfer(descriptor, format!("layer {}", descriptor.digest), Sink::Channel(sink), from, progress)
            .await
    }

    /// Whether a blob of one of the places after the first `from` is what it should be.
    pub(crate) fn verify(
        &self,
        what: &str,
        expected: &Digest,
        found: Digest,
        from: usize,
    ) -> Result<(), RegistryError> {
        if found == *expected {
            return Ok(());
        }
        let hosts: Vec<_> = self.places[from..].iter().map(|place| place.host.authority.as_str()).collect();
        let (host, what, expected) = (hosts.join(" or "), what.to_owned(), expected.clone());
        Err(RegistryError::Digest { host, what, expected, found })
    }

    /// How many places can be asked.
    pub(crate) fn place_count(&self) -> usize {
        self.places.len()
    }

    async fn transfer(
        &self,
        descriptor: &Descriptor,
        what: String,
        sink: Sink<'_>,
        from: usize,
        progress: &(dyn Fn(u64) + Sync),
    ) -> Result<(), RegistryError> {
        let path = format!("blobs/{}", descriptor.digest);
        let mut transfer = Transfer { what, size: descriptor.size, done: 0, sink, progress };
        let mut last = None;
        for place in self.places[from..].iter().filter(|place| place.host.pull) {
            let mut tries = Tries::new(self);
            loop {
                let before = transfer.done;
                match self.continue_transfer(place, &path, &mut transfer).await {
                    Ok(()) => return Ok(()),
                    Err((stopped @ RegistryError::Stopped { .. }, _)) => return Err(stopped),
                    Err((error, after)) => {
                        if transfer.done >= before + PROGRESS_BYTES {
                            tries = Tries::new(self);
                        }
                        if let Err(error) = tries.again(error, after).await {
                            last = Some(self.pass_on(place, error));
                            break;
                        }
                    }
                }
            }
        }
        Err(last.unwrap_or_else(|| self.nobody(&transfer.what)))
    }

    /// One request, for what is still missing.
    async fn continue_transfer(
        &self,
        place: &Place,
        path: &str,
        transfer: &mut Transfer<'_>,
    ) -> Result<(), (RegistryError, Option<Duration>)> {
        let what = transfer.what.clone();
        let ask = Ask { path, what: &what, accept: "*/*", offset: transfer.done, verified: true };
        let mut response = self.ask(place, &ask).await?;
        let begin = begin(&response);
        let size = transfer.size;
        let wrong_length = |found| {
            let (host, what) = (place.host.authority.clone(), what.clone());
            (RegistryError::Length { host, what, expected: size, found }, None)
        };
        let announced =
            response.headers().get(CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse::<u64>().ok());
        if let Some(end) = announced.map(|length| begin.saturating_add(length)).filter(|end| *end != size) {
            return Err(wrong_length(end));
        }
        if begin > transfer.done {
            return Err((self.broken(&place.host, &what, &OutOfRange), None));
        }
        // A registry that does not know ranges begins at the beginning.
        let mut skip = transfer.done - begin;
        while let Some(mut piece) = self.piece(place, &what, &mut response).await.map_err(|e| (e, None))? {
            let known = skip.min(piece.len() as u64);
            skip -= known;
            let piece = piece.split_off(usize::try_from(known).unwrap_or(piece.len()));
            if transfer.done + piece.len() as u64 > size {
                return Err(wrong_length(transfer.done + piece.len() as u64));
            }
            transfer.take(piece).await.map_err(|e| (e, None))?;
        }
        if transfer.done < size {
            return Err((self.broken(&place.host, &what, &Truncated(transfer.done, size)), None));
        }
        Ok(())
    }

    /// The next piece of a body; `None` at its end.
    async fn piece(
        &self,
        place: &Place,
        what: &str,
        response: &mut Response<Incoming>,
    ) -> Result<Option<Bytes>, RegistryError> {
        loop {
            match timeout(self.patience.stall, response.body_mut().frame()).await {
                Err(_) => return Err(self.stalled(&place.host, what)),
                Ok(None) => return Ok(None),
                Ok(Some(Err(error))) => return Err(self.broken(&place.host, what, &error)),
                Ok(Some(Ok(frame))) => {
                    if let Ok(data) = frame.into_data() {
                        return Ok(Some(data));
                    }
                }
            }
        }
    }

    /// A place has failed for good: the next one is asked.
    fn pass_on(&self, place: &Place, error: RegistryError) -> RegistryError {
        if place.host.mirror {
            tracing::info!(%error, mirror = place.host.authority, "mirror passed over");
        }
        error
    }

    fn nobody(&self, what: &str) -> RegistryError {
        let host = self.reference.domain.clone();
        let detail = ": hosts.toml names no host that may be asked".to_owned();
        RegistryError::NotFound { host, what: what.to_owned(), detail }
    }
}

impl Transfer<'_> {
    async fn take(&mut self, piece: Bytes) -> Result<(), RegistryError> {
        self.done += piece.len() as u64;
        match &mut self.sink {
            Sink::Memory(content) => content.extend_from_slice(&piece),
            Sink::Channel(channel) => {
                let stopped = || RegistryError::Stopped { what: self.what.clone() };
                channel.send(piece).await.map_err(|_| stopped())?;
            }
        }
        (self.progress)(self.done);
        Ok(())
    }
}

/// Attempts in a row, with a pause between that grows.
struct Tries {
    left: u32,
    pause: Duration,
}

impl Tries {
    fn new(session: &Session) -> Tries {
        Tries { left: session.patience.attempts.saturating_sub(1), pause: session.patience.pause }
    }

    /// Waits for the next attempt; gives the error back if there shall be none.
    async fn again(&mut self, error: RegistryError, after: Option<Duration>) -> Result<(), RegistryError> {
        if self.left == 0 || !error.is_passing() {
            return Err(error);
        }
        self.left -= 1;
        tracing::debug!(%error, "trying again");
        // Jitter keeps a cluster's nodes from coming back all at once.
        sleep(after.unwrap_or(self.pause).mul_f64(0.75 + fastrand::f64() / 2.0)).await;
        self.pause = (self.pause * 2).min(PAUSE_MAX);
        Ok(())
    }
}

/// The byte that a body begins with.
fn begin(response: &Response<Incoming>) -> u64 {
    let range = response.headers().get(CONTENT_RANGE).and_then(|value| value.to_str().ok());
    let first = range.and_then(|range| range.trim_start_matches("bytes ").split_once('-')?.0.parse().ok());
    if response.status() == http::StatusCode::PARTIAL_CONTENT { first.unwrap_or(0) } else { 0 }
}

#[derive(Debug, thiserror::Error)]
#[error("the answer does not begin where it was asked to")]
struct OutOfRange;

#[derive(Debug, thiserror::Error)]
#[error("the connection ended after {0} of {1} bytes")]
struct Truncated(u64, u64);
