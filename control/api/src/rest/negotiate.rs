//! Which form an answer has, and which form a body has: the `Accept` and `Content-Type` headers.

use proto_kube::status::{Result, Status};

/// A way to write objects down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Media {
    /// `application/json`
    Json,
    /// `application/yaml`
    Yaml,
    /// `application/vnd.kubernetes.protobuf`
    Protobuf,
}

/// All media types, the default first.
const MEDIA: [Media; 3] = [Media::Json, Media::Yaml, Media::Protobuf];

impl Media {
    /// As it stands in a `Content-Type`.
    #[must_use]
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Yaml => "application/yaml",
            Self::Protobuf => "application/vnd.kubernetes.protobuf",
        }
    }

    /// The names of all media types.
    #[must_use]
    pub(crate) fn names() -> [&'static str; 3] {
        MEDIA.map(Self::name)
    }

    /// The form of a request's body; JSON when the header is missing.
    ///
    /// # Errors
    /// 415 for any other form.
    pub(crate) fn of_body(content_type: &str) -> Result<Self> {
        if content_type.trim().is_empty() {
            return Ok(Self::Json);
        }
        let essence = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        let known = MEDIA.into_iter().find(|media| media.name() == essence);
        known.ok_or_else(|| Status::unsupported_media_type(&Self::names()))
    }
}

/// The version of `meta.k8s.io` in which tables and partial metadata are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Meta {
    /// `meta.k8s.io/v1`
    V1,
    /// `meta.k8s.io/v1beta1`
    V1Beta1,
}

impl Meta {
    /// The `apiVersion`.
    #[must_use]
    pub(crate) fn api_version(self) -> &'static str {
        match self {
            Self::V1 => "meta.k8s.io/v1",
            Self::V1Beta1 => "meta.k8s.io/v1beta1",
        }
    }
}

/// What is told of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Shape {
    /// All of it.
    Object,
    /// `as=PartialObjectMetadata`: its metadata.
    Partial(Meta),
    /// `as=PartialObjectMetadataList`: the metadata of each item of a list.
    PartialList(Meta),
    /// `as=Table`: cells to print.
    Table(Meta),
}

/// The form of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Form {
    /// The encoding.
    pub media: Media,
    /// What is encoded.
    pub shape: Shape,
    /// Whether JSON is indented.
    pub pretty: bool,
}

impl Form {
    /// Plain objects in JSON.
    pub(crate) const JSON: Self = Self { media: Media::Json, shape: Shape::Object, pretty: false };

    /// The form that an `Accept` header asks for; `pretty` comes from elsewhere in the request. Not all that is answered
    /// has `tables`.
    ///
    /// # Errors
    /// 406 when none of the clauses can be served.
    pub(crate) fn accepted(accept: &str, pretty: bool, tables: bool) -> Result<Self> {
        choose(accept, pretty, tables).ok_or_else(|| {
            let known = accept.split(',').filter_map(clause).any(|c| MEDIA.into_iter().any(|m| c.fits(m)));
            if known { Status::not_acceptable(&Media::names()) } else { nothing_fits() }
        })
    }

    /// The form of the events of a watch.
    ///
    /// # Errors
    /// 406 when none of the clauses can be served as a stream.
    pub(crate) fn accepted_stream(accept: &str) -> Result<Self> {
        let refusal = || {
            Status::not_acceptable(&[
                "application/json;stream=watch",
                "application/vnd.kubernetes.protobuf;stream=watch",
            ])
        };
        choose(accept, false, true).filter(|form| form.media != Media::Yaml).ok_or_else(refusal)
    }

    /// The `Content-Type` of a watch.
    #[must_use]
    pub(crate) fn stream_type(self) -> &'static str {
        match self.media {
            Media::Protobuf => "application/vnd.kubernetes.protobuf;stream=watch",
            Media::Json | Media::Yaml => "application/json",
        }
    }
}

/// Whether a person reads the answer: `pretty` in the query, or a browser or command line for HTTP.
#[must_use]
pub(crate) fn is_pretty(query: Option<&str>, user_agent: &str) -> bool {
    match query {
        Some(text) if !text.is_empty() => matches!(text, "1" | "t" | "T" | "true" | "TRUE" | "True"),
        _ => ["curl", "Wget", "Mozilla/5.0"].iter().any(|human| user_agent.starts_with(human)),
    }
}

/// One clause of an `Accept` header.
struct Clause<'a> {
    kind: &'a str,
    sub: &'a str,
    quality: f32,
    parameters: Vec<(&'a str, &'a str)>,
}

impl Clause<'_> {
    /// Whether the clause admits a media type, whatever its parameters.
    fn fits(&self, media: Media) -> bool {
        match (self.kind, self.sub) {
            ("*" | "application", "*") => true,
            (kind, sub) => media.name().split_once('/') == Some((kind, sub)),
        }
    }
}

/// 406 to one who accepts no media type that there is.
fn nothing_fits() -> Status {
    let mut status = Status::not_acceptable(&[]);
    status.message = format!(
        "406: Not Acceptable\n\nAvailable representations: {}, application/json;stream=watch, application/vnd.kubernetes.protobuf;stream=watch",
        Media::names().join(", ")
    );
    status.details = serde_json::json!({});
    status
}

fn clause(text: &str) -> Option<Clause<'_>> {
    let mut parts = text.split(';').map(str::trim);
    let essence = parts.next().filter(|e| !e.is_empty())?;
    let (kind, sub) = match essence {
        "*" => ("*", "*"),
        essence => essence.split_once('/')?,
    };
    let mut clause = Clause { kind, sub, quality: 1.0, parameters: Vec::new() };
    for (name, value) in parts.filter_map(|p| p.split_once('=')) {
        let value = value.trim().trim_matches('"');
        match name.trim() {
            "q" => clause.quality = value.parse().unwrap_or(1.0),
            name => clause.parameters.push((name, value)),
        }
    }
    Some(clause)
}

