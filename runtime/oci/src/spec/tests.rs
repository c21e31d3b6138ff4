//! What is refused, and how options are read.
