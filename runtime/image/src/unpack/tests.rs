//! Layers, honest and malicious.
