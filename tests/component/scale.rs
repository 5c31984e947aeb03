//! Workspaces with very many entries: what the component keeps of them in memory. Invariant: what a call needs
//! is bounded by its caps and not by the number of entries.
//!
//! The large forms are ignored, since they make a million files. What they print shows how the cost of an
//! entry grows:
//!
//! ```sh
//! TMPDIR=/dev/shm CONSOLIDATION_SCALE=1000,1000000 cargo nextest run --run-ignored only --no-capture component::scale
//! ```

use super::{POD, open_with, payloads};
use crate::support::{MINIMAL, TestWorkspace};
use consolidation_host::{
    ConsolidateOptions, Consolidator, ConsolidatorError, Draft, Entry, Limits, LockStatus, Runtime, Update,
    Workspace,
};
use std::fs;
use std::time::{Duration, Instant};

const MIB: usize = 1 << 20;

/// A name that an entry of this number has; they ascend.
fn id(number: u64) -> String {
    format!("01968f2e-{:04x}-7000-8000-{number:012x}", number >> 20)
}

/// As many entries, made without the component.
fn with_entries(count: u64) -> TestWorkspace {
    let place = TestWorkspace::with_staging();
    for number in 0..count {
        fs::write(place.staged(&format!("{}.json", id(number))), MINIMAL).expect("written");
    }
    place
}

fn limited(memory_limit: usize) -> Runtime {
    // A machine that has other things to do takes its time for a million files.
    let builder = Runtime::builder().memory_limit(memory_limit).call_timeout(Duration::from_secs(600));
    builder.build().expect("a runtime")
}

fn open_limited(place: &TestWorkspace, memory_limit: usize) -> Workspace {
    open_with(&limited(memory_limit), place)
}

/// A consolidator that counts its entries.
#[derive(Default)]
struct Counting(u64);

impl Consolidator for Counting {
    fn name(&self) -> String {
        "counting 1.0".into()
    }

    fn consolidate(&mut self, batch: &[Entry], _: &Draft<'_>) -> Result<Vec<Update>, ConsolidatorError> {
        self.0 += batch.len() as u64;
        Ok(Vec::new())
    }
}

fn capped(max_entries: u64) -> ConsolidateOptions {
    let limits = Limits { max_entries: Some(max_entries), max_bytes: None };
    ConsolidateOptions { limits, batch_entries: 1_000, ..ConsolidateOptions::new(POD) }
}

/// What a step took, for whoever looks: nothing depends on it.
fn tell(what: &str, entries: u64, since: Instant, workspace: &Workspace) {
    let each = since.elapsed() / u32::try_from(entries.max(1)).unwrap_or(u32::MAX);
    let peak = workspace.peak_memory() as f64 / MIB as f64;
    eprintln!("{what:<28} {entries:>8} entries  {each:>12?} each  {peak:6.2} MiB at most");
}

/// Stages, counts, looks at a part, consolidates a part, and then everything, with this much memory. Every step
/// has a workspace of its own, so that each tells its own memory.
fn everything_fits(count: u64, memory_limit: usize) {
    const SOME: u64 = 1_000;
    let place = with_entries(count);
    let runtime = limited(memory_limit);
    open_with(&runtime, &place).lock_status().expect("the first call makes an instance");
    let mut from = Instant::now();
    let mut step = |what: &str, entries: u64, workspace: &Workspace| {
        tell(what, entries, from, workspace);
        assert!(workspace.peak_memory() <= memory_limit, "{what}: {}", workspace.peak_memory());
        from = Instant::now();
    };

    let workspace = open_with(&runtime, &place);
    let summary = workspace.summarize().expect("counted");
    assert_eq!((summary.entries, summary.bytes, summary.unusable_count), (count, None, 0));
    assert_eq!(workspace.lock_status().expect("looked at"), LockStatus::Free);
    step("status", count, &workspace);

    let workspace = open_with(&runtime, &place);
    let summary = workspace.check_entries().expect("counted");
    assert_eq!((summary.entries, summary.bytes), (count, Some(count * MINIMAL.len() as u64)));
    step("status --check", count, &workspace);

    for limits in [
        Limits { max_entries: Some(SOME), max_bytes: None },
        Limits { max_entries: None, max_bytes: Some(SOME * MINIMAL.len() as u64) },
    ] {
        let workspace = open_with(&runtime, &place);
        let snapshot = workspace.snapshot(limits).expect("taken");
        let ids = snapshot.ids().expect("listed");
        assert_eq!((ids.first(), ids.last()), (Some(&id(0)), Some(&id(SOME - 1))));
        assert_eq!(snapshot.left().expect("counted"), count - SOME);
        step("capped snapshot", count, &workspace);
    }

    let workspace = open_with(&runtime, &place);
    let snapshot = workspace.snapshot(Limits::default()).expect("taken");
    assert_eq!(snapshot.len().expect("counted"), count);
    step("snapshot", count, &workspace);

    let workspace = open_with(&runtime, &place);
    let mut counting = Counting::default();
    let done = workspace.consolidate(&capped(SOME), &mut counting).expect("consolidated");
    assert_eq!((done.entries, done.removed, done.left), (SOME, SOME, count - SOME));
    step("capped run", count, &workspace);

    let workspace = open_with(&runtime, &place);
    for chunk in payloads(SOME).chunks(100) {
        workspace.stage_many(chunk, None).expect("staged");
    }
    step("stage", SOME, &workspace);

    let workspace = open_with(&runtime, &place);
    let lock = workspace.acquire(POD).expect("the lock is free");
    let snapshot = lock.snapshot(Limits { max_entries: Some(SOME), max_bytes: None }).expect("taken");
    while !snapshot.next_batch(1_000, u64::MAX).expect("read").done {}
    lock.record_snapshot(&snapshot).expect("recorded");
    drop(snapshot);
    step("list and read a part", count, &workspace);
    assert_eq!(lock.release_with_cleanup().expect("released").removed, SOME);
    step("cleanup", SOME, &workspace);

    let workspace = open_with(&runtime, &place);
    let options = ConsolidateOptions { drain: true, ..ConsolidateOptions::new(POD) };
    let done = workspace.consolidate(&options, &mut counting).expect("consolidated");
    assert_eq!((done.entries, done.removed, done.left), (count - SOME, count - SOME, 0));
    step("drain", count - SOME, &workspace);
    assert_eq!(counting.0, count);
    assert_eq!(place.visible().len(), 0);
}

