//! Finding and reading the network configuration: [`NetworkList`].

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::{fs, io};

use proto_node::cni::{ConfList, UnknownVersion, Version};
use serde_json::{Map, Value, json};

/// A network: its plugins in the order of `ADD`, and the version all of them are spoken to in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkList {
    /// The network's name.
    pub name: String,
    /// The newest version that the configuration allows and we know.
    pub version: Version,
    /// Where it was read from.
    pub path: PathBuf,
    /// Files that come before it in order and are no valid configuration, and why.
    pub skipped: Vec<(PathBuf, String)>,
    pub(crate) disable_check: bool,
    pub(crate) disable_gc: bool,
    pub(crate) plugins: Vec<Map<String, Value>>,
}

/// Why there is no network configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfError {
    /// The directory holds no configuration at all.
    #[error(
        "no CNI network configuration in {dir}: put a *.conflist there (see https://www.cni.dev/docs/spec/), \
         or let `cleat up` write its own"
    )]
    Absent {
        /// The directory.
        dir: PathBuf,
    },
    /// It holds some, and none is valid.
    #[error("no valid CNI network configuration in {dir}: {}", list(skipped))]
    NoneValid {
        /// The directory.
        dir: PathBuf,
        /// Each file with what is wrong with it.
        skipped: Vec<(PathBuf, String)>,
    },
    /// A file or directory cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file is not JSON, or a field has the wrong type.
    #[error("{path} is not a CNI configuration")]
    Json {
        /// Which.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
    /// It allows no version that we know.
    #[error("{path}, cniVersion")]
    Version {
        /// Which.
        path: PathBuf,
        /// Why.
        source: UnknownVersion,
    },
    /// A field is missing or empty.
    #[error("{path}: {what}")]
    Field {
        /// Which file.
        path: PathBuf,
        /// Which field, and what it must be.
        what: String,
    },
}

fn list(skipped: &[(PathBuf, String)]) -> String {
    skipped.iter().map(|(_, why)| why.as_str()).collect::<Vec<_>>().join("; ")
}

/// An error with its causes, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    std::iter::successors(Some(error), |e| e.source()).map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

impl NetworkList {
    /// The first valid `*.conflist`, `*.conf` or `*.json` of `dir` in lexical order.
    pub fn load(dir: &Path) -> Result<NetworkList, ConfError> {
        let mut skipped = Vec::new();
        for path in files(dir, &["conflist", "conf", "json"])? {
            match NetworkList::read(&path) {
                Ok(list) => return Ok(NetworkList { skipped, ..list }),
                Err(error) => skipped.push((path, chain(&error))),
            }
        }
        let dir = dir.to_owned();
        Err(if skipped.is_empty() {
            ConfError::Absent { dir }
        } else {
            ConfError::NoneValid { dir, skipped }
        })
    }

    /// Reads one file: a list, or a single plugin's configuration (a list of one).
    pub fn read(path: &Path) -> Result<NetworkList, ConfError> {
        let text = read(path)?;
        let value: Value = json(path, serde_json::from_slice(&text))?;
        let single = value.get("plugins").is_none() && value.get("type").is_some();
        let conf: ConfList = if single {
            let object: Map<String, Value> = json(path, serde_json::from_value(value.clone()))?;
            let mut conf: ConfList = json(path, serde_json::from_value(value))?;
            conf.plugins = vec![object];
            conf
        } else {
            json(path, serde_json::from_value(value))?
        };
        NetworkList::from_conf(path, conf)
    }

    /// From a configuration as [`NetworkList::to_bytes`] gives it; `path` is for messages.
    pub(crate) fn from_bytes(path: &Path, bytes: &[u8]) -> Result<NetworkList, ConfError> {
        NetworkList::from_conf(path, json(path, serde_json::from_slice(bytes))?)
    }

    fn from_conf(path: &Path, mut conf: ConfList) -> Result<NetworkList, ConfError> {
        let field = |what: &str| ConfError::Field { path: path.to_owned(), what: what.to_owned() };
        let version =
            negotiate(&conf).map_err(|source| ConfError::Version { path: path.to_owned(), source })?;
        if !is_name(&conf.name) {
            return Err(field(
                "name must be letters, digits, '.', '_', '-', and start with a letter or digit",
            ));
        }
        if !conf.load_only_inlined_plugins {
            conf.plugins.extend(folder(path, &conf.name)?);
        }
        if conf.plugins.is_empty() {
            return Err(field("plugins is missing or empty"));
        }
        for (at, plugin) in conf.plugins.iter().enumerate() {
            if !plugin.get("type").and_then(Value::as_str).is_some_and(|t| !t.is_empty() && !t.contains('/'))
            {
                return Err(field(&format!("plugins[{at}].type must be the name of a plugin's program")));
            }
        }
        Ok(NetworkList {
            name: conf.name,
            version,
            path: path.to_owned(),
            skipped: Vec::new(),
            disable_check: conf.disable_check,
            disable_gc: conf.disable_gc,
            plugins: conf.plugins,
        })
    }

    /// The whole configuration, with plugins from a folder written into it.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let value = json!({
            "cniVersion": self.version, "name": self.name, "disableCheck": self.disable_check,
            "disableGC": self.disable_gc, "loadOnlyInlinedPlugins": true, "plugins": self.plugins,
        });
        value.to_string().into_bytes()
    }
}

