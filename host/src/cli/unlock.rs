//! `consolidate unlock`. Invariant: without `--force` it removes only what the next run would remove.

use super::output::{Failure, Output};
use super::run::pod_name;
use crate::{AcquireOptions, StaleOwner, Takeover, Workspace};
use serde_json::json;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Remove the lock whoever holds it, dead, alive or unknown: make sure that it does not run
    #[arg(long)]
    force: bool,

    /// Why, for the log
    #[arg(long, value_name = "TEXT", requires = "force")]
    reason: Option<String>,
}

pub(super) fn run(
    workspace: &Workspace,
    arguments: &Arguments,
    coexist: bool,
    output: &Output,
) -> Result<(), Failure> {
    let removed = workspace.unlock(
        AcquireOptions { coexist, ..AcquireOptions::new(pod_name(None)) },
        arguments.force,
        arguments.reason.as_deref(),
    )?;
    output.result(&json!({ "removed": removed }), |out| match &removed {
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
