//! JSON and YAML bodies into values that have the shape of their type: what is unknown, doubled or of another type is
//! found, and scalars, zeroes and missing parts become what upstream writes for them.

mod head;
mod reader;
mod scalar;
#[cfg(test)]
mod tests;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny};
use serde_json::Value;
use serde_saphyr::options::DuplicateKeyPolicy;

pub use head::{Head, head};
pub(crate) use scalar::{go_duration, nanoseconds};
pub use scalar::{micro_time, time};

use crate::schema::{TypeId, table};
use crate::{Gvk, Status};
use reader::{Node, Reader};

/// How unknown and doubled fields are treated: the values of `fieldValidation`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strictness {
    /// They are an error.
    Strict,
    /// They are told, and dropped.
    Warn,
    /// They are dropped.
    Ignore,
}

/// Why a body is no object of its type.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It is no JSON at all, or too deep.
    #[error("couldn't get version/kind; json parse error: {0}")]
    Json(String),
    /// It is no YAML at all, or its aliases unfold too far.
    #[error("error converting YAML to JSON: yaml: {0}")]
    Yaml(String),
    /// Something stands where another type belongs.
    #[error("{0}")]
    Mismatch(String),
    /// Unknown or doubled fields, where they are an error.
    #[error("strict decoding error: {}", .0.join(", "))]
    Strict(Vec<String>),
    /// More values than an object may have.
    #[error("the object has more than {MOST} values")]
    TooMany,
    /// There is no kind. Holds the body.
    #[error("Object 'Kind' is missing in '{0}'")]
    NoKind(String),
    /// There is no `apiVersion`. Holds the body.
    #[error("Object 'apiVersion' is missing in '{0}'")]
    NoVersion(String),
}

/// How many values an object may have: as many as fit into a body, but for bodies made to fill our memory.
pub const MOST: usize = 1 << 18;

/// How many unknown and doubled fields are told.
const MOST_PROBLEMS: usize = 100;

/// An object and what was wrong with its fields; empty unless [`Strictness::Warn`].
pub type Decoded = (Value, Vec<String>);

/// Reads a JSON body.
///
/// # Errors
/// See [`Error`].
pub fn json(body: &[u8], kind: TypeId, strictness: Strictness) -> Result<Decoded, Error> {
    read_json(body, |reader| reader.object(kind), strictness)
}

/// Reads a YAML body of one document.
///
/// # Errors
/// See [`Error`].
pub fn yaml(body: &[u8], kind: TypeId, strictness: Strictness) -> Result<Decoded, Error> {
    read_yaml(body, |reader| reader.object(kind), strictness)
}

/// Brings a value into the shape of a type, e.g. the outcome of a patch.
///
/// # Errors
/// See [`Error`].
pub fn value(value: Value, kind: TypeId, strictness: Strictness) -> Result<Decoded, Error> {
    let reader = Reader::new(table());
    let read = reader.object(kind).deserialize(value);
    reader.done(read, |e: serde_json::Error| Error::Mismatch(e.to_string()), strictness)
}

/// Reads JSON without a type, e.g. a merge patch: only doubled fields are problems.
///
/// # Errors
/// See [`Error`].
pub fn untyped_json(body: &[u8], strictness: Strictness) -> Result<Decoded, Error> {
    read_json(body, Reader::anything, strictness)
}

/// Reads YAML without a type, e.g. the configuration of a server-side apply: only doubled fields are problems.
///
/// # Errors
/// See [`Error`].
pub fn untyped_yaml(body: &[u8], strictness: Strictness) -> Result<Decoded, Error> {
    read_yaml(body, Reader::anything, strictness)
}

fn read_json(
    body: &[u8],
    node: impl FnOnce(&Reader) -> Node<'_>,
    strictness: Strictness,
) -> Result<Decoded, Error> {
    let reader = Reader::new(table());
    let mut json = serde_json::Deserializer::from_slice(body);
    let read = node(&reader).deserialize(&mut json).and_then(|value| json.end().map(|()| value));
    reader.done(read, syntax, strictness)
}

fn read_yaml(
    body: &[u8],
    node: impl FnOnce(&Reader) -> Node<'_>,
    strictness: Strictness,
) -> Result<Decoded, Error> {
    // Most YAML bodies are JSON, and are read faster as such; what only looks like JSON may still be YAML.
    let json = body.trim_ascii_start().starts_with(b"{");
    if json && serde_json::from_slice::<IgnoredAny>(body).is_ok() {
        return read_json(body, node, strictness);
    }
    let options = serde_saphyr::options! {
        duplicate_keys: DuplicateKeyPolicy::LastWins,
        legacy_octal_numbers: true,
        with_snippet: false,
    };
    let reader = Reader::new(table());
    let read = serde_saphyr::with_deserializer_from_slice_with_options(body, options, |yaml| {
        yaml.deserialize_any(node(&reader))
    });
    reader.done(read, |e| Error::Yaml(e.to_string()), strictness)
}

fn syntax(error: serde_json::Error) -> Error {
    Error::Json(match error.is_eof() {
        true => "unexpected end of JSON input".to_owned(),
        false => error.to_string(),
    })
}

impl Error {
    /// 400: what the sender of the body is told. `kind` is what the endpoint takes.
    #[must_use]
    pub fn refusal(&self, kind: &Gvk, body: &[u8]) -> Status {
        let Gvk { version, kind, .. } = kind;
        Status::bad_request(match self {
            Self::Json(_) | Self::Yaml(_) => {
                format!(
                    "the object provided is unrecognized (must be of type {kind}): {self} ({})",
                    summary(body)
                )
            }
            _ => format!("{kind} in version \"{version}\" cannot be handled as a {kind}: {self}"),
        })
    }
}

/// The beginning of a body as upstream shows it.
fn summary(body: &[u8]) -> String {
    let (head, dots) = if body.len() > 30 { (&body[..30], " ...") } else { (body, "") };
    match body.first() {
        None => "<empty>".to_owned(),
        Some(b'{') => format!("{}{dots}", String::from_utf8_lossy(head)),
        Some(_) => head.iter().map(|b| format!("{b:02x}")).collect::<String>() + dots,
    }
}
