//! The container log in the format of the CRI: `2016-10-06T00:17:09.669794202Z stdout F text`.
//!
//! `F` ends a line, `P` is a part of one. Joining the texts, with a line feed after each `F`, gives back exactly
//! what the container wrote.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// The longest text of one entry, in bytes. Longer lines come in parts.
pub(crate) const TEXT_MAX: usize = 16 * 1024;

/// Where a container's output comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stream {
    /// Standard output, or the terminal.
    Stdout,
    /// Standard error.
    Stderr,
}

/// The unfinished line of one stream.
#[derive(Debug, Default)]
pub(crate) struct Line(Vec<u8>);

impl Line {
    /// Appends to `entries` those that `bytes` completes.
    pub(crate) fn push(&mut self, stream: Stream, time: &str, bytes: &[u8], entries: &mut Vec<u8>) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let (text, ends) = piece.strip_suffix(b"\n").map_or((piece, false), |text| (text, true));
            let mut text = text;
            while self.0.len() + text.len() > TEXT_MAX {
                let (now, later) = text.split_at(TEXT_MAX - self.0.len());
                self.entry(stream, time, "P", now, entries);
                text = later;
            }
            if ends {
                self.entry(stream, time, "F", text, entries);
            } else {
                self.0.extend_from_slice(text);
            }
        }
        if self.0.is_empty() {
            self.0 = Vec::new();
        }
    }

    /// Appends what is left of a line that will not be finished.
    pub(crate) fn flush(&mut self, stream: Stream, time: &str, entries: &mut Vec<u8>) {
        if !self.0.is_empty() {
            self.entry(stream, time, "P", b"", entries);
            self.0 = Vec::new();
        }
    }

    fn entry(&mut self, stream: Stream, time: &str, tag: &str, text: &[u8], entries: &mut Vec<u8>) {
        let stream = match stream {
            Stream::Stdout => "stdout",
            Stream::Stderr => "stderr",
        };
        for part in [time, " ", stream, " ", tag, " "] {
            entries.extend_from_slice(part.as_bytes());
        }
        entries.append(&mut self.0);
        entries.extend_from_slice(text);
        entries.push(b'\n');
    }
}

/// RFC 3339 with nanoseconds, in UTC.
pub(crate) fn timestamp(nanoseconds: i64) -> String {
    let (seconds, nanos) = (nanoseconds.div_euclid(1_000_000_000), nanoseconds.rem_euclid(1_000_000_000));
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    // Years counted from March, so that the leap day is the last of its year; 719,468 days lie between the first of
    // March of the year 0 and the epoch, and 146,097 days make 400 years.
    let day = days + 719_468;
    let (era, day) = (day.div_euclid(146_097), day.rem_euclid(146_097));
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let date = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = era * 400 + year + i64::from(month <= 2);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{date:02}T{hour:02}:{minute:02}:{second:02}.{nanos:09}Z")
}

/// A container's log file.
#[derive(Debug)]
pub(crate) struct LogFile {
    path: PathBuf,
    file: File,
    /// Entries that could not be written since the last that could.
    lost: usize,
}

impl LogFile {
    /// Opens the log to append to it.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        Ok(Self { path: path.to_owned(), file: append(path)?, lost: 0 })
    }

    /// Goes on in a new file of the same name, after the rotation of the old one, which is kept if that fails.
    pub(crate) fn reopen(&mut self) -> io::Result<()> {
        self.file = append(&self.path)?;
        Ok(())
    }

    /// Appends whole entries, or none of them when the disk is full: a container does not stop for its log.
    /// Answers what the operator should know: when entries begin to be lost, and when they no longer are.
    pub(crate) fn write(&mut self, entries: &[u8]) -> Option<String> {
        let error = match self.append(entries) {
            Ok(()) => {
                let lost = std::mem::take(&mut self.lost);
                return (lost > 0).then(|| format!("{}: {lost} entries were lost", self.path.display()));
            }
            Err(error) => error,
        };
        let first = self.lost == 0;
        self.lost += entries.iter().filter(|byte| **byte == b'\n').count();
        first.then(|| format!("{}: {error}; entries are being lost", self.path.display()))
    }

    fn append(&mut self, entries: &[u8]) -> io::Result<()> {
        let mut rest = entries;
        while !rest.is_empty() {
            match self.file.write(rest) {
                Ok(written) => rest = &rest[written..],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    // A reader must never see half an entry.
                    let written = u64::try_from(entries.len() - rest.len()).unwrap_or(0);
                    if written > 0 {
                        self.file.set_len(self.file.metadata()?.len().saturating_sub(written))?;
                    }
                    return Err(error);
                }
            }
        }
        Ok(())
    }
}

fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o640).open(path)
}

#[cfg(test)]
mod tests;
