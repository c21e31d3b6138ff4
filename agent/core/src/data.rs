//! Config maps and secrets as pods use them, and which a pod uses.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Container as Spec, EnvFromSource, EnvVar, Pod, Volume};

use crate::pod;

/// What kind of object holds data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// For all who may read the namespace.
    ConfigMap,
    /// For few.
    Secret,
}

impl Kind {
    /// As upstream's messages begin: `configmap "x" not found`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::ConfigMap => "configmap",
            Self::Secret => "secret",
        }
    }
}

/// An object of the pod's namespace.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    /// Its kind.
    pub kind: Kind,
    /// Its name.
    pub name: String,
}

impl Reference {
    /// From its parts.
    #[must_use]
    pub fn new(kind: Kind, name: &str) -> Self {
        Self { kind, name: name.to_owned() }
    }
}

/// What an object holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Data {
    /// `data`: text of a config map, bytes of a secret.
    pub data: BTreeMap<String, Vec<u8>>,
    /// `binaryData` of a config map: for files, not for variables.
    pub binary: BTreeMap<String, Vec<u8>>,
    /// A secret's `type`.
    pub kind: String,
    /// It stays as it is for ever.
    pub immutable: bool,
}

impl Data {
    /// What stands under a key, text or not.
    #[must_use]
    pub fn bytes(&self, key: &str) -> Option<&[u8]> {
        self.data.get(key).or_else(|| self.binary.get(key)).map(Vec::as_slice)
    }

    /// All there is.
    pub fn all(&self) -> impl Iterator<Item = (&String, &Vec<u8>)> {
        self.data.iter().chain(&self.binary)
    }
}

/// Why an object cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unread {
    /// There is none of that name.
    NotFound,
    /// Nobody knows: there is no API server, or it has not answered yet.
    Unknown(String),
}

/// The objects that are known, by reference.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Objects(pub BTreeMap<Reference, Result<Arc<Data>, Unread>>);

/// An object that has to be there is not: upstream's words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Missing {
    /// There is none of that name.
    #[error("{kind} {name:?} not found")]
    NotFound {
        /// As [`Kind::name`].
        kind: Kind,
        /// The object's name.
        name: String,
    },
    /// Nobody knows whether there is one.
    #[error("{0}")]
    Unknown(String),
}

impl Objects {
    /// What an object holds; `None` when it is optional and not there.
    ///
    /// # Errors
    /// It has to be there and is not, or nobody knows.
    pub fn read(&self, kind: Kind, name: &str, optional: bool) -> Result<Option<Arc<Data>>, Missing> {
        match self.0.get(&Reference::new(kind, name)) {
            Some(Ok(data)) => Ok(Some(data.clone())),
            Some(Err(Unread::NotFound)) if optional => Ok(None),
            Some(Err(Unread::Unknown(why))) => Err(Missing::Unknown(why.clone())),
            Some(Err(Unread::NotFound)) | None => Err(Missing::NotFound { kind, name: name.to_owned() }),
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// All objects that a pod refers to: volumes, variables, credentials of registries.
#[must_use]
pub fn of_pod(pod: &Pod) -> BTreeSet<Reference> {
    let mut all = of_volumes(pod);
    for spec in pod::every_container(pod) {
        all.extend(of_container(&spec));
    }
    all.extend(pull_secrets(pod));
    all
}

/// Those of its volumes.
#[must_use]
pub fn of_volumes(pod: &Pod) -> BTreeSet<Reference> {
    pod::spec(pod).volumes.iter().flatten().flat_map(of_volume).collect()
}

/// Those that have credentials of registries.
#[must_use]
pub fn pull_secrets(pod: &Pod) -> BTreeSet<Reference> {
    let secrets = pod::spec(pod).image_pull_secrets.iter().flatten();
    secrets.filter(|s| !s.name.is_empty()).map(|s| Reference::new(Kind::Secret, &s.name)).collect()
}

fn of_volume(volume: &Volume) -> Vec<Reference> {
    let mut all = Vec::new();
    if let Some(source) = &volume.config_map {
        all.push(Reference::new(Kind::ConfigMap, &source.name));
    }
    if let Some(name) = volume.secret.as_ref().and_then(|s| s.secret_name.as_ref()) {
        all.push(Reference::new(Kind::Secret, name));
    }
    for source in volume.projected.iter().flat_map(|p| p.sources.iter().flatten()) {
        all.extend(source.config_map.as_ref().map(|s| Reference::new(Kind::ConfigMap, &s.name)));
        all.extend(source.secret.as_ref().map(|s| Reference::new(Kind::Secret, &s.name)));
    }
    all
}

/// Those of a container's variables.
#[must_use]
pub fn of_container(spec: &Spec) -> BTreeSet<Reference> {
    let one = |var: &EnvVar| {
        let from = var.value_from.as_ref()?;
        let map = from.config_map_key_ref.as_ref().map(|s| Reference::new(Kind::ConfigMap, &s.name));
        map.or_else(|| from.secret_key_ref.as_ref().map(|s| Reference::new(Kind::Secret, &s.name)))
    };
    let all = |from: &EnvFromSource| {
        let map = from.config_map_ref.as_ref().map(|s| Reference::new(Kind::ConfigMap, &s.name));
        map.or_else(|| from.secret_ref.as_ref().map(|s| Reference::new(Kind::Secret, &s.name)))
    };
    spec.env.iter().flatten().filter_map(one).chain(spec.env_from.iter().flatten().filter_map(all)).collect()
}
