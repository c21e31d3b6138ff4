//! What kind a body says it is.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};

use super::Error;
use crate::Gvk;

/// `apiVersion` and `kind` of a body; empty where they are missing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Head {
    /// As `apps/v1`.
    pub api_version: String,
    /// As `Deployment`.
    pub kind: String,
}

/// Reads no more of a JSON body than what kind it is; the rest is skipped, but must be JSON.
///
/// # Errors
/// When it is no JSON object.
pub fn head(body: &[u8]) -> Result<Head, Error> {
    let mut json = serde_json::Deserializer::from_slice(body);
    let mut head = Head::default();
    let read = Parts(&mut head).deserialize(&mut json).and_then(|()| json.end());
    read.map(|()| head).map_err(super::syntax)
}

impl Head {
    /// The kind of a body that must tell it.
    ///
    /// # Errors
    /// When the kind or the version is missing.
    pub fn kind_of(&self, body: &[u8]) -> Result<Gvk, Error> {
        let body = || String::from_utf8_lossy(body).into_owned();
        match (self.kind.as_str(), self.api_version.as_str()) {
            ("", _) => Err(Error::NoKind(body())),
            (_, "") => Err(Error::NoVersion(body())),
            (kind, version) => Ok(Gvk::new(version, kind)),
        }
    }
}

struct Parts<'h>(&'h mut Head);

impl<'de> DeserializeSeed<'de> for Parts<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Parts<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "apiVersion" => self.0.api_version = map.next_value::<Option<String>>()?.unwrap_or_default(),
                "kind" => self.0.kind = map.next_value::<Option<String>>()?.unwrap_or_default(),
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(())
    }
}
