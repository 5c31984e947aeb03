//! The contenders together, as a model for the checker. Invariant: what a contender does is decided in
//! one place, [`Model::step`], for the checker and for the lone newcomer alike.

use std::fmt;
use std::hash::{Hash, Hasher};

use stateright::Property;

use super::disk::{Alive, Attempt, Attempts, CONTENDERS, Disk, Lock, Renaming};
use super::{Tell, naive, roster};

/// What a contender follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    Roster(roster::Rules),
    Naive(naive::Protocol),
}

/// What a contender is about to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Step {
    /// To begin an attempt.
    Idle,
    Roster(roster::Step),
    Naive(naive::Step),
}

impl Step {
    /// The step, or the first one of an attempt.
    fn or_first(self, protocol: Protocol) -> Self {
        match (self, protocol) {
            (Step::Idle, Protocol::Roster(rules)) => Step::Roster(rules.first()),
            (Step::Idle, Protocol::Naive(protocol)) => Step::Naive(protocol.first()),
            (step, _) => step,
        }
    }

    fn holds(self) -> bool {
        match self {
            Step::Idle => false,
            Step::Roster(step) => step.holds(),
            Step::Naive(step) => step.holds(),
        }
    }

    fn renamed(self, to: &Renaming) -> Self {
        match self {
            Step::Idle => Step::Idle,
            Step::Roster(step) => Step::Roster(step.renamed(to)),
            Step::Naive(step) => Step::Naive(step.renamed(to)),
        }
    }
}

/// One of the ways in which a step can go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Choice {
    Go,
    /// The listing gives these flags.
    See(Attempts),
    /// The next flag to judge.
    Take(Attempt),
    /// Enough of waiting.
    GiveUp,
    /// The lock is linked and the answer says that it exists: a server's reply was lost.
    LoseAnswer,
    /// Rewrite the lock.
    Rewrite,
    /// The process ends.
    Crash,
    /// The step fails, or the instance traps, and the process lives on.
    Fail,
}

/// A step of a contender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Action {
    contender: usize,
    choice: Choice,
}

/// A contender.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Contender {
    step: Step,
    /// How many attempts it has begun, those of its earlier processes included.
    begun: u8,
}

/// A state.
#[derive(Clone, Debug)]
pub(super) struct World {
    pub(super) disk: Disk,
    pub(super) alive: Alive,
    contenders: [Contender; CONTENDERS],
    /// Has anybody acquired the lock? Noted in models of patient contenders only.
    acquired: bool,
    /// Did two originals that live go for the lock at one time? Noted in models of several only.
    originals_raced: bool,
    /// Which contender of the first state each is. For people; two states that differ in nothing else
    /// are one.
    names: Renaming,
}

