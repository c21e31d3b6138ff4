//! What `ADD` gives back, and its forms in the versions of the specification.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{UnknownVersion, Version};

/// What `ADD` gives back, in the form of version 1.1.0.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddResult {
    /// Interfaces made, in the container and on the host.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub interfaces: Vec<Interface>,
    /// Addresses given.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ips: Vec<IpConfig>,
    /// Routes made in the container.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<Route>,
    /// Name service.
    #[serde(default, skip_serializing_if = "Dns::is_empty")]
    pub dns: Dns,
}

/// An interface that `ADD` made.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Its hardware address, `02:00:…`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub mac: String,
    /// Its MTU in bytes (1.1.0).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// The network namespace's path for one in the container, empty for one on the host.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub sandbox: String,
    /// A socket file that goes with it (1.1.0).
    #[serde(default, rename = "socketPath", skip_serializing_if = "String::is_empty")]
    pub socket_path: String,
    /// Its PCI device (1.1.0).
    #[serde(default, rename = "pciID", skip_serializing_if = "String::is_empty")]
    pub pci_id: String,
}

/// An address that `ADD` gave.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IpConfig {
    /// The address with the length of its network's prefix.
    pub address: IpNet,
    /// The network's gateway.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<IpAddr>,
    /// Position in [`AddResult::interfaces`] of the interface that has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface: Option<usize>,
}

/// A route in the container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// Destination.
    pub dst: IpNet,
    /// Next hop; absent: the gateway of the address of the same family.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gw: Option<IpAddr>,
    /// Path MTU in bytes (1.1.0).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// Maximal segment size to advertise, in bytes (1.1.0).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advmss: Option<u32>,
    /// Priority; the lower wins (1.1.0).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<u32>,
    /// Routing table (1.1.0).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table: Option<u32>,
    /// Scope, as in `rtnetlink(7)` (1.1.0).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<u8>,
}

impl Route {
    /// A route through a gateway (or through that of the address), all else as the kernel chooses.
    pub fn new(dst: IpNet, gw: Option<IpAddr>) -> Route {
        Route { dst, gw, mtu: None, advmss: None, priority: None, table: None, scope: None }
    }
}

/// Name service in a result or a configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dns {
    /// Name servers, best first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub nameservers: Vec<String>,
    /// The local domain.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub domain: String,
    /// Domains to search.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub search: Vec<String>,
    /// Options of `resolv.conf`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<String>,
}

impl Dns {
    /// Nothing is set.
    pub fn is_empty(&self) -> bool {
        *self == Dns::default()
    }
}

/// A result that cannot be read, or not be said in the version asked for.
#[derive(Debug)]
pub enum ResultError {
    /// Its `cniVersion` is unknown.
    Version(UnknownVersion),
    /// A field is missing or of the wrong form.
    Form(serde_json::Error),
    /// 0.1.0 and 0.2.0 can say addresses only, and there is none.
    NoAddress(Version),
}

impl fmt::Display for ResultError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ResultError::Version(_) => f.write_str("CNI result has an unknown version"),
            ResultError::Form(_) => f.write_str("CNI result is malformed"),
            ResultError::NoAddress(v) => {
                write!(f, "CNI result has no address, and version {v} cannot say anything else")
            }
        }
    }
}

impl std::error::Error for ResultError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            ResultError::Version(e) => Some(e),
            ResultError::Form(e) => Some(e),
            ResultError::NoAddress(_) => None,
        }
    }
}

/// One family's part of a result of 0.1.0 and 0.2.0.
#[derive(Serialize, Deserialize)]
struct OldIp {
    ip: IpNet,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    gateway: Option<IpAddr>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    routes: Vec<Route>,
}

#[derive(Deserialize)]
struct OldResult {
    ip4: Option<OldIp>,
    ip6: Option<OldIp>,
    #[serde(default)]
    dns: Dns,
}

impl AddResult {
    /// Reads a result in the form of its `cniVersion`.
    pub fn from_json(value: &Value) -> Result<AddResult, ResultError> {
        let text = value.get("cniVersion").and_then(Value::as_str).unwrap_or_default();
        let version: Version = text.parse().map_err(ResultError::Version)?;
        if version >= Version::V0_3_0 {
            // null stands for an empty list where the plugin is written in Go
            let mut value = value.clone();
            if let Some(object) = value.as_object_mut() {
                object.retain(|_, v| !v.is_null());
            }
            return serde_json::from_value(value).map_err(ResultError::Form);
        }
        let old = OldResult::deserialize(value).map_err(ResultError::Form)?;
        let mut new = AddResult { dns: old.dns, ..AddResult::default() };
        for family in [old.ip4, old.ip6].into_iter().flatten() {
            new.ips.push(IpConfig { address: family.ip, gateway: family.gateway, interface: None });
            new.routes.extend(family.routes);
        }
        Ok(new)
    }

