//! What each kind does beyond its schema: defaults, validation, strategy, columns.
#![forbid(unsafe_code)]
