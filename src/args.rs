//! The command line, exactly as typed: help, completion and parsing come from these definitions. Nothing here looks
//! at the machine; [`crate::paths`] resolves directories.

mod cluster;
mod control;
mod node;
mod streams;

use std::path::PathBuf;

use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};

pub(crate) use cluster::{Join, NodeCommand, Reset, Token, TokenVerb, Why};
pub(crate) use control::{Control, ControlVerb, Plane};
pub(crate) use node::{Node, Taint};
pub(crate) use streams::{Attach, Copy, Forward};

/// Kubernetes on this machine: a cluster, a node of one, or pods alone.
#[derive(Debug, Parser)]
#[command(name = "cleat", version, arg_required_else_help = true, propagate_version = true)]
pub(crate) struct Cleat {
    /// What to log: error, warn, info, debug, or a filter such as `cri=debug,info`
    #[arg(long, global = true, env = "CLEAT_LOG", default_value = "warn", value_name = "FILTER")]
    pub(crate) log: String,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a cluster on this machine: control plane and node in one process
    #[command(after_help = UP_EXAMPLES)]
    Up(Box<Up>),
    /// Make this machine a node of a cluster, and run it
    #[command(after_help = cluster::JOIN_EXAMPLES)]
    Join(Box<Join>),
    /// Run the node alone, as a member of the cluster that it has joined
    Node(Box<NodeCommand>),
    /// Make, list and revoke the tokens that nodes join by
    Token(Token),
    /// End all pods within their grace periods, and stop
    Down(Down),
    /// Stop, and remove everything that cleat has ever made on this machine
    Reset(Reset),
    /// Run the CRI server alone
    Cri(Cri),
    /// Run the agent alone, on any CRI server and as a node of any cluster
    Agent(Agent),
    /// Run the control plane alone: API server, store, controllers and scheduler
    #[command(after_help = control::EXAMPLES)]
    Control(Box<Control>),
    /// The daily verbs: objects of a cluster, or pods, containers and images of this node
    #[command(after_help = CTL_EXAMPLES)]
    Ctl(Ctl),
    /// Say why an object is not as it should be, whom it waits for, and what happens next
    #[command(after_help = cluster::WHY_EXAMPLES)]
    Why(Why),
    /// Pull, load, list and remove images
    #[command(after_help = IMAGE_EXAMPLES)]
    Image(Image),
    /// Copy the programs to PREFIX/bin and the systemd units beside them
    Install(Install),
    /// Print a shell's completion script
    #[command(after_help = "Example:\n  source <(cleat completion bash)")]
    Completion {
        /// bash, elvish, fish, powershell or zsh
        shell: clap_complete::Shell,
    },
}

const UP_EXAMPLES: &str = "\
Examples:
  cleat up
  cleat up --data-dir /tmp/cleat --listen 127.0.0.1:0   # leaves the machine's own directories alone
  cleat up --standalone --manifests /etc/cleat/manifests   # a node without a cluster
  cleat up --standalone --manifests ./pods --data-dir /tmp/cleat";
const CTL_EXAMPLES: &str = "\
Examples:
  cleat ctl get pods
  cleat ctl apply -f web.yaml
  cleat ctl get deploy,svc -A --output yaml
  cleat ctl get pods -o wide
  cleat ctl describe pod web
  cleat ctl logs web -c nginx -f
  cleat ctl exec -it web -c nginx -- sh";
const IMAGE_EXAMPLES: &str = "\
Examples:
  cleat image pull docker.io/library/nginx:1.27
  cleat image load ./images.tar
  cleat image ls --output json
  cleat image rm nginx:1.27";

/// Where state lives.
#[derive(Debug, Clone, Args)]
pub(crate) struct Dirs {
    /// Directory for all lasting state (default: /var/lib/cleat)
    #[arg(long, env = "CLEAT_DATA_DIR", value_name = "DIR", global = true)]
    pub(crate) data_dir: Option<PathBuf>,
    /// Directory for sockets and what a reboot may lose (default: /run/cleat; DATA_DIR/run with --data-dir)
    #[arg(long, env = "CLEAT_RUN_DIR", value_name = "DIR", global = true)]
    pub(crate) run_dir: Option<PathBuf>,
}

