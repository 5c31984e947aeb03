//! Consolidation by a consolidator of the embedder's own: what it gets, what is consumed, and what becomes
//! of it when something fails.

use super::{POD, open, payload, payloads, refused, tree};
use crate::support::TestWorkspace;
use consolidation_host::{
    AcquireOptions, Cause, ConsolidateError, ConsolidateOptions, Consolidation, Consolidator,
    ConsolidatorError, Draft, Ending, Entry, ErrorCode, Gates, Limits, LockStatus, Observer, Progress,
    RecordStatus, Update, UpdateLimits, Workspace,
};
use std::collections::BTreeSet;
use std::fs;
use std::panic::{self, AssertUnwindSafe};
use std::time::Duration;

type Answer = Result<Vec<Update>, ConsolidatorError>;

/// A consolidator that is a closure.
struct Native<F>(F);

impl<F: FnMut(&[Entry], &Draft<'_>) -> Answer> Consolidator for Native<F> {
    fn name(&self) -> String {
        "native 1.0".into()
    }

    fn consolidate(&mut self, batch: &[Entry], memory: &Draft<'_>) -> Answer {
        (self.0)(batch, memory)
    }
}

/// One that notes the ids it gets and fails on these.
#[derive(Default)]
struct Noting {
    poison: BTreeSet<String>,
    calls: Vec<Vec<String>>,
    done: Vec<String>,
}

impl Noting {
    fn failing_on<'a>(ids: impl IntoIterator<Item = &'a String>) -> Self {
        Noting { poison: ids.into_iter().cloned().collect(), ..Noting::default() }
    }
}

impl Consolidator for Noting {
    fn name(&self) -> String {
        "noting 1.0".into()
    }

    fn consolidate(&mut self, batch: &[Entry], _: &Draft<'_>) -> Answer {
        let ids: Vec<String> = batch.iter().map(|entry| entry.id.clone()).collect();
        self.calls.push(ids.clone());
        if let Some(id) = ids.iter().find(|id| self.poison.contains(*id)) {
            return Err(ConsolidatorError::Batch(format!("can't digest {id}")));
        }
        self.done.extend(ids);
        Ok(Vec::new())
    }
}

fn options() -> ConsolidateOptions {
    ConsolidateOptions::new(POD)
}

fn stage(workspace: &Workspace, count: u64) -> Vec<String> {
    workspace.stage_many(&payloads(count), None).expect("staged")
}

fn update(slug: &str, body: &str) -> Update {
    Update {
        kind: "note".into(),
        slug: slug.into(),
        title: Some(format!("Note {slug}")),
        body: Some(body.into()),
        ..Update::default()
    }
}

/// The error, of a workspace that has neither lock nor flag any more.
#[track_caller]
fn failed(place: &TestWorkspace, result: Result<Consolidation, ConsolidateError>) -> ConsolidateError {
    let error = result.expect_err("it fails");
    place.assert_nothing_left();
    error
}

/// How the last run ended, and why.
#[track_caller]
fn last_run(workspace: &Workspace) -> (Ending, Option<String>) {
    let run = workspace.runs(1).expect("listed").runs.into_iter().next().expect("there is one");
    (run.ending, run.reason)
}

#[test]
fn everything_is_given_in_batches_and_consumed_by_one_run() {
    let place = TestWorkspace::new();
    let workspace = open(&place);
    let ids = stage(&workspace, 250);
    let mut consolidator = Noting::default();
    let done = workspace.consolidate(&options(), &mut consolidator).expect("it succeeds");
    assert_eq!(consolidator.calls.iter().map(Vec::len).collect::<Vec<_>>(), [100, 100, 50]);
    assert_eq!(consolidator.done, ids);
    assert_eq!((done.entries, done.removed, done.missing, done.left), (250, 250, 0, 0));
    assert_eq!((&done.skipped, done.failed.len(), done.lock_lost), (&None, 0, false));
    assert_eq!(done.runs.len(), 1);
    let run = workspace.run(&done.runs[0]).expect("it is known");
    assert_eq!((run.ending, run.entry_count), (Ending::Consolidated, 250));
    assert_eq!(workspace.list().expect("listed"), [] as [String; 0]);
    place.assert_nothing_left();
}