impl World {
    fn compared(&self) -> impl Eq + Hash + '_ {
        (&self.disk, &self.alive, &self.contenders, self.acquired, self.originals_raced)
    }

    /// The attempt that a contender is in.
    fn attempt(&self, contender: usize) -> Option<Attempt> {
        let Contender { step, begun } = self.contenders[contender];
        (step != Step::Idle).then(|| Attempt::new(contender, begun - 1))
    }

    /// Is somebody between truncating this file and writing it?
    pub(super) fn is_being_written(&self, lock: Lock) -> bool {
        let Lock { file, record: None } = lock else { return false };
        let write = Step::Naive(naive::Step::Write { file });
        self.contenders.iter().any(|contender| contender.step == write)
    }

    pub(super) fn lock_is_being_written(&self) -> bool {
        self.disk.lock.is_some_and(|lock| self.is_being_written(lock))
    }

    /// Would it be wrong to unlink the lock?
    pub(super) fn lock_is_of_living(&self) -> bool {
        self.disk.lock.is_some_and(|lock| self.is_of_living(lock))
    }

    fn is_of_living(&self, lock: Lock) -> bool {
        lock.record.map_or_else(|| self.is_being_written(lock), |owner| self.alive.is(owner))
    }

    /// Would it be wrong to unlink Q? It may be a second name of the lock.
    fn aside_is_needed(&self) -> bool {
        let Some(aside) = self.disk.aside else { return false };
        let lives = |owner: Attempt| self.attempt(owner.contender()) == Some(owner);
        self.disk.lock.is_none_or(|lock| lock.file != aside.file)
            && aside.record.map_or_else(|| self.is_being_written(aside), lives)
    }

    /// The attempts, of those without a roster, that are about to do such a step.
    pub(super) fn originals_in(&self, condition: fn(naive::Step) -> bool) -> Attempts {
        (0..CONTENDERS).fold(Attempts::default(), |set, contender| {
            match (self.contenders[contender].step, self.attempt(contender)) {
                (Step::Naive(step), Some(attempt)) if condition(step) => set.with(attempt),
                _ => set,
            }
        })
    }

    fn crash(&mut self, contender: usize) {
        let it = &mut self.contenders[contender];
        it.step = Step::Idle;
        self.alive.0[contender] = it.begun;
    }

    fn does(&self, step: roster::Step) -> bool {
        self.any(|other| other == step)
    }

    fn any(&self, condition: impl Fn(roster::Step) -> bool) -> bool {
        self.contenders
            .iter()
            .any(|contender| matches!(contender.step, Step::Roster(step) if condition(step)))
    }

    fn holders(&self) -> usize {
        self.contenders.iter().filter(|contender| contender.step.holds()).count()
    }

    fn renamed(&self, to: &Renaming) -> Self {
        let mut renamed = self.clone();
        renamed.disk = self.disk.renamed(to);
        for (from, &to_contender) in to.iter().enumerate() {
            let Contender { step, begun } = self.contenders[from];
            renamed.contenders[to_contender] = Contender { step: step.renamed(to), begun };
            renamed.alive.0[to_contender] = self.alive.0[from];
            renamed.names[to_contender] = self.names[from];
        }
        renamed
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

/// What a model claims.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Claim {
    /// No two contenders that live hold the lock.
    OneHolder,
    /// As long as no two originals went for the lock at one time, which is their own race, no two
    /// contenders that live hold it.
    OneHolderUnlessOriginalsRaced,
    /// The lock of a contender that holds it is on the disk; that of an original at least as Q.
    HolderHasTheLock,
    /// Nobody with a roster holds the lock while that of an original that holds it is Q.
    RespectsAside,
    /// If every contender ended at this moment, a newcomer would acquire, and after its release there
    /// would be neither a lock nor a flag nor a copy.
    NewcomerAcquires,
    /// A contender with a roster that lives has a lock, a flag or a copy on the disk in an attempt only.
    LivingLeaveNothing,
    /// When a contender decides to break the lock, the lock at that moment is not that of one who lives.
    DecidesRightly,
    /// Nobody is about to unlink the lock while it is that of one who lives: nothing came between the
    /// decision and the deed.
    ActsRightly,
    /// When all contenders have gone, one of them has held.
    NotEverybodyRefused,
    /// Not a claim about the protocol but about the model: somewhere in it a contender is about to do
    /// this.
    Gets(To),
}

/// Where a model has to get, or what it claims is empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum To {
    Hold,
    Meet,
    UnlinkFlag,
    UnlinkLock,
    AbandonLock,
    Rewrite,
    TrustALockAfterALostAnswer,
    PutBack,
    PutBackAgain,
    KeepAside,
    DropAside,
    Lose,
    AbandonAside,
}

