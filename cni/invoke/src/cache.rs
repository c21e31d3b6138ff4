//! What is remembered of each attachment, in libcni's files: `results/<network>-<container>-<ifname>`.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use proto_node::cni::{AddResult, Capabilities, Version};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::chain::Attachment;
use crate::conf::NetworkList;

const KIND: &str = "cniCacheV1";

/// One attachment: what was asked for, the whole configuration it was made with, and its result.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Entry {
    kind: String,
    pub(crate) container_id: String,
    config: String,
    #[serde(rename = "ifName")]
    pub(crate) ifname: String,
    pub(crate) network_name: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) netns: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) cni_args: Vec<(String, String)>,
    #[serde(default)]
    pub(crate) capability_args: Capabilities,
    #[serde(default)]
    result: Value,
}

impl Entry {
    /// For an attachment that is being made: its result is empty as yet.
    pub(crate) fn new(list: &NetworkList, attachment: &Attachment) -> Entry {
        Entry {
            kind: KIND.to_owned(),
            container_id: attachment.container_id.clone(),
            config: STANDARD.encode(list.to_bytes()),
            ifname: attachment.ifname.clone(),
            network_name: list.name.clone(),
            netns: attachment.netns.display().to_string(),
            cni_args: attachment.args.clone(),
            capability_args: attachment.capabilities.clone(),
            result: json!({ "cniVersion": list.version.max(Version::V0_3_0) }),
        }
    }

    pub(crate) fn set_result(&mut self, result: Value) {
        self.result = result;
    }

    /// The result of the last `ADD`; none where it did not come to its end.
    pub(crate) fn result(&self) -> Option<AddResult> {
        AddResult::from_json(&self.result).ok().filter(|r| *r != AddResult::default())
    }

    /// The configuration of the `ADD`. `path` is for messages. libcni keeps a list's text as its author wrote it.
    pub(crate) fn list(&self, path: &Path) -> Option<NetworkList> {
        NetworkList::from_bytes(path, &STANDARD.decode(&self.config).ok()?).ok()
    }

    /// The attachment as it was asked for.
    pub(crate) fn attachment(&self) -> Attachment {
        Attachment {
            container_id: self.container_id.clone(),
            netns: PathBuf::from(&self.netns),
            ifname: self.ifname.clone(),
            args: self.cni_args.clone(),
            capabilities: self.capability_args.clone(),
        }
    }
}

/// The directory of entries.
pub(crate) struct Cache {
    dir: PathBuf,
}

impl Cache {
    pub(crate) fn new(cache_dir: &Path) -> Cache {
        Cache { dir: cache_dir.join("results") }
    }

    fn path(&self, entry: &Entry) -> PathBuf {
        self.dir.join(format!("{}-{}-{}", entry.network_name, entry.container_id, entry.ifname))
    }

    /// Where entries are, for messages.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Writes an entry, whole or not at all. It is not flushed: what a crash of the machine loses, it has undone
    /// with the namespaces; leases of addresses that are left are for [`Networks::gc`](crate::Networks::gc).
    pub(crate) fn write(&self, entry: &Entry) -> io::Result<()> {
        fs::create_dir_all(&self.dir)?;
        let path = self.path(entry);
        let draft = self.dir.join(format!(".{}-{}.tmp", entry.container_id, entry.ifname));
        fs::write(&draft, serde_json::to_vec(entry)?)?;
        fs::rename(&draft, &path)
    }

    /// Removes an entry; one that is not there is no error.
    pub(crate) fn remove(&self, entry: &Entry) -> io::Result<()> {
        match fs::remove_file(self.path(entry)) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
            _ => Ok(()),
        }
    }

    /// Every readable entry whose file's name ends in `suffix`.
    pub(crate) fn list(&self, suffix: &str) -> io::Result<Vec<Entry>> {
        let entries = match fs::read_dir(&self.dir) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut found = Vec::new();
        for entry in entries {
            let entry = entry?;
            let name = entry.file_name();
            if name.to_str().is_none_or(|n| n.starts_with('.') || !n.ends_with(suffix)) {
                continue;
            }
            // a file that went away meanwhile, or is not of this kind, is somebody else's
            let Ok(bytes) = fs::read(entry.path()) else { continue };
            found.extend(serde_json::from_slice::<Entry>(&bytes).ok().filter(|e| e.kind == KIND));
        }
        Ok(found)
    }

    /// The entries of one attachment, one a network.
    pub(crate) fn of(&self, container_id: &str, ifname: &str) -> io::Result<Vec<Entry>> {
        let mut found = self.list(&format!("-{container_id}-{ifname}"))?;
        found.retain(|e| e.container_id == container_id && e.ifname == ifname);
        Ok(found)
    }
}
