//! The commit of a run and its recovery. Invariant under test: the entries of a run are either all kept
//! and come again, or all deleted, and then they were committed before; whatever is killed or fails
//! where, and however late an owner goes on that was taken for dead.

use crate::support::faulty::{ALL_KINDS, Call, Fault, Faults, FaultyDir, Op};
use crate::support::system::{TestSystem, World, scope, wall_clock};
use crate::support::{
    MINIMAL, TestWorkspace, entry_id, make_fifo, names, new_entry_id, original_record, set_age,
    without_waiting_at,
};
use consolidation_guest::durable::Durability;
use consolidation_guest::error::{Error, ErrorCode, Owner};
use consolidation_guest::fs::{Dir, FsErrorKind, Time};
use consolidation_guest::layout::{EntryId, LOCK_PATH, Progress, RUNS, RunId, Token, UNFINISHED_PATH};
use consolidation_guest::lock::{AcquireOptions, Held, ReleaseReport};
use consolidation_guest::outcome::{Ending, Outcome};
use consolidation_guest::staging::Limits;
use consolidation_guest::time::to_rfc3339;
use consolidation_guest::workspace::Workspace;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

const OWN: u32 = 4242;
const OTHER: u32 = 77;
const THIRD: u32 = 99;
const DEAD: u32 = u32::MAX;

fn token() -> Token {
    Token::new([7; 16])
}

fn options(durability: Durability) -> AcquireOptions {
    AcquireOptions {
        pod_name: "pod-a".into(),
        lease_seconds: Some(60),
        token: Some(token()),
        durability,
        ..AcquireOptions::default()
    }
}

/// Of another pod.
fn other_pod() -> AcquireOptions {
    AcquireOptions { pod_name: "pod-b".into(), token: None, ..options(Durability::None) }
}

/// Two entries that the run takes, and one that it does not.
struct Place {
    workspace: TestWorkspace,
    world: World,
    consumed: [EntryId; 2],
    other: EntryId,
}

impl Place {
    fn new() -> Self {
        let workspace = TestWorkspace::with_staging();
        let consumed = [workspace.put_entry(), workspace.put_entry()];
        let other = workspace.put_entry();
        Place { workspace, world: World::new(), consumed, other }
    }

    /// Takes the lock, with the two entries recorded. Faults begin afterwards.
    fn hold(&self, faults: &Faults, durability: Durability) -> (Held<FaultyDir, TestSystem>, RunId) {
        let pod = self.workspace.open_faulty(&self.world.start(OWN), faults);
        let (mut held, _) = pod.acquire(&options(durability)).expect("held");
        pod.record_consumed(&mut held, self.consumed.to_vec()).expect("rewritten");
        let run = held.record().run_id.as_deref().and_then(RunId::parse).expect("a run has begun");
        (held, run)
    }

    fn has(&self, id: EntryId) -> bool {
        self.workspace.staged(&id.file_name()).exists()
    }

    /// How many of the entries of the run are there.
    fn left(&self) -> usize {
        self.consumed.iter().filter(|id| self.has(**id)).count()
    }

    /// What somebody who only looks would be given.
    fn offered(&self) -> Vec<EntryId> {
        self.workspace.open(&self.world.start(THIRD)).entry_ids().expect("listed")
    }

    /// A newcomer takes the lock and ends everything. The run's entries are then all gone, and its outcome
    /// says so, or they are all offered again, and no outcome says that they are consolidated. Are they
    /// gone?
    #[track_caller]
    fn is_consumed_for_good(&self, run: RunId, told: &str) -> bool {
        let newcomer = self.workspace.open(&self.world.start(THIRD));
        let (held, _) = newcomer
            .acquire(&other_pod())
            .unwrap_or_else(|error| panic!("{told}: the newcomer is refused: {error}"));
        let snapshot = newcomer.take_snapshot(Limits::default()).expect("taken");
        assert!(snapshot.ids().contains(&self.other), "{told}: an entry that no run took is lost");
        let offered = self.consumed.iter().filter(|id| snapshot.ids().contains(id)).count();
        held.release_only(None).expect("released");
        assert_eq!(offered, self.left(), "{told}: offered, and there");
        assert!(offered == 0 || offered == 2, "{told}: {offered} of 2 come again");
        assert_eq!(self.unfinished(), [] as [String; 0], "{told}: a run is left unfinished");
        let of_the_run: Vec<Ending> = self
            .outcomes()
            .iter()
            .filter(|known| known.run_id == run.to_string())
            .map(|it| it.outcome)
            .collect();
        let consumed = offered == 0;
        if consumed {
            assert_eq!(of_the_run, [Ending::Consolidated], "{told}");
        } else {
            assert!(
                matches!(of_the_run[..], [] | [Ending::Aborted | Ending::Failed]),
                "{told}: {of_the_run:?}"
            );
        }
        consumed
    }

    fn run_path(&self, name: &str) -> PathBuf {
        self.workspace.root().join(RUNS).join(name)
    }

    fn unfinished_path(&self, name: &str) -> PathBuf {
        self.workspace.root().join(UNFINISHED_PATH).join(name)
    }

    /// Writes a file among the unfinished runs.
    fn put_unfinished(&self, name: &str, content: impl AsRef<[u8]>) {
        fs::create_dir_all(self.workspace.root().join(UNFINISHED_PATH)).expect("a directory");
        fs::write(self.unfinished_path(name), content).expect("written");
    }

    fn unfinished(&self) -> Vec<String> {
        names(&self.workspace.root().join(UNFINISHED_PATH))
    }

    /// The outcomes that can be read, oldest first.
    fn outcomes(&self) -> Vec<Outcome> {
        names(&self.workspace.root().join(RUNS))
            .iter()
            .filter(|name| RunId::from_file_name(name).is_some())
            // A pipe would wait for a writer.
            .filter(|name| self.run_path(name).symlink_metadata().is_ok_and(|found| found.is_file()))
            .filter_map(|name| Outcome::parse(&fs::read(self.run_path(name)).ok()?).ok())
            .collect()
    }

    /// The outcome of the only run.
    #[track_caller]
    fn outcome(&self) -> Outcome {
        let mut outcomes = self.outcomes();
        assert_eq!(outcomes.len(), 1, "{outcomes:?}");
        outcomes.remove(0)
    }
}

/// Did the rename that commits have its effect? Under `fault` for the calls that failed.
fn has_committed(calls: &[Call], fault: Fault) -> bool {
    let commits = |call: &&Call| call.op == Op::Rename && call.to.ends_with(".committed");
    calls.iter().find(commits).is_some_and(|call| call.failed.is_none() || matches!(fault, Fault::After(_)))
}

/// The changes, with names in the place of ids.
fn told(faults: &Faults, run: RunId, entries: &[EntryId]) -> Vec<String> {
    let mut changes = faults.changes();
    for change in &mut changes {
        *change = change.replace(&run.to_string(), "RUN");
        for (number, id) in entries.iter().enumerate() {
            *change = change.replace(&id.to_string(), &format!("E{number}"));
        }
        if let Some(flag) = change.find(".owners/") {
            change.replace_range(flag.., ".owners/FLAG");
        }
    }
    changes
}

#[test]
fn commit_is_on_the_disk_before_an_entry_goes_and_the_deletes_are_before_the_run_ends() {
    let place = Place::new();
    let faults = Faults::none();
    let (held, run) = place.hold(&faults, Durability::Full);
    faults.become_(|_, _| Fault::Pass);
    held.release_with_cleanup().expect("released");
    assert_eq!(
        told(&faults, run, &place.consumed),
        [
            "SyncNames .",
            "SyncNames runs",
            "Unlink runs/.unfinished/RUN.open",
            "Create runs/.unfinished/RUN.open",
            "Write runs/.unfinished/RUN.open",
            "Sync runs/.unfinished/RUN.open",
            "Rename runs/.unfinished/RUN.open -> runs/.unfinished/RUN.committed",
            "SyncNames runs/.unfinished",
            "Unlink _staging/E0.json",
            "Unlink _staging/E1.json",
            "SyncNames _staging",
            "Rename runs/.unfinished/RUN.committed -> runs/RUN.json",
            "Unlink _staging/.consolidation.lock",
            "Unlink _staging/.owners/FLAG",
        ]
    );
}

