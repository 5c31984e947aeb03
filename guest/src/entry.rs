//! The one home of the format of a staging entry: what is refused, what is written to the file, what
//! a consolidator is given. Invariant: members that are not known here, and every number and string,
//! pass through unchanged.
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

use crate::json::{self, Layout, Object};
use crate::layout::EntryId;
use serde::Deserialize;
use serde::de::{self, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;

/// The largest file that is taken for an entry, and the largest that is written, in bytes.
pub const MAX_ENTRY_BYTES: u64 = 1024 * 1024;

/// The members that are known, in the order in which they are written.
const LISTS: [&str; 4] = ["decisions", "discussions", "attempts", "requests"];

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

/// A payload that was checked.
#[derive(Debug)]
pub struct Payload<'a> {
    source: SourceText<'a>,
    lists: [Option<&'a str>; 4],
    others: Vec<(Cow<'a, str>, &'a str)>,
}

#[derive(Debug)]
enum SourceText<'a> {
    Members { members: Vec<(Cow<'a, str>, &'a str)>, meaning: Source },
    Default(&'a Source),
}

/// Checks a payload.
///
/// # Errors
/// What is wrong with it, in words.
pub fn check<'a>(text: &'a str, default_source: Option<&'a Source>) -> Result<Payload<'a>, String> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let members: Members<'a> = serde_json::from_str(text).map_err(|error| {
        let message = error.to_string();
        // A payload on one line is most often a line of many: its own line number would mislead.
        match message.rsplit_once(" at line 1 column ") {
            Some((words, _)) if error.column() == 0 => words.to_owned(),
            Some((words, column)) => format!("{words} at column {column}"),
            None => message,
        }
    })?;
    let mut source = None;
    let mut lists = [None; 4];
    let mut others = Vec::new();
    for (name, value) in members.0 {
        if name == "source" {
            source = Some(check_source(value)?);
        } else if let Some(list) = LISTS.iter().position(|known| *known == name) {
            check_list(list, value).map_err(|error| in_member(&name, value, &error))?;
            lists[list] = Some(value);
        } else if name == "id" {
            return Err("the member `id` is reserved: the id of an entry is the name of its file".into());
        } else {
            others.push((name, value));
        }
    }
    let source = match (source, default_source) {
        (Some(source), _) => source,
        (None, Some(source)) if source.start > source.end => {
            return Err("the default source's range ends before it starts".into());
        }
        (None, Some(source)) => SourceText::Default(source),
        (None, None) => {
            return Err("missing member `source`: {\"segment_id\": ..., \"range\": [start, end]}".into());
        }
    };
    Ok(Payload { source, lists, others })
}

/// Checks the content of a file.
///
/// # Errors
/// What is wrong with it, in words.
pub fn check_file(content: &[u8]) -> Result<Payload<'_>, String> {
    if content.is_empty() {
        return Err("the file is empty".into());
    }
    if content.iter().all(|byte| *byte == 0) {
        return Err("the file holds nothing but NUL bytes".into());
    }
    let text =
        str::from_utf8(content).map_err(|error| format!("not UTF-8 after byte {}", error.valid_up_to()))?;
    check(text, None)
}

impl Payload<'_> {
    /// Where it comes from.
    pub fn source(&self) -> Source {
        match &self.source {
            SourceText::Members { meaning, .. } => meaning.clone(),
            SourceText::Default(source) => (*source).clone(),
        }
    }

    /// The content of its file: pretty JSON with a newline at the end.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn to_file(&self) -> Result<String, String> {
        let mut out = String::from("{");
        self.append_members(&mut out, true)?;
        out.push_str("\n}\n");
        if out.len() as u64 > MAX_ENTRY_BYTES {
            return Err(format!("{} bytes as a file; an entry has {MAX_ENTRY_BYTES} at most", out.len()));
        }
        Ok(out)
    }

    /// One line for a consolidator, with the id first, without a newline.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn to_line(&self, id: EntryId) -> Result<String, String> {
        let mut out = format!("{{\"id\":\"{id}\",");
        self.append_members(&mut out, false)?;
        out.push('}');
        Ok(out)
    }

    fn append_members(&self, out: &mut String, pretty: bool) -> Result<(), String> {
        let layout = if pretty { Layout::Pretty { level: 1 } } else { Layout::Compact };
        let append = |out: &mut String, value: &str| {
            json::append(out, value, layout).map_err(|error| error.describe().to_owned())
        };
        let name = |out: &mut String, level: usize, name: &str| {
            json::new_line(out, pretty, level);
            // A name is a string, so this can't fail.
            out.push_str(&serde_json::to_string(name).unwrap_or_default());
            out.push_str(if pretty { ": " } else { ":" });
        };
        name(out, 1, "source");
        match &self.source {
            SourceText::Members { members, .. } => {
                let mut text = String::from("{");
                for (index, (key, value)) in members.iter().enumerate() {
                    if index > 0 {
                        text.push(',');
                    }
                    text.push_str(&serde_json::to_string(key).unwrap_or_default());
                    text.push(':');
                    text.push_str(value);
                }
                text.push('}');
                append(out, &text)?;
            }
            SourceText::Default(source) => {
                let segment = serde_json::to_string(&source.segment_id).unwrap_or_default();
                let text =
                    format!("{{\"segment_id\":{segment},\"range\":[{},{}]}}", source.start, source.end);
                append(out, &text)?;
            }
        }
        for (list, value) in LISTS.iter().zip(self.lists) {
            out.push(',');
            name(out, 1, list);
            append(out, value.unwrap_or("[]"))?;
        }
        for (key, value) in &self.others {
            out.push(',');
            name(out, 1, key);
            append(out, value)?;
        }
        Ok(())
    }
}

