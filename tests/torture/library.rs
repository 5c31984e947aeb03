//! One process: threads with handles of their own and shared ones, on runtimes of their own and shared
//! ones, that stage and take the lock. Some runtimes are so short of time or memory that calls fail at
//! any moment.
//!
//! Whoever has the lock stands in a slot. It stands there firmly for as long as nothing but itself can
//! end its hold: then nobody else may come. Invariant: it gives up the firm stand before it does what may
//! end the hold, and so does whoever removes its lock by force for it. Force is used at any moment, also
//! while the other one commits: it may overlap then, and what it consumed is still consumed once.

use super::checker::{Event, Run};
use super::{Chance, Odd, Scene, count, counts, for_the_time, number_of, payload, run_of};
use crate::support::TestWorkspace;
use consolidation_guest::layout::EntryId;
use consolidation_host::{
    AcquireOptions, Durability, Ending, Error, ErrorCode, Limits, Lock, LockStatus, Runtime, Snapshot,
    Takeover, Workspace,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// So many entries wait at the most before nobody stages any more.
const MAX_BACKLOG: u64 = 200;

/// So little time that a call that does much often fails. It may be any call, also one that clears what
/// another left, so it is not for locks.
const NO_TIME: Duration = Duration::from_millis(3);
/// So little that taking the lock often fails where others want it too, and clearing that up does not.
const SHORT_TIME: Duration = Duration::from_millis(400);
/// So little memory, in pages more than a small call needs, that one that works on many entries fails,
/// somewhere in between.
const LITTLE_MEMORY: [usize; 2] = [1, 3];

counts!(
    Counts: staged, acquired, refused, consolidated, removed, given_up, passed_on, dropped, forced, lost, refreshed,
    refused_beside, looks, timeouts, out_of_memory, locks_cleared
);

/// A handle. Calls of one that is steady never fail for want of time or memory.
#[derive(Clone)]
struct Handle {
    workspace: Workspace,
    steady: bool,
    /// It may take the lock.
    locks: bool,
}

/// The lock, as one thread has it.
struct Hold {
    lock: Lock,
    steady: bool,
    /// What is to be deleted; none: nothing is.
    consumed: Option<Vec<EntryId>>,
    stake: Stake,
}

impl Hold {
    fn run(&self) -> Run {
        self.stake.run
    }
}

/// Where force was used, and who was there then.
#[derive(Default)]
struct Force {
    /// Goes up before and after each use, so it is odd during one.
    uses: u64,
    /// The runs that are taking the lock or have it, with the uses before them.
    runs: BTreeMap<Run, u64>,
    /// Those of them that were there together with one that was there before the last use.
    beside_late: BTreeSet<Run>,
}

/// A run that takes the lock or has it.
struct Stake {
    force: Arc<Mutex<Force>>,
    run: Run,
    uses: u64,
}

impl Stake {
    fn new(force: &Arc<Mutex<Force>>, run: Run) -> Self {
        let uses = {
            let mut force = force.lock().expect("no panic in between");
            let uses = force.uses;
            force.runs.insert(run, uses);
            uses
        };
        Stake { force: Arc::clone(force), run, uses }
    }

    /// May its lock have been removed by force? Or have been replaced by one whose lock was: it may have
    /// been about to rewrite it.
    fn may_be_forced(&self) -> bool {
        let force = self.force.lock().expect("no panic in between");
        let beside_late =
            force.beside_late.contains(&self.run) || force.runs.values().any(|uses| *uses < self.uses);
        beside_late || force.uses != self.uses || !force.uses.is_multiple_of(2)
    }
}

impl Drop for Stake {
    fn drop(&mut self) {
        let mut force = self.force.lock().expect("no panic in between");
        force.runs.remove(&self.run);
        force.beside_late.remove(&self.run);
        if force.uses != self.uses {
            let others: Vec<Run> = force.runs.keys().copied().collect();
            force.beside_late.extend(others);
        }
    }
}

/// Who stands in the slot.
struct Holder {
    run: Run,
    firm: bool,
}

struct Torture<'a> {
    scene: &'a Scene,
    handles: Vec<Handle>,
    events: Mutex<Vec<Event>>,
    slot: Mutex<Option<Holder>>,
    force: Arc<Mutex<Force>>,
    /// Force is used by one at a time.
    forcing: Mutex<()>,
    /// A lock that waits for a thread to release it.
    shelf: Mutex<Option<Hold>>,
    odd: Odd,
    counts: Counts,
    over: AtomicBool,
    next_run: AtomicU32,
    next_number: AtomicU64,
    /// How many entries are there, lately.
    waiting: AtomicU64,
}

