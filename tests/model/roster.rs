//! The roster protocol, one step for one operation on the directory or one look at a process. The
//! numbers are those of the protocol's description in the guest's `lock` module.

use super::disk::{Attempt, Attempts, Lock, Renaming};
use super::naive;
use super::world::{self, Choice, World};

/// The protocol and what can be taken away from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rules {
    /// Step 1 comes before step 2.
    pub(super) flag_before_scan: bool,
    /// Step 4 reads the lock once more before it unlinks it.
    pub(super) second_look: SecondLook,
    /// The file system has hard links.
    pub(super) links: bool,
    /// An attempt that is abandoned lowers its flag when its lock is down, and not before.
    pub(super) flag_outlasts_lock: bool,
    /// Contenders have an order and all patience: who is not the first and does not see a live holder
    /// waits for as long as it takes. Without, everybody may go or stay, as a superset of what any
    /// order of the names and any waiting time lead to.
    pub(super) patient: bool,
    /// What is done for the sake of writers of the original format.
    pub(super) coexist: Coexist,
}

/// The option to coexist with writers of the original format, part by part.
///
/// What is assumed: an original that looked at the lock before ours was linked, and goes on to write, has
/// written before the wait is over. Nothing is assumed of one that looks later, of how long one holds, or
/// of one that crashes. Two originals that go for the lock at one time overlap, as they do among
/// themselves; whose lock is then removed by whose release nobody can help. It takes hard links, and the
/// option with all of ours. The lock is a file of its own, not a second name of the flag: originals write
/// in place. An original that releases while its lock is aside leaves it behind for as long as it lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Coexist {
    /// Step 3 begins with a look at Q: what a crash left there may be the lock of one who lives.
    pub(super) looks_aside: bool,
    /// A lock is not unlinked in its place but renamed to Q, and what was got is looked at.
    pub(super) breaks_aside: Breaks,
    /// An attempt that is abandoned takes its lock down in the same way.
    pub(super) abandons_aside: bool,
    /// What came to Q and should not have is linked back, and not renamed back over what is there.
    pub(super) puts_back_exclusively: bool,
    /// A lock that was taken is looked at once more, after a wait, before it is held.
    pub(super) wait: Wait,
    /// Also a lock that was taken without an answer.
    pub(super) waits_after_a_lost_answer: bool,
}

/// How a lock is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Breaks {
    /// It is unlinked.
    InPlace,
    /// It is renamed to Q. That is compared with what was judged.
    Aside(SecondLook),
}

/// The wait between taking the lock and holding it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wait {
    /// There is none, and no further look at the lock.
    None,
    /// It ends at any time.
    TooShort,
    /// Originals that had opened the lock when it was taken have written it by its end.
    SinceOpen,
    /// Originals that had looked at the lock when it was taken have given up or written it by its end.
    SinceLook,
}

/// What is compared, right before a lock is unlinked, with the lock that was judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SecondLook {
    /// What is in the file, and of one that can't be read also the time of its last change.
    ContentAndAge,
    /// What is in the file.
    Content,
    /// Nothing.
    None,
}

/// The protocol as it is, with the option to coexist off. Nobody renames a lock to Q there, and the look
/// at that place is left out.
pub(super) const ROSTER: Rules = Rules {
    flag_before_scan: true,
    second_look: SecondLook::ContentAndAge,
    links: true,
    flag_outlasts_lock: true,
    patient: false,
    coexist: Coexist {
        looks_aside: false,
        breaks_aside: Breaks::InPlace,
        abandons_aside: false,
        puts_back_exclusively: true,
        wait: Wait::None,
        waits_after_a_lost_answer: true,
    },
};

/// The protocol with the option to coexist.
pub(super) const COEXISTING: Rules = Rules {
    coexist: Coexist {
        looks_aside: true,
        breaks_aside: Breaks::Aside(SecondLook::ContentAndAge),
        abandons_aside: true,
        puts_back_exclusively: true,
        wait: Wait::SinceLook,
        waits_after_a_lost_answer: true,
    },
    ..ROSTER
};

