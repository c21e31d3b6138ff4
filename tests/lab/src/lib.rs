//! Throw-away namespaces, images and real peers for tests and benchmarks.
