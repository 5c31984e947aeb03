//! A machine in memory: a disk, a clock, processes that die and come back, and several actors that take
//! turns. Invariant: exactly one actor runs at any time, from one step to the next, and nothing beside
//! the director and the seed decides which; so a schedule can be had again.
//!
//! Actors are threads. An actor lives through one process after the other; each runs the guest's own
//! code over [`SimDir`] and [`SimSystem`]. Before each step it gives the turn away and waits until it
//! has it again. A process that is killed is unwound from there: whatever it would have done next, it
//! does not do.

use super::disk::{Disk, Ino, Quirks, ROOT};
use super::ledger::Ledger;
use super::schedule::{Call, Director, Fate, Op, Random, Standing};
use crate::support::system::{absent, running, scope, zombie};
use consolidation_guest::fs::{Dir, File, FsError, FsErrorKind, FsResult, Listed, Stat, Time};
use consolidation_guest::layout::{LOCK_PATH, Token};
use consolidation_guest::system::{Evidence, Identity, ProcessState, System};
use consolidation_guest::workspace::Workspace;
use std::cell::Cell;
use std::collections::{BTreeSet, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;
use std::sync::{Arc, Condvar, LazyLock, Mutex, MutexGuard, PoisonError};

/// When a world begins.
const BEGINNING: Time = Time::from_nanos(1_770_000_000_000_000_000);

/// A schedule of more steps than this does not end by itself.
const MAX_STEPS: usize = 60_000;

/// How many of its last steps are told of each actor: `CONSOLIDATION_SIM_STEPS`, or 40.
static TOLD: LazyLock<usize> = LazyLock::new(|| super::number("CONSOLIDATION_SIM_STEPS", 40));

/// A process, whether it lives or not.
#[derive(Clone, Debug)]
struct ProcessInfo {
    actor: usize,
    identity: Identity,
    namespace: u32,
    state: ProcessState,
}

/// Everything that is there, but not who goes next.
#[derive(Clone)]
pub(super) struct State {
    pub(super) disk: Disk,
    pub(super) clock: Time,
    pub(super) ledger: Ledger,
    processes: Vec<ProcessInfo>,
    /// The first process of those who act now.
    first: usize,
    boot: u32,
    random: Random,
    /// The ids of dead processes are given to new ones.
    pub(super) reuses_ids: bool,
    /// Whoever asks after a process is told that there is none.
    pub(super) hides_processes: bool,
    trace: Vec<VecDeque<Told>>,
    /// Of those who were there before.
    past: Vec<VecDeque<Told>>,
    steps: usize,
}

impl State {
    /// An empty one.
    pub(super) fn new(quirks: Quirks, seed: u64) -> Self {
        State {
            disk: Disk::new(quirks),
            clock: BEGINNING,
            ledger: Ledger::default(),
            processes: Vec::new(),
            first: 0,
            boot: 1,
            random: Random::new(seed),
            reuses_ids: true,
            hides_processes: false,
            trace: Vec::new(),
            past: Vec::new(),
            steps: 0,
        }
    }

    pub(super) fn pass_seconds(&mut self, seconds: u32) {
        self.clock = self.clock.plus_seconds(seconds);
    }

    /// Starts a process.
    fn start(&mut self, actor: usize, namespace: u32) -> usize {
        let in_use: BTreeSet<u32> = self
            .processes
            .iter()
            .filter(|process| {
                process.namespace == namespace && (process.state != ProcessState::Absent || !self.reuses_ids)
            })
            .map(|process| process.identity.pid)
            .collect();
        // Ids are used again, in a container soon.
        let pid = (100..).map(|low| low + 7 * u32::try_from(self.random.below(4)).unwrap_or(0));
        let pid = pid.take(1_000).find(|pid| !in_use.contains(pid)).expect("few processes");
        // Far from all machines that share a workspace have the same name.
        let machine = if namespace < 10 { "machine1" } else { "machine2" };
        let identity = Identity {
            pid,
            start: format!("{}", 5_000 + self.processes.len()),
            scope: scope(machine, &format!("{machine}boot{}", self.boot), &format!("{namespace}")),
        };
        self.ledger.starts(namespace);
        self.processes.push(ProcessInfo { actor, identity, namespace, state: ProcessState::Running });
        self.processes.len() - 1
    }

    pub(super) fn is_alive(&self, process: usize) -> bool {
        self.processes[process].state == ProcessState::Running
    }

    pub(super) fn namespace_of(&self, process: usize) -> u32 {
        self.processes[process].namespace
    }

    pub(super) fn pid_of(&self, process: usize) -> u32 {
        self.processes[process].identity.pid
    }

    /// Kills a process. Its parent may take a while to collect it.
    pub(super) fn kill(&mut self, process: usize) {
        let zombie = self.random.chance(2_500);
        self.processes[process].state = if zombie { ProcessState::Zombie } else { ProcessState::Absent };
        self.ledger.died(process);
    }

    /// Kills all processes.
    pub(super) fn kill_all(&mut self) {
        for process in 0..self.processes.len() {
            if self.is_alive(process) {
                self.kill(process);
            }
        }
    }

    /// The machine loses its power and starts again.
    pub(super) fn lose_power(&mut self, pick: &mut dyn FnMut(usize) -> usize) {
        self.kill_all();
        for process in &mut self.processes {
            process.state = ProcessState::Absent;
        }
        self.disk.lose_power(pick);
        self.boot += 1;
        self.pass_seconds(20);
        let State { disk, ledger, .. } = self;
        ledger.check_after_power_loss(disk);
    }

    /// The last steps of every actor, and what is on the disk.
    fn told(&self) -> String {
        let mut lines = Vec::new();
        for (who, trace) in
            [("those who were there before", &self.past), ("those who are there", &self.trace)]
        {
            if trace.is_empty() {
                continue;
            }
            lines.push(format!("the last steps of {who}:"));
            let mut steps: Vec<(usize, &Told)> = Vec::new();
            for (actor, trace) in trace.iter().enumerate() {
                steps.extend(trace.iter().map(|step| (actor, step)));
            }
            steps.sort_by_key(|(_, step)| step.step);
            lines.extend(steps.into_iter().map(|(actor, step)| step.line(actor, &self.processes)));
        }
        lines.push("on the disk:".into());
        for path in self.disk.paths() {
            let size = self.disk.content(&path).map(|content| format!(", {} bytes", content.len()));
            lines.push(format!("  {path}{}", size.unwrap_or_default()));
        }
        lines.join("\n")
    }
}

/// What an actor does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standby {
    Ready,
    Asleep(Time),
    Done,
}

