//! One instance of a plugin in its sandbox. Invariant: it is entered only through [`Instance`], which sets
//! the limits of the call; an instance whose call did not come to its end is dropped.

use super::PluginOptions;
use super::log::{Log, Printed};
use super::wasi;
use super::world::{Exports, Failure, Info, World};
use crate::draft::Draft;
use crate::engine::Runtime;
use crate::error::{Error, Fault};
use crate::sandbox::limits::{self, Limited, Limits};
use crate::types::{Entry, ErrorCode, MemoryRecord, RecordListing, Update};
use std::future::poll_fn;
use std::pin::pin;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tracing::Level;
use wasmtime::component::ResourceTable;
use wasmtime::{Store, Trap};
use wasmtime_wasi::WasiCtx;

/// Core instances, tables and memories each. A component of an interpreted language has some dozens.
const MAX_INSTANCES: usize = 256;
/// Elements of all tables together: functions that are called through pointers.
const MAX_TABLE_ELEMENTS: usize = 1_000_000;
/// Streams, pollables and the like that the host keeps for it at the same time.
const MAX_RESOURCES: usize = 1024;
/// Handles that its own components pass each other.
const MAX_HANDLES: usize = 100_000;
/// A name of a record is shorter by far; the component checks it, and need not be handed megabytes.
const MAX_NAME: usize = 1024;

/// What belongs to one instance.
pub(super) struct State {
    pub(super) wasi: WasiCtx,
    pub(super) table: ResourceTable,
    pub(super) limits: Limits,
    log: Arc<Log>,
    stdout: Printed,
    stderr: Printed,
    desk: Desk,
}

impl State {
    /// A message for the log.
    pub(super) fn say(&self, level: Level, message: &str) {
        self.log.say(level, message.as_bytes());
    }

    /// A record of memory; an error says why it can't be read.
    pub(super) async fn record(
        &mut self,
        kind: String,
        slug: String,
    ) -> Result<Option<MemoryRecord>, String> {
        if kind.len() > MAX_NAME || slug.len() > MAX_NAME {
            return Err("the name of a record is too long".into());
        }
        self.desk.ask(move |draft| draft.get(&kind, &slug)).await
    }

    /// The records of memory.
    pub(super) async fn records(&mut self, kind: Option<String>) -> Result<RecordListing, String> {
        if kind.as_ref().is_some_and(|kind| kind.len() > MAX_NAME) {
            return Err("the name of a kind is too long".into());
        }
        self.desk.ask(move |draft| draft.list(kind.as_deref())).await
    }
}

impl Limited for State {
    fn limits(&mut self) -> &mut Limits {
        &mut self.limits
    }

    fn printed(&self) -> String {
        self.stderr.last_words()
    }
}

/// Why a call did not come to its end.
pub(super) enum CallError {
    Fault(Fault),
    /// Memory could not be read, which is not the plugin's fault.
    Workspace(Error),
}

/// A plugin that has started.
pub(super) struct Instance {
    runtime: Runtime,
    store: Store<State>,
    exports: Exports,
    desk: Desk,
    timeout: Duration,
}

impl Instance {
    /// A fresh instance that has said who it is.
    pub(super) fn start(
        runtime: &Runtime,
        world: &World,
        options: &PluginOptions,
        log: &Arc<Log>,
        interrupted: &Arc<AtomicBool>,
    ) -> Result<(Instance, Info), Fault> {
        let stdout = Printed::new(log, Level::INFO);
        let stderr = Printed::new(log, Level::WARN);
        let desk = Desk::default();
        let mut table = ResourceTable::new();
        table.set_max_capacity(MAX_RESOURCES);
        let mut store = Store::new(
            runtime.engine(),
            State {
                wasi: wasi::context(&options.grants, &stdout, &stderr),
                table,
                limits: Limits::new(options.memory_limit, MAX_INSTANCES, MAX_TABLE_ELEMENTS)
                    .interrupted_by(interrupted),
                log: Arc::clone(log),
                stdout,
                stderr,
                desk: desk.clone(),
            },
        );
        store.limiter(|state| &mut state.limits);
        store.set_hostcall_fuel(options.max_answer_bytes);
        store.set_max_component_handles(MAX_HANDLES);
        limits::interrupt_at_deadline(&mut store);
        let timeout = options.call_timeout;
        let (exports, info) =
            call(runtime, &mut store, timeout, &desk, None, async |store: &mut Store<State>| {
                let exports = world.instantiate(store).await?;
                let info = exports.info(store).await?;
                Ok((exports, info))
            })
            .map_err(|error| match error {
                CallError::Fault(fault) => fault,
                // Nothing is read without a draft.
                CallError::Workspace(error) => Fault::trap("", wasmtime::Error::new(error)),
            })?;
        Ok((Instance { runtime: runtime.clone(), store, exports, desk, timeout }, info))
    }

