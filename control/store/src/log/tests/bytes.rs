//! Frames and records from bytes that nobody has written.

use proptest::prelude::*;

use super::super::codec::{Encoder, File, Frame, HEADER, Header, Kind, records};
use crate::{Entry, Event, entry::NEVER};

fn event(key: &str, value: Option<Vec<u8>>, revision: i64) -> Event {
    let entry = |value: Vec<u8>| Entry::new(key.into(), value.into(), revision - 1, revision, NEVER);
    let previous = value.is_none().then(|| entry(Vec::new()));
    Event { revision, entry: value.map(entry), previous }
}

proptest! {
    #[test]
    fn what_is_written_is_read(
        changes in proptest::collection::vec(("/[a-z]{0,9}", proptest::option::of(any::<Vec<u8>>())), 0..9),
        (store, after, time) in (any::<u64>(), 0..i64::MAX / 2, any::<u64>()),
    ) {
        let events: Vec<Event> = (after + 1..).zip(changes).map(|(at, (key, value))| event(&key, value, at)).collect();
        let mut encoder = Encoder::new();
        events.iter().for_each(|event| encoder.event(event));
        let bytes = encoder.finish(Kind::Data, store, after, time).to_vec();
        prop_assert_eq!(bytes.len() % 8, 0);
        let frame = Frame::decode(&bytes, store).expect("it is whole");
        prop_assert_eq!((frame.kind, frame.after, frame.time), (Kind::Data, after, time));
        let read: Vec<_> = records(frame.records).map(|record| record.expect("it is whole")).collect();
        prop_assert_eq!(read.len(), events.len());
        for (record, event) in read.iter().zip(&events) {
            let put = event.entry.as_ref().map(|entry| (&entry.value[..], entry.create_revision, entry.expires));
            prop_assert_eq!((record.key, record.revision, record.put), (event.key(), event.revision, put));
        }
        prop_assert_eq!(Frame::decode(&bytes, store.wrapping_add(1)), None, "another store's");
    }

    #[test]
    fn no_bytes_confuse_the_reader(bytes in any::<Vec<u8>>(), marked in any::<bool>(), store in any::<u64>()) {
        let bytes = if marked { [b"\xc1frm", &bytes[..]].concat() } else { bytes };
        prop_assert!(Frame::decode(&bytes, store).is_none());
        let read = records(&bytes).take(bytes.len() + 1).count();
        prop_assert!(read <= bytes.len());
        prop_assert!(Header::decode(&bytes, File::Segment).is_err());
    }

    #[test]
    fn a_header_with_one_wrong_bit_is_refused(bit in 0..HEADER * 8, store in any::<u64>(), after in any::<i64>()) {
        let header = Header { store, after, time: 7 };
        let mut bytes = header.encode(File::Snapshot);
        prop_assert_eq!(Header::decode(&bytes, File::Snapshot), Ok(header));
        bytes[bit / 8] ^= 1 << (bit % 8);
        prop_assert!(Header::decode(&bytes, File::Snapshot).is_err());
    }
}
