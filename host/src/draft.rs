//! The changes that a run would make in memory. Invariant: nothing is written before the lock takes them
//! and its run is committed.

use crate::bindings::{Consolidation, list, memory};
use crate::error::Error;
use crate::lock::Held;
use crate::place::Place;
use crate::sandbox::State;
use crate::types::{Change, Entry, MemoryRecord, RecordListing, Update, UpdateLimits};
use crate::workspace::{Answer, Shared};
use std::fmt;
use std::sync::Arc;
use wasmtime::Store;
use wasmtime::component::ResourceAny;

/// Changes of memory records that were proposed and not made. Reads through it see them.
///
/// One that was made under a lock, by [`Lock::draft`](crate::Lock::draft), is made part of a run by
/// [`Lock::take_draft`](crate::Lock::take_draft); one of a workspace only shows what would be.
pub struct Draft<'lock> {
    place: Place<'lock>,
    resource: ResourceAny,
}

const MAKE: &str = "begin a draft";

fn make(store: &mut Store<State>, component: &Consolidation, limits: UpdateLimits) -> Answer<ResourceAny> {
    component.insomnia_consolidation_memory().draft().call_constructor(store, limits.into()).map(Ok)
}

impl<'lock> Draft<'lock> {
    pub(crate) fn of_workspace(
        workspace: &Arc<Shared>,
        limits: UpdateLimits,
    ) -> Result<Draft<'static>, Error> {
        let (place, resource) =
            Place::own(workspace, MAKE, |store, component| make(store, component, limits))?;
        Ok(Draft { place, resource })
    }

    pub(crate) fn of_lock(held: &'lock Held, limits: UpdateLimits) -> Result<Draft<'lock>, Error> {
        let resource = held.call(MAKE, |store, component| make(store, component, limits))?;
        Ok(Draft { place: Place::Lock(held), resource })
    }

    /// One record as the changes leave it; none if there is none.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](crate::ErrorCode::InvalidInput) if the name can't be one,
    /// [`Unusable`](crate::ErrorCode::Unusable) if its file can't be read as a record, or an I/O error.
    pub fn get(&self, kind: &str, slug: &str) -> Result<Option<MemoryRecord>, Error> {
        let resource = self.resource;
        let (kind, slug) = (kind.to_owned(), slug.to_owned());
        self.place
            .call("read a memory record", |store, component| {
                component.insomnia_consolidation_memory().draft().call_get(store, resource, &kind, &slug)
            })
            .map(|record| record.map(Into::into))
    }

    /// All records, or those of one kind, as the changes leave them.
    ///
    /// # Errors
    ///
    /// As [`Draft::get`].
    pub fn list(&self, kind: Option<&str>) -> Result<RecordListing, Error> {
        let resource = self.resource;
        let kind = kind.map(str::to_owned);
        self.place
            .call("list the memory records", |store, component| {
                component.insomnia_consolidation_memory().draft().call_list(store, resource, kind.as_deref())
            })
            .map(Into::into)
    }

    /// From now on somebody reads the files of the records by itself, and not through this: an update of
    /// a record whose file changes from here on is a [`Conflict`](crate::ErrorCode::Conflict).
    ///
    /// # Errors
    ///
    /// An I/O error of listing the records.
    pub fn watch(&self) -> Result<(), Error> {
        let resource = self.resource;
        self.place.call("look at the memory records", |store, component| {
            component.insomnia_consolidation_memory().draft().call_watch(store, resource)
        })
    }

    /// Adds updates that were made of these entries, all or none of them. Adding the same ones again
    /// changes nothing.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](crate::ErrorCode::InvalidInput) with the index of the update at fault
    /// ([`Error::index`]); [`Unusable`](crate::ErrorCode::Unusable) if the file of a record can't be
    /// read; [`NoSpace`](crate::ErrorCode::NoSpace) if the draft would hold more than 64 MiB. Nothing
    /// was added then.
    pub fn propose(&self, entries: &[Entry], updates: Vec<Update>) -> Result<(), Error> {
        let resource = self.resource;
        let origin =
            |entry: &Entry| memory::Origin { id: entry.id.clone(), source: entry.source.clone().into() };
        let origins: Vec<memory::Origin> = entries.iter().map(origin).collect();
        let updates: Vec<memory::Update> = list(updates);
        self.place.call("propose updates", |store, component| {
            component
                .insomnia_consolidation_memory()
                .draft()
                .call_propose(store, resource, &origins, &updates)
        })
    }

    /// How many records it changes. Updates that leave a file as it is are no change.
    ///
    /// # Errors
    ///
    /// Only a failure of the component.
    pub fn len(&self) -> Result<u32, Error> {
        self.look(|draft, store, resource| draft.call_len(store, resource))
    }

    /// Does it change nothing?
    ///
    /// # Errors
    ///
    /// Only a failure of the component.
    pub fn is_empty(&self) -> Result<bool, Error> {
        Ok(self.len()? == 0)
    }

    /// How many bytes its texts have.
    ///
    /// # Errors
    ///
    /// Only a failure of the component.
    pub fn size(&self) -> Result<u64, Error> {
        self.look(|draft, store, resource| draft.call_size(store, resource))
    }

    /// What it would change, by kind and slug; `index` counts from 0.
    ///
    /// # Errors
    ///
    /// Only a failure of the component.
    pub fn change(&self, index: u32) -> Result<Option<Change>, Error> {
        self.look(|draft, store, resource| draft.call_change(store, resource, index))
            .map(|change| change.map(Into::into))
    }

    /// The guest's handle, if it lives in the instance of this lock.
    pub(crate) fn resource_under(&self, lock: &Held) -> Option<ResourceAny> {
        self.place.is_of(lock).then_some(self.resource)
    }

    fn look<T: Send>(
        &self,
        look: impl FnOnce(memory::GuestDraft<'_>, &mut Store<State>, ResourceAny) -> wasmtime::Result<T> + Send,
    ) -> Result<T, Error> {
        let resource = self.resource;
        self.place.call("look at a draft", |store, component| {
            look(component.insomnia_consolidation_memory().draft(), store, resource).map(Ok)
        })
    }
}

impl Drop for Draft<'_> {
    fn drop(&mut self) {
        self.place.drop_resource("drop a draft", self.resource);
    }
}

impl fmt::Debug for Draft<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Draft").field("root", &self.place.root()).finish_non_exhaustive()
    }
}
