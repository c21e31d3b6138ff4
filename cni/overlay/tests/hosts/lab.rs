//! Machines made of network namespaces on one switch, each with an overlay, and pods attached as its CNI list says.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ::lab::Objects;
use ipnet::IpNet;
use netlink::netns;
use netlink::route::{Link, Route, RouteEntry, Veth};
use overlay::{Backend, Config};
use proto_kube::{GroupResource, Resource, resource};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

pub(crate) struct Lab {
    pub(crate) api: Objects,
    switch: OwnedFd,
    pub(crate) dir: tempfile::TempDir,
}

pub(crate) struct Host {
    pub(crate) number: u8,
    pub(crate) netns: OwnedFd,
    pub(crate) dir: PathBuf,
    api: Objects,
    running: Option<(CancellationToken, JoinHandle<Result<(), overlay::Error>>)>,
}

pub(crate) fn nodes() -> &'static Resource {
    resource::preferred(GroupResource { group: "", resource: "nodes" }).unwrap()
}

pub(crate) struct Pod {
    pub(crate) netns: OwnedFd,
    pub(crate) ips: Vec<IpAddr>,
}

/// Waits for something that is bound to happen.
pub(crate) fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + Duration::from_secs(20);
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "never: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

impl Lab {
    pub(crate) fn new() -> Lab {
        let switch = netns::create().unwrap();
        let mut route = Route::open_in(&switch).unwrap();
        route.create_bridge("switch").unwrap();
        let index = route.link("switch").unwrap().unwrap().index;
        route.set_up(index, true).unwrap();
        Lab { api: Objects::default(), switch, dir: tempfile::tempdir().unwrap() }
    }

    /// A machine on the switch, with a Node that has ranges; its overlay does not run yet.
    pub(crate) fn host(&self, number: u8) -> Host {
        let netns = netns::create().unwrap();
        let mut switch = Route::open_in(&self.switch).unwrap();
        let mut inside = Route::open_in(&netns).unwrap();
        let port = format!("port{number}");
        switch.create_veth(&Veth { name: &port, peer: "eth0", mtu: None, peer_mac: None }, &netns).unwrap();
        let bridge = switch.link("switch").unwrap().unwrap().index;
        let port = switch.link(&port).unwrap().unwrap().index;
        switch.set_controller(port, Some(bridge)).unwrap();
        switch.set_up(port, true).unwrap();
        let lo = inside.link("lo").unwrap().unwrap().index;
        let eth0 = inside.link("eth0").unwrap().unwrap().index;
        for net in [format!("192.168.7.{number}/24"), format!("2001:db8:7::{number:x}/64")] {
            inside.add_address(eth0, net.parse().unwrap(), false).unwrap();
        }
        [lo, eth0].iter().for_each(|index| inside.set_up(*index, true).unwrap());
        let dir = self.dir.path().join(number.to_string());
        let host = Host { number, netns, dir, api: self.api.clone(), running: None };
        self.api.put(nodes(), host.object());
        host
    }
}

impl Host {
    pub(crate) fn name(&self) -> String {
        format!("node-{}", self.number)
    }

    /// Its Node before anything is said about it.
    pub(crate) fn object(&self) -> Value {
        let number = self.number;
        json!({
            "metadata": {
                "name": self.name(), "uid": format!("uid-{number}"),
                "creationTimestamp": format!("2026-01-01T00:00:{number:02}Z"),
            },
            "spec": { "podCIDR": format!("10.244.{number}.0/24"),
                      "podCIDRs": [format!("10.244.{number}.0/24"), format!("fd00:244:0:{number:x}::/64")] },
            "status": { "addresses": [
                { "type": "InternalIP", "address": format!("192.168.7.{number}") },
                { "type": "InternalIP", "address": format!("2001:db8:7::{number:x}") },
            ] },
        })
    }

    pub(crate) fn start(&mut self, backend: Backend) {
        self.start_with(|config| config.backend = backend);
    }

    pub(crate) fn start_with(&mut self, change: impl FnOnce(&mut Config)) {
        let dir = |name: &str| self.dir.join(name);
        let api = self.api.clone();
        let mut config = Config::new(api.cache(), &self.name(), dir("net.d"), dir("leases"), dir("run"));
        config.network.push("fd00:244::/48".parse().unwrap());
        change(&mut config);
        let shutdown = CancellationToken::new();
        let (token, netns) = (shutdown.clone(), self.netns.try_clone().unwrap());
        let work = move || {
            let mut runtime = tokio::runtime::Builder::new_current_thread();
            let runtime = runtime.enable_all().build().unwrap();
            runtime.block_on(overlay::run(config, token))
        };
        let thread = std::thread::spawn(move || netns::enter(netns, work).unwrap());
        self.running = Some((shutdown, thread));
    }

    pub(crate) fn stop(&mut self) {
        let (shutdown, thread) = self.running.take().unwrap();
        shutdown.cancel();
        thread.join().unwrap().unwrap();
    }

    pub(crate) fn route(&self) -> Route {
        Route::open_in(&self.netns).unwrap()
    }

    pub(crate) fn link(&self, name: &str) -> Option<Link> {
        self.route().link(name).unwrap()
    }

    /// Ranges of other nodes that it has routes to, in order, with the names of the links.
    pub(crate) fn routes(&self) -> Vec<(String, String)> {
        let mut route = self.route();
        let ours = route.routes().unwrap().into_iter().filter(|r| r.protocol == Some(141));
        let mut found: Vec<(String, String)> =
            ours.filter_map(|r| Some((r.dst.to_string(), route.link_at(r.index?).unwrap()?.name))).collect();
        found.sort();
        found
    }

