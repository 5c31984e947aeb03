//! Judges what happened by what was noted. Invariant: it knows notes and nothing else, neither the
//! disk nor the code under test, and each of its rules can fail.

use consolidation_guest::layout::EntryId;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::str::FromStr;

/// A payload, told from all others by a number in its content.
pub(super) type Number = u64;

/// A run: whoever took the lock, or tried to.
pub(super) type Run = u32;

/// One thing that happened. As a line of a log it reads as its comment says. The order in which runs
/// enter, overlap and are struck counts; that of the others does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// `intended FIRST COUNT`: payloads with these numbers are about to be staged.
    Intended { first: Number, count: u64 },
    /// `staged NUMBER ID`: it is staged, as its pod was told.
    Staged { number: Number, id: EntryId },
    /// `entered RUN`: at work under the lock, and by its own means it knows of nobody else who is.
    Entered { run: Run },
    /// `overlap RUN`: it has the lock, and somebody else is at work.
    Overlap { run: Run },
    /// `leftover RUN`: it has the lock, and processes of somebody else's command are left.
    Leftover { run: Run },
    /// `struck RUN`: from here on its command may be ended at any moment, and processes of it may be
    /// left although its `consolidate` lives.
    Struck { run: Run },
    /// `orphan-struck RUN`: its `consolidate` is dead, and from here on the first process of its command
    /// may be ended at any moment. The others live on and keep the lock.
    OrphanStruck { run: Run },
    /// `forced RUN`: its lock may have been removed by force before its end. Then it may have been handed
    /// what another one consumed, and may not have consumed that.
    Forced { run: Run },
    /// `handed RUN NUMBER ID`: the run was given the entry.
    Handed { run: Run, number: Number, id: EntryId },
    /// `consumed RUN ID`: the run has dealt with the entry and will never need it again.
    Consumed { run: Run, id: EntryId },
    /// `reported RUN REMOVED`: it was said that the run succeeded and so many entries are deleted.
    Reported { run: Run, removed: u64 },
    /// `kept RUN`: it was said that the run did not succeed and its entries stay.
    Kept { run: Run },
    /// `committed RUN ID`: by the outcome of the run, which is on the disk, the entry is consumed.
    Committed { run: Run, id: EntryId },
    /// `left ID`: it is still there after the last run, which takes all.
    Left { id: EntryId },
}

impl fmt::Display for Event {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Event::Intended { first, count } => write!(to, "intended {first} {count}"),
            Event::Staged { number, id } => write!(to, "staged {number} {id}"),
            Event::Entered { run } => write!(to, "entered {run}"),
            Event::Overlap { run } => write!(to, "overlap {run}"),
            Event::Leftover { run } => write!(to, "leftover {run}"),
            Event::Struck { run } => write!(to, "struck {run}"),
            Event::OrphanStruck { run } => write!(to, "orphan-struck {run}"),
            Event::Forced { run } => write!(to, "forced {run}"),
            Event::Handed { run, number, id } => write!(to, "handed {run} {number} {id}"),
            Event::Consumed { run, id } => write!(to, "consumed {run} {id}"),
            Event::Reported { run, removed } => write!(to, "reported {run} {removed}"),
            Event::Kept { run } => write!(to, "kept {run}"),
            Event::Committed { run, id } => write!(to, "committed {run} {id}"),
            Event::Left { id } => write!(to, "left {id}"),
        }
    }
}

/// The line that is no event.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NoEvent(pub(super) String);

impl FromStr for Event {
    type Err = NoEvent;

