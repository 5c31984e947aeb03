//! A run's commit as a model, and every state of it, with owners that are *late*: stopped anywhere for
//! longer than their lease, taken for dead by a successor, and going on where they were. No lock can
//! exclude them. What a run comes to is decided by its ticket. The protocol is that of the guest's `runs`
//! module.
//!
//! # What is modelled
//!
//! A step is one operation on the directories. Everybody may crash before any step, or the step fails and
//! the attempt is abandoned; and anybody who is not alone may take anybody else for dead at any moment: a
//! lease that ran out and one that did not are the same here. The listings of tickets have a beginning
//! and an end, and show or miss what is renamed in between. An entry may refuse to be deleted, again and
//! again. The answer to the rename that commits can get lost, or the commit can't be synchronised and is
//! tried once more. One entry arrives at any moment. Locks and flags are removed by force.
//!
//! The roster is there in outline: a flag is raised, the flags of those taken for dead are unlinked, and
//! after that the lock is taken, in the way of which another's may stand. It is rewritten and removed as
//! in the guest, which looks first whose it is; a late owner acts on a look of long ago.
//!
//! Left out: the loss of power, which the simulator has, and a release that keeps the entries, which has
//! nothing to decide.
//!
//! # What is claimed
//!
//! See [`Claim`]. That nothing is left is tried out in every state, as for the lock: everybody is dead
//! from then on, and one more process makes a run alone.

use std::fmt::Write as _;
use std::hash::{Hash, Hasher};

use stateright::Property;

use super::Tell;

/// The most owners, the newcomer included.
const OWNERS: usize = 4;
/// The process that comes alone when all others are dead.
const NEWCOMER: u8 = OWNERS as u8 - 1;
/// The entries: one that is there from the beginning and one that arrives.
const ENTRIES: Set = Set(0b11);
const FIRST: Set = Set(0b01);

/// A set of owners or of entries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Set(u8);

impl Set {
    fn of(it: u8) -> Self {
        Set(1 << it)
    }

    fn is_empty(self) -> bool {
        self.0 == 0
    }

    fn has(self, it: u8) -> bool {
        self.0 & (1 << it) != 0
    }

    fn and(self, other: Self) -> Self {
        Set(self.0 & other.0)
    }

    fn or(self, other: Self) -> Self {
        Set(self.0 | other.0)
    }

    fn without(self, other: Self) -> Self {
        Set(self.0 & !other.0)
    }

    fn first(self) -> Option<u8> {
        (!self.is_empty()).then(|| self.0.trailing_zeros() as u8)
    }

    fn iter(self) -> impl Iterator<Item = u8> {
        (0..8).filter(move |&it| self.has(it))
    }

    fn subsets(self) -> impl Iterator<Item = Self> {
        (0..=self.0).map(Set).filter(move |set| set.and(self) == *set)
    }

    fn renamed(self, to: &Renaming) -> Self {
        self.iter().fold(Set::default(), |set, owner| set.or(Set::of(to[usize::from(owner)])))
    }
}

/// Where each owner goes.
type Renaming = [u8; OWNERS];

/// How a run commits, and what can be taken away from that.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    /// How the lock comes to its place.
    pub(super) takes: Takes,
    /// When the tickets are looked for.
    pub(super) recovers: Recovers,
    /// What is committed is looked for in a second listing, after the open tickets are sealed.
    pub(super) lists_twice: bool,
    /// What recovery deletes for a run that committed.
    pub(super) finishes: Finishes,
    /// Committed entries that can't be deleted are in no snapshot.
    pub(super) passes_over_consumed: bool,
    /// The ticket is there before the checks.
    pub(super) ticket_first: bool,
    /// What is checked.
    pub(super) checks: Checks,
    /// How the ticket becomes that of a run that committed.
    pub(super) commits: Commits,
    /// Entries are deleted after the commit.
    pub(super) commit_first: bool,
    /// A commit that the answer denies is looked for.
    pub(super) looks_after_a_denial: bool,
    /// What is done when the commit is tried once more.
    pub(super) again: Again,
    /// Who finds its run sealed gives it up, and does not try with another ticket.
    pub(super) gives_up_when_sealed: bool,
    /// Before each seal the flag and the lock are looked at.
    pub(super) checks_before_seals: bool,
    /// Who finds that it lost its flag takes the lock down, if that is still its own.
    pub(super) takes_down_when_lost: bool,
    /// Who calls a dead owner's run aborted makes sure first that it is not committed, and is careful
    /// about the order.
    pub(super) closes: Closes,
}

/// How the lock comes to its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Takes {
    /// The flag is linked: not if it was removed.
    LinkFlag,
    /// A copy is linked.
    LinkCopy,
    /// Without hard links: a copy is renamed.
    RenameCopy,
}

/// When tickets are looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Recovers {
    /// When the own flag is up, and before those of the dead are unlinked.
    BeforeTheScan,
    /// When those are unlinked.
    BeforeTheLock,
    /// When the lock is taken.
    UnderTheLock,
}

/// What recovery deletes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Finishes {
    /// The ids in the ticket.
    Committed,
    /// What is staged.
    Listed,
}

/// What is checked before the commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Checks {
    FlagThenLock,
    LockThenFlag,
    Flag,
    Lock,
    Nothing,
}

/// How a ticket becomes that of a run that committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Commits {
    /// It is renamed.
    Rename,
    /// It is made sure that it is not sealed, then another is written.
    LookThenWrite,
}

/// What is done when a commit is tried once more, because it could not be synchronised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Again {
    /// It is looked for. A run that committed has, whatever became of the lock since.
    LooksFirst,
    /// It is looked for, but the checks come first.
    ChecksFirst,
    /// It is done once more.
    Anew,
}

