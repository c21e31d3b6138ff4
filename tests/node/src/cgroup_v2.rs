//! A pod on a machine whose cgroups are version 2 alone: Debian's kernel under qemu. The same programs, the same pod.

use std::path::PathBuf;
use std::time::Duration;

use lab::debian::Debian;
use lab::image::write_archive;
use lab::vm::Vm;
use lab::{demo, programs};

const MANIFEST: &str = "\
apiVersion: v1
kind: Pod
metadata:
  name: limited
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: quiet
    image: busybox:1.35
    command: [sleep, '3600']
    resources:
      requests: {cpu: 100m, memory: 32Mi}
      limits: {cpu: 500m, memory: 64Mi}
  - name: hungry
    image: busybox:1.35
    command: [tail, /dev/zero]
    resources:
      limits: {cpu: 100m, memory: 16Mi}
";

/// `wait_for WHAT COMMAND` polls for a minute of emulated time.
const SCRIPT: &str = r#"
wait_for() { what=$1; shift; n=0; until "$@" >/out 2>&1; do n=$((n+1)); [ $n -lt 240 ] || { echo "no $what"; cat /out /up.log; exit 1; }; sleep 0.25; done; }
expect() { [ "$2" = "$3" ] || { echo "$1: $2 instead of $3"; cat /up.log; exit 1; }; }
cleat image load /images.tar
mkdir /manifests; cp /pod.yaml /manifests/
cleat --log info up --standalone --manifests /manifests >/up.log 2>&1 &
wait_for pod sh -c 'cleat ctl get pods -o json | grep -q "\"running\""'
wait_for OOMKilled sh -c 'cleat ctl get pods -o json | grep -q OOMKilled'
id=$(cleat ctl get containers quiet -o json | grep '"id"' | cut -d'"' -f4)
dir=$(find /sys/fs/cgroup/kubepods -type d -name "$id")
expect memory.max "$(cat $dir/memory.max)" 67108864
expect cpu.max "$(cat $dir/cpu.max)" "50000 100000"
[ -n "$(cat $dir/cgroup.procs)" ] || { echo "no process in $dir"; exit 1; }
denied=$(cleat ctl exec limited -c quiet -- sh -c 'mknod /tmp/mem c 1 1 && head -c 1 /tmp/mem; true' 2>&1)
case "$denied" in *"not permitted"*) ;; *) echo "device rule: $denied"; exit 1;; esac
cleat ctl exec limited -c quiet -- sh -c 'head -c 1 /dev/zero >/dev/null && cat /sys/fs/cgroup/memory.max' >/out
expect "memory.max inside" "$(cat /out)" 67108864
cleat down
[ -z "$(find /sys/fs/cgroup/kubepods -mindepth 1 -type d 2>/dev/null)" ] || { echo "cgroups left:"; find /sys/fs/cgroup/kubepods; exit 1; }
"#;

#[test]
fn limits_devices_and_oom_are_applied() {
    let work = tempfile::tempdir().unwrap();
    let images = work.path().join("images.tar");
    let busybox =
        demo::images().unwrap().into_iter().find(|named| named.reference.contains("busybox")).unwrap();
    write_archive(&[(busybox.reference, &busybox.image)], &images).unwrap();
    let pod = work.path().join("pod.yaml");
    std::fs::write(&pod, MANIFEST).unwrap();
    let folder = programs::debug().unwrap();
    let program = |name: &str| -> PathBuf { folder.join(name) };
    let files = [
        (images, "/images.tar"),
        (pod, "/pod.yaml"),
        (program("cleat"), "/usr/bin/cleat"),
        (program("cleat-monitor"), "/usr/bin/cleat-monitor"),
        (program("cleat-oci"), "/usr/bin/cleat-oci"),
        (program("cleat-cni"), "/usr/bin/cleat-cni"),
    ];
    let vm = Vm::open(&Debian::open().unwrap()).unwrap();
    let ended = vm.run(&files, SCRIPT, Duration::from_secs(300)).unwrap();
    assert_eq!(ended.code, 0, "{}", ended.console);
}
