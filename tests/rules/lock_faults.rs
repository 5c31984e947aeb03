//! The lock when calls fail: every single one in turn, with every kind of failure, with its effect and
//! without, and a process that is killed before every single one.

use crate::support::faulty::{ALL_KINDS, Call, Fault, Faults, FaultyDir, Op};
use crate::support::system::{TestSystem, World, scope};
use crate::support::{TestWorkspace, names, new_entry_id, original_record, set_age};
use consolidation_guest::error::{Error, ErrorCode};
use consolidation_guest::fs::FsErrorKind;
use consolidation_guest::layout::{EntryId, FlagName, LOCK_PATH, RUNS, Token, UNFINISHED_PATH};
use consolidation_guest::lock::{AcquireOptions, Held, Takeover};
use consolidation_guest::outcome::{Ending, Outcome};
use consolidation_guest::record::LockRecord;
use std::collections::BTreeMap;
use std::fs;

const OWN: u32 = 4242;
const OTHER: u32 = 77;
const DEAD: u32 = u32::MAX;

fn token() -> Token {
    Token::new([7; 16])
}

fn options() -> AcquireOptions {
    AcquireOptions {
        pod_name: "pod-a".into(),
        lease_seconds: Some(60),
        token: Some(token()),
        ..AcquireOptions::default()
    }
}

/// Of an attempt after the first: tokens are used once.
fn again() -> AcquireOptions {
    AcquireOptions { token: None, ..options() }
}

/// What stands in the workspace when the lock is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scene {
    /// Not even the staging directory.
    Bare,
    /// Some entries.
    Entries,
    /// The lock and the flag of a dead owner of ours.
    Stale,
    /// A dead owner's lock in the original format.
    StaleOriginal,
    /// A lock file that has not been readable for long.
    Unreadable,
    /// The lock of a live owner.
    Held,
    /// The lock of a live owner, in the original format: there is no flag.
    HeldOriginal,
    /// The lock of an owner that can't be probed, within its lease.
    Unknown,
}

const SCENES: [Scene; 8] = [
    Scene::Bare,
    Scene::Entries,
    Scene::Stale,
    Scene::StaleOriginal,
    Scene::Unreadable,
    Scene::Held,
    Scene::HeldOriginal,
    Scene::Unknown,
];

impl Scene {
    /// May the lock be taken in it?
    fn is_free(self) -> bool {
        !matches!(self, Scene::Held | Scene::HeldOriginal | Scene::Unknown)
    }

    fn set(self, world: &World) -> TestWorkspace {
        let workspace = TestWorkspace::new();
        if self == Scene::Bare {
            return workspace;
        }
        let ids = [workspace.put_entry(), workspace.put_entry()];
        match self {
            Scene::Bare | Scene::Entries => {}
            Scene::Stale => {
                leave_lock(&workspace, &world.start(OTHER), ids[0]);
                world.end(OTHER);
            }
            Scene::StaleOriginal => {
                workspace.put(".consolidation.lock", original_record(DEAD, "pod-b", &[&ids[0].to_string()]));
            }
            Scene::Unreadable => {
                workspace.put(".consolidation.lock", "garbage");
                set_age(&workspace.lock(), 100);
            }
            Scene::Held => leave_lock(&workspace, &world.start(OTHER), ids[0]),
            Scene::HeldOriginal => {
                world.start(OTHER);
                workspace.put(".consolidation.lock", original_record(OTHER, "pod-b", &[]));
            }
            Scene::Unknown => {
                let there = World::in_scope(scope("machine2", "boot2", "1"));
                leave_lock(&workspace, &there.start(OTHER), ids[0]);
            }
        }
        workspace
    }
}

/// Takes the lock and leaves it.
fn leave_lock(workspace: &TestWorkspace, system: &TestSystem, id: EntryId) {
    let pod = workspace.open(system);
    let options = AcquireOptions {
        pod_name: "pod-b".into(),
        lease_seconds: Some(60),
        token: None,
        ..AcquireOptions::default()
    };
    let (mut held, _) = pod.acquire(&options).expect("held");
    pod.record_consumed(&mut held, vec![id]).expect("rewritten");
}

/// All faults that are tried: each kind, with the effect and without.
fn faults() -> impl Iterator<Item = Fault> {
    ALL_KINDS.into_iter().flat_map(|kind| [Fault::Refuse(kind), Fault::After(kind)])
}

