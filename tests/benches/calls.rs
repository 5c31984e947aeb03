//! The system calls of each operation, counted by `strace`, beside the least that the work needs. Of the thread
//! that makes the operation: what the two threads in the background do, renewing leases and advancing the
//! engine's clock, does not depend on the number of operations.
//!
//! A process does an operation once to warm up, and once more between two calls that are looked for in what
//! `strace` wrote. What is told for each entry is the difference between two numbers of entries.

use crate::operations::read_all;
use crate::support::native::Native;
use crate::support::original::Original;
use crate::support::place::Place;
use crate::support::summary::{Figure, Spread};
use crate::support::{Durable, Form, child, fill, open, payload};
use consolidation_host::Workspace;
use rustix::fs::{Access, access};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

/// A name that is nowhere else.
const MARK: &str = "/consolidation-bench-counts-from-here-to-here";

/// How often each call is made.
type Counts = BTreeMap<String, f64>;

/// An operation of which the calls are counted.
struct Counted {
    id: &'static str,
    what: &'static str,
    durable: Durable,
    part: Part,
    /// What the work needs, by what it is for, with all directories kept open. `docs/performance.md` explains
    /// the rest.
    least: &'static [(&'static str, f64)],
}

/// What is counted of it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    All,
    /// What is added by another entry.
    Entry,
    /// The rest.
    Rest,
}

/// Numbers of entries. A lock lists the ids of both in its last 8 KiB: with more than some 180 the look at it is
/// another one, and the step would be taken for a part of each entry's.
const FEW: u64 = 60;
const MANY: u64 = 160;

const OPERATIONS: [Counted; 8] = [
    Counted {
        id: "acquire-release",
        what: "acquire and release",
        durable: Durable::Yes,
        part: Part::All,
        least: &[
            ("a random token", 1.0),
            ("create, write and close the flag", 3.0),
            ("list the flags", 3.0),
            ("link the lock", 1.0),
            ("list unfinished runs, twice", 6.0),
            ("see that the lock is still ours", 3.0),
            ("unlink lock and flag", 2.0),
        ],
    },
    Counted {
        id: "stage-durable",
        what: "stage an entry, durable",
        durable: Durable::Yes,
        part: Part::All,
        least: &[
            ("a random id", 1.0),
            ("create, write, synchronise, close", 4.0),
            ("rename", 1.0),
            ("synchronise the names", 1.0),
        ],
    },
    Counted {
        id: "stage",
        what: "stage an entry, not synchronised",
        durable: Durable::No,
        part: Part::All,
        least: &[("a random id", 1.0), ("create, write, close", 3.0), ("rename", 1.0)],
    },
    Counted {
        id: "stage-many",
        what: "stage many at once, durable, an entry",
        durable: Durable::Yes,
        part: Part::Entry,
        least: &[("create, write, synchronise, close", 4.0), ("rename", 1.0)],
    },
    Counted {
        id: "snapshot",
        what: "snapshot, an entry",
        durable: Durable::Yes,
        part: Part::Entry,
        least: &[("open, read, close", 3.0)],
    },
    Counted { id: "status", what: "status, an entry", durable: Durable::Yes, part: Part::Entry, least: &[] },
    Counted {
        id: "cleanup",
        what: "release with cleanup, an entry",
        durable: Durable::Yes,
        part: Part::Entry,
        least: &[("unlink", 1.0)],
    },
    Counted {
        id: "cleanup-rest",
        what: "release with cleanup, besides the entries, durable",
        durable: Durable::Yes,
        part: Part::Rest,
        least: &[
            ("create, write, synchronise and close the outcome", 4.0),
            ("see that the lock is still ours", 3.0),
            ("commit: rename, and synchronise the names", 2.0),
            ("synchronise the deletes", 1.0),
            ("end the run: rename", 1.0),
            ("see once more that the lock is ours", 3.0),
            ("unlink lock and flag", 2.0),
        ],
    },
];

