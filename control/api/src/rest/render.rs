//! Objects on their way out, in the form that a request asks for. Objects in plain JSON are their stored bytes with the
//! resourceVersion spliced in; only the other forms are parsed.

use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;
use proto_kube::resource::Resource;
use proto_kube::{Gvk, Status, object, wire};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use super::Entry;
use super::index;
use super::negotiate::{Form, Media, Meta, Shape};
use super::options::Include;
use super::{scale, yaml};

/// Writes objects of one resource in one form.
#[derive(Clone, Copy)]
pub(crate) struct Renderer {
    /// The resource in the version asked for.
    pub resource: &'static Resource,
    /// The form asked for.
    pub form: Form,
    /// Which object a table's rows carry.
    pub include: Include,
    /// For ages in tables.
    pub now: Timestamp,
}

/// What stands at the head of a list.
#[derive(Debug, Clone, Default)]
pub(crate) struct Page {
    /// Of which revision it is.
    pub revision: i64,
    /// Where the next page begins; empty at the end.
    pub token: String,
    /// How many items are behind this page; unknown when a selector is at work.
    pub remaining: Option<usize>,
}

impl Page {
    fn metadata(&self) -> Value {
        let mut metadata = json!({"resourceVersion": self.revision.to_string()});
        if !self.token.is_empty() {
            metadata["continue"] = self.token.as_str().into();
        }
        if let Some(remaining) = self.remaining {
            metadata["remainingItemCount"] = remaining.into();
        }
        metadata
    }
}

/// The stored object as the API shows it, in the version it is stored in.
#[must_use]
pub(crate) fn parse(entry: &Entry) -> Value {
    at_revision(entry, entry.mod_revision)
}

fn at_revision(entry: &Entry, revision: i64) -> Value {
    let mut object = serde_json::from_slice(&entry.value).unwrap_or_else(|_| json!({}));
    object::metadata(&mut object).insert("resourceVersion".to_owned(), revision.to_string().into());
    object
}

/// Where the metadata of an object at rest begin: behind `"metadata":{`.
fn metadata_at(value: &[u8]) -> usize {
    const KEY: &[u8] = b"\"metadata\":{";
    value.windows(KEY.len()).position(|w| w == KEY).map_or(0, |at| at + KEY.len())
}

/// Appends the bytes of an object at rest with its resourceVersion; `whole` keeps version and kind, which the items of a
/// list leave out.
fn splice(out: &mut Vec<u8>, value: &[u8], revision: i64, whole: bool) {
    let at = metadata_at(value);
    out.extend_from_slice(if whole { &value[..at] } else { b"{\"metadata\":{" });
    out.extend_from_slice(format!("\"resourceVersion\":\"{revision}\"").as_bytes());
    let rest = &value[at..];
    if rest.first() != Some(&b'}') {
        out.push(b',');
    }
    out.extend_from_slice(rest);
}

/// Appends the metadata of an object at rest as a `PartialObjectMetadata`.
fn splice_partial(out: &mut Vec<u8>, entry: &Entry, revision: i64, meta: Meta) {
    #[derive(Deserialize)]
    struct Head<'a> {
        #[serde(borrow)]
        metadata: &'a RawValue,
    }
    let head = serde_json::from_slice::<Head<'_>>(&entry.value);
    let metadata = head.as_ref().map_or("{}", |head| head.metadata.get());
    let version = meta.api_version();
    out.extend_from_slice(
        format!("{{\"kind\":\"PartialObjectMetadata\",\"apiVersion\":\"{version}\",").as_bytes(),
    );
    let text = format!("\"metadata\":{metadata}}}");
    let mut object = Vec::with_capacity(text.len() + 40);
    splice(&mut object, text.as_bytes(), revision, true);
    out.extend_from_slice(&object);
}

/// What cannot be written is a fault of the schema table, and is told in place of the object.
fn protobuf(written: std::result::Result<Vec<u8>, wire::Error>) -> Bytes {
    let told = |error: wire::Error| {
        tracing::error!(%error, "an object cannot be written as protobuf");
        wire::encode(&Gvk::new("v1", "Status"), &Status::internal(error).to_json()).unwrap_or_default()
    };
    written.unwrap_or_else(told).into()
}

/// The metadata of an object alone.
fn partial(object: &Value, meta: Meta) -> Value {
    json!({
        "kind": "PartialObjectMetadata",
        "apiVersion": meta.api_version(),
        "metadata": object::at(object, &["metadata"]).cloned().unwrap_or_else(|| json!({})),
    })
}

