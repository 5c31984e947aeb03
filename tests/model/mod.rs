//! The lock protocol as a model, and every state of it: what a test with real processes finds only by
//! luck is found here for certain, within the bounds below. The protocol is that of the guest's `lock`
//! module, and has its step numbers.
//!
//! # What is modelled
//!
//! A step is one operation on the directory or one look at a process, and between any two of them
//! everybody else may do anything. A contender is a process, or a line of processes: it *crashes* before
//! any step, and comes back under another pid; or a step *fails* or traps, and the process, which lives
//! on, abandons the attempt. Each attempt has a token of its own. The steps are those of `acquire` (the
//! listing has a beginning and an end, and shows or misses what changes in between; flags are judged one
//! by one, in any order, later than they were listed, and unlinked later than judged; the lock is read,
//! judged, read again and unlinked at four moments; the answer to `link` can get lost), of rewriting the
//! lock while it is held, of `release` and of `abandon`.
//!
//! A verdict is right at its moment: pids that come back, other machines and leases are the business of
//! the tests of the verdict. What is *in* a flag is not modelled, as nobody asks: one that was created
//! and not yet written counts as much as any other. Contenders that share a process need no model of
//! their own: whatever they do, separate processes that crash one right after the other do too. Unless
//! they are *patient*, contenders that meet go or wait just as they like, which covers every order of
//! the names of flags and every waiting time.
//!
//! Left out: forced unlock, which may break a live lock on purpose; the renewal of a lease, which changes
//! no byte; and that a look at the lock is a `stat` and a read, here one step.
//!
//! # What is claimed
//!
//! See [`Claim`]. That a newcomer acquires is tried out in every single state: everybody is taken to be
//! dead from then on, and a process that comes takes the steps of the same protocol alone.
//!
//! # Who else is at the lock
//!
//! Protocols that look right ([`naive`]), and ours with a part taken away, have to be found wrong: the
//! model is worth what it finds. About the second look at the lock it says this: among processes that
//! follow the protocol the flags alone exclude, and it is not needed. It is there for writers that raise
//! no flag. Beside one that takes only a free lock, and takes it exclusively, ours excludes with the
//! second look and does not without. Beside one of the original format, which overwrites a lock that it
//! judged dead without any exclusion, that does not exclude; what holds is that ours never decides to
//! break a lock whose owner lives at that moment, so one that is held all the time is always respected.
//! Again that takes the second look; and of a lock that nobody can read it has to compare the time of its
//! last change too, because a file that was truncated once more looks as before. The races that remain
//! are tests here as well. With the option to *coexist* they are closed: see [`Coexist`] for its steps and
//! for what has to be assumed of the original; each step that is left out, and each assumption that is
//! dropped, is found wrong.
//!
//! # A run's commit
//!
//! [`run`] is a model of its own: owners that are late at any step, and successors that recover.
//! Again each step that is left out is found wrong, but for those that the tests name.
//!
//! # Bounds
//!
//! Those of each test are in it: how many contenders, and how often each of them comes. States that
//! differ only in which contender is which are one. Three contenders that come twice each, and more, take
//! minutes: `cargo test model::full -- --ignored --nocapture`, which prints the numbers of states.
//! States are told apart by 64 bits of hash, so among 100 million of them two are mixed up with a
//! probability of 0.03 %.

mod disk;
mod naive;
mod roster;
mod run;
mod world;

use std::fmt::Debug;
use std::hash::Hash;
use std::thread::available_parallelism;
use std::time::Instant;

use stateright::{Checker, HasDiscoveries};

use naive::Protocol::{CheckThenWrite, CreateOnly, RenameAsideThenLink, UnlinkThenCreate};
use roster::{Breaks, COEXISTING, Coexist, ROSTER, Rules, SecondLook, Wait};
use run::{Again, Checks, RUN, Recovers, Takes};
use world::{Claim, Model, Protocol, To};

const OURS: Protocol = Protocol::Roster(ROSTER);
const WITHOUT_LINKS: Protocol = Protocol::Roster(Rules { links: false, ..ROSTER });
const PATIENT: Protocol = Protocol::Roster(Rules { patient: true, ..ROSTER });
const SCAN_BEFORE_FLAG: Protocol = Protocol::Roster(Rules { flag_before_scan: false, ..ROSTER });
const NO_SECOND_LOOK: Protocol = Protocol::Roster(Rules { second_look: SecondLook::None, ..ROSTER });
const SECOND_LOOK_AT_CONTENT: Protocol =
    Protocol::Roster(Rules { second_look: SecondLook::Content, ..ROSTER });
