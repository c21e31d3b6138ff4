//! The files that tell the node's runtime of the network.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use ipnet::IpNet;

use crate::Error;

/// The CNI list, in the directory of lists.
pub(crate) fn list_path(dir: &Path) -> PathBuf {
    dir.join("10-cleat.conflist")
}

/// For flannel's CNI plugin.
pub(crate) fn env_path(dir: &Path) -> PathBuf {
    dir.join("subnet.env")
}

/// `subnet.env` as flannel's plugin reads it. Its `SUBNET` is the gateway's address in the range.
pub(crate) fn subnet_env(network: &[IpNet], subnets: &[IpNet], mtu: u32, masquerade: bool) -> String {
    let mut text = String::new();
    for v4 in [true, false] {
        let prefix = if v4 { "FLANNEL_" } else { "FLANNEL_IPV6_" };
        let of = |nets: &[IpNet]| nets.iter().copied().find(|net| net.addr().is_ipv4() == v4);
        let Some(subnet) = of(subnets) else { continue };
        let gateway = subnet.hosts().next().unwrap_or(subnet.addr());
        // hosts() of an IPv6 network begin with its own address
        let gateway =
            if gateway == subnet.network() { subnet.hosts().nth(1).unwrap_or(gateway) } else { gateway };
        let _ = writeln!(text, "{prefix}NETWORK={}", of(network).unwrap_or(subnet));
        let _ = writeln!(text, "{prefix}SUBNET={gateway}/{}", subnet.prefix_len());
    }
    let _ = writeln!(text, "FLANNEL_MTU={mtu}\nFLANNEL_IPMASQ={masquerade}");
    text
}

/// Writes a file that is not so already, by rename. Tells whether it did.
pub(crate) fn write(path: &Path, text: &str) -> Result<bool, Error> {
    if fs::read_to_string(path).is_ok_and(|now| now == text) {
        return Ok(false);
    }
    let (dir, name) = (path.parent().unwrap_or(Path::new("/")), path.file_name().unwrap_or_default());
    let draft = dir.join(format!(".{}.{}", name.to_string_lossy(), std::process::id()));
    let fail =
        |what: &'static str| move |source| Error::File { what: format!("{what} {}", path.display()), source };
    fs::create_dir_all(dir).map_err(fail("make the directory of"))?;
    let written = fs::write(&draft, text).and_then(|()| fs::File::open(&draft)?.sync_all());
    written.and_then(|()| fs::rename(&draft, path)).map_err(fail("write"))?;
    Ok(true)
}

/// Removes a file, be it there or not.
pub(crate) fn remove(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(Error::File { what: format!("remove {}", path.display()), source })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flannels_plugin_reads_it() {
        let nets = |texts: &[&str]| texts.iter().map(|net| net.parse().unwrap()).collect::<Vec<IpNet>>();
        let both = subnet_env(
            &nets(&["10.244.0.0/16", "fd00::/48"]),
            &nets(&["10.244.3.0/24", "fd00:0:0:3::/64"]),
            1430,
            true,
        );
        assert_eq!(
            both,
            "FLANNEL_NETWORK=10.244.0.0/16\nFLANNEL_SUBNET=10.244.3.1/24\nFLANNEL_IPV6_NETWORK=fd00::/48\n\
             FLANNEL_IPV6_SUBNET=fd00:0:0:3::1/64\nFLANNEL_MTU=1430\nFLANNEL_IPMASQ=true\n"
        );
    }

    #[test]
    fn written_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b");
        assert!(write(&path, "x").unwrap());
        assert!(!write(&path, "x").unwrap());
        assert_eq!(fs::read_dir(dir.path().join("a")).unwrap().count(), 1);
        remove(&path).unwrap();
        remove(&path).unwrap();
    }
}
