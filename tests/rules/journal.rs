//! How a run changes records. Invariant under test: all of its changes are made, each once, or none;
//! whatever is killed or fails where, and however late an owner goes on that was taken for dead.

use crate::support::faulty::{Call, Fault, Faults, FaultyDir, Op};
use crate::support::system::{TestSystem, World};
use crate::support::{TestWorkspace, names};
use consolidation_guest::doctor::FindingKind;
use consolidation_guest::durable::Durability;
use consolidation_guest::error::{Error, ErrorCode};
use consolidation_guest::fs::FsErrorKind;
use consolidation_guest::layout::{
    BEFORE_PATH, EntryId, MEMORY, NewContent, Progress, RUNS, RecordName, RunId, UNFINISHED_PATH,
};
use consolidation_guest::lock::{AcquireOptions, Held};
use consolidation_guest::memory::Change;
use consolidation_guest::native::NativeDir;
use consolidation_guest::outcome::{ChangedRecord, Ending, Outcome};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

const OWN: u32 = 4242;
const OTHER: u32 = 77;
const THIRD: u32 = 99;

/// Old texts, and what the run makes of them.
const RECORDS: [(&str, &str, Option<&str>, &str); 3] = [
    ("fact", "changed", Some("old text\n"), "new text\n"),
    ("fact", "created", None, "created\n"),
    ("other", "created", None, "created too\n"),
];

fn options(durability: Durability) -> AcquireOptions {
    AcquireOptions {
        pod_name: "pod-a".into(),
        lease_seconds: Some(60),
        durability,
        ..AcquireOptions::default()
    }
}

fn name(kind: &str, slug: &str) -> RecordName {
    RecordName::parse(kind, slug).expect("a name")
}

fn change(kind: &str, slug: &str, before: Option<&str>, after: Option<&str>) -> Change {
    let owned = |text: Option<&str>| text.map(str::to_owned);
    Change { name: name(kind, slug), before: owned(before), after: owned(after) }
}

fn changes() -> Vec<Change> {
    RECORDS.iter().map(|(kind, slug, before, after)| change(kind, slug, *before, Some(after))).collect()
}

/// A workspace with a record and an entry.
struct Place {
    workspace: TestWorkspace,
    world: World,
    entry: EntryId,
}

impl Place {
    fn new() -> Self {
        let workspace = TestWorkspace::with_staging();
        let entry = workspace.put_entry();
        let place = Place { workspace, world: World::new(), entry };
        for (kind, slug, before, _) in RECORDS {
            if let Some(text) = before {
                place.write(kind, slug, text);
            }
        }
        place
    }

    fn path(&self, kind: &str, slug: &str) -> PathBuf {
        self.workspace.root().join(MEMORY).join(kind).join(format!("{slug}.md"))
    }

    fn write(&self, kind: &str, slug: &str, text: &str) {
        fs::create_dir_all(self.workspace.root().join(MEMORY).join(kind)).expect("a directory");
        fs::write(self.path(kind, slug), text).expect("written");
    }

    /// All records, by `kind/slug.md`.
    fn memory(&self) -> BTreeMap<String, String> {
        let root = self.workspace.root().join(MEMORY);
        let mut found = BTreeMap::new();
        for kind in names(&root) {
            for file in names(&root.join(&kind)) {
                let text = fs::read_to_string(root.join(&kind).join(&file)).expect("a record");
                found.insert(format!("{kind}/{file}"), text);
            }
        }
        found
    }

    fn unfinished(&self) -> Vec<String> {
        names(&self.workspace.root().join(UNFINISHED_PATH))
    }

    fn before(&self) -> Vec<String> {
        names(&self.workspace.root().join(BEFORE_PATH))
    }

    fn has_entry(&self) -> bool {
        self.workspace.staged(&self.entry.file_name()).exists()
    }

    fn outcome(&self, run: RunId) -> Option<Outcome> {
        let content = fs::read(self.workspace.root().join(RUNS).join(run.file_name())).ok()?;
        Some(Outcome::parse(&content).expect("an outcome"))
    }

    /// Takes the lock, with the entry recorded and the changes taken. Faults begin afterwards.
    fn hold(&self, faults: &Faults, durability: Durability) -> (Held<FaultyDir, TestSystem>, RunId) {
        let pod = self.workspace.open_faulty(&self.world.start(OWN), faults);
        let (mut held, _) = pod.acquire(&options(durability)).expect("held");
        pod.record_consumed(&mut held, vec![self.entry]).expect("rewritten");
        held.take_changes(changes()).expect("taken");
        let run = held.record().run_id.as_deref().and_then(RunId::parse).expect("a run has begun");
        (held, run)
    }

    fn acquire(&self, pid: u32) -> Held<NativeDir, TestSystem> {
        let pod = self.workspace.open(&self.world.start(pid));
        pod.acquire(&options(Durability::None)).expect("held").0
    }

