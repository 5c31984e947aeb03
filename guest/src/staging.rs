//! The staging directory. Invariant: an entry appears under its name whole or not at all, and only
//! the release of a lock that names it ever removes it; the quarantine only moves it ([`crate::quarantine`]).
//!
//! A payload is written to a temporary name, synchronised, renamed to its id, and the directory is
//! synchronised. A crash before the rename leaves a temporary file that is no entry; a crash after it
//! leaves the entry.

use crate::durable::{Durability, create_whole, put_in_place, sync_names};
use crate::entry::{self, MAX_ENTRY_BYTES, Source};
use crate::error::{Error, ErrorCode, Result};
use crate::fs::{Content, Dir, FsError, FsErrorKind, Kind, Listed, NotCreated, Stat, Time};
use crate::layout::{EntryId, STAGING, staging_path};
use crate::order;
use crate::prelude::*;
use crate::quarantine;
use crate::system::System;
use crate::workspace::Workspace;

/// How many unusable files a summary names; it counts them all.
pub const MAX_NAMED_UNUSABLE: usize = 1_000;

/// How old a temporary file must be to count as left by a killed writer: a day, in milliseconds.
const OLD_TEMPORARY_MS: u64 = 24 * 60 * 60 * 1_000;

/// How many ids a snapshot with caps holds at least. So many fit into 8 MiB while they are sorted, and
/// runs that go on with what a snapshot has left seldom need another listing.
const MIN_HELD: usize = 1 << 18;

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
    /// Entries: by name and type, or usable ones if the files were read.
    pub entries: u64,
    /// Their bytes; none if the files were not read.
    pub bytes: Option<u64>,
    /// When the oldest was made, in milliseconds since 1970.
    pub oldest_ms: Option<u64>,
    /// Unusable files: those that names and types give away, or all if the files were read.
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

/// The entries that were there at one moment, the oldest first.
///
/// ```text
/// ids:   let go of  |  read  |  named, to be read  |  beyond the caps   and more that are not held
///        0 ......... start ... read .............. named .......... len
/// ```
#[derive(Debug)]
pub struct Snapshot<D> {
    staging: Option<D>,
    ids: Vec<EntryId>,
    start: usize,
    read: usize,
    named: usize,
    /// How many ids it holds at least if there are caps.
    least: usize,
    limits: Limits,
    /// The first entry is taken whatever its size.
    takes_one: bool,
    /// How many entries, and how many bytes of files, count for the caps by now.
    taken: u64,
    taken_bytes: u64,
    /// How many more there were, all of them newer than what is held.
    beyond: u64,
    /// The newest that was ever held.
    held_to: Option<EntryId>,
    /// The newest that there was.
    newest: Option<EntryId>,
    /// What is never to be among them, sorted.
    skip: Vec<EntryId>,
    unusable: Vec<UnusableFile>,
    temporaries: Vec<EntryId>,
}

/// What a listing comes upon.
enum Found {
    Entry(EntryId),
    Unusable(UnusableFile),
    /// A write in progress, or what a killed writer left of one.
    Temporary(EntryId),
}

/// The oldest of many ids, in the memory that those take which are kept.
struct Oldest {
    keep: usize,
    ids: Vec<EntryId>,
    /// The newest that is kept, once some are not.
    last: Option<EntryId>,
    count: u64,
    newest: Option<EntryId>,
}

impl Oldest {
    fn new(keep: usize) -> Self {
        Oldest { keep, ids: Vec::new(), last: None, count: 0, newest: None }
    }

    fn add(&mut self, id: EntryId) {
        self.count += 1;
        self.newest = self.newest.max(Some(id));
        if self.last.is_none_or(|last| id < last) {
            self.ids.push(id);
            if self.ids.len() / 2 >= self.keep {
                self.sort();
            }
        }
    }

