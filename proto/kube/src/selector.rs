//! Label and field selectors, as query parameters and as objects.

use std::fmt;

use serde_json::Value;

use crate::object;

/// What a label must be like.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Operator {
    In(Vec<String>),
    NotIn(Vec<String>),
    Exists,
    DoesNotExist,
    GreaterThan(i64),
    LessThan(i64),
}

/// One condition on one label.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Requirement {
    key: String,
    operator: Operator,
}

impl Requirement {
    fn admits(&self, value: Option<&str>) -> bool {
        let number = || value.and_then(|v| v.parse::<i64>().ok());
        match &self.operator {
            Operator::In(values) => value.is_some_and(|v| values.iter().any(|x| x == v)),
            Operator::NotIn(values) => value.is_none_or(|v| values.iter().all(|x| x != v)),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
            Operator::GreaterThan(least) => number().is_some_and(|n| n > *least),
            Operator::LessThan(most) => number().is_some_and(|n| n < *most),
        }
    }
}

/// A selector of labels: all of its requirements must hold. The default admits everything.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Labels(Vec<Requirement>);

/// Why a text is no selector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotASelector(String);

impl fmt::Display for NotASelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for NotASelector {}

fn wrong(why: impl Into<String>) -> NotASelector {
    NotASelector(why.into())
}

impl Labels {
    /// Reads the form of the `labelSelector` parameter: `a=b,c!=d,e in (f,g),h,!i,j>1`.
    ///
    /// # Errors
    /// When the text is not of that form.
    pub fn parse(text: &str) -> Result<Self, NotASelector> {
        let mut requirements = Vec::new();
        for part in parts(text)? {
            requirements.push(requirement(part.trim())?);
        }
        Ok(Self(requirements))
    }

    /// Of a `LabelSelector` object (`matchLabels`, `matchExpressions`). A null selects nothing: `None`.
    ///
    /// # Errors
    /// When an operator is unknown.
    pub fn of(selector: &Value) -> Result<Option<Self>, NotASelector> {
        if selector.is_null() {
            return Ok(None);
        }
        let mut all = Self::of_map(&selector["matchLabels"]).0;
        for expression in object::items(selector, &["matchExpressions"]) {
            let values = || {
                object::items(expression, &["values"]).filter_map(Value::as_str).map(str::to_owned).collect()
            };
            let operator = match object::text(expression, &["operator"]) {
                "In" => Operator::In(values()),
                "NotIn" => Operator::NotIn(values()),
                "Exists" => Operator::Exists,
                "DoesNotExist" => Operator::DoesNotExist,
                other => return Err(wrong(format!("\"{other}\" is not a valid label selector operator"))),
            };
            all.push(Requirement { key: object::text(expression, &["key"]).to_owned(), operator });
        }
        Ok(Some(Self(all)))
    }

    /// Of a map of labels that must all be there.
    #[must_use]
    pub fn of_map(labels: &Value) -> Self {
        let one = |(key, value): (&String, &Value)| Requirement {
            key: key.clone(),
            operator: Operator::In(vec![value.as_str().unwrap_or_default().to_owned()]),
        };
        Self(labels.as_object().into_iter().flatten().map(one).collect())
    }

    /// Whether it admits everything.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether labels, looked up by key, are admitted.
    pub fn admits<'a>(&self, label: impl Fn(&str) -> Option<&'a str>) -> bool {
        self.0.iter().all(|r| r.admits(label(&r.key)))
    }

    /// Whether an object is admitted.
    #[must_use]
    pub fn selects(&self, object: &Value) -> bool {
        self.admits(|key| object.get("metadata")?.get("labels")?.get(key)?.as_str())
    }
}

