//! The gates: when it is worth to run, by names, sizes and times alone.

use crate::support::faulty::{Fault, Faults, Op};
use crate::support::system::{TestSystem, World};
use crate::support::{MINIMAL, TestWorkspace, entry_id, names};
use consolidation_guest::error::{ErrorCode, Owner};
use consolidation_guest::fs::{FsErrorKind, Time};
use consolidation_guest::gate::Gates;
use consolidation_guest::layout::{EntryId, Progress, RUNS, UNFINISHED_PATH};
use consolidation_guest::native::NativeDir;
use consolidation_guest::outcome::{Ending, Outcome};
use consolidation_guest::workspace::Workspace;
use std::fs;

/// What the clock shows, in milliseconds since 1970.
const NOW: u64 = 1_760_000_000_000;
const MINUTE: u64 = 60_000;

fn time(millis: u64) -> Time {
    Time::from_nanos(i128::from(millis) * 1_000_000)
}

fn open(workspace: &TestWorkspace) -> Workspace<NativeDir, TestSystem> {
    let world = World::new();
    world.set_clock(time(NOW));
    workspace.open(&world.start(1))
}

/// Why the gates are closed; empty if they are open.
#[track_caller]
fn closed(workspace: &TestWorkspace, gates: Gates) -> String {
    open(workspace).closed_gate(&gates).expect("asked").unwrap_or_default()
}

impl TestWorkspace {
    fn put_entry_of(&self, millis: u64) -> EntryId {
        let id = entry_id(millis, 1);
        self.put(&id.file_name(), MINIMAL);
        id
    }

    fn put_ended_run(&self, run: EntryId, ending: Ending, ended_at: u64) {
        let outcome = Outcome::new(run, ending, Owner::unknown(), time(ended_at), Vec::new());
        self.put_ended_run_text(&run.file_name(), outcome.to_file());
    }

    fn put_ended_run_text(&self, name: &str, content: impl AsRef<[u8]>) {
        fs::create_dir_all(self.root().join(UNFINISHED_PATH)).expect("a directory");
        fs::write(self.root().join(RUNS).join(name), content).expect("written");
    }
}

fn entries(min: u64) -> Gates {
    Gates { min_entries: Some(min), ..Gates::default() }
}

fn bytes(min: u64) -> Gates {
    Gates { min_bytes: Some(min), ..Gates::default() }
}

fn age(min: u64) -> Gates {
    Gates { min_age_ms: Some(min), ..Gates::default() }
}

fn interval(min: u64) -> Gates {
    Gates { min_interval_ms: Some(min), ..Gates::default() }
}

#[test]
fn no_gate_is_open_and_asking_creates_nothing() {
    let workspace = TestWorkspace::new();
    assert_eq!(closed(&workspace, Gates::default()), "");
    for gates in [entries(0), bytes(0), age(0), interval(0), interval(u64::MAX)] {
        assert_eq!(closed(&workspace, gates), "", "{gates:?}");
    }
    assert_eq!(names(workspace.root()), [] as [String; 0]);
}

#[test]
fn entries_are_counted_by_name_and_type_and_none_is_read() {
    let workspace = TestWorkspace::with_staging();
    assert_eq!(closed(&workspace, entries(1)), "0 entries are staged, the gate asks for 1");
    workspace.put_entry_of(1);
    assert_eq!(closed(&workspace, entries(2)), "1 entry is staged, the gate asks for 2");
    workspace.put_entry_of(2);
    workspace.put(&entry_id(3, 1).file_name(), "no entry inside");
    workspace.put("notes.json", "");
    fs::create_dir(workspace.staged(&entry_id(4, 1).file_name())).expect("a directory");
    assert_eq!(closed(&workspace, entries(10)), "3 entries are staged, the gate asks for 10");
    assert_eq!(closed(&workspace, entries(3)), "");
    let faults = Faults::none();
    let pod = workspace.open_faulty(&World::new().start(1), &faults);
    let gates = Gates { min_bytes: Some(1_000), min_age_ms: Some(1), ..entries(10) };
    assert!(pod.closed_gate(&gates).expect("asked").is_some());
    assert!(!faults.calls().iter().any(|call| matches!(call.op, Op::Open | Op::Read)), "nothing is read");
}

