//! The one home of the verdict on an owner: dead, alive or unknown. Invariant: pure functions of the
//! evidence; whatever can't be proved is never dead by itself.
//!
//! | evidence | verdict |
//! |---|---|
//! | same boot and process-id namespace; no such pid, or another start time than recorded | dead |
//! | same boot and process-id namespace; the process is a zombie | dead |
//! | same boot and process-id namespace; the pid runs, with the recorded start time if there is one | alive |
//! | same machine, another boot | dead once its lease has run out, at once if it has none |
//! | anything else | unknown; dead once its lease has run out |
//! | a pid that no process can have: 0, or above 2147483647 | dead, wherever it is |
//! | original format: no such pid, a zombie, or started 2 s or more after `started_at` | dead |

use crate::fs::Time;
use crate::layout::{FlagName, NameParts, UNKNOWN_PART, name_part};
use crate::prelude::*;
use crate::record::LockRecord;
use crate::system::{Evidence, Identity, ProcessState, System};

/// The lease of an owner whose record can't be read, in seconds.
pub const DEFAULT_LEASE_SECONDS: u32 = 60;

/// How much later than `started_at` a process may have started and still be the one that wrote a
/// record of the original format, in milliseconds: clocks are read with rounding.
const START_TOLERANCE_MS: u64 = 2_000;

/// What is to be thought of an owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Its lock and its flag may be removed. Why.
    Dead(String),
    /// It is there. Why.
    Alive(String),
    /// It is dead, and the command that it started works on. Why.
    Working(String),
    /// Nobody can tell from here. Why.
    Unknown(String),
}

impl Verdict {
    /// Why.
    pub fn reason(&self) -> &str {
        match self {
            Verdict::Dead(reason)
            | Verdict::Alive(reason)
            | Verdict::Working(reason)
            | Verdict::Unknown(reason) => reason,
        }
    }

    /// True for [`Verdict::Dead`].
    pub fn is_dead(&self) -> bool {
        matches!(self, Verdict::Dead(_))
    }
}

/// An owner's lease. Only one clock counts, that of the file system: `now` is the mtime of a file
/// that was written a moment ago, in the same directory.
#[derive(Clone, Copy, Debug)]
pub struct Lease {
    /// Its length; none: it never runs out.
    pub seconds: Option<u32>,
    /// When it was renewed, the mtime of the owner's file.
    pub renewed: Option<Time>,
    /// The present time.
    pub now: Option<Time>,
}

impl Lease {
    fn has_run_out(self) -> bool {
        match (self.seconds, self.renewed, self.now) {
            (Some(seconds), Some(renewed), Some(now)) => renewed.plus_seconds(seconds) < now,
            _ => false,
        }
    }
}

/// Judges the owner that a lock record names.
pub fn judge_record(
    record: &LockRecord,
    renewed: Option<Time>,
    now: Option<Time>,
    here: &Identity,
    system: &impl System,
) -> Verdict {
    let Some(scope) = &record.scope else {
        return judge_original(record, system);
    };
    let verdict = match relation_of(record.pid, &NameParts::of(scope), &NameParts::of(&here.scope)) {
        Relation::Same => {
            let start = record.process_start.as_deref().map_or_else(|| UNKNOWN_PART.into(), name_part);
            let verdict = judge_here(record.pid, &start, &system.inspect(record.pid));
            // The host is gone, but the command that it started works on: its effects would meet
            // those of the next run.
            match record.command_group {
                Some(group) if verdict.is_dead() => judge_command(group, verdict, record, system),
                _ => verdict,
            }
        }
        Relation::Nowhere => no_process(record.pid),
        Relation::EarlierBoot => earlier_boot(record.lease_seconds),
        Relation::Elsewhere(place) => Verdict::Unknown(place.into()),
    };
    settle_by_lease(verdict, Lease { seconds: record.lease_seconds, renewed, now })
}

/// Is anything left of the process group of a dead owner's command? Ids are used again, in a restarted
/// container soon: then the group's first process is there and has started at another time.
fn judge_command(group: u32, dead: Verdict, record: &LockRecord, system: &impl System) -> Verdict {
    if !system.group_alive(group) {
        return dead;
    }
    let first = system.inspect(group);
    match &record.command_start {
        Some(start) if !first.start.is_empty() && first.start != *start => dead,
        Some(_) => Verdict::Working(format!(
            "its command still runs in process group {group}, though {}; wait for it, or end it with `kill -- -{group}`",
            dead.reason()
        )),
        None => Verdict::Unknown(format!(
            "{}, but its command may still run: there is a process group {group}, which may be another one by now,",
            dead.reason()
        )),
    }
}

