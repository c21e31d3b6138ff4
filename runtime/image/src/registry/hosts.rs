//! Where a registry's content is to be had: `hosts.toml`, read as containerd reads it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use http::{HeaderName, HeaderValue, Uri};
use serde::Deserialize;

use super::RegistryError;
use crate::reference::DEFAULT_DOMAIN;

/// One place to ask: a mirror, or the registry itself, which is the last.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Host {
    pub(super) scheme: &'static str,
    /// Host and port.
    pub(super) authority: String,
    /// Path of the API, `/v2` as a rule.
    pub(super) path: String,
    /// May be asked what a tag stands for.
    pub(super) resolve: bool,
    /// May be asked for content by digest.
    pub(super) pull: bool,
    /// A mirror is told which registry is meant, and gets none of that registry's credentials.
    pub(super) mirror: bool,
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
    pub(super) tls: Tls,
}

/// Whom to trust, and how to prove oneself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(super) struct Tls {
    /// Files of further authorities.
    pub(super) ca: Vec<PathBuf>,
    /// Files of the own certificate and its key (in the same file if absent).
    pub(super) client: Option<(PathBuf, Option<PathBuf>)>,
    pub(super) skip_verify: bool,
}

#[derive(Deserialize)]
struct HostsFile {
    server: Option<String>,
    #[serde(default)]
    host: BTreeMap<toml::Spanned<String>, HostTable>,
    #[serde(flatten)]
    own: HostTable,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct HostTable {
    capabilities: Option<Vec<String>>,
    ca: OneOrMore,
    client: Option<toml::Value>,
    skip_verify: bool,
    override_path: bool,
    header: BTreeMap<String, OneOrMore>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMore {
    One(String),
    More(Vec<String>),
}

impl Default for OneOrMore {
    fn default() -> OneOrMore {
        OneOrMore::More(Vec::new())
    }
}

impl OneOrMore {
    fn all(&self) -> &[String] {
        match self {
            OneOrMore::One(one) => std::slice::from_ref(one),
            OneOrMore::More(more) => more,
        }
    }
}

/// The places to ask for a registry's content, in order, by the first of the directories that knows it.
pub(super) fn hosts(certs_d: &[PathBuf], domain: &str) -> Result<Vec<Host>, RegistryError> {
    let with_port = domain.contains(':').then(|| domain.replacen(':', "_", 1) + "_");
    let names = with_port.as_deref().into_iter().chain([domain, "_default"]);
    let mut directories = names.flat_map(|name| certs_d.iter().map(move |root| root.join(name)));
    let Some(directory) = directories.find(|directory| directory.is_dir()) else {
        return Ok(vec![default_host(domain)]);
    };
    let file = directory.join("hosts.toml");
    match std::fs::read_to_string(&file) {
        Ok(text) => {
            parse(&text, domain, &directory).map_err(|reason| RegistryError::Config { path: file, reason })
        }
        Err(_) => Ok(vec![Host { tls: docker_tls(&directory), ..default_host(domain) }]),
    }
}

/// The registry itself: by https, but on this machine by http.
fn default_host(domain: &str) -> Host {
    let authority = if domain == DEFAULT_DOMAIN { "registry-1.docker.io" } else { domain };
    Host {
        scheme: if is_local(authority) && !authority.ends_with(":443") { "http" } else { "https" },
        authority: authority.to_owned(),
        path: "/v2".to_owned(),
        resolve: true,
        pull: true,
        mirror: false,
        headers: Vec::new(),
        tls: Tls::default(),
    }
}

/// Whether a host is this machine.
fn is_local(authority: &str) -> bool {
    let host = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => host,
        _ => authority,
    };
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>();
    host == "localhost" || host.ends_with(".localhost") || address.is_ok_and(|address| address.is_loopback())
}

fn parse(text: &str, domain: &str, directory: &Path) -> Result<Vec<Host>, String> {
    let file: HostsFile = toml::from_str(text).map_err(|e| e.to_string())?;
    // The order of the tables is the order to ask in.
    let mut mirrors: Vec<_> = file.host.into_iter().collect();
    mirrors.sort_by_key(|(url, _)| url.span().start);
    let mut hosts = Vec::new();
    for (url, table) in mirrors {
        hosts.push(host(url.get_ref(), &table, directory, true)?);
    }
    let own = match &file.server {
        Some(server) => host(server, &file.own, directory, false)?,
        None => {
            let default = default_host(domain);
            let url = format!("{}://{}", default.scheme, default.authority);
            host(&url, &file.own, directory, false)?
        }
    };
    // The registry may be listed among its mirrors.
    match hosts
        .iter_mut()
        .find(|host| (host.scheme, &host.authority, &host.path) == (own.scheme, &own.authority, &own.path))
    {
        Some(listed) => listed.mirror = false,
        None => hosts.push(own),
    }
    Ok(hosts)
}

fn host(url: &str, table: &HostTable, directory: &Path, mirror: bool) -> Result<Host, String> {
    let full = match url.contains("://") {
        true => url.to_owned(),
        false => format!("{}://{url}", if is_local(url) { "http" } else { "https" }),
    };
    let uri: Uri = full.parse().map_err(|e| format!("{url:?} is no URL: {e}"))?;
    let scheme = match uri.scheme_str() {
        Some("http") => "http",
        Some("https") => "https",
        _ => return Err(format!("{url:?}: the scheme must be http or https")),
    };
    let authority = uri.authority().ok_or_else(|| format!("{url:?} has no host"))?.as_str();
    let authority = if authority == DEFAULT_DOMAIN { "registry-1.docker.io" } else { authority };
    let own = uri.path().trim_end_matches('/');
    let path = if table.override_path || own.ends_with("/v2") { own.to_owned() } else { format!("{own}/v2") };
    let can = |what: &str| table.capabilities.as_ref().is_none_or(|all| all.iter().any(|c| c == what));
    if let Some(unknown) =
        table.capabilities.iter().flatten().find(|c| !["pull", "resolve", "push"].contains(&&***c))
    {
        return Err(format!("{url:?}: unknown capability {unknown:?}: expected pull, resolve or push"));
    }
    let mut headers = Vec::new();
    for (name, values) in &table.header {
        let name: HeaderName = name.parse().map_err(|_| format!("{url:?}: {name:?} is no header name"))?;
        for value in values.all() {
            let value =
                value.parse().map_err(|_| format!("{url:?}: the value of header {name} cannot be sent"))?;
            headers.push((name.clone(), value));
        }
    }
    let tls = Tls {
        ca: table.ca.all().iter().map(|file| directory.join(file)).collect(),
        client: client(table.client.as_ref(), directory)
            .ok_or_else(|| format!("{url:?}: malformed client"))?,
        skip_verify: table.skip_verify,
    };
    let (resolve, pull) = (can("resolve"), can("pull"));
    Ok(Host { scheme, authority: authority.to_owned(), path, resolve, pull, mirror, headers, tls })
}

/// `client`: a file with certificate and key, or a list of files, or a list of pairs. The first counts.
#[expect(clippy::option_option, reason = "malformed, or absent, or there")]
fn client(value: Option<&toml::Value>, directory: &Path) -> Option<Option<(PathBuf, Option<PathBuf>)>> {
    use toml::Value::{Array, String};
    let file = |name: &str| directory.join(name);
    Some(match value {
        None => None,
        Some(String(both)) => Some((file(both), None)),
        Some(Array(all)) => match all.first() {
            None => None,
            Some(String(both)) => Some((file(both), None)),
            Some(Array(pair)) => match pair.as_slice() {
                [String(certificate)] => Some((file(certificate), None)),
                [String(certificate), String(key)] if key.is_empty() => Some((file(certificate), None)),
                [String(certificate), String(key)] => Some((file(certificate), Some(file(key)))),
                _ => return None,
            },
            Some(_) => return None,
        },
        Some(_) => return None,
    })
}

/// Docker's layout of such a directory: `*.crt` are authorities, `x.cert` and `x.key` are the client's.
fn docker_tls(directory: &Path) -> Tls {
    let mut files: Vec<_> =
        std::fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    files.sort();
    let has = |file: &&PathBuf, extension: &str| file.extension().is_some_and(|own| own == extension);
    let client = files.iter().find(|file| has(file, "cert"));
    let client = client.map(|certificate| (certificate.clone(), Some(certificate.with_extension("key"))));
    Tls { ca: files.iter().filter(|file| has(file, "crt")).cloned().collect(), client, skip_verify: false }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(text: &str, domain: &str) -> Vec<String> {
        let hosts = parse(text, domain, Path::new("/d")).unwrap_or_else(|e| panic!("{e}"));
        let letters = |host: &Host| {
            let can = [(host.resolve, 'r'), (host.pull, 'p'), (host.mirror, 'm')];
            can.iter().filter(|(can, _)| *can).map(|(_, letter)| letter).collect::<String>()
        };
        hosts.iter().map(|h| format!("{}://{}{} {}", h.scheme, h.authority, h.path, letters(h))).collect()
    }

    #[test]
    fn mirrors_come_in_the_order_of_the_file() {
        let text = r#"
            server = "https://docker.io"
            [host."https://z.example"]
            capabilities = ["pull"]
            [host."http://a.example:5000/cache"]
            [host."https://m.example/v2/proxy"]
            override_path = true
        "#;
        let expected = [
            "https://z.example/v2 pm",
            "http://a.example:5000/cache/v2 rpm",
            "https://m.example/v2/proxy rpm",
            "https://registry-1.docker.io/v2 rp",
        ];
        assert_eq!(places(text, "docker.io"), expected);
        assert_eq!(places("", "localhost:5000"), ["http://localhost:5000/v2 rp"]);
        assert_eq!(places("server = 'https://127.0.0.1:1'", "127.0.0.1:1"), ["https://127.0.0.1:1/v2 rp"]);
        assert_eq!(places("[host.'https://x.io']", "x.io"), ["https://x.io/v2 rp"]);
        assert_eq!(places("", "x.io"), ["https://x.io/v2 rp"]);
    }

    #[test]
    fn certificates_and_headers() {
        let text = r#"
            ca = "ca.crt"
            [host."https://a"]
            ca = ["/etc/a.crt", "b.crt"]
            client = [["c.pem", "c.key"]]
            skip_verify = true
            header.x-one = "1"
            header.x-two = ["2", "3"]
        "#;
        let hosts = parse(text, "r.example", Path::new("/d")).unwrap();
        assert_eq!(hosts[0].tls.ca, [Path::new("/etc/a.crt"), Path::new("/d/b.crt")]);
        assert_eq!(hosts[0].tls.client, Some(("/d/c.pem".into(), Some("/d/c.key".into()))));
        assert_eq!((hosts[0].headers.len(), hosts[0].tls.skip_verify), (3, true));
        assert_eq!(hosts[1].tls.ca, [Path::new("/d/ca.crt")]);
        for bad in [
            "server = 3",
            "[host.'ftp://x']",
            "[host.'https://x']\ncapabilities = ['all']",
            "client = 1",
            "x",
        ] {
            assert!(parse(bad, "r", Path::new("/d")).is_err(), "{bad}");
        }
    }

    #[test]
    fn directories_by_name() {
        let root = tempfile::tempdir().unwrap();
        let directories = [root.path().to_owned()];
        let server = |domain: &str| hosts(&directories, domain).unwrap().pop().unwrap().authority;
        assert_eq!(server("r.example:5000"), "r.example:5000");
        for (name, server) in
            [("_default", "d"), ("r.example:5000", "colon"), ("r.example_5000_", "underscore")]
        {
            std::fs::create_dir(root.path().join(name)).unwrap();
            std::fs::write(root.path().join(name).join("hosts.toml"), format!("server = 'https://{server}'"))
                .unwrap();
        }
        assert_eq!((server("r.example:5000"), server("r.example")), ("underscore".into(), "d".into()));
        std::fs::create_dir(root.path().join("docker.example")).unwrap();
        std::fs::write(root.path().join("docker.example/ca.crt"), "").unwrap();
        assert_eq!(hosts(&directories, "docker.example").unwrap()[0].tls.ca.len(), 1);
    }

    #[test]
    fn this_machine_speaks_http() {
        let table = [
            ("localhost", true),
            ("127.0.0.1:80", true),
            ("[::1]:5000", true),
            ("10.0.0.1", false),
            ("l.io", false),
        ];
        for (domain, http) in table {
            assert_eq!(default_host(domain).scheme == "http", http, "{domain}");
        }
    }
}
