//! Consolidation plugins: WebAssembly components that turn entries into updates. Invariant: whatever a
//! plugin does, it reaches nothing that was not granted, it uses no more than its limits, and the host
//! goes on; what it did wrong is an error of the batch at hand.
//!
//! `load` reads and checks a file, `cache` keeps compiled ones, `sandbox` is what an instance lives in
//! and `wasi` what it sees of WASI, `log` carries what it says. `world` tells the versions of the plugin
//! world apart; each has a module of its own (`v0_1`).

#[cfg(feature = "compile")]
mod cache;
mod load;
mod log;
mod sandbox;
mod v0_1;
mod wasi;
mod world;

use crate::consolidator::{Consolidator, ConsolidatorError};
use crate::draft::Draft;
use crate::engine::Runtime;
use crate::error::{Fault, one_line, starved};
use crate::types::{Entry, Update};
use log::Log;
use sandbox::{CallError, Instance};
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use world::World;

const DEFAULT_MEMORY_LIMIT: usize = 256 << 20;
const DEFAULT_CALL_TIMEOUT: Duration = Duration::from_secs(60);
const DEFAULT_MAX_LOG_BYTES: u64 = 1 << 20;
const DEFAULT_MAX_ANSWER_BYTES: usize = 64 << 20;
/// How much of a plugin's name, its version and its messages is shown, in characters.
const MAX_NAME: usize = 64;
const MAX_MESSAGE: usize = 1000;

/// How wasmtime begins its message of a guest that calls `exit`.
const EXITED: &str = "Exited with i32 exit status ";

/// Something that a plugin has only if it is granted by name.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Grant {
    /// The time and timers: `wasi:clocks`. A wait ends at the deadline of the call at the latest.
    Clock,
    /// Real randomness: `wasi:random`. Without it `insecure` and `insecure-seed` give the same values in
    /// every instance.
    Random,
    /// One variable of the host's environment, as it is when an instance of the plugin starts.
    Env(String),
}

impl Grant {
    /// What [`Grant::from_str`] understands, for messages.
    const KNOWN: &str = "clock, random, env:NAME";
}

impl FromStr for Grant {
    type Err = UnknownGrant;

    fn from_str(text: &str) -> Result<Grant, UnknownGrant> {
        match text {
            "clock" => Ok(Grant::Clock),
            "random" => Ok(Grant::Random),
            _ => match text.strip_prefix("env:") {
                Some(name) if !name.is_empty() && !name.contains(['=', '\0']) => {
                    Ok(Grant::Env(name.to_owned()))
                }
                _ => Err(UnknownGrant { grant: clip(text, MAX_NAME) }),
            },
        }
    }
}

impl fmt::Display for Grant {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Grant::Clock => formatter.write_str("clock"),
            Grant::Random => formatter.write_str("random"),
            Grant::Env(name) => write!(formatter, "env:{name}"),
        }
    }
}

/// There is no such grant.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no grant '{grant}'; what can be granted: {}", Grant::KNOWN)]
pub struct UnknownGrant {
    grant: String,
}

/// What a plugin may use. The default grants nothing.
#[derive(Clone, Debug)]
#[must_use = "they count when a plugin is loaded with them"]
pub struct PluginOptions {
    memory_limit: usize,
    call_timeout: Duration,
    max_log_bytes: u64,
    max_answer_bytes: usize,
    grants: Vec<Grant>,
    cache: Option<PathBuf>,
}

impl Default for PluginOptions {
    fn default() -> PluginOptions {
        PluginOptions {
            memory_limit: DEFAULT_MEMORY_LIMIT,
            call_timeout: DEFAULT_CALL_TIMEOUT,
            max_log_bytes: DEFAULT_MAX_LOG_BYTES,
            max_answer_bytes: DEFAULT_MAX_ANSWER_BYTES,
            grants: Vec::new(),
            cache: None,
        }
    }
}

impl PluginOptions {
    /// The default limits, no grant and no cache.
    pub fn new() -> PluginOptions {
        PluginOptions::default()
    }

