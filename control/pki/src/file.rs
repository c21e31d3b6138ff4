//! The keys on disk: one file, readable by its owner alone, replaced whole.

use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::key::Key;
use crate::state::{Kept, Leaf, State, TokenKey};

const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
struct File {
    version: u32,
    authorities: Vec<Pair>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    serving: Option<Pair>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    admin: Option<Pair>,
    #[serde(default)]
    tokens: Vec<Signing>,
}

#[derive(Serialize, Deserialize)]
struct Pair {
    certificate: String,
    key: String,
}

#[derive(Serialize, Deserialize)]
struct Signing {
    key: String,
    created: Timestamp,
}

impl Pair {
    fn of(leaf: &Leaf) -> Self {
        Self { certificate: leaf.certificate.clone(), key: leaf.key.pem() }
    }

    fn leaf(self) -> Result<Leaf, Error> {
        Ok(Leaf { key: Key::from_pem(&self.key)?, certificate: self.certificate })
    }
}

/// Reads the file; `None` when there is none.
pub(crate) fn read(path: &Path) -> Result<Option<Kept>, Error> {
    let text = match std::fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(Error::File { path: path.to_owned(), source }),
    };
    let bad = |why: String| Error::Format { path: path.to_owned(), why };
    let file: File = serde_json::from_slice(&text).map_err(|e| bad(e.to_string()))?;
    if file.version != VERSION {
        return Err(bad(format!("it has version {}, this program knows {VERSION}", file.version)));
    }
    let token = |t: Signing| Ok(TokenKey { key: Key::from_pem(&t.key)?, created: t.created });
    let kept = || {
        Ok::<_, Error>(Kept {
            authorities: file.authorities.into_iter().map(Pair::leaf).collect::<Result<_, _>>()?,
            serving: file.serving.map(Pair::leaf).transpose()?,
            admin: file.admin.map(Pair::leaf).transpose()?,
            tokens: file.tokens.into_iter().map(token).collect::<Result<_, Error>>()?,
        })
    };
    kept().map(Some).map_err(|e| bad(e.to_string()))
}

/// Replaces the file, and lays `ca.crt`, which everybody may read, beside it.
pub(crate) fn write(path: &Path, state: &State) -> Result<(), Error> {
    let token = |t: &TokenKey| Signing { key: t.key.pem(), created: t.created };
    let file = File {
        version: VERSION,
        authorities: state.authorities.iter().map(Pair::of).collect(),
        serving: Some(Pair::of(&state.serving)),
        admin: Some(Pair::of(&state.admin)),
        tokens: state.tokens.iter().map(token).collect(),
    };
    let text = serde_json::to_vec_pretty(&file)
        .map_err(|e| Error::Format { path: path.to_owned(), why: e.to_string() })?;
    replace(path, &text, 0o600)?;
    publish(path, state)
}

/// Lays `ca.crt` beside the file, unless it is there as it should be: the process may have ended between the two.
pub(crate) fn publish(path: &Path, state: &State) -> Result<(), Error> {
    let (bundle, path) = (state.bundle(), path.with_file_name("ca.crt"));
    if std::fs::read(&path).is_ok_and(|found| found == bundle.as_bytes()) {
        return Ok(());
    }
    replace(&path, bundle.as_bytes(), 0o644)
}

/// Writes a file beside `path`, makes it durable and moves it there, so that nobody ever finds half of it.
///
/// # Errors
/// What could not be written.
pub fn replace(path: &Path, content: &[u8], mode: u32) -> Result<(), Error> {
    let dir = path.parent().unwrap_or(Path::new("."));
    let temporary = path.with_extension("new");
    let write = || {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        match std::fs::remove_file(&temporary) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file =
            std::fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary)?;
        file.write_all(content)?;
        file.sync_all()?;
        std::fs::rename(&temporary, path)?;
        std::fs::File::open(dir)?.sync_all()
    };
    write().map_err(|source| Error::File { path: path.to_owned(), source })
}
