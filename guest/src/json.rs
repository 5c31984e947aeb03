//! JSON text (RFC 8259), read in one pass and written. Invariant: a text is read to its end or refused with
//! the place where it stops to be what it must be; numbers and strings are handed on character for character
//! as they stand. A value that is parsed and printed again is not the same value: 9007199254740993 and 1e400
//! do not survive a float, `1.0` becomes `1`.
//!
//! Of our own, where libraries do the rest, since every instance of the component carries it: what serde
//! derives for the few formats here and serde_json made up 100 kB of it, this module and the formats over it
//! make up 15; and an entry is checked and laid out anew in one pass instead of four. Of the small libraries
//! none tells positions, checks strings and hands them on as they stand; the nearest, hifijson, checks them
//! only when it decodes them, byte by byte.

use crate::prelude::*;
use alloc::borrow::Cow;
use core::ops::Range;

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

    /// What it says.
    pub fn decode(self) -> Cow<'a, str> {
        // The reader has checked it.
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

/// The eight bytes at `at`, the first the lowest.
fn word(text: &[u8], at: usize) -> Option<u64> {
    text.get(at..)?.first_chunk().map(|bytes| u64::from_le_bytes(*bytes))
}

/// Are they the same? Eight bytes at a time: names are too short for a call that compares memory.
fn is_same(one: &[u8], other: &[u8]) -> bool {
    if one.len() != other.len() {
        return false;
    }
    match (one.first_chunk::<8>(), other.first_chunk::<8>(), one.last_chunk::<8>(), other.last_chunk::<8>()) {
        (Some(begin), Some(other_begin), Some(end), Some(other_end)) if one.len() <= 16 => {
            u64::from_ne_bytes(*begin) == u64::from_ne_bytes(*other_begin)
                && u64::from_ne_bytes(*end) == u64::from_ne_bytes(*other_end)
        }
        _ => one.iter().zip(other).all(|(one, other)| one == other),
    }
}

/// Where the first quote, backslash or control character is, from `at` on, or where fewer than eight bytes are
/// left; and all bits that are set in the bytes before it.
fn plain_to(text: &[u8], mut at: usize, bits: &mut u64) -> usize {
    // Where a byte is one of them, the subtraction sets its highest bit; it may also do so behind that byte,
    // never before.
    while let Some(word) = word(text, at) {
        let (quote, backslash) = (word ^ each(b'"'), word ^ each(b'\\'));
        let ends =
            word.wrapping_sub(each(b' ')) | quote.wrapping_sub(each(1)) | backslash.wrapping_sub(each(1));
        let ends = ends & !word & each(0x80);
        *bits |= word;
        if ends != 0 {
            return at + (ends.trailing_zeros() / 8) as usize;
        }
        at += 8;
    }
    at
}

/// Reads one value, member by member and item by item, as the caller asks for them.
///
/// ```
/// # use consolidation_guest::json::Reader;
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
    fault: Option<(usize, Cow<'static, str>)>,
}

impl<'a> Reader<'a> {
    /// Of a text.
    pub fn new(text: &'a [u8]) -> Self {
        Reader { text, start: 0, at: 0, depth: 0, first: false, skipping: false, fault: None }
    }

