//! The staging directory. Invariant: an entry appears under its name whole or not at all, and only
//! the release of a lock that names it ever removes it; the quarantine only moves it ([`crate::quarantine`]).
//!
//! A payload is written to a temporary name, synchronised, renamed to its id, and the directory is
//! synchronised. A crash before the rename leaves a temporary file that is no entry; a crash after it
//! leaves the entry.

use crate::durable::{Durability, create_whole, sync_names};
use crate::entry::{self, MAX_ENTRY_BYTES, Source};
use crate::error::{Error, ErrorCode, Result};
use crate::fs::{Content, Dir, FsError, FsErrorKind, Kind, Listed, Stat, Time, read_file};
use crate::layout::{EntryId, STAGING, staging_path};
use crate::quarantine;
use crate::system::System;
use crate::workspace::Workspace;
use std::vec::IntoIter;

/// How many unusable files a summary names; it counts them all.
pub const MAX_NAMED_UNUSABLE: usize = 1_000;

/// How old a temporary file must be to count as left by a killed writer: a day, in milliseconds.
const OLD_TEMPORARY_MS: u64 = 24 * 60 * 60 * 1_000;

/// How many files more than entries that are asked for one batch looks at.
const MAX_UNUSABLE_IN_BATCH: usize = 256;

/// The longest reason that is given for a file, in characters: it may quote the file.
const MAX_REASON_CHARS: usize = 200;

/// A usable entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its name.
    pub id: EntryId,
    /// Its content as one line of JSON with the id first.
    pub json: String,
    /// The size of its file.
    pub bytes: u64,
    /// Where it comes from.
    pub source: Source,
}

/// A file that looks like an entry and can't be used as one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct UnusableFile {
    /// Its name; `?` if it is not UTF-8.
    pub name: String,
    /// What is wrong with it.
    pub reason: String,
}

/// What the staging directory holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Usable entries.
    pub entries: u64,
    /// Their bytes.
    pub bytes: u64,
    /// When the oldest was made, in milliseconds since 1970.
    pub oldest_ms: Option<u64>,
    /// Unusable files.
    pub unusable_count: u64,
    /// The first [`MAX_NAMED_UNUSABLE`] of them, by name.
    pub unusable: Vec<UnusableFile>,
    /// Entries that a committed run consumed and that are not deleted yet.
    pub consumed: u64,
    /// Entries in the quarantine.
    pub quarantined: u64,
}

/// Caps on a snapshot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// At most so many entries.
    pub max_entries: Option<u64>,
    /// At most so many bytes, but always one entry.
    pub max_bytes: Option<u64>,
}

/// Some entries of a snapshot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// Usable entries, oldest first.
    pub entries: Vec<Entry>,
    /// Files that proved unusable.
    pub unusable: Vec<UnusableFile>,
    /// True if nothing is left to read.
    pub done: bool,
}

/// The entries that were there at one moment.
#[derive(Debug)]
pub struct Snapshot<D> {
    staging: Option<D>,
    ids: Vec<EntryId>,
    read: usize,
    left: u64,
    unusable: Vec<UnusableFile>,
    temporaries: Vec<EntryId>,
}

/// What one listing found.
#[derive(Default)]
struct Listing {
    ids: Vec<EntryId>,
    unusable: Vec<UnusableFile>,
    /// Writes in progress, or what a killed writer left of one.
    temporaries: Vec<EntryId>,
    /// How many more files are entries by name and type, and were consumed by a run that was committed.
    consumed: u64,
}

impl<D: Dir, S: System> Workspace<D, S> {
    /// Checks payloads by the rules of [`Self::stage`] and writes nothing.
    ///
    /// # Errors
    /// [`ErrorCode::InvalidInput`] with the index of the first payload at fault.
    pub fn check_payloads<T: AsRef<str>>(
        &self,
        payloads: &[T],
        default_source: Option<&Source>,
    ) -> Result<()> {
        files_of(payloads, default_source).map(drop)
    }

