//! `/containerLogs`: the log of a container, also while it is written and rotated.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::ops::ControlFlow;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http_body_util::BodyExt;
use http_body_util::StreamBody;
use hyper::StatusCode;
use hyper::body::{Bytes, Frame};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::PodStatus;
use proto_cri as cri;
use stream::relay::BoxError;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use crate::cri::{CALL, within};
use crate::labels;
use crate::log;
use crate::rotate;
use crate::server::{Body, Refused, Server, pairs};

/// How often a followed log is looked at.
const PERIOD: Duration = Duration::from_millis(200);
/// How much is sent at a time, in bytes.
const CHUNK_BYTES: usize = 32 * 1024;

/// What of a log is asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Options {
    follow: bool,
    previous: bool,
    timestamps: bool,
    tail_lines: Option<usize>,
    since: Option<Timestamp>,
    limit_bytes: Option<u64>,
    /// Only what was written to stderr (`true`) or stdout.
    stderr: Option<bool>,
}

impl Options {
    fn parse(query: &str, now: Timestamp) -> Result<Self, Refused> {
        let mut options = Self::default();
        for (key, value) in pairs(query) {
            let bad = |expected: &str| {
                let text = format!("{key}: Invalid value: {value:?}: expected {expected}");
                Refused::new(StatusCode::BAD_REQUEST, text)
            };
            let flag = || match value.as_str() {
                "true" | "1" | "" => Ok(true),
                "false" | "0" => Ok(false),
                _ => Err(bad("true or false")),
            };
            let number = || value.parse::<u64>().map_err(|_| bad("a number that is not negative"));
            match key.as_str() {
                "follow" => options.follow = flag()?,
                "previous" => options.previous = flag()?,
                "timestamps" => options.timestamps = flag()?,
                "tailLines" | "tail" if value == "all" => options.tail_lines = None,
                "tailLines" | "tail" => options.tail_lines = usize::try_from(number()?).ok(),
                "limitBytes" => options.limit_bytes = Some(number()?),
                "sinceSeconds" => {
                    let seconds = i64::try_from(number()?).unwrap_or(i64::MAX);
                    options.since = Some(agent_core::time::seconds_later(now, -seconds));
                }
                "sinceTime" => {
                    options.since = Some(value.parse().map_err(|_| bad("a time in RFC 3339"))?);
                }
                "stream" => {
                    options.stderr = match value.as_str() {
                        "" | "All" => None,
                        "Stdout" => Some(false),
                        "Stderr" => Some(true),
                        _ => return Err(bad("All, Stdout or Stderr")),
                    }
                }
                _ => {}
            }
        }
        Ok(options)
    }
}

/// The log of a pod's container as a body that is read as it is sent.
pub(crate) async fn read(
    server: &Server,
    namespace: &str,
    pod: &str,
    container: &str,
    query: &str,
) -> Result<Body, Refused> {
    let options = Options::parse(query, server.effects.clock.now())?;
    let missing = |text: String| Refused::new(StatusCode::NOT_FOUND, text);
    let entry = server.pod(namespace, pod).ok_or_else(|| missing(format!("pod {pod:?} does not exist")))?;
    if agent_core::pod::container(&entry.pod, container).is_none() {
        return Err(missing(format!("container {container:?} not found in pod {pod:?}")));
    }
    let found = attempts(server, &entry.uid, container).await?;
    let previous = previous_id(&entry.status, container);
    let wanted = match options.previous {
        true => found.iter().find(|(id, _)| previous.is_some_and(|p| p.ends_with(id.as_str()))),
        false => found.first(),
    };
    let Some((id, path)) = wanted else {
        let why = if options.previous {
            format!("previous terminated container {container:?} in pod {pod:?} not found")
        } else {
            format!("container {container:?} in pod {pod:?} {}", waits(&entry.status, container))
        };
        return Err(Refused::new(StatusCode::BAD_REQUEST, why));
    };
    let (sender, receiver) = mpsc::channel::<Result<Frame<Bytes>, BoxError>>(4);
    let left = options.limit_bytes.unwrap_or(u64::MAX);
    let reader = Reader { path: path.clone(), options, sender, chunk: Vec::new(), left };
    let (server, id) = (server.clone(), id.clone());
    tokio::spawn(async move { reader.run(&server, &id).await });
    Ok(StreamBody::new(ReceiverStream::new(receiver)).boxed_unsync())
}

