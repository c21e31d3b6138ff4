//! Writes what is said as events. Nobody waits for it. While the server does not answer events wait, up to a bound; one
//! that it refuses is lost.

use std::sync::Arc;
use std::time::Duration;

use client::{Client, ClientError, Patch, Query};
use jiff::Timestamp;
use proto_kube::{Resource, object, resource};
use serde_json::Value;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::correlate::{Correlator, Said, Write};

/// So much may wait to be written; more is not heard.
const WAITING_MAX: usize = 4096;
/// The first and the longest pause after a request that was not answered.
const AGAIN_MIN: Duration = Duration::from_millis(500);
const AGAIN_MAX: Duration = Duration::from_secs(10);

/// Who writes, by source.
type ClientOf = Arc<dyn Fn(&'static str) -> Client + Send + Sync>;

/// The ear. Clones are heard by the same writer.
#[derive(Clone)]
pub(crate) struct Recorder(mpsc::Sender<(&'static str, Said)>);

impl Recorder {
    /// A recorder, and the task that writes until the last clone is gone; from `stop` on it tries once only.
    pub(crate) fn new(
        client_of: ClientOf,
        stop: CancellationToken,
    ) -> (Self, impl Future<Output = ()> + Send) {
        let (sender, mut receiver) = mpsc::channel::<(&'static str, Said)>(WAITING_MAX);
        let task = async move {
            let mut correlator = Correlator::default();
            while let Some((source, said)) = receiver.recv().await {
                if let Some(write) = correlator.take(&said, Timestamp::now()) {
                    put(&client_of(source), write, &stop).await;
                }
            }
        };
        (Self(sender), task)
    }

    pub(crate) fn say(&self, source: &'static str, said: Said) {
        if self.0.try_send((source, said)).is_err() {
            tracing::warn!(source, "too many events wait to be written; one is lost");
        }
    }
}

async fn put(client: &Client, write: Write, stop: &CancellationToken) {
    let mut pause = AGAIN_MIN;
    while let Err(error) = attempt(client, &write).await {
        // What is refused stays refused; only who does not answer may do so later.
        if error.code().is_some_and(|code| code < 500 && code != 429) || stop.is_cancelled() {
            tracing::debug!(%error, "an event is not taken");
            return;
        }
        // Once more at the end: what happened last is what people look for.
        let _ = tokio::time::timeout(pause, stop.cancelled()).await;
        pause = (pause * 2).min(AGAIN_MAX);
    }
}

async fn attempt(client: &Client, write: &Write) -> Result<Value, ClientError> {
    match write {
        Write::Create(namespace, event) => client.create(of(event), namespace, event, Query::default()).await,
        Write::Merge(namespace, name, patch, whole) => {
            let place = (of(whole), namespace.as_str(), name.as_str());
            match client.patch(place, None, (Patch::Merge, patch), Query::default()).await {
                // Events live for an hour.
                Err(error) if error.code() == Some(404) => {
                    client.create(of(whole), namespace, whole, Query::default()).await
                }
                answer => answer,
            }
        }
    }
}

fn of(event: &Value) -> &'static Resource {
    let group = object::text(event, &["apiVersion"]).split_once('/').map_or("", |(group, _)| group);
    resource::find(group, "v1", "events").expect("both forms of events are in the catalogue")
}