#[test]
fn without_durability_the_order_is_the_same_and_nothing_is_synchronised() {
    let place = Place::new();
    let faults = Faults::none();
    let (held, run) = place.hold(&faults, Durability::None);
    faults.become_(|_, _| Fault::Pass);
    held.release_with_cleanup().expect("released");
    assert_eq!(
        told(&faults, run, &place.consumed),
        [
            "Unlink runs/.unfinished/RUN.open",
            "Create runs/.unfinished/RUN.open",
            "Write runs/.unfinished/RUN.open",
            "Rename runs/.unfinished/RUN.open -> runs/.unfinished/RUN.committed",
            "Unlink _staging/E0.json",
            "Unlink _staging/E1.json",
            "Rename runs/.unfinished/RUN.committed -> runs/RUN.json",
            "Unlink _staging/.consolidation.lock",
            "Unlink _staging/.owners/FLAG",
        ]
    );
    assert!(!faults.calls().iter().any(|call| matches!(call.op, Op::Sync | Op::SyncNames)));
}

/// Looked for before the ticket exists, the flag may go between the look and the rename.
#[test]
fn flag_is_looked_for_between_the_ticket_and_its_rename() {
    let place = Place::new();
    let faults = Faults::none();
    let (held, _) = place.hold(&faults, Durability::Full);
    faults.become_(|_, _| Fault::Pass);
    held.release_with_cleanup().expect("released");
    let calls = faults.calls();
    let at = |wanted: &dyn Fn(&Call) -> bool| calls.iter().position(wanted).expect("it is called");
    let ticket = at(&|call| call.op == Op::Sync && call.path.ends_with(".open"));
    let flag = at(&|call| call.op == Op::Stat && call.path.contains("/.owners/"));
    let lock = at(&|call| call.op == Op::Read && call.path.ends_with(".consolidation.lock"));
    let commit = at(&|call| call.op == Op::Rename && call.to.ends_with(".committed"));
    assert!(ticket < flag && flag < lock && lock < commit, "{ticket} {flag} {lock} {commit}");
}

#[test]
fn run_killed_before_any_call_of_its_release_is_ended_by_the_next_owner() {
    for durability in [Durability::Full, Durability::None] {
        let mut outcomes = [0, 0];
        for number in 0.. {
            let place = Place::new();
            let faults = Faults::none();
            let (held, run) = place.hold(&faults, durability);
            faults.become_(killed_before(number));
            let released = held.release_with_cleanup();
            let calls = faults.calls();
            let committed = has_committed(&calls, Fault::Pass);
            place.world.end(OWN);
            let told = format!("{durability:?}: killed before call {number}");
            let offered = place.consumed.iter().filter(|id| place.offered().contains(id)).count();
            assert_eq!(offered, if committed { 0 } else { 2 }, "{told}: offered before anybody recovered");
            assert_eq!(place.is_consumed_for_good(run, &told), committed, "{told}");
            outcomes[usize::from(committed)] += 1;
            if calls.len() <= number {
                assert_eq!(released.expect("nobody killed it").removed, 2);
                break;
            }
        }
        assert!(outcomes.iter().all(|count| *count >= 4), "{outcomes:?}");
    }
}

/// A rule under which the process is killed before the call with this number.
fn killed_before(number: usize) -> impl FnMut(usize, &Call) -> Fault + Send + 'static {
    move |index, _| if index >= number { Fault::Refuse(FsErrorKind::Io) } else { Fault::Pass }
}

#[test]
fn recovery_killed_before_any_call_is_ended_by_the_one_after() {
    // The calls of a release that leave different things behind, found by what they leave.
    let mut seen = Vec::new();
    for number in 0.. {
        let leave = || {
            let place = Place::new();
            let faults = Faults::none();
            let (held, run) = place.hold(&faults, Durability::Full);
            faults.become_(killed_before(number));
            let _ = held.release_with_cleanup();
            place.world.end(OWN);
            let calls = faults.calls();
            (place, run, has_committed(&calls, Fault::Pass), calls.len() <= number)
        };
        let (place, _, _, to_the_end) = leave();
        if to_the_end {
            break;
        }
        let left = (
            place
                .unfinished()
                .iter()
                .filter_map(|name| Progress::parse(name))
                .map(|it| it.1)
                .collect::<Vec<_>>(),
            place.left(),
            place.outcomes().len(),
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
            let full = AcquireOptions { durability: Durability::Full, ..other_pod() };
            let done = successor.acquire(&full).and_then(|(held, _)| held.release_only(None));
            place.world.end(OTHER);
            let told = format!("killed before call {number}, its successor before {then}");
            assert_eq!(place.is_consumed_for_good(run, &told), committed, "{told}");
            if done.is_ok() {
                break;
            }
        }
    }
    assert!(seen.len() >= 5, "{seen:?}");
}

/// All faults that are tried: each kind, with the effect and without.
fn faults() -> impl Iterator<Item = Fault> {
    ALL_KINDS.into_iter().flat_map(|kind| [Fault::Refuse(kind), Fault::After(kind)])
}

/// A file system that says of an entry that it is gone, and it is not: then it comes again.
fn lies_about_an_entry(call: &Call, fault: Fault) -> bool {
    call.op == Op::Unlink && call.path.ends_with(".json") && fault == Fault::Refuse(FsErrorKind::NotFound)
}

#[test]
fn whatever_fails_in_a_release_the_entries_are_all_kept_or_all_consumed() {
    let count = {
        let place = Place::new();
        let script = Faults::none();
        let (held, _) = place.hold(&script, Durability::Full);
        script.become_(|_, _| Fault::Pass);
        held.release_with_cleanup().expect("released");
        script.calls().len()
    };
    for number in 0..count {
        for fault in faults() {
            let place = Place::new();
            let script = Faults::none();
            let (held, run) = place.hold(&script, Durability::Full);
            script.become_(move |index, _| if index == number { fault } else { Fault::Pass });
            let released = held.release_with_cleanup();
            let calls = script.calls();
            let call = &calls[number];
            if lies_about_an_entry(call, fault) {
                continue;
            }
            let committed = has_committed(&calls, fault);
            let told = format!("{:?} {} {} {fault:?}", call.op, call.path, call.to);
            let offered = place.consumed.iter().filter(|id| place.offered().contains(id)).count();
            assert_eq!(offered, if committed { 0 } else { 2 }, "{told}: offered while its process lives");
            match &released {
                Ok(report) => assert!(committed, "{told}: {report:?}"),
                Err(error) if error.code == ErrorCode::LockLost => assert!(!committed, "{told}: {error}"),
                Err(_) => {}
            }
            place.world.end(OWN);
            assert_eq!(place.is_consumed_for_good(run, &told), committed, "{told}");
        }
    }
}

#[test]
fn whatever_fails_in_a_recovery_the_one_after_ends_it() {
    // What a killed owner can leave: nothing but its record, a ticket, a sealed ticket, a committed run with
    // all entries, with one, and with none.
    for (progress, deleted) in [
        (None, 0),
        (Some(Progress::Open), 0),
        (Some(Progress::Sealed), 0),
        (Some(Progress::Committed), 0),
        (Some(Progress::Committed), 1),
        (Some(Progress::Committed), 2),
    ] {
        let committed = progress == Some(Progress::Committed);
        let leave = || {
            let place = Place::new();
            let (held, run) = place.hold(&Faults::none(), Durability::None);
            if let Some(progress) = progress {
                let owner = held.record().owner();
                let outcome =
                    Outcome::new(run, Ending::Consolidated, owner, wall_clock(), place.consumed.to_vec());
                place.put_unfinished(&progress.name(run), outcome.to_file());
            }
            for id in &place.consumed[..deleted] {
                fs::remove_file(place.workspace.staged(&id.file_name())).expect("removed");
            }
            place.world.end(OWN);
            (place, run)
        };
        let full = AcquireOptions { durability: Durability::Full, ..other_pod() };
        let calls = {
            let (place, _) = leave();
            let script = Faults::none();
            place.workspace.open_faulty(&place.world.start(OTHER), &script).acquire(&full).expect("held");
            script.calls()
        };
        for (number, call) in calls.iter().enumerate() {
            // The lock itself is swept elsewhere.
            if !call.path.starts_with(RUNS) && !call.path.ends_with(".json") && call.op != Op::SyncNames {
                continue;
            }
            for fault in faults() {
                if lies_about_an_entry(call, fault) {
                    continue;
                }
                let (place, run) = leave();
                let script = Faults::nth(number, fault);
                let successor = place.workspace.open_faulty(&place.world.start(OTHER), &script);
                let taken = successor.acquire(&full);
                let told =
                    format!("{progress:?} {deleted}: {:?} {} {} {fault:?}", call.op, call.path, call.to);
                if committed {
                    let offered = place.consumed.iter().any(|id| place.offered().contains(id));
                    assert!(!offered, "{told}: offered once more");
                }
                if let Ok((held, _)) = taken {
                    held.release_only(None).expect("released");
                }
                place.world.end(OTHER);
                assert_eq!(place.is_consumed_for_good(run, &told), committed, "{told}");
            }
        }
    }
}

