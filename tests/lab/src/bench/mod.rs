//! `cargo xtask bench pod`: a pod's life through raw CRI, ours and Debian's containerd with runc, each on a throw-away
//! machine of its own, in turns, in one run. The table says what was measured, and the budget of the design.

pub(crate) mod cluster;
pub(crate) mod control;
mod pod;
mod process;
pub(crate) mod proxy;
mod server;
mod table;

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use pod::{Life, Pod};
use server::Server;
use table::{Budget, Table};

const WARM_UP_ROUNDS: usize = 5;
const PODS_AT_ONCE: usize = 50;
const IDLE_PODS: usize = 10;
const IDLE_TIME: Duration = Duration::from_secs(20);

/// What one server needed.
struct Figures {
    lives: Vec<Life>,
    cpu_ms_a_life: f64,
    daemon_empty_kb: u64,
    daemon_kb: u64,
    pod_kb: u64,
    idle_percent: f64,
    pods_a_second: f64,
    cpu_ms_a_pod_at_once: f64,
}

/// Measures both and prints the table.
pub(crate) async fn run(programs: &Path, rounds: usize) -> Result<()> {
    let servers = [Server::ours(programs).await?, Server::containerd().await?];
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    println!("load of the machine before the run: {} (times mean little unless it was quiet)", load.trim());
    eprintln!("{rounds} pods one after the other, in turns");
    let lives = in_turns(&servers, rounds).await?;
    let mut figures = Vec::new();
    for (server, (lives, cpu_ms_a_life)) in servers.iter().zip(lives) {
        eprintln!("{}: {IDLE_PODS} idle pods, then {PODS_AT_ONCE} at once", server.name());
        figures.push(measure(server, lives, cpu_ms_a_life).await.with_context(|| server.name().to_owned())?);
    }
    let [ours, peer] = &figures[..] else { unreachable!("there are two servers") };
    print(ours, peer);
    for server in &servers {
        table::sizes(server.name(), &server.binaries());
    }
    Ok(())
}

/// The lives of each server's pods, and the CPU time a life costs in milliseconds.
async fn in_turns(servers: &[Server], rounds: usize) -> Result<Vec<(Vec<Life>, f64)>> {
    let mut found: Vec<(Vec<Life>, f64)> = servers.iter().map(|_| (Vec::new(), 0.0)).collect();
    for round in 0..WARM_UP_ROUNDS + rounds {
        for (server, (lives, cpu)) in servers.iter().zip(&mut found) {
            let before = server.cpu()?;
            let life =
                Life::of(server, &Pod::numbered(round)).await.with_context(|| server.name().to_owned())?;
            if round >= WARM_UP_ROUNDS {
                lives.push(life);
                *cpu += millis(server.cpu()? - before) / count(rounds);
            }
        }
    }
    Ok(found)
}

async fn measure(server: &Server, lives: Vec<Life>, cpu_ms_a_life: f64) -> Result<Figures> {
    let daemon_empty_kb = server.daemon_kb()?;
    let mut idle = Vec::new();
    for number in 0..IDLE_PODS {
        idle.push(Pod::numbered(number).start(server).await?);
    }
    tokio::time::sleep(Duration::from_secs(3)).await;
    let daemon_kb = server.daemon_kb()?;
    let pod_kb = server.pods_kb()? / IDLE_PODS as u64;
    let (cpu, start) = (server.cpu()?, Instant::now());
    tokio::time::sleep(IDLE_TIME).await;
    let idle_percent = millis(server.cpu()? - cpu) / millis(start.elapsed()) * 100.0;
    for started in idle {
        started.end(server).await?;
    }
    let (cpu, start) = (server.cpu()?, Instant::now());
    let pods: Vec<Pod> = (0..PODS_AT_ONCE).map(Pod::numbered).collect();
    let started = futures_util::future::try_join_all(pods.iter().map(|pod| pod.start(server))).await?;
    let pods_a_second = count(PODS_AT_ONCE) / start.elapsed().as_secs_f64();
    futures_util::future::try_join_all(started.into_iter().map(|pod| pod.end(server))).await?;
    let cpu_ms_a_pod_at_once = millis(server.cpu()? - cpu) / count(PODS_AT_ONCE);
    Ok(Figures {
        lives,
        cpu_ms_a_life,
        daemon_empty_kb,
        daemon_kb,
        pod_kb,
        idle_percent,
        pods_a_second,
        cpu_ms_a_pod_at_once,
    })
}

fn print(ours: &Figures, peer: &Figures) {
    let mut table = Table::beside("containerd");
    for (name, of, budget) in Life::CALLS {
        let times = |figures: &Figures| figures.lives.iter().map(|life| millis(of(life))).collect::<Vec<_>>();
        let (ours, peer) = (times(ours), times(peer));
        let (median, p99) = (|times: &[f64]| table::rank(times, 50), |times: &[f64]| table::rank(times, 99));
        table.row(&format!("{name}, median ms"), median(&ours), median(&peer), budget);
        table.row(&format!("{name}, p99 ms"), p99(&ours), p99(&peer), Budget::None);
    }
    let kb = |kilobytes: u64| count(usize::try_from(kilobytes).unwrap_or(usize::MAX));
    let mut both =
        |name: &str, of: &dyn Fn(&Figures) -> f64, budget| table.row(name, of(ours), of(peer), budget);
    both("CPU a pod's life, ms", &|f| f.cpu_ms_a_life, Budget::AtMost(32.0));
    both("50 pods at once, pods/s", &|f| f.pods_a_second, Budget::AtLeast(60.0));
    both("50 pods at once, CPU a pod, ms", &|f| f.cpu_ms_a_pod_at_once, Budget::AtMost(32.0));
    both("memory an idle pod, kB PSS", &|f| kb(f.pod_kb), Budget::AtMost(800.0));
    both("daemon without pods, kB PSS", &|f| kb(f.daemon_empty_kb), Budget::None);
    both("daemon with 10 pods, kB PSS", &|f| kb(f.daemon_kb), Budget::AtMost(20_000.0));
    both("idle with 10 pods, % of a core", &|f| f.idle_percent, Budget::AtMost(0.1));
    table.print();
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// Counts here are far below 2^52.
#[allow(clippy::cast_precision_loss)]
fn count(number: usize) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The oracle first: what fails here with Debian's containerd is wrong in the benchmark.
    #[test]
    fn containerd_runs_a_pod_and_its_cost_is_seen() {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let server = Server::containerd().await.unwrap();
            let started = Pod::numbered(1).start(&server).await.unwrap();
            assert!(server.daemon_kb().unwrap() > 1000);
            assert!(server.pods_kb().unwrap() > 1000);
            assert!(server.cpu().unwrap() > Duration::ZERO);
            started.end(&server).await.unwrap();
        });
    }
}
