//! The options of a request: what its query, or the body of a deletion, asks for besides the object.

use proto_kube::field::{self, Errors, Path};
use proto_kube::object;
use proto_kube::selector::{Fields, Labels};
use proto_kube::status::{Result, Status};
use proto_kube::{Gvk, name};
use serde_json::{Map, Value, json};

use crate::query::Query;

/// How a list's `resourceVersion` is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Match {
    /// As the other options say.
    Unset,
    /// That revision and no other.
    Exact,
    /// That revision or a later one.
    NotOlderThan,
}

/// The options of a list, a watch, and a deletion of many.
#[derive(Debug, Clone)]
pub(crate) struct List {
    /// Which labels.
    pub labels: Labels,
    /// Which fields.
    pub fields: Fields,
    /// The revision asked for; `None` for the newest.
    pub revision: Option<u64>,
    /// How the revision is meant.
    pub matching: Match,
    /// How many items at most; 0 for all.
    pub limit: usize,
    /// Where an earlier list ended.
    pub token: String,
    /// How long a watch may last.
    pub seconds: Option<u64>,
    /// Whether a watch also tells how far it is.
    pub bookmarks: bool,
    /// Whether a watch begins with what there is.
    pub initial: Option<bool>,
}

fn invalid(kind: &str, errors: &[field::Error]) -> Result<()> {
    if errors.is_empty() {
        return Ok(());
    }
    Err(Status::invalid(&Gvk::new("meta.k8s.io/v1", kind), "", errors))
}

fn number(query: &Query, name: &str) -> Result<Option<i64>> {
    query.number(name).map_err(|_| {
        let text = query.text(name);
        Status::bad_request(format!("strconv.ParseInt: parsing {}: invalid syntax", json!(text)))
    })
}

fn flag(query: &Query, name: &str) -> Option<bool> {
    query.get(name).map(|_| query.flag(name))
}

impl List {
    /// Reads the options; `watch` says which of both it is.
    ///
    /// # Errors
    /// 400 for what cannot be read, 422 for options that exclude each other.
    pub(crate) fn parse(query: &Query, watch: bool) -> Result<Self> {
        let wrong = |e: proto_kube::selector::NotASelector| Status::bad_request(e.to_string());
        let limit = number(query, "limit")?.unwrap_or(0);
        let seconds = number(query, "timeoutSeconds")?;
        let list = Self {
            labels: Labels::parse(query.text("labelSelector")).map_err(wrong)?,
            fields: Fields::parse(query.text("fieldSelector")).map_err(wrong)?,
            revision: None,
            matching: match query.text("resourceVersionMatch") {
                "Exact" => Match::Exact,
                "NotOlderThan" => Match::NotOlderThan,
                _ => Match::Unset,
            },
            limit: usize::try_from(limit).unwrap_or(0),
            token: query.text("continue").to_owned(),
            seconds: seconds.and_then(|s| u64::try_from(s).ok()),
            bookmarks: query.flag("allowWatchBookmarks"),
            initial: flag(query, "sendInitialEvents"),
        };
        let errors = if watch { list.watch_faults(query) } else { list.faults(query) };
        invalid("ListOptions", &errors)?;
        let revision = revision(query.text("resourceVersion"), watch)?;
        if !list.token.is_empty() && revision.is_some_and(|r| r != 0) && !watch {
            let why = "specifying resource version is not allowed when using continue";
            return Err(Status::bad_request(why));
        }
        Ok(Self { revision, ..list })
    }

    fn faults(&self, query: &Query) -> Errors {
        let (path, matching) = (Path::new("resourceVersionMatch"), query.text("resourceVersionMatch"));
        let mut errors = Errors::new();
        if !matching.is_empty() {
            if query.text("resourceVersion").is_empty() {
                let why = "resourceVersionMatch is forbidden unless resourceVersion is provided";
                errors.push(field::Error::forbidden(&path, why));
            }
            if !self.token.is_empty() {
                let why = "resourceVersionMatch is forbidden when continue is provided";
                errors.push(field::Error::forbidden(&path, why));
            }
            if self.matching == Match::Unset {
                errors.push(field::Error::not_supported(&path, matching, &["Exact", "NotOlderThan", ""]));
            }
            if self.matching == Match::Exact && query.text("resourceVersion") == "0" {
                let why = "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"";
                errors.push(field::Error::forbidden(&path, why));
            }
        }
        if self.initial.is_some() {
            let why = "sendInitialEvents is forbidden for list";
            errors.push(field::Error::forbidden(&Path::new("sendInitialEvents"), why));
        }
        errors
    }

