//! A guest that traps, loops or wants more memory than it may have; engines and components that
//! don't fit.

use super::patched::{Component, LOCK, STAGING, endless_loop, greed, trap};
use super::{POD, open, open_with, payload, payloads, read_all, refused, tree, wait_until};
use crate::support::{MINIMAL, TestWorkspace};
use consolidation_host::{AcquireOptions, Error, ErrorCode, Limits, LockStatus, Runtime, RuntimeBuilder};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;
use wasmtime::{Config, Engine};

/// Short for a test that waits for it, and long enough for every honest call.
const TIMEOUT: Duration = Duration::from_secs(2);

fn with(component: &Component) -> RuntimeBuilder {
    Runtime::builder().component_bytes(component.bytes())
}

fn runtime(component: &Component) -> Runtime {
    with(component).build().expect("it fits the WIT world")
}

#[test]
fn trap_is_an_error_and_the_next_call_works() {
    let component = Component::shipped().with(STAGING, "list", &trap());
    let place = TestWorkspace::new();
    let workspace = open_with(&runtime(&component), &place);
    for number in 0..5 {
        let id = workspace.stage(&payload(number)).expect("staged");
        let before = tree(place.root());
        let error = refused(workspace.list(), ErrorCode::Internal);
        assert!(matches!(&error, Error::Trap { reason, .. } if reason.contains("unreachable")), "{error:?}");
        let message = error.to_string();
        assert!(message.starts_with("cannot list the entries in "), "{message}");
        assert!(message.contains("the next call gets a fresh instance"), "{message}");
        assert!(!message.contains('\n'), "{message}");
        assert_eq!(tree(place.root()), before);
        assert_eq!(workspace.read(&id).expect("read").id, id);
    }
    workspace.acquire(POD).expect("the lock is free").release_only(None).expect("it is released");
}

/// The lock is on the disk already when the guest traps; nobody has a handle to release it.
#[test]
fn lock_of_an_acquire_that_traps_at_its_end_is_cleared() {
    let component = Component::shipped().with_after(LOCK, "acquire", &trap());
    let place = TestWorkspace::new();
    let workspace = open_with(&runtime(&component), &place);
    let id = workspace.stage(&payload(1)).expect("staged");
    for _ in 0..3 {
        assert!(matches!(workspace.acquire(POD), Err(Error::Trap { .. })));
        place.assert_nothing_left();
        assert_eq!(workspace.lock_status().expect("looked at"), LockStatus::Free);
    }
    open(&place).acquire(POD).expect("the lock is free").release_only(None).expect("it is released");
    assert_eq!(workspace.list().expect("listed"), [id]);
}

#[test]
fn lock_whose_call_traps_is_cleared_and_its_handle_is_dead() {
    let component = Component::shipped().with(LOCK, "[method]held.record-consumed", &trap());
    let place = TestWorkspace::new();
    let workspace = open_with(&runtime(&component), &place);
    let ids = workspace.stage_many(&payloads(3), None).expect("staged");
    let lock = workspace.acquire(POD).expect("the lock is free");
    let snapshot = lock.snapshot(Limits::default()).expect("taken");
    assert!(!lock.is_lost());
    assert!(matches!(lock.record_consumed(&ids), Err(Error::Trap { .. })));
    assert!(lock.is_lost());
    place.assert_nothing_left();
    // Its snapshot and all its other calls are dead too.
    assert!(matches!(snapshot.len(), Err(Error::Dead { .. })));
    assert!(matches!(lock.record_snapshot(&snapshot), Err(Error::Dead { .. })));
    drop(snapshot);
    assert!(matches!(lock.record(), Err(Error::Dead { .. })));
    assert!(matches!(lock.snapshot(Limits::default()), Err(Error::Dead { .. })));
    // Another owner comes; the dead handle must not touch its lock.
    let other = workspace.acquire("pod-c").expect("it was cleared");
    let error = refused(lock.release_with_cleanup(), ErrorCode::Internal);
    assert!(error.to_string().contains("make a new one"), "{error}");
    assert_eq!(place.lock_record().pod_name, "pod-c");
    other.release_only(None).expect("it is released");
    assert_eq!(workspace.list().expect("listed"), ids);
}

