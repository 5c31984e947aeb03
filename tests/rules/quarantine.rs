//! The quarantine. Invariant under test: an entry that consolidators fail on is whole in exactly one of the
//! staging directory and the quarantine, whatever is killed or fails where, and goes only when it is dropped.

use super::journal::has_committed;
use crate::support::faulty::{ALL_KINDS, Call, Fault, Faults, FaultyDir, Op};
use crate::support::system::{TestSystem, World, wall_clock};
use crate::support::{MINIMAL, TestWorkspace, entry_id, names, new_entry_id, set_age};
use consolidation_guest::doctor::FindingKind;
use consolidation_guest::durable::Durability;
use consolidation_guest::error::{Error, ErrorCode, Owner};
use consolidation_guest::fs::FsErrorKind;
use consolidation_guest::layout::{EntryId, Progress, UNFINISHED_PATH};
use consolidation_guest::lock::{AcquireOptions, Held};
use consolidation_guest::native::NativeDir;
use consolidation_guest::outcome::{Ending, Outcome};
use consolidation_guest::quarantine::{Attempt, MAX_REASON_CHARS};
use consolidation_guest::staging::Limits;
use consolidation_guest::workspace::Workspace;
use serde_json::Value;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

const OWN: u32 = 4242;
const OTHER: u32 = 77;

fn options(durability: Durability) -> AcquireOptions {
    AcquireOptions {
        pod_name: "pod-a".into(),
        lease_seconds: Some(60),
        durability,
        ..AcquireOptions::default()
    }
}

fn failure(id: EntryId) -> (EntryId, String) {
    (id, "the model refuses it".into())
}

/// An entry that fails, and one beside it.
struct Place {
    workspace: TestWorkspace,
    world: World,
    bad: EntryId,
    other: EntryId,
}

impl Place {
    fn new() -> Self {
        let workspace = TestWorkspace::with_staging();
        let (bad, other) = (workspace.put_entry(), workspace.put_entry());
        Place { workspace, world: World::new(), bad, other }
    }

    /// One whose bad entry is in the quarantine.
    fn with_quarantined() -> Self {
        let place = Place::new();
        assert_eq!(place.fail(1), [Attempt { id: place.bad, attempts: 1, quarantined: true }]);
        place
    }

    fn pod(&self) -> Workspace<NativeDir, TestSystem> {
        self.workspace.open(&self.world.start(OTHER))
    }

    /// Takes the lock. Faults begin afterwards.
    fn hold(&self, faults: &Faults, durability: Durability) -> Held<FaultyDir, TestSystem> {
        self.hold_as(OWN, faults, durability)
    }

    fn hold_as(&self, pid: u32, faults: &Faults, durability: Durability) -> Held<FaultyDir, TestSystem> {
        let pod = self.workspace.open_faulty(&self.world.start(pid), faults);
        let (held, _) = pod.acquire(&options(durability)).expect("held");
        faults.become_(|_, _| Fault::Pass);
        held
    }

    /// The bad entry fails once more, under a lock of its own.
    #[track_caller]
    fn fail(&self, max_attempts: u32) -> Vec<Attempt> {
        let mut held = self.hold(&Faults::none(), Durability::None);
        let attempts = held.record_failures(&[failure(self.bad)], max_attempts).expect("recorded");
        held.release_only(None).expect("released");
        attempts
    }

    fn attempts(&self, id: EntryId) -> PathBuf {
        self.workspace.staged(".attempts").join(id.file_name())
    }

    fn quarantine(&self, name: &str) -> PathBuf {
        self.workspace.staged("quarantine").join(name)
    }

    /// Is the bad entry in the quarantine? It is whole in one place, and the other one is staged.
    #[track_caller]
    fn is_quarantined(&self, told: &str) -> bool {
        let content = |path: PathBuf| fs::read_to_string(path).ok();
        let staged = content(self.workspace.staged(&self.bad.file_name()));
        let aside = content(self.quarantine(&self.bad.file_name()));
        let places: Vec<&str> = staged.iter().chain(&aside).map(String::as_str).collect();
        assert_eq!(places, [MINIMAL], "{told}: staged {staged:?}, in the quarantine {aside:?}");
        assert_eq!(
            content(self.workspace.staged(&self.other.file_name())).as_deref(),
            Some(MINIMAL),
            "{told}"
        );
        aside.is_some()
    }

    /// Whatever was left by an owner that is gone: what is in the quarantine is listed, no run gets it, and
    /// who mends leaves notes of nobody to be found.
    #[track_caller]
    fn assert_in_order_after_mending(&self, told: &str) {
        self.world.end(OWN);
        let quarantined = self.is_quarantined(told);
        let pod = self.pod();
        let listed: Vec<EntryId> = pod.quarantined().expect("listed").iter().map(|entry| entry.id).collect();
        assert_eq!(listed, if quarantined { vec![self.bad] } else { vec![] }, "{told}");
        assert_eq!(pod.summarize().expect("a summary").quarantined, u64::from(quarantined), "{told}");
        let offered = pod.take_snapshot(Limits::default()).expect("taken").ids().to_vec();
        assert_eq!(offered.contains(&self.bad), !quarantined, "{told}");
        for finding in pod.mend(&options(Durability::None)).expect("mended") {
            assert!(finding.mended, "{told}: {finding:?}");
        }
        assert_eq!(pod.examine().expect("examined"), [], "{told}");
        assert_eq!(self.is_quarantined(told), quarantined, "{told}: mending moves no entry");
        assert!(!(quarantined && self.attempts(self.bad).exists()), "{told}");
    }