    /// One run with these changes, from beginning to end.
    fn run(&self, changes: Vec<Change>) -> Result<RunId, Error> {
        let pod = self.workspace.open(&self.world.start(THIRD));
        let (mut held, _) = pod.acquire(&options(Durability::None)).expect("held");
        pod.record_consumed(&mut held, vec![self.workspace.put_entry()]).expect("recorded");
        let run = held.record().run_id.as_deref().and_then(RunId::parse).expect("a run has begun");
        held.take_changes(changes).expect("taken");
        held.release_with_cleanup().map(|_| run)
    }

    fn undo(&self, run: RunId) -> Result<RunId, Error> {
        let mut held = self.acquire(THIRD);
        let undone = held.undo(run);
        held.release_only(None).expect("released");
        undone
    }

    /// A newcomer takes the lock and ends everything. Either all changes are made and the entry is gone, or
    /// none is made and it is there. Are they made?
    #[track_caller]
    fn is_done_for_good(&self, run: RunId, told: &str) -> bool {
        self.acquire(THIRD).release_only(None).expect("released");
        let done = !self.has_entry();
        let memory = self.memory();
        for (kind, slug, before, after) in RECORDS {
            let expected = if done { Some(after) } else { before };
            let found = memory.get(&format!("{kind}/{slug}.md")).map(String::as_str);
            assert_eq!(found, expected, "{told}: {kind}/{slug}, done: {done}");
        }
        assert_eq!(self.unfinished(), [] as [String; 0], "{told}: something is left");
        let before = if done { vec![run.file_name()] } else { Vec::new() };
        self.acquire(THIRD).release_only(None).expect("released");
        let swept = self.workspace.open(&self.world.start(THIRD)).mend(&options(Durability::None));
        assert!(swept.expect("mended").iter().all(|finding| finding.mended), "{told}");
        assert_eq!(self.before(), before, "{told}: what the records were");
        let ending = self.outcome(run).map(|outcome| outcome.outcome);
        match done {
            true => assert_eq!(ending, Some(Ending::Consolidated), "{told}"),
            false => {
                assert!(matches!(ending, None | Some(Ending::Aborted | Ending::Failed)), "{told}: {ending:?}")
            }
        }
        done
    }
}

pub(super) fn has_committed(calls: &[Call], fault: Fault) -> bool {
    let commits = |call: &&Call| call.op == Op::Rename && call.to.ends_with(".committed");
    calls.iter().find(commits).is_some_and(|call| call.failed.is_none() || matches!(fault, Fault::After(_)))
}

fn killed_before(number: usize) -> impl FnMut(usize, &Call) -> Fault + Send + 'static {
    move |index, _| if index >= number { Fault::Refuse(FsErrorKind::Io) } else { Fault::Pass }
}

#[test]
fn changes_are_made_by_the_commit_in_the_order_that_a_crash_needs() {
    let place = Place::new();
    let faults = Faults::none();
    let (held, run) = place.hold(&faults, Durability::Full);
    faults.become_(|_, _| Fault::Pass);
    held.release_with_cleanup().expect("released");
    let told: Vec<String> = faults
        .changes()
        .iter()
        .map(|call| call.replace(&run.to_string(), "RUN").replace(&place.entry.to_string(), "ENTRY"))
        .filter(|call| !call.contains(".owners/"))
        .collect();
    assert_eq!(
        told,
        [
            "SyncNames .",
            "SyncNames runs",
            "Unlink runs/.unfinished/RUN.open",
            "CreateDir memory/other",
            "SyncNames memory",
            "SyncNames .",
            "Unlink runs/.unfinished/RUN.0",
            "Create runs/.unfinished/RUN.0",
            "Write runs/.unfinished/RUN.0",
            "Sync runs/.unfinished/RUN.0",
            "Unlink runs/.unfinished/RUN.1",
            "Create runs/.unfinished/RUN.1",
            "Write runs/.unfinished/RUN.1",
            "Sync runs/.unfinished/RUN.1",
            "Unlink runs/.unfinished/RUN.2",
            "Create runs/.unfinished/RUN.2",
            "Write runs/.unfinished/RUN.2",
            "Sync runs/.unfinished/RUN.2",
            "CreateDir runs/.before",
            "SyncNames runs",
            "Unlink runs/.before/RUN.json",
            "Create runs/.before/RUN.json",
            "Write runs/.before/RUN.json",
            "Sync runs/.before/RUN.json",
            "SyncNames runs/.before",
            "SyncNames runs/.unfinished",
            "Create runs/.unfinished/RUN.open",
            "Write runs/.unfinished/RUN.open",
            "Sync runs/.unfinished/RUN.open",
            "Rename runs/.unfinished/RUN.open -> runs/.unfinished/RUN.committed",
            "SyncNames runs/.unfinished",
            "Rename runs/.unfinished/RUN.0 -> memory/fact/changed.md",
            "Rename runs/.unfinished/RUN.1 -> memory/fact/created.md",
            "Rename runs/.unfinished/RUN.2 -> memory/other/created.md",
            "SyncNames memory/fact",
            "SyncNames memory/other",
            "SyncNames runs/.unfinished",
            "Unlink _staging/ENTRY.json",
            "SyncNames _staging",
            "Rename runs/.unfinished/RUN.committed -> runs/RUN.json",
            "Unlink _staging/.consolidation.lock",
        ]
    );
    assert!(place.is_done_for_good(run, "undisturbed"));
    let outcome = place.outcome(run).expect("an outcome");
    let of = |kind: &str, slug: &str, created| ChangedRecord {
        kind: kind.into(),
        slug: slug.into(),
        created,
        removed: false,
    };
    assert_eq!(
        outcome.changes,
        [of("fact", "changed", false), of("fact", "created", true), of("other", "created", true)]
    );
}

