//! What the contenders share: the directory, and who is alive. Invariant: a state is a few dozen bytes
//! without pointers, and everything that names an attempt can be renamed, so that states which differ
//! only in which contender is which count as one.

/// The most contenders of a model.
pub(super) const CONTENDERS: usize = 3;

/// The bits of one contender in [`Attempts`]: the most attempts of one, and one for the newcomer.
const ROUNDS: u8 = 5;

/// One attempt at the lock: the token that was drawn for it, and with it the process that drew it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Attempt(u8);

impl Attempt {
    pub(super) fn new(contender: usize, round: u8) -> Self {
        assert!(contender < CONTENDERS && round < ROUNDS);
        Attempt(contender as u8 * ROUNDS + round)
    }

    pub(super) fn contender(self) -> usize {
        usize::from(self.0 / ROUNDS)
    }

    pub(super) fn round(self) -> u8 {
        self.0 % ROUNDS
    }

    pub(super) fn renamed(self, to: &Renaming) -> Self {
        Attempt::new(to[self.contender()], self.round())
    }
}

/// Where each contender goes.
pub(super) type Renaming = [usize; CONTENDERS];

/// A set of attempts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Attempts(u16);

impl Attempts {
    pub(super) fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub(super) fn contains(self, attempt: Attempt) -> bool {
        self.0 & (1 << attempt.0) != 0
    }

    pub(super) fn with(self, attempt: Attempt) -> Self {
        Attempts(self.0 | 1 << attempt.0)
    }

    pub(super) fn without(self, attempt: Attempt) -> Self {
        Attempts(self.0 & !(1 << attempt.0))
    }

    pub(super) fn and(self, other: Self) -> Self {
        Attempts(self.0 & other.0)
    }

    pub(super) fn or(self, other: Self) -> Self {
        Attempts(self.0 | other.0)
    }

    pub(super) fn not_in_both(self, other: Self) -> Self {
        Attempts(self.0 ^ other.0)
    }

    pub(super) fn iter(self) -> impl Iterator<Item = Attempt> {
        (0..16).map(Attempt).filter(move |attempt| self.contains(*attempt))
    }

    /// Every set that has no other members than these.
    pub(super) fn subsets(self) -> impl Iterator<Item = Self> {
        let mut next = Some(self.0);
        std::iter::from_fn(move || {
            let this = next?;
            next = if this == 0 { None } else { Some((this - 1) & self.0) };
            Some(Attempts(this))
        })
    }

    /// The rounds in which a contender is a member.
    pub(super) fn of(self, contender: usize) -> u16 {
        (self.0 >> (contender as u8 * ROUNDS)) & ((1 << ROUNDS) - 1)
    }

    pub(super) fn renamed(self, to: &Renaming) -> Self {
        Attempts((0..CONTENDERS).fold(0, |set, from| set | self.of(from) << (to[from] as u8 * ROUNDS)))
    }
}

/// A file that is, or was, the visible lock: L, or Q, the name that a lock is renamed to before it is
/// broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Lock {
    /// Which file the name stands for: that of the attempt that created it. A write through an open
    /// file reaches the name only while this is the file that was opened.
    pub(super) file: Attempt,
    /// Whose record it carries; none: it was truncated and not yet written, nobody can read it.
    pub(super) record: Option<Attempt>,
}

impl Lock {
    pub(super) fn of(attempt: Attempt) -> Self {
        Lock { file: attempt, record: Some(attempt) }
    }
}

/// The directory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Disk {
    /// The owner flags. What is in them is nobody's concern: the name says whose they are.
    pub(super) flags: Attempts,
    /// Copies of records, on their way to being renamed over the lock.
    pub(super) copies: Attempts,
    /// The lock, L.
    pub(super) lock: Option<Lock>,
    /// A lock renamed aside, Q. It may be the same file as L.
    pub(super) aside: Option<Lock>,
}

impl Disk {
    /// The attempt whose record the lock carries.
    pub(super) fn locked_by(&self) -> Option<Attempt> {
        self.lock.and_then(|lock| lock.record)
    }

    /// The attempt whose record Q carries.
    pub(super) fn put_aside_of(&self) -> Option<Attempt> {
        self.aside.and_then(|lock| lock.record)
    }

    /// Writes in place, through an open file: it shows under every name that the file has by now.
    pub(super) fn write(&mut self, file: Attempt, record: Option<Attempt>) {
        for lock in [&mut self.lock, &mut self.aside].into_iter().flatten() {
            if lock.file == file {
                lock.record = record;
            }
        }
    }

    pub(super) fn is_clean(&self) -> bool {
        *self == Disk::default()
    }

    pub(super) fn renamed(&self, to: &Renaming) -> Self {
        let lock = |lock: Lock| Lock {
            file: lock.file.renamed(to),
            record: lock.record.map(|record| record.renamed(to)),
        };
        Disk {
            flags: self.flags.renamed(to),
            copies: self.copies.renamed(to),
            lock: self.lock.map(lock),
            aside: self.aside.map(lock),
        }
    }
}

/// Which attempts are those of a process that lives: of each contender those from a round on. A
/// contender that crashed comes back as another process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Alive(pub(super) [u8; CONTENDERS]);

impl Alive {
    pub(super) fn is(self, attempt: Attempt) -> bool {
        attempt.round() >= self.0[attempt.contender()]
    }
}
