//! The smallest useful consolidation plugin: one record for each session, with a line for each entry.
//!
//! `guest/plugins/new.sh DIR` copies it. Begin with [`line`], which says what becomes of an entry.

use exports::insomnia::plugin::consolidator::{Batch, Failure, Guest, PluginInfo};
use insomnia::plugin::types::{Entry, Update};
use insomnia::plugin::{log, memory};
use serde_json::Value;

// Makes the types and functions above of the WIT. The path counts from Cargo.toml.
wit_bindgen::generate!({ path: "../../../wit/plugin", world: "plugin" });

struct Plugin;
export!(Plugin);

impl Guest for Plugin {
    /// Called once. Name and version stand in messages.
    fn info() -> PluginInfo {
        PluginInfo { name: env!("CARGO_PKG_NAME").into(), version: env!("CARGO_PKG_VERSION").into() }
    }

    /// Called once for each batch of entries, the oldest first. The updates count when the whole run is
    /// committed; until then nothing is written, and nothing that is returned here can be half done.
    fn consolidate(batch: Batch) -> Result<Vec<Update>, Failure> {
        let mut sessions: Vec<Session> = Vec::new();
        for entry in &batch.entries {
            // An entry that can't be understood is named: the others are tried again without it.
            let line = line(entry).map_err(|message| Failure {
                message,
                entries: vec![entry.id.clone()],
                temporary: false,
            })?;
            let slug = slug(&entry.segment_id);
            let index = match sessions.iter().position(|session| session.slug == slug) {
                Some(index) => index,
                None => {
                    sessions.push(Session::read(slug, &entry.segment_id)?);
                    sessions.len() - 1
                }
            };
            sessions[index].add(line, &entry.id);
        }
        Ok(sessions.into_iter().filter_map(Session::into_update).collect())
    }
}

const KIND: &str = "session";

/// A record as this batch leaves it.
struct Session {
    slug: String,
    /// For a record that is new; one that exists keeps its title.
    title: Option<String>,
    body: String,
    /// The entries whose lines were added.
    entries: Vec<String>,
}

impl Session {
    /// What is in memory, earlier batches of this run included.
    fn read(slug: String, segment_id: &str) -> Result<Self, Failure> {
        match memory::get(KIND, &slug) {
            Ok(Some(record)) => Ok(Session { slug, title: None, body: record.body, entries: Vec::new() }),
            Ok(None) => {
                log::log(log::Level::Debug, &format!("{KIND}/{slug} is new"));
                let title = Some(format!("Session {}", one_line(segment_id)));
                Ok(Session { slug, title, body: String::new(), entries: Vec::new() })
            }
            // No entry is to blame for a file that can't be read: end the run, and let somebody look.
            Err(reason) => Err(Failure {
                message: format!("{KIND}/{slug} can't be read: {reason}"),
                entries: Vec::new(),
                temporary: true,
            }),
        }
    }

    /// Adds a line, unless it is there: an entry may come twice, after a crash. People may edit the body, so
    /// it isn't written anew but only grows.
    fn add(&mut self, line: String, entry: &str) {
        if self.body.lines().any(|known| known == line) {
            return;
        }
        if !self.body.is_empty() && !self.body.ends_with('\n') {
            self.body.push('\n');
        }
        self.body.push_str(&line);
        self.body.push('\n');
        self.entries.push(entry.to_owned());
    }

    /// Nothing new, no update.
    fn into_update(self) -> Option<Update> {
        (!self.entries.is_empty()).then_some(Update {
            kind: KIND.into(),
            slug: self.slug,
            title: self.title,
            body: Some(self.body),
            // These two stay as they are.
            status: None,
            replaced_by: None,
            // The host adds the sources of these entries to the record.
            entries: Some(self.entries),
        })
    }
}

/// What this plugin makes of an entry: where it stands in the session, how much it holds, what was asked for.
fn line(entry: &Entry) -> Result<String, String> {
    let payload: Value =
        serde_json::from_str(&entry.json).map_err(|error| format!("the payload can't be read: {error}"))?;
    let list = |name: &str| payload[name].as_array().map_or(&[][..], Vec::as_slice);
    let count: usize =
        ["decisions", "discussions", "attempts", "requests"].map(|name| list(name).len()).iter().sum();
    let asked: Vec<String> =
        list("requests").iter().filter_map(|request| request["summary"].as_str()).map(one_line).collect();
    let mut line = format!("- {} to {}: {count} learned", entry.start, entry.end);
    if !asked.is_empty() {
        line.push_str("; asked for: ");
        line.push_str(&asked.join("; "));
    }
    Ok(line)
}

/// A text must not become a heading or a rule in the Markdown: keep it on its line.
fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The name of a record: `[a-z0-9][a-z0-9-]*`, 64 bytes at most. Other texts must give other names, so there
/// is a hash in it (FNV-1a).
fn slug(text: &str) -> String {
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let words: String = text
        .chars()
        .take(40)
        .map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' })
        .collect();
    format!("{}-{hash:016x}", words.trim_matches('-')).trim_start_matches('-').to_owned()
}

// They run on your machine, `cargo test`. `memory` and `log` are only there in a host: what calls them can't
// be tested here.
#[cfg(test)]
mod tests {
    use super::*;

    fn entry(json: &str) -> Entry {
        Entry {
            id: "0197a3c2-5b1e-7c4d-8e2f-000000000001".into(),
            json: json.into(),
            segment_id: "Session/1".into(),
            start: 0,
            end: 17,
            staged_at_ms: 0,
        }
    }

    #[test]
    fn line_counts_items_and_names_requests() {
        let json = r#"{"decisions": [{}], "requests": [{"summary": "fix\nthe clock"}, {"summary": "rest"}]}"#;
        assert_eq!(line(&entry(json)).unwrap(), "- 0 to 17: 3 learned; asked for: fix the clock; rest");
        assert!(line(&entry("{")).is_err());
    }

    #[test]
    fn other_texts_give_other_slugs() {
        assert_eq!(slug("Session/1").len(), "session-1-".len() + 16);
        assert_ne!(slug("Session/1"), slug("session-1"));
        assert!(slug("日本").bytes().all(|byte| byte.is_ascii_hexdigit()));
        assert!(slug(&"é".repeat(99)).len() <= 64);
    }

    #[test]
    fn entry_that_comes_twice_adds_one_line() {
        let mut session =
            Session { slug: "s".into(), title: None, body: "by hand".into(), entries: Vec::new() };
        session.add("- a".into(), "1");
        session.add("- a".into(), "1");
        assert_eq!(session.body, "by hand\n- a\n");
        assert_eq!(session.into_update().unwrap().entries.unwrap(), ["1"]);
    }
}
