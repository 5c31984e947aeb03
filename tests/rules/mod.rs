//! The rules, natively: no component, no sandbox, no processes but those of a test's own world.

mod calls;
mod coexist;
#[cfg(unix)]
mod doctor;
mod durable;
mod entry;
mod fs;
mod gate;
#[cfg(unix)]
mod journal;
mod json;
mod layout;
mod liveness;
mod lock;
mod lock_faults;
mod memory;
mod order;
mod outcome;
#[cfg(unix)]
mod quarantine;
mod record;
#[cfg(unix)]
mod runs;
mod staging;
mod time;
