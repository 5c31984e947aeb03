//! The tests of the whole project, in one program.

mod rules;
mod shipped_component;
mod support;
