//! The consolidation lock: taking, taking over, releasing, losing.

use super::{LONG, POD, Running, open, payload, payloads, read_all, refused, tree, wait_until};
use crate::support::{
    OriginalRecord, TestWorkspace, make_fifo, names, new_entry_id, original_record, set_age,
    without_waiting_at,
};
use consolidation_guest::outcome::{Ending, Outcome};
use consolidation_host::{AcquireOptions, Durability, Error, ErrorCode, Limits, LockStatus, Takeover};
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

/// Longer ago than any process of this machine started.
const OLD: &str = "2026-01-01T00:00:00Z";

fn record(pid: impl std::fmt::Display, pod: &str, started_at: &str, consumed: &str) -> String {
    format!(
        r#"{{"pid": {pid}, "pod_name": "{pod}", "started_at": "{started_at}", "consumed_ids": [{consumed}]}}"#
    )
}

fn leased(seconds: u64) -> AcquireOptions {
    let mut options = AcquireOptions::new(POD);
    options.lease = Some(Duration::from_secs(seconds));
    options
}

/// How long ago a file was last written.
fn age(path: &Path) -> Duration {
    let modified = fs::metadata(path).and_then(|found| found.modified()).expect("the file is there");
    SystemTime::now().duration_since(modified).unwrap_or_default()
}

#[test]
fn lock_file_has_pid_and_pod_of_the_owner() {
    let place = TestWorkspace::new();
    let workspace = open(&place);
    let lock = workspace.acquire(POD).expect("the lock is free");
    assert!(lock.took_over().is_none());
    assert_eq!(lock.path(), workspace.root().join("_staging/.consolidation.lock"));
    let content = fs::read(lock.path()).expect("there is a lock file");
    // What a reader of the original format makes of it: these four members.
    let seen: OriginalRecord = serde_json::from_slice(&content).expect("the four members are there");
    assert_eq!(seen.pid, std::process::id());
    assert_eq!(seen.pod_name, POD);
    assert!(seen.started_at.ends_with('Z'), "{}", seen.started_at);
    assert_eq!(seen.consumed_ids, [] as [String; 0]);
    let ours = lock.record().expect("the record is at hand");
    assert_eq!((ours.pid, ours.pod_name, ours.started_at), (seen.pid, seen.pod_name, seen.started_at));
    assert_eq!(ours.lease_seconds, Some(60));
    lock.release_only(None).expect("it is released");
    place.assert_nothing_left();
}

#[test]
fn acquire_creates_the_staging_directory() {
    let place = TestWorkspace::new();
    let lock = open(&place).acquire(POD).expect("the lock is free");
    assert!(place.staging().is_dir());
    lock.release_only(None).expect("it is released");
}

#[test]
fn live_owner_of_the_original_format_is_in_use() {
    let place = TestWorkspace::new();
    let owner = Running::start();
    place.put(".consolidation.lock", original_record(owner.pid(), "pod-a", &[]));
    let before = place.lock_bytes();
    let error = refused(open(&place).acquire(POD), ErrorCode::InUse);
    let expected = format!("consolidation lock held by live pid {} (pod \"pod-a\")", owner.pid());
    assert!(error.to_string().contains(&expected), "{error}");
    let holder = error.owner().expect("the owner is known");
    assert_eq!((holder.pid, holder.pod_name.as_str()), (owner.pid(), "pod-a"));
    assert!(error.path().is_some_and(|path| path.ends_with("_staging/.consolidation.lock")), "{error:?}");
    assert_eq!(place.lock_bytes(), before, "a refused lock stays as it was");
    assert!(
        matches!(open(&place).lock_status(), Ok(LockStatus::Held(holder)) if holder.owner.pid == owner.pid())
    );
    refused(open(&place).unlock(POD, false, None), ErrorCode::InUse);
    assert_eq!(place.lock_bytes(), before);
    assert_eq!(place.owners(), [] as [String; 0]);
}

#[test]
fn dead_owner_is_taken_over() {
    for pid in [u32::MAX, 0, 1 << 31] {
        let place = TestWorkspace::new();
        place.put(".consolidation.lock", original_record(pid, "pod-a", &[]));
        let workspace = open(&place);
        assert!(matches!(workspace.lock_status(), Ok(LockStatus::Stale(holder)) if holder.owner.pid == pid));
        let lock = workspace.acquire(POD).expect("a dead owner does not hold it");
        let Some(Takeover::Stale(stale)) = lock.took_over() else {
            panic!("{:?} was taken over", lock.took_over());
        };
        assert_eq!((stale.owner.pid, stale.owner.pod_name.as_str()), (pid, "pod-a"));
        assert_eq!(place.lock_record().pid, std::process::id());
        lock.release_only(None).expect("it is released");
        place.assert_nothing_left();
    }
}

#[test]
fn ended_process_is_taken_over() {
    let place = TestWorkspace::new();
    let owner = Running::start();
    let pid = owner.pid();
    place.put(".consolidation.lock", original_record(pid, "pod-a", &[]));
    drop(owner);
    let lock = open(&place).acquire(POD).expect("the owner has ended");
    assert!(matches!(lock.took_over(), Some(Takeover::Stale(stale)) if stale.owner.pid == pid));
    lock.release_only(None).expect("it is released");
}

