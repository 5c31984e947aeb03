//! One process, many threads: locks exclude, handles are shared and passed on, async code gets along.

use super::{POD, open, open_with, payload, payloads, read_all, refused};
use crate::support::TestWorkspace;
use consolidation_host::{
    AcquireOptions, Error, ErrorCode, Limits, Lock, LockSnapshot, Runtime, RuntimeBuilder, Snapshot,
    Workspace,
};
use std::collections::BTreeSet;
use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

#[test]
fn handles_can_be_shared_between_threads_and_passed_on() {
    fn passed_on<T: Send>() {}
    fn shared<T: Sync>() {}
    passed_on::<Runtime>();
    passed_on::<RuntimeBuilder>();
    passed_on::<Workspace>();
    passed_on::<Lock>();
    passed_on::<Snapshot<'_>>();
    passed_on::<LockSnapshot<'_>>();
    passed_on::<Error>();
    passed_on::<AcquireOptions>();
    shared::<Runtime>();
    shared::<RuntimeBuilder>();
    shared::<Workspace>();
    shared::<Lock>();
    shared::<Snapshot<'_>>();
    shared::<LockSnapshot<'_>>();
    shared::<Error>();
}

/// Takes the lock, waiting for as long as it takes.
fn take(workspace: &Workspace, pod: &str) -> Lock {
    loop {
        match workspace.acquire(pod) {
            Ok(lock) => return lock,
            Err(error) => assert_eq!(error.code(), ErrorCode::InUse, "{error}"),
        }
        thread::sleep(Duration::from_millis(1));
    }
}

/// Some share a handle, some a runtime, some nothing.
#[test]
fn locks_of_many_threads_never_overlap() {
    const THREADS: usize = 8;
    const ROUNDS: usize = 25;
    let place = TestWorkspace::new();
    let shared = open(&place);
    let runtime = Runtime::new().expect("a runtime");
    let (inside, taken) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let start = Barrier::new(THREADS);
    thread::scope(|scope| {
        for number in 0..THREADS {
            let workspace = match number % 4 {
                0 | 1 => shared.clone(),
                2 => open_with(&runtime, &place),
                _ => open_with(&Runtime::new().expect("a runtime"), &place),
            };
            let (inside, taken, start) = (&inside, &taken, &start);
            scope.spawn(move || {
                let pod = format!("pod-{number}");
                start.wait();
                for _ in 0..ROUNDS {
                    let lock = take(&workspace, &pod);
                    assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0, "another one holds it too");
                    assert_eq!(lock.record().expect("the record is at hand").pod_name, pod);
                    thread::yield_now();
                    inside.fetch_sub(1, Ordering::SeqCst);
                    lock.release_only(None).expect("it is released");
                    taken.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
    });
    assert_eq!(taken.into_inner(), THREADS * ROUNDS);
    place.assert_nothing_left();
}

#[test]
fn stale_lock_is_taken_over_by_one_of_many_threads() {
    const THREADS: usize = 8;
    for _ in 0..10 {
        let place = TestWorkspace::new();
        place.put(".consolidation.lock", crate::support::original_record(u32::MAX, "pod-a", &[]));
        let start = Barrier::new(THREADS);
        let locks: Vec<Option<Lock>> = thread::scope(|scope| {
            let threads: Vec<_> = (0..THREADS)
                .map(|_| {
                    let (workspace, start) = (open(&place), &start);
                    scope.spawn(move || {
                        start.wait();
                        match workspace.acquire(POD) {
                            Ok(lock) => Some(lock),
                            Err(error) if error.code() == ErrorCode::InUse => None,
                            Err(error) => panic!("{error}"),
                        }
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().expect("it does not panic")).collect()
        });
        let mut winners = locks.into_iter().flatten();
        let winner = winners.next().expect("one has it");
        assert!(winners.next().is_none(), "two have it");
        assert!(winner.took_over().is_some());
        winner.release_only(None).expect("it is released");
        place.assert_nothing_left();
    }
}

#[test]
fn many_workspaces_share_a_runtime() {
    let runtime = Runtime::new().expect("a runtime");
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..10 {
                    let place = TestWorkspace::new();
                    let workspace = open_with(&runtime, &place);
                    let ids = workspace.stage_many(&payloads(5), None).expect("staged");
                    let lock = workspace.acquire(POD).expect("nobody else comes here");
                    let snapshot = lock.snapshot(Limits::default()).expect("taken");
                    assert_eq!(snapshot.ids().expect("listed"), ids);
                    read_all(&snapshot);
                    lock.record_snapshot(&snapshot).expect("recorded");
                    drop(snapshot);
                    assert_eq!(lock.release_with_cleanup().expect("it is released").removed, 5);
                    place.assert_nothing_left();
                }
            });
        }
    });
}

#[test]
fn threads_that_stage_through_one_handle_lose_nothing() {
    const THREADS: u64 = 6;
    const EACH: u64 = 40;
    let place = TestWorkspace::new();
    let workspace = open(&place);
    let staged: Vec<Vec<String>> = thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|thread| {
                let workspace = &workspace;
                scope.spawn(move || {
                    let stage = |number| workspace.stage(&payload(thread * EACH + number)).expect("staged");
                    (0..EACH).map(stage).collect::<Vec<_>>()
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().expect("it does not panic")).collect()
    });
    let ids: BTreeSet<&String> = staged.iter().flatten().collect();
    assert_eq!(ids.len() as u64, THREADS * EACH, "every id is given once");
    assert!(workspace.list().expect("listed").iter().eq(ids));
    assert_eq!(workspace.check_entries().expect("counted").unusable, []);
}

#[test]
fn entries_staged_during_a_run_are_neither_lost_nor_consumed_unseen() {
    let place = TestWorkspace::new();
    let workspace = open(&place);
    let seen = thread::scope(|scope| {
        let producer = scope.spawn(|| {
            let other = open(&place);
            (0..200).map(|number| other.stage(&payload(number)).expect("staged")).collect::<BTreeSet<_>>()
        });
        let mut seen = BTreeSet::new();
        while !producer.is_finished() {
            consume(&workspace, &mut seen);
        }
        consume(&workspace, &mut seen);
        assert_eq!(seen, producer.join().expect("it does not panic"));
        seen
    });
    assert_eq!(seen.len(), 200);
    assert_eq!(workspace.list().expect("listed"), [] as [String; 0]);
}

fn consume(workspace: &Workspace, seen: &mut BTreeSet<String>) {
    let lock = workspace.acquire(POD).expect("nobody else takes it");
    let snapshot = lock.snapshot(Limits::default()).expect("taken");
    loop {
        let batch = snapshot.next_batch(16, 1 << 20).expect("read");
        for entry in batch.entries {
            assert!(seen.insert(entry.id), "no entry comes twice");
        }
        if batch.done {
            break;
        }
    }
    lock.record_snapshot(&snapshot).expect("recorded");
    drop(snapshot);
    assert_eq!(lock.release_with_cleanup().expect("it is released").failed, []);
}

#[test]
fn lock_is_released_by_another_thread_than_took_it() {
    let place = TestWorkspace::new();
    let workspace = open(&place);
    let id = workspace.stage(&payload(1)).expect("staged");
    let lock = thread::spawn(move || workspace.acquire(POD).expect("the lock is free"))
        .join()
        .expect("it does not panic");
    lock.record_consumed(&[id]).expect("recorded");
    let report = thread::spawn(move || lock.release_with_cleanup().expect("it is released"))
        .join()
        .expect("it does not panic");
    assert_eq!(report.removed, 1);
}

#[test]
fn lock_and_snapshot_are_used_by_several_threads_at_once() {
    let place = TestWorkspace::new();
    let workspace = open(&place);
    let ids = workspace.stage_many(&payloads(100), None).expect("staged");
    let lock = workspace.acquire(POD).expect("the lock is free");
    let snapshot = lock.snapshot(Limits::default()).expect("taken");
    let mut seen: Vec<String> = thread::scope(|scope| {
        let readers: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let mut seen = Vec::new();
                    loop {
                        let batch = snapshot.next_batch(3, u64::MAX).expect("read");
                        seen.extend(batch.entries.into_iter().map(|entry| entry.id));
                        lock.record().expect("the record is at hand");
                        if batch.done {
                            return seen;
                        }
                    }
                })
            })
            .collect();
        readers.into_iter().flat_map(|reader| reader.join().expect("it does not panic")).collect()
    });
    seen.sort_unstable();
    assert_eq!(seen, ids, "each entry goes to one of them");
    drop(snapshot);
    lock.release_only(None).expect("it is released");
}

