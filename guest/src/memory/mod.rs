//! The memory store: one Markdown file for each record, `memory/<kind>/<slug>.md`. Invariant: a file is
//! only ever replaced whole, by the commit of a run, and only by one that has read it; what people wrote
//! into it and nobody here understands stays as it is.

pub mod draft;
pub mod format;
pub mod update;

use crate::entry::Source;
use crate::error::{Error, ErrorCode, Result};
use crate::fs::{Content, Dir, FsErrorKind, Kind, Listed, Time};
use crate::layout::{EntryId, MEMORY, RecordName};
use crate::order;
use crate::prelude::*;
use crate::system::System;
use crate::workspace::{Workspace, open_existing};
use format::MAX_RECORD_BYTES;

/// What a record is worth, as an update says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// It holds.
    Active,
    /// Another record has taken its place.
    Replaced,
    /// It does not hold any more.
    Retired,
}

impl Status {
    /// All of them.
    pub const ALL: [Status; 3] = [Status::Active, Status::Replaced, Status::Retired];

    /// As it stands in files and updates.
    pub fn as_str(self) -> &'static str {
        match self {
            Status::Active => "active",
            Status::Replaced => "replaced",
            Status::Retired => "retired",
        }
    }
}

/// A record as it is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Where it is.
    pub name: RecordName,
    /// Its title.
    pub title: String,
    /// Its status, or what somebody wrote there.
    pub status: String,
    /// Where it comes from.
    pub sources: Vec<Source>,
    /// When it was created; empty if the file does not say it.
    pub created: String,
    /// When a run changed it last; empty if the file does not say it.
    pub updated: String,
    /// The record that has taken its place, `kind/slug`.
    pub replaced_by: Option<String>,
    /// The Markdown after the front matter.
    pub body: String,
}

/// What a listing found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecordListing {
    /// The records, by kind and slug. Their bodies and sources are empty.
    pub records: Vec<Record>,
    /// Files that can't be read as records, by path, each with its reason.
    pub unreadable: Vec<(String, String)>,
}

/// What a walk through the records comes upon.
pub(crate) enum Found<'a> {
    /// A record.
    Record(&'a RecordName, &'a format::Document<'a>),
    /// What can't be read as the record, or as the directory of the kind, that its name says; its path and
    /// the reason.
    Unreadable(String, String),
    /// What may be meant for records and has no name of one; its path and what is wrong there.
    Misplaced(String, &'static str),
}

/// What a consolidator wants a record to be: created if there is none, else changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Update {
    /// The directory, unchecked.
    pub kind: String,
    /// The name, unchecked.
    pub slug: String,
    /// None: it stays.
    pub title: Option<String>,
    /// None: it stays.
    pub body: Option<String>,
    /// None: it stays.
    pub status: Option<Status>,
    /// `kind/slug`, or a slug of the same kind.
    pub replaced_by: Option<String>,
    /// The entries that it comes from, unchecked; none: all that are at hand.
    pub entries: Option<Vec<String>>,
}

/// An entry at hand, and where it comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// Its id.
    pub id: EntryId,
    /// The source of its payload.
    pub source: Source,
}

/// How much a consolidator may change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UpdateLimits {
    /// How many updates one proposal may hold.
    pub max_updates: u32,
    /// How many bytes the texts of one update may have.
    pub max_update_bytes: u64,
}

/// What a run changes in one record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The record.
    pub name: RecordName,
    /// The file as it was read; none: there was none.
    pub before: Option<String>,
    /// The file as it is to be; none: it is to be removed, which only an undo does.
    pub after: Option<String>,
}

/// As much of a text from a plugin as a message shows: 100 characters, on one line.
pub(crate) fn shown(text: &str) -> String {
    let mut shown: String = text.chars().take(100).flat_map(char::escape_debug).collect();
    if text.chars().nth(100).is_some() {
        shown.push_str("...");
    }
    shown
}

/// How many bytes a text has as a JSON string: what is kept of a record for an undo is one.
pub(crate) fn escaped_len(text: &str) -> usize {
    text.bytes()
        .map(|byte| match byte {
            b'"' | b'\\' | b'\n' | b'\r' | b'\t' => 2,
            0..0x20 => 6,
            _ => 1,
        })
        .sum()
}

/// The name of a record, checked.
pub(crate) fn record_name(kind: &str, slug: &str) -> Result<RecordName> {
    RecordName::parse(kind, slug).ok_or_else(|| {
        let message = format!(
            "{}/{} names no record: the kind and the slug are 1 to 64 of a-z, 0-9 and -, and do not begin \
             with -",
            shown(kind),
            shown(slug)
        );
        Error::new(ErrorCode::InvalidInput, message)
    })
}

