//! Plugins as real components, friendly and hostile: what they are given, what becomes of what they do
//! wrong, and that the host goes on in any case.

#![cfg(unix)]

mod answers;
mod cache;
mod limits;
mod load;
mod logging;
mod memory;
mod sandbox;

use crate::support::TestWorkspace;
use crate::support::plugin::PluginText;
use consolidation_host::{
    Consolidator as _, ConsolidatorError, Entry, Grant, Plugin, PluginError, PluginOptions, Runtime, Source,
    Update, UpdateLimits, Workspace,
};
use std::sync::OnceLock;
use std::time::Duration;

/// Of a call that is bound not to end.
const SHORT: Duration = Duration::from_millis(300);

const MEMORY: &str = "insomnia:plugin/memory@0.1.0";
const LOG: &str = "insomnia:plugin/log@0.1.0";

/// An answer without updates.
const NOTHING: &str = "(call $answer (i32.const 0))";

/// The engine is made once.
fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| Runtime::new().expect("a runtime"))
}

#[track_caller]
fn load(text: &PluginText, options: &PluginOptions) -> Plugin {
    Plugin::from_bytes(runtime(), "digest.wasm", &text.build(), options).expect("the plugin loads")
}

/// With a time limit for what does not end.
#[track_caller]
fn load_hasty(text: &PluginText) -> Plugin {
    load(text, &PluginOptions::new().call_timeout(SHORT))
}

#[track_caller]
fn refused(bytes: &[u8]) -> PluginError {
    Plugin::from_bytes(runtime(), "digest.wasm", bytes, &PluginOptions::new()).expect_err("it is refused")
}

/// So many entries.
fn entries(count: usize) -> Vec<Entry> {
    (0..count)
        .map(|number| {
            let id = format!("01890a5d-ac96-774b-bcce-{number:012x}");
            Entry {
                json: format!(r#"{{"id": "{id}", "number": {number}}}"#),
                id,
                bytes: 100,
                staged_at_ms: 1_700_000_000_000 + number as u64,
                source: Source { segment_id: format!("segment-{number}"), start: 0, end: 9 },
            }
        })
        .collect()
}

/// Hands a plugin a batch, with a draft of an empty workspace.
fn consolidate(plugin: &mut Plugin, batch: &[Entry]) -> Result<Vec<Update>, ConsolidatorError> {
    let place = TestWorkspace::with_staging();
    let workspace = Workspace::open(place.root()).expect("the workspace opens");
    let draft = workspace.draft(UpdateLimits::default()).expect("a draft");
    plugin.consolidate(batch, &draft)
}

/// How many updates it makes of one entry.
#[track_caller]
fn count(plugin: &mut Plugin) -> usize {
    consolidate(plugin, &entries(1)).expect("it does the batch").len()
}

/// The message of a plugin that fails on one entry.
#[track_caller]
fn fails(plugin: &mut Plugin) -> String {
    match consolidate(plugin, &entries(1)).expect_err("it fails") {
        ConsolidatorError::Batch(message) => {
            assert!(message.starts_with("plugin digest 1.2.3 (digest.wasm): "), "{message}");
            assert!(!message.contains('\n'), "{message}");
            message
        }
        other => panic!("not a failure of the batch: {other:?}"),
    }
}

/// Fails with this reason, and an other plugin works then.
#[track_caller]
fn fails_with(text: &PluginText, reason: &str) {
    let mut plugin = load_hasty(text);
    let message = fails(&mut plugin);
    assert!(message.contains(reason), "{message}");
    assert_eq!(count(&mut load(&PluginText::new(NOTHING), &PluginOptions::new())), 0);
}
