//! What is asked, and the answer.

use proto_kube::selector::Fields;
use proto_kube::{GroupResource, Status, User};

/// A request as authorization sees it: a verb on a resource, or on a path outside of the resources.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Attributes<'a> {
    /// As `list`; the lower-case method for a path.
    pub verb: &'a str,
    /// Empty for the core group.
    pub group: &'a str,
    /// As `v1`. No rule looks at it.
    pub version: &'a str,
    /// As `pods`.
    pub resource: &'a str,
    /// As `log`.
    pub subresource: &'a str,
    /// Empty for the whole cluster.
    pub namespace: &'a str,
    /// Empty when the request is about many objects, or the name is still to be made.
    pub name: &'a str,
    /// As `/metrics`. When set, what stands above about a resource means nothing.
    pub path: Option<&'a str>,
    /// The field selector of a list or watch.
    pub fields: Option<&'a Fields>,
}

/// Whether a request may pass, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// It may.
    Allow(String),
    /// It may not, whatever others say.
    Deny(String),
    /// Nothing here allows it; others may.
    NoOpinion(String),
}

impl Decision {
    /// Whether the request may pass.
    #[must_use]
    pub fn is_allowed(&self) -> bool {
        matches!(self, Self::Allow(_))
    }

    /// Why; may be empty.
    #[must_use]
    pub fn reason(&self) -> &str {
        let (Self::Allow(reason) | Self::Deny(reason) | Self::NoOpinion(reason)) = self;
        reason
    }
}

impl Attributes<'_> {
    /// Who cannot do what, in upstream's words.
    #[must_use]
    pub fn refusal(&self, user: &User) -> String {
        let (name, verb) = (&user.name, self.verb);
        if let Some(path) = self.path {
            return format!("User {name:?} cannot {verb} path {path:?}");
        }
        let (resource, group) = (self.combined(), self.group);
        let scope = match self.namespace {
            "" => "at the cluster scope".to_owned(),
            namespace => format!("in the namespace {namespace:?}"),
        };
        format!("User {name:?} cannot {verb} resource {resource:?} in API group {group:?} {scope}")
    }

    /// The 403 that answers the request. `reasons` are what the authorizers had to say and what would help
    /// ([`crate::rbac::Policy::suggest`]); empty ones are left out.
    #[must_use]
    pub fn forbidden(&self, user: &User, reasons: &[&str]) -> Status {
        let reasons: Vec<_> = reasons.iter().copied().filter(|r| !r.is_empty()).collect();
        // Nothing in an answer may look like HTML.
        let mut text = self.refusal(user).replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
        if !reasons.is_empty() {
            text = format!("{text}: {}", reasons.join("; "));
        }
        let (resource, name) = if self.path.is_some() { ("", "") } else { (self.resource, self.name) };
        Status::forbidden(GroupResource { group: self.group, resource }, name, &text)
    }

    /// Resource and subresource as a rule names them: `pods/log`.
    pub(crate) fn combined(&self) -> String {
        match self.subresource {
            "" => self.resource.to_owned(),
            subresource => format!("{}/{subresource}", self.resource),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_worded_as_upstreams() {
        let user = User { name: "jane".to_owned(), ..User::default() };
        let pods =
            Attributes { verb: "list", resource: "pods", namespace: "default", ..Attributes::default() };
        let log = Attributes { subresource: "log", verb: "get", name: "web", ..pods };
        let nodes = Attributes { verb: "create", resource: "nodes", ..Attributes::default() };
        let apps = Attributes { group: "apps", resource: "deployments", namespace: "", ..pods };
        let path = Attributes { verb: "get", path: Some("/metrics"), ..Attributes::default() };
        for (attributes, reasons, text) in [
            (
                pods,
                vec![],
                r#"pods is forbidden: User "jane" cannot list resource "pods" in API group "" in the namespace "default""#,
            ),
            (
                log,
                vec!["", "a", "b"],
                r#"pods "web" is forbidden: User "jane" cannot get resource "pods/log" in API group "" in the namespace "default": a; b"#,
            ),
            (
                nodes,
                vec![],
                r#"nodes is forbidden: User "jane" cannot create resource "nodes" in API group "" at the cluster scope"#,
            ),
            (
                apps,
                vec![],
                r#"deployments.apps is forbidden: User "jane" cannot list resource "deployments" in API group "apps" at the cluster scope"#,
            ),
            (path, vec![], r#"forbidden: User "jane" cannot get path "/metrics""#),
        ] {
            assert_eq!(attributes.forbidden(&user, &reasons).message, text);
        }
    }
}
