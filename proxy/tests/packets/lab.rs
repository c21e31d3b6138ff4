//! A node made of network namespaces: the host, pods behind it, clients outside. Everything that may be an endpoint
//! listens and tells who it is and whom it sees.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use ipnet::IpNet;
use netlink::netns;
use netlink::route::{Route, RouteEntry, Veth};

use crate::table::NODE_IPS;

/// Long enough for an answer on a busy machine.
const ANSWER: Duration = Duration::from_secs(5);
/// After this a packet is taken for dropped.
const SILENCE: Duration = Duration::from_millis(300);
/// Where endpoints, and the host itself, listen.
const TCP_PORTS: [u16; 5] = [80, 8443, 53, 5353, 3001];
const UDP_PORTS: [u16; 3] = [53, 81, 3001];

/// Namespaces: their link at the host, an address of each family, and more addresses.
const PLACES: [(&str, &[&str]); 5] = [
    ("pod-10-0-0", &["10.0.0.2", "fd00:10::2"]),
    ("pod-10-180-0", &["10.180.0.1", "fd00:10:180::1"]),
    ("pod-10-180-2", &["10.180.2.1", "fd00:10:181::1"]),
    ("pod-10-180-3", &["10.180.3.1", "fd00:10:182::1"]),
    ("uplink", &["203.0.113.2", "203.0.113.130", "2600:5200::2", "2600:5200::5:0:0:2"]),
];

/// What happened to a connection.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Seen {
    /// Who answered, and whom he saw.
    Answer(String, IpAddr),
    Refused,
    /// Nobody has that address.
    Nowhere,
    Silence,
}

pub(crate) struct Lab {
    pub(crate) host: OwnedFd,
    places: BTreeMap<IpAddr, Arc<OwnedFd>>,
    stop: Arc<AtomicBool>,
    servers: Vec<JoinHandle<()>>,
}

fn whole(ip: IpAddr) -> IpNet {
    ip.into()
}

impl Lab {
    pub(crate) fn new() -> Lab {
        let host = netns::create().unwrap();
        let mut lab = Lab { host, places: BTreeMap::new(), stop: Arc::default(), servers: Vec::new() };
        netns::enter(&lab.host, || {
            let forward = [("ipv4/ip_forward", "1"), ("ipv6/conf/all/forwarding", "1")];
            // a refusal by ICMP is rare to a kernel, and frequent to a test
            let refuse = [("ipv4/icmp_ratelimit", "0"), ("ipv6/icmp/ratelimit", "0")];
            for (name, value) in forward.into_iter().chain(refuse) {
                std::fs::write(format!("/proc/sys/net/{name}"), value).unwrap();
            }
        })
        .unwrap();
        let mut route = Route::open_in(&lab.host).unwrap();
        let lo = route.link("lo").unwrap().unwrap().index;
        route.set_up(lo, true).unwrap();
        for ip in NODE_IPS {
            route.add_address(lo, whole(ip.parse().unwrap()), false).unwrap();
        }
        for (link, ips) in PLACES {
            lab.add_place(&mut route, link, ips);
        }
        lab.serve("host", None);
        lab
    }

