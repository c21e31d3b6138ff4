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
/// How often what others have changed meanwhile is tried again.
const ROUNDS: usize = 20;

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

/// Gives each key that differs its value in `source`, once. What becomes of it then is the cluster's life, which goes on.
async fn copy(source: &Store, target: &Store) -> Result<usize, String> {
    let mut open = differences(target, &entries(source)?)?;
    let mut changes = 0;
    for _ in 0..ROUNDS {
        if open.is_empty() {
            return Ok(changes);
        }
        for writes in chunks(writes(target, &mut open)?) {
            let keys: Vec<String> = writes.iter().map(|write| write.key.to_string()).collect();
            match target.commit(Txn { writes }).await {
                Ok(_) => changes += keys.len(),
                // Somebody came in between: once more, with what he has left.
                Err(store::CommitError::Conflict { .. }) => continue,
                Err(error) => return Err(error.to_string()),
            }
            for key in keys {
                open.remove(&key);
            }
        }
    }
    Err("others go on writing: stop them first".to_owned())
}

/// What is in a store, by its keys.
fn entries(store: &Store) -> Result<BTreeMap<String, Bytes>, String> {
    let page = store.range("/registry/", Range::default()).map_err(|e| e.to_string())?;
    Ok(page.entries.iter().map(|entry| (entry.key.to_string(), entry.value.clone())).collect())
}

/// The keys of which a store does not hold what is wanted, each with that; `None` where nothing is.
fn differences(
    target: &Store,
    wanted: &BTreeMap<String, Bytes>,
) -> Result<BTreeMap<String, Option<Bytes>>, String> {
    let there = entries(target)?;
    let gone = there.keys().filter(|key| !wanted.contains_key(*key)).map(|key| (key.clone(), None));
    let other = wanted.iter().filter(|(key, value)| there.get(*key) != Some(value));
    Ok(gone.chain(other.map(|(key, value)| (key.clone(), Some(value.clone())))).collect())
}

/// The writes that give these keys what they are to hold. Those that have it by now are closed.
fn writes(target: &Store, open: &mut BTreeMap<String, Option<Bytes>>) -> Result<Vec<Write>, String> {
    let page = target.range("/registry/", Range::default()).map_err(|e| e.to_string())?;
    let there: BTreeMap<&str, _> = page.entries.iter().map(|entry| (&*entry.key, entry)).collect();
    open.retain(|key, value| there.get(key.as_str()).map(|entry| &entry.value) != value.as_ref());
    let write = |(key, value): (&String, &Option<Bytes>)| match (there.get(key.as_str()), value) {
        (Some(entry), Some(value)) => Some(Write::update(key.as_str(), value.clone(), entry.mod_revision)),
        (Some(entry), None) => Some(Write::delete(key.as_str(), entry.mod_revision)),
        (None, Some(value)) => {
            let write = Write::create(key.as_str(), value.clone());
            // Events live for an hour, in a restored store too.
            let event = key.starts_with("/registry/events/");
            Some(if event { write.expiring(Duration::from_secs(3600)) } else { write })
        }
        (None, None) => None,
    };
    Ok(open.iter().filter_map(write).collect())
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