/// Splits at the commas outside of parentheses.
fn parts(text: &str) -> Result<Vec<&str>, NotASelector> {
    let (mut parts, mut start, mut inside) = (Vec::new(), 0, false);
    for (at, c) in text.char_indices() {
        match c {
            '(' if !inside => inside = true,
            ')' if inside => inside = false,
            '(' | ')' => {
                return Err(wrong(format!("unable to parse requirement: found '{c}' in \"{text}\"")));
            }
            ',' if !inside => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    if inside {
        return Err(wrong(format!("unable to parse requirement: \"{text}\" lacks ')'")));
    }
    if !text.trim().is_empty() {
        parts.push(&text[start..]);
    }
    Ok(parts)
}

fn requirement(part: &str) -> Result<Requirement, NotASelector> {
    let named = |key: &str, operator| {
        let key = key.trim();
        match crate::name::qualified(key).first() {
            Some(why) => {
                Err(wrong(format!("unable to parse requirement: key: Invalid value: \"{key}\": {why}")))
            }
            None => Ok(Requirement { key: key.to_owned(), operator }),
        }
    };
    let value = |text: &str| -> Result<String, NotASelector> {
        let text = text.trim();
        if let Some(operator) = text.chars().find(|c| "=!<>".contains(*c)) {
            return Err(wrong(format!("found '{operator}', expected: ',' or 'end of string'")));
        }
        match crate::name::label_value(text).first() {
            Some(why) => Err(wrong(format!(
                "unable to parse requirement: values[0]: Invalid value: \"{text}\": {why}"
            ))),
            None => Ok(text.to_owned()),
        }
    };
    if let Some(key) = part.strip_prefix('!') {
        return named(key, Operator::DoesNotExist);
    }
    if let Some((head, list)) = part.split_once('(') {
        let list = list
            .strip_suffix(')')
            .ok_or_else(|| wrong(format!("unable to parse requirement: \"{part}\"")))?;
        let values = list.split(',').map(value).collect::<Result<Vec<_>, _>>()?;
        return match head.split_whitespace().collect::<Vec<_>>().as_slice() {
            [key, "in"] => named(key, Operator::In(values)),
            [key, "notin"] => named(key, Operator::NotIn(values)),
            _ => Err(wrong(format!("unable to parse requirement: found '{head}', expected: in, notin"))),
        };
    }
    if let Some((key, text)) = part.split_once("!=") {
        return named(key, Operator::NotIn(vec![value(text)?]));
    }
    if let Some((key, text)) = part.split_once("==").or_else(|| part.split_once('=')) {
        return named(key, Operator::In(vec![value(text)?]));
    }
    let number = |text: &str| {
        let text = text.trim();
        text.parse()
            .map_err(|_| wrong(format!("for 'Gt', 'Lt' operators, the value must be an integer: \"{text}\"")))
    };
    if let Some((key, text)) = part.split_once('>') {
        return named(key, Operator::GreaterThan(number(text)?));
    }
    if let Some((key, text)) = part.split_once('<') {
        return named(key, Operator::LessThan(number(text)?));
    }
    named(part, Operator::Exists)
}

/// A selector of fields: `metadata.name=web,status.phase!=Running`. The default admits everything.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Fields(Vec<(String, bool, String)>);

impl Fields {
    /// Reads the form of the `fieldSelector` parameter; `\\`, `\,` and `\=` escape.
    ///
    /// # Errors
    /// When the text is not of that form.
    pub fn parse(text: &str) -> Result<Self, NotASelector> {
        let mut terms = Vec::new();
        for term in split_unescaped(text) {
            if term.is_empty() {
                continue;
            }
            let at = unescaped(&term, '=');
            let Some(at) = at else {
                return Err(wrong(format!("invalid selector: '{text}'; can't understand '{term}'")));
            };
            let (key, rest) = term.split_at(at);
            let (key, equal) = key.strip_suffix('!').map_or((key, true), |key| (key, false));
            let operator = if equal && rest.starts_with("==") { "==" } else { "=" };
            terms.push((key.to_owned(), equal, unescape(&rest[operator.len()..])?));
        }
        Ok(Self(terms))
    }

    /// Whether it admits everything.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The names of the fields it asks for.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(key, ..)| key.as_str())
    }

    /// The same selector of fields that have other names elsewhere, as in another version of the object.
    #[must_use]
    pub fn renamed(mut self, name: impl Fn(&str) -> Option<String>) -> Self {
        for (key, ..) in &mut self.0 {
            if let Some(other) = name(key) {
                *key = other;
            }
        }
        self
    }

    /// The value that a field must be equal to, when it must.
    #[must_use]
    pub fn exactly(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, equal, _)| key == name && *equal).map(|(.., value)| value.as_str())
    }

    /// Whether fields, looked up by name, are admitted; a missing one is empty.
    pub fn admits<'a>(&self, field: impl Fn(&str) -> Option<&'a str>) -> bool {
        self.0.iter().all(|(key, equal, value)| (field(key).unwrap_or_default() == value) == *equal)
    }
}

