//! The files of volumes that are made from objects: config maps, secrets, the downward API, service account tokens.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Container as Spec, DownwardAPIVolumeFile, KeyToPath, Pod, ProjectedVolumeSource, Volume, VolumeProjection,
};

use crate::data::{Data, Kind, Missing, Objects};
use crate::env::{self, EnvProblem, Facts};
use crate::pod;

/// A file's mode when its volume gives none.
const MODE: i32 = 0o644;
/// How long a token is asked for when its volume does not say, in seconds.
const TOKEN_SECONDS: i64 = 3600;

/// A file of a volume.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct File {
    /// What is in it.
    pub data: Vec<u8>,
    /// Its permissions.
    pub mode: u32,
    /// Whom it belongs to; root where there is none.
    pub owner: Option<u32>,
}

/// The files of a volume by their path below it.
pub type Payload = BTreeMap<String, File>;

/// A token that a volume has.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TokenRequest {
    /// For whom it is; empty for the API server.
    pub audience: String,
    /// How long it is valid, in seconds.
    pub seconds: i64,
}

/// Tokens of the pod's service account, or why one cannot be had.
pub type Tokens = BTreeMap<TokenRequest, Result<String, String>>;

/// What volumes are made from.
#[derive(Debug, Clone, Copy)]
pub struct Sources<'a> {
    /// Config maps and secrets.
    pub objects: &'a Objects,
    /// Tokens.
    pub tokens: &'a Tokens,
}

/// Why the files of a volume cannot be had, in upstream's words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PayloadProblem {
    /// A config map or secret.
    #[error(transparent)]
    Missing(#[from] Missing),
    /// A key that has to be there is not.
    #[error("{} {key}", match kind { Kind::ConfigMap => "configmap references non-existent config key:", Kind::Secret => "references non-existent secret key:" })]
    Key {
        /// Whose key.
        kind: Kind,
        /// The key.
        key: String,
    },
    /// The downward API.
    #[error(transparent)]
    Downward(#[from] EnvProblem),
    /// A token.
    #[error("{0}")]
    Token(String),
    /// A source that this node does not know.
    #[error("{0} is not supported by this node")]
    Kind(&'static str),
    /// Several.
    #[error("[{}]", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))]
    Several(Vec<PayloadProblem>),
}

impl PayloadProblem {
    /// Nobody knows whether it is one: what was made before stays as it is.
    #[must_use]
    pub fn passing(&self) -> bool {
        match self {
            Self::Missing(Missing::Unknown(_)) | Self::Token(_) => true,
            Self::Several(all) => all.iter().all(Self::passing),
            _ => false,
        }
    }
}

impl std::fmt::Debug for File {
    /// Not its contents: they may be secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes, mode {:o}", self.data.len(), self.mode)
    }
}

/// Whether a volume is one of files that are made from objects.
#[must_use]
pub fn has_payload(volume: &Volume) -> bool {
    volume.config_map.is_some()
        || volume.secret.is_some()
        || volume.downward_api.is_some()
        || volume.projected.is_some()
}

/// The tokens that a pod's volumes have.
#[must_use]
pub fn tokens(pod: &Pod) -> Vec<TokenRequest> {
    let volumes = pod::spec(pod).volumes.iter().flatten();
    let sources = volumes.flat_map(|v| v.projected.iter()).flat_map(|p| p.sources.iter().flatten());
    let mut all: Vec<TokenRequest> = sources.filter_map(token).collect();
    all.sort();
    all.dedup();
    all
}

fn token(source: &VolumeProjection) -> Option<TokenRequest> {
    let own = source.service_account_token.as_ref()?;
    Some(TokenRequest {
        audience: own.audience.clone().unwrap_or_default(),
        seconds: own.expiration_seconds.unwrap_or(TOKEN_SECONDS),
    })
}

/// The files of a volume for which [`has_payload`] holds.
///
/// # Errors
/// Something that has to be there is not, or is not known.
pub fn payload(facts: &Facts<'_>, sources: Sources<'_>, volume: &Volume) -> Result<Payload, PayloadProblem> {
    let optional = |optional: Option<bool>| optional == Some(true);
    if let Some(own) = &volume.config_map {
        let mode = (own.default_mode, own.default_user);
        let wanted = Wanted { kind: Kind::ConfigMap, name: &own.name, optional: optional(own.optional) };
        return of_object(sources.objects, wanted, own.items.as_deref(), mode);
    }
    if let Some(own) = &volume.secret {
        let mode = (own.default_mode, own.default_user);
        let name = own.secret_name.as_deref().unwrap_or_default();
        let wanted = Wanted { kind: Kind::Secret, name, optional: optional(own.optional) };
        return of_object(sources.objects, wanted, own.items.as_deref(), mode);
    }
    if let Some(own) = &volume.downward_api {
        return downward(facts, own.items.as_deref(), (own.default_mode, None));
    }
    match &volume.projected {
        Some(own) => projected(facts, sources, own),
        None => Ok(Payload::new()),
    }
}

/// All sources of a volume in their order, later ones over earlier ones.
fn projected(
    facts: &Facts<'_>,
    sources: Sources<'_>,
    own: &ProjectedVolumeSource,
) -> Result<Payload, PayloadProblem> {
    let (mut payload, mut problems) = (Payload::new(), Vec::new());
    let mode = (own.default_mode, own.default_user);
    for source in own.sources.iter().flatten() {
        match of_source(facts, sources, source, mode) {
            Ok(files) => payload.extend(files),
            Err(problem) => problems.push(problem),
        }
    }
    match problems.len() {
        0 => Ok(payload),
        1 => Err(problems.remove(0)),
        _ => Err(PayloadProblem::Several(problems)),
    }
}

/// Mode and owner of files that say nothing of their own.
type Defaults = (Option<i32>, Option<i64>);

fn of_source(
    facts: &Facts<'_>,
    sources: Sources<'_>,
    source: &VolumeProjection,
    mode: Defaults,
) -> Result<Payload, PayloadProblem> {
    if let Some(own) = &source.config_map {
        let optional = own.optional == Some(true);
        let wanted = Wanted { kind: Kind::ConfigMap, name: &own.name, optional };
        return of_object(sources.objects, wanted, own.items.as_deref(), mode);
    }
    if let Some(own) = &source.secret {
        let wanted = Wanted { kind: Kind::Secret, name: &own.name, optional: own.optional == Some(true) };
        return of_object(sources.objects, wanted, own.items.as_deref(), mode);
    }
    if let Some(own) = &source.downward_api {
        return downward(facts, own.items.as_deref(), mode);
    }
    let Some((own, request)) = source.service_account_token.as_ref().zip(token(source)) else {
        let kind =
            if source.cluster_trust_bundle.is_some() { "clusterTrustBundle" } else { "podCertificate" };
        return Err(PayloadProblem::Kind(kind));
    };
    let data = match sources.tokens.get(&request) {
        Some(Ok(token)) => token.clone().into_bytes(),
        Some(Err(why)) => return Err(PayloadProblem::Token(why.clone())),
        None => return Err(PayloadProblem::Token("no service account token was asked for".into())),
    };
    // A token is for the containers' user or group alone, where the pod names one.
    let user = own.user.or(mode.1).or(pod::common_user(facts.pod));
    let private = user.is_some() || pod::fs_group(facts.pod).is_some();
    let mode = if private { 0o600 } else { mode.0.unwrap_or(MODE) };
    Ok(Payload::from([(own.path.clone(), file(data, mode, user))]))
}

fn file(data: Vec<u8>, mode: i32, owner: Option<i64>) -> File {
    let mode = u32::try_from(mode).unwrap_or(0o644) & 0o777;
    File { data, mode, owner: owner.and_then(|user| u32::try_from(user).ok()) }
}

/// An object as a volume names it.
#[derive(Clone, Copy)]
struct Wanted<'a> {
    kind: Kind,
    name: &'a str,
    optional: bool,
}