    /// Stages payloads and returns their ids in the same order; the ids ascend.
    ///
    /// # Errors
    /// [`ErrorCode::InvalidInput`]: nothing is staged. An I/O error: [`Error::staged`] names what is
    /// staged; temporary files are removed where that is possible.
    pub fn stage<T: AsRef<str>>(
        &self,
        payloads: &[T],
        default_source: Option<&Source>,
        durability: Durability,
    ) -> Result<Vec<EntryId>> {
        let files = files_of(payloads, default_source)?;
        if files.is_empty() {
            return Ok(Vec::new());
        }
        let (staging, created) = self.staging_or_create()?;
        if durability == Durability::Full && (created || !self.staging_is_durable.get()) {
            // Not only if we created it: whoever did may have been killed before it came to this, and
            // an entry in a directory whose name is lost is lost.
            sync_names(&*self.root).map_err(|error| Error::io("synchronise", ".", &error))?;
            self.staging_is_durable.set(true);
        }
        let ids: Vec<EntryId> = files.iter().map(|_| self.new_id()).collect();
        // All data is written before the first name appears: a full disk is met here, where nothing
        // has to be taken back.
        for (index, (id, content)) in ids.iter().zip(&files).enumerate() {
            let temporary = id.temporary_name();
            if let Err(error) = create_whole(&staging, &temporary, content.as_bytes(), durability) {
                remove_temporaries(&staging, &ids[..index]);
                let mut error = Error::io("write", staging_path(&temporary), &error);
                error.index = Some(index as u64);
                return Err(error);
            }
        }
        for (index, id) in ids.iter().enumerate() {
            // A rename replaces what has the name already. Nothing has: the id holds 73 bits that
            // were drawn at random for this call.
            if let Err(error) = staging.rename(&id.temporary_name(), &staging, &id.file_name()) {
                remove_temporaries(&staging, &ids[index..]);
                let mut error = Error::io("name the entry", staging_path(&id.file_name()), &error);
                error.index = Some(index as u64);
                error.staged = ids[..index].to_vec();
                if durability == Durability::Full && index > 0 {
                    // What is reported as staged must be there after a power failure too.
                    if let Err(then) = sync_names(&staging) {
                        error.message =
                            format!("{}; besides, cannot synchronise {STAGING}: {then}", error.message);
                    }
                }
                return Err(error);
            }
        }
        if durability == Durability::Full
            && let Err(error) = sync_names(&staging)
        {
            // The names are there and may be consumed already; they can't be taken back.
            let mut error = Error::io("synchronise", STAGING, &error);
            error.staged = ids;
            return Err(error);
        }
        Ok(ids)
    }

    /// The ids of all files that are entries by name and type, oldest first. A missing staging
    /// directory is an empty one.
    ///
    /// # Errors
    /// I/O errors of opening and listing the directory.
    pub fn entry_ids(&self) -> Result<Vec<EntryId>> {
        match self.staging()? {
            Some(staging) => Ok(self.list_entries(&staging)?.ids),
            None => Ok(Vec::new()),
        }
    }

    /// Reads one entry.
    ///
    /// # Errors
    /// [`ErrorCode::NotFound`], [`ErrorCode::Unusable`] or an I/O error.
    pub fn read_entry(&self, id: EntryId) -> Result<Entry> {
        let path = staging_path(&id.file_name());
        let missing =
            || Error::new(ErrorCode::NotFound, format!("there is no entry {path}")).at(path.clone());
        let staging = self.staging()?.ok_or_else(missing)?;
        match staging.stat(&id.file_name()) {
            Ok(stat) if stat.kind == Kind::File => {}
            Ok(stat) => {
                let what = stat.kind.describe();
                let message = format!("{path} is {what} and no entry; it was not followed and not touched");
                return Err(Error::new(ErrorCode::WrongFileType, message).at(path));
            }
            Err(error) if error.kind == FsErrorKind::NotFound => return Err(missing()),
            Err(error) => return Err(Error::io("look at", path, &error)),
        }
        match read(&staging, id) {
            Ok(entry) => Ok(entry),
            Err(Problem::Gone) => Err(missing()),
            Err(Problem::Unusable(reason)) => {
                let message = format!("{path} is no usable entry: {reason}; mend it or move it away");
                Err(Error::new(ErrorCode::Unusable, message).at(path))
            }
        }
    }

