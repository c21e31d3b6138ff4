//! Tables and laws of the codec.

use proptest::prelude::*;

use super::*;

fn name(text: &str) -> Name {
    Name::from_text(text).unwrap()
}

fn query(text: &str, kind: u16, size: Option<u16>) -> Query {
    let mut query = Query::new(7, &name(text), kind, false, false);
    query.edns = size.map(|size| Edns { size, dnssec: false, version: 0 });
    query
}

#[test]
fn a_question_comes_back_as_it_was() {
    let mut message = query("web.default.svc.cluster.local", kind::A, None).write();
    message[13..16].copy_from_slice(b"WeB");
    let read = Query::read(&message).unwrap();
    assert_eq!((read.id, read.recursion, &read.name), (7, true, &name("web.default.svc.cluster.local")));
    let answer = read.refusal(Rcode::NxDomain);
    assert_eq!((&answer[13..16], answer[3] & 0xf, answer[2] & 0x80), (&b"WeB"[..], 3, 0x80));
}

#[test]
fn what_is_no_question_is_told_or_passed_over() {
    let good = query("a.b", kind::A, Some(1232)).write();
    assert!(Query::read(&good).is_ok());
    let rcode = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut message = good.clone();
        change(&mut message);
        match Query::read(&message) {
            Err(Unreadable::Refuse(rcode, answer)) => {
                assert_eq!((&answer[..2], answer[2] & 0x80), (&message[..2], 0x80));
                Some(rcode)
            }
            Err(Unreadable::Silent) => None,
            Ok(_) => panic!("it was read"),
        }
    };
    assert_eq!(rcode(&|m| m.truncate(11)), None);
    assert_eq!(rcode(&|m| m[2] |= 0x80), None, "an answer is never answered");
    assert_eq!(rcode(&|m| m[2] |= 0x28), Some(Rcode::NotImp));
    assert_eq!(rcode(&|m| m[5] = 2), Some(Rcode::FormErr));
    assert_eq!(rcode(&|m| m[5] = 0), Some(Rcode::FormErr));
    assert_eq!(rcode(&|m| m[7] = 1), Some(Rcode::FormErr));
    assert_eq!(rcode(&|m| m.truncate(14)), Some(Rcode::FormErr));
    assert_eq!(rcode(&|m| m[20] = 3), Some(Rcode::Refused), "class CHAOS");
    let version = good.len() - 5;
    assert_eq!(rcode(&|m| m[version] = 1), Some(Rcode::BadVers));
}

fn record(of: &str, data: Data) -> Record {
    Record { name: name(of), ttl: 5, data }
}

fn ips(count: u8) -> Reply {
    let ip = |n| record("web.local", Data::Ip([10, 0, 0, n].into()));
    Reply { answers: (0..count).map(ip).collect(), ..Reply::default() }
}

#[test]
fn names_are_written_once() {
    let message = ips(2).write(&query("web.local", kind::A, None), 512);
    // header, question, and twice: pointer, type, class, ttl, length, address
    assert_eq!(message.len(), 12 + 15 + 2 * 16);
    assert_eq!(&message[27..29], &[0xc0, 12]);
}

fn counts(message: &[u8]) -> [u16; 3] {
    [6, 8, 10].map(|at| u16_at(message, at).unwrap())
}

/// A message as it is read by those who do not look at TC; and whether that is set.
fn read_cut(query: &Query, message: &[u8]) -> (Passed, bool) {
    let mut message = message.to_vec();
    let cut = message[2] & 2 != 0;
    message[2] &= !2;
    (Passed::read(query, &message).unwrap(), cut)
}

#[test]
fn what_does_not_fit_is_asked_for_over_tcp() {
    for (size, limit, fit) in [(None, 512, 30), (Some(100), 512, 29), (Some(4096), 1232, 74)] {
        let query = query("web.local", kind::A, size);
        assert_eq!(query.udp_limit(), limit);
        let reply = ips(200);
        let message = reply.write(&query, query.udp_limit());
        // what fits is there, for clients that ask no further
        let (read, cut) = read_cut(&query, &message);
        assert!(cut && message.len() <= limit && message.len() > limit - 16, "{}", message.len());
        assert_eq!(read.answers(0), reply.answers[..fit]);
        let whole = reply.write(&query, usize::MAX);
        assert!(whole.len() > 3200 && whole[2] & 2 == 0);
    }
    let query = query("web.local", kind::A, None);
    let mut reply = ips(20);
    reply.extra = ips(200).answers;
    let message = reply.write(&query, 512);
    assert!(message.len() <= 512 && message[2] & 2 == 0, "what is extra is left out");
    assert_eq!(counts(&message)[0], 20);
    // who knows is told whole or not at all, and is missed only where there is no answer
    let texts = |count| (0..count).map(|n| record("web.local", Data::Txt(format!("{n:0200}")))).collect();
    let mut reply = Reply { authority: texts(3), ..ips(1) };
    let message = reply.write(&query, 512);
    assert_eq!((counts(&message), message[2] & 2), ([1, 0, 0], 0));
    reply.answers.clear();
    let message = reply.write(&query, 512);
    assert_eq!((counts(&message), message[2] & 2), ([0, 0, 0], 2));
}