    /// The changes, with names in the place of ids.
    fn told(&self, faults: &Faults) -> Vec<String> {
        let told = |change: String| {
            let change =
                change.replace(&self.bad.to_string(), "BAD").replace(&self.other.to_string(), "OTHER");
            // Temporary names are drawn at random.
            let words: Vec<String> = change
                .split(' ')
                .map(|word| match word.rsplit_once('/') {
                    Some((place, name)) if name.ends_with(".tmp") => format!("{place}/TMP"),
                    _ => word.to_owned(),
                })
                .collect();
            words.join(" ")
        };
        faults.changes().into_iter().map(told).collect()
    }
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).expect("it is there")).expect("it is JSON")
}

/// A rule under which the process is killed before the call with this number.
fn killed_before(number: usize) -> impl FnMut(usize, &Call) -> Fault + Send + 'static {
    move |index, _| if index >= number { Fault::Refuse(FsErrorKind::Io) } else { Fault::Pass }
}

/// A rule under which one call fails.
fn nth(number: usize, fault: Fault) -> impl FnMut(usize, &Call) -> Fault + Send + 'static {
    move |index, _| if index == number { fault } else { Fault::Pass }
}

/// Each kind of failure, with the effect and without.
fn faults() -> impl Iterator<Item = Fault> {
    ALL_KINDS.into_iter().flat_map(|kind| [Fault::Refuse(kind), Fault::After(kind)])
}

#[test]
fn attempts_are_counted_over_runs_and_the_last_one_moves_the_entry() {
    let place = Place::new();
    place.world.set_clock(wall_clock());
    for attempts in 1..3 {
        assert_eq!(place.fail(3), [Attempt { id: place.bad, attempts, quarantined: false }]);
        let note = json(&place.attempts(place.bad));
        assert_eq!(
            (&note["attempts"], &note["last_error"]),
            (&attempts.into(), &"the model refuses it".into())
        );
        assert!(note["last_at"].as_str().is_some_and(|at| at.ends_with('Z')), "{note}");
        assert!(!place.is_quarantined("too few attempts"));
        assert_eq!(place.pod().examine().expect("examined"), [], "attempts of a staged entry are in order");
    }
    assert_eq!(place.fail(3), [Attempt { id: place.bad, attempts: 3, quarantined: true }]);
    assert!(place.is_quarantined("the limit is reached"));
    assert!(!place.attempts(place.bad).exists());
    let note = json(&place.quarantine(&place.bad.reason_name()));
    assert_eq!(note["id"], place.bad.to_string());
    let listed = place.pod().quarantined().expect("listed");
    assert_eq!(listed.len(), 1);
    assert_eq!((listed[0].id, listed[0].attempts, listed[0].bytes), (place.bad, 3, MINIMAL.len() as u64));
    assert_eq!(listed[0].reason, "the model refuses it");
    assert_eq!(note["since"], listed[0].since);
    assert!(!listed[0].since.is_empty());
    place.assert_in_order_after_mending("set aside");
}

#[test]
fn reason_is_on_the_disk_before_the_entry_moves_and_the_attempts_go_after_it() {
    let place = Place::new();
    let faults = Faults::none();
    let mut held = place.hold(&faults, Durability::Full);
    held.record_failures(&[failure(place.bad)], 1).expect("recorded");
    assert_eq!(
        place.told(&faults),
        [
            "CreateDir _staging/.attempts",
            "Create _staging/.attempts/TMP",
            "Write _staging/.attempts/TMP",
            "Rename _staging/.attempts/TMP -> _staging/.attempts/BAD.json",
            "CreateDir _staging/quarantine",
            "SyncNames _staging",
            "Create _staging/quarantine/TMP",
            "Write _staging/quarantine/TMP",
            "Sync _staging/quarantine/TMP",
            "Rename _staging/quarantine/TMP -> _staging/quarantine/BAD.reason.json",
            "SyncNames _staging/quarantine",
            "Rename _staging/BAD.json -> _staging/quarantine/BAD.json",
            "SyncNames _staging/quarantine",
            "SyncNames _staging",
            "Unlink _staging/.attempts/BAD.json",
        ]
    );
    let calls = faults.calls();
    let at = |wanted: &dyn Fn(&Call) -> bool| calls.iter().rposition(wanted).expect("it is called");
    let reason = at(&|call| call.op == Op::Rename && call.to.ends_with(".reason.json"));
    let flag = at(&|call| call.op == Op::Stat && call.path.contains("/.owners/"));
    let moved = at(&|call| call.op == Op::Rename && call.path.starts_with("_staging/0"));
    assert!(reason < flag && flag < moved, "the lock is looked at in between: {reason} {flag} {moved}");
}

#[test]
fn limit_of_none_never_moves_an_entry() {
    let place = Place::new();
    for attempts in 1..=5 {
        assert_eq!(place.fail(0), [Attempt { id: place.bad, attempts, quarantined: false }]);
    }
    assert!(!place.workspace.staged("quarantine").exists());
}

#[test]
fn attempts_do_not_overflow() {
    let place = Place::new();
    place.fail(0);
    fs::write(place.attempts(place.bad), format!("{{\"attempts\":{}}}", u32::MAX)).expect("written");
    assert_eq!(place.fail(0)[0].attempts, u32::MAX);
}

#[test]
fn what_is_not_staged_any_more_is_passed_over() {
    let place = Place::new();
    let (gone, directory, consumed) = (new_entry_id(), new_entry_id(), place.workspace.put_entry());
    fs::create_dir(place.workspace.staged(&directory.file_name())).expect("a directory");
    let run = new_entry_id();
    let outcome = Outcome::new(run, Ending::Consolidated, Owner::unknown(), wall_clock(), vec![consumed]);
    let mut held = place.hold(&Faults::none(), Durability::None);
    let unfinished = place.workspace.root().join(UNFINISHED_PATH);
    fs::write(unfinished.join(Progress::Committed.name(run)), outcome.to_file()).expect("written");
    let failures = [failure(gone), failure(directory), failure(consumed), failure(place.bad)];
    let recorded = held.record_failures(&failures, 1).expect("recorded");
    assert_eq!(recorded, [Attempt { id: place.bad, attempts: 1, quarantined: true }]);
    assert_eq!(held.record_failures(&failures, 1).expect("recorded"), [], "it is not staged now");
    assert_eq!(held.record_failures(&[], 1).expect("nothing to do"), []);
    assert!(place.workspace.staged(&directory.file_name()).is_dir());
    assert!(place.workspace.staged(&consumed.file_name()).exists());
    assert_eq!(names(&place.workspace.staged(".attempts")), [] as [String; 0]);
}

