//! Tables and laws.
