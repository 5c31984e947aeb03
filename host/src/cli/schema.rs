//! `consolidate schema`.

use super::output::{Failure, Output};
use crate::Workspace;

pub(super) fn run(workspace: &Workspace, output: &Output) -> Result<(), Failure> {
    let schema = workspace.update_schema()?;
    // One line of it, as every document.
    let document: serde_json::Value = serde_json::from_str(&schema)
        .map_err(|error| Failure::io(format!("the component's schema is not JSON: {error}")))?;
    output.result(&document, |out| writeln!(out, "{}", schema.trim_end()))
}