#[test]
fn quarantined_and_consumed_entries_count_for_nothing() {
    let workspace = TestWorkspace::with_staging();
    let (consumed, aside) = (workspace.put_entry_of(1), entry_id(2, 1));
    workspace.put_entry_of(NOW - 5_000);
    fs::create_dir(workspace.staged("quarantine")).expect("a directory");
    fs::write(workspace.staged("quarantine").join(aside.file_name()), MINIMAL).expect("written");
    let run = entry_id(5, 1);
    let outcome = Outcome::new(run, Ending::Consolidated, Owner::unknown(), time(5), vec![consumed]);
    workspace
        .put_ended_run_text(&format!(".unfinished/{}", Progress::Committed.name(run)), outcome.to_file());
    assert_eq!(closed(&workspace, entries(2)), "1 entry is staged, the gate asks for 2");
    assert_eq!(closed(&workspace, age(MINUTE)), "the oldest entry is 5 s old, the gate asks for 1 min");
    let size = MINIMAL.len() as u64;
    let sentence = format!("{size} bytes are staged, the gate asks for {}", size + 1);
    assert_eq!(closed(&workspace, bytes(size + 1)), sentence);
}

#[test]
fn bytes_are_those_of_the_files() {
    let workspace = TestWorkspace::new();
    assert_eq!(closed(&workspace, bytes(1)), "0 bytes are staged, the gate asks for 1");
    workspace.put(&entry_id(1, 1).file_name(), "x");
    assert_eq!(closed(&workspace, bytes(2)), "1 byte is staged, the gate asks for 2");
    workspace.put(&entry_id(2, 1).file_name(), "x".repeat(99));
    assert_eq!(closed(&workspace, bytes(101)), "100 bytes are staged, the gate asks for 101");
    assert_eq!(closed(&workspace, bytes(100)), "");
    assert_eq!(
        closed(&workspace, bytes(u64::MAX)),
        format!("100 bytes are staged, the gate asks for {}", u64::MAX)
    );
}

/// Files that go between the listing and the look count for nothing.
#[test]
fn entry_that_vanishes_meanwhile_is_no_error() {
    let workspace = TestWorkspace::new();
    workspace.put_entry_of(1);
    let faults = Faults::by(|_, call| {
        let vanished = call.op == Op::Stat && call.path.ends_with(".json");
        if vanished { Fault::Refuse(FsErrorKind::NotFound) } else { Fault::Pass }
    });
    let pod = workspace.open_faulty(&World::new().start(1), &faults);
    let sentence = pod.closed_gate(&bytes(1)).expect("asked").expect("closed");
    assert_eq!(sentence, "0 bytes are staged, the gate asks for 1");
}

#[test]
fn age_is_that_of_the_oldest_entry() {
    let workspace = TestWorkspace::new();
    assert_eq!(
        closed(&workspace, age(MINUTE)),
        "no entry is staged, the gate asks for one that is 1 min old"
    );
    workspace.put_entry_of(NOW - 1);
    workspace.put_entry_of(NOW - 90_500);
    assert_eq!(
        closed(&workspace, age(2 * MINUTE)),
        "the oldest entry is 1 min 30 s old, the gate asks for 2 min"
    );
    assert_eq!(
        closed(&workspace, age(90_501)),
        "the oldest entry is 1 min 30.5 s old, the gate asks for 1 min 30.501 s"
    );
    assert_eq!(closed(&workspace, age(90_500)), "");
    assert_eq!(closed(&workspace, age(MINUTE)), "");
}

