//! The store of the API server: MVCC in memory over a durable log, or over etcd.
#![forbid(unsafe_code)]
