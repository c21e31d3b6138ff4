//! Upstream's configuration file: `KubeProxyConfiguration` of `kubeproxy.config.k8s.io/v1alpha1`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use client::Cache;
use ipnet::IpNet;
use proto_kube::object::{at, items, text};
use proxy_rules::NodePorts;
use serde_json::Value;

use crate::{Config, DetectLocal, HEALTHZ_PORT, METRICS_PORT};

/// Why a file is no configuration for this proxy.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ConfigurationError {
    /// It is another kind of object.
    #[error("it is {0}, not a KubeProxyConfiguration of kubeproxy.config.k8s.io/v1alpha1")]
    Kind(String),
    /// A field has a value that cannot be.
    #[error("{field}: {value:?} is no {wanted}")]
    Value {
        /// The field's path.
        field: &'static str,
        /// What it says.
        value: String,
        /// What it should be.
        wanted: &'static str,
    },
}

/// What a file says that concerns the kernel as a whole, or somebody else.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Beside {
    /// `clientConnection.kubeconfig`: whom to ask; empty for the cluster that one is in.
    pub kubeconfig: String,
    /// Settings of the kernel, and what they should be at least: names below `/proc/sys/net`.
    pub settings: Vec<(&'static str, u64)>,
    /// A line each for what the file asks for and does not get.
    pub notes: Vec<String>,
}

impl Config {
    /// The configuration of a file, for a node's name that `hostnameOverride` may replace.
    ///
    /// # Errors
    /// [`ConfigurationError`]: the file is read as it is, or not at all.
    pub fn read(file: &Value, cache: Cache, node_name: &str) -> Result<(Config, Beside), ConfigurationError> {
        let of = (text(file, &["apiVersion"]), text(file, &["kind"]));
        if of != ("kubeproxy.config.k8s.io/v1alpha1", "KubeProxyConfiguration") {
            return Err(ConfigurationError::Kind(format!("{} of {}", of.1, of.0)));
        }
        let named = Some(text(file, &["hostnameOverride"])).filter(|name| !name.is_empty());
        let mut config = Config::new(cache, named.unwrap_or(node_name));
        let bind = or(text(file, &["bindAddress"]), "0.0.0.0");
        let bind: IpAddr = parse("bindAddress", bind, "address")?;
        if !bind.is_unspecified() {
            config.node_ips = vec![bind];
        }
        let (any, own): (IpAddr, IpAddr) = match bind {
            IpAddr::V4(_) => (Ipv4Addr::UNSPECIFIED.into(), Ipv4Addr::LOCALHOST.into()),
            IpAddr::V6(_) => (Ipv6Addr::UNSPECIFIED.into(), Ipv6Addr::LOCALHOST.into()),
        };
        config.healthz = listen(file, "healthzBindAddress", SocketAddr::new(any, HEALTHZ_PORT))?;
        config.metrics = listen(file, "metricsBindAddress", SocketAddr::new(own, METRICS_PORT))?;
        config.pod_cidrs = networks("clusterCIDR", text(file, &["clusterCIDR"]).split(','))?;
        config.node_ports = node_ports(file)?;
        let mode = text(file, &["mode"]);
        let section = if mode == "nftables" { "nftables" } else { "iptables" };
        config.masquerade_all = at(file, &[section, "masqueradeAll"]) == Some(&Value::Bool(true));
        config.detect_local = detect(file)?;
        Ok((config, beside(file, mode)?))
    }
}

fn or<'a>(text: &'a str, default: &'a str) -> &'a str {
    if text.is_empty() { default } else { text }
}

fn parse<T: std::str::FromStr>(
    field: &'static str,
    value: &str,
    wanted: &'static str,
) -> Result<T, ConfigurationError> {
    value.trim().parse().map_err(|_| ConfigurationError::Value { field, value: value.to_owned(), wanted })
}

fn networks<'a>(
    field: &'static str,
    texts: impl Iterator<Item = &'a str>,
) -> Result<Vec<IpNet>, ConfigurationError> {
    texts.filter(|t| !t.trim().is_empty()).map(|t| parse(field, t, "network")).collect()
}

/// `ADDRESS:PORT`, or an address without its port; nothing where there is to be none.
fn listen(
    file: &Value,
    field: &'static str,
    default: SocketAddr,
) -> Result<Option<SocketAddr>, ConfigurationError> {
    match at(file, &[field]).and_then(Value::as_str) {
        None | Some("") => Ok(Some(default)),
        Some(value) => {
            let alone = value.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, default.port()));
            alone.or_else(|_| parse(field, value, "address and port")).map(Some)
        }
    }
}