/// How a dead owner's run gets its outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Closes {
    /// A committed ticket is looked for before an outcome.
    TicketThenOutcome,
    /// An outcome is looked for before a committed ticket, and one that came meanwhile is overwritten.
    OutcomeThenTicket,
}

/// The commit as it is.
pub(super) const RUN: Rules = Rules {
    takes: Takes::LinkFlag,
    recovers: Recovers::UnderTheLock,
    lists_twice: true,
    finishes: Finishes::Committed,
    passes_over_consumed: true,
    ticket_first: true,
    checks: Checks::FlagThenLock,
    commits: Commits::Rename,
    commit_first: true,
    looks_after_a_denial: true,
    again: Again::LooksFirst,
    gives_up_when_sealed: true,
    checks_before_seals: true,
    takes_down_when_lost: true,
    closes: Closes::TicketThenOutcome,
};

/// What an owner is about to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Step {
    RaiseFlag,
    ListFlags,
    /// Unlink the flag of the next one, or give way to him.
    JudgeFlag {
        rest: Set,
    },
    /// Take the lock, if there is none.
    Take,
    /// Judge whose lock is in the way.
    JudgeLock {
        read: u8,
    },
    ReadLockAgain {
        judged: u8,
    },
    UnlinkLock,
    /// Without hard links: rename a copy over what there is by now.
    RenameLock,
    /// Recovery: begin the first listing of tickets.
    ListOpen,
    /// Come to its end. What was opened, or ended, since it began is seen or not.
    ListOpenToEnd {
        open: Set,
        ended: Set,
    },
    CheckBeforeSeal {
        open: Set,
        ended: Set,
    },
    Seal {
        open: Set,
        ended: Set,
    },
    /// Recovery: begin the second listing.
    ListEnded,
    ListEndedToEnd {
        begun: Set,
    },
    /// Recovery: read the next ticket of those that are committed or sealed.
    ReadTicket {
        rest: Set,
    },
    /// Recovery: delete what it names.
    FinishDelete {
        run: u8,
        ids: Set,
        failed: Set,
        rest: Set,
    },
    FinishTicket {
        run: u8,
        rest: Set,
    },
    /// Recovery: give a sealed run its outcome.
    WriteAborted {
        run: u8,
        rest: Set,
    },
    UnlinkSealed {
        run: u8,
        rest: Set,
    },
    /// Recovery: has the run, whose lock was in the way, a ticket or an outcome? If not it is aborted.
    LookForTicket,
    LookForOutcome,
    WriteOutcome,
    Snapshot,
    CheckBeforeRewrite,
    Rewrite,
    /// The consolidator is through.
    WriteTicket,
    CheckFlag,
    CheckLock,
    RemoveTicket,
    Commit,
    CommitOver,
    /// The commit was denied, or is tried again. Is it on the disk?
    LookCommitted,
    LookFinished,
    /// The commit could not be synchronised.
    TryAgain,
    Delete {
        ids: Set,
        failed: Set,
    },
    Finish,
    CheckBeforeRelease,
    UnlinkOwnLock,
    LowerFlag,
    /// It has gone on to other things, and lives.
    Gone,
    /// It crashed.
    Dead,
}

/// What an owner's release answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Answer {
    None,
    Committed,
    Lost,
}

/// A ticket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Ticket {
    None,
    Open,
    Committed,
    Sealed,
}

/// An outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Outcome {
    None,
    Committed,
    Aborted,
}

/// An owner, and what there is of its run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Owner {
    step: Step,
    answer: Answer,
    /// Entries that a committed run consumed and that could not be deleted.
    kept: Set,
    /// The entries of its snapshot.
    consumed: Set,
    /// Its record names them.
    recorded: bool,
    /// Whose lock it broke.
    broke: Option<u8>,
    ticket: Ticket,
    outcome: Outcome,
    /// It committed. Nobody reads this: what they read is compared with it.
    committed: bool,
}

/// A state.
#[derive(Clone, Debug)]
pub(super) struct World {
    owners: [Owner; OWNERS],
    flags: Set,
    lock: Option<u8>,
    staged: Set,
    deleted: Set,
    /// How often something was removed by force.
    forced: u8,
    /// Which owner of the first state each is. For people; two states that differ in nothing else are one.
    names: Renaming,
}

/// One of the ways in which a step can go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Choice {
    Go,
    /// The other counts as alive; this entry can't be deleted.
    No,
    /// The listing gives these, open ones and others.
    See(Set, Set),
    /// It is done, and the answer denies it.
    LoseAnswer,
    /// It is done, and can't be synchronised.
    FailToSync,
    Crash,
    /// The step fails, or the instance traps: the attempt is abandoned and its ticket stays.
    Fail,
}

/// A step of an owner, or something else that happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Owner(u8, Choice),
    /// An entry arrives.
    Stage,
    /// By force, the lock is removed.
    ForceLock,
    /// By force, a flag is removed.
    ForceFlag(u8),
}

impl Step {
    /// Has the attempt to be abandoned if this step fails?
    fn can_fail(self) -> bool {
        !matches!(self, Step::CheckBeforeRelease | Step::UnlinkOwnLock | Step::LowerFlag)
    }
}

impl PartialEq for World {
    fn eq(&self, other: &Self) -> bool {
        self.compared() == other.compared()
    }
}

impl Hash for World {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.compared().hash(state);
    }
}

