//! Lines of a container's log in the CRI format: `<RFC 3339 time> <stdout or stderr> <P or F> <text>`.

/// A line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Line<'a> {
    /// When it was written, as text.
    pub(crate) time: &'a str,
    /// It was written to stderr.
    pub(crate) stderr: bool,
    /// Its text goes on in the next line.
    pub(crate) partial: bool,
    /// Its text without the newline.
    pub(crate) text: &'a [u8],
}

/// Reads a line; `None` when it is none, for example half of one.
pub(crate) fn parse(line: &[u8]) -> Option<Line<'_>> {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let mut parts = line.splitn(4, |byte| *byte == b' ');
    let time = std::str::from_utf8(parts.next()?).ok().filter(|t| t.len() >= 20)?;
    let stderr = match parts.next()? {
        b"stdout" => false,
        b"stderr" => true,
        _ => return None,
    };
    let tags = parts.next()?;
    let partial = tags.split(|byte| *byte == b':').next()? == b"P";
    Some(Line { time, stderr, partial, text: parts.next().unwrap_or_default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines() {
        let time = "2026-11-21T03:00:00.123456789Z";
        let line = |text: &str| format!("{time} {text}\n").into_bytes();
        let parsed = |text: &str| parse(&line(text)).map(|l| (l.stderr, l.partial, l.text.to_vec()));
        assert_eq!(parsed("stdout F hello world"), Some((false, false, b"hello world".to_vec())));
        assert_eq!(parsed("stderr P part"), Some((true, true, b"part".to_vec())));
        assert_eq!(parsed("stdout F "), Some((false, false, Vec::new())));
        assert_eq!(parsed("stdout F"), Some((false, false, Vec::new())));
        assert_eq!(parsed("stdin F x"), None);
        assert_eq!(parse(b"garbage"), None);
        assert_eq!(parse(b""), None);
    }
}