struct Core {
    state: State,
    director: Box<dyn Director>,
    actors: Vec<Standby>,
    steps_of: Vec<usize>,
    current: Option<usize>,
    /// Why the schedule ends before its time.
    failure: Option<String>,
}

impl Core {
    /// Who goes next; none: all are done.
    fn choose(&mut self) {
        let last = self.current;
        let ready: Vec<usize> = (0..self.actors.len())
            .filter(|actor| match self.actors[*actor] {
                Standby::Ready => true,
                Standby::Asleep(until) => until <= self.state.clock,
                Standby::Done => false,
            })
            .collect();
        let mut asleep: Vec<(Time, usize)> = (0..self.actors.len())
            .filter_map(|actor| match self.actors[actor] {
                Standby::Asleep(until) if until > self.state.clock => Some((until, actor)),
                _ => None,
            })
            .collect();
        asleep.sort_unstable();
        let asleep: Vec<usize> = asleep.into_iter().map(|(_, actor)| actor).collect();
        self.current = match (ready.as_slice(), asleep.as_slice()) {
            ([], []) => None,
            ([one], []) | ([], [one]) => Some(*one),
            (ready, asleep) => Some(self.director.next(&Standing {
                current: last.filter(|actor| ready.contains(actor)),
                ready,
                asleep,
                steps: self.state.steps,
            })),
        };
        if let Some(actor) = self.current {
            if let Standby::Asleep(until) = self.actors[actor] {
                self.state.clock = self.state.clock.max(until);
            }
            self.actors[actor] = Standby::Ready;
        }
    }
}

/// A world in which actors act.
pub(super) struct World {
    core: Mutex<Core>,
    turns: Vec<Condvar>,
}

/// How a process is stopped: what its thread is unwound with.
enum Stop {
    Killed,
    Trapped,
    /// The schedule has failed elsewhere.
    Over,
}