    /// How many bytes all memories of an instance may have together; 256 MiB by default.
    pub fn memory_limit(mut self, bytes: usize) -> Self {
        self.memory_limit = bytes;
        self
    }

    /// How long one call may take, from its start; 60 seconds by default. Loading and compiling don't
    /// count, what the plugin reads of memory does.
    pub fn call_timeout(mut self, timeout: Duration) -> Self {
        self.call_timeout = timeout;
        self
    }

    /// How many bytes it may say in its life, in messages and on its standard streams; 1 MiB by default.
    /// A line counts 64 bytes more than it has. What exceeds the limit is dropped, which is said once.
    pub fn max_log_bytes(mut self, bytes: u64) -> Self {
        self.max_log_bytes = bytes;
        self
    }

    /// How many bytes the host takes from it in one answer or one call of an import, as the host holds
    /// them; 64 MiB by default. An update without its texts counts about 200.
    pub fn max_answer_bytes(mut self, bytes: usize) -> Self {
        self.max_answer_bytes = bytes;
        self
    }

    /// Grants it something.
    pub fn grant(mut self, grant: Grant) -> Self {
        if !self.grants.contains(&grant) {
            self.grants.push(grant);
        }
        self
    }

    /// Keeps compiled plugins in this directory, so that the next process need not compile them. It is
    /// created if it is missing. It is passed over unless it belongs to this user and nobody else can
    /// write to it, and on systems other than Unix. Files that were not used for 30 days are removed.
    pub fn cache(mut self, directory: impl Into<PathBuf>) -> Self {
        self.cache = Some(directory.into());
        self
    }
}

/// Why a plugin can't be loaded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PluginError {
    /// Its file can't be read.
    #[error("cannot read the plugin {}: {source}; it must be a file that this user can read", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },

    /// It is no WebAssembly component.
    #[error(
        "cannot load the plugin {file}: {reason}; build it as a component, for example with `cargo build --target wasm32-wasip2`"
    )]
    NotAComponent {
        /// The plugin.
        file: String,
        /// What it is instead.
        reason: String,
    },

    /// It is a component that does something else.
    #[error(
        "cannot load the plugin {file}: it exports no insomnia:plugin/consolidator ({exports}); build it for the world insomnia:plugin/plugin of version {}",
        world::RUNS
    )]
    NotAPlugin {
        /// The plugin.
        file: String,
        /// What it exports.
        exports: String,
    },

    /// It was built for another version of the plugin world.
    #[error(
        "cannot load the plugin {file}: it was built for {built_for}, and this host runs insomnia:plugin {}; build it against the host's wit/plugin, or use a host of its time",
        world::RUNS
    )]
    Version {
        /// The plugin.
        file: String,
        /// What it was built for.
        built_for: String,
    },

    /// It imports what no plugin gets.
    #[error(
        "cannot load the plugin {file}: it imports {import}, which no plugin gets; plugins may import WASI and insomnia:plugin {}",
        world::RUNS
    )]
    Import {
        /// The plugin.
        file: String,
        /// The import.
        import: String,
    },

    /// It is damaged, or uses WebAssembly features that this engine does not have.
    #[error(
        "cannot compile the plugin {file}: {reason}; if the file is whole, build it without WebAssembly features beyond those of wasm32-wasip2"
    )]
    Compile {
        /// The plugin.
        file: String,
        /// Why.
        reason: String,
    },

    /// It may be fine: this build of the host can't compile anything. Machine code that was compiled
    /// elsewhere is not taken either, because it could do anything.
    #[error(
        "cannot load the plugin {file}: it must be compiled, and this program was built without a compiler; use one with the feature `compile` of consolidation-host"
    )]
    NoCompiler {
        /// The plugin.
        file: String,
    },

    /// Its imports or exports have other types than those of the plugin world.
    #[error(
        "cannot link the plugin {file}: {reason}; build it against the host's wit/plugin (version {})",
        world::RUNS
    )]
    Link {
        /// The plugin.
        file: String,
        /// Why.
        reason: String,
    },

    /// It failed in its first call, `info`.
    #[error("cannot start the plugin {file}: {reason}")]
    Start {
        /// The plugin.
        file: String,
        /// Why.
        reason: String,
    },

    /// The host has not what it takes to run it, which says nothing of the plugin.
    #[error("cannot start the plugin {file}: {reason}")]
    Host {
        /// The plugin.
        file: String,
        /// Why.
        reason: String,
    },
}