impl World {
    fn compared(&self) -> impl Eq + Hash + '_ {
        (&self.owners, self.flags, self.lock, self.staged, self.deleted, self.forced)
    }

    fn owner(&self, owner: u8) -> &Owner {
        &self.owners[usize::from(owner)]
    }

    fn tickets(&self, condition: impl Fn(Ticket) -> bool) -> Set {
        (0..OWNERS as u8)
            .filter(|&owner| condition(self.owner(owner).ticket))
            .fold(Set::default(), |set, owner| set.or(Set::of(owner)))
    }

    fn open(&self) -> Set {
        self.tickets(|ticket| ticket == Ticket::Open)
    }

    fn ended(&self) -> Set {
        self.tickets(|ticket| matches!(ticket, Ticket::Committed | Ticket::Sealed))
    }

    /// What runs consumed that committed.
    fn consumed(&self) -> Set {
        self.owners
            .iter()
            .filter(|owner| owner.committed)
            .fold(Set::default(), |set, owner| set.or(owner.consumed))
    }

    fn is_dead(&self, owner: u8) -> bool {
        self.owner(owner).step == Step::Dead
    }

    /// The ways in which an owner can go on.
    fn choices(&self, rules: Rules, me: u8, mut add: impl FnMut(Choice)) {
        let seen = |begun: Set, now: Set| {
            let sure = begun.and(now);
            begun.or(now).without(sure).subsets().map(move |seen| sure.or(seen))
        };
        let step = self.owner(me).step;
        match step {
            Step::Gone | Step::Dead => return,
            // It has not come yet.
            Step::RaiseFlag => return add(Choice::Go),
            Step::JudgeFlag { rest } if self.is_dead(rest.first().expect("there is one to judge")) => {
                add(Choice::Go);
            }
            Step::JudgeLock { read } if self.is_dead(read) => add(Choice::Go),
            Step::JudgeFlag { .. } | Step::JudgeLock { .. } => {
                add(Choice::Go);
                add(Choice::No);
            }
            Step::ListOpenToEnd { open, .. } if rules.lists_twice => {
                seen(open, self.open()).for_each(|open| add(Choice::See(open, Set::default())));
            }
            Step::ListOpenToEnd { open, ended } => {
                for open in seen(open, self.open()) {
                    seen(ended, self.ended()).for_each(|ended| add(Choice::See(open, ended)));
                }
            }
            Step::ListEndedToEnd { begun } => {
                seen(begun, self.ended()).for_each(|ended| add(Choice::See(Set::default(), ended)));
            }
            Step::FinishDelete { ids, .. } | Step::Delete { ids, .. } => {
                add(Choice::Go);
                if ids.first().is_some_and(|entry| !self.deleted.has(entry)) {
                    add(Choice::No);
                }
            }
            Step::Commit if self.owner(me).ticket == Ticket::Open => {
                add(Choice::Go);
                add(Choice::LoseAnswer);
                add(Choice::FailToSync);
            }
            _ => add(Choice::Go),
        }
        add(Choice::Crash);
        if step.can_fail() {
            add(Choice::Fail);
        }
    }

    /// Lets an owner go on.
    fn go_on(&mut self, rules: Rules, me: u8, choice: Choice) {
        let it = usize::from(me);
        self.owners[it].step = match choice {
            Choice::Crash => Step::Dead,
            Choice::Fail => Step::CheckBeforeRelease,
            _ => self.take(rules, me, choice),
        };
    }

    fn take(&mut self, rules: Rules, me: u8, choice: Choice) -> Step {
        let it = usize::from(me);
        let Owner { step, consumed, kept, broke, ticket, .. } = self.owners[it];
        match step {
            Step::RaiseFlag => {
                self.flags = self.flags.or(Set::of(me));
                if rules.recovers == Recovers::BeforeTheScan { Step::ListOpen } else { Step::ListFlags }
            }
            Step::ListFlags => alone(rules, self.flags.without(Set::of(me))),
            Step::JudgeFlag { .. } if choice == Choice::No => Step::LowerFlag,
            Step::JudgeFlag { rest } => {
                let dead = Set::of(rest.first().expect("there is one to judge"));
                self.flags = self.flags.without(dead);
                alone(rules, rest.without(dead))
            }
            Step::Take if self.lock == Some(me) => has_the_lock(rules),
            Step::Take => match self.lock {
                Some(read) => Step::JudgeLock { read },
                None if rules.takes == Takes::RenameCopy => Step::RenameLock,
                // Somebody took it for dead: there is nothing to link.
                None if rules.takes == Takes::LinkFlag && !self.flags.has(me) => Step::Gone,
                None => {
                    self.lock = Some(me);
                    has_the_lock(rules)
                }
            },
            Step::RenameLock => {
                self.lock = Some(me);
                has_the_lock(rules)
            }
            Step::JudgeLock { .. } if choice == Choice::No => Step::LowerFlag,
            Step::JudgeLock { read } => Step::ReadLockAgain { judged: read },
            Step::ReadLockAgain { judged } if self.lock == Some(judged) => {
                self.owners[it].broke = Some(judged).filter(|&judged| self.owner(judged).recorded);
                Step::UnlinkLock
            }
            Step::ReadLockAgain { .. } => Step::Take,
            Step::UnlinkLock => {
                self.lock = None;
                Step::Take
            }

            Step::ListOpen => {
                let ended = if rules.lists_twice { Set::default() } else { self.ended() };
                Step::ListOpenToEnd { open: self.open(), ended }
            }
            Step::ListOpenToEnd { .. } => {
                let Choice::See(open, ended) = choice else { unreachable!("a listing gives what it gives") };
                self.sealed(rules, me, open, ended)
            }
            Step::CheckBeforeSeal { open, ended } => {
                let is_ours = self.flags.has(me) && self.lock == Some(me);
                if is_ours { Step::Seal { open, ended } } else { given_up(rules) }
            }
            Step::Seal { open, ended } => {
                let run = open.first().expect("there is one to seal");
                let ticket = &mut self.owners[usize::from(run)].ticket;
                if *ticket == Ticket::Open {
                    *ticket = Ticket::Sealed;
                }
                let ended = if rules.lists_twice { ended } else { ended.or(Set::of(run)) };
                self.sealed(rules, me, open.without(Set::of(run)), ended)
            }
            Step::ListEnded => Step::ListEndedToEnd { begun: self.ended() },
            Step::ListEndedToEnd { .. } => {
                let Choice::See(_, ended) = choice else { unreachable!("a listing gives what it gives") };
                self.recovered(rules, me, ended)
            }
            Step::ReadTicket { rest } => {
                let run = rest.first().expect("there is one to read");
                let rest = rest.without(Set::of(run));
                let Owner { ticket, consumed, .. } = *self.owner(run);
                match ticket {
                    Ticket::Committed => {
                        let ids = match rules.finishes {
                            Finishes::Committed => consumed,
                            Finishes::Listed => self.staged.without(self.deleted),
                        };
                        self.finishing(rules, me, run, ids, Set::default(), rest)
                    }
                    Ticket::Sealed => Step::WriteAborted { run, rest },
                    Ticket::None | Ticket::Open => self.recovered(rules, me, rest),
                }
            }
            Step::FinishDelete { run, ids, failed, rest } => {
                let entry = Set::of(ids.first().expect("there is one to delete"));
                let failed = if choice == Choice::No { failed.or(entry) } else { failed };
                if choice == Choice::No {
                    self.owners[it].kept = kept.or(entry);
                } else {
                    self.deleted = self.deleted.or(entry);
                }
                self.finishing(rules, me, run, ids.without(entry), failed, rest)
            }
            Step::FinishTicket { run, rest } => {
                self.finish(run);
                self.recovered(rules, me, rest)
            }
            Step::WriteAborted { run, rest } => {
                self.abort(run);
                Step::UnlinkSealed { run, rest }
            }
            Step::UnlinkSealed { run, rest } => {
                let ticket = &mut self.owners[usize::from(run)].ticket;
                if *ticket == Ticket::Sealed {
                    *ticket = Ticket::None;
                }
                self.recovered(rules, me, rest)
            }
            Step::LookForTicket => {
                let run = self.owner(broke.expect("it broke a lock"));
                match rules.closes {
                    _ if run.ticket == Ticket::Committed => Step::Snapshot,
                    Closes::TicketThenOutcome => Step::LookForOutcome,
                    Closes::OutcomeThenTicket => Step::WriteOutcome,
                }
            }
            Step::LookForOutcome => {
                let run = self.owner(broke.expect("it broke a lock"));
                match rules.closes {
                    _ if run.outcome != Outcome::None => Step::Snapshot,
                    Closes::TicketThenOutcome => Step::WriteOutcome,
                    Closes::OutcomeThenTicket => Step::LookForTicket,
                }
            }
            Step::WriteOutcome => {
                let run = broke.expect("it broke a lock");
                match rules.closes {
                    Closes::TicketThenOutcome => self.abort(run),
                    Closes::OutcomeThenTicket => {
                        self.owners[usize::from(run)].outcome = Outcome::Aborted;
                    }
                }
                Step::Snapshot
            }

            Step::Snapshot => {
                let passed_over = if rules.passes_over_consumed { kept } else { Set::default() };
                let consumed = self.staged.without(self.deleted).without(passed_over);
                self.owners[it].consumed = consumed;
                if consumed.is_empty() { Step::CheckBeforeRelease } else { Step::CheckBeforeRewrite }
            }
            Step::CheckBeforeRewrite if self.lock == Some(me) => Step::Rewrite,
            Step::CheckBeforeRewrite => self.lost(me, Step::CheckBeforeRelease),
            Step::Rewrite => {
                self.lock = Some(me);
                self.owners[it].recorded = true;
                if rules.ticket_first { Step::WriteTicket } else { first_check(rules) }
            }
            Step::WriteTicket => {
                self.owners[it].ticket = Ticket::Open;
                if rules.ticket_first { first_check(rules) } else { checked(rules, consumed) }
            }
            Step::CheckFlag if !self.flags.has(me) => self.lost(me, Step::RemoveTicket),
            Step::CheckFlag if rules.checks == Checks::FlagThenLock => Step::CheckLock,
            Step::CheckLock if self.lock != Some(me) => self.lost(me, Step::RemoveTicket),
            Step::CheckLock if rules.checks == Checks::LockThenFlag => Step::CheckFlag,
            Step::CheckFlag | Step::CheckLock if rules.ticket_first => checked(rules, consumed),
            Step::CheckFlag | Step::CheckLock => Step::WriteTicket,
            Step::RemoveTicket => {
                if ticket == Ticket::Open {
                    self.owners[it].ticket = Ticket::None;
                }
                given_up(rules)
            }
            Step::Commit if ticket == Ticket::Open && rules.commits == Commits::LookThenWrite => {
                Step::CommitOver
            }
            Step::Commit | Step::CommitOver => {
                let done = ticket == Ticket::Open || step == Step::CommitOver;
                if done {
                    self.owners[it].ticket = Ticket::Committed;
                    self.owners[it].committed = true;
                }
                if choice == Choice::FailToSync {
                    Step::TryAgain
                } else if done && choice != Choice::LoseAnswer {
                    self.owners[it].answer = Answer::Committed;
                    if rules.commit_first { deleting(consumed, Set::default()) } else { Step::Finish }
                } else if rules.looks_after_a_denial {
                    Step::LookCommitted
                } else {
                    self.lost(me, Step::CheckBeforeRelease)
                }
            }
            Step::LookCommitted if ticket == Ticket::Committed => {
                self.owners[it].answer = Answer::Committed;
                deleting(consumed, Set::default())
            }
            Step::LookCommitted => Step::LookFinished,
            Step::LookFinished if self.owners[it].outcome == Outcome::Committed => {
                self.owners[it].answer = Answer::Committed;
                Step::CheckBeforeRelease
            }
            Step::LookFinished if rules.gives_up_when_sealed => self.lost(me, Step::CheckBeforeRelease),
            Step::LookFinished => Step::WriteTicket,
            Step::TryAgain => match rules.again {
                Again::LooksFirst => Step::LookCommitted,
                Again::ChecksFirst if ticket == Ticket::Committed => first_check(rules),
                Again::ChecksFirst | Again::Anew => Step::WriteTicket,
            },
            Step::Delete { ids, failed } => {
                let entry = Set::of(ids.first().expect("there is one to delete"));
                let failed = if choice == Choice::No { failed.or(entry) } else { failed };
                if choice != Choice::No {
                    self.deleted = self.deleted.or(entry);
                }
                match deleting(ids.without(entry), failed) {
                    Step::Finish if !rules.commit_first => Step::Commit,
                    next => next,
                }
            }
            Step::Finish => {
                self.finish(me);
                Step::CheckBeforeRelease
            }
            Step::CheckBeforeRelease if self.lock == Some(me) => Step::UnlinkOwnLock,
            Step::CheckBeforeRelease => Step::LowerFlag,
            Step::UnlinkOwnLock => {
                self.lock = None;
                Step::LowerFlag
            }
            Step::LowerFlag => {
                self.flags = self.flags.without(Set::of(me));
                Step::Gone
            }
            Step::Gone | Step::Dead => unreachable!("who is gone does nothing"),
        }
    }

    fn lost(&mut self, me: u8, next: Step) -> Step {
        self.owners[usize::from(me)].answer = Answer::Lost;
        next
    }

    /// What comes after an open ticket is sealed.
    fn sealed(&self, rules: Rules, me: u8, open: Set, ended: Set) -> Step {
        // Without the lock, in some of those that are found wrong, there is nothing to check.
        let checks = rules.checks_before_seals && rules.recovers == Recovers::UnderTheLock;
        if !open.is_empty() {
            if checks { Step::CheckBeforeSeal { open, ended } } else { Step::Seal { open, ended } }
        } else if rules.lists_twice {
            Step::ListEnded
        } else {
            self.recovered(rules, me, ended)
        }
    }

    /// What comes after a ticket is dealt with.
    fn recovered(&self, rules: Rules, me: u8, rest: Set) -> Step {
        match (self.owner(me).broke, rules.closes) {
            _ if !rest.is_empty() => Step::ReadTicket { rest },
            // It has not got the lock yet.
            _ if rules.recovers == Recovers::BeforeTheScan => Step::ListFlags,
            _ if rules.recovers == Recovers::BeforeTheLock => Step::Take,
            (None, _) => Step::Snapshot,
            (Some(_), Closes::TicketThenOutcome) => Step::LookForTicket,
            (Some(_), Closes::OutcomeThenTicket) => Step::LookForOutcome,
        }
    }

    fn finishing(&self, rules: Rules, me: u8, run: u8, ids: Set, failed: Set, rest: Set) -> Step {
        if !ids.is_empty() {
            Step::FinishDelete { run, ids, failed, rest }
        } else if failed.is_empty() {
            Step::FinishTicket { run, rest }
        } else {
            // It stays, and the next owner tries again.
            self.recovered(rules, me, rest)
        }
    }

    /// Renames a committed ticket to the outcome, if it is still there.
    fn finish(&mut self, run: u8) {
        let run = &mut self.owners[usize::from(run)];
        if run.ticket == Ticket::Committed {
            (run.ticket, run.outcome) = (Ticket::None, Outcome::Committed);
        }
    }

    /// Creates the outcome of a run that is aborted, if there is none.
    fn abort(&mut self, run: u8) {
        let run = &mut self.owners[usize::from(run)];
        if run.outcome == Outcome::None {
            run.outcome = Outcome::Aborted;
        }
    }
}

