//! The rules for one Rust file: size, header, what may not stand in it.

use super::Finding;
use super::mask::{code, has_word};

const FILE_LINES_MAX: usize = 500;
const TEST_LINES_MAX: usize = 150;
const FUNCTION_LINES_MAX: usize = 70;
const VARIANTS_MAX: usize = 12;
/// The only place where unsafe code may stand.
const UNSAFE_HOME: &str = "runtime/linux/";
/// Words that say nothing about what a file or type is.
const EMPTY_NAMES: [&str; 7] = ["manager", "helper", "helpers", "util", "utils", "common", "misc"];
/// The folders of the cores, and what a pure function must not know.
const CORES: [&str; 4] = ["agent/core/", "proxy/rules/", "control/scheduler/", "control/controllers/"];
const EFFECTS: [&str; 16] = [
    "std::fs",
    "std::io",
    "std::env",
    "std::process",
    "std::thread",
    "TcpStream",
    "TcpListener",
    "UdpSocket",
    "UnixStream",
    "SystemTime",
    "Instant::now",
    "Timestamp::now",
    "Zoned::now",
    "tokio",
    "libc",
    "rustix",
];

/// One file as the rules see it.
struct File<'a> {
    path: &'a str,
    /// As written.
    lines: Vec<&'a str>,
    /// The same without comments and literals.
    code: Vec<&'a str>,
    /// Where the trailing `#[cfg(test)] mod tests` begins; the number of lines without one.
    tests_at: usize,
    /// The whole file is a test.
    is_test: bool,
}

/// Checks one Rust file.
pub(super) fn check(path: &str, text: &str) -> Vec<Finding> {
    let masked = code(text);
    let lines: Vec<&str> = text.lines().collect();
    let code: Vec<&str> = masked.lines().collect();
    let tests_at = trailing_tests(&code);
    let file = File { path, tests_at, is_test: is_test(path), lines, code };
    let mut found = Vec::new();
    for rule in [size, header, names, leftovers, unwraps, unsafety, functions, errors, purity] {
        rule(&file, &mut found);
    }
    found
}

fn is_test(path: &str) -> bool {
    path.ends_with("/tests.rs") || path.starts_with("tests/") || path.contains("/tests/")
}

fn trailing_tests(code: &[&str]) -> usize {
    let module = code.iter().rposition(|l| l.trim_start() == *l && l.starts_with("mod tests {"));
    match module {
        Some(at) if at > 0 && code[at - 1].trim() == "#[cfg(test)]" => at - 1,
        _ => code.len(),
    }
}

fn size(file: &File, found: &mut Vec<Finding>) {
    if file.tests_at > FILE_LINES_MAX {
        let text = format!("{} lines, at most {FILE_LINES_MAX} are allowed", file.tests_at);
        found.push(Finding::new(file.path, FILE_LINES_MAX + 1, text, "split it by what its parts are about"));
    }
    let tests = file.lines.len() - file.tests_at;
    if tests > TEST_LINES_MAX {
        let text = format!("{tests} lines of tests below the code, at most {TEST_LINES_MAX} are allowed");
        found.push(Finding::new(
            file.path,
            file.tests_at + 1,
            text,
            "move them to a file tests.rs of the module",
        ));
    }
}

fn header(file: &File, found: &mut Vec<Finding>) {
    if !file.lines.first().is_some_and(|l| l.starts_with("//! ")) {
        let remedy = "begin with a line `//! …` that says what the reader finds here";
        found.push(Finding::new(file.path, 1, "the first line is no `//!` comment", remedy));
    }
    let name = file.path.rsplit('/').next().unwrap_or_default();
    let is_root = (name == "lib.rs" || name == "main.rs") && !file.path.contains("/tests/");
    let is_root = is_root && !file.path.starts_with(UNSAFE_HOME);
    if is_root && !file.code.iter().any(|l| l.contains("#![forbid(unsafe_code)]")) {
        found.push(Finding::new(
            file.path,
            1,
            "the crate does not forbid unsafe code",
            "add #![forbid(unsafe_code)]",
        ));
    }
}

fn names(file: &File, found: &mut Vec<Finding>) {
    let stem = file.path.rsplit('/').next().unwrap_or_default().trim_end_matches(".rs");
    let remedy = "name it after what it holds or does, with a word of the field";
    if EMPTY_NAMES.contains(&stem) {
        found.push(Finding::new(file.path, 1, format!("`{stem}` says nothing"), remedy));
    }
    for (number, line) in numbered(&file.code) {
        let mut words = line.split(|c: char| !c.is_alphanumeric() && c != '_');
        while let Some(word) = words.next() {
            let is_type = matches!(word, "struct" | "enum" | "trait" | "type");
            let Some(name) = is_type.then(|| words.next()).flatten() else { continue };
            if ["Manager", "Helper", "Util", "Utils"].iter().any(|e| name.ends_with(e)) {
                found.push(Finding::new(file.path, number, format!("`{name}` says nothing"), remedy));
            }
        }
    }
}