/// What a contender is about to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Step {
    /// 1: create the flag.
    CreateFlag,
    /// 1: write the record into the flag.
    WriteFlag,
    /// 2: open the roster.
    List,
    /// 2: come to its end. What was raised or lowered since `begun` is seen or not.
    ListToEnd { begun: Attempts },
    /// 2: judge the owner of one more flag.
    Judge { rest: Attempts, copies: Attempts, live: bool, ahead: bool },
    /// 2: unlink a flag whose owner was judged dead.
    UnlinkFlag { flag: Attempt, rest: Attempts, copies: Attempts, live: bool, ahead: bool },
    /// 2: judge the owner of one more copy, unlink it if dead. Nothing else depends on a copy.
    Sweep { copies: Attempts, live: bool, ahead: bool },
    /// 2: others live. Scan again, or lower the flag.
    Meet { ahead: bool },
    /// 3: look at Q.
    LookAside,
    /// 3: judge the owner that was read there.
    JudgeAside { read: Option<Attempt> },
    /// 3: link the flag as the lock.
    Link,
    /// 3: give those who looked at the lock before it was taken the time to write theirs over it.
    Wait { awaited: Attempts },
    /// 3: make sure that the lock is still the own one.
    Check,
    /// 4: read the lock.
    ReadLock,
    /// 4: judge the owner that was read.
    JudgeLock { read: Option<Attempt> },
    /// 4: read the lock again.
    ReadLockAgain { judged: Option<Attempt> },
    /// 4: unlink the lock. `of_living`: it was another's, who lives, when that was decided.
    UnlinkLock { of_living: bool },
    /// 4: rename the lock to Q.
    SetAside { judged: Option<Attempt>, of_living: bool },
    /// 4, abandon: read Q, which should be what was judged, or the own lock.
    ReadAside { expected: Option<Attempt>, abandons: bool },
    /// 3, 4, abandon: unlink Q.
    DropAside { abandons: bool },
    /// 3, 4, abandon: it is the lock of one who lives, or just another one. Link it back.
    PutBack,
    /// 3, 4, abandon: unlink Q, which is the lock again.
    DropPutBack,
    /// 3 without hard links: make sure that there is no lock.
    FindNoLock,
    /// 3 without hard links: write a copy of the record.
    WriteCopy,
    /// 3 without hard links: rename the copy to the lock, over whatever is there.
    RenameCopy,
    /// Hold: rewrite the lock, or begin to release it.
    Hold,
    /// Hold: look whether the lock is still the own one.
    CheckBeforeRewrite,
    /// Hold: rename a new record over the lock.
    RenameRecord,
    /// Release: look whether the lock is still the own one.
    CheckBeforeRelease,
    /// Release: delete what was consumed and unlink the lock.
    Release,
    /// After an error the attempt is taken back, and after a trap the host does the same for the instance
    /// that it dropped: look whether the lock is its.
    Abandon,
    /// Abandon: unlink the lock.
    AbandonLock,
    /// Abandon: rename the lock to Q.
    AbandonAside,
    /// Abandon: remove the copy.
    AbandonCopy,
    /// Lower the flag.
    LowerFlag,
}

impl Rules {
    /// The first step of an attempt.
    pub(super) fn first(self) -> Step {
        if self.flag_before_scan { Step::CreateFlag } else { Step::List }
    }

    /// The first step of taking an attempt back.
    pub(super) fn abandon(&self, world: &mut World, me: Attempt) -> Step {
        if !self.flag_outlasts_lock {
            world.disk.flags = world.disk.flags.without(me);
        }
        Step::Abandon
    }

    fn links_back(&self) -> bool {
        self.links && self.coexist.puts_back_exclusively
    }
}

impl Step {
    /// Does the contender believe to hold the lock?
    pub(super) fn holds(self) -> bool {
        matches!(
            self,
            Step::Hold
                | Step::CheckBeforeRewrite
                | Step::RenameRecord
                | Step::CheckBeforeRelease
                | Step::Release
        )
    }

    /// Has the attempt to be abandoned, or once more, if this step fails or traps?
    pub(super) fn can_fail(self) -> bool {
        !matches!(
            self,
            Step::Abandon | Step::AbandonLock | Step::AbandonAside | Step::AbandonCopy | Step::LowerFlag
        )
    }

