//! Debian's containerd as the peer: on the same contracts, in the same kind of machine.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::Machine;

/// What it runs for a pod; all from the packages containerd, runc and containernetworking-plugins.
pub const CONTAINERD: [&str; 7] = [
    "/usr/bin/containerd",
    "/usr/bin/containerd-shim-runc-v2",
    "/usr/sbin/runc",
    "/usr/lib/cni/loopback",
    "/usr/lib/cni/bridge",
    "/usr/lib/cni/host-local",
    "/usr/lib/cni/portmap",
];

/// The command that starts containerd on a machine, with all its state in the machine's folder, its socket at
/// [`socket`], registries as `certs.d` and networks as `net.d` there say.
pub fn containerd(machine: &Machine, pause: &str) -> Result<Command> {
    for program in CONTAINERD {
        let missing = "install the Debian packages containerd, runc and containernetworking-plugins";
        fs::metadata(program).with_context(|| format!("{program} is not there: {missing}"))?;
    }
    let folder = machine.folder();
    let at = |name: &str| folder.join(name);
    let cri = "[plugins.\"io.containerd.grpc.v1.cri\"";
    let config = format!(
        "version = 2\nroot = {:?}\nstate = {:?}\n[grpc]\naddress = {:?}\n\
         {cri}]\nsandbox_image = {pause:?}\nrestrict_oom_score_adj = true\ndisable_apparmor = true\n\
         {cri}.cni]\nbin_dir = \"/usr/lib/cni\"\nconf_dir = {:?}\n\
         {cri}.registry]\nconfig_path = {:?}\n",
        at("containerd/root"),
        at("containerd/state"),
        socket(folder),
        at("net.d"),
        at("certs.d"),
    );
    let file = at("containerd.toml");
    fs::write(&file, config).with_context(|| file.display().to_string())?;
    let mut command = machine.command("containerd");
    command.arg("--config").arg(file);
    Ok(command)
}

/// Where containerd of a machine with this folder listens.
#[must_use]
pub fn socket(folder: &Path) -> PathBuf {
    folder.join("containerd.sock")
}
