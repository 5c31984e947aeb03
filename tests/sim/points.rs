//! Every single point of an operation: at each step the process is killed, the instance traps, the step
//! fails in each way that a file system has, before its effect and after it, or the machine loses its
//! power, with everything that this can leave. After each of them the ledger must be right and a newcomer
//! must acquire, consume what is there and leave nothing behind.

use super::beginnings::*;
use super::contender::{How, Ran, abandon, consolidate, newcomer, stage};
use super::disk::Quirks;
use super::in_full;
use super::schedule::{Call, Calm, Choices, FAILURES, Fate, Fates, Op, Random, nth};
use super::world::{Process, State};
use consolidation_guest::durable::Durability;
use consolidation_guest::error::Error;
use consolidation_guest::fs::FsErrorKind;
use consolidation_guest::lock::AcquireOptions;
use std::sync::mpsc::channel;

/// What is done.
pub(super) type Operation = fn(&Process) -> Result<(), Error>;

pub(super) fn run_whole(process: &Process) -> Result<(), Error> {
    let how =
        How { lease_seconds: Some(LEASE), work_ms: 10, renewals: 1, stops_early: true, ..How::default() };
    consolidate(process, &how).map(drop)
}

fn run_that_fails(process: &Process) -> Result<(), Error> {
    let how = How { lease_seconds: Some(LEASE), fails: true, ..How::default() };
    consolidate(process, &how).map(drop)
}

fn run_that_is_dropped(process: &Process) -> Result<(), Error> {
    let how = How { lease_seconds: Some(LEASE), drops: true, ..How::default() };
    consolidate(process, &how).map(drop)
}

fn unlock(process: &Process) -> Result<(), Error> {
    let token = process.token();
    let options =
        AcquireOptions { lease_seconds: Some(LEASE), token: Some(token), ..AcquireOptions::default() };
    match process.instance(|| process.workspace().unlock(&options, false, None)) {
        Some(Ok(_)) => Ok(()),
        Some(Err(error)) => {
            abandon(process, token);
            Err(error)
        }
        None => {
            abandon(process, token);
            Ok(())
        }
    }
}

/// What can become of a step, beside a power loss: failures of so many kinds, and each step has others.
fn fates(op: Op, number: usize, kinds: usize) -> Vec<Fate> {
    let mut fates = vec![Fate::Trap];
    if op.is_call() {
        let kinds = (0..kinds).map(|kind| FAILURES[(number * kinds + kind) % FAILURES.len()]);
        fates.extend(kinds.flat_map(|kind| [Fate::Refuse(kind), Fate::After(kind)]));
    }
    match op {
        Op::Read => fates.extend([1, 50].map(Fate::Short)),
        Op::Write => {
            fates.extend([0, 1, 100].map(Fate::Short));
            fates.extend([1, 100].map(Fate::KillWithin));
        }
        Op::ListEnd => fates.extend([0, 1].map(Fate::Short)),
        _ => {}
    }
    fates
}

/// How much is tried at each point, if not everything is.
#[derive(Clone, Copy)]
pub(super) struct Effort {
    /// Failures of so many kinds.
    pub(super) kinds: usize,
    /// So many states of the disk after a power loss.
    pub(super) losses: usize,
}

const USUAL: Effort = Effort { kinds: 3, losses: 24 };
const FULL: Effort = Effort { kinds: FAILURES.len(), losses: 400 };

/// Does a newcomer get through?
pub(super) fn recovers(
    name: &str,
    state: &State,
    namespace: u32,
    patience_seconds: u32,
) -> Result<(), String> {
    alone(state.clone(), Calm, namespace, |process| newcomer(process, patience_seconds))
        .map(drop)
        .map_err(|failure| format!("{name}: then a newcomer of namespace {namespace}: {failure}"))
}

