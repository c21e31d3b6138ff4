//! The visitor that reads one value as its shape.

use std::cell::{Cell, RefCell};
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use super::{Decoded, Error, MOST, MOST_PROBLEMS, Strictness, scalar};
use crate::quantity;
use crate::schema::{Shape, Table, Type, TypeId};

/// What all values of a body share.
pub(super) struct Reader {
    table: &'static Table,
    /// Where the value stands that is read now.
    path: RefCell<Vec<Step>>,
    problems: RefCell<Vec<String>>,
    /// The first thing that could not be read.
    failure: RefCell<Option<Error>>,
    left: Cell<usize>,
}

enum Step {
    Field(&'static Type, &'static str),
    Key(String),
    Index(usize),
}

/// A value that is about to be read.
#[derive(Clone, Copy)]
pub(super) struct Node<'r> {
    reader: &'r Reader,
    expected: Expected,
}

#[derive(Clone, Copy)]
enum Expected {
    Shape(&'static Shape),
    Object(TypeId),
    /// Anything, with doubled fields told.
    Anything,
    /// Anything that a typed object carries as it is.
    Raw,
}

impl Reader {
    pub(super) fn new(table: &'static Table) -> Self {
        Self {
            table,
            path: RefCell::default(),
            problems: RefCell::default(),
            failure: RefCell::default(),
            left: Cell::new(MOST),
        }
    }

    pub(super) fn object(&self, kind: TypeId) -> Node<'_> {
        Node { reader: self, expected: Expected::Object(kind) }
    }

    pub(super) fn anything(&self) -> Node<'_> {
        Node { reader: self, expected: Expected::Anything }
    }

    /// What is handed out at the end: our own failure rather than the one by which the parser stopped.
    pub(super) fn done<E>(
        &self,
        read: Result<Value, E>,
        syntax: impl FnOnce(E) -> Error,
        strictness: Strictness,
    ) -> Result<Decoded, Error> {
        if let Some(failure) = self.failure.take() {
            return Err(failure);
        }
        let value = read.map_err(syntax)?;
        let problems = self.problems.take();
        match strictness {
            Strictness::Strict if !problems.is_empty() => Err(Error::Strict(problems)),
            Strictness::Ignore => Ok((value, Vec::new())),
            _ => Ok((value, problems)),
        }
    }

    fn fail<T, E: serde::de::Error>(&self, failure: Error) -> Result<T, E> {
        self.failure.borrow_mut().get_or_insert(failure);
        Err(E::custom("refused"))
    }

    fn problem(&self, what: &str, field: &str) {
        let mut problems = self.problems.borrow_mut();
        if problems.len() < MOST_PROBLEMS {
            let mut path = String::new();
            for step in self.path.borrow().iter() {
                step.write(&mut path);
            }
            Step::Key(field.to_owned()).write(&mut path);
            let problem = format!("{what} {path:?}");
            if !problems.contains(&problem) {
                problems.push(problem);
            }
        }
    }

    /// Reads something below a step of the path.
    fn below<T>(&self, step: Step, read: impl FnOnce() -> T) -> T {
        self.path.borrow_mut().push(step);
        let value = read();
        self.path.borrow_mut().pop();
        value
    }

    /// As upstream words it: the innermost struct, and the fields on the way, without keys and indexes.
    fn mismatch(&self, found: &str, expected: &str) -> Error {
        let path = self.path.borrow();
        let fields = path.iter().filter_map(|step| match step {
            Step::Field(owner, name) => Some((owner, *name)),
            _ => None,
        });
        let (mut owner, mut names) = (None, Vec::new());
        for (kind, name) in fields {
            owner = Some(kind.short());
            names.push(name);
        }
        Error::Mismatch(match owner {
            None => format!("json: cannot unmarshal {found} into Go value of type {expected}"),
            Some(owner) => format!(
                "json: cannot unmarshal {found} into Go struct field {owner}.{} of type {expected}",
                names.join(".")
            ),
        })
    }

    /// The name of a shape in upstream's language.
    fn name(&self, shape: &Shape) -> String {
        match shape {
            Shape::Bool => "bool".to_owned(),
            Shape::Int32 | Shape::IntOrString => "int32".to_owned(),
            Shape::Int64 => "int64".to_owned(),
            Shape::Double => "float64".to_owned(),
            Shape::Bytes => "[]uint8".to_owned(),
            Shape::List(item) => format!("[]{}", self.name(item)),
            Shape::Map(item) => format!("map[string]{}", self.name(item)),
            Shape::Object(id) => self.type_name(*id),
            _ => "string".to_owned(),
        }
    }

    fn type_name(&self, id: TypeId) -> String {
        let mut parts = self.table.of(id).name.rsplit('.');
        let kind = parts.next().unwrap_or_default();
        format!("{}.{kind}", parts.next().unwrap_or_default())
    }
}

