//! Reading JSON text and laying it out anew without interpreting it.

use consolidation_guest::json::{Layout, MAX_DEPTH, Pattern, Piece, Reader, Writer};
use proptest::prelude::*;
use serde_json::{Map, Number, Value};

fn laid_out(json: &str, layout: Layout) -> Result<String, String> {
    let copy = Reader::new(json.as_bytes()).copying(layout, &[]).read(|reader| {
        reader.value()?;
        Ok(reader.into_copy())
    })?;
    Ok(String::from_utf8(copy).expect("UTF-8"))
}

fn compact(json: &str) -> Result<String, String> {
    laid_out(json, Layout::Compact)
}

fn pretty(json: &str) -> Result<String, String> {
    laid_out(json, Layout::Pretty)
}

/// Past the text, as past a member that is not known.
fn skipped(json: &[u8]) -> Result<(), String> {
    Reader::new(json).read(|reader| reader.skip())
}

/// What a string says.
fn text_of(json: &[u8]) -> Result<String, String> {
    Reader::new(json).read(|reader| Ok(reader.string()?.decode().into_owned()))
}

#[test]
fn white_space_outside_strings_goes_and_inside_stays() {
    let text = " {\r\n\t\"a b\" : [ 1 , \" x\\t y \" ,{ } , [\n] ] }\n ";
    assert_eq!(compact(text), Ok("{\"a b\":[1,\" x\\t y \",{},[]]}".into()));
}

#[test]
fn structural_characters_in_strings_are_text() {
    let text = r#"{"{[,:]}":"a\"}]\\","b":"\\\\\"","c":"\/\b\f\n\r\t"}"#;
    assert_eq!(compact(text), Ok(text.into()));
    let value: Value = serde_json::from_str(text).expect("JSON");
    assert_eq!(serde_json::from_str::<Value>(&pretty(text).expect("JSON")).expect("JSON"), value);
}

#[test]
fn numbers_and_literals_come_out_as_they_went_in() {
    let long = "7".repeat(400);
    for text in [
        "9007199254740993",
        "18446744073709551615",
        "18446744073709551616",
        "-9223372036854775809",
        "1e400",
        "1E-400",
        "-0",
        "0.0",
        "-0.0",
        "1.0",
        "1.10",
        "0.1e+01",
        &long,
        "true",
        "false",
        "null",
    ] {
        assert_eq!(compact(text), Ok(text.into()));
        assert_eq!(pretty(&format!("[ {text} ,{text}]")), Ok(format!("[\n  {text},\n  {text}\n]")));
        assert_eq!(compact(&format!("{{\"n\" :{text}\n}}")), Ok(format!("{{\"n\":{text}}}")));
    }
}

#[test]
fn lone_surrogates_are_refused_wherever_they_stand() {
    for text in [
        r#""\ud800""#,
        r#""\uDFFF""#,
        r#""\udc00\ud83d""#,
        r#""\ud83d x""#,
        r#""\ud83dx\ude00""#,
        r#""\ud83d\n\ude00""#,
        r#""\ud83d\u0041""#,
        r#""\ud83d\ud83d\ude00""#,
        r#""\ud83d\ude00\ude00""#,
        r#"{"a":[{"b":"x\\\ud800"}]}"#,
        r#"{"\ud800":1}"#,
    ] {
        for refused in [compact(text), pretty(text)] {
            assert!(refused.expect_err(text).contains("lone surrogate"), "{text}");
        }
        skipped(text.as_bytes()).expect("nobody is to understand it");
    }
}

#[test]
fn pairs_and_what_only_looks_like_half_a_pair_pass() {
    for text in [
        r#""\ud83d\ude00""#,
        r#""\uD83D\uDE00\uD83D\uDE00""#,
        r#""\\ud800""#,
        r#""\\\\ud800""#,
        r#""\u0000\u001f\ud7ff\ue000\uffff""#,
        "\"\u{1f600}\u{2028}\u{feff}\"",
    ] {
        assert!(serde_json::from_str::<String>(text).is_ok(), "{text}");
        assert_eq!(compact(text), Ok(text.into()));
    }
}

#[test]
fn deep_nesting_does_not_overflow_the_stack() {
    const DEPTH: usize = 200_000;
    let text = format!("{}1{}", "[".repeat(DEPTH), "]".repeat(DEPTH));
    assert!(compact(&text).expect_err("too deep").contains("127 levels"));
    assert!(skipped(text.as_bytes()).expect_err("too deep").contains("127 levels"));
    let most = format!("{}1{}", "[".repeat(MAX_DEPTH), "]".repeat(MAX_DEPTH));
    assert_eq!(compact(&most), Ok(most));
}

