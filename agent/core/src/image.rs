//! Image names and pull policies.

/// When an image is pulled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PullPolicy {
    /// Before each start of a container.
    Always,
    /// When it is not on the node.
    IfNotPresent,
    /// Never: it must be on the node.
    Never,
}

impl PullPolicy {
    /// The policy of a container: what it says, or else `Always` for the tag `latest` and no tag, `IfNotPresent` for
    /// every other tag and for digests.
    #[must_use]
    pub fn of(policy: Option<&str>, image: &str) -> Self {
        match policy {
            Some("Always") => Self::Always,
            Some("Never") => Self::Never,
            Some(_) => Self::IfNotPresent,
            None if image.contains('@') => Self::IfNotPresent,
            None => match tag(image) {
                None | Some("latest") => Self::Always,
                Some(_) => Self::IfNotPresent,
            },
        }
    }

    /// As the API writes it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Always => "Always",
            Self::IfNotPresent => "IfNotPresent",
            Self::Never => "Never",
        }
    }
}

/// The tag of an image name without digest.
fn tag(image: &str) -> Option<&str> {
    let last = image.rsplit('/').next().unwrap_or(image);
    last.split_once(':').map(|(_, tag)| tag)
}

/// Says what is wrong with an image name (distribution-spec grammar), if anything is.
///
/// # Errors
/// What is wrong, for people.
pub fn check(image: &str) -> Result<(), String> {
    let (name, digest) = match image.split_once('@') {
        Some((name, digest)) => (name, Some(digest)),
        None => (image, None),
    };
    if let Some(digest) = digest {
        check_digest(digest)?;
    }
    let (repository, tag) = match tag(name) {
        Some(tag) => (&name[..name.len() - tag.len() - 1], Some(tag)),
        None => (name, None),
    };
    if let Some(tag) = tag {
        let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let rest = |c: char| word(c) || c == '.' || c == '-';
        if tag.is_empty() || tag.len() > 128 || !tag.starts_with(word) || !tag.chars().all(rest) {
            return Err(format!(
                "tag {tag:?} is not 1 to 128 letters, digits, '_', '.' and '-' that begin with neither '.' nor '-'"
            ));
        }
    }
    let mut parts: Vec<&str> = repository.split('/').collect();
    if parts.len() > 1 && is_host(parts[0]) {
        parts.remove(0);
    }
    match parts.into_iter().find(|part| !is_component(part)) {
        None => Ok(()),
        Some(part) if part.chars().any(|c| c.is_ascii_uppercase()) => {
            Err(format!("repository name {repository:?} must be lower case"))
        }
        Some(part) => Err(format!(
            "{part:?} in repository name {repository:?} is not lower case letters and digits, joined by '.', '_', '__' or '-'"
        )),
    }
}

fn check_digest(digest: &str) -> Result<(), String> {
    let hex = |s: &str, n| s.len() == n && s.chars().all(|c| c.is_ascii_digit() || ('a'..='f').contains(&c));
    match digest.split_once(':') {
        Some(("sha256", rest)) if hex(rest, 64) => Ok(()),
        Some(("sha512", rest)) if hex(rest, 128) => Ok(()),
        _ => Err(format!(
            "digest {digest:?} is not sha256: and 64, or sha512: and 128 lower-case hexadecimal digits"
        )),
    }
}

fn is_host(part: &str) -> bool {
    part == "localhost" || part.contains(['.', ':']) || part.chars().any(|c| c.is_ascii_uppercase())
}

fn is_component(part: &str) -> bool {
    let alphanumeric = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let mut separators = String::new();
    let (Some(first), Some(last)) = (part.chars().next(), part.chars().last()) else { return false };
    if !alphanumeric(first) || !alphanumeric(last) {
        return false;
    }
    part.chars().all(|c| {
        if alphanumeric(c) {
            separators.clear();
            return true;
        }
        separators.push(c);
        matches!(separators.as_str(), "." | "_" | "__") || separators.chars().all(|c| c == '-')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_follow_the_tag() {
        for (image, policy) in [
            ("nginx", PullPolicy::Always),
            ("nginx:latest", PullPolicy::Always),
            ("localhost:5000/nginx", PullPolicy::Always),
            ("nginx:1", PullPolicy::IfNotPresent),
            ("localhost:5000/nginx:1", PullPolicy::IfNotPresent),
            ("nginx@sha256:0", PullPolicy::IfNotPresent),
        ] {
            assert_eq!(PullPolicy::of(None, image), policy, "{image}");
        }
        assert_eq!(PullPolicy::of(Some("Never"), "nginx"), PullPolicy::Never);
    }

    #[test]
    fn names_are_checked() {
        let digest = format!("a/b@sha256:{}", "0".repeat(64));
        for good in
            ["nginx", "a/b/c:1.0_x-y", "localhost:5000/x", "r.io/a__b/c--d:v", "Registry/x:1", &digest]
        {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        for bad in
            ["", "Nginx", "a//b", "a:", "a:-x", "a_-b/", "-a", "a@sha256:1", "a@md5:00", "x y", "a___b", "/a"]
        {
            assert!(check(bad).is_err(), "{bad}");
        }
    }
}
