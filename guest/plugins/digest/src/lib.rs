//! A consolidation plugin that needs no model: it sorts what was learned by kind and topic, appends what
//! is new and drops exact repeats. Invariant: a record's body only ever grows at its end; what people
//! wrote into it stays as it is, and the same entries over the same memory give the same updates.
//!
//! What belongs into one record, and why:
//!
//! | kind | one record for each | reason |
//! |---|---|---|
//! | `discussion` | `topic` | that is what the points are about |
//! | `decision` | `chosen` | a payload doesn't name the question, and who looks for a decision looks for what was chosen |
//! | `attempt` | segment | an action is hardly ever worded twice alike, and an attempt means little without those before it |
//! | `request` | `target`, without one `intent` | requests for one thing add up, whoever made them |
//!
//! Topics are the same if they differ only in case and in having spaces, hyphens or underscores between
//! their words; [`slug`] keeps all others apart. Each item is one line of Markdown, and an item whose line
//! a record has already is not added again: only its source is, if that is new. One of more than
//! [`digest::MAX_LINE_BYTES`] becomes several lines, each of which says which piece of what it is.
//!
//! A body of [`digest::MAX_BODY_BYTES`] goes on in the record `<slug>-2`, then `-3`, and so on. A record
//! that somebody retired, or that can't be understood, is passed over in the same way. One that was
//! replaced goes on in its replacement.
//!
//! The rules are plain functions over the trait [`digest::Host`], so that they are tested natively.

#![cfg_attr(not(target_family = "wasm"), forbid(unsafe_code))]

pub mod digest;
pub mod markdown;
pub mod payload;
pub mod slug;

#[cfg(target_family = "wasm")]
mod bindings;
#[cfg(target_family = "wasm")]
mod component;
