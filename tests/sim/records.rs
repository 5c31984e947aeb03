//! What was promised about memory records. Invariant: a record is at every moment what the last committed
//! run has made of it, or, until that run's changes are made, what it was before; what people wrote into
//! one is never lost.
//!
//! What is checked:
//!
//! - all or none: from its commit on the changes of a run are made or their new contents are there, whole;
//!   also after a power loss. Of a run that is not committed, or whose commit was lost, none is ever made;
//! - nothing half, nothing twice, nothing old: what gets the name of a record is what the last committed run
//!   has made of it, whoever puts it there and how late;
//! - nothing unread is replaced: a run is committed only if what it has read is what is there;
//! - the entries of a run are deleted only when its changes are made, and with full durability on the platter;
//! - what the records were before a committed run is kept.

use super::disk::Disk;
use consolidation_guest::layout::{BEFORE_PATH, MEMORY, NewContent, RunId, UNFINISHED_PATH};
use consolidation_guest::memory::Change;
use consolidation_guest::outcome::{Ending, Outcome};
use std::collections::{BTreeMap, BTreeSet};

/// The content of a record's file; none: there is none.
type Text = Option<Vec<u8>>;

#[derive(Clone, Debug)]
struct RecordChange {
    path: String,
    before: Text,
    after: Text,
}

#[derive(Clone, Debug)]
enum Logged {
    Run(RunId, Vec<RecordChange>),
    /// Somebody wrote this.
    Edit(String, Vec<u8>),
}

/// What a record should be.
#[derive(Default)]
struct Due {
    now: Text,
    /// The last run that changed it, which of its changes that is, and what the record was until then.
    last: Option<(NewContent, Text)>,
}

/// See the head of the module.
#[derive(Clone, Debug, Default)]
pub(super) struct Records {
    /// What was committed, and what people wrote, in this order.
    log: Vec<Logged>,
    /// What a process has given to its run.
    proposals: BTreeMap<usize, Vec<RecordChange>>,
    /// The last run with changes that a process has committed.
    committed_by: BTreeMap<usize, RunId>,
    /// Durable runs with changes that have reported success.
    reported: BTreeSet<RunId>,
    /// All texts that were ever to become records.
    texts: BTreeSet<Vec<u8>>,
    /// What people wrote over a record that a committed run was about to change.
    edits: Vec<Vec<u8>>,
    /// The power was lost without durability: nothing is known any more.
    torn: bool,
}

fn unfinished(name: &str) -> String {
    format!("{UNFINISHED_PATH}/{name}")
}

fn is_record(path: &str) -> bool {
    path.strip_prefix(MEMORY).is_some_and(|path| path.starts_with('/'))
}

/// Is this change of a run still to be made?
fn is_pending(content: NewContent, disk: &Disk) -> bool {
    disk.content(&unfinished(&content.name())).is_some()
        || disk.content(&unfinished(&content.aside_name())).is_some()
}

fn told(text: Option<&[u8]>) -> String {
    text.map_or("nothing".into(), |text| format!("{:?}", String::from_utf8_lossy(text)))
}

impl Records {
    /// Is there anything to watch?
    pub(super) fn in_use(&self) -> bool {
        !self.texts.is_empty()
    }

    /// A text for a record that no other is like.
    pub(super) fn new_text(&mut self, path: &str) -> String {
        let text = format!("---\n---\n\n{path} {}\n", self.texts.len() + 1);
        self.texts.insert(text.clone().into_bytes());
        text
    }

    /// A process gives changes to its run.
    pub(super) fn proposes(&mut self, process: usize, changes: &[Change]) {
        let bytes = |text: &Option<String>| text.clone().map(String::into_bytes);
        let change = |change: &Change| RecordChange {
            path: change.name.path(),
            before: bytes(&change.before),
            after: bytes(&change.after),
        };
        self.committed_by.remove(&process);
        self.proposals.insert(process, changes.iter().map(change).collect());
    }

    /// The run of a process has ended, one way or another.
    pub(super) fn over(&mut self, process: usize) {
        self.proposals.remove(&process);
        self.committed_by.remove(&process);
    }

    /// The last run that has changed records.
    pub(super) fn last_run(&self) -> Option<RunId> {
        self.log.iter().rev().find_map(|logged| match logged {
            Logged::Run(run, _) => Some(*run),
            Logged::Edit(..) => None,
        })
    }

    fn changes_of(&self, wanted: RunId) -> Option<&[RecordChange]> {
        self.log.iter().find_map(|logged| match logged {
            Logged::Run(run, changes) if *run == wanted => Some(changes.as_slice()),
            _ => None,
        })
    }