#[test]
fn nothing_staged_is_no_run_and_asks_nobody() {
    let place = TestWorkspace::new();
    place.put("notes.json", "");
    let workspace = open(&place);
    let mut consolidator = Noting::default();
    let done = workspace.consolidate(&options(), &mut consolidator).expect("it succeeds");
    assert_eq!((done.entries, done.runs.len(), consolidator.calls.len()), (0, 0, 0));
    assert_eq!(done.unusable.len(), 1);
    assert_eq!(workspace.runs(10).expect("listed").runs, []);
    place.assert_nothing_left();
}

#[test]
fn batches_have_the_size_that_is_asked_for() {
    let place = TestWorkspace::new();
    let workspace = open(&place);
    stage(&workspace, 7);
    let mut consolidator = Noting::default();
    let three = ConsolidateOptions { batch_entries: 3, ..options() };
    workspace.consolidate(&three, &mut consolidator).expect("it succeeds");
    assert_eq!(consolidator.calls.iter().map(Vec::len).collect::<Vec<_>>(), [3, 3, 1]);
    stage(&workspace, 3);
    let mut consolidator = Noting::default();
    let tiny = ConsolidateOptions { batch_bytes: 1, ..options() };
    workspace.consolidate(&tiny, &mut consolidator).expect("it succeeds");
    assert_eq!(consolidator.calls.iter().map(Vec::len).collect::<Vec<_>>(), [1, 1, 1]);
}

#[test]
fn entry_at_fault_is_found_left_out_and_blamed_alone() {
    let place = TestWorkspace::new();
    let workspace = open(&place);
    let ids = stage(&workspace, 230);
    let poison = [&ids[0], &ids[57], &ids[58], &ids[229]];
    let mut consolidator = Noting::failing_on(poison);
    let done = workspace.consolidate(&options(), &mut consolidator).expect("the others succeed");
    assert_eq!(done.entries, 226);
    assert_eq!(done.failed.iter().map(|failed| &failed.id).collect::<Vec<_>>(), poison);
    for failed in &done.failed {
        assert_eq!(failed.reason, format!("can't digest {}", failed.id));
        assert_eq!((failed.attempts, failed.quarantined), (1, false));
    }
    let others: Vec<String> = ids.iter().filter(|id| !poison.contains(id)).cloned().collect();
    assert_eq!(consolidator.done, others, "in their order");
    assert_eq!(workspace.list().expect("listed"), poison.map(Clone::clone));
    let run = &done.runs[0];
    assert_eq!(workspace.run_entries(run).expect("known").len(), 226);
    place.assert_nothing_left();
}

#[test]
fn entries_that_are_named_are_left_out_without_a_search() {
    let place = TestWorkspace::new();
    let workspace = open(&place);
    let ids = stage(&workspace, 8);
    let mut calls = 0;
    let at_fault = vec![ids[6].clone(), ids[1].clone(), "no id of an entry".into()];
    let done = workspace
        .consolidate(
            &options(),
            &mut Native(|batch: &[Entry], _: &Draft<'_>| {
                calls += 1;
                if batch.len() == 8 {
                    return Err(ConsolidatorError::Entries(at_fault.clone(), "not these".into()));
                }
                Ok(Vec::new())
            }),
        )
        .expect("the others succeed");
    assert_eq!((calls, done.entries), (2, 6));
    assert_eq!(workspace.list().expect("listed"), [ids[1].clone(), ids[6].clone()]);
    assert!(done.failed.iter().all(|failed| failed.reason == "not these" && failed.attempts == 1));
}

#[test]
fn consolidator_that_fails_on_everything_blames_three_entries_and_no_more() {
    let place = TestWorkspace::new();
    let workspace = open(&place);
    let ids = stage(&workspace, 150);
    let mut consolidator = Noting::failing_on(&ids);
    let error = failed(&place, workspace.consolidate(&options(), &mut consolidator));
    assert!(
        matches!(&error.cause, Cause::Failed(why) if why.contains("noting 1.0") && why.contains(&ids[2])),
        "{error}"
    );
    assert_eq!(
        error.done.failed.iter().map(|failed| &failed.id).collect::<Vec<_>>(),
        [&ids[0], &ids[1], &ids[2]]
    );
    assert!(error.done.failed.iter().all(|failed| failed.attempts == 1));
    assert_eq!((error.done.entries, error.done.runs.len()), (0, 0));
    assert_eq!(workspace.list().expect("listed"), ids);
    let (ending, reason) = last_run(&workspace);
    assert_eq!(ending, Ending::Failed);
    assert!(reason.is_some_and(|reason| reason.contains("failed on every entry")));
}

