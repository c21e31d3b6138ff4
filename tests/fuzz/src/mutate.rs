//! Small changes of examples, the same in each run.

/// Random numbers from a seed (xorshift).
pub struct Random(u64);

impl Random {
    /// Begins a sequence.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// A number below `bound`, 0 when that is 0.
    pub fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).unwrap_or(0).checked_rem(bound).unwrap_or(0)
    }
}

/// What breaks readers more often than chance does.
const TOKENS: [&[u8]; 24] = [
    b"null",
    b"{}",
    b"[]",
    b"\"\"",
    b"0",
    b"-1",
    b"1e999",
    b"9223372036854775808",
    b"-9223372036854775808",
    b"0.5",
    b"true",
    b"\"\\ud800\"",
    b"\xff\xfe",
    b"\0",
    b",",
    b":",
    b"\n",
    b"&a *a",
    b"\"a/b\"",
    b"\"100%\"",
    b"\"1e30\"",
    b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
    b"[[[[[[[[",
    b"\"\xc3\xa9\xf0\x9f\x98\x80\"",
];

/// One of the examples, changed in a few places; parts of the others may have come in.
#[must_use]
pub fn mutation(random: &mut Random, examples: &[Vec<u8>]) -> Vec<u8> {
    let mut data = examples[random.below(examples.len())].clone();
    for _ in 0..=random.below(4) {
        let at = random.below(data.len() + 1);
        let end = (at + random.below(16)).min(data.len());
        match random.below(8) {
            0 => data.truncate(at),
            1 => drop(data.drain(at..end)),
            2 => data.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 1 << random.below(8)),
            3 => drop(data.splice(at..end, TOKENS[random.below(TOKENS.len())].iter().copied())),
            4 => value(random, &mut data),
            5 => {
                let copy = data[at..end].to_vec();
                let to = random.below(data.len() + 1);
                drop(data.splice(to..to, copy));
            }
            6 => {
                let other = &examples[random.below(examples.len())];
                let from = random.below(other.len() + 1);
                drop(data.splice(at.., other[from..].iter().copied()));
            }
            _ => {
                let other = &examples[random.below(examples.len())];
                let from = random.below(other.len() + 1);
                let to = (from + random.below(48)).min(other.len());
                drop(data.splice(at..at, other[from..to].iter().copied()));
            }
        }
    }
    data
}

/// Puts something else in the place of a JSON value: what is refused early tells little.
fn value(random: &mut Random, data: &mut Vec<u8>) {
    let colons: Vec<usize> = (0..data.len()).filter(|at| data[*at] == b':').collect();
    let Some(at) = colons.get(random.below(colons.len())).map(|at| at + 1) else { return };
    let (mut depth, mut quoted) = (0_i32, false);
    let length = data[at..].iter().position(|byte| {
        match byte {
            b'"' => quoted = !quoted,
            b'{' | b'[' if !quoted => depth += 1,
            b'}' | b']' if !quoted => depth -= 1,
            _ => {}
        }
        !quoted && (depth < 0 || depth == 0 && *byte == b',')
    });
    let end = length.map_or(data.len(), |length| at + length);
    drop(data.splice(at..end, TOKENS[random.below(TOKENS.len())].iter().copied()));
}
