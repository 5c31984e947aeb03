//! Measures implementations of one operation in turns: A B C, B C A, C A B, ... A sampling harness measures
//! one after the other, seconds apart, and on a machine that also does other things their ratio is then that
//! of two different machines. Here each round gives a ratio of its own, and the median of those is told.

use super::Form;
use super::summary::{Figure, Spread};
use std::time::{Duration, Instant};

/// How long the operations of one implementation go on in one round, at the least.
const TURN: Duration = Duration::from_millis(8);

/// How many operations that may be, unless the figure says otherwise.
const MOST_OPERATIONS: u32 = 1_000;

/// Fewer rounds say nothing, and more say nothing new.
const ROUNDS: (usize, usize) = (15, 300);

/// One implementation of an operation.
pub(crate) struct Party<'a> {
    name: &'static str,
    turn: Box<dyn FnMut(u32) -> Duration + 'a>,
}

impl<'a> Party<'a> {
    /// One that is timed as a whole.
    pub(crate) fn new(name: &'static str, mut operation: impl FnMut() + 'a) -> Self {
        Party::timed(name, move |operations| {
            let begun = Instant::now();
            for _ in 0..operations {
                operation();
            }
            begun.elapsed()
        })
    }

    /// One that does so many operations, and says how long they took: without what is done between them.
    pub(crate) fn timed(name: &'static str, turn: impl FnMut(u32) -> Duration + 'a) -> Self {
        Party { name, turn: Box::new(turn) }
    }
}

/// How an operation is measured.
pub(crate) struct Turns {
    pub(crate) form: Form,
    /// For how long, all implementations together.
    pub(crate) budget: Duration,
    /// Into how many parts an operation is divided in the figure: the entries that it works on.
    pub(crate) parts: u64,
    /// How many operations a turn may have: where each leaves something behind.
    pub(crate) most: u32,
}

impl Turns {
    /// For an operation that is told as a whole.
    pub(crate) fn new(form: Form, budget: Duration) -> Self {
        Turns { form, budget, parts: 1, most: MOST_OPERATIONS }
    }

    /// Has them take turns. The figure is in microseconds; each ratio is that of the first implementation to
    /// one of the others.
    pub(crate) fn take(&self, figure: &str, what: &str, mut parties: Vec<Party<'_>>) -> Figure {
        let operations = self.operations(&mut parties);
        let mut times: Vec<Vec<f64>> = vec![Vec::new(); parties.len()];
        let begun = Instant::now();
        for round in 0.. {
            let enough = match self.form {
                Form::Smoke => round >= 2,
                Form::Full => round >= ROUNDS.1 || round >= ROUNDS.0 && begun.elapsed() >= self.budget,
            };
            if enough {
                break;
            }
            for turn in 0..parties.len() {
                let party = (round + turn) % parties.len();
                let time = (parties[party].turn)(operations).as_secs_f64() * 1e6;
                times[party].push(time / f64::from(operations) / self.parts as f64);
            }
        }
        let mut measured = Figure::new(figure, what, "us");
        for (party, times) in parties.iter().zip(&times) {
            measured = measured.with(party.name, Spread::of(times));
        }
        for other in 1..parties.len() {
            let ratios: Vec<f64> =
                times[0].iter().zip(&times[other]).map(|(one, other)| one / other).collect();
            measured = measured.with_ratio(parties[0].name, parties[other].name, Spread::of(&ratios));
        }
        measured
    }

    /// How many operations make a turn: the same number for all of them. Warms them up on the way.
    fn operations(&self, parties: &mut [Party<'_>]) -> u32 {
        if self.form == Form::Smoke {
            return 1;
        }
        let mut operations = 1;
        loop {
            let shortest = parties.iter_mut().map(|party| (party.turn)(operations)).min();
            if operations >= self.most || shortest.is_none_or(|shortest| shortest >= TURN) {
                return operations;
            }
            operations = (2 * operations).min(self.most);
        }
    }
}