#[test]
fn interval_is_counted_from_the_end_of_the_last_consolidated_run() {
    let workspace = TestWorkspace::new();
    workspace.put_ended_run(entry_id(NOW - 90 * MINUTE, 1), Ending::Consolidated, NOW - 80 * MINUTE);
    workspace.put_ended_run(entry_id(NOW - 70 * MINUTE, 1), Ending::Consolidated, NOW - 61 * MINUTE);
    for (minutes, ending) in
        [(5, Ending::Failed), (4, Ending::Aborted), (3, Ending::Unlocked), (2, Ending::Undone)]
    {
        workspace.put_ended_run(entry_id(NOW - minutes * MINUTE, 1), ending, NOW - minutes * MINUTE);
    }
    assert_eq!(
        closed(&workspace, interval(62 * MINUTE)),
        "the last run ended 1 h 1 min ago, the gate asks for 1 h 2 min"
    );
    assert_eq!(closed(&workspace, interval(61 * MINUTE)), "");
    let day = 24 * 60 * MINUTE;
    assert_eq!(
        closed(&workspace, interval(2 * day)),
        "the last run ended 1 h 1 min ago, the gate asks for 2 d"
    );
}

#[test]
fn run_that_is_committed_and_not_ended_counts() {
    let workspace = TestWorkspace::new();
    let run = entry_id(NOW - MINUTE, 1);
    let outcome = Outcome::new(run, Ending::Consolidated, Owner::unknown(), time(NOW - 1_500), Vec::new());
    workspace
        .put_ended_run_text(&format!(".unfinished/{}", Progress::Committed.name(run)), outcome.to_file());
    assert_eq!(closed(&workspace, interval(2_000)), "the last run ended 1 s ago, the gate asks for 2 s");
}

#[test]
fn runs_whose_outcome_cannot_be_read_are_passed_over() {
    let workspace = TestWorkspace::new();
    workspace.put_ended_run(entry_id(NOW - 10 * MINUTE, 1), Ending::Consolidated, NOW - 9 * MINUTE);
    workspace.put_ended_run_text(&entry_id(NOW - 5, 1).file_name(), "torn");
    workspace.put_ended_run_text(&entry_id(NOW - 4, 1).file_name(), "");
    let no_time =
        Outcome::new(entry_id(NOW - 3, 1), Ending::Consolidated, Owner::unknown(), time(0), Vec::new());
    let no_time = Outcome { ended_at: "yesterday".into(), ..no_time };
    workspace.put_ended_run_text(&entry_id(NOW - 3, 1).file_name(), no_time.to_file());
    let sentence = "the last run ended 9 min ago, the gate asks for 10 min";
    assert_eq!(closed(&workspace, interval(10 * MINUTE)), sentence);
    // One that can't be opened at all, too.
    let unreadable = entry_id(NOW - 2, 1);
    workspace.put_ended_run(unreadable, Ending::Consolidated, NOW - 2);
    let faults = Faults::by(move |_, call| {
        let fails = call.op == Op::Open && call.path.contains(&unreadable.to_string());
        if fails { Fault::Refuse(FsErrorKind::Access) } else { Fault::Pass }
    });
    let world = World::new();
    world.set_clock(time(NOW));
    let pod = workspace.open_faulty(&world.start(1), &faults);
    assert_eq!(pod.closed_gate(&interval(10 * MINUTE)).expect("asked").as_deref(), Some(sentence));
}

#[test]
fn last_consolidated_run_is_looked_for_among_the_newest_hundred() {
    for (failed, is_closed) in [(99, true), (100, false)] {
        let workspace = TestWorkspace::new();
        workspace.put_ended_run(entry_id(NOW - MINUTE, 0), Ending::Consolidated, NOW - MINUTE);
        for number in 1..=failed {
            workspace.put_ended_run(entry_id(NOW - MINUTE, number), Ending::Failed, NOW - MINUTE);
        }
        assert_eq!(!closed(&workspace, interval(2 * MINUTE)).is_empty(), is_closed, "{failed}");
    }
}