/// Else the next owner's command would run beside it.
#[test]
fn lock_whose_call_traps_while_a_command_works_stays_held() {
    let component = Component::shipped().with(LOCK, "[method]held.record-consumed", &trap());
    let place = TestWorkspace::new();
    let workspace = open_with(&runtime(&component), &place);
    let ids = workspace.stage_many(&payloads(2), None).expect("staged");
    let lock = workspace.acquire(POD).expect("the lock is free");
    lock.record_command_group(Some(std::process::id())).expect("recorded");
    assert!(matches!(lock.record_consumed(&ids), Err(Error::Trap { .. })));
    assert!(lock.is_lost());
    refused(lock.release_only(None), ErrorCode::Internal);
    let error = refused(workspace.acquire("pod-c"), ErrorCode::InUse);
    assert_eq!(error.owner().map(|owner| owner.pod_name.as_str()), Some(POD));
    assert_eq!(workspace.list().expect("listed"), ids);
}

#[test]
fn lock_whose_release_traps_is_cleared_and_the_entries_stay() {
    for export in ["[static]held.release-with-cleanup", "[static]held.release-only"] {
        let component = Component::shipped().with(LOCK, export, &trap());
        let place = TestWorkspace::new();
        let workspace = open_with(&runtime(&component), &place);
        let ids = workspace.stage_many(&payloads(2), None).expect("staged");
        let lock = workspace.acquire(POD).expect("the lock is free");
        lock.record_consumed(&ids).expect("recorded");
        let released =
            if export.ends_with("only") { lock.release_only(None) } else { lock.release_with_cleanup() };
        assert!(matches!(released, Err(Error::Trap { .. })), "{released:?}");
        place.assert_nothing_left();
        assert_eq!(workspace.list().expect("listed"), ids);
    }
}

#[test]
fn lock_whose_renewal_traps_is_cleared_and_lost() {
    let component = Component::shipped().with(LOCK, "[method]held.refresh", &trap());
    let place = TestWorkspace::new();
    let workspace = open_with(&runtime(&component), &place);
    let mut options = AcquireOptions::new(POD);
    options.lease = Some(Duration::from_secs(1));
    let lock = workspace.acquire_with(&options).expect("the lock is free");
    wait_until("the lock is lost", || lock.is_lost());
    wait_until("it is cleared", || place.lock_bytes().is_none());
    assert!(matches!(lock.record(), Err(Error::Dead { .. })));
    workspace.acquire(POD).expect("it is free").release_only(None).expect("it is released");
}

#[test]
fn dead_snapshot_leaves_its_workspace_alive() {
    let component = Component::shipped().with(STAGING, "[method]snapshot.ids", &trap());
    let place = TestWorkspace::new();
    let workspace = open_with(&runtime(&component), &place);
    workspace.stage_many(&payloads(2), None).expect("staged");
    let snapshot = workspace.snapshot(Limits::default()).expect("taken");
    assert_eq!(snapshot.len().expect("counted"), 2);
    assert!(matches!(snapshot.ids(), Err(Error::Trap { .. })));
    assert!(matches!(snapshot.len(), Err(Error::Dead { .. })));
    assert!(matches!(snapshot.next_batch(1, 1), Err(Error::Dead { .. })));
    drop(snapshot);
    assert_eq!(workspace.snapshot(Limits::default()).expect("taken").len().expect("counted"), 2);
}

#[test]
fn guest_that_loops_is_stopped_and_the_next_call_works() {
    let component = Component::shipped().with(STAGING, "summarize", &endless_loop());
    let place = TestWorkspace::new();
    let runtime = with(&component).call_timeout(TIMEOUT).build().expect("it fits the WIT world");
    let workspace = open_with(&runtime, &place);
    workspace.stage(&payload(1)).expect("staged");
    let before = tree(place.root());
    let error = refused(workspace.summarize(), ErrorCode::Internal);
    assert!(matches!(error, Error::Timeout { after: TIMEOUT, .. }), "{error:?}");
    assert!(error.to_string().contains("RuntimeBuilder::call_timeout"), "{error}");
    assert_eq!(tree(place.root()), before);
    workspace.stage(&payload(2)).expect("staged");
}

