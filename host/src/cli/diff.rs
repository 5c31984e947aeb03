//! Changes of memory records as a unified diff. Invariant: it says what `patch` would have to do, but for
//! control characters, which are written as escapes: a text from outside does nothing to a terminal.

use super::output::printable;
use crate::Change;
use similar::TextDiff;
use std::io::{self, Write};

/// Where the record is, from the workspace root.
pub(super) fn path(change: &Change) -> String {
    format!("memory/{}/{}.md", change.kind, change.slug)
}

/// Writes the diff of one record.
pub(super) fn write(out: &mut dyn Write, change: &Change) -> io::Result<()> {
    const NONE: &str = "/dev/null";
    let path = path(change);
    let name = |text: &Option<String>| if text.is_some() { path.clone() } else { NONE.to_owned() };
    let (before, after) = (change.before.as_deref().unwrap_or(""), change.after.as_deref().unwrap_or(""));
    let diff = TextDiff::from_lines(before, after);
    let text = diff.unified_diff().header(&name(&change.before), &name(&change.after)).to_string();
    for line in text.split_inclusive('\n') {
        match line.strip_suffix('\n') {
            Some(line) => writeln!(out, "{}", harmless(line))?,
            None => write!(out, "{}", harmless(line))?,
        }
    }
    Ok(())
}

/// A tab is a part of many texts and does no harm.
fn harmless(line: &str) -> String {
    line.split('\t').map(printable).collect::<Vec<_>>().join("\t")
}
