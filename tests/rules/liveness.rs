//! Dead, alive or unknown: one test for each row of the table, for records and for flags.

use crate::support::original_record;
use crate::support::system::{TestSystem, World, absent, running, scope, wall_clock, zombie};
use consolidation_guest::fs::Time;
use consolidation_guest::layout::{FlagName, Token};
use consolidation_guest::liveness::{Lease, Verdict, judge_flag, judge_record};
use consolidation_guest::record::LockRecord;
use consolidation_guest::system::{Evidence, Scope};

const OWNER: u32 = 4242;
const RENEWED: Time = Time::from_nanos(1_777_636_800_000_000_000);
const LEASE: u32 = 60;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    Dead,
    Alive,
    Unknown,
}
use Answer::{Alive, Dead, Unknown};

fn answer(verdict: &Verdict) -> Answer {
    assert!(!verdict.reason().is_empty());
    assert_eq!(verdict.is_dead(), matches!(verdict, Verdict::Dead(_)));
    match verdict {
        Verdict::Dead(_) => Dead,
        Verdict::Alive(_) | Verdict::Working(_) => Alive,
        Verdict::Unknown(_) => Unknown,
    }
}

/// The record of an owner with the usual lease.
fn record_of(owner: &TestSystem) -> LockRecord {
    LockRecord::new(&owner.me, "pod-a", RENEWED, Token::new([7; 16]), Some(LEASE))
}

fn flag_of(owner: &TestSystem) -> FlagName {
    FlagName::new(&owner.me, Token::new([7; 16]))
}

fn judge(record: &LockRecord, judge: &TestSystem, now: Time) -> Answer {
    answer(&judge_record(record, Some(RENEWED), Some(now), &judge.me, judge))
}

/// The verdict on an owner while its lease runs, by its record and by its flag: they must agree.
#[track_caller]
fn verdict_on(owner: &TestSystem, judge_: &TestSystem) -> Answer {
    let by_record = judge(&record_of(owner), judge_, RENEWED);
    let lease = Lease { seconds: Some(LEASE), renewed: Some(RENEWED), now: Some(RENEWED) };
    let flag = FlagName::parse(flag_of(owner).as_str()).expect("a flag");
    let by_flag = answer(&judge_flag(&flag, &judge_.me, judge_, &|| lease));
    assert_eq!(by_record, by_flag, "record and flag of the same owner");
    by_record
}

/// The verdict of a process of the same world, in which the owner's id stands for this.
#[track_caller]
fn verdict_here(recorded_start: &str, evidence: Evidence) -> Answer {
    let world = World::new();
    let owner = world.host(OWNER, recorded_start);
    let judge = world.start(1);
    world.set(OWNER, evidence);
    verdict_on(&owner, &judge)
}

/// The verdict on an owner that runs in one scope, of a judge in another, where nothing has its id.
#[track_caller]
fn verdict_between(owner: Scope, judge: Scope) -> Answer {
    let owner = World::in_scope(owner).start(OWNER);
    let judge = World::in_scope(judge).start(1);
    verdict_on(&owner, &judge)
}

#[test]
fn owner_without_a_process_is_dead() {
    assert_eq!(verdict_here("s1", absent()), Dead);
    assert_eq!(verdict_here("", absent()), Dead);
}

#[test]
fn owner_whose_id_was_given_to_another_process_is_dead() {
    assert_eq!(verdict_here("s1", running("s2")), Dead);
    assert_eq!(verdict_here("12:30", running("12:31")), Dead, "also if the starts are digested");
}

#[test]
fn zombie_is_dead() {
    assert_eq!(verdict_here("s1", zombie("s1")), Dead);
}

#[test]
fn running_owner_with_the_recorded_start_is_alive() {
    assert_eq!(verdict_here("s1", running("s1")), Alive);
    assert_eq!(verdict_here("12:30", running("12:30")), Alive);
}

#[test]
fn running_owner_of_unknown_start_may_be_another_process_and_is_settled_by_the_lease() {
    assert_eq!(verdict_here("", running("s1")), Unknown);
    assert_eq!(verdict_here("s1", running("")), Unknown);
    assert_eq!(verdict_here("", running("")), Unknown);
    // Every container's first process has this id, and the judge's own may be it too.
    let world = World::new();
    let owner = world.start_at(1, "");
    let late = Some(RENEWED.plus_seconds(LEASE + 1));
    let record = record_of(&owner);
    assert_eq!(answer(&judge_record(&record, Some(RENEWED), late, &owner.me, &owner)), Dead);
    let lease = || Lease { seconds: Some(LEASE), renewed: Some(RENEWED), now: late };
    assert_eq!(answer(&judge_flag(&flag_of(&owner), &owner.me, &owner, &lease)), Dead);
}

