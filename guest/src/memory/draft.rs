//! The changes that a run would make, in memory. Invariant: a draft holds only checked names, whole
//! files, and for each the content that it was made from; a proposal counts as a whole or not at all.

use super::format::{self, MAX_RECORD_BYTES, MAX_TITLE_CHARS, target};
use super::{
    Change, Mark, Origin, Record, RecordListing, Status, Update, UpdateLimits, parse_file, record_name, shown,
};
use crate::digest::Digest;
use crate::entry::Source;
use crate::error::{Error, ErrorCode, Result};
use crate::fs::Dir;
use crate::layout::{EntryId, RecordName};
use crate::order::{self, Map};
use crate::prelude::*;
use crate::system::System;
use crate::time::to_rfc3339;
use crate::workspace::Workspace;

/// How many bytes the texts of a draft may have, those before and those after the changes.
pub const MAX_DRAFT_BYTES: u64 = 64 * 1024 * 1024;

/// Of how many records a draft remembers what was read of them. Of those above it notices no more that
/// they change before a proposal; that they change after it is noticed as ever.
const MAX_SEEN: usize = 100_000;

/// The changes that a run would make.
#[derive(Debug)]
pub struct Draft {
    limits: UpdateLimits,
    changes: Map<RecordName, Change>,
    /// Of the texts in `changes`, in bytes.
    size: u64,
    /// The files that were read and not changed.
    seen: Map<RecordName, Option<Digest>>,
    /// All files as they were when a consolidator began that reads them by itself, sorted.
    watched: Option<Vec<(RecordName, Mark)>>,
}

/// A file as it was read; none: there was none.
fn digest(text: Option<&str>) -> Option<Digest> {
    text.map(|text| Digest::of(text.as_bytes()))
}

fn size_of(change: &Change) -> u64 {
    // As it is kept for an undo, where control characters are six bytes each.
    [&change.before, &change.after].into_iter().flatten().map(|text| super::escaped_len(text) as u64).sum()
}

impl Draft {
    /// One without changes.
    pub fn new(limits: UpdateLimits) -> Self {
        Draft { limits, changes: Map::default(), size: 0, seen: Map::default(), watched: None }
    }

    /// One record as the changes leave it. If its file changes before updates of it are proposed, they are
    /// refused: they were made for what was read here.
    ///
    /// # Errors
    /// As [`Workspace::memory_record`]; `Unusable` also for what is no file in the place of its own.
    pub fn record<D: Dir, S: System>(
        &mut self,
        workspace: &Workspace<D, S>,
        kind: &str,
        slug: &str,
    ) -> Result<Option<Record>> {
        let name = record_name(kind, slug)?;
        if let Some(change) = self.changes.get(&name) {
            return record_of(&name, change.after.as_deref());
        }
        let text = text_of(workspace, &name)?;
        let record = record_of(&name, text.as_deref())?;
        if self.seen.len() < MAX_SEEN || self.seen.get(&name).is_some() {
            self.seen.insert(name, digest(text.as_deref()));
        }
        Ok(record)
    }

    /// The records as the changes leave them, without bodies and sources.
    ///
    /// # Errors
    /// As [`Workspace::memory_records`].
    pub fn records<D: Dir, S: System>(
        &self,
        workspace: &Workspace<D, S>,
        kind: Option<&str>,
    ) -> Result<RecordListing> {
        let mut listing = workspace.memory_records(kind)?;
        if self.changes.is_empty() {
            return Ok(listing);
        }
        let stays =
            |record: &Record| self.changes.get(&record.name).is_none_or(|change| change.after.is_none());
        listing.records.retain(stays);
        for (name, change) in self.changes.iter() {
            if kind.is_none_or(|kind| kind == name.kind())
                && let Some(record) = record_of(name, change.after.as_deref())?
            {
                listing.records.push(Record { body: String::new(), sources: Vec::new(), ..record });
            }
        }
        order::sort_by(&mut listing.records, |one, other| one.name.cmp(&other.name));
        Ok(listing)
    }