    /// Counts the entries and names the unusable files. Reads every file; holds one at a time.
    ///
    /// # Errors
    /// I/O errors of opening and listing the directory.
    pub fn summarize(&self) -> Result<Summary> {
        let mut summary = Summary::default();
        let Some(staging) = self.staging()? else {
            return Ok(summary);
        };
        let Listing { ids, mut unusable, consumed, .. } = self.list_entries(&staging)?;
        summary.consumed = consumed;
        summary.quarantined = quarantine::count(&staging)?;
        for id in ids {
            match read(&staging, id) {
                Ok(entry) => {
                    summary.entries += 1;
                    summary.bytes += entry.bytes;
                    summary.oldest_ms.get_or_insert(id.millis());
                }
                Err(Problem::Gone) => {}
                Err(Problem::Unusable(reason)) => {
                    unusable.push(UnusableFile { name: id.file_name(), reason });
                }
            }
        }
        summary.unusable_count = unusable.len() as u64;
        unusable.sort_unstable();
        unusable.truncate(MAX_NAMED_UNUSABLE);
        summary.unusable = unusable;
        Ok(summary)
    }

    /// Takes a snapshot. With caps it reads the files, to count usable entries only.
    ///
    /// # Errors
    /// I/O errors of opening and listing the directory. A listing that was cut short is never taken for
    /// a whole one.
    pub fn take_snapshot(&self, limits: Limits) -> Result<Snapshot<D>> {
        self.take_snapshot_without(limits, &[])
    }

    /// As [`Self::take_snapshot`], as if some entries were not there: they count for no cap, and not as left.
    ///
    /// # Errors
    /// As there.
    pub fn take_snapshot_without(&self, limits: Limits, skip: &[EntryId]) -> Result<Snapshot<D>> {
        let Some(staging) = self.staging()? else {
            return Ok(Snapshot::of(None, Listing::default(), 0));
        };
        let Listing { mut ids, mut unusable, temporaries, consumed } = self.list_entries(&staging)?;
        if !skip.is_empty() {
            let mut skip = skip.to_vec();
            skip.sort_unstable();
            ids.retain(|id| skip.binary_search(id).is_err());
        }
        let mut left = 0;
        if limits != Limits::default() {
            // Caps count usable entries. If names were counted, unusable files at the head would fill
            // the caps of this run and of all that follow, and nothing would ever be consumed.
            let mut taken = Vec::new();
            let mut bytes = 0u64;
            let mut candidates = ids.into_iter();
            while limits.max_entries.is_none_or(|max| (taken.len() as u64) < max) {
                let Some(id) = candidates.next() else { break };
                match read(&staging, id) {
                    Ok(entry) => {
                        bytes = bytes.saturating_add(entry.bytes);
                        // The first one is taken whatever its size: it would wait for ever.
                        if limits.max_bytes.is_some_and(|max| bytes > max) && !taken.is_empty() {
                            left = 1;
                            break;
                        }
                        taken.push(id);
                    }
                    Err(Problem::Gone) => {}
                    Err(Problem::Unusable(reason)) => {
                        unusable.push(UnusableFile { name: id.file_name(), reason });
                    }
                }
            }
            left += candidates.len() as u64;
            ids = taken;
        }
        unusable.sort_unstable();
        Ok(Snapshot::of(Some(staging), Listing { ids, unusable, temporaries, consumed }, left))
    }

    /// Lists the entries and what looks like one. What a committed run has consumed is no entry any more,
    /// whether it is deleted yet or not.
    fn list_entries(&self, staging: &D) -> Result<Listing> {
        // The files first: what is committed between the two is left out, and not handed out once more.
        let mut listing = list(staging)?;
        let consumed = self.consumed()?;
        if !consumed.is_empty() {
            let before = listing.ids.len();
            listing.ids.retain(|id| consumed.binary_search(id).is_err());
            listing.consumed = (before - listing.ids.len()) as u64;
        }
        Ok(listing)
    }
}