/// The flags of the dead are unlinked, one by one.
fn alone(rules: Rules, rest: Set) -> Step {
    if !rest.is_empty() {
        Step::JudgeFlag { rest }
    } else if rules.recovers == Recovers::BeforeTheLock {
        Step::ListOpen
    } else {
        Step::Take
    }
}

fn has_the_lock(rules: Rules) -> Step {
    if rules.recovers == Recovers::UnderTheLock { Step::ListOpen } else { Step::Snapshot }
}

/// It is not the owner any more.
fn given_up(rules: Rules) -> Step {
    if rules.takes_down_when_lost { Step::CheckBeforeRelease } else { Step::LowerFlag }
}

fn first_check(rules: Rules) -> Step {
    match rules.checks {
        Checks::FlagThenLock | Checks::Flag => Step::CheckFlag,
        Checks::LockThenFlag | Checks::Lock => Step::CheckLock,
        Checks::Nothing => {
            if rules.ticket_first {
                Step::Commit
            } else {
                Step::WriteTicket
            }
        }
    }
}

/// The checks are passed, and the ticket is there.
fn checked(rules: Rules, consumed: Set) -> Step {
    if rules.commit_first { Step::Commit } else { deleting(consumed, Set::default()) }
}

fn deleting(ids: Set, failed: Set) -> Step {
    if !ids.is_empty() {
        Step::Delete { ids, failed }
    } else if failed.is_empty() {
        Step::Finish
    } else {
        Step::CheckBeforeRelease
    }
}

