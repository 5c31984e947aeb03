//! The one home of the format of a memory record: front matter and a Markdown body. Invariant: a file
//! that is read and rendered again differs in nothing but the lines of known keys whose values differ;
//! unknown keys, comments, order and line ends pass through byte for byte.
//!
//! ```text
//! ---
//! kind: decision
//! slug: use-sqlite
//! title: "Use SQLite"
//! status: active
//! sources:
//!   - {segment_id: "session-1", range: [0, 17]}
//! created: 2026-05-01T12:00:00Z
//! updated: 2026-05-01T12:00:00Z
//! replaced_by: decision/use-postgres
//! ---
//!
//! Body
//! ```
//!
//! The front matter is taken apart by lines: a key begins in the first column, and what follows it
//! indented, `- ` items, comments and blank lines belong to it. Only the values of known keys are looked
//! at, and as tolerantly as is possible without guessing: plain, quoted and block scalars, flow and block
//! lists, CRLF, a byte-order mark, missing keys, no front matter at all. It is no YAML parser: anchors and
//! tags mean nothing here, and in `sources` they are refused.

use super::{Record, Status, shown};
use crate::entry::Source;
use crate::layout::RecordName;
use crate::order;
use crate::prelude::*;
use crate::time::parse_rfc3339;
use core::fmt::{self, Write as _};
use core::ops::Range;

/// The largest record file, in bytes.
pub const MAX_RECORD_BYTES: u64 = 1024 * 1024;

/// The longest title, in characters.
pub const MAX_TITLE_CHARS: usize = 300;

/// The known keys, in the order in which they are written.
const KEYS: [&str; 8] = ["kind", "slug", "title", "status", "sources", "created", "updated", "replaced_by"];
const KIND: usize = 0;
const SLUG: usize = 1;
const TITLE: usize = 2;
const STATUS: usize = 3;
const SOURCES: usize = 4;
const CREATED: usize = 5;
const UPDATED: usize = 6;
const REPLACED_BY: usize = 7;

/// How deep lists and mappings in `sources` may stand in each other. A source needs 3 levels.
const MAX_DEPTH: usize = 8;

/// What can't be understood, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong and what helps, in words.
    pub what: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "line {}: {}", self.line, self.what)
    }
}

impl Fault {
    /// At this byte of a text.
    fn at(text: &[u8], at: usize, what: impl Into<String>) -> Self {
        let before = text.get(..at).unwrap_or(text);
        Fault { line: 1 + before.iter().filter(|byte| **byte == b'\n').count(), what: what.into() }
    }
}

/// The text of a file.
///
/// # Errors
/// It is not UTF-8.
pub fn text_of(content: Vec<u8>) -> Result<String, Fault> {
    String::from_utf8(content).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        Fault::at(error.as_bytes(), at, "it is not UTF-8; save it in this encoding")
    })
}

/// A file that was taken apart. It borrows the text and renders changes into it.
#[derive(Debug)]
pub struct Document<'a> {
    text: &'a str,
    /// Between the fences, in `text`; none: it has no front matter.
    front: Option<Range<usize>>,
    /// Where the text after the closing fence begins, or after the byte-order mark.
    rest: usize,
    /// Where the body begins: after one blank line, if there is one.
    body: usize,
    blocks: [Option<Block<'a>>; KEYS.len()],
}

/// A known key and its value.
#[derive(Debug)]
struct Block<'a> {
    /// The lines that the value is written in. Comments and blank lines that follow are not among them.
    span: Range<usize>,
    /// The comments in those lines. Who rewrites the lines keeps them.
    comments: Vec<Comment<'a>>,
    value: Value<'a>,
}

/// A comment, up to the end of its line.
#[derive(Clone, Copy, Debug)]
struct Comment<'a> {
    /// With what it is indented by, if it has a line of its own.
    text: &'a str,
    own_line: bool,
}

#[derive(Debug)]
enum Value<'a> {
    /// None: `null`, or nothing.
    Text(Option<String>),
    Sources(Vec<Source>, Append<'a>),
}

/// How a source is added to a list, so that every byte of the list stays.
#[derive(Clone, Copy, Debug)]
enum Append<'a> {
    /// There is no list yet: the lines are written anew.
    Anew,
    /// After the last item, with this indentation.
    Lines(&'a str),
    /// In a flow list, at this byte, after this.
    Flow(usize, &'static str),
}

/// Takes a file apart.
///
/// # Errors
/// What can't be understood: front matter that does not end, a line in it that is no part of a key, a known
/// key that stands twice or has a value of another form.
pub fn parse(text: &str) -> Result<Document<'_>, Fault> {
    Reader { text }.document().map_err(|(at, what)| Fault::at(text.as_bytes(), at, what))
}

/// A new file.
pub fn render(record: &Record) -> String {
    let empty = Document { text: "", front: None, rest: 0, body: 0, blocks: Default::default() };
    empty.render(record)
}

/// What `kind/slug`, or a slug of the same kind, names.
pub fn target(kind: &str, text: &str) -> Option<RecordName> {
    let (kind, slug) = text.split_once('/').unwrap_or((kind, text));
    RecordName::parse(kind, slug)
}

