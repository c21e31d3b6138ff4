//! A cluster of objects, a name service over it, an upstream server, and `dig`.

use std::collections::HashMap;
use std::net::{SocketAddr, UdpSocket};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ::lab::Objects;
use dns::message::{Data, Query, Rcode, Record, Reply};
use dns::{Config, Server, Upstreams};
use proto_kube::{GroupResource, Resource, resource};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

pub(crate) fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + Duration::from_secs(30);
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "never: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn find(group: &str, resource: &str) -> &'static Resource {
    resource::preferred(GroupResource { group, resource }).unwrap()
}

pub(crate) fn endpoint(ip: &str, hostname: &str, ready: bool) -> Value {
    let mut endpoint = json!({ "addresses": [ip], "conditions": { "ready": ready } });
    if !hostname.is_empty() {
        endpoint["hostname"] = hostname.into();
    }
    endpoint
}

pub(crate) struct Cluster {
    pub(crate) objects: Objects,
}

impl Cluster {
    pub(crate) fn new() -> Cluster {
        let cluster = Cluster { objects: Objects::default() };
        cluster.objects.put(find("", "namespaces"), json!({ "metadata": { "name": "default" } }));
        cluster
    }

    pub(crate) fn service(&self, name: &str, spec: Value) {
        let metadata = json!({ "namespace": "default", "name": name });
        self.objects.put(find("", "services"), json!({ "metadata": metadata, "spec": spec }));
    }

    pub(crate) fn slice(&self, name: &str, service: &str, endpoints: &[Value], ports: &Value) {
        let labels = json!({ "kubernetes.io/service-name": service });
        let metadata = json!({ "namespace": "default", "name": name, "labels": labels });
        let slice =
            json!({ "metadata": metadata, "addressType": "IPv4", "endpoints": endpoints, "ports": ports });
        self.objects.put(find("discovery.k8s.io", "endpointslices"), slice);
    }

    pub(crate) fn delete_slice(&self, name: &str) {
        self.objects.delete(find("discovery.k8s.io", "endpointslices"), "default", name).unwrap();
    }

    /// A server that knows all.
    pub(crate) fn serve(&self, upstreams: &[SocketAddr]) -> Dns {
        let dns = self.serve_unready(upstreams);
        until("all is known", || dns.dig_all(&["cluster.local", "SOA"]).contains("NOERROR").then_some(()));
        dns
    }

    pub(crate) fn serve_unready(&self, upstreams: &[SocketAddr]) -> Dns {
        self.start(|_| upstreams.to_vec())
    }

    /// A server whose upstream is itself, by another of its addresses.
    pub(crate) fn serve_itself(&self) -> Dns {
        self.start(|address| vec![address])
    }

    fn start(&self, upstreams: impl FnOnce(SocketAddr) -> Vec<SocketAddr>) -> Dns {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let port = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let mut config = {
            let _inside = runtime.enter();
            Config::new(self.objects.cache(), vec![address.ip()], "/nonexistent".into())
        };
        (config.port, config.run_dir) = (port, None);
        config.upstreams = Upstreams::Fixed(upstreams(address));
        let server = runtime.block_on(Server::bind(config)).unwrap();
        assert_eq!(server.addresses().collect::<Vec<_>>(), [address]);
        let shutdown = CancellationToken::new();
        runtime.spawn(server.run(shutdown.clone()));
        Dns { address, _runtime: runtime, shutdown }
    }
}

pub(crate) struct Dns {
    pub(crate) address: SocketAddr,
    _runtime: tokio::runtime::Runtime,
    shutdown: CancellationToken,
}

impl Drop for Dns {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

fn dig(address: SocketAddr, arguments: &[String]) -> String {
    let mut dig = Command::new("dig");
    dig.arg(format!("@{}", address.ip())).arg("-p").arg(address.port().to_string()).args(arguments);
    let output = dig.output().expect("this test needs dig: apt-get install bind9-dnsutils");
    String::from_utf8(output.stdout).unwrap()
}

fn owned(arguments: &[&str]) -> Vec<String> {
    arguments.iter().map(|&argument| argument.to_owned()).collect()
}

fn short(text: &str) -> Vec<String> {
    text.lines().filter(|line| !line.starts_with(';')).map(str::to_owned).collect()
}

impl Dns {
    /// What `dig +short` prints, line by line.
    pub(crate) fn dig(&self, arguments: &[&str]) -> Vec<String> {
        short(&dig(self.address, &owned(&[&["+short"], arguments].concat())))
    }