#[test]
fn nothing_is_written_before_the_commit() {
    let place = Place::new();
    let memory = place.memory();
    let (held, run) = place.hold(&Faults::none(), Durability::Full);
    assert_eq!((place.memory(), place.unfinished()), (memory.clone(), Vec::new()));
    held.release_only(Some("it is given up")).expect("released");
    assert_eq!((place.memory(), place.unfinished(), place.before()), (memory, Vec::new(), Vec::new()));
    let outcome = place.outcome(run).expect("an outcome");
    assert_eq!((outcome.outcome, outcome.changes.len()), (Ending::Failed, 0));
    assert!(place.has_entry());
}

#[test]
fn run_killed_before_any_call_makes_all_changes_or_none() {
    for durability in [Durability::Full, Durability::None] {
        let mut endings = [0, 0];
        for number in 0.. {
            let place = Place::new();
            let faults = Faults::none();
            let (held, run) = place.hold(&faults, durability);
            faults.become_(killed_before(number));
            let _ = held.release_with_cleanup();
            let calls = faults.calls();
            let committed = has_committed(&calls, Fault::Pass);
            place.world.end(OWN);
            let told = format!("{durability:?}: killed before call {number}");
            assert_eq!(place.is_done_for_good(run, &told), committed, "{told}");
            endings[usize::from(committed)] += 1;
            if calls.len() <= number {
                break;
            }
        }
        assert!(endings.iter().all(|count| *count >= 8), "{endings:?}");
    }
}

#[test]
fn recovery_killed_before_any_call_makes_all_changes_or_none() {
    // The calls that leave different things behind, found by what they leave.
    let mut seen = Vec::new();
    for first in 0.. {
        let leave = || {
            let place = Place::new();
            let faults = Faults::none();
            let (held, run) = place.hold(&faults, Durability::Full);
            faults.become_(killed_before(first));
            let _ = held.release_with_cleanup();
            place.world.end(OWN);
            let calls = faults.calls();
            (place, run, has_committed(&calls, Fault::Pass), calls.len() <= first)
        };
        let (place, run, _, to_the_end) = leave();
        if to_the_end {
            break;
        }
        let left: Vec<String> =
            place.unfinished().iter().map(|name| name.replace(&run.to_string(), "RUN")).collect();
        let left = (
            left,
            place.before().len(),
            place.memory(),
            place.has_entry(),
            place.workspace.lock_bytes().is_some(),
        );
        if seen.contains(&left) {
            continue;
        }
        seen.push(left);
        for then in 0.. {
            let (place, run, committed, _) = leave();
            let faults = Faults::killed_before(then);
            let successor = place.workspace.open_faulty(&place.world.start(OTHER), &faults);
            let ended =
                successor.acquire(&options(Durability::Full)).and_then(|(held, _)| held.release_only(None));
            place.world.end(OTHER);
            let told = format!("killed before call {first}, its successor before {then}");
            assert_eq!(place.is_done_for_good(run, &told), committed, "{told}");
            if ended.is_ok() {
                break;
            }
        }
    }
    assert!(seen.len() >= 12, "{seen:?}");
}

/// What tidies up removes empty directories (`find -type d -empty -delete`, git), and that of a kind is empty until
/// its first record is put there.
#[test]
fn directory_that_is_removed_while_it_is_empty_takes_no_record_along() {
    for durability in [Durability::Full, Durability::None] {
        for number in 0.. {
            let place = Place::new();
            let faults = Faults::none();
            let (held, run) = place.hold(&faults, durability);
            let root = place.workspace.root().to_owned();
            faults.become_(move |index, _| {
                if index == number {
                    let _ = fs::remove_dir(root.join("memory/other"));
                }
                Fault::Pass
            });
            let released = held.release_with_cleanup();
            let calls = faults.calls();
            place.world.end(OWN);
            let told = format!("removed before call {number}");
            assert!(released.is_ok(), "{told}: {released:?}");
            assert!(place.is_done_for_good(run, &told), "{told}: it says that it is done");
            if calls.len() <= number {
                break;
            }
        }
    }
}