#[test]
fn only_entry_that_fails_is_counted_and_the_consolidation_has_failed() {
    let place = TestWorkspace::new();
    let workspace = open(&place);
    let ids = stage(&workspace, 1);
    for drain in [false, true] {
        let mut consolidator = Noting::failing_on(&ids);
        let result = workspace.consolidate(&ConsolidateOptions { drain, ..options() }, &mut consolidator);
        let error = failed(&place, result);
        assert!(matches!(error.cause, Cause::Failed(_)), "{error}");
        assert_eq!(error.done.failed.len(), 1);
        assert_eq!(consolidator.calls.len(), 1, "not tried again in one consolidation");
    }
    assert_eq!(workspace.list().expect("listed"), ids);
}

#[test]
fn entry_goes_to_the_quarantine_after_as_many_attempts_as_are_allowed() {
    let place = TestWorkspace::new();
    let workspace = open(&place);
    let ids = stage(&workspace, 1);
    for attempt in 1..=3 {
        stage(&workspace, 1);
        let done =
            workspace.consolidate(&options(), &mut Noting::failing_on(&ids)).expect("the other succeeds");
        assert_eq!(done.failed.len(), 1);
        assert_eq!((done.failed[0].attempts, done.failed[0].quarantined), (attempt, attempt == 3));
    }
    assert_eq!(workspace.list().expect("listed"), [] as [String; 0]);
    let quarantined = workspace.quarantined().expect("listed");
    assert_eq!((quarantined.len(), &quarantined[0].id, quarantined[0].attempts), (1, &ids[0], 3));
    assert_eq!(quarantined[0].reason, format!("can't digest {}", ids[0]));
    // Whoever mended the consolidator stages it again.
    workspace.retry_quarantined(&ids).expect("it is staged again");
    assert_eq!(workspace.consolidate(&options(), &mut Noting::default()).expect("it succeeds").entries, 1);
}

#[test]
fn what_is_nobodys_fault_blames_nobody_and_consumes_nothing() {
    let place = TestWorkspace::new();
    let workspace = open(&place);
    let ids = stage(&workspace, 6);
    type End = fn(String) -> ConsolidatorError;
    for (end, is_temporary) in
        [(ConsolidatorError::Temporary as End, true), (ConsolidatorError::Broken, false)]
    {
        let mut call = 0;
        let mut consolidator = Native(|_: &[Entry], _: &Draft<'_>| {
            call += 1;
            match call {
                1 => Ok(vec![update("one", "text")]),
                // An entry that fails on the way is not blamed either.
                2 => Err(ConsolidatorError::Batch("bad".into())),
                _ => Err(end("not now".into())),
            }
        });
        let options = ConsolidateOptions { batch_entries: 1, ..options() };
        let error = failed(&place, workspace.consolidate(&options, &mut consolidator));
        match &error.cause {
            Cause::Temporary(why) | Cause::Broken(why) => assert_eq!(why, "not now"),
            other => panic!("{other}"),
        }
        assert_eq!(matches!(error.cause, Cause::Temporary(_)), is_temporary);
        assert_eq!(*error.done, Consolidation::default());
        assert_eq!(workspace.list().expect("listed"), ids);
        let (ending, reason) = last_run(&workspace);
        assert_eq!((ending, reason), (Ending::Failed, Some(error.to_string())));
    }
    assert!(!place.root().join("memory").exists());
    // Nothing was counted: the entry has all of its attempts left.
    let mut consolidator = Noting::failing_on([&ids[1]]);
    let done = workspace.consolidate(&options(), &mut consolidator).expect("the others succeed");
    assert_eq!(done.failed[0].attempts, 1);
}

