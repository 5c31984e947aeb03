//! The rules of the digest plugin, natively, over a memory of the test's own.

use consolidation_digest::digest::{
    Entry, Failure, Host, MAX_BODY_BYTES, MAX_LINE_BYTES, Record, Source, Update, digest,
};
use consolidation_digest::{markdown, slug};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

/// A memory that applies updates as the store does: sources are added, without doubles.
#[derive(Default)]
struct Memory {
    records: BTreeMap<String, (String, Record)>,
    unreadable: BTreeSet<String>,
    reads: Vec<String>,
    debug: Vec<String>,
    warnings: Vec<String>,
}

impl Host for Memory {
    fn record(&mut self, kind: &str, slug: &str) -> Result<Option<Record>, String> {
        let name = format!("{kind}/{slug}");
        self.reads.push(name.clone());
        if self.unreadable.contains(&name) {
            return Err("line 3: no colon".into());
        }
        Ok(self.records.get(&name).map(|(_, record)| record.clone()))
    }

    fn debug(&mut self, message: &str) {
        self.debug.push(message.into());
    }

    fn warn(&mut self, message: &str) {
        self.warnings.push(message.into());
    }
}

impl Memory {
    fn with(records: &[(&str, Record)]) -> Self {
        let records =
            records.iter().map(|(name, record)| ((*name).into(), (String::new(), record.clone()))).collect();
        Memory { records, ..Memory::default() }
    }

    /// Of all records, by name.
    fn bodies(&self) -> Vec<String> {
        self.records.values().map(|(_, record)| record.body.clone()).collect()
    }

    /// A batch of these payloads, each an entry of the segment `s/1`, at positions of its own.
    fn batch(&mut self, payloads: &[&str]) -> Vec<Update> {
        let entries: Vec<Entry<'_>> =
            payloads.iter().zip(IDS).enumerate().map(|(at, (json, id))| entry(id, json, at as u64)).collect();
        self.apply(&entries).expect("the batch is done")
    }