impl<'a> Torture<'a> {
    fn new(scene: &'a Scene) -> Self {
        let own = Runtime::new().expect("a runtime");
        let hasty = Runtime::builder().call_timeout(NO_TIME).build().expect("a runtime");
        let impatient = Runtime::builder().call_timeout(SHORT_TIME).build().expect("a runtime");
        let enough = enough_memory();
        let tight = LITTLE_MEMORY.map(|more| with_memory(enough + more));
        let open = |workspace: Result<Workspace, Error>, steady, locks| Handle {
            workspace: workspace.expect("the workspace opens").with_durability(Durability::None),
            steady,
            locks,
        };
        let root = scene.root();
        Torture {
            scene,
            handles: vec![
                open(Workspace::open(root), true, true),
                open(Workspace::open(root), true, true),
                open(own.open(root), true, true),
                open(own.open(root), true, true),
                open(impatient.open(root), false, true),
                open(tight[0].open(root), false, true),
                open(tight[1].open(root), false, true),
                open(hasty.open(root), false, false),
            ],
            events: Mutex::default(),
            slot: Mutex::default(),
            force: Arc::default(),
            forcing: Mutex::default(),
            shelf: Mutex::default(),
            odd: Odd::default(),
            counts: Counts::default(),
            over: AtomicBool::new(false),
            next_run: AtomicU32::new(0),
            next_number: AtomicU64::new(0),
            waiting: AtomicU64::new(0),
        }
    }

    fn note(&self, events: impl IntoIterator<Item = Event>) {
        self.events.lock().expect("no panic in between").extend(events);
    }

    /// Any handle: one of those that are there, a clone of it, or one that is opened for this one time.
    fn handle(&self, chance: &mut Chance) -> Handle {
        if chance.one_in(40) {
            return self.another_handle(chance);
        }
        let mut handle = chance.of(&self.handles).clone();
        if chance.one_in(20) {
            handle.workspace = handle.workspace.with_durability(Durability::Full);
        }
        handle
    }

    /// A steady one, most often not a clone of another.
    fn another_handle(&self, chance: &mut Chance) -> Handle {
        let root = self.scene.root();
        let workspace = match chance.within(0..20) {
            0 => Runtime::new().expect("a runtime").open(root),
            1..10 => Workspace::open(root),
            _ => return self.handles[0].clone(),
        };
        Handle { workspace: workspace.expect("the workspace opens"), steady: true, locks: true }
    }

    /// What a call outside of a lock came to; none if it failed for want of time or memory.
    fn seen<T>(&self, handle: &Handle, result: Result<T, Error>) -> Option<Result<T, Error>> {
        match result {
            Err(error) if self.is_fault(&error) => {
                if handle.steady {
                    self.odd.note(format!("a steady handle: {error:?}"));
                }
                None
            }
            other => Some(other),
        }
    }

    /// Did the instance come to its end in the call, or before it?
    fn is_fault(&self, error: &Error) -> bool {
        match error {
            Error::Timeout { .. } => count(&self.counts.timeouts),
            Error::OutOfMemory { .. } => count(&self.counts.out_of_memory),
            Error::Dead { .. } => {}
            _ => return false,
        }
        true
    }