/// Takes the file of a record apart.
pub(crate) fn parse_file<'a>(name: &RecordName, text: &'a str) -> Result<format::Document<'a>> {
    format::parse(text).map_err(|fault| unusable(name, &fault.to_string()))
}

fn unusable(name: &RecordName, reason: &str) -> Error {
    let path = name.path();
    let message = format!("{path} is no usable record: {reason}; mend it or move it away");
    Error::new(ErrorCode::Unusable, message).at(path)
}

/// The text of a record's file; none if there is none.
fn read_text(dir: &impl Dir, name: &RecordName) -> Result<Option<String>> {
    match dir.read_file(&name.file_name(), MAX_RECORD_BYTES) {
        Ok(Content::Whole(content)) => {
            format::text_of(content).map(Some).map_err(|fault| unusable(name, &fault.to_string()))
        }
        Ok(Content::TooLarge(_)) => {
            Err(unusable(name, &format!("it is larger than {MAX_RECORD_BYTES} bytes")))
        }
        Ok(Content::NotAFile(kind)) => {
            let path = name.path();
            let what = kind.describe();
            let message =
                format!("{path} is {what} and no record; it was not followed and not touched: move it away");
            Err(Error::new(ErrorCode::WrongFileType, message).at(path))
        }
        Err(error) if error.kind == FsErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::io("read", name.path(), &error)),
    }
}

impl<D: Dir, S: System> Workspace<D, S> {
    /// One record; none if there is none.
    ///
    /// # Errors
    /// [`ErrorCode::InvalidInput`] if the name is none, `Unusable` if its file can't be read as a record;
    /// I/O errors.
    pub fn memory_record(&self, kind: &str, slug: &str) -> Result<Option<Record>> {
        let name = record_name(kind, slug)?;
        let Some(text) = self.record_text(&name)? else { return Ok(None) };
        Ok(Some(parse_file(&name, &text)?.record(&name)))
    }

    /// The records, or those of one kind, without bodies and sources. A missing directory is an empty one;
    /// names that no record can have are passed over. Reads every file, and holds one at a time.
    ///
    /// # Errors
    /// [`ErrorCode::InvalidInput`] if the kind is none; I/O errors of opening and listing the directories.
    pub fn memory_records(&self, kind: Option<&str>) -> Result<RecordListing> {
        let mut listing = RecordListing::default();
        self.visit_records(kind, &mut |found| match found {
            Found::Record(name, document) => {
                let record = document.record(name);
                listing.records.push(Record { body: String::new(), sources: Vec::new(), ..record });
            }
            Found::Unreadable(path, reason) => listing.unreadable.push((path, reason)),
            Found::Misplaced(..) => {}
        })?;
        Ok(listing)
    }

