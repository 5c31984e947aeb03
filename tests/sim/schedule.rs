//! Who goes next, and what becomes of what it does. Invariant: all of it follows from a seed or a script;
//! the same one gives the same schedule, to the last step.

use consolidation_guest::fs::FsErrorKind;

/// The kinds of steps. All but [`Op::Work`], [`Op::Sleep`] and [`Op::Inspect`] are calls of the directory
/// interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Op {
    OpenDir,
    CreateDir,
    /// The beginning of a listing.
    List,
    /// Its end.
    ListEnd,
    Stat,
    Open,
    OpenForUpdate,
    Create,
    Link,
    Rename,
    Unlink,
    SyncNames,
    Read,
    Write,
    Sync,
    /// A look at a process.
    Inspect,
    /// A consolidator is at work.
    Work,
    /// The end of a sleep.
    Sleep,
}

impl Op {
    /// Can it fail?
    pub(super) fn is_call(self) -> bool {
        !matches!(self, Op::Inspect | Op::Work | Op::Sleep)
    }
}

/// One step that is about to be done.
#[derive(Clone, Debug)]
pub(super) struct Call<'a> {
    /// How many steps this actor has done before.
    pub(super) number: usize,
    /// How many steps were done before, by all.
    pub(super) steps: usize,
    pub(super) op: Op,
    pub(super) path: &'a str,
}

/// What becomes of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It is done.
    Pass,
    /// It is not done and fails.
    Refuse(FsErrorKind),
    /// It is done and reports failure: the answer is lost.
    After(FsErrorKind),
    /// A read or a write is done for so many bytes only. A listing fails after so many names. Something is
    /// synchronised or, if it is 0, not: the program leaves that out.
    Short(usize),
    /// The process is killed before it.
    Kill,
    /// The process is killed when so many bytes of it are written.
    KillWithin(usize),
    /// The instance that runs the rules is gone, and its process lives on.
    Trap,
    /// The machine loses its power before it.
    PowerLoss,
    /// The process is stopped before it for so many milliseconds.
    Pause(u32),
}

/// Who could go next.
pub(super) struct Standing<'a> {
    /// Who went last, if it can go on.
    pub(super) current: Option<usize>,
    pub(super) ready: &'a [usize],
    /// Who sleeps, the one that wakes up first first.
    pub(super) asleep: &'a [usize],
    /// How many steps were done, by all.
    pub(super) steps: usize,
}

impl Standing<'_> {
    /// Whoever went last goes on for as long as it can.
    pub(super) fn undisturbed(&self) -> usize {
        self.current.or(self.ready.first().copied()).unwrap_or_else(|| self.asleep[0])
    }
}

/// Decides. If it does not say otherwise, nothing goes wrong.
pub(super) trait Director: Send {
    /// Who goes next. Choosing one that sleeps lets the time pass until it wakes up.
    fn next(&mut self, standing: &Standing<'_>) -> usize {
        standing.undisturbed()
    }

    /// What becomes of a step.
    fn fate(&mut self, _: &Call<'_>) -> Fate {
        Fate::Pass
    }

    /// One of so many possibilities.
    fn pick(&mut self, _: usize) -> usize {
        0
    }
}

/// Nothing goes wrong.
pub(super) struct Calm;

impl Director for Calm {}

/// Every step has the fate that this function gives it.
pub(super) struct Fates<F>(pub(super) F);

impl<F: FnMut(&Call<'_>) -> Fate + Send> Director for Fates<F> {
    fn fate(&mut self, call: &Call<'_>) -> Fate {
        (self.0)(call)
    }
}

/// The step with this number has this fate, and all others pass.
pub(super) fn nth(number: usize, fate: Fate) -> Fates<impl FnMut(&Call<'_>) -> Fate + Send> {
    Fates(move |call: &Call<'_>| if call.number == number { fate } else { Fate::Pass })
}

/// What a script says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// The turn goes to this actor, also if it sleeps.
    Turn(usize),
    /// Whoever has the turn is killed before its step.
    Kill,
    /// Whoever has the turn is stopped before its step for so many milliseconds.
    Pause(u32),
}

/// The turn changes where the script says so, and where whoever has it sleeps or ends.
pub(super) struct Script {
    /// By how many steps were done before, by all. What has happened is taken out.
    events: Vec<(usize, Event)>,
}

impl Script {
    pub(super) fn of(events: &[(usize, Event)]) -> Self {
        Script { events: events.to_vec() }
    }
}

impl Director for Script {
    fn next(&mut self, standing: &Standing<'_>) -> usize {
        let turn = self.events.iter().position(|(at, event)| {
            let can = |to| standing.ready.contains(to) || standing.asleep.contains(to);
            *at == standing.steps && matches!(event, Event::Turn(to) if can(to))
        });
        match turn.map(|position| self.events.remove(position)) {
            Some((_, Event::Turn(to))) => to,
            _ => standing.undisturbed(),
        }
    }

    fn fate(&mut self, call: &Call<'_>) -> Fate {
        let event =
            self.events.iter().position(|(at, event)| *at == call.steps && !matches!(event, Event::Turn(_)));
        match event.map(|position| self.events.remove(position)) {
            Some((_, Event::Kill)) => Fate::Kill,
            Some((_, Event::Pause(milliseconds))) => Fate::Pause(milliseconds),
            _ => Fate::Pass,
        }
    }
}

/// Numbers that look random (SplitMix64).
#[derive(Clone, Debug)]
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Random(seed)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut value = self.0;
        value = (value ^ value >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        value = (value ^ value >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        value ^ value >> 31
    }

    /// A number below this one, which is not 0.
    pub(super) fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % limit as u64).unwrap_or(0)
    }

    /// True this many times in 10 000.
    pub(super) fn chance(&mut self, times: u32) -> bool {
        self.next() % 10_000 < u64::from(times)
    }

    pub(super) fn one_of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())]
    }
}