fn node_ports(file: &Value) -> Result<NodePorts, ConfigurationError> {
    let texts: Vec<&str> = items(file, &["nodePortAddresses"]).filter_map(Value::as_str).collect();
    if texts.is_empty() || texts == ["primary"] {
        return Ok(NodePorts::Primary);
    }
    let networks = networks("nodePortAddresses", texts.into_iter())?;
    let all = |v4: bool| networks.iter().any(|n| n.prefix_len() == 0 && n.addr().is_ipv4() == v4);
    let none = |v4: bool| !networks.iter().any(|n| n.addr().is_ipv4() == v4);
    Ok(match (all(true) || none(true)) && (all(false) || none(false)) {
        true => NodePorts::All,
        false => NodePorts::Within(networks),
    })
}

fn detect(file: &Value) -> Result<DetectLocal, ConfigurationError> {
    let of = |field| text(file, &["detectLocal", field]).to_owned();
    match text(file, &["detectLocalMode"]) {
        "" | "ClusterCIDR" => Ok(DetectLocal::ClusterCidr),
        "NodeCIDR" => Ok(DetectLocal::NodeCidr),
        "BridgeInterface" => Ok(DetectLocal::Bridge(of("bridgeInterface"))),
        "InterfaceNamePrefix" => Ok(DetectLocal::LinkPrefix(of("interfaceNamePrefix"))),
        other => Err(ConfigurationError::Value {
            field: "detectLocalMode",
            value: other.to_owned(),
            wanted: "ClusterCIDR, NodeCIDR, BridgeInterface or InterfaceNamePrefix",
        }),
    }
}

fn beside(file: &Value, mode: &str) -> Result<Beside, ConfigurationError> {
    let mut beside = Beside {
        kubeconfig: text(file, &["clientConnection", "kubeconfig"]).to_owned(),
        ..Beside::default()
    };
    if !matches!(mode, "" | "nftables") {
        beside.notes.push(format!("mode {mode}: this proxy has nf_tables alone; the rules do the same"));
    }
    for (field, what) in
        [("winkernel", "is for Windows"), ("ipvs", "is for another mode"), ("featureGates", "are not known")]
    {
        if at(file, &[field])
            .and_then(Value::as_object)
            .is_some_and(|o| o.values().any(|v| v.as_bool() == Some(true)))
        {
            beside.notes.push(format!("{field}: these settings {what}"));
        }
    }
    let number = |field| at(file, &["conntrack", field]).and_then(Value::as_u64);
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get) as u64;
    let most = number("maxPerCore").map(|per_core| (per_core * cores).max(number("min").unwrap_or(131_072)));
    if let Some(most) = most.filter(|_| number("maxPerCore") != Some(0)) {
        beside.settings.push(("netfilter/nf_conntrack_max", most));
    }
    let times = [
        ("tcpEstablishedTimeout", "netfilter/nf_conntrack_tcp_timeout_established"),
        ("tcpCloseWaitTimeout", "netfilter/nf_conntrack_tcp_timeout_close_wait"),
        ("udpTimeout", "netfilter/nf_conntrack_udp_timeout"),
        ("udpStreamTimeout", "netfilter/nf_conntrack_udp_timeout_stream"),
    ];
    for (field, setting) in times {
        let value = text(file, &["conntrack", field]);
        if value.is_empty() {
            continue;
        }
        let wrong =
            || ConfigurationError::Value { field: "conntrack", value: value.to_owned(), wanted: "duration" };
        let seconds = seconds(value).ok_or_else(wrong)?;
        if seconds > 0 {
            beside.settings.push((setting, seconds));
        }
    }
    Ok(beside)
}

/// Whole seconds of a duration as Go writes it: `24h0m0s`.
fn seconds(text: &str) -> Option<u64> {
    let mut rest = text;
    let mut total = 0.0;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let number: f64 = rest[..end].parse().ok()?;
        rest = &rest[end..];
        let unit = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        total += number
            * match &rest[..unit] {
                "h" => 3600.0,
                "m" => 60.0,
                "s" => 1.0,
                "ms" => 0.001,
                "" if total == 0.0 && number == 0.0 => 0.0,
                _ => return None,
            };
        rest = &rest[unit..];
    }
    // far below 2^53
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    (total <= 1e12).then_some(total as u64)
}

