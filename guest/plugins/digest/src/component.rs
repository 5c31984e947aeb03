//! The plugin as its host sees it: the rules of [`digest`], with the host's memory and log.

use crate::bindings::exports::insomnia::plugin::consolidator::{Batch, Failure, Guest, PluginInfo};
use crate::bindings::insomnia::plugin::types::Update;
use crate::bindings::insomnia::plugin::{log, memory};
use crate::digest::{self, Entry, Host, Record, Source};

pub(crate) struct Component;

impl Guest for Component {
    fn info() -> PluginInfo {
        PluginInfo { name: "digest".into(), version: env!("CARGO_PKG_VERSION").into() }
    }

    fn consolidate(batch: Batch) -> Result<Vec<Update>, Failure> {
        let entries: Vec<Entry<'_>> = batch
            .entries
            .iter()
            .map(|entry| Entry {
                id: &entry.id,
                json: &entry.json,
                source: Source { segment_id: entry.segment_id.clone(), start: entry.start, end: entry.end },
            })
            .collect();
        match digest::digest(&entries, &mut Outside) {
            Ok(updates) => Ok(updates.into_iter().map(update).collect()),
            Err(failure) => {
                Err(Failure { message: failure.message, entries: vec![failure.entry], temporary: false })
            }
        }
    }
}

fn update(update: digest::Update) -> Update {
    Update {
        kind: update.kind,
        slug: update.slug,
        title: update.title,
        body: update.body,
        status: None,
        replaced_by: None,
        entries: Some(update.entries),
    }
}

struct Outside;

impl Host for Outside {
    fn record(&mut self, kind: &str, slug: &str) -> Result<Option<Record>, String> {
        Ok(memory::get(kind, slug)?.map(|record| Record {
            status: record.status,
            sources: record
                .sources
                .into_iter()
                .map(|source| Source { segment_id: source.segment_id, start: source.start, end: source.end })
                .collect(),
            replaced_by: record.replaced_by,
            body: record.body,
        }))
    }

    fn debug(&mut self, message: &str) {
        log::log(log::Level::Debug, message);
    }

    fn warn(&mut self, message: &str) {
        log::log(log::Level::Warn, message);
    }
}