/// The clock of a call starts with it: time that the host spends between calls does not count.
#[test]
fn deadline_is_that_of_one_call() {
    let place = TestWorkspace::new();
    let runtime = Runtime::builder().call_timeout(TIMEOUT).build().expect("a runtime");
    let workspace = open_with(&runtime, &place);
    let lock = workspace.acquire(POD).expect("the lock is free");
    thread::sleep(TIMEOUT + TIMEOUT / 4);
    workspace.stage(&payload(1)).expect("staged");
    let snapshot = lock.snapshot(Limits::default()).expect("taken");
    read_all(&snapshot);
    lock.record_snapshot(&snapshot).expect("recorded");
    drop(snapshot);
    assert_eq!(lock.release_with_cleanup().expect("it is released").removed, 1);
}

#[test]
fn lock_whose_call_loops_is_cleared() {
    let component = Component::shipped()
        .with(LOCK, "[method]held.record-consumed", &endless_loop())
        .with_after(LOCK, "acquire", &[]);
    let place = TestWorkspace::new();
    let runtime = with(&component).call_timeout(TIMEOUT).build().expect("it fits the WIT world");
    let workspace = open_with(&runtime, &place);
    let id = workspace.stage(&payload(1)).expect("staged");
    let lock = workspace.acquire(POD).expect("the lock is free");
    assert!(matches!(lock.record_consumed(&[&id]), Err(Error::Timeout { .. })));
    assert!(lock.is_lost());
    place.assert_nothing_left();
    drop(lock);
    workspace.acquire(POD).expect("it is free").release_only(None).expect("it is released");
    assert_eq!(workspace.list().expect("listed"), [id]);
}

#[test]
fn lock_of_an_acquire_that_loops_at_its_end_is_cleared() {
    let component = Component::shipped().with_after(LOCK, "acquire", &endless_loop());
    let place = TestWorkspace::new();
    let runtime = with(&component).call_timeout(TIMEOUT).build().expect("it fits the WIT world");
    let workspace = open_with(&runtime, &place);
    assert!(matches!(workspace.acquire(POD), Err(Error::Timeout { .. })));
    place.assert_nothing_left();
}

#[test]
fn guest_that_wants_too_much_memory_is_refused() {
    let component = Component::shipped().with(STAGING, "list", &greed());
    let place = TestWorkspace::new();
    let workspace = open_with(&runtime(&component), &place);
    let error = refused(workspace.list(), ErrorCode::Internal);
    assert!(matches!(error, Error::OutOfMemory { .. }), "{error:?}");
    assert!(error.to_string().contains("RuntimeBuilder::memory_limit"), "{error}");
    workspace.stage(&payload(1)).expect("staged");
}

/// A megabyte of its own, its stack and its data, and a little for the work.
const TIGHT: usize = 3 << 20;

#[test]
fn memory_that_is_used_up_by_a_payload_leaves_the_workspace_usable() {
    let place = TestWorkspace::new();
    let runtime = Runtime::builder().memory_limit(TIGHT).build().expect("a runtime");
    let workspace = open_with(&runtime, &place);
    let big = payload(1).replace("ask", &"x".repeat(900_000));
    let error = refused(workspace.stage(&big), ErrorCode::Internal);
    assert!(matches!(error, Error::OutOfMemory { limit: TIGHT, .. }), "{error:?}");
    assert_eq!(place.visible().len(), 0);
    assert_eq!(place.temporaries(), [] as [String; 0]);
    let id = workspace.stage(&payload(2)).expect("staged");
    assert_eq!(workspace.list().expect("listed"), [id]);
}