/// A rule under which nothing fails but hard links, if there are none.
fn base(links: bool, call: &Call) -> Fault {
    if call.op == Op::Link && !links { Fault::Refuse(FsErrorKind::Unsupported) } else { Fault::Pass }
}

/// One call fails, and there may be no hard links.
fn one(number: usize, fault: Fault, links: bool) -> Faults {
    Faults::by(move |index, call| if index == number { fault } else { base(links, call) })
}

/// A failure in words, for messages.
fn told(scene: Scene, links: bool, call: &Call, fault: Fault) -> String {
    let links = if links { "" } else { " without links" };
    format!("{scene:?}{links}: {:?} {} {} {fault:?}", call.op, call.path, call.to)
}

fn carries(workspace: &TestWorkspace, token: Token) -> bool {
    let content = workspace.lock_bytes().unwrap_or_default();
    LockRecord::parse(&content).is_ok_and(|record| record.token == Some(token.to_string()))
}

/// The same live process gets the lock, or is told that an attempt of its own is in the way and gets it
/// once that is cleared. In the end nothing is left.
#[track_caller]
fn assert_not_wedged(workspace: &TestWorkspace, system: &TestSystem, token: Token, told: &str) {
    let pod = workspace.open(system);
    let held = match pod.acquire(&again()) {
        Ok((held, _)) => held,
        Err(error) => {
            assert_eq!(error.code, ErrorCode::InUse, "{told}: {error}");
            let owner = error.owner.as_ref().map(|owner| owner.pid);
            assert_eq!(owner, Some(system.me.pid), "{told}: {error}");
            assert!(pod.abandon(token).expect("cleared"), "{told}: {error}");
            let (held, _) = pod.acquire(&again()).unwrap_or_else(|error| panic!("{told}: wedged: {error}"));
            held
        }
    };
    held.release_only(None).expect("released");
    // A file whose creation seemed to fail is in nobody's way, and goes with the token.
    if !workspace.owners().is_empty() {
        pod.abandon(token).expect("cleared");
    }
    assert!(workspace.lock_bytes().is_none(), "{told}: the lock is left");
    assert_eq!(workspace.owners(), [] as [String; 0], "{told}: flags are left");
}

/// Tries to take the lock in every scene with every call failing in every way.
fn sweep_acquire(links: bool) {
    for scene in SCENES {
        let world = World::new();
        let count = {
            let workspace = scene.set(&world);
            let faults = Faults::by(move |_, call| base(links, call));
            let _ = workspace.open_faulty(&world.start(OWN), &faults).acquire(&options());
            faults.calls().len()
        };
        assert!(count > 5, "{count} calls");
        for number in 0..count {
            for fault in faults() {
                let world = World::new();
                let workspace = scene.set(&world);
                let entries = workspace.visible();
                let before = (workspace.lock_bytes(), workspace.owners());
                let system = world.start(OWN);
                let faults = one(number, fault, links);
                let result = workspace.open_faulty(&system, &faults).acquire(&options());
                let calls = faults.calls();
                let told = told(scene, links, &calls[number.min(calls.len() - 1)], fault);
                faults.become_(move |_, call| base(links, call));
                assert_eq!(workspace.visible(), entries, "{told}: entries were touched");
                match result {
                    Ok((held, took_over)) => {
                        check_held(scene, &workspace, &world, held, took_over, &told);
                    }
                    Err(error) => {
                        assert!(!error.message.is_empty(), "{told}");
                        if matches!(fault, Fault::Refuse(_)) {
                            assert!(!carries(&workspace, token()), "{told}: the lock is left after {error}");
                        }
                        if scene.is_free() {
                            assert_not_wedged(&workspace, &system, token(), &told);
                        } else {
                            let owners: Vec<String> = without_own(workspace.owners(), &system);
                            assert_eq!((workspace.lock_bytes(), owners), before, "{told}: {error}");
                        }
                    }
                }
                assert_eq!(workspace.temporaries(), [] as [String; 0], "{told}");
            }
        }
    }
}

fn without_own(mut owners: Vec<String>, system: &TestSystem) -> Vec<String> {
    let own = FlagName::new(&system.me, token());
    owners.retain(|name| !name.starts_with(own.as_str()));
    owners
}

