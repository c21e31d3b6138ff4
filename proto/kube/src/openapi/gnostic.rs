//! Version 2 as protobuf: gnostic's messages, which follow the JSON member by member.

use serde_json::Value;

use super::LEVEL;
use crate::wire::varint::{put_bytes, put_message, put_number};

/// The media type, and the one with which clients ask for it.
pub const MEDIA_TYPES: [&str; 2] = [
    "application/com.github.proto-openapi.spec.v2.v1.0+protobuf",
    "application/com.github.proto-openapi.spec.v2@v1.0+protobuf",
];

/// What a member is on the wire.
#[derive(Clone, Copy)]
enum Kind {
    Text,
    Flag,
    /// A field for each text.
    Texts,
    /// Any JSON, as the YAML that it is.
    Any,
    /// A field for each value.
    Anys,
    /// A text in a message.
    Type,
    Message(&'static Message),
    /// A schema in a message.
    Items,
    /// A message for each parameter.
    Parameters,
    /// A message with a pair of name and value for each member.
    Named(&'static Message),
}

/// A message: its members by their JSON names with their tags, and the tag of the `x-` members.
struct Message {
    /// The tags of the messages around it, where gnostic has a `oneof`.
    around: &'static [u32],
    members: &'static [(&'static str, u32, Kind)],
    extensions: u32,
}

static SCHEMA: Message = Message {
    around: &[],
    members: &[
        ("$ref", 1, Kind::Text),
        ("format", 2, Kind::Text),
        ("default", 5, Kind::Any),
        ("required", 19, Kind::Texts),
        ("enum", 20, Kind::Anys),
        ("additionalProperties", 21, Kind::Message(&INNER_SCHEMA)),
        ("type", 22, Kind::Type),
        ("items", 23, Kind::Items),
        ("properties", 25, Kind::Named(&SCHEMA)),
    ],
    extensions: 31,
};
static INNER_SCHEMA: Message =
    Message { around: &[1], members: SCHEMA.members, extensions: SCHEMA.extensions };
static PATH: Message = Message {
    around: &[],
    members: &[
        ("get", 2, Kind::Message(&OPERATION)),
        ("put", 3, Kind::Message(&OPERATION)),
        ("post", 4, Kind::Message(&OPERATION)),
        ("delete", 5, Kind::Message(&OPERATION)),
        ("patch", 8, Kind::Message(&OPERATION)),
        ("parameters", 9, Kind::Parameters),
    ],
    extensions: 10,
};
static OPERATION: Message = Message {
    around: &[],
    members: &[
        ("tags", 1, Kind::Texts),
        ("operationId", 5, Kind::Text),
        ("produces", 6, Kind::Texts),
        ("consumes", 7, Kind::Texts),
        ("parameters", 8, Kind::Parameters),
        ("responses", 9, Kind::Named(&RESPONSE)),
    ],
    extensions: 13,
};
static RESPONSE: Message = Message {
    around: &[1],
    members: &[("description", 1, Kind::Text), ("schema", 2, Kind::Message(&INNER_SCHEMA))],
    extensions: 5,
};
static IN_BODY: Message = Message {
    around: &[1, 1],
    members: &[
        ("name", 2, Kind::Text),
        ("in", 3, Kind::Text),
        ("required", 4, Kind::Flag),
        ("schema", 5, Kind::Message(&SCHEMA)),
    ],
    extensions: 6,
};
static IN_QUERY: Message = Message {
    around: &[1, 2, 3],
    members: &[
        ("in", 2, Kind::Text),
        ("name", 4, Kind::Text),
        ("type", 6, Kind::Text),
        ("uniqueItems", 20, Kind::Flag),
    ],
    extensions: 23,
};
static IN_PATH: Message = Message {
    around: &[1, 2, 4],
    members: &[
        ("required", 1, Kind::Flag),
        ("in", 2, Kind::Text),
        ("name", 4, Kind::Text),
        ("type", 5, Kind::Text),
        ("uniqueItems", 19, Kind::Flag),
    ],
    extensions: 22,
};

