//! Small rules from which validation is written: a [`Field`] is a value with the way to it, and its methods note what is
//! wrong in upstream's words.

use std::cell::RefCell;
use std::collections::HashSet;

use proto_kube::field::{Error, Errors, Path};
use proto_kube::object;
use proto_kube::quantity::Amount;
use serde_json::Value;

pub mod net;
mod schema;

pub use schema::schema;

/// What a field says that must not change.
pub const IMMUTABLE: &str = "field is immutable";

/// A value of an object, the way to it, and where its faults are noted. A missing value is null.
#[derive(Clone)]
pub struct Field<'a> {
    /// The value.
    pub value: &'a Value,
    /// The way to it.
    pub path: Path,
    errors: &'a RefCell<Errors>,
}

/// Runs rules on an object and returns what they found.
pub fn object(object: &Value, rules: impl FnOnce(Field<'_>)) -> Errors {
    at(object, &Path::default(), rules)
}

/// Runs rules on a part of an object at a path and returns what they found.
pub fn at(value: &Value, path: &Path, rules: impl FnOnce(Field<'_>)) -> Errors {
    let errors = RefCell::new(Errors::new());
    rules(Field { value, path: path.clone(), errors: &errors });
    errors.into_inner()
}

const NULL: &Value = &Value::Null;

impl<'a> Field<'a> {
    /// A member of the object here.
    #[must_use]
    pub fn at(&self, key: &str) -> Self {
        let value = self.value.get(key).unwrap_or(NULL);
        Self { value, path: self.path.child(key), errors: self.errors }
    }

    /// An entry of the map here.
    #[must_use]
    pub fn entry(&self, key: &str) -> Self {
        let value = self.value.get(key).unwrap_or(NULL);
        Self { value, path: self.path.key(key), errors: self.errors }
    }

    /// The same value, whose faults are noted at another path.
    #[must_use]
    pub fn shown_at(&self, path: Path) -> Self {
        Self { path, ..self.clone() }
    }

    /// The items of the list here.
    pub fn items(&self) -> impl Iterator<Item = Self> + use<'a> {
        let (path, errors) = (self.path.clone(), self.errors);
        let items = self.value.as_array().map(Vec::as_slice).unwrap_or_default();
        items.iter().enumerate().map(move |(at, value)| Self { value, path: path.index(at), errors })
    }

    /// The entries of the map here.
    pub fn entries(&self) -> impl Iterator<Item = (&'a str, Self)> + use<'a> {
        let (path, errors) = (self.path.clone(), self.errors);
        let entries = self.value.as_object().into_iter().flatten();
        entries.map(move |(key, value)| (key.as_str(), Self { value, path: path.key(key), errors }))
    }

    /// The member that is there, of several.
    #[must_use]
    pub fn member(&self, key: &str) -> Option<Self> {
        Some(self.at(key)).filter(Self::is_set)
    }

    /// Whether there is a value.
    #[must_use]
    pub fn is_set(&self) -> bool {
        !self.value.is_null()
    }

    /// Whether there is nothing, an empty text, list or map.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        match self.value {
            Value::Null => true,
            Value::String(text) => text.is_empty(),
            Value::Array(items) => items.is_empty(),
            Value::Object(members) => members.is_empty(),
            _ => false,
        }
    }

    /// The text; empty when there is none.
    #[must_use]
    pub fn text(&self) -> &'a str {
        self.value.as_str().unwrap_or_default()
    }

    /// The number, when there is one.
    #[must_use]
    pub fn number(&self) -> Option<i64> {
        self.value.as_i64()
    }

    /// The number; zero when there is none.
    #[must_use]
    pub fn number_or_zero(&self) -> i64 {
        self.number().unwrap_or(0)
    }

    /// Whether it is there and true.
    #[must_use]
    pub fn is_true(&self) -> bool {
        self.value == &Value::Bool(true)
    }

    /// How many items or entries there are.
    #[must_use]
    pub fn len(&self) -> usize {
        match self.value {
            Value::Array(items) => items.len(),
            Value::Object(members) => members.len(),
            _ => 0,
        }
    }

    /// Notes a fault.
    pub fn fault(&self, error: Error) {
        self.errors.borrow_mut().push(error);
    }

    /// Notes faults found elsewhere.
    pub fn faults(&self, errors: impl IntoIterator<Item = Error>) {
        self.errors.borrow_mut().extend(errors);
    }

    /// How many faults have been noted.
    #[must_use]
    pub fn count(&self) -> usize {
        self.errors.borrow().len()
    }

    /// Notes that the value is not one the field can have.
    pub fn invalid(&self, detail: impl Into<String>) {
        let value = match self.value {
            Value::Null => Value::String(String::new()),
            value => value.clone(),
        };
        self.fault(Error::invalid(&self.path, value, detail));
    }

    /// Notes that the value, shown in another form, is not one the field can have.
    pub fn invalid_value(&self, shown: impl Into<Value>, detail: impl Into<String>) {
        self.fault(Error::invalid(&self.path, shown, detail));
    }

    /// Notes that the field must be set.
    pub fn required(&self, detail: impl Into<String>) {
        self.fault(Error::required(&self.path, detail));
    }

    /// Notes that the field must not be set, or not be changed.
    pub fn forbidden(&self, detail: impl Into<String>) {
        self.fault(Error::forbidden(&self.path, detail));
    }

    /// Notes that the value is there twice.
    pub fn duplicate(&self) {
        self.fault(Error::duplicate(&self.path, self.value.clone()));
    }

    /// Notes that the value refers to nothing.
    pub fn not_found(&self) {
        self.fault(Error::not_found(&self.path, self.value.clone()));
    }

    /// Notes that the value is none of those known.
    pub fn not_supported(&self, known: &[&str]) {
        let value = if self.is_set() { self.value.clone() } else { "".into() };
        self.fault(Error::not_supported(&self.path, value, known));
    }

    /// Notes each text of what is wrong.
    pub fn all_invalid(&self, details: impl IntoIterator<Item = String>) {
        for detail in details {
            self.invalid(detail);
        }
    }

    /// Rule: not empty. Tells whether it holds.
    pub fn needs(&self, detail: &str) -> bool {
        let empty = self.is_empty();
        if empty {
            self.required(detail);
        }
        !empty
    }

    /// Rule: set, perhaps to something empty. Tells whether it holds.
    pub fn needs_value(&self, detail: &str) -> bool {
        if !self.is_set() {
            self.required(detail);
        }
        self.is_set()
    }

    /// Rule: one of the known texts, which must be there.
    pub fn one_of(&self, known: &[&str]) {
        if self.needs("") && !known.contains(&self.text()) {
            self.not_supported(known);
        }
    }

    /// Rule: when set, one of the known texts.
    pub fn maybe_one_of(&self, known: &[&str]) {
        if self.is_set() && !known.contains(&self.text()) {
            self.not_supported(known);
        }
    }

    /// Rule: when set, not less than zero.
    pub fn non_negative(&self) {
        if self.number_or_zero() < 0 {
            self.invalid("must be greater than or equal to 0");
        }
    }

    /// Rule: when set, more than zero.
    pub fn positive(&self) {
        if self.number().is_some_and(|n| n <= 0) {
            self.invalid("must be greater than 0");
        }
    }

    /// Rule: when set, between the two, both included.
    pub fn between(&self, least: i64, most: i64) {
        if self.number().is_some_and(|n| !(least..=most).contains(&n)) {
            self.invalid(format!("must be between {least} and {most}, inclusive"));
        }
    }

    /// Rule: when not empty, of a shape, as those of `proto_kube::name`.
    pub fn shaped(&self, shape: impl Fn(&str) -> Vec<String>) {
        if !self.is_empty() {
            self.all_invalid(shape(self.text()));
        }
    }

    /// Rule: there, and of a shape.
    pub fn needs_shape(&self, shape: impl Fn(&str) -> Vec<String>) {
        if self.needs("") {
            self.all_invalid(shape(self.text()));
        }
    }

    /// Rule: no item of the list comes twice.
    pub fn distinct(&self) {
        let mut seen = HashSet::new();
        for item in self.items() {
            if !seen.insert(item.value) {
                item.duplicate();
            }
        }
    }

    /// Rule: not longer than so many bytes.
    pub fn at_most(&self, bytes: usize) {
        if self.text().len() > bytes {
            self.fault(Error::too_long(&self.path, bytes));
        }
    }

    /// Rule: as it was.
    pub fn unchanged(&self, old: &Value) {
        let old = self.path_in(old);
        if !same(self.value, old) {
            self.invalid_value(self.value.clone(), IMMUTABLE);
        }
    }

    /// The value at the same dotted path in another object; null when it leads through a list or a map's entry.
    fn path_in<'v>(&self, other: &'v Value) -> &'v Value {
        let path = self.path.to_string();
        path.split('.').try_fold(other, |value, key| value.get(key)).unwrap_or(NULL)
    }

    /// Rule: a quantity; the amount when it is one.
    pub fn quantity(&self) -> Option<Amount> {
        amount(self.value)
    }
}

