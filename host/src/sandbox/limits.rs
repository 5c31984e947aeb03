//! What holds a guest to its limits, the component and plugins alike. Invariant: memory and tables are
//! counted for the whole store, and no guest code runs outside of [`run`], which sets its deadline.

use crate::engine::Runtime;
use crate::error::{Fault, system_error};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use wasmtime::{ResourceLimiter, Store, Trap, UpdateDeadline};

/// The data of a store whose guest is held to limits.
pub(crate) trait Limited: Send + 'static {
    /// Do its calls block on a tokio runtime? Those of `wasmtime-wasi` do.
    const BLOCKS_ON_TOKIO: bool = true;

    fn limits(&mut self) -> &mut Limits;

    /// What the guest printed before it trapped, for the message.
    fn printed(&self) -> String;
}

/// The limits of one store, and how far they are used up. It remembers a refusal: the guest's
/// allocator then aborts, which looks like any other trap.
pub(crate) struct Limits {
    memory: Amount,
    table_elements: Amount,
    max_instances: usize,
    refused: bool,
    /// Why the system did not give what was allowed.
    starved: Option<io::Error>,
    /// When the call in progress must be over; none if that is further away than the clock goes.
    deadline: Option<Instant>,
    /// The most memory that a store has had which notes it here.
    peak: Arc<AtomicUsize>,
    /// Set from outside to end the call in progress before its deadline.
    interrupted: Arc<AtomicBool>,
}

impl Limits {
    pub(crate) fn new(memory: usize, max_instances: usize, max_table_elements: usize) -> Limits {
        Limits {
            memory: Amount::new(memory),
            table_elements: Amount::new(max_table_elements),
            max_instances,
            refused: false,
            starved: None,
            deadline: None,
            peak: Arc::default(),
            interrupted: Arc::default(),
        }
    }

    /// With a switch that ends the call in progress, and every later one.
    #[cfg(feature = "plugins")]
    pub(crate) fn interrupted_by(mut self, switch: &Arc<AtomicBool>) -> Limits {
        self.interrupted = Arc::clone(switch);
        self
    }

    /// With a place where the most memory is noted that any of several stores has had.
    pub(crate) fn noting_peak(mut self, peak: &Arc<AtomicUsize>) -> Limits {
        self.peak = Arc::clone(peak);
        self
    }

    /// How many bytes all its memories have.
    pub(crate) fn memory_used(&self) -> usize {
        self.memory.used
    }

    /// How much is left until the deadline of the call in progress; none if there is none.
    pub(crate) fn time_left(&self) -> Option<Duration> {
        self.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()))
    }

    fn begin(&mut self, timeout: Duration) {
        self.refused = false;
        self.starved = None;
        self.deadline = Instant::now().checked_add(timeout);
    }

    /// Is it over, be it that the guest has not noticed yet?
    pub(crate) fn is_over(&self) -> bool {
        self.interrupted.load(Ordering::Relaxed)
            || self.deadline.is_some_and(|deadline| Instant::now() >= deadline)
    }
}

/// A limited quantity. What was allowed counts even if it then comes to nothing: wasmtime reports
/// failures of growths that it never asked about, and a guest could earn room with those.
struct Amount {
    limit: usize,
    used: usize,
}

impl Amount {
    fn new(limit: usize) -> Amount {
        Amount { limit, used: 0 }
    }

    fn grow(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> bool {
        let more = desired.saturating_sub(current);
        let allowed = self.limit - self.used >= more && maximum.is_none_or(|maximum| desired <= maximum);
        if allowed {
            self.used += more;
        }
        allowed
    }
}

impl ResourceLimiter for Limits {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let allowed = self.memory.grow(current, desired, maximum);
        self.refused |= !allowed;
        self.peak.fetch_max(self.memory.used, Ordering::Relaxed);
        Ok(allowed)
    }

    fn memory_grow_failed(&mut self, error: wasmtime::Error) -> wasmtime::Result<()> {
        // The other failures are the guest's: it wants more than a memory of its type can have.
        match system_error(error.as_ref()) {
            Some(error) => self.starved = Some(error),
            None => self.refused = true,
        }
        Ok(())
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        Ok(self.table_elements.grow(current, desired, maximum))
    }

    fn instances(&self) -> usize {
        self.max_instances
    }

    fn tables(&self) -> usize {
        self.max_instances
    }

    fn memories(&self) -> usize {
        self.max_instances
    }
}