/// What an actor does.
pub(super) type Act<'a> = Box<dyn FnOnce(&Actor) + Send + 'a>;

/// Runs actors from this state on, to the end of all of them or to the first violation. Returns what is
/// there then; or why it is wrong, with the way to it.
pub(super) fn run(
    mut state: State,
    director: impl Director + 'static,
    acts: Vec<Act<'_>>,
) -> Result<State, String> {
    state.first = state.processes.len();
    state.past = std::mem::take(&mut state.trace);
    state.trace = vec![VecDeque::new(); acts.len()];
    state.steps = 0;
    let count = acts.len();
    let mut core = Core {
        state,
        director: Box::new(director),
        actors: vec![Standby::Ready; count],
        steps_of: vec![0; count],
        current: None,
        failure: None,
    };
    core.choose();
    let world =
        Arc::new(World { core: Mutex::new(core), turns: (0..count).map(|_| Condvar::new()).collect() });
    let act_alone = &|(index, act): (usize, Act<'_>)| {
        let actor = Actor { world: Arc::clone(&world), index };
        actor.act(act);
    };
    let mut acts = acts.into_iter().enumerate();
    std::thread::scope(|scope| {
        let first = acts.next();
        for act in acts {
            scope.spawn(move || act_alone(act));
        }
        first.map(act_alone)
    });
    let mut core = world.lock();
    if core.failure.is_none() {
        core.failure = core.state.ledger.violation();
    }
    match core.failure.take() {
        Some(failure) => Err(format!("{failure}\n{}", core.state.told())),
        None => Ok(core.state.clone()),
    }
}

impl World {
    fn lock(&self) -> MutexGuard<'_, Core> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until this actor has the turn.
    fn wait<'a>(&'a self, mut core: MutexGuard<'a, Core>, actor: usize) -> MutexGuard<'a, Core> {
        while core.current != Some(actor) && core.failure.is_none() {
            core = self.turns[actor].wait(core).unwrap_or_else(PoisonError::into_inner);
        }
        core
    }

    /// Gives the turn to whoever has it next.
    fn pass_on(&self, core: &mut Core, from: usize) {
        core.choose();
        match core.current {
            Some(next) if next != from => self.turns[next].notify_one(),
            _ => {}
        }
    }

    fn fail(&self, core: &mut Core, why: String) {
        core.failure.get_or_insert(why);
        self.turns.iter().for_each(Condvar::notify_one);
    }
}

/// A line of processes.
pub(super) struct Actor {
    world: Arc<World>,
    index: usize,
}

/// What became of a process.
#[derive(Debug)]
pub(super) enum Life<T> {
    /// It came to its end, and still runs.
    Ended(T),
    Killed,
}

impl Actor {
    fn act(&self, act: Act<'_>) {
        drop(self.world.wait(self.world.lock(), self.index));
        let result = catch_unwind(AssertUnwindSafe(|| act(self)));
        let mut core = self.world.lock();
        if let Err(payload) = result
            && !payload.is::<Stop>()
        {
            let why = payload
                .downcast_ref::<String>()
                .cloned()
                .or_else(|| payload.downcast_ref::<&str>().map(ToString::to_string));
            self.world.fail(&mut core, format!("actor {} panics: {}", self.index, why.unwrap_or_default()));
        }
        core.actors[self.index] = Standby::Done;
        self.world.pass_on(&mut core, self.index);
    }

    /// Starts a process and lets it live until it ends or is killed.
    pub(super) fn live<T>(&self, namespace: u32, life: impl FnOnce(&Process) -> T) -> Life<T> {
        let id = {
            let mut core = self.world.lock();
            core.state.start(self.index, namespace)
        };
        let process = Process(Rc::new(Inner {
            world: Arc::clone(&self.world),
            actor: self.index,
            id,
            can_trap: Cell::new(false),
        }));
        match catch_unwind(AssertUnwindSafe(|| life(&process))) {
            Ok(result) => Life::Ended(result),
            Err(payload) => match payload.downcast::<Stop>() {
                Ok(stop) if matches!(*stop, Stop::Killed) => Life::Killed,
                Ok(stop) => resume_unwind(stop),
                Err(payload) => resume_unwind(payload),
            },
        }
    }
}