pub(crate) fn measure(_: Form) -> Vec<Figure> {
    let possible = Command::new("strace").args(["-o", "/dev/null", "true"]).status();
    if !possible.is_ok_and(|status| status.success()) {
        println!("left out: there is no strace that may trace");
        return Vec::new();
    }
    let place = Place::fastest();
    let mut figures = Vec::new();
    for operation in &OPERATIONS {
        let found = ["component", "native", "original"].map(|name| (name, operation.calls(name, &place)));
        let mut total = Figure::new(&format!("calls/{}", operation.id), operation.what, "calls");
        let mut of_each: BTreeMap<&str, Figure> = BTreeMap::new();
        for (name, counts) in &found {
            let Some(counts) = counts else { continue };
            total = total.with(name, Spread::exactly(sum(counts.values())));
            for (call, count) in counts {
                let id = format!("calls/{}/{call}", operation.id);
                let figure = of_each.remove(call.as_str());
                let figure = figure.unwrap_or_else(|| Figure::new(&id, call, "calls"));
                of_each.insert(call, figure.with(name, Spread::exactly(*count)));
            }
        }
        total = total.with("least", Spread::exactly(sum(operation.least.iter().map(|(_, count)| count))));
        total.tell();
        figures.push(total);
        figures.extend(of_each.into_values());
        figures.extend(operation.least.iter().map(|(what, count)| {
            let id = format!("calls/{}/least/{what}", operation.id);
            Figure::new(&id, what, "calls").with("least", Spread::exactly(*count))
        }));
    }
    figures
}

/// Of nothing it is zero, not the negative one that floating point begins with.
fn sum<'a>(counts: impl Iterator<Item = &'a f64>) -> f64 {
    counts.fold(0.0, |sum, count| sum + count)
}

impl Counted {
    /// The calls that an implementation makes; none if it can't do this.
    fn calls(&self, name: &str, place: &Place) -> Option<Counts> {
        if name == "original" && matches!(self.id, "stage-many" | "status") {
            return None;
        }
        let few = self.traced(name, place, FEW);
        if self.part == Part::All {
            return Some(few);
        }
        let many = self.traced(name, place, MANY);
        let entry = |call: &str| {
            let count = |counts: &Counts| counts.get(call).copied().unwrap_or(0.0);
            (count(&many) - count(&few)) / (MANY - FEW) as f64
        };
        let part = many.keys().map(|call| {
            let count = match self.part {
                Part::Rest => few.get(call).copied().unwrap_or(0.0) - entry(call) * FEW as f64,
                _ => entry(call),
            };
            (call.clone(), count)
        });
        Some(part.filter(|(_, count)| *count > 0.0).collect())
    }

    fn traced(&self, name: &str, place: &Place, entries: u64) -> Counts {
        let directory = place.directory();
        let log = directory.path().join("strace.log");
        let root = directory.path().join("workspace");
        fs::create_dir(&root).expect("created");
        let program = child::command("calls");
        let mut traced = Command::new("strace");
        traced.args(["-qq", "-s", "256", "-e", "signal=none", "-o"]).arg(&log);
        traced.arg(program.get_program()).args(program.get_args());
        traced.arg(name).arg(self.id).arg(entries.to_string()).arg(&root);
        let ran = traced.output().expect("strace can be started");
        assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
        let log = fs::read_to_string(&log).expect("strace has written");
        let marked: Vec<&str> = log.split(MARK).collect();
        assert_eq!(marked.len(), 3, "{name} {}: the marks are missing", self.id);
        let mut counts = Counts::new();
        // The first line is what is left of the mark's, the last one the beginning of the other's.
        let lines: Vec<&str> = marked[1].lines().skip(1).collect();
        for line in &lines[..lines.len() - 1] {
            let call = line.split('(').next().unwrap_or(line);
            *counts.entry(call.to_owned()).or_default() += 1.0;
        }
        counts
    }
}

