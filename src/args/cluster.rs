//! The command lines of those who make a cluster of several machines.

use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, Subcommand};

use super::{Dirs, Format, Network, Node, Runtime};

/// The port of an API server, as upstream's.
const API_PORT: u16 = 6443;

pub(super) const JOIN_EXAMPLES: &str = "\
Examples:
  cleat token create                                       # on the control plane; prints the whole command
  cleat join 192.0.2.1:6443 --token abcdef.0123456789abcdef@6a1f…
  cleat join 192.0.2.1:6443 --token abcdef.0123456789abcdef --ca-hash sha256:6a1f…   # kubeadm's way to say it";

#[derive(Debug, Args)]
pub(crate) struct Join {
    /// The control plane; its port is 6443 unless given
    #[arg(value_name = "HOST[:PORT]")]
    pub(crate) server: ServerAddress,
    /// As `cleat token create` prints it: the token, and after an @ the hash of the cluster's authority
    #[arg(long, env = "CLEAT_TOKEN", hide_env_values = true)]
    pub(crate) token: JoinToken,
    /// The hash of the cluster's authority, where the token does not carry it
    #[arg(long, value_name = "sha256:HEX")]
    pub(crate) ca_hash: Option<Pin>,
    #[command(flatten)]
    pub(crate) node: NodeCommand,
}

/// Where a control plane is: `HOST:PORT` or a URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ServerAddress(pub(crate) String);

impl FromStr for ServerAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.contains("://") {
            return match text.starts_with("https://") {
                true => Ok(Self(text.to_owned())),
                false => Err("a control plane is reached by https alone".into()),
            };
        }
        let (host, port) = match text.parse::<IpAddr>() {
            Ok(IpAddr::V6(ip)) => (format!("[{ip}]"), None),
            _ => match text.rsplit_once(':').filter(|(_, port)| !port.ends_with(']')) {
                Some((host, port)) => (host.to_owned(), Some(port)),
                None => (text.to_owned(), None),
            },
        };
        let port =
            port.map_or(Ok(API_PORT), |port| port.parse().map_err(|_| format!("{port} is no port")))?;
        match host.is_empty() || host.contains(['/', '@', ' ']) || port == 0 {
            true => Err("expected HOST or HOST:PORT".into()),
            false => Ok(Self(format!("{host}:{port}"))),
        }
    }
}

/// A bootstrap token, and behind an @ the hash of the authority that it is of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct JoinToken {
    pub(crate) token: String,
    pub(crate) pin: Option<Pin>,
}

impl FromStr for JoinToken {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (token, pin) = text.split_once('@').map_or((text, None), |(token, pin)| (token, Some(pin)));
        if pki::join::bootstrap_token(token).is_none() {
            return Err("a token is abcdef.0123456789abcdef; `cleat token create` makes one".into());
        }
        Ok(Self { token: token.to_owned(), pin: pin.map(str::parse).transpose()? })
    }
}

/// The hash of an authority, `sha256:HEX`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pin(pub(crate) String);

impl FromStr for Pin {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let hex = text.strip_prefix("sha256:").unwrap_or(text);
        match hex.len() == 64 && hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            true => Ok(Self(format!("sha256:{}", hex.to_lowercase()))),
            false => Err("the hash of an authority is sha256: and 64 hexadecimal digits".into()),
        }
    }
}

/// A node of a cluster.
#[derive(Debug, Args)]
pub(crate) struct NodeCommand {
    /// The cluster and the node's credentials (default: those in DATA_DIR/node, where `cleat join` puts them)
    #[arg(long, value_name = "FILE")]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// Directory of v1 Pod manifests, YAML or JSON, watched for changes
    #[arg(long, value_name = "DIR")]
    pub(crate) manifests: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) node: Node,
    #[command(flatten)]
    pub(crate) network: Network,
    #[command(flatten)]
    pub(crate) dirs: Dirs,
    #[command(flatten)]
    pub(crate) runtime: Runtime,
}

#[derive(Debug, Args)]
pub(crate) struct Token {
    #[command(subcommand)]
    pub(crate) verb: TokenVerb,
    /// The cluster (default: the one of this machine, else that of KUBECONFIG)
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) kubeconfig: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) dirs: Dirs,
}

#[derive(Debug, Subcommand)]
pub(crate) enum TokenVerb {
    /// Make a token and print the command that joins a node by it
    Create {
        /// How long it can be used, such as 30m, 24h or 0 for ever
        #[arg(long, default_value = "24h", value_name = "TIME")]
        ttl: String,
        /// What it is for
        #[arg(long, default_value = "")]
        description: String,
        /// Print the token alone
        #[arg(short, long)]
        quiet: bool,
    },
    /// List the tokens, without their secrets
    List,
    /// Revoke a token
    Delete {
        /// The token, or the part before its dot
        token: String,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Reset {
    /// Do not ask
    #[arg(short, long)]
    pub(crate) yes: bool,
    #[command(flatten)]
    pub(crate) dirs: Dirs,
    #[command(flatten)]
    pub(crate) runtime: Runtime,
}

pub(super) const WHY_EXAMPLES: &str = "\
Examples:
  cleat why pod/web-7d4b9c-x2x9z
  cleat why deploy web -n shop
  cleat why node/n3 --output json";

#[derive(Debug, Args)]
pub(crate) struct Why {
    /// `TYPE NAME` or `TYPE/NAME`
    #[arg(required = true, num_args = 1..=2, value_name = "OBJECT")]
    pub(crate) object: Vec<String>,
    /// Namespace of the object (default: that of the kubeconfig, else `default`)
    #[arg(short, long)]
    pub(crate) namespace: Option<String>,
    /// The cluster (default: the one of this machine, else that of KUBECONFIG)
    #[arg(long, value_name = "FILE")]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// How to print
    #[arg(short, long, value_enum, default_value_t = Format::Table)]
    pub(crate) output: Format,
    #[command(flatten)]
    pub(crate) dirs: Dirs,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers() {
        let read = |text: &str| text.parse::<ServerAddress>().map(|server| server.0).ok();
        for (text, server) in [
            ("192.0.2.1", "192.0.2.1:6443"),
            ("192.0.2.1:443", "192.0.2.1:443"),
            ("cp.example", "cp.example:6443"),
            ("2001:db8::1", "[2001:db8::1]:6443"),
            ("[2001:db8::1]", "[2001:db8::1]:6443"),
            ("[2001:db8::1]:443", "[2001:db8::1]:443"),
            ("https://cp.example/", "https://cp.example/"),
        ] {
            assert_eq!(read(text).as_deref(), Some(server), "{text}");
        }
        for wrong in ["", "h:99999", "h:0", "h:x", "http://h", "a/b"] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn tokens_carry_the_hash() {
        let hash = "AB".repeat(32);
        let pin = Some(Pin(format!("sha256:{}", "ab".repeat(32))));
        let token = "abcdef.0123456789abcdef";
        let read = |text: String| text.parse::<JoinToken>().map(|read| (read.token, read.pin)).ok();
        assert_eq!(read(token.to_owned()), Some((token.to_owned(), None)));
        assert_eq!(read(format!("{token}@{hash}")), Some((token.to_owned(), pin.clone())));
        assert_eq!(read(format!("{token}@sha256:{hash}")), Some((token.to_owned(), pin)));
        assert_eq!(read(format!("{token}@12")), None);
        assert_eq!(read("abc".to_owned()), None);
    }
}