/// A pid that was given to another process since does not keep the lock for ever.
#[cfg(target_os = "linux")]
#[test]
fn process_that_started_after_the_lock_was_taken_is_not_its_owner() {
    let place = TestWorkspace::new();
    let stranger = Running::start();
    place.put(".consolidation.lock", record(stranger.pid(), "pod-a", OLD, ""));
    let lock = open(&place).acquire(POD).expect("the owner has ended long ago");
    assert!(matches!(lock.took_over(), Some(Takeover::Stale(stale)) if stale.owner.pid == stranger.pid()));
    lock.release_only(None).expect("it is released");
}

#[cfg(target_os = "linux")]
#[test]
fn zombie_is_taken_over() {
    let place = TestWorkspace::new();
    let mut zombie =
        Command::new("true").stdin(Stdio::null()).spawn().expect("a process that ends at once is started");
    let stat = format!("/proc/{}/stat", zombie.id());
    wait_until("the process is a zombie", || {
        fs::read_to_string(&stat).is_ok_and(|stat| stat.contains(") Z "))
    });
    place.put(".consolidation.lock", original_record(zombie.id(), "pod-a", &[]));
    let lock = open(&place).acquire(POD).expect("a zombie holds nothing");
    assert!(matches!(lock.took_over(), Some(Takeover::Stale(stale)) if stale.reason.contains("zombie")));
    lock.release_only(None).expect("it is released");
    zombie.wait().expect("it is collected");
}

/// `kill` answers EPERM for the process of another user.
#[test]
fn process_of_another_user_is_alive() {
    super::own_process::without_privileges(
        concat!(module_path!(), "::process_of_another_user_is_alive"),
        || {
            use std::io::ErrorKind;
            let place = TestWorkspace::new();
            let init = Path::new("/proc/1");
            let owner = fs::metadata(init).map(|found| found.uid());
            if !matches!(owner, Ok(uid) if uid != rustix::process::geteuid().as_raw()) {
                eprintln!("skipped: there is no process 1 of another user here: {owner:?}");
                return;
            }
            let error = fs::read_link(init.join("exe")).expect_err("it is another user's");
            assert_eq!(error.kind(), ErrorKind::PermissionDenied);
            place.put(".consolidation.lock", original_record(1, "pod-a", &[]));
            let error = refused(open(&place).acquire(POD), ErrorCode::InUse);
            assert!(error.to_string().contains("held by live pid 1 (pod \"pod-a\")"), "{error}");
        },
    );
}

#[test]
fn record_of_the_original_format_is_read() {
    let place = TestWorkspace::new();
    let owner = Running::start();
    let consumed = [new_entry_id().to_string(), new_entry_id().to_string()];
    let consumed: Vec<&str> = consumed.iter().map(String::as_str).collect();
    place.put(".consolidation.lock", original_record(owner.pid(), "pod \"a\"\n", &consumed));
    let Ok(LockStatus::Held(holder)) = open(&place).lock_status() else {
        panic!("it is held");
    };
    assert_eq!(holder.owner.pid, owner.pid());
    assert_eq!(holder.owner.pod_name, "pod \"a\"\n");
    assert_eq!(holder.consumed_count, 2);
    let error = refused(open(&place).acquire(POD), ErrorCode::InUse);
    assert!(!error.to_string().contains('\n'), "{error}");
}

#[test]
fn member_that_is_not_known_is_ignored() {
    let place = TestWorkspace::new();
    place.put(
        ".consolidation.lock",
        r#"{"later": [1, {}], "pid": 4294967295, "pod_name": "pod-a", "started_at": "2026-01-01T00:00:00+02:00",
            "consumed_ids": [], "token": 7, "scope": "another form", "lease_seconds": "soon"}"#,
    );
    let lock = open(&place).acquire(POD).expect("the four members say who it was");
    assert!(matches!(lock.took_over(), Some(Takeover::Stale(stale)) if stale.owner.pod_name == "pod-a"));
    lock.release_only(None).expect("it is released");
}

#[test]
fn release_with_cleanup_drops_what_was_consumed_and_keeps_the_rest() {
    let place = TestWorkspace::new();
    let workspace = open(&place);
    let ids = workspace.stage_many(&payloads(3), None).expect("staged");
    let lock = workspace.acquire(POD).expect("the lock is free");
    let gone = new_entry_id().to_string();
    lock.record_consumed(&[&ids[0], &ids[2], &gone]).expect("recorded");
    let seen: OriginalRecord =
        serde_json::from_slice(&fs::read(lock.path()).expect("the lock is there")).expect("it is a record");
    assert_eq!(seen.consumed_ids, [ids[0].as_str(), &ids[2], &gone]);
    let report = lock.release_with_cleanup().expect("it is released");
    assert_eq!((report.removed, report.missing), (2, 1));
    assert_eq!(report.failed, []);
    assert_eq!(workspace.list().expect("listed"), [ids[1].clone()]);
    place.assert_nothing_left();
}

#[test]
fn release_only_drops_nothing_but_the_lock() {
    let place = TestWorkspace::new();
    let workspace = open(&place);
    let ids = workspace.stage_many(&payloads(2), None).expect("staged");
    let lock = workspace.acquire(POD).expect("the lock is free");
    lock.record_consumed(&ids).expect("recorded");
    let report = lock.release_only(None).expect("it is released");
    assert_eq!((report.removed, report.missing, report.failed.len()), (0, 0, 0));
    assert_eq!(workspace.list().expect("listed"), ids);
    place.assert_nothing_left();
}