/// The name of a directory that was made again is on the disk before the entries are deleted, also if who made it was
/// killed before it came to that.
#[test]
fn directory_that_was_made_again_is_synchronised_by_whoever_ends_the_run() {
    let place = Place::new();
    let faults = Faults::none();
    let (held, run) = place.hold(&faults, Durability::Full);
    let root = place.workspace.root().to_owned();
    let mut tries = 0;
    faults.become_(move |_, call| {
        let is_rename = call.op == Op::Rename && call.to.starts_with("memory/other/");
        tries += usize::from(is_rename);
        if tries == 1 && is_rename {
            fs::remove_dir(root.join("memory/other")).expect("it is empty");
        }
        if tries == 2 && !is_rename { Fault::Refuse(FsErrorKind::Io) } else { Fault::Pass }
    });
    held.release_with_cleanup().expect_err("killed");
    assert!(place.path("other", "created").exists() && place.has_entry());
    place.world.end(OWN);
    let next = Faults::none();
    let pod = place.workspace.open_faulty(&place.world.start(OTHER), &next);
    let (held, _) = pod.acquire(&options(Durability::Full)).expect("held");
    let changes = next.changes();
    let at = |what: &str| changes.iter().position(|call| call == what);
    let deleted = at(&format!("Unlink _staging/{}.json", place.entry)).expect("deleted");
    assert!(at("SyncNames memory").is_some_and(|synced| synced < deleted), "{changes:#?}");
    held.release_only(None).expect("released");
    assert!(place.is_done_for_good(run, "made again"));
}

/// It is `memory` itself, or any directory at any time: then it may fail, and nothing is lost.
#[test]
fn directories_that_are_removed_again_and_again_lose_no_record() {
    let mut failed = 0;
    for number in 0.. {
        let place = Place::new();
        for (kind, slug, _, _) in RECORDS {
            // Nothing is there before.
            let _ = fs::remove_file(place.path(kind, slug));
        }
        let created = |kind, slug| change(kind, slug, None, Some("text\n"));
        let faults = Faults::none();
        let pod = place.workspace.open_faulty(&place.world.start(OWN), &faults);
        let (mut held, _) = pod.acquire(&options(Durability::Full)).expect("held");
        pod.record_consumed(&mut held, vec![place.entry]).expect("recorded");
        held.take_changes(vec![created("fact", "one"), created("other", "two")]).expect("taken");
        let root = place.workspace.root().to_owned();
        faults.become_(move |index, _| {
            if index >= number && index < number + 40 {
                for path in ["memory/fact", "memory/other", "memory"] {
                    let _ = fs::remove_dir(root.join(path));
                }
            }
            Fault::Pass
        });
        let released = held.release_with_cleanup();
        let calls = faults.calls();
        place.world.end(OWN);
        if let Err(error) = &released {
            failed += 1;
            let is_committed = has_committed(&calls, Fault::Pass);
            assert_eq!(error.message.contains("is committed, and"), is_committed, "{number}: {error}");
        }
        place.acquire(THIRD).release_only(None).expect("released");
        let memory: Vec<String> = place.memory().into_keys().collect();
        match place.has_entry() {
            true => assert_eq!(memory, [] as [String; 0], "{number}: {released:?}"),
            false => assert_eq!(memory, ["fact/one.md", "other/two.md"], "{number}: {released:?}"),
        }
        if calls.len() <= number {
            break;
        }
    }
    assert!(failed > 0, "nothing was in the way");
}

#[test]
fn call_that_fails_leaves_all_changes_made_or_none_and_the_next_run_can_work() {
    for kind in [FsErrorKind::NoSpace, FsErrorKind::Access, FsErrorKind::Io] {
        for fault in [Fault::Refuse(kind), Fault::After(kind)] {
            for number in 0.. {
                let place = Place::new();
                let faults = Faults::none();
                let (held, run) = place.hold(&faults, Durability::Full);
                faults.become_(move |index, _| if index == number { fault } else { Fault::Pass });
                let released = held.release_with_cleanup();
                let calls = faults.calls();
                let committed = has_committed(&calls, fault);
                place.world.end(OWN);
                let told = format!("{fault:?} at call {number}");
                if released.is_ok() {
                    assert!(committed, "{told}: it says that it is done");
                }
                assert_eq!(place.is_done_for_good(run, &told), committed, "{told}");
                place.run(vec![change("fact", "later", None, Some("later\n"))]).expect("a later run");
                if calls.len() <= number {
                    break;
                }
            }
        }
    }
}

#[test]
fn record_that_changed_meanwhile_is_a_conflict_and_nothing_is_written() {
    let meanwhile: [&dyn Fn(&Place); 3] = [
        &|place| place.write("fact", "changed", "by hand\n"),
        &|place| place.write("other", "created", "by hand\n"),
        &|place| fs::remove_file(place.path("fact", "changed")).expect("removed"),
    ];
    for change_it in meanwhile {
        let place = Place::new();
        let (held, run) = place.hold(&Faults::none(), Durability::Full);
        change_it(&place);
        let memory = place.memory();
        let error = held.release_with_cleanup().expect_err("a conflict");
        assert_eq!(error.code, ErrorCode::Conflict, "{error}");
        assert!(error.message.contains("memory/") && error.message.contains("next run"), "{error}");
        assert_eq!((place.memory(), place.unfinished(), place.before()), (memory, Vec::new(), Vec::new()));
        assert!(
            place.has_entry() && place.outcome(run).is_none_or(|run| run.outcome != Ending::Consolidated)
        );
        assert_eq!(place.workspace.lock_bytes(), None, "the lock is released");
    }
}

