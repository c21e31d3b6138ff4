//! `cargo xtask bench proxy`: services as our rules beside iptables rules of the same services in kube-proxy's layout,
//! each on a throw-away machine of its own, in one run.

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use lab::Machine;
use netlink::netns;
use netlink::route::{Route, RouteEntry, Veth};
use proxy::Kernel;
use proxy_rules::{Family, LocalTraffic, Node, ServiceMap, ServiceName, Tables};
use serde_json::{Value, json};

use super::table::{Budget, Table, rank};
use super::{count, millis};

const ENDPOINTS: u32 = 5;
const CHANGES: u32 = 50;
const CONNECTS: usize = 2000;
const PORT: u16 = 80;
const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
/// The first address of the pod that all endpoints of the last service are.
const SERVER: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 2);
/// Rounds of changes by iptables-restore, which takes its time.
const PEER_CHANGES: usize = 5;

/// What one side needed.
struct Figures {
    full_ms: f64,
    change_ms: f64,
    scale_ms: f64,
    kernel_mb: f64,
    connect_us: f64,
    direct_us: f64,
}

/// Measures both and prints the table.
pub(crate) fn run(services: u32) -> Result<()> {
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    println!(
        "{services} services of {ENDPOINTS} endpoints; load of the machine before the run: {}",
        load.trim()
    );
    let ours = on_machine("ours", services)?;
    let peer = on_machine("iptables", services)?;
    let mut table = Table::beside("iptables");
    let mut both =
        |name: &str, of: &dyn Fn(&Figures) -> f64, budget| table.row(name, of(&ours), of(&peer), budget);
    both("full sync, ms", &|f| f.full_ms, Budget::AtMost(150.0));
    both("one endpoint replaced, median ms", &|f| f.change_ms, Budget::AtMost(1.0));
    both("one endpoint more or less, median ms", &|f| f.scale_ms, Budget::None);
    both("kernel memory, MB", &|f| f.kernel_mb, Budget::None);
    both("connect to a pod, median us", &|f| f.direct_us, Budget::None);
    both("connect to last service, median us", &|f| f.connect_us, Budget::None);
    table.print();
    Ok(())
}

/// Runs one side as a process of a machine of its own, and reads what the kernel keeps for that.
fn on_machine(side: &str, services: u32) -> Result<Figures> {
    eprintln!("{side}: {services} services");
    let machine = Machine::new()?;
    let before = kernel_bytes(&machine).context("no memory cgroup accounts for the kernel's memory")?;
    let mut command = machine.command(std::env::current_exe()?);
    command.args(["bench-proxy-side", side, &services.to_string()]).stderr(Stdio::inherit());
    let output = command.output()?;
    ensure!(output.status.success(), "{side} ended with {}", output.status);
    let kernel = kernel_bytes(&machine).unwrap_or(before).saturating_sub(before);
    let found: Value = serde_json::from_slice(&output.stdout)?;
    let figure = |name: &str| found[name].as_f64().unwrap_or(f64::NAN);
    Ok(Figures {
        full_ms: figure("full_ms"),
        change_ms: figure("change_ms"),
        scale_ms: figure("scale_ms"),
        kernel_mb: count(usize::try_from(kernel)?) / 1e6,
        connect_us: figure("connect_us"),
        direct_us: figure("direct_us"),
    })
}

fn kernel_bytes(machine: &Machine) -> Option<u64> {
    machine.cgroups().find_map(|cgroup| {
        let v1 = std::fs::read_to_string(cgroup.join("memory.kmem.usage_in_bytes"));
        let v2 = || {
            let text = std::fs::read_to_string(cgroup.join("memory.stat")).ok()?;
            text.lines().find_map(|line| line.strip_prefix("kernel ")).map(str::to_owned)
        };
        v1.ok().or_else(v2)?.trim().parse().ok()
    })
}

