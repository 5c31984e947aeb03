//! Runs that change memory records, and those that undo them: every single point of them, from what others
//! may have left; late owners; and programs that leave out a step, which have to be found wrong.

use super::beginnings::*;
use super::contender::{How, RECORDS, consolidate, stage};
use super::disk::Quirks;
use super::points::{Effort, Operation, WITH_LINKS, every_point_of_with, recovers};
use super::schedule::{Call, Calm, Choices, Fate, Fates, Op, Random};
use super::world::{Process, State};
use consolidation_guest::durable::Durability;
use consolidation_guest::error::Error;
use consolidation_guest::layout::RecordName;
use std::sync::mpsc::channel;

const ALL: [bool; RECORDS.len()] = [true; RECORDS.len()];

/// Most of what there is to find is found from several beginnings.
const SOME: Effort = Effort { kinds: 1, losses: 6 };

/// Of a run that changes these records.
fn changing(changes: [bool; RECORDS.len()]) -> How {
    How { lease_seconds: Some(LEASE), changes, ..How::default() }
}

/// Of an undo of the last run with changes.
fn undoing() -> How {
    How { lease_seconds: Some(LEASE), undoes: true, ..How::default() }
}

fn change(process: &Process) -> Result<(), Error> {
    consolidate(process, &changing(ALL)).map(drop)
}

fn change_and_go_on(process: &Process) -> Result<(), Error> {
    consolidate(process, &How { goes_on: true, ..changing(ALL) }).map(drop)
}

fn undo_and_go_on(process: &Process) -> Result<(), Error> {
    consolidate(process, &How { goes_on: true, changes: ALL, ..undoing() }).map(drop)
}

fn change_nothing(process: &Process) -> Result<(), Error> {
    consolidate(process, &changing([false; RECORDS.len()])).map(drop)
}

fn undo(process: &Process) -> Result<(), Error> {
    consolidate(process, &undoing()).map(drop)
}

fn whole(state: State, how: How) -> State {
    let mut state = surely(state, Calm, HERE, |process| {
        consolidate(process, &how).expect("nothing goes wrong");
    });
    state.kill_all();
    state
}

