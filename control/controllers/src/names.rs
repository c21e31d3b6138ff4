//! Names of what controllers make. The same decision makes the same name, so that one that is taken twice makes nothing
//! twice.

use serde_json::Value;

/// Letters and digits that spell no words.
const ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";
/// Letters at the end of a name.
const SUFFIX: usize = 5;
/// What stands before them may be so long that the name still fits in a host name.
const PREFIX_MAX: usize = 63 - SUFFIX;

/// FNV-1a of whatever is put in, in this order. It is the same in every version: labels are made of it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Hash(u64);

impl Hash {
    pub(crate) fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    /// A text, told apart from one that is put in after it.
    pub(crate) fn text(self, text: &str) -> Self {
        let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        Self(step(text.bytes().fold(self.0, step), 0xff))
    }

    pub(crate) fn number(self, number: usize) -> Self {
        self.text(&number.to_string())
    }

    /// A value; the order of members does not matter.
    pub(crate) fn value(self, value: &Value) -> Self {
        match value {
            Value::Array(items) => items.iter().fold(self.text("["), Self::value).text("]"),
            Value::Object(members) => {
                let mut members: Vec<_> = members.iter().collect();
                members.sort_unstable_by_key(|(key, _)| *key);
                members.into_iter().fold(self.text("{"), |hash, (key, v)| hash.text(key).value(v)).text("}")
            }
            Value::String(text) => self.text("s").text(text),
            other => self.text("v").text(&other.to_string()),
        }
    }

    /// All bits depend on all that was put in.
    fn mixed(self) -> u64 {
        let mut x = self.0;
        x = (x ^ (x >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
        x = (x ^ (x >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
        x ^ (x >> 33)
    }

    /// Up to ten letters, of the looks that upstream gives to the hash of a template.
    pub(crate) fn label(self) -> String {
        let digits = (self.mixed() >> 32).to_string();
        digits.bytes().map(|digit| char::from(ALPHABET[usize::from(digit) % ALPHABET.len()])).collect()
    }

    /// Five letters, of the looks of what an API server adds to a `generateName`.
    pub(crate) fn suffix(self) -> String {
        let (mut rest, base) = (self.mixed(), ALPHABET.len() as u64);
        let mut letter = || {
            let at = usize::try_from(rest % base).expect("less than 27");
            rest /= base;
            char::from(ALPHABET[at])
        };
        (0..SUFFIX).map(|_| letter()).collect()
    }
}

/// Names that begin with `prefix` and are not taken, without end.
pub(crate) fn fresh<T: Fn(&str) -> bool>(
    prefix: &str,
    seed: Hash,
    taken: T,
) -> impl Iterator<Item = String> + use<T> {
    let prefix = prefix.get(..PREFIX_MAX).unwrap_or(prefix).to_owned();
    let mut given = std::collections::BTreeSet::new();
    (0..).filter_map(move |ordinal| {
        let name = format!("{prefix}{}", seed.number(ordinal).suffix());
        (!taken(&name) && given.insert(name.clone())).then_some(name)
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_hash_is_the_same_for_ever() {
        let template =
            json!({"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c"}]}});
        assert_eq!(Hash::new().value(&template).label(), "549c9ff95");
        assert_eq!(Hash::new().text("a").suffix(), "cx54p");
        assert_ne!(Hash::new().text("ab").text("c").0, Hash::new().text("a").text("bc").0);
        assert_ne!(Hash::new().value(&json!(["a", "b"])).0, Hash::new().value(&json!([["a"], "b"])).0);
    }

    #[test]
    fn names_are_new_each_and_the_same_again() {
        let names = |taken: &str| -> Vec<String> {
            fresh("web-", Hash::new().text("uid"), |name| name == taken).take(500).collect()
        };
        let first = names("");
        assert!(first.iter().all(|name| name.len() == 9 && proto_kube::name::label(name).is_empty()));
        assert_eq!(first.iter().collect::<std::collections::BTreeSet<_>>().len(), 500);
        assert_eq!(names(""), first);
        assert_eq!(names(&first[0])[..499], first[1..]);
        let long = fresh(&"a".repeat(100), Hash::new(), |_| false).next().unwrap();
        assert_eq!(long.len(), 63);
    }
}