#[test]
fn memory_that_is_used_up_under_a_lock_clears_the_lock_and_keeps_the_entries() {
    let place = TestWorkspace::new();
    let ids = open(&place)
        .stage_many(&[payload(1).replace("ask", &"x".repeat(10_000)).as_str(); 400], None)
        .expect("staged");
    let runtime = Runtime::builder().memory_limit(TIGHT).build().expect("a runtime");
    let workspace = open_with(&runtime, &place);
    let lock = workspace.acquire(POD).expect("the lock is free");
    let snapshot = lock.snapshot(Limits::default()).expect("taken");
    let many = vec![ids[0].clone(); 100_000];
    let error = refused(lock.record_consumed(&many), ErrorCode::Internal);
    assert!(matches!(error, Error::OutOfMemory { .. }), "{error:?}");
    assert!(lock.is_lost());
    place.assert_nothing_left();
    drop(snapshot);
    drop(lock);
    // A batch of more than the component may have works: it is handed over in parts.
    let lock = workspace.acquire(POD).expect("it is free");
    let snapshot = lock.snapshot(Limits::default()).expect("taken");
    let batch = snapshot.next_batch(u32::MAX, u64::MAX).expect("read");
    assert!(batch.done);
    assert_eq!(batch.entries.iter().map(|entry| entry.id.clone()).collect::<Vec<_>>(), ids);
    assert!(batch.entries.iter().map(|entry| entry.json.len()).sum::<usize>() > TIGHT);
    lock.record_snapshot(&snapshot).expect("recorded");
    drop(snapshot);
    assert_eq!(lock.release_with_cleanup().expect("it is released").removed, 400);
}

#[test]
fn batch_that_the_component_fails_on_half_way_is_an_error_and_no_part_of_a_batch() {
    let place = TestWorkspace::new();
    let small = vec![payload(1); 100];
    open(&place).stage_many(&small.iter().map(String::as_str).collect::<Vec<_>>(), None).expect("staged");
    open(&place).stage(&payload(1).replace("ask", &"x".repeat(1_000_000))).expect("staged");
    let runtime = Runtime::builder().memory_limit(TIGHT).build().expect("a runtime");
    let workspace = open_with(&runtime, &place);
    let lock = workspace.acquire(POD).expect("the lock is free");
    let snapshot = lock.snapshot(Limits::default()).expect("taken");
    // Nobody is to work on a part of it: nothing could be committed under this lock any more.
    let error = refused(snapshot.next_batch(u32::MAX, u64::MAX), ErrorCode::Internal);
    assert!(matches!(error, Error::OutOfMemory { .. }), "{error:?}");
    assert!(lock.is_lost());
    assert_eq!(place.ids().len(), 101);
    place.assert_nothing_left();
}

#[test]
fn memory_limit_below_what_an_instance_starts_with_is_told() {
    let place = TestWorkspace::new();
    let runtime = Runtime::builder().memory_limit(64 << 10).build().expect("a runtime");
    let error = refused(open_with(&runtime, &place).list(), ErrorCode::Internal);
    assert!(matches!(error, Error::OutOfMemory { .. }), "{error:?}");
}

#[test]
fn extreme_limits_give_errors_or_work() {
    let place = TestWorkspace::new();
    let build = |builder: RuntimeBuilder| builder.build().expect("a runtime");
    let none = build(Runtime::builder().memory_limit(0));
    assert!(matches!(open_with(&none, &place).list(), Err(Error::OutOfMemory { .. })));
    let no_time = build(Runtime::builder().call_timeout(Duration::ZERO));
    // A call that is over before the clock is looked at may come to its end.
    match open_with(&no_time, &place).stage_many(&payloads(1_000), None) {
        Ok(staged) => assert_eq!(staged.len(), 1_000),
        Err(error) => assert!(matches!(error, Error::Timeout { .. }), "{error:?}"),
    }
    let all = build(Runtime::builder().memory_limit(usize::MAX).call_timeout(Duration::MAX));
    let workspace = open_with(&all, &place);
    workspace.stage(&payload(1)).expect("staged");
    workspace.acquire(POD).expect("the lock is free").release_only(None).expect("it is released");
}

