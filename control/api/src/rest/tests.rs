//! Requests against a server whose objects are in memory: what comes back, word for word where clients read it.

mod client;
mod lists;
mod watches;
mod writes;
