//! Entries that a consolidator fails on. Invariant: an entry is in the staging directory or in the
//! quarantine, whole, at every moment and never in both; nothing deletes one from there but an explicit drop, and
//! the run that has consumed it.
//!
//! ```text
//! record a failure, by the owner of the lock:
//!  1  write .attempts/<id>.json, whole; fewer than the limit ? done
//!  2  write quarantine/<id>.reason.json, whole
//!  3  the lock is still ours; rename <id>.json to quarantine/<id>.json
//!  4  unlink .attempts/<id>.json
//! retry, by anybody:
//!  1  unlink .attempts/<id>.json
//!  2  there is no <id>.json; rename quarantine/<id>.json to <id>.json
//!  3  unlink quarantine/<id>.reason.json
//! ```
//!
//! The rename alone decides where the entry is. A crash before it leaves attempts that count and at worst a
//! reason without an entry, a crash after it attempts or a reason of an entry that is not there any more.
//! Those are notes of nobody: the end of a run removes them, and so does [`crate::doctor`].
//!
//! Why a retry renames and does not link: stopped between the link and the unlink it would leave the entry
//! in both places, and going on after the next run has set the entry aside again it would unlink the only
//! name that is left. What the look before the rename can miss is a file that somebody copies there by hand
//! at that very moment.
//!
//! A late owner, one that was stopped in step 3 for longer than its lease, may set aside what its successor
//! has read. If the successor consumes it all the same, it deletes it there (`delete_set_aside`), or a retry
//! would have it consumed once more.

use crate::durable::{Durability, replace, sync_names};
use crate::error::{Error, ErrorCode, Result};
use crate::fs::{Content, Dir, FsError, FsErrorKind, FsResult, Kind, Listed, Stat, Time};
use crate::json::{Layout, Read, Reader, Writer};
use crate::layout::{
    ATTEMPTS, ATTEMPTS_PATH, EntryId, QUARANTINE, QUARANTINE_PATH, STAGING, attempts_path, quarantine_path,
    staging_path,
};
use crate::lock::Held;
use crate::order;
use crate::prelude::*;
use crate::staging::is_old_temporary;
use crate::system::System;
use crate::time::to_rfc3339;
use crate::workspace::{Workspace, fleeting_id, open_existing, open_or_create};

/// How much of a reason is kept, in characters.
pub const MAX_REASON_CHARS: usize = 500;

/// The largest file of attempts or of a reason that is read, in bytes.
const MAX_NOTE_BYTES: u64 = 64 * 1024;

/// How often a consolidator has failed on an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// The entry.
    pub id: EntryId,
    /// How often.
    pub attempts: u32,
    /// It is in the quarantine now.
    pub quarantined: bool,
}

/// An entry in the quarantine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quarantined {
    /// The entry.
    pub id: EntryId,
    /// Why, in at most [`MAX_REASON_CHARS`] characters; empty if that is lost.
    pub reason: String,
    /// How many attempts had failed; 0 if that is lost.
    pub attempts: u32,
    /// Since when, RFC 3339; empty if that is lost.
    pub since: String,
    /// The size of its file.
    pub bytes: u64,
}

/// `.attempts/<id>.json`.
#[derive(Debug, Default)]
struct AttemptsNote {
    attempts: u32,
    last_error: String,
    last_at: String,
}

impl AttemptsNote {
    fn to_file(&self) -> Vec<u8> {
        let mut json = Writer::new(Layout::Pretty, 128 + self.last_error.len());
        json.begin(b'{');
        json.name(b"attempts");
        json.number(self.attempts.into());
        json.member_string("last_error", &self.last_error);
        json.member_string("last_at", &self.last_at);
        json.end(b'}');
        json.into_file()
    }