impl Step {
    fn write(&self, path: &mut String) {
        let dot = if path.is_empty() { "" } else { "." };
        match self {
            Self::Field(_, name) => *path += &format!("{dot}{name}"),
            Self::Key(key) => *path += &format!("{dot}{key}"),
            Self::Index(index) => *path += &format!("[{index}]"),
        }
    }
}

impl Node<'_> {
    fn at(&self, expected: Expected) -> Self {
        Node { reader: self.reader, expected }
    }

    fn refuse<T, E: serde::de::Error>(&self, found: &str) -> Result<T, E> {
        let expected = match self.expected {
            Expected::Shape(Shape::Quantity) => {
                return self.reader.fail(Error::Mismatch(quantity::NotAQuantity.to_string()));
            }
            Expected::Object(id) => self.reader.type_name(id),
            Expected::Shape(shape) => self.reader.name(shape),
            Expected::Anything | Expected::Raw => "interface {}".to_owned(),
        };
        self.reader.fail(self.reader.mismatch(found, &expected))
    }

    fn number<E: serde::de::Error>(self, number: &Number) -> Result<Value, E> {
        let Expected::Shape(shape) = self.expected else {
            return match self.expected {
                Expected::Anything | Expected::Raw => Ok(number.clone().into()),
                _ => self.refuse("number"),
            };
        };
        match shape {
            Shape::Int32 | Shape::IntOrString
                if number.as_i64().is_some_and(|n| i32::try_from(n).is_ok()) =>
            {
                Ok(number.clone().into())
            }
            Shape::Int64 if number.is_i64() => Ok(number.clone().into()),
            Shape::Double => Ok(number.clone().into()),
            Shape::Raw => Ok(number.clone().into()),
            Shape::Quantity => self.scalar(scalar::quantity(&number_text(number))),
            Shape::Int32 | Shape::Int64 | Shape::IntOrString => {
                self.refuse(&format!("number {}", number_text(number)))
            }
            _ => self.refuse("number"),
        }
    }

    fn scalar<E: serde::de::Error>(&self, read: Result<Value, String>) -> Result<Value, E> {
        read.or_else(|why| self.reader.fail(Error::Mismatch(why)))
    }

    fn members<'de, A: MapAccess<'de>>(self, owner: &'static Type, mut map: A) -> Result<Value, A::Error> {
        let reader = self.reader;
        let mut members = Map::new();
        let mut seen = 0_u128;
        while let Some(key) = map.next_key_seed(Key)? {
            let Some((at, field)) = owner.place(&key) else {
                reader.problem("unknown field", &key);
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            if seen & (1 << at) != 0 {
                reader.problem("duplicate field", &key);
            }
            seen |= 1 << at;
            let node = self.at(Expected::Shape(&field.shape));
            let value = reader.below(Step::Field(owner, field.name), || map.next_value_seed(node))?;
            match field.keeps(&value) {
                true => members.insert(field.name.to_owned(), value),
                false => members.remove(field.name),
            };
        }
        let unset = reader.table.fill(owner, &mut members);
        self.count(unset)?;
        Ok(Value::Object(members))
    }

    /// A map: keys that are no fields.
    fn entries<'de, A: MapAccess<'de>>(self, item: Expected, mut map: A) -> Result<Value, A::Error> {
        let reader = self.reader;
        let mut entries = Map::new();
        while let Some(key) = map.next_key_seed(Key)? {
            if entries.contains_key(&key) && !matches!(item, Expected::Raw) {
                reader.problem("duplicate field", &key);
            }
            let node = self.at(item);
            let value = reader.below(Step::Key(key.clone()), || map.next_value_seed(node))?;
            entries.insert(key, self.or_zero(item, value));
        }
        Ok(Value::Object(entries))
    }

    /// In a list or a map, null is the zero of what belongs there.
    fn or_zero(&self, expected: Expected, value: Value) -> Value {
        match expected {
            Expected::Shape(shape) if value.is_null() => self.reader.table.zero(shape),
            _ => value,
        }
    }

    fn count<E: serde::de::Error>(&self, values: usize) -> Result<(), E> {
        match self.reader.left.get().checked_sub(values) {
            Some(left) => {
                self.reader.left.set(left);
                Ok(())
            }
            None => self.reader.fail(Error::TooMany),
        }
    }
}