/// A process that runs.
#[derive(Clone)]
pub(super) struct Process(Rc<Inner>);

struct Inner {
    world: Arc<World>,
    actor: usize,
    id: usize,
    can_trap: Cell<bool>,
}

impl Process {
    /// The number of the process, which no other has.
    pub(super) fn id(&self) -> usize {
        self.0.id
    }

    pub(super) fn actor(&self) -> usize {
        self.0.actor
    }

    /// Is there none of its line, in this world, that was there before it?
    pub(super) fn is_first_of_actor(&self) -> bool {
        self.with(|state| {
            let before = state.first..self.0.id;
            !state.processes[before].iter().any(|process| process.actor == self.0.actor)
        })
    }

    /// The workspace as a new instance sees it.
    pub(super) fn workspace(&self) -> Workspace<SimDir, SimSystem> {
        Workspace::new(self.root(), SimSystem(self.clone()))
    }

    /// The root directory.
    pub(super) fn root(&self) -> SimDir {
        SimDir { process: self.clone(), ino: ROOT, path: Rc::from("") }
    }

    pub(super) fn system(&self) -> SimSystem {
        SimSystem(self.clone())
    }

    /// Does something with the rules in an instance that may trap; none: it has.
    pub(super) fn instance<T>(&self, call: impl FnOnce() -> T) -> Option<T> {
        self.0.can_trap.set(true);
        let result = catch_unwind(AssertUnwindSafe(call));
        self.0.can_trap.set(false);
        match result {
            Ok(result) => Some(result),
            Err(payload) => match payload.downcast::<Stop>() {
                Ok(stop) if matches!(*stop, Stop::Trapped) => None,
                Ok(stop) => resume_unwind(stop),
                Err(payload) => resume_unwind(payload),
            },
        }
    }

