//! Past runs, recovery and the doctor as an embedder sees them.

use super::{POD, open, payloads, read_all, refused, tree, wait_until};
use crate::support::{TestWorkspace, original_record, set_age};
use consolidation_host::{
    AcquireOptions, Durability, Ending, ErrorCode, FindingKind, Limits, Lock, Run, Workspace,
};
use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::thread;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

const RUN: &str = "0199c82c-c000-7000-8000-00000000000a";

/// A run that an owner committed and did not end.
fn leave_committed(place: &TestWorkspace, ids: &[String]) -> PathBuf {
    let directory = place.root().join("runs/.unfinished");
    fs::create_dir_all(&directory).expect("a directory");
    let ids: String = ids.iter().map(|id| format!("{id:?}")).collect::<Vec<_>>().join(",");
    let content = format!(
        r#"{{"run_id":"{RUN}","outcome":"consolidated","pod_name":"pod-gone","pid":7,
        "started_at":"2026-01-02T03:04:05Z","ended_at":"2026-01-02T03:05:05Z","entry_ids":[{ids}]}}"#
    );
    let path = directory.join(format!("{RUN}.committed"));
    fs::write(&path, content).expect("written");
    path
}

/// Consumes everything under this lock.
#[track_caller]
fn record_all(lock: &Lock) {
    let snapshot = lock.snapshot(Limits::default()).expect("taken");
    read_all(&snapshot);
    lock.record_snapshot(&snapshot).expect("recorded");
}

/// The only run.
#[track_caller]
fn only_run(workspace: &Workspace) -> Run {
    let history = workspace.runs(10).expect("listed");
    assert_eq!((history.runs.len(), history.unreadable.len()), (1, 0), "{history:?}");
    history.runs.into_iter().next().expect("one")
}

#[test]
fn run_that_is_done_is_known_with_its_entries() {
    let place = TestWorkspace::new();
    for durability in [Durability::Full, Durability::None] {
        let workspace = open(&place).with_durability(durability);
        let ids = workspace.stage_many(&payloads(3), None).expect("staged");
        let lock = workspace.acquire(POD).expect("the lock is free");
        assert_eq!(lock.recovered(), []);
        record_all(&lock);
        assert_eq!(lock.release_with_cleanup().expect("released").removed, 3);
        let history = workspace.runs(1).expect("listed");
        let run = &history.runs[0];
        assert_eq!((run.ending, run.entry_count, run.pending), (Ending::Consolidated, 3, false));
        assert_eq!((run.owner.pid, run.owner.pod_name.as_str()), (std::process::id(), POD));
        assert_eq!((&run.ended_by, &run.reason), (&None, &None));
        assert_eq!(workspace.run(&run.id).expect("it is known"), *run);
        assert_eq!(workspace.run_entries(&run.id).expect("it is known"), ids);
    }
    let runs = open(&place).runs(10).expect("listed").runs;
    assert!(runs.len() == 2 && runs[0].id > runs[1].id, "the newest first");
    assert_eq!(open(&place).runs(0).expect("listed").runs, []);
}

#[test]
fn run_that_is_given_up_is_known_with_the_reason() {
    let place = TestWorkspace::new();
    let workspace = open(&place);
    let ids = workspace.stage_many(&payloads(2), None).expect("staged");
    let lock = workspace.acquire(POD).expect("the lock is free");
    record_all(&lock);
    lock.release_only(Some("no \u{1f600}")).expect("released");
    let run = only_run(&workspace);
    assert_eq!((run.ending, run.entry_count), (Ending::Failed, 2));
    assert_eq!(run.reason.as_deref(), Some("no \u{1f600}"));
    assert_eq!(workspace.run_entries(&run.id).expect("it is known"), ids);
    assert_eq!(workspace.list().expect("listed"), ids);
}