const COEXISTS: Protocol = coexists(COEXISTING.coexist);
const COEXISTS_WITHOUT_LINKS: Protocol = Protocol::Roster(Rules { links: false, ..COEXISTING });
/// Does not coexist, beside processes that do.
const LOOKS_ASIDE: Protocol = coexists(Coexist { looks_aside: true, ..ROSTER.coexist });
const ORIGINAL: Protocol = Protocol::Naive(CheckThenWrite);
const CREATES_ONLY: Protocol = Protocol::Naive(CreateOnly);

/// All that is claimed of ours among its own kind, and of ours that coexists beside an original.
const CLAIMS: [Claim; 6] = [
    Claim::OneHolder,
    Claim::HolderHasTheLock,
    Claim::NewcomerAcquires,
    Claim::LivingLeaveNothing,
    Claim::DecidesRightly,
    Claim::ActsRightly,
];

const fn coexists(coexist: Coexist) -> Protocol {
    Protocol::Roster(Rules { coexist, ..ROSTER })
}

/// What is claimed of ours that coexists beside several originals, which race each other.
const BESIDE_SEVERAL: [Claim; 4] = [
    Claim::OneHolderUnlessOriginalsRaced,
    Claim::NewcomerAcquires,
    Claim::LivingLeaveNothing,
    Claim::DecidesRightly,
];

/// A model that can tell a way through its states to people.
trait Tell: stateright::Model {
    fn tell(&self, steps: Vec<(Self::State, Option<Self::Action>)>) -> String;
}

/// Looks at every state. Panics with the way to one that refutes a claim.
fn assert_holds<M>(name: &str, model: M)
where
    M: Tell<State: Clone + Debug + Hash + PartialEq + Send + Sync, Action: Clone + Debug + PartialEq>,
    M: Send + Sync + 'static,
{
    let started = Instant::now();
    let threads = available_parallelism().map_or(1, usize::from);
    let checker =
        model.checker().threads(threads).finish_when(HasDiscoveries::AnyFailures).spawn_dfs().join();
    println!(
        "{name}: {} states, {} steps, {:.1} s",
        checker.unique_state_count(),
        checker.state_count(),
        started.elapsed().as_secs_f64()
    );
    for property in checker.model().properties() {
        let found = checker.discovery(property.name);
        assert_eq!(
            found.is_some(),
            !property.expectation.discovery_is_failure(),
            "{name}: not true that {}\n{}",
            property.name,
            found.map(|path| checker.model().tell(path.into_vec())).unwrap_or_default()
        );
    }
}

/// Looks for a state that refutes any claim of the model, and prints a shortest way to it.
fn assert_refuted<M>(name: &str, model: M)
where
    M: Tell<State: Clone + Debug + Hash + PartialEq + Send + Sync, Action: Clone + Debug + PartialEq>,
    M: Send + Sync + 'static,
{
    let checker = model.checker().finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
    let (claim, path) = checker
        .discoveries()
        .into_iter()
        .min_by_key(|(_, path)| path.clone().into_vec().len())
        .unwrap_or_else(|| panic!("{name}: nothing found against what is claimed"));
    println!("{name}: not true that {claim}\n{}", checker.model().tell(path.into_vec()));
}

/// Looks for a state that refutes this claim.
fn assert_found_wrong(name: &str, contenders: &[(Protocol, u8)], claim: Claim) {
    assert_refuted(name, Model::new(contenders, &[claim]));
}

#[test]
fn one_live_process_holds_and_none_is_locked_out() {
    assert_holds("2 contenders, 2 rounds", Model::new(&[(OURS, 2); 2], &CLAIMS));
    assert_holds("3 contenders, 1 round", Model::new(&[(OURS, 1); 3], &CLAIMS));
    assert_holds("3 contenders, 2, 2 and 1 rounds", Model::new(&[(OURS, 2), (OURS, 2), (OURS, 1)], &CLAIMS));
}