/// Judges the owner of a flag by the flag's name alone. `lease` is asked for when nothing else
/// decides.
pub fn judge_flag(
    flag: &FlagName,
    here: &Identity,
    system: &impl System,
    lease: &dyn Fn() -> Lease,
) -> Verdict {
    match relation_of(flag.pid, &flag.scope(), &NameParts::of(&here.scope)) {
        Relation::Same => match judge_here(flag.pid, flag.process_start(), &system.inspect(flag.pid)) {
            unknown @ Verdict::Unknown(_) => settle_by_lease(unknown, lease()),
            verdict => verdict,
        },
        Relation::Nowhere => no_process(flag.pid),
        Relation::EarlierBoot => {
            let lease = lease();
            settle_by_lease(earlier_boot(lease.seconds), lease)
        }
        Relation::Elsewhere(place) => settle_by_lease(Verdict::Unknown(place.into()), lease()),
    }
}

/// Copies of an image share the machine's id, and containers often the host name too: then another boot is
/// another machine, on which the owner may live. A lease tells. Without one the name has to do: after a
/// restart the lock would be held for ever.
fn earlier_boot(lease_seconds: Option<u32>) -> Verdict {
    match lease_seconds {
        Some(_) => Verdict::Unknown("it ran before this machine was restarted, or on a copy of it,".into()),
        None => Verdict::Dead("its machine was restarted since".into()),
    }
}

fn settle_by_lease(verdict: Verdict, lease: Lease) -> Verdict {
    match verdict {
        Verdict::Unknown(place) if lease.has_run_out() => Verdict::Dead(format!(
            "{place} and has not renewed its lease of {} s",
            lease.seconds.unwrap_or_default()
        )),
        Verdict::Unknown(place) => Verdict::Unknown(match lease.seconds {
            Some(seconds) => {
                format!("{place}; it counts as dead once it gave no sign of life for {seconds} s")
            }
            None => format!("{place}, and has no lease that could run out"),
        }),
        other => other,
    }
}

/// How an owner's scope relates to the own one.
enum Relation {
    /// Process ids mean the same.
    Same,
    /// The same machine before it was restarted.
    EarlierBoot,
    /// No system has such process ids, so there is no need to know which system it is.
    Nowhere,
    /// Process ids mean nothing here.
    Elsewhere(&'static str),
}

fn relation_of(pid: u32, theirs: &NameParts, ours: &NameParts) -> Relation {
    match relation(theirs, ours) {
        Relation::Elsewhere(_) if pid == 0 || i32::try_from(pid).is_err() => Relation::Nowhere,
        other => other,
    }
}

fn no_process(pid: u32) -> Verdict {
    Verdict::Dead(format!("there is no process {pid}"))
}

fn relation(theirs: &NameParts, ours: &NameParts) -> Relation {
    // An unknown part never equals another one.
    let same = |a: &str, b: &str| a == b && a != UNKNOWN_PART;
    let known = |a: &str, b: &str| a != UNKNOWN_PART && b != UNKNOWN_PART;
    if same(&theirs.boot, &ours.boot) {
        // A boot names its machine too.
        return if same(&theirs.pid_namespace, &ours.pid_namespace) {
            Relation::Same
        } else {
            Relation::Elsewhere("it runs in another process-id namespace")
        };
    }
    if same(&theirs.machine, &ours.machine) && known(&theirs.boot, &ours.boot) {
        return Relation::EarlierBoot;
    }
    Relation::Elsewhere(if known(&theirs.machine, &ours.machine) {
        "it runs on another machine"
    } else {
        "there is no telling on which machine it runs"
    })
}

/// Judges a process of the own scope.
fn judge_here(pid: u32, recorded_start: &str, evidence: &Evidence) -> Verdict {
    match evidence.state {
        ProcessState::Absent => no_process(pid),
        ProcessState::Zombie => Verdict::Dead(format!("process {pid} has ended and is a zombie")),
        ProcessState::Running => {
            let start = name_part(&evidence.start);
            if recorded_start == UNKNOWN_PART || start == UNKNOWN_PART {
                // Every container's first process has the same id, and the number of a namespace that is
                // gone is given to the next one: this may be a process of the same kind, or our own.
                Verdict::Unknown(format!("process {pid} runs, which may be another one by now,"))
            } else if recorded_start != start {
                Verdict::Dead(format!("process id {pid} belongs to another process now"))
            } else {
                Verdict::Alive(format!("process {pid} runs"))
            }
        }
    }
}

/// Judges the owner of a record of the original format, which is taken to be of the own scope.
fn judge_original(record: &LockRecord, system: &impl System) -> Verdict {
    let evidence = system.inspect(record.pid);
    // Its format has no start and no lease: while there is a process of its id, it lives.
    let verdict = match judge_here(record.pid, UNKNOWN_PART, &evidence) {
        Verdict::Unknown(_) => Verdict::Alive(format!("process {} runs", record.pid)),
        verdict => verdict,
    };
    if let (Verdict::Alive(_), Some(process), Some(taken)) =
        (&verdict, evidence.started_at_ms, record.started_at())
        && process >= taken.millis().saturating_add(START_TOLERANCE_MS)
    {
        return Verdict::Dead(format!(
            "process id {} belongs to a process that started after the lock was taken",
            record.pid
        ));
    }
    verdict
}
