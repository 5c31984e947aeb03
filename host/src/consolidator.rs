//! What turns entries into updates: a plugin, a command, or the embedder's own code. Invariant: it only
//! answers; what becomes of its answer is decided elsewhere, and until then its entries stay.

use crate::draft::Draft;
use crate::error::Error;
use crate::types::{Entry, EntryId, Update};
use std::fmt;

/// Turns batches of entries into updates of memory records.
pub trait Consolidator {
    /// Who it is, for messages: `digest 0.1.0`.
    fn name(&self) -> String;

    /// Does it read memory records from their files, and not through `memory`? Then what a batch changed is
    /// committed before it gets the next one, and a record that somebody edits while it has a batch is not
    /// overwritten.
    fn reads_files(&self) -> bool {
        false
    }

    /// Turns a batch, which holds at least one entry, oldest first, into updates. `memory` reads what is
    /// in memory, the batches that this run has done so far included. No update is fine: the entries count
    /// as done.
    ///
    /// # Errors
    ///
    /// [`ConsolidatorError`] says what became of the batch, and whom to blame. Nothing of it is consumed.
    fn consolidate(&mut self, batch: &[Entry], memory: &Draft<'_>) -> Result<Vec<Update>, ConsolidatorError>;
}

/// Why a batch could not be done, and what the run makes of it.
#[derive(Debug)]
pub enum ConsolidatorError {
    /// It failed on this batch: a trap, a limit, a bad answer. The batch is split to find the entry at
    /// fault.
    Batch(String),
    /// It names the entries at fault. The others are tried without them.
    Entries(Vec<EntryId>, String),
    /// It may go better later. The run ends, and no entry is blamed.
    Temporary(String),
    /// It can't work at all. The run ends, and no entry is blamed.
    Broken(String),
    /// The workspace failed, and not the consolidator. The run ends, and no entry is blamed.
    Workspace(Error),
}

impl fmt::Display for ConsolidatorError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConsolidatorError::Batch(message)
            | ConsolidatorError::Entries(_, message)
            | ConsolidatorError::Temporary(message)
            | ConsolidatorError::Broken(message) => formatter.write_str(message),
            ConsolidatorError::Workspace(error) => fmt::Display::fmt(error, formatter),
        }
    }
}

impl std::error::Error for ConsolidatorError {}
