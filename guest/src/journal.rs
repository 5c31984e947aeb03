//! How a run changes memory records. Invariant: all changes of a run are made or none, each exactly once,
//! and never by a run that was not committed; what a record was before is kept.
//!
//! ```text
//! before the ticket of the run (see `runs`):
//!  1  make the directories of the records
//!  2  write each new content to .unfinished/<run>.<n>, and the old ones to .before/<run>.json
//!  3  each record is as it was read ? : else conflict, and the run is not committed
//! after the commit, by the owner or by whoever recovers the run:
//!     what people wrote into a record since step 3 is kept in .before/<run>.<n>.md
//!  4  rename .unfinished/<run>.<n> over the record         gone -> it is done already
//!     synchronise the directories of the records, then .unfinished
//! ```
//!
//! Why a late owner can do no harm: a new content has one name, and a rename takes it away. An owner that
//! was stopped after its commit finds that its successor has renamed them all, and can't write an old
//! content over what later runs made of the record.
//!
//! A record that an undo removes has no new content to rename. An empty file stands for its removal, and
//! goes when the record is gone for good. The record is first renamed aside, and is put back if it is not
//! what was to be removed, or if nothing stands for its removal any more: then a late owner has taken what
//! a later run has made. Whoever takes the lock next puts back what such an owner did not come to.

use crate::digest::Digest;
use crate::durable::{Durability, create_whole, sync_names};
use crate::error::{Error, ErrorCode, Result};
use crate::fs::{Content, Dir, File, FsError, FsErrorKind, FsResult, Kind, Listed, Time};
use crate::json::{Layout, Read, Reader, Writer};
use crate::layout::{
    BEFORE, BEFORE_PATH, MEMORY, NewContent, Progress, RUNS, RecordName, RunId, UNFINISHED_PATH, before_path,
    unfinished_path,
};
use crate::memory::format::MAX_RECORD_BYTES;
use crate::memory::{Change, escaped_len, read_record};
use crate::order;
use crate::outcome::ChangedRecord;
use crate::prelude::*;
use crate::runs::{OLD_TEMPORARY_MS, Runs, is_old};
use crate::workspace::{open_existing, open_or_create};
use core::sync::atomic::Ordering;

/// The largest file of old contents that is read, in bytes: twice what a draft may hold.
const MAX_BEFORE_BYTES: u64 = 128 * 1024 * 1024;

/// How many records a message names.
const MAX_NAMED: usize = 3;

/// What a record that a run changed was before, and what it made of it.
#[derive(Debug)]
struct BeforeRecord {
    kind: String,
    slug: String,
    /// None: there was no file.
    before: Option<String>,
    /// None: there is no file.
    after: Option<Digest>,
}

/// How often a directory is made again that somebody removes at the same moment.
const MAX_AGAIN: u32 = 8;

/// What became of a record that was to be removed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Aside {
    /// It is put aside.
    ToRemove,
    /// It is gone.
    Gone,
    /// It is not what was to be removed.
    PutBack,
}

/// The changes as an outcome names them.
pub(crate) fn changed_records(changes: &[Change]) -> Vec<ChangedRecord> {
    let changed = |change: &Change| ChangedRecord {
        kind: change.name.kind().to_owned(),
        slug: change.name.slug().to_owned(),
        created: change.before.is_none(),
        removed: change.after.is_none(),
    };
    changes.iter().map(changed).collect()
}

fn indexed<T>(items: &[T]) -> impl Iterator<Item = (u32, &T)> {
    (0..).zip(items)
}

impl<D: Dir> Runs<D> {
    /// Steps 1 to 3. After an error nothing is left of them.
    pub(crate) fn prepare(&self, run: RunId, changes: &[Change], durability: Durability) -> Result<()> {
        if changes.is_empty() {
            return Ok(());
        }
        let prepared = self.try_prepare(run, changes, durability);
        if prepared.is_err() {
            self.discard(run, changes.len());
        }
        prepared
    }

