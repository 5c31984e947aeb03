//! Where a handle of the guest lives. Invariant: it is used and dropped in the instance that made it, and
//! in no other.

use crate::bindings::Consolidation;
use crate::error::Error;
use crate::lock::Held;
use crate::sandbox::{Instance, State};
use crate::workspace::{Answer, Shared};
use std::path::Path;
use std::ptr;
use std::sync::{Arc, Mutex, PoisonError};
use wasmtime::Store;
use wasmtime::component::ResourceAny;

/// The instance that a guest's handle lives in.
pub(crate) enum Place<'lock> {
    /// One of its own; none after a trap, a timeout or a panic.
    Own(Arc<Shared>, Box<Mutex<Option<Instance>>>),
    /// That of a lock.
    Lock(&'lock Held),
}

impl<'lock> Place<'lock> {
    /// An instance for what a call makes.
    pub(crate) fn own<T: Send>(
        workspace: &Arc<Shared>,
        operation: &'static str,
        call: impl FnOnce(&mut Store<State>, &Consolidation) -> Answer<T> + Send,
    ) -> Result<(Place<'static>, T), Error> {
        let (instance, value) = workspace.call_and_keep(operation, None, call)?;
        Ok((Place::Own(Arc::clone(workspace), Box::new(Mutex::new(Some(instance)))), value))
    }

    pub(crate) fn root(&self) -> &Path {
        match self {
            Place::Own(workspace, _) => workspace.root(),
            Place::Lock(held) => held.workspace().root(),
        }
    }

    pub(crate) fn is_of(&self, lock: &Held) -> bool {
        matches!(self, Place::Lock(held) if ptr::eq(*held, lock))
    }

    pub(crate) fn call<T: Send>(
        &self,
        operation: &'static str,
        call: impl FnOnce(&mut Store<State>, &Consolidation) -> Answer<T> + Send,
    ) -> Result<T, Error> {
        let (workspace, seat) = match self {
            Place::Lock(held) => return held.call(operation, call),
            Place::Own(workspace, seat) => (workspace, seat),
        };
        let mut seat = seat.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(mut instance) = seat.take() else {
            return Err(Error::Dead { operation, root: workspace.root().to_owned(), cause: None });
        };
        match instance.call(call) {
            Ok(answer) => {
                *seat = Some(instance);
                answer.map_err(|error| Error::guest_error(operation, workspace.root(), error))
            }
            Err(fault) => Err(workspace.report_fault(operation, fault)),
        }
    }

    /// Drops the handle, and gives back an instance that was its own.
    pub(crate) fn drop_resource(&self, operation: &'static str, resource: ResourceAny) {
        let dropped = self.call(operation, |store, _| resource.resource_drop(store).map(Ok));
        // After a failure there is no instance to give back, and it was reported.
        if let (Ok(()), Place::Own(workspace, seat)) = (dropped, self)
            && let Some(instance) = seat.lock().unwrap_or_else(PoisonError::into_inner).take()
        {
            workspace.check_in(instance);
        }
    }
}