#[test]
fn twenty_thousand_entries_fit_into_little_memory() {
    everything_fits(20_000, 6 * MIB);
}

#[test]
#[ignore = "makes a million files; see the head of this file"]
fn million_entries_fit_into_64_mib() {
    let counts = std::env::var("CONSOLIDATION_SCALE").unwrap_or_else(|_| "1000000".into());
    for count in counts.split(',') {
        everything_fits(count.parse().expect("a number"), 64 * MIB);
    }
}

#[test]
fn status_needs_no_more_memory_for_more_entries() {
    let peak = |count| {
        let place = with_entries(count);
        let workspace = open_limited(&place, 64 * MIB);
        assert_eq!(workspace.summarize().expect("counted").entries, count);
        assert_eq!(workspace.lock_status().expect("looked at"), LockStatus::Free);
        workspace.peak_memory()
    };
    assert_eq!(peak(20_000), peak(10));
}

/// The lock of a holder that names very many entries: its state is told without holding what it says.
#[test]
fn status_of_a_lock_needs_no_more_memory_for_more_ids() {
    let peak = |count: u64| {
        let place = TestWorkspace::with_staging();
        let holder = open_limited(&place, 256 * MIB);
        let lock = holder.acquire(POD).expect("the lock is free");
        let ids: Vec<String> = (0..count).map(id).collect();
        lock.record_consumed(&ids).expect("recorded");
        let workspace = open_limited(&place, 64 * MIB);
        let LockStatus::Held(holder) = workspace.lock_status().expect("looked at") else {
            panic!("it is held");
        };
        assert_eq!(holder.consumed_count, count);
        lock.release_only(None).expect("released");
        workspace.peak_memory()
    };
    assert!(peak(200_000) <= peak(1) + MIB / 4);
}

/// Unusable files at the head of a directory, and a cap: what is behind them is found, in the same snapshot.
#[test]
fn capped_run_gets_past_more_unusable_files_than_its_cap() {
    let place = TestWorkspace::with_staging();
    for number in 0..700 {
        fs::write(place.staged(&format!("{}.json", id(number))), "no entry").expect("written");
    }
    for number in 700..720 {
        fs::write(place.staged(&format!("{}.json", id(number))), MINIMAL).expect("written");
    }
    let workspace = open_limited(&place, 64 * MIB);
    let options = ConsolidateOptions { batch_entries: 3, ..capped(5) };
    let mut counting = Counting::default();
    let done = workspace.consolidate(&options, &mut counting).expect("consolidated");
    assert_eq!((done.entries, done.left, done.unusable.len(), counting.0), (5, 15, 700, 5));
    let options = ConsolidateOptions { drain: true, ..options };
    let done = workspace.consolidate(&options, &mut counting).expect("consolidated");
    assert_eq!((done.entries, done.left, done.unusable.len(), counting.0), (15, 0, 700, 20));
    assert_eq!((done.runs.len(), place.visible().len()), (3, 700));
}

#[test]
fn cap_on_bytes_is_kept_by_all_runs_of_a_call_together() {
    let size = MINIMAL.len() as u64;
    for (max_bytes, taken) in [(size * 25 + 1, 25), (size * 30, 30), (1, 1)] {
        let place = with_entries(40);
        let workspace = open_limited(&place, 64 * MIB);
        let limits = Limits { max_entries: None, max_bytes: Some(max_bytes) };
        // One that reads files is committed after each batch that changes something; this one changes nothing,
        // so the parts come from the cap on what one run takes.
        let options = ConsolidateOptions { limits, batch_entries: 10, ..ConsolidateOptions::new(POD) };
        let done = workspace.consolidate(&options, &mut Counting::default()).expect("consolidated");
        assert_eq!((done.entries, done.left), (taken, 40 - taken));
    }
}

#[test]
fn what_is_staged_while_it_works_waits_for_the_next_run_unless_it_drains() {
    struct Staging<'a>(&'a Workspace);
    impl Consolidator for Staging<'_> {
        fn name(&self) -> String {
            "staging 1.0".into()
        }

        fn consolidate(&mut self, batch: &[Entry], _: &Draft<'_>) -> Result<Vec<Update>, ConsolidatorError> {
            self.0.stage_many(&payloads(batch.len() as u64 / 2), None).expect("staged");
            Ok(Vec::new())
        }
    }
    let place = with_entries(8);
    let workspace = open_limited(&place, 64 * MIB);
    let options = ConsolidateOptions::new(POD);
    let done = workspace.consolidate(&options, &mut Staging(&workspace)).expect("consolidated");
    assert_eq!((done.entries, done.runs.len(), place.visible().len()), (8, 1, 4));
    let options = ConsolidateOptions { drain: true, ..options };
    let done = workspace.consolidate(&options, &mut Staging(&workspace)).expect("consolidated");
    assert_eq!((done.entries, done.runs.len(), place.visible().len()), (4 + 2 + 1, 3, 0));
}
