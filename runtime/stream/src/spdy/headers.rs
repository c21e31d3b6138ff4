//! Header blocks: names and values, compressed with one zlib stream a direction (SPDY/3.1, 2.6.10).

use std::sync::OnceLock;

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

use super::frame::SpdyError;
use crate::channel::Headers;

/// The largest block, in bytes uncompressed. Kubernetes' blocks are some hundred.
const BLOCK_BYTES_MAX: usize = 16 * 1024;
const STEP: usize = 1024;

/// Words of the dictionary both sides start from, each there with its length before it.
const WORDS: &str = "\
    options|head|post|put|delete|trace|accept|accept-charset|accept-encoding|accept-language|accept-ranges|\
    age|allow|authorization|cache-control|connection|content-base|content-encoding|content-language|content-length|\
    content-location|content-md5|content-range|content-type|date|etag|expect|expires|from|host|if-match|\
    if-modified-since|if-none-match|if-range|if-unmodified-since|last-modified|location|max-forwards|pragma|\
    proxy-authenticate|proxy-authorization|range|referer|retry-after|server|te|trailer|transfer-encoding|\
    upgrade|user-agent|vary|via|warning|www-authenticate|method|get|status|200 OK|version|HTTP/1.1|url|\
    public|set-cookie|keep-alive|origin";
/// What follows the words.
const PHRASES: &str = "\
    100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505203 Non-Au\
    thoritative Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized403 Forbidd\
    en404 Not Found500 Internal Server Error501 Not Implemented503 Service UnavailableJan Feb Mar Apr Ma\
    y Jun Jul Aug Sept Oct Nov Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMTchunked,text/html,imag\
    e/png,image/jpg,image/gif,application/xml,application/xhtml+xml,text/plain,text/javascript,publicpri\
    vatemax-age=gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,utf-,*,enq=0.";

fn dictionary() -> &'static [u8] {
    static DICTIONARY: OnceLock<Vec<u8>> = OnceLock::new();
    DICTIONARY.get_or_init(|| {
        let mut dictionary = Vec::new();
        WORDS.split('|').for_each(|word| put(&mut dictionary, word));
        dictionary.extend_from_slice(PHRASES.as_bytes());
        dictionary
    })
}

/// A length and so many bytes.
fn put(block: &mut Vec<u8>, text: &str) {
    let length = u32::try_from(text.len()).expect("headers are short");
    block.extend_from_slice(&length.to_be_bytes());
    block.extend_from_slice(text.as_bytes());
}

/// The sending half's compression.
pub(super) struct Deflater(Compress);

impl Deflater {
    pub(super) fn new() -> Self {
        let mut compress = Compress::new(Compression::default(), true);
        compress.set_dictionary(dictionary()).expect("nothing has been compressed yet");
        Self(compress)
    }

    pub(super) fn compress(&mut self, headers: &Headers) -> Vec<u8> {
        let count = u32::try_from(headers.len()).expect("headers are few");
        let mut block = count.to_be_bytes().to_vec();
        for (name, value) in headers {
            put(&mut block, name);
            put(&mut block, value);
        }
        let (mut rest, mut out) = (block.as_slice(), Vec::with_capacity(STEP));
        loop {
            let before = self.0.total_in();
            self.0.compress_vec(rest, &mut out, FlushCompress::Sync).expect("the stream is in order");
            rest = &rest[consumed(before, self.0.total_in())..];
            if rest.is_empty() && out.len() < out.capacity() {
                return out;
            }
            out.reserve(STEP);
        }
    }
}

/// The receiving half's decompression. After an error it is of no use.
pub(super) struct Inflater(Decompress);

impl Inflater {
    pub(super) fn new() -> Self {
        Self(Decompress::new(true))
    }

    pub(super) fn decompress(&mut self, block: &[u8]) -> Result<Headers, SpdyError> {
        let (mut rest, mut out) = (block, Vec::with_capacity(STEP));
        loop {
            let before = self.0.total_in();
            let status = self.0.decompress_vec(rest, &mut out, FlushDecompress::Sync);
            rest = &rest[consumed(before, self.0.total_in())..];
            match status {
                Ok(Status::Ok | Status::BufError) if rest.is_empty() && out.len() < out.capacity() => break,
                Ok(Status::Ok | Status::BufError) if out.len() == out.capacity() => out.reserve(STEP),
                Ok(_) => return Err(SpdyError::Compression),
                Err(error) if error.needs_dictionary().is_some() => {
                    self.0.set_dictionary(dictionary()).map_err(|_| SpdyError::Compression)?;
                }
                Err(_) => return Err(SpdyError::Compression),
            }
            if out.len() > BLOCK_BYTES_MAX {
                return Err(SpdyError::TooLarge);
            }
        }
        parse(&out)
    }
}

fn consumed(before: u64, after: u64) -> usize {
    usize::try_from(after - before).expect("no more than was given")
}

fn parse(block: &[u8]) -> Result<Headers, SpdyError> {
    let mut rest = block;
    let count = take_length(&mut rest)?;
    let mut headers = Headers::new();
    for _ in 0..count {
        let name = take_text(&mut rest)?.to_ascii_lowercase();
        headers.push((name, take_text(&mut rest)?));
    }
    if rest.is_empty() { Ok(headers) } else { Err(SpdyError::HeaderBlock) }
}

fn take_length(rest: &mut &[u8]) -> Result<usize, SpdyError> {
    let (length, after) = rest.split_first_chunk::<4>().ok_or(SpdyError::HeaderBlock)?;
    *rest = after;
    usize::try_from(u32::from_be_bytes(*length)).map_err(|_| SpdyError::HeaderBlock)
}

fn take_text(rest: &mut &[u8]) -> Result<String, SpdyError> {
    let length = take_length(rest)?;
    let (text, after) = rest.split_at_checked(length).ok_or(SpdyError::HeaderBlock)?;
    *rest = after;
    String::from_utf8(text.to_vec()).map_err(|_| SpdyError::HeaderBlock)
}

#[cfg(test)]
mod tests {
    use flate2::Crc;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_dictionary_is_the_specifications() {
        let mut crc = Crc::new();
        crc.update(dictionary());
        assert_eq!((dictionary().len(), crc.sum()), (1423, CRC));
    }

    const CRC: u32 = 80234766;

    proptest! {
        #[test]
        fn blocks_survive(blocks in prop::collection::vec(prop::collection::vec(("[a-z-]{1,12}", "\\PC{0,300}"), 0..6), 1..5)) {
            let (mut deflater, mut inflater) = (Deflater::new(), Inflater::new());
            for headers in blocks {
                let block = deflater.compress(&headers);
                prop_assert_eq!(inflater.decompress(&block).unwrap(), headers);
            }
        }

        #[test]
        fn nonsense_is_refused_not_believed(block in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Inflater::new().decompress(&block);
        }
    }

    #[test]
    fn a_bomb_is_refused() {
        let mut deflater = Deflater::new();
        let block = deflater.compress(&vec![("a".to_owned(), "x".repeat(1 << 20))]);
        assert!(block.len() < 10_000);
        assert!(matches!(Inflater::new().decompress(&block), Err(SpdyError::TooLarge)));
    }
}
