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
        "TokenReview" => token_review(server, ctx, resource, &object)?,
        "SelfSubjectRulesReview" => rules(server, ctx, &object)?,
        "SelfSubjectAccessReview" => access(server, resource, &object, &ctx.user)?,
        "SubjectAccessReview" => access(server, resource, &object, &subject(resource, &object)?)?,
        "LocalSubjectAccessReview" => {
            let asked = object::text(&object, &["spec", "resourceAttributes", "namespace"]);
            if asked != namespace {
                let path = field::Path::new("spec.resourceAttributes.namespace");
                let why = format!("must match metadata.namespace: {namespace}");
                return Err(invalid(resource, &object, &[field::Error::invalid(&path, asked, why)]));
            }
            access(server, resource, &object, &subject(resource, &object)?)?
        }
        _ => return Err(Status::method_not_allowed(resource.group_resource(), "create")),
    };
    Ok(object)
}

fn invalid(resource: &Resource, object: &Value, errors: &[field::Error]) -> Status {
    Status::invalid(&resource.gvk(), object::name(object), errors)
}

fn token_review(
    server: &Server,
    ctx: &Context,
    resource: &Resource,
    object: &Value,
) -> Result<Value, Status> {
    let shown = object::text(object, &["spec", "token"]);
    if shown.is_empty() {
        let path = field::Path::new("spec.token");
        return Err(Status::bad_request(format!(
            "token is required for {} in authentication: {path}",
            resource.kind
        )));
    }
    let mut audiences: Vec<&str> =
        object::items(object, &["spec", "audiences"]).filter_map(Value::as_str).collect();
    let by_default = audiences.is_empty();
    if by_default {
        audiences.push(&server.config.issuer);
    }
    Ok(match token::authenticate(server, shown, &audiences, ctx.now) {
        Ok((user, meant)) => json!({"authenticated": true, "user": user_info(&user), "audiences": meant}),
        Err(error) => json!({"authenticated": false, "user": {}, "error": error}),
    })
}

/// The user of a `SubjectAccessReview`.
fn subject(resource: &Resource, object: &Value) -> Result<User, Status> {
    let text = |key: &str| object::text(object, &["spec", key]).to_owned();
    let (name, uid) = (text("user"), text("uid"));
    let groups: Vec<String> =
        object::items(object, &["spec", "groups"]).filter_map(Value::as_str).map(str::to_owned).collect();
    if name.is_empty() && groups.is_empty() {
        let why = "at least one of user or group must be specified";
        return Err(invalid(
            resource,
            object,
            &[field::Error::invalid(&field::Path::new("spec.user"), "", why)],
        ));
    }
    let extra = object::at(object, &["spec", "extra"]).cloned().unwrap_or_default();
    let extra: BTreeMap<String, Vec<String>> = serde_json::from_value(extra).unwrap_or_default();
    let extra = extra.into_iter().map(|(key, values)| (key.to_lowercase(), values)).collect();
    Ok(User { name, uid, groups, extra })
}

fn access(server: &Server, resource: &Resource, object: &Value, user: &User) -> Result<Value, Status> {
    let of_resource = object::at(object, &["spec", "resourceAttributes"]);
    let of_path = object::at(object, &["spec", "nonResourceAttributes"]);
    let fields = of_resource.and_then(field_selector);
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
        (both, _) => {
            let (name, why) = match both {
                Some(_) => (
                    "spec.nonResourceAttributes",
                    "cannot be specified in combination with resourceAttributes",
                ),
                None => (
                    "spec.resourceAttributes",
                    "exactly one of nonResourceAttributes or resourceAttributes must be specified",
                ),
            };
            let error = field::Error::invalid(&field::Path::new(name), Value::Null, why);
            return Err(invalid(resource, object, &[error]));
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
    Ok(status)
}

/// The field selector of a review, given as text or in parts.
fn field_selector(attributes: &Value) -> Option<Fields> {
    let selector = object::at(attributes, &["fieldSelector"])?;
    let raw = object::text(selector, &["rawSelector"]);
    if !raw.is_empty() {
        return Fields::parse(raw).ok();
    }
    let parts = object::items(selector, &["requirements"]).filter_map(|requirement| {
        let value = object::items(requirement, &["values"]).next()?.as_str()?;
        let sign = match object::text(requirement, &["operator"]) {
            "In" => "=",
            "NotIn" => "!=",
            _ => return None,
        };
        Some(format!("{}{sign}{value}", object::text(requirement, &["key"])))
    });
    Fields::parse(&parts.collect::<Vec<_>>().join(",")).ok()
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
    let named = object::name(&request);
    if !named.is_empty() && named != target.name {
        let why = format!("name ({named}) does not match the service account's ({})", target.name);
        return Err(Status::bad_request(why));
    }
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
            return Err(Status::bad_request(format!("cannot bind token for serviceaccount to type {kind}")));
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