#[test]
fn entry_that_cannot_be_deleted_is_reported_and_the_others_go() {
    let place = TestWorkspace::new();
    let workspace = open(&place);
    let ids = workspace.stage_many(&payloads(3), None).expect("staged");
    let lock = workspace.acquire(POD).expect("the lock is free");
    let snapshot = lock.snapshot(Limits::default()).expect("taken");
    read_all(&snapshot);
    lock.record_snapshot(&snapshot).expect("recorded");
    drop(snapshot);
    let stubborn = place.staged(&format!("{}.json", ids[1]));
    fs::remove_file(&stubborn).expect("removed");
    fs::create_dir(&stubborn).expect("a directory in its place");
    let report = lock.release_with_cleanup().expect("it is released");
    assert_eq!((report.removed, report.missing), (2, 0));
    assert_eq!(report.failed.len(), 1);
    assert_eq!(report.failed[0].id, ids[1]);
    assert!(!report.failed[0].reason.is_empty());
    assert!(stubborn.is_dir());
    place.assert_nothing_left();
}

/// Who records a snapshot and reads only a part of it has not consumed the rest.
#[test]
fn what_nobody_read_is_not_deleted() {
    let place = TestWorkspace::new();
    let workspace = open(&place);
    let ids = workspace.stage_many(&payloads(7), None).expect("staged");
    let lock = workspace.acquire(POD).expect("the lock is free");
    let snapshot = lock.snapshot(Limits::default()).expect("taken");
    lock.record_snapshot(&snapshot).expect("recorded");
    assert_eq!(lock.record().expect("ours").consumed_ids, ids);
    let batch = snapshot.next_batch(3, 1 << 20).expect("read");
    assert_eq!((batch.entries.len(), batch.done), (3, false));
    lock.record_snapshot(&snapshot).expect("recorded");
    drop(snapshot);
    let report = lock.release_with_cleanup().expect("it is released");
    assert_eq!((report.removed, report.left), (3, 0));
    assert_eq!(workspace.list().expect("listed"), ids[3..]);
    place.assert_nothing_left();
}

/// More than one call deletes: the reports of all are one.
#[test]
fn cleanup_of_very_many_is_cut_into_calls() {
    let place = TestWorkspace::new();
    let workspace = open(&place).with_durability(Durability::None);
    let ids = workspace.stage_many(&payloads(1_203), None).expect("staged");
    let lock = workspace.acquire(POD).expect("the lock is free");
    lock.record_consumed(&ids).expect("recorded");
    fs::remove_file(place.staged(&format!("{}.json", ids[700]))).expect("removed");
    let stubborn = place.staged(&format!("{}.json", ids[3]));
    fs::remove_file(&stubborn).expect("removed");
    fs::create_dir(&stubborn).expect("a directory in its place");
    let report = lock.release_with_cleanup().expect("it is released");
    assert_eq!((report.removed, report.missing, report.failed.len(), report.left), (1_201, 1, 1, 0));
    assert_eq!(workspace.list().expect("listed"), [] as [String; 0]);
    place.assert_nothing_left();
}

#[test]
fn dropping_the_handle_leaves_the_lock() {
    let place = TestWorkspace::new();
    let workspace = open(&place);
    drop(workspace.acquire(POD).expect("the lock is free"));
    assert_eq!(place.lock_record().pid, std::process::id());
    // Its process lives, so it counts as held: also for the workspace that took it.
    let error = refused(workspace.acquire("pod-c"), ErrorCode::InUse);
    assert_eq!(error.owner().map(|owner| owner.pod_name.as_str()), Some(POD));
    refused(workspace.unlock("pod-c", false, None), ErrorCode::InUse);
    let removed = workspace.unlock("pod-c", true, None).expect("by force it goes");
    assert!(matches!(removed, Some(Takeover::Forced(forced)) if forced.owner.pod_name == POD));
    place.assert_nothing_left();
    workspace.acquire("pod-c").expect("it is free").release_only(None).expect("it is released");
}

#[test]
fn handle_outlives_the_workspace_value() {
    let place = TestWorkspace::new();
    let lock = open(&place).acquire(POD).expect("the lock is free");
    lock.record_consumed(&[new_entry_id().to_string()]).expect("recorded");
    assert_eq!(lock.release_with_cleanup().expect("it is released").missing, 1);
}

#[test]
fn young_unreadable_lock_is_in_use() {
    for content in ["", "{\"pid\":12,\"pod_na", "\0\0\0\0\0\0\0\0", "not JSON", "{}", "[]", "null"] {
        let place = TestWorkspace::new();
        place.put(".consolidation.lock", content);
        let workspace = open(&place);
        let error = refused(workspace.acquire(POD), ErrorCode::InUse);
        assert_eq!(error.owner(), None);
        assert!(error.to_string().contains("can't be read"), "{error}");
        assert_eq!(place.lock_bytes().as_deref(), Some(content.as_bytes()));
        assert!(matches!(workspace.lock_status(), Ok(LockStatus::Unreadable(_))));
        assert_eq!(place.owners(), [] as [String; 0]);
    }
}

