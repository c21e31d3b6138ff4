//! Patches of the four types, and the making of objects by apply.

use bytes::Bytes;
use proto_kube::decode::{self, Strictness};
use proto_kube::field::{self, Path};
use proto_kube::status::{Result, Status};
use proto_kube::{Gvk, object, schema};
use serde_json::{Value, json};

use super::call::Call;
use super::options::{Validation, Verb, Write};
use super::owners::Owner;
use super::update::{self, Change};
use super::{body, index};
use crate::reply::{Body, Response};

/// The types of patches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Type {
    /// RFC 6902.
    Json,
    /// RFC 7386.
    Merge,
    /// Merges lists by their keys.
    Strategic,
    /// Server-side apply.
    Apply,
}

const TYPES: [(&str, Type); 4] = [
    ("application/json-patch+json", Type::Json),
    ("application/merge-patch+json", Type::Merge),
    ("application/strategic-merge-patch+json", Type::Strategic),
    ("application/apply-patch+yaml", Type::Apply),
];

impl Type {
    /// Of a `Content-Type`.
    ///
    /// # Errors
    /// 415 for any other.
    pub(crate) fn of(content_type: &str) -> Result<Self> {
        let essence = content_type.split(';').next().unwrap_or_default().trim();
        TYPES.into_iter().find_map(|(name, kind)| (name == essence).then_some(kind)).ok_or_else(unsupported)
    }
}

/// 415, as upstream words it for patches.
fn unsupported() -> Status {
    let mut status = Status::unsupported_media_type(&[]);
    status.message = "415: Unsupported Media Type".to_owned();
    status.details = json!({});
    status
}

/// A patch that was read.
pub(crate) struct Patch {
    kind: Type,
    bytes: Bytes,
    /// What the bytes say; null for a JSON patch.
    value: Value,
    /// Fields that stand there twice, or that no operation has.
    problems: Vec<String>,
    /// What the request asks for besides.
    pub options: Write,
}

impl Patch {
    /// Reads a patch.
    ///
    /// # Errors
    /// 415 for another type, 400 for what is no patch.
    pub(crate) async fn read(call: &Call<'_>, body: Body) -> Result<Self> {
        let kind = Type::of(call.header("content-type"))?;
        let bytes = body::read(call, body).await?;
        let verb = if kind == Type::Apply { Verb::Apply } else { Verb::Patch };
        let options = Write::parse(&call.ctx.query, verb, &call.ctx.user_agent)?;
        // Whether doubled fields refuse the request is decided with what the object does not know.
        let (value, problems) = match kind {
            Type::Json => serde_json::from_slice::<serde::de::IgnoredAny>(&bytes)
                .map(|_| (Value::Null, operations(&bytes)))
                .map_err(|_| Status::bad_request("invalid JSON patch"))?,
            Type::Merge | Type::Strategic => decode::untyped_json(&bytes, Strictness::Warn)
                .map_err(|_| Status::bad_request("invalid JSON patch"))?,
            Type::Apply => decode::untyped_yaml(&bytes, Strictness::Warn)
                .map_err(|why| Status::bad_request(format!("error decoding patch: {why}")))?,
        };
        match options.validation {
            Validation::Strict if kind == Type::Apply && !problems.is_empty() => {
                let why = format!("error strict decoding patch: {}", problems.join(", "));
                return Err(Status::bad_request(why));
            }
            Validation::Warn => call.warn(problems.clone()),
            Validation::Strict | Validation::Ignore => {}
        }
        Ok(Self { kind, bytes, value, problems, options })
    }

    /// Whether a missing object is made.
    #[must_use]
    pub(crate) fn creates(&self) -> bool {
        self.kind == Type::Apply
    }

    /// What a patch that is no apply makes of an object of a kind.
    fn patched(&self, kind: &Gvk, live: &Value) -> Result<Value> {
        let patched = match self.kind {
            Type::Json => ::patch::json(live, &self.bytes),
            Type::Merge => ::patch::merge(live.clone(), &self.value),
            Type::Strategic => {
                ::patch::strategic(schema::table(), body::type_of(kind)?, live.clone(), self.value.clone())
            }
            Type::Apply => return Err(unsupported()),
        };
        patched.map_err(Into::into)
    }

