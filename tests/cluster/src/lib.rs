//! Whole clusters of nodes in throw-away namespaces, driven by real kubectl and helm.
#![forbid(unsafe_code)]
