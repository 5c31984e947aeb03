//! JSON text (RFC 8259), read in one pass and written. Invariant: a text is read to its end or refused with
//! the place where it stops to be what it must be; numbers and strings are handed on character for character
//! as they stand. A value that is parsed and printed again is not the same value: 9007199254740993 and 1e400
//! do not survive a float, `1.0` becomes `1`.
//!
//! Of our own, where libraries do the rest, since every instance of the component carries it: what serde
//! derives for the few formats here and serde_json made up 100 kB of it, this module and the formats over it
//! make up 30; and an entry is checked and laid out anew in one pass instead of four. Of the small libraries
//! none tells positions, checks strings and hands them on as they stand; the nearest, hifijson, checks them
//! only when it decodes them, byte by byte.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

/// How a member begins behind another one in the object of a file: on a line of its own, at this level.
#[macro_export]
macro_rules! member {
    (1, $name:literal) => {
        &const { $crate::Piece::new(concat!(",\n  \"", $name, "\": ")) }
    };
    (2, $name:literal) => {
        &const { $crate::Piece::new(concat!(",\n    \"", $name, "\": ")) }
    };
}

mod buffer;
mod read;
mod write;

pub use buffer::{Pattern, Piece};
pub use read::{Reader, not_utf8};
pub use write::Writer;

use alloc::borrow::Cow;
use alloc::string::String;

/// How many objects and lists may stand in each other. Laid out, a small text of brackets alone would take
/// gigabytes, and many readers recurse: serde_json takes 127 levels unless told otherwise.
pub const MAX_DEPTH: usize = 127;

/// The text is not what it must be. Its [`Reader`] knows what is wrong.
#[derive(Debug)]
pub struct Stop(());

/// What is read, or the reader knows why not.
pub type Read<T> = Result<T, Stop>;

/// A string as it is written, without its quotes.
#[derive(Clone, Copy, Debug)]
pub struct Text<'a> {
    raw: &'a [u8],
    escaped: bool,
}

impl<'a> Text<'a> {
    /// As it is written.
    pub fn raw(self) -> &'a [u8] {
        self.raw
    }

    /// Is it written with escapes?
    pub fn is_escaped(self) -> bool {
        self.escaped
    }

    /// What it says.
    pub fn decode(self) -> Cow<'a, str> {
        // The reader has checked it, or will not let it pass.
        let raw = str::from_utf8(self.raw).unwrap_or_default();
        if self.escaped { Cow::Owned(unescape(raw)) } else { Cow::Borrowed(raw) }
    }

    /// Does it say this?
    #[inline]
    pub fn says(self, word: &str) -> bool {
        if self.escaped { self.decode() == word } else { is_same(self.raw, word.as_bytes()) }
    }

    /// Which of these it says.
    pub fn position(self, words: &[&str]) -> Option<usize> {
        words.iter().position(|word| self.says(word))
    }
}

fn unescape(mut rest: &str) -> String {
    let mut text = String::with_capacity(rest.len());
    while let Some((before, escape)) = rest.split_once('\\') {
        text.push_str(before);
        let mut length = 1;
        text.push(match escape.as_bytes().first() {
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => {
                let unit = |at| code_unit(escape.as_bytes(), at).unwrap_or_default();
                length = 5;
                let mut code = unit(1);
                if code & 0xfc00 == 0xd800 {
                    length = 11;
                    code = 0x10000 + ((code & 0x3ff) << 10) + (unit(7) & 0x3ff);
                }
                char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER)
            }
            other => char::from(other.copied().unwrap_or_default()),
        });
        rest = &escape[length..];
    }
    text.push_str(rest);
    text
}

/// The four hexadecimal digits at `at`.
fn code_unit(bytes: &[u8], at: usize) -> Option<u32> {
    let digits = bytes.get(at..at + 4)?;
    digits.iter().try_fold(0, |unit, digit| Some(unit << 4 | char::from(*digit).to_digit(16)?))
}

/// Each byte of a word.
const fn each(byte: u8) -> u64 {
    u64::from_ne_bytes([byte; 8])
}

/// Is this one of the eight bytes?
pub fn has_byte(bytes: [u8; 8], byte: u8) -> bool {
    let word = u64::from_ne_bytes(bytes) ^ each(byte);
    word.wrapping_sub(each(1)) & !word & each(0x80) != 0
}