#[test]
fn looking_at_the_runs_of_an_empty_workspace_creates_nothing() {
    let place = TestWorkspace::new();
    let workspace = open(&place);
    let history = workspace.runs(10).expect("listed");
    assert!(history.runs.is_empty() && history.unreadable.is_empty());
    assert_eq!(workspace.examine().expect("examined"), []);
    refused(workspace.run(RUN), ErrorCode::NotFound);
    refused(workspace.run_entries(RUN), ErrorCode::NotFound);
    assert!(tree(place.root()).is_empty());
}

#[test]
fn malformed_and_unknown_runs_are_refused() {
    let place = TestWorkspace::new();
    let workspace = open(&place);
    for id in
        ["", "x", "../x", &RUN.to_uppercase(), &format!("{RUN}.json"), "018f0000-0000-4000-8000-000000000001"]
    {
        refused(workspace.run(id), ErrorCode::InvalidInput);
        refused(workspace.run_entries(id), ErrorCode::InvalidInput);
    }
    fs::create_dir(place.root().join("runs")).expect("a directory");
    refused(workspace.run(RUN), ErrorCode::NotFound);
    fs::write(place.root().join(format!("runs/{RUN}.json")), "torn").expect("written");
    let error = refused(workspace.run(RUN), ErrorCode::Unusable);
    assert!(error.to_string().contains("move it away"), "{error}");
    refused(workspace.run_entries(RUN), ErrorCode::Unusable);
    let history = workspace.runs(10).expect("listed");
    assert_eq!(history.unreadable.len(), 1);
    assert_eq!(history.unreadable[0].id, RUN);
}

#[test]
fn committed_run_is_pending_until_the_next_owner_has_ended_it() {
    let place = TestWorkspace::new();
    let workspace = open(&place);
    let ids = workspace.stage_many(&payloads(3), None).expect("staged");
    leave_committed(&place, &ids[..2]);
    assert_eq!(workspace.list().expect("listed"), ids[2..]);
    let summary = workspace.summarize().expect("read");
    assert_eq!((summary.entries, summary.consumed), (1, 2));
    let run = only_run(&workspace);
    assert!(run.pending && run.ending == Ending::Consolidated, "{run:?}");
    assert_eq!(workspace.run_entries(RUN).expect("it is known"), ids[..2]);

    let lock = workspace.acquire(POD).expect("the lock is free");
    assert_eq!(lock.took_over(), None);
    let [recovered] = lock.recovered() else { panic!("{:?}", lock.recovered()) };
    assert_eq!((recovered.id.as_str(), recovered.ending), (RUN, Ending::Consolidated));
    assert_eq!((recovered.removed, recovered.failed.len(), &recovered.note), (2, 0, &None));
    assert_eq!((recovered.owner.pid, recovered.owner.pod_name.as_str()), (7, "pod-gone"));
    let snapshot = lock.snapshot(Limits::default()).expect("taken");
    assert_eq!(snapshot.len().expect("counted"), 1);
    drop(snapshot);
    lock.release_only(None).expect("released");
    let run = only_run(&workspace);
    assert!(!run.pending && run.ending == Ending::Consolidated, "{run:?}");
    assert_eq!(run.ended_at, "2026-01-02T03:05:05Z", "when it was committed");
    assert_eq!(workspace.summarize().expect("read").consumed, 0);
    place.assert_nothing_left();
}

#[test]
fn dead_owners_run_is_recovered_as_aborted() {
    let place = TestWorkspace::new();
    let workspace = open(&place);
    let ids = workspace.stage_many(&payloads(2), None).expect("staged");
    place.put(".consolidation.lock", original_record(u32::MAX, "pod-a", &[&ids[0]]));
    let lock = workspace.acquire(POD).expect("its owner is dead");
    assert!(lock.took_over().is_some());
    let [recovered] = lock.recovered() else { panic!("{:?}", lock.recovered()) };
    assert_eq!((recovered.ending, recovered.removed), (Ending::Aborted, 0));
    assert_eq!(recovered.owner.pod_name, "pod-a");
    let run = workspace.run(&recovered.id).expect("it is known");
    assert_eq!((run.ending, run.entry_count), (Ending::Aborted, 1));
    assert_eq!(run.ended_by.map(|by| (by.pid, by.pod_name)), Some((std::process::id(), POD.into())));
    lock.release_only(None).expect("released");
    assert_eq!(workspace.list().expect("listed"), ids);
}

