//! The whole proxy, from the objects of an API server to real packets.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::time::Duration;

use lab::objects::Objects;
use netlink::conntrack::{Connection, Conntrack, UDP};
use netlink::netns;
use netlink::nft::{Base, Batch, Hook, Nft};
use proto_kube::{GroupResource, Resource, resource};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::lab::{Lab, Seen};
use crate::objects::{service, slice};
use crate::table::NODE;

const PATIENCE: Duration = Duration::from_secs(3);

fn known(group: &'static str, plural: &'static str) -> &'static Resource {
    resource::preferred(GroupResource { group, resource: plural }).unwrap()
}

fn services() -> &'static Resource {
    known("", "services")
}

fn slices() -> &'static Resource {
    known("discovery.k8s.io", "endpointslices")
}

/// A proxy on the lab's host, and the objects it watches.
struct Running {
    lab: Lab,
    objects: Objects,
    proxy: Option<(CancellationToken, std::thread::JoinHandle<()>)>,
}

impl Running {
    fn new() -> Running {
        let mut running = Running { lab: Lab::new(), objects: Objects::default(), proxy: None };
        let cidr = json!({ "metadata": { "name": "kubernetes" }, "spec": { "cidrs": ["172.30.0.0/16"] } });
        running.objects.put(known("networking.k8s.io", "servicecidrs"), cidr);
        let addresses = json!([
            { "type": "Hostname", "address": NODE },
            { "type": "InternalIP", "address": "192.168.0.2" }, { "type": "InternalIP", "address": "2001:db8::1" },
        ]);
        let node = json!({ "metadata": { "name": NODE }, "status": { "addresses": addresses } });
        running.objects.put(known("", "nodes"), node);
        running.start();
        running
    }

    fn start(&mut self) {
        let shutdown = CancellationToken::new();
        let (stop, objects) = (shutdown.clone(), self.objects.clone());
        let host = self.lab.host.try_clone().unwrap();
        let thread = std::thread::spawn(move || {
            let work = || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(async {
                    let mut config = proxy::Config::new(objects.cache(), NODE);
                    config.pod_cidrs = vec!["10.0.0.0/8".parse().unwrap(), "fd00:10::/32".parse().unwrap()];
                    proxy::run(config, stop).await.unwrap();
                });
            };
            netns::enter(&host, work).unwrap();
        });
        self.proxy = Some((shutdown, thread));
        // what it does first, it does for all there is
        self.until("the table to be there", || self.ruleset().contains("cleat-proxy"));
    }

    fn stop(&mut self) {
        if let Some((shutdown, thread)) = self.proxy.take() {
            shutdown.cancel();
            thread.join().unwrap();
        }
    }

    fn put(&self, service: Value, slices_of: &[Value]) {
        self.objects.put(services(), service);
        for slice in slices_of {
            self.objects.put(slices(), slice.clone());
        }
    }

    fn until(&self, what: &str, mut done: impl FnMut() -> bool) {
        for _ in 0..400 {
            if done() {
                return;
            }
            std::thread::sleep(Duration::from_millis(25));
        }
        panic!("waited in vain for {what}\n{}", self.ruleset());
    }

    fn ruleset(&self) -> String {
        let run = || Command::new("nft").args(["list", "ruleset"]).output().expect("this test needs nft");
        let output = netns::enter(&self.lab.host, run).unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    fn tcp(&self, source: &str, to: &str) -> Seen {
        self.lab.send(source.parse().unwrap(), true, to.parse().unwrap(), PATIENCE)
    }

    /// Who answers.
    fn answers(&self, source: &str, to: &str) -> Option<String> {
        match self.tcp(source, to) {
            Seen::Answer(at, _) => Some(at),
            _ => None,
        }
    }

    fn get(&self, source: &str, to: &str, path: &str) -> String {
        let to: SocketAddr = to.parse().unwrap();
        let work = || {
            let mut stream = TcpStream::connect_timeout(&to, PATIENCE)?;
            write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")?;
            let mut text = String::new();
            stream.read_to_string(&mut text).map(|_| text)
        };
        self.lab.enter(source.parse().unwrap(), work).unwrap_or_else(|e: std::io::Error| e.to_string())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop();
    }
}

const POD: &str = "10.0.0.2";
const CLIENT: &str = "203.0.113.2";
const VIP: &str = "172.30.0.41:80";

fn plain() -> Value {
    service("svc1", "172.30.0.41", &["p80:tcp:80"], json!({}))
}