    /// Of a text that may begin with a byte-order mark, which is skipped (RFC 8259, section 8.1, permits it).
    pub fn after_mark(text: &'a [u8]) -> Self {
        let start = if text.starts_with(b"\xef\xbb\xbf") { 3 } else { 0 };
        Reader { start, at: start, ..Reader::new(text) }
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
            return format!("not UTF-8 after byte {}", error.valid_up_to());
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
        let found = match self.text.get(self.at) {
            Some(b'{') => ", not an object",
            Some(b'[') => ", not a list",
            Some(b'"') => ", not a string",
            Some(b'-' | b'0'..=b'9') => ", not a number",
            Some(b't' | b'f') => ", not true or false",
            Some(b'n') => ", not null",
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
        loop {
            match self.text.get(self.at) {
                Some(b'\n' | b'\r' | b'\t') => self.at += 1,
                Some(b' ') => match word(self.text, self.at) {
                    Some(word) => self.at += ((word ^ each(b' ')).trailing_zeros() / 8) as usize,
                    None => self.at += 1,
                },
                Some(byte) => return *byte,
                None => return 0,
            }
        }
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
        Ok(())
    }

    /// Is there something more in this object or list?
    fn more(&mut self, close: u8, expected: &str) -> Read<bool> {
        let next = self.peek();
        let first = core::mem::take(&mut self.first);
        if next == close {
            self.at += 1;
            self.depth -= 1;
            return Ok(false);
        }
        if !first {
            if next != b',' {
                return Err(self.expected(expected));
            }
            self.at += 1;
        }
        Ok(true)
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
        let (mut bytes, mut escaped) = (0, false);
        loop {
            self.at = plain_to(self.text, self.at, &mut bytes);
            match self.text.get(self.at) {
                Some(b'"') => break,
                Some(b'\\') => {
                    escaped = true;
                    self.escape()?;
                }
                Some(0..=0x1f) => {
                    return Err(self.wrong("a control character in a string; write it as an escape"));
                }
                Some(byte) => {
                    bytes |= u64::from(*byte);
                    self.at += 1;
                }
                None => return Err(self.wrong("a string that does not end")),
            }
        }
        let raw = &self.text[start..self.at];
        if bytes & each(0x80) != 0 && !self.skipping && str::from_utf8(raw).is_err() {
            return Err(self.wrong("not UTF-8"));
        }
        self.at += 1;
        Ok(Text { raw, escaped })
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
            return Err(self.expected("a whole number"));
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

    /// A string, a number, a truth value or `null`, as it is written.
    fn scalar(&mut self) -> Read<&'a [u8]> {
        let next = self.peek();
        let start = self.at;
        match next {
            b'"' => self.string().map(drop)?,
            b'-' | b'0'..=b'9' => self.number().map(drop)?,
            b't' => self.literal(b"true")?,
            b'f' => self.literal(b"false")?,
            b'n' => self.literal(b"null")?,
            _ => return Err(self.expected("a value")),
        }
        Ok(&self.text[start..self.at])
    }

    /// Past a value, whose strings need not be characters: who writes a member that is not known here
    /// answers for it.
    ///
    /// # Errors
    /// [`Stop`] if it is none.
    pub fn skip(&mut self) -> Read<()> {
        self.skipping = true;
        let skipped = self.skip_value();
        self.skipping = false;
        skipped
    }

    fn skip_value(&mut self) -> Read<()> {
        match self.peek() {
            b'{' => {
                self.begin(b'{')?;
                while self.member()?.is_some() {
                    self.skip_value()?;
                }
            }
            b'[' => {
                self.begin(b'[')?;
                while self.item()? {
                    self.skip_value()?;
                }
            }
            _ => {
                self.scalar()?;
            }
        }
        Ok(())
    }

    /// A value, laid out anew without being interpreted.
    ///
    /// # Errors
    /// [`Stop`] if it is none; a part of it is written.
    pub fn copy(&mut self, out: &mut Writer) -> Read<()> {
        match self.peek() {
            b'{' => {
                self.begin(b'{')?;
                out.begin(b'{');
                while let Some(name) = self.member()? {
                    out.name(name.raw());
                    self.copy(out)?;
                }
                out.end(b'}');
            }
            b'[' => {
                self.begin(b'[')?;
                out.begin(b'[');
                while self.item()? {
                    out.item();
                    self.copy(out)?;
                }
                out.end(b']');
            }
            _ => out.raw(self.scalar()?),
        }
        Ok(())
    }
}

/// What digits say; none if there are others, or too many.
fn whole(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0_u64, |number, digit| {
        let value = digit.wrapping_sub(b'0');
        if value > 9 { None } else { number.checked_mul(10)?.checked_add(value.into()) }
    })
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

/// Writes one value, member by member and item by item.
#[derive(Debug)]
pub struct Writer {
    out: Vec<u8>,
    layout: Layout,
    level: usize,
    /// Nothing was written into the object or list that was begun.
    first: bool,
}

impl Writer {
    /// An empty one, with room for so many bytes.
    pub fn new(layout: Layout, capacity: usize) -> Self {
        Writer { out: Vec::with_capacity(capacity), layout, level: 0, first: true }
    }

    /// What was written.
    pub fn into_bytes(self) -> Vec<u8> {
        self.out
    }

    /// The content of a file: what was written, and a line end.
    pub fn into_file(mut self) -> Vec<u8> {
        self.out.push(b'\n');
        self.out
    }

    /// How many bytes were written.
    pub fn len(&self) -> usize {
        self.out.len()
    }

    /// Was nothing written?
    pub fn is_empty(&self) -> bool {
        self.out.is_empty()
    }

