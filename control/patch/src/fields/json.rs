//! `FieldsV1`: a set as JSON. A member is `{}` or has a member `.`, an element is a letter, a colon and its content.

use std::fmt::Write as _;

use serde_json::{Map, Value};

use super::{Element, Set};

impl Set {
    /// Reads `FieldsV1`. Elements of an unknown letter are skipped.
    ///
    /// # Errors
    /// Upstream's text, when an element or what stands below it cannot be read.
    pub fn from_value(fields: &Value) -> Result<Self, String> {
        read(fields).map(|(_, set)| set)
    }

    /// Reads `FieldsV1` from its text.
    ///
    /// # Errors
    /// As [`Set::from_value`], and when it is no JSON.
    pub fn parse(text: &[u8]) -> Result<Self, String> {
        let fields: Value = serde_json::from_slice(text).map_err(|e| e.to_string())?;
        Self::from_value(&fields)
    }

    /// As `FieldsV1`.
    #[must_use]
    pub fn to_value(&self) -> Value {
        Value::Object(self.members())
    }

    fn members(&self) -> Map<String, Value> {
        let node = |(element, member, below): (&Element, bool, &Self)| {
            let mut members = below.members();
            if member && !members.is_empty() {
                members.insert(".".to_owned(), Value::Object(Map::new()));
            }
            (key(element), Value::Object(members))
        };
        self.nodes().map(node).collect()
    }

    /// As the text of `FieldsV1`, its elements in their order.
    #[must_use]
    pub fn print(&self) -> String {
        let mut out = String::new();
        self.write(&mut out, false);
        out
    }

    fn write(&self, out: &mut String, member: bool) {
        out.push('{');
        let mut comma = "";
        if member && !self.is_empty() {
            out.push_str("\".\":{}");
            comma = ",";
        }
        for (element, member, below) in self.nodes() {
            write!(out, "{comma}{}:", Value::String(key(element))).expect("a String takes all");
            below.write(out, member);
            comma = ",";
        }
        out.push('}');
    }
}

/// Whether what holds these fields is itself a member, and the paths below it.
fn read(fields: &Value) -> Result<(bool, Set), String> {
    let members = match fields {
        Value::Null => return Ok((true, Set::default())),
        Value::Object(members) => members,
        other => return Err(format!("expected an object, got {other}")),
    };
    let mut set = Set::default();
    let mut member = false;
    for (key, value) in members {
        if key == "." {
            member = true;
        } else if let Some(element) = element(key)? {
            let (member, below) = read(value)?;
            set.put(element, member, below);
        }
    }
    Ok((member || set.is_empty(), set))
}

fn element(key: &str) -> Result<Option<Element>, String> {
    let content = match (key.len(), key.get(..2)) {
        (0 | 1, _) => return Err("key must be 2 characters long:".to_owned()),
        (_, Some("f:" | "k:" | "v:" | "i:")) => &key[2..],
        _ if key.as_bytes()[1] != b':' => return Err(format!("missing colon: {key}")),
        _ => return Ok(None),
    };
    let json = || serde_json::from_str(content).map_err(|e: serde_json::Error| e.to_string());
    Ok(Some(match key.as_bytes()[0] {
        b'f' => Element::Field(content.to_owned()),
        b'v' => Element::Value(whole(json()?)),
        b'k' => match json()? {
            Value::Object(fields) => {
                let mut fields: Vec<_> = fields.into_iter().map(|(name, v)| (name, whole(v))).collect();
                fields.sort_by(|(a, _), (b, _)| a.cmp(b));
                Element::Key(fields)
            }
            other => return Err(format!("expected an object, got {other}")),
        },
        _ => Element::Index(content.parse().map_err(|_| format!("invalid index: {content}"))?),
    }))
}

/// A number without its empty fraction: there is one way to write each.
fn whole(value: Value) -> Value {
    match value.as_f64() {
        #[expect(clippy::cast_possible_truncation, reason = "whole, and no larger than 2^53")]
        Some(n) if value.is_f64() && n.fract() == 0.0 && n.abs() <= 9e15 => (n as i64).into(),
        _ => value,
    }
}

fn key(element: &Element) -> String {
    match element {
        Element::Field(name) => format!("f:{name}"),
        Element::Key(fields) => {
            let fields: Vec<_> = fields
                .iter()
                .map(|(name, value)| format!("{}:{value}", Value::from(name.as_str())))
                .collect();
            format!("k:{{{}}}", fields.join(","))
        }
        Element::Value(value) => format!("v:{value}"),
        Element::Index(at) => format!("i:{at}"),
    }
}