    fn due(&self, path: &str) -> Due {
        let mut due = Due::default();
        for logged in &self.log {
            match logged {
                Logged::Run(run, changes) => {
                    for (index, change) in (0..).zip(changes) {
                        if change.path == path {
                            let content = NewContent { run: *run, index };
                            due.last = Some((content, std::mem::replace(&mut due.now, change.after.clone())));
                        }
                    }
                }
                Logged::Edit(edited, text) if edited == path => due.now = Some(text.clone()),
                Logged::Edit(..) => {}
            }
        }
        due
    }

    /// Somebody writes a record, while nobody of ours is at work.
    pub(super) fn edited(&mut self, path: &str, text: &str, disk: &mut Disk) {
        let due = self.due(path);
        let text = text.as_bytes().to_vec();
        let edit = Logged::Edit(path.into(), text.clone());
        match due.last {
            // It comes before what that run makes of the record, and is kept. A removal leaves it.
            Some((content, _)) if due.now.is_some() && is_pending(content, disk) => {
                let position = self
                    .log
                    .iter()
                    .position(|logged| matches!(logged, Logged::Run(run, _) if *run == content.run));
                self.log.insert(position.unwrap_or(0), edit);
                self.edits.push(text.clone());
            }
            _ => self.log.push(edit),
        }
        self.texts.insert(text.clone());
        let modified = disk.modified(path).unwrap_or(consolidation_guest::fs::Time::from_nanos(0));
        disk.put(path, &text, modified);
    }

    /// A process has committed a run with this outcome.
    pub(super) fn committed(
        &mut self,
        run: RunId,
        by: usize,
        outcome: &Outcome,
        disk: &Disk,
    ) -> Result<(), String> {
        let changes = match (outcome.outcome, outcome.undoes.as_deref().and_then(RunId::parse)) {
            (Ending::Undone, Some(undone)) => {
                let undone = self.changes_of(undone).unwrap_or_default().iter();
                let back = undone.filter(|change| change.before != change.after).map(|change| RecordChange {
                    path: change.path.clone(),
                    before: change.after.clone(),
                    after: change.before.clone(),
                });
                back.collect()
            }
            _ => self.proposals.get(&by).cloned().unwrap_or_default(),
        };
        if self.torn {
            return Ok(());
        }
        let named =
            |change: &RecordChange| (change.path.clone(), change.before.is_none(), change.after.is_none());
        let ours: Vec<_> = changes.iter().map(named).collect();
        let theirs: Vec<_> = outcome
            .changes
            .iter()
            .map(|change| {
                (format!("{MEMORY}/{}/{}.md", change.kind, change.slug), change.created, change.removed)
            })
            .collect();
        if ours != theirs {
            return Err(format!("run {run} is to change {ours:?} and is committed with {theirs:?}"));
        }
        for (index, change) in (0..).zip(&changes) {
            let due = self.due(&change.path);
            if due.now != change.before {
                return Err(format!(
                    "run {run} is committed with a change of {} that was made of {}, and it should be {}",
                    change.path,
                    told(change.before.as_deref()),
                    told(due.now.as_deref())
                ));
            }
            let content = disk.content(&unfinished(&NewContent { run, index }.name()));
            if content != Some(change.after.as_deref().unwrap_or_default()) {
                let content = told(content);
                return Err(format!("run {run} is committed, and the new {} is {content}", change.path));
            }
        }
        if !changes.is_empty() {
            self.log.push(Logged::Run(run, changes));
            self.committed_by.insert(by, run);
        }
        Ok(())
    }

    /// The run of a process has reported success.
    pub(super) fn run_ended(&mut self, process: usize, durable: bool, disk: &Disk) -> Result<(), String> {
        let proposed = self.proposals.remove(&process).is_some_and(|changes| !changes.is_empty());
        let Some(run) = self.committed_by.remove(&process) else {
            return if proposed && !self.torn {
                Err(format!("the run of process {process} has changed nothing and reports success"))
            } else {
                Ok(())
            };
        };
        self.check_made(run, false, disk)?;
        if durable {
            self.reported.insert(run);
        }
        Ok(())
    }

    /// Are the changes of a run made, and if that is asked for, on the platter?
    pub(super) fn check_made(&self, run: RunId, durable: bool, disk: &Disk) -> Result<(), String> {
        if self.torn {
            return Ok(());
        }
        for (index, change) in (0..).zip(self.changes_of(run).unwrap_or_default()) {
            let content = NewContent { run, index };
            let names = [content.name(), content.aside_name()].map(|name| unfinished(&name));
            if names.iter().any(|name| disk.content(name).is_some()) {
                return Err(format!("run {run} goes on, and its change of {} is not made", change.path));
            }
            if durable && names.iter().any(|name| disk.comes_back(name)) {
                return Err(format!("run {run} goes on, and its change of {} is not durable", change.path));
            }
        }
        Ok(())
    }