    /// Brings a patched object into the shape of its kind.
    ///
    /// # Errors
    /// 422 for what does not fit.
    pub(crate) fn decode(&self, call: &Call<'_>, kind: &Gvk, patched: Value) -> Result<Value> {
        self.same_kind(&patched, kind)?;
        let strictness = match self.options.validation {
            // What an apply does not know is found when it is applied.
            _ if self.kind == Type::Apply => Strictness::Ignore,
            Validation::Ignore => Strictness::Ignore,
            Validation::Warn | Validation::Strict => Strictness::Warn,
        };
        let (object, problems) = decode::value(patched.clone(), body::type_of(kind)?, strictness)
            .map_err(|why| self.invalid(&patched, &why.to_string()))?;
        if self.options.validation == Validation::Strict && self.kind != Type::Apply {
            let all: Vec<&str> = self.problems.iter().chain(&problems).map(String::as_str).collect();
            if !all.is_empty() {
                let why = format!("strict decoding error: {}", all.join(", "));
                return Err(self.invalid(&patched, &why));
            }
        }
        call.warn(problems);
        Ok(object)
    }

    /// Refuses what is of another kind than before the patch. A strategic merge patch does not reach the kind.
    fn same_kind(&self, patched: &Value, kind: &Gvk) -> Result<()> {
        let found = Gvk::new(object::text(patched, &["apiVersion"]), object::text(patched, &["kind"]));
        let known = found.kind == kind.kind && proto_kube::resource::of_kind(&found).is_some();
        match self.kind {
            Type::Json | Type::Merge if found.kind.is_empty() => {
                Err(self.invalid(patched, &format!("Object 'Kind' is missing in '{patched}'")))
            }
            Type::Json | Type::Merge if found != *kind && !known => {
                Err(self.invalid(patched, &body::other_kind(&found, kind)))
            }
            _ => Ok(()),
        }
    }

    /// 422 for what came of the patch.
    fn invalid(&self, patched: &Value, why: &str) -> Status {
        let (shown, why) = match self.kind {
            Type::Strategic => (go(&self.value), restored(why).unwrap_or_else(|| why.to_owned())),
            Type::Json | Type::Merge | Type::Apply => (patched.to_string(), why.to_owned()),
        };
        let error = field::Error::invalid(&Path::new("patch"), shown, why);
        Status::invalid(&Gvk::new("", ""), "", &[error])
    }

    /// What the patch makes of an object as it is stored.
    fn make(&self, call: &Call<'_>, live: Option<&Value>) -> Result<Value> {
        let (resource, kind) = (call.resource, call.resource.gvk());
        let live = live.map(|live| {
            let mut live = live.clone();
            index::from_storage(resource, &mut live);
            live
        });
        let owner = self.owner(call, &kind, call.subresource());
        let applied = self.applied(&owner, live.as_ref())?;
        // Decoding drops an empty list, which here asks for all owners to be forgotten.
        let forgets = object::at(&applied, &["metadata", "managedFields"]) == Some(&json!([]));
        let mut object = self.decode(call, &kind, applied)?;
        if forgets {
            object["metadata"]["managedFields"] = json!([]);
        }
        index::stamp(resource, &mut object);
        kinds::of(resource).default(&mut object);
        Ok(body::to_storage(call, self.recorded(&owner, live.as_ref(), object)))
    }

    /// The patch as field management sees it.
    #[must_use]
    pub(crate) fn owner<'a>(&'a self, call: &'a Call<'a>, kind: &'a Gvk, subresource: &'a str) -> Owner<'a> {
        Owner { call, kind, subresource, manager: &self.options.manager }
    }

    /// The object after the patch, of whatever type. `live` is of the owner's kind, as is what comes back; it is not
    /// decoded yet.
    ///
    /// # Errors
    /// 404 when there is nothing to patch, 409 when an apply conflicts, and what [`Patch::patched`] answers.
    pub(crate) fn applied(&self, owner: &Owner<'_>, live: Option<&Value>) -> Result<Value> {
        match (live, self.kind) {
            (live, Type::Apply) => owner.apply(live, &self.value, self.options.force),
            (Some(live), _) => self.patched(owner.kind, live),
            (None, _) => Err(Status::not_found(owner.call.group_resource(), owner.call.path_name())),
        }
    }

    /// Records the owners of what a patch changed; an apply has done so already.
    #[must_use]
    pub(crate) fn recorded(&self, owner: &Owner<'_>, live: Option<&Value>, object: Value) -> Value {
        if self.kind == Type::Apply { object } else { owner.record(live, object) }
    }
}

