//! Reading a JSON text.

use super::buffer::{Buffer, Pattern, Piece};
use super::{LINE, Layout, MAX_DEPTH, Read, Stop, Text, code_unit, each, is_ascii, plain_to, word};
use alloc::borrow::Cow;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::ops::Range;
use core::str::Utf8Error;

/// Reads one value, member by member and item by item, as the caller asks for them.
///
/// ```
/// # use consolidation_json::Reader;
/// let mut pid = 0;
/// let read = Reader::new(br#"{"pid": 7, "later": [{}]}"#).read(|json| {
///     json.begin(b'{')?;
///     while let Some(name) = json.member()? {
///         match name.raw() {
///             b"pid" => pid = json.u32()?,
///             _ => json.skip()?,
///         }
///     }
///     Ok(())
/// });
/// assert_eq!((read, pid), (Ok(()), 7));
/// ```
///
/// # Copies
///
/// What is read can be [laid out anew](Self::copying) on the way, without being interpreted. Nothing is written
/// token by token: what stands between two places where the white space is to be another is copied as one piece,
/// which is half of a text that has the right layout already.
#[derive(Debug)]
pub struct Reader<'a> {
    text: &'a [u8],
    start: usize,
    at: usize,
    depth: usize,
    /// An object or a list has been begun, and nothing in it was read.
    first: bool,
    /// What is read goes nowhere: its strings need not be characters.
    skipping: bool,
    /// Is there nothing but ASCII in it? Then no string need be checked to be UTF-8. Found out at the first.
    is_ascii: Option<bool>,
    copy: Option<Copy>,
    /// The copy has lines and white space of its own.
    pretty: bool,
    fault: Option<(usize, Cow<'static, str>)>,
}

/// A copy of what is read. Invariant: what was read before `from` is in it, the rest is as it stands in the text.
#[derive(Debug)]
struct Copy {
    out: Buffer,
    from: usize,
}

impl Copy {
    /// Takes over what was read.
    fn take(&mut self, text: &[u8], to: usize) {
        self.out.extend(&text[self.from..to]);
        self.from = to;
    }
}

impl<'a> Reader<'a> {
    /// Of a text.
    pub fn new(text: &'a [u8]) -> Self {
        Reader {
            text,
            start: 0,
            at: 0,
            depth: 0,
            first: false,
            skipping: false,
            is_ascii: None,
            copy: None,
            pretty: false,
            fault: None,
        }
    }

    /// Of a text that may begin with a byte-order mark, which is skipped (RFC 8259, section 8.1, permits it).
    pub fn after_mark(text: &'a [u8]) -> Self {
        let start = if text.starts_with(b"\xef\xbb\xbf") { 3 } else { 0 };
        Reader { start, at: start, ..Reader::new(text) }
    }

    /// Copies what is read. If something is `begun`, an object, the members of the text's own are copied behind
    /// it: behind `{`, or behind that and other members, and then the text must have one.
    ///
    /// Strings of a copy are not checked to be UTF-8, nor is what they decode to: whoever makes a text of the
    /// whole finds out.
    pub fn copying(mut self, layout: Layout, begun: &[&[u8]]) -> Self {
        // Room for lines and indentation that the text may not have.
        let mut out = Buffer::with_capacity(self.text.len() + self.text.len() / 4 + 128);
        begun.iter().for_each(|piece| out.extend(piece));
        self.copy = Some(Copy { out, from: self.at });
        self.pretty = layout == Layout::Pretty;
        self
    }

    /// How much was copied, in bytes.
    pub fn copied(&self) -> usize {
        self.copy.as_ref().map_or(0, |copy| copy.out.len() + self.at - copy.from)
    }

    /// The copy of what was read by now.
    pub fn into_copy(&mut self) -> Vec<u8> {
        self.copy.take().map_or_else(Vec::new, |mut copy| {
            copy.take(self.text, self.at);
            copy.out.into_bytes()
        })
    }

    /// Has the member that was begun another name in the copy.
    pub fn rename(&mut self, name: Text<'_>, new_name: &str) {
        if let Some(copy) = &mut self.copy {
            copy.take(self.text, self.at);
            let colon: &[u8] = if self.pretty { b"\": " } else { b"\":" };
            copy.out.truncate(copy.out.len() - colon.len() - name.raw().len());
            copy.out.extend(new_name.as_bytes());
            copy.out.extend(colon);
        }
    }

