//! The one home of the format of a staging entry: what is refused, what is written to the file, what
//! a consolidator is given. Invariant: members that are not known here, and every number and string,
//! pass through unchanged. A text is checked and laid out anew in one pass.
//!
//! ```json
//! {"source": {"segment_id": "conv-26/session-1", "range": [0, 17]},
//!  "decisions": [{"options": ["a", "b"], "chosen": "a", "rationale": "..."}],
//!  "discussions": [{"topic": "...", "points": ["..."]}],
//!  "attempts": [{"action": "...", "result": "...", "succeeded": true}],
//!  "requests": [{"intent": "...", "target": "...", "summary": "..."}]}
//! ```
//!
//! The four lists are optional and empty by default, `target` is optional, and `session_id` is read
//! as `segment_id`. A byte-order mark at the start is skipped (RFC 8259, section 8.1, permits it).

use crate::json::{Layout, Read, Reader, Text, Writer};
use crate::layout::EntryId;
use crate::order;
use crate::prelude::*;
use core::ops::Range;

/// The largest file that is taken for an entry, and the largest that is written, in bytes.
pub const MAX_ENTRY_BYTES: u64 = 1024 * 1024;

/// The members that are known, in the order in which they are written. The lists follow the source.
const KNOWN: [&str; 5] = ["source", "decisions", "discussions", "attempts", "requests"];

/// What an item of each of the lists must have.
const ITEMS: [&[(&str, Form)]; 4] = [
    &[("options", Form::Texts), ("chosen", Form::Text), ("rationale", Form::Text)],
    &[("topic", Form::Text), ("points", Form::Texts)],
    &[("action", Form::Text), ("result", Form::Text), ("succeeded", Form::Truth)],
    &[("intent", Form::Text), ("target", Form::OptionalText), ("summary", Form::Text)],
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Text,
    Texts,
    Truth,
    /// Or `null`, or missing.
    OptionalText,
}

/// Where a payload without a `source` comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// The segment that the material was extracted from.
    pub segment_id: String,
    /// First position.
    pub start: u64,
    /// Last position.
    pub end: u64,
}

/// The file of a payload: pretty JSON with a newline at the end.
///
/// # Errors
/// What is wrong with the payload, in words.
pub fn to_file(payload: &str, default_source: Option<&Source>) -> Result<String, String> {
    let mut out = Writer::new(Layout::Pretty, payload.len() + payload.len() / 4 + 128);
    out.begin(b'{');
    let (out, _) = lay_out(payload.as_bytes(), out, default_source)?;
    let file = out.into_file();
    if file.len() as u64 > MAX_ENTRY_BYTES {
        return Err(format!("{} bytes as a file; an entry has {MAX_ENTRY_BYTES} at most", file.len()));
    }
    text_of(file)
}

/// What a consolidator is given of the content of a file: one line, with the id first, without a newline;
/// and where it comes from.
///
/// # Errors
/// What is wrong with the file, in words.
pub fn to_line(content: &[u8], id: EntryId) -> Result<(String, Source), String> {
    if content.is_empty() {
        return Err("the file is empty".into());
    }
    if content.iter().all(|byte| *byte == 0) {
        return Err("the file holds nothing but NUL bytes".into());
    }
    let mut out = Writer::new(Layout::Compact, content.len() + 128);
    out.begin(b'{');
    out.name(b"id");
    out.string(&id.text());
    let (out, source) = lay_out(content, out, None)?;
    Ok((text_of(out.into_bytes())?, source))
}

fn text_of(bytes: Vec<u8>) -> Result<String, String> {
    // The reader has checked it.
    String::from_utf8(bytes).map_err(|error| error.to_string())
}

/// Where the members stand in what was written, each with the comma before it, if it has one.
struct Members<'a> {
    known: [Range<usize>; KNOWN.len()],
    others: Vec<(Text<'a>, Range<usize>)>,
    source: Source,
}

/// Writes the members behind what was written, in the order of the format, and the end.
fn lay_out(
    text: &[u8],
    mut out: Writer,
    default_source: Option<&Source>,
) -> Result<(Writer, Source), String> {
    let head = out.len();
    let Members { known, others, source } =
        Reader::after_mark(text).read(|json| members(json, &mut out, default_source))?;
    // As it is in every file that was written here.
    let mut end = head;
    let in_order = known.iter().chain(others.iter().map(|(_, range)| range)).all(|range| {
        let follows = range.start == end && !range.is_empty();
        end = range.end;
        follows
    });
    if in_order {
        out.end(b'}');
        return Ok((out, source));
    }
    let written = out;
    let mut out = written.again(head, 128);
    for (index, range) in known.into_iter().enumerate() {
        if !range.is_empty() {
            out.member_of(&written, range);
            continue;
        }
        out.name(KNOWN[index].as_bytes());
        out.begin(if index == 0 { b'{' } else { b'[' });
        if index > 0 {
            out.end(b']');
            continue;
        }
        out.name(b"segment_id");
        out.string(&source.segment_id);
        out.name(b"range");
        out.begin(b'[');
        for position in [source.start, source.end] {
            out.item();
            out.number(position);
        }
        out.end(b']');
        out.end(b'}');
    }
    for (_, range) in others {
        out.member_of(&written, range);
    }
    out.end(b'}');
    Ok((out, source))
}

