//! The one home of the form of an update: the JSON of one, and its schema. Invariant: nothing that was
//! written is passed over. A member that is unknown or stands twice is an error, not a wish unheard.

use super::{Status, Update, shown};
use crate::error::{Error, ErrorCode, Result};
use serde::de::{self, Deserialize, Deserializer, MapAccess, Visitor};
use std::fmt;

/// The JSON Schema (draft 2020-12) of one update.
pub const SCHEMA: &str = include_str!("update.schema.json");

/// The members, as [`SCHEMA`] describes them.
pub const MEMBERS: [&str; 7] = ["kind", "slug", "title", "body", "status", "replaced_by", "entries"];

/// Reads updates from JSON Lines: one object a line, blank lines passed over. The form is checked here;
/// what the texts must be is for [`super::draft::Draft::propose`] to check.
///
/// # Errors
/// `InvalidInput` with the index, from 0, of the line at fault.
pub fn parse_lines(lines: &str) -> Result<Vec<Update>> {
    let lines = lines.strip_prefix('\u{feff}').unwrap_or(lines);
    let mut updates = Vec::new();
    for (index, line) in lines.split('\n').enumerate() {
        if line.trim_matches([' ', '\t', '\r']).is_empty() {
            continue;
        }
        let update = serde_json::from_str::<Parsed>(line).map_err(|error| {
            let message = error.to_string();
            // Its line number is one within the line.
            let what = match message.rsplit_once(" at line 1 column ") {
                Some((words, _)) if error.column() == 0 => words.to_owned(),
                Some((words, column)) => format!("{words} at column {column}"),
                None => message,
            };
            let message = format!("cannot read line {} as an update: {what}", index + 1);
            let mut error = Error::new(ErrorCode::InvalidInput, message);
            error.index = Some(index as u64);
            error
        })?;
        updates.push(update.0);
    }
    Ok(updates)
}

struct Parsed(Update);

impl<'de> Deserialize<'de> for Parsed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = Parsed;
            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a JSON object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Parsed, A::Error> {
                let mut texts: [Option<String>; 6] = Default::default();
                let mut entries = None;
                let mut met = [false; MEMBERS.len()];
                while let Some(name) = map.next_key::<String>()? {
                    let Some(member) = MEMBERS.iter().position(|known| *known == name) else {
                        let known = MEMBERS.join("`, `");
                        let what = format!("unknown member `{}`; the members are `{known}`", shown(&name));
                        return Err(de::Error::custom(what));
                    };
                    if std::mem::replace(&mut met[member], true) {
                        return Err(de::Error::custom(format_args!("the member `{name}` stands twice")));
                    }
                    let read = match texts.get_mut(member) {
                        Some(text) => map.next_value().map(|value| *text = value),
                        None => map.next_value().map(|value| entries = value),
                    };
                    read.map_err(|error| de::Error::custom(format_args!("in `{name}`: {error}")))?;
                }
                let [kind, slug, title, body, status, replaced_by] = texts;
                let missing = |name| de::Error::custom(format_args!("missing member `{name}`"));
                Ok(Parsed(Update {
                    kind: kind.ok_or_else(|| missing("kind"))?,
                    slug: slug.ok_or_else(|| missing("slug"))?,
                    title,
                    body,
                    status: status.map(|text| status_of(&text)).transpose().map_err(de::Error::custom)?,
                    replaced_by,
                    entries,
                }))
            }
        }
        deserializer.deserialize_map(Members)
    }
}

fn status_of(text: &str) -> std::result::Result<Status, String> {
    let known = Status::ALL.into_iter().find(|status| status.as_str() == text);
    known.ok_or_else(|| format!("in `status`: `{}` is none; it is active, replaced or retired", shown(text)))
}
