//! The query of a request, decoded once; each value is read as upstream's option structs read it.

use proto_kube::Status;

/// Decoded names and values, in the order of the request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// Decodes what stands behind the `?`. What is not valid UTF-8 after decoding is read with replacement characters.
    #[must_use]
    pub fn parse(query: &str) -> Self {
        let pairs = query.split('&').filter(|pair| !pair.is_empty());
        Self(pairs.map(|pair| pair.split_once('=').unwrap_or((pair, ""))).map(decode_pair).collect())
    }

    /// The first value of a name; `None` when the name is missing.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    /// The first value of a name; empty when the name is missing.
    #[must_use]
    pub fn text(&self, name: &str) -> &str {
        self.get(name).unwrap_or_default()
    }

    /// All values of a name.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    /// A flag: there and neither `false` nor `0`, as upstream converts it; an empty value counts as true when the
    /// name stands there.
    #[must_use]
    pub fn flag(&self, name: &str) -> bool {
        self.get(name).is_some_and(|v| !v.eq_ignore_ascii_case("false") && v != "0")
    }

    /// A whole number; `None` when the name is missing or empty.
    ///
    /// # Errors
    /// 400 when the value is no number.
    pub fn number(&self, name: &str) -> Result<Option<i64>, Status> {
        match self.text(name) {
            "" => Ok(None),
            text => text.parse().map(Some).map_err(|_| {
                Status::bad_request(format!(
                    "unable to parse query parameter {name}: strconv.ParseInt: parsing \"{text}\": invalid syntax"
                ))
            }),
        }
    }
}

fn decode_pair((name, value): (&str, &str)) -> (String, String) {
    (decode(name, true), decode(value, true))
}

/// Undoes percent encoding; `plus` says whether a `+` is a space, as in a query.
#[must_use]
pub fn decode(text: &str, plus: bool) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let (byte, tail) = match (first, tail) {
            (b'%', [high, low, tail @ ..]) => match (digit(*high), digit(*low)) {
                (Some(high), Some(low)) => (high << 4 | low, tail),
                _ => (b'%', &rest[1..]),
            },
            (b'+', tail) if plus => (b' ', tail),
            (byte, tail) => (*byte, tail),
        };
        bytes.push(byte);
        rest = tail;
    }
    String::from_utf8(bytes).unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned())
}

/// Percent-encodes what is not unreserved (RFC 3986, 2.3).
#[must_use]
pub fn encode(text: &str) -> String {
    use std::fmt::Write as _;
    text.bytes().fold(String::with_capacity(text.len()), |mut out, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
        out
    })
}

fn digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|d| u8::try_from(d).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_decoded() {
        let query =
            Query::parse("fieldSelector=metadata.name%3Da&watch=1&dryRun=All&dryRun=x&a+b=c+d&bad=%zz&end=%");
        assert_eq!(query.text("fieldSelector"), "metadata.name=a");
        assert_eq!(query.all("dryRun").collect::<Vec<_>>(), ["All", "x"]);
        assert_eq!(query.text("a b"), "c d");
        assert_eq!((query.text("bad"), query.text("end"), query.text("none")), ("%zz", "%", ""));
    }

    #[test]
    fn flags_and_numbers() {
        let query = Query::parse("a=true&b=1&c=false&d=0&e&f=False&limit=500&bad=x");
        assert_eq!(
            ["a", "b", "c", "d", "e", "f", "g"].map(|f| query.flag(f)),
            [true, true, false, false, true, false, false]
        );
        assert_eq!(query.number("limit"), Ok(Some(500)));
        assert_eq!(query.number("none"), Ok(None));
        assert_eq!(query.number("bad").unwrap_err().code, 400);
    }
}