/// The amount that a quantity in JSON stands for: a text or a number.
#[must_use]
pub fn amount(value: &Value) -> Option<Amount> {
    match value {
        Value::String(text) => Amount::parse(text).ok(),
        Value::Number(number) => Amount::parse(&number.to_string()).ok(),
        _ => None,
    }
}

/// Whether two values mean the same: a missing member, an empty list and an empty map do, and so do equal quantities only
/// when they are written the same way.
#[must_use]
pub fn same(a: &Value, b: &Value) -> bool {
    let empty = |v: &Value| match v {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(members) => members.values().all(Value::is_null),
        _ => false,
    };
    match (a, b) {
        (Value::Object(a), Value::Object(b)) => {
            let missing = |key: &String| !a.contains_key(key);
            a.iter().all(|(key, value)| same(value, b.get(key).unwrap_or(NULL)))
                && b.iter().all(|(key, value)| !missing(key) || same(NULL, value))
        }
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        _ if empty(a) && empty(b) => true,
        _ => a == b,
    }
}

/// Whether a member at a path is the same in two objects.
#[must_use]
pub fn same_at(a: &Value, b: &Value, path: &[&str]) -> bool {
    same(object::at(a, path).unwrap_or(NULL), object::at(b, path).unwrap_or(NULL))
}