/// What the model claims.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Claim {
    /// What is deleted was consumed by a run that committed, and so by none that was sealed.
    DeletedWasCommitted,
    /// No entry was consumed by two runs that committed.
    NoEntryTwice,
    /// A run that committed has a ticket or an outcome that says so, another has none.
    DiskKnows,
    /// An owner that was told that its run committed, or that it lost the lock, was told the truth.
    AnswersAreTrue,
    /// If everybody ended at this moment, a newcomer would acquire, delete what runs consumed that
    /// committed, consume what else there is, and leave neither a lock nor a flag nor a ticket.
    NewcomerFinishes,
    /// An owner that has gone on to other things, and lives, has left neither a flag nor a lock.
    LivingLeaveNothing,
    /// Not a claim about the protocol but about the model: it gets there.
    Gets(To),
}

/// All claims about the protocol.
pub(super) const CLAIMS: [Claim; 6] = [
    Claim::DeletedWasCommitted,
    Claim::NoEntryTwice,
    Claim::DiskKnows,
    Claim::AnswersAreTrue,
    Claim::NewcomerFinishes,
    Claim::LivingLeaveNothing,
];

/// Where the model has to get, or what it claims is empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum To {
    /// A late owner's run is sealed before it can commit.
    LoseToASeal,
    /// A late owner finds that its flag was removed.
    LoseByTheFlag,
    /// A run that committed is finished by another, while its owner lives.
    BeFinishedByAnother,
    /// A commit is denied that was done, and found as a ticket or as an outcome.
    FindADeniedCommit,
    FindADeniedCommitFinished,
    /// Committed entries are left that could not be deleted, and another run commits.
    CommitBesideAKeptEntry,
    /// A late owner's lock is not its own any more.
    LoseByTheLock,
}

