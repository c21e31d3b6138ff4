//! The questions that are answered and not kept: who am I, may I, is this token good; and tokens for service accounts.

use std::collections::BTreeMap;

use authz::rbac::Rule;
use authz::{Attributes, Decision};
use jiff::{SignedDuration, Timestamp};
use pki::{Bound, Claims, Reference};
use proto_kube::selector::Fields;
use proto_kube::{GroupResource, Gvk, Resource, Status, User, field, object, resource};
use serde_json::{Value, json};

use crate::audit::user_info;
use crate::authn::token;
use crate::info::Target;
use crate::random;
use crate::server::{Context, Server};

/// Answers a review (`TokenReview`, `SubjectAccessReview` and their relatives): the object with its status filled in.
///
/// # Errors
/// What is wrong with the question.
pub async fn answer(
    server: &Server,
    ctx: &Context,
    resource: &Resource,
    mut object: Value,
) -> Result<Value, Status> {
    let namespace = ctx.info.target.as_ref().map(|t| t.namespace.as_str()).unwrap_or_default();
    object["status"] = match resource.kind {
        "SelfSubjectReview" => json!({"userInfo": user_info(&ctx.user)}),
        "TokenReview" => token_review(server, ctx, &object)?,
        "SelfSubjectRulesReview" => {
            let status = rules(server, ctx, &object)?;
            // Upstream does not say again what was asked.
            object["spec"] = json!({});
            status
        }
        "SelfSubjectAccessReview" => access(server, &object, &ctx.user)?,
        "SubjectAccessReview" => access(server, &object, &subject(&object)?)?,
        "LocalSubjectAccessReview" => {
            local(&object, namespace)?;
            access(server, &object, &subject(&object)?)?
        }
        _ => return Err(Status::method_not_allowed(resource.group_resource(), "create")),
    };
    Ok(object)
}

/// The refusal of a review; upstream names no kind in it.
fn invalid(error: field::Error) -> Status {
    Status::invalid(&Gvk::new("authorization.k8s.io/v1", ""), "", &[error])
}

/// Attributes of a path, as upstream prints them.
fn printed(of_path: &Value) -> Value {
    json!({"Path": object::text(of_path, &["path"]), "Verb": object::text(of_path, &["verb"])})
}

/// Whether a review asks about its own namespace, and about nothing outside.
fn local(object: &Value, namespace: &str) -> Result<(), Status> {
    if let Some(of_path) = object::at(object, &["spec", "nonResourceAttributes"]) {
        let path = field::Path::new("spec.nonResourceAttributes");
        return Err(invalid(field::Error::invalid(
            &path,
            printed(of_path),
            "disallowed on this kind of request",
        )));
    }
    let asked = object::text(object, &["spec", "resourceAttributes", "namespace"]);
    if asked != namespace {
        let path = field::Path::new("spec.resourceAttributes.namespace");
        return Err(invalid(field::Error::invalid(&path, asked, "must match metadata.namespace")));
    }
    Ok(())
}

fn token_review(server: &Server, ctx: &Context, object: &Value) -> Result<Value, Status> {
    let shown = object::text(object, &["spec", "token"]);
    if shown.is_empty() {
        return Err(Status::bad_request("token is required for TokenReview in authentication"));
    }
    let mut audiences: Vec<&str> =
        object::items(object, &["spec", "audiences"]).filter_map(Value::as_str).collect();
    let by_default = audiences.is_empty();
    if by_default {
        audiences.push(&server.config.issuer);
    }
    Ok(match token::authenticate(server, shown, &audiences, ctx.now) {
        Ok((user, meant)) => json!({"authenticated": true, "user": user_info(&user), "audiences": meant}),
        Err(error) => json!({"user": {}, "error": error}),
    })
}