#[test]
fn something_else_in_the_place_of_a_record_is_not_touched() {
    let place = Place::new();
    let directory = place.path("fact", "created");
    fs::create_dir_all(&directory).expect("a directory");
    let (held, _) = place.hold(&Faults::none(), Durability::Full);
    let error = held.release_with_cleanup().expect_err("no record");
    assert_eq!(error.code, ErrorCode::WrongFileType, "{error}");
    fs::remove_dir(&directory).expect("removed");

    let outside = tempfile::tempdir().expect("a directory");
    let target = outside.path().join("target");
    fs::write(&target, "old text\n").expect("written");
    fs::remove_file(place.path("fact", "changed")).expect("removed");
    symlink(&target, place.path("fact", "changed")).expect("linked");
    let (held, _) = place.hold(&Faults::none(), Durability::Full);
    let error = held.release_with_cleanup().expect_err("no record");
    assert_eq!(error.code, ErrorCode::WrongFileType, "{error}");

    // The directory of a kind that leads out of the workspace.
    fs::remove_dir_all(place.workspace.root().join(MEMORY).join("fact")).expect("removed");
    symlink(outside.path(), place.workspace.root().join(MEMORY).join("fact")).expect("linked");
    let (held, _) = place.hold(&Faults::none(), Durability::Full);
    let error = held.release_with_cleanup().expect_err("no directory");
    assert_eq!(error.code, ErrorCode::WrongFileType, "{error}");
    assert_eq!(names(outside.path()), ["target"]);
    assert_eq!(fs::read_to_string(target).expect("read"), "old text\n");
    assert_eq!((place.unfinished(), place.before()), (Vec::new(), Vec::new()));
    assert!(place.has_entry());
}

/// A successor has ended the run of an owner that was stopped after its commit, and later runs have gone
/// on from there. When the owner goes on it changes nothing.
#[test]
fn late_owner_writes_nothing_over_what_later_runs_have_made() {
    let renames = |call: &Call| call.op == Op::Rename && call.to.starts_with("memory/");
    for stop_at in 0..3 {
        let place = Place::new();
        let faults = Faults::none();
        let (held, run) = place.hold(&faults, Durability::Full);
        let at_the_stop = std::sync::Arc::new(std::sync::Mutex::new(None));
        std::thread::scope(|scope| {
            let (stopped, is_stopped) = std::sync::mpsc::channel();
            let (go_on, may_go_on) = std::sync::mpsc::channel();
            let mut seen = 0;
            faults.become_(move |_, call| {
                if renames(call) {
                    if seen == stop_at {
                        stopped.send(()).expect("somebody waits");
                        may_go_on.recv().expect("somebody says so");
                    }
                    seen += 1;
                }
                Fault::Pass
            });
            let released = scope.spawn(move || held.release_with_cleanup());
            is_stopped.recv().expect("it stops");
            // Taken for dead, as by a lease that ran out.
            place.world.end(OWN);
            let later = place.run(vec![
                change("fact", "changed", Some("new text\n"), Some("newer text\n")),
                change("fact", "created", Some("created\n"), Some("newer too\n")),
                change("other", "created", Some("created too\n"), Some("newest\n")),
            ]);
            later.expect("the successor's run");
            *at_the_stop.lock().expect("not poisoned") = Some(place.memory());
            go_on.send(()).expect("it waits");
            let report = released.join().expect("no panic").expect("its run was committed");
            assert!(report.lost, "{report:?}");
        });
        let then = at_the_stop.lock().expect("not poisoned").take().expect("noted");
        assert_eq!(place.memory(), then, "stopped before rename {stop_at}");
        assert_eq!(then["fact/changed.md"], "newer text\n");
        assert_eq!(place.unfinished(), [] as [String; 0]);
        assert_eq!(place.outcome(run).map(|run| run.outcome), Some(Ending::Consolidated));
    }
}

/// Stops a run right after its commit.
fn committed_and_killed(place: &Place) -> RunId {
    let faults = Faults::none();
    let (held, run) = place.hold(&faults, Durability::Full);
    let mut committed = false;
    faults.become_(move |_, call| {
        let killed = committed;
        committed |= call.op == Op::Rename && call.to.ends_with(".committed");
        if killed { Fault::Refuse(FsErrorKind::Io) } else { Fault::Pass }
    });
    held.release_with_cleanup().expect_err("killed");
    place.world.end(OWN);
    run
}

