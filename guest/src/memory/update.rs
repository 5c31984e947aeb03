//! The one home of the form of an update: the JSON of one, and its schema. Invariant: nothing that was
//! written is passed over. A member that is unknown or stands twice is an error, not a wish unheard.

use super::{Status, Update, shown};
use crate::error::{Error, ErrorCode, Result};
use crate::json::{Read, Reader};
use crate::prelude::*;

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
        let update = Reader::new(line.as_bytes()).read(read_update).map_err(|what| {
            let message = format!("cannot read line {} as an update: {what}", index + 1);
            let mut error = Error::new(ErrorCode::InvalidInput, message);
            error = error.at_index(index);
            error
        })?;
        updates.push(update);
    }
    Ok(updates)
}

fn read_update(json: &mut Reader<'_>) -> Read<Update> {
    let (mut texts, mut entries, mut met) = ([const { None }; 6], None, 0);
    json.begin(b'{')?;
    while let Some(name) = json.member()? {
        let Some(member) = name.position(&MEMBERS) else {
            let known = MEMBERS.join("`, `");
            let name = shown(&name.decode()).to_string();
            return Err(json.wrong(format!("unknown member `{name}`; the members are `{known}`")));
        };
        json.once(&mut met, member, MEMBERS[member])?;
        let read = match texts.get_mut(member) {
            Some(text) => json.optional_string().map(|value| *text = value),
            None => read_entries(json).map(|value| entries = value),
        };
        read.map_err(|stop| json.within(MEMBERS[member], stop))?;
    }
    // A kind and a slug that are null are as good as none.
    let [kind, slug, title, body, status, replaced_by] = texts;
    let kind = kind.ok_or_else(|| json.missing("kind"))?;
    let slug = slug.ok_or_else(|| json.missing("slug"))?;
    let status = match status.map(|text| status_of(&text)).transpose() {
        Ok(status) => status,
        Err(what) => return Err(json.wrong_whole(what)),
    };
    Ok(Update { kind, slug, title, body, status, replaced_by, entries })
}

fn read_entries(json: &mut Reader<'_>) -> Read<Option<Vec<String>>> {
    if json.null()? {
        return Ok(None);
    }
    let mut entries = Vec::new();
    json.begin(b'[')?;
    while json.item()? {
        entries.push(json.string()?.decode().into_owned());
    }
    Ok(Some(entries))
}

fn status_of(text: &str) -> core::result::Result<Status, String> {
    let known = Status::ALL.into_iter().find(|status| status.as_str() == text);
    known.ok_or_else(|| format!("in `status`: `{}` is none; it is active, replaced or retired", shown(text)))
}
