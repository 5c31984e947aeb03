//! Beside writers of the original format. Every way in which such a program's steps can fall between ours,
//! as long as one that looked before our link has written by the end of our wait.

use crate::support::faulty::{Fault, Faults, Op};
use crate::support::original::{Original, Step};
use crate::support::system::{TestSystem, World, running};
use crate::support::{TestWorkspace, original_record, set_age};
use consolidation_guest::doctor::FindingKind;
use consolidation_guest::error::{Error, ErrorCode};
use consolidation_guest::fs::FsErrorKind;
use consolidation_guest::layout::{ASIDE, LOCK};
use consolidation_guest::lock::{AcquireOptions, Status, Takeover};
use std::sync::{Arc, Mutex};

const OWN: u32 = 4242;
const NEXT: u32 = 4243;
const ORIGINAL: u32 = 77;
const DEAD: u32 = u32::MAX;

fn options(coexist: bool) -> AcquireOptions {
    AcquireOptions { pod_name: "pod-a".into(), lease_seconds: Some(60), coexist, ..AcquireOptions::default() }
}

/// What stands in the workspace at first.
#[derive(Clone, Copy, Debug)]
enum Scene {
    Free,
    Stale,
    StaleOriginal,
    Unreadable,
}

const SCENES: [Scene; 4] = [Scene::Free, Scene::Stale, Scene::StaleOriginal, Scene::Unreadable];

impl Scene {
    fn set_up(self) -> (TestWorkspace, World) {
        let (workspace, world) = (TestWorkspace::with_staging(), World::new());
        world.set(ORIGINAL, running("s77"));
        match self {
            Scene::Free => {}
            Scene::Stale => {
                workspace.open(&world.start(5)).acquire(&options(false)).expect("the lock is free");
                world.end(5);
            }
            Scene::StaleOriginal => workspace.put(LOCK, original_record(DEAD, "pod-dead", &[])),
            Scene::Unreadable => {
                workspace.put(LOCK, "{\"pid\":");
                set_age(&workspace.lock(), 60);
            }
        }
        (workspace, world)
    }

    /// How many file operations an acquire takes here.
    fn calls(self) -> usize {
        let (workspace, world) = self.set_up();
        let faults = Faults::none();
        workspace.open_faulty(&world.start(OWN), &faults).acquire(&options(true)).expect("it is taken");
        faults.calls().len()
    }
}

/// At which of our calls the original makes its steps.
#[derive(Clone, Copy, Debug)]
struct Moments {
    look: usize,
    open: usize,
    write: usize,
}

fn alive(world: &World) -> impl Fn(u32) -> bool + use<> {
    let world = world.clone();
    move |pid| world.lives(pid)
}

/// Lets the original do its steps at these calls, and what it has begun during our wait.
fn script(original: &Arc<Mutex<Original>>, world: &World, moments: Moments, killed_before: usize) -> Faults {
    let waiting = Arc::clone(original);
    world.on_sleep(move |_| {
        let mut original = waiting.lock().expect("whole");
        if original.step >= Step::Looked {
            original.write();
        }
    });
    let (original, alive) = (Arc::clone(original), alive(world));
    Faults::by(move |call, _| {
        let mut original = original.lock().expect("whole");
        if call == moments.look && original.step == Step::Nothing {
            original.look(&alive);
        }
        if call == moments.open {
            original.open();
        }
        if call == moments.write && original.step != Step::Holds {
            original.write();
        }
        if call >= killed_before { Fault::Refuse(FsErrorKind::Io) } else { Fault::Pass }
    })
}

fn each_moments(calls: usize) -> impl Iterator<Item = Moments> {
    (0..calls).flat_map(move |look| {
        soon(look, calls)
            .flat_map(move |open| [0, 1].map(|later| Moments { look, open, write: open + later }))
    })
}

/// Every call for a while, and then every fifth: what was looked at long before is as good as never.
fn soon(from: usize, calls: usize) -> impl Iterator<Item = usize> {
    (from..=calls).filter(move |call| call - from < 6 || (call - from).is_multiple_of(5))
}

