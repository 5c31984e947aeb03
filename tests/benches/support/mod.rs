//! What the benchmarks share: the implementations that are compared ([`native`], [`original`]), how they are
//! measured ([`turns`]), where ([`place`], [`machine`]) and what becomes of the figures ([`summary`],
//! [`tables`], [`plot`]).

pub(crate) mod child;
pub(crate) mod machine;
pub(crate) mod native;
pub(crate) mod original;
pub(crate) mod place;
pub(crate) mod plot;
pub(crate) mod process;
pub(crate) mod summary;
pub(crate) mod tables;
pub(crate) mod targets;
pub(crate) mod turns;

use consolidation_guest::durable::Durability as NativeDurability;
use consolidation_host::{
    Consolidator, ConsolidatorError, Draft, Durability, Entry, Runtime, Update, Workspace,
};
use native::Native;
use original::Original;
use place::{Directory, Place};
use std::path::Path;
use std::sync::OnceLock;
use std::time::Duration;

/// How much is to be done.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// Once through everything with little data, to see that it works. The figures mean nothing.
    Smoke,
    /// What the figures are made from.
    Full,
}

impl Form {
    /// One of two values.
    pub(crate) fn pick<T>(self, smoke: T, full: T) -> T {
        match self {
            Form::Smoke => smoke,
            Form::Full => full,
        }
    }
}

/// What a call synchronises, in words that are the same to all implementations.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Durable {
    Yes,
    No,
}

impl From<Durable> for Durability {
    fn from(durable: Durable) -> Self {
        match durable {
            Durable::Yes => Durability::Full,
            Durable::No => Durability::None,
        }
    }
}

impl From<Durable> for NativeDurability {
    fn from(durable: Durable) -> Self {
        match durable {
            Durable::Yes => NativeDurability::Full,
            Durable::No => NativeDurability::None,
        }
    }
}

/// One directory for each implementation, so that each meets what it has left there itself.
pub(crate) struct Trio {
    directories: [Directory; 3],
    pub(crate) component: Workspace,
    pub(crate) native: Native,
    pub(crate) original: Original,
}

impl Trio {
    pub(crate) fn new(place: &Place, durable: Durable) -> Trio {
        let directories = [place.directory(), place.directory(), place.directory()];
        Trio {
            component: open(directories[0].path()).with_durability(durable.into()),
            native: Native::open(directories[1].path(), durable.into()),
            original: Original::open(directories[2].path(), durable),
            directories,
        }
    }

    /// The directories, in the order of the fields.
    pub(crate) fn roots(&self) -> [&Path; 3] {
        self.directories.each_ref().map(Directory::path)
    }
}

/// A workspace of the component.
pub(crate) fn open(root: &Path) -> Workspace {
    runtime().open(root).expect("the workspace opens")
}

/// The one runtime of this program. Its calls may take as long as those of the command line: a slow disk is no
/// wrong result.
pub(crate) fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        let patient = Runtime::builder().call_timeout(Duration::from_secs(600));
        patient.build().expect("wasmtime runs here")
    })
}

/// A payload that makes a file of about 800 bytes.
pub(crate) fn payload(number: u64) -> String {
    let text = "what was learned in this session, in a sentence of some length. ".repeat(6);
    format!(
        r#"{{"source": {{"segment_id": "segment-{number}", "range": [0, 17]}}, "discussions": [{{"topic": "bench", "points": ["{text}", "short"]}}], "attempts": [{{"action": "measure", "result": "done", "succeeded": true}}]}}"#
    )
}

/// Stages payloads as fast as it goes, for what is measured afterwards.
pub(crate) fn fill(root: &Path, entries: u64) -> Vec<String> {
    const AT_ONCE: u64 = 1_000;
    let native = Native::open(root, NativeDurability::None);
    let mut ids = Vec::new();
    for first in (0..entries).step_by(AT_ONCE as usize) {
        let payloads: Vec<String> = (first..entries.min(first + AT_ONCE)).map(payload).collect();
        ids.extend(native.stage_many(&payloads));
    }
    ids
}

/// Consolidates everything into nothing.
pub(crate) struct Nothing;

impl Consolidator for Nothing {
    fn name(&self) -> String {
        "nothing".into()
    }

    fn consolidate(&mut self, _: &[Entry], _: &Draft<'_>) -> Result<Vec<Update>, ConsolidatorError> {
        Ok(Vec::new())
    }
}