    fn work(&self, mut chance: Chance) {
        while !self.over.load(Ordering::Relaxed) {
            match chance.within(0..100) {
                0..25 => self.stage(&mut chance),
                25..50 => self.consolidate(&mut chance),
                50..57 => self.look(&mut chance),
                57..60 => self.unlock(&mut chance),
                60 if chance.one_in(5) => self.force_any(&mut chance),
                _ => self.finish_another_ones(),
            }
            chance.pause(Duration::from_millis(3));
        }
    }

    fn stage(&self, chance: &mut Chance) {
        if self.waiting.load(Ordering::Relaxed) > MAX_BACKLOG {
            return;
        }
        let handle = self.handle(chance);
        let many = if chance.one_in(30) { chance.within(100..700) } else { chance.within(1..15) };
        let first = self.next_number.fetch_add(many, Ordering::Relaxed);
        self.note([Event::Intended { first, count: many }]);
        let payloads: Vec<String> = (first..first + many).map(payload).collect();
        let staged = match &payloads[..] {
            [one] => handle.workspace.stage(one).map(|id| vec![id]),
            several => handle.workspace.stage_many(several, None),
        };
        match self.seen(&handle, staged) {
            Some(Ok(ids)) if ids.len() as u64 == many => {
                self.counts.staged.fetch_add(many, Ordering::Relaxed);
                self.note((first..).zip(&ids).map(|(number, id)| Event::Staged { number, id: parse(id) }));
            }
            None => {}
            Some(other) => self.odd.note(format!("staging {many}: {other:?}")),
        }
    }

    fn look(&self, chance: &mut Chance) {
        let handle = self.handle(chance);
        let workspace = &handle.workspace;
        count(&self.counts.looks);
        match chance.within(0..4) {
            0 => match self.seen(&handle, workspace.lock_status()) {
                None | Some(Ok(LockStatus::Free | LockStatus::Held(_))) => {}
                other => self.odd.note(format!("{other:?}")),
            },
            1 => match self.seen(&handle, workspace.summarize()) {
                None => {}
                Some(Ok(summary)) if summary.unusable.is_empty() => {}
                other => self.odd.note(format!("{other:?}")),
            },
            2 => {
                let Some(Ok(ids)) = self.seen(&handle, workspace.list()) else { return };
                let Some(id) = ids.first() else { return };
                match self.seen(&handle, workspace.read(id)) {
                    None => {}
                    Some(Ok(entry)) if number_of(&entry.json).is_some() => {}
                    Some(Err(error)) if error.code() == ErrorCode::NotFound => {}
                    other => self.odd.note(format!("{other:?}")),
                }
            }
            _ => {
                // Dropped after some of it, or all, was read.
                let Some(Ok(snapshot)) = self.seen(&handle, workspace.snapshot(limits(chance))) else {
                    return;
                };
                for _ in 0..chance.within(0..4) {
                    if self.read(&snapshot, chance, |result| self.seen(&handle, result)?.ok()).is_none() {
                        break;
                    }
                }
            }
        }
    }

    /// Some entries of a snapshot, and whether that was all; none after a failure.
    fn read(
        &self,
        snapshot: &Snapshot<'_>,
        chance: &mut Chance,
        seen: impl FnOnce(Result<consolidation_host::Batch, Error>) -> Option<consolidation_host::Batch>,
    ) -> Option<(Vec<(u64, EntryId)>, bool)> {
        let entries = u32::try_from(chance.within(1..400)).expect("a small number");
        let batch = seen(snapshot.next_batch(entries, chance.within(1..1_000_000)))?;
        for file in batch.unusable {
            self.odd.note(format!("{file:?}"));
        }
        let number = |json: &str| {
            number_of(json).unwrap_or_else(|| {
                self.odd.note(format!("read {json}"));
                u64::MAX
            })
        };
        let entries = batch.entries.iter().map(|entry| (number(&entry.json), parse(&entry.id))).collect();
        Some((entries, batch.done))
    }

