//! What is taken for a payload, what is written, what a consolidator is given.

use crate::support::{MINIMAL, entry_id};
use consolidation_guest::entry::{MAX_ENTRY_BYTES, Source, to_file, to_line};
use consolidation_guest::json::{Layout, Reader};
use consolidation_guest::layout::EntryId;
use proptest::prelude::*;
use serde_json::Value;

fn id() -> EntryId {
    entry_id(1_760_000_000_000, 1)
}

fn source() -> Source {
    Source { segment_id: "conv-1/session-1".into(), start: 0, end: 17 }
}

/// The line that a payload becomes.
#[track_caller]
fn line_of(payload: &str) -> String {
    let (line, _) = to_line(payload.as_bytes(), id()).unwrap_or_else(|error| panic!("{payload}: {error}"));
    line
}

/// The file that a payload becomes.
#[track_caller]
fn file_of(payload: &str) -> String {
    to_file(payload, None).unwrap_or_else(|error| panic!("{payload}: {error}"))
}

/// Why a payload is refused, be it when it is checked or when it is written.
#[track_caller]
fn refusal_of(payload: &str) -> String {
    match to_file(payload, None) {
        Ok(file) => panic!("{payload} became {file}"),
        Err(reason) => reason,
    }
}

/// Why a file is refused, be it when it is checked or when it is passed on.
#[track_caller]
fn file_refusal_of(content: &[u8]) -> String {
    match to_line(content, id()) {
        Ok((line, _)) => panic!("{:?} became {line}", String::from_utf8_lossy(content)),
        Err(reason) => reason,
    }
}

/// A payload with one more member.
fn with(member: &str) -> String {
    format!("{},{member}}}", &MINIMAL[..MINIMAL.len() - 1])
}

#[test]
fn minimal_payload_gets_empty_lists_in_the_order_of_the_format() {
    let expected = format!(
        r#"{{"id":"{}","source":{{"segment_id":"conv-1/session-1","range":[0,17]}},"decisions":[],"discussions":[],"attempts":[],"requests":[]}}"#,
        id()
    );
    assert_eq!(line_of(MINIMAL), expected);
    assert_eq!(
        file_of(MINIMAL),
        "{\n  \"source\": {\n    \"segment_id\": \"conv-1/session-1\",\n    \"range\": [\n      0,\n      17\n    ]\n  },\n  \"decisions\": [],\n  \"discussions\": [],\n  \"attempts\": [],\n  \"requests\": []\n}\n"
    );
    assert_eq!(to_line(MINIMAL.as_bytes(), id()).expect("a payload").1, source());
}

#[test]
fn full_payload_keeps_everything() {
    let payload = concat!(
        r#"{"source":{"segment_id":"s","range":[3,3]},"#,
        r#""decisions":[{"options":["a","b"],"chosen":"a","rationale":"r"},{"options":[],"chosen":"","rationale":""}],"#,
        r#""discussions":[{"topic":"t","points":["p","q"]}],"#,
        r#""attempts":[{"action":"a","result":"r","succeeded":true},{"action":"a","result":"r","succeeded":false}],"#,
        r#""requests":[{"intent":"i","target":"t","summary":"s"},{"intent":"i","summary":"s"},{"intent":"i","target":null,"summary":"s"}]}"#,
    );
    assert_eq!(line_of(payload), format!("{{\"id\":\"{}\",{}", id(), &payload[1..]));
    let file: Value = serde_json::from_str(&file_of(payload)).expect("JSON");
    assert_eq!(file, serde_json::from_str::<Value>(payload).expect("JSON"));
    assert_eq!(file_of(payload), format!("{}\n", pretty_in_order(payload)));
}

/// As serde_json prints it, with the members in the order of the format.
fn pretty_in_order(payload: &str) -> String {
    let copied = Reader::new(payload.as_bytes()).copying(Layout::Pretty, &[]).read(|json| {
        json.value()?;
        Ok(json.into_copy())
    });
    String::from_utf8(copied.expect("JSON")).expect("UTF-8")
}

#[test]
fn lists_are_put_in_the_order_of_the_format_and_other_members_behind_them() {
    let payload = r#"{"zebra":1,"requests":[],"attempts":[],"ape":{"x":[]},"decisions":[],"source":{"range":[0,1],"extra":true,"segment_id":"s"}}"#;
    let expected = format!(
        r#"{{"id":"{}","source":{{"range":[0,1],"extra":true,"segment_id":"s"}},"decisions":[],"discussions":[],"attempts":[],"requests":[],"zebra":1,"ape":{{"x":[]}}}}"#,
        id()
    );
    assert_eq!(line_of(payload), expected);
}