impl Document<'_> {
    /// What it says, as the record of this name.
    pub fn record(&self, name: &RecordName) -> Record {
        let body = &self.text[self.body..];
        let text = |key| self.text_of(key).filter(|text| !text.trim().is_empty());
        Record {
            name: name.clone(),
            title: text(TITLE).map_or_else(|| heading(body).unwrap_or(name.slug()).into(), Into::into),
            status: text(STATUS).unwrap_or("active").into(),
            sources: self.sources().to_vec(),
            created: text(CREATED).unwrap_or_default().into(),
            updated: text(UPDATED).unwrap_or_default().into(),
            replaced_by: text(REPLACED_BY)
                .map(|text| target(name.kind(), text).map_or_else(|| text.into(), |name| name.to_string())),
            body: body.into(),
        }
    }

    /// Values that are read as they stand, and are hardly what somebody meant, each with its line.
    pub fn doubts(&self, name: &RecordName) -> Vec<Fault> {
        let mut doubts = Vec::new();
        for (key, block) in self.blocks.iter().enumerate() {
            let Some(Block { span, value: Value::Text(Some(text)), .. }) = block else { continue };
            if text.trim().is_empty() {
                continue;
            }
            let value = self.text[span.clone()].split_once(':').map_or("", |(_, value)| value.trim_start());
            let remedy = match key {
                KIND if text != name.kind() => "the directory of the file is another kind",
                SLUG if text != name.slug() => "the name of the file is another slug",
                TITLE if value.starts_with(['[', '{', '&', '*', '!', '%', '@', '`']) => {
                    "to those who read YAML this is no text: write it in quotes"
                }
                STATUS if !Status::ALL.iter().any(|status| status.as_str() == text) => {
                    "write `active`, `replaced` or `retired`"
                }
                STATUS if text == "replaced" && self.text_of(REPLACED_BY).is_none() => {
                    "write `replaced_by: kind/slug` too"
                }
                CREATED | UPDATED if !is_moment(text) => "write a time as 2026-05-01T12:00:00Z",
                REPLACED_BY if self.text_of(STATUS) != Some("replaced") => {
                    "write `status: replaced` too, or remove it"
                }
                REPLACED_BY if target(name.kind(), text).is_none() => "write a record's name as kind/slug",
                _ => continue,
            };
            let what = format!("`{}` says `{}`; {remedy}", KEYS[key], shown(text));
            doubts.push(Fault::at(self.text.as_bytes(), span.start, what));
        }
        doubts
    }

    /// The record that has taken the place of this one, if it is replaced by what is a name of one, and the
    /// line.
    pub fn successor(&self, name: &RecordName) -> Option<(RecordName, usize)> {
        let block = self.blocks[REPLACED_BY].as_ref().filter(|_| self.text_of(STATUS) == Some("replaced"))?;
        let line = Fault::at(self.text.as_bytes(), block.span.start, "").line;
        Some((target(name.kind(), self.text_of(REPLACED_BY)?)?, line))
    }

    /// The file as it must be to say this. Sources are only added: those that are there come first in the
    /// record. What the file leaves to be inferred (a title out of a heading) is written down as soon as
    /// anything is changed, so that it stays as it was read.
    pub fn render(&self, record: &Record) -> String {
        let old = self.record(&record.name);
        if *record == old {
            return self.text.into();
        }
        let first_line = self.text.split_inclusive('\n').next().unwrap_or_default();
        let eol = if first_line.ends_with("\r\n") { "\r\n" } else { "\n" };
        let mut edits: Vec<(Range<usize>, String)> = Vec::new();
        // What is new stands behind the nearest known key that comes before it.
        let mut place = self.front.as_ref().map_or(self.rest, |front| front.start);
        if self.front.is_none() {
            edits.push((place..place, format!("---{eol}")));
        }
        for (key, block) in self.blocks.iter().enumerate() {
            let edit = if key == SOURCES {
                self.added_sources(record.sources.get(old.sources.len()..).unwrap_or_default(), place, eol)
            } else {
                self.changed_text(key, record, &old, place, eol)
            };
            edits.extend(edit);
            if let Some(block) = block {
                place = block.span.end;
            }
        }
        if self.front.is_none() {
            let blank = if record.body.is_empty() { "" } else { eol };
            edits.push((self.rest..self.rest, format!("---{eol}{blank}")));
        }
        if record.body != old.body {
            let mut body = String::new();
            if self.front.is_some() && !record.body.is_empty() {
                // The fence may end the file, also with the first half of its line end.
                body.push_str(match self.text[..self.rest].bytes().next_back() {
                    Some(b'\n') => "",
                    Some(b'\r') => "\n",
                    _ => eol,
                });
                body.push_str(eol);
            }
            body.push_str(&record.body);
            edits.push((self.rest..self.text.len(), body));
        }
        // Stable, and what is put before a block sorts before what replaces the block.
        order::sort_by(&mut edits, |(one, _), (other, _)| {
            (one.start, one.end).cmp(&(other.start, other.end))
        });
        let mut out = String::with_capacity(self.text.len() + 512);
        let mut copied = 0;
        for (span, new) in edits {
            out.push_str(&self.text[copied..span.start]);
            out.push_str(&new);
            copied = span.end;
        }
        out.push_str(&self.text[copied..]);
        out
    }

    fn text_of(&self, key: usize) -> Option<&str> {
        match self.blocks[key].as_ref().map(|block| &block.value) {
            Some(Value::Text(text)) => text.as_deref(),
            _ => None,
        }
    }

    fn sources(&self) -> &[Source] {
        match self.blocks[SOURCES].as_ref().map(|block| &block.value) {
            Some(Value::Sources(sources, _)) => sources,
            _ => &[],
        }
    }

    /// The lines of a key whose value is another than it was.
    fn changed_text(
        &self,
        key: usize,
        record: &Record,
        old: &Record,
        place: usize,
        eol: &str,
    ) -> Option<(Range<usize>, String)> {
        let value: &str = match key {
            TITLE => &record.title,
            STATUS => &record.status,
            // Where only blanks stand the record says nothing, and may go on to say so.
            CREATED if record.created == old.created => return None,
            CREATED => &record.created,
            UPDATED if record.updated == old.updated => return None,
            UPDATED => &record.updated,
            REPLACED_BY if record.replaced_by == old.replaced_by => return None,
            REPLACED_BY => record.replaced_by.as_deref().unwrap_or_default(),
            KIND => record.name.kind(),
            _ => record.name.slug(),
        };
        if self.text_of(key).unwrap_or_default() == value {
            return None;
        }
        let (span, comments) = match &self.blocks[key] {
            Some(block) => (block.span.clone(), block.comments.as_slice()),
            None => (place..place, &[] as &[Comment<'_>]),
        };
        let mut lines = String::new();
        if value.is_empty() {
            // The key goes; what people noted beside it stays. Not indented: it would be a line of a block of
            // text that stands before it.
            for comment in comments {
                let _ = write!(lines, "{}{eol}", comment.text.trim_start_matches([' ', '\t']));
            }
        } else {
            let always_quoted = key == TITLE;
            lines.push_str(KEYS[key]);
            lines.push_str(": ");
            push_scalar(&mut lines, value, always_quoted);
            push_comments(&mut lines, comments, eol);
        }
        Some((span, lines))
    }

    fn added_sources(&self, added: &[Source], place: usize, eol: &str) -> Option<(Range<usize>, String)> {
        if added.is_empty() {
            return None;
        }
        let mut text = String::new();
        let lines = |text: &mut String, indent: &str| {
            for source in added {
                text.push_str(indent);
                text.push_str("- ");
                push_source(text, source);
                text.push_str(eol);
            }
        };
        let (block, append) = match &self.blocks[SOURCES] {
            Some(block @ Block { value: Value::Sources(_, append), .. }) => (Some(block), *append),
            _ => (None, Append::Anew),
        };
        let span = block.map_or(place..place, |block| block.span.clone());
        match append {
            Append::Anew => {
                text.push_str("sources:");
                push_comments(&mut text, block.map_or(&[], |block| &block.comments), eol);
                lines(&mut text, "  ");
                Some((span, text))
            }
            Append::Lines(indent) => {
                lines(&mut text, indent);
                Some((span.end..span.end, text))
            }
            Append::Flow(at, glue) => {
                for (index, source) in added.iter().enumerate() {
                    text.push_str(if index == 0 { glue } else { ", " });
                    push_source(&mut text, source);
                }
                Some((at..at, text))
            }
        }
    }
}

/// Ends a line, with the comments that stood in the lines that it replaces, in their order. One that had a line of
/// its own gets one again: on the line of a key another rule holds for what may stand in it.
fn push_comments(out: &mut String, comments: &[Comment<'_>], eol: &str) {
    for (index, comment) in comments.iter().enumerate() {
        let on_line = index == 0 && !comment.own_line;
        out.push_str(if on_line { " " } else { eol });
        out.push_str(if on_line || comment.own_line { "" } else { "  " });
        out.push_str(comment.text);
    }
    out.push_str(eol);
}

fn push_source(out: &mut String, source: &Source) {
    out.push_str("{segment_id: ");
    push_scalar(out, &source.segment_id, true);
    let _ = write!(out, ", range: [{}, {}]}}", source.start, source.end);
}

/// A text as YAML and JSON both read it, on one line, whatever is in it.
fn push_scalar(out: &mut String, text: &str, always_quoted: bool) {
    // Other words that begin like this are numbers, truth values or syntax to some reader.
    let word = |text: &str| {
        let reserved = ["true", "false", "yes", "no", "on", "off", "null", "y", "n"];
        text.starts_with(|first: char| first.is_ascii_lowercase())
            && text.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'/'))
            && !reserved.contains(&text)
    };
    if !always_quoted && (word(text) || is_time(text)) {
        out.push_str(text);
        return;
    }
    out.push('"');
    for char in text.chars() {
        match char {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            // What is no printable character to YAML, and what some readers take for the end of a line.
            '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}' => {
                let _ = write!(out, "\\u{:04x}", u32::from(char));
            }
            _ if char.is_control() => {
                let _ = write!(out, "\\u{:04x}", u32::from(char));
            }
            _ => out.push(char),
        }
    }
    out.push('"');
}

