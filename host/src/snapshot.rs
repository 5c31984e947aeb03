//! A snapshot of the entries. Invariant: its guest handle lives and is dropped in the instance that
//! made it.

use crate::bindings::{Consolidation, list, staging};
use crate::error::Error;
use crate::lock::Held;
use crate::place::Place;
use crate::sandbox::State;
use crate::types::{Batch, Entry, EntryId, Limits, UnusableFile};
use crate::workspace::{Answer, Shared, strings};
use std::fmt;
use std::sync::Arc;
use wasmtime::Store;
use wasmtime::component::ResourceAny;

/// The entries that were staged at one moment, oldest first, within the caps that were asked for.
/// What is staged later is not part of it. Their content is read by [`Snapshot::next_batch`].
pub struct Snapshot<'lock> {
    place: Place<'lock>,
    resource: ResourceAny,
}

/// A snapshot that was taken under a lock, in the lock's instance.
pub type LockSnapshot<'lock> = Snapshot<'lock>;

/// How many entries, and how many bytes of them, are handed over in one call.
const PART_ENTRIES: u32 = 64;
const PART_BYTES: u64 = 64 << 10;

const TAKE: &str = "take a snapshot";
const LOOK: &str = "look at a snapshot";

fn bytes_of(entries: &[Entry]) -> u64 {
    entries.iter().map(|entry| entry.json.len() as u64).sum()
}

