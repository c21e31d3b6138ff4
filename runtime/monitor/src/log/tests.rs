//! The log format: tables, and the law that joining the entries gives back what was written.

use super::*;
use proptest::prelude::*;

const TIME: &str = "2016-10-06T00:17:09.669794202Z";

/// The entries of these chunks, without their time.
fn entries(chunks: &[&[u8]]) -> Vec<(String, Vec<u8>)> {
    let (mut line, mut log) = (Line::default(), Vec::new());
    for chunk in chunks {
        line.push(Stream::Stdout, TIME, chunk, &mut log);
    }
    line.flush(Stream::Stdout, TIME, &mut log);
    let prefix = format!("{TIME} stdout ");
    log.split_inclusive(|byte| *byte == b'\n')
        .map(|entry| {
            let entry = entry.strip_suffix(b"\n").expect("every entry ends in a line feed");
            let entry =
                entry.strip_prefix(prefix.as_bytes()).expect("every entry begins with time and stream");
            (String::from_utf8(entry[..1].to_vec()).unwrap(), entry[2..].to_vec())
        })
        .collect()
}

#[test]
fn lines_and_parts() {
    let long = vec![b'x'; TEXT_MAX];
    let over = [&long[..], b"y\n"].concat();
    let exact = [&long[..], b"\n"].concat();
    type Case<'a> = (&'a [&'a [u8]], &'a [(&'a str, &'a [u8])]);
    let table: &[Case] = &[
        (&[b"a\n"], &[("F", b"a")]),
        (&[b"a", b"b", b"\n"], &[("F", b"ab")]),
        (&[b"\n\n"], &[("F", b""), ("F", b"")]),
        (&[b"a\nb"], &[("F", b"a"), ("P", b"b")]),
        (&[b"a\r\n"], &[("F", b"a\r")]),
        (&[b"\xff\0 P \n"], &[("F", b"\xff\0 P ")]),
        (&[], &[]),
        (&[&exact], &[("F", &long)]),
        (&[&long, b"\n"], &[("F", &long)]),
        (&[&over], &[("P", &long), ("F", b"y")]),
        (&[&long, b"y\n"], &[("P", &long), ("F", b"y")]),
        (&[&long, &long, b"\n"], &[("P", &long), ("F", &long)]),
    ];
    for (chunks, expected) in table {
        let expected: Vec<_> =
            expected.iter().map(|(tag, text)| ((*tag).to_owned(), text.to_vec())).collect();
        assert_eq!(entries(chunks), expected);
    }
}

#[test]
fn one_entry_as_the_cri_shows_it() {
    let mut log = Vec::new();
    Line::default().push(Stream::Stderr, TIME, b"The content\n", &mut log);
    assert_eq!(log, b"2016-10-06T00:17:09.669794202Z stderr F The content\n");
}

#[test]
fn timestamps() {
    let table = [
        (0, "1970-01-01T00:00:00.000000000Z"),
        (-1, "1969-12-31T23:59:59.999999999Z"),
        (1_475_713_029_669_794_202, "2016-10-06T00:17:09.669794202Z"),
        (951_782_400_000_000_000, "2000-02-29T00:00:00.000000000Z"),
        (1_709_251_199_000_000_001, "2024-02-29T23:59:59.000000001Z"),
        (4_107_542_399_999_999_999, "2100-02-28T23:59:59.999999999Z"),
        (4_107_542_400_000_000_000, "2100-03-01T00:00:00.000000000Z"),
    ];
    for (nanoseconds, expected) in table {
        assert_eq!(timestamp(nanoseconds), expected);
    }
}

proptest! {
    #[test]
    fn any_bytes_split_anyhow_are_given_back(
        // A chunk is made of runs of a byte, some of them longer than an entry.
        runs in prop::collection::vec(
            prop::collection::vec((prop_oneof![Just(b'\n'), any::<u8>()], prop_oneof![0..3_usize, 0..40_000_usize]), 0..4),
            0..6)
    ) {
        let fill = |(byte, length): &(u8, usize)| vec![*byte; if *byte == b'\n' { length % 8 } else { *length }];
        let chunks: Vec<Vec<u8>> = runs.iter().map(|runs| runs.iter().flat_map(fill).collect()).collect();
        let slices: Vec<&[u8]> = chunks.iter().map(Vec::as_slice).collect();
        let mut joined = Vec::new();
        for (tag, text) in entries(&slices) {
            prop_assert!(text.len() <= TEXT_MAX);
            joined.extend(text);
            if tag == "F" {
                joined.push(b'\n');
            }
        }
        prop_assert_eq!(joined, chunks.concat());
        // How the bytes came makes no difference.
        prop_assert_eq!(entries(&slices), entries(&[&chunks.concat()]));
    }

    #[test]
    fn days_follow_each_other(day in -100_000_i64..100_000) {
        let (today, tomorrow) = (timestamp(day * 86_400_000_000_000), timestamp((day + 1) * 86_400_000_000_000));
        let date = |text: &str| text.rsplit_once("T").map(|(date, _)| date.to_owned());
        let number = |text: &str| {
            let date = date(text).unwrap();
            let mut parts = date.rsplitn(3, '-').map(|part| part.parse::<i64>().unwrap());
            (parts.next().unwrap(), parts.next().unwrap(), parts.next().unwrap())
        };
        let ((d0, m0, y0), (d1, m1, y1)) = (number(&today), number(&tomorrow));
        let follows = (y1 == y0 && m1 == m0 && d1 == d0 + 1)
            || (y1 == y0 && m1 == m0 + 1 && d1 == 1 && d0 >= 28)
            || (y1 == y0 + 1 && m1 == 1 && d1 == 1 && m0 == 12 && d0 == 31);
        prop_assert!(follows, "{} then {}", today, tomorrow);
    }
}

#[test]
fn a_full_disk_loses_whole_entries_and_says_so_once() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("0.log");
    let mut log = LogFile::open(&path).unwrap();
    assert_eq!(log.write(b"one\n"), None);
    // /dev/full refuses every write as a full disk does.
    log.file = OpenOptions::new().write(true).open("/dev/full").unwrap();
    assert!(log.write(b"two\nthree\n").unwrap().contains("entries are being lost"));
    assert_eq!(log.write(b"four\n"), None);
    log.reopen().unwrap();
    assert!(log.write(b"five\n").unwrap().contains("3 entries were lost"));
    assert_eq!(std::fs::read(&path).unwrap(), b"one\nfive\n");
}

#[test]
fn rotation() {
    let dir = tempfile::tempdir().unwrap();
    let (path, old) = (dir.path().join("0.log"), dir.path().join("0.log.1"));
    let mut log = LogFile::open(&path).unwrap();
    log.write(b"one\n");
    std::fs::rename(&path, &old).unwrap();
    log.write(b"two\n");
    log.reopen().unwrap();
    log.write(b"three\n");
    assert_eq!(std::fs::read(&old).unwrap(), b"one\ntwo\n");
    assert_eq!(std::fs::read(&path).unwrap(), b"three\n");
}