#[test]
fn ids_that_no_process_can_have_are_dead() {
    let world = World::new();
    for pid in [0, 1 << 31, u32::MAX] {
        assert_eq!(verdict_on(&world.start(pid), &world.start(1)), Dead, "{pid}");
    }
}

#[test]
fn probe_alone_decides_where_it_can_whatever_the_lease() {
    let world = World::new();
    let owner = world.start(OWNER);
    let late = RENEWED.plus_seconds(10 * LEASE);
    assert_eq!(judge(&record_of(&owner), &world.start(1), late), Alive);
    let lease = Lease { seconds: Some(LEASE), renewed: Some(RENEWED), now: Some(late) };
    assert_eq!(answer(&judge_flag(&flag_of(&owner), &world.start(1).me, &world.start(1), &|| lease)), Alive);
    world.end(OWNER);
    assert_eq!(judge(&record_of(&owner), &world.start(1), RENEWED), Dead);
}

#[test]
fn owner_of_an_earlier_boot_is_dead_once_its_lease_has_run_out_and_at_once_without_one() {
    for (one, other) in [
        (scope("m", "b1", "n"), scope("m", "b2", "n")),
        (scope("m", "b1", "n1"), scope("m", "b2", "n2")),
        (scope("m.local", "b-1", "n"), scope("m.local", "b-2", "n")),
    ] {
        // It may be a copy of this machine, on which the owner lives.
        assert_eq!(verdict_between(one.clone(), other.clone()), Unknown);
        let (owner, here) = (World::in_scope(one).start(OWNER), World::in_scope(other).start(1));
        let mut record = record_of(&owner);
        assert_eq!(judge(&record, &here, RENEWED.plus_seconds(LEASE)), Unknown);
        assert_eq!(judge(&record, &here, RENEWED.plus_seconds(LEASE + 1)), Dead);
        record.lease_seconds = None;
        assert_eq!(judge(&record, &here, RENEWED), Dead);
        for (seconds, verdict) in [(Some(LEASE), Unknown), (None, Dead)] {
            let lease = Lease { seconds, renewed: Some(RENEWED), now: Some(RENEWED) };
            assert_eq!(answer(&judge_flag(&flag_of(&owner), &here.me, &here, &|| lease)), verdict);
        }
    }
}

#[test]
fn owner_in_another_namespace_is_unknown() {
    assert_eq!(verdict_between(scope("m", "b", "n1"), scope("m", "b", "n2")), Unknown);
}

#[test]
fn owner_on_another_machine_is_unknown() {
    assert_eq!(verdict_between(scope("m1", "b1", "n"), scope("m2", "b2", "n")), Unknown);
}

#[test]
fn unknown_parts_of_a_scope_prove_nothing() {
    // Neither that it is the same namespace,
    assert_eq!(verdict_between(scope("m", "b", ""), scope("m", "b", "")), Unknown);
    assert_eq!(verdict_between(scope("m", "", "n"), scope("m", "", "n")), Unknown);
    assert_eq!(verdict_between(scope("", "", ""), scope("", "", "")), Unknown);
    // nor that it is the same machine restarted.
    assert_eq!(verdict_between(scope("", "b1", "n"), scope("", "b2", "n")), Unknown);
    assert_eq!(verdict_between(scope("m", "", "n"), scope("m", "b2", "n")), Unknown);
    assert_eq!(verdict_between(scope("m", "b1", "n"), scope("m", "", "n")), Unknown);
}

#[test]
fn text_that_stands_for_an_unknown_part_in_names_is_a_known_part_in_scopes() {
    let hyphens = World::in_scope(scope("-", "-", "-"));
    let owner = hyphens.start(OWNER);
    assert_eq!(verdict_on(&owner, &hyphens.start(1)), Alive);
    assert_eq!(verdict_between(scope("-", "-", "-"), scope("", "", "")), Unknown);
}

