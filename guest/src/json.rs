//! JSON text, reformatted without being interpreted. Invariant: numbers and strings come out
//! character for character as they went in. A value that is parsed and printed again is not the same
//! value: 9007199254740993 and 1e400 do not survive a float, `1.0` becomes `1`.

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use std::fmt;
use std::marker::PhantomData;

/// A value that must be written as an object. What serde derives for a struct takes a list of the
/// values in their order too, which nobody else does.
#[derive(Debug)]
pub struct Object<T>(pub T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Only<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Only<T> {
            type Value = T;
            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a JSON object")
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map))
            }
        }
        deserializer.deserialize_map(Only(PhantomData)).map(Object)
    }
}

/// Why a text is not JSON that everybody can read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// A `\u` escape stands for half a UTF-16 pair. JavaScript writes it, no UTF-8 string holds it.
    LoneSurrogate,
    /// More than [`MAX_DEPTH`] levels. Laid out, a small text of brackets alone would take gigabytes,
    /// and many readers recurse: serde_json takes 127 levels unless told otherwise.
    TooDeep,
}

/// How many objects and lists may stand in each other.
pub const MAX_DEPTH: usize = 127;

impl Malformed {
    /// In words.
    pub fn describe(self) -> &'static str {
        match self {
            Malformed::LoneSurrogate => {
                "a string holds a lone surrogate escape (\\ud800 to \\udfff), which is no character"
            }
            Malformed::TooDeep => "it is nested more than 127 levels deep",
        }
    }
}

/// How to lay a text out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// No white space outside strings.
    Compact,
    /// One member a line, indented by two spaces a level, starting at this level.
    Pretty {
        /// The level of the value itself.
        level: usize,
    },
}

/// Appends `json`, which must be one valid JSON value, to `out` in a layout.
///
/// # Errors
/// [`Malformed`]; `out` then holds a part of it.
pub fn append(out: &mut String, json: &str, layout: Layout) -> Result<(), Malformed> {
    let bytes = json.as_bytes();
    let (pretty, mut level) = match layout {
        Layout::Compact => (false, 1),
        Layout::Pretty { level } => (true, level),
    };
    let mut position = 0;
    while position < bytes.len() {
        match bytes[position] {
            b' ' | b'\t' | b'\n' | b'\r' => position += 1,
            b'"' => {
                let end = string_end(bytes, position)?;
                out.push_str(&json[position..end]);
                position = end;
            }
            open @ (b'{' | b'[') => {
                out.push(char::from(open));
                position += 1;
                if level == MAX_DEPTH {
                    return Err(Malformed::TooDeep);
                }
                let next = bytes[position..].iter().position(|byte| !byte.is_ascii_whitespace());
                let next = next.map_or(bytes.len(), |skip| position + skip);
                if let Some(close @ (b'}' | b']')) = bytes.get(next) {
                    out.push(char::from(*close));
                    position = next + 1;
                } else {
                    level += 1;
                    new_line(out, pretty, level);
                }
            }
            close @ (b'}' | b']') => {
                level = level.saturating_sub(1);
                new_line(out, pretty, level);
                out.push(char::from(close));
                position += 1;
            }
            b',' => {
                out.push(',');
                new_line(out, pretty, level);
                position += 1;
            }
            b':' => {
                out.push_str(if pretty { ": " } else { ":" });
                position += 1;
            }
            _ => {
                // A number or a literal: up to the next structural character.
                let rest = &bytes[position..];
                let len = rest
                    .iter()
                    .position(|byte| matches!(byte, b',' | b':' | b'}' | b']') || byte.is_ascii_whitespace())
                    .unwrap_or(rest.len());
                out.push_str(&json[position..position + len]);
                position += len;
            }
        }
    }
    Ok(())
}

/// Starts a line at a level, in the pretty layout.
pub fn new_line(out: &mut String, pretty: bool, level: usize) {
    if pretty {
        out.push('\n');
        for _ in 0..level {
            out.push_str("  ");
        }
    }
}

/// Where the string that starts at `start` ends, one past its closing quote.
fn string_end(bytes: &[u8], start: usize) -> Result<usize, Malformed> {
    let mut position = start + 1;
    while position < bytes.len() {
        match bytes[position] {
            b'"' => return Ok(position + 1),
            b'\\' if bytes.get(position + 1) == Some(&b'u') => {
                let unit = code_unit(bytes, position);
                position += 6;
                match unit {
                    Some(0xd800..=0xdbff) => {
                        if !matches!(code_unit(bytes, position), Some(0xdc00..=0xdfff)) {
                            return Err(Malformed::LoneSurrogate);
                        }
                        position += 6;
                    }
                    Some(0xdc00..=0xdfff) => return Err(Malformed::LoneSurrogate),
                    _ => {}
                }
            }
            b'\\' => position += 2,
            _ => position += 1,
        }
    }
    Ok(bytes.len())
}

/// The value of the `\uXXXX` escape at `position`, if there is one.
fn code_unit(bytes: &[u8], position: usize) -> Option<u32> {
    let escape = bytes.get(position..position + 6)?;
    if &escape[..2] != b"\\u" {
        return None;
    }
    escape[2..].iter().try_fold(0, |unit, &byte| Some(unit << 4 | char::from(byte).to_digit(16)?))
}
