//! What the rules need of the world beside a directory. Invariant: nothing in the rules is ambient;
//! clock, randomness, processes and sleep all come through here, so that a simulator owns them.

use crate::fs::Time;
use crate::prelude::*;

/// Where a process id has a meaning. An empty part never equals another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scope {
    /// Names the machine: its machine id and its host name.
    pub machine: String,
    /// Names one run of its kernel.
    pub boot: String,
    /// Names the process-id namespace within that boot.
    pub pid_namespace: String,
}

/// The process that hosts the rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Its process id.
    pub pid: u32,
    /// When it started, in the platform's own unit; empty if unknown.
    pub start: String,
    /// Where the id has a meaning.
    pub scope: Scope,
}

/// What is known of a process id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProcessState {
    /// No such process.
    Absent,
    /// It runs, or there is no way to tell that it does not.
    Running,
    /// It has ended and its parent has not collected it.
    Zombie,
}

/// Evidence about one process id in the own scope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evidence {
    /// What is known of the id.
    pub state: ProcessState,
    /// When the process that has the id now started; empty if unknown.
    pub start: String,
    /// The same as a wall-clock time in milliseconds.
    pub started_at_ms: Option<u64>,
}

/// The world outside the directory. A clone is the same world.
pub trait System: Clone {
    /// The wall clock.
    fn now(&self) -> Time;
    /// Lets the others run for about so many milliseconds.
    fn sleep_ms(&self, milliseconds: u32);
    /// Unpredictable bytes.
    fn random(&self, bytes: &mut [u8]);
    /// The id of the process that hosts the rules. While it is the same, so is the rest of
    /// [`Self::current`].
    fn pid(&self) -> u32;
    /// The process that hosts the rules.
    fn current(&self) -> Identity;
    /// Evidence about a process id.
    fn inspect(&self, pid: u32) -> Evidence;
    /// Is any process left in the group?
    fn group_alive(&self, pgid: u32) -> bool;
}