/// All entries of an object, or those that are listed.
fn of_object(
    objects: &Objects,
    wanted: Wanted<'_>,
    items: Option<&[KeyToPath]>,
    (mode, owner): Defaults,
) -> Result<Payload, PayloadProblem> {
    let Wanted { kind, name, optional } = wanted;
    let data = objects.read(kind, name, optional)?;
    let none = Data::default();
    let data = data.as_deref().unwrap_or(&none);
    let mode = mode.unwrap_or(MODE);
    let Some(items) = items.filter(|items| !items.is_empty()) else {
        return Ok(data.all().map(|(key, value)| (key.clone(), file(value.clone(), mode, owner))).collect());
    };
    let mut payload = Payload::new();
    for item in items {
        match data.bytes(&item.key) {
            Some(value) => {
                let file = file(value.to_vec(), item.mode.unwrap_or(mode), item.user.or(owner));
                payload.insert(item.path.clone(), file);
            }
            None if optional => {}
            None => return Err(PayloadProblem::Key { kind, key: item.key.clone() }),
        }
    }
    Ok(payload)
}

fn downward(
    facts: &Facts<'_>,
    items: Option<&[DownwardAPIVolumeFile]>,
    (mode, owner): Defaults,
) -> Result<Payload, PayloadProblem> {
    let mut payload = Payload::new();
    for item in items.unwrap_or_default() {
        let text = match (&item.field_ref, &item.resource_field_ref) {
            (Some(field), _) => env::field(facts, field)?,
            (None, Some(resource)) => env::resource(facts, &Spec::default(), resource)?,
            (None, None) => String::new(),
        };
        payload.insert(item.path.clone(), file(text.into_bytes(), item.mode.or(mode).unwrap_or(MODE), owner));
    }
    Ok(payload)
}

/// Whether what the downward API tells of a pod may differ between two versions of it.
#[must_use]
pub fn tells_apart(a: &Pod, b: &Pod) -> bool {
    let (of_a, of_b) = (&a.metadata, &b.metadata);
    of_a.labels != of_b.labels
        || of_a.annotations != of_b.annotations
        || pod::all_containers(a).map(|c| &c.resources).ne(pod::all_containers(b).map(|c| &c.resources))
}

#[cfg(test)]
mod tests;