fn at(endpoints: &[&str]) -> Value {
    slice("svc1", &["p80:tcp:80"], endpoints)
}

#[test]
fn objects_become_connections() {
    let running = Running::new();
    running.put(plain(), &[]);
    running.until("a service that nobody serves", || running.tcp(POD, VIP) == Seen::Refused);
    running.put(plain(), &[at(&["10.180.0.1 here"])]);
    running.until("an endpoint", || running.answers(POD, VIP).as_deref() == Some("10.180.0.1:80"));
    // the API server is away for a while, and comes back with news
    running.objects.set_away(true);
    assert_eq!(running.answers(POD, VIP).as_deref(), Some("10.180.0.1:80"));
    running.objects.put(slices(), at(&["10.180.2.1 here"]));
    running.objects.set_away(false);
    running.until("the other endpoint", || running.answers(POD, VIP).as_deref() == Some("10.180.2.1:80"));
    running.objects.delete(services(), "ns", "svc1").unwrap();
    running.until("an address without a service", || running.tcp(POD, VIP) == Seen::Silence);
}

#[test]
fn what_others_write_is_seen() {
    let running = Running::new();
    running.put(plain(), &[at(&["10.180.0.1 here"])]);
    running.until("an endpoint", || running.answers(POD, VIP).is_some());
    // another table: none of our business, but the kernel counts it
    let mut nft = Nft::open_in(&running.lab.host).unwrap();
    let mut other = Batch::new(netlink::nft::Family::Ip, "other");
    other.add_table();
    nft.commit(&other).unwrap();
    running.put(plain(), &[at(&["10.180.2.1 here"])]);
    running
        .until("a change beside others'", || running.answers(POD, VIP).as_deref() == Some("10.180.2.1:80"));
    // `nft flush ruleset`
    let flush = || Command::new("nft").args(["flush", "ruleset"]).status().unwrap();
    assert!(netns::enter(&running.lab.host, flush).unwrap().success());
    running.until("the rules to be made again", || running.answers(POD, VIP).is_some());
}

#[test]
fn clients_stay_with_their_endpoint() {
    let running = Running::new();
    let spec = json!({
        "type": "NodePort", "sessionAffinity": "ClientIP",
        "sessionAffinityConfig": { "clientIP": { "timeoutSeconds": 100 } },
    });
    let affine = service("svc1", "172.30.0.41", &["p80:tcp:80:3001"], spec);
    let all = ["10.180.0.1 here", "10.180.2.1 here", "10.180.3.1 here"];
    running.put(affine, &[at(&all)]);
    for (source, to) in [(POD, VIP), (CLIENT, "192.168.0.2:3001"), ("192.168.0.2", VIP)] {
        running.until("an endpoint", || running.answers(source, to).is_some());
        let mut seen = BTreeSet::new();
        for _ in 0..15 {
            seen.insert(running.answers(source, to).unwrap());
        }
        assert_eq!(seen.len(), 1, "{source} to {to}");
        // his endpoint goes: he gets another, and stays with that
        let first: SocketAddr = seen.pop_first().unwrap().parse().unwrap();
        let left: Vec<&str> =
            all.iter().copied().filter(|e| !e.starts_with(&format!("{} ", first.ip()))).collect();
        running.objects.put(slices(), at(&left));
        running.until("another endpoint", || {
            running.answers(source, to).is_some_and(|a| a != first.to_string())
        });
        let second = running.answers(source, to).unwrap();
        running.objects.put(slices(), at(&all));
        running.until("all endpoints", || running.ruleset().contains("goto to-3-stay"));
        assert!((0..10).all(|_| running.answers(source, to).as_ref() == Some(&second)), "{source} to {to}");
    }
    assert!(running.ruleset().contains("timeout 1m40s"), "{}", running.ruleset());
    // without affinity all are met again
    running.put(service("svc1", "172.30.0.41", &["p80:tcp:80"], json!({})), &[]);
    let mut seen = BTreeSet::new();
    running.until("all endpoints in turn", || {
        seen.extend(running.answers(POD, VIP));
        seen.len() == 3
    });
    running.until("nothing to be left of affinity", || !running.ruleset().contains("affinity {"));
}

const UDP_VIP: &str = "172.30.0.41:53";

fn udp() -> Value {
    service("svc1", "172.30.0.41", &["u53:udp:53:3001"], json!({ "type": "NodePort" }))
}

fn udp_at(port: u16, endpoints: &[&str]) -> Value {
    slice("svc1", &[&format!("u53:udp:{port}")], endpoints)
}