#[test]
fn reason_is_kept_as_one_line_of_five_hundred_characters() {
    let long = "é".repeat(MAX_REASON_CHARS + 1);
    for (reason, kept) in [
        ("a\nb\u{1b}[31m\tc", "a\\nb\\u{1b}[31m\\tc".to_owned()),
        ("\"quoted\" \\n stays", "\"quoted\" \\n stays".into()),
        ("one\u{2028}two\u{85}", "one\\u{2028}two\\u{85}".into()),
        (&*long, "é".repeat(MAX_REASON_CHARS)),
        (&*format!("{}\n", "x".repeat(MAX_REASON_CHARS - 1)), "x".repeat(MAX_REASON_CHARS - 1)),
        ("", String::new()),
    ] {
        let place = Place::new();
        let mut held = place.hold(&Faults::none(), Durability::None);
        held.record_failures(&[(place.bad, reason.into())], 2).expect("recorded");
        assert_eq!(json(&place.attempts(place.bad))["last_error"], kept, "{reason:?}");
        held.record_failures(&[(place.bad, reason.into())], 2).expect("recorded");
        assert_eq!(json(&place.quarantine(&place.bad.reason_name()))["reason"], kept, "{reason:?}");
        assert_eq!(place.pod().quarantined().expect("listed")[0].reason, kept, "{reason:?}");
    }
}

#[test]
fn attempts_that_cannot_be_understood_count_as_none() {
    let large = format!("{{\"attempts\":5,\"last_error\":\"{}\"}}", "x".repeat(100_000));
    for content in ["", "{\"attempts\":", "[5]", "{\"attempts\":-1}", "{\"attempts\":\"5\"}", "\0\0", &*large]
    {
        let place = Place::new();
        place.fail(0);
        fs::write(place.attempts(place.bad), content).expect("written");
        assert_eq!(
            place.fail(5),
            [Attempt { id: place.bad, attempts: 1, quarantined: false }],
            "{content:.20}"
        );
    }
    let place = Place::new();
    place.fail(0);
    fs::write(place.attempts(place.bad), "{\"attempts\":4,\"later\":{}}").expect("written");
    assert!(place.fail(5)[0].quarantined, "other members are no hindrance");
}

/// What stands in the place of a file or a directory of ours, so that nothing can be noted or moved.
fn put_in_the_way(path: &Path, outside: &Path, kind: usize) {
    fs::create_dir_all(path.parent().expect("a directory")).expect("a directory");
    match kind {
        0 => fs::write(path, "mine").expect("written"),
        1 => fs::create_dir(path).expect("a directory"),
        2 => symlink(outside, path).expect("a link"),
        _ => symlink("nowhere", path).expect("a link"),
    }
}

#[test]
fn something_else_in_the_place_of_a_directory_is_refused_and_nothing_is_lost() {
    for kind in [0, 2, 3] {
        for name in ["quarantine", ".attempts"] {
            let place = Place::new();
            let outside = place.workspace.root().join("outside");
            fs::create_dir(&outside).expect("a directory");
            let path = place.workspace.staged(name);
            put_in_the_way(&path, &outside, kind);
            let mut held = place.hold(&Faults::none(), Durability::Full);
            let error = held.record_failures(&[failure(place.bad)], 1).expect_err("refused");
            held.release_only(None).expect("released");
            assert_eq!(error.code, ErrorCode::WrongFileType, "{name} {kind}: {error}");
            assert_eq!(error.path.as_deref(), Some(&*format!("_staging/{name}")), "{error}");
            assert!(error.message.contains("move it away"), "{error}");
            assert!(!place.is_quarantined(name));
            assert_eq!(names(&outside), [] as [String; 0], "a link was followed");
            let pod = place.pod();
            let summary = pod.summarize().expect("a summary");
            assert_eq!((summary.entries, summary.quarantined), (2, 0), "{name} {kind}");
            let found = pod.mend(&options(Durability::None)).expect("mended");
            assert_eq!((found.len(), found[0].kind, found[0].mended), (1, FindingKind::Foreign, false));
            if name == "quarantine" {
                assert_eq!(pod.quarantined().expect_err("refused").code, ErrorCode::WrongFileType);
                let refused = pod.retry_quarantined(&[place.bad], Durability::None).expect_err("refused");
                assert_eq!(refused.code, ErrorCode::WrongFileType);
                let refused = pod.drop_quarantined(&[place.bad]).expect_err("refused");
                assert_eq!(refused.code, ErrorCode::WrongFileType);
            }
            assert!(path.symlink_metadata().is_ok(), "it was not touched");
            fs::remove_file(&path).expect("moved away");
            assert!(place.fail(1)[0].quarantined, "{name} {kind}: once it is moved away");
        }
    }
}

