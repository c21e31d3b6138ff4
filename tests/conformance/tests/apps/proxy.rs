//! `kubectl proxy`.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::process::Stdio;

use anyhow::{Context, Result, bail, ensure};
use conformance::Bed;
use lab::{Process, pypi};
use serde_json::Value;
use std::process::Command;

/// `kubectl proxy`, and what it says first, with the address that it serves.
fn proxy(bed: &Bed, argument: &str) -> Result<(Process, String)> {
    let mut command: Command = bed.cluster.client(pypi::kubectl()?);
    let log = bed.cluster.node(0).machine().folder().join(format!("{}.log", bed.namespace));
    command.args(["proxy", argument]).stdout(std::fs::File::create(&log)?).stderr(Stdio::inherit());
    let process = bed.cluster.node(0).machine().spawn(command)?;
    let said = lab::wait::until("the proxy to serve", 90, || {
        let said = std::fs::read_to_string(&log)?;
        Ok(if said.ends_with('\n') { Ok(said) } else { Err(said) })
    })?;
    let address = said.trim().strip_prefix("Starting to serve on ").context(said.clone())?;
    Ok((process, address.to_owned()))
}

/// The versions that `/api` tells of.
fn has_versions(mut stream: impl Read + Write) -> Result<()> {
    stream.write_all(b"GET /api HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut answer = BufReader::new(stream);
    let mut length = None;
    loop {
        let mut line = String::new();
        if answer.read_line(&mut line)? == 0 {
            bail!("the answer ends in its head");
        }
        if let Some((_, value)) =
            line.split_once(':').filter(|(key, _)| key.eq_ignore_ascii_case("content-length"))
        {
            length = Some(value.trim().parse()?);
        }
        if line.trim().is_empty() {
            break;
        }
    }
    let mut body = vec![0; length.context("no length")?];
    answer.read_exact(&mut body)?;
    let body: Value = serde_json::from_slice(&body)?;
    ensure!(body["versions"].as_array().is_some_and(|versions| !versions.is_empty()), "{body}");
    Ok(())
}

/// Runs what waits on a thread where it may.
async fn blocking(bed: Bed, work: impl FnOnce(Bed) -> Result<()> + Send + 'static) -> Result<()> {
    tokio::task::spawn_blocking(move || work(bed)).await?
}

pub(crate) async fn unix_socket(bed: Bed) -> Result<()> {
    let work = |bed: Bed| {
        let path = bed.cluster.node(0).machine().folder().join(format!("{}.sock", bed.namespace));
        let (_process, _) = proxy(&bed, &format!("--unix-socket={}", path.display()))?;
        has_versions(UnixStream::connect(path)?)
    };
    blocking(bed, work).await
}

pub(crate) async fn any_port(bed: Bed) -> Result<()> {
    let work = |bed: Bed| {
        let (_process, address) = proxy(&bed, "--port=0")?;
        has_versions(TcpStream::connect(address)?)
    };
    blocking(bed, work).await
}