impl Claim {
    pub(super) fn name(self) -> &'static str {
        match self {
            Claim::DeletedWasCommitted => "what is deleted was consumed by a run that committed",
            Claim::NoEntryTwice => "no two runs that committed consumed the same entry",
            Claim::DiskKnows => "the disk tells a run that committed from one that did not",
            Claim::AnswersAreTrue => "an owner is told the truth",
            Claim::LivingLeaveNothing => "the living leave no lock and no flag",
            Claim::NewcomerFinishes => "a lone newcomer finishes what there is and leaves nothing",
            Claim::Gets(To::LoseToASeal) => "a run is sealed whose owner is about to commit",
            Claim::Gets(To::LoseByTheFlag) => "an owner finds its flag gone",
            Claim::Gets(To::LoseByTheLock) => "an owner finds its lock gone",
            Claim::Gets(To::BeFinishedByAnother) => "a run is finished while its owner deletes",
            Claim::Gets(To::FindADeniedCommit) => "a denied commit is found",
            Claim::Gets(To::FindADeniedCommitFinished) => "a denied commit is found finished",
            Claim::Gets(To::CommitBesideAKeptEntry) => "a run commits beside an entry that stays",
        }
    }

    fn property(self) -> Property<Model> {
        let holds: fn(&Model, &World) -> bool = match self {
            Claim::DeletedWasCommitted => |_, world| world.deleted.without(world.consumed()).is_empty(),
            Claim::NoEntryTwice => |_, world| {
                let entries: u32 = world
                    .owners
                    .iter()
                    .filter(|owner| owner.committed)
                    .map(|owner| owner.consumed.0.count_ones())
                    .sum();
                entries == world.consumed().0.count_ones()
            },
            Claim::DiskKnows => |_, world| {
                world.owners.iter().all(|owner| {
                    let says = [
                        owner.ticket == Ticket::Committed,
                        owner.outcome == Outcome::Committed,
                        matches!(owner.ticket, Ticket::Open | Ticket::Sealed),
                        owner.outcome == Outcome::Aborted,
                    ];
                    match says {
                        [false, false, ..] => !owner.committed,
                        [true, false, false, false] | [false, true, false, false] => owner.committed,
                        _ => false,
                    }
                })
            },
            Claim::AnswersAreTrue => |_, world| {
                world.owners.iter().all(|owner| {
                    owner.answer == Answer::None || (owner.answer == Answer::Committed) == owner.committed
                })
            },
            Claim::NewcomerFinishes => Model::newcomer_finishes,
            Claim::LivingLeaveNothing => |_, world| {
                (0..OWNERS as u8)
                    .filter(|&owner| world.owner(owner).step == Step::Gone)
                    .all(|owner| world.lock != Some(owner) && !world.flags.has(owner))
            },
            Claim::Gets(to) => return Property::sometimes(self.name(), to.condition()),
        };
        Property::always(self.name(), holds)
    }
}

impl To {
    fn condition(self) -> fn(&Model, &World) -> bool {
        match self {
            To::LoseToASeal => {
                |_, world| world.any(|owner| owner.step == Step::Commit && owner.ticket == Ticket::Sealed)
            }
            To::LoseByTheFlag => |_, world| {
                (0..OWNERS as u8).any(|it| world.owner(it).step == Step::CheckFlag && !world.flags.has(it))
            },
            To::LoseByTheLock => |_, world| {
                (0..OWNERS as u8).any(|it| world.owner(it).step == Step::CheckLock && world.lock != Some(it))
            },
            To::BeFinishedByAnother => |_, world| {
                world.any(|owner| {
                    matches!(owner.step, Step::Delete { .. }) && owner.outcome == Outcome::Committed
                })
            },
            To::FindADeniedCommit => |_, world| {
                world.any(|owner| owner.step == Step::LookCommitted && owner.ticket == Ticket::Committed)
            },
            To::FindADeniedCommitFinished => |_, world| {
                world.any(|owner| owner.step == Step::LookFinished && owner.outcome == Outcome::Committed)
            },
            To::CommitBesideAKeptEntry => |_, world| {
                let kept = world.any(|owner| {
                    owner.ticket == Ticket::Committed && !owner.consumed.without(world.deleted).is_empty()
                });
                kept && world.any(|owner| owner.step == Step::Commit)
            },
        }
    }
}

impl World {
    fn any(&self, condition: impl Fn(&Owner) -> bool) -> bool {
        self.owners.iter().any(condition)
    }

