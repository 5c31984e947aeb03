//! How it is said that the lock is not, or no longer, the caller's. Invariant: every message names the
//! owner as far as it is known, and what helps.

use super::look::{Found, Place};
use super::{Holder, UNREADABLE_GRACE_SECONDS};
use crate::error::{Error, ErrorCode, Owner};
use crate::fs::Kind;
use crate::layout::{FlagName, LOCK_PATH, owners_path};
use crate::prelude::*;

pub(super) fn in_use(how: &str, owner: Owner, hint: &str) -> Error {
    let Owner { pid, pod_name, started_at } = &owner;
    let since = if started_at.is_empty() { String::new() } else { format!(" since {started_at}") };
    let message = format!("consolidation lock held by {how} pid {pid} (pod {pod_name:?}){since}: {hint}");
    Error::new(ErrorCode::InUse, message).at(LOCK_PATH).owned_by(Some(owner))
}

/// Why a lock that is not stale is not taken.
pub(super) fn refusal(found: Found) -> Error {
    match found {
        Found::Held(Holder { owner, reason, by_command, .. }) => {
            in_use(if by_command { "the command of dead" } else { "live" }, owner, &reason)
        }
        Found::Unknown(Holder { owner, reason, .. }) => {
            let hint = format!(
                "nobody can tell from here whether it lives: {reason}; if it is gone for certain, `unlock --force` removes the lock"
            );
            in_use("unreachable", owner, &hint)
        }
        Found::Unreadable { reason, .. } => {
            let message = format!(
                "consolidation lock {LOCK_PATH} can't be read and changed within the last {UNREADABLE_GRACE_SECONDS} s: {reason}; its writer may be at work, try again in a few seconds"
            );
            Error::new(ErrorCode::InUse, message).at(LOCK_PATH)
        }
        Found::NotAFile(kind, place) => not_a_file_error(kind, place),
        Found::Nothing | Found::Ours | Found::Stale(..) => {
            Error::new(ErrorCode::Internal, "a lock that can be taken was refused").at(LOCK_PATH)
        }
    }
}

pub(crate) fn not_a_file(kind: Kind) -> String {
    format!(
        "{} stands in the place of the lock; it was not followed and not touched: move it away",
        kind.describe()
    )
}

pub(super) fn not_a_file_error(kind: Kind, place: Place) -> Error {
    let path = place.path();
    Error::new(ErrorCode::WrongFileType, format!("{path}: {}", not_a_file(kind))).at(path)
}

pub(super) fn lost(owner: Option<Owner>) -> Error {
    let by = match &owner {
        Some(Owner { pid, pod_name, .. }) => format!("it is now that of pid {pid} (pod {pod_name:?})"),
        None => "it is gone or can't be read".into(),
    };
    no_longer_ours(&by, LOCK_PATH.into(), owner)
}

pub(super) fn flag_lost(flag: &FlagName, owner: Option<Owner>) -> Error {
    no_longer_ours("somebody removed its owner flag", owners_path(flag.as_str()), owner)
}

fn no_longer_ours(why: &str, path: String, owner: Option<Owner>) -> Error {
    let message = format!(
        "consolidation lock {LOCK_PATH} is no longer ours: {why}; a run that was not committed before is not any more, and deletes no entry; `log` shows what others did with them, the next run takes what is still staged"
    );
    Error::new(ErrorCode::LockLost, message).at(path).owned_by(owner)
}
