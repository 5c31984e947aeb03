//! The lock: who gets it, who is told whose it is, what is removed and what never is.

use crate::support::faulty::{Fault, Faults, Op};
use crate::support::system::{TestSystem, World, running, scope, zombie};
use crate::support::{
    MINIMAL, OriginalRecord, TestWorkspace, entry_id, names, new_entry_id, original_record, set_age,
};
use consolidation_guest::durable::Durability;
use consolidation_guest::error::{Error, ErrorCode, Owner, Result};
use consolidation_guest::fs::{FsErrorKind, Time};
use consolidation_guest::layout::{EntryId, FlagName, LOCK_PATH, OWNERS, Token};
use consolidation_guest::lock::{
    AcquireOptions, Held, Holder, MAX_POD_NAME_BYTES, ReleaseReport, Status, Takeover,
};
use consolidation_guest::native::NativeDir;
use consolidation_guest::record::LockRecord;
use consolidation_guest::system::{Evidence, Identity, System};
use consolidation_guest::workspace::Workspace;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex};
use std::time::{Duration, SystemTime};

const OWN: u32 = 4242;
const OTHER: u32 = 77;
/// An id that no process can have: its owner is dead in every world.
const DEAD: u32 = u32::MAX;

fn options(pod: &str) -> AcquireOptions {
    AcquireOptions { pod_name: pod.into(), lease_seconds: Some(60), token: None, ..AcquireOptions::default() }
}

fn with_token(pod: &str, token: Token) -> AcquireOptions {
    AcquireOptions { token: Some(token), ..options(pod) }
}

fn acquire(
    workspace: &TestWorkspace,
    system: &TestSystem,
    pod: &str,
) -> Result<(Held<NativeDir, TestSystem>, Option<Takeover>)> {
    workspace.open(system).acquire(&options(pod))
}

/// Takes the lock, where nothing stands in the way.
#[track_caller]
fn take(workspace: &TestWorkspace, system: &TestSystem, pod: &str) -> Held<NativeDir, TestSystem> {
    let (held, took_over) = acquire(workspace, system, pod).expect("the lock is free");
    assert_eq!(took_over, None);
    held
}

/// The refusal, which names this owner.
#[track_caller]
fn refused(workspace: &TestWorkspace, system: &TestSystem, pid: u32, pod: &str) -> Error {
    let error = acquire(workspace, system, "refused").expect_err("in use");
    assert_eq!(error.code, ErrorCode::InUse, "{error}");
    assert_eq!(error.path.as_deref(), Some(LOCK_PATH));
    let owner = error.owner.as_ref().expect("an owner");
    assert_eq!((owner.pid, owner.pod_name.as_str()), (pid, pod), "{error}");
    error
}

/// The lock is as it was, and no flag but these is left.
#[track_caller]
fn assert_untouched(workspace: &TestWorkspace, before: &[u8], owners: &[String]) {
    assert_eq!(workspace.lock_bytes().as_deref(), Some(before), "the lock was touched");
    assert_eq!(workspace.owners(), owners, "the flags were touched");
}

/// A world in which a foreign owner can't be probed.
fn elsewhere() -> World {
    World::in_scope(scope("machine2", "boot2", "4026531999"))
}

fn stale_owner(took_over: Option<Takeover>) -> (u32, String, String) {
    match took_over {
        Some(Takeover::Stale(owner, reason) | Takeover::Forced(owner, reason)) => {
            (owner.pid, owner.pod_name, reason)
        }
        other => panic!("took over {other:?}"),
    }
}

fn unreadable(took_over: Option<Takeover>) -> (String, String) {
    match took_over {
        Some(Takeover::Unreadable(reason, content)) => (reason, content),
        other => panic!("took over {other:?}"),
    }
}

#[cfg(unix)]
fn inode(path: &Path) -> u64 {
    std::os::unix::fs::MetadataExt::ino(&fs::symlink_metadata(path).expect("a file"))
}

fn modified(path: &Path) -> SystemTime {
    fs::symlink_metadata(path).expect("a file").modified().expect("a time")
}

// Taking it.

#[test]
fn lock_names_its_owner_and_goes_with_the_release() {
    let workspace = TestWorkspace::new();
    let world = World::new();
    world.set_clock(Time::new(1_777_636_800, 123_456_789));
    let system = world.start(OWN);
    let held = take(&workspace, &system, "pod-a");
    let original: OriginalRecord =
        serde_json::from_slice(&workspace.lock_bytes().expect("a lock")).expect("the original format");
    assert_eq!(
        original,
        OriginalRecord {
            pid: OWN,
            pod_name: "pod-a".into(),
            started_at: "2026-05-01T12:00:00.123456789Z".into(),
            consumed_ids: vec![],
        }
    );
    let record = workspace.lock_record();
    assert_eq!(&record, held.record());
    assert_eq!(record.token, Some(held.token().to_string()));
    assert_eq!(record.process_start, Some(system.me.start.clone()));
    assert_eq!(record.scope, Some(system.me.scope.clone()));
    assert_eq!((record.lease_seconds, record.command_group), (Some(60), None));
    assert_eq!(workspace.owners(), [FlagName::new(&system.me, held.token()).as_str()]);
    assert_eq!(held.release_only(None).expect("released"), ReleaseReport::default());
    workspace.assert_nothing_left();
}

#[test]
fn flag_is_raised_whole_before_the_others_are_looked_at_and_lowered_last() {
    let workspace = TestWorkspace::new();
    let faults = Faults::none();
    let pod = workspace.open_faulty(&World::new().start(OWN), &faults);
    let (held, _) = pod.acquire(&options("pod-a")).expect("held");
    let flag = format!("_staging/{OWNERS}/{}", workspace.owners()[0]);
    let steps: Vec<String> = faults
        .calls()
        .into_iter()
        .filter(|call| call.op.changes() || call.op == Op::List)
        .map(|call| format!("{:?} {}", call.op, call.path))
        .collect();
    assert_eq!(
        steps,
        [
            "CreateDir _staging".into(),
            format!("CreateDir _staging/{OWNERS}"),
            "CreateDir runs".into(),
            "CreateDir runs/.unfinished".into(),
            format!("Create {flag}"),
            format!("Write {flag}"),
            format!("List _staging/{OWNERS}"),
            format!("Link {flag}"),
            "List runs/.unfinished".into(),
            "List runs/.unfinished".into(),
        ]
    );
    faults.become_(|_, _| Fault::Pass);
    held.release_only(None).expect("released");
    assert_eq!(faults.changes(), [format!("Unlink {LOCK_PATH}"), format!("Unlink {flag}")]);
}

#[test]
fn entries_are_not_listed_for_the_lock() {
    let workspace = TestWorkspace::with_staging();
    workspace.put_entry();
    let faults = Faults::none();
    let pod = workspace.open_faulty(&World::new().start(OWN), &faults);
    let (held, _) = pod.acquire(&options("pod-a")).expect("held");
    held.release_with_cleanup().expect("released");
    let listed: Vec<String> =
        faults.calls().into_iter().filter(|call| call.op == Op::List).map(|call| call.path).collect();
    assert_eq!(listed, [&format!("_staging/{OWNERS}"), "runs/.unfinished", "runs/.unfinished"]);
}

#[test]
fn every_attempt_has_a_token_of_its_own() {
    let workspace = TestWorkspace::new();
    let system = World::new().start(OWN);
    let mut tokens = Vec::new();
    for _ in 0..20 {
        let held = take(&workspace, &system, "pod-a");
        tokens.push(held.token());
        held.release_only(None).expect("released");
    }
    tokens.sort_unstable();
    tokens.dedup();
    assert_eq!(tokens.len(), 20);
    let token = Token::new([9; 16]);
    let (held, _) = workspace.open(&system).acquire(&with_token("pod-a", token)).expect("held");
    assert_eq!(held.token(), token);
    // Used once more it is an error, and not a second holder.
    workspace.open(&system).acquire(&with_token("pod-a", token)).expect_err("used before");
    assert_eq!(workspace.lock_record().token, Some(token.to_string()));
    held.release_only(None).expect("still ours");
    workspace.assert_nothing_left();
}

#[test]
fn two_handles_in_one_process_exclude_each_other() {
    let workspace = TestWorkspace::new();
    let system = World::new().start(OWN);
    let held = take(&workspace, &system, "pod-a");
    let (before, owners) = (workspace.lock_bytes().expect("a lock"), workspace.owners());
    refused(&workspace, &system, OWN, "pod-a");
    // Also through the very same workspace value.
    let pod = workspace.open(&system);
    assert_eq!(pod.acquire(&options("pod-b")).expect_err("in use").code, ErrorCode::InUse);
    assert_untouched(&workspace, &before, &owners);
    held.release_only(None).expect("still ours");
    let (second, took_over) = pod.acquire(&options("pod-b")).expect("free now");
    assert_eq!(took_over, None, "nothing was taken over from a holder that released");
    second.release_only(None).expect("released");
}

#[test]
fn live_owner_is_named_in_the_refusal() {
    let workspace = TestWorkspace::with_staging();
    let world = World::new();
    world.start(OWN);
    workspace.put(".consolidation.lock", original_record(OWN, "pod-a", &[]));
    let before = workspace.lock_bytes().expect("a lock");
    let error = refused(&workspace, &world.start(OTHER), OWN, "pod-a");
    assert!(error.message.starts_with("consolidation lock held by live pid 4242 (pod \"pod-a\")"), "{error}");
    let started_at = workspace.lock_record().started_at;
    assert!(error.message.contains(&started_at), "{error}");
    assert_eq!(error.owner, Some(Owner { pid: OWN, pod_name: "pod-a".into(), started_at }));
    assert_untouched(&workspace, &before, &[]);
    assert_eq!(world.slept_ms(), 0, "there is nothing to wait for");
}