impl<D: Dir> Snapshot<D> {
    fn of(staging: Option<D>, listing: Listing, left: u64) -> Self {
        let Listing { ids, unusable, temporaries, .. } = listing;
        Snapshot { staging, ids, read: 0, left, unusable, temporaries }
    }

    /// Removes temporary files that killed writers left more than a day ago. Should one of the writers
    /// have been asleep all that time, its rename fails and it reports that nothing was staged.
    pub(crate) fn remove_old_temporaries(&mut self, now: Time) {
        let Some(staging) = &self.staging else { return };
        for id in self.temporaries.drain(..).filter(|id| is_old_temporary(staging, *id, now)) {
            // Nobody waits for it; the next run tries again.
            let _ = staging.unlink(&id.temporary_name());
        }
    }

    /// The entries that it names. Those that were read and proved unusable, or were gone, are not
    /// among them.
    pub fn ids(&self) -> &[EntryId] {
        &self.ids
    }

    /// Takes entries that were read out of the snapshot again: they are not consumed. Ids of entries that
    /// are not among those that were read change nothing: what nobody has seen is still to be read.
    pub fn keep(&mut self, ids: &[EntryId]) {
        if ids.is_empty() {
            return;
        }
        let mut kept = ids.to_vec();
        kept.sort_unstable();
        let read = self.read;
        let mut position = 0;
        self.ids.retain(|id| {
            let was_read = position < read;
            position += 1;
            let keep = was_read && kept.binary_search(id).is_ok();
            self.read -= usize::from(keep);
            !keep
        });
    }

    /// Those of them that were read.
    pub fn read_ids(&self) -> &[EntryId] {
        &self.ids[..self.read]
    }

    /// How many more were staged and exceed the caps.
    pub fn left(&self) -> u64 {
        self.left
    }

    /// Files that were unusable by their name or their type, or that were read to count for the caps.
    pub fn unusable(&self) -> &[UnusableFile] {
        &self.unusable
    }

    /// Reads on: at most so many entries and about so many bytes, at least one file.
    pub fn next_batch(&mut self, max_entries: u32, max_bytes: u64) -> Batch {
        let mut batch = Batch::default();
        let mut bytes = 0;
        if let Some(staging) = &self.staging {
            // Files that drop out are taken out of `ids` in one pass at the end.
            let mut dropped: Vec<EntryId> = Vec::new();
            let mut position = self.read;
            // A directory full of broken files must not make one call as long as it likes.
            let most = (max_entries.max(1) as usize).saturating_add(MAX_UNUSABLE_IN_BATCH);
            let end = self.ids.len().min(position.saturating_add(most));
            while position < end
                && (batch.entries.len() as u64) < u64::from(max_entries.max(1))
                && (bytes < max_bytes || batch.entries.is_empty())
            {
                let id = self.ids[position];
                position += 1;
                match read(staging, id) {
                    Ok(entry) => {
                        bytes += entry.json.len() as u64;
                        batch.entries.push(entry);
                    }
                    Err(Problem::Gone) => dropped.push(id),
                    Err(Problem::Unusable(reason)) => {
                        dropped.push(id);
                        batch.unusable.push(UnusableFile { name: id.file_name(), reason });
                    }
                }
            }
            self.read = position - dropped.len();
            if !dropped.is_empty() {
                let mut dropped: IntoIter<EntryId> = dropped.into_iter();
                let mut next = dropped.next();
                self.ids.retain(|id| {
                    let drop = next == Some(*id);
                    if drop {
                        next = dropped.next();
                    }
                    !drop
                });
            }
        }
        batch.done = self.read >= self.ids.len();
        batch
    }
}

/// The temporary files in a directory that killed writers left more than a day ago.
pub(crate) fn old_temporaries<D: Dir>(staging: &D, now: Time) -> Result<Vec<String>> {
    let mut temporaries = list(staging)?.temporaries;
    temporaries.retain(|id| is_old_temporary(staging, *id, now));
    Ok(temporaries.into_iter().map(EntryId::temporary_name).collect())
}