    /// Adds updates that were made of these entries, all or none of them, in their order. What was proposed
    /// already changes nothing, not even the time of the last update.
    ///
    /// # Errors
    /// `InvalidInput` with the index of the update at fault; `Unusable` if the file of a record can't be
    /// read; `Conflict` if it has changed since [`Self::record`] read it; `NoSpace` if the draft would grow
    /// larger than [`MAX_DRAFT_BYTES`]; I/O errors.
    pub fn propose<D: Dir, S: System>(
        &mut self,
        workspace: &Workspace<D, S>,
        origins: &[Origin],
        updates: &[Update],
    ) -> Result<()> {
        let max = self.limits.max_updates as usize;
        if updates.len() > max {
            let message =
                format!("cannot take {} updates at once: a proposal has {max} at most", updates.len());
            let mut error = Error::new(ErrorCode::InvalidInput, message);
            error.index = Some(max as u64);
            return Err(error);
        }
        let mut by_id: Vec<_> = origins.iter().map(|origin| (origin.id, &origin.source)).collect();
        order::sort_by(&mut by_id, |one, other| one.0.cmp(&other.0));
        let mut checked = Vec::with_capacity(updates.len());
        for (index, update) in updates.iter().enumerate() {
            let check = Checked::new(update, self.limits.max_update_bytes, origins, &by_id);
            checked.push(check.map_err(|error| at_fault(index, update, error))?);
        }
        let now = workspace.system().now().whole_seconds();
        let now = to_rfc3339(now);
        let mut touched: Map<RecordName, Touched> = Map::default();
        for (index, update) in checked.into_iter().enumerate() {
            let applied = match touched.get_mut(&update.name) {
                Some(touched) => touched.apply(index, update, &now),
                None => self.touch(workspace, &update.name).and_then(|mut new| {
                    let name = update.name.clone();
                    new.apply(index, update, &now)?;
                    touched.insert(name, new);
                    Ok(())
                }),
            };
            applied.map_err(|error| at_fault(index, &updates[index], error))?;
        }
        // None: the record is left as it was before the run.
        let mut proposed: Vec<(RecordName, Option<Change>)> = Vec::new();
        let mut size = self.size;
        for (name, touched) in touched.into_items() {
            let Some(wanted) = touched.changed(&now) else { continue };
            size -= self.changes.get(&name).map_or(0, size_of);
            let change = touched
                .change(&name, &wanted)
                .map_err(|error| at_fault(touched.last, &updates[touched.last], error))?;
            size += change.as_ref().map_or(0, size_of);
            if size > MAX_DRAFT_BYTES {
                let message = format!(
                    "cannot take the updates: the draft would hold more than {MAX_DRAFT_BYTES} bytes; commit \
                     it and propose them again"
                );
                return Err(Error::new(ErrorCode::NoSpace, message));
            }
            proposed.push((name, change));
        }
        self.size = size;
        for (name, change) in proposed {
            match change {
                Some(change) => {
                    self.seen.remove(&name);
                    self.changes.insert(name, change);
                }
                None => self.changes.remove(&name),
            }
        }
        Ok(())
    }

    /// A record that a proposal is about to change.
    fn touch<D: Dir, S: System>(&self, workspace: &Workspace<D, S>, name: &RecordName) -> Result<Touched> {
        let (before, start) = match self.changes.get(name) {
            Some(change) => (change.before.clone(), record_of(name, change.after.as_deref())?),
            None => {
                let before = text_of(workspace, name)?;
                let is_unseen = match &self.watched {
                    // After it was read: what changes later is found by the commit.
                    Some(watched) => {
                        let then = watched.binary_search_by(|(other, _)| other.cmp(name));
                        workspace.record_mark(name)? != then.ok().map(|at| watched[at].1)
                    }
                    None => false,
                };
                if is_unseen || self.seen.get(name).is_some_and(|seen| *seen != digest(before.as_deref())) {
                    let path = name.path();
                    let message = format!(
                        "{path} was changed by somebody else since it was read for the update; nothing was \
                         written over it: consolidate again"
                    );
                    return Err(Error::new(ErrorCode::Conflict, message).at(path));
                }
                let start = record_of(name, before.as_deref())?;
                (before, start)
            }
        };
        let old = record_of(name, before.as_deref())?;
        Ok(Touched { before, old, current: start.clone(), start, last: 0 })
    }

    /// From now on somebody reads the files of the records, and not through [`Self::record`]: an update of
    /// a record whose file changes from here on is a conflict.
    ///
    /// # Errors
    /// I/O errors of listing the directories.
    pub fn watch<D: Dir, S: System>(&mut self, workspace: &Workspace<D, S>) -> Result<()> {
        self.watched = Some(workspace.record_marks()?);
        Ok(())
    }

    /// How many records it changes.
    pub fn len(&self) -> usize {
        self.changes.len()
    }

    /// Does it change nothing?
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// How many bytes its texts have, those before and those after the changes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// What it would change, by kind and slug.
    pub fn changes(&self) -> impl Iterator<Item = &Change> {
        self.changes.iter().map(|(_, change)| change)
    }

    /// The change at this position, counted from 0 by kind and slug.
    pub fn change(&self, index: usize) -> Option<&Change> {
        self.changes.nth(index)
    }

    /// Takes the changes out, for a run to make them. What was read is forgotten too: the commit changes it.
    pub fn take(&mut self) -> Vec<Change> {
        self.size = 0;
        self.seen = Map::default();
        core::mem::take(&mut self.changes).into_items().map(|(_, change)| change).collect()
    }
}