/// How often things happen in a random schedule, in 10 000 steps; and to whom.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Rates {
    /// The turn goes to any other.
    pub(super) switch: u32,
    pub(super) kill: u32,
    pub(super) trap: u32,
    pub(super) fault: u32,
    pub(super) power_loss: u32,
    /// Up to three seconds.
    pub(super) short_pause: u32,
    /// Longer than a lease.
    pub(super) long_pause: u32,
}

impl Rates {
    /// Those of a schedule: most have only some kinds of trouble, so that each is met without the others.
    pub(super) fn draw(random: &mut Random) -> Self {
        let mut some = |rates: &[u32]| random.one_of(rates);
        Rates {
            switch: some(&[200, 1_000, 3_000, 9_000]),
            kill: some(&[0, 0, 30, 100, 300]),
            trap: some(&[0, 0, 0, 50, 150]),
            fault: some(&[0, 0, 30, 100, 400]),
            power_loss: some(&[0, 0, 0, 10, 40]),
            short_pause: some(&[0, 0, 50, 200]),
            long_pause: some(&[0, 0, 20, 100]),
        }
    }
}

/// A schedule of a seed.
pub(super) struct Chance {
    pub(super) random: Random,
    pub(super) rates: Rates,
}

/// The failures that a directory interface can report: of the operating system's ENOSPC, EIO, EMFILE, EROFS,
/// EACCES, ENOENT, and what file systems say that lack an operation.
pub(super) const FAILURES: [FsErrorKind; 11] = [
    FsErrorKind::NoSpace,
    FsErrorKind::Io,
    FsErrorKind::ReadOnly,
    FsErrorKind::Access,
    FsErrorKind::NotFound,
    FsErrorKind::NotPermitted,
    FsErrorKind::Unsupported,
    FsErrorKind::TooManyLinks,
    FsErrorKind::Interrupted,
    FsErrorKind::Invalid,
    FsErrorKind::Exhausted,
];

impl Director for Chance {
    fn next(&mut self, standing: &Standing<'_>) -> usize {
        let random = &mut self.random;
        let Some(current) = standing.current else {
            return match standing.ready {
                [] => standing.asleep[0],
                // Sleeps take longer than they should, and waking up takes a while.
                ready => random.one_of(ready),
            };
        };
        if !random.chance(self.rates.switch) {
            return current;
        }
        // A few milliseconds may pass between any two steps.
        if !standing.asleep.is_empty() && random.chance(500) {
            return standing.asleep[0];
        }
        random.one_of(standing.ready)
    }

    fn fate(&mut self, call: &Call<'_>) -> Fate {
        let Chance { random, rates } = self;
        if random.chance(rates.kill) {
            return if call.op == Op::Write && random.chance(5_000) {
                Fate::KillWithin(random.below(600))
            } else {
                Fate::Kill
            };
        }
        if random.chance(rates.power_loss) {
            return Fate::PowerLoss;
        }
        if random.chance(rates.long_pause) {
            return Fate::Pause(40_000 + u32::try_from(random.below(80_000)).unwrap_or(0));
        }
        if random.chance(rates.short_pause) {
            return Fate::Pause(1 + u32::try_from(random.below(3_000)).unwrap_or(0));
        }
        if random.chance(rates.trap) {
            return Fate::Trap;
        }
        if call.op.is_call() && random.chance(rates.fault) {
            let kind = random.one_of(&FAILURES);
            return match random.below(3) {
                0 => Fate::After(kind),
                1 if matches!(call.op, Op::Read | Op::Write | Op::ListEnd) => Fate::Short(random.below(600)),
                _ => Fate::Refuse(kind),
            };
        }
        Fate::Pass
    }

    fn pick(&mut self, below: usize) -> usize {
        self.random.below(below)
    }
}

/// All sequences of choices, one after the other, or some of them at random.
pub(super) struct Choices {
    /// What was chosen, and of how many.
    path: Vec<(usize, usize)>,
    begun: bool,
    random: Option<(Random, usize)>,
}

impl Choices {
    /// All.
    pub(super) fn all() -> Self {
        Choices { path: Vec::new(), begun: false, random: None }
    }

    /// So many.
    pub(super) fn some(random: Random, count: usize) -> Self {
        Choices { path: Vec::new(), begun: false, random: Some((random, count)) }
    }

    /// All if there are no more than so many, else that many.
    pub(super) fn at_most(
        count: usize,
        random: Random,
        mut choose: impl FnMut(&mut dyn FnMut(usize) -> usize),
    ) -> Self {
        let mut all = Choices::all();
        for _ in 0..=count {
            match all.next() {
                Some(mut pick) => choose(&mut pick),
                None => return Choices::all(),
            }
        }
        Choices::some(random, count)
    }

    /// The next sequence: what is to be asked for its choices.
    pub(super) fn next(&mut self) -> Option<impl FnMut(usize) -> usize> {
        if let Some((_, left)) = &mut self.random {
            *left = left.checked_sub(1)?;
        } else if self.begun {
            // The last choice that can be another one becomes the next one; what follows is open.
            while self.path.last().is_some_and(|(chosen, of)| chosen + 1 == *of) {
                self.path.pop();
            }
            self.path.last_mut()?.0 += 1;
        }
        self.begun = true;
        let mut at = 0;
        let Choices { path, random, .. } = self;
        Some(move |of: usize| {
            if let Some((random, _)) = random {
                return random.below(of);
            }
            if at == path.len() {
                path.push((0, of));
            }
            let (chosen, known) = path[at];
            assert_eq!(known, of, "the same choices lead to the same question");
            at += 1;
            chosen
        })
    }
}