    fn from_str(line: &str) -> Result<Event, NoEvent> {
        let words: Vec<&str> = line.split(' ').collect();
        let event = || -> Option<Event> {
            let word = |at: usize| words.get(at).copied();
            let number = |at: usize| word(at)?.parse().ok();
            let run = || word(1)?.parse().ok();
            let id = |at: usize| word(at).and_then(EntryId::parse);
            let (event, length) = match word(0)? {
                "intended" => (Event::Intended { first: number(1)?, count: number(2)? }, 3),
                "staged" => (Event::Staged { number: number(1)?, id: id(2)? }, 3),
                "entered" => (Event::Entered { run: run()? }, 2),
                "overlap" => (Event::Overlap { run: run()? }, 2),
                "leftover" => (Event::Leftover { run: run()? }, 2),
                "struck" => (Event::Struck { run: run()? }, 2),
                "orphan-struck" => (Event::OrphanStruck { run: run()? }, 2),
                "forced" => (Event::Forced { run: run()? }, 2),
                "handed" => (Event::Handed { run: run()?, number: number(2)?, id: id(3)? }, 4),
                "consumed" => (Event::Consumed { run: run()?, id: id(2)? }, 3),
                "reported" => (Event::Reported { run: run()?, removed: number(2)? }, 3),
                "kept" => (Event::Kept { run: run()? }, 2),
                "committed" => (Event::Committed { run: run()?, id: id(2)? }, 3),
                "left" => (Event::Left { id: id(1)? }, 2),
                _ => return None,
            };
            (words.len() == length).then_some(event)
        };
        event().ok_or_else(|| NoEvent(line.to_owned()))
    }
}

/// What must not have happened and did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Violation {
    /// It was there once, is gone, and nobody has dealt with it.
    Lost(EntryId),
    /// It was there once, is gone, and no outcome of a run says so.
    GoneWithoutOutcome(EntryId),
    /// Left by a run that takes all.
    NotTaken(EntryId),
    /// Staged or handed out with a number that nobody intended to stage.
    NeverStaged { number: Number, id: EntryId },
    /// One payload became two entries.
    StagedTwice { number: Number, one: EntryId, other: EntryId },
    /// One id stands for two payloads.
    IdTwice { id: EntryId, one: Number, other: Number },
    /// Consumed, and never handed to that run.
    ConsumedUnseen { run: Run, id: EntryId },
    /// Two at work at the same time.
    Overlap { run: Run, with: Option<Run> },
    /// At work while processes of a command that its dead run left behind were still there.
    Leftover { run: Run, of: Option<Run> },
    /// Handed out although an earlier run had consumed it, and reported success or was committed.
    Again { id: EntryId, consumed_by: Run, handed_to: Run },
    /// By the outcome it is consumed, and the run had not dealt with it.
    CommittedUndone { run: Run, id: EntryId },
    /// By the outcomes of two runs.
    CommittedTwice { id: EntryId, one: Run, other: Run },
    /// By the outcome its entries are consumed, and it was said that they stay.
    CommittedAndKept { run: Run },
    /// Twice to the same run.
    TwiceInOneRun { run: Run, id: EntryId },
    /// Not the oldest first.
    OutOfOrder { run: Run, id: EntryId },
    /// Handed to a run that was not at work.
    NotAtWork { run: Run },
    /// A run that is there twice.
    EnteredTwice { run: Run },
    /// The report says another number of deleted entries than the run consumed.
    Miscounted { run: Run, removed: u64, consumed: u64 },
}

/// All that is wrong with these events.
pub(super) fn check(events: &[Event]) -> Vec<Violation> {
    let mut found = Vec::new();
    check_exclusion(events, &mut found);
    check_identity(events, &mut found);
    check_runs(events, &mut found);
    check_nothing_lost(events, &mut found);
    found
}

/// Nobody is at work beside another one.
fn check_exclusion(events: &[Event], found: &mut Vec<Violation>) {
    let mut struck = HashSet::new();
    let mut orphan_struck = HashSet::new();
    // A run that met a leftover does not have that guard itself.
    let leftovers: HashSet<Run> = events
        .iter()
        .filter_map(|event| match event {
            Event::Leftover { run } => Some(*run),
            _ => None,
        })
        .collect();
    let (mut last, mut last_with_group) = (None, None);
    for event in events {
        match *event {
            Event::Struck { run } => {
                struck.insert(run);
            }
            Event::OrphanStruck { run } => {
                orphan_struck.insert(run);
            }
            Event::Entered { run } => {
                last = Some(run);
                if !leftovers.contains(&run) {
                    last_with_group = last;
                }
            }
            // Who was struck may be on its way out at this moment, which is no overlap.
            Event::Overlap { run }
                if last.is_none_or(|last| !struck.contains(&last) && !orphan_struck.contains(&last)) =>
            {
                found.push(Violation::Overlap { run, with: last });
            }
            Event::Leftover { run } if last_with_group.is_none_or(|last| !struck.contains(&last)) => {
                found.push(Violation::Leftover { run, of: last_with_group });
            }
            _ => {}
        }
    }
}

