//! Finds the entries that a consolidator fails on. Invariant: entries are tried in their order, and every
//! one of them is done, failed or not reached; one that fails was tried alone, or the consolidator named it.

/// So many entries that failed alone, with nothing done at all, and it is the consolidator that is at fault.
pub(crate) const STRIKES: usize = 3;

/// Why some items could not be done.
#[derive(Debug)]
pub(crate) enum Refusal<E> {
    /// Nothing more is known.
    Batch(String),
    /// Those at these positions are at fault.
    Items(Vec<usize>, String),
    /// It is not about the items. Nothing more is tried.
    End(E),
}

/// An item that can't be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failed<T> {
    pub(crate) item: T,
    pub(crate) reason: String,
    /// Nothing was with it when it failed, or nothing that would have been left without it.
    pub(crate) alone: bool,
}

/// Why a batch was not tried to its end.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum End<E> {
    /// Whatever is tried fails.
    AtFault,
    /// As [`Refusal::End`] said.
    Because(E),
}

/// What became of a batch.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Sorted<T, E> {
    /// In their order, as everything here.
    pub(crate) done: Vec<T>,
    pub(crate) failed: Vec<Failed<T>>,
    /// What was not reached.
    pub(crate) rest: Vec<T>,
    pub(crate) end: Option<End<E>>,
}

/// What is known of a consolidator by now.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Splitter {
    has_succeeded: bool,
    strikes: usize,
}

impl Splitter {
    /// Has it done anything yet?
    pub(crate) fn has_succeeded(self) -> bool {
        self.has_succeeded
    }

    /// Tries the items together, and where that fails in smaller and smaller parts, the first ones first.
    /// For k items at fault out of n that takes at most 1 + 2·k·⌈log2 n⌉ attempts.
    pub(crate) fn sort<T, E>(
        &mut self,
        mut items: Vec<T>,
        mut attempt: impl FnMut(&[T]) -> Result<(), Refusal<E>>,
    ) -> Sorted<T, E> {
        let mut failed = Vec::new();
        let mut end = None;
        // The items before `at` are done. What follows them is tried in parts of these lengths, the last of
        // the list first; items that failed are taken out, so the parts stay side by side.
        let mut at = 0;
        let mut parts = vec![items.len()];
        while let Some(length) = parts.pop() {
            if length == 0 {
                continue;
            }
            let (named, reason) = match attempt(&items[at..at + length]) {
                Ok(()) => {
                    self.has_succeeded = true;
                    at += length;
                    continue;
                }
                Err(Refusal::Batch(reason)) => (Vec::new(), reason),
                Err(Refusal::Items(positions, reason)) => (in_range(positions, length), reason),
                Err(Refusal::End(reason)) => {
                    end = Some(End::Because(reason));
                    break;
                }
            };
            let at_fault = match (named.len(), length) {
                (0, 1) => vec![0],
                (0, _) => {
                    parts.extend([length - length / 2, length / 2]);
                    continue;
                }
                _ => named,
            };
            let alone = at_fault.len() == length;
            // From behind, so that the positions before stay what they are.
            let mut taken: Vec<Failed<T>> = at_fault
                .iter()
                .rev()
                .map(|position| Failed { item: items.remove(at + position), reason: reason.clone(), alone })
                .collect();
            taken.reverse();
            if alone {
                self.strikes += taken.len();
            }
            parts.push(length - taken.len());
            failed.extend(taken);
            if !self.has_succeeded && self.strikes >= STRIKES {
                end = Some(End::AtFault);
                break;
            }
        }
        let rest = items.split_off(at);
        Sorted { done: items, failed, rest, end }
    }
}

