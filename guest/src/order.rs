//! Sorting, and a map that is sorted. Invariant: what is in order already costs one comparison per item,
//! whatever its type.
//!
//! The standard library's sorts are made anew for each type of item, and each takes more room in the
//! component than many a rule. Here the one that compares is made once, and moves the places of the items;
//! ids, of which there may be a million, have one of their own. The same goes for its maps.

use crate::layout::EntryId;
use crate::prelude::*;
use core::cmp::Ordering;

/// How many ids are put in order one by one before runs of them are merged.
const RUN: usize = 16;

/// How many items of a [`Map`] are moved for one that comes between them, at most.
const PART: usize = 256;

/// Values by key, in the order of the keys. They are boxed: the code for one type of value is that for all.
#[derive(Debug)]
pub struct Map<K, V> {
    /// Sorted, one after the other. None is empty.
    parts: Vec<Vec<(K, Box<V>)>>,
    len: usize,
}

impl<K, V> Default for Map<K, V> {
    fn default() -> Self {
        Map { parts: Vec::new(), len: 0 }
    }
}

impl<K: Ord, V> Map<K, V> {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Is there none?
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The part where a key belongs, and its place there; an error: it is not there, and would come before it.
    fn find(&self, key: &K) -> (usize, Result<usize, usize>) {
        let part = self.parts.partition_point(|part| part[0].0 <= *key).saturating_sub(1);
        let place = self.parts.get(part).map(|items| items.binary_search_by(|(other, _)| other.cmp(key)));
        (part, place.unwrap_or(Err(0)))
    }

    /// The value of a key.
    pub fn get(&self, key: &K) -> Option<&V> {
        let (part, place) = self.find(key);
        Some(&self.parts.get(part)?.get(place.ok()?)?.1)
    }

    /// The same, to change it.
    pub fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        let (part, place) = self.find(key);
        Some(&mut self.parts.get_mut(part)?.get_mut(place.ok()?)?.1)
    }

    /// The value at this position, counted from 0.
    pub fn nth(&self, mut index: usize) -> Option<&V> {
        for items in &self.parts {
            match items.get(index) {
                Some((_, value)) => return Some(value),
                None => index -= items.len(),
            }
        }
        None
    }

    /// Sets the value of a key.
    pub fn insert(&mut self, key: K, value: V) {
        drop(self.put(key, Box::new(value)));
    }

    /// The same; returns what it was before.
    #[inline(never)]
    fn put(&mut self, key: K, value: Box<V>) -> Option<Box<V>> {
        let (part, place) = self.find(&key);
        if self.parts.is_empty() {
            self.parts.push(Vec::new());
        }
        let items = &mut self.parts[part];
        match place {
            Ok(at) => return Some(core::mem::replace(&mut items[at].1, value)),
            Err(at) => {
                items.insert(at, (key, value));
                self.len += 1;
                if items.len() > PART {
                    let upper = items.split_off(PART / 2);
                    self.parts.insert(part + 1, upper);
                }
            }
        }
        None
    }

    /// Forgets a key.
    pub fn remove(&mut self, key: &K) {
        drop(self.take(key));
    }

    /// The same; returns what it was.
    #[inline(never)]
    fn take(&mut self, key: &K) -> Option<(K, Box<V>)> {
        let (part, place) = self.find(key);
        let items = self.parts.get_mut(part)?;
        let item = items.remove(place.ok()?);
        self.len -= 1;
        if items.is_empty() {
            self.parts.remove(part);
        }
        Some(item)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.parts.iter().flatten().map(|(key, value)| (key, &**value))
    }

    /// All of them, for good.
    pub fn into_items(self) -> impl Iterator<Item = (K, V)> {
        self.parts.into_iter().flatten().map(|(key, value)| (key, *value))
    }
}

/// Sorts; equal items stay in their order.
pub fn sort<T: Ord>(items: &mut [T]) {
    sort_by(items, T::cmp);
}

/// Sorts by a comparison; equal items stay in their order.
pub fn sort_by<T>(items: &mut [T], compare: impl Fn(&T, &T) -> Ordering) {
    let places = places(items.len(), &|one, other| compare(&items[one], &items[other]).is_gt());
    arrange(places, &mut |one, other| items.swap(one, other));
}

/// Has the items go round to their places; each is at its own then.
fn arrange(mut places: Vec<usize>, swap: &mut dyn FnMut(usize, usize)) {
    for start in 0..places.len() {
        let mut at = start;
        loop {
            let from = core::mem::replace(&mut places[at], at);
            if from == start {
                break;
            }
            swap(at, from);
            at = from;
        }
    }
}

/// For each place the item that belongs there; none if all are there.
fn places(len: usize, is_after: &dyn Fn(usize, usize) -> bool) -> Vec<usize> {
    if !(1..len).any(|at| is_after(at - 1, at)) {
        return Vec::new();
    }
    let mut places: Vec<usize> = (0..len).collect();
    let mut merged = places.clone();
    let mut width = 1;
    while width < len {
        for start in (0..len).step_by(2 * width) {
            let (middle, end) = ((start + width).min(len), (start + 2 * width).min(len));
            let (mut left, mut right) = (start, middle);
            for place in &mut merged[start..end] {
                let takes_right = left == middle || right < end && is_after(places[left], places[right]);
                let from = if takes_right { &mut right } else { &mut left };
                *place = places[*from];
                *from += 1;
            }
        }
        core::mem::swap(&mut places, &mut merged);
        width *= 2;
    }
    places
}

/// Sorts ids.
#[inline(never)]
pub fn sort_ids(ids: &mut [EntryId]) {
    if ids.is_sorted() {
        return;
    }
    // As some file systems list what was created in order.
    if ids.is_sorted_by(|one, other| one >= other) {
        return ids.reverse();
    }
    for run in ids.chunks_mut(RUN) {
        for end in 1..run.len() {
            let id = run[end];
            let mut at = end;
            while at > 0 && id < run[at - 1] {
                run[at] = run[at - 1];
                at -= 1;
            }
            run[at] = id;
        }
    }
    // Of two runs only the left one is put aside.
    let mut aside: Vec<EntryId> = Vec::new();
    let mut width = RUN;
    while width < ids.len() {
        for pair in ids.chunks_mut(2 * width) {
            if pair.len() <= width || pair[width - 1] <= pair[width] {
                continue;
            }
            aside.clear();
            aside.extend_from_slice(&pair[..width]);
            let (mut left, mut right, mut at) = (0, width, 0);
            while left < width && right < pair.len() {
                // Without a branch: which of the two is smaller can't be guessed.
                let takes_right = pair[right] < aside[left];
                pair[at] = if takes_right { pair[right] } else { aside[left] };
                right += usize::from(takes_right);
                left += usize::from(!takes_right);
                at += 1;
            }
            pair[at..right].copy_from_slice(&aside[left..]);
        }
        width *= 2;
    }
}
