//! Protobuf into values.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::{Map, Number, Value};

use super::varint::{Fields, Payload};
use super::{Envelope, Error, MAGIC};
use crate::decode;
use crate::quantity;
use crate::schema::{Field, Shape, Table, Type, TypeId};

/// How deep objects may stand within each other.
const DEEPEST: usize = 64;

/// `runtime.Unknown`.
pub(super) fn envelope(bytes: &[u8]) -> Result<Envelope<'_>, Error> {
    let mut envelope = Envelope::default();
    for field in Fields(bytes) {
        match field? {
            (1, Payload::Bytes(meta)) => {
                for field in Fields(meta) {
                    match field? {
                        (1, Payload::Bytes(text)) => envelope.api_version = utf8("apiVersion", text)?,
                        (2, Payload::Bytes(text)) => envelope.kind = utf8("kind", text)?,
                        _ => {}
                    }
                }
            }
            (2, Payload::Bytes(raw)) => envelope.raw = raw,
            _ => {}
        }
    }
    Ok(envelope)
}

/// An object of a type.
pub(super) fn object(table: &'static Table, id: TypeId, bytes: &[u8]) -> Result<Value, Error> {
    Reader { table, left: decode::MOST, depth: 0 }.object(id, bytes)
}

/// 0001-01-01T00:00:00Z
const FIRST_SECOND: i64 = -62_135_596_800;
/// 9999-12-30T22:00:00Z: the last moment that can be told in every zone.
const LAST_SECOND: i64 = 253_402_207_200;

struct Reader {
    table: &'static Table,
    /// How many values may still come.
    left: usize,
    depth: usize,
}

impl Reader {
    fn object(&mut self, id: TypeId, bytes: &[u8]) -> Result<Value, Error> {
        let owner = self.table.of(id);
        let mut members = Map::new();
        self.message(owner, &mut Vec::new(), bytes, &mut members)?;
        members.retain(|name, value| owner.field(name).is_some_and(|field| field.keeps(value)));
        let unset = self.table.fill(owner, &mut members);
        self.count(unset)?;
        Ok(Value::Object(members))
    }

    /// A message whose fields belong to `owner` below the tags of `path`: more than none where JSON inlines it.
    fn message(
        &mut self,
        owner: &'static Type,
        path: &mut Vec<u32>,
        bytes: &[u8],
        members: &mut Map<String, Value>,
    ) -> Result<(), Error> {
        self.depth += 1;
        if self.depth > DEEPEST {
            return Err(Error::TooMany);
        }
        for field in Fields(bytes) {
            let (tag, payload) = field?;
            path.push(tag);
            let found = owner.fields.iter().find(|f| f.tags.starts_with(path));
            match (found, payload) {
                (Some(field), payload) if field.tags.len() == path.len() => {
                    self.field(field, payload, members)?;
                }
                (Some(_), Payload::Bytes(inlined)) => self.message(owner, path, inlined, members)?,
                _ => {}
            }
            path.pop();
        }
        self.depth -= 1;
        Ok(())
    }

    fn field(
        &mut self,
        field: &'static Field,
        payload: Payload<'_>,
        members: &mut Map<String, Value>,
    ) -> Result<(), Error> {
        match &field.shape {
            Shape::List(item) => {
                let list = members.entry(field.name).or_insert_with(|| Value::Array(Vec::new()));
                let Value::Array(items) = list else { return Ok(()) };
                match payload {
                    // Numbers may come packed.
                    Payload::Bytes(packed) if matches!(**item, Shape::Int32 | Shape::Int64 | Shape::Bool) => {
                        let mut numbers = Fields(packed);
                        while !numbers.0.is_empty() {
                            let number = Payload::Varint(numbers.varint()?);
                            items.push(self.value(field.name, item, number)?);
                        }
                    }
                    payload => items.push(self.value(field.name, item, payload)?),
                }
            }
            Shape::Map(item) => {
                let Payload::Bytes(entry) = payload else { return wrong(field.name, payload) };
                let (key, value) = self.entry(field.name, item, entry)?;
                let map = members.entry(field.name).or_insert_with(|| Value::Object(Map::new()));
                map[key] = value;
            }
            shape => {
                let value = self.value(field.name, shape, payload)?;
                members.insert(field.name.to_owned(), value);
            }
        }
        Ok(())
    }

