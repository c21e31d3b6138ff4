//! The credentials that a pod brings for registries. Pure.

use agent_core::data::Data;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use proto_cri::AuthConfig;
use proto_kube::object;
use serde_json::Value;

/// What images without a registry's name come from.
const DEFAULT: &str = "docker.io";
/// Other names of it.
const DEFAULT_NAMES: [&str; 2] = ["index.docker.io", "registry-1.docker.io"];

/// The credentials that fit an image, the closest first.
pub(crate) fn fitting<'a>(secrets: impl Iterator<Item = &'a Data>, image: &str) -> Vec<AuthConfig> {
    let image = Place::of_image(image);
    let mut found: Vec<(Place, AuthConfig)> = secrets.flat_map(entries).collect();
    found.retain(|(place, _)| place.covers(&image));
    found.sort_by_key(|(place, _)| std::cmp::Reverse(place.path.len()));
    found.into_iter().map(|(_, auth)| auth).collect()
}

/// A registry, or a part of it.
#[derive(Debug, PartialEq, Eq)]
struct Place {
    host: String,
    path: String,
}

impl Place {
    fn of_image(image: &str) -> Self {
        let name = image.split('@').next().unwrap_or_default();
        match name.split_once('/') {
            Some((host, path)) if host.contains(['.', ':']) || host == "localhost" => Self::new(host, path),
            _ => Self::new(DEFAULT, name),
        }
    }

    /// Of a key of a list of credentials, which may be a URL: `https://index.docker.io/v1/`.
    fn of_key(key: &str) -> Self {
        let bare = key.trim_start_matches("https://").trim_start_matches("http://");
        let (host, path) = bare.split_once('/').unwrap_or((bare, ""));
        let path = path.trim_end_matches('/');
        Self::new(host, if matches!(path, "v1" | "v2") { "" } else { path })
    }

    fn new(host: &str, path: &str) -> Self {
        let host = if DEFAULT_NAMES.contains(&host) { DEFAULT } else { host };
        Self { host: host.to_owned(), path: path.to_owned() }
    }

    /// Whether an image lies here; a `*` in the host stands for a part of one label.
    fn covers(&self, image: &Self) -> bool {
        let below = image.path.strip_prefix(&self.path);
        let path =
            below.is_some_and(|rest| rest.is_empty() || self.path.is_empty() || rest.starts_with(['/', ':']));
        let (own, theirs): (Vec<_>, Vec<_>) =
            (self.host.split('.').collect(), image.host.split('.').collect());
        path && own.len() == theirs.len() && own.iter().zip(theirs).all(|(own, theirs)| like(own, theirs))
    }
}

/// Whether a label is like a pattern with `*`.
fn like(pattern: &str, label: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == label,
        Some((head, tail)) => label.strip_prefix(head).is_some_and(|rest| {
            (0..=rest.len()).filter(|at| rest.is_char_boundary(*at)).any(|at| like(tail, &rest[at..]))
        }),
    }
}

/// All credentials of a secret, in either of the forms that it may have.
fn entries(secret: &Data) -> Vec<(Place, AuthConfig)> {
    let parse =
        |key: &str| secret.data.get(key).and_then(|bytes| serde_json::from_slice::<Value>(bytes).ok());
    let list = match secret.kind.as_str() {
        "kubernetes.io/dockercfg" => parse(".dockercfg"),
        _ => parse(".dockerconfigjson")
            .map(|mut config| config["auths"].take())
            .or_else(|| parse(".dockercfg")),
    };
    let list = list.as_ref().and_then(Value::as_object).into_iter().flatten();
    list.filter_map(|(key, entry)| Some((Place::of_key(key), auth(key, entry)?))).collect()
}

fn auth(server: &str, entry: &Value) -> Option<AuthConfig> {
    let text = |key: &str| object::text(entry, &[key]).to_owned();
    let (mut username, mut password) = (text("username"), text("password"));
    if username.is_empty() && !text("auth").is_empty() {
        let pair = STANDARD.decode(text("auth").trim_end_matches('\0')).ok()?;
        let pair = String::from_utf8(pair).ok()?;
        let (user, word) = pair.trim_end_matches('\0').split_once(':')?;
        (username, password) = (user.to_owned(), word.to_owned());
    }
    Some(AuthConfig {
        username,
        password,
        identity_token: text("identitytoken"),
        registry_token: text("registrytoken"),
        server_address: server.to_owned(),
        ..AuthConfig::default()
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn secret(kind: &str, key: &str, content: &Value) -> Data {
        let data = [(key.to_owned(), content.to_string().into_bytes())].into();
        Data { data, kind: kind.to_owned(), ..Data::default() }
    }

    fn users(auths: &Value, image: &str) -> String {
        let new = secret("kubernetes.io/dockerconfigjson", ".dockerconfigjson", &json!({"auths": auths}));
        let old = secret("kubernetes.io/dockercfg", ".dockercfg", auths);
        let names = |secret: &Data| {
            let all = fitting(std::iter::once(secret), image);
            all.into_iter().map(|a| a.username).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(names(&new), names(&old), "both forms say the same");
        names(&new)
    }

    #[test]
    fn which_fit() {
        let user = |name: &str| json!({"username": name, "password": "x"});
        let auths = json!({
            "https://index.docker.io/v1/": user("hub"),
            "r.io": user("all"),
            "r.io/team": user("team"),
            "*.z.io:5000": user("star"),
        });
        for (image, expected) in [
            ("nginx", "hub"),
            ("library/nginx:1", "hub"),
            ("docker.io/a/b@sha256:0", "hub"),
            ("r.io/x", "all"),
            ("r.io/team/x:1", "team all"),
            ("r.io/teams/x", "all"),
            ("a.z.io:5000/x", "star"),
            ("a.b.z.io:5000/x", ""),
            ("other.io/x", ""),
        ] {
            assert_eq!(users(&auths, image), expected, "{image}");
        }
    }

    #[test]
    fn pairs_are_decoded() {
        let auths = json!({"r.io": {"auth": STANDARD.encode("me:se:cret")}});
        let config = secret("", ".dockerconfigjson", &json!({"auths": auths}));
        let all = fitting(std::iter::once(&config), "r.io/x");
        assert_eq!((all[0].username.as_str(), all[0].password.as_str()), ("me", "se:cret"));
    }
}
