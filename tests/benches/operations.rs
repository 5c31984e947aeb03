//! Each operation through the component, through the native build of the same rules and through a port of the
//! original algorithm: the same work, with the same durability, in turns.

use crate::support::summary::Figure;
use crate::support::turns::{Party, Turns};
use crate::support::{Durable, Form, Trio, fill, payload, place::Place};
use consolidation_host::{Limits, Workspace};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How many entries a snapshot and a cleanup have.
const ENTRIES: u64 = 500;

pub(crate) fn measure(form: Form) -> Vec<Figure> {
    let mut figures = Vec::new();
    let mut note = |figure: Figure| {
        figure.tell();
        figures.push(figure);
    };
    for place in Place::all() {
        note(acquire_and_release(form, &place));
        for durable in [Durable::Yes, Durable::No] {
            note(stage(form, &place, durable));
        }
        note(snapshot(form, &place));
        for durable in [Durable::Yes, Durable::No] {
            note(clean_up(form, &place, durable));
        }
    }
    figures
}

fn turns(form: Form, parts: u64) -> Turns {
    Turns { parts, ..Turns::new(form, Duration::from_secs(5)) }
}

/// The name of a figure, and what it is of.
fn named(id: &str, what: &str, durable: Durable, place: &Place) -> (String, String) {
    match durable {
        Durable::Yes => (format!("{id}-durable/{}", place.name), format!("{what}, durable")),
        Durable::No => (format!("{id}/{}", place.name), format!("{what}, not synchronised")),
    }
}

fn acquire_and_release(form: Form, place: &Place) -> Figure {
    let trio = Trio::new(place, Durable::Yes);
    let parties = vec![
        Party::new("component", || {
            trio.component.acquire("bench").and_then(|lock| lock.release_only(None)).expect("released");
        }),
        Party::new("native", || {
            trio.native.acquire().release_only(None).expect("released");
        }),
        Party::new("original", || {
            trio.original.acquire(&[]);
            trio.original.release();
        }),
    ];
    turns(form, 1).take(&format!("acquire-release/{}", place.name), "acquire and release", parties)
}

fn stage(form: Form, place: &Place, durable: Durable) -> Figure {
    let trio = Trio::new(place, durable);
    let payload = payload(1);
    let parties = vec![
        Party::new("component", || drop(trio.component.stage(&payload).expect("staged"))),
        Party::new("native", || trio.native.stage(&payload)),
        Party::new("original", || trio.original.stage(&payload)),
    ];
    let (id, what) = named("stage", "stage an entry", durable, place);
    let figure = Turns { most: 100, ..turns(form, 1) }.take(&id, &what, parties);
    let [one, other, third] = trio.roots().map(staged);
    assert!(one > 0 && one == other && one == third, "{one}, {other} and {third} entries are staged");
    figure
}

fn snapshot(form: Form, place: &Place) -> Figure {
    let trio = Trio::new(place, Durable::No);
    for root in trio.roots() {
        fill(root, ENTRIES);
    }
    let parties = vec![
        Party::new("component", || assert_eq!(read_all(&trio.component), ENTRIES)),
        Party::new("native", || assert_eq!(trio.native.snapshot(), ENTRIES)),
        Party::new("original", || assert_eq!(trio.original.snapshot().len() as u64, ENTRIES)),
    ];
    let id = format!("snapshot/{}", place.name);
    turns(form, ENTRIES).take(&id, "snapshot, an entry", parties)
}

fn clean_up(form: Form, place: &Place, durable: Durable) -> Figure {
    let trio = Trio::new(place, durable);
    let [component, native, original] = trio.roots();
    // What is staged and recorded before is not part of it.
    let turn = |operations: u32, clean_up: &dyn Fn() -> (Duration, u64)| {
        (0..operations)
            .map(|_| {
                let (spent, removed) = clean_up();
                assert_eq!(removed, ENTRIES);
                spent
            })
            .sum()
    };
    let parties = vec![
        Party::timed("component", |operations| {
            turn(operations, &|| {
                let ids = fill(component, ENTRIES);
                let lock = trio.component.acquire("bench").expect("the lock is free");
                lock.record_consumed(&ids).expect("recorded");
                let begun = Instant::now();
                let report = lock.release_with_cleanup().expect("released");
                (begun.elapsed(), report.removed)
            })
        }),
        Party::timed("native", |operations| {
            turn(operations, &|| {
                let lock = trio.native.acquire_for(&fill(native, ENTRIES));
                let begun = Instant::now();
                let report = lock.release_with_cleanup().expect("released");
                (begun.elapsed(), report.removed)
            })
        }),
        Party::timed("original", |operations| {
            turn(operations, &|| {
                let ids = fill(original, ENTRIES);
                trio.original.acquire(&ids);
                let begun = Instant::now();
                let removed = trio.original.clean_up(&ids);
                (begun.elapsed(), removed)
            })
        }),
    ];
    let (id, what) = named("cleanup", "release with cleanup, an entry", durable, place);
    turns(form, ENTRIES).take(&id, &what, parties)
}

/// Reads everything that is staged.
pub(crate) fn read_all(workspace: &Workspace) -> u64 {
    let snapshot = workspace.snapshot(Limits::default()).expect("taken");
    let mut entries = 0;
    loop {
        let batch = snapshot.next_batch(1_000, 1 << 20).expect("read");
        entries += batch.entries.len() as u64;
        if batch.done {
            return entries;
        }
    }
}

/// How many entries there are.
fn staged(root: &Path) -> usize {
    let names = fs::read_dir(root.join("_staging")).expect("listed");
    let names = names.map(|found| PathBuf::from(found.expect("listed").file_name()));
    names.filter(|name| name.extension().is_some_and(|extension| extension == "json")).count()
}
