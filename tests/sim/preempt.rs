//! Two contenders and the schedules in which the turn changes once or twice: most races need no more than
//! that. Of those with two changes a third is tried, and all in full.

use super::beginnings::*;
use super::contender::{How, consolidate, newcomer};
use super::disk::Quirks;
use super::in_full;
use super::naive::{create_only, create_twice, original};
use super::schedule::{Calm, Event, Script};
use super::world::{Act, Actor, Life, Process, State, run};
use consolidation_guest::error::ErrorCode;
use consolidation_guest::lock::AcquireOptions;

/// What a contender does.
pub(super) type Contend = fn(&Process);

/// Acquires and releases.
pub(super) fn briefly(process: &Process) {
    hold_briefly(process, false, true);
}

/// The same where somebody takes the lock away who does not follow the protocol.
pub(super) fn briefly_beside_others(process: &Process) {
    hold_briefly(process, false, false);
}

/// The same with the option for workspaces in which writers of the original format are at work.
pub(super) fn coexisting(process: &Process) {
    hold_briefly(process, true, true);
}

/// The same, and tries again when it is refused.
fn coexisting_twice(process: &Process) {
    if !hold_briefly(process, true, true) {
        hold_briefly(process, true, true);
    }
}

/// True if it was not refused.
fn hold_briefly(process: &Process, coexist: bool, keeps: bool) -> bool {
    let token = process.token();
    let options = AcquireOptions {
        lease_seconds: Some(LEASE),
        token: Some(token),
        coexist,
        ..AcquireOptions::default()
    };
    match process.workspace().acquire(&options) {
        Ok((held, _)) => {
            process.with(|state| {
                state.ledger.holds(process.id(), token, Some(LEASE), &state.disk, state.clock);
            });
            process.work(0);
            let released = held.release_only(None);
            process.with(|state| {
                state.ledger.holds_no_longer(token);
                if let (true, Err(error)) = (keeps, released) {
                    state.ledger.violated(format!("a lock that nobody may take is lost: {error}"));
                }
            });
            true
        }
        Err(error) => {
            if error.code != ErrorCode::InUse {
                process.with(|state| state.ledger.violated(format!("{error}")));
            }
            false
        }
    }
}

/// A whole run.
pub(super) fn wholly(process: &Process) {
    let how = How { lease_seconds: Some(LEASE), ..How::default() };
    if let Err(error) = consolidate(process, &how)
        && error.code != ErrorCode::InUse
    {
        process.with(|state| state.ledger.violated(format!("{error}")));
    }
}

/// Both contend, each in its namespace.
fn contend(
    state: State,
    events: &[(usize, Event)],
    pair: [(u32, Contend); 2],
) -> Result<(State, usize), String> {
    let acts = pair.map(|(namespace, contend)| {
        let act: Act<'_> =
            Box::new(move |actor: &Actor| while let Life::Killed = actor.live(namespace, contend) {});
        act
    });
    let state = run(state, Script::of(events), acts.into())?;
    let steps = state.ledger.counts.steps;
    Ok((state, steps))
}

/// Who comes when both contenders are done.
#[derive(Clone, Copy)]
pub(super) enum Then {
    Nothing,
    /// A newcomer, and those who came to their end live on and must be in nobody's way.
    Newcomer,
    /// A newcomer, when all others are dead.
    NewcomerAlone,
}

/// One schedule, and then a newcomer. How many steps the contenders took.
fn schedule(
    state: &State,
    events: &[(usize, Event)],
    pair: [(u32, Contend); 2],
    then: Then,
) -> Result<usize, String> {
    let before = state.ledger.counts.steps;
    let (mut state, steps) = contend(state.clone(), events, pair)?;
    match then {
        Then::Nothing => return Ok(steps - before),
        Then::NewcomerAlone => state.kill_all(),
        Then::Newcomer => {}
    }
    let patience = if pair.iter().all(|(namespace, _)| *namespace == HERE) { 10 } else { LEASE + 10 };
    alone(state, Calm, HERE, |process| newcomer(process, patience))?;
    Ok(steps - before)
}

/// All schedules with one change of the turn and of those with two changes each `stride`-th; and those in
/// which one of them is killed instead. How many there are, or the first that goes wrong.
pub(super) fn all(
    begun: &State,
    pair: [(u32, Contend); 2],
    then: Then,
    stride: usize,
) -> Result<usize, String> {
    let mut schedules = 0;
    let mut one = |events: &[(usize, Event)]| {
        schedules += 1;
        schedule(begun, events, pair, then).map_err(|failure| format!("{events:?}: {failure}"))
    };
    let whole = one(&[])?;
    let first_ends = whole;
    for first in 0..first_ends {
        for event in [Event::Turn(1), Event::Kill] {
            let steps = one(&[(first, event)])?;
            for second in (first + 1..steps).filter(|second| (first + second) % stride == 0) {
                one(&[(first, event), (second, Event::Turn(0))])?;
                if event != Event::Kill {
                    one(&[(first, event), (second, Event::Kill)])?;
                }
            }
        }
    }
    Ok(schedules)
}

