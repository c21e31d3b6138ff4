//! Services and EndpointSlices as flat packet rules: model, compile, diff, and a simulator that walks a packet through.
#![forbid(unsafe_code)]