    fn watch_faults(&self, query: &Query) -> Errors {
        let (path, matching) = (Path::new("resourceVersionMatch"), query.text("resourceVersionMatch"));
        let mut errors = Errors::new();
        if self.initial.is_some() && self.matching != Match::NotOlderThan {
            let why = "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan";
            errors.push(field::Error::forbidden(&path, why));
        }
        if !matching.is_empty() {
            if self.initial.is_none() {
                let why = "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided";
                errors.push(field::Error::forbidden(&path, why));
            }
            if self.matching != Match::NotOlderThan {
                errors.push(field::Error::not_supported(&path, matching, &["NotOlderThan"]));
            }
            if !self.token.is_empty() {
                let why = "resourceVersionMatch is forbidden when continue is provided";
                errors.push(field::Error::forbidden(&path, why));
            }
        }
        errors
    }
}

/// A revision as a client writes it; `None` for an empty text.
///
/// # Errors
/// When it is no number: 500 for a watch as upstream has it, 400 otherwise.
pub(crate) fn revision(text: &str, watch: bool) -> Result<Option<u64>> {
    if text.is_empty() {
        return Ok(None);
    }
    text.parse::<u64>().map(Some).map_err(|_| {
        let why = format!("strconv.ParseUint: parsing {}: invalid syntax", json!(text));
        let error = field::Error::invalid(&Path::new("resourceVersion"), text, why);
        if watch {
            Status::unknown(error.to_string())
        } else {
            Status::bad_request(format!("invalid resource version: {error}"))
        }
    })
}

/// How strictly a body is held against its schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Validation {
    /// Unknown and duplicate fields are dropped.
    Ignore,
    /// They are dropped with a warning.
    Warn,
    /// They refuse the request.
    Strict,
}

/// The options of a create, update or patch.
#[derive(Debug, Clone)]
pub(crate) struct Write {
    /// Whether nothing is to be stored.
    pub dry_run: bool,
    /// Who owns the fields that are set.
    pub manager: String,
    /// How strictly the body is read.
    pub validation: Validation,
    /// Whether an apply takes fields from their owners.
    pub force: bool,
}

/// Which verb the options of a write belong to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verb {
    /// `CreateOptions`
    Create,
    /// `UpdateOptions`
    Update,
    /// `PatchOptions` of an apply.
    Apply,
    /// `PatchOptions` of the other patches.
    Patch,
}

impl Write {
    /// Reads the options; the field manager is taken from the `User-Agent` when the query names none.
    ///
    /// # Errors
    /// 422 when an option has no such value.
    pub(crate) fn parse(query: &Query, verb: Verb, user_agent: &str) -> Result<Self> {
        let mut errors = Errors::new();
        let manager = query.text("fieldManager");
        let force = flag(query, "force");
        if verb == Verb::Apply && manager.is_empty() {
            let path = Path::new("fieldManager");
            errors.push(field::Error::required(&path, "is required for apply patch"));
        }
        if verb == Verb::Patch && force.is_some() {
            let why = "may not be specified for non-apply patch";
            errors.push(field::Error::forbidden(&Path::new("force"), why));
        }
        manager_faults(manager, &mut errors);
        let dry_run = dry_run(query.all("dryRun"), &mut errors);
        let asked = query.text("fieldValidation");
        let validation = match asked {
            "Ignore" => Validation::Ignore,
            "Strict" => Validation::Strict,
            "" | "Warn" => Validation::Warn,
            _ => {
                let known = ["", "Ignore", "Strict", "Warn"];
                errors.push(field::Error::not_supported(&Path::new("fieldValidation"), asked, &known));
                Validation::Warn
            }
        };
        let kind = match verb {
            Verb::Create => "CreateOptions",
            Verb::Update => "UpdateOptions",
            Verb::Apply | Verb::Patch => "PatchOptions",
        };
        invalid(kind, &errors)?;
        let manager = patch::apply::manager_name(manager, user_agent);
        Ok(Self { dry_run, manager, validation, force: force == Some(true) })
    }
}

const MANAGER_BYTES: usize = 128;

fn manager_faults(manager: &str, errors: &mut Errors) {
    let path = Path::new("fieldManager");
    if manager.len() > MANAGER_BYTES {
        errors.push(field::Error::too_long(&path, MANAGER_BYTES));
    }
    for (at, c) in manager.char_indices().filter(|(_, c)| c.is_control()) {
        let why = format!("invalid character U+{:04X} (at position {at})", u32::from(c));
        errors.push(field::Error::invalid(&path, manager, why));
    }
}

fn dry_run<'a>(values: impl Iterator<Item = &'a str>, errors: &mut Errors) -> bool {
    let values: Vec<&str> = values.filter(|v| !v.is_empty()).collect();
    if values.iter().any(|v| *v != "All") {
        errors.push(field::Error::not_supported(&Path::new("dryRun"), json!(values), &["All"]));
    }
    !values.is_empty()
}

