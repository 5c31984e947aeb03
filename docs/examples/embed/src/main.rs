//! Stages what it is given, one payload in JSON an argument, and consolidates all that is staged in the
//! directory named first: each entry becomes a record of memory. There is no WebAssembly compiler in this
//! program, no asynchronous runtime, and no file beside it: the component's machine code is part of it.

use consolidation_host::{
    ConsolidateOptions, Consolidator, ConsolidatorError, Draft, Entry, Runtime, Update,
};
use std::env;
use std::error::Error;

/// A model, say, would be asked here.
struct EachEntry;

impl Consolidator for EachEntry {
    fn name(&self) -> String {
        "each-entry 0.1.0".into()
    }

    fn consolidate(
        &mut self,
        batch: &[Entry],
        _memory: &Draft<'_>,
    ) -> Result<Vec<Update>, ConsolidatorError> {
        let record = |entry: &Entry| Update {
            kind: "entry".into(),
            slug: entry.id.clone(),
            title: Some(entry.source.segment_id.clone()),
            body: Some(entry.json.clone()),
            status: None,
            replaced_by: None,
            entries: Some(vec![entry.id.clone()]),
        };
        Ok(batch.iter().map(record).collect())
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = env::args().skip(1);
    let root = arguments.next().ok_or("usage: embed DIRECTORY [PAYLOAD]...")?;
    let workspace = Runtime::new()?.open(root)?;
    let payloads: Vec<String> = arguments.collect();
    workspace.stage_many(&payloads, None)?;
    let done = workspace.consolidate(&ConsolidateOptions::new("embed"), &mut EachEntry)?;
    println!("{} entries, {} new records", done.entries, done.created);
    Ok(())
}
