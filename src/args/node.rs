//! Who a node is, as it is typed.

use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;

use clap::Args;
use proto_kube::name;

/// Who this node is.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Node {
    /// Name of the node (default: the host name)
    #[arg(long, value_name = "NAME", value_parser = node_name)]
    pub(crate) node_name: Option<String>,
    /// Address of the node (default: the one of the default route)
    #[arg(long, value_name = "IP")]
    pub(crate) node_ip: Option<IpAddr>,
    /// Labels of the node when it registers
    #[arg(long, value_name = "KEY=VALUE", value_delimiter = ',')]
    pub(crate) node_labels: Vec<Label>,
    /// Taints of the node when it registers
    #[arg(long, value_name = "KEY=VALUE:EFFECT", value_delimiter = ',')]
    pub(crate) register_with_taints: Vec<Taint>,
    /// KubeletConfiguration file, read as it is
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// The socket of another CRI server, such as containerd's (default: ours, RUN_DIR/cri.sock)
    #[arg(long, value_name = "PATH")]
    pub(crate) cri_socket: Option<PathBuf>,
    /// KubeProxyConfiguration file, read as it is
    #[arg(long, value_name = "FILE")]
    pub(crate) proxy_config: Option<PathBuf>,
}

/// `KEY=VALUE` or `KEY`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Label {
    pub(crate) key: String,
    pub(crate) value: String,
}

impl FromStr for Label {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (key, value) = text.split_once('=').unwrap_or((text, ""));
        sound([name::qualified(key), name::label_value(value)].concat())?;
        Ok(Self { key: key.to_owned(), value: value.to_owned() })
    }
}

/// `KEY=VALUE:EFFECT` or `KEY:EFFECT`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Taint {
    pub(crate) label: Label,
    pub(crate) effect: String,
}

impl FromStr for Taint {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.rsplit_once(':');
        let Some((label, effect @ ("NoSchedule" | "PreferNoSchedule" | "NoExecute"))) = parts else {
            return Err("expected KEY=VALUE:EFFECT with NoSchedule, PreferNoSchedule or NoExecute".into());
        };
        Ok(Self { label: label.parse()?, effect: effect.to_owned() })
    }
}

/// The name of a node, as the API takes it.
fn node_name(text: &str) -> Result<String, String> {
    sound(name::subdomain(text)).map(|()| text.to_owned())
}

fn sound(faults: Vec<String>) -> Result<(), String> {
    if faults.is_empty() { Ok(()) } else { Err(faults.join("; ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_and_taints() {
        let label = |key: &str, value: &str| Label { key: key.into(), value: value.into() };
        assert_eq!("a.b/c=d".parse(), Ok(label("a.b/c", "d")));
        assert_eq!("c".parse(), Ok(label("c", "")));
        let taint = |key, value, effect: &str| Taint { label: label(key, value), effect: effect.into() };
        assert_eq!("a=b:NoExecute".parse(), Ok(taint("a", "b", "NoExecute")));
        assert_eq!("a:NoSchedule".parse(), Ok(taint("a", "", "NoSchedule")));
        for wrong in ["a=b", "a=b:Never", "=b:NoSchedule", "a b:NoSchedule"] {
            assert!(wrong.parse::<Taint>().is_err(), "{wrong}");
        }
        assert!("a=b/".parse::<Label>().is_err());
        assert!(node_name("n1.example").is_ok() && node_name("N_1").is_err());
    }
}
