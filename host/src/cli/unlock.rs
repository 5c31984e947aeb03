//! `consolidate unlock`. Invariant: without `--force` it removes only what the next run would remove.

use super::output::{Failure, Output};
use super::run::pod_name;
use crate::{AcquireOptions, StaleOwner, Takeover, Workspace};
use serde_json::json;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Without --force it removes the lock of a dead owner, and a lock file that is no record and has not
changed for 5 seconds: what the next run would remove too. Any other lock is exit code 75.")]
pub(super) struct Arguments {
    /// Remove the lock whoever holds it, dead, alive or unknown. It does not stop the holder: its run
    /// notices, stops its command and deletes nothing
    #[arg(long)]
    force: bool,

    /// Why, for the log; only with --force
    #[arg(long, value_name = "TEXT", requires = "force")]
    reason: Option<String>,
}

pub(super) fn run(
    workspace: &Workspace,
    arguments: &Arguments,
    coexist: bool,
    output: &Output,
) -> Result<(), Failure> {
    let options = AcquireOptions { coexist, ..AcquireOptions::new(pod_name(None)) };
    let removed =
        workspace.unlock(options, arguments.force, arguments.reason.as_deref()).map_err(|error| {
            let said = error.to_string().contains("unlock --force");
            let remedy = if said {
                "`status` shows it"
            } else {
                "`unlock --force` removes it all the same, `status` shows it"
            };
            Failure::from(error).if_in_use(remedy)
        })?;
    let done = if removed.is_some() { "the lock is removed" } else { "there was no lock to remove" };
    output.result_of(done, &json!({ "removed": removed }), |out| match &removed {
        None => writeln!(out, "there was no lock to remove"),
        Some(Takeover::Stale(StaleOwner { owner, reason })) => writeln!(
            out,
            "removed the lock of pid {} (pod {:?}), taken {}: {reason}",
            owner.pid, owner.pod_name, owner.started_at
        ),
        Some(Takeover::Forced(StaleOwner { owner, reason })) => writeln!(
            out,
            "removed by force the lock of pid {} (pod {:?}), taken {}, whose command was not stopped: {reason}",
            owner.pid, owner.pod_name, owner.started_at
        ),
        Some(Takeover::Unreadable(lock)) => writeln!(out, "removed an unreadable lock: {}", lock.reason),
    })
}
