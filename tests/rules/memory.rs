//! Memory records: what people wrote stays, what a consolidator proposes counts as a whole.

use crate::support::faulty::{Fault, Faults, Op};
use crate::support::system::{TestSystem, World};
use crate::support::{TestWorkspace, entry_id};
use consolidation_guest::entry::Source;
use consolidation_guest::error::{Error, ErrorCode};
use consolidation_guest::fs::{FsErrorKind, Time};
use consolidation_guest::layout::RecordName;
use consolidation_guest::memory::draft::{Draft, MAX_DRAFT_BYTES};
use consolidation_guest::memory::format::{MAX_RECORD_BYTES, MAX_TITLE_CHARS, parse, render};
use consolidation_guest::memory::update::{MEMBERS, SCHEMA, parse_lines};
use consolidation_guest::memory::{Change, Origin, Record, Status, Update, UpdateLimits};
use consolidation_guest::native::NativeDir;
use consolidation_guest::workspace::Workspace;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::string::string_regex;
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

/// A record as people leave it behind: everything in it is known to the reader.
const RECORD: &str = "\
---
kind: decision
slug: use-sqlite
title: \"Use SQLite\"
status: active
sources:
  - {segment_id: \"session-1\", range: [0, 17]}
created: 2026-05-01T12:00:00Z
updated: 2026-05-01T12:00:00Z
---

One file, no server.
";

const LIMITS: UpdateLimits = UpdateLimits { max_updates: 100, max_update_bytes: 4 * 1024 * 1024 };

fn name() -> RecordName {
    RecordName::parse("decision", "use-sqlite").expect("a name")
}

#[track_caller]
fn read(text: &str) -> Record {
    parse(text).unwrap_or_else(|fault| panic!("{text:?}: {fault}")).record(&name())
}

/// Why a text is refused, with the line.
#[track_caller]
fn refusal_of(text: &str) -> String {
    match parse(text) {
        Ok(document) => panic!("{text:?} was read as {document:?}"),
        Err(fault) => fault.to_string(),
    }
}

/// A text after its record was changed.
#[track_caller]
fn changed(text: &str, change: impl FnOnce(&mut Record)) -> String {
    let mut record = read(text);
    change(&mut record);
    let changed = parse(text).expect("it was read before").render(&record);
    assert_eq!(read(&changed), record, "{text:?} became {changed:?}");
    changed
}

fn source(segment_id: &str, start: u64, end: u64) -> Source {
    Source { segment_id: segment_id.into(), start, end }
}

/// A workspace with a clock, and its records.
struct Memory {
    workspace: TestWorkspace,
    world: World,
    system: TestSystem,
}

impl Memory {
    fn new() -> Self {
        let world = World::new();
        world.set_clock(Time::new(1_780_000_000, 123_456_789));
        let system = world.start(1);
        Memory { workspace: TestWorkspace::new(), world, system }
    }

    fn with(records: &[(&str, &str)]) -> Self {
        let memory = Memory::new();
        for (name, text) in records {
            memory.put(name, text);
        }
        memory
    }

    fn path(&self, name: &str) -> PathBuf {
        self.workspace.root().join("memory").join(format!("{name}.md"))
    }

    fn put(&self, name: &str, text: impl AsRef<[u8]>) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("a directory")).expect("directories");
        fs::write(path, text).expect("a record");
    }

    fn open(&self) -> Workspace<NativeDir, TestSystem> {
        self.workspace.open(&self.system)
    }

    /// Sets the clock on by an hour.
    fn later(&self) {
        self.world.set_clock(Time::new(1_780_003_600, 0));
    }

    fn propose(&self, draft: &mut Draft, updates: &[Update]) -> Result<(), Error> {
        draft.propose(&self.open(), &origins(), updates)
    }

    /// What a draft of these updates would change.
    #[track_caller]
    fn changes(&self, updates: &[Update]) -> Vec<Change> {
        let mut draft = Draft::new(LIMITS);
        self.propose(&mut draft, updates).expect("proposed");
        draft.changes().cloned().collect()
    }

    /// The only file that a draft of this update changes, after it.
    #[track_caller]
    fn after(&self, update: Update) -> String {
        let changes = self.changes(&[update]);
        assert_eq!(changes.len(), 1, "{changes:?}");
        changes[0].after.clone().expect("an update removes nothing")
    }

    /// Why the last of these updates is refused. Nothing counts then.
    #[track_caller]
    fn refusal(&self, updates: &[Update]) -> Error {
        let mut draft = Draft::new(LIMITS);
        let error = self.propose(&mut draft, updates).expect_err("refused");
        assert_eq!(draft.len(), 0, "a part of a refused proposal counts");
        assert_eq!(error.index, Some(updates.len() as u64 - 1), "{error}");
        error
    }
}

/// Two entries: one of session-1, one of session-2.
fn origins() -> Vec<Origin> {
    vec![
        Origin { id: entry_id(10, 10), source: source("session-1", 0, 17) },
        Origin { id: entry_id(11, 11), source: source("session-2", 3, 5) },
    ]
}

fn update(name: &str) -> Update {
    let (kind, slug) = name.split_once('/').expect("kind/slug");
    Update { kind: kind.into(), slug: slug.into(), ..Update::default() }
}

fn new_record(name: &str) -> Update {
    Update { title: Some("Title".into()), body: Some("Body".into()), ..update(name) }
}

/// Of the entry of session-1 alone.
fn known(update: Update) -> Update {
    Update { entries: Some(vec![entry_id(10, 10).to_string()]), ..update }
}

// --- Reading -------------------------------------------------------------------------------------------

#[test]
fn record_is_read_with_everything_in_it() {
    let record = read(&RECORD.replace("---\n\n", "replaced_by: decision/use-postgres\n---\n\n"));
    let expected = Record {
        name: name(),
        title: "Use SQLite".into(),
        status: "active".into(),
        sources: vec![source("session-1", 0, 17)],
        created: "2026-05-01T12:00:00Z".into(),
        updated: "2026-05-01T12:00:00Z".into(),
        replaced_by: Some("decision/use-postgres".into()),
        body: "One file, no server.\n".into(),
    };
    assert_eq!(record, expected);
}

#[test]
fn file_without_front_matter_is_all_body_and_titled_by_its_first_heading() {
    let text = "Words.\n```\n# not a heading\n```\n## Use *SQLite* ##\n# Another\n";
    let record = read(text);
    assert_eq!((record.title.as_str(), record.status.as_str()), ("Use *SQLite*", "active"));
    assert_eq!(record.body, text);
    assert_eq!((record.sources, record.created, record.updated), (vec![], String::new(), String::new()));
    assert_eq!(read("no heading\n#hashtag\n#######\n# \n").title, "use-sqlite");
    let empty = read("");
    assert_eq!((empty.title.as_str(), empty.body.as_str()), ("use-sqlite", ""));
    let long = format!("# {}\n", "ä".repeat(1000));
    assert_eq!(read(&long).title.chars().count(), MAX_TITLE_CHARS);
}

#[test]
fn front_matter_with_nothing_in_it_leaves_everything_to_be_inferred() {
    for text in ["---\n---\n\n# Heading\n", "---\ntitle:\nstatus: ~\nsources:\n...\n\n# Heading\n"] {
        let record = read(text);
        assert_eq!((record.title.as_str(), record.status.as_str()), ("Heading", "active"), "{text:?}");
        assert_eq!(record.body, "# Heading\n");
    }
}

#[test]
fn byte_order_mark_and_carriage_returns_are_no_part_of_the_values() {
    let text = format!("\u{feff}{}", RECORD.replace('\n', "\r\n"));
    let record = read(&text);
    assert_eq!(Record { body: "One file, no server.\n".into(), ..record.clone() }, read(RECORD));
    assert_eq!(record.body, "One file, no server.\r\n");
}

