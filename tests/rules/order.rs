//! Sorting, and the sorted map: the same as the standard library's, whatever the length and the order before.

use crate::support::entry_id;
use consolidation_guest::layout::EntryId;
use consolidation_guest::order::{self, Map};
use proptest::collection::vec;
use proptest::prelude::*;
use std::collections::BTreeMap;

proptest! {
    #[test]
    fn ids_come_in_order(numbers in vec(0_u64..2_000, 0..1_000)) {
        let mut ids: Vec<EntryId> = numbers.into_iter().map(|number| entry_id(number, 0)).collect();
        let mut expected = ids.clone();
        expected.sort();
        order::sort_ids(&mut ids);
        prop_assert_eq!(ids, expected);
    }

    #[test]
    fn items_come_in_order_and_equal_ones_stay_in_theirs(keys in vec(0_u8..20, 0..200)) {
        let mut items: Vec<(u8, usize)> = keys.into_iter().zip(0..).collect();
        let mut expected = items.clone();
        expected.sort_by_key(|&(key, _)| key);
        order::sort_by(&mut items, |(one, _), (other, _)| one.cmp(other));
        prop_assert_eq!(items, expected);
    }

    // Enough keys for several parts, and so few that they come again.
    #[test]
    fn map_holds_what_the_standard_one_holds(calls in vec((0_u16..1_000, prop::bool::weighted(0.7)), 0..3_000)) {
        let (mut map, mut expected) = (Map::default(), BTreeMap::new());
        for (at, (key, sets)) in calls.into_iter().enumerate() {
            if sets {
                map.insert(key, at);
                expected.insert(key, at);
            } else {
                map.remove(&key);
                expected.remove(&key);
            }
            prop_assert_eq!(map.get(&key), expected.get(&key));
            prop_assert_eq!(map.len(), expected.len());
        }
        for (index, (key, value)) in expected.iter_mut().enumerate() {
            prop_assert_eq!(map.nth(index), Some(&*value));
            prop_assert_eq!(map.get_mut(key), Some(value));
        }
        prop_assert_eq!(map.nth(expected.len()), None);
        prop_assert!(map.iter().eq(expected.iter()));
        prop_assert!(map.into_items().eq(expected));
    }
}

/// A length that is no multiple of a run's, in every order that has a way of its own.
#[test]
fn ids_that_are_in_order_or_in_reverse_come_in_order() {
    let sorted: Vec<EntryId> = (0..1_001).map(|number| entry_id(number, 0)).collect();
    let mut reversed: Vec<EntryId> = sorted.iter().rev().copied().collect();
    let mut halves: Vec<EntryId> =
        sorted.iter().skip(1).step_by(2).chain(sorted.iter().step_by(2)).copied().collect();
    for ids in [&mut sorted.clone(), &mut reversed, &mut halves] {
        order::sort_ids(ids);
        assert!(*ids == sorted);
    }
}

#[test]
fn items_in_order_cost_one_comparison_each() {
    let compared = std::cell::Cell::new(0);
    let mut items: Vec<u32> = (0..1_000).collect();
    order::sort_by(&mut items, |one, other| {
        compared.set(compared.get() + 1);
        one.cmp(other)
    });
    assert_eq!(compared.get(), 999);
}