/// A number as it was most likely written.
fn number_text(number: &Number) -> String {
    match number.as_f64() {
        Some(float) if number.is_f64() => float.to_string(),
        _ => number.to_string(),
    }
}

impl<'de> DeserializeSeed<'de> for Node<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Node<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<Value, E> {
        self.count(1).map(|()| Value::Null)
    }

    fn visit_none<E: serde::de::Error>(self) -> Result<Value, E> {
        self.visit_unit()
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_bool<E: serde::de::Error>(self, on: bool) -> Result<Value, E> {
        self.count(1)?;
        match self.expected {
            Expected::Anything | Expected::Raw | Expected::Shape(Shape::Bool | Shape::Raw) => Ok(on.into()),
            _ => self.refuse("bool"),
        }
    }

    fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<Value, E> {
        self.count(1)?;
        self.number(&number.into())
    }

    fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<Value, E> {
        self.count(1)?;
        self.number(&number.into())
    }

    fn visit_f64<E: serde::de::Error>(self, number: f64) -> Result<Value, E> {
        self.count(1)?;
        match Number::from_f64(number) {
            Some(number) => self.number(&number),
            None => self.refuse("number"),
        }
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Value, E> {
        self.count(1)?;
        let Expected::Shape(shape) = self.expected else {
            return match self.expected {
                Expected::Anything | Expected::Raw => Ok(text.into()),
                _ => self.refuse("string"),
            };
        };
        match shape {
            Shape::String | Shape::IntOrString | Shape::Raw => Ok(text.into()),
            Shape::Bytes => self.scalar(scalar::bytes(text)),
            Shape::Time => self.scalar(scalar::time_of(text)),
            Shape::MicroTime => self.scalar(scalar::micro_time_of(text)),
            Shape::Duration => self.scalar(scalar::duration(text)),
            Shape::Quantity => self.scalar(scalar::quantity(text.trim())),
            _ => self.refuse("string"),
        }
    }

    fn visit_string<E: serde::de::Error>(self, text: String) -> Result<Value, E> {
        match self.expected {
            Expected::Shape(Shape::String) => self.count(1).map(|()| Value::String(text)),
            _ => self.visit_str(&text),
        }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        self.count(1)?;
        let item = match self.expected {
            Expected::Shape(Shape::List(item)) => Expected::Shape(item),
            Expected::Shape(Shape::Raw) | Expected::Raw => Expected::Raw,
            Expected::Anything => Expected::Anything,
            _ => return self.refuse("array"),
        };
        let mut items = Vec::new();
        let read =
            |list: &mut A, at| self.reader.below(Step::Index(at), || list.next_element_seed(self.at(item)));
        while let Some(value) = read(&mut list, items.len())? {
            items.push(self.or_zero(item, value));
        }
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Value, A::Error> {
        self.count(1)?;
        match self.expected {
            Expected::Object(id) => self.members(self.reader.table.of(id), map),
            Expected::Shape(Shape::Object(id)) => self.members(self.reader.table.of(*id), map),
            Expected::Shape(Shape::Map(item)) => self.entries(Expected::Shape(item), map),
            Expected::Shape(Shape::Raw) | Expected::Raw => self.entries(Expected::Raw, map),
            Expected::Anything => self.entries(Expected::Anything, map),
            Expected::Shape(_) => self.refuse("object"),
        }
    }
}

/// A key, also one that YAML takes for a number.
struct Key;

impl<'de> DeserializeSeed<'de> for Key {
    type Value = String;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<String, D::Error> {
        deserializer.deserialize_string(self)
    }
}

impl Visitor<'_> for Key {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a field name")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<String, E> {
        Ok(text.to_owned())
    }

    fn visit_string<E: serde::de::Error>(self, text: String) -> Result<String, E> {
        Ok(text)
    }
}
