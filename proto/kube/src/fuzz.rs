//! The laws of the decoders over any bytes, as a fuzz target calls them. They panic when a law is broken.

use crate::decode::{self, Strictness};
use crate::schema::{TypeId, table};
use crate::wire;

/// A type of the table, chosen by the first two bytes; the rest is the body.
fn typed(bytes: &[u8]) -> Option<(TypeId, &[u8])> {
    let (chosen, body) = bytes.split_first_chunk()?;
    let chosen = usize::from(u16::from_le_bytes(*chosen)) % table().types().count();
    u16::try_from(chosen).ok().map(|id| (TypeId(id), body))
}

/// What was decoded is decoded again without a fault.
pub fn json(bytes: &[u8]) {
    let Some((id, body)) = typed(bytes) else { return };
    let _ = decode::head(body);
    let _ = decode::untyped_json(body, Strictness::Strict);
    if let Ok((object, _)) = decode::json(body, id, Strictness::Ignore) {
        let again = decode::json(object.to_string().as_bytes(), id, Strictness::Strict);
        assert!(again.is_ok(), "{object} is refused: {again:?}");
    }
}

/// As [`json`], of YAML.
pub fn yaml(bytes: &[u8]) {
    let Some((id, body)) = typed(bytes) else { return };
    let _ = decode::untyped_yaml(body, Strictness::Strict);
    if let Ok((object, _)) = decode::yaml(body, id, Strictness::Ignore) {
        let again = decode::json(object.to_string().as_bytes(), id, Strictness::Strict);
        assert!(again.is_ok(), "{object} is refused: {again:?}");
    }
}

/// What was decoded can be written as JSON and as protobuf, and both are decoded again.
pub fn wire(bytes: &[u8]) {
    let _ = wire::decode(bytes);
    let Some((id, body)) = typed(bytes) else { return };
    let Some(kind) = table().of(id).kinds.first() else { return };
    if let Ok(object) = wire::object(kind, id, body) {
        let bytes = wire::encode(kind, &object).expect("what was decoded is of its type");
        let again = wire::decode(&bytes);
        assert!(again.is_ok(), "{object} is refused: {again:?}");
        let again = decode::json(object.to_string().as_bytes(), id, Strictness::Strict);
        assert!(again.is_ok(), "{object} is refused: {again:?}");
    }
}