impl Claim {
    pub(super) fn name(self) -> &'static str {
        match self {
            Claim::OneHolder => "no two live processes hold",
            Claim::OneHolderUnlessOriginalsRaced => "no two live processes hold unless originals raced",
            Claim::RespectsAside => "nobody takes the lock of an original that was put aside",
            Claim::HolderHasTheLock => "the lock of a live holder is on the disk",
            Claim::NewcomerAcquires => "a lone newcomer acquires, and leaves nothing",
            Claim::LivingLeaveNothing => "the living leave nothing behind",
            Claim::DecidesRightly => "the owner of a lock is dead when it is decided to break it",
            Claim::ActsRightly => "the owner of a lock is dead when it is broken",
            Claim::NotEverybodyRefused => "of those who contend one acquires",
            Claim::Gets(To::Hold) => "the lock is held",
            Claim::Gets(To::Meet) => "contenders meet",
            Claim::Gets(To::UnlinkFlag) => "a dead owner's flag is unlinked",
            Claim::Gets(To::UnlinkLock) => "a dead owner's lock is unlinked",
            Claim::Gets(To::AbandonLock) => "a dropped instance's lock is unlinked",
            Claim::Gets(To::Rewrite) => "a lock is rewritten",
            Claim::Gets(To::TrustALockAfterALostAnswer) => "the own lock is found after a lost answer",
            Claim::Gets(To::PutBack) => "a lock is put back",
            Claim::Gets(To::PutBackAgain) => "a lock that was put back is still aside",
            Claim::Gets(To::KeepAside) => "a lock is put back and another stands in its place",
            Claim::Gets(To::DropAside) => "a lock put aside is unlinked",
            Claim::Gets(To::Lose) => "a lock is overwritten before it is held",
            Claim::Gets(To::AbandonAside) => "a dropped instance's lock is put aside",
        }
    }

    fn property(self) -> Property<Model> {
        let holds: fn(&Model, &World) -> bool = match self {
            Claim::OneHolder => |_, world| world.holders() <= 1,
            Claim::HolderHasTheLock => Model::holders_have_the_lock,
            Claim::NewcomerAcquires => Model::newcomer_acquires,
            Claim::LivingLeaveNothing => Model::living_leave_nothing,
            Claim::OneHolderUnlessOriginalsRaced => |_, world| world.originals_raced || world.holders() <= 1,
            Claim::RespectsAside => |_, world| {
                let holds = |owner: Attempt| {
                    world.attempt(owner.contender()) == Some(owner)
                        && world.contenders[owner.contender()].step.holds()
                };
                !world.any(roster::Step::holds) || !world.disk.put_aside_of().is_some_and(holds)
            },
            Claim::DecidesRightly => |_, world| {
                !world.any(|step| {
                    use roster::Step::{SetAside, UnlinkLock};
                    matches!(step, UnlinkLock { of_living: true } | SetAside { of_living: true, .. })
                })
            },
            Claim::ActsRightly => |_, world| {
                let unlinks = world.any(|step| matches!(step, roster::Step::UnlinkLock { .. }));
                let drops = world.does(roster::Step::DropAside { abandons: false });
                !(unlinks && world.lock_is_of_living() || drops && world.aside_is_needed())
            },
            Claim::NotEverybodyRefused => |model, world| !model.all_are_through(world) || world.acquired,
            Claim::Gets(to) => return Property::sometimes(self.name(), to.condition()),
        };
        Property::always(self.name(), holds)
    }
}

impl To {
    fn condition(self) -> fn(&Model, &World) -> bool {
        match self {
            To::Hold => |_, world| world.holders() > 0,
            To::Meet => |_, world| world.does(roster::Step::Meet { ahead: false }),
            To::UnlinkFlag => |_, world| world.any(|step| matches!(step, roster::Step::UnlinkFlag { .. })),
            To::UnlinkLock => |_, world| world.does(roster::Step::UnlinkLock { of_living: false }),
            To::AbandonLock => |_, world| world.does(roster::Step::AbandonLock),
            To::PutBack => |_, world| world.does(roster::Step::PutBack) && world.disk.lock.is_none(),
            To::PutBackAgain => |_, world| {
                world.does(roster::Step::PutBack)
                    && world.disk.lock.is_some_and(|lock| lock.record.is_some())
                    && world.disk.lock == world.disk.aside
            },
            To::KeepAside => |_, world| {
                world.does(roster::Step::PutBack)
                    && world.disk.lock.is_some_and(|lock| Some(lock) != world.disk.aside)
            },
            To::DropAside => |_, world| world.does(roster::Step::DropAside { abandons: false }),
            To::Lose => |_, world| {
                (0..CONTENDERS).any(|contender| {
                    world.contenders[contender].step == Step::Roster(roster::Step::Check)
                        && world.disk.locked_by() != world.attempt(contender)
                })
            },
            To::AbandonAside => |_, world| world.does(roster::Step::AbandonAside),
            To::Rewrite => |_, world| world.does(roster::Step::RenameRecord),
            To::TrustALockAfterALostAnswer => |_, world| {
                (0..CONTENDERS).any(|contender| {
                    world.contenders[contender].step == Step::Roster(roster::Step::ReadLock)
                        && world.disk.locked_by() == world.attempt(contender)
                })
            },
        }
    }
}

/// Who contends, and for how long.
#[derive(Clone)]
pub(super) struct Model {
    /// The contenders' protocols, and how many attempts each has. Those that are alike stand together.
    contenders: Vec<(Protocol, u8)>,
    claims: Vec<Claim>,
    /// Contenders crash and fail.
    faults: bool,
}

impl Model {
    /// Contenders of which each may crash at every step.
    pub(super) fn new(contenders: &[(Protocol, u8)], claims: &[Claim]) -> Self {
        Model { contenders: contenders.to_vec(), claims: claims.to_vec(), faults: true }
    }

    pub(super) fn without_faults(self) -> Self {
        Model { faults: false, ..self }
    }