/// Checks the members and writes them in the order in which they stand.
fn members<'a>(
    json: &mut Reader<'a>,
    out: &mut Writer,
    default_source: Option<&Source>,
) -> Read<Members<'a>> {
    let mut known_ranges: [Range<usize>; KNOWN.len()] = Default::default();
    let (mut others, mut own_source, mut met) = (Vec::new(), None, 0);
    json.begin(b'{')?;
    while let Some(name) = json.member()? {
        let start = out.len();
        let Some(index) = name.position(&KNOWN) else {
            if name.position(&["id"]).is_some() {
                return Err(json
                    .wrong_whole("the member `id` is reserved: the id of an entry is the name of its file"));
            }
            out.name(name.raw());
            json.copy(out)?;
            others.push((name, start..out.len()));
            continue;
        };
        let known = KNOWN[index];
        json.once(&mut met, index, known)?;
        out.name(known.as_bytes());
        let read = match index.checked_sub(1) {
            None => source(json, out).map(|source| own_source = Some(source)),
            Some(list) => items(json, out, ITEMS[list]),
        };
        read.map_err(|stop| json.within(known, stop))?;
        known_ranges[index] = start..out.len();
    }
    each_once(json, others.iter().map(|(name, _)| *name).collect())?;
    let source = match (own_source, default_source) {
        (Some(source), _) => source,
        (None, Some(source)) if source.start > source.end => {
            return Err(json.wrong_whole("the default source's range ends before it starts"));
        }
        (None, Some(source)) => source.clone(),
        (None, None) => {
            let what = "missing member `source`: {\"segment_id\": ..., \"range\": [start, end]}";
            return Err(json.wrong_whole(what));
        }
    };
    Ok(Members { known: known_ranges, others, source })
}

/// No two of the names say the same, however they are written.
fn each_once(json: &mut Reader<'_>, names: Vec<Text<'_>>) -> Read<()> {
    if names.len() < 2 {
        return Ok(());
    }
    let mut names: Vec<_> = names.into_iter().map(Text::decode).collect();
    order::sort(&mut names);
    match names.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(json.wrong_whole(["the member `", &*pair[0], "` stands twice"].concat())),
        None => Ok(()),
    }
}

fn source(json: &mut Reader<'_>, out: &mut Writer) -> Read<Source> {
    let (mut segment_id, mut range, mut met) = (None, None, 0);
    let mut others = Vec::new();
    json.begin(b'{')?;
    out.begin(b'{');
    while let Some(name) = json.member()? {
        match name.position(&["range", "segment_id", "session_id"]) {
            Some(0) => {
                json.once(&mut met, 0, "range")?;
                out.name(b"range");
                json.begin(b'[')?;
                out.begin(b'[');
                let mut positions = [0; 2];
                for position in &mut positions {
                    if !json.item()? {
                        return Err(json.wrong("a range is two whole numbers"));
                    }
                    *position = json.u64()?;
                    out.item();
                    out.number(*position);
                }
                if json.item()? {
                    return Err(json.wrong("a range is two whole numbers"));
                }
                out.end(b']');
                range = Some(positions);
            }
            Some(_) => {
                json.once(&mut met, 1, "segment_id")?;
                out.name(b"segment_id");
                let text = json.string()?;
                out.quoted(text.raw());
                segment_id = Some(text.decode().into_owned());
            }
            None => {
                out.name(name.raw());
                json.copy(out)?;
                others.push(name);
            }
        }
    }
    out.end(b'}');
    each_once(json, others)?;
    let segment_id = segment_id.ok_or_else(|| json.missing("segment_id"))?;
    let [start, end] = range.ok_or_else(|| json.missing("range"))?;
    if start > end {
        return Err(json.wrong("the range ends before it starts"));
    }
    Ok(Source { segment_id, start, end })
}

/// A list of objects that have these members.
fn items(json: &mut Reader<'_>, out: &mut Writer, members: &[(&str, Form)]) -> Read<()> {
    json.begin(b'[')?;
    out.begin(b'[');
    while json.item()? {
        out.item();
        json.begin(b'{')?;
        out.begin(b'{');
        let mut met = 0;
        while let Some(name) = json.member()? {
            out.name(name.raw());
            let Some(index) = members.iter().position(|(known, _)| name.says(known)) else {
                json.copy(out)?;
                continue;
            };
            let (known, form) = members[index];
            json.once(&mut met, index, known)?;
            match form {
                Form::Text => out.quoted(json.string()?.raw()),
                Form::OptionalText if json.null()? => out.raw(b"null"),
                Form::OptionalText => out.quoted(json.string()?.raw()),
                Form::Truth => out.raw(if json.truth()? { b"true" } else { b"false" }),
                Form::Texts => {
                    json.begin(b'[')?;
                    out.begin(b'[');
                    while json.item()? {
                        out.item();
                        out.quoted(json.string()?.raw());
                    }
                    out.end(b']');
                }
            }
        }
        out.end(b'}');
        for (index, (known, form)) in members.iter().enumerate() {
            if met & (1 << index) == 0 && *form != Form::OptionalText {
                return Err(json.missing(known));
            }
        }
    }
    out.end(b']');
    Ok(())
}