fn choose(accept: &str, pretty: bool, tables: bool) -> Option<Form> {
    if accept.trim().is_empty() {
        return Some(Form { pretty, ..Form::JSON });
    }
    let mut clauses: Vec<_> = accept.split(',').filter_map(clause).collect();
    let wild = |c: &Clause<'_>| u8::from(c.kind == "*") + u8::from(c.sub == "*");
    clauses.sort_by(|a, b| b.quality.total_cmp(&a.quality).then(wild(a).cmp(&wild(b))));
    let possible = |form: &Form| tables || !matches!(form.shape, Shape::Table(_));
    clauses.iter().find_map(|clause| {
        let fitting = MEDIA.into_iter().filter(|media| clause.fits(*media));
        fitting.filter_map(|media| form(clause, media, pretty)).find(possible)
    })
}

/// The form a clause asks for in a media type; `None` when that media type cannot do it.
fn form(clause: &Clause<'_>, media: Media, pretty: bool) -> Option<Form> {
    let (mut kind, mut group, mut version) = (None, "", "");
    let mut pretty = pretty;
    for (name, value) in &clause.parameters {
        match *name {
            "as" => kind = Some(*value),
            "g" => group = value,
            "v" => version = value,
            "stream" if !value.is_empty() && (*value != "watch" || media == Media::Yaml) => return None,
            "sv" if !matches!(*value, "" | "v1") => return None,
            "pretty" => pretty |= *value == "1",
            _ => {}
        }
    }
    if kind.is_none() && group.is_empty() && version.is_empty() {
        return Some(Form { media, shape: Shape::Object, pretty });
    }
    let meta = match (group, version) {
        ("meta.k8s.io", "v1") => Meta::V1,
        ("meta.k8s.io", "v1beta1") => Meta::V1Beta1,
        _ => return None,
    };
    let shape = match kind? {
        "Table" if media != Media::Protobuf => Shape::Table(meta),
        "PartialObjectMetadata" => Shape::Partial(meta),
        "PartialObjectMetadataList" => Shape::PartialList(meta),
        _ => return None,
    };
    Some(Form { media, shape, pretty })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accept() {
        let table = Shape::Table(Meta::V1);
        for (accept, expected) in [
            ("", Some((Media::Json, Shape::Object))),
            ("*/*", Some((Media::Json, Shape::Object))),
            ("application/*", Some((Media::Json, Shape::Object))),
            ("application/yaml", Some((Media::Yaml, Shape::Object))),
            ("text/html, application/json;q=0.5, */*;q=0.1", Some((Media::Json, Shape::Object))),
            (
                "application/yaml;q=0.4,application/vnd.kubernetes.protobuf;q=0.6",
                Some((Media::Protobuf, Shape::Object)),
            ),
            ("application/vnd.kubernetes.protobuf,application/json", Some((Media::Protobuf, Shape::Object))),
            (
                "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json",
                Some((Media::Json, table)),
            ),
            (
                "application/json;as=Table;v=v1beta1;g=meta.k8s.io",
                Some((Media::Json, Shape::Table(Meta::V1Beta1))),
            ),
            ("application/json;as=Table;v=v2;g=meta.k8s.io", None),
            (
                "application/json;as=Bench;v=v1;g=meta.k8s.io,application/json",
                Some((Media::Json, Shape::Object)),
            ),
            (
                "application/vnd.kubernetes.protobuf;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1;g=meta.k8s.io",
                Some((Media::Json, table)),
            ),
            (
                "application/vnd.kubernetes.protobuf;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io",
                Some((Media::Protobuf, Shape::PartialList(Meta::V1))),
            ),
            ("application/json;stream=watch", Some((Media::Json, Shape::Object))),
            ("application/json;stream=other", None),
            ("text/plain", None),
            ("nonsense", None),
        ] {
            let form = Form::accepted(accept, false, true).ok();
            assert_eq!(form.map(|f| (f.media, f.shape)), expected, "{accept}");
        }
        let refused = Form::accepted("application/json;stream=other", false, true).unwrap_err();
        assert_eq!(
            refused.message,
            "only the following media types are accepted: application/json, application/yaml, application/vnd.kubernetes.protobuf"
        );
        let accept = "application/json;as=Table;v=v1;g=meta.k8s.io";
        assert_eq!(Form::accepted(accept, false, false).unwrap_err().code, 406);
        let either = format!("{accept},application/json");
        assert_eq!(Form::accepted(&either, false, false).unwrap().shape, Shape::Object);
        assert_eq!(Form::accepted_stream("application/yaml").unwrap_err().code, 406);
        assert_eq!(
            Form::accepted_stream("application/vnd.kubernetes.protobuf;stream=watch").unwrap().media,
            Media::Protobuf
        );
    }

    #[test]
    fn bodies() {
        assert_eq!(Media::of_body(""), Ok(Media::Json));
        assert_eq!(Media::of_body("application/json; charset=utf-8"), Ok(Media::Json));
        assert_eq!(Media::of_body("application/yaml"), Ok(Media::Yaml));
        assert_eq!(Media::of_body("application/vnd.kubernetes.protobuf"), Ok(Media::Protobuf));
        for other in ["text/plain", ";", "application/x-yaml"] {
            assert_eq!(Media::of_body(other).unwrap_err().code, 415);
        }
    }

    #[test]
    fn pretty() {
        assert!(is_pretty(Some("true"), ""));
        assert!(is_pretty(None, "curl/8.1"));
        assert!(!is_pretty(Some("false"), "curl/8.1"));
        assert!(!is_pretty(None, "kubectl/v1.37"));
    }
}