/// Makes the store look at the clock at every epoch.
pub(crate) fn interrupt_at_deadline<T: Limited>(store: &mut Store<T>) {
    // The epochs may be somebody else's and of any length, so each is only the occasion to look.
    store.epoch_deadline_callback(|mut context| match context.data_mut().limits().is_over() {
        true => Err(Trap::Interrupt.into()),
        false => Ok(UpdateDeadline::Continue(1)),
    });
}

pub(crate) fn is_interrupt(error: &wasmtime::Error) -> bool {
    error.downcast_ref() == Some(&Trap::Interrupt)
}

/// Runs guest code, for so long at the most. Its clock starts here.
pub(crate) fn run<T: Limited, R: Send>(
    runtime: &Runtime,
    store: &mut Store<T>,
    timeout: Duration,
    code: impl FnOnce(&mut Store<T>) -> wasmtime::Result<R> + Send,
) -> Result<R, Fault> {
    let _ticking = runtime.tick().map_err(Fault::Host)?;
    let run = || {
        store.data_mut().limits().begin(timeout);
        store.set_epoch_deadline(1);
        code(store)
    };
    let result = match T::BLOCKS_ON_TOKIO {
        true => outside_of_tokio(run).map_err(Fault::Host)?,
        false => run(),
    };
    result.map_err(|error| {
        if is_interrupt(&error) {
            return Fault::Timeout { after: timeout };
        }
        let limits = store.data_mut().limits();
        if let Some(source) = limits.starved.take() {
            Fault::Starved { source }
        } else if limits.refused {
            Fault::OutOfMemory { limit: limits.memory.limit }
        } else {
            Fault::trap(&store.data().printed(), error)
        }
    })
}

/// Nothing in this build uses tokio.
#[cfg(not(wasmtime_wasi))]
fn outside_of_tokio<T: Send>(code: impl FnOnce() -> T + Send) -> io::Result<T> {
    Ok(code())
}

/// Runs `code`, on a thread of its own if this one belongs to a tokio runtime: the calls of `wasmtime-wasi`
/// block on a runtime themselves, and tokio panics if that is done on one of its workers.
#[cfg(wasmtime_wasi)]
fn outside_of_tokio<T: Send>(code: impl FnOnce() -> T + Send) -> io::Result<T> {
    if tokio::runtime::Handle::try_current().is_err() {
        return Ok(code());
    }
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("guest-call".into()).spawn_scoped(scope, code)?;
        match thread.join() {
            Ok(value) => Ok(value),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memories_of_a_store_share_one_limit() {
        let mut limits = Limits::new(100, 1, 1);
        assert!(limits.memory_growing(0, 60, None).expect("no trap"));
        assert!(!limits.memory_growing(0, 41, None).expect("no trap"));
        assert!(limits.memory_growing(0, 40, None).expect("no trap"));
        assert!(!limits.memory_growing(60, 61, None).expect("no trap"));
        assert_eq!(limits.memory_used(), 100);
        assert!(limits.refused);
    }

    #[test]
    fn peak_is_that_of_the_largest_store_and_counts_no_refused_growth() {
        let peak = Arc::default();
        let mut stores = [60, 100, 80].map(|limit| Limits::new(limit, 1, 1).noting_peak(&peak));
        for limits in &mut stores {
            limits.memory_growing(0, 50, None).expect("no trap");
            limits.memory_growing(50, 90, None).expect("no trap");
        }
        assert_eq!(peak.load(Ordering::Relaxed), 90);
    }

    #[test]
    fn failed_growth_earns_no_room() {
        let mut limits = Limits::new(100, 1, 1);
        assert!(limits.memory_growing(0, 100, None).expect("no trap"));
        limits.memory_grow_failed(wasmtime::Error::msg("beyond the type's limits")).expect("no trap");
        assert!(!limits.memory_growing(100, 101, None).expect("no trap"));
        assert!(limits.table_growing(0, 1, Some(1)).expect("no trap"));
        assert!(!limits.table_growing(0, 1, None).expect("no trap"));
    }

    #[test]
    fn what_the_system_does_not_give_is_told_from_what_is_not_allowed() {
        let mut limits = Limits::new(100, 1, 1);
        limits.memory_grow_failed(wasmtime::Error::msg("beyond the type's limits")).expect("no trap");
        assert!(limits.refused && limits.starved.is_none());
        limits.begin(Duration::from_secs(1));
        let no_memory = io::Error::from(io::ErrorKind::OutOfMemory);
        let error = wasmtime::Error::new(no_memory).context("failed to grow");
        limits.memory_grow_failed(error).expect("no trap");
        assert!(!limits.refused && limits.starved.is_some());
    }
}