    /// Passes over this, character for character. A copy gets `copied` in its place.
    ///
    /// # Errors
    /// [`Stop`] if something else stands here: the reader stands where it was, and has no words for it.
    pub fn passes(&mut self, this: &Pattern, copied: &Piece) -> Read<()> {
        let end = this.end_at(self.text, self.at).ok_or(Stop(()))?;
        if let Some(copy) = &mut self.copy {
            copy.out.extend_with(self.text, copy.from..self.at, copied);
            copy.from = end;
        }
        self.at = end;
        Ok(())
    }

    /// Puts this into the copy, if there is one, behind what was read.
    pub fn adds(&mut self, piece: &Piece) {
        if let Some(copy) = &mut self.copy {
            copy.take(self.text, self.at);
            copy.out.extend_piece(piece);
        }
    }

    /// Reads the one value of the text, and that there is nothing after it.
    ///
    /// # Errors
    /// What is wrong and where, in words.
    pub fn read<T>(mut self, value: impl FnOnce(&mut Self) -> Read<T>) -> Result<T, String> {
        match value(&mut self).and_then(|value| self.end().map(|()| value)) {
            Ok(value) => Ok(value),
            Err(Stop(())) => Err(self.message()),
        }
    }

    /// As [`Self::read`], where it is of no interest what is wrong.
    pub fn read_if<T>(mut self, value: impl FnOnce(&mut Self) -> Read<T>) -> Option<T> {
        value(&mut self).ok().filter(|_| self.end().is_ok())
    }

    fn end(&mut self) -> Read<()> {
        self.peek();
        if self.at < self.text.len() {
            return Err(self.wrong("there is more after the end"));
        }
        Ok(())
    }

    /// What is wrong, and where.
    #[cold]
    fn message(self) -> String {
        let (at, what) = self.fault.unwrap_or_default();
        if let Err(error) = str::from_utf8(self.text) {
            return not_utf8(error);
        }
        let Some(before) = self.text.get(self.start..at) else { return what.into_owned() };
        let line = before.iter().filter(|byte| **byte == b'\n').count();
        let begin = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        let column = before.len() - begin + usize::from(at < self.text.len());
        match line {
            // One line is most often one of many: its own number would mislead.
            0 => format!("{what} at column {column}"),
            _ => format!("{what} at line {} column {column}", line + 1),
        }
    }

    /// Something is wrong here.
    #[cold]
    pub fn wrong(&mut self, what: impl Into<Cow<'static, str>>) -> Stop {
        self.fault = Some((self.at, what.into()));
        Stop(())
    }

    /// Something is wrong with the whole.
    #[cold]
    pub fn wrong_whole(&mut self, what: impl Into<Cow<'static, str>>) -> Stop {
        self.fault = Some((usize::MAX, what.into()));
        Stop(())
    }

    /// In which member it is that something is wrong.
    #[cold]
    pub fn within(&mut self, name: &str, stop: Stop) -> Stop {
        if let Some((_, what)) = &mut self.fault {
            *what = ["in `", name, "`: ", &**what].concat().into();
        }
        stop
    }

    /// Something else must stand here.
    #[cold]
    fn expected(&mut self, what: &str) -> Stop {
        let rest = self.text.get(self.at..).unwrap_or_default();
        let found = match rest.first() {
            Some(b'{') => ", not an object",
            Some(b'[') => ", not a list",
            Some(b'"') => ", not a string",
            Some(b'-' | b'0'..=b'9') => ", not a number",
            _ if rest.starts_with(b"true") || rest.starts_with(b"false") => ", not true or false",
            _ if rest.starts_with(b"null") => ", not null",
            Some(_) => "",
            None => ", not the end of the text",
        };
        self.wrong(["expected ", what, found].concat())
    }

    /// The next byte that is no white space; 0 at the end. Most often it is the very next one, and there is
    /// nothing to pass over.
    #[inline]
    fn peek(&mut self) -> u8 {
        match self.text.get(self.at) {
            Some(byte) if *byte > b' ' => *byte,
            _ => self.peek_past_space(),
        }
    }

    fn peek_past_space(&mut self) -> u8 {
        self.pass_space(0..0)
    }

