//! From entries to updates. Invariant: each record is read once and written at most once for a batch, in
//! the order in which the entries first touch them; a body grows at its end or stays.

use crate::markdown::{clip, pieces};
use crate::payload;
use crate::slug;
use std::collections::btree_map;
use std::collections::{BTreeMap, BTreeSet};

/// A body doesn't grow beyond this: what comes next goes into another part of the record. In bytes; a
/// record's file may have four times as many.
pub const MAX_BODY_BYTES: usize = 256 * 1024;

/// A longer item goes on in another one, in bytes, so that it fits into the parts of a record.
pub const MAX_LINE_BYTES: usize = 64 * 1024;

/// A title is clipped to this, in bytes.
const MAX_TITLE_BYTES: usize = 200;

/// How many parts of one record are looked at. They hold 256 MiB.
const MAX_PARTS: u32 = 1_000;

/// Where an entry or a record comes from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Source {
    /// The segment (session).
    pub segment_id: String,
    /// First position in it.
    pub start: u64,
    /// Last position in it.
    pub end: u64,
}

/// A piece of what an agent learned.
#[derive(Clone, Debug)]
pub struct Entry<'a> {
    /// Its name.
    pub id: &'a str,
    /// Its payload.
    pub json: &'a str,
    /// Where it comes from.
    pub source: Source,
}

/// What is to be known of a record in memory.
#[derive(Clone, Debug, Default)]
pub struct Record {
    /// `active`, `replaced`, `retired`, or what somebody wrote there.
    pub status: String,
    /// Where it comes from.
    pub sources: Vec<Source>,
    /// The record that has taken its place, as `kind/slug`.
    pub replaced_by: Option<String>,
    /// The Markdown.
    pub body: String,
}

/// What a record is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Update {
    /// The directory of its file.
    pub kind: String,
    /// The name of its file.
    pub slug: String,
    /// For a new one.
    pub title: Option<String>,
    /// None: only sources are added.
    pub body: Option<String>,
    /// The entries that it comes from, in the order of the batch.
    pub entries: Vec<String>,
}

/// Why a batch could not be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// One sentence for people.
    pub message: String,
    /// The entry that found no place.
    pub entry: String,
}

/// What the plugin is given.
pub trait Host {
    /// A record; none if there is none.
    ///
    /// # Errors
    /// Why it can't be read.
    fn record(&mut self, kind: &str, slug: &str) -> Result<Option<Record>, String>;
    /// Says something to the plugin's author.
    fn debug(&mut self, message: &str);
    /// Says something to whoever runs it.
    fn warn(&mut self, message: &str);
}

/// Turns a batch into updates.
///
/// # Errors
/// Only if a record has a thousand parts.
pub fn digest(entries: &[Entry<'_>], host: &mut impl Host) -> Result<Vec<Update>, Failure> {
    let mut digest = Digest { host, pages: BTreeMap::new(), touched: Vec::new() };
    for entry in entries {
        let items = payload::items(entry.json, &entry.source.segment_id, |message| {
            digest.host.debug(&format!("entry {}: {message}", entry.id));
        });
        for mut item in items {
            for piece in pieces(std::mem::take(&mut item.line), MAX_LINE_BYTES) {
                item.line = piece;
                digest.add(entry, &item)?;
            }
        }
    }
    Ok(digest.updates())
}

/// Kind and slug.
type Name = (String, String);

struct Digest<'a, H> {
    host: &'a mut H,
    pages: BTreeMap<Name, Page>,
    touched: Vec<Name>,
}

/// A record as this batch leaves it.
enum Page {
    Missing,
    /// Its file can't be read, and must not be overwritten.
    Unreadable,
    /// Somebody retired or replaced it.
    Closed {
        replaced_by: Option<Name>,
    },
    Open(Open),
}

#[derive(Default)]
struct Open {
    /// For a new record.
    title: Option<String>,
    body: String,
    /// The lines of the body.
    lines: BTreeSet<String>,
    grown: bool,
    sources: BTreeSet<Source>,
    /// The entries that its changes come from.
    entries: Vec<String>,
}

