//! Late owners: a process that holds the lock is stopped for longer than its lease, another one that can't
//! probe it takes over, and at any step of that the first one goes on. Whatever it was about to do, no
//! entry is lost, none is committed twice, and nothing is deleted that was not committed.

use super::beginnings::{ELSEWHERE, ENTRIES, HERE, LEASE, NO_LINKS, alone};
use super::contender::{How, RECORDS, Ran, consolidate, newcomer};
use super::disk::Quirks;
use super::in_full;
use super::memory::CHANGED;
use super::schedule::{Calm, Event, Random, Script};
use super::world::{Act, Actor, Life, Process, State, run};
use consolidation_guest::error::ErrorCode;
use consolidation_guest::lock::Status;

/// For how long the owner is stopped: a little longer than its lease.
const STOPPED: Event = Event::Pause((LEASE + 1) * 1_000);

fn how(process: &Process) -> How {
    // One deletes its entries one by one.
    How { lease_seconds: Some(LEASE), chunk: u32::from(process.actor() == 0), ..How::default() }
}

/// Both change the same records, if anybody has changed some before.
fn changing(process: &Process) -> How {
    let changes = [process.with(|state| state.ledger.records.in_use()); RECORDS.len()];
    How { changes, ..how(process) }
}

fn owner(process: &Process) {
    owns(process, &changing(process));
}

/// One that undoes the last run with changes.
fn undoer(process: &Process) {
    owns(process, &How { undoes: true, ..how(process) });
}

fn owns(process: &Process, how: &How) {
    match consolidate(process, how) {
        Ok(_) => {}
        Err(error) if matches!(error.code, ErrorCode::LockLost | ErrorCode::InUse) => {}
        // Its successor has changed what it had read.
        Err(error) if error.code == ErrorCode::Conflict => {}
        // Its flag was removed while it was about to link it.
        Err(error) if error.code == ErrorCode::NotFound => {}
        Err(error) => process.with(|state| state.ledger.violated(format!("the late owner: {error}"))),
    }
}

/// Comes when the lease of the owner has run out, and not much later.
fn successor(process: &Process) {
    succeeds(process, &changing(process));
}

/// One that undoes the last run with changes, which may be an undo: then the records are what they were.
fn undoing_successor(process: &Process) {
    succeeds(process, &How { undoes: true, ..how(process) });
}

fn succeeds(process: &Process, how: &How) {
    process.work(LEASE * 1_000 + 500);
    for _ in 0..3 * LEASE {
        match consolidate(process, how) {
            Ok(Ran::Consolidated(_)) => return,
            Ok(ran) => {
                process.with(|state| state.ledger.violated(format!("the successor's run is {ran:?}")));
            }
            // The late owner has overwritten the lock, or is faster than the successor.
            Err(error) if matches!(error.code, ErrorCode::LockLost | ErrorCode::InUse) => {}
            Err(error) => process.with(|state| state.ledger.violated(format!("the successor: {error}"))),
        }
        process.work(1_000);
    }
    process.with(|state| state.ledger.violated("the successor never gets the lock".into()));
}

/// One schedule, and then a newcomer. How many steps it took.
fn schedule(begun: &State, pair: [fn(&Process); 2], events: &[(usize, Event)]) -> Result<usize, String> {
    let act = |namespace: u32, life: fn(&Process)| -> Act<'_> {
        Box::new(move |actor: &Actor| {
            let _ = actor.live(namespace, life);
        })
    };
    let before = begun.ledger.counts.steps;
    let told = |failure| format!("{events:?}: {failure}");
    let mut state = run(begun.clone(), Script::of(events), vec![act(HERE, pair[0]), act(ELSEWHERE, pair[1])])
        .map_err(told)?;
    let steps = state.ledger.counts.steps - before;
    state.kill_all();
    alone(state, Calm, ELSEWHERE, |process| newcomer(process, LEASE + 10)).map_err(told)?;
    Ok(steps)
}