#[test]
fn what_somebody_wrote_between_the_commit_and_the_recovery_is_kept() {
    let place = Place::new();
    let run = committed_and_killed(&place);
    place.write("fact", "changed", "by hand\n");
    place.write("other", "created", "by hand too\n");
    let held = place.acquire(OTHER);
    let note = held.recovered()[0].note.clone().expect("it is said");
    assert!(
        note.contains("memory/fact/changed.md, memory/other/created.md have been changed by somebody since"),
        "{note}"
    );
    held.release_only(None).expect("released");
    assert_eq!(place.memory()["fact/changed.md"], "new text\n", "what was committed is made");
    let kept = |index: u32| {
        let name = format!("{}.md", NewContent { run, index }.name());
        fs::read_to_string(place.workspace.root().join(BEFORE_PATH).join(name)).ok()
    };
    assert_eq!([kept(0), kept(1), kept(2)], [Some("by hand\n".into()), None, Some("by hand too\n".into())]);
    assert!(!place.has_entry());
    // Also when nobody has read the warning.
    let found = place.workspace.open(&place.world.start(OWN)).examine().expect("examined");
    let told: Vec<_> = found.iter().map(|found| (found.kind, found.path.clone())).collect();
    let path = |index: u32| format!("{BEFORE_PATH}/{}.md", NewContent { run, index }.name());
    assert_eq!(told, [(FindingKind::KeptEdit, path(0)), (FindingKind::KeptEdit, path(2))]);
    assert!(found[0].detail.contains("memory/fact/changed.md"), "{found:?}");
    assert!(found[1].detail.contains("memory/other/created.md"), "{found:?}");
}

/// Nobody else would say it: the one who mends takes no notice of warnings.
#[test]
fn doctor_that_ends_a_run_names_what_somebody_wrote_meanwhile() {
    let place = Place::new();
    let run = committed_and_killed(&place);
    place.write("fact", "changed", "by hand\n");
    let found =
        place.workspace.open(&place.world.start(OTHER)).mend(&options(Durability::Full)).expect("mended");
    let path = format!("{BEFORE_PATH}/{}.md", NewContent { run, index: 0 }.name());
    let kept: Vec<_> = found.iter().filter(|found| found.kind == FindingKind::KeptEdit).collect();
    assert_eq!(kept.iter().map(|found| (&found.path, found.mended)).collect::<Vec<_>>(), [(&path, false)]);
    assert!(kept[0].detail.contains("memory/fact/changed.md"), "{found:?}");
    assert!(found.iter().filter(|found| found.kind == FindingKind::UnfinishedRun).all(|found| found.mended));
}

#[test]
fn run_that_can_not_be_ended_is_done_and_says_so() {
    let place = Place::new();
    let faults = Faults::none();
    let (held, run) = place.hold(&faults, Durability::Full);
    let refused =
        move |_: usize, call: &Call| match call.op == Op::Rename && call.to == format!("runs/{run}.json") {
            true => Fault::Refuse(FsErrorKind::Access),
            false => Fault::Pass,
        };
    faults.become_(refused);
    let said = |note: Option<&String>| {
        let note = note.expect("it is said");
        let cause =
            format!("cannot move to runs/ the file runs/.unfinished/{run}.committed: permission denied");
        assert!(note.contains("could not be ended") && note.contains(&cause), "{note}");
    };
    let report = held.release_with_cleanup().expect("released");
    said(report.note.as_ref());
    assert!(!place.has_entry());
    assert_eq!(place.memory()["fact/changed.md"], "new text\n");
    place.world.end(OWN);
    // And so says everybody who can't do it either.
    let again = place.workspace.open_faulty(&place.world.start(OTHER), &faults);
    let (mut held, _) = again.acquire(&options(Durability::Full)).expect("held");
    said(held.recovered()[0].note.as_ref());
    let error = held.undo(run).expect_err("it has not ended");
    assert!(error.message.contains("could not be ended yet"), "{error}");
    held.release_only(None).expect("released");
    let found = again.mend(&options(Durability::Full)).expect("examined");
    let [unended] = found.as_slice() else { panic!("{found:?}") };
    assert_eq!((unended.kind, unended.mended), (FindingKind::UnfinishedRun, false));
    said(Some(&unended.detail));
    faults.become_(|_, _| Fault::Pass);
    assert!(again.mend(&options(Durability::Full)).expect("examined")[0].mended);
    assert_eq!(again.examine().expect("examined"), []);
}

#[test]
fn changes_that_can_not_be_made_hold_up_later_changes_and_nothing_else() {
    let place = Place::new();
    let run = committed_and_killed(&place);
    fs::create_dir_all(place.path("fact", "created")).expect("a directory");
    let error = place.run(vec![change("fact", "later", None, Some("later\n"))]).expect_err("held up");
    assert!(error.message.contains("memory/fact/created.md"), "{error}");
    assert!(place.has_entry(), "its entries stay until its changes are made");
    let looks = place.workspace.open(&place.world.start(THIRD));
    assert!(!looks.entry_ids().expect("listed").contains(&place.entry), "but nobody gets them again");
    place.run(Vec::new()).expect("a run without changes");
    fs::remove_dir(place.path("fact", "created")).expect("removed");
    assert!(place.is_done_for_good(run, "mended"));
    place.run(vec![change("fact", "later", None, Some("later\n"))]).expect("free again");
}

