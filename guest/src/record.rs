//! The one home of the format of the lock record. Invariant: the first four members are the original
//! format, in its order; a reader of that format reads ours, since it ignores the rest, and this one
//! reads records that have nothing but the four.

use crate::error::Owner;
use crate::fs::Time;
use crate::json::{Layout, Read, Reader, Writer, member};
use crate::layout::{EntryId, Token};
use crate::prelude::*;
use crate::system::{Identity, Scope};
use crate::time::{parse_rfc3339, to_rfc3339};

/// The largest lock file that is read, in bytes: room for 1.5 million consumed ids.
pub const MAX_RECORD_BYTES: u64 = 64 * 1024 * 1024;

/// What the lock file says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LockRecord {
    /// Process id of the owner.
    pub pid: u32,
    /// Name of its pod.
    pub pod_name: String,
    /// When it took the lock, RFC 3339.
    pub started_at: String,
    /// The entries that it took into its snapshot.
    pub consumed_ids: IdList,
    /// What tells this owner from any other. None in the original format.
    pub token: Option<String>,
    /// When its process started. None in the original format.
    pub process_start: Option<String>,
    /// Where `pid` has a meaning. None in the original format; all empty, so that it proves nothing, if
    /// it is written in a way that is not known here.
    pub scope: Option<Scope>,
    /// How long the lock of an owner that can't be probed counts as held after its last refresh.
    pub lease_seconds: Option<u32>,
    /// Process group of the command that works for the owner.
    pub command_group: Option<u32>,
    /// When the first process of that group started.
    pub command_start: Option<String>,
    /// The run that has taken the entries.
    pub run_id: Option<String>,
}

/// A list of ids of entries as files have it, in a quarter of the memory that their texts take: there may be a
/// million. A text that is no canonical id names no file, and is counted only.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IdList {
    /// The ids.
    pub ids: Vec<EntryId>,
    /// How many more texts there are, which are none.
    pub others: u64,
}

impl IdList {
    /// How many texts it has.
    pub fn len(&self) -> u64 {
        self.ids.len() as u64 + self.others
    }

    /// Has it none?
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(crate) fn read(json: &mut Reader<'_>) -> Read<Self> {
        let mut list = IdList::default();
        json.begin(b'[')?;
        while json.item()? {
            match EntryId::parse(&json.string()?.decode()) {
                Some(id) => list.ids.push(id),
                None => list.others += 1,
            }
        }
        Ok(list)
    }

    pub(crate) fn write(ids: &[EntryId], json: &mut Writer) {
        json.begin(b'[');
        for id in ids {
            json.item();
            json.quoted(&id.digits());
        }
        json.end(b']');
    }

    /// The texts of the ids.
    pub fn texts(&self) -> Vec<String> {
        self.ids.iter().map(EntryId::to_string).collect()
    }
}

impl From<Vec<EntryId>> for IdList {
    fn from(ids: Vec<EntryId>) -> Self {
        IdList { ids, others: 0 }
    }
}

/// The members, in the order in which they are written.
const MEMBERS: [&str; 11] = [
    "pid",
    "pod_name",
    "started_at",
    "consumed_ids",
    "token",
    "process_start",
    "scope",
    "lease_seconds",
    "command_group",
    "command_start",
    "run_id",
];
/// Those of the original format, a bit each.
const ORIGINAL: u32 = 0b1111;
/// The parts of a scope.
const PARTS: [&str; 3] = ["machine", "boot", "pid_namespace"];

/// A later version may write other types into members that the original format does not have. Then
/// the owner must still be found: the four members decide, and not "unreadable".
fn read_record(json: &mut Reader<'_>) -> Read<LockRecord> {
    let (mut record, mut met) = (LockRecord::default(), 0);
    json.begin(b'{')?;
    while let Some(index) = json.known(&MEMBERS, &mut met)? {
        match index {
            0 => record.pid = json.u32()?,
            1 => record.pod_name = json.string()?.decode().into_owned(),
            2 => {
                record.started_at = json.string()?.decode().into_owned();
                if parse_rfc3339(&record.started_at).is_none() {
                    return Err(json.wrong("`started_at` is not a time as RFC 3339 writes it"));
                }
            }
            3 => record.consumed_ids = IdList::read(json)?,
            4 => record.token = json.string_if()?,
            5 => record.process_start = json.string_if()?,
            6 => record.scope = read_scope(json)?,
            7 => record.lease_seconds = json.u32_if()?,
            8 => record.command_group = json.u32_if()?,
            9 => record.command_start = json.string_if()?,
            _ => record.run_id = json.string_if()?,
        }
    }
    json.all_of(&MEMBERS, met, ORIGINAL)?;
    Ok(record)
}