/// What differs between two values, a line for each old (`-`) and new (`+`) value with the way to it.
#[must_use]
pub fn diff(old: &Value, new: &Value) -> String {
    let mut lines = String::new();
    differ(&Path::default(), old, new, &mut lines);
    lines
}

fn differ(path: &Path, old: &Value, new: &Value, lines: &mut String) {
    match (old, new) {
        _ if same(old, new) => {}
        (Value::Object(a), Value::Object(b)) => {
            let keys: std::collections::BTreeSet<&String> = a.keys().chain(b.keys()).collect();
            for key in keys {
                let (old, new) = (a.get(key).unwrap_or(NULL), b.get(key).unwrap_or(NULL));
                differ(&path.child(key), old, new, lines);
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            for (index, (old, new)) in a.iter().zip(b).enumerate() {
                differ(&path.index(index), old, new, lines);
            }
        }
        _ => {
            for (sign, value) in [('-', old), ('+', new)] {
                if !value.is_null() {
                    lines.push_str(&format!("{sign} {path}: {value}\n"));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_comes_twice_is_told_however_long_the_list() {
        let told = |list: &Value| -> Vec<String> {
            object(list, |list| list.distinct()).iter().map(ToString::to_string).collect()
        };
        let list = json!(["a", 1, 1.0, "a", {"b": [1]}, {"b": [1]}, "a"]);
        assert_eq!(
            told(&list),
            [
                "[3]: Duplicate value: \"a\"",
                "[5]: Duplicate value: {\"b\":[1]}",
                "[6]: Duplicate value: \"a\""
            ]
        );
        let many: Value = (0..50_000).map(|number| json!(number)).collect();
        assert_eq!(told(&many), [""; 0]);
    }
}