#[test]
fn old_unreadable_lock_is_taken_over_with_its_content() {
    for content in ["", "{\"pid\":12,\"pod_na", "\0\0\0\0\0\0\0\0", "not JSON"] {
        let place = TestWorkspace::new();
        place.put(".consolidation.lock", content);
        set_age(&place.lock(), 10);
        let lock = open(&place).acquire(POD).expect("nobody is writing it any more");
        let Some(Takeover::Unreadable(unreadable)) = lock.took_over() else {
            panic!("{:?} was taken over", lock.took_over());
        };
        let shown: String = content.chars().flat_map(char::escape_debug).collect();
        assert_eq!(unreadable.content, shown);
        assert!(!unreadable.reason.is_empty());
        lock.release_only(None).expect("it is released");
        place.assert_nothing_left();
    }
}

/// None of these wraps around to the pid of a process that lives.
#[test]
fn pid_that_is_no_pid_makes_the_lock_unreadable() {
    let owner = Running::start();
    let wrapping = (u64::from(u32::MAX) + 1 + u64::from(owner.pid())).to_string();
    let pids = [wrapping.as_str(), "9223372036854775807", "18446744073709551615", "1e3", "12.0", "\"123\""];
    for pid in pids.into_iter().chain(["null", "[1]", "true", "-1"]) {
        let place = TestWorkspace::new();
        place.put(".consolidation.lock", record(pid, "pod-a", OLD, ""));
        let workspace = open(&place);
        assert!(matches!(workspace.lock_status(), Ok(LockStatus::Unreadable(_))), "{pid}");
        refused(workspace.acquire(POD), ErrorCode::InUse);
        set_age(&place.lock(), 10);
        let lock = workspace.acquire(POD).expect("it is stale now");
        assert!(matches!(lock.took_over(), Some(Takeover::Unreadable(_))), "{pid}");
        lock.release_only(None).expect("it is released");
    }
}

#[test]
fn unlock_removes_what_is_unreadable_by_force_at_once() {
    let place = TestWorkspace::new();
    place.put(".consolidation.lock", "{\"pid\": 1");
    let workspace = open(&place);
    refused(workspace.unlock(POD, false, None), ErrorCode::InUse);
    let removed = workspace.unlock(POD, true, None).expect("by force it goes");
    assert!(matches!(removed, Some(Takeover::Unreadable(lock)) if lock.content.contains("pid")));
    assert_eq!(workspace.unlock(POD, true, None).expect("there is none"), None);
    assert_eq!(workspace.unlock(POD, false, None).expect("there is none"), None);
    place.assert_nothing_left();
}

/// What a dead owner lists as consumed is not deleted, and never becomes part of a path.
#[test]
fn takeover_deletes_nothing_that_the_dead_owner_lists() {
    let place = TestWorkspace::new();
    let workspace = open(&place);
    let id = workspace.stage(&payload(1)).expect("staged");
    fs::write(place.root().join("victim.json"), "keep").expect("written");
    let consumed = format!(
        r#""{id}", "../victim", "..%2fvictim", "/etc/x", "{id}/../../victim", "{id}\u0000", "", ".""#
    );
    place.put(".consolidation.lock", record(u32::MAX, "pod-a", OLD, &consumed));
    let before = tree(place.root());
    let lock = workspace.acquire(POD).expect("the owner is dead");
    assert!(matches!(lock.took_over(), Some(Takeover::Stale(_))));
    lock.release_with_cleanup().expect("it is released");
    let mut after = tree(place.root());
    after.remove(&place.staged(".owners"));
    let mut expected = before;
    expected.remove(&place.lock());
    assert_eq!(after, expected);
    let runs: Vec<String> =
        names(&place.root().join("runs")).into_iter().filter(|name| name.ends_with(".json")).collect();
    let [outcome] = &runs[..] else { panic!("one run has ended: {runs:?}") };
    let outcome = fs::read(place.root().join("runs").join(outcome)).expect("it is read");
    let outcome = Outcome::parse(&outcome).expect("it is whole");
    assert_eq!(outcome.outcome, Ending::Aborted);
    // What is no id is not noted either.
    assert_eq!(outcome.entry_ids.iter().map(ToString::to_string).collect::<Vec<_>>(), [id]);
}

#[test]
fn id_that_is_not_canonical_is_not_recorded() {
    let place = TestWorkspace::new();
    let workspace = open(&place);
    let id = workspace.stage(&payload(1)).expect("staged");
    let lock = workspace.acquire(POD).expect("the lock is free");
    lock.record_consumed(&[&id]).expect("recorded");
    let upper = id.to_uppercase();
    for bad in ["../victim", upper.as_str(), "", ".", "4d7f4b3c-1f6c-4a9e-8d6b-0123456789ab"] {
        let error = refused(lock.record_consumed(&[&id, bad]), ErrorCode::InvalidInput);
        assert_eq!(error.index(), Some(1), "{error}");
        assert_eq!(lock.record().expect("the record is at hand").consumed_ids, [id.as_str()]);
        assert_eq!(place.lock_record().consumed_ids.texts(), [id.as_str()]);
    }
    assert_eq!(lock.release_with_cleanup().expect("it is released").removed, 1);
}

