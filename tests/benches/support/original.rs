//! A straight native port of the algorithm that this project replaces: what a program costs that does no more
//! than it must when nothing goes wrong. It does not exclude two that start at one moment, loses its consumed
//! entries' names with its process, and takes any file for an entry that parses.

use super::Durable;
use consolidation_guest::fs::Time;
use consolidation_guest::layout::{LOCK, STAGING};
use consolidation_guest::time::to_rfc3339;
use rustix::process::{Pid, test_kill_process};
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// A staging directory, as the original uses it.
pub(crate) struct Original {
    staging: PathBuf,
    durable: Durable,
}

/// Its lock.
#[derive(Serialize, Deserialize)]
struct LockRecord {
    pid: u32,
    pod_name: String,
    started_at: String,
    consumed_ids: Vec<String>,
}

/// Its entries.
#[derive(Serialize, Deserialize)]
pub(crate) struct Entry {
    source: Source,
    #[serde(default)]
    decisions: Vec<Decision>,
    #[serde(default)]
    discussions: Vec<Discussion>,
    #[serde(default)]
    attempts: Vec<Attempt>,
    #[serde(default)]
    requests: Vec<Request>,
}

#[derive(Serialize, Deserialize)]
struct Source {
    segment_id: String,
    range: (u64, u64),
}

#[derive(Serialize, Deserialize)]
struct Decision {
    options: Vec<String>,
    chosen: String,
    rationale: String,
}

#[derive(Serialize, Deserialize)]
struct Discussion {
    topic: String,
    points: Vec<String>,
}

#[derive(Serialize, Deserialize)]
struct Attempt {
    action: String,
    result: String,
    succeeded: bool,
}

#[derive(Serialize, Deserialize)]
struct Request {
    intent: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    target: Option<String>,
    summary: String,
}

impl Original {
    pub(crate) fn open(root: &Path, durable: Durable) -> Original {
        Original { staging: root.join(STAGING), durable }
    }

    /// Takes the lock for entries; of a live owner it is refused.
    pub(crate) fn acquire(&self, consumed: &[String]) {
        if !self.staging.exists() {
            fs::create_dir_all(&self.staging).expect("created");
        }
        let lock = self.staging.join(LOCK);
        if lock.exists() {
            let content = fs::read_to_string(&lock).expect("read");
            let held: Result<LockRecord, _> = serde_json::from_str(&content);
            let alive = held.is_ok_and(|held| {
                let pid = i32::try_from(held.pid).ok().and_then(Pid::from_raw);
                pid.is_some_and(|pid| test_kill_process(pid).is_ok())
            });
            assert!(!alive, "the lock is held");
        }
        let record = LockRecord {
            pid: std::process::id(),
            pod_name: "bench".into(),
            started_at: to_rfc3339(now()),
            consumed_ids: consumed.to_vec(),
        };
        let record = serde_json::to_string_pretty(&record).expect("it is JSON");
        fs::write(&lock, record).expect("written");
    }

    pub(crate) fn release(&self) {
        fs::remove_file(self.staging.join(LOCK)).expect("removed");
    }

    pub(crate) fn stage(&self, payload: &str) {
        if !self.staging.exists() {
            fs::create_dir_all(&self.staging).expect("created");
        }
        let entry: Entry = serde_json::from_str(payload).expect("it is an entry");
        let content = serde_json::to_string_pretty(&entry).expect("it is JSON");
        let id = new_id();
        let temporary = self.staging.join(format!(".{id}.tmp"));
        let mut file = File::create(&temporary).expect("created");
        file.write_all(content.as_bytes()).expect("written");
        if self.durable == Durable::Yes {
            file.sync_all().expect("synchronised");
        }
        drop(file);
        fs::rename(&temporary, self.staging.join(format!("{id}.json"))).expect("renamed");
        self.sync();
    }

    pub(crate) fn snapshot(&self) -> Vec<(String, Entry)> {
        let mut paths: Vec<PathBuf> = fs::read_dir(&self.staging)
            .expect("listed")
            .map(|found| found.expect("listed").path())
            .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
            .collect();
        paths.sort();
        let read = |path: PathBuf| {
            fs::metadata(&path).ok().filter(fs::Metadata::is_file)?;
            let content = fs::read_to_string(&path).ok()?;
            let entry = serde_json::from_str(&content).ok()?;
            Some((path.file_stem()?.to_string_lossy().into_owned(), entry))
        };
        paths.into_iter().filter_map(read).collect()
    }

    /// Deletes the entries that the lock was taken for, and releases it.
    pub(crate) fn clean_up(&self, consumed: &[String]) -> u64 {
        let mut removed = 0;
        for id in consumed {
            let path = self.staging.join(format!("{id}.json"));
            if path.exists() {
                fs::remove_file(&path).expect("removed");
                removed += 1;
            }
        }
        // What is deleted must not come back.
        self.sync();
        self.release();
        removed
    }

    fn sync(&self) {
        if self.durable == Durable::Yes {
            File::open(&self.staging).and_then(|directory| directory.sync_all()).expect("synchronised");
        }
    }
}

fn now() -> Time {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Time::new(i64::try_from(now.as_secs()).unwrap_or(0), now.subsec_nanos())
}

/// A UUIDv7.
fn new_id() -> String {
    let mut random = [0; 16];
    getrandom::fill(&mut random).expect("the system has randomness");
    let [millis, random] = [u128::from(now().millis()), u128::from_be_bytes(random)];
    let (high, low) = (random >> 64 & 0xfff, random & ((1 << 62) - 1) | 1 << 63);
    let id = millis << 80 | 7 << 76 | high << 64 | low;
    format!(
        "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
        id >> 96,
        id >> 80 & 0xffff,
        id >> 64 & 0xffff,
        id >> 48 & 0xffff,
        id & 0xffff_ffff_ffff
    )
}
