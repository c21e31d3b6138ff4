//! The node agent: sources, the one loop, effects, status, kubelet API.