/// A process of another process-id namespace, which can't probe ours and goes by the lease.
fn elsewhere() -> TestSystem {
    World::in_scope(scope("machine1", "boot1", "4026539999")).start(OTHER)
}

/// The lease of whoever holds the lock, or is about to, runs out.
fn expire(workspace: &TestWorkspace) {
    let flags = workspace.owners().into_iter().map(|name| workspace.owner(&name));
    for path in flags.chain([workspace.lock()]).filter(|path| path.exists()) {
        set_age(&path, 600);
    }
}

type Pod<D> = Workspace<D, TestSystem>;

/// Consumes all that it is given, and says what that was.
fn consume_all<D: Dir>(pod: &Pod<D>, mut held: Held<D, TestSystem>) -> Vec<EntryId> {
    let mut snapshot = pod.take_snapshot(Limits::default()).expect("taken");
    while !snapshot.next_batch(100, 1 << 20).done {}
    let given = snapshot.ids().to_vec();
    pod.record_snapshot(&mut held, &mut snapshot).expect("recorded");
    let report = held.release_with_cleanup().expect("released");
    assert_eq!((report.removed, report.failed.len(), report.lost), (given.len() as u64, 0, false));
    given
}

/// The late owner has committed, or it has lost and its successor was given what it had taken. Nothing is
/// left, and nothing was deleted by two or by none.
#[track_caller]
fn check_succession(
    place: &Place,
    run: RunId,
    late: &Result<ReleaseReport, Error>,
    given: &[EntryId],
    told: &str,
) {
    let outcomes = place.outcomes();
    let of_the_run: Vec<&Outcome> = outcomes.iter().filter(|known| known.run_id == run.to_string()).collect();
    let given_too = place.consumed.iter().filter(|id| given.contains(id)).count();
    match late {
        Ok(report) => {
            assert_eq!(given_too, 0, "{told}: both committed an entry: {report:?}");
            assert_eq!(of_the_run.len(), 1, "{told}");
            assert_eq!(of_the_run[0].outcome, Ending::Consolidated, "{told}");
        }
        Err(error) => {
            assert_eq!(error.code, ErrorCode::LockLost, "{told}: {error}");
            assert_eq!(given_too, 2, "{told}: the successor was not given what the late owner had not done");
            assert!(of_the_run.iter().all(|known| known.outcome == Ending::Aborted), "{told}");
            assert_eq!(of_the_run.len(), 1, "{told}: {outcomes:?}");
        }
    }
    let mut committed: Vec<EntryId> = outcomes
        .iter()
        .filter(|known| known.outcome == Ending::Consolidated)
        .flat_map(|known| known.entry_ids.clone())
        .collect();
    committed.sort_unstable();
    let all = [place.consumed[0], place.consumed[1], place.other];
    assert_eq!(committed, all, "{told}: committed once, by one of the two");
    assert!(!all.iter().any(|id| place.has(*id)), "{told}: a committed entry is left");
    assert_eq!(place.unfinished(), [] as [String; 0], "{told}");
    place.workspace.assert_nothing_left();
}

#[test]
fn owner_stopped_at_any_call_of_its_release_while_a_successor_comes_and_goes_commits_or_has_lost() {
    for durability in [Durability::Full, Durability::None] {
        let mut outcomes = [0, 0];
        for number in 0.. {
            let place = Arc::new(Place::new());
            let faults = Faults::none();
            let (held, run) = place.hold(&faults, durability);
            let given = Arc::new(Mutex::new(Vec::new()));
            faults.become_({
                let (place, given) = (place.clone(), given.clone());
                move |index, _| {
                    if index == number {
                        expire(&place.workspace);
                        let pod = place.workspace.open(&elsewhere());
                        let (held, _) = pod.acquire(&other_pod()).expect("its lease has run out");
                        *given.lock().expect("nobody panics here") = consume_all(&pod, held);
                    }
                    Fault::Pass
                }
            });
            let late = held.release_with_cleanup();
            if faults.calls().len() <= number {
                break;
            }
            let told = format!("{durability:?}: late before call {number}");
            outcomes[usize::from(late.is_ok())] += 1;
            check_succession(&place, run, &late, &given.lock().expect("nobody panics here"), &told);
        }
        assert!(outcomes.iter().all(|count| *count >= 4), "{outcomes:?}");
    }
}

#[test]
fn owner_stopped_at_any_call_of_its_release_while_a_successor_takes_the_lock_commits_or_has_lost() {
    for durability in [Durability::Full, Durability::None] {
        for number in 0.. {
            let place = Arc::new(Place::new());
            let faults = Faults::none();
            let (held, run) = place.hold(&faults, durability);
            let successor = Arc::new(Mutex::new(None));
            faults.become_({
                let (place, successor) = (place.clone(), successor.clone());
                move |index, _| {
                    if index == number {
                        expire(&place.workspace);
                        let pod = place.workspace.open(&elsewhere());
                        let (held, _) = pod.acquire(&other_pod()).expect("its lease has run out");
                        *successor.lock().expect("nobody panics here") = Some((pod, held));
                    }
                    Fault::Pass
                }
            });
            let late = held.release_with_cleanup();
            let Some((pod, held)) = successor.lock().expect("nobody panics here").take() else { break };
            let told = format!("{durability:?}: late before call {number}");
            let given = if held.refresh().is_ok() {
                consume_all(&pod, held)
            } else {
                // It looked at the lock when that was its own, and removed it when it was another's. Whose
                // it was notices, deletes nothing, and somebody else begins anew.
                let stopped_at = &faults.calls()[number];
                let looked = matches!(stopped_at.op, Op::Read | Op::Unlink) && stopped_at.path == LOCK_PATH;
                assert!(looked, "{told}: {stopped_at:?}");
                let error = held.release_with_cleanup().expect_err("it is lost");
                assert_eq!(error.code, ErrorCode::LockLost, "{told}: {error}");
                let (held, _) = pod.acquire(&other_pod()).expect("it is free");
                consume_all(&pod, held)
            };
            check_succession(&place, run, &late, &given, &told);
        }
    }
}

/// The other way round: the successor is stopped on its way to the lock, and the late owner goes on.
#[test]
fn successor_stopped_at_any_call_while_the_late_owner_releases_gets_what_was_not_committed() {
    for durability in [Durability::Full, Durability::None] {
        let mut outcomes = [0, 0];
        for number in 0.. {
            let place = Place::new();
            let (held, run) = place.hold(&Faults::none(), durability);
            expire(&place.workspace);
            let late = Arc::new(Mutex::new((Some(held), None)));
            let faults = Faults::by({
                let late = late.clone();
                move |index, _| {
                    if index == number {
                        let mut late = late.lock().expect("nobody panics here");
                        late.1 = late.0.take().map(Held::release_with_cleanup);
                    }
                    Fault::Pass
                }
            });
            let pod = place.workspace.open_faulty(&elsewhere(), &faults);
            let taken = pod.acquire(&other_pod());
            if faults.calls().len() <= number {
                break;
            }
            // A flag that goes while it is judged is a reason to come again.
            let again = |error: Error| match error.code {
                ErrorCode::InUse => pod.acquire(&other_pod()),
                _ => Err(error),
            };
            let (held, _) = taken.or_else(again).expect("its lease has run out");
            let given = consume_all(&pod, held);
            let late = late.lock().expect("nobody panics here").1.take().expect("it was released");
            outcomes[usize::from(late.is_ok())] += 1;
            let told = format!("{durability:?}: successor stopped before call {number}");
            check_succession(&place, run, &late, &given, &told);
        }
        assert!(outcomes.iter().all(|count| *count >= 4), "{outcomes:?}");
    }
}