    /// Looks at the world or changes it, between two steps.
    pub(super) fn with<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut core = self.0.world.lock();
        let result = change(&mut core.state);
        if let Some(violation) = core.state.ledger.violation() {
            self.0.world.fail(&mut core, violation);
            drop(core);
            resume_unwind(Box::new(Stop::Over));
        }
        result
    }

    /// A random number below this one.
    pub(super) fn draw(&self, limit: usize) -> usize {
        self.with(|state| state.random.below(limit))
    }

    /// A fresh token, as a host draws it.
    pub(super) fn token(&self) -> Token {
        let mut random = [0; 16];
        self.system().random(&mut random);
        Token::new(random)
    }

    /// The process ends by itself.
    pub(super) fn exit(&self) -> ! {
        self.with(|state| state.kill(self.0.id));
        resume_unwind(Box::new(Stop::Killed))
    }

    /// Works for so many milliseconds.
    pub(super) fn work(&self, milliseconds: u32) {
        if milliseconds > 0 {
            self.nap(milliseconds);
        }
        let _ = self.step(Op::Work, "", "", |_, _| Ok(()));
    }

    fn nap(&self, milliseconds: u32) {
        {
            let mut core = self.0.world.lock();
            let until = Time::from_nanos(core.state.clock.nanos() + i128::from(milliseconds) * 1_000_000);
            core.actors[self.0.actor] = Standby::Asleep(until);
        }
        let _ = self.step(Op::Sleep, "", "", |_, _| Ok(()));
    }

    /// Gives the turn away and waits for the next one.
    fn turn(&self) -> MutexGuard<'_, Core> {
        let Inner { world, actor, id, .. } = &*self.0;
        let mut core = world.lock();
        world.pass_on(&mut core, *actor);
        let core = world.wait(core, *actor);
        let stop = if core.failure.is_some() {
            Stop::Over
        } else if core.state.is_alive(*id) {
            return core;
        } else {
            Stop::Killed
        };
        drop(core);
        resume_unwind(Box::new(stop))
    }

    /// One step.
    fn step<T>(
        &self,
        op: Op,
        path: &str,
        to: &str,
        act: impl FnOnce(&mut State, usize) -> FsResult<T>,
    ) -> FsResult<T> {
        let Inner { world, actor, id, can_trap } = &*self.0;
        let mut core = self.turn();
        let number = core.steps_of[*actor];
        core.steps_of[*actor] += 1;
        let steps = core.state.steps;
        let mut fate = core.director.fate(&Call { number, steps, op, path });
        if let Fate::Pause(milliseconds) = fate {
            core.state.ledger.met(op, fate);
            let until = Time::from_nanos(core.state.clock.nanos() + i128::from(milliseconds) * 1_000_000);
            core.actors[*actor] = Standby::Asleep(until);
            core.tell(*actor, *id, (op, path, to), (fate, None));
            drop(core);
            core = self.turn();
            fate = Fate::Pass;
        }
        if fate == Fate::Trap && !can_trap.get() {
            fate = Fate::Pass;
        }
        core.state.steps += 1;
        if core.state.steps > MAX_STEPS {
            world.fail(&mut core, "it does not come to an end".into());
        }
        let tick = core.state.random.below(2_000_000);
        core.state.clock = Time::from_nanos(core.state.clock.nanos() + tick as i128);
        let everything = usize::MAX;
        let (result, stop) = match fate {
            Fate::Pass | Fate::Pause(_) => (Some(act(&mut core.state, everything)), None),
            Fate::Short(most) => (Some(act(&mut core.state, most)), None),
            Fate::Refuse(kind) => (Some(Err(FsError::new(kind))), None),
            Fate::After(kind) => (Some(act(&mut core.state, everything).and(Err(FsError::new(kind)))), None),
            Fate::Kill => (None, Some(Stop::Killed)),
            Fate::KillWithin(most) => {
                let _ = act(&mut core.state, most);
                (None, Some(Stop::Killed))
            }
            Fate::Trap => (None, Some(Stop::Trapped)),
            Fate::PowerLoss => (None, Some(Stop::Killed)),
        };
        let error = result.as_ref().and_then(|result| result.as_ref().err()).map(|error| error.kind);
        core.tell(*actor, *id, (op, path, to), (fate, error));
        core.state.ledger.met(op, fate);
        match fate {
            Fate::Kill | Fate::KillWithin(_) => core.state.kill(*id),
            Fate::PowerLoss => {
                let Core { state, director, .. } = &mut *core;
                state.lose_power(&mut |below| director.pick(below));
            }
            _ => {}
        }
        if let Some(violation) = core.state.ledger.violation() {
            world.fail(&mut core, violation);
        }
        let stop = if core.failure.is_some() { Some(Stop::Over) } else { stop };
        drop(core);
        match (result, stop) {
            (Some(result), None) => result,
            (_, stop) => resume_unwind(Box::new(stop.unwrap_or(Stop::Over))),
        }
    }
}

impl Core {
    fn tell(&mut self, actor: usize, process: usize, call: (Op, &str, &str), outcome: Outcome) {
        let State { trace, steps, clock, .. } = &mut self.state;
        let trace = &mut trace[actor];
        if trace.len() == *TOLD {
            trace.pop_front();
        }
        let (op, path, to) = call;
        let (path, to) = (path.into(), to.into());
        trace.push_back(Told { step: *steps, clock: *clock, process, op, path, to, outcome });
    }
}

/// A step that was done or met its fate, and how it failed.
type Outcome = (Fate, Option<FsErrorKind>);

#[derive(Clone)]
struct Told {
    step: usize,
    clock: Time,
    process: usize,
    op: Op,
    path: String,
    to: String,
    outcome: Outcome,
}

impl Told {
    fn line(&self, actor: usize, processes: &[ProcessInfo]) -> String {
        let Told { step, clock, process, op, path, to, outcome: (fate, error) } = self;
        let ProcessInfo { identity, namespace, .. } = &processes[*process];
        let ms = (clock.nanos() - BEGINNING.nanos()) / 1_000_000;
        let arrow = if to.is_empty() { "" } else { " -> " };
        let error = error.map(|kind| format!("  {kind:?}")).unwrap_or_default();
        let fate = if *fate == Fate::Pass { String::new() } else { format!("  by {fate:?}") };
        let pid = identity.pid;
        format!("{step:>6} {ms:>8} ms  {actor}: {pid} of {namespace}: {op:?} {path}{arrow}{to}{error}{fate}")
    }
}

/// A directory as a process sees it.
#[derive(Clone)]
pub(super) struct SimDir {
    process: Process,
    ino: Ino,
    path: Rc<str>,
}

