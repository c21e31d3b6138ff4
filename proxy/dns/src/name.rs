//! Domain names, in the form they have on the wire: each label after its length, then a zero. Pure.

use std::fmt;

/// What a name may be long, in bytes on the wire.
const NAME_BYTES_MAX: usize = 255;
const LABEL_BYTES_MAX: usize = 63;

/// A name, with letters in lower case: DNS compares without regard to case.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name(Box<[u8]>);

impl Name {
    /// The root.
    #[must_use]
    pub fn root() -> Name {
        Name(Box::new([0]))
    }

    /// From text such as `web.default.svc.cluster.local`, with or without a final dot; `None` where it is no name.
    #[must_use]
    pub fn from_text(text: &str) -> Option<Name> {
        let text = text.strip_suffix('.').unwrap_or(text);
        if text.is_empty() {
            return Some(Name::root());
        }
        let labels: Vec<&[u8]> = text.split('.').map(str::as_bytes).collect();
        Name::from_labels(labels.into_iter())
    }

    /// From labels, the first of the name first; `None` where they make no name.
    pub fn from_labels<'a>(labels: impl Iterator<Item = &'a [u8]>) -> Option<Name> {
        let mut wire = Vec::with_capacity(64);
        for label in labels {
            if label.is_empty() || label.len() > LABEL_BYTES_MAX {
                return None;
            }
            wire.push(u8::try_from(label.len()).ok()?);
            wire.extend(label.iter().map(u8::to_ascii_lowercase));
        }
        wire.push(0);
        (wire.len() <= NAME_BYTES_MAX).then(|| Name(wire.into()))
    }

    /// The name's bytes on the wire.
    #[must_use]
    pub fn wire(&self) -> &[u8] {
        &self.0
    }

    /// Its labels, the first of the name first.
    pub fn labels(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest = &self.0[..];
        std::iter::from_fn(move || {
            let (length, after) = rest.split_first().filter(|(length, _)| **length > 0)?;
            let (label, after) = after.split_at(usize::from(*length));
            rest = after;
            Some(label)
        })
    }

    /// The labels before `zone`, where the name is in it.
    #[must_use]
    pub fn within(&self, zone: &Name) -> Option<Vec<&[u8]>> {
        let before = self.0.len().checked_sub(zone.0.len())?;
        let (mut at, mut labels) = (0, Vec::new());
        while at < before {
            let end = at + 1 + usize::from(self.0[at]);
            labels.push(&self.0[at + 1..end]);
            at = end;
        }
        (at == before && self.0[at..] == zone.0[..]).then_some(labels)
    }

    /// This name with labels before it.
    pub fn below<'a>(&'a self, labels: impl Iterator<Item = &'a [u8]>) -> Option<Name> {
        Name::from_labels(labels.chain(self.labels()))
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for label in self.labels() {
            write!(f, "{}.", label.escape_ascii())?;
        }
        if self.0.len() == 1 { f.write_str(".") } else { Ok(()) }
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// Reads a name that begins at `at` in a message; pointers only lead back, so it ends. Gives it and where what
/// follows it begins.
pub fn read(message: &[u8], at: usize) -> Option<(Name, usize)> {
    let (mut at, mut after, mut bound) = (at, None, at);
    let mut wire = Vec::with_capacity(64);
    loop {
        let length = *message.get(at)?;
        match length {
            0 => {
                wire.push(0);
                let name = (wire.len() <= NAME_BYTES_MAX).then(|| Name(wire.into()))?;
                return Some((name, after.unwrap_or(at + 1)));
            }
            1..=0x3f => {
                let end = at + 1 + usize::from(length);
                wire.push(length);
                wire.extend(message.get(at + 1..end)?.iter().map(u8::to_ascii_lowercase));
                if wire.len() > NAME_BYTES_MAX {
                    return None;
                }
                at = end;
            }
            0xc0.. => {
                let target = usize::from(length & 0x3f) << 8 | usize::from(*message.get(at + 1)?);
                after.get_or_insert(at + 2);
                if target >= bound {
                    return None;
                }
                (bound, at) = (target, target);
            }
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn text_and_zones() {
        let name = Name::from_text("Web.Default.svc.cluster.local.").unwrap();
        assert_eq!(name.to_string(), "web.default.svc.cluster.local.");
        let zone = Name::from_text("cluster.local").unwrap();
        assert_eq!(name.within(&zone).unwrap(), [&b"web"[..], b"default", b"svc"]);
        assert_eq!(zone.within(&zone).unwrap().len(), 0);
        assert_eq!(zone.within(&name), None);
        // the last bytes are the same, the labels are not
        let trap = Name::from_labels([&b"x\x07cluster\x05local"[..]].into_iter()).unwrap();
        assert_eq!(trap.within(&zone), None);
        assert_eq!(zone.below([&b"svc"[..]].into_iter()).unwrap().to_string(), "svc.cluster.local.");
        assert_eq!(Name::from_text("").unwrap(), Name::root());
        for bad in ["a..b", &"x".repeat(64), &"abcdefgh.".repeat(29)] {
            assert_eq!(Name::from_text(bad), None, "{bad}");
        }
    }

    #[test]
    fn pointers_that_lead_nowhere() {
        for message in [&[0xc0, 0][..], &[0xc0, 2, 0], &[1, b'a', 0xc0, 0], &[0x40], &[5, b'a'], &[0xc0], &[]]
        {
            assert_eq!(read(message, 0), None, "{message:?}");
        }
        let message = [1, b'a', 0, 1, b'B', 0xc0, 0, 9];
        assert_eq!(read(&message, 3), Some((Name::from_text("b.a").unwrap(), 7)));
    }

    proptest! {
        #[test]
        fn any_bytes(message in prop::collection::vec(any::<u8>(), 0..600), at in 0..600usize) {
            if let Some((name, after)) = read(&message, at) {
                prop_assert!(after <= message.len() && name.wire().len() <= NAME_BYTES_MAX);
                prop_assert_eq!(read(name.wire(), 0), Some((name.clone(), name.wire().len())));
                prop_assert_eq!(Name::from_labels(name.labels()), Some(name.clone()));
            }
        }
    }
}