#[test]
fn text_that_is_cut_off_anywhere_does_not_panic() {
    let text = "{\"a\\u00e9\\\\\":[-1.5e3,\"\\ud83d\\ude00\u{e9}\",{}],\"b\":null}";
    for end in (0..text.len()).filter(|end| text.is_char_boundary(*end)) {
        let _ = compact(&text[..end]);
        let _ = pretty(&text[..end]);
    }
}

#[test]
fn fault_is_told_with_its_place() {
    for (text, expected) in [
        ("", "expected a value, not the end of the text at column 0"),
        ("{\"a\":1,}", "expected a member's name in double quotes at column 8"),
        ("[1 2]", "expected `,` or `]`, not a number at column 4"),
        ("{\n  \"a\": tru\n}", "expected a value at line 2 column 8"),
        ("[\"x\ty\"]", "a control character in a string; write it as an escape at column 4"),
        ("\"\\x\"", "an escape that JSON does not have at column 2"),
        ("[1] 2", "there is more after the end at column 5"),
        ("01", "there is more after the end at column 2"),
        ("\"abc", "a string that does not end at column 4"),
    ] {
        assert_eq!(compact(text), Err(expected.into()), "{text}");
    }
    assert_eq!(text_of(b"\"\xff\""), Err("not UTF-8 after byte 1".into()));
}