/// The options of a deletion.
#[derive(Debug, Clone)]
pub(crate) struct Delete {
    /// The `DeleteOptions` object.
    pub object: Value,
    /// Whether nothing is to be stored.
    pub dry_run: bool,
}

impl Delete {
    /// Of a `DeleteOptions` object that was the request's body.
    ///
    /// # Errors
    /// 422 when an option has no such value.
    pub(crate) fn of(object: Value) -> Result<Self> {
        let mut errors = Errors::new();
        let path = Path::new("propagationPolicy");
        let policy = object::text(&object, &["propagationPolicy"]);
        if !policy.is_empty() {
            if object::at(&object, &["orphanDependents"]).is_some() {
                let why = "orphanDependents and deletionPropagation cannot be both set";
                errors.push(field::Error::invalid(&path, policy, why));
            }
            if !matches!(policy, "Foreground" | "Background" | "Orphan") {
                let known = ["Foreground", "Background", "Orphan", "nil"];
                errors.push(field::Error::not_supported(&path, policy, &known));
            }
        }
        let values = object::items(&object, &["dryRun"]).filter_map(Value::as_str);
        let dry_run = dry_run(values, &mut errors);
        invalid("DeleteOptions", &errors)?;
        Ok(Self { object, dry_run })
    }

    /// Of the query of a request without a body.
    ///
    /// # Errors
    /// 400 for what cannot be read, 422 when an option has no such value.
    pub(crate) fn parse(query: &Query) -> Result<Self> {
        let mut object = Map::new();
        if let Some(seconds) = number(query, "gracePeriodSeconds")? {
            object.insert("gracePeriodSeconds".to_owned(), seconds.into());
        }
        if let Some(orphan) = flag(query, "orphanDependents") {
            object.insert("orphanDependents".to_owned(), orphan.into());
        }
        if let Some(policy) = query.get("propagationPolicy") {
            object.insert("propagationPolicy".to_owned(), policy.into());
        }
        let dry_run: Vec<&str> = query.all("dryRun").collect();
        if !dry_run.is_empty() {
            object.insert("dryRun".to_owned(), json!(dry_run));
        }
        Self::of(Value::Object(object))
    }
}

/// Which object a table's rows carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Include {
    /// Its metadata.
    Metadata,
    /// All of it.
    Object,
    /// None.
    Nothing,
}

impl Include {
    /// Reads `includeObject`.
    ///
    /// # Errors
    /// 400 when it has no such value.
    pub(crate) fn parse(query: &Query) -> Result<Self> {
        match query.text("includeObject") {
            "" | "Metadata" => Ok(Self::Metadata),
            "Object" => Ok(Self::Object),
            "None" => Ok(Self::Nothing),
            other => {
                let why = "must be 'Metadata', 'Object', 'None', or empty";
                let error = field::Error::invalid(&Path::new("includeObject"), other, why);
                Err(Status::bad_request(format!("Unable to convert to Table as requested: {error}")))
            }
        }
    }
}

/// Refuses a selector of fields that objects of a kind do not have; `selectable` are those beside the name and the
/// namespace.
///
/// # Errors
/// 400 with the first such field.
pub(crate) fn check_fields(fields: &Fields, kind: &str, selectable: &[&str]) -> Result<()> {
    let known =
        |name: &&str| matches!(*name, "metadata.name" | "metadata.namespace") || selectable.contains(name);
    let Some(unknown) = fields.names().find(|name| !known(name)) else {
        return Ok(());
    };
    let quoted = json!(unknown);
    Err(Status::bad_request(match kind {
        "Job" => format!("field label {quoted} not supported for Job"),
        _ if selectable.is_empty() => {
            format!("{quoted} is not a known field selector: only \"metadata.name\", \"metadata.namespace\"")
        }
        _ => format!("field label not supported: {unknown}"),
    }))
}