    fn try_prepare(&self, run: RunId, changes: &[Change], durability: Durability) -> Result<()> {
        let full = durability == Durability::Full;
        let sync = |dir: &D, path: &str| match full {
            true => sync_names(dir).map_err(|error| Error::io("synchronise", path, &error)),
            false => Ok(()),
        };
        let (memory, _) = open_or_create(&*self.root, MEMORY, MEMORY)?;
        for kind in kinds(changes.iter().map(|change| change.name.kind())) {
            open_or_create(&memory, kind, &kind_path(kind))?;
        }
        // Whoever made them may have been killed before it came to this.
        sync(&memory, MEMORY)?;
        sync(&self.root, ".")?;
        for (index, change) in indexed(changes) {
            let name = NewContent { run, index }.name();
            // An earlier try of this commit may have left it.
            let _ = self.unfinished.unlink(&name);
            create_whole(
                &self.unfinished,
                &name,
                change.after.as_deref().unwrap_or("").as_bytes(),
                durability,
            )
            .map_err(|error| Error::io("write", unfinished_path(&name), &error))?;
        }
        let (before, created) = open_or_create(&self.dir, BEFORE, BEFORE_PATH)?;
        if created && full {
            // If it fails, a later try sees to it.
            self.are_durable.store(false, Ordering::Relaxed);
            sync(&self.dir, RUNS)?;
            self.are_durable.store(true, Ordering::Relaxed);
        }
        let name = run.file_name();
        let _ = before.unlink(&name);
        create_whole(&before, &name, &before_file(run, changes), durability)
            .map_err(|error| Error::io("write", before_path(&name), &error))?;
        sync(&before, BEFORE_PATH)?;
        // A commit whose new contents have lost their names would pass for one whose changes are made.
        sync(&self.unfinished, UNFINISHED_PATH)?;
        let mut changed = Vec::new();
        for change in changes {
            let current = read_record(&memory, &change.name)?;
            if current.as_deref() != change.before.as_deref() {
                changed.push(change.name.path());
            }
        }
        match changed.first() {
            None => Ok(()),
            Some(first) => {
                let message = format!(
                    "{} changed while the run was under way; nothing was written over it, the next run sees what is there now",
                    named(&changed)
                );
                Err(Error::new(ErrorCode::Conflict, message).at(first.clone()))
            }
        }
    }

    /// Removes what was prepared for a run that is not committed.
    pub(crate) fn discard(&self, run: RunId, changes: usize) {
        if changes == 0 {
            return;
        }
        // In this order: the next owner finds what stays by the new contents.
        self.remove_old_content(&run.file_name());
        for index in 0..u32::try_from(changes).unwrap_or(u32::MAX) {
            let _ = self.unfinished.unlink(&NewContent { run, index }.name());
        }
    }

    /// Step 4, of a run that is committed. Time has gone by since the look before the commit, a successor's
    /// much and an owner's little, and people may have changed the records meanwhile: what they wrote is
    /// kept. Returns what is to be known of it.
    pub(crate) fn apply(
        &self,
        run: RunId,
        changes: &[ChangedRecord],
        durability: Durability,
    ) -> Result<Option<String>> {
        if changes.is_empty() {
            return Ok(None);
        }
        self.try_apply(run, changes, durability).map_err(|mut error| {
            error.message = format!(
                "run {run} is committed, and {}; the next run goes on with it and deletes the entries then",
                error.message
            );
            error
        })
    }