/// A value as Go prints it, which is how upstream shows a strategic merge patch.
fn go(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) => format!("[{}]", items.iter().map(go).collect::<Vec<_>>().join(" ")),
        Value::Object(members) => {
            let members: Vec<String> =
                members.iter().map(|(key, value)| format!("{key}:{}", go(value))).collect();
            format!("map[{}]", members.join(" "))
        }
        other => other.to_string(),
    }
}

/// What upstream says when the outcome of a strategic merge patch, which it never writes as JSON, has a value of a wrong
/// type; the same about JSON is what is told here. Nothing about other mistakes.
fn restored(mismatch: &str) -> Option<String> {
    let (found, expected) = mismatch.strip_prefix("json: cannot unmarshal ")?.split_once(" into Go ")?;
    let expected = expected.rsplit_once(" of type ")?.1;
    let found = match found {
        "array" => "slice",
        "object" => "map",
        "string" | "bool" => found,
        number if number.contains('.') => "float64",
        _ => "int64",
    };
    Some(match (expected, found) {
        (map, _) if map.starts_with("map[") => format!("cannot restore map from {found}"),
        (list, _) if list.starts_with("[]") => format!("cannot restore slice from {found}"),
        (kind, _) if kind.contains('.') => format!("cannot restore struct from: {found}"),
        ("string", "int64") | ("int32" | "int64", "float64") => {
            format!("cannot convert {found} to {expected}")
        }
        (scalar, _) => format!("unrecognized type: {scalar}"),
    })
}

/// What the operations of a JSON patch have that none should.
fn operations(patch: &[u8]) -> Vec<String> {
    let operations: Value = serde_json::from_slice(patch).unwrap_or_default();
    let mut problems = Vec::new();
    for (at, operation) in operations.as_array().into_iter().flatten().enumerate() {
        let known = |key: &&String| !matches!(key.as_str(), "op" | "path" | "from" | "value");
        for key in operation.as_object().into_iter().flat_map(|o| o.keys()).filter(known) {
            problems.push(format!("json patch unknown field \"[{at}].{key}\""));
        }
    }
    problems
}

/// Answers a patch of the object itself, or through a subresource whose body is the object.
///
/// # Errors
/// What is wrong with the request, and what [`update::update`] answers.
pub(crate) async fn patch(call: &Call<'_>, body: Body) -> Result<Response> {
    let patch = Patch::read(call, body).await?;
    call.renderer()?;
    let make = |live: Option<&Value>| patch.make(call, live);
    let subresource = call.subresource();
    let creates = subresource.is_empty() && patch.creates();
    let change = Change { subresource, strategy: subresource, creates, replaces: false, make: &make };
    let written = update::update(call, &patch.options, call.path_name(), &change).await?;
    call.answer_stored(if written.created { 201 } else { 200 }, written.object)
}

#[cfg(test)]
mod tests {
    use super::restored;

    #[test]
    fn strategic_patches_are_refused_in_upstreams_words() {
        let told = |found: &str, expected: &str| {
            restored(&format!("json: cannot unmarshal {found} into Go struct field Pod.x of type {expected}"))
        };
        for (found, expected, words) in [
            ("string", "map[string]string", "cannot restore map from string"),
            ("array", "map[string]string", "cannot restore map from slice"),
            ("object", "[]v1.Container", "cannot restore slice from map"),
            ("string", "v1.PodSpec", "cannot restore struct from: string"),
            ("number", "string", "cannot convert int64 to string"),
            ("number 1.5", "int64", "cannot convert float64 to int64"),
            ("string", "int64", "unrecognized type: int64"),
            ("string", "bool", "unrecognized type: bool"),
            ("bool", "string", "unrecognized type: string"),
        ] {
            assert_eq!(told(found, expected).as_deref(), Some(words), "{found} for {expected}");
        }
        assert_eq!(restored("unable to parse quantity's suffix"), None);
    }
}
