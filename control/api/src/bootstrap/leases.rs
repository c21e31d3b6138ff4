//! Several servers on one etcd: each says again and again that it is there, and the `kubernetes` Service leads to all
//! that have said so lately.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use store::{Expect, Op, Txn, Write};
use tokio_util::sync::CancellationToken;

use super::publish_address;
use crate::server::Server;

/// Where each server has its record, by its address; as upstream lays it out.
pub(super) const PREFIX: &str = "/registry/masterleases/";
/// How often a server says that it is there, and for how long that counts.
const EVERY: Duration = Duration::from_secs(10);
const COUNTS: Duration = Duration::from_secs(15);

/// Runs until `shutdown`; then the record is taken back.
pub async fn renew(server: Arc<Server>, shutdown: CancellationToken) {
    loop {
        if let Err(error) = say(&server).await {
            tracing::warn!(error, "recording this server");
        }
        tokio::select! {
            () = shutdown.cancelled() => break,
            () = tokio::time::sleep(EVERY) => {}
        }
    }
    let gone = Write { key: key(&server), expect: Expect::Any, op: Op::Delete };
    if let Err(error) = server.store.commit(Txn::one(gone)).await {
        tracing::warn!(%error, "taking back the record of this server: it ends by itself");
    }
}

async fn say(server: &Arc<Server>) -> Result<(), String> {
    let ip = server.config.advertise.to_string();
    let record = json!({"kind": "Endpoints", "apiVersion": "v1", "metadata": {}, "subsets": [{"addresses": [{"ip": ip}]}]});
    let op = Op::Put { value: record.to_string().into(), ttl: Some(COUNTS) };
    let write = Write { key: key(server), expect: Expect::Any, op };
    server.store.commit(Txn::one(write)).await.map_err(|e| e.to_string())?;
    publish_address(server).await
}

fn key(server: &Server) -> String {
    format!("{PREFIX}{}", server.config.advertise)
}