    fn try_apply(
        &self,
        run: RunId,
        changes: &[ChangedRecord],
        durability: Durability,
    ) -> Result<Option<String>> {
        // Without durability a power failure may have taken it.
        let (mut memory, mut remade) = open_or_create(&*self.root, MEMORY, MEMORY)?;
        let (mut kept, mut left, mut aside) = (Vec::new(), Vec::new(), Vec::new());
        let mut old = None;
        for (index, change) in indexed(changes) {
            // A name that is none comes from a file that somebody made up.
            let Some(name) = RecordName::parse(&change.kind, &change.slug) else { continue };
            let content = NewContent { run, index };
            if !self.is_there(&content.name())? {
                // Whoever put it in place may have made the directory again, and not have come to this.
                remade = true;
                continue;
            }
            let before = match &mut old {
                Some(old) => &*old,
                unread => &*unread.insert(match self.before(run) {
                    // A power failure without durability leaves such a file. It is as good as gone.
                    Err(error) if error.code == ErrorCode::Unusable => None,
                    read => read?,
                }),
            };
            let before = find(before.as_deref(), index, &name);
            for again in 0.. {
                let path = kind_path(name.kind());
                let opened = match open_or_create(&memory, name.kind(), &path) {
                    // Somebody has removed `memory`, which was empty, after we opened it.
                    Err(error) if error.code == ErrorCode::NotFound && again < MAX_AGAIN => {
                        (memory, _) = open_or_create(&*self.root, MEMORY, MEMORY)?;
                        continue;
                    }
                    opened => opened,
                };
                let (dir, created) = opened?;
                remade |= created || again > 0;
                if change.removed {
                    let what = self.put_aside(&dir, content, &name, before, durability)?;
                    if what == Aside::PutBack {
                        left.push(name.path());
                    }
                    aside.push((content, what == Aside::ToRemove));
                    break;
                }
                if self.keep_edited(&dir, content, &name, before)? {
                    kept.push(name.path());
                }
                match self.unfinished.rename(&content.name(), &dir, &name.file_name()) {
                    Ok(()) => break,
                    Err(error) if error.kind == FsErrorKind::NotFound => {
                        // Another process was faster.
                        if !self.is_there(&content.name())? {
                            remade = true;
                            break;
                        }
                        // Or somebody has removed the directory of the kind, which was empty, after we opened it,
                        // as what tidies up does: the first record of a kind must not go with it.
                        if again == MAX_AGAIN {
                            return Err(unapplied(&name.path(), "its directory is removed again and again"));
                        }
                    }
                    Err(error) => return Err(unapplied(&name.path(), &error.to_string())),
                }
            }
        }
        let sync = |dir: &D, path: &str| match durability {
            Durability::Full => sync_names(dir).map_err(|error| unapplied(path, &error.to_string())),
            Durability::None => Ok(()),
        };
        if remade {
            sync(&memory, MEMORY)?;
            sync(&self.root, ".")?;
        }
        // Also if nothing was left to rename: who renamed it may not have come to this.
        if durability == Durability::Full {
            for kind in kinds(changes.iter().map(|change| change.kind.as_str())) {
                if RecordName::parse(kind, "x").is_some()
                    && let Some(dir) = open_existing(&memory, kind, &kind_path(kind))?
                {
                    sync(&dir, &kind_path(kind))?;
                }
            }
        }
        for (content, _) in aside.iter().filter(|(_, is_ours)| *is_ours) {
            self.unlink_if_there(&content.aside_name())?;
        }
        // A new content whose name came back would be renamed once more, over what is newer by then.
        sync(&self.unfinished, UNFINISHED_PATH)?;
        // Not before: a record that came back would stay, and one that is still put aside with nothing that
        // stands for its removal would be put back.
        for (content, _) in &aside {
            self.unlink_if_there(&content.name())?;
        }
        let notes = [
            (kept, format!("changed by somebody since; what was there is kept in {BEFORE_PATH}/{run}.*.md")),
            (left, "changed by somebody since, and not removed".into()),
        ];
        let notes = notes.into_iter().filter(|(paths, _)| !paths.is_empty());
        let notes: Vec<String> = notes.map(|(paths, what)| format!("{} {what}", named(&paths))).collect();
        Ok((!notes.is_empty()).then(|| notes.join("; ")))
    }