/// One side, inside its machine. Prints its figures as JSON.
pub(crate) fn side(name: &str, services: u32) -> Result<()> {
    let net = Net::new()?;
    let direct = net.connect(SocketAddr::new(SERVER.into(), PORT))?;
    let (full, change, scale) = match name {
        "ours" => ours(services)?,
        "iptables" => iptables(services)?,
        other => bail!("{other}: no such side"),
    };
    let last = SocketAddr::new(cluster_ip(services - 1).into(), PORT);
    let connect = net.connect(last)?;
    let found = json!({
        "full_ms": full, "change_ms": rank(&change, 50), "scale_ms": rank(&scale, 50),
        "connect_us": rank(&connect, 50), "direct_us": rank(&direct, 50),
    });
    println!("{found}");
    // the rules stay, and with them the memory that is to be measured
    Ok(())
}

fn cluster_ip(service: u32) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(Ipv4Addr::new(172, 16, 0, 1)) + service)
}

/// An endpoint's address. Those of the last service are the one pod that there is.
fn endpoint(services: u32, service: u32, index: u32, generation: u32) -> Ipv4Addr {
    if service + 1 == services {
        return Ipv4Addr::from(u32::from(SERVER) + index);
    }
    Ipv4Addr::from(
        u32::from(Ipv4Addr::new(10, 64, 0, 1)) + (service * ENDPOINTS + index) * 8 + generation % 8,
    )
}

fn service_object(service: u32) -> Value {
    let ip = cluster_ip(service).to_string();
    json!({
        "metadata": { "namespace": "bench", "name": format!("svc-{service}") },
        "spec": { "type": "ClusterIP", "clusterIPs": [ip], "ports": [{ "name": "http", "port": PORT, "protocol": "TCP" }] },
    })
}

fn slice_object(services: u32, service: u32, endpoints: u32, generation: u32) -> Value {
    let endpoints = (0..endpoints).map(|index| {
        let changed = if index == 0 { generation } else { 0 };
        json!({ "addresses": [endpoint(services, service, index, changed).to_string()], "nodeName": format!("node-{index}") })
    });
    let name = format!("svc-{service}");
    json!({
        "metadata": { "namespace": "bench", "name": format!("{name}-1"), "labels": { "kubernetes.io/service-name": name } },
        "addressType": "IPv4", "ports": [{ "name": "http", "port": PORT, "protocol": "TCP" }],
        "endpoints": endpoints.collect::<Vec<_>>(),
    })
}

/// Time of the first sync, of changes of an endpoint, and of their number.
type Times = (f64, Vec<f64>, Vec<f64>);

fn ours(services: u32) -> Result<Times> {
    let objects: Vec<(Value, Value)> =
        (0..services).map(|n| (service_object(n), slice_object(services, n, ENDPOINTS, 0))).collect();
    let node = Node {
        name: "node-0".into(),
        local_traffic: LocalTraffic::Networks(vec!["10.0.0.0/8".parse()?]),
        service_cidrs: vec!["172.16.0.0/12".parse()?],
        ..Node::default()
    };
    let mut kernel = Kernel::open(Family::V4)?;
    let mut map = ServiceMap::default();
    for (service, slice) in &objects {
        map.change_service(None, Some(service));
        map.change_slice(None, Some(slice));
    }
    // as for iptables, what is to be done is known; what is measured is to work it out, and to do it
    let start = Instant::now();
    let (mut tables, rules) = Tables::start(&map, node, Family::V4);
    kernel.replace(&rules)?;
    let full = millis(start.elapsed());
    let service = services / 2;
    let mut known = slice_object(services, service, ENDPOINTS, 0);
    let mut change = |slice: Value| {
        let start = Instant::now();
        let names = map.change_slice(Some(&known), Some(&slice)).into_iter().collect();
        let batch = tables.update(&map, &names);
        kernel.apply(&batch)?;
        known = slice;
        anyhow::Ok(millis(start.elapsed()))
    };
    let mut replaced = Vec::new();
    let mut scaled = Vec::new();
    for generation in 1..=CHANGES {
        replaced.push(change(slice_object(services, service, ENDPOINTS, generation))?);
    }
    for round in 0..CHANGES {
        scaled.push(change(slice_object(services, service, ENDPOINTS - 1 + round % 2, CHANGES))?);
    }
    let name = ServiceName::new("bench", "svc-0");
    ensure!(map.service(&name).is_some() || services == 0, "the first service is there");
    Ok((full, replaced, scaled))
}

