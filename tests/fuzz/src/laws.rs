//! The laws that need more than one crate, or have no place of their own.

use apiserver::{Query, RequestInfo};
use jiff::Timestamp;
use proto_kube::decode::{self, Strictness};
use proto_kube::schema::{TypeId, table};
use proto_kube::selector::{Fields, Labels};
use proto_kube::{Resource, name, quantity, resource, wire};
use serde_json::{Value, json};

/// A type that the first two bytes choose, and the rest.
fn typed(data: &[u8]) -> Option<(TypeId, &[u8])> {
    let (chosen, body) = data.split_first_chunk()?;
    let chosen = usize::from(u16::from_le_bytes(*chosen)) % table().types().count();
    u16::try_from(chosen).ok().map(|id| (TypeId(id), body))
}

/// What JSON says survives protobuf: written, read and written again it is the same bytes.
pub(crate) fn round_trip(data: &[u8]) {
    let Some((id, body)) = typed(data) else { return };
    let Some(kind) = table().of(id).kinds.first() else { return };
    let Ok((object, _)) = decode::json(body, id, Strictness::Ignore) else { return };
    // What protobuf has no place for (a time out of its range, say) is refused, not lost.
    let Ok(written) = wire::encode(kind, &object) else { return };
    let envelope = wire::Envelope::open(&written).expect("written by us");
    let read = wire::object(kind, id, envelope.raw).expect("written by us");
    let again = wire::encode(kind, &read).expect("read by us");
    assert_eq!(again, written, "{object}\nbecame\n{read}");
}

/// Selectors, quantities and names of any text: no panic, and the canonical form of a quantity is its own.
pub(crate) fn selectors(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let object = json!({"metadata": {"labels": {"a": "b", "n": "7"}}});
    if let Ok(labels) = Labels::parse(text) {
        let _ = labels.selects(&object);
    }
    if let Ok(selector) = serde_json::from_str::<Value>(text) {
        let _ = Labels::of(&selector).map(|labels| labels.map(|labels| labels.selects(&object)));
        let _ = Labels::of_map(&selector).selects(&object);
    }
    if let Ok(fields) = Fields::parse(text) {
        let _ = fields.admits(|field| (field == "a").then_some("b"));
        assert!(
            fields.names().all(|name| fields.exactly(name).is_none_or(|value| value.len() <= text.len()))
        );
    }
    if let Ok(canonical) = quantity::canonical(text) {
        assert_eq!(quantity::canonical(&canonical).as_ref(), Ok(&canonical), "{text:?}");
    }
    let rules = [
        name::label,
        name::label_1035,
        name::subdomain,
        name::qualified,
        name::label_value,
        name::config_key,
    ];
    for rule in rules.into_iter().chain([name::path_segment, name::port]) {
        let _ = rule(text);
    }
}

/// `METHOD /path?query`: no panic, and what is about a collection names nothing of its path.
pub(crate) fn request(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (method, uri) = text.split_once(' ').unwrap_or(("GET", text));
    let (path, query) = uri.split_once('?').unwrap_or((uri, ""));
    let query = Query::parse(query);
    let info = RequestInfo::new(method, path, &query);
    let _ = (info.is_long_running(), info.is_reading(), query.number("limit"), query.flag("watch"));
    if let Some(target) = &info.target {
        let _ = (target.is_served(), target.find_subresource());
        let collection = matches!(info.verb, "list" | "deletecollection");
        assert!(!collection || target.name.is_empty() || target.by_selector, "{info:?}");
    }
}

/// A resource that the first byte chooses, and an object of it.
fn of_resource(data: &[u8]) -> Option<(&'static Resource, TypeId, &[u8])> {
    let (chosen, body) = data.split_first()?;
    let all = resource::all();
    let resource = &all[usize::from(*chosen) % all.len()];
    Some((resource, table().kind(&resource.gvk())?, body))
}

fn defaulted(resource: &Resource, id: TypeId, body: &[u8]) -> Option<Value> {
    let (mut object, _) = decode::json(body, id, Strictness::Ignore).ok()?;
    object["apiVersion"] = resource.api_version().into();
    object["kind"] = resource.kind.into();
    kinds::of(resource).default(&mut object);
    Some(object)
}

/// Any object that is decoded can be defaulted, prepared, checked, converted and printed; defaulting it twice is
/// defaulting it once.
pub(crate) fn kinds(data: &[u8]) {
    let Some((resource, id, body)) = of_resource(data) else { return };
    let kind = kinds::of(resource);
    let Some(mut object) = defaulted(resource, id, body) else { return };
    let mut twice = object.clone();
    kind.default(&mut twice);
    assert_eq!(twice, object, "defaulted twice");
    let now = Timestamp::UNIX_EPOCH;
    kinds::meta::prepare_create(resource, &mut object, "uid", 7, now);
    kind.prepare_create(&mut object);
    let _ = kinds::create_errors(resource, &object);
    let _ = kind.warnings(&object, None);
    assert_eq!(kind.cells(&object, now).len(), kind.columns().len(), "cells and columns of {object}");
    assert_eq!(kind.fields(&object).len(), kind.selectable().len(), "selectable fields of {object}");
    let _ = (kind.scale(&object), kind.is_held(&object), kind.row_conditions(&object));
    let _ = (kind.grace(&object, None), kind.grace(&object, Some(i64::MIN)));
    kind.to_storage(&mut object);
    kind.from_storage(&mut object);
    kind.terminate(&mut object);
}

/// Two objects, apart by a line feed: the one can be made the other, through the object and each subresource, or is
/// refused.
pub(crate) fn update(data: &[u8]) {
    let Some((resource, id, body)) = of_resource(data) else { return };
    let Some(at) = body.iter().position(|byte| *byte == b'\n') else { return };
    let (old, new) = (defaulted(resource, id, &body[..at]), defaulted(resource, id, &body[at + 1..]));
    let (Some(mut old), Some(new)) = (old, new) else { return };
    let kind = kinds::of(resource);
    kinds::meta::prepare_create(resource, &mut old, "uid", 7, Timestamp::UNIX_EPOCH);
    kind.prepare_create(&mut old);
    let subresources = ["", "status", "finalize", "approval", "ephemeralcontainers", "resize"];
    for sub in subresources.into_iter().filter(|sub| sub.is_empty() || resource.subresource(sub).is_some()) {
        let mut new = new.clone();
        match sub {
            "" => kind.prepare_update(&mut new, &old),
            sub => kind.prepare_subresource(sub, &mut new, &old),
        }
        kinds::meta::prepare_update(resource, sub, &mut new, &old);
        let _ = kinds::update_errors(resource, sub, &new, &old);
        let _ = kind.warnings(&new, Some(&old));
    }
}
