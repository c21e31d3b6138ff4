//! The cluster's name service: answers for services and pods, forwards and caches the rest.
#![forbid(unsafe_code)]