/// The legal size of what goes over the boundary in one call is far above what a run needs.
#[test]
fn two_hundred_thousand_consumed_ids_are_recorded_and_released() {
    const COUNT: usize = 200_000;
    let place = TestWorkspace::new();
    let workspace = open(&place);
    let id = workspace.stage(&payload(1)).expect("staged");
    let mut ids: Vec<String> = (1..COUNT).map(|_| crate::support::new_entry_id().to_string()).collect();
    ids.push(id);
    let lock = workspace.acquire(POD).expect("the lock is free");
    lock.record_consumed(&ids).expect("recorded");
    assert_eq!(lock.record().expect("the record is at hand").consumed_ids, ids);
    let error = refused(workspace.acquire("pod-c"), ErrorCode::InUse);
    assert_eq!(error.owner().map(|owner| owner.pod_name.as_str()), Some(POD));
    let report = lock.release_with_cleanup().expect("it is released");
    assert_eq!((report.removed, report.missing), (1, COUNT as u64 - 1));
    place.assert_nothing_left();
}

#[test]
fn bytes_that_are_no_fitting_component_are_refused() {
    // Nothing, no wasm, a module, an empty component, a component that is cut off.
    let shipped = super::patched::shipped();
    let bytes: [&[u8]; 5] =
        [b"", b"not wasm at all", b"\0asm\x01\0\0\0", b"\0asm\x0d\0\x01\0", &shipped[..shipped.len() / 2]];
    for bytes in bytes {
        let error = refused(Runtime::builder().component_bytes(bytes).build(), ErrorCode::Internal);
        assert!(matches!(error, Error::Engine { .. }), "{error:?}");
        assert!(!error.to_string().contains('\n'), "{error}");
    }
}

/// Its settings are not those of the image that is built in, so the component is compiled anew.
#[test]
fn engine_of_the_embedder_works() {
    let mut config = Config::new();
    config.epoch_interruption(true).wasm_simd(true).debug_info(true);
    let engine = Engine::new(&config).expect("an engine");
    let runtime = Runtime::builder().engine(engine.clone()).build().expect("it interrupts guests");
    let place = TestWorkspace::new();
    let workspace = open_with(&runtime, &place);
    // An embedder's epochs may be of any length: a deadline is a time and no number of them.
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                engine.increment_epoch();
                thread::yield_now();
            }
        });
        for number in 0..50 {
            let id = workspace.stage(&payload(number)).expect("staged");
            let lock = workspace.acquire(POD).expect("the lock is free");
            lock.record_consumed(&[id]).expect("recorded");
            assert_eq!(lock.release_with_cleanup().expect("it is released").removed, 1);
        }
        over.store(true, Ordering::Relaxed);
    });
}

#[test]
fn guest_that_loops_is_stopped_in_the_engine_of_the_embedder() {
    let engine = Engine::new(Config::new().epoch_interruption(true)).expect("an engine");
    let component = Component::shipped().with(STAGING, "list", &endless_loop());
    let runtime = with(&component).engine(engine).call_timeout(TIMEOUT).build().expect("it is fine");
    let place = TestWorkspace::new();
    assert!(matches!(open_with(&runtime, &place).list(), Err(Error::Timeout { .. })));
}

#[test]
fn engine_that_does_not_interrupt_guests_is_refused() {
    let built = Runtime::builder().engine(Engine::default()).build();
    let error = refused(built, ErrorCode::Unsupported);
    assert!(matches!(error, Error::EngineWithoutEpochs));
    assert!(error.to_string().contains("epoch_interruption(true)"), "{error}");
}

/// A directory that is named in an error of a trap is the workspace's, on the host.
#[test]
fn fault_names_the_workspace() {
    let component = Component::shipped().with(STAGING, "write", &trap());
    let place = TestWorkspace::new();
    let workspace = open_with(&runtime(&component), &place);
    let error = refused(workspace.stage(MINIMAL), ErrorCode::Internal);
    assert!(error.to_string().contains(&workspace.root().display().to_string()), "{error}");
}