/// An object in a media type. What the schema does not know is written as JSON.
#[must_use]
pub(crate) fn encode(form: Form, object: &Value) -> Bytes {
    match form.media {
        Media::Json if form.pretty => {
            let mut text = serde_json::to_string_pretty(object).unwrap_or_default();
            text.push('\n');
            text.into()
        }
        Media::Json => {
            let mut text = object.to_string();
            text.push('\n');
            text.into()
        }
        Media::Yaml => yaml::text(object).into(),
        Media::Protobuf => {
            let gvk = Gvk::new(object::text(object, &["apiVersion"]), object::text(object, &["kind"]));
            protobuf(wire::encode(&gvk, object))
        }
    }
}

impl Renderer {
    /// The stored object in the version asked for.
    #[must_use]
    pub(crate) fn value(&self, entry: &Entry) -> Value {
        self.value_at(entry, entry.mod_revision)
    }

    fn value_at(&self, entry: &Entry, revision: i64) -> Value {
        let mut object = at_revision(entry, revision);
        index::from_storage(self.resource, &mut object);
        object
    }

    /// Whether the stored bytes are of the version asked for.
    fn is_stored(&self) -> bool {
        std::ptr::eq(index::stored(self.resource), self.resource)
    }

    /// Whether an object needs no parsing.
    fn is_spliced(&self) -> bool {
        self.form.media == Media::Json && !self.form.pretty && self.is_stored()
    }

    /// A stored object as the body of an answer.
    #[must_use]
    pub(crate) fn object(&self, entry: &Entry) -> Bytes {
        if self.is_spliced() {
            let mut out = Vec::with_capacity(entry.value.len() + 40);
            match self.form.shape {
                Shape::Object => splice(&mut out, &entry.value, entry.mod_revision, true),
                Shape::Partial(meta) => splice_partial(&mut out, entry, entry.mod_revision, meta),
                Shape::PartialList(_) | Shape::Table(_) => return self.body(&self.value(entry)),
            }
            out.push(b'\n');
            return out.into();
        }
        self.body(&self.value(entry))
    }

    /// An object in the version asked for as the body of an answer.
    #[must_use]
    pub(crate) fn body(&self, object: &Value) -> Bytes {
        encode(self.form, &self.shaped(object, true))
    }

    fn shaped(&self, object: &Value, headers: bool) -> Value {
        if object::text(object, &["kind"]) == "Status" {
            return object.clone();
        }
        match self.form.shape {
            Shape::Object => object.clone(),
            Shape::Partial(meta) | Shape::PartialList(meta) => partial(object, meta),
            Shape::Table(meta) => {
                let revision = object::text(object, &["metadata", "resourceVersion"]);
                json!({
                    "kind": "Table",
                    "apiVersion": meta.api_version(),
                    "metadata": {"resourceVersion": revision},
                    "columnDefinitions": if headers { self.columns(object::text(object, &["kind"])) } else { Value::Null },
                    "rows": [self.row(object, meta)],
                })
            }
        }
    }

    fn columns(&self, kind: &str) -> Value {
        let one = |c: &kinds::Column| {
            json!({
                "name": c.name, "type": c.kind, "format": c.format,
                "description": c.description, "priority": c.priority,
            })
        };
        match kind {
            "Scale" => scale::COLUMNS.iter().map(one).collect(),
            _ => kinds::of(index::stored(self.resource)).columns().iter().map(one).collect(),
        }
    }

    fn row(&self, object: &Value, meta: Meta) -> Value {
        let kind = kinds::of(index::stored(self.resource));
        let mut stored = std::borrow::Cow::Borrowed(object);
        if !self.is_stored() {
            index::to_storage(self.resource, stored.to_mut());
        }
        let mut row = Map::new();
        let cells = match object::text(object, &["kind"]) {
            "Scale" => scale::cells(object, self.now),
            _ => kind.cells(&stored, self.now),
        };
        row.insert("cells".to_owned(), cells.into());
        let conditions = kind.row_conditions(&stored);
        if !conditions.is_empty() {
            row.insert("conditions".to_owned(), conditions.into());
        }
        let carried = match self.include {
            Include::Metadata => partial(object, meta),
            Include::Object => object.clone(),
            Include::Nothing => Value::Null,
        };
        row.insert("object".to_owned(), carried);
        Value::Object(row)
    }

    /// Whether a list in this form is written item by item, without holding all of it.
    #[must_use]
    pub(crate) fn streams(&self) -> bool {
        self.form.media == Media::Json && !self.form.pretty
    }