    /// Past the white space that stands here. A copy gets a part of [`LINE`] in its place.
    #[inline(never)]
    fn pass_space(&mut self, copied: Range<usize>) -> u8 {
        if let Some(copy) = &mut self.copy {
            copy.out.extend_from(self.text, copy.from..self.at, &LINE, copied);
        }
        let mut at = self.at;
        let next = loop {
            match self.text.get(at) {
                Some(b'\n' | b'\r' | b'\t') => at += 1,
                // One alone, as most writers put it behind a colon and a comma.
                Some(b' ') if self.text.get(at + 1).is_some_and(|next| *next > b' ') => at += 1,
                Some(b' ') => match word(self.text, at) {
                    Some(word) => at += ((word ^ each(b' ')).trailing_zeros() / 8) as usize,
                    None => at += 1,
                },
                Some(byte) => break *byte,
                None => break 0,
            }
        };
        self.at = at;
        if let Some(copy) = &mut self.copy {
            copy.from = at;
        }
        next
    }

    /// Begins an object, `{`, or a list, `[`.
    ///
    /// # Errors
    /// [`Stop`] if it is none, or is too deep.
    pub fn begin(&mut self, open: u8) -> Read<()> {
        if self.peek() != open {
            return Err(self.expected(if open == b'{' { "an object" } else { "a list" }));
        }
        if self.depth == MAX_DEPTH {
            return Err(self.wrong("it is nested more than 127 levels deep"));
        }
        self.depth += 1;
        self.at += 1;
        self.first = true;
        if self.depth == 1
            && let Some(copy) = &mut self.copy
            && copy.out.len() > 0
        {
            copy.from = self.at;
            if !copy.out.ends_with(b'{') {
                copy.out.push(b',');
            }
        }
        Ok(())
    }

    /// Is there something more in this object or list?
    #[inline(always)]
    fn more(&mut self, close: u8, expected: &str) -> Read<bool> {
        let next = self.peek();
        let first = core::mem::take(&mut self.first);
        if next == close {
            self.depth -= 1;
            if self.pretty && !first {
                self.begin_line();
            }
            self.at += 1;
            return Ok(false);
        }
        if !first {
            if next != b',' {
                return Err(self.expected(expected));
            }
            self.at += 1;
        }
        if self.pretty {
            self.begin_line();
        }
        Ok(true)
    }

    /// A line of the copy begins here.
    fn begin_line(&mut self) {
        self.pass_space(0..1 + 2 * self.depth);
    }

