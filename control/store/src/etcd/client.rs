//! The connections to etcd's members: one at a time is used, the next one when it fails.

use std::{
    error::Error as StdError,
    fs,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use proto_etcd::{
    CompactionRequest, LeaseGrantRequest, RangeRequest, RangeResponse, TxnRequest, TxnResponse,
    kv_client::KvClient, lease_client::LeaseClient, watch_client::WatchClient,
};
use tonic::{
    Code, Status,
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity},
};

use crate::{Error, Etcd, Tls};

/// How long a member may take for one answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often a connection is probed, and how long the probe may take.
const PROBE: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(5));

/// A cluster of etcd.
#[derive(Clone)]
pub(super) struct Client {
    members: Arc<[Channel]>,
    /// Which member is asked.
    at: Arc<AtomicUsize>,
    names: Arc<str>,
}

impl Client {
    /// Prepares the connections; they are made when they are needed.
    pub(super) fn new(etcd: &Etcd) -> Result<Client, Error> {
        let names: Arc<str> = etcd.endpoints.join(",").into();
        let unusable = |reason: String| Error::Unavailable { endpoints: names.to_string(), reason };
        let read =
            |path: &Path| fs::read(path).map_err(|error| unusable(format!("{}: {error}", path.display())));
        let tls = match &etcd.tls {
            Some(Tls { ca, certificate, key }) => {
                let config = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(read(ca)?));
                Some(config.identity(Identity::from_pem(read(certificate)?, read(key)?)))
            }
            None => None,
        };
        let member = |name: &String| {
            let endpoint = Endpoint::from_shared(name.clone())?
                .connect_timeout(Duration::from_secs(3))
                .tcp_nodelay(true)
                .http2_keep_alive_interval(PROBE.0)
                .keep_alive_timeout(PROBE.1)
                .keep_alive_while_idle(true);
            let endpoint = match &tls {
                Some(tls) => endpoint.tls_config(tls.clone())?,
                None => endpoint,
            };
            Ok(endpoint.connect_lazy())
        };
        let members: Result<Vec<Channel>, tonic::transport::Error> =
            etcd.endpoints.iter().map(member).collect();
        let members = members.map_err(|error| unusable(chain(&error)))?;
        if members.is_empty() {
            return Err(unusable("no member is named".to_owned()));
        }
        Ok(Client { members: members.into(), at: Arc::default(), names })
    }

    /// What the store could not do, as an error that names the members.
    pub(super) fn unavailable(&self, reason: String) -> Error {
        Error::Unavailable { endpoints: self.names.to_string(), reason }
    }

    fn member(&self) -> (usize, Channel) {
        let at = self.at.load(Ordering::Relaxed) % self.members.len();
        (at, self.members[at].clone())
    }

    /// The member that watches are made with, and its number for [`Client::leave`].
    pub(super) fn watch(&self) -> (usize, WatchClient<Channel>) {
        let (at, channel) = self.member();
        (at, WatchClient::new(channel).max_decoding_message_size(usize::MAX))
    }

    /// Turns to the next member, unless somebody has already.
    pub(super) fn leave(&self, at: usize) {
        let next = (at + 1) % self.members.len();
        let _ = self.at.compare_exchange(at, next, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// Reads keys: every member is asked once, until one answers.
    pub(super) async fn range(&self, request: RangeRequest) -> Result<RangeResponse, Status> {
        let ask = |channel| {
            let request = request.clone();
            async move { Ok(keys(channel).range(request).await?.into_inner()) }
        };
        self.ask(ask, |_| true).await
    }

    /// Changes keys: another member is asked only when none can have got the request.
    pub(super) async fn txn(&self, request: TxnRequest) -> Result<TxnResponse, Status> {
        let ask = |channel| {
            let request = request.clone();
            async move { Ok(keys(channel).txn(request).await?.into_inner()) }
        };
        self.ask(ask, never_sent).await
    }

    /// Has etcd forget what was before a revision.
    pub(super) async fn compact(&self, request: CompactionRequest) -> Result<(), Status> {
        let ask = |channel| async move { keys(channel).compact(request).await.map(drop) };
        self.ask(ask, |_| true).await
    }

    /// Asks for a lease, and answers its number: one that is not used ends by itself.
    pub(super) async fn lease(&self, request: LeaseGrantRequest) -> Result<i64, Status> {
        let ask = |channel| async move {
            let granted = LeaseClient::new(channel).lease_grant(request).await?.into_inner();
            if granted.error.is_empty() { Ok(granted.id) } else { Err(Status::unknown(granted.error)) }
        };
        self.ask(ask, |_| true).await
    }

    async fn ask<T, F>(&self, ask: impl Fn(Channel) -> F, again: fn(&Status) -> bool) -> Result<T, Status>
    where
        F: Future<Output = Result<T, Status>>,
    {
        for tried in 1.. {
            let (at, channel) = self.member();
            let late = || Err(Status::deadline_exceeded("no answer in time"));
            let answer = tokio::time::timeout(PATIENCE, ask(channel)).await.unwrap_or_else(|_| late());
            match answer {
                Err(status) if unreachable(&status) => {
                    self.leave(at);
                    if tried >= self.members.len() || !again(&status) {
                        return Err(status);
                    }
                }
                answer => return answer,
            }
        }
        Err(Status::unavailable("no member is known"))
    }
}

/// A client without limits of its own to what a message may hold: etcd has some.
fn keys(channel: Channel) -> KvClient<Channel> {
    KvClient::new(channel).max_decoding_message_size(usize::MAX).max_encoding_message_size(usize::MAX)
}

/// Whether another member may answer better.
fn unreachable(status: &Status) -> bool {
    matches!(status.code(), Code::Unavailable | Code::DeadlineExceeded | Code::Unknown | Code::Internal)
}

/// Whether the request never left, because there was no connection.
fn never_sent(status: &Status) -> bool {
    let mut source = status.source();
    while let Some(error) = source {
        if error.is::<tonic::ConnectError>() {
            return true;
        }
        source = error.source();
    }
    false
}

/// An error with its causes in one line.
pub(super) fn chain(error: &dyn StdError) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

/// A status in one line.
pub(super) fn words(status: &Status) -> String {
    match status.source() {
        Some(source) => format!("{}: {}", status.message(), chain(source)),
        None => status.message().to_owned(),
    }
}