    pub(super) fn renamed(self, to: &Renaming) -> Self {
        match self {
            Step::ListToEnd { begun } => Step::ListToEnd { begun: begun.renamed(to) },
            Step::Judge { rest, copies, live, ahead } => {
                Step::Judge { rest: rest.renamed(to), copies: copies.renamed(to), live, ahead }
            }
            Step::UnlinkFlag { flag, rest, copies, live, ahead } => Step::UnlinkFlag {
                flag: flag.renamed(to),
                rest: rest.renamed(to),
                copies: copies.renamed(to),
                live,
                ahead,
            },
            Step::Sweep { copies, live, ahead } => Step::Sweep { copies: copies.renamed(to), live, ahead },
            Step::JudgeAside { read } => Step::JudgeAside { read: read.map(|read| read.renamed(to)) },
            Step::Wait { awaited } => Step::Wait { awaited: awaited.renamed(to) },
            Step::JudgeLock { read } => Step::JudgeLock { read: read.map(|read| read.renamed(to)) },
            Step::ReadLockAgain { judged } => {
                Step::ReadLockAgain { judged: judged.map(|judged| judged.renamed(to)) }
            }
            Step::SetAside { judged, of_living } => {
                Step::SetAside { judged: judged.map(|judged| judged.renamed(to)), of_living }
            }
            Step::ReadAside { expected, abandons } => {
                Step::ReadAside { expected: expected.map(|expected| expected.renamed(to)), abandons }
            }
            other => other,
        }
    }

    /// The step for people.
    pub(super) fn describe(self, choice: Choice, name: &dyn Fn(Attempt) -> String) -> String {
        let text = match self {
            Step::CreateFlag => "creates its flag",
            Step::WriteFlag => "writes its flag",
            Step::List => "begins to list the flags",
            Step::ListToEnd { .. } => {
                let Choice::See(seen) = choice else { unreachable!("{self:?} can't go by {choice:?}") };
                return format!("lists: {}", seen.iter().map(name).collect::<Vec<_>>().join(" "));
            }
            Step::Judge { .. } => {
                let Choice::Take(flag) = choice else { unreachable!("{self:?} can't go by {choice:?}") };
                return format!("judges {} by its flag", name(flag));
            }
            Step::UnlinkFlag { flag, .. } => return format!("unlinks the flag of {}", name(flag)),
            Step::Sweep { .. } => "judges a copy, unlinks it if dead",
            Step::Meet { .. } if choice == Choice::GiveUp => "gives way",
            Step::Meet { .. } => "waits",
            Step::Link if choice == Choice::LoseAnswer => "links, and the answer is lost",
            Step::Link => "links",
            Step::LookAside | Step::ReadAside { .. } => "reads Q",
            Step::Wait { .. } => "has waited",
            Step::ReadLock | Step::Check => "reads the lock",
            Step::JudgeLock { read: Some(owner) } | Step::JudgeAside { read: Some(owner) } => {
                return format!("judges {}", name(owner));
            }
            Step::JudgeLock { read: None } => "finds the lock old and unreadable",
            Step::JudgeAside { read: None } => "finds Q old and unreadable",
            Step::SetAside { .. } if choice == Choice::LoseAnswer => {
                "renames the lock to Q, and the answer is lost"
            }
            Step::SetAside { .. } | Step::AbandonAside => "renames the lock to Q",
            Step::DropAside { .. } | Step::DropPutBack => "unlinks Q",
            Step::PutBack if choice == Choice::LoseAnswer => "links Q back, and the answer is lost",
            Step::PutBack => "puts Q back",
            Step::ReadLockAgain { .. } => "reads the lock again",
            Step::UnlinkLock { .. } => "unlinks the lock",
            Step::WriteCopy => "writes a copy",
            Step::FindNoLock => "looks for the lock once more",
            Step::RenameCopy => "renames its copy to the lock",
            Step::AbandonCopy => "removes its copy",
            Step::Hold if choice == Choice::Rewrite => "begins to rewrite the lock",
            Step::Hold => "begins to release",
            Step::CheckBeforeRewrite | Step::CheckBeforeRelease | Step::Abandon => "looks whose the lock is",
            Step::RenameRecord => "renames a new record over the lock",
            Step::Release => "releases the lock",
            Step::AbandonLock => "abandons the lock",
            Step::LowerFlag => "lowers its flag",
        };
        text.into()
    }