    fn read(json: &mut Reader<'_>) -> Read<Self> {
        const MEMBERS: [&str; 3] = ["attempts", "last_error", "last_at"];
        let (mut note, mut met) = (AttemptsNote::default(), 0);
        json.begin(b'{')?;
        while let Some(index) = json.known(&MEMBERS, &mut met)? {
            match index {
                0 => note.attempts = json.u32()?,
                1 => note.last_error = json.string()?.decode().into_owned(),
                _ => note.last_at = json.string()?.decode().into_owned(),
            }
        }
        json.all_of(&MEMBERS, met, 0b001)?;
        Ok(note)
    }
}

/// `quarantine/<id>.reason.json`.
#[derive(Debug, Default)]
struct ReasonNote {
    id: String,
    attempts: u32,
    reason: String,
    since: String,
}

impl ReasonNote {
    fn to_file(&self) -> Vec<u8> {
        let mut json = Writer::new(Layout::Pretty, 192 + self.reason.len());
        json.begin(b'{');
        json.member_string("id", &self.id);
        json.name(b"attempts");
        json.number(self.attempts.into());
        json.member_string("reason", &self.reason);
        json.member_string("since", &self.since);
        json.end(b'}');
        json.into_file()
    }

    fn read(json: &mut Reader<'_>) -> Read<Self> {
        const MEMBERS: [&str; 4] = ["id", "attempts", "reason", "since"];
        let (mut note, mut met) = (ReasonNote::default(), 0);
        json.begin(b'{')?;
        while let Some(index) = json.known(&MEMBERS, &mut met)? {
            match index {
                0 => note.id = json.string()?.decode().into_owned(),
                1 => note.attempts = json.u32()?,
                2 => note.reason = json.string()?.decode().into_owned(),
                _ => note.since = json.string()?.decode().into_owned(),
            }
        }
        Ok(note)
    }
}

/// What is out of order in one of the two directories, by name.
#[derive(Debug, Default)]
pub(crate) struct Disorder {
    /// Notes of entries that are gone.
    pub(crate) orphans: Vec<String>,
    /// Temporary files that killed writers left.
    pub(crate) temporaries: Vec<String>,
    /// What is not ours; `?` for names that are not UTF-8.
    pub(crate) foreign: Vec<String>,
}

/// What one listing of one of the two directories found.
#[derive(Default)]
struct Listing {
    /// `<id>.json`, sorted.
    ids: Vec<EntryId>,
    /// `<id>.reason.json`.
    reasons: Vec<EntryId>,
    temporaries: Vec<EntryId>,
    foreign: Vec<String>,
}

impl<D: Dir, S: System> Workspace<D, S> {
    /// The entries in the quarantine, oldest first. A missing quarantine is an empty one.
    ///
    /// # Errors
    /// [`ErrorCode::WrongFileType`] if something else stands in its place; I/O errors.
    pub fn quarantined(&self) -> Result<Vec<Quarantined>> {
        let Some((_, quarantine)) = self.quarantine()? else { return Ok(Vec::new()) };
        let mut found = Vec::new();
        for id in list(&quarantine, QUARANTINE_PATH)?.ids {
            let Some(Stat { size, .. }) = look(&quarantine, id, quarantine_path)? else {
                // Retried or dropped since it was listed.
                continue;
            };
            // Whatever is wrong with the reason, the entry is there, and people must see it.
            let note = read_reason(&quarantine, &id.reason_name()).unwrap_or_default();
            found.push(Quarantined {
                id,
                reason: one_line(&note.reason),
                attempts: note.attempts,
                since: one_line(&note.since),
                bytes: size,
            });
        }
        Ok(found)
    }