    /// A namespace behind a link, routed without a network in common.
    fn add_place(&mut self, route: &mut Route, link: &str, ips: &[&str]) {
        let netns = Arc::new(netns::create().unwrap());
        route.create_veth(&Veth { name: link, peer: "eth0", mtu: None, peer_mac: None }, &*netns).unwrap();
        let here = route.link(link).unwrap().unwrap().index;
        route.set_up(here, true).unwrap();
        let mut inside = Route::open_in(&*netns).unwrap();
        let [lo, there] = ["lo", "eth0"].map(|name| inside.link(name).unwrap().unwrap().index);
        inside.set_up(lo, true).unwrap();
        inside.set_up(there, true).unwrap();
        for gateway in ["169.254.1.1", "fd00:ffff::1"] {
            let gateway: IpAddr = gateway.parse().unwrap();
            let _ = route.add_address(here, whole(gateway), false);
            inside.add_route(&RouteEntry::new(whole(gateway), None, there)).unwrap();
        }
        for ip in ips {
            let ip: IpAddr = ip.parse().unwrap();
            inside.add_address(there, whole(ip), false).unwrap();
            route.add_route(&RouteEntry::new(whole(ip), None, here)).unwrap();
            self.places.insert(ip, netns.clone());
        }
        let defaults = [("0.0.0.0/0", "169.254.1.1"), ("::/0", "fd00:ffff::1")];
        for (all, gateway) in defaults {
            let gateway = Some(gateway.parse().unwrap());
            inside.add_route(&RouteEntry::new(all.parse().unwrap(), gateway, there)).unwrap();
            if link == "uplink" {
                // the host must have a way to cluster IPs, whatever it is: they are translated before they leave
                let mut out = RouteEntry::new(all.parse().unwrap(), None, here);
                let v4 = all.starts_with('0');
                out.source = Some(NODE_IPS[if v4 { 0 } else { 3 }].parse().unwrap());
                route.add_route(&out).unwrap();
            }
        }
        let v4 = ips[0];
        self.serve(v4, Some(netns));
    }

    /// Everything that listens says `name port client`, or for pods the address that it was reached at.
    fn serve(&mut self, name: &str, netns: Option<Arc<OwnedFd>>) {
        let open = || {
            let tcp: Vec<TcpListener> = TCP_PORTS.map(|p| TcpListener::bind(("::", p)).unwrap()).into();
            let udp: Vec<UdpSocket> = UDP_PORTS.map(|p| UdpSocket::bind(("::", p)).unwrap()).into();
            (tcp, udp)
        };
        let (tcp, udp) = match &netns {
            Some(netns) => netns::enter(&**netns, open).unwrap(),
            None => netns::enter(&self.host, open).unwrap(),
        };
        let host = (name == "host").then(|| name.to_owned());
        for listener in tcp {
            let (stop, host) = (self.stop.clone(), host.clone());
            let wake = rustix::event::PollFlags::IN;
            self.servers.push(std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    if !readable(&listener, wake) {
                        continue;
                    }
                    let Ok((mut stream, client)) = listener.accept() else { return };
                    let at = stream.local_addr().unwrap();
                    let at = host
                        .clone()
                        .unwrap_or_else(|| SocketAddr::new(at.ip().to_canonical(), at.port()).to_string());
                    let _ = writeln!(stream, "{at} {}", client.ip().to_canonical());
                }
            }));
        }
        let own: Vec<IpAddr> = match &netns {
            Some(netns) => {
                self.places.iter().filter(|(_, n)| Arc::ptr_eq(n, netns)).map(|(ip, _)| *ip).collect()
            }
            None => Vec::new(),
        };
        for socket in udp {
            let (stop, host, own) = (self.stop.clone(), host.clone(), own.clone());
            self.servers.push(std::thread::spawn(move || {
                let port = socket.local_addr().unwrap().port();
                while !stop.load(Ordering::Relaxed) {
                    if !readable(&socket, rustix::event::PollFlags::IN) {
                        continue;
                    }
                    let Ok((_, client)) = socket.recv_from(&mut [0; 16]) else { continue };
                    let ip = client.ip().to_canonical();
                    let at = own.iter().find(|own| own.is_ipv4() == ip.is_ipv4());
                    let at = at.map(|at| SocketAddr::new(*at, port).to_string());
                    let at = host.clone().or(at).unwrap_or_default();
                    let _ = socket.send_to(format!("{at} {ip}\n").as_bytes(), client);
                }
            }));
        }
    }

    /// Whether packets from that address can be sent here.
    pub(crate) fn has(&self, source: IpAddr) -> bool {
        self.places.contains_key(&source) || NODE_IPS.iter().any(|ip| ip.parse() == Ok(source))
    }

    /// The link by which that address is reached; none for the node's own.
    pub(crate) fn link(source: IpAddr) -> Option<String> {
        let of = |(_, ips): &&(&str, &[&str])| ips.iter().any(|ip| ip.parse() == Ok(source));
        PLACES.iter().find(of).map(|(link, _)| (*link).to_owned())
    }

    /// Works where that address is.
    pub(crate) fn enter<T: Send>(&self, at: IpAddr, work: impl FnOnce() -> T + Send) -> T {
        match self.places.get(&at) {
            Some(netns) => netns::enter(&**netns, work).unwrap(),
            None => netns::enter(&self.host, work).unwrap(),
        }
    }

    /// Connects once.
    pub(crate) fn send(&self, source: IpAddr, tcp: bool, to: SocketAddr, patience: Duration) -> Seen {
        let work = || if tcp { connect(source, to, patience) } else { ask(source, to, patience) };
        match self.enter(source, work) {
            Ok(line) => {
                let (at, client) = line.trim().split_once(' ').unwrap();
                Seen::Answer(at.to_owned(), client.parse().unwrap())
            }
            Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => Seen::Refused,
            Err(e) if e.kind() == io::ErrorKind::HostUnreachable => Seen::Nowhere,
            Err(e) if matches!(e.kind(), io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock) => {
                Seen::Silence
            }
            Err(e) => panic!("{source} to {to}: {e}"),
        }
    }

    /// Connects until it has met as many that answer as are wanted, or often enough to say that there are fewer.
    pub(crate) fn meet(&self, source: IpAddr, tcp: bool, to: SocketAddr, wanted: usize) -> BTreeSet<Seen> {
        let mut all = BTreeSet::new();
        for turn in 0..40 {
            let patience = if wanted == 0 { SILENCE } else { ANSWER };
            all.insert(self.send(source, tcp, to, patience));
            if wanted <= 1 || all.len() >= wanted && turn >= wanted {
                break;
            }
        }
        all
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for server in self.servers.drain(..) {
            let _ = server.join();
        }
    }
}

