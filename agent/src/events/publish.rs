//! Tells the API server what happens. While it is away events wait, up to a bound; the oldest of them give way.

use std::collections::VecDeque;
use std::time::Duration;

use agent_core::event::Event;
use agent_core::time;
use client::{Client, ClientError, Patch, Query};
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::sync::mpsc::UnboundedReceiver;

use super::correlate::{Correlator, Told};
use super::{Subject, about};
use crate::config::events;

/// How many events wait for a server that is away.
const WAITING_MAX: usize = 1000;
/// The first and the longest pause after a request that failed.
const AGAIN_MIN: Duration = Duration::from_millis(200);
const AGAIN_MAX: Duration = Duration::from_secs(10);

/// Something happened.
pub(crate) type Record = (Subject, Event, Timestamp);

/// Tells what `records` say until there are no more of them.
pub(crate) async fn run(client: Client, node: String, mut records: UnboundedReceiver<Record>) {
    let mut correlator = Correlator::default();
    let mut waiting: VecDeque<Told> = VecDeque::new();
    let mut pause = AGAIN_MIN;
    loop {
        let Some(next) = waiting.front() else {
            let Some(record) = records.recv().await else { return };
            take(&mut correlator, &mut waiting, record);
            continue;
        };
        match tell(&client, &node, next).await {
            Ok(()) => {
                waiting.pop_front();
                pause = AGAIN_MIN;
            }
            Err(error) => match error.code() {
                // It was there and is gone: it is told anew.
                Some(404) if waiting.front().is_some_and(|told| told.count > 1) => {
                    if let Some(told) = waiting.front_mut() {
                        correlator.forget(&told.name);
                        told.count = 1;
                    }
                }
                // Its namespace is gone or ends, or it is no good: nobody will ever take it.
                Some(400 | 403 | 404 | 409 | 422) => {
                    tracing::debug!(%error, "an event is not taken by the API server");
                    waiting.pop_front();
                }
                _ => {
                    tracing::debug!(%error, waiting = waiting.len(), "events cannot be told; trying again");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(AGAIN_MAX);
                }
            },
        }
        while let Ok(record) = records.try_recv() {
            take(&mut correlator, &mut waiting, record);
        }
    }
}

/// Puts an event where it waits. One of its kind that waits already tells it, too.
fn take(correlator: &mut Correlator, waiting: &mut VecDeque<Told>, (subject, event, at): Record) {
    let Some(told) = correlator.take(&subject, &event, at) else { return };
    if let Some(same) = waiting.iter_mut().find(|w| w.name == told.name) {
        // What has not been told yet is created with its count.
        *same = told;
        return;
    }
    if waiting.len() == WAITING_MAX {
        tracing::warn!("{WAITING_MAX} events wait for the API server; the oldest is dropped");
        waiting.pop_front();
    }
    waiting.push_back(told);
}

async fn tell(client: &Client, node: &str, told: &Told) -> Result<(), ClientError> {
    let namespace = match told.subject.namespace.as_str() {
        "" => "default",
        namespace => namespace,
    };
    if told.count > 1 {
        let body = json!({"count": told.count, "message": told.event.message,
            "lastTimestamp": time::k8s(told.last)});
        let what = (events(), namespace, told.name.as_str());
        let patch = (Patch::Strategic, &body);
        match client.patch(what, None, patch, Query::default()).await {
            Err(error) if error.code() == Some(404) => {}
            result => return result.map(drop),
        }
    }
    client.create(events(), namespace, &object(told, namespace, node), Query::default()).await.map(drop)
}

fn object(told: &Told, namespace: &str, node: &str) -> Value {
    let Told { subject, event, name, first, last, count } = told;
    json!({
        "kind": "Event", "apiVersion": "v1",
        "metadata": {"name": name, "namespace": namespace},
        "involvedObject": about(subject, event), "reason": event.reason, "message": event.message,
        "type": if event.warning { "Warning" } else { "Normal" },
        "firstTimestamp": time::k8s(*first), "lastTimestamp": time::k8s(*last), "count": count,
        "source": {"component": "kubelet", "host": node},
        "reportingComponent": "kubelet", "reportingInstance": node,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_is_told_once() {
        let (mut correlator, mut waiting) = (Correlator::default(), VecDeque::new());
        let subject = |name: &str| Subject { namespace: "d".into(), name: name.into(), uid: "u".into() };
        let now = Timestamp::UNIX_EPOCH;
        for _ in 0..3 {
            take(&mut correlator, &mut waiting, (subject("p"), Event::new(false, "R", "m"), now));
        }
        assert_eq!((waiting.len(), waiting[0].count), (1, 3));
        for n in 0..2 * WAITING_MAX {
            let record = (subject(&n.to_string()), Event::new(false, "R", "m"), now);
            take(&mut correlator, &mut waiting, record);
        }
        assert_eq!(waiting.len(), WAITING_MAX);
    }

    #[test]
    fn a_nodes_events_are_in_default() {
        let subject = Subject::node("n");
        let told =
            Correlator::default().take(&subject, &Event::new(false, "Starting", "m"), Timestamp::UNIX_EPOCH);
        let event = object(&told.unwrap(), "default", "n");
        assert_eq!(
            event["involvedObject"],
            json!({"kind": "Node", "apiVersion": "v1", "name": "n", "uid": "n"})
        );
        assert_eq!(event["metadata"]["namespace"], "default");
    }
}