    fn unlock(&self, chance: &mut Chance) {
        let handle = self.handle(chance);
        if !handle.locks {
            return;
        }
        let stake = Stake::new(&self.force, self.next_run.fetch_add(1, Ordering::Relaxed));
        match self.seen(&handle, handle.workspace.unlock("unlocker", false, None)) {
            None | Some(Ok(None)) => {}
            Some(Err(error)) if error.code() == ErrorCode::InUse => {}
            // Its own one, for the moment for which it takes it.
            Some(Err(error)) if error.code() == ErrorCode::LockLost && stake.may_be_forced() => {}
            other => self.odd.note(format!("unlock: {other:?}")),
        }
    }
}

/// The slot.
impl Torture<'_> {
    fn enter(&self, hold: &Hold) {
        let run = hold.run();
        let mut slot = self.slot.lock().expect("no panic in between");
        let may_be_forced = hold.stake.may_be_forced();
        if !may_be_forced && slot.as_ref().is_some_and(|holder| holder.firm) {
            self.note([Event::Overlap { run }]);
        }
        *slot = Some(Holder { run, firm: hold.steady && !may_be_forced });
        self.note([Event::Entered { run }]);
    }

    /// Removes the lock, whoever has it.
    fn force(&self, chance: &mut Chance) -> Result<Option<Takeover>, Error> {
        let by = self.another_handle(chance).workspace;
        let _one = self.forcing.lock().expect("no panic in between");
        let mark = || {
            let mut slot = self.slot.lock().expect("no panic in between");
            self.force.lock().expect("no panic in between").uses += 1;
            if let Some(holder) = slot.as_mut() {
                holder.firm = false;
            }
        };
        mark();
        let removed = by.unlock("force", true, Some("torture"));
        // Whoever took the lock since then may have lost it all the same.
        mark();
        count(&self.counts.forced);
        removed
    }

    /// From here on others may come.
    fn give_way(&self, run: Run) {
        if let Some(holder) = self.slot.lock().expect("no panic in between").as_mut()
            && holder.run == run
        {
            holder.firm = false;
        }
    }

    fn leave(&self, run: Run) {
        self.slot.lock().expect("no panic in between").take_if(|holder| holder.run == run);
    }

    /// The end of a run, however it came.
    fn end(&self, stake: &Stake) {
        self.leave(stake.run);
        if stake.may_be_forced() {
            self.note([Event::Forced { run: stake.run }]);
        }
    }

    fn stands(&self, run: Run) -> bool {
        self.slot.lock().expect("no panic in between").as_ref().is_some_and(|holder| holder.run == run)
    }
}

