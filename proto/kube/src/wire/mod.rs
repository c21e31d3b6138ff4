//! Kubernetes' protobuf: an object of the table in an envelope that tells its kind.

mod read;
#[cfg(test)]
mod tests;
pub(crate) mod varint;
mod write;

use serde_json::Value;

use crate::schema::{TypeId, table};
use crate::{Gvk, Status};

pub use write::{event, list};

/// The media type.
pub const MEDIA_TYPE: &str = "application/vnd.kubernetes.protobuf";

/// What an envelope begins with.
pub const MAGIC: [u8; 4] = *b"k8s\0";

/// Why bytes are no object, or an object has no bytes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Nothing is there.
    #[error("empty data")]
    Empty,
    /// The envelope's first bytes are others.
    #[error("provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]")]
    Prefix,
    /// The bytes end within a value.
    #[error("unexpected EOF")]
    Truncated,
    /// A number that has more than 64 bits, or a tag 0.
    #[error("proto: illegal tag or number")]
    Malformed,
    /// A field has another wire type than its type has.
    #[error("proto: wrong wireType = {found} for field {field}")]
    WireType {
        /// The JSON name.
        field: &'static str,
        /// The type of the bytes.
        found: u8,
    },
    /// A text is not UTF-8, a quantity is none, or embedded JSON is none.
    #[error("proto: field {field}: {why}")]
    Value {
        /// The JSON name.
        field: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// More values or deeper than an object may be.
    #[error("the object has too many values")]
    TooMany,
    /// The kind is not one of the table.
    #[error("no kind \"{}\" is registered for version \"{}\"", .0.kind, .0.api_version())]
    UnknownKind(Gvk),
}

impl Error {
    /// 400: what the sender of the body is told. `kind` is what the endpoint takes.
    #[must_use]
    pub fn refusal(&self, kind: &Gvk) -> Status {
        let Gvk { version, kind, .. } = kind;
        Status::bad_request(match self {
            Self::Empty | Self::Prefix | Self::UnknownKind(_) => self.to_string(),
            _ => format!("{kind} in version \"{version}\" cannot be handled as a {kind}: {self}"),
        })
    }
}

/// An envelope: a kind, and its object's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Envelope<'b> {
    /// As `apps/v1`; may be empty in a request.
    pub api_version: &'b str,
    /// As `Deployment`; may be empty in a request.
    pub kind: &'b str,
    /// The object.
    pub raw: &'b [u8],
}

impl<'b> Envelope<'b> {
    /// Opens an envelope.
    ///
    /// # Errors
    /// When the bytes are none.
    pub fn open(bytes: &'b [u8]) -> Result<Self, Error> {
        if bytes.is_empty() {
            return Err(Error::Empty);
        }
        read::envelope(bytes.strip_prefix(&MAGIC).ok_or(Error::Prefix)?)
    }

    /// The kind it tells.
    #[must_use]
    pub fn gvk(&self) -> Gvk {
        Gvk::new(self.api_version, self.kind)
    }
}

/// Reads an object in its envelope.
///
/// # Errors
/// When the bytes are none, or the kind is unknown.
pub fn decode(bytes: &[u8]) -> Result<(Gvk, Value), Error> {
    let envelope = Envelope::open(bytes)?;
    let gvk = envelope.gvk();
    let Some(id) = table().kind(&gvk) else { return Err(Error::UnknownKind(gvk)) };
    object(&gvk, id, envelope.raw).map(|value| (gvk, value))
}

/// Reads the object of an opened envelope as a type, and writes `apiVersion` and `kind` into it.
///
/// # Errors
/// When the bytes are no object of the type.
pub fn object(gvk: &Gvk, id: TypeId, raw: &[u8]) -> Result<Value, Error> {
    read::object(table(), id, raw).map(|object| named(gvk, object))
}

/// The object with the kind that stands on its envelope; a `WatchEvent` alone tells none.
fn named(gvk: &Gvk, mut object: Value) -> Value {
    if gvk.kind != "WatchEvent" {
        object["apiVersion"] = gvk.api_version().into();
        object["kind"] = gvk.kind.as_str().into();
    }
    object
}

/// Writes an object in its envelope. What the table does not know is left out.
///
/// # Errors
/// When the kind is not of the table, or a value is not of its field's type.
pub fn encode(gvk: &Gvk, object: &Value) -> Result<Vec<u8>, Error> {
    let id = table().kind(gvk).ok_or_else(|| Error::UnknownKind(gvk.clone()))?;
    write::enveloped(gvk, |out| write::object(table(), id, object, out))
}
