//! `meta/v1 Status`: how a request is refused, with the texts that clients parse.

use serde_json::{Value, json};

use crate::field;
use crate::{GroupResource, Gvk};

/// The answer to a request that is not an object.
#[derive(Debug, Clone, PartialEq)]
pub struct Status {
    /// The HTTP status code.
    pub code: u16,
    /// As `NotFound`; empty for a success.
    pub reason: &'static str,
    /// For a person.
    pub message: String,
    /// `details`, without empty members.
    pub details: Value,
    /// `metadata.continue`: where a list that has expired may go on; empty for most.
    pub token: String,
}

/// All that may stand in `reason`.
const REASONS: [&str; 20] = [
    "AlreadyExists",
    "BadRequest",
    "Conflict",
    "Expired",
    "Forbidden",
    "Gone",
    "InternalError",
    "Invalid",
    "MethodNotAllowed",
    "NotAcceptable",
    "NotFound",
    "RequestEntityTooLarge",
    "ServerTimeout",
    "ServiceUnavailable",
    "StorageReadError",
    "Timeout",
    "TooManyRequests",
    "Unauthorized",
    "Unknown",
    "UnsupportedMediaType",
];

/// Something wrong, as an error of a function that answers a request.
pub type Result<T> = std::result::Result<T, Status>;

impl Status {
    fn new(code: u16, reason: &'static str, message: impl Into<String>) -> Self {
        Self { code, reason, message: message.into(), details: Value::Null, token: String::new() }
    }

    fn of(mut self, resource: GroupResource<'_>, name: &str) -> Self {
        let mut details = serde_json::Map::new();
        for (key, text) in [("name", name), ("group", resource.group), ("kind", resource.resource)] {
            if !text.is_empty() {
                details.insert(key.to_owned(), text.into());
            }
        }
        self.details = Value::Object(details);
        self
    }