fn readable(fd: &impl std::os::fd::AsFd, what: rustix::event::PollFlags) -> bool {
    let mut fds = [rustix::event::PollFd::new(fd, what)];
    let short = rustix::event::Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
    rustix::event::poll(&mut fds, Some(&short)).is_ok_and(|ready| ready > 0)
}

fn connect(source: IpAddr, to: SocketAddr, patience: Duration) -> io::Result<String> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, ipproto, socket_with, sockopt};
    let family = if to.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, Some(ipproto::TCP))?;
    if !source.is_loopback() && !to.ip().is_loopback() {
        bind(&socket, &SocketAddr::new(source, 0))?;
    }
    sockopt::set_socket_timeout(&socket, sockopt::Timeout::Send, Some(patience))?;
    sockopt::set_socket_timeout(&socket, sockopt::Timeout::Recv, Some(ANSWER))?;
    rustix::net::connect(&socket, &to).map_err(|e| match e {
        rustix::io::Errno::INPROGRESS | rustix::io::Errno::AGAIN => io::ErrorKind::TimedOut.into(),
        e => io::Error::from(e),
    })?;
    let mut text = String::new();
    TcpStream::from(socket).read_to_string(&mut text)?;
    Ok(text)
}

fn ask(source: IpAddr, to: SocketAddr, patience: Duration) -> io::Result<String> {
    let socket = UdpSocket::bind((source, 0))?;
    socket.connect(to)?;
    socket.set_read_timeout(Some(patience))?;
    match socket.send(b"x") {
        // the kernel says so too when a packet of its own is stopped; why, the answer tells
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => {}
        sent => drop(sent?),
    }
    let mut bytes = [0; 256];
    let length = socket.recv(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes[..length]).into_owned())
}