    /// The name of the next member of the object that was begun; none: it ends.
    ///
    /// # Errors
    /// [`Stop`].
    pub fn member(&mut self) -> Read<Option<Text<'a>>> {
        if !self.more(b'}', "`,` or `}`")? {
            return Ok(None);
        }
        let name = self.quoted("a member's name in double quotes")?;
        if self.peek() != b':' {
            return Err(self.expected("`:`"));
        }
        self.at += 1;
        if self.pretty {
            if self.text.get(self.at) == Some(&b' ') {
                // As it is to be in the copy, and as many writers put it. What follows it is passed by who reads on.
                self.at += 1;
            } else {
                self.pass_space(1..2);
            }
        }
        Ok(Some(name))
    }

    /// Is there a next item in the list that was begun?
    ///
    /// # Errors
    /// [`Stop`].
    pub fn item(&mut self) -> Read<bool> {
        self.more(b']', "`,` or `]`")
    }

    /// Notes that a member was met.
    ///
    /// # Errors
    /// [`Stop`] if it was before. Readers differ in which of two they take: the text would not mean the same
    /// to everybody.
    pub fn once(&mut self, met: &mut u32, index: usize, name: &str) -> Read<()> {
        if *met & (1 << index) != 0 {
            return Err(self.wrong(["the member `", name, "` stands twice"].concat()));
        }
        *met |= 1 << index;
        Ok(())
    }

    /// The index of the next of these members of the object that was begun, each of which stands there once
    /// at most. Others are passed over. None: the object ends.
    ///
    /// # Errors
    /// [`Stop`].
    pub fn known(&mut self, names: &[&str], met: &mut u32) -> Read<Option<usize>> {
        while let Some(name) = self.member()? {
            if let Some(index) = name.position(names) {
                self.once(met, index, names[index])?;
                return Ok(Some(index));
            }
            self.skip()?;
        }
        Ok(None)
    }

    /// That those members were met that are needed, a bit each.
    ///
    /// # Errors
    /// [`Stop`] if one was not.
    pub fn all_of(&mut self, names: &[&str], met: u32, needed: u32) -> Read<()> {
        match needed & !met {
            0 => Ok(()),
            missing => Err(self.missing(names[missing.trailing_zeros() as usize])),
        }
    }

    /// A member that was not met before the object ended.
    #[cold]
    pub fn missing(&mut self, name: &str) -> Stop {
        self.at -= 1;
        self.wrong(["missing member `", name, "`"].concat())
    }

    /// A string.
    ///
    /// # Errors
    /// [`Stop`] if there is none.
    pub fn string(&mut self) -> Read<Text<'a>> {
        self.quoted("a string")
    }

    fn quoted(&mut self, what: &str) -> Read<Text<'a>> {
        if self.peek() != b'"' {
            return Err(self.expected(what));
        }
        let start = self.at + 1;
        self.at = start;
        let mut escaped = false;
        loop {
            self.at = plain_to(self.text, self.at);
            match self.text.get(self.at) {
                Some(b'"') => break,
                Some(b'\\') => {
                    escaped = true;
                    self.escape()?;
                }
                Some(0..=0x1f) => {
                    return Err(self.wrong("a control character in a string; write it as an escape"));
                }
                Some(_) => self.at += 1,
                None => return Err(self.wrong("a string that does not end")),
            }
        }
        let raw = &self.text[start..self.at];
        let is_unchecked = self.skipping || self.copy.is_some();
        if !is_unchecked && !self.has_only_ascii() && str::from_utf8(raw).is_err() {
            return Err(self.wrong("not UTF-8"));
        }
        self.at += 1;
        Ok(Text { raw, escaped })
    }

    fn has_only_ascii(&mut self) -> bool {
        *self.is_ascii.get_or_insert_with(|| is_ascii(self.text))
    }

    /// Past an escape.
    fn escape(&mut self) -> Read<()> {
        match self.text.get(self.at + 1) {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => self.at += 2,
            Some(b'u') => match code_unit(self.text, self.at + 2) {
                Some(unit) if unit & 0xf800 == 0xd800 => {
                    let next = match self.text.get(self.at + 6..self.at + 8) {
                        Some(b"\\u") => code_unit(self.text, self.at + 8),
                        _ => None,
                    };
                    // JavaScript writes halves of UTF-16 pairs, no UTF-8 string holds them.
                    if unit >= 0xdc00 || !matches!(next, Some(0xdc00..=0xdfff)) {
                        if self.skipping {
                            self.at += 6;
                            return Ok(());
                        }
                        return Err(self.wrong(
                            "a string holds a lone surrogate escape (\\ud800 to \\udfff), which is no character",
                        ));
                    }
                    self.at += 12;
                }
                Some(_) => self.at += 6,
                None => return Err(self.wrong("an escape with other than four hexadecimal digits")),
            },
            _ => return Err(self.wrong("an escape that JSON does not have")),
        }
        Ok(())
    }

    /// A number, as it is written.
    fn number(&mut self) -> Read<&'a [u8]> {
        let start = self.at;
        let take = |at: &mut usize, bytes: &[u8]| {
            let found = self.text.get(*at).is_some_and(|byte| bytes.contains(byte));
            *at += usize::from(found);
            found
        };
        let digits = |at: &mut usize| {
            let begin = *at;
            while self.text.get(*at).is_some_and(u8::is_ascii_digit) {
                *at += 1;
            }
            *at > begin
        };
        let mut at = start;
        take(&mut at, b"-");
        let is_number = (take(&mut at, b"0") || digits(&mut at))
            && (!take(&mut at, b".") || digits(&mut at))
            && (!take(&mut at, b"eE") || {
                take(&mut at, b"+-");
                digits(&mut at)
            });
        self.at = at;
        if is_number { Ok(&self.text[start..at]) } else { Err(self.expected("a digit")) }
    }

    /// A whole number, up to the greatest that is asked for.
    fn whole(&mut self, max: u64) -> Read<u64> {
        if !self.peek().is_ascii_digit() {
            // To say of a number that it is none would not help.
            return Err(match self.peek() {
                b'-' => self.wrong("expected a whole number, not a negative one"),
                _ => self.expected("a whole number"),
            });
        }
        let start = self.at;
        let digits = self.number()?;
        match whole(digits) {
            Some(number) if number <= max => Ok(number),
            _ => {
                self.at = start;
                Err(self.wrong(format!("expected a whole number of at most {max}")))
            }
        }
    }

    /// A whole number.
    ///
    /// # Errors
    /// [`Stop`] if it is none, or one of more bits.
    pub fn u64(&mut self) -> Read<u64> {
        self.whole(u64::MAX)
    }

    /// A whole number of 32 bits.
    ///
    /// # Errors
    /// [`Stop`] if it is none, or one of more bits.
    pub fn u32(&mut self) -> Read<u32> {
        self.whole(u32::MAX.into()).map(|number| number as u32)
    }

    /// True or false.
    ///
    /// # Errors
    /// [`Stop`] if it is neither.
    pub fn truth(&mut self) -> Read<bool> {
        match self.peek() {
            b't' => self.literal(b"true").map(|()| true),
            b'f' => self.literal(b"false").map(|()| false),
            _ => Err(self.expected("true or false")),
        }
    }

    fn literal(&mut self, word: &[u8]) -> Read<()> {
        if !self.text[self.at..].starts_with(word) {
            return Err(self.wrong("expected a value"));
        }
        self.at += word.len();
        Ok(())
    }

    /// Reads `null`, if that is what stands here.
    ///
    /// # Errors
    /// [`Stop`] if it only begins like it.
    pub fn null(&mut self) -> Read<bool> {
        match self.peek() {
            b'n' => self.literal(b"null").map(|()| true),
            _ => Ok(false),
        }
    }

    /// A string or `null`.
    ///
    /// # Errors
    /// [`Stop`] if it is neither.
    pub fn optional_string(&mut self) -> Read<Option<String>> {
        if self.null()? { Ok(None) } else { self.string().map(|text| Some(text.decode().into_owned())) }
    }

    /// A string; any other value is passed over.
    ///
    /// # Errors
    /// [`Stop`] if it is no value.
    pub fn string_if(&mut self) -> Read<Option<String>> {
        match self.peek() {
            b'"' => self.string().map(|text| Some(text.decode().into_owned())),
            _ => self.skip().map(|()| None),
        }
    }

    /// A whole number of 32 bits; any other value is passed over.
    ///
    /// # Errors
    /// [`Stop`] if it is no value.
    pub fn u32_if(&mut self) -> Read<Option<u32>> {
        match self.peek() {
            b'0'..=b'9' => Ok(whole(self.number()?).and_then(|number| u32::try_from(number).ok())),
            _ => self.skip().map(|()| None),
        }
    }

    /// Is the next value an object?
    pub fn is_object(&mut self) -> bool {
        self.peek() == b'{'
    }

    /// A string, a number, a truth value or `null`.
    fn scalar(&mut self) -> Read<()> {
        match self.peek() {
            b'"' => self.string().map(drop),
            b'-' | b'0'..=b'9' => self.number().map(drop),
            b't' => self.literal(b"true"),
            b'f' => self.literal(b"false"),
            b'n' => self.literal(b"null"),
            _ => Err(self.expected("a value")),
        }
    }

    /// Past a value, whose strings need not be characters: who writes a member that is not known here
    /// answers for it.
    ///
    /// # Errors
    /// [`Stop`] if it is none.
    pub fn skip(&mut self) -> Read<()> {
        self.skipping = true;
        let skipped = self.value();
        self.skipping = false;
        skipped
    }

    /// Past a value.
    ///
    /// # Errors
    /// [`Stop`] if it is none.
    pub fn value(&mut self) -> Read<()> {
        match self.peek() {
            b'{' => {
                self.begin(b'{')?;
                while self.member()?.is_some() {
                    self.value()?;
                }
            }
            b'[' => {
                self.begin(b'[')?;
                while self.item()? {
                    self.value()?;
                }
            }
            _ => self.scalar()?,
        }
        Ok(())
    }
}

/// The text is none.
#[cold]
pub fn not_utf8(error: Utf8Error) -> String {
    format!("not UTF-8 after byte {}", error.valid_up_to())
}

/// What digits say; none if there are others, or too many.
fn whole(digits: &[u8]) -> Option<u64> {
    if digits.len() < 20 {
        // There are not too many, and the checks for that take a multiplication of 128 bits each.
        return digits.iter().try_fold(0_u64, |number, digit| {
            let value = digit.wrapping_sub(b'0');
            (value <= 9).then(|| number.wrapping_mul(10).wrapping_add(value.into()))
        });
    }
    digits.iter().try_fold(0_u64, |number, digit| {
        let value = digit.wrapping_sub(b'0');
        if value > 9 { None } else { number.checked_mul(10)?.checked_add(value.into()) }
    })
}