#[test]
fn undo_puts_back_what_was_byte_for_byte_and_can_be_undone() {
    let place = Place::new();
    let first = place.memory();
    let run = place.run(changes()).expect("a run");
    let second = place.memory();
    let undo = place.undo(run).expect("undone");
    assert_eq!(place.memory(), first);
    let outcome = place.outcome(undo).expect("an outcome");
    assert_eq!((outcome.outcome, outcome.undoes), (Ending::Undone, Some(run.to_string())));
    assert_eq!(outcome.changes.iter().filter(|change| change.removed).count(), 2);
    assert_eq!(place.unfinished(), [] as [String; 0]);
    // Once more: it is not as the run left it, and to undo what came later would do the run once more.
    let error = place.undo(run).expect_err("undone already");
    assert_eq!(error.code, ErrorCode::Conflict);
    assert!(error.message.starts_with("there is nothing to undo: "), "{error}");
    let redo = place.undo(undo).expect("undone");
    assert_eq!(place.memory(), second);
    place.undo(redo).expect("undone");
    assert_eq!(place.memory(), first);
}

#[test]
fn undo_is_refused_as_a_whole_when_anything_newer_touched_a_record() {
    let place = Place::new();
    let run = place.run(changes()).expect("a run");
    place.write("other", "created", "by hand\n");
    let memory = place.memory();
    let error = place.undo(run).expect_err("changed since");
    assert_eq!((error.code, error.path.as_deref()), (ErrorCode::Conflict, Some("memory/other/created.md")));
    assert!(error.message.contains("undo the later runs first"), "{error}");
    assert_eq!(place.memory(), memory);
    let later =
        place.run(vec![change("other", "created", Some("by hand\n"), Some("later\n"))]).expect("a run");
    place.undo(run).expect_err("changed since");
    place.undo(later).expect("undone");
    assert_eq!(place.memory(), memory);
}

#[test]
fn undo_of_what_is_not_known_or_changed_nothing_is_refused() {
    let place = Place::new();
    let unknown = RunId::parse("01890a5d-ac96-774b-bcce-b302099a8057").expect("an id");
    assert_eq!(place.undo(unknown).expect_err("unknown").code, ErrorCode::NotFound);
    let without = place.run(Vec::new()).expect("a run");
    assert_eq!(place.undo(without).expect_err("no changes").code, ErrorCode::InvalidInput);
    let run = place.run(changes()).expect("a run");
    fs::remove_file(place.workspace.root().join(BEFORE_PATH).join(run.file_name())).expect("removed");
    assert_eq!(place.undo(run).expect_err("not known any more").code, ErrorCode::NotFound);
    let run = place.run(vec![change("fact", "later", None, Some("later\n"))]).expect("a run");
    fs::write(place.workspace.root().join(BEFORE_PATH).join(run.file_name()), "{}").expect("written");
    assert_eq!(place.undo(run).expect_err("unreadable").code, ErrorCode::Unusable);
    assert_eq!(place.workspace.lock_bytes(), None);
}

#[test]
fn undo_killed_before_any_call_is_done_as_a_whole_or_not_at_all() {
    let mut endings = [0, 0];
    for number in 0.. {
        let place = Place::new();
        let first = place.memory();
        let run = place.run(changes()).expect("a run");
        let second = place.memory();
        let faults = Faults::none();
        let pod = place.workspace.open_faulty(&place.world.start(OWN), &faults);
        let (mut held, _) = pod.acquire(&options(Durability::Full)).expect("held");
        faults.become_(killed_before(number));
        let done = held.undo(run);
        let calls = faults.calls();
        let committed = has_committed(&calls, Fault::Pass);
        place.world.end(OWN);
        place.acquire(OTHER).release_only(None).expect("released");
        let told = format!("killed before call {number}");
        assert_eq!(place.memory(), if committed { first } else { second }, "{told}");
        assert_eq!(place.unfinished(), [] as [String; 0], "{told}");
        endings[usize::from(committed)] += 1;
        if calls.len() <= number {
            done.expect("nobody killed it");
            break;
        }
    }
    assert!(endings.iter().all(|count| *count >= 8), "{endings:?}");
}

/// A record that an undo is about to remove, and that somebody has written anew.
#[test]
fn undo_that_is_recovered_does_not_remove_what_somebody_wrote_meanwhile() {
    let place = Place::new();
    let run = place.run(changes()).expect("a run");
    let faults = Faults::none();
    let pod = place.workspace.open_faulty(&place.world.start(OWN), &faults);
    let (mut held, _) = pod.acquire(&options(Durability::Full)).expect("held");
    let mut committed = false;
    faults.become_(move |_, call| {
        let killed = committed;
        committed |= call.op == Op::Rename && call.to.ends_with(".committed");
        if killed { Fault::Refuse(FsErrorKind::Io) } else { Fault::Pass }
    });
    held.undo(run).expect_err("killed");
    place.world.end(OWN);
    place.write("fact", "created", "by hand\n");
    let held = place.acquire(OTHER);
    assert!(held.recovered()[0].note.as_deref().is_some_and(|note| note.contains("memory/fact/created.md")));
    held.release_only(None).expect("released");
    assert_eq!(
        place.memory(),
        BTreeMap::from([
            ("fact/changed.md".into(), "old text\n".into()),
            ("fact/created.md".into(), "by hand\n".into()),
        ])
    );
    assert_eq!(place.unfinished(), [] as [String; 0]);
}