    fn apply(&mut self, entries: &[Entry<'_>]) -> Result<Vec<Update>, Failure> {
        let updates = digest(entries, self)?;
        for update in &updates {
            let name = format!("{}/{}", update.kind, update.slug);
            assert!(good_slug(&update.slug), "{name}");
            let (title, record) = self.records.entry(name).or_insert_with(|| {
                let title = update.title.clone().expect("a new record has a title");
                assert!(update.body.is_some(), "a new record has a body");
                (title, Record { status: "active".into(), ..Record::default() })
            });
            if let Some(new) = &update.title {
                title.clone_from(new);
            }
            if let Some(body) = &update.body {
                assert!(body.starts_with(&record.body), "a body only grows at its end");
                record.body.clone_from(body);
            }
            for id in &update.entries {
                let entry = entries.iter().find(|entry| entry.id == id).expect("an entry of the batch");
                if !record.sources.contains(&entry.source) {
                    record.sources.push(entry.source.clone());
                }
            }
        }
        Ok(updates)
    }

    fn body(&self, name: &str) -> &str {
        &self.records.get(name).unwrap_or_else(|| panic!("{name} among {:?}", self.records.keys())).1.body
    }
}

const IDS: [&str; 8] = ["1", "2", "3", "4", "5", "6", "7", "8"];

fn entry<'a>(id: &'a str, json: &'a str, at: u64) -> Entry<'a> {
    Entry { id, json, source: Source { segment_id: "s/1".into(), start: at, end: at } }
}

fn record(status: &str, replaced_by: Option<&str>, body: &str) -> Record {
    Record {
        status: status.into(),
        replaced_by: replaced_by.map(str::to_owned),
        body: body.into(),
        ..Record::default()
    }
}

fn discussion(topic: &str, points: &[&str]) -> String {
    serde_json::json!({"discussions": [{"topic": topic, "points": points}]}).to_string()
}

fn good_slug(slug: &str) -> bool {
    (1..=64).contains(&slug.len())
        && !slug.starts_with('-')
        && slug.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'))
}

#[test]
fn every_kind_of_item_finds_its_record() {
    let mut memory = Memory::default();
    memory.batch(&[r#"{
        "decisions": [{"options": ["metres", "fathoms"], "chosen": "metres", "rationale": "One unit."}],
        "discussions": [{"topic": "Reading the clock", "points": ["Once.", "Not\ntwice."]}],
        "attempts": [{"action": "ran it", "result": "11 failures", "succeeded": false}],
        "requests": [{"intent": "add a button", "target": "night mode", "summary": "A switch."},
                     {"intent": "Remember", "summary": "Depths in metres."}],
        "mood": {"any": [1e999]}
    }"#]);
    let bodies: Vec<(&str, &str, &str)> = memory
        .records
        .iter()
        .map(|(name, (title, record))| (name.as_str(), title.as_str(), record.body.as_str()))
        .collect();
    let attempt = format!("attempt/{}", slug::of("s/1"));
    assert_eq!(
        bodies,
        [
            (attempt.as_str(), "s/1", "- failed: ran it; result: 11 failures\n"),
            ("decision/metres", "metres", "- metres, because: One unit. (other options: fathoms)\n"),
            ("discussion/reading-the-clock", "Reading the clock", "- Once.\n- Not twice.\n"),
            ("request/night-mode", "night mode", "- add a button: A switch.\n"),
            ("request/remember", "Remember", "- Remember: Depths in metres.\n"),
        ]
    );
}

#[test]
fn records_are_read_and_written_once_and_in_order() {
    let mut memory = Memory::default();
    let updates = memory.batch(&[
        &discussion("b", &["1", "2"]),
        &discussion("a", &["3"]),
        &discussion("B", &["2", "4"]),
    ]);
    let written: Vec<(&str, &[String])> =
        updates.iter().map(|update| (update.slug.as_str(), update.entries.as_slice())).collect();
    assert_eq!(written, [("b", &["1".to_owned(), "3".into()][..]), ("a", &["2".into()])]);
    assert_eq!(memory.body("discussion/b"), "- 1\n- 2\n- 4\n");
    let distinct: BTreeSet<&String> = memory.reads.iter().collect();
    assert_eq!(distinct.len(), memory.reads.len(), "{:?}", memory.reads);
}

#[test]
fn same_entries_again_change_nothing() {
    let mut memory = Memory::default();
    let payloads = [discussion("a", &["1", "2"]), discussion("b", &["1"])];
    let payloads: Vec<&str> = payloads.iter().map(String::as_str).collect();
    assert_eq!(memory.batch(&payloads).len(), 2);
    assert_eq!(memory.batch(&payloads), []);
}

#[test]
fn known_line_from_another_source_adds_only_the_source() {
    let mut memory = Memory::default();
    let json = discussion("a", &["1"]);
    memory.batch(&[&json]);
    let updates = memory.apply(&[entry("9", &json, 99)]).expect("the batch is done");
    assert_eq!(
        updates,
        [Update {
            kind: "discussion".into(),
            slug: "a".into(),
            title: None,
            body: None,
            entries: vec!["9".into()],
        }]
    );
    assert_eq!(memory.records["discussion/a"].1.sources.len(), 2);
}

#[test]
fn text_of_people_stays_and_the_list_begins_anew_behind_it() {
    for (before, after) in [
        ("By hand.", "By hand.\n\n- 1\n"),
        ("By hand.\n\n\n", "By hand.\n\n\n- 1\n"),
        ("- item", "- item\n- 1\n"),
        ("a\r\n- b\r\n", "a\r\n- b\r\n- 1\r\n"),
        ("", "- 1\n"),
    ] {
        let mut memory = Memory::with(&[("discussion/a", record("draft", None, before))]);
        memory.batch(&[&discussion("a", &["1"])]);
        assert_eq!(memory.body("discussion/a"), after);
    }
    let mut memory = Memory::with(&[("discussion/a", record("active", None, "x\r\n- 1\r\n"))]);
    assert_eq!(memory.batch(&[&discussion("a", &["1"])])[0].body, None);
}

#[test]
fn full_body_goes_on_in_another_part() {
    let mut memory = Memory::default();
    let points: Vec<String> = (0..9).map(|n| format!("{n}{}", "x".repeat(60_000))).collect();
    for point in &points {
        memory.batch(&[&discussion("Long", &[point])]);
    }
    let names: Vec<String> = memory.records.keys().cloned().collect();
    assert_eq!(names, ["discussion/long", "discussion/long-2", "discussion/long-3"]);
    assert_eq!(memory.records["discussion/long-2"].0, "Long (2)");
    assert!(memory.records.values().all(|(_, record)| record.body.len() <= MAX_BODY_BYTES));
    let all: Vec<&str> = names.iter().flat_map(|name| memory.body(name).lines()).collect();
    let expected: Vec<String> = points.iter().map(|point| format!("- {point}")).collect();
    assert_eq!(all, expected);
    // What the first part holds is known, though there is no room in it.
    assert_eq!(memory.batch(&["{}", &discussion("Long", &[&points[0]])])[0].slug, "long");
    assert_eq!(memory.records.len(), 3);
    // One batch makes the same of it as nine.
    let mut other = Memory::default();
    let borrowed: Vec<&str> = points.iter().map(String::as_str).collect();
    other.batch(&[&discussion("Long", &borrowed)]);
    assert!(names.iter().all(|name| other.body(name) == memory.body(name)));
}

#[test]
fn retired_record_stays_closed() {
    let mut memory = Memory::with(&[
        ("discussion/a", record("retired", None, "- 1\n")),
        ("discussion/a-2", record("Retired ", Some("discussion/gone"), "- 1\n")),
    ]);
    memory.batch(&[&discussion("a", &["1"])]);
    assert_eq!(memory.body("discussion/a-3"), "- 1\n");
    assert_eq!(memory.records["discussion/a-3"].0, "a (3)");
    assert_eq!(memory.records.len(), 3);
}

#[test]
fn replaced_record_goes_on_in_its_replacement() {
    let mut memory = Memory::with(&[
        ("discussion/a", record("replaced", Some("note/b"), "")),
        ("note/b", record("replaced", Some("c"), "")),
        ("note/c", record("active", None, "- 0\n")),
    ]);
    memory.batch(&[&discussion("a", &["1"])]);
    assert_eq!(memory.body("note/c"), "- 0\n- 1\n");
    assert_eq!(memory.records.len(), 3);
}

#[test]
fn replacements_that_lead_nowhere_are_passed_over() {
    for (a, b) in [(Some("b"), Some("a")), (Some("a"), None), (Some("../x"), None), (None, None)] {
        let mut memory = Memory::with(&[
            ("discussion/a", record("replaced", a, "")),
            ("discussion/b", record("replaced", b, "")),
        ]);
        memory.batch(&[&discussion("a", &["1"])]);
        let new: Vec<&String> = memory.records.keys().filter(|name| name.ends_with("-2")).collect();
        assert_eq!(new.len(), 1, "{a:?} {b:?}: {:?}", memory.records.keys());
        assert_eq!(memory.body(new[0]), "- 1\n");
    }
}

#[test]
fn unreadable_record_is_passed_over_and_said() {
    let mut memory = Memory::default();
    memory.unreadable.insert("discussion/a".into());
    memory.batch(&[&discussion("a", &["1", "2"])]);
    assert_eq!(memory.body("discussion/a-2"), "- 1\n- 2\n");
    assert_eq!(memory.warnings.len(), 1);
    assert!(memory.warnings[0].contains("discussion/a") && memory.warnings[0].contains("line 3"));
}

#[test]
fn endless_parts_are_an_error_that_names_entry_and_record() {
    let parts: Vec<String> = (1..=1000).map(|n| format!("discussion/{}", slug::part("a", n))).collect();
    let records: Vec<(&str, Record)> =
        parts.iter().map(|name| (name.as_str(), record("retired", None, ""))).collect();
    let json = discussion("a", &["1"]);
    let failure = Memory::with(&records).apply(&[entry("7", &json, 0)]).expect_err("there is no place");
    assert_eq!(failure.entry, "7");
    assert!(failure.message.contains("discussion/a"), "{}", failure.message);
}

#[test]
fn unexpected_json_is_left_out_and_said() {
    let mut memory = Memory::default();
    let updates = memory.batch(&[
        "",
        "[]",
        r#"{"decisions": {}, "attempts": 7}"#,
        r#"{"discussions": [7, {"points": ["a"]}, {"topic": [], "points": ["a"]}, {"topic": "t", "points": [{}]}]}"#,
        r#"{"requests": [{"intent": "\ud800", "summary": "half a pair"}]}"#,
    ]);
    assert_eq!(updates, []);
    assert_eq!(memory.debug.len(), 9, "{:#?}", memory.debug);
    memory.batch(&[r#"{"decisions": [{"chosen": 1e999, "options": "one"}, {"chosen": true}],
        "discussions": [{"topic": "t", "points": "single", "more": [[[]]]}, {"topic": "", "points": ["x"]}],
        "attempts": [{"action": "a", "succeeded": "yes"}]}"#]);
    assert_eq!(memory.body("decision/1e999"), "- 1e999 (other options: one)\n");
    assert_eq!(memory.body("decision/true"), "- true\n");
    assert_eq!(memory.body("discussion/t"), "- single\n");
    assert_eq!(memory.body("discussion/untitled"), "- x\n");
    assert_eq!(memory.body(&format!("attempt/{}", slug::of("s/1"))), "- tried: a\n");
}

/// Nothing that an entry says is left out, however long it is.
#[test]
fn huge_item_goes_on_in_others() {
    for (word, many, between) in [("é".repeat(MAX_LINE_BYTES), 1, ""), ("- word".repeat(9), 9_000, " ")] {
        let text = vec![word.as_str(); many].join(between);
        let mut memory = Memory::default();
        memory.batch(&[&discussion("a", &[&text])]);
        let before = memory.bodies();
        let lines: Vec<&str> = before.iter().flat_map(|body| body.lines()).collect();
        assert!(lines.len() > 1 && lines.iter().all(|line| line.len() <= MAX_LINE_BYTES), "{}", lines.len());
        let parts: Vec<&str> = (1..)
            .zip(&lines)
            .map(|(number, line)| {
                let rest = line.strip_prefix(&format!("- ({number}/{} of ", lines.len()));
                rest.and_then(|rest| rest.split_once(") ")).expect("it says which piece it is").1
            })
            .collect();
        assert!(parts.join(between).trim_start_matches('\\') == text, "something is missing");
        memory.batch(&[&discussion("a", &[&text])]);
        assert_eq!(memory.bodies(), before);
        // Another one that begins or ends like it has pieces of its own.
        for other in [format!("{text}{between}x"), format!("x{between}{text}")] {
            let mut memory = Memory::default();
            memory.batch(&[&discussion("a", &[&text, &other])]);
            let all: usize = memory.bodies().iter().map(|body| body.lines().count()).sum();
            assert!(all >= 2 * lines.len(), "{all}");
        }
    }
}

#[test]
fn text_does_not_become_another_block() {
    for (text, line) in [
        ("plain", "- plain"),
        ("# heading", r"- \# heading"),
        ("#tag", "- #tag"),
        ("---", r"- \---"),
        ("--", r"- \--"),
        ("- - -", r"- \- - -"),
        ("-O2 is fast", "- -O2 is fast"),
        ("* star", r"- \* star"),
        ("**bold** words", "- **bold** words"),
        ("***", r"- \***"),
        ("_ _ _", r"- \_ _ _"),
        ("+", r"- \+"),
        ("> quote", r"- \> quote"),
        ("<!-- hidden", r"- \<!-- hidden"),
        ("```rust", r"- \```rust"),
        ("`code` first", "- `code` first"),
        ("~~~", r"- \~~~"),
        ("1. first", r"- 1\. first"),
        ("12) twelfth", r"- 12\) twelfth"),
        ("2.4 is out", "- 2.4 is out"),
        ("[x] done", r"- \[x] done"),
        ("[name]: https://example.org", r"- \[name]: https://example.org"),
        ("[link](https://example.org) to it", "- [link](https://example.org) to it"),
        ("", "- "),
    ] {
        assert_eq!(markdown::item(text), line);
    }
    assert_eq!(markdown::fold("\u{2028} a\r\n\n# b\t\0c \u{85}"), "a # b c");
}

#[test]
fn plain_topics_become_their_slugs_and_others_get_a_hash() {
    for (topic, expected) in
        [("Use SQLite", "use-sqlite"), ("use_sqlite", "use-sqlite"), ("x", "x"), ("2", "2")]
    {
        assert_eq!(slug::of(topic), expected);
    }
    for (topic, words) in [
        ("C++", "c-"),
        ("Çà et là", "ca-et-la-"),
        ("cafe\u{301} bar", "cafe-bar-"),
        ("Straße", "strasse-"),
        ("日本語", ""),
        ("python 2", "python-2-"),
        ("c deadbeef", "c-deadbeef-"),
        ("-x", "x-"),
    ] {
        let slug = slug::of(topic);
        assert!(slug.starts_with(words) && slug.len() == words.len() + 8, "{topic}: {slug}");
    }
    let long = "a b ".repeat(40);
    assert_ne!(slug::of(&long), slug::of(&format!("{long}c")));
    assert_eq!(slug::part("a", 1), "a");
    assert_eq!(slug::part(&"a".repeat(64), 12).len(), 64);
}

/// What the invariant of `slug` calls the same topic.
fn identity(topic: &str) -> String {
    topic.to_lowercase().chars().map(|c| if matches!(c, '-' | '_') { ' ' } else { c }).collect()
}

proptest! {
    #[test]
    fn different_topics_have_different_slugs(a in "[abB2f_ é+-]{1,9}", b in "[abB2f_ é+-]{1,9}", n in 2u32..40) {
        let (a, b) = (markdown::fold(&a), markdown::fold(&b));
        if identity(&a) != identity(&b) {
            prop_assert_ne!(slug::of(&a), slug::of(&b));
        }
        prop_assert_ne!(slug::of(&a), slug::part(&slug::of(&b), n));
    }

    #[test]
    fn slugs_are_names_of_records(topic in "\\PC{0,80}", n in 1u32..1001) {
        let slug = slug::of(&markdown::fold(&topic));
        prop_assert!(good_slug(&slug), "{}", slug);
        prop_assert!(good_slug(&slug::part(&slug, n)));
    }

    #[test]
    fn any_payload_is_read_and_its_lines_are_items(
        topic in "\\PC{0,20}", points in proptest::collection::vec("[\\PC\n\r\u{2028}#>*-]{0,12}", 0..6)
    ) {
        let json = serde_json::json!({
            "discussions": [{"topic": topic, "points": points}],
            "requests": [{"intent": topic, "summary": points.concat()}],
        }).to_string();
        let mut memory = Memory::default();
        memory.batch(&[&json]);
        for (name, (title, record)) in &memory.records {
            prop_assert!(!title.is_empty() && title.lines().count() == 1);
            prop_assert!(record.body.lines().all(|line| line.starts_with("- ")), "{}: {}", name, record.body);
        }
        prop_assert_eq!(memory.batch(&[&json]), []);
    }
}
