//! Bytes that are put together from short pieces. Invariant: what was put in stands before `len`, and what
//! stands behind it is nobody's.
//!
//! The pieces of a text are some ten bytes long. `Vec` hands each to an instruction that copies memory, for
//! which a component leaves the sandbox: that takes longer than the copy.

use super::is_same_bytes;
use alloc::vec;
use alloc::vec::Vec;
use core::ops::Range;

#[derive(Clone, Debug, Default)]
pub(super) struct Buffer {
    bytes: Vec<u8>,
    len: usize,
}

impl Buffer {
    /// With room for so many bytes.
    pub(super) fn with_capacity(capacity: usize) -> Self {
        Buffer { bytes: vec![0; capacity], len: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn ends_with(&self, byte: u8) -> bool {
        self.bytes[..self.len].last() == Some(&byte)
    }

    pub(super) fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }

    pub(super) fn into_bytes(mut self) -> Vec<u8> {
        self.bytes.truncate(self.len);
        self.bytes
    }

    #[cold]
    fn grow(&mut self, more: usize) {
        self.bytes.resize((self.len + more).max(2 * self.bytes.len()).max(64), 0);
    }

    #[inline]
    pub(super) fn push(&mut self, byte: u8) {
        match self.bytes.get_mut(self.len) {
            Some(place) => *place = byte,
            None => {
                self.grow(1);
                self.bytes[self.len] = byte;
            }
        }
        self.len += 1;
    }

    pub(super) fn extend(&mut self, piece: &[u8]) {
        if self.bytes.len() - self.len < piece.len() {
            self.grow(piece.len());
        }
        copy(&mut self.bytes[self.len..][..piece.len()], piece);
        self.len += piece.len();
    }

    /// A piece, which is four words wherever there is room behind its end.
    #[inline]
    pub(super) fn extend_piece(&mut self, piece: &Piece) {
        match self.bytes.get_mut(self.len..).and_then(<[u8]>::first_chunk_mut::<WORDS>) {
            Some(room) => {
                *room = piece.words;
                self.len += piece.len;
            }
            None => self.extend(piece.bytes()),
        }
    }

    /// A text between quotes.
    pub(super) fn extend_quoted(&mut self, text: &[u8]) {
        if self.bytes.len() - self.len < text.len() + 2 {
            self.grow(text.len() + 2);
        }
        if let [open, place @ .., close] = &mut self.bytes[self.len..][..text.len() + 2] {
            (*open, *close) = (b'"', b'"');
            copy(place, text);
        }
        self.len += text.len() + 2;
    }

    /// A part of a text, and a piece.
    #[inline(always)]
    pub(super) fn extend_with(&mut self, text: &[u8], part: Range<usize>, piece: &Piece) {
        self.extend_from(text, part, &piece.words, 0..piece.len);
    }

    /// A part of a text, and a part of another one. What follows them there may be written behind the buffer's
    /// end: that makes short parts a matter of four words each, whatever their length.
    #[inline(always)]
    pub(super) fn extend_from(
        &mut self,
        text: &[u8],
        part: Range<usize>,
        then: &[u8],
        then_part: Range<usize>,
    ) {
        let (len, then_len) = (part.len(), then_part.len());
        if len <= WORDS
            && then_len <= WORDS
            && let Some(words) = text.get(part.start..).and_then(<[u8]>::first_chunk::<WORDS>)
            && let Some(then_words) = then.get(then_part.start..).and_then(<[u8]>::first_chunk::<WORDS>)
            && let Some(room) =
                self.bytes.get_mut(self.len..).and_then(<[u8]>::first_chunk_mut::<{ 2 * WORDS }>)
        {
            room[..WORDS].copy_from_slice(words);
            room[len..][..WORDS].copy_from_slice(then_words);
            self.len += len + then_len;
        } else {
            self.extend(&text[part]);
            self.extend(&then[then_part]);
        }
    }
}

/// The most that is copied by a few instructions.
const WORDS: usize = 32;

/// A short text that is known before, with room behind it.
#[derive(Clone, Copy, Debug)]
pub struct Piece {
    words: [u8; WORDS],
    len: usize,
}

/// A short text that is known before and looked for, and what of 32 bytes it is.
#[derive(Clone, Copy, Debug)]
pub struct Pattern {
    text: Piece,
    mask: [u8; WORDS],
}

impl Pattern {
    /// Of a text of 32 bytes at the most.
    ///
    /// # Panics
    /// If it has more.
    pub const fn new(text: &str) -> Self {
        let text = Piece::new(text);
        let (mut mask, mut at) = ([0; WORDS], 0);
        while at < text.len {
            mask[at] = 0xff;
            at += 1;
        }
        Pattern { text, mask }
    }

    /// The text.
    pub const fn piece(&self) -> &Piece {
        &self.text
    }

    /// Does a text begin with it?
    pub fn begins(&self, text: &[u8]) -> bool {
        self.end_at(text, 0).is_some()
    }

    /// Where it ends if it stands here: four words are compared, wherever there are so many.
    #[inline]
    pub(super) fn end_at(&self, text: &[u8], at: usize) -> Option<usize> {
        let Pattern { text: piece, mask } = self;
        let rest = text.get(at..)?;
        let stands = match rest.first_chunk::<WORDS>() {
            Some(words) => {
                let word = |bytes: &[u8; WORDS], index: usize| {
                    bytes[8 * index..].first_chunk().map_or(0, |word| u64::from_ne_bytes(*word))
                };
                let differs = |index| (word(words, index) ^ word(&piece.words, index)) & word(mask, index);
                differs(0) | differs(1) | differs(2) | differs(3) == 0
            }
            None => rest.get(..piece.len).is_some_and(|begin| is_same_bytes(begin, piece.bytes())),
        };
        stands.then_some(at + piece.len)
    }
}

impl Piece {
    /// Of a text of 32 bytes at the most.
    ///
    /// # Panics
    /// If it has more.
    pub const fn new(text: &str) -> Self {
        let (text, mut words, mut at) = (text.as_bytes(), [0; WORDS], 0);
        while at < text.len() {
            words[at] = text[at];
            at += 1;
        }
        Piece { words, len: text.len() }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.words[..self.len]
    }
}

/// Copies as many bytes as both have: a few as the first and the last of them, which may overlap.
fn copy(to: &mut [u8], from: &[u8]) {
    fn ends<const N: usize>(to: &mut [u8], from: &[u8]) -> bool {
        if let (Some(begin), Some(end)) = (from.first_chunk::<N>(), from.last_chunk::<N>()) {
            if let Some(to) = to.first_chunk_mut() {
                *to = *begin;
            }
            if let Some(to) = to.last_chunk_mut() {
                *to = *end;
            }
            return true;
        }
        false
    }
    match from.len() {
        0 => {}
        1..=3 => _ = ends::<2>(to, from) || ends::<1>(to, from),
        4..=7 => _ = ends::<4>(to, from),
        8..=16 => _ = ends::<8>(to, from),
        17..=WORDS => _ = ends::<16>(to, from),
        _ => to.copy_from_slice(from),
    }
}