/// The owner is stopped at each of its steps, and goes on at each step of the successor; and some of the
/// schedules in which the successor goes on in between, or one of the two is killed.
fn schedules(begun: &State, pair: [fn(&Process); 2], samples: usize, stride: usize) -> Result<usize, String> {
    let mut random = Random::new(begun.ledger.counts.steps as u64);
    let before = begun.ledger.counts.steps;
    let alone = alone(begun.clone(), Calm, HERE, pair[0])?.ledger.counts.steps - before;
    let stride = if in_full() { 1 } else { stride };
    let mut count = 0;
    let mut triples = Vec::new();
    for stopped in 0..alone {
        let steps = schedule(begun, pair, &[(stopped, STOPPED)])?;
        for goes_on in (stopped + 1..steps).filter(|goes_on| (stopped + goes_on) % stride == 0) {
            let events = [(stopped, STOPPED), (goes_on, Event::Turn(0))];
            let steps = schedule(begun, pair, &events)?;
            count += 1;
            for _ in 0..2 {
                let later = goes_on + 1 + random.below(steps.saturating_sub(goes_on).max(2) - 1);
                let event = random.one_of(&[Event::Turn(1), Event::Turn(1), Event::Kill]);
                triples.push([events[0], events[1], (later, event)]);
            }
        }
    }
    for _ in 0..samples.min(triples.len()) {
        schedule(begun, pair, &triples.swap_remove(random.below(triples.len())))?;
        count += 1;
    }
    Ok(count)
}

fn assert_all(name: &str, quirks: Quirks, samples: usize) {
    let begun = ENTRIES.1(State::new(quirks, 3));
    assert_all_from(name, &begun, [owner, successor], samples, 2);
}

fn assert_all_from(name: &str, begun: &State, pair: [fn(&Process); 2], samples: usize, stride: usize) {
    let samples = if in_full() { 100_000 } else { samples };
    match schedules(begun, pair, samples, stride) {
        Ok(count) => println!("{name}: {count} schedules"),
        Err(failure) => panic!("{name}: {failure}"),
    }
}

#[test]
fn a_late_owner_goes_on_at_any_step_of_its_successor() {
    assert_all("with links", Quirks::NONE, 1_000);
}

#[test]
fn a_late_owner_goes_on_at_any_step_of_its_successor_without_hard_links() {
    assert_all("without links", NO_LINKS, 1_000);
}

#[test]
fn a_late_owner_changes_nothing_of_what_its_successor_has_made_of_the_records() {
    let begun = CHANGED.1(State::new(Quirks::NONE, 3));
    assert_all_from("changes", &begun, [owner, successor], 300, 13);
}

#[test]
fn a_late_owner_that_undoes_a_run_changes_nothing_of_what_its_successor_has_made() {
    for (on, quirks) in [("with links", Quirks::NONE), ("without links", NO_LINKS)] {
        let begun = CHANGED.1(State::new(quirks, 3));
        assert_all_from(&format!("an undo, {on}"), &begun, [undoer, successor], 300, 13);
    }
    let begun = CHANGED.1(State::new(Quirks::NONE, 3));
    assert_all_from("an undo that is undone", &begun, [undoer, undoing_successor], 300, 5);
}

/// For as long as a holder renews its lease, nobody takes over from it, nor takes its lock for a dead
/// one's.
#[test]
fn a_holder_that_renews_its_lease_is_respected() {
    for quirks in [Quirks::NONE, NO_LINKS] {
        let holder = |process: &Process| {
            let third = LEASE * 1_000 / 3;
            let how = How { lease_seconds: Some(LEASE), work_ms: third, renewals: 12, ..How::default() };
            let ran = consolidate(process, &how);
            assert!(matches!(ran, Ok(Ran::Consolidated(3))), "{ran:?}");
        };
        let contender = |process: &Process| {
            process.work(10);
            for _ in 0..LEASE {
                process.work(4_000);
                let status = process.workspace().lock_status();
                assert!(matches!(status, Ok(Status::Unknown(_))), "{status:?}");
                let ran = consolidate(process, &how(process)).map_err(|error| error.code);
                assert_eq!(ran, Err(ErrorCode::InUse));
            }
        };
        let begun = ENTRIES.1(State::new(quirks, 3));
        let acts: Vec<Act<'_>> = vec![
            Box::new(move |actor| assert!(matches!(actor.live(HERE, holder), Life::Ended(())))),
            Box::new(move |actor| assert!(matches!(actor.live(ELSEWHERE, contender), Life::Ended(())))),
        ];
        run(begun, Calm, acts).unwrap_or_else(|failure| panic!("{failure}"));
    }
}