    /// Keeps a record that is neither what the run had read nor what it makes of it.
    fn keep_edited(
        &self,
        dir: &D,
        content: NewContent,
        name: &RecordName,
        before: Option<&BeforeRecord>,
    ) -> Result<bool> {
        let current = match dir.read_file(&name.file_name(), MAX_RECORD_BYTES) {
            Ok(Content::Whole(current)) => current,
            Ok(Content::TooLarge(_) | Content::NotAFile(_)) => {
                return Err(unapplied(&name.path(), "something else stands in its place"));
            }
            Err(error) if error.kind == FsErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(unapplied(&name.path(), &error.to_string())),
        };
        let expected = before.and_then(|record| record.before.as_deref());
        let made = before.and_then(|record| record.after);
        // Another process may have been faster.
        if expected.map(str::as_bytes) == Some(&current) || made == Some(Digest::of(&current)) {
            return Ok(false);
        }
        let (before, _) = open_or_create(&self.dir, BEFORE, BEFORE_PATH)?;
        let name = content.name();
        // The first name may be taken by an earlier try, which was killed while it wrote it, or which found
        // another text; under the second one there can only be a part of this text.
        let first = format!("{name}.md");
        let failed = |error: FsError| unapplied(&before_path(&first), &error.to_string());
        let is_kept = keep_text(&before, &first, &current).map_err(failed)?;
        if !is_kept {
            let second = format!("{name}.{:016x}.md", Digest::of(&current).fnv1a);
            if !keep_text(&before, &second, &current).map_err(failed)? {
                before.unlink(&second).map_err(failed)?;
                keep_text(&before, &second, &current).map_err(failed)?;
            }
        }
        // Before it is written over.
        sync_names(&before).map_err(failed)?;
        Ok(true)
    }

    /// Puts a record aside that is to be removed, or back if it is not what was to be removed.
    fn put_aside(
        &self,
        dir: &D,
        content: NewContent,
        name: &RecordName,
        before: Option<&BeforeRecord>,
        durability: Durability,
    ) -> Result<Aside> {
        let (aside, file) = (content.aside_name(), name.file_name());
        let failed = |error: FsError| unapplied(&name.path(), &error.to_string());
        if !self.is_there(&aside)? {
            match dir.rename(&file, &self.unfinished, &aside) {
                Ok(()) => {}
                // Either it is gone, or only the answer was lost.
                Err(error) if error.kind == FsErrorKind::NotFound => {
                    if !self.is_there(&aside)? {
                        return Ok(Aside::Gone);
                    }
                }
                Err(error) => return Err(failed(error)),
            }
        }
        // Who was stopped before the rename may have taken what a later run has made.
        if !self.is_there(&content.name())? {
            self.put_back(content, dir, name, durability).map_err(failed)?;
            return Ok(Aside::Gone);
        }
        let expected = before.and_then(|record| record.before.as_deref());
        let is_expected = match self.unfinished.read_file(&aside, MAX_RECORD_BYTES) {
            Ok(Content::Whole(current)) => expected.map(str::as_bytes) == Some(&current),
            Ok(Content::TooLarge(_) | Content::NotAFile(_)) => false,
            Err(error) if error.kind == FsErrorKind::NotFound => return Ok(Aside::Gone),
            Err(error) => return Err(failed(error)),
        };
        if is_expected {
            return Ok(Aside::ToRemove);
        }
        self.put_back(content, dir, name, durability).map_err(failed)?;
        Ok(Aside::PutBack)
    }

    /// Gives a record that was put aside its name back, unless somebody has made another one meanwhile,
    /// which is newer: then it is kept with the old contents.
    fn put_back(
        &self,
        content: NewContent,
        dir: &D,
        name: &RecordName,
        durability: Durability,
    ) -> FsResult<()> {
        let (aside, file) = (content.aside_name(), name.file_name());
        let gone = |result: FsResult<()>| match result {
            // Another process was faster.
            Err(error) if error.kind == FsErrorKind::NotFound => Ok(()),
            other => other,
        };
        match self.unfinished.link(&aside, dir, &file) {
            Ok(()) => {
                if durability == Durability::Full {
                    sync_names(dir)?;
                }
                gone(self.unfinished.unlink(&aside))
            }
            // Another process was faster, or the directory was removed: then the next owner puts it back.
            Err(error) if error.kind == FsErrorKind::NotFound => Ok(()),
            Err(error) if error.kind == FsErrorKind::Exists => gone(self.keep_aside(content)),
            // No hard links here.
            Err(_) => match dir.stat(&file) {
                Err(error) if error.kind == FsErrorKind::NotFound => {
                    gone(self.unfinished.rename(&aside, dir, &file))
                }
                Err(error) => Err(error),
                Ok(_) => gone(self.keep_aside(content)),
            },
        }
    }