    /// The ways in which the step can go.
    pub(super) fn choices(self, rules: Rules, world: &World, me: Attempt, add: &mut impl FnMut(Choice)) {
        match self {
            Step::ListToEnd { begun } => {
                let now = world.disk.flags.without(me);
                let sure = begun.and(now);
                for seen in begun.not_in_both(now).subsets() {
                    add(Choice::See(sure.or(seen)));
                }
            }
            Step::Judge { rest, .. } => rest.iter().map(Choice::Take).for_each(add),
            Step::Meet { ahead } if rules.patient => {
                let held = world.disk.locked_by().is_some_and(|owner| world.alive.is(owner));
                add(if ahead || held { Choice::GiveUp } else { Choice::Go });
            }
            Step::Meet { .. } => {
                add(Choice::Go);
                add(Choice::GiveUp);
            }
            Step::Link if world.disk.lock.is_none() => {
                add(Choice::Go);
                add(Choice::LoseAnswer);
            }
            Step::PutBack if world.disk.lock.is_none() && rules.links_back() => {
                add(Choice::Go);
                add(Choice::LoseAnswer);
            }
            Step::SetAside { .. } if world.disk.lock.is_some() => {
                add(Choice::Go);
                add(Choice::LoseAnswer);
            }
            Step::Wait { awaited } if !world.originals_in(in_window(rules)).and(awaited).is_empty() => {}
            Step::Hold => {
                add(Choice::Go);
                add(Choice::Rewrite);
            }
            _ => add(Choice::Go),
        }
    }