#[test]
fn pod_name_with_quotes_and_line_breaks_stays_on_one_line_of_the_refusal() {
    let workspace = TestWorkspace::new();
    let world = World::new();
    let pod = "say \"hi\"\n\u{1b}[31m";
    let held = take(&workspace, &world.start(OWN), pod);
    let error = refused(&workspace, &world.start(OTHER), OWN, pod);
    assert!(!error.message.contains(['\n', '\u{1b}']), "{error:?}");
    held.release_only(None).expect("released");
}

#[test]
fn dead_owner_is_taken_over_and_reported() {
    let workspace = TestWorkspace::with_staging();
    let id = workspace.put_entry();
    workspace.put(".consolidation.lock", original_record(DEAD, "pod-a", &[&id.to_string()]));
    let system = World::new().start(OWN);
    let (held, took_over) = acquire(&workspace, &system, "pod-b").expect("taken over");
    let (pid, pod, reason) = stale_owner(took_over);
    assert_eq!((pid, pod.as_str()), (DEAD, "pod-a"));
    assert!(reason.contains(&DEAD.to_string()), "{reason}");
    assert_eq!(workspace.lock_record().pod_name, "pod-b");
    // What the dead one had listed is not ours to delete.
    assert!(held.record().consumed_ids.is_empty());
    let report = held.release_with_cleanup().expect("released");
    assert_eq!(report, ReleaseReport::default());
    assert_eq!(workspace.visible().len(), 1);
    workspace.assert_nothing_left();
    // Nothing is taken over the next time.
    take(&workspace, &system, "pod-b").release_only(None).expect("released");
}

#[test]
fn owner_is_dead_when_its_process_is_gone_replaced_or_a_zombie() {
    let fates: [fn(&World); 3] = [
        |world| world.end(OWN),
        |world| world.set(OWN, running("another process")),
        |world| world.set(OWN, zombie("s4242")),
    ];
    for fate in fates {
        let workspace = TestWorkspace::new();
        let world = World::new();
        drop(take(&workspace, &world.start(OWN), "pod-a"));
        refused(&workspace, &world.start(OTHER), OWN, "pod-a");
        fate(&world);
        let (held, took_over) = acquire(&workspace, &world.start(OTHER), "pod-b").expect("taken over");
        assert_eq!(stale_owner(took_over).0, OWN);
        assert_eq!(workspace.owners().len(), 1, "the flag of the dead one is gone");
        held.release_only(None).expect("released");
        workspace.assert_nothing_left();
    }
}

#[test]
fn owner_whose_process_started_after_an_original_record_is_dead() {
    let workspace = TestWorkspace::with_staging();
    let world = World::new();
    workspace.put(
        ".consolidation.lock",
        format!(
            r#"{{"pid":{OWN},"pod_name":"pod-a","started_at":"2026-01-01T00:00:00Z","consumed_ids":[]}}"#
        ),
    );
    world.set(OWN, Evidence { started_at_ms: Some(1_777_636_800_000), ..running("s") });
    let (held, took_over) = acquire(&workspace, &world.start(OTHER), "pod-b").expect("taken over");
    assert_eq!(stale_owner(took_over).0, OWN);
    held.release_only(None).expect("released");
}

#[test]
fn old_lock_of_a_live_owner_is_never_broken_by_age() {
    let workspace = TestWorkspace::new();
    let world = World::new();
    let held = take(&workspace, &world.start(OWN), "pod-a");
    set_age(&workspace.lock(), 1_000_000);
    set_age(&workspace.owner(&workspace.owners()[0]), 1_000_000);
    refused(&workspace, &world.start(OTHER), OWN, "pod-a");
    held.release_only(None).expect("still ours");
}

#[test]
fn owner_whose_start_is_a_very_long_text_is_as_alive_as_any() {
    let workspace = TestWorkspace::new();
    let world = World::new();
    let start = "started ".repeat(100);
    let held = take(&workspace, &world.start_at(OWN, &start), "pod-a");
    refused(&workspace, &world.start(OTHER), OWN, "pod-a");
    held.release_only(None).expect("still ours");
}

#[test]
fn dropping_the_handle_leaves_lock_and_flag() {
    let workspace = TestWorkspace::new();
    let world = World::new();
    drop(take(&workspace, &world.start(OWN), "pod-a"));
    assert_eq!(workspace.owners().len(), 1);
    assert_eq!(workspace.lock_record().pid, OWN);
    refused(&workspace, &world.start(OTHER), OWN, "pod-a");
}

#[test]
fn host_without_a_process_id_makes_no_file() {
    let workspace = TestWorkspace::new();
    let pod = workspace.open(&World::new().host(0, "s0"));
    let error = pod.acquire(&options("pod-a")).expect_err("no process id");
    assert_eq!(error.code, ErrorCode::Internal, "{error}");
    assert_eq!(names(workspace.root()), [] as [String; 0]);
}

/// A process whose child goes on with everything that it knew.
#[derive(Clone)]
struct Forking {
    now: Arc<Mutex<TestSystem>>,
    asked: Arc<AtomicUsize>,
}

impl Forking {
    fn new(system: TestSystem) -> Self {
        Forking { now: Arc::new(Mutex::new(system)), asked: Arc::default() }
    }

    fn system(&self) -> TestSystem {
        self.now.lock().expect("nobody panics with it").clone()
    }
}

impl System for Forking {
    fn now(&self) -> Time {
        self.system().now()
    }

    fn sleep_ms(&self, milliseconds: u32) {
        self.system().sleep_ms(milliseconds);
    }

    fn random(&self, bytes: &mut [u8]) {
        self.system().random(bytes);
    }

    fn pid(&self) -> u32 {
        self.system().pid()
    }

    fn current(&self) -> Identity {
        self.asked.fetch_add(1, Ordering::Relaxed);
        self.system().current()
    }

    fn inspect(&self, pid: u32) -> Evidence {
        self.system().inspect(pid)
    }

    fn group_alive(&self, pgid: u32) -> bool {
        self.system().group_alive(pgid)
    }
}

#[test]
fn host_is_asked_who_it_is_once_and_again_in_a_child_that_was_forked() {
    let (place, world) = (TestWorkspace::with_staging(), World::new());
    let system = Forking::new(world.start(OWN));
    let root = NativeDir::open_path(place.root()).expect("it opens");
    let pod = Workspace::new(root, system.clone());
    assert_eq!(pod.lock_status().expect("looked"), Status::Free);
    assert_eq!(system.asked.load(Ordering::Relaxed), 0, "nothing is there that could be somebody's");
    for _ in 0..3 {
        let (held, _) = pod.acquire(&options("pod-a")).expect("the lock is free");
        assert_eq!(place.lock_record().pid, OWN);
        held.release_only(None).expect("released");
    }
    assert_eq!(system.asked.load(Ordering::Relaxed), 1);
    *system.now.lock().expect("nobody panics with it") = world.start(OTHER);
    let (held, _) = pod.acquire(&options("pod-a")).expect("the lock is free");
    assert_eq!(place.lock_record().pid, OTHER);
    assert_eq!(place.lock_record().process_start.as_deref(), Some(&*format!("s{OTHER}")));
    let flag = FlagName::parse(&place.owners()[0]).expect("a flag");
    assert_eq!((flag.pid, flag.process_start()), (OTHER, &*format!("s{OTHER}")));
    held.release_only(None).expect("released");
    assert_eq!(system.asked.load(Ordering::Relaxed), 2);
}

#[test]
fn pod_name_has_a_largest_length() {
    let workspace = TestWorkspace::new();
    let pod = workspace.open(&World::new().start(OWN));
    let error = pod.acquire(&options(&"x".repeat(MAX_POD_NAME_BYTES + 1))).expect_err("too long");
    assert_eq!(error.code, ErrorCode::InvalidInput, "{error}");
    assert_eq!(names(workspace.root()), [] as [String; 0]);
    let (held, _) = pod.acquire(&options(&"x".repeat(MAX_POD_NAME_BYTES))).expect("held");
    held.release_only(None).expect("released");
    let (held, _) = pod.acquire(&options("")).expect("held");
    held.release_only(None).expect("released");
}

// The roster.

/// Raises the flag of a process as it does when it starts to take the lock.
fn raise(workspace: &TestWorkspace, system: &TestSystem, pod: &str, lease_seconds: Option<u32>) -> FlagName {
    let token = Token::new([u8::try_from(system.me.pid % 251).expect("fits"); 16]);
    let flag = FlagName::new(&system.me, token);
    let record = LockRecord::new(&system.me, pod, Time::new(1_777_636_800, 0), token, lease_seconds);
    workspace.put_owner(flag.as_str(), record.to_file());
    flag
}

#[test]
fn flag_of_a_dead_owner_is_removed() {
    let workspace = TestWorkspace::new();
    let world = World::new();
    let dead = raise(&workspace, &world.start(OTHER), "pod-b", Some(60));
    // Whatever is in it: the name alone is the identity.
    let torn = FlagName::new(&world.start(OTHER + 1).me, Token::new([1; 16]));
    workspace.put_owner(torn.as_str(), "{\"pid\": 1");
    world.end(OTHER);
    world.end(OTHER + 1);
    let held = take(&workspace, &world.start(OWN), "pod-a");
    assert!(!workspace.owners().contains(&dead.as_str().to_owned()));
    assert_eq!(workspace.owners().len(), 1);
    held.release_only(None).expect("released");
    workspace.assert_nothing_left();
}

#[test]
fn live_contender_with_the_smaller_name_goes_first() {
    let workspace = TestWorkspace::new();
    let world = World::new();
    let first = raise(&workspace, &world.start(11), "pod-b", Some(60));
    let error = refused(&workspace, &world.start(22), 11, "pod-b");
    assert!(error.message.starts_with("consolidation lock held by live pid 11 (pod \"pod-b\")"), "{error}");
    assert_eq!(world.slept_ms(), 0, "there is nothing to wait for");
    assert_eq!(workspace.owners(), [first.as_str()]);
    assert_eq!(workspace.lock_bytes(), None);
}

