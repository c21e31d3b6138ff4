//! Writing netlink attributes to a byte buffer.

const NESTED: u16 = 0x8000;

/// One attribute. Panics beyond 64 kB, which no single attribute of ours comes near.
pub(crate) fn put(buffer: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let at = buffer.len();
    buffer.extend_from_slice(&[0; 2]);
    buffer.extend_from_slice(&kind.to_ne_bytes());
    buffer.extend_from_slice(value);
    close(buffer, at);
}

/// A number in network byte order, as nf_tables wants all of them.
pub(crate) fn put_u32(buffer: &mut Vec<u8>, kind: u16, value: u32) {
    put(buffer, kind, &value.to_be_bytes());
}

/// A string with its final zero.
pub(crate) fn put_str(buffer: &mut Vec<u8>, kind: u16, value: &str) {
    let at = buffer.len();
    buffer.extend_from_slice(&[0; 2]);
    buffer.extend_from_slice(&kind.to_ne_bytes());
    buffer.extend_from_slice(value.as_bytes());
    buffer.push(0);
    close(buffer, at);
}

/// Attributes within an attribute.
pub(crate) fn nest(buffer: &mut Vec<u8>, kind: u16, write: impl FnOnce(&mut Vec<u8>)) {
    let at = buffer.len();
    buffer.extend_from_slice(&[0; 2]);
    buffer.extend_from_slice(&(kind | NESTED).to_ne_bytes());
    write(buffer);
    close(buffer, at);
}

fn close(buffer: &mut Vec<u8>, at: usize) {
    let length = u16::try_from(buffer.len() - at).expect("an attribute is shorter than 64 kB");
    buffer[at..at + 2].copy_from_slice(&length.to_ne_bytes());
    buffer.resize(buffer.len().next_multiple_of(4), 0);
}
