//! Bodies on their way in: bytes to the object that is meant.

use bytes::Bytes;
use proto_kube::decode::{self, Strictness};
use proto_kube::schema::{self, TypeId};
use proto_kube::status::{Result, Status};
use proto_kube::{Gvk, wire};
use serde_json::Value;

use super::call::Call;
use super::index;
use super::negotiate::Media;
use super::options::Validation;
use crate::reply::{self, Body};

/// Reads a body.
///
/// # Errors
/// 413 when it is too large.
pub(crate) async fn read(call: &Call<'_>, body: Body) -> Result<Bytes> {
    reply::read(body, call.server.config.body_limit).await
}

/// Where upstream registers its kinds: part of what clients are told.
const SCHEME: &str = "k8s.io/kubernetes/pkg/api/legacyscheme/scheme.go:30";

/// How the decoder is told of a `fieldValidation`.
#[must_use]
pub(crate) fn strictness(validation: Validation) -> Strictness {
    match validation {
        Validation::Ignore => Strictness::Ignore,
        Validation::Warn => Strictness::Warn,
        Validation::Strict => Strictness::Strict,
    }
}

/// The type of a kind.
///
/// # Errors
/// 500 when the schema does not know it.
pub(crate) fn type_of(kind: &Gvk) -> Result<TypeId> {
    schema::table().kind(kind).ok_or_else(|| Status::internal(format!("no schema for {kind}")))
}

/// What upstream's own package for a group is called, as some texts show it.
pub(crate) fn package(kind: &Gvk) -> &str {
    match kind.group.split('.').next() {
        None | Some("") => "core",
        Some(first) => first,
    }
}

/// Refuses a body that says it is of another kind than the endpoint takes.
fn check_kind(found: &Gvk, expected: &Gvk) -> Result<()> {
    if found == expected {
        return Ok(());
    }
    let known = proto_kube::resource::of_kind(found).is_some();
    if known && found.kind == expected.kind {
        let (found, expected) = (found.api_version(), expected.api_version());
        let why = format!(
            "the API version in the data ({found}) does not match the expected API version ({expected})"
        );
        return Err(Status::bad_request(why));
    }
    let (kind, version, wanted) = (&found.kind, &found.version, &expected.kind);
    let why = other_kind(found, expected);
    Err(Status::bad_request(format!(
        "{kind} in version \"{version}\" cannot be handled as a {wanted}: {why}"
    )))
}

/// Why something of another kind is not what is expected.
pub(crate) fn other_kind(found: &Gvk, expected: &Gvk) -> String {
    let Gvk { kind, version, .. } = found;
    if proto_kube::resource::of_kind(found).is_some() {
        format!(
            "converting ({version}.{kind}) to ({}.{}): unknown conversion",
            package(expected),
            expected.kind
        )
    } else {
        let version = found.api_version();
        format!("no kind \"{kind}\" is registered for version \"{version}\" in scheme \"{SCHEME}\"")
    }
}

fn protobuf(bytes: &[u8], expected: &Gvk, id: TypeId) -> Result<Value> {
    let Gvk { version, kind, .. } = expected;
    let refusal = |e: wire::Error| {
        Status::bad_request(format!("{kind} in version \"{version}\" cannot be handled as a {kind}: {e}"))
    };
    let envelope = wire::Envelope::open(bytes).map_err(refusal)?;
    if !envelope.kind.is_empty() || !envelope.api_version.is_empty() {
        check_kind(&envelope.gvk(), expected)?;
    }
    wire::object(expected, id, envelope.raw).map_err(refusal)
}