    fn sort(&mut self) {
        order::sort_ids(&mut self.ids);
        if self.ids.len() > self.keep {
            self.ids.truncate(self.keep);
            self.last = self.ids.last().copied();
        }
    }

    fn beyond(&self) -> u64 {
        self.count - self.ids.len() as u64
    }
}

/// The first unusable files by name, and how many there are.
#[derive(Default)]
struct Named {
    count: u64,
    files: Vec<UnusableFile>,
}

impl Named {
    fn add(&mut self, file: UnusableFile) {
        self.count += 1;
        self.files.push(file);
        if self.files.len() >= 2 * MAX_NAMED_UNUSABLE {
            self.sort();
        }
    }

    fn sort(&mut self) {
        order::sort(&mut self.files);
        self.files.truncate(MAX_NAMED_UNUSABLE);
    }

    fn into_parts(mut self) -> (u64, Vec<UnusableFile>) {
        self.sort();
        (self.count, self.files)
    }
}

fn is_among(sorted: &[EntryId], id: EntryId) -> bool {
    !sorted.is_empty() && sorted.binary_search(&id).is_ok()
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
    /// [`ErrorCode::InvalidInput`]: nothing is staged. An I/O error: [`staged`](crate::error::Failure::staged) names what is
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
        // A rename replaces what has the name already. Nothing has: an id holds 73 bits that were drawn at
        // random for this call.
        match (&*ids, &*files) {
            ([id], [content]) => {
                let (temporary, name) = (id.temporary_name(), id.file_name());
                put_in_place(&staging, &temporary, &name, content.as_bytes(), durability).map_err(
                    |failed| match failed {
                        NotCreated::NoName(error) | NotCreated::NotWhole(error) => {
                            not_written(0, *id, &error)
                        }
                        NotCreated::NotRenamed(error) => not_named(0, *id, &error),
                    },
                )?;
            }
            _ => put_all_in_place(&staging, &ids, &files, durability)?,
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
        Ok(self.take_snapshot(Limits::default())?.ids)
    }

    /// Calls `each` for every file that is an entry by name and type and is not consumed, in no order, until
    /// it fails.
    pub(crate) fn each_entry(&self, each: &mut dyn FnMut(&D, EntryId) -> Result<()>) -> Result<()> {
        let Some(staging) = self.staging()? else { return Ok(()) };
        let consumed = self.consumed()?;
        let mut result = Ok(());
        list(&staging, &mut |found| {
            if let Found::Entry(id) = found
                && result.is_ok()
                && !is_among(&consumed, id)
            {
                result = each(&staging, id);
            }
        })?;
        result
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

    /// Counts the entries by name and type. Opens no file, and holds no names but those of unusable files, and
    /// the entries that are consumed and not deleted.
    ///
    /// # Errors
    /// I/O errors of opening and listing the directory.
    pub fn summarize(&self) -> Result<Summary> {
        self.summarize_by(false)
    }

    /// Counts the usable entries and their bytes and names the unusable files. Reads every file; holds one at
    /// a time.
    ///
    /// # Errors
    /// I/O errors of opening and listing the directory.
    pub fn check_entries(&self) -> Result<Summary> {
        self.summarize_by(true)
    }

    fn summarize_by(&self, reads: bool) -> Result<Summary> {
        let mut summary = Summary::default();
        let mut unusable = Named::default();
        let mut bytes = 0;
        if let Some(staging) = self.staging()? {
            // Nothing is done with what is counted: a run that is committed while it lists may be counted as
            // staged, and was so when this began.
            let consumed = self.consumed()?;
            let mut count = |id: EntryId| {
                summary.entries += 1;
                summary.oldest_ms =
                    Some(summary.oldest_ms.map_or(id.millis(), |oldest| oldest.min(id.millis())));
            };
            list(&staging, &mut |found| match found {
                Found::Entry(id) if is_among(&consumed, id) => summary.consumed += 1,
                Found::Entry(id) if !reads => count(id),
                Found::Entry(id) => match read(&staging, id) {
                    Ok(entry) => {
                        bytes += entry.bytes;
                        count(id);
                    }
                    Err(Problem::Gone) => {}
                    Err(Problem::Unusable(reason)) => {
                        unusable.add(UnusableFile { name: id.file_name(), reason });
                    }
                },
                Found::Unusable(file) => unusable.add(file),
                Found::Temporary(_) => {}
            })?;
            summary.quarantined = quarantine::count(&staging)?;
        }
        summary.bytes = reads.then_some(bytes);
        (summary.unusable_count, summary.unusable) = unusable.into_parts();
        Ok(summary)
    }

    /// Takes a snapshot. It names as many of the oldest entries as the caps allow by their names and the
    /// sizes of their files; no file is read.
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
        self.take_snapshot_holding(limits, skip, MIN_HELD)
    }

    /// As [`Self::take_snapshot_without`], holding so many ids at least if there are caps.
    ///
    /// # Errors
    /// As there.
    pub fn take_snapshot_holding(
        &self,
        limits: Limits,
        skip: &[EntryId],
        least: usize,
    ) -> Result<Snapshot<D>> {
        let mut snapshot = Snapshot {
            staging: self.staging()?,
            ids: Vec::new(),
            start: 0,
            read: 0,
            named: 0,
            least,
            limits,
            takes_one: true,
            taken: 0,
            taken_bytes: 0,
            beyond: 0,
            held_to: None,
            newest: None,
            skip: skip.to_vec(),
            unusable: Vec::new(),
            temporaries: Vec::new(),
        };
        let Some(staging) = &snapshot.staging else { return Ok(snapshot) };
        order::sort_ids(&mut snapshot.skip);
        let (skip, unusable, temporaries) =
            (&snapshot.skip, &mut snapshot.unusable, &mut snapshot.temporaries);
        let mut oldest = Oldest::new(held(limits, least));
        list(staging, &mut |found| match found {
            Found::Entry(id) if is_among(skip, id) => {}
            Found::Entry(id) => oldest.add(id),
            Found::Unusable(file) => unusable.push(file),
            Found::Temporary(id) => temporaries.push(id),
        })?;
        oldest.sort();
        order::sort(&mut snapshot.unusable);
        // What a committed run has consumed is no entry any more, whether it is deleted yet or not. The files
        // first: what is committed between the two is left out, and not handed out once more.
        let consumed = self.consumed()?;
        if !consumed.is_empty() {
            snapshot.skip.extend(consumed);
            order::sort_ids(&mut snapshot.skip);
            oldest.ids.retain(|id| !is_among(&snapshot.skip, *id));
        }
        snapshot.newest = oldest.newest;
        if oldest.last.is_none() || snapshot.skip.is_empty() {
            snapshot.beyond = if oldest.last.is_none() { 0 } else { oldest.beyond() };
            snapshot.held_to = oldest.ids.last().copied();
            snapshot.ids = oldest.ids;
        } else {
            // How many of those that are not held are consumed is not known.
            snapshot.hold_more()?;
        }
        snapshot.name_more();
        Ok(snapshot)
    }
}

