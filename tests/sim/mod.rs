//! The guest's own code in a simulator: nothing of the rules is modelled, they run as they are, natively,
//! over a directory, a clock and processes in memory.
//!
//! # What can happen
//!
//! Several actors take turns, one file operation at a time, and between any two of them everybody else may
//! do anything ([`world`]). At each operation a process can be killed and come back under another id or the
//! same, in another process-id namespace or the same; the instance that runs the rules can trap, and its
//! process lives on; the operation can fail in every way that a file system has, before its effect or
//! after it, or be done in part; a process can be stopped for longer than its lease; and the power can
//! fail. Then of what was not synchronised any part is left: any subset of the operations on names, and of
//! a file's data the old, the new, a part of it, or zeros ([`disk`]). There are file systems without hard
//! links, and such whose times are coarse.
//!
//! # What is checked
//!
//! See [`ledger`]: one holder, nothing lost, nothing half, exactly the consumed removed, and that only after
//! the commit, no entry in two commits; at every step and once more after a power loss. At the end a newcomer
//! acquires, consumes what is there, and leaves nothing behind: no wedge.
//!
//! # Which ways are tried
//!
//! - [`points`]: every single point of a run, of `stage` and of `unlock`, from everything that can be there
//!   before ([`beginnings`]), each with every trouble; and pairs of points of two runs;
//! - [`preempt`]: two contenders and all ways to change the turn once or twice;
//! - [`late`]: a holder that is stopped for longer than its lease, at each of its steps, and goes on at each
//!   step of its successor;
//! - [`memory`]: the same for runs that change memory records, and for those that undo them;
//! - [`random`]: schedules of a seed, with everything at once;
//! - [`wrong`]: file systems, protocols and pods that are wrong, which have to be found wrong.
//!
//! # Bounds
//!
//! What `cargo test sim::` does takes less than a minute of one core. In full, for some minutes:
//!
//! ```sh
//! CONSOLIDATION_SIM_FULL=1 CONSOLIDATION_SIM_SCHEDULES=100000 cargo test sim:: -- --nocapture
//! ```
//!
//! A random schedule that fails tells its seed, the last steps of each actor, and what is on the disk. To see
//! it again, with more of the steps:
//!
//! ```sh
//! CONSOLIDATION_TEST_SEED=123 CONSOLIDATION_SIM_SCHEDULES=1 CONSOLIDATION_SIM_STEPS=2000 cargo test sim::random::fresh
//! ```
//!
//! The seed stands for the same schedule for as long as neither the rules nor the simulator change.

mod beginnings;
mod contender;
mod disk;
mod itself;
mod late;
mod ledger;
mod memory;
mod naive;
mod points;
mod preempt;
mod random;
mod records;
mod schedule;
mod world;
mod wrong;

/// A number that the environment gives.
fn number<T: std::str::FromStr>(variable: &str, otherwise: T) -> T {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

/// Is everything to be tried? See the head of the module.
fn in_full() -> bool {
    std::env::var_os("CONSOLIDATION_SIM_FULL").is_some()
}
