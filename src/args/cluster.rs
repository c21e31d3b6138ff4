//! The command lines of those who make a cluster of several machines.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{Dirs, Format, Network, Node, Runtime};

pub(super) const JOIN_EXAMPLES: &str = "\
Examples:
  cleat token create                                       # on the control plane; prints the whole command
  cleat join 192.0.2.1:6443 --token abcdef.0123456789abcdef@6a1f…
  cleat join 192.0.2.1:6443 --token abcdef.0123456789abcdef --ca-hash sha256:6a1f…   # kubeadm's way to say it";

#[derive(Debug, Args)]
pub(crate) struct Join {
    /// The control plane
    #[arg(value_name = "HOST:PORT")]
    pub(crate) server: String,
    /// As `cleat token create` prints it: the token, and after an @ the hash of the cluster's authority
    #[arg(long, env = "CLEAT_TOKEN", hide_env_values = true)]
    pub(crate) token: String,
    /// The hash of the cluster's authority, where the token does not carry it
    #[arg(long, value_name = "sha256:HEX")]
    pub(crate) ca_hash: Option<String>,
    #[command(flatten)]
    pub(crate) node: NodeCommand,
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