fn unescaped(text: &str, wanted: char) -> Option<usize> {
    let mut escaped = false;
    text.char_indices().find_map(|(at, c)| {
        let found = c == wanted && !escaped;
        escaped = c == '\\' && !escaped;
        found.then_some(at)
    })
}

fn split_unescaped(text: &str) -> Vec<String> {
    let (mut terms, mut rest) = (Vec::new(), text);
    while let Some(at) = unescaped(rest, ',') {
        terms.push(rest[..at].to_owned());
        rest = &rest[at + 1..];
    }
    terms.push(rest.to_owned());
    terms
}

fn unescape(text: &str) -> Result<String, NotASelector> {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        let c = match (c, if c == '\\' { chars.next() } else { None }) {
            ('\\', Some(escaped @ ('\\' | ',' | '='))) => escaped,
            ('\\', other) => {
                let other = other.map(String::from).unwrap_or_default();
                return Err(wrong(format!("invalid field selector: invalid escape sequence: \\{other}")));
            }
            (c @ (',' | '='), _) => {
                let code = u32::from(c);
                return Err(wrong(format!("invalid field selector: unescaped character in value: {code}")));
            }
            (c, _) => c,
        };
        out.push(c);
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn labels() {
        let object = json!({"metadata": {"labels": {"app": "web", "tier": "2", "x/y": ""}}});
        for (text, admitted) in [
            ("", true),
            ("app", true),
            ("!app", false),
            ("app=web", true),
            ("app==web", true),
            ("app = web , tier", true),
            ("app!=web", false),
            ("none!=web", true),
            ("app in (db, web)", true),
            ("app notin (db,web)", false),
            ("none notin (a)", true),
            ("x/y=", true),
            ("tier>1,tier<3", true),
            ("tier>2", false),
        ] {
            assert_eq!(Labels::parse(text).unwrap().selects(&object), admitted, "{text}");
        }
        for text in ["a in b", "a in (b", "a)", "a=b c", "-a=b", "a>x", "=b", ",a"] {
            assert!(Labels::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn label_selectors() {
        let object = json!({"metadata": {"labels": {"app": "web"}}});
        let of = |value| Labels::of(&value).unwrap().map(|s| s.selects(&object));
        assert_eq!(of(json!(null)), None);
        assert_eq!(of(json!({})), Some(true));
        assert_eq!(of(json!({"matchLabels": {"app": "db"}})), Some(false));
        let expressions = json!({"matchExpressions": [{"key": "app", "operator": "In", "values": ["web"]}]});
        assert_eq!(of(expressions), Some(true));
        assert!(Labels::of(&json!({"matchExpressions": [{"key": "app", "operator": "Is"}]})).is_err());
    }

    #[test]
    fn fields() {
        let field = |name: &str| (name == "spec.nodeName").then_some("a,b");
        for (text, admitted) in [
            ("", true),
            (r"spec.nodeName=a\,b", true),
            ("spec.nodeName==a", false),
            ("spec.nodeName!=a,x=", true),
            ("x!=", false),
        ] {
            assert_eq!(Fields::parse(text).unwrap().admits(field), admitted, "{text}");
        }
        assert!(Fields::parse("a").is_err());
        for (text, expected) in [
            ("x===", "unescaped character in value: 61"),
            ("x!==", "unescaped character in value: 61"),
            (r"x=a\b", r"invalid escape sequence: \b"),
            (r"x=a\", r"invalid escape sequence: \"),
        ] {
            let why = Fields::parse(text).unwrap_err().to_string();
            assert_eq!(why, format!("invalid field selector: {expected}"), "{text}");
        }
        assert_eq!(Fields::parse("metadata.name=x").unwrap().exactly("metadata.name"), Some("x"));
    }
}