#[test]
fn pod_name_may_be_any_text_up_to_a_size() {
    let place = TestWorkspace::new();
    let workspace = open(&place);
    for name in ["", "with \"quotes\" and\na line break", "p\u{f6}d-\u{1f4e6}", &"p".repeat(1024)] {
        let lock = workspace.acquire(name).expect("the lock is free");
        assert_eq!(place.lock_record().pod_name, name);
        let error = refused(workspace.acquire(POD), ErrorCode::InUse);
        assert_eq!(error.owner().map(|owner| owner.pod_name.as_str()), Some(name));
        lock.release_only(None).expect("it is released");
    }
    refused(workspace.acquire(&"p".repeat(1025)), ErrorCode::InvalidInput);
    place.assert_nothing_left();
}

#[test]
fn handles_of_two_workspace_values_exclude_each_other() {
    let place = TestWorkspace::new();
    let (one, other) = (open(&place), open(&place));
    let lock = one.acquire("pod-a").expect("the lock is free");
    let before = place.lock_bytes();
    for workspace in [&one, &other] {
        let error = refused(workspace.acquire("pod-a"), ErrorCode::InUse);
        assert_eq!(error.owner().map(|owner| owner.pid), Some(std::process::id()));
    }
    assert_eq!(place.lock_bytes(), before);
    lock.release_only(None).expect("it is released");
    other.acquire(POD).expect("it is free again").release_only(None).expect("it is released");
}

