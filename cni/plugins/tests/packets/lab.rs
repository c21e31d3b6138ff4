//! A machine made of network namespaces: one plays the host, one the world outside it, more are pods. The plugins
//! are the real program, run by the runtime's side of CNI, on threads in the host's namespace.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use cni_invoke::{
    AddResult, Attachment, Capabilities, Dirs, Networks, PortMapping, default_conflist, install,
};
use ipnet::IpNet;
use netlink::netns;
use netlink::route::{Route, Veth};

/// The host's addresses towards the outside, and the outside's.
pub(crate) const HOST: [&str; 2] = ["192.0.2.1", "2001:db8::1"];
pub(crate) const OUTSIDE: [&str; 2] = ["192.0.2.2", "2001:db8::2"];

pub(crate) struct Lab {
    pub(crate) host: OwnedFd,
    pub(crate) outside: OwnedFd,
    pub(crate) dir: tempfile::TempDir,
}

pub(crate) struct Pod {
    pub(crate) id: String,
    pub(crate) netns: OwnedFd,
    pub(crate) ports: Vec<PortMapping>,
}

impl Pod {
    pub(crate) fn new(id: &str) -> Pod {
        Pod { id: id.into(), netns: netns::create().unwrap(), ports: Vec::new() }
    }

    pub(crate) fn with_port(
        mut self,
        host_port: u16,
        container_port: u16,
        protocol: &str,
        host_ip: &str,
    ) -> Pod {
        let (protocol, host_ip) = (protocol.into(), host_ip.into());
        self.ports.push(PortMapping { host_port, container_port, protocol, host_ip });
        self
    }

    pub(crate) fn attachment(&self) -> Attachment {
        Attachment {
            container_id: self.id.clone(),
            netns: PathBuf::from(format!("/proc/{}/fd/{}", std::process::id(), self.netns.as_raw_fd())),
            ifname: "eth0".into(),
            args: vec![("IgnoreUnknown".into(), "1".into()), ("K8S_POD_NAME".into(), self.id.clone())],
            capabilities: Capabilities { port_mappings: self.ports.clone(), ..Capabilities::default() },
        }
    }
}

impl Lab {
    pub(crate) fn new() -> Lab {
        let lab = Lab {
            host: netns::create().unwrap(),
            outside: netns::create().unwrap(),
            dir: tempfile::tempdir().unwrap(),
        };
        let mut host = Route::open_in(&lab.host).unwrap();
        let mut outside = Route::open_in(&lab.outside).unwrap();
        let veth = Veth { name: "uplink", peer: "wire", mtu: None, peer_mac: None };
        host.create_veth(&veth, &lab.outside).unwrap();
        for (route, name, ips) in [(&mut host, "uplink", HOST), (&mut outside, "wire", OUTSIDE)] {
            let index = route.link(name).unwrap().unwrap().index;
            let lo = route.link("lo").unwrap().unwrap().index;
            for (ip, length) in ips.into_iter().zip([24, 64]) {
                let net = IpNet::new(ip.parse().unwrap(), length).unwrap();
                route.add_address(index, net, false).unwrap();
            }
            route.set_up(index, true).unwrap();
            route.set_up(lo, true).unwrap();
        }
        install(&lab.path("bin"), Path::new(env!("CARGO_BIN_EXE_cleat-cni"))).unwrap();
        let subnets: Vec<IpNet> = vec!["10.88.0.0/16".parse().unwrap(), "fd00:88::/64".parse().unwrap()];
        lab.configure(&default_conflist("pods", "cleat0", &subnets, &lab.path("leases")));
        lab
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes the network's configuration.
    pub(crate) fn configure(&self, conflist: &str) {
        std::fs::create_dir_all(self.path("net.d")).unwrap();
        std::fs::write(self.path("net.d/10-pods.conflist"), conflist).unwrap();
    }

    pub(crate) fn dirs(&self) -> Dirs {
        Dirs { conf: self.path("net.d"), plugins: vec![self.path("bin")], cache: self.path("cache") }
    }

    pub(crate) fn networks(&self) -> Networks {
        Networks::new(self.dirs())
    }

    /// Runs `work` on the host.
    pub(crate) fn on_host<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        netns::enter(&self.host, work).unwrap()
    }