#[test]
fn entry_that_cannot_be_deleted_is_consumed_and_goes_with_a_later_run() {
    let place = TestWorkspace::new();
    let workspace = open(&place);
    let ids = workspace.stage_many(&payloads(3), None).expect("staged");
    let lock = workspace.acquire(POD).expect("the lock is free");
    record_all(&lock);
    let stubborn = place.staged(&format!("{}.json", ids[1]));
    let content = fs::read(&stubborn).expect("read");
    fs::remove_file(&stubborn).expect("removed");
    fs::create_dir(&stubborn).expect("a directory in its place");
    let report = lock.release_with_cleanup().expect("released");
    assert_eq!((report.removed, report.failed.len(), report.left, report.lost), (2, 1, 0, false));
    assert_eq!(report.failed[0].id, ids[1]);
    let run = only_run(&workspace);
    assert!(run.pending, "{run:?}");
    fs::remove_dir(&stubborn).expect("removed");
    fs::write(&stubborn, content).expect("the entry is back");
    assert_eq!(workspace.list().expect("listed"), [] as [String; 0], "it was consumed");
    assert_eq!(workspace.summarize().expect("read").consumed, 1);
    let lock = workspace.acquire(POD).expect("the lock is free");
    assert_eq!(lock.recovered()[0].removed, 1);
    lock.release_only(None).expect("released");
    assert!(!stubborn.exists());
    assert!(!only_run(&workspace).pending);
}

#[test]
fn forced_unlock_is_noted_with_who_and_why() {
    let place = TestWorkspace::new();
    let workspace = open(&place);
    workspace.stage_many(&payloads(2), None).expect("staged");
    let lock = workspace.acquire("pod-a").expect("the lock is free");
    record_all(&lock);
    assert!(workspace.unlock(POD, true, Some("its node burns")).expect("by force").is_some());
    let run = only_run(&workspace);
    assert_eq!((run.ending, run.entry_count, run.owner.pod_name.as_str()), (Ending::Unlocked, 2, "pod-a"));
    assert!(run.reason.as_deref().is_some_and(|reason| reason.starts_with("its node burns (")), "{run:?}");
    assert_eq!(run.ended_by.map(|by| by.pod_name).as_deref(), Some(POD));
    refused(lock.release_with_cleanup(), ErrorCode::LockLost);
    assert_eq!(workspace.list().expect("listed").len(), 2);
}

/// More entries than one call deletes.
#[test]
fn release_of_many_entries_is_one_run() {
    let place = TestWorkspace::new();
    let workspace = open(&place);
    workspace.stage_many(&payloads(1_201), None).expect("staged");
    let lock = workspace.acquire(POD).expect("the lock is free");
    record_all(&lock);
    let report = lock.release_with_cleanup().expect("released");
    assert_eq!((report.removed, report.missing, report.left, report.lost), (1_201, 0, 0, false));
    assert_eq!(only_run(&workspace).entry_count, 1_201);
    place.assert_nothing_left();
}

/// Committed is committed: who loses the lock while its entries are being deleted deletes them all, and
/// is told.
#[test]
fn lock_that_is_lost_between_two_parts_of_a_release_is_reported_and_the_run_stays_committed() {
    const ENTRIES: u64 = 6_000;
    let place = TestWorkspace::new();
    let workspace = open(&place);
    workspace.stage_many(&payloads(ENTRIES), None).expect("staged");
    let lock = workspace.acquire(POD).expect("the lock is free");
    record_all(&lock);
    let report = thread::scope(|scope| {
        let releasing = scope.spawn(move || lock.release_with_cleanup());
        let unfinished = place.root().join("runs/.unfinished");
        wait_until("it is committed", || {
            releasing.is_finished()
                || crate::support::names(&unfinished).iter().any(|name| name.ends_with(".committed"))
        });
        // By force: nobody else may take it while it counts as held.
        let _ = fs::remove_file(place.lock());
        releasing.join().expect("it does not panic")
    });
    let report = report.expect("it had committed");
    assert_eq!((report.removed, report.failed.len(), report.left), (ENTRIES, 0, 0));
    let run = only_run(&workspace);
    assert_eq!((run.ending, run.entry_count, run.pending), (Ending::Consolidated, ENTRIES, false));
    place.assert_nothing_left();
    // On a machine that did all of it between two glances nothing was lost.
    eprintln!("lost between two parts: {}", report.lost);
}

