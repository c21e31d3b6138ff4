//! The store in an etcd that several API servers share: transactions go there, reading and watching is done here,
//! in a mirror of what it holds.

mod client;
mod compact;
mod lease;
mod mirror;

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use proto_etcd::{
    Compare, DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest, TxnResponse,
    compare::{CompareTarget, TargetUnion},
    request_op::Request,
    response_op::Response,
};
use tokio::task::JoinSet;
use tonic::Status;

use crate::{
    CommitError, Entry, Error, Etcd, Expect, History, Op, Txn,
    engine::{Clock, WRITES},
    state::duplicate,
    watch::Shared,
};
use client::{Client, words};
use lease::Leases;
use mirror::{Filled, Mirror, PREFIX};

/// How long the mirror may take to reach a revision that etcd has told.
const BEHIND: Duration = Duration::from_secs(10);

/// The connection to etcd and the tasks that keep the mirror.
pub(crate) struct Remote<I> {
    client: Client,
    leases: Leases,
    shared: Arc<Shared<I>>,
    /// They end when this is dropped.
    tasks: Mutex<JoinSet<()>>,
}

impl<I: Send + Sync + 'static> Remote<I> {
    /// Connects, and fills the mirror.
    ///
    /// # Errors
    /// No member answers.
    pub(crate) async fn open(etcd: &Etcd, history: History) -> Result<(Remote<I>, Arc<Shared<I>>), Error> {
        let client = Client::new(etcd)?;
        let Filled { state, cluster } =
            mirror::fill(&client).await.map_err(|status| client.unavailable(words(&status)))?;
        let shared = Shared::new(state);
        let (clock, mut tasks) = (Clock::start(0), JoinSet::new());
        let mirror = Mirror { client: client.clone(), shared: shared.clone(), history, clock, cluster };
        tasks.spawn(mirror.run());
        tasks.spawn(compact::run(client.clone(), history.age));
        let remote =
            Remote { client, leases: Leases::default(), shared: shared.clone(), tasks: Mutex::new(tasks) };
        Ok((remote, shared))
    }

    /// Asks a quorum for the revision, and waits until the mirror has it.
    pub(crate) async fn current(&self) -> Result<i64, Error> {
        let revision = mirror::revision(&self.client).await;
        let revision = revision.map_err(|status| self.client.unavailable(words(&status)))?;
        self.reach(revision).await.map_err(|reason| self.client.unavailable(reason))?;
        Ok(revision)
    }

    /// Ends the mirror and its watches.
    pub(crate) fn close(&self) {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner).abort_all();
        self.shared.close();
    }

    async fn reach(&self, revision: i64) -> Result<(), String> {
        let late = || {
            let here = self.shared.read().state.revision();
            format!("the mirror is at revision {here} and has not reached {revision}")
        };
        if self.shared.reach(revision, BEHIND).await { Ok(()) } else { Err(late()) }
    }

    /// Commits a transaction in etcd, and waits until its effects are visible here.
    pub(crate) async fn commit(&self, txn: Txn) -> Result<i64, CommitError<I>> {
        let (size, writes) = (txn.weight(), txn.writes.len());
        let limit = "128 writes, and what etcd is set to take (1.5 MiB by default)";
        if writes > WRITES {
            return Err(CommitError::TooLarge { size, writes, limit });
        }
        if let Some(key) = duplicate(&txn) {
            return Err(CommitError::Duplicate { key: key.to_owned() });
        }
        let refused = |status: Status| {
            let (reason, says) = (words(&status), |text| status.message().contains(text));
            if says("space exceeded") {
                CommitError::Full { reason }
            } else if says("too large") || says("too many operations") || says("larger than max") {
                CommitError::TooLarge { size, writes, limit }
            } else {
                CommitError::Unavailable { reason }
            }
        };
        let mut answer = self.ask(&txn).await;
        // A lease that is shared may be lost, as when etcd was set back: then a new one is.
        if answer.as_ref().is_err_and(|status| status.message().contains("lease not found")) {
            self.leases.forget().await;
            answer = self.ask(&txn).await;
        }
        let answer = answer.map_err(refused)?;
        let revision = answer.header.unwrap_or_default().revision;
        let seen = self.reach(revision).await;
        if answer.succeeded {
            seen.map_err(|reason| CommitError::Unavailable { reason })?;
            return Ok(revision);
        }
        Err(conflict(&txn, answer))
    }

    async fn ask(&self, txn: &Txn) -> Result<TxnResponse, Status> {
        self.client.txn(self.request(txn).await?).await
    }

    async fn request(&self, txn: &Txn) -> Result<TxnRequest, Status> {
        let mut request = TxnRequest::default();
        for write in &txn.writes {
            let key = || bytes::Bytes::copy_from_slice(write.key.as_bytes());
            let (target, union) = match write.expect {
                Expect::Any => (None, None),
                Expect::Absent => (Some(CompareTarget::Create), Some(TargetUnion::CreateRevision(0))),
                Expect::Revision(revision) => {
                    (Some(CompareTarget::Mod), Some(TargetUnion::ModRevision(revision)))
                }
            };
            if let Some(target) = target {
                let target = target.into();
                request.compare.push(Compare { result: 0, target, key: key(), target_union: union });
                let range = RangeRequest { key: key(), ..RangeRequest::default() };
                request.failure.push(RequestOp { request: Some(Request::RequestRange(range)) });
            }
            let change = match &write.op {
                Op::Check => continue,
                Op::Delete => {
                    Request::RequestDeleteRange(DeleteRangeRequest { key: key(), ..Default::default() })
                }
                Op::Put { value, ttl } => {
                    let lease = match ttl {
                        Some(ttl) => self.leases.of(&self.client, *ttl).await?,
                        None => 0,
                    };
                    Request::RequestPut(PutRequest { key: key(), value: value.clone(), lease })
                }
            };
            request.success.push(RequestOp { request: Some(change) });
        }
        Ok(request)
    }
}

/// The first write whose expectation does not hold, by what etcd has read instead of writing.
fn conflict<I>(txn: &Txn, answer: TxnResponse) -> CommitError<I> {
    let guarded = txn.writes.iter().filter(|write| write.expect != Expect::Any);
    for (write, response) in guarded.zip(answer.responses) {
        let Some(Response::ResponseRange(range)) = response.response else { continue };
        let current: Option<Arc<Entry<I>>> = range.kvs.first().and_then(mirror::entry);
        let holds = match write.expect {
            Expect::Any => true,
            Expect::Absent => current.is_none(),
            Expect::Revision(revision) => {
                current.as_ref().is_some_and(|entry| entry.mod_revision == revision)
            }
        };
        if !holds {
            return CommitError::Conflict { key: write.key.clone(), current };
        }
    }
    CommitError::Unavailable { reason: format!("it refuses a write under {PREFIX} without telling why") }
}
