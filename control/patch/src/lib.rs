//! JSON patch, merge patch, strategic merge and server-side apply, as pure functions over the schema.
#![forbid(unsafe_code)]
