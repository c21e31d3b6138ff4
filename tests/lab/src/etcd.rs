//! Debian's etcd on free ports of the loopback, with its data in a folder of its own.

use std::fs::File;
use std::net::TcpListener;
use std::process::{Child, Command};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use crate::debian::Debian;
use crate::wait;

/// A cluster of one member; killed, and its data removed, on drop.
pub struct Etcd {
    child: Child,
    port: u16,
    _folder: TempDir,
}

impl Etcd {
    /// Starts one and waits until it listens.
    pub fn start() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let program = Debian::open()?.package("etcd-server")?.join("usr/bin/etcd");
        let (client, peer) = (free_port()?, free_port()?);
        let at = |port: u16| format!("http://127.0.0.1:{port}");
        let mut command = Command::new(program);
        command.arg("--data-dir").arg(folder.path().join("data")).args(["--name", "one"]);
        command.arg("--initial-cluster").arg(format!("one={}", at(peer)));
        command.arg("--initial-advertise-peer-urls").arg(at(peer)).arg("--listen-peer-urls").arg(at(peer));
        command.arg("--advertise-client-urls").arg(at(client)).arg("--listen-client-urls").arg(at(client));
        let log = folder.path().join("log");
        let output = File::create(&log)?;
        let child = command.stdout(output.try_clone()?).stderr(output).spawn().context("etcd")?;
        let mut etcd = Self { child, port: client, _folder: folder };
        wait::until("etcd listens", 60, || {
            if let Some(status) = etcd.child.try_wait()? {
                bail!("etcd ended with {status}: {}", std::fs::read_to_string(&log)?);
            }
            let found = std::net::TcpStream::connect(("127.0.0.1", client));
            Ok(found.map(drop).map_err(|error| error.to_string()))
        })?;
        Ok(etcd)
    }

    /// As `127.0.0.1:2379`.
    #[must_use]
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}