/// How many ids a snapshot with these caps holds. Some more than they allow: files may prove unusable.
fn held(limits: Limits, least: usize) -> usize {
    match limits.max_entries {
        None if limits.max_bytes.is_none() => usize::MAX,
        None => least,
        Some(max) => {
            usize::try_from(max).unwrap_or(usize::MAX).saturating_add(MAX_UNUSABLE_IN_BATCH).max(least)
        }
    }
}

impl<D: Dir> Snapshot<D> {
    /// Removes temporary files that killed writers left more than a day ago. Should one of the writers
    /// have been asleep all that time, its rename fails and it reports that nothing was staged.
    pub(crate) fn remove_old_temporaries(&mut self, now: Time) {
        let Some(staging) = &self.staging else { return };
        for id in self.temporaries.drain(..).filter(|id| is_old_temporary(staging, *id, now)) {
            // Nobody waits for it; the next run tries again.
            let _ = staging.unlink(&id.temporary_name());
        }
    }

    /// Lists those that are newer than what was held, and not newer than what there was at first.
    fn hold_more(&mut self) -> Result<()> {
        let Some(staging) = &self.staging else { return Ok(()) };
        let mut oldest = Oldest::new(held(self.limits, self.least));
        list(staging, &mut |found| {
            if let Found::Entry(id) = found
                && Some(id) > self.held_to
                && Some(id) <= self.newest
                && !is_among(&self.skip, id)
            {
                oldest.add(id);
            }
        })?;
        oldest.sort();
        self.beyond = oldest.beyond();
        self.held_to = self.held_to.max(oldest.ids.last().copied());
        self.ids.append(&mut oldest.ids);
        Ok(())
    }

