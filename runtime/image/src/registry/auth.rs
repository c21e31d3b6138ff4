//! What a registry asks for when it refuses: the `WWW-Authenticate` header.

/// A demand for credentials (RFC 9110, 11.6.1; distribution: token authentication).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Challenge {
    Basic,
    Bearer { realm: String, service: Option<String>, scope: Option<String> },
}

/// The challenges of one header that this client can answer, in their order.
pub(super) fn challenges(header: &str) -> Vec<Challenge> {
    let mut found = Vec::new();
    for (scheme, parameters) in parse(header) {
        let get = |name: &str| parameters.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone());
        match (scheme.as_str(), get("realm")) {
            ("basic", _) => found.push(Challenge::Basic),
            ("bearer", Some(realm)) => {
                found.push(Challenge::Bearer { realm, service: get("service"), scope: get("scope") });
            }
            _ => {}
        }
    }
    found
}

type Parameters = Vec<(String, String)>;

/// Schemes (in lower case) with their parameters. A word followed by `=` is a parameter, any other a scheme.
fn parse(header: &str) -> Vec<(String, Parameters)> {
    let mut schemes: Vec<(String, Parameters)> = Vec::new();
    let mut rest = header;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let end = rest.find([' ', '\t', ',', '=']).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        if word.is_empty() && after.is_empty() {
            return schemes;
        }
        let Some(value) = after.trim_start().strip_prefix('=').map(str::trim_start) else {
            schemes.push((word.to_lowercase(), Vec::new()));
            rest = after;
            continue;
        };
        let (value, after) = match value.strip_prefix('"') {
            Some(quoted) => unquote(quoted),
            None => {
                let (value, after) = value.split_at(value.find([' ', '\t', ',']).unwrap_or(value.len()));
                (value.to_owned(), after)
            }
        };
        if let Some((_, parameters)) = schemes.last_mut() {
            parameters.push((word.to_lowercase(), value));
        }
        rest = after;
    }
}

/// The text up to the closing quote, and what follows it.
fn unquote(quoted: &str) -> (String, &str) {
    let mut text = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return (text, &quoted[at + 1..]),
            '\\' => text.extend(characters.next().map(|(_, escaped)| escaped)),
            other => text.push(other),
        }
    }
    (text, "")
}

/// Escapes a query value.
pub(super) fn percent_encode(value: &str) -> String {
    let mut encoded = String::new();
    for &byte in value.as_bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                encoded.push(char::from(byte))
            }
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bearer(realm: &str, service: Option<&str>, scope: Option<&str>) -> Challenge {
        Challenge::Bearer {
            realm: realm.to_owned(),
            service: service.map(str::to_owned),
            scope: scope.map(str::to_owned),
        }
    }

    #[test]
    fn challenges_of_real_registries() {
        let hub = r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull,push""#;
        let expected = bearer(
            "https://auth.docker.io/token",
            Some("registry.docker.io"),
            Some("repository:a/b:pull,push"),
        );
        assert_eq!(challenges(hub), [expected]);
        assert_eq!(challenges(r#"Basic realm="Registry Realm""#), [Challenge::Basic]);
        assert_eq!(
            challenges("bearer Realm=https://x/t , service = s"),
            [bearer("https://x/t", Some("s"), None)]
        );
        let both = r#"Negotiate, Basic realm="a, b=\"c\"", Bearer realm="https://t",error="invalid_token""#;
        assert_eq!(challenges(both), [Challenge::Basic, bearer("https://t", None, None)]);
        for nothing in ["", "Bearer", "Digest realm=x", "=", "\"", "Bearer service=x"] {
            assert_eq!(challenges(nothing), [], "{nothing:?}");
        }
    }

    #[test]
    fn query_values_are_escaped() {
        assert_eq!(percent_encode("repository:a/b:pull&x=ä"), "repository%3Aa%2Fb%3Apull%26x%3D%C3%A4");
    }

    proptest! {
        #[test]
        fn any_header_is_survived(header in "\\PC{0,80}|[a-zA-Z=,\" \\\\]{0,40}") {
            challenges(&header);
        }
    }
}
