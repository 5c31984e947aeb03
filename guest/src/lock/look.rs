//! What stands at the place of the lock. Invariant: it is looked at and never followed, waited for or
//! changed.

use super::{Holder, UNREADABLE_GRACE_SECONDS};
use crate::error::{Error, Owner, Result};
use crate::fs::{Content, Dir, File, FsError, FsErrorKind, FsResult, Kind, Stat, Time};
use crate::json::has_byte;
use crate::layout::{ASIDE, ASIDE_PATH, LOCK, LOCK_PATH, Token};
use crate::liveness::{Verdict, judge_record};
use crate::prelude::*;
use crate::record::{LockRecord, MAX_RECORD_BYTES, TOKEN_TAIL};
use crate::system::{Identity, System};
use crate::workspace::Here;
use alloc::sync::Arc;

/// Where a lock can stand.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// L.
    Lock,
    /// Q: it was put aside, and whoever did it has stopped before it was done with it.
    Aside,
}

impl Place {
    pub(super) fn name(self) -> &'static str {
        match self {
            Place::Lock => LOCK,
            Place::Aside => ASIDE,
        }
    }

    pub(super) fn path(self) -> &'static str {
        match self {
            Place::Lock => LOCK_PATH,
            Place::Aside => ASIDE_PATH,
        }
    }
}

/// What stands at the place of the lock.
pub(super) enum Found {
    Nothing,
    /// It carries the token that was asked about.
    Ours,
    Held(Holder),
    Unknown(Holder),
    Stale(Holder, Vec<u8>),
    /// No record. Stale if it has not changed for the grace time.
    Unreadable {
        reason: String,
        content: Vec<u8>,
        modified: Option<Time>,
        changed: Changed,
    },
    NotAFile(Kind, Place),
}

/// When an unreadable lock file changed last.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Changed {
    /// Longer ago than the grace time.
    LongAgo,
    /// Within it.
    Lately,
    /// The times of the file system don't tell: it seems to come from the future.
    CantTell,
}

/// Looks at the lock: reads it, judges its owner. `own` is the token that makes it ours, `now` the
/// present time by the clock of the file system.
pub(super) fn look<D: Dir, S: System>(
    staging: &D,
    place: Place,
    me: &Identity,
    system: &S,
    own: Option<Token>,
    now: Option<Time>,
) -> Result<Found> {
    match stat(staging, place)? {
        Some(stat) => look_at(staging, place, stat, me, system, own, now),
        None => Ok(Found::Nothing),
    }
}

fn stat<D: Dir>(staging: &D, place: Place) -> Result<Option<Stat>> {
    match staging.stat(place.name()) {
        Ok(stat) => Ok(Some(stat)),
        Err(error) if error.kind == FsErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::io("look at the lock", place.path(), &error)),
    }
}

fn look_at<D: Dir, S: System>(
    staging: &D,
    place: Place,
    stat: Stat,
    me: &Identity,
    system: &S,
    own: Option<Token>,
    now: Option<Time>,
) -> Result<Found> {
    if stat.kind != Kind::File {
        return Ok(Found::NotAFile(stat.kind, place));
    }
    let Some(content) = read_lock(staging, place)? else {
        return Ok(Found::Nothing);
    };
    let record = match LockRecord::parse(&content) {
        Ok(record) => record,
        Err(reason) => {
            let changed = match (stat.modified, now) {
                (Some(modified), Some(now)) if modified.plus_seconds(UNREADABLE_GRACE_SECONDS) < now => {
                    Changed::LongAgo
                }
                (Some(modified), Some(now)) if modified <= now.plus_seconds(1) => Changed::Lately,
                _ => Changed::CantTell,
            };
            return Ok(Found::Unreadable { reason, content, modified: stat.modified, changed });
        }
    };
    if own.is_some_and(|own| record.token.as_deref() == Some(&*own.text())) {
        return Ok(Found::Ours);
    }
    let verdict = judge_record(&record, stat.modified, now, me, system);
    let holder = Holder {
        owner: record.owner(),
        consumed: record.consumed_ids.len(),
        reason: verdict.reason().to_owned(),
        by_command: matches!(verdict, Verdict::Working(_)),
    };
    Ok(match verdict {
        Verdict::Alive(_) | Verdict::Working(_) => Found::Held(holder),
        Verdict::Unknown(_) => Found::Unknown(holder),
        Verdict::Dead(_) => Found::Stale(holder, content),
    })
}

