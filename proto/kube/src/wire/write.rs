//! Values into protobuf.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::Value;

use super::varint::{put, put_bytes, put_message, put_number};
use super::{Error, MAGIC};
use crate::Gvk;
use crate::decode;
use crate::schema::{Field, Shape, Table, TypeId, table};

type Done = Result<(), Error>;

/// An envelope around what `raw` appends.
pub(super) fn enveloped(gvk: &Gvk, raw: impl FnOnce(&mut Vec<u8>) -> Done) -> Result<Vec<u8>, Error> {
    let mut out = MAGIC.to_vec();
    put_message(&mut out, 1, |out| {
        put_bytes(out, 1, gvk.api_version().as_bytes());
        put_bytes(out, 2, gvk.kind.as_bytes());
        Ok(())
    })?;
    put_message(&mut out, 2, raw)?;
    put_bytes(&mut out, 3, b"");
    put_bytes(&mut out, 4, b"");
    Ok(out)
}

/// A list in its envelope, written item by item, so that no two of them need to be in memory as values.
///
/// # Errors
/// When the kind is not that of a list of the table, or a value is not of its field's type.
pub fn list(gvk: &Gvk, metadata: &Value, items: impl IntoIterator<Item = Value>) -> Result<Vec<u8>, Error> {
    let unknown = || Error::UnknownKind(gvk.clone());
    let table = table();
    let kind = table.of(table.kind(gvk).ok_or_else(unknown)?);
    let (head, rows) = kind.field("metadata").zip(kind.field("items")).ok_or_else(unknown)?;
    enveloped(gvk, |out| {
        field(table, head, metadata, out)?;
        let Shape::List(item) = &rows.shape else { return Err(unknown()) };
        items.into_iter().try_for_each(|row| one(table, rows, item, rows.tags[0], &row, out))
    })
}

/// A frame of a watch: its length in four bytes, and a `WatchEvent` around an object in its envelope.
#[must_use]
pub fn event(kind: &str, object: &[u8]) -> Vec<u8> {
    let mut out = vec![0; 4];
    put_bytes(&mut out, 1, kind.as_bytes());
    let done: Result<(), std::convert::Infallible> = put_message(&mut out, 2, |out| {
        put_bytes(out, 1, object);
        Ok(())
    });
    let Ok(()) = done;
    let length = u32::try_from(out.len() - 4).unwrap_or(u32::MAX);
    out[..4].copy_from_slice(&length.to_be_bytes());
    out
}

/// An object of a type, without its envelope.
pub(super) fn object(table: &'static Table, id: TypeId, object: &Value, out: &mut Vec<u8>) -> Done {
    let owner = table.of(id);
    for (name, value) in object.as_object().into_iter().flatten() {
        if let Some(known) = owner.field(name) {
            field(table, known, value, out)?;
        }
    }
    Ok(())
}

/// A field with all its values. Where JSON inlines a message, each value stands in one of its own: readers merge them.
fn field(table: &'static Table, field: &'static Field, value: &Value, out: &mut Vec<u8>) -> Done {
    let (Some((&tag, path)), false) = (field.tags.split_last(), value.is_null()) else { return Ok(()) };
    within(path, out, &|out| match (&field.shape, value) {
        (Shape::List(item), Value::Array(items)) => {
            items.iter().try_for_each(|value| one(table, field, item, tag, value, out))
        }
        (Shape::Map(item), Value::Object(entries)) => entries.iter().try_for_each(|(key, value)| {
            put_message(out, tag, |out| {
                put_bytes(out, 1, key.as_bytes());
                match (&**item, value) {
                    (_, Value::Null) => Ok(()),
                    (Shape::List(item), Value::Array(items)) => put_message(out, 2, |out| {
                        items.iter().try_for_each(|value| one(table, field, item, 1, value, out))
                    }),
                    (item, value) => one(table, field, item, 2, value, out),
                }
            })
        }),
        (shape, value) => one(table, field, shape, tag, value, out),
    })
}

/// The messages of a path around what `body` appends.
fn within(path: &[u32], out: &mut Vec<u8>, body: &dyn Fn(&mut Vec<u8>) -> Done) -> Done {
    match path.split_first() {
        None => body(out),
        Some((&tag, path)) => put_message(out, tag, |out| within(path, out, body)),
    }
}

/// One value.
fn one(
    table: &'static Table,
    field: &'static Field,
    shape: &'static Shape,
    tag: u32,
    value: &Value,
    out: &mut Vec<u8>,
) -> Done {
    let refused = || Error::Value { field: field.name, why: format!("{value} is not of its type") };
    match (shape, value) {
        (Shape::Bool, Value::Bool(on)) => put_number(out, tag, u64::from(*on)),
        (Shape::Int32 | Shape::Int64, Value::Number(number)) => {
            put_number(out, tag, number.as_i64().ok_or_else(refused)?.cast_unsigned());
        }
        (Shape::Double, Value::Number(number)) => {
            put(out, u64::from(tag) << 3 | 1);
            out.extend_from_slice(&number.as_f64().ok_or_else(refused)?.to_le_bytes());
        }
        (Shape::String, Value::String(text)) => put_bytes(out, tag, text.as_bytes()),
        (Shape::Bytes, Value::String(text)) => {
            put_bytes(out, tag, &STANDARD.decode(text).map_err(|_| refused())?);
        }
        (Shape::Time | Shape::MicroTime, Value::String(text)) => {
            let at: Timestamp = text.parse().map_err(|_| refused())?;
            put_message(out, tag, |out| {
                put_number(out, 1, at.as_second().cast_unsigned());
                put_number(out, 2, i64::from(at.subsec_nanosecond()).cast_unsigned());
                Ok::<_, Error>(())
            })?;
        }
        (Shape::Duration, Value::String(text)) => {
            let nanos = decode::nanoseconds(text).ok_or_else(refused)?;
            put_message(out, tag, |out| {
                put_number(out, 1, nanos.cast_unsigned());
                Ok::<_, Error>(())
            })?;
        }
        (Shape::Quantity, Value::String(_) | Value::Number(_)) => {
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            put_message(out, tag, |out| {
                put_bytes(out, 1, text.as_bytes());
                Ok::<_, Error>(())
            })?;
        }
        (Shape::IntOrString, value) => {
            let (kind, number, text) = match value {
                Value::String(text) => (1, 0, text.as_str()),
                Value::Number(number) => (0, number.as_i64().ok_or_else(refused)?, ""),
                _ => return Err(refused()),
            };
            put_message(out, tag, |out| {
                put_number(out, 1, kind);
                put_number(out, 2, number.cast_unsigned());
                put_bytes(out, 3, text.as_bytes());
                Ok::<_, Error>(())
            })?;
        }
        (Shape::Raw, value) => put_message(out, tag, |out| {
            put_bytes(out, 1, value.to_string().as_bytes());
            Ok::<_, Error>(())
        })?,
        (Shape::Object(id), Value::Object(_)) => put_message(out, tag, |out| object(table, *id, value, out))?,
        _ => return Err(refused()),
    }
    Ok(())
}
