//! The configuration of `bridge`.

use serde::Deserialize;
use serde_json::Value;

use crate::failure::Failure;
use crate::request::Request;

/// The fields of upstream's `bridge`; those that ask for what we do not do are refused by name.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Conf {
    /// Name of the bridge.
    pub(crate) bridge: String,
    /// The bridge has the gateway's address.
    pub(crate) is_gateway: bool,
    /// And it is the default route of the pod.
    pub(crate) is_default_gateway: bool,
    /// Remove other addresses of the bridge that stand in the way.
    pub(crate) force_address: bool,
    /// Masquerade what pods send outside their network.
    pub(crate) ip_masq: bool,
    /// MTU in bytes; 0: the kernel's choice.
    pub(crate) mtu: u32,
    /// A pod may reach itself by way of the bridge.
    pub(crate) hairpin_mode: bool,
    /// The bridge takes every frame.
    pub(crate) promisc_mode: bool,
    /// Detect duplicate IPv6 addresses before using one.
    #[serde(rename = "enabledad")]
    pub(crate) enable_dad: bool,
    /// No frames between pods with this property.
    pub(crate) port_isolation: bool,
    /// Leave the pod's interface down and without addresses.
    pub(crate) disable_container_interface: bool,
    vlan: u16,
    vlan_trunk: Option<Vec<Value>>,
    #[serde(rename = "macspoofchk")]
    mac_spoof_check: bool,
    mac: String,
    args: Option<Args>,
    runtime_config: Option<Mac>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
struct Args {
    cni: Option<Mac>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
struct Mac {
    mac: String,
}

impl Default for Conf {
    fn default() -> Conf {
        Conf {
            bridge: "cni0".into(),
            is_gateway: false,
            is_default_gateway: false,
            force_address: false,
            ip_masq: false,
            mtu: 0,
            hairpin_mode: false,
            promisc_mode: false,
            enable_dad: false,
            port_isolation: false,
            disable_container_interface: false,
            vlan: 0,
            vlan_trunk: None,
            mac_spoof_check: false,
            mac: String::new(),
            args: None,
            runtime_config: None,
        }
    }
}

impl Conf {
    /// Reads and checks it.
    pub(crate) fn read(request: &Request) -> Result<Conf, Failure> {
        let mut conf: Conf = request.decode()?;
        conf.is_gateway |= conf.is_default_gateway;
        let wrong = |field: &str, reason: &str| {
            Err(Failure::Config { field: field.to_owned(), reason: reason.to_owned() })
        };
        if conf.bridge.is_empty() || conf.bridge.len() > 15 || conf.bridge.contains(['/', ':', ' ']) {
            return wrong("bridge", "must be a link's name of 1 to 15 bytes");
        }
        if conf.hairpin_mode && conf.promisc_mode {
            return wrong("hairpinMode", "and promiscMode exclude each other");
        }
        if conf.disable_container_interface && !crate::ipam::kind(request).is_empty() {
            return wrong("ipam", "must be empty with disableContainerInterface");
        }
        let unsupported = [
            ("vlan", conf.vlan != 0, "this plugin does not do: use a bridge for each VLAN"),
            ("vlanTrunk", conf.vlan_trunk.as_ref().is_some_and(|t| !t.is_empty()), "this plugin does not do"),
            ("macspoofchk", conf.mac_spoof_check, "this plugin does not do"),
        ];
        match unsupported.into_iter().find(|(_, asked, _)| *asked) {
            Some((field, _, reason)) => Err(Failure::Unsupported { field, reason }),
            None => Ok(conf),
        }
    }

    /// The hardware address asked for: by the runtime, by `args`, by `CNI_ARGS`, by the configuration.
    pub(crate) fn mac(&self, request: &Request) -> Result<Option<[u8; 6]>, Failure> {
        let runtime = self.runtime_config.as_ref().map(|r| r.mac.as_str());
        let args = self.args.as_ref().and_then(|a| a.cni.as_ref()).map(|c| c.mac.as_str());
        let cni_args = request.args.get("MAC").map(String::as_str);
        let all = [runtime, args, cni_args, Some(self.mac.as_str())];
        let Some(text) = all.into_iter().flatten().find(|m| !m.is_empty()) else { return Ok(None) };
        let bytes: Option<Vec<u8>> = text.split([':', '-']).map(|b| u8::from_str_radix(b, 16).ok()).collect();
        let mac = bytes.and_then(|b| <[u8; 6]>::try_from(b).ok());
        let reason = || format!("is {text:?}, which is no hardware address");
        mac.map(Some).ok_or_else(|| Failure::Config { field: "mac".into(), reason: reason() })
    }
}