#[test]
fn numbers_pass_character_for_character() {
    let long = "7".repeat(400);
    for number in [
        "9007199254740993",
        "18446744073709551615",
        "18446744073709551616",
        "1e400",
        "-0",
        "1.0",
        "1E+2",
        "0.10",
        &long,
    ] {
        // Behind the known members, within them, and in the source.
        let payload = format!(
            r#"{{"source":{{"segment_id":"s","range":[0,1],"n":{number}}},"attempts":[{{"action":"","result":"","succeeded":true,"n":{number}}}],"n":{number},"m":[{number},{{"n":{number}}}]}}"#
        );
        let file = file_of(&payload);
        let line = to_line(file.as_bytes(), id()).expect("an entry").0;
        assert_eq!(line, line_of(&payload));
        assert_eq!(file.matches(&format!("\"n\": {number}\n")).count(), 3, "{file}");
        assert_eq!(line.matches(&format!("\"n\":{number}}}")).count(), 3, "{line}");
        assert!(line.ends_with(&format!("\"n\":{number},\"m\":[{number},{{\"n\":{number}}}]}}")), "{line}");
    }
}

#[test]
fn strings_and_escapes_pass_character_for_character() {
    for text in [
        r#""\u00e9\/\b\f\n\r\t\"\\\u0000""#,
        r#""\ud83d\ude00""#,
        "\"\u{1f600}\u{2028}\u{2029}\u{feff}\u{7f}\"",
        r#""{\"not\":[a,structure]}""#,
    ] {
        let payload = with(&format!("\"text\":{text}"));
        assert!(line_of(&payload).ends_with(&format!("\"text\":{text}}}")), "{payload}");
        assert!(file_of(&payload).ends_with(&format!("\"text\": {text}\n}}\n")), "{payload}");
    }
}