/// Whether a text can be a step of a key: what the path of a request calls a name or a namespace.
///
/// # Errors
/// 400 when it holds what would lead elsewhere.
pub(crate) fn check_segment(text: &str) -> Result<()> {
    match name::path_segment(text).first() {
        Some(why) => Err(Status::bad_request(format!("invalid name: {why}"))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(query: &str, watch: bool) -> std::result::Result<List, (u16, String)> {
        List::parse(&Query::parse(query), watch).map_err(|s| (s.code, s.message))
    }

    #[test]
    fn lists() {
        for (query, code, text) in [
            (
                "resourceVersion=x",
                400,
                "invalid resource version: resourceVersion: Invalid value: \"x\": strconv.ParseUint: parsing \"x\": invalid syntax",
            ),
            (
                "resourceVersionMatch=Exact",
                422,
                "ListOptions.meta.k8s.io \"\" is invalid: resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden unless resourceVersion is provided",
            ),
            (
                "resourceVersionMatch=Exact&resourceVersion=0",
                422,
                "ListOptions.meta.k8s.io \"\" is invalid: resourceVersionMatch: Forbidden: resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"",
            ),
            (
                "resourceVersionMatch=Other&resourceVersion=1",
                422,
                "ListOptions.meta.k8s.io \"\" is invalid: resourceVersionMatch: Unsupported value: \"Other\": supported values: \"Exact\", \"NotOlderThan\", \"\"",
            ),
            (
                "sendInitialEvents=true",
                422,
                "ListOptions.meta.k8s.io \"\" is invalid: sendInitialEvents: Forbidden: sendInitialEvents is forbidden for list",
            ),
            (
                "continue=x&resourceVersion=5",
                400,
                "specifying resource version is not allowed when using continue",
            ),
            ("labelSelector=a%20in", 400, ""),
            ("fieldSelector=a", 400, "invalid selector: 'a'; can't understand 'a'"),
            ("limit=x", 400, ""),
        ] {
            let (found, message) = list(query, false).unwrap_err();
            assert_eq!(found, code, "{query}: {message}");
            assert!(text.is_empty() || message == text, "{query}: {message}");
        }
        let all =
            list("limit=5&resourceVersion=7&resourceVersionMatch=NotOlderThan&continue=", false).unwrap();
        assert_eq!((all.limit, all.revision, all.matching), (5, Some(7), Match::NotOlderThan));
        assert_eq!(list("continue=x&resourceVersion=0", false).unwrap().token, "x");
    }

    #[test]
    fn watches() {
        let text = "ListOptions.meta.k8s.io \"\" is invalid: resourceVersionMatch: Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan";
        assert_eq!(list("sendInitialEvents=true", true).unwrap_err(), (422, text.to_owned()));
        assert_eq!(list("resourceVersionMatch=NotOlderThan", true).unwrap_err().0, 422);
        assert_eq!(list("resourceVersion=x", true).unwrap_err().0, 500);
        let watch = list("sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true&timeoutSeconds=9", true).unwrap();
        assert_eq!((watch.initial, watch.bookmarks, watch.seconds), (Some(true), true, Some(9)));
    }

    #[test]
    fn writes() {
        let write =
            |query: &str, verb| Write::parse(&Query::parse(query), verb, "kubectl/v1.37.1 (linux/amd64)");
        let plain = write("", Verb::Create).unwrap();
        assert_eq!(
            (plain.manager.as_str(), plain.dry_run, plain.validation),
            ("kubectl", false, Validation::Warn)
        );
        assert!(write("dryRun=All", Verb::Update).unwrap().dry_run);
        for (query, verb, text) in [
            (
                "dryRun=Some",
                Verb::Create,
                "CreateOptions.meta.k8s.io \"\" is invalid: dryRun: Unsupported value: [\"Some\"]: supported values: \"All\"",
            ),
            (
                "",
                Verb::Apply,
                "PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: Required value: is required for apply patch",
            ),
            (
                "force=true",
                Verb::Patch,
                "PatchOptions.meta.k8s.io \"\" is invalid: force: Forbidden: may not be specified for non-apply patch",
            ),
            (
                "fieldValidation=x",
                Verb::Update,
                "UpdateOptions.meta.k8s.io \"\" is invalid: fieldValidation: Unsupported value: \"x\": supported values: \"\", \"Ignore\", \"Strict\", \"Warn\"",
            ),
        ] {
            assert_eq!(write(query, verb).unwrap_err().message, text);
        }
    }

    #[test]
    fn deletions() {
        let query = Query::parse("gracePeriodSeconds=0&propagationPolicy=Orphan&dryRun=All");
        let delete = Delete::parse(&query).unwrap();
        assert!(delete.dry_run);
        assert_eq!(
            delete.object,
            json!({"gracePeriodSeconds": 0, "propagationPolicy": "Orphan", "dryRun": ["All"]})
        );
        assert_eq!(Delete::of(json!({"propagationPolicy": "Loud"})).unwrap_err().code, 422);
        assert_eq!(
            Delete::of(json!({"propagationPolicy": "Orphan", "orphanDependents": true})).unwrap_err().code,
            422
        );
    }

    #[test]
    fn fields_that_there_are() {
        let check = |text: &str, kind, selectable: &[&str]| {
            check_fields(&Fields::parse(text).unwrap(), kind, selectable).map_err(|s| s.message)
        };
        assert_eq!(check("metadata.name=a,spec.nodeName=", "Pod", &["spec.nodeName"]), Ok(()));
        assert_eq!(check("x=1", "Pod", &["spec.nodeName"]).unwrap_err(), "field label not supported: x");
        assert_eq!(
            check("foo=1", "ConfigMap", &[]).unwrap_err(),
            "\"foo\" is not a known field selector: only \"metadata.name\", \"metadata.namespace\""
        );
    }
}
