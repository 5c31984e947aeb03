//! Programs at the same directory that do not follow the protocol: those of the original format, and lock
//! protocols that look right. They write records of the original format and raise no flag.

use super::world::{Process, SimDir};
use crate::support::original_record;
use consolidation_guest::fs::{Content, Dir, File, FsErrorKind, FsResult};
use consolidation_guest::layout::{LOCK, STAGING};
use consolidation_guest::record::LockRecord;
use consolidation_guest::system::{ProcessState, System};

/// Within this time one of the original format that has looked at the lock is expected to have written it.
const SETTLE_MS: i128 = 100;

fn staging(process: &Process) -> FsResult<SimDir> {
    let root = process.root();
    match root.open_dir(STAGING) {
        Err(error) if error.kind == FsErrorKind::NotFound => {
            root.create_dir(STAGING)?;
            root.open_dir(STAGING)
        }
        other => other,
    }
}

fn record(process: &Process) -> String {
    original_record(process.with(|state| state.pid_of(process.id())), "original", &[])
}

/// What is in the lock; and whether its owner lives.
fn owner_lives(process: &Process, staging: &SimDir, name: &str) -> FsResult<Option<bool>> {
    let content = match staging.read_file(name, 1 << 20) {
        Ok(Content::Whole(content)) => content,
        Ok(_) => Vec::new(),
        Err(error) if error.kind == FsErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    Ok(Some(
        LockRecord::parse(&content)
            .is_ok_and(|record| process.system().inspect(record.pid).state == ProcessState::Running),
    ))
}

/// Writes a file like `std::fs::write`: over what is there, and in place.
fn overwrite(staging: &SimDir, name: &str, content: &str) -> FsResult<()> {
    staging.open_truncated(name)?.write(content.as_bytes(), 0).map(drop)
}

/// Holds what it takes for the lock, and removes it.
fn hold(process: &Process, staging: &SimDir) -> FsResult<()> {
    let token = process.token();
    process.with(|state| state.ledger.holds(process.id(), token, None, &state.disk, state.clock));
    process.work(1_000);
    let removed = staging.unlink(LOCK);
    process.with(|state| state.ledger.holds_no_longer(token));
    removed
}

/// Takes a lock that is free, exclusively, and no other.
pub(super) fn create_only(process: &Process) {
    let take = || {
        let staging = staging(process)?;
        staging.create(LOCK)?.write(record(process).as_bytes(), 0)?;
        hold(process, &staging)
    };
    let _ = take();
}

/// The same twice, by two processes.
pub(super) fn create_twice(process: &Process) {
    create_only(process);
    if process.is_first_of_actor() {
        process.exit();
    }
}

/// The original: looks at the lock and writes its own, whatever happens in between.
pub(super) fn original(process: &Process) {
    let take = || {
        let staging = staging(process)?;
        let looked = process.with(|state| state.clock);
        if owner_lives(process, &staging, LOCK)? == Some(true) {
            return Ok(());
        }
        overwrite(&staging, LOCK, &record(process))?;
        process.with(|state| {
            if state.clock.nanos() - looked.nanos() > SETTLE_MS * 1_000_000 {
                state.ledger.excuse(process.id());
            }
        });
        hold(process, &staging)
    };
    let _: FsResult<()> = take();
}

/// Looks at the lock, removes a stale one, and creates its own exclusively.
pub(super) fn unlink_then_create(process: &Process) {
    let take = || {
        let staging = staging(process)?;
        match owner_lives(process, &staging, LOCK)? {
            Some(true) => return Ok(()),
            Some(false) => staging.unlink(LOCK)?,
            None => {}
        }
        staging.create(LOCK)?.write(record(process).as_bytes(), 0)?;
        hold(process, &staging)
    };
    let _: FsResult<()> = take();
}

/// Looks at the lock, puts a stale one aside, and links its own, which it has written whole.
pub(super) fn rename_aside_then_link(process: &Process) {
    let take = || {
        let staging = staging(process)?;
        let own = format!("own-{}", process.id());
        staging.create(&own)?.write(record(process).as_bytes(), 0)?;
        let taken = match owner_lives(process, &staging, LOCK)? {
            Some(true) => Err(consolidation_guest::fs::FsError::new(FsErrorKind::Exists)),
            Some(false) => {
                let aside = format!("aside-{}", process.id());
                staging.rename(LOCK, &staging, &aside).and_then(|()| staging.unlink(&aside))
            }
            None => Ok(()),
        };
        let taken = taken.and_then(|()| staging.link(&own, &staging, LOCK));
        staging.unlink(&own)?;
        taken.and_then(|()| hold(process, &staging))
    };
    let _: FsResult<()> = take();
}
