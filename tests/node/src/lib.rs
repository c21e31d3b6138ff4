//! End-to-end tests of one node; the tests are in `tests/`.