/// Does it look like a time of RFC 3339 in UTC?
fn is_time(text: &str) -> bool {
    text.len() >= 20
        && text.ends_with('Z')
        && text.as_bytes().get(10) == Some(&b'T')
        && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'-' | b':' | b'.' | b'T' | b'Z'))
}

/// Is it a time of RFC 3339, or a day?
fn is_moment(text: &str) -> bool {
    parse_rfc3339(text).is_some() || parse_rfc3339(&format!("{text}T00:00:00Z")).is_some()
}

/// The text of the first heading outside code.
fn heading(body: &str) -> Option<&str> {
    let mut in_code = false;
    for line in body.lines() {
        if line.starts_with("```") || line.starts_with("~~~") {
            in_code = !in_code;
        }
        let text = line.trim_start_matches('#');
        let level = line.len() - text.len();
        if in_code || !(1..=6).contains(&level) || !text.starts_with([' ', '\t']) {
            continue;
        }
        let text = text.trim();
        let bare = text.trim_end_matches('#');
        let text = if bare.is_empty() || bare.ends_with(' ') { bare.trim_end() } else { text };
        if !text.is_empty() {
            let end = text.char_indices().nth(MAX_TITLE_CHARS).map_or(text.len(), |(end, _)| end);
            return Some(&text[..end]);
        }
    }
    None
}

/// Where in the text, and what is wrong there.
type Problem = (usize, String);

