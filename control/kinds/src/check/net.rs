//! Rules for addresses, ports and the like.

use std::net::IpAddr;

use proto_kube::name;
use serde_json::Value;

use super::Field;

/// What a port says that is out of range.
pub const PORT: &str = "must be between 1 and 65535, inclusive";

/// Rule: an IP address, written canonically.
pub fn ip(at: &Field<'_>) {
    match at.text().parse::<IpAddr>() {
        Err(_) => at.invalid("must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"),
        Ok(IpAddr::V6(address)) if address.to_ipv4_mapped().is_some() => {
            at.invalid("must not be an IPv4-mapped IPv6 address");
        }
        Ok(_) => {}
    }
}

/// Rule: an address block, as `10.0.0.0/8`.
pub fn cidr(at: &Field<'_>, text: &str) {
    if block(text).is_none() {
        at.invalid_value(text, "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)");
    }
}

/// An address block; the address may have bits beyond the prefix.
#[must_use]
pub fn block(text: &str) -> Option<ipnet::IpNet> {
    text.parse().ok()
}

/// Rule: the number of a port.
pub fn port_number(at: &Field<'_>) {
    let number = at.number_or_zero();
    if !(1..=65_535).contains(&number) {
        at.invalid_value(number, PORT);
    }
}

/// Rule: the number or the name of a port.
pub fn port(at: &Field<'_>) {
    match at.value {
        Value::String(text) => at.all_invalid(name::port(text)),
        _ => port_number(at),
    }
}

/// Rule: an address that traffic for a service may have: not of this machine, its link, or a group.
pub fn not_special(at: &Field<'_>) {
    let Ok(address) = at.text().parse::<IpAddr>() else {
        return at.invalid("must be a valid IP address");
    };
    let link_local = match address {
        IpAddr::V4(a) => a.is_link_local(),
        IpAddr::V6(a) => a.is_unicast_link_local(),
    };
    let link_local_group = match address {
        IpAddr::V4(a) => a.octets()[..3] == [224, 0, 0],
        IpAddr::V6(a) => a.segments()[0] & 0xff0f == 0xff02,
    };
    for (broken, detail) in [
        (address.is_unspecified(), format!("may not be unspecified ({})", at.text())),
        (address.is_loopback(), "may not be in the loopback range (127.0.0.0/8, ::1/128)".to_owned()),
        (link_local, "may not be in the link-local range (169.254.0.0/16, fe80::/10)".to_owned()),
        (
            link_local_group,
            "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)".to_owned(),
        ),
    ] {
        if broken {
            at.invalid(detail);
        }
    }
}

/// A subdomain whose labels may have underscores, as a search path of DNS may.
#[must_use]
pub fn subdomain_with_underscore(text: &str) -> Vec<String> {
    let edge = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
    let part = |part: &str| {
        let bytes = part.as_bytes();
        // One underscore may precede what is otherwise a label with underscores inside.
        let bytes = bytes.strip_prefix(b"_").unwrap_or(bytes);
        let plain = |b: Option<&u8>| b.is_some_and(|b| edge(*b) && *b != b'_');
        plain(bytes.first()) && plain(bytes.last()) && bytes.iter().all(|b| edge(*b) || *b == b'-')
    };
    let mut faults = Vec::new();
    if text.len() > 253 {
        faults.push("must be no more than 253 characters".to_owned());
    }
    if text.is_empty() || !text.split('.').all(part) {
        faults.push(
            "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '_', '-' or '.', and \
             must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is \
             '_?[a-z0-9]([-_a-z0-9]*[a-z0-9])?(\\._?[a-z0-9]([-_a-z0-9]*[a-z0-9])?)*')"
                .to_owned(),
        );
    }
    faults
}

/// The name of a variable of a container: printable ASCII without `=`.
#[must_use]
pub fn variable(text: &str) -> Vec<String> {
    let right = !text.is_empty() && text.bytes().all(|b| (b' '..=b'~').contains(&b) && b != b'=');
    if right {
        Vec::new()
    } else {
        vec![
            "a valid environment variable name must consist only of printable ASCII characters other than '='".to_owned(),
        ]
    }
}

/// The name of a header of HTTP.
#[must_use]
pub fn header(text: &str) -> Vec<String> {
    let right = !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    if right {
        Vec::new()
    } else {
        vec![
            "a valid HTTP header must consist of alphanumeric characters or '-' (e.g. 'X-Header-Name', regex used for \
             validation is '[-A-Za-z0-9]+')"
                .to_owned(),
        ]
    }
}

/// Rule: a path below the one it is joined to: relative, without `..`.
pub fn descending(at: &Field<'_>) {
    if at.text().starts_with('/') {
        at.invalid("must be a relative path");
    }
    no_backsteps(at);
}

/// Rule: a path without `..`.
pub fn no_backsteps(at: &Field<'_>) {
    if at.text().split('/').any(|part| part == "..") {
        at.invalid("must not contain '..'");
    }
}

/// Rule: a path below the one it is joined to, whose name the kubelet does not use itself.
pub fn local(at: &Field<'_>) {
    descending(at);
    if at.text().starts_with("..") && !at.text().starts_with("../") && at.text() != ".." {
        at.invalid("must not start with '..'");
    }
}