impl SimDir {
    fn at(&self, name: &str) -> String {
        if self.path.is_empty() { name.into() } else { format!("{}/{name}", self.path) }
    }

    fn file(&self, path: &str, ino: Ino) -> SimFile {
        SimFile { process: self.process.clone(), ino, path: path.into() }
    }
}

impl SimDir {
    /// Opens a file as `open(2)` with `O_CREAT | O_TRUNC` does, which ours never do.
    pub(super) fn open_truncated(&self, name: &str) -> FsResult<SimFile> {
        let path = self.at(name);
        let ino = self.process.step(Op::Create, &path, "", |state, _| {
            let ino = match state.disk.open(self.ino, name) {
                Ok(ino) => {
                    state.disk.truncate(ino, state.clock);
                    ino
                }
                Err(_) => state.disk.create(self.ino, name, state.clock)?,
            };
            state.appeared(&path);
            Ok(ino)
        })?;
        Ok(self.file(&path, ino))
    }
}

impl Dir for SimDir {
    type File = SimFile;

    fn open_dir(&self, name: &str) -> FsResult<Self> {
        let path = self.at(name);
        let ino =
            self.process.step(Op::OpenDir, &path, "", |state, _| state.disk.open_dir(self.ino, name))?;
        Ok(SimDir { process: self.process.clone(), ino, path: path.into() })
    }

    fn create_dir(&self, name: &str) -> FsResult<()> {
        self.process.step(Op::CreateDir, &self.at(name), "", |state, _| state.disk.create_dir(self.ino, name))
    }

    fn list(&self, each: &mut dyn FnMut(Listed<'_>)) -> FsResult<()> {
        let before =
            self.process.step(Op::List, &self.path, "", |state, _| Ok(state.disk.names(self.ino)))?;
        let mut shown = Vec::new();
        let listed = self.process.step(Op::ListEnd, &self.path, "", |state, most| {
            let after = state.disk.names(self.ino);
            let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
            for name in names {
                let (kind, certain) = match (before.get(name), after.get(name)) {
                    (Some(_), Some(kind)) => (kind, true),
                    (Some(kind), None) | (None, Some(kind)) => (kind, false),
                    (None, None) => continue,
                };
                // What comes or goes meanwhile is shown or not.
                if certain || state.random.below(2) == 0 {
                    shown.push((name.clone(), *kind));
                }
            }
            if shown.len() > most {
                shown.truncate(most);
                return Err(FsError::new(FsErrorKind::Io));
            }
            Ok(())
        });
        for (name, kind) in &shown {
            each(Listed::Named(name, *kind));
        }
        listed
    }

    fn stat(&self, name: &str) -> FsResult<Stat> {
        self.process.step(Op::Stat, &self.at(name), "", |state, _| state.disk.stat(self.ino, name))
    }

    fn open(&self, name: &str) -> FsResult<SimFile> {
        let path = self.at(name);
        let ino = self.process.step(Op::Open, &path, "", |state, _| state.disk.open(self.ino, name))?;
        Ok(self.file(&path, ino))
    }

    fn open_for_update(&self, name: &str) -> FsResult<SimFile> {
        let path = self.at(name);
        let ino =
            self.process.step(Op::OpenForUpdate, &path, "", |state, _| state.disk.open(self.ino, name))?;
        Ok(self.file(&path, ino))
    }

    fn create(&self, name: &str) -> FsResult<SimFile> {
        let path = self.at(name);
        let ino = self.process.step(Op::Create, &path, "", |state, _| {
            let ino = state.disk.create(self.ino, name, state.clock)?;
            state.appeared(&path);
            Ok(ino)
        })?;
        Ok(self.file(&path, ino))
    }

    fn link(&self, name: &str, to: &Self, new_name: &str) -> FsResult<()> {
        let new_path = to.at(new_name);
        self.process.step(Op::Link, &self.at(name), &new_path, |state, _| {
            state.disk.link(self.ino, name, to.ino, new_name)?;
            state.appeared(&new_path);
            Ok(())
        })
    }

    fn rename(&self, name: &str, to: &Self, new_name: &str) -> FsResult<()> {
        let (path, new_path) = (self.at(name), to.at(new_name));
        self.process.step(Op::Rename, &path, &new_path, |state, _| {
            if state.disk.content(&new_path).is_some() {
                state.ledger.overwritten(&new_path);
            }
            state.disk.rename(self.ino, name, to.ino, new_name)?;
            state.vanished(&path);
            state.appeared(&new_path);
            let State { disk, ledger, .. } = state;
            ledger.progressed(&new_path, self.process.id(), disk);
            Ok(())
        })
    }

    fn unlink(&self, name: &str) -> FsResult<()> {
        let path = self.at(name);
        self.process.step(Op::Unlink, &path, "", |state, _| {
            state.disk.unlink(self.ino, name)?;
            state.vanished(&path);
            if path == LOCK_PATH {
                state.ledger.gives_up(self.process.id());
            }
            Ok(())
        })
    }

    fn sync(&self) -> FsResult<()> {
        // Done for no bytes: it is left out.
        self.process.step(Op::SyncNames, &self.path, "", |state, most| {
            if most == 0 { Ok(()) } else { state.disk.sync_names(self.ino) }
        })
    }
}

impl State {
    fn appeared(&mut self, path: &str) {
        let State { disk, ledger, .. } = self;
        ledger.appeared(path, disk.content(path));
    }

