//! `Secret`.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use proto_kube::field::{Error, Errors};
use proto_kube::{name, object};
use serde_json::Value;

use crate::check::{self, Field};
use crate::column::{self, AGE, NAME, text};
use crate::pod::default;
use crate::{Column, Kind, meta};

/// The most bytes that the data of a secret or a config map may have.
pub(super) const MOST: usize = 1 << 20;

pub(super) struct Secret;

const COLUMNS: &[Column] =
    &[NAME, text("Type", "What the secret is for."), text("Data", "How many entries there are."), AGE];

/// What the types that Kubernetes knows must hold.
const NEEDS: &[(&str, &[&str])] = &[
    ("kubernetes.io/dockercfg", &[".dockercfg"]),
    ("kubernetes.io/dockerconfigjson", &[".dockerconfigjson"]),
    ("kubernetes.io/ssh-auth", &["ssh-privatekey"]),
    ("kubernetes.io/tls", &["tls.crt", "tls.key"]),
];

/// The bytes of a value in Base64.
pub(super) fn bytes(value: &Value) -> Option<Vec<u8>> {
    STANDARD.decode(value.as_str()?).ok()
}

impl Kind for Secret {
    fn default(&self, secret: &mut Value) {
        default::text(secret, "type", "Opaque");
        if let Some(Value::Object(texts)) = secret.as_object_mut().and_then(|s| s.remove("stringData")) {
            for (key, text) in texts {
                let text = STANDARD.encode(text.as_str().unwrap_or_default());
                object::member(secret, "data").insert(key, text.into());
            }
        }
    }

    fn validate(&self, object: &Value) -> Errors {
        check::object(object, |secret| {
            let data = secret.at("data");
            let mut size = 0;
            for (key, value) in data.entries() {
                name::config_key(key).into_iter().for_each(|fault| value.invalid_value(key, fault));
                size += bytes(value.value).map_or(0, |b| b.len());
            }
            if size > MOST {
                data.fault(Error::too_long(&data.path, MOST));
            }
            of_type(&secret, &data);
        })
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Errors {
        let mut errors = check::object(new, |secret| {
            secret.at("type").unchanged(old);
            super::config_map::frozen(&secret, old, &["data"]);
        });
        errors.extend(self.validate(new));
        errors
    }

    fn prepare_update(&self, new: &mut Value, old: &Value) {
        if object::text(new, &["type"]).is_empty() {
            meta::keep(new, old, &["type"]);
        }
    }

    fn columns(&self) -> &'static [Column] {
        COLUMNS
    }

    fn cells(&self, secret: &Value, now: Timestamp) -> Vec<Value> {
        let count = object::at(secret, &["data"]).and_then(Value::as_object).map_or(0, serde_json::Map::len);
        vec![
            object::name(secret).into(),
            object::text(secret, &["type"]).into(),
            count.into(),
            column::age(secret, now),
        ]
    }

    fn selectable(&self) -> &'static [&'static str] {
        &["type"]
    }

    fn fields(&self, secret: &Value) -> Vec<(&'static str, String)> {
        vec![("type", object::text(secret, &["type"]).to_owned())]
    }
}

fn of_type(secret: &Field<'_>, data: &Field<'_>) {
    let kind = secret.at("type").text();
    match kind {
        "kubernetes.io/service-account-token" => {
            let account = secret.at("metadata").at("annotations").entry("kubernetes.io/service-account.name");
            account.needs("");
        }
        "kubernetes.io/basic-auth" => {
            let [user, password] = ["username", "password"].map(|key| data.entry(key));
            if !user.is_set() && !password.is_set() {
                user.required("");
                password.required("");
            }
        }
        _ => {}
    }
    let needed = NEEDS.iter().find(|(name, _)| *name == kind).map_or(&[][..], |(_, keys)| keys);
    for key in needed {
        let value = data.entry(key);
        let there = match kind {
            "kubernetes.io/ssh-auth" => value.needs(""),
            _ => value.needs_value(""),
        };
        if there
            && kind.starts_with("kubernetes.io/docker")
            && let Some(why) = not_an_object(&bytes(value.value).unwrap_or_default())
        {
            value.invalid_value("<secret contents redacted>", why);
        }
    }
}

/// Why bytes are no JSON object.
fn not_an_object(bytes: &[u8]) -> Option<String> {
    match serde_json::from_slice::<Value>(bytes) {
        Ok(Value::Object(_)) => None,
        Ok(other) => {
            let what = match other {
                Value::Array(_) => "array",
                Value::String(_) => "string",
                Value::Number(_) => "number",
                Value::Bool(_) => "bool",
                _ => return None,
            };
            Some(format!("json: cannot unmarshal {what} into Go value of type map[string]interface {{}}"))
        }
        Err(error) if error.is_eof() => Some("unexpected end of JSON input".to_owned()),
        Err(_) => {
            let first = bytes.iter().find(|b| !b.is_ascii_whitespace()).copied().unwrap_or(b' ');
            Some(format!("invalid character '{}' looking for beginning of value", char::from(first)))
        }
    }
}
