//! Watches: very many, one that does not read, and those that ask for what is not there.

use std::io::Write;

use client::{Client, ClientError, Query, WatchEvent};
use futures_util::future::join_all;
use lab::Control;
use proto_kube::object;
use serde_json::Value;

use crate::raw::{self, Raw, head};
use crate::{MAPS, assert_no_panic, blocking, client, config_map, kind, pss};

/// Connections, and watches on each: one connection takes at most 1,000 streams.
const IDLE: (usize, usize) = (6, 900);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousands_that_idle() {
    let control = blocking(|| Control::start().unwrap()).await;
    let before = pss(&control);
    let mut watches = Vec::new();
    for _ in 0..IDLE.0 {
        let client = client(&control, "idle");
        let query = || Query::default().with("fieldSelector", "metadata.name=seen");
        let opened =
            join_all((0..IDLE.1).map(|_| client.watch(kind("configmaps"), "default", query()))).await;
        watches.extend(opened.into_iter().map(Result::unwrap));
    }
    let with = pss(&control);
    println!("{} idle watches: {before} -> {with} MiB", watches.len());
    assert!(with < before + 200, "{before} -> {with} MiB");
    let writer = client(&control, "writer");
    let made = make(&writer, "seen", "1").await;
    for event in join_all(watches.iter_mut().map(client::Watch::next)).await {
        assert_eq!(event.unwrap(), Some(WatchEvent::Added(made.clone())));
    }
    println!("after an event: {} MiB", pss(&control));
    assert!(pss(&control) < before + 200, "{} MiB", pss(&control));
    assert_no_panic(&control);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_never_reads() {
    const WRITES: usize = 80;
    let control = blocking(|| Control::start().unwrap()).await;
    let (writer, reader) = (client(&control, "writer"), client(&control, "reader"));
    let made = make(&writer, "busy", "").await;
    let revision = object::text(&made, &["metadata", "resourceVersion"]).to_owned();
    let path = format!("{MAPS}?watch=true&resourceVersion={revision}");
    let raw = Raw::admin(&control);
    let deaf = blocking({
        let (raw, request) = (raw.clone(), head("GET", &path, &[("connection", "close")]) + "\r\n");
        move || {
            let mut stream = raw.connect();
            stream.write_all(request.as_bytes()).unwrap();
            stream
        }
    })
    .await;
    let query = Query::default().with("resourceVersion", &revision);
    let mut watch = reader.watch(kind("configmaps"), "default", query).await.unwrap();
    let before = pss(&control);
    // More than the history holds: a watch that has read none of it is lost.
    for number in 0..WRITES {
        let map = config_map("busy", &format!("{number}").repeat(300_000));
        let mut map = object_of(map, 700_000);
        map["metadata"]["namespace"] = "default".into();
        writer.update(kind("configmaps"), None, &map, Query::default()).await.unwrap();
        match watch.next().await.unwrap().unwrap() {
            WatchEvent::Modified(seen) => assert_eq!(seen["data"], map["data"], "event {number}"),
            other => panic!("{other:?}"),
        }
    }
    let after = pss(&control);
    println!("{WRITES} events of 700 kB past a watch that does not read: {before} -> {after} MiB");
    assert!(after < before + 250, "{before} -> {after} MiB");
    // When it reads at last it gets what was on its way, learns that it is too late, and is done.
    let told = blocking(move || raw::finish(deaf).expect("an answer")).await;
    assert_eq!(told.code, 200);
    let lines: Vec<&[u8]> = told.body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).collect();
    assert!(lines.len() < WRITES / 2, "{} events", lines.len());
    let last: Value = serde_json::from_slice(lines.last().unwrap()).unwrap();
    assert_eq!((&last["type"], &last["object"]["code"]), (&"ERROR".into(), &410.into()), "{last}");
    assert_eq!(last["object"]["reason"], "Expired");
    // So does one that asks for that past anew, and a list of it.
    let query = || Query::default().with("resourceVersion", &revision);
    let gone = match reader.watch(kind("configmaps"), "default", query()).await {
        Ok(mut watch) => watch.next().await.map(drop),
        Err(error) => Err(error),
    };
    assert_eq!(code(gone), 410);
    let exact = query().with("resourceVersionMatch", "Exact");
    assert_eq!(code(reader.list(kind("configmaps"), "default", exact).await), 410);
    assert_no_panic(&control);
}

async fn make(client: &Client, name: &str, value: &str) -> Value {
    let map = config_map(name, value);
    client.create(kind("configmaps"), "default", &map, Query::default()).await.unwrap()
}

/// Cuts the value of a config map to a length.
fn object_of(mut map: Value, length: usize) -> Value {
    let value = map["data"]["k"].as_str().unwrap();
    map["data"]["k"] = value[..value.len().min(length)].into();
    map
}

fn code<T>(answer: Result<T, ClientError>) -> u16 {
    let error = answer.err().expect("a refusal");
    assert!(matches!(&error, ClientError::Refused { reason, .. } if !reason.is_empty()), "{error:?}");
    error.code().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn from_the_future() {
    let control = blocking(|| Control::start().unwrap()).await;
    let client = client(&control, "early");
    let future = || Query::default().with("resourceVersion", "9999999");
    let streamed = future()
        .with("sendInitialEvents", "true")
        .with("resourceVersionMatch", "NotOlderThan")
        .with("allowWatchBookmarks", "true");
    let early = match client.watch(kind("configmaps"), "default", streamed).await {
        Ok(mut watch) => watch.next().await.map(drop),
        Err(error) => Err(error),
    };
    assert_eq!(code(early), 504);
    let newer = future().with("resourceVersionMatch", "NotOlderThan");
    assert_eq!(code(client.list(kind("configmaps"), "default", newer).await), 504);
    // A plain watch of the future waits for it, as upstream's does; it is told nothing of the time before.
    let mut watch = client.watch(kind("configmaps"), "default", future()).await.unwrap();
    make(&client, "a", "1").await;
    tokio::select! {
        event = watch.next() => panic!("told of the past: {event:?}"),
        list = client.list(kind("configmaps"), "default", Query::default()) => drop(list.unwrap()),
    }
    assert_no_panic(&control);
}