/// The original format can't tell a process from the one that gets its id within seconds.
pub(super) fn without_reuse(mut state: State) -> State {
    state.reuses_ids = false;
    state
}

/// Schedules with three changes of the turn, each `stride`-th. How many there are, or the first that goes
/// wrong.
pub(super) fn three_changes(
    begun: &State,
    pair: [(u32, Contend); 2],
    then: Then,
    stride: usize,
) -> Result<usize, String> {
    let mut schedules = 0;
    let mut one = |events: &[(usize, Event)]| {
        schedules += 1;
        schedule(begun, events, pair, then).map_err(|failure| format!("{events:?}: {failure}"))
    };
    // The first of the two gets no further than to its hold.
    for first in 0..one(&[])?.min(10) {
        let first = (first, Event::Turn(1));
        for second in first.0 + 1..one(&[first])? {
            let second = (second, Event::Turn(0));
            for third in second.0 + 1..one(&[first, second])? {
                if (first.0 + second.0 + third) % stride == 0 {
                    one(&[first, second, (third, Event::Turn(1))])?;
                }
            }
        }
    }
    Ok(schedules)
}

/// As [`all`]; fails if one goes wrong.
fn assert_all(name: &str, begin: Begin, pair: [(u32, Contend); 2], then: Then) {
    let begun = begin(without_reuse(State::new(Quirks::NONE, 7)));
    match all(&begun, pair, then, if in_full() { 1 } else { 3 }) {
        Ok(schedules) => println!("{name}: {schedules} schedules"),
        Err(failure) => panic!("{name}: {failure}"),
    }
}

#[test]
fn two_contenders_from_every_beginning() {
    for (beginning, begin) in BEGINNINGS {
        // It takes hundreds of steps to see that such a lock stays as it is.
        if beginning != FROM_THE_FUTURE.0 {
            assert_all(beginning, begin, [(HERE, briefly), (HERE, briefly)], Then::Newcomer);
        }
    }
}

#[test]
fn two_runs() {
    for (beginning, begin) in [DEAD_OWNER, TICKET, COMMITTED] {
        assert_all(beginning, begin, [(HERE, wholly), (HERE, wholly)], Then::Newcomer);
    }
}

#[test]
fn two_contenders_that_cannot_probe_each_other() {
    for (beginning, begin) in [NOTHING, LEASE_RAN_OUT] {
        assert_all(beginning, begin, [(HERE, briefly), (ELSEWHERE, briefly)], Then::Newcomer);
        assert_all(beginning, begin, [(FAR, briefly), (HERE, briefly)], Then::Newcomer);
    }
}

#[test]
fn beside_a_writer_that_takes_a_free_lock_exclusively() {
    for (beginning, begin) in [ENTRIES, DEAD_OWNER, EMPTY] {
        assert_all(beginning, begin, [(HERE, briefly), (HERE, create_only)], Then::Newcomer);
        assert_all(beginning, begin, [(HERE, create_only), (HERE, briefly)], Then::Newcomer);
    }
}

/// A lock that was judged dead may be another one by the time it is removed.
#[test]
fn beside_writers_that_come_between_the_verdict_and_the_removal() {
    let stride = if in_full() { 1 } else { 3 };
    let cases: [(Beginning, Contend, Contend, Then); 4] = [
        (ENTRIES, create_twice, briefly, Then::Newcomer),
        (ENTRIES, create_twice, coexisting, Then::Newcomer),
        (DEAD_OWNER, original, coexisting_twice, Then::NewcomerAlone),
        (EMPTY, original, coexisting_twice, Then::NewcomerAlone),
    ];
    for ((beginning, begin), writer, contend, then) in cases {
        let begun = begin(without_reuse(State::new(Quirks::NONE, 7)));
        match three_changes(&begun, [(HERE, writer), (HERE, contend)], then, stride) {
            Ok(schedules) => println!("{beginning}: {schedules} schedules"),
            Err(failure) => panic!("{beginning}: {failure}"),
        }
    }
}

/// One of the original format that releases its lock while that stands aside does not find it, and keeps
/// the others out for as long as it lives.
#[test]
fn coexisting_beside_a_writer_of_the_original_format() {
    for (beginning, begin) in [ENTRIES, DEAD_OWNER, DEAD_ORIGINAL] {
        assert_all(beginning, begin, [(HERE, coexisting), (HERE, original)], Then::NewcomerAlone);
        assert_all(beginning, begin, [(HERE, original), (HERE, coexisting)], Then::NewcomerAlone);
    }
}

#[test]
fn coexisting_among_themselves() {
    for (beginning, begin) in [ENTRIES, DEAD_OWNER] {
        assert_all(beginning, begin, [(HERE, coexisting), (HERE, coexisting)], Then::Newcomer);
    }
}
