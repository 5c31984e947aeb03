//! How much memory the component needs of its own where the workspace is large.

use crate::support::place::Place;
use crate::support::summary::{Figure, Spread};
use crate::support::{Form, Nothing, fill, open};
use consolidation_host::{ConsolidateOptions, Durability, Limits, Workspace};

/// How many entries a capped run takes.
const CAP: u64 = 1_000;

pub(crate) fn measure(form: Form) -> Vec<Figure> {
    let place = Place::fastest();
    let sizes: &[u64] = form.pick(&[1_000], &[1_000_000, 100_000]);
    let Some(entries) = sizes.iter().copied().find(|entries| place.has_room_for(*entries)) else {
        println!("no room on {}: left out", place.name);
        return Vec::new();
    };
    let directory = place.directory();
    fill(directory.path(), entries);
    let open = || open(directory.path()).with_durability(Durability::None);
    let looks = open();
    looks.lock_status().expect("looked at");
    assert_eq!(looks.summarize().expect("counted").entries, entries);
    let mut options = ConsolidateOptions::new("bench");
    options.limits = Limits { max_entries: Some(CAP), ..Limits::default() };
    let takes = open();
    let done = takes.consolidate(&options, &mut Nothing).expect("consolidated");
    assert_eq!(done.removed, CAP.min(entries));
    let figure = |id: &str, what: &str, workspace: &Workspace| {
        let mebibytes = workspace.peak_memory() as f64 / f64::from(1 << 20);
        let figure = Figure::new(&format!("{id}/{entries}"), what, "MiB");
        let figure = figure.with("component", Spread::exactly(mebibytes));
        figure.tell();
        figure
    };
    vec![
        figure("memory-status", "the most memory of the component for a status", &looks),
        figure("memory-run", "the same for a run capped at 1,000 entries", &takes),
    ]
}