impl<'lock> Snapshot<'lock> {
    pub(crate) fn of_workspace(workspace: &Arc<Shared>, limits: Limits) -> Result<Snapshot<'static>, Error> {
        let (place, resource) =
            Place::own(workspace, TAKE, |store, component| take(store, component, limits, &[]))?;
        Ok(Snapshot { place, resource })
    }

    pub(crate) fn of_lock(
        held: &'lock Held,
        limits: Limits,
        skip: &[EntryId],
    ) -> Result<Snapshot<'lock>, Error> {
        let resource = held.call(TAKE, |store, component| take(store, component, limits, skip))?;
        Ok(Snapshot { place: Place::Lock(held), resource })
    }

    /// How many entries it names.
    ///
    /// # Errors
    ///
    /// Only a failure of the component.
    pub fn len(&self) -> Result<u64, Error> {
        self.look(|snapshot, store, resource| snapshot.call_len(store, resource))
    }

    /// Does it name no entry?
    ///
    /// # Errors
    ///
    /// Only a failure of the component.
    pub fn is_empty(&self) -> Result<bool, Error> {
        Ok(self.len()? == 0)
    }

    /// How many further entries were staged at that moment and exceed the caps: by the names and sizes of
    /// their files at first, exactly once [`Batch::done`] was seen.
    ///
    /// # Errors
    ///
    /// Only a failure of the component.
    pub fn left(&self) -> Result<u64, Error> {
        self.look(|snapshot, store, resource| snapshot.call_left(store, resource))
    }

    /// The ids, oldest first.
    ///
    /// # Errors
    ///
    /// Only a failure of the component.
    pub fn ids(&self) -> Result<Vec<EntryId>, Error> {
        self.look(|snapshot, store, resource| snapshot.call_ids(store, resource))
    }

    /// Files that were unusable by their name or their type. They are not part of it.
    ///
    /// # Errors
    ///
    /// Only a failure of the component.
    pub fn unusable(&self) -> Result<Vec<UnusableFile>, Error> {
        self.look(|snapshot, store, resource| snapshot.call_unusable(store, resource)).map(list)
    }

    /// Reads on: at most so many entries and about so many bytes, but at least one file. Entries
    /// that are gone are passed over; files that prove unusable are reported and leave the snapshot.
    ///
    /// # Errors
    ///
    /// An I/O error while reading.
    pub fn next_batch(&self, max_entries: u32, max_bytes: u64) -> Result<Batch, Error> {
        let max_entries = max_entries.max(1) as usize;
        let mut batch = self.next_part(max_entries, max_bytes)?;
        let (mut met, mut bytes) = (batch.entries.len(), bytes_of(&batch.entries));
        // A part without an entry has met a directory full of broken files; how long to go on is up to the caller.
        while !batch.done && met > 0 && batch.entries.len() < max_entries && bytes < max_bytes {
            let part = match self.next_part(max_entries - batch.entries.len(), max_bytes - bytes) {
                Ok(part) => part,
                // What was read counts as read: it is handed out, and whoever reads on meets the error again.
                Err(Error::Guest(_)) => break,
                // The handle is dead, and nothing can be done with what was read.
                Err(error) => return Err(error),
            };
            met = part.entries.len();
            bytes += bytes_of(&part.entries);
            batch.entries.extend(part.entries);
            batch.unusable.extend(part.unusable);
            batch.done = part.done;
        }
        Ok(batch)
    }

    /// As [`Snapshot::next_batch`], of so much that the component's memory stays in the processor's caches: it
    /// uses what it frees again, and a batch of a megabyte would be written to and read from main memory.
    fn next_part(&self, max_entries: usize, max_bytes: u64) -> Result<Batch, Error> {
        let max_entries = u32::try_from(max_entries).unwrap_or(u32::MAX).min(PART_ENTRIES);
        let max_bytes = max_bytes.min(PART_BYTES);
        let resource = self.resource;
        self.call("read entries of a snapshot", |store, component| {
            component.insomnia_consolidation_staging().snapshot().call_next(
                store,
                resource,
                max_entries,
                max_bytes,
            )
        })
        .map(Into::into)
    }

    /// Takes entries that were read out of the snapshot again: they are not consumed.
    ///
    /// # Errors
    ///
    /// An id that is not a canonical UUIDv7.
    pub fn keep(&self, ids: &[impl AsRef<str>]) -> Result<(), Error> {
        let (resource, ids) = (self.resource, strings(ids));
        self.call("take entries out of a snapshot", |store, component| {
            component.insomnia_consolidation_staging().snapshot().call_keep(store, resource, &ids)
        })
    }

    /// Has the last entries that were read, and are not kept, read once more: they are not consumed by the run
    /// that is about to be committed.
    pub(crate) fn put_back(&self, count: usize) -> Result<(), Error> {
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        self.look(|snapshot, store, resource| snapshot.call_put_back(store, resource, count))
    }

    /// Lets go of what was read, and names what follows it, within these caps: for the next run under the same
    /// lock, when the one before it has ended, without another listing of the directory.
    ///
    /// # Errors
    ///
    /// An I/O error.
    pub fn advance(&self, limits: Limits) -> Result<(), Error> {
        self.advance_within(limits, false)
    }

    /// As [`Snapshot::advance`]. `goes_on`: the caps are what is left of earlier ones, and no entry exceeds them.
    pub(crate) fn advance_within(&self, limits: Limits, goes_on: bool) -> Result<(), Error> {
        let (resource, limits) = (self.resource, limits.into());
        self.call("go on with a snapshot", |store, component| {
            component
                .insomnia_consolidation_staging()
                .snapshot()
                .call_advance(store, resource, limits, goes_on)
        })
    }

    /// The guest's handle, if it lives in the instance of this lock.
    pub(crate) fn resource_under(&self, lock: &Held) -> Option<ResourceAny> {
        self.place.is_of(lock).then_some(self.resource)
    }

    fn look<T: Send>(
        &self,
        look: impl FnOnce(staging::GuestSnapshot<'_>, &mut Store<State>, ResourceAny) -> wasmtime::Result<T>
        + Send,
    ) -> Result<T, Error> {
        let resource = self.resource;
        self.call(LOOK, |store, component| {
            let snapshot = component.insomnia_consolidation_staging().snapshot();
            look(snapshot, store, resource).map(Ok)
        })
    }

    fn call<T: Send>(
        &self,
        operation: &'static str,
        call: impl FnOnce(&mut Store<State>, &Consolidation) -> Answer<T> + Send,
    ) -> Result<T, Error> {
        self.place.call(operation, call)
    }
}

fn take(
    store: &mut Store<State>,
    component: &Consolidation,
    limits: Limits,
    skip: &[EntryId],
) -> Answer<ResourceAny> {
    component.insomnia_consolidation_staging().call_take_snapshot(store, limits.into(), skip)
}

impl Drop for Snapshot<'_> {
    fn drop(&mut self) {
        self.place.drop_resource("drop a snapshot", self.resource);
    }
}

impl fmt::Debug for Snapshot<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Snapshot").field("root", &self.place.root()).finish_non_exhaustive()
    }
}