    /// Stages entries of the quarantine again, with no attempts counted. They keep their ids, and so their
    /// place in the order.
    ///
    /// # Errors
    /// [`ErrorCode::NotFound`] if an entry is not there, [`ErrorCode::Conflict`] if another file has its name
    /// in the staging directory, [`ErrorCode::WrongFileType`], I/O errors; with the index of the first entry
    /// at fault, which is left as it is. Those before it are staged.
    pub fn retry_quarantined(&self, ids: &[EntryId], durability: Durability) -> Result<()> {
        let Some((staging, quarantine)) = self.quarantine()? else { return none_there(ids) };
        let (retried, result) = each(ids, |id| retry(&staging, &quarantine, id));
        let synced = if durability == Durability::Full && !retried.is_empty() {
            // The new name before the old one goes.
            synchronise(&staging, STAGING).and_then(|()| synchronise(&quarantine, QUARANTINE_PATH))
        } else {
            Ok(())
        };
        for id in retried {
            // A reason that stays is a note of nobody.
            let _ = quarantine.unlink(&id.reason_name());
        }
        result.and(synced)
    }

    /// Deletes entries of the quarantine for good.
    ///
    /// # Errors
    /// [`ErrorCode::NotFound`] if an entry is not there, [`ErrorCode::WrongFileType`], I/O errors; with the
    /// index of the first entry at fault, which is left as it is. Those before it are deleted.
    pub fn drop_quarantined(&self, ids: &[EntryId]) -> Result<()> {
        let Some((_, quarantine)) = self.quarantine()? else { return none_there(ids) };
        let drop = |id: EntryId| {
            look(&quarantine, id, quarantine_path)?.ok_or_else(|| not_there(id))?;
            match delete(&quarantine, id) {
                Ok(()) => Ok(()),
                Err(error) if error.kind == FsErrorKind::NotFound => Err(not_there(id)),
                Err(error) => Err(Error::io("delete", quarantine_path(&id.file_name()), &error)),
            }
        };
        each(ids, drop).1
    }

    /// The staging directory and the quarantine in it; none if one of them is missing.
    fn quarantine(&self) -> Result<Option<(D, D)>> {
        let Some(staging) = self.staging()? else { return Ok(None) };
        let quarantine = open_existing(&staging, QUARANTINE, QUARANTINE_PATH)?;
        Ok(quarantine.map(|quarantine| (staging, quarantine)))
    }
}

impl<D: Dir, S: System> Held<D, S> {
    /// Notes that a consolidator failed on entries, each with the reason, of which control characters are
    /// escaped and [`MAX_REASON_CHARS`] characters are kept. An entry whose attempts reach `max_attempts` is
    /// moved to the quarantine; 0: none ever is. Entries that are not staged any more, or that a committed
    /// run has consumed, are passed over and not among the result.
    ///
    /// # Errors
    /// [`ErrorCode::LockLost`]; [`ErrorCode::Conflict`] if another file has the name of the entry in the
    /// quarantine; [`ErrorCode::WrongFileType`] if something else stands in the place of a file or a
    /// directory that is needed; I/O errors. With the index of the failure that could not be noted: its entry
    /// stays where it is, unless the message says otherwise, and those before it are done.
    pub fn record_failures(
        &mut self,
        failures: &[(EntryId, String)],
        max_attempts: u32,
    ) -> Result<Vec<Attempt>> {
        self.still_ours()?;
        let mut recorded = Vec::new();
        if failures.is_empty() {
            return Ok(recorded);
        }
        let consumed = self.runs.consumed()?;
        let (attempts, _) = open_or_create(&self.staging, ATTEMPTS, ATTEMPTS_PATH)?;
        let mut quarantine = None;
        for (index, (id, reason)) in failures.iter().enumerate() {
            if consumed.binary_search(id).is_ok() {
                continue;
            }
            let attempt = self.record_failure(&attempts, &mut quarantine, *id, reason, max_attempts);
            recorded.extend(attempt.map_err(|error| error.at_index(index))?);
        }
        Ok(recorded)
    }