/// The eight bytes at `at`, the first the lowest.
fn word(text: &[u8], at: usize) -> Option<u64> {
    text.get(at..)?.first_chunk().map(|bytes| u64::from_le_bytes(*bytes))
}

/// Are they the same? Eight bytes at a time: names are too short for a call that compares memory.
#[inline(always)]
fn is_same(one: &[u8], other: &[u8]) -> bool {
    // Most often the lengths tell.
    one.len() == other.len() && is_same_bytes(one, other)
}

/// Of two of the same length: a few bytes as the first and the last of them, which may overlap.
fn is_same_bytes(one: &[u8], other: &[u8]) -> bool {
    fn ends<const N: usize>(one: &[u8], other: &[u8]) -> bool {
        one.first_chunk::<N>() == other.first_chunk() && one.last_chunk::<N>() == other.last_chunk()
    }
    match one.len() {
        0 => true,
        1..=3 => ends::<1>(one, other) && one[one.len() / 2] == other[one.len() / 2],
        4..=7 => ends::<4>(one, other),
        8..=16 => ends::<8>(one, other),
        // A component compares 16 bytes at a time by a call.
        len @ 17..=32 => {
            ends::<8>(one, other)
                && ends::<8>(&one[8..], &other[8..])
                && ends::<8>(&one[..len - 8], &other[..len - 8])
        }
        _ => one == other,
    }
}

/// Eight bytes at a time: the library takes as many as a pointer has, which are four in a component.
fn is_ascii(text: &[u8]) -> bool {
    let (words, rest) = text.as_chunks::<8>();
    let bits = words.iter().fold(0, |bits, word| bits | u64::from_ne_bytes(*word));
    bits & each(0x80) == 0 && rest.is_ascii()
}

/// The quotes, backslashes and control characters among eight bytes: the highest bit of the first one is set,
/// and none before it.
#[inline]
fn special(word: u64) -> u64 {
    // Where a byte is one of them, the subtraction sets its highest bit; it may also do so behind that byte,
    // never before.
    let (quote, backslash) = (word ^ each(b'"'), word ^ each(b'\\'));
    let special =
        word.wrapping_sub(each(b' ')) | quote.wrapping_sub(each(1)) | backslash.wrapping_sub(each(1));
    special & !word & each(0x80)
}

/// Is there no quote, backslash or control character? The last eight bytes may overlap those before them.
fn is_plain(text: &[u8]) -> bool {
    let has_none = |word: &[u8; 8]| special(u64::from_le_bytes(*word)) == 0;
    match text.last_chunk() {
        Some(last) => has_none(last) && text.as_chunks().0.iter().all(has_none),
        None => !text.iter().any(|byte| *byte < b' ' || matches!(byte, b'"' | b'\\')),
    }
}

/// Where the first quote, backslash or control character is, from `at` on, or where fewer than eight bytes are
/// left.
#[inline(always)]
fn plain_to(text: &[u8], at: usize) -> usize {
    // Most names end here.
    match word(text, at).map(special) {
        Some(0) => plain_from(text, at + 8),
        Some(special) => at + (special.trailing_zeros() / 8) as usize,
        None => at,
    }
}

#[inline(never)]
fn plain_from(text: &[u8], mut at: usize) -> usize {
    // Most of what is long has none.
    while let Some(words) = text.get(at..).and_then(<[u8]>::first_chunk::<32>)
        && words.as_chunks().0.iter().fold(0, |met, word| met | special(u64::from_le_bytes(*word))) == 0
    {
        at += 32;
    }
    while let Some(word) = word(text, at) {
        let special = special(word);
        if special != 0 {
            return at + (special.trailing_zeros() / 8) as usize;
        }
        at += 8;
    }
    at
}

/// How to lay a text out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// No white space outside strings.
    Compact,
    /// One member a line, indented by two spaces a level.
    Pretty,
}

/// A line end and the indentation of the deepest level.
const LINE: [u8; 1 + 2 * MAX_DEPTH] = {
    let mut line = [b' '; 1 + 2 * MAX_DEPTH];
    line[0] = b'\n';
    line
};
