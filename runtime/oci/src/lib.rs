//! OCI runtime: plan, create, start, kill, delete, exec.