#[test]
fn something_else_in_the_place_of_a_note_is_refused_or_replaced_but_never_followed() {
    for kind in 1..4 {
        for of_reason in [false, true] {
            let place = Place::new();
            let outside = place.workspace.root().join("outside");
            fs::write(&outside, "mine").expect("written");
            let path = if of_reason {
                place.quarantine(&place.bad.reason_name())
            } else {
                place.attempts(place.bad)
            };
            put_in_the_way(&path, &outside, kind);
            let mut held = place.hold(&Faults::none(), Durability::Full);
            let recorded = held.record_failures(&[failure(place.bad)], 1);
            held.release_only(None).expect("released");
            if of_reason && kind > 1 {
                assert!(recorded.expect("a link is replaced")[0].quarantined);
                assert!(place.is_quarantined("replaced"));
            } else {
                let error = recorded.expect_err("refused");
                assert_eq!(error.code, ErrorCode::WrongFileType, "{error}");
                assert!(!place.is_quarantined("refused"));
                assert!(path.symlink_metadata().is_ok());
            }
            assert_eq!(fs::read(&outside).expect("it is there"), b"mine");
            assert_eq!(names(place.workspace.root()), ["_staging", "outside", "runs"], "nothing came to be");
        }
    }
}

/// The rename would replace it; and if it is the same file, it would do nothing and report success.
#[test]
fn file_of_the_same_name_in_the_quarantine_is_never_replaced() {
    for is_same_file in [false, true] {
        let place = Place::new();
        let (staged, aside) =
            (place.workspace.staged(&place.bad.file_name()), place.quarantine(&place.bad.file_name()));
        fs::create_dir(place.workspace.staged("quarantine")).expect("a directory");
        if is_same_file {
            fs::hard_link(&staged, &aside).expect("a link");
        } else {
            fs::write(&aside, "another").expect("written");
        }
        let before = fs::read(&aside).expect("it is there");
        let mut held = place.hold(&Faults::none(), Durability::None);
        let failures = [failure(place.other), failure(place.bad)];
        let error = held.record_failures(&failures, 1).expect_err("refused");
        assert_eq!((error.code, error.index), (ErrorCode::Conflict, Some(1)), "{error}");
        assert_eq!(fs::read(&aside).expect("it is there"), before);
        assert_eq!(fs::read_to_string(&staged).expect("it is there"), MINIMAL);
        assert!(place.quarantine(&place.other.file_name()).exists(), "those before it are done");
        let refused = place.pod().retry_quarantined(&[place.bad], Durability::None).expect_err("refused");
        assert_eq!((refused.code, refused.index), (ErrorCode::Conflict, Some(0)), "{refused}");
        assert_eq!(fs::read(&aside).expect("it is there"), before);
        assert_eq!(fs::read_to_string(&staged).expect("it is there"), MINIMAL);
        place.pod().drop_quarantined(&[place.bad]).expect("dropped");
        assert_eq!(fs::read_to_string(&staged).expect("it is there"), MINIMAL);
    }
}

#[test]
fn owner_killed_before_any_call_of_recording_leaves_the_entry_whole_in_one_place() {
    for durability in [Durability::Full, Durability::None] {
        let mut ends = [0, 0];
        for number in 0.. {
            let place = Place::new();
            let faults = Faults::none();
            let mut held = place.hold(&faults, durability);
            faults.become_(killed_before(number));
            let recorded = held.record_failures(&[failure(place.bad)], 1);
            let told = format!("{durability:?}: killed before call {number}");
            let moved = place.is_quarantined(&told);
            ends[usize::from(moved)] += 1;
            place.assert_in_order_after_mending(&told);
            if !moved {
                // Attempts that were noted count, so that a crash is no way around the limit.
                let attempt = place.fail(1);
                assert!(attempt[0].quarantined && attempt[0].attempts <= 2, "{told}: {attempt:?}");
            }
            place.pod().retry_quarantined(&[place.bad], durability).expect("staged again");
            assert!(!place.is_quarantined(&told));
            assert_eq!(place.fail(2)[0].attempts, 1, "{told}: the attempts start again");
            if faults.calls().len() <= number {
                assert!(recorded.expect("nobody killed it")[0].quarantined);
                break;
            }
        }
        assert!(ends[0] >= 10 && ends[1] >= 2, "{ends:?}");
    }
}

#[test]
fn whatever_fails_while_recording_the_entry_is_whole_in_one_place_and_the_answer_says_where() {
    let count = {
        let place = Place::new();
        let faults = Faults::none();
        let mut held = place.hold(&faults, Durability::Full);
        held.record_failures(&[failure(place.bad)], 1).expect("recorded");
        faults.calls().len()
    };
    assert!(count > 15, "{count} calls");
    for number in 0..count {
        for fault in faults() {
            let place = Place::new();
            let faults = Faults::none();
            let mut held = place.hold(&faults, Durability::Full);
            faults.become_(nth(number, fault));
            let recorded = held.record_failures(&[failure(place.bad)], 1);
            let told = format!("{fault:?} of {:?}", faults.calls().get(number));
            faults.become_(|_, _| Fault::Pass);
            let moved = place.is_quarantined(&told);
            match recorded {
                Ok(attempts) => {
                    assert_eq!(attempts.iter().any(|attempt| attempt.quarantined), moved, "{told}")
                }
                Err(error) if moved => {
                    assert!(error.message.contains("is in the quarantine"), "{told}: {error}")
                }
                Err(_) => {}
            }
            let _ = held.release_only(None);
            place.assert_in_order_after_mending(&told);
        }
    }
}

#[test]
fn disk_that_is_full_at_any_step_of_recording_keeps_the_entry_staged() {
    for fault in [Fault::Refuse(FsErrorKind::NoSpace), Fault::After(FsErrorKind::NoSpace)] {
        for op in [Op::CreateDir, Op::Create, Op::Write, Op::Sync] {
            for step in [".attempts", "quarantine"] {
                if (op, step) == (Op::Sync, ".attempts") {
                    continue;
                }
                let place = Place::new();
                let faults = Faults::none();
                let mut held = place.hold(&faults, Durability::Full);
                let full = move |call: &Call| call.op == op && call.path.contains(step);
                faults.become_(move |_, call| if full(call) { fault } else { Fault::Pass });
                let error = held.record_failures(&[failure(place.bad)], 1).expect_err("no space");
                let told = format!("{fault:?} of {op:?} in {step}");
                assert_eq!(
                    (error.code, error.index.unwrap_or(0)),
                    (ErrorCode::NoSpace, 0),
                    "{told}: {error}"
                );
                assert!(error.message.contains("free some space"), "{error}");
                assert!(!place.is_quarantined(&told));
                held.release_only(None).expect("released");
                place.assert_in_order_after_mending(&told);
                assert!(place.fail(1)[0].quarantined, "{told}: there is space again");
            }
        }
    }
}