/// The positions that there are, each once, in ascending order.
fn in_range(mut positions: Vec<usize>, length: usize) -> Vec<usize> {
    positions.retain(|position| *position < length);
    positions.sort_unstable();
    positions.dedup();
    positions
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::{btree_set, vec};
    use proptest::prelude::*;
    use std::collections::BTreeSet;
    use std::convert::Infallible;

    type Outcome = Sorted<usize, Infallible>;

    /// Sorts with a consolidator that fails on these items, and counts the attempts.
    fn sort_with(items: usize, poison: &BTreeSet<usize>, splitter: &mut Splitter) -> (Outcome, usize) {
        let mut attempts = 0;
        let sorted = splitter.sort((0..items).collect(), |part| {
            attempts += 1;
            assert!(!part.is_empty(), "nothing is no part");
            match part.iter().find(|item| poison.contains(item)) {
                None => Ok(()),
                Some(item) => Err(Refusal::Batch(format!("fails on {item}"))),
            }
        });
        (sorted, attempts)
    }

    fn failed(sorted: &Outcome) -> Vec<usize> {
        sorted.failed.iter().map(|failed| failed.item).collect()
    }

    /// One that has done something before, so that it is not at fault.
    fn proved() -> Splitter {
        Splitter { has_succeeded: true, strikes: 0 }
    }

    proptest! {
        #[test]
        fn every_item_at_fault_is_found_and_all_others_are_done(
            items in 0..300usize,
            poison in btree_set(0..300usize, 0..12),
        ) {
            let poison: BTreeSet<usize> = poison.into_iter().filter(|item| *item < items).collect();
            let (sorted, attempts) = sort_with(items, &poison, &mut proved());
            prop_assert_eq!(failed(&sorted), poison.iter().copied().collect::<Vec<_>>());
            let others: Vec<usize> = (0..items).filter(|item| !poison.contains(item)).collect();
            prop_assert_eq!(&sorted.done, &others);
            prop_assert!(sorted.rest.is_empty() && sorted.end.is_none());
            prop_assert!(sorted.failed.iter().all(|failed| failed.alone));
            for Failed { item, reason, .. } in &sorted.failed {
                prop_assert_eq!(reason, &format!("fails on {item}"));
            }
            let depth = items.max(1).next_power_of_two().ilog2() as usize;
            prop_assert!(attempts <= 1 + 2 * poison.len() * depth, "{} attempts", attempts);
        }

        #[test]
        fn items_are_done_in_their_order_whatever_fails(items in 1..60usize, verdicts in vec(0..4u8, 200)) {
            let mut verdicts = verdicts.into_iter().cycle();
            let mut done = Vec::new();
            let sorted: Outcome = proved().sort((0..items).collect(), |part: &[usize]| match verdicts.next() {
                Some(0) => {
                    done.extend_from_slice(part);
                    Ok(())
                }
                // Positions that there are, and one that there is not.
                Some(1) => Err(Refusal::Items(vec![part.len() - 1, 0, part.len() + 7], "named".into())),
                Some(2) => Err(Refusal::Items(vec![part.len()], "named nothing".into())),
                _ => Err(Refusal::Batch("batch".into())),
            });
            prop_assert!(done.is_sorted());
            prop_assert_eq!(&sorted.done, &done);
            let mut all = [done, failed(&sorted)].concat();
            all.sort_unstable();
            prop_assert_eq!(all, (0..items).collect::<Vec<_>>(), "each once");
        }
    }

    #[test]
    fn parts_are_halves_and_the_first_half_comes_first() {
        let mut parts = Vec::new();
        let sorted: Outcome = proved().sort((0..5).collect(), |part| {
            parts.push(part.to_vec());
            if part.contains(&1) { Err(Refusal::Batch("no".into())) } else { Ok(()) }
        });
        let expected: [&[usize]; 5] = [&[0, 1, 2, 3, 4], &[0, 1], &[0], &[1], &[2, 3, 4]];
        assert_eq!(parts, expected);
        assert_eq!((sorted.done, failed_of(&sorted.failed)), (vec![0, 2, 3, 4], vec![1]));
    }

    fn failed_of(failed: &[Failed<usize>]) -> Vec<usize> {
        failed.iter().map(|failed| failed.item).collect()
    }

    #[test]
    fn named_items_are_left_out_and_the_rest_is_tried_as_a_whole() {
        let mut parts = Vec::new();
        let sorted: Outcome = Splitter::default().sort((0..6).collect(), |part: &[usize]| {
            parts.push(part.to_vec());
            if part.len() == 6 { Err(Refusal::Items(vec![4, 1, 4], "these".into())) } else { Ok(()) }
        });
        assert_eq!(parts[1], [0, 2, 3, 5]);
        assert_eq!((parts.len(), &sorted.done, sorted.end.is_none()), (2, &parts[1], true));
        assert_eq!(failed_of(&sorted.failed), [1, 4]);
        assert!(sorted.failed.iter().all(|failed| !failed.alone && failed.reason == "these"));
    }

    #[test]
    fn consolidator_that_does_nothing_is_at_fault_after_three_items() {
        let everything: BTreeSet<usize> = (0..100).collect();
        let mut splitter = Splitter::default();
        let (sorted, attempts) = sort_with(100, &everything, &mut splitter);
        assert_eq!(sorted.end, Some(End::AtFault));
        assert_eq!((failed(&sorted), sorted.rest.len()), (vec![0, 1, 2], 97));
        assert!(attempts <= 12, "{attempts}");
        assert!(!splitter.has_succeeded());
    }

    #[test]
    fn strikes_are_counted_over_batches_until_something_is_done() {
        let mut splitter = Splitter::default();
        for _ in 0..STRIKES - 1 {
            let (sorted, _) = sort_with(1, &BTreeSet::from([0]), &mut splitter);
            assert_eq!((failed(&sorted), sorted.end), (vec![0], None));
        }
        let mut other = splitter;
        assert_eq!(sort_with(1, &BTreeSet::from([0]), &mut other).0.end, Some(End::AtFault));
        assert_eq!(sort_with(1, &BTreeSet::new(), &mut splitter).0.end, None);
        let everything: BTreeSet<usize> = (0..20).collect();
        let (sorted, _) = sort_with(20, &everything, &mut splitter);
        assert_eq!((failed(&sorted).len(), sorted.end), (20, None));
    }

    #[test]
    fn consolidator_that_names_everything_is_at_fault() {
        let sorted: Outcome = Splitter::default()
            .sort((0..5).collect(), |part| Err(Refusal::Items((0..part.len()).collect(), "all".into())));
        assert_eq!(sorted.end, Some(End::AtFault));
        assert!(sorted.failed.len() == 5 && sorted.failed.iter().all(|failed| failed.alone));
    }

    #[test]
    fn end_leaves_what_was_not_reached() {
        let sorted = Splitter::default().sort((0..8).collect(), |part: &[usize]| match part {
            [0, ..] if part.len() > 2 => Err(Refusal::Batch("too many".into())),
            [2, ..] => Err(Refusal::End("over")),
            _ => Ok(()),
        });
        assert_eq!((sorted.done, sorted.rest), (vec![0, 1], vec![2, 3, 4, 5, 6, 7]));
        assert_eq!((sorted.failed, sorted.end), (vec![], Some(End::Because("over"))));
    }
}