    /// Reads the records, or those of one kind, by kind and slug, and holds one at a time.
    ///
    /// # Errors
    /// As [`Self::memory_records`].
    pub(crate) fn visit_records(&self, kind: Option<&str>, visit: &mut dyn FnMut(Found<'_>)) -> Result<()> {
        if let Some(kind) = kind.filter(|kind| kind_of(kind).is_none()) {
            let message = format!(
                "`{}` names no kind of records: a kind is 1 to 64 of a-z, 0-9 and -, and does not begin with -",
                shown(kind)
            );
            return Err(Error::new(ErrorCode::InvalidInput, message));
        }
        let Some(memory) = open_existing(&*self.root, MEMORY, MEMORY)? else { return Ok(()) };
        let kinds = match kind {
            Some(kind) => vec![kind.to_owned()],
            None => listed(&memory, MEMORY, kind_of, &mut |name, what| {
                if let Some(why) = misplaced(name, what, true) {
                    visit(Found::Misplaced(format!("{MEMORY}/{name}"), why));
                }
            })?,
        };
        for kind in kinds {
            let path = format!("{MEMORY}/{kind}");
            let dir = match memory.open_dir(&kind) {
                Ok(dir) => dir,
                Err(error) if error.kind == FsErrorKind::NotFound => continue,
                Err(error) if error.kind == FsErrorKind::WrongType => {
                    let reason = Error::io("open", &path, &error).into_failure().message;
                    visit(Found::Unreadable(path, reason));
                    continue;
                }
                Err(error) => return Err(Error::io("open the directory", path, &error)),
            };
            let names = listed(&dir, &path, |name| record_of(&kind, name), &mut |name, what| {
                if let Some(why) = misplaced(name, what, false) {
                    visit(Found::Misplaced(format!("{path}/{name}"), why));
                }
            })?;
            for name in names {
                let read = read_text(&dir, &name).and_then(|text| {
                    // None: it was removed since it was listed.
                    if let Some(text) = text {
                        visit(Found::Record(&name, &parse_file(&name, &text)?));
                    }
                    Ok(())
                });
                if let Err(error) = read {
                    let (path, message) = (name.path(), error.into_failure().message);
                    // It stands beside the path.
                    let reason = message.strip_prefix(&path).map(|rest| format!("it{rest}"));
                    visit(Found::Unreadable(path, reason.unwrap_or(message)));
                }
            }
        }
        Ok(())
    }

    /// What can be told of all records without reading them: a record that is changed has another size or
    /// another time then. Sorted.
    pub(crate) fn record_marks(&self) -> Result<Vec<(RecordName, Mark)>> {
        let mut marks = Vec::new();
        let Some(memory) = open_existing(&*self.root, MEMORY, MEMORY)? else { return Ok(marks) };
        for kind in listed(&memory, MEMORY, kind_of, &mut |_, _| {})? {
            // What can't be opened can't be changed by a run either.
            let Ok(dir) = memory.open_dir(&kind) else { continue };
            let path = format!("{MEMORY}/{kind}");
            for name in listed(&dir, &path, |name| record_of(&kind, name), &mut |_, _| {})? {
                if let Some(mark) = mark(&dir, &name) {
                    marks.push((name, mark));
                }
            }
        }
        Ok(marks)
    }

    /// The same of one record; none if it is not there.
    pub(crate) fn record_mark(&self, name: &RecordName) -> Result<Option<Mark>> {
        let Some(memory) = open_existing(&*self.root, MEMORY, MEMORY)? else { return Ok(None) };
        let path = format!("{MEMORY}/{}", name.kind());
        let Some(dir) = open_existing(&memory, name.kind(), &path)? else { return Ok(None) };
        Ok(mark(&dir, name))
    }

    /// The text of a record's file; none if there is none.
    pub(crate) fn record_text(&self, name: &RecordName) -> Result<Option<String>> {
        match open_existing(&*self.root, MEMORY, MEMORY)? {
            Some(memory) => read_record(&memory, name),
            None => Ok(None),
        }
    }
}

/// The same, in the directory of the records.
pub(crate) fn read_record(memory: &impl Dir, name: &RecordName) -> Result<Option<String>> {
    match open_existing(memory, name.kind(), &format!("{MEMORY}/{}", name.kind()))? {
        Some(dir) => read_text(&dir, name),
        None => Ok(None),
    }
}

/// The size of a file and when it was changed, by what programs can set and by what they can't: who copies a
/// text of the same size over it may keep the first.
pub(crate) type Mark = (u64, Option<Time>, Option<Time>);

fn mark(dir: &impl Dir, name: &RecordName) -> Option<Mark> {
    dir.stat(&name.file_name()).ok().map(|stat| (stat.size, stat.modified, stat.changed))
}

/// The kind that a name in `memory/` stands for.
fn kind_of(name: &str) -> Option<String> {
    RecordName::parse(name, "any").map(|name| name.kind().to_owned())
}

/// The record that a name in the directory of a kind stands for.
fn record_of(kind: &str, name: &str) -> Option<RecordName> {
    RecordName::parse(kind, name.strip_suffix(".md")?)
}

/// Why something that may be meant for records is none, by its name. Hidden files, a README and what is no
/// Markdown are nobody's business.
fn misplaced(name: &str, what: Kind, at_top: bool) -> Option<&'static str> {
    let is_markdown = name.as_bytes().last_chunk::<3>().is_some_and(|end| end.eq_ignore_ascii_case(b".md"));
    if name.starts_with('.') || name == "README.md" || !is_markdown && what != Kind::Directory {
        return None;
    }
    Some(match (what == Kind::Directory, at_top) {
        (true, true) => {
            "a kind is 1 to 64 of a-z, 0-9 and -, and does not begin with -; nobody sees the records in here: rename it or move it away"
        }
        (true, false) => {
            "nobody sees records in a directory below that of their kind; move them up, or move it away"
        }
        (false, true) => "nobody sees a record outside the directory of its kind; move it there, or away",
        (false, false) => {
            "a slug is 1 to 64 of a-z, 0-9 and -, and does not begin with -, and .md follows; nobody sees this record: rename it or move it away"
        }
    })
}

/// The names in a directory that mean something, sorted; and all others, one by one.
fn listed<T: Ord>(
    dir: &impl Dir,
    path: &str,
    meaning: impl Fn(&str) -> Option<T>,
    other: &mut dyn FnMut(&str, Kind),
) -> Result<Vec<T>> {
    let mut names = Vec::new();
    dir.list(&mut |listed| {
        if let Listed::Named(name, kind) = listed {
            match meaning(name) {
                Some(meaning) => names.push(meaning),
                None => other(name, kind),
            }
        }
    })
    .map_err(|error| Error::io("list", path, &error))?;
    order::sort(&mut names);
    Ok(names)
}
