//! What a run of `cargo test` told: which tests failed, and with what words.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

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
/// It ended with another exit code than 0, could not be started, or had not ended by `end` and was killed.
pub(crate) fn run(command: &mut Command, end: Instant) -> (Told, Result<()>) {
    let mut told = Told::default();
    let result = follow(command, end, &mut told);
    (told, result)
}

fn follow(command: &mut Command, end: Instant, told: &mut Told) -> Result<()> {
    let line = crate::cargo::line(command);
    let mut child =
        command.stdout(Stdio::piped()).spawn().with_context(|| format!("cannot start `{line}`"))?;
    let output = BufReader::new(child.stdout.take().context("no standard output")?);
    let (lines, read) = mpsc::channel();
    thread::spawn(move || forward(output, &lines));
    loop {
        match read.recv_timeout(end.saturating_duration_since(Instant::now())) {
            Ok(bytes) => {
                let text = String::from_utf8_lossy(&bytes);
                print!("{text}");
                told.line(text.trim_end());
            }
            Err(mpsc::RecvTimeoutError::Disconnected) => break,
            Err(mpsc::RecvTimeoutError::Timeout) => {
                kill(&mut child).with_context(|| format!("killing `{line}`"))?;
                bail!("`{line}` did not end in time and was killed");
            }
        }
    }
    let status = child.wait().with_context(|| format!("waiting for `{line}`"))?;
    if status.success() { Ok(()) } else { bail!("`{line}` ended with {status}") }
}

/// Sends what is read line by line, until there is no more.
fn forward(mut output: impl BufRead, lines: &mpsc::Sender<Vec<u8>>) {
    loop {
        let mut bytes = Vec::new();
        match output.read_until(b'\n', &mut bytes) {
            Ok(1..) if lines.send(bytes).is_ok() => {}
            _ => return,
        }
    }
}

/// Kills a process and all that it has started, the youngest generation last: who has lost its parent is not found.
fn kill(child: &mut Child) -> Result<()> {
    let mut family: Vec<i32> = vec![i32::try_from(child.id())?];
    let mut at = 0;
    while let Some(&parent) = family.get(at) {
        family.extend(children(parent)?);
        at += 1;
    }
    for pid in family.into_iter().filter_map(Pid::from_raw) {
        // Who has ended meanwhile is no error.
        let _ = kill_process(pid, Signal::KILL);
    }
    child.wait()?;
    Ok(())
}

/// The children of a process; proc(5), `/proc/PID/stat`.
fn children(parent: i32) -> Result<Vec<i32>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else { continue };
        let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else { continue };
        // The program's name before it may hold anything, also blanks and parentheses.
        let after = stat.rsplit_once(')').map_or("", |(_, after)| after);
        if after.split_whitespace().nth(1).and_then(|field| field.parse().ok()) == Some(parent) {
            found.push(pid);
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

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
    fn a_program_that_does_not_end() {
        let mut shell = Command::new("sh");
        shell.args(["-c", "echo running 1 tests; sleep 1000 & echo test $! ... ok; wait"]);
        let (told, result) = run(&mut shell, Instant::now() + Duration::from_millis(500));
        let text = result.unwrap_err().to_string();
        assert!(text.ends_with("did not end in time and was killed"), "{text}");
        assert_eq!((told.unfinished, told.passed.len()), (1, 1));
        // Killed, it still has to get the processor once to be gone.
        let stat = format!("/proc/{}/stat", told.passed.first().unwrap());
        while std::fs::read_to_string(&stat).is_ok_and(|stat| !stat.contains(") Z ")) {
            thread::yield_now();
        }
    }

    #[test]
    fn a_program_that_died() {
        assert_eq!(told("running 2 tests\ntest c ... ok\n").unfinished, 1);
    }
}
