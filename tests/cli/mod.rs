//! The command line, with real processes: what it prints, how it exits, and what is on the disk
//! afterwards, also when processes race, are killed or find a workspace that somebody tampered with.

mod address_space;
mod calls;
mod crash;
mod disk;
mod doctor;
mod dry_run;
mod filesystems;
mod gates;
mod hostile;
mod injected;
mod list;
mod liveness;
mod lock;
mod log;
mod memory;
mod namespace;
mod output;
mod plugin;
pub(crate) mod process;
mod quarantine;
mod race;
mod run;
mod sample;
mod signals;
mod stage;
mod status;
mod stopped;
mod undo;
mod unlock;
mod updates;
mod wait;