#[test]
fn member_that_is_known_stands_once_and_others_are_passed_over() {
    let read = |text: &str| {
        let (mut met, mut numbers) = (0, [0; 2]);
        Reader::new(text.as_bytes()).read(|json| {
            json.begin(b'{')?;
            while let Some(index) = json.known(&["a", "b"], &mut met)? {
                numbers[index] = json.u64()?;
            }
            json.all_of(&["a", "b"], met, 0b01)?;
            Ok(numbers)
        })
    };
    assert_eq!(
        read(r#"{"x":[{"a":"\ud800"}],"b":2,"\u0061":18446744073709551615,"x":{}}"#),
        Ok([u64::MAX, 2])
    );
    assert_eq!(read(r#"{"a":0}"#), Ok([0, 0]));
    assert_eq!(read(r#"{"a":0,"\u0061":1}"#), Err("the member `a` stands twice at column 17".into()));
    assert_eq!(read(r#"{"b":0}"#), Err("missing member `a` at column 7".into()));
    let negative = read(r#"{"a":-1}"#);
    assert_eq!(negative, Err("expected a whole number, not a negative one at column 6".into()));
    for digits in [19, 20] {
        let most = u64::MAX.to_string();
        assert_eq!(
            read(&format!("{{\"a\":{}}}", &most[..digits])),
            Ok([most[..digits].parse().expect("fits"), 0])
        );
    }
    for number in ["18446744073709551616", "-1", "1.0", "1e2", "\"1\"", "null", "01"] {
        read(&format!("{{\"a\":{number}}}")).expect_err(number);
    }
}

#[test]
fn piece_is_passed_where_every_byte_of_it_stands_and_another_is_copied() {
    let copied = |text: &str, piece: &str, other: &str| {
        let copy = Reader::new(text.as_bytes()).copying(Layout::Compact, &[]).read_if(|json| {
            json.passes(&Pattern::new(piece), &Piece::new(other))?;
            json.string()?;
            Ok(json.into_copy())
        });
        copy.map(|copy| String::from_utf8(copy).expect("UTF-8"))
    };
    for length in 0..=32 {
        let piece: String = ('a'..='z').cycle().take(length).collect();
        for other in ["", "-", "two and thirty bytes, no one more"] {
            let other = &other[..other.len().min(32)];
            for string in ["\"\"", "\"short\"", "\"a string that is longer than what is copied at a time\""] {
                let text = format!("{piece}{string}");
                assert_eq!(copied(&text, &piece, other), Some(format!("{other}{string}")), "{text}");
            }
        }
        for place in 0..length {
            let text = format!("{}-{}\"\"", &piece[..place], &piece[place + 1..]);
            assert_eq!(copied(&text, &piece, ""), None, "{text}");
        }
        if let Some(begun) = piece.get(..length.saturating_sub(1)).filter(|_| length > 0) {
            assert_eq!(copied(begun, &piece, ""), None, "cut off");
        }
    }
}

fn any_json() -> impl Strategy<Value = Value> {
    let text = prop_oneof!["\\PC{0,12}", "[\"\\\\/{}\\[\\]:, \\n\\t\\x00-\\x1f\u{1f600}\u{2028}]{0,8}"];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(|number| Number::from_f64(number).map_or(Value::Null, Value::Number)),
        text.clone().prop_map(Value::String),
    ];
    leaf.prop_recursive(6, 64, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::Array),
            prop::collection::vec((text.clone(), inner), 0..6)
                .prop_map(|members| Value::Object(members.into_iter().collect::<Map<_, _>>())),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn layouts_are_those_of_serde_json(value in any_json()) {
        let (short, long) = (value.to_string(), serde_json::to_string_pretty(&value).expect("JSON"));
        prop_assert_eq!(pretty(&short), Ok(long.clone()));
        prop_assert_eq!(pretty(&long), Ok(long.clone()));
        prop_assert_eq!(compact(&long), Ok(short.clone()));
        prop_assert_eq!(compact(&short), Ok(short.clone()));
    }

    #[test]
    fn text_is_taken_or_refused_as_serde_json_does(
        value in any_json(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), "[\\[\\]{}\",:\\\\u0-9dDeE.+\\-tfn \n\u{e9}\u{1}]?"), 0..3),
    ) {
        let mut text = value.to_string();
        for (place, by) in changes {
            let ends: Vec<usize> = text.char_indices().map(|(at, _)| at).collect();
            let Some(&at) = ends.get(place.index(ends.len().max(1))) else { continue };
            let len = text[at..].chars().next().map_or(0, char::len_utf8);
            text.replace_range(at..at + len, &by);
        }
        // Its values are floats: a number that none holds is no fault of the text.
        let theirs = match serde_json::from_str::<Value>(&text) {
            Ok(value) => Some(value),
            Err(error) if error.to_string().contains("number out of range") => return Ok(()),
            Err(_) => None,
        };
        let ours = compact(&text);
        prop_assert_eq!(ours.is_ok(), theirs.is_some(), "{}: {:?}", text, ours);
        if let (Ok(ours), Some(theirs)) = (ours, theirs) {
            prop_assert_eq!(serde_json::from_str::<Value>(&ours).expect("JSON"), theirs);
        }
    }

    #[test]
    fn strings_say_what_they_say_to_serde_json(inner in "([\\\\]u[dD][89a-fA-F][0-9a-f]{2}|[\\\\][\"\\\\/bfnrtux]|[\\PC\x00-\x1f]){0,12}", tail in "\\PC{0,9}") {
        let text = format!("\"{inner}{tail}\"");
        let theirs = serde_json::from_str::<String>(&text);
        let ours = text_of(text.as_bytes());
        prop_assert_eq!(ours.clone().ok(), theirs.ok(), "{}: {:?}", text, ours);
    }

    #[test]
    fn bytes_that_are_no_text_are_refused_as_serde_json_does(
        bytes in prop::collection::vec(prop_oneof![any::<u8>(), Just(b'"'), Just(b'\\'), 0xc0..=0xf5_u8, 0x80..=0xbf_u8], 0..24),
    ) {
        let quoted = [b"\"".as_slice(), &bytes, b"\""].concat();
        for text in [&bytes, &quoted] {
            prop_assert_eq!(text_of(text).ok(), serde_json::from_slice::<String>(text).ok());
        }
    }

    #[test]
    fn writer_writes_what_serde_json_writes(texts in prop::collection::vec("\\PC{0,8}|[\"\\\\\\x00-\\x20\x7f]{0,6}", 0..5), number in any::<u64>()) {
        let mut out = Writer::new(Layout::Pretty, 0);
        out.begin(b'[');
        for text in &texts {
            out.item();
            out.string(text);
        }
        out.item();
        out.number(number);
        out.item();
        out.optional_number(None);
        out.end(b']');
        let theirs = serde_json::to_string_pretty(&(Vec::from_iter(texts.iter().map(|text| Value::from(text.as_str())).chain([number.into(), Value::Null])))).expect("JSON");
        prop_assert_eq!(String::from_utf8(out.into_file()).expect("UTF-8"), theirs + "\n");
    }

    #[test]
    fn pieces_of_all_lengths_stand_one_behind_the_other(
        pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..80), 0..20),
        capacity in 0..100_usize,
    ) {
        let mut out = Writer::new(Layout::Compact, capacity);
        pieces.iter().for_each(|piece| out.raw(piece));
        prop_assert_eq!(out.into_bytes(), pieces.concat());
    }

    #[test]
    fn no_text_makes_it_panic(text in "\\PC{0,40}|[\\[\\]{}\",:\\\\u0-9d8]{0,40}") {
        let _ = compact(&text);
        let _ = pretty(&text);
        let _ = skipped(text.as_bytes());
    }
}
