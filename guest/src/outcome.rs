//! The one home of the format of a run's outcome. Invariant: an outcome names all that a run took, so
//! that whoever finds it can finish what its owner began.

use crate::error::Owner;
use crate::fs::Time;
use crate::json::{Layout, Read, Reader, Writer, member};
use crate::layout::{EntryId, RunId};
use crate::prelude::*;
use crate::record::IdList;
use crate::time::to_rfc3339;

/// The largest outcome that is read, in bytes: room for 1.5 million entries.
pub const MAX_OUTCOME_BYTES: u64 = 64 * 1024 * 1024;

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndedBy {
    /// Its process id.
    pub pid: u32,
    /// Its pod.
    pub pod_name: String,
}

/// What a run did and how it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
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
    pub ended_by: Option<EndedBy>,
    /// Why, if it did not end well.
    pub reason: Option<String>,
    /// The entries that it took, oldest first. A text that is no canonical id names no file, and is
    /// passed over.
    pub entry_ids: Vec<EntryId>,
    /// The records that it changed, in the order of their new files.
    pub changes: Vec<ChangedRecord>,
    /// The run whose changes it put back.
    pub undoes: Option<String>,
}

/// A record that a run changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangedRecord {
    /// The directory of its file, unchecked when it is read.
    pub kind: String,
    /// The name of its file, unchecked when it is read.
    pub slug: String,
    /// There was none before.
    pub created: bool,
    /// There was none after.
    pub removed: bool,
}

impl Ending {
    const ALL: [Ending; 5] =
        [Ending::Consolidated, Ending::Failed, Ending::Aborted, Ending::Unlocked, Ending::Undone];
    /// As they are written, in the order of [`Ending::ALL`].
    const NAMES: [&str; 5] = ["consolidated", "failed", "aborted", "unlocked", "undone"];
}

/// The members, in the order in which they are written.
const MEMBERS: [&str; 11] = [
    "run_id",
    "outcome",
    "pod_name",
    "pid",
    "started_at",
    "ended_at",
    "ended_by",
    "reason",
    "entry_ids",
    "changes",
    "undoes",
];
/// Those that every outcome has, a bit each.
const NEEDED: u32 = 0b001_0011_1111;

fn read_outcome(json: &mut Reader<'_>) -> Read<Outcome> {
    let mut outcome = Outcome {
        run_id: String::new(),
        outcome: Ending::Aborted,
        pod_name: String::new(),
        pid: 0,
        started_at: String::new(),
        ended_at: String::new(),
        ended_by: None,
        reason: None,
        entry_ids: Vec::new(),
        changes: Vec::new(),
        undoes: None,
    };
    let mut met = 0;
    json.begin(b'{')?;
    while let Some(index) = json.known(&MEMBERS, &mut met)? {
        match index {
            0 => outcome.run_id = json.string()?.decode().into_owned(),
            1 => match json.string()?.position(&Ending::NAMES) {
                Some(ending) => outcome.outcome = Ending::ALL[ending],
                None => return Err(json.wrong("`outcome` is none that is known")),
            },
            2 => outcome.pod_name = json.string()?.decode().into_owned(),
            3 => outcome.pid = json.u32()?,
            4 => outcome.started_at = json.string()?.decode().into_owned(),
            5 => outcome.ended_at = json.string()?.decode().into_owned(),
            6 => outcome.ended_by = if json.null()? { None } else { Some(read_ended_by(json)?) },
            7 => outcome.reason = json.optional_string()?,
            8 => outcome.entry_ids = IdList::read(json)?.ids,
            9 => {
                json.begin(b'[')?;
                while json.item()? {
                    outcome.changes.push(read_change(json)?);
                }
            }
            _ => outcome.undoes = json.optional_string()?,
        }
    }
    json.all_of(&MEMBERS, met, NEEDED)?;
    Ok(outcome)
}

fn read_ended_by(json: &mut Reader<'_>) -> Read<EndedBy> {
    const MEMBERS: [&str; 2] = ["pid", "pod_name"];
    let (mut by, mut met) = (EndedBy { pid: 0, pod_name: String::new() }, 0);
    json.begin(b'{')?;
    while let Some(index) = json.known(&MEMBERS, &mut met)? {
        match index {
            0 => by.pid = json.u32()?,
            _ => by.pod_name = json.string()?.decode().into_owned(),
        }
    }
    json.all_of(&MEMBERS, met, 0b11)?;
    Ok(by)
}

fn read_change(json: &mut Reader<'_>) -> Read<ChangedRecord> {
    const MEMBERS: [&str; 4] = ["kind", "slug", "created", "removed"];
    let (mut texts, mut flags, mut met) = ([const { String::new() }; 2], [false; 2], 0);
    json.begin(b'{')?;
    while let Some(index) = json.known(&MEMBERS, &mut met)? {
        match index {
            0 | 1 => texts[index] = json.string()?.decode().into_owned(),
            _ => flags[index - 2] = json.truth()?,
        }
    }
    json.all_of(&MEMBERS, met, 0b0011)?;
    let ([kind, slug], [created, removed]) = (texts, flags);
    Ok(ChangedRecord { kind, slug, created, removed })
}

impl Outcome {
    /// Of a run, by the owner of the lock.
    pub fn new(run: RunId, ending: Ending, owner: Owner, ended_at: Time, entry_ids: Vec<EntryId>) -> Self {
        let Owner { pid, pod_name, started_at } = owner;
        Outcome {
            run_id: run.text(),
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
        matches!(self.outcome, Ending::Consolidated | Ending::Undone) && self.run_id == run.text()
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
        Reader::new(content).read(read_outcome)
    }

    /// The content of its file: pretty JSON with a newline at the end.
    pub fn to_file(&self) -> Vec<u8> {
        let mut json = Writer::new(Layout::Pretty, 512 + self.entry_ids.len() * 44);
        json.begin(b'{');
        json.member(member!(1, "run_id"));
        json.string(&self.run_id);
        json.member(member!(1, "outcome"));
        json.string(Ending::NAMES[self.outcome as usize]);
        json.member(member!(1, "pod_name"));
        json.string(&self.pod_name);
        json.member(member!(1, "pid"));
        json.number(self.pid.into());
        json.member(member!(1, "started_at"));
        json.string(&self.started_at);
        json.member(member!(1, "ended_at"));
        json.string(&self.ended_at);
        json.member(member!(1, "ended_by"));
        match &self.ended_by {
            Some(by) => {
                json.begin(b'{');
                json.member(member!(2, "pid"));
                json.number(by.pid.into());
                json.member(member!(2, "pod_name"));
                json.string(&by.pod_name);
                json.end(b'}');
            }
            None => json.raw(b"null"),
        }
        json.member(member!(1, "reason"));
        json.optional_string(self.reason.as_deref());
        json.member(member!(1, "entry_ids"));
        IdList::write(&self.entry_ids, &mut json);
        if !self.changes.is_empty() {
            json.member(member!(1, "changes"));
            json.begin(b'[');
            for change in &self.changes {
                json.item();
                json.begin(b'{');
                json.member_string("kind", &change.kind);
                json.member_string("slug", &change.slug);
                for (name, is_so) in [("created", change.created), ("removed", change.removed)] {
                    if is_so {
                        json.name(name.as_bytes());
                        json.raw(b"true");
                    }
                }
                json.end(b'}');
            }
            json.end(b']');
        }
        json.member_if(member!(1, "undoes"), self.undoes.as_deref());
        json.end(b'}');
        json.into_file()
    }
}
