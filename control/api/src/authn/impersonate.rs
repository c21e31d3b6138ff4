//! Acting as somebody else: the `Impersonate-*` headers, each of which must be allowed to the one who sends it.

use std::collections::BTreeMap;

use authz::Attributes;
use http::HeaderMap;
use proto_kube::{Status, User};

use super::{AUTHENTICATED, UNAUTHENTICATED, token::service_account_groups};
use crate::query::decode;

const EXTRA: &str = "impersonate-extra-";

/// Whom a request wants to act as; `None` when it is about nobody else.
///
/// # Errors
/// 400 when the headers name groups or the like but no user.
pub fn wanted(headers: &HeaderMap) -> Result<Option<User>, Status> {
    let texts = |name: &str| -> Vec<String> {
        headers.get_all(name).iter().filter_map(|v| v.to_str().ok()).map(str::to_owned).collect()
    };
    let one = |name: &str| texts(name).into_iter().next().unwrap_or_default();
    let (name, uid, groups) = (one("impersonate-user"), one("impersonate-uid"), texts("impersonate-group"));
    let mut extra: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for header in headers.keys().filter(|h| h.as_str().starts_with(EXTRA)) {
        let key = decode(&header.as_str()[EXTRA.len()..], false).to_lowercase();
        extra.entry(key).or_default().extend(texts(header.as_str()));
    }
    match name.is_empty() {
        true if uid.is_empty() && groups.is_empty() && extra.is_empty() => Ok(None),
        true => Err(Status::bad_request("requested impersonation without impersonating a user")),
        false => Ok(Some(User { name, uid, groups, extra })),
    }
}

/// Everything that must be allowed so that somebody may act as `user`, in upstream's order.
pub fn questions(user: &User) -> Vec<Attributes<'_>> {
    const GROUP: &str = "authentication.k8s.io";
    let ask = Attributes { verb: "impersonate", version: "v1", ..Attributes::default() };
    let mut all = vec![match user.service_account() {
        Some((namespace, name)) => Attributes { resource: "serviceaccounts", namespace, name, ..ask },
        None => Attributes { resource: "users", name: &user.name, ..ask },
    }];
    all.extend(user.groups.iter().map(|name| Attributes { resource: "groups", name, ..ask }));
    for (key, values) in &user.extra {
        let extra = Attributes { group: GROUP, resource: "userextras", subresource: key, ..ask };
        all.extend(values.iter().map(|name| Attributes { name, ..extra }));
    }
    if !user.uid.is_empty() {
        all.push(Attributes { group: GROUP, resource: "uids", name: &user.uid, ..ask });
    }
    all
}

/// The user, with the groups that come with being it.
#[must_use]
pub fn complete(mut user: User) -> User {
    if user.groups.is_empty()
        && let Some((namespace, _)) = user.service_account()
    {
        user.groups = service_account_groups(namespace);
    }
    let added = if user.is_anonymous() { UNAUTHENTICATED } else { AUTHENTICATED };
    if !user.is_in(AUTHENTICATED) && !user.is_in(UNAUTHENTICATED) {
        user.groups.push(added.to_owned());
    }
    user
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn each_header_is_a_question() {
        let user = wanted(&headers(&[
            ("impersonate-user", "jane"),
            ("impersonate-group", "dev"),
            ("impersonate-group", "ops"),
            ("impersonate-uid", "7"),
            ("impersonate-extra-example.com%2fscopes", "view"),
        ]));
        let user = user.unwrap().unwrap();
        let asked: Vec<_> = questions(&user).iter().map(|q| (q.resource, q.subresource, q.name)).collect();
        assert_eq!(
            asked,
            [
                ("users", "", "jane"),
                ("groups", "", "dev"),
                ("groups", "", "ops"),
                ("userextras", "example.com/scopes", "view"),
                ("uids", "", "7"),
            ]
        );
        assert_eq!(complete(user).groups, ["dev", "ops", "system:authenticated"]);
    }

    #[test]
    fn service_accounts_bring_their_groups() {
        let user = wanted(&headers(&[("impersonate-user", "system:serviceaccount:ns:a")])).unwrap().unwrap();
        let questions = questions(&user);
        assert_eq!(
            (questions[0].resource, questions[0].namespace, questions[0].name),
            ("serviceaccounts", "ns", "a")
        );
        assert_eq!(
            complete(user.clone()).groups,
            ["system:serviceaccounts", "system:serviceaccounts:ns", "system:authenticated"]
        );
        let nobody = User { name: "system:anonymous".to_owned(), ..User::default() };
        assert_eq!(complete(nobody).groups, ["system:unauthenticated"]);
    }

    #[test]
    fn without_a_user_there_is_nobody_to_be() {
        assert_eq!(wanted(&headers(&[])), Ok(None));
        assert_eq!(wanted(&headers(&[("impersonate-group", "dev")])).unwrap_err().code, 400);
    }
}