/// A plugin that was loaded and has started. It is one consolidator with one instance, which serves
/// batch after batch; after a trap or a timeout the next batch gets a fresh one.
pub struct Plugin {
    runtime: Runtime,
    world: World,
    options: PluginOptions,
    /// The file, for messages.
    file: String,
    /// Its name and its version.
    name: String,
    log: Arc<Log>,
    interrupted: Arc<AtomicBool>,
    instance: Option<Instance>,
}

/// Ends the work of a plugin from another thread, for example when a signal comes.
#[derive(Clone, Debug)]
pub struct Interrupter(Arc<AtomicBool>);

impl Interrupter {
    /// Stops the batch in progress within some milliseconds, and every later one: they fail as temporary,
    /// so the run ends without a commit and no entry is blamed. A plugin that waits for a timer, which it
    /// needs a grant for, is stopped when its wait is over.
    pub fn interrupt(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Plugin {
    /// Loads a plugin from its file and asks it who it is.
    ///
    /// # Errors
    ///
    /// [`PluginError`]; its message says what helps.
    pub fn load(runtime: &Runtime, path: &Path, options: &PluginOptions) -> Result<Plugin, PluginError> {
        let bytes = load::read(path).map_err(|source| PluginError::Read { path: path.to_owned(), source })?;
        Plugin::from_bytes(runtime, &path.display().to_string(), &bytes, options)
    }

    /// The same with a component in binary form. `file` names it in messages.
    ///
    /// # Errors
    ///
    /// As [`Plugin::load`].
    pub fn from_bytes(
        runtime: &Runtime,
        file: &str,
        bytes: &[u8],
        options: &PluginOptions,
    ) -> Result<Plugin, PluginError> {
        let file = one_line(file);
        let world = load::world(runtime.engine(), &file, bytes, options)?;
        let log = Arc::new(Log::new(&file, options.max_log_bytes));
        let mut plugin = Plugin {
            runtime: runtime.clone(),
            world,
            options: options.clone(),
            name: file.clone(),
            file,
            log,
            interrupted: Arc::default(),
            instance: None,
        };
        let (instance, info) = plugin.start().map_err(|fault| {
            let (file, reason) = (plugin.file.clone(), plugin.in_words(&fault));
            match fault {
                Fault::Host(_) | Fault::Starved { .. } => PluginError::Host { file, reason },
                _ => PluginError::Start { file, reason },
            }
        })?;
        let name = clip(&info.name, MAX_NAME);
        let version = clip(&info.version, MAX_NAME);
        if !name.is_empty() {
            plugin.name = format!("{name} {version}").trim_end().to_owned();
            plugin.log.set_name(&name);
        }
        plugin.instance = Some(instance);
        Ok(plugin)
    }

    /// What stops it.
    pub fn interrupter(&self) -> Interrupter {
        Interrupter(Arc::clone(&self.interrupted))
    }

    /// A fresh instance, and what it says of itself.
    fn start(&self) -> Result<(Instance, world::Info), Fault> {
        Instance::start(&self.runtime, &self.world, &self.options, &self.log, &self.interrupted)
            .map_err(Fault::of_the_host_if_the_system_refused)
    }

    /// What a failure says of the plugin.
    fn failure(&self, what: impl fmt::Display) -> String {
        format!("plugin {} ({}): {what}", self.name, self.file)
    }

    fn in_words(&self, fault: &Fault) -> String {
        match fault {
            Fault::Timeout { after } => {
                format!(
                    "no end after {after:?}; allow more with `--timeout` (PluginOptions::call_timeout), or give it less at a time"
                )
            }
            Fault::OutOfMemory { limit } => format!(
                "it takes more than the {limit} bytes of memory that are allowed; allow more with `--plugin-memory` (PluginOptions::memory_limit), or give it less at a time"
            ),
            // wasmtime has no type for it.
            Fault::Trap { reason, .. } if reason.contains("fuel allocated for hostcalls") => format!(
                "it passed more than {} bytes to the host at once; allow more with PluginOptions::max_answer_bytes, or do less in one call",
                self.options.max_answer_bytes
            ),
            Fault::Trap { reason, .. } if reason.starts_with(EXITED) => {
                format!(
                    "trapped: it exited with status {} instead of giving an answer",
                    &reason[EXITED.len()..]
                )
            }
            Fault::Trap { reason, .. } => format!("trapped: {}", clip(reason, MAX_MESSAGE)),
            Fault::Starved { source } => starved(source),
            Fault::Host(error) => format!("the host can't run it: {error}"),
        }
    }

    fn fault(&self, fault: &Fault) -> ConsolidatorError {
        let message = self.failure(self.in_words(fault));
        match fault {
            Fault::Timeout { .. } if self.interrupted.load(Ordering::Relaxed) => {
                ConsolidatorError::Temporary(self.failure("interrupted"))
            }
            // Nobody's fault but the host's, and the next run may have more.
            Fault::Starved { .. } | Fault::Host(_) => ConsolidatorError::Temporary(message),
            _ => ConsolidatorError::Batch(message),
        }
    }

    /// A failure that the plugin reports.
    fn reported(&self, failure: world::Failure, batch: &[Entry]) -> ConsolidatorError {
        let said = match clip(&failure.message, MAX_MESSAGE) {
            said if said.is_empty() => "it failed and does not say why".to_owned(),
            said => said,
        };
        if failure.temporary {
            return ConsolidatorError::Temporary(self.failure(said));
        }
        let mut at_fault = failure.entries;
        if at_fault.is_empty() {
            return ConsolidatorError::Batch(self.failure(said));
        }
        if let Some(foreign) = at_fault.iter().find(|id| !batch.iter().any(|entry| entry.id == **id)) {
            return ConsolidatorError::Batch(self.failure(format_args!(
                "it blames the entry '{}', which is not in the batch: {said}",
                clip(foreign, MAX_NAME)
            )));
        }
        at_fault.sort_unstable();
        at_fault.dedup();
        ConsolidatorError::Entries(at_fault, self.failure(said))
    }
}

impl Consolidator for Plugin {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn consolidate(&mut self, batch: &[Entry], memory: &Draft<'_>) -> Result<Vec<Update>, ConsolidatorError> {
        let mut instance = match self.instance.take() {
            Some(instance) => instance,
            None => self.start().map_err(|fault| self.fault(&fault))?.0,
        };
        match instance.consolidate(batch, memory) {
            Ok(answer) => {
                self.instance = Some(instance);
                answer.map_err(|failure| self.reported(failure, batch))
            }
            // Its instance is gone: nobody may enter one that trapped or was left in the middle of a call.
            Err(CallError::Fault(fault)) => Err(self.fault(&fault)),
            Err(CallError::Workspace(error)) => Err(ConsolidatorError::Workspace(error)),
        }
    }
}

impl fmt::Debug for Plugin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Plugin")
            .field("name", &self.name)
            .field("file", &self.file)
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

/// One line of at most so many characters, whatever a plugin says.
fn clip(text: &str, max: usize) -> String {
    // What is cut off is not worth going through: it may be a gigabyte.
    let begin: String = text.chars().take(max + 1).collect();
    let mut line = one_line(&begin);
    if let Some((end, _)) = line.char_indices().nth(max) {
        line.truncate(end);
        line.push('…');
    }
    line
}
