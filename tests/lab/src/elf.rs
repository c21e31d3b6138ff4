//! What a dynamically linked 64-bit little-endian ELF file needs: the interpreter and the sonames of DT_NEEDED.

const PT_LOAD: u32 = 1;
const PT_DYNAMIC: u32 = 2;
const PT_INTERP: u32 = 3;
const DT_NEEDED: u64 = 1;
const DT_STRTAB: u64 = 5;

/// What the dynamic loader must find.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// Path of the dynamic loader; `None` for libraries and static programs.
    pub interpreter: Option<String>,
    /// Names of shared libraries.
    pub libraries: Vec<String>,
}

struct Segment {
    kind: u32,
    offset: usize,
    address: u64,
    size: usize,
}

/// What `file` needs; nothing for files that are not dynamic ELF.
#[must_use]
pub fn needs(file: &[u8]) -> Needs {
    read(file).unwrap_or_default()
}

fn read(file: &[u8]) -> Option<Needs> {
    if file.get(..6)? != b"\x7fELF\x02\x01" {
        return None;
    }
    let segments = segments(file)?;
    let interpreter = segments.iter().find(|s| s.kind == PT_INTERP).and_then(|s| text(file, s.offset));
    let mut libraries = Vec::new();
    if let Some(dynamic) = segments.iter().find(|s| s.kind == PT_DYNAMIC) {
        let end = dynamic.offset + dynamic.size;
        let entries: Vec<(u64, u64)> = (dynamic.offset..end)
            .step_by(16)
            .map_while(|at| Some((u64_at(file, at)?, u64_at(file, at + 8)?)))
            .collect();
        let strings = entries.iter().find(|(tag, _)| *tag == DT_STRTAB)?.1;
        let home = segments
            .iter()
            .find(|s| s.kind == PT_LOAD && (s.address..s.address + s.size as u64).contains(&strings))?;
        let base = home.offset + usize::try_from(strings - home.address).ok()?;
        let names = entries.iter().filter(|(tag, _)| *tag == DT_NEEDED);
        libraries.extend(names.filter_map(|(_, at)| text(file, base + usize::try_from(*at).ok()?)));
    }
    Some(Needs { interpreter, libraries })
}

fn segments(file: &[u8]) -> Option<Vec<Segment>> {
    let table = usize::try_from(u64_at(file, 32)?).ok()?;
    let entry = usize::from(u16_at(file, 54)?);
    let count = usize::from(u16_at(file, 56)?);
    let segment = |at: usize| {
        Some(Segment {
            kind: u32::from_le_bytes(file.get(at..at + 4)?.try_into().ok()?),
            offset: usize::try_from(u64_at(file, at + 8)?).ok()?,
            address: u64_at(file, at + 16)?,
            size: usize::try_from(u64_at(file, at + 32)?).ok()?,
        })
    };
    (0..count).map(|n| segment(table + n * entry)).collect()
}

fn u16_at(file: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(file.get(at..at + 2)?.try_into().ok()?))
}

fn u64_at(file: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(file.get(at..at + 8)?.try_into().ok()?))
}

fn text(file: &[u8], at: usize) -> Option<String> {
    let bytes = file.get(at..)?.split(|b| *b == 0).next()?;
    Some(String::from_utf8_lossy(bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_test_program_needs_the_c_library() {
        let needs = needs(&std::fs::read("/proc/self/exe").unwrap());
        assert!(needs.libraries.iter().any(|l| l.starts_with("libc.so")), "{needs:?}");
        assert!(needs.interpreter.is_some_and(|i| i.contains("ld-linux")));
    }

    #[test]
    fn other_files_need_nothing() {
        for file in [&b"#!/bin/sh\n"[..], b"\x7fELF\x02\x01", b""] {
            assert_eq!(needs(file), Needs::default());
        }
    }
}