    fn vanished(&mut self, path: &str) {
        let State { disk, ledger, .. } = self;
        ledger.vanished(path, disk);
    }
}

/// A file that a process has open.
pub(super) struct SimFile {
    process: Process,
    ino: Ino,
    path: String,
}

impl File for SimFile {
    fn read(&self, len: usize, offset: u64) -> FsResult<Vec<u8>> {
        // A read of nothing would be the end of the file.
        self.process.step(Op::Read, &self.path, "", |state, most| {
            Ok(state.disk.read(self.ino, len.min(most.max(1)), offset))
        })
    }

    fn write(&self, bytes: &[u8], offset: u64) -> FsResult<usize> {
        self.process.step(Op::Write, &self.path, "", |state, most| {
            let written = bytes.len().min(most);
            state.disk.write(self.ino, &bytes[..written], offset, state.clock);
            state.appeared(&self.path);
            Ok(written)
        })
    }

    fn sync(&self) -> FsResult<()> {
        self.process.step(Op::Sync, &self.path, "", |state, most| {
            if most > 0 {
                state.disk.sync(self.ino);
            }
            Ok(())
        })
    }
}

/// The world as a process sees it.
#[derive(Clone)]
pub(super) struct SimSystem(Process);

impl System for SimSystem {
    fn now(&self) -> Time {
        let skew = |namespace: u32| i128::from(namespace % 7) * 1_300_000_000;
        // Only the clock of the disk counts; those of the processes differ from it.
        self.0.with(|state| Time::from_nanos(state.clock.nanos() + skew(state.namespace_of(self.0.id()))))
    }

    fn sleep_ms(&self, milliseconds: u32) {
        self.0.nap(milliseconds);
    }

    fn random(&self, bytes: &mut [u8]) {
        self.0.with(|state| {
            for chunk in bytes.chunks_mut(8) {
                chunk.copy_from_slice(&state.random.next().to_be_bytes()[..chunk.len()]);
            }
        });
    }

    fn pid(&self) -> u32 {
        self.current().pid
    }

    fn current(&self) -> Identity {
        self.0.with(|state| state.processes[self.0.id()].identity.clone())
    }

    fn inspect(&self, pid: u32) -> Evidence {
        let evidence = self.0.step(Op::Inspect, &pid.to_string(), "", |state, _| {
            let namespace = state.namespace_of(self.0.id());
            let there = |process: &&ProcessInfo| {
                process.namespace == namespace
                    && process.identity.pid == pid
                    && process.state != ProcessState::Absent
            };
            let found = state.processes.iter().rfind(there).filter(|_| !state.hides_processes);
            Ok(match found {
                Some(ProcessInfo { identity, state: ProcessState::Zombie, .. }) => zombie(&identity.start),
                Some(ProcessInfo { identity, .. }) => running(&identity.start),
                None => absent(),
            })
        });
        evidence.unwrap_or_else(|_| absent())
    }

    fn group_alive(&self, _: u32) -> bool {
        false
    }
}