/// The newest version that is ours and in `cniVersions` or `cniVersion`.
fn negotiate(conf: &ConfList) -> Result<Version, UnknownVersion> {
    let known = conf.cni_versions.iter().filter_map(|v| v.parse().ok()).max();
    match (conf.cni_version.parse(), known) {
        (Ok(version), None) => Ok(version),
        (Ok(_), Some(known)) if conf.cni_version.is_empty() => Ok(known),
        (Ok(version), Some(known)) => Ok(known.max(version)),
        (Err(_), Some(known)) => Ok(known),
        (Err(unknown), None) => Err(unknown),
    }
}

/// The specification's pattern for a network's name; it becomes part of a file's name.
fn is_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|b| b.is_ascii_alphanumeric())
        && bytes.all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
}

/// Plugins in the folder beside `path` that is named like the network, in lexical order (1.1.0).
fn folder(path: &Path, name: &str) -> Result<Vec<Map<String, Value>>, ConfError> {
    let dir = path.with_file_name(name);
    if !dir.is_dir() {
        return Ok(Vec::new());
    }
    files(&dir, &["conf"])?.iter().map(|file| json(file, serde_json::from_slice(&read(file)?))).collect()
}

/// Files of `dir` with one of the extensions, in lexical order. No directory: no files.
fn files(dir: &Path, extensions: &[&str]) -> Result<Vec<PathBuf>, ConfError> {
    let fail = |source| ConfError::Read { path: dir.to_owned(), source };
    let entries = match fs::read_dir(dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(fail)?,
    };
    let mut found = BTreeMap::new();
    for entry in entries {
        let entry = entry.map_err(fail)?;
        let path = entry.path();
        if path.extension().and_then(|e| e.to_str()).is_some_and(|e| extensions.contains(&e))
            && path.is_file()
        {
            found.insert(entry.file_name(), path);
        }
    }
    Ok(found.into_values().collect())
}

fn read(path: &Path) -> Result<Vec<u8>, ConfError> {
    fs::read(path).map_err(|source| ConfError::Read { path: path.to_owned(), source })
}

fn json<T>(path: &Path, result: serde_json::Result<T>) -> Result<T, ConfError> {
    result.map_err(|source| ConfError::Json { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dir(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        dir
    }

    #[test]
    fn takes_the_first_valid_file() {
        let list = r#"{"cniVersion":"1.0.0","name":"a","plugins":[{"type":"bridge"},{"type":"portmap"}]}"#;
        let dir = dir(&[
            ("00-broken.conflist", "{"),
            ("05-readme.txt", "{}"),
            ("10-noname.conf", r#"{"type":"bridge"}"#),
            ("20-good.conflist", list),
            ("30-later.conf", r#"{"cniVersion":"0.4.0","name":"b","type":"bridge"}"#),
        ]);
        let found = NetworkList::load(dir.path()).unwrap();
        assert_eq!((found.name.as_str(), found.version, found.plugins.len()), ("a", Version::V1_0_0, 2));
        assert_eq!(found.skipped.len(), 2);
        assert!(found.skipped[1].1.contains("name must be"), "{:?}", found.skipped);
        assert_eq!(NetworkList::from_bytes(&found.path, &found.to_bytes()).unwrap().plugins, found.plugins);
    }

    #[test]
    fn single_plugin_is_a_list_of_one() {
        let dir = dir(&[("a.conf", r#"{"name":"b","type":"bridge","mtu":1400}"#)]);
        let found = NetworkList::load(dir.path()).unwrap();
        assert_eq!((found.version, found.plugins[0]["mtu"].as_u64()), (Version::V0_1_0, Some(1400)));
    }

    #[test]
    fn says_where_to_put_what() {
        let empty = dir(&[]);
        let text = NetworkList::load(&empty.path().join("nowhere")).unwrap_err().to_string();
        assert!(text.contains("nowhere") && text.contains("*.conflist"), "{text}");
        let broken = dir(&[("a.conf", r#"{"name":"b","type":"x","cniVersion":"9.9.9"}"#)]);
        let text = NetworkList::load(broken.path()).unwrap_err().to_string();
        assert!(text.contains("a.conf") && text.contains("9.9.9"), "{text}");
    }

    #[test]
    fn negotiates_the_newest_common_version() {
        let version = |version: &str, versions: &[&str]| {
            let cni_versions = versions.iter().map(|&v| v.to_owned()).collect();
            negotiate(&ConfList { cni_version: version.into(), cni_versions, ..Default::default() }).ok()
        };
        assert_eq!(version("", &[]), Some(Version::V0_1_0));
        assert_eq!(version("", &["1.0.0", "0.4.0"]), Some(Version::V1_0_0));
        assert_eq!(version("1.0.0", &["1.1.0", "2.0.0"]), Some(Version::V1_1_0));
        assert_eq!(version("1.1.0", &["0.4.0"]), Some(Version::V1_1_0));
        assert_eq!(version("2.0.0", &["3.0.0"]), None);
    }

    #[test]
    fn plugins_come_from_the_folder_too() {
        let list = |only: bool| {
            format!(
                r#"{{"name":"a","cniVersion":"1.1.0","loadOnlyInlinedPlugins":{only},"plugins":[{{"type":"one"}}]}}"#
            )
        };
        for (only, count) in [(false, 3), (true, 1)] {
            let dir = dir(&[
                ("a.conflist", &list(only)),
                ("a/20.conf", r#"{"type":"three"}"#),
                ("a/10.conf", r#"{"type":"two"}"#),
            ]);
            let found = NetworkList::load(dir.path()).unwrap();
            assert_eq!(found.plugins.len(), count);
            assert!(only || found.plugins[1]["type"] == "two");
        }
    }
}
