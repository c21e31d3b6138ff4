//! The operations of a runtime on a network: [`Networks`].

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use linux::crash;
use proto_node::cni::{AddResult, Capabilities, GcAttachment, Version};
use serde_json::{Map, Value};

use crate::cache::{Cache, Entry};
use crate::conf::{ConfError, NetworkList};
use crate::plugin::{self, Call, PluginError};
use crate::turn::Turn;

/// The directories of CNI on a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dirs {
    /// Network configurations, `/etc/cni/net.d` by custom.
    pub conf: PathBuf,
    /// Plugins' programs; the first that has one wins. `/opt/cni/bin` by custom.
    pub plugins: Vec<PathBuf>,
    /// Where attachments are remembered, `/var/lib/cni` by custom.
    pub cache: PathBuf,
}

/// A container's interface on a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attachment {
    /// The container's (for Kubernetes: the sandbox's) id.
    pub container_id: String,
    /// Its network namespace, e.g. `/proc/<monitor>/ns/net`. For DEL it may be gone, or empty.
    pub netns: PathBuf,
    /// The interface's name in it, `eth0` by custom.
    pub ifname: String,
    /// `CNI_ARGS`; Kubernetes: `IgnoreUnknown=1`, `K8S_POD_NAMESPACE`, `K8S_POD_NAME`, `K8S_POD_INFRA_CONTAINER_ID`,
    /// `K8S_POD_UID`.
    pub args: Vec<(String, String)>,
    /// What plugins that declare the capability are told.
    pub capabilities: Capabilities,
}