#[test]
fn lock_of_another_is_left_by_a_release() {
    let foreign = original_record(std::process::id(), "pod-a", &[]);
    type Replace<'a> = &'a dyn Fn(&Path);
    let replacements: [(Replace<'_>, Option<&str>); 4] = [
        (&|lock| fs::write(lock, &foreign).expect("written"), Some("pod-a")),
        (&|_| (), None),
        (&|lock| fs::write(lock, "").expect("written"), None),
        (&|lock| fs::create_dir(lock).expect("made"), None),
    ];
    for cleanup in [true, false] {
        for (replace, owner) in &replacements {
            let place = TestWorkspace::new();
            let workspace = open(&place);
            let id = workspace.stage(&payload(1)).expect("staged");
            let lock = workspace.acquire(POD).expect("the lock is free");
            lock.record_consumed(&[&id]).expect("recorded");
            fs::remove_file(lock.path()).expect("somebody removed it");
            replace(&place.lock());
            let before = tree(&place.staging());
            let released = if cleanup { lock.release_with_cleanup() } else { lock.release_only(None) };
            let error = refused(released, ErrorCode::LockLost);
            assert_eq!(error.owner().map(|owner| owner.pod_name.as_str()), *owner);
            let mut after = tree(&place.staging());
            let mut expected = before;
            // Our flag is no longer of use.
            expected.retain(|path, _| path.parent() != Some(&place.staged(".owners")));
            after.retain(|path, _| path.parent() != Some(&place.staged(".owners")));
            assert_eq!(after, expected);
            assert_eq!(place.owners(), [] as [String; 0]);
        }
    }
}

#[test]
fn lock_of_another_is_not_rewritten() {
    let place = TestWorkspace::new();
    let workspace = open(&place);
    let id = workspace.stage(&payload(1)).expect("staged");
    let lock = workspace.acquire(POD).expect("the lock is free");
    let snapshot = lock.snapshot(Limits::default()).expect("taken");
    fs::remove_file(lock.path()).expect("somebody removed it");
    place.put(".consolidation.lock", original_record(std::process::id(), "pod-a", &[]));
    let before = place.lock_bytes();
    refused(lock.record_consumed(&[&id]), ErrorCode::LockLost);
    refused(lock.record_snapshot(&snapshot), ErrorCode::LockLost);
    refused(lock.record_command_group(Some(1)), ErrorCode::LockLost);
    assert!(lock.is_lost());
    assert_eq!(place.lock_bytes(), before);
    drop(snapshot);
    refused(lock.release_with_cleanup(), ErrorCode::LockLost);
    assert_eq!(place.lock_bytes(), before);
    assert_eq!(workspace.list().expect("listed"), [id]);
}

#[test]
fn staging_directory_that_vanishes_under_the_lock_is_an_error_with_a_code() {
    let place = TestWorkspace::new();
    let workspace = open(&place);
    workspace.stage_many(&payloads(3), None).expect("staged");
    let lock = workspace.acquire(POD).expect("the lock is free");
    let snapshot = lock.snapshot(Limits::default()).expect("taken");
    fs::remove_dir_all(place.staging()).expect("somebody removed it");
    // Entries that are gone are passed over.
    let batch = snapshot.next_batch(10, 1 << 20).expect("read");
    assert_eq!((batch.entries.len(), batch.done), (0, true));
    refused(lock.record_snapshot(&snapshot), ErrorCode::LockLost);
    drop(snapshot);
    refused(lock.release_with_cleanup(), ErrorCode::LockLost);
    // And the workspace begins anew.
    assert_eq!(workspace.list().expect("a missing directory is an empty one"), [] as [String; 0]);
    workspace.stage(&payload(1)).expect("staged");
    workspace.acquire(POD).expect("the lock is free").release_only(None).expect("it is released");
}

#[test]
fn snapshot_of_another_lock_is_not_recorded() {
    let (place, elsewhere) = (TestWorkspace::new(), TestWorkspace::new());
    let lock = open(&place).acquire(POD).expect("the lock is free");
    let other = open(&elsewhere).acquire(POD).expect("the lock is free");
    let foreign = other.snapshot(Limits::default()).expect("taken");
    assert!(matches!(lock.record_snapshot(&foreign), Err(Error::ForeignSnapshot)));
    let free_standing = open(&place).snapshot(Limits::default()).expect("taken");
    assert!(matches!(lock.record_snapshot(&free_standing), Err(Error::ForeignSnapshot)));
    drop(foreign);
    lock.release_only(None).expect("it is released");
    other.release_only(None).expect("it is released");
}

#[test]
fn link_in_the_place_of_the_lock_is_not_followed() {
    let outside = TestWorkspace::new();
    for target in ["../victim", "../new", &format!("{}/victim", outside.root().display()), "/etc/hostname"] {
        let place = TestWorkspace::with_staging();
        fs::write(place.root().join("victim"), "keep").expect("written");
        fs::write(outside.root().join("victim"), "keep").expect("written");
        symlink(target, place.lock()).expect("linked");
        let (before, before_outside) = (tree(place.root()), tree(outside.root()));
        let workspace = open(&place);
        let error = refused(workspace.acquire(POD), ErrorCode::WrongFileType);
        assert!(error.to_string().contains("a symbolic link stands in the place of the lock"), "{error}");
        refused(workspace.unlock(POD, false, None), ErrorCode::WrongFileType);
        refused(workspace.unlock(POD, true, None), ErrorCode::WrongFileType);
        let Ok(LockStatus::Blocked(lock)) = workspace.lock_status() else {
            panic!("it is no lock");
        };
        assert_eq!(lock.path, "_staging/.consolidation.lock");
        assert!(lock.reason.contains("a symbolic link"), "{}", lock.reason);
        let mut after = tree(place.root());
        after.remove(&place.staged(".owners"));
        assert_eq!(after, before);
        assert_eq!(tree(outside.root()), before_outside);
    }
}

#[test]
fn directory_in_the_place_of_the_lock_is_left() {
    let place = TestWorkspace::with_staging();
    fs::create_dir(place.lock()).expect("made");
    fs::write(place.lock().join("inside"), "keep").expect("written");
    let workspace = open(&place);
    let error = refused(workspace.acquire(POD), ErrorCode::WrongFileType);
    assert!(error.to_string().contains("a directory stands in the place of the lock"), "{error}");
    refused(workspace.unlock(POD, true, None), ErrorCode::WrongFileType);
    assert!(matches!(workspace.lock_status(), Ok(LockStatus::Blocked(_))));
    assert_eq!(names(&place.lock()), ["inside"]);
    assert_eq!(place.owners(), [] as [String; 0]);
}

#[test]
fn link_in_the_place_of_the_owner_flags_is_not_followed() {
    let outside = TestWorkspace::new();
    let place = TestWorkspace::with_staging();
    symlink(outside.root(), place.staged(".owners")).expect("linked");
    refused(open(&place).acquire(POD), ErrorCode::WrongFileType);
    assert_eq!(names(outside.root()), [] as [String; 0]);
    assert_eq!(names(&place.staging()), [".owners"]);
}

/// Flags are files of other processes too, and of other machines: whatever stands there is looked at
/// with care.
#[test]
fn pipe_in_the_place_of_an_owner_flag_is_not_waited_for() {
    let place = TestWorkspace::with_staging();
    fs::create_dir(place.staged(".owners")).expect("made");
    let flag = place.owner("far.another.1.7.7.00000000000000000000000000000001");
    make_fifo(&flag);
    let workspace = open(&place);
    let acquired = without_waiting_at(&flag, move || workspace.acquire(POD));
    // A live owner, as far as anybody can tell.
    refused(acquired, ErrorCode::InUse);
    assert!(place.lock_bytes().is_none());
    assert_eq!(place.owners().len(), 1);
}

/// A library does not touch the process's umask, and what it writes is nobody else's to write.
#[test]
fn files_are_not_writable_by_everybody() {
    let place = TestWorkspace::new();
    let workspace = open(&place);
    let id = workspace.stage(&payload(1)).expect("staged");
    let lock = workspace.acquire(POD).expect("the lock is free");
    for path in [place.staged(&format!("{id}.json")), lock.path()] {
        let mode = fs::metadata(&path).expect("it is there").permissions().mode();
        assert_eq!(mode & 0o002, 0, "{}: {mode:o}", path.display());
    }
    lock.release_only(None).expect("it is released");
}

#[test]
fn lease_of_a_held_lock_is_renewed_in_the_background() {
    let place = TestWorkspace::new();
    let workspace = open(&place);
    let lock = workspace.acquire_with(&leased(2)).expect("the lock is free");
    assert_eq!(lock.record().expect("the record is at hand").lease_seconds, Some(2));
    // Rewritten, so that the lock and the flag are two files.
    lock.record_consumed(&[new_entry_id().to_string()]).expect("recorded");
    let content = place.lock_bytes();
    let flag = place.owner(&place.owners()[0]);
    for round in 0..2 {
        set_age(&place.lock(), 1_000);
        set_age(&flag, 1_000);
        wait_until(&format!("both are renewed, round {round}"), || {
            age(&place.lock()) < LONG && age(&flag) < LONG
        });
    }
    assert_eq!(place.lock_bytes(), content, "a renewal changes nothing but the time");
    assert!(!lock.is_lost());
    lock.release_only(None).expect("it is released");
}

#[test]
fn lease_of_several_locks_is_renewed_by_one_workspace_each() {
    let places: Vec<TestWorkspace> = (0..3).map(|_| TestWorkspace::new()).collect();
    let locks: Vec<_> =
        places.iter().map(|place| open(place).acquire_with(&leased(1)).expect("the lock is free")).collect();
    places.iter().for_each(|place| set_age(&place.lock(), 1_000));
    wait_until("all are renewed", || places.iter().all(|place| age(&place.lock()) < LONG));
    locks.into_iter().for_each(|lock| drop(lock.release_only(None).expect("it is released")));
}

#[test]
fn lock_of_a_dropped_handle_is_not_renewed() {
    let place = TestWorkspace::new();
    let workspace = open(&place);
    drop(workspace.acquire_with(&leased(1)).expect("the lock is free"));
    set_age(&place.lock(), 1_000);
    // Another lock, whose renewal shows that a third of the lease has passed twice over.
    let elsewhere = TestWorkspace::new();
    let clock = open(&elsewhere).acquire_with(&leased(1)).expect("the lock is free");
    for _ in 0..2 {
        set_age(&elsewhere.lock(), 1_000);
        wait_until("the other one is renewed", || age(&elsewhere.lock()) < LONG);
    }
    assert!(age(&place.lock()) > LONG);
    clock.release_only(None).expect("it is released");
}

#[test]
fn lock_that_was_replaced_is_noticed_in_the_background() {
    let place = TestWorkspace::new();
    let workspace = open(&place);
    let id = workspace.stage(&payload(1)).expect("staged");
    let lock = workspace.acquire_with(&leased(1)).expect("the lock is free");
    lock.record_consumed(&[&id]).expect("recorded");
    let theirs = original_record(std::process::id(), "pod-a", &[]);
    place.put("theirs", &theirs);
    fs::rename(place.staged("theirs"), place.lock()).expect("renamed over it");
    wait_until("the lock is lost", || lock.is_lost());
    let error = refused(lock.release_with_cleanup(), ErrorCode::LockLost);
    assert_eq!(error.owner().map(|owner| owner.pod_name.as_str()), Some("pod-a"));
    assert_eq!(place.lock_bytes(), Some(theirs.into_bytes()));
    assert_eq!(workspace.list().expect("listed"), [id], "nothing was deleted");
}

#[test]
fn lock_without_a_lease_is_recorded_so() {
    let place = TestWorkspace::new();
    let mut options = AcquireOptions::new(POD);
    options.lease = None;
    let lock = open(&place).acquire_with(&options).expect("the lock is free");
    assert_eq!(place.lock_record().lease_seconds, None);
    lock.release_only(None).expect("it is released");
}

/// A lease counts in whole seconds, rounded up, whatever is asked for.
#[test]
fn lease_of_any_length_is_kept() {
    for (lease, seconds) in [
        (Duration::ZERO, 1),
        (Duration::from_nanos(1), 1),
        (Duration::from_millis(1_001), 2),
        (Duration::from_secs(1 << 33), u32::MAX),
        (Duration::MAX, u32::MAX),
    ] {
        let place = TestWorkspace::new();
        let mut options = AcquireOptions::new(POD);
        options.lease = Some(lease);
        let lock = open(&place).acquire_with(&options).expect("the lock is free");
        assert_eq!(place.lock_record().lease_seconds, Some(seconds), "{lease:?}");
        lock.release_only(None).expect("it is released");
        place.assert_nothing_left();
    }
}

#[test]
fn shortest_lease_does_not_keep_the_disk_busy() {
    let place = TestWorkspace::new();
    let mut options = AcquireOptions::new(POD);
    options.lease = Some(Duration::ZERO);
    let lock = open(&place).acquire_with(&options).expect("the lock is free");
    let (begun, mut renewals) = (Instant::now(), BTreeSet::new());
    while begun.elapsed() < Duration::from_secs(1) {
        renewals.insert(fs::metadata(lock.path()).and_then(|found| found.modified()).expect("it is there"));
        std::thread::sleep(Duration::from_millis(5));
    }
    // Three in a second; a machine that is slow makes fewer.
    assert!(renewals.len() < 20, "it was renewed {} times in a second", renewals.len());
    lock.release_only(None).expect("it is released");
}

/// A file system whose clock is ahead: the age of the file does not tell whether it is still being
/// written, so it is watched.
#[test]
fn unreadable_lock_from_the_future_is_watched_and_taken_over() {
    let place = TestWorkspace::new();
    place.put(".consolidation.lock", "{\"pid\": 1");
    set_age(&place.lock(), -10_000);
    let lock = open(&place).acquire(POD).expect("it does not change");
    assert!(matches!(lock.took_over(), Some(Takeover::Unreadable(_))));
    lock.release_only(None).expect("it is released");
    place.assert_nothing_left();
}

#[test]
fn waiting_for_the_lock_ends_with_its_release() {
    let place = TestWorkspace::new();
    let workspace = open(&place);
    let mut held = Some(workspace.acquire("pod-a").expect("the lock is free"));
    let mut pauses = 0;
    let lock = workspace
        .acquire_within(&AcquireOptions::new(POD), LONG, |error, next| {
            assert_eq!(error.owner().map(|owner| owner.pod_name.as_str()), Some("pod-a"));
            assert!(next < Duration::from_secs(1), "a release is noticed within a second");
            pauses += 1;
            if pauses == 3 {
                held.take().expect("it is held").release_only(None).expect("it is released");
            }
            true
        })
        .expect("it was released");
    assert_eq!(pauses, 3);
    lock.release_only(None).expect("it is released");
}

#[test]
fn waiting_for_the_lock_is_bounded_and_can_be_broken_off() {
    let place = TestWorkspace::new();
    let workspace = open(&place);
    let _held = workspace.acquire("pod-a").expect("the lock is free");
    let options = AcquireOptions::new(POD);
    let never = |_: &Error, _| panic!("there is no time to wait");
    refused(workspace.acquire_within(&options, Duration::ZERO, never), ErrorCode::InUse);
    let waited = workspace.acquire_within(&options, Duration::from_millis(100), |_, next| {
        std::thread::sleep(next);
        true
    });
    refused(waited, ErrorCode::InUse);
    let mut asked = 0;
    let broken_off = workspace.acquire_within(&options, Duration::MAX, |_, _| {
        asked += 1;
        asked < 4
    });
    refused(broken_off, ErrorCode::InUse);
    assert_eq!(asked, 4);
    assert_eq!(place.owners().len(), 1, "only the holder's flag is there");
}

#[test]
fn waiting_is_for_a_lock_in_use_and_for_nothing_else() {
    let place = TestWorkspace::with_staging();
    fs::create_dir(place.lock()).expect("made");
    let never = |_: &Error, _| panic!("it does not get better by waiting");
    let options = AcquireOptions::new(POD);
    refused(open(&place).acquire_within(&options, LONG, never), ErrorCode::WrongFileType);
}

/// A record that another machine wrote.
fn elsewhere(lease: &str) -> String {
    format!(
        r#"{{"pid": 1, "pod_name": "pod-far", "started_at": "{OLD}", "consumed_ids": [],
            "token": "00000000000000000000000000000001", "process_start": "7",
            "scope": {{"machine": "far/away", "boot": "another", "pid_namespace": "pid:[1]"}},
            "lease_seconds": {lease}, "command_group": null}}"#
    )
}

