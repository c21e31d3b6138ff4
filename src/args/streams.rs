//! What leads into containers.

use std::net::IpAddr;

use clap::Args;

#[derive(Debug, Args)]
pub(crate) struct Attach {
    /// The pod
    pub(crate) pod: String,
    /// Which container (may be left out where the pod has one)
    #[arg(short, long)]
    pub(crate) container: Option<String>,
    /// Pass standard input on
    #[arg(short = 'i', long)]
    pub(crate) stdin: bool,
    /// With a terminal
    #[arg(short, long)]
    pub(crate) tty: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Forward {
    /// The pod
    pub(crate) pod: String,
    /// PORT, LOCAL:PORT, or :PORT for a free one here
    #[arg(required = true, value_name = "PORT")]
    pub(crate) ports: Vec<String>,
    /// Where to listen
    #[arg(long, default_value = "127.0.0.1", value_name = "IP")]
    pub(crate) address: IpAddr,
}

#[derive(Debug, Args)]
pub(crate) struct Copy {
    /// A file here, or POD:PATH
    pub(crate) from: String,
    /// The other of the two
    pub(crate) to: String,
    /// Which container (may be left out where the pod has one)
    #[arg(short, long)]
    pub(crate) container: Option<String>,
}
