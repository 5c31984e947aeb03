//! The command line, with real processes: what it prints, how it exits, and what is on the disk
//! afterwards, also when processes race, are killed or find a workspace that somebody tampered with.

mod crash;
mod disk;
mod doctor;
mod filesystems;
mod hostile;
mod injected;
mod list;
mod liveness;
mod lock;
mod log;
mod namespace;
mod output;
pub(crate) mod process;
mod race;
mod run;
mod sample;
mod signals;
mod stage;
mod status;
mod stopped;
mod unlock;
mod wait;
