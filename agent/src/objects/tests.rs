//! The objects against a small API server: one that knows two config maps.

use std::convert::Infallible;

use client::{Body, Client, Local};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use serde_json::json;
use tokio::sync::{broadcast, mpsc};
use tokio_stream::StreamExt;

use super::*;

/// An API server with a list of config maps, and a watch for each who asks.
#[derive(Clone)]
struct Server {
    maps: Arc<Mutex<BTreeMap<String, Value>>>,
    events: broadcast::Sender<(String, Value)>,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Server {
    fn new() -> Self {
        Self { maps: Arc::default(), events: broadcast::channel(100).0, asked: Arc::default() }
    }

    fn put(&self, name: &str, text: &str, immutable: bool) {
        let map = json!({"metadata": {"name": name, "namespace": "ns", "resourceVersion": text},
            "data": {"k": text}, "immutable": immutable});
        self.maps.lock().unwrap().insert(name.to_owned(), map.clone());
        let _ = self.events.send((name.to_owned(), json!({"type": "MODIFIED", "object": map})));
    }

    fn remove(&self, name: &str) {
        let map = self.maps.lock().unwrap().remove(name).unwrap();
        let _ = self.events.send((name.to_owned(), json!({"type": "DELETED", "object": map})));
    }

    fn client(&self) -> Client {
        let server = self.clone();
        let local: Local = Arc::new(move |request| {
            let server = server.clone();
            Box::pin(async move { server.answer(request.uri().to_string()) })
        });
        Client::local(local, "test/1")
    }

    fn answer(&self, uri: String) -> http::Response<Body> {
        let name = uri.split("metadata.name%3D").nth(1).unwrap_or_default().split('&').next().unwrap();
        let name = name.to_owned();
        let watch = uri.contains("watch=true");
        self.asked.lock().unwrap().push(format!("{}{name}", if watch { "watch " } else { "list " }));
        if watch {
            let events = tokio_stream::wrappers::BroadcastStream::new(self.events.subscribe());
            let lines = events.filter_map(move |event| {
                let (of, event) = event.ok()?;
                (of == name).then(|| Ok::<_, Infallible>(Frame::data(format!("{event}\n").into())))
            });
            return http::Response::new(StreamBody::new(lines).map_err(Into::into).boxed_unsync());
        }
        let items: Vec<Value> = self.maps.lock().unwrap().get(&name).cloned().into_iter().collect();
        let list = json!({"metadata": {"resourceVersion": "1"}, "items": items}).to_string();
        http::Response::new(http_body_util::Full::from(list).map_err(Into::into).boxed_unsync())
    }

    /// Waits until a watch of a map has begun.
    async fn watched(&self, name: &str) {
        while !self.asked.lock().unwrap().contains(&format!("watch {name}")) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

fn map(name: &str) -> BTreeSet<Reference> {
    [Reference::new(Kind::ConfigMap, name)].into()
}

async fn read(objects: &Objects, name: &str) -> String {
    let all = objects.read("ns", &map(name)).await;
    match &all.0[&Reference::new(Kind::ConfigMap, name)] {
        Ok(data) => String::from_utf8(data.data["k"].clone()).unwrap(),
        Err(why) => format!("{why:?}"),
    }
}

fn lab() -> (Server, Objects, mpsc::UnboundedReceiver<Happening>) {
    let server = Server::new();
    let (sender, happenings) = mpsc::unbounded_channel();
    let objects = Objects::new(Some(&Cache::new(server.client())), sender);
    (server, objects, happenings)
}

async fn changed(happenings: &mut mpsc::UnboundedReceiver<Happening>) -> String {
    match happenings.recv().await {
        Some(Happening::Objects(uids)) => uids.into_iter().collect::<Vec<_>>().join(" "),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn objects_are_followed_once_and_let_go() {
    let (server, objects, mut happenings) = lab();
    server.put("m", "1", false);
    objects.hold("a", "ns", map("m"));
    objects.hold("b", "ns", map("m"));
    assert_eq!(read(&objects, "m").await, "1");
    assert_eq!(changed(&mut happenings).await, "a b");
    server.watched("m").await;
    server.put("m", "2", false);
    assert_eq!(changed(&mut happenings).await, "a b");
    assert_eq!(read(&objects, "m").await, "2");
    objects.release("a");
    server.remove("m");
    assert_eq!(changed(&mut happenings).await, "b");
    assert_eq!(read(&objects, "m").await, "NotFound");
    assert_eq!(*server.asked.lock().unwrap(), ["list m", "watch m"], "one watch serves all");
    objects.hold("b", "ns", BTreeSet::new());
    while server.events.receiver_count() > 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn what_cannot_change_is_not_watched() {
    let (server, objects, mut happenings) = lab();
    server.put("m", "1", true);
    objects.hold("a", "ns", map("m"));
    assert_eq!(changed(&mut happenings).await, "a");
    assert_eq!(read(&objects, "m").await, "1");
    assert_eq!(*server.asked.lock().unwrap(), ["list m"]);
    objects.hold("b", "ns", map("m"));
    assert_eq!(read(&objects, "m").await, "1", "whoever comes later finds it");
}

#[tokio::test(start_paused = true)]
async fn what_nobody_knows_is_told() {
    let (_server, objects, _happenings) = lab();
    let unknown = read(&objects, "not-held").await;
    assert!(unknown.contains("failed to sync configmap cache"), "{unknown}");
    let (sender, _receiver) = mpsc::unbounded_channel();
    let alone = Objects::new(None, sender);
    alone.hold("a", "ns", map("m"));
    assert!(read(&alone, "m").await.contains("has no API server"));
}