/// The lock was taken in spite of a fault: it must be as good as any.
#[track_caller]
fn check_held(
    scene: Scene,
    workspace: &TestWorkspace,
    world: &World,
    held: Held<FaultyDir, TestSystem>,
    took_over: Option<Takeover>,
    told: &str,
) {
    assert!(scene.is_free(), "{told}: took the lock from its owner");
    assert!(carries(workspace, token()), "{told}: holds and the lock is not its own");
    if took_over.is_some() {
        assert!(
            matches!(scene, Scene::Stale | Scene::StaleOriginal | Scene::Unreadable),
            "{told}: {took_over:?}"
        );
    }
    let second = workspace.open(&world.start(OTHER + 1)).acquire(&again());
    let error = second.err().unwrap_or_else(|| panic!("{told}: two hold the lock"));
    assert_eq!(error.owner.as_ref().map(|owner| owner.pid), Some(OWN), "{told}");
    held.release_only(None).unwrap_or_else(|error| panic!("{told}: {error}"));
    assert!(workspace.lock_bytes().is_none(), "{told}: the lock is left");
    // A flag that was not seen, or could not be removed, is the next one's to remove.
    assert_not_wedged(workspace, &world.start(OWN), token(), told);
}

#[test]
fn whatever_fails_while_taking_the_lock_it_excludes_and_is_not_wedged() {
    sweep_acquire(true);
}

#[test]
fn whatever_fails_while_taking_the_lock_without_hard_links_it_excludes_and_is_not_wedged() {
    sweep_acquire(false);
}

#[test]
fn lock_that_was_made_although_the_call_failed_is_not_left_behind() {
    // On a network the answer to a link or a rename can be lost: the lock carries our token, and after
    // the error nobody is there to release it.
    for (op, links) in [(Op::Link, true), (Op::Rename, false)] {
        for kind in ALL_KINDS {
            let workspace = TestWorkspace::new();
            let system = World::new().start(OWN);
            let faults = Faults::by(move |_, call| {
                if call.op == op && call.to == LOCK_PATH { Fault::After(kind) } else { base(links, call) }
            });
            match workspace.open_faulty(&system, &faults).acquire(&options()) {
                Ok((held, _)) => drop(held.release_only(None).expect("released")),
                Err(error) => {
                    assert!(
                        workspace.lock_bytes().is_none(),
                        "{op:?} {kind:?}: the lock is left after: {error}"
                    );
                }
            }
            workspace.assert_nothing_left();
        }
    }
}

#[test]
fn first_failure_is_told_first_even_if_the_flag_cannot_be_lowered() {
    let workspace = TestWorkspace::new();
    let faults = Faults::by(|_, call| match call.op {
        Op::Link => Fault::Refuse(FsErrorKind::NoSpace),
        Op::Unlink => Fault::Refuse(FsErrorKind::Io),
        _ => Fault::Pass,
    });
    let pod = workspace.open_faulty(&World::new().start(OWN), &faults);
    let error = pod.acquire(&options()).expect_err("no space");
    // A flag that stays is worse than what came first, and the host has to see to it.
    assert_eq!(error.code, ErrorCode::Io, "{error}");
    assert!(error.message.contains("no space left") && error.message.contains("besides"), "{error}");
}

#[test]
fn lost_lock_is_reported_as_lost_even_if_the_flag_cannot_be_lowered() {
    let workspace = TestWorkspace::new();
    let faults = Faults::none();
    let pod = workspace.open_faulty(&World::new().start(OWN), &faults);
    let (held, _) = pod.acquire(&options()).expect("held");
    fs::remove_file(workspace.lock()).expect("removed");
    faults
        .become_(|_, call| if call.op == Op::Unlink { Fault::Refuse(FsErrorKind::Io) } else { Fault::Pass });
    let error = held.release_with_cleanup().expect_err("lost");
    assert_eq!(error.code, ErrorCode::LockLost, "{error}");
}

