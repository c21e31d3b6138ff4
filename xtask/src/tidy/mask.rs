//! Rust source without what is not code: comments and the insides of literals turned into spaces, so that a rule
//! which looks for a word does not find it in prose. Lines keep their numbers.

/// What stands at a place of the source.
#[derive(Clone, Copy, PartialEq)]
enum At {
    Code,
    Line,
    Block(u32),
    Text,
    Raw(usize),
}

/// The code of a file; comments and the insides of string and character literals are spaces.
pub(super) fn code(source: &str) -> String {
    let chars: Vec<char> = source.chars().collect();
    let mut out = String::with_capacity(source.len());
    let mut at = At::Code;
    let mut i = 0;
    while i < chars.len() {
        let (next, width, shown) = step(&chars, i, at);
        for &c in &chars[i..i + width] {
            out.push(if shown || c == '\n' { c } else { ' ' });
        }
        at = next;
        i += width;
    }
    out
}

/// The state after the piece that starts at `i`, its width, and whether it is code.
fn step(chars: &[char], i: usize, at: At) -> (At, usize, bool) {
    let c = chars[i];
    let next = chars.get(i + 1).copied().unwrap_or('\0');
    match at {
        At::Code => code_step(chars, i),
        At::Line => (if c == '\n' { At::Code } else { At::Line }, 1, false),
        At::Block(depth) => match (c, next) {
            ('/', '*') => (At::Block(depth + 1), 2, false),
            ('*', '/') if depth == 1 => (At::Code, 2, false),
            ('*', '/') => (At::Block(depth - 1), 2, false),
            _ => (at, 1, false),
        },
        At::Text => match c {
            '\\' if next != '\0' => (at, 2, false),
            '"' => (At::Code, 1, true),
            _ => (at, 1, false),
        },
        At::Raw(hashes) => {
            let closes = c == '"' && (1..=hashes).all(|n| chars.get(i + n) == Some(&'#'));
            if closes { (At::Code, 1 + hashes, true) } else { (at, 1, false) }
        }
    }
}

fn code_step(chars: &[char], i: usize) -> (At, usize, bool) {
    let next = chars.get(i + 1).copied().unwrap_or('\0');
    match (chars[i], next) {
        ('/', '/') => (At::Line, 2, false),
        ('/', '*') => (At::Block(1), 2, false),
        ('"', _) => (At::Text, 1, true),
        ('r', '"' | '#')
            if !is_word(chars, i.wrapping_sub(1)) || chars.get(i.wrapping_sub(1)) == Some(&'b') =>
        {
            let hashes = chars[i + 1..].iter().take_while(|&&c| c == '#').count();
            let opens = chars.get(i + 1 + hashes) == Some(&'"');
            if opens { (At::Raw(hashes), 2 + hashes, true) } else { (At::Code, 1, true) }
        }
        ('\'', '\\') => {
            let length = chars[i + 3..].iter().take_while(|&&c| c != '\'' && c != '\n').count();
            (At::Code, (length + 4).min(chars.len() - i), false)
        }
        ('\'', _) if chars.get(i + 2) == Some(&'\'') => (At::Code, 3, false),
        _ => (At::Code, 1, true),
    }
}

fn is_word(chars: &[char], i: usize) -> bool {
    chars.get(i).is_some_and(|c| c.is_alphanumeric() || *c == '_')
}

/// Whether `word` stands in `line` as a word of its own.
pub(super) fn has_word(line: &str, word: &str) -> bool {
    let edge = |c: Option<char>| !c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    line.match_indices(word)
        .any(|(at, _)| edge(line[..at].chars().next_back()) && edge(line[at + word.len()..].chars().next()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_code_stays() {
        for (source, expected) in [
            ("let a = 1; // unsafe\nb", "let a = 1;          \nb"),
            ("a /* x /* y */ z */ b", "a                   b"),
            (r#"f("un\"safe", 'x', '\'', '\n');"#, r#"f("        ",    ,     ,     );"#),
            (r##"r#"a " unsafe"# + b"##, r##"r#"          "# + b"##),
            ("fn f<'a>(x: &'a str) {}", "fn f<'a>(x: &'a str) {}"),
            ("for r in 0..3 {}", "for r in 0..3 {}"),
        ] {
            assert_eq!(code(source), expected, "{source}");
        }
    }

    #[test]
    fn words_have_edges() {
        assert!(has_word("unsafe {", "unsafe"));
        assert!(!has_word("forbid(unsafe_code)", "unsafe"));
    }
}