/// Configuration of images and network, shared by `up`, `down` and `cri`.
#[derive(Debug, Clone, Args)]
pub(crate) struct Runtime {
    /// Registry hosts, as containerd's users know them: DIR/HOST/hosts.toml
    #[arg(long, value_name = "DIR", default_value = "/etc/cleat/certs.d")]
    pub(crate) registry_config: PathBuf,
    /// Registry credentials: a docker config.json
    #[arg(long, value_name = "FILE", default_value = "/etc/cleat/config.json")]
    pub(crate) registry_auth: PathBuf,
    /// CNI configuration lists (default for `up`: one of our own under the data directory; for `cri`: /etc/cni/net.d)
    #[arg(long, value_name = "DIR")]
    pub(crate) cni_conf_dir: Option<PathBuf>,
    /// Further directories of CNI plugins, before ours
    #[arg(long, value_name = "DIR")]
    pub(crate) cni_bin_dir: Vec<PathBuf>,
    /// A further OCI runtime for RuntimeClass handlers, with runc's command line
    #[arg(long = "runtime", value_name = "HANDLER=PATH")]
    pub(crate) runtimes: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Up {
    /// Run without an API server, on Pod manifests alone
    #[arg(long)]
    pub(crate) standalone: bool,
    /// Directory of v1 Pod manifests, YAML or JSON, watched for changes
    #[arg(long, value_name = "DIR")]
    pub(crate) manifests: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) plane: Plane,
    #[command(flatten)]
    pub(crate) node: Node,
    #[command(flatten)]
    pub(crate) network: Network,
    #[command(flatten)]
    pub(crate) dirs: Dirs,
    #[command(flatten)]
    pub(crate) runtime: Runtime,
}

/// The pod network of the node, where no `--cni-conf-dir` is given.
#[derive(Debug, Clone, Args)]
pub(crate) struct Network {
    /// Bridge that the pods are attached to
    #[arg(long, value_name = "NAME", default_value = "cleat0")]
    pub(crate) bridge: String,
}

#[derive(Debug, Args)]
pub(crate) struct Down {
    /// How long pods may take to be taken over by other nodes, in seconds; 0 does not ask them to
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    pub(crate) timeout: u64,
    #[command(flatten)]
    pub(crate) dirs: Dirs,
    #[command(flatten)]
    pub(crate) runtime: Runtime,
}

#[derive(Debug, Args)]
pub(crate) struct Cri {
    #[command(flatten)]
    pub(crate) dirs: Dirs,
    #[command(flatten)]
    pub(crate) runtime: Runtime,
}

#[derive(Debug, Args)]
pub(crate) struct Agent {
    /// The cluster and the node's credentials; without it the agent runs manifests alone
    #[arg(long, value_name = "FILE")]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// Directory of v1 Pod manifests, YAML or JSON, watched for changes
    #[arg(long, value_name = "DIR")]
    pub(crate) manifests: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) node: Node,
    #[command(flatten)]
    pub(crate) dirs: Dirs,
}