#[test]
fn what_arrives_meanwhile_waits_for_the_next_consolidation() {
    let place = TestWorkspace::new();
    let workspace = open(&place);
    let early = stage(&workspace, 3);
    let mut late = Vec::new();
    let mut seen = Vec::new();
    let mut consolidator = Native(|batch: &[Entry], _: &Draft<'_>| {
        seen.extend(batch.iter().map(|entry| entry.id.clone()));
        late.extend(stage(&workspace, 2));
        Ok(Vec::new())
    });
    let done = workspace.consolidate(&options(), &mut consolidator).expect("it succeeds");
    assert_eq!((done.entries, done.runs.len()), (3, 1));
    assert_eq!(seen, early);
    assert_eq!(workspace.list().expect("listed"), late);
}

#[test]
fn draining_goes_on_with_what_arrived_meanwhile_until_nothing_is_left() {
    let place = TestWorkspace::new();
    let workspace = open(&place);
    let early = stage(&workspace, 3);
    let mut left = 2;
    let mut consolidator = Noting::failing_on([&early[1]]);
    let mut more = Native(|batch: &[Entry], memory: &Draft<'_>| {
        if batch.len() == 1 && left > 0 {
            left -= 1;
            stage(&workspace, 2);
        }
        consolidator.consolidate(batch, memory)
    });
    let drain = ConsolidateOptions { drain: true, ..options() };
    let done = workspace.consolidate(&drain, &mut more).expect("it succeeds");
    assert_eq!((done.entries, done.failed.len(), done.left), (6, 1, 0));
    assert_eq!(done.runs.len(), 2, "what arrived during one run is taken by one run");
    assert_eq!(consolidator.calls.iter().filter(|call| call[..] == [early[1].clone()]).count(), 1);
    assert_eq!(workspace.list().expect("listed"), [early[1].clone()]);
    place.assert_nothing_left();
}

#[test]
fn caps_count_for_each_run() {
    let place = TestWorkspace::new();
    let workspace = open(&place);
    let ids = stage(&workspace, 7);
    let limits = Limits { max_entries: Some(3), max_bytes: None };
    let capped = ConsolidateOptions { limits, ..options() };
    let done = workspace.consolidate(&capped, &mut Noting::default()).expect("it succeeds");
    assert_eq!((done.entries, done.left, done.runs.len()), (3, 4, 1));
    assert_eq!(workspace.list().expect("listed"), ids[3..]);
    let drain = ConsolidateOptions { drain: true, ..capped };
    let done = workspace.consolidate(&drain, &mut Noting::default()).expect("it succeeds");
    assert_eq!((done.entries, done.left, done.runs.len()), (4, 0, 2));
}

#[test]
fn unusable_files_are_reported_once_and_stay() {
    let place = TestWorkspace::new();
    let workspace = open(&place);
    stage(&workspace, 1);
    place.put("f0000000-0000-7000-8000-000000000001.json", "{");
    place.put("notes.json", "");
    let drain = ConsolidateOptions { drain: true, ..options() };
    let done = workspace.consolidate(&drain, &mut Noting::default()).expect("it succeeds");
    let names: Vec<&str> = done.unusable.iter().map(|file| &*file.name).collect();
    assert_eq!(names, ["f0000000-0000-7000-8000-000000000001.json", "notes.json"]);
    assert_eq!((done.entries, place.visible().len()), (1, 2));
}

#[test]
fn closed_gate_skips_before_anything_is_touched() {
    let place = TestWorkspace::new();
    let workspace = open(&place);
    stage(&workspace, 2);
    let gates = Gates { min_entries: Some(3), ..Gates::default() };
    let gated = ConsolidateOptions { gates, ..options() };
    // Who only looks is not kept by somebody else's lock.
    let lock = workspace.acquire("other").expect("the lock is free");
    let before = tree(place.root());
    let mut consolidator = Noting::default();
    let done = workspace.consolidate(&gated, &mut consolidator).expect("it is skipped");
    assert!(done.skipped.is_some_and(|reason| !reason.is_empty()));
    assert_eq!((consolidator.calls.len(), tree(place.root())), (0, before));
    lock.release_only(None).expect("released");
    stage(&workspace, 1);
    let done = workspace.consolidate(&gated, &mut consolidator).expect("it runs");
    assert_eq!((done.skipped, done.entries), (None, 3));
}