/// One socket: to connection tracking, all that it sends is one flow.
struct Sender {
    socket: UdpSocket,
    to: SocketAddr,
}

impl Sender {
    fn new(running: &Running, source: &str, to: &str) -> Sender {
        let (ip, to): (IpAddr, SocketAddr) = (source.parse().unwrap(), to.parse().unwrap());
        let socket = running.lab.enter(ip, || UdpSocket::bind((ip, 0)).unwrap());
        socket.connect(to).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        Sender { socket, to }
    }

    /// Sends, and hears who answers.
    fn ask(&self) -> Option<String> {
        let mut bytes = [0; 128];
        let _ = self.socket.send(b"x");
        let length = self.socket.recv(&mut bytes).ok()?;
        String::from_utf8_lossy(&bytes[..length]).split(' ').next().map(str::to_owned)
    }

    /// Sends once more; whether the kernel then has a flow to where it sends that waits for this one's answers.
    fn leads_to(&self, running: &Running, ip: &str) -> bool {
        self.ask();
        let (port, ip) = (self.socket.local_addr().unwrap().port(), ip.parse::<IpAddr>().unwrap());
        let of_it = |c: &Connection| {
            let (original, to) =
                (c.original, SocketAddr::new(c.original.destination, c.original.destination_port));
            (original.protocol, original.source_port, to, c.reply.source) == (UDP, port, self.to, ip)
        };
        !Conntrack::open_in(&running.lab.host).unwrap().connections(of_it).unwrap().is_empty()
    }
}

#[test]
fn udp_follows_its_endpoints() {
    let running = Running::new();
    for (source, to) in [(POD, UDP_VIP), (CLIENT, "192.168.0.2:3001")] {
        running.put(udp(), &[udp_at(53, &["10.180.0.1 here"])]);
        let sender = Sender::new(&running, source, to);
        let until = |at: &str| running.until(at, || sender.ask().as_deref() == Some(at));
        until("10.180.0.1:53");
        running.objects.put(slices(), udp_at(53, &["10.180.2.1 here"]));
        until("10.180.2.1:53");
        running.objects.put(slices(), udp_at(53, &[]));
        running.objects.put(slices(), udp_at(53, &["10.180.0.1 here"]));
        until("10.180.0.1:53");
        // the same pod, by another port
        running.objects.put(slices(), udp_at(81, &["10.180.0.1 here"]));
        until("10.180.0.1:81");
    }
}

#[test]
fn udp_stops_with_its_last_endpoint_or_service() {
    let running = Running::new();
    for (source, to) in [(POD, UDP_VIP), (CLIENT, "192.168.0.2:3001")] {
        running.put(udp(), &[udp_at(53, &["10.180.0.1 here"])]);
        let sender = Sender::new(&running, source, to);
        let until = |what: &str, leads: bool| {
            running.until(what, || sender.leads_to(&running, "10.180.0.1") == leads);
        };
        until("a flow to the endpoint", true);
        running.objects.put(slices(), udp_at(53, &[]));
        until("no flow to an endpoint that is no more", false);
        running.objects.put(slices(), udp_at(53, &["10.180.0.1 here"]));
        until("a flow to the endpoint again", true);
        running.objects.delete(services(), "ns", "svc1").unwrap();
        until("no flow for a service that is no more", false);
    }
}

#[test]
fn udp_is_translated_again_after_a_repair() {
    let running = Running::new();
    running.put(udp(), &[udp_at(53, &["10.180.0.1 here"])]);
    // somebody else translates too: what begins without our table is then left as it began
    let mut nft = Nft::open_in(&running.lab.host).unwrap();
    let mut other = Batch::new(netlink::nft::Family::Ip, "other");
    other.add_table();
    for (name, hook, priority) in [("pre", Hook::Prerouting, -100), ("post", Hook::Postrouting, 100)] {
        other.add_chain(name, Some(Base { kind: "nat", hook, priority, accept: true }));
    }
    nft.commit(&other).unwrap();
    running.until("an endpoint", || Sender::new(&running, POD, UDP_VIP).ask().is_some());
    // the proxy may be faster than the first packet
    let mut lost = None;
    running.until("a flow that began without the rules", || {
        let mut ours = Batch::new(netlink::nft::Family::Ip, "cleat-proxy");
        ours.delete_table();
        let _ = nft.commit(&ours);
        let sender = Sender::new(&running, POD, UDP_VIP);
        let untranslated = sender.leads_to(&running, "172.30.0.41");
        lost = Some(sender);
        untranslated
    });
    let sender = lost.unwrap();
    running.until("an answer after the repair", || sender.ask().as_deref() == Some("10.180.0.1:53"));
}