/// One payload, one entry, one id.
fn check_identity(events: &[Event], found: &mut Vec<Violation>) {
    let intended: BTreeMap<Number, u64> = events
        .iter()
        .filter_map(|event| match *event {
            Event::Intended { first, count } => Some((first, count)),
            _ => None,
        })
        .collect();
    let was_intended = |number: Number| {
        intended.range(..=number).next_back().is_some_and(|(first, count)| number - first < *count)
    };
    let mut ids: HashMap<Number, EntryId> = HashMap::new();
    let mut numbers: HashMap<EntryId, Number> = HashMap::new();
    for event in events {
        let (Event::Staged { number, id } | Event::Handed { number, id, .. }) = *event else { continue };
        if !was_intended(number) {
            found.push(Violation::NeverStaged { number, id });
        }
        let one = *ids.entry(number).or_insert(id);
        if one != id {
            found.push(Violation::StagedTwice { number, one, other: id });
        }
        let one = *numbers.entry(id).or_insert(number);
        if one != number {
            found.push(Violation::IdTwice { id, one, other: number });
        }
    }
}

/// What one run did.
#[derive(Default)]
struct Deeds {
    /// As the how manieth it came to work.
    entered: Option<usize>,
    handed: HashSet<EntryId>,
    consumed: HashSet<EntryId>,
    committed: HashSet<EntryId>,
    last_handed: Option<EntryId>,
    removed: Option<u64>,
    kept: bool,
    forced: bool,
}

/// Each run saw an entry once, the oldest first, and nothing that an earlier one had done with.
fn check_runs(events: &[Event], found: &mut Vec<Violation>) {
    let mut runs: HashMap<Run, Deeds> = HashMap::new();
    let mut order = 0;
    for event in events {
        match *event {
            Event::Entered { run } => {
                order += 1;
                if runs.entry(run).or_default().entered.replace(order).is_some() {
                    found.push(Violation::EnteredTwice { run });
                }
            }
            Event::Handed { run, id, .. } => {
                let deeds = runs.entry(run).or_default();
                if !deeds.handed.insert(id) {
                    found.push(Violation::TwiceInOneRun { run, id });
                } else if deeds.last_handed.replace(id).is_some_and(|last| last > id) {
                    found.push(Violation::OutOfOrder { run, id });
                }
            }
            Event::Consumed { run, id } => {
                runs.entry(run).or_default().consumed.insert(id);
            }
            Event::Reported { run, removed } => runs.entry(run).or_default().removed = Some(removed),
            Event::Forced { run } => runs.entry(run).or_default().forced = true,
            Event::Kept { run } => runs.entry(run).or_default().kept = true,
            Event::Committed { run, id } => {
                runs.entry(run).or_default().committed.insert(id);
            }
            _ => {}
        }
    }
    check_committed(&runs, found);
    // The first that consumed it for good.
    let mut settled: HashMap<EntryId, (usize, Run)> = HashMap::new();
    for (&run, deeds) in &runs {
        let Some(entered) = deeds.entered else {
            // One that gave up before it came to work has done nothing.
            if !(deeds.handed.is_empty() && deeds.consumed.is_empty() && deeds.committed.is_empty()) {
                found.push(Violation::NotAtWork { run });
            }
            continue;
        };
        for &id in deeds.consumed.difference(&deeds.handed) {
            found.push(Violation::ConsumedUnseen { run, id });
        }
        let consumed = deeds.consumed.len() as u64;
        if let Some(removed) = deeds.removed.filter(|removed| *removed != consumed) {
            found.push(Violation::Miscounted { run, removed, consumed });
        }
        let all = deeds.consumed.iter().filter(|_| deeds.removed.is_some());
        for &id in all.chain(&deeds.committed) {
            let first = settled.entry(id).or_insert((entered, run));
            *first = (entered, run).min(*first);
        }
    }
    for (&run, deeds) in runs.iter().filter(|(_, deeds)| !deeds.forced) {
        for &id in &deeds.handed {
            if let Some(&(settled, consumed_by)) = settled.get(&id)
                && deeds.entered.is_some_and(|entered| entered > settled)
            {
                found.push(Violation::Again { id, consumed_by, handed_to: run });
            }
        }
    }
}