#[test]
fn boot_names_its_machine_whatever_the_machine_calls_itself() {
    let world = World::in_scope(scope("new-name", "b", "n"));
    world.start(OWNER);
    let owner = World::in_scope(scope("old-name", "b", "n")).start(OWNER);
    assert_eq!(verdict_on(&owner, &world.start(1)), Alive);
    world.end(OWNER);
    assert_eq!(verdict_on(&owner, &world.start(1)), Dead);
}

#[test]
fn lease_runs_out_after_its_last_moment() {
    let owner = World::in_scope(scope("m1", "b1", "n")).start(OWNER);
    let judge_ = World::in_scope(scope("m2", "b2", "n")).start(1);
    let end = RENEWED.plus_seconds(LEASE);
    for (now, expected) in [
        (Time::from_nanos(RENEWED.nanos() - 1_000_000_000_000), Unknown),
        (Time::from_nanos(end.nanos() - 1), Unknown),
        (end, Unknown),
        (Time::from_nanos(end.nanos() + 1), Dead),
    ] {
        assert_eq!(judge(&record_of(&owner), &judge_, now), expected);
        let lease = Lease { seconds: Some(LEASE), renewed: Some(RENEWED), now: Some(now) };
        assert_eq!(answer(&judge_flag(&flag_of(&owner), &judge_.me, &judge_, &|| lease)), expected);
    }
}

#[test]
fn lease_without_an_end_or_without_a_clock_never_runs_out() {
    let owner = World::in_scope(scope("m1", "b1", "n")).start(OWNER);
    let judge_ = World::in_scope(scope("m2", "b2", "n")).start(1);
    let late = Some(RENEWED.plus_seconds(u32::MAX));
    let mut endless = record_of(&owner);
    endless.lease_seconds = None;
    let ask =
        |record: &LockRecord, renewed, now| answer(&judge_record(record, renewed, now, &judge_.me, &judge_));
    assert_eq!(ask(&endless, Some(RENEWED), late), Unknown);
    assert_eq!(ask(&record_of(&owner), None, late), Unknown);
    assert_eq!(ask(&record_of(&owner), Some(RENEWED), None), Unknown);
    for lease in [
        Lease { seconds: None, renewed: Some(RENEWED), now: late },
        Lease { seconds: Some(LEASE), renewed: None, now: late },
        Lease { seconds: Some(LEASE), renewed: Some(RENEWED), now: None },
    ] {
        assert_eq!(answer(&judge_flag(&flag_of(&owner), &judge_.me, &judge_, &|| lease)), Unknown);
    }
}

#[test]
fn lease_of_a_flag_is_not_asked_for_where_the_name_decides() {
    let world = World::new();
    let (owner, judge_) = (world.start(OWNER), world.start(1));
    let asked = || -> Lease { panic!("asked for the lease") };
    assert_eq!(answer(&judge_flag(&flag_of(&owner), &judge_.me, &judge_, &asked)), Alive);
    world.end(OWNER);
    assert_eq!(answer(&judge_flag(&flag_of(&owner), &judge_.me, &judge_, &asked)), Dead);
}

#[test]
fn command_that_outlives_its_host_keeps_the_lock() {
    let world = World::new();
    let (owner, judge_) = (world.start(OWNER), world.start(1));
    let mut record = record_of(&owner);
    record.command_group = Some(77);
    record.command_start = Some("s77".into());
    world.set_group(77, true);
    assert_eq!(judge(&record, &judge_, RENEWED), Alive);
    for evidence in [absent(), zombie("s4242"), running("another")] {
        world.set(OWNER, evidence);
        world.set_group(77, true);
        assert_eq!(judge(&record, &judge_, RENEWED), Alive);
        world.set_group(77, false);
        assert_eq!(judge(&record, &judge_, RENEWED), Dead);
    }
}

#[test]
fn command_of_unknown_start_is_settled_by_the_lease() {
    let world = World::new();
    let (owner, judge_) = (world.start(OWNER), world.start(1));
    let mut record = record_of(&owner);
    record.command_group = Some(77);
    world.end(OWNER);
    world.set_group(77, true);
    let ask = |now| answer(&judge_record(&record, Some(RENEWED), Some(now), &judge_.me, &judge_));
    assert_eq!(ask(RENEWED), Unknown);
    assert_eq!(ask(RENEWED.plus_seconds(LEASE + 1)), Dead);
}