/// A lock file of more bytes is skimmed if only its owner is of interest.
const LARGE: u64 = 1024 * 1024;

/// The state of the lock at a place, without its ids: only how many there are. Who hosts us is asked for only
/// if something is there: where nothing is, a host need not find out.
pub(super) fn look_for_owner<D: Dir, S: System>(
    staging: &D,
    place: Place,
    here: &dyn Fn() -> Result<Arc<Here>>,
    system: &S,
    now: Option<Time>,
) -> Result<Found> {
    let Some(stat) = stat(staging, place)? else { return Ok(Found::Nothing) };
    let me = &here()?.identity;
    if stat.kind == Kind::File
        && (LARGE..=MAX_RECORD_BYTES).contains(&stat.size)
        && let Some((record, count)) = skim(staging, place.name())
    {
        let verdict = judge_record(&record, stat.modified, now, me, system);
        let consumed = record.consumed_ids.len() + count;
        let reason = verdict.reason().to_owned();
        let by_command = matches!(verdict, Verdict::Working(_));
        let holder = Holder { owner: record.owner(), consumed, reason, by_command };
        return Ok(match verdict {
            Verdict::Alive(_) | Verdict::Working(_) => Found::Held(holder),
            Verdict::Unknown(_) => Found::Unknown(holder),
            Verdict::Dead(_) => Found::Stale(holder, Vec::new()),
        });
    }
    look_at(staging, place, stat, me, system, None, now)
}

/// Reads a record without the ids, which may be a million, and counts them. None if it is not as the
/// component writes it.
fn skim<D: Dir>(dir: &D, name: &str) -> Option<(LockRecord, u64)> {
    const CHUNK: usize = 64 * 1024;
    let file = dir.open(name).ok()?;
    let mut skimmed = Skimmed::default();
    let mut offset = 0;
    loop {
        let chunk = file.read(CHUNK, offset).ok()?;
        if chunk.is_empty() {
            break;
        }
        offset += chunk.len() as u64;
        chunk.iter().try_for_each(|byte| skimmed.push(*byte))?;
    }
    let record = LockRecord::parse(&skimmed.rest).ok()?;
    Some((record, skimmed.count))
}

/// A record without what stands between the brackets of its list of ids.
#[derive(Default)]
struct Skimmed {
    rest: Vec<u8>,
    count: u64,
    within: Within,
}

/// Where the next byte stands.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Within {
    /// Before the list.
    #[default]
    Head,
    /// In the list, where a text or its end is to follow.
    List,
    /// In a text of the list.
    Text,
    /// After a text of the list.
    Between,
    /// After the list.
    Tail,
}

impl Skimmed {
    /// None if it is not as the component writes it.
    fn push(&mut self, byte: u8) -> Option<()> {
        /// The list is the fourth member, and its name stands in no text before it: quotation marks in a text
        /// are escaped.
        const LIST: &[u8] = b"\n  \"consumed_ids\": [";
        /// Longer than the other members are.
        const MOST: usize = 64 * 1024;
        self.within = match (self.within, byte) {
            (Within::Head | Within::Tail, _) => {
                self.rest.push(byte);
                if self.rest.len() > MOST {
                    return None;
                }
                match self.within == Within::Head && self.rest.ends_with(LIST) {
                    true => Within::List,
                    false => self.within,
                }
            }
            (within @ (Within::List | Within::Between), b' ' | b'\n') => within,
            (Within::List, b'"') => Within::Text,
            (Within::Text, b'"') => {
                self.count += 1;
                Within::Between
            }
            (Within::Text, b'0'..=b'9' | b'a'..=b'f' | b'-') => Within::Text,
            (Within::Between, b',') => Within::List,
            (Within::Between, b']') => {
                self.rest.push(byte);
                Within::Tail
            }
            _ => return None,
        };
        Some(())
    }
}

/// The content of the lock file; none if there is none. One that is too large is cut off, which makes
/// it unreadable.
pub(super) fn read_lock<D: Dir>(staging: &D, place: Place) -> Result<Option<Vec<u8>>> {
    match staging.read_file(place.name(), MAX_RECORD_BYTES) {
        Ok(Content::Whole(content) | Content::TooLarge(content)) => Ok(Some(content)),
        // It was a file a moment ago. Whoever asks compares with that file, or parses.
        Ok(Content::NotAFile(_)) => Ok(Some(Vec::new())),
        Err(FsError { kind: FsErrorKind::NotFound, .. }) => Ok(None),
        Err(error) => Err(Error::io("read the lock", place.path(), &error)),
    }
}

