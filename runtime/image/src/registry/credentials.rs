//! Credentials: given by the caller, or found in docker's `config.json` and its helper programs.

use std::collections::HashMap;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use tokio::io::AsyncWriteExt;

use super::RegistryError;
use crate::reference::{DEFAULT_DOMAIN, Reference};

const HELPER_SECONDS_MAX: u64 = 30;

/// What lets one into a registry. It is shown to the registry itself, never to its mirrors.
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum Credentials {
    /// User name and password.
    Basic {
        /// User.
        username: String,
        /// Password, or a token in its place.
        password: String,
    },
    /// An OAuth2 refresh token, exchanged for access tokens.
    IdentityToken(String),
    /// A bearer token, sent as it is.
    RegistryToken(String),
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Credentials::Basic { .. } => "Basic(..)",
            Credentials::IdentityToken(_) => "IdentityToken(..)",
            Credentials::RegistryToken(_) => "RegistryToken(..)",
        })
    }
}

impl Credentials {
    /// From base64 of `user:password`, as docker's `auth` fields are; `None` if it is not that.
    pub fn from_auth(auth: &str) -> Option<Credentials> {
        let text = String::from_utf8(STANDARD.decode(auth.trim()).ok()?).ok()?;
        let (username, password) = text.split_once(':')?;
        // Docker pads the password with zero bytes.
        let password = password.trim_end_matches('\0').to_owned();
        Some(Credentials::Basic { username: username.to_owned(), password })
    }

