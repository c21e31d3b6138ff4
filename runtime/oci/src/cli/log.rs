//! Where errors go: standard error, and the log file in the form its reader asked for (containerd reads JSON).

use std::fs::File;
use std::io::Write;

use serde::Serialize;

use crate::error::{During, RuntimeError};

/// The log of one command.
#[derive(Debug, Default)]
pub(super) struct Log {
    file: Option<File>,
    json: bool,
}

#[derive(Serialize)]
struct Line<'a> {
    level: &'a str,
    msg: &'a str,
    time: String,
}

impl Log {
    pub(super) fn open(file: Option<&str>, format: Option<&str>) -> Result<Self, RuntimeError> {
        let file = match file.filter(|file| !file.is_empty()) {
            Some(path) => {
                let opened = File::options().append(true).create(true).open(path);
                Some(opened.during(|| format!("open the log {path}"))?)
            }
            None => None,
        };
        match format {
            None | Some("text" | "json") => Ok(Self { file, json: format == Some("json") }),
            Some(other) => Err(RuntimeError::new(
                crate::ErrorKind::InvalidSpec,
                format!("option --log-format: {other:?}; use text or json"),
            )),
        }
    }

    pub(super) fn error(&mut self, message: &str) {
        let _ = writeln!(std::io::stderr(), "cleat-oci: {message}");
        let Some(file) = &mut self.file else { return };
        let time = rfc3339(rustix::time::clock_gettime(rustix::time::ClockId::Realtime).tv_sec);
        let line = if self.json {
            serde_json::to_string(&Line { level: "error", msg: message, time }).unwrap_or_default()
        } else {
            format!("time={time:?} level=error msg={message:?}")
        };
        let _ = writeln!(file, "{line}");
    }
}

/// Seconds since the epoch as UTC date and time.
pub(super) fn rfc3339(seconds: i64) -> String {
    let (days, rest) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    // Days since 1 March of the year 0, in eras of 400 years: leap days then come last in each year.
    let days = days + 719_468;
    let (era, day) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year + era * 400 + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", rest / 3600, rest / 60 % 60, rest % 60)
}