/// The user of a `SubjectAccessReview`.
fn subject(object: &Value) -> Result<User, Status> {
    let text = |key: &str| object::text(object, &["spec", key]).to_owned();
    let (name, uid) = (text("user"), text("uid"));
    let groups: Vec<String> =
        object::items(object, &["spec", "groups"]).filter_map(Value::as_str).map(str::to_owned).collect();
    if name.is_empty() && groups.is_empty() {
        let why = "at least one of user or group must be specified";
        return Err(invalid(field::Error::invalid(&field::Path::new("spec.user"), "", why)));
    }
    let extra = object::at(object, &["spec", "extra"]).cloned().unwrap_or_default();
    let extra: BTreeMap<String, Vec<String>> = serde_json::from_value(extra).unwrap_or_default();
    let extra = extra.into_iter().map(|(key, values)| (key.to_lowercase(), values)).collect();
    Ok(User { name, uid, groups, extra })
}

fn access(server: &Server, object: &Value, user: &User) -> Result<Value, Status> {
    let of_resource = object::at(object, &["spec", "resourceAttributes"]);
    let of_path = object::at(object, &["spec", "nonResourceAttributes"]);
    let fields = of_resource.map_or(Ok(None), field_selector)?;
    let unread = matches!(fields, Some(Err(())));
    let fields = fields.and_then(Result::ok);
    let asked = match (of_resource, of_path) {
        (Some(of), None) => {
            let text = |key: &str| object::text(of, &[key]);
            Attributes {
                verb: text("verb"),
                group: text("group"),
                version: text("version"),
                resource: text("resource"),
                subresource: text("subresource"),
                namespace: text("namespace"),
                name: text("name"),
                path: None,
                fields: fields.as_ref(),
            }
        }
        (None, Some(of)) => Attributes {
            verb: object::text(of, &["verb"]),
            path: Some(object::text(of, &["path"])),
            ..Attributes::default()
        },
        (Some(_), Some(of)) => {
            let path = field::Path::new("spec.nonResourceAttributes");
            let why = "cannot be specified in combination with resourceAttributes";
            return Err(invalid(field::Error::invalid(&path, printed(of), why)));
        }
        (None, None) => {
            let path = field::Path::new("spec.resourceAttributes");
            let why = "exactly one of nonResourceAttributes or resourceAttributes must be specified";
            return Err(invalid(field::Error::invalid(&path, Value::Null, why)));
        }
    };
    let decision = server.authority.decide(&server.store, user, &asked);
    let mut status = json!({"allowed": decision.is_allowed()});
    if !decision.reason().is_empty() {
        status["reason"] = decision.reason().into();
    }
    if matches!(decision, Decision::Deny(_)) {
        status["denied"] = true.into();
    }
    if unread {
        status["evaluationError"] = "spec.resourceAttributes.fieldSelector ignored due to parse error".into();
    }
    Ok(status)
}

/// The field selector of a review, given as text or in parts; `Err` within when it cannot be read.
fn field_selector(attributes: &Value) -> Result<Option<Result<Fields, ()>>, Status> {
    for (name, path) in
        [("fieldSelector", "fieldSelector.rawSelector"), ("labelSelector", "labelSelector.rawSelector")]
    {
        let raw = object::text(attributes, &[name, "rawSelector"]);
        if !raw.is_empty() && object::items(attributes, &[name, "requirements"]).next().is_some() {
            let path = field::Path::new("spec.resourceAttributes").child(path);
            let why = "may not specified at the same time as requirements";
            return Err(invalid(field::Error::invalid(&path, raw, why)));
        }
    }
    let Some(selector) = object::at(attributes, &["fieldSelector"]) else { return Ok(None) };
    let raw = object::text(selector, &["rawSelector"]);
    if !raw.is_empty() {
        return Ok(Some(Fields::parse(raw).map_err(drop)));
    }
    let parts: Option<Vec<String>> = object::items(selector, &["requirements"])
        .map(|requirement| {
            let value = object::items(requirement, &["values"]).next()?.as_str()?;
            let sign = match object::text(requirement, &["operator"]) {
                "In" => "=",
                "NotIn" => "!=",
                _ => return None,
            };
            Some(format!("{}{sign}{value}", object::text(requirement, &["key"])))
        })
        .collect();
    Ok(Some(parts.ok_or(()).and_then(|parts| Fields::parse(&parts.join(",")).map_err(drop))))
}