/// Is it old by its name, which the writer's clock made, and by the file system's clock?
pub(crate) fn is_old_temporary<D: Dir>(staging: &D, id: EntryId, now: Time) -> bool {
    let is_old = |millis: u64| millis.saturating_add(OLD_TEMPORARY_MS) < now.millis();
    is_old(id.millis())
        && matches!(
            staging.stat(&id.temporary_name()),
            Ok(Stat { kind: Kind::File, modified: Some(modified), .. }) if is_old(modified.millis())
        )
}

/// The content of the files of payloads.
fn files_of<T: AsRef<str>>(payloads: &[T], default_source: Option<&Source>) -> Result<Vec<String>> {
    let file = |(index, payload): (usize, &T)| {
        entry::check(payload.as_ref(), default_source).and_then(|payload| payload.to_file()).map_err(
            |reason| {
                let mut error =
                    Error::new(ErrorCode::InvalidInput, format!("not a usable payload: {reason}"));
                error.index = Some(index as u64);
                error
            },
        )
    };
    payloads.iter().enumerate().map(file).collect()
}

fn remove_temporaries<D: Dir>(staging: &D, ids: &[EntryId]) {
    for id in ids {
        // What can't be removed is no entry and harms nobody.
        let _ = staging.unlink(&id.temporary_name());
    }
}

/// Lists the entries and what looks like one.
fn list<D: Dir>(staging: &D) -> Result<Listing> {
    let Listing { mut ids, mut unusable, mut temporaries, consumed } = Listing::default();
    let listed = staging.list(&mut |listed| match listed {
        Listed::NotUtf8 => {
            unusable.push(UnusableFile { name: "?".into(), reason: "the name is not UTF-8".into() })
        }
        Listed::Named(name, kind) => match classify(name, kind) {
            Class::Entry(id) => ids.push(id),
            Class::Unusable(reason) => unusable.push(UnusableFile { name: name.into(), reason }),
            Class::Foreign => temporaries.extend(EntryId::from_temporary_name(name)),
        },
    });
    listed.map_err(|error: FsError| Error::io("list", STAGING, &error))?;
    ids.sort_unstable();
    Ok(Listing { ids, unusable, temporaries, consumed })
}

enum Class {
    Entry(EntryId),
    Unusable(String),
    /// Ours for another purpose, or nobody's business: hidden files, editors' copies.
    Foreign,
}

/// What a name in the staging directory stands for.
fn classify(name: &str, kind: Kind) -> Class {
    if name.starts_with('.') || !name.ends_with(".json") {
        return Class::Foreign;
    }
    match (EntryId::from_file_name(name), kind) {
        (Some(id), Kind::File) => Class::Entry(id),
        (Some(_), kind) => Class::Unusable(not_a_file(kind)),
        (None, _) => Class::Unusable("the name is not a lower-case UUIDv7 and .json".into()),
    }
}

fn not_a_file(kind: Kind) -> String {
    format!("it is {}, not a regular file", kind.describe())
}

enum Problem {
    Gone,
    Unusable(String),
}

/// Reads and checks an entry. A file that can't be read is unusable and nothing worse: one bad sector
/// or one wrong mode must not stand in the way of all others.
fn read<D: Dir>(staging: &D, id: EntryId) -> std::result::Result<Entry, Problem> {
    let problem = |error: FsError| match error.kind {
        FsErrorKind::NotFound => Problem::Gone,
        _ => Problem::Unusable(format!("it can't be read: {error}")),
    };
    let content = match read_file(staging, &id.file_name(), MAX_ENTRY_BYTES).map_err(problem)? {
        Content::Whole(content) => content,
        Content::TooLarge(_) => {
            return Err(Problem::Unusable(format!("it has more than {MAX_ENTRY_BYTES} bytes")));
        }
        Content::NotAFile(kind) => return Err(Problem::Unusable(not_a_file(kind))),
    };
    let unusable = |reason: String| {
        Problem::Unusable(match reason.char_indices().nth(MAX_REASON_CHARS) {
            Some((end, _)) => format!("{}...", &reason[..end]),
            None => reason,
        })
    };
    let payload = entry::check_file(&content).map_err(unusable)?;
    let json = payload.to_line(id).map_err(unusable)?;
    Ok(Entry { id, json, bytes: content.len() as u64, source: payload.source() })
}