    /// All that `dig` prints, with single spaces.
    pub(crate) fn dig_all(&self, arguments: &[&str]) -> String {
        let text = dig(self.address, &owned(arguments));
        text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ") + "\n").collect()
    }

    pub(crate) fn dig_later(&self, arguments: &[&str]) -> JoinHandle<Vec<String>> {
        let (address, arguments) = (self.address, owned(&[&["+short"], arguments].concat()));
        std::thread::spawn(move || short(&dig(address, &arguments)))
    }
}

#[derive(Default)]
struct Behaviour {
    silent: bool,
    slow: Duration,
    asked: HashMap<String, usize>,
}

/// A server of a few names under `example.com`, made of the codec under test; `dig` judges that.
pub(crate) struct Upstream {
    pub(crate) address: SocketAddr,
    behaviour: Arc<Mutex<Behaviour>>,
}

impl Upstream {
    pub(crate) fn new() -> Upstream {
        let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = tcp.local_addr().unwrap();
        let udp = UdpSocket::bind(address).unwrap();
        let behaviour = Arc::new(Mutex::new(Behaviour::default()));
        let shared = behaviour.clone();
        std::thread::spawn(move || {
            let mut buffer = [0; 2000];
            while let Ok((length, peer)) = udp.recv_from(&mut buffer) {
                if let Some(answer) = answer(&buffer[..length], &shared, 512) {
                    let _ = udp.send_to(&answer, peer);
                }
            }
        });
        let shared = behaviour.clone();
        std::thread::spawn(move || {
            use std::io::{Read, Write};
            for mut stream in tcp.incoming().map_while(Result::ok) {
                let mut length = [0; 2];
                stream.read_exact(&mut length).unwrap();
                let mut message = vec![0; usize::from(u16::from_be_bytes(length))];
                stream.read_exact(&mut message).unwrap();
                let answer = answer(&message, &shared, usize::from(u16::MAX)).unwrap();
                let length = u16::try_from(answer.len()).unwrap().to_be_bytes();
                stream.write_all(&[&length[..], &answer].concat()).unwrap();
            }
        });
        Upstream { address, behaviour }
    }

    pub(crate) fn set_silent(&self, silent: bool) {
        self.behaviour.lock().unwrap().silent = silent;
    }

    pub(crate) fn set_slow(&self, slow: Duration) {
        self.behaviour.lock().unwrap().slow = slow;
    }

    /// How often a name was asked for.
    pub(crate) fn asked(&self, name: &str) -> usize {
        self.behaviour.lock().unwrap().asked.get(&format!("{name}.")).copied().unwrap_or(0)
    }
}

fn answer(message: &[u8], behaviour: &Mutex<Behaviour>, limit: usize) -> Option<Vec<u8>> {
    let query = Query::read(message).ok()?;
    let name = query.name.to_string();
    let slow = {
        let mut behaviour = behaviour.lock().unwrap();
        *behaviour.asked.entry(name.clone()).or_default() += 1;
        if behaviour.silent {
            return None;
        }
        behaviour.slow
    };
    std::thread::sleep(slow);
    let record = |ttl, data| Record { name: query.name.clone(), ttl, data };
    let ip = |last: u8| Data::Ip([192, 0, 2, last].into());
    let mut reply = Reply::default();
    match name.as_str() {
        "www.example.com." => reply.answers.push(record(300, ip(80))),
        "short.example.com." => reply.answers.push(record(1, ip(81))),
        "long.example.com." => {
            let text = |n| record(300, Data::Txt(format!("{n:0100}")));
            reply.answers.extend((0..40).map(text));
        }
        _ => reply.rcode = Rcode::NxDomain,
    }
    Some(reply.write(&query, limit))
}