/// What an async program might do on its way, on whatever thread it is.
fn a_whole_run(place: &TestWorkspace) {
    let workspace = open(place);
    let id = workspace.stage(&payload(1)).expect("staged");
    let lock = workspace.acquire(POD).expect("the lock is free");
    refused(workspace.acquire(POD), ErrorCode::InUse);
    let snapshot = lock.snapshot(Limits::default()).expect("taken");
    assert_eq!(snapshot.next_batch(1, 1).expect("read").entries[0].id, id);
    lock.record_snapshot(&snapshot).expect("recorded");
    drop(snapshot);
    assert_eq!(lock.release_with_cleanup().expect("it is released").removed, 1);
    drop(workspace.snapshot(Limits::default()).expect("taken"));
}

#[test]
fn calls_work_inside_of_a_tokio_runtime() {
    let place = TestWorkspace::new();
    let current = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    current.block_on(async { a_whole_run(&place) });

    let many = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().expect("a runtime");
    many.block_on(async {
        a_whole_run(&place);
        let runs: Vec<_> = (0..4)
            .map(|number| {
                tokio::spawn(async move {
                    let place = TestWorkspace::new();
                    for _ in 0..5 {
                        a_whole_run(&place);
                    }
                    number
                })
            })
            .collect();
        for (number, run) in runs.into_iter().enumerate() {
            assert_eq!(run.await.expect("it does not panic"), number);
        }
        tokio::task::spawn_blocking(|| a_whole_run(&TestWorkspace::new())).await.expect("it does not panic");
    });
    // A handle may come out of it, and go on outside.
    let lock = many.block_on(async { open(&place).acquire(POD).expect("the lock is free") });
    lock.release_only(None).expect("it is released");
}

#[test]
fn lock_that_is_dropped_inside_of_a_tokio_runtime_is_left() {
    let place = TestWorkspace::new();
    let current = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    current.block_on(async {
        drop(open(&place).acquire(POD).expect("the lock is free"));
    });
    assert_eq!(place.lock_record().pod_name, POD);
}