    /// Does the step, and says what the contender is about to do next.
    pub(super) fn take(self, rules: Rules, world: &mut World, me: Attempt, choice: Choice) -> world::Step {
        let next = match (self, choice) {
            (Step::CreateFlag, _) => {
                world.disk.flags = world.disk.flags.with(me);
                Step::WriteFlag
            }
            (Step::WriteFlag, _) if rules.flag_before_scan => Step::List,
            (Step::WriteFlag, _) => Step::Link,
            (Step::LookAside, _) => match world.disk.aside {
                None => again(rules),
                Some(lock) if world.is_being_written(lock) => Step::PutBack,
                Some(lock) => Step::JudgeAside { read: lock.record },
            },
            // A record that can be read is not written any more: who has Q open for writing opened it
            // as the lock, and truncated it by that. It needs no second look.
            (Step::JudgeAside { read }, _) if read.is_some_and(|owner| world.alive.is(owner)) => {
                Step::PutBack
            }
            (Step::JudgeAside { .. }, _) => Step::DropAside { abandons: false },
            (Step::List, _) => Step::ListToEnd { begun: world.disk.flags.without(me) },
            (Step::ListToEnd { .. }, Choice::See(rest)) => {
                scanned(rules, rest, world.disk.copies.without(me), false, false)
            }
            (Step::Judge { rest, copies, live, ahead }, Choice::Take(flag)) => {
                let rest = rest.without(flag);
                if world.alive.is(flag) {
                    scanned(rules, rest, copies, true, ahead || (rules.patient && flag < me))
                } else {
                    Step::UnlinkFlag { flag, rest, copies, live, ahead }
                }
            }
            (Step::UnlinkFlag { flag, rest, copies, live, ahead }, _) => {
                world.disk.flags = world.disk.flags.without(flag);
                scanned(rules, rest, copies, live, ahead)
            }
            (Step::Sweep { copies, live, ahead }, _) => {
                let copy = copies.iter().next().expect("a sweep has something to sweep");
                if !world.alive.is(copy) {
                    world.disk.copies = world.disk.copies.without(copy);
                }
                scanned(rules, Attempts::default(), copies.without(copy), live, ahead)
            }
            (Step::Meet { .. }, Choice::GiveUp) => Step::LowerFlag,
            (Step::Meet { .. }, _) => Step::List,
            (Step::Link, _) if world.disk.lock.is_some() => Step::ReadLock,
            (Step::Link, _) => {
                world.disk.lock = Some(Lock::of(me));
                if choice == Choice::LoseAnswer { Step::ReadLock } else { taken(rules, world) }
            }
            (Step::Wait { .. }, _) => Step::Check,
            (Step::Check, _) if world.disk.locked_by() == Some(me) => Step::Hold,
            (Step::Check, _) => Step::LowerFlag,
            (Step::ReadLock, _) => match world.disk.lock {
                None if rules.links => Step::Link,
                None => Step::FindNoLock,
                Some(lock) if lock.record == Some(me) => {
                    if rules.coexist.waits_after_a_lost_answer {
                        taken(rules, world)
                    } else {
                        Step::Hold
                    }
                }
                // What can't be read is stale when it has not changed for a grace time, in which a
                // writer that lives is taken to get from truncating a file to writing it.
                Some(_) if world.lock_is_being_written() => Step::LowerFlag,
                Some(lock) => Step::JudgeLock { read: lock.record },
            },
            (Step::JudgeLock { read }, _) => {
                if read.is_some_and(|owner| world.alive.is(owner)) {
                    Step::LowerFlag
                } else if rules.second_look == SecondLook::None {
                    decided(rules, world, read)
                } else {
                    Step::ReadLockAgain { judged: read }
                }
            }
            (Step::ReadLockAgain { judged }, _) => {
                let same = world.disk.lock.is_some_and(|lock| lock.record == judged);
                let touched = rules.second_look == SecondLook::ContentAndAge && world.lock_is_being_written();
                match judged {
                    _ if same && !touched => decided(rules, world, judged),
                    Some(_) => again(rules),
                    None => Step::LowerFlag,
                }
            }
            (Step::UnlinkLock { .. }, _) => {
                world.disk.lock = None;
                again(rules)
            }
            (Step::SetAside { .. }, _) if world.disk.lock.is_none() => alone(rules),
            (Step::SetAside { judged, .. }, _) => {
                world.disk.aside = world.disk.lock.take();
                let answer = Step::ReadAside { expected: judged, abandons: false };
                if choice == Choice::LoseAnswer { alone(rules) } else { answer }
            }
            // Whatever the answer: Q is looked at.
            (Step::AbandonAside, _) => {
                if world.disk.lock.is_some() {
                    world.disk.aside = world.disk.lock.take();
                }
                Step::ReadAside { expected: Some(me), abandons: true }
            }
            (Step::ReadAside { .. }, _) if world.disk.aside.is_none() => abandoned(world, me),
            (Step::ReadAside { expected, abandons }, _) => {
                let lock = world.disk.aside.expect("it was there a moment ago");
                let touched = rules.coexist.breaks_aside == Breaks::Aside(SecondLook::ContentAndAge)
                    && world.is_being_written(lock);
                if lock.record == expected && !touched { Step::DropAside { abandons } } else { Step::PutBack }
            }
            (Step::DropAside { abandons }, _) => {
                world.disk.aside = None;
                if abandons { abandoned(world, me) } else { again(rules) }
            }
            // It takes a flag that was lowered too early to get here.
            (Step::PutBack, _) if world.disk.aside.is_none() => Step::LowerFlag,
            (Step::PutBack, _) if !rules.links_back() => {
                world.disk.lock = world.disk.aside.take();
                Step::LowerFlag
            }
            (Step::PutBack, _) => {
                let back = world.disk.aside.expect("it was there a moment ago");
                match world.disk.lock {
                    None => {
                        world.disk.lock = Some(back);
                        if choice == Choice::LoseAnswer { Step::LowerFlag } else { Step::DropPutBack }
                    }
                    // It was put back before.
                    Some(lock) if lock.record.is_some() && lock.record == back.record => Step::DropPutBack,
                    // A new lock came to its place. This one stays where it is until its owner is dead.
                    Some(_) => Step::LowerFlag,
                }
            }
            (Step::DropPutBack, _) => {
                world.disk.aside = None;
                Step::LowerFlag
            }
            (Step::FindNoLock, _) if world.disk.lock.is_none() => Step::WriteCopy,
            (Step::FindNoLock, _) => again(rules),
            (Step::WriteCopy, _) => {
                world.disk.copies = world.disk.copies.with(me);
                Step::RenameCopy
            }
            (Step::RenameCopy, _) => {
                world.disk.copies = world.disk.copies.without(me);
                world.disk.lock = Some(Lock::of(me));
                taken(rules, world)
            }
            (Step::Hold, Choice::Rewrite) => Step::CheckBeforeRewrite,
            (Step::Hold, _) => Step::CheckBeforeRelease,
            (Step::CheckBeforeRewrite, _) if world.disk.locked_by() == Some(me) => Step::RenameRecord,
            (Step::CheckBeforeRewrite, _) => Step::LowerFlag,
            (Step::RenameRecord, _) => {
                world.disk.lock = Some(Lock::of(me));
                Step::Hold
            }
            (Step::CheckBeforeRelease, _) if world.disk.locked_by() == Some(me) => Step::Release,
            (Step::CheckBeforeRelease, _) => Step::LowerFlag,
            (Step::Abandon, _) if world.disk.locked_by() == Some(me) => {
                if rules.coexist.abandons_aside {
                    Step::AbandonAside
                } else {
                    Step::AbandonLock
                }
            }
            // Taken down by half before.
            (Step::Abandon, _) if world.disk.put_aside_of() == Some(me) => Step::DropAside { abandons: true },
            (Step::Abandon, _) => abandoned(world, me),
            (Step::AbandonLock, _) => {
                world.disk.lock = None;
                abandoned(world, me)
            }
            (Step::AbandonCopy, _) => {
                world.disk.copies = world.disk.copies.without(me);
                Step::LowerFlag
            }
            (Step::Release, _) => {
                world.disk.lock = None;
                Step::LowerFlag
            }
            (Step::LowerFlag, _) => {
                world.disk.flags = world.disk.flags.without(me);
                return world::Step::Idle;
            }
            (Step::ListToEnd { .. } | Step::Judge { .. }, _) => {
                unreachable!("{self:?} can't go by {choice:?}")
            }
        };
        world::Step::Roster(next)
    }
}

