//! Laws that need the kernel: what a history leaves in it is what a fresh start would; what it does with packets is what
//! the simulator says.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::process::Command;

use netlink::netns;
use proptest::prelude::*;
use proxy::{Applied, Kernel};
use proxy_rules::{Family, Outcome, Packet, ServiceMap, ServiceName, Tables, compile, simulate};
use serde_json::Value;

use crate::lab::{Lab, Seen};
use crate::table::{self, Group, groups};
use crate::{node_ips, protocol};

/// Changes a map from one group's objects to another's, as a watch would tell of it.
fn turn(map: &mut ServiceMap, known: &mut BTreeMap<String, Value>, group: &Group) -> BTreeSet<ServiceName> {
    let key = |o: &Value| format!("{} {}", o["spec"].is_object(), o["metadata"]["name"]);
    let wanted: BTreeMap<String, Value> = group.objects.iter().map(|o| (key(o), o.clone())).collect();
    let mut names = BTreeSet::new();
    let mut change = |old: Option<&Value>, new: Option<&Value>| {
        let is_service = old.or(new).is_some_and(|o| o["spec"].is_object());
        match is_service {
            true => names.extend(map.change_service(old, new)),
            false => names.extend(map.change_slice(old, new)),
        }
    };
    for (name, object) in known.iter() {
        change(Some(object), wanted.get(name));
    }
    for (name, object) in wanted.iter().filter(|(name, _)| !known.contains_key(*name)) {
        let _ = name;
        change(None, Some(object));
    }
    *known = wanted;
    names
}

/// The table in the calling thread's network namespace, as `nft` tells it, in an order of its own: lines sorted.
fn listed() -> Vec<String> {
    let output = Command::new("nft").args(["-s", "list", "ruleset"]).output().expect("this test needs nft");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let tidy = |line: &str| {
        line.trim().trim_start_matches("elements = { ").trim_end_matches([',', '}', ' ']).to_owned()
    };
    let mut lines: Vec<String> = text.lines().map(tidy).collect();
    lines.sort();
    lines
}

/// The same in a fresh namespace.
fn fresh(map: &ServiceMap) -> Vec<String> {
    let netns = netns::create().unwrap();
    netns::enter(&netns, || {
        for family in Family::ALL {
            Kernel::open(family).unwrap().replace(&compile(map, &table::node(), family)).unwrap();
        }
        listed()
    })
    .unwrap()
}

/// Without the index of endpoints, which a history may have changed.
fn unordered(mut lines: Vec<String>) -> Vec<String> {
    for line in &mut lines {
        if let Some(at) = line.find(" . 0x") {
            line.replace_range(at..at + " . 0x00000000".len(), "");
        }
    }
    lines.sort();
    lines
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    #[test]
    fn histories_leave_the_kernel_as_a_fresh_start_would(
        order in Just((0..groups().len()).collect::<Vec<_>>()).prop_shuffle(),
        restart in 0usize..20,
    ) {
        let groups = groups();
        let netns = netns::create().unwrap();
        let (mut map, mut known) = (ServiceMap::default(), BTreeMap::new());
        let (history, again) = netns::enter(&netns, || {
            let mut sides: Vec<(Tables, Kernel)> = Family::ALL
                .map(|family| (Tables::new(&map, table::node(), family), Kernel::open(family).unwrap())).into();
            for (tables, kernel) in &mut sides {
                kernel.replace(&tables.ruleset()).unwrap();
            }
            for (turns, number) in order.iter().take(8).enumerate() {
                let names = turn(&mut map, &mut known, &groups[*number]);
                for (tables, kernel) in &mut sides {
                    if turns == restart {
                        // killed and started again: a proxy that knows nothing of what the one before did
                        *tables = Tables::new(&map, table::node(), tables.family());
                        *kernel = Kernel::open(tables.family()).unwrap();
                        kernel.replace(&tables.ruleset()).unwrap();
                    } else {
                        assert_eq!(kernel.apply(&tables.update(&map, &names)).unwrap(), Applied::Done);
                    }
                }
            }
            for (_, kernel) in &mut sides {
                kernel.tidy().unwrap();
            }
            let again: usize = sides.iter_mut().map(|(tables, kernel)| kernel.replace(&tables.ruleset()).unwrap()).sum();
            (listed(), again)
        }).unwrap();
        prop_assert_eq!(again, 0, "the kernel has what it should have");
        prop_assert_eq!(unordered(history), unordered(fresh(&map)));
    }
}

