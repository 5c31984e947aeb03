//! The tests of the whole project, in one program.

#[cfg(unix)]
mod cli;
mod component;
mod digest;
mod model;
mod plugin;

mod rules;
mod shipped_component;
#[cfg(unix)]
mod sim;
mod support;
#[cfg(unix)]
mod torture;
