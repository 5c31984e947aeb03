//! The events that operators see: each takeover, unreadable lock, failed delete, lost lock and failed
//! call is a warning with its particulars, and an ordinary run warns of nothing.

use super::patched::{Component, STAGING, trap};
use super::{POD, open, open_with, payload, payloads, read_all, refused};
use crate::support::events::{Ear, Seen};
use crate::support::{TestWorkspace, original_record, set_age};
use consolidation_host::{ErrorCode, Limits, Runtime};
use std::fs;
use tracing::Level;

/// The warnings and errors of some work on this thread.
fn warnings(work: impl FnOnce()) -> Vec<Seen> {
    let ear = Ear::of("consolidation_host");
    tracing::subscriber::with_default(ear.clone(), work);
    let mut seen = ear.seen();
    seen.retain(|event| event.level <= Level::WARN);
    seen
}

/// The only warning of some work.
#[track_caller]
fn warning(work: impl FnOnce()) -> Seen {
    let mut seen = warnings(work);
    assert_eq!(seen.len(), 1, "{seen:?}");
    seen.remove(0)
}

#[test]
fn takeover_warns_of_pid_and_pod() {
    let place = TestWorkspace::new();
    let workspace = open(&place);
    place.put(".consolidation.lock", original_record(u32::MAX, "pod-a", &[]));
    let event = warning(|| {
        workspace.acquire(POD).expect("the owner is dead").release_only(None).expect("it is released");
    });
    assert_eq!(event.field("stale_pid"), "4294967295");
    assert_eq!(event.field("stale_pod"), "pod-a");
    assert_eq!(event.field("root"), workspace.root().display().to_string());
    assert!(!event.field("started_at").is_empty());
    assert!(event.field("reason").contains("no process"), "{event:?}");
    assert!(event.field("message").contains("dead owner"), "{event:?}");

    place.put(".consolidation.lock", original_record(u32::MAX, "pod-a", &[]));
    let event = warning(|| assert!(workspace.unlock(POD, false, None).expect("it is stale").is_some()));
    assert_eq!(event.field("stale_pod"), "pod-a");
}

/// Where nobody can have a lock none was left behind.
#[test]
fn lock_that_can_not_be_taken_because_its_directory_is_none_warns_of_nothing() {
    for at in ["_staging", "_staging/.owners"] {
        let place = TestWorkspace::new();
        let path = place.root().join(at);
        fs::create_dir_all(path.parent().expect("a parent")).expect("made");
        fs::write(&path, "").expect("written");
        let workspace = open(&place);
        let seen = warnings(|| {
            refused(workspace.acquire(POD), ErrorCode::WrongFileType);
        });
        assert!(seen.is_empty(), "{at}: {seen:?}");
    }
}

#[test]
fn unreadable_lock_warns_of_its_content() {
    let place = TestWorkspace::new();
    let workspace = open(&place);
    place.put(".consolidation.lock", "{\"pid\": 12, \"pod\u{1b}[31m");
    set_age(&place.lock(), 10);
    let event = warning(|| {
        workspace.acquire(POD).expect("it is stale").release_only(None).expect("it is released");
    });
    assert!(event.field("message").contains("unreadable lock"), "{event:?}");
    assert!(event.field("content").contains("pid"), "{event:?}");
    assert!(!event.field("content").contains('\u{1b}'), "{event:?}");
    assert!(!event.field("reason").is_empty());
}

#[test]
fn failed_delete_warns_of_the_entry() {
    let place = TestWorkspace::new();
    let workspace = open(&place);
    let ids = workspace.stage_many(&payloads(3), None).expect("staged");
    let event = warning(|| {
        let lock = workspace.acquire(POD).expect("the lock is free");
        lock.record_consumed(&ids).expect("recorded");
        let stubborn = place.staged(&format!("{}.json", ids[1]));
        fs::remove_file(&stubborn).expect("removed");
        fs::create_dir(&stubborn).expect("a directory in its place");
        assert_eq!(lock.release_with_cleanup().expect("it is released").failed.len(), 1);
    });
    assert_eq!(event.field("id"), ids[1]);
    assert!(!event.field("reason").is_empty());
}

#[test]
fn lost_lock_warns_of_the_new_owner_once() {
    let place = TestWorkspace::new();
    let workspace = open(&place);
    let event = warning(|| {
        let lock = workspace.acquire(POD).expect("the lock is free");
        fs::remove_file(lock.path()).expect("removed");
        place.put(".consolidation.lock", original_record(7, "pod-a", &[]));
        refused(lock.record_command_group(None), ErrorCode::LockLost);
        refused(lock.record_command_group(None), ErrorCode::LockLost);
        refused(lock.release_only(None), ErrorCode::LockLost);
    });
    assert_eq!(event.field("owner_pid"), "7");
    assert_eq!(event.field("owner_pod"), "pod-a");
}

#[test]
fn forced_unlock_warns_of_who_and_whose() {
    let place = TestWorkspace::new();
    let workspace = open(&place);
    drop(workspace.acquire("pod-a").expect("the lock is free"));
    let event = warning(|| assert!(workspace.unlock(POD, true, None).expect("by force").is_some()));
    assert_eq!(event.field("owner_pod"), "pod-a");
    assert!(event.field("reason").contains("runs"), "{event:?}");
}

#[test]
fn failed_call_warns_of_what_was_attempted() {
    let place = TestWorkspace::new();
    let component = Component::shipped().with(STAGING, "list", &trap());
    let runtime =
        Runtime::builder().component_bytes(component.bytes()).build().expect("it fits the WIT world");
    let workspace = open_with(&runtime, &place);
    let event = warning(|| drop(refused(workspace.list(), ErrorCode::Internal)));
    assert_eq!(event.field("operation"), "list the entries");
    assert!(event.field("error").contains("unreachable"), "{event:?}");
}

/// Nothing crashed, so nothing is said to have been recovered.
#[test]
fn ordinary_runs_and_refusals_warn_of_nothing() {
    let place = TestWorkspace::new();
    let seen = warnings(|| {
        for number in 0..2 {
            let workspace = open(&place);
            workspace.stage(&payload(number)).expect("staged");
            let lock = workspace.acquire(POD).expect("the lock is free");
            assert!(lock.took_over().is_none());
            refused(workspace.acquire(POD), ErrorCode::InUse);
            let snapshot = lock.snapshot(Limits::default()).expect("taken");
            read_all(&snapshot);
            lock.record_snapshot(&snapshot).expect("recorded");
            drop(snapshot);
            let report = lock.release_with_cleanup().expect("it is released");
            assert_eq!((report.removed, report.missing, report.failed.len()), (1, 0, 0));
            assert_eq!(workspace.unlock(POD, true, None).expect("there is none"), None);
        }
    });
    assert!(seen.is_empty(), "{seen:?}");
}