#[test]
#[ignore = "takes minutes"]
fn full() {
    assert_holds("3 contenders, 2 rounds", Model::new(&[(OURS, 2); 3], &CLAIMS));
    assert_holds("2 contenders, 4 rounds", Model::new(&[(OURS, 4); 2], &CLAIMS));
    let contenders = [(WITHOUT_LINKS, 2), (WITHOUT_LINKS, 2), (WITHOUT_LINKS, 1)];
    assert_holds("3 contenders without hard links, 2, 2 and 1 rounds", Model::new(&contenders, &CLAIMS));
    let without_faults =
        Model::new(&[(PATIENT, 3), (PATIENT, 2), (PATIENT, 2)], &[Claim::NotEverybodyRefused])
            .without_faults();
    assert_holds("3 patient contenders, 3, 2 and 2 rounds", without_faults);
    let beside = [(OURS, 2), (OURS, 2), (ORIGINAL, 3)];
    assert_holds("2 contenders beside an original writer", Model::new(&beside, &[Claim::DecidesRightly]));
    let coexist = [(COEXISTS, 2), (COEXISTS, 2), (ORIGINAL, 4)];
    assert_holds("2 contenders that coexist with an original writer", Model::new(&coexist, &CLAIMS));
    let coexist = [(COEXISTS, 3), (ORIGINAL, 3), (ORIGINAL, 3)];
    assert_holds("1 contender that coexists with 2 original writers", Model::new(&coexist, &BESIDE_SEVERAL));
    let among_themselves = Model::new(&[(COEXISTS, 2), (COEXISTS, 2), (COEXISTS, 1)], &CLAIMS);
    assert_holds("3 contenders that coexist, 2, 2 and 1 rounds", among_themselves);
}

#[test]
fn the_model_gets_everywhere() {
    let everywhere = [
        To::Hold,
        To::Meet,
        To::UnlinkFlag,
        To::UnlinkLock,
        To::AbandonLock,
        To::Rewrite,
        To::TrustALockAfterALostAnswer,
    ];
    assert_holds("2 contenders", Model::new(&[(OURS, 2); 2], &everywhere.map(Claim::Gets)));
}

#[test]
fn without_hard_links_the_flags_alone_exclude() {
    let contenders = [(WITHOUT_LINKS, 2), (WITHOUT_LINKS, 1), (WITHOUT_LINKS, 1)];
    assert_holds("3 contenders without hard links", Model::new(&contenders, &CLAIMS));
}

#[test]
fn of_patient_contenders_one_acquires() {
    let claims = [Claim::OneHolder, Claim::NotEverybodyRefused];
    assert_holds("3 patient contenders", Model::new(&[(PATIENT, 2); 3], &claims).without_faults());
}

#[test]
fn protocols_without_a_roster_are_found_wrong() {
    for protocol in [CheckThenWrite, UnlinkThenCreate, RenameAsideThenLink] {
        let contenders = [(Protocol::Naive(protocol), 2); 3];
        assert_found_wrong(&format!("{protocol:?}"), &contenders, Claim::OneHolder);
    }
}

#[test]
fn a_protocol_that_never_breaks_a_lock_is_found_to_lock_out_a_newcomer() {
    assert_found_wrong("creates only", &[(CREATES_ONLY, 1); 2], Claim::NewcomerAcquires);
}

#[test]
fn a_flag_raised_after_the_scan_is_found_wrong() {
    assert_found_wrong("flag after the scan", &[(SCAN_BEFORE_FLAG, 1); 3], Claim::OneHolder);
}

#[test]
fn breaking_a_lock_without_a_second_look_is_found_wrong() {
    let beside_an_exclusive_writer = [(NO_SECOND_LOOK, 1), (CREATES_ONLY, 2)];
    assert_found_wrong("no second look", &beside_an_exclusive_writer, Claim::OneHolder);
    let beside_the_original = [(NO_SECOND_LOOK, 1), (ORIGINAL, 2)];
    assert_found_wrong("no second look", &beside_the_original, Claim::DecidesRightly);
}

#[test]
fn a_second_look_at_the_content_alone_is_found_wrong() {
    let beside_the_original = [(SECOND_LOOK_AT_CONTENT, 1), (ORIGINAL, 2)];
    assert_found_wrong("second look at the content alone", &beside_the_original, Claim::DecidesRightly);
}

#[test]
fn among_their_own_kind_the_flags_exclude_without_a_second_look() {
    assert_holds("no second look", Model::new(&[(NO_SECOND_LOOK, 2); 2], &CLAIMS));
    assert_holds("no second look", Model::new(&[(NO_SECOND_LOOK, 1); 3], &CLAIMS));
}

#[test]
fn beside_a_writer_that_takes_a_free_lock_exclusively_one_holds() {
    let contenders = [(OURS, 2), (OURS, 1), (CREATES_ONLY, 2)];
    assert_holds("beside an exclusive writer", Model::new(&contenders, &CLAIMS));
}