fn problem<T>(at: usize, what: impl Into<String>) -> Result<T, Problem> {
    Err((at, what.into()))
}

/// Positions are bytes of the text.
#[derive(Clone, Copy)]
struct Reader<'a> {
    text: &'a str,
}

/// A member of a block mapping, or an item of a block list.
struct Member {
    /// Empty for an item.
    key: String,
    /// Its line.
    at: usize,
    /// What follows its colon or its dash.
    value: usize,
    end: usize,
}

struct Scalar<'a> {
    text: Option<String>,
    plain: bool,
    comments: Vec<Comment<'a>>,
    /// The end of its last line.
    end: usize,
}

/// A value in `sources`.
enum Node {
    Text(Option<String>),
    List(Vec<(usize, Node)>),
    Map(Vec<(String, Node)>),
    /// A member that means nothing here.
    Skipped,
}

/// What stands where a source should be, in the words of the remedy.
const SOURCE_FORM: &str = "write a source as {segment_id: \"session-1\", range: [0, 17]}";

impl<'a> Reader<'a> {
    fn document(self) -> Result<Document<'a>, Problem> {
        let text = self.text;
        let begin = if text.starts_with('\u{feff}') { '\u{feff}'.len_utf8() } else { 0 };
        let fence = |at, ending| {
            let line = self.line(at, text.len()).trim_end_matches([' ', '\t']);
            line == "---" || ending && line == "..."
        };
        let mut blocks: [Option<Block<'a>>; KEYS.len()] = Default::default();
        if !fence(begin, false) {
            return Ok(Document { text, front: None, rest: begin, body: begin, blocks });
        }
        let front = self.next_line(begin, text.len());
        let mut end = front;
        while end < text.len() && !fence(end, true) {
            end = self.next_line(end, text.len());
        }
        if end == text.len() {
            return problem(
                begin,
                "the front matter that begins here does not end; end it with a line `---`",
            );
        }
        for member in self.members(front..end, 0, false)? {
            let Some(key) = KEYS.iter().position(|known| *known == member.key) else { continue };
            if blocks[key].is_some() {
                return problem(member.at, format!("`{}` stands twice; remove one of them", KEYS[key]));
            }
            let in_key = |(at, what)| (at, format!("in `{}`: {what}", KEYS[key]));
            let block = if key == SOURCES { self.sources(&member) } else { self.text_block(&member) };
            let block = block.map_err(in_key)?;
            self.check_characters(&block).map_err(in_key)?;
            blocks[key] = Some(block);
        }
        let rest = self.next_line(end, text.len());
        let blank = ["\n", "\r\n"].into_iter().find(|blank| text[rest..].starts_with(blank));
        let body = rest + blank.map_or(0, str::len);
        Ok(Document { text, front: Some(front..end), rest, body, blocks })
    }