    fn keep_aside(&self, content: NewContent) -> FsResult<()> {
        let aside = content.aside_name();
        self.unfinished.rename(&aside, &self.dir.open_dir(BEFORE)?, &format!("{aside}.md"))
    }

    /// Puts back what late owners have put aside, and were killed. `contents` are all that are aside.
    pub(crate) fn put_strays_back(&self, contents: &[NewContent], durability: Durability) {
        for content in contents {
            // A removal that could not be ended goes on with the next owner.
            if !matches!(self.is_there(&content.name()), Ok(false)) {
                continue;
            }
            let record = self.changed_record(*content);
            let dir = record.as_ref().and_then(|record| {
                let (memory, _) = open_or_create(&*self.root, MEMORY, MEMORY).ok()?;
                Some(open_or_create(&memory, record.kind(), &kind_path(record.kind())).ok()?.0)
            });
            // What stays is found again.
            let _ = match (record, dir) {
                (Some(record), Some(dir)) => self.put_back(*content, &dir, &record, durability),
                _ => self.keep_aside(*content),
            };
        }
    }

    /// The record that a new content was for, if its run has ended and is still known.
    pub(crate) fn changed_record(&self, content: NewContent) -> Option<RecordName> {
        let outcome = self.ended(content.run).ok().flatten()?;
        let change = outcome.changes.get(usize::try_from(content.index).ok()?)?;
        RecordName::parse(&change.kind, &change.slug)
    }

    /// Removes what was prepared for runs that are not committed and never will be: their tickets are
    /// sealed, or they have none. `contents` is sorted.
    pub(crate) fn discard_contents(&self, contents: &[NewContent]) {
        for of_one_run in contents.chunk_by(|one, other| one.run == other.run) {
            let run = of_one_run[0].run;
            // A listing can miss a name that is renamed while it goes on: this is decided by looking.
            let gone = self.unfinished.stat(&Progress::Committed.name(run));
            if !matches!(gone, Err(error) if error.kind == FsErrorKind::NotFound) {
                continue;
            }
            if matches!(self.is_committed(run), Ok(false)) {
                self.remove_old_content(&run.file_name());
            }
            for content in of_one_run {
                let _ = self.unfinished.unlink(&content.name());
            }
        }
    }

