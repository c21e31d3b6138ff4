//! What a runtime asks for: environment and configuration.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use proto_node::cni::{AddResult, GcAttachment, Version};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::failure::Failure;

/// `CNI_COMMAND`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Command {
    /// Attach.
    Add,
    /// Detach.
    Del,
    /// Look whether it is as it was made.
    Check,
    /// Remove what belongs to nobody.
    Gc,
    /// Can `ADD` be served?
    Status,
    /// Which versions?
    Version,
}

impl Command {
    /// As it stands in `CNI_COMMAND`.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Command::Add => "ADD",
            Command::Del => "DEL",
            Command::Check => "CHECK",
            Command::Gc => "GC",
            Command::Status => "STATUS",
            Command::Version => "VERSION",
        }
    }

    /// Reads `CNI_COMMAND`.
    pub(crate) fn from_env(env: &dyn Fn(&str) -> Option<String>) -> Result<Command, Failure> {
        use Command::{Add, Check, Del, Gc, Status, Version};
        let text = env("CNI_COMMAND").unwrap_or_default();
        [Add, Del, Check, Gc, Status, Version].into_iter().find(|c| c.as_str() == text).ok_or_else(|| {
            let reason = format!("is {text:?}; it must be ADD, DEL, CHECK, GC, STATUS or VERSION");
            Failure::Environment { name: "CNI_COMMAND", reason }
        })
    }
}

/// One call of a plugin.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    /// What to do.
    pub(crate) command: Command,
    /// The container's id; empty for `GC` and `STATUS`.
    pub(crate) container_id: String,
    /// Path of its network namespace; may be empty or gone for `DEL`.
    pub(crate) netns: String,
    /// The interface's name in it.
    pub(crate) ifname: String,
    /// `CNI_ARGS`.
    pub(crate) args: BTreeMap<String, String>,
    /// `CNI_PATH`.
    pub(crate) path: Vec<PathBuf>,
    /// The configuration's version.
    pub(crate) version: Version,
    /// The configuration.
    pub(crate) conf: Value,
    common: Common,
    /// `CNI_NETNS_OVERRIDE`: the container may be in the plugin's own network namespace.
    own_netns: bool,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Common {
    name: String,
    #[serde(rename = "type")]
    kind: String,
    prev_result: Option<Value>,
    #[serde(rename = "cni.dev/valid-attachments")]
    valid: Option<Vec<GcAttachment>>,
    #[serde(rename = "cni.dev/attachments")]
    valid_old: Option<Vec<GcAttachment>>,
}

impl Request {
    /// Reads a request; refuses what no plugin could serve.
    pub(crate) fn new(
        command: Command,
        env: &dyn Fn(&str) -> Option<String>,
        stdin: &[u8],
    ) -> Result<Request, Failure> {
        let conf: Value = serde_json::from_slice(stdin)
            .map_err(|source| Failure::Decode { path: "its beginning or end".into(), source })?;
        let version = conf.get("cniVersion").and_then(Value::as_str).unwrap_or_default();
        let version = version.parse().map_err(Failure::Version)?;
        let common: Common = decode(&conf)?;
        if !is_name(&common.name) {
            let reason = "must be letters, digits, '.', '_', '-', and start with a letter or digit".into();
            return Err(Failure::Config { field: "name".into(), reason });
        }
        let var = |name| env(name).unwrap_or_default();
        let request = Request {
            command,
            container_id: var("CNI_CONTAINERID"),
            netns: var("CNI_NETNS"),
            ifname: var("CNI_IFNAME"),
            args: args(&var("CNI_ARGS"))?,
            path: std::env::split_paths(&var("CNI_PATH")).filter(|p| !p.as_os_str().is_empty()).collect(),
            version,
            conf,
            common,
            own_netns: matches!(var("CNI_NETNS_OVERRIDE").as_str(), "1" | "true" | "TRUE"),
        };
        request.validate()?;
        Ok(request)
    }

    fn validate(&self) -> Result<(), Failure> {
        let fail = |name, reason: &str| Err(Failure::Environment { name, reason: reason.to_owned() });
        if !matches!(self.command, Command::Add | Command::Del | Command::Check) {
            return Ok(());
        }
        if !is_name(&self.container_id) {
            return fail("CNI_CONTAINERID", "must be letters, digits, '.', '_', '-', and not be empty");
        }
        if self.netns.is_empty() && self.command != Command::Del {
            return fail("CNI_NETNS", "is missing");
        }
        let odd = |c: char| c == '/' || c == ':' || c.is_whitespace();
        if self.ifname.is_empty() || self.ifname.len() > 15 || [".", ".."].contains(&self.ifname.as_str()) {
            return fail("CNI_IFNAME", "must have 1 to 15 bytes and not be . or ..");
        }
        if self.ifname.contains(odd) {
            return fail("CNI_IFNAME", "must not have '/', ':' or white space");
        }
        Ok(())
    }