    /// An entry of a map.
    fn entry<'b>(
        &mut self,
        name: &'static str,
        item: &'static Shape,
        bytes: &'b [u8],
    ) -> Result<(&'b str, Value), Error> {
        let (mut key, mut value) = ("", None);
        for field in Fields(bytes) {
            match field? {
                (1, Payload::Bytes(text)) => key = utf8(name, text)?,
                (2, payload) => {
                    // A map of lists has a message around each list.
                    value = Some(match (item, payload) {
                        (Shape::List(item), Payload::Bytes(list)) => self.wrapped(name, item, list)?,
                        _ => self.value(name, item, payload)?,
                    });
                }
                _ => {}
            }
        }
        Ok((key, value.unwrap_or_else(|| self.table.zero(item))))
    }

    fn wrapped(&mut self, name: &'static str, item: &'static Shape, list: &[u8]) -> Result<Value, Error> {
        let items = Fields(list).filter_map(|field| match field {
            Ok((1, payload)) => Some(self.value(name, item, payload)),
            Ok(_) => None,
            Err(error) => Some(Err(error)),
        });
        items.collect()
    }

    fn value(
        &mut self,
        name: &'static str,
        shape: &'static Shape,
        payload: Payload<'_>,
    ) -> Result<Value, Error> {
        self.count(1)?;
        let refused = |why: String| Error::Value { field: name, why };
        Ok(match (shape, payload) {
            (Shape::Bool, Payload::Varint(number)) => (number != 0).into(),
            // As Go does: what does not fit is cut off.
            #[expect(clippy::cast_possible_truncation)]
            (Shape::Int32, Payload::Varint(number)) => (number as i32).into(),
            (Shape::Int64, Payload::Varint(number)) => number.cast_signed().into(),
            (Shape::Double, Payload::Fixed64(bits)) => Number::from_f64(f64::from_bits(bits)).into(),
            (Shape::String, Payload::Bytes(text)) => utf8(name, text)?.into(),
            (Shape::Bytes, Payload::Bytes(bytes)) => STANDARD.encode(bytes).into(),
            (Shape::Time, Payload::Bytes(bytes)) => timestamp(bytes)?.map(decode::time).into(),
            (Shape::MicroTime, Payload::Bytes(bytes)) => timestamp(bytes)?.map(decode::micro_time).into(),
            (Shape::Duration, Payload::Bytes(bytes)) => {
                let nanos = number_of(bytes, 1)?.unwrap_or_default().cast_signed();
                decode::go_duration(nanos).into()
            }
            (Shape::Quantity, Payload::Bytes(bytes)) => match bytes_of(bytes, 1)? {
                None => "0".into(),
                Some(text) => {
                    quantity::canonical(utf8(name, text)?).map_err(|e| refused(e.to_string()))?.into()
                }
            },
            (Shape::IntOrString, Payload::Bytes(bytes)) => match number_of(bytes, 1)? {
                Some(1) => utf8(name, bytes_of(bytes, 3)?.unwrap_or_default())?.into(),
                #[expect(clippy::cast_possible_truncation)]
                _ => (number_of(bytes, 2)?.unwrap_or_default() as i32).into(),
            },
            (Shape::Raw, Payload::Bytes(bytes)) => self.raw(name, bytes_of(bytes, 1)?.unwrap_or_default())?,
            (Shape::Object(id), Payload::Bytes(bytes)) => self.object(*id, bytes)?,
            (_, payload) => return wrong(name, payload),
        })
    }

    /// An embedded object: JSON, or another envelope.
    fn raw(&mut self, name: &'static str, raw: &[u8]) -> Result<Value, Error> {
        if raw.is_empty() {
            return Ok(Value::Null);
        }
        if raw.starts_with(&MAGIC) {
            let envelope = Envelope::open(raw)?;
            let gvk = envelope.gvk();
            let Some(id) = self.table.kind(&gvk) else { return Err(Error::UnknownKind(gvk)) };
            return self.object(id, envelope.raw).map(|object| super::named(&gvk, object));
        }
        let read = decode::untyped_json(raw, decode::Strictness::Ignore);
        read.map(|(value, _)| value).map_err(|e| Error::Value { field: name, why: e.to_string() })
    }

    fn count(&mut self, values: usize) -> Result<(), Error> {
        self.left = self.left.checked_sub(values).ok_or(Error::TooMany)?;
        Ok(())
    }
}

fn wrong<T>(field: &'static str, payload: Payload<'_>) -> Result<T, Error> {
    Err(Error::WireType { field, found: payload.wire_type() })
}

fn utf8<'b>(field: &'static str, bytes: &'b [u8]) -> Result<&'b str, Error> {
    std::str::from_utf8(bytes).map_err(|e| Error::Value { field, why: e.to_string() })
}

/// The last bytes with a tag.
fn bytes_of(message: &[u8], wanted: u32) -> Result<Option<&[u8]>, Error> {
    let mut found = None;
    for field in Fields(message) {
        if let (tag, Payload::Bytes(bytes)) = field?
            && tag == wanted
        {
            found = Some(bytes);
        }
    }
    Ok(found)
}

/// The last number with a tag.
fn number_of(message: &[u8], wanted: u32) -> Result<Option<u64>, Error> {
    let mut found = None;
    for field in Fields(message) {
        if let (tag, Payload::Varint(number)) = field?
            && tag == wanted
        {
            found = Some(number);
        }
    }
    Ok(found)
}

/// `Timestamp`; an empty one is the time that is not set.
fn timestamp(message: &[u8]) -> Result<Option<Timestamp>, Error> {
    if message.is_empty() {
        return Ok(None);
    }
    let seconds = number_of(message, 1)?.unwrap_or_default().cast_signed();
    let nanos = number_of(message, 2)?.unwrap_or_default().cast_signed();
    let nanos = i32::try_from(nanos).map_err(|_| Error::Malformed)?;
    // JSON has no way to write a time outside these years.
    let writable = (FIRST_SECOND..=LAST_SECOND).contains(&seconds);
    let at = Timestamp::new(seconds, nanos).ok().filter(|at| writable && at.as_second() >= FIRST_SECOND);
    at.map(Some).ok_or(Error::Malformed)
}