    fn are_patient(&self) -> bool {
        self.contenders
            .iter()
            .any(|(protocol, _)| matches!(protocol, Protocol::Roster(rules) if rules.patient))
    }

    fn originals(&self) -> usize {
        self.contenders.iter().filter(|(protocol, _)| matches!(protocol, Protocol::Naive(_))).count()
    }

    fn rounds(&self, contender: usize) -> u8 {
        self.contenders.get(contender).map_or(0, |(_, rounds)| *rounds)
    }

    /// Every way in which a contender can go on.
    fn choices(&self, world: &World, contender: usize, mut add: impl FnMut(Choice)) {
        let Contender { step, begun } = world.contenders[contender];
        let me = world.attempt(contender);
        match (step, me, self.contenders[contender].0) {
            (Step::Roster(step), Some(me), Protocol::Roster(rules)) => {
                step.choices(rules, world, me, &mut add);
                if self.faults && step.can_fail() {
                    add(Choice::Fail);
                }
            }
            (Step::Idle, ..) if begun >= self.rounds(contender) => {}
            _ => add(Choice::Go),
        }
        // A process without an attempt may end as well: what it did before is then a dead one's.
        if self.faults && (me.is_some() || world.alive.0[contender] < begun) {
            add(Choice::Crash);
        }
    }

    /// Lets a contender go on.
    fn step(&self, world: &mut World, contender: usize, choice: Choice) {
        if choice == Choice::Crash {
            return world.crash(contender);
        }
        let protocol = self.contenders[contender].0;
        let it = &mut world.contenders[contender];
        let step = it.step.or_first(protocol);
        if it.step == Step::Idle {
            it.begun += 1;
        }
        let me = Attempt::new(contender, it.begun - 1);
        let after = match (step, protocol) {
            (Step::Roster(_), Protocol::Roster(rules)) if choice == Choice::Fail => {
                Step::Roster(rules.abandon(world, me))
            }
            (Step::Roster(step), Protocol::Roster(rules)) => step.take(rules, world, me, choice),
            (Step::Naive(step), Protocol::Naive(protocol)) => step.take(protocol, world, me),
            (step, protocol) => unreachable!("{step:?} is no step of {protocol:?}"),
        };
        world.contenders[contender].step = after;
        world.acquired |= self.are_patient() && after.holds();
        world.originals_raced |=
            self.originals() > 1 && world.originals_in(naive::Step::decided).iter().count() > 1;
    }

    /// One state for all that differ in nothing but which contender is which. With patient contenders
    /// it matters which is which: they have an order.
    fn canonical(&self, world: World) -> World {
        if self.are_patient() {
            return world;
        }
        let lock = world.disk.lock;
        let mut order: [usize; CONTENDERS] = std::array::from_fn(|contender| contender);
        order.sort_by_key(|&contender| {
            let Contender { step, begun } = world.contenders[contender];
            let alike = (0..contender)
                .rev()
                .take_while(|&other| self.are_alike(other, contender))
                .last()
                .unwrap_or(contender);
            let owns = lock.and_then(|lock| lock.record).filter(|owner| owner.contender() == contender);
            let made = lock.filter(|lock| lock.file.contender() == contender);
            (
                alike,
                begun,
                world.alive.0[contender],
                world.disk.flags.of(contender),
                owns.map(Attempt::round),
                made.map(|lock| lock.file.round()),
                step,
            )
        });
        let mut to = Renaming::default();
        for (place, &contender) in order.iter().enumerate() {
            to[contender] = place;
        }
        if to.is_sorted() { world } else { world.renamed(&to) }
    }

    fn are_alike(&self, one: usize, other: usize) -> bool {
        match (self.contenders.get(one), self.contenders.get(other)) {
            (None, None) => true,
            (Some(one), Some(other)) => one == other,
            _ => false,
        }
    }

    fn all_are_through(&self, world: &World) -> bool {
        (0..CONTENDERS).all(|contender| {
            world.contenders[contender] == Contender { step: Step::Idle, begun: self.rounds(contender) }
        })
    }

    fn holders_have_the_lock(&self, world: &World) -> bool {
        (0..CONTENDERS).all(|contender| {
            let (step, holder) = (world.contenders[contender].step, world.attempt(contender));
            !step.holds()
                || world.disk.locked_by() == holder
                || matches!(step, Step::Naive(_)) && world.disk.put_aside_of() == holder
        })
    }