/// Under which one entry can't be deleted.
fn stubborn(id: EntryId) -> Faults {
    Faults::by(move |_, call| {
        let stubborn = call.op == Op::Unlink && call.path.ends_with(&id.file_name());
        if stubborn { Fault::Refuse(FsErrorKind::NotPermitted) } else { Fault::Pass }
    })
}

#[test]
fn entry_that_cannot_be_deleted_is_consumed_all_the_same_and_goes_with_a_later_owner() {
    let place = Place::new();
    let faults = stubborn(place.consumed[1]);
    let (held, run) = place.hold(&faults, Durability::Full);
    let report = held.release_with_cleanup().expect("released");
    assert_eq!((report.removed, report.missing, report.left, report.lost), (1, 0, 0, false));
    assert_eq!(report.failed.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [place.consumed[1]]);
    place.workspace.assert_nothing_left();

    for round in 0..2 {
        assert!(place.has(place.consumed[1]));
        let looker = place.workspace.open(&place.world.start(THIRD));
        assert_eq!(looker.entry_ids().expect("listed"), [place.other], "round {round}");
        assert_eq!(looker.consumed().expect("read"), place.consumed, "round {round}");
        let summary = looker.summarize().expect("read");
        assert_eq!((summary.entries, summary.consumed, summary.unusable_count), (1, 1, 0), "round {round}");
        for max_entries in [None, Some(5)] {
            let limits = Limits { max_entries, max_bytes: None };
            let snapshot = looker.take_snapshot(limits).expect("taken");
            assert_eq!((snapshot.ids(), snapshot.left()), (&[place.other][..], 0), "round {round}");
        }
        let past = looker.past_run(run).expect("read").expect("it is known");
        assert_eq!((past.outcome.outcome, past.pending), (Ending::Consolidated, true), "round {round}");

        // Who tries in vain leaves it as it is.
        let successor = place.workspace.open_faulty(&place.world.start(OTHER), &faults);
        let (held, _) = successor.acquire(&other_pod()).expect("held");
        let [recovered] = held.recovered() else { panic!("{:?}", held.recovered()) };
        assert_eq!((recovered.run, recovered.ending, recovered.removed), (run, Ending::Consolidated, 0));
        assert_eq!(recovered.failed.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [place.consumed[1]]);
        held.release_only(None).expect("released");
    }

    let successor = place.workspace.open(&place.world.start(OTHER));
    let (held, _) = successor.acquire(&other_pod()).expect("held");
    let [recovered] = held.recovered() else { panic!("{:?}", held.recovered()) };
    assert_eq!((recovered.run, recovered.removed, recovered.failed.len()), (run, 1, 0));
    assert_eq!(recovered.owner.pod_name, "pod-a");
    held.release_only(None).expect("released");
    assert!(!place.has(place.consumed[1]));
    let past = successor.past_run(run).expect("read").expect("it is known");
    assert_eq!((past.outcome.outcome, past.pending), (Ending::Consolidated, false));
    assert_eq!(past.outcome.entry_ids, place.consumed);
    assert_eq!(successor.summarize().expect("read").consumed, 0);
    assert!(place.is_consumed_for_good(run, "in the end"));
}

#[test]
fn run_that_is_given_up_is_noted_as_failed_with_the_reason() {
    let place = Place::new();
    let (held, run) = place.hold(&Faults::none(), Durability::Full);
    let owner = held.record().owner();
    held.release_only(Some("the command exited with 3")).expect("released");
    let outcome = place.outcome();
    assert_eq!(outcome.run_id, run.to_string());
    assert_eq!((outcome.outcome, outcome.owner()), (Ending::Failed, owner));
    assert_eq!(outcome.reason.as_deref(), Some("the command exited with 3"));
    assert_eq!((outcome.ended_by, outcome.entry_ids), (None, place.consumed.to_vec()));
    assert!(!place.is_consumed_for_good(run, "failed"));
    place.workspace.assert_nothing_left();
}

#[test]
fn lock_that_took_no_entries_is_no_run() {
    let place = Place::new();
    let pod = place.workspace.open(&place.world.start(OWN));
    let take = || pod.acquire(&AcquireOptions { token: None, ..options(Durability::Full) }).expect("held").0;
    take().release_only(Some("nothing to do")).expect("released");
    take().release_with_cleanup().expect("released");
    let mut held = take();
    pod.record_consumed(&mut held, place.consumed.to_vec()).expect("recorded");
    pod.record_consumed(&mut held, Vec::new()).expect("taken back");
    held.release_only(Some("nothing to do")).expect("released");
    drop(take());
    place.world.end(OWN);
    let successor = place.workspace.open(&place.world.start(OTHER));
    let (held, took_over) = successor.acquire(&other_pod()).expect("held");
    assert!(took_over.is_some());
    assert_eq!(held.recovered(), []);
    assert_eq!(place.outcomes(), []);
}

#[test]
fn abandoned_run_is_noted_as_aborted() {
    let place = Place::new();
    let (held, run) = place.hold(&Faults::none(), Durability::Full);
    drop(held);
    assert!(place.workspace.open(&place.world.start(OWN)).abandon(token()).expect("cleared"));
    let outcome = place.outcome();
    assert_eq!((outcome.run_id.as_str(), outcome.outcome), (&*run.to_string(), Ending::Aborted));
    assert!(outcome.reason.is_some_and(|reason| !reason.is_empty()));
    assert_eq!(outcome.entry_ids, place.consumed);
    place.workspace.assert_nothing_left();
    assert!(!place.is_consumed_for_good(run, "abandoned"));
}

#[test]
fn run_that_is_abandoned_at_any_call_of_its_release_keeps_the_outcome_that_it_has() {
    for number in 0.. {
        let place = Place::new();
        let faults = Faults::none();
        let (held, run) = place.hold(&faults, Durability::Full);
        faults.become_(killed_before(number));
        let _ = held.release_with_cleanup();
        let calls = faults.calls();
        let told = format!("abandoned before call {number}");
        place.workspace.open(&place.world.start(OWN)).abandon(token()).expect("cleared");
        place.workspace.assert_nothing_left();
        let committed = has_committed(&calls, Fault::Pass);
        // Not even until the next owner ends it.
        let ending = if committed { Ending::Consolidated } else { Ending::Aborted };
        assert!(
            place.outcomes().iter().all(|known| known.outcome == ending),
            "{told}: {:?}",
            place.outcomes()
        );
        assert_eq!(place.is_consumed_for_good(run, &told), committed, "{told}");
        if calls.len() <= number {
            break;
        }
    }
}

#[test]
fn lock_that_is_removed_by_force_is_noted_with_who_and_why() {
    let place = Place::new();
    let (held, run) = place.hold(&Faults::none(), Durability::Full);
    let owner = held.record().owner();
    let operator = place.workspace.open(&place.world.start(OTHER));
    let removed = operator.unlock(&other_pod(), true, Some("its node is gone")).expect("by force");
    assert!(removed.is_some());
    let outcome = place.outcome();
    assert_ne!(outcome.run_id, run.to_string(), "it is no run of its own");
    assert_eq!((outcome.outcome, outcome.owner()), (Ending::Unlocked, owner));
    let by = outcome.ended_by.expect("who");
    assert_eq!((by.pid, by.pod_name.as_str()), (OTHER, "pod-b"));
    let reason = outcome.reason.expect("why");
    assert!(reason.starts_with("its node is gone (") && reason.contains("runs"), "{reason}");
    assert_eq!(outcome.entry_ids, place.consumed);

    assert_eq!(held.release_with_cleanup().expect_err("lost").code, ErrorCode::LockLost);
    assert_eq!(place.left(), 2);
    assert!(!place.is_consumed_for_good(run, "unlocked"));

    let count = place.outcomes().len();
    assert_eq!(operator.unlock(&other_pod(), true, Some("twice")).expect("there is none"), None);
    assert_eq!(place.outcomes().len(), count, "nothing was removed, so nothing is noted");
}