    /// What the records of a run were; none if that is not known any more.
    fn before(&self, run: RunId) -> Result<Option<Vec<BeforeRecord>>> {
        let Some(dir) = open_existing(&self.dir, BEFORE, BEFORE_PATH)? else { return Ok(None) };
        let name = run.file_name();
        let path = before_path(&name);
        let content = match dir.read_file(&name, MAX_BEFORE_BYTES) {
            Ok(Content::Whole(content)) => content,
            Ok(Content::TooLarge(_) | Content::NotAFile(_)) => {
                return Err(not_before(&path, "it is something else"));
            }
            Err(error) if error.kind == FsErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::io("read", path, &error)),
        };
        match Reader::new(&content).read(read_before) {
            Ok(records) => Ok(Some(records)),
            Err(reason) => Err(not_before(&path, &reason)),
        }
    }

    /// The changes that put back what a run has changed.
    pub(crate) fn undo_of(&self, run: RunId) -> Result<Vec<Change>> {
        let records = self.before(run)?.ok_or_else(|| {
            let path = before_path(&run.file_name());
            let message = format!(
                "what the records were before run {run} is not known any more: {path} is gone; it is kept for as long as the outcome of the run"
            );
            Error::new(ErrorCode::NotFound, message).at(path)
        })?;
        let memory = open_existing(&*self.root, MEMORY, MEMORY)?;
        let (mut changes, mut changed, mut are_back) = (Vec::new(), Vec::new(), true);
        for record in records {
            let Some(name) = RecordName::parse(&record.kind, &record.slug) else { continue };
            let current = match &memory {
                Some(memory) => read_record(memory, &name)?,
                None => None,
            };
            are_back &= current == record.before;
            if current.as_deref().map(digest) != record.after {
                changed.push(name.path());
            } else if current != record.before {
                changes.push(Change { name, before: current, after: record.before });
            }
        }
        match changed.first() {
            None => Ok(changes),
            Some(first) if are_back => {
                let message = format!(
                    "there is nothing to undo: the records that run {run} changed are what they were before it"
                );
                Err(Error::new(ErrorCode::Conflict, message).at(first.clone()))
            }
            Some(first) => {
                let message = format!(
                    "{} changed since run {run}; nothing was undone: undo the later runs first, or edit the records by hand ({} has what they were)",
                    named(&changed),
                    before_path(&run.file_name())
                );
                Err(Error::new(ErrorCode::Conflict, message).at(first.clone()))
            }
        }
    }

    /// The names of old contents that belong to no run that is known, and are old enough to belong to none
    /// that is about to be committed: who asks may be a late owner. `ended` is sorted.
    pub(crate) fn old_contents(&self, ended: &[RunId], now: Time) -> Result<Vec<String>> {
        let Some(dir) = open_existing(&self.dir, BEFORE, BEFORE_PATH)? else { return Ok(Vec::new()) };
        let mut found = Vec::new();
        let listed = dir.list(&mut |listed| {
            // Not what people wrote: nobody else has it, and it stays until somebody has looked at it.
            if let Listed::Named(name, Kind::File) = listed
                && let Some(run) = RunId::from_file_name(name)
                && ended.binary_search(&run).is_err()
            {
                found.push((run, name.to_owned()));
            }
        });
        listed.map_err(|error| Error::io("list", BEFORE_PATH, &error))?;
        // One that is between its commit and its end is not in the listing.
        found.retain(|(run, name)| {
            is_old(&dir, name, run.millis(), OLD_TEMPORARY_MS, now) && !self.is_decided(*run)
        });
        Ok(found.into_iter().map(|(_, name)| name).collect())
    }

    /// Removes an old content.
    pub(crate) fn remove_old_content(&self, name: &str) {
        if let Ok(dir) = self.dir.open_dir(BEFORE) {
            // The next run tries again.
            let _ = dir.unlink(name);
        }
    }

    fn is_there(&self, name: &str) -> Result<bool> {
        match self.unfinished.stat(name) {
            Ok(_) => Ok(true),
            Err(error) if error.kind == FsErrorKind::NotFound => Ok(false),
            Err(error) => Err(Error::io("look at", unfinished_path(name), &error)),
        }
    }

    fn unlink_if_there(&self, name: &str) -> Result<()> {
        match self.unfinished.unlink(name) {
            Err(error) if error.kind != FsErrorKind::NotFound => {
                Err(Error::io("remove", unfinished_path(name), &error))
            }
            _ => Ok(()),
        }
    }
}

/// Which change of a run took what people wrote away, that is kept under this name: `<run>.<n>.md`, also with
/// another part before its ending.
pub(crate) fn kept_edit(name: &str) -> Option<NewContent> {
    let stem = name.strip_suffix(".md")?;
    NewContent::parse(stem).or_else(|| NewContent::parse(stem.rsplit_once('.')?.0))
}

/// Writes a text under this name, or sees to it that it is there, whole and durable. False: something else is.
fn keep_text<D: Dir>(dir: &D, name: &str, text: &[u8]) -> FsResult<bool> {
    match create_whole(dir, name, text, Durability::Full) {
        Err(error) if error.kind == FsErrorKind::Exists => {
            let is_whole =
                matches!(dir.read_file(name, MAX_RECORD_BYTES)?, Content::Whole(kept) if kept == text);
            if is_whole {
                dir.open_for_update(name)?.sync()?;
            }
            Ok(is_whole)
        }
        other => other.map(|()| true),
    }
}

