//! The same cases on a machine whose cgroups are version 2 alone: this test program and ours, booted under qemu.

use std::path::PathBuf;
use std::time::Duration;

use lab::debian::Debian;
use lab::vm::Vm;

use crate::bundle::WITHOUT_RUNC;

/// What depends on the cgroups, and enough beside it to see that the rest works there too.
const CASES: &str = "lifecycle:: exec::a_process_joins exec::a_container_that exec::what_is inside::devices inside::its_cgroup inside::limits";

#[test]
fn the_same_holds_on_version_2() {
    let program = PathBuf::from(env!("CARGO_BIN_EXE_cleat-oci"));
    let guest = program.to_str().unwrap();
    let files = [(program.clone(), guest), (std::env::current_exe().unwrap(), "/kernel")];
    let script = format!("echo guest > /etc/hostname; {WITHOUT_RUNC}=1 /kernel --test-threads 2 {CASES}");
    let vm = Vm::open(&Debian::open().unwrap()).unwrap();
    let ended = vm.run(&files, &script, Duration::from_secs(400)).unwrap();
    assert_eq!(ended.code, 0, "{}", ended.console);
}