fn leftovers(file: &File, found: &mut Vec<Finding>) {
    for (number, line) in numbered(&file.lines) {
        let code = file.code[number - 1];
        let comment = line.get(code.trim_end().len()..).unwrap_or_default();
        for word in ["TODO", "FIXME", "XXX", "HACK"] {
            if has_word(comment, word) {
                let remedy = "do it, or write an issue and say here what is so today";
                found.push(Finding::new(file.path, number, format!("{word} in a comment"), remedy));
            }
        }
        for word in ["todo!", "unimplemented!", "dbg!"] {
            if code.contains(word) && has_word(code, word.trim_end_matches('!')) {
                found.push(Finding::new(file.path, number, format!("{word} in the code"), "write the code"));
            }
        }
        if code.contains("#[ignore") {
            let remedy = "make it run, or remove it: a test that nobody runs shows nothing";
            found.push(Finding::new(file.path, number, "an ignored test", remedy));
        }
        if code.trim().is_empty() && is_commented_code(line.trim()) {
            found.push(Finding::new(file.path, number, "commented-out code", "remove it: git remembers"));
        }
    }
}

fn is_commented_code(line: &str) -> bool {
    let Some(text) = line.strip_prefix("// ").or_else(|| line.strip_prefix("//")) else { return false };
    if text.starts_with(['/', '!']) {
        return false;
    }
    let ends = text.ends_with(';') || text.ends_with('{') || text.ends_with("},");
    let starts = ["let ", "use ", "fn ", "pub ", "if ", "for ", "match ", "return ", "#["];
    text == "}"
        || (ends && (text.contains("::") || text.contains(" = ") || text.ends_with(");")))
        || (ends && starts.iter().any(|s| text.starts_with(s)))
}

fn unwraps(file: &File, found: &mut Vec<Finding>) {
    if file.is_test {
        return;
    }
    for (number, line) in numbered(&file.code[..file.tests_at]) {
        if line.contains(".unwrap()") {
            let remedy = "give the error on, or .expect(\"why it cannot fail\")";
            found.push(Finding::new(file.path, number, "unwrap() outside tests", remedy));
        }
    }
}

fn unsafety(file: &File, found: &mut Vec<Finding>) {
    for (number, line) in numbered(&file.code) {
        if !has_word(line, "unsafe") || line.contains("extern \"") {
            continue;
        }
        if !file.path.starts_with(UNSAFE_HOME) {
            let remedy = "use rustix, or put a safe function for it into runtime/linux";
            found.push(Finding::new(file.path, number, "unsafe outside runtime/linux", remedy));
            continue;
        }
        let above = &file.lines[number.saturating_sub(7)..number];
        let reasoned = above.iter().any(|l| l.contains("SAFETY:") || l.contains("# Safety"));
        if !reasoned && !line.contains("unsafe fn") {
            let remedy = "say above it which precondition holds and who upholds it: // SAFETY: …";
            found.push(Finding::new(file.path, number, "unsafe without a reason", remedy));
        }
    }
}

fn functions(file: &File, found: &mut Vec<Finding>) {
    for (number, line) in numbered(&file.code) {
        let Some(name) = function_name(line) else { continue };
        let length = body_lines(&file.code[number - 1..]);
        if length > FUNCTION_LINES_MAX {
            let text =
                format!("`{name}` has {length} lines of code, at most {FUNCTION_LINES_MAX} are allowed");
            found.push(Finding::new(file.path, number, text, "name its parts"));
        }
    }
}

fn function_name(line: &str) -> Option<&str> {
    let (before, after) = line.split_once("fn ")?;
    let starts = before.is_empty() || before.ends_with(' ');
    let name = after.split(|c: char| !c.is_alphanumeric() && c != '_').next()?;
    (starts && !name.is_empty()).then_some(name)
}

/// The lines of the first `{ … }` block that are not empty, without those of its braces.
fn body_lines(code: &[&str]) -> usize {
    let (mut depth, mut lines) = (0usize, 0);
    for line in code {
        let inside = depth > 0;
        for c in line.chars() {
            match c {
                '{' => depth += 1,
                '}' if depth == 1 => return lines,
                '}' => depth = depth.saturating_sub(1),
                ';' if depth == 0 => return 0,
                _ => {}
            }
        }
        lines += usize::from(inside && !line.trim().is_empty());
    }
    lines
}

