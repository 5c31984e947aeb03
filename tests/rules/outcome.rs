//! The format of a run's outcome.

use crate::support::new_entry_id;
use crate::support::system::wall_clock;
use consolidation_guest::error::Owner;
use consolidation_guest::fs::Time;
use consolidation_guest::layout::EntryId;
use consolidation_guest::outcome::{EndedBy, Ending, MAX_OUTCOME_BYTES, Outcome};
use insta::assert_snapshot;

fn owner() -> Owner {
    Owner { pid: 12, pod_name: "pod-a".into(), started_at: "2026-01-02T03:04:05Z".into() }
}

fn id(low: u64) -> EntryId {
    crate::support::entry_id(1_760_000_000_000, low)
}

fn text(outcome: &Outcome) -> String {
    String::from_utf8(outcome.to_file()).expect("it is UTF-8")
}

const MINIMAL: &str =
    r#"{"run_id":"r","outcome":"failed","pod_name":"","pid":0,"started_at":"","ended_at":"","entry_ids":[]}"#;

#[test]
fn file_is_pretty_json_with_its_members_in_this_order() {
    let at = Time::from_nanos(1_767_323_045_250_000_000);
    let mut outcome = Outcome::new(id(1), Ending::Consolidated, owner(), at, vec![id(2), id(3)]);
    assert_snapshot!(text(&outcome), @r#"
    {
      "run_id": "0199c82c-c000-7000-8000-000000000001",
      "outcome": "consolidated",
      "pod_name": "pod-a",
      "pid": 12,
      "started_at": "2026-01-02T03:04:05Z",
      "ended_at": "2026-01-02T03:04:05.250Z",
      "ended_by": null,
      "reason": null,
      "entry_ids": [
        "0199c82c-c000-7000-8000-000000000002",
        "0199c82c-c000-7000-8000-000000000003"
      ]
    }
    "#);
    let by = EndedBy { pid: 13, pod_name: "pod-b".into() };
    outcome.entry_ids.clear();
    outcome.end(Ending::Aborted, at, &by, "it \"stopped\"");
    assert_snapshot!(text(&outcome), @r#"
    {
      "run_id": "0199c82c-c000-7000-8000-000000000001",
      "outcome": "aborted",
      "pod_name": "pod-a",
      "pid": 12,
      "started_at": "2026-01-02T03:04:05Z",
      "ended_at": "2026-01-02T03:04:05.250Z",
      "ended_by": {
        "pid": 13,
        "pod_name": "pod-b"
      },
      "reason": "it \"stopped\"",
      "entry_ids": []
    }
    "#);
}

#[test]
fn what_is_written_is_read() {
    let by = EndedBy { pid: u32::MAX, pod_name: "pod \u{1f600} \" \\ \u{0}".into() };
    for ending in [Ending::Consolidated, Ending::Failed, Ending::Aborted, Ending::Unlocked] {
        for count in [0, 1, 1_000] {
            let ids = (0..count).map(|_| new_entry_id()).collect();
            let mut outcome = Outcome::new(new_entry_id(), ending, owner(), wall_clock(), ids);
            assert_eq!(Outcome::parse(&outcome.to_file()), Ok(outcome.clone()));
            outcome.end(ending, wall_clock(), &by, "line\nline");
            assert_eq!(Outcome::parse(&outcome.to_file()), Ok(outcome.clone()));
            assert_eq!(outcome.owner(), owner());
        }
    }
}

#[test]
fn endings_are_words() {
    for (ending, word) in [
        (Ending::Consolidated, "consolidated"),
        (Ending::Failed, "failed"),
        (Ending::Aborted, "aborted"),
        (Ending::Unlocked, "unlocked"),
    ] {
        let outcome = Outcome::parse(MINIMAL.replace("failed", word).as_bytes()).expect("it is one");
        assert_eq!(outcome.outcome, ending);
    }
    for word in ["Failed", "FAILED", "committed", ""] {
        Outcome::parse(MINIMAL.replace("failed", word).as_bytes()).expect_err(word);
    }
}

#[test]
fn members_of_a_later_version_are_passed_over() {
    let later = MINIMAL.replace(
        "\"pid\":0",
        "\"pid\":0,\"later\":{\"a\":[1e400,{}]},\"ended_by\":{\"pid\":1,\"pod_name\":\"p\",\"zone\":null},\"x\":0.1",
    );
    let outcome = Outcome::parse(later.as_bytes()).expect("it is one");
    assert_eq!(outcome.ended_by, Some(EndedBy { pid: 1, pod_name: "p".into() }));
    assert_eq!(outcome.reason, None);
    assert!(!text(&outcome).contains("later"));
}

/// What is no canonical id names no file that may be deleted.
#[test]
fn ids_that_are_not_canonical_are_passed_over() {
    let good = id(7).to_string();
    let odd = [
        "",
        ".",
        "..",
        "../x",
        "/etc/passwd",
        &good.to_uppercase(),
        &format!("{{{good}}}"),
        &format!("urn:uuid:{good}"),
        &good.replace('-', ""),
        &format!("{good}.json"),
        &format!(" {good}"),
        "018f0000-0000-4000-8000-000000000001",
        "018f0000-0000-7000-0000-000000000001",
    ];
    let mut ids: Vec<String> = odd.iter().map(ToString::to_string).collect();
    ids.insert(3, good.clone());
    let list = serde_json::to_string(&ids).expect("it is JSON");
    let outcome = Outcome::parse(MINIMAL.replace("[]", &list).as_bytes()).expect("it is one");
    assert_eq!(outcome.entry_ids, [id(7)]);
    // However it is written.
    let escaped = MINIMAL.replace("[]", &format!("[\"\\u0030{}\"]", &good[1..]));
    assert_eq!(Outcome::parse(escaped.as_bytes()).expect("it is one").entry_ids, [id(7)]);
}

#[test]
fn whatever_else_is_refused_with_a_reason() {
    let whole = MINIMAL.as_bytes();
    for end in 0..whole.len() {
        let reason = Outcome::parse(&whole[..end]).expect_err("it is torn");
        assert!(!reason.is_empty());
    }
    let mut zeros = whole.to_vec();
    zeros.extend([0; 3]);
    for content in [
        &zeros[..],
        &[0; 100],
        b"\xff\xfe",
        b"null",
        b"[]",
        b"\"text\"",
        // The values of the members, in their order: serde would take it.
        br#"["r","failed","",0,"","",null,null,[]]"#,
        b"{}",
    ] {
        assert!(!Outcome::parse(content).expect_err("it is none").is_empty());
    }
    for (from, to) in [
        ("\"pid\":0", "\"pid\":-1"),
        ("\"pid\":0", "\"pid\":4294967296"),
        ("\"pid\":0", "\"pid\":\"0\""),
        ("\"pid\":0,", ""),
        ("[]", "null"),
        ("[]", "{}"),
        ("[]", "[1]"),
        ("[]", "[null]"),
        ("\"entry_ids\":[]", "\"entry_ids\":[],\"entry_ids\":[]"),
        ("\"entry_ids\"", "\"entry_id\""),
        ("\"pid\":0", "\"pid\":0,\"reason\":1"),
    ] {
        let content = MINIMAL.replacen(from, to, 1);
        Outcome::parse(content.as_bytes()).expect_err(&content);
    }
}

#[test]
fn largest_that_is_read_has_room_for_a_million_and_a_half_entries() {
    let size = |count| {
        let ids = vec![id(2); count];
        text(&Outcome::new(id(1), Ending::Consolidated, owner(), wall_clock(), ids)).len() as u64
    };
    let each = (size(12) - size(2)) / 10;
    assert!(size(1) + each * 1_500_000 <= MAX_OUTCOME_BYTES, "{each} bytes an entry");
}
