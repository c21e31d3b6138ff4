//! Damaged files: what cannot be told from a crash is cut, everything else is refused by name and place.

use super::*;
use crate::log::codec::HEADER;

/// A closed or killed store whose last segment holds `frames` frames of one write each, and where they begin.
fn frames(count: usize, close: bool) -> (Model, Vec<usize>) {
    let disk = Model::default();
    let mut run = Run::start(&disk);
    let mut starts = Vec::new();
    for number in 0..count {
        let at = run.log.tail.as_ref().map_or(HEADER as u64, |tail| tail.at);
        starts.push(usize::try_from(at).expect("small"));
        assert!(run.group(vec![Txn::one(put(&format!("/registry/{number}"), b"0123456789"))]));
    }
    if close {
        run.log.close(run.time);
    }
    (disk, starts)
}

const FIRST: &str = "log-0000000001";

#[test]
fn a_damaged_frame_in_front_of_a_whole_one_is_refused_with_its_place() {
    let (disk, starts) = frames(5, false);
    for byte in starts[1]..starts[2] {
        // The padding at the end of a frame holds nothing.
        let damaged = disk.copy();
        damaged.flip(FIRST, byte);
        match open(&damaged) {
            Err(Damage::Log { path, at, first, last }) => {
                assert_eq!((path.to_str(), at, first), (Some(FIRST), starts[1] as u64, 3));
                assert_eq!(last, 5, "the last whole frame follows revision 5");
            }
            Err(other) => panic!("byte {byte}: {other}"),
            Ok(opened) => {
                let padding = disk.bytes(FIRST)[byte] == 0 && byte + 8 > starts[2];
                assert!(padding && opened.state.revision() == 6, "byte {byte}");
            }
        }
    }
    let damaged = disk.copy();
    damaged.flip(FIRST, starts[1] + 40);
    let text = open(&damaged).err().expect("it is damaged").to_string();
    assert!(
        text.contains("revisions 3 to 5") && text.contains(&format!("truncate -s {}", starts[1])),
        "{text}"
    );
}

#[test]
fn a_damaged_end_is_cut_unless_the_store_was_closed() {
    let (killed, starts) = frames(3, false);
    killed.flip(FIRST, starts[2] + 40);
    assert_eq!(open(&killed).expect("as after a crash").state.revision(), 3);
    let (closed, starts) = frames(3, true);
    assert_eq!(open(&closed).expect("whole").state.revision(), 4);
    closed.flip(FIRST, starts[2] + 40);
    assert!(matches!(open(&closed), Err(Damage::Log { first: 4, .. })));
}

#[test]
fn a_file_cut_at_any_byte_starts_with_what_is_whole() {
    let (disk, starts) = frames(4, false);
    let size = disk.bytes(FIRST).len();
    for at in HEADER..size {
        let cut = disk.copy();
        cut.cut(FIRST, at);
        let whole = starts.iter().skip(1).filter(|start| **start <= at).count();
        let revision = open(&cut).expect("a cut file is fine").state.revision();
        let last = at >= starts[3] + (starts[3] - starts[2]);
        assert_eq!(revision, 1 + i64::try_from(whole).expect("few") + i64::from(last), "cut at {at}");
    }
    for at in 0..HEADER {
        let cut = disk.copy();
        cut.cut(FIRST, at);
        assert!(matches!(open(&cut), Err(Damage::Foreign { .. })), "cut at {at}");
    }
}

/// A store with several segments and a snapshot.
fn long() -> Model {
    let (mut random, disk) = (Random(99), Model::default());
    let mut run = Run::start(&disk);
    run.history.events = 100;
    for _ in 0..80 {
        let txns = some(&mut random);
        assert!(run.group(txns));
    }
    disk
}

fn names(disk: &Model, start: &str) -> Vec<String> {
    let names = super::super::disk::Disk::names(disk).expect("names");
    names.into_iter().filter(|name| name.starts_with(start)).collect()
}

#[test]
fn missing_and_foreign_files_are_refused() {
    let disk = long();
    let (segments, snapshots) = (names(&disk, "log-"), names(&disk, "snapshot-"));
    assert!(segments.len() > 2 && snapshots.len() == 1, "{segments:?} {snapshots:?}");
    for name in [&snapshots[0], &segments[0], &segments[1]] {
        let damaged = disk.copy();
        super::super::disk::Disk::remove(&damaged, name).expect("is there");
        let text =
            open(&damaged).err().unwrap_or_else(|| panic!("without {name} it must not start")).to_string();
        assert!(text.contains("is missing") || text.contains("cannot be read"), "{text}");
    }
    let damaged = disk.copy();
    damaged.flip(&segments[segments.len() - 2], HEADER + 50);
    assert!(matches!(open(&damaged), Err(Damage::Log { .. })), "the segment is not the last");
    for name in [&snapshots[0], &segments[1]] {
        for at in 0..40 {
            let damaged = disk.copy();
            damaged.flip(name, at);
            let damage = open(&damaged).err().unwrap_or_else(|| panic!("{name} byte {at}"));
            assert!(matches!(damage, Damage::Foreign { .. } | Damage::Snapshot { .. }), "{damage}");
        }
    }
    let size = disk.bytes(&snapshots[0]).len();
    for at in (0..size).step_by(7) {
        let cut = disk.copy();
        cut.cut(&snapshots[0], at);
        assert!(matches!(open(&cut), Err(Damage::Snapshot { .. })), "cut at {at}");
    }
}

#[test]
fn the_recent_past_survives_and_the_log_stays_small() {
    let disk = long();
    let opened = open(&disk).expect("whole");
    let (state, now) = (&opened.state, opened.state.revision());
    assert!(now - state.compacted() >= 4, "history behind {} of {now}", state.compacted());
    let mut undone = content(&State::new(
        1,
        state
            .range("", crate::Range { at: Some(state.compacted()), ..Default::default() })
            .expect("kept")
            .entries,
    ));
    apply(&mut undone, &state.since(state.compacted()).expect("kept").cloned().collect::<Vec<_>>());
    assert_eq!(undone, content(state), "the past and the events since give the present");
    let size: usize = ["log-", "snapshot-"]
        .iter()
        .flat_map(|start| names(&disk, start))
        .map(|name| disk.bytes(&name).len())
        .sum();
    let bound = 2 * state.live() + 5 * usize::try_from(SEGMENT).expect("small");
    assert!(size <= bound, "{size} bytes on the disk, at most {bound} expected");
}