fn rules(server: &Server, ctx: &Context, object: &Value) -> Result<Value, Status> {
    let namespace = object::text(object, &["spec", "namespace"]);
    if namespace.is_empty() {
        return Err(Status::bad_request("no namespace on request"));
    }
    let found = server.authority.with_policy(&server.store, |policy| policy.rules_for(&ctx.user, namespace));
    let of_paths = |rule: &&Rule| !rule.paths.is_empty();
    let list = |rules: &mut dyn Iterator<Item = &Rule>| rules.map(Rule::to_json).collect::<Vec<_>>();
    let mut status = json!({
        "resourceRules": list(&mut found.rules.iter().filter(|r| !of_paths(r))),
        "nonResourceRules": list(&mut found.rules.iter().filter(of_paths)),
        "incomplete": ctx.user.node().is_some() || !found.errors.is_empty(),
    });
    let mut errors = found.errors;
    if ctx.user.node().is_some() {
        errors.push("node authorizer does not support user rule resolution".to_owned());
    }
    if !errors.is_empty() {
        status["evaluationError"] = errors.join(", ").into();
    }
    Ok(status)
}

/// How many seconds a token is valid if its request does not say, and what a request may ask for.
const DEFAULT: i64 = 3600;
const LEAST: i64 = 600;
const MOST: i64 = 1 << 32;

/// Answers `serviceaccounts/token`: the `TokenRequest` with a token in its status.
///
/// # Errors
/// 404 when there is no such service account, 422 when the request breaks a rule, 409 when what the token is to be
/// bound to is another than the request names.
pub async fn token(server: &Server, ctx: &Context, mut request: Value) -> Result<Value, Status> {
    let target = ctx.info.target.clone().unwrap_or_default();
    let account = live(server, target.group_resource(), &target.namespace, &target.name)?;
    check_names(&request, &target)?;
    let seconds =
        object::at(&request, &["spec", "expirationSeconds"]).and_then(Value::as_i64).unwrap_or(DEFAULT);
    let errors = expiration_errors(seconds);
    if !errors.is_empty() {
        return Err(Status::invalid(&Gvk::new("authentication.k8s.io/v1", "TokenRequest"), "", &errors));
    }
    let mut audiences: Vec<String> = object::items(&request, &["spec", "audiences"])
        .filter_map(Value::as_str)
        .map(str::to_owned)
        .collect();
    if audiences.is_empty() {
        audiences.push(server.config.issuer.clone());
    }
    let mut bound = Bound {
        namespace: target.namespace.clone(),
        serviceaccount: Reference { name: target.name.clone(), uid: object::uid(&account).to_owned() },
        ..Bound::default()
    };
    if let Some(to) = object::at(&request, &["spec", "boundObjectRef"]) {
        bind(server, &mut bound, to)?;
    }
    let begins = ctx.now.as_second();
    let claims = Claims {
        aud: audiences.clone(),
        exp: begins + seconds,
        iat: begins,
        iss: server.config.issuer.clone(),
        jti: random::uid(),
        bound,
        nbf: begins,
        sub: format!("system:serviceaccount:{}:{}", target.namespace, target.name),
    };
    let signed = server.pki.sign_token(&claims).map_err(Status::internal)?;
    let created = second(ctx.now);
    let metadata = object::metadata(&mut request);
    metadata.insert("name".to_owned(), target.name.into());
    metadata.insert("namespace".to_owned(), target.namespace.into());
    metadata.insert("creationTimestamp".to_owned(), created.to_string().into());
    let spec = object::member(&mut request, "spec");
    spec.insert("audiences".to_owned(), audiences.into());
    spec.insert("expirationSeconds".to_owned(), seconds.into());
    let ends = created.checked_add(SignedDuration::from_secs(seconds)).unwrap_or(Timestamp::MAX);
    request["status"] = json!({"token": signed, "expirationTimestamp": ends.to_string()});
    Ok(request)
}