#[test]
fn flag_of_an_unknown_owner_that_cannot_be_read_for_a_moment_is_not_removed() {
    // Its lease is an hour, and it was renewed some minutes ago, as it should be. A failing disk or
    // network says nothing about it.
    for kind in [FsErrorKind::Io, FsErrorKind::Interrupted, FsErrorKind::NoSpace] {
        for op in [Op::Open, Op::Read] {
            let workspace = TestWorkspace::new();
            let there = World::in_scope(scope("machine2", "boot2", "1")).start(OTHER);
            let long = AcquireOptions { lease_seconds: Some(3_600), ..options() };
            let (holder, _) = workspace.open(&there).acquire(&long).expect("held");
            let flag = workspace.owners()[0].clone();
            set_age(&workspace.lock(), 600);
            let faults = Faults::by({
                let flag = flag.clone();
                move |_, call| {
                    if call.op == op && call.path.ends_with(&flag) {
                        Fault::Refuse(kind)
                    } else {
                        Fault::Pass
                    }
                }
            });
            if (op, kind) == (Op::Read, FsErrorKind::Interrupted) {
                continue;
            }
            let error = workspace.open_faulty(&World::new().start(OWN), &faults).acquire(&again());
            assert_eq!(error.expect_err("in use").owner.as_ref().map(|owner| owner.pid), Some(OTHER));
            assert_eq!(workspace.owners(), [flag], "{op:?} {kind:?}");
            holder.refresh().expect("still held");
        }
    }
}

/// A lock that is held, with what it consumes and what it does not.
struct Fixture {
    workspace: TestWorkspace,
    system: TestSystem,
    faults: Faults,
    consumed: [EntryId; 2],
    other: EntryId,
}

impl Fixture {
    fn new() -> Self {
        let workspace = TestWorkspace::with_staging();
        let consumed = [workspace.put_entry(), workspace.put_entry()];
        let other = workspace.put_entry();
        Fixture { workspace, system: World::new().start(OWN), faults: Faults::none(), consumed, other }
    }

    fn pod(&self) -> consolidation_guest::workspace::Workspace<FaultyDir, TestSystem> {
        self.workspace.open_faulty(&self.system, &self.faults)
    }

    /// Takes the lock with two entries consumed.
    fn hold(&self) -> Held<FaultyDir, TestSystem> {
        let pod = self.pod();
        let (mut held, _) = pod.acquire(&options()).expect("held");
        pod.record_consumed(&mut held, self.consumed.to_vec()).expect("rewritten");
        held
    }

    fn has(&self, id: EntryId) -> bool {
        self.workspace.staged(&id.file_name()).exists()
    }

    /// How many of the consumed entries are there.
    fn left(&self) -> usize {
        self.consumed.iter().filter(|id| self.has(**id)).count()
    }

    /// Does the disk say that the run is committed, or was and has ended?
    fn is_committed(&self) -> bool {
        let root = self.workspace.root();
        names(&root.join(UNFINISHED_PATH)).iter().any(|name| name.ends_with(".committed"))
            || names(&root.join(RUNS)).iter().filter(|name| name.ends_with(".json")).any(|name| {
                let outcome = fs::read(root.join(RUNS).join(name)).expect("it is read");
                Outcome::parse(&outcome).expect("it is whole").outcome == Ending::Consolidated
            })
    }
}

/// Every call of `act` fails in every way in turn; `check` gets what came of it.
fn sweep<T>(
    act: impl Fn(&Fixture, Held<FaultyDir, TestSystem>) -> Result<T, Error>,
    check: impl Fn(&Fixture, &Call, Fault, Result<T, Error>, &str),
) {
    let count = {
        let fixture = Fixture::new();
        let held = fixture.hold();
        fixture.faults.become_(|_, _| Fault::Pass);
        assert!(act(&fixture, held).is_ok());
        fixture.faults.calls().len()
    };
    for number in 0..count {
        for fault in faults() {
            let fixture = Fixture::new();
            let held = fixture.hold();
            fixture.faults.become_(move |index, _| if index == number { fault } else { Fault::Pass });
            let result = act(&fixture, held);
            let call = fixture.faults.calls()[number].clone();
            fixture.faults.become_(|_, _| Fault::Pass);
            let told = format!("{:?} {} {fault:?}", call.op, call.path);
            assert!(fixture.has(fixture.other), "{told}: an entry that was not consumed is lost");
            check(&fixture, &call, fault, result, &told);
        }
    }
}

