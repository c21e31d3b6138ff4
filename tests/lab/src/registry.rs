//! Registries on a machine's loopback: one of our own that can be told to misbehave, and Debian's docker-registry.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::image::{Blob, Image, write_registry_storage};
use crate::{Machine, Process, wait};

/// How a registry treats the requests for one digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Sends half of the body, then nothing, and keeps the connection open.
    Stall,
    /// Says the right length, sends half of the body and hangs up.
    HangUp,
    /// Sends more than it has been asked for, and says so.
    TooLong,
    /// Turns a bit in the middle of the body.
    Corrupt,
    /// Answers 404.
    Missing,
}

#[derive(Default)]
struct State {
    /// `<repository>/manifests/<tag or digest>` and `<repository>/blobs/<digest>`.
    served: BTreeMap<String, Blob>,
    /// By digest.
    faults: BTreeMap<String, Fault>,
    /// `METHOD path` of each request.
    requests: Vec<String>,
}

/// A registry of our own; it ends with its machine.
#[derive(Clone)]
pub struct Registry {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
}

impl Registry {
    /// Serves on the machine's loopback, at a free port.
    pub fn start(machine: &Machine) -> Result<Registry> {
        let listener = machine.in_network(|| TcpListener::bind("127.0.0.1:0"))?.context("registry")?;
        let address = listener.local_addr()?;
        let state = Arc::new(Mutex::new(State::default()));
        let registry = Registry { address, state };
        let server = registry.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let server = server.clone();
                thread::spawn(move || server.serve(stream));
            }
        });
        Ok(registry)
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Writes the configuration (`hosts.toml`) by which a runtime takes the images of `host` from here, and from here
    /// alone: a test asks nobody outside.
    pub fn mirror(&self, host: &str, certs: &Path) -> Result<()> {
        let folder = certs.join(host);
        fs::create_dir_all(&folder)?;
        let here = format!("http://{}", self.address);
        let text = format!("server = {here:?}\n[host.{here:?}]\ncapabilities = [\"pull\", \"resolve\"]\n");
        fs::write(folder.join("hosts.toml"), text).with_context(|| folder.display().to_string())
    }

    /// Puts an image under `repository:tag`.
    pub fn push(&self, repository: &str, tag: &str, image: &Image) {
        self.change(|state| {
            for blob in [&image.config].into_iter().chain(&image.layers) {
                state.served.insert(format!("{repository}/blobs/{}", blob.digest), blob.clone());
            }
            for name in [tag, &image.manifest.digest] {
                state.served.insert(format!("{repository}/manifests/{name}"), image.manifest.clone());
            }
        });
    }

    /// Puts an index of images (pushed before, by any tag) under `repository:tag`.
    pub fn push_index(&self, repository: &str, tag: &str, index: &Blob) {
        self.change(|state| {
            for name in [tag, &index.digest] {
                state.served.insert(format!("{repository}/manifests/{name}"), index.clone());
            }
        });
    }

    /// From now on treats a digest so.
    pub fn fault(&self, digest: &str, fault: Fault) {
        self.change(|state| {
            state.faults.insert(digest.to_owned(), fault);
        });
    }

    /// From now on treats all digests well.
    pub fn heal(&self) {
        self.change(|state| state.faults.clear());
    }

    /// `METHOD path` of each request so far.
    #[must_use]
    pub fn requests(&self) -> Vec<String> {
        self.change(|state| state.requests.clone())
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Answers the requests of one connection; a client that is gone ends it.
    fn serve(&self, stream: TcpStream) {
        let mut reader = BufReader::new(&stream);
        while let Some(request) = Request::read(&mut reader) {
            if self.answer(&stream, &request).is_err() || request.is_last {
                return;
            }
        }
    }

    fn answer(&self, mut out: &TcpStream, request: &Request) -> std::io::Result<()> {
        let Request { method, path, from, .. } = request;
        let name = path.trim_start_matches("/v2/").split('?').next().unwrap_or_default().to_owned();
        let (blob, fault) = self.change(|state| {
            state.requests.push(format!("{method} {path}"));
            let blob = state.served.get(&name).cloned();
            let fault = blob.as_ref().and_then(|b| state.faults.get(&b.digest).copied());
            (blob, fault)
        });
        if name.is_empty() || path == "/v2/" {
            return out.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}");
        }
        let (Some(blob), true) = (blob, fault != Some(Fault::Missing)) else {
            let body = br#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"not in this registry"}]}"#;
            write!(out, "HTTP/1.1 404 Not Found\r\nContent-Length: {}\r\n\r\n", body.len())?;
            return out.write_all(if method == "HEAD" { b"" } else { body });
        };
        let from = from.filter(|from| *from < blob.bytes.len());
        let mut body = blob.bytes[from.unwrap_or(0)..].to_vec();
        match fault {
            Some(Fault::TooLong) => body.extend([0; 512]),
            Some(Fault::Corrupt) => {
                let middle = body.len() / 2;
                body[middle] ^= 1;
            }
            _ => {}
        }
        let status = if from.is_some() { "206 Partial Content" } else { "200 OK" };
        write!(out, "HTTP/1.1 {status}\r\nContent-Type: {}\r\n", blob.media_type)?;
        write!(out, "Docker-Content-Digest: {}\r\nContent-Length: {}\r\n", blob.digest, body.len())?;
        if let Some(from) = from {
            write!(out, "Content-Range: bytes {from}-{}/{}\r\n", blob.bytes.len() - 1, blob.bytes.len())?;
        }
        out.write_all(b"\r\n")?;
        match fault {
            _ if method == "HEAD" => Ok(()),
            Some(Fault::HangUp | Fault::Stall) => {
                out.write_all(&body[..body.len() / 2])?;
                if fault == Some(Fault::Stall) {
                    thread::sleep(Duration::from_secs(600));
                }
                Err(std::io::ErrorKind::ConnectionAborted.into())
            }
            _ => out.write_all(&body),
        }
    }
}