    /// Another one, that has the beginning of this one, and room for so many bytes more.
    pub fn again(&self, head: usize, room: usize) -> Self {
        let mut out = Vec::with_capacity(self.out.len() + room);
        out.extend_from_slice(&self.out[..head]);
        Writer { out, layout: self.layout, level: 1, first: head == 1 }
    }

    /// A member as another one has written it.
    pub fn member_of(&mut self, other: &Self, range: Range<usize>) {
        let member = &other.out[range];
        if !core::mem::take(&mut self.first) {
            self.out.push(b',');
        }
        self.out.extend_from_slice(member.strip_prefix(b",").unwrap_or(member));
    }

    fn new_line(&mut self) {
        if self.layout == Layout::Pretty {
            self.out.extend_from_slice(&LINE[..1 + 2 * self.level.min(MAX_DEPTH)]);
        }
    }

    /// Begins an object, `{`, or a list, `[`.
    pub fn begin(&mut self, open: u8) {
        self.out.push(open);
        self.level += 1;
        self.first = true;
    }

    /// Ends an object, `}`, or a list, `]`.
    pub fn end(&mut self, close: u8) {
        self.level -= 1;
        if !core::mem::take(&mut self.first) {
            self.new_line();
        }
        self.out.push(close);
    }

    /// Begins an item.
    pub fn item(&mut self) {
        if !core::mem::take(&mut self.first) {
            self.out.push(b',');
        }
        self.new_line();
    }

    /// Begins a member whose name, between its quotes, is written like this.
    pub fn name(&mut self, raw: &[u8]) {
        self.item();
        self.out.push(b'"');
        self.out.extend_from_slice(raw);
        self.out.push(b'"');
        self.out.push(b':');
        if self.layout == Layout::Pretty {
            self.out.push(b' ');
        }
    }

    /// A string that, between its quotes, is written like this.
    pub fn quoted(&mut self, raw: &[u8]) {
        self.out.push(b'"');
        self.out.extend_from_slice(raw);
        self.out.push(b'"');
    }

    /// A value that is written like this.
    pub fn raw(&mut self, value: &[u8]) {
        self.out.extend_from_slice(value);
    }

    /// A string.
    pub fn string(&mut self, text: &str) {
        self.out.push(b'"');
        let mut rest = text.as_bytes();
        let special = |byte: &u8| *byte < b' ' || *byte == b'"' || *byte == b'\\';
        while let Some(at) = {
            let plain = plain_to(rest, 0, &mut 0);
            rest[plain..].iter().position(special).map(|at| plain + at)
        } {
            self.out.extend_from_slice(&rest[..at]);
            let byte = rest[at];
            let short = match byte {
                8 => b'b',
                9 => b't',
                10 => b'n',
                12 => b'f',
                13 => b'r',
                b'"' | b'\\' => byte,
                _ => b'u',
            };
            self.out.extend_from_slice(&[b'\\', short]);
            if short == b'u' {
                let digit = |half: u8| b"0123456789abcdef"[usize::from(half)];
                self.out.extend_from_slice(&[b'0', b'0', digit(byte >> 4), digit(byte & 15)]);
            }
            rest = &rest[at + 1..];
        }
        self.out.extend_from_slice(rest);
        self.out.push(b'"');
    }

    /// A member that is a string.
    pub fn member_string(&mut self, name: &str, text: &str) {
        self.name(name.as_bytes());
        self.string(text);
    }

    /// A member that is a string and is left out if there is none.
    pub fn member_string_if(&mut self, name: &str, text: Option<&str>) {
        if let Some(text) = text {
            self.member_string(name, text);
        }
    }

    /// A string, or `null`.
    pub fn optional_string(&mut self, text: Option<&str>) {
        match text {
            Some(text) => self.string(text),
            None => self.raw(b"null"),
        }
    }

    /// A whole number.
    pub fn number(&mut self, mut number: u64) {
        let mut digits = [0; 20];
        let mut at = digits.len();
        loop {
            at -= 1;
            digits[at] = b'0' + (number % 10) as u8;
            number /= 10;
            if number == 0 {
                break;
            }
        }
        self.out.extend_from_slice(&digits[at..]);
    }

    /// A whole number, or `null`.
    pub fn optional_number(&mut self, number: Option<u64>) {
        match number {
            Some(number) => self.number(number),
            None => self.raw(b"null"),
        }
    }
}
