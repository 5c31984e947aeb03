//! What is there when something begins, and where.

use super::contender::{How, consolidate, stage};
use super::disk::Quirks;
use super::schedule::{Call, Calm, Director, Fate, Fates, Op};
use super::world::{Act, Actor, Process, State, run};
use crate::support::original_record;
use consolidation_guest::durable::Durability;
use consolidation_guest::fs::{FsErrorKind, Kind, Time};
use consolidation_guest::layout::LOCK_PATH;

/// Three process-id namespaces, of which two are on one machine.
pub(super) const HERE: u32 = 1;
pub(super) const ELSEWHERE: u32 = 2;
pub(super) const FAR: u32 = 11;

/// The lease of all who have one, in seconds.
pub(super) const LEASE: u32 = 60;

/// A file system of the FAT kind.
pub(super) const NO_LINKS: Quirks =
    Quirks { no_links: Some(FsErrorKind::NotPermitted), coarse_ms: 2_000, ..Quirks::NONE };

/// What looks like an entry and is none. It stays where it is.
pub(super) const LOOKS_LIKE_AN_ENTRY: &str = "_staging/019c0000-0000-7000-8000-000000000000.json";

/// One process does something, and nobody else is there.
pub(super) fn alone(
    state: State,
    director: impl Director + 'static,
    namespace: u32,
    act: impl Fn(&Process) + Send + Sync,
) -> Result<State, String> {
    let act = &act;
    let live: Act<'_> = Box::new(move |actor: &Actor| {
        let _ = actor.live(namespace, act);
    });
    run(state, director, vec![live])
}

/// The same, where nothing can go wrong.
pub(super) fn surely(
    state: State,
    director: impl Director + 'static,
    namespace: u32,
    act: impl Fn(&Process) + Send + Sync,
) -> State {
    alone(state, director, namespace, act).unwrap_or_else(|failure| panic!("{failure}"))
}

pub(super) type Begin = fn(State) -> State;

/// Its name, and how it comes about.
pub(super) type Beginning = (&'static str, Begin);

pub(super) const NOTHING: Beginning = ("nothing", |state| state);
pub(super) const ENTRIES: Beginning = ("entries", entries);
pub(super) const DEAD_OWNER: Beginning =
    ("a dead owner's lock", |state| dead_owner(entries(state), HERE, |call| call.op == Op::Work));
pub(super) const LEASE_RAN_OUT: Beginning =
    ("the lock of an owner elsewhere whose lease has run out", |state| {
        after_a_lease(dead_owner(entries(state), ELSEWHERE, |call| call.op == Op::Work))
    });
pub(super) const DEAD_ORIGINAL: Beginning = ("a dead owner's lock of the original format", |state| {
    lock_file(entries(state), original_record(99, "pod", &[]).as_bytes(), -10)
});
pub(super) const EMPTY: Beginning = ("an empty lock", |state| lock_file(entries(state), b"", -10));
pub(super) const BEING_WRITTEN: Beginning =
    ("a lock that is being written", |state| lock_file(entries(state), b"{\"pid\": 9", 0));
pub(super) const FROM_THE_FUTURE: Beginning =
    ("a lock from the future", |state| lock_file(entries(state), &[0; 100], 3_600));
pub(super) const DEAD_CONTENDERS: Beginning = ("two dead contenders' flags", |state| {
    let flag = |call: &Call<'_>| call.op == Op::Write;
    after_a_lease(dead_owner(dead_owner(entries(state), HERE, flag), ELSEWHERE, flag))
});
pub(super) const TICKET: Beginning = ("a run that was about to be committed", |state| {
    let commit = |call: &Call<'_>| call.op == Op::Rename && call.path.ends_with(".open");
    dead_owner(entries(state), HERE, commit)
});
pub(super) const COMMITTED: Beginning = ("a committed run", |state| {
    let synchronise = |call: &Call<'_>| call.op == Op::SyncNames && call.path == "runs/.unfinished";
    dead_owner(entries(state), HERE, synchronise)
});
pub(super) const DELETED: Beginning = ("a run whose entries are deleted", |state| {
    let end = |call: &Call<'_>| call.op == Op::Rename && call.path.ends_with(".committed");
    dead_owner(entries(state), HERE, end)
});
pub(super) const SEALED: Beginning = ("a sealed run", |state| {
    let note = |call: &Call<'_>| call.op == Op::Create && call.path.starts_with("runs/.");
    dead_owner(TICKET.1(state), HERE, note)
});

pub(super) const BEGINNINGS: [Beginning; 13] = [
    NOTHING,
    ENTRIES,
    DEAD_OWNER,
    LEASE_RAN_OUT,
    DEAD_ORIGINAL,
    EMPTY,
    BEING_WRITTEN,
    FROM_THE_FUTURE,
    DEAD_CONTENDERS,
    TICKET,
    COMMITTED,
    DELETED,
    SEALED,
];

pub(super) fn entries(mut state: State) -> State {
    state.disk.put_odd(LOOKS_LIKE_AN_ENTRY, Kind::Symlink);
    let mut state = surely(state, Calm, HERE, |process| {
        stage(process, 3, 10, Durability::Full).expect("a disk that works");
    });
    state.kill_all();
    state
}

/// A process consolidates and is killed before the first step that is asked for.
fn dead_owner(state: State, namespace: u32, before: fn(&Call<'_>) -> bool) -> State {
    let kill = Fates(move |call: &Call<'_>| if before(call) { Fate::Kill } else { Fate::Pass });
    surely(state, kill, namespace, |process| {
        let how = How { lease_seconds: Some(LEASE), ..How::default() };
        let result = consolidate(process, &how);
        panic!("it was to be killed: {result:?}");
    })
}

pub(super) fn after_a_lease(mut state: State) -> State {
    state.pass_seconds(LEASE + 1);
    state
}

fn lock_file(mut state: State, content: &[u8], age: i128) -> State {
    let modified = Time::from_nanos(state.clock.nanos() + age * 1_000_000_000);
    state.disk.put(LOCK_PATH, content, modified);
    state
}