/// A process is killed before the first step that is asked for.
fn dies(state: State, how: How, before: fn(&Call<'_>) -> bool) -> State {
    let kill = Fates(move |call: &Call<'_>| if before(call) { Fate::Kill } else { Fate::Pass });
    surely(state, kill, HERE, |process| {
        let result = consolidate(process, &how);
        panic!("it was to be killed: {result:?}");
    })
}

fn edited(mut state: State, record: usize) -> State {
    let (kind, slug) = RECORDS[record];
    let path = RecordName::parse(kind, slug).expect("a name").path();
    let State { ledger, disk, .. } = &mut state;
    let text = format!("{}by hand\n", ledger.records.new_text(&path));
    ledger.records.edited(&path, &text, disk);
    state
}

/// One record, and entries.
fn record(state: State) -> State {
    let state = whole(entries(state), changing([true, false, false]));
    let mut state = surely(state, Calm, HERE, |process| {
        stage(process, 2, 10, Durability::Full).expect("a disk that works");
    });
    state.kill_all();
    state
}

/// A run that has changed one record and created two, and entries.
fn changed(state: State) -> State {
    let state = whole(record(state), changing(ALL));
    let mut state = surely(state, Calm, HERE, |process| {
        stage(process, 1, 10, Durability::Full).expect("a disk that works");
    });
    state.kill_all();
    state
}

fn is_at(call: &Call<'_>, op: Op, path: &str) -> bool {
    call.op == op && call.path == path
}

/// It is about to rename this new content over its record.
fn applies(call: &Call<'_>, index: &str) -> bool {
    call.op == Op::Rename && call.path.starts_with("runs/.unfinished/") && call.path.ends_with(index)
}

const RECORD: Beginning = ("a record", record);
pub(super) const CHANGED: Beginning = ("a run with changes", changed);
const PREPARED: Beginning = ("new contents without a ticket", |state| {
    dies(record(state), changing(ALL), |call| call.op == Op::Create && call.path.ends_with(".open"))
});
const HALF_A_TICKET: Beginning = ("new contents and half a ticket", |state| {
    dies(record(state), changing(ALL), |call| call.op == Op::Write && call.path.ends_with(".open"))
});
const TICKET_WITH_CHANGES: Beginning = ("new contents and a ticket", |state| {
    dies(record(state), changing(ALL), |call| call.op == Op::Rename && call.path.ends_with(".open"))
});
const COMMITTED_UNSYNCED: Beginning = ("a committed run whose commit is not synchronised", |state| {
    let mut committed = false;
    let kill = Fates(move |call: &Call<'_>| {
        let after = committed;
        committed |= call.op == Op::Rename && call.path.ends_with(".open");
        if after { Fate::Kill } else { Fate::Pass }
    });
    surely(record(state), kill, HERE, |process| {
        let result = change(process);
        panic!("it was to be killed: {result:?}");
    })
});
const UNAPPLIED: Beginning = ("a committed run whose changes are to be made", |state| {
    dies(record(state), changing(ALL), |call| applies(call, ".0"))
});
const HALF_APPLIED: Beginning = ("a committed run of whose changes one is made", |state| {
    dies(record(state), changing(ALL), |call| applies(call, ".1"))
});
const APPLIED: Beginning = ("a committed run whose entries are to be deleted", |state| {
    dies(record(state), changing(ALL), |call| call.op == Op::Unlink && call.path.ends_with(".json"))
});
const EDITED: Beginning =
    ("a committed run, and one of its records edited by hand", |state| edited(UNAPPLIED.1(state), 0));
const CREATED_BY_HAND: Beginning =
    ("a committed run, and one of its records created by hand", |state| edited(HALF_APPLIED.1(state), 2));
const REMOVING: Beginning = ("an undo that is about to remove", |state| {
    dies(changed(state), undoing(), |call| is_at(call, Op::Rename, "memory/rule/c.md"))
});
const REMOVED: Beginning = ("an undo that has put a record aside", |state| {
    dies(changed(state), undoing(), |call| call.op == Op::Unlink && call.path.ends_with(".gone"))
});
const REMOVED_BEFORE: Beginning = ("an undo that has removed a record", |state| {
    dies(changed(state), undoing(), |call| call.op == Op::Unlink && call.path.ends_with(".2"))
});
const REMOVING_EDITED: Beginning =
    ("an undo that is to remove a record edited by hand", |state| edited(REMOVING.1(state), 2));

#[test]
fn every_point_of_a_run_with_changes() {
    every_point_of_with(SOME, "a run with changes", change, &WITH_LINKS, &[ENTRIES, RECORD]);
}

#[test]
fn every_point_of_an_undo() {
    every_point_of_with(SOME, "an undo", undo, &WITH_LINKS, &[CHANGED]);
    every_point_of_with(SOME, "an undo", undo, &[("without links", NO_LINKS)], &[CHANGED]);
}

/// What fails is tried again under the same lock: is it known what has become of the first try?
#[test]
fn every_point_of_runs_that_go_on_after_a_failure() {
    every_point_of_with(SOME, "a run with changes that goes on", change_and_go_on, &WITH_LINKS, &[RECORD]);
    every_point_of_with(SOME, "an undo and a run that goes on", undo_and_go_on, &WITH_LINKS, &[CHANGED]);
}

#[test]
fn every_point_of_a_run_that_ends_one_with_changes() {
    let from = [
        PREPARED,
        HALF_A_TICKET,
        TICKET_WITH_CHANGES,
        UNAPPLIED,
        HALF_APPLIED,
        APPLIED,
        EDITED,
        CREATED_BY_HAND,
    ];
    every_point_of_with(SOME, "a run that ends one with changes", change_nothing, &WITH_LINKS, &from);
    every_point_of_with(
        SOME,
        "a run with changes that ends another",
        change,
        &WITH_LINKS,
        &[UNAPPLIED, EDITED],
    );
}

#[test]
fn every_point_of_a_run_that_ends_an_undo() {
    let from = [REMOVING, REMOVED, REMOVED_BEFORE, REMOVING_EDITED];
    every_point_of_with(SOME, "a run that ends an undo", change_nothing, &WITH_LINKS, &from);
    every_point_of_with(
        SOME,
        "a run that ends an undo",
        change_nothing,
        &[("without links", NO_LINKS)],
        &[REMOVING_EDITED],
    );
}

/// Does something go wrong if an operation leaves out to synchronise what is named, and the power fails at
/// any later point? Named are the ends of the paths, and the how manieth of that end.
fn assert_needed(name: &str, begin: Begin, operation: Operation, left_out: &[(&str, usize)]) {
    let begun = begin(State::new(Quirks::NONE, 1));
    let act = |process: &Process| {
        let _ = operation(process);
    };
    let (told, hears) = channel();
    let record = Fates(move |call: &Call<'_>| {
        let _ = told.send((call.op, call.path.to_owned()));
        Fate::Pass
    });
    surely(begun.clone(), record, HERE, act);
    let calls: Vec<(Op, String)> = hears.try_iter().collect();
    let number_of = |(end, nth): &(&str, usize)| {
        let is_it = |(op, path): &(Op, String)| matches!(op, Op::Sync | Op::SyncNames) && path.ends_with(end);
        let found = calls.iter().enumerate().filter(|(_, call)| is_it(call)).nth(*nth);
        found.unwrap_or_else(|| panic!("{name}: {end} is not synchronised {nth} times: {calls:?}")).0
    };
    let without: Vec<usize> = left_out.iter().map(number_of).collect();
    let mut losses = 0;
    for number in without[0] + 1..=calls.len() {
        let without = without.clone();
        let fates = Fates(move |call: &Call<'_>| match call.number {
            step if step == number => Fate::Kill,
            step if without.contains(&step) => Fate::Short(0),
            _ => Fate::Pass,
        });
        let Ok(killed) = alone(begun.clone(), fates, HERE, act) else { return };
        let lose = |pick: &mut dyn FnMut(usize) -> usize| killed.clone().lose_power(pick);
        let mut choices = Choices::at_most(24, Random::new(number as u64), lose);
        while let Some(mut pick) = choices.next() {
            losses += 1;
            let mut state = killed.clone();
            state.lose_power(&mut pick);
            if state.ledger.violation().is_some() || recovers(name, &state, HERE, LEASE + 10).is_err() {
                return;
            }
        }
    }
    panic!("{name} without {left_out:?}: nothing is found wrong after {losses} power losses");
}

#[test]
fn what_a_run_does_not_synchronise_is_found() {
    let unfinished = "runs/.unfinished";
    for left_out in [
        ("memory", 0),
        (".0", 0),
        (".json", 0),
        ("runs/.before", 0),
        (unfinished, 0),
        (".open", 0),
        (unfinished, 1),
    ] {
        assert_needed("a run with changes", RECORD.1, change, &[left_out]);
    }
    // A rename is durable with either of its directories.
    let made = [("memory/fact", 0), ("memory/rule", 0), (unfinished, 2)];
    assert_needed("a run with changes", RECORD.1, change, &made);
    assert_needed("an undo", CHANGED.1, undo, &made);
    assert_needed("a recovery", COMMITTED_UNSYNCED.1, change_nothing, &[(unfinished, 0)]);
    for left_out in [(".0.md", 0), ("runs/.before", 0)] {
        assert_needed("a recovery", EDITED.1, change_nothing, &[left_out]);
    }
    assert_needed("the recovery of an undo", REMOVING_EDITED.1, change_nothing, &[("memory/rule", 0)]);
}
