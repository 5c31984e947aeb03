//! `consolidate doctor`. Invariant: without `--fix` it looks and changes nothing; with it, it removes only
//! what the next run would remove.

use super::output::{Failure, Output, count, printable};
use super::run::pod_name;
use crate::{AcquireOptions, Finding, Workspace};
use serde_json::json;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
It removes what is nobody's any more: locks and flags of dead owners, unfinished runs (they are
ended as the next run would), outcomes older than they are kept, and temporary files that are more
than a day old, by their name and by their time. Files that can't be read or don't belong where
they are are named and left: what to do with them is up to you.")]
pub(super) struct Arguments {
    /// Remove what is left over; takes the lock for that moment
    #[arg(long)]
    fix: bool,
}

pub(super) fn run(
    workspace: &Workspace,
    arguments: &Arguments,
    coexist: bool,
    output: &Output,
) -> Result<(), Failure> {
    let findings = if arguments.fix {
        let options = AcquireOptions { coexist, ..AcquireOptions::new(pod_name(None)) };
        workspace.mend(&options).map_err(|error| {
            Failure::from(error).if_in_use("`doctor --fix` needs the lock: try again when it is free")
        })?
    } else {
        workspace.examine()?
    };
    let left = findings.iter().filter(|finding| !finding.mended).count() as u64;
    let removed: Vec<&str> =
        findings.iter().filter(|finding| finding.mended).map(|finding| finding.path.as_str()).collect();
    let done = match removed.as_slice() {
        [] => "nothing was removed".into(),
        removed => format!("removed {}", printable(&removed.join(", "))),
    };
    output.result_of(done, &json!({ "findings": findings, "left": left }), |out| {
        for Finding { kind, path, detail, mendable, mended } in &findings {
            let mark = match (mended, mendable) {
                (true, _) => "removed  ",
                (false, true) if arguments.fix => "NOT FIXED",
                (false, true) => "left over",
                (false, false) => "see to it",
            };
            writeln!(out, "{mark}  {}: {}: {}", kind.describe(), printable(path), printable(detail))?;
        }
        let left_over = findings.iter().any(|finding| finding.mendable && !finding.mended);
        let remedy = match (left_over, arguments.fix) {
            (true, false) => "; the next run, or `doctor --fix`, removes what is left over",
            _ => "",
        };
        match (left, findings.len()) {
            (_, 0) => writeln!(out, "nothing is out of order"),
            (0, _) => writeln!(out, "everything was removed"),
            _ => writeln!(out, "{}{remedy}", count(left, "finding is left", "findings are left")),
        }
    })?;
    if left > 0 { Err(Failure::findings()) } else { Ok(()) }
}