#[test]
fn owner_that_has_lost_the_lock_moves_nothing() {
    let place = Place::new();
    let mut held = place.hold(&Faults::none(), Durability::None);
    place.pod().unlock(&options(Durability::None), true, None).expect("unlocked");
    let error = held.record_failures(&[failure(place.bad)], 1).expect_err("lost");
    assert_eq!(error.code, ErrorCode::LockLost, "{error}");
    assert!(!place.is_quarantined("before the first step"));
    assert!(!place.workspace.staged(".attempts").exists());

    // Stopped after the reason was written, and taken for dead then.
    let place = Place::new();
    let faults = Faults::none();
    let mut held = place.hold(&faults, Durability::None);
    let flag = place.workspace.owner(&place.workspace.owners()[0]);
    faults.become_(move |_, call| {
        if call.op == Op::Create && call.path.contains("/quarantine/") {
            let _ = fs::remove_file(&flag);
        }
        Fault::Pass
    });
    let error = held.record_failures(&[failure(place.bad)], 1).expect_err("lost");
    assert_eq!((error.code, error.index), (ErrorCode::LockLost, Some(0)), "{error}");
    assert!(!place.is_quarantined("after the reason"));
}

#[test]
fn entry_that_goes_while_it_is_moved_is_passed_over() {
    let place = Place::new();
    let faults = Faults::none();
    let mut held = place.hold(&faults, Durability::Full);
    let staged = place.workspace.staged(&place.bad.file_name());
    faults.become_(move |_, call| {
        if call.op == Op::Create && call.path.contains("/quarantine/") {
            let _ = fs::remove_file(&staged);
        }
        Fault::Pass
    });
    assert_eq!(held.record_failures(&[failure(place.bad)], 1).expect("recorded"), []);
    held.release_only(None).expect("released");
    assert_eq!(names(&place.workspace.staged("quarantine")), [] as [String; 0]);
    place.pod().mend(&options(Durability::None)).expect("mended");
    assert_eq!(names(&place.workspace.staged(".attempts")), [] as [String; 0]);
}

#[test]
fn quarantine_is_listed_oldest_first_whatever_is_wrong_with_the_reasons() {
    let place = Place::new();
    let pod = place.pod();
    assert_eq!(pod.quarantined().expect("listed"), []);
    assert!(!place.workspace.staged("quarantine").exists(), "who looks creates nothing");
    let quarantine = place.workspace.staged("quarantine");
    fs::create_dir(&quarantine).expect("a directory");
    let large = format!("{{\"reason\":\"{}\"}}", "x".repeat(100_000));
    let reasons = [
        ("", ("", 0)),
        ("{\"reason\":", ("", 0)),
        ("[\"a\", 1, \"b\", \"c\"]", ("", 0)),
        ("{\"reason\":7}", ("", 0)),
        (&*large, ("", 0)),
        ("{\"reason\":\"half\"}", ("half", 0)),
        ("{\"attempts\":3,\"reason\":\"\\u001b[2J\\n\",\"since\":\"x\\n\",\"more\":1}", ("\\u{1b}[2J\\n", 3)),
    ];
    let ids: Vec<EntryId> = reasons.iter().map(|_| new_entry_id()).collect();
    // The youngest first, so that no order of making is the right one.
    for (id, (content, _)) in ids.iter().zip(reasons).rev() {
        fs::write(quarantine.join(id.file_name()), MINIMAL).expect("written");
        fs::write(quarantine.join(id.reason_name()), content).expect("written");
    }
    let (lost, linked) = (new_entry_id(), new_entry_id());
    fs::write(quarantine.join(lost.file_name()), "not even JSON").expect("written");
    fs::write(quarantine.join(linked.file_name()), MINIMAL).expect("written");
    symlink("/etc/passwd", quarantine.join(linked.reason_name())).expect("a link");
    for foreign in ["README", "notes.json", ".hidden"] {
        fs::write(quarantine.join(foreign), "").expect("written");
    }
    symlink("README", quarantine.join(new_entry_id().file_name())).expect("a link");
    fs::create_dir(quarantine.join(new_entry_id().file_name())).expect("a directory");
    let listed = pod.quarantined().expect("listed");
    let found: Vec<EntryId> = listed.iter().map(|entry| entry.id).collect();
    assert_eq!(found, [ids.clone(), vec![lost, linked]].concat());
    for (entry, (_, (reason, attempts))) in listed.iter().zip(reasons) {
        assert_eq!((&*entry.reason, entry.attempts), (reason, attempts));
        assert!(!entry.since.contains('\n'));
    }
    for entry in &listed[ids.len()..] {
        assert_eq!((&*entry.reason, entry.attempts, &*entry.since), ("", 0, ""));
    }
    assert_eq!(listed[ids.len()].bytes, 13);
    assert_eq!(pod.summarize().expect("a summary").quarantined, 9);
}