/// Why a container has not begun.
fn waits(status: &PodStatus, name: &str) -> String {
    let mut all = agent_core::status::containers(status);
    let state = all.find(|s| s.name == name).and_then(|s| s.state.as_ref());
    let reason = state.and_then(|s| s.waiting.as_ref()).and_then(|w| w.reason.as_deref());
    match reason {
        Some("ErrImagePull") => "is waiting to start: image can't be pulled".to_owned(),
        Some("ImagePullBackOff") => "is waiting to start: trying and failing to pull image".to_owned(),
        Some(reason) => format!("is waiting to start: {reason}"),
        None if state.is_some_and(|s| s.terminated.is_some()) => "is terminated".to_owned(),
        None => "is waiting to start - no logs yet".to_owned(),
    }
}

/// The id of the container that ended before the current state of this name.
fn previous_id<'a>(status: &'a PodStatus, name: &str) -> Option<&'a str> {
    let mut all = agent_core::status::containers(status);
    let status = all.find(|s| s.name == name)?;
    status.last_state.as_ref()?.terminated.as_ref()?.container_id.as_deref()
}

/// Ids and log paths of a container's attempts, the newest first.
async fn attempts(server: &Server, uid: &str, container: &str) -> Result<Vec<(String, PathBuf)>, Refused> {
    let failed =
        |s: tonic::Status| Refused::new(StatusCode::BAD_GATEWAY, format!("the CRI server: {}", s.message()));
    let selector = [(labels::POD_UID, uid), (labels::CONTAINER_NAME, container)];
    let label_selector = selector.map(|(k, v)| (k.to_owned(), v.to_owned())).into();
    let filter = cri::ContainerFilter { label_selector, ..Default::default() };
    let request = cri::ListContainersRequest { filter: Some(filter) };
    let list =
        within(CALL, server.effects.cri.runtime.clone().list_containers(request)).await.map_err(failed)?;
    let mut containers = list.containers;
    containers.sort_by_key(|c| std::cmp::Reverse(c.metadata.as_ref().map_or(0, |m| m.attempt)));
    let mut found = Vec::new();
    for container in containers.into_iter().take(2) {
        let request = cri::ContainerStatusRequest { container_id: container.id.clone(), verbose: false };
        let reply = within(CALL, server.effects.cri.runtime.clone().container_status(request)).await;
        let path = reply.map_err(failed)?.status.map(|s| PathBuf::from(s.log_path)).unwrap_or_default();
        found.push((container.id, path));
    }
    Ok(found)
}

/// Sends a log.
struct Reader {
    path: PathBuf,
    options: Options,
    sender: mpsc::Sender<Result<Frame<Bytes>, BoxError>>,
    /// What is yet to be sent.
    chunk: Vec<u8>,
    /// How many bytes may still be sent.
    left: u64,
}

/// A log file that is being read.
struct Open {
    file: BufReader<File>,
    inode: u64,
    /// The beginning of a line of which the rest is not written yet.
    rest: Vec<u8>,
}

impl Open {
    fn new(path: &Path, offset: u64) -> io::Result<Self> {
        let mut file = File::open(path)?;
        let inode = file.metadata()?.ino();
        file.seek(SeekFrom::Start(offset))?;
        Ok(Self { file: BufReader::new(file), inode, rest: Vec::new() })
    }

    /// The next complete line.
    fn line(&mut self) -> io::Result<Option<Vec<u8>>> {
        self.file.read_until(b'\n', &mut self.rest)?;
        if self.rest.ends_with(b"\n") { Ok(Some(std::mem::take(&mut self.rest))) } else { Ok(None) }
    }
}

impl Reader {
    async fn run(mut self, server: &Server, id: &str) {
        if let Err(error) = self.send_all(server, id).await {
            // The client has hung up, or learns of the failure by the broken body.
            let _ = self.sender.send(Err(error.into())).await;
        }
    }

    async fn send_all(&mut self, server: &Server, id: &str) -> io::Result<()> {
        if let Some(open) = self.send_existing().await?
            && self.options.follow
        {
            self.follow(open, server, id).await?;
        }
        self.push(true).await
    }

