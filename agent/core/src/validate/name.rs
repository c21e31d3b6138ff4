//! Names: RFC 1123 labels and subdomains, qualified names, label values, port names.

use super::Findings;

const LABEL: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name', or '123-abc')";
const SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com')";
const QUALIFIED: &str = "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName', or 'my.name', or '123-abc')";
const LABEL_VALUE: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue', or 'my_value', or '12345')";
const PORT: &str = "must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-), at least one letter, no '--', and must not begin or end with a hyphen";

fn lower(c: char) -> bool {
    c.is_ascii_lowercase() || c.is_ascii_digit()
}

/// Begins and ends with `edge`, with `edge` or one of `inner` between.
fn shaped(text: &str, edge: fn(char) -> bool, inner: &str) -> bool {
    text.starts_with(edge) && text.ends_with(edge) && text.chars().all(|c| edge(c) || inner.contains(c))
}

fn is_label(text: &str) -> bool {
    shaped(text, lower, "-")
}

fn is_subdomain(text: &str) -> bool {
    text.split('.').all(is_label)
}

fn length(findings: &mut Findings, field: &str, text: &str, most: usize) {
    if text.len() > most {
        findings.text(field, text, format!("must be no more than {most} bytes"));
    }
}

pub(super) fn label(findings: &mut Findings, field: &str, text: &str) {
    length(findings, field, text, 63);
    if !is_label(text) {
        findings.text(field, text, LABEL);
    }
}

pub(super) fn subdomain(findings: &mut Findings, field: &str, text: &str) {
    length(findings, field, text, 253);
    if !is_subdomain(text) {
        findings.text(field, text, SUBDOMAIN);
    }
}

/// A key of labels or annotations: `name` or `prefix/name`.
pub(super) fn qualified(findings: &mut Findings, field: &str, text: &str) {
    let (prefix, name) = text.split_once('/').map_or((None, text), |(prefix, name)| (Some(prefix), name));
    if let Some(prefix) = prefix.filter(|p| !is_subdomain(p)) {
        findings.text(field, prefix, format!("prefix part {SUBDOMAIN}"));
    }
    length(findings, field, name, 63);
    if !shaped(name, |c| c.is_ascii_alphanumeric(), "-_.") {
        findings.text(field, name, QUALIFIED);
    }
}

pub(super) fn label_value(findings: &mut Findings, field: &str, text: &str) {
    length(findings, field, text, 63);
    if !text.is_empty() && !shaped(text, |c| c.is_ascii_alphanumeric(), "-_.") {
        findings.text(field, text, LABEL_VALUE);
    }
}

/// A port's name: an IANA service name.
pub(super) fn port(findings: &mut Findings, field: &str, text: &str) {
    length(findings, field, text, 15);
    let letter = text.chars().any(|c| c.is_ascii_lowercase());
    if !letter || !is_label(text) || text.contains("--") {
        findings.text(field, text, PORT);
    }
}
