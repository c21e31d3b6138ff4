//! CNI 1.1 network configuration lists, plugin configuration and results.