impl<H: Host> Digest<'_, H> {
    /// Puts a line into the last part of its record that is open, unless one of them has it already.
    fn add(&mut self, entry: &Entry<'_>, item: &payload::Item) -> Result<(), Failure> {
        let mut base: Name = (item.kind.into(), slug::of(&item.topic));
        let mut number = 1;
        let mut seen = BTreeSet::new();
        let mut last = None;
        let new = loop {
            if number > MAX_PARTS {
                return Err(Failure {
                    message: format!(
                        "the record {}/{} has {MAX_PARTS} parts; join or remove some of them",
                        base.0, base.1
                    ),
                    entry: entry.id.into(),
                });
            }
            let name = (base.0.clone(), slug::part(&base.1, number));
            number += 1;
            seen.insert(name.clone());
            let replacement = match self.page(&name) {
                Page::Missing => break name,
                Page::Open(page) if page.lines.contains(&item.line) => {
                    self.touch(name, entry, None);
                    return Ok(());
                }
                Page::Open(page) => {
                    last = page.has_room(&item.line).then_some(name);
                    continue;
                }
                Page::Unreadable => continue,
                Page::Closed { replaced_by } => replaced_by.clone(),
            };
            // Two records that name each other as replacement lead nowhere.
            if let Some(replacement) = replacement.filter(|name| !seen.contains(name))
                && !matches!(self.page(&replacement), Page::Missing)
            {
                (base, number) = (replacement, 1);
            }
        };
        let name = last.unwrap_or_else(|| {
            let title = clip(&item.topic, MAX_TITLE_BYTES);
            let title = if number > 2 { format!("{title} ({})", number - 1) } else { title };
            self.pages.insert(new.clone(), Page::Open(Open { title: Some(title), ..Open::default() }));
            new
        });
        self.touch(name, entry, Some(&item.line));
        Ok(())
    }

    /// The record, which is read when it is first asked for.
    fn page(&mut self, name: &Name) -> &Page {
        match self.pages.entry(name.clone()) {
            btree_map::Entry::Occupied(page) => page.into_mut(),
            btree_map::Entry::Vacant(vacant) => {
                let page = match self.host.record(&name.0, &name.1) {
                    Ok(None) => Page::Missing,
                    Ok(Some(record)) => Page::of(record, &name.0),
                    Err(reason) => {
                        self.host.warn(&format!(
                            "{}/{} can't be read, what belongs there goes on beside it: {reason}",
                            name.0, name.1
                        ));
                        Page::Unreadable
                    }
                };
                vacant.insert(page)
            }
        }
    }

    /// Notes that an open record holds what an entry says, with a new line or without.
    fn touch(&mut self, name: Name, entry: &Entry<'_>, line: Option<&str>) {
        let Some(Page::Open(page)) = self.pages.get_mut(&name) else { return };
        if let Some(line) = line {
            page.append(line);
        }
        // A line that is there already, from a source that is there already: nothing to write.
        let is_new = page.sources.insert(entry.source.clone()) || line.is_some();
        if is_new && page.entries.last().is_none_or(|last| last != entry.id) {
            if page.entries.is_empty() {
                self.touched.push(name);
            }
            page.entries.push(entry.id.into());
        }
    }

    fn updates(mut self) -> Vec<Update> {
        let mut updates = Vec::with_capacity(self.touched.len());
        for (kind, slug) in self.touched {
            let name = (kind, slug);
            if let Some(Page::Open(page)) = self.pages.remove(&name) {
                updates.push(Update {
                    kind: name.0,
                    slug: name.1,
                    title: page.title,
                    body: page.grown.then_some(page.body),
                    entries: page.entries,
                });
            }
        }
        updates
    }
}

impl Page {
    fn of(record: Record, kind: &str) -> Self {
        let status = record.status.trim();
        if status.eq_ignore_ascii_case("retired") || status.eq_ignore_ascii_case("replaced") {
            let replaced_by = record.replaced_by.as_deref().and_then(|name| parse_name(name, kind));
            return Page::Closed { replaced_by };
        }
        Page::Open(Open {
            lines: record.body.lines().map(str::to_owned).collect(),
            body: record.body,
            sources: record.sources.into_iter().collect(),
            ..Open::default()
        })
    }
}

impl Open {
    fn has_room(&self, line: &str) -> bool {
        // Two line ends, each of two bytes at most, before the line and one after it.
        self.body.len() + line.len() + 6 <= MAX_BODY_BYTES
    }

    /// Puts a line at the end. What is there stays, byte for byte.
    fn append(&mut self, line: &str) {
        let end = if self.body.contains("\r\n") { "\r\n" } else { "\n" };
        if !self.body.is_empty() && !self.body.ends_with('\n') {
            self.body.push_str(end);
        }
        // Behind anything but an item of ours, the list begins a block of its own.
        if self
            .body
            .lines()
            .next_back()
            .is_some_and(|last| !last.trim().is_empty() && !last.starts_with("- "))
        {
            self.body.push_str(end);
        }
        self.body.push_str(line);
        self.body.push_str(end);
        self.lines.insert(line.into());
        self.grown = true;
    }
}

/// `kind/slug`, or a slug of the same kind.
fn parse_name(name: &str, kind: &str) -> Option<Name> {
    let good = |text: &str| {
        (1..=slug::MAX_BYTES).contains(&text.len())
            && !text.starts_with('-')
            && text.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'))
    };
    let (kind, slug) = name.trim().split_once('/').unwrap_or((kind, name.trim()));
    (good(kind) && good(slug)).then(|| (kind.into(), slug.into()))
}
