//! Many processes that want one lock: each holds it for a moment, does something else for a while, and wants it
//! again. They wait as `run --wait` does, less and less eagerly, or ask again after a millisecond. Fails if two
//! of them ever hold it at once.

use crate::support::place::Place;
use crate::support::summary::{Figure, Spread};
use crate::support::{Form, child, open};
use consolidation_host::AcquireOptions;
use rustix::time::{ClockId, clock_gettime};
use std::io::{Read, Write};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

const PROCESSES: usize = 32;

/// How long a holder holds.
const HOLD: Duration = Duration::from_millis(1);

/// How long it then does something else.
const ELSEWHERE: Duration = Duration::from_millis(100);

/// How they wait: how it is called, how it is told, and how long they pause at the most.
const WAYS: [(&str, &str, Duration); 2] = [
    ("patient", "waiting as `run --wait` does", Duration::MAX),
    ("eager", "asking again each millisecond", Duration::from_millis(1)),
];

/// One hold: from when on, and when its release began, in nanoseconds of a clock that is the same to all
/// processes.
type Hold = [f64; 2];

pub(crate) fn measure(form: Form) -> Vec<Figure> {
    let figures: Vec<Figure> = WAYS.iter().flat_map(|(way, told, _)| contend(form, way, told)).collect();
    figures.iter().for_each(Figure::tell);
    figures
}

fn contend(form: Form, way: &str, told: &str) -> Vec<Figure> {
    let directory = Place::fastest().directory();
    let seconds: u32 = form.pick(1, 15);
    let processes: Vec<_> = (0..PROCESSES)
        .map(|_| {
            let mut process = child::command("contention");
            process.arg(directory.path()).arg(seconds.to_string()).arg(way).stdin(Stdio::piped());
            process.spawn().expect("started")
        })
        .collect();
    // All have come up when the first is let go.
    let processes = processes.into_iter().map(|mut process| {
        let mut byte = [0];
        process.stdout.as_mut().expect("a pipe").read_exact(&mut byte).expect("it comes up");
        process
    });
    let mut processes: Vec<_> = processes.collect();
    for process in &mut processes {
        process.stdin.take().expect("a pipe").write_all(b"\n").expect("it is let go");
    }
    let each: Vec<Vec<Hold>> = processes.into_iter().map(|process| holds(child::lines(process))).collect();
    figures(&each, f64::from(seconds), way, told)
}

fn holds(lines: Vec<(String, Vec<f64>)>) -> Vec<Hold> {
    lines.into_iter().map(|(_, numbers)| numbers.try_into().expect("two numbers")).collect()
}

/// Fails only if two hold at once: that hardly anybody gets the lock is a figure.
fn figures(each: &[Vec<Hold>], seconds: f64, way: &str, told: &str) -> Vec<Figure> {
    let of_process = |(process, holds): (usize, &Vec<Hold>)| -> Vec<(usize, Hold)> {
        holds.iter().map(|hold| (process, *hold)).collect()
    };
    let mut all: Vec<(usize, Hold)> = each.iter().enumerate().flat_map(of_process).collect();
    all.sort_unstable_by(|(_, one), (_, other)| one[0].total_cmp(&other[0]));
    let mut handovers = Vec::new();
    for pair in all.windows(2) {
        let [(process, hold), (next_process, next)] = [pair[0], pair[1]];
        assert!(hold[1] <= next[0], "two hold at once: {hold:?} and {next:?}");
        if process != next_process {
            handovers.push((next[0] - hold[1]) / 1e6);
        }
    }
    let shares: Vec<f64> = each.iter().map(|holds| holds.len() as f64).collect();
    let figure = |id: &str, what: &str, unit: &str, spread| {
        let what = format!("{what}; {told}");
        Figure::new(&format!("{id}/{PROCESSES}/{way}"), &what, unit).with("component", spread)
    };
    let mut figures = vec![
        figure("holds", "holds of all processes", "/s", Spread::exactly(all.len() as f64 / seconds)),
        figure("share", "holds of one process", "", Spread::of(&shares)),
    ];
    handovers.sort_unstable_by(f64::total_cmp);
    if let Some(p99) = handovers.get((handovers.len() * 99).div_ceil(100).saturating_sub(1)) {
        let what = "from a release until another process holds";
        figures.push(figure("handover", what, "ms", Spread::of(&handovers)));
        figures.push(figure("handover-p99", "the same, of 99 in 100", "ms", Spread::exactly(*p99)));
    }
    figures
}

/// One of the processes: in this directory, for so many seconds, waiting in this way.
pub(crate) fn child(arguments: &[String]) {
    let [root, seconds, way] = arguments else { panic!("{arguments:?}") };
    let longest = WAYS.iter().find(|(name, ..)| name == way).expect("it is one of them").2;
    let workspace = open(Path::new(root));
    let options = AcquireOptions::new("bench");
    println!();
    let _ = std::io::stdin().read(&mut [0]).expect("it is let go");
    let until = now() + seconds.parse::<f64>().expect("a number") * 1e9;
    let mut holds: Vec<Hold> = Vec::new();
    while now() < until {
        let wait = Duration::from_nanos((until - now()).max(0.0) as u64);
        let lock = workspace.acquire_within(&options, wait, |_, pause| {
            std::thread::sleep(pause.min(longest));
            true
        });
        let lock = match lock {
            Ok(lock) => lock,
            Err(_) if now() >= until => break,
            Err(error) => panic!("{error}"),
        };
        let held = now();
        std::thread::sleep(HOLD);
        let releasing = now();
        lock.release_only(None).expect("released");
        holds.push([held, releasing]);
        std::thread::sleep(ELSEWHERE);
    }
    for [held, releasing] in holds {
        println!("held {held} {releasing}");
    }
}

/// In nanoseconds; exact for the first hundred days of a machine's life.
fn now() -> f64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec as f64 * 1e9 + now.tv_nsec as f64
}