#[test]
fn whatever_fails_while_releasing_with_cleanup_the_report_is_true() {
    sweep(
        |_, held| held.release_with_cleanup(),
        |fixture, call, fault, result, told| {
            let left = fixture.left();
            let committed = fixture.is_committed();
            match result {
                Ok(report) => {
                    assert!(committed, "{told}: {report:?} without a commit");
                    let all = report.removed + report.missing + report.failed.len() as u64;
                    assert_eq!(all, 2, "{told}: {report:?}");
                    if matches!(fault, Fault::Refuse(kind) if kind != FsErrorKind::NotFound) {
                        assert_eq!(left, report.failed.len(), "{told}: {report:?}");
                    }
                    for (id, reason) in &report.failed {
                        assert!(fixture.consumed.contains(id) && !reason.is_empty(), "{told}: {report:?}");
                    }
                }
                Err(error) if error.code == ErrorCode::LockLost => {
                    assert!(!committed, "{told}: lost, and committed");
                }
                Err(error) => assert!(error.path.is_some(), "{told}: {error}"),
            }
            if !committed {
                assert_eq!(left, 2, "{told}: nothing is deleted before the commit");
            }
            assert_not_wedged(&fixture.workspace, &fixture.system, token(), told);
            // Never by half: the newcomer has ended what was committed, and nothing else.
            assert_eq!(fixture.is_committed(), committed, "{told}");
            assert!(names(&fixture.workspace.root().join(UNFINISHED_PATH)).is_empty(), "{told}");
            // An entry that the disk says is gone, and is not, comes again.
            let lied = call.op == Op::Unlink
                && fixture.consumed.iter().any(|id| call.path.ends_with(&id.file_name()))
                && fault == Fault::Refuse(FsErrorKind::NotFound);
            let expected = if !committed { 2 } else { usize::from(lied) };
            assert_eq!(fixture.left(), expected, "{told}: committed {committed}");
        },
    );
}

#[test]
fn whatever_fails_while_releasing_only_no_entry_is_deleted() {
    sweep(
        |_, held| held.release_only(None),
        |fixture, _, _, _, told| {
            assert_eq!(fixture.left(), 2, "{told}");
            assert_not_wedged(&fixture.workspace, &fixture.system, token(), told);
        },
    );
}

#[test]
fn whatever_fails_while_the_lock_is_rewritten_one_whole_record_is_in_force() {
    let ids = vec![new_entry_id(), new_entry_id(), new_entry_id()];
    sweep(
        |fixture, mut held| {
            let before = held.record().clone();
            let result = fixture.pod().record_consumed(&mut held, ids.clone());
            match &result {
                Ok(()) => assert_eq!(held.record().consumed_ids.len(), 3),
                Err(_) => assert_eq!(*held.record(), before, "the earlier set is in force"),
            }
            result.map(|()| held)
        },
        |fixture, call, fault, result, told| {
            if fixture.workspace.lock_bytes().is_none() {
                // It looked as if others had gone on without us: then our record must not stay.
                let error = result.expect_err("nobody holds");
                assert_eq!((call.op, error.code), (Op::Stat, ErrorCode::LockLost), "{told}: {error}");
                return;
            }
            let on_disk = fixture.workspace.lock_record().consumed_ids.len();
            match result {
                Ok(held) => {
                    assert_eq!(on_disk, 3, "{told}");
                    assert_eq!(held.release_with_cleanup().expect("still ours").missing, 3, "{told}");
                    assert_eq!(fixture.left(), 2, "{told}: the earlier set was deleted");
                    assert!(fixture.workspace.owners().is_empty(), "{told}");
                }
                Err(error) => {
                    let done = call.op == Op::Rename && matches!(fault, Fault::After(_));
                    assert_eq!(on_disk, if done { 3 } else { 2 }, "{told}: {error}");
                    assert!(carries(&fixture.workspace, token()), "{told}: {error}");
                }
            }
            let leaves = matches!(fault, Fault::After(_)) && matches!(call.op, Op::Create);
            assert!(leaves || fixture.workspace.temporaries().is_empty(), "{told}: a temporary is left");
        },
    );
}

#[test]
fn failed_rewrite_leaves_the_earlier_set_to_be_deleted() {
    let fixture = Fixture::new();
    let mut held = fixture.hold();
    let before = fixture.workspace.lock_bytes();
    fixture.faults.become_(|_, call| {
        if call.op == Op::Write { Fault::Refuse(FsErrorKind::NoSpace) } else { Fault::Pass }
    });
    let pod = fixture.pod();
    assert_eq!(
        pod.record_consumed(&mut held, vec![fixture.other]).expect_err("no space").code,
        ErrorCode::NoSpace
    );
    assert_eq!(pod.record_command_group(&mut held, Some(5)).expect_err("no space").code, ErrorCode::NoSpace);
    assert_eq!(fixture.workspace.lock_bytes(), before);
    assert_eq!(held.record().command_group, None);
    fixture.faults.become_(|_, _| Fault::Pass);
    assert_eq!(held.release_with_cleanup().expect("still ours").removed, 2);
    assert!(fixture.has(fixture.other));
    fixture.workspace.assert_nothing_left();
}