/// What comes after a flag or a copy is judged.
fn scanned(rules: Rules, rest: Attempts, copies: Attempts, live: bool, ahead: bool) -> Step {
    if !rest.is_empty() {
        Step::Judge { rest, copies, live, ahead }
    } else if !copies.is_empty() {
        Step::Sweep { copies, live, ahead }
    } else if live {
        Step::Meet { ahead }
    } else if !rules.flag_before_scan {
        Step::CreateFlag
    } else {
        alone(rules)
    }
}

/// Step 3: nobody else who follows the protocol goes on before our flag is lowered.
fn alone(rules: Rules) -> Step {
    if rules.coexist.looks_aside { Step::LookAside } else { again(rules) }
}

/// The lock is linked, or renamed to its place.
fn taken(rules: Rules, world: &World) -> Step {
    match rules.coexist.wait {
        Wait::None => Step::Hold,
        Wait::TooShort => Step::Check,
        Wait::SinceOpen | Wait::SinceLook => Step::Wait { awaited: world.originals_in(in_window(rules)) },
    }
}

/// Is an original that is about to do this waited for?
fn in_window(rules: Rules) -> fn(naive::Step) -> bool {
    match rules.coexist.wait {
        Wait::SinceLook => naive::Step::has_looked,
        _ => |step| matches!(step, naive::Step::Write { .. }),
    }
}

/// Step 3. Without hard links the attempt to link fails at once, and the lock is looked at.
fn again(rules: Rules) -> Step {
    if rules.links { Step::Link } else { Step::ReadLock }
}

/// The lock is not, or no longer, that of an attempt that is abandoned. What else is there of it?
fn abandoned(world: &World, me: Attempt) -> Step {
    if world.disk.copies.contains(me) { Step::AbandonCopy } else { Step::LowerFlag }
}

/// The lock is to be unlinked. Is that right at this moment?
fn decided(rules: Rules, world: &World, judged: Option<Attempt>) -> Step {
    let of_living = world.lock_is_of_living();
    match rules.coexist.breaks_aside {
        Breaks::InPlace => Step::UnlinkLock { of_living },
        Breaks::Aside(_) => Step::SetAside { judged, of_living },
    }
}
