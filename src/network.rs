//! The pod network that `cleat up` configures where it is not told of another: one bridge, our own plugins.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use ipnet::IpNet;
use serde_json::Value;

use crate::args::Network;
use crate::paths::Paths;

/// The ranges of a node that was told of none.
const PODS: [&str; 2] = ["10.88.0.0/16", "fd00:88::/64"];

/// Writes the configuration list below the data directory, by rename, and returns its directory.
pub(crate) fn configure(paths: &Paths, network: &Network, pods: &[IpNet]) -> anyhow::Result<PathBuf> {
    let subnets = match pods {
        [] => PODS.iter().filter_map(|cidr| cidr.parse().ok()).collect(),
        given => given.to_vec(),
    };
    let file = file(paths);
    let dir = file.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(dir).with_context(|| format!("making {}", dir.display()))?;
    // The network is named as its bridge: rules are owned by the name, and two nodes may share a network namespace.
    let (name, leases) = (&network.bridge, paths.data.join("cni/networks"));
    let list = cni_invoke::default_conflist(name, name, &subnets, &leases);
    let draft = dir.join(".10-cleat.conflist");
    fs::write(&draft, list)
        .and_then(|()| fs::rename(&draft, &file))
        .with_context(|| format!("writing {}", file.display()))?;
    Ok(dir.to_owned())
}

/// Removes the bridge of our list, and the list, once no pod is attached. CNI itself has no verb for that.
pub(crate) fn remove(paths: &Paths) -> anyhow::Result<()> {
    let file = file(paths);
    let Ok(text) = fs::read(&file) else { return Ok(()) };
    let list: Value = serde_json::from_slice(&text).with_context(|| format!("reading {}", file.display()))?;
    let plugins = list["plugins"].as_array().map_or(&[][..], Vec::as_slice);
    let Some(name) = plugins.iter().find_map(|plugin| plugin["bridge"].as_str()) else { return Ok(()) };
    let mut route = netlink::route::Route::open()?;
    let links = route.links()?;
    if let Some(bridge) = links.iter().find(|link| link.name == name && link.kind == "bridge")
        && !links.iter().any(|link| link.controller == Some(bridge.index))
    {
        route.delete_link(bridge.index)?;
    }
    fs::remove_file(&file).with_context(|| format!("removing {}", file.display()))
}

fn file(paths: &Paths) -> PathBuf {
    paths.data.join("cni/net.d/10-cleat.conflist")
}