#[test]
fn contender_that_has_not_written_its_record_is_named_by_its_flag() {
    let workspace = TestWorkspace::new();
    let world = World::new();
    let first = FlagName::new(&world.start(11).me, Token::new([1; 16]));
    workspace.put_owner(first.as_str(), "");
    refused(&workspace, &world.start(22), 11, "");
}

#[test]
fn contender_with_the_larger_name_is_waited_for() {
    let workspace = TestWorkspace::new();
    let world = World::new();
    let second = raise(&workspace, &world.start(33), "pod-c", Some(60));
    let path = workspace.owner(second.as_str());
    world.on_sleep(move |slept| {
        if slept > 100 {
            let _ = fs::remove_file(&path);
        }
    });
    let held = take(&workspace, &world.start(22), "pod-a");
    assert!(world.slept_ms() < 500, "waited for {} ms", world.slept_ms());
    held.release_only(None).expect("released");
    workspace.assert_nothing_left();
}

#[test]
fn contender_that_stays_is_waited_for_two_seconds_and_named() {
    let workspace = TestWorkspace::new();
    let world = World::new();
    let second = raise(&workspace, &world.start(33), "pod-c", Some(60));
    refused(&workspace, &world.start(22), 33, "pod-c");
    let slept = world.slept_ms();
    assert!((2_000..2_100).contains(&slept), "waited for {slept} ms");
    assert_eq!(workspace.owners(), [second.as_str()]);
    assert_eq!(workspace.lock_bytes(), None);
}

#[test]
fn contender_that_dies_while_it_is_waited_for_is_cleared_away() {
    let workspace = TestWorkspace::new();
    let world = World::new();
    raise(&workspace, &world.start(33), "pod-c", Some(60));
    let other = world.clone();
    world.on_sleep(move |_| other.end(33));
    take(&workspace, &world.start(22), "pod-a").release_only(None).expect("released");
    workspace.assert_nothing_left();
}

#[test]
fn stale_lock_waits_for_the_contenders_too() {
    let workspace = TestWorkspace::with_staging();
    let world = World::new();
    workspace.put(".consolidation.lock", original_record(DEAD, "pod-x", &[]));
    let before = workspace.lock_bytes().expect("a lock");
    let first = raise(&workspace, &world.start(11), "pod-b", Some(60));
    refused(&workspace, &world.start(22), 11, "pod-b");
    assert_untouched(&workspace, &before, &[first.as_str().to_owned()]);
}

#[test]
fn foreign_files_among_the_flags_are_ignored_and_left() {
    let workspace = TestWorkspace::new();
    for name in [".DS_Store", "README", ".nfs0001", "x.pub", "1.2.3.4.5.6"] {
        workspace.put_owner(name, "not ours");
    }
    let system = World::new().start(OWN);
    take(&workspace, &system, "pod-a").release_only(None).expect("released");
    assert_eq!(workspace.owners().len(), 5);
}

#[test]
fn something_else_in_the_place_of_a_dead_owners_flag_is_named_or_passed_over() {
    let workspace = TestWorkspace::new();
    let world = World::new();
    let dead = FlagName::new(&world.host(OTHER, "s").me, Token::new([1; 16]));
    fs::create_dir_all(workspace.owner(dead.as_str())).expect("a directory");
    match acquire(&workspace, &world.start(OWN), "pod-a") {
        Ok((held, _)) => drop(held.release_only(None).expect("released")),
        Err(error) => assert!(error.message.contains(dead.as_str()), "{error}"),
    }
    assert_eq!(workspace.owners(), [dead.as_str()], "no flag of ours is left");
}

#[cfg(unix)]
#[test]
fn link_in_the_place_of_a_dead_owners_flag_is_removed_and_not_followed() {
    let workspace = TestWorkspace::new();
    let world = World::new();
    fs::write(workspace.root().join("victim"), "keep").expect("a victim");
    let dead = FlagName::new(&world.host(OTHER, "s").me, Token::new([1; 16]));
    workspace.put_owner("x", "");
    fs::remove_file(workspace.owner("x")).expect("removed");
    std::os::unix::fs::symlink("../../victim", workspace.owner(dead.as_str())).expect("a link");
    take(&workspace, &world.start(OWN), "pod-a").release_only(None).expect("released");
    workspace.assert_nothing_left();
    assert_eq!(fs::read_to_string(workspace.root().join("victim")).expect("kept"), "keep");
}

#[cfg(unix)]
#[test]
fn pipe_named_like_a_foreign_owners_flag_is_not_waited_at() {
    let workspace = TestWorkspace::new();
    let flag = FlagName::new(&elsewhere().start(OTHER).me, Token::new([1; 16]));
    workspace.put_owner("x", "");
    fs::remove_file(workspace.owner("x")).expect("removed");
    let path = workspace.owner(flag.as_str());
    crate::support::make_fifo(&path);
    let pod = workspace.open(&World::new().start(OWN));
    // Held or not: an answer is what counts.
    let answered = crate::support::without_waiting_at(&path, move || pod.acquire(&options("pod-a")).is_ok());
    if answered {
        assert_eq!(workspace.lock_record().pid, OWN);
    }
}

#[test]
fn something_else_in_the_place_of_the_owners_directory_is_refused() {
    let workspace = TestWorkspace::with_staging();
    workspace.put(OWNERS, "keep");
    let error = acquire(&workspace, &World::new().start(OWN), "pod-a").expect_err("no directory");
    assert_eq!(error.code, ErrorCode::WrongFileType, "{error}");
    assert!(error.message.contains(OWNERS), "{error}");
    assert_eq!(fs::read_to_string(workspace.staged(OWNERS)).expect("kept"), "keep");
}

// Owners that can't be probed.

#[test]
fn unknown_owner_is_respected_until_its_lease_has_run_out() {
    let workspace = TestWorkspace::new();
    let (there, here) = (elsewhere(), World::new());
    let held = take(&workspace, &there.start(OWN), "pod-a");
    let flag = workspace.owner(&workspace.owners()[0]);
    for age in [0, 30, 55] {
        set_age(&flag, age);
        let error = refused(&workspace, &here.start(OTHER), OWN, "pod-a");
        assert!(error.message.contains("unlock --force"), "it says what helps: {error}");
        assert!(!error.message.contains("held by live"), "nobody knows whether it lives: {error}");
    }
    assert_eq!(here.slept_ms(), 0, "there is nothing to wait for");
    // Flag and lock are one file still.
    set_age(&flag, 65);
    let (second, took_over) = acquire(&workspace, &here.start(OTHER), "pod-b").expect("taken over");
    let (pid, pod, reason) = stale_owner(took_over);
    assert_eq!((pid, pod.as_str()), (OWN, "pod-a"));
    assert!(reason.contains("60 s"), "{reason}");
    // The owner that wakes up is told, and deletes nothing.
    let error = held.release_with_cleanup().expect_err("lost");
    assert_eq!((error.code, error.owner.as_ref().map(|owner| owner.pid)), (ErrorCode::LockLost, Some(OTHER)));
    second.release_only(None).expect("still held");
    workspace.assert_nothing_left();
}

#[test]
fn unknown_owner_counts_while_either_its_flag_or_its_lock_is_fresh() {
    for fresh_lock in [true, false] {
        let workspace = TestWorkspace::new();
        let (there, here) = (elsewhere().start(OWN), World::new());
        let pod = workspace.open(&there);
        let (mut held, _) = pod.acquire(&options("pod-a")).expect("held");
        // From here on flag and lock are two files.
        pod.record_consumed(&mut held, vec![]).expect("rewritten");
        let flag = workspace.owner(&workspace.owners()[0]);
        let old = if fresh_lock { flag } else { workspace.lock() };
        set_age(&old, 1_000);
        refused(&workspace, &here.start(OTHER), OWN, "pod-a");
        assert_eq!(workspace.lock_record().pid, OWN);
    }
}

#[test]
fn lease_of_the_record_counts_and_not_the_usual_one() {
    for (lease, age, taken) in [
        (Some(1), 10, true),
        (Some(3_600), 1_000, false),
        (Some(3_600), 3_700, true),
        (None, 1_000_000, false),
    ] {
        let workspace = TestWorkspace::new();
        let options = AcquireOptions {
            pod_name: "pod-a".into(),
            lease_seconds: lease,
            token: None,
            ..AcquireOptions::default()
        };
        drop(workspace.open(&elsewhere().start(OWN)).acquire(&options).expect("held"));
        set_age(&workspace.lock(), age);
        let result = acquire(&workspace, &World::new().start(OTHER), "pod-b");
        assert_eq!(result.is_ok(), taken, "{lease:?} {age}: {result:?}");
        assert_eq!(workspace.owners().len(), 1);
    }
}

#[test]
fn flag_of_an_unknown_owner_without_a_record_has_the_usual_lease() {
    let workspace = TestWorkspace::new();
    let flag = FlagName::new(&elsewhere().start(OTHER).me, Token::new([1; 16]));
    workspace.put_owner(flag.as_str(), "");
    set_age(&workspace.owner(flag.as_str()), 50);
    refused(&workspace, &World::new().start(OWN), OTHER, "");
    set_age(&workspace.owner(flag.as_str()), 70);
    take(&workspace, &World::new().start(OWN), "pod-a").release_only(None).expect("released");
    workspace.assert_nothing_left();
}

#[test]
fn container_that_restarts_in_a_new_namespace_gets_its_lock_back_after_the_lease() {
    let workspace = TestWorkspace::new();
    let before = World::in_scope(scope("machine1", "boot1", "4026532001"));
    let after = World::in_scope(scope("machine1", "boot1", "4026532002"));
    // The same process id: in a container it is always the same.
    drop(take(&workspace, &before.start(1), "pod-a"));
    refused(&workspace, &after.start(1), 1, "pod-a");
    set_age(&workspace.lock(), 61);
    let (held, took_over) = acquire(&workspace, &after.start(1), "pod-a").expect("taken over");
    assert_eq!(stale_owner(took_over).0, 1);
    held.release_only(None).expect("released");
    workspace.assert_nothing_left();
}

