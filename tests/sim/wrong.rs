//! What is wrong has to be found wrong: file systems that break their promises, lock protocols that look
//! right, and pods that stage or release in another way. A simulator is worth what it finds.

use super::beginnings::{Beginning, DEAD_ORIGINAL, ENTRIES, HERE, LEASE, NOTHING, alone};
use super::contender::{How, consolidate, newcomer, stage};
use super::disk::Quirks;
use super::ledger::Counts;
use super::naive::{create_only, original, rename_aside_then_link, unlink_then_create};
use super::points::{Effort, every_point, run_whole};
use super::preempt::{Contend, Then, all, briefly_beside_others, without_reuse};
use super::random::schedule;
use super::schedule::Calm;
use super::world::{Process, SimDir, State};
use crate::support::entry_id;
use consolidation_guest::durable::{Durability, create_whole};
use consolidation_guest::entry;
use consolidation_guest::error::Error;
use consolidation_guest::fs::{Dir, FsResult};
use consolidation_guest::layout::{EntryId, STAGING};
use consolidation_guest::lock::AcquireOptions;

const LITTLE: Effort = Effort { kinds: 1, losses: 24 };

/// Was it found wrong, and for this reason?
#[track_caller]
fn assert_found(found: Result<usize, String>, why: &str) {
    match found {
        Ok(count) => panic!("nothing is found wrong in {count} ways that things can go"),
        Err(failure) => {
            let first = failure.lines().next().unwrap_or_default();
            assert!(first.contains(why), "it is found wrong for another reason:\n{failure}");
            println!("found: {first}");
        }
    }
}

fn in_pairs(quirks: Quirks, (_, begin): Beginning, pair: [Contend; 2]) -> Result<usize, String> {
    let begun = begin(without_reuse(State::new(quirks, 7)));
    all(&begun, pair.map(|contend| (HERE, contend)), Then::Nothing, 1)
}

const TWO_HOLD: &str = "holds it too";

#[test]
fn protocols_without_a_roster_let_two_hold() {
    let beside_another = TWO_HOLD;
    assert_found(in_pairs(Quirks::NONE, ENTRIES, [original, original]), beside_another);
    assert_found(in_pairs(Quirks::NONE, DEAD_ORIGINAL, [unlink_then_create; 2]), beside_another);
    assert_found(in_pairs(Quirks::NONE, DEAD_ORIGINAL, [rename_aside_then_link; 2]), beside_another);
}

#[test]
fn the_original_beside_ours_without_the_option_lets_two_hold() {
    assert_found(in_pairs(Quirks::NONE, ENTRIES, [original, briefly_beside_others]), TWO_HOLD);
}

#[test]
fn processes_that_nobody_sees_let_two_hold() {
    let mut begun = ENTRIES.1(without_reuse(State::new(Quirks::NONE, 7)));
    begun.hides_processes = true;
    let quietly = |process: &Process| {
        let _ = consolidate(process, &How::default());
    };
    assert_found(all(&begun, [(HERE, quietly), (HERE, quietly)], Then::Nothing, 1), TWO_HOLD);
}

#[test]
fn a_link_that_overwrites_lets_two_hold() {
    let quirks = Quirks { link_overwrites: true, ..Quirks::NONE };
    assert_found(in_pairs(quirks, ENTRIES, [create_only, briefly_beside_others]), TWO_HOLD);
}

#[test]
fn a_lock_that_is_kept_locks_out_a_newcomer() {
    let begun = ENTRIES.1(without_reuse(State::new(Quirks::NONE, 7)));
    let keeps = |process: &Process| {
        let _ = process.workspace().acquire(&AcquireOptions::default());
    };
    let kept = alone(begun, Calm, HERE, keeps).expect("a free lock");
    let found = alone(kept, Calm, HERE, |process| newcomer(process, LEASE)).map(|_| 1);
    assert_found(found, "a newcomer is refused");
}

fn stage_one(process: &Process) -> Result<(), Error> {
    stage(process, 1, 100, Durability::Full)
}

