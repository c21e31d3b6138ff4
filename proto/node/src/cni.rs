//! CNI: configuration lists, results and errors of all published versions, 0.1.0 to 1.1.0.
//!
//! Inside our programs there is one form of a result, [`AddResult`], which can say what version 1.1.0 can; the
//! older forms exist only as JSON, see [`AddResult::to_json`] and [`AddResult::from_json`].

mod error;
mod result;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};

pub use error::{CniError, code};
pub use result::{AddResult, Dns, Interface, IpConfig, ResultError, Route};

/// A published version of the CNI specification. The order is that of publication.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    /// 0.1.0: `ip4` and `ip6`, one address each.
    V0_1_0,
    /// 0.2.0: as 0.1.0, with `VERSION`.
    V0_2_0,
    /// 0.3.0: lists of interfaces and addresses, chained plugins.
    V0_3_0,
    /// 0.3.1: as 0.3.0, a correction of the text.
    V0_3_1,
    /// 0.4.0: `CHECK`, `prevResult` on `DEL`.
    V0_4_0,
    /// 1.0.0: no `version` in an address, lists only.
    V1_0_0,
    /// 1.1.0: `GC`, `STATUS`, more fields in interfaces and routes.
    V1_1_0,
}

impl Version {
    /// Every version, oldest first.
    pub const ALL: [Version; 7] = [
        Version::V0_1_0,
        Version::V0_2_0,
        Version::V0_3_0,
        Version::V0_3_1,
        Version::V0_4_0,
        Version::V1_0_0,
        Version::V1_1_0,
    ];
    /// The newest version.
    pub const NEWEST: Version = Version::V1_1_0;

    /// As it stands in `cniVersion`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Version::V0_1_0 => "0.1.0",
            Version::V0_2_0 => "0.2.0",
            Version::V0_3_0 => "0.3.0",
            Version::V0_3_1 => "0.3.1",
            Version::V0_4_0 => "0.4.0",
            Version::V1_0_0 => "1.0.0",
            Version::V1_1_0 => "1.1.0",
        }
    }
}

/// A `cniVersion` that no published specification has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownVersion(pub String);

impl fmt::Display for UnknownVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CNI version {:?} is unknown; known are", self.0)?;
        Version::ALL.iter().try_for_each(|v| write!(f, " {v}"))
    }
}

impl std::error::Error for UnknownVersion {}

impl FromStr for Version {
    type Err = UnknownVersion;

    /// An absent version, `""`, means 0.1.0, as the first specification had no such field.
    fn from_str(text: &str) -> Result<Version, UnknownVersion> {
        if text.is_empty() {
            return Ok(Version::V0_1_0);
        }
        Version::ALL.into_iter().find(|v| v.as_str() == text).ok_or_else(|| UnknownVersion(text.to_owned()))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for Version {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Version {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Version, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// A network configuration list, as `*.conflist` holds it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConfList {
    /// The version all plugins of the list are spoken to in; absent: 0.1.0.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub cni_version: String,
    /// Versions to choose from; the newest that both sides know is taken. `cniVersion` counts too.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cni_versions: Vec<String>,
    /// The network's name.
    #[serde(default)]
    pub name: String,
    /// Do not run `CHECK`.
    #[serde(default, deserialize_with = "lenient_bool")]
    pub disable_check: bool,
    /// Do not run `GC`.
    #[serde(default, rename = "disableGC", deserialize_with = "lenient_bool")]
    pub disable_gc: bool,
    /// Do not look for plugins in the folder named like the network.
    #[serde(default, deserialize_with = "lenient_bool")]
    pub load_only_inlined_plugins: bool,
    /// The plugins in the order of `ADD`; each is an object with a `type`.
    #[serde(default)]
    pub plugins: Vec<Map<String, Value>>,
}

/// libcni takes `"true"` for `true`.
fn lenient_bool<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    match Value::deserialize(deserializer)? {
        Value::Bool(b) => Ok(b),
        Value::Null => Ok(false),
        Value::String(s) if s.eq_ignore_ascii_case("true") => Ok(true),
        Value::String(s) if s.eq_ignore_ascii_case("false") => Ok(false),
        other => Err(serde::de::Error::custom(format!("expected true or false, found {other}"))),
    }
}

/// A network interface that shall stay, for `GC` (`cni.dev/valid-attachments`).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct GcAttachment {
    /// The container's id.
    #[serde(rename = "containerID")]
    pub container_id: String,
    /// The interface's name in the container.
    pub ifname: String,
}

/// What a runtime can tell plugins that declare the capability, under the well-known keys of `runtimeConfig`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Capabilities {
    /// Ports of the host that lead to the container.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub port_mappings: Vec<PortMapping>,
    /// Address ranges to choose from, one list a range set.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ip_ranges: Vec<Vec<Map<String, Value>>>,
    /// Addresses wished for, with or without a prefix length.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ips: Vec<String>,
    /// Hardware address wished for.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub mac: String,
    /// Limits of traffic.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bandwidth: Option<Bandwidth>,
    /// Name service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dns: Option<CapabilityDns>,
    /// Names by which the container is known.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub aliases: Vec<String>,
    /// The pod's cgroup.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub cgroup_path: String,
    /// Any other capability by its key.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// A port of the host that leads to a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PortMapping {
    /// Port on the host; 0: none, the entry is ignored.
    #[serde(default)]
    pub host_port: u16,
    /// Port in the container.
    pub container_port: u16,
    /// `tcp`, `udp` or `sctp`.
    #[serde(default = "tcp")]
    pub protocol: String,
    /// The host's address to listen on; empty: all of them.
    #[serde(default, rename = "hostIP", skip_serializing_if = "String::is_empty")]
    pub host_ip: String,
}

fn tcp() -> String {
    "tcp".to_owned()
}

/// Limits of traffic, in bits per second and bits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Bandwidth {
    /// To the container, bits per second; 0: no limit.
    pub ingress_rate: u64,
    /// To the container, bits at once.
    pub ingress_burst: u64,
    /// From the container, bits per second; 0: no limit.
    pub egress_rate: u64,
    /// From the container, bits at once.
    pub egress_burst: u64,
}

/// Name service as the capability `dns` has it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CapabilityDns {
    /// Name servers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub servers: Vec<String>,
    /// Domains to search.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub searches: Vec<String>,
    /// Options of `resolv.conf`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<String>,
}
