//! Writing DER (X.690), as far as a certificate needs it.

use jiff::Timestamp;
use jiff::tz::TimeZone;

/// Tags of the universal class.
pub(crate) const BOOLEAN: u8 = 0x01;
pub(crate) const INTEGER: u8 = 0x02;
pub(crate) const BITS: u8 = 0x03;
pub(crate) const OCTETS: u8 = 0x04;
pub(crate) const OID: u8 = 0x06;
pub(crate) const UTF8: u8 = 0x0c;
pub(crate) const SEQUENCE: u8 = 0x30;
pub(crate) const SET: u8 = 0x31;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// An element: tag, length, content.
pub(crate) fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut text = vec![tag];
    let length = content.len().to_be_bytes();
    match content.len() {
        0..0x80 => text.push(length[length.len() - 1]),
        _ => {
            let length = &length[length.iter().take_while(|b| **b == 0).count()..];
            text.push(0x80 | u8::try_from(length.len()).unwrap_or(0));
            text.extend_from_slice(length);
        }
    }
    text.extend_from_slice(content);
    text
}

/// Elements one behind the other, in an element of `tag`.
pub(crate) fn join(tag: u8, parts: &[Vec<u8>]) -> Vec<u8> {
    element(tag, &parts.concat())
}

/// An object identifier of at least two arcs.
pub(crate) fn oid(arcs: &[u64]) -> Vec<u8> {
    let mut content = Vec::new();
    let first = arcs[0] * 40 + arcs[1];
    for arc in std::iter::once(&first).chain(&arcs[2..]) {
        let groups = (0..10).rev().map(|i| (arc >> (7 * i)) & 0x7f).skip_while(|g| *g == 0);
        let groups = groups.map(|g| u8::try_from(g).unwrap_or(0) | 0x80).collect::<Vec<_>>();
        let (last, head) = groups.split_last().unwrap_or((&0x80, &[]));
        content.extend_from_slice(head);
        content.push(last & 0x7f);
    }
    element(OID, &content)
}

/// A string of whole octets as bits.
pub(crate) fn bits(octets: &[u8]) -> Vec<u8> {
    element(BITS, &[&[0], octets].concat())
}

/// Named bits, the first is bit 0; trailing zeros are left out, as DER wants it.
pub(crate) fn named_bits(set: &[u8]) -> Vec<u8> {
    let Some(last) = set.iter().max() else { return element(BITS, &[0]) };
    let mut octets = vec![0_u8; usize::from(last / 8) + 1];
    for bit in set {
        octets[usize::from(bit / 8)] |= 0x80 >> (bit % 8);
    }
    element(BITS, &[&[7 - last % 8], octets.as_slice()].concat())
}

/// A time in whole seconds, in the form that its year demands.
pub(crate) fn time(time: Timestamp) -> Vec<u8> {
    let utc = time.to_zoned(TimeZone::UTC).datetime();
    if (1950..2050).contains(&utc.year()) {
        element(UTC_TIME, utc.strftime("%y%m%d%H%M%SZ").to_string().as_bytes())
    } else {
        element(GENERALIZED_TIME, utc.strftime("%Y%m%d%H%M%SZ").to_string().as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements() {
        assert_eq!(element(OCTETS, &[1, 2]), [4, 2, 1, 2]);
        assert_eq!(element(OCTETS, &[0; 200])[..3], [4, 0x81, 200]);
        assert_eq!(element(OCTETS, &[0; 300])[..4], [4, 0x82, 1, 44]);
        assert_eq!(oid(&[1, 2, 840, 10045, 4, 3, 2]), [6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2]);
        assert_eq!(oid(&[2, 5, 4, 0]), [6, 3, 0x55, 4, 0]);
        assert_eq!(named_bits(&[0, 2]), [3, 2, 5, 0b1010_0000]);
        assert_eq!(named_bits(&[5, 6]), [3, 2, 1, 0b0000_0110]);
    }

    #[test]
    fn times_change_their_form_in_2050() {
        let utc = |text: &str| time(text.parse().expect("a time"));
        assert_eq!(utc("2049-12-31T23:59:59Z")[2..], *b"491231235959Z");
        assert_eq!(utc("2050-01-01T00:00:00Z")[2..], *b"20500101000000Z");
    }
}