/// Consumes what is staged while somebody waits for the lock.
struct Overtaken<'a> {
    workspace: &'a Workspace,
    lock: Option<consolidation_host::Lock>,
}

impl Observer for Overtaken<'_> {
    fn wait(&mut self, in_use: &consolidation_host::Error, _: Duration) -> bool {
        assert_eq!(in_use.code(), ErrorCode::InUse);
        if let Some(lock) = self.lock.take() {
            lock.record_consumed(&self.workspace.list().expect("listed")).expect("recorded");
            lock.release_with_cleanup().expect("released");
        }
        true
    }
}

#[test]
fn gate_is_asked_again_under_the_lock() {
    let place = TestWorkspace::new();
    let workspace = open(&place);
    stage(&workspace, 2);
    let lock = workspace.acquire("other").expect("the lock is free");
    let mut overtaken = Overtaken { workspace: &workspace, lock: Some(lock) };
    let options = ConsolidateOptions {
        gates: Gates { min_entries: Some(1), ..Gates::default() },
        wait: super::LONG,
        ..options()
    };
    let mut consolidator = Noting::default();
    let done = workspace.consolidate_observed(&options, &mut consolidator, &mut overtaken);
    assert!(done.expect("it is skipped").skipped.is_some());
    assert_eq!(consolidator.calls.len(), 0);
    place.assert_nothing_left();
}

#[test]
fn lock_in_use_is_an_error_and_a_wait_can_be_given_up() {
    struct Impatient;
    impl Observer for Impatient {
        fn wait(&mut self, _: &consolidation_host::Error, _: Duration) -> bool {
            false
        }
    }
    let place = TestWorkspace::new();
    let workspace = open(&place);
    stage(&workspace, 1);
    let lock = workspace.acquire("other").expect("the lock is free");
    let error = workspace.consolidate(&options(), &mut Noting::default()).expect_err("it is in use");
    assert!(matches!(error.cause, Cause::Workspace(error) if error.code() == ErrorCode::InUse));
    let patient = ConsolidateOptions { wait: super::LONG, ..options() };
    let error = workspace
        .consolidate_observed(&patient, &mut Noting::default(), &mut Impatient)
        .expect_err("it is given up");
    assert!(matches!(error.cause, Cause::Interrupted));
    lock.release_only(None).expect("released");
}

#[test]
fn observer_sees_the_progress_and_may_end_it_before_any_batch() {
    #[derive(Default)]
    struct Until {
        calls: usize,
        seen: Vec<Progress>,
    }
    impl Observer for Until {
        fn go_on(&mut self, progress: &Progress) -> bool {
            self.seen.push(*progress);
            self.seen.len() <= self.calls
        }
    }
    let place = TestWorkspace::new();
    let workspace = open(&place);
    let ids = stage(&workspace, 4);
    let small = ConsolidateOptions { batch_entries: 2, ..options() };
    for calls in 0..2 {
        let mut until = Until { calls, ..Until::default() };
        let mut consolidator = Noting::default();
        let result = workspace.consolidate_observed(&small, &mut consolidator, &mut until);
        assert!(matches!(failed(&place, result).cause, Cause::Interrupted));
        assert_eq!((consolidator.calls.len(), workspace.list().expect("listed")), (calls, ids.clone()));
    }
    let mut until = Until { calls: 100, ..Until::default() };
    let mut consolidator = Noting::failing_on([&ids[3]]);
    workspace.consolidate_observed(&small, &mut consolidator, &mut until).expect("it succeeds");
    let seen: Vec<(u64, u64)> =
        until.seen.iter().map(|progress| (progress.committed, progress.done)).collect();
    assert_eq!(seen[..2], [(0, 0), (0, 2)]);
}

