//! Our table of nf_tables: questions to the service's addresses stay with the service. The addresses are the node's
//! own, so a pod with `hostPort: 53` would be given them too.
//!
//! ```text
//! table inet cleat-dns
//!   prerouting, output   to an address and port of the service: dnat to the same
//! ```
//! The first translation of a destination is the only one: this one changes nothing, and comes before the host ports of
//! any plugin, ours or one that writes for iptables.

use std::net::IpAddr;

use netlink::NetlinkError;
use netlink::nft::{Base, Batch, Cmp, Family, Hook, Meta, Nft, Rule};

const TABLE: &str = "cleat-dns";
const CHAINS: [(&str, Hook); 2] = [("prerouting", Hook::Prerouting), ("output", Hook::Output)];
/// Before the -100 of all others.
const PRIORITY: i32 = -110;
const PROTOCOLS: [(&str, u8); 2] = [("udp", 17), ("tcp", 6)];

fn rule(ip: IpAddr, port: u16, (protocol, number): (&str, u8)) -> Rule {
    // an address takes so many registers
    let (family, octets, words) = match ip {
        IpAddr::V4(ip) => (Family::Ip, ip.octets().to_vec(), 1),
        IpAddr::V6(ip) => (Family::Ip6, ip.octets().to_vec(), 4),
    };
    let rule = Rule::new().meta(0, Meta::Family).cmp(0, Cmp::Eq, &[family as u8]);
    let rule = rule.destination(0, family).cmp(0, Cmp::Eq, &octets);
    let rule = rule.meta(words, Meta::L4Proto).cmp(words, Cmp::Eq, &[number]);
    let rule = rule.port(words + 1).cmp(words + 1, Cmp::Eq, &port.to_be_bytes());
    rule.dnat(family, 0, words + 1).with_comment(&format!("{ip} {protocol} {port}"))
}

/// Brings the table to say this.
pub(crate) fn ensure(addresses: &[IpAddr], port: u16) -> Result<(), NetlinkError> {
    let of = |ip: &IpAddr| PROTOCOLS.map(|protocol| rule(*ip, port, protocol));
    let rules: Vec<Rule> = addresses.iter().flat_map(of).collect();
    let mut nft = Nft::open()?;
    let there = nft.rules(Family::Inet, TABLE)?;
    let same = CHAINS.iter().all(|(chain, _)| {
        let found = there.iter().filter(|rule| rule.chain == *chain).map(|rule| rule.comment.as_str());
        found.eq(rules.iter().map(Rule::comment))
    });
    if same {
        return Ok(());
    }
    let mut batch = Batch::new(Family::Inet, TABLE);
    batch.add_table();
    for (chain, hook) in CHAINS {
        batch.add_chain(chain, Some(Base { kind: "nat", hook, priority: PRIORITY, accept: true }));
        batch.flush_chain(chain);
        rules.iter().for_each(|rule| batch.add_rule(chain, rule));
    }
    nft.commit(&batch)
}

/// Removes the table.
pub(crate) fn remove() -> Result<(), NetlinkError> {
    Nft::open()?.remove_table(Family::Inet, TABLE)
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
    use std::os::fd::OwnedFd;
    use std::process::{Command, Stdio};
    use std::time::Duration;

    use ipnet::IpNet;
    use netlink::netns;
    use netlink::route::{Route, Veth};

    use super::*;

    /// What `portmap` makes of `hostPort: 53`; the pod is on the node itself here.
    const HOSTPORTS: &str = "
        table inet hostports {
            chain to { fib daddr type local meta l4proto { tcp, udp } th dport 53 dnat ip to 10.88.0.1:5353; }
            chain prerouting { type nat hook prerouting priority -100; jump to; }
            chain output { type nat hook output priority -100; jump to; }
        }";
    const DNS: &str = "10.96.0.10:53";
    const POD: &str = "10.88.0.1:5353";

    /// A UDP and a TCP server.
    struct Server(UdpSocket, TcpListener);

    impl Server {
        fn new(address: &str) -> Server {
            let server = Server(UdpSocket::bind(address).unwrap(), TcpListener::bind(address).unwrap());
            server.0.set_nonblocking(true).unwrap();
            server.1.set_nonblocking(true).unwrap();
            server
        }

        fn is_asked(&self) -> bool {
            let (udp, tcp) = (self.0.recv(&mut [0]).is_ok(), self.1.accept().is_ok());
            assert_eq!(udp, tcp, "both or none");
            udp
        }
    }

    fn ask(from: &OwnedFd, to: &str) {
        let to: SocketAddr = to.parse().unwrap();
        let ask = || {
            let udp = UdpSocket::bind("0.0.0.0:0").unwrap();
            udp.send_to(b"x", to).unwrap();
            // on its way after the datagram, by the same way
            TcpStream::connect_timeout(&to, Duration::from_secs(3)).unwrap();
        };
        netns::enter(from, ask).unwrap();
    }

    #[test]
    fn a_host_port_does_not_take_questions() {
        let (node, pod) = (netns::create().unwrap(), netns::create().unwrap());
        let mut route = Route::open_in(&node).unwrap();
        let mut inside = Route::open_in(&pod).unwrap();
        let veth = Veth { name: "uplink", peer: "eth0", mtu: None, peer_mac: None };
        route.create_veth(&veth, &pod).unwrap();
        for (route, name, ips) in [
            (&mut route, "uplink", &["10.88.0.1/16", "10.96.0.11/16"]),
            (&mut inside, "eth0", &["10.88.0.2/16", "10.96.0.1/16"]),
        ] {
            let index = route.link(name).unwrap().unwrap().index;
            for ip in ips {
                route.add_address(index, ip.parse::<IpNet>().unwrap(), false).unwrap();
            }
            route.set_up(index, true).unwrap();
        }
        route.set_up(1, true).unwrap();
        route.add_host_address(1, "10.96.0.10/32".parse().unwrap()).unwrap();
        let addresses = ["10.96.0.10", "fd00:96::a"].map(|ip| ip.parse().unwrap());
        let work = || {
            let mut nft = Command::new("nft").args(["-f", "-"]).stdin(Stdio::piped()).spawn().unwrap();
            nft.stdin.take().unwrap().write_all(HOSTPORTS.as_bytes()).unwrap();
            assert!(nft.wait().unwrap().success());
            let (dns, port) = (Server::new(DNS), Server::new(POD));
            let both = || (dns.is_asked(), port.is_asked());
            for guarded in [false, true, true, false] {
                if guarded {
                    ensure(&addresses, 53).unwrap();
                } else {
                    remove().unwrap();
                }
                for from in [&pod, &node] {
                    ask(from, DNS);
                    assert_eq!(both(), (guarded, !guarded));
                    ask(from, "10.88.0.1:53");
                    assert_eq!(both(), (false, true), "other addresses of the node are the pod's");
                }
            }
            // of another port, what was is gone
            ensure(&addresses, 53).unwrap();
            ensure(&addresses, 54).unwrap();
            ask(&pod, DNS);
            assert_eq!(both(), (false, true));
        };
        netns::enter(&node, work).unwrap();
    }
}
