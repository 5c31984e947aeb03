//! Whether it is worth to run. Invariant: an open gate says nothing of what a run then finds; it is asked
//! again under the lock. Nothing is read but outcomes of runs: entries are counted by name, type and size.

use crate::error::{Error, Result};
use crate::fs::{Dir, FsErrorKind};
use crate::layout::{EntryId, staging_path};
use crate::outcome::Ending;
use crate::prelude::*;
use crate::system::System;
use crate::time::parse_rfc3339;
use crate::workspace::Workspace;

/// How many runs are looked at for the last one that was consolidated.
const MAX_OUTCOMES: usize = 100;

/// What must be so before it is worth to run. What is none does not count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gates {
    /// At least so many entries are staged.
    pub min_entries: Option<u64>,
    /// Their files have at least so many bytes.
    pub min_bytes: Option<u64>,
    /// The oldest was staged at least so long ago.
    pub min_age_ms: Option<u64>,
    /// The last consolidated run ended at least so long ago.
    pub min_interval_ms: Option<u64>,
}

impl<D: Dir, S: System> Workspace<D, S> {
    /// None if all gates are open, else why not, in one sentence that names each closed one.
    ///
    /// A time that lies in the future, because the clock was put back, keeps no gate closed. The last
    /// consolidated run is looked for among the newest 100; one whose outcome can't be read is passed over.
    ///
    /// # Errors
    /// I/O errors of listing.
    pub fn closed_gate(&self, gates: &Gates) -> Result<Option<String>> {
        let Gates { min_entries, min_bytes, min_age_ms, min_interval_ms } = *gates;
        let now = self.system.now().millis();
        let mut closed = Vec::new();
        if min_entries.is_some() || min_bytes.is_some() || min_age_ms.is_some() {
            let (mut count, mut oldest, mut bytes) = (0u64, None, 0u64);
            self.each_entry(&mut |staging, id| {
                count += 1;
                oldest = oldest.map_or(Some(id), |oldest: EntryId| Some(oldest.min(id)));
                if min_bytes.is_some_and(|asked| bytes < asked) {
                    bytes = bytes.saturating_add(size_of(staging, id)?);
                }
                Ok(())
            })?;
            if let Some(asked) = min_entries.filter(|asked| count < *asked) {
                closed.push(format!("{}, the gate asks for {asked}", entries_are(count)));
            }
            if let Some(asked) = min_bytes.filter(|asked| bytes < *asked) {
                closed.push(format!("{} staged, the gate asks for {asked}", bytes_are(bytes)));
            }
            if let Some(asked) = min_age_ms.filter(|asked| *asked > 0) {
                match oldest {
                    None => closed.push(format!(
                        "no entry is staged, the gate asks for one that is {} old",
                        duration(asked)
                    )),
                    Some(oldest) => {
                        if let Some(age) = too_recent(now, oldest.millis(), asked) {
                            closed.push(format!(
                                "the oldest entry is {} old, the gate asks for {}",
                                duration(age),
                                duration(asked)
                            ));
                        }
                    }
                }
            }
        }
        if let Some(asked) = min_interval_ms
            && let Some(ended) = self.last_consolidated()?
            && let Some(age) = too_recent(now, ended, asked)
        {
            closed.push(format!(
                "the last run ended {} ago, the gate asks for {}",
                duration(age),
                duration(asked)
            ));
        }
        Ok((!closed.is_empty()).then(|| closed.join("; ")))
    }

    /// When the newest consolidated run ended, in milliseconds since 1970.
    fn last_consolidated(&self) -> Result<Option<u64>> {
        for run in self.known_runs()?.into_iter().take(MAX_OUTCOMES) {
            if let Ok(Some(past)) = self.past_run(run)
                && past.outcome.outcome == Ending::Consolidated
                && let Some(ended) = parse_rfc3339(&past.outcome.ended_at)
            {
                return Ok(Some(ended.millis()));
            }
        }
        Ok(None)
    }
}

/// The size of the file of an entry; 0 if it is gone.
fn size_of<D: Dir>(staging: &D, id: EntryId) -> Result<u64> {
    match staging.stat(&id.file_name()) {
        Ok(stat) => Ok(stat.size),
        Err(error) if error.kind == FsErrorKind::NotFound => Ok(0),
        Err(error) => Err(Error::io("look at", staging_path(&id.file_name()), &error)),
    }
}

/// The age of a time if it is less than is asked for. A time in the future has none.
fn too_recent(now: u64, then: u64, asked: u64) -> Option<u64> {
    now.checked_sub(then).filter(|age| *age < asked).map(|age| {
        // Whole seconds read better, and are less than whole seconds that are asked for.
        if asked.is_multiple_of(1_000) { age - age % 1_000 } else { age }
    })
}

fn entries_are(count: u64) -> String {
    if count == 1 { "1 entry is staged".into() } else { format!("{count} entries are staged") }
}

fn bytes_are(bytes: u64) -> String {
    if bytes == 1 { "1 byte is".into() } else { format!("{bytes} bytes are") }
}

/// Exactly, in days, hours, minutes and seconds: two that differ never read the same.
fn duration(ms: u64) -> String {
    let (seconds, fraction) = (ms / 1_000, ms % 1_000);
    let parts = [(seconds / 86_400, "d"), (seconds / 3_600 % 24, "h"), (seconds / 60 % 60, "min")];
    let mut words: Vec<String> =
        parts.iter().filter(|(value, _)| *value > 0).map(|(value, unit)| format!("{value} {unit}")).collect();
    if fraction > 0 {
        let decimals = format!("{fraction:03}");
        words.push(format!("{}.{} s", seconds % 60, decimals.trim_end_matches('0')));
    } else if seconds % 60 > 0 || words.is_empty() {
        words.push(format!("{} s", seconds % 60));
    }
    words.join(" ")
}