    fn text_block(self, member: &Member) -> Result<Block<'a>, Problem> {
        let Scalar { text, comments, end, .. } = self.scalar(member.value, member.end)?;
        Ok(Block { span: member.at..end, comments, value: Value::Text(text) })
    }

    fn sources(self, member: &Member) -> Result<Block<'a>, Problem> {
        let (at, end) = (member.value, member.end);
        let block = |end, comments, sources, append| Block {
            span: member.at..end,
            comments,
            value: Value::Sources(sources, append),
        };
        let start = self.skip(at, end, &mut Vec::new());
        if self.text[start..end].starts_with('[') {
            let mut comments = Vec::new();
            self.skip(at, start, &mut comments);
            let (items, after, insert, glue) = self.flow_list(start, end, 0)?;
            let last = self.tail(after, end, &mut comments)?;
            if items.is_empty() && self.text[start..after].bytes().all(|byte| b"[ ]".contains(&byte)) {
                return Ok(block(last, comments, Vec::new(), Append::Anew));
            }
            let sources = self.sources_of(&items)?;
            return Ok(block(last, Vec::new(), sources, Append::Flow(insert, glue)));
        }
        let line_start = self.line_start(start);
        if line_start > at && dash(self.line(start, end)).is_some() {
            let indent = &self.text[line_start..start];
            let items = self.items(start, end, 0)?;
            let sources = self.sources_of(&items)?;
            // A comment may be a part of what stands in the last item. So everything that is indented
            // further than the dashes counts as a part of it.
            let mut last = line_start;
            let mut line = line_start;
            while line < end {
                let next = self.next_line(line, end);
                let content = self.line(line, end).trim_start_matches([' ', '\t']);
                let column = self.line(line, end).len() - content.len();
                if !content.is_empty() && (column > indent.len() || !content.starts_with('#')) {
                    last = next;
                }
                line = next;
            }
            return Ok(block(last, Vec::new(), sources, Append::Lines(indent)));
        }
        let scalar = self.scalar(at, end)?;
        match scalar.text {
            None => Ok(block(scalar.end, scalar.comments, Vec::new(), Append::Anew)),
            Some(_) => problem(start, format!("it is no list; {SOURCE_FORM}, each as an item of a list")),
        }
    }

    fn sources_of(self, items: &[(usize, Node)]) -> Result<Vec<Source>, Problem> {
        items.iter().map(|(at, item)| source_of(item).map_err(|what| (*at, what))).collect()
    }

    /// A raw control character is refused by every YAML parser, and would not come out as it went in.
    ///
    /// Not so in comments on lines of their own: their bytes stay, and one that is tolerated before a list
    /// of sources is written above it must not make the file unreadable by standing in that list then.
    fn check_characters(self, block: &Block<'_>) -> Result<(), Problem> {
        let in_list = matches!(block.value, Value::Sources(..));
        let mut start = block.span.start;
        for line in self.text[block.span.clone()].split_inclusive('\n') {
            let comment = in_list && line.trim_start_matches([' ', '\t']).starts_with('#');
            for (at, char) in line.char_indices().filter(|_| !comment) {
                let line_end = char == '\r' && line[at + 1..].starts_with('\n');
                if char.is_control() && !matches!(char, '\n' | '\t') && !line_end {
                    let what = format!("a control character, U+{:04X}; remove it", u32::from(char));
                    return problem(start + at, what);
                }
            }
            start += line.len();
        }
        Ok(())
    }

    /// Where the line after this position begins.
    fn next_line(self, at: usize, end: usize) -> usize {
        self.text[at..end].find('\n').map_or(end, |length| at + length + 1)
    }

    fn line_start(self, at: usize) -> usize {
        self.text[..at].rfind('\n').map_or(0, |before| before + 1)
    }

    /// What is left of the line, without its end.
    fn line(self, at: usize, end: usize) -> &'a str {
        let line = &self.text[at..self.next_line(at, end)];
        let line = line.strip_suffix('\n').unwrap_or(line);
        line.strip_suffix('\r').unwrap_or(line)
    }

    /// Past blanks, line ends and comments.
    fn skip(self, mut at: usize, end: usize, comments: &mut Vec<Comment<'a>>) -> usize {
        loop {
            let mut found = self.text[at..end].trim_start_matches([' ', '\t', '\n']);
            while let Some(next) = found.strip_prefix("\r\n") {
                found = next.trim_start_matches([' ', '\t', '\n']);
            }
            at = end - found.len();
            let before = self.text[..at].bytes().next_back();
            if !found.starts_with('#') || !matches!(before, None | Some(b' ' | b'\t' | b'\n')) {
                return at;
            }
            let start = self.line_start(at);
            let own_line = self.text[start..at].bytes().all(|byte| matches!(byte, b' ' | b'\t'));
            let text = self.line(if own_line { start } else { at }, end);
            comments.push(Comment { text, own_line });
            at = self.next_line(at, end);
        }
    }

    /// After a value there may be nothing but comments. Where its last line ends.
    fn tail(self, at: usize, end: usize, comments: &mut Vec<Comment<'a>>) -> Result<usize, Problem> {
        let next = self.next_line(at, end);
        let mut found = self.skip(at, next, comments);
        if found == next {
            found = self.skip(next, end, &mut Vec::new());
        }
        if found < end && found != next {
            return problem(found, "there is more after the end of the value; remove it or quote the value");
        }
        if found < end {
            return problem(found, "a line that is no part of the value; remove it");
        }
        Ok(next)
    }

    /// The members of a block mapping, or the items of a block list, whose keys or dashes stand in this
    /// column. The first may begin in the middle of a line.
    fn members(self, span: Range<usize>, column: usize, list: bool) -> Result<Vec<Member>, Problem> {
        let mut members: Vec<Member> = Vec::new();
        let mut at = span.start;
        while at < span.end {
            let next = self.next_line(at, span.end);
            let line = self.line(at, span.end);
            let content = line.trim_start_matches([' ', '\t']);
            let start = at + line.len() - content.len();
            let begin = if at == span.start { self.line_start(at) } else { at };
            let indent = start - begin;
            if !content.is_empty() && !content.starts_with('#') {
                let head = if list { dash(content) } else { key(content) };
                match head {
                    Some((key, value)) if indent == column => {
                        if let Some(last) = members.last_mut() {
                            last.end = at;
                        }
                        members.push(Member { key, at, value: start + value, end: span.end });
                    }
                    // YAML lets items, and parsers let closing brackets, stand in the column of the key.
                    _ if !members.is_empty()
                        && (indent > column
                            || !list
                                && indent == column
                                && (dash(content).is_some() || content.starts_with([']', '}']))) => {}
                    _ => return problem(start, misplaced(list, indent > column)),
                }
            }
            at = next;
        }
        Ok(members)
    }

    /// The items of a block list that begins here.
    fn items(self, start: usize, end: usize, depth: usize) -> Result<Vec<(usize, Node)>, Problem> {
        let column = start - self.line_start(start);
        let item =
            |member: Member| Ok((member.value, self.block_value(member.value, member.end, depth + 1, true)?));
        self.members(start..end, column, true)?.into_iter().map(item).collect()
    }

    /// A value in a block list or a block mapping. `compact`: another one may begin on the same line.
    fn block_value(self, at: usize, end: usize, depth: usize, compact: bool) -> Result<Node, Problem> {
        if depth > MAX_DEPTH {
            return problem(at, format!("it is nested more than {MAX_DEPTH} levels deep; {SOURCE_FORM}"));
        }
        let start = self.skip(at, end, &mut Vec::new());
        if self.text[start..end].starts_with(['[', '{']) {
            let (node, after) = self.flow(start, end, depth)?;
            self.tail(after, end, &mut Vec::new())?;
            return Ok(node);
        }
        let line_start = self.line_start(start);
        if compact || line_start > at {
            let line = self.line(start, end);
            if dash(line).is_some() {
                return self.items(start, end, depth).map(Node::List);
            }
            if key(line).is_some() {
                let member = |member: Member| {
                    let known = matches!(member.key.as_str(), "segment_id" | "session_id" | "range");
                    let node = if known {
                        self.block_value(member.value, member.end, depth + 1, false)?
                    } else {
                        Node::Skipped
                    };
                    Ok((member.key, node))
                };
                let members = self.members(start..end, start - line_start, false)?;
                return members.into_iter().map(member).collect::<Result<_, _>>().map(Node::Map);
            }
        }
        let Scalar { text, plain, .. } = self.scalar(at, end)?;
        plain_text(start, text, plain).map(Node::Text)
    }

    /// One text: what is left of this line, and the indented lines that follow.
    fn scalar(self, at: usize, end: usize) -> Result<Scalar<'a>, Problem> {
        let mut comments = Vec::new();
        let start = self.skip(at, end, &mut comments);
        if start == end {
            // Comments on lines of their own belong to whatever follows.
            let next = self.next_line(at, end);
            comments.clear();
            self.skip(at, next, &mut comments);
            return Ok(Scalar { text: None, plain: true, comments, end: next });
        }
        let value = &self.text[start..end];
        if value.starts_with(['"', '\'']) {
            let (text, length) = unquote(value).map_err(|(offset, what)| (start + offset, what.into()))?;
            let end = self.tail(start + length, end, &mut comments)?;
            return Ok(Scalar { text: Some(text), plain: false, comments, end });
        }
        if let Some((folded, indent, comment)) = block_header(self.line(start, end)) {
            comments.extend(comment.map(|text| Comment { text, own_line: false }));
            let (text, end) = self.block_scalar(self.next_line(start, end), end, folded, indent)?;
            return Ok(Scalar { text: Some(text), plain: false, comments, end });
        }
        self.plain(start, end, self.line_start(start) <= at, comments)
    }

    /// `on_line`: it begins on the line of its key.
    fn plain(
        self,
        start: usize,
        end: usize,
        on_line: bool,
        mut comments: Vec<Comment<'a>>,
    ) -> Result<Scalar<'a>, Problem> {
        let mut text = String::new();
        let (mut at, mut last, mut breaks, mut ended) = (start, start, 0, false);
        while at < end {
            let next = self.next_line(at, end);
            let line = self.line(at, end).trim_start_matches([' ', '\t']);
            let content = line.trim_end_matches([' ', '\t']);
            if at != start && content.starts_with('#') {
                ended = true;
            } else if !content.is_empty() {
                if ended {
                    return problem(at, "a comment stands within the value; quote the value");
                }
                let is_collection = dash(content).is_some()
                    || key(content).is_some()
                    || content.starts_with([']', '}'])
                    || content.as_bytes().windows(2).any(|pair| pair == b": ");
                if is_collection && (at != start || !on_line) {
                    return problem(at, "a list or a mapping stands where one text belongs");
                }
                let (words, _) = split_comment(content);
                let (_, comment) = split_comment(line);
                match breaks {
                    0 => {}
                    1 => text.push(' '),
                    _ => text.extend(core::iter::repeat_n('\n', breaks - 1)),
                }
                text.push_str(words);
                ended = comment.is_some();
                comments.extend(comment.map(|text| Comment { text, own_line: false }));
                breaks = 0;
                last = next;
            }
            breaks += 1;
            at = next;
        }
        let null = matches!(text.as_str(), "~" | "null" | "Null" | "NULL");
        Ok(Scalar { text: (!null).then_some(text), plain: true, comments, end: last })
    }

    /// The lines of a block scalar, and where the last of them ends.
    fn block_scalar(
        self,
        start: usize,
        end: usize,
        folded: bool,
        indent: Option<usize>,
    ) -> Result<(String, usize), Problem> {
        let mut lines: Vec<&str> = Vec::new();
        // No other blanks: a line of them is text, which must not stay behind when the value goes.
        let blank = |line: &str| line.bytes().all(|byte| matches!(byte, b' ' | b'\t'));
        let (mut at, mut last, mut content_lines, mut foreign) = (start, start, 0, None);
        while at < end {
            let next = self.next_line(at, end);
            let line = self.line(at, end);
            lines.push(line);
            if line.starts_with([' ', '\t']) && !blank(line) {
                if let Some(foreign) = foreign {
                    return problem(foreign, "a line of a block of text is not indented");
                }
                (last, content_lines) = (next, lines.len());
            } else if !blank(line) {
                foreign = foreign.or(Some(at));
                if !line.starts_with('#') {
                    return problem(at, "a line of a block of text is not indented");
                }
            }
            at = next;
        }
        lines.truncate(content_lines);
        let spaces = |line: &str| line.len() - line.trim_start_matches([' ', '\t']).len();
        let first = lines.iter().find(|line| !blank(line));
        let indent = indent.unwrap_or_else(|| first.map_or(0, |line| spaces(line)));
        let mut text = String::new();
        let mut breaks = 0;
        for (index, line) in lines.iter().enumerate() {
            let line = &line[spaces(line).min(indent)..];
            breaks += usize::from(index > 0);
            if folded && line.is_empty() {
                continue;
            }
            // Folding turns one line break into a blank, and each further one into a line break, but not
            // those before the text.
            match (folded && !text.is_empty(), breaks) {
                (true, 1) => text.push(' '),
                (true, 2..) => text.extend(core::iter::repeat_n('\n', breaks - 1)),
                _ => text.extend(core::iter::repeat_n('\n', breaks)),
            }
            text.push_str(line);
            breaks = 0;
        }
        Ok((text, last))
    }

    fn flow(self, at: usize, end: usize, depth: usize) -> Result<(Node, usize), Problem> {
        if depth > MAX_DEPTH {
            return problem(at, format!("it is nested more than {MAX_DEPTH} levels deep; {SOURCE_FORM}"));
        }
        match self.text[at..end].chars().next() {
            Some('[') => {
                let (items, after, ..) = self.flow_list(at, end, depth)?;
                Ok((Node::List(items), after))
            }
            Some('{') => self.flow_map(at, end, depth),
            _ => {
                let (text, plain, after) = self.flow_scalar(at, end)?;
                let null = plain && matches!(text.as_str(), "~" | "null" | "Null" | "NULL");
                let text = (!null).then_some(text);
                Ok((Node::Text(plain_text(at, text, plain)?), after))
            }
        }
    }

    /// Its items, where it ends, where another item goes, and what must stand before that.
    #[expect(clippy::type_complexity, reason = "taken apart at once by the two callers")]
    fn flow_list(
        self,
        start: usize,
        end: usize,
        depth: usize,
    ) -> Result<(Vec<(usize, Node)>, usize, usize, &'static str), Problem> {
        let mut items = Vec::new();
        let (mut at, mut glue) = (start + 1, "");
        loop {
            let found = self.skip(at, end, &mut Vec::new());
            match self.text[found..end].chars().next() {
                None => return problem(start, "the list that begins here does not end; end it with `]`"),
                Some(']') => return Ok((items, found + 1, at, glue)),
                Some(',') if glue == ", " => (at, glue) = (found + 1, " "),
                Some(_) if glue == ", " => return problem(found, "a `,` or a `]` must stand here"),
                Some(_) => {
                    let (item, after) = self.flow(found, end, depth + 1)?;
                    items.push((found, item));
                    (at, glue) = (after, ", ");
                }
            }
        }
    }

    fn flow_map(self, start: usize, end: usize, depth: usize) -> Result<(Node, usize), Problem> {
        let skip = |at| self.skip(at, end, &mut Vec::new());
        let next = |at: usize| self.text[at..end].chars().next();
        let mut members = Vec::new();
        let mut at = skip(start + 1);
        loop {
            match next(at) {
                None => return problem(start, "the mapping that begins here does not end; end it with `}`"),
                Some('}') => return Ok((Node::Map(members), at + 1)),
                Some(_) => {}
            }
            let (key, _, after) = self.flow_scalar(at, end)?;
            at = skip(after);
            let mut node = Node::Text(None);
            if next(at) == Some(':') {
                at = skip(at + 1);
                if !matches!(next(at), Some(',' | '}') | None) {
                    let (value, after) = self.flow(at, end, depth + 1)?;
                    node = value;
                    at = skip(after);
                }
            }
            members.push((key, node));
            match next(at) {
                Some(',') => at = skip(at + 1),
                Some('}') | None => {}
                Some(_) => return problem(at, "a `,` or a `}` must stand here"),
            }
        }
    }

    /// A text in a list or a mapping in brackets, whether it is plain, and where it ends.
    fn flow_scalar(self, at: usize, end: usize) -> Result<(String, bool, usize), Problem> {
        let value = &self.text[at..end];
        if value.starts_with(['"', '\'']) {
            let (text, length) = unquote(value).map_err(|(offset, what)| (at + offset, what.into()))?;
            return Ok((text, false, at + length));
        }
        // Not by lines: a list of very many may stand on one.
        let bytes = value.as_bytes();
        let closes = |byte: &u8| b",[]{}".contains(byte);
        let blank = |byte: &u8| byte.is_ascii_whitespace();
        let length = (0..bytes.len()).find(|&index| match bytes[index] {
            b'\n' => true,
            b':' => bytes.get(index + 1).is_none_or(|byte| blank(byte) || closes(byte)),
            b'#' => index == 0 || blank(&bytes[index - 1]),
            byte => closes(&byte),
        });
        let text = value[..length.unwrap_or(value.len())].trim_end_matches([' ', '\t', '\r']);
        if text.is_empty() {
            return problem(at, format!("a value is missing here; {SOURCE_FORM}"));
        }
        Ok((text.into(), true, at + text.len()))
    }
}