#[test]
fn whatever_fails_while_the_lease_is_renewed_the_lock_stays_whole_and_ours() {
    let before = std::cell::RefCell::new(None);
    sweep(
        |fixture, held| {
            *before.borrow_mut() = fixture.workspace.lock_bytes();
            let result = held.refresh();
            result.map(|()| held)
        },
        |fixture, _, _, result, told| {
            assert_eq!(fixture.workspace.lock_bytes(), *before.borrow(), "{told}");
            match result {
                Ok(held) => assert_eq!(held.release_with_cleanup().expect("still ours").removed, 2, "{told}"),
                Err(error) => assert!(error.path.is_some(), "{told}: {error}"),
            }
        },
    );
}

#[test]
fn process_killed_at_any_step_is_succeeded_and_loses_nothing() {
    for links in [true, false] {
        for scene in [Scene::Bare, Scene::Entries, Scene::Stale, Scene::StaleOriginal, Scene::Unreadable] {
            let mut number = 0;
            loop {
                let world = World::new();
                let workspace = scene.set(&world);
                let consumed = [workspace.put_entry(), workspace.put_entry()];
                let entries = workspace.visible();
                let faults = Faults::by(move |index, call| {
                    if index >= number { Fault::Refuse(FsErrorKind::Io) } else { base(links, call) }
                });
                let pod = workspace.open_faulty(&world.start(OWN), &faults);
                let run = || {
                    let (mut held, _) = pod.acquire(&options())?;
                    pod.record_consumed(&mut held, consumed.to_vec())?;
                    let made = faults.calls().len();
                    held.release_with_cleanup().map(|_| made).map_err(|error| error.at(made.to_string()))
                };
                let finished = run();
                world.end(OWN);
                let told = format!("{scene:?} links {links} killed before {number}");
                let successor = workspace.open(&world.start(OTHER + 1));
                let (held, _) = successor
                    .acquire(&again())
                    .unwrap_or_else(|error| panic!("{told}: the successor is refused: {error}"));
                held.release_only(None).expect("released");
                assert!(workspace.lock_bytes().is_none(), "{told}");
                assert_eq!(workspace.owners(), [] as [String; 0], "{told}: files are left among the flags");
                let there = workspace.visible();
                let kept: BTreeMap<String, Vec<u8>> = entries
                    .into_iter()
                    .filter(|(name, _)| !consumed.iter().any(|id| id.file_name() == *name))
                    .collect();
                for (name, content) in &kept {
                    assert_eq!(there.get(name), Some(content), "{told}: {name} was not consumed");
                }
                // From the rename on it is committed, and the successor ends it.
                let committed = faults
                    .calls()
                    .iter()
                    .take(number)
                    .any(|call| call.op == Op::Rename && call.to.ends_with(".committed"));
                let left = if committed { 0 } else { 2 };
                assert_eq!(
                    there.len(),
                    kept.len() + left,
                    "{told}: deleted without a commit, or left after it"
                );
                if finished.is_ok() && faults.calls().len() <= number {
                    assert_eq!(there.len(), kept.len(), "{told}");
                    break;
                }
                number += 1;
                assert!(number < 100, "a run takes more calls than were tried");
            }
        }
    }
}

/// The content alone does not tell: an empty file that is truncated once more is as empty as it was.
#[test]
fn unreadable_lock_that_is_begun_anew_before_the_second_look_is_left_to_its_writer() {
    let workspace = TestWorkspace::with_staging();
    workspace.put(".consolidation.lock", "");
    set_age(&workspace.lock(), 60);
    let path = workspace.lock();
    let mut looks = 0;
    let faults = Faults::by(move |_, call| {
        if call.op == Op::Stat && call.path == LOCK_PATH {
            looks += 1;
            if looks == 2 {
                // The writer truncates the file and is about to write its record.
                fs::write(&path, "").expect("truncated");
            }
        }
        Fault::Pass
    });
    let error = workspace
        .open_faulty(&World::new().start(OWN), &faults)
        .acquire(&options())
        .expect_err("its writer is at work");
    assert_eq!(error.code, ErrorCode::InUse);
    assert_eq!(workspace.lock_bytes().as_deref(), Some(&b""[..]));
    assert_eq!(workspace.owners(), [] as [String; 0]);
}