/// The outcomes say what the runs did, each of them once.
fn check_committed(runs: &HashMap<Run, Deeds>, found: &mut Vec<Violation>) {
    let mut committed_by: HashMap<EntryId, Run> = HashMap::new();
    for (&run, deeds) in runs {
        if deeds.kept && !deeds.committed.is_empty() {
            found.push(Violation::CommittedAndKept { run });
        }
        found.extend(
            deeds.committed.difference(&deeds.consumed).map(|&id| Violation::CommittedUndone { run, id }),
        );
        for &id in &deeds.committed {
            let one = *committed_by.entry(id).or_insert(run);
            if one != run {
                found.push(Violation::CommittedTwice { id, one: one.min(run), other: one.max(run) });
            }
        }
    }
}

/// Whatever was there, as its pod was told or as a run saw, was dealt with, and an outcome says so.
fn check_nothing_lost(events: &[Event], found: &mut Vec<Violation>) {
    let (mut known, mut left) = (HashSet::new(), HashSet::new());
    let (mut consumed, mut committed) = (HashSet::new(), HashSet::new());
    for event in events {
        match *event {
            Event::Staged { id, .. } | Event::Handed { id, .. } => known.insert(id),
            Event::Left { id } => left.insert(id),
            Event::Consumed { id, .. } => consumed.insert(id),
            Event::Committed { id, .. } => committed.insert(id),
            _ => false,
        };
    }
    found.extend(left.iter().map(|id| Violation::NotTaken(*id)));
    for &id in known.difference(&left) {
        if !consumed.contains(&id) {
            found.push(Violation::Lost(id));
        } else if !committed.contains(&id) {
            found.push(Violation::GoneWithoutOutcome(id));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Event::*;
    use super::*;
    use crate::support::entry_id;

    fn id(number: Number) -> EntryId {
        entry_id(1_760_000_000_000 + number, 1)
    }

    fn staged(numbers: std::ops::Range<Number>) -> Vec<Event> {
        let first = numbers.start;
        let mut events = vec![Intended { first, count: numbers.end - first }];
        events.extend(numbers.map(|number| Staged { number, id: id(number) }));
        events
    }

    fn entered(run: Run, numbers: std::ops::Range<Number>) -> Vec<Event> {
        let mut events = vec![Entered { run }];
        events.extend(numbers.map(|number| Handed { run, number, id: id(number) }));
        events
    }

    fn consumed(run: Run, numbers: std::ops::Range<Number>) -> Vec<Event> {
        let mut events = entered(run, numbers.clone());
        events.extend(numbers.map(|number| Consumed { run, id: id(number) }));
        events
    }

    fn committed(run: Run, numbers: std::ops::Range<Number>) -> Vec<Event> {
        let mut events = consumed(run, numbers.clone());
        events.extend(numbers.map(|number| Committed { run, id: id(number) }));
        events
    }

    fn reported(run: Run, numbers: std::ops::Range<Number>) -> Vec<Event> {
        let removed = numbers.end - numbers.start;
        let mut events = committed(run, numbers);
        events.push(Reported { run, removed });
        events
    }

    #[test]
    fn good_log_has_no_violation() {
        // A pod that was killed told of one of its two; the run that failed handed out both.
        let events = [
            staged(0..3),
            vec![Intended { first: 3, count: 2 }, Staged { number: 3, id: id(3) }],
            entered(1, 0..5),
            vec![Kept { run: 1 }, Kept { run: 9 }],
            consumed(2, 0..2),
            reported(3, 0..3),
            // It was killed when it was committed.
            committed(4, 3..4),
            reported(5, 4..5),
        ]
        .concat();
        assert_eq!(check(&events), []);
        assert_eq!(check(&[]), []);
    }

    #[test]
    fn acknowledged_entry_that_nobody_consumed_is_lost() {
        let events = [staged(0..3), reported(1, 0..1), entered(2, 1..2)].concat();
        let mut found = check(&events);
        found.sort_by_key(|violation| format!("{violation:?}"));
        assert_eq!(found, [Violation::Lost(id(1)), Violation::Lost(id(2))]);
    }

    #[test]
    fn entry_of_a_killed_pod_that_was_handed_out_once_is_not_forgotten() {
        let events = [vec![Intended { first: 0, count: 9 }], entered(1, 4..5)].concat();
        assert_eq!(check(&events), [Violation::Lost(id(4))]);
    }

    #[test]
    fn last_run_leaves_nothing() {
        let events = [staged(0..2), reported(1, 0..1), vec![Left { id: id(1) }]].concat();
        assert_eq!(check(&events), [Violation::NotTaken(id(1))]);
        let again = [staged(0..1), reported(1, 0..1), vec![Left { id: id(0) }]].concat();
        assert_eq!(check(&again), [Violation::NotTaken(id(0))]);
    }

    #[test]
    fn invented_entries_are_found() {
        for number in [2, 7, 12] {
            let events = [
                staged(3..7),
                staged(8..12),
                reported(1, 3..7),
                reported(2, 8..12),
                committed(3, number..number + 1),
            ];
            let number_id = id(number);
            assert_eq!(check(&events.concat()), [Violation::NeverStaged { number, id: number_id }]);
        }
        let events =
            [staged(0..1), reported(1, 0..1), vec![Staged { number: 5, id: id(5) }], committed(2, 5..6)];
        let invented = Violation::NeverStaged { number: 5, id: id(5) };
        assert_eq!(check(&events.concat()), [invented.clone(), invented]);
    }

    #[test]
    fn payload_with_two_entries_is_found() {
        let mut events = [staged(0..1), reported(1, 0..1), vec![Entered { run: 2 }]].concat();
        events.push(Handed { run: 2, number: 0, id: id(9) });
        events.push(Consumed { run: 2, id: id(9) });
        events.push(Committed { run: 2, id: id(9) });
        assert_eq!(check(&events), [Violation::StagedTwice { number: 0, one: id(0), other: id(9) }]);
    }

    #[test]
    fn id_with_two_payloads_is_found() {
        let mut events = [staged(0..2), consumed(1, 0..2), vec![Entered { run: 2 }]].concat();
        events.push(Handed { run: 2, number: 1, id: id(0) });
        let found = check(&events);
        assert!(found.contains(&Violation::IdTwice { id: id(0), one: 0, other: 1 }), "{found:?}");
    }

    #[test]
    fn overlap_is_found_unless_the_other_was_struck() {
        let overlap = |before: &[Event]| check(&[before, &[Overlap { run: 2 }, Entered { run: 2 }]].concat());
        let found = [Violation::Overlap { run: 2, with: Some(1) }];
        assert_eq!(overlap(&[Entered { run: 1 }]), found);
        assert_eq!(overlap(&[]), [Violation::Overlap { run: 2, with: None }]);
        for strike in [Struck { run: 1 }, OrphanStruck { run: 1 }] {
            assert_eq!(overlap(&[strike, Entered { run: 1 }]), []);
            assert_eq!(overlap(&[Entered { run: 1 }, strike]), []);
            // Whoever came later was not.
            let later = Violation::Overlap { run: 2, with: Some(3) };
            assert_eq!(overlap(&[Entered { run: 1 }, strike, Entered { run: 3 }]), [later]);
        }
        assert_eq!(overlap(&[Entered { run: 1 }, Struck { run: 3 }]), found);
        // A strike that comes later explains nothing.
        let late = [Entered { run: 1 }, Overlap { run: 2 }, Entered { run: 2 }, Struck { run: 1 }];
        assert_eq!(check(&late), found);
    }

    #[test]
    fn leftover_of_an_orphaned_command_is_found() {
        let leftover =
            |before: &[Event]| check(&[before, &[Leftover { run: 2 }, Entered { run: 2 }]].concat());
        let found = [Violation::Leftover { run: 2, of: Some(1) }];
        assert_eq!(leftover(&[Entered { run: 1 }]), found);
        assert_eq!(leftover(&[]), [Violation::Leftover { run: 2, of: None }]);
        // Its other processes were to keep the lock.
        assert_eq!(leftover(&[Entered { run: 1 }, OrphanStruck { run: 1 }]), found);
        // A run that ends by itself does not wait for them.
        assert_eq!(leftover(&[Entered { run: 1 }, Struck { run: 1 }]), []);
        // Two runs may meet the same leftover.
        let twice = [Entered { run: 1 }, Struck { run: 1 }, Leftover { run: 3 }, Entered { run: 3 }];
        assert_eq!(leftover(&twice), []);
        let twice = [Entered { run: 1 }, Leftover { run: 3 }, Entered { run: 3 }, Struck { run: 3 }];
        let first = Violation::Leftover { run: 3, of: Some(1) };
        assert_eq!(leftover(&twice), [first, found[0].clone()]);
    }

    #[test]
    fn entry_of_a_successful_run_is_never_handed_out_again() {
        let again = |run, by| Violation::Again { id: id(0), consumed_by: by, handed_to: run };
        let events = [staged(0..1), reported(5, 0..1), entered(3, 0..1)].concat();
        assert_eq!(check(&events), [again(3, 5)]);
        // Before it, and after one that did not get to report, it may be.
        let events = [staged(0..1), consumed(1, 0..1), entered(2, 0..1), reported(3, 0..1)].concat();
        assert_eq!(check(&events), []);
        // One that was killed right after its commit.
        let events = [staged(0..1), committed(4, 0..1), entered(2, 0..1)].concat();
        assert_eq!(check(&events), [again(2, 4)]);
        // One that reported success without an outcome.
        let mut events = [staged(0..1), consumed(4, 0..1), vec![Reported { run: 4, removed: 1 }]].concat();
        events.extend(entered(2, 0..1));
        assert_eq!(check(&events), [again(2, 4), Violation::GoneWithoutOutcome(id(0))]);
    }

    #[test]
    fn entry_that_is_gone_without_an_outcome_is_found() {
        let events = [staged(0..2), reported(1, 0..1), consumed(2, 1..2)].concat();
        assert_eq!(check(&events), [Violation::GoneWithoutOutcome(id(1))]);
    }

    #[test]
    fn outcome_says_what_the_run_did() {
        let committed_only = |number| Committed { run: 1, id: id(number) };
        // The run that was committed had not come to its end; another one did it.
        let mut events = [staged(0..1), consumed(2, 0..1), entered(1, 0..1)].concat();
        events.push(committed_only(0));
        assert_eq!(check(&events), [Violation::CommittedUndone { run: 1, id: id(0) }]);
        let events = [staged(0..1), committed(1, 0..1), vec![Kept { run: 1 }]].concat();
        assert_eq!(check(&events), [Violation::CommittedAndKept { run: 1 }]);
        let events = [staged(0..1), committed(2, 0..1), committed(1, 0..1)].concat();
        let twice = Violation::CommittedTwice { id: id(0), one: 1, other: 2 };
        assert_eq!(check(&events), [twice, Violation::Again { id: id(0), consumed_by: 2, handed_to: 1 }]);
    }

    #[test]
    fn run_whose_lock_was_removed_may_see_what_another_consumes_and_consumes_nothing_of_it() {
        let forced = vec![Forced { run: 2 }];
        let events = [staged(0..1), committed(1, 0..1), entered(2, 0..1), forced.clone()].concat();
        assert_eq!(check(&events), []);
        let events = [staged(0..1), committed(1, 0..1), committed(2, 0..1), forced].concat();
        assert_eq!(check(&events), [Violation::CommittedTwice { id: id(0), one: 1, other: 2 }]);
    }

    #[test]
    fn entry_that_a_run_left_alone_may_come_again() {
        let mut events = [staged(0..2), entered(1, 0..2)].concat();
        events.push(Consumed { run: 1, id: id(0) });
        events.extend([Committed { run: 1, id: id(0) }, Reported { run: 1, removed: 1 }]);
        events.extend(reported(2, 1..2));
        assert_eq!(check(&events), []);
    }

    #[test]
    fn report_says_how_many_the_run_consumed() {
        for removed in [0, 1, 3] {
            let mut events = [staged(0..2), committed(1, 0..2)].concat();
            events.push(Reported { run: 1, removed });
            assert_eq!(check(&events), [Violation::Miscounted { run: 1, removed, consumed: 2 }]);
        }
        // Success that the command knows nothing of.
        let mut events = [staged(0..1), entered(1, 0..1), reported(2, 0..1)].concat();
        events.push(Reported { run: 1, removed: 1 });
        assert_eq!(check(&events), [Violation::Miscounted { run: 1, removed: 1, consumed: 0 }]);
    }

    #[test]
    fn run_sees_an_entry_once_and_the_oldest_first() {
        let handed = |number| Handed { run: 1, number, id: id(number) };
        let mut events = [staged(0..2), entered(1, 0..2), reported(2, 0..2)].concat();
        events.push(handed(1));
        assert_eq!(check(&events), [Violation::TwiceInOneRun { run: 1, id: id(1) }]);
        let events =
            [staged(0..2), vec![Entered { run: 1 }, handed(1), handed(0)], reported(2, 0..2)].concat();
        assert_eq!(check(&events), [Violation::OutOfOrder { run: 1, id: id(0) }]);
    }

    #[test]
    fn run_that_consumes_what_it_never_saw_is_found() {
        let unseen =
            vec![Entered { run: 1 }, Consumed { run: 1, id: id(0) }, Committed { run: 1, id: id(0) }];
        let events = [staged(0..1), unseen].concat();
        assert_eq!(check(&events), [Violation::ConsumedUnseen { run: 1, id: id(0) }]);
    }

    #[test]
    fn run_enters_once_and_is_handed_nothing_before() {
        let mut events = [staged(0..1), reported(1, 0..1)].concat();
        events.push(Entered { run: 1 });
        assert_eq!(check(&events), [Violation::EnteredTwice { run: 1 }]);
        let events =
            [staged(0..1), vec![Handed { run: 1, number: 0, id: id(0) }], reported(2, 0..1)].concat();
        assert_eq!(check(&events), [Violation::NotAtWork { run: 1 }]);
    }

    #[test]
    fn events_are_lines_and_lines_are_events() {
        let events = [
            Intended { first: 3, count: 4 },
            Staged { number: 3, id: id(3) },
            Entered { run: 1 },
            Overlap { run: 1 },
            Leftover { run: 2 },
            Struck { run: 3 },
            OrphanStruck { run: 4 },
            Forced { run: 4 },
            Handed { run: 5, number: 6, id: id(6) },
            Consumed { run: 5, id: id(6) },
            Reported { run: 5, removed: 1 },
            Kept { run: 5 },
            Committed { run: 5, id: id(6) },
            Left { id: id(7) },
        ];
        for event in events {
            assert_eq!(event.to_string().parse(), Ok(event));
        }
        for line in ["", "entered", "entered x", "entered 1 ", "entered 1 2", "staged 1 x", "became 1"] {
            assert_eq!(line.parse::<Event>(), Err(NoEvent(line.into())));
        }
    }
}
