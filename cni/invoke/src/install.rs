//! What `cleat up` puts on a machine that has no pod network: [`default_conflist`], [`install`].

use std::io;
use std::path::Path;

use ipnet::IpNet;
use serde_json::{Value, json};

/// Plugins that `cleat-cni` is, by the names CNI knows them by.
pub const PLUGINS: [&str; 5] = ["bridge", "host-local", "loopback", "portmap", "static"];

/// A network of one bridge, whose host takes the first address of each subnet. The bridge is nobody else's: when the
/// subnets change, its old address goes.
#[derive(Debug, Clone, Copy)]
pub struct BridgeNetwork<'a> {
    /// The network's name.
    pub name: &'a str,
    /// The bridge's.
    pub bridge: &'a str,
    /// Of each a pod gets an address.
    pub subnets: &'a [IpNet],
    /// Where `host-local` keeps the addresses it gave.
    pub data_dir: &'a Path,
    /// MTU of pods, in bytes; `None`: the kernel's choice.
    pub mtu: Option<u32>,
    /// Give what pods send outside the subnets the host's address.
    pub masquerade: bool,
}

/// A network of one machine: see [`BridgeNetwork`].
pub fn default_conflist(name: &str, bridge: &str, subnets: &[IpNet], data_dir: &Path) -> String {
    conflist(&BridgeNetwork { name, bridge, subnets, data_dir, mtu: None, masquerade: true })
}

/// A configuration list of bridge, host-local and portmap.
pub fn conflist(network: &BridgeNetwork<'_>) -> String {
    let ranges: Vec<Value> = network.subnets.iter().map(|subnet| json!([{ "subnet": subnet }])).collect();
    let default_route = |subnet: &IpNet| match subnet {
        IpNet::V4(_) => json!({ "dst": "0.0.0.0/0" }),
        IpNet::V6(_) => json!({ "dst": "::/0" }),
    };
    let routes: Vec<Value> = network.subnets.iter().map(default_route).collect();
    let mut bridge = json!({
        "type": "bridge",
        "bridge": network.bridge,
        "isGateway": true,
        "forceAddress": true,
        "ipMasq": network.masquerade,
        "hairpinMode": true,
        "ipam": { "type": "host-local", "dataDir": network.data_dir, "ranges": ranges, "routes": routes },
    });
    if let Some(mtu) = network.mtu {
        bridge["mtu"] = mtu.into();
    }
    let portmap = json!({ "type": "portmap", "capabilities": { "portMappings": true } });
    // Runtimes and plugins that do not know the latter yet, as containerd 1.6's, go by the former.
    let (version, versions) = ("1.0.0", ["1.0.0", "1.1.0"]);
    let list = json!({ "cniVersion": version, "cniVersions": versions, "name": network.name,
        "plugins": [bridge, portmap] });
    format!("{list:#}\n")
}

/// Makes `dir` and in it a symbolic link to `program` (`cleat-cni`) for each of [`PLUGINS`]. A link of that name is
/// replaced; any other file is left alone, since somebody put it there.
pub fn install(dir: &Path, program: &Path) -> io::Result<()> {
    std::fs::create_dir_all(dir)?;
    for plugin in PLUGINS {
        let link = dir.join(plugin);
        match std::fs::symlink_metadata(&link) {
            Ok(there) if !there.is_symlink() => continue,
            Ok(_) if std::fs::read_link(&link).is_ok_and(|to| to == program) => continue,
            _ => {}
        }
        let draft = dir.join(format!(".{plugin}.{}", std::process::id()));
        std::os::unix::fs::symlink(program, &draft)?;
        std::fs::rename(&draft, &link)?;
    }
    Ok(())
}
