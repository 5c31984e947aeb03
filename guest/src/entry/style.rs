//! How writers lay an entry out, of which there are few ways: what stands between the values of each is known as a
//! whole, and need not be taken apart. Invariant: a style is nothing but white space; what is written in one says
//! the same in any other.

use crate::json::Pattern;

/// What the values of an item must be.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Text,
    Texts,
    Truth,
    /// Or `null`, or missing.
    OptionalText,
}

/// Something for each list, in the order in which they are written: its name, and what an item of it must have.
macro_rules! lists {
    ($each:ident $with:tt) => {
        [
            $each!($with "decisions": "options" Texts, "chosen" Text, "rationale" Text),
            $each!($with "discussions": "topic" Text, "points" Texts),
            $each!($with "attempts": "action" Text, "result" Text, "succeeded" Truth),
            $each!($with "requests": "intent" Text, "target" OptionalText, "summary" Text),
        ]
    };
}

macro_rules! named {
    (() $name:literal: $($member:literal $form:ident),+) => {
        ($name, &[$(($member, Form::$form)),+])
    };
}

macro_rules! styled {
    (($colon:literal $comma:literal $line_1:literal $line_3:literal)
     $name:literal: $($member:literal $form:ident),+) => {
        List {
            name: Pattern::new(concat!($comma, $line_1, "\"", $name, "\"", $colon)),
            members: &[$(Member {
                first: Pattern::new(concat!($line_3, "\"", $member, "\"", $colon)),
                next: Pattern::new(concat!($comma, $line_3, "\"", $member, "\"", $colon)),
            }),+],
        }
    };
}

/// `lines` is what a line at each level begins with, from the object itself to the texts of an item.
macro_rules! style {
    (colon: $colon:literal, comma: $comma:literal,
     lines: $line_0:literal $line_1:literal $line_2:literal $line_3:literal $line_4:literal) => {
        Style {
            begin: Pattern::new(concat!("{", $line_1, "\"source\"", $colon, "{", $line_2)),
            segment_id: Pattern::new(concat!("\"segment_id\"", $colon)),
            range: Pattern::new(concat!($comma, $line_2, "\"range\"", $colon, "[", $line_3)),
            next_position: Pattern::new(concat!($comma, $line_3)),
            end_source: Pattern::new(concat!($line_2, "]", $line_1, "}")),
            lists: lists!(styled ($colon $comma $line_1 $line_3)),
            first_item: Pattern::new(concat!("[", $line_2, "{")),
            next_item: Pattern::new(concat!($comma, $line_2, "{")),
            end_item: Pattern::new(concat!($line_2, "}")),
            end_list: Pattern::new(concat!($line_1, "]")),
            first_text: Pattern::new(concat!("[", $line_4)),
            next_text: Pattern::new(concat!($comma, $line_4)),
            end_texts: Pattern::new(concat!($line_3, "]")),
            end: Pattern::new(concat!($line_0, "}")),
        }
    };
}

/// The lists.
pub(super) const LISTS: [(&str, &[(&str, Form)]); 4] = lists!(named());

/// What stands between the values of an entry.
pub(super) struct Style {
    pub(super) begin: Pattern,
    pub(super) segment_id: Pattern,
    pub(super) range: Pattern,
    pub(super) next_position: Pattern,
    pub(super) end_source: Pattern,
    /// Of [`LISTS`].
    pub(super) lists: [List; LISTS.len()],
    pub(super) first_item: Pattern,
    pub(super) next_item: Pattern,
    pub(super) end_item: Pattern,
    pub(super) end_list: Pattern,
    pub(super) first_text: Pattern,
    pub(super) next_text: Pattern,
    pub(super) end_texts: Pattern,
    pub(super) end: Pattern,
}

/// How a list begins behind another member, up to its value.
pub(super) struct List {
    pub(super) name: Pattern,
    pub(super) members: &'static [Member],
}

/// How a member of an item begins: the first one, and one behind others.
pub(super) struct Member {
    pub(super) first: Pattern,
    pub(super) next: Pattern,
}

/// A list or a list of texts without any, in each of the styles.
pub(super) static EMPTY: Pattern = Pattern::new("[]");

/// Of files: a member and an item a line, indented by two spaces a level. As JSON writers do that are asked for it.
pub(super) static PRETTY: Style =
    style!(colon: ": ", comma: ",", lines: "\n" "\n  " "\n    " "\n      " "\n        ");

/// A space behind each colon and comma, as Python writes.
pub(super) static SPACED: Style = style!(colon: ": ", comma: ", ", lines: "" "" "" "" "");

/// No space at all, as JavaScript and Rust write.
pub(super) static DENSE: Style = style!(colon: ":", comma: ",", lines: "" "" "" "" "");
