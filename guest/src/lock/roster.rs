//! The roster: the directory of the owner flags. Invariant: what a flag says is in its name, and a name
//! is never used twice, so a flag that was judged can be removed at any later moment.

use crate::error::{Error, Result};
use crate::fs::{Dir, FsErrorKind, Kind, Listed};
use crate::layout::{FlagName, OWNERS_PATH, PUBLISH_SUFFIX, owners_path};

/// What stands in the directory of the owner flags, in no order.
#[derive(Default)]
pub(super) struct Roster {
    pub(super) flags: Vec<FlagName>,
    /// Flags of which there is a copy that was to be renamed over the lock.
    pub(super) copies: Vec<FlagName>,
}

pub(super) fn roster<D: Dir>(owners: &D) -> Result<Roster> {
    let mut roster = Roster::default();
    let listed = owners.list(&mut |listed| {
        // A directory is nobody's flag, whatever its name, and could not be removed like one.
        if let Listed::Named(name, kind) = listed
            && kind != Kind::Directory
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
