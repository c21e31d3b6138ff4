//! SPDY/3.1 frames: bytes in, frames out, and back. No I/O.
//!
//! ```text
//! control: |1| version 3 (15) | type (16) | flags (8) | length (24) | payload
//! data:    |0| stream (31)                | flags (8) | length (24) | payload
//! ```
//! Flow control windows are neither sent nor kept: Kubernetes' clients and servers have none.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::headers::{Deflater, Inflater};
use crate::channel::Headers;

const VERSION: u16 = 3;
const HEADER: usize = 8;
const CONTROL_BIT: u32 = 0x8000_0000;
const FIN: u8 = 0x01;
/// The largest control frame, in bytes of payload.
const CONTROL_BYTES_MAX: usize = 16 * 1024;
/// The largest data frame we send.
const DATA_BYTES_MAX: usize = 0x00ff_ffff;

const SYN_STREAM: u16 = 1;
const SYN_REPLY: u16 = 2;
const RST_STREAM: u16 = 3;
const PING: u16 = 6;
const GOAWAY: u16 = 7;
const HEADERS: u16 = 8;

/// `RST_STREAM` status: the stream is no longer wanted.
pub(super) const CANCEL: u32 = 5;

/// What a peer may do wrong. The connection is then closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum SpdyError {
    #[error("frame of version {0}, not 3")]
    Version(u16),
    #[error("control frame that is too short")]
    TooShort,
    #[error("control frame that is too large")]
    TooLarge,
    #[error("stream 0")]
    StreamZero,
    #[error("header block with broken compression")]
    Compression,
    #[error("broken header block")]
    HeaderBlock,
}

/// A frame that matters here; others are skipped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Frame {
    SynStream {
        id: u32,
        headers: Headers,
        fin: bool,
    },
    SynReply {
        id: u32,
        headers: Headers,
        fin: bool,
    },
    Reset {
        id: u32,
        status: u32,
    },
    Ping(u32),
    GoAway {
        last: u32,
    },
    /// Possibly a part of the peer's frame; `fin` stands on its last part.
    Data {
        id: u32,
        data: Bytes,
        fin: bool,
    },
}

/// Frames from bytes, however they arrive.
pub(super) struct Decoder {
    /// What has arrived; append here.
    pub(super) buffer: BytesMut,
    inflater: Inflater,
    /// Of the data frame whose payload is arriving.
    data: Option<DataFrame>,
}

struct DataFrame {
    id: u32,
    left: usize,
    fin: bool,
}

impl Decoder {
    pub(super) fn new() -> Self {
        Self { buffer: BytesMut::new(), inflater: Inflater::new(), data: None }
    }

    /// The next frame, or `None` until more has arrived.
    pub(super) fn next(&mut self) -> Result<Option<Frame>, SpdyError> {
        loop {
            if let Some(frame) = &mut self.data {
                if frame.left > 0 && self.buffer.is_empty() {
                    return Ok(None);
                }
                let part = self.buffer.split_to(frame.left.min(self.buffer.len())).freeze();
                frame.left -= part.len();
                let (id, fin) = (frame.id, frame.fin && frame.left == 0);
                if frame.left == 0 {
                    self.data = None;
                }
                if !part.is_empty() || fin {
                    return Ok(Some(Frame::Data { id, data: part, fin }));
                }
                continue;
            }
            let Some(header) = self.buffer.first_chunk::<HEADER>().copied() else { return Ok(None) };
            let (first, second) = (word(&header[..4]), word(&header[4..]));
            let [flags, ..] = second.to_be_bytes();
            let length = (second & 0x00ff_ffff) as usize;
            if first & CONTROL_BIT == 0 {
                self.buffer.advance(HEADER);
                self.data = Some(DataFrame { id: nonzero(first)?, left: length, fin: flags & FIN != 0 });
                continue;
            }
            let [a, b, c, d] = first.to_be_bytes();
            let version = u16::from_be_bytes([a & 0x7f, b]);
            if version != VERSION {
                return Err(SpdyError::Version(version));
            }
            if length > CONTROL_BYTES_MAX {
                return Err(SpdyError::TooLarge);
            }
            if self.buffer.len() < HEADER + length {
                return Ok(None);
            }
            self.buffer.advance(HEADER);
            let payload = self.buffer.split_to(length).freeze();
            if let Some(frame) = self.control(u16::from_be_bytes([c, d]), flags, payload)? {
                return Ok(Some(frame));
            }
        }
    }

    fn control(&mut self, kind: u16, flags: u8, mut payload: Bytes) -> Result<Option<Frame>, SpdyError> {
        let fin = flags & FIN != 0;
        let mut number = || payload.try_get_u32().map_err(|_| SpdyError::TooShort);
        Ok(Some(match kind {
            SYN_STREAM => {
                let id = nonzero(number()?)?;
                let (_associated, _priority_and_slot) =
                    (number()?, payload.try_get_u16().map_err(|_| SpdyError::TooShort)?);
                Frame::SynStream { id, headers: self.inflater.decompress(&payload)?, fin }
            }
            SYN_REPLY => {
                let id = nonzero(number()?)?;
                Frame::SynReply { id, headers: self.inflater.decompress(&payload)?, fin }
            }
            RST_STREAM => Frame::Reset { id: nonzero(number()?)?, status: number()? },
            PING => Frame::Ping(number()?),
            GOAWAY => Frame::GoAway { last: number()? & !CONTROL_BIT },
            HEADERS => {
                nonzero(number()?)?;
                // Its content is of no use, but it is part of the compressed stream.
                self.inflater.decompress(&payload)?;
                return Ok(None);
            }
            _ => return Ok(None),
        }))
    }
}

fn word(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0, |word, byte| word << 8 | u32::from(*byte))
}