/// The chains of a service as kube-proxy writes them: one for the service, one for each endpoint.
fn chains(text: &mut String, services: u32, service: u32, endpoints: u32, generation: u32) {
    let (ip, name) = (cluster_ip(service), format!("bench/svc-{service}:http"));
    let separate = |index: u32| format!("KUBE-SEP-{:016X}", u64::from(service) << 8 | u64::from(index));
    let to = format!("KUBE-SVC-{service:016X}");
    let _ = writeln!(
        text,
        "-A {to} -m comment --comment \"{name} cluster IP\" -m tcp -p tcp -d {ip} --dport {PORT} ! -s 10.0.0.0/8 -j KUBE-MARK-MASQ"
    );
    for index in 0..endpoints {
        let endpoint = endpoint(services, service, index, if index == 0 { generation } else { 0 });
        let left = endpoints - index;
        let random = match left {
            1 => String::new(),
            _ => format!("-m statistic --mode random --probability {:0.10} ", 1.0 / f64::from(left)),
        };
        let at = separate(index);
        let _ =
            writeln!(text, "-A {to} -m comment --comment \"{name} -> {endpoint}:{PORT}\" {random}-j {at}");
        let _ = writeln!(text, "-A {at} -m comment --comment {name} -s {endpoint} -j KUBE-MARK-MASQ");
        let _ = writeln!(
            text,
            "-A {at} -m comment --comment {name} -m tcp -p tcp -j DNAT --to-destination {endpoint}:{PORT}"
        );
    }
}

fn declare(text: &mut String, service: u32) {
    let _ = writeln!(text, ":KUBE-SVC-{service:016X} - [0:0]");
    for index in 0..ENDPOINTS {
        let _ = writeln!(text, ":KUBE-SEP-{:016X} - [0:0]", u64::from(service) << 8 | u64::from(index));
    }
}

/// What kube-proxy gives to iptables-restore: the list of all services, and the chains of those that change.
fn rules(
    services: u32,
    changed: impl Iterator<Item = u32> + Clone,
    endpoints: u32,
    generation: u32,
    first: bool,
) -> String {
    let mut text =
        "*nat\n:KUBE-SERVICES - [0:0]\n:KUBE-MARK-MASQ - [0:0]\n:KUBE-POSTROUTING - [0:0]\n".to_owned();
    changed.clone().for_each(|service| declare(&mut text, service));
    if first {
        text += "-A PREROUTING -j KUBE-SERVICES\n-A OUTPUT -j KUBE-SERVICES\n-A POSTROUTING -j KUBE-POSTROUTING\n";
    }
    text += "-A KUBE-MARK-MASQ -j MARK --or-mark 0x4000\n-A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN\n";
    text +=
        "-A KUBE-POSTROUTING -j MARK --xor-mark 0x4000\n-A KUBE-POSTROUTING -j MASQUERADE --random-fully\n";
    for service in 0..services {
        let _ = writeln!(
            text,
            "-A KUBE-SERVICES -m comment --comment \"bench/svc-{service}:http cluster IP\" -m tcp -p tcp -d {} --dport {PORT} -j KUBE-SVC-{service:016X}",
            cluster_ip(service)
        );
    }
    changed.for_each(|service| chains(&mut text, services, service, endpoints, generation));
    text + "COMMIT\n"
}

fn restore(text: &str, arguments: &[&str]) -> Result<f64> {
    let start = Instant::now();
    let mut child = Command::new("iptables-legacy-restore")
        .args(arguments)
        .stdin(Stdio::piped())
        .spawn()
        .context("this needs iptables")?;
    child.stdin.take().context("no input")?.write_all(text.as_bytes())?;
    let status = child.wait()?;
    ensure!(status.success(), "iptables-legacy-restore ended with {status}");
    Ok(millis(start.elapsed()))
}