#[test]
fn panic_of_the_consolidator_goes_on_and_leaves_no_lock() {
    let place = TestWorkspace::new();
    let workspace = open(&place);
    let ids = stage(&workspace, 3);
    let mut consolidator = Native(|_: &[Entry], _: &Draft<'_>| -> Answer { panic!("as the test wants it") });
    let panicked = panic::catch_unwind(AssertUnwindSafe(|| {
        workspace.consolidate(&options(), &mut consolidator).map(drop).expect("not reached");
    }));
    let message = panicked.expect_err("it panics");
    assert_eq!(message.downcast_ref::<&str>(), Some(&"as the test wants it"));
    place.assert_nothing_left();
    assert!(matches!(workspace.lock_status(), Ok(LockStatus::Free)));
    assert_eq!(workspace.list().expect("listed"), ids);
    assert_eq!(last_run(&workspace), (Ending::Failed, Some("the consolidator panicked".into())));
    assert_eq!(workspace.consolidate(&options(), &mut Noting::default()).expect("it succeeds").entries, 3);
}

#[test]
fn lock_that_is_lost_meanwhile_commits_nothing() {
    let place = TestWorkspace::new();
    let workspace = open(&place);
    let ids = stage(&workspace, 3);
    let mut consolidator = Native(|_: &[Entry], _: &Draft<'_>| {
        workspace.unlock(AcquireOptions::new("other"), true, None).expect("removed by force");
        Ok(vec![update("one", "text")])
    });
    let error = failed(&place, workspace.consolidate(&options(), &mut consolidator));
    assert!(matches!(error.cause, Cause::Workspace(error) if error.code() == ErrorCode::LockLost));
    assert_eq!(workspace.list().expect("listed"), ids);
    assert!(!place.root().join("memory").exists());
}

#[test]
fn same_under_a_lock_at_hand_keeps_the_lock() {
    let place = TestWorkspace::new();
    let workspace = open(&place);
    stage(&workspace, 2);
    let lock = workspace.acquire(POD).expect("the lock is free");
    for _ in 0..2 {
        let done = lock.consolidate(&options(), &mut Noting::default(), &mut ()).expect("it succeeds");
        assert_eq!((done.entries, done.runs.len()), (2, 1));
        refused(workspace.acquire("other"), ErrorCode::InUse);
        stage(&workspace, 2);
    }
    lock.release_only(None).expect("released");
    assert_eq!(workspace.runs(10).expect("listed").runs.len(), 2);
    place.assert_nothing_left();
}

#[test]
fn changes_are_made_with_the_commit_and_counted() {
    let place = TestWorkspace::new();
    let workspace = open(&place);
    stage(&workspace, 2);
    let mut consolidator = Native(|_: &[Entry], _: &Draft<'_>| {
        assert!(!place.root().join("memory").exists(), "nothing is written before the commit");
        Ok(vec![update("one", "first"), update("two", "first")])
    });
    let done = workspace.consolidate(&options(), &mut consolidator).expect("it succeeds");
    assert_eq!((done.created, done.changed), (2, 0));
    stage(&workspace, 1);
    let mut consolidator =
        Native(|_: &[Entry], _: &Draft<'_>| Ok(vec![update("two", "second"), update("three", "first")]));
    let done = workspace.consolidate(&options(), &mut consolidator).expect("it succeeds");
    assert_eq!((done.created, done.changed), (1, 1));
    let changes = workspace.run_changes(&done.runs[0]).expect("known");
    assert_eq!(
        changes.iter().map(|change| (&*change.slug, change.created)).collect::<Vec<_>>(),
        [("three", true), ("two", false)]
    );
    let two = workspace.memory_record("note", "two").expect("read").expect("it is there");
    // The third entry has the source of the first.
    assert_eq!((two.title.as_str(), two.body.trim(), two.sources.len()), ("Note two", "second", 2));
}

#[test]
fn batches_of_a_run_see_what_those_before_them_changed() {
    let place = TestWorkspace::new();
    let workspace = open(&place);
    stage(&workspace, 3);
    let mut consolidator = Native(|_: &[Entry], memory: &Draft<'_>| {
        let seen = memory.get("note", "count").map_err(ConsolidatorError::Workspace)?;
        let seen = seen.map_or(String::new(), |record| record.body.trim().to_owned());
        Ok(vec![update("count", &format!("{seen}+"))])
    });
    let one = ConsolidateOptions { batch_entries: 1, ..options() };
    let done = workspace.consolidate(&one, &mut consolidator).expect("it succeeds");
    assert_eq!((done.created, done.changed), (1, 0));
    let record = workspace.memory_record("note", "count").expect("read").expect("it is there");
    assert_eq!(record.body.trim(), "+++");
}