/// The text of a record's file. Something else in its place is a fault of this record and of no other, as text that
/// can't be read is; in the place of a directory it is one of all records.
fn text_of<D: Dir, S: System>(workspace: &Workspace<D, S>, name: &RecordName) -> Result<Option<String>> {
    workspace.record_text(name).map_err(|mut error| {
        if error.code == ErrorCode::WrongFileType && error.path == Some(name.path()) {
            error.code = ErrorCode::Unusable;
        }
        error
    })
}

fn record_of(name: &RecordName, text: Option<&str>) -> Result<Option<Record>> {
    text.map(|text| Ok(parse_file(name, text)?.record(name))).transpose()
}

/// What is wrong with an update; [`at_fault`] says with which.
fn refused(what: impl Into<String>) -> Error {
    Error::new(ErrorCode::InvalidInput, what)
}

/// Names the update: what comes from a plugin is shown printable and short.
fn at_fault(index: usize, update: &Update, mut error: Error) -> Error {
    error = error.at_index(index);
    error.message = format!(
        "cannot take the update of {}/{}: {}",
        shown(&update.kind),
        shown(&update.slug),
        error.message
    );
    error
}

/// A record while a proposal is applied to it.
struct Touched {
    /// The file before the run.
    before: Option<String>,
    /// What it said.
    old: Option<Record>,
    /// The record before the proposal.
    start: Option<Record>,
    current: Option<Record>,
    /// The last update of it.
    last: usize,
}

impl Touched {
    fn apply(&mut self, index: usize, update: Checked<'_>, now: &str) -> Result<()> {
        self.last = index;
        let record = update.applied_to(self.current.take(), self.old.as_ref(), now)?;
        self.current = Some(record);
        Ok(())
    }

    /// The record as the proposal leaves it, if it is another than before it.
    fn changed(&self, now: &str) -> Option<Record> {
        let wanted = self.current.as_ref()?;
        (!same_but_updated(wanted, self.start.as_ref()))
            .then(|| Record { updated: now.into(), ..wanted.clone() })
    }

    /// What becomes of the file. It is always made out of the text from before the run: what is changed and
    /// then changed back leaves no trace, and neither does the number of proposals.
    fn change(&self, name: &RecordName, wanted: &Record) -> Result<Option<Change>> {
        if same_but_updated(wanted, self.old.as_ref()) {
            return Ok(None);
        }
        let after = match &self.before {
            Some(before) => parse_file(name, before)?.render(wanted),
            None => format::render(wanted),
        };
        if after.len() as u64 > MAX_RECORD_BYTES {
            let bytes = after.len();
            return Err(refused(format!(
                "its file would have {bytes} bytes, and a record has {MAX_RECORD_BYTES} at most; split it"
            )));
        }
        Ok(Some(Change { name: name.clone(), before: self.before.clone(), after: Some(after) }))
    }
}

fn same_but_updated(one: &Record, other: Option<&Record>) -> bool {
    let Some(other) = other else { return false };
    let Record { name, title, status, sources, created, updated: _, replaced_by, body } = one;
    *name == other.name
        && *title == other.title
        && *status == other.status
        && *sources == other.sources
        && *created == other.created
        && *replaced_by == other.replaced_by
        && *body == other.body
}

/// An update whose form is right.
struct Checked<'a> {
    name: RecordName,
    update: &'a Update,
    replaced_by: Option<RecordName>,
    sources: Vec<&'a Source>,
}

