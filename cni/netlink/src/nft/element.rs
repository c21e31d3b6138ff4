//! Elements of sets and maps.

use super::batch::Verdict;
use crate::attr::{nest, put, put_str, put_u32};

/// A key is at most so long.
const KEY_BYTES: usize = 64;
const ELEM_INTERVAL_END: u32 = 1;

/// What a map has for a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Data {
    /// A value as in a key.
    Value(Vec<u8>),
    /// A verdict.
    Verdict(Verdict),
}

/// An element of a set or map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Element {
    /// Made by [`key`].
    pub key: Vec<u8>,
    /// For an interval: the last value that belongs to it. Only for sets with concatenated keys.
    pub last: Option<Vec<u8>>,
    /// For a map.
    pub data: Option<Data>,
    /// For people and for finding it again; at most 120 bytes.
    pub comment: String,
}

/// A key or a value of several parts: each padded to a multiple of four bytes.
pub fn key(parts: &[&[u8]]) -> Vec<u8> {
    let mut key = Vec::with_capacity(KEY_BYTES);
    for part in parts {
        key.extend_from_slice(part);
        key.resize(key.len().next_multiple_of(4), 0);
    }
    key
}

impl Element {
    pub(super) fn write(&self, buffer: &mut Vec<u8>, whole: bool) {
        nest(buffer, 1, |b| put(b, 1, &self.key));
        if let Some(last) = &self.last {
            nest(buffer, 10, |b| put(b, 1, last));
        }
        match &self.data {
            Some(Data::Value(value)) if whole => nest(buffer, 2, |b| put(b, 1, value)),
            Some(Data::Verdict(verdict)) if whole => nest(buffer, 2, |b| verdict.write(b)),
            _ => {}
        }
        if whole && !self.comment.is_empty() {
            put(buffer, 6, &comment(&self.comment));
        }
    }
}

pub(super) fn range(buffer: &mut Vec<u8>, table: &str, set: &str, first: &[u8], end: &[u8]) {
    put_str(buffer, 1, table);
    put_str(buffer, 2, set);
    nest(buffer, 3, |b| {
        nest(b, 1, |b| nest(b, 1, |b| put(b, 1, first)));
        nest(b, 1, |b| {
            nest(b, 1, |b| put(b, 1, end));
            put_u32(b, 3, ELEM_INTERVAL_END);
        });
    });
}

/// A comment as libnftnl writes it into user data: type, length, text with its final zero.
pub(super) fn comment(text: &str) -> Vec<u8> {
    let end = (0..=text.len().min(120)).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
    let text = &text.as_bytes()[..end];
    let length = u8::try_from(text.len() + 1).expect("120 bytes at most");
    [&[0, length], text, &[0]].concat()
}