#[test]
fn answer_that_is_refused_is_a_failed_batch_and_changes_nothing() {
    let place = TestWorkspace::new();
    let workspace = open(&place);
    let ids = stage(&workspace, 4);
    let mut consolidator = Native(|batch: &[Entry], _: &Draft<'_>| {
        let mut updates = vec![update("fine", "text")];
        if batch.iter().any(|entry| entry.id == ids[2]) {
            updates.push(Update { kind: "../up".into(), ..update("bad", "text") });
        }
        Ok(updates)
    });
    let done = workspace.consolidate(&options(), &mut consolidator).expect("the others succeed");
    assert_eq!((done.entries, done.failed.len(), &done.failed[0].id), (3, 1, &ids[2]));
    assert!(
        done.failed[0].reason.starts_with("update 2 of its answer is refused: "),
        "{}",
        done.failed[0].reason
    );
    // As many updates as are allowed, and not one more.
    stage(&workspace, 1);
    let limited = ConsolidateOptions {
        updates: UpdateLimits { max_updates: 1, ..UpdateLimits::default() },
        ..options()
    };
    let mut consolidator = Native(|_: &[Entry], _: &Draft<'_>| Ok(vec![update("a", "x"), update("b", "x")]));
    let error = failed(&place, workspace.consolidate(&limited, &mut consolidator));
    assert!(matches!(error.cause, Cause::Failed(_)), "{error}");
    assert_eq!(workspace.memory_record("note", "a").expect("read"), None);
}

#[test]
fn record_that_somebody_changes_meanwhile_is_a_conflict_that_blames_nobody() {
    let place = TestWorkspace::new();
    let workspace = open(&place);
    let ids = stage(&workspace, 3);
    fs::create_dir_all(place.root().join("memory/note")).expect("a directory");
    let path = place.root().join("memory/note/one.md");
    fs::write(&path, "# One\n\nby hand\n").expect("written");
    let mut consolidator = Native(|batch: &[Entry], _: &Draft<'_>| {
        if batch.len() > 1 || batch[0].id == ids[0] {
            return Err(ConsolidatorError::Batch("not so many".into()));
        }
        Ok(vec![update("one", &format!("of {}", batch[0].id))])
    });
    struct Editor<'a>(&'a std::path::Path);
    impl Observer for Editor<'_> {
        fn go_on(&mut self, progress: &Progress) -> bool {
            if progress.done > 0 {
                fs::write(self.0, "# One\n\nby hand, again\n").expect("written");
            }
            true
        }
    }
    let small = ConsolidateOptions { batch_entries: 1, ..options() };
    let result = workspace.consolidate_observed(&small, &mut consolidator, &mut Editor(&path));
    let error = failed(&place, result);
    assert!(
        matches!(&error.cause, Cause::Workspace(error) if error.code() == ErrorCode::Conflict),
        "{error}"
    );
    assert_eq!(error.done.failed, []);
    assert_eq!(workspace.list().expect("listed"), ids);
    assert_eq!(fs::read_to_string(&path).expect("read"), "# One\n\nby hand, again\n");
}

#[test]
fn record_that_cant_be_read_holds_up_only_the_entries_that_touch_it() {
    let place = TestWorkspace::new();
    let workspace = open(&place);
    let ids = stage(&workspace, 3);
    fs::create_dir_all(place.root().join("memory/note")).expect("a directory");
    fs::write(place.root().join("memory/note/bad.md"), [0xff, 0xfe, 0x00]).expect("written");
    let bad = ids[1].clone();
    let mut consolidator = Native(|entries: &[Entry], _: &Draft<'_>| {
        let slug = |entry: &Entry| if entry.id == bad { "bad" } else { "good" };
        Ok(entries.iter().map(|entry| update(slug(entry), "text")).collect())
    });
    let done = workspace.consolidate(&options(), &mut consolidator).expect("the others are done");
    assert_eq!((done.entries, done.failed.len()), (2, 1));
    assert!(done.failed[0].reason.contains("memory/note/bad.md"), "{:?}", done.failed);
    assert_eq!(workspace.list().expect("listed"), [ids[1].clone()]);
    assert_eq!(fs::read(place.root().join("memory/note/bad.md")).expect("read"), [0xff, 0xfe, 0x00]);
}

