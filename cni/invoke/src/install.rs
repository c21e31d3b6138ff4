//! What `cleat up` puts on a machine that has no pod network: [`default_conflist`], [`install`].

use std::io;
use std::path::Path;

use ipnet::IpNet;
use serde_json::{Value, json};

/// Plugins that `cleat-cni` is, by the names CNI knows them by.
pub const PLUGINS: [&str; 5] = ["bridge", "host-local", "loopback", "portmap", "static"];

/// A configuration list of bridge, host-local and portmap. Its host takes the first address of each subnet. The
/// bridge is nobody else's: when the subnets change, its old address goes.
///
/// `data_dir` is where host-local keeps its leases.
pub fn default_conflist(name: &str, bridge: &str, subnets: &[IpNet], data_dir: &Path) -> String {
    let ranges: Vec<Value> = subnets.iter().map(|subnet| json!([{ "subnet": subnet }])).collect();
    let default_route = |subnet: &IpNet| match subnet {
        IpNet::V4(_) => json!({ "dst": "0.0.0.0/0" }),
        IpNet::V6(_) => json!({ "dst": "::/0" }),
    };
    let routes: Vec<Value> = subnets.iter().map(default_route).collect();
    let list = json!({
        "cniVersion": "1.1.0",
        "name": name,
        "plugins": [
            {
                "type": "bridge",
                "bridge": bridge,
                "isGateway": true,
                "forceAddress": true,
                "ipMasq": true,
                "hairpinMode": true,
                "ipam": { "type": "host-local", "dataDir": data_dir, "ranges": ranges, "routes": routes },
            },
            { "type": "portmap", "capabilities": { "portMappings": true } },
        ],
    });
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