/// Is the lock file as it was, in content and in time?
pub(super) fn is_still<D: Dir>(
    staging: &D,
    place: Place,
    content: &[u8],
    modified: Option<Time>,
) -> Result<bool> {
    if read_lock(staging, place)?.as_deref() != Some(content) {
        return Ok(false);
    }
    match staging.stat(place.name()) {
        Ok(stat) => Ok(stat.modified == modified),
        Err(error) if error.kind == FsErrorKind::NotFound => Ok(false),
        Err(error) => Err(Error::io("look at the lock", place.path(), &error)),
    }
}

/// The token that the lock on disk carries: the flag that belongs to this very lock has it too.
pub(super) fn token_on_disk<D: Dir>(staging: &D) -> Result<Option<Token>> {
    Ok(read_lock(staging, Place::Lock)?
        .and_then(|content| LockRecord::parse(&content).ok())
        .and_then(|record| Token::parse(&record.token?)))
}

/// Whose the lock on disk is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Carried {
    Nothing,
    Ours,
    Other,
}

pub(super) fn carries<D: Dir>(staging: &D, token: Token) -> Result<Carried> {
    carries_at(staging, Place::Lock, token)
}

pub(super) fn carries_at<D: Dir>(staging: &D, place: Place, token: Token) -> Result<Carried> {
    let look = || {
        let ours = match staging.read_file(place.name(), TOKEN_TAIL)? {
            Content::Whole(content) => shows(&content, token),
            // It lists many ids, and only its end is of interest.
            Content::TooLarge(_) => {
                let stat = staging.stat(place.name())?;
                stat.kind == Kind::File && tail_carries(&staging.open(place.name())?, stat.size, token)?
            }
            Content::NotAFile(_) => false,
        };
        Ok(if ours { Carried::Ours } else { Carried::Other })
    };
    // A second look at what seems to be another's: some file systems in user space show the size of a file
    // that was replaced a moment ago.
    let looked = match look() {
        Ok(Carried::Other) => look(),
        looked => looked,
    };
    match looked {
        Err(FsError { kind: FsErrorKind::NotFound, .. }) => Ok(Carried::Nothing),
        other => other.map_err(|error| Error::io("read the lock", place.path(), &error)),
    }
}

/// Does a lock file of this size carry the token? Its head may be a million ids long.
pub(super) fn tail_carries(file: &impl File, size: u64, token: Token) -> FsResult<bool> {
    let mut offset = size.saturating_sub(TOKEN_TAIL);
    let mut tail = Vec::new();
    while (tail.len() as u64) < TOKEN_TAIL {
        let chunk = file.read(usize::try_from(TOKEN_TAIL).unwrap_or(usize::MAX), offset)?;
        if chunk.is_empty() {
            break;
        }
        offset += chunk.len() as u64;
        tail.extend_from_slice(&chunk);
        if offset >= size {
            break;
        }
    }
    Ok(shows(&tail, token))
}

/// Does this part of a lock file show the token?
fn shows(part: &[u8], token: Token) -> bool {
    /// A letter of the mark that few other members have, so that most words are passed over.
    const RARE: (usize, u8) = (3, b'k');
    let mark = LockRecord::token_mark(token);
    let stands_at = |at: usize| part[at] == RARE.1 && at >= RARE.0 && part[at - RARE.0..].starts_with(&mark);
    // The mark goes on behind it for longer than a word, so it is in a whole one.
    let mut words = part.as_chunks().0.iter().enumerate();
    words.any(|(index, word)| has_byte(*word, RARE.1) && (8 * index..8 * index + 8).any(stands_at))
}

/// A record that may or may not be there and whole.
pub(super) fn read_record<D: Dir>(dir: &D, name: &str) -> Option<LockRecord> {
    let Ok(Content::Whole(content)) = dir.read_file(name, MAX_RECORD_BYTES) else {
        return None;
    };
    LockRecord::parse(&content).ok()
}

pub(super) fn owner_on_disk<D: Dir>(staging: &D) -> Option<Owner> {
    read_record(staging, LOCK).map(|record| record.owner())
}

/// How a file begins, for messages.
pub(super) fn excerpt(content: &[u8]) -> String {
    let text = String::from_utf8_lossy(&content[..content.len().min(800)]);
    text.chars().take(200).flat_map(char::escape_debug).collect()
}