impl Beside {
    /// Makes the kernel's settings at least what they should be. One that cannot be made is told, and left.
    pub fn apply(&self) {
        for (name, wanted) in &self.settings {
            let path = format!("/proc/sys/net/{name}");
            let now = std::fs::read_to_string(&path).ok().and_then(|text| text.trim().parse::<u64>().ok());
            // a table that is larger already stays as large
            let enough =
                now == Some(*wanted) || name.ends_with("_max") && now.is_some_and(|now| now >= *wanted);
            if !enough && let Err(error) = std::fs::write(&path, wanted.to_string()) {
                tracing::warn!(setting = name, wanted, %error, "cannot make a setting of the kernel");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use lab::objects::Objects;
    use serde_json::json;

    use super::*;

    fn read(change: impl FnOnce(&mut Value)) -> Result<(Config, Beside), ConfigurationError> {
        let mut file =
            json!({ "apiVersion": "kubeproxy.config.k8s.io/v1alpha1", "kind": "KubeProxyConfiguration" });
        change(&mut file);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async { Config::read(&file, Objects::default().cache(), "node-1") })
    }

    #[test]
    fn an_empty_file_is_the_defaults() {
        let (config, beside) = read(|_| ()).unwrap();
        assert_eq!(config.node_name, "node-1");
        assert_eq!(config.healthz, Some("0.0.0.0:10256".parse().unwrap()));
        assert_eq!(config.metrics, Some("127.0.0.1:10249".parse().unwrap()));
        assert_eq!((config.node_ports, config.masquerade_all), (NodePorts::Primary, false));
        assert_eq!(beside, Beside::default());
    }

    #[test]
    fn a_file_as_kubeadm_writes_it() {
        let (config, beside) = read(|file| {
            file["bindAddress"] = json!("0.0.0.0");
            file["clientConnection"] = json!({ "kubeconfig": "/var/lib/kube-proxy/kubeconfig.conf", "qps": 0 });
            file["clusterCIDR"] = json!("10.244.0.0/16,fd00:10:244::/56");
            file["conntrack"] = json!({ "maxPerCore": null, "min": null, "tcpEstablishedTimeout": "24h0m0s", "udpTimeout": "0s" });
            file["detectLocalMode"] = json!("");
            file["detectLocal"] = json!({ "bridgeInterface": "", "interfaceNamePrefix": "" });
            file["healthzBindAddress"] = json!("");
            file["hostnameOverride"] = json!("");
            file["iptables"] = json!({ "masqueradeAll": true, "masqueradeBit": null, "syncPeriod": "0s" });
            file["metricsBindAddress"] = json!("0.0.0.0:10249");
            file["mode"] = json!("ipvs");
            file["nodePortAddresses"] = json!(null);
            file["winkernel"] = json!({ "enableDSR": false });
        })
        .unwrap();
        assert_eq!(
            config.pod_cidrs,
            ["10.244.0.0/16", "fd00:10:244::/56"].map(|n| n.parse::<IpNet>().unwrap())
        );
        assert_eq!(config.metrics, Some("0.0.0.0:10249".parse().unwrap()));
        assert!(config.masquerade_all);
        assert_eq!(beside.kubeconfig, "/var/lib/kube-proxy/kubeconfig.conf");
        assert_eq!(beside.settings, [("netfilter/nf_conntrack_tcp_timeout_established", 86_400)]);
        assert_eq!(beside.notes.len(), 1, "{:?}", beside.notes);
    }

    #[test]
    fn every_field_that_counts() {
        let (config, beside) = read(|file| {
            file["bindAddress"] = json!("2001:db8::7");
            file["hostnameOverride"] = json!("other");
            file["mode"] = json!("nftables");
            file["nftables"] = json!({ "masqueradeAll": true });
            file["healthzBindAddress"] = json!("192.0.2.1");
            file["detectLocalMode"] = json!("InterfaceNamePrefix");
            file["detectLocal"] = json!({ "interfaceNamePrefix": "veth" });
            file["nodePortAddresses"] = json!(["192.0.2.0/24"]);
            file["conntrack"] = json!({ "maxPerCore": 1, "min": 5 });
        })
        .unwrap();
        assert_eq!((config.node_name.as_str(), config.masquerade_all), ("other", true));
        assert_eq!(config.node_ips, ["2001:db8::7".parse::<IpAddr>().unwrap()]);
        assert_eq!(config.healthz, Some("192.0.2.1:10256".parse().unwrap()));
        assert_eq!(config.metrics, Some("[::1]:10249".parse().unwrap()));
        assert_eq!(config.detect_local, DetectLocal::LinkPrefix("veth".into()));
        assert_eq!(config.node_ports, NodePorts::Within(vec!["192.0.2.0/24".parse().unwrap()]));
        assert!(beside.settings[0].1 >= 5 && beside.notes.is_empty());
        let everywhere = read(|file| file["nodePortAddresses"] = json!(["0.0.0.0/0", "::/0"])).unwrap().0;
        assert_eq!(everywhere.node_ports, NodePorts::All);
    }

    #[test]
    fn what_is_wrong_is_named() {
        let wrong = |change: fn(&mut Value)| read(change).err().unwrap().to_string();
        assert!(
            wrong(|file| file["kind"] = json!("KubeletConfiguration"))
                .starts_with("it is KubeletConfiguration of")
        );
        assert_eq!(
            wrong(|file| file["clusterCIDR"] = json!("10.0.0.0")),
            "clusterCIDR: \"10.0.0.0\" is no network"
        );
        assert!(
            wrong(|file| file["detectLocalMode"] = json!("Magic"))
                .starts_with("detectLocalMode: \"Magic\" is no")
        );
        assert!(wrong(|file| file["healthzBindAddress"] = json!("x:y")).starts_with("healthzBindAddress"));
        assert!(wrong(|file| file["conntrack"]["udpTimeout"] = json!("soon")).starts_with("conntrack"));
    }
}