#[test]
fn owner_on_another_machine_holds_the_lock_for_its_lease() {
    let place = TestWorkspace::new();
    let workspace = open(&place);
    place.put(".consolidation.lock", elsewhere("60"));
    let error = refused(workspace.acquire(POD), ErrorCode::InUse);
    assert!(error.to_string().contains("pod-far"), "{error}");
    assert!(matches!(workspace.lock_status(), Ok(LockStatus::Unknown(_))));
    refused(workspace.unlock(POD, false, None), ErrorCode::InUse);
    set_age(&place.lock(), 100);
    let lock = workspace.acquire(POD).expect("the lease has run out");
    assert!(matches!(lock.took_over(), Some(Takeover::Stale(stale)) if stale.owner.pod_name == "pod-far"));
    lock.release_only(None).expect("it is released");
}

#[test]
fn owner_on_another_machine_without_a_lease_goes_by_force_only() {
    let place = TestWorkspace::new();
    let workspace = open(&place);
    place.put(".consolidation.lock", elsewhere("null"));
    set_age(&place.lock(), 1_000_000);
    refused(workspace.acquire(POD), ErrorCode::InUse);
    assert!(matches!(workspace.unlock(POD, true, None), Ok(Some(Takeover::Forced(_)))));
    place.assert_nothing_left();
}

