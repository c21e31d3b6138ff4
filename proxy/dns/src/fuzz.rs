//! What must hold for any bytes.

use crate::answer::{Authority, Outcome, answer};
use crate::message::{Passed, Query, Unreadable};
use crate::name::Name;
use crate::zone::Zone;

const HEADER_AND_EDNS: usize = 12 + 11;

/// By one who does not look at TC.
fn is_read(query: &Query, mut message: Vec<u8>) -> bool {
    message[2] &= !2;
    Passed::read(query, &message).is_ok()
}

/// A client's message is answered in the bounds that it gives, and a server's is passed on in them: neither panics.
///
/// # Panics
/// When that is not so.
pub fn message(data: &[u8]) {
    let authority = Authority {
        domain: Name::from_text("cluster.local").expect("it is a name"),
        addresses: vec![[10, 96, 0, 10].into()],
        ttl: 5,
    };
    let mut zone = Zone::default();
    zone.set_namespace("default", true);
    let query = match Query::read(data) {
        Ok(query) => query,
        Err(Unreadable::Silent) => return,
        Err(Unreadable::Refuse(_, reply)) => {
            assert!(
                reply.len() <= data.len() + 11 && reply[2] & 0x80 != 0,
                "no amplification, and an answer"
            );
            return;
        }
    };
    let limit = query.udp_limit();
    if let Outcome::Answer(reply) | Outcome::Follow(reply, _) =
        answer(&zone, &authority, &query.name, query.kind)
    {
        let message = reply.write(&query, limit);
        assert!(message.len() <= limit && message[2] & 0x80 != 0);
        assert!(is_read(&query, message), "what is written is read");
    }
    // the same bytes as a server's answer
    let mut bytes = data.to_vec();
    bytes[2] |= 0x80;
    if let Ok(passed) = Passed::read(&query, &bytes) {
        // a limit that cuts it too
        for limit in [limit, HEADER_AND_EDNS + query.name.wire().len() + 4 + data.len() % 64] {
            let message = passed.write(&query, limit, 1, None);
            assert!(message.len() <= limit, "{} > {limit}", message.len());
            assert!(is_read(&query, message), "what is passed on is read");
        }
        let _ = passed.answers(1);
    }
}