#[test]
fn contents_of_runs_that_are_not_committed_are_removed_and_those_of_committed_ones_are_not() {
    let place = Place::new();
    let orphan = RunId::parse("01890a5d-ac96-774b-bcce-b302099a8057").expect("an id");
    let run = committed_and_killed(&place);
    let unfinished = place.workspace.root().join(UNFINISHED_PATH);
    fs::write(unfinished.join(NewContent { run: orphan, index: 0 }.name()), "orphan").expect("written");
    assert_eq!(place.unfinished().iter().filter_map(|name| NewContent::parse(name)).count(), 4);
    assert!(place.is_done_for_good(run, "recovered"));
}

#[test]
fn ticket_that_somebody_made_up_can_not_reach_out_of_memory() {
    let place = Place::new();
    let run = RunId::parse("01890a5d-ac96-774b-bcce-b302099a8057").expect("an id");
    let owner = consolidation_guest::error::Owner::unknown();
    let now = crate::support::system::wall_clock();
    let mut outcome = Outcome::new(run, Ending::Consolidated, owner, now, Vec::new());
    let of = |kind: &str, slug: &str| ChangedRecord {
        kind: kind.into(),
        slug: slug.into(),
        created: true,
        removed: false,
    };
    outcome.changes =
        vec![of("..", "evil"), of("fact", "../../evil"), of("fact\0", "x"), of("FACT", "x"), of("/tmp", "x")];
    let unfinished = place.workspace.root().join(UNFINISHED_PATH);
    fs::create_dir_all(&unfinished).expect("a directory");
    fs::write(unfinished.join(Progress::Committed.name(run)), outcome.to_file()).expect("written");
    for index in 0..5 {
        fs::write(unfinished.join(NewContent { run, index }.name()), "evil").expect("written");
    }
    let memory = place.memory();
    place.acquire(OTHER).release_only(None).expect("released");
    assert_eq!(place.memory(), memory);
    assert!(!place.workspace.root().join("evil.md").exists());
    place.acquire(OTHER).release_only(None).expect("released");
    assert_eq!(place.unfinished(), [] as [String; 0]);
}

#[test]
fn names_of_new_contents_are_recognised_byte_for_byte() {
    let run = RunId::parse("01890a5d-ac96-774b-bcce-b302099a8057").expect("an id");
    for index in [0, 1, 10, u32::MAX] {
        let content = NewContent { run, index };
        assert_eq!(NewContent::parse(&content.name()), Some(content));
        assert_eq!(NewContent::parse_aside(&content.aside_name()), Some(content));
        assert_eq!(NewContent::parse(&content.aside_name()), None);
    }
    for wrong in ["", "0", ".0", "01890a5d-ac96-774b-bcce-b302099a8057"] {
        assert_eq!(NewContent::parse(wrong), None, "{wrong}");
    }
    for suffix in [".", ".+1", ".01", ".-1", ".4294967296", ".open", ".0.0", ".0 "] {
        assert_eq!(NewContent::parse(&format!("{run}{suffix}")), None, "{suffix}");
    }
}

/// Between the look at the records and the rename of one of them.
#[test]
fn what_somebody_writes_in_the_moment_of_the_commit_is_kept_and_said() {
    let place = Place::new();
    let faults = Faults::none();
    let (held, run) = place.hold(&faults, Durability::Full);
    let path = place.path("fact", "changed");
    faults.become_(move |_, call| {
        if call.op == Op::Rename && call.to.ends_with(".committed") {
            fs::write(&path, "by hand\n").expect("written");
        }
        Fault::Pass
    });
    let report = held.release_with_cleanup().expect("released");
    let note = report.note.expect("it is said");
    assert!(note.contains("memory/fact/changed.md has been changed by somebody since"), "{note}");
    let kept = format!("{}.md", NewContent { run, index: 0 }.name());
    let kept = fs::read_to_string(place.workspace.root().join(BEFORE_PATH).join(kept)).expect("kept");
    assert_eq!(kept, "by hand\n");
    assert_eq!(place.memory()["fact/changed.md"], "new text\n");
}

#[test]
fn what_somebody_writes_in_the_moment_of_an_undo_is_kept_and_said() {
    let place = Place::new();
    let run = place.run(changes()).expect("a run");
    let faults = Faults::none();
    let pod = place.workspace.open_faulty(&place.world.start(OWN), &faults);
    let (mut held, _) = pod.acquire(&options(Durability::Full)).expect("held");
    let path = place.path("fact", "changed");
    faults.become_(move |_, call| {
        if call.op == Op::Rename && call.to.ends_with(".committed") {
            fs::write(&path, "by hand\n").expect("written");
        }
        Fault::Pass
    });
    held.undo(run).expect("undone");
    let note = held.release_only(None).expect("released").note.expect("it is said");
    assert!(note.contains("memory/fact/changed.md"), "{note}");
    assert_eq!(place.memory()["fact/changed.md"], "old text\n");
    let before = place.workspace.root().join(BEFORE_PATH);
    let kept = names(&before).into_iter().filter(|name| name.ends_with(".md"));
    let kept: Vec<String> = kept.map(|name| fs::read_to_string(before.join(name)).expect("kept")).collect();
    assert_eq!(kept, ["by hand\n"]);
}