/// Every source and every destination of all tables.
fn ends() -> (Vec<&'static str>, Vec<&'static str>) {
    let (mut sources, mut destinations) = (BTreeSet::new(), BTreeSet::new());
    for flow in groups().into_iter().flat_map(|g| g.flows) {
        sources.insert(flow.source);
        destinations.insert(flow.destination);
    }
    (sources.into_iter().collect(), destinations.into_iter().collect())
}

#[test]
fn the_kernel_does_what_the_simulator_says() {
    let lab = Lab::new();
    let (sources, destinations) = ends();
    let groups = groups();
    let pick = (0..groups.len(), 0..sources.len(), 0..destinations.len());
    let mut runner =
        proptest::test_runner::TestRunner::new(ProptestConfig { cases: 120, ..ProptestConfig::default() });
    let asked = runner.run(&pick, |(group, source, destination)| {
        let group = &groups[group];
        let source: IpAddr = sources[source].parse().unwrap();
        let (name, to) = destinations[destination].split_once(' ').unwrap();
        let to: SocketAddr = to.parse().unwrap();
        let loopback = to.ip().is_loopback() && Lab::link(source).is_some();
        prop_assume!(source.is_ipv4() == to.is_ipv4() && lab.has(source) && name != "sctp" && !loopback);
        let rules = compile(&group.map(), &group.node, Family::of(source));
        netns::enter(&lab.host, || Kernel::open(rules.family).unwrap().replace(&rules).unwrap()).unwrap();
        let protocol = protocol(name);
        let link = Lab::link(source);
        let packet = Packet { source, destination: to.ip(), protocol, port: to.port(), link: link.clone() };
        match simulate(&rules, &node_ips(), &packet) {
            Outcome::To(targets) => {
                // whom pods cannot be reached at does not answer, whatever the rules
                let listens = |port: u16| {
                    if protocol == 6 {
                        [80, 8443, 53, 5353].contains(&port)
                    } else {
                        [53, 81].contains(&port)
                    }
                };
                prop_assume!(targets.keys().all(|(_, port)| listens(*port)));
                // the tables say of some pods here that they are elsewhere: these cannot be sent to themselves
                prop_assume!(!targets.iter().any(|((ip, _), masqueraded)| *ip == source && !masqueraded));
                let seen = lab.meet(source, protocol == 6, to, 1).pop_first().unwrap();
                let Seen::Answer(at, client) = &seen else { panic!("{packet:?}: {targets:?}, but {seen:?}") };
                let at: SocketAddr = at.parse().unwrap();
                let masqueraded = targets.get(&(at.ip(), at.port()));
                prop_assert!(
                    masqueraded.is_some_and(|m| link.is_none() || *m == (*client != source)),
                    "{:?}: {:?}, but {:?}",
                    packet,
                    targets,
                    seen
                );
            }
            Outcome::Rejected(_) => {
                prop_assert_eq!(lab.meet(source, protocol == 6, to, 0), BTreeSet::from([Seen::Refused]))
            }
            Outcome::Dropped => {
                prop_assert_eq!(lab.meet(source, protocol == 6, to, 0), BTreeSet::from([Seen::Silence]))
            }
            Outcome::Untouched => {
                let seen = lab.meet(source, protocol == 6, to, 0).pop_first().unwrap();
                let elsewhere = matches!(&seen, Seen::Answer(at, _) if at != "host" && *at != to.to_string());
                prop_assert!(!elsewhere, "{:?} is left alone, but {:?}", packet, seen);
            }
        }
        Ok(())
    });
    if let Err(failure) = asked {
        panic!("{failure}");
    }
}
