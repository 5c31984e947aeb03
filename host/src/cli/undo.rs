//! `consolidate undo`. Invariant: all records that the run changed are put back, or none.

use super::output::{Failure, Output, count};
use super::run::pod_name;
use crate::{AcquireOptions, ErrorCode, Workspace};
use serde_json::json;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Puts the memory records that a run changed back to what they were before it, as a run of its own,
which can be undone too. It is refused if any of them was changed since, or if what they were is not
known any more. The entries of the run stay consumed.")]
pub(super) struct Arguments {
    /// The run, as `log` shows it
    run: String,

    /// Name of this pod in the lock; the host name if left out
    #[arg(long, value_name = "NAME", env = "CONSOLIDATION_POD")]
    pod: Option<String>,
}

pub(super) fn run(
    workspace: &Workspace,
    arguments: &Arguments,
    coexist: bool,
    output: &Output,
) -> Result<(), Failure> {
    let options = AcquireOptions { coexist, ..AcquireOptions::new(pod_name(arguments.pod.as_deref())) };
    let lock = workspace.acquire_with(&options)?;
    let undone = lock.undo(&arguments.run);
    let released = lock.release_only(undone.as_ref().err().map(ToString::to_string).as_deref());
    let run = match undone {
        Ok(run) => run,
        Err(error) => {
            let is_conflict = error.code() == ErrorCode::Conflict;
            let failure = Failure::from(error);
            return Err(if is_conflict { failure.followed_by("nothing was changed") } else { failure });
        }
    };
    let lock_lost = match released {
        Ok(_) => false,
        Err(error) if error.code() == ErrorCode::LockLost => true,
        Err(error) => return Err(Failure::from(error).because(format_args!("the run is undone by {run}"))),
    };
    let changes = workspace.run_changes(&run)?;
    let document = json!({ "run": run, "undoes": arguments.run, "changes": changes, "lock_lost": lock_lost });
    output.result_of(format_args!("the run is undone by {run}"), &document, |out| {
        let records = count(changes.len() as u64, "record is", "records are");
        writeln!(out, "{run} has undone {}: {records} put back", arguments.run)
    })
}
