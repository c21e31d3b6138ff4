//! The log against a model of a disk.
