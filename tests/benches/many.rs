//! Many workspaces in one process, used from two threads: how much they do, and what each costs.

use crate::support::place::Place;
use crate::support::summary::{Figure, Spread};
use crate::support::{Form, Nothing, child, open, payload, runtime};
use consolidation_host::{ConsolidateOptions, Workspace};
use std::fs;
use std::path::Path;
use std::time::Instant;

const WORKSPACES: usize = 1_000;
const THREADS: usize = 2;

pub(crate) fn measure(form: Form) -> Vec<Figure> {
    let workspaces = form.pick(20, WORKSPACES);
    let directory = Place::fastest().directory();
    let mut process = child::command("many");
    process.arg(directory.path()).arg(workspaces.to_string()).arg(form.pick("1", "5"));
    let found = child::lines(process.spawn().expect("started"));
    let figure = |name: &str, what: &str, unit: &str| {
        let samples = found.iter().filter(|(found, _)| found == name).flat_map(|(_, numbers)| numbers);
        let samples: Vec<f64> = samples.copied().collect();
        let what = format!("{what}; {workspaces} workspaces, {THREADS} threads");
        let figure = Figure::new(&format!("{name}/{workspaces}"), &what, unit);
        let figure = figure.with("component", Spread::of(&samples));
        figure.tell();
        figure
    };
    vec![
        figure("many-open", "memory of a workspace that is open (RSS)", "KiB"),
        figure("many-used", "memory of a workspace that is in use (RSS)", "KiB"),
        figure("many-threads", "threads of the process after that", ""),
        figure(
            "many-rate",
            "an entry is staged, the lock taken, the entry consumed, the lock released",
            "/s",
        ),
    ]
}

/// The process that does it: in this directory, with so many workspaces, so often.
pub(crate) fn child(arguments: &[String]) {
    let [root, workspaces, rounds] = arguments else { panic!("{arguments:?}") };
    let (root, workspaces) = (Path::new(root), workspaces.parse::<usize>().expect("a number"));
    let rounds: u32 = rounds.parse().expect("a number");
    let roots: Vec<_> = (0..workspaces).map(|number| root.join(number.to_string())).collect();
    for root in &roots {
        fs::create_dir(root).expect("created");
    }
    // What is once in a process is no part of what a workspace takes.
    let first = root.join("first");
    fs::create_dir(&first).expect("created");
    use_once(&open(&first));
    let _ = runtime();
    let before = status("VmRSS");
    let opened: Vec<Workspace> = roots.iter().map(|root| open(root)).collect();
    let share = |kibibytes: f64| (kibibytes - before) / workspaces as f64;
    println!("many-open {}", share(status("VmRSS")));
    for round in 0..=rounds {
        let begun = Instant::now();
        std::thread::scope(|scope| {
            for workspaces in opened.chunks(workspaces.div_ceil(THREADS)) {
                scope.spawn(|| workspaces.iter().for_each(use_once));
            }
        });
        let rate = workspaces as f64 / begun.elapsed().as_secs_f64();
        if round == 0 {
            println!("many-used {}", share(status("VmRSS")));
            println!("many-threads {}", status("Threads"));
        } else {
            println!("many-rate {rate}");
        }
    }
}

fn use_once(workspace: &Workspace) {
    workspace.stage(&payload(1)).expect("staged");
    let done = workspace.consolidate(&ConsolidateOptions::new("bench"), &mut Nothing).expect("consolidated");
    assert_eq!(done.removed, 1);
}

/// A number of `/proc/self/status`.
fn status(name: &str) -> f64 {
    let text = fs::read_to_string("/proc/self/status").expect("there is /proc");
    let line = text.lines().find(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(':')));
    let number = line.and_then(|line| line.split_ascii_whitespace().nth(1)).expect("it is a number");
    number.parse().expect("it is a number")
}
