//! Where a store keeps what it holds, and how much of the past.

use std::{path::PathBuf, time::Duration};

use crate::History;

/// What [`crate::Store::open`] needs to know.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where the data lives.
    pub place: Place,
    /// How much of the past stays readable.
    pub history: History,
    /// Size of one file of the log in bytes. A snapshot replaces old files when they outweigh the live data.
    pub segment: u64,
    /// After a failed write, how long the disk is left alone before it is tried again.
    pub retry: Duration,
}

/// Where the data lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// In this process only.
    Memory,
    /// In the log of this directory, which one process at a time may hold.
    Directory(PathBuf),
    /// In an etcd that other API servers may use as well.
    Etcd(Etcd),
}

/// How etcd is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Etcd {
    /// One or more members, as `http://127.0.0.1:2379` or `https://…`.
    pub endpoints: Vec<String>,
    /// The authority that signed etcd's certificate, and this client's own; `None` without TLS.
    pub tls: Option<Tls>,
}

/// Files in PEM form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// The authority that etcd's certificate must be signed by.
    pub ca: PathBuf,
    /// The certificate that this client shows.
    pub certificate: PathBuf,
    /// The key of that certificate.
    pub key: PathBuf,
}

impl Config {
    /// The defaults: five minutes of history, log files of 16 MiB.
    pub fn new(place: Place) -> Config {
        Config { place, history: History::default(), segment: 16 << 20, retry: Duration::from_secs(1) }
    }
}
