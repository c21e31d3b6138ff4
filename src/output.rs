//! What people see: tables as kubectl prints them, ages, colours only on a terminal.

use std::io::IsTerminal;

use crate::args::Format;

pub(crate) const RED: u8 = 31;
pub(crate) const GREEN: u8 = 32;
pub(crate) const BOLD: u8 = 1;

/// `text` in an ANSI style if standard error and output are a terminal and `NO_COLOR` is not set.
pub(crate) fn paint(text: &str, style: u8) -> String {
    let colours = std::io::stderr().is_terminal() && std::io::stdout().is_terminal();
    if colours && std::env::var_os("NO_COLOR").is_none() {
        format!("\x1b[{style}m{text}\x1b[0m")
    } else {
        text.to_owned()
    }
}

/// How this program was called, for commands that people copy.
pub(crate) fn program() -> String {
    std::env::args().next().unwrap_or_else(|| "cleat".into())
}

impl Format {
    /// Prints a document for programs: YAML where it was asked for, else JSON.
    pub(crate) fn print(self, document: &serde_json::Value) -> anyhow::Result<()> {
        if self == Format::Yaml {
            println!("---\n{}", serde_saphyr::to_string(document)?.trim_end());
        } else {
            println!("{}", serde_json::to_string_pretty(document)?);
        }
        Ok(())
    }
}

/// Rows under a header, columns three spaces apart, as wide as their widest cell.
pub(crate) fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = header.iter().map(|h| h.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let mut line = String::new();
        for (cell, width) in cells.zip(&widths) {
            line += &format!("{cell:<width$}   ");
        }
        line.truncate(line.trim_end().len());
        line + "\n"
    };
    let mut text = line(&mut header.iter().copied());
    for row in rows {
        text += &line(&mut row.iter().map(String::as_str));
    }
    text
}

/// A duration in seconds as kubectl shows ages: two units at most, the coarser alone once it is large.
pub(crate) fn age(seconds: i64) -> String {
    let (s, m, h, d) = (seconds, seconds / 60, seconds / 3600, seconds / 86400);
    let pair = |a: i64, unit: &str, b: i64, small: &str| {
        if b == 0 { format!("{a}{unit}") } else { format!("{a}{unit}{b}{small}") }
    };
    match seconds {
        ..0 => "<invalid>".into(),
        0..120 => format!("{s}s"),
        120..600 => pair(m, "m", s % 60, "s"),
        600..10_800 => format!("{m}m"),
        10_800..28_800 => pair(h, "h", m % 60, "m"),
        28_800..172_800 => format!("{h}h"),
        172_800..691_200 => pair(d, "d", h % 24, "h"),
        691_200..63_072_000 => format!("{d}d"),
        _ => pair(d / 365, "y", d % 365, "d"),
    }
}

/// The age of an RFC 3339 time, `<unknown>` if it is none.
pub(crate) fn age_since(time: &str) -> String {
    time.parse::<jiff::Timestamp>().map_or_else(
        |_| "<unknown>".into(),
        |then| age(jiff::Timestamp::now().as_second() - then.as_second()),
    )
}

/// Bytes with a decimal unit, as container tools print image sizes.
pub(crate) fn size(bytes: u64) -> String {
    let (mut scaled, mut units) = (bytes, ["B", "kB", "MB", "GB"].into_iter().peekable());
    while let Some(unit) = units.next() {
        if scaled < 1000 || units.peek().is_none() {
            return format!("{scaled}{unit}");
        }
        scaled = (scaled + 500) / 1000;
    }
    String::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_align() {
        let rows = [vec!["web".into(), "1/1".into()], vec!["a-long-name".into(), String::new()]];
        assert_eq!(table(&["NAME", "READY"], &rows), "NAME          READY\nweb           1/1\na-long-name\n");
    }

    #[test]
    fn ages_are_kubectls() {
        for (seconds, text) in [
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (121, "2m1s"),
            (599, "9m59s"),
            (600, "10m"),
            (10_800, "3h"),
            (10_860, "3h1m"),
            (28_800, "8h"),
            (172_800, "2d"),
            (176_400, "2d1h"),
            (691_200, "8d"),
            (-1, "<invalid>"),
        ] {
            assert_eq!(age(seconds), text);
        }
    }

    #[test]
    fn sizes() {
        assert_eq!(
            [size(999), size(1000), size(188_400_000), size(2_000_000_000_000)],
            ["999B", "1kB", "188MB", "2000GB"]
        );
    }
}