#[derive(Debug, Args)]
pub(crate) struct Ctl {
    #[command(subcommand)]
    pub(crate) verb: Verb,
    #[command(flatten)]
    pub(crate) dirs: Dirs,
    /// Namespace of the objects (default: that of the kubeconfig, else `default`)
    #[arg(short, long, global = true)]
    pub(crate) namespace: Option<String>,
    /// The cluster (default: the one of this machine, else that of KUBECONFIG, else this node alone)
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// Another context of the kubeconfig than its current one
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) context: Option<String>,
    /// How to print
    #[arg(short, long, global = true, value_enum, default_value_t = Format::Table)]
    pub(crate) output: Format,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// List objects; of a node also its containers and images
    Get {
        /// Such as pods, deploy, all or po,svc; containers and images of this node
        #[arg(value_name = "TYPE")]
        kind: String,
        /// Only these
        #[arg(value_name = "NAME")]
        names: Vec<String>,
        /// Those of all namespaces
        #[arg(short = 'A', long)]
        all_namespaces: bool,
        #[command(flatten)]
        select: Select,
        /// Go on and print every change
        #[arg(short, long)]
        watch: bool,
    },
    /// Show an object and its events; of a pod on this node also what it waits for
    Describe {
        /// `TYPE NAME` or `TYPE/NAME`
        #[arg(required = true, value_name = "OBJECT")]
        object: Vec<String>,
    },
    /// Create objects
    Create {
        /// Manifests, YAML or JSON: files, directories, or - for standard input
        #[arg(short = 'f', long = "filename", required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
    },
    /// Make objects as the manifests say, by server-side apply
    Apply {
        /// Manifests, YAML or JSON: files, directories, or - for standard input
        #[arg(short = 'f', long = "filename", required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
        /// Take fields over that others own
        #[arg(long)]
        force: bool,
    },
    /// Delete objects and wait until they are gone
    Delete(Delete),
    /// Set and remove labels
    Label {
        /// `TYPE NAME` or `TYPE/NAME`; then KEY=VALUE to set, KEY- to remove
        #[arg(required = true, value_names = ["OBJECT", "CHANGE"])]
        words: Vec<String>,
    },
    /// Set and remove annotations
    Annotate {
        /// `TYPE NAME` or `TYPE/NAME`; then KEY=VALUE to set, KEY- to remove
        #[arg(required = true, value_names = ["OBJECT", "CHANGE"])]
        words: Vec<String>,
    },
    /// Set how many replicas there should be
    Scale {
        /// `TYPE NAME` or `TYPE/NAME`
        #[arg(required = true, value_name = "OBJECT")]
        object: Vec<String>,
        /// How many
        #[arg(long)]
        replicas: u32,
    },
    /// Change parts of an object
    Patch {
        /// `TYPE NAME` or `TYPE/NAME`
        #[arg(required = true, value_name = "OBJECT")]
        object: Vec<String>,
        /// The change, JSON or YAML
        #[arg(short, long)]
        patch: String,
        /// How it is meant
        #[arg(long = "type", value_enum, default_value_t = PatchKind::Strategic)]
        kind: PatchKind,
    },
    /// Wait until objects are as they should be
    Wait {
        /// `TYPE NAME` or `TYPE/NAME`
        #[arg(required = true, value_name = "OBJECT")]
        object: Vec<String>,
        /// `condition=TYPE[=STATUS]` or `delete`
        #[arg(long = "for", value_name = "CONDITION")]
        condition: String,
        /// Give up after so many seconds
        #[arg(long, default_value_t = 30, value_name = "SECONDS")]
        timeout: u64,
    },
    /// List the resource types
    ApiResources,
    /// Print a container's log
    Logs(Logs),
    /// Run a command in a container
    Exec(Exec),
    /// Take part in what a container reads and prints
    Attach(Attach),
    /// Reach ports of a pod from here
    PortForward(Forward),
    /// Copy a file from or to a container
    Cp(Copy),
}