#[test]
fn forty_servers_for_a_client_without_edns() {
    let query = query("web.default.svc.cluster.local", kind::A, None);
    let server = |n| record("web.default.svc.cluster.local", Data::Ip([10, 244, 0, n].into()));
    let reply = Reply { answers: (0..40).map(server).collect(), ..Reply::default() };
    let message = reply.write(&query, query.udp_limit());
    let (read, cut) = read_cut(&query, &message);
    assert!(cut && message.len() <= 512);
    assert_eq!(read.answers(0), reply.answers[..29]);
}

#[test]
fn what_is_passed_on_loses_what_is_extra_first() {
    let asked = query("web.local", kind::A, Some(1232));
    let texts = |count| (0..count).map(|n| record("web.local", Data::Txt(format!("{n:0200}")))).collect();
    let passed = |reply: &Reply| Passed::read(&asked, &reply.write(&asked, 65535)).unwrap();
    let plain = query("web.local", kind::A, None);
    let write = |reply: &Reply, limit| {
        let message = passed(reply).write(&plain, limit, 0, None);
        assert!(message.len() <= limit);
        let (read, cut) = read_cut(&plain, &message);
        assert_eq!(read.answers(0), reply.answers[..usize::from(counts(&message)[0])]);
        (counts(&message), cut)
    };
    let mut reply = Reply { extra: texts(3), ..ips(2) };
    assert_eq!(write(&reply, 512), ([2, 0, 0], false));
    assert_eq!(write(&reply, 1232), ([2, 0, 3], false));
    reply.authority = texts(1);
    assert_eq!(write(&reply, 512), ([2, 1, 0], false));
    reply.authority = texts(3);
    assert_eq!(write(&reply, 512), ([2, 0, 0], false));
    assert_eq!(write(&reply, 58), ([1, 0, 0], true));
    assert_eq!(write(&ips(40), 512), ([30, 0, 0], true));
    // without an answer, who knows is the answer
    reply.answers.clear();
    assert_eq!(write(&reply, 512), ([0, 0, 0], true));
    // what is signed may need its proof
    reply.answers = ips(2).answers;
    let mut signed = query("web.local", kind::A, Some(512));
    signed.edns.as_mut().unwrap().dnssec = true;
    let message = passed(&reply).write(&signed, 512, 0, None);
    assert_eq!((counts(&message), message[2] & 2), ([2, 0, 1], 2), "the extra one is EDNS's");
}

#[test]
fn an_answer_is_passed_on_to_whoever_asks_the_same() {
    let asked = query("web.local", kind::A, Some(1232));
    let mut reply = ips(3);
    reply.answers[1].ttl = 90;
    let message = reply.write(&asked, 1232);
    let passed = Passed::read(&asked, &message).unwrap();
    assert_eq!((passed.ttl, passed.rcode), (5, 0));
    assert_eq!(passed.answers(2)[1].ttl, 88);
    let mut other = Query::read(&query("WEB.local", kind::A, None).write()).unwrap();
    other.id = 99;
    let written = passed.write(&other, 512, 3, None);
    let again = Passed::read(&other, &written).unwrap();
    assert_eq!((again.ttl, again.answers(0)), (2, passed.answers(3)));
    assert_eq!(u16::from_be_bytes([written[10], written[11]]), 0, "no EDNS for those without");
    assert_eq!(Passed::read(&other, &passed.write(&other, 512, 3, Some(1))).unwrap().ttl, 1);
    assert!(passed.write(&other, 60, 0, None)[2] & 2 != 0);
    for (at, byte, why) in
        [(0, 1, "number"), (2, 0, "a question"), (13, b'x', "name"), (2, 0x82, "truncated")]
    {
        let mut message = message.clone();
        message[at] = byte;
        let expected = if why == "truncated" { NoAnswer::Truncated } else { NoAnswer::Other };
        assert_eq!(Passed::read(&asked, &message), Err(expected), "{why}");
    }
}

#[test]
fn no_such_name_is_remembered_as_its_soa_says() {
    let asked = query("x.local", kind::A, None);
    let soa = Data::Soa(name("ns.local"), name("h.local"), 1, 30);
    let soa = Record { name: name("local"), ttl: 60, data: soa };
    let mut reply = Reply { rcode: Rcode::NxDomain, authority: vec![soa], ..Reply::default() };
    assert_eq!(Passed::read(&asked, &reply.write(&asked, 512)).unwrap().ttl, 30);
    reply.authority.clear();
    assert_eq!(Passed::read(&asked, &reply.write(&asked, 512)).unwrap().ttl, 0);
}