    /// The result in the form of `version`. What that version cannot say is left out.
    pub fn to_json(&self, version: Version) -> Result<Value, ResultError> {
        if version < Version::V0_3_0 {
            return self.to_old_json(version);
        }
        let mut new = self.clone();
        if version < Version::V1_1_0 {
            for interface in &mut new.interfaces {
                (interface.mtu, interface.socket_path, interface.pci_id) =
                    (None, String::new(), String::new());
            }
            for route in &mut new.routes {
                *route = Route::new(route.dst, route.gw);
            }
        }
        let mut value = serde_json::to_value(&new).map_err(ResultError::Form)?;
        let object = value.as_object_mut().expect("a struct is an object");
        object.insert("cniVersion".into(), version.as_str().into());
        object.entry("dns").or_insert_with(|| Value::Object(Map::new()));
        if version < Version::V1_0_0 {
            for ip in object.get_mut("ips").and_then(Value::as_array_mut).into_iter().flatten() {
                let v6 = ip["address"].as_str().is_some_and(|a| a.contains(':'));
                ip["version"] = if v6 { "6" } else { "4" }.into();
            }
        }
        Ok(value)
    }

    fn to_old_json(&self, version: Version) -> Result<Value, ResultError> {
        let family = |v6: bool| {
            let ip = self.ips.iter().find(|ip| matches!(ip.address, IpNet::V6(_)) == v6)?;
            let routes = self.routes.iter().filter(|r| matches!(r.dst, IpNet::V6(_)) == v6);
            let routes = routes.map(|r| Route::new(r.dst, r.gw)).collect();
            Some(OldIp { ip: ip.address, gateway: ip.gateway, routes })
        };
        let mut value = json!({ "cniVersion": version, "dns": self.dns });
        for (key, part) in [("ip4", family(false)), ("ip6", family(true))] {
            if let Some(part) = part {
                value[key] = serde_json::to_value(part).map_err(ResultError::Form)?;
            }
        }
        match value.get("ip4").or(value.get("ip6")) {
            Some(_) => Ok(value),
            None => Err(ResultError::NoAddress(version)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full() -> AddResult {
        serde_json::from_value(json!({
            "interfaces": [{"name": "cleat0", "mac": "02:00:00:00:00:01", "mtu": 1500},
                           {"name": "eth0", "sandbox": "/proc/7/ns/net", "mac": "02:00:00:00:00:02"}],
            "ips": [{"address": "10.88.0.2/16", "gateway": "10.88.0.1", "interface": 1},
                    {"address": "fd00::2/64", "interface": 1}],
            "routes": [{"dst": "0.0.0.0/0", "mtu": 1400, "priority": 3}, {"dst": "::/0", "gw": "fd00::1"}],
            "dns": {"nameservers": ["10.88.0.1"]},
        }))
        .unwrap()
    }

    #[test]
    fn newest_form_keeps_everything() {
        let value = full().to_json(Version::NEWEST).unwrap();
        assert_eq!(AddResult::from_json(&value).unwrap(), full());
        assert_eq!(value["cniVersion"], "1.1.0");
        assert!(value["ips"][0].get("version").is_none());
    }

    #[test]
    fn each_version_reads_what_it_wrote() {
        for version in Version::ALL {
            let value = full().to_json(version).unwrap();
            let once = AddResult::from_json(&value).unwrap();
            assert_eq!(once.ips[1].address, full().ips[1].address, "{version}");
            assert_eq!(once.routes.len(), 2, "{version}");
            assert_eq!(once.to_json(version).unwrap(), value, "{version}");
        }
    }

    #[test]
    fn old_forms() {
        let old = full().to_json(Version::V0_2_0).unwrap();
        let routes = json!([{"dst": "0.0.0.0/0"}]);
        assert_eq!(old["ip4"], json!({"ip": "10.88.0.2/16", "gateway": "10.88.0.1", "routes": routes}));
        let middle = full().to_json(Version::V0_4_0).unwrap();
        assert_eq!((&middle["ips"][0]["version"], &middle["ips"][1]["version"]), (&json!("4"), &json!("6")));
        assert!(middle["interfaces"][0].get("mtu").is_none());
    }

    #[test]
    fn refuses_what_it_cannot_say_or_read() {
        let empty = AddResult::default();
        assert!(matches!(empty.to_json(Version::V0_1_0), Err(ResultError::NoAddress(Version::V0_1_0))));
        let unknown = json!({"cniVersion": "7.0.0"});
        assert!(matches!(AddResult::from_json(&unknown), Err(ResultError::Version(_))));
        let bad = json!({"cniVersion": "1.0.0", "ips": [{"address": "10.0.0.300/8"}]});
        assert!(matches!(AddResult::from_json(&bad), Err(ResultError::Form(_))));
        let null = json!({"cniVersion": "1.0.0", "ips": null, "routes": null});
        assert_eq!(AddResult::from_json(&null).unwrap(), AddResult::default());
    }
}