/// What begins with such a character means something that is not read here.
fn plain_text(at: usize, text: Option<String>, plain: bool) -> Result<Option<String>, Problem> {
    match &text {
        Some(text) if plain && text.starts_with(['&', '*', '!', '|', '>', '%', '@', '`', '?']) => {
            problem(at, "anchors, tags and the like are not understood here; write the value itself, quoted")
        }
        _ => Ok(text),
    }
}

fn misplaced(list: bool, indented: bool) -> &'static str {
    match (list, indented) {
        (true, _) => "an item of the list, `- `, must stand here, in the column of those before it",
        (false, true) => "an indented line without a key before it; keys begin in the first column",
        (false, false) => "`key: value` must stand here; indent what belongs to the key before",
    }
}

fn source_of(node: &Node) -> Result<Source, String> {
    let wrong = |what: &str| format!("{what}; {SOURCE_FORM}");
    let Node::Map(members) = node else { return Err(wrong("this is no source")) };
    let only = |names: &[&str]| -> Result<&Node, String> {
        let mut found = members.iter().filter(|(name, _)| names.contains(&name.as_str()));
        match (found.next(), found.next()) {
            (Some((_, node)), None) => Ok(node),
            (None, _) => Err(wrong(&format!("a source without `{}`", names[0]))),
            _ => Err(wrong(&format!("a source with `{}` twice", names[0]))),
        }
    };
    let Node::Text(Some(segment_id)) = only(&["segment_id", "session_id"])? else {
        return Err(wrong("a source whose `segment_id` is no text"));
    };
    let number = |node: &Node| match node {
        Node::Text(Some(text)) => text.parse::<u64>().ok(),
        _ => None,
    };
    let range = match only(&["range"])? {
        Node::List(items) => match items.as_slice() {
            [(_, start), (_, end)] => number(start).zip(number(end)),
            _ => None,
        },
        _ => None,
    };
    match range {
        Some((start, end)) if start <= end => Ok(Source { segment_id: segment_id.clone(), start, end }),
        Some(_) => Err(wrong("a source whose range ends before it starts")),
        None => Err(wrong("a source whose `range` is not two whole numbers")),
    }
}