/// Tries every point of an operation. How many there are, or what is wrong with one.
pub(super) fn every_point(
    name: &str,
    quirks: Quirks,
    begin: Begin,
    operation: Operation,
    effort: Effort,
) -> Result<usize, String> {
    let begun = begin(State::new(quirks, 1));
    let act = |process: &Process| {
        let _ = operation(process);
    };
    let (told, hears) = channel();
    let record = Fates(move |call: &Call<'_>| {
        let _ = told.send(call.op);
        Fate::Pass
    });
    let whole = alone(begun.clone(), record, HERE, act)?;
    let ops: Vec<Op> = hears.try_iter().collect();
    let with = |number: usize, fate: Fate| {
        let name = format!("{name}: step {number} ({:?}): {fate:?}", ops.get(number));
        match alone(begun.clone(), nth(number, fate), HERE, act) {
            Ok(state) => Ok((state, name)),
            Err(failure) => Err(format!("{name}: {failure}")),
        }
    };
    let mut points = 0;
    for (number, op) in ops.iter().enumerate() {
        for fate in fates(*op, number, effort.kinds) {
            points += 1;
            let (mut state, name) = with(number, fate)?;
            // A file system that lies about what is there is believed.
            if !matches!(fate, Fate::Refuse(FsErrorKind::NotFound) | Fate::After(FsErrorKind::NotFound)) {
                recovers(&format!("{name}, and the process lives on"), &state, HERE, 10)?;
            }
            state.kill_all();
            recovers(&name, &state, HERE, 10)?;
        }
    }
    for number in 0..=ops.len() {
        let (mut killed, name) = if number < ops.len() {
            with(number, Fate::Kill)?
        } else {
            (whole.clone(), format!("{name}: the end"))
        };
        let lose = |pick: &mut dyn FnMut(usize) -> usize| killed.clone().lose_power(pick);
        let losses = if in_full() { FULL.losses } else { effort.losses };
        let mut choices = Choices::at_most(losses, Random::new(number as u64), lose);
        while let Some(mut pick) = choices.next() {
            points += 1;
            let mut state = killed.clone();
            state.lose_power(&mut pick);
            let namespace = if points % 2 == 0 { HERE } else { ELSEWHERE };
            recovers(&format!("{name}, and the power is lost"), &state, namespace, LEASE + 10)?;
        }
        killed.kill_all();
        recovers(&name, &killed, HERE, 10)?;
        recovers(&name, &killed, ELSEWHERE, LEASE + 10)?;
    }
    Ok(points)
}

pub(super) const WITH_LINKS: [(&str, Quirks); 1] = [("with links", Quirks::NONE)];

fn every_point_of(what: &str, operation: Operation, quirks: &[(&str, Quirks)], from: &[Beginning]) {
    every_point_of_with(USUAL, what, operation, quirks, from);
}

/// With another effort than the usual one.
pub(super) fn every_point_of_with(
    effort: Effort,
    what: &str,
    operation: Operation,
    quirks: &[(&str, Quirks)],
    from: &[Beginning],
) {
    let mut points = 0;
    for (on, quirks) in quirks {
        for (beginning, begin) in from {
            let name = format!("{what}, from {beginning}, {on}");
            let all = in_full() || (effort.kinds > 1 && *beginning == ENTRIES.0);
            let effort = Effort { kinds: if all { FULL.kinds } else { effort.kinds }, ..effort };
            match every_point(&name, *quirks, *begin, operation, effort) {
                Ok(these) => points += these,
                Err(failure) => panic!("{failure}"),
            }
        }
    }
    println!("{what}: {points} points");
}

#[test]
fn every_point_of_a_run() {
    every_point_of("a run", run_whole, &WITH_LINKS, &BEGINNINGS[..9]);
}

#[test]
fn every_point_of_a_run_that_ends_another() {
    every_point_of("a run that ends another", run_whole, &WITH_LINKS, &BEGINNINGS[9..]);
}

#[test]
fn every_point_of_a_run_without_hard_links() {
    let some = [ENTRIES, DEAD_OWNER, LEASE_RAN_OUT];
    let beginnings: &[Beginning] = if in_full() { &BEGINNINGS } else { &some };
    every_point_of("a run", run_whole, &[("without links", NO_LINKS)], beginnings);
}

#[test]
fn every_point_of_a_run_that_fails() {
    every_point_of("a run that fails", run_that_fails, &WITH_LINKS, &[ENTRIES, DEAD_OWNER]);
}