#[test]
fn line_holds_no_line_break_whatever_the_file_held() {
    let file = file_of(&with(r#""x":{"a":[1,2]}"#)).replace('\n', "\r\n");
    let (line, _) = to_line(file.as_bytes(), id()).expect("CRLF passes");
    assert!(!line.contains(['\r', '\n']), "{line}");
    assert_eq!(line, line_of(&with(r#""x":{"a":[1,2]}"#)));
}

#[test]
fn byte_order_mark_is_skipped_once() {
    let marked = format!("\u{feff}{MINIMAL}");
    assert_eq!(line_of(&marked), line_of(MINIMAL));
    assert!(file_of(&marked).starts_with('{'));
    refusal_of(&format!("\u{feff}\u{feff}{MINIMAL}"));
    refusal_of("\u{feff}");
    file_refusal_of("\u{feff}".as_bytes());
}

#[test]
fn session_id_is_read_as_segment_id() {
    let payload = r#"{"source":{"session_id":"s-1","range":[2,5]}}"#;
    assert_eq!(
        to_line(payload.as_bytes(), id()).expect("a payload").1,
        Source { segment_id: "s-1".into(), start: 2, end: 5 }
    );
    assert!(line_of(payload).contains(r#""source":{"segment_id":"s-1","range":[2,5]}"#));
    assert!(!file_of(payload).contains("session_id"));
    let both = refusal_of(r#"{"source":{"session_id":"a","segment_id":"b","range":[0,1]}}"#);
    assert!(both.contains("`session_id`") && both.contains("twice"), "{both}");
}

#[test]
fn default_source_stands_in_for_a_missing_one_only() {
    let default = Source { segment_id: "say \"hi\"\n".into(), start: 1, end: u64::MAX };
    let source_in = |payload: &str| {
        let file = to_file(payload, Some(&default)).expect("a payload");
        to_line(file.as_bytes(), id()).expect("an entry").1
    };
    assert_eq!(source_in(r#"{"x":1}"#), default);
    assert_eq!(source_in(MINIMAL), source());
    let missing = to_file("{}", None).expect_err("no source");
    assert_eq!(missing, r#"missing member `source`: {"segment_id": ..., "range": [start, end]}"#);
    // A source that is there and wrong is not replaced.
    to_file(r#"{"source":null}"#, Some(&default)).expect_err("no source");
    let reversed = Source { segment_id: "s".into(), start: 2, end: 1 };
    assert!(to_file("{}", Some(&reversed)).expect_err("reversed").contains("range"));
    to_file(MINIMAL, Some(&reversed)).expect("the default is not used");
}

#[test]
fn source_of_another_shape_is_refused() {
    for source in [
        "null",
        "[]",
        "\"s\"",
        "{}",
        r#"{"segment_id":"s"}"#,
        r#"{"range":[0,1]}"#,
        r#"{"segment_id":7,"range":[0,1]}"#,
        r#"{"segment_id":null,"range":[0,1]}"#,
        r#"{"segment_id":"s","range":null}"#,
        r#"{"segment_id":"s","range":{"start":0,"end":1}}"#,
        r#"{"segment_id":"s","range":[0]}"#,
        r#"{"segment_id":"s","range":[0,1,2]}"#,
        r#"{"segment_id":"s","range":[-1,1]}"#,
        r#"{"segment_id":"s","range":[0,1.0]}"#,
        r#"{"segment_id":"s","range":[0,1e3]}"#,
        r#"{"segment_id":"s","range":["0","1"]}"#,
        r#"{"segment_id":"s","range":[0,18446744073709551616]}"#,
        r#"{"segment_id":"s","range":[17,0]}"#,
        r#"{"segment_id":"s","segment_id":"s","range":[0,1]}"#,
        r#"{"segment_id":"s","range":[0,1],"range":[0,1]}"#,
        r#"{"segment_id":"s","range":[0,1],"x":1,"x":1}"#,
        r#"["s",[0,1]]"#,
    ] {
        let reason = refusal_of(&format!(r#"{{"source":{source}}}"#));
        assert!(reason.contains("`source`"), "{source}: {reason}");
        assert!(!reason.contains(" at line "), "the position is one within the member: {reason}");
    }
}

#[test]
fn list_of_another_shape_is_refused_and_named() {
    let items = [
        ("decisions", r#"{"options":"a","chosen":"a","rationale":"r"}"#),
        ("decisions", r#"{"options":[1],"chosen":"a","rationale":"r"}"#),
        ("decisions", r#"{"options":["a"],"chosen":1,"rationale":"r"}"#),
        ("decisions", r#"{"options":["a"],"chosen":null,"rationale":"r"}"#),
        ("decisions", r#"{"options":["a"],"chosen":"a"}"#),
        ("decisions", r#"{"options":["a"],"chosen":"a","chosen":"b","rationale":"r"}"#),
        ("discussions", r#"{"topic":"t"}"#),
        ("discussions", r#"{"topic":"t","points":null}"#),
        ("discussions", r#"{"topic":"t","points":[null]}"#),
        ("attempts", r#"{"action":"a","result":"r"}"#),
        ("attempts", r#"{"action":"a","result":"r","succeeded":"true"}"#),
        ("attempts", r#"{"action":"a","result":"r","succeeded":1}"#),
        ("requests", r#"{"intent":"i","target":7,"summary":"s"}"#),
        ("requests", r#"{"intent":"i","target":"t"}"#),
        ("requests", "null"),
        ("requests", "\"text\""),
        ("requests", "[[]]"),
    ];
    for (list, item) in items {
        let reason = refusal_of(&with(&format!("\"{list}\":[{item}]")));
        assert!(reason.contains(&format!("`{list}`")), "{item}: {reason}");
    }
    for list in ["decisions", "discussions", "attempts", "requests"] {
        for value in ["null", "{}", "\"text\"", "7", "true"] {
            let reason = refusal_of(&with(&format!("\"{list}\":{value}")));
            assert!(reason.contains(&format!("`{list}`")), "{value}: {reason}");
        }
    }
}

#[test]
fn list_item_written_as_an_array_of_its_values_is_refused() {
    for (list, item) in [
        ("decisions", r#"[["a"],"a","r"]"#),
        ("discussions", r#"["t",["p"]]"#),
        ("attempts", r#"["a","r",true]"#),
        ("requests", r#"["i","t","s"]"#),
    ] {
        let reason = refusal_of(&with(&format!("\"{list}\":[{item}]")));
        assert!(reason.contains(&format!("`{list}`")), "{item}: {reason}");
    }
}

#[test]
fn unknown_members_of_list_items_pass() {
    let payload = with(r#""discussions":[{"topic":"t","mood":{"x":[1.0,null]},"points":[]}]"#);
    assert!(
        line_of(&payload).contains(r#""discussions":[{"topic":"t","mood":{"x":[1.0,null]},"points":[]}]"#)
    );
}

#[test]
fn member_that_stands_twice_is_refused_however_it_is_written() {
    for members in [
        r#""x":1,"x":1"#,
        r#""x":1,"\u0078":2"#,
        r#""decisions":[],"decisions":[]"#,
        r#""decisions":[],"d\u0065cisions":[]"#,
        r#""source":{"segment_id":"s","range":[0,1]}"#,
    ] {
        let reason = refusal_of(&with(members));
        assert!(reason.contains("twice"), "{members}: {reason}");
    }
}

#[test]
fn member_id_is_reserved_however_it_is_written() {
    for member in [r#""id":"x""#, r#""id":null"#, r#""\u0069d":7"#] {
        let reason = refusal_of(&with(member));
        assert!(reason.contains("`id`"), "{reason}");
    }
    // Other spellings are other members, and deeper ones are the producer's.
    line_of(&with(r#""ID":1,"Id":2," id":3,"x":{"id":4}"#));
}

#[test]
fn escaped_names_of_known_members_are_known() {
    let payload = r#"{"s\u006furce":{"segment\u005fid":"s","range":[0,1]},"attempts":[]}"#;
    assert!(line_of(payload).contains(r#""source":{"segment_id":"s","range":[0,1]}"#));
}

#[test]
fn text_that_is_no_json_object_is_refused() {
    for text in [
        "",
        " ",
        "\n",
        "null",
        "true",
        "7",
        "[]",
        "\"text\"",
        "{",
        "}",
        "nul",
        "NaN",
        "Infinity",
        "{'source':1}",
        "{source:1}",
        &MINIMAL[..MINIMAL.len() - 1],
        &MINIMAL[..MINIMAL.len() / 2],
        &format!("{MINIMAL}{MINIMAL}"),
        &format!("{MINIMAL},"),
        &format!("{MINIMAL}\0"),
        &format!("{MINIMAL} // done"),
        &format!("[{MINIMAL}]"),
        &with("\"x\":1,"),
        &with("\"x\":NaN"),
        &with("\"x\":Infinity"),
        &with("\"x\":-Infinity"),
        &with("\"x\":01"),
        &with("\"x\":.5"),
        &with("\"x\":1."),
        &with("\"x\":+1"),
        &with("\"x\":0x10"),
        &with("\"x\":[1,]"),
        &with("\"x\":{\"y\":1,}"),
        &with("\"x\":/* no */1"),
        &with("\"x\":'y'"),
        &with("\"x\":undefined"),
        &with("\"x\":\"\t\""),
        &with("\"x\":\"\n\""),
        &with("\"x\":\"\\x41\""),
        &with("\"x\":\"\\u12\""),
        &with("\"x\":"),
        &with("\"x\""),
        &with("7:1"),
    ] {
        let reason = refusal_of(text);
        assert!(!reason.is_empty(), "{text:?}");
        assert!(!reason.contains('\n'), "a reason is one line: {reason:?}");
        file_refusal_of(text.as_bytes());
    }
}

#[test]
fn lone_surrogates_are_refused_wherever_they_stand() {
    for member in [
        r#""text":"\ud800""#,
        r#""text":"\udc00\ud83d""#,
        r#""text":["x",{"y":"\ud83d\\ude00"}]"#,
        r#""\ud800":1"#,
        r#""x":{"\udfff":1}"#,
        r#""discussions":[{"topic":"\ud800","points":[]}]"#,
        r#""discussions":[{"topic":"t","points":[],"x":"\ud800"}]"#,
    ] {
        refusal_of(&with(member));
        file_refusal_of(with(member).as_bytes());
    }
    refusal_of(r#"{"source":{"segment_id":"\ud800","range":[0,1]}}"#);
    refusal_of(r#"{"source":{"segment_id":"s","range":[0,1],"x":"\ud800"}}"#);
}

#[test]
fn files_that_a_crash_leaves_are_named_for_what_they_are() {
    assert!(file_refusal_of(b"").contains("empty"));
    for size in [1, 100, 4096] {
        assert!(file_refusal_of(&vec![0; size]).contains("NUL"));
    }
    let mut torn = MINIMAL.as_bytes().to_vec();
    torn[30..].fill(0);
    file_refusal_of(&torn);
}

#[test]
fn other_encodings_are_refused() {
    let utf16 = |big: bool, mark: bool| -> Vec<u8> {
        let text = if mark { format!("\u{feff}{MINIMAL}") } else { MINIMAL.to_owned() };
        text.encode_utf16()
            .flat_map(|unit| if big { unit.to_be_bytes() } else { unit.to_le_bytes() })
            .collect()
    };
    for (big, mark) in [(false, false), (false, true), (true, false), (true, true)] {
        file_refusal_of(&utf16(big, mark));
    }
    let mut latin1 = with("\"x\":\"caf?\"").into_bytes();
    let position = latin1.iter().position(|byte| *byte == b'?').expect("the mark");
    latin1[position] = 0xe9;
    assert_eq!(file_refusal_of(&latin1), format!("not UTF-8 after byte {position}"));
    // An overlong form and an encoded surrogate are no UTF-8 either.
    file_refusal_of(&[MINIMAL.as_bytes(), b"\xc0\x80"].concat());
    file_refusal_of(&[b"\xed\xa0\x80", MINIMAL.as_bytes()].concat());
}

#[test]
fn largest_payload_passes_and_one_byte_more_is_refused() {
    let limit = usize::try_from(MAX_ENTRY_BYTES).expect("fits");
    let room = limit - file_of(&with("\"x\":\"\"")).len();
    let largest = with(&format!("\"x\":\"{}\"", "y".repeat(room)));
    assert_eq!(file_of(&largest).len(), limit);
    let reason = refusal_of(&with(&format!("\"x\":\"{}\"", "y".repeat(room + 1))));
    assert!(reason.contains(&MAX_ENTRY_BYTES.to_string()), "{reason}");
}

#[test]
fn nesting_that_every_reader_takes_passes() {
    let member = format!("\"x\":{}{}", "[".repeat(100), "]".repeat(100));
    let payload = with(&member);
    assert!(line_of(&payload).ends_with(&format!("{member}}}")));
    let file = file_of(&payload);
    serde_json::from_str::<Value>(&file).expect("serde_json reads it with its default limit");
}

#[test]
fn whatever_depth_is_taken_is_taken_by_a_reader_with_the_usual_limit() {
    for depth in 100..140 {
        for inner in ["", "1", "{}"] {
            let payload = with(&format!("\"x\":{}{inner}{}", "[".repeat(depth), "]".repeat(depth)));
            let Ok((line, _)) = to_line(payload.as_bytes(), id()) else { continue };
            serde_json::from_str::<Value>(&line).unwrap_or_else(|error| panic!("{depth} {inner:?}: {error}"));
            file_of(&payload);
        }
    }
}

#[test]
fn deep_nesting_in_any_place_is_an_error_or_passes_but_does_not_overflow() {
    const DEPTH: usize = 150_000;
    let deep = format!("{}{}", "[".repeat(DEPTH), "]".repeat(DEPTH));
    let objects = format!("{}1{}", "{\"a\":".repeat(DEPTH), "}".repeat(DEPTH));
    for value in [&deep, &objects, &"[".repeat(DEPTH)] {
        for payload in [
            with(&format!("\"x\":{value}")),
            with(&format!("\"decisions\":{value}")),
            with(&format!("\"decisions\":[{value}]")),
            with(&format!("\"requests\":[{{\"intent\":\"i\",\"summary\":\"s\",\"x\":{value}}}]")),
            format!("{{\"source\":{{\"segment_id\":\"s\",\"range\":[0,1],\"x\":{value}}}}}"),
            format!("{{\"source\":{value}}}"),
            (*value).clone(),
        ] {
            // One line is as long as the file at the most.
            if let Ok((line, _)) = to_line(payload.as_bytes(), id()) {
                assert!(line.len() <= payload.len() + 200);
            }
        }
    }
}

/// The name of the variable that makes this program the one with little memory.
#[cfg(target_os = "linux")]
const CONFINED: &str = "CONSOLIDATION_TEST_CONFINED";

/// The indented file of a deeply nested payload is as large as the square of its depth: 400 kB would
/// become 40 GB before its size is compared with the limit. Run in a process of its own, whose memory
/// is bounded.
#[cfg(target_os = "linux")]
#[test]
fn deep_nesting_is_refused_before_it_is_laid_out() {
    if std::env::var_os(CONFINED).is_some() {
        const DEPTH: usize = 200_000;
        refusal_of(&with(&format!("\"x\":{}{}", "[".repeat(DEPTH), "]".repeat(DEPTH))));
        return;
    }
    let own = std::env::current_exe().expect("this program");
    let output = std::process::Command::new("sh")
        .args(["-c", "ulimit -v 4000000; exec \"$@\"", "sh"])
        .arg(own)
        .args(["--exact", "rules::entry::deep_nesting_is_refused_before_it_is_laid_out", "--test-threads=1"])
        .env(CONFINED, "1")
        .output()
        .expect("this program runs once more");
    let told = String::from_utf8_lossy(&output.stdout);
    let warned = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}\n{told}\n{warned}", output.status);
    assert!(told.contains("1 passed"), "the test has another name now: {told}");
}

/// A JSON value as its tokens.
fn any_tokens() -> impl Strategy<Value = Vec<String>> {
    let number = "-?(0|[1-9][0-9]{0,24})(\\.[0-9]{1,6})?([eE][+-]?[0-9]{1,4})?";
    let text = "[ -{}~\u{e9}\u{1f600}\u{2028}]{0,10}".prop_map(|text| Value::String(text).to_string());
    let escaped = "(\\\\[\"\\\\/bfnrt]|\\\\u00[0-9a-fA-F]{2}|\\\\ud83d\\\\ude0[0-9]|[a-z]){0,6}"
        .prop_map(|text| format!("\"{text}\""));
    let string = prop_oneof![text, escaped];
    let leaf = prop_oneof![
        prop_oneof![Just("null"), Just("true"), Just("false")].prop_map(String::from),
        number.prop_map(String::from),
        string.clone(),
    ]
    .prop_map(|token| vec![token]);
    leaf.prop_recursive(4, 24, 4, move |inner| {
        let list = prop::collection::vec(inner.clone(), 0..4).prop_map(|items| {
            let mut tokens = vec!["[".to_owned()];
            tokens.extend(items.join(&",".to_owned()));
            tokens.push("]".into());
            tokens
        });
        let object = prop::collection::vec((string.clone(), inner), 0..4).prop_map(|members| {
            let members: Vec<Vec<String>> =
                members.into_iter().map(|(name, value)| [vec![name, ":".into()], value].concat()).collect();
            let mut tokens = vec!["{".to_owned()];
            tokens.extend(members.join(&",".to_owned()));
            tokens.push("}".into());
            tokens
        });
        prop_oneof![list, object]
    })
}

/// A whole payload as its tokens, and what the line of it must be behind the id.
fn any_payload() -> impl Strategy<Value = (Vec<String>, String)> {
    let extras = prop::collection::vec(any_tokens(), 0..4);
    (extras, any_tokens(), 0_u64..9, any::<bool>()).prop_map(|(extras, inner, start, has_list)| {
        let source =
            format!(r#"{{|"segment_id"|:|"s"|,|"x"|:|{}|,|"range"|:|[|{start}|,|9|]|}}"#, inner.join("|"));
        let item = format!(r#"{{|"topic"|:|"t"|,|"x"|:|{}|,|"points"|:|[|]|}}"#, inner.join("|"));
        let list = if has_list { format!("[|{item}|,|{item}|]") } else { "[]".into() };
        let mut expected =
            format!(r#""source":{source},"decisions":[],"discussions":{list},"attempts":[],"requests":[]"#);
        let mut payload = String::from("{");
        for (number, extra) in extras.iter().enumerate() {
            expected += &format!(",\"e{number}\":{}", extra.concat());
            payload += &format!("|\"e{number}\"|:|{}|,", extra.join("|"));
        }
        if has_list {
            payload += &format!("|\"discussions\"|:|{list}|,");
        }
        payload += &format!("|\"source\"|:|{source}|}}");
        // No string holds the bar that separates the tokens.
        (payload.split('|').map(String::from).collect(), expected.replace('|', ""))
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn staged_and_read_again_is_what_the_payload_said(
        (tokens, expected) in any_payload(),
        spaces in prop::collection::vec(prop::sample::select(vec!["", " ", "\n", "\r\n", "\t", "  \n "]), 1..20),
    ) {
        let mut payload = String::new();
        for (token, space) in tokens.iter().zip(spaces.iter().cycle()) {
            payload += token;
            payload += space;
        }
        let read = to_line(payload.as_bytes(), id()).map_err(TestCaseError::fail)?;
        prop_assert_eq!(&read.0, &format!("{{\"id\":\"{}\",{expected}}}", id()));
        let file = to_file(&payload, None).map_err(TestCaseError::fail)?;
        prop_assert_eq!(to_line(file.as_bytes(), id()).map_err(TestCaseError::fail)?, read);
        prop_assert_eq!(to_file(&file, None).map_err(TestCaseError::fail)?, file);
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = to_line(&bytes, id());
        let _ = to_file(&String::from_utf8_lossy(&bytes), None);
    }

    #[test]
    fn no_change_of_a_byte_makes_it_panic(position in 0..MINIMAL.len(), byte in any::<u8>()) {
        let mut bytes = MINIMAL.as_bytes().to_vec();
        bytes[position] = byte;
        if let Ok((line, _)) = to_line(&bytes, id()) {
            prop_assert!(serde_json::from_str::<Value>(&line).is_ok());
        }
    }
}

/// A payload whose members stand in the order of the format, and none besides: it is read in its style, and its file as
/// it was written.
fn any_ordered_payload() -> impl Strategy<Value = String> {
    fn quoted() -> impl Strategy<Value = String> {
        prop_oneof!["\\PC{0,12}", "[\"\\\\\n\t\u{1}\u{1f600}]{0,4}", "[a-z ]{30,60}"]
            .prop_map(|text| Value::from(text).to_string())
    }
    fn list(item: impl Strategy<Value = String>) -> impl Strategy<Value = String> {
        prop::collection::vec(item, 0..3).prop_map(|items| format!("[{}]", items.join(",")))
    }
    let decision = (list(quoted()), quoted(), quoted()).prop_map(|(options, chosen, rationale)| {
        format!(r#"{{"options":{options},"chosen":{chosen},"rationale":{rationale}}}"#)
    });
    let discussion = (quoted(), list(quoted()))
        .prop_map(|(topic, points)| format!(r#"{{"topic":{topic},"points":{points}}}"#));
    let attempt = (quoted(), quoted(), any::<bool>()).prop_map(|(action, result, succeeded)| {
        format!(r#"{{"action":{action},"result":{result},"succeeded":{succeeded}}}"#)
    });
    let target = prop_oneof![
        Just(String::new()),
        Just(r#""target":null,"#.into()),
        quoted().prop_map(|target| format!(r#""target":{target},"#))
    ];
    let request = (quoted(), target, quoted()).prop_map(|(intent, target, summary)| {
        format!(r#"{{"intent":{intent},{target}"summary":{summary}}}"#)
    });
    let lists = (list(decision), list(discussion), list(attempt), list(request));
    (quoted(), any::<u64>(), any::<u64>(), lists).prop_map(|(segment, one, other, lists)| {
        let (start, end) = (one.min(other), one.max(other));
        let (decisions, discussions, attempts, requests) = lists;
        format!(
            r#"{{"source":{{"segment_id":{segment},"range":[{start},{end}]}},"decisions":{decisions},"discussions":{discussions},"attempts":{attempts},"requests":{requests}}}"#
        )
    })
}

/// A payload in one of the usual styles, without some of its empty lists.
fn any_styled_payload() -> impl Strategy<Value = String> {
    const EMPTY: [&str; 4] =
        [r#","decisions":[]"#, r#","discussions":[]"#, r#","attempts":[]"#, r#","requests":[]"#];
    (any_ordered_payload(), any::<[bool; 4]>(), 0..3).prop_map(|(mut payload, left_out, style)| {
        // They would have to be escaped to stand in a string.
        for (list, _) in EMPTY.iter().zip(left_out).filter(|(_, left_out)| *left_out) {
            payload = payload.replace(list, "");
        }
        match style {
            0 => payload,
            1 => respaced(&payload, ": ", ", "),
            _ => file_of(&payload),
        }
    })
}

/// A payload without spaces, with these instead of its colons and commas.
fn respaced(payload: &str, colon: &str, comma: &str) -> String {
    let (mut respaced, mut in_string, mut escaped) = (String::new(), false, false);
    for char in payload.chars() {
        match char {
            ':' if !in_string => respaced.push_str(colon),
            ',' if !in_string => respaced.push_str(comma),
            other => respaced.push(other),
        }
        in_string ^= char == '"' && !escaped;
        escaped = char == '\\' && !escaped;
    }
    respaced
}

/// The file of a payload that is in no style: it begins with a space.
fn file_taken_apart(payload: &str) -> Result<String, String> {
    to_file(&format!(" {payload}"), None)
}

/// The line of a file that is not as it was written: it begins with a space.
fn line_taken_apart(file: &str) -> Result<(String, Source), String> {
    to_line(format!(" {file}").as_bytes(), id())
}

#[test]
fn values_of_other_types_in_a_file_are_refused_as_it_is_taken_apart() {
    let file = file_of(concat!(
        r#"{"source":{"segment_id":"s","range":[3,4]},"decisions":[{"options":["a"],"chosen":"a","rationale":"r"}],"#,
        r#""discussions":[{"topic":"t","points":["p"]}],"attempts":[{"action":"a","result":"r","succeeded":true}],"#,
        r#""requests":[{"intent":"i","target":"t","summary":"s"}]}"#,
    ));
    let values = |line: &str| {
        let value = line.rsplit(": ").next().unwrap_or(line).trim().trim_end_matches(',');
        (!value.is_empty() && !value.starts_with(['{', '[', '}', ']'])).then(|| value.to_owned())
    };
    let mut tried = 0;
    for (number, line) in file.lines().enumerate() {
        let Some(value) = values(line) else { continue };
        for other in ["1", "-1", "1.5", "null", "true", "\"x\"", "{}", "[]", "[\"x\"]", "x", ""] {
            let start = line.rfind(&value).expect("it is there");
            let changed = format!("{}{other}{}", &line[..start], &line[start + value.len()..]);
            let changed: Vec<&str> = file
                .lines()
                .enumerate()
                .map(|(at, line)| if at == number { &changed } else { line })
                .collect();
            let changed = changed.join("\n") + "\n";
            assert_eq!(to_line(changed.as_bytes(), id()).ok(), line_taken_apart(&changed).ok(), "{changed}");
            tried += 1;
        }
    }
    assert_eq!(tried, 14 * 11);
}

/// A text with other characters, or none, in the place of some.
fn changed(mut text: String, changes: Vec<(prop::sample::Index, String)>) -> String {
    for (place, by) in changes {
        let ends: Vec<usize> = text.char_indices().map(|(at, _)| at).collect();
        let Some(&at) = ends.get(place.index(ends.len().max(1))) else { continue };
        let len = text[at..].chars().next().map_or(0, char::len_utf8);
        text.replace_range(at..at + len, &by);
    }
    text
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn file_as_it_was_written_gives_the_line_that_it_gives_taken_apart(payload in any_ordered_payload()) {
        let file = file_of(&payload);
        let (line, source) = to_line(file.as_bytes(), id()).map_err(TestCaseError::fail)?;
        prop_assert_eq!(&line, &format!("{{\"id\":\"{}\",{}", id(), &payload[1..]));
        prop_assert_eq!(line_taken_apart(&file), Ok((line, source)));
    }

    #[test]
    fn file_that_was_changed_by_hand_is_taken_or_refused_as_it_is_taken_apart(
        payload in any_ordered_payload(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), "[\\[\\]{}\",:\\\\u0-9dtn \n\u{e9}\u{1}]?"), 1..3),
    ) {
        let file = changed(file_of(&payload), changes);
        prop_assert_eq!(to_line(file.as_bytes(), id()).ok(), line_taken_apart(&file).ok(), "{}", file);
    }

    #[test]
    fn payload_in_a_usual_style_gives_the_file_that_it_gives_taken_apart(payload in any_styled_payload()) {
        let file = to_file(&payload, None).map_err(TestCaseError::fail)?;
        prop_assert_eq!(file_taken_apart(&payload), Ok(file), "{}", payload);
    }

    #[test]
    fn payload_that_was_changed_is_taken_or_refused_as_it_is_taken_apart(
        payload in any_styled_payload(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), "[\\[\\]{}\",:\\\\u0-9dtn \n\u{e9}\u{1}]?"), 1..3),
    ) {
        let payload = changed(payload, changes);
        prop_assert_eq!(to_file(&payload, None).ok(), file_taken_apart(&payload).ok(), "{}", payload);
    }

    #[test]
    fn bytes_of_a_file_that_are_no_text_are_refused(payload in any_ordered_payload(), place in any::<prop::sample::Index>()) {
        let mut file = file_of(&payload).into_bytes();
        file.insert(place.index(file.len()), 0xff);
        let valid = std::str::from_utf8(&file).expect_err("no text").valid_up_to();
        prop_assert_eq!(to_line(&file, id()), Err(format!("not UTF-8 after byte {valid}")));
    }
}