/// `- `, and where the item begins.
fn dash(content: &str) -> Option<(String, usize)> {
    let rest = content.strip_prefix('-')?;
    (rest.is_empty() || rest.starts_with([' ', '\t'])).then_some((String::new(), 1))
}

/// A key, and where its value begins.
fn key(content: &str) -> Option<(String, usize)> {
    // `- {a: b}` is an item, `{a: b}` a mapping.
    if dash(content).is_some() || content.starts_with(['[', ']', '{', '}']) {
        return None;
    }
    let ends = |rest: &str| rest.is_empty() || rest.starts_with([' ', '\t']);
    if content.starts_with(['"', '\'']) {
        let (key, length) = unquote(content).ok()?;
        let rest = content[length..].trim_start_matches([' ', '\t']).strip_prefix(':')?;
        return ends(rest).then_some((key, content.len() - rest.len()));
    }
    let (colon, _) = content.match_indices(':').find(|(at, _)| ends(&content[at + 1..]))?;
    let key = content[..colon].trim_end_matches([' ', '\t']);
    (!key.is_empty()).then(|| (key.into(), colon + 1))
}

fn split_comment(content: &str) -> (&str, Option<&str>) {
    let bytes = content.as_bytes();
    let comment =
        (0..bytes.len()).find(|&at| bytes[at] == b'#' && (at == 0 || matches!(bytes[at - 1], b' ' | b'\t')));
    match comment {
        Some(at) => (content[..at].trim_end_matches([' ', '\t']), Some(&content[at..])),
        None => (content, None),
    }
}

