//! The service's addresses on `lo`.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use ipnet::IpNet;
use netlink::route::Route;

use crate::{Error, guard};

fn record(run_dir: &Path) -> PathBuf {
    run_dir.join("dns-addresses")
}

fn recorded(run_dir: &Path) -> BTreeSet<IpAddr> {
    let text = fs::read_to_string(record(run_dir)).unwrap_or_default();
    text.lines().filter_map(|line| line.parse().ok()).collect()
}

/// Puts addresses on `lo` that are on no link yet. Those it puts there are recorded before.
pub(crate) fn ensure(run_dir: &Path, addresses: &[IpAddr]) -> Result<(), Error> {
    let mut route = Route::open()?;
    let there: BTreeSet<IpAddr> = route.addresses(None)?.into_iter().map(|a| a.net.addr()).collect();
    let missing: Vec<IpAddr> = addresses.iter().copied().filter(|ip| !there.contains(ip)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let mut ours = recorded(run_dir);
    ours.extend(&missing);
    write(run_dir, &ours)?;
    let Some(lo) = route.link("lo")? else { return Ok(()) };
    if !lo.up {
        route.set_up(lo.index, true)?;
    }
    for ip in missing {
        match route.add_host_address(lo.index, IpNet::from(ip)) {
            Err(error) if error.is_present() => {}
            done => done?,
        }
    }
    Ok(())
}

/// Takes from `lo` the addresses that [`run`](crate::run) put there, as its `run_dir` says, and removes its table.
///
/// # Errors
/// When the kernel or the file system refuses.
pub fn cleanup(run_dir: &Path) -> Result<(), Error> {
    remove(run_dir)?;
    Ok(guard::remove()?)
}

fn remove(run_dir: &Path) -> Result<(), Error> {
    let ours = recorded(run_dir);
    if ours.is_empty() {
        return Ok(());
    }
    let mut route = Route::open()?;
    if let Some(lo) = route.link("lo")? {
        for ip in ours {
            match route.delete_address(lo.index, IpNet::from(ip)) {
                Err(error) if error.is_absent() => {}
                done => done?,
            }
        }
    }
    let path = record(run_dir);
    match fs::remove_file(&path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(Error::File { what: format!("remove {}", path.display()), source })
        }
        _ => Ok(()),
    }
}

fn write(run_dir: &Path, ours: &BTreeSet<IpAddr>) -> Result<(), Error> {
    let path = record(run_dir);
    let text: String = ours.iter().map(|ip| format!("{ip}\n")).collect();
    let draft = path.with_extension("draft");
    let written = fs::create_dir_all(run_dir).and_then(|()| fs::write(&draft, text));
    written
        .and_then(|()| fs::rename(&draft, &path))
        .map_err(|source| Error::File { what: format!("write {}", path.display()), source })
}

#[cfg(test)]
mod tests {
    use netlink::netns;

    use super::*;

    #[test]
    fn put_there_once_and_taken_away_only_if_ours() {
        let dir = tempfile::tempdir().unwrap();
        let ips: Vec<IpAddr> = ["10.96.0.10", "fd00:96::a"].map(|ip| ip.parse().unwrap()).into();
        let there = || {
            let all = Route::open().unwrap().addresses(Some(1)).unwrap();
            let nets = all.into_iter().map(|address| address.net.to_string());
            nets.filter(|net| !net.starts_with("127.") && net != "::1/128").collect::<BTreeSet<_>>()
        };
        let inside = || {
            let theirs = IpNet::from(ips[1]);
            Route::open().unwrap().add_address(1, theirs, false).unwrap();
            for _ in 0..2 {
                ensure(dir.path(), &ips).unwrap();
                assert_eq!(there(), BTreeSet::from(["10.96.0.10/32".into(), "fd00:96::a/128".into()]));
            }
            let socket = std::net::UdpSocket::bind("10.96.0.10:53").unwrap();
            socket.send_to(b"x", "10.96.0.10:53").unwrap();
            for _ in 0..2 {
                cleanup(dir.path()).unwrap();
                assert_eq!(there(), BTreeSet::from(["fd00:96::a/128".into()]));
            }
        };
        netns::enter(netns::create().unwrap(), inside).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