#[test]
fn retry_stages_the_entry_with_no_attempts_counted() {
    let place = Place::with_quarantined();
    // A crash before the attempts went.
    fs::write(place.attempts(place.bad), "{\"attempts\":9}").expect("written");
    let faults = Faults::none();
    let pod = place.workspace.open_faulty(&place.world.start(OTHER), &faults);
    pod.retry_quarantined(&[place.bad], Durability::Full).expect("staged again");
    assert_eq!(
        place.told(&faults),
        [
            "Unlink _staging/.attempts/BAD.json",
            "Rename _staging/quarantine/BAD.json -> _staging/BAD.json",
            "SyncNames _staging",
            "SyncNames _staging/quarantine",
            "Unlink _staging/quarantine/BAD.reason.json",
        ]
    );
    assert!(!place.is_quarantined("staged again"));
    assert_eq!(names(&place.workspace.staged("quarantine")), [] as [String; 0]);
    assert_eq!(pod.entry_ids().expect("listed"), [place.bad, place.other], "in its old place");
    assert_eq!(place.fail(2), [Attempt { id: place.bad, attempts: 1, quarantined: false }]);
}

#[test]
fn retry_and_drop_stop_at_the_first_that_is_not_there_and_say_which() {
    let pod_of = |place: &Place| place.workspace.open(&place.world.start(OTHER));
    let (not_there, directory) = (new_entry_id(), new_entry_id());
    let act = |place: &Place, drops: bool, ids: &[EntryId]| {
        let pod = pod_of(place);
        if drops { pod.drop_quarantined(ids) } else { pod.retry_quarantined(ids, Durability::Full) }
    };
    for drops in [false, true] {
        let bare = Place::new();
        act(&bare, drops, &[]).expect("nothing to do");
        let error = act(&bare, drops, &[bare.bad]).expect_err("no quarantine");
        assert_eq!((error.code, error.index), (ErrorCode::NotFound, Some(0)), "{error}");
        for (odd, code) in [(not_there, ErrorCode::NotFound), (directory, ErrorCode::WrongFileType)] {
            let place = Place::new();
            let mut held = place.hold(&Faults::none(), Durability::None);
            let failures = [failure(place.bad), failure(place.other)];
            held.record_failures(&failures, 1).expect("recorded");
            held.release_only(None).expect("released");
            fs::create_dir(place.quarantine(&directory.file_name())).expect("a directory");
            let error = act(&place, drops, &[place.bad, odd, place.other]).expect_err("refused");
            assert_eq!((error.code, error.index), (code, Some(1)), "{error}");
            let left: Vec<EntryId> =
                pod_of(&place).quarantined().expect("listed").iter().map(|entry| entry.id).collect();
            assert_eq!(left, [place.other], "those before it are done, those after it are not");
            assert_eq!(place.workspace.staged(&place.bad.file_name()).exists(), !drops);
            assert!(!place.quarantine(&place.bad.reason_name()).exists());
            assert!(place.quarantine(&place.other.reason_name()).exists());
        }
    }
}

#[test]
fn retry_of_an_id_that_is_given_twice_finds_it_gone_the_second_time() {
    let place = Place::with_quarantined();
    let error =
        place.pod().retry_quarantined(&[place.bad, place.bad], Durability::None).expect_err("it is gone");
    assert_eq!((error.code, error.index), (ErrorCode::NotFound, Some(1)), "{error}");
    assert!(!place.is_quarantined("staged again"));
}

#[test]
fn retry_works_where_the_file_system_has_no_hard_links() {
    let place = Place::with_quarantined();
    let faults = Faults::of(Op::Link, Fault::Refuse(FsErrorKind::Unsupported));
    let pod = place.workspace.open_faulty(&place.world.start(OTHER), &faults);
    pod.retry_quarantined(&[place.bad], Durability::Full).expect("staged again");
    assert!(!place.is_quarantined("staged again"));
    assert!(place.fail(1)[0].quarantined, "and is set aside again");
}

#[test]
fn retry_killed_before_any_call_leaves_the_entry_whole_in_one_place() {
    let mut ends = [0, 0];
    for number in 0.. {
        let place = Place::with_quarantined();
        let faults = Faults::none();
        let pod = place.workspace.open_faulty(&place.world.start(OWN), &faults);
        faults.become_(killed_before(number));
        let retried = pod.retry_quarantined(&[place.bad], Durability::Full);
        let told = format!("killed before call {number}");
        let still_there = place.is_quarantined(&told);
        ends[usize::from(still_there)] += 1;
        place.assert_in_order_after_mending(&told);
        if still_there {
            place.pod().retry_quarantined(&[place.bad], Durability::Full).expect("staged again");
        }
        assert_eq!(place.fail(2)[0].attempts, 1, "{told}: the attempts start again");
        if faults.calls().len() <= number {
            retried.expect("nobody killed it");
            break;
        }
    }
    assert!(ends.iter().all(|count| *count >= 3), "{ends:?}");
}

#[test]
fn whatever_fails_in_a_retry_the_entry_is_whole_in_one_place() {
    let count = {
        let place = Place::with_quarantined();
        let faults = Faults::none();
        let pod = place.workspace.open_faulty(&place.world.start(OWN), &faults);
        pod.retry_quarantined(&[place.bad], Durability::Full).expect("staged again");
        faults.calls().len()
    };
    for number in 0..count {
        for fault in faults() {
            let place = Place::with_quarantined();
            let faults = Faults::none();
            let pod = place.workspace.open_faulty(&place.world.start(OWN), &faults);
            faults.become_(nth(number, fault));
            let retried = pod.retry_quarantined(&[place.bad], Durability::Full);
            let told = format!("{fault:?} of {:?}", faults.calls().get(number));
            let still_there = place.is_quarantined(&told);
            assert!(retried.is_err() || !still_there, "{told}: {retried:?}");
            place.assert_in_order_after_mending(&told);
        }
    }
}