fn nonzero(id: u32) -> Result<u32, SpdyError> {
    match id & !CONTROL_BIT {
        0 => Err(SpdyError::StreamZero),
        id => Ok(id),
    }
}

/// Bytes from frames.
pub(super) struct Encoder(Deflater);

impl Encoder {
    pub(super) fn new() -> Self {
        Self(Deflater::new())
    }

    pub(super) fn encode(&mut self, frame: &Frame) -> Vec<u8> {
        match frame {
            Frame::SynStream { id, headers, fin } => {
                let mut payload = id.to_be_bytes().to_vec();
                payload.extend_from_slice(&[0; 6]);
                payload.extend_from_slice(&self.0.compress(headers));
                control(SYN_STREAM, *fin, &payload)
            }
            Frame::SynReply { id, headers, fin } => {
                let mut payload = id.to_be_bytes().to_vec();
                payload.extend_from_slice(&self.0.compress(headers));
                control(SYN_REPLY, *fin, &payload)
            }
            Frame::Reset { id, status } => {
                control(RST_STREAM, false, &[id.to_be_bytes(), status.to_be_bytes()].concat())
            }
            Frame::Ping(id) => control(PING, false, &id.to_be_bytes()),
            Frame::GoAway { last } => control(GOAWAY, false, &[last.to_be_bytes(), [0; 4]].concat()),
            Frame::Data { id, data, fin } => {
                debug_assert!(data.len() <= DATA_BYTES_MAX, "what is read at once is far smaller");
                let mut bytes = Vec::with_capacity(HEADER + data.len());
                bytes.put_u32(*id);
                bytes.put_u32(flags_and_length(*fin, data.len()));
                bytes.extend_from_slice(data);
                bytes
            }
        }
    }
}

fn control(kind: u16, fin: bool, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER + payload.len());
    bytes.put_u16(0x8000 | VERSION);
    bytes.put_u16(kind);
    bytes.put_u32(flags_and_length(fin, payload.len()));
    bytes.extend_from_slice(payload);
    bytes
}

fn flags_and_length(fin: bool, length: usize) -> u32 {
    let length = u32::try_from(length).expect("frames are short");
    u32::from(if fin { FIN } else { 0 }) << 24 | length
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frames() -> impl Strategy<Value = Vec<Frame>> {
        let id = 1..=0x7fff_ffff_u32;
        let headers = prop::collection::vec(("[a-z]{1,9}", "[ -~]{0,20}"), 0..4);
        let data = prop::collection::vec(any::<u8>(), 0..300);
        let frame = prop_oneof![
            (id.clone(), headers.clone(), any::<bool>()).prop_map(|(id, headers, fin)| Frame::SynStream {
                id,
                headers,
                fin
            }),
            (id.clone(), headers, any::<bool>()).prop_map(|(id, headers, fin)| Frame::SynReply {
                id,
                headers,
                fin
            }),
            (id.clone(), any::<u32>()).prop_map(|(id, status)| Frame::Reset { id, status }),
            any::<u32>().prop_map(Frame::Ping),
            id.clone().prop_map(|last| Frame::GoAway { last }),
            (id, data, any::<bool>()).prop_map(|(id, data, fin)| Frame::Data { id, data: data.into(), fin }),
        ];
        prop::collection::vec(frame, 1..12)
    }

    /// Joins the parts of a data frame.
    fn whole(frames: Vec<Frame>) -> Vec<Frame> {
        let mut whole = Vec::<Frame>::new();
        for frame in frames {
            match (whole.last_mut(), frame) {
                (
                    Some(Frame::Data { id, data, fin: last @ false }),
                    Frame::Data { id: same, data: more, fin },
                ) if *id == same => {
                    *data = [&data[..], &more[..]].concat().into();
                    *last = fin;
                }
                (_, Frame::Data { data, fin: false, .. }) if data.is_empty() => {}
                (_, frame) => whole.push(frame),
            }
        }
        whole
    }

    proptest! {
        #[test]
        fn frames_survive_any_cut(frames in frames(), cut in 1..40usize) {
            let (mut encoder, mut decoder) = (Encoder::new(), Decoder::new());
            let bytes: Vec<u8> = frames.iter().flat_map(|frame| encoder.encode(frame)).collect();
            let mut decoded = Vec::new();
            for piece in bytes.chunks(cut) {
                decoder.buffer.extend_from_slice(piece);
                while let Some(frame) = decoder.next().unwrap() {
                    decoded.push(frame);
                }
            }
            prop_assert!(decoder.buffer.is_empty());
            prop_assert_eq!(whole(decoded), whole(frames));
        }

        #[test]
        fn nonsense_ends(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let mut decoder = Decoder::new();
            decoder.buffer.extend_from_slice(&bytes);
            while let Ok(Some(_)) = decoder.next() {}
        }
    }

    #[test]
    fn refuses() {
        for (bytes, error) in [
            (vec![0x80, 2, 0, 6, 0, 0, 0, 4, 0, 0, 0, 1], SpdyError::Version(2)),
            (vec![0x80, 3, 0, 6, 0, 0, 0, 2, 0, 0], SpdyError::TooShort),
            (vec![0x80, 3, 0, 1, 0, 1, 0, 0], SpdyError::TooLarge),
            (vec![0, 0, 0, 0, 0, 0, 0, 0], SpdyError::StreamZero),
            (vec![0x80, 3, 0, 2, 0, 0, 0, 6, 0, 0, 0, 1, 9, 9], SpdyError::Compression),
        ] {
            let mut decoder = Decoder::new();
            decoder.buffer.extend_from_slice(&bytes);
            assert_eq!(decoder.next(), Err(error));
        }
    }
}