fn iptables(services: u32) -> Result<Times> {
    let full = restore(&rules(services, 0..services, ENDPOINTS, 0, true), &[])?;
    let service = services / 2;
    let mut times = (Vec::new(), Vec::new());
    for generation in 1..=PEER_CHANGES {
        let generation = u32::try_from(generation)?;
        let text = rules(services, service..service + 1, ENDPOINTS, generation, false);
        times.0.push(restore(&text, &["--noflush"])?);
        let text = rules(services, service..service + 1, ENDPOINTS - 1 + generation % 2, generation, false);
        times.1.push(restore(&text, &["--noflush"])?);
    }
    Ok((full, times.0, times.1))
}

/// A client and a server behind this machine.
struct Net {
    client: OwnedFd,
    _server: OwnedFd,
}

impl Net {
    fn new() -> Result<Net> {
        std::fs::write("/proc/sys/net/ipv4/ip_forward", "1")?;
        let mut route = Route::open()?;
        let net = Net { client: netns::create()?, _server: netns::create()? };
        let pods: Vec<Ipv4Addr> = (0..ENDPOINTS).map(|n| Ipv4Addr::from(u32::from(SERVER) + n)).collect();
        for (link, netns, ips) in [("client", &net.client, &[CLIENT][..]), ("server", &net._server, &pods)] {
            route.create_veth(&Veth { name: link, peer: "eth0", mtu: None, peer_mac: None }, netns)?;
            let here = route.link(link)?.context("the link is there")?.index;
            route.set_up(here, true)?;
            let gateway: IpAddr = Ipv4Addr::new(169, 254, 1, 1).into();
            route.add_address(here, gateway.into(), false)?;
            let mut inside = Route::open_in(netns)?;
            let there = inside.link("eth0")?.context("the link is there")?.index;
            inside.set_up(there, true)?;
            inside.add_route(&RouteEntry::new(gateway.into(), None, there))?;
            for ip in ips {
                inside.add_address(there, IpAddr::from(*ip).into(), false)?;
                route.add_route(&RouteEntry::new(IpAddr::from(*ip).into(), None, here))?;
            }
            inside.add_route(&RouteEntry::new("0.0.0.0/0".parse()?, Some(gateway), there))?;
        }
        let listener = netns::enter(&net._server, || TcpListener::bind(("0.0.0.0", PORT)))??;
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                drop(stream);
            }
        });
        Ok(net)
    }

    /// Microseconds of each of many connects.
    fn connect(&self, to: SocketAddr) -> Result<Vec<f64>> {
        let work = || {
            let mut times = Vec::with_capacity(CONNECTS);
            for _ in 0..CONNECTS {
                let start = Instant::now();
                let mut stream = TcpStream::connect_timeout(&to, Duration::from_secs(5))?;
                times.push(start.elapsed().as_secs_f64() * 1e6);
                // the server has closed it first: no port of the client waits
                let _ = stream.read(&mut [0]);
            }
            anyhow::Ok(times)
        };
        netns::enter(&self.client, work)?
    }
}

/// The arguments of the command.
pub(crate) fn arguments(_programs: &Path, rest: &[&str]) -> Result<u32> {
    match rest {
        [] => Ok(10_000),
        ["--services", number] => number.parse().with_context(|| format!("--services {number}")),
        other => bail!("unknown arguments {other:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_sides_are_measured() {
        let netns = netns::create().unwrap();
        let figures = netns::enter(&netns, || {
            let net = Net::new().unwrap();
            let (full, changes, _) = ours(20).unwrap();
            let last = net.connect(SocketAddr::new(cluster_ip(19).into(), PORT)).unwrap();
            (full, changes.len(), last.len())
        })
        .unwrap();
        assert!(figures.0 > 0.0 && figures.1 == CHANGES as usize && figures.2 == CONNECTS);
    }
}
