//! Patches of the four types, and the making of objects by apply.

use bytes::Bytes;
use proto_kube::decode::{self, Strictness};
use proto_kube::field::{self, Path};
use proto_kube::status::{Result, Status};
use proto_kube::{Gvk, schema};
use serde_json::Value;

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
        TYPES
            .into_iter()
            .find_map(|(name, kind)| (name == essence).then_some(kind))
            .ok_or_else(|| Status::unsupported_media_type(&TYPES.map(|(name, _)| name)))
    }
}

/// A patch that was read.
pub(crate) struct Patch {
    kind: Type,
    bytes: Bytes,
    /// What the bytes say; null for a JSON patch.
    value: Value,
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
        let strictness = body::strictness(options.validation);
        let decoded = match kind {
            Type::Json => serde_json::from_slice::<serde::de::IgnoredAny>(&bytes)
                .map(|_| (Value::Null, Vec::new()))
                .map_err(|_| Status::bad_request("invalid JSON patch"))?,
            Type::Merge | Type::Strategic => {
                untyped(decode::untyped_json(&bytes, strictness), |why| match why {
                    decode::Error::Strict(_) => invalid_patch(&bytes, &why.to_string()),
                    _ => Status::bad_request("invalid JSON patch"),
                })?
            }
            Type::Apply => untyped(decode::untyped_yaml(&bytes, strictness), |why| match why {
                decode::Error::Strict(_) => {
                    Status::bad_request(format!("error strict decoding patch: {why}"))
                }
                _ => Status::bad_request(format!("error decoding patch: {why}")),
            })?,
        };
        let (value, problems) = decoded;
        call.warn(problems);
        Ok(Self { kind, bytes, value, options })
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
            Type::Apply => return Err(Status::unsupported_media_type(&TYPES.map(|(name, _)| name)[..3])),
        };
        patched.map_err(Into::into)
    }

    /// Brings a patched object into the shape of its kind.
    ///
    /// # Errors
    /// 422 for what does not fit.
    pub(crate) fn decode(&self, call: &Call<'_>, kind: &Gvk, patched: Value) -> Result<Value> {
        let strictness = match self.options.validation {
            // What an apply does not know is found when it is applied.
            _ if self.kind == Type::Apply => Strictness::Ignore,
            validation => body::strictness(validation),
        };
        let shown = if self.options.validation == Validation::Strict { patched.clone() } else { Value::Null };
        let (object, problems) = decode::value(patched, body::type_of(kind)?, strictness).map_err(|why| {
            let shown = if shown.is_null() {
                String::from_utf8_lossy(&self.bytes).into_owned()
            } else {
                shown.to_string()
            };
            invalid_patch(shown.as_bytes(), &why.to_string())
        })?;
        call.warn(problems);
        Ok(object)
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
        let mut object = self.decode(call, &kind, self.applied(&owner, live.as_ref())?)?;
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

fn untyped(
    decoded: std::result::Result<(Value, Vec<String>), decode::Error>,
    refusal: impl FnOnce(decode::Error) -> Status,
) -> Result<(Value, Vec<String>)> {
    decoded.map_err(refusal)
}

fn invalid_patch(patch: &[u8], why: &str) -> Status {
    let shown = String::from_utf8_lossy(patch).into_owned();
    let error = field::Error::invalid(&Path::new("patch"), shown, why);
    Status::invalid(&Gvk::new("", ""), "", &[error])
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
    let change = Change { subresource, strategy: subresource, creates, make: &make };
    let written = update::update(call, &patch.options, call.path_name(), &change).await?;
    call.answer_stored(if written.created { 201 } else { 200 }, written.object)
}
