//! `ServiceAccount`.

use jiff::Timestamp;
use proto_kube::field::Errors;
use proto_kube::object;
use serde_json::{Value, json};

use crate::column::{self, AGE, NAME};
use crate::pod::default;
use crate::{Column, Kind};

pub(super) struct ServiceAccount;

const COLUMNS: &[Column] = &[NAME, AGE];

/// Of the secrets only their names count.
fn plain(account: &mut Value) {
    default::each(account, "secrets", |secret| {
        let name = object::text(secret, &["name"]).to_owned();
        *secret = if name.is_empty() { json!({}) } else { json!({"name": name}) };
    });
}

impl Kind for ServiceAccount {
    fn prepare_create(&self, account: &mut Value) {
        plain(account);
    }

    fn prepare_update(&self, new: &mut Value, _old: &Value) {
        plain(new);
    }

    fn validate(&self, _account: &Value) -> Errors {
        Errors::new()
    }

    fn warnings(&self, account: &Value, _old: Option<&Value>) -> Vec<String> {
        const KEY: &str = "kubernetes.io/enforce-mountable-secrets";
        let set = object::annotations(account).any(|(key, _)| key == KEY);
        let text = format!(
            "metadata.annotations[{KEY}]: deprecated in v1.32+; prefer separate namespaces to isolate access to mounted secrets"
        );
        set.then_some(text).into_iter().collect()
    }

    fn columns(&self) -> &'static [Column] {
        COLUMNS
    }

    fn cells(&self, account: &Value, now: Timestamp) -> Vec<Value> {
        vec![object::name(account).into(), column::age(account, now)]
    }
}
