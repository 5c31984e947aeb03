//! Version 0.1 of the plugin world. Invariant: it only translates; what is allowed and what becomes of
//! an answer is decided elsewhere.

use super::sandbox::State;
use super::world::{Failure, Info};
use crate::types as plain;
use generated::exports::insomnia::plugin::consolidator;
use generated::insomnia::plugin::{log, memory, types};
use wasmtime::Store;
use wasmtime::component::{Component, HasSelf, Linker};

#[allow(
    missing_docs,
    unreachable_pub,
    unsafe_code,
    reason = "generated from the documented WIT files, and private to this crate"
)]
mod generated {
    wasmtime::component::bindgen!({
        path: "../wit/plugin",
        world: "plugin",
        imports: { "insomnia:plugin/memory": async },
        exports: { default: async },
    });
}

/// A plugin of this version, linked.
pub(super) struct Linked(generated::PluginPre<State>);

impl Linked {
    pub(super) fn new(linker: &mut Linker<State>, component: &Component) -> wasmtime::Result<Linked> {
        generated::Plugin::add_to_linker::<State, HasSelf<State>>(linker, |state| state)?;
        Ok(Linked(generated::PluginPre::new(linker.instantiate_pre(component)?)?))
    }

    pub(super) async fn instantiate(&self, store: &mut Store<State>) -> wasmtime::Result<Exports> {
        Ok(Exports(self.0.instantiate_async(store).await?))
    }
}

/// The exports of an instance.
pub(super) struct Exports(generated::Plugin);

impl Exports {
    pub(super) async fn info(&self, store: &mut Store<State>) -> wasmtime::Result<Info> {
        let info = self.0.insomnia_plugin_consolidator().call_info(store).await?;
        Ok(Info { name: info.name, version: info.version })
    }

    pub(super) async fn consolidate(
        &self,
        store: &mut Store<State>,
        batch: &[plain::Entry],
        now_ms: u64,
    ) -> wasmtime::Result<Result<Vec<plain::Update>, Failure>> {
        let batch = consolidator::Batch { entries: batch.iter().map(Into::into).collect(), now_ms };
        let answer = self.0.insomnia_plugin_consolidator().call_consolidate(store, &batch).await?;
        Ok(match answer {
            Ok(updates) => Ok(updates.into_iter().map(Into::into).collect()),
            Err(failure) => Err(Failure {
                message: failure.message,
                entries: failure.entries,
                temporary: failure.temporary,
            }),
        })
    }
}

impl types::Host for State {}

impl memory::Host for State {
    async fn get(&mut self, kind: String, slug: String) -> Result<Option<memory::MemoryRecord>, String> {
        let record = self.record(kind, slug).await?;
        Ok(record.map(Into::into))
    }

    async fn list(&mut self, kind: Option<String>) -> Result<Vec<memory::RecordHead>, String> {
        let listing = self.records(kind).await?;
        Ok(listing.records.into_iter().map(Into::into).collect())
    }
}

impl log::Host for State {
    fn log(&mut self, level: log::Level, message: String) {
        let level = match level {
            log::Level::Debug => tracing::Level::DEBUG,
            log::Level::Info => tracing::Level::INFO,
            log::Level::Warn => tracing::Level::WARN,
            log::Level::Error => tracing::Level::ERROR,
        };
        self.say(level, &message);
    }
}

impl From<&plain::Entry> for types::Entry {
    fn from(entry: &plain::Entry) -> Self {
        Self {
            id: entry.id.clone(),
            json: entry.json.clone(),
            segment_id: entry.source.segment_id.clone(),
            start: entry.source.start,
            end: entry.source.end,
            staged_at_ms: entry.staged_at_ms,
        }
    }
}

impl From<types::Update> for plain::Update {
    fn from(update: types::Update) -> Self {
        Self {
            kind: update.kind,
            slug: update.slug,
            title: update.title,
            body: update.body,
            status: update.status.map(|status| match status {
                types::Status::Active => plain::RecordStatus::Active,
                types::Status::Replaced => plain::RecordStatus::Replaced,
                types::Status::Retired => plain::RecordStatus::Retired,
            }),
            replaced_by: update.replaced_by,
            entries: update.entries,
        }
    }
}

impl From<plain::MemoryRecord> for memory::MemoryRecord {
    fn from(record: plain::MemoryRecord) -> Self {
        let source = |source: plain::Source| memory::Source {
            segment_id: source.segment_id,
            start: source.start,
            end: source.end,
        };
        Self {
            kind: record.kind,
            slug: record.slug,
            title: record.title,
            status: record.status,
            sources: record.sources.into_iter().map(source).collect(),
            created: record.created,
            updated: record.updated,
            replaced_by: record.replaced_by,
            body: record.body,
        }
    }
}

impl From<plain::RecordHead> for memory::RecordHead {
    fn from(head: plain::RecordHead) -> Self {
        Self {
            kind: head.kind,
            slug: head.slug,
            title: head.title,
            status: head.status,
            updated: head.updated,
        }
    }
}