/// Its consolidator was most likely stopped for that, and people would look for who stopped it.
#[test]
fn run_that_is_given_up_without_its_lock_is_noted_as_one_that_lost_it() {
    let place = Place::new();
    let (held, run) = place.hold(&Faults::none(), Durability::Full);
    let operator = place.workspace.open(&place.world.start(OTHER));
    operator.unlock(&other_pod(), true, None).expect("by force");
    let error = held.release_only(Some("the command was killed by SIGTERM")).expect_err("lost");
    assert_eq!(error.code, ErrorCode::LockLost);
    let outcome = operator.past_run(run).expect("read").expect("known").outcome;
    let reason = "the lock was lost: the command was killed by SIGTERM";
    assert_eq!((outcome.outcome, outcome.reason.as_deref()), (Ending::Failed, Some(reason)));

    let place = Place::new();
    let (held, run) = place.hold(&Faults::none(), Durability::Full);
    held.release_only(Some("the command was killed by SIGTERM")).expect("released");
    let operator = place.workspace.open(&place.world.start(OTHER));
    let outcome = operator.past_run(run).expect("read").expect("known").outcome;
    assert_eq!(outcome.reason.as_deref(), Some("the command was killed by SIGTERM"));
}

#[test]
fn lock_that_is_removed_by_force_without_a_reason_or_a_record_is_noted_too() {
    let place = Place::new();
    place.workspace.put(".consolidation.lock", "garbage");
    let operator = place.workspace.open(&place.world.start(OTHER));
    operator.unlock(&other_pod(), true, None).expect("by force");
    let outcome = place.outcome();
    assert_eq!((outcome.outcome, outcome.owner()), (Ending::Unlocked, Owner::unknown()));
    assert!(outcome.reason.is_some_and(|reason| reason.starts_with("no reason was given (")));
    assert_eq!(outcome.entry_ids, []);
}

/// The removal says nothing of the run: what it had committed stays committed.
#[test]
fn run_that_is_unlocked_by_force_after_its_commit_is_consolidated() {
    let place = Place::new();
    let faults = Faults::none();
    let (held, run) = place.hold(&faults, Durability::Full);
    faults.become_(|_, call| {
        let stops = call.op == Op::Unlink && call.path.ends_with(".json");
        if stops { Fault::Refuse(FsErrorKind::Io) } else { Fault::Pass }
    });
    let mut held = held;
    assert_eq!(held.clean_up(1).expect("committed").left, 1);
    let operator = place.workspace.open(&place.world.start(OTHER));
    operator.unlock(&other_pod(), true, Some("too slow")).expect("by force");
    assert!(place.is_consumed_for_good(run, "unlocked after the commit"));
    faults.become_(|_, _| Fault::Pass);
    let report = held.release_with_cleanup().expect("it had committed");
    assert!(report.lost, "{report:?}");
    assert!(place.has(place.other));
}

#[test]
fn dead_owners_run_is_noted_as_aborted_by_the_one_who_takes_over() {
    let place = Place::new();
    let (held, run) = place.hold(&Faults::none(), Durability::Full);
    let owner = held.record().owner();
    drop(held);
    place.world.end(OWN);
    let successor = place.workspace.open(&place.world.start(OTHER));
    let (held, _) = successor.acquire(&other_pod()).expect("held");
    let [recovered] = held.recovered() else { panic!("{:?}", held.recovered()) };
    assert_eq!((recovered.run, recovered.ending, &recovered.owner), (run, Ending::Aborted, &owner));
    assert_eq!((recovered.removed, recovered.failed.len()), (0, 0));
    let outcome = place.outcome();
    assert_eq!((outcome.outcome, outcome.owner()), (Ending::Aborted, owner));
    let by = outcome.ended_by.expect("who");
    assert_eq!((by.pid, by.pod_name.as_str()), (OTHER, "pod-b"));
    assert!(outcome.reason.is_some_and(|reason| reason.contains("before it was committed")));
    assert_eq!(outcome.entry_ids, place.consumed);
    held.release_only(None).expect("released");
    assert!(!place.is_consumed_for_good(run, "aborted"));
}

/// Such a record has no name for its run, and may hold any text where ids belong.
#[test]
fn dead_run_of_the_original_format_is_noted_under_a_new_name() {
    let place = Place::new();
    let ids = [
        place.consumed[0].to_string(),
        "../../etc/passwd".into(),
        place.consumed[1].to_string().to_uppercase(),
    ];
    let texts: Vec<&str> = ids.iter().map(String::as_str).collect();
    place.workspace.put(".consolidation.lock", original_record(DEAD, "pod-original", &texts));
    let successor = place.workspace.open(&place.world.start(OTHER));
    let (held, _) = successor.acquire(&other_pod()).expect("held");
    assert_eq!(held.recovered().len(), 1);
    held.release_only(None).expect("released");
    let outcome = place.outcome();
    assert_eq!(
        (outcome.outcome, outcome.pid, outcome.pod_name.as_str()),
        (Ending::Aborted, DEAD, "pod-original")
    );
    assert_eq!(outcome.entry_ids, [place.consumed[0]]);
    assert_eq!(place.left(), 2);
    assert!(!place.is_consumed_for_good(held_run(&outcome), "original"));
}

fn held_run(outcome: &Outcome) -> RunId {
    RunId::parse(&outcome.run_id).expect("a canonical id")
}

/// The outcome of a run, as a file.
fn outcome_file(run: RunId, ids: &[EntryId]) -> Vec<u8> {
    let owner = Owner { pid: 7, pod_name: "pod-x".into(), started_at: String::new() };
    Outcome::new(run, Ending::Consolidated, owner, wall_clock(), ids.to_vec()).to_file()
}

const DAY_MS: u64 = 24 * 60 * 60 * 1_000;

/// An id of that many days ago.
fn days_ago(days: u64, low: u64) -> EntryId {
    entry_id(wall_clock().millis() - days * DAY_MS, low)
}

/// A file in `runs` that was written that many days ago.
fn put_old(place: &Place, name: &str, days: i64) {
    fs::create_dir_all(place.workspace.root().join(RUNS)).expect("a directory");
    fs::write(place.run_path(name), outcome_file(new_entry_id(), &[])).expect("written");
    set_age(&place.run_path(name), days * 86_400);
}

#[test]
fn outcomes_are_kept_for_thirty_days() {
    let place = Place::new();
    let old = [(31, 31, "old"), (400, 31, "older")].map(|(by_name, by_time, _)| {
        let name = days_ago(by_name, 1).file_name();
        put_old(&place, &name, by_time);
        name
    });
    let kept = [
        // Young, or young by one of the two clocks.
        (days_ago(29, 2).file_name(), 29),
        (days_ago(31, 3).file_name(), 1),
        (days_ago(1, 4).file_name(), 31),
        // Another's.
        ("README.md".into(), 400),
        ("notes.json".into(), 400),
        (days_ago(1, 5).temporary_name(), 0),
    ];
    for (name, days) in &kept {
        put_old(&place, name, *days);
    }
    let abandoned = days_ago(2, 6).temporary_name();
    put_old(&place, &abandoned, 2);
    let (held, run) = place.hold(&Faults::none(), Durability::None);
    assert!(place.run_path(&old[0]).exists(), "a run that has not ended removes nothing");
    held.release_with_cleanup().expect("released");
    let left = names(&place.workspace.root().join(RUNS));
    for name in old.iter().chain([&abandoned]) {
        assert!(!left.contains(name), "{name} is kept for ever");
    }
    for (name, _) in &kept {
        assert!(left.contains(name), "{name} is gone");
    }
    assert!(left.contains(&run.file_name()));
}

