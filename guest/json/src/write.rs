//! Writing a JSON text.

use super::buffer::{Buffer, Piece};
use super::{LINE, Layout, MAX_DEPTH, is_plain, plain_to};
use alloc::vec::Vec;

/// Writes one value, member by member and item by item.
#[derive(Debug)]
pub struct Writer {
    out: Buffer,
    layout: Layout,
    level: usize,
    /// Nothing was written into the object or list that was begun.
    first: bool,
}

impl Writer {
    /// An empty one, with room for so many bytes.
    pub fn new(layout: Layout, capacity: usize) -> Self {
        Writer { out: Buffer::with_capacity(capacity), layout, level: 0, first: true }
    }

    /// What was written.
    pub fn into_bytes(self) -> Vec<u8> {
        self.out.into_bytes()
    }

    /// The content of a file: what was written, and a line end.
    pub fn into_file(mut self) -> Vec<u8> {
        self.out.push(b'\n');
        self.out.into_bytes()
    }

    /// One that goes on where a text was cut off that one has begun, in the outermost object.
    pub fn continued(layout: Layout, begun: &[&[u8]], capacity: usize) -> Self {
        let mut out = Buffer::with_capacity(capacity);
        begun.iter().for_each(|piece| out.extend(piece));
        let first = out.ends_with(b'{');
        Writer { out, layout, level: 1, first }
    }

    /// A member as it was laid out before, without the comma.
    pub fn member_as(&mut self, member: &[u8]) {
        if !core::mem::take(&mut self.first) {
            self.out.push(b',');
        }
        self.out.extend(member);
    }

    fn new_line(&mut self) {
        if self.layout == Layout::Pretty {
            self.out.extend(&LINE[..1 + 2 * self.level.min(MAX_DEPTH)]);
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
        self.out.extend(raw);
        self.out.extend(if self.layout == Layout::Pretty { b"\": " } else { b"\":" });
    }

    /// Begins a member like this, or without the comma if it is the first one.
    pub fn member(&mut self, begin: &Piece) {
        if core::mem::take(&mut self.first) {
            self.out.extend(&begin.bytes()[1..]);
        } else {
            self.out.extend_piece(begin);
        }
    }

    /// A member that begins like this and is a string, and is left out if there is none.
    pub fn member_if(&mut self, begin: &Piece, text: Option<&str>) {
        if let Some(text) = text {
            self.member(begin);
            self.string(text);
        }
    }

    /// A string that, between its quotes, is written like this.
    pub fn quoted(&mut self, raw: &[u8]) {
        self.out.extend_quoted(raw);
    }

    /// A value that is written like this.
    pub fn raw(&mut self, value: &[u8]) {
        self.out.extend(value);
    }

    /// A string.
    pub fn string(&mut self, text: &str) {
        if is_plain(text.as_bytes()) {
            return self.out.extend_quoted(text.as_bytes());
        }
        self.out.push(b'"');
        let mut rest = text.as_bytes();
        let special = |byte: &u8| *byte < b' ' || *byte == b'"' || *byte == b'\\';
        while let Some(at) = {
            let plain = plain_to(rest, 0);
            rest[plain..].iter().position(special).map(|at| plain + at)
        } {
            self.out.extend(&rest[..at]);
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
            self.out.extend(&[b'\\', short]);
            if short == b'u' {
                let digit = |half: u8| b"0123456789abcdef"[usize::from(half)];
                self.out.extend(&[b'0', b'0', digit(byte >> 4), digit(byte & 15)]);
            }
            rest = &rest[at + 1..];
        }
        self.out.extend(rest);
        self.out.push(b'"');
    }

    /// A member that is a string.
    pub fn member_string(&mut self, name: &str, text: &str) {
        self.name(name.as_bytes());
        self.string(text);
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
        self.out.extend(&digits[at..]);
    }

    /// A whole number, or `null`.
    pub fn optional_number(&mut self, number: Option<u64>) {
        match number {
            Some(number) => self.number(number),
            None => self.raw(b"null"),
        }
    }
}
