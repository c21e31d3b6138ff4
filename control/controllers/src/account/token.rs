//! Secrets of the type `kubernetes.io/service-account-token`: who makes one gets a token that does not end. They go with
//! their accounts.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use proto_kube::view::View;
use proto_kube::{GroupResource, object};
use serde_json::Value;

use crate::resources::{CONFIG_MAPS, SECRETS, SERVICE_ACCOUNTS, served};
use crate::write::update;
use crate::{Condition, Controller, Key, Mutation, Outcome, World, owner};

const TYPE: &str = "kubernetes.io/service-account-token";
const ACCOUNT: &str = "kubernetes.io/service-account.name";
const UID: &str = "kubernetes.io/service-account.uid";

/// Fills such secrets, and removes those whose account is gone.
pub(super) struct Tokens;

impl Controller for Tokens {
    fn name(&self) -> &'static str {
        "tokens-controller"
    }

    fn watches(&self) -> &'static [(&'static str, &'static str)] {
        &[("", "secrets"), ("", "serviceaccounts"), ("", "configmaps")]
    }

    fn needs(&self, of: GroupResource<'_>, object: &Value) -> bool {
        match of {
            SECRETS => is_token(object),
            CONFIG_MAPS => super::root_ca::RootCa.needs(of, object),
            _ => true,
        }
    }

    fn keys(
        &self,
        view: &dyn View,
        of: GroupResource<'_>,
        old: Option<&Value>,
        new: Option<&Value>,
    ) -> Vec<Key> {
        let Some(object) = new.or(old) else { return Vec::new() };
        match of {
            SECRETS => new.filter(|secret| is_token(secret)).map(owner::key).into_iter().collect(),
            // An account has come or gone.
            SERVICE_ACCOUNTS if old.map(object::uid) != new.map(object::uid) => {
                let secrets = view.list(SECRETS, object::namespace(object));
                let named = |s: &&Arc<Value>| is_token(s) && note(s, ACCOUNT) == object::name(object);
                secrets.iter().filter(named).map(|secret| owner::key(secret)).collect()
            }
            _ => Vec::new(),
        }
    }

    fn reconcile(&self, world: &World<'_>, key: &Key) -> Outcome {
        let mut out = Outcome::default();
        let Some(secret) = world.view.get(SECRETS, &key.0, &key.1) else { return out };
        if !is_token(&secret) || object::is_terminating(&secret) || world.refused.is_some() {
            return out;
        }
        let (name, uid) = (note(&secret, ACCOUNT), note(&secret, UID));
        let account = world.view.get(SERVICE_ACCOUNTS, &key.0, name);
        let Some(account) = account.filter(|a| uid.is_empty() || object::uid(a) == uid) else {
            let account = (key.0.clone(), name.to_owned());
            let uid = (!uid.is_empty()).then(|| uid.to_owned());
            let absent = Condition::Absent(served(SERVICE_ACCOUNTS), account, uid);
            out.mutations = vec![Mutation::If(absent), owner::delete(SECRETS, &secret)];
            return out;
        };
        let mut filled = (*secret).clone();
        filled["metadata"]["annotations"][UID] = object::uid(&account).into();
        let ca = super::root_ca::wanted(world);
        if !ca.is_empty() {
            filled["data"]["ca.crt"] = STANDARD.encode(ca).into();
        }
        if object::text(&secret, &["data", "namespace"]).is_empty() {
            filled["data"]["namespace"] = STANDARD.encode(&key.0).into();
        }
        if filled != *secret {
            out.mutations.push(update(SECRETS, filled));
        } else if object::text(&secret, &["data", "token"]).is_empty() {
            out.mutations.push(Mutation::Token(secret));
        }
        out
    }
}

fn is_token(secret: &Value) -> bool {
    secret["type"] == TYPE && !note(secret, ACCOUNT).is_empty()
}

fn note<'a>(secret: &'a Value, annotation: &str) -> &'a str {
    object::text(secret, &["metadata", "annotations", annotation])
}
