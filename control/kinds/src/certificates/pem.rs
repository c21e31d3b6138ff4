//! PEM blocks, as far as their frame goes: what is in them is for those who sign and verify.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// One block.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Block<'a> {
    /// As `CERTIFICATE REQUEST`.
    pub(super) kind: &'a str,
    /// Whether it has headers.
    pub(super) headed: bool,
    /// What it holds.
    pub(super) data: Vec<u8>,
}

/// All blocks of a text; what stands between them, and what is no whole block, is passed over.
pub(super) fn blocks(text: &str) -> Vec<Block<'_>> {
    let mut blocks = Vec::new();
    let mut rest = text;
    while let Some((_, head)) = rest.split_once("-----BEGIN ") {
        let Some((kind, body)) = head.split_once("-----") else { break };
        let end = format!("-----END {kind}-----");
        let Some((body, after)) = body.split_once(end.as_str()) else {
            rest = head;
            continue;
        };
        rest = after;
        let headed = body.contains(':');
        let body = if headed { body.split_once("\n\n").map_or("", |(_, body)| body) } else { body };
        let digits: String = body.split_whitespace().collect();
        blocks.extend(STANDARD.decode(digits).ok().map(|data| Block { kind, headed, data }));
    }
    blocks
}

/// What the only block of a text holds, if it is of this kind and nothing stands before it, in it or after it: whoever
/// reads such a text finds this block and no other, however he looks for one.
pub(super) fn sole(text: &str, kind: &str) -> Option<Vec<u8>> {
    let (begin, end) = (format!("-----BEGIN {kind}-----"), format!("-----END {kind}-----"));
    let body = text.trim_ascii().strip_prefix(begin.as_str())?.strip_suffix(end.as_str())?;
    let line_ends = ['\r', '\n'];
    if !body.starts_with(line_ends) || !body.ends_with(line_ends) {
        return None;
    }
    STANDARD.decode(body.split_ascii_whitespace().collect::<String>()).ok()
}

/// The blocks of what stands as base64 in a field of an object.
pub(super) fn of_field(base64: &str) -> Option<String> {
    String::from_utf8(STANDARD.decode(base64).ok()?).ok()
}

/// Whether bytes have the frame of a DER sequence, which fills them.
pub(super) fn is_sequence(data: &[u8]) -> bool {
    let [0x30, first, rest @ ..] = data else { return false };
    if *first < 0x80 {
        return rest.len() == usize::from(*first);
    }
    let count = usize::from(first & 0x7f);
    if count == 0 || count > 4 || rest.len() < count {
        return false;
    }
    let length = rest[..count].iter().fold(0_usize, |length, byte| length << 8 | usize::from(*byte));
    rest.len() - count == length
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_found() {
        let text = "x\n-----BEGIN A B-----\nMAA=\n-----END A B-----\n-----BEGIN C-----\nk: v\n\nMAA=\n-----END C-----\n-----BEGIN D-----\nMAA=\n";
        let found = blocks(text);
        assert_eq!(
            found.iter().map(|b| (b.kind, b.headed)).collect::<Vec<_>>(),
            [("A B", false), ("C", true)]
        );
        assert!(found.iter().all(|block| is_sequence(&block.data)));
    }

    #[test]
    fn a_sole_block_has_nothing_beside_it() {
        let block = "-----BEGIN A-----\nMA\nA=\n-----END A-----";
        for text in
            [block.to_owned(), format!("{block}\n"), format!("\r\n{block}\n\n"), block.replace('\n', "\r\n")]
        {
            assert_eq!(sole(&text, "A"), Some(vec![0x30, 0]), "{text:?}");
        }
        let other = "-----BEGIN B-----\nMAA=\n-----END B-----";
        for text in [
            String::new(),
            other.to_owned(),
            format!("#{block}"),
            format!("x\n{block}"),
            format!("{block}\nx"),
            format!("{block}#"),
            format!("{block}\n{block}"),
            format!("{other}\n{block}"),
            format!("#{block}\n{block}"),
            block.replace("MA", "k: v\n\nMA"),
            block.replace("MA", &format!("{other}\nMA")),
            block.replace("-----\nMA", "-----MA"),
            block.replace("=\n", "="),
        ] {
            assert_eq!(sole(&text, "A"), None, "{text:?}");
        }
    }

    #[test]
    fn sequences() {
        assert!(is_sequence(&[0x30, 1, 0]));
        assert!(is_sequence(&[0x30, 0x81, 1, 0]));
        for data in [&[][..], &[0x30], &[0x30, 1], &[0x31, 0], &[0x30, 0x80, 0], &[0x30, 0x82, 1]] {
            assert!(!is_sequence(data), "{data:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_has_blocks_or_none(text in "(-----(BEGIN|END) A-----|[a-zA-Z=:\n]){0,12}") {
            let _ = blocks(&text);
        }

        #[test]
        fn any_bytes_are_a_sequence_or_not(data: Vec<u8>) {
            let _ = is_sequence(&data);
        }
    }
}
