//! Backup and restore of a server that runs, asked for over a Unix socket that only the server's owner may open: one
//! line of JSON in each direction.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use store::{Place, Range, Txn, Write};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio_util::sync::CancellationToken;

use crate::server::{Server, Store};

/// So much goes into one transaction of a restore.
const WRITES: usize = 100;
const BYTES: usize = 4 << 20;

/// What is asked.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Order {
    /// Write everything into this file, which must not be there yet.
    Backup(PathBuf),
    /// Make everything as it is in this file.
    Restore(PathBuf),
}

/// What came of it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Outcome {
    /// Backed up as of this revision.
    BackedUp(i64),
    /// Restored by so many changes; the server's revision is now this.
    Restored(usize, i64),
    /// Neither.
    Failed(String),
}

/// Takes orders until `shutdown`.
///
/// # Errors
/// When the socket cannot be made.
pub async fn serve(server: Arc<Server>, socket: &Path, shutdown: CancellationToken) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    match std::fs::remove_file(socket) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(socket)?;
    std::fs::set_permissions(socket, std::fs::Permissions::from_mode(0o600))?;
    loop {
        let stream = tokio::select! {
            () = shutdown.cancelled() => break,
            accepted = listener.accept() => accepted?.0,
        };
        let server = server.clone();
        tokio::spawn(async move {
            if let Err(error) = answer(&server, stream).await {
                tracing::warn!(%error, "an order over the socket");
            }
        });
    }
    std::fs::remove_file(socket)
}

async fn answer(server: &Server, stream: UnixStream) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    stream.read_line(&mut line).await?;
    let outcome = match serde_json::from_str(&line) {
        Ok(Order::Backup(path)) => match server.store.backup(&path).await {
            Ok(revision) => Outcome::BackedUp(revision),
            Err(error) => Outcome::Failed(chain(&error)),
        },
        Ok(Order::Restore(path)) => match restore(server, &path).await {
            Ok(changes) => Outcome::Restored(changes, server.store.revision()),
            Err(why) => Outcome::Failed(why),
        },
        Err(error) => Outcome::Failed(error.to_string()),
    };
    let mut text = serde_json::to_vec(&outcome)?;
    text.push(b'\n');
    stream.write_all(&text).await
}

/// Gives an order to the server behind a socket.
///
/// # Errors
/// When nobody answers there.
pub async fn order(socket: &Path, order: &Order) -> std::io::Result<Outcome> {
    let mut stream = BufReader::new(UnixStream::connect(socket).await?);
    let mut text = serde_json::to_vec(order)?;
    text.push(b'\n');
    stream.write_all(&text).await?;
    let mut line = String::new();
    stream.read_line(&mut line).await?;
    Ok(serde_json::from_str(&line)?)
}

/// Makes the store hold what a backup holds, by ordinary changes: revisions go on, and watchers see what happens.
async fn restore(server: &Server, path: &Path) -> Result<usize, String> {
    let dir = Scratch::new(server).map_err(|e| e.to_string())?;
    store::restore(path, &dir.0).map_err(|e| chain(&e))?;
    let source =
        Store::open(store::Config::new(Place::Directory(dir.0.clone()))).await.map_err(|e| chain(&e))?;
    let result = copy(&source, &server.store).await;
    source.close().await;
    result
}

async fn copy(source: &Store, target: &Store) -> Result<usize, String> {
    let everything = |store: &Store| store.range("/registry/", Range::default()).map_err(|e| e.to_string());
    let wanted: BTreeMap<String, Bytes> =
        everything(source)?.entries.iter().map(|e| (e.key.to_string(), e.value.clone())).collect();
    let mut changes = 0;
    // A write of a client may come in between; what it changed is looked at again.
    for _ in 0..5 {
        let writes = differences(target, &wanted)?;
        if writes.is_empty() {
            return Ok(changes);
        }
        for writes in chunks(writes) {
            let count = writes.len();
            match target.commit(Txn { writes }).await {
                Ok(_) => changes += count,
                Err(store::CommitError::Conflict { .. }) => break,
                Err(error) => return Err(error.to_string()),
            }
        }
    }
    Err("others go on writing: stop them first".to_owned())
}

/// The writes that make a store hold what is wanted.
fn differences(target: &Store, wanted: &BTreeMap<String, Bytes>) -> Result<Vec<Write>, String> {
    let page = target.range("/registry/", Range::default()).map_err(|e| e.to_string())?;
    let mut missing = wanted.clone();
    let mut writes = Vec::new();
    for entry in &page.entries {
        match missing.remove(&*entry.key) {
            Some(value) if value == entry.value => {}
            Some(value) => writes.push(Write::update(&*entry.key, value, entry.mod_revision)),
            None => writes.push(Write::delete(&*entry.key, entry.mod_revision)),
        }
    }
    writes.extend(missing.into_iter().map(|(key, value)| {
        let write = Write::create(key.as_str(), value);
        // Events live for an hour, in a restored store too.
        if key.starts_with("/registry/events/") { write.expiring(Duration::from_secs(3600)) } else { write }
    }));
    Ok(writes)
}

fn chunks(writes: Vec<Write>) -> Vec<Vec<Write>> {
    let mut chunks: Vec<Vec<Write>> = Vec::new();
    let mut bytes = 0;
    for write in writes {
        let size = match &write.op {
            store::Op::Put { value, .. } => value.len(),
            _ => 0,
        };
        match chunks.last_mut() {
            Some(last) if last.len() < WRITES && bytes + size <= BYTES => last.push(write),
            _ => {
                chunks.push(vec![write]);
                bytes = 0;
            }
        }
        bytes += size;
    }
    chunks
}

/// What the names of scratch directories begin with.
const SCRATCH: &str = "restore-";

/// Removes the scratch directories of a process that was killed while it restored.
pub(crate) fn sweep(control: &Path) {
    for entry in std::fs::read_dir(control).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(SCRATCH)
            && let Err(error) = std::fs::remove_dir_all(entry.path())
        {
            tracing::warn!(%error, path = %entry.path().display(), "a scratch directory stays");
        }
    }
}

/// A directory of our own that is gone when dropped.
struct Scratch(PathBuf);

impl Scratch {
    fn new(server: &Server) -> std::io::Result<Self> {
        let parent = match &server.config.data {
            Some(data) => data.join("control"),
            None => std::env::temp_dir(),
        };
        let path = parent.join(format!("{SCRATCH}{}", crate::random::uid()));
        std::fs::create_dir_all(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            tracing::warn!(%error, path = %self.0.display(), "a scratch directory stays");
        }
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text += &format!(": {error}");
        source = error.source();
    }
    text
}
