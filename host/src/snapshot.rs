//! A snapshot of the entries. Invariant: its guest handle lives and is dropped in the instance that
//! made it.

use crate::bindings::{Consolidation, list, staging};
use crate::error::Error;
use crate::lock::Held;
use crate::sandbox::{Instance, State};
use crate::types::{Batch, EntryId, Limits, UnusableFile};
use crate::workspace::{Answer, Shared, limits as to_guest};
use std::fmt;
use std::ptr;
use std::sync::{Arc, Mutex, PoisonError};
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

/// The instance that the guest's handle lives in.
enum Place<'lock> {
    /// One of its own; none after a trap, a timeout or a panic.
    Own(Arc<Shared>, Box<Mutex<Option<Instance>>>),
    Lock(&'lock Held),
}

const TAKE: &str = "take a snapshot";
const LOOK: &str = "look at a snapshot";

impl<'lock> Snapshot<'lock> {
    pub(crate) fn of_workspace(workspace: &Arc<Shared>, limits: Limits) -> Result<Snapshot<'static>, Error> {
        let (instance, resource) =
            workspace.call_and_keep(TAKE, None, |store, component| take(store, component, limits))?;
        Ok(Snapshot {
            place: Place::Own(Arc::clone(workspace), Box::new(Mutex::new(Some(instance)))),
            resource,
        })
    }

    pub(crate) fn of_lock(held: &'lock Held, limits: Limits) -> Result<Snapshot<'lock>, Error> {
        let resource = held.call(TAKE, |store, component| take(store, component, limits))?;
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

    /// How many further entries were staged at that moment and exceed the caps.
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

    /// The guest's handle, if it lives in the instance of this lock.
    pub(crate) fn resource_under(&self, lock: &Held) -> Option<ResourceAny> {
        match self.place {
            Place::Lock(held) if ptr::eq(held, lock) => Some(self.resource),
            _ => None,
        }
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
        let (workspace, seat) = match &self.place {
            Place::Lock(held) => return held.call(operation, call),
            Place::Own(workspace, seat) => (workspace, seat),
        };
        let mut seat = seat.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(mut instance) = seat.take() else {
            return Err(Error::Dead { operation, root: workspace.root().to_owned() });
        };
        match instance.call(call) {
            Ok(answer) => {
                *seat = Some(instance);
                answer.map_err(|error| Error::guest_error(operation, workspace.root(), error))
            }
            Err(fault) => Err(workspace.report_fault(operation, fault)),
        }
    }
}

fn take(store: &mut Store<State>, component: &Consolidation, limits: Limits) -> Answer<ResourceAny> {
    component.insomnia_consolidation_staging().call_take_snapshot(store, to_guest(limits))
}

impl Drop for Snapshot<'_> {
    fn drop(&mut self) {
        let resource = self.resource;
        let dropped = self.call("drop a snapshot", |store, _| resource.resource_drop(store).map(Ok));
        // After a failure there is no instance to give back, and it was reported.
        if let (Ok(()), Place::Own(workspace, seat)) = (dropped, &self.place)
            && let Some(instance) = seat.lock().unwrap_or_else(PoisonError::into_inner).take()
        {
            workspace.check_in(instance);
        }
    }
}

impl fmt::Debug for Snapshot<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let root = match &self.place {
            Place::Own(workspace, _) => workspace.root(),
            Place::Lock(held) => held.workspace().root(),
        };
        formatter.debug_struct("Snapshot").field("root", &root).finish_non_exhaustive()
    }
}