    pub(crate) fn list(&self) -> Option<Value> {
        let text = std::fs::read(self.dir.join("net.d/10-cleat.conflist")).ok()?;
        Some(serde_json::from_slice(&text).unwrap())
    }

    /// `nft list ruleset` of it.
    pub(crate) fn nft(&self) -> String {
        let run = || std::process::Command::new("nft").args(["list", "ruleset"]).output();
        let output =
            netns::enter(&self.netns, run).unwrap().expect("this test needs nft: apt-get install nftables");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Waits until the other nodes are reached by both families.
    pub(crate) fn wait_routes(&self, others: usize) {
        until(&format!("{} has routes to {others}", self.name()), || {
            (self.routes().len() == 2 * others).then_some(())
        });
    }

    /// Attaches a pod as the bridge plugin would.
    pub(crate) fn pod(&self, number: u8) -> Pod {
        let list = until("a CNI list", || self.list());
        let bridge = &list["plugins"][0];
        let mtu = u32::try_from(bridge["mtu"].as_u64().unwrap()).unwrap();
        let mut route = self.route();
        if route.link("cleat0").unwrap().is_none() {
            route.create_bridge("cleat0").unwrap();
        }
        let cleat0 = route.link("cleat0").unwrap().unwrap().index;
        let netns = netns::create().unwrap();
        let name = format!("veth{number}");
        route
            .create_veth(&Veth { name: &name, peer: "eth0", mtu: Some(mtu), peer_mac: None }, &netns)
            .unwrap();
        let veth = route.link(&name).unwrap().unwrap().index;
        route.set_controller(veth, Some(cleat0)).unwrap();
        [veth, cleat0].iter().for_each(|index| route.set_up(*index, true).unwrap());
        let mut inside = Route::open_in(&netns).unwrap();
        let eth0 = inside.link("eth0").unwrap().unwrap().index;
        inside.set_up(eth0, true).unwrap();
        let mut ips = Vec::new();
        for range in bridge["ipam"]["ranges"].as_array().unwrap() {
            let subnet: IpNet = range[0]["subnet"].as_str().unwrap().parse().unwrap();
            let at = |n: u8| match subnet.network() {
                IpAddr::V4(ip) => IpAddr::from((u32::from(ip) + u32::from(n)).to_be_bytes()),
                IpAddr::V6(ip) => IpAddr::from((u128::from(ip) + u128::from(n)).to_be_bytes()),
            };
            let net = |ip| IpNet::new(ip, subnet.prefix_len()).unwrap();
            let _ = route.add_address(cleat0, net(at(1)), false);
            inside.add_address(eth0, net(at(number)), false).unwrap();
            let default: IpNet = if subnet.addr().is_ipv4() { "0.0.0.0/0" } else { "::/0" }.parse().unwrap();
            inside.add_route(&RouteEntry::new(default, Some(at(1)), eth0)).unwrap();
            ips.push(at(number));
        }
        Pod { netns, ips }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if let Some((shutdown, _)) = self.running.take() {
            shutdown.cancel();
        }
    }
}

/// A TCP server in a namespace that takes all that comes and answers with its length.
pub(crate) struct Server(TcpListener);

impl Server {
    pub(crate) fn new(netns: &OwnedFd) -> Server {
        Server(netns::enter(netns, || TcpListener::bind("[::]:80").unwrap()).unwrap())
    }

    /// Sends so many bytes from a namespace; gives the address that the server saw.
    pub(crate) fn send(&self, from: &OwnedFd, to: IpAddr, bytes: usize) -> std::io::Result<IpAddr> {
        let to = SocketAddr::new(to, 80);
        let connect = || TcpStream::connect_timeout(&to, Duration::from_secs(2));
        let mut client = netns::enter(from, connect).unwrap()?;
        let (mut server, peer) = self.0.accept()?;
        for stream in [&client, &server] {
            stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        }
        let reader = std::thread::spawn(move || {
            let mut all = Vec::new();
            server.read_to_end(&mut all).map(|read| (read, server))
        });
        client.write_all(&vec![7; bytes])?;
        client.shutdown(std::net::Shutdown::Write)?;
        let (read, mut server) = reader.join().unwrap()?;
        server.write_all(&read.to_be_bytes())?;
        let mut answer = [0; 8];
        client.read_exact(&mut answer)?;
        assert_eq!(usize::from_be_bytes(answer), bytes);
        Ok(peer.ip().to_canonical())
    }
}

/// A UDP server in a namespace.
pub(crate) struct UdpServer(UdpSocket);

impl UdpServer {
    pub(crate) fn new(netns: &OwnedFd) -> UdpServer {
        let socket = netns::enter(netns, || UdpSocket::bind("[::]:53").unwrap()).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
        UdpServer(socket)
    }

    /// Sends one packet with so many bytes of data, in one piece.
    pub(crate) fn send(&self, from: &OwnedFd, to: IpAddr, bytes: usize) -> std::io::Result<()> {
        let local = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let client = netns::enter(from, || UdpSocket::bind(local)).unwrap()?;
        if to.is_ipv4() {
            rustix::net::sockopt::set_ip_mtu_discover(
                &client,
                rustix::net::sockopt::Ipv4PathMtuDiscovery::DO,
            )?;
        } else {
            rustix::net::sockopt::set_ipv6_mtu_discover(
                &client,
                rustix::net::sockopt::Ipv6PathMtuDiscovery::DO,
            )?;
        }
        client.send_to(&vec![7; bytes], (to, 53))?;
        let mut buffer = [0; 2000];
        // earlier ones may have been on their way
        while self.0.recv(&mut buffer)? != bytes {}
        Ok(())
    }
}
