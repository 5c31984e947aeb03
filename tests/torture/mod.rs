//! Torture: many owners at once, for as long as is asked for, disturbed at random, and judged by a
//! checker that knows their notes only ([`checker`]).
//!
//! [`processes`] does it to the shipped binary: 2 to 32 processes that stage, run, look and unlock, and
//! that are killed, stopped, continued and interrupted at any moment, and their commands too. [`library`]
//! does it to threads that share a process, with handles, clones and runtimes of their own, calls that
//! time out or run out of memory, and locks that are passed on, dropped and removed by force.
//!
//! With the other tests this takes some 25 seconds. The long form takes the time that it is given, for
//! each of the two, in rounds:
//!
//! ```sh
//! CONSOLIDATION_TORTURE_SECONDS=600 cargo test torture -- --nocapture
//! ```
//!
//! Every round prints its seed and what it did. `CONSOLIDATION_TEST_SEED` takes a seed: the same draws
//! again, though not the same moments. A round that fails keeps its workspace, with all notes, and says
//! where; it is made in `TMPDIR`.

mod checker;
mod library;
mod processes;

use crate::support::{TestWorkspace, entry_id, names, set_age};
use checker::{Event, Run, Violation, check};
use consolidation_guest::layout::{EntryId, RUNS, UNFINISHED};
use std::collections::hash_map::RandomState;
use std::fmt::Write;
use std::fs;
use std::hash::{BuildHasher, Hasher};
use std::mem;
use std::ops::{Deref, Range};
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Random choices that can be had again.
#[derive(Clone)]
struct Chance(u64);

impl Chance {
    /// By `CONSOLIDATION_TEST_SEED`, else one of its own.
    fn new() -> Self {
        let given = std::env::var("CONSOLIDATION_TEST_SEED").ok().and_then(|seed| seed.parse().ok());
        Chance(given.unwrap_or_else(|| RandomState::new().build_hasher().finish()))
    }

    /// SplitMix64.
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    /// Another one, for another thread.
    fn fork(&mut self) -> Self {
        Chance(self.next())
    }

    fn within(&mut self, range: Range<u64>) -> u64 {
        range.start + self.next() % (range.end - range.start)
    }

    fn one_in(&mut self, many: u64) -> bool {
        self.next().is_multiple_of(many)
    }

    fn of<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        let at = self.within(0..items.len() as u64);
        &items[usize::try_from(at).expect("an index")]
    }

    fn shorter_than(&mut self, longest: Duration) -> Duration {
        Duration::from_micros(self.within(0..u64::try_from(longest.as_micros()).expect("a short time") + 1))
    }

    fn pause(&mut self, longest: Duration) {
        thread::sleep(self.shorter_than(longest));
    }
}

/// Plays rounds for the time that is asked for, else for `usually`.
fn for_the_time(name: &str, usually: Duration, longest: Duration, mut round: impl FnMut(Chance, Duration)) {
    let asked = std::env::var("CONSOLIDATION_TORTURE_SECONDS").ok();
    let seconds = asked.map(|seconds| seconds.parse().expect("a number of seconds"));
    let time = seconds.map_or(usually, Duration::from_secs);
    let mut chance = Chance::new();
    let begun = Instant::now();
    loop {
        eprintln!("{name}: CONSOLIDATION_TEST_SEED={}", chance.0);
        round(chance.clone(), (time.saturating_sub(begun.elapsed())).min(longest));
        // The draws of a round are those of its own seed.
        chance.next();
        if begun.elapsed() >= time {
            break;
        }
    }
}

/// A workspace that is kept if the test fails.
struct Scene(Option<TestWorkspace>);

impl Scene {
    fn new() -> Self {
        Scene(Some(TestWorkspace::new()))
    }

    /// A month goes by for what killed writers left: the next run removes it.
    fn let_temporaries_age(&self) {
        const MONTH_SECONDS: i64 = 30 * 86_400;
        for directory in [self.staging(), self.runs()] {
            for (low, name) in (1..).zip(names(&directory)) {
                let Some(id) = EntryId::from_temporary_name(&name) else { continue };
                let old = entry_id(id.millis() - MONTH_SECONDS.unsigned_abs() * 1_000, low);
                let old = directory.join(old.temporary_name());
                fs::rename(directory.join(&name), &old).expect("it is renamed");
                set_age(&old, MONTH_SECONDS);
            }
        }
    }

    /// Where the outcomes of runs are.
    fn runs(&self) -> PathBuf {
        self.root().join(RUNS)
    }

    /// Where the runs are that have begun to end.
    fn unfinished(&self) -> PathBuf {
        self.runs().join(UNFINISHED)
    }