/// Which objects of a list.
#[derive(Debug, Args)]
pub(crate) struct Select {
    /// Only those with these labels, such as `app=web,tier!=db`
    #[arg(short = 'l', long)]
    pub(crate) selector: Option<String>,
    /// Only those with these fields, such as `spec.nodeName=n1`
    #[arg(long)]
    pub(crate) field_selector: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Delete {
    /// `TYPE NAME` or `TYPE/NAME`; TYPE alone with --selector or --all
    #[arg(value_name = "OBJECT")]
    pub(crate) objects: Vec<String>,
    /// The objects of these manifests
    #[arg(short = 'f', long = "filename", value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    /// Those with these labels
    #[arg(short = 'l', long)]
    pub(crate) selector: Option<String>,
    /// All of the type in the namespace
    #[arg(long)]
    pub(crate) all: bool,
    /// Seconds that pods get to end
    #[arg(long, value_name = "SECONDS")]
    pub(crate) grace_period: Option<u32>,
    /// Do not wait until they are gone
    #[arg(long)]
    pub(crate) no_wait: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum PatchKind {
    /// RFC 6902
    Json,
    /// RFC 7396
    Merge,
    /// Lists are merged by their keys
    Strategic,
}

#[derive(Debug, Args)]
pub(crate) struct Logs {
    /// The pod
    pub(crate) pod: String,
    /// Which container (may be left out where the pod has one)
    #[arg(short, long)]
    pub(crate) container: Option<String>,
    /// Go on as lines arrive, until the container ends
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// The log of the instance before the last restart
    #[arg(short, long)]
    pub(crate) previous: bool,
    /// Only so many of the last lines
    #[arg(long, value_name = "LINES")]
    pub(crate) tail: Option<u64>,
    /// Only what is younger, in seconds
    #[arg(long, value_name = "SECONDS")]
    pub(crate) since: Option<u64>,
    /// Begin each line with its time
    #[arg(long)]
    pub(crate) timestamps: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Exec {
    /// The pod
    pub(crate) pod: String,
    /// Which container (default: the pod's first)
    #[arg(short, long)]
    pub(crate) container: Option<String>,
    /// Pass standard input on
    #[arg(short = 'i', long)]
    pub(crate) stdin: bool,
    /// With a terminal
    #[arg(short, long)]
    pub(crate) tty: bool,
    /// The command and its arguments
    #[arg(last = true, required = true)]
    pub(crate) command: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Image {
    #[command(subcommand)]
    pub(crate) verb: ImageVerb,
    #[command(flatten)]
    pub(crate) dirs: Dirs,
    /// How to print
    #[arg(short, long, global = true, value_enum, default_value_t = Format::Table)]
    pub(crate) output: Format,
    /// Registry hosts: DIR/HOST/hosts.toml
    #[arg(long, value_name = "DIR", global = true, default_value = "/etc/cleat/certs.d")]
    pub(crate) registry_config: PathBuf,
    /// Registry credentials: a docker config.json
    #[arg(long, value_name = "FILE", global = true, default_value = "/etc/cleat/config.json")]
    pub(crate) registry_auth: PathBuf,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ImageVerb {
    /// Pull images from their registries
    Pull {
        /// Such as nginx:1.27 or registry.example/team/app@sha256:…
        #[arg(required = true, value_name = "IMAGE")]
        references: Vec<String>,
        /// Another platform than this machine's, such as linux/arm64
        #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
        platform: Option<String>,
    },
    /// Load docker or OCI archives (tar, also compressed) or an OCI layout directory
    Load {
        /// Archives; - is standard input
        #[arg(required = true, value_name = "ARCHIVE")]
        archives: Vec<PathBuf>,
    },
    /// List images
    #[command(visible_alias = "list")]
    Ls,
    /// Remove images, by name or id
    #[command(visible_alias = "remove")]
    Rm {
        /// Names or ids
        #[arg(required = true, value_name = "IMAGE")]
        images: Vec<String>,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Install {
    /// Where to install
    #[arg(long, default_value = "/usr/local", value_name = "DIR")]
    pub(crate) prefix: PathBuf,
    /// Where systemd finds units
    #[arg(long, default_value = "/etc/systemd/system", value_name = "DIR")]
    pub(crate) unit_dir: PathBuf,
    /// Only say what would be done
    #[arg(long)]
    pub(crate) dry_run: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    #[value(alias = "pod", alias = "po")]
    Pods,
    #[value(alias = "container")]
    Containers,
    #[value(alias = "image")]
    Images,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people
    Table,
    /// For people, with more columns
    Wide,
    /// For programs
    Json,
    /// For programs and people
    Yaml,
    /// The names alone
    Name,
}

/// Prints the completion script of a shell to standard output.
pub(crate) fn completion(shell: clap_complete::Shell) {
    clap_complete::generate(shell, &mut Cleat::command(), "cleat", &mut std::io::stdout());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn definitions_are_sound() {
        Cleat::command().debug_assert();
    }

    #[test]
    fn kubectl_habits_parse() {
        for line in [
            "cleat ctl get pods -A -o wide",
            "cleat ctl get po web --output json",
            "cleat ctl describe pod/web",
            "cleat ctl describe pod web -n kube-system",
            "cleat ctl logs web -c nginx -f --tail 5",
            "cleat ctl logs web --previous",
            "cleat ctl exec -it web -- sh -c ls",
            "cleat --data-dir /x up --standalone",
        ] {
            let parsed = Cleat::try_parse_from(line.split(' '));
            assert_eq!(parsed.is_ok(), !line.contains("--data-dir"), "{line}: {parsed:?}");
        }
    }
}