    fn renamed(&self, to: &Renaming) -> Self {
        let name = |owner: u8| to[usize::from(owner)];
        let mut renamed = self.clone();
        renamed.flags = self.flags.renamed(to);
        renamed.lock = self.lock.map(name);
        for (from, owner) in self.owners.iter().enumerate() {
            let set = |set: Set| set.renamed(to);
            let step = match owner.step {
                Step::JudgeFlag { rest } => Step::JudgeFlag { rest: set(rest) },
                Step::JudgeLock { read } => Step::JudgeLock { read: name(read) },
                Step::ReadLockAgain { judged } => Step::ReadLockAgain { judged: name(judged) },
                Step::ListOpenToEnd { open, ended } => {
                    Step::ListOpenToEnd { open: set(open), ended: set(ended) }
                }
                Step::CheckBeforeSeal { open, ended } => {
                    Step::CheckBeforeSeal { open: set(open), ended: set(ended) }
                }
                Step::Seal { open, ended } => Step::Seal { open: set(open), ended: set(ended) },
                Step::ListEndedToEnd { begun } => Step::ListEndedToEnd { begun: set(begun) },
                Step::ReadTicket { rest } => Step::ReadTicket { rest: set(rest) },
                Step::FinishDelete { run, ids, failed, rest } => {
                    Step::FinishDelete { run: name(run), ids, failed, rest: set(rest) }
                }
                Step::FinishTicket { run, rest } => Step::FinishTicket { run: name(run), rest: set(rest) },
                Step::WriteAborted { run, rest } => Step::WriteAborted { run: name(run), rest: set(rest) },
                Step::UnlinkSealed { run, rest } => Step::UnlinkSealed { run: name(run), rest: set(rest) },
                other => other,
            };
            renamed.owners[usize::from(to[from])] = Owner { step, broke: owner.broke.map(name), ..*owner };
            renamed.names[usize::from(to[from])] = self.names[from];
        }
        renamed
    }
}

/// The owners, who come once each.
#[derive(Clone)]
pub(super) struct Model {
    rules: Rules,
    owners: u8,
    claims: Vec<Claim>,
    /// How often the lock or a flag is removed by force.
    forced: u8,
    /// Steps fail, and not processes only.
    fails: bool,
    /// An entry arrives.
    stages: bool,
}

impl Model {
    /// So many owners, of which each may crash and fail at every step.
    pub(super) fn new(rules: Rules, owners: u8, claims: &[Claim]) -> Self {
        assert!(owners <= NEWCOMER);
        Model { rules, owners, claims: claims.to_vec(), forced: 0, fails: true, stages: true }
    }

    /// Each may crash, and nothing else happens.
    pub(super) fn with_crashes_only(self) -> Self {
        Model { fails: false, stages: false, ..self }
    }

    /// The lock or a flag is removed by force, so many times.
    pub(super) fn forced(self, forced: u8) -> Self {
        Model { forced, ..self }
    }

    /// One state for all that differ in nothing but which owner is which.
    fn canonical(&self, world: World) -> World {
        let mut order: [u8; OWNERS] = std::array::from_fn(|owner| owner as u8);
        order[..usize::from(self.owners)]
            .sort_by_key(|&owner| (*world.owner(owner), world.flags.has(owner), world.lock == Some(owner)));
        let mut to = Renaming::default();
        for (place, &owner) in order.iter().enumerate() {
            to[usize::from(owner)] = place as u8;
        }
        if to.is_sorted() { world } else { world.renamed(&to) }
    }

    fn newcomer_finishes(&self, world: &World) -> bool {
        /// Far more steps than a newcomer needs.
        const STEPS: usize = 200;
        let mut alone = world.clone();
        for owner in &mut alone.owners {
            owner.step = Step::Dead;
        }
        alone.owners[usize::from(NEWCOMER)].step = Step::RaiseFlag;
        for _ in 0..STEPS {
            let mut first = None;
            alone.choices(self.rules, NEWCOMER, |choice| first = first.or(Some(choice)));
            let Some(choice) = first else { break };
            alone.go_on(self.rules, NEWCOMER, choice);
        }
        let tickets = alone.tickets(|ticket| ticket != Ticket::None);
        let newcomer = alone.owner(NEWCOMER);
        newcomer.step == Step::Gone
            && (newcomer.committed || newcomer.consumed.is_empty())
            && tickets.is_empty()
            && alone.flags.is_empty()
            && alone.lock.is_none()
            && alone.deleted == alone.staged
    }
}

impl stateright::Model for Model {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        let owner = |owner: usize| Owner {
            step: if owner < usize::from(self.owners) { Step::RaiseFlag } else { Step::Gone },
            answer: Answer::None,
            kept: Set::default(),
            consumed: Set::default(),
            recorded: false,
            broke: None,
            ticket: Ticket::None,
            outcome: Outcome::None,
            committed: false,
        };
        vec![World {
            owners: std::array::from_fn(owner),
            flags: Set::default(),
            lock: None,
            staged: FIRST,
            deleted: Set::default(),
            forced: 0,
            names: std::array::from_fn(|owner| owner as u8),
        }]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        for owner in 0..self.owners {
            world.choices(self.rules, owner, |choice| {
                if self.fails || choice != Choice::Fail {
                    actions.push(Action::Owner(owner, choice));
                }
            });
        }
        if self.stages && world.staged != ENTRIES {
            actions.push(Action::Stage);
        }
        if world.forced < self.forced {
            actions.extend(world.lock.map(|_| Action::ForceLock));
            actions.extend(world.flags.iter().map(Action::ForceFlag));
        }
    }

    fn next_state(&self, world: &World, action: Action) -> Option<World> {
        let mut next = world.clone();
        match action {
            Action::Stage => next.staged = ENTRIES,
            Action::ForceLock => (next.lock, next.forced) = (None, world.forced + 1),
            Action::ForceFlag(owner) => {
                (next.flags, next.forced) = (world.flags.without(Set::of(owner)), world.forced + 1);
            }
            Action::Owner(owner, choice) => next.go_on(self.rules, owner, choice),
        }
        Some(self.canonical(next))
    }

    fn properties(&self) -> Vec<Property<Self>> {
        self.claims.iter().map(|claim| claim.property()).collect()
    }
}

