//! How a session ended, as its client parses it: a `metav1.Status`, or a line of text before protocol version 4.

use serde::{Deserialize, Serialize};

const SUCCESS: &str = "Success";
const FAILURE: &str = "Failure";
const INTERNAL_ERROR: &str = "InternalError";
const NON_ZERO_EXIT_CODE: &str = "NonZeroExitCode";
const EXIT_CODE: &str = "ExitCode";

/// The part of `metav1.Status` that streaming uses.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Report {
    #[serde(skip_serializing_if = "String::is_empty")]
    status: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    message: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    reason: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    details: Option<Details>,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<i32>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Details {
    causes: Vec<Cause>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Cause {
    reason: String,
    message: String,
}

/// The last message on the error channel from version 4 on.
pub(crate) fn to_json(ended: &Result<i32, String>) -> Vec<u8> {
    let mut report =
        Report { status: FAILURE.to_owned(), message: text(ended).unwrap_or_default(), ..Report::default() };
    match ended {
        Ok(0) => SUCCESS.clone_into(&mut report.status),
        Ok(code) => {
            let causes = vec![Cause { reason: EXIT_CODE.to_owned(), message: code.to_string() }];
            NON_ZERO_EXIT_CODE.clone_into(&mut report.reason);
            report.details = Some(Details { causes });
        }
        Err(_) => {
            INTERNAL_ERROR.clone_into(&mut report.reason);
            report.code = Some(500);
        }
    }
    serde_json::to_vec(&report).expect("strings and numbers serialise")
}

/// The last message before version 4; none after success.
pub(crate) fn text(ended: &Result<i32, String>) -> Option<String> {
    match ended {
        Ok(0) => None,
        Ok(code) => Some(format!("command terminated with non-zero exit code: {code}")),
        Err(why) => Some(format!("Internal error occurred: {why}")),
    }
}

/// Reads what [`to_json`] wrote, or another server did: the exit code, or what went wrong.
pub(crate) fn parse(report: &[u8]) -> Result<i32, String> {
    let text = || String::from_utf8_lossy(report).into_owned();
    let report: Report = serde_json::from_slice(report).map_err(|_| text())?;
    if report.status == SUCCESS {
        return Ok(0);
    }
    let causes = report.details.iter().flat_map(|details| &details.causes);
    let code = causes.filter(|cause| cause.reason == EXIT_CODE).find_map(|cause| cause.message.parse().ok());
    match code {
        Some(code) if report.reason == NON_ZERO_EXIT_CODE => Ok(code),
        _ => Err(report.message),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_clients_parse_it() {
        let json = |ended| String::from_utf8(to_json(&ended)).unwrap();
        assert_eq!(json(Ok(0)), r#"{"status":"Success"}"#);
        assert_eq!(
            json(Ok(3)),
            r#"{"status":"Failure","message":"command terminated with non-zero exit code: 3","reason":"NonZeroExitCode","details":{"causes":[{"reason":"ExitCode","message":"3"}]}}"#
        );
        assert_eq!(
            json(Err("no container".to_owned())),
            r#"{"status":"Failure","message":"Internal error occurred: no container","reason":"InternalError","code":500}"#
        );
        assert_eq!(text(&Ok(0)), None);
    }

    #[test]
    fn reads_its_own_and_others() {
        for ended in [Ok(0), Ok(3), Ok(137)] {
            assert_eq!(parse(&to_json(&ended)).unwrap(), ended.unwrap());
        }
        assert_eq!(
            parse(&to_json(&Err("broken".to_owned()))).unwrap_err(),
            "Internal error occurred: broken"
        );
        assert_eq!(parse(br#"{"metadata":{},"status":"Success"}"#), Ok(0));
        assert_eq!(parse(b"plain text").unwrap_err(), "plain text");
    }
}
