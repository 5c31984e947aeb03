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

mod style;

use crate::json::{Layout, Piece, Read, Reader, Text, Writer, not_utf8};
use crate::layout::EntryId;
use crate::order;
use crate::prelude::*;
use core::ops::Range;
use style::{DENSE, EMPTY, Form, LISTS, PRETTY, SPACED, Style};

/// The largest file that is taken for an entry, and the largest that is written, in bytes.
pub const MAX_ENTRY_BYTES: u64 = 1024 * 1024;

/// The source, which comes first.
const SOURCE: &str = "source";

/// The members that are known.
const KNOWN: [&str; 1 + LISTS.len()] = [SOURCE, LISTS[0].0, LISTS[1].0, LISTS[2].0, LISTS[3].0];

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
    let text = payload.as_bytes();
    let style = [&SPACED, &DENSE, &PRETTY].into_iter().find(|style| style.begin.begins(text));
    let (mut file, _) = style
        .and_then(|from| in_style(text, from, &PRETTY, PRETTY.begin.piece(), &[]))
        .map_or_else(|| lay_out(text, Layout::Pretty, &[b"{"], default_source), Ok)?;
    file.push('\n');
    if file.len() as u64 > MAX_ENTRY_BYTES {
        return Err(format!("{} bytes as a file; an entry has {MAX_ENTRY_BYTES} at most", file.len()));
    }
    Ok(file)
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
    let begun: &[&[u8]] = &[b"{\"id\":\"", &id.digits(), b"\""];
    const BEGIN: Piece = Piece::new(",\"source\":{");
    match in_style(content, &PRETTY, &DENSE, &BEGIN, begun) {
        Some(line) => Ok(line),
        None => lay_out(content, Layout::Compact, begun, None),
    }
}

/// Where the members stand in the copy, each with the comma before it, if it has one.
struct Members<'a> {
    begin: usize,
    known: [Range<usize>; KNOWN.len()],
    others: Vec<(Text<'a>, Range<usize>)>,
    source: Source,
}

/// Lays the members out behind what is `begun` of an object, in the order of the format, and ends it.
fn lay_out(
    text: &[u8],
    layout: Layout,
    begun: &[&[u8]],
    default_source: Option<&Source>,
) -> Result<(String, Source), String> {
    let reader = Reader::after_mark(text).copying(layout, begun);
    let (Members { begin, known, others, source }, copy) = reader.read(|json| {
        let members = members(json, default_source)?;
        Ok((members, json.into_copy()))
    })?;
    // As it is in every file that was written here.
    let mut end = begin;
    let in_order = known.iter().chain(others.iter().map(|(_, range)| range)).all(|range| {
        let follows = range.start == end && !range.is_empty();
        end = range.end;
        follows
    });
    let bytes =
        if in_order { copy } else { in_order_of_format(&copy, layout, begun, known, &others, &source) };
    Ok((text_of(bytes, text)?, source))
}

/// What was copied of a text.
fn text_of(copy: Vec<u8>, text: &[u8]) -> Result<String, String> {
    String::from_utf8(copy).map_err(|_| str::from_utf8(text).map_or_else(not_utf8, String::from))
}

/// Lays a text out in another style behind what is `begun`, if it is in this one and has the members in the order of
/// the format and no others: what stands between the values is compared as a whole, instead of being taken apart.
/// Whatever is different in any way, and what is wrong with it, is not for it to judge.
fn in_style(
    text: &[u8],
    from: &Style,
    to: &Style,
    begin: &Piece,
    begun: &[&[u8]],
) -> Option<(String, Source)> {
    // What white space there is to be comes with the style.
    let reader = Reader::new(text).copying(Layout::Compact, begun);
    let (copy, source) = reader.read_if(|json| styled(json, from, to, begin))?;
    Some((String::from_utf8(copy).ok()?, source))
}

fn styled(json: &mut Reader<'_>, from: &Style, to: &Style, begin: &Piece) -> Read<(Vec<u8>, Source)> {
    json.passes(&from.begin, begin)?;
    json.passes(&from.segment_id, to.segment_id.piece())?;
    let segment_id = json.string()?.decode().into_owned();
    json.passes(&from.range, to.range.piece())?;
    let start = json.u64()?;
    json.passes(&from.next_position, to.next_position.piece())?;
    let end = json.u64()?;
    json.passes(&from.end_source, to.end_source.piece())?;
    if start > end {
        return Err(json.wrong_whole("the range ends before it starts"));
    }
    for (((_, forms), list), to_list) in LISTS.iter().zip(&from.lists).zip(&to.lists) {
        if json.passes(&list.name, to_list.name.piece()).is_err() {
            json.adds(to_list.name.piece());
            json.adds(EMPTY.piece());
            continue;
        }
        if json.passes(&EMPTY, EMPTY.piece()).is_ok() {
            continue;
        }
        json.passes(&from.first_item, to.first_item.piece())?;
        loop {
            let mut is_first = true;
            for (((_, form), member), to_member) in forms.iter().zip(list.members).zip(to_list.members) {
                let met = match is_first {
                    true => json.passes(&member.first, to_member.first.piece()),
                    false => json.passes(&member.next, to_member.next.piece()),
                };
                match met {
                    Err(_) if *form == Form::OptionalText => continue,
                    met => met?,
                }
                is_first = false;
                match form {
                    Form::OptionalText if json.null()? => {}
                    Form::Text | Form::OptionalText => json.string().map(drop)?,
                    Form::Truth => json.truth().map(drop)?,
                    Form::Texts if json.passes(&EMPTY, EMPTY.piece()).is_ok() => {}
                    Form::Texts => {
                        json.passes(&from.first_text, to.first_text.piece())?;
                        json.string()?;
                        while json.passes(&from.next_text, to.next_text.piece()).is_ok() {
                            json.string()?;
                        }
                        json.passes(&from.end_texts, to.end_texts.piece())?;
                    }
                }
            }
            json.passes(&from.end_item, to.end_item.piece())?;
            if json.passes(&from.next_item, to.next_item.piece()).is_err() {
                break;
            }
        }
        json.passes(&from.end_list, to.end_list.piece())?;
    }
    json.passes(&from.end, to.end.piece())?;
    Ok((json.into_copy(), Source { segment_id, start, end }))
}

