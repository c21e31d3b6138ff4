//! Reads runc's command line: options before and after the container's id, in the forms `--name value`,
//! `--name=value` and `-n value`. Unknown ones are refused.

use crate::error::{ErrorKind, RuntimeError};

/// What a command takes.
#[derive(Debug)]
pub(super) struct Command {
    pub(super) name: &'static str,
    pub(super) about: &'static str,
    /// What follows the options, for the usage text.
    pub(super) operands: &'static str,
    pub(super) options: &'static [Flag],
    /// Everything after this many operands belongs to a program, options or not.
    pub(super) own_operands: usize,
}

/// An option.
#[derive(Debug)]
pub(super) struct Flag {
    /// Names without dashes, the long one first.
    pub(super) names: &'static [&'static str],
    pub(super) value: bool,
}

/// An option with a value.
pub(super) const fn valued(names: &'static [&'static str]) -> Flag {
    Flag { names, value: true }
}

/// An option without.
pub(super) const fn switch(names: &'static [&'static str]) -> Flag {
    Flag { names, value: false }
}

/// What was given.
#[derive(Debug, Default)]
pub(super) struct Given {
    options: Vec<(&'static str, String)>,
    pub(super) operands: Vec<String>,
}

fn usage(message: String) -> RuntimeError {
    RuntimeError::new(ErrorKind::InvalidSpec, message)
}

impl Given {
    /// Reads arguments up to the first operand beyond `own_operands`; returns what is left too.
    pub(super) fn read(
        arguments: &[String],
        flags: &'static [Flag],
        own_operands: usize,
    ) -> Result<(Self, Vec<String>), RuntimeError> {
        let mut given = Self::default();
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            let option = argument.strip_prefix('-').filter(|name| !name.is_empty());
            let Some(option) = option.map(|name| name.strip_prefix('-').unwrap_or(name)) else {
                if given.operands.len() == own_operands {
                    return Ok((given, [argument.clone()].into_iter().chain(rest.cloned()).collect()));
                }
                given.operands.push(argument.clone());
                continue;
            };
            if option.is_empty() {
                let rest: Vec<String> = rest.cloned().collect();
                let own = own_operands.saturating_sub(given.operands.len()).min(rest.len());
                given.operands.extend_from_slice(&rest[..own]);
                return Ok((given, rest[own..].to_vec()));
            }
            let (name, value) = match option.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (option, None),
            };
            let Some(flag) = flags.iter().find(|flag| flag.names.contains(&name)) else {
                return Err(usage(format!("unknown option {argument}; see --help")));
            };
            let value = match (flag.value, value) {
                (true, None) => {
                    rest.next().cloned().ok_or_else(|| usage(format!("option {argument} needs a value")))?
                }
                (_, Some(value)) => value,
                (false, None) => "true".to_owned(),
            };
            given.options.push((flag.names[0], value));
        }
        Ok((given, Vec::new()))
    }

    /// The value of an option, the last if it was given several times.
    pub(super) fn value(&self, name: &str) -> Option<&str> {
        self.options.iter().rev().find(|(own, _)| *own == name).map(|(_, value)| value.as_str())
    }

    /// All values of an option.
    pub(super) fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.options.iter().filter(move |(own, _)| *own == name).map(|(_, value)| value.as_str())
    }

    /// Whether a switch is on.
    pub(super) fn on(&self, name: &str) -> bool {
        self.value(name).is_some_and(|value| value != "false")
    }

    /// A number.
    pub(super) fn number<T: std::str::FromStr>(&self, name: &str) -> Result<Option<T>, RuntimeError> {
        match self.value(name) {
            Some(text) => text
                .parse()
                .map(Some)
                .map_err(|_| usage(format!("option --{name}: {text:?} is not a number"))),
            None => Ok(None),
        }
    }

    /// The container's id.
    pub(super) fn id(&self) -> Result<&str, RuntimeError> {
        self.operands
            .first()
            .map(String::as_str)
            .ok_or_else(|| usage("name the container: its id is missing".to_owned()))
    }
}
