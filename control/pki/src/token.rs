//! Service-account tokens: JSON Web Tokens signed with ES256, the public keys (JWKS) and the OIDC discovery document by
//! which others check them.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use jiff::Timestamp;
use ring::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::Error;
use crate::key::{Key, digest};

/// How far the clocks of signer and reader may differ, in seconds.
const LEEWAY: i64 = 60;
/// Longer than any token we sign; what is longer is not even looked at.
const LONGEST: usize = 16 << 10;

/// What a token says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// For whom the token is meant.
    #[serde(default, deserialize_with = "one_or_many")]
    pub aud: Vec<String>,
    /// Until when it is valid, in seconds since 1970.
    pub exp: i64,
    /// When it was signed.
    #[serde(default)]
    pub iat: i64,
    /// Who signed.
    pub iss: String,
    /// The token's own identifier.
    #[serde(default)]
    pub jti: String,
    /// What it is bound to.
    #[serde(rename = "kubernetes.io")]
    pub bound: Bound,
    /// From when on it is valid.
    #[serde(default)]
    pub nbf: i64,
    /// `system:serviceaccount:<namespace>:<name>`
    pub sub: String,
}

/// The objects a token dies with.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bound {
    /// The service account's namespace.
    pub namespace: String,
    /// The node of the pod, or the node that the token is bound to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<Reference>,
    /// The pod that it is bound to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<Reference>,
    /// The secret that it is bound to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<Reference>,
    /// The service account.
    pub serviceaccount: Reference,
}

/// One object in all time.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reference {
    /// Its name.
    pub name: String,
    /// Its identifier; empty of a node that is not there yet.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub uid: String,
}

fn one_or_many<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Either {
        One(String),
        Many(Vec<String>),
    }
    Ok(match Either::deserialize(deserializer)? {
        Either::One(one) => vec![one],
        Either::Many(many) => many,
    })
}

/// Why a token is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It is no token of ours: another issuer's, or no token at all.
    #[error("the token is not of this cluster")]
    Foreign,
    /// Its signature is wrong, or by a key that is gone.
    #[error("the token's signature is not valid")]
    Signature,
    /// Its time is over.
    #[error("service account token has expired")]
    Expired,
    /// Its time has not come.
    #[error("the token is not valid yet")]
    Early,
}

/// How the header of a token names its key: the digest of the public key, as upstream has it.
pub(crate) fn key_id(key: &Key) -> String {
    BASE64.encode(digest(&key.spki()))
}

/// Signs a token.
pub(crate) fn sign(key: &Key, claims: &Claims) -> Result<String, Error> {
    let header = json!({"alg": "ES256", "kid": key_id(key)}).to_string();
    let claims = serde_json::to_vec(claims).map_err(|e| Error::Token { why: e.to_string() })?;
    let message = format!("{}.{}", BASE64.encode(header), BASE64.encode(claims));
    let signature = key.sign_fixed(message.as_bytes())?;
    Ok(format!("{message}.{}", BASE64.encode(signature)))
}

/// Checks a token's signature, issuer and time. What it is bound to is not looked at.
pub(crate) fn verify<'a>(
    keys: impl Iterator<Item = &'a Key>,
    issuer: &str,
    token: &str,
    now: Timestamp,
) -> Result<Claims, Refusal> {
    #[derive(Deserialize)]
    struct Header {
        alg: String,
        #[serde(default)]
        kid: String,
    }
    if token.len() > LONGEST {
        return Err(Refusal::Foreign);
    }
    let (message, signature) = token.rsplit_once('.').ok_or(Refusal::Foreign)?;
    let (header, claims) = message.split_once('.').ok_or(Refusal::Foreign)?;
    let decode = |part: &str| BASE64.decode(part).map_err(|_| Refusal::Foreign);
    let header: Header = serde_json::from_slice(&decode(header)?).map_err(|_| Refusal::Foreign)?;
    let (claims, signature) = (decode(claims)?, decode(signature)?);
    let claims: Claims = serde_json::from_slice(&claims).map_err(|_| Refusal::Foreign)?;
    if claims.iss != issuer {
        return Err(Refusal::Foreign);
    }
    if header.alg != "ES256" {
        return Err(Refusal::Signature);
    }
    keys.filter(|key| header.kid.is_empty() || key_id(key) == header.kid)
        .find(|key| {
            let public = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, key.point());
            public.verify(message.as_bytes(), &signature).is_ok()
        })
        .ok_or(Refusal::Signature)?;
    let now = now.as_second();
    if now > claims.exp.saturating_add(LEEWAY) {
        return Err(Refusal::Expired);
    }
    if now.saturating_add(LEEWAY) < claims.nbf {
        return Err(Refusal::Early);
    }
    Ok(claims)
}