#[test]
fn a_restart_costs_no_connection() {
    let mut running = Running::new();
    let two = service("svc1", "172.30.0.41", &["p80:tcp:80", "long:tcp:99"], json!({}));
    let ports = ["p80:tcp:80", "long:tcp:9999"];
    running.put(two, &[slice("svc1", &ports, &["10.180.0.1 here"])]);
    let bind = || TcpListener::bind(("10.180.0.1", 9999)).unwrap();
    let listener = running.lab.enter("10.180.0.1".parse().unwrap(), bind);
    running.until("an endpoint", || running.answers(POD, VIP).is_some());
    let to: SocketAddr = "172.30.0.41:99".parse().unwrap();
    let mut client = running.lab.enter(POD.parse().unwrap(), || TcpStream::connect(to).unwrap());
    let mut server = listener.accept().unwrap().0;
    let mut talk = || {
        client.write_all(b"a").unwrap();
        let mut byte = [0];
        server.read_exact(&mut byte).unwrap();
        server.write_all(b"b").unwrap();
        client.read_exact(&mut byte).unwrap();
    };
    talk();
    running.stop();
    talk();
    assert_eq!(running.answers(POD, VIP).as_deref(), Some("10.180.0.1:80"), "the rules outlive the proxy");
    // what changes meanwhile is seen at the start; what is connected stays connected
    running.objects.put(slices(), slice("svc1", &ports, &["10.180.2.1 here"]));
    running.start();
    running.until("the other endpoint", || running.answers(POD, VIP).as_deref() == Some("10.180.2.1:80"));
    talk();
    running.stop();
    netns::enter(&running.lab.host, || proxy::cleanup().unwrap()).unwrap();
    assert_eq!(running.ruleset(), "");
    netns::enter(&running.lab.host, || proxy::cleanup().unwrap()).unwrap();
}

#[test]
fn load_balancers_and_people_are_told() {
    let running = Running::new();
    let spec = json!({
        "type": "LoadBalancer", "externalTrafficPolicy": "Local", "healthCheckNodePort": 30500, "balancers": ["1.2.3.4"],
    });
    running.put(
        service("svc1", "172.30.0.41", &["p80:tcp:80:3001"], spec),
        &[at(&["10.180.0.1 here", "10.180.2.1 there"])],
    );
    let port = "192.168.0.2:30500";
    running
        .until("the health check node port", || running.get(CLIENT, port, "/").starts_with("HTTP/1.1 200"));
    let answer = running.get(CLIENT, port, "/");
    assert!(
        answer.contains(r#""localEndpoints":1"#) && answer.contains(r#""serviceProxyHealthy":true"#),
        "{answer}"
    );
    assert!(answer.contains("x-load-balancing-endpoint-weight: 1"), "{answer}");
    running.objects.put(slices(), at(&["10.180.2.1 there"]));
    running.until("no endpoint here", || running.get(CLIENT, port, "/").starts_with("HTTP/1.1 503"));
    let health = running.get(CLIENT, "192.168.0.2:10256", "/healthz");
    assert!(health.starts_with("HTTP/1.1 200") && health.contains(r#""nodeEligible":true"#), "{health}");
    let node = json!({
        "metadata": { "name": NODE }, "spec": { "taints": [{ "key": "ToBeDeletedByClusterAutoscaler" }] },
        "status": { "addresses": [{ "type": "InternalIP", "address": "192.168.0.2" }] },
    });
    running.objects.put(known("", "nodes"), node);
    running.until("the node to be no longer eligible", || {
        running.get(CLIENT, "192.168.0.2:10256", "/healthz").starts_with("HTTP/1.1 503")
    });
    assert!(running.get(CLIENT, "192.168.0.2:10256", "/livez").starts_with("HTTP/1.1 200"));
    let metrics = running.get("192.168.0.2", "127.0.0.1:10249", "/metrics");
    assert!(metrics.contains("kubeproxy_sync_proxy_rules_duration_seconds_count"), "{metrics}");
    assert!(running.get("192.168.0.2", "127.0.0.1:10249", "/proxyMode").ends_with("nftables"));
    running.objects.delete(services(), "ns", "svc1").unwrap();
    running.until("the port to be closed", || !running.get(CLIENT, port, "/").starts_with("HTTP"));
}
