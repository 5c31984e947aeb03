//! A world of processes, clock, sleep and randomness that a test sets up. Invariant: nothing in it
//! happens by itself, but for the wall clock of a world whose clock is not set.

use consolidation_guest::fs::Time;
use consolidation_guest::system::{Evidence, Identity, ProcessState, Scope, System};
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

/// The processes of one process-id namespace, and its clock.
#[derive(Clone)]
pub(crate) struct World {
    scope: Scope,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    processes: HashMap<u32, Evidence>,
    groups: HashSet<u32>,
    clock: Option<Time>,
    slept_ms: u64,
    on_sleep: Option<OnSleep>,
}

type OnSleep = Arc<dyn Fn(u64) + Send + Sync>;

impl World {
    /// One without processes, in [`scope`].
    pub(crate) fn new() -> Self {
        World::in_scope(scope("machine1", "boot1", "4026531836"))
    }

    /// One without processes, in this scope.
    pub(crate) fn in_scope(scope: Scope) -> Self {
        World { scope, state: Arc::default() }
    }

    /// A process that runs in it.
    pub(crate) fn start(&self, pid: u32) -> TestSystem {
        self.start_at(pid, &format!("s{pid}"))
    }

    /// A process that runs in it, and when it started.
    pub(crate) fn start_at(&self, pid: u32, start: &str) -> TestSystem {
        self.set(pid, running(start));
        self.host(pid, start)
    }

    /// The system as a process with this id sees it, whatever the world knows of that process.
    pub(crate) fn host(&self, pid: u32, start: &str) -> TestSystem {
        TestSystem {
            world: self.clone(),
            me: Identity { pid, start: start.into(), scope: self.scope.clone() },
        }
    }

    /// What is known of a process from now on.
    pub(crate) fn set(&self, pid: u32, evidence: Evidence) {
        self.state().processes.insert(pid, evidence);
    }

    /// A process ends and its parent collects it.
    pub(crate) fn end(&self, pid: u32) {
        self.state().processes.remove(&pid);
    }

    /// Does a process with this id run?
    pub(crate) fn lives(&self, pid: u32) -> bool {
        let state = self.state();
        state.processes.get(&pid).is_some_and(|evidence| evidence.state == ProcessState::Running)
    }

    /// There is a process group with this id, or no longer.
    pub(crate) fn set_group(&self, pgid: u32, alive: bool) {
        if alive {
            self.state().groups.insert(pgid);
        } else {
            self.state().groups.remove(&pgid);
        }
    }

    /// Stops the clock at this time.
    pub(crate) fn set_clock(&self, now: Time) {
        self.state().clock = Some(now);
    }

    /// For how long its processes have slept, in milliseconds.
    pub(crate) fn slept_ms(&self) -> u64 {
        self.state().slept_ms
    }

    /// What happens while somebody sleeps; it is told for how long they have slept in all.
    pub(crate) fn on_sleep(&self, happens: impl Fn(u64) + Send + Sync + 'static) {
        self.state().on_sleep = Some(Arc::new(happens));
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A test that failed elsewhere is reported there.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for World {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("World").field("scope", &self.scope).finish_non_exhaustive()
    }
}

/// The world as one of its processes sees it.
#[derive(Clone, Debug)]
pub(crate) struct TestSystem {
    world: World,
    /// The process.
    pub(crate) me: Identity,
}

impl System for TestSystem {
    fn now(&self) -> Time {
        self.world.state().clock.unwrap_or_else(wall_clock)
    }

    fn sleep_ms(&self, milliseconds: u32) {
        let (happens, slept) = {
            let mut state = self.world.state();
            state.slept_ms += u64::from(milliseconds);
            (state.on_sleep.clone(), state.slept_ms)
        };
        if let Some(happens) = happens {
            happens(slept);
        }
        std::thread::yield_now();
    }

    fn random(&self, bytes: &mut [u8]) {
        // SplitMix64 over a counter of the test process: never the same twice.
        static DRAWN: AtomicU64 = AtomicU64::new(1);
        for chunk in bytes.chunks_mut(8) {
            let mut value = DRAWN.fetch_add(1, Ordering::Relaxed).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            value = (value ^ value >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            value = (value ^ value >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
            value ^= value >> 31;
            chunk.copy_from_slice(&value.to_be_bytes()[..chunk.len()]);
        }
    }

    fn pid(&self) -> u32 {
        self.me.pid
    }

    fn current(&self) -> Identity {
        self.me.clone()
    }

    fn inspect(&self, pid: u32) -> Evidence {
        // As the host does: such ids are never asked about.
        if pid == 0 || i32::try_from(pid).is_err() {
            return absent();
        }
        self.world.state().processes.get(&pid).cloned().unwrap_or_else(absent)
    }

    fn group_alive(&self, pgid: u32) -> bool {
        self.world.state().groups.contains(&pgid)
    }
}

/// A scope of these parts.
pub(crate) fn scope(machine: &str, boot: &str, pid_namespace: &str) -> Scope {
    Scope { machine: machine.into(), boot: boot.into(), pid_namespace: pid_namespace.into() }
}

/// No process.
pub(crate) fn absent() -> Evidence {
    Evidence { state: ProcessState::Absent, start: String::new(), started_at_ms: None }
}

/// A process that runs since then.
pub(crate) fn running(start: &str) -> Evidence {
    Evidence { state: ProcessState::Running, start: start.into(), started_at_ms: None }
}

/// A process that has ended and was not collected.
pub(crate) fn zombie(start: &str) -> Evidence {
    Evidence { state: ProcessState::Zombie, start: start.into(), started_at_ms: None }
}

/// The time on the wall.
pub(crate) fn wall_clock() -> Time {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Time::from_nanos(i128::try_from(since.as_nanos()).unwrap_or(0))
}