    /// After the last run there is neither lock nor flag, no write in progress and no unfinished run.
    fn note_what_is_left(&self, odd: &Odd) {
        if self.lock().symlink_metadata().is_ok() {
            odd.note("the lock is still there");
        }
        let mut left = [self.owners(), self.temporaries(), names(&self.unfinished())].concat();
        left.extend(names(&self.runs()).into_iter().filter(|name| name.ends_with(".tmp")));
        for name in left {
            odd.note(format!("left: {name}"));
        }
    }

    /// Judges what happened.
    #[track_caller]
    fn judge(&self, events: &[Event], odd: Vec<String>) {
        let violations = check(events);
        if violations.is_empty() && odd.is_empty() {
            return;
        }
        let lines: String = events.iter().fold(String::new(), |mut lines, event| {
            writeln!(lines, "{event}").expect("text grows");
            lines
        });
        fs::write(self.root().join("events"), lines).expect("the events are written");
        let mut message = String::new();
        for violation in violations.iter().take(15) {
            writeln!(message, "- {}", violation_with_events(violation, events)).expect("text grows");
        }
        for what in odd.iter().take(15) {
            writeln!(message, "- {what}").expect("text grows");
        }
        panic!("{} violations, {} odd things:\n{message}", violations.len(), odd.len());
    }
}

/// A violation, and what is noted of the entry that it is about.
fn violation_with_events(violation: &Violation, events: &[Event]) -> String {
    let mut text = format!("{violation:?}");
    let (Violation::Lost(about)
    | Violation::GoneWithoutOutcome(about)
    | Violation::CommittedUndone { id: about, .. }
    | Violation::NotTaken(about)
    | Violation::NeverStaged { id: about, .. }
    | Violation::Again { id: about, .. }) = violation
    else {
        return text;
    };
    let id = about.to_string();
    for event in events.iter().map(Event::to_string).filter(|event| event.contains(&id)) {
        write!(text, "\n    {event}").expect("text grows");
    }
    text
}

impl Deref for Scene {
    type Target = TestWorkspace;

    fn deref(&self) -> &TestWorkspace {
        self.0.as_ref().expect("it is there until the end")
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("the workspace is kept: {}", self.root().display());
            mem::forget(self.0.take());
        }
    }
}

/// Numbers that threads count up together, and show as a line.
macro_rules! counts {
    ($name:ident: $($number:ident),*) => {
        #[derive(Default)]
        struct $name { $($number: AtomicU64),* }

        impl std::fmt::Display for $name {
            fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                let numbers = [$((stringify!($number), &self.$number)),*];
                let texts = numbers
                    .map(|(name, number)| format!("{} {}", number.load(Ordering::Relaxed), name.replace('_', " ")));
                to.write_str(&texts.join(", "))
            }
        }
    };
}
use counts;

fn count(number: &AtomicU64) {
    number.fetch_add(1, Ordering::Relaxed);
}

/// What did not fit and is no matter of the entries.
#[derive(Default)]
struct Odd(Mutex<Vec<String>>);

impl Odd {
    fn note(&self, what: impl Into<String>) {
        self.0.lock().expect("no panic in between").push(what.into());
    }

    fn take(&self) -> Vec<String> {
        mem::take(&mut self.0.lock().expect("no panic in between"))
    }
}

/// The run whose pod has this name.
fn run_of(pod_name: &str) -> Option<Run> {
    pod_name.strip_prefix("pod-")?.parse().ok()
}

/// The payload of this number, in one line. No two are alike, and they are of many sizes.
fn payload(number: u64) -> String {
    format!(
        r#"{{"source":{{"segment_id":"torture","range":[{number},{number}]}},"text":"{}"}}"#,
        text_of(number)
    )
}

fn text_of(number: u64) -> String {
    let length = if number.is_multiple_of(50) { 2_000 } else { number * 7 % 60 };
    let letter = char::from(b'a' + u8::try_from(number % 26).expect("a letter"));
    std::iter::repeat_n(letter, usize::try_from(length).expect("a length")).collect()
}

/// The number of the payload that became this entry; none if it is not all there.
fn number_of(json: &str) -> Option<u64> {
    let value: serde_json::Value = serde_json::from_str(json).ok()?;
    let range = value["source"]["range"].as_array()?;
    let number = range.first()?.as_u64()?;
    (range.len() == 2
        && range[1] == number
        && value["source"]["segment_id"] == "torture"
        && value["text"] == text_of(number)
        && value["requests"] == serde_json::json!([]))
    .then_some(number)
}
