//! JSON patch, merge patch, strategic merge and server-side apply, as pure functions over the schema.
//!
//! What a client sends is judged here and not by the caller: a patch is what was parsed, not what was decoded by the
//! schema. What comes back is to be decoded, defaulted and validated like any object.
#![forbid(unsafe_code)]

pub mod apply;
mod error;
pub mod fields;
pub mod fuzz;
mod go;
mod json;
mod strategic;
mod typed;
mod value;

pub use error::Error;
pub use json::{json, merge};
pub use strategic::strategic;