    /// None if the entry is not staged any more.
    fn record_failure(
        &self,
        attempts_dir: &D,
        quarantine: &mut Option<D>,
        id: EntryId,
        reason: &str,
        max_attempts: u32,
    ) -> Result<Option<Attempt>> {
        let is_staged = match self.staging.stat(&id.file_name()) {
            Ok(stat) => stat.kind == Kind::File,
            Err(error) if error.kind == FsErrorKind::NotFound => false,
            Err(error) => return Err(Error::io("look at", staging_path(&id.file_name()), &error)),
        };
        if !is_staged {
            return Ok(None);
        }
        let reason = one_line(reason);
        let now = to_rfc3339(self.system.now());
        let attempts = count_of(attempts_dir, id)?.saturating_add(1);
        let note = AttemptsNote { attempts, last_error: reason.clone(), last_at: now.clone() };
        // Not synchronised: what a crash of the machine takes along is a count, which costs an attempt.
        self.write_note(attempts_dir, &id.file_name(), &note.to_file(), Durability::None)
            .map_err(|error| Error::io("note the attempt in", attempts_path(&id.file_name()), &error))?;
        let stays = Attempt { id, attempts, quarantined: false };
        if max_attempts == 0 || attempts < max_attempts {
            return Ok(Some(stays));
        }
        let quarantine = match quarantine {
            Some(quarantine) => quarantine,
            None => quarantine.insert(self.open_quarantine()?),
        };
        let note = ReasonNote { id: id.text(), attempts, reason, since: now };
        if !self.set_aside(quarantine, id, &note)? {
            return Ok(None);
        }
        // Attempts that stay are a note of nobody.
        let _ = attempts_dir.unlink(&id.file_name());
        Ok(Some(Attempt { quarantined: true, ..stays }))
    }

    /// Steps 2 and 3. False if the entry is not staged any more.
    fn set_aside(&self, quarantine: &D, id: EntryId, note: &ReasonNote) -> Result<bool> {
        let (name, path) = (id.file_name(), quarantine_path(&id.file_name()));
        // The rename would replace another file, and does nothing at all if both names are of one file.
        match quarantine.stat(&name) {
            Err(error) if error.kind == FsErrorKind::NotFound => {}
            Err(error) => return Err(Error::io("look at", path, &error)),
            Ok(_) => {
                let staged = staging_path(&name);
                let message = format!(
                    "cannot move {staged} to the quarantine: {path} is there already, and was not touched; move one of the two away"
                );
                return Err(Error::new(ErrorCode::Conflict, message).at(path));
            }
        }
        self.write_note(quarantine, &id.reason_name(), &note.to_file(), self.durability)
            .map_err(|error| Error::io("write the reason", quarantine_path(&id.reason_name()), &error))?;
        self.still_ours()?;
        if let Err(error) = self.staging.rename(&name, quarantine, &name) {
            // A rename that failed may have had its effect all the same (a network file system whose
            // answer was lost): the name tells.
            if !quarantine.stat(&name).is_ok_and(|stat| stat.kind == Kind::File) {
                let _ = quarantine.unlink(&id.reason_name());
                return match error.kind {
                    FsErrorKind::NotFound => Ok(false),
                    _ => Err(Error::io("move the entry to", path, &error)),
                };
            }
        }
        if self.durability == Durability::Full {
            // The new name before the old one goes.
            synchronise(quarantine, QUARANTINE_PATH)
                .and_then(|()| synchronise(&self.staging, STAGING))
                .map_err(|mut error| {
                    error.message = format!(
                        "{}; the entry {path} is in the quarantine, but that may not survive a power failure",
                        error.message
                    );
                    error
                })?;
        }
        Ok(true)
    }

    fn open_quarantine(&self) -> Result<D> {
        let (quarantine, _) = open_or_create(&self.staging, QUARANTINE, QUARANTINE_PATH)?;
        if self.durability == Durability::Full {
            // Not only if we created it: whoever did may have been killed before it came to this, and an
            // entry in a directory whose name is lost is lost.
            synchronise(&self.staging, STAGING)?;
        }
        Ok(quarantine)
    }

    fn write_note(
        &self,
        dir: &D,
        name: &str,
        note: &[u8],
        durability: Durability,
    ) -> core::result::Result<(), FsError> {
        replace(dir, &fleeting_id(&self.system).temporary_name(), name, note, durability)
    }
}