#[test]
fn lock_of_an_earlier_boot_is_taken_over_once_its_lease_has_run_out() {
    let workspace = TestWorkspace::new();
    let before = World::in_scope(scope("machine1", "boot1", "4026531836"));
    let after = World::in_scope(scope("machine1", "boot2", "4026531836"));
    drop(take(&workspace, &before.start(OWN), "pod-a"));
    // Something else has the process id now.
    after.start(OWN);
    refused(&workspace, &after.start(OTHER), OWN, "pod-a");
    set_age(&workspace.lock(), 61);
    set_age(&workspace.owner(&workspace.owners()[0]), 61);
    let (held, took_over) = acquire(&workspace, &after.start(OTHER), "pod-b").expect("taken over");
    assert!(stale_owner(took_over).2.contains("restarted"));
    held.release_only(None).expect("released");
    workspace.assert_nothing_left();
}

#[test]
fn command_that_outlives_its_host_keeps_the_lock() {
    let workspace = TestWorkspace::new();
    let world = World::new();
    let pod = workspace.open(&world.start(OWN));
    let (mut held, _) = pod.acquire(&options("pod-a")).expect("held");
    pod.record_command_group(&mut held, Some(500)).expect("rewritten");
    drop(held);
    world.end(OWN);
    world.set_group(500, true);
    let error = refused(&workspace, &world.start(OTHER), OWN, "pod-a");
    assert!(error.message.contains("500"), "{error}");
    world.set_group(500, false);
    let (held, took_over) = acquire(&workspace, &world.start(OTHER), "pod-b").expect("taken over");
    assert_eq!(stale_owner(took_over).0, OWN);
    held.release_only(None).expect("released");
    workspace.assert_nothing_left();
}

// Lock files that are no records.

/// What a crash, a full disk or a stranger leaves at the lock's place.
fn garbage() -> Vec<Vec<u8>> {
    let whole = original_record(OWN, "pod-a", &[]);
    vec![
        Vec::new(),
        b"{\"pid\":12,\"pod_na".to_vec(),
        vec![0; whole.len()],
        whole.replace("4242", "\"4242\"").into_bytes(),
        whole.replace("4242", "4294967296").into_bytes(),
        b"4242\n".to_vec(),
        b"\xff\xfe\x00garbage".to_vec(),
        vec![b'['; 100_000],
    ]
}

#[test]
fn young_unreadable_lock_is_in_use_and_untouched() {
    for content in garbage() {
        let workspace = TestWorkspace::with_staging();
        let world = World::new();
        workspace.put(".consolidation.lock", &content);
        let error = acquire(&workspace, &world.start(OWN), "pod-a").expect_err("its writer may be at work");
        assert_eq!((error.code, &error.owner), (ErrorCode::InUse, &None), "{error}");
        assert!(error.message.contains(LOCK_PATH), "{error}");
        assert_untouched(&workspace, &content, &[]);
    }
}

#[test]
fn old_unreadable_lock_is_taken_over_with_its_content() {
    for content in garbage() {
        let workspace = TestWorkspace::with_staging();
        let world = World::new();
        workspace.put(".consolidation.lock", &content);
        set_age(&workspace.lock(), 8);
        let (held, took_over) = acquire(&workspace, &world.start(OWN), "pod-a").expect("taken over");
        let (reason, told) = unreadable(took_over);
        assert!(!reason.is_empty());
        assert!(!told.contains(['\n', '\0', '\u{1b}']), "{told:?}");
        assert_eq!(told.is_empty(), content.is_empty());
        assert!(told.len() <= 2_000, "{} bytes", told.len());
        if content.is_ascii() && !content.contains(&0) {
            let start: String = String::from_utf8_lossy(&content).chars().take(5).collect();
            assert!(told.starts_with(&start.escape_debug().to_string()), "{told:?}");
        }
        held.release_only(None).expect("released");
        workspace.assert_nothing_left();
    }
}

#[test]
fn huge_lock_file_is_unreadable_and_no_trouble() {
    let workspace = TestWorkspace::with_staging();
    workspace.put(".consolidation.lock", "");
    let file = fs::File::options().write(true).open(workspace.lock()).expect("the lock opens");
    file.set_len(65 * 1024 * 1024).expect("a sparse file");
    drop(file);
    set_age(&workspace.lock(), 8);
    let system = World::new().start(OWN);
    let pod = workspace.open(&system);
    assert!(matches!(pod.lock_status().expect("a status"), Status::Unreadable(..)));
    let (held, took_over) = pod.acquire(&options("pod-a")).expect("taken over");
    unreadable(took_over);
    held.release_only(None).expect("released");
}

#[test]
fn unreadable_lock_from_the_future_is_watched_before_it_is_taken_over() {
    let workspace = TestWorkspace::with_staging();
    let world = World::new();
    workspace.put(".consolidation.lock", "garbage");
    set_age(&workspace.lock(), -3_600);
    let (held, took_over) = acquire(&workspace, &world.start(OWN), "pod-a").expect("taken over");
    assert_eq!(unreadable(took_over).1, "garbage");
    let slept = world.slept_ms();
    assert!((5_000..6_000).contains(&slept), "watched for {slept} ms");
    held.release_only(None).expect("released");
    workspace.assert_nothing_left();
}

#[test]
fn unreadable_lock_that_changes_while_it_is_watched_is_in_use() {
    let whole = original_record(OTHER, "pod-b", &[]);
    for (next, pid) in [("more garbage", None), (whole.as_str(), Some(OTHER))] {
        let workspace = TestWorkspace::with_staging();
        let world = World::new();
        world.start(OTHER);
        workspace.put(".consolidation.lock", "garbage");
        set_age(&workspace.lock(), -3_600);
        let (path, written) = (workspace.lock(), next.to_owned());
        world.on_sleep(move |slept| {
            if slept == 1_000 {
                fs::write(&path, &written).expect("its writer goes on");
                set_age(&path, -3_600);
            }
        });
        let error = acquire(&workspace, &world.start(OWN), "pod-a").expect_err("its writer is at work");
        assert_eq!(error.code, ErrorCode::InUse, "{error}");
        assert_untouched(&workspace, next.as_bytes(), &[]);
        if let Some(pid) = pid {
            refused(&workspace, &world.start(OWN), pid, "pod-b");
        }
    }
}

#[test]
fn stale_record_with_a_byte_order_mark_does_not_hold_for_ever() {
    let workspace = TestWorkspace::with_staging();
    workspace.put(".consolidation.lock", format!("\u{feff}{}", original_record(DEAD, "pod-a", &[])));
    let (held, took_over) = acquire(&workspace, &World::new().start(OWN), "pod-b").expect("taken over");
    assert_eq!(stale_owner(took_over).1, "pod-a");
    held.release_only(None).expect("released");
}

/// Something at the lock's place that is no file, and what it must look like afterwards.
type Obstacle = (&'static str, fn(&Path), fn(&Path) -> bool);

#[cfg(unix)]
fn obstacles() -> [Obstacle; 6] {
    use std::os::unix::fs::{FileTypeExt, symlink};
    [
        (
            "a link to a file",
            |path| symlink("../victim", path).expect("a link"),
            |path| fs::read_link(path).is_ok_and(|target| target == Path::new("../victim")),
        ),
        (
            "a dangling link",
            |path| symlink("../newfile", path).expect("a link"),
            |path| fs::read_link(path).is_ok_and(|target| target == Path::new("../newfile")),
        ),
        (
            "a link out of the workspace",
            |path| symlink("/etc/hostname", path).expect("a link"),
            |path| fs::read_link(path).is_ok_and(|target| target == Path::new("/etc/hostname")),
        ),
        (
            "a link to an entry that is a stale record",
            |path| {
                let staging = path.parent().expect("a parent");
                fs::write(staging.join("record"), original_record(DEAD, "pod-x", &[])).expect("a record");
                symlink("record", path).expect("a link");
            },
            |path| fs::read_link(path).is_ok_and(|target| target == Path::new("record")),
        ),
        ("a directory", |path| fs::create_dir(path).expect("a directory"), Path::is_dir),
        ("a pipe", crate::support::make_fifo, |path| {
            fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_fifo())
        }),
    ]
}

#[cfg(unix)]
#[test]
fn what_is_no_file_at_the_locks_place_is_refused_and_untouched() {
    for (what, make, is_there) in obstacles() {
        for links in [true, false] {
            let workspace = TestWorkspace::with_staging();
            fs::write(workspace.root().join("victim"), "keep").expect("a victim");
            make(&workspace.lock());
            let link_fault = if links { Fault::Pass } else { Fault::Refuse(FsErrorKind::NotPermitted) };
            let system = World::new().start(OWN);
            let pod = workspace.open_faulty(&system, &Faults::of(Op::Link, link_fault));
            for error in [
                pod.acquire(&options("pod-a")).expect_err(what),
                pod.unlock(&options("pod-a"), false, None).expect_err(what),
                pod.unlock(&options("pod-a"), true, None).expect_err(what),
            ] {
                assert_eq!(error.code, ErrorCode::WrongFileType, "{what}: {error}");
                assert!(error.message.contains(LOCK_PATH), "{what}: {error}");
                assert!(is_there(&workspace.lock()), "{what} was touched");
            }
            assert!(matches!(pod.lock_status().expect(what), Status::Blocked(LOCK_PATH, _)), "{what}");
            assert!(!pod.abandon(Token::new([1; 16])).expect(what));
            assert!(is_there(&workspace.lock()), "{what} was touched");
            assert_eq!(fs::read_to_string(workspace.root().join("victim")).expect("kept"), "keep");
            assert!(!workspace.root().join("newfile").exists());
            assert_eq!(workspace.owners(), [] as [String; 0], "{what}");
        }
    }
}

// Holding it.