#[test]
fn command_group_of_another_scope_means_nothing_here() {
    let judge_world = World::in_scope(scope("m", "b2", "n"));
    judge_world.set_group(77, true);
    let mut record = record_of(&World::in_scope(scope("m", "b1", "n")).start(OWNER));
    record.command_group = Some(77);
    record.lease_seconds = None;
    assert_eq!(judge(&record, &judge_world.start(1), RENEWED), Dead);
    let mut record = record_of(&World::in_scope(scope("m3", "b3", "n")).start(OWNER));
    record.command_group = Some(77);
    assert_eq!(judge(&record, &judge_world.start(1), RENEWED), Unknown);
    assert_eq!(judge(&record, &judge_world.start(1), RENEWED.plus_seconds(LEASE + 1)), Dead);
}

/// In a restarted container small ids come back at once.
#[test]
fn process_group_that_got_the_id_of_an_ended_command_does_not_hold_the_lock() {
    let world = World::new();
    let mut record = record_of(&world.start(OWNER));
    record.command_group = Some(77);
    record.command_start = Some("s77".into());
    world.end(OWNER);
    world.set_group(77, true);
    let judge_system = world.start(1);
    for (first, expected) in
        [(running("s77"), Alive), (running("another"), Dead), (absent(), Alive), (running(""), Alive)]
    {
        world.set(77, first.clone());
        assert_eq!(judge(&record, &judge_system, RENEWED), expected, "{first:?}");
    }
}

/// The verdict on a record of the original format whose owner's id stands for this.
fn verdict_on_original(evidence: Evidence) -> Answer {
    let world = World::new();
    world.set(OWNER, evidence);
    let record = LockRecord::parse(
        format!(r#"{{"pid":{OWNER},"pod_name":"p","started_at":"2026-05-01T12:00:00Z","consumed_ids":[]}}"#)
            .as_bytes(),
    )
    .expect("a record");
    assert_eq!(record.started_at(), Some(RENEWED));
    // It has no lease: time alone never breaks it.
    judge(&record, &world.start(1), RENEWED.plus_seconds(u32::MAX))
}

fn started(offset_ms: i64) -> Evidence {
    let at = RENEWED.millis().checked_add_signed(offset_ms).expect("a time");
    Evidence { started_at_ms: Some(at), ..running("s1") }
}

#[test]
fn original_record_is_judged_by_its_process() {
    assert_eq!(verdict_on_original(absent()), Dead);
    assert_eq!(verdict_on_original(zombie("s1")), Dead);
    assert_eq!(verdict_on_original(running("s1")), Alive);
    assert_eq!(verdict_on_original(running("")), Alive);
}

#[test]
fn original_record_of_a_process_that_started_later_is_dead() {
    assert_eq!(verdict_on_original(started(-3_600_000)), Alive);
    assert_eq!(verdict_on_original(started(0)), Alive);
    assert_eq!(verdict_on_original(started(1_999)), Alive, "clocks are read with rounding");
    assert_eq!(verdict_on_original(started(2_000)), Dead);
    assert_eq!(verdict_on_original(started(86_400_000)), Dead);
}

#[test]
fn original_record_of_a_zombie_is_dead_whenever_that_started() {
    assert_eq!(verdict_on_original(Evidence { started_at_ms: Some(0), ..zombie("s1") }), Dead);
}

#[test]
fn original_record_with_an_id_that_no_process_can_have_is_dead() {
    let judge_ = World::new().start(1);
    for pid in [0, u32::MAX] {
        let record = LockRecord::parse(original_record(pid, "pod-a", &[]).as_bytes()).expect("a record");
        assert_eq!(answer(&judge_record(&record, None, Some(wall_clock()), &judge_.me, &judge_)), Dead);
    }
}

#[test]
fn record_of_a_later_version_with_a_scope_that_cannot_be_read_is_not_proved_dead() {
    // Where its id has a meaning can't be told; that nothing has it here proves nothing.
    let owner = World::in_scope(scope("m1", "b1", "n")).start(OWNER);
    let mut value: serde_json::Value = serde_json::from_slice(&record_of(&owner).to_file()).expect("JSON");
    value["scope"] = "cluster-7".into();
    let record = LockRecord::parse(value.to_string().as_bytes()).expect("a record");
    let judge_ = World::in_scope(scope("m2", "b2", "n")).start(1);
    assert_eq!(judge(&record, &judge_, RENEWED), Unknown);
}
