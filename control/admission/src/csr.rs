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

const BEGIN: &str = "-----BEGIN CERTIFICATE REQUEST-----";
const END: &str = "-----END CERTIFICATE REQUEST-----";
/// The kinds of text that the signer reads: UTF8String, NumericString, PrintableString, IA5String.
const TEXTS: [u8; 4] = [0x0c, 0x12, 0x13, 0x16];

/// Reads `spec.request`: base64 of PEM of a PKCS#10 request. `None` when it is none, and when another reader could find
/// another subject in it.
pub(crate) fn subject(request: &str) -> Option<Subject> {
    let pem = String::from_utf8(STANDARD.decode(request).ok()?).ok()?;
    let der = sole(&pem)?;
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
            let (tag, value, _) = any(value)?;
            let value = || TEXTS.contains(&tag).then(|| String::from_utf8(value.to_vec()).ok())?;
            match key {
                COMMON_NAME => subject.common_name = value()?,
                ORGANIZATION => subject.organizations.push(value()?),
                _ => {}
            }
        }
    }
    Some(subject)
}

/// What a text holds that is one request and nothing else.
fn sole(pem: &str) -> Option<Vec<u8>> {
    let body = pem.trim_ascii().strip_prefix(BEGIN)?.strip_suffix(END)?;
    let line_ends = ['\r', '\n'];
    if !body.starts_with(line_ends) || !body.ends_with(line_ends) {
        return None;
    }
    STANDARD.decode(body.split_ascii_whitespace().collect::<String>()).ok()
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
    use crate::tests::{pem_request, request, value};

    #[test]
    fn the_subject_is_read() {
        let expected =
            Subject { common_name: "jane".to_owned(), organizations: vec!["a".to_owned(), "b".to_owned()] };
        assert_eq!(subject(&request("jane", &["a", "b"])), Some(expected));
        assert_eq!(subject(""), None);
        assert_eq!(subject("AAAA"), None);
    }

    #[test]
    fn a_request_hides_no_other() {
        let of = |text: &str| subject(&STANDARD.encode(text));
        let (good, bad) = (pem_request("jane", &["dev"]), pem_request("jane", &["system:masters"]));
        for text in [good.clone(), good.trim().to_owned(), format!("\n{good}\n"), good.replace('\n', "\r\n")]
        {
            assert_eq!(of(&text).unwrap().organizations, ["dev"], "{text:?}");
        }
        for text in [
            format!("#{good}{bad}"),
            format!("{good}{bad}"),
            format!("x\n{good}"),
            format!("{good}x"),
            good.replace(BEGIN, &format!("{BEGIN}\n{BEGIN}")),
            good.replace(&format!("{BEGIN}\n"), BEGIN),
            good.replace(&format!("\n{END}"), END),
        ] {
            assert_eq!(of(&text), None, "{text:?}");
        }
    }

    #[test]
    fn a_text_of_another_kind_is_not_guessed() {
        let of = |organization: Vec<u8>| {
            let pair = value(SEQUENCE, &[value(OID, ORGANIZATION), organization].concat());
            let info = [value(INTEGER, &[0]), value(SEQUENCE, &value(SET, &pair))].concat();
            let body = STANDARD.encode(value(SEQUENCE, &value(SEQUENCE, &info)));
            subject(&STANDARD.encode(format!("{BEGIN}\n{body}\n{END}")))
        };
        for tag in TEXTS {
            assert_eq!(of(value(tag, b"dev")).unwrap().organizations, ["dev"]);
        }
        // The tag 12 in the long form: what reads one byte of it takes the other for the length.
        let long = [&[0x1f, 0x0c, 14][..], b"system:masters"].concat();
        assert_eq!(of(long), None);
        // T61String and BMPString.
        for tag in [0x14, 0x1e] {
            assert_eq!(of(value(tag, b"system:masters")), None);
        }
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(at in 0..80_usize, byte: u8) {
            let mut der = value(SEQUENCE, &value(SEQUENCE, &[value(INTEGER, &[0]), value(SEQUENCE, &[7; 40])].concat()));
            let at = at % der.len();
            der[at] = byte;
            let body = STANDARD.encode(der);
            let _ = subject(&STANDARD.encode(format!("{BEGIN}\n{body}\n{END}")));
        }
    }
}
