//! What is wrong with a field of an object, in upstream's words (`k8s.io/apimachinery/pkg/util/validation/field`).

use std::fmt;

use serde_json::Value;

/// The way to a field: `spec.containers[0].image`, `metadata.labels[a/b]`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Path(String);

impl Path {
    /// Of a top-level field; several steps may be given with dots.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self(name.to_owned())
    }

    /// A field of the object at this path.
    #[must_use]
    pub fn child(&self, name: &str) -> Self {
        if self.0.is_empty() { Self::new(name) } else { Self(format!("{}.{name}", self.0)) }
    }

    /// An item of the list at this path.
    #[must_use]
    pub fn index(&self, index: usize) -> Self {
        Self(format!("{}[{index}]", self.0))
    }

    /// An entry of the map at this path.
    #[must_use]
    pub fn key(&self, key: &str) -> Self {
        Self(format!("{}[{key}]", self.0))
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "<nil>" } else { &self.0 })
    }
}

/// The machine-readable reason, as `Status.details.causes[].reason` has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// `FieldValueNotFound`
    NotFound,
    /// `FieldValueRequired`
    Required,
    /// `FieldValueDuplicate`
    Duplicate,
    /// `FieldValueInvalid`
    Invalid,
    /// `FieldValueInvalid`, where the value would say nothing.
    InvalidWhole,
    /// `FieldValueNotSupported`
    NotSupported,
    /// `FieldValueForbidden`
    Forbidden,
    /// `FieldValueTooLong`
    TooLong,
    /// `FieldValueTooMany`
    TooMany,
    /// `InternalError`
    Internal,
    /// `FieldValueTypeInvalid`
    TypeInvalid,
}

impl Reason {
    /// As it stands in a cause.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::NotFound => "FieldValueNotFound",
            Self::Required => "FieldValueRequired",
            Self::Duplicate => "FieldValueDuplicate",
            Self::Invalid | Self::InvalidWhole => "FieldValueInvalid",
            Self::NotSupported => "FieldValueNotSupported",
            Self::Forbidden => "FieldValueForbidden",
            Self::TooLong => "FieldValueTooLong",
            Self::TooMany => "FieldValueTooMany",
            Self::Internal => "InternalError",
            Self::TypeInvalid => "FieldValueTypeInvalid",
        }
    }

    fn text(self) -> &'static str {
        match self {
            Self::NotFound => "Not found",
            Self::Required => "Required value",
            Self::Duplicate => "Duplicate value",
            Self::Invalid | Self::InvalidWhole | Self::TypeInvalid => "Invalid value",
            Self::NotSupported => "Unsupported value",
            Self::Forbidden => "Forbidden",
            Self::TooLong => "Too long",
            Self::TooMany => "Too many",
            Self::Internal => "Internal error",
        }
    }
}

/// One fault of one field.
#[derive(Debug, Clone, PartialEq)]
pub struct Error {
    /// Where.
    pub path: Path,
    /// What kind of fault.
    pub reason: Reason,
    /// The value found there; not shown for some reasons.
    pub value: Value,
    /// What was expected; may be empty.
    pub detail: String,
}

impl Error {
    fn new(path: &Path, reason: Reason, value: Value, detail: impl Into<String>) -> Self {
        Self { path: path.clone(), reason, value, detail: detail.into() }
    }

    /// The value is not one the field can have.
    #[must_use]
    pub fn invalid(path: &Path, value: impl Into<Value>, detail: impl Into<String>) -> Self {
        Self::new(path, Reason::Invalid, value.into(), detail)
    }

    /// The value is not one the field can have, and is not shown.
    #[must_use]
    pub fn invalid_whole(path: &Path, detail: impl Into<String>) -> Self {
        Self::new(path, Reason::InvalidWhole, Value::Null, detail)
    }

    /// The field must be set.
    #[must_use]
    pub fn required(path: &Path, detail: impl Into<String>) -> Self {
        Self::new(path, Reason::Required, Value::Null, detail)
    }

    /// The value stands there twice.
    #[must_use]
    pub fn duplicate(path: &Path, value: impl Into<Value>) -> Self {
        Self::new(path, Reason::Duplicate, value.into(), "")
    }

    /// The field refers to something that does not exist.
    #[must_use]
    pub fn not_found(path: &Path, value: impl Into<Value>) -> Self {
        Self::new(path, Reason::NotFound, value.into(), "")
    }

    /// The field must not be set, or not be changed.
    #[must_use]
    pub fn forbidden(path: &Path, detail: impl Into<String>) -> Self {
        Self::new(path, Reason::Forbidden, Value::Null, detail)
    }

    /// The value is none of those known, which are shown in the order given: upstream's is the alphabet's for most
    /// fields, not for all.
    #[must_use]
    pub fn not_supported(path: &Path, value: impl Into<Value>, known: &[&str]) -> Self {
        let known = known.iter().map(|k| format!("\"{k}\"")).collect::<Vec<_>>();
        let detail =
            if known.is_empty() { String::new() } else { format!("supported values: {}", known.join(", ")) };
        Self::new(path, Reason::NotSupported, value.into(), detail)
    }

    /// The text is longer than `most` bytes.
    #[must_use]
    pub fn too_long(path: &Path, most: usize) -> Self {
        Self::new(path, Reason::TooLong, Value::Null, format!("may not be more than {most} bytes"))
    }

    /// The list or map has more than `most` items.
    #[must_use]
    pub fn too_many(path: &Path, found: usize, most: usize) -> Self {
        Self::new(path, Reason::TooMany, found.into(), format!("must have at most {most} items"))
    }

    /// The fault without its path, as it stands in a cause's `message`.
    #[must_use]
    pub fn body(&self) -> String {
        let text = self.reason.text();
        let head = match self.reason {
            Reason::Required
            | Reason::Forbidden
            | Reason::TooLong
            | Reason::Internal
            | Reason::InvalidWhole => text.to_owned(),
            _ => format!("{text}: {}", self.value),
        };
        if self.detail.is_empty() { head } else { format!("{head}: {}", self.detail) }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.body())
    }
}

/// All faults of an object.
pub type Errors = Vec<Error>;