#[test]
fn drop_killed_before_any_call_leaves_at_most_a_reason() {
    for number in 0.. {
        let place = Place::with_quarantined();
        let faults = Faults::none();
        let pod = place.workspace.open_faulty(&place.world.start(OWN), &faults);
        faults.become_(killed_before(number));
        let dropped = pod.drop_quarantined(&[place.bad]);
        let told = format!("killed before call {number}");
        let is_there = place.quarantine(&place.bad.file_name()).exists();
        assert_eq!(is_there, dropped.is_err(), "{told}");
        assert_eq!(place.pod().quarantined().expect("listed").len(), usize::from(is_there), "{told}");
        let found = place.pod().mend(&options(Durability::None)).expect("mended");
        assert!(found.iter().all(|finding| finding.mended), "{told}: {found:?}");
        let left = names(&place.workspace.staged("quarantine"));
        assert_eq!(left.len(), if is_there { 2 } else { 0 }, "{told}: {left:?}");
        assert!(place.workspace.staged(&place.other.file_name()).exists());
        if faults.calls().len() <= number {
            dropped.expect("nobody killed it");
            break;
        }
    }
}

/// Consumes entries in a run of its own.
fn consume(held: Held<FaultyDir, TestSystem>, ids: &[EntryId]) -> Result<u64, Error> {
    let mut held = held;
    held.record_consumed(ids.to_vec(), new_entry_id())?;
    held.release_with_cleanup().map(|report| report.removed)
}

#[test]
fn attempts_of_entries_that_are_consumed_go_with_them_and_those_of_others_stay() {
    let place = Place::new();
    let mut held = place.hold(&Faults::none(), Durability::Full);
    held.record_failures(&[failure(place.bad), failure(place.other)], 5).expect("recorded");
    assert_eq!(consume(held, &[place.bad]).expect("released"), 1);
    assert_eq!(names(&place.workspace.staged(".attempts")), [place.other.file_name()]);
    assert_eq!(place.pod().examine().expect("examined"), []);
}

/// A retry would have it consumed once more.
#[test]
fn consumed_entry_that_a_late_owner_has_set_aside_is_deleted_in_the_quarantine() {
    for number in 0.. {
        let place = Place::new();
        let faults = Faults::none();
        let mut held = place.hold(&faults, Durability::Full);
        held.record_consumed(vec![place.bad, place.other], new_entry_id()).expect("recorded");
        // What the late owner comes to now.
        let (name, reason) = (place.bad.file_name(), format!("{}.reason.json", place.bad));
        fs::create_dir(place.workspace.staged("quarantine")).expect("a directory");
        fs::rename(place.workspace.staged(&name), place.quarantine(&name)).expect("set aside");
        fs::write(place.quarantine(&reason), "{}").expect("a reason");
        faults.become_(killed_before(number));
        let released = held.release_with_cleanup();
        place.world.end(OWN);
        let calls = faults.calls();
        let committed = has_committed(&calls, Fault::Refuse(FsErrorKind::Io));
        let next = place.hold_as(OTHER, &Faults::none(), Durability::Full);
        next.release_only(None).expect("released");
        let told = format!("killed before call {number}");
        assert_eq!(place.quarantine(&name).exists(), !committed, "{told}");
        assert_eq!(place.workspace.staged(&place.other.file_name()).exists(), !committed, "{told}");
        assert!(
            place.pod().mend(&options(Durability::None)).expect("mended").iter().all(|f| f.mended),
            "{told}"
        );
        assert!(committed || place.quarantine(&reason).exists(), "{told}");
        if calls.len() <= number {
            let report = released.expect("released");
            assert_eq!((report.removed, report.missing), (2, 0), "{told}");
            assert_eq!(names(&place.workspace.staged("quarantine")), [] as [String; 0]);
            break;
        }
    }
}

#[test]
fn run_whose_delete_in_the_quarantine_may_not_last_stays_to_be_ended() {
    let refused = |_: usize, call: &Call| match call.op == Op::SyncNames && call.path.ends_with("quarantine")
    {
        true => Fault::Refuse(FsErrorKind::Io),
        false => Fault::Pass,
    };
    for durability in [Durability::Full, Durability::None] {
        let place = Place::new();
        let faults = Faults::none();
        let mut held = place.hold(&faults, durability);
        held.record_consumed(vec![place.bad, place.other], new_entry_id()).expect("recorded");
        let name = place.bad.file_name();
        fs::create_dir(place.workspace.staged("quarantine")).expect("a directory");
        fs::rename(place.workspace.staged(&name), place.quarantine(&name)).expect("set aside");
        faults.become_(refused);
        let report = held.release_with_cleanup().expect("released");
        assert!(!place.quarantine(&name).exists());
        if durability == Durability::None {
            assert_eq!((report.removed, report.failed.as_slice()), (2, &[] as &[_]));
            continue;
        }
        let [(id, reason)] = report.failed.as_slice() else { panic!("{report:?}") };
        assert_eq!((*id, report.removed, report.missing), (place.bad, 1, 0));
        assert!(reason.contains("synchronise _staging/quarantine"), "{reason}");
        place.world.end(OWN);
        // Whoever ends it may fail as well, and has deleted nothing itself.
        for (pid, ends) in [(OTHER, false), (OTHER + 1, true)] {
            let faults = Faults::none();
            let next = place.workspace.open_faulty(&place.world.start(pid), &faults);
            faults.become_(move |number, call| if ends { Fault::Pass } else { refused(number, call) });
            let (next, _) = next.acquire(&options(durability)).expect("held");
            let [recovered] = next.recovered() else { panic!("{:?}", next.recovered()) };
            assert_eq!((recovered.removed, recovered.failed.is_empty()), (0, ends));
            let synced = faults.calls().iter().any(|call| {
                call.op == Op::SyncNames && call.path.ends_with("quarantine") && call.failed.is_none()
            });
            assert_eq!(synced, ends);
            next.release_only(None).expect("released");
            place.world.end(pid);
        }
        assert_eq!(place.hold_as(OTHER + 2, &Faults::none(), durability).recovered(), []);
    }
}