/// `|` or `>`: is it folded, its indentation if it is given, its comment.
fn block_header(line: &str) -> Option<(bool, Option<usize>, Option<&str>)> {
    let (header, comment) = split_comment(line);
    let header = header.trim_end_matches([' ', '\t']);
    let marks = header.strip_prefix(['|', '>'])?;
    let good = marks.len() <= 2 && marks.bytes().all(|mark| matches!(mark, b'1'..=b'9' | b'+' | b'-'));
    let indent = marks.bytes().find(u8::is_ascii_digit).map(|digit| usize::from(digit - b'0'));
    good.then(|| (header.starts_with('>'), indent, comment))
}

/// The text of a quoted scalar, and how long it is with its quotes.
fn unquote(value: &str) -> Result<(String, usize), (usize, &'static str)> {
    const OPEN: &str = "the quote that begins here does not end";
    const ESCAPE: &str = "an escape that is none; write a backslash in double quotes as \\\\";
    let double = value.starts_with('"');
    let mut text = String::new();
    let mut chars = value.char_indices().skip(1).peekable();
    while let Some((at, char)) = chars.next() {
        match char {
            '"' if double => return Ok((text, at + 1)),
            '\'' if !double => {
                if chars.next_if(|(_, next)| *next == '\'').is_none() {
                    return Ok((text, at + 1));
                }
                text.push('\'');
            }
            '\n' => {
                // A line break is a blank, and an empty line is a line break.
                text.truncate(text.trim_end_matches([' ', '\t', '\r']).len());
                let mut breaks = 0;
                while let Some((_, next)) =
                    chars.next_if(|(_, next)| matches!(next, ' ' | '\t' | '\r' | '\n'))
                {
                    breaks += usize::from(next == '\n');
                }
                text.extend(core::iter::repeat_n('\n', breaks));
                text.push_str(if breaks == 0 { " " } else { "" });
            }
            '\\' if double => {
                let (_, escape) = chars.next().ok_or((0, OPEN))?;
                let mut hex = |digits: usize| {
                    let mut code = 0u32;
                    for _ in 0..digits {
                        code = code << 4 | chars.next()?.1.to_digit(16)?;
                    }
                    Some(code)
                };
                let code = match escape {
                    '0' => Some(0),
                    'a' => Some(7),
                    'b' => Some(8),
                    't' | '\t' => Some(9),
                    'n' => Some(10),
                    'v' => Some(11),
                    'f' => Some(12),
                    'r' => Some(13),
                    'e' => Some(27),
                    ' ' | '"' | '/' | '\\' => Some(u32::from(escape)),
                    'N' => Some(0x85),
                    '_' => Some(0xa0),
                    'L' => Some(0x2028),
                    'P' => Some(0x2029),
                    'x' => hex(2),
                    'U' => hex(8),
                    'u' => match hex(4) {
                        // As JSON writes what is above the first 65,536 characters.
                        Some(high @ 0xd800..=0xdbff) => {
                            let is_next = |(_, next): &(usize, char), char| *next == char;
                            let begins = chars.next_if(|next| is_next(next, '\\')).is_some()
                                && chars.next_if(|next| is_next(next, 'u')).is_some();
                            let mut low = 0u32;
                            for _ in 0..4 {
                                let digit = chars.next().and_then(|(_, digit)| digit.to_digit(16));
                                low = low << 4 | digit.ok_or((at, ESCAPE))?;
                            }
                            (begins && (0xdc00..=0xdfff).contains(&low))
                                .then(|| 0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00))
                        }
                        code => code,
                    },
                    '\r' | '\n' => {
                        while chars.next_if(|(_, next)| matches!(next, ' ' | '\t' | '\r' | '\n')).is_some() {}
                        continue;
                    }
                    _ => None,
                };
                text.push(code.and_then(char::from_u32).ok_or((at, ESCAPE))?);
            }
            _ => text.push(char),
        }
    }
    Err((0, OPEN))
}
