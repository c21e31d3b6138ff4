//! Identifiers and name suffixes: the random values that the pure parts take as arguments.

/// The letters of upstream's name suffixes: no vowels and no look-alikes, so that no words come out.
const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

/// A new unique identifier: a random UUID of version 4.
#[must_use]
pub fn uid() -> String {
    let bits = fastrand::u128(..);
    let (version, variant) = (0x4 << 76, 0b10 << 62);
    let bits = bits & !(0xf << 76) & !(0b11 << 62) | version | variant;
    let hex = format!("{bits:032x}");
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

/// Five letters to make a name of a `generateName`.
#[must_use]
pub fn suffix() -> String {
    (0..5).map(|_| char::from(LETTERS[fastrand::usize(..LETTERS.len())])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_have_their_form() {
        let uid = uid();
        assert_eq!(uid.len(), 36);
        assert_eq!(uid.as_bytes()[14], b'4');
        assert!(b"89ab".contains(&uid.as_bytes()[19]));
        assert_ne!(uid, super::uid());
        assert_eq!(suffix().len(), 5);
    }
}