    /// 400: the request itself is malformed.
    #[must_use]
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, "BadRequest", message)
    }

    /// 401: the credentials are missing or wrong.
    #[must_use]
    pub fn unauthorized() -> Self {
        Self::new(401, "Unauthorized", "Unauthorized")
    }

    /// 403: `why` says who may not do what, and what would allow it.
    #[must_use]
    pub fn forbidden(resource: GroupResource<'_>, name: &str, why: &str) -> Self {
        let message = match (resource.resource, name) {
            ("", _) => format!("forbidden: {why}"),
            (_, "") => format!("{resource} is forbidden: {why}"),
            _ => format!("{resource} \"{name}\" is forbidden: {why}"),
        };
        Self::new(403, "Forbidden", message).of(resource, name)
    }

    /// 404: no such object.
    #[must_use]
    pub fn not_found(resource: GroupResource<'_>, name: &str) -> Self {
        Self::new(404, "NotFound", format!("{resource} \"{name}\" not found")).of(resource, name)
    }

    /// 404: no such path, for a route below a served group.
    #[must_use]
    pub fn no_route() -> Self {
        let mut status = Self::new(404, "NotFound", "the server could not find the requested resource");
        status.details = json!({});
        status
    }

    /// 405: the resource has no such verb.
    #[must_use]
    pub fn method_not_allowed(resource: GroupResource<'_>, verb: &str) -> Self {
        let message = format!("{verb} is not supported on resources of kind \"{resource}\"");
        Self::new(405, "MethodNotAllowed", message).of(resource, "")
    }

    /// 406: none of the media types asked for can be made.
    #[must_use]
    pub fn not_acceptable(accepted: &[&str]) -> Self {
        let message = format!("only the following media types are accepted: {}", accepted.join(", "));
        Self::new(406, "NotAcceptable", message)
    }

    /// 409: an object of the name is there.
    #[must_use]
    pub fn already_exists(resource: GroupResource<'_>, name: &str) -> Self {
        Self::new(409, "AlreadyExists", format!("{resource} \"{name}\" already exists")).of(resource, name)
    }

    /// 409: the object is not what the caller thinks it is.
    #[must_use]
    pub fn conflict(resource: GroupResource<'_>, name: &str, why: &str) -> Self {
        let message = format!("Operation cannot be fulfilled on {resource} \"{name}\": {why}");
        Self::new(409, "Conflict", message).of(resource, name)
    }

    /// 409: another field manager owns what server-side apply wants to set. Each conflict is a message and a field.
    #[must_use]
    pub fn apply_conflict(conflicts: &[(String, String)]) -> Self {
        let one = |(message, field): &(String, String)| format!("{message}: {field}");
        let message = match conflicts {
            [conflict] => format!("Apply failed with 1 conflict: {}", one(conflict)),
            many => {
                // The conflicts of one manager stand below its name.
                let mut lines: Vec<String> = Vec::new();
                let mut last = "";
                for (message, field) in many {
                    if message != last {
                        // One conflict is a "conflict with", several are "conflicts with".
                        lines.push(format!("{}:", message.replacen("conflict ", "conflicts ", 1)));
                        last = message;
                    }
                    lines.push(format!("- {field}"));
                }
                format!("Apply failed with {} conflicts: {}", many.len(), lines.join("\n"))
            }
        };
        let cause = |(message, field): &(String, String)| json!({"reason": "FieldManagerConflict", "message": message, "field": field});
        let mut status = Self::new(409, "Conflict", message);
        status.details = json!({"causes": conflicts.iter().map(cause).collect::<Vec<_>>()});
        status
    }

    /// 410: the history the caller asks for has been compacted.
    #[must_use]
    pub fn expired(message: impl Into<String>) -> Self {
        Self::new(410, "Expired", message)
    }

    /// 413: the body is larger than `most` bytes.
    #[must_use]
    pub fn too_large(most: usize) -> Self {
        Self::entity_too_large(format_args!("limit is {most}"))
    }

    /// 413: `why` says what is too large.
    #[must_use]
    pub fn entity_too_large(why: impl std::fmt::Display) -> Self {
        Self::new(413, "RequestEntityTooLarge", format!("Request entity too large: {why}"))
    }

    /// 415: the body's media type is not known.
    #[must_use]
    pub fn unsupported_media_type(accepted: &[&str]) -> Self {
        let message = format!(
            "the body of the request was in an unknown format - accepted media types include: {}",
            accepted.join(", ")
        );
        Self::new(415, "UnsupportedMediaType", message)
    }

    /// 422: the object breaks rules of its kind.
    #[must_use]
    pub fn invalid(kind: &Gvk, name: &str, errors: &[field::Error]) -> Self {
        let resource = GroupResource { group: &kind.group, resource: &kind.kind };
        let cause = |e: &field::Error| json!({"reason": e.reason.name(), "message": e.body(), "field": e.path.to_string()});
        let mut texts: Vec<String> = Vec::new();
        for error in errors {
            let text = error.to_string();
            if !texts.contains(&text) {
                texts.push(text);
            }
        }
        let why = match texts.as_slice() {
            [one] => one.clone(),
            many => format!("[{}]", many.join(", ")),
        };
        let mut status =
            Self::new(422, "Invalid", format!("{resource} \"{name}\" is invalid: {why}")).of(resource, name);
        status.details["causes"] = errors.iter().map(cause).collect();
        status
    }

    /// 422: a well-formed patch that does not fit the object; upstream does not say why.
    #[must_use]
    pub fn rejected() -> Self {
        let message = "the server rejected our request due to an error in our request";
        let mut status = Self::new(422, "Invalid", message);
        status.details = json!({});
        status
    }

    /// 429: come back later.
    #[must_use]
    pub fn too_many_requests(message: impl Into<String>, retry_after_seconds: u32) -> Self {
        let mut status = Self::new(429, "TooManyRequests", message);
        status.details = json!({"retryAfterSeconds": retry_after_seconds});
        status
    }

    /// 500: our fault.
    #[must_use]
    pub fn internal(why: impl std::fmt::Display) -> Self {
        let mut status = Self::new(500, "InternalError", format!("Internal error occurred: {why}"));
        status.details = json!({"causes": [{"message": why.to_string()}]});
        status
    }

    /// 500: an error that upstream passes on as it is, without a reason.
    #[must_use]
    pub fn unknown(message: impl Into<String>) -> Self {
        Self::new(500, "", message)
    }

    /// 503: not now.
    #[must_use]
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(503, "ServiceUnavailable", message)
    }

    /// 504: the request took too long.
    #[must_use]
    pub fn timeout(message: impl Into<String>) -> Self {
        let mut status = Self::new(504, "Timeout", format!("Timeout: {}", message.into()));
        status.details = json!({});
        status
    }

    /// 504: the caller asks for a revision that does not exist yet.
    #[must_use]
    pub fn too_large_resource_version(asked: i64, current: i64) -> Self {
        let message = format!("Too large resource version: {asked}, current: {current}");
        let mut status = Self::timeout(message);
        status.details = json!({
            "causes": [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}],
            "retryAfterSeconds": 1,
        });
        status
    }

    /// 200 or 201: done, and no object to show.
    #[must_use]
    pub fn success(code: u16) -> Self {
        Self::new(code, "", "")
    }

    /// The same refusal with one more member in its details.
    #[must_use]
    pub fn with_detail(mut self, key: &str, value: impl Into<Value>) -> Self {
        if !self.details.is_object() {
            self.details = json!({});
        }
        self.details[key] = value.into();
        self
    }

    /// The same refusal of a list with the token by which it may go on, inconsistently.
    #[must_use]
    pub fn with_continue(mut self, token: String) -> Self {
        self.token = token;
        self
    }

    /// Of an answer: its HTTP status code, the `Status` in its body where there is one, else what to tell a person. A
    /// reason that is not in the API is left out.
    #[must_use]
    pub fn of_answer(code: u16, body: &Value, otherwise: &str) -> Self {
        let reason = REASONS.into_iter().find(|reason| body["reason"] == *reason).unwrap_or_default();
        let message = body["message"].as_str().unwrap_or(otherwise);
        let mut status = Self::new(code, reason, message);
        status.details = body["details"].clone();
        status
    }

    /// The API object.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let failed = self.code >= 400;
        let mut object = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {},
            "status": if failed { "Failure" } else { "Success" },
            "code": self.code,
        });
        for (key, text) in [("message", self.message.as_str()), ("reason", self.reason)] {
            if !text.is_empty() {
                object[key] = text.into();
            }
        }
        if !self.details.is_null() {
            object["details"] = self.details.clone();
        }
        if !self.token.is_empty() {
            object["metadata"]["continue"] = self.token.as_str().into();
        }
        if self.code == 200 {
            object.as_object_mut().expect("made above").remove("code");
        }
        object
    }
}

impl std::fmt::Display for Status {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Status {}
