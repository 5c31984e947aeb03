//! The thread that advances the engine's epoch. Invariant: it ticks only while calls are in
//! progress, is parked otherwise, and ends with its `Ticker`; it never keeps the engine alive.

use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;
use wasmtime::{Engine, EngineWeak};

/// How far a call may run past its deadline.
const PERIOD: Duration = Duration::from_millis(15);

pub(crate) struct Ticker {
    shared: Arc<Shared>,
    engine: EngineWeak,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    calls: usize,
    started: bool,
    /// The thread waits for a call. While it ticks, a call that begins need not wake it: in a burst
    /// of short calls only the first one does.
    parked: bool,
    closed: bool,
}

impl Ticker {
    pub(crate) fn new(engine: &Engine) -> Ticker {
        Ticker { shared: Arc::default(), engine: engine.weak() }
    }

    /// Counts a call. The first one starts the thread.
    pub(crate) fn tick(&self) -> io::Result<Ticking<'_>> {
        let mut state = self.shared.lock();
        if !state.started {
            let (shared, engine) = (Arc::clone(&self.shared), self.engine.clone());
            thread::Builder::new().name("epoch-ticker".into()).spawn(move || shared.run(&engine))?;
            state.started = true;
        }
        state.calls += 1;
        if state.parked {
            state.parked = false;
            self.shared.changed.notify_one();
        }
        Ok(Ticking(&self.shared))
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.changed.notify_one();
    }
}

/// A call in progress.
pub(crate) struct Ticking<'a>(&'a Shared);

impl Drop for Ticking<'_> {
    fn drop(&mut self) {
        self.0.lock().calls -= 1;
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self, engine: &EngineWeak) {
        let mut state = self.lock();
        while !state.closed {
            if state.calls == 0 {
                state.parked = true;
                while state.parked && !state.closed {
                    state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                }
            } else {
                (state, _) = self.changed.wait_timeout(state, PERIOD).unwrap_or_else(PoisonError::into_inner);
                match engine.upgrade() {
                    Some(engine) => engine.increment_epoch(),
                    None => return,
                }
            }
        }
    }
}