fn any_name() -> impl Strategy<Value = Name> {
    prop::collection::vec("[a-z0-9_-]{1,12}", 0..5)
        .prop_map(|labels| Name::from_text(&labels.join(".")).unwrap())
}

prop_compose! {
    fn any_record()(
        name in any_name(), other in any_name(), ttl in any::<u32>(), which in 0..7, n in any::<[u16; 3]>(),
    ) -> Record {
        let data = match which {
            0 => Data::Ip(u32::from(n[0]).to_be_bytes().into()),
            1 => Data::Ip(u128::from(n[0]).to_be_bytes().into()),
            2 => Data::Cname(other),
            3 => Data::Ptr(other),
            4 => Data::Srv(n[0], n[1], n[2], other),
            5 => Data::Txt(format!("{n:?}")),
            _ => Data::Soa(other, name.clone(), ttl, 5),
        };
        Record { name, ttl, data }
    }
}

proptest! {
    #[test]
    fn what_is_written_is_read(
        asked in any_name(), id in any::<u16>(), edns in any::<bool>(),
        answers in prop::collection::vec(any_record(), 0..12), cut in any::<prop::sample::Index>(),
    ) {
        let mut query = Query::new(id, &asked, kind::A, true, false);
        if !edns {
            query.edns = None;
        }
        let read = Query::read(&query.write());
        prop_assert_eq!(read.as_ref(), Ok(&query));
        let reply = Reply { answers: answers.clone(), ..Reply::default() };
        let message = reply.write(&query, usize::MAX);
        let passed = Passed::read(&query, &message).unwrap();
        let known = |r: &Record| matches!(r.data, Data::Ip(_) | Data::Cname(_));
        let expected: Vec<Record> = answers.into_iter().filter(known).collect();
        prop_assert_eq!(passed.answers(0), expected);
        // nothing is added or lost on its way through
        let through = passed.write(&query, usize::MAX, 0, None);
        prop_assert_eq!(Passed::read(&query, &through).unwrap(), passed);
        let cut = cut.index(message.len());
        let _ = (Query::read(&message[..cut]), Passed::read(&query, &message[..cut]));
    }

    #[test]
    fn what_is_cut_is_read(
        asked in any_name(), edns in any::<bool>(), dnssec in any::<bool>(), limit in 300..1400usize,
        answers in prop::collection::vec(any_record(), 0..30),
        authority in prop::collection::vec(any_record(), 0..20),
        extra in prop::collection::vec(any_record(), 0..20),
    ) {
        let mut query = Query::new(7, &asked, kind::A, dnssec, false);
        if !edns {
            query.edns = None;
        }
        let reply = Reply { answers, authority, extra, ..Reply::default() };
        let all = [reply.answers.len(), reply.authority.len(), reply.extra.len()];
        let opt = usize::from(edns);
        let whole = Passed::read(&query, &reply.write(&query, usize::MAX)).unwrap();
        for message in [reply.write(&query, limit), whole.write(&query, limit, 0, None)] {
            prop_assert!(message.len() <= limit);
            let (read, cut) = read_cut(&query, &message);
            let found = counts(&message).map(usize::from);
            // each section begins as it did, and no later one is told where an earlier one is not
            let known = |r: &&Record| matches!(r.data, Data::Ip(_) | Data::Cname(_));
            let expected: Vec<Record> = reply.answers[..found[0]].iter().filter(known).cloned().collect();
            prop_assert_eq!(read.answers(0), expected);
            prop_assert!(found[1] == 0 || found[1] == all[1] && found[0] == all[0]);
            prop_assert!(found[2] == opt || found[1] == all[1] && found[0] == all[0]);
            prop_assert!(cut || found[0] == all[0] && (found[0] > 0 || found[1] == all[1]));
            // and what is cut already is not cut again
            let again = read.write(&query, limit, 0, None);
            prop_assert_eq!(counts(&again), counts(&message));
        }
    }

    #[test]
    fn any_bytes(message in prop::collection::vec(any::<u8>(), 0..300), damage in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let _ = Query::read(&message);
        let query = Query::new(1, &Name::from_text("a.b").unwrap(), kind::A, false, false);
        let _ = Passed::read(&query, &message);
        let mut answer = ips(3).write(&query, 1232);
        let at = damage.index(answer.len());
        answer[at] = byte;
        if let Ok(passed) = Passed::read(&query, &answer) {
            let limit = query.udp_limit();
            prop_assert!(passed.write(&query, limit, 1, None).len() <= limit);
            let _ = passed.answers(9);
        }
        if let Ok(query) = Query::read(&answer) {
            prop_assert!(ips(200).write(&query, query.udp_limit()).len() <= query.udp_limit());
        }
    }
}