/// Why an operation on a network failed.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// There is no usable configuration.
    #[error(transparent)]
    Conf(#[from] ConfError),
    /// A plugin failed, and what ADD had done is undone.
    #[error("network {network:?}")]
    Plugin {
        /// The network.
        network: String,
        /// Why.
        source: Box<PluginError>,
    },
    /// A plugin failed, and so did undoing what ADD had done. DEL may be tried again.
    #[error("network {network:?}; what was half-made could not be undone: {undo}")]
    Undo {
        /// The network.
        network: String,
        /// Why ADD failed.
        source: Box<PluginError>,
        /// Why DEL failed after it.
        undo: String,
    },
    /// Several things failed where all had to be tried.
    #[error("{}", .0.join("; "))]
    Several(
        /// Each of them.
        Vec<String>,
    ),
    /// The configuration's version has no such operation.
    #[error("network {network:?} has cniVersion {version}, which has no {command}")]
    Version {
        /// The network.
        network: String,
        /// Its version.
        version: Version,
        /// The operation.
        command: &'static str,
    },
    /// CHECK of an attachment that was never made.
    #[error("container {container_id} has no interface {ifname} on any network")]
    NotAttached {
        /// The container.
        container_id: String,
        /// Its interface.
        ifname: String,
    },
    /// The container's loopback interface cannot be brought up.
    #[error("cannot bring up lo in {netns}")]
    Loopback {
        /// The network namespace.
        netns: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The memory of attachments cannot be read or written.
    #[error("cannot use the CNI result cache {dir}")]
    Cache {
        /// Where it is.
        dir: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// The pod network of a machine. Holds no state but paths: every call reads the configuration anew.
#[derive(Debug, Clone)]
pub struct Networks {
    dirs: Dirs,
    limit: Duration,
}

impl Networks {
    /// With a limit of 60 s for each run of a plugin.
    pub fn new(dirs: Dirs) -> Networks {
        Networks { dirs, limit: Duration::from_secs(60) }
    }

    /// With another limit for each run of a plugin; one that takes longer is killed.
    pub fn with_limit(self, limit: Duration) -> Networks {
        Networks { limit, ..self }
    }

    /// The configuration in force: the first valid one in lexical order.
    pub fn load(&self) -> Result<NetworkList, ConfError> {
        NetworkList::load(&self.dirs.conf)
    }

    fn cache(&self) -> Cache {
        Cache::new(&self.dirs.cache)
    }

    fn cache_error(&self, source: io::Error) -> NetworkError {
        NetworkError::Cache { dir: self.cache().dir().to_owned(), source }
    }

    /// Brings up `lo`, then attaches the container to the network in force. If that fails, everything is undone.
    pub fn add(&self, attachment: &Attachment) -> Result<AddResult, NetworkError> {
        let list = self.load()?;
        loopback_up(attachment)?;
        let cache = self.cache();
        let turn = self.turn(attachment.clone())?;
        let mut entry = Entry::new(&list, attachment);
        cache.write(&entry).map_err(|e| self.cache_error(e))?;
        crash::point("network.recorded");
        let network = list.name.clone();
        let source = match self.add_list(&list, &turn) {
            Ok((result, json)) => {
                crash::point("network.attached");
                entry.set_result(json);
                let Err(lost) = cache.write(&entry) else { return Ok(result) };
                // a full disk: nobody shall use what CHECK could never find again
                let undone = self.del_entry(&entry, turn);
                let lost = self.cache_error(lost);
                return Err(match undone {
                    Ok(()) => lost,
                    Err(undo) => NetworkError::Several(vec![text(&lost), text(&undo)]),
                });
            }
            Err(source) => Box::new(source),
        };
        Err(match self.del_entry(&entry, turn) {
            Ok(()) => NetworkError::Plugin { network, source },
            Err(undo) => NetworkError::Undo { network, source, undo: text(&undo) },
        })
    }

    fn turn(&self, attachment: Attachment) -> Result<Turn, NetworkError> {
        Turn::take(&self.dirs.cache.join("turns"), attachment, self.limit).map_err(|e| self.cache_error(e))
    }

    fn add_list(&self, list: &NetworkList, turn: &Turn) -> Result<(AddResult, Value), PluginError> {
        let mut previous = None;
        for plugin in &list.plugins {
            let output = self.run(list, plugin, "ADD", turn, previous.as_ref())?;
            previous = Some(result(plugin, list.version, &output)?);
        }
        let json = previous.expect("a list has at least one plugin");
        let form = |reason: String| PluginError::Result { name: list.name.clone(), command: "ADD", reason };
        Ok((AddResult::from_json(&json).map_err(|e| form(text(&e)))?, json))
    }

    /// Detaches the container from every network it was attached to with this interface name, with the
    /// configuration of that time. May be repeated; what is gone already is no error. A plugin that fails ends it for
    /// its network: what the plugins before it made stays, and so does the memory of it, until DEL or GC goes on.
    pub fn del(&self, attachment: &Attachment) -> Result<(), NetworkError> {
        let cache = self.cache();
        let mut entries =
            cache.of(&attachment.container_id, &attachment.ifname).map_err(|e| self.cache_error(e))?;
        if entries.is_empty() {
            // the cache may be lost: what the network in force can undo by itself, it shall
            let Ok(list) = self.load() else { return Ok(()) };
            entries.push(Entry::new(&list, attachment));
        }
        several(entries.into_iter().map(|mut entry| {
            entry.netns = attachment.netns.display().to_string();
            self.del_entry(&entry, self.turn(entry.attachment())?)
        }))
    }

    fn del_entry(&self, entry: &Entry, turn: Turn) -> Result<(), NetworkError> {
        let cache = self.cache();
        let list = match entry.list(cache.dir()) {
            Some(list) => list,
            None => self.load()?,
        };
        let previous = entry.result().filter(|_| list.version >= Version::V0_4_0);
        let previous = previous.and_then(|r| r.to_json(list.version).ok());
        // the first failure ends it: an address must stay taken while a host port may still lead to it
        for plugin in list.plugins.iter().rev() {
            self.run(&list, plugin, "DEL", &turn, previous.as_ref()).map_err(|e| plugin_error(&list, e))?;
        }
        crash::point("network.detached");
        cache.remove(entry).and_then(|()| turn.end()).map_err(|e| self.cache_error(e))
    }

    /// Asks the plugins whether the attachment still is as ADD left it. `disableCheck`: it is.
    pub fn check(&self, attachment: &Attachment) -> Result<(), NetworkError> {
        let Attachment { container_id, ifname, .. } = attachment;
        let cache = self.cache();
        let entries = cache.of(container_id, ifname).map_err(|e| self.cache_error(e))?;
        if entries.is_empty() {
            let (container_id, ifname) = (container_id.clone(), ifname.clone());
            return Err(NetworkError::NotAttached { container_id, ifname });
        }
        for entry in entries {
            let list = match entry.list(cache.dir()) {
                Some(list) => list,
                None => self.load()?,
            };
            if list.disable_check {
                continue;
            }
            require(&list, Version::V0_4_0, "CHECK")?;
            let previous = entry.result().and_then(|r| r.to_json(list.version).ok());
            let attachment = Attachment { netns: attachment.netns.clone(), ..entry.attachment() };
            let turn = self.turn(attachment)?;
            for plugin in &list.plugins {
                self.run(&list, plugin, "CHECK", &turn, previous.as_ref())
                    .map_err(|e| plugin_error(&list, e))?;
            }
        }
        Ok(())
    }

    /// Undoes every remembered attachment that is not among `valid`, then lets the plugins of the network in force
    /// clean up what else is not (1.1.0 and later, unless `disableGC`). What an attachment has that could not be
    /// undone is not theirs to take: it counts as valid to them.
    pub fn gc(&self, valid: &[GcAttachment]) -> Result<(), NetworkError> {
        let entries = self.cache().list("").map_err(|e| self.cache_error(e))?;
        let is_valid =
            |e: &Entry| valid.iter().any(|v| v.container_id == e.container_id && v.ifname == e.ifname);
        let (mut keep, mut failed) = (valid.to_vec(), Vec::new());
        for stale in entries.iter().filter(|e| !is_valid(e)) {
            let done = self.turn(stale.attachment()).and_then(|turn| self.del_entry(stale, turn));
            if let Err(error) = done {
                failed.push(text(&error));
                let (container_id, ifname) = (stale.container_id.clone(), stale.ifname.clone());
                keep.push(GcAttachment { container_id, ifname });
            }
        }
        let list = self.load()?;
        if list.version >= Version::V1_1_0 && !list.disable_gc {
            let valid = serde_json::to_value(keep).expect("strings are JSON");
            for plugin in &list.plugins {
                let mut plugin = plugin.clone();
                plugin.insert("cni.dev/valid-attachments".into(), valid.clone());
                plugin.insert("cni.dev/attachments".into(), valid.clone());
                let run = self.call(&list, &plugin, "GC", None, None);
                failed.extend(run.err().map(|e| text(&e)));
            }
        }
        if failed.is_empty() { Ok(()) } else { Err(NetworkError::Several(failed)) }
    }

    /// The network in force can take containers: there is a valid configuration, its plugins are installed, and
    /// none says (1.1.0 and later) that it cannot.
    pub fn status(&self) -> Result<NetworkList, NetworkError> {
        let list = self.load()?;
        let fail = |e| plugin_error(&list, e);
        for plugin in &list.plugins {
            if list.version >= Version::V1_1_0 {
                self.call(&list, plugin, "STATUS", None, None).map_err(fail)?;
            } else {
                plugin::find(&self.dirs.plugins, plugin["type"].as_str().unwrap_or_default())
                    .map_err(fail)?;
            }
        }
        Ok(list)
    }

    fn run(
        &self,
        list: &NetworkList,
        plugin: &Map<String, Value>,
        command: &'static str,
        turn: &Turn,
        previous: Option<&Value>,
    ) -> Result<Vec<u8>, PluginError> {
        let mut plugin = plugin.clone();
        let runtime = runtime_config(&plugin, &turn.attachment.capabilities);
        if !runtime.is_empty() {
            plugin.insert("runtimeConfig".into(), runtime.into());
        }
        self.call(list, &plugin, command, Some(turn), previous)
    }

    fn call(
        &self,
        list: &NetworkList,
        plugin: &Map<String, Value>,
        command: &'static str,
        turn: Option<&Turn>,
        previous: Option<&Value>,
    ) -> Result<Vec<u8>, PluginError> {
        let mut conf = plugin.clone();
        conf.insert("name".into(), list.name.as_str().into());
        conf.insert("cniVersion".into(), list.version.as_str().into());
        if let Some(previous) = previous {
            conf.insert("prevResult".into(), previous.clone());
        }
        let stdin = Value::Object(conf).to_string().into_bytes();
        let name = plugin["type"].as_str().unwrap_or_default();
        let env = turn.map(|turn| environment(&turn.attachment)).unwrap_or_default();
        let call = Call { name, command, env: &env, stdin: &stdin, file: turn.map(Turn::file) };
        plugin::run(&self.dirs.plugins, &call, self.limit)
    }
}

fn environment(to: &Attachment) -> Vec<(&'static str, String)> {
    let args = to.args.iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>().join(";");
    vec![
        ("CNI_CONTAINERID", to.container_id.clone()),
        ("CNI_NETNS", to.netns.display().to_string()),
        ("CNI_IFNAME", to.ifname.clone()),
        ("CNI_ARGS", args),
    ]
}

fn plugin_error(list: &NetworkList, source: PluginError) -> NetworkError {
    NetworkError::Plugin { network: list.name.clone(), source: Box::new(source) }
}

fn loopback_up(attachment: &Attachment) -> Result<(), NetworkError> {
    netlink::netns::loopback_up(&attachment.netns)
        .map_err(|source| NetworkError::Loopback { netns: attachment.netns.clone(), source })
}

/// The part of what the runtime can tell that the plugin has declared.
fn runtime_config(plugin: &Map<String, Value>, capabilities: &Capabilities) -> Map<String, Value> {
    let Some(declared) = plugin.get("capabilities").and_then(Value::as_object) else { return Map::new() };
    let Ok(Value::Object(mut all)) = serde_json::to_value(capabilities) else { return Map::new() };
    all.retain(|key, _| declared.get(key).and_then(Value::as_bool) == Some(true));
    all
}

/// A plugin's output as a result in the list's version: what the next plugin is given.
fn result(plugin: &Map<String, Value>, version: Version, output: &[u8]) -> Result<Value, PluginError> {
    let name = plugin["type"].as_str().unwrap_or_default().to_owned();
    let fail = |reason: String| PluginError::Result { name: name.clone(), command: "ADD", reason };
    let value: Value = serde_json::from_slice(output).map_err(|e| fail(e.to_string()))?;
    let result = AddResult::from_json(&value).map_err(|e| fail(text(&e)))?;
    result.to_json(version).map_err(|e| fail(text(&e)))
}

fn require(list: &NetworkList, least: Version, command: &'static str) -> Result<(), NetworkError> {
    if list.version >= least {
        return Ok(());
    }
    Err(NetworkError::Version { network: list.name.clone(), version: list.version, command })
}

/// Does all, and gives what failed.
fn several(all: impl Iterator<Item = Result<(), NetworkError>>) -> Result<(), NetworkError> {
    let mut failed: Vec<NetworkError> = all.filter_map(Result::err).collect();
    match failed.len() {
        0 => Ok(()),
        1 => Err(failed.remove(0)),
        _ => Err(NetworkError::Several(failed.iter().map(|e| text(e)).collect())),
    }
}

/// An error with its causes, in one line.
pub(crate) fn text(error: &dyn std::error::Error) -> String {
    std::iter::successors(Some(error), |e| e.source()).map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

#[cfg(test)]
mod tests;
