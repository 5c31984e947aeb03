//! A program that takes the lock as the original did: it looks whether there is a lock and whether its
//! process runs, and then writes it in place, without any exclusion. Invariant: its steps can be made one
//! by one, at the moments that a test picks.

use super::{OriginalRecord, original_record};
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

/// One attempt of such a program.
#[derive(Debug)]
pub(crate) struct Original {
    lock: PathBuf,
    pid: u32,
    file: Option<File>,
    pub(crate) step: Step,
}

/// What it has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Step {
    Nothing,
    Refused,
    /// It saw no lock, or one of a dead owner: it is going to write.
    Looked,
    /// It has opened the lock for writing, which truncates or creates it.
    Opened,
    /// It takes the lock for its own.
    Holds,
    Released,
}

impl Original {
    pub(crate) fn new(lock: &Path, pid: u32) -> Self {
        Original { lock: lock.into(), pid, file: None, step: Step::Nothing }
    }

    /// Looks at the lock.
    pub(crate) fn look(&mut self, alive: impl Fn(u32) -> bool) {
        let read = || serde_json::from_slice::<OriginalRecord>(&fs::read(&self.lock).ok()?).ok();
        let held = read().is_some_and(|record| alive(record.pid));
        self.step = if held { Step::Refused } else { Step::Looked };
    }

    /// Opens it, if it may.
    pub(crate) fn open(&mut self) {
        if self.step == Step::Looked {
            self.file = Some(File::create(&self.lock).expect("the lock opens"));
            self.step = Step::Opened;
        }
    }

    /// Writes its record, if it may. Then it holds, as far as it knows.
    pub(crate) fn write(&mut self) {
        self.open();
        if let Some(mut file) = self.file.take() {
            file.write_all(original_record(self.pid, "pod-original", &[]).as_bytes()).expect("written");
            self.step = Step::Holds;
        }
    }

    /// Removes the lock, whosever it is.
    pub(crate) fn release(&mut self) {
        assert_eq!(self.step, Step::Holds);
        let _ = fs::remove_file(&self.lock);
        self.step = Step::Released;
    }
}