    /// Sends what is there. Returns the current file unless the limit was reached.
    async fn send_existing(&mut self) -> io::Result<Option<Open>> {
        let files = files(&self.path)?;
        let (first, mut offset) = match self.options.tail_lines {
            Some(lines) => tail(&files, lines)?,
            None => (0, 0),
        };
        let mut last = None;
        for file in files.iter().skip(first) {
            let mut open = match Open::new(file, std::mem::take(&mut offset)) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                result => result?,
            };
            if self.drain(&mut open).await?.is_break() {
                last = None;
                break;
            }
            last = Some(open);
        }
        self.push(true).await?;
        Ok(last)
    }

    /// Sends all complete lines there are, as far as the limit allows.
    async fn drain(&mut self, open: &mut Open) -> io::Result<ControlFlow<()>> {
        while let Some(line) = open.line()? {
            self.take(&line);
            self.push(false).await?;
            if self.left == 0 {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    fn take(&mut self, line: &[u8]) {
        let Some(line) = log::parse(line) else { return };
        if let Some(since) = self.options.since
            && line.time.parse::<Timestamp>().is_ok_and(|time| time < since)
        {
            return;
        }
        if self.options.stderr.is_some_and(|wanted| wanted != line.stderr) {
            return;
        }
        let before = self.chunk.len();
        if self.options.timestamps {
            self.chunk.extend_from_slice(line.time.as_bytes());
            self.chunk.push(b' ');
        }
        self.chunk.extend_from_slice(line.text);
        if !line.partial {
            self.chunk.push(b'\n');
        }
        let added = self.chunk.len() - before;
        let kept = usize::try_from(self.left).unwrap_or(usize::MAX).min(added);
        self.chunk.truncate(before + kept);
        self.left -= kept as u64;
    }

    async fn push(&mut self, all: bool) -> io::Result<()> {
        if self.chunk.is_empty() || (!all && self.chunk.len() < CHUNK_BYTES) {
            return Ok(());
        }
        let bytes = Bytes::from(std::mem::take(&mut self.chunk));
        let closed = |_| io::Error::from(io::ErrorKind::BrokenPipe);
        self.sender.send(Ok(Frame::data(bytes))).await.map_err(closed)
    }

    /// Sends what is written until the container has ended.
    async fn follow(&mut self, mut open: Open, server: &Server, id: &str) -> io::Result<()> {
        loop {
            self.push(true).await?;
            // Asked before the log is read: what it wrote until its end is then all there.
            let ended = ended(server, id).await;
            if self.drain(&mut open).await?.is_break() {
                return Ok(());
            }
            if std::fs::metadata(&self.path).is_ok_and(|m| m.ino() != open.inode) {
                // The old file may have grown until the new one was there; several rotations may have happened.
                let _ = self.drain(&mut open).await?;
                for file in newer(&self.path, open.inode)? {
                    open = Open::new(&file, 0)?;
                    let _ = self.drain(&mut open).await?;
                }
                continue;
            }
            if ended {
                return Ok(());
            }
            tokio::select! {
                () = tokio::time::sleep(PERIOD) => {}
                () = self.sender.closed() => return Ok(()),
            }
        }
    }
}

async fn ended(server: &Server, id: &str) -> bool {
    let request = cri::ContainerStatusRequest { container_id: id.to_owned(), verbose: false };
    match within(CALL, server.effects.cri.runtime.clone().container_status(request)).await {
        Ok(reply) => reply.status.is_none_or(|s| s.state() == cri::ContainerState::ContainerExited),
        Err(status) => status.code() == tonic::Code::NotFound,
    }
}

/// The files of a log, the oldest first, the current one last.
fn files(path: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = match rotate::older(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        result => result?,
    };
    files.push(path.to_path_buf());
    Ok(files)
}

/// The files after the one with this inode; all but the older ones if that has been removed.
fn newer(path: &Path, inode: u64) -> io::Result<Vec<PathBuf>> {
    let files = files(path)?;
    let inodes: Vec<Option<u64>> = files.iter().map(|f| std::fs::metadata(f).ok().map(|m| m.ino())).collect();
    let from = inodes.iter().position(|i| *i == Some(inode)).map_or(0, |at| at + 1);
    let there = files.into_iter().zip(inodes).skip(from).filter(|(_, inode)| inode.is_some());
    Ok(there.map(|(file, _)| file).collect())
}

/// Where the last so many lines begin: which file, and at what offset. Lines are those of the file, as upstream
/// counts them.
fn tail(files: &[PathBuf], lines: usize) -> io::Result<(usize, u64)> {
    let mut left = lines;
    let mut block = vec![0; CHUNK_BYTES];
    for (number, path) in files.iter().enumerate().rev() {
        let mut file = match File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            result => result?,
        };
        let mut end = file.metadata()?.len();
        // The newline before the first wanted line is the one to find.
        let mut newlines = 0;
        while end > 0 {
            let begin = end.saturating_sub(CHUNK_BYTES as u64);
            let block = &mut block[..usize::try_from(end - begin).unwrap_or(0)];
            file.seek(SeekFrom::Start(begin))?;
            file.read_exact(block)?;
            for (at, _) in block.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n') {
                newlines += 1;
                if newlines > left {
                    return Ok((number, begin + at as u64 + 1));
                }
            }
            end = begin;
        }
        left -= newlines;
    }
    Ok((0, 0))
}

#[cfg(test)]
mod tests;
