//! The command line of `cleat control`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};

use super::Dirs;

pub(super) const EXAMPLES: &str = "\
Examples:
  cleat control
  cleat control --data-dir /tmp/control --listen 127.0.0.1:0
  cleat control --store etcd://10.0.0.1:2379,10.0.0.2:2379
  cleat control backup /var/backups/cluster
  cleat control restore /var/backups/cluster";

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Control {
    #[command(subcommand)]
    pub(crate) verb: Option<ControlVerb>,
    #[command(flatten)]
    pub(crate) plane: Plane,
    /// How this server is told from its peers (default: the host's name)
    #[arg(long, value_name = "NAME")]
    pub(crate) identity: Option<String>,
    #[command(flatten)]
    pub(crate) dirs: Dirs,
}

/// The control plane of a cluster.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Control plane")]
pub(crate) struct Plane {
    /// Address to listen on; port 0 takes a free one
    #[arg(long, value_name = "IP:PORT", default_value = "0.0.0.0:6443")]
    pub(crate) listen: Vec<std::net::SocketAddr>,
    /// Address at which nodes and pods reach this server (default: the one of the default route)
    #[arg(long, value_name = "IP")]
    pub(crate) advertise_address: Option<std::net::IpAddr>,
    /// Further name or address in the serving certificate
    #[arg(long, value_name = "NAME")]
    pub(crate) tls_san: Vec<String>,
    /// Where objects are kept: etcd://HOST:PORT[,HOST:PORT] (default: in DATA_DIR/control/store)
    #[arg(long, value_name = "URL")]
    pub(crate) store: Option<String>,
    /// The authority that signed etcd's certificate
    #[arg(long, value_name = "FILE", requires_all = ["store", "store_cert", "store_key"])]
    pub(crate) store_ca: Option<PathBuf>,
    /// Our certificate towards etcd
    #[arg(long, value_name = "FILE", requires = "store_ca")]
    pub(crate) store_cert: Option<PathBuf>,
    /// Its key
    #[arg(long, value_name = "FILE", requires = "store_ca")]
    pub(crate) store_key: Option<PathBuf>,
    /// Range of service addresses; give it twice for IPv4 and IPv6
    #[arg(long, value_name = "CIDR", default_value = "10.96.0.0/12", value_delimiter = ',')]
    pub(crate) service_cidr: Vec<ipnet::IpNet>,
    /// Issuer of service-account tokens
    #[arg(long, value_name = "URL", default_value = "https://kubernetes.default.svc.cluster.local")]
    pub(crate) service_account_issuer: String,
    /// How long the certificates are good that nodes and others get, such as 24h; nodes renew theirs in time
    #[arg(long, value_name = "TIME", default_value = "8760h", value_parser = duration)]
    pub(crate) cluster_signing_duration: Duration,
    /// Write each request down: audit.k8s.io/v1 events, one a line
    #[arg(long, value_name = "FILE")]
    pub(crate) audit_log: Option<PathBuf>,
    /// Where to write the administrator's kubeconfig (default: DATA_DIR/control/admin.kubeconfig)
    #[arg(long, value_name = "FILE")]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// Range of pod addresses, of which each node gets a part (default: 10.244.0.0/16; of a node --standalone:
    /// 10.88.0.0/16 and fd00:88::/64); give it twice for IPv4 and IPv6
    #[arg(long, value_name = "CIDR", value_delimiter = ',')]
    pub(crate) pod_cidr: Vec<ipnet::IpNet>,
    /// Which controllers run here, and whether `kube-scheduler` does: names, `*` for all, `-NAME` for all but that one; the
    /// others' work is upstream's, or nobody's
    #[arg(
        long,
        value_name = "NAMES",
        value_delimiter = ',',
        allow_hyphen_values = true,
        default_value = "*"
    )]
    pub(crate) controllers: Vec<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ControlVerb {
    /// Write everything into one file, while the server runs
    Backup {
        /// The file; it must not be there yet
        file: PathBuf,
    },
    /// Make everything as it is in a backup: in the running server, or in a data directory without a store
    Restore {
        /// The backup
        file: PathBuf,
    },
}

/// Reads `90s`, `24h`.
fn duration(text: &str) -> Result<Duration, String> {
    let read: Option<jiff::SignedDuration> = text.parse().ok();
    let time = read.and_then(|time| Duration::try_from(time).ok()).filter(|time| !time.is_zero());
    time.ok_or_else(|| "expected a time such as 90s or 24h".to_owned())
}