/// Deletes an entry and its reason.
fn delete<D: Dir>(quarantine: &D, id: EntryId) -> FsResult<()> {
    // The entry first: the other way round a crash would leave one whose reason is lost. A reason that stays
    // is a note of nobody.
    quarantine.unlink(&id.file_name())?;
    let _ = quarantine.unlink(&id.reason_name());
    Ok(())
}

/// Deletes entries that a committed run consumed and that are not staged any more, should they be in the
/// quarantine, or should somebody be taking them back from there. Returns how many there were, and those that
/// can't be deleted for good, each with the reason.
pub(crate) fn delete_set_aside<D: Dir>(
    staging: &D,
    ids: &[EntryId],
    durability: Durability,
) -> (u64, Vec<(EntryId, String)>) {
    let all_failed = |doing: &str, error: &FsError| {
        let reason = Error::io(doing, QUARANTINE_PATH, error).into_failure().message;
        (0, ids.iter().map(|id| (*id, reason.clone())).collect())
    };
    let quarantine = match staging.open_dir(QUARANTINE) {
        Ok(quarantine) => quarantine,
        // Where it is no directory there is no quarantine.
        Err(error) if matches!(error.kind, FsErrorKind::NotFound | FsErrorKind::WrongType) => {
            return (0, Vec::new());
        }
        // It may hold one of them, which a retry would have consumed once more.
        Err(error) => return all_failed("look for consumed entries in", &error),
    };
    let (mut removed, mut failed) = (0, Vec::new());
    for id in ids {
        let deleted = match delete(&quarantine, *id) {
            // A retry may have taken it back since it was not found among the staged. It can't be set aside again:
            // the late owner that could has done so.
            Err(error) if error.kind == FsErrorKind::NotFound => staging.unlink(&id.file_name()),
            deleted => deleted,
        };
        match deleted {
            Ok(()) => removed += 1,
            Err(error) if error.kind == FsErrorKind::NotFound => {}
            Err(error) => failed.push((*id, error.to_string())),
        }
    }
    // Before the run counts as ended, or a crash of the machine may bring one back. Also if there is none: whoever
    // deleted it may have been killed before it came to this, or have failed here.
    match durability {
        Durability::Full => match sync_names(&quarantine) {
            Ok(()) => (removed, failed),
            Err(error) => all_failed("synchronise", &error),
        },
        Durability::None => (removed, failed),
    }
}

/// Removes notes of entries that are gone, and temporary files that killed writers left among them. The
/// caller holds the lock. Where no consolidator ever failed it costs two looks. What can't be removed is
/// found again.
pub(crate) fn sweep<D: Dir>(staging: &D, now: Time) {
    for found in [attempts_disorder(staging, now), quarantine_disorder(staging, now)] {
        let Ok(Some((dir, Disorder { orphans, temporaries, .. }))) = found else { continue };
        for name in orphans.iter().chain(&temporaries) {
            let _ = dir.unlink(name);
        }
    }
}

/// The directory of the attempts and what is out of order in it; none if it is missing.
pub(crate) fn attempts_disorder<D: Dir>(staging: &D, now: Time) -> Result<Option<(D, Disorder)>> {
    let Some(dir) = open_existing(staging, ATTEMPTS, ATTEMPTS_PATH)? else { return Ok(None) };
    let Listing { ids, reasons, temporaries, foreign } = list(&dir, ATTEMPTS_PATH)?;
    // What can't be told is not gone.
    let is_gone = |id: &EntryId| {
        let found = staging.stat(&id.file_name());
        matches!(found, Err(error) if error.kind == FsErrorKind::NotFound)
    };
    let orphans = ids.into_iter().filter(is_gone).map(EntryId::file_name).collect();
    let temporaries = old(&dir, temporaries, now);
    let foreign = foreign.into_iter().chain(reasons.into_iter().map(EntryId::reason_name)).collect();
    Ok(Some((dir, Disorder { orphans, temporaries, foreign })))
}