    /// Do the caps allow for more than was read?
    fn has_room(&self) -> bool {
        let Limits { max_entries, max_bytes } = self.limits;
        max_entries.is_none_or(|max| self.taken < max)
            && max_bytes.is_none_or(|max| self.taken_bytes < max || self.taken == 0 && self.takes_one)
    }

    /// Would an entry of this size exceed the cap? The first one is taken whatever its size: it would wait for
    /// ever.
    fn exceeds(&self, taken: u64, taken_bytes: u64) -> bool {
        self.limits.max_bytes.is_some_and(|max| taken_bytes > max) && !(taken == 1 && self.takes_one)
    }

    /// Names what the caps allow beyond what was read, by the sizes that the files have.
    fn name_more(&mut self) {
        let rest = (self.ids.len() - self.read) as u64;
        let most = self.limits.max_entries.map_or(rest, |max| max.saturating_sub(self.taken).min(rest));
        let mut named = usize::try_from(most).unwrap_or(usize::MAX);
        if self.limits.max_bytes.is_some()
            && let Some(staging) = &self.staging
        {
            let mut bytes = self.taken_bytes;
            let fits = |(number, id): &(u64, &EntryId)| {
                // One that can't be looked at drops out when it is read.
                bytes = bytes.saturating_add(staging.stat(&id.file_name()).map_or(0, |stat| stat.size));
                !self.exceeds(self.taken + number, bytes)
            };
            named = (1..).zip(&self.ids[self.read..]).take(named).take_while(fits).count();
        }
        self.named = self.read + named;
    }

    /// Lists again, if it has come to the end of what it holds and the caps allow for more. Call it before
    /// each [`Self::next_batch`]: without it a batch may have nothing and be none the less not the last.
    ///
    /// # Errors
    /// I/O errors of listing the directory.
    pub fn fill(&mut self) -> Result<()> {
        if self.read == self.ids.len() && self.beyond > 0 && self.has_room() {
            self.hold_more()?;
            self.name_more();
        }
        Ok(())
    }

    /// Lets go of what was read, and names what follows it, within these caps: for a run that follows under the
    /// same lock. `goes_on`: they are what is left of earlier caps, and no entry exceeds them.
    ///
    /// # Errors
    /// I/O errors of listing the directory.
    pub fn advance(&mut self, limits: Limits, goes_on: bool) -> Result<()> {
        self.start = self.read;
        (self.limits, self.takes_one, self.taken, self.taken_bytes) = (limits, !goes_on, 0, 0);
        if self.start > self.ids.len() / 2 {
            self.ids.drain(..self.start);
            (self.start, self.read) = (0, 0);
        }
        self.name_more();
        self.fill()
    }

    /// Has the last ones that were read read once more.
    pub fn put_back(&mut self, count: usize) {
        let count = count.min(self.read - self.start);
        self.read -= count;
        self.taken = self.taken.saturating_sub(count as u64);
    }

