//! A virtual machine with Debian's cloud kernel, for what this machine's kernel cannot show: cgroup v2 alone.
//! Software emulation and an initramfs: no disk, no network, three seconds to a shell.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::debian::{Debian, output};
use crate::elf;

/// What stands before the script's exit code on the console.
const END: &str = "VM-SCRIPT-EXIT";
/// Kernel modules below `kernel/` that go along whole.
const MODULES: [&str; 8] = [
    "fs/overlayfs",
    "drivers/net",
    "net/bridge",
    "net/netfilter",
    "net/ipv4/netfilter",
    "net/ipv6/netfilter",
    "net/802",
    "net/llc",
];
/// Modules to load before the script runs.
const LOADED: &str = "overlay veth bridge nf_tables nft_chain_nat nft_nat nft_masq nft_ct nft_fib_inet";
/// Where the loader of a guest program looks for libraries.
const LIBRARIES: &str = "/usr/lib/x86_64-linux-gnu";

/// A kernel to boot.
#[derive(Debug)]
pub struct Vm {
    kernel: PathBuf,
    modules: PathBuf,
    busybox: PathBuf,
}

/// What the guest printed, and how its script ended.
#[derive(Debug)]
pub struct Ended {
    /// The console.
    pub console: String,
    /// The script's exit code.
    pub code: i32,
}

impl Vm {
    /// Debian's current cloud kernel, from its package.
    pub fn open(debian: &Debian) -> Result<Vm> {
        let depends = output(Command::new("apt-cache").args(["depends", "linux-image-cloud-amd64"]))?;
        let package = depends.lines().find_map(|line| line.trim().strip_prefix("Depends: linux-image"));
        let package =
            format!("linux-image{}", package.context("linux-image-cloud-amd64 depends on no kernel")?);
        let files = debian.package(&package)?;
        let release = package.trim_start_matches("linux-image-");
        let lib = ["usr/lib/modules", "lib/modules"].map(|dir| files.join(dir).join(release));
        let modules =
            lib.into_iter().find(|dir| dir.exists()).context("the kernel package has no modules")?;
        output(
            Command::new("depmod").arg("-b").arg(modules.ancestors().nth(3).context("modules")?).arg(release),
        )?;
        let busybox = debian.package("busybox-static")?;
        let busybox = ["bin/busybox", "usr/bin/busybox"].map(|path| busybox.join(path));
        Ok(Vm {
            kernel: files.join("boot").join(format!("vmlinuz-{release}")),
            modules,
            busybox: busybox
                .into_iter()
                .find(|path| path.exists())
                .context("busybox-static has no busybox")?,
        })
    }

    /// Boots, runs a shell script as PID 1's only child, and powers off. `files` are copied in, (host, guest), dynamic
    /// programs with their libraries.
    pub fn run(&self, files: &[(PathBuf, &str)], script: &str, deadline: Duration) -> Result<Ended> {
        let work = tempfile::tempdir()?;
        let initramfs = work.path().join("initramfs");
        fs::write(&initramfs, self.initramfs(files, script)?)?;
        let seconds = deadline.as_secs().to_string();
        let qemu = Command::new("timeout")
            .args([
                &seconds,
                "qemu-system-x86_64",
                "-cpu",
                "max",
                "-m",
                "3072",
                "-smp",
                "2",
                "-nographic",
                "-no-reboot",
            ])
            .args(["-nic", "none", "-append", "console=ttyS0 quiet panic=-1", "-kernel"])
            .arg(&self.kernel)
            .arg("-initrd")
            .arg(&initramfs)
            .stdin(Stdio::null())
            .output()
            .context("cannot start qemu-system-x86_64 (package qemu-system-x86)")?;
        let console = String::from_utf8_lossy(&qemu.stdout).replace('\r', "");
        let code = console.lines().rev().find_map(|line| line.strip_prefix(END)?.trim().parse().ok());
        match code {
            Some(code) => Ok(Ended { console, code }),
            None => bail!(
                "the script did not end within {seconds} s:\n{console}{}",
                String::from_utf8_lossy(&qemu.stderr)
            ),
        }
    }