/// A command can outlive the host that started it.
#[test]
fn command_that_still_runs_keeps_the_lock_of_a_dead_host() {
    use std::os::unix::process::CommandExt as _;
    let place = TestWorkspace::new();
    let workspace = open(&place);
    let mut command = Command::new("sleep");
    let command = Running(command.arg("3600").process_group(0).spawn().expect("started"));
    let lock = workspace.acquire(POD).expect("the lock is free");
    lock.record_command_group(Some(command.pid())).expect("recorded");
    let content = String::from_utf8(place.lock_bytes().expect("the lock is there")).expect("it is text");
    lock.release_only(None).expect("it is released");
    // The same record, of a host that is dead.
    let dead = content.replacen(&format!("\"pid\": {}", std::process::id()), "\"pid\": 4294967295", 1);
    assert_ne!(dead, content);
    place.put(".consolidation.lock", &dead);
    let error = refused(workspace.acquire(POD), ErrorCode::InUse);
    assert!(error.to_string().contains("its command still runs"), "{error}");
    drop(command);
    let lock = workspace.acquire(POD).expect("the command has ended");
    assert!(matches!(lock.took_over(), Some(Takeover::Stale(_))));
    lock.release_only(None).expect("it is released");
}

#[test]
fn lock_works_with_full_durability_too() {
    let place = TestWorkspace::new();
    let workspace = open(&place).with_durability(Durability::Full);
    let id = workspace.stage(&payload(1)).expect("staged");
    let lock = workspace.acquire(POD).expect("the lock is free");
    lock.record_consumed(&[id]).expect("recorded");
    assert_eq!(lock.release_with_cleanup().expect("it is released").removed, 1);
    place.assert_nothing_left();
}
