//! A request on objects of one resource, with all that its verb needs at hand.

use std::sync::{Arc, Mutex, PoisonError};

use http::header::{HeaderMap, HeaderName, HeaderValue};
use kinds::Kind;
use proto_kube::GroupResource;
use proto_kube::resource::{Resource, Storage};
use proto_kube::status::{Result, Status};
use serde_json::Value;

use super::negotiate::{self, Form, Shape};
use super::options::{self, Include, List};
use super::render::Renderer;
use super::{body, index};
use crate::info::Target;
use crate::reply::{self, Response};
use crate::server::{Context, Server};

/// A request on objects of one resource.
pub(crate) struct Call<'a> {
    /// The server.
    pub server: &'a Arc<Server>,
    /// Who asks, for what, with which options.
    pub ctx: &'a Context,
    /// The headers.
    pub headers: &'a HeaderMap,
    /// What the path names.
    pub target: &'a Target,
    /// The resource in the version asked for.
    pub resource: &'static Resource,
    /// The resource in the version in which its objects are stored.
    pub stored: &'static Resource,
    /// What the stored kind does.
    pub kind: &'static dyn Kind,
    /// Empty for a cluster-scoped resource, or for all namespaces.
    pub namespace: &'a str,
    warnings: Mutex<Vec<String>>,
}

impl<'a> Call<'a> {
    /// Of what the shell has understood of a request.
    ///
    /// # Errors
    /// 404 when there is no such resource, 400 for a name that leads elsewhere.
    pub(crate) fn new(
        server: &'a Arc<Server>,
        ctx: &'a Context,
        headers: &'a HeaderMap,
        target: &'a Target,
    ) -> Result<Self> {
        let resource = target.find().ok_or_else(Status::no_route)?;
        let stored = index::stored(resource);
        options::check_segment(&target.name)?;
        options::check_segment(&target.namespace)?;
        let namespace = if resource.namespaced { target.namespace.as_str() } else { "" };
        let kind = kinds::of(stored);
        let warnings = Mutex::new(kind.deprecation().map(str::to_owned).into_iter().collect());
        Ok(Self { server, ctx, headers, target, resource, stored, kind, namespace, warnings })
    }

    /// The same request on another resource, as a binding is one on a pod.
    #[must_use]
    pub(crate) fn on(&self, resource: &'static Resource) -> Call<'a> {
        let stored = index::stored(resource);
        let namespace = if resource.namespaced { self.target.namespace.as_str() } else { "" };
        let (kind, warnings) = (kinds::of(stored), Mutex::default());
        Call { resource, stored, kind, namespace, warnings, ..*self }
    }

    /// The same request in one namespace, for an object of a list over all.
    #[must_use]
    pub(crate) fn within<'b>(&self, namespace: &'b str) -> Call<'b>
    where
        'a: 'b,
    {
        let namespace = if self.resource.namespaced { namespace } else { "" };
        Call { namespace, warnings: Mutex::default(), ..*self }
    }

    /// Whether the user may do a verb on an object; the namespace is empty for a cluster-scoped one.
    #[must_use]
    pub(crate) fn may(&self, verb: &str, resource: GroupResource<'_>, namespace: &str, name: &str) -> bool {
        let GroupResource { group, resource } = resource;
        let attributes =
            authz::Attributes { verb, group, resource, namespace, name, version: "*", ..Default::default() };
        self.server.authority.authorize(&self.server.store, &self.ctx.user, &attributes).is_ok()
    }

    /// Refuses what the user may not do with the object of the path, as a create by an update.
    ///
    /// # Errors
    /// 403 with what would allow it.
    pub(crate) fn authorize(&self, verb: &str) -> Result<()> {
        let attributes = authz::Attributes {
            verb,
            group: self.resource.group,
            version: self.resource.version,
            resource: self.resource.plural,
            subresource: self.subresource(),
            namespace: self.namespace,
            name: self.path_name(),
            ..Default::default()
        };
        self.server.authority.authorize(&self.server.store, &self.ctx.user, &attributes).map(|_| ())
    }

