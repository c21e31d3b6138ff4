//! The command line by tables.

use super::*;

fn read(line: &str, command: &str) -> Result<(Given, Vec<String>), RuntimeError> {
    let command = COMMANDS.iter().find(|one| one.name == command).unwrap();
    let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
    Given::read(&words, command.options, command.own_operands)
}

#[test]
fn options_stand_before_and_after_the_id() {
    for line in ["--bundle /b --pid-file=/p c1", "c1 -b /b --pid-file /p", "-b /b c1 --pid-file /p"] {
        let (given, rest) = read(line, "create").unwrap();
        assert_eq!((given.id().unwrap(), rest.len()), ("c1", 0), "{line}");
        assert_eq!((given.value("bundle"), given.value("pid-file")), (Some("/b"), Some("/p")), "{line}");
    }
    assert!(read("c1 --no-such", "create").unwrap_err().to_string().contains("--no-such"));
    assert!(read("c1 --bundle", "create").is_err());
}

#[test]
fn the_options_of_a_program_are_its_own() {
    for line in ["-d c1 ls -d --all", "c1 -d ls -d --all", "c1 -d -- ls -d --all", "-d -- c1 ls -d --all"] {
        let (given, program) = read(line, "exec").unwrap();
        assert_eq!((given.id().unwrap(), given.on("detach")), ("c1", true), "{line}");
        assert_eq!(program, ["ls", "-d", "--all"], "{line}");
    }
}

#[test]
fn signals_have_names_and_numbers() {
    for (text, number) in [("9", 9), ("kill", 9), ("SIGTERM", 15), ("RTMIN+3", 37), ("SIGRTMAX", 64)] {
        assert_eq!(signal::number(text).unwrap(), number, "{text}");
    }
    for bad in ["", "0", "65", "TERMINATE", "-9", "RTMAX+1"] {
        assert!(signal::number(bad).is_err(), "{bad}");
    }
}

#[test]
fn a_moment_is_written_in_utc() {
    for (seconds, text) in [
        (0, "1970-01-01T00:00:00Z"),
        (951_782_399, "2000-02-28T23:59:59Z"),
        (1_763_700_000, "2025-11-21T04:40:00Z"),
    ] {
        assert_eq!(log::rfc3339(seconds), text);
    }
}
