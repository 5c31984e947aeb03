//! Plugins.

mod digest;
