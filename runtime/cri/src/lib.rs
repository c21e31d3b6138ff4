//! The CRI v1 server.
