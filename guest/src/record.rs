//! The one home of the format of the lock record. Invariant: the first four members are the original
//! format, in its order; a reader of that format reads ours, since it ignores the rest, and this one
//! reads records that have nothing but the four.

use crate::error::Owner;
use crate::fs::Time;
use crate::json::Object;
use crate::layout::{EntryId, Token};
use crate::system::{Identity, Scope};
use chrono::{DateTime, FixedOffset, SecondsFormat, Utc};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

/// The largest lock file that is read, in bytes: room for 1.5 million consumed ids.
pub const MAX_RECORD_BYTES: u64 = 64 * 1024 * 1024;

/// What the lock file says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockRecord {
    /// Process id of the owner.
    pub pid: u32,
    /// Name of its pod.
    pub pod_name: String,
    /// When it took the lock, RFC 3339.
    #[serde(deserialize_with = "rfc3339")]
    pub started_at: String,
    /// The entries that it took into its snapshot.
    pub consumed_ids: Vec<String>,
    /// What tells this owner from any other. None in the original format.
    #[serde(default, deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// When its process started. None in the original format.
    #[serde(default, deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub process_start: Option<String>,
    /// Where `pid` has a meaning. None in the original format; all empty, so that it proves nothing, if
    /// it is written in a way that is not known here.
    #[serde(default, deserialize_with = "lenient_scope", skip_serializing_if = "Option::is_none")]
    pub scope: Option<Scope>,
    /// How long the lock of an owner that can't be probed counts as held after its last refresh.
    #[serde(default, deserialize_with = "lenient")]
    pub lease_seconds: Option<u32>,
    /// Process group of the command that works for the owner.
    #[serde(default, deserialize_with = "lenient")]
    pub command_group: Option<u32>,
    /// When the first process of that group started.
    #[serde(default, deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub command_start: Option<String>,
    /// The run that has taken the entries.
    #[serde(default, deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub run_id: Option<String>,
}

/// A later version may write other types into members that the original format does not have. Then
/// the owner must still be found: the four members decide, and not "unreadable".
fn lenient<'de, D: Deserializer<'de>, T: DeserializeOwned>(deserializer: D) -> Result<Option<T>, D::Error> {
    // Not through `serde_json::Value`, which refuses numbers that no float holds.
    let text = Box::<RawValue>::deserialize(deserializer)?;
    Ok(serde_json::from_str(text.get()).ok())
}

/// A record with a scope is none of the original format, whatever the scope looks like.
fn lenient_scope<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Scope>, D::Error> {
    let text = Box::<RawValue>::deserialize(deserializer)?;
    Ok(match serde_json::from_str::<Option<Object<Scope>>>(text.get()) {
        Ok(scope) => scope.map(|Object(scope)| scope),
        Err(_) => Some(Scope::default()),
    })
}

fn rfc3339<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    match DateTime::<FixedOffset>::parse_from_rfc3339(&text) {
        Ok(_) => Ok(text),
        Err(error) => Err(serde::de::Error::custom(format_args!("`started_at`: {error}"))),
    }
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
            consumed_ids: Vec::new(),
            token: Some(token.to_string()),
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
        let content = content.strip_prefix(b"\xef\xbb\xbf").unwrap_or(content);
        serde_json::from_slice(content).map(|Object(record)| record).map_err(|error| error.to_string())
    }

    /// The content of the lock file: pretty JSON with a newline at the end.
    pub fn to_file(&self) -> Vec<u8> {
        // Strings, numbers and lists of them: this can't fail.
        let mut content = serde_json::to_vec_pretty(self).unwrap_or_default();
        content.push(b'\n');
        content
    }

    /// How a lock file with this token shows it, somewhere in its last [`TOKEN_TAIL`] bytes.
    pub fn token_mark(token: Token) -> String {
        format!("\"token\": \"{token}\"")
    }

    /// Who it is, for messages.
    pub fn owner(&self) -> Owner {
        Owner { pid: self.pid, pod_name: self.pod_name.clone(), started_at: self.started_at.clone() }
    }

    /// The entries that it names. A text that is no canonical id names no file, and is passed over.
    pub fn entry_ids(&self) -> Vec<EntryId> {
        self.consumed_ids.iter().filter_map(|text| EntryId::parse(text)).collect()
    }

    /// When the owner took the lock.
    pub fn started_at(&self) -> Option<Time> {
        parse_rfc3339(&self.started_at)
    }
}

/// The members that follow `consumed_ids` fit into so many bytes (the host bounds the scope's parts),
/// so that ownership is checked without reading a million ids.
pub const TOKEN_TAIL: u64 = 8192;

/// A time as RFC 3339 writes it; `None` for any other text.
pub fn parse_rfc3339(text: &str) -> Option<Time> {
    let time = DateTime::parse_from_rfc3339(text).ok()?;
    Some(Time::new(time.timestamp(), time.timestamp_subsec_nanos()))
}

/// A time as the original format writes it: UTC, as many digits of the second as are needed.
pub fn to_rfc3339(time: Time) -> String {
    let seconds = i64::try_from(time.0.div_euclid(1_000_000_000)).unwrap_or(0);
    let nanoseconds = u32::try_from(time.0.rem_euclid(1_000_000_000)).unwrap_or(0);
    DateTime::<Utc>::from_timestamp(seconds, nanoseconds)
        .unwrap_or_default()
        .to_rfc3339_opts(SecondsFormat::AutoSi, true)
}