#[test]
fn run_that_can_not_look_into_the_quarantine_stays_to_be_ended() {
    for kind in [FsErrorKind::Io, FsErrorKind::Access, FsErrorKind::NoSpace, FsErrorKind::Exhausted] {
        let place = Place::new();
        let faults = Faults::none();
        let mut held = place.hold(&faults, Durability::Full);
        held.record_consumed(vec![place.bad, place.other], new_entry_id()).expect("recorded");
        let name = place.bad.file_name();
        fs::create_dir(place.workspace.staged("quarantine")).expect("a directory");
        fs::rename(place.workspace.staged(&name), place.quarantine(&name)).expect("set aside");
        faults.become_(move |_, call| match call.op == Op::OpenDir && call.path.ends_with("quarantine") {
            true => Fault::Refuse(kind),
            false => Fault::Pass,
        });
        let report = held.release_with_cleanup().expect("released");
        let [(id, reason)] = report.failed.as_slice() else { panic!("{report:?}") };
        assert_eq!((*id, report.removed, report.missing), (place.bad, 1, 0));
        assert!(reason.contains("look for consumed entries in _staging/quarantine"), "{reason}");
        assert!(place.quarantine(&name).exists());
        // Nobody gets it meanwhile, and the next owner deletes it.
        assert_eq!(place.pod().consumed().expect("read"), [place.bad, place.other]);
        place.world.end(OWN);
        let next = place.hold_as(OTHER, &Faults::none(), Durability::Full);
        let [recovered] = next.recovered() else { panic!("{:?}", next.recovered()) };
        assert_eq!((recovered.removed, recovered.failed.as_slice()), (1, &[] as &[_]));
        assert!(!place.quarantine(&name).exists());
    }
}

#[test]
fn consumed_entry_that_a_retry_takes_back_while_it_is_deleted_is_deleted_all_the_same() {
    let place = Place::new();
    let faults = Faults::none();
    let mut held = place.hold(&faults, Durability::Full);
    held.record_consumed(vec![place.bad, place.other], new_entry_id()).expect("recorded");
    let name = place.bad.file_name();
    let (staged, aside) = (place.workspace.staged(&name), place.quarantine(&name));
    fs::create_dir(place.workspace.staged("quarantine")).expect("a directory");
    fs::rename(&staged, &aside).expect("set aside");
    let (from, to) = (aside.clone(), staged.clone());
    faults.become_(move |_, call| {
        if call.op == Op::Unlink && call.path.ends_with(&format!("quarantine/{name}")) {
            fs::rename(&from, &to).expect("taken back");
        }
        Fault::Pass
    });
    let report = held.release_with_cleanup().expect("released");
    assert_eq!((report.removed, report.missing, report.failed.as_slice()), (2, 0, &[] as &[_]));
    assert!(!staged.exists() && !aside.exists());
}

#[test]
fn attempts_left_by_an_owner_killed_after_its_deletes_go_with_the_next_run() {
    let mut seen = 0;
    for number in 0.. {
        let place = Place::new();
        place.fail(5);
        let faults = Faults::none();
        let mut held = place.hold(&faults, Durability::Full);
        held.record_consumed(vec![place.bad], new_entry_id()).expect("recorded");
        faults.become_(killed_before(number));
        let _ = held.release_with_cleanup();
        place.world.end(OWN);
        let is_gone = !place.workspace.staged(&place.bad.file_name()).exists();
        assert!(
            is_gone || place.attempts(place.bad).exists(),
            "{number}: an entry that stays is still counted"
        );
        if is_gone && place.attempts(place.bad).exists() {
            seen += 1;
            let next = place.hold_as(OTHER, &Faults::none(), Durability::Full);
            assert_eq!(consume(next, &[place.other]).expect("released"), 1);
            assert!(!place.attempts(place.bad).exists(), "killed before call {number}");
        }
        if faults.calls().len() <= number {
            assert!(!place.attempts(place.bad).exists());
            break;
        }
    }
    assert!(seen >= 3, "{seen}");
}

#[test]
fn run_without_failures_looks_for_notes_once_and_changes_nothing_for_them() {
    for made in [false, true] {
        let place = Place::new();
        if made {
            fs::create_dir(place.workspace.staged(".attempts")).expect("a directory");
            fs::create_dir(place.workspace.staged("quarantine")).expect("a directory");
        }
        let faults = Faults::none();
        let held = place.hold(&faults, Durability::Full);
        consume(held, &[place.bad, place.other]).expect("released");
        let of_notes = |call: &&Call| call.path.contains(".attempts") || call.path.contains("quarantine");
        let calls: Vec<Op> = faults.calls().iter().filter(of_notes).map(|call| call.op).collect();
        let looks = [Op::OpenDir, Op::List];
        assert_eq!(calls, if made { [looks, looks].concat() } else { vec![Op::OpenDir; 2] });
    }
}

#[test]
fn temporary_files_of_killed_writers_are_found_and_removed_once_they_are_old() {
    for name in [".attempts", "quarantine"] {
        let place = Place::with_quarantined();
        let old = entry_id(wall_clock().millis() - 2 * 86_400_000, 1);
        let fresh = entry_id(wall_clock().millis(), 2);
        let directory = place.workspace.staged(name);
        for id in [old, fresh] {
            fs::write(directory.join(id.temporary_name()), "{").expect("written");
        }
        set_age(&directory.join(old.temporary_name()), 2 * 86_400);
        let found = place.pod().mend(&options(Durability::None)).expect("mended");
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!((found[0].kind, found[0].mended), (FindingKind::Temporary, true));
        assert_eq!(found[0].path, format!("_staging/{name}/{}", old.temporary_name()));
        assert!(directory.join(fresh.temporary_name()).exists(), "its writer may be at work");
        assert!(place.is_quarantined("it is left"));
    }
}
