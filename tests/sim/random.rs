//! Random schedules: two to four pods that stage and consolidate over and over, while processes are
//! killed and come back, instances trap, file operations fail, the power fails, and some are stopped for
//! longer than their lease.

use super::beginnings::{ELSEWHERE, FAR, HERE, LEASE, alone};
use super::contender::{How, RECORDS, abandon, consolidate, newcomer, stage};
use super::disk::Quirks;
use super::ledger::Counts;
use super::number;
use super::schedule::{Calm, Chance, Random, Rates};
use super::world::{Act, Actor, Life, Process, State, run};
use consolidation_guest::durable::Durability;
use consolidation_guest::error::ErrorCode;
use consolidation_guest::fs::FsErrorKind;
use consolidation_guest::lock::AcquireOptions;
use consolidation_guest::staging::Limits;
use std::time::{SystemTime, UNIX_EPOCH};

/// How many rounds an actor has.
const ROUNDS: usize = 6;

/// What a pod does in one round.
fn round(process: &Process, durability: Durability) {
    let lease_seconds = Some([20, LEASE][process.draw(2)]);
    match process.draw(8) {
        0..3 => {
            let (count, size) = (1 + process.draw(3), [1, 300][process.draw(2)]);
            // Whatever it answers is in the ledger.
            let _ = stage(process, count, size, durability);
        }
        3..7 => {
            let caps = [None, None, Some(1), Some(2)];
            let changes = [process.draw(2) == 0; RECORDS.len()];
            let how = How {
                lease_seconds,
                limits: Limits { max_entries: caps[process.draw(4)], max_bytes: None },
                work_ms: [0, 10, 5_000][process.draw(3)],
                renewals: u32::try_from(process.draw(4)).unwrap_or(0),
                fails: process.draw(6) == 0,
                stops_early: process.draw(5) == 0,
                drops: process.draw(8) == 0,
                durability,
                chunk: [0, 0, 1, 2][process.draw(4)],
                changes: changes.map(|is_changed| is_changed && process.draw(2) == 0),
                undoes: changes[0] && process.draw(5) == 0,
                goes_on: process.draw(3) == 0,
            };
            let _ = consolidate(process, &how);
        }
        _ if process.draw(3) == 0 => mend(process, lease_seconds),
        _ => {
            let _ = process.instance(|| process.workspace().lock_status());
            let _ = process.instance(|| process.workspace().summarize());
            let _ = process.instance(|| process.workspace().examine());
            let _ = process.instance(|| process.workspace().past_runs(10));
        }
    }
    process.work([0, 20, 1_000, 30_000][process.draw(4)]);
}

/// Removes what is left over.
fn mend(process: &Process, lease_seconds: Option<u32>) {
    let token = process.token();
    let options = AcquireOptions { lease_seconds, token: Some(token), ..AcquireOptions::default() };
    match process.instance(|| process.workspace().mend(&options)) {
        Some(Ok(_)) => {}
        Some(Err(error)) if error.code == ErrorCode::InUse => {}
        Some(Err(_)) | None => abandon(process, token),
    }
}

/// A pod's life: one process after the other.
fn pod(actor: &Actor, mut namespace: u32, wanders: bool, durability: Durability) {
    let mut rounds = 0;
    loop {
        let life = actor.live(namespace, |process| {
            while rounds < ROUNDS {
                rounds += 1;
                round(process, durability);
            }
        });
        match life {
            Life::Ended(()) => break,
            // A container that restarts is in a namespace of its own.
            Life::Killed if wanders => namespace = HERE + (namespace + 1) % 5,
            Life::Killed => {}
        }
    }
}

/// Runs the schedule of a seed, on a disk with these faults besides its own.
pub(super) fn schedule(seed: u64, quirks: Quirks, hides_processes: bool) -> Result<Counts, String> {
    let mut random = Random::new(seed);
    let actors = 2 + random.below(3);
    let quirks = Quirks {
        no_links: random.chance(2_500).then(|| {
            random.one_of(&[FsErrorKind::NotPermitted, FsErrorKind::Unsupported, FsErrorKind::Access])
        }),
        coarse_ms: random.one_of(&[0, 0, 4, 1_000, 2_000]),
        no_dir_sync: random.chance(500).then_some(FsErrorKind::Invalid),
        ..quirks
    };
    let rates = Rates::draw(&mut random);
    let durability = if quirks.no_dir_sync.is_some() || random.chance(1_000) {
        Durability::None
    } else {
        Durability::Full
    };
    let wanders = random.chance(3_000);
    let apart = random.chance(4_000);
    let mut begun = State::new(quirks, random.next());
    begun.hides_processes = hides_processes;
    let acts = (0..actors)
        .map(|actor| {
            let namespace = if apart { [HERE, ELSEWHERE, FAR, HERE][actor] } else { HERE };
            let act: Act<'_> = Box::new(move |actor: &Actor| pod(actor, namespace, wanders, durability));
            act
        })
        .collect();
    let mut state = run(begun, Chance { random: random.clone(), rates }, acts)?;
    let State { disk, ledger, .. } = &mut state;
    ledger.check(disk);
    // Those who live have nothing to do with it any more; but for one that was told that what it was to
    // remove is not there.
    if ledger.lied_to {
        state.kill_all();
    }
    let namespace = random.one_of(&[HERE, ELSEWHERE]);
    alone(state, Calm, namespace, |process| newcomer(process, 150)).map(|state| state.ledger.counts)
}

fn schedules(first: u64, count: u64) -> Counts {
    let mut counts = Counts::default();
    for seed in first..first + count {
        match schedule(seed, Quirks::NONE, false) {
            Ok(these) => counts.add(&these),
            Err(failure) => panic!("CONSOLIDATION_TEST_SEED={seed}: {failure}"),
        }
    }
    counts
}

#[test]
fn a_seed_is_a_schedule() {
    for seed in 1..50 {
        let run = || schedule(seed, Quirks::NONE, false);
        assert_eq!(run(), run(), "seed {seed}");
    }
}

/// Always the same ones, so that what is fixed stays fixed, and that it is known that they get everywhere.
#[test]
fn known_schedules() {
    let counts = schedules(1, 2_000);
    println!("{counts:?}");
    let Counts { steps: _, acquired, refused, took_over, late_owners, lock_lost, .. } = counts;
    let Counts { staged, commits, consumed, changed, kills, traps, faults, pauses, .. } = counts;
    let Counts { undone, power_losses, .. } = counts;
    let seldom = [late_owners, lock_lost, power_losses, undone];
    assert!(seldom.iter().all(|count| *count >= 20), "{counts:?}");
    let often =
        [acquired, refused, took_over, staged, commits, consumed, changed, kills, traps, faults, pauses];
    assert!(often.iter().all(|count| *count >= 1_000), "{counts:?}");
}

/// Others every time. `CONSOLIDATION_TEST_SEED` is the first one, and one is enough to see it again.
#[test]
fn fresh_schedules() {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970");
    let first = number("CONSOLIDATION_TEST_SEED", now.as_millis() as u64);
    let count = number("CONSOLIDATION_SIM_SCHEDULES", 3_000);
    println!("CONSOLIDATION_TEST_SEED={first} CONSOLIDATION_SIM_SCHEDULES={count}");
    println!("{:?}", schedules(first, count));
}