    /// Something has got this name, or was written.
    pub(super) fn appeared(&self, path: &str, content: Option<&[u8]>) -> Result<(), String> {
        if !is_record(path) || self.torn {
            return Ok(());
        }
        let due = self.due(path);
        if due.now.as_deref() != content {
            let (due, content) = (told(due.now.as_deref()), told(content));
            return Err(format!("{path} becomes {content}, and it should be {due}"));
        }
        Ok(())
    }

    /// A name is gone.
    pub(super) fn vanished(&self, path: &str, disk: &Disk) -> Result<(), String> {
        if !is_record(path) || self.torn {
            return Ok(());
        }
        let due = self.due(path);
        // A removal puts it aside and looks whether it is the right one.
        if due.now.is_some() && !is_aside(due.now.as_deref(), disk) {
            return Err(format!("{path} is removed, and it should be {}", told(due.now.as_deref())));
        }
        Ok(())
    }

    /// The power has failed. `runs` are the committed runs on the disk.
    pub(super) fn after_power_loss(
        &mut self,
        torn: bool,
        runs: &BTreeSet<RunId>,
        disk: &Disk,
    ) -> Result<(), String> {
        self.torn |= torn;
        self.proposals.clear();
        self.committed_by.clear();
        if self.torn {
            self.reported.clear();
            return Ok(());
        }
        if let Some(run) = self.reported.iter().find(|run| !runs.contains(run)) {
            return Err(format!("the commit of run {run} is lost"));
        }
        // A commit that nobody was told of may be lost.
        self.log.retain(|logged| !matches!(logged, Logged::Run(run, _) if !runs.contains(run)));
        self.check(false, false, disk)
    }

    /// Looks at the whole disk. `quiet`: nobody is at work, and somebody has ended what was left.
    pub(super) fn check(&self, quiet: bool, lied_to: bool, disk: &Disk) -> Result<(), String> {
        if self.torn {
            return Ok(());
        }
        let mut paths: BTreeSet<String> = disk.paths().into_iter().collect();
        paths.retain(|path| is_record(path) && disk.content(path).is_some());
        for logged in &self.log {
            match logged {
                Logged::Run(_, changes) => paths.extend(changes.iter().map(|change| change.path.clone())),
                Logged::Edit(path, _) => {
                    paths.insert(path.clone());
                }
            }
        }
        for path in paths {
            let there = disk.content(&path);
            if lied_to {
                if let Some(text) = there
                    && !self.texts.contains(text)
                {
                    return Err(format!("{path} is half: {}", told(Some(text))));
                }
                continue;
            }
            let Due { now, last } = self.due(&path);
            if there == now.as_deref() {
                continue;
            }
            let is_on_its_way = !quiet
                && last.as_ref().is_some_and(|(content, until_then)| {
                    let new = disk.content(&unfinished(&content.name()));
                    let is_whole = new.is_none_or(|new| new == now.as_deref().unwrap_or_default());
                    let is_old = there == until_then.as_deref()
                        || (there.is_none() && is_aside(until_then.as_deref(), disk));
                    is_pending(*content, disk) && is_whole && is_old
                });
            let is_looked_at = !quiet && there.is_none() && is_aside(now.as_deref(), disk);
            if !is_on_its_way && !is_looked_at {
                let (there, due) = (told(there), told(now.as_deref()));
                return Err(format!("{path} is {there}, and it should be {due}; {last:?}"));
            }
        }
        if lied_to {
            return Ok(());
        }
        let everywhere = disk.paths();
        for edit in &self.edits {
            if !everywhere.iter().any(|path| disk.content(path) == Some(edit)) {
                return Err(format!("somebody wrote {} and it is lost", told(Some(edit))));
            }
        }
        for logged in &self.log {
            if let Logged::Run(run, changes) = logged {
                let kept = disk.content(&format!("{BEFORE_PATH}/{}", run.file_name())).unwrap_or_default();
                // In JSON a text has its line breaks escaped.
                let kept = String::from_utf8_lossy(kept).replace("\\n", "\n");
                for RecordChange { path, before, .. } in changes {
                    let before = before.as_deref().map(String::from_utf8_lossy).unwrap_or_default();
                    if !kept.ends_with('}') || !kept.contains(&*before) {
                        return Err(format!("what {path} was before run {run} is lost: {kept}"));
                    }
                }
            }
        }
        Ok(())
    }
}

/// Is a record put aside, to be looked at?
fn is_aside(text: Option<&[u8]>, disk: &Disk) -> bool {
    disk.paths().iter().any(|path| {
        path.strip_prefix(UNFINISHED_PATH).is_some_and(|name| name.ends_with(".gone"))
            && disk.content(path) == text
    })
}
