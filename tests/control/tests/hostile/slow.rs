//! Clients that begin and do not go on.

use std::io::Write;

use lab::Control;

use crate::raw::{self, Raw, Stream, head};
use crate::{MAPS, assert_no_panic, config_map, pss};

/// How many connections of each kind hang.
const HANGING: usize = 150;
/// How many large bodies of one user hang: more than the server would hold of him.
const LARGE: usize = 100;

#[test]
fn half_sent_requests_hold_nobody_up() {
    let control = Control::start().unwrap();
    let raw = Raw::admin(&control);
    let body = config_map("half", "1").to_string();
    let length = (body.len() + 1).to_string();
    let begin = head("POST", MAPS, &[("content-type", "application/json"), ("content-length", &length)]);
    let send = |bytes: String| -> Stream {
        let mut stream = raw.connect();
        stream.write_all(bytes.as_bytes()).unwrap();
        stream.flush().unwrap();
        stream
    };
    let silent: Vec<_> = (0..HANGING).map(|_| raw.bare()).collect();
    let heads: Vec<_> = (0..HANGING).map(|_| send(begin.clone())).collect();
    let bodies: Vec<_> = (0..HANGING).map(|_| send(format!("{begin}\r\n{body}"))).collect();
    // More of them than there are seats: a request takes its seat when all of it is here.
    for _ in 0..20 {
        assert_eq!(raw.get(MAPS).code, 200);
    }
    let made = raw.ask(
        "POST",
        MAPS,
        &[("content-type", "application/json")],
        config_map("whole", "1").to_string().as_bytes(),
    );
    assert_eq!(made.code, 201, "{}", made.text());
    // Slow-loris: a byte at a time is no way to keep a request alive beyond its time.
    let path = format!("{MAPS}?timeout=1s");
    let begin = head("POST", &path, &[("content-type", "application/json"), ("content-length", &length)]);
    let late = raw::finish(send(format!("{begin}\r\n{body}"))).expect("an answer");
    assert_eq!(late.code, 504, "{}", late.text());
    late.assert_status("half a body");
    println!("{} hanging connections: {} MiB", 3 * HANGING, pss(&control));
    assert!(pss(&control) < 200, "{} MiB", pss(&control));
    drop((silent, heads, bodies));
    assert_eq!(raw.get(&format!("{MAPS}/half")).code, 404, "half an object was stored");
    assert_eq!(raw.get(&format!("{MAPS}/whole")).code, 200);
    assert_no_panic(&control);
}

#[test]
fn half_sent_bodies_fill_no_more_than_a_share() {
    let control = Control::start().unwrap();
    let raw = Raw::admin(&control);
    let before = pss(&control);
    let length = 3 << 20;
    let begin = head(
        "POST",
        MAPS,
        &[
            ("content-type", "application/json"),
            ("content-length", &length.to_string()),
            ("impersonate-user", "noisy"),
            ("impersonate-group", "system:masters"),
        ],
    );
    let bytes = [begin.as_bytes(), b"\r\n", &vec![b' '; length - 1]].concat();
    let bodies: Vec<_> = (0..LARGE)
        .map(|_| {
            let mut stream = raw.connect();
            stream.write_all(&bytes).unwrap();
            stream.flush().unwrap();
            stream
        })
        .collect();
    let body = config_map("quiet", "1").to_string();
    let made = raw.ask("POST", MAPS, &[("content-type", "application/json")], body.as_bytes());
    assert_eq!(made.code, 201, "{}", made.text());
    assert_eq!(raw.get(&format!("{MAPS}/quiet")).code, 200);
    let after = pss(&control);
    println!("{LARGE} bodies of 3 MiB but for a byte: {before} MiB before, {after} MiB then");
    assert!(after - before < 200, "{before} MiB before, {after} MiB then");
    drop(bodies);
    assert_no_panic(&control);
}
