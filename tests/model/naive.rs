//! Lock protocols without a roster: those that look right and are not, the original writer among them.
//! But for that one each is given every benefit: a record appears whole, and a release removes nothing
//! but the own lock.

use super::disk::{Attempt, Lock, Renaming};
use super::world::{self, World};

/// A protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    /// The original: look whether there is a lock and whether its owner lives, then write it in place.
    CheckThenWrite,
    /// Unlink a dead owner's lock, then create one exclusively.
    UnlinkThenCreate,
    /// Rename a dead owner's lock aside, make sure that it was that one and else put it back, then
    /// create one exclusively.
    RenameAsideThenLink,
    /// Create one exclusively; whatever is there is in use. It never breaks a lock and does exclude,
    /// but a crash blocks it for good.
    CreateOnly,
}

/// What a contender is about to do. Each attempt begins with the first look at, or creation of, the lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Step {
    /// Create the lock exclusively.
    Create,
    /// Read the lock.
    Read,
    /// Judge the owner that was read.
    Judge { read: Attempt },
    /// Unlink the lock.
    UnlinkStale,
    /// Rename the lock aside.
    RenameAside { judged: Attempt },
    /// It was another one: link it back.
    PutBack { aside: Attempt },
    /// Open the lock, which truncates or creates it.
    Open,
    /// Write the record into the file that was opened.
    Write { file: Attempt },
    /// Hold.
    Hold,
    /// Remove the lock.
    Remove,
}

impl Step {
    /// Does the contender believe to hold the lock?
    pub(super) fn holds(self) -> bool {
        matches!(self, Step::Hold | Step::Remove)
    }

    /// Has it looked at the lock, and will write on the strength of that?
    pub(super) fn has_looked(self) -> bool {
        matches!(self, Step::Judge { .. }) || self.decided() && !self.holds()
    }

    /// Has it decided to take the lock in place, or taken it?
    pub(super) fn decided(self) -> bool {
        self.holds() || matches!(self, Step::Open | Step::Write { .. })
    }

    pub(super) fn renamed(self, to: &Renaming) -> Self {
        match self {
            Step::Judge { read } => Step::Judge { read: read.renamed(to) },
            Step::RenameAside { judged } => Step::RenameAside { judged: judged.renamed(to) },
            Step::PutBack { aside } => Step::PutBack { aside: aside.renamed(to) },
            Step::Write { file } => Step::Write { file: file.renamed(to) },
            other => other,
        }
    }

    /// The step for people.
    pub(super) fn describe(self, name: &dyn Fn(Attempt) -> String) -> String {
        let text = match self {
            Step::Create => "creates the lock, if there is none",
            Step::Read => "reads the lock",
            Step::Judge { read } => return format!("judges {}", name(read)),
            Step::UnlinkStale => "unlinks the lock",
            Step::RenameAside { .. } => "renames the lock aside",
            Step::PutBack { aside } => return format!("puts back the lock of {}", name(aside)),
            Step::Open => "opens the lock for writing",
            Step::Write { .. } => "writes its record",
            Step::Hold => "begins to release",
            Step::Remove => "removes the lock",
        };
        text.into()
    }

    /// Does the step, and says what the contender is about to do next.
    pub(super) fn take(self, protocol: Protocol, world: &mut World, me: Attempt) -> world::Step {
        let next = match self {
            Step::Create if world.disk.lock.is_none() => {
                world.disk.lock = Some(Lock::of(me));
                Step::Hold
            }
            Step::Create if protocol == Protocol::CreateOnly => return world::Step::Idle,
            Step::Create => Step::Read,
            Step::Read => match (world.disk.lock, protocol) {
                (None, Protocol::CheckThenWrite) => Step::Open,
                (None, _) => Step::Create,
                (Some(Lock { record: None, .. }), _) => Step::Open,
                (Some(Lock { record: Some(read), .. }), _) => Step::Judge { read },
            },
            Step::Judge { read } if world.alive.is(read) => return world::Step::Idle,
            Step::Judge { read } => match protocol {
                Protocol::CheckThenWrite => Step::Open,
                Protocol::RenameAsideThenLink => Step::RenameAside { judged: read },
                Protocol::UnlinkThenCreate | Protocol::CreateOnly => Step::UnlinkStale,
            },
            Step::UnlinkStale => {
                world.disk.lock = None;
                Step::Create
            }
            Step::RenameAside { judged } => match world.disk.lock.take().and_then(|lock| lock.record) {
                Some(aside) if aside != judged => Step::PutBack { aside },
                _ => Step::Create,
            },
            Step::PutBack { aside } => {
                world.disk.lock.get_or_insert(Lock::of(aside));
                return world::Step::Idle;
            }
            Step::Open => {
                let Lock { file, .. } = *world.disk.lock.get_or_insert(Lock::of(me));
                world.disk.write(file, None);
                Step::Write { file }
            }
            Step::Write { file } => {
                world.disk.write(file, Some(me));
                Step::Hold
            }
            Step::Hold => Step::Remove,
            Step::Remove => {
                if protocol == Protocol::CheckThenWrite || world.disk.locked_by() == Some(me) {
                    world.disk.lock = None;
                }
                return world::Step::Idle;
            }
        };
        world::Step::Naive(next)
    }
}

impl Protocol {
    /// The first step of an attempt.
    pub(super) fn first(self) -> Step {
        if self == Protocol::CheckThenWrite { Step::Read } else { Step::Create }
    }
}