    /// The entries that it names. Those that were read and proved unusable, or were gone, are not
    /// among them.
    pub fn ids(&self) -> &[EntryId] {
        &self.ids[self.start..self.named]
    }

    /// Takes entries that were read out of the snapshot again: they are not consumed. Ids of entries that
    /// are not among those that were read change nothing: what nobody has seen is still to be read.
    pub fn keep(&mut self, ids: &[EntryId]) {
        if ids.is_empty() {
            return;
        }
        let mut kept = ids.to_vec();
        order::sort_ids(&mut kept);
        // Those that stay move up to the ones that are to be read.
        let mut free = self.read;
        for position in (self.start..self.read).rev() {
            if !is_among(&kept, self.ids[position]) {
                free -= 1;
                self.ids[free] = self.ids[position];
            }
        }
        self.start = free;
    }

    /// Those of them that were read.
    pub fn read_ids(&self) -> &[EntryId] {
        &self.ids[self.start..self.read]
    }

    /// How many more were staged and exceed the caps: by names and sizes before all are read, exactly then.
    pub fn left(&self) -> u64 {
        (self.ids.len() - self.named) as u64 + self.beyond
    }

    /// Files that were unusable by their name or their type.
    pub fn unusable(&self) -> &[UnusableFile] {
        &self.unusable
    }

    /// Reads on: at most so many entries and about so many bytes, at least one file. Caps count usable entries:
    /// for each file that proves unusable, another is named. If names were counted, unusable files at the head
    /// would fill the caps of this run and of all that follow, and nothing would ever be consumed.
    pub fn next_batch(&mut self, max_entries: u32, max_bytes: u64) -> Batch {
        let mut batch = Batch::default();
        let Some(staging) = &self.staging else { return Batch { done: true, ..batch } };
        let mut bytes = 0;
        // What was read and is usable lies before `free`, what is to be read from `position` on.
        let (mut free, mut position) = (self.read, self.read);
        let mut is_full = false;
        // A directory full of broken files must not make one call as long as it likes.
        let most = (max_entries.max(1) as usize).saturating_add(MAX_UNUSABLE_IN_BATCH);
        let end = self.ids.len().min(position.saturating_add(most));
        while position < end
            && (position < self.named || position > free)
            && (batch.entries.len() as u64) < u64::from(max_entries.max(1))
            && (bytes < max_bytes || batch.entries.is_empty())
            && self.has_room()
        {
            let id = self.ids[position];
            match read(staging, id) {
                Ok(entry) => {
                    if self.exceeds(self.taken + 1, self.taken_bytes.saturating_add(entry.bytes)) {
                        // It has grown, or it is there for one that proved unusable.
                        is_full = true;
                        break;
                    }
                    self.taken += 1;
                    self.taken_bytes = self.taken_bytes.saturating_add(entry.bytes);
                    bytes += entry.json.len() as u64;
                    batch.entries.push(entry);
                    self.ids[free] = id;
                    free += 1;
                }
                Err(Problem::Gone) => {}
                Err(Problem::Unusable(reason)) => {
                    batch.unusable.push(UnusableFile { name: id.file_name(), reason });
                }
            }
            position += 1;
        }
        self.close_gap(free, position);
        if is_full {
            self.named = self.read;
        } else if self.read >= self.named || position > free && self.limits.max_bytes.is_none() {
            self.name_more();
        }
        let needs_more = self.read == self.ids.len() && self.beyond > 0 && self.has_room();
        batch.done = self.read == self.named && !needs_more;
        batch
    }

    /// Takes ids out of the middle, from what was read to what is to be read. The shorter side moves.
    fn close_gap(&mut self, from: usize, to: usize) {
        let gap = to - from;
        if from - self.start <= self.ids.len() - to {
            self.ids.copy_within(self.start..from, self.start + gap);
            (self.start, self.read) = (self.start + gap, to);
        } else {
            self.ids.copy_within(to.., from);
            self.ids.truncate(self.ids.len() - gap);
            (self.read, self.named) = (from, self.named.saturating_sub(gap).max(from));
        }
    }
}

