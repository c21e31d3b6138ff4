//! Requests against a server whose objects are in memory: what comes back, word for word where clients read it.

mod certificates;
mod client;
mod evictions;
mod lists;
mod warnings;
mod watches;
mod writes;