#[test]
fn ten_thousand_outcomes_are_kept() {
    let place = Place::new();
    fs::create_dir(place.workspace.root().join(RUNS)).expect("a directory");
    let names_made: Vec<String> = (0..10_003).map(|low| days_ago(1, low).file_name()).collect();
    for name in &names_made {
        fs::write(place.run_path(name), "").expect("written");
    }
    let (held, run) = place.hold(&Faults::none(), Durability::None);
    held.release_with_cleanup().expect("released");
    let left: Vec<String> = names(&place.workspace.root().join(RUNS));
    let ended: Vec<&String> = left.iter().filter(|name| RunId::from_file_name(name).is_some()).collect();
    assert_eq!(ended.len(), 10_000);
    assert!(left.contains(&run.file_name()));
    let mut made = names_made;
    made.sort_unstable();
    assert!(made[..4].iter().all(|name| !left.contains(name)), "the oldest go");
}

#[test]
fn unreadable_ticket_is_ended_and_takes_nothing_with_it() {
    for progress in [Progress::Open, Progress::Sealed] {
        for content in ["", "{\"run_id\": \"0", "[]", "garbage"] {
            let place = Place::new();
            let run = new_entry_id();
            place.put_unfinished(&progress.name(run), content);
            assert!(!place.is_consumed_for_good(run, content));
            let outcome = place.outcome();
            assert_eq!(
                (outcome.outcome, outcome.owner()),
                (Ending::Aborted, Owner::unknown()),
                "{content:?}"
            );
            assert_eq!(outcome.entry_ids, []);
        }
    }
}

/// Its entries are not known. It goes where people look, and says so.
#[test]
fn unreadable_committed_run_is_shown_and_its_entries_come_again() {
    let place = Place::new();
    let run = new_entry_id();
    let name = Progress::Committed.name(run);
    place.put_unfinished(&name, "{\"half\":");
    assert_eq!(place.offered().len(), 3);
    let pod = place.workspace.open(&place.world.start(OTHER));
    let (_, unreadable) = pod.past_runs(10).expect("listed");
    assert_eq!(unreadable.iter().map(|(run, _)| *run).collect::<Vec<_>>(), [run]);
    let (held, _) = pod.acquire(&other_pod()).expect("held");
    let [recovered] = held.recovered() else { panic!("{:?}", held.recovered()) };
    assert!(recovered.note.as_ref().is_some_and(|note| note.contains("can't be read")), "{recovered:?}");
    held.release_only(None).expect("released");
    assert_eq!(place.unfinished(), [] as [String; 0]);
    let error = pod.past_run(run).expect_err("unreadable");
    assert_eq!(
        (error.code, error.path.clone()),
        (ErrorCode::Unusable, Some(format!("runs/{}", run.file_name())))
    );
    assert_eq!(place.left(), 2);
}

/// What it names may be anything of anybody's: while it can't be read for a moment nobody gets entries.
#[test]
fn committed_run_that_cannot_be_read_for_a_moment_stops_everybody() {
    for op in [Op::Stat, Op::Open, Op::Read] {
        for kind in [FsErrorKind::Io, FsErrorKind::Access] {
            let place = Place::new();
            let run = new_entry_id();
            place.put_unfinished(&Progress::Committed.name(run), outcome_file(run, &place.consumed));
            let faults = Faults::by(move |_, call| {
                let fails = call.op == op && call.path.ends_with(".committed");
                if fails { Fault::Refuse(kind) } else { Fault::Pass }
            });
            let pod = place.workspace.open_faulty(&place.world.start(OTHER), &faults);
            assert!(pod.entry_ids().is_err(), "{op:?} {kind:?}");
            assert!(pod.summarize().is_err(), "{op:?} {kind:?}");
            assert!(pod.take_snapshot(Limits::default()).is_err(), "{op:?} {kind:?}");
            pod.acquire(&other_pod()).expect_err("it can't be ended");
            place.workspace.assert_nothing_left();
            assert_eq!(place.left(), 2, "{op:?} {kind:?}");
            assert!(place.is_consumed_for_good(run, "it can be read again"));
        }
    }
}

#[test]
fn committed_run_deletes_what_is_named_like_an_entry_and_nothing_else() {
    let place = Place::new();
    let outside = place.workspace.root().join("outside.json");
    fs::write(&outside, MINIMAL).expect("written");
    let upper = place.other.to_string().to_uppercase();
    place.workspace.put(&format!("{upper}.json"), MINIMAL);
    let run = new_entry_id();
    let good = place.consumed[0];
    let content = format!(
        r#"{{"run_id": "{run}", "outcome": "consolidated", "pod_name": "a\u001b[31m", "pid": 4294967295, "started_at": "when",
        "ended_at": "../..", "entry_ids": ["../outside", "../../outside", "/etc/passwd", "..", "", ".", "{upper}", "{good}",
        "{good}/../{other}", "{other}.json", " {other}", "{{{other}}}", "\u0000", ".consolidation.lock"]}}"#,
        other = place.other,
    );
    place.put_unfinished(&Progress::Committed.name(run), content);
    let pod = place.workspace.open(&place.world.start(OTHER));
    assert_eq!(pod.consumed().expect("read"), [good]);
    let (held, _) = pod.acquire(&other_pod()).expect("held");
    assert_eq!(held.recovered()[0].removed, 1);
    held.refresh().expect("the lock is where it was");
    held.release_only(None).expect("released");
    assert!(!place.has(good) && place.has(place.consumed[1]) && place.has(place.other));
    assert!(outside.exists() && place.workspace.staged(&format!("{upper}.json")).exists());
    assert_eq!(place.unfinished(), [] as [String; 0]);
}

#[test]
fn directories_links_and_pipes_named_like_unfinished_runs_are_left_alone() {
    for progress in Progress::ALL {
        let place = Place::new();
        let outside = place.workspace.root().join("outside");
        let [directory, link, dangling, pipe] =
            [(); 4].map(|()| place.unfinished_path(&progress.name(new_entry_id())));
        fs::write(&outside, outcome_file(new_entry_id(), &place.consumed)).expect("written");
        fs::create_dir_all(&directory).expect("a directory");
        symlink(&outside, &link).expect("a link");
        symlink("nowhere", &dangling).expect("a link");
        make_fifo(&pipe);
        let before = place.unfinished();
        assert_eq!(before.len(), 4);
        let system = place.world.start(OTHER);
        let root = place.workspace.open(&system);
        let listed = without_waiting_at(&pipe, move || {
            let (held, _) = root.acquire(&other_pod()).expect("held");
            assert_eq!(held.recovered(), []);
            held.release_only(None).expect("released");
            root.entry_ids().expect("listed").len()
        });
        assert_eq!(listed, 3, "{progress:?}: what a link names is not followed");
        assert_eq!(place.unfinished(), before, "{progress:?}");
        assert_eq!((place.left(), place.outcomes().len()), (2, 0), "{progress:?}");
        assert!(outside.exists());
    }
}

#[test]
fn directories_links_and_pipes_named_like_outcomes_are_unreadable_or_nothing() {
    let place = Place::new();
    let runs = place.workspace.root().join(RUNS);
    fs::create_dir(&runs).expect("a directory");
    let ids = [new_entry_id(), new_entry_id(), new_entry_id()];
    let outside = place.workspace.root().join("outside");
    fs::write(&outside, outcome_file(ids[1], &[])).expect("written");
    fs::create_dir(place.run_path(&ids[0].file_name())).expect("a directory");
    symlink(&outside, place.run_path(&ids[1].file_name())).expect("a link");
    let pipe = place.run_path(&ids[2].file_name());
    make_fifo(&pipe);
    let root = place.workspace.open(&place.world.start(OTHER));
    without_waiting_at(&pipe, move || {
        assert_eq!(root.past_runs(10).expect("listed"), (Vec::new(), Vec::new()));
        for id in ids {
            let error = root.past_run(id).expect_err("it is no file");
            assert_eq!(error.code, ErrorCode::Unusable, "{error}");
        }
    });
    let (held, run) = place.hold(&Faults::none(), Durability::None);
    held.release_with_cleanup().expect("released");
    assert!(place.is_consumed_for_good(run, "beside odd things"));
    assert_eq!(names(&runs).len(), 5, "{:?}", names(&runs));
}