/// The quarantine and what is out of order in it; none if it is missing.
pub(crate) fn quarantine_disorder<D: Dir>(staging: &D, now: Time) -> Result<Option<(D, Disorder)>> {
    let Some(dir) = open_existing(staging, QUARANTINE, QUARANTINE_PATH)? else { return Ok(None) };
    let Listing { ids, reasons, temporaries, foreign } = list(&dir, QUARANTINE_PATH)?;
    let is_orphan = |id: &EntryId| ids.binary_search(id).is_err();
    let orphans = reasons.into_iter().filter(is_orphan).map(EntryId::reason_name).collect();
    let temporaries = old(&dir, temporaries, now);
    Ok(Some((dir, Disorder { orphans, temporaries, foreign })))
}

/// How many entries are in the quarantine. What stands in its place holds none.
pub(crate) fn count<D: Dir>(staging: &D) -> Result<u64> {
    match open_existing(staging, QUARANTINE, QUARANTINE_PATH) {
        Ok(Some(quarantine)) => {
            let mut count = 0;
            let listed = quarantine.list(&mut |listed| {
                if let Listed::Named(name, Kind::File) = listed
                    && EntryId::from_file_name(name).is_some()
                {
                    count += 1;
                }
            });
            listed.map_err(|error| Error::io("list", QUARANTINE_PATH, &error))?;
            Ok(count)
        }
        Ok(None) => Ok(0),
        Err(error) if error.code == ErrorCode::WrongFileType => Ok(0),
        Err(error) => Err(error),
    }
}

fn retry<D: Dir>(staging: &D, quarantine: &D, id: EntryId) -> Result<()> {
    look(quarantine, id, quarantine_path)?.ok_or_else(|| not_there(id))?;
    let (name, path) = (id.file_name(), staging_path(&id.file_name()));
    if let Some(attempts) = open_existing(staging, ATTEMPTS, ATTEMPTS_PATH)?
        && let Err(error) = attempts.unlink(&name)
        && error.kind != FsErrorKind::NotFound
    {
        // First: after the rename it would be the attempts of an entry that is staged, and count.
        return Err(Error::io("forget the attempts in", attempts_path(&name), &error));
    }
    match staging.stat(&name) {
        Err(error) if error.kind == FsErrorKind::NotFound => {}
        Err(error) => return Err(Error::io("look at", path, &error)),
        Ok(_) => {
            let kept = quarantine_path(&name);
            let message = format!(
                "cannot stage {kept} again: {path} is there already, and was not touched; drop the one in the quarantine, or move the other away"
            );
            return Err(Error::new(ErrorCode::Conflict, message).at(path));
        }
    }
    match quarantine.rename(&name, staging, &name) {
        Ok(()) => Ok(()),
        // As when it is set aside: the names tell.
        Err(_) if look(quarantine, id, quarantine_path)?.is_none() && staging.stat(&name).is_ok() => Ok(()),
        Err(error) if error.kind == FsErrorKind::NotFound => Err(not_there(id)),
        Err(error) => Err(Error::io("stage again", path, &error)),
    }
}

/// Does something for each id until it fails. Returns those for which it was done.
fn each(ids: &[EntryId], mut act: impl FnMut(EntryId) -> Result<()>) -> (&[EntryId], Result<()>) {
    for (index, id) in ids.iter().enumerate() {
        if let Err(error) = act(*id) {
            return (&ids[..index], Err(error.at_index(index)));
        }
    }
    (ids, Ok(()))
}

fn none_there(ids: &[EntryId]) -> Result<()> {
    each(ids, |id| Err(not_there(id))).1
}

fn not_there(id: EntryId) -> Error {
    let path = quarantine_path(&id.file_name());
    let message = format!("there is no entry {path}; list the quarantine to see what is there");
    Error::new(ErrorCode::NotFound, message).at(path)
}