impl Tell for Model {
    fn tell(&self, steps: Vec<(World, Option<Action>)>) -> String {
        let mut story = String::new();
        for pair in steps.windows(2) {
            let [(before, Some(action)), (after, _)] = pair else { continue };
            let (who, what) = match *action {
                Action::Stage => ('-', "an entry arrives".into()),
                Action::ForceLock => ('-', "the lock is removed by force".into()),
                Action::ForceFlag(owner) => {
                    ('-', format!("the flag of {} is removed by force", before.name(owner)))
                }
                Action::Owner(owner, choice) => {
                    (before.name(owner), before.owner(owner).step.describe(choice, &|it| before.name(it)))
                }
            };
            let _ = writeln!(story, "  {who} {what:<44} {}", after.describe());
        }
        story
    }
}

impl World {
    fn name(&self, owner: u8) -> char {
        char::from(b'a' + self.names[usize::from(owner)])
    }

    fn describe(&self) -> String {
        let names = |set: Set| set.iter().map(|owner| self.name(owner)).collect::<String>();
        let lock = self.lock.map_or(' ', |owner| self.name(owner));
        let mut text = format!("lock: {lock} flags: {:<4}", names(self.flags));
        for owner in 0..OWNERS as u8 {
            let Owner { ticket, outcome, answer, .. } = *self.owner(owner);
            let facts = [
                (ticket != Ticket::None).then(|| format!(".{ticket:?}").to_lowercase()),
                (outcome != Outcome::None).then(|| format!("{outcome:?}").to_lowercase()),
                (answer != Answer::None).then(|| format!("told {answer:?}").to_lowercase()),
            ];
            let facts: Vec<String> = facts.into_iter().flatten().collect();
            if !facts.is_empty() {
                let _ = write!(text, " {}: {}", self.name(owner), facts.join(", "));
            }
        }
        text
    }
}

impl Step {
    /// The step for people.
    fn describe(self, choice: Choice, name: &dyn Fn(u8) -> char) -> String {
        let names = |set: Set| set.iter().map(name).collect::<String>();
        match (self, choice) {
            (_, Choice::Crash) => return "ends".into(),
            (_, Choice::Fail) => return "fails".into(),
            _ => {}
        }
        let text = match self {
            Step::RaiseFlag => "comes, raises its flag",
            Step::ListFlags => "lists the flags",
            Step::JudgeFlag { rest } => {
                let other = name(rest.first().expect("there is one to judge"));
                return match choice {
                    Choice::No => format!("gives way to {other}"),
                    _ => format!("takes {other} for dead, unlinks its flag"),
                };
            }
            Step::Take => "takes the lock, if it is free",
            Step::JudgeLock { read } if choice == Choice::No => {
                return format!("gives way to {}", name(read));
            }
            Step::JudgeLock { read } => return format!("takes {}, whose lock it is, for dead", name(read)),
            Step::ReadLockAgain { .. } => "reads the lock again",
            Step::UnlinkLock | Step::UnlinkOwnLock => "unlinks the lock",
            Step::RenameLock => "renames its copy to the lock",
            Step::ListOpen | Step::ListEnded => "begins to list the tickets",
            Step::ListOpenToEnd { .. } | Step::ListEndedToEnd { .. } => {
                let Choice::See(open, ended) = choice else {
                    unreachable!("{self:?} can't go by {choice:?}")
                };
                return format!("has listed: open {}, ended {}", names(open), names(ended));
            }
            Step::CheckBeforeSeal { .. } => "looks for its flag and its lock",
            Step::Seal { open, .. } => {
                return format!("seals the ticket of {}", name(open.first().expect("there is one to seal")));
            }
            Step::ReadTicket { rest } => {
                return format!("reads the ticket of {}", name(rest.first().expect("there is one to read")));
            }
            Step::FinishDelete { .. } | Step::Delete { .. } if choice == Choice::No => {
                "can't delete an entry"
            }
            Step::FinishDelete { run, .. } => return format!("deletes an entry of {}", name(run)),
            Step::FinishTicket { run, .. } => {
                return format!("renames the ticket of {} to the outcome", name(run));
            }
            Step::WriteAborted { run, .. } => return format!("calls the run of {} aborted", name(run)),
            Step::UnlinkSealed { run, .. } => return format!("unlinks the sealed ticket of {}", name(run)),
            Step::LookForTicket => "looks for the dead owner's ticket",
            Step::LookForOutcome => "looks for the dead owner's outcome",
            Step::WriteOutcome => "calls the dead owner's run aborted",
            Step::Snapshot => "takes its snapshot",
            Step::CheckBeforeRewrite | Step::CheckBeforeRelease | Step::CheckLock => {
                "looks whose the lock is"
            }
            Step::Rewrite => "renames a new record over the lock",
            Step::WriteTicket => "writes its ticket",
            Step::CheckFlag => "looks for its flag",
            Step::RemoveTicket => "removes its ticket",
            Step::Commit if choice == Choice::LoseAnswer => "commits, and the answer is lost",
            Step::Commit if choice == Choice::FailToSync => "commits, and can't synchronise that",
            Step::Commit => "commits, if its ticket is there",
            Step::CommitOver => "writes a ticket that is committed",
            Step::LookCommitted => "looks for its committed ticket",
            Step::LookFinished => "looks for its outcome",
            Step::TryAgain => "tries the commit again",
            Step::Delete { .. } => "deletes an entry",
            Step::Finish => "renames its ticket to the outcome",
            Step::LowerFlag => "lowers its flag",
            Step::Gone | Step::Dead => unreachable!("who is gone does nothing"),
        };
        text.into()
    }
}
