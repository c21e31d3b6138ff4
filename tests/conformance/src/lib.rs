//! The MUST texts of the public conformance tests as cases of our own.
#![forbid(unsafe_code)]
