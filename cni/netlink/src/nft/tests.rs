//! Against the kernel and, as the judge of what we wrote, the program `nft`.

use std::os::fd::{AsFd, OwnedFd};
use std::process::Command;

use super::*;

fn namespace() -> (OwnedFd, Nft) {
    let netns = netns::create().unwrap();
    let nft = Nft::open_in(&netns).unwrap();
    (netns, nft)
}

/// `nft list ruleset` in a namespace.
fn ruleset(netns: impl AsFd) -> String {
    let output = netns::enter(netns, || Command::new("nft").args(["list", "ruleset"]).output()).unwrap();
    let output = output.expect("this test needs nft: apt-get install nftables");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

const LOCAL: [u8; 4] = 2u32.to_ne_bytes();

/// Every expression, set type and verdict once.
fn everything() -> Batch {
    let mut batch = Batch::new(Family::Inet, "test");
    batch.add_table();
    let base = |kind, hook, priority| Some(Base { kind, hook, priority, accept: true });
    batch.add_chain("prerouting", base("nat", Hook::Prerouting, -100));
    batch.add_chain("postrouting", base("nat", Hook::Postrouting, 100));
    batch.add_chain("forward", base("filter", Hook::Forward, 0));
    batch.add_chain("net-1", None);
    let (v4, proto, port) = (TypeId::Ipv4, TypeId::Proto, TypeId::Port);
    for (name, ip) in [("ports4", v4), ("ports6", TypeId::Ipv6)] {
        let (key, data) = ([ip, proto, port], [ip, port]);
        batch.add_set(&Set { name, key: &key, data: &data, verdicts: false, interval: false });
    }
    batch.add_set(&Set { name: "pods4", key: &[v4], data: &[], verdicts: true, interval: false });
    batch.add_set(&Set { name: "ranges4", key: &[v4], data: &[], verdicts: false, interval: true });
    batch.add_set(&Set { name: "pairs4", key: &[v4, v4], data: &[], verdicts: false, interval: true });
    for (family, name, port) in [(Family::Ip, "ports4", 2), (Family::Ip6, "ports6", 5)] {
        let rule = Rule::new().meta(0, Meta::Family).cmp(0, Cmp::Eq, &[family as u8]);
        let rule = rule.destination_type(0).cmp(0, Cmp::Eq, &LOCAL).destination(0, family);
        let rule = rule.meta(port - 1, Meta::L4Proto).port(port).map(0, name, 0);
        batch.add_rule("prerouting", &rule.dnat(family, 0, port - 1).with_comment("hostports"));
    }
    let masq = Rule::new().meta(0, Meta::Family).cmp(0, Cmp::Eq, &[2]).source(0, Family::Ip).vmap(0, "pods4");
    batch.add_rule("postrouting", &masq);
    let inside = Rule::new().meta(0, Meta::Family).cmp(0, Cmp::Eq, &[2]).destination(0, Family::Ip);
    let inside = inside.bitwise(0, &[255, 255, 0, 0], &[0; 4]).cmp(0, Cmp::Eq, &[10, 88, 0, 0]);
    batch.add_rule("net-1", &inside.counter().verdict(Verdict::Return));
    batch.add_rule("net-1", &Rule::new().masquerade());
    let marked = Rule::new().meta(0, Meta::L4Proto).cmp(0, Cmp::Eq, &[6]);
    let marked = marked.ct(0, Ct::OriginalPort).cmp(0, Cmp::Eq, &80u16.to_be_bytes());
    let marked = marked.immediate(0, &1u32.to_ne_bytes()).set_mark(0).verdict(Verdict::Accept);
    batch.add_rule("forward", &marked);
    let sets = Rule::new().meta(0, Meta::Family).cmp(0, Cmp::Eq, &[2]).source(0, Family::Ip);
    let sets = sets.lookup(0, "ranges4", true).destination(1, Family::Ip).lookup(0, "pairs4", false);
    batch.add_rule("forward", &sets.verdict(Verdict::Drop));
    elements(&mut batch);
    batch
}

fn elements(batch: &mut Batch) {
    let element = |key: Vec<u8>, data| Element { key, last: None, data, comment: "pod a".into() };
    let (tcp, host) = ([6u8], 8080u16.to_be_bytes());
    let data = Data::Value(key(&[&[10, 88, 0, 5], &80u16.to_be_bytes()]));
    batch.add_element("ports4", &element(key(&[&[192, 0, 2, 1], &tcp, &host]), Some(data)), true);
    let data = Data::Value(key(&[&[0xfd; 16], &80u16.to_be_bytes()]));
    batch.add_element("ports6", &element(key(&[&[0xfe; 16], &tcp, &host]), Some(data)), true);
    let goto = Data::Verdict(Verdict::Goto("net-1".into()));
    batch.add_element("pods4", &element(vec![10, 88, 0, 5], Some(goto)), false);
    batch.add_range("ranges4", &[10, 0, 0, 0], &[11, 0, 0, 0]);
    let mut pair = element(key(&[&[10, 88, 0, 5], &[10, 88, 0, 0]]), None);
    pair.last = Some(key(&[&[10, 88, 0, 5], &[10, 88, 255, 255]]));
    batch.add_element("pairs4", &pair, false);
}

#[test]
fn nft_reads_what_we_write() {
    let (netns, mut nft) = namespace();
    nft.commit(&everything()).unwrap();
    let text = ruleset(&netns);
    for line in [
        "type nat hook prerouting priority dstnat; policy accept;",
        "type filter hook forward priority filter; policy accept;",
        "type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service",
        "192.0.2.1 . tcp . 8080 comment \"pod a\" : 10.88.0.5 . 80",
        "fib daddr type local dnat ip to ip daddr . meta l4proto . th dport map @ports4 comment \"hostports\"",
        "fib daddr type local dnat ip6 to ip6 daddr . meta l4proto . th dport map @ports6",
        "10.88.0.5 comment \"pod a\" : goto net-1",
        "ip saddr vmap @pods4",
        "ip daddr 10.88.0.0/16 counter packets 0 bytes 0 return",
        "elements = { 10.0.0.0/8 }",
        "10.88.0.5 . 10.88.0.0/16",
        "ip saddr != @ranges4 ip saddr . ip daddr @pairs4 drop",
        "ct original proto-dst 80 meta mark set 0x00000001 accept",
        "masquerade",
    ] {
        assert!(text.contains(line), "{line}\nis not in\n{text}");
    }
}

#[test]
fn reads_back_and_removes() {
    let (netns, mut nft) = namespace();
    assert!(!nft.has_table(Family::Inet, "test").unwrap());
    assert!(nft.rules(Family::Inet, "test").unwrap().is_empty());
    assert!(nft.elements(Family::Inet, "test", "pods4").unwrap().is_empty());
    nft.commit(&everything()).unwrap();
    assert!(nft.has_table(Family::Inet, "test").unwrap());
    let mut rules = nft.rules(Family::Inet, "test").unwrap();
    assert_eq!(rules.len(), 7);
    rules.retain(|r| r.chain == "prerouting");
    assert_eq!(rules.iter().map(|r| r.comment.as_str()).collect::<Vec<_>>(), ["hostports"; 2]);
    let found = nft.elements(Family::Inet, "test", "pods4").unwrap().remove(0);
    assert_eq!((found.key.as_slice(), found.chain.as_deref()), (&[10, 88, 0, 5][..], Some("net-1")));
    let found = nft.elements(Family::Inet, "test", "ports4").unwrap().remove(0);
    assert_eq!((found.value, found.comment.as_str()), (key(&[&[10, 88, 0, 5], &[0, 80]]), "pod a"));

    let mut batch = Batch::new(Family::Inet, "test");
    batch.delete_rule("prerouting", rules[0].handle);
    let pod = Element { key: vec![10, 88, 0, 5], last: None, data: None, comment: String::new() };
    batch.delete_element("pods4", &pod);
    batch.flush_set("ports4");
    batch.flush_chain("net-1");
    batch.delete_chain("net-1");
    nft.commit(&batch).unwrap();
    assert_eq!(nft.rules(Family::Inet, "test").unwrap().len(), 4);
    let mut batch = Batch::new(Family::Inet, "test");
    batch.delete_table();
    nft.commit(&batch).unwrap();
    assert_eq!(ruleset(&netns), "");
}

#[test]
fn refused_as_a_whole_naming_the_object() {
    let (netns, mut nft) = namespace();
    let mut batch = Batch::new(Family::Inet, "test");
    batch.add_table();
    batch.add_chain("one", None);
    batch.add_rule("two", &Rule::new().with_comment("lost"));
    let error = nft.commit(&batch).unwrap_err();
    assert_eq!(error.errno(), Some(Errno::NOENT));
    assert!(error.to_string().contains("rule \"lost\" to chain two"), "{error}");
    assert_eq!(ruleset(&netns), "");
}

#[test]
fn generation_guards_against_others() {
    let (_netns, mut nft) = namespace();
    let before = nft.generation().unwrap();
    nft.commit(&everything()).unwrap();
    let mut batch = Batch::new(Family::Inet, "test");
    batch.if_generation(before);
    batch.flush_chain("forward");
    assert_eq!(nft.commit(&batch).unwrap_err().errno(), Some(Errno::RESTART));
    batch.if_generation(nft.generation().unwrap());
    nft.commit(&batch).unwrap();
}

#[test]
fn a_thousand_elements_in_one_transaction() {
    let (_netns, mut nft) = namespace();
    let mut batch = everything();
    for n in 0..1000u16 {
        let [high, low] = n.to_be_bytes();
        let data = Some(Data::Verdict(Verdict::Goto("net-1".into())));
        batch.add_element(
            "pods4",
            &Element { key: vec![10, 1, high, low], last: None, data, comment: n.to_string() },
            true,
        );
    }
    nft.commit(&batch).unwrap();
    assert_eq!(nft.elements(Family::Inet, "test", "pods4").unwrap().len(), 1001);
}

#[test]
fn in_parts_and_packed_it_is_the_same() {
    let (whole, mut nft) = namespace();
    let mut batch = everything();
    let element = |n: u16| {
        let [high, low] = n.to_be_bytes();
        Element { key: vec![10, 1, high, low], last: None, data: None, comment: String::new() }
    };
    let elements: Vec<Element> = (0..5000).map(element).collect();
    batch.add_set(&Set { name: "many", key: &[TypeId::Ipv4], data: &[], verdicts: false, interval: false });
    let messages = batch.len();
    batch.add_elements("many", &elements);
    assert!((2..20).contains(&(batch.len() - messages)), "many elements a message");
    nft.commit(&batch).unwrap();
    let (cut, mut other) = namespace();
    let parts = batch.parts(1024);
    assert!(parts.len() > 3 && parts.iter().map(Batch::len).sum::<usize>() == batch.len());
    for part in &parts {
        other.commit(part).unwrap();
    }
    assert_eq!(ruleset(&cut), ruleset(&whole));
    let mut batch = Batch::new(Family::Inet, "test");
    batch.delete_elements("many", &elements[1..]);
    nft.commit(&batch).unwrap();
    assert_eq!(nft.elements(Family::Inet, "test", "many").unwrap().len(), 1);
}

#[test]
fn what_a_proxy_says_is_read() {
    let (netns, mut nft) = namespace();
    let mut batch = Batch::new(Family::Ip, "proxy");
    batch.add_table();
    let (v4, port) = (TypeId::Ipv4, TypeId::Port);
    let (key, data) = ([v4, TypeId::Mark], [v4, port]);
    batch.add_set(&Set { name: "endpoints", key: &key, data: &data, verdicts: false, interval: false });
    batch.add_learning_set(
        &Set { name: "clients", key: &[v4], data: &data, verdicts: false, interval: false },
        99,
    );
    let base = |kind, hook| Some(Base { kind, hook, priority: 0, accept: true });
    batch.add_chain("to", base("nat", Hook::Prerouting));
    batch.add_chain("from", base("nat", Hook::Postrouting));
    batch.add_chain("in", base("filter", Hook::Input));
    let to =
        Rule::new().destination(0, Family::Ip).random(1, 3).map(0, "endpoints", 0).dnat(Family::Ip, 0, 1);
    batch.add_rule("to", &to);
    let learn =
        Rule::new().source(0, Family::Ip).destination(1, Family::Ip).port(2).learn("clients", 0, 1, 60);
    batch.add_rule("from", &learn);
    let original = Rule::new().ct(0, Ct::OriginalDestination).cmp(0, Cmp::Eq, &[10, 0, 0, 1]);
    batch.add_rule("from", &original.source_type(0).cmp(0, Cmp::Eq, &LOCAL).masquerade_random());
    let link = Rule::new().meta(0, Meta::InputName).cmp(0, Cmp::Eq, b"cleat0\0\0\0\0\0\0\0\0\0\0");
    batch.add_rule("in", &link.meta(0, Meta::L4Proto).cmp(0, Cmp::Eq, &[6]).reset());
    batch.add_rule("in", &Rule::new().unreachable(Family::Ip));
    nft.commit(&batch).unwrap();
    let text = ruleset(&netns);
    for line in [
        "dnat ip to ip daddr . numgen random mod 3 map @endpoints",
        "update @clients { ip saddr timeout 1m : ip daddr . th dport }",
        "ct original ip daddr 10.0.0.1 fib saddr type local masquerade fully-random",
        "iifname \"cleat0\" reject with tcp reset",
        "flags dynamic,timeout",
        "size 99",
    ] {
        assert!(text.contains(line), "{line}\nis not in\n{text}");
    }
    let sets = nft.sets(Family::Ip, "proxy").unwrap();
    let endpoints = Set { name: "endpoints", key: &key, data: &data, verdicts: false, interval: false };
    assert!(sets.iter().any(|s| s.name == "endpoints" && (s.key, s.data) == endpoints.form()));
    let mut chains = nft.chains(Family::Ip, "proxy").unwrap();
    chains.sort();
    assert_eq!(chains, ["from", "in", "to"]);
    assert!(nft.table_handle(Family::Ip, "proxy").unwrap().is_some());
    assert_eq!(nft.table_handle(Family::Ip, "other").unwrap(), None);
}