/// What the registry looks at in a request.
struct Request {
    method: String,
    path: String,
    /// The start of a `Range`.
    from: Option<usize>,
    /// The client wants the connection closed.
    is_last: bool,
}

impl Request {
    /// The next one of a connection; `None` at its end.
    fn read(reader: &mut impl BufRead) -> Option<Request> {
        let mut first = String::new();
        reader.read_line(&mut first).ok().filter(|bytes| *bytes > 0)?;
        let mut words = first.split(' ').map(str::to_owned);
        let mut request = Request { method: words.next()?, path: words.next()?, from: None, is_last: false };
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).ok().filter(|bytes| *bytes > 0)?;
            let line = line.trim().to_ascii_lowercase();
            if line.is_empty() {
                return Some(request);
            }
            if let Some(bytes) = line.strip_prefix("range: bytes=") {
                request.from = bytes.split('-').next().and_then(|from| from.parse().ok());
            }
            request.is_last |= line == "connection: close";
        }
    }
}

/// Debian's docker-registry with some images, by `repository:tag`, on the machine's loopback.
pub fn docker_registry(machine: &Machine, port: u16, images: &[(&str, &Image)]) -> Result<Process> {
    let folder = machine.folder().join("docker-registry");
    write_registry_storage(images, &folder)?;
    let config = folder.join("config.yml");
    let text = format!(
        "version: 0.1\nstorage:\n  filesystem:\n    rootdirectory: {}\nhttp:\n  addr: 127.0.0.1:{port}\n",
        folder.display()
    );
    fs::write(&config, text)?;
    let log = fs::File::create(folder.join("log"))?;
    let mut command = machine.command("docker-registry");
    command.arg("serve").arg(&config).stdout(log.try_clone()?).stderr(log);
    let process = machine.spawn(command).context("the Debian package docker-registry is needed")?;
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    wait::until("docker-registry to answer", 20, || {
        Ok(machine.get(address, "/v2/").map_err(|e| format!("{e:#}")))
    })?;
    Ok(process)
}