    fn living_leave_nothing(&self, world: &World) -> bool {
        let Disk { flags, copies, .. } = world.disk;
        let (lock, aside) = (world.disk.locked_by(), world.disk.put_aside_of());
        flags.or(copies).iter().chain(lock).chain(aside).all(|left| {
            let original = matches!(self.contenders[left.contender()].0, Protocol::Naive(_));
            original || !world.alive.is(left) || world.attempt(left.contender()) == Some(left)
        })
    }

    fn newcomer_acquires(&self, world: &World) -> bool {
        /// Far more steps than a newcomer needs to judge every flag there can be.
        const STEPS: usize = 200;
        let mut alone = world.clone();
        for contender in 0..CONTENDERS {
            alone.crash(contender);
        }
        // It comes in the place of the first contender, as one more process.
        let mut held = false;
        for _ in 0..STEPS {
            let mut choice = Choice::Go;
            if alone.contenders[0].step != Step::Idle {
                let mut first = None;
                self.choices(&alone, 0, |choice| first = first.or(Some(choice)));
                choice = first.unwrap_or(choice);
            }
            self.step(&mut alone, 0, choice);
            held |= alone.contenders[0].step.holds();
            if alone.contenders[0].step == Step::Idle {
                return held && alone.disk.is_clean();
            }
        }
        false
    }
}

impl stateright::Model for Model {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        vec![World {
            disk: Disk::default(),
            alive: Alive::default(),
            contenders: [Contender { step: Step::Idle, begun: 0 }; CONTENDERS],
            acquired: false,
            originals_raced: false,
            names: std::array::from_fn(|contender| contender),
        }]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        for contender in 0..self.contenders.len() {
            self.choices(world, contender, |choice| actions.push(Action { contender, choice }));
        }
    }

    fn next_state(&self, world: &World, action: Action) -> Option<World> {
        let mut next = world.clone();
        self.step(&mut next, action.contender, action.choice);
        Some(self.canonical(next))
    }

    fn properties(&self) -> Vec<Property<Self>> {
        self.claims.iter().map(|claim| claim.property()).collect()
    }
}

impl Tell for Model {
    fn tell(&self, steps: Vec<(World, Option<Action>)>) -> String {
        Trace { model: self, steps }.to_string()
    }
}

/// A way from the first state to another one, for people: who did what, and what was then on the disk.
struct Trace<'a> {
    model: &'a Model,
    steps: Vec<(World, Option<Action>)>,
}

impl fmt::Display for Trace<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for pair in self.steps.windows(2) {
            let [(before, Some(Action { contender, choice })), (after, _)] = pair else { continue };
            let who = letter(before.names[*contender]);
            let name = |attempt| before.name(attempt);
            let step = before.contenders[*contender].step;
            let what = match (choice, step.or_first(self.model.contenders[*contender].0)) {
                (Choice::Crash, _) => "ends".into(),
                (Choice::Fail, _) => "fails".into(),
                (choice, Step::Roster(step)) => step.describe(*choice, &name),
                (_, Step::Naive(step)) => step.describe(&name),
                (_, Step::Idle) => unreachable!("every protocol has a first step"),
            };
            let new = if step == Step::Idle && *choice != Choice::Crash { "comes, " } else { "" };
            writeln!(formatter, "  {who} {:<42} {}", format!("{new}{what}"), after.describe_disk())?;
        }
        Ok(())
    }
}

fn letter(contender: usize) -> char {
    char::from(b'a' + contender as u8)
}

impl World {
    /// The contender's letter and the number of its attempt.
    fn name(&self, attempt: Attempt) -> String {
        let dead = if self.alive.is(attempt) { "" } else { " (dead)" };
        format!("{}{}{dead}", letter(self.names[attempt.contender()]), attempt.round() + 1)
    }

    fn describe_disk(&self) -> String {
        let lock = match self.disk.lock {
            None => "none".into(),
            Some(lock) => lock.record.map_or("unreadable".into(), |owner| self.name(owner)),
        };
        let names = |set: Attempts| set.iter().map(|it| self.name(it)).collect::<Vec<_>>().join(" ");
        let holders = (0..CONTENDERS)
            .filter(|&contender| self.contenders[contender].step.holds())
            .filter_map(|contender| self.attempt(contender))
            .map(|holder| self.name(holder))
            .collect::<Vec<_>>()
            .join(" ");
        let aside = match self.disk.aside {
            None => String::new(),
            Some(lock) => {
                let owner = lock.record.map_or("unreadable".into(), |owner| self.name(owner));
                format!(" Q: {owner}")
            }
        };
        format!("lock: {lock:<14} flags: {:<24} holding: {holders}{aside}", names(self.disk.flags))
    }
}
