//! `consolidate stage`.

use super::process::{Program, payload, payloads};
use crate::support::{MINIMAL, TestWorkspace};
use insta::assert_snapshot;
use std::fs;

/// One of each list.
const PRETTY: &str = r#"{
  "source": {"segment_id": "pod-a/run-7", "range": [3, 9]},
  "decisions": [
    {"options": ["a mutex", "a channel"], "chosen": "a channel", "rationale": "nothing to poison"}
  ],
  "discussions": [{"topic": "naming", "points": ["short", "plain"]}],
  "attempts": [{"action": "cargo test", "result": "2 failed", "succeeded": false}],
  "requests": [{"intent": "fix", "target": "the tests", "summary": "make them pass"}]
}
"#;

/// What is staged, as the command gets it.
fn consumed(workspace: &TestWorkspace) -> Vec<String> {
    let ran = workspace.consolidate(["--json", "run", "--", "sh", "-c", "cat > lines"]).run().exits(0);
    assert_eq!(workspace.ids(), [] as [String; 0], "{}", ran.out);
    workspace.text("lines").lines().map(str::to_owned).collect()
}

#[test]
fn one_object_over_many_lines_is_one_entry() {
    let workspace = TestWorkspace::new();
    let ids = workspace.consolidate(["stage"]).input(PRETTY).run().exits(0).lines();
    assert_eq!(ids, workspace.ids());
    assert_eq!(ids.len(), 1);
    let content = fs::read_to_string(workspace.staged(&format!("{}.json", ids[0]))).expect("the entry");
    assert_snapshot!(content, @r#"
    {
      "source": {
        "segment_id": "pod-a/run-7",
        "range": [
          3,
          9
        ]
      },
      "decisions": [
        {
          "options": [
            "a mutex",
            "a channel"
          ],
          "chosen": "a channel",
          "rationale": "nothing to poison"
        }
      ],
      "discussions": [
        {
          "topic": "naming",
          "points": [
            "short",
            "plain"
          ]
        }
      ],
      "attempts": [
        {
          "action": "cargo test",
          "result": "2 failed",
          "succeeded": false
        }
      ],
      "requests": [
        {
          "intent": "fix",
          "target": "the tests",
          "summary": "make them pass"
        }
      ]
    }
    "#);
}

#[test]
fn each_line_is_an_entry_and_their_order_is_kept() {
    let workspace = TestWorkspace::new();
    let ids = workspace.stage(2_500);
    assert_eq!(ids, workspace.ids());
    let listed = workspace.consolidate(["list", "--json"]).run().exits(0).json();
    let rows = listed["entries"].as_array().expect("a list");
    for (number, (row, id)) in rows.iter().zip(&ids).enumerate() {
        assert_eq!(
            (row["id"].as_str(), row["source"]["range"][0].as_u64()),
            (Some(&**id), Some(number as u64))
        );
    }
    assert_eq!(rows.len(), 2_500);
}

#[test]
fn later_calls_come_later_in_the_list() {
    let workspace = TestWorkspace::new();
    let ids: Vec<String> = (0..5).flat_map(|_| workspace.stage(3)).collect();
    assert_eq!(ids, workspace.ids());
}

#[test]
fn byte_order_mark_carriage_returns_and_blank_lines_are_no_matter() {
    let workspace = TestWorkspace::new();
    let input = format!("\u{feff}{}\r\n\r\n   \n{}\r\n\t{}", payload(1), payload(2), payload(3));
    let ids = workspace.consolidate(["stage"]).input(input).run().exits(0).lines();
    assert_eq!(ids.len(), 3);
    assert_eq!(ids, workspace.ids());
}

#[test]
fn several_objects_over_many_lines_are_refused() {
    let workspace = TestWorkspace::new();
    let ran = workspace.consolidate(["--json", "stage"]).input(PRETTY.repeat(3)).run().exits(65);
    let second = PRETTY.lines().count() + 1;
    assert_eq!(ran.json_error()["line"], second, "{}", ran.out);
    assert_eq!(workspace.ids(), [] as [String; 0]);
}

/// Of one object the line of the mistake helps more than that of its beginning.
#[test]
fn mistake_in_an_object_over_many_lines_is_named_by_its_own_line() {
    let workspace = TestWorkspace::new();
    for (right, wrong, line) in
        [("\"attempts\":", "\"attempts\" -", 7), ("[3, 9]", "[3, 9", 2), ("pass\"}]\n}", "pass\"}]\n]", 9)]
    {
        let input = PRETTY.replace(right, wrong);
        assert_ne!(input, PRETTY);
        let ran = workspace.consolidate(["--json", "stage"]).input(input).run().exits(65);
        assert_eq!(ran.json_error()["line"], line, "{wrong}: {}", ran.out);
    }
    assert_eq!(workspace.ids(), [] as [String; 0]);
}

#[test]
fn cut_off_line_is_told_from_an_object_over_many_lines() {
    let workspace = TestWorkspace::new();
    for (input, line) in [
        (format!("{{\"source\":\n{}\n{}\n", payload(1), payload(2)), 1),
        (format!("{}\n{{\"source\":\n{}\n", payload(1), payload(2)), 2),
        (format!("{}\n{}\n{{\"source\":", payload(1), payload(2)), 3),
    ] {
        let ran = workspace.consolidate(["--json", "stage"]).input(input).run().exits(65);
        assert_eq!(ran.json_error()["line"], line, "{}", ran.out);
    }
    assert_eq!(workspace.ids(), [] as [String; 0]);
}

#[test]
fn empty_input_stages_nothing_and_says_so() {
    for input in ["", "\n", "  \r\n\n", "\u{feff}"] {
        let workspace = TestWorkspace::new();
        let ran = workspace.consolidate(["stage"]).input(input).run().exits(0);
        assert_eq!((&*ran.out, &*ran.err), ("", "consolidate: nothing to stage: the input is empty\n"));
        let ran = workspace.consolidate(["stage", "--json"]).input(input).run().exits(0);
        assert_eq!(ran.json(), serde_json::json!({ "staged": [] }));
    }
}

/// What must never be staged, and a word that the message holds.
const BAD: &[(&str, &str)] = &[
    ("{\"source\":", "EOF"),
    ("nonsense", "expected"),
    ("{}", "source"),
    ("[]", "object"),
    ("null", "object"),
    ("\"text\"", "object"),
    ("17", "object"),
    (r#"{"source":{"segment_id":"s","range":[0,1]},}"#, "key"),
    (
        r#"{"source":{"segment_id":"s","range":[0,1]}, // why not
       }"#,
        "key",
    ),
    ("{'source':{'segment_id':'s','range':[0,1]}}", "string"),
    (r#"{"source":{"segment_id":"s","range":[0,1]},"n":NaN}"#, "expected"),
    (r#"{"source":{"segment_id":"s","range":[0,1]},"n":Infinity}"#, "expected"),
    (r#"{"source":{"segment_id":"s","range":[0,1]},"n":-}"#, "number"),
    (r#"{"source":{"segment_id":"s","range":[0,1]},"n":01}"#, "number"),
    (r#"{"source":{"segment_id":"s","range":[0,1]},"text":"\ud800"}"#, "surrogate"),
    (r#"{"source":{"segment_id":"s","range":[0,1]},"text":"\udc00\ud83d"}"#, "surrogate"),
    (r#"{"source":{"segment_id":"\ud800","range":[0,1]}}"#, "source"),
    (
        r#"{"source":{"segment_id":"s","range":[0,1]},"attempts":[{"action":"\udfff","result":"","succeeded":true}]}"#,
        "attempts",
    ),
    ("{\"source\":{\"segment_id\":\"a\u{1}b\",\"range\":[0,1]}}", "control character"),
    (r#"{"source":{"segment_id":"s","range":[2,1]}}"#, "range"),
    (r#"{"source":{"segment_id":"s","range":[-1,1]}}"#, "source"),
    (r#"{"source":{"segment_id":"s","range":[0,1.5]}}"#, "source"),
    (r#"{"source":{"segment_id":"s","range":[0]}}"#, "source"),
    (r#"{"source":{"segment_id":"s"}}"#, "range"),
    (r#"{"source":{"segment_id":7,"range":[0,1]}}"#, "source"),
    (r#"{"source":"s"}"#, "source"),
    (r#"{"source":{"segment_id":"s","range":[0,1]},"decisions":{}}"#, "decisions"),
    (r#"{"source":{"segment_id":"s","range":[0,1]},"decisions":[{"options":[],"chosen":"x"}]}"#, "rationale"),
    (
        r#"{"source":{"segment_id":"s","range":[0,1]},"attempts":[{"action":"","result":"","succeeded":"yes"}]}"#,
        "attempts",
    ),
    (r#"{"source":{"segment_id":"s","range":[0,1]},"source":{"segment_id":"s","range":[0,1]}}"#, "twice"),
    (r#"{"source":{"segment_id":"s","range":[0,1]},"id":"x"}"#, "reserved"),
];

#[test]
fn bad_line_is_named_and_nothing_is_staged() {
    let workspace = TestWorkspace::new();
    let mut elsewhere = Vec::new();
    for (bad, word) in BAD {
        let input = format!("{}\n\n{bad}\n{}\n", payload(1), payload(2));
        let ran = workspace.consolidate(["--json", "stage"]).input(input.clone()).run().exits(65);
        let error = ran.json_error();
        let message = error["message"].as_str().unwrap_or_default();
        assert!(message.contains(word), "{bad}: {message}");
        assert!(message.contains("nothing was staged"), "{bad}: {message}");
        // Also of a line that was cut off: the next one would have closed it in vain.
        if error["line"] != 3 {
            elsewhere.push(format!("{bad}: {error}"));
        }
        assert_eq!(workspace.ids(), [] as [String; 0], "{bad}");

        let people = workspace.consolidate(["stage"]).input(input).run().exits(65);
        assert_eq!(people.out, "");
        assert!(people.err.starts_with("consolidate: line "), "{}", people.err);
    }
    assert!(elsewhere.is_empty(), "not named by the line where it begins:\n{}", elsewhere.join("\n"));
    assert_eq!(workspace.temporaries(), [] as [String; 0]);
}

#[test]
fn bad_line_far_down_stages_nothing() {
    let workspace = TestWorkspace::new();
    let input = payloads(0..1_499) + "{\"source\":{\"segment_id\":\"s\"}}\n" + &payloads(0..400);
    let ran = workspace.consolidate(["--json", "stage"]).input(input).run().exits(65);
    assert_eq!(ran.json_error()["line"], 1_500);
    assert_eq!(workspace.ids(), [] as [String; 0]);
}

#[test]
fn message_about_a_bad_line() {
    let workspace = TestWorkspace::new();
    let input = payloads(0..3) + r#"{"source":{"segment_id":"s","range":[0,1]},"attempts":[{"action":"x"}]}"#;
    let ran = workspace.consolidate(["stage"]).input(input).run().exits(65);
    assert_snapshot!(ran.err, @"consolidate: line 4: not a usable payload: in `attempts`: missing member `result` at column 69; nothing was staged");
    let ran = workspace.consolidate(["stage"]).input(payloads(0..3) + "{\"source\": oops}").run().exits(65);
    assert_snapshot!(ran.err, @"consolidate: line 4: expected value at column 12; nothing was staged");
}

#[test]
fn text_that_is_not_utf8_is_named_by_its_line() {
    let workspace = TestWorkspace::new();
    let mut input = payloads(0..4).into_bytes();
    input.extend_from_slice(b"{\"source\":{\"segment_id\":\"\xff\",\"range\":[0,1]}}\n");
    let ran = workspace.consolidate(["--json", "stage"]).input(input).run().exits(65);
    assert_eq!(ran.json_error()["line"], 5);
    assert_eq!(ran.json_error()["message"], "line 5: not UTF-8; nothing was staged");

    let utf16: Vec<u8> = format!("\u{feff}{MINIMAL}").encode_utf16().flat_map(u16::to_le_bytes).collect();
    workspace.consolidate(["--json", "stage"]).input(utf16).run().exits(65).json_error();
    assert_eq!(workspace.ids(), [] as [String; 0]);
}

#[test]
fn two_values_on_one_line_are_refused() {
    let workspace = TestWorkspace::new();
    for between in ["", " ", "\r", ","] {
        let input = format!("{}\n{}{between}{}\n", payload(1), payload(2), payload(3));
        let ran = workspace.consolidate(["--json", "stage"]).input(input).run().exits(65);
        assert_eq!(ran.json_error()["line"], 2, "{between:?}: {}", ran.out);
    }
    assert_eq!(workspace.ids(), [] as [String; 0]);
}

#[test]
fn default_source_is_for_payloads_without_one() {
    let workspace = TestWorkspace::new();
    let input = format!("{{}}\n{MINIMAL}\n{{\"requests\":[]}}\n");
    workspace
        .consolidate(["stage", "--segment", "conv \"9\"", "--range", "4..17"])
        .input(input)
        .run()
        .exits(0);
    let listed = workspace.consolidate(["list", "--json"]).run().exits(0).json();
    let sources: Vec<String> =
        listed["entries"].as_array().expect("a list").iter().map(|row| row["source"].to_string()).collect();
    assert_snapshot!(sources.join("\n"), @r#"
    {"range":[4,17],"segment_id":"conv \"9\""}
    {"range":[0,17],"segment_id":"conv-1/session-1"}
    {"range":[4,17],"segment_id":"conv \"9\""}
    "#);
    // It is in the entries themselves.
    let lines = consumed(&workspace);
    assert!(lines[0].contains(r#""source":{"segment_id":"conv \"9\"","range":[4,17]}"#), "{}", lines[0]);
}

#[test]
fn input_comes_from_a_file_or_from_standard_input() {
    let workspace = TestWorkspace::new();
    fs::write(workspace.root().join("in.jsonl"), payloads(0..3)).expect("a file");
    fs::write(workspace.root().join("-file"), payloads(0..1)).expect("a file");
    let staged = |program: Program| program.run().exits(0).lines().len();
    assert_eq!(staged(workspace.consolidate(["stage", "in.jsonl"])), 3);
    assert_eq!(staged(workspace.consolidate(["stage", "in.jsonl"]).input(payloads(0..9))), 3);
    assert_eq!(staged(workspace.consolidate(["stage", "-"]).input(payloads(0..2))), 2);
    assert_eq!(staged(workspace.consolidate(["stage"]).input(payloads(0..2))), 2);
    assert_eq!(staged(workspace.consolidate(["stage", "--", "-file"])), 1);
    assert_eq!(staged(workspace.consolidate(["stage", "/dev/stdin"]).input(payloads(0..2))), 2);
    assert_eq!(workspace.ids().len(), 13);
}

#[test]
fn file_that_can_not_be_read_exits_74() {
    let workspace = TestWorkspace::new();
    for file in ["missing.jsonl", "."] {
        let ran = workspace.consolidate(["stage", file]).run().exits(74);
        assert!(ran.err.contains(&format!("cannot read {file}: ")), "{}", ran.err);
    }
}

#[test]
fn numbers_and_texts_reach_the_command_unchanged() {
    let numbers = [
        "9007199254740993",
        "18446744073709551615",
        "18446744073709551616",
        "1e400",
        "-0",
        "1.0",
        "1.10",
        "1E+2",
        "0.1000000000000000055511151231257827",
        &"7".repeat(400),
    ]
    .join(",");
    let texts = r#"["\u0000","\u00fc","\ud83d\ude00","\/","<&>","ü😀 ","\u2028"]"#;
    let others =
        format!(r#""numbers":[{numbers}],"texts":{texts},"nested":{{"Z":1,"a":{{}},"b":[]}},"null":null"#);
    let workspace = TestWorkspace::new();
    let source = r#""source":{"segment_id":"s","range":[0,18446744073709551615]}"#;
    workspace.consolidate(["stage"]).input(format!("{{{others},{source}}}")).run().exits(0);
    let id = workspace.ids().remove(0);
    let lists = r#""decisions":[],"discussions":[],"attempts":[],"requests":[]"#;
    assert_eq!(consumed(&workspace), [format!(r#"{{"id":"{id}",{source},{lists},{others}}}"#)]);
}

#[test]
fn session_id_is_read_as_segment_id() {
    let workspace = TestWorkspace::new();
    let input = r#"{"source":{"session_id":"old","range":[0,1],"file":"a.jsonl"}}"#;
    workspace.consolidate(["stage"]).input(input).run().exits(0);
    let lines = consumed(&workspace);
    assert!(
        lines[0].contains(r#""source":{"segment_id":"old","range":[0,1],"file":"a.jsonl"}"#),
        "{}",
        lines[0]
    );
}

#[test]
fn entry_that_is_too_large_is_refused() {
    let workspace = TestWorkspace::new();
    let large =
        format!(r#"{{"source":{{"segment_id":"s","range":[0,1]}},"text":"{}"}}"#, "x".repeat(1 << 20));
    let input = format!("{}\n{large}\n", payload(1));
    let error = workspace.consolidate(["--json", "stage"]).input(input).run().exits(65).json_error();
    assert_eq!(error["line"], 2);
    assert!(error["message"].as_str().is_some_and(|message| message.contains("1048576")), "{error}");
    assert_eq!(workspace.ids(), [] as [String; 0]);
}

/// Pretty JSON of a deep value is far longer than the value.
/// What never ends is not taken into memory until there is none left.
#[test]
fn line_without_an_end_is_refused_without_reading_on() {
    let workspace = TestWorkspace::new();
    let script = "ulimit -v 4000000; exec \"$CONSOLIDATE\" --json stage /dev/zero";
    let error = Program::shell(script).current_dir(workspace.root()).run().exits(65).json_error();
    assert_eq!(error["line"], 1);
    let message = error["message"].as_str().expect("a message");
    assert!(message.starts_with("line 1: it has more than 16 MiB"), "{message}");
    let mut input = payload(1);
    input.push('\n');
    input.push_str(&"x".repeat(33 << 20));
    let ran = workspace.consolidate(["stage"]).input(input).run().exits(65);
    assert!(ran.err.contains("line 2: it has more than 16 MiB"), "{}", ran.err);
    assert_eq!(workspace.ids(), Vec::<String>::new());
}

#[test]
fn deeply_nested_payload_is_refused() {
    let workspace = TestWorkspace::new();
    for depth in [3_000, 100_000, 400_000] {
        let deep = format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        let input = format!(r#"{{"source":{{"segment_id":"s","range":[0,1]}},"deep":{deep}}}"#);
        let error = workspace.consolidate(["--json", "stage"]).input(input).run().exits(65).json_error();
        assert_eq!((&error["code"], &error["line"]), (&"invalid_input".into(), &1.into()), "{depth}");
    }
}

#[test]
fn much_input_goes_to_the_component_in_pieces() {
    let workspace = TestWorkspace::new();
    let line = |number: usize| {
        format!(
            r#"{{"source":{{"segment_id":"s","range":[{number},{number}]}},"text":"{}"}}"#,
            "x".repeat(900_000)
        )
    };
    let input: String = (0..20).map(|number| line(number) + "\n").collect();
    let ids = workspace.consolidate(["stage"]).input(input).run().exits(0).lines();
    assert_eq!(ids, workspace.ids());
    assert_eq!(ids.len(), 20);
}

#[test]
fn staging_does_not_need_the_lock() {
    let workspace = TestWorkspace::new();
    let holder = workspace.hold();
    workspace.stage(2);
    workspace.let_go();
    holder.finish().exits(0);
    assert_eq!(workspace.ids().len(), 2);
}

#[test]
fn umask_is_respected_and_left_alone() {
    let workspace = TestWorkspace::new();
    let script = r#"umask 027
        "$CONSOLIDATE" stage < "$INPUT" > ids || exit 1
        "$CONSOLIDATE" run -- sh -c 'cat > lines; umask; stat -c "%a %n" _staging _staging/*.json _staging/.*.lock _staging/.owners _staging/.owners/*' || exit 1
        umask"#;
    fs::write(workspace.root().join("in.jsonl"), payload(1)).expect("a file");
    let ran = Program::shell(script).env("INPUT", "in.jsonl").current_dir(workspace.root()).run().exits(0);
    let lines = ran.lines();
    assert_eq!((lines[0].as_str(), lines[7].as_str()), ("0027", "0027"), "{}", ran.out);
    for line in &lines[1..6] {
        let (mode, name) = line.split_once(' ').expect("a mode and a name");
        let mode = u32::from_str_radix(mode, 8).expect("a mode");
        assert_eq!(mode & 0o027, 0, "{name} is {mode:o}");
        assert_eq!(mode & 0o600, 0o600, "{name} is {mode:o}");
    }
}