/// An object of a kind, and what was wrong with its fields.
fn typed(
    content_type: &str,
    bytes: &[u8],
    expected: &Gvk,
    strictness: Strictness,
) -> Result<(Value, Vec<String>)> {
    let media = Media::of_body(content_type)?;
    let refusal = |e: decode::Error| e.refusal(expected, bytes);
    if media == Media::Protobuf {
        return protobuf(bytes, expected, type_of(expected)?).map(|object| (object, Vec::new()));
    }
    let kind = type_of(expected)?;
    let decoded = match media {
        Media::Yaml => decode::yaml(bytes, kind, strictness),
        Media::Json | Media::Protobuf => {
            let head = decode::head(bytes).map_err(refusal)?;
            let or =
                |found: &str, expected: String| if found.is_empty() { expected } else { found.to_owned() };
            let version = or(&head.api_version, expected.api_version());
            check_kind(&Gvk::new(&version, &or(&head.kind, expected.kind.clone())), expected)?;
            decode::json(bytes, kind, strictness)
        }
    };
    let (mut object, problems) = decoded.map_err(refusal)?;
    if media == Media::Yaml {
        let text = |key: &str| proto_kube::object::text(&object, &[key]).to_owned();
        let (version, name) = (text("apiVersion"), text("kind"));
        let version = if version.is_empty() { expected.api_version() } else { version };
        let name = if name.is_empty() { expected.kind.clone() } else { name };
        check_kind(&Gvk::new(&version, &name), expected)?;
    }
    object["apiVersion"] = expected.api_version().into();
    object["kind"] = expected.kind.as_str().into();
    Ok((object, problems))
}

/// Options as the body of a request. Clients send them in whatever version they like.
///
/// # Errors
/// 400 for a body that is none, 415 for a form that there is not.
pub(crate) fn options(content_type: &str, bytes: &[u8], kind: &str) -> Result<Value> {
    let version = match Media::of_body(content_type)? {
        Media::Protobuf => {
            wire::Envelope::open(bytes).ok().map(|e| (e.api_version.to_owned(), e.kind.to_owned()))
        }
        Media::Json => decode::head(bytes).ok().map(|head| (head.api_version, head.kind)),
        Media::Yaml => None,
    };
    let expected = Gvk::new("v1", kind);
    match version.filter(|(version, found)| found == kind && version != "v1") {
        // The options of every version have the same fields: only the version is read over.
        Some((version, _)) => untold(content_type, bytes, &Gvk::new(&version, kind), &expected),
        None => typed(content_type, bytes, &expected, Strictness::Ignore).map(|(object, _)| object),
    }
}

/// Reads a body that tells one kind as another.
fn untold(content_type: &str, bytes: &[u8], told: &Gvk, kind: &Gvk) -> Result<Value> {
    let id = type_of(kind)?;
    let refusal = |e: decode::Error| e.refusal(kind, bytes);
    match Media::of_body(content_type)? {
        Media::Protobuf => protobuf(bytes, told, id),
        Media::Json => decode::json(bytes, id, Strictness::Ignore).map(|(object, _)| object).map_err(refusal),
        Media::Yaml => decode::yaml(bytes, id, Strictness::Ignore).map(|(object, _)| object).map_err(refusal),
    }
}

/// The object of a create or update in the version of the request, defaulted.
///
/// # Errors
/// As [`decode`], and for unknown fields where they are an error.
pub(crate) fn object(call: &Call<'_>, bytes: &[u8], validation: Validation) -> Result<Value> {
    let content_type = call.header("content-type");
    let (mut object, problems) = typed(content_type, bytes, &call.resource.gvk(), strictness(validation))?;
    call.warn(problems);
    kinds::of(call.resource).default(&mut object);
    Ok(object)
}

/// The object of a subresource whose body is of another kind.
///
/// # Errors
/// As [`object`].
pub(crate) fn other(call: &Call<'_>, bytes: &[u8], kind: &Gvk, validation: Validation) -> Result<Value> {
    let (object, problems) = typed(call.header("content-type"), bytes, kind, strictness(validation))?;
    call.warn(problems);
    Ok(object)
}

/// Turns an object of the version of the request into the one that is stored, defaulted.
#[must_use]
pub(crate) fn to_storage(call: &Call<'_>, mut object: Value) -> Value {
    index::to_storage(call.resource, &mut object);
    call.kind.default(&mut object);
    object
}