/// How often the original and ours both held.
fn overlaps(coexist: bool) -> usize {
    let mut overlaps = 0;
    for scene in SCENES {
        for moments in each_moments(scene.calls()) {
            let (workspace, world) = scene.set_up();
            let original = Arc::new(Mutex::new(Original::new(&workspace.lock(), ORIGINAL)));
            let faults = script(&original, &world, moments, usize::MAX);
            let ours = world.start(OWN);
            let held = workspace.open_faulty(&ours, &faults).acquire(&options(coexist));
            faults.become_(|_, _| Fault::Pass);
            world.on_sleep(|_| {});
            let mut original = original.lock().expect("whole");
            // One that has opened the lock and not yet written it writes now.
            original.write();
            let told = || format!("{scene:?} {moments:?}: {held:?}");
            match (&held, original.step) {
                (Ok(_), Step::Holds) if !coexist => return 1,
                (Ok(_), Step::Holds) => overlaps += 1,
                (Err(error), Step::Holds) if coexist => {
                    assert_eq!(error.code, ErrorCode::InUse, "{}", told());
                    // It holds, and who comes now is refused.
                    assert!(workspace.lock_bytes().is_some(), "its lock is gone: {}", told());
                    refused(&workspace, &world.start(NEXT), true);
                }
                (Err(error), step) if coexist => panic!("{}: nobody holds: {error} {step:?}", told()),
                _ => {}
            }
            if !coexist {
                continue;
            }
            match held {
                Ok((held, _)) => drop(held.release_only(None).expect("it is ours")),
                Err(_) => original.release(),
            }
            comes_and_leaves_nothing(&workspace, &world.start(NEXT));
        }
    }
    overlaps
}

#[track_caller]
fn refused(workspace: &TestWorkspace, system: &TestSystem, coexist: bool) -> Error {
    let error = workspace.open(system).acquire(&options(coexist)).expect_err("the original holds");
    assert_eq!(error.code, ErrorCode::InUse, "{error}");
    error
}

#[track_caller]
fn comes_and_leaves_nothing(workspace: &TestWorkspace, system: &TestSystem) {
    let (held, _) = workspace.open(system).acquire(&options(true)).expect("nobody holds the lock");
    held.release_only(None).expect("it is ours");
    assert!(!workspace.staged(ASIDE).exists(), "a lock is left aside");
    workspace.assert_nothing_left();
}

#[test]
fn original_at_any_moment_never_holds_beside_ours() {
    assert_eq!(overlaps(true), 0);
}

#[test]
fn without_the_option_there_are_moments_at_which_both_hold() {
    assert!(overlaps(false) > 0, "then the test above shows nothing");
}

#[test]
fn original_that_wrote_is_respected_when_ours_is_killed_at_any_moment() {
    for scene in SCENES {
        let calls = scene.calls();
        for look in 0..calls {
            for open in [look, look + 2] {
                for killed_before in soon(open, calls) {
                    let (workspace, world) = scene.set_up();
                    let original = Arc::new(Mutex::new(Original::new(&workspace.lock(), ORIGINAL)));
                    let moments = Moments { look, open, write: open };
                    let faults = script(&original, &world, moments, killed_before);
                    let held = workspace.open_faulty(&world.start(OWN), &faults).acquire(&options(true));
                    world.end(OWN);
                    world.on_sleep(|_| {});
                    let mut original = original.lock().expect("whole");
                    original.write();
                    let told = format!("{scene:?} {moments:?} killed before {killed_before}: {held:?}");
                    if original.step == Step::Holds && held.is_err() {
                        for coexist in [true, false] {
                            let error = workspace.open(&world.start(NEXT)).acquire(&options(coexist));
                            let error = error.expect_err(&told);
                            assert_eq!(error.code, ErrorCode::InUse, "{told}");
                        }
                    }
                    world.end(ORIGINAL);
                    comes_and_leaves_nothing(&workspace, &world.start(NEXT));
                }
            }
        }
    }
}