#[test]
fn newest_consolidated_run_is_the_only_one_that_is_read() {
    let workspace = TestWorkspace::new();
    for number in 0..50 {
        workspace.put_ended_run(entry_id(NOW - MINUTE, number), Ending::Consolidated, NOW - MINUTE);
    }
    let faults = Faults::none();
    let pod = workspace.open_faulty(&World::new().start(1), &faults);
    pod.closed_gate(&interval(MINUTE)).expect("asked");
    assert_eq!(faults.calls().iter().filter(|call| call.op == Op::Open).count(), 1);
}

#[test]
fn clock_that_was_put_back_keeps_no_gate_closed() {
    let workspace = TestWorkspace::new();
    let future = NOW + 365 * 24 * 60 * MINUTE;
    workspace.put_entry_of(future);
    workspace.put_ended_run(entry_id(NOW - MINUTE, 1), Ending::Consolidated, NOW - MINUTE);
    assert!(!closed(&workspace, interval(2 * MINUTE)).is_empty());
    workspace.put_ended_run(entry_id(future, 1), Ending::Consolidated, future);
    assert_eq!(closed(&workspace, interval(2 * MINUTE)), "");
    assert_eq!(closed(&workspace, age(MINUTE)), "");
    workspace.put_entry_of(NOW);
    assert_eq!(closed(&workspace, age(MINUTE)), "the oldest entry is 0 s old, the gate asks for 1 min");
}

#[test]
fn every_closed_gate_is_named_and_all_must_be_open() {
    let workspace = TestWorkspace::new();
    workspace.put_entry_of(NOW - 1_000);
    workspace.put_ended_run(entry_id(NOW - 3_000, 1), Ending::Consolidated, NOW - 2_000);
    let size = MINIMAL.len() as u64;
    let all = Gates {
        min_entries: Some(2),
        min_bytes: Some(size + 1),
        min_age_ms: Some(2_000),
        min_interval_ms: Some(3_000),
    };
    assert_eq!(
        closed(&workspace, all),
        format!(
            "1 entry is staged, the gate asks for 2; {size} bytes are staged, the gate asks for {}; the oldest entry is 1 s old, the gate asks for 2 s; the last run ended 2 s ago, the gate asks for 3 s",
            size + 1
        )
    );
    let open = Gates {
        min_entries: Some(1),
        min_bytes: Some(size),
        min_age_ms: Some(1_000),
        min_interval_ms: Some(2_000),
    };
    assert_eq!(closed(&workspace, open), "");
    for one in [
        Gates { min_entries: all.min_entries, ..open },
        Gates { min_bytes: all.min_bytes, ..open },
        Gates { min_age_ms: all.min_age_ms, ..open },
        Gates { min_interval_ms: all.min_interval_ms, ..open },
    ] {
        let sentence = closed(&workspace, one);
        assert_eq!(sentence.matches("the gate asks for").count(), 1, "{sentence}");
    }
}

#[test]
fn listing_that_fails_is_an_error_and_no_open_gate() {
    let workspace = TestWorkspace::new();
    workspace.put_entry_of(1);
    workspace.put_ended_run(entry_id(1, 1), Ending::Consolidated, 1);
    for (gates, path) in [(entries(1), "_staging"), (interval(1), "runs")] {
        let faults = Faults::by(move |_, call| {
            let fails = call.op == Op::List && call.path == path;
            if fails { Fault::Refuse(FsErrorKind::Io) } else { Fault::Pass }
        });
        let pod = workspace.open_faulty(&World::new().start(1), &faults);
        let error = pod.closed_gate(&gates).expect_err("cut short");
        assert_eq!((error.code, error.path.as_deref()), (ErrorCode::Io, Some(path)), "{error}");
    }
}
