//! t
#![allow(clippy::unwrap_used)]
mod lab;
use lab::*;
#[test]
fn time() {
    let lab = Lab::new();
    let keep = Pod::new("keep").with_port(8999, 80, "tcp", "");
    lab.add(&keep);
    let (mut adds, mut dels, mut checks) = (vec![], vec![], vec![]);
    for n in 0..50u16 {
        let pod = Pod::new(&format!("p{n}")).with_port(8000 + n, 80, "tcp", "");
        let t = std::time::Instant::now();
        lab.add(&pod);
        adds.push(t.elapsed().as_secs_f64() * 1e3);
        let t = std::time::Instant::now();
        lab.on_host(|| lab.networks().check(&pod.attachment())).unwrap();
        checks.push(t.elapsed().as_secs_f64() * 1e3);
        let t = std::time::Instant::now();
        lab.del(&pod);
        dels.push(t.elapsed().as_secs_f64() * 1e3);
    }
    for (n, v) in [("add", &mut adds), ("check", &mut checks), ("del", &mut dels)] {
        v.sort_by(f64::total_cmp);
        println!("{n} min {:.2} p50 {:.2} max {:.2}", v[0], v[25], v[49]);
    }
    let u = rustix::process::getpid();
    let _ = u;
}