    /// What stands before the items of a list in JSON.
    #[must_use]
    pub(crate) fn head(&self, page: &Page) -> Vec<u8> {
        let metadata = page.metadata();
        match self.form.shape {
            Shape::Object => {
                let (kind, version) = (self.resource.kind, self.resource.api_version());
                format!("{{\"kind\":\"{kind}List\",\"apiVersion\":\"{version}\",\"metadata\":{metadata},\"items\":[")
            }
            Shape::Partial(meta) | Shape::PartialList(meta) => {
                let version = meta.api_version();
                format!("{{\"kind\":\"PartialObjectMetadataList\",\"apiVersion\":\"{version}\",\"metadata\":{metadata},\"items\":[")
            }
            Shape::Table(meta) => {
                let (version, columns) = (meta.api_version(), self.columns(self.resource.kind));
                format!("{{\"kind\":\"Table\",\"apiVersion\":\"{version}\",\"metadata\":{metadata},\"columnDefinitions\":{columns},\"rows\":[")
            }
        }
        .into_bytes()
    }

    /// Appends an item of a list in JSON.
    pub(crate) fn item(&self, out: &mut Vec<u8>, entry: &Entry) {
        let parsed = match self.form.shape {
            Shape::Object if self.is_stored() => {
                return splice(out, &entry.value, entry.mod_revision, false);
            }
            Shape::Partial(meta) | Shape::PartialList(meta) if self.is_stored() => {
                return splice_partial(out, entry, entry.mod_revision, meta);
            }
            Shape::Object => {
                let mut object = self.value(entry);
                strip(&mut object);
                object
            }
            Shape::Partial(meta) | Shape::PartialList(meta) => partial(&self.value(entry), meta),
            Shape::Table(meta) => self.row(&self.value(entry), meta),
        };
        out.extend_from_slice(parsed.to_string().as_bytes());
    }

    /// A whole list in a form that is not streamed.
    #[must_use]
    pub(crate) fn list(&self, page: &Page, entries: &[Arc<Entry>]) -> Bytes {
        if self.form.media == Media::Protobuf {
            return self.protobuf_list(page, entries);
        }
        let mut text = self.head(page);
        for (at, entry) in entries.iter().enumerate() {
            if at > 0 {
                text.push(b',');
            }
            self.item(&mut text, entry);
        }
        text.extend_from_slice(b"]}");
        let list = serde_json::from_slice(&text).unwrap_or_default();
        encode(self.form, &list)
    }

    fn protobuf_list(&self, page: &Page, entries: &[Arc<Entry>]) -> Bytes {
        let (version, kind) = match self.form.shape {
            Shape::Partial(meta) | Shape::PartialList(meta) => {
                (meta.api_version().to_owned(), "PartialObjectMetadata")
            }
            Shape::Object | Shape::Table(_) => (self.resource.api_version(), self.resource.kind),
        };
        let items = entries.iter().map(|entry| {
            let mut object = self.shaped(&self.value(entry), false);
            strip(&mut object);
            object
        });
        protobuf(wire::list(&Gvk::new(&version, &format!("{kind}List")), &page.metadata(), items))
    }

    /// An event of a watch. `first` says whether a table still has to name its columns.
    #[must_use]
    pub(crate) fn event(&self, kind: &str, entry: &Entry, revision: i64, first: bool) -> Bytes {
        if self.form.media != Media::Json {
            return self.frame(kind, &self.value_at(entry, revision), first);
        }
        let mut out = Vec::with_capacity(entry.value.len() + 80);
        out.extend_from_slice(format!("{{\"type\":\"{kind}\",\"object\":").as_bytes());
        match self.form.shape {
            Shape::Object if self.is_stored() => splice(&mut out, &entry.value, revision, true),
            Shape::Partial(meta) | Shape::PartialList(meta) if self.is_stored() => {
                splice_partial(&mut out, entry, revision, meta);
            }
            _ => {
                let object = self.shaped(&self.value_at(entry, revision), first);
                out.extend_from_slice(object.to_string().as_bytes());
            }
        }
        out.extend_from_slice(b"}\n");
        out.into()
    }

    /// An event of a watch whose object is not stored: a bookmark or an error.
    #[must_use]
    pub(crate) fn frame(&self, kind: &str, object: &Value, first: bool) -> Bytes {
        let object = self.shaped(object, first);
        if self.form.media != Media::Protobuf {
            let mut text = json!({"type": kind, "object": object}).to_string();
            text.push('\n');
            return text.into();
        }
        wire::event(kind, &encode(Form { shape: Shape::Object, ..self.form }, &object)).into()
    }
}

fn strip(object: &mut Value) {
    if let Some(members) = object.as_object_mut() {
        members.remove("apiVersion");
        members.remove("kind");
    }
}