/// The members of a file of old contents, and of each record in it.
const BEFORE_MEMBERS: [&str; 2] = ["run_id", "records"];
const RECORD_MEMBERS: [&str; 4] = ["kind", "slug", "before", "after"];

fn before_file(run: RunId, changes: &[Change]) -> Vec<u8> {
    // At once and not by doubling: a large one would need three times its size.
    let texts: usize =
        changes.iter().map(|change| 256 + change.before.as_deref().map_or(0, escaped_len)).sum();
    let mut json = Writer::new(Layout::Compact, 256 + texts);
    json.begin(b'{');
    json.member_string("run_id", &run.text());
    json.name(b"records");
    json.begin(b'[');
    for change in changes {
        json.item();
        json.begin(b'{');
        json.member_string("kind", change.name.kind());
        json.member_string("slug", change.name.slug());
        json.name(b"before");
        json.optional_string(change.before.as_deref());
        json.name(b"after");
        match change.after.as_deref() {
            Some(after) => digest(after).write(&mut json),
            None => json.raw(b"null"),
        }
        json.end(b'}');
    }
    json.end(b']');
    json.end(b'}');
    json.into_bytes()
}

fn read_before(json: &mut Reader<'_>) -> Read<Vec<BeforeRecord>> {
    let (mut records, mut met) = (Vec::new(), 0);
    json.begin(b'{')?;
    while let Some(index) = json.known(&BEFORE_MEMBERS, &mut met)? {
        if index == 0 {
            json.string()?;
            continue;
        }
        json.begin(b'[')?;
        while json.item()? {
            records.push(read_before_record(json)?);
        }
    }
    json.all_of(&BEFORE_MEMBERS, met, 0b11)?;
    Ok(records)
}

fn read_before_record(json: &mut Reader<'_>) -> Read<BeforeRecord> {
    let mut record = BeforeRecord { kind: String::new(), slug: String::new(), before: None, after: None };
    let mut met = 0;
    json.begin(b'{')?;
    while let Some(index) = json.known(&RECORD_MEMBERS, &mut met)? {
        match index {
            0 => record.kind = json.string()?.decode().into_owned(),
            1 => record.slug = json.string()?.decode().into_owned(),
            2 => record.before = json.optional_string()?,
            _ => record.after = if json.null()? { None } else { Some(Digest::read(json)?) },
        }
    }
    json.all_of(&RECORD_MEMBERS, met, 0b0011)?;
    Ok(record)
}

fn digest(text: &str) -> Digest {
    Digest::of(text.as_bytes())
}

/// What a record was. They stand in the order of the changes.
fn find<'a>(records: Option<&'a [BeforeRecord]>, index: u32, name: &RecordName) -> Option<&'a BeforeRecord> {
    let record = records?.get(usize::try_from(index).ok()?)?;
    (record.kind == name.kind() && record.slug == name.slug()).then_some(record)
}

/// Each kind once.
fn kinds<'a>(kinds: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut kinds: Vec<&str> = kinds.collect();
    order::sort(&mut kinds);
    kinds.dedup();
    kinds
}

fn kind_path(kind: &str) -> String {
    format!("{MEMORY}/{kind}")
}

fn not_before(path: &str, reason: &str) -> Error {
    Error::new(ErrorCode::Unusable, format!("{path} can't be read: {reason}; move it away")).at(path)
}

fn unapplied(path: &str, reason: &str) -> Error {
    Error::new(ErrorCode::Io, format!("{path} can't be written: {reason}; mend that")).at(path)
}

fn named(paths: &[String]) -> String {
    let more = paths.len().saturating_sub(MAX_NAMED);
    let some = paths[..paths.len() - more].join(", ");
    let more = if more > 0 { format!(" and {more} more records") } else { String::new() };
    format!("{some}{more} {} been", if paths.len() > 1 { "have" } else { "has" })
}