/// The members anew, in the order of the format, with those that are missing.
fn in_order_of_format(
    copy: &[u8],
    layout: Layout,
    begun: &[&[u8]],
    known: [Range<usize>; KNOWN.len()],
    others: &[(Text<'_>, Range<usize>)],
    source: &Source,
) -> Vec<u8> {
    let member = |range: Range<usize>| {
        let member = &copy[range];
        member.strip_prefix(b",").unwrap_or(member)
    };
    let mut out = Writer::continued(layout, begun, copy.len() + 128);
    for (index, range) in known.into_iter().enumerate() {
        if !range.is_empty() {
            out.member_as(member(range));
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
        out.member_as(member(range.clone()));
    }
    out.end(b'}');
    out.into_bytes()
}

/// Checks the members.
fn members<'a>(json: &mut Reader<'a>, default_source: Option<&Source>) -> Read<Members<'a>> {
    let mut known_ranges: [Range<usize>; KNOWN.len()] = Default::default();
    let (mut others, mut own_source, mut met) = (Vec::new(), None, 0);
    json.begin(b'{')?;
    let begin = json.copied();
    let mut start = begin;
    while let Some(name) = json.member()? {
        let Some(index) = name.position(&KNOWN) else {
            if name.position(&["id"]).is_some() {
                return Err(json
                    .wrong_whole("the member `id` is reserved: the id of an entry is the name of its file"));
            }
            json.value()?;
            let end = json.copied();
            others.push((name, start..end));
            start = end;
            continue;
        };
        let known = KNOWN[index];
        json.once(&mut met, index, known)?;
        if name.is_escaped() {
            json.rename(name, known);
        }
        let read = match index.checked_sub(1) {
            None => source(json).map(|source| own_source = Some(source)),
            Some(list) => items(json, LISTS[list].1),
        };
        read.map_err(|stop| json.within(known, stop))?;
        let end = json.copied();
        known_ranges[index] = start..end;
        start = end;
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
    Ok(Members { begin, known: known_ranges, others, source })
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

fn source(json: &mut Reader<'_>) -> Read<Source> {
    let (mut segment_id, mut range, mut met) = (None, None, 0);
    let mut others = Vec::new();
    json.begin(b'{')?;
    while let Some(name) = json.member()? {
        match name.position(&["range", "segment_id", "session_id"]) {
            Some(0) => {
                json.once(&mut met, 0, "range")?;
                if name.is_escaped() {
                    json.rename(name, "range");
                }
                json.begin(b'[')?;
                let mut positions = [0; 2];
                for position in &mut positions {
                    if !json.item()? {
                        return Err(json.wrong("a range is two whole numbers"));
                    }
                    *position = json.u64()?;
                }
                if json.item()? {
                    return Err(json.wrong("a range is two whole numbers"));
                }
                range = Some(positions);
            }
            Some(index) => {
                if segment_id.is_some() {
                    let what = "the member `segment_id`, or `session_id` as another name of it, stands twice";
                    return Err(json.wrong(what));
                }
                if index == 2 || name.is_escaped() {
                    json.rename(name, "segment_id");
                }
                segment_id = Some(json.string()?.decode().into_owned());
            }
            None => {
                json.value()?;
                others.push(name);
            }
        }
    }
    each_once(json, others)?;
    let segment_id = segment_id.ok_or_else(|| json.missing("segment_id"))?;
    let [start, end] = range.ok_or_else(|| json.missing("range"))?;
    if start > end {
        return Err(json.wrong("the range ends before it starts"));
    }
    Ok(Source { segment_id, start, end })
}

/// A list of objects that have these members.
fn items(json: &mut Reader<'_>, members: &[(&str, Form)]) -> Read<()> {
    json.begin(b'[')?;
    while json.item()? {
        json.begin(b'{')?;
        let mut met = 0;
        while let Some(name) = json.member()? {
            let Some(index) = members.iter().position(|(known, _)| name.says(known)) else {
                json.value()?;
                continue;
            };
            let (known, form) = &members[index];
            json.once(&mut met, index, known)?;
            match form {
                Form::OptionalText if json.null()? => {}
                Form::Text | Form::OptionalText => json.string().map(drop)?,
                Form::Truth => json.truth().map(drop)?,
                Form::Texts => {
                    json.begin(b'[')?;
                    while json.item()? {
                        json.string()?;
                    }
                }
            }
        }
        for (index, (known, form)) in members.iter().enumerate() {
            if met & (1 << index) == 0 && *form != Form::OptionalText {
                return Err(json.missing(known));
            }
        }
    }
    Ok(())
}