/// 40 batches of 1 MiB each: more than a draft is allowed to grow before it is committed.
#[test]
fn draft_that_is_full_is_committed_and_the_rest_goes_into_the_next_run() {
    let place = TestWorkspace::new();
    let workspace = open(&place);
    stage(&workspace, 40);
    let body = "x".repeat((1 << 20) - 4_096);
    let mut number = 0;
    let mut consolidator = Native(|_: &[Entry], _: &Draft<'_>| {
        number += 1;
        Ok(vec![update(&format!("n{number}"), &body)])
    });
    let one = ConsolidateOptions { batch_entries: 1, ..options() };
    let done = workspace.consolidate(&one, &mut consolidator).expect("it succeeds");
    assert_eq!((done.entries, done.created, done.runs.len()), (40, 40, 2));
    assert_eq!(workspace.list().expect("listed"), [] as [String; 0]);
}

#[test]
fn answer_that_is_larger_than_a_draft_is_the_fault_of_its_entry() {
    let place = TestWorkspace::new();
    let workspace = open(&place);
    let ids = stage(&workspace, 2);
    let body = "x".repeat((1 << 20) - 4_096);
    let mut consolidator = Native(|batch: &[Entry], _: &Draft<'_>| {
        let too_many = batch.iter().any(|entry| entry.id == ids[1]);
        Ok((0..if too_many { 70 } else { 1 }).map(|number| update(&format!("n{number}"), &body)).collect())
    });
    let one = ConsolidateOptions { batch_entries: 1, ..options() };
    let done = workspace.consolidate(&one, &mut consolidator).expect("the other succeeds");
    assert_eq!((done.entries, done.failed.len()), (1, 1));
    assert_eq!(done.failed[0].id, ids[1]);
}

#[test]
fn preview_shows_the_changes_and_touches_nothing() {
    let place = TestWorkspace::new();
    let workspace = open(&place);
    stage(&workspace, 1);
    let mut consolidator = Native(|_: &[Entry], _: &Draft<'_>| {
        Ok(vec![Update { status: Some(RecordStatus::Active), ..update("one", "first") }])
    });
    workspace.consolidate(&options(), &mut consolidator).expect("it succeeds");
    let ids = stage(&workspace, 3);
    // Nobody else is kept from it, and nobody keeps it.
    let lock = workspace.acquire("other").expect("the lock is free");
    let before = tree(place.root());
    let mut consolidator = Native(|batch: &[Entry], _: &Draft<'_>| {
        if batch.iter().any(|entry| entry.id == ids[1]) {
            return Err(ConsolidatorError::Batch("not this one".into()));
        }
        Ok(vec![update("one", "second"), update("two", "first")])
    });
    let preview = workspace.preview(&options(), &mut consolidator, &mut ()).expect("it succeeds");
    assert_eq!((preview.entries, preview.left, preview.failed.len()), (2, 0, 1));
    let slugs: Vec<(&str, bool)> =
        preview.changes.iter().map(|change| (&*change.slug, change.before.is_some())).collect();
    assert_eq!(slugs, [("one", true), ("two", false)]);
    assert!(preview.changes.iter().all(|change| change.after.is_some()));
    assert_eq!(tree(place.root()), before);
    lock.release_only(None).expect("released");
    assert_eq!(workspace.list().expect("listed"), ids);
}

#[test]
fn preview_says_why_it_is_skipped_and_why_it_fails() {
    let place = TestWorkspace::new();
    let workspace = open(&place);
    workspace.stage(&payload(1)).expect("staged");
    let ids = workspace.list().expect("listed");
    let gates = Gates { min_entries: Some(2), ..Gates::default() };
    let gated = ConsolidateOptions { gates, ..options() };
    let preview = workspace.preview(&gated, &mut Noting::default(), &mut ()).expect("it is skipped");
    assert!(preview.skipped.is_some());
    let before = tree(place.root());
    let error = workspace.preview(&options(), &mut Noting::failing_on(&ids), &mut ()).expect_err("it fails");
    assert!(matches!(error.cause, Cause::Failed(_)));
    assert_eq!(tree(place.root()), before, "no attempt is noted");
}