fn errors(file: &File, found: &mut Vec<Finding>) {
    for (number, line) in numbered(&file.code) {
        let Some(rest) = line
            .trim_start()
            .trim_start_matches("pub(crate) ")
            .trim_start_matches("pub ")
            .strip_prefix("enum ")
        else {
            continue;
        };
        let name = rest.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default();
        if !name.ends_with("Error") {
            continue;
        }
        let variants = variants(&file.code[number - 1..]);
        if variants > VARIANTS_MAX {
            let text = format!("`{name}` has {variants} variants, at most {VARIANTS_MAX} are allowed");
            found.push(Finding::new(
                file.path,
                number,
                text,
                "one enum a module, each with its own failures",
            ));
        }
    }
}

/// How many variants the enum that starts here has: names that begin a line at depth one.
fn variants(code: &[&str]) -> usize {
    let (mut depth, mut count) = (0i32, 0);
    for line in code {
        let starts_name = line.trim_start().starts_with(char::is_uppercase);
        count += usize::from(depth == 1 && starts_name);
        for c in line.chars() {
            match c {
                '{' | '(' | '[' => depth += 1,
                '}' | ')' | ']' => depth -= 1,
                _ => {}
            }
        }
        if depth == 0 && line.contains('}') {
            break;
        }
    }
    count
}

fn purity(file: &File, found: &mut Vec<Finding>) {
    if !CORES.iter().any(|core| file.path.starts_with(core)) || file.is_test {
        return;
    }
    for (number, line) in numbered(&file.code[..file.tests_at]) {
        for word in EFFECTS {
            if has_word(line, word) {
                let remedy =
                    "a core is a pure function: let the process pass the value in, or return an action";
                found.push(Finding::new(file.path, number, format!("`{word}` in a core"), remedy));
            }
        }
    }
}

fn numbered<'a>(lines: &'a [&'a str]) -> impl Iterator<Item = (usize, &'a str)> {
    lines.iter().enumerate().map(|(at, line)| (at + 1, *line))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(path: &str, source: &str) -> Vec<String> {
        check(path, source).into_iter().map(|f| format!("{}:{}", f.line, f.text)).collect()
    }

    #[test]
    fn a_good_file_passes() {
        let source = "//! Good.\n\n// Prose; with a semicolon.\nfn f() {}\n\n#[cfg(test)]\nmod tests {\n    fn g() { x.unwrap() }\n}\n";
        assert_eq!(texts("a/src/b.rs", source), Vec::<String>::new());
    }

    #[test]
    fn each_rule_finds_its_line() {
        let long = format!("//! L.\nfn long() {{\n{}}}\n", "    f();\n".repeat(71));
        let huge = format!("//! H.\n{}", "const A: u8 = 0;\n".repeat(500));
        let wide = format!("//! W.\npub enum WideError {{\n{}}}\n", "    A(B),\n".repeat(13));
        for (path, source, expected) in [
            ("a/src/b.rs", "fn f() {}\n", "1:the first line is no `//!` comment"),
            ("a/src/lib.rs", "//! A.\n", "1:the crate does not forbid unsafe code"),
            ("a/src/util.rs", "//! A.\n", "1:`util` says nothing"),
            ("a/src/b.rs", "//! A.\nstruct PodManager;\n", "2:`PodManager` says nothing"),
            ("a/src/b.rs", "//! A.\n// TODO: b\n", "2:TODO in a comment"),
            ("a/src/b.rs", "//! A.\nfn f() { todo!() }\n", "2:todo! in the code"),
            ("a/src/b.rs", "//! A.\n// let a = f(b);\n", "2:commented-out code"),
            ("a/src/b.rs", "//! A.\nfn f() { g().unwrap(); }\n", "2:unwrap() outside tests"),
            ("a/src/b.rs", "//! A.\nfn f() { unsafe { g() } }\n", "2:unsafe outside runtime/linux"),
            ("runtime/linux/src/b.rs", "//! A.\nfn f() { unsafe { g() } }\n", "2:unsafe without a reason"),
            ("a/src/b.rs", &long, "2:`long` has 71 lines of code, at most 70 are allowed"),
            ("a/src/b.rs", &huge, "501:501 lines, at most 500 are allowed"),
            ("a/src/b.rs", &wide, "2:`WideError` has 13 variants, at most 12 are allowed"),
            ("agent/core/src/b.rs", "//! A.\nuse std::fs;\n", "2:`std::fs` in a core"),
            ("a/src/b.rs", "//! A.\n#[ignore]\nfn f() {}\n", "2:an ignored test"),
        ] {
            assert_eq!(texts(path, source), [expected], "{path}: {source:.60}");
        }
    }
}
