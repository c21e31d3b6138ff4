//! The admission chain, plug-in by plug-in, as pure functions.
#![forbid(unsafe_code)]