/// A regular file of an entry; none if it is gone.
fn look<D: Dir>(dir: &D, id: EntryId, path_of: fn(&str) -> String) -> Result<Option<Stat>> {
    let name = id.file_name();
    match dir.stat(&name) {
        Ok(stat) if stat.kind == Kind::File => Ok(Some(stat)),
        Ok(stat) => Err(not_a_file(path_of(&name), stat.kind)),
        Err(error) if error.kind == FsErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::io("look at", path_of(&name), &error)),
    }
}

fn not_a_file(path: String, kind: Kind) -> Error {
    let what = kind.describe();
    let message = format!("{path} is {what}; it was not followed and not touched: move it away");
    Error::new(ErrorCode::WrongFileType, message).at(path)
}

/// How many attempts were noted. What can't be understood counts as none.
fn count_of<D: Dir>(attempts: &D, id: EntryId) -> Result<u32> {
    let name = id.file_name();
    match attempts.read_file(&name, MAX_NOTE_BYTES) {
        Ok(Content::Whole(content)) => {
            let note = Reader::new(&content).read(AttemptsNote::read).unwrap_or_default();
            Ok(note.attempts)
        }
        Ok(Content::TooLarge(_)) => Ok(0),
        // The rename would replace a link.
        Ok(Content::NotAFile(kind)) => Err(not_a_file(attempts_path(&name), kind)),
        Err(error) if error.kind == FsErrorKind::NotFound => Ok(0),
        Err(error) => Err(Error::io("read", attempts_path(&name), &error)),
    }
}

fn read_reason<D: Dir>(dir: &D, name: &str) -> Option<ReasonNote> {
    match dir.read_file(name, MAX_NOTE_BYTES) {
        Ok(Content::Whole(content)) => Reader::new(&content).read(ReasonNote::read).ok(),
        Ok(Content::TooLarge(_) | Content::NotAFile(_)) | Err(_) => None,
    }
}

fn list<D: Dir>(dir: &D, path: &str) -> Result<Listing> {
    let mut found = Listing::default();
    let listed = dir.list(&mut |listed| match listed {
        Listed::Named(name, Kind::File) => {
            if let Some(id) = EntryId::from_file_name(name) {
                found.ids.push(id);
            } else if let Some(id) = EntryId::from_reason_name(name) {
                found.reasons.push(id);
            } else if let Some(id) = EntryId::from_temporary_name(name) {
                found.temporaries.push(id);
            } else {
                found.foreign.push(name.into());
            }
        }
        Listed::Named(name, _) => found.foreign.push(name.into()),
        Listed::NotUtf8 => found.foreign.push("?".into()),
    });
    listed.map_err(|error| Error::io("list", path, &error))?;
    order::sort_ids(&mut found.ids);
    Ok(found)
}

fn old<D: Dir>(dir: &D, temporaries: Vec<EntryId>, now: Time) -> Vec<String> {
    let is_old = |id: &EntryId| is_old_temporary(dir, *id, now);
    temporaries.into_iter().filter(is_old).map(EntryId::temporary_name).collect()
}

fn synchronise<D: Dir>(dir: &D, path: &str) -> Result<()> {
    sync_names(dir).map_err(|error| Error::io("synchronise", path, &error))
}

/// A text as one line of at most [`MAX_REASON_CHARS`] characters, control characters escaped. Done to a
/// line of this kind it changes nothing.
fn one_line(text: &str) -> String {
    let mut line = String::new();
    let mut room = MAX_REASON_CHARS;
    for character in text.chars() {
        let breaks_lines = matches!(character, '\u{2028}' | '\u{2029}');
        if character.is_control() || breaks_lines {
            let escape = character.escape_default();
            let Some(left) = room.checked_sub(escape.len()) else { break };
            room = left;
            line.extend(escape);
        } else {
            let Some(left) = room.checked_sub(1) else { break };
            room = left;
            line.push(character);
        }
    }
    line
}