#[test]
fn scalars_are_read_in_every_style_that_people_write() {
    for (written, expected) in [
        ("title: Use SQLite", "Use SQLite"),
        ("title:   Use SQLite   # for now", "Use SQLite"),
        ("title: 'It''s SQLite' # 'quoted'", "It's SQLite"),
        (r#"title: "a\tb \"c\" \\ \u00e9 \x41 \U0001F600 \ud83d\ude00 \/""#, "a\tb \"c\" \\ é A 😀 😀 /"),
        ("\"title\" : Quoted key", "Quoted key"),
        ("title: use: colons, [brackets] and a#hash", "use: colons, [brackets] and a#hash"),
        ("title: >90% of it", ">90% of it"),
        ("title: [WIP] Use SQLite", "[WIP] Use SQLite"),
        ("title: two\n  lines # note", "two lines"),
        ("title: \"two\n  quoted\n\n  lines\"", "two quoted\nlines"),
        ("title: \"no \\\n  blank\"", "no blank"),
        ("title: # the title\n  on the next line", "on the next line"),
        ("title:\n  \"on the next line\"", "on the next line"),
        ("title: |\n  kept\n    as it is\n  # and this\n", "kept\n  as it is\n# and this"),
        ("title: >- # folded\n  folded\n  lines\n\n  here", "folded lines\nhere"),
        ("title: >\n\n  led by a line", "\nled by a line"),
        ("title: |2\n   indented", " indented"),
        ("title: \"null\"", "null"),
    ] {
        assert_eq!(read(&format!("---\n{written}\n---\n")).title, expected, "{written:?}");
    }
}

#[test]
fn sources_are_read_in_every_style_that_people_write() {
    let expected = [source("a: b", 0, 17), source("s2", 3, 3)];
    for written in [
        "sources:\n  - {segment_id: \"a: b\", range: [0, 17]}\n  - {segment_id: s2, range: [3, 3]}",
        "sources:\n- {session_id: 'a: b', range: [0, 17]}\n# note\n- {session_id: s2, range: [3, 3], by: me}",
        "sources: [{segment_id: 'a: b', range: [0, 17]}, {range: [3,3], segment_id: s2}]",
        "sources: [{\"segment_id\":\"a: b\",\"range\":[0,17]},{\"segment_id\":\"s2\",\"range\":[3,3]}] # json",
        "sources: [\n  # first\n  {segment_id: 'a: b', range: [0, 17],},\n  {segment_id: s2, range: [3, 3]},\n]",
        "sources: # all of them\n  - segment_id: 'a: b' # one\n    range: [0, 17]\n\n  - range: [3, 3]\n    segment_id: s2",
        "sources:\n    -\n      segment_id: \"a: b\"\n      note: |\n        range: [9, 9]\n      range:\n      - 0\n      - 17\n    - session_id: s2\n      range:\n        - 3\n        - 3",
        "sources:\n\t- segment_id: 'a: b'\n\t  range: [0, 17]\n\t- {segment_id: s2, range: [3, 3]}",
    ] {
        for text in [written.to_owned(), written.replace('\n', "\r\n")] {
            let text = format!("---\n{text}\n---\n");
            assert_eq!(read(&text).sources, expected, "{text:?}");
        }
    }
    for none in ["sources:", "sources: []", "sources: [ ] # none", "sources: null", "sources:\n# none"] {
        assert_eq!(read(&format!("---\n{none}\n---\n")).sources, [], "{none:?}");
    }
}

#[test]
fn body_may_hold_what_looks_like_front_matter() {
    let body = "---\ntitle: no\n---\n\n---\n";
    let record = read(&format!("---\ntitle: yes\n---\n\n{body}"));
    assert_eq!((record.title.as_str(), record.body.as_str()), ("yes", body));
    assert_eq!(read("---\ntitle: yes\n---\nno blank line").body, "no blank line");
    assert_eq!(read("---\ntitle: yes\n---").body, "");
    assert_eq!(read("text\n---\ntitle: no\n---\n").title, "use-sqlite");
}

#[test]
fn record_that_has_taken_the_place_is_named_with_its_kind() {
    for (written, read_as) in
        [("use-postgres", "decision/use-postgres"), ("fact/x", "fact/x"), ("the other one", "the other one")]
    {
        let text = format!("---\nreplaced_by: {written}\n---\n");
        assert_eq!(read(&text).replaced_by.as_deref(), Some(read_as));
        // And is left as it is written.
        assert!(changed(&text, |record| record.title = "New".into()).contains(&text[4..]), "{written}");
    }
}

#[test]
fn what_is_not_understood_is_refused_with_its_line() {
    for (text, expected) in [
        ("---\ntitle: x\n", "line 1: the front matter that begins here does not end"),
        ("---", "line 1: the front matter"),
        ("\u{feff}---\r\n\r\ntext\r\n---\r\n", "line 3: `key: value` must stand here"),
        ("---\n  title: x\n---\n", "line 2: an indented line without a key"),
        ("---\n- a\n---\n", "line 2: `key: value`"),
        ("---\n{\"title\": \"x\"}\n---\n", "line 2: `key: value`"),
        ("---\ntitle: x\nowner: me\ntitle: y\n---\n", "line 4: `title` stands twice"),
        ("---\ntitle: x\n\"title\": y\n---\n", "line 3: `title` stands twice"),
        ("---\ntitle: \"x\n---\n", "line 2: in `title`: the quote that begins here does not end"),
        ("---\ntitle: \"x\" y\n---\n", "line 2: in `title`: there is more after the end"),
        ("---\ntitle: \"\\q\"\n---\n", "line 2: in `title`: an escape"),
        ("---\ntitle: \"\\ud800\"\n---\n", "line 2: in `title`: an escape"),
        ("---\ntitle: \"\\ud800\\u0041\"\n---\n", "line 2: in `title`: an escape"),
        ("---\ntitle: \"\\U00110000\"\n---\n", "line 2: in `title`: an escape"),
        ("---\ntitle: a\u{1b}[2J\n---\n", "line 2: in `title`: a control character, U+001B"),
        ("---\ntitle: a\rb\n---\n", "line 2: in `title`: a control character, U+000D"),
        ("---\ntitle:\n \r\r\n---\n", "line 3: in `title`: a control character, U+000D"),
        ("---\nsources:\n  - {segment_id: a\0, range: [0, 1]}\n---\n", "line 3: in `sources`: a control"),
        ("---\ntitle:\n  en: x\n---\n", "line 3: in `title`: a list or a mapping"),
        ("---\ntitle:\n- x\n---\n", "line 3: in `title`: a list or a mapping"),
        ("---\ntitle: x\n  # note\n  y\n---\n", "line 4: in `title`: a comment stands within"),
        ("---\ntitle: |\n  x\n# y\n  z\n---\n", "line 4: in `title`: a line of a block of text"),
        ("---\nstatus: a\nsources: session-1\n---\n", "line 3: in `sources`: it is no list"),
        ("---\nsources:\n  segment_id: a\n---\n", "line 3: in `sources`: a list or a mapping"),
        ("---\nsources: {segment_id: a, range: [0, 1]}\n---\n", "line 2: in `sources`: it is no list"),
        ("---\nsources:\n  - session-1\n---\n", "line 3: in `sources`: this is no source"),
        ("---\nsources:\n  - {range: [0, 1]}\n---\n", "line 3: in `sources`: a source without `segment_id`"),
        ("---\nsources: [{segment_id: a}]\n---\n", "line 2: in `sources`: a source without `range`"),
        (
            "---\nsources:\n  - {segment_id: a, session_id: a, range: [0, 1]}\n---\n",
            "line 3: in `sources`: a source with `segment_id` twice",
        ),
        (
            "---\nsources: [{segment_id: a, range: [1]}]\n---\n",
            "line 2: in `sources`: a source whose `range`",
        ),
        ("---\nsources: [{segment_id: a, range: [-1, 1]}]\n---\n", "whose `range` is not two whole"),
        ("---\nsources: [{segment_id: a, range: [2, 1]}]\n---\n", "ends before it starts"),
        ("---\nsources: [{segment_id: *a, range: [0, 1]}]\n---\n", "line 2: in `sources`: anchors"),
        ("---\nsources:\n  - segment_id: &a a\n    range: [0, 1]\n---\n", "line 3: in `sources`: anchors"),
        (
            "---\nsources: [{segment_id: a, range: [0, 1]}\n---\n",
            "line 2: in `sources`: the list that begins",
        ),
        ("---\nsources: [{segment_id: a\n---\n", "line 2: in `sources`: the mapping that begins"),
        ("---\nsources: [{a: b} {c: d}]\n---\n", "line 2: in `sources`: a `,` or a `]`"),
        ("---\nsources: [{a: [] b}]\n---\n", "line 2: in `sources`: a `,` or a `}`"),
        ("---\nsources: [,]\n---\n", "line 2: in `sources`: a value is missing"),
        ("---\nsources: [] x\n---\n", "line 2: in `sources`: there is more after"),
        ("---\nsources:\n  - {segment_id: a, range: [0, 1]}\n x: y\n---\n", "line 4: in `sources`: an item"),
    ] {
        let refusal = refusal_of(text);
        assert!(refusal.contains(expected), "{text:?}: {refusal}");
        assert!(refusal.starts_with("line ") && refusal.len() < 300, "{refusal}");
    }
}

#[test]
fn brackets_and_dashes_without_end_are_refused_and_not_followed() {
    for deep in ["[", "{a: ", "{\"a\":[", "- "] {
        let text = format!("---\nsources:\n  - {}\n---\n", deep.repeat(100_000));
        assert!(refusal_of(&text).contains("levels deep"), "{deep}");
    }
}

// --- Changing ------------------------------------------------------------------------------------------

#[test]
fn new_record_has_the_canonical_form() {
    let memory = Memory::new();
    let mut update = Update { title: Some("Use SQLite".into()), ..new_record("decision/use-sqlite") };
    update.body = Some("One file.\n\n- no server\n\n\n".into());
    let expected = "\
---
kind: decision
slug: use-sqlite
title: \"Use SQLite\"
status: active
sources:
  - {segment_id: \"session-1\", range: [0, 17]}
  - {segment_id: \"session-2\", range: [3, 5]}
created: 2026-05-28T20:26:40Z
updated: 2026-05-28T20:26:40Z
---

One file.

- no server
";
    assert_eq!(memory.after(update), expected);
}

#[test]
fn change_rewrites_the_lines_of_what_changed_and_no_others() {
    let text = "\
---
# Ours since the beginning.
owner:   ops   # not a person
status: active  # reviewed
title: 'Use SQLite'   # short
# The sources.
sources: # all
  - segment_id: session-1 # the first
    range: [0, 17]
    note: |
      kept
      # kept too
  # more to come
tags: [a,   b]
updated: yesterday

slug: use-sqlite
kind: decision
---
Body without a blank line before it
---
and without an end";
    let changed = changed(text, |record| {
        record.title = "Use \"SQLite\"\u{2028}".into();
        record.status = "retired".into();
        record.sources.push(source("s\n2", 1, 2));
        record.updated = "2026-05-28T20:26:40Z".into();
    });
    let expected = text
        .replace("'Use SQLite'   #", r#""Use \"SQLite\"\u2028" #"#)
        .replace("active  #", "retired #")
        .replace("# kept too\n", "# kept too\n  - {segment_id: \"s\\n2\", range: [1, 2]}\n")
        .replace("yesterday", "2026-05-28T20:26:40Z");
    assert_eq!(changed.replace("title:   ", "title: "), expected);
}

#[test]
fn source_is_added_to_a_list_in_its_own_style() {
    let one = "{segment_id: \"s\", range: [1, 2]}";
    let first = "{segment_id: a, range: [0, 1]}";
    for (before, after) in [
        ("sources:", format!("sources:\n  - {one}")),
        ("sources: [] # none yet", format!("sources: # none yet\n  - {one}")),
        ("sources: ~", format!("sources:\n  - {one}")),
        ("sources: [\n# none yet\n]", format!("sources: [{one}\n# none yet\n]")),
        (&format!("sources: [{first}] # x"), format!("sources: [{first}, {one}] # x")),
        (&format!("sources: [{first}, ]"), format!("sources: [{first}, {one} ]")),
        (
            &format!("sources: [\n  {first}, # the ] first\n]"),
            format!("sources: [\n  {first}, {one} # the ] first\n]"),
        ),
        (&format!("sources:\n- {first}\n# end\n\n"), format!("sources:\n- {first}\n- {one}\n# end\n\n")),
        (&format!("sources:\n   - {first}"), format!("sources:\n   - {first}\n   - {one}")),
    ] {
        for eol in ["\n", "\r\n"] {
            let file = |sources: &str| {
                let text = "---\nkind: decision\nslug: use-sqlite\ntitle: \"x\"\nstatus: active\n";
                format!("{text}{sources}\ntags: x\n---\n").replace('\n', eol)
            };
            let changed = changed(&file(before), |record| record.sources.push(source("s", 1, 2)));
            assert_eq!(changed, file(&after));
        }
    }
}

#[test]
fn change_keeps_carriage_returns_and_the_byte_order_mark() {
    let text = format!("\u{feff}{}", RECORD.replace('\n', "\r\n"));
    let changed = changed(&text, |record| {
        record.title = "New".into();
        record.replaced_by = Some("decision/other".into());
        record.sources.push(source("s", 1, 2));
    });
    let expected = text
        .replace("Use SQLite", "New")
        .replace("17]}\r\n", "17]}\r\n  - {segment_id: \"s\", range: [1, 2]}\r\n")
        .replace("---\r\n\r\n", "replaced_by: decision/other\r\n---\r\n\r\n");
    assert_eq!(changed, expected);
}

#[test]
fn keys_that_are_missing_are_added_in_their_order_as_soon_as_anything_changes() {
    let text = "---\n# note\nupdated: x\ntags: y\nstatus: z\n---\n# Heading\n";
    let changed = changed(text, |record| {
        record.body = "Other\n".into();
        record.created = "c".into();
    });
    let expected = "\
---
kind: decision
slug: use-sqlite
title: \"Heading\"
# note
updated: x
tags: y
status: z
created: c
---

Other
";
    assert_eq!(changed, expected);
    // What changes nothing writes nothing.
    assert_eq!(parse(text).expect("read").render(&read(text)), text);
}

#[test]
fn front_matter_is_put_before_a_file_that_has_none() {
    let text = "\u{feff}# Heading\r\nText\r\n";
    let changed = changed(text, |record| record.status = "retired".into());
    let expected =
        "\u{feff}---\nkind: decision\nslug: use-sqlite\ntitle: \"Heading\"\nstatus: retired\n---\n\n";
    assert_eq!(changed, format!("{}{}", expected.replace('\n', "\r\n"), &text[3..]));
    let named = changed_name("", "# Other\n");
    assert_eq!(
        named,
        "---\nkind: decision\nslug: use-sqlite\ntitle: \"use-sqlite\"\nstatus: active\n---\n\n# Other\n"
    );
}

#[track_caller]
fn changed_name(text: &str, body: &str) -> String {
    changed(text, |record| record.body = body.into())
}

#[test]
fn body_is_added_after_a_fence_that_ends_the_file() {
    let fence = "---\nkind: decision\nslug: use-sqlite\ntitle: \"x\"\nstatus: active\n---";
    assert_eq!(changed_name(fence, "Body\n"), format!("{fence}\n\nBody\n"));
    assert_eq!(changed_name(&format!("{fence}\n\nBody\n"), ""), format!("{fence}\n"));
}

#[test]
fn key_that_goes_leaves_the_comment_beside_it() {
    let text = RECORD.replace("---\n\n", "replaced_by: other # for speed\n# end\n---\n\n");
    let changed = changed(&text, |record| record.replaced_by = None);
    assert_eq!(changed, text.replace("replaced_by: other # for speed", "# for speed"));
}

#[test]
fn comment_that_stands_below_sources_after_a_change_leaves_the_file_readable() {
    for comment in ["   # a\u{1b}[2J\n", "# \0\n", "  #\r\r\n"] {
        let text = format!("---\n{comment}---\nBody\n");
        let changed = changed(&text, |record| record.sources.push(source("s", 1, 2)));
        let lines = format!("sources:\n  - {{segment_id: \"s\", range: [1, 2]}}\n{comment}---\n");
        assert!(changed.contains(&lines), "{changed:?}");
        let twice = self::changed(&changed, |record| record.sources.push(source("t", 3, 4)));
        assert_eq!(read(&twice).sources, [source("s", 1, 2), source("t", 3, 4)]);
        assert!(twice.contains(comment), "{twice:?}");
    }
}

#[test]
fn comments_within_a_value_that_goes_keep_their_bytes_lines_and_order() {
    let text = RECORD.replace(
        "title: \"Use SQLite\"",
        "title: # one \u{a0}\n   # two\u{2028}\n# three  \n  Use # four \n    # five",
    );
    let changed = changed(&text, |record| record.title = "New".into());
    let lines = "title: \"New\" # one \u{a0}\n   # two\u{2028}\n# three  \n  # four \n    # five";
    assert_eq!(changed, RECORD.replace("title: \"Use SQLite\"", lines));
}

#[test]
fn comment_of_a_key_that_goes_is_no_line_of_the_text_before_it() {
    for before in [
        "status: active\ntitle: |\n  Use SQLite\n",
        "status: replaced\ntitle: >\n  Use SQLite\nnote: |\n  mine\n",
    ] {
        let text = format!(
            "---\nkind: decision\nslug: use-sqlite\n{before}replaced_by:\n   # May\n  decision/x # x\n---\n"
        );
        let changed = changed(&text, |record| record.replaced_by = None);
        assert!(changed.contains(&format!("{before}# May\n# x\n")), "{changed:?}");
    }
}

#[test]
fn comment_between_sources_and_nothing_leaves_the_file_readable() {
    for comment in ["# see \u{1}", "  # \u{b}", "#\u{85} "] {
        for nothing in ["  ~", "  null # none"] {
            for eol in ["\n", "\r\n"] {
                let text = format!("---\ntitle: T\nsources:\n{comment}\n{nothing}\n---\n").replace('\n', eol);
                let changed = changed(&text, |record| record.sources.push(source("s", 1, 2)));
                assert!(changed.contains(&format!("sources:{eol}{comment}{eol}")), "{changed:?}");
                assert_eq!(read(&changed).sources, [source("s", 1, 2)]);
            }
        }
    }
}

#[test]
fn body_is_added_after_a_fence_that_ends_the_file_with_half_a_line_end() {
    let text = "---\r\nkind: decision\r\nslug: use-sqlite\r\ntitle: \"T\"\r\nstatus: active\r\n---\r";
    let changed = changed(text, |record| record.body = "---\nhello\n".into());
    assert_eq!(changed, format!("{text}\n\r\n---\nhello\n"));
}

#[test]
fn block_of_blanks_that_are_none_to_yaml_goes_as_a_whole() {
    for blanks in ["\u{2028}", "\u{a0}", "\u{3000} "] {
        let text = RECORD.replace("status: active", &format!("status: |\n  {blanks}\n  {blanks}"));
        let changed = changed(&text, |record| record.status = "retired".into());
        assert_eq!(changed, RECORD.replace("active", "retired"));
    }
}

#[test]
fn time_of_blanks_says_nothing_and_stays() {
    for blanks in ["\"  \" # when?", "\u{a0}", "|\n  \u{2028}", ""] {
        let text = RECORD.replace("created: 2026-05-01T12:00:00Z", &format!("created: {blanks}"));
        assert_eq!(read(&text).created, "");
        let changed = changed(&text, |record| record.title = "New".into());
        assert_eq!(changed, text.replace("Use SQLite", "New"));
    }
}

#[test]
fn value_over_several_lines_that_the_path_corrects_goes_with_all_of_them() {
    let text = RECORD.replace("kind: decision", "kind: fact\n  or # which?\n\n# of\nold: 1");
    let changed = changed(&text, |record| record.title = "New".into());
    let expected = RECORD.replace("kind: decision", "kind: decision # which?\n\n# of\nold: 1");
    assert_eq!(changed, expected.replace("Use SQLite", "New"));
}

#[test]
fn path_decides_kind_and_slug() {
    let text = RECORD.replace("use-sqlite", "\"old\" # moved").replace("kind: decision", "kind:");
    assert_eq!(read(&text).name, name());
    let changed = changed(&text, |record| record.title = "New".into());
    assert_eq!(changed, RECORD.replace("Use SQLite", "New").replace("use-sqlite", "use-sqlite # moved"));
}

#[test]
fn names_that_yaml_takes_for_other_things_are_quoted() {
    for (slug, written) in [
        ("null", "\"null\""),
        ("true", "\"true\""),
        ("12", "\"12\""),
        ("2026-05-01", "\"2026-05-01\""),
        ("n", "\"n\""),
        ("nil", "nil"),
    ] {
        let record = Record { name: RecordName::parse("a", slug).expect("a name"), ..read(RECORD) };
        assert!(render(&record).contains(&format!("slug: {written}\n")), "{}", render(&record));
    }
}

// --- The directory -------------------------------------------------------------------------------------

#[test]
fn missing_memory_is_an_empty_one_and_is_not_made_by_looking() {
    let memory = Memory::new();
    let pod = memory.open();
    assert_eq!(pod.memory_records(None).expect("listed"), Default::default());
    assert_eq!(pod.memory_records(Some("decision")).expect("listed"), Default::default());
    assert_eq!(pod.memory_record("decision", "x").expect("read"), None);
    assert!(!memory.workspace.root().join("memory").exists());
    memory.put("fact/y", RECORD);
    assert_eq!(pod.memory_record("decision", "x").expect("read"), None);
    assert_eq!(pod.memory_record("fact", "x").expect("read"), None);
    assert_eq!(pod.memory_records(Some("decision")).expect("listed"), Default::default());
}

#[test]
fn records_are_listed_by_kind_and_slug_without_what_is_long() {
    let memory = Memory::with(&[("fact/b", RECORD), ("decision/z", RECORD), ("fact/a", "# A\n")]);
    let names = |kind| {
        let listing = memory.open().memory_records(kind).expect("listed");
        assert_eq!(listing.unreadable, []);
        let told = |record: &Record| {
            assert!(record.body.is_empty() && record.sources.is_empty(), "{record:?}");
            format!("{} {}", record.name, record.title)
        };
        listing.records.iter().map(told).collect::<Vec<_>>()
    };
    assert_eq!(names(None), ["decision/z Use SQLite", "fact/a A", "fact/b Use SQLite"]);
    assert_eq!(names(Some("fact")), ["fact/a A", "fact/b Use SQLite"]);
    let record = memory.open().memory_record("fact", "b").expect("read").expect("there");
    assert_eq!((record.sources.len(), record.body.as_str()), (1, "One file, no server.\n"));
}

#[test]
fn foreign_names_are_passed_over() {
    let memory = Memory::with(&[
        ("decision/good", RECORD),
        ("decision/Bad", RECORD),
        ("decision/.hidden", RECORD),
        ("decision/a_b", RECORD),
        ("decision/-a", RECORD),
        ("Decision/good", RECORD),
        (".git/good", RECORD),
    ]);
    for name in ["good.md~", "good.txt", ".good.md.swp", "#good.md#", "good.md.tmp", ".md", "4913"] {
        fs::write(memory.workspace.root().join("memory/decision").join(name), "x").expect("a file");
    }
    fs::write(memory.workspace.root().join("memory/README.md"), "x").expect("a file");
    let listing = memory.open().memory_records(None).expect("listed");
    assert_eq!(listing.unreadable, []);
    assert_eq!(
        listing.records.iter().map(|record| record.name.to_string()).collect::<Vec<_>>(),
        ["decision/good"]
    );
}

#[test]
fn what_is_no_name_is_refused() {
    let memory = Memory::with(&[("decision/good", RECORD)]);
    let pod = memory.open();
    for (kind, slug) in [("..", "x"), ("decision", "../decision/good"), ("", ""), ("a", &"x".repeat(65))] {
        let error = pod.memory_record(kind, slug).expect_err("no name");
        assert_eq!(error.code, ErrorCode::InvalidInput, "{error}");
    }
    let error = pod.memory_records(Some("..\u{1b}")).expect_err("no name");
    assert_eq!(error.code, ErrorCode::InvalidInput);
    assert!(error.message.starts_with("`..\\u{1b}` names no kind"), "{error}");
}

#[cfg(unix)]
#[test]
fn what_cannot_be_read_is_named_and_hides_nothing_else() {
    use std::os::unix::fs::symlink;
    let memory = Memory::with(&[("decision/good", RECORD), ("decision/open", "---\ntitle: x\n")]);
    memory.put("decision/latin", b"---\ntitle: x\n---\n\n\xe4\n");
    memory.put("decision/large", vec![b'x'; usize::try_from(MAX_RECORD_BYTES).expect("small") + 1]);
    let root = memory.workspace.root().join("memory");
    fs::create_dir(memory.path("decision/dir")).expect("a directory");
    symlink("good.md", memory.path("decision/link")).expect("a link");
    symlink("decision", root.join("fact")).expect("a link");
    fs::write(root.join("file"), "x").expect("a file");
    crate::support::make_fifo(&memory.path("decision/pipe"));
    let listing = memory.open().memory_records(None).expect("listed");
    assert_eq!(listing.records.len(), 1);
    let expected = [
        ("memory/decision/dir.md", "a directory", ErrorCode::WrongFileType),
        ("memory/decision/large.md", "larger than 1048576 bytes", ErrorCode::Unusable),
        ("memory/decision/latin.md", "line 5: it is not UTF-8", ErrorCode::Unusable),
        ("memory/decision/link.md", "a symbolic link", ErrorCode::WrongFileType),
        ("memory/decision/open.md", "line 1: the front matter", ErrorCode::Unusable),
        ("memory/decision/pipe.md", "a special file", ErrorCode::WrongFileType),
        ("memory/fact", "another kind of file", ErrorCode::WrongFileType),
        ("memory/file", "another kind of file", ErrorCode::WrongFileType),
    ];
    assert_eq!(listing.unreadable.len(), expected.len(), "{listing:?}");
    for ((path, reason), (expected_path, words, code)) in listing.unreadable.iter().zip(expected) {
        assert_eq!(path, expected_path);
        assert!(reason.contains(words), "{reason}");
        assert!(reason.starts_with("it is ") || path.matches('/').count() == 1, "{reason}");
        let slug = path.rsplit('/').next().and_then(|name| name.strip_suffix(".md"));
        let kind = if path.ends_with("file") { "file" } else { "fact" };
        let (kind, slug) = slug.map_or((kind, "x"), |slug| ("decision", slug));
        let error = memory.open().memory_record(kind, slug).expect_err("not readable");
        assert_eq!(error.code, code, "{error}");
        // Nor is it written over. What concerns one record is told from what concerns all of them.
        let code = if path.matches('/').count() == 1 { code } else { ErrorCode::Unusable };
        assert_eq!(memory.refusal(&[new_record(&format!("{kind}/{slug}"))]).code, code);
    }
}

#[test]
fn failing_reads_are_reported() {
    let memory = Memory::with(&[("decision/a", RECORD), ("decision/b", RECORD)]);
    let open = |faults: &Faults| memory.workspace.open_faulty(&memory.system, faults);
    let refuse = Fault::Refuse(FsErrorKind::Io);
    for op in [Op::OpenDir, Op::List] {
        let error = open(&Faults::of(op, refuse)).memory_records(None).expect_err("a part is no listing");
        assert_eq!(error.code, ErrorCode::Io, "{error}");
    }
    for op in [Op::Stat, Op::Open, Op::Read] {
        let faults =
            Faults::by(
                move |_, call| {
                    if call.op == op && call.path.ends_with("a.md") { refuse } else { Fault::Pass }
                },
            );
        let listing = open(&faults).memory_records(None).expect("listed");
        assert_eq!((listing.records.len(), listing.unreadable.len()), (1, 1), "{op:?}: {listing:?}");
        assert_eq!(open(&faults).memory_record("decision", "a").expect_err("unread").code, ErrorCode::Io);
    }
    // One that vanishes between the listing and the reading is not there.
    let gone = Faults::of(Op::Stat, Fault::Refuse(FsErrorKind::NotFound));
    assert_eq!(open(&gone).memory_records(None).expect("listed"), Default::default());
}

#[test]
fn nothing_is_written_by_reading_and_proposing() {
    let memory = Memory::with(&[("decision/a", RECORD)]);
    let faults = Faults::none();
    let pod = memory.workspace.open_faulty(&memory.system, &faults);
    let mut draft = Draft::new(LIMITS);
    draft.record(&pod, "decision", "a").expect("read");
    draft.propose(&pod, &origins(), &[new_record("decision/a"), new_record("fact/b")]).expect("proposed");
    draft.records(&pod, None).expect("listed");
    assert_eq!(faults.changes(), [] as [String; 0]);
    assert_eq!(fs::read_to_string(memory.path("decision/a")).expect("a file"), RECORD);
}

// --- Drafts --------------------------------------------------------------------------------------------

#[test]
fn update_changes_what_it_names_and_leaves_the_rest() {
    let memory = Memory::with(&[("decision/use-sqlite", RECORD)]);
    let now = |text: &str| text.replace("updated: 2026-05-01T12:00:00Z", "updated: 2026-05-28T20:26:40Z");
    let base = || known(update("decision/use-sqlite"));
    let title = Update { title: Some("Use Postgres".into()), ..base() };
    assert_eq!(memory.after(title), now(&RECORD.replace("Use SQLite", "Use Postgres")));
    let body = Update { body: Some("Two files".into()), ..base() };
    assert_eq!(memory.after(body), now(&RECORD.replace("One file, no server.", "Two files")));
    let status = Update { status: Some(Status::Retired), ..base() };
    assert_eq!(memory.after(status), now(&RECORD.replace("active", "retired")));
    let sources = Update { entries: None, ..base() };
    let line = "  - {segment_id: \"session-2\", range: [3, 5]}\ncreated";
    assert_eq!(memory.after(sources), now(&RECORD.replace("created", line)));
}

#[test]
fn update_that_changes_nothing_is_no_change() {
    let memory = Memory::with(&[
        ("decision/use-sqlite", RECORD),
        ("decision/crlf", &RECORD.replace('\n', "\r\n")),
        ("decision/bare", "# Use SQLite\n\nOne file"),
    ]);
    let same = |name, body: &str| {
        known(Update {
            title: Some("Use SQLite".into()),
            body: Some(body.into()),
            status: Some(Status::Active),
            ..update(name)
        })
    };
    let none = |update| Update { entries: Some(vec![]), ..update };
    for update in [
        same("decision/use-sqlite", "One file, no server."),
        same("decision/use-sqlite", "One file, no server.\r\n\r\n"),
        same("decision/crlf", "One file, no server.\n"),
        none(same("decision/bare", "# Use SQLite\n\nOne file\n")),
        none(update("decision/use-sqlite")),
    ] {
        assert_eq!(memory.changes(&[update]), []);
    }
}

#[test]
fn title_that_nobody_could_propose_may_come_back_as_it_is() {
    let long = "x".repeat(400);
    for title in ["|\n  two\n  lines", "\"a\\tb\"", long.as_str()] {
        let text = RECORD.replace("\"Use SQLite\"", title);
        let memory = Memory::with(&[("decision/use-sqlite", &text)]);
        let back = Update { title: Some(read(&text).title), ..known(update("decision/use-sqlite")) };
        assert_eq!(memory.changes(&[Update { entries: Some(vec![]), ..back.clone() }]), []);
        let body = Update { body: Some("Two files".into()), ..back.clone() };
        assert!(memory.after(body).contains(title), "{title}");
        // Also after it was another within the run, and not where it never was.
        let mut draft = Draft::new(LIMITS);
        memory.propose(&mut draft, &[Update { title: Some("New".into()), ..back.clone() }]).expect("taken");
        memory.propose(&mut draft, std::slice::from_ref(&back)).expect("taken");
        let elsewhere = Update { kind: "fact".into(), body: Some("x".into()), ..back };
        assert_eq!(memory.refusal(&[elsewhere]).code, ErrorCode::InvalidInput);
    }
}

#[test]
fn change_that_is_taken_back_disappears() {
    let memory = Memory::with(&[("decision/use-sqlite", RECORD)]);
    let retitled = |title: &str| known(Update { title: Some(title.into()), ..update("decision/use-sqlite") });
    let mut draft = Draft::new(LIMITS);
    memory.propose(&mut draft, &[retitled("Other")]).expect("proposed");
    assert_eq!((draft.len(), draft.is_empty()), (1, false));
    let change = draft.changes().next().expect("a change");
    let after = change.after.as_deref().expect("a text");
    assert_eq!(change.before.as_deref(), Some(RECORD));
    // As JSON strings, which they are kept as for an undo.
    let json = |text: &str| serde_json::to_string(text).expect("JSON").len() - 2;
    assert_eq!(draft.size(), (json(RECORD) + json(after)) as u64);
    memory.later();
    memory.propose(&mut draft, &[retitled("Use SQLite")]).expect("proposed");
    assert_eq!((draft.len(), draft.is_empty(), draft.size()), (0, true, 0));
}

#[test]
fn updates_of_one_record_apply_in_their_order() {
    let memory = Memory::new();
    let mut retitled = update("decision/a");
    retitled.title = Some("Second".into());
    let replaced = Update {
        status: Some(Status::Replaced),
        replaced_by: Some("b".into()),
        body: Some("Third".into()),
        ..update("decision/a")
    };
    let changes = memory.changes(&[new_record("decision/a"), retitled, replaced, new_record("decision/b")]);
    let record = |change: &Change| {
        parse(change.after.as_deref().expect("a text")).expect("a record").record(&change.name)
    };
    let names: Vec<_> = changes.iter().map(|change| change.name.to_string()).collect();
    assert_eq!(names, ["decision/a", "decision/b"]);
    let first = record(&changes[0]);
    assert_eq!((first.title.as_str(), first.status.as_str()), ("Second", "replaced"));
    assert_eq!((first.replaced_by.as_deref(), first.body.as_str()), (Some("decision/b"), "Third\n"));
    assert_eq!(first.sources.len(), 2);
}

#[test]
fn other_status_clears_the_record_in_its_place() {
    let text = RECORD.replace("active", "replaced").replace("---\n\n", "replaced_by: fact/new\n---\n\n");
    let memory = Memory::with(&[("decision/a", &text), ("decision/b", &text)]);
    let set = |name, status| known(Update { status: Some(status), ..update(name) });
    for (name, status) in [("decision/a", Status::Active), ("decision/b", Status::Retired)] {
        let after = memory.after(set(name, status));
        assert!(!after.contains("replaced_by"), "{after}");
        assert!(after.contains(&format!("status: {}\n", status.as_str())), "{after}");
    }
    // What does not speak of the status leaves both.
    let retitled = known(Update { title: Some("New".into()), ..update("decision/a") });
    assert!(memory.after(retitled).contains("replaced_by: fact/new\n"));
}

#[test]
fn refused_update_is_named_and_nothing_of_its_proposal_counts() {
    let memory = Memory::with(&[("decision/use-sqlite", RECORD)]);
    let title = |title: &str| Update { title: Some(title.into()), ..new_record("decision/a") };
    let replaced = |status, by: Option<&str>| Update {
        status,
        replaced_by: by.map(Into::into),
        ..new_record("decision/a")
    };
    let entries = |entries: &[&str]| Update {
        entries: Some(entries.iter().map(ToString::to_string).collect()),
        ..new_record("decision/a")
    };
    let large = "x".repeat(usize::try_from(MAX_RECORD_BYTES).expect("small"));
    let body = |body: String| Update { body: Some(body), ..new_record("decision/a") };
    let other = entry_id(9, 9).to_string();
    let upper = entry_id(10, 10).to_string().to_uppercase();
    for (update, words) in [
        (new_record("Decision/a"), "names no record"),
        (Update { slug: "../../etc".into(), ..new_record("decision/a") }, "names no record"),
        (title(""), "title is empty"),
        (title(" \t"), "title is empty"),
        (title("two\nlines"), "line end or a control character"),
        (title("two\u{2028}lines"), "line end or a control character"),
        (title("\u{1b}[2J"), "line end or a control character"),
        (title(&"ä".repeat(301)), "301 characters"),
        (replaced(Some(Status::Replaced), None), "needs `replaced_by`"),
        (replaced(Some(Status::Active), Some("b")), "goes with the status `replaced`"),
        (replaced(None, Some("b")), "goes with the status `replaced`"),
        (replaced(Some(Status::Replaced), Some("a")), "the record itself"),
        (replaced(Some(Status::Replaced), Some("decision/a")), "the record itself"),
        (replaced(Some(Status::Replaced), Some("a/b/c")), "`a/b/c`, which names no record"),
        (replaced(Some(Status::Replaced), Some("")), "``, which names no record"),
        (entries(&[&other]), &format!("`{other}`, which is none")),
        (entries(&[&upper]), &format!("`{upper}`, which is none")),
        (entries(&["\u{1b}"]), "`\\u{1b}`, which is none"),
        (Update { title: None, ..new_record("decision/a") }, "needs a `title`"),
        (Update { body: None, ..new_record("decision/a") }, "needs a `body`"),
        (body(format!("{large}x")), "a record has 1048576 at most"),
        (body(large.clone()), "its file would have"),
        (body(large.repeat(4)), "may have 4194304 at most"),
    ] {
        let error = memory.refusal(&[new_record("decision/b"), new_record("decision/c"), update]);
        assert_eq!(error.code, ErrorCode::InvalidInput, "{error}");
        assert!(error.message.contains(words), "{error}");
        assert!(error.message.starts_with("cannot take the update of "), "{error}");
    }
}

#[test]
fn names_from_a_plugin_are_shown_printable_and_short() {
    let memory = Memory::new();
    let hostile = Update { kind: "\u{1b}]0;x\u{7}\n".into(), slug: "y".repeat(1 << 20), ..Update::default() };
    let error = memory.refusal(&[hostile]);
    assert!(error.message.len() < 500 && !error.message.contains(char::is_control), "{error}");
    let long = Update { entries: Some(vec!["z".repeat(1 << 20)]), ..new_record("decision/a") };
    assert!(memory.refusal(&[long]).message.len() < 400);
}

#[test]
fn proposal_of_too_many_updates_is_refused() {
    let memory = Memory::new();
    let mut draft = Draft::new(UpdateLimits { max_updates: 2, ..LIMITS });
    let updates = [new_record("decision/a"), new_record("decision/b"), new_record("decision/c")];
    let error = memory.propose(&mut draft, &updates).expect_err("too many");
    assert_eq!((error.code, error.index), (ErrorCode::InvalidInput, Some(2)));
    assert!(draft.is_empty());
    memory.propose(&mut draft, &updates[..2]).expect("as many as may be");
}

#[test]
fn draft_that_grows_too_large_takes_nothing_more() {
    let memory = Memory::new();
    let mut draft = Draft::new(LIMITS);
    let body = "x".repeat(1_000_000);
    let large =
        |number: u64| Update { body: Some(body.clone()), ..new_record(&format!("decision/r{number}")) };
    let fitting = MAX_DRAFT_BYTES / 1_000_300;
    for number in 0..fitting {
        memory.propose(&mut draft, &[large(number)]).expect("it fits");
    }
    let size = draft.size();
    let error = memory
        .propose(&mut draft, &[new_record("decision/small"), large(fitting), large(fitting + 1)])
        .expect_err("too large");
    assert_eq!(error.code, ErrorCode::NoSpace, "{error}");
    assert_eq!((draft.len() as u64, draft.size()), (fitting, size));
    // What is there already may change, and shrink.
    let shrunk = Update { body: Some("small".into()), ..update("decision/r0") };
    memory.propose(&mut draft, &[shrunk, large(fitting)]).expect("it fits");
    assert_eq!(draft.take().len() as u64, fitting + 1);
    assert_eq!((draft.len(), draft.size()), (0, 0));
}

#[test]
fn reads_see_the_changes() {
    let memory = Memory::with(&[("decision/use-sqlite", RECORD), ("fact/x", "# X\n")]);
    let pod = memory.open();
    let mut draft = Draft::new(LIMITS);
    let retitled = Update { title: Some("Other".into()), ..update("decision/use-sqlite") };
    memory.propose(&mut draft, &[retitled, new_record("decision/a")]).expect("proposed");
    let titles = |kind| {
        let records = draft.records(&pod, kind).expect("listed").records;
        assert!(records.iter().all(|record| record.body.is_empty() && record.sources.is_empty()));
        records.iter().map(|record| format!("{} {}", record.name, record.title)).collect::<Vec<_>>()
    };
    assert_eq!(titles(None), ["decision/a Title", "decision/use-sqlite Other", "fact/x X"]);
    assert_eq!(titles(Some("fact")), ["fact/x X"]);
    let record = draft.record(&pod, "decision", "a").expect("read").expect("there");
    assert_eq!((record.body.as_str(), record.sources.len()), ("Body\n", 2));
    assert_eq!(draft.record(&pod, "decision", "none").expect("read"), None);
    assert_eq!(pod.memory_record("decision", "a").expect("read"), None);
}

#[test]
fn record_that_changes_between_reading_and_proposing_is_a_conflict() {
    let edited = RECORD.replace("no server", "no servers");
    for (before, after) in [(Some(RECORD), Some(edited.as_str())), (Some(RECORD), None), (None, Some(RECORD))]
    {
        let memory = Memory::new();
        if let Some(text) = before {
            memory.put("decision/a", text);
        }
        let pod = memory.open();
        let mut draft = Draft::new(LIMITS);
        draft.record(&pod, "decision", "a").expect("read");
        match after {
            Some(text) => memory.put("decision/a", text),
            None => fs::remove_file(memory.path("decision/a")).expect("removed"),
        }
        let updates = [new_record("decision/b"), new_record("decision/a")];
        let error = memory.propose(&mut draft, &updates).expect_err("changed meanwhile");
        assert_eq!((error.code, error.index), (ErrorCode::Conflict, Some(1)), "{error}");
        assert_eq!(error.path.as_deref(), Some("memory/decision/a.md"));
        assert!(draft.is_empty());
        // Who reads it again knows what is there.
        draft.record(&pod, "decision", "a").expect("read");
        memory.propose(&mut draft, &updates).expect("proposed");
        assert_eq!(draft.changes().next().and_then(|change| change.before.as_deref()), after);
    }
}

#[test]
fn edit_that_keeps_size_and_time_is_seen_by_who_watches() {
    let memory = Memory::with(&[("decision/use-sqlite", RECORD)]);
    let path = memory.path("decision/use-sqlite");
    let before = fs::metadata(&path).expect("it is there");
    let mut draft = Draft::new(LIMITS);
    draft.watch(&memory.open()).expect("watched");
    // The clock of a file system may stand for some milliseconds.
    while fs::metadata(&path).expect("it is there").ctime_nsec() == before.ctime_nsec() {
        fs::write(&path, RECORD.replace("One", "Two")).expect("written");
        let file = fs::File::options().write(true).open(&path).expect("opened");
        file.set_modified(before.modified().expect("a time")).expect("set back");
    }
    let body = Update { body: Some("New\n".into()), ..known(update("decision/use-sqlite")) };
    assert_eq!(memory.propose(&mut draft, &[body]).expect_err("edited").code, ErrorCode::Conflict);
}

#[test]
fn file_is_read_once_when_it_is_first_changed() {
    let memory = Memory::with(&[("decision/a", RECORD)]);
    let mut draft = Draft::new(LIMITS);
    memory.propose(&mut draft, &[new_record("decision/a")]).expect("proposed");
    // The commit finds out.
    memory.put("decision/a", "# Other\n");
    let retired = Update { status: Some(Status::Retired), ..update("decision/a") };
    memory.propose(&mut draft, &[retired]).expect("proposed");
    let change = draft.take().pop().expect("a change");
    assert_eq!(change.before.as_deref(), Some(RECORD));
    // After that a run is made of what is there.
    memory.propose(&mut draft, &[known(update("decision/a"))]).expect("proposed");
    assert_eq!(draft.changes().next().and_then(|change| change.before.as_deref()), Some("# Other\n"));
}

#[test]
fn sources_are_those_of_the_named_entries_without_doubles() {
    let memory = Memory::with(&[("decision/use-sqlite", RECORD)]);
    let id = |number| entry_id(number, number).to_string();
    let sources = |entries: Option<Vec<String>>| {
        let update = Update { entries, ..new_record("decision/use-sqlite") };
        read(&memory.after(update)).sources
    };
    assert_eq!(sources(None), [source("session-1", 0, 17), source("session-2", 3, 5)]);
    assert_eq!(sources(Some(vec![id(11), id(10), id(11)])), sources(None));
    assert_eq!(sources(Some(vec![])), [source("session-1", 0, 17)]);
}

// --- Updates as JSON Lines -----------------------------------------------------------------------------

#[test]
fn updates_are_read_from_json_lines() {
    let lines = "\u{feff}{\"kind\":\"a\",\"slug\":\"b\"}\r\n\r\n  \n{\"slug\":\"d\",\"kind\":\"c\",\"title\":\"t\",\
                 \"body\":\"x\\ny\",\"status\":\"replaced\",\"replaced_by\":\"e\",\"entries\":[\"f\"]}\n\
                 {\"kind\":\"g\",\"slug\":\"h\",\"title\":null,\"body\":null,\"status\":null,\
                 \"replaced_by\":null,\"entries\":null}";
    let full = Update {
        title: Some("t".into()),
        body: Some("x\ny".into()),
        status: Some(Status::Replaced),
        replaced_by: Some("e".into()),
        entries: Some(vec!["f".into()]),
        ..update("c/d")
    };
    assert_eq!(parse_lines(lines).expect("updates"), [update("a/b"), full, update("g/h")]);
    assert_eq!(parse_lines("").expect("none"), []);
}

#[test]
fn line_that_is_no_update_is_refused_with_its_index() {
    let good = r#"{"kind":"a","slug":"b"}"#;
    for (line, words) in [
        ("{", "not the end of the text at column 1"),
        ("[\"a\",\"b\"]", "expected an object, not a list"),
        ("1", "expected an object, not a number"),
        ("null", "expected an object, not null"),
        ("nojson", "expected an object at column 1"),
        ("true story", "expected an object, not true or false"),
        ("trust me", "expected an object at column 1"),
        (r#"{"kind":"a"}"#, "missing member `slug`"),
        (r#"{"kind":null,"slug":"b"}"#, "missing member `kind`"),
        (r#"{"kind":"a","slug":"b","titel":"x"}"#, "unknown member `titel`"),
        (r#"{"kind":"a","slug":"b","kind":"a"}"#, "the member `kind` stands twice"),
        (r#"{"kind":"a","slug":"b","title":null,"title":"x"}"#, "the member `title` stands twice"),
        (r#"{"kind":"a","slug":"b","title":5}"#, "in `title`: expected a string, not a number"),
        (r#"{"kind":"a","slug":"b","entries":"x"}"#, "in `entries`: expected a list, not a string"),
        (r#"{"kind":"a","slug":"b","status":"gone"}"#, "in `status`: `gone` is none"),
        (r#"{"kind":"a","slug":"b","status":"Active"}"#, "in `status`: `Active` is none"),
        (r#"{"kind":"a","slug":"b","title":"\ud800"}"#, "in `title`: "),
        (&format!("{good} {good}"), "there is more after the end"),
        (&format!("{{\"\\u001b{}\":1}}", "x".repeat(1 << 16)), "unknown member `\\u{1b}xxx"),
    ] {
        let error = parse_lines(&format!("{good}\n\n{line}\n{good}\n")).expect_err("refused");
        assert_eq!((error.code, error.index), (ErrorCode::InvalidInput, Some(2)), "{line}: {error}");
        assert!(error.message.contains(words), "{line}: {error}");
        assert!(error.message.starts_with("cannot read line 3 as an update: "), "{error}");
        assert!(error.message.len() < 500 && !error.message.contains(char::is_control), "{error}");
    }
}

#[test]
fn schema_says_what_is_taken() {
    let schema: Value = serde_json::from_str(SCHEMA).expect("JSON");
    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
    assert_eq!((&schema["type"], &schema["additionalProperties"]), (&json!("object"), &json!(false)));
    let properties = schema["properties"].as_object().expect("an object");
    let mut members = MEMBERS;
    members.sort_unstable();
    let mut described: Vec<&str> = properties.keys().map(String::as_str).collect();
    described.sort_unstable();
    assert_eq!(described, members);
    assert!(properties.values().all(|member| member["description"].is_string()));

    // What is required is missed, and what is not may be null.
    let required: Vec<&str> =
        schema["required"].as_array().expect("a list").iter().filter_map(Value::as_str).collect();
    for member in MEMBERS {
        let mut line = json!({"kind": "a", "slug": "b"});
        line[member] = Value::Null;
        assert_eq!(parse_lines(&line.to_string()).is_err(), required.contains(&member), "{member}");
        let described = &properties[member];
        let values = described["enum"].as_array().or_else(|| described["type"].as_array());
        let nullable =
            values.is_some_and(|values| values.contains(&json!("null")) || values.contains(&Value::Null));
        assert_eq!(nullable, !required.contains(&member), "{member}");
    }
    let statuses: Vec<&str> =
        properties["status"]["enum"].as_array().expect("a list").iter().filter_map(Value::as_str).collect();
    assert_eq!(statuses, Status::ALL.map(Status::as_str));
    assert_eq!(properties["title"]["maxLength"], MAX_TITLE_CHARS);
    assert_eq!(properties["title"]["minLength"], 1);
}

/// A pattern of the schema, without the anchors that a generator of strings has no use for.
fn pattern(path: &str) -> String {
    let schema: Value = serde_json::from_str(SCHEMA).expect("JSON");
    let pattern = schema.pointer(path).and_then(Value::as_str).expect("a pattern");
    pattern.strip_prefix('^').and_then(|pattern| pattern.strip_suffix('$')).expect("anchors").to_owned()
}

fn matching(path: &str) -> impl Strategy<Value = String> + use<> {
    string_regex(&pattern(path)).expect("a regular expression")
}

proptest! {
    #[test]
    fn what_the_schema_permits_is_taken(
        kind in matching("/properties/kind/pattern"),
        slug in matching("/properties/slug/pattern"),
        replaced_by in matching("/properties/replaced_by/pattern"),
        id in matching("/properties/entries/items/pattern"),
    ) {
        let line = json!({
            "kind": kind, "slug": slug, "title": "t", "body": "b", "status": "replaced",
            "replaced_by": replaced_by, "entries": [id],
        });
        let updates = parse_lines(&line.to_string()).expect("an update");
        let id = consolidation_guest::layout::EntryId::parse(&id).expect("an id");
        let origin = Origin { id, source: source("s", 0, 0) };
        let memory = Memory::new();
        let mut draft = Draft::new(LIMITS);
        let itself = replaced_by == slug || replaced_by == format!("{kind}/{slug}");
        prop_assert_eq!(draft.propose(&memory.open(), &[origin], &updates).is_err(), itself);
    }

    #[test]
    fn names_that_are_taken_match_the_schema(text in "[a-zA-Z0-9_./-]{0,3}|[a-z0-9-]{60,70}") {
        // A regular expression of the same meaning, by hand: its parts are compared with the schema's.
        let expected = pattern("/properties/kind/pattern");
        prop_assert_eq!(&expected, "[a-z0-9][a-z0-9-]{0,63}");
        prop_assert_eq!(&expected, &pattern("/properties/slug/pattern"));
        let good = |char: char| char.is_ascii_lowercase() || char.is_ascii_digit() || char == '-';
        let fits = (1..=64).contains(&text.len()) && text.chars().all(good) && !text.starts_with('-');
        prop_assert_eq!(RecordName::parse(&text, &text).is_some(), fits);
    }
}

// --- Over generated files ------------------------------------------------------------------------------

/// Lines that mean nothing here, in every form that people write.
fn foreign() -> impl Strategy<Value = String> {
    let fixed = select(vec![
        "# a comment\n",
        "\n",
        "  \n",
        "tags: [a,   b]  # of mine\n",
        "owner: |\n  some\n\n  # no comment\n  title: no\n",
        "links:\n- a\n# between\n- b\n",
        "\"odd key\":\t1\n",
        "? complex: key\n",
        "nested:\n  title: no\n  status:   no\n",
        "note: 'it''s'\n",
        "list: [\n  a,\n]\n",
        "Title: not the key\n",
        "<<: *base\n",
        "empty:\n",
    ]);
    prop_oneof![
        4 => fixed.prop_map(str::to_owned),
        1 => "x-[a-z]{1,3}: [ -~äß€]{0,12}\n",
        1 => "#[ -~]{0,12}\n",
    ]
}

/// A known key as people write it, what is read of it, and what it becomes with another value in the
/// place of `NEW`.
#[derive(Clone, Debug)]
struct Written {
    key: &'static str,
    before: String,
    after: String,
}

fn written(key: &'static str, value: &'static str) -> impl Strategy<Value = Written> {
    let styles = select(vec![
        ("KEY: VALUE\n", "KEY: NEW\n"),
        ("KEY:\tVALUE  \t\n", "KEY: NEW\n"),
        ("KEY: VALUE # why\n", "KEY: NEW # why\n"),
        ("\"KEY\" : 'VALUE'\n", "KEY: NEW\n"),
        ("KEY:   \"VALUE\"   #   why\n", "KEY: NEW #   why\n"),
        ("KEY: # one\n  VALUE # two\n  # three\n", "KEY: NEW # one\n  # two\n  # three\n"),
        ("KEY: >-\n  VALUE\n\n# after\n", "KEY: NEW\n\n# after\n"),
        ("KEY: |\n    VALUE\n", "KEY: NEW\n"),
    ]);
    styles.prop_map(move |(before, after)| Written {
        key,
        before: before.replace("KEY", key).replace("VALUE", value),
        after: after.replace("KEY", key),
    })
}

/// Front matter with all that must be there, in any order, among foreign lines. Each part is one or the
/// other.
fn front_matter() -> impl Strategy<Value = Vec<Result<Written, String>>> {
    let keys = (
        written("kind", "decision"),
        written("slug", "use-sqlite"),
        written("title", "Old title"),
        written("status", "active"),
        written("created", "2026-05-01T12:00:00Z"),
        written("updated", "2026-05-02T12:00:00Z"),
        written("replaced_by", "decision/other"),
    );
    let keys = keys.prop_map(|(a, b, c, d, e, f, g)| vec![a, b, c, d, e, f, g]).prop_shuffle();
    (keys, prop::collection::vec(prop::collection::vec(foreign(), 0..4), 8)).prop_map(|(keys, foreign)| {
        let mut keys = keys.into_iter();
        let mut parts = Vec::new();
        for lines in foreign {
            parts.extend(lines.into_iter().map(Err));
            parts.extend(keys.next().map(Ok));
        }
        parts
    })
}

fn text_of(
    parts: &[Result<Written, String>],
    body: &str,
    crlf: bool,
    mark: bool,
    new: Option<(&str, &str)>,
) -> String {
    let mut text = String::from("---\n");
    for part in parts {
        match (part, new) {
            (Ok(written), Some((key, value))) if key == written.key => {
                text.push_str(&written.after.replace("NEW", value));
            }
            (Ok(written), _) => text.push_str(&written.before),
            (Err(foreign), _) => text.push_str(foreign),
        }
    }
    text.push_str("---\n");
    text.push_str(body);
    let text = if crlf { text.replace('\n', "\r\n") } else { text };
    format!("{}{text}", if mark { "\u{feff}" } else { "" })
}

fn any_source() -> impl Strategy<Value = Source> {
    (any::<String>(), any::<u64>(), any::<u64>()).prop_map(|(segment_id, a, b)| Source {
        segment_id,
        start: a.min(b),
        end: a.max(b),
    })
}

fn any_record() -> impl Strategy<Value = Record> {
    let text = || any::<String>().prop_filter("empty", |text| !text.trim().is_empty());
    let time = || prop_oneof![Just("2026-05-01T12:00:00Z".to_owned()), text(), Just(String::new())];
    let by = prop_oneof![Just(None), Just(Some("fact/x".to_owned())), Just(Some("12/true".to_owned()))];
    let body = prop_oneof![any::<String>(), "(---|\n|\r\n|# a|title: x|```| ){0,8}"];
    let sources = prop::collection::vec(any_source(), 0..4);
    let slug = prop_oneof![Just("null".to_owned()), "[a-z0-9]{1,8}"];
    (slug, text(), text(), sources, time(), time(), by, body).prop_map(
        |(slug, title, status, sources, created, updated, replaced_by, body)| Record {
            name: RecordName::parse("decision", &slug).expect("a name"),
            title,
            status,
            sources,
            created,
            updated,
            replaced_by,
            body,
        },
    )
}

/// Texts that are nearly records, or are.
fn nearly() -> impl Strategy<Value = String> {
    let part = select(vec![
        "---\n",
        "---\n",
        "...\n",
        "\n",
        "\r\n",
        "\r",
        " ",
        "  ",
        "\t",
        "#",
        " # c\n",
        "- ",
        "-",
        ": ",
        ":",
        ",",
        "[",
        "]",
        "{",
        "}",
        "\"",
        "'",
        "\\",
        "\\u",
        "|\n",
        ">\n",
        "&a",
        "*a",
        "~",
        "null",
        "title: ",
        "title:\n",
        "status: ",
        "sources: ",
        "sources:\n",
        "segment_id: ",
        "session_id: ",
        "range: ",
        "[0, 1]",
        "0",
        "x\n",
        "x: y\n",
        "\u{feff}",
        "ä",
        "\u{2028}",
        "\0",
        "replaced_by: ",
        "replaced_by:\n",
        "created: ",
        "updated: ",
        "kind: ",
        "slug: ",
        "\"slug\" : ",
        "other: ",
        "\u{a0}",
        "\u{85}",
        "\u{1b}",
        "? ",
        "!t ",
        "|2-\n",
        "''",
        "  x\n",
        "\"title\": ",
        "{segment_id: a, range: [0, 1]}",
        "  - {segment_id: a, range: [0, 1]}\n",
    ]);
    let parts = prop::collection::vec(part, 0..24).prop_map(|parts| parts.concat());
    let framed = parts.clone().prop_map(|parts| format!("---\n{parts}\n---\nbody\n"));
    prop_oneof![parts, framed]
}

/// The lines but those of what the path decides and of what is written as soon as anything changes,
/// with the lines that such a value goes on in.
fn lines_that_stay(text: &str) -> impl Iterator<Item = &str> {
    let mut in_value = false;
    // Within quotes it may be text.
    let is_comment = |line: &str| line.starts_with('#') && !text.contains(['"', '\'']);
    text.split_inclusive('\n').filter(move |line| {
        let fence = line.trim_end() == "---";
        let goes_on = line.trim().is_empty() || line.starts_with([' ', '\t', '#', '-', ']', '}']) && !fence;
        in_value = in_value && goes_on
            || ["kind", "slug", "title", "status", "updated"].iter().any(|key| line.contains(key));
        !in_value || is_comment(line)
    })
}

/// Are all these lines among the others, in this order?
fn stand_in<'a>(mut lines: impl Iterator<Item = &'a str>, text: &'a str) -> bool {
    let mut others = text.split_inclusive('\n');
    lines.all(|line| others.any(|other| line == other))
}

proptest! {
    #[test]
    fn record_is_read_as_it_was_rendered(record in any_record()) {
        let text = render(&record);
        let again = parse(&text).unwrap_or_else(|fault| panic!("{text:?}: {fault}")).record(&record.name);
        prop_assert_eq!(&again, &record, "{}", text);
        // Nothing in the texts ends a line for any reader.
        let head = &text[..text.len() - record.body.len()];
        let line_ends = ['\r', '\u{b}', '\u{c}', '\u{85}', '\u{2028}', '\u{2029}'];
        let keys = 4 + [&record.created, &record.updated].iter().filter(|time| !time.is_empty()).count();
        let keys = keys + usize::from(record.replaced_by.is_some());
        let sources = if record.sources.is_empty() { 0 } else { 1 + record.sources.len() };
        let blank = usize::from(!record.body.is_empty());
        prop_assert!(!head.contains(line_ends));
        prop_assert_eq!(head.matches('\n').count(), 2 + keys + sources + blank);
    }

    #[test]
    fn any_record_becomes_any_other(from in any_record(), to in any_record()) {
        let mut to = Record { name: from.name.clone(), ..to };
        to.sources.splice(0..0, from.sources.iter().cloned());
        // What is empty was never written; an update takes neither out.
        to.created = if to.created.is_empty() { from.created.clone() } else { to.created };
        to.updated = if to.updated.is_empty() { from.updated.clone() } else { to.updated };
        let text = render(&from);
        let changed = parse(&text).expect("a record").render(&to);
        prop_assert_eq!(parse(&changed).expect("a record").record(&to.name), to, "{}", changed);
    }

    #[test]
    fn edit_of_one_key_leaves_every_other_byte(
        parts in front_matter(),
        body in "(\n?(---|text|# a)\n){0,3}",
        crlf: bool,
        mark: bool,
        key in select(vec!["title", "status", "created", "updated", "replaced_by"]),
    ) {
        let before = text_of(&parts, &body, crlf, mark, None);
        let document = parse(&before).unwrap_or_else(|fault| panic!("{before:?}: {fault}"));
        let mut record = document.record(&name());
        prop_assert_eq!((record.title.as_str(), record.status.as_str()), ("Old title", "active"));
        prop_assert_eq!(&document.render(&record), &before);
        let new = match key {
            "title" => {
                record.title = "New # \"title\"".into();
                r#""New # \"title\"""#
            }
            "status" => {
                record.status = "retired".into();
                "retired"
            }
            "created" => {
                record.created = "2027-01-01T00:00:00Z".into();
                "2027-01-01T00:00:00Z"
            }
            "updated" => {
                record.updated = "2027-01-01T00:00:00Z".into();
                "2027-01-01T00:00:00Z"
            }
            _ => {
                record.replaced_by = Some("fact/new".into());
                "fact/new"
            }
        };
        let after = document.render(&record);
        prop_assert_eq!(&after, &text_of(&parts, &body, crlf, mark, Some((key, new))));
        prop_assert_eq!(parse(&after).expect("a record").record(&name()), record);
    }

    #[test]
    fn keys_and_sources_that_are_added_leave_every_byte(
        parts in front_matter(),
        gone in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
        sources in prop::collection::vec(any_source(), 1..3),
    ) {
        let mut parts = parts;
        for index in gone {
            drop(parts.remove(index.index(parts.len())));
        }
        let before = text_of(&parts, "\nBody\n", false, false, None);
        // Without their keys some lines are no front matter any more.
        let Ok(document) = parse(&before) else { return Ok(()) };
        let mut record = document.record(&name());
        record.sources = sources;
        let after = document.render(&record);
        prop_assert!(stand_in(before.split_inclusive('\n'), &after), "{before:?} became {after:?}");
        prop_assert_eq!(parse(&after).expect("a record").record(&name()), record);
    }

    #[test]
    fn no_text_is_read_and_then_lost(text in nearly(), sources in prop::collection::vec(any_source(), 0..2)) {
        let Ok(document) = parse(&text) else { return Ok(()) };
        let record = document.record(&name());
        prop_assert_eq!(&document.render(&record), &text);
        prop_assert!(text.ends_with(&record.body));
        let added = Record { updated: "2027-01-01T00:00:00Z".into(), ..record.clone() };
        let after = document.render(&added);
        let mark = text.strip_prefix('\u{feff}').map_or(0, |_| 3);
        if record.body == text[mark..] {
            prop_assert!(after.ends_with(&text[mark..]), "{text:?} became {after:?}");
        } else {
            prop_assert!(stand_in(lines_that_stay(&text), &after), "{text:?} became {after:?}");
        }
        prop_assert_eq!(parse(&after).unwrap_or_else(|fault| panic!("{after:?}: {fault}")).record(&name()), added);
        let mut other = Record { title: "New".into(), status: "retired".into(), body: "New\n".into(), ..record };
        other.replaced_by = None;
        other.sources.extend(sources);
        let after = document.render(&other);
        prop_assert_eq!(parse(&after).unwrap_or_else(|fault| panic!("{after:?}: {fault}")).record(&name()), other);
    }

    #[test]
    fn no_bytes_make_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..64), text: String) {
        for text in [String::from_utf8_lossy(&bytes).into_owned(), text] {
            for text in [format!("---\n{text}\n---\n"), format!("---\nsources: {text}\n---\n"), text] {
                if let Ok(document) = parse(&text) {
                    prop_assert_eq!(document.render(&document.record(&name())), text);
                }
            }
        }
        let _ = parse_lines(&String::from_utf8_lossy(&bytes));
        let memory = Memory::new();
        memory.put("decision/use-sqlite", &bytes);
        let read = memory.open().memory_record("decision", "use-sqlite");
        prop_assert_eq!(read.is_ok(), str::from_utf8(&bytes).is_ok_and(|text| parse(text).is_ok()));
    }
}

fn any_update() -> impl Strategy<Value = Update> {
    let body = select(vec!["One file, no server.", "Body", "Body\r\n", "Body\n\n", "---\n", ""]);
    let title = select(vec!["Use SQLite", "Title", "\"quoted\""]);
    let status = select(vec![
        (None, None),
        (Some(Status::Active), None),
        (Some(Status::Retired), None),
        (Some(Status::Replaced), Some("other")),
    ]);
    let entries = select(vec![None, Some(vec![]), Some(vec![10]), Some(vec![11, 10])]);
    (select(vec!["a", "b", "c", "d"]), prop::option::of(title), prop::option::of(body), status, entries)
        .prop_map(|(slug, title, body, (status, replaced_by), entries)| {
            // Of these two there is no file.
            let is_new = matches!(slug, "c" | "d");
            let or = |text: Option<&str>| text.or(is_new.then_some("New")).map(Into::into);
            let id = |number: u64| entry_id(number, number).to_string();
            Update {
                kind: "decision".into(),
                slug: slug.into(),
                title: or(title),
                body: or(body),
                status,
                replaced_by: replaced_by.map(Into::into),
                entries: entries.map(|entries: Vec<u64>| entries.into_iter().map(id).collect()),
            }
        })
}

fn two_records() -> Memory {
    Memory::with(&[("decision/a", RECORD), ("decision/b", "# Title\r\n\r\nBody\r\n")])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn proposing_twice_equals_proposing_once(updates in prop::collection::vec(any_update(), 0..6)) {
        let memory = two_records();
        let mut draft = Draft::new(LIMITS);
        memory.propose(&mut draft, &updates).expect("proposed");
        let (once, size) = (draft.changes().cloned().collect::<Vec<_>>(), draft.size());
        memory.later();
        memory.propose(&mut draft, &updates).expect("proposed");
        prop_assert_eq!(draft.size(), size);
        prop_assert_eq!(draft.take(), &once[..]);
        // And neither does it matter after the run is committed.
        for change in once {
            prop_assert_ne!(&change.before, &change.after);
            memory.put(&change.name.to_string(), change.after.expect("a text"));
        }
        memory.propose(&mut draft, &updates).expect("proposed");
        prop_assert_eq!(draft.take(), []);
    }

    #[test]
    fn order_of_updates_of_different_records_does_not_matter(
        updates in prop::collection::vec(any_update(), 0..8),
        cuts in prop::collection::vec(any::<bool>(), 8),
    ) {
        let memory = two_records();
        let mut at_once = Draft::new(LIMITS);
        memory.propose(&mut at_once, &updates).expect("proposed");
        // Stable: those of one record keep their order.
        let mut sorted = updates;
        sorted.sort_by(|one, other| other.slug.cmp(&one.slug));
        let mut in_parts = Draft::new(LIMITS);
        let mut part = Vec::new();
        for (update, cut) in sorted.into_iter().zip(cuts) {
            part.push(update);
            if cut {
                memory.propose(&mut in_parts, &std::mem::take(&mut part)).expect("proposed");
            }
        }
        memory.propose(&mut in_parts, &part).expect("proposed");
        prop_assert_eq!(in_parts.size(), at_once.size());
        prop_assert_eq!(in_parts.take(), at_once.take());
    }
}