impl<'a> Checked<'a> {
    fn new(
        update: &'a Update,
        max_bytes: u64,
        origins: &'a [Origin],
        by_id: &[(EntryId, &'a Source)],
    ) -> Result<Self> {
        let Update { kind, slug, title, body, status, replaced_by, entries } = update;
        let texts = [Some(kind), Some(slug), title.as_ref(), body.as_ref(), replaced_by.as_ref()];
        let texts = texts.into_iter().flatten().chain(entries.iter().flatten());
        let bytes: u64 = texts.map(|text| text.len() as u64).sum();
        if bytes > max_bytes {
            return Err(refused(format!("its texts have {bytes} bytes, and may have {max_bytes} at most")));
        }
        let name = record_name(kind, slug)?;
        if let Some(body) = body
            && body.len() as u64 > MAX_RECORD_BYTES
        {
            let what =
                format!("its body has {} bytes, and a record has {MAX_RECORD_BYTES} at most", body.len());
            return Err(refused(what));
        }
        let replaced_by = match (status, replaced_by) {
            (Some(Status::Replaced), None) => {
                return Err(refused("the status `replaced` needs `replaced_by`, the record in its place"));
            }
            (Some(Status::Replaced), Some(text)) => {
                let target = target(kind, text).ok_or_else(|| {
                    refused(format!(
                        "`replaced_by` is `{}`, which names no record; write kind/slug",
                        shown(text)
                    ))
                })?;
                if target == name {
                    return Err(refused("`replaced_by` names the record itself; name the one in its place"));
                }
                Some(target)
            }
            (_, Some(_)) => {
                return Err(refused("`replaced_by` goes with the status `replaced` and with no other"));
            }
            (_, None) => None,
        };
        let sources = match entries {
            None => origins.iter().map(|origin| &origin.source).collect(),
            Some(entries) => {
                let source = |text: &String| {
                    let place =
                        EntryId::parse(text).map(|id| by_id.binary_search_by(|(other, _)| other.cmp(&id)));
                    place.and_then(core::result::Result::ok).map(|at| by_id[at].1).ok_or_else(|| {
                        refused(format!(
                            "`entries` names `{}`, which is none of the entries that were given",
                            shown(text)
                        ))
                    })
                };
                entries.iter().map(source).collect::<Result<_>>()?
            }
        };
        Ok(Checked { name, update, replaced_by, sources })
    }

    /// The record as it is to be. `old` is what it was before the run.
    fn applied_to(self, current: Option<Record>, old: Option<&Record>, now: &str) -> Result<Record> {
        let Checked { name, update, replaced_by, sources } = self;
        let mut record = match (current, &update.title, &update.body) {
            (Some(record), ..) => record,
            (None, Some(title), Some(_)) => {
                check_title(title)?;
                Record {
                    name,
                    title: title.clone(),
                    status: Status::Active.as_str().into(),
                    sources: Vec::new(),
                    created: now.into(),
                    updated: String::new(),
                    replaced_by: None,
                    body: String::new(),
                }
            }
            (None, title, _) => {
                let lacks = if title.is_none() { "title" } else { "body" };
                return Err(refused(format!("there is no such record yet, and a new one needs a `{lacks}`")));
            }
        };
        if let Some(title) = &update.title
            && *title != record.title
        {
            // What people wrote may come back as it is, and as it was before the run.
            if old.is_none_or(|old| old.title != *title) {
                check_title(title)?;
            }
            record.title.clone_from(title);
        }
        if let Some(body) = &update.body {
            // What comes back with other line ends was not changed.
            match old {
                Some(old) if same_body(&old.body, body) => record.body.clone_from(&old.body),
                _ if same_body(&record.body, body) => {}
                _ => record.body = ended(body),
            }
        }
        if let Some(status) = update.status {
            record.status = status.as_str().into();
            record.replaced_by = replaced_by.map(|name| name.to_string());
        }
        add_sources(&mut record.sources, &sources);
        Ok(record)
    }
}

/// Adds those that are not there yet, each once.
fn add_sources(sources: &mut Vec<Source>, more: &[&Source]) {
    let before = sources.len();
    sources.extend(more.iter().map(|source| (*source).clone()));
    let of = |at: usize| (&sources[at].segment_id, sources[at].start, sources[at].end);
    let mut places: Vec<usize> = (0..sources.len()).collect();
    order::sort_by(&mut places, |one, other| of(*one).cmp(&of(*other)));
    // Of those that are the same the one that was there before comes first.
    let again = places.windows(2).filter(|pair| pair[1] >= before && of(pair[0]) == of(pair[1]));
    let mut again: Vec<usize> = again.map(|pair| pair[1]).collect();
    order::sort(&mut again);
    let (mut at, mut again) = (0, again.into_iter().peekable());
    sources.retain(|_| {
        at += 1;
        again.next_if_eq(&(at - 1)).is_none()
    });
}

fn check_title(title: &str) -> Result<()> {
    let form = format!("a title is one line of 1 to {MAX_TITLE_CHARS} characters");
    let breaks = |char: char| char.is_control() || matches!(char, '\u{2028}' | '\u{2029}');
    if title.trim().is_empty() {
        return Err(refused(format!("its title is empty; {form}")));
    }
    if title.contains(breaks) {
        return Err(refused(format!("its title holds a line end or a control character; {form}")));
    }
    let chars = title.chars().count();
    if chars > MAX_TITLE_CHARS {
        return Err(refused(format!("its title has {chars} characters; {form}")));
    }
    Ok(())
}

/// A body as a consolidator writes it: as it is, with one line end.
fn ended(body: &str) -> String {
    let text = body.trim_end_matches(['\r', '\n']);
    let end = match (text.is_empty(), body[text.len()..].starts_with("\r\n")) {
        (true, _) => "",
        (false, true) => "\r\n",
        (false, false) => "\n",
    };
    format!("{text}{end}")
}

/// The same lines, however they end, and however many empty ones there are at the end?
fn same_body(one: &str, other: &str) -> bool {
    let lines = |body| str::trim_end_matches(body, ['\r', '\n']).split('\n');
    let lines = |body| lines(body).map(|line: &str| line.strip_suffix('\r').unwrap_or(line));
    lines(one).eq(lines(other))
}