/// A large lock is skimmed for its status. What it says is the same, and what is no record is none.
#[test]
fn status_of_a_lock_with_very_many_ids_is_that_of_one_with_few() {
    const MANY: u64 = 30_000;
    let workspace = TestWorkspace::with_staging();
    let world = World::new();
    let pod = workspace.open(&world.start(OWN));
    let (mut held, _) = pod.acquire(&options("pod-a")).expect("held");
    let looker = workspace.open(&world.start(OTHER));
    let few = looker.lock_status().expect("a status");
    pod.record_consumed(&mut held, (0..MANY).map(|number| entry_id(1_000, number)).collect())
        .expect("recorded");
    let (Status::Held(few), Status::Held(many)) = (few, looker.lock_status().expect("a status")) else {
        panic!("it is held");
    };
    assert_eq!(many, Holder { consumed: MANY, ..few });
    let content = workspace.lock_bytes().expect("a lock");
    assert!(content.len() > 1024 * 1024, "it is a large one");
    let text = String::from_utf8(content.clone()).expect("text");
    let middle = text.len() / 2;
    let start = middle + text[middle..].find("\n    \"").expect("a text") + "\n    ".len();
    let comma = middle + text[middle..].find(',').expect("a comma");
    for (what, broken) in [
        ("cut off", text[..text.len() / 2].to_owned()),
        ("a number", format!("{}7, {}", &text[..start], &text[start..])),
        ("two commas", format!("{},{}", &text[..comma], &text[comma..])),
        ("no comma", format!("{}{}", &text[..comma], &text[comma + 1..])),
        ("something after it", format!("{text}x")),
    ] {
        fs::write(workspace.lock(), broken).expect("broken");
        let status = looker.lock_status().expect("a status");
        assert!(matches!(status, Status::Unreadable(..)), "{what}: {status:?}");
    }
    // A text that is no id is one of those that it lists, as in a small lock.
    fs::write(workspace.lock(), format!("{}\"../x\", {}", &text[..start], &text[start..])).expect("written");
    let status = looker.lock_status().expect("a status");
    assert!(matches!(&status, Status::Held(Holder { consumed, .. }) if *consumed == MANY + 1), "{status:?}");
}

#[test]
fn recording_consumed_ids_replaces_the_lock_by_rename() {
    let workspace = TestWorkspace::with_staging();
    let ids = vec![workspace.put_entry(), workspace.put_entry()];
    let faults = Faults::none();
    let pod = workspace.open_faulty(&World::new().start(OWN), &faults);
    let (mut held, _) = pod.acquire(&options("pod-a")).expect("held");
    let flag = workspace.owner(&workspace.owners()[0]);
    let raised = fs::read(&flag).expect("a flag");
    let mut before = inode(&workspace.lock());
    for _ in 0..3 {
        faults.become_(|_, _| Fault::Pass);
        pod.record_consumed(&mut held, ids.clone()).expect("rewritten");
        assert_ne!(inode(&workspace.lock()), before, "written in place");
        before = inode(&workspace.lock());
        assert!(
            !faults.calls().iter().any(|call| call.op == Op::Write && call.path == LOCK_PATH),
            "{:?}",
            faults.changes()
        );
    }
    assert_eq!(workspace.lock_record().consumed_ids, ids.to_vec().into());
    assert_eq!(&workspace.lock_record(), held.record());
    assert_eq!(fs::read(&flag).expect("a flag"), raised, "the flag was written through the lock");
    assert_eq!(workspace.temporaries(), [] as [String; 0]);
    held.release_only(None).expect("released");
}

#[test]
fn command_group_is_recorded_and_taken_back_and_keeps_the_ids() {
    let workspace = TestWorkspace::with_staging();
    let id = workspace.put_entry();
    let pod = workspace.open(&World::new().start(OWN));
    let (mut held, _) = pod.acquire(&options("pod-a")).expect("held");
    pod.record_consumed(&mut held, vec![id]).expect("rewritten");
    for group in [Some(500), None, Some(u32::MAX)] {
        pod.record_command_group(&mut held, group).expect("rewritten");
        let record = workspace.lock_record();
        assert_eq!((record.command_group, record.consumed_ids), (group, vec![id].into()));
    }
    assert_eq!(held.release_with_cleanup().expect("released").removed, 1);
}

#[test]
fn refresh_renews_lock_and_flag_and_keeps_their_bytes() {
    let workspace = TestWorkspace::new();
    let pod = workspace.open(&World::new().start(OWN));
    let (mut held, _) = pod.acquire(&options("pod-a")).expect("held");
    for rewritten in [false, true] {
        if rewritten {
            pod.record_consumed(&mut held, vec![new_entry_id(); 1_000]).expect("rewritten");
        }
        let flag = workspace.owner(&workspace.owners()[0]);
        let before = (workspace.lock_bytes(), fs::read(&flag).expect("a flag"));
        for path in [&workspace.lock(), &flag] {
            set_age(path, 1_000);
        }
        let aged = modified(&workspace.lock());
        held.refresh().expect("still ours");
        for path in [&workspace.lock(), &flag] {
            let renewed = modified(path).duration_since(aged).expect("later").as_secs();
            assert!(renewed >= 900, "{} was renewed by {renewed} s", path.display());
        }
        assert_eq!((workspace.lock_bytes(), fs::read(&flag).expect("a flag")), before);
    }
    held.release_only(None).expect("released");
}

#[test]
fn refreshed_lock_of_an_unknown_owner_is_respected_again() {
    let workspace = TestWorkspace::new();
    let held = take(&workspace, &elsewhere().start(OWN), "pod-a");
    set_age(&workspace.lock(), 1_000);
    held.refresh().expect("still ours");
    refused(&workspace, &World::new().start(OTHER), OWN, "pod-a");
    held.release_only(None).expect("released");
}

