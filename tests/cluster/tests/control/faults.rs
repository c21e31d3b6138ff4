//! Bad luck: answers are lost, requests refused, processes killed. Nothing is made twice and nothing is forgotten.

use std::collections::BTreeSet;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use client::{Body, Local, Query, WatchEvent};
use http::{Method, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Frame;
use proto_kube::object;
use serde_json::json;

use crate::cluster::{Between, Cluster, deployment, node_of, of};

fn answer(code: u16, status: &serde_json::Value) -> Response<Body> {
    let body = Full::from(status.to_string()).map_err(|never| match never {}).boxed_unsync();
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::from_u16(code).unwrap();
    response
}

/// Every third write has an accident, of four kinds in turn: not done and 500; done, but 500; too busy; done, but 504.
fn unreliable() -> Between {
    let count = Arc::new(AtomicUsize::new(0));
    Arc::new(move |local: Local| -> Local {
        let count = count.clone();
        Arc::new(move |request| {
            let n = if request.method() == Method::GET { 1 } else { count.fetch_add(1, Ordering::Relaxed) };
            if !n.is_multiple_of(3) {
                return local(request);
            }
            let failure =
                |code: u16| answer(code, &json!({"kind": "Status", "status": "Failure", "code": code}));
            match (n / 3) % 4 {
                0 => Box::pin(async move { failure(500) }),
                2 => Box::pin(async move { failure(429) }),
                kind => {
                    let done = local(request);
                    Box::pin(async move {
                        drop(done.await.into_body().collect().await);
                        failure(if kind == 1 { 500 } else { 504 })
                    })
                }
            }
        })
    })
}

/// A body that breaks off after so many frames.
struct Cut(Body, usize);

impl hyper::body::Body for Cut {
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if self.1 == 0 {
            return Poll::Ready(Some(Err("the connection broke".into())));
        }
        let frame = Pin::new(&mut self.0).poll_frame(context);
        self.1 -= usize::from(frame.is_ready());
        frame
    }
}

/// Every watch breaks off after some frames, in the middle of an event or not, and every fourth read fails.
fn forgetful() -> Between {
    let count = Arc::new(AtomicUsize::new(0));
    Arc::new(move |local: Local| -> Local {
        let count = count.clone();
        Arc::new(move |request| {
            if request.method() != Method::GET {
                return local(request);
            }
            let n = count.fetch_add(1, Ordering::Relaxed);
            let is_watch = request.uri().query().is_some_and(|query| query.contains("watch=true"));
            let answered = local(request);
            Box::pin(async move {
                match n % 4 {
                    1 => answer(500, &json!({"kind": "Status", "status": "Failure", "code": 500})),
                    _ if is_watch => answered.await.map(|body| Cut(body, n % 7).boxed_unsync()),
                    _ => answered.await,
                }
            })
        })
    })
}

/// All pods that there ever were, and on which nodes each was.
async fn history(cluster: &Cluster) -> (BTreeSet<String>, BTreeSet<(String, String)>) {
    let query = Query::default().with("resourceVersion", "1").with("timeoutSeconds", "1");
    let mut watch = cluster.admin.watch(of("pods"), "", query).await.unwrap();
    let (mut pods, mut bindings) = (BTreeSet::new(), BTreeSet::new());
    while let Ok(Some(event)) = watch.next().await {
        if let WatchEvent::Added(pod) | WatchEvent::Modified(pod) = event {
            pods.insert(object::uid(&pod).to_owned());
            if !node_of(&pod).is_empty() {
                bindings.insert((object::uid(&pod).to_owned(), node_of(&pod).to_owned()));
            }
        }
    }
    (pods, bindings)
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_answers_make_nothing_twice() {
    let cluster = Cluster::start().await;
    let control = cluster.control_behind("one", false, Some(unreliable()));
    for name in ["a", "b"] {
        cluster.node(name, "64", json!({})).await;
    }
    cluster.create("deployments", "default", deployment("web", 60, "10m")).await;
    cluster.bound(60).await;
    let ready = |set: &[serde_json::Value]| set.iter().any(|set| set["status"]["replicas"] == 60);
    cluster.until_all("replicasets", ready).await;
    let (pods, bindings) = history(&cluster).await;
    assert_eq!((pods.len(), bindings.len()), (60, 60));
    control.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn broken_watches_lose_nothing() {
    let cluster = Cluster::start().await;
    let control = cluster.control_behind("one", false, Some(forgetful()));
    for name in ["a", "b"] {
        cluster.node(name, "64", json!({})).await;
    }
    cluster.create("deployments", "default", deployment("web", 40, "10m")).await;
    cluster.bound(40).await;
    let (pods, bindings) = history(&cluster).await;
    assert_eq!((pods.len(), bindings.len()), (40, 40));
    control.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_process_leaves_nothing_undone() {
    let cluster = Cluster::start().await;
    for name in ["a", "b"] {
        cluster.node(name, "64", json!({})).await;
    }
    cluster.create("deployments", "default", deployment("web", 100, "10m")).await;
    for life in 1.. {
        let control = cluster.control("one", false);
        let wanted = (life * 20).min(100);
        cluster.bound(wanted).await;
        control.kill();
        if wanted == 100 {
            break;
        }
    }
    let (pods, bindings) = history(&cluster).await;
    assert_eq!((pods.len(), bindings.len()), (100, 100));
}
