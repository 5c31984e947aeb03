//! What an entry costs as the workspace grows: it must be the same with a thousand staged and with a million.
//! Nothing is synchronised, so that the disk is no part of it.
//!
//! The two implementations take turns at each size. What deletes is measured when everything else has been:
//! file systems remember for a while what was deleted, and new files then take longer.

use crate::operations::read_all;
use crate::support::native::Native;
use crate::support::place::Place;
use crate::support::summary::{Figure, Spread};
use crate::support::{Form, Nothing, fill, open, payload};
use consolidation_guest::durable::Durability as NativeDurability;
use consolidation_host::{ConsolidateOptions, Durability, Workspace};
use std::path::Path;
use std::time::Instant;

/// What is measured, in this order, and how it is called.
pub(crate) const OPERATIONS: [(&str, &str); 5] = [
    ("stage", "stage"),
    ("snapshot", "snapshot"),
    ("status", "status"),
    ("run", "run without updates"),
    ("cleanup", "release with cleanup"),
];

/// How many of them come before anything is deleted.
const GROWING: usize = 3;

/// How many entries a run takes at the most, and so a cleanup.
const RUN: usize = 50_000;

const IMPLEMENTATIONS: [&str; 2] = ["component", "native"];

/// By operation and implementation, a sample for each round.
type Times = [[Vec<f64>; IMPLEMENTATIONS.len()]; OPERATIONS.len()];

pub(crate) fn measure(form: Form) -> Vec<Figure> {
    let mut figures = Vec::new();
    for place in Place::all() {
        let sizes: &[u64] = match (form, place.is_memory()) {
            (Form::Smoke, _) => &[100, 1_000],
            (Form::Full, true) => &[1_000, 10_000, 100_000, 1_000_000],
            (Form::Full, false) => &[1_000, 10_000, 100_000],
        };
        let (sizes, without): (Vec<u64>, Vec<u64>) =
            sizes.iter().partition(|entries| place.has_room_for(**entries));
        for entries in without {
            println!("no room for {entries} entries on {}: left out", place.name);
        }
        let mut times: Vec<(u64, Times)> = sizes.iter().map(|entries| (*entries, Times::default())).collect();
        for deletes in [false, true] {
            for (entries, times) in &mut times {
                for _ in 0..form.pick(1, rounds(*entries)) {
                    for (number, name) in IMPLEMENTATIONS.into_iter().enumerate() {
                        let directory = place.directory();
                        let implementation = implementation(name, directory.path());
                        let (spent, from) = match deletes {
                            false => (grow(&*implementation, *entries).to_vec(), 0),
                            true => (shrink(&*implementation, directory.path(), *entries).to_vec(), GROWING),
                        };
                        for (times, spent) in times[from..].iter_mut().zip(spent) {
                            times[number].push(spent * 1e6 / *entries as f64);
                        }
                    }
                }
            }
        }
        for (number, (id, what)) in OPERATIONS.into_iter().enumerate() {
            let of_operation = times.iter().map(|(entries, times)| (*entries, &times[number]));
            let of_operation: Vec<Figure> =
                of_operation.map(|(entries, times)| at_size(id, what, &place, entries, times)).collect();
            let flat = flat(id, what, &place, &of_operation);
            figures.extend(of_operation.into_iter().chain([flat]));
        }
    }
    figures.iter().for_each(Figure::tell);
    figures
}

/// One of a million is long enough by itself; of fewer, the disk's journal may be written in any one.
fn rounds(entries: u64) -> u64 {
    if entries >= 1_000_000 { 1 } else { (30_000 / entries).clamp(3, 15) }
}

/// The figure of one size, in microseconds an entry.
fn at_size(id: &str, what: &str, place: &Place, entries: u64, [component, native]: &[Vec<f64>; 2]) -> Figure {
    let ratios: Vec<f64> = component.iter().zip(native).map(|(one, other)| one / other).collect();
    Figure::new(&format!("{id}/{}/{entries}", place.name), what, "us")
        .with("component", Spread::of(component))
        .with("native", Spread::of(native))
        .with_ratio("component", "native", Spread::of(&ratios))
}