    /// The name in the path; empty for a collection.
    #[must_use]
    pub(crate) fn path_name(&self) -> &'a str {
        if self.target.by_selector { "" } else { &self.target.name }
    }

    /// The subresource in the path; empty for the object itself.
    #[must_use]
    pub(crate) fn subresource(&self) -> &'a str {
        &self.target.subresource
    }

    /// Group and resource, for refusals.
    #[must_use]
    pub(crate) fn group_resource(&self) -> GroupResource<'static> {
        self.resource.group_resource()
    }

    /// The key of an object.
    ///
    /// # Errors
    /// 405 for what is not kept.
    pub(crate) fn key(&self, name: &str) -> Result<String> {
        let refusal = || Status::method_not_allowed(self.group_resource(), self.ctx.info.verb);
        self.stored.key(self.namespace, name).ok_or_else(refusal)
    }

    /// A header of the request; empty when it is missing or no text.
    #[must_use]
    pub(crate) fn header(&self, name: &str) -> &'a str {
        let name = HeaderName::try_from(name).ok();
        let value = name.and_then(|name| self.headers.get(name));
        value.and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// The options of a list or watch, its fields named as in the stored version.
    ///
    /// # Errors
    /// What is wrong with them.
    pub(crate) fn selection(&self, watch: bool) -> Result<List> {
        let mut options = List::parse(&self.ctx.query, watch)?;
        if self.resource.group == "events.k8s.io" {
            options.fields = options.fields.renamed(|name| match name {
                "reportingController" => Some("reportingComponent".to_owned()),
                name => name.strip_prefix("regarding.").map(|member| format!("involvedObject.{member}")),
            });
        }
        options::check_fields(&options.fields, self.resource.kind, self.kind.selectable())?;
        Ok(options)
    }

    /// How objects are to be written down.
    ///
    /// # Errors
    /// 406 for a form that there is not, 400 for a bad `includeObject`.
    pub(crate) fn renderer(&self) -> Result<Renderer> {
        let pretty = negotiate::is_pretty(self.ctx.query.get("pretty"), &self.ctx.user_agent);
        let tables = self.resource.storage != Storage::Answered;
        let form = Form::accepted(self.header("accept"), pretty, tables)?;
        self.check_shape(form)?;
        let include = match form.shape {
            Shape::Table(_) => Include::parse(&self.ctx.query)?,
            _ => Include::Metadata,
        };
        Ok(Renderer { resource: self.resource, form, include, now: self.ctx.now })
    }

    /// Refuses the metadata of one object for a list, and those of a list for one object.
    fn check_shape(&self, form: Form) -> Result<()> {
        let list = matches!(self.ctx.info.verb, "list" | "deletecollection");
        let group = body::package(&self.resource.gvk()).to_owned();
        let kind = self.resource.kind;
        let why = match form.shape {
            Shape::Partial(_) if list => format!(
                "you requested PartialObjectMetadata, but the requested object is a list (*{group}.{kind}List)"
            ),
            Shape::PartialList(_) if !list => format!(
                "you requested PartialObjectMetadataList, but the requested object is not a list (*{group}.{kind})"
            ),
            _ => return Ok(()),
        };
        let mut status = Status::not_acceptable(&[]);
        status.message = why;
        Err(status)
    }

    /// Notes what the client is to be warned of.
    pub(crate) fn warn(&self, texts: impl IntoIterator<Item = String>) {
        let mut warnings = self.warnings.lock().unwrap_or_else(PoisonError::into_inner);
        for text in texts {
            if !warnings.contains(&text) {
                warnings.push(text);
            }
        }
    }

    /// Forgets warnings: what they were about is done over.
    pub(crate) fn unwarn(&self, texts: usize) {
        self.warnings.lock().unwrap_or_else(PoisonError::into_inner).truncate(texts);
    }

    /// How many warnings there are.
    #[must_use]
    pub(crate) fn warned(&self) -> usize {
        self.warnings.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Writes the warnings into an answer.
    pub(crate) fn add_warnings(&self, response: &mut Response) {
        for text in self.warnings.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            let text: String = text.chars().filter(|c| !c.is_control()).collect();
            let text = text.replace('\\', "\\\\").replace('"', "\\\"");
            if let Ok(value) = HeaderValue::from_bytes(format!("299 - \"{text}\"").as_bytes()) {
                response.headers_mut().append("warning", value);
            }
        }
    }

    /// Answers with an object in the version asked for, or with a `Status`.
    ///
    /// # Errors
    /// See [`Call::renderer`].
    pub(crate) fn answer(&self, code: u16, object: &Value) -> Result<Response> {
        let renderer = self.renderer()?;
        Ok(reply::bytes(code, renderer.form.media.name(), renderer.body(object)))
    }

    /// Answers with an object in the version it is stored in.
    ///
    /// # Errors
    /// See [`Call::renderer`].
    pub(crate) fn answer_stored(&self, code: u16, mut object: Value) -> Result<Response> {
        index::from_storage(self.resource, &mut object);
        self.answer(code, &object)
    }
}
