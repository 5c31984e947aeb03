//! Waiting for the lock. Invariant: a wait is bounded, can be broken off, and asks more and more
//! seldom, up to a bound that keeps the time from a release to the next take well below a second.

use crate::error::Error;
use crate::lock::Lock;
use crate::types::{AcquireOptions, ErrorCode};
use crate::workspace::Workspace;
use std::time::{Duration, Instant};

const FIRST_PAUSE: Duration = Duration::from_millis(25);
const LONGEST_PAUSE: Duration = Duration::from_millis(400);

impl Workspace {
    /// Acquires the lock, trying again for as long as another owner holds it and `wait` is not over.
    ///
    /// Who gets the lock next is not decided by who came first: there is no queue. `pause` is called
    /// between two tries with the error of the last one and the time until the next one; it sleeps, and
    /// returns false to break off, which gives that error.
    ///
    /// # Errors
    /// As [`Workspace::acquire_with`]; [`ErrorCode::InUse`] when the wait is over. The lock is then
    /// not ours and nothing of the attempt is left on disk.
    pub fn acquire_within(
        &self,
        options: &AcquireOptions,
        wait: Duration,
        mut pause: impl FnMut(&Error, Duration) -> bool,
    ) -> Result<Lock, Error> {
        let begun = Instant::now();
        let mut next = FIRST_PAUSE;
        loop {
            let error = match self.acquire_with(options) {
                Err(error) if error.code() == ErrorCode::InUse => error,
                other => return other,
            };
            let left = wait.saturating_sub(begun.elapsed());
            if left.is_zero() || !pause(&error, next.min(left)) {
                return Err(error);
            }
            next = (next * 2).min(LONGEST_PAUSE);
        }
    }
}