/// The public keys, as `/openid/v1/jwks` serves them.
pub(crate) fn jwks<'a>(keys: impl Iterator<Item = &'a Key>) -> Value {
    let one = |key: &Key| {
        let (x, y) = key.point()[1..].split_at(32);
        json!({"use": "sig", "kty": "EC", "kid": key_id(key), "crv": "P-256", "alg": "ES256",
            "x": BASE64.encode(x), "y": BASE64.encode(y)})
    };
    json!({"keys": keys.map(one).collect::<Vec<_>>()})
}

/// The document at `/.well-known/openid-configuration`.
#[must_use]
pub fn discovery(issuer: &str, jwks_uri: &str) -> Value {
    json!({
        "issuer": issuer, "jwks_uri": jwks_uri, "response_types_supported": ["id_token"],
        "subject_types_supported": ["public"], "id_token_signing_alg_values_supported": ["ES256"],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claims() -> Claims {
        Claims {
            aud: vec!["api".into()],
            exp: 2000,
            iat: 1000,
            iss: "https://here".into(),
            jti: "1".into(),
            bound: Bound { namespace: "ns".into(), ..Bound::default() },
            nbf: 1000,
            sub: "system:serviceaccount:ns:a".into(),
        }
    }

    #[test]
    fn a_token_is_taken_for_its_time_and_by_its_issuer() {
        let (key, other) = (Key::generate().unwrap(), Key::generate().unwrap());
        let token = sign(&key, &claims()).unwrap();
        let at = |seconds| {
            let now = Timestamp::from_second(seconds).unwrap();
            verify([&other, &key].into_iter(), "https://here", &token, now)
        };
        assert_eq!(at(1500), Ok(claims()));
        assert_eq!((at(900), at(2100)), (Err(Refusal::Early), Err(Refusal::Expired)));
        let now = Timestamp::from_second(1500).unwrap();
        let by = |keys: &[&Key], issuer, token: &str| {
            verify(keys.iter().copied(), issuer, token, now).unwrap_err()
        };
        assert_eq!(by(&[&key], "https://there", &token), Refusal::Foreign);
        assert_eq!(by(&[&other], "https://here", &token), Refusal::Signature);
        for text in ["", "a.b", "a.b.c", "..", &"a".repeat(LONGEST + 1)] {
            assert_eq!(by(&[&key], "https://here", text), Refusal::Foreign);
        }
    }

    #[test]
    fn what_is_changed_is_refused() {
        let key = Key::generate().unwrap();
        let token = sign(&key, &claims()).unwrap();
        let now = Timestamp::from_second(1500).unwrap();
        let check = |token: &str| verify([&key].into_iter(), "https://here", token, now);
        let parts: Vec<&str> = token.split('.').collect();
        let admin = serde_json::to_vec(&Claims { sub: "system:admin".into(), ..claims() }).unwrap();
        assert_eq!(
            check(&format!("{}.{}.{}", parts[0], BASE64.encode(admin), parts[2])),
            Err(Refusal::Signature)
        );
        for header in [r#"{"alg":"none"}"#, r#"{"alg":"HS256"}"#] {
            let token = format!("{}.{}.{}", BASE64.encode(header), parts[1], parts[2]);
            assert_eq!(check(&token), Err(Refusal::Signature), "{header}");
        }
        assert_eq!(check(&format!("{}.{}.", parts[0], parts[1])), Err(Refusal::Signature));
    }

    #[test]
    fn public_keys_have_their_form() {
        let key = Key::generate().unwrap();
        let keys = jwks([&key].into_iter());
        let one = &keys["keys"][0];
        assert_eq!(one["kid"], key_id(&key));
        assert_eq!(BASE64.decode(one["x"].as_str().unwrap()).unwrap().len(), 32);
        assert_eq!(discovery("https://a", "https://a/k")["jwks_uri"], "https://a/k");
    }
}
