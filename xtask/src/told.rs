//! What a run of `cargo test` told: which tests failed, and with what words.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

/// So many lines of a failed test are kept.
const LINES_MAX: usize = 15;

/// The tests of a run, and whether every program of it came to its end.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) failed: Vec<Failure>,
    /// The tests that passed.
    pub(crate) passed: BTreeSet<String>,
    /// Programs that said how many tests they run, less those that said how they ended.
    pub(crate) unfinished: usize,
    /// The failure whose words the next lines are.
    reading: Option<usize>,
}

/// A failed test.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) test: String,
    /// The first lines that it printed.
    pub(crate) words: Vec<String>,
    /// Whether it failed again when it was run once more.
    pub(crate) twice: bool,
}

impl Told {
    /// Takes the next line of the output. libtest names a failed test in its line, and later repeats what the test
    /// printed under `---- NAME stdout ----`; a program of its own kind prints both at once, as `case NAME ... FAILED`.
    fn line(&mut self, line: &str) {
        if line.starts_with("running ") {
            self.unfinished += 1;
        } else if line.starts_with("test result: ") {
            self.unfinished = self.unfinished.saturating_sub(1);
            self.reading = None;
        } else if let Some(name) =
            line.strip_prefix("---- ").and_then(|rest| rest.strip_suffix(" stdout ----"))
        {
            self.reading = Some(self.failure(name));
        } else if let Some((name, after)) = line.strip_prefix("case ").and_then(|l| l.split_once(" ... ")) {
            self.reading = after.starts_with("FAILED").then(|| self.failure(name));
            self.passed.extend(after.starts_with("ok").then(|| name.to_owned()));
        } else if let Some(name) = line.strip_prefix("test ").and_then(|l| l.strip_suffix(" ... FAILED")) {
            self.failure(name);
        } else if let Some(name) = line.strip_prefix("test ").and_then(|l| l.strip_suffix(" ... ok")) {
            self.passed.insert(name.to_owned());
        } else if line == "failures:" || line.eq_ignore_ascii_case("stack backtrace:") {
            self.reading = None;
        } else if let Some(failure) = self.reading.and_then(|at| self.failed.get_mut(at))
            && failure.words.len() < LINES_MAX
            && !line.trim().is_empty()
        {
            failure.words.push(line.to_owned());
        }
    }

    /// The place of a test among the failures.
    fn failure(&mut self, test: &str) -> usize {
        self.failed.iter().position(|failure| failure.test == test).unwrap_or_else(|| {
            self.failed.push(Failure { test: test.to_owned(), ..Failure::default() });
            self.failed.len() - 1
        })
    }
}

/// Runs a `cargo test`, shows what it prints, and gives what it told. An error that is none of a test (it does not
/// compile, a program died) leaves `failed` empty or something `unfinished`.
///
/// # Errors
/// It ended with another exit code than 0, or could not be started.
pub(crate) fn run(command: &mut Command) -> (Told, Result<()>) {
    let mut told = Told::default();
    let result = follow(command, &mut told);
    (told, result)
}

fn follow(command: &mut Command, told: &mut Told) -> Result<()> {
    let line = crate::cargo::line(command);
    let mut child =
        command.stdout(Stdio::piped()).spawn().with_context(|| format!("cannot start `{line}`"))?;
    let mut output = BufReader::new(child.stdout.take().context("no standard output")?);
    let mut bytes = Vec::new();
    while output.read_until(b'\n', &mut bytes).with_context(|| format!("reading from `{line}`"))? > 0 {
        let text = String::from_utf8_lossy(&bytes);
        print!("{text}");
        told.line(text.trim_end());
        bytes.clear();
    }
    let status = child.wait().with_context(|| format!("waiting for `{line}`"))?;
    if status.success() { Ok(()) } else { bail!("`{line}` ended with {status}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(output: &str) -> Told {
        let mut told = Told::default();
        output.lines().for_each(|line| told.line(line));
        told
    }

    #[test]
    fn of_libtest() {
        let output = "running 2 tests\ntest a::b ... FAILED\ntest c ... ok\n\nfailures:\n\n---- a::b stdout ----\n\n\
            thread 'a::b' panicked at x.rs:1:2:\nleft is 1\nstack backtrace:\n   0: main\n\n\nfailures:\n    a::b\n\n\
            test result: FAILED. 1 passed; 1 failed\n";
        let told = told(output);
        assert_eq!(told.unfinished, 0);
        assert_eq!(told.passed, ["c".to_owned()].into());
        let words = vec!["thread 'a::b' panicked at x.rs:1:2:".to_owned(), "left is 1".to_owned()];
        assert_eq!(told.failed, [Failure { test: "a::b".to_owned(), words, twice: false }]);
    }

    #[test]
    fn of_cases() {
        let output = "running 2 cases; 1 texts have none yet\ncase [x] a thing ... FAILED (1.0 s)\nit is not\n\n\
            case [x] other ... ok (2.0 s)\nnoise\ntest result: FAILED. 1 passed; 1 failed\n";
        let told = told(output);
        assert_eq!((told.unfinished, told.failed.len()), (0, 1));
        assert_eq!(told.passed, ["[x] other".to_owned()].into());
        assert_eq!(told.failed[0].test, "[x] a thing");
        assert_eq!(told.failed[0].words, ["it is not"]);
    }

    #[test]
    fn a_program_that_died() {
        assert_eq!(told("running 2 tests\ntest c ... ok\n").unfinished, 1);
    }
}