#[test]
fn file_or_link_in_place_of_the_directories_of_runs_is_refused_and_not_touched() {
    for path in [RUNS, UNFINISHED_PATH] {
        for is_link in [false, true] {
            let place = Place::new();
            let elsewhere = tempfile::tempdir().expect("a directory");
            let run = new_entry_id();
            fs::write(
                elsewhere.path().join(Progress::Committed.name(run)),
                outcome_file(run, &place.consumed),
            )
            .expect("written");
            let there = names(elsewhere.path());
            if path == UNFINISHED_PATH {
                fs::create_dir(place.workspace.root().join(RUNS)).expect("a directory");
            }
            let odd = place.workspace.root().join(path);
            if is_link {
                symlink(elsewhere.path(), &odd).expect("a link");
            } else {
                fs::write(&odd, "mine").expect("a file");
            }
            let told = format!("{path}, a link: {is_link}");
            let pod = place.workspace.open(&place.world.start(OTHER));
            let error = pod.acquire(&other_pod()).expect_err("refused");
            assert_eq!(
                (error.code, error.path.as_deref()),
                (ErrorCode::WrongFileType, Some(path)),
                "{told}: {error}"
            );
            for error in [
                pod.entry_ids().expect_err("refused"),
                pod.summarize().expect_err("refused"),
                pod.take_snapshot(Limits::default()).map(drop).expect_err("refused"),
                pod.past_runs(10).map(drop).expect_err("refused"),
                pod.past_run(run).map(drop).expect_err("refused"),
            ] {
                assert_eq!(error.code, ErrorCode::WrongFileType, "{told}: {error}");
            }
            assert_eq!(pod.unlock(&other_pod(), true, None).expect("there is no lock"), None, "{told}");
            place.workspace.assert_nothing_left();
            assert_eq!((place.left(), names(elsewhere.path())), (2, there), "{told}");
            assert!(odd.symlink_metadata().is_ok(), "{told}");
        }
    }
}

#[test]
fn disk_that_is_full_at_the_commit_keeps_the_entries_and_frees_the_lock() {
    for fault in [Fault::Refuse(FsErrorKind::NoSpace), Fault::After(FsErrorKind::NoSpace)] {
        for op in [Op::Create, Op::Write, Op::Sync] {
            let place = Place::new();
            let faults = Faults::none();
            let (held, run) = place.hold(&faults, Durability::Full);
            faults.become_(move |_, call| if call.op == op { fault } else { Fault::Pass });
            let error = held.release_with_cleanup().expect_err("no space");
            assert_eq!(error.code, ErrorCode::NoSpace, "{error}");
            assert!(error.message.contains("outcome of the run"), "{error}");
            place.workspace.assert_nothing_left();
            assert!(!place.is_consumed_for_good(run, &format!("{op:?} {fault:?}")));
        }
    }
}

/// What is noted for people must not stand in anybody's way.
#[test]
fn disk_that_is_full_while_an_outcome_is_noted_hinders_nobody() {
    let full = || {
        Faults::by(|_, call| {
            let fails = call.op == Op::Write && call.path.starts_with(RUNS);
            if fails { Fault::Refuse(FsErrorKind::NoSpace) } else { Fault::Pass }
        })
    };
    let place = Place::new();
    let (held, run) = place.hold(&full(), Durability::Full);
    held.release_only(Some("it failed")).expect("released");
    assert_eq!(place.outcomes(), []);
    place.put_unfinished(&Progress::Open.name(run), outcome_file(run, &place.consumed));
    let pod = place.workspace.open_faulty(&place.world.start(OTHER), &full());
    let (held, _) = pod.acquire(&other_pod()).expect("held");
    held.release_only(None).expect("released");
    assert_eq!(place.unfinished(), [Progress::Sealed.name(run)], "sealed, which is what matters");
    assert_eq!(place.left(), 2);
    assert!(!place.is_consumed_for_good(run, "there is space again"));
    assert_eq!(place.outcome().outcome, Ending::Aborted);
}

#[test]
fn several_runs_under_one_lock_have_an_outcome_each() {
    let place = Place::new();
    let faults = Faults::none();
    let pod = place.workspace.open_faulty(&place.world.start(OWN), &faults);
    let (mut held, first) = place.hold(&faults, Durability::Full);
    let part = held.clean_up(1).expect("committed");
    assert_eq!((part.removed, part.left, part.lost), (1, 1, false));
    assert_eq!(place.offered(), [place.other], "all of them are consumed from the commit on");
    let error = pod.record_consumed(&mut held, vec![place.other]).expect_err("between commit and end");
    assert_eq!(error.code, ErrorCode::InvalidInput, "{error}");
    let part = held.clean_up(100).expect("ended");
    assert_eq!((part.removed, part.left), (1, 0));
    assert_eq!(held.clean_up(100).expect("nothing to do").removed, 0);
    assert_eq!(place.outcome().run_id, first.to_string());

    pod.record_consumed(&mut held, vec![place.other]).expect("another run");
    let second = held.record().run_id.as_deref().and_then(RunId::parse).expect("a run has begun");
    assert!(second > first, "they are named in their order");
    assert_eq!(held.release_with_cleanup().expect("released").removed, 1);
    let outcomes = place.outcomes();
    assert_eq!(outcomes.iter().map(held_run).collect::<Vec<_>>(), [first, second]);
    assert_eq!(outcomes[0].entry_ids, place.consumed);
    assert_eq!(outcomes[1].entry_ids, [place.other]);
    assert!(outcomes.iter().all(|known| known.outcome == Ending::Consolidated));
    assert_eq!(place.unfinished(), [] as [String; 0]);
    place.workspace.assert_nothing_left();
}

#[test]
fn owner_that_dies_in_its_second_run_has_ended_the_first() {
    let place = Place::new();
    let pod = place.workspace.open_faulty(&place.world.start(OWN), &Faults::none());
    let (mut held, first) = place.hold(&Faults::none(), Durability::Full);
    held.clean_up(100).expect("ended");
    pod.record_consumed(&mut held, vec![place.other]).expect("another run");
    drop(held);
    place.world.end(OWN);
    let successor = place.workspace.open(&place.world.start(OTHER));
    let (held, _) = successor.acquire(&other_pod()).expect("held");
    assert_eq!(held.recovered().iter().map(|it| it.ending).collect::<Vec<_>>(), [Ending::Aborted]);
    let outcomes = place.outcomes();
    assert_eq!(
        outcomes.iter().map(|it| it.outcome).collect::<Vec<_>>(),
        [Ending::Consolidated, Ending::Aborted]
    );
    assert_eq!(held_run(&outcomes[0]), first);
    assert!(place.has(place.other));
}

/// The run that has ended stays in the record until another is recorded.
#[test]
fn owner_that_dies_between_two_runs_leaves_the_outcome_of_the_first() {
    let place = Place::new();
    let (mut held, run) = place.hold(&Faults::none(), Durability::Full);
    held.clean_up(100).expect("ended");
    drop(held);
    place.world.end(OWN);
    assert!(place.is_consumed_for_good(run, "dead between two runs"));
    assert_eq!(place.outcome().outcome, Ending::Consolidated);
}

#[test]
fn second_try_of_a_commit_that_could_not_be_synchronised_is_no_second_commit() {
    let place = Place::new();
    let faults = Faults::none();
    let (mut held, run) = place.hold(&faults, Durability::Full);
    faults.become_(|_, call| {
        let fails = call.op == Op::SyncNames && call.path == UNFINISHED_PATH;
        if fails { Fault::Refuse(FsErrorKind::Io) } else { Fault::Pass }
    });
    for _ in 0..3 {
        let error = held.clean_up(1).expect_err("not on the disk");
        assert!(error.message.contains("the run is committed"), "{error}");
        assert_eq!(place.left(), 2, "nothing is deleted before the commit is on the disk");
        assert_eq!(place.unfinished(), [Progress::Committed.name(run)]);
        assert_eq!(place.offered(), [place.other]);
    }
    faults.become_(|_, _| Fault::Pass);
    assert_eq!(held.release_with_cleanup().expect("released").removed, 2);
    assert!(place.is_consumed_for_good(run, "tried again"));
    place.workspace.assert_nothing_left();
}