#[test]
fn a_live_original_holder_is_always_respected() {
    let claims = [Claim::DecidesRightly, Claim::NewcomerAcquires];
    assert_holds("beside the original", Model::new(&[(OURS, 2), (OURS, 1), (ORIGINAL, 2)], &claims));
    assert_holds("beside two originals", Model::new(&[(OURS, 1), (ORIGINAL, 2), (ORIGINAL, 2)], &claims));
}

#[test]
fn races_with_the_original_remain() {
    // It found no lock and writes its own over the one that was taken since.
    assert_found_wrong("the original overwrites", &[(OURS, 1), (ORIGINAL, 1)], Claim::OneHolder);
    // It overwrites a dead owner's lock after our second look at that.
    assert_found_wrong("ours unlinks", &[(OURS, 1), (ORIGINAL, 2)], Claim::ActsRightly);
}

#[test]
fn with_coexist_ours_and_the_original_never_overlap() {
    let beside = [(COEXISTS, 2), (COEXISTS, 1), (ORIGINAL, 2)];
    assert_holds("coexisting with the original", Model::new(&beside, &CLAIMS));
    let beside = [(COEXISTS, 1), (ORIGINAL, 2), (ORIGINAL, 2)];
    assert_holds("coexisting with two originals", Model::new(&beside, &BESIDE_SEVERAL));
    assert_holds("coexisting among themselves", Model::new(&[(COEXISTS, 2); 2], &CLAIMS));
}

#[test]
fn the_model_gets_everywhere_with_coexist() {
    let everywhere =
        [To::PutBack, To::PutBackAgain, To::KeepAside, To::DropAside, To::Lose, To::AbandonAside];
    let contenders = [(COEXISTS, 2), (ORIGINAL, 3)];
    assert_holds("coexisting", Model::new(&contenders, &everywhere.map(Claim::Gets)));
}

#[test]
fn without_a_wait_as_long_as_the_original_takes_coexisting_is_found_wrong() {
    for wait in [Wait::None, Wait::TooShort, Wait::SinceOpen] {
        let mutant = coexists(Coexist { wait, ..COEXISTING.coexist });
        assert_found_wrong(&format!("{wait:?}"), &[(mutant, 1), (ORIGINAL, 1)], Claim::OneHolder);
    }
    let mutant = coexists(Coexist { waits_after_a_lost_answer: false, ..COEXISTING.coexist });
    assert_found_wrong("no wait after a lost answer", &[(mutant, 1), (ORIGINAL, 1)], Claim::OneHolder);
}

#[test]
fn coexisting_by_half_is_found_wrong() {
    let whole = COEXISTING.coexist;
    let looks_at_content = Breaks::Aside(SecondLook::Content);
    for (name, mutant) in [
        ("breaks in place", Coexist { breaks_aside: Breaks::InPlace, ..whole }),
        ("compares the content alone", Coexist { breaks_aside: looks_at_content, ..whole }),
        ("never looks at Q", Coexist { looks_aside: false, ..whole }),
        ("puts back over a new lock", Coexist { puts_back_exclusively: false, ..whole }),
        ("abandons in place", Coexist { abandons_aside: false, ..whole }),
    ] {
        assert_found_wrong(name, &[(coexists(mutant), 2), (ORIGINAL, 2)], Claim::OneHolder);
    }
}

#[test]
fn coexisting_without_hard_links_is_found_wrong() {
    let contenders = [(COEXISTS_WITHOUT_LINKS, 1), (ORIGINAL, 1)];
    assert_found_wrong("coexisting without hard links", &contenders, Claim::OneHolder);
}

#[test]
fn a_lock_put_aside_is_respected_by_those_who_do_not_coexist() {
    let claims =
        [Claim::RespectsAside, Claim::DecidesRightly, Claim::NewcomerAcquires, Claim::LivingLeaveNothing];
    let contenders = [(LOOKS_ASIDE, 2), (COEXISTS, 1), (ORIGINAL, 2)];
    assert_holds("beside one that coexists", Model::new(&contenders, &claims));
    let contenders = [(OURS, 1), (COEXISTS, 1), (ORIGINAL, 2)];
    assert_found_wrong("never looks at Q", &contenders, Claim::RespectsAside);
}