/// How many times as much as at the smallest size an entry costs where it costs most.
fn flat(id: &str, what: &str, place: &Place, sizes: &[Figure]) -> Figure {
    let what = format!("{what}, the most that an entry costs to what it costs at the smallest size");
    let mut figure = Figure::new(&format!("flat/{id}/{}", place.name), &what, "x");
    for name in IMPLEMENTATIONS {
        let costs: Vec<f64> = sizes.iter().filter_map(|size| size.median(name)).collect();
        if let Some(first) = costs.first() {
            let most = costs.iter().copied().fold(0.0, f64::max);
            figure = figure.with(name, Spread::exactly(most / first));
        }
    }
    figure
}

/// What is measured. Each call answers for all entries.
trait Implementation {
    fn stage(&self, payload: &str);
    fn snapshot(&self) -> u64;
    fn status(&self) -> u64;
    fn run(&self) -> u64;
    /// Takes the lock for entries, and measures how long it takes to delete them and to release it.
    fn clean_up(&self, ids: &[String]) -> (f64, u64);
}

fn implementation(name: &str, root: &Path) -> Box<dyn Implementation> {
    match name {
        "component" => Box::new(open(root).with_durability(Durability::None)),
        _ => Box::new(Native::open(root, NativeDurability::None)),
    }
}

/// How long each of the operations takes that delete nothing, in seconds.
fn grow(implementation: &dyn Implementation, entries: u64) -> [f64; GROWING] {
    let payloads: Vec<String> = (0..1_000).map(payload).collect();
    let payloads = payloads.iter().cycle().take(entries as usize);
    let ((), stage) = timed(|| payloads.for_each(|payload| implementation.stage(payload)));
    let (read, snapshot) = timed(|| implementation.snapshot());
    let (counted, status) = timed(|| implementation.status());
    assert_eq!((read, counted), (entries, entries));
    [stage, snapshot, status]
}

/// The same of those that do.
fn shrink(
    implementation: &dyn Implementation,
    root: &Path,
    entries: u64,
) -> [f64; OPERATIONS.len() - GROWING] {
    fill(root, entries);
    let (consumed, run) = timed(|| implementation.run());
    assert_eq!(consumed, entries);
    let mut clean_up = 0.0;
    for ids in fill(root, entries).chunks(RUN) {
        let (time, removed) = implementation.clean_up(ids);
        assert_eq!(removed, ids.len() as u64);
        clean_up += time;
    }
    [run, clean_up]
}

/// What it returns, and how many seconds it took.
fn timed<T>(operation: impl FnOnce() -> T) -> (T, f64) {
    let begun = Instant::now();
    let result = operation();
    (result, begun.elapsed().as_secs_f64())
}

impl Implementation for Workspace {
    fn stage(&self, payload: &str) {
        Workspace::stage(self, payload).expect("staged");
    }

    fn snapshot(&self) -> u64 {
        read_all(self)
    }

    /// What `consolidate status` asks for.
    fn status(&self) -> u64 {
        self.lock_status().expect("looked at");
        self.summarize().expect("counted").entries
    }

    fn run(&self) -> u64 {
        self.consolidate(&ConsolidateOptions::new("bench"), &mut Nothing).expect("consolidated").removed
    }

    fn clean_up(&self, ids: &[String]) -> (f64, u64) {
        let lock = self.acquire("bench").expect("the lock is free");
        lock.record_consumed(ids).expect("recorded");
        let (report, time) = timed(|| lock.release_with_cleanup().expect("released"));
        (time, report.removed)
    }
}

impl Implementation for Native {
    fn stage(&self, payload: &str) {
        Native::stage(self, payload);
    }

    fn snapshot(&self) -> u64 {
        Native::snapshot(self)
    }

    fn status(&self) -> u64 {
        Native::status(self)
    }

    fn run(&self) -> u64 {
        Native::run(self)
    }

    fn clean_up(&self, ids: &[String]) -> (f64, u64) {
        let lock = self.acquire_for(ids);
        let (report, time) = timed(|| lock.release_with_cleanup().expect("released"));
        (time, report.removed)
    }
}