/// `Document`, with the members of `paths` and `definitions`.
pub(super) fn document(
    paths: impl Iterator<Item = (String, Value)>,
    definitions: impl Iterator<Item = (String, Value)>,
) -> Vec<u8> {
    let mut out = Vec::new();
    put_bytes(&mut out, 1, b"2.0");
    within(&[2], &mut out, &mut |out| {
        put_bytes(out, 1, b"Kubernetes");
        put_bytes(out, 2, LEVEL.as_bytes());
    });
    let (mut paths, mut definitions) = (paths, definitions);
    within(&[8], &mut out, &mut |out| {
        paths.by_ref().for_each(|(name, item)| named(out, 2, &name, &PATH, &item))
    });
    within(&[9], &mut out, &mut |out| {
        definitions.by_ref().for_each(|(name, item)| named(out, 1, &name, &SCHEMA, &item));
    });
    // securityDefinitions.BearerToken: ApiKeySecurity.
    within(&[13, 1], &mut out, &mut |out| {
        put_bytes(out, 1, b"BearerToken");
        within(&[2, 2], out, &mut |out| {
            put_bytes(out, 1, b"apiKey");
            put_bytes(out, 2, b"authorization");
            put_bytes(out, 3, b"header");
        });
    });
    out
}

/// The messages of a path of tags around what `body` appends.
fn within(path: &[u32], out: &mut Vec<u8>, body: &mut dyn FnMut(&mut Vec<u8>)) {
    match path.split_first() {
        None => body(out),
        Some((&tag, path)) => {
            let Ok(()) = put_message(out, tag, |out| -> Result<(), std::convert::Infallible> {
                within(path, out, body);
                Ok(())
            });
        }
    }
}

/// A pair of a name and a message.
fn named(out: &mut Vec<u8>, tag: u32, name: &str, kind: &Message, value: &Value) {
    within(&[tag], out, &mut |out| {
        put_bytes(out, 1, name.as_bytes());
        within(&[2], out, &mut |out| message(out, kind, value));
    });
}

fn message(out: &mut Vec<u8>, kind: &Message, value: &Value) {
    within(kind.around, out, &mut |out| {
        for (name, value) in value.as_object().into_iter().flatten() {
            if let Some((_, tag, kind)) = kind.members.iter().find(|(known, ..)| known == name) {
                member(out, *tag, *kind, value);
            } else if name.starts_with("x-") {
                within(&[kind.extensions], out, &mut |out| {
                    put_bytes(out, 1, name.as_bytes());
                    member(out, 2, Kind::Any, value);
                });
            }
        }
    });
}

fn member(out: &mut Vec<u8>, tag: u32, kind: Kind, value: &Value) {
    let items = || value.as_array().into_iter().flatten();
    let text = value.as_str().unwrap_or_default();
    match kind {
        Kind::Text => put_bytes(out, tag, text.as_bytes()),
        Kind::Flag => put_number(out, tag, u64::from(value.as_bool().unwrap_or_default())),
        Kind::Texts => items().for_each(|item| member(out, tag, Kind::Text, item)),
        Kind::Any => within(&[tag], out, &mut |out| put_bytes(out, 2, format!("{value}\n").as_bytes())),
        Kind::Anys => items().for_each(|item| member(out, tag, Kind::Any, item)),
        Kind::Type => within(&[tag], out, &mut |out| put_bytes(out, 1, text.as_bytes())),
        Kind::Message(kind) => within(&[tag], out, &mut |out| message(out, kind, value)),
        Kind::Items => within(&[tag, 1], out, &mut |out| message(out, &SCHEMA, value)),
        Kind::Parameters => items().for_each(|parameter| {
            let kind = match parameter["in"].as_str() {
                Some("body") => &IN_BODY,
                Some("path") => &IN_PATH,
                _ => &IN_QUERY,
            };
            member(out, tag, Kind::Message(kind), parameter);
        }),
        Kind::Named(kind) => within(&[tag], out, &mut |out| {
            for (name, value) in value.as_object().into_iter().flatten() {
                named(out, 1, name, kind, value);
            }
        }),
    }
}
