//! Reads the text of the table.

use std::collections::HashMap;

use super::{Field, Presence, Shape, Strategy, Table, Topology, Type, TypeId};
use crate::Gvk;

/// Reads the embedded text; tests hold that it can be read.
///
/// # Panics
/// When the text is not of the form that its head describes.
pub(super) fn table(text: &'static str) -> Table {
    let heads = || text.lines().filter_map(|line| line.strip_prefix(": "));
    let name = |head: &'static str| head.split(' ').next().unwrap_or_default();
    let ids: HashMap<&str, TypeId> = heads().map(name).zip((0..).map(TypeId)).collect();
    let mut table = Table { types: Vec::with_capacity(ids.len()), by_kind: HashMap::new() };
    let mut lines = text.lines().filter(|line| !line.starts_with('#')).peekable();
    while let Some(head) = lines.next() {
        let mut fields = Vec::new();
        while let Some(line) = lines.next_if(|line| !line.starts_with(':')) {
            fields.push(field(line, &ids).unwrap_or_else(|| panic!("schema table: {line}")));
        }
        let words = || head.split(' ').skip(2);
        let kinds = words().filter_map(|w| w.rsplit_once('/')).map(|(version, kind)| Gvk::new(version, kind));
        let kinds: Box<[Gvk]> = kinds.collect();
        let id = TypeId(u16::try_from(table.types.len()).expect("fewer than 65,536 types"));
        table.by_kind.extend(kinds.iter().map(|kind| (kind.clone(), id)));
        table.types.push(Type {
            name: name(&head[2..]),
            fields: fields.into(),
            atomic: words().next() == Some("atomic"),
            kinds,
        });
    }
    table
}

fn field(line: &'static str, ids: &HashMap<&str, TypeId>) -> Option<Field> {
    // The values of an enum, which may have blanks in them, stand last.
    let (line, values) = line.split_once(" enum=").unwrap_or((line, ""));
    let mut words = line.split(' ');
    let mut field = Field {
        name: words.next()?,
        tags: words.next()?.split('.').filter_map(|tag| tag.parse().ok()).collect(),
        shape: shape(words.next()?, ids)?,
        presence: match words.next()? {
            "pointer" => Presence::Pointer,
            "value" => Presence::Value,
            "always" => Presence::Always,
            _ => return None,
        },
        topology: Topology::Plain,
        strategy: None,
        required: false,
        one_of: if values.is_empty() { Box::default() } else { values.split('|').collect() },
        default: None,
    };
    for word in words {
        match word.split_once('=').unwrap_or((word, "")) {
            ("required", _) => field.required = true,
            ("atomic", _) => field.topology = Topology::Atomic,
            ("granular", _) => field.topology = Topology::Granular,
            ("set", _) => field.topology = Topology::Set,
            ("keys", keys) => field.topology = Topology::Keyed(keys.split(',').collect()),
            ("patch", how) => {
                let strategy = field.strategy.get_or_insert_default();
                strategy.merge = how.split(',').any(|w| w == "merge");
                strategy.retain_keys = how.split(',').any(|w| w == "retainKeys");
            }
            ("by", key) => field.strategy.get_or_insert_with(Strategy::default).key = Some(key),
            ("default", value) => field.default = Some(serde_json::from_str(value).ok()?),
            _ => return None,
        }
    }
    Some(field)
}

fn shape(word: &str, ids: &HashMap<&str, TypeId>) -> Option<Shape> {
    if let Some(item) = word.strip_prefix("[]") {
        return shape(item, ids).map(|s| Shape::List(Box::new(s)));
    }
    if let Some(item) = word.strip_prefix("{}") {
        return shape(item, ids).map(|s| Shape::Map(Box::new(s)));
    }
    Some(match word {
        "bool" => Shape::Bool,
        "int32" => Shape::Int32,
        "int64" => Shape::Int64,
        "double" => Shape::Double,
        "string" => Shape::String,
        "bytes" => Shape::Bytes,
        "time" => Shape::Time,
        "microtime" => Shape::MicroTime,
        "duration" => Shape::Duration,
        "quantity" => Shape::Quantity,
        "intorstring" => Shape::IntOrString,
        "raw" => Shape::Raw,
        name => Shape::Object(*ids.get(name)?),
    })
}