fn check_source(value: &str) -> Result<SourceText<'_>, String> {
    #[derive(Deserialize)]
    #[serde(expecting = "an object with `segment_id` and `range`")]
    struct Checked {
        #[serde(alias = "session_id")]
        segment_id: String,
        range: (u64, u64),
    }
    let Checked { segment_id, range: (start, end) } =
        serde_json::from_str(value).map_err(|error| in_member("source", value, &error))?;
    if start > end {
        return Err("in `source`: the range ends before it starts".into());
    }
    let Members(mut members) =
        serde_json::from_str(value).map_err(|error| in_member("source", value, &error))?;
    for (name, _) in &mut members {
        if name == "session_id" {
            *name = Cow::Borrowed("segment_id");
        }
    }
    Ok(SourceText::Members { members, meaning: Source { segment_id, start, end } })
}

fn check_list(list: usize, value: &str) -> Result<(), serde_json::Error> {
    #[derive(Deserialize)]
    #[expect(dead_code, reason = "the fields say what must be there; the text itself is passed on")]
    struct Decision {
        options: Vec<Text>,
        chosen: Text,
        rationale: Text,
    }
    #[derive(Deserialize)]
    #[expect(dead_code, reason = "as above")]
    struct Discussion {
        topic: Text,
        points: Vec<Text>,
    }
    #[derive(Deserialize)]
    #[expect(dead_code, reason = "as above")]
    struct Attempt {
        action: Text,
        result: Text,
        succeeded: bool,
    }
    #[derive(Deserialize)]
    #[expect(dead_code, reason = "as above")]
    struct Request {
        intent: Text,
        #[serde(default)]
        target: Option<Text>,
        summary: Text,
    }
    match list {
        0 => serde_json::from_str::<Vec<Object<Decision>>>(value).map(drop),
        1 => serde_json::from_str::<Vec<Object<Discussion>>>(value).map(drop),
        2 => serde_json::from_str::<Vec<Object<Attempt>>>(value).map(drop),
        _ => serde_json::from_str::<Vec<Object<Request>>>(value).map(drop),
    }
}

/// The position that serde_json reports is one within the member, and would mislead.
fn in_member(name: &str, value: &str, error: &serde_json::Error) -> String {
    // serde_json has no word of its own for half a pair.
    if let Err(malformed) = json::append(&mut String::new(), value, Layout::Compact) {
        return format!("in `{name}`: {}", malformed.describe());
    }
    let message = error.to_string();
    let message = message.rsplit_once(" at line ").map_or(message.as_str(), |(message, _)| message);
    format!("in `{name}`: {message}")
}

/// A string whose text is of no interest.
struct Text;

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AnyText;
        impl Visitor<'_> for AnyText {
            type Value = Text;
            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a string")
            }
            fn visit_str<E: de::Error>(self, _: &str) -> Result<Text, E> {
                Ok(Text)
            }
        }
        deserializer.deserialize_str(AnyText)
    }
}

/// The members of an object in their order, the values as they are written.
struct Members<'a>(Vec<(Cow<'a, str>, &'a str)>);

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Vec<(Cow<'de, str>, &'de str)>;
            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a JSON object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members: Self::Value = Vec::with_capacity(8);
                let mut names: BTreeSet<Cow<'de, str>> = BTreeSet::new();
                while let Some(Name(name)) = map.next_key::<Name<'de>>()? {
                    // Readers differ in which of two they take: the payload would not mean the same
                    // to everybody.
                    if !names.insert(name.clone()) {
                        return Err(de::Error::custom(format_args!("the member `{name}` stands twice")));
                    }
                    members.push((name, map.next_value::<&RawValue>()?.get()));
                }
                Ok(members)
            }
        }
        deserializer.deserialize_map(Object).map(Members)
    }
}

/// A member's name, borrowed unless it holds escapes.
struct Name<'a>(Cow<'a, str>);

impl<'de> Deserialize<'de> for Name<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AnyName;
        impl<'de> Visitor<'de> for AnyName {
            type Value = Cow<'de, str>;
            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a string")
            }
            fn visit_borrowed_str<E: de::Error>(self, name: &'de str) -> Result<Self::Value, E> {
                Ok(Cow::Borrowed(name))
            }
            fn visit_str<E: de::Error>(self, name: &str) -> Result<Self::Value, E> {
                Ok(Cow::Owned(name.into()))
            }
        }
        deserializer.deserialize_str(AnyName).map(Name)
    }
}
