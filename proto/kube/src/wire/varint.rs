//! The alphabet of protobuf: tags, numbers, and lengths.

use super::Error;

/// What stands behind a tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Payload<'b> {
    Varint(u64),
    Fixed64(u64),
    Bytes(&'b [u8]),
    Fixed32(u32),
}

impl Payload<'_> {
    /// The number of its wire type.
    pub(super) fn wire_type(self) -> u8 {
        match self {
            Self::Varint(_) => 0,
            Self::Fixed64(_) => 1,
            Self::Bytes(_) => 2,
            Self::Fixed32(_) => 5,
        }
    }
}

/// The fields of a message, one after the other.
pub(crate) struct Fields<'b>(pub(crate) &'b [u8]);

impl<'b> Fields<'b> {
    pub(super) fn varint(&mut self) -> Result<u64, Error> {
        let mut number = 0_u64;
        for at in 0..10 {
            let (&byte, rest) = self.0.split_first().ok_or(Error::Truncated)?;
            self.0 = rest;
            if at == 9 && byte > 1 {
                break;
            }
            number |= u64::from(byte & 0x7f) << (7 * at);
            if byte < 0x80 {
                return Ok(number);
            }
        }
        Err(Error::Malformed)
    }

    fn take(&mut self, length: u64) -> Result<&'b [u8], Error> {
        let length = usize::try_from(length).map_err(|_| Error::Truncated)?;
        let (bytes, rest) = self.0.split_at_checked(length).ok_or(Error::Truncated)?;
        self.0 = rest;
        Ok(bytes)
    }

    fn fixed<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        self.take(N as u64)?.try_into().map_err(|_| Error::Truncated)
    }
}

impl<'b> Iterator for Fields<'b> {
    type Item = Result<(u32, Payload<'b>), Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = (|| {
            let key = self.varint()?;
            let tag = u32::try_from(key >> 3).ok().filter(|&tag| tag > 0).ok_or(Error::Malformed)?;
            let payload = match key & 7 {
                0 => Payload::Varint(self.varint()?),
                1 => Payload::Fixed64(u64::from_le_bytes(self.fixed()?)),
                2 => {
                    let length = self.varint()?;
                    Payload::Bytes(self.take(length)?)
                }
                5 => Payload::Fixed32(u32::from_le_bytes(self.fixed()?)),
                _ => return Err(Error::Malformed),
            };
            Ok((tag, payload))
        })();
        if field.is_err() {
            self.0 = &[];
        }
        Some(field)
    }
}

/// Appends a number.
#[expect(clippy::cast_possible_truncation, reason = "seven bits fit")]
pub(crate) fn put(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Appends a tag and a number.
pub(crate) fn put_number(out: &mut Vec<u8>, tag: u32, number: u64) {
    put(out, u64::from(tag) << 3);
    put(out, number);
}

/// Appends a tag and bytes.
pub(crate) fn put_bytes(out: &mut Vec<u8>, tag: u32, bytes: &[u8]) {
    put(out, u64::from(tag) << 3 | 2);
    put(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Appends a tag and the message that `body` appends. Its length is known only afterwards, and put before it then.
pub(crate) fn put_message<E>(
    out: &mut Vec<u8>,
    tag: u32,
    body: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
) -> Result<(), E> {
    put(out, u64::from(tag) << 3 | 2);
    let start = out.len();
    body(out)?;
    let end = out.len();
    put(out, (end - start) as u64);
    let prefix = out.len() - end;
    out[start..].rotate_right(prefix);
    Ok(())
}
