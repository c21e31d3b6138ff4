//! Kubeconfig files: which server, whom to trust, who we are. The format is that of `client-go`'s `clientcmd/api/v1`.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use crate::Credentials;

/// Where a server is and what to show it.
#[derive(Debug, Clone, Default)]
pub struct Config {
    /// As `https://127.0.0.1:6443`.
    pub server: String,
    /// Certificates that the server's must descend from, in PEM; `None` trusts none but those built in.
    pub authority: Option<Vec<u8>>,
    /// The name in the server's certificate, where it is not that of the address.
    pub server_name: Option<String>,
    /// Our certificate and its key, in PEM.
    pub certificate: Option<(Vec<u8>, Vec<u8>)>,
    /// The same where it may be replaced while a client runs; counts before `certificate`.
    pub credentials: Option<Credentials>,
    /// A bearer token.
    pub token: Option<String>,
    /// The namespace of a request that names none.
    pub namespace: String,
}

/// Why a kubeconfig cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KubeconfigError {
    /// A file cannot be read.
    #[error("{path}")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is no kubeconfig.
    #[error("{path} is not a kubeconfig: {why}")]
    Malformed {
        /// Which.
        path: PathBuf,
        /// What was found.
        why: String,
    },
    /// A name in it leads nowhere.
    #[error("{path}: there is no {what} \"{name}\"; known: {known}")]
    Missing {
        /// Which file.
        path: PathBuf,
        /// `context`, `cluster` or `user`.
        what: &'static str,
        /// The name.
        name: String,
        /// The names that would do.
        known: String,
    },
    /// It asks for something that cleat does not do.
    #[error("{path}: {what} is not supported; use client certificates or a token")]
    Unsupported {
        /// Which file.
        path: PathBuf,
        /// `exec`, `auth-provider`, `insecure-skip-tls-verify`.
        what: &'static str,
    },
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct File {
    #[serde(default)]
    clusters: Vec<Named<Cluster>>,
    #[serde(default)]
    users: Vec<Named<User>>,
    #[serde(default)]
    contexts: Vec<Named<Context>>,
    #[serde(default)]
    current_context: String,
}

#[derive(Deserialize)]
struct Named<T> {
    name: String,
    #[serde(alias = "cluster", alias = "user", alias = "context")]
    value: T,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "kebab-case", default)]
struct Cluster {
    server: String,
    certificate_authority: Option<PathBuf>,
    certificate_authority_data: Option<String>,
    tls_server_name: Option<String>,
    insecure_skip_tls_verify: bool,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "kebab-case", default)]
struct User {
    client_certificate: Option<PathBuf>,
    client_certificate_data: Option<String>,
    client_key: Option<PathBuf>,
    client_key_data: Option<String>,
    token: Option<String>,
    #[serde(rename = "tokenFile")]
    token_file: Option<PathBuf>,
    exec: Option<serde_json::Value>,
    auth_provider: Option<serde_json::Value>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Context {
    cluster: String,
    user: String,
    namespace: String,
}

impl Config {
    /// Reads a kubeconfig and follows `context`, or its current one.
    ///
    /// # Errors
    /// When the file cannot be read or is not complete.
    pub fn load(path: &Path, context: Option<&str>) -> Result<Self, KubeconfigError> {
        Self::parse(path, &String::from_utf8_lossy(&read(path)?), context)
    }

    /// As [`Config::load`], of a kubeconfig that has been read already and came from `path`.
    ///
    /// # Errors
    /// When it is not complete, or a file that it names cannot be read.
    pub(crate) fn parse(path: &Path, text: &str, context: Option<&str>) -> Result<Self, KubeconfigError> {
        let malformed = |why: String| KubeconfigError::Malformed { path: path.to_owned(), why };
        let file: File = serde_saphyr::from_str(text).map_err(|error| malformed(error.to_string()))?;
        let context = context.unwrap_or(&file.current_context);
        let context = find(path, "context", &file.contexts, context)?;
        let cluster = find(path, "cluster", &file.clusters, &context.cluster)?;
        let user = find(path, "user", &file.users, &context.user)?;
        let unsupported = |what| Err(KubeconfigError::Unsupported { path: path.to_owned(), what });
        if cluster.insecure_skip_tls_verify {
            return unsupported("insecure-skip-tls-verify");
        }
        if user.exec.is_some() {
            return unsupported("exec");
        }
        if user.auth_provider.is_some() {
            return unsupported("auth-provider");
        }
        let pem = |data: &Option<String>, file: &Option<PathBuf>| pem(path, data.as_deref(), file.as_deref());
        let certificate = pem(&user.client_certificate_data, &user.client_certificate)?;
        let key = pem(&user.client_key_data, &user.client_key)?;
        let token = match &user.token_file {
            Some(file) => Some(String::from_utf8_lossy(&read(&beside(path, file))?).trim().to_owned()),
            None => user.token.clone(),
        };
        Ok(Self {
            server: cluster.server.trim_end_matches('/').to_owned(),
            authority: pem(&cluster.certificate_authority_data, &cluster.certificate_authority)?,
            server_name: cluster.tls_server_name.clone(),
            certificate: certificate.zip(key),
            credentials: None,
            token,
            namespace: if context.namespace.is_empty() {
                "default".into()
            } else {
                context.namespace.clone()
            },
        })
    }