#[test]
fn a_disk_that_does_not_synchronise_loses_entries() {
    let file_sync = Quirks { file_sync_lies: true, ..Quirks::NONE };
    let dir_sync = Quirks { dir_sync_lies: true, ..Quirks::NONE };
    // Runs without durability commit before they delete, and no more is expected of them.
    let careless = |mut state: State| {
        state.ledger.careless();
        state
    };
    assert_found(every_point("stage", file_sync, careless, stage_one, LITTLE), "is half");
    assert_found(every_point("stage", dir_sync, careless, stage_one, LITTLE), "was staged and is lost");
    for lies in [file_sync, dir_sync] {
        assert_found(every_point("a run", lies, ENTRIES.1, run_whole, LITTLE), "before the commit");
    }
}

#[test]
fn random_schedules_find_a_disk_that_does_not_synchronise() {
    let quirks = Quirks { dir_sync_lies: true, ..Quirks::NONE };
    let found =
        (1..2_000).try_fold(0, |count, seed| schedule(seed, quirks, false).map(|_: Counts| count + 1));
    assert!(found.is_err(), "nothing is found wrong in {found:?} schedules");
}

#[test]
fn random_schedules_find_processes_that_nobody_sees() {
    let found =
        (1..2_000).try_fold(0, |count, seed| schedule(seed, Quirks::NONE, true).map(|_: Counts| count + 1));
    assert!(found.is_err(), "nothing is found wrong in {found:?} schedules");
}

/// Stages one entry in another way.
fn stage_by(process: &Process, write: fn(&SimDir, EntryId, &[u8]) -> FsResult<()>) -> Result<(), Error> {
    let payload = process.with(|state| state.ledger.new_payload(100));
    let content = entry::to_file(&payload, None).expect("a payload");
    let id = entry_id(1_770_000_000_000, process.draw(1 << 30) as u64);
    let root = process.root();
    let staged = root.create_dir(STAGING).and_then(|()| root.sync()).and_then(|()| {
        let staging = root.open_dir(STAGING)?;
        write(&staging, id, content.as_bytes())
    });
    match staged {
        Ok(()) => {
            process.with(|state| state.ledger.acknowledged([(id, &payload)], true));
            Ok(())
        }
        Err(error) => Err(Error::io("write", STAGING, &error)),
    }
}

#[test]
fn stage_that_leaves_out_a_step_loses_entries() {
    let in_place = |process: &Process| {
        stage_by(process, |staging, id, content| {
            create_whole(staging, &id.file_name(), content, Durability::Full)?;
            staging.sync()
        })
    };
    let without_data = |process: &Process| {
        stage_by(process, |staging, id, content| {
            create_whole(staging, &id.temporary_name(), content, Durability::None)?;
            staging.rename(&id.temporary_name(), staging, &id.file_name())?;
            staging.sync()
        })
    };
    let without_names = |process: &Process| {
        stage_by(process, |staging, id, content| {
            create_whole(staging, &id.temporary_name(), content, Durability::Full)?;
            staging.rename(&id.temporary_name(), staging, &id.file_name())
        })
    };
    let nothing = NOTHING.1;
    assert_found(every_point("in place", Quirks::NONE, nothing, in_place, LITTLE), "is half");
    assert_found(every_point("without data", Quirks::NONE, nothing, without_data, LITTLE), "is half");
    assert_found(every_point("without names", Quirks::NONE, nothing, without_names, LITTLE), "is lost");
}

#[test]
fn a_release_that_deletes_what_it_did_not_commit_is_noticed() {
    let deletes = |process: &Process| {
        let rules = process.workspace();
        let (_held, _) = rules.acquire(&AcquireOptions::default())?;
        let ids = rules.entry_ids()?;
        process.with(|state| state.ledger.dealt_with(process.id(), &ids));
        let root = process.root();
        let deleted = root.open_dir(STAGING).and_then(|staging| staging.unlink(&ids[0].file_name()));
        deleted.map_err(|error| Error::io("delete", STAGING, &error))
    };
    let found = every_point("deletes", Quirks::NONE, ENTRIES.1, deletes, LITTLE);
    assert_found(found, "no run that consumed it is committed");
}
