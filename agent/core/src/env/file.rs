//! Files of variables: `NAME='value'` lines, values in single quotes, in which a line may end.

use k8s_openapi::api::core::v1::FileKeySelector;

use super::{EnvProblem, Sources};

/// The value of a key of a file; `None` when it is optional and not there.
pub(super) fn value(sources: &Sources, selector: &FileKeySelector) -> Result<Option<String>, EnvProblem> {
    let FileKeySelector { volume_name, path, key, optional } = selector;
    let optional = *optional == Some(true);
    let content = match sources.files.get(&(volume_name.clone(), path.clone())) {
        Some(Ok(content)) => content,
        Some(Err(why)) => return Err(EnvProblem::File(why.clone())),
        None => {
            let text = format!("cannot find the volume {volume_name:?} referenced by FileKeyRef");
            return Err(EnvProblem::File(text));
        }
    };
    match find(content, key) {
        Err(_) => Err(EnvProblem::File("couldn't parse env file".into())),
        Ok(value) if value.is_empty() && optional => Ok(None),
        Ok(value) if value.is_empty() => {
            let text = format!("environment variable key {key:?} not found in file {path:?}");
            Err(EnvProblem::File(text))
        }
        Ok(value) => Ok(Some(value)),
    }
}

/// The value of a key; empty when there is none. What follows it is not read.
fn find(content: &str, key: &str) -> Result<String, ()> {
    const BLANK: [char; 2] = [' ', '\t'];
    let mut rest = content;
    while !rest.is_empty() {
        let end = rest.find('\n').map_or(rest.len(), |at| at + 1);
        let line = rest[..end].trim();
        if line.is_empty() || line.starts_with('#') {
            rest = &rest[end..];
            continue;
        }
        let (name, value) = rest.split_once('=').filter(|(name, _)| name.len() < end).ok_or(())?;
        let name = name.trim_start_matches(BLANK);
        if name.is_empty() || name.ends_with(BLANK) {
            return Err(());
        }
        if value.starts_with(BLANK) {
            // As in a shell, that assigns nothing.
            if name == key {
                return Ok(String::new());
            }
            rest = &rest[end..];
            continue;
        }
        let (text, after) = value.strip_prefix('\'').and_then(|v| v.split_once('\'')).ok_or(())?;
        let (tail, after) = after.split_once('\n').unwrap_or((after, ""));
        let tail = tail.trim();
        if !(tail.is_empty() || tail.starts_with('#')) {
            return Err(());
        }
        if name == key {
            return Ok(text.to_owned());
        }
        rest = after;
    }
    Ok(String::new())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_variables() {
        let text = "# x\n\n  A='1'\nB='two\nlines' # y\nC= 'none'\n";
        for (key, value) in [("A", "1"), ("B", "two\nlines"), ("C", ""), ("D", "")] {
            assert_eq!(find(text, key).as_deref(), Ok(value), "{key}");
        }
        for bad in ["A", "=1", "A ='1'", "A=1", "A='1", "A='1'x", "A=\nB='1'"] {
            assert!(find(bad, "Z").is_err(), "{bad}");
        }
    }
}
