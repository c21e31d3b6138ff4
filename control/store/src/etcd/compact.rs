//! Compaction of etcd, by whichever of the API servers comes first: upstream's protocol, so that both may work on
//! one etcd. A key outside the prefix counts the rounds; who advances it compacts up to the revision that was
//! current a round ago.

use std::time::Duration;

use proto_etcd::{
    CompactionRequest, Compare, PutRequest, RangeRequest, RequestOp, TxnRequest,
    compare::{CompareTarget, TargetUnion},
    request_op::Request,
    response_op::Response,
};
use tonic::{Code, Status};

use super::client::{Client, words};

const KEY: &str = "compact_rev_key";

/// Takes part in the rounds until it is aborted.
pub(super) async fn run(client: Client, every: Duration) {
    let (mut round, mut revision) = (0, 0);
    loop {
        tokio::time::sleep(every.max(Duration::from_secs(1))).await;
        match take(&client, round, revision).await {
            Ok(next) => (round, revision) = next,
            Err(status) => tracing::warn!(reason = words(&status), "etcd was not compacted"),
        }
    }
}

/// Tries to begin the round behind `round`. Answers the latest round, and the revision at which it began.
pub(super) async fn take(client: &Client, round: i64, revision: i64) -> Result<(i64, i64), Status> {
    let (key, value) = (bytes::Bytes::from(KEY), revision.to_string().into());
    let compare = Compare {
        result: 0,
        target: CompareTarget::Version.into(),
        key: key.clone(),
        target_union: Some(TargetUnion::Version(round)),
    };
    let put = PutRequest { key: key.clone(), value, lease: 0 };
    let range = RangeRequest { key, ..RangeRequest::default() };
    let request = TxnRequest {
        compare: vec![compare],
        success: vec![RequestOp { request: Some(Request::RequestPut(put)) }],
        failure: vec![RequestOp { request: Some(Request::RequestRange(range)) }],
    };
    let answer = client.txn(request).await?;
    let now = answer.header.unwrap_or_default().revision;
    if !answer.succeeded {
        let read = answer.responses.into_iter().next().and_then(|response| response.response);
        let held = match read {
            Some(Response::ResponseRange(range)) => range.kvs.into_iter().next(),
            _ => None,
        };
        return Ok((held.map_or(0, |kv| kv.version), now));
    }
    if revision > 0 {
        let request = CompactionRequest { revision, physical: false };
        let done = client.compact(request).await;
        // Somebody else may have compacted further: that is as good.
        done.map(drop)
            .or_else(|status| if status.code() == Code::OutOfRange { Ok(()) } else { Err(status) })?;
    }
    Ok((round + 1, now))
}