    /// The network's name.
    pub(crate) fn network(&self) -> &str {
        &self.common.name
    }

    /// The configuration's `type`.
    pub(crate) fn kind(&self) -> &str {
        &self.common.kind
    }

    /// The configuration as a plugin's own type. An error names the field.
    pub(crate) fn decode<T: DeserializeOwned>(&self) -> Result<T, Failure> {
        decode(&self.conf)
    }

    /// The result of the plugins before this one.
    pub(crate) fn previous(&self) -> Result<Option<AddResult>, Failure> {
        self.common.prev_result.as_ref().map(AddResult::from_json).transpose().map_err(Failure::Result)
    }

    /// Attachments that `GC` leaves alone. Without a list nothing could be told apart.
    pub(crate) fn valid(&self) -> Result<&[GcAttachment], Failure> {
        let valid = self.common.valid.as_deref().or(self.common.valid_old.as_deref());
        let field = || "cni.dev/valid-attachments".to_owned();
        valid.ok_or_else(|| Failure::Config { field: field(), reason: "is missing".into() })
    }

    /// The container's network namespace; `None` where it is gone. One that is this process's own is not the
    /// container's: the path named a process, and its number has been given to another.
    pub(crate) fn open_netns(&self) -> Result<Option<OwnedFd>, Failure> {
        let path = Path::new(&self.netns);
        if self.netns.is_empty() {
            return Ok(None);
        }
        let fail = |source| Failure::Io { what: format!("open network namespace {}", self.netns), source };
        match File::open(path) {
            // a process that is just ending has no namespaces any more, but still a directory
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied) => {
                Ok(None)
            }
            Ok(file) => Ok(Some(file.into()).filter(|fd| is_netns(fd) && (self.own_netns || !is_own(fd)))),
            Err(e) => Err(fail(e)),
        }
    }

    /// The container's network namespace, which must be there.
    pub(crate) fn require_netns(&self) -> Result<OwnedFd, Failure> {
        let reason = format!("{:?} is no network namespace, or is the host's", self.netns);
        self.open_netns()?.ok_or(Failure::Environment { name: "CNI_NETNS", reason })
    }

    /// The attachment's name in comments and hashes: `network/container/interface`.
    pub(crate) fn owner(&self) -> String {
        owner(self.network(), &self.container_id, &self.ifname)
    }
}

/// The mount of a namespace that is gone leaves an ordinary file behind; nsfs alone is a namespace.
fn is_netns(fd: &OwnedFd) -> bool {
    const NSFS_MAGIC: i64 = 0x6e73_6673;
    rustix::fs::fstatfs(fd).is_ok_and(|fs| fs.f_type == NSFS_MAGIC)
}

/// It is the network namespace that this process is in.
fn is_own(fd: &OwnedFd) -> bool {
    let id = |stat: rustix::fs::Stat| (stat.st_dev, stat.st_ino);
    match (rustix::fs::fstat(fd), rustix::fs::stat("/proc/thread-self/ns/net")) {
        (Ok(one), Ok(other)) => id(one) == id(other),
        _ => false,
    }
}

/// `network/container/interface`, with hashes for what is too long for a comment in nf_tables.
pub(crate) fn owner(network: &str, container_id: &str, ifname: &str) -> String {
    let short = |text: &str, max| match text.len() > max {
        true => format!("{:016x}", hash(text)),
        false => text.to_owned(),
    };
    format!("{}/{}/{ifname}", short(network, 32), short(container_id, 64))
}

/// FNV-1a: the same for the same text in every version of this program.
pub(crate) fn hash(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3))
}

fn decode<T: DeserializeOwned>(conf: &Value) -> Result<T, Failure> {
    serde_path_to_error::deserialize(conf).map_err(|e| {
        let path = e.path().to_string();
        Failure::Decode { path, source: e.into_inner() }
    })
}

fn is_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|b| b.is_ascii_alphanumeric())
        && bytes.all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
}

fn args(text: &str) -> Result<BTreeMap<String, String>, Failure> {
    let pair = |pair: &str| {
        let (key, value) = pair.split_once('=').ok_or_else(|| Failure::Environment {
            name: "CNI_ARGS",
            reason: format!("has {pair:?}, which is not key=value"),
        })?;
        Ok((key.to_owned(), value.to_owned()))
    };
    text.split(';').filter(|p| !p.is_empty()).map(pair).collect()
}
