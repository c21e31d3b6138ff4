//! Who may do what: RBAC, the node authorizer, the bootstrap policy.
#![forbid(unsafe_code)]
