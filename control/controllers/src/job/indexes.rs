//! Sets of completion indexes, as a job's status writes them: `0,3-5,9`.

use std::collections::BTreeSet;
use std::fmt;

use proto_kube::object;
use serde_json::Value;

/// The annotation and label of a pod that tells which part of the work is its own.
pub(super) const INDEX: &str = "batch.kubernetes.io/job-completion-index";

/// The index of a pod, where it is one of so many completions.
pub(super) fn of(pod: &Value, completions: i64) -> Option<i64> {
    any(pod).filter(|index| *index < completions)
}

/// The index of a pod.
pub(super) fn any(pod: &Value) -> Option<i64> {
    object::annotation(pod, INDEX)?.parse::<i32>().ok().filter(|index| *index >= 0).map(i64::from)
}

/// Ranges, in order, that do not touch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Indexes(Vec<(i64, i64)>);

impl Indexes {
    /// Reads what a status says, as far as it lies within so many completions; what cannot be read is left out.
    pub(super) fn parse(text: &str, completions: i64) -> Self {
        let range = |part: &str| {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last) = (first.parse::<i64>().ok()?, last.parse::<i64>().ok()?);
            (first >= 0 && first < completions).then_some((first, last.min(completions - 1)))
        };
        text.split(',').filter_map(range).fold(Self::default(), |all, range| all.with_range(range))
    }

    pub(super) fn of(indexes: impl IntoIterator<Item = i64>) -> Self {
        let sorted: BTreeSet<i64> = indexes.into_iter().collect();
        Self::join(sorted.into_iter().map(|index| (index, index)))
    }

    fn join(ranges: impl Iterator<Item = (i64, i64)>) -> Self {
        let mut all: Vec<(i64, i64)> = Vec::new();
        for (first, last) in ranges {
            match all.last_mut() {
                Some(before) if first <= before.1 + 1 => before.1 = before.1.max(last),
                _ => all.push((first, last)),
            }
        }
        Self(all)
    }

    fn with_range(self, range: (i64, i64)) -> Self {
        self.with(&Self(vec![range]))
    }

    /// What is in either.
    pub(super) fn with(&self, other: &Self) -> Self {
        let mut ranges: Vec<_> = self.0.iter().chain(&other.0).copied().collect();
        ranges.sort_unstable();
        Self::join(ranges.into_iter())
    }

    /// How many there are.
    pub(super) fn total(&self) -> i64 {
        self.0.iter().map(|(first, last)| last - first + 1).sum()
    }

    pub(super) fn has(&self, index: i64) -> bool {
        let after = self.0.partition_point(|(_, last)| *last < index);
        self.0.get(after).is_some_and(|(first, _)| *first <= index)
    }

    /// How many are in both.
    pub(super) fn common(&self, other: &Self) -> i64 {
        self.total() + other.total() - self.with(other).total()
    }

    /// The lowest ones, below so many completions, that are not in the set.
    pub(super) fn missing(&self, completions: i64) -> impl Iterator<Item = i64> {
        let gaps = self.0.iter().map(|(first, _)| *first).chain([completions]);
        let starts = [0].into_iter().chain(self.0.iter().map(|(_, last)| last + 1));
        starts.zip(gaps).flat_map(|(start, end)| start..end)
    }
}

impl fmt::Display for Indexes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (first, last)) in self.0.iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            match last - first {
                0 => write!(f, "{comma}{first}")?,
                1 => write!(f, "{comma}{first},{last}")?,
                _ => write!(f, "{comma}{first}-{last}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn texts() {
        for (text, completions, written) in [
            ("", 9, ""),
            ("0,3-5,7", 9, "0,3-5,7"),
            ("0-1,3,4", 9, "0,1,3,4"),
            ("1-8,12", 5, "1-4"),
            ("a,2,3-b", 9, "2"),
            ("0,1,2", 9, "0-2"),
        ] {
            assert_eq!(Indexes::parse(text, completions).to_string(), written, "{text}");
        }
        let some = Indexes::parse("0,3-5,7", 9);
        assert_eq!(some.missing(9).collect::<Vec<_>>(), [1, 2, 6, 8]);
        assert_eq!((some.total(), some.has(4), some.has(6)), (5, true, false));
        assert_eq!(some.common(&Indexes::parse("4-8", 9)), 3);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn they_are_sets(a in prop::collection::btree_set(0i64..40, 0..30), b in prop::collection::btree_set(0i64..40, 0..30)) {
            let (left, right) = (Indexes::of(a.iter().copied()), Indexes::of(b.iter().copied()));
            let both: BTreeSet<i64> = a.union(&b).copied().collect();
            prop_assert_eq!(left.with(&right), Indexes::of(both));
            prop_assert_eq!(left.common(&right), i64::try_from(a.intersection(&b).count()).unwrap());
            prop_assert_eq!(&Indexes::parse(&left.to_string(), 40), &left);
            prop_assert!((0..40).all(|index| left.has(index) == a.contains(&index)));
            let missing: Vec<i64> = (0..40).filter(|index| !a.contains(index)).collect();
            prop_assert_eq!(left.missing(40).collect::<Vec<_>>(), missing);
        }
    }
}