#[test]
fn doctor_names_what_is_left_over_and_removes_it() {
    let place = TestWorkspace::new();
    let workspace = open(&place);
    let ids = workspace.stage_many(&payloads(2), None).expect("staged");
    place.put("notes.json", "");
    place.put(".consolidation.lock", "garbage");
    set_age(&place.lock(), 60);
    leave_committed(&place, &ids[..1]);
    let before = tree(place.root());
    let found = workspace.examine().expect("examined");
    let kinds: Vec<FindingKind> = found.iter().map(|finding| finding.kind).collect();
    assert_eq!(kinds, [FindingKind::UnreadableLock, FindingKind::UnfinishedRun, FindingKind::UnusableEntry]);
    assert!(found.iter().all(|finding| !finding.mended && !finding.detail.is_empty()));
    assert_eq!(tree(place.root()), before, "who only looks changes nothing");

    let mended = workspace.mend(&AcquireOptions::new(POD)).expect("mended");
    let done: Vec<bool> = mended.iter().map(|finding| finding.mended).collect();
    assert_eq!(done, [true, true, false], "{mended:?}");
    assert_eq!(workspace.list().expect("listed"), ids[1..]);
    assert_eq!(workspace.examine().expect("examined"), mended[2..]);
    place.assert_nothing_left();
}

#[test]
fn doctor_is_refused_while_the_lock_is_held() {
    let place = TestWorkspace::new();
    let workspace = open(&place);
    let lock = workspace.acquire("pod-a").expect("the lock is free");
    assert_eq!(workspace.examine().expect("examined"), []);
    let error = refused(workspace.mend(&AcquireOptions::new(POD)), ErrorCode::InUse);
    assert_eq!(error.owner().map(|owner| owner.pod_name.as_str()), Some("pod-a"));
    lock.release_only(None).expect("still held");
}

/// Hears the warnings of some work on this thread.
#[derive(Clone, Default)]
struct Ear(Arc<Mutex<Vec<Fields>>>);

/// The fields of one event.
#[derive(Clone, Debug, Default)]
struct Fields(Vec<(String, String)>);

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.push((field.name().into(), value.into()));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.0.push((field.name().into(), format!("{value:?}")));
    }
}

impl Subscriber for Ear {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("consolidation_host") && *metadata.level() <= Level::WARN
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        self.0.lock().expect("nobody panics here").push(fields);
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

#[test]
fn recovery_warns_of_the_run_its_owner_and_what_was_deleted() {
    let place = TestWorkspace::new();
    let workspace = open(&place);
    let ids = workspace.stage_many(&payloads(2), None).expect("staged");
    leave_committed(&place, &ids);
    let ear = Ear::default();
    tracing::subscriber::with_default(ear.clone(), || {
        workspace.acquire(POD).expect("the lock is free").release_only(None).expect("released");
    });
    let seen = ear.0.lock().expect("nobody panics here").clone();
    let [event] = &seen[..] else { panic!("{seen:?}") };
    let field = |name: &str| event.0.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value);
    assert_eq!((field("run"), field("pod"), field("pid")), (RUN, "pod-gone", "7"));
    assert_eq!((field("outcome"), field("removed"), field("not_deleted")), ("consolidated", "2", "0"));
    assert_eq!(field("root"), workspace.root().display().to_string());
    assert!(field("message").contains("left unfinished"), "{event:?}");
}