/// Whether a request that names its service account names the right one.
fn check_names(request: &Value, target: &Target) -> Result<(), Status> {
    let mut errors = field::Errors::new();
    for (path, found, right, what) in [
        ("metadata.name", object::name(request), &target.name, "name"),
        ("metadata.namespace", object::namespace(request), &target.namespace, "namespace"),
    ] {
        if !found.is_empty() && found != right {
            let why = format!("must match the service account {what} if specified");
            errors.push(field::Error::invalid(&field::Path::new(path), found, why));
        }
    }
    match errors.as_slice() {
        [] => Ok(()),
        errors => {
            Err(Status::invalid(&Gvk::new("authentication.k8s.io/v1", "TokenRequest"), &target.name, errors))
        }
    }
}

fn expiration_errors(seconds: i64) -> field::Errors {
    let path = field::Path::new("spec.expirationSeconds");
    match seconds {
        ..LEAST => {
            vec![field::Error::invalid(&path, seconds, "may not specify a duration less than 10 minutes")]
        }
        LEAST..=MOST => Vec::new(),
        _ => {
            vec![field::Error::invalid(&path, seconds, "may not specify a duration larger than 2^32 seconds")]
        }
    }
}

fn second(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}

/// An object that is there and not about to go.
fn live(server: &Server, resource: GroupResource<'_>, namespace: &str, name: &str) -> Result<Value, Status> {
    let missing = || Status::not_found(resource, name);
    let kind = resource::preferred(resource).ok_or_else(missing)?;
    let entry = kind.key(namespace, name).and_then(|key| server.store.get(&key)).ok_or_else(missing)?;
    serde_json::from_slice(&entry.value).map_err(Status::internal)
}

/// Binds a token to the pod, secret or node that a request names.
fn bind(server: &Server, bound: &mut Bound, to: &Value) -> Result<(), Status> {
    let text = |key: &str| object::text(to, &[key]);
    let (name, uid) = (text("name"), text("uid"));
    let (plural, namespace) = match (text("apiVersion"), text("kind")) {
        ("v1", "Pod") => ("pods", bound.namespace.as_str()),
        ("v1", "Secret") => ("secrets", bound.namespace.as_str()),
        ("v1", "Node") => ("nodes", ""),
        (version, kind) => {
            let kind = Gvk::new(version, kind);
            return Err(Status::bad_request(format!("cannot bind token to object of type {kind}")));
        }
    };
    let resource = GroupResource { group: "", resource: plural };
    let found = live(server, resource, namespace, name)?;
    if !uid.is_empty() && uid != object::uid(&found) {
        let why = format!(
            "the UID in the bound object reference ({uid}) does not match the UID in record. The object might have \
             been deleted and then recreated"
        );
        return Err(Status::conflict(resource, name, &why));
    }
    let reference = Some(Reference { name: name.to_owned(), uid: object::uid(&found).to_owned() });
    match plural {
        "pods" => {
            if object::text(&found, &["spec", "serviceAccountName"]) != bound.serviceaccount.name {
                let why = format!(
                    "cannot bind token for serviceaccount {:?} to pod running with different serviceaccount name.",
                    bound.serviceaccount.name
                );
                return Err(Status::bad_request(why));
            }
            let node = object::text(&found, &["spec", "nodeName"]);
            if !node.is_empty() {
                let at = live(server, GroupResource { group: "", resource: "nodes" }, "", node);
                let uid = at.map(|n| object::uid(&n).to_owned()).unwrap_or_default();
                bound.node = Some(Reference { name: node.to_owned(), uid });
            }
            bound.pod = reference;
        }
        "secrets" => bound.secret = reference,
        _ => bound.node = reference,
    }
    Ok(())
}
