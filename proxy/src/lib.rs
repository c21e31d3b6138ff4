//! The service proxy: watches Services and EndpointSlices, and keeps the node's nf_tables as `proxy-rules` compiles them.
#![forbid(unsafe_code)]