/// Work under the lock.
impl Torture<'_> {
    fn acquire(&self, handle: &Handle, chance: &mut Chance) -> Option<Hold> {
        let run = self.next_run.fetch_add(1, Ordering::Relaxed);
        let lease = *chance.of(&[None, Some(Duration::from_secs(1)), Some(Duration::from_secs(60))]);
        let options = AcquireOptions { lease, ..AcquireOptions::new(format!("pod-{run}")) };
        let stake = Stake::new(&self.force, run);
        let acquired = handle.workspace.acquire_with(&options);
        match self.seen(handle, acquired)? {
            Ok(lock) => {
                if let Some(takeover) = lock.took_over() {
                    self.odd.note(format!("{run} took over {takeover:?}"));
                }
                count(&self.counts.acquired);
                let hold = Hold { lock, steady: handle.steady, consumed: None, stake };
                self.enter(&hold);
                Some(hold)
            }
            Err(error) if error.code() == ErrorCode::InUse => {
                count(&self.counts.refused);
                // Those who come back at once stand in each other's way.
                drop(stake);
                chance.pause(Duration::from_millis(40));
                None
            }
            Err(error) => {
                self.odd.note(format!("acquire: {error:?}"));
                None
            }
        }
    }

    /// What a call under the lock came to; none if the lock is gone with it.
    fn under<T>(&self, hold: &Hold, result: Result<T, Error>) -> Option<T> {
        match result {
            Ok(value) => {
                // A lease that could not be renewed for want of time: it was lost before others came.
                // The slot is looked at first: whoever stands there came after the loss.
                let lost = || hold.stake.may_be_forced() || !hold.steady && hold.lock.is_lost();
                if !self.stands(hold.run()) && !lost() {
                    self.note([Event::Overlap { run: hold.run() }]);
                }
                Some(value)
            }
            Err(error) => {
                if !hold.lock.is_lost() {
                    self.odd.note(format!("run {} is not lost after {error:?}", hold.run()));
                }
                match error.code() {
                    ErrorCode::LockLost if hold.stake.may_be_forced() => {}
                    _ if self.is_fault(&error) && !hold.steady => self.see_cleared(hold.run()),
                    _ => self.odd.note(format!("run {}: {error:?}", hold.run())),
                }
                self.leave(hold.run());
                None
            }
        }
    }

    /// After a failure of the component the lock is cleared at once: it does not wait for the process to
    /// end.
    fn see_cleared(&self, run: Run) {
        let steady = &self.handles[0].workspace;
        match steady.lock_status() {
            Ok(LockStatus::Held(holder)) if run_of(&holder.owner.pod_name) == Some(run) => {
                self.odd.note(format!("the lock of run {run} was not cleared"));
                // So that others can go on.
                let _ = steady.unlock("force", true, None);
            }
            _ => count(&self.counts.locks_cleared),
        }
    }

    fn consolidate(&self, chance: &mut Chance) {
        let handle = self.handle(chance);
        if !handle.locks {
            return;
        }
        let Some(mut hold) = self.acquire(&handle, chance) else { return };
        if hold.steady && chance.one_in(5) {
            self.refuse_others(&hold, chance);
        }
        if self.work_under(&mut hold, chance).is_none() {
            // The handle is dead or the lock is lost, and whatever is asked of it now, it does not touch
            // what is another's.
            let Hold { lock, stake, steady, .. } = hold;
            let run = stake.run;
            let released =
                if chance.one_in(2) { lock.release_with_cleanup() } else { lock.release_only(None) };
            match released {
                Err(Error::Dead { .. }) => {}
                Err(error) if !steady && self.is_fault(&error) => {}
                Err(error) if error.code() == ErrorCode::LockLost && stake.may_be_forced() => {}
                // It was about to rewrite the lock when that was removed, and so made it anew.
                Ok(report) if report.removed == 0 && stake.may_be_forced() => {}
                other => self.odd.note(format!("run {run}, whose lock is gone: {other:?}")),
            }
            self.end(&stake);
            return self.note([Event::Kept { run }]);
        }
        match chance.within(0..100) {
            0..10 => hold.consumed = None,
            10..15 if hold.steady => return self.lose_by_force(hold, chance),
            15..20 if hold.steady => return self.drop_unreleased(hold, chance),
            20..30 => {
                let earlier = self.shelf.lock().expect("no panic in between").replace(hold);
                if let Some(earlier) = earlier {
                    // It was lost for want of time, or else there would be no second one.
                    self.release(earlier);
                }
                return;
            }
            _ => {}
        }
        self.release(hold);
    }

    /// Reads, and sets what is to be deleted.
    fn work_under(&self, hold: &mut Hold, chance: &mut Chance) -> Option<()> {
        let under_the_lock = &*hold;
        let snapshot = self.under(under_the_lock, hold.lock.snapshot(limits(chance)))?;
        let mut read = Vec::new();
        let named = chance.one_in(2);
        if named {
            self.under(under_the_lock, hold.lock.record_snapshot(&snapshot))?;
        }
        let readers = if chance.one_in(10) { 2 } else { 1 };
        let batches = chance.within(0..5);
        let lots = thread::scope(|scope| {
            let readers: Vec<_> = (0..readers)
                .map(|_| {
                    let (mut chance, snapshot) = (chance.fork(), &snapshot);
                    scope.spawn(move || {
                        let mut read = Vec::new();
                        for _ in 0..batches {
                            let (entries, done) = self
                                .read(snapshot, &mut chance, |result| self.under(under_the_lock, result))?;
                            read.extend(entries);
                            if done {
                                break;
                            }
                        }
                        Some(read)
                    })
                })
                .collect();
            readers.into_iter().map(|reader| reader.join().expect("it does not panic")).collect::<Vec<_>>()
        });
        let mut failed = false;
        for lot in lots {
            match lot {
                Some(lot) => read.extend(lot),
                None => failed = true,
            }
        }
        // Two readers share them out.
        read.sort_unstable_by_key(|(_, id)| *id);
        let run = hold.run();
        self.note(read.iter().map(|&(number, id)| Event::Handed { run, number, id }));
        if failed {
            return None;
        }
        if chance.one_in(100) {
            // Long enough for a lease of a second to be renewed.
            thread::sleep(Duration::from_millis(500));
            count(&self.counts.refreshed);
        } else {
            chance.pause(Duration::from_millis(3));
        }
        let consumed: Vec<EntryId> = if chance.one_in(2) {
            self.under(under_the_lock, hold.lock.record_snapshot(&snapshot))?;
            read.iter().map(|(_, id)| *id).collect()
        } else {
            // Any part of it. An earlier part does not count any more.
            if chance.one_in(3) {
                let first: Vec<String> = read.iter().take(2).map(|(_, id)| id.to_string()).collect();
                self.under(under_the_lock, hold.lock.record_consumed(&first))?;
            }
            let part: Vec<EntryId> = read.iter().filter(|_| !chance.one_in(3)).map(|(_, id)| *id).collect();
            let texts: Vec<String> = part.iter().map(EntryId::to_string).collect();
            self.under(under_the_lock, hold.lock.record_consumed(&texts))?;
            part
        };
        drop(snapshot);
        hold.consumed = Some(consumed);
        Some(())
    }

    /// As long as one holds it, no other handle in this process gets it.
    fn refuse_others(&self, hold: &Hold, chance: &mut Chance) {
        let other = self.another_handle(chance).workspace;
        let pod = format!("pod-{}", hold.run());
        let refused = if chance.one_in(2) {
            other.acquire("beside").and_then(|lock| lock.release_only(None)).map(drop)
        } else {
            other.unlock("beside", false, None).map(drop)
        };
        let status = other.lock_status();
        if hold.stake.may_be_forced() {
            return;
        }
        count(&self.counts.refused_beside);
        let own = std::process::id();
        match refused {
            Err(error)
                if error.code() == ErrorCode::InUse
                    && error.owner().is_some_and(|owner| (owner.pid, &owner.pod_name) == (own, &pod)) => {}
            other => self.odd.note(format!("beside {pod}: {other:?}")),
        }
        match status {
            Ok(LockStatus::Held(holder)) if holder.owner.pod_name == pod => {}
            other => self.odd.note(format!("{pod} holds, and the lock is {other:?}")),
        }
    }

    fn release(&self, hold: Hold) {
        let Hold { lock, steady, consumed, stake } = hold;
        let run = stake.run;
        self.give_way(run);
        // Decided before anything is deleted.
        self.note(consumed.iter().flatten().map(|&id| Event::Consumed { run, id }));
        let lost = lock.is_lost();
        let released = if consumed.is_some() { lock.release_with_cleanup() } else { lock.release_only(None) };
        self.end(&stake);
        match released {
            Ok(report) => {
                // After the commit others may do the rest of the deletes, if the lock was lost.
                let helped = report.missing != 0 || report.lost;
                let odd = !report.failed.is_empty() || report.left != 0;
                if odd || helped && !stake.may_be_forced() {
                    self.odd.note(format!("run {run}: {report:?}"));
                }
                self.counts.removed.fetch_add(report.removed, Ordering::Relaxed);
                let removed = report.removed + report.missing;
                if consumed.is_some() {
                    self.note([Event::Reported { run, removed }]);
                    count(&self.counts.consolidated);
                } else {
                    self.note([Event::Kept { run }]);
                    count(&self.counts.given_up);
                }
            }
            Err(error) if !steady && (self.is_fault(&error) || lost) => self.see_cleared(run),
            Err(error) if error.code() == ErrorCode::LockLost && stake.may_be_forced() => {
                count(&self.counts.lost);
                self.note([Event::Kept { run }]);
            }
            Err(error) => self.odd.note(format!("release of run {run}: {error:?}")),
        }
    }

    fn finish_another_ones(&self) {
        let hold = self.shelf.lock().expect("no panic in between").take();
        if let Some(hold) = hold {
            count(&self.counts.passed_on);
            self.release(hold);
        }
    }

    /// Its lock is removed by force: from then on it does nothing any more.
    fn lose_by_force(&self, hold: Hold, chance: &mut Chance) {
        match self.force(chance) {
            Ok(None | Some(Takeover::Forced(_))) => {}
            other => self.odd.note(format!("force on run {}: {other:?}", hold.run())),
        }
        chance.pause(Duration::from_millis(2));
        let Hold { lock, stake, .. } = hold;
        let run = stake.run;
        let none: [&str; 0] = [];
        let recorded = chance.one_in(2).then(|| lock.record_consumed(&none));
        if recorded.is_some() && !lock.is_lost() {
            self.odd.note(format!("run {run} is not lost"));
        }
        let released = if chance.one_in(4) { lock.release_only(None) } else { lock.release_with_cleanup() };
        self.end(&stake);
        for result in recorded.into_iter().chain([released.map(drop)]) {
            match result {
                Err(error) if error.code() == ErrorCode::LockLost => {}
                other => self.odd.note(format!("run {run}, whose lock was removed: {other:?}")),
            }
        }
        self.note([Event::Kept { run }]);
    }

    /// The handle is dropped: on disk the lock is held for as long as this process lives.
    fn drop_unreleased(&self, hold: Hold, chance: &mut Chance) {
        let Hold { lock, stake, .. } = hold;
        let run = stake.run;
        drop(lock);
        count(&self.counts.dropped);
        let other = self.another_handle(chance).workspace;
        let refused = other.acquire("after").and_then(|lock| lock.release_only(None));
        match refused {
            Err(error) if error.code() == ErrorCode::InUse => {}
            _ if stake.may_be_forced() => {}
            other => self.odd.note(format!("acquire after run {run} was dropped: {other:?}")),
        }
        match self.force(chance) {
            Ok(None | Some(Takeover::Forced(_))) => {}
            other => self.odd.note(format!("force after run {run} was dropped: {other:?}")),
        }
        self.end(&stake);
        self.note([Event::Kept { run }]);
    }

    /// Whoever holds it, and whatever it is doing.
    fn force_any(&self, chance: &mut Chance) {
        match self.force(chance) {
            Ok(None | Some(Takeover::Forced(_))) => {}
            other => self.odd.note(format!("force: {other:?}")),
        }
    }

    /// The last run takes everything and leaves nothing.
    fn drain(&self) {
        self.finish_another_ones();
        self.scene.let_temporaries_age();
        let workspace = &self.handles[0].workspace;
        if let Err(error) = self.take_all(workspace) {
            self.odd.note(format!("the last run: {error:?}"));
        }
        self.scene.note_what_is_left(&self.odd);
        self.note_outcomes(workspace);
        let left = self.scene.ids();
        self.note(left.iter().map(|id| Event::Left { id: parse(id) }));
    }

    fn take_all(&self, workspace: &Workspace) -> Result<(), Error> {
        let run = self.next_run.fetch_add(1, Ordering::Relaxed);
        let stake = Stake::new(&self.force, run);
        let options = AcquireOptions::new(format!("pod-{run}"));
        let lock = workspace.acquire_within(&options, Duration::from_secs(10), |_, pause| {
            thread::sleep(pause);
            true
        })?;
        let mut hold = Hold { lock, steady: true, consumed: None, stake };
        self.enter(&hold);
        let snapshot = hold.lock.snapshot(Limits::default())?;
        let mut ids = Vec::new();
        loop {
            let batch = snapshot.next_batch(1_000, 1 << 20)?;
            for entry in batch.entries {
                let id = parse(&entry.id);
                let number = number_of(&entry.json).unwrap_or(u64::MAX);
                self.note([Event::Handed { run, number, id }]);
                ids.push(id);
            }
            if batch.done {
                break;
            }
        }
        hold.lock.record_snapshot(&snapshot)?;
        drop(snapshot);
        hold.consumed = Some(ids);
        self.release(hold);
        Ok(())
    }

    /// What the runs came to, as it stands on the disk.
    fn note_outcomes(&self, workspace: &Workspace) {
        let history = workspace.runs(u32::MAX).expect("the runs are listed");
        for unreadable in history.unreadable {
            self.odd.note(format!("{unreadable:?}"));
        }
        for past in history.runs {
            let run = run_of(&past.owner.pod_name);
            match (past.ending, run) {
                (Ending::Consolidated, Some(run)) if !past.pending => {
                    let ids = workspace.run_entries(&past.id).expect("it was there just now");
                    self.note(ids.iter().map(|id| Event::Committed { run, id: parse(id) }));
                }
                (Ending::Failed | Ending::Aborted | Ending::Unlocked, _) => {}
                _ => self.odd.note(format!("an odd outcome: {past:?}")),
            }
        }
    }
}

