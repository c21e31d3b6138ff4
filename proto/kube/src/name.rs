//! What names, labels and keys may look like. Each function returns what is wrong, in upstream's words; nothing when
//! the text is right (`k8s.io/apimachinery/pkg/util/validation`).

fn is_lower(b: u8) -> bool {
    b.is_ascii_lowercase() || b.is_ascii_digit()
}

fn shaped(text: &str, edge: fn(u8) -> bool, inner: &[u8]) -> bool {
    let bytes = text.as_bytes();
    match (bytes.first(), bytes.last()) {
        (Some(first), Some(last)) => {
            edge(*first) && edge(*last) && bytes.iter().all(|b| edge(*b) || inner.contains(b))
        }
        _ => false,
    }
}

/// Bytes are counted, whatever the text calls them.
fn most(text: &str, bytes: usize, unit: &str) -> Option<String> {
    (text.len() > bytes).then(|| format!("must be no more than {bytes} {unit}"))
}

fn found(faults: impl IntoIterator<Item = Option<String>>) -> Vec<String> {
    faults.into_iter().flatten().collect()
}

const LABEL: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
const SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const LABEL_1035: &str = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')";
const QUALIFIED: &str = "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
const VALUE: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";
const KEY: &str = "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')";

/// A label of RFC 1123, as a namespace's name.
#[must_use]
pub fn label(text: &str) -> Vec<String> {
    let fault = match shaped(text, is_lower, b"-") {
        true => None,
        false if is_subdomain(text) => Some("must not contain dots".to_owned()),
        false => Some(LABEL.to_owned()),
    };
    found([most(text, 63, "characters"), fault])
}

/// A label of RFC 1035, as a service's name.
#[must_use]
pub fn label_1035(text: &str) -> Vec<String> {
    let right = shaped(text, is_lower, b"-") && text.starts_with(|c: char| c.is_ascii_lowercase());
    found([most(text, 63, "characters"), (!right).then(|| LABEL_1035.to_owned())])
}

/// A subdomain of RFC 1123, as a pod's name.
#[must_use]
pub fn subdomain(text: &str) -> Vec<String> {
    found([most(text, 253, "characters"), (!is_subdomain(text)).then(|| SUBDOMAIN.to_owned())])
}

fn is_subdomain(text: &str) -> bool {
    !text.is_empty() && text.split('.').all(|part| shaped(part, is_lower, b"-"))
}

/// A qualified name, as a label's key: `app`, `example.com/app`.
#[must_use]
pub fn qualified(text: &str) -> Vec<String> {
    let (prefix, name) = match text.split('/').collect::<Vec<_>>().as_slice() {
        [name] => (None, *name),
        [prefix, name] => (Some(*prefix), *name),
        _ => {
            return vec![format!(
                "a valid label key {} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')",
                QUALIFIED.trim_start_matches("name part ")
            )];
        }
    };
    let mut faults = Vec::new();
    match prefix {
        Some("") => faults.push("prefix part must be non-empty".to_owned()),
        Some(prefix) => faults.extend(subdomain(prefix).into_iter().map(|f| format!("prefix part {f}"))),
        None => {}
    }
    if name.is_empty() {
        faults.push("name part must be non-empty".to_owned());
    } else {
        faults.extend(most(name, 63, "bytes").map(|f| format!("name part {f}")));
    }
    faults.extend((!shaped(name, |b| b.is_ascii_alphanumeric(), b"-_.")).then(|| QUALIFIED.to_owned()));
    faults
}

/// A label's value.
#[must_use]
pub fn label_value(text: &str) -> Vec<String> {
    let right = text.is_empty() || shaped(text, |b| b.is_ascii_alphanumeric(), b"-_.");
    found([most(text, 63, "bytes"), (!right).then(|| VALUE.to_owned())])
}

/// A key of a config map or secret.
#[must_use]
pub fn config_key(text: &str) -> Vec<String> {
    let right = !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
    let dots = match text {
        "." | ".." => Some(format!("must not be '{text}'")),
        _ if text.starts_with("..") => Some("must not start with '..'".to_owned()),
        _ => None,
    };
    found([most(text, 253, "characters"), (!right).then(|| KEY.to_owned()), dots])
}

/// A name that is a segment of a path, as a role's.
#[must_use]
pub fn path_segment(text: &str) -> Vec<String> {
    match text {
        "." | ".." => vec![format!("may not be '{text}'")],
        _ => ["/", "%"]
            .into_iter()
            .filter(|c| text.contains(c))
            .map(|c| format!("may not contain '{c}'"))
            .collect(),
    }
}

/// The name of a container's port.
#[must_use]
pub fn port(text: &str) -> Vec<String> {
    let rule = |broken: bool, text: &str| broken.then(|| text.to_owned());
    found([
        rule(text.len() > 15, "must be no more than 15 characters"),
        rule(
            !text.bytes().all(|b| is_lower(b) || b == b'-'),
            "must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)",
        ),
        rule(!text.bytes().any(|b| b.is_ascii_lowercase()), "must contain at least one letter (a-z)"),
        rule(text.contains("--"), "must not contain consecutive hyphens"),
        rule(text.starts_with('-') || text.ends_with('-'), "must not begin or end with a hyphen"),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let is = |check: fn(&str) -> Vec<String>, good: &[&str], bad: &[&str]| {
            for text in good {
                assert_eq!(check(text), Vec::<String>::new(), "{text}");
            }
            for text in bad {
                assert!(!check(text).is_empty(), "{text}");
            }
        };
        let long = "a".repeat(64);
        is(label, &["a", "a-1", "1a"], &["", "-a", "a-", "A", "a.b", &long]);
        is(label_1035, &["a1", "a-1"], &["1a", "", "a-"]);
        is(subdomain, &["a.b", "a"], &["a..b", "", ".a", "a_b"]);
        is(qualified, &["a", "A.b_c", "x.io/a"], &["", "/a", "x/", "a/b/c", "X.io/a", "a b", &long]);
        is(label_value, &["", "a", "A_b.c"], &["-a", "a b", &long]);
        is(config_key, &["a", "KEY", "a.b", ".a"], &["", ".", "..", "..a", "a/b"]);
        is(path_segment, &["a:b", "X"], &[".", "..", "a/b", "a%b"]);
        is(port, &["http", "a1"], &["", "1", "-a", "a--b", "abcdefghijklmnop"]);
    }
}
