//! `consolidate quarantine`. Invariant: nothing is deleted but what `drop` names.

use super::output::{Failure, Output, count, printable};
use crate::{EntryId, Error, QuarantinedEntry, Workspace};
use serde_json::json;
use std::collections::HashSet;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// List the entries in the quarantine, oldest first, each with its reason
    List,
    /// Stage entries again, with no attempts counted
    #[command(override_usage = "consolidate quarantine retry ID...\n       \
                                consolidate quarantine retry --all")]
    Retry(Which),
    /// Delete entries for good
    #[command(override_usage = "consolidate quarantine drop ID...\n       \
                                consolidate quarantine drop --all")]
    Drop(Which),
}

#[derive(Debug, clap::Args)]
struct Which {
    /// The entries
    #[arg(value_name = "ID", conflicts_with = "all")]
    ids: Vec<EntryId>,

    /// All that are in the quarantine
    #[arg(long)]
    all: bool,
}

impl Arguments {
    /// What clap would say of one of the two ways only.
    pub(super) fn check(&self) -> Result<(), Failure> {
        match &self.action {
            Action::Retry(Which { ids, all: false }) | Action::Drop(Which { ids, all: false })
                if ids.is_empty() =>
            {
                Err(Failure::usage("no entry was named: give ids, as `quarantine list` shows them, or --all"))
            }
            _ => Ok(()),
        }
    }
}

impl Which {
    fn ids(&self, workspace: &Workspace) -> Result<Vec<EntryId>, Failure> {
        if self.all {
            return Ok(workspace.quarantined()?.into_iter().map(|entry| entry.id).collect());
        }
        // One that is named twice is meant once.
        let mut seen = HashSet::new();
        Ok(self.ids.iter().filter(|id| seen.insert(*id)).cloned().collect())
    }
}

pub(super) fn run(workspace: &Workspace, arguments: &Arguments, output: &Output) -> Result<(), Failure> {
    match &arguments.action {
        Action::List => list(workspace, output),
        Action::Retry(which) => {
            let ids = which.ids(workspace)?;
            workspace.retry_quarantined(&ids).map_err(|error| partly(error, &ids, "staged"))?;
            let done = format!("staged {} again", count(ids.len() as u64, "entry", "entries"));
            output.result_of(&done, &json!({ "staged": ids }), |out| writeln!(out, "{done}"))
        }
        Action::Drop(which) => {
            let ids = which.ids(workspace)?;
            workspace.drop_quarantined(&ids).map_err(|error| partly(error, &ids, "deleted"))?;
            let done = format!("deleted {}", count(ids.len() as u64, "entry", "entries"));
            output.result_of(&done, &json!({ "deleted": ids }), |out| writeln!(out, "{done}"))
        }
    }
}

fn list(workspace: &Workspace, output: &Output) -> Result<(), Failure> {
    let entries = workspace.quarantined()?;
    output.result(&json!({ "entries": entries }), |out| {
        for QuarantinedEntry { id, reason, attempts, since, bytes } in &entries {
            let since = if since.is_empty() { "?" } else { since };
            let attempts = count((*attempts).into(), "attempt", "attempts");
            writeln!(out, "{id}  {}  {bytes:>8} B  {attempts}: {}", printable(since), printable(reason))?;
        }
        if entries.is_empty() {
            writeln!(out, "nothing is in the quarantine")?;
        }
        Ok(())
    })
}

/// Those before the one at fault are done.
fn partly(error: Error, ids: &[EntryId], done: &str) -> Failure {
    match error.index() {
        Some(before @ 1..) => {
            let entries = count(before, "entry before it is", "entries before it are");
            let failure = Failure::from(error).followed_by(format_args!("{entries} {done}"));
            if done == "staged" {
                let staged = usize::try_from(before).unwrap_or(usize::MAX).min(ids.len());
                return failure.with_staged(ids[..staged].to_vec());
            }
            failure
        }
        _ => error.into(),
    }
}
