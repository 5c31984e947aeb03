//! The lock put aside. Writers of the original format overwrite the lock without any exclusion, so what
//! was judged a moment ago may be another's by the time it is removed. Renamed, it can be looked at once
//! more when nobody opens it any more. Invariant: a lock that was put aside and is not the one that was
//! judged is put back, and never over another one; while it stands aside it is as good as in its place.
//!
//! What holds for such writers beside us: one that looked at the lock before we linked ours and goes on
//! to write has written within [`SETTLE_MS`]. Then none of them overlaps with one of ours, also when any
//! of us stops at any step. It needs hard links, and the option with all of ours. What they do among
//! themselves is their own affair, and a command that outlives its host does not count for them.

use super::look::{Carried, Found, Place, carries_at, is_still, read_lock};
use super::refusal::refusal;
use super::{Takeover, unlink_lock};
use crate::error::{Error, ErrorCode, Result};
use crate::fs::{Dir, FsErrorKind, Kind, Time};
use crate::layout::{ASIDE, ASIDE_PATH, LOCK, LOCK_PATH, Token};
use crate::prelude::*;

/// For how long a lock that was just taken is left alone before it counts as held, in milliseconds.
pub(super) const SETTLE_MS: u32 = 100;

/// What became of a lock that was to be broken.
pub(super) enum Broken {
    /// It is gone.
    Yes,
    /// It was gone before, or the answer to putting it aside was lost: look at both places again.
    Vanished,
    /// It was another one by then, and is back in its place.
    Another,
}

/// Removes the lock that was judged, and no other. An unreadable one is the same only if its time is too.
pub(super) fn break_lock<D: Dir>(
    staging: &D,
    content: &[u8],
    unreadable_since: Option<Option<Time>>,
) -> Result<Broken> {
    match staging.rename(LOCK, staging, ASIDE) {
        Ok(()) => {}
        Err(error) if error.kind == FsErrorKind::NotFound => return Ok(Broken::Vanished),
        Err(error) => return Err(Error::io("put the lock aside", LOCK_PATH, &error)),
    }
    let same = match unreadable_since {
        Some(modified) => is_still(staging, Place::Aside, content, modified)?,
        None => read_lock(staging, Place::Aside)?.as_deref() == Some(content),
    };
    if same {
        unlink_aside(staging)?;
        return Ok(Broken::Yes);
    }
    put_back(staging)?;
    Ok(Broken::Another)
}

/// Links the lock that stands aside back to its place. If there is another one by now, it stays aside and
/// counts there until its owner is dead.
pub(super) fn put_back<D: Dir>(staging: &D) -> Result<()> {
    match staging.link(ASIDE, staging, LOCK) {
        Ok(()) => unlink_aside(staging),
        Err(error) if error.kind == FsErrorKind::Exists => {
            // It was put back before by somebody who stopped then.
            let back = read_lock(staging, Place::Lock)?;
            if back.is_some() && back == read_lock(staging, Place::Aside)? {
                unlink_aside(staging)
            } else {
                Ok(())
            }
        }
        Err(error) if error.kind == FsErrorKind::NotFound => Ok(()),
        Err(error) => Err(Error::io("put the lock back", LOCK_PATH, &error)),
    }
}

/// Step 3a: ends what somebody who put a lock aside has left. Returns what was removed.
///
/// # Errors
/// [`ErrorCode::InUse`]: its owner lives, or may live.
pub(super) fn settle<D: Dir>(
    staging: &D,
    look: impl FnOnce() -> Result<Found>,
    waited: impl FnOnce(&[u8], Option<Time>) -> Result<bool>,
) -> Result<Option<Takeover>> {
    let found = match staging.stat(ASIDE) {
        Err(error) if error.kind == FsErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::io("look at the lock", ASIDE_PATH, &error)),
        Ok(stat) if stat.kind != Kind::File => Found::NotAFile(stat.kind, Place::Aside),
        Ok(_) => look()?,
    };
    let removed = match found {
        Found::Nothing => return Ok(None),
        Found::Ours => None,
        Found::Stale(holder, _) => Some(Takeover::Stale(holder.owner, holder.reason)),
        Found::Unreadable { ref reason, ref content, modified, .. } => {
            if !waited(content, modified)? {
                let _ = put_back(staging);
                return Err(refusal(found));
            }
            Some(Takeover::Unreadable(reason.clone(), super::look::excerpt(content)))
        }
        Found::NotAFile(..) => return Err(refusal(found)),
        Found::Held(_) | Found::Unknown(_) => {
            // If that fails (there may be no hard links) it stays aside, where it counts as well.
            let _ = put_back(staging);
            return Err(refusal(found));
        }
    };
    unlink_aside(staging)?;
    Ok(removed)
}

/// Removes the lock if it carries this token, of an attempt or an owner that is given up. Within the time
/// in which a lock settles a writer of the original format may write over it at any moment, so it is put
/// aside first where that can be undone. True if there was one.
///
/// The caller lowers its flag after this, and not if it fails: while the flag stands nobody else puts back
/// what stands aside.
pub(super) fn take_down<D: Dir>(staging: &D, token: Token) -> Result<bool> {
    /// Somebody may put back what stands aside at that moment, if the flag was removed by others.
    const TRIES: u32 = 8;
    let mut found = false;
    for _ in 0..TRIES {
        let mut put_aside = false;
        if carries_at(staging, Place::Lock, token)? == Carried::Ours {
            match staging.rename(LOCK, staging, ASIDE) {
                Ok(()) => put_aside = true,
                Err(error) if error.kind == FsErrorKind::NotFound => {}
                // The rename is a courtesy to others.
                Err(_) => unlink_lock(staging)?,
            }
        }
        match carries_at(staging, Place::Aside, token)? {
            Carried::Ours => {
                unlink_aside(staging)?;
                found = true;
            }
            // It was overwritten by one of the original format. If it can't be put back it counts there.
            Carried::Other if put_aside => drop(put_back(staging)),
            // What stands aside and was not put there just now is not ours to touch.
            Carried::Other | Carried::Nothing => {}
        }
        found |= put_aside;
        if carries_at(staging, Place::Lock, token)? != Carried::Ours {
            return Ok(found);
        }
        found = true;
    }
    let message = format!("the lock {LOCK_PATH} is put back again and again while it is being removed");
    Err(Error::new(ErrorCode::Io, message).at(LOCK_PATH))
}

pub(super) fn unlink_aside<D: Dir>(staging: &D) -> Result<()> {
    match staging.unlink(ASIDE) {
        Ok(()) => Ok(()),
        Err(error) if error.kind == FsErrorKind::NotFound => Ok(()),
        Err(error) => Err(Error::io("remove the lock", ASIDE_PATH, &error)),
    }
}