    pub(crate) fn add(&self, pod: &Pod) -> AddResult {
        self.try_add(pod).unwrap_or_else(|e| panic!("{}", chain(&e)))
    }

    pub(crate) fn try_add(&self, pod: &Pod) -> Result<AddResult, cni_invoke::NetworkError> {
        self.on_host(|| self.networks().add(&pod.attachment()))
    }

    pub(crate) fn del(&self, pod: &Pod) {
        self.on_host(|| self.networks().del(&pod.attachment())).unwrap_or_else(|e| panic!("{}", chain(&e)));
    }

    /// `nft list ruleset` of the host.
    pub(crate) fn ruleset(&self) -> String {
        let run = || std::process::Command::new("nft").args(["list", "ruleset"]).output();
        let output = self.on_host(run).expect("this test needs nft: apt-get install nftables");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Names of the host's links.
    pub(crate) fn links(&self) -> Vec<String> {
        Route::open_in(&self.host).unwrap().links().unwrap().into_iter().map(|l| l.name).collect()
    }

    /// Addresses that are leased.
    pub(crate) fn leases(&self) -> Vec<IpAddr> {
        let entries = std::fs::read_dir(self.path("leases/pods")).into_iter().flatten();
        entries.filter_map(|e| e.unwrap().file_name().to_str()?.parse().ok()).collect()
    }
}

/// An error with its causes.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    std::iter::successors(Some(error), |e| e.source()).map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// The first address of each family, without prefix lengths: v4, v6.
pub(crate) fn ips(result: &AddResult) -> [IpAddr; 2] {
    let of = |v4: bool| result.ips.iter().map(|ip| ip.address.addr()).find(|ip| ip.is_ipv4() == v4).unwrap();
    [of(true), of(false)]
}

/// A TCP and a UDP server in a namespace that answer with the address they see the client at.
pub(crate) struct Echo {
    tcp: TcpListener,
    udp: UdpSocket,
}

impl Echo {
    pub(crate) fn new(netns: &OwnedFd, port: u16) -> Echo {
        let open = || (TcpListener::bind(("::", port)).unwrap(), UdpSocket::bind(("::", port)).unwrap());
        let (tcp, udp) = netns::enter(netns, open).unwrap();
        tcp.set_nonblocking(false).unwrap();
        udp.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        Echo { tcp, udp }
    }

    /// Connects from a namespace and gives the address that the server saw.
    pub(crate) fn tcp(&self, from: &OwnedFd, to: SocketAddr) -> std::io::Result<IpAddr> {
        let mut client =
            netns::enter(from, || TcpStream::connect_timeout(&to, Duration::from_secs(3))).unwrap()?;
        let (mut server, peer) = self.tcp.accept()?;
        server.write_all(b"x")?;
        client.set_read_timeout(Some(Duration::from_secs(3)))?;
        client.read_exact(&mut [0])?;
        Ok(peer.ip().to_canonical())
    }

    /// Sends from a namespace, answers, and gives the address that the server saw.
    pub(crate) fn udp(&self, from: &OwnedFd, to: SocketAddr) -> std::io::Result<IpAddr> {
        let local = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let client = netns::enter(from, || UdpSocket::bind(local)).unwrap()?;
        client.set_read_timeout(Some(Duration::from_secs(3)))?;
        client.send_to(b"x", to)?;
        let (_, peer) = self.udp.recv_from(&mut [0])?;
        self.udp.send_to(b"y", peer)?;
        let (_, answered) = client.recv_from(&mut [0])?;
        assert_eq!(answered, to, "the answer comes from where the question went");
        Ok(peer.ip().to_canonical())
    }
}

pub(crate) fn to(ip: &str, port: u16) -> SocketAddr {
    SocketAddr::new(ip.parse().unwrap(), port)
}
