//! How often each operation calls the file system: a call more is a decision, and is explained in
//! `docs/performance.md`.

use crate::support::TestWorkspace;
use crate::support::faulty::{Faults, FaultyDir};
use crate::support::system::{TestSystem, World};
use consolidation_guest::durable::Durability;
use consolidation_guest::layout::EntryId;
use consolidation_guest::lock::{AcquireOptions, Held};
use consolidation_guest::staging::Limits;
use consolidation_guest::workspace::Workspace;
use std::collections::BTreeMap;

const PAYLOAD: &str = r#"{"source": {"segment_id": "conv-1/session-1", "range": [0, 17]}}"#;

/// A pod in a workspace that has seen a run, so that nothing has to be created.
struct Pod {
    _workspace: TestWorkspace,
    faults: Faults,
    rules: Workspace<FaultyDir, TestSystem>,
}

impl Pod {
    fn new() -> Self {
        let (workspace, faults) = (TestWorkspace::new(), Faults::none());
        let rules = workspace.open_faulty(&World::new().start(4242), &faults);
        let pod = Pod { _workspace: workspace, faults, rules };
        let ids = pod.stage(1);
        pod.acquire_for(ids).release_with_cleanup().expect("released");
        pod
    }

    fn stage(&self, entries: usize) -> Vec<EntryId> {
        self.rules.stage(&vec![PAYLOAD; entries], None, Durability::Full).expect("staged")
    }

    fn acquire(&self) -> Held<FaultyDir, TestSystem> {
        let options = AcquireOptions { pod_name: "pod-a".into(), ..AcquireOptions::default() };
        self.rules.acquire(&options).expect("the lock is free").0
    }

    fn acquire_for(&self, ids: Vec<EntryId>) -> Held<FaultyDir, TestSystem> {
        let mut lock = self.acquire();
        self.rules.record_consumed(&mut lock, ids).expect("recorded");
        lock
    }

    /// The calls of an operation, the most frequent first.
    fn calls_of<T>(&self, operation: impl FnOnce() -> T) -> String {
        let before = self.faults.calls().len();
        operation();
        let mut counts = BTreeMap::new();
        for call in &self.faults.calls()[before..] {
            *counts.entry(format!("{:?}", call.op)).or_insert(0) += 1;
        }
        let mut counts: Vec<(String, u32)> = counts.into_iter().collect();
        counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        let counts: Vec<String> = counts.iter().map(|(op, count)| format!("{count} {op}")).collect();
        counts.join(", ")
    }
}

#[test]
fn taking_the_lock_and_releasing_it_makes_just_these_calls() {
    let pod = Pod::new();
    let mut lock = None;
    insta::assert_snapshot!(pod.calls_of(|| lock = Some(pod.acquire())), @"4 OpenDir, 3 List, 1 Create, 1 Link, 1 Stat, 1 Write");
    insta::assert_snapshot!(pod.calls_of(|| lock.take().map(|lock| lock.release_only(None))), @"2 Unlink, 1 Open, 1 Read, 1 Stat");
}

#[test]
fn staging_makes_just_these_calls() {
    let pod = Pod::new();
    insta::assert_snapshot!(pod.calls_of(|| pod.stage(1)), @"1 Create, 1 OpenDir, 1 Rename, 1 Sync, 1 SyncNames, 1 Write");
    insta::assert_snapshot!(pod.calls_of(|| pod.stage(11)), @"11 Create, 11 Rename, 11 Sync, 11 Write, 1 OpenDir, 1 SyncNames");
    let unsynchronised = || pod.rules.stage(&[PAYLOAD], None, Durability::None).expect("staged");
    insta::assert_snapshot!(pod.calls_of(unsynchronised), @"1 Create, 1 OpenDir, 1 Rename, 1 Write");
}

#[test]
fn looking_at_a_workspace_makes_just_these_calls() {
    let pod = Pod::new();
    pod.stage(10);
    insta::assert_snapshot!(pod.calls_of(|| pod.rules.lock_status().expect("looked at")), @"2 OpenDir, 2 Stat, 1 List");
    insta::assert_snapshot!(pod.calls_of(|| pod.rules.summarize().expect("counted")), @"4 OpenDir, 2 List");
    insta::assert_snapshot!(pod.calls_of(|| pod.rules.check_entries().expect("read")), @"10 Open, 10 Read, 10 Stat, 4 OpenDir, 2 List");
}

#[test]
fn reading_what_is_staged_makes_just_these_calls() {
    let pod = Pod::new();
    pod.stage(10);
    let read = || {
        let mut snapshot = pod.rules.take_snapshot(Limits::default()).expect("taken");
        assert_eq!(snapshot.next_batch(100, 1 << 20).entries.len(), 10);
    };
    insta::assert_snapshot!(pod.calls_of(read), @"10 Open, 10 Read, 10 Stat, 3 OpenDir, 2 List");
}

#[test]
fn consuming_makes_just_these_calls() {
    let pod = Pod::new();
    let consume = |entries| {
        let ids = pod.stage(entries);
        let mut lock = pod.acquire();
        let named = pod.calls_of(|| pod.rules.record_consumed(&mut lock, ids).expect("recorded"));
        let released = pod.calls_of(|| lock.release_with_cleanup().expect("released"));
        format!("{named}; {released}")
    };
    insta::assert_snapshot!(consume(1), @"3 Stat, 1 Create, 1 Open, 1 Read, 1 Rename, 1 Write; 4 Unlink, 3 OpenDir, 3 Stat, 2 Open, 2 Read, 2 Rename, 2 SyncNames, 1 Create, 1 List, 1 Sync, 1 Write");
    insta::assert_snapshot!(consume(11), @"3 Stat, 1 Create, 1 Open, 1 Read, 1 Rename, 1 Write; 14 Unlink, 3 OpenDir, 3 Stat, 2 Open, 2 Read, 2 Rename, 2 SyncNames, 1 Create, 1 List, 1 Sync, 1 Write");
}