#[test]
fn every_point_of_a_run_that_is_dropped() {
    every_point_of("a run that is dropped", run_that_is_dropped, &WITH_LINKS, &[ENTRIES, DEAD_OWNER]);
}

#[test]
fn every_point_of_an_unlock() {
    every_point_of(
        "unlock",
        unlock,
        &WITH_LINKS,
        &[DEAD_OWNER, LEASE_RAN_OUT, DEAD_ORIGINAL, EMPTY, BEING_WRITTEN],
    );
}

#[test]
fn every_point_of_stage() {
    every_point_of(
        "stage one",
        |process| stage(process, 1, 10, Durability::Full),
        &WITH_LINKS,
        &[NOTHING, ENTRIES],
    );
    every_point_of(
        "stage three",
        |process| stage(process, 3, 400, Durability::Full),
        &WITH_LINKS,
        &[NOTHING, ENTRIES],
    );
}

/// The first run is killed at each of its steps, and the one that takes over from it at each of its own.
#[test]
fn every_pair_of_points_of_two_runs() {
    for (on, quirks, (_, begin)) in
        [("with links", Quirks::NONE, ENTRIES), ("without links", NO_LINKS, DEAD_OWNER)]
    {
        let begun = begin(State::new(quirks, 5));
        let act = |process: &Process| {
            let _ = run_whole(process);
        };
        let killed_at = |state: &State, number: usize, name: &str| {
            let before = state.ledger.counts.steps;
            let state = alone(state.clone(), nth(number, Fate::Kill), HERE, act)
                .unwrap_or_else(|why| panic!("{name}: {why}"));
            let came_so_far = state.ledger.counts.steps - before > number;
            (state, came_so_far)
        };
        let stride = if in_full() { 1 } else { 3 };
        let mut pairs = 0;
        for first in 0.. {
            let (once, goes_on) = killed_at(&begun, first, on);
            if !goes_on {
                break;
            }
            // A third of them, and all in full.
            for second in (0..).skip(first % stride).step_by(stride) {
                let name = format!("{on}: killed before steps {first} and {second}");
                let (mut twice, goes_on) = killed_at(&once, second, &name);
                twice.kill_all();
                pairs += 1;
                recovers(&name, &twice, HERE, 10).unwrap_or_else(|why| panic!("{why}"));
                let mut random = Random::new(pairs);
                twice.lose_power(&mut |below| random.below(below));
                let name = format!("{name}, and the power is lost");
                recovers(&name, &twice, HERE, LEASE + 10).unwrap_or_else(|why| panic!("{why}"));
                if !goes_on {
                    break;
                }
            }
        }
        println!("two runs, {on}: {pairs} points");
    }
}

/// The ledger sees to it that nothing that was committed is handed out again.
#[test]
fn an_entry_that_cannot_be_deleted_is_consumed_once_and_deleted_later() {
    for chunk in [0, 1] {
        let mut state = ENTRIES.1(State::new(Quirks::NONE, 9));
        let paths = state.disk.paths();
        let entry =
            paths.into_iter().find(|path| path.ends_with(".json") && state.disk.content(path).is_some());
        let entry = entry.expect("entries");
        for round in 0..3 {
            let act = move |process: &Process| {
                let how = How { lease_seconds: Some(LEASE), chunk, ..How::default() };
                let consumed = match consolidate(process, &how) {
                    Ok(Ran::Consolidated(consumed)) => consumed,
                    other => panic!("{other:?}"),
                };
                assert_eq!(consumed, if round == 0 { 3 } else { 1 });
                stage(process, 1, 10, Durability::Full).expect("a disk that works");
            };
            let refused = entry.clone();
            let refuse = Fates(move |call: &Call<'_>| {
                let refused = call.op == Op::Unlink && call.path == refused;
                if refused { Fate::Refuse(FsErrorKind::Access) } else { Fate::Pass }
            });
            state = alone(state, refuse, HERE, act).unwrap_or_else(|why| panic!("{why}"));
            assert!(state.disk.content(&entry).is_some());
            if round == 1 {
                state.lose_power(&mut |_| 0);
                state.pass_seconds(LEASE);
            }
        }
        recovers("later", &state, HERE, 10).unwrap_or_else(|why| panic!("{why}"));
    }
}