    /// One batch. After an error the instance must be dropped.
    pub(super) fn consolidate(
        &mut self,
        batch: &[Entry],
        memory: &Draft<'_>,
    ) -> Result<Result<Vec<Update>, Failure>, CallError> {
        let Instance { runtime, store, exports, desk, timeout } = self;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now_ms = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
        call(runtime, store, *timeout, desk, Some(memory), async |store: &mut Store<State>| {
            exports.consolidate(store, batch, now_ms).await
        })
    }
}

/// Runs one call up to its deadline. What it asks of memory meanwhile is answered from the draft.
fn call<T: Send>(
    runtime: &Runtime,
    store: &mut Store<State>,
    timeout: Duration,
    desk: &Desk,
    memory: Option<&Draft<'_>>,
    code: impl AsyncFnOnce(&mut Store<State>) -> wasmtime::Result<T> + Send,
) -> Result<T, CallError> {
    store.data().stderr.begin();
    let deadline = Instant::now().checked_add(timeout);
    let mut failed = None;
    let result =
        limits::run(runtime, store, timeout, |store| match desk.serve(memory, deadline, code(store)) {
            Ok(result) => result,
            Err(error) => {
                failed = error;
                Err(Trap::Interrupt.into())
            }
        });
    let state = store.data();
    state.stdout.end();
    state.stderr.end();
    match failed {
        Some(error) => Err(CallError::Workspace(error)),
        None => result.map_err(CallError::Fault),
    }
}

/// Something to look up in memory, which puts its answer where it is waited for. An error is one of the
/// workspace.
type Question = Box<dyn FnOnce(Option<&Draft<'_>>) -> Result<(), Error> + Send>;

/// Where a plugin's questions to memory and their answers meet. The draft is borrowed for one call and
/// can't be put into the store, so the call, a future, stops at a question, and whoever has the draft
/// answers it and goes on with the call.
#[derive(Clone, Default)]
struct Desk(Arc<Mutex<Option<Question>>>);

impl Desk {
    async fn ask<T: Send + 'static>(
        &self,
        look: impl FnOnce(&Draft<'_>) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, String> {
        let answer = Arc::new(Mutex::new(None));
        let place = Arc::clone(&answer);
        let question: Question = Box::new(move |memory| {
            let found = match memory.map(look) {
                Some(Ok(value)) => Ok(value),
                Some(Err(error)) => Err(reason(error)?),
                None => Err("memory can be read in `consolidate` only".into()),
            };
            *place.lock().unwrap_or_else(PoisonError::into_inner) = Some(found);
            Ok(())
        });
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(question);
        poll_fn(|_| match answer.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some(found) => Poll::Ready(found),
            None => Poll::Pending,
        })
        .await
    }

    /// Runs a call to its end and answers its questions. Without a value the call was left: memory can't
    /// be read, or, with no error, time is up.
    fn serve<T>(
        &self,
        memory: Option<&Draft<'_>>,
        deadline: Option<Instant>,
        call: impl Future<Output = T>,
    ) -> Result<T, Option<Error>> {
        let mut call = pin!(call);
        let mut context = Context::from_waker(Waker::noop());
        loop {
            if let Poll::Ready(value) = call.as_mut().poll(&mut context) {
                return Ok(value);
            }
            // Taken out first: the answer must not be looked up under the lock.
            let question = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
            match question {
                Some(question) => question(memory)?,
                // wasmtime itself may give way in between.
                None => thread::yield_now(),
            }
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return Err(None);
            }
        }
    }
}

/// What a plugin is told of a record that can't be read; any other failure is one of the workspace.
fn reason(error: Error) -> Result<String, Error> {
    match error.guest() {
        // Without the root, which is none of its business.
        Some(guest) if matches!(guest.code, ErrorCode::InvalidInput | ErrorCode::Unusable) => {
            Ok(guest.message.clone())
        }
        _ => Err(error),
    }
}
