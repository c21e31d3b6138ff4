//! The subject of a certificate request: as much of DER as that takes.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// Who a certificate is asked for.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Subject {
    pub(crate) common_name: String,
    pub(crate) organizations: Vec<String>,
}

pub(crate) const SEQUENCE: u8 = 0x30;
pub(crate) const SET: u8 = 0x31;
pub(crate) const INTEGER: u8 = 0x02;
pub(crate) const OID: u8 = 0x06;
pub(crate) const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];
pub(crate) const ORGANIZATION: &[u8] = &[0x55, 0x04, 0x0a];

/// Reads `spec.request`: base64 of PEM of a PKCS#10 request. `None` when it is none.
pub(crate) fn subject(request: &str) -> Option<Subject> {
    let pem = String::from_utf8(STANDARD.decode(request).ok()?).ok()?;
    let (_, rest) = pem.split_once("-----BEGIN CERTIFICATE REQUEST-----")?;
    let (body, _) = rest.split_once("-----END CERTIFICATE REQUEST-----")?;
    let body: String = body.split_whitespace().collect();
    let der = STANDARD.decode(body).ok()?;
    let (request, _) = part(&der, SEQUENCE)?;
    let (info, _) = part(request, SEQUENCE)?;
    let (_version, rest) = part(info, INTEGER)?;
    let (mut name, _) = part(rest, SEQUENCE)?;
    let mut subject = Subject::default();
    while !name.is_empty() {
        let (mut set, rest) = part(name, SET)?;
        name = rest;
        while !set.is_empty() {
            let (pair, rest) = part(set, SEQUENCE)?;
            set = rest;
            let (key, value) = part(pair, OID)?;
            let (_tag, value, _) = any(value)?;
            let value = || String::from_utf8(value.to_vec()).ok();
            match key {
                COMMON_NAME => subject.common_name = value()?,
                ORGANIZATION => subject.organizations.push(value()?),
                _ => {}
            }
        }
    }
    Some(subject)
}

/// The content of the first value, which must have this tag, and what follows it.
fn part(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    any(der).filter(|(found, ..)| *found == tag).map(|(_, content, rest)| (content, rest))
}

/// Tag and content of the first value, and what follows it.
fn any(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = der.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        // More than four bytes of length are no request.
        0x81..=0x84 => {
            let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::{request, value};

    #[test]
    fn the_subject_is_read() {
        let expected =
            Subject { common_name: "jane".to_owned(), organizations: vec!["a".to_owned(), "b".to_owned()] };
        assert_eq!(subject(&request("jane", &["a", "b"])), Some(expected));
        assert_eq!(subject(""), None);
        assert_eq!(subject("AAAA"), None);
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(at in 0..80_usize, byte: u8) {
            let mut der = value(SEQUENCE, &value(SEQUENCE, &[value(INTEGER, &[0]), value(SEQUENCE, &[7; 40])].concat()));
            let at = at % der.len();
            der[at] = byte;
            let body = STANDARD.encode(der);
            let _ = subject(&STANDARD.encode(format!("-----BEGIN CERTIFICATE REQUEST-----{body}-----END CERTIFICATE REQUEST-----")));
        }
    }
}