/// How a lock is lost: what stands in its place, and how that comes there.
type Loss = (&'static str, fn(&Path));

const LOSSES: [Loss; 9] = [
    ("nothing", |_| {}),
    ("an empty file", |path| fs::write(path, "").expect("a file")),
    ("garbage", |path| fs::write(path, "garbage").expect("a file")),
    ("zeros", |path| fs::write(path, [0; 700]).expect("a file")),
    ("a live owner's record", |path| fs::write(path, original_record(OTHER, "pod-b", &[])).expect("a file")),
    ("a dead owner's record", |path| fs::write(path, original_record(DEAD, "pod-x", &[])).expect("a file")),
    ("a long record", |path| {
        let ids = vec!["0196f0e1-2b3c-7def-8123-456789abcdef"; 10_000];
        fs::write(path, original_record(OTHER, "pod-b", &ids)).expect("a file");
    }),
    ("a directory", |path| fs::create_dir(path).expect("a directory")),
    ("a link", |path| {
        // To our own record, moved away.
        let aside = path.with_file_name("aside");
        #[cfg(unix)]
        std::os::unix::fs::symlink(&aside, path).expect("a link");
    }),
];

/// Takes the lock with two entries consumed, loses it, does `act`, and checks that it was told and
/// touched nothing.
fn after_each_loss(
    act: impl Fn(
        Held<NativeDir, TestSystem>,
        &consolidation_guest::workspace::Workspace<NativeDir, TestSystem>,
    ) -> Error,
) {
    for (what, lose) in LOSSES {
        let workspace = TestWorkspace::with_staging();
        let world = World::new();
        world.start(OTHER);
        let ids = vec![workspace.put_entry(), workspace.put_entry()];
        let pod = workspace.open(&world.start(OWN));
        let (mut held, _) = pod.acquire(&options("pod-a")).expect("held");
        pod.record_consumed(&mut held, ids).expect("rewritten");
        fs::rename(workspace.lock(), workspace.staged("aside")).expect("moved");
        lose(&workspace.lock());
        if workspace.lock().is_file() && !workspace.lock().is_symlink() {
            set_age(&workspace.lock(), 3);
        }
        let looks = || {
            let meta = fs::symlink_metadata(workspace.lock()).ok();
            let meta = meta.map(|meta| (meta.file_type(), meta.len(), meta.modified().ok()));
            (meta, workspace.lock_bytes(), fs::read_link(workspace.lock()).ok())
        };
        let before = (looks(), workspace.visible());
        let error = act(held, &pod);
        assert_eq!(error.code, ErrorCode::LockLost, "{what}: {error}");
        assert!(error.message.contains(LOCK_PATH), "{what}: {error}");
        assert!((looks(), workspace.visible()) == before, "{what} or an entry was touched");
        let owner = error.owner.as_ref().map(|owner| owner.pid);
        match what {
            "a live owner's record" | "a long record" => assert_eq!(owner, Some(OTHER)),
            "a dead owner's record" => assert_eq!(owner, Some(DEAD)),
            _ => assert_eq!(owner, None, "{what}"),
        }
    }
}

#[test]
fn release_with_cleanup_of_a_lost_lock_deletes_nothing() {
    after_each_loss(|held, _| held.release_with_cleanup().expect_err("lost"));
}

#[test]
fn release_only_of_a_lost_lock_deletes_nothing() {
    after_each_loss(|held, _| held.release_only(None).expect_err("lost"));
}

#[test]
fn refresh_of_a_lost_lock_says_so() {
    after_each_loss(|held, _| held.refresh().expect_err("lost"));
}

#[test]
fn recording_in_a_lost_lock_writes_nothing() {
    after_each_loss(|mut held, pod| pod.record_consumed(&mut held, vec![]).expect_err("lost"));
    after_each_loss(|mut held, pod| pod.record_command_group(&mut held, Some(7)).expect_err("lost"));
}

#[test]
fn flag_of_a_lost_lock_is_lowered_by_the_release() {
    let workspace = TestWorkspace::new();
    let held = take(&workspace, &World::new().start(OWN), "pod-a");
    fs::remove_file(workspace.lock()).expect("removed");
    held.release_only(None).expect_err("lost");
    workspace.assert_nothing_left();
}

#[test]
fn refresh_without_a_flag_says_that_the_lock_is_lost() {
    let workspace = TestWorkspace::new();
    let held = take(&workspace, &World::new().start(OWN), "pod-a");
    fs::remove_file(workspace.owner(&workspace.owners()[0])).expect("removed by force");
    assert_eq!(held.refresh().expect_err("lost").code, ErrorCode::LockLost);
}

// Releasing it.

#[test]
fn release_with_cleanup_removes_passes_over_and_reports() {
    let workspace = TestWorkspace::with_staging();
    let (first, gone, last, other) =
        (workspace.put_entry(), new_entry_id(), workspace.put_entry(), workspace.put_entry());
    // It can't be unlinked, whoever we are.
    let stuck = new_entry_id();
    fs::create_dir(workspace.staged(&stuck.file_name())).expect("a directory");
    let pod = workspace.open(&World::new().start(OWN));
    let (mut held, _) = pod.acquire(&options("pod-a")).expect("held");
    pod.record_consumed(&mut held, vec![first, gone, stuck, last]).expect("rewritten");
    let arrived = workspace.put_entry();
    let report = held.release_with_cleanup().expect("released");
    assert_eq!((report.removed, report.missing), (2, 1));
    assert_eq!(report.failed.len(), 1);
    assert_eq!(report.failed[0].0, stuck);
    assert!(!report.failed[0].1.is_empty());
    let left: Vec<String> = workspace.visible().into_keys().collect();
    let mut expected = [other, stuck, arrived].map(EntryId::file_name);
    expected.sort_unstable();
    assert_eq!(left, expected);
    workspace.assert_nothing_left();
}

#[test]
fn entries_go_before_the_lock_and_the_lock_before_the_flag() {
    let workspace = TestWorkspace::with_staging();
    let id = workspace.put_entry();
    let faults = Faults::none();
    let pod = workspace.open_faulty(&World::new().start(OWN), &faults);
    let (mut held, _) = pod.acquire(&options("pod-a")).expect("held");
    pod.record_consumed(&mut held, vec![id]).expect("rewritten");
    let flag = format!("_staging/{OWNERS}/{}", workspace.owners()[0]);
    let run = held.record().run_id.clone().expect("a run has begun");
    faults.become_(|_, _| Fault::Pass);
    held.release_with_cleanup().expect("released");
    let ticket = format!("runs/.unfinished/{run}");
    assert_eq!(
        faults.changes(),
        [
            "SyncNames .".into(),
            "SyncNames runs".into(),
            format!("Unlink {ticket}.open"),
            format!("Create {ticket}.open"),
            format!("Write {ticket}.open"),
            format!("Sync {ticket}.open"),
            format!("Rename {ticket}.open -> {ticket}.committed"),
            "SyncNames runs/.unfinished".into(),
            format!("Unlink _staging/{}", id.file_name()),
            "SyncNames _staging".into(),
            format!("Rename {ticket}.committed -> runs/{run}.json"),
            format!("Unlink {LOCK_PATH}"),
            format!("Unlink {flag}")
        ]
    );
}

#[test]
fn release_only_deletes_no_entry() {
    let workspace = TestWorkspace::with_staging();
    let id = workspace.put_entry();
    let pod = workspace.open(&World::new().start(OWN));
    let (mut held, _) = pod.acquire(&options("pod-a")).expect("held");
    pod.record_consumed(&mut held, vec![id]).expect("rewritten");
    assert_eq!(held.release_only(None).expect("released"), ReleaseReport::default());
    assert_eq!(workspace.visible().len(), 1);
    workspace.assert_nothing_left();
}

#[test]
fn last_recorded_set_is_the_one_that_is_deleted() {
    let workspace = TestWorkspace::with_staging();
    let (first, second) = (workspace.put_entry(), workspace.put_entry());
    let pod = workspace.open(&World::new().start(OWN));
    let (mut held, _) = pod.acquire(&options("pod-a")).expect("held");
    pod.record_consumed(&mut held, vec![first]).expect("rewritten");
    pod.record_consumed(&mut held, vec![second]).expect("rewritten");
    assert_eq!(held.release_with_cleanup().expect("released").removed, 1);
    assert_eq!(workspace.visible().into_keys().collect::<Vec<_>>(), [first.file_name()]);
}

#[test]
fn release_without_a_recorded_set_deletes_nothing() {
    let workspace = TestWorkspace::with_staging();
    workspace.put_entry();
    let report =
        take(&workspace, &World::new().start(OWN), "pod-a").release_with_cleanup().expect("released");
    assert_eq!(report, ReleaseReport::default());
    assert_eq!(workspace.visible().len(), 1);
}

#[test]
fn ids_in_anybodys_lock_file_never_become_paths() {
    let victims = ["victim.json", "_staging/keep.json"];
    let workspace = TestWorkspace::with_staging();
    let id = workspace.put_entry();
    for victim in victims {
        fs::write(workspace.root().join(victim), "keep").expect("a victim");
    }
    let hostile = [
        "../victim",
        "..%2fvictim",
        "/etc/x",
        "keep",
        &format!("{id}/../../victim"),
        &format!("{id}\0"),
        &id.to_string().to_uppercase(),
        "",
        ".",
        "..",
    ];
    let world = World::new();
    let system = world.start(OWN);
    let pod = workspace.open(&system);
    // Found as a stale lock,
    workspace.put(".consolidation.lock", original_record(DEAD, "pod-x", &hostile));
    assert!(matches!(pod.lock_status().expect("a status"), Status::Stale(Holder { consumed: 10, .. })));
    let (held, _) = pod.acquire(&options("pod-a")).expect("taken over");
    held.release_with_cleanup().expect("released");
    workspace.put(".consolidation.lock", original_record(DEAD, "pod-x", &hostile));
    pod.unlock(&options("pod-a"), true, None).expect("removed");
    // and slipped into the record of a holder.
    let (mut held, _) = pod.acquire(&options("pod-a")).expect("held");
    pod.record_consumed(&mut held, vec![]).expect("rewritten");
    let mut record: serde_json::Value =
        serde_json::from_slice(&workspace.lock_bytes().expect("a lock")).expect("a record");
    let slipped_in: Vec<String> = hostile.iter().map(ToString::to_string).chain([id.to_string()]).collect();
    record["consumed_ids"] = slipped_in.into();
    let token = record["token"].as_str().expect("a token").to_owned();
    // The token stands where its owner looks for it.
    let text = format!("{record:#}\n");
    assert!(text.contains(&format!("\"token\": \"{token}\"")));
    fs::write(workspace.lock(), text).expect("slipped in");
    assert_eq!(held.release_with_cleanup().expect("still its token"), ReleaseReport::default());
    for victim in victims {
        assert_eq!(fs::read_to_string(workspace.root().join(victim)).expect("kept"), "keep");
    }
    assert!(workspace.staged(&id.file_name()).exists());
}

#[test]
fn consumed_entry_that_became_a_link_is_not_followed() {
    let workspace = TestWorkspace::with_staging();
    let id = workspace.put_entry();
    fs::write(workspace.root().join("victim.json"), "keep").expect("a victim");
    let pod = workspace.open(&World::new().start(OWN));
    let (mut held, _) = pod.acquire(&options("pod-a")).expect("held");
    pod.record_consumed(&mut held, vec![id]).expect("rewritten");
    fs::remove_file(workspace.staged(&id.file_name())).expect("removed");
    #[cfg(unix)]
    std::os::unix::fs::symlink("../victim.json", workspace.staged(&id.file_name())).expect("a link");
    held.release_with_cleanup().expect("released");
    assert_eq!(fs::read_to_string(workspace.root().join("victim.json")).expect("kept"), "keep");
}

#[test]
fn staging_directory_that_is_gone_is_a_lost_lock() {
    let workspace = TestWorkspace::new();
    let held = take(&workspace, &World::new().start(OWN), "pod-a");
    fs::remove_dir_all(workspace.staging()).expect("removed");
    assert_eq!(held.release_with_cleanup().expect_err("lost").code, ErrorCode::LockLost);
    take(&workspace, &World::new().start(OWN), "pod-a").release_only(None).expect("released");
}

// File systems without hard links.

#[test]
fn without_hard_links_the_lock_excludes_and_leaves_no_copy() {
    for kind in [
        FsErrorKind::NotPermitted,
        FsErrorKind::Unsupported,
        FsErrorKind::Access,
        FsErrorKind::TooManyLinks,
        FsErrorKind::Invalid,
        FsErrorKind::Io,
    ] {
        let workspace = TestWorkspace::new();
        let world = World::new();
        let without =
            |pid| workspace.open_faulty(&world.start(pid), &Faults::of(Op::Link, Fault::Refuse(kind)));
        let first = without(OWN);
        let (held, took_over) = first.acquire(&options("pod-a")).expect("held");
        assert_eq!((took_over, workspace.owners().len()), (None, 1));
        assert_eq!(&workspace.lock_record(), held.record());
        let error = without(OTHER).acquire(&options("pod-b")).expect_err("in use");
        assert_eq!(error.owner.as_ref().map(|owner| owner.pid), Some(OWN), "{kind:?}");
        refused(&workspace, &world.start(OTHER), OWN, "pod-a");
        held.refresh().expect("still ours");
        held.release_only(None).expect("still ours");
        workspace.assert_nothing_left();
        // Taken over from the dead, whether they are of the original format or ours.
        workspace.put(".consolidation.lock", original_record(DEAD, "pod-x", &[]));
        let (held, took_over) = without(OWN).acquire(&options("pod-a")).expect("taken over");
        assert_eq!(stale_owner(took_over).1, "pod-x");
        drop(held);
        world.end(OWN);
        let (held, took_over) = without(OTHER).acquire(&options("pod-b")).expect("taken over");
        assert_eq!(stale_owner(took_over).1, "pod-a");
        held.release_only(None).expect("released");
        workspace.assert_nothing_left();
    }
}

#[test]
fn without_hard_links_a_live_owner_of_the_original_format_is_respected() {
    let workspace = TestWorkspace::with_staging();
    let world = World::new();
    world.start(OTHER);
    workspace.put(".consolidation.lock", original_record(OTHER, "pod-b", &[]));
    let before = workspace.lock_bytes().expect("a lock");
    let faults = Faults::of(Op::Link, Fault::Refuse(FsErrorKind::NotPermitted));
    let error =
        workspace.open_faulty(&world.start(OWN), &faults).acquire(&options("pod-a")).expect_err("in use");
    assert_eq!(error.owner.as_ref().map(|owner| owner.pid), Some(OTHER));
    assert_untouched(&workspace, &before, &[]);
}

#[test]
fn copy_that_a_dead_process_left_is_removed() {
    let workspace = TestWorkspace::new();
    let world = World::new();
    let flag = raise(&workspace, &world.start(OTHER), "pod-b", Some(60));
    workspace.put_owner(&flag.publish_name(), "half a rec");
    world.end(OTHER);
    take(&workspace, &world.start(OWN), "pod-a").release_only(None).expect("released");
    workspace.assert_nothing_left();
}

// Status.

#[test]
fn status_tells_every_state_and_changes_nothing() {
    let workspace = TestWorkspace::new();
    let (here, there) = (World::new(), elsewhere());
    let faults = Faults::none();
    let pod = workspace.open_faulty(&here.start(OTHER), &faults);
    assert_eq!(pod.lock_status().expect("a status"), Status::Free);
    assert_eq!(names(workspace.root()), [] as [String; 0]);

    let held = take(&workspace, &here.start(OWN), "pod-a");
    let Status::Held(holder) = pod.lock_status().expect("a status") else { panic!("held") };
    assert_eq!((holder.owner.pid, holder.owner.pod_name.as_str(), holder.consumed), (OWN, "pod-a", 0));
    assert_eq!(holder.owner.started_at, workspace.lock_record().started_at);
    here.end(OWN);
    let Status::Stale(holder) = pod.lock_status().expect("a status") else { panic!("stale") };
    assert_eq!(holder.owner.pid, OWN);
    assert!(holder.reason.contains("4242"), "{}", holder.reason);
    held.release_only(None).expect("released");
    assert_eq!(pod.lock_status().expect("a status"), Status::Free);

    let unknown = workspace.open(&there.start(OWN));
    let (mut held, _) = unknown.acquire(&options("pod-a")).expect("held");
    unknown.record_consumed(&mut held, vec![new_entry_id(), new_entry_id()]).expect("rewritten");
    let Status::Unknown(holder) = pod.lock_status().expect("a status") else { panic!("unknown") };
    assert_eq!(holder.consumed, 2);
    set_age(&workspace.lock(), 100);
    assert!(matches!(pod.lock_status().expect("a status"), Status::Stale(_)));
    held.release_only(None).expect("released");

    for content in garbage() {
        workspace.put(".consolidation.lock", &content);
        let Status::Unreadable(reason, told) = pod.lock_status().expect("a status") else {
            panic!("unreadable")
        };
        assert!(!reason.is_empty());
        assert_eq!(told.is_empty(), content.is_empty());
    }
    assert_eq!(faults.changes(), [] as [String; 0], "looking changed something");
}

// Unlocking.

/// Unlocks as another process.
fn unlock(workspace: &TestWorkspace, world: &World, force: bool) -> Result<Option<Takeover>> {
    workspace.open(&world.start(OTHER)).unlock(&options("admin"), force, None)
}

#[test]
fn unlocking_what_is_free_does_nothing() {
    for force in [false, true] {
        let workspace = TestWorkspace::new();
        assert_eq!(unlock(&workspace, &World::new(), force).expect("nothing to do"), None);
        assert_eq!(names(workspace.root()), [] as [String; 0], "no directory is made for it");
        let workspace = TestWorkspace::with_staging();
        assert_eq!(unlock(&workspace, &World::new(), force).expect("nothing to do"), None);
        workspace.assert_nothing_left();
    }
}

#[test]
fn unlocking_a_live_owners_lock_needs_force() {
    let workspace = TestWorkspace::with_staging();
    let id = workspace.put_entry();
    let world = World::new();
    let pod = workspace.open(&world.start(OWN));
    let (mut held, _) = pod.acquire(&options("pod-a")).expect("held");
    pod.record_consumed(&mut held, vec![id]).expect("rewritten");
    let (before, owners) = (workspace.lock_bytes().expect("a lock"), workspace.owners());
    let error = unlock(&workspace, &world, false).expect_err("in use");
    assert_eq!((error.code, error.owner.as_ref().map(|owner| owner.pid)), (ErrorCode::InUse, Some(OWN)));
    assert_untouched(&workspace, &before, &owners);
    let (pid, pod_name, reason) = stale_owner(unlock(&workspace, &world, true).expect("removed"));
    assert_eq!((pid, pod_name.as_str()), (OWN, "pod-a"));
    assert!(!reason.is_empty());
    workspace.assert_nothing_left();
    assert_eq!(held.refresh().expect_err("lost").code, ErrorCode::LockLost);
    assert_eq!(held.release_with_cleanup().expect_err("lost").code, ErrorCode::LockLost);
    assert_eq!(workspace.visible().len(), 1, "its entry is still there");
}

#[test]
fn unlocking_an_unknown_owners_lock_needs_force_or_the_end_of_its_lease() {
    for (age, force, works) in [(0, false, false), (0, true, true), (100, false, true), (100, true, true)] {
        let workspace = TestWorkspace::new();
        drop(take(&workspace, &elsewhere().start(OWN), "pod-a"));
        set_age(&workspace.lock(), age);
        match unlock(&workspace, &World::new(), force) {
            Ok(removed) => {
                assert!(works, "{age} {force}");
                assert_eq!(stale_owner(removed).0, OWN);
                workspace.assert_nothing_left();
            }
            Err(error) => {
                assert!(!works, "{error}");
                assert_eq!(error.code, ErrorCode::InUse);
                assert_eq!((workspace.lock_record().pid, workspace.owners().len()), (OWN, 1));
            }
        }
    }
}

#[test]
fn unlocking_a_stale_lock_works_without_force() {
    for force in [false, true] {
        let workspace = TestWorkspace::with_staging();
        let id = workspace.put_entry();
        workspace.put(".consolidation.lock", original_record(DEAD, "pod-x", &[&id.to_string()]));
        let (pid, pod, _) = stale_owner(unlock(&workspace, &World::new(), force).expect("removed"));
        assert_eq!((pid, pod.as_str()), (DEAD, "pod-x"));
        workspace.assert_nothing_left();
        assert_eq!(workspace.visible().len(), 1);
    }
}

#[test]
fn unlocking_an_unreadable_lock_needs_force_while_it_is_young() {
    for content in garbage() {
        for (age, force, works) in [(0, false, false), (0, true, true), (10, false, true), (10, true, true)] {
            let workspace = TestWorkspace::with_staging();
            workspace.put(".consolidation.lock", &content);
            set_age(&workspace.lock(), age);
            match unlock(&workspace, &World::new(), force) {
                Ok(removed) => {
                    assert!(works, "{age} {force}");
                    unreadable(removed);
                    workspace.assert_nothing_left();
                }
                Err(error) => {
                    assert!(!works, "{error}");
                    assert_eq!(error.code, ErrorCode::InUse);
                    assert_untouched(&workspace, &content, &[]);
                }
            }
        }
    }
}

#[test]
fn force_lowers_the_flags_of_owners_that_cannot_be_proved_alive_and_no_others() {
    let workspace = TestWorkspace::new();
    let world = World::new();
    raise(&workspace, &elsewhere().start(5), "pod-e", None);
    raise(&workspace, &world.start(6), "pod-f", Some(60));
    world.end(6);
    workspace.put(".consolidation.lock", original_record(DEAD, "pod-x", &[]));
    let live = raise(&workspace, &world.start(11), "pod-b", Some(60));
    let removed = unlock(&workspace, &world, true).expect("forced");
    assert!(matches!(&removed, Some(Takeover::Stale(owner, _)) if owner.pod_name == "pod-x"), "{removed:?}");
    // A live contender keeps its flag: it may be about to take the lock.
    assert_eq!(workspace.owners(), [live.as_str()]);
}

#[test]
fn unknown_owner_without_a_lock_blocks_until_it_is_forced_away() {
    let workspace = TestWorkspace::new();
    raise(&workspace, &elsewhere().start(5), "pod-e", None);
    let world = World::new();
    refused(&workspace, &world.start(OWN), 5, "pod-e");
    let removed = unlock(&workspace, &world, true).expect("forced");
    assert!(matches!(&removed, Some(Takeover::Forced(owner, _)) if owner.pod_name == "pod-e"), "{removed:?}");
    workspace.assert_nothing_left();
    take(&workspace, &world.start(OWN), "pod-a").release_only(None).expect("released");
}

// Abandoning.

#[test]
fn abandoning_a_token_clears_its_lock_and_its_flag_and_nothing_else() {
    let workspace = TestWorkspace::with_staging();
    let id = workspace.put_entry();
    let world = World::new();
    let pod = workspace.open(&world.start(OWN));
    let token = Token::new([7; 16]);
    assert!(!pod.abandon(token).expect("nothing to do"));
    let (mut held, _) = pod.acquire(&with_token("pod-a", token)).expect("held");
    pod.record_consumed(&mut held, vec![id]).expect("rewritten");
    drop(held);
    assert!(!pod.abandon(Token::new([8; 16])).expect("another token"));
    assert_eq!(workspace.lock_record().token, Some(token.to_string()));
    assert!(pod.abandon(token).expect("cleared"));
    workspace.assert_nothing_left();
    assert_eq!(workspace.visible().len(), 1);
    assert!(!pod.abandon(token).expect("nothing to do"));
    take(&workspace, &world.start(OWN), "pod-a").release_only(None).expect("released");
}

#[test]
fn abandoning_what_was_lost_leaves_the_other_owners_lock() {
    let workspace = TestWorkspace::new();
    let world = World::new();
    let token = Token::new([7; 16]);
    let pod = workspace.open(&world.start(OWN));
    drop(pod.acquire(&with_token("pod-a", token)).expect("held"));
    let other = original_record(OTHER, "pod-b", &[]);
    fs::remove_file(workspace.lock()).expect("removed");
    fs::write(workspace.lock(), &other).expect("another's lock");
    assert!(pod.abandon(token).expect("the flag was ours"));
    assert_untouched(&workspace, other.as_bytes(), &[]);
}

#[test]
fn abandoning_clears_what_is_left_of_an_attempt_that_stopped_half_way() {
    let token = Token::new([7; 16]);
    let system = World::new().start(OWN);
    let flag = FlagName::new(&system.me, token);
    let record = LockRecord::new(&system.me, "pod-a", Time::new(0, 0), token, None).to_file();
    // Only the flag; the flag and its copy; only the lock; the lock after its owners directory went.
    let stops: [fn(&TestWorkspace, &FlagName, &[u8]); 4] = [
        |workspace, flag, _| workspace.put_owner(flag.as_str(), ""),
        |workspace, flag, record| {
            workspace.put_owner(flag.as_str(), record);
            workspace.put_owner(&flag.publish_name(), &record[..10]);
        },
        |workspace, _, record| {
            workspace.put_owner("README", "");
            fs::remove_file(workspace.owner("README")).expect("removed");
            workspace.put(".consolidation.lock", record);
        },
        |workspace, _, record| workspace.put(".consolidation.lock", record),
    ];
    for (number, stop) in stops.iter().enumerate() {
        let workspace = TestWorkspace::with_staging();
        stop(&workspace, &flag, &record);
        assert!(workspace.open(&system).abandon(token).expect("cleared"), "stop {number}");
        assert!(workspace.lock_bytes().is_none(), "stop {number} leaves the lock");
        assert_eq!(workspace.owners(), [] as [String; 0], "stop {number} leaves files");
    }
}

// Many at once.

/// Waits for a moment after a refusal: contenders that come back at once stand in each other's way.
fn back_off() {
    static TURN: AtomicU64 = AtomicU64::new(0);
    let turn = TURN.fetch_add(1, Ordering::Relaxed);
    std::thread::sleep(Duration::from_micros(100 + turn * 617 % 1_000));
}

#[test]
fn eight_threads_never_hold_it_at_the_same_time() {
    let workspace = TestWorkspace::with_staging();
    let system = World::new().start(OWN);
    let held_by_one = AtomicBool::new(false);
    let barrier = Barrier::new(8);
    std::thread::scope(|threads| {
        for _ in 0..8 {
            threads.spawn(|| {
                let pod = workspace.open(&system);
                barrier.wait();
                for _ in 0..200 {
                    let held = loop {
                        match pod.acquire(&options("pod-a")) {
                            Ok((held, None)) => break held,
                            Ok((_, took_over)) => panic!("nobody died: {took_over:?}"),
                            Err(error) => assert_eq!(error.code, ErrorCode::InUse, "{error}"),
                        }
                        back_off();
                    };
                    assert!(!held_by_one.swap(true, Ordering::SeqCst), "two hold the lock");
                    std::thread::yield_now();
                    assert!(held_by_one.swap(false, Ordering::SeqCst), "two hold the lock");
                    held.release_only(None).expect("still ours");
                }
            });
        }
    });
    workspace.assert_nothing_left();
}

/// Processes that take the lock and die with it, or release it; never two at once, and what the dead
/// leave is taken over.
fn die_and_take_over(faults: fn() -> Faults) {
    const ROUNDS: u64 = 40;
    let workspace = TestWorkspace::with_staging();
    workspace.put(".consolidation.lock", original_record(DEAD, "pod-x", &[]));
    let world = World::new();
    let held_by_one = AtomicBool::new(false);
    let next_pid = AtomicU64::new(1_000);
    let (deaths, takeovers) = (AtomicUsize::new(1), AtomicUsize::new(0));
    std::thread::scope(|threads| {
        for _ in 0..4 {
            threads.spawn(|| {
                let mut round = 0;
                while round < ROUNDS {
                    let pid = u32::try_from(next_pid.fetch_add(1, Ordering::SeqCst)).expect("fits");
                    let pod = workspace.open_faulty(&world.start(pid), &faults());
                    match pod.acquire(&options("pod-a")) {
                        Ok((held, took_over)) => {
                            takeovers.fetch_add(usize::from(took_over.is_some()), Ordering::SeqCst);
                            assert!(!held_by_one.swap(true, Ordering::SeqCst), "two hold the lock");
                            std::thread::yield_now();
                            assert!(held_by_one.swap(false, Ordering::SeqCst), "two hold the lock");
                            if round % 2 == 0 {
                                held.release_only(None).expect("still ours");
                            } else {
                                deaths.fetch_add(1, Ordering::SeqCst);
                            }
                            round += 1;
                        }
                        Err(error) => {
                            assert_eq!(error.code, ErrorCode::InUse, "{error}");
                            back_off();
                        }
                    }
                    world.end(pid);
                }
            });
        }
    });
    let (held, took_over) = acquire(&workspace, &world.start(OWN), "pod-a").expect("taken over");
    held.release_only(None).expect("released");
    let took_over = takeovers.into_inner() + usize::from(took_over.is_some());
    assert_eq!(took_over, deaths.into_inner(), "each dead owner is reported once");
    workspace.assert_nothing_left();
}

#[test]
fn lock_of_the_dead_goes_to_one_successor_only() {
    die_and_take_over(Faults::none);
}

#[test]
fn lock_of_the_dead_goes_to_one_successor_only_without_hard_links() {
    die_and_take_over(|| Faults::of(Op::Link, Fault::Refuse(FsErrorKind::Unsupported)));
}

#[test]
fn entries_staged_while_the_lock_is_held_wait_for_the_next_run() {
    let workspace = TestWorkspace::new();
    let world = World::new();
    let consumed = AtomicUsize::new(0);
    let done = AtomicBool::new(false);
    std::thread::scope(|threads| {
        let consume = || {
            let pod = workspace.open(&world.start(OTHER));
            let (mut held, _) = pod.acquire(&options("pod-b")).expect("nobody else takes it");
            let snapshot = pod.take_snapshot(Default::default()).expect("a snapshot");
            let ids = snapshot.ids().to_vec();
            pod.record_consumed(&mut held, ids.clone()).expect("rewritten");
            let report = held.release_with_cleanup().expect("released");
            assert_eq!((report.removed, report.missing, report.failed.len()), (ids.len() as u64, 0, 0));
            consumed.fetch_add(ids.len(), Ordering::SeqCst);
        };
        let producer = threads.spawn(|| {
            let pod = workspace.open(&world.start(OWN));
            for _ in 0..300 {
                pod.stage(&[MINIMAL], None, Durability::None).expect("staged");
            }
            done.store(true, Ordering::SeqCst);
        });
        while !done.load(Ordering::SeqCst) && !producer.is_finished() {
            consume();
        }
        producer.join().expect("the producer is done");
        consume();
    });
    assert_eq!(consumed.into_inner(), 300, "each entry is consumed once");
    assert_eq!(workspace.visible().len(), 0);
}

#[test]
fn directory_named_like_a_flag_stands_in_nobodys_way() {
    let workspace = TestWorkspace::with_staging();
    let world = World::new();
    let system = world.start(OWN);
    workspace.put_owner("README", "");
    let name = FlagName::new(&World::new().start(OTHER).me, Token::new([5; 16]));
    fs::create_dir(workspace.owner(name.as_str())).expect("a directory");
    take(&workspace, &system, "pod-a").release_only(None).expect("released");
    assert_eq!(unlock(&workspace, &world, true).expect("nothing to remove"), None);
    assert!(workspace.owner(name.as_str()).is_dir());
}

/// A flag of a process that runs, with no telling whether it is the owner: in a container every first
/// process has the same id.
#[test]
fn force_removes_the_flag_of_an_owner_that_may_be_another_process() {
    let workspace = TestWorkspace::new();
    let world = World::new();
    let me = world.start_at(OWN, "");
    drop(take(&workspace, &me, "pod-a"));
    fs::remove_file(workspace.lock()).expect("removed");
    let pod = workspace.open(&me);
    let options =
        AcquireOptions { pod_name: "pod-b".into(), lease_seconds: Some(60), ..AcquireOptions::default() };
    assert_eq!(pod.acquire(&options).expect_err("its lease stands").code, ErrorCode::InUse);
    pod.unlock(&options, true, None).expect("cleared");
    workspace.assert_nothing_left();
    pod.acquire(&options).expect("free").0.release_only(None).expect("released");
}

/// A contender that was stopped between raising its flag and taking the lock.
#[test]
fn contender_that_stands_still_is_shown_and_loses_by_force() {
    let workspace = TestWorkspace::new();
    let world = World::new();
    let contender = world.start(OTHER);
    drop(take(&workspace, &contender, "pod-b"));
    fs::remove_file(workspace.lock()).expect("removed");
    let pod = workspace.open(&world.start(OWN));
    let Status::Held(holder) = pod.lock_status().expect("looked") else { panic!("it is in the way") };
    assert_eq!((holder.owner.pid, holder.owner.pod_name.as_str()), (OTHER, "pod-b"));
    assert!(holder.reason.contains("taking the lock"), "{}", holder.reason);
    let options = AcquireOptions { pod_name: "pod-a".into(), ..AcquireOptions::default() };
    let removed = pod.unlock(&options, true, Some("it hangs")).expect("cleared");
    assert!(matches!(removed, Some(Takeover::Forced(owner, _)) if owner.pid == OTHER), "it is said");
    workspace.assert_nothing_left();
    assert!(matches!(pod.lock_status().expect("looked"), Status::Free));
    pod.acquire(&options).expect("free").0.release_only(None).expect("released");
}
