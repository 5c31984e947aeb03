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
    /// Until when the thread sleeps; none while it is at work.
    sleeps_until: Option<Instant>,
    /// How long the last lock that was registered could wait.
    last_every: Duration,
    /// How often the thread has looked at what there is to do.
    #[cfg(test)]
    looks: u64,
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
        self.enter(Arc::downgrade(lock), Duration::from_secs(lease.into()) / 3)
    }

    fn enter(&self, lock: Weak<Held>, every: Duration) -> io::Result<Registration> {
        let due = Instant::now() + every;
        let mut state = self.0.lock();
        if !state.running {
            let inner = Arc::clone(&self.0);
            thread::Builder::new().name("lease-keeper".into()).spawn(move || inner.run())?;
            state.running = true;
        }
        let key = state.next_key;
        state.next_key += 1;
        state.last_every = every;
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
        let (mut idle_since, mut last_key) = (Instant::now(), 0);
        while !state.closed {
            #[cfg(test)]
            {
                state.looks += 1;
            }
            let next = state
                .locks
                .iter()
                .min_by_key(|(_, duty)| duty.due)
                .map(|(&key, duty)| (key, duty.due, Weak::clone(&duty.lock)));
            let now = Instant::now();
            if std::mem::replace(&mut last_key, state.next_key) != state.next_key || next.is_some() {
                idle_since = now;
            }
            match next {
                None if now - idle_since >= LINGER => break,
                // A lock that is held for some microseconds is released before this thread has woken up for it.
                // It is not woken for the next one like it: that would take longer than the lock itself.
                None => {
                    let until = now + state.last_every.min(LINGER);
                    state = self.sleep(state, until);
                }
                Some((_, due, _)) if due > now => state = self.sleep(state, due),
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

    /// Sleeps until then, or until a lock is registered that must be refreshed before.
    fn sleep<'a>(&self, mut state: MutexGuard<'a, State>, until: Instant) -> MutexGuard<'a, State> {
        state.sleeps_until = Some(until);
        let timeout = until.saturating_duration_since(Instant::now());
        state = self.changed.wait_timeout(state, timeout).unwrap_or_else(PoisonError::into_inner).0;
        state.sleeps_until = None;
        state
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

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    /// Waits until the thread sleeps, and says how often it has looked by then.
    fn asleep(keeper: &Keeper) -> u64 {
        for _ in 0..10_000 {
            let state = keeper.0.lock();
            if state.sleeps_until.is_some() {
                return state.looks;
            }
            drop(state);
            thread::sleep(Duration::from_millis(1));
        }
        panic!("the thread does not come to rest");
    }

    #[test]
    fn thread_is_not_woken_for_locks_that_are_released_at_once() {
        let keeper = Keeper::default();
        drop(keeper.enter(Weak::new(), MINUTE).expect("a thread"));
        // It has looked when the lock was gone, or sleeps for its sake: both are the same from here on.
        let looks = asleep(&keeper);
        for _ in 0..1_000 {
            drop(keeper.enter(Weak::new(), MINUTE).expect("the thread runs"));
        }
        assert_eq!(asleep(&keeper), looks);
    }

    #[test]
    fn thread_is_woken_for_a_lock_that_must_be_refreshed_before_it_would_wake() {
        let keeper = Keeper::default();
        let _long = keeper.enter(Weak::new(), MINUTE).expect("a thread");
        let looks = asleep(&keeper);
        let _short = keeper.enter(Weak::new(), MINUTE / 2).expect("the thread runs");
        for _ in 0..10_000 {
            if keeper.0.lock().looks > looks {
                return;
            }
            thread::sleep(Duration::from_millis(1));
        }
        panic!("the thread sleeps on");
    }
}
