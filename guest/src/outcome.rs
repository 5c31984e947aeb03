//! The one home of the format of a run's outcome. Invariant: an outcome names all that a run took, so
//! that whoever finds it can finish what its owner began.

use crate::error::Owner;
use crate::fs::Time;
use crate::json::Object;
use crate::layout::{EntryId, RunId};
use crate::record::to_rfc3339;
use serde::de::{Deserializer, SeqAccess, Visitor};
use serde::ser::Serializer;
use serde::{Deserialize, Serialize};
use std::fmt;

/// The largest outcome that is read, in bytes: room for 1.5 million entries.
pub const MAX_OUTCOME_BYTES: u64 = 64 * 1024 * 1024;

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    /// Its entries were turned into memory, and are deleted or to be deleted.
    Consolidated,
    /// Its owner gave it up. Its entries are kept.
    Failed,
    /// Its owner died, or was taken for dead, before the commit. Its entries are kept.
    Aborted,
    /// No run: somebody removed a lock by force.
    Unlocked,
    /// It put back what another run had changed in memory.
    Undone,
}

/// Who wrote an outcome, if it was not the owner.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndedBy {
    /// Its process id.
    pub pid: u32,
    /// Its pod.
    pub pod_name: String,
}

/// What a run did and how it ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// The run.
    pub run_id: String,
    /// How it ended.
    pub outcome: Ending,
    /// The pod that held the lock; empty if unknown.
    pub pod_name: String,
    /// Its process id; 0 if unknown.
    pub pid: u32,
    /// When it took the lock, RFC 3339; empty if unknown.
    pub started_at: String,
    /// When it ended, RFC 3339: of a consolidated run the commit.
    pub ended_at: String,
    /// Who ended it, if it was not its owner.
    #[serde(default)]
    pub ended_by: Option<EndedBy>,
    /// Why, if it did not end well.
    #[serde(default)]
    pub reason: Option<String>,
    /// The entries that it took, oldest first. A text that is no canonical id names no file, and is
    /// passed over.
    #[serde(serialize_with = "as_texts", deserialize_with = "from_texts")]
    pub entry_ids: Vec<EntryId>,
    /// The records that it changed, in the order of their new files.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<ChangedRecord>,
    /// The run whose changes it put back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undoes: Option<String>,
}

/// A record that a run changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangedRecord {
    /// The directory of its file, unchecked when it is read.
    pub kind: String,
    /// The name of its file, unchecked when it is read.
    pub slug: String,
    /// There was none before.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub created: bool,
    /// There was none after.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub removed: bool,
}

fn as_texts<S: Serializer>(ids: &[EntryId], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(ids.iter().map(EntryId::to_string))
}

/// Not by way of a list of strings: it would take four times the memory, and there may be a million.
fn from_texts<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<EntryId>, D::Error> {
    struct Ids;
    impl<'de> Visitor<'de> for Ids {
        type Value = Vec<EntryId>;
        fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
            formatter.write_str("a list of ids")
        }
        fn visit_seq<A: SeqAccess<'de>>(self, mut texts: A) -> Result<Vec<EntryId>, A::Error> {
            let mut ids = Vec::new();
            while let Some(text) = texts.next_element::<std::borrow::Cow<'_, str>>()? {
                ids.extend(EntryId::parse(&text));
            }
            Ok(ids)
        }
    }
    deserializer.deserialize_seq(Ids)
}

impl Outcome {
    /// Of a run, by the owner of the lock.
    pub fn new(run: RunId, ending: Ending, owner: Owner, ended_at: Time, entry_ids: Vec<EntryId>) -> Self {
        let Owner { pid, pod_name, started_at } = owner;
        Outcome {
            run_id: run.to_string(),
            outcome: ending,
            pod_name,
            pid,
            started_at,
            ended_at: to_rfc3339(ended_at),
            ended_by: None,
            reason: None,
            entry_ids,
            changes: Vec::new(),
            undoes: None,
        }
    }

    /// Ends it in another way than its owner wanted.
    pub fn end(&mut self, ending: Ending, at: Time, by: &EndedBy, reason: impl Into<String>) {
        self.outcome = ending;
        self.ended_at = to_rfc3339(at);
        self.ended_by = Some(by.clone());
        self.reason = Some(reason.into());
    }

    /// Did a commit write it, of this run?
    pub fn is_commit_of(&self, run: RunId) -> bool {
        matches!(self.outcome, Ending::Consolidated | Ending::Undone) && self.run_id == run.to_string()
    }

    /// Who held the lock.
    pub fn owner(&self) -> Owner {
        Owner { pid: self.pid, pod_name: self.pod_name.clone(), started_at: self.started_at.clone() }
    }

    /// Reads the content of an outcome file.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn parse(content: &[u8]) -> Result<Self, String> {
        serde_json::from_slice(content).map(|Object(outcome)| outcome).map_err(|error| error.to_string())
    }

    /// The content of its file: pretty JSON with a newline at the end.
    pub fn to_file(&self) -> Vec<u8> {
        // Strings, numbers and lists of them: this can't fail.
        let mut content = serde_json::to_vec_pretty(self).unwrap_or_default();
        content.push(b'\n');
        content
    }
}
