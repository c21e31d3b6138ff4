//! Leases for keys that expire, shared by keys that expire at about the same time, as upstream does: a lease a key
//! would be a burden to etcd.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use proto_etcd::LeaseGrantRequest;
use tokio::sync::Mutex;
use tonic::Status;

use super::client::Client;

/// How many keys share a lease at most.
const KEYS: usize = 1000;
/// A lease lasts longer than its keys need by this part of their time, and by no more than a minute, so that later
/// keys can share it.
const SPARE: (u64, u64) = (20, 60);

struct Lease {
    id: i64,
    ends: Instant,
    keys: usize,
}

/// The leases that are shared at present, by the whole seconds that their keys asked for.
#[derive(Default)]
pub(super) struct Leases(Mutex<HashMap<u64, Lease>>);

impl Leases {
    /// Shares none of the present leases any more.
    pub(super) async fn forget(&self) {
        self.0.lock().await.clear();
    }

    /// A lease that lasts at least as long as asked for.
    pub(super) async fn of(&self, client: &Client, ttl: Duration) -> Result<i64, Status> {
        let seconds = ttl.as_secs() + u64::from(ttl.subsec_nanos() > 0);
        let seconds = seconds.max(1);
        let mut leases = self.0.lock().await;
        let now = Instant::now();
        let needed = now + Duration::from_secs(seconds);
        if let Some(lease) = leases.get_mut(&seconds)
            && lease.ends >= needed
            && lease.keys < KEYS
        {
            lease.keys += 1;
            return Ok(lease.id);
        }
        let lasts = seconds + (seconds / SPARE.0).min(SPARE.1);
        let request = LeaseGrantRequest { ttl: i64::try_from(lasts).unwrap_or(i64::MAX), id: 0 };
        let id = client.lease(request).await?;
        leases.retain(|_, lease| lease.ends > now);
        leases.insert(seconds, Lease { id, ends: now + Duration::from_secs(lasts), keys: 1 });
        Ok(id)
    }
}