#[test]
fn a_flag_lowered_before_the_lock_is_down_is_found_wrong() {
    let mutant = Protocol::Roster(Rules { flag_outlasts_lock: false, ..COEXISTING });
    assert_found_wrong("flag lowered first", &[(mutant, 1), (COEXISTS, 1)], Claim::LivingLeaveNothing);
}

#[test]
fn a_late_owner_does_no_harm() {
    assert_holds("3 owners that crash", run::Model::new(RUN, 3, &run::CLAIMS).with_crashes_only());
    for (name, rules) in [
        ("2 owners", RUN),
        ("2 owners, beside the original", run::Rules { takes: Takes::LinkCopy, ..RUN }),
        ("2 owners without hard links", run::Rules { takes: Takes::RenameCopy, ..RUN }),
    ] {
        assert_holds(name, run::Model::new(rules, 2, &run::CLAIMS).forced(1));
    }
}

#[test]
#[ignore = "takes minutes"]
fn full_runs() {
    assert_holds("3 owners", run::Model::new(RUN, 3, &run::CLAIMS));
    let without_links = run::Rules { takes: Takes::RenameCopy, ..RUN };
    assert_holds("3 owners without hard links", run::Model::new(without_links, 3, &run::CLAIMS));
    assert_holds("2 owners, 4 times by force", run::Model::new(RUN, 2, &run::CLAIMS).forced(4));
}

#[test]
fn the_model_of_runs_gets_everywhere() {
    use run::To;
    let everywhere = [
        To::LoseToASeal,
        To::LoseByTheFlag,
        To::LoseByTheLock,
        To::BeFinishedByAnother,
        To::FindADeniedCommit,
        To::FindADeniedCommitFinished,
        To::CommitBesideAKeptEntry,
    ];
    assert_holds("2 owners", run::Model::new(RUN, 2, &everywhere.map(run::Claim::Gets)));
}

#[test]
fn runs_with_a_part_left_out_are_found_wrong() {
    use run::{Closes, Commits, Finishes, Rules};
    for (name, mutant) in [
        ("the ticket after the checks", Rules { ticket_first: false, ..RUN }),
        ("a check of the lock alone", Rules { checks: Checks::Lock, ..RUN }),
        ("no check", Rules { checks: Checks::Nothing, ..RUN }),
        ("a commit that looks and then writes", Rules { commits: Commits::LookThenWrite, ..RUN }),
        ("deletes before the commit", Rules { commit_first: false, ..RUN }),
        ("recovery before the scan", Rules { recovers: Recovers::BeforeTheScan, ..RUN }),
        ("recovery with one listing", Rules { lists_twice: false, ..RUN }),
        ("recovery that deletes what is staged", Rules { finishes: Finishes::Listed, ..RUN }),
        ("a snapshot of what is consumed", Rules { passes_over_consumed: false, ..RUN }),
        ("a denied commit that is believed", Rules { looks_after_a_denial: false, ..RUN }),
        ("a second try that checks before it looks", Rules { again: Again::ChecksFirst, ..RUN }),
        ("a second try that is a new one", Rules { again: Again::Anew, ..RUN }),
        ("a lock left by one who lost its flag", Rules { takes_down_when_lost: false, ..RUN }),
        ("an outcome looked for before the ticket", Rules { closes: Closes::OutcomeThenTicket, ..RUN }),
        (
            "a ticket after one that was sealed by a late successor",
            Rules { gives_up_when_sealed: false, checks_before_seals: false, ..RUN },
        ),
    ] {
        assert_refuted(name, run::Model::new(mutant, 2, &run::CLAIMS));
    }
}

#[test]
fn what_a_run_does_more_than_it_has_to() {
    use run::Rules;
    for (name, rules) in [
        // The flag says it: it is gone before anybody looks for tickets. The lock is looked at for those
        // who raise no flag, and for people.
        ("a check of the flag alone", Rules { checks: Checks::Flag, ..RUN }),
        ("a check of the lock, then of the flag", Rules { checks: Checks::LockThenFlag, ..RUN }),
        // Nobody else gets by when the flags of the dead are gone and the own one stands.
        ("recovery before the lock is taken", Rules { recovers: Recovers::BeforeTheLock, ..RUN }),
        // Each of these two closes what the other is there for.
        ("no checks before the seals", Rules { checks_before_seals: false, ..RUN }),
        ("a ticket after one that was sealed", Rules { gives_up_when_sealed: false, ..RUN }),
    ] {
        assert_holds(name, run::Model::new(rules, 2, &run::CLAIMS));
    }
}
