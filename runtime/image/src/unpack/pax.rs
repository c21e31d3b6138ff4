//! Extended headers of POSIX tar (pax), with GNU's and SCHILY's keywords.
//!
//! Records are taken by their stated length, so that values may hold any byte: `security.capability` is binary.

/// The records of one extended header, in their order.
#[derive(Debug, Clone, Default)]
pub(super) struct Pax(Vec<(Vec<u8>, Vec<u8>)>);

impl Pax {
    /// Reads `<length> <key>=<value>\n` records.
    pub(super) fn parse(mut data: &[u8]) -> Result<Pax, String> {
        let mut records = Vec::new();
        // Some writers pad the data with zero bytes.
        while data.first().is_some_and(|&byte| byte != 0) {
            let malformed = || "malformed pax header".to_owned();
            let space = data.iter().take(20).position(|&byte| byte == b' ').ok_or_else(malformed)?;
            let length =
                usize::try_from(number(&data[..space]).ok_or_else(malformed)?).map_err(|_| malformed())?;
            if length <= space + 1 || length > data.len() || data[length - 1] != b'\n' {
                return Err(malformed());
            }
            let record = &data[space + 1..length - 1];
            let equals = record.iter().position(|&byte| byte == b'=').ok_or_else(malformed)?;
            records.push((record[..equals].to_vec(), record[equals + 1..].to_vec()));
            data = &data[length..];
        }
        Ok(Pax(records))
    }

    /// These records, and after them those of `local`, which thereby override them.
    pub(super) fn with(&self, local: Pax) -> Pax {
        Pax(self.0.iter().cloned().chain(local.0).collect())
    }

    /// The value that counts for a key; an empty value is none.
    pub(super) fn get(&self, key: &str) -> Option<&[u8]> {
        let (_, value) = self.0.iter().rfind(|(k, _)| k == key.as_bytes())?;
        (!value.is_empty()).then_some(value)
    }

    pub(super) fn number(&self, key: &str) -> Result<Option<u64>, String> {
        self.get(key)
            .map(|value| number(value).ok_or_else(|| format!("pax header {key} is no number")))
            .transpose()
    }

    /// A time in seconds since the epoch, with an optional fraction, as seconds and nanoseconds.
    pub(super) fn time(&self, key: &str) -> Option<(i64, u32)> {
        let text = std::str::from_utf8(self.get(key)?).ok()?;
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        let seconds: i64 = whole.parse().ok()?;
        let nanoseconds: u32 = format!("{fraction:0<9}").get(..9)?.parse().ok()?;
        // The fraction of a time before the epoch counts backwards.
        match (whole.starts_with('-'), nanoseconds) {
            (true, 1..) => Some((seconds - 1, 1_000_000_000 - nanoseconds)),
            _ => Some((seconds, nanoseconds)),
        }
    }

    /// Extended attributes, name and value.
    pub(super) fn xattrs(&self) -> Vec<(Vec<u8>, Vec<u8>)> {
        let named = |(key, value): &(Vec<u8>, Vec<u8>)| {
            Some((key.strip_prefix(b"SCHILY.xattr.".as_slice())?.to_vec(), value.clone()))
        };
        self.0.iter().filter_map(named).collect()
    }

    /// The map of a sparse file in the formats 0.0 and 0.1: offset and length of its data.
    pub(super) fn sparse_map(&self) -> Result<Option<Vec<(u64, u64)>>, String> {
        let mut numbers = Vec::new();
        let malformed = || "malformed sparse map".to_owned();
        if let Some(map) = self.get("GNU.sparse.map") {
            for text in map.split(|&byte| byte == b',') {
                numbers.push(number(text).ok_or_else(malformed)?);
            }
        } else if self.get("GNU.sparse.numblocks").is_some() {
            for (key, value) in &self.0 {
                if key == b"GNU.sparse.offset" || key == b"GNU.sparse.numbytes" {
                    numbers.push(number(value).ok_or_else(malformed)?);
                }
            }
        } else {
            return Ok(None);
        }
        pairs(&numbers).map(Some)
    }
}

/// A decimal number.
pub(super) fn number(digits: &[u8]) -> Option<u64> {
    std::str::from_utf8(digits).ok().filter(|text| !text.starts_with('+'))?.parse().ok()
}

/// Offset and length, again and again.
pub(super) fn pairs(numbers: &[u64]) -> Result<Vec<(u64, u64)>, String> {
    let (pairs, []) = numbers.as_chunks::<2>() else { return Err("malformed sparse map".to_owned()) };
    Ok(pairs.iter().map(|&[offset, length]| (offset, length)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records(records: &[&str]) -> Pax {
        let text = records.iter().map(|record| {
            let length = (1..).find(|length: &usize| length.to_string().len() + record.len() + 2 == *length);
            format!("{} {record}\n", length.unwrap())
        });
        Pax::parse(text.collect::<String>().as_bytes()).unwrap()
    }

    #[test]
    fn records_go_by_length() {
        let pax = records(&["SCHILY.xattr.user.a=x\ny=\0\n\n", "mtime=-1.25", "path=b", "path=a", "uid="]);
        assert_eq!(pax.xattrs(), [(b"user.a".to_vec(), b"x\ny=\0\n\n".to_vec())]);
        assert_eq!(pax.time("mtime"), Some((-2, 750_000_000)));
        assert_eq!((pax.get("path"), pax.get("uid")), (Some(b"a".as_slice()), None));
        for bad in ["5 a\n", "99 path=a\n", "x path=a\n", "10 path=ab\n", "0 \n", "9 patha\n "] {
            assert!(Pax::parse(bad.as_bytes()).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn sparse_maps() {
        assert_eq!(records(&["GNU.sparse.map=0,5,9,1"]).sparse_map(), Ok(Some(vec![(0, 5), (9, 1)])));
        let blocks = ["GNU.sparse.numblocks=1", "GNU.sparse.offset=7", "GNU.sparse.numbytes=2"];
        assert_eq!(records(&blocks).sparse_map(), Ok(Some(vec![(7, 2)])));
        assert!(records(&["GNU.sparse.map=0,5,9"]).sparse_map().is_err());
        assert_eq!(records(&["path=a"]).sparse_map(), Ok(None));
    }
}