/// The temporary files in a directory that killed writers left more than a day ago.
pub(crate) fn old_temporaries<D: Dir>(staging: &D, now: Time) -> Result<Vec<String>> {
    let mut temporaries = Vec::new();
    list(staging, &mut |found| {
        if let Found::Temporary(id) = found {
            temporaries.push(id);
        }
    })?;
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
        entry::to_file(payload.as_ref(), default_source).map_err(|reason| {
            let mut error = Error::new(ErrorCode::InvalidInput, format!("not a usable payload: {reason}"));
            error = error.at_index(index);
            error
        })
    };
    payloads.iter().enumerate().map(file).collect()
}

fn not_written(index: usize, id: EntryId, error: &FsError) -> Error {
    Error::io("write", staging_path(&id.temporary_name()), error).at_index(index)
}

fn not_named(index: usize, id: EntryId, error: &FsError) -> Error {
    Error::io("name the entry", staging_path(&id.file_name()), error).at_index(index)
}

/// Writes all data before the first name appears: a full disk is met where nothing has to be taken back.
fn put_all_in_place<D: Dir>(
    staging: &D,
    ids: &[EntryId],
    files: &[String],
    durability: Durability,
) -> Result<()> {
    for (index, (id, content)) in ids.iter().zip(files).enumerate() {
        if let Err(error) = create_whole(staging, &id.temporary_name(), content.as_bytes(), durability) {
            remove_temporaries(staging, &ids[..index]);
            return Err(not_written(index, *id, &error));
        }
    }
    for (index, id) in ids.iter().enumerate() {
        if let Err(error) = staging.rename(&id.temporary_name(), staging, &id.file_name()) {
            remove_temporaries(staging, &ids[index..]);
            let mut error = not_named(index, *id, &error);
            error.staged = ids[..index].to_vec();
            if durability == Durability::Full && index > 0 {
                // What is reported as staged must be there after a power failure too.
                if let Err(then) = sync_names(staging) {
                    error.message =
                        format!("{}; besides, cannot synchronise {STAGING}: {then}", error.message);
                }
            }
            return Err(error);
        }
    }
    Ok(())
}

fn remove_temporaries<D: Dir>(staging: &D, ids: &[EntryId]) {
    for id in ids {
        // What can't be removed is no entry and harms nobody.
        let _ = staging.unlink(&id.temporary_name());
    }
}

/// Lists the entries and what looks like one, in no order.
fn list<D: Dir>(staging: &D, each: &mut dyn FnMut(Found)) -> Result<()> {
    let unusable = |name: &str, reason| Found::Unusable(UnusableFile { name: name.into(), reason });
    let listed = staging.list(&mut |listed| match listed {
        Listed::NotUtf8 => each(unusable("?", "the name is not UTF-8".into())),
        Listed::Named(name, kind) => match classify(name, kind) {
            Class::Entry(id) => each(Found::Entry(id)),
            Class::Unusable(reason) => each(unusable(name, reason)),
            Class::Foreign => {
                if let Some(id) = EntryId::from_temporary_name(name) {
                    each(Found::Temporary(id));
                }
            }
        },
    });
    listed.map_err(|error: FsError| Error::io("list", STAGING, &error))
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
fn read<D: Dir>(staging: &D, id: EntryId) -> core::result::Result<Entry, Problem> {
    let problem = |error: FsError| match error.kind {
        FsErrorKind::NotFound => Problem::Gone,
        _ => Problem::Unusable(format!("it can't be read: {error}")),
    };
    let content = match staging.read_file(&id.file_name(), MAX_ENTRY_BYTES).map_err(problem)? {
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
    let (json, source) = entry::to_line(&content, id).map_err(unusable)?;
    Ok(Entry { id, json, bytes: content.len() as u64, source })
}