    fn initramfs(&self, files: &[(PathBuf, &str)], script: &str) -> Result<Vec<u8>> {
        let mut archive = Archive::default();
        archive.file("/bin/busybox", 0o755, &fs::read(&self.busybox)?);
        archive.file("/init", 0o755, INIT.as_bytes());
        let main = format!("{}{script}\n", MAIN.replace("@MODULES@", LOADED));
        archive.file("/main", 0o755, main.as_bytes());
        for name in ["kernel/lib", "kernel/net/core"] {
            self.take_modules(&mut archive, &self.modules.join(name))?;
        }
        for name in MODULES {
            self.take_modules(&mut archive, &self.modules.join("kernel").join(name))?;
        }
        for entry in fs::read_dir(&self.modules)? {
            let path = entry?.path();
            if path.is_file() {
                archive.file(&self.in_guest(&path)?, 0o644, &fs::read(&path)?);
            }
        }
        let mut libraries = BTreeSet::new();
        for (host, guest) in files {
            let bytes = fs::read(host).with_context(|| host.display().to_string())?;
            let mode = fs::metadata(host)?.permissions().mode() & 0o777;
            wanted(&bytes, &mut libraries)?;
            archive.file(guest, mode, &bytes);
        }
        for library in &libraries {
            let bytes = fs::read(Path::new(LIBRARIES).join(library)).with_context(|| library.clone())?;
            let folder = if library.starts_with("ld-") { "/lib64" } else { "/lib/x86_64-linux-gnu" };
            archive.file(&format!("{folder}/{library}"), 0o755, &bytes);
        }
        Ok(archive.end())
    }

    fn take_modules(&self, archive: &mut Archive, dir: &Path) -> Result<()> {
        let Ok(entries) = fs::read_dir(dir) else { return Ok(()) };
        for entry in entries {
            let path = entry?.path();
            if path.is_dir() {
                self.take_modules(archive, &path)?;
            } else {
                archive.file(&self.in_guest(&path)?, 0o644, &fs::read(&path)?);
            }
        }
        Ok(())
    }

    fn in_guest(&self, path: &Path) -> Result<String> {
        let release = self.modules.parent().context("modules")?;
        Ok(format!("/lib/modules/{}", path.strip_prefix(release)?.display()))
    }
}

/// Adds the libraries that a program needs, and those that they need.
fn wanted(bytes: &[u8], libraries: &mut BTreeSet<String>) -> Result<()> {
    let needs = elf::needs(bytes);
    let loader = needs.interpreter.iter().filter_map(|path| path.rsplit('/').next().map(str::to_owned));
    for library in needs.libraries.iter().cloned().chain(loader) {
        if libraries.insert(library.clone()) {
            let path = Path::new(LIBRARIES).join(&library);
            wanted(&fs::read(&path).with_context(|| path.display().to_string())?, libraries)?;
        }
    }
    Ok(())
}

/// pivot_root does not work on an initramfs: everything moves to a tmpfs first.
const INIT: &str = "#!/bin/busybox sh
/bin/busybox mkdir /new
/bin/busybox mount -t tmpfs -o size=90% tmpfs /new
/bin/busybox cp -a /bin /lib /lib64 /main /new/ 2>/dev/null
for f in /*; do case $f in /new|/bin|/lib|/lib64|/main|/proc|/sys|/dev|/init) ;; *) /bin/busybox cp -a $f /new/ ;; esac; done
exec /bin/busybox switch_root /new /bin/busybox sh /main
";
const MAIN: &str = "
/bin/busybox --install -s /bin
export PATH=/bin:/usr/bin:/sbin HOME=/root
mkdir -p /proc /sys /dev /run /tmp /var/log /var/lib /etc /root
mount -t proc proc /proc; mount -t sysfs sysfs /sys; mount -t devtmpfs dev /dev
mkdir -p /dev/pts /dev/shm; mount -t devpts devpts /dev/pts; mount -t tmpfs tmpfs /dev/shm; mount -t tmpfs tmpfs /run
mount -t cgroup2 cgroup2 /sys/fs/cgroup
hostname vm; ip link set lo up
for m in @MODULES@; do modprobe $m || echo \"no module $m\"; done
end() { code=$?; echo; echo VM-SCRIPT-EXIT $code; poweroff -f; }
trap end EXIT
set -e
";

/// An initramfs in cpio's newc format.
#[derive(Debug, Default)]
struct Archive {
    bytes: Vec<u8>,
    folders: BTreeSet<String>,
    count: u32,
}

impl Archive {
    fn file(&mut self, path: &str, mode: u32, bytes: &[u8]) {
        for (end, _) in path.match_indices('/').skip(1) {
            let folder = path[..end].to_owned();
            if self.folders.insert(folder.clone()) {
                self.entry(&folder, 0o040_755, &[]);
            }
        }
        self.entry(path, 0o100_000 | mode, bytes);
    }

    fn entry(&mut self, path: &str, mode: u32, bytes: &[u8]) {
        self.count += 1;
        let name = path.trim_start_matches('/');
        let size = u32::try_from(bytes.len()).expect("no file of 4 GiB goes into an initramfs");
        let length = u32::try_from(name.len() + 1).expect("names are short");
        let fields = [self.count, mode, 0, 0, 1, 0, size, 0, 0, 0, 0, length, 0];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            write!(self.bytes, "{field:08X}").expect("a vector takes all writes");
        }
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.align();
        self.bytes.extend_from_slice(bytes);
        self.align();
    }

    fn align(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    fn end(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, &[]);
        self.bytes
    }
}
