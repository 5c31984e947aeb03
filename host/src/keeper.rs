//! Renews the leases of the locks of one workspace in the background. Invariant: a lock is refreshed
//! at least every third of its lease while its handle exists, unless its file system hangs, and then
//! only the locks of that workspace wait. The thread ends when there has been nothing to do for a
//! while or the workspace is gone.

use crate::lock::Held;
use std::collections::HashMap;
use std::io;
use std::panic::{self, AssertUnwindSafe};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

/// How long the thread waits for another lock before it ends. Locks that follow one another find it
/// running.
const LINGER: Duration = Duration::from_secs(10);
/// When to try again while a call is using the lock's instance.
const BUSY_RETRY: Duration = Duration::from_millis(100);

/// What became of a refresh.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refresh {
    Done,
    /// A call is in progress.
    Busy,
    /// It may work next time.
    Failed,
    /// The lock is lost or its handle is dead.
    Over,
}

#[derive(Default)]
pub(crate) struct Keeper(Arc<Inner>);

#[derive(Default)]
struct Inner {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    locks: HashMap<u64, Duty>,
    next_key: u64,
    running: bool,
    closed: bool,
    /// Until when the thread sleeps; none while it is at work or lingers.
    sleeps_until: Option<Instant>,
}

struct Duty {
    /// Weak: a handle that is dropped or released is not kept alive.
    lock: Weak<Held>,
    every: Duration,
    due: Instant,
}

/// A lock that is being refreshed; it ends with this.
pub(crate) struct Registration {
    keeper: Arc<Inner>,
    key: u64,
}

impl Keeper {
    /// Refreshes the lock every third of its lease, until the registration is dropped.
    /// The lease is in seconds, as others read it in the record.
    pub(crate) fn register(&self, lock: &Arc<Held>, lease: u32) -> io::Result<Registration> {
        let every = Duration::from_secs(lease.into()) / 3;
        let due = Instant::now() + every;
        let mut state = self.0.lock();
        if !state.running {
            let inner = Arc::clone(&self.0);
            thread::Builder::new().name("lease-keeper".into()).spawn(move || inner.run())?;
            state.running = true;
        }
        let key = state.next_key;
        state.next_key += 1;
        let lock = Arc::downgrade(lock);
        state.locks.insert(key, Duty { lock, every, due });
        if state.sleeps_until.is_none_or(|until| due < until) {
            self.0.changed.notify_one();
        }
        Ok(Registration { keeper: Arc::clone(&self.0), key })
    }
}

impl Drop for Keeper {
    /// Does not wait for the thread: it may be the one that drops the last reference.
    fn drop(&mut self) {
        self.0.lock().closed = true;
        self.0.changed.notify_one();
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.keeper.lock().locks.remove(&self.key);
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self) {
        let mut state = self.lock();
        while !state.closed {
            let next = state
                .locks
                .iter()
                .min_by_key(|(_, duty)| duty.due)
                .map(|(&key, duty)| (key, duty.due, Weak::clone(&duty.lock)));
            let now = Instant::now();
            match next {
                None => {
                    state = self.wait(state, LINGER);
                    if state.locks.is_empty() && now.elapsed() >= LINGER {
                        break;
                    }
                }
                Some((_, due, _)) if due > now => {
                    state.sleeps_until = Some(due);
                    state = self.wait(state, due - now);
                    state.sleeps_until = None;
                }
                Some((key, _, lock)) => {
                    // Registering and releasing must not wait for a slow file system.
                    drop(state);
                    let refresh = lock.upgrade().map_or(Refresh::Over, |lock| refresh(&lock));
                    state = self.lock();
                    state.settle(key, refresh);
                }
            }
        }
        state.running = false;
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>, timeout: Duration) -> MutexGuard<'a, State> {
        self.changed.wait_timeout(state, timeout).unwrap_or_else(PoisonError::into_inner).0
    }
}

impl State {
    fn settle(&mut self, key: u64, refresh: Refresh) {
        // It may have been released meanwhile.
        let Some(duty) = self.locks.get_mut(&key) else {
            return;
        };
        let wait = match refresh {
            Refresh::Done => duty.every,
            Refresh::Busy => duty.every.min(BUSY_RETRY),
            Refresh::Failed => duty.every / 4,
            Refresh::Over => {
                self.locks.remove(&key);
                return;
            }
        };
        duty.due = Instant::now() + wait;
    }
}

/// A panic on the way (in a logger, say) ends this lock and not the thread.
fn refresh(lock: &Held) -> Refresh {
    panic::catch_unwind(AssertUnwindSafe(|| lock.refresh())).unwrap_or_else(|_| {
        tracing::error!("renewing the lease of a lock panicked; the lock is given up");
        lock.give_up();
        Refresh::Over
    })
}
