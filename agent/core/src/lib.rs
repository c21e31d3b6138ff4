//! What a node should do next: a pure function of desired and observed pods.