/// The process that is traced: an implementation, an operation, a number of entries, a directory.
pub(crate) fn child(arguments: &[String]) {
    let [name, id, entries, root] = arguments else { panic!("{arguments:?}") };
    let operation = OPERATIONS.iter().find(|operation| operation.id == id).expect("it is one of them");
    let (root, entries) = (Path::new(root), entries.parse().expect("a number"));
    let durable = operation.durable;
    match name.as_str() {
        "component" => of_component(id, &open(root).with_durability(durable.into()), entries),
        "native" => of_native(id, &Native::open(root, durable.into()), root, entries),
        _ => of_original(id, &Original::open(root, durable), root, entries),
    }
}

/// Does it once to warm up, and once between the marks. What it needs is made before.
fn marked<T>(mut prepare: impl FnMut() -> T, mut operation: impl FnMut(T)) {
    operation(prepare());
    let prepared = prepare();
    let _ = access(MARK, Access::EXISTS);
    operation(prepared);
    let _ = access(MARK, Access::EXISTS);
}

fn of_component(id: &str, workspace: &Workspace, entries: u64) {
    let root = workspace.root();
    let payloads: Vec<String> = (0..entries).map(payload).collect();
    match id {
        "acquire-release" => marked(
            || (),
            |()| drop(workspace.acquire("bench").and_then(|lock| lock.release_only(None)).expect("released")),
        ),
        "stage" | "stage-durable" => {
            marked(|| (), |()| drop(workspace.stage(&payloads[0]).expect("staged")));
        }
        "stage-many" => marked(|| (), |()| drop(workspace.stage_many(&payloads, None).expect("staged"))),
        "snapshot" => {
            fill(root, entries);
            marked(|| (), |()| assert_eq!(read_all(workspace), entries));
        }
        "status" => {
            fill(root, entries);
            let status = || workspace.lock_status().and_then(|_| workspace.summarize());
            marked(|| (), |()| assert_eq!(status().expect("looked at").entries, entries));
        }
        _ => marked(
            || {
                let lock = workspace.acquire("bench").expect("the lock is free");
                lock.record_consumed(&fill(root, entries)).expect("recorded");
                lock
            },
            |lock| assert_eq!(lock.release_with_cleanup().expect("released").removed, entries),
        ),
    }
}

fn of_native(id: &str, native: &Native, root: &Path, entries: u64) {
    let payloads: Vec<String> = (0..entries).map(payload).collect();
    match id {
        "acquire-release" => {
            marked(|| (), |()| drop(native.acquire().release_only(None).expect("released")));
        }
        "stage" | "stage-durable" => marked(|| (), |()| native.stage(&payloads[0])),
        "stage-many" => marked(|| (), |()| drop(native.stage_many(&payloads))),
        "snapshot" => {
            fill(root, entries);
            marked(|| (), |()| assert_eq!(native.snapshot(), entries));
        }
        "status" => {
            fill(root, entries);
            marked(|| (), |()| assert_eq!(native.status(), entries));
        }
        _ => marked(
            || native.acquire_for(&fill(root, entries)),
            |lock| assert_eq!(lock.release_with_cleanup().expect("released").removed, entries),
        ),
    }
}

fn of_original(id: &str, original: &Original, root: &Path, entries: u64) {
    match id {
        "acquire-release" => marked(
            || (),
            |()| {
                original.acquire(&[]);
                original.release();
            },
        ),
        "stage" | "stage-durable" => marked(|| payload(0), |payload| original.stage(&payload)),
        "snapshot" => {
            fill(root, entries);
            marked(|| (), |()| assert_eq!(original.snapshot().len() as u64, entries));
        }
        _ => marked(
            || {
                let ids = fill(root, entries);
                original.acquire(&ids);
                ids
            },
            |ids| assert_eq!(original.clean_up(&ids), entries),
        ),
    }
}