/// A second ticket beside the commit would be sealed, and the outcome overwritten with that.
#[test]
fn second_try_of_a_commit_that_is_killed_before_any_call_leaves_it_committed() {
    for number in 0.. {
        let place = Place::new();
        let faults = Faults::none();
        let (mut held, run) = place.hold(&faults, Durability::Full);
        faults.become_(|_, call| {
            let fails = call.op == Op::SyncNames && call.path == UNFINISHED_PATH;
            if fails { Fault::Refuse(FsErrorKind::Io) } else { Fault::Pass }
        });
        held.clean_up(1).expect_err("not on the disk");
        faults.become_(killed_before(number));
        let _ = held.release_with_cleanup();
        let to_the_end = faults.calls().len() <= number;
        place.world.end(OWN);
        let told = format!("killed before call {number} of the second try");
        assert!(place.is_consumed_for_good(run, &told), "{told}");
        if to_the_end {
            break;
        }
    }
}

/// Its owner may have died between the rename and the synchronisation of the directory.
#[test]
fn recovery_deletes_nothing_before_the_commit_is_on_the_disk() {
    let place = Place::new();
    let run = new_entry_id();
    place.put_unfinished(&Progress::Committed.name(run), outcome_file(run, &place.consumed));
    let faults = Faults::none();
    let pod = place.workspace.open_faulty(&place.world.start(OTHER), &faults);
    let full = AcquireOptions { durability: Durability::Full, ..other_pod() };
    let (held, _) = pod.acquire(&full).expect("held");
    let changes = told(&faults, run, &place.consumed);
    let from =
        changes.iter().position(|it| it.starts_with("SyncNames runs/.unfinished")).expect("synchronised");
    assert_eq!(
        changes[from..],
        [
            "SyncNames runs/.unfinished",
            "Unlink _staging/E0.json",
            "Unlink _staging/E1.json",
            "SyncNames _staging",
            "Rename runs/.unfinished/RUN.committed -> runs/RUN.json",
        ]
    );
    held.release_only(None).expect("released");
}

/// One that lost its lock may end long after those that began later, and its id is of when it began.
#[test]
fn run_that_ended_last_is_listed_first() {
    let place = Place::new();
    fs::create_dir(place.workspace.root().join(RUNS)).expect("a directory");
    let ids: Vec<RunId> = (0..4).map(|_| new_entry_id()).collect();
    for (id, ended) in ids.iter().zip([9, 2, 3, 1]) {
        let mut outcome =
            Outcome::new(*id, Ending::Failed, Owner::unknown(), Time::new(1_780_000_000, 0), Vec::new());
        outcome.ended_at = to_rfc3339(Time::new(1_780_000_000 + ended, 500_000_000 * u32::from(ended == 2)));
        fs::write(place.run_path(&id.file_name()), outcome.to_file()).expect("written");
    }
    let pod = place.workspace.open(&place.world.start(OTHER));
    let listed = |max| pod.past_runs(max).expect("listed").0.iter().map(|it| it.run).collect::<Vec<_>>();
    assert_eq!(listed(10), [ids[0], ids[2], ids[1], ids[3]]);
    assert_eq!(listed(2), [ids[2], ids[3]], "of those that began last");
}

#[test]
fn runs_are_listed_the_newest_first_and_not_more_than_asked_for() {
    let place = Place::new();
    let ids: Vec<RunId> = (0..5).map(|_| new_entry_id()).collect();
    fs::create_dir(place.workspace.root().join(RUNS)).expect("a directory");
    for id in &ids[..3] {
        fs::write(place.run_path(&id.file_name()), outcome_file(*id, &[])).expect("written");
    }
    fs::write(place.run_path(&ids[3].file_name()), "torn").expect("written");
    place.put_unfinished(&Progress::Committed.name(ids[4]), outcome_file(ids[4], &place.consumed));
    place.put_unfinished(&Progress::Open.name(new_entry_id()), outcome_file(ids[4], &[]));
    let pod = place.workspace.open(&place.world.start(OTHER));
    let (past, unreadable) = pod.past_runs(10).expect("listed");
    assert_eq!(past.iter().map(|it| it.run).collect::<Vec<_>>(), [ids[4], ids[2], ids[1], ids[0]]);
    assert_eq!(past.iter().map(|it| it.pending).collect::<Vec<_>>(), [true, false, false, false]);
    assert_eq!(unreadable.iter().map(|it| it.0).collect::<Vec<_>>(), [ids[3]]);
    let (past, unreadable) = pod.past_runs(3).expect("listed");
    assert_eq!((past.len(), unreadable.len()), (2, 1));
    assert_eq!(pod.past_runs(0).expect("listed"), (Vec::new(), Vec::new()));
    assert_eq!(pod.past_run(new_entry_id()).expect("read"), None);
    assert!(place.has(place.consumed[0]), "who looks deletes nothing");
}

/// A ticket that no commit wrote names entries that nobody may have consumed.
#[test]
fn ticket_that_is_not_that_of_a_committed_run_of_its_name_deletes_nothing() {
    let other_run = new_entry_id();
    for (ending, named) in [
        ("failed", None),
        ("aborted", None),
        ("unlocked", None),
        ("consolidated", Some(other_run.to_string())),
        ("consolidated", Some("../x".into())),
    ] {
        let place = Place::new();
        let run = new_entry_id();
        let content = format!(
            r#"{{"run_id": "{}", "outcome": "{ending}", "pod_name": "", "pid": 0, "started_at": "", "ended_at": "",
            "entry_ids": ["{}"]}}"#,
            named.unwrap_or_else(|| run.to_string()),
            place.consumed[0],
        );
        place.put_unfinished(&Progress::Committed.name(run), content);
        let pod = place.workspace.open(&place.world.start(OTHER));
        assert_eq!(pod.consumed().expect("read"), [], "{ending}");
        let (held, _) = pod.acquire(&other_pod()).expect("held");
        assert_eq!(held.recovered()[0].removed, 0, "{ending}");
        held.release_only(None).expect("released");
        assert_eq!(place.left(), 2, "{ending}");
    }
}

#[test]
fn ticket_that_can_not_be_read_does_not_replace_the_outcome_of_its_run() {
    let place = Place::new();
    let (held, run) = place.hold(&Faults::none(), Durability::None);
    held.release_with_cleanup().expect("released");
    place.put_unfinished(&Progress::Committed.name(run), "x");
    let pod = place.workspace.open(&place.world.start(OTHER));
    pod.acquire(&other_pod()).expect("held").0.release_only(None).expect("released");
    assert_eq!(place.outcome().outcome, Ending::Consolidated);
    assert_eq!(place.unfinished(), [] as [String; 0]);
}

#[test]
fn ticket_whose_sealed_name_is_taken_by_something_else_holds_nobody_up() {
    let place = Place::new();
    let run = new_entry_id();
    place.put_unfinished(&Progress::Open.name(run), "torn");
    fs::create_dir(place.unfinished_path(&Progress::Sealed.name(run))).expect("a directory");
    let pod = place.workspace.open(&place.world.start(OTHER));
    pod.acquire(&other_pod()).expect("held").0.release_only(None).expect("released");
    assert_eq!(place.unfinished(), [Progress::Sealed.name(run)]);
}

#[test]
fn run_whose_lock_was_removed_by_hand_is_noted_as_failed() {
    let place = Place::new();
    let (held, run) = place.hold(&Faults::none(), Durability::None);
    fs::remove_file(place.workspace.lock()).expect("removed");
    let error = held.release_only(None).expect_err("the lock is gone");
    assert_eq!(error.code, ErrorCode::LockLost);
    let outcome = place.outcome();
    assert_eq!((outcome.run_id, outcome.outcome), (run.to_string(), Ending::Failed));
    assert!(outcome.reason.is_some_and(|reason| reason.contains("no longer ours")));
}