    /// Where a user's kubeconfig is: `KUBECONFIG` (its first file), else `~/.kube/config`.
    #[must_use]
    pub fn path(kubeconfig: Option<&str>, home: Option<&str>) -> Option<PathBuf> {
        let first = kubeconfig.and_then(|list| list.split(':').find(|p| !p.is_empty()));
        first.map(PathBuf::from).or_else(|| home.map(|home| Path::new(home).join(".kube/config")))
    }
}

fn find<'a, T>(
    path: &Path,
    what: &'static str,
    all: &'a [Named<T>],
    name: &str,
) -> Result<&'a T, KubeconfigError> {
    all.iter().find(|n| n.name == name).map(|n| &n.value).ok_or_else(|| KubeconfigError::Missing {
        path: path.to_owned(),
        what,
        name: name.to_owned(),
        known: all.iter().map(|n| n.name.as_str()).collect::<Vec<_>>().join(", "),
    })
}

/// Paths in a kubeconfig are relative to it.
fn beside(kubeconfig: &Path, file: &Path) -> PathBuf {
    kubeconfig.parent().unwrap_or(Path::new("")).join(file)
}

fn read(path: &Path) -> Result<Vec<u8>, KubeconfigError> {
    std::fs::read(path).map_err(|source| KubeconfigError::Read { path: path.to_owned(), source })
}

fn pem(path: &Path, data: Option<&str>, file: Option<&Path>) -> Result<Option<Vec<u8>>, KubeconfigError> {
    match (data, file) {
        (Some(data), _) => STANDARD.decode(data.trim()).map(Some).map_err(|error| {
            KubeconfigError::Malformed { path: path.to_owned(), why: format!("certificate data: {error}") }
        }),
        (None, Some(file)) => read(&beside(path, file)).map(Some),
        (None, None) => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "
apiVersion: v1
kind: Config
clusters:
- {name: c, cluster: {server: 'https://127.0.0.1:1/', certificate-authority-data: QQ==}}
users:
- {name: u, user: {client-certificate: cert.pem, client-key: key.pem}}
- {name: t, user: {tokenFile: token}}
- {name: e, user: {exec: {command: aws}}}
contexts:
- {name: one, context: {cluster: c, user: u, namespace: n}}
- {name: two, context: {cluster: c, user: t}}
- {name: three, context: {cluster: c, user: e}}
current-context: one
";

    #[test]
    fn a_context_leads_to_a_server_and_credentials() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config");
        for (name, text) in [("config", FILE), ("cert.pem", "C"), ("key.pem", "K"), ("token", "T\n")] {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        let one = Config::load(&path, None).unwrap();
        assert_eq!(one.server, "https://127.0.0.1:1");
        assert_eq!(one.authority.as_deref(), Some(&b"A"[..]));
        assert_eq!(one.certificate, Some((b"C".to_vec(), b"K".to_vec())));
        assert_eq!(one.namespace, "n");
        let two = Config::load(&path, Some("two")).unwrap();
        assert_eq!((two.token.as_deref(), two.namespace.as_str()), (Some("T"), "default"));
        let refused = |context| Config::load(&path, Some(context)).unwrap_err().to_string();
        assert!(refused("three").contains("exec is not supported"));
        assert!(refused("four").contains("no context \"four\"; known: one, two, three"));
        let none = Config::load(&folder.path().join("none"), None).unwrap_err();
        assert!(none.to_string().ends_with("none"));
    }

    #[test]
    fn where_it_is() {
        let path = |k, h| Config::path(k, h).map(|p| p.display().to_string());
        assert_eq!(path(Some("/a:/b"), Some("/h")).as_deref(), Some("/a"));
        assert_eq!(path(Some(""), Some("/h")).as_deref(), Some("/h/.kube/config"));
        assert_eq!(path(None, None), None);
    }
}
