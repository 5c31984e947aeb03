//! The roster: the directory of the owner flags. Invariant: what a flag says is in its name, and a name
//! is never used twice, so a flag that was judged can be removed at any later moment.

use crate::error::{Error, Result};
use crate::fs::{Content, Dir, FsErrorKind, FsResult, Kind, Listed, Time};
use crate::layout::{FlagName, OWNERS_PATH, PUBLISH_SUFFIX, owners_path};
use crate::liveness::{DEFAULT_LEASE_SECONDS, Lease, Verdict, judge_flag};
use crate::prelude::*;
use crate::record::{LockRecord, MAX_RECORD_BYTES};
use crate::system::{Identity, System};
use crate::workspace::Workspace;

/// What stands in the directory of the owner flags, in no order.
#[derive(Default)]
pub(super) struct Roster {
    pub(super) flags: Vec<FlagName>,
    /// Flags of which there is a copy that was to be renamed over the lock.
    pub(super) copies: Vec<FlagName>,
}

/// All flags but the own one, if there is one.
pub(super) fn roster<D: Dir>(owners: &D, own: Option<&FlagName>) -> Result<Roster> {
    let mut roster = Roster::default();
    let listed = owners.list(&mut |listed| {
        // A directory is nobody's flag, whatever its name, and could not be removed like one.
        if let Listed::Named(name, kind) = listed
            && kind != Kind::Directory
            && own.is_none_or(|own| own.as_str() != name)
        {
            match name.strip_suffix(PUBLISH_SUFFIX) {
                Some(flag) => roster.copies.extend(FlagName::parse(flag)),
                None => roster.flags.extend(FlagName::parse(name)),
            }
        }
    });
    listed.map_err(|error| Error::io("list", OWNERS_PATH, &error))?;
    Ok(roster)
}

/// Removes a flag.
pub(super) fn lower<D: Dir>(owners: &D, flag: &FlagName) -> Result<()> {
    remove_flag_file(owners, flag.as_str())
}

pub(super) fn remove_flag_file<D: Dir>(owners: &D, name: &str) -> Result<()> {
    match owners.unlink(name) {
        Ok(()) => Ok(()),
        Err(error) if error.kind == FsErrorKind::NotFound => Ok(()),
        Err(error) => Err(Error::io("remove the owner flag", owners_path(name), &error)),
    }
}

/// The lease of a flag whose owner can't be probed.
pub(super) fn lease_of<D: Dir>(owners: &D, flag: &FlagName, now: Option<Time>) -> Lease {
    let seconds = match owners.read_file(flag.as_str(), MAX_RECORD_BYTES) {
        Ok(Content::Whole(content)) => match LockRecord::parse(&content) {
            Ok(record) if record.token == Some(flag.token.text()) => record.lease_seconds,
            // Its owner stopped before it had written the record, or a writer of the original format
            // has written over it: the lock is the same file at first.
            Ok(_) | Err(_) => Some(DEFAULT_LEASE_SECONDS),
        },
        Ok(Content::TooLarge(_) | Content::NotAFile(_)) => Some(DEFAULT_LEASE_SECONDS),
        // What can't be read at this moment may state a longer lease.
        Err(_) => return Lease { seconds: Some(DEFAULT_LEASE_SECONDS), renewed: None, now: None },
    };
    let renewed = owners.stat(flag.as_str()).ok().and_then(|stat| stat.modified);
    Lease { seconds, renewed, now }
}

/// Judges the owner of a copy: by its flag, and who has not even that any more was judged before.
pub(super) fn judge_copy<D: Dir>(
    owners: &D,
    copy: &FlagName,
    here: &Identity,
    system: &impl System,
    lease: &dyn Fn() -> Lease,
) -> FsResult<Verdict> {
    match owners.stat(copy.as_str()) {
        Ok(_) => Ok(judge_flag(copy, here, system, lease)),
        Err(error) if error.kind == FsErrorKind::NotFound => {
            Ok(Verdict::Dead("the flag that it is a copy of is gone".into()))
        }
        Err(error) => Err(error),
    }
}

impl<D: Dir, S: System> Workspace<D, S> {
    /// Why the owner of a flag, or of a copy of one, is dead; none if it is not.
    pub(crate) fn dead_flag(&self, owners: &D, flag: &FlagName, is_copy: bool) -> Result<Option<String>> {
        let here = self.here()?;
        let me = &here.identity;
        // Without a file of our own there is only our clock; acquire decides by the file system's.
        let lease = &|| lease_of(owners, flag, Some(self.system.now()));
        let verdict = if is_copy {
            judge_copy(owners, flag, me, &self.system, lease)
                .map_err(|error| Error::io("look at the owner flag", owners_path(flag.as_str()), &error))?
        } else {
            judge_flag(flag, me, &self.system, lease)
        };
        Ok(verdict.is_dead().then(|| verdict.reason().to_owned()))
    }
}