/// A record with a scope is none of the original format, whatever the scope looks like.
fn read_scope(json: &mut Reader<'_>) -> Read<Option<Scope>> {
    if json.null()? {
        return Ok(None);
    }
    if !json.is_object() {
        json.skip()?;
        return Ok(Some(Scope::default()));
    }
    let (mut parts, mut known) = ([const { String::new() }; PARTS.len()], true);
    let mut met = 0_u32;
    json.begin(b'{')?;
    while let Some(name) = json.member()? {
        let Some(index) = name.position(&PARTS) else {
            json.skip()?;
            continue;
        };
        known &= met & (1 << index) == 0;
        met |= 1 << index;
        match json.string_if()? {
            Some(part) => parts[index] = part,
            None => known = false,
        }
    }
    let [machine, boot, pid_namespace] = parts;
    Ok(Some(if known { Scope { machine, boot, pid_namespace } } else { Scope::default() }))
}

impl LockRecord {
    /// Of a new owner.
    pub fn new(
        owner: &Identity,
        pod_name: &str,
        now: Time,
        token: Token,
        lease_seconds: Option<u32>,
    ) -> Self {
        LockRecord {
            pid: owner.pid,
            pod_name: pod_name.into(),
            started_at: to_rfc3339(now),
            consumed_ids: IdList::default(),
            token: Some(token.text()),
            process_start: (!owner.start.is_empty()).then(|| owner.start.clone()),
            scope: Some(owner.scope.clone()),
            lease_seconds,
            command_group: None,
            command_start: None,
            run_id: None,
        }
    }

    /// Reads the content of a lock file. A byte-order mark is skipped.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn parse(content: &[u8]) -> Result<Self, String> {
        if content.is_empty() {
            return Err("the file is empty".into());
        }
        if content.iter().all(|byte| *byte == 0) {
            return Err("the file holds nothing but NUL bytes".into());
        }
        Reader::after_mark(content).read(read_record)
    }

    /// The content of the lock file: pretty JSON with a newline at the end.
    pub fn to_file(&self) -> Vec<u8> {
        self.to_file_with(&Self::process_members(self.process_start.as_deref(), self.scope.as_ref()))
    }

    /// What the file says of the owner's process, as it stands there behind the token: the same in all records of a
    /// process, and half of a small one.
    pub(crate) fn process_members(process_start: Option<&str>, scope: Option<&Scope>) -> Vec<u8> {
        let mut json = Writer::continued(Layout::Pretty, &[], 512);
        json.member_if(member!(1, "process_start"), process_start);
        if let Some(Scope { machine, boot, pid_namespace }) = scope {
            json.member(member!(1, "scope"));
            json.begin(b'{');
            json.member(member!(2, "machine"));
            json.string(machine);
            json.member(member!(2, "boot"));
            json.string(boot);
            json.member(member!(2, "pid_namespace"));
            json.string(pid_namespace);
            json.end(b'}');
        }
        json.into_bytes()
    }

    /// [`Self::to_file`], with what it says of the process.
    pub(crate) fn to_file_with(&self, process_members: &[u8]) -> Vec<u8> {
        let mut json = Writer::new(Layout::Pretty, 1024 + self.consumed_ids.ids.len() * 44);
        json.begin(b'{');
        json.member(member!(1, "pid"));
        json.number(self.pid.into());
        json.member(member!(1, "pod_name"));
        json.string(&self.pod_name);
        json.member(member!(1, "started_at"));
        json.string(&self.started_at);
        json.member(member!(1, "consumed_ids"));
        IdList::write(&self.consumed_ids.ids, &mut json);
        json.member_if(member!(1, "token"), self.token.as_deref());
        json.raw(process_members);
        json.member(member!(1, "lease_seconds"));
        json.optional_number(self.lease_seconds.map(u64::from));
        json.member(member!(1, "command_group"));
        json.optional_number(self.command_group.map(u64::from));
        json.member_if(member!(1, "command_start"), self.command_start.as_deref());
        json.member_if(member!(1, "run_id"), self.run_id.as_deref());
        json.end(b'}');
        json.into_file()
    }

    /// How a lock file with this token shows it, somewhere in its last [`TOKEN_TAIL`] bytes.
    pub fn token_mark(token: Token) -> [u8; 43] {
        let mut mark = *b"\"token\": \"................................\"";
        mark[10..][..32].copy_from_slice(&token.digits());
        mark
    }

    /// Who it is, for messages.
    pub fn owner(&self) -> Owner {
        Owner { pid: self.pid, pod_name: self.pod_name.clone(), started_at: self.started_at.clone() }
    }

    /// When the owner took the lock.
    pub fn started_at(&self) -> Option<Time> {
        parse_rfc3339(&self.started_at)
    }
}

/// The members that follow `consumed_ids` fit into so many bytes (the host bounds the scope's parts),
/// so that ownership is checked without reading a million ids.
pub const TOKEN_TAIL: u64 = 8192;