    /// The value of an `Authorization` header, for user name and password.
    pub(super) fn basic(&self) -> Option<String> {
        match self {
            Credentials::Basic { username, password } => {
                Some(format!("Basic {}", STANDARD.encode(format!("{username}:{password}"))))
            }
            _ => None,
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct DockerConfig {
    auths: HashMap<String, Auth>,
    cred_helpers: HashMap<String, String>,
    creds_store: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Auth {
    auth: String,
    username: String,
    password: String,
    #[serde(alias = "identityToken")]
    identitytoken: String,
    #[serde(alias = "registryToken")]
    registrytoken: String,
}

impl Auth {
    fn credentials(&self) -> Option<Credentials> {
        let filled = |text: &String| (!text.is_empty()).then(|| text.clone());
        filled(&self.identitytoken)
            .map(Credentials::IdentityToken)
            .or_else(|| filled(&self.registrytoken).map(Credentials::RegistryToken))
            .or_else(|| Credentials::from_auth(&self.auth).filter(|_| !self.auth.is_empty()))
            .or_else(|| {
                filled(&self.username)
                    .map(|username| Credentials::Basic { username, password: self.password.clone() })
            })
    }
}

/// What docker's configuration has for an image: of a helper program if one is named for the registry, else of the
/// entry with the longest matching name (`host`, or `host/namespace`). An absent file has nothing.
pub(super) async fn find(config: &Path, reference: &Reference) -> Result<Option<Credentials>, RegistryError> {
    let wrong = |reason: String| RegistryError::Config { path: config.to_owned(), reason };
    let text = match tokio::fs::read(config).await {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(wrong(e.to_string())),
    };
    let docker: DockerConfig = serde_json::from_slice(&text).map_err(|e| wrong(e.to_string()))?;
    if let Some(helper) = best(&docker.cred_helpers, reference) {
        return ask(helper, reference).await.map_err(wrong);
    }
    if let Some(found) = best(&docker.auths, reference).and_then(Auth::credentials) {
        return Ok(Some(found));
    }
    match docker.creds_store.as_str() {
        "" => Ok(None),
        store => ask(store, reference).await.map_err(wrong),
    }
}

/// The entry whose name is the longest beginning of the image's repository.
fn best<'a, T>(entries: &'a HashMap<String, T>, reference: &Reference) -> Option<&'a T> {
    let repository = reference.repository();
    let fitting = entries.iter().filter_map(|(name, value)| {
        let name = normalized(name);
        let rest = repository.strip_prefix(&name)?;
        (rest.is_empty() || rest.starts_with('/')).then_some((name.len(), value))
    });
    fitting.max_by_key(|(length, _)| *length).map(|(_, value)| value)
}

/// `https://index.docker.io/v1/` is `docker.io`.
fn normalized(name: &str) -> String {
    let name = name.trim_start_matches("https://").trim_start_matches("http://").trim_end_matches('/');
    let name = name.strip_suffix("/v1").or_else(|| name.strip_suffix("/v2")).unwrap_or(name);
    let (host, path) = name.split_at(name.find('/').unwrap_or(name.len()));
    let host = if matches!(host, "index.docker.io" | "registry-1.docker.io") { DEFAULT_DOMAIN } else { host };
    format!("{host}{path}")
}

/// Asks `docker-credential-<name> get`; "not found" is no error.
async fn ask(name: &str, reference: &Reference) -> Result<Option<Credentials>, String> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Answer {
        username: String,
        secret: String,
    }
    let program = format!("docker-credential-{name}");
    let failed = |e: std::io::Error| format!("{program}: {e}");
    let key =
        if reference.domain == DEFAULT_DOMAIN { "https://index.docker.io/v1/" } else { &reference.domain };
    let mut child = tokio::process::Command::new(&program)
        .arg("get")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(failed)?;
    if let Some(mut stdin) = child.stdin.take() {
        // A program that does not read its question has its own say below.
        let _ = stdin.write_all(key.as_bytes()).await;
    }
    let answered =
        tokio::time::timeout(Duration::from_secs(HELPER_SECONDS_MAX), child.wait_with_output()).await;
    let output =
        answered.map_err(|_| format!("{program}: no answer for {HELPER_SECONDS_MAX} s"))?.map_err(failed)?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        return if said.contains("credentials not found") {
            Ok(None)
        } else {
            Err(format!("{program}: {said}"))
        };
    }
    let answer: Answer = serde_json::from_slice(&output.stdout).map_err(|e| format!("{program}: {e}"))?;
    Ok(Some(match answer.username.as_str() {
        "<token>" => Credentials::IdentityToken(answer.secret),
        _ => Credentials::Basic { username: answer.username, password: answer.secret },
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn basic(username: &str) -> Option<Credentials> {
        Some(Credentials::Basic { username: username.to_owned(), password: "p".to_owned() })
    }

    #[tokio::test]
    async fn the_longest_name_wins() {
        let auth = |user: &str| STANDARD.encode(format!("{user}:p"));
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("config.json");
        let text = format!(
            r#"{{"auths":{{"https://index.docker.io/v1/":{{"auth":"{}"}},"r.example:5000":{{"auth":"{}"}},
            "r.example:5000/team":{{"username":"team","password":"p"}},"t.example":{{"identitytoken":"tok"}},
            "empty.example":{{}}}},"HttpHeaders":{{}}}}"#,
            auth("hub"),
            auth("host")
        );
        assert_eq!(find(&file, &"nginx".parse().unwrap()).await.unwrap(), None);
        std::fs::write(&file, text).unwrap();
        let table = [
            ("nginx", basic("hub")),
            ("r.example:5000/other/x", basic("host")),
            ("r.example:5000/team/x", basic("team")),
            ("r.example:5000/teams", basic("host")),
            ("t.example/x", Some(Credentials::IdentityToken("tok".to_owned()))),
            ("empty.example/x", None),
            ("r.example/x", None),
        ];
        for (reference, expected) in table {
            assert_eq!(find(&file, &reference.parse().unwrap()).await.unwrap(), expected, "{reference}");
        }
        std::fs::write(&file, "{").unwrap();
        assert!(find(&file, &"nginx".parse().unwrap()).await.is_err());
    }

    #[test]
    fn auth_is_base64_of_user_and_password() {
        assert_eq!(Credentials::from_auth(&STANDARD.encode("u:p\0\0")), basic("u"));
        assert_eq!(basic("u").and_then(|c| c.basic()).as_deref(), Some("Basic dTpw"));
        assert_eq!(Credentials::from_auth("?"), None);
        assert_eq!(format!("{:?}", basic("u")), "Some(Basic(..))");
    }
}