fn with_memory(pages: usize) -> Runtime {
    Runtime::builder().memory_limit(pages << 16).build().expect("a runtime")
}

/// As many pages as it takes to hold a lock on a workspace without entries.
fn enough_memory() -> usize {
    let place = TestWorkspace::new();
    let works = |pages: &usize| {
        let workspace = with_memory(*pages).open(place.root()).expect("the workspace opens");
        workspace.acquire("pod").is_ok_and(|lock| lock.release_only(None).is_ok())
    };
    (1..).find(works).expect("some pages are enough")
}

fn parse(id: &str) -> EntryId {
    EntryId::parse(id).expect("an id")
}

fn limits(chance: &mut Chance) -> Limits {
    Limits {
        max_entries: chance.one_in(3).then(|| chance.within(1..200)),
        max_bytes: chance.one_in(5).then(|| chance.within(1..100_000)),
    }
}

fn round(mut chance: Chance, time: Duration) {
    let scene = Scene::new();
    let torture = Torture::new(&scene);
    let threads = chance.within(8..33);
    thread::scope(|scope| {
        for _ in 0..threads {
            let (torture, chance) = (&torture, chance.fork());
            scope.spawn(move || torture.work(chance));
        }
        let begun = Instant::now();
        while begun.elapsed() < time {
            thread::sleep(Duration::from_millis(20));
            torture.waiting.store(scene.ids().len() as u64, Ordering::Relaxed);
        }
        torture.over.store(true, Ordering::Relaxed);
    });
    torture.drain();
    let events = std::mem::take(&mut *torture.events.lock().expect("no panic in between"));
    let counts = &torture.counts;
    eprintln!("{threads} threads: {counts}, {} events", events.len());
    scene.judge(&events, torture.odd.take());
    for (number, what) in [(&counts.consolidated, "run succeeded"), (&counts.refused, "run was refused")] {
        assert!(number.load(Ordering::Relaxed) > 0, "no {what}");
    }
}

#[test]
fn threads_and_instances_of_one_process_exclude_each_other_and_lose_nothing() {
    for_the_time("library", Duration::from_secs(4), Duration::from_secs(8), round);
}
