//! The same tests again on the kernel that Debian's stable release has: qemu, no KVM.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use ::lab::debian::Debian;
use ::lab::vm::Vm;

/// Upstream's plugins are not in the guest, and what takes long needs no second kernel. The module would be loaded
/// by the kernel's own request where there is a `/sbin/modprobe`.
const SCRIPT: &str = "mkdir -p /tmp; modprobe nf_conntrack_netlink; RUST_BACKTRACE=0 /packets --skip old_kernel \
                      --skip each_ --skip fifty_at_once --skip check_sees_damage --skip every_version";

#[test]
fn packets_on_debians_kernel() {
    let vm = Vm::open(&Debian::open().unwrap()).unwrap();
    let nft = Command::new("sh").args(["-c", "command -v nft"]).output().unwrap();
    let nft = PathBuf::from(String::from_utf8(nft.stdout).unwrap().trim());
    let plugins = env!("CARGO_BIN_EXE_cleat-cni");
    let files = [
        (std::env::current_exe().unwrap(), "/packets"),
        (PathBuf::from(plugins), plugins),
        (nft, "/bin/nft"),
    ];
    let ended = vm.run(&files, SCRIPT, Duration::from_secs(420)).unwrap();
    assert!(ended.code == 0, "{}", ended.console);
}