#[test]
fn lock_that_is_taken_is_left_alone_for_a_moment_before_it_counts() {
    let (workspace, world) = (TestWorkspace::new(), World::new());
    workspace.open(&world.start(OWN)).acquire(&options(true)).expect("it is free");
    assert_eq!(world.slept_ms(), 100);
    let (other, world) = (TestWorkspace::new(), World::new());
    other.open(&world.start(OWN)).acquire(&options(false)).expect("it is free");
    assert_eq!(world.slept_ms(), 0, "who is not asked to does not wait");
}

#[test]
fn lock_put_aside_of_a_live_owner_is_put_back_and_respected() {
    for coexist in [true, false] {
        let (workspace, world) = Scene::Free.set_up();
        let record = original_record(ORIGINAL, "pod-original", &[]);
        workspace.put(ASIDE, &record);
        let ours = workspace.open(&world.start(OWN));
        assert!(matches!(ours.lock_status(), Ok(Status::Held(holder)) if holder.owner.pid == ORIGINAL));
        assert_eq!(
            refused(&workspace, &world.start(OWN), coexist).owner.as_ref().expect("an owner").pid,
            ORIGINAL
        );
        assert_eq!(workspace.lock_bytes().as_deref(), Some(record.as_bytes()));
        assert!(!workspace.staged(ASIDE).exists());
    }
}

#[test]
fn lock_put_aside_is_never_put_back_over_another_one() {
    let (workspace, world) = Scene::Free.set_up();
    let (aside, lock) = (original_record(ORIGINAL, "pod-aside", &[]), original_record(OWN, "pod-lock", &[]));
    workspace.put(ASIDE, &aside);
    workspace.put(LOCK, &lock);
    world.set(OWN, running("s4242"));
    refused(&workspace, &world.start(NEXT), true);
    assert_eq!(workspace.lock_bytes().as_deref(), Some(lock.as_bytes()));
    assert!(workspace.staged(ASIDE).exists(), "it waits until its owner is dead");
    world.end(OWN);
    refused(&workspace, &world.start(NEXT), true);
    world.end(ORIGINAL);
    comes_and_leaves_nothing(&workspace, &world.start(NEXT));
}

#[test]
fn lock_put_aside_of_a_dead_owner_is_taken_over() {
    for coexist in [true, false] {
        let (workspace, world) = Scene::Free.set_up();
        workspace.put(ASIDE, original_record(DEAD, "pod-dead", &[]));
        let findings = workspace.open(&world.start(OWN)).examine().expect("examined");
        assert_eq!(
            findings.iter().map(|it| it.kind).collect::<Vec<_>>()[..2],
            [FindingKind::StaleLock, FindingKind::LockAside]
        );
        let (held, took_over) =
            workspace.open(&world.start(OWN)).acquire(&options(coexist)).expect("its owner is dead");
        assert!(matches!(took_over, Some(Takeover::Stale(owner, _)) if owner.pod_name == "pod-dead"));
        held.release_only(None).expect("it is ours");
        assert!(!workspace.staged(ASIDE).exists());
        workspace.assert_nothing_left();
    }
}

#[test]
fn lock_put_aside_is_removed_by_force_and_named() {
    let (workspace, world) = Scene::Free.set_up();
    workspace.put(ASIDE, original_record(ORIGINAL, "pod-original", &[]));
    let removed = workspace.open(&world.start(OWN)).unlock(&options(true), true, Some("it hangs"));
    assert!(matches!(removed, Ok(Some(Takeover::Forced(owner, _))) if owner.pid == ORIGINAL));
    assert!(!workspace.staged(ASIDE).exists());
}

#[test]
fn without_hard_links_it_is_refused_before_anything_is_touched() {
    for scene in SCENES {
        let (workspace, world) = scene.set_up();
        let before = workspace.lock_bytes();
        let faults = Faults::of(Op::Link, Fault::Refuse(FsErrorKind::NotPermitted));
        let error =
            workspace.open_faulty(&world.start(OWN), &faults).acquire(&options(true)).expect_err("refused");
        assert!(error.message.contains("takes hard links"), "{error}");
        assert_eq!(workspace.lock_bytes(), before);
        assert!(workspace.owners().iter().all(|flag| !flag.contains(&format!(".{OWN}."))));
    }
}
